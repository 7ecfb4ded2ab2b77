// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the core makes of drivers and devices that are not like vfio-pci and most
 * hardware
 *
 *   unmappable_bar  A BAR whose mmap() is refused must not be exported as a
 *                   DMA-BUF either, and one that nobody can map must not be
 *                   mapped by the kernel.
 *   own_mmap        A driver that maps BARs itself, as nvgrace-gpu does: the core
 *                   must reach these mappings, too, by themselves and next to
 *                   its own ones of the same BAR.
 *   own_memory      A driver that exports memory which is not in the BAR: such a
 *                   buffer can be imported, but not mapped.
 *   no_export       A driver without an export: the features of DMA-BUFs say so,
 *                   and a BAR can still be mapped.
 *
 * All of that is imitated by the vfio_pci_test module, so any device with a
 * memory BAR of at least a page will do, two of them for own_memory. Needs the
 * module to be loaded and CONFIG_VFIO_PCI_DMABUF; the device is bound to the
 * module's driver during the test and goes back to its own afterwards.
 *
 * The BARs that hardware does not let anyone map (pci_dev->non_mappable_bars,
 * on s390) are imitated only as far as the driver looks at the flag. Memory that
 * is cacheable, as that of nvgrace-gpu, is not imitated: it must not be mapped in
 * the first place. Events that the device lacks are skipped, all others are for
 * vfio_pci_revoke_test.
 *
 * Specification: 2.5, 3.1, 5.4, 5.7, 7.2, 7.4, 7.7, 8, 9.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <linux/limits.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define TEST_DRIVER "vfio-pci-test"
#define PARAMETERS "/sys/module/vfio_pci_test/parameters/"

/* The most that an error and its recovery may take. */
#define LIMIT_SECONDS 10

#define IOVA SZ_1G

static const char *device_bdf;
static size_t page_size;
static char *device_driver;
static char override_path[PATH_MAX];
static char override[256];
static pid_t child;

static void file_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	VFIO_ASSERT_GE(fd, 0, "Cannot open %s\n", path);
	VFIO_ASSERT_EQ(write(fd, value, strlen(value)), strlen(value));
	VFIO_ASSERT_EQ(close(fd), 0);
}

static void parameter_set(const char *name, long value)
{
	char path[PATH_MAX], buf[32];

	snprintf_assert(path, sizeof(path), PARAMETERS "%s", name);
	snprintf_assert(buf, sizeof(buf), "%ld", value);
	file_write(path, buf);
}

/* Those of the module. Its source says what they are and when they count. */
struct parameters {
	unsigned int nommap;
	unsigned int non_mappable;
	unsigned int own_mmap;
	int own_memory;
	unsigned int no_export;
};

static void parameters_set(const struct parameters *parameters)
{
	parameter_set("nommap", parameters->nommap);
	parameter_set("non_mappable", parameters->non_mappable);
	parameter_set("own_mmap", parameters->own_mmap);
	parameter_set("own_memory", parameters->own_memory);
	parameter_set("no_export", parameters->no_export);
}

static void driver_bind(const struct parameters *parameters)
{
	parameters_set(parameters);
	sysfs_driver_set(device_bdf, TEST_DRIVER);
}

/* The BAR to test with: memory, and of that many pages, to be exported. */
static int first_bar(struct vfio_pci_device *device, int nr_pages)
{
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (device->bars[bar].info.size >= nr_pages * page_size)
			return bar;
	}

	return -1;
}

/* A BAR that can be mapped, in which one can tell a page from another if @ram. */
static int mappable_bar(struct vfio_pci_device *device, u64 size, bool *ram)
{
	int bar = vfio_pci_bar_find(device, size, true);

	*ram = bar >= 0;
	if (*ram)
		return bar;

	return vfio_pci_bar_find(device, size, false);
}

