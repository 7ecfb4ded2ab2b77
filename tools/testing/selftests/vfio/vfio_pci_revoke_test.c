// SPDX-License-Identifier: GPL-2.0-only
/*
 * What takes the BARs of a device out of reach, and what gives them back
 *
 * Each event is looked at from all that can reach a BAR: a mapping of the device
 * fd, a mapping of an exported DMA-BUF, and iommufd as an importer of one.
 *
 *   what there was before the event has been taken away by it, even if the BAR
 *     is back when the event is over: a mapping has to fault its page in again,
 *     the IOMMU does not translate what was imported;
 *   while the BAR is out of reach an access raises SIGBUS, and what could be
 *     imported cannot;
 *   afterwards all of it works, and only then: the end of one event does not
 *     end another that is still going on.
 *
 * read(), write() and ioeventfds, which need no mapping, wait for the end of a
 * reset, and do not get through otherwise.
 *
 * Events that the device lacks (resets, power states) are skipped. So are cases
 * on an importer alone if the IOMMU does not tell what it translates. With a
 * second device of the same set (on the same bus) as another argument, that one
 * is watched while the first is reset.
 *
 * That a hot reset revokes after the device is in D0 (D15) can be seen from D1
 * only, because D3hot has revoked everything already.
 *
 * Cases on a command write that fails, on importers that do not let go, leave
 * nothing behind, or count what they are told, and on D1 need the module
 * vfio_selftest. Those on errors need aer_inject, and a device behind a port that
 * reports errors; if there is a second device, that must be behind the same one.
 * That on trace events needs those of vfio-pci. O_PATH references (D11) prove
 * something only with KASAN and SLUB_RCU_DEBUG in the kernel, the lock order (D12)
 * with lockdep, on a device with ATS and FLR.
 *
 * Specification: 5.3, 5.4, 6.3, 6.7, 7.1 to 7.3, 7.5 to 7.7, 7.9, 10.
 * Defects: D3, D4, D7, D8, D10 to D16, D19, D21, D23.
 */
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/futex.h>
#include <linux/limits.h>
#include <linux/membarrier.h>
#include <linux/pci_regs.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

/* The most that anything which has to come about by itself may take. */
#define LIMIT_SECONDS 10

#define IOVA SZ_1G

static char **device_bdfs;
static int nr_devices;
static char *device_driver;
static size_t page_size;
static pid_t main_pid;

/* Tried once, because some devices take seconds to find that they cannot. */
static bool have_hot_reset, have_bus_reset;

enum way { DEVICE_FD, EXPORTED, IMPORTER };

/* One way to reach a page of a BAR. */
struct view {
	enum way way;
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	int fd;			/* of the DMA-BUF, -1 without */
	void *vaddr;		/* NULL if not mapped */
	iova_t iova;
};

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void view_export(struct view *view)
{
	view->fd = vfio_pci_dma_buf_export(view->device, view->bar, 0, page_size);
}

/* Begin to use it. */
static int view_use(struct view *view)
{
	if (view->way == IMPORTER)
		return __iommu_map_dma_buf(view->iommu, view->fd, page_size,
					   view->iova);

	if (view->way == EXPORTED)
		view->vaddr = vfio_pci_dma_buf_mmap(view->fd, 0, page_size);
	else
		view->vaddr = vfio_pci_bar_mmap(view->device, view->bar, 0,
						page_size);

	return 0;
}

static void view_unuse(struct view *view)
{
	if (view->way == IMPORTER) {
		VFIO_ASSERT_EQ(__iommu_unmap_dma_buf(view->iommu, view->iova,
						     page_size), 0);
	} else if (view->vaddr) {
		VFIO_ASSERT_EQ(munmap(view->vaddr, page_size), 0);
		view->vaddr = NULL;
	}
}

static bool view_open(struct view *view, enum way way, struct iommu *iommu,
		      struct vfio_pci_device *device)
{
	*view = (struct view) {
		.way = way,
		.iommu = iommu,
		.device = device,
		.fd = -1,
		.iova = IOVA,
	};

	view->bar = vfio_pci_bar_find(device, page_size, true);
	if (view->bar < 0)
		view->bar = vfio_pci_bar_find(device, page_size, false);

	return view->bar >= 0;
}

/* It does not translate, nor begins to when a device is attached again. */
static void expect_importer_stopped(struct __test_metadata *_metadata,
				    struct view *view, const char *bdf)
{
	int ret = iommu_translates(bdf, view->iova);

	if (ret != -EOPNOTSUPP)
		EXPECT_EQ(0, ret);
}

/* In use, nothing has been taken away: no fault, the IOMMU translates. */
static void expect_established(struct __test_metadata *_metadata,
			       struct view *view)
{
	long faults;
	u32 val;
	int ret;

	if (view->way == IMPORTER) {
		ret = iommu_translates(view->device->bdf, view->iova);
		if (ret != -EOPNOTSUPP)
			EXPECT_EQ(1, ret);
		return;
	}

	EXPECT_EQ(0, try_read32_faults(view->vaddr, &val, &faults));
	EXPECT_EQ(0, faults);
}

static void expect_revoked(struct __test_metadata *_metadata, struct view *view)
{
	u32 val;

	if (view->way == IMPORTER) {
		expect_importer_stopped(_metadata, view, view->device->bdf);
		EXPECT_EQ(-ENODEV, __iommu_map_dma_buf(view->iommu, view->fd,
						       page_size,
						       view->iova + SZ_2M));
		return;
	}

	EXPECT_EQ(-EFAULT, try_read32(view->vaddr, &val));
	EXPECT_EQ(-EFAULT, try_read32(view->vaddr + page_size - 4, &val));
}

/*
 * Usable, but by a fault, or a new import: what there was is gone.
 *
 * A reset of another function may have left the device alone, which is for the
 * caller to know.
 */
static void expect_restored(struct __test_metadata *_metadata, struct view *view)
{
	long faults;
	u32 val;
	int ret;

	if (view->way == IMPORTER) {
		expect_importer_stopped(_metadata, view, view->device->bdf);
		view_unuse(view);
		EXPECT_EQ(0, view_use(view));
		ret = iommu_translates(view->device->bdf, view->iova);
		if (ret != -EOPNOTSUPP)
			EXPECT_EQ(1, ret);
		return;
	}

	EXPECT_EQ(0, try_read32_faults(view->vaddr, &val, &faults));
	EXPECT_EQ(1, faults);
	expect_established(_metadata, view);
}

FIXTURE(revoke) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	struct view view;
};

FIXTURE_VARIANT(revoke) {
	enum way way;
};

FIXTURE_VARIANT_ADD(revoke, device_fd) {
	.way = DEVICE_FD,
};

FIXTURE_VARIANT_ADD(revoke, exported) {
	.way = EXPORTED,
};

FIXTURE_VARIANT_ADD(revoke, importer) {
	.way = IMPORTER,
};

FIXTURE_SETUP(revoke)
{
	u32 val;

	self->iommu = iommu_init(MODE_IOMMUFD);
	self->device = vfio_pci_device_init(device_bdfs[0], self->iommu);
	vfio_pci_bars_unmap(self->device);

	if (!view_open(&self->view, variant->way, self->iommu, self->device))
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdfs[0]);
	if (variant->way != DEVICE_FD)
		view_export(&self->view);
	ASSERT_EQ(0, view_use(&self->view));
	if (variant->way != IMPORTER)
		ASSERT_EQ(0, try_read32(self->view.vaddr, &val));
	if (variant->way == IMPORTER &&
	    iommu_translates(device_bdfs[0], IOVA) == -EOPNOTSUPP)
		SKIP(return, "The IOMMU does not tell what it translates\n");
	expect_established(_metadata, &self->view);
}

FIXTURE_TEARDOWN(revoke)
{
	if (self->device)
		vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

TEST_F(revoke, decode)
{
	int i;

	for (i = 0; i < 3; i++) {
		vfio_pci_decode_set(self->device, false);
		expect_revoked(_metadata, &self->view);
		/* Once more changes nothing. */
		vfio_pci_decode_set(self->device, false);
		expect_revoked(_metadata, &self->view);

		vfio_pci_decode_set(self->device, true);
		expect_restored(_metadata, &self->view);
		vfio_pci_decode_set(self->device, true);
		expect_established(_metadata, &self->view);
	}
}

/* The low byte is enough, and the high byte is none of its business. */
TEST_F(revoke, decode_bytes)
{
	u8 low = vfio_pci_config_readb(self->device, PCI_COMMAND);
	u8 high = vfio_pci_config_readb(self->device, PCI_COMMAND + 1);

	vfio_pci_config_writeb(self->device, PCI_COMMAND + 1, high);
	expect_established(_metadata, &self->view);

	vfio_pci_config_writeb(self->device, PCI_COMMAND, low & ~PCI_COMMAND_MEMORY);
	expect_revoked(_metadata, &self->view);
	vfio_pci_config_writeb(self->device, PCI_COMMAND + 1, high);
	expect_revoked(_metadata, &self->view);
	vfio_pci_config_writeb(self->device, PCI_COMMAND, low | PCI_COMMAND_MEMORY);
	expect_restored(_metadata, &self->view);
}

/* Resets. Each is tried with decoding on, and with decoding off. */
static void try_reset(struct __test_metadata *_metadata, struct view *view,
		      int (*reset)(struct view *view))
{
	/* What was there is gone, but comes back. */
	ASSERT_EQ(0, reset(view));
	expect_restored(_metadata, view);

	/* It does not turn decoding on. */
	vfio_pci_decode_set(view->device, false);
	expect_revoked(_metadata, view);
	ASSERT_EQ(0, reset(view));
	expect_revoked(_metadata, view);
	vfio_pci_decode_set(view->device, true);
	expect_restored(_metadata, view);

	ASSERT_EQ(0, reset(view));
	expect_restored(_metadata, view);
}

static int do_device_reset(struct view *view)
{
	return __vfio_pci_reset(view->device);
}

static int do_hot_reset(struct view *view)
{
	if (!have_hot_reset)
		return -ENODEV;
	return __vfio_pci_hot_reset(view->device);
}

static int do_sysfs_reset(struct view *view)
{
	return __sysfs_reset(view->device->bdf);
}

static int do_flr(struct view *view)
{
	return __vfio_pci_flr(view->device);
}

TEST_F(revoke, device_reset)
{
	if (!(self->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "%s cannot be reset\n", device_bdfs[0]);

	try_reset(_metadata, &self->view, do_device_reset);
}

TEST_F(revoke, hot_reset)
{
	if (!have_hot_reset)
		SKIP(return, "%s has no hot reset\n", device_bdfs[0]);

	try_reset(_metadata, &self->view, do_hot_reset);
}

/* D14: not by way of VFIO. */
TEST_F(revoke, sysfs_reset)
{
	int ret = __sysfs_reset(device_bdfs[0]);

	if (ret)
		SKIP(return, "%s has no reset in sysfs: %s\n", device_bdfs[0],
		     strerror(-ret));

	expect_restored(_metadata, &self->view);
	try_reset(_metadata, &self->view, do_sysfs_reset);
}

/* D14, by the port above: that of all devices on the bus. */
static int do_bus_reset(struct view *view)
{
	return have_bus_reset ? __sysfs_bus_reset(view->device->bdf) : -ENODEV;
}

TEST_F(revoke, bus_reset)
{
	if (!have_bus_reset)
		SKIP(return, "%s has no port that resets its bus\n",
		     device_bdfs[0]);

	try_reset(_metadata, &self->view, do_bus_reset);
}

TEST_F(revoke, flr)
{
	if (__vfio_pci_flr(self->device) == -ENODEV)
		SKIP(return, "%s has no FLR\n", device_bdfs[0]);

	expect_restored(_metadata, &self->view);
	try_reset(_metadata, &self->view, do_flr);
}

struct reset_loop {
	struct view *view;
	int ret;
	bool stop;
};

static void *reset_loop_thread(void *arg)
{
	struct reset_loop *loop = arg;

	while (!loop->ret && !__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE))
		loop->ret = do_device_reset(loop->view);

	return NULL;
}

/* What the kernel does for a user: copy from a mapping, import once more. */
static int copy_or_import(struct view *view, const int *fds)
{
	const iova_t iova = view->iova + SZ_2M;
	u32 val;
	int ret;

	if (view->way == IMPORTER) {
		ret = __iommu_map_dma_buf(view->iommu, view->fd, page_size, iova);
		if (!ret)
			VFIO_ASSERT_EQ(__iommu_unmap_dma_buf(view->iommu, iova,
							     page_size), 0);
		return ret;
	}

	ret = write(fds[1], view->vaddr, sizeof(val));
	if (ret < 0)
		return -errno;
	VFIO_ASSERT_EQ(ret, sizeof(val));
	VFIO_ASSERT_EQ(read(fds[0], &val, sizeof(val)), ret);

	return 0;
}

/*
 * A user waits for the end of a reset, a copy that the kernel makes for one does
 * not: that may hold what the reset has to take. Nor does an import.
 */
TEST_F(revoke, reset_copy)
{
	int expected = variant->way == IMPORTER ? -ENODEV : -EFAULT;
	struct reset_loop loop = { .view = &self->view };
	time_t end = now() + LIMIT_SECONDS;
	pthread_t thread;
	int fds[2], ret;

	if (do_device_reset(&self->view))
		SKIP(return, "%s cannot be reset\n", device_bdfs[0]);

	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(0, pthread_create(&thread, NULL, reset_loop_thread, &loop));
	do {
		ret = copy_or_import(&self->view, fds);
	} while (!ret && now() < end);
	EXPECT_EQ(expected, ret);

	__atomic_store_n(&loop.stop, true, __ATOMIC_RELEASE);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_EQ(0, loop.ret);
	EXPECT_EQ(0, copy_or_import(&self->view, fds));
	ASSERT_EQ(0, close(fds[0]));
	ASSERT_EQ(0, close(fds[1]));
}

/* Several in a row, none of which may spoil the next. */
TEST_F(revoke, resets_mixed)
{
	int (* const resets[])(struct view *view) = {
		do_device_reset, do_hot_reset, do_sysfs_reset, do_bus_reset, do_flr,
	};
	struct view *view = &self->view;
	bool any = false;
	int i, j;

	for (i = 0; i < 2; i++) {
		for (j = 0; j < ARRAY_SIZE(resets); j++) {
			if (resets[j](view))
				continue;
			any = true;
			vfio_pci_decode_set(self->device, false);
			expect_revoked(_metadata, &self->view);
			vfio_pci_decode_set(self->device, true);
			expect_restored(_metadata, &self->view);
		}
	}
	if (!any)
		SKIP(return, "%s cannot be reset\n", device_bdfs[0]);
}

TEST_F(revoke, d3hot)
{
	int i;

	if (__vfio_pci_power_state_set(self->device, 0))
		SKIP(return, "%s has no power management\n", device_bdfs[0]);
	/* That was where it is. */
	if (self->view.way != IMPORTER)
		expect_established(_metadata, &self->view);

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, __vfio_pci_power_state_set(self->device, 3));
		expect_revoked(_metadata, &self->view);
		/* Decoding makes no difference there. */
		vfio_pci_decode_set(self->device, false);
		expect_revoked(_metadata, &self->view);
		vfio_pci_decode_set(self->device, true);
		expect_revoked(_metadata, &self->view);

		ASSERT_EQ(0, __vfio_pci_power_state_set(self->device, 0));
		expect_restored(_metadata, &self->view);
	}

	/* Off on the way there, off on the way back. */
	vfio_pci_decode_set(self->device, false);
	ASSERT_EQ(0, __vfio_pci_power_state_set(self->device, 3));
	ASSERT_EQ(0, __vfio_pci_power_state_set(self->device, 0));
	expect_revoked(_metadata, &self->view);
	vfio_pci_decode_set(self->device, true);
	expect_restored(_metadata, &self->view);
}

