// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the VM: bind the devices to vfio-pci, carry out the plan, report
 * KTAP on a virtio port that kernel messages cannot reach.
 *
 * The host takes a run for complete only if the last line is "# done", so
 * everything that goes wrong here just has to end the VM before that.
 *
 * From the kernel command line, as environment variables:
 *
 *   VM_DEVICES  NAME=WHERE,...   the devices table, WHERE as described there
 *                                or "absent"
 *   VM_SLOW     FACTOR           stretches the time limit of each test
 *   VM_SHELL    1                no plan, a shell on the console
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/netlink.h>

#define PCI_DEVICES	"/sys/bus/pci/devices"
#define VFIO_PCI	"/sys/bus/pci/drivers/vfio-pci"
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"

#define MAX_DEVICES	32
#define MAX_RUNS	1024
#define MAX_WORDS	64
#define MAX_LINE	1024

#define TEST_SECONDS	60	/* for a test whose plan line sets no limit */
#define KILL_SECONDS	10	/* for a killed process to be gone */
#define PORT_SECONDS	10	/* for the results port to appear */

struct device {
	char *name;
	char *where;
	char bdf[16];		/* empty if the VM lacks it */
};

enum kind { RUN, INSMOD, RMMOD, LEAKS };

struct run {
	enum kind kind;
	char *name;		/* in the results */
	char *file;		/* of the test or module */
	char *params;		/* of the module */
	char *env[MAX_WORDS];	/* NULL terminated */
	char *argv[MAX_WORDS];	/* NULL terminated */
	int seconds;
};

/* Turns the output of one test into the nested part of the results. */
struct filter {
	const char *name;
	char line[MAX_LINE];
	size_t len;
	char last[MAX_LINE];	/* the last line, as a reason to skip */
	bool skip_plan;		/* last came from "1..0 # SKIP" and stays */
};

static struct device devices[MAX_DEVICES];
static int nr_devices;

static struct run runs[MAX_RUNS];
static int nr_runs;

static int results_fd = -1;
static int slow = 1;

