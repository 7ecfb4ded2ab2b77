// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the guest that has the devices: does what it is told on the second
 * serial port, a line each, and answers "ok ..." or "no REASON".  It says
 * "ready" when it begins.  The devices go by the slot of the root bus.
 *
 *   nvme SLOT write SEED   write a pattern to the disk, read it back
 *   nvme SLOT check SEED   read it back only
 *   nvme SLOT storm        write for ever, to another part of the disk
 *   net SLOT               bring up the link, wait for it
 *   edu SLOT SEED          registers, and DMA from memory to memory
 *   decode SLOT            switch memory decoding off, look, and on again
 *   move SLOT              have the kernel give BAR 0 another address
 *   gone SLOT              wait until the device is gone
 *   come SLOT              wait until it has come
 *   reboot
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <linux/compiler.h>
#include <linux/io.h>
#include <linux/netlink.h>

#define PCI_DEVICES "/sys/bus/pci/devices"

/* For anything that is to happen by itself */
#define WAIT_SECONDS 60

#define PAGE 4096UL

#define PATTERN_SIZE (256 << 10)
#define STORM_OFFSET (16 << 20)

/* Of config space */
#define COMMAND 0x04
#define COMMAND_MEMORY 0x2
#define COMMAND_MASTER 0x4
#define BAR0 0x10
#define BAR_64 0x4

static int port;
static int uevents;
static char *pci;		/* of the device that the command is about */

static void __printf(1, 2) answer(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vdprintf(port, fmt, ap);
	va_end(ap);
}

/* For a command to return: it has answered then. */
static int __printf(1, 2) no(const char *fmt, ...)
{
	va_list ap;

	dprintf(port, "no ");
	va_start(ap, fmt);
	vdprintf(port, fmt, ap);
	va_end(ap);
	dprintf(port, "\n");

	return -1;
}

static __printf(1, 2) char *format(const char *fmt, ...)
{
	static char bufs[8][256];
	static int next;
	char *buf = bufs[next++ % 8];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(bufs[0]), fmt, ap);
	va_end(ap);

	return buf;
}

/* The first line, "" if there is none. */
static char *read_file(const char *path)
{
	static char bufs[4][256];
	static int next;
	char *buf = bufs[next++ % 4];
	int fd = open(path, O_RDONLY);
	ssize_t len = fd < 0 ? 0 : read(fd, buf, sizeof(bufs[0]) - 1);

	if (fd >= 0)
		close(fd);
	buf[len < 0 ? 0 : len] = '\0';
	buf[strcspn(buf, "\n")] = '\0';

	return buf;
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) >= 0;

	if (fd >= 0)
		close(fd);

	return ok;
}

static long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/*
 * Wait for @done, which is looked at after each event that the kernel tells of.
 * What comes between a look and the wait for the next event is in the socket.
 */
static bool wait_for(bool (*done)(void))
{
	struct pollfd pfd = { .fd = uevents, .events = POLLIN };
	long end = now() + WAIT_SECONDS;
	char buf[4096];

	while (!done()) {
		if (now() >= end || poll(&pfd, 1, (end - now()) * 1000) <= 0)
			return false;
		recv(uevents, buf, sizeof(buf), 0);
	}

	return true;
}

/* The name of what is in a directory of the device, NULL if there is none. */
static char *child_of(const char *dir)
{
	char *name = NULL;
	struct dirent *d;
	DIR *stream;

	stream = opendir(dir);
	while (stream && (d = readdir(stream))) {
		if (d->d_name[0] != '.')
			name = format("%s", d->d_name);
	}
	if (stream)
		closedir(stream);

	return name;
}

static bool device_there(void)
{
	return !access(pci, F_OK);
}

static bool device_gone(void)
{
	return !device_there();
}

static uint32_t config_read(int offset)
{
	uint32_t val = ~0u;
	int fd = open(format("%s/config", pci), O_RDONLY);

	if (fd >= 0) {
		if (pread(fd, &val, sizeof(val), offset) != sizeof(val))
			val = ~0u;
		close(fd);
	}

	return val;
}

static bool config_write(int offset, const void *val, size_t size)
{
	int fd = open(format("%s/config", pci), O_WRONLY);
	bool ok = fd >= 0 && pwrite(fd, val, size, offset) == (ssize_t)size;

	if (fd >= 0)
		close(fd);

	return ok;
}