/* VFs are enabled in D0, and what D3hot has taken away is to be had again. */
TEST_F(revoke, sriov)
{
	const char *bdf = device_bdfs[0];
	u32 val;

	if (__sysfs_write(bdf, "sriov_drivers_autoprobe", "0"))
		SKIP(return, "%s has no SR-IOV\n", bdf);

	ASSERT_EQ(0, __vfio_pci_power_state_set(self->device, 3));
	expect_revoked(_metadata, &self->view);

	ASSERT_EQ(0, __sysfs_write(bdf, "sriov_numvfs", "1"));
	EXPECT_EQ(0, vfio_pci_power_state_get(self->device));
	expect_restored(_metadata, &self->view);

	/* With VFs it has to stay there, and nobody loses anything by the try. */
	__vfio_pci_power_state_set(self->device, 3);
	EXPECT_EQ(0, vfio_pci_power_state_get(self->device));
	if (self->view.way == IMPORTER)
		expect_established(_metadata, &self->view);
	else
		EXPECT_EQ(0, try_read32(self->view.vaddr, &val));

	ASSERT_EQ(0, __sysfs_write(bdf, "sriov_numvfs", "0"));
	ASSERT_EQ(0, __sysfs_write(bdf, "sriov_drivers_autoprobe", "1"));
	expect_established(_metadata, &self->view);
}

/* A reset brings it to D0, and what could not be reached in D3 can be then. */
TEST_F(revoke, d3hot_reset)
{
	int (* const resets[])(struct view *) = {
		do_hot_reset, do_sysfs_reset, do_bus_reset, do_flr,
	};
	int i, ret;

	if (__vfio_pci_power_state_set(self->device, 0) ||
	    !(self->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "%s has no power management or no reset\n",
		     device_bdfs[0]);

	ASSERT_EQ(0, __vfio_pci_power_state_set(self->device, 3));
	expect_revoked(_metadata, &self->view);
	ASSERT_EQ(0, __vfio_pci_reset(self->device));
	expect_restored(_metadata, &self->view);

	for (i = 0; i < ARRAY_SIZE(resets); i++) {
		ASSERT_EQ(0, __vfio_pci_power_state_set(self->device, 3));
		ret = resets[i](&self->view);
		if (ret)
			ASSERT_EQ(0, __vfio_pci_power_state_set(self->device, 0));
		EXPECT_EQ(0, vfio_pci_power_state_get(self->device));
		expect_restored(_metadata, &self->view);
	}
}

TEST_F(revoke, low_power)
{
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device, -1));
		expect_revoked(_metadata, &self->view);
		EXPECT_EQ(-EINVAL, __vfio_pci_low_power_enter(self->device, -1));

		/* Other calls wake it for as long as they take, no longer. */
		vfio_pci_config_readw(self->device, PCI_VENDOR_ID);
		expect_revoked(_metadata, &self->view);
		vfio_pci_decode_set(self->device, true);
		expect_revoked(_metadata, &self->view);

		ASSERT_EQ(0, __vfio_pci_low_power_exit(self->device));
		expect_restored(_metadata, &self->view);
		ASSERT_EQ(0, __vfio_pci_low_power_exit(self->device));
		if (self->view.way != IMPORTER)
			expect_established(_metadata, &self->view);
	}

	/* The exit does not turn decoding on, and decoding is no exit. */
	vfio_pci_decode_set(self->device, false);
	ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device, -1));
	ASSERT_EQ(0, __vfio_pci_low_power_exit(self->device));
	expect_revoked(_metadata, &self->view);
	ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device, -1));
	vfio_pci_decode_set(self->device, true);
	expect_revoked(_metadata, &self->view);
	ASSERT_EQ(0, __vfio_pci_low_power_exit(self->device));
	expect_restored(_metadata, &self->view);
}

/* A reset in low power is no exit either. */
TEST_F(revoke, low_power_reset)
{
	int (* const resets[])(struct view *) = {
		do_device_reset, do_hot_reset, do_sysfs_reset, do_flr,
	};
	bool any = false;
	int i, ret;

	for (i = 0; i < ARRAY_SIZE(resets); i++) {
		ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device, -1));
		ret = resets[i](&self->view);
		if (!ret)
			expect_revoked(_metadata, &self->view);
		ASSERT_EQ(0, __vfio_pci_low_power_exit(self->device));
		if (ret)
			continue;
		any = true;
		expect_restored(_metadata, &self->view);
	}
	if (!any)
		SKIP(return, "%s cannot be reset\n", device_bdfs[0]);
}

static bool wait_suspended(const char *bdf)
{
	time_t end = now() + LIMIT_SECONDS;

	while (!sysfs_is_suspended(bdf)) {
		if (now() >= end)
			return false;
		sched_yield();
	}

	return true;
}

static bool is_readable(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}

/* D13: whoever wakes the device ends its low power, no exit needed. */
TEST_F(revoke, low_power_wakeup)
{
	int eventfd_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), i;
	u64 count;

	ASSERT_LE(0, eventfd_fd);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device, eventfd_fd));
		if (!i && !wait_suspended(device_bdfs[0])) {
			__vfio_pci_low_power_exit(self->device);
			SKIP(return, "%s does not suspend\n", device_bdfs[0]);
		}
		ASSERT_TRUE(wait_suspended(device_bdfs[0]));
		if (self->view.way != IMPORTER)
			expect_revoked(_metadata, &self->view);
		EXPECT_FALSE(is_readable(eventfd_fd));

		vfio_pci_config_readw(self->device, PCI_VENDOR_ID);
		EXPECT_TRUE(is_readable(eventfd_fd));
		ASSERT_EQ(8, read(eventfd_fd, &count, sizeof(count)));
		expect_restored(_metadata, &self->view);
	}

	/* Awake, but with decoding off. */
	vfio_pci_decode_set(self->device, false);
	ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device, eventfd_fd));
	ASSERT_TRUE(wait_suspended(device_bdfs[0]));
	vfio_pci_config_readw(self->device, PCI_VENDOR_ID);
	EXPECT_TRUE(is_readable(eventfd_fd));
	expect_revoked(_metadata, &self->view);
	vfio_pci_decode_set(self->device, true);
	expect_restored(_metadata, &self->view);
	ASSERT_EQ(0, close(eventfd_fd));
}

static void *power_on(void *bdf)
{
	return (void *)(long)__sysfs_write(bdf, "power/control", "on");
}

/*
 * The device is also resumed by who must not wait for an access to end, because
 * that may be waiting for what he holds. The rest comes later, then.
 */
TEST_F(revoke, low_power_wakeup_held)
{
	int eventfd_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), hold;
	struct pollfd pollfd = { .fd = eventfd_fd, .events = POLLIN };
	struct timespec limit;
	pthread_t thread;
	bool held = true;
	void *ret;

	ASSERT_LE(0, eventfd_fd);
	ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device, eventfd_fd));
	if (!wait_suspended(device_bdfs[0])) {
		__vfio_pci_low_power_exit(self->device);
		SKIP(return, "%s does not suspend\n", device_bdfs[0]);
	}

	hold = memory_lock_hold(device_bdfs[0]);
	if (hold < 0)
		SKIP(return, "vfio_selftest is not loaded\n");
	ASSERT_EQ(0, pthread_create(&thread, NULL, power_on, device_bdfs[0]));
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += LIMIT_SECONDS;
	if (pthread_timedjoin_np(thread, &ret, &limit))
		held = false;
	else
		EXPECT_EQ(NULL, ret);
	EXPECT_TRUE(held);
	EXPECT_FALSE(is_readable(eventfd_fd));

	/* Nobody needs the device, but it is not to sleep before it was told. */
	if (held)
		EXPECT_EQ(0, __sysfs_write(device_bdfs[0], "power/control", "auto"));
	close(hold);
	if (!held)
		ASSERT_EQ(0, pthread_join(thread, &ret));
	EXPECT_EQ(1, poll(&pollfd, 1, LIMIT_SECONDS * 1000));
	EXPECT_FALSE(sysfs_is_suspended(device_bdfs[0]));
	EXPECT_EQ(0, __sysfs_write(device_bdfs[0], "power/control", "auto"));
	expect_restored(_metadata, &self->view);
	ASSERT_EQ(0, close(eventfd_fd));
}

#define ERROR_BEGINS "ERROR_EVENT=BEGIN_RECOVERY"
#define ERROR_OVER "ERROR_EVENT=SUCCESSFUL_RECOVERY"
#define ERROR_FAILED "ERROR_EVENT=FAILED_RECOVERY"

/* Importers are told a moment later than what is mapped is taken away. */
static void expect_revoked_soon(struct __test_metadata *_metadata, struct view *view)
{
	time_t end = now() + LIMIT_SECONDS;

	while (view->way == IMPORTER && now() < end &&
	       iommu_translates(view->device->bdf, view->iova) == 1)
		sched_yield();
	expect_revoked(_metadata, view);
}

/* A mapping, too, is taken away by a work item when it was live until then. */
static void expect_revoked_later(struct __test_metadata *_metadata, struct view *view)
{
	time_t end = now() + LIMIT_SECONDS;
	u32 val;

	while (view->way != IMPORTER && now() < end && !try_read32(view->vaddr, &val))
		sched_yield();
	expect_revoked_soon(_metadata, view);
}

/*
 * A fatal error, which the PCI core recovers from by resetting the link. What is
 * left of config space then does not decode memory, and userspace turns that on.
 */
TEST_F(revoke, error)
{
	int error_fd = vfio_pci_event_open(self->device, VFIO_PCI_ERR_IRQ_INDEX);
	int uevents = uevent_open(), ret, i, nr_early = 0;
	u32 before, after;
	u64 count;

	before = vfio_pci_bar_read32(self->device, self->view.bar, 0);
	ret = __port_error_inject(device_bdfs[0], true);
	if (ret)
		SKIP(return, "No error of a port above %s: %s\n", device_bdfs[0],
		     strerror(-ret));

	/* Until it was seen to be before the end, which a slow machine may miss. */
	for (i = 0; i < 3 || (!nr_early && i < 50); i++) {
		if (i)
			ASSERT_EQ(0, __port_error_inject(device_bdfs[0], true));

		/* By the time that this is known, it has happened. */
		ASSERT_TRUE(uevent_get(uevents, device_bdfs[0], ERROR_BEGINS,
				       LIMIT_SECONDS * 1000));
		expect_revoked_soon(_metadata, &self->view);
		/* A device that is not PCIe has no such event. */
		if (error_fd >= 0) {
			ASSERT_EQ(8, read(error_fd, &count, sizeof(count)));
			EXPECT_EQ(1, count);
		}
		if (!uevent_get(uevents, device_bdfs[0], ERROR_OVER, 0)) {
			nr_early++;
			ASSERT_TRUE(uevent_get(uevents, device_bdfs[0], ERROR_OVER,
					       LIMIT_SECONDS * 1000));
		}

		/* Decoding is off, and the BAR is gone until it is on. */
		expect_revoked(_metadata, &self->view);
		EXPECT_FALSE(vfio_pci_config_readw(self->device, PCI_COMMAND) &
			     PCI_COMMAND_MEMORY);
		if (i == 1) {
			vfio_pci_decode_set(self->device, false);
			expect_revoked(_metadata, &self->view);
		}
		vfio_pci_decode_set(self->device, true);
		expect_restored(_metadata, &self->view);

		/* There is something, where nothing gives all ones. */
		after = vfio_pci_bar_read32(self->device, self->view.bar, 0);
		if (before != ~0U)
			EXPECT_NE(~0U, after);
	}
	EXPECT_LT(0, nr_early);

	if (error_fd >= 0)
		ASSERT_EQ(0, close(error_fd));
	ASSERT_EQ(0, close(uevents));
}

