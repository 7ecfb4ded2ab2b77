// SPDX-License-Identifier: GPL-2.0-only
/*
 * One device's DMA to another one's BAR, through a DMA-BUF that iommufd imported
 *
 * The arguments are a device with a driver in libvfio, whose DMA engine does the
 * work, and a peer with a BAR that is memory. The data is looked at on both ends:
 * in memory, and in the BAR by read() and write() of the device fd, which have
 * nothing to do with the buffer.
 *
 * Each event that takes the BAR out of reach comes while the engine is writing to
 * it. Once the event has begun, nothing of that arrives: not what the engine goes
 * on with, which is other data, and not what was under way, where the BAR can be
 * overwritten meanwhile. The IOMMU says in the log of the kernel whom it stopped,
 * and where. What is read from there is not what is in the BAR. Then the same
 * buffer works again, unless the event was for good, and a new one does.
 *
 * The log is looked at with an Intel IOMMU. Its messages are limited in number,
 * so the engine tries again until there is one. Events that the peer says it is
 * not capable of are skipped. It is left to other tests what an event does to
 * mappings.
 *
 * Specification: 5.3, 7.1, 7.2, 7.7, 8.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/pci_regs.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

/* For what must come about: longer than the IOMMU may keep silent. */
#define LIMIT_SECONDS 15

/* Pages of the BAR: of these the middle ones are exported. */
#define NR_PAGES 4
#define FIRST_PAGE 1
#define EXPORTED_PAGES 2

#define DRIVER_IOVA SZ_1G
#define DATA_IOVA (DRIVER_IOVA + SZ_2M)
#define BAR_IOVA (DRIVER_IOVA + SZ_4M)

static char **device_bdfs;
static int nr_devices;
static size_t page_size;
static bool have_fault_log;

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Nowhere the same, and different for each @seed. */
static void fill(void *buf, size_t size, u32 seed)
{
	u32 *word = buf, i;

	for (i = 0; i < size / sizeof(*word); i++)
		word[i] = seed << 24 ^ i * 0x9e3779b1u;
}

static void bar_read(struct vfio_pci_device *device, int bar, u64 offset,
		     void *buf, size_t size)
{
	VFIO_ASSERT_EQ(pread(device->fd, buf, size,
			     vfio_pci_bar_pos(device, bar, offset)), size);
}

static void bar_write(struct vfio_pci_device *device, int bar, u64 offset,
		      const void *buf, size_t size)
{
	VFIO_ASSERT_EQ(pwrite(device->fd, buf, size,
			      vfio_pci_bar_pos(device, bar, offset)), size);
}

/* The messages of the kernel from now on. */
static int fault_log_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	VFIO_ASSERT_GE(fd, 0);
	VFIO_ASSERT_EQ(lseek(fd, 0, SEEK_END), 0);
	return fd;
}

/*
 * Whether there is a message that the IOMMU has kept the device from writing at
 * @iova. One on its way is waited for.
 */
static bool fault_log_find(int fd, const char *bdf, iova_t iova)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char line[1024], where[96];
	ssize_t len;

	snprintf_assert(where, sizeof(where), "device [%s] fault addr 0x%llx ",
			bdf, (unsigned long long)(iova & ~(page_size - 1)));

	while (poll(&pfd, 1, 100) > 0) {
		len = read(fd, line, sizeof(line) - 1);
		if (len < 0) {
			/* So many messages that some of them are gone */
			VFIO_ASSERT_EQ(errno, EPIPE);
			continue;
		}
		line[len] = '\0';
		if (strstr(line, "[DMA Write ") && strstr(line, where))
			return true;
	}

	return false;
}

struct p2p {
	struct iommu *iommu;
	struct vfio_pci_device *engine;
	struct vfio_pci_device *peer;
	struct dma_region data;
	int bar;
	int fd;
	int log;
	size_t size;		/* of a copy */

	/* In memory, as large as a copy */
	void *src;
	void *dst;

	/* Uses the engine until it is told to stop */
	pthread_t thread;
	bool stop;
};