static void __noreturn end_vm(void)
{
	sync();
	/* The VM runs with -no-reboot. */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void __printf(1, 2) tap(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (results_fd >= 0)
		vdprintf(results_fd, fmt, ap);
	va_end(ap);
}

static void __noreturn __printf(1, 2) die(const char *fmt, ...)
{
	char msg[MAX_LINE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);

	dprintf(STDERR_FILENO, "init: %s\n", msg);
	tap("Bail out! %s\n", msg);
	end_vm();
}

static void *must(void *p)
{
	if (!p)
		die("out of memory");
	return p;
}

static __printf(1, 2) char *format(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int ret;

	va_start(ap, fmt);
	ret = vasprintf(&s, fmt, ap);
	va_end(ap);

	return must(ret < 0 ? NULL : s);
}

static int write_file(const char *path, const char *value)
{
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		ret = -errno;
	close(fd);

	return ret;
}

/* One line without its newline; NULL if there is none to read. */
static char *read_line(const char *path)
{
	static char buf[MAX_LINE];
	FILE *f = fopen(path, "re");
	char *ret;

	if (!f)
		return NULL;
	ret = fgets(buf, sizeof(buf), f);
	fclose(f);
	if (ret)
		ret[strcspn(ret, "\n")] = '\0';

	return ret;
}

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* What poll() wants: the milliseconds to go, none if the time is up. */
static int ms_until(long long deadline)
{
	long long ms = deadline - now_ms();

	return ms > 0 ? ms : 0;
}

static void mount_filesystems(void)
{
	static const struct {
		const char *type, *dir;
	} fs[] = {
		{ "proc", "/proc" },
		{ "sysfs", "/sys" },
		{ "devtmpfs", "/dev" },
		{ "tmpfs", "/tmp" },
		{ "tmpfs", "/run" },
		{ "debugfs", "/sys/kernel/debug" },
		{ "tracefs", "/sys/kernel/tracing" },
		{ "hugetlbfs", "/dev/hugepages" },
		{ "devpts", "/dev/pts" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fs); i++) {
		mkdir(fs[i].dir, 0755);
		if (!mount("none", fs[i].dir, fs[i].type, 0, NULL))
			continue;
		/* Not configured: whoever needs it skips. */
		if (errno == ENODEV || errno == ENOENT)
			continue;
		die("mount %s: %s", fs[i].dir, strerror(errno));
	}
}

static void bind_mount(const char *from, const char *to)
{
	mkdir(to, 0755);
	if (mount(from, to, NULL, MS_BIND | MS_REC, NULL))
		die("mount %s: %s", to, strerror(errno));
}

/* What a root directory has: "bin" is a link where /usr is merged. */
static void copy_entry(const char *from, const char *to)
{
	char target[PATH_MAX];
	struct stat st;
	ssize_t len;

	/* Not for us to see, or gone */
	if (lstat(from, &st))
		return;

	if (S_ISDIR(st.st_mode)) {
		bind_mount(from, to);
	} else if (S_ISLNK(st.st_mode)) {
		len = readlink(from, target, sizeof(target) - 1);
		target[len < 0 ? 0 : len] = '\0';
		if (symlink(target, to))
			die("%s -> %s: %s", to, target, strerror(errno));
	}
}

/*
 * The programs of the host's that the VM may have, and beside them what belongs
 * to the VM, so that they can be run with a chroot().  The share is any root
 * directory, and read-only: it need not have a place for what is not in it.
 */
static void mount_host(void)
{
	static const char * const ours[] = {
		"dev", "proc", "sys", "tmp", "run", "guest",
	};
	char *from, *to;
	struct dirent *d;
	size_t i;
	DIR *dir;

	mkdir("/share", 0755);
	/* Read-only: nothing has to be asked for twice. */
	if (mount("host", "/share", "9p", MS_RDONLY,
		  "trans=virtio,version=9p2000.L,cache=loose,msize=262144")) {
		/* There is none, or the kernel has no driver for it. */
		if (errno == ENOENT || errno == ENODEV)
			return;
		die("mount /share: %s", strerror(errno));
	}

	mkdir("/host", 0755);
	for (i = 0; i < ARRAY_SIZE(ours); i++) {
		from = format("/%s", ours[i]);
		to = format("/host/%s", ours[i]);
		bind_mount(from, to);
		free(from);
		free(to);
	}

	dir = opendir("/share");
	if (!dir)
		die("/share: %s", strerror(errno));
	while ((d = readdir(dir))) {
		from = format("/share/%s", d->d_name);
		to = format("/host/%s", d->d_name);
		/* Neither "." and ".." nor what is ours */
		if (access(to, F_OK))
			copy_entry(from, to);
		free(from);
		free(to);
	}
	closedir(dir);
}

static void set_sysctls(void)
{
	static const struct {
		const char *name, *value;
	} sysctls[] = {
		{ "/proc/sys/kernel/printk", "7" },
		{ "/proc/sys/kernel/panic_on_rcu_stall", "1" },
		{ "/proc/sys/debug/exception-trace", "1" },
		/* Some tests have a GiB mapped for DMA in each of their cases. */
		{ "/sys/kernel/mm/transparent_hugepage/shmem_enabled", "force" },
	};
	size_t i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(sysctls); i++) {
		ret = write_file(sysctls[i].name, sysctls[i].value);
		if (ret && ret != -ENOENT)
			die("%s: %s", sysctls[i].name, strerror(-ret));
	}
}

static bool open_results(void)
{
	char *path, *name;
	struct dirent *d;
	DIR *dir;

	dir = opendir("/sys/class/virtio-ports");
	if (!dir)
		die("no virtio console driver");

	while (results_fd < 0 && (d = readdir(dir))) {
		path = format("/sys/class/virtio-ports/%s/name", d->d_name);
		name = read_line(path);
		free(path);
		if (!name || strcmp(name, "results"))
			continue;

		path = format("/dev/%s", d->d_name);
		results_fd = open(path, O_WRONLY | O_CLOEXEC);
		if (results_fd < 0)
			die("%s: %s", path, strerror(errno));
		free(path);
	}
	closedir(dir);

	return results_fd >= 0;
}

