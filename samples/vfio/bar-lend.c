// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lend one page of a BAR to another process, and take it back.
 *
 * The owner opens a VFIO device, exports a page of a BAR as a DMA-BUF, and
 * hands that over a UNIX socket to a client.  The client is another user, has
 * no right to /dev/vfio, and sees nothing of the device but this page, for as
 * long as the owner lets it.  README.rst shows how to run it, and
 * Documentation/driver-api/vfio-pci-bar-access.rst explains what happens.
 *
 * usage: bar-lend [-g] [-w] [-b BAR] [-o OFFSET] [-u UID] DDDD:BB:DD.F
 *
 *  -b BAR     the BAR to lend a page of [the largest one that can be mapped]
 *  -o OFFSET  where that page is in the BAR [0, with -w the second page]
 *  -w         the BAR is plain memory, so write to the page and its neighbours
 *             [only if the device is a RAM controller, and -b is not given]
 *  -g         open the device through its group, even if it has a cdev
 *  -u UID     whom the client runs as [65534, nobody]
 *
 * The device must be bound to vfio-pci and is reset if it can be.  If the BAR is
 * not memory, only the 32-bit word at OFFSET is read: take one that can be.
 *
 * Exit status: 0 if everything was as it should be, 1 if not, 2 wrong usage.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/compiler.h>
#include <linux/iommufd.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/pci_regs.h>
#include <linux/types.h>
#include <linux/vfio.h>

#define SYSFS_DEVICES	"/sys/bus/pci/devices"
#define CLASS_RAM	0x0500	/* of PCI: memory controller, RAM */

#define ANSWER_SECONDS	120	/* until the other process is given up */
#define BURST		4096	/* accesses between two looks at the socket */
#define BUSY_BURSTS	4	/* until the client calls itself busy */

/* In the page that is lent, if it is memory */
#define GREETING_OFFSET	0
#define REPLY_OFFSET	64
#define COUNT_OFFSET	128
#define TEXT_SIZE	64

#define GREETING	"from the owner: this page is yours, for now"
#define REPLY		"from the client: thank you"

/* What the two tell each other */
enum what {
	MSG_NONE,
	MSG_OPENED,	/* owner: I opened the device */
	MSG_ASK,	/* client: I want a buffer; value: count so far */
	MSG_LEND,	/* owner: here it is; with the fd; value: is it memory */
	MSG_REPLIED,	/* client: I wrote into the page */
	MSG_BUSY,	/* client: I am at work; value: count, or what is read */
	MSG_RESET,	/* owner: the device was reset */
	MSG_RESUMED,	/* client: I went on after that; value: count */
	MSG_CLOSED,	/* owner: I closed the device */
};

struct message {
	u32 what;
	u64 value;
};

struct owner {
	const char *bdf;
	int iommu;		/* iommufd or container */
	int group;		/* -1 with a cdev */
	int device;
	int socket;
	u32 bar;
	u64 offset;	/* of the page in the BAR */
	bool memory;		/* the BAR is plain memory */
	u32 count;		/* in the page, when it was taken back */
	struct vfio_device_info info;
	struct vfio_region_info region;
	u32 *page;	/* the owner's own mapping of it */
};

struct client {
	int socket;
	int buffer;
	bool memory;
	u32 *page;
	/* Changed between sigsetjmp() and siglongjmp(), so by WRITE_ONCE() */
	u64 count;
	u32 word;
};

static struct timespec start_time;
static const char *role = "owner";
static size_t page_size;

static long long us_since_start(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start_time.tv_sec) * 1000000LL +
	       (now.tv_nsec - start_time.tv_nsec) / 1000;
}

static void __printf(1, 2) say(const char *fmt, ...)
{
	long long us = us_since_start();
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* One write(), so that the lines of the two do not mix */
	dprintf(STDOUT_FILENO, "%6lld.%03lld ms  %-6s  %s\n", us / 1000,
		us % 1000, role, text);
}

static void __noreturn __printf(1, 2) die(const char *fmt, ...)
{
	char text[480];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say("FAILED: %s", text);
	exit(1);
}

/*
 * The BAR may be mapped as device memory, which takes aligned accesses of a
 * register's size: memcpy() and its kind are not for it.
 */
