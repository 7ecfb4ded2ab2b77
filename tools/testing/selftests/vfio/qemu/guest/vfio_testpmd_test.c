// SPDX-License-Identifier: GPL-2.0
/*
 * DPDK as a user of VFIO: testpmd forwards packets between two NICs
 *
 * The arguments are an e1000e and a virtio-net device on one hub: what one sends
 * the other gets, and testpmd sends it back, so that packets go round until they
 * are lost or testpmd is stopped.  That takes BARs, DMA and interrupts of both.
 * Their ports are stopped and started, and reset in between by somebody else:
 * kernels without the series survive that too.
 *
 * DPDK and its libraries come from /host, a share of the host's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <linux/compiler.h>

#include "kselftest_harness.h"

#include "lines.h"

#define TESTPMD "/usr/bin/dpdk-testpmd"

#define ANSWER_SECONDS 60

/* As many packets have to have come in on each port. */
#define NR_PACKETS 1000UL

static char *bdfs[2];

FIXTURE(testpmd) {
	pid_t pid;		/* 0 if it does not run */
	struct lines lines;
};

/* Up to a line with this text in it, which is copied to @line. */
static bool hear(struct lines *lines, const char *text, char *line, size_t size)
{
	while (line_get(lines, line, size, ANSWER_SECONDS)) {
		printf("# %s\n", line);
		fflush(stdout);
		if (strstr(line, text))
			return true;
	}
	printf("# no line with \"%s\"\n", text);

	return false;
}

static void __printf(2, 3) say(struct lines *lines, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vdprintf(lines->fd, fmt, ap);
	va_end(ap);
}

/* The number behind @key in a line of the answer, -1 if there is none. */
static long number(struct lines *lines, const char *key)
{
	char line[512];

	if (!hear(lines, key, line, sizeof(line)))
		return -1;

	return strtol(strstr(line, key) + strlen(key), NULL, 10);
}

/*
 * Whether enough has come in on both ports, and nothing was wrong with it.  How
 * long that takes is up to testpmd: it is asked again and again.
 */
static bool forward(struct lines *lines)
{
	long end = end_ms(ANSWER_SECONDS), rx[2], errors[2];
	char line[512];
	int i;

	say(lines, "clear port stats all\nstart tx_first 4\n");
	do {
		for (i = 0; i < 2; i++) {
			say(lines, "show port stats %d\n", i);
			rx[i] = number(lines, "RX-packets:");
			errors[i] = number(lines, "RX-errors:");
		}
	} while ((rx[0] < (long)NR_PACKETS || rx[1] < (long)NR_PACKETS) && rx[0] >= 0 &&
		 rx[1] >= 0 && now_ms() < end);
	say(lines, "stop\n");
	if (!hear(lines, "Done.", line, sizeof(line)))
		return false;

	printf("# received %ld and %ld packets, %ld and %ld with errors\n", rx[0], rx[1],
	       errors[0], errors[1]);
	return rx[0] >= (long)NR_PACKETS && rx[1] >= (long)NR_PACKETS && !errors[0] &&
	       !errors[1];
}

static int sysfs_reset(const char *bdf)
{
	char path[128];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", bdf);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	if (write(fd, "1", 1) < 0)
		ret = -errno;
	close(fd);

	return ret;
}

FIXTURE_SETUP(testpmd)
{
	struct termios tio;
	char line[512];
	int pty, tty;

	/* To anything else it writes when its buffer is full. */
	pty = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT_LE(0, pty);
	ASSERT_EQ(0, grantpt(pty));
	ASSERT_EQ(0, unlockpt(pty));
	tty = open(ptsname(pty), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT_LE(0, tty);
	ASSERT_EQ(0, tcgetattr(tty, &tio));
	cfmakeraw(&tio);
	ASSERT_EQ(0, tcsetattr(tty, TCSANOW, &tio));

	self->pid = fork();
	ASSERT_LE(0, self->pid);
	if (!self->pid) {
		/* Not to be left behind by a test that fails */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(tty, STDIN_FILENO);
		dup2(tty, STDOUT_FILENO);
		dup2(tty, STDERR_FILENO);
		if (!chroot(HOST) && !chdir("/"))
			execl(TESTPMD, TESTPMD, "--in-memory", "--no-telemetry",
			      "--iova-mode=va", "-l", "0,1", "-a", bdfs[0], "-a",
			      bdfs[1], "--", "--interactive", "--total-num-mbufs=2048",
			      "--nb-cores=1", "--forward-mode=io",
			      "--disable-device-start", NULL);
		_exit(127);
	}
	close(tty);
	self->lines.fd = pty;

	/* Both have been found, by the driver that they are for. */
	say(&self->lines, "show port summary all\n");
	ASSERT_TRUE(hear(&self->lines, "net_e1000_em", line, sizeof(line)));
	ASSERT_NE(NULL, strstr(line, bdfs[0]));
	ASSERT_TRUE(hear(&self->lines, "net_virtio", line, sizeof(line)));
	ASSERT_NE(NULL, strstr(line, bdfs[1]));
}

FIXTURE_TEARDOWN(testpmd)
{
	if (!self->pid)
		return;
	kill(self->pid, SIGKILL);
	waitpid(self->pid, NULL, 0);
}

TEST_F_TIMEOUT(testpmd, forward, 1800)
{
	struct lines *lines = &self->lines;
	char line[512];
	int status, i;

	for (i = 0; i < 3; i++) {
		/* The first time, it is as the probe left it. */
		if (i) {
			say(lines, "port stop all\n");
			ASSERT_TRUE(hear(lines, "Done", line, sizeof(line)));
			ASSERT_EQ(0, sysfs_reset(bdfs[0]));
		}
		say(lines, "port start all\n");
		ASSERT_TRUE(hear(lines, "Done", line, sizeof(line)));
		ASSERT_TRUE(forward(lines));
	}

	say(lines, "quit\n");
	ASSERT_TRUE(hear(lines, "Bye...", line, sizeof(line)));
	ASSERT_EQ(self->pid, waitpid(self->pid, &status, 0));
	self->pid = 0;
	ASSERT_EQ(0, status);
}

int main(int argc, char *argv[])
{
	if (argc < 3)
		ksft_exit_skip("usage: %s [OPTION...] E1000E VIRTIO-NET\n", argv[0]);
	if (access(HOST TESTPMD, X_OK))
		ksft_exit_skip("There is no " HOST TESTPMD "\n");
	argc -= 2;
	bdfs[0] = argv[argc];
	bdfs[1] = argv[argc + 1];
	argv[argc] = NULL;

	return test_harness_run(argc, argv);
}