/* The host names its ports to the driver asynchronously: wait for uevents. */
static void find_results(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	long long deadline = now_ms() + PORT_SECONDS * 1000 * slow;
	struct pollfd pfd = { .events = POLLIN };
	char buf[4096];

	pfd.fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC,
			NETLINK_KOBJECT_UEVENT);
	if (pfd.fd < 0 || bind(pfd.fd, (struct sockaddr *)&addr, sizeof(addr)))
		die("uevent socket: %s", strerror(errno));

	while (!open_results()) {
		if (poll(&pfd, 1, ms_until(deadline)) <= 0)
			die("no virtio port for the results");
		recv(pfd.fd, buf, sizeof(buf), 0);
	}
	close(pfd.fd);
}

static struct device *find_device(const char *name, size_t len)
{
	int i;

	for (i = 0; i < nr_devices; i++) {
		if (strlen(devices[i].name) == len &&
		    !strncmp(devices[i].name, name, len))
			return &devices[i];
	}

	return NULL;
}

/* Bus numbers are up to the firmware, only slots of the root bus are known. */
static void locate_device(struct device *dev)
{
	unsigned int slot, func = 0;
	char *path, *bus;
	int ret;

	if (!strcmp(dev->where, "absent"))
		return;

	if (sscanf(dev->where, "slot:%x", &slot) == 1) {
		snprintf(dev->bdf, sizeof(dev->bdf), "0000:00:%02x.0", slot);
	} else if (sscanf(dev->where, "port:%x.%x", &slot, &func) >= 1) {
		path = format(PCI_DEVICES "/0000:00:%02x.0/secondary_bus_number",
			      slot);
		bus = read_line(path);
		free(path);
		if (!bus)
			die("device %s: no root port at %s", dev->name,
			    dev->where);
		snprintf(dev->bdf, sizeof(dev->bdf), "0000:%02x:00.%x",
			 atoi(bus), func);
	} else {
		die("device %s: cannot parse \"%s\"", dev->name, dev->where);
	}

	path = format(PCI_DEVICES "/%s", dev->bdf);
	if (access(path, F_OK))
		die("device %s: nothing at %s (%s)", dev->name, dev->where,
		    dev->bdf);
	free(path);

	if (!strstr(dev->where, "/noreset"))
		return;
	path = format(PCI_DEVICES "/%s/reset_method", dev->bdf);
	ret = write_file(path, "\n");
	if (ret)
		die("%s: %s", path, strerror(-ret));
	free(path);
}

static void find_devices(void)
{
	char *table = getenv("VM_DEVICES"), *entry, *name, *c;
	struct device *dev;

	if (!table)
		die("VM_DEVICES is not set");
	table = must(strdup(table));

	while ((entry = strsep(&table, ","))) {
		if (nr_devices == MAX_DEVICES)
			die("more than %d devices", MAX_DEVICES);
		dev = &devices[nr_devices++];
		dev->name = strsep(&entry, "=");
		dev->where = entry;
		if (!dev->where)
			die("VM_DEVICES: device %s is nowhere", dev->name);
		locate_device(dev);
		if (!dev->bdf[0])
			continue;

		name = must(strdup(dev->name));
		for (c = name; *c; c++)
			*c = toupper(*c);
		setenv(name, dev->bdf, 1);
		free(name);
	}
}

/* What a device is bound to, "" if nothing. */
static const char *driver_of(const struct device *dev)
{
	static char target[PATH_MAX];
	char *link = format(PCI_DEVICES "/%s/driver", dev->bdf), *slash;
	ssize_t len = readlink(link, target, sizeof(target) - 1);

	free(link);
	target[len < 0 ? 0 : len] = '\0';
	slash = strrchr(target, '/');

	return slash ? slash + 1 : target;
}

static bool is_bound(const struct device *dev)
{
	return !strcmp(driver_of(dev), "vfio-pci");
}

static void bind_devices(void)
{
	struct device *dev;
	const char *driver;
	char *path;
	int ret;

	for (dev = devices; dev < devices + nr_devices; dev++) {
		if (!dev->bdf[0])
			continue;

		path = format(PCI_DEVICES "/%s/driver_override", dev->bdf);
		ret = write_file(path, "vfio-pci");
		free(path);
		/* virtio-pci has to be there, for the results. */
		path = format(PCI_DEVICES "/%s/driver/unbind", dev->bdf);
		write_file(path, dev->bdf);
		free(path);
		if (!ret)
			ret = write_file(VFIO_PCI "/bind", dev->bdf);
		if (is_bound(dev))
			continue;

		driver = driver_of(dev);
		die("device %s (%s): cannot bind to vfio-pci: %s; bound to %s",
		    dev->name, dev->bdf, ret ? strerror(-ret) : "it is not bound",
		    *driver ? driver : "nothing");
	}
}

