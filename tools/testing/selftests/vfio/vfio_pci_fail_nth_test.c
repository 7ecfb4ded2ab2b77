// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every allocation that fails while a BAR is exported and mapped
 *
 * Each case does one thing again and again, and lets the 1st, the 2nd, ...
 * allocation in it fail, until a run has so few that none fails. Proves that
 * what fails says ENOMEM and leaves no DMA-BUF behind, that a fault is served
 * in the end, that a revocation does not fail, and that nothing holds the device
 * when all is over: it can be unbound. What an unwind does wrong without that,
 * KASAN and lockdep tell.
 *
 * Does not fail allocations while a device is opened, nor within iommufd, which
 * has such a test of its own.
 *
 * Any device with a mappable BAR of two pages will do. The kernel needs
 * CONFIG_FAULT_INJECTION_DEBUG_FS, CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC. The
 * cases with an importer need the module vfio_selftest.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/dma-buf.h>
#include <linux/limits.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define DEBUGFS "/sys/kernel/debug"
#define MAX_FAULTS 300
#define NR_RANGES 3
#define NR_FENCES 3
#define LIMIT_SECONDS 10

static const char *device_bdf;
static size_t page_size;

/* Of the injectors: what to change, and what it was. */
static struct knob {
	const char *path;
	const char *value;
	char old[16];
} knobs[] = {
	/* Else nothing that may sleep is made to fail. */
	{ DEBUGFS "/failslab/ignore-gfp-wait", "N" },
	{ DEBUGFS "/fail_page_alloc/ignore-gfp-wait", "N" },
	{ DEBUGFS "/fail_page_alloc/min-order", "0" },
	/* Else each one writes a stack trace to the log. */
	{ DEBUGFS "/failslab/verbose", "0" },
	{ DEBUGFS "/fail_page_alloc/verbose", "0" },
};

static int file_swap(const char *path, const char *value, char *old, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret = 0;
	ssize_t len;

	if (fd < 0)
		return -errno;
	len = read(fd, old, size - 1);
	if (len < 0)
		ret = -errno;
	else
		old[len] = '\0';
	close(fd);
	if (ret)
		return ret;

	/* Not all of them can be written to at an offset, or read from again. */
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		ret = -errno;
	close(fd);

	return ret;
}

/* Return: 0, or -errno if the kernel cannot inject faults. */
static int knobs_set(void)
{
	int i, ret;

	for (i = 0; i < (int)ARRAY_SIZE(knobs); i++) {
		ret = file_swap(knobs[i].path, knobs[i].value, knobs[i].old,
				sizeof(knobs[i].old));
		if (ret)
			return ret;
	}

	return access("/proc/thread-self/fail-nth", W_OK) ? -errno : 0;
}

static void knobs_restore(void)
{
	char now[16];
	int i;

	for (i = 0; i < (int)ARRAY_SIZE(knobs) && *knobs[i].old; i++)
		file_swap(knobs[i].path, knobs[i].old, now, sizeof(now));
}

/* How many DMA-BUFs there are, -1 if the kernel does not tell. */
static int nr_dma_bufs(void)
{
	FILE *f = fopen(DEBUGFS "/dma_buf/bufinfo", "re");
	char line[512];
	int nr = -1;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		sscanf(line, "Total %d objects", &nr);
	fclose(f);

	return nr;
}

struct state {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	int fail_nth;
	int buffer;
	void *vaddr;
	int nr_ranges;
	/* Who is told to let go, and who then lets go, if anybody waits. */
	int importer;
	int told;
	int fences[NR_FENCES];
	pthread_t thread;
	bool done, waited;
};

FIXTURE(fail_nth) {
	struct state state;
};

FIXTURE_SETUP(fail_nth)
{
	struct state *state = &self->state;

	state->buffer = -1;
	state->importer = -1;
	state->vaddr = MAP_FAILED;
	state->iommu = iommu_init(MODE_IOMMUFD);
	state->device = vfio_pci_device_init(device_bdf, state->iommu);
	vfio_pci_bars_unmap(state->device);
	state->bar = vfio_pci_bar_find(state->device, 2 * page_size, false);
	if (state->bar < 0)
		SKIP(return, "%s has no mappable BAR of two pages\n", device_bdf);
	state->fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	ASSERT_GE(state->fail_nth, 0);
}