/* How many regions of /proc/iomem vfio has requested */
static int nr_requested(void)
{
	char line[256];
	int nr = 0;
	FILE *file;

	file = fopen("/proc/iomem", "re");
	VFIO_ASSERT_NOT_NULL(file);
	while (fgets(line, sizeof(line), file))
		nr += !!strstr(line, ": vfio\n");
	fclose(file);

	return nr;
}

FIXTURE(unmappable_bar) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int nr_requested;	/* before it was opened */
	int bar;
};

FIXTURE_VARIANT(unmappable_bar) {
	/* Parameters of the module. */
	unsigned int nommap;
	unsigned int non_mappable;
	/* What an export says, 0 if it succeeds, and whether mmap() does. */
	int export_ret;
	bool mappable;
};

/* Without the parameters everything works, or the other variants prove nothing. */
FIXTURE_VARIANT_ADD(unmappable_bar, none) {
	.mappable = true,
};

/* The driver decided that mmap() is refused: the export follows suit. */
FIXTURE_VARIANT_ADD(unmappable_bar, refused) {
	.nommap = ~0U,
	.export_ret = -EINVAL,
};

/* Nobody can map the device's BARs: they are not even reserved. */
FIXTURE_VARIANT_ADD(unmappable_bar, non_mappable) {
	.non_mappable = 1,
	.export_ret = -ENODEV,
};

FIXTURE_SETUP(unmappable_bar)
{
	driver_bind(&(struct parameters) {
		.nommap = variant->nommap,
		.non_mappable = variant->non_mappable,
	});

	self->nr_requested = nr_requested();
	self->iommu = iommu_init(default_iommu_mode);
	self->device = vfio_pci_device_init(device_bdf, self->iommu);
	self->bar = first_bar(self->device, 1);
	if (self->bar < 0)
		SKIP(return, "%s has no BAR of at least a page\n", device_bdf);
}