static bool command_set(uint16_t on, uint16_t off)
{
	uint16_t command = (config_read(COMMAND) & ~off) | on;

	return config_write(COMMAND, &command, sizeof(command));
}

/* BAR 0, NULL if it cannot be mapped. */
static void *bar_map(size_t size)
{
	int fd = open(format("%s/resource0", pci), O_RDWR);
	void *bar = MAP_FAILED;

	if (fd >= 0) {
		bar = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}

	return bar == MAP_FAILED ? NULL : bar;
}

/* By the lines of /proc/interrupts with this word in them */
static long irq_count(const char *word)
{
	FILE *f = fopen("/proc/interrupts", "re");
	char line[256];
	long sum = 0;
	char *colon;

	while (f && fgets(line, sizeof(line), f)) {
		colon = strchr(line, ':');
		if (colon && strstr(line, word))
			sum += atol(colon + 1);
	}
	if (f)
		fclose(f);

	return sum;
}

static void fill(void *buf, size_t size, uint32_t seed)
{
	uint32_t *word = buf, i;

	for (i = 0; i < size / sizeof(*word); i++)
		word[i] = (seed + i) * 0x9e3779b1u;
}

static uint32_t checksum(const void *buf, size_t size)
{
	const uint32_t *word = buf;
	uint32_t sum = 0, i;

	for (i = 0; i < size / sizeof(*word); i++)
		sum = (sum ^ word[i]) * 0x01000193u;

	return sum;
}

static void *pages(size_t size)
{
	void *buf = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return buf == MAP_FAILED ? NULL : buf;
}

/* nvme */

static bool nvme_there(void)
{
	char *ctrl = child_of(format("%s/nvme", pci));

	return ctrl && !strcmp(read_file(format("%s/nvme/%s/state", pci, ctrl)), "live") &&
	       !access(format("/dev/%sn1", ctrl), F_OK);
}

static int cmd_nvme(const char *what, uint32_t seed)
{
	char *ctrl, *queues, *disk, *buf, *back;
	uint32_t sum, sum_back;
	long before;
	int fd;

	if (!wait_for(nvme_there))
		return no("no disk: state %s", read_file("/sys/class/nvme/nvme0/state"));

	ctrl = child_of(format("%s/nvme", pci));
	queues = format("%sq", ctrl);
	disk = format("/dev/%sn1", ctrl);
	/* Not through the page cache */
	fd = open(disk, O_RDWR | O_DIRECT);
	if (fd < 0)
		return no("%s: %s", disk, strerror(errno));

	buf = pages(PATTERN_SIZE);
	back = pages(PATTERN_SIZE);
	fill(buf, PATTERN_SIZE, seed);

	if (!strcmp(what, "storm")) {
		/* Who hears "ok" counts on writes that are under way. */
		if (pwrite(fd, buf, PATTERN_SIZE, STORM_OFFSET) != PATTERN_SIZE)
			return no("write: %s", strerror(errno));
		answer("ok\n");
		while (pwrite(fd, buf, PATTERN_SIZE, STORM_OFFSET) == PATTERN_SIZE)
			;
		return no("storm: %s", strerror(errno));
	}

	before = irq_count(queues);
	if (!strcmp(what, "write") &&
	    (pwrite(fd, buf, PATTERN_SIZE, 0) != PATTERN_SIZE || fsync(fd)))
		return no("write: %s", strerror(errno));
	if (pread(fd, back, PATTERN_SIZE, 0) != PATTERN_SIZE)
		return no("read: %s", strerror(errno));
	before = irq_count(queues) - before;
	close(fd);

	sum = checksum(buf, PATTERN_SIZE);
	sum_back = checksum(back, PATTERN_SIZE);
	if (memcmp(buf, back, PATTERN_SIZE))
		return no("checksum %08x, should be %08x", sum_back, sum);
	/* A write, the flush after it, a read */
	if (before < (strcmp(what, "write") ? 1 : 3))
		return no("%ld interrupts", before);
	answer("ok model %s serial %s checksum %08x interrupts %ld\n",
	       read_file(format("/sys/class/nvme/%s/model", ctrl)),
	       read_file(format("/sys/class/nvme/%s/serial", ctrl)), sum_back, before);
	munmap(buf, PATTERN_SIZE);
	munmap(back, PATTERN_SIZE);

	return 0;
}

/* net */

static char *net_name;

static bool net_there(void)
{
	net_name = child_of(format("%s/net", pci));
	return net_name;
}