static void write_text(u32 *page, size_t offset, const char *text)
{
	u32 words[TEXT_SIZE / sizeof(u32)] = {};
	size_t i;

	memcpy(words, text, strnlen(text, TEXT_SIZE - 1));
	for (i = 0; i < ARRAY_SIZE(words); i++)
		WRITE_ONCE(page[offset / sizeof(u32) + i], words[i]);
}

static void read_text(const u32 *page, size_t offset,
		      char text[TEXT_SIZE])
{
	u32 words[TEXT_SIZE / sizeof(u32)];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = READ_ONCE(page[offset / sizeof(u32) + i]);
	memcpy(text, words, TEXT_SIZE);
	text[TEXT_SIZE - 1] = '\0';
}

/* A message, and the fd of a buffer with it unless that is negative */
static void send_message(int socket, enum what what, u64 value, int fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct message message = { .what = what, .value = value };
	struct iovec iov = {
		.iov_base = &message,
		.iov_len = sizeof(message),
	};
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
	}

	if (sendmsg(socket, &msg, MSG_NOSIGNAL) != sizeof(message))
		die("sendmsg: %s", strerror(errno));
}

/* MSG_NONE if MSG_DONTWAIT is among @flags and nothing came */
static enum what receive_message(int socket, int flags, u64 *value,
				 int *fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct message message;
	struct iovec iov = {
		.iov_base = &message,
		.iov_len = sizeof(message),
	};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header;
	ssize_t len;

	len = recvmsg(socket, &msg, flags | MSG_CMSG_CLOEXEC);
	if (len < 0 && errno == EAGAIN && flags & MSG_DONTWAIT)
		return MSG_NONE;
	if (!len || (len < 0 && errno == ECONNRESET))
		die("the other process has gone");
	if (len != sizeof(message))
		die("recvmsg: %s", errno == EAGAIN ? "no answer" :
		    strerror(errno));

	header = CMSG_FIRSTHDR(&msg);
	if (header && header->cmsg_type == SCM_RIGHTS && fd)
		memcpy(fd, CMSG_DATA(header), sizeof(int));
	if (value)
		*value = message.value;

	return message.what;
}

static u64 expect_message(int socket, enum what what, int *fd)
{
	enum what got;
	u64 value;

	got = receive_message(socket, 0, &value, fd);
	if (got != what)
		die("message %d came instead of %d", got, what);

	return value;
}

/* A file of the device in sysfs, as a number */
static unsigned long read_sysfs(const char *bdf, const char *name)
{
	unsigned long value = 0;
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), SYSFS_DEVICES "/%s/%s", bdf, name);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%lx", &value) != 1)
		die("%s: %s", path, strerror(errno));
	fclose(file);

	return value;
}

/* True and the node's path if the device has a cdev. */
static bool find_cdev(const char *bdf, char *node, size_t size)
{
	char path[PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), SYSFS_DEVICES "/%s/vfio-dev", bdf);
	dir = opendir(path);
	if (!dir)
		die("%s: %s: is the device bound to vfio-pci?", path,
		    strerror(errno));
	while (!found && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "vfio", 4))
			continue;
		snprintf(node, size, "/dev/vfio/devices/%s", entry->d_name);
		found = !access(node, F_OK);
	}
	closedir(dir);

	return found && !access("/dev/iommu", F_OK);
}

static void find_group(const char *bdf, char *node, size_t size)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t len;

	snprintf(path, sizeof(path), SYSFS_DEVICES "/%s/iommu_group", bdf);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		die("%s: %s", path, strerror(errno));
	target[len] = '\0';
	snprintf(node, size, "/dev/vfio/%s", strrchr(target, '/') + 1);
}