FIXTURE_TEARDOWN(fail_nth)
{
	struct state *state = &self->state;

	if (state->importer >= 0)
		close(state->importer);
	if (state->buffer >= 0)
		close(state->buffer);
	vfio_pci_device_cleanup(state->device);
	iommu_cleanup(state->iommu);
}

static void fail_nth_set(struct state *self, int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	VFIO_ASSERT_EQ(pwrite(self->fail_nth, text, len, 0), len);
}

/* Whether the allocation that was to fail has done so. Nothing fails after this. */
static bool fail_nth_hit(struct state *self)
{
	char text[16] = "";

	VFIO_ASSERT_GT(pread(self->fail_nth, text, sizeof(text) - 1, 0), 0);
	fail_nth_set(self, 0);

	return atoi(text) == 0;
}

typedef int (*op_t)(struct state *self);

/*
 * Let each allocation of @op fail in turn. @undo follows an @op that succeeded.
 *
 * Return: how many failed, or -1 if something was wrong, which was said.
 */
static int sweep(struct state *self, op_t op, op_t undo)
{
	int before = nr_dma_bufs(), nth, ret;
	bool hit;

	for (nth = 1; nth <= MAX_FAULTS; nth++) {
		fail_nth_set(self, nth);
		ret = op(self);
		hit = fail_nth_hit(self);

		if (!ret && undo)
			ret = undo(self);
		else if (hit && ret == -ENOMEM)
			ret = 0;
		if (ret) {
			ksft_print_msg("allocation %d, %s: %s\n", nth,
				       hit ? "which failed" : "of fewer",
				       strerror(-ret));
			return -1;
		}
		if (nr_dma_bufs() != before) {
			ksft_print_msg("allocation %d: %d DMA-BUFs, %d before\n",
				       nth, nr_dma_bufs(), before);
			return -1;
		}
		if (!hit)
			return nth - 1;
	}

	ksft_print_msg("no end after %d allocations\n", MAX_FAULTS);
	return -1;
}

static int op_export(struct state *self)
{
	struct {
		struct vfio_device_feature header;
		struct vfio_device_feature_dma_buf dma_buf;
		struct vfio_region_dma_range ranges[NR_RANGES];
	} args = {
		.header.argsz = sizeof(args),
		.header.flags = VFIO_DEVICE_FEATURE_GET |
				VFIO_DEVICE_FEATURE_DMA_BUF,
		.dma_buf.region_index = self->bar,
		.dma_buf.open_flags = O_RDWR | O_CLOEXEC,
		.dma_buf.nr_ranges = self->nr_ranges,
	};
	int i;

	/* No two of them are neighbours. */
	for (i = 0; i < self->nr_ranges; i++) {
		args.ranges[i].offset = (i & 1) * page_size;
		args.ranges[i].length = page_size;
	}
	if (self->nr_ranges > 1)
		args.ranges[0].offset = page_size;

	self->buffer = ioctl(self->device->fd, VFIO_DEVICE_FEATURE, &args);

	return self->buffer < 0 ? -errno : 0;
}

static int undo_export(struct state *self)
{
	int fd = self->buffer;

	self->buffer = -1;
	return close(fd) ? -errno : 0;
}

static int op_set_name(struct state *self)
{
	return ioctl(self->buffer, DMA_BUF_SET_NAME_B, "a name") ? -errno : 0;
}

static int op_bar_mmap(struct state *self)
{
	self->vaddr = __vfio_pci_bar_mmap(self->device, self->bar, 0, page_size,
					  PROT_READ);

	return self->vaddr == MAP_FAILED ? -errno : 0;
}

static int op_buffer_mmap(struct state *self)
{
	self->vaddr = __vfio_pci_dma_buf_mmap(self->buffer, 0, page_size,
					      PROT_READ);

	return self->vaddr == MAP_FAILED ? -errno : 0;
}

static int undo_mmap(struct state *self)
{
	return munmap(self->vaddr, page_size) ? -errno : 0;
}

static int op_fault(struct state *self)
{
	u32 val;

	return try_read32(self->vaddr, &val);
}

static int undo_fault(struct state *self)
{
	/* To a place where the page tables must be made anew. */
	static u64 place = 0x100000000000;
	int fd = self->buffer;
	u64 offset = 0;
	void *vaddr;

	if (self->vaddr != MAP_FAILED && munmap(self->vaddr, page_size))
		return -errno;
	if (fd < 0) {
		fd = self->device->fd;
		offset = vfio_pci_bar_pos(self->device, self->bar, 0);
	}
	place += 0x8000000000;
	vaddr = mmap((void *)place, page_size, PROT_READ,
		     MAP_SHARED | MAP_FIXED_NOREPLACE, fd, offset);
	if (vaddr == MAP_FAILED)
		return -errno;
	self->vaddr = vaddr;

	return 0;
}