static int cmd_net(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	struct pollfd pfd = { .events = POLLIN };
	struct ifreq ifr = {};
	char buf[4096], name[IFNAMSIZ];
	long end, count;

	if (!wait_for(net_there))
		return no("no network interface");
	snprintf(name, sizeof(name), "%s", net_name);

	/* RTMGRP_LINK: tells of the link */
	pfd.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (pfd.fd < 0 || bind(pfd.fd, (struct sockaddr *)&addr, sizeof(addr)))
		return no("netlink: %s", strerror(errno));

	memcpy(ifr.ifr_name, name, sizeof(name));
	ifr.ifr_flags = IFF_UP;
	if (ioctl(pfd.fd, SIOCSIFFLAGS, &ifr))
		return no("up: %s", strerror(errno));

	end = now() + WAIT_SECONDS;
	while (strcmp(read_file(format("/sys/class/net/%s/carrier", name)), "1")) {
		if (now() >= end || poll(&pfd, 1, (end - now()) * 1000) <= 0)
			return no("%s has no link", name);
		recv(pfd.fd, buf, sizeof(buf), 0);
	}

	count = irq_count(name);
	if (count <= 0)
		return no("%s has no interrupt", name);
	answer("ok %s link interrupts %ld\n",
	       read_file(format("/sys/class/net/%s/address", name)), count);

	ifr.ifr_flags = 0;
	ioctl(pfd.fd, SIOCSIFFLAGS, &ifr);
	close(pfd.fd);

	return 0;
}

/* edu, by its registers: there is no driver */

#define EDU_BAR 0x100000
#define EDU_BUFFER 0x40000
#define EDU_DMA_SIZE 2048

static uint64_t physical(void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (fd >= 0) {
		if (pread(fd, &entry, sizeof(entry),
			  (uintptr_t)addr / PAGE * sizeof(entry)) != sizeof(entry))
			entry = 0;
		close(fd);
	}

	/* Bit 63: it is in memory */
	return entry >> 63 ? (entry & ((1ULL << 55) - 1)) * PAGE : 0;
}

static void edu_dma(void *bar, uint64_t src, uint64_t dst, uint64_t flags)
{
	writeq(src, bar + 0x80);
	writeq(dst, bar + 0x88);
	writeq(EDU_DMA_SIZE, bar + 0x90);
	writeq(flags | 1, bar + 0x98);
	while (readq(bar + 0x98) & 1)
		;
}

static int cmd_edu(uint32_t seed)
{
	void *bar = bar_map(EDU_BAR), *src = pages(PAGE), *dst = pages(PAGE);

	if (!bar)
		return no("cannot map BAR 0: %s", strerror(errno));
	if ((readl(bar) & 0xffff) != 0xed)
		return no("identification %08x", readl(bar));
	writel(seed, bar + 4);
	if (readl(bar + 4) != ~seed)
		return no("liveness %08x", readl(bar + 4));
	/* 8! takes the device a moment. */
	writel(8, bar + 8);
	while (readl(bar + 0x20) & 1)
		;
	if (readl(bar + 8) != 40320)
		return no("factorial %u", readl(bar + 8));

	if (!physical(src) || !physical(dst))
		return no("physical address unknown");
	if (!command_set(COMMAND_MASTER, 0))
		return no("config space");
	fill(src, EDU_DMA_SIZE, seed);
	edu_dma(bar, physical(src), EDU_BUFFER, 0);
	edu_dma(bar, EDU_BUFFER, physical(dst), 2);
	if (memcmp(src, dst, EDU_DMA_SIZE))
		return no("dma checksum %08x, should be %08x", checksum(dst, EDU_DMA_SIZE),
		   checksum(src, EDU_DMA_SIZE));
	answer("ok dma checksum %08x\n", checksum(dst, EDU_DMA_SIZE));

	munmap(bar, EDU_BAR);
	munmap(src, PAGE);
	munmap(dst, PAGE);

	return 0;
}

/* Without its driver, which does not expect it */
static void driver_unbind(void)
{
	if (!access(format("%s/driver", pci), F_OK))
		write_file(format("%s/driver/unbind", pci), strrchr(pci, '/') + 1);
}