static int open_node(const char *node)
{
	int fd = open(node, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("%s: %s", node, strerror(errno));

	return fd;
}

static void open_cdev(struct owner *owner, const char *node)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };

	owner->group = -1;
	owner->iommu = open_node("/dev/iommu");

	owner->device = open_node(node);

	bind.iommufd = owner->iommu;
	if (ioctl(owner->device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		die("%s: VFIO_DEVICE_BIND_IOMMUFD: %s", node, strerror(errno));
}

static void open_group(struct owner *owner, const char *node)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };

	owner->iommu = open_node("/dev/vfio/vfio");

	owner->group = open_node(node);
	if (ioctl(owner->group, VFIO_GROUP_GET_STATUS, &status))
		die("%s: VFIO_GROUP_GET_STATUS: %s", node, strerror(errno));
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("%s: another device of the group is in use", node);

	if (ioctl(owner->group, VFIO_GROUP_SET_CONTAINER, &owner->iommu))
		die("%s: VFIO_GROUP_SET_CONTAINER: %s", node, strerror(errno));
	if (ioctl(owner->iommu, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("VFIO_SET_IOMMU: %s", strerror(errno));

	owner->device = ioctl(owner->group, VFIO_GROUP_GET_DEVICE_FD,
			      owner->bdf);
	if (owner->device < 0)
		die("%s: VFIO_GROUP_GET_DEVICE_FD: %s", owner->bdf,
		    strerror(errno));
}

/* False if there is no such BAR, or none that can be mapped. */
static bool get_bar(struct owner *owner, u32 bar,
		    struct vfio_region_info *region)
{
	memset(region, 0, sizeof(*region));
	region->argsz = sizeof(*region);
	region->index = VFIO_PCI_BAR0_REGION_INDEX + bar;
	if (ioctl(owner->device, VFIO_DEVICE_GET_REGION_INFO, region))
		die("VFIO_DEVICE_GET_REGION_INFO of BAR %u: %s", bar,
		    strerror(errno));

	return region->flags & VFIO_REGION_INFO_FLAG_MMAP &&
	       region->size >= page_size;
}

static void choose_page(struct owner *owner, long bar, long long offset)
{
	struct vfio_region_info region;
	u64 largest = 0;
	u32 i;

	for (i = 0; i < PCI_STD_NUM_BARS && bar < 0; i++) {
		if (get_bar(owner, i, &region) && region.size > largest) {
			largest = region.size;
			owner->bar = i;
		}
	}
	if (bar < 0 && !largest)
		die("%s has no BAR that can be mapped", owner->bdf);
	if (bar >= 0)
		owner->bar = bar;
	if (!get_bar(owner, owner->bar, &owner->region))
		die("BAR %u cannot be mapped", owner->bar);

	if (offset >= 0)
		owner->offset = offset;
	else if (owner->memory && owner->region.size > page_size)
		owner->offset = page_size;

	if (owner->offset % page_size ||
	    owner->offset > owner->region.size - page_size)
		die("BAR %u has no page at 0x%llx", owner->bar,
		    (unsigned long long)owner->offset);
}

static void enable_memory(struct owner *owner)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	u16 command;

	if (ioctl(owner->device, VFIO_DEVICE_GET_REGION_INFO, &config))
		die("VFIO_DEVICE_GET_REGION_INFO of the config space: %s",
		    strerror(errno));
	if (pread(owner->device, &command, sizeof(command),
		  config.offset + PCI_COMMAND) != sizeof(command))
		die("reading the command register: %s", strerror(errno));
	/* PCI is little endian, and so are both of its bytes that matter here */
	((u8 *)&command)[0] |= PCI_COMMAND_MEMORY;
	if (pwrite(owner->device, &command, sizeof(command),
		   config.offset + PCI_COMMAND) != sizeof(command))
		die("writing the command register: %s", strerror(errno));
}

/* A page of the BAR through the device fd: what only the owner can do */
static u32 *map_own(struct owner *owner, u64 offset)
{
	void *page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			  owner->device, owner->region.offset + offset);

	if (page == MAP_FAILED)
		die("mmap of BAR %u at 0x%llx: %s", owner->bar,
		    (unsigned long long)offset, strerror(errno));

	return page;
}

/* Write to the pages before and after the lent one, or check what is there */
static void mark_neighbours(struct owner *owner, bool check)
{
	u64 offsets[] = {
		owner->offset - page_size,
		owner->offset + page_size,
	};
	u32 *page, mark;
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		/* Less than zero is large */
		if (offsets[i] > owner->region.size - page_size)
			continue;

		page = map_own(owner, offsets[i]);
		for (j = 0; j < page_size / sizeof(*page); j++) {
			mark = offsets[i] + j;
			if (!check)
				WRITE_ONCE(page[j], mark);
			else if (READ_ONCE(page[j]) != mark)
				die("the page at 0x%llx has changed",
				    (unsigned long long)offsets[i]);
		}
		munmap(page, page_size);
	}
}