static int op_revoke(struct state *self)
{
	return __vfio_pci_dma_buf_revoke(self->device, self->buffer);
}

/* A buffer with a mapping that was touched, instead of the one revoked. */
static int undo_revoke(struct state *self)
{
	u32 val;

	if (try_read32(self->vaddr, &val) != -EFAULT)
		return -EBUSY;
	munmap(self->vaddr, page_size);
	close(self->buffer);
	self->buffer = vfio_pci_dma_buf_export(self->device, self->bar, 0,
					       page_size);
	self->vaddr = vfio_pci_dma_buf_mmap(self->buffer, 0, page_size);

	return try_read32(self->vaddr, &val);
}

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/*
 * The importer is told, and the fences are collected, in one hold of the
 * reservation lock, which importer_told() takes: none is signalled too early.
 */
static void *let_go_thread(void *arg)
{
	struct state *self = arg;
	time_t end = now() + LIMIT_SECONDS;
	int i;

	while (importer_told(self->importer, NULL) == self->told && now() < end)
		sched_yield();
	/* Who does not wait is back by then. */
	usleep(20 * 1000);
	self->waited = !__atomic_load_n(&self->done, __ATOMIC_ACQUIRE);
	for (i = 0; i < NR_FENCES; i++)
		fence_signal(self->fences[i]);

	return NULL;
}

/* A mapping that was touched, and fences to wait for. */
static int let_go_start(struct state *self)
{
	u32 val;
	int i;

	self->done = false;
	self->told = importer_told(self->importer, NULL);
	for (i = 0; i < NR_FENCES; i++) {
		self->fences[i] = fence_create();
		fence_add(self->fences[i], self->buffer);
	}
	i = pthread_create(&self->thread, NULL, let_go_thread, self);

	return i ? -i : try_read32(self->vaddr, &val);
}

/* Return: -EBUSY if the importer was not told, not waited for, or something is left. */
static int let_go_end(struct state *self)
{
	u32 val;

	if (pthread_join(self->thread, NULL) || !self->waited ||
	    importer_told(self->importer, NULL) != self->told + 1 ||
	    try_read32(self->vaddr, &val) != -EFAULT)
		return -EBUSY;

	return 0;
}

/* It waits, but there is nothing that it could fail for. */
static int let_go_done(struct state *self, int ret)
{
	__atomic_store_n(&self->done, true, __ATOMIC_RELEASE);

	return ret == -ENOMEM ? -EIO : ret;
}

static int op_revoke_importer(struct state *self)
{
	return let_go_done(self, op_revoke(self));
}

/* Another buffer, with another importer. */
static int undo_revoke_importer(struct state *self)
{
	int ret = let_go_end(self);

	close(self->importer);
	if (!ret)
		ret = undo_revoke(self);
	self->importer = importer_create(device_bdf, self->buffer);

	return ret ?: let_go_start(self);
}

static int op_decode_off(struct state *self)
{
	return let_go_done(self, __vfio_pci_decode_set(self->device, false));
}

static int undo_decode_off(struct state *self)
{
	int ret = let_go_end(self) ?: __vfio_pci_decode_set(self->device, true);

	return ret ?: let_go_start(self);
}

TEST_F(fail_nth, export)
{
	struct state *state = &self->state;

	state->nr_ranges = 1;
	EXPECT_GT(sweep(state, op_export, undo_export), 0);
	state->nr_ranges = NR_RANGES;
	EXPECT_GT(sweep(state, op_export, undo_export), 0);
}

TEST_F(fail_nth, name)
{
	struct state *state = &self->state;

	state->buffer = vfio_pci_dma_buf_export(state->device, state->bar, 0,
						page_size);
	EXPECT_GT(sweep(state, op_set_name, NULL), 0);
}

/* The first mapping of a BAR, each time. */
TEST_F(fail_nth, bar_mmap)
{
	struct state *state = &self->state;

	EXPECT_GT(sweep(state, op_bar_mmap, undo_mmap), 0);
}

