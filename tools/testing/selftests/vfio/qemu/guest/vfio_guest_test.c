// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU as a user of VFIO: a guest in the VM that has devices of the VM
 *
 * The arguments are an NVMe device with a disk, an e1000e, and QEMU's edu
 * device.  The guest's kernel drives them, init.c in this directory looks at
 * what it gets of them, and this program tells it what to do, and does to QEMU
 * what the management of a virtual machine does.
 *
 * QEMU and its libraries come from /host, a share of the host's.  Its memory
 * cannot be told apart from what any process does with a device: what is
 * mapped, when it is zapped and mapped again, is up to it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/compiler.h>

#include "kselftest_harness.h"

#include "lines.h"

#define QEMU "/usr/bin/qemu-system-x86_64"
#define KERNEL "/guest/vmlinux"
#define INITRD "/guest/initrd"
#define CONSOLE "/tmp/guest-console.log"

/* For an answer of the guest, which boots before the first one */
#define ANSWER_SECONDS 300

/* What the devices are called in the guest: slots of its root bus */
#define NVME "04"
#define NET "05"
#define EDU "06"

static const char *bdf_nvme, *bdf_net, *bdf_edu;

struct guest {
	const char *backend;	/* "" or ",iommufd=..." for each device */
	pid_t pid;		/* 0 if it does not run */
	struct lines command;
	struct lines qmp;
	char answer[256];
};

/* The answer to "ask", or what the guest says by itself, as "ready". */
static const char *guest_hear(struct guest *guest)
{
	if (!line_get(&guest->command, guest->answer, sizeof(guest->answer), ANSWER_SECONDS))
		snprintf(guest->answer, sizeof(guest->answer), "silence");
	printf("# guest: %s\n", guest->answer);
	fflush(stdout);

	return guest->answer;
}

static const char *guest_ask(struct guest *guest, const char *command)
{
	printf("# %8ld ms %s\n", now_ms(), command);
	fflush(stdout);
	dprintf(guest->command.fd, "%s\n", command);

	return guest_hear(guest);
}

/* Whether the answer begins so */
static bool guest_answers(struct __test_metadata *_metadata, struct guest *guest,
			  const char *command, const char *answer)
{
	if (!strncmp(answer, guest_ask(guest, command), strlen(answer)))
		return true;
	TH_LOG("%s: the guest answers %s", command, guest->answer);

	return false;
}

#define EXPECT_ANSWER(_command, _answer) \
	EXPECT_TRUE(guest_answers(_metadata, &self->guest, _command, _answer))
#define ASSERT_ANSWER(_command, _answer) \
	ASSERT_TRUE(guest_answers(_metadata, &self->guest, _command, _answer))
#define ASSERT_READY() \
	ASSERT_STREQ("ready", guest_hear(&self->guest))

/* Wait for a message of QEMU with this text in it. */
static bool qmp_expect(struct guest *guest, const char *text)
{
	char line[4096];

	while (line_get(&guest->qmp, line, sizeof(line), ANSWER_SECONDS)) {
		if (strstr(line, text))
			return true;
		if (strstr(line, "\"error\"")) {
			printf("# QEMU: %s\n", line);
			return false;
		}
	}
	printf("# QEMU: silence\n");

	return false;
}

static bool __printf(2, 3) qmp(struct guest *guest, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vdprintf(guest->qmp.fd, fmt, ap);
	va_end(ap);

	return qmp_expect(guest, "\"return\"");
}

static __printf(1, 2) char *format(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		exit(KSFT_FAIL);
	va_end(ap);

	return s;
}

static char *vfio_pci(struct guest *guest, const char *bdf, const char *slot)
{
	/* A real device would have its ROM executed, which takes time. */
	return format("vfio-pci,host=%s,id=dev%s,bus=pci.0,addr=%s,rombar=0%s",
		      bdf, slot, slot, guest->backend);
}

/* The same for a QEMU that runs */
static bool guest_plug(struct guest *guest, const char *bdf, const char *slot)
{
	const char *backend = *guest->backend ? ",'iommufd':'iommufd0'" : "";
	char *device;
	bool ret;

	device = format("{'driver':'vfio-pci','host':'%s','id':'dev%s','addr':'%s','rombar':0%s}",
			bdf, slot, slot, backend);
	ret = qmp(guest, "{'execute':'device_add','arguments':%s}\n", device);
	free(device);

	return ret;
}