/* Any VFIO_DEVICE_FEATURE: what the ioctl() returns, or -errno */
static int device_feature(int device, u32 flags, const void *data,
			  size_t size)
{
	size_t argsz = sizeof(struct vfio_device_feature) + size;
	struct vfio_device_feature *feature;
	int ret;

	feature = calloc(1, argsz);
	if (!feature)
		die("out of memory");
	feature->argsz = argsz;
	feature->flags = flags;
	if (size)
		memcpy(feature->data, data, size);

	ret = ioctl(device, VFIO_DEVICE_FEATURE, feature);
	if (ret < 0)
		ret = -errno;
	free(feature);

	return ret;
}

/* The fd of a new buffer over one range of a BAR, or -errno */
static int export_range(int device, u32 bar, u64 offset,
			u64 length)
{
	struct {
		struct vfio_device_feature_dma_buf dma_buf;
		struct vfio_region_dma_range range;
	} export = {
		.dma_buf.region_index = VFIO_PCI_BAR0_REGION_INDEX + bar,
		.dma_buf.open_flags = O_RDWR | O_CLOEXEC,
		.dma_buf.nr_ranges = 1,
		.range.offset = offset,
		.range.length = length,
	};

	return device_feature(device, VFIO_DEVICE_FEATURE_GET |
			      VFIO_DEVICE_FEATURE_DMA_BUF, &export,
			      sizeof(export));
}

/* Whoever has this buffer, by whatever fd, loses it.  0 or -errno */
static int revoke_buffer(int device, int buffer)
{
	struct vfio_device_feature_dma_buf_revoke revoke = {
		.dmabuf_fd = buffer,
	};

	return device_feature(device, VFIO_DEVICE_FEATURE_SET |
			      VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE, &revoke,
			      sizeof(revoke));
}

/* NULL if the buffer was revoked for good, or its device closed */
static u32 *map_buffer(int buffer)
{
	void *page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			  buffer, 0);

	if (page == MAP_FAILED && errno == ENODEV)
		return NULL;
	if (page == MAP_FAILED)
		die("mmap of the buffer: %s", strerror(errno));

	return page;
}

/* SIGBUS on the page that is worked on ends the work, any other kills. */
static sigjmp_buf work_ends;
static u32 *work_page;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	char *page = (char *)READ_ONCE(work_page), *addr = info->si_addr;

	if (page && addr >= page && addr < page + page_size)
		siglongjmp(work_ends, 1);
	signal(sig, SIG_DFL);
}

/* One access after the other; false if SIGBUS came, after client->count */
static bool work_for_a_while(struct client *client)
{
	const size_t counter = COUNT_OFFSET / sizeof(u32);
	u32 *page = client->page;
	u64 count;
	int i;

	if (sigsetjmp(work_ends, 1)) {
		WRITE_ONCE(work_page, NULL);
		return false;
	}

	WRITE_ONCE(work_page, page);
	for (i = 0; i < BURST; i++) {
		count = client->count + 1;
		if (client->memory) {
			WRITE_ONCE(page[counter], count);
			if (READ_ONCE(page[counter]) != (u32)count)
				die("the page does not hold what was written");
		} else {
			WRITE_ONCE(client->word, READ_ONCE(page[0]));
		}
		WRITE_ONCE(client->count, count);
	}
	WRITE_ONCE(work_page, NULL);

	return true;
}

static void get_buffer(struct client *client)
{
	send_message(client->socket, MSG_ASK, client->count, -1);
	client->buffer = -1;
	client->memory = expect_message(client->socket, MSG_LEND,
					&client->buffer);
	if (client->buffer < 0)
		die("no fd came with the message");

	client->page = map_buffer(client->buffer);
	if (!client->page)
		die("the new buffer is revoked already");
	say("got fd %d of %lld bytes, mapped it", client->buffer,
	    (long long)lseek(client->buffer, 0, SEEK_END));
}

static void drop_buffer(struct client *client)
{
	munmap(client->page, page_size);
	close(client->buffer);
}

/* Work, with a message when it is under way, until SIGBUS comes. */
static void work_until_sigbus(struct client *client)
{
	int bursts = 0;

	say("works on it");
	while (work_for_a_while(client)) {
		if (++bursts == BUSY_BURSTS)
			send_message(client->socket, MSG_BUSY, client->memory ?
				     client->count : client->word, -1);
		/* Nothing is expected, but the owner may be gone */
		if (receive_message(client->socket, MSG_DONTWAIT, NULL, NULL))
			die("a message came instead of SIGBUS");
	}
	say("SIGBUS, after %llu accesses", (unsigned long long)client->count);
}