FIXTURE_TEARDOWN(unmappable_bar)
{
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

TEST_F(unmappable_bar, mmap)
{
	struct vfio_region_info *info = &self->device->bars[self->bar].info;
	void *vaddr;

	ASSERT_EQ(variant->mappable, !!(info->flags & VFIO_REGION_INFO_FLAG_MMAP));

	errno = 0;
	vaddr = mmap(NULL, page_size, PROT_READ, MAP_SHARED,
		     self->device->fd, info->offset);
	if (!variant->mappable) {
		ASSERT_EQ(MAP_FAILED, vaddr);
		ASSERT_EQ(EINVAL, errno);
		return;
	}

	ASSERT_NE(MAP_FAILED, vaddr);
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

/* By the kernel, on behalf of userspace */
TEST_F(unmappable_bar, access)
{
	struct vfio_region_info *info = &self->device->bars[self->bar].info;
	u64 pos = info->offset + info->size - sizeof(u32);
	int fd = self->device->fd, eventfd_fd;
	u32 val;

	eventfd_fd = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, eventfd_fd);

	if (!variant->non_mappable) {
		EXPECT_LT(self->nr_requested, nr_requested());
		EXPECT_EQ(sizeof(val), pread(fd, &val, sizeof(val), pos));
		EXPECT_EQ(0, __vfio_pci_ioeventfd(self->device, pos, 0, eventfd_fd));
	} else {
		EXPECT_EQ(self->nr_requested, nr_requested());
		EXPECT_EQ(-1, pread(fd, &val, sizeof(val), pos));
		EXPECT_EQ(ENODEV, errno);
		EXPECT_EQ(-1, pwrite(fd, &val, sizeof(val), pos));
		EXPECT_EQ(ENODEV, errno);
		EXPECT_EQ(-ENODEV, __vfio_pci_ioeventfd(self->device, pos, 0,
							eventfd_fd));
	}
	EXPECT_EQ(0, close(eventfd_fd));
}

TEST_F(unmappable_bar, export)
{
	int fd;

	if (variant->export_ret) {
		ASSERT_EQ(variant->export_ret,
			  __vfio_pci_dma_buf_export(self->device, self->bar, 0,
						    page_size));
		return;
	}

	fd = vfio_pci_dma_buf_export(self->device, self->bar, 0, page_size);
	ASSERT_EQ(page_size, lseek(fd, 0, SEEK_END));
	ASSERT_EQ(0, close(fd));
}

/* The same page twice, and all of that is refused too. */
TEST_F(unmappable_bar, export_ranges)
{
	const struct vfio_region_dma_range ranges[] = {
		{ .offset = 0, .length = page_size },
		{ .offset = 0, .length = page_size },
	};
	int ret;

	ret = __vfio_pci_dma_buf_export_ranges(self->device, self->bar,
					       O_RDWR | O_CLOEXEC, ranges,
					       ARRAY_SIZE(ranges));
	if (variant->export_ret) {
		ASSERT_EQ(variant->export_ret, ret);
		return;
	}

	ASSERT_LE(0, ret);
	ASSERT_EQ(2 * page_size, lseek(ret, 0, SEEK_END));
	ASSERT_EQ(0, close(ret));
}

enum way {
	OWN,		/* of the driver that is tested */
	CORE,		/* by vfio_pci_core_mmap() */
	EXPORTED,	/* of a DMA-BUF */
	NR_WAYS,
};

/* A BAR, and mappings of its first page, NULL without. */
struct mapped_bar {
	struct vfio_pci_device *device;
	int index;
	bool ram;
	u32 mark;		/* what was written last */
	void *vaddr[NR_WAYS];
};

FIXTURE(own_mmap) {
	struct iommu *iommu;
	struct mapped_bar bar;
};

FIXTURE_VARIANT(own_mmap) {
	const char *iommu_mode;
	/* The same page is mapped in all ways, or by the driver only. */
	bool together;
};

FIXTURE_VARIANT_ADD(own_mmap, alone) {
	.iommu_mode = MODE_IOMMUFD,
};

FIXTURE_VARIANT_ADD(own_mmap, group) {
	.iommu_mode = MODE_VFIO_TYPE1V2_IOMMU,
};

FIXTURE_VARIANT_ADD(own_mmap, together) {
	.iommu_mode = MODE_IOMMUFD,
	.together = true,
};

/* What the core maps has a buffer behind it, not the file of the device. */
static bool has_buffer(void *vaddr)
{
	struct proc_map map;

	VFIO_ASSERT_TRUE(proc_map_find(vaddr, &map));
	return !!strstr(map.name, "dmabuf");
}

static void expect_revoked(struct __test_metadata *_metadata,
			   struct mapped_bar *bar)
{
	int way;
	u32 val;

	for (way = 0; way < NR_WAYS; way++) {
		if (!bar->vaddr[way])
			continue;
		EXPECT_EQ(-EFAULT, try_read32(bar->vaddr[way], &val))
			TH_LOG("Mapping %d", way);
	}
}

/* What there was has been taken away, and comes back by a fault: the same page. */
static void expect_restored(struct __test_metadata *_metadata,
			    struct mapped_bar *bar)
{
	long faults;
	u32 val;
	int way;

	for (way = 0; way < NR_WAYS; way++) {
		if (!bar->vaddr[way])
			continue;
		EXPECT_EQ(0, try_read32_faults(bar->vaddr[way], &val, &faults))
			TH_LOG("Mapping %d", way);
		EXPECT_EQ(1, faults)
			TH_LOG("Mapping %d", way);
		if (!bar->ram)
			continue;

		vfio_pci_bar_write32(bar->device, bar->index, 0, ++bar->mark);
		EXPECT_EQ(0, try_read32(bar->vaddr[way], &val));
		EXPECT_EQ(bar->mark, val);
	}
}

FIXTURE_SETUP(own_mmap)
{
	struct mapped_bar *bar = &self->bar;
	int fd;

	driver_bind(&(struct parameters) { .own_mmap = ~0U });
	self->iommu = iommu_init(variant->iommu_mode);
	bar->device = vfio_pci_device_init(device_bdf, self->iommu);
	vfio_pci_bars_unmap(bar->device);
	bar->mark = 0x0e3a0000;

	bar->index = mappable_bar(bar->device, page_size, &bar->ram);
	if (bar->index < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdf);

	bar->vaddr[OWN] = vfio_pci_bar_mmap(bar->device, bar->index, 0, page_size);
	ASSERT_FALSE(has_buffer(bar->vaddr[OWN]));

	if (variant->together) {
		parameter_set("own_mmap", 0);
		bar->vaddr[CORE] = vfio_pci_bar_mmap(bar->device, bar->index, 0,
						     page_size);
		ASSERT_TRUE(has_buffer(bar->vaddr[CORE]));
		parameter_set("own_mmap", ~0U);

		fd = vfio_pci_dma_buf_export(bar->device, bar->index, 0, page_size);
		bar->vaddr[EXPORTED] = vfio_pci_dma_buf_mmap(fd, 0, page_size);
		ASSERT_EQ(0, close(fd));
	}
	expect_restored(_metadata, bar);
}

FIXTURE_TEARDOWN(own_mmap)
{
	struct mapped_bar *bar = &self->bar;

	if (bar->device)
		vfio_pci_device_cleanup(bar->device);
	iommu_cleanup(self->iommu);
}

/* All of a BAR, and nothing but the BAR: or what the other cases see is not it. */
TEST_F(own_mmap, contents)
{
	struct mapped_bar *bar = &self->bar;
	u64 size = bar->device->bars[bar->index].info.size;
	const u64 offsets[] = { 0, size - page_size };
	struct pfnmap pfnmap;
	void *vaddr;
	int ret, i;
	u32 val;

	vaddr = vfio_pci_bar_mmap(bar->device, bar->index, 0, size);
	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		EXPECT_EQ(0, try_read32(vaddr + offsets[i], &val));
		if (bar->ram) {
			ASSERT_EQ(0, try_write32(vaddr + offsets[i], ++bar->mark));
			EXPECT_EQ(bar->mark,
				  vfio_pci_bar_read32(bar->device, bar->index,
						      offsets[i]));
		}

		ret = pfnmap_get(vaddr + offsets[i], &pfnmap);
		if (ret == -EOPNOTSUPP)
			continue;
		ASSERT_EQ(0, ret);
		EXPECT_EQ(sysfs_bar_start_get(device_bdf, bar->index) + offsets[i],
			  pfnmap.pfn * page_size);
		EXPECT_STREQ("nc", pfnmap.cache);
	}
	ASSERT_EQ(0, munmap(vaddr, size));

	EXPECT_EQ(MAP_FAILED, __vfio_pci_bar_mmap(bar->device, bar->index, page_size,
						  size, PROT_READ));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(own_mmap, decode)
{
	struct mapped_bar *bar = &self->bar;
	void *late;
	u32 val;
	int i;

	for (i = 0; i < 2; i++) {
		vfio_pci_decode_set(bar->device, false);
		expect_revoked(_metadata, bar);
		late = vfio_pci_bar_mmap(bar->device, bar->index, 0, page_size);
		EXPECT_EQ(-EFAULT, try_read32(late, &val));

		vfio_pci_decode_set(bar->device, true);
		expect_restored(_metadata, bar);
		EXPECT_EQ(0, try_read32(late, &val));
		ASSERT_EQ(0, munmap(late, page_size));
	}
}

/* A huge page goes as a whole. */
TEST_F(own_mmap, huge)
{
	struct mapped_bar *bar = &self->bar;
	u64 size = huge_page_size();
	void *vaddr, *end;
	long faults;
	u32 val;
	int i;

	if (!size || bar->device->bars[bar->index].info.size < size)
		SKIP(return, "No huge pages, or none in a BAR of %s\n", device_bdf);

	vaddr = mmap(mmap_reserve(size, size, 0), size, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_FIXED, bar->device->fd,
		     vfio_pci_bar_pos(bar->device, bar->index, 0));
	ASSERT_NE(MAP_FAILED, vaddr);
	end = vaddr + size - sizeof(val);

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, try_read32_faults(vaddr, &val, &faults));
		EXPECT_EQ(1, faults);
		EXPECT_EQ(0, try_read32_faults(end, &val, &faults));
		EXPECT_EQ(0, faults);

		vfio_pci_decode_set(bar->device, false);
		EXPECT_EQ(-EFAULT, try_read32(end, &val));
		EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
		vfio_pci_decode_set(bar->device, true);
	}
	ASSERT_EQ(0, munmap(vaddr, size));
}