static char *expand(const char *word)
{
	struct device *dev;
	const char *end;
	char *out, *old;

	out = must(strdup(""));
	while (*word) {
		end = *word == '{' ? strchr(word, '}') : NULL;
		old = out;
		if (!end) {
			out = format("%s%c", old, *word++);
		} else {
			dev = find_device(word + 1, end - word - 1);
			if (!dev || !dev->bdf[0])
				die("plan: no device for %s", word);
			out = format("%s%s", old, dev->bdf);
			word = end + 1;
		}
		free(old);
	}

	return out;
}

static struct run *new_run(enum kind kind)
{
	if (nr_runs == MAX_RUNS)
		die("plan: more than %d runs", MAX_RUNS);
	runs[nr_runs].kind = kind;

	return &runs[nr_runs++];
}

/* The options of a plan line, which all of its runs share. */
struct options {
	char *as;
	char *env[MAX_WORDS];
	char *args[MAX_WORDS];
	int nr_args;
	int seconds;
};

/* False if the VM lacks a device of @where. */
static bool add_run(const char *test, const char *where,
		    const struct options *opt)
{
	struct device *dev;
	struct run *run;
	const char *name;
	size_t len;
	int argc = 0;

	run = new_run(RUN);
	run->file = format("/tests/%s", test);
	run->name = format("%s%s%s%s%s", test, opt->as ? "/" : "",
			   opt->as ? opt->as : "", where ? "@" : "",
			   where ? where : "");
	run->seconds = opt->seconds;
	memcpy(run->env, opt->env, sizeof(run->env));

	run->argv[argc++] = run->file;
	memcpy(run->argv + argc, opt->args, opt->nr_args * sizeof(*opt->args));
	argc += opt->nr_args;

	for (name = where; name; name = name[len] ? name + len + 1 : NULL) {
		len = strcspn(name, "+");
		dev = find_device(name, len);
		if (!dev)
			die("plan: run %s: no device %.*s in the table", test,
			    (int)len, name);
		if (!dev->bdf[0]) {
			tap("# left out: %s, this VM has no %s\n", run->name,
			    dev->name);
			memset(run, 0, sizeof(*run));
			nr_runs--;
			return false;
		}
		if (argc >= MAX_WORDS - 1)
			die("plan: run %s: too many devices", test);
		run->argv[argc++] = dev->bdf;
	}

	return true;
}

static void add_each(const char *test, const struct options *opt)
{
	int i;

	for (i = 0; i < nr_devices; i++) {
		if (devices[i].bdf[0])
			add_run(test, devices[i].name, opt);
	}
}

static void plan_run(char **words)
{
	struct options opt = { .seconds = TEST_SECONDS };
	int nr_where = 0, nr_env = 0, i;
	char *where[MAX_WORDS];
	char *test = *words++;

	for (; *words; words++) {
		if (!strcmp(*words, "--")) {
			while (*++words)
				opt.args[opt.nr_args++] = expand(*words);
			break;
		}
		if (!strncmp(*words, "timeout=", 8))
			opt.seconds = atoi(*words + 8);
		else if (!strncmp(*words, "as=", 3))
			opt.as = must(strdup(*words + 3));
		else if (isupper(**words) && strchr(*words, '='))
			opt.env[nr_env++] = expand(*words);
		else if (!strchr(*words, '='))
			where[nr_where++] = *words;
		else
			die("plan: run %s: unknown option %s", test, *words);
	}

	if (!nr_where || opt.seconds <= 0)
		die("plan: run %s: where, and for how long?", test);

	for (i = 0; i < nr_where; i++) {
		if (!strcmp(where[i], "each"))
			add_each(test, &opt);
		else if (!strcmp(where[i], "none"))
			add_run(test, NULL, &opt);
		else
			add_run(test, where[i], &opt);
	}
}