/* Work across a reset of the device, with the mapping that there is. */
static void work_across_reset(struct client *client)
{
	u32 *page;
	u64 before;
	int bursts = 0;

	say("works on it");
	while (work_for_a_while(client)) {
		if (++bursts == BUSY_BURSTS)
			send_message(client->socket, MSG_BUSY, client->memory ?
				     client->count : client->word, -1);
		/* A reset can be so short that no access hits it */
		switch (receive_message(client->socket, MSG_DONTWAIT, NULL,
					NULL)) {
		case MSG_NONE:
			continue;
		case MSG_RESET:
			goto go_on;
		default:
			die("an unexpected message came");
		}
	}

	say("SIGBUS, after %llu accesses", (unsigned long long)client->count);
	page = map_buffer(client->buffer);
	if (!page)
		die("a reset has revoked the buffer for good");
	munmap(page, page_size);
	say("mmap still works: this is not for good, waits for the owner");
	expect_message(client->socket, MSG_RESET, NULL);

go_on:
	before = client->count;
	if (!work_for_a_while(client))
		die("SIGBUS, although the reset is over");
	say("went on with the same mapping, %llu accesses so far",
	    (unsigned long long)client->count);
	send_message(client->socket, MSG_RESUMED, client->count - before, -1);
}

/* Everything here has to fail. */
static void try_to_reach_beyond(struct client *client)
{
	const struct {
		const char *what;
		size_t length;
		off_t offset;
		int flags, error;
	} tries[] = {
		{ "two pages", 2 * page_size, 0, MAP_SHARED, EINVAL },
		{ "the page behind", page_size, page_size, MAP_SHARED, EINVAL },
		{ "a private copy", page_size, 0, MAP_PRIVATE, EINVAL },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tries); i++) {
		if (mmap(NULL, tries[i].length, PROT_READ | PROT_WRITE,
			 tries[i].flags, client->buffer,
			 tries[i].offset) != MAP_FAILED)
			die("mmap of %s worked", tries[i].what);
		if (errno != tries[i].error)
			die("mmap of %s: %s", tries[i].what, strerror(errno));
		say("mmap of %s: %s", tries[i].what, strerror(errno));
	}

	if (mremap(client->page, page_size, 2 * page_size,
		   MREMAP_MAYMOVE) != MAP_FAILED)
		die("mremap to two pages worked");
	say("mremap to two pages: %s", strerror(errno));
}

static void become_user(struct client *client, uid_t uid, const char *node)
{
	if (geteuid()) {
		say("runs as the same user: only root can start another one");
		return;
	}
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
	    setresuid(uid, uid, uid))
		die("becoming user %u: %s", uid, strerror(errno));

	say("runs as user %u", getuid());
	if (open(node, O_RDWR | O_CLOEXEC) >= 0)
		die("%s can be opened by this user, too", node);
	say("open of %s: %s", node, strerror(errno));
}

static int run_client(int socket, uid_t uid, const char *node)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO,
	};
	struct client client = { .socket = socket };
	char text[TEXT_SIZE];

	role = "client";
	sigaction(SIGBUS, &action, NULL);
	expect_message(socket, MSG_OPENED, NULL);
	become_user(&client, uid, node);

	get_buffer(&client);
	if (client.memory) {
		read_text(client.page, GREETING_OFFSET, text);
		say("reads in it: \"%s\"", text);
		if (strcmp(text, GREETING))
			die("that is not what the owner wrote");
		write_text(client.page, REPLY_OFFSET, REPLY);
		send_message(socket, MSG_REPLIED, 0, -1);
	}
	try_to_reach_beyond(&client);

	work_until_sigbus(&client);
	if (map_buffer(client.buffer))
		die("a revoked buffer can be mapped");
	say("mmap: %s: this is for good, asks again", strerror(ENODEV));
	drop_buffer(&client);

	get_buffer(&client);
	work_across_reset(&client);

	expect_message(socket, MSG_CLOSED, NULL);
	if (work_for_a_while(&client))
		die("the page can be reached after the device was closed");
	if (map_buffer(client.buffer))
		die("a buffer of a closed device can be mapped");
	say("SIGBUS, mmap: %s: the device is gone", strerror(ENODEV));
	drop_buffer(&client);

	return 0;
}