/* Decoding that is turned on too early does not help. */
TEST_F(revoke, error_decode)
{
	int uevents = uevent_open(), ret;
	time_t end = now() + LIMIT_SECONDS;
	bool over;

	ret = __port_error_inject(device_bdfs[0], true);
	if (ret)
		SKIP(return, "No error of a port above %s: %s\n", device_bdfs[0],
		     strerror(-ret));

	ASSERT_TRUE(uevent_get(uevents, device_bdfs[0], ERROR_BEGINS,
			       LIMIT_SECONDS * 1000));
	do {
		vfio_pci_decode_set(self->device, true);
		over = uevent_get(uevents, device_bdfs[0], ERROR_OVER, 10);
	} while (!over && now() < end);
	ASSERT_TRUE(over);

	vfio_pci_decode_set(self->device, true);
	expect_restored(_metadata, &self->view);
	ASSERT_EQ(0, close(uevents));
}

/* Nothing is reset for an error that is not fatal. */
TEST_F(revoke, error_not_fatal)
{
	int uevents = uevent_open(), ret;

	if (nr_devices > 1)
		SKIP(return, "Here it is another device that decides\n");

	ret = __port_error_inject(device_bdfs[0], false);
	if (ret)
		SKIP(return, "No error of a port above %s: %s\n", device_bdfs[0],
		     strerror(-ret));

	ASSERT_TRUE(uevent_get(uevents, device_bdfs[0], ERROR_OVER,
			       LIMIT_SECONDS * 1000));
	expect_established(_metadata, &self->view);
	ASSERT_EQ(0, close(uevents));
}

/* D16: what comes to be while the BARs are out of reach is out of reach. */
TEST_F(revoke, made_while_revoked)
{
	struct view late;
	int i;

	for (i = 0; i < 2; i++) {
		if (!i)
			vfio_pci_decode_set(self->device, false);
		else
			ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device, -1));

		late = self->view;
		late.iova += SZ_4M;
		if (variant->way != DEVICE_FD)
			view_export(&late);
		if (variant->way != IMPORTER)
			ASSERT_EQ(0, view_use(&late));
		expect_revoked(_metadata, &late);

		if (!i)
			vfio_pci_decode_set(self->device, true);
		else
			ASSERT_EQ(0, __vfio_pci_low_power_exit(self->device));
		if (variant->way == IMPORTER) {
			EXPECT_EQ(0, view_use(&late));
			expect_established(_metadata, &late);
		} else {
			expect_restored(_metadata, &late);
		}
		expect_restored(_metadata, &self->view);

		view_unuse(&late);
		if (late.fd >= 0)
			ASSERT_EQ(0, close(late.fd));
	}
}

/*
 * D3, D4: close. A mapping of the device fd keeps the device open, in the state
 * that it is in: an access gives @mapped.
 */
static void try_close(struct __test_metadata *_metadata, struct view *view,
		      int mapped)
{
	struct iommu *iommu = view->iommu;
	u32 val;

	vfio_pci_device_cleanup(view->device);

	if (view->way == IMPORTER) {
		EXPECT_EQ(-ENODEV, __iommu_map_dma_buf(iommu, view->fd, page_size,
						       IOVA + SZ_2M));
	} else if (view->way == EXPORTED) {
		EXPECT_EQ(-EFAULT, try_read32(view->vaddr, &val));
		EXPECT_EQ(MAP_FAILED, __vfio_pci_dma_buf_mmap(view->fd, 0, page_size,
							      PROT_READ));
		EXPECT_EQ(ENODEV, errno);
	} else {
		EXPECT_EQ(mapped, try_read32(view->vaddr, &val));
	}
	if (view->way != IMPORTER)
		view_unuse(view);

	/* It can be opened again, with decoding on. */
	view->device = vfio_pci_device_init(device_bdfs[0], iommu);
	if (view->way == IMPORTER) {
		expect_importer_stopped(_metadata, view, device_bdfs[0]);
		view_unuse(view);
	}
	if (view->fd >= 0)
		ASSERT_EQ(0, close(view->fd));
	EXPECT_TRUE(vfio_pci_config_readw(view->device, PCI_COMMAND) &
		    PCI_COMMAND_MEMORY);
}

TEST_F(revoke, close)
{
	try_close(_metadata, &self->view, 0);
	self->device = self->view.device;
}

TEST_F(revoke, close_decode_off)
{
	vfio_pci_decode_set(self->device, false);
	expect_revoked(_metadata, &self->view);
	try_close(_metadata, &self->view, -EFAULT);
	self->device = self->view.device;
}

TEST_F(revoke, close_low_power)
{
	ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device, -1));
	expect_revoked(_metadata, &self->view);
	try_close(_metadata, &self->view, -EFAULT);
	self->device = self->view.device;
}

TEST_F(revoke, close_d3hot)
{
	if (__vfio_pci_power_state_set(self->device, 3))
		SKIP(return, "%s has no power management\n", device_bdfs[0]);
	expect_revoked(_metadata, &self->view);
	try_close(_metadata, &self->view, -EFAULT);
	self->device = self->view.device;
}

/* Close puts right what the error did to config space, open is not barred. */
TEST_F(revoke, error_close)
{
	int uevents = uevent_open(), ret;
	u32 before, after;

	before = vfio_pci_bar_read32(self->device, self->view.bar, 0);
	ret = __port_error_inject(device_bdfs[0], true);
	if (ret)
		SKIP(return, "No error of a port above %s: %s\n", device_bdfs[0],
		     strerror(-ret));
	ASSERT_TRUE(uevent_get(uevents, device_bdfs[0], ERROR_OVER,
			       LIMIT_SECONDS * 1000));

	expect_revoked_soon(_metadata, &self->view);
	try_close(_metadata, &self->view, -EFAULT);
	self->device = self->view.device;

	after = vfio_pci_bar_read32(self->device, self->view.bar, 0);
	if (before != ~0U)
		EXPECT_NE(~0U, after);
	ASSERT_EQ(0, close(uevents));
}

/* The owner is asked to let go, keeps what it has until then, and loses it. */
TEST_F(revoke, unbind)
{
	struct pollfd pfd = {
		.fd = vfio_pci_event_open(self->device, VFIO_PCI_REQ_IRQ_INDEX),
		.events = POLLIN,
	};
	int status;
	pid_t pid;
	u32 val;

	ASSERT_LE(0, pfd.fd);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* Nothing that it inherited is to keep the device open. */
		close(self->device->fd);
		close(self->iommu->iommufd);
		if (self->view.fd >= 0)
			close(self->view.fd);
		if (self->view.vaddr)
			munmap(self->view.vaddr, page_size);
		_exit(-__sysfs_write(device_bdfs[0], "driver/unbind",
				     device_bdfs[0]));
	}

	/* It waits for this. */
	ASSERT_EQ(1, poll(&pfd, 1, LIMIT_SECONDS * 1000));
	expect_established(_metadata, &self->view);
	vfio_pci_decode_set(self->device, false);
	expect_revoked(_metadata, &self->view);
	vfio_pci_decode_set(self->device, true);
	expect_restored(_metadata, &self->view);

	if (variant->way == DEVICE_FD)
		view_unuse(&self->view);
	vfio_pci_device_cleanup(self->device);
	self->device = NULL;
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	/* The driver is gone, and the device structure with it. */
	if (variant->way == EXPORTED) {
		EXPECT_EQ(-EFAULT, try_read32(self->view.vaddr, &val));
		EXPECT_EQ(MAP_FAILED, __vfio_pci_dma_buf_mmap(self->view.fd, 0,
							      page_size, PROT_READ));
		EXPECT_EQ(ENODEV, errno);
	} else if (variant->way == IMPORTER) {
		EXPECT_EQ(-ENODEV, __iommu_map_dma_buf(self->iommu, self->view.fd,
						       page_size, IOVA + SZ_2M));
	}

	sysfs_driver_set(device_bdfs[0], device_driver);
	if (variant->way == EXPORTED)
		EXPECT_EQ(-EFAULT, try_read32(self->view.vaddr, &val));
	if (variant->way != IMPORTER)
		view_unuse(&self->view);

	self->device = vfio_pci_device_init(device_bdfs[0], self->iommu);
	if (variant->way == IMPORTER) {
		expect_importer_stopped(_metadata, &self->view, device_bdfs[0]);
		view_unuse(&self->view);
	}
	if (self->view.fd >= 0)
		ASSERT_EQ(0, close(self->view.fd));
	ASSERT_EQ(0, close(pfd.fd));
}

/* D19: a write that fails has changed nothing. */
TEST_F(revoke, command_write_fails)
{
	if (config_write_fail(device_bdfs[0], PCI_COMMAND) == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	EXPECT_GT(0, __vfio_pci_decode_set(self->device, false));
	config_write_fail_end();
	EXPECT_TRUE(vfio_pci_config_readw(self->device, PCI_COMMAND) &
		    PCI_COMMAND_MEMORY);
	/* It may have lost its pages, but nothing else. */
	if (self->view.way == IMPORTER) {
		view_unuse(&self->view);
		EXPECT_EQ(0, view_use(&self->view));
	} else {
		u32 val;

		EXPECT_EQ(0, try_read32(self->view.vaddr, &val));
	}
	expect_established(_metadata, &self->view);

	vfio_pci_decode_set(self->device, false);
	ASSERT_EQ(0, config_write_fail(device_bdfs[0], PCI_COMMAND));
	EXPECT_GT(0, __vfio_pci_decode_set(self->device, true));
	config_write_fail_end();
	expect_revoked(_metadata, &self->view);
	vfio_pci_decode_set(self->device, true);
	expect_restored(_metadata, &self->view);
}

/* D8: all BARs, at all offsets, by however many mappings. */
FIXTURE(revoke_all) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
};

FIXTURE_VARIANT(revoke_all) {
	const char *iommu_mode;
};

FIXTURE_VARIANT_ADD(revoke_all, cdev) {
	.iommu_mode = MODE_IOMMUFD,
};

FIXTURE_VARIANT_ADD(revoke_all, group) {
	.iommu_mode = MODE_VFIO_TYPE1V2_IOMMU,
};

FIXTURE_SETUP(revoke_all)
{
	self->iommu = iommu_init(variant->iommu_mode);
	self->device = vfio_pci_device_init(device_bdfs[0], self->iommu);
	vfio_pci_bars_unmap(self->device);
}

FIXTURE_TEARDOWN(revoke_all)
{
	if (self->device)
		vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

/* Mappings of pages of all BARs, by the device fd and by buffers. */
struct bars {
	void *vaddr[6 * PCI_STD_NUM_BARS];
	int nr;
};

static void bars_map(struct vfio_pci_device *device, struct bars *bars)
{
	u64 size, offsets[3];
	int bar, i, fd;

	bars->nr = 0;
	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (!(device->bars[bar].info.flags & VFIO_REGION_INFO_FLAG_MMAP))
			continue;

		size = max_t(u64, device->bars[bar].info.size, page_size);
		offsets[0] = 0;
		offsets[1] = size - page_size;
		offsets[2] = size / 2 & ~(page_size - 1);
		for (i = 0; i < ARRAY_SIZE(offsets); i++) {
			bars->vaddr[bars->nr++] = vfio_pci_bar_mmap(device, bar, offsets[i],
								    page_size);
			/* A sub-page BAR cannot be exported. */
			fd = __vfio_pci_dma_buf_export(device, bar, offsets[i],
						       page_size);
			if (fd < 0)
				continue;
			bars->vaddr[bars->nr++] = vfio_pci_dma_buf_mmap(fd, 0, page_size);
			VFIO_ASSERT_EQ(close(fd), 0);
		}
	}
}

/* None of them has its page, all of them get it. */
static void expect_bars_fault(struct __test_metadata *_metadata, struct bars *bars)
{
	long faults;
	u32 val;
	int i;

	for (i = 0; i < bars->nr; i++) {
		ASSERT_EQ(0, try_read32_faults(bars->vaddr[i], &val, &faults));
		ASSERT_EQ(1, faults) {
			TH_LOG("mapping %d", i);
		}
	}
}

TEST_F(revoke_all, bars)
{
	struct vfio_pci_device *device = self->device;
	struct bars bars;
	int i, j;
	u32 val;

	bars_map(device, &bars);
	if (!bars.nr)
		SKIP(return, "%s has no mappable BAR\n", device_bdfs[0]);

	for (i = 0; i < 3; i++) {
		expect_bars_fault(_metadata, &bars);

		switch (i) {
		case 0:
			vfio_pci_decode_set(device, false);
			break;
		case 1:
			if (__vfio_pci_power_state_set(device, 3))
				vfio_pci_decode_set(device, false);
			break;
		case 2:
			__vfio_pci_low_power_enter(device, -1);
			break;
		}
		for (j = 0; j < bars.nr; j++)
			EXPECT_EQ(-EFAULT, try_read32(bars.vaddr[j], &val));
		switch (i) {
		case 0:
			vfio_pci_decode_set(device, true);
			break;
		case 1:
			if (__vfio_pci_power_state_set(device, 0))
				vfio_pci_decode_set(device, true);
			break;
		case 2:
			__vfio_pci_low_power_exit(device);
			break;
		}
	}
	expect_bars_fault(_metadata, &bars);
}

/* A reset is over when it returns, and all of them are gone. */
TEST_F(revoke_all, bars_reset)
{
	struct view view = { .device = self->device };
	int (*reset)(struct view *view) = do_device_reset;
	struct bars bars;

	if (reset(&view))
		reset = do_hot_reset;
	if (reset(&view))
		SKIP(return, "%s cannot be reset\n", device_bdfs[0]);

	bars_map(self->device, &bars);
	if (!bars.nr)
		SKIP(return, "%s has no mappable BAR\n", device_bdfs[0]);

	expect_bars_fault(_metadata, &bars);
	ASSERT_EQ(0, reset(&view));
	expect_bars_fault(_metadata, &bars);
}

#define IOEVENTFD_VAL 0x10e0e4fd
#define NR_PACED_RESETS 10