static void qemu_exec(struct guest *guest, int command, int qmp)
{
	char *argv[64];
	int argc = 0;

	argv[argc++] = QEMU;
	argv[argc++] = "-nodefaults";
	argv[argc++] = "-no-user-config";
	argv[argc++] = "-machine";
	argv[argc++] = "pc,accel=tcg,hpet=off,graphics=off,vmport=off,i8042=off";
	argv[argc++] = "-m";
	argv[argc++] = "96";
	argv[argc++] = "-display";
	argv[argc++] = "none";
	argv[argc++] = "-kernel";
	argv[argc++] = KERNEL;
	argv[argc++] = "-initrd";
	argv[argc++] = INITRD;
	argv[argc++] = "-append";
	argv[argc++] = "console=ttyS0 panic=-1 reboot=k";
	argv[argc++] = "-serial";
	argv[argc++] = "file:" CONSOLE;
	argv[argc++] = "-chardev";
	argv[argc++] = format("socket,id=command,fd=%d", command);
	argv[argc++] = "-serial";
	argv[argc++] = "chardev:command";
	argv[argc++] = "-chardev";
	argv[argc++] = format("socket,id=qmp,fd=%d", qmp);
	argv[argc++] = "-mon";
	argv[argc++] = "chardev=qmp,mode=control";
	if (*guest->backend) {
		argv[argc++] = "-object";
		argv[argc++] = "iommufd,id=iommufd0";
	}
	argv[argc++] = "-device";
	argv[argc++] = vfio_pci(guest, bdf_nvme, NVME);
	argv[argc++] = "-device";
	argv[argc++] = vfio_pci(guest, bdf_net, NET);
	argv[argc++] = "-device";
	argv[argc++] = vfio_pci(guest, bdf_edu, EDU);
	argv[argc] = NULL;

	/* Not to be left behind by a test that fails */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (chroot(HOST) || chdir("/"))
		_exit(126);
	execv(QEMU, argv);
	_exit(127);
}

static void guest_start(struct __test_metadata *_metadata, struct guest *guest)
{
	int command[2], qmp_fd[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, command));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp_fd));

	guest->pid = fork();
	ASSERT_LE(0, guest->pid);
	if (!guest->pid) {
		fcntl(command[1], F_SETFD, 0);
		fcntl(qmp_fd[1], F_SETFD, 0);
		qemu_exec(guest, command[1], qmp_fd[1]);
	}
	close(command[1]);
	close(qmp_fd[1]);
	guest->command = (struct lines) { .fd = command[0] };
	guest->qmp = (struct lines) { .fd = qmp_fd[0] };

	ASSERT_TRUE(qmp_expect(guest, "\"QMP\""));
	ASSERT_TRUE(qmp(guest, "{'execute':'qmp_capabilities'}\n"));
}

/* The wait status */
static int guest_wait(struct guest *guest)
{
	int status = -1;

	waitpid(guest->pid, &status, 0);
	guest->pid = 0;
	close(guest->command.fd);
	close(guest->qmp.fd);

	return status;
}

/* Of what may be long, its end */
static void show_console(void)
{
	FILE *f = fopen(CONSOLE, "re");
	char line[256];
	long lines = 0;

	while (f && fgets(line, sizeof(line), f))
		lines++;
	if (!f)
		return;
	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		if (--lines < 60)
			printf("# console: %.*s\n", (int)strcspn(line, "\r\n"), line);
	}
	fclose(f);
}

/*
 * No complaint of the guest's kernel. A command that a driver found done only when
 * it looked is no success.
 */
static bool console_is_clean(struct __test_metadata *_metadata)
{
	static const char * const bad[] = {
		"WARNING", "BUG:", "Oops", "Call Trace", "timeout", "completion polled",
	};
	bool clean = true;
	char line[256];
	FILE *f = fopen(CONSOLE, "re");
	size_t i;

	while (f && fgets(line, sizeof(line), f)) {
		for (i = 0; i < ARRAY_SIZE(bad) && !strstr(line, bad[i]); i++)
			;
		if (i == ARRAY_SIZE(bad))
			continue;
		clean = false;
		TH_LOG("the guest's kernel: %.*s", (int)strcspn(line, "\r\n"), line);
	}
	if (!f)
		return false;
	fclose(f);

	return clean;
}

FIXTURE(guest) {
	struct guest guest;
};

FIXTURE_VARIANT(guest) {
	const char *backend;
	const char *scratch;	/* what no case checks for, to begin with */
};

FIXTURE_VARIANT_ADD(guest, group) {
	.backend = "",
	.scratch = "nvme " NVME " write 100",
};

FIXTURE_VARIANT_ADD(guest, iommufd) {
	.backend = ",iommufd=iommufd0",
	.scratch = "nvme " NVME " write 101",
};

FIXTURE_SETUP(guest)
{
	self->guest.backend = variant->backend;
	guest_start(_metadata, &self->guest);
	ASSERT_READY();
	/* The disk still has what an earlier guest wrote. */
	ASSERT_ANSWER(variant->scratch, "ok ");
}