static void region_map(struct iommu *iommu, struct dma_region *region,
		       iova_t iova, u64 size)
{
	region->vaddr = mmap(NULL, size, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(region->vaddr, MAP_FAILED);
	region->iova = iova;
	region->size = size;
	iommu_map(iommu, region);
}

static int buffer_map(struct p2p *p2p)
{
	return __iommu_map_dma_buf(p2p->iommu, p2p->fd,
				   EXPORTED_PAGES * page_size, BAR_IOVA);
}

static void buffer_unmap(struct p2p *p2p)
{
	VFIO_ASSERT_EQ(__iommu_unmap_dma_buf(p2p->iommu, BAR_IOVA,
					     EXPORTED_PAGES * page_size), 0);
}

static void buffer_export(struct p2p *p2p)
{
	p2p->fd = vfio_pci_dma_buf_export(p2p->peer, p2p->bar,
					  FIRST_PAGE * page_size,
					  EXPORTED_PAGES * page_size);
}

/* Where @offset of the buffer is in the BAR. */
static u64 bar_offset(u64 offset)
{
	return FIRST_PAGE * page_size + offset;
}

static int copy(struct p2p *p2p, iova_t src, iova_t dst)
{
	return vfio_pci_driver_memcpy(p2p->engine, src, dst, p2p->size);
}

FIXTURE(p2p) {
	struct p2p p2p;
};

FIXTURE_SETUP(p2p)
{
	struct p2p *p2p = &self->p2p;
	struct vfio_pci_driver *driver;

	p2p->iommu = iommu_init(MODE_IOMMUFD);
	p2p->engine = vfio_pci_device_init(device_bdfs[0], p2p->iommu);
	p2p->peer = vfio_pci_device_init(device_bdfs[1], p2p->iommu);
	vfio_pci_bars_unmap(p2p->peer);
	p2p->bar = vfio_pci_bar_find(p2p->peer, NR_PAGES * page_size, true);

	driver = &p2p->engine->driver;
	region_map(p2p->iommu, &driver->region, DRIVER_IOVA, SZ_2M);
	region_map(p2p->iommu, &p2p->data, DATA_IOVA, 2 * page_size);
	vfio_pci_driver_init(p2p->engine);
	p2p->size = min_t(u64, driver->max_memcpy_size, page_size);
	p2p->src = p2p->data.vaddr;
	p2p->dst = p2p->data.vaddr + page_size;

	buffer_export(p2p);
	ASSERT_EQ(0, buffer_map(p2p));
	p2p->log = fault_log_open();
}

FIXTURE_TEARDOWN(p2p)
{
	struct p2p *p2p = &self->p2p;

	close(p2p->log);
	close(p2p->fd);
	vfio_pci_device_cleanup(p2p->engine);
	if (p2p->peer)
		vfio_pci_device_cleanup(p2p->peer);
	iommu_cleanup(p2p->iommu);
}

/* Both ways, @offset into the buffer. */
static void expect_copies(struct __test_metadata *_metadata,
			  struct p2p *p2p, u64 offset, u32 seed)
{
	u8 *buf = calloc_assert(1, p2p->size);

	/* To the BAR ... */
	fill(p2p->src, p2p->size, seed);
	memset(buf, 0, p2p->size);
	bar_write(p2p->peer, p2p->bar, bar_offset(offset), buf, p2p->size);
	EXPECT_EQ(0, copy(p2p, to_iova(p2p->engine, p2p->src),
			  BAR_IOVA + offset));
	bar_read(p2p->peer, p2p->bar, bar_offset(offset), buf, p2p->size);
	EXPECT_EQ(0, memcmp(buf, p2p->src, p2p->size));

	/* ... and from it */
	fill(buf, p2p->size, seed + 1);
	bar_write(p2p->peer, p2p->bar, bar_offset(offset), buf, p2p->size);
	memset(p2p->dst, 0, p2p->size);
	EXPECT_EQ(0, copy(p2p, BAR_IOVA + offset,
			  to_iova(p2p->engine, p2p->dst)));
	EXPECT_EQ(0, memcmp(buf, p2p->dst, p2p->size));

	free(buf);
}

/*
 * The engine does not get what is in the BAR, @secret, by the address that the
 * buffer had; what it gets instead is up to it. Whether it gets anything there
 * is for the caller to see.
 */
static void expect_no_copies(struct __test_metadata *_metadata,
			     struct p2p *p2p, const void *secret)
{
	copy(p2p, to_iova(p2p->engine, p2p->src), BAR_IOVA);
	memset(p2p->dst, 0xa5, p2p->size);
	copy(p2p, BAR_IOVA, to_iova(p2p->engine, p2p->dst));
	EXPECT_NE(0, memcmp(secret, p2p->dst, p2p->size));
}

/* The log says that what the engine writes at @iova is stopped. */
static void expect_fault(struct __test_metadata *_metadata,
			 struct p2p *p2p, iova_t iova)
{
	time_t end = now() + LIMIT_SECONDS;

	if (!have_fault_log) {
		TH_LOG("No log of an Intel IOMMU that says what it stops");
		return;
	}
	while (!fault_log_find(p2p->log, p2p->engine->bdf, iova)) {
		ASSERT_LT(now(), end);
		copy(p2p, to_iova(p2p->engine, p2p->src), iova);
	}
}

TEST_F(p2p, contents)
{
	struct p2p *p2p = &self->p2p;
	size_t i, size = NR_PAGES * page_size;
	u8 *before = calloc_assert(1, size), *after = calloc_assert(1, size);
	u64 offsets[] = { 0, page_size, page_size - p2p->size / 2,
			  EXPORTED_PAGES * page_size - p2p->size };

	fill(before, size, 1);
	bar_write(p2p->peer, p2p->bar, 0, before, size);
	for (i = 0; i < ARRAY_SIZE(offsets); i++)
		expect_copies(_metadata, p2p, offsets[i], 10 + 2 * i);

	/* What is around the buffer in the BAR is as it was. */
	bar_read(p2p->peer, p2p->bar, 0, after, size);
	EXPECT_EQ(0, memcmp(before, after, bar_offset(0)));
	i = bar_offset(EXPORTED_PAGES * page_size);
	EXPECT_EQ(0, memcmp(before + i, after + i, size - i));

	/* From one place of it to another */
	EXPECT_EQ(0, copy(p2p, BAR_IOVA, BAR_IOVA + page_size));
	bar_read(p2p->peer, p2p->bar, 0, after, size);
	EXPECT_EQ(0, memcmp(after + bar_offset(0), after + bar_offset(page_size),
			    p2p->size));

	free(before);
	free(after);
}

/* Next to the buffer there is nothing. */
TEST_F(p2p, outside)
{
	struct p2p *p2p = &self->p2p;
	iova_t iova = BAR_IOVA + EXPORTED_PAGES * page_size;
	u64 offset = bar_offset(EXPORTED_PAGES * page_size);
	u8 *before = calloc_assert(1, p2p->size);
	u8 *after = calloc_assert(1, p2p->size);

	fill(before, p2p->size, 1);
	bar_write(p2p->peer, p2p->bar, offset, before, p2p->size);
	fill(p2p->src, p2p->size, 2);
	copy(p2p, to_iova(p2p->engine, p2p->src), iova);
	expect_fault(_metadata, p2p, iova);
	bar_read(p2p->peer, p2p->bar, offset, after, p2p->size);
	EXPECT_EQ(0, memcmp(before, after, p2p->size));

	free(before);
	free(after);
}

/* Events */

static int event_decode(struct p2p *p2p)
{
	return __vfio_pci_decode_set(p2p->peer, false);
}

static void undo_decode(struct p2p *p2p)
{
	vfio_pci_decode_set(p2p->peer, true);
}

static int event_d3hot(struct p2p *p2p)
{
	return __vfio_pci_power_state_set(p2p->peer, 3);
}

static void undo_d3hot(struct p2p *p2p)
{
	VFIO_ASSERT_EQ(__vfio_pci_power_state_set(p2p->peer, 0), 0);
}

static int event_low_power(struct p2p *p2p)
{
	return __vfio_pci_low_power_enter(p2p->peer, -1);
}

static void undo_low_power(struct p2p *p2p)
{
	VFIO_ASSERT_EQ(__vfio_pci_low_power_exit(p2p->peer), 0);
}

static int event_device_reset(struct p2p *p2p)
{
	return __vfio_pci_reset(p2p->peer);
}

static int event_hot_reset(struct p2p *p2p)
{
	return __vfio_pci_hot_reset(p2p->peer);
}

static int event_flr(struct p2p *p2p)
{
	return __vfio_pci_flr(p2p->peer);
}

static int event_sysfs_reset(struct p2p *p2p)
{
	return __sysfs_reset(p2p->peer->bdf);
}

static int event_revoke(struct p2p *p2p)
{
	return __vfio_pci_dma_buf_revoke(p2p->peer, p2p->fd);
}

static int event_close(struct p2p *p2p)
{
	vfio_pci_device_cleanup(p2p->peer);
	p2p->peer = NULL;
	return 0;
}

static void undo_close(struct p2p *p2p)
{
	p2p->peer = vfio_pci_device_init(device_bdfs[1], p2p->iommu);
	vfio_pci_bars_unmap(p2p->peer);
}

struct event {
	int (*begin)(struct p2p *p2p);
	void (*end)(struct p2p *p2p);	/* NULL if it is over by itself */
	bool dark;	/* Until its end the device fd does not reach the BAR either */
	bool for_good;
};

static void *storm_thread(void *arg)
{
	struct p2p *p2p = arg;

	while (!__atomic_load_n(&p2p->stop, __ATOMIC_RELAXED))
		copy(p2p, to_iova(p2p->engine, p2p->src), BAR_IOVA);

	return NULL;
}

/* Returns when some of the data has arrived. */
static void storm_start(struct __test_metadata *_metadata,
			struct p2p *p2p)
{
	u8 *buf = calloc_assert(1, p2p->size);
	time_t end = now() + LIMIT_SECONDS;

	bar_write(p2p->peer, p2p->bar, bar_offset(0), buf, p2p->size);
	fill(p2p->src, p2p->size, 1);
	p2p->stop = false;
	VFIO_ASSERT_EQ(pthread_create(&p2p->thread, NULL, storm_thread, p2p), 0);

	do {
		bar_read(p2p->peer, p2p->bar, bar_offset(0), buf, p2p->size);
	} while (memcmp(buf, p2p->src, p2p->size) && now() < end);
	EXPECT_EQ(0, memcmp(buf, p2p->src, p2p->size));

	free(buf);
}

static void try_event(struct __test_metadata *_metadata,
		      struct p2p *p2p, const struct event *event)
{
	u8 *before = calloc_assert(1, p2p->size);
	u8 *after = calloc_assert(1, p2p->size);

	storm_start(_metadata, p2p);

	/*
	 * What the engine begins to copy from here on is new. What it has begun
	 * is what is in the BAR: to see that arrive, have something else there.
	 */
	memcpy(before, p2p->src, p2p->size);
	ASSERT_EQ(0, event->begin(p2p));
	if (!event->dark) {
		fill(before, p2p->size, 7);
		bar_write(p2p->peer, p2p->bar, bar_offset(0), before, p2p->size);
	}
	fill(p2p->src, p2p->size, 2);
	__atomic_store_n(&p2p->stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(p2p->thread, NULL));

	expect_no_copies(_metadata, p2p, before);
	expect_fault(_metadata, p2p, BAR_IOVA);
	if (event->end)
		event->end(p2p);
	bar_read(p2p->peer, p2p->bar, bar_offset(0), after, p2p->size);
	EXPECT_EQ(0, memcmp(before, after, p2p->size));

	/* By itself nothing comes back. */
	expect_no_copies(_metadata, p2p, before);
	bar_read(p2p->peer, p2p->bar, bar_offset(0), after, p2p->size);
	EXPECT_EQ(0, memcmp(before, after, p2p->size));

	buffer_unmap(p2p);
	if (event->for_good) {
		EXPECT_EQ(-ENODEV, buffer_map(p2p));
	} else {
		ASSERT_EQ(0, buffer_map(p2p));
		expect_copies(_metadata, p2p, 0, 3);
		buffer_unmap(p2p);
	}

	close(p2p->fd);
	buffer_export(p2p);
	ASSERT_EQ(0, buffer_map(p2p));
	expect_copies(_metadata, p2p, page_size, 5);

	free(before);
	free(after);
}

/*
 * What the peer is capable of, by what it says. Whether it is done is for the
 * event to show: one that fails must not be taken for one that cannot be.
 */

static bool can_d3hot(struct vfio_pci_device *device)
{
	return vfio_pci_cap_find(device, PCI_CAP_ID_PM);
}

/* VFIO has tried it when the device was opened. */
static bool can_reset(struct vfio_pci_device *device)
{
	return device->info.flags & VFIO_DEVICE_FLAGS_RESET;
}

static bool can_flr(struct vfio_pci_device *device)
{
	u16 pos = vfio_pci_cap_find(device, PCI_CAP_ID_EXP);

	if (pos && vfio_pci_config_readl(device, pos + PCI_EXP_DEVCAP) &
	    PCI_EXP_DEVCAP_FLR)
		return true;

	pos = vfio_pci_cap_find(device, PCI_CAP_ID_AF);
	return pos && vfio_pci_config_readb(device, pos + PCI_AF_CAP) &
	       PCI_AF_CAP_FLR;
}

/* There is a slot or a bus to reset, and nobody else has anything there. */
static bool can_hot_reset(struct vfio_pci_device *device)
{
	struct vfio_pci_hot_reset_info *info;
	size_t size = sizeof(*info) + 256 * sizeof(info->devices[0]);
	bool can;

	info = calloc_assert(1, size);
	info->argsz = size;
	can = !ioctl(device->fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info);
	if (!can)
		VFIO_ASSERT_EQ(errno, ENODEV);
	can = can && info->flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
	free(info);

	return can;
}

TEST_F(p2p, decode)
{
	try_event(_metadata, &self->p2p, &(struct event) {
		.begin = event_decode,
		.end = undo_decode,
		.dark = true,
	});
}

TEST_F(p2p, d3hot)
{
	if (!can_d3hot(self->p2p.peer))
		SKIP(return, "%s has no power management\n", device_bdfs[1]);
	try_event(_metadata, &self->p2p, &(struct event) {
		.begin = event_d3hot,
		.end = undo_d3hot,
		.dark = true,
	});
}

/* An access by the device fd wakes the peer, which is not the end of it. */
TEST_F(p2p, low_power)
{
	try_event(_metadata, &self->p2p, &(struct event) {
		.begin = event_low_power,
		.end = undo_low_power,
	});
}

TEST_F(p2p, device_reset)
{
	if (!can_reset(self->p2p.peer))
		SKIP(return, "%s cannot be reset\n", device_bdfs[1]);
	try_event(_metadata, &self->p2p, &(struct event) {
		.begin = event_device_reset,
	});
}

TEST_F(p2p, hot_reset)
{
	if (!can_hot_reset(self->p2p.peer))
		SKIP(return, "%s has no hot reset\n", device_bdfs[1]);
	try_event(_metadata, &self->p2p, &(struct event) {
		.begin = event_hot_reset,
	});
}

TEST_F(p2p, flr)
{
	if (!can_flr(self->p2p.peer))
		SKIP(return, "%s has no FLR\n", device_bdfs[1]);
	try_event(_metadata, &self->p2p, &(struct event) {
		.begin = event_flr,
	});
}

TEST_F(p2p, sysfs_reset)
{
	if (!can_reset(self->p2p.peer))
		SKIP(return, "%s has no reset in sysfs\n", device_bdfs[1]);
	try_event(_metadata, &self->p2p, &(struct event) {
		.begin = event_sysfs_reset,
	});
}

TEST_F(p2p, revoke)
{
	try_event(_metadata, &self->p2p, &(struct event) {
		.begin = event_revoke,
		.for_good = true,
	});
}

TEST_F(p2p, close)
{
	try_event(_metadata, &self->p2p, &(struct event) {
		.begin = event_close,
		.end = undo_close,
		.dark = true,
		.for_good = true,
	});
}

/* Whether the two are what the test is about. */
static void check_devices(void)
{
	struct vfio_pci_device *engine, *peer;
	struct iommu *iommu = iommu_init(MODE_IOMMUFD);
	int fd;

	engine = vfio_pci_device_init(device_bdfs[0], iommu);
	if (!engine->driver.ops)
		ksft_exit_skip("No driver found for device %s\n", device_bdfs[0]);
	peer = vfio_pci_device_init(device_bdfs[1], iommu);
	vfio_pci_bars_unmap(peer);
	if (vfio_pci_bar_find(peer, NR_PAGES * page_size, true) < 0)
		ksft_exit_skip("%s has no BAR of %d pages that is memory\n",
			       device_bdfs[1], NR_PAGES);
	vfio_pci_device_cleanup(peer);
	vfio_pci_device_cleanup(engine);
	iommu_cleanup(iommu);

	fd = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);
	have_fault_log = fd >= 0 && !access("/sys/class/iommu/dmar0", F_OK);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char *argv[])
{
	device_bdfs = vfio_selftests_get_bdfs(&argc, argv, &nr_devices);
	page_size = getpagesize();
	if (nr_devices != 2)
		ksft_exit_skip("Takes a device that does DMA, and one with a BAR that is memory\n");
	check_devices();

	return test_harness_run(argc, argv);
}