/* An eventfd that has the kernel write IOEVENTFD_VAL to the start of @bar. */
static int ioeventfd_open(struct vfio_pci_device *device, int bar)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	VFIO_ASSERT_GE(fd, 0);
	VFIO_ASSERT_EQ(__vfio_pci_ioeventfd(device, vfio_pci_bar_pos(device, bar, 0),
					    IOEVENTFD_VAL, fd), 0);

	return fd;
}

struct paced_resets {
	struct vfio_pci_device *device;
	/* How many may begin, and have: the kernel gives nobody a turn. */
	int allowed, begun;
	int ret;
};

static void wait_for_number(int *number, int wanted)
{
	while (__atomic_load_n(number, __ATOMIC_ACQUIRE) < wanted)
		sched_yield();
}

static void *paced_resets_thread(void *arg)
{
	struct paced_resets *resets = arg;
	int i;

	for (i = 1; i <= NR_PACED_RESETS; i++) {
		wait_for_number(&resets->allowed, i);
		__atomic_store_n(&resets->begun, i, __ATOMIC_RELEASE);
		if (!resets->ret)
			resets->ret = __vfio_pci_reset(resets->device);
	}

	return NULL;
}

static long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* Who needs no mapping waits for the end of a reset, and never notices it. */
TEST_F(revoke_all, accesses_reset)
{
	int bar = vfio_pci_bar_find(self->device, page_size, true), fd, i;
	struct paced_resets resets = { .device = self->device };
	long long took, middle;
	pthread_t thread;
	time_t end;
	u32 val;

	if (bar < 0 || !(self->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "%s has no BAR of memory or no reset\n", device_bdfs[0]);

	took = now_ns();
	ASSERT_EQ(0, __vfio_pci_reset(self->device));
	took = now_ns() - took;

	fd = ioeventfd_open(self->device, bar);
	ASSERT_EQ(0, pthread_create(&thread, NULL, paced_resets_thread, &resets));
	for (i = 1; i <= NR_PACED_RESETS; i++) {
		vfio_pci_bar_write32(self->device, bar, 0, i);
		ASSERT_EQ(i, vfio_pci_bar_read32(self->device, bar, 0));

		/* In the middle of it, or nearly. A work item waits, and writes. */
		__atomic_store_n(&resets.allowed, i, __ATOMIC_RELEASE);
		wait_for_number(&resets.begun, i);
		middle = now_ns() + took / 2;
		while (now_ns() < middle)
			;
		ASSERT_EQ(0, eventfd_write(fd, 1));

		vfio_pci_bar_write32(self->device, bar, sizeof(val), i);
		ASSERT_EQ(i, vfio_pci_bar_read32(self->device, bar, sizeof(val)));
		end = now() + LIMIT_SECONDS;
		do {
			val = vfio_pci_bar_read32(self->device, bar, 0);
		} while (val == i && now() < end);
		ASSERT_EQ(IOEVENTFD_VAL, val);
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, resets.ret);
	ASSERT_EQ(0, close(fd));
}

static int decode_off(struct vfio_pci_device *device)
{
	return __vfio_pci_decode_set(device, false);
}

static int decode_on(struct vfio_pci_device *device)
{
	return __vfio_pci_decode_set(device, true);
}

static int d3hot(struct vfio_pci_device *device)
{
	return __vfio_pci_power_state_set(device, 3);
}

static int d0(struct vfio_pci_device *device)
{
	return __vfio_pci_power_state_set(device, 0);
}

static int low_power(struct vfio_pci_device *device)
{
	return __vfio_pci_low_power_enter(device, -1) ?:
	       (wait_suspended(device->bdf) ? 0 : -ETIMEDOUT);
}

/* What is signalled while decoding is off, or in D3hot, does not get there later. */
TEST_F(revoke_all, ioeventfd)
{
	const struct {
		int (*out)(struct vfio_pci_device *device);
		int (*back)(struct vfio_pci_device *device);
	} events[] = {
		{ decode_off, decode_on },
		{ d3hot, d0 },
		{ low_power, __vfio_pci_low_power_exit },
	};
	int bar = vfio_pci_bar_find(self->device, page_size, true), fd, i;

	if (bar < 0)
		SKIP(return, "%s has no BAR of memory\n", device_bdfs[0]);

	fd = ioeventfd_open(self->device, bar);
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		/* In low power it would stay in D0, and get the write. */
		if (events[i].out != decode_off &&
		    !vfio_pci_cap_find(self->device, PCI_CAP_ID_PM))
			continue;

		vfio_pci_bar_write32(self->device, bar, 0, 0);
		ASSERT_EQ(0, events[i].out(self->device));
		ASSERT_EQ(0, eventfd_write(fd, 1));
		ASSERT_EQ(0, events[i].back(self->device));
		EXPECT_EQ(0, vfio_pci_bar_read32(self->device, bar, 0));

		/* Nobody else has the device: at once. */
		ASSERT_EQ(0, eventfd_write(fd, 1));
		EXPECT_EQ(IOEVENTFD_VAL, vfio_pci_bar_read32(self->device, bar, 0));
	}
	ASSERT_EQ(0, close(fd));
}

/*
 * An O_PATH reference holds the dentry, and with it the DMA-BUF, of a file that
 * is freed. Whatever goes through the buffers of the device then must not look
 * at that file.
 */
static int open_path(const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);

	return open(path, O_PATH | O_CLOEXEC);
}

/* Until what is freed after a grace period is free. */
static void wait_for_rcu(void)
{
	int i;

	for (i = 0; i < 10; i++)
		syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

static void all_triggers(struct vfio_pci_device *device)
{
	struct view view = { .device = device };

	vfio_pci_decode_set(device, false);
	vfio_pci_decode_set(device, true);
	if (!__vfio_pci_power_state_set(device, 3))
		__vfio_pci_power_state_set(device, 0);
	VFIO_ASSERT_EQ(__vfio_pci_low_power_enter(device, -1), 0);
	VFIO_ASSERT_EQ(__vfio_pci_low_power_exit(device), 0);
	__vfio_pci_reset(device);
	do_hot_reset(&view);
	do_bus_reset(&view);
	__sysfs_reset(device->bdf);
	__vfio_pci_flr(device);
}

/* D11 */
TEST_F(revoke_all, o_path)
{
	int bar = vfio_pci_bar_find(self->device, page_size, false), fd, path[4], i;

	if (bar < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdfs[0]);

	for (i = 0; i < ARRAY_SIZE(path); i++) {
		fd = vfio_pci_dma_buf_export(self->device, bar, 0, page_size);
		path[i] = open_path("/proc/self/fd/%d", fd);
		ASSERT_LE(0, path[i]);
		ASSERT_EQ(0, close(fd));
	}
	wait_for_rcu();
	all_triggers(self->device);

	/* Before the device, with it, after it. */
	ASSERT_EQ(0, close(path[0]));
	vfio_pci_decode_set(self->device, false);
	ASSERT_EQ(0, close(path[1]));
	vfio_pci_device_cleanup(self->device);
	ASSERT_EQ(0, close(path[2]));
	self->device = vfio_pci_device_init(device_bdfs[0], self->iommu);
	all_triggers(self->device);
	ASSERT_EQ(0, close(path[3]));
}

/* In KiB, without what a slab keeps because it is empty or KASAN looks at it. */
static long slab_unreclaimable(void)
{
	char line[256];
	long size = -1;
	glob_t caches;
	FILE *meminfo;
	size_t i;
	int fd;

	if (!glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches)) {
		for (i = 0; i < caches.gl_pathc; i++) {
			fd = open(caches.gl_pathv[i], O_WRONLY | O_CLOEXEC);
			VFIO_ASSERT_GE(fd, 0);
			VFIO_ASSERT_EQ(write(fd, "1", 1), 1);
			close(fd);
		}
		globfree(&caches);
	}

	meminfo = fopen("/proc/meminfo", "re");
	VFIO_ASSERT_NOT_NULL(meminfo);
	while (size < 0 && fgets(line, sizeof(line), meminfo))
		sscanf(line, "SUnreclaim: %ld kB", &size);
	fclose(meminfo);
	VFIO_ASSERT_GE(size, 0);

	return size;
}

/* 5.3: nothing is left of a mapping of an importer: not even 32 bytes. */
TEST_F(revoke_all, importer_frees)
{
	int bar = vfio_pci_bar_find(self->device, page_size, false), fd, importer, i;
	const int times = 20000;
	long before;

	if (bar < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdfs[0]);
	fd = vfio_pci_dma_buf_export(self->device, bar, 0, page_size);
	importer = importer_create(device_bdfs[0], fd);
	if (importer == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	for (i = 0; i < 100; i++) {
		importer_map(importer);
		importer_unmap(importer);
	}
	before = slab_unreclaimable();
	for (i = 0; i < times; i++) {
		importer_map(importer);
		importer_unmap(importer);
	}
	EXPECT_GT(before + times * 16 / SZ_1K, slab_unreclaimable());

	ASSERT_EQ(0, close(importer));
	ASSERT_EQ(0, close(fd));
}

/* D11: nor does it keep the driver, which is waited for with a limit. */
TEST_F(revoke_all, o_path_unbind)
{
	int bar = vfio_pci_bar_find(self->device, page_size, false), fd, path, status;
	time_t end = now() + LIMIT_SECONDS;
	pid_t pid, ended = 0;

	if (bar < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdfs[0]);

	fd = vfio_pci_dma_buf_export(self->device, bar, 0, page_size);
	path = open_path("/proc/self/fd/%d", fd);
	ASSERT_LE(0, path);
	ASSERT_EQ(0, close(fd));
	wait_for_rcu();
	vfio_pci_device_cleanup(self->device);
	self->device = NULL;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(path);
		_exit(-__sysfs_write(device_bdfs[0], "driver/unbind",
				     device_bdfs[0]));
	}
	while (!ended && now() < end) {
		ended = waitpid(pid, &status, WNOHANG);
		usleep(10000);
	}
	EXPECT_EQ(pid, ended);
	if (!ended) {
		close(path);
		path = -1;
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
	}
	EXPECT_EQ(0, status);

	sysfs_driver_set(device_bdfs[0], device_driver);
	self->device = vfio_pci_device_init(device_bdfs[0], self->iommu);
	all_triggers(self->device);
	if (path >= 0)
		ASSERT_EQ(0, close(path));
}

/* D21: the same by way of a mapping of the device fd, or of a buffer. */
TEST_F(revoke_all, o_path_mapped)
{
	int bar = vfio_pci_bar_find(self->device, page_size, false), fd, path[4], i;
	void *vaddr;
	u32 val;

	if (bar < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdfs[0]);

	for (i = 0; i < ARRAY_SIZE(path); i++) {
		if (i & 1) {
			fd = vfio_pci_dma_buf_export(self->device, bar, 0,
						     page_size);
			vaddr = vfio_pci_dma_buf_mmap(fd, 0, page_size);
			ASSERT_EQ(0, close(fd));
		} else {
			vaddr = vfio_pci_bar_mmap(self->device, bar, 0, page_size);
		}
		ASSERT_EQ(0, try_read32(vaddr, &val));
		path[i] = open_path("/proc/self/map_files/%lx-%lx",
				    (unsigned long)vaddr,
				    (unsigned long)vaddr + page_size);
		ASSERT_LE(0, path[i]);
		ASSERT_EQ(0, munmap(vaddr, page_size));
	}
	wait_for_rcu();
	all_triggers(self->device);

	/* The BAR can be mapped again. */
	vaddr = vfio_pci_bar_mmap(self->device, bar, 0, page_size);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	all_triggers(self->device);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));

	ASSERT_EQ(0, close(path[0]));
	ASSERT_EQ(0, close(path[1]));
	vfio_pci_device_cleanup(self->device);
	self->device = NULL;
	for (i = 2; i < ARRAY_SIZE(path); i++)
		ASSERT_EQ(0, close(path[i]));
	self->device = vfio_pci_device_init(device_bdfs[0], self->iommu);
}

/* Has the lock of the mm for write nearly all the time. */
static void *mmap_lock_thread(void *arg)
{
	const size_t size = SZ_16M;
	bool *stop = arg;
	void *vaddr;
	int prot;

	vaddr = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	VFIO_ASSERT_NE(vaddr, MAP_FAILED);
	for (prot = PROT_READ; !__atomic_load_n(stop, __ATOMIC_RELAXED);
	     prot ^= PROT_WRITE)
		VFIO_ASSERT_EQ(mprotect(vaddr, size, prot), 0);
	VFIO_ASSERT_EQ(munmap(vaddr, size), 0);

	return NULL;
}

/*
 * D12: what lockdep has to see to know the way from the lock of sysfs to that of the
 * mm, where a fault waits for it, and then a fault and a reset. It gets to know
 * the way from the lock of an IOMMU group to that of sysfs when VFs are disabled,
 * and that from pci_bus_sem, which D3hot takes below a port, at boot.
 */
TEST_F(revoke_all, lock_order)
{
	int bar = vfio_pci_bar_find(self->device, page_size, false), dir, i;
	bool stop = false;
	pthread_t thread;
	void *vaddr;
	u32 val;

	if (bar < 0 || !(self->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "%s has no mappable BAR of a page, or no reset\n",
		     device_bdfs[0]);

	dir = open("/sys/bus/pci/devices", O_RDONLY | O_DIRECTORY);
	ASSERT_LE(0, dir);
	ASSERT_EQ(0, pthread_create(&thread, NULL, mmap_lock_thread, &stop));
	for (i = 0; i < 50; i++) {
		/* It is not there yet. */
		vaddr = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, vaddr);
		/* "." and ".." are written without the lock. */
		ASSERT_EQ(2, lseek(dir, 2, SEEK_SET));
		EXPECT_LT(0, syscall(SYS_getdents64, dir, vaddr, page_size));
		ASSERT_EQ(0, munmap(vaddr, page_size));
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_EQ(0, close(dir));

	vaddr = vfio_pci_bar_mmap(self->device, bar, 0, page_size);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, try_read32(vaddr, &val));
		vfio_pci_device_reset(self->device);
	}
	EXPECT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