FIXTURE_TEARDOWN(guest)
{
	if (!__test_passed(_metadata))
		show_console();
	if (!self->guest.pid)
		return;
	kill(self->guest.pid, SIGKILL);
	guest_wait(&self->guest);
}

/* In the middle of it */
static void guest_kill(struct __test_metadata *_metadata, struct guest *guest)
{
	ASSERT_EQ(0, strcmp("ok", guest_ask(guest, "nvme " NVME " storm")));
	ASSERT_EQ(0, kill(guest->pid, SIGKILL));
	ASSERT_EQ(SIGKILL, WTERMSIG(guest_wait(guest)));
}

/* The least of it: once, on all of them */
TEST_F_TIMEOUT(guest, boot, 1800)
{
	EXPECT_ANSWER("nvme " NVME " write 1", "ok ");
	EXPECT_ANSWER("net " NET, "ok ");
	EXPECT_ANSWER("edu " EDU " 1", "ok ");
	EXPECT_ANSWER("decode " NVME, "ok ");
	EXPECT_ANSWER("move " NVME, "ok ");
	EXPECT_ANSWER("nvme " NVME " check 1", "ok ");
	EXPECT_TRUE(console_is_clean(_metadata));
	guest_kill(_metadata, &self->guest);
}

TEST_F_TIMEOUT(guest, devices, 1800)
{
	struct guest *guest = &self->guest;

	/* All of them work. */
	EXPECT_ANSWER("nvme " NVME " write 1", "ok ");
	EXPECT_ANSWER("net " NET, "ok ");
	EXPECT_ANSWER("edu " EDU " 1", "ok ");

	/* They lose their memory and get it back, at another address too. */
	EXPECT_ANSWER("decode " EDU, "ok ");
	EXPECT_ANSWER("edu " EDU " 2", "ok ");
	EXPECT_ANSWER("decode " NVME, "ok ");
	EXPECT_ANSWER("nvme " NVME " check 1", "ok ");
	EXPECT_ANSWER("move " EDU, "ok ");
	EXPECT_ANSWER("edu " EDU " 3", "ok ");
	EXPECT_ANSWER("move " NVME, "ok ");
	EXPECT_ANSWER("nvme " NVME " check 1", "ok ");

	/* Out and in again, while the guest runs */
	ASSERT_TRUE(qmp(guest, "{'execute':'device_del','arguments':{'id':'dev" NVME "'}}\n"));
	ASSERT_TRUE(qmp_expect(guest, "DEVICE_DELETED"));
	ASSERT_ANSWER("gone " NVME, "ok");
	ASSERT_TRUE(guest_plug(guest, bdf_nvme, NVME));
	ASSERT_ANSWER("come " NVME, "ok");
	EXPECT_ANSWER("nvme " NVME " check 1", "ok ");
	EXPECT_ANSWER("nvme " NVME " write 2", "ok ");

	/* Reset from the outside, reboot from the inside */
	ASSERT_TRUE(qmp(guest, "{'execute':'system_reset'}\n"));
	ASSERT_READY();
	EXPECT_ANSWER("nvme " NVME " check 2", "ok ");
	EXPECT_ANSWER("net " NET, "ok ");
	EXPECT_ANSWER("edu " EDU " 4", "ok ");
	EXPECT_ANSWER("nvme " NVME " write 3", "ok ");
	ASSERT_ANSWER("reboot", "ready");
	EXPECT_ANSWER("nvme " NVME " check 3", "ok ");
	EXPECT_ANSWER("edu " EDU " 5", "ok ");

	EXPECT_TRUE(console_is_clean(_metadata));

	/* Killed in the middle of it, and started again */
	guest_kill(_metadata, guest);
	guest_start(_metadata, guest);
	ASSERT_READY();
	EXPECT_ANSWER("nvme " NVME " check 3", "ok ");
	EXPECT_ANSWER("nvme " NVME " write 4", "ok ");
	EXPECT_ANSWER("net " NET, "ok ");
	EXPECT_ANSWER("edu " EDU " 6", "ok ");
	EXPECT_TRUE(console_is_clean(_metadata));

	ASSERT_TRUE(qmp(guest, "{'execute':'quit'}\n"));
	ASSERT_EQ(0, guest_wait(guest));
}

int main(int argc, char *argv[])
{
	if (argc < 4)
		ksft_exit_skip("usage: %s [OPTION...] NVME NET EDU\n", argv[0]);
	if (access(HOST QEMU, X_OK) || access(KERNEL, R_OK) || access(INITRD, R_OK))
		ksft_exit_skip("There is no " HOST QEMU ", or no guest for it\n");
	argc -= 3;
	bdf_nvme = argv[argc];
	bdf_net = argv[argc + 1];
	bdf_edu = argv[argc + 2];
	argv[argc] = NULL;

	return test_harness_run(argc, argv);
}