static void plan_module(enum kind kind, char **words)
{
	struct run *run = new_run(kind);
	char *old;

	run->file = must(strdup(*words));
	run->name = format("%s_%s", kind == INSMOD ? "insmod" : "rmmod", *words);
	run->params = must(strdup(""));
	while (*++words) {
		char *word = expand(*words);

		old = run->params;
		run->params = format("%s%s%s", old, *old ? " " : "", word);
		free(old);
		free(word);
	}
}

static void plan_rest(char *named)
{
	struct options opt = { .seconds = TEST_SECONDS };
	struct dirent **tests;
	char *key;
	int i, n;

	n = scandir("/tests", &tests, NULL, alphasort);
	if (n < 0)
		die("/tests: %s", strerror(errno));

	for (i = 0; i < n; i++) {
		/* Those in "users" have a plan of their own. */
		key = format(" %s ", tests[i]->d_name);
		if (tests[i]->d_name[0] != '.' && tests[i]->d_type != DT_DIR &&
		    !strstr(named, key))
			add_each(tests[i]->d_name, &opt);
		free(key);
	}
}

static void read_plan(void)
{
	char *named = must(strdup(" ")), *old, *line = NULL, *rest, *word;
	char *words[MAX_WORDS];
	bool want_rest = false;
	size_t size = 0;
	FILE *f;
	int n;

	f = fopen("/plan", "re");
	if (!f)
		die("/plan: %s", strerror(errno));

	while (getline(&line, &size, f) >= 0) {
		if (*line == '#')
			continue;

		n = 0;
		rest = line;
		while ((word = strsep(&rest, " \t\n"))) {
			if (!*word)
				continue;
			if (n == MAX_WORDS - 1)
				die("plan: too long: %s ...", words[0]);
			words[n++] = word;
		}
		words[n] = NULL;

		if (!n)
			continue;
		if (n >= 2 && !strcmp(words[0], "run")) {
			old = named;
			named = format("%s%s ", old, words[1]);
			free(old);
			plan_run(words + 1);
		} else if (n >= 2 && !strcmp(words[0], "insmod")) {
			plan_module(INSMOD, words + 1);
		} else if (n == 2 && !strcmp(words[0], "rmmod")) {
			plan_module(RMMOD, words + 1);
		} else if (n == 1 && !strcmp(words[0], "rest")) {
			want_rest = true;
		} else {
			die("plan: cannot parse \"%s ...\"", words[0]);
		}
	}
	free(line);
	fclose(f);

	/* Last, so that it knows all the names. */
	if (want_rest)
		plan_rest(named);
	free(named);

	if (!access(KMEMLEAK, F_OK))
		new_run(LEAKS)->name = "kmemleak";
}

static void filter_line(struct filter *f)
{
	size_t i;

	f->line[f->len] = '\0';
	for (i = 0; i < f->len; i++) {
		if (!isprint(f->line[i]) && f->line[i] != '\t')
			f->line[i] = '?';
	}
	f->len = 0;

	/*
	 * Parsers of KTAP learn the name of a nested test from a line that has
	 * to follow the version; a test that writes none is a single case.
	 */
	if (!strncmp(f->line, "TAP version ", 12) ||
	    !strncmp(f->line, "KTAP version ", 13)) {
		tap("  KTAP version 1\n  # Subtest: %s\n", f->name);
		return;
	}

	tap("  %s\n", f->line);

	if (!strncmp(f->line, "1..0 # SKIP ", 12)) {
		snprintf(f->last, sizeof(f->last), "%s", f->line + 12);
		f->skip_plan = true;
	} else if (*f->line && !f->skip_plan) {
		snprintf(f->last, sizeof(f->last), "%s", f->line);
	}
}

/* Returns what read() does. */
static ssize_t filter_output(struct filter *f, int fd)
{
	char buf[4096];
	ssize_t i, len;

	len = read(fd, buf, sizeof(buf));
	for (i = 0; i < len; i++) {
		if (buf[i] == '\n') {
			filter_line(f);
			continue;
		}
		f->line[f->len++] = buf[i];
		if (f->len == sizeof(f->line) - 1)
			filter_line(f);
	}

	return len;
}