/*
 * An importer that does not let go until the test has seen what it wants to see:
 * in the shape of a fence on the buffer that is not signalled, or of a mapping.
 */
struct drain {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	int fd;
	int hold;
	void *buffer_map;
	void *device_map;
	pthread_t thread;
	pid_t tid;
	int ret;
	bool done;
};

static bool drain_open(struct __test_metadata *_metadata, struct drain *drain,
		       bool mapping)
{
	u32 val;

	drain->hold = -1;
	drain->iommu = iommu_init(MODE_IOMMUFD);
	drain->device = vfio_pci_device_init(device_bdfs[0], drain->iommu);
	vfio_pci_bars_unmap(drain->device);
	drain->bar = vfio_pci_bar_find(drain->device, page_size, false);
	if (drain->bar < 0)
		SKIP(return false, "%s has no mappable BAR of a page\n",
		     device_bdfs[0]);

	drain->fd = vfio_pci_dma_buf_export(drain->device, drain->bar, 0, page_size);
	drain->hold = dma_buf_hold(drain->device->bdf, drain->fd, mapping);
	if (drain->hold == -EOPNOTSUPP)
		SKIP(return false, "The module vfio_selftest is not loaded\n");
	drain->device_map = vfio_pci_bar_mmap(drain->device, drain->bar, 0, page_size);
	ASSERT_EQ(0, try_read32(drain->device_map, &val));

	return true;
}

static void drain_let_go(struct drain *drain)
{
	dma_buf_let_go(drain->hold);
	drain->hold = -1;
}

static void drain_close(struct drain *drain)
{
	if (!drain->device)
		return;
	/* The end of the test may have been an early one, and this waits for it. */
	if (drain->hold >= 0)
		drain_let_go(drain);
	munmap(drain->device_map, page_size);
	close(drain->fd);
	vfio_pci_device_cleanup(drain->device);
	iommu_cleanup(drain->iommu);
}

FIXTURE(revoke_drain) {
	struct drain drain;
};

FIXTURE_VARIANT(revoke_drain) {
	bool mapping;
};

FIXTURE_VARIANT_ADD(revoke_drain, fence) {
	.mapping = false,
};

FIXTURE_VARIANT_ADD(revoke_drain, mapping) {
	.mapping = true,
};

FIXTURE_SETUP(revoke_drain)
{
	struct drain *drain = &self->drain;
	u32 val;

	if (!drain_open(_metadata, drain, variant->mapping))
		return;
	drain->buffer_map = vfio_pci_dma_buf_mmap(drain->fd, 0, page_size);
	ASSERT_EQ(0, try_read32(drain->buffer_map, &val));

	/* What has no importer has nobody to wait for. */
	ASSERT_EQ(0, __iommu_map_dma_buf(drain->iommu, drain->fd, page_size, IOVA));
}

FIXTURE_TEARDOWN(revoke_drain)
{
	munmap(self->drain.buffer_map, page_size);
	drain_close(&self->drain);
}

static void *decode_off_thread(void *arg)
{
	struct drain *drain = arg;

	__atomic_store_n(&drain->tid, gettid(), __ATOMIC_RELEASE);
	vfio_pci_decode_set(drain->device, false);
	__atomic_store_n(&drain->done, true, __ATOMIC_RELEASE);

	return NULL;
}

static bool is_done(struct drain *drain)
{
	return __atomic_load_n(&drain->done, __ATOMIC_ACQUIRE);
}

static void drain_start(struct __test_metadata *_metadata, struct drain *drain)
{
	const iova_t iova = IOVA + SZ_8M;
	time_t end = now() + LIMIT_SECONDS;
	u32 val;
	int ret;

	ASSERT_EQ(0, pthread_create(&drain->thread, NULL, decode_off_thread, drain));

	/*
	 * It has begun once nobody can import the buffer any more. A fault
	 * could come just before that, and would have to wait.
	 */
	do {
		ret = __iommu_map_dma_buf(drain->iommu, drain->fd, page_size, iova);
		if (!ret)
			ret = __iommu_unmap_dma_buf(drain->iommu, iova, page_size);
		sched_yield();
	} while (!ret && now() < end);
	ASSERT_EQ(-ENODEV, ret);

	/* The mappings of the device fd are the last to go before the wait. */
	if (drain->device_map) {
		do {
			ret = try_read32(drain->device_map, &val);
			sched_yield();
		} while (!ret && now() < end);
		ASSERT_EQ(-EFAULT, ret);
	}
	EXPECT_FALSE(is_done(drain));
}

/* It has not ended by itself. */
static void drain_join(struct __test_metadata *_metadata, struct drain *drain)
{
	EXPECT_FALSE(is_done(drain));
	drain_let_go(drain);
	ASSERT_EQ(0, pthread_join(drain->thread, NULL));
}

static void drain_end(struct __test_metadata *_metadata, struct drain *drain)
{
	u32 val;

	drain_join(_metadata, drain);
	EXPECT_EQ(-EFAULT, try_read32(drain->buffer_map, &val));
	EXPECT_EQ(-EFAULT, try_read32(drain->device_map, &val));
	vfio_pci_decode_set(drain->device, true);
	EXPECT_EQ(0, try_read32(drain->buffer_map, &val));
	EXPECT_EQ(0, try_read32(drain->device_map, &val));
}

/* D23, 6.7: whoever faults meanwhile is told at once. */
TEST_F(revoke_drain, fault)
{
	struct drain *drain = &self->drain;
	void *vaddr;
	u32 val;
	int i;

	drain_start(_metadata, drain);
	for (i = 0; i < 16; i++) {
		vaddr = vfio_pci_dma_buf_mmap(drain->fd, 0, page_size);
		EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
		ASSERT_EQ(0, munmap(vaddr, page_size));
		EXPECT_EQ(-EFAULT, try_read32(drain->device_map, &val));
	}
	drain_end(_metadata, drain);
}

/* D7, section 10: mmap() and export wait for nothing, D16 still holds. */
TEST_F(revoke_drain, mmap_export)
{
	struct drain *drain = &self->drain;
	void *vaddr;
	u32 val;
	int fd;

	drain_start(_metadata, drain);
	vaddr = vfio_pci_bar_mmap(drain->device, drain->bar, 0, page_size);
	ASSERT_EQ(0, munmap(vaddr, page_size));

	fd = vfio_pci_dma_buf_export(drain->device, drain->bar, 0, page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, page_size);
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	EXPECT_EQ(-ENODEV, __iommu_map_dma_buf(drain->iommu, fd, page_size,
					       IOVA + SZ_2M));
	drain_end(_metadata, drain);

	EXPECT_EQ(0, try_read32(vaddr, &val));
	EXPECT_EQ(0, __iommu_map_dma_buf(drain->iommu, fd, page_size,
					 IOVA + SZ_2M));
	ASSERT_EQ(0, munmap(vaddr, page_size));
	ASSERT_EQ(0, close(fd));
}

/* D10, 7.9: a hot reset does not queue up behind it. */
TEST_F(revoke_drain, hot_reset)
{
	struct drain *drain = &self->drain;

	if (!have_hot_reset)
		SKIP(return, "%s has no hot reset\n", device_bdfs[0]);

	drain_start(_metadata, drain);
	EXPECT_EQ(-EBUSY, __vfio_pci_hot_reset(drain->device));
	drain_end(_metadata, drain);
}

static void *hot_reset_thread(void *arg)
{
	struct drain *drain = arg;

	drain->ret = __vfio_pci_hot_reset(drain->device);
	__atomic_store_n(&drain->done, true, __ATOMIC_RELEASE);

	return NULL;
}

static void *close_thread(void *arg)
{
	struct drain *drain = arg;

	vfio_pci_device_cleanup(drain->device);
	__atomic_store_n(&drain->done, true, __ATOMIC_RELEASE);

	return NULL;
}

/* Like drain_start(), with something that has the lock of the set as well. */
static void drain_start_set(struct __test_metadata *_metadata, struct drain *drain,
			    void *(*thread)(void *))
{
	int importer = importer_create(drain->device->bdf, drain->fd);
	time_t end = now() + LIMIT_SECONDS;

	ASSERT_LE(0, importer);
	ASSERT_EQ(0, pthread_create(&drain->thread, NULL, thread, drain));
	while (!importer_told(importer, NULL) && now() < end)
		sched_yield();
	ASSERT_EQ(1, importer_told(importer, NULL));
	ASSERT_EQ(0, close(importer));
	EXPECT_FALSE(is_done(drain));
}

/* 7.9: nor behind another hot reset. */
TEST_F(revoke_drain, hot_reset_twice)
{
	struct drain *drain = &self->drain;
	u32 val;

	if (!have_hot_reset)
		SKIP(return, "%s has no hot reset\n", device_bdfs[0]);

	drain_start_set(_metadata, drain, hot_reset_thread);
	EXPECT_EQ(-EBUSY, __vfio_pci_hot_reset(drain->device));
	EXPECT_EQ(-EBUSY, __vfio_pci_hot_reset(drain->device));

	EXPECT_FALSE(is_done(drain));
	drain_let_go(drain);
	ASSERT_EQ(0, pthread_join(drain->thread, NULL));
	EXPECT_EQ(0, drain->ret);
	EXPECT_EQ(0, __vfio_pci_hot_reset(drain->device));
	EXPECT_EQ(0, try_read32(drain->buffer_map, &val));
	EXPECT_EQ(0, try_read32(drain->device_map, &val));
}

/*
 * The same if both start at once: whoever comes second may have begun to wait for
 * the lock of the set before the first one begins to wait for importers.
 */
TEST_F(revoke_drain, hot_reset_race)
{
	struct drain *drain = &self->drain, *first, *last;
	struct drain other = *drain;
	time_t end;
	u32 val;
	int i;

	if (!have_hot_reset)
		SKIP(return, "%s has no hot reset\n", device_bdfs[0]);

	for (i = 0; i < 20; i++) {
		drain->done = false;
		other.done = false;
		ASSERT_EQ(0, pthread_create(&drain->thread, NULL, hot_reset_thread, drain));
		ASSERT_EQ(0, pthread_create(&other.thread, NULL, hot_reset_thread, &other));

		end = now() + LIMIT_SECONDS;
		while (!is_done(drain) && !is_done(&other) && now() < end)
			sched_yield();
		first = is_done(drain) ? drain : &other;
		last = first == drain ? &other : drain;
		EXPECT_TRUE(is_done(first));
		EXPECT_FALSE(is_done(last));
		drain_let_go(drain);
		ASSERT_EQ(0, pthread_join(drain->thread, NULL));
		ASSERT_EQ(0, pthread_join(other.thread, NULL));
		EXPECT_EQ(-EBUSY, first->ret);
		EXPECT_EQ(0, last->ret);

		EXPECT_EQ(0, try_read32(drain->buffer_map, &val));
		EXPECT_EQ(0, try_read32(drain->device_map, &val));

		/* Once more. */
		ASSERT_EQ(0, __iommu_unmap_dma_buf(drain->iommu, IOVA, page_size));
		ASSERT_EQ(0, __iommu_map_dma_buf(drain->iommu, drain->fd, page_size, IOVA));
		drain->hold = dma_buf_hold(drain->device->bdf, drain->fd,
					   variant->mapping);
		ASSERT_LE(0, drain->hold);
	}
	drain_let_go(drain);
}

/*
 * Importers are waited for, and nobody else: who has the fd of a buffer can add
 * fences to it for ever.
 */
TEST_F(revoke_drain, fence_later)
{
	struct drain *drain = &self->drain;
	time_t end = now() + LIMIT_SECONDS;
	int later = fence_create();

	ASSERT_LE(0, later);
	drain_start_set(_metadata, drain, decode_off_thread);
	fence_add(later, drain->fd);
	EXPECT_FALSE(is_done(drain));
	drain_let_go(drain);
	while (!is_done(drain) && now() < end)
		sched_yield();
	EXPECT_TRUE(is_done(drain));
	fence_signal(later);
	ASSERT_EQ(0, pthread_join(drain->thread, NULL));

	vfio_pci_decode_set(drain->device, true);
}

/* A process that accesses a mapping, again and again. */
struct faulter {
	pid_t pid;
	int reads;
	int refused;
};

static struct faulter *faulter_start(struct drain *drain, const void *map)
{
	struct faulter *faulter;
	pid_t pid;
	u32 val;