static int cmd_decode(void)
{
	uint32_t before, off, after;
	void *bar;

	driver_unbind();
	write_file(format("%s/enable", pci), "1");
	bar = bar_map(PAGE);
	if (!bar)
		return no("cannot map BAR 0: %s", strerror(errno));
	if (!command_set(COMMAND_MEMORY, 0))
		return no("config space");
	before = readl(bar);
	if (!command_set(0, COMMAND_MEMORY))
		return no("config space");
	off = readl(bar);
	if (!command_set(COMMAND_MEMORY, 0))
		return no("config space");
	after = readl(bar);
	munmap(bar, PAGE);

	/* What is read where nothing is depends on QEMU. */
	if (off == before || after != before)
		return no("BAR 0 reads %08x, %08x while decoding is off, then %08x", before,
		   off, after);
	write_file("/sys/bus/pci/drivers_probe", strrchr(pci, '/') + 1);
	answer("ok %08x\n", after);

	return 0;
}

static unsigned long long bar_address(void)
{
	unsigned long long address = config_read(BAR0);

	if (address & BAR_64)
		address |= (unsigned long long)config_read(BAR0 + 4) << 32;

	return address & ~0xfULL;
}

/* The kernel finds a place of its own for what the firmware has not set up. */
static int cmd_move(void)
{
	unsigned long long before, after;

	before = strtoull(read_file(format("%s/resource", pci)), NULL, 16);
	if (!before || before != bar_address())
		return no("BAR 0 is not where it should be");

	write_file(format("%s/remove", pci), "1");
	if (device_there())
		return no("cannot remove the device");
	write_file("/sys/bus/pci/rescan", "1");
	if (!wait_for(device_there))
		return no("the device does not come back");

	after = strtoull(read_file(format("%s/resource", pci)), NULL, 16);
	if (!after || after == before || bar_address() != after)
		return no("BAR 0 is at %llx by the kernel, at %llx by the device, was at %llx",
			  after, bar_address(), before);
	write_file(format("%s/enable", pci), "1");
	answer("ok %llx was %llx\n", after, before);

	return 0;
}

static int cmd_wait(bool (*done)(void))
{
	if (!wait_for(done))
		return no("that has not happened");
	answer("ok\n");

	return 0;
}

static void carry_out(char *line)
{
	char *word[4] = { "", "", "", "" }, *saved = NULL, *w;
	int n = 0;

	for (w = strtok_r(line, "\n ", &saved); w && n < 4;
	     w = strtok_r(NULL, "\n ", &saved))
		word[n++] = w;
	free(pci);
	pci = strdup(format(PCI_DEVICES "/0000:00:%s.0", word[1]));

	if (!strcmp(word[0], "nvme"))
		cmd_nvme(word[2], strtoul(word[3], NULL, 0));
	else if (!strcmp(word[0], "net"))
		cmd_net();
	else if (!strcmp(word[0], "edu"))
		cmd_edu(strtoul(word[2], NULL, 0));
	else if (!strcmp(word[0], "decode"))
		cmd_decode();
	else if (!strcmp(word[0], "move"))
		cmd_move();
	else if (!strcmp(word[0], "gone"))
		cmd_wait(device_gone);
	else if (!strcmp(word[0], "come"))
		cmd_wait(device_there);
	else if (!strcmp(word[0], "reboot"))
		reboot(RB_AUTOBOOT);
	else
		no("such command: %s", word[0]);
}

/* The drivers, which the kernel of the VM must not have: devices are for the tests. */
static bool load_drivers(void)
{
	static const char *const modules[] = { GUEST_MODULES };
	size_t i;

	for (i = 0; i < sizeof(modules) / sizeof(*modules); i++) {
		const char *path = format("/%s.ko", modules[i]);
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0)) {
			perror(path);
			return false;
		}
		close(fd);
	}
	return true;
}

int main(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	struct termios tio;
	char line[128];
	FILE *in;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("none", "/proc", "proc", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	mount("none", "/dev", "devtmpfs", 0, NULL);

	uevents = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC,
			 NETLINK_KOBJECT_UEVENT);
	bind(uevents, (struct sockaddr *)&addr, sizeof(addr));

	port = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
	if (port < 0 || tcgetattr(port, &tio)) {
		perror("/dev/ttyS1");
		return 1;
	}
	cfmakeraw(&tio);
	cfsetspeed(&tio, B115200);
	tcsetattr(port, TCSANOW, &tio);
	in = fdopen(dup(port), "r");

	if (!load_drivers())
		return 1;

	answer("ready\n");
	while (in && fgets(line, sizeof(line), in))
		carry_out(line);

	return 1;
}