TEST_F(fail_nth, buffer_mmap)
{
	struct state *state = &self->state;

	state->buffer = vfio_pci_dma_buf_export(state->device, state->bar, 0,
						page_size);
	EXPECT_GT(sweep(state, op_buffer_mmap, undo_mmap), 0);
}

static void sweep_faults(struct __test_metadata *_metadata, struct state *state)
{
	ASSERT_EQ(0, undo_fault(state));
	EXPECT_GT(sweep(state, op_fault, undo_fault), 0);
	ASSERT_EQ(0, munmap(state->vaddr, page_size));
}

TEST_F(fail_nth, bar_fault)
{
	struct state *state = &self->state;

	sweep_faults(_metadata, state);
}

TEST_F(fail_nth, buffer_fault)
{
	struct state *state = &self->state;

	state->buffer = vfio_pci_dma_buf_export(state->device, state->bar, 0,
						page_size);
	sweep_faults(_metadata, state);
}

TEST_F(fail_nth, wc_fault)
{
	struct state *state = &self->state;

	state->buffer = vfio_pci_dma_buf_export(state->device, state->bar, 0,
						page_size);
	if (__vfio_pci_dma_buf_memattr_set(state->device, state->buffer,
					   VFIO_DMA_BUF_MEMATTR_WC))
		SKIP(return, "No write-combining here\n");
	sweep_faults(_metadata, state);
}

/* Without an importer there may be no allocation at all in it. */
TEST_F(fail_nth, revoke)
{
	struct state *state = &self->state;

	state->buffer = vfio_pci_dma_buf_export(state->device, state->bar, 0,
						page_size);
	state->vaddr = vfio_pci_dma_buf_mmap(state->buffer, 0, page_size);
	ASSERT_EQ(0, op_fault(state));
	EXPECT_GE(sweep(state, op_revoke, undo_revoke), 0);
	ASSERT_EQ(0, munmap(state->vaddr, page_size));
}

/*
 * To wait for several fences it takes memory to collect them. Without it they are
 * waited for all the same, and the revocation does not fail.
 */
static void sweep_importer(struct __test_metadata *_metadata, struct state *state,
			   op_t op, op_t undo)
{
	state->buffer = vfio_pci_dma_buf_export(state->device, state->bar, 0,
						page_size);
	state->vaddr = vfio_pci_dma_buf_mmap(state->buffer, 0, page_size);
	state->importer = importer_create(device_bdf, state->buffer);
	if (state->importer == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	ASSERT_EQ(0, let_go_start(state));
	EXPECT_GT(sweep(state, op, undo), 0);

	/* What the last one has prepared. */
	EXPECT_EQ(0, op(state));
	EXPECT_EQ(0, let_go_end(state));
	ASSERT_EQ(0, munmap(state->vaddr, page_size));
}

static int op_importer_map(struct state *self)
{
	return __importer_map(self->importer);
}

static int undo_importer_map(struct state *self)
{
	importer_unmap(self->importer);

	return 0;
}

/* What is left of a mapping that failed would be waited for. */
TEST_F(fail_nth, importer_map)
{
	struct state *state = &self->state;

	state->buffer = vfio_pci_dma_buf_export(state->device, state->bar, 0,
						page_size);
	state->importer = importer_create(device_bdf, state->buffer);
	if (state->importer == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	EXPECT_GT(sweep(state, op_importer_map, undo_importer_map), 0);
	EXPECT_EQ(0, __vfio_pci_decode_set(state->device, false));
	EXPECT_EQ(0, __vfio_pci_decode_set(state->device, true));
}

TEST_F(fail_nth, revoke_importer)
{
	sweep_importer(_metadata, &self->state, op_revoke_importer,
		       undo_revoke_importer);
}

TEST_F(fail_nth, decode_off_importer)
{
	sweep_importer(_metadata, &self->state, op_decode_off, undo_decode_off);
}

/* A reference that was not put makes this wait for ever. */
TEST(unbind)
{
	char *driver = sysfs_driver_get(device_bdf);

	ASSERT_NE(NULL, driver);
	sysfs_driver_set(device_bdf, driver);
	free(driver);
}

int main(int argc, char *argv[])
{
	int ret;

	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	page_size = getpagesize();

	ret = knobs_set();
	if (ret) {
		knobs_restore();
		ksft_exit_skip("This kernel cannot make allocations fail: %s\n",
			       strerror(-ret));
	}
	ret = test_harness_run(argc, argv);
	knobs_restore();

	return ret;
}