	faulter = mmap(NULL, sizeof(*faulter), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(faulter, MAP_FAILED);

	pid = fork();
	VFIO_ASSERT_GE(pid, 0);
	if (!pid) {
		/* It has the device open: no test is to leave it behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* What signals it is the last close. */
		close(drain->hold);
		for (;;) {
			if (try_read32(map, &val))
				__atomic_add_fetch(&faulter->refused, 1, __ATOMIC_RELEASE);
			else
				__atomic_add_fetch(&faulter->reads, 1, __ATOMIC_RELEASE);
		}
	}

	/* From here on it has nothing else to wait for. */
	faulter->pid = pid;
	while (!__atomic_load_n(&faulter->reads, __ATOMIC_ACQUIRE))
		sched_yield();

	return faulter;
}

/* Return: as in /proc/PID/stat. */
static char task_state(pid_t pid)
{
	char path[PATH_MAX], state;
	FILE *stat;
	int ret;

	snprintf_assert(path, sizeof(path), "/proc/%d/stat", pid);
	stat = fopen(path, "re");
	VFIO_ASSERT_NOT_NULL(stat);
	ret = fscanf(stat, "%*d (%*[^)]) %c", &state);
	VFIO_ASSERT_EQ(ret, 1);
	fclose(stat);

	return state;
}

static bool is_blocked(pid_t pid)
{
	return task_state(pid) == 'D';
}

static bool is_dead(pid_t pid)
{
	siginfo_t info = {};

	/* Leave it there, for when there is nothing to wait for. */
	VFIO_ASSERT_EQ(waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	return info.si_pid == pid;
}

/*
 * Kill who accesses @map where the drain has brought it, which is to be before
 * the drain is over. Whether that has begun is seen from the faulter alone: who
 * asks for the buffer may have to wait, too.
 */
static void try_kill(struct __test_metadata *_metadata, struct drain *drain,
		     const void *map)
{
	struct faulter *faulter = faulter_start(drain, map);
	time_t end = now() + LIMIT_SECONDS;
	int status;

	ASSERT_EQ(0, pthread_create(&drain->thread, NULL, decode_off_thread, drain));
	while (!is_blocked(faulter->pid) && now() < end &&
	       !__atomic_load_n(&faulter->refused, __ATOMIC_ACQUIRE))
		sched_yield();
	EXPECT_TRUE(is_blocked(faulter->pid) || faulter->refused);

	ASSERT_EQ(0, kill(faulter->pid, SIGKILL));
	while (!is_dead(faulter->pid) && now() < end)
		sched_yield();
	EXPECT_TRUE(is_dead(faulter->pid));
	drain_join(_metadata, drain);

	ASSERT_EQ(faulter->pid, waitpid(faulter->pid, &status, 0));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	ASSERT_EQ(0, munmap(faulter, sizeof(*faulter)));
}

/* D23: it does not wait, or can be killed if it does. */
TEST_F(revoke_drain, killed)
{
	try_kill(_metadata, &self->drain, self->drain.buffer_map);
}

enum access { FAULT_BUFFER, MAP_BUFFER, READ };

/* A process that does this again and again, until it has to wait for something. */
static pid_t access_start(struct drain *drain, enum access access, void *vaddr)
{
	pid_t pid = fork();
	u32 val;

	VFIO_ASSERT_GE(pid, 0);
	if (pid)
		return pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(drain->hold);
	for (;;) {
		if (access == READ) {
			/* An MSI-X table is read without the device. */
			vfio_pci_bar_read32(drain->device, drain->bar,
					    page_size - 4);
			continue;
		}
		if (access == MAP_BUFFER)
			vaddr = __vfio_pci_dma_buf_mmap(drain->fd, 0, page_size, PROT_READ);
		else
			try_read32(vaddr, &val);
		munmap(vaddr, page_size);
	}
}

/* Not for a moment only. A wait that a signal ends is one, too. */
static bool stays_blocked(pid_t pid)
{
	time_t end = now() + LIMIT_SECONDS;
	int i = 0;

	while (i < 20 && now() < end) {
		i = strchr("DS", task_state(pid)) ? i + 1 : 0;
		usleep(5000);
	}

	return i == 20;
}

/* Leaves it dead, but does not wait for it. */
static void try_kill_blocked(struct __test_metadata *_metadata, pid_t pid)
{
	siginfo_t info = {};
	time_t end;

	EXPECT_TRUE(stays_blocked(pid));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	end = now() + LIMIT_SECONDS;
	while (!is_dead(pid) && now() < end)
		sched_yield();
	EXPECT_TRUE(is_dead(pid));
	ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT));
	EXPECT_EQ(SIGKILL, info.si_status);
}

static void *revoke_thread(void *arg)
{
	struct drain *drain = arg;

	__atomic_store_n(&drain->tid, gettid(), __ATOMIC_RELEASE);
	drain->ret = __vfio_pci_dma_buf_revoke(drain->device, drain->fd);
	__atomic_store_n(&drain->done, true, __ATOMIC_RELEASE);

	return NULL;
}

static bool thread_stays_blocked(struct drain *drain)
{
	time_t end = now() + LIMIT_SECONDS;

	while (!__atomic_load_n(&drain->tid, __ATOMIC_ACQUIRE) && now() < end)
		sched_yield();

	return drain->tid && stays_blocked(drain->tid);
}

/* Section 8: while a revocation for good waits for importers, nobody else does. */
TEST_F(revoke_drain, for_good)
{
	struct drain *drain = &self->drain, again = *drain;
	time_t end = now() + LIMIT_SECONDS;
	void *vaddr = NULL, *other_map;
	int other_fd;
	u32 val;

	other_fd = vfio_pci_dma_buf_export(drain->device, drain->bar, 0, page_size);
	other_map = vfio_pci_dma_buf_mmap(other_fd, 0, page_size);

	ASSERT_EQ(0, pthread_create(&drain->thread, NULL, revoke_thread, drain));
	while (vaddr != MAP_FAILED && now() < end) {
		vaddr = __vfio_pci_dma_buf_mmap(drain->fd, 0, page_size, PROT_READ);
		if (vaddr != MAP_FAILED)
			ASSERT_EQ(0, munmap(vaddr, page_size));
		sched_yield();
	}
	ASSERT_EQ(MAP_FAILED, vaddr);
	EXPECT_EQ(-EFAULT, try_read32(drain->buffer_map, &val));
	/* But for who wants the same. */
	ASSERT_EQ(0, pthread_create(&again.thread, NULL, revoke_thread, &again));
	EXPECT_TRUE(thread_stays_blocked(&again));

	/* Nor while another one is revoked. */
	EXPECT_EQ(0, try_read32(other_map, &val));
	EXPECT_EQ(0, __vfio_pci_dma_buf_revoke(drain->device, other_fd));
	EXPECT_EQ(-EFAULT, try_read32(other_map, &val));
	EXPECT_EQ(0, try_read32(drain->device_map, &val));
	vaddr = vfio_pci_bar_mmap(drain->device, drain->bar, 0, page_size);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));
	vfio_pci_bar_read32(drain->device, drain->bar, 0);

	EXPECT_FALSE(is_done(&again));
	drain_join(_metadata, drain);
	EXPECT_EQ(0, drain->ret);
	ASSERT_EQ(0, pthread_join(again.thread, NULL));
	EXPECT_EQ(-EBADFD, again.ret);
	EXPECT_EQ(0, try_read32(drain->device_map, &val));
	ASSERT_EQ(0, munmap(other_map, page_size));
	ASSERT_EQ(0, close(other_fd));
}

/*
 * 7.9, 6.7: who revokes everything meanwhile waits as well, and a hot reset does
 * not. A fault does not wait, an access that does can be killed.
 */
TEST_F(revoke_drain, for_good_and_off)
{
	struct drain *drain = &self->drain, other = *drain;
	time_t end = now() + LIMIT_SECONDS;
	pid_t pid;
	u32 val;

	ASSERT_EQ(0, pthread_create(&drain->thread, NULL, revoke_thread, drain));
	while (!try_read32(drain->buffer_map, &val) && now() < end)
		sched_yield();
	ASSERT_EQ(-EFAULT, try_read32(drain->buffer_map, &val));
	if (have_hot_reset) {
		EXPECT_EQ(-EBUSY, __vfio_pci_hot_reset(drain->device));
		EXPECT_EQ(0, try_read32(drain->device_map, &val));
	}

	ASSERT_EQ(0, pthread_create(&other.thread, NULL, decode_off_thread, &other));
	while (!try_read32(drain->device_map, &val) && now() < end)
		sched_yield();
	EXPECT_EQ(-EFAULT, try_read32(drain->device_map, &val));
	pid = access_start(drain, READ, NULL);
	try_kill_blocked(_metadata, pid);
	EXPECT_FALSE(is_done(&other));

	drain_join(_metadata, drain);
	ASSERT_EQ(0, pthread_join(other.thread, NULL));
	EXPECT_EQ(0, drain->ret);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(-EFAULT, try_read32(drain->device_map, &val));

	vfio_pci_decode_set(drain->device, true);
	EXPECT_EQ(0, try_read32(drain->device_map, &val));
}

/*
 * A futex in a mapping that has no page: one that nobody waits at, to which the
 * kernel is to add 0. In a process that has not got @hold, because what hangs
 * cannot be killed.
 */
static pid_t futex_start(void *map, int hold)
{
	u32 futex = 0, *word = map + page_size - sizeof(*word);
	pid_t pid = fork();
	int ret;

	VFIO_ASSERT_GE(pid, 0);
	if (pid)
		return pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(hold);
	ret = syscall(SYS_futex, &futex, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, 1,
		      word, FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0));
	_exit(ret == -1 && errno == EFAULT ? 0 : 1);
}

/* It does not wait for what is held, which is let go. */
static void expect_no_wait(struct __test_metadata *_metadata, pid_t pid, int hold)
{
	time_t end = now() + LIMIT_SECONDS;
	int status;

	while (!is_dead(pid) && now() < end)
		sched_yield();
	EXPECT_TRUE(is_dead(pid));

	ASSERT_EQ(0, close(hold));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* 6.7: a fault that cannot be killed does not wait for long. */
TEST_F(revoke_drain, futex)
{
	struct drain *drain = &self->drain;
	void *map;
	u32 val;
	int hold;

	drain_let_go(drain);
	map = vfio_pci_bar_mmap(drain->device, drain->bar, 0, page_size);
	hold = memory_lock_hold(device_bdfs[0]);
	ASSERT_LE(0, hold);
	ASSERT_EQ(0, pthread_create(&drain->thread, NULL, decode_off_thread, drain));
	EXPECT_TRUE(thread_stays_blocked(drain));
	expect_no_wait(_metadata, futex_start(map, hold), hold);
	ASSERT_EQ(0, pthread_join(drain->thread, NULL));
	ASSERT_EQ(0, munmap(map, page_size));
	vfio_pci_decode_set(drain->device, true);
	EXPECT_EQ(0, try_read32(drain->device_map, &val));

	map = vfio_pci_dma_buf_mmap(drain->fd, 0, page_size);
	hold = reservation_hold(drain->fd);
	ASSERT_LE(0, hold);
	expect_no_wait(_metadata, futex_start(map, hold), hold);
	EXPECT_EQ(0, try_read32(map, &val));
	ASSERT_EQ(0, munmap(map, page_size));
}

/* 6.7: nor does the reservation lock keep a fault, or mmap(), for ever. */
TEST_F(revoke_drain, killed_reservation)
{
	struct drain *drain = &self->drain;
	void *vaddr = vfio_pci_dma_buf_mmap(drain->fd, 0, page_size);
	const enum access accesses[] = { FAULT_BUFFER, MAP_BUFFER };
	int reservation = reservation_hold(drain->fd), i;
	pid_t pids[ARRAY_SIZE(accesses)];
	u32 val;

	ASSERT_LE(0, reservation);
	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		pids[i] = access_start(drain, accesses[i], vaddr);
		try_kill_blocked(_metadata, pids[i]);
	}

	ASSERT_EQ(0, close(reservation));
	for (i = 0; i < ARRAY_SIZE(accesses); i++)
		ASSERT_EQ(pids[i], waitpid(pids[i], NULL, 0));
	EXPECT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));
	drain_let_go(drain);
}

static void *signal_map;
static int *signal_mapped;

/* mincore() knows what is mapped. */
static void on_signal(int sig)
{
	unsigned char vec;
	int ret = mincore(signal_map, page_size, &vec);

	__atomic_store_n(signal_mapped, ret ? -1 : 1, __ATOMIC_RELEASE);
}

/* A process of its own: whatever this one does could take the lock of the mm. */
static pid_t map_fixed_start(struct drain *drain, int reservation)
{
	struct sigaction action = { .sa_handler = on_signal };
	pid_t pid = fork();
	void *map;
	u32 val;

	VFIO_ASSERT_GE(pid, 0);
	if (pid)
		return pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(reservation);
	sigaction(SIGUSR1, &action, NULL);
	map = mmap(signal_map, page_size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, drain->fd, 0);
	_exit(map == signal_map && !try_read32(map, &val) ? 0 : 1);
}

/*
 * 5.2: a signal does not interrupt mmap() between what was mapped there before and
 * the buffer. Somebody else could use the hole.
 */
TEST_F(revoke_drain, mmap_signal)
{
	struct drain *drain = &self->drain;
	int reservation, status;
	pid_t pid;

	drain_let_go(drain);
	signal_map = mmap(NULL, page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, signal_map);
	signal_mapped = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, signal_mapped);
	reservation = reservation_hold(drain->fd);
	ASSERT_LE(0, reservation);

	pid = map_fixed_start(drain, reservation);
	EXPECT_TRUE(stays_blocked(pid));
	ASSERT_EQ(0, kill(pid, SIGUSR1));
	EXPECT_TRUE(stays_blocked(pid));
	EXPECT_EQ(0, __atomic_load_n(signal_mapped, __ATOMIC_ACQUIRE));

	ASSERT_EQ(0, close(reservation));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, __atomic_load_n(signal_mapped, __ATOMIC_ACQUIRE));
	ASSERT_EQ(0, munmap(signal_mapped, page_size));
	ASSERT_EQ(0, munmap(signal_map, page_size));
}

/* A drain that needs no mapping of the buffer, for kernels that know none. */
FIXTURE(revoke_fence) {
	struct drain drain;
};

FIXTURE_SETUP(revoke_fence)
{
	drain_open(_metadata, &self->drain, false);
}

FIXTURE_TEARDOWN(revoke_fence)
{
	drain_close(&self->drain);
}

/* D23: the same for a mapping of the device fd. */
TEST_F(revoke_fence, killed)
{
	struct drain *drain = &self->drain;

	ASSERT_EQ(0, __iommu_map_dma_buf(drain->iommu, drain->fd, page_size, IOVA));
	try_kill(_metadata, drain, drain->device_map);
}

/* 6.7: and it is told at once. The page is there until the faults can know. */
TEST_F(revoke_fence, refused)
{
	struct drain *drain = &self->drain;
	time_t end = now() + LIMIT_SECONDS;
	struct faulter *faulter;

	ASSERT_EQ(0, __iommu_map_dma_buf(drain->iommu, drain->fd, page_size, IOVA));
	faulter = faulter_start(drain, drain->device_map);
	ASSERT_EQ(0, pthread_create(&drain->thread, NULL, decode_off_thread, drain));
	while (!__atomic_load_n(&faulter->refused, __ATOMIC_ACQUIRE) && now() < end)
		sched_yield();
	EXPECT_LT(0, __atomic_load_n(&faulter->refused, __ATOMIC_ACQUIRE));

	drain_join(_metadata, drain);
	ASSERT_EQ(0, kill(faulter->pid, SIGKILL));
	ASSERT_EQ(faulter->pid, waitpid(faulter->pid, NULL, 0));
	ASSERT_EQ(0, munmap(faulter, sizeof(*faulter)));
}