static void try_reset(struct __test_metadata *_metadata,
		      struct mapped_bar *bar,
		      int (*reset)(struct vfio_pci_device *device))
{
	ASSERT_EQ(0, reset(bar->device));
	expect_restored(_metadata, bar);

	/* It does not turn decoding on. */
	vfio_pci_decode_set(bar->device, false);
	ASSERT_EQ(0, reset(bar->device));
	expect_revoked(_metadata, bar);
	vfio_pci_decode_set(bar->device, true);
	expect_restored(_metadata, bar);
}

TEST_F(own_mmap, device_reset)
{
	struct mapped_bar *bar = &self->bar;

	if (!(bar->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "%s cannot be reset\n", device_bdf);

	try_reset(_metadata, bar, __vfio_pci_reset);
}

static int sysfs_reset(struct vfio_pci_device *device)
{
	return __sysfs_reset(device->bdf);
}

/* Not by way of VFIO. */
TEST_F(own_mmap, sysfs_reset)
{
	struct mapped_bar *bar = &self->bar;

	if (!(bar->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "%s cannot be reset\n", device_bdf);

	try_reset(_metadata, bar, sysfs_reset);
}

struct resets {
	struct vfio_pci_device *device;
	int ret;
	bool done;
};

static void *resets_thread(void *arg)
{
	struct resets *resets = arg;
	int i;

	for (i = 0; i < 3 && !resets->ret; i++)
		resets->ret = __vfio_pci_reset(resets->device);
	__atomic_store_n(&resets->done, true, __ATOMIC_RELEASE);

	return NULL;
}

/* A fault waits for the end of the reset, it is no reason for a signal. */
TEST_F(own_mmap, during_reset)
{
	struct mapped_bar *bar = &self->bar;
	struct resets resets = { .device = bar->device };
	long faults, all = 0;
	pthread_t thread;
	int ret = 0;
	u32 val;

	if (!(bar->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "%s cannot be reset\n", device_bdf);

	ASSERT_EQ(0, pthread_create(&thread, NULL, resets_thread, &resets));
	while (!ret && !__atomic_load_n(&resets.done, __ATOMIC_ACQUIRE)) {
		ret = try_read32_faults(bar->vaddr[OWN], &val, &faults);
		all += faults;
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(0, all);

	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_EQ(0, resets.ret);
}

TEST_F(own_mmap, d3hot)
{
	struct mapped_bar *bar = &self->bar;

	if (__vfio_pci_power_state_set(bar->device, 3))
		SKIP(return, "%s has no power management\n", device_bdf);

	expect_revoked(_metadata, bar);
	ASSERT_EQ(0, __vfio_pci_power_state_set(bar->device, 0));
	expect_restored(_metadata, bar);
}

TEST_F(own_mmap, low_power)
{
	struct mapped_bar *bar = &self->bar;

	ASSERT_EQ(0, __vfio_pci_low_power_enter(bar->device, -1));
	expect_revoked(_metadata, bar);
	ASSERT_EQ(0, __vfio_pci_low_power_exit(bar->device));
	expect_restored(_metadata, bar);
}

/* Here the zap is not that of the revocation, which comes later. */
TEST_F(own_mmap, error)
{
	struct mapped_bar *bar = &self->bar;
	int uevents = uevent_open(), ret;

	ret = __port_error_inject(device_bdf, true);
	if (ret)
		SKIP(return, "No error of a port above %s: %s\n", device_bdf,
		     strerror(-ret));

	ASSERT_TRUE(uevent_get(uevents, device_bdf, "ERROR_EVENT=BEGIN_RECOVERY",
			       LIMIT_SECONDS * 1000));
	expect_revoked(_metadata, bar);
	ASSERT_TRUE(uevent_get(uevents, device_bdf,
			       "ERROR_EVENT=SUCCESSFUL_RECOVERY",
			       LIMIT_SECONDS * 1000));

	/* It has turned decoding off. */
	expect_revoked(_metadata, bar);
	vfio_pci_decode_set(bar->device, true);
	expect_restored(_metadata, bar);
	ASSERT_EQ(0, close(uevents));
}

/* The mapping keeps the device open, and with it what was exported. */
TEST_F(own_mmap, close)
{
	struct mapped_bar *bar = &self->bar;
	int way;
	u32 val;

	vfio_pci_device_cleanup(bar->device);
	bar->device = NULL;

	if (bar->vaddr[CORE])
		ASSERT_EQ(0, munmap(bar->vaddr[CORE], page_size));
	bar->vaddr[CORE] = NULL;
	for (way = 0; way < NR_WAYS; way++) {
		if (bar->vaddr[way])
			EXPECT_EQ(0, try_read32(bar->vaddr[way], &val));
	}

	ASSERT_EQ(0, munmap(bar->vaddr[OWN], page_size));
	bar->vaddr[OWN] = NULL;
	expect_revoked(_metadata, bar);
}

FIXTURE(own_memory) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	bool ram;
	int nr_pages;
};

FIXTURE_VARIANT(own_memory) {
	unsigned int nommap;
};

FIXTURE_VARIANT_ADD(own_memory, mappable) {
};

/* By the driver's rules this can still be exported. */
FIXTURE_VARIANT_ADD(own_memory, refused) {
	.nommap = ~0U,
};

FIXTURE_SETUP(own_memory)
{
	driver_bind(&(struct parameters) { .nommap = variant->nommap });
	self->iommu = iommu_init(MODE_IOMMUFD);
	self->device = vfio_pci_device_init(device_bdf, self->iommu);

	if (variant->nommap)
		self->bar = first_bar(self->device, 2);
	else
		self->bar = mappable_bar(self->device, 2 * page_size, &self->ram);
	if (self->bar < 0)
		SKIP(return, "%s has no BAR of two pages\n", device_bdf);
	self->nr_pages = self->device->bars[self->bar].info.size / page_size;
}

FIXTURE_TEARDOWN(own_memory)
{
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

static void expect_no_mmap(struct __test_metadata *_metadata, int fd)
{
	const int prots[] = { PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE };
	int i;

	for (i = 0; i < ARRAY_SIZE(prots); i++) {
		errno = 0;
		EXPECT_EQ(MAP_FAILED, __vfio_pci_dma_buf_mmap(fd, 0, page_size,
							      prots[i]));
		EXPECT_EQ(EOPNOTSUPP, errno);
	}
}

/* Memory is handed out that lies this way from what is asked for, in pages. */
TEST_F(own_memory, mmap)
{
	const int end = self->nr_pages;
	const struct {
		int distance, start, nr;
		bool in_bar;
	} exports[] = {
		/* Before the BAR, and across its start. */
		{ -1, 0, 1 },
		{ -1, 0, 2 },
		/* Behind it, and across its end. */
		{ 1, end - 1, 1 },
		{ 1, end - 2, 2 },
		/* Nowhere near. */
		{ end, 0, end },
		/* Another part of it, up to its start and to its end. */
		{ -1, 1, 1, true },
		{ 1, end - 2, 1, true },
	};
	struct vfio_pci_device *device = self->device;
	u32 val, mark = 0x3e300000;
	void *vaddr;
	int fd, i;

	for (i = 0; i < ARRAY_SIZE(exports); i++) {
		parameter_set("own_memory", exports[i].distance);
		fd = vfio_pci_dma_buf_export(device, self->bar,
					     exports[i].start * page_size,
					     exports[i].nr * page_size);
		ASSERT_EQ(exports[i].nr * page_size, lseek(fd, 0, SEEK_END));

		if (variant->nommap || !exports[i].in_bar) {
			expect_no_mmap(_metadata, fd);
			ASSERT_EQ(0, close(fd));
			continue;
		}

		/* That is what the mapping shows. */
		vaddr = vfio_pci_dma_buf_mmap(fd, 0, page_size);
		if (self->ram)
			vfio_pci_bar_write32(device, self->bar,
					     (exports[i].start + exports[i].distance) *
					     page_size, ++mark);
		EXPECT_EQ(0, try_read32(vaddr, &val));
		if (self->ram)
			EXPECT_EQ(mark, val);
		ASSERT_EQ(0, munmap(vaddr, page_size));
		ASSERT_EQ(0, close(fd));
	}
}

/* One range of several is enough, first or last. */
TEST_F(own_memory, ranges)
{
	struct vfio_region_dma_range ranges[] = {
		{ .offset = 0, .length = page_size },
		{ .offset = page_size, .length = page_size },
	};
	const int distances[] = { -1, self->nr_pages - 1 };
	int fd, i;

	for (i = 0; i < ARRAY_SIZE(distances); i++) {
		parameter_set("own_memory", distances[i]);
		fd = __vfio_pci_dma_buf_export_ranges(self->device, self->bar,
						      O_RDWR | O_CLOEXEC, ranges,
						      ARRAY_SIZE(ranges));
		ASSERT_LE(0, fd);
		expect_no_mmap(_metadata, fd);
		ASSERT_EQ(0, close(fd));
	}
}

static void expect_translates(struct __test_metadata *_metadata, int expected)
{
	int ret = iommu_translates(device_bdf, IOVA);

	if (ret != -EOPNOTSUPP)
		EXPECT_EQ(expected, ret);
}

/* It is what such an export is for, and goes the way of all others. */
TEST_F(own_memory, importer)
{
	struct iommu *iommu = self->iommu;
	int fd;

	parameter_set("own_memory", self->nr_pages);
	fd = vfio_pci_dma_buf_export(self->device, self->bar, 0, page_size);
	ASSERT_EQ(0, __iommu_map_dma_buf(iommu, fd, page_size, IOVA));
	expect_translates(_metadata, 1);

	vfio_pci_decode_set(self->device, false);
	expect_translates(_metadata, 0);
	EXPECT_EQ(-ENODEV, __iommu_map_dma_buf(iommu, fd, page_size, IOVA + SZ_2M));
	vfio_pci_decode_set(self->device, true);
	ASSERT_EQ(0, __iommu_unmap_dma_buf(iommu, IOVA, page_size));
	ASSERT_EQ(0, __iommu_map_dma_buf(iommu, fd, page_size, IOVA));
	expect_translates(_metadata, 1);

	EXPECT_EQ(0, __vfio_pci_dma_buf_revoke(self->device, fd));
	expect_translates(_metadata, 0);
	EXPECT_EQ(-ENODEV, __iommu_map_dma_buf(iommu, fd, page_size, IOVA + SZ_2M));
	ASSERT_EQ(0, __iommu_unmap_dma_buf(iommu, IOVA, page_size));
	ASSERT_EQ(0, close(fd));
}

FIXTURE(no_export) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	bool ram;
};

FIXTURE_VARIANT(no_export) {
	unsigned int no_export;
};

/* As a driver that was written before there was an export. */
FIXTURE_VARIANT_ADD(no_export, without_ops) {
	.no_export = 2,
};

FIXTURE_VARIANT_ADD(no_export, without_function) {
	.no_export = 1,
};

FIXTURE_SETUP(no_export)
{
	driver_bind(&(struct parameters) { .no_export = variant->no_export });
	self->iommu = iommu_init(default_iommu_mode);
	self->device = vfio_pci_device_init(device_bdf, self->iommu);
	vfio_pci_bars_unmap(self->device);

	self->bar = mappable_bar(self->device, page_size, &self->ram);
	if (self->bar < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdf);
}

FIXTURE_TEARDOWN(no_export)
{
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

/* Whatever else there is to say about the call. */
TEST_F(no_export, features)
{
	const int features[] = {
		VFIO_DEVICE_FEATURE_DMA_BUF,
		VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE,
		VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR,
	};
	const int fds[] = { -1, self->device->fd };
	int i;

	for (i = 0; i < ARRAY_SIZE(features); i++)
		EXPECT_EQ(-EOPNOTSUPP,
			  __vfio_device_feature(self->device->fd,
						VFIO_DEVICE_FEATURE_PROBE |
						features[i], NULL, 0))
			TH_LOG("Feature %d", features[i]);

	EXPECT_EQ(-EOPNOTSUPP,
		  __vfio_pci_dma_buf_export(self->device, self->bar, 0, page_size));
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-EOPNOTSUPP,
			  __vfio_pci_dma_buf_revoke(self->device, fds[i]));
		EXPECT_EQ(-EOPNOTSUPP,
			  __vfio_pci_dma_buf_memattr_set(self->device, fds[i],
							 VFIO_DMA_BUF_MEMATTR_WC));
	}
}

TEST_F(no_export, mmap)
{
	u32 val, mark = 0x20e00001;
	void *vaddr;

	vaddr = vfio_pci_bar_mmap(self->device, self->bar, 0, page_size);
	if (self->ram)
		vfio_pci_bar_write32(self->device, self->bar, 0, mark);
	ASSERT_EQ(0, try_read32(vaddr, &val));
	if (self->ram)
		EXPECT_EQ(mark, val);

	vfio_pci_decode_set(self->device, false);
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	vfio_pci_decode_set(self->device, true);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	if (self->ram)
		EXPECT_EQ(mark, val);
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

static void override_get(void)
{
	ssize_t len;
	int fd;

	snprintf_assert(override_path, sizeof(override_path),
			"/sys/bus/pci/devices/%s/driver_override", device_bdf);
	fd = open(override_path, O_RDONLY);
	VFIO_ASSERT_GE(fd, 0, "Cannot open %s\n", override_path);
	len = read(fd, override, sizeof(override) - 1);
	VFIO_ASSERT_GT(len, 0);
	VFIO_ASSERT_EQ(close(fd), 0);

	override[len] = '\0';
	/* None, which is set with an empty line */
	if (!strcmp(override, "(null)\n"))
		strcpy(override, "\n");
}

static void restore(void)
{
	parameters_set(&(struct parameters) {});
	sysfs_driver_set(device_bdf, device_driver);
	file_write(override_path, override);
	free(device_driver);
}

static void kill_child(int sig)
{
	kill(-child, SIGKILL);
}

/*
 * The tests run in a child, so that the device gets its driver back however
 * they end: by an assert of the library, by a limit on their time.
 */
int main(int argc, char *argv[])
{
	int status;

	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	page_size = getpagesize();

	if (access(PARAMETERS, F_OK))
		ksft_exit_skip("The module vfio_pci_test is not loaded\n");

	device_driver = sysfs_driver_get(device_bdf);
	if (!device_driver)
		ksft_exit_skip("%s is bound to no driver\n", device_bdf);

	override_get();

	child = fork();
	VFIO_ASSERT_GE(child, 0);
	if (!child) {
		setpgid(0, 0);
		return test_harness_run(argc, argv);
	}

	setpgid(child, child);
	signal(SIGTERM, kill_child);
	signal(SIGINT, kill_child);
	while (waitpid(child, &status, 0) < 0)
		VFIO_ASSERT_EQ(errno, EINTR);
	restore();

	return WIFEXITED(status) ? WEXITSTATUS(status) : KSFT_FAIL;
}
