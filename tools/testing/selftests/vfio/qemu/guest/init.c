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
 *   gone SLOT              wait until the device is not there
 *   there SLOT             wait until it is
 *   reboot
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
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

static __attribute__((format(printf, 1, 2))) void answer(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vdprintf(port, fmt, ap);
	va_end(ap);
}

/* Returns to the loop of commands, because each command does it last. */
#define no(fmt, ...) ({					\
	answer("no " fmt "\n", ##__VA_ARGS__);		\
	return;						\
})

static __attribute__((format(printf, 1, 2))) char *format(const char *fmt, ...)
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
static volatile void *bar_map(size_t size)
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
static long interrupts(const char *word)
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

static void nvme(const char *what, uint32_t seed)
{
	char *ctrl, *queues, *disk, *buf, *back;
	uint32_t sum, sum_back;
	long before;
	int fd;

	if (!wait_for(nvme_there))
		no("no disk: state %s", read_file("/sys/class/nvme/nvme0/state"));

	ctrl = child_of(format("%s/nvme", pci));
	queues = format("%sq", ctrl);
	disk = format("/dev/%sn1", ctrl);
	/* Not through the page cache */
	fd = open(disk, O_RDWR | O_DIRECT);
	if (fd < 0)
		no("%s: %s", disk, strerror(errno));

	buf = pages(PATTERN_SIZE);
	back = pages(PATTERN_SIZE);
	fill(buf, PATTERN_SIZE, seed);

	if (!strcmp(what, "storm")) {
		answer("ok\n");
		while (pwrite(fd, buf, PATTERN_SIZE, STORM_OFFSET) == PATTERN_SIZE)
			;
		no("storm: %s", strerror(errno));
	}

	before = interrupts(queues);
	if (!strcmp(what, "write") &&
	    (pwrite(fd, buf, PATTERN_SIZE, 0) != PATTERN_SIZE || fsync(fd)))
		no("write: %s", strerror(errno));
	if (pread(fd, back, PATTERN_SIZE, 0) != PATTERN_SIZE)
		no("read: %s", strerror(errno));
	before = interrupts(queues) - before;
	close(fd);

	sum = checksum(buf, PATTERN_SIZE);
	sum_back = checksum(back, PATTERN_SIZE);
	if (memcmp(buf, back, PATTERN_SIZE))
		no("checksum %08x, should be %08x", sum_back, sum);
	if (before <= 0)
		no("no interrupt");
	answer("ok model %s serial %s checksum %08x interrupts %ld\n",
	       read_file(format("/sys/class/nvme/%s/model", ctrl)),
	       read_file(format("/sys/class/nvme/%s/serial", ctrl)), sum_back, before);
	munmap(buf, PATTERN_SIZE);
	munmap(back, PATTERN_SIZE);
}

/* net */

static char *net_name;

static bool net_there(void)
{
	net_name = child_of(format("%s/net", pci));
	return net_name;
}

static void net(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	struct pollfd pfd = { .events = POLLIN };
	struct ifreq ifr = {};
	char buf[4096], name[IFNAMSIZ];
	long end, count;

	if (!wait_for(net_there))
		no("no network interface");
	snprintf(name, sizeof(name), "%s", net_name);

	/* RTMGRP_LINK: tells of the link */
	pfd.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (pfd.fd < 0 || bind(pfd.fd, (struct sockaddr *)&addr, sizeof(addr)))
		no("netlink: %s", strerror(errno));

	memcpy(ifr.ifr_name, name, sizeof(name));
	ifr.ifr_flags = IFF_UP;
	if (ioctl(pfd.fd, SIOCSIFFLAGS, &ifr))
		no("up: %s", strerror(errno));

	end = now() + WAIT_SECONDS;
	while (strcmp(read_file(format("/sys/class/net/%s/carrier", name)), "1")) {
		if (now() >= end || poll(&pfd, 1, (end - now()) * 1000) <= 0)
			no("%s has no link", name);
		recv(pfd.fd, buf, sizeof(buf), 0);
	}

	count = interrupts(name);
	if (count <= 0)
		no("%s has no interrupt", name);
	answer("ok %s link interrupts %ld\n",
	       read_file(format("/sys/class/net/%s/address", name)), count);

	ifr.ifr_flags = 0;
	ioctl(pfd.fd, SIOCSIFFLAGS, &ifr);
	close(pfd.fd);
}

/* edu, by its registers: there is no driver */

#define EDU_BAR (1 << 20)
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

static void edu_dma(volatile void *bar, uint64_t src, uint64_t dst, uint64_t flags)
{
	volatile uint64_t *dma = bar + 0x80;

	dma[0] = src;
	dma[1] = dst;
	dma[2] = EDU_DMA_SIZE;
	dma[3] = flags | 1;
	while (dma[3] & 1)
		;
}