/* Kill all processes but this one.  False if one of them stays. */
static bool kill_all(void)
{
	long long deadline = now_ms() + KILL_SECONDS * 1000 * slow;
	struct timespec ts;
	sigset_t set;
	pid_t pid;
	int ms;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);

	kill(-1, SIGKILL);
	for (;;) {
		pid = waitpid(-1, NULL, WNOHANG);
		if (pid > 0)
			continue;
		if (pid < 0)
			return true;

		ms = ms_until(deadline);
		if (!ms)
			return false;
		ts.tv_sec = ms / 1000;
		ts.tv_nsec = ms % 1000 * 1000000;
		sigtimedwait(&set, NULL, &ts);
	}
}

static pid_t start_test(const struct run *run, int out)
{
	char *const *env;
	sigset_t set;
	pid_t pid;
	int null;

	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid) {
		/* As the child does: whoever is first. */
		setpgid(pid, pid);
		return pid;
	}

	setpgid(0, 0);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
		_exit(126);
	for (env = run->env; *env; env++)
		putenv(*env);
	execv(run->file, run->argv);
	dprintf(STDERR_FILENO, "exec %s: %s\n", run->file, strerror(errno));
	_exit(127);
}

/* True and the wait status, or false if the time limit was reached. */
static bool wait_test(const struct run *run, struct filter *f, pid_t pid,
		      int out, int *status)
{
	long long deadline = now_ms() + run->seconds * 1000LL * slow;
	struct pollfd pfd[2] = { { .events = POLLIN }, { .events = POLLIN } };
	bool done = false;
	int ms;

	pfd[0].fd = syscall(SYS_pidfd_open, pid, 0);
	if (pfd[0].fd < 0)
		die("pidfd_open: %s", strerror(errno));
	pfd[1].fd = out;

	while (!done && (ms = ms_until(deadline))) {
		if (poll(pfd, 2, ms) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		if (pfd[1].revents && !filter_output(f, out))
			pfd[1].fd = -1;	/* end of file */
		if (pfd[0].revents)
			done = waitpid(pid, status, 0) == pid;
	}
	close(pfd[0].fd);

	return done;
}

/* NULL or what is wrong with the devices after a test. */
static char *check_devices(void)
{
	struct device *dev;

	for (dev = devices; dev < devices + nr_devices; dev++) {
		if (dev->bdf[0] && !is_bound(dev))
			return format("left %s without vfio-pci", dev->name);
	}

	return NULL;
}

/* NULL if it passed, "" if it was skipped, otherwise what went wrong. */
static char *run_test(const struct run *run, char *reason, size_t size)
{
	struct filter f = { .name = run->name };
	char *ret = NULL;
	int out[2], status = 0;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC | O_NONBLOCK))
		die("pipe: %s", strerror(errno));
	/* A test expects its stdout to block. */
	fcntl(out[1], F_SETFL, 0);

	pid = start_test(run, out[1]);
	close(out[1]);

	if (!wait_test(run, &f, pid, out[0], &status)) {
		ret = format("timeout after %d s", run->seconds * slow);
		/* Show where it hangs before it is killed. */
		write_file("/proc/sysrq-trigger", "w");
		kill(-pid, SIGKILL);
	} else if (WIFSIGNALED(status)) {
		ret = format("signal %d (%s)", WTERMSIG(status),
			     strsignal(WTERMSIG(status)));
	} else if (WEXITSTATUS(status) && WEXITSTATUS(status) != 4) {
		ret = format("exit code %d", WEXITSTATUS(status));
	}

	if (!kill_all()) {
		free(ret);
		ret = format("a process cannot be killed");
		write_file("/proc/sysrq-trigger", "w");
	}

	/* What was written between the last poll() and the end. */
	while (filter_output(&f, out[0]) > 0)
		;
	if (f.len)
		filter_line(&f);
	close(out[0]);

	if (!ret)
		ret = check_devices();
	if (!ret && WEXITSTATUS(status) == 4) {
		ret = format("%s", "");
		snprintf(reason, size, "%s", f.last);
	}

	return ret;
}