/* The fence of a buffer that has no importer holds up nobody. */
TEST_F(revoke_fence, no_importer)
{
	struct drain *drain = &self->drain;
	time_t end = now() + LIMIT_SECONDS;

	ASSERT_EQ(0, pthread_create(&drain->thread, NULL, decode_off_thread, drain));
	while (!is_done(drain) && now() < end)
		sched_yield();
	EXPECT_TRUE(is_done(drain));
	drain_let_go(drain);
	ASSERT_EQ(0, pthread_join(drain->thread, NULL));
}

/* Two devices of one set. */
FIXTURE(revoke_set) {
	struct iommu *iommu;
	struct vfio_pci_device *device[2];
	struct view view[2][3];
};

FIXTURE_SETUP(revoke_set)
{
	int i, way;
	u32 val;

	if (nr_devices < 2)
		SKIP(return, "Takes two devices of one set\n");

	self->iommu = iommu_init(MODE_IOMMUFD);
	for (i = 0; i < 2; i++) {
		self->device[i] = vfio_pci_device_init(device_bdfs[i], self->iommu);
		vfio_pci_bars_unmap(self->device[i]);
	}

	if (iommu_translates(device_bdfs[0], IOVA) == -EOPNOTSUPP)
		TH_LOG("What the IOMMU translates is not looked at");

	for (i = 0; i < 2; i++) {
		for (way = DEVICE_FD; way <= IMPORTER; way++) {
			struct view *view = &self->view[i][way];

			ASSERT_TRUE(view_open(view, way, self->iommu,
					      self->device[i]));
			view->iova += i * SZ_4M;
			if (way != DEVICE_FD)
				view_export(view);
			ASSERT_EQ(0, view_use(view));
			if (way != IMPORTER)
				ASSERT_EQ(0, try_read32(view->vaddr, &val));
			expect_established(_metadata, view);
		}
	}
}

FIXTURE_TEARDOWN(revoke_set)
{
	int i;

	for (i = 0; i < 2; i++) {
		if (self->device[i])
			vfio_pci_device_cleanup(self->device[i]);
	}
	if (self->iommu)
		iommu_cleanup(self->iommu);
}

/* Either way it is the bus that is reset, with both. */
TEST_F(revoke_set, reset)
{
	int (* const resets[])(struct view *) = { do_hot_reset, do_bus_reset };
	int i, j, way;

	for (i = 0; i < ARRAY_SIZE(resets); i++) {
		for (j = 0; j < 2; j++) {
			ASSERT_EQ(0, resets[i](&self->view[j][0]));
			for (way = DEVICE_FD; way <= IMPORTER; way++) {
				expect_restored(_metadata, &self->view[0][way]);
				expect_restored(_metadata, &self->view[1][way]);
			}
		}

		/* One of them has decoding off, before and after. */
		vfio_pci_decode_set(self->device[1], false);
		ASSERT_EQ(0, resets[i](&self->view[0][0]));
		for (way = DEVICE_FD; way <= IMPORTER; way++) {
			expect_restored(_metadata, &self->view[0][way]);
			expect_revoked(_metadata, &self->view[1][way]);
		}
		vfio_pci_decode_set(self->device[1], true);
		for (way = DEVICE_FD; way <= IMPORTER; way++) {
			expect_established(_metadata, &self->view[0][way]);
			expect_restored(_metadata, &self->view[1][way]);
		}
	}
}

/* What one does to itself is nothing to the other. */
TEST_F(revoke_set, independent)
{
	int i, way;

	for (i = 0; i < 2; i++) {
		vfio_pci_decode_set(self->device[i], false);
		for (way = DEVICE_FD; way <= IMPORTER; way++) {
			expect_revoked(_metadata, &self->view[i][way]);
			expect_established(_metadata, &self->view[!i][way]);
		}
		vfio_pci_decode_set(self->device[i], true);
		for (way = DEVICE_FD; way <= IMPORTER; way++) {
			expect_restored(_metadata, &self->view[i][way]);
			expect_established(_metadata, &self->view[!i][way]);
		}

		ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device[i], -1));
		for (way = DEVICE_FD; way <= IMPORTER; way++) {
			expect_revoked(_metadata, &self->view[i][way]);
			expect_established(_metadata, &self->view[!i][way]);
		}
		ASSERT_EQ(0, __vfio_pci_low_power_exit(self->device[i]));
		for (way = DEVICE_FD; way <= IMPORTER; way++)
			expect_restored(_metadata, &self->view[i][way]);
	}
}