static u32 read_count(struct owner *owner)
{
	return READ_ONCE(owner->page[COUNT_OFFSET / sizeof(u32)]);
}

/* Nothing but the access that SIGBUS stopped may be off. */
static void check_count(struct owner *owner, u32 client)
{
	u32 count = read_count(owner);

	if (count != owner->count)
		die("the count went from %u to %u after the page was taken back",
		    owner->count, count);
	if (count != client && count != client + 1)
		die("the client wrote %u, but %u is in the page", client,
		    count);
}

/* Wait for the client to ask, and give it a buffer of its own. */
static int lend(struct owner *owner)
{
	u64 value;
	int buffer;

	value = expect_message(owner->socket, MSG_ASK, NULL);
	if (owner->memory)
		check_count(owner, value);

	buffer = export_range(owner->device, owner->bar, owner->offset,
			      page_size);
	if (buffer < 0)
		die("VFIO_DEVICE_FEATURE_DMA_BUF of BAR %u at 0x%llx: %s",
		    owner->bar, (unsigned long long)owner->offset,
		    strerror(-buffer));
	say("lends the page at 0x%llx of BAR %u, as fd %d",
	    (unsigned long long)owner->offset, owner->bar, buffer);
	send_message(owner->socket, MSG_LEND, owner->memory, buffer);

	return buffer;
}

static void wait_until_busy(struct owner *owner)
{
	u64 value = expect_message(owner->socket, MSG_BUSY, NULL);

	if (!owner->memory) {
		say("reads 0x%08x there, the client 0x%08x",
		    READ_ONCE(owner->page[0]), (u32)value);
		return;
	}
	if (read_count(owner) < value)
		die("the client wrote %llu, but %u is in the page",
		    (unsigned long long)value, read_count(owner));
	say("sees the client count in the page: %u", read_count(owner));
}

static void take_back(struct owner *owner, int buffer)
{
	long long start, end;
	int ret;

	say("revokes the buffer");
	start = us_since_start();
	ret = revoke_buffer(owner->device, buffer);
	if (ret)
		die("VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE: %s", strerror(-ret));

	end = us_since_start();
	if (owner->memory) {
		owner->count = read_count(owner);
		say("revoked it in %lld us, the count stopped at %u",
		    end - start, owner->count);
	} else {
		say("revoked it in %lld us", end - start);
	}

	ret = revoke_buffer(owner->device, buffer);
	if (ret != -EBADFD)
		die("revoked it a second time: %s", strerror(-ret));
	close(buffer);
}

/* The device is out of reach for all, until it is through */
static void reset_device(struct owner *owner)
{
	long long start = us_since_start();

	if (!(owner->info.flags & VFIO_DEVICE_FLAGS_RESET)) {
		say("cannot reset this device, goes on without");
	} else {
		say("resets the device");
		if (ioctl(owner->device, VFIO_DEVICE_RESET))
			die("VFIO_DEVICE_RESET: %s", strerror(errno));
		say("reset it in %lld us", us_since_start() - start);
	}
	send_message(owner->socket, MSG_RESET, 0, -1);
	expect_message(owner->socket, MSG_RESUMED, NULL);
}

static void close_device(struct owner *owner)
{
	munmap(owner->page, page_size);
	close(owner->device);
	if (owner->group >= 0)
		close(owner->group);
	close(owner->iommu);
	say("closed the device");
	send_message(owner->socket, MSG_CLOSED, 0, -1);
}