static char *load_module(const struct run *run)
{
	char *path = format("/modules/%s.ko", run->file), *ret = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, run->params, 0))
		ret = format("%s %s: %s", path, run->params, strerror(errno));
	if (fd >= 0)
		close(fd);
	free(path);

	return ret;
}

static char *unload_module(const struct run *run)
{
	if (syscall(SYS_delete_module, run->file, O_NONBLOCK))
		return format("%s: %s", run->file, strerror(errno));

	return NULL;
}

static char *find_leaks(void)
{
	char line[MAX_LINE];
	bool leaks = false;
	FILE *f;
	int i;

	/*
	 * kmemleak does not look at objects younger than 5 s, and a pointer
	 * that moves while it scans makes a false report that does not last.
	 */
	sleep(6);
	for (i = 0; i < 2; i++) {
		if (write_file(KMEMLEAK, "scan"))
			return format("cannot scan");
	}

	f = fopen(KMEMLEAK, "re");
	if (!f)
		return format("cannot read");
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		tap("  %s\n", line);
		leaks = true;
	}
	fclose(f);

	return leaks ? format("memory leaks") : NULL;
}

static void carry_out(const struct run *run, int number)
{
	char reason[MAX_LINE] = "", *problem = NULL, *msg;
	long long start = now_ms();

	/* For whoever reads the console: what the kernel was doing. */
	msg = format("<6>vfio selftests: %s\n", run->name);
	write_file("/dev/kmsg", msg);
	free(msg);

	switch (run->kind) {
	case RUN:
		problem = run_test(run, reason, sizeof(reason));
		break;
	case INSMOD:
		problem = load_module(run);
		break;
	case RMMOD:
		problem = unload_module(run);
		break;
	case LEAKS:
		problem = find_leaks();
		break;
	}

	tap("# %lld ms\n", now_ms() - start);
	if (!problem)
		tap("ok %d %s\n", number, run->name);
	else if (!*problem)
		tap("ok %d %s # SKIP %s\n", number, run->name, reason);
	else
		tap("not ok %d %s # %s\n", number, run->name, problem);
	free(problem);
}

static void carry_out_plan(void)
{
	int i;

	tap("1..%d\n", nr_runs);
	for (i = 0; i < nr_runs; i++)
		carry_out(&runs[i], i + 1);
	tap("# done\n");
}

static void print_header(void)
{
	struct utsname uts;
	int i;

	uname(&uts);
	tap("KTAP version 1\n");
	tap("# kernel %s %s %s\n", uts.release, uts.version, uts.machine);
	for (i = 0; i < nr_devices; i++) {
		tap("# device %s %s\n", devices[i].name,
		    devices[i].bdf[0] ? devices[i].bdf : "absent");
	}
}

/* The console as a controlling terminal, so that ^C reaches the shell. */
static void run_shell(void)
{
	char *tty, *space;
	sigset_t set;
	pid_t pid;
	int fd;

	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid) {
		while (waitpid(-1, NULL, 0) != pid)
			;
		return;
	}

	tty = read_line("/sys/class/tty/console/active");
	if (!tty)
		die("no console");
	space = strrchr(tty, ' ');
	tty = format("/dev/%s", space ? space + 1 : tty);

	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	setsid();
	fd = open(tty, O_RDWR);
	if (fd < 0 || ioctl(fd, TIOCSCTTY, 0))
		die("%s: %s", tty, strerror(errno));
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);

	setenv("PS1", "vfio# ", 1);
	if (system("/bin/busybox --install -s /bin"))
		die("busybox --install failed");
	execl("/bin/sh", "-sh", NULL);
	die("/bin/sh: %s", strerror(errno));
}

int main(void)
{
	bool shell = getenv("VM_SHELL");
	sigset_t set;

	/* For sigtimedwait(): a blocked signal waits, a lost one does not. */
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);

	if (getenv("VM_SLOW"))
		slow = atoi(getenv("VM_SLOW"));
	setenv("PATH", "/tests:/bin", 1);

	mount_filesystems();
	mount_host();
	set_sysctls();
	if (!shell)
		find_results();
	find_devices();
	print_header();
	bind_devices();
	if (shell) {
		run_shell();
	} else {
		read_plan();
		carry_out_plan();
	}
	end_vm();
}