static void edu(uint32_t seed)
{
	volatile uint32_t *reg = bar_map(EDU_BAR);
	void *src = pages(PAGE), *dst = pages(PAGE);

	if (!reg)
		no("cannot map BAR 0: %s", strerror(errno));
	if ((reg[0] & 0xffff) != 0xed)
		no("identification %08x", reg[0]);
	reg[1] = seed;
	if (reg[1] != ~seed)
		no("liveness %08x", reg[1]);
	/* 8! takes the device a moment. */
	reg[2] = 8;
	while (reg[8] & 1)
		;
	if (reg[2] != 40320)
		no("factorial %u", reg[2]);

	if (!physical(src) || !physical(dst))
		no("physical address unknown");
	if (!command_set(COMMAND_MASTER, 0))
		no("config space");
	fill(src, EDU_DMA_SIZE, seed);
	edu_dma(reg, physical(src), EDU_BUFFER, 0);
	edu_dma(reg, EDU_BUFFER, physical(dst), 2);
	if (memcmp(src, dst, EDU_DMA_SIZE))
		no("dma checksum %08x, should be %08x", checksum(dst, EDU_DMA_SIZE),
		   checksum(src, EDU_DMA_SIZE));
	answer("ok dma checksum %08x\n", checksum(dst, EDU_DMA_SIZE));

	munmap((void *)reg, EDU_BAR);
	munmap(src, PAGE);
	munmap(dst, PAGE);
}

/* Without its driver, which does not expect it */
static void driver_unbind(void)
{
	if (!access(format("%s/driver", pci), F_OK))
		write_file(format("%s/driver/unbind", pci), strrchr(pci, '/') + 1);
}

static void decode(void)
{
	volatile uint32_t *reg;
	uint32_t before, off, after;

	driver_unbind();
	write_file(format("%s/enable", pci), "1");
	reg = bar_map(PAGE);
	if (!reg)
		no("cannot map BAR 0: %s", strerror(errno));
	if (!command_set(COMMAND_MEMORY, 0))
		no("config space");
	before = reg[0];
	if (!command_set(0, COMMAND_MEMORY))
		no("config space");
	off = reg[0];
	if (!command_set(COMMAND_MEMORY, 0))
		no("config space");
	after = reg[0];
	munmap((void *)reg, PAGE);

	/* What is read where nothing is depends on QEMU. */
	if (off == before || after != before)
		no("BAR 0 reads %08x, %08x while decoding is off, then %08x", before,
		   off, after);
	write_file("/sys/bus/pci/drivers_probe", strrchr(pci, '/') + 1);
	answer("ok %08x\n", after);
}

static uint64_t bar_address(void)
{
	uint64_t address = config_read(BAR0);

	if (address & BAR_64)
		address |= (uint64_t)config_read(BAR0 + 4) << 32;

	return address & ~0xfULL;
}

/* The kernel finds a place of its own for what the firmware has not set up. */
static void move(void)
{
	uint64_t before, after;

	if (sscanf(read_file(format("%s/resource", pci)), "%" SCNx64, &before) != 1 ||
	    before != bar_address())
		no("BAR 0 is not where it should be");

	write_file(format("%s/remove", pci), "1");
	if (device_there())
		no("cannot remove the device");
	write_file("/sys/bus/pci/rescan", "1");
	if (!wait_for(device_there))
		no("the device does not come back");

	if (sscanf(read_file(format("%s/resource", pci)), "%" SCNx64, &after) != 1 ||
	    after == before || bar_address() != after)
		no("BAR 0 is at %" PRIx64 " by the kernel, at %" PRIx64
		   " by the device, was at %" PRIx64, after, bar_address(), before);
	write_file(format("%s/enable", pci), "1");
	answer("ok %" PRIx64 " was %" PRIx64 "\n", after, before);
}

static void carry_out(char *line)
{
	char *word[4] = { "", "", "", "" }, *saved = NULL, *w;
	int n = 0;

	for (w = strtok_r(line, " \n", &saved); w && n < 4;
	     w = strtok_r(NULL, " \n", &saved))
		word[n++] = w;
	free(pci);
	pci = strdup(format(PCI_DEVICES "/0000:00:%s.0", word[1]));

	if (!strcmp(word[0], "nvme"))
		nvme(word[2], strtoul(word[3], NULL, 0));
	else if (!strcmp(word[0], "net"))
		net();
	else if (!strcmp(word[0], "edu"))
		edu(strtoul(word[2], NULL, 0));
	else if (!strcmp(word[0], "decode"))
		decode();
	else if (!strcmp(word[0], "move"))
		move();
	else if (!strcmp(word[0], "gone"))
		answer(wait_for(device_gone) ? "ok\n" : "no still there\n");
	else if (!strcmp(word[0], "there"))
		answer(wait_for(device_there) ? "ok\n" : "no not there\n");
	else if (!strcmp(word[0], "reboot"))
		reboot(RB_AUTOBOOT);
	else
		answer("no such command: %s\n", word[0]);
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

	answer("ready\n");
	while (in && fgets(line, sizeof(line), in))
		carry_out(line);

	return 1;
}