static void open_device(struct owner *owner, const char *node, bool group)
{
	int ret;

	if (group)
		open_group(owner, node);
	else
		open_cdev(owner, node);
	say("opened %s through %s, %s", owner->bdf, node,
	    group ? "group and container" : "cdev and iommufd");

	owner->info.argsz = sizeof(owner->info);
	if (ioctl(owner->device, VFIO_DEVICE_GET_INFO, &owner->info))
		die("VFIO_DEVICE_GET_INFO: %s", strerror(errno));
	if (!(owner->info.flags & VFIO_DEVICE_FLAGS_PCI))
		die("%s is not a PCI device", owner->bdf);

	ret = device_feature(owner->device, VFIO_DEVICE_FEATURE_PROBE |
			     VFIO_DEVICE_FEATURE_GET |
			     VFIO_DEVICE_FEATURE_DMA_BUF, NULL, 0);
	if (ret)
		die("no BAR can be exported here: VFIO_DEVICE_FEATURE_DMA_BUF: %s",
		    strerror(-ret));
	ret = device_feature(owner->device, VFIO_DEVICE_FEATURE_PROBE |
			     VFIO_DEVICE_FEATURE_SET |
			     VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE, NULL, 0);
	if (ret)
		die("this kernel cannot take a BAR back: VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE: %s",
		    strerror(-ret));
}

static void run_owner(struct owner *owner)
{
	char text[TEXT_SIZE];
	int buffer;

	send_message(owner->socket, MSG_OPENED, 0, -1);
	if (owner->memory) {
		mark_neighbours(owner, false);
		write_text(owner->page, GREETING_OFFSET, GREETING);
		WRITE_ONCE(owner->page[COUNT_OFFSET / sizeof(u32)], owner->count);
	}

	buffer = lend(owner);
	if (owner->memory) {
		expect_message(owner->socket, MSG_REPLIED, NULL);
		read_text(owner->page, REPLY_OFFSET, text);
		say("reads in it: \"%s\"", text);
		if (strcmp(text, REPLY))
			die("that is not what the client wrote");
	}
	wait_until_busy(owner);
	take_back(owner, buffer);

	buffer = lend(owner);
	wait_until_busy(owner);
	reset_device(owner);

	if (owner->memory) {
		mark_neighbours(owner, true);
		say("finds nothing changed around the page");
	}

	close_device(owner);
	close(buffer);
}

static void __noreturn wrong_usage(void)
{
	fprintf(stderr,
		"usage: bar-lend [-g] [-w] [-b BAR] [-o OFFSET] [-u UID] DDDD:BB:DD.F\n");
	exit(2);
}

static long long parse_number(const char *text)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 0);
	if (errno || *end || end == text || value < 0)
		wrong_usage();

	return value;
}

int main(int argc, char *argv[])
{
	const struct timeval timeout = { .tv_sec = ANSWER_SECONDS };
	struct owner owner = {};
	long long bar = -1, offset = -1;
	bool group = false;
	char node[PATH_MAX];
	uid_t uid = 65534;
	int sockets[2];
	int opt, status, i;
	pid_t pid;

	while ((opt = getopt(argc, argv, "gwb:o:u:")) != -1) {
		switch (opt) {
		case 'g':
			group = true;
			break;
		case 'w':
			owner.memory = true;
			break;
		case 'b':
			bar = parse_number(optarg);
			break;
		case 'o':
			offset = parse_number(optarg);
			break;
		case 'u':
			uid = parse_number(optarg);
			break;
		default:
			wrong_usage();
		}
	}
	if (optind != argc - 1 || bar >= PCI_STD_NUM_BARS)
		wrong_usage();
	owner.bdf = argv[optind];

	clock_gettime(CLOCK_MONOTONIC, &start_time);
	page_size = sysconf(_SC_PAGESIZE);

	if (!group)
		group = !find_cdev(owner.bdf, node, sizeof(node));
	if (group)
		find_group(owner.bdf, node, sizeof(node));
	if (bar < 0 && read_sysfs(owner.bdf, "class") >> 8 == CLASS_RAM)
		owner.memory = true;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		die("socketpair: %s", strerror(errno));
	for (i = 0; i < 2; i++) {
		if (setsockopt(sockets[i], SOL_SOCKET, SO_RCVTIMEO, &timeout,
			       sizeof(timeout)))
			die("SO_RCVTIMEO: %s", strerror(errno));
	}

	/* Before the device is opened, so that nothing of it is inherited */
	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (!pid) {
		close(sockets[0]);
		return run_client(sockets[1], uid, node);
	}
	close(sockets[1]);
	owner.socket = sockets[0];

	open_device(&owner, node, group);
	enable_memory(&owner);
	choose_page(&owner, bar, offset);
	owner.page = map_own(&owner, owner.offset);
	run_owner(&owner);

	if (waitpid(pid, &status, 0) != pid || status)
		die("the client did not end well");
	say("done");

	return 0;
}