/* D10: a drain of one device makes the reset of the set fail, not wait. */
TEST_F(revoke_set, reset_while_draining)
{
	struct drain drain = {
		.device = self->device[1],
		.iommu = self->iommu,
	};
	/* What has no importer has nobody to wait for. */
	struct view *view = &self->view[1][IMPORTER];
	int way;

	drain.fd = view->fd;
	drain.hold = dma_buf_hold(drain.device->bdf, drain.fd, false);
	if (drain.hold == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");
	drain_start(_metadata, &drain);

	EXPECT_EQ(-EBUSY, __vfio_pci_hot_reset(self->device[0]));
	for (way = DEVICE_FD; way <= IMPORTER; way++)
		expect_established(_metadata, &self->view[0][way]);

	EXPECT_FALSE(is_done(&drain));
	drain_let_go(&drain);
	ASSERT_EQ(0, pthread_join(drain.thread, NULL));

	ASSERT_EQ(0, __vfio_pci_hot_reset(self->device[0]));
	for (way = DEVICE_FD; way <= IMPORTER; way++) {
		expect_restored(_metadata, &self->view[0][way]);
		expect_revoked(_metadata, &self->view[1][way]);
	}
	vfio_pci_decode_set(self->device[1], true);
	for (way = DEVICE_FD; way <= IMPORTER; way++)
		expect_restored(_metadata, &self->view[1][way]);
}

/* The same if the other device is being closed. */
TEST_F(revoke_set, reset_while_closing)
{
	struct drain drain = {
		.device = self->device[1],
		.iommu = self->iommu,
	};
	struct view *view = self->view[1];
	int way;

	drain.fd = view[EXPORTED].fd;
	drain.hold = dma_buf_hold(drain.device->bdf, drain.fd, true);
	if (drain.hold == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	/* It would keep the device open. */
	view_unuse(&view[DEVICE_FD]);
	drain_start_set(_metadata, &drain, close_thread);
	self->device[1] = NULL;

	EXPECT_EQ(-EBUSY, __vfio_pci_hot_reset(self->device[0]));
	for (way = DEVICE_FD; way <= IMPORTER; way++)
		expect_established(_metadata, &self->view[0][way]);

	EXPECT_FALSE(is_done(&drain));
	drain_let_go(&drain);
	ASSERT_EQ(0, pthread_join(drain.thread, NULL));

	ASSERT_EQ(0, __vfio_pci_hot_reset(self->device[0]));
	for (way = DEVICE_FD; way <= IMPORTER; way++)
		expect_restored(_metadata, &self->view[0][way]);
}

/*
 * An error while a device below the same port has another driver, or none: then it
 * is not recovered from. The config space of that device is put back here: if the
 * link is reset, nobody else does it.
 */
static bool error_with_mate(struct __test_metadata *_metadata,
			    struct vfio_pci_device **mate, const char *driver,
			    bool fatal)
{
	int uevents = uevent_open(), ret, fd;
	char config[PCI_STD_HEADER_SIZEOF];
	char path[PATH_MAX];
	const int bars = PCI_BASE_ADDRESS_0;

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s", driver ?: "");
	if (access(path, F_OK)) {
		close(uevents);
		SKIP(return false, "The module %s is not loaded\n", driver);
	}

	vfio_pci_device_cleanup(*mate);
	*mate = NULL;
	if (driver)
		sysfs_driver_set(device_bdfs[1], driver);
	else
		ASSERT_EQ(0, __sysfs_write(device_bdfs[1], "driver/unbind",
					   device_bdfs[1]));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", device_bdfs[1]);
	fd = open(path, O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(sizeof(config), pread(fd, config, sizeof(config), 0));

	ret = __port_error_inject(device_bdfs[0], fatal);
	if (!ret)
		EXPECT_TRUE(uevent_get(uevents, device_bdfs[0],
				       driver ? ERROR_OVER : ERROR_FAILED,
				       LIMIT_SECONDS * 1000));

	EXPECT_EQ(sizeof(config) - bars,
		  pwrite(fd, config + bars, sizeof(config) - bars, bars));
	EXPECT_EQ(2, pwrite(fd, config + PCI_COMMAND, 2, PCI_COMMAND));
	ASSERT_EQ(0, close(fd));
	sysfs_driver_set(device_bdfs[1], device_driver);
	ASSERT_EQ(0, close(uevents));
	if (ret)
		SKIP(return false, "No error of a port above %s: %s\n", device_bdfs[0],
		     strerror(-ret));

	return true;
}

/* The link was reset, and what is behind it is gone until somebody resets it. */
static bool error_fail_fatal(struct __test_metadata *_metadata, struct view *views,
			     struct vfio_pci_device **mate)
{
	int way;

	if (!error_with_mate(_metadata, mate, NULL, true))
		return false;

	for (way = DEVICE_FD; way <= IMPORTER; way++)
		expect_revoked_soon(_metadata, &views[way]);
	/* To turn decoding on is no way out. */
	vfio_pci_decode_set(views->device, true);
	for (way = DEVICE_FD; way <= IMPORTER; way++)
		expect_revoked(_metadata, &views[way]);

	return true;
}

TEST_F(revoke_set, error_fails)
{
	int (* const resets[])(struct view *) = { do_hot_reset, do_bus_reset };
	int i, way;

	view_unuse(&self->view[1][DEVICE_FD]);
	for (i = 0; i < ARRAY_SIZE(resets); i++) {
		if (!error_fail_fatal(_metadata, self->view[0], &self->device[1]))
			return;
		ASSERT_EQ(0, resets[i](&self->view[0][0]));
		for (way = DEVICE_FD; way <= IMPORTER; way++)
			expect_restored(_metadata, &self->view[0][way]);
		self->device[1] = vfio_pci_device_init(device_bdfs[1], self->iommu);
	}
}

TEST_F(revoke_set, error_fails_close)
{
	struct view *view = &self->view[0][EXPORTED];

	view_unuse(&self->view[1][DEVICE_FD]);
	if (!error_fail_fatal(_metadata, self->view[0], &self->device[1]))
		return;
	view_unuse(&self->view[0][DEVICE_FD]);
	try_close(_metadata, view, -EFAULT);
	self->device[0] = view->device;

	view_export(view);
	ASSERT_EQ(0, view_use(view));
	expect_restored(_metadata, view);
}

/* Nothing is reset for an error that is not fatal, and all goes on as before. */
TEST_F(revoke_set, error_fails_not_fatal)
{
	int way;

	view_unuse(&self->view[1][DEVICE_FD]);
	if (!error_with_mate(_metadata, &self->device[1], NULL, false))
		return;
	for (way = DEVICE_FD; way <= IMPORTER; way++)
		expect_established(_metadata, &self->view[0][way]);
}

/* It was live until a work item found the device without decoding. */
static void expect_lost(struct __test_metadata *_metadata, struct view *views)
{
	int way;

	for (way = DEVICE_FD; way <= IMPORTER; way++)
		expect_revoked_later(_metadata, &views[way]);
	vfio_pci_decode_set(views->device, true);
	for (way = DEVICE_FD; way <= IMPORTER; way++)
		expect_restored(_metadata, &views[way]);
}

/* Unless the driver of the other device wants a reset of the link. */
TEST_F(revoke_set, error_not_fatal_reset)
{
	view_unuse(&self->view[1][DEVICE_FD]);
	if (!error_with_mate(_metadata, &self->device[1], "vfio_selftest", false))
		return;
	expect_lost(_metadata, self->view[0]);
}

/* It is not noticed while the device is in low power, and not forgotten. */
TEST_F(revoke_set, error_not_fatal_low_power)
{
	view_unuse(&self->view[1][DEVICE_FD]);
	ASSERT_EQ(0, __vfio_pci_low_power_enter(self->device[0], -1));
	if (!error_with_mate(_metadata, &self->device[1], "vfio_selftest", false)) {
		__vfio_pci_low_power_exit(self->device[0]);
		return;
	}
	ASSERT_EQ(0, __vfio_pci_low_power_exit(self->device[0]));
	expect_lost(_metadata, self->view[0]);
}

/*
 * A VF has no memory enable bit, it always decodes. The one that vfio-pci makes up
 * for it takes nothing from anybody.
 */
#define VF_TOKEN "6f1cb9cd-5f0c-4b4f-8b67-3c0e6c6f5a51"

FIXTURE(revoke_vf) {
	struct iommu *iommu;
	struct vfio_pci_device *pf;
	struct vfio_pci_device *vf;
	char *vf_bdf;
};

static struct vfio_pci_device *token_init(const char *bdf, struct iommu *iommu)
{
	struct vfio_pci_device *device = vfio_pci_device_alloc(bdf, iommu);

	vfio_pci_cdev_open(device, bdf);
	VFIO_ASSERT_EQ(__vfio_device_bind_iommufd(device->fd, iommu->iommufd, VF_TOKEN), 0);

	return device;
}

static void token_cleanup(struct vfio_pci_device *device)
{
	if (!device)
		return;
	VFIO_ASSERT_EQ(close(device->fd), 0);
	vfio_pci_device_free(device);
}

static void region_get(struct vfio_pci_device *device, int index,
		       struct vfio_region_info *info)
{
	*info = (struct vfio_region_info) { .argsz = sizeof(*info), .index = index };
	ioctl_assert(device->fd, VFIO_DEVICE_GET_REGION_INFO, info);
}

FIXTURE_SETUP(revoke_vf)
{
	const char *bdf = device_bdfs[0];

	if (__sysfs_write(bdf, "sriov_drivers_autoprobe", "0"))
		SKIP(return, "%s has no SR-IOV\n", bdf);

	self->iommu = iommu_init(MODE_IOMMUFD);
	self->pf = token_init(bdf, self->iommu);
	ASSERT_EQ(0, __sysfs_write(bdf, "sriov_numvfs", "1"));
	self->vf_bdf = sysfs_sriov_vf_bdf_get(bdf, 0);
	sysfs_driver_set(self->vf_bdf, "vfio-pci");

	self->vf = token_init(self->vf_bdf, self->iommu);
	region_get(self->vf, VFIO_PCI_CONFIG_REGION_INDEX, &self->vf->config_space);
	region_get(self->vf, VFIO_PCI_BAR0_REGION_INDEX, &self->vf->bars[0].info);
}

FIXTURE_TEARDOWN(revoke_vf)
{
	if (!self->pf)
		return;
	token_cleanup(self->vf);
	free(self->vf_bdf);
	__sysfs_write(device_bdfs[0], "sriov_numvfs", "0");
	__sysfs_write(device_bdfs[0], "sriov_drivers_autoprobe", "1");
	token_cleanup(self->pf);
	iommu_cleanup(self->iommu);
}

TEST_F(revoke_vf, vf_decode)
{
	int fd = vfio_pci_dma_buf_export(self->vf, 0, 0, page_size);
	int importer = importer_create(self->vf_bdf, fd);
	u32 before, later, val;
	long faults;
	void *vaddr;
	int i;

	if (importer == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	vaddr = vfio_pci_bar_mmap(self->vf, 0, 0, page_size);
	ASSERT_EQ(0, try_read32(vaddr, &before));
	for (i = 0; i < 2; i++) {
		vfio_pci_decode_set(self->vf, i);
		EXPECT_EQ(i, !!(vfio_pci_config_readw(self->vf, PCI_COMMAND) &
				PCI_COMMAND_MEMORY));
		EXPECT_EQ(0, try_read32_faults(vaddr, &later, &faults));
		EXPECT_EQ(0, faults);
		EXPECT_EQ(before, later);
		EXPECT_EQ(0, importer_told(importer, NULL));
		importer_map(importer);
		importer_unmap(importer);
	}

	/* What does take it away does. */
	ASSERT_EQ(0, __vfio_pci_low_power_enter(self->vf, -1));
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	EXPECT_EQ(1, importer_told(importer, NULL));
	ASSERT_EQ(0, __vfio_pci_low_power_exit(self->vf));
	EXPECT_EQ(0, try_read32(vaddr, &later));
	EXPECT_EQ(before, later);

	ASSERT_EQ(0, close(importer));
	ASSERT_EQ(0, close(fd));
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

/* When an importer is told to let go, and in which state the device is then. */
FIXTURE(revoke_power) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int fd;
	int importer;
	int d1;
};

FIXTURE_SETUP(revoke_power)
{
	int bar;

	self->d1 = d1_allow(device_bdfs[0]);
	if (self->d1 == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	self->iommu = iommu_init(MODE_IOMMUFD);
	self->device = vfio_pci_device_init(device_bdfs[0], self->iommu);
	bar = vfio_pci_bar_find(self->device, page_size, false);
	if (bar < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdfs[0]);

	self->fd = vfio_pci_dma_buf_export(self->device, bar, 0, page_size);
	self->importer = importer_create(device_bdfs[0], self->fd);
	ASSERT_LE(0, self->importer);
	ASSERT_EQ(0, importer_told(self->importer, NULL));
}

FIXTURE_TEARDOWN(revoke_power)
{
	if (!self->device)
		return;
	close(self->importer);
	close(self->fd);
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
	close(self->d1);
}

/* 7.1: once for all that keeps the BARs out of reach, and not when it is over. */
TEST_F(revoke_power, told_once)
{
	struct vfio_pci_device *device = self->device;

	vfio_pci_decode_set(device, false);
	EXPECT_EQ(1, importer_told(self->importer, NULL));
	vfio_pci_decode_set(device, false);
	EXPECT_EQ(1, importer_told(self->importer, NULL));
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(1, importer_told(self->importer, NULL));
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(1, importer_told(self->importer, NULL));

	/* One event in the course of another */
	ASSERT_EQ(0, __vfio_pci_low_power_enter(device, -1));
	EXPECT_EQ(2, importer_told(self->importer, NULL));
	vfio_pci_decode_set(device, false);
	ASSERT_EQ(0, __vfio_pci_low_power_exit(device));
	EXPECT_EQ(2, importer_told(self->importer, NULL));
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(2, importer_told(self->importer, NULL));
}

/* D15: one that is told by a reset can still reach the device. */
static void try_power(struct __test_metadata *_metadata,
		      struct vfio_pci_device *device, int importer,
		      int (*reset)(struct view *view))
{
	struct view view = { .device = device };
	int power, told;

	/* Not D3hot, which has it told before there is a reset. */
	if (__vfio_pci_power_state_set(device, 1) ||
	    vfio_pci_power_state_get(device) != 1)
		SKIP(return, "%s does not enter D1\n", device_bdfs[0]);
	told = importer_told(importer, NULL);

	ASSERT_EQ(0, reset(&view));
	EXPECT_EQ(told + 1, importer_told(importer, &power));
	EXPECT_EQ(0, power);
	EXPECT_EQ(0, vfio_pci_power_state_get(device));
}

TEST_F(revoke_power, device_reset)
{
	if (!(self->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "%s cannot be reset\n", device_bdfs[0]);

	try_power(_metadata, self->device, self->importer, do_device_reset);
}

TEST_F(revoke_power, hot_reset)
{
	if (!have_hot_reset)
		SKIP(return, "%s has no hot reset\n", device_bdfs[0]);

	try_power(_metadata, self->device, self->importer, do_hot_reset);
}

TEST_F(revoke_power, outside_reset)
{
	int ret = __sysfs_reset(device_bdfs[0]);

	if (ret)
		SKIP(return, "%s has no reset in sysfs: %s\n", device_bdfs[0],
		     strerror(-ret));

	try_power(_metadata, self->device, self->importer, do_sysfs_reset);
}

/*
 * What the trace events say, in an instance of their own: nobody else's tracing
 * is touched, and nothing else is in there.
 */
#define TRACEFS "/sys/kernel/tracing"
#define TRACE_INSTANCE TRACEFS "/instances/vfio_pci_revoke_test"

/* By this program, which has to undo it. */
static bool tracefs_mounted;

static void tracefs_mount(void)
{
	if (access(TRACEFS "/events", F_OK))
		tracefs_mounted = !mount("none", TRACEFS, "tracefs", 0, NULL);
}

static void tracefs_unmount(void)
{
	/* If a test has left it there */
	rmdir(TRACE_INSTANCE);
	if (tracefs_mounted)
		umount(TRACEFS);
}

static void trace_write(const char *file, const char *text)
{
	char path[PATH_MAX];
	int fd;

	snprintf_assert(path, sizeof(path), TRACE_INSTANCE "/%s", file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	VFIO_ASSERT_GE(fd, 0);
	VFIO_ASSERT_EQ(write(fd, text, strlen(text)), strlen(text));
	VFIO_ASSERT_EQ(close(fd), 0);
}

/* The next event of the trace is this one, or one after it. */
__printf(3, 4)
static void expect_event(struct __test_metadata *_metadata, FILE *trace,
			 const char *fmt, ...)
{
	char line[512], text[256];
	bool found = false;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);

	while (!found && fgets(line, sizeof(line), trace)) {
		line[strcspn(line, "\n")] = '\0';
		found = strlen(line) > strlen(text) &&
			!strcmp(line + strlen(line) - strlen(text), text);
	}
	ASSERT_TRUE(found) {
		TH_LOG("no event \"%s\"", text);
	}
}

FIXTURE(revoke_trace) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
};

FIXTURE_SETUP(revoke_trace)
{
	if (access(TRACEFS "/events", F_OK))
		SKIP(return, "The kernel has no trace events\n");
	if (access(TRACEFS "/events/vfio_pci/vfio_pci_revoke_bars", F_OK))
		SKIP(return, "The kernel has no trace events of vfio-pci\n");

	self->iommu = iommu_init(MODE_IOMMUFD);
	self->device = vfio_pci_device_init(device_bdfs[0], self->iommu);
	vfio_pci_bars_unmap(self->device);
	self->bar = vfio_pci_bar_find(self->device, page_size, false);
	if (self->bar < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdfs[0]);

	rmdir(TRACE_INSTANCE);
	ASSERT_EQ(0, mkdir(TRACE_INSTANCE, 0700));
	/* One for all CPUs */
	trace_write("trace_clock", "global");
	trace_write("events/vfio_pci/enable", "1");
}

FIXTURE_TEARDOWN(revoke_trace)
{
	rmdir(TRACE_INSTANCE);
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

/* With VM_FAULT_SIGBUS */
static void expect_fault_failed(struct __test_metadata *_metadata, FILE *trace,
				const struct proc_map *map, int bar)
{
	expect_event(_metadata, trace,
		     " vfio_pci_fault_failed: ino=%lu bar=%d address=%lx order=0 ret=2",
		     (unsigned long)map->inode, bar, (unsigned long)map->start);
}

/* Events call a buffer by its inode, which /proc/PID/maps shows, too. */
TEST_F(revoke_trace, events)
{
	int fd = vfio_pci_dma_buf_export(self->device, self->bar, 0, page_size);
	void *buffer_map = vfio_pci_dma_buf_mmap(fd, 0, page_size);
	void *device_map = vfio_pci_bar_mmap(self->device, self->bar, 0, page_size);
	const char *bdf = device_bdfs[0];
	struct proc_map buffer, device;
	unsigned long ino;
	FILE *trace;
	u32 val;

	ASSERT_TRUE(proc_map_find(buffer_map, &buffer));
	ASSERT_TRUE(proc_map_find(device_map, &device));
	ino = buffer.inode;

	EXPECT_EQ(0, try_read32(buffer_map, &val));
	vfio_pci_decode_set(self->device, false);
	EXPECT_EQ(-EFAULT, try_read32(buffer_map, &val));
	EXPECT_EQ(-EFAULT, try_read32(device_map, &val));
	vfio_pci_decode_set(self->device, true);
	EXPECT_EQ(0, try_read32(buffer_map, &val));
	vfio_pci_dma_buf_revoke(self->device, fd);
	EXPECT_EQ(-EFAULT, try_read32(buffer_map, &val));
	EXPECT_EQ(-EBADFD, __vfio_pci_dma_buf_revoke(self->device, fd));
	trace_write("events/vfio_pci/enable", "0");

	trace = fopen(TRACE_INSTANCE "/trace", "re");
	ASSERT_NE(NULL, trace);
	expect_event(_metadata, trace,
		     " vfio_pci_dma_buf_export: %s: bar=%d ino=%lu ranges=1 extents=1 size=%zu",
		     bdf, self->bar, ino, page_size);
	expect_event(_metadata, trace, " vfio_pci_revoke_bars: %s", bdf);
	expect_event(_metadata, trace, " vfio_pci_revoke_bars_done: %s", bdf);
	expect_fault_failed(_metadata, trace, &buffer, self->bar);
	expect_fault_failed(_metadata, trace, &device, self->bar);
	expect_event(_metadata, trace, " vfio_pci_restore_bars: %s", bdf);
	expect_event(_metadata, trace,
		     " vfio_pci_dma_buf_revoke: %s: bar=%d ino=%lu ret=0",
		     bdf, self->bar, ino);
	expect_fault_failed(_metadata, trace, &buffer, self->bar);
	expect_event(_metadata, trace,
		     " vfio_pci_dma_buf_revoke: %s: bar=%d ino=%lu ret=%d",
		     bdf, self->bar, ino, -EBADFD);
	ASSERT_EQ(0, fclose(trace));

	ASSERT_EQ(0, munmap(buffer_map, page_size));
	ASSERT_EQ(0, munmap(device_map, page_size));
	ASSERT_EQ(0, close(fd));
}

static void probe_resets(void)
{
	struct iommu *iommu = iommu_init(MODE_IOMMUFD);
	struct view view = {
		.device = vfio_pci_device_init(device_bdfs[0], iommu),
	};

	have_hot_reset = true;
	have_bus_reset = true;
	have_hot_reset = !do_hot_reset(&view);
	have_bus_reset = !do_bus_reset(&view);
	vfio_pci_device_cleanup(view.device);
	iommu_cleanup(iommu);
}

static void restore(void)
{
	char *driver;
	int i;

	/* The children that run the tests inherit the handler. */
	if (getpid() != main_pid)
		return;

	config_write_fail_end();
	tracefs_unmount();
	for (i = 0; i < nr_devices; i++) {
		driver = sysfs_driver_get(device_bdfs[i]);
		if (!driver || strcmp(driver, device_driver))
			sysfs_driver_set(device_bdfs[i], device_driver);
		free(driver);
	}
	free(device_driver);
}

int main(int argc, char *argv[])
{
	device_bdfs = vfio_selftests_get_bdfs(&argc, argv, &nr_devices);
	page_size = getpagesize();

	device_driver = sysfs_driver_get(device_bdfs[0]);
	if (!device_driver)
		ksft_exit_skip("%s is bound to no driver\n", device_bdfs[0]);
	probe_resets();
	tracefs_mount();
	main_pid = getpid();
	VFIO_ASSERT_EQ(atexit(restore), 0);

	return test_harness_run(argc, argv);
}
