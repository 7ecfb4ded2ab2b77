// SPDX-License-Identifier: GPL-2.0-only
/*
 * mmap() of a BAR through the device fd
 *
 * Proves that what stands behind such a mapping is nothing that userspace has
 * to care about: offsets, sizes, errors, flags and the memory attribute are
 * those of a plain mapping of the device fd; a mapping can be split, moved,
 * shrunk, inherited and outlive the fd; it can be made while memory decoding is
 * off, and is reached when it is on; what is read and written are the bytes at
 * that very offset. And that /proc/PID/maps tells which device and which BAR, and
 * shows one file behind all mappings of a BAR.
 *
 * Does not look at what happens to a mapping when the BARs go out of reach
 * (vfio_pci_revoke_test), nor at the pages it is made of
 * (vfio_pci_dma_buf_fault_test). A BAR that cannot be mapped at all is made by
 * vfio_pci_unmappable_bar_test.
 *
 * Any device with a mappable BAR will do; one that is backed by memory, such as
 * QEMU's ivshmem-plain, allows more. The cases on the attribute need the module
 * vfio_selftest.
 *
 * Specification: 4.1 to 4.5.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <linux/dma-buf.h>
#include <linux/limits.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define MARK(_page) (0xba000000 | (u32)(_page))

static const char *device_bdf;
static size_t page_size;

FIXTURE(bar_mmap) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;		/* at least a page */
	int big;		/* at least four pages, or -1 */
	int ram;		/* big, and backed by memory, or -1 */
};

FIXTURE_VARIANT(bar_mmap) {
	const char *iommu_mode;
};

/* The device fd comes from the cdev or from the group. */
FIXTURE_VARIANT_ADD(bar_mmap, cdev) {
	.iommu_mode = MODE_IOMMUFD,
};

FIXTURE_VARIANT_ADD(bar_mmap, group) {
	.iommu_mode = MODE_VFIO_TYPE1V2_IOMMU,
};

FIXTURE_SETUP(bar_mmap)
{
	self->iommu = iommu_init(variant->iommu_mode);
	self->device = vfio_pci_device_init(device_bdf, self->iommu);
	vfio_pci_bars_unmap(self->device);

	self->bar = vfio_pci_bar_find(self->device, page_size, false);
	self->big = vfio_pci_bar_find(self->device, 4 * page_size, false);
	self->ram = vfio_pci_bar_find(self->device, 4 * page_size, true);
	if (self->ram >= 0) {
		self->bar = self->ram;
		self->big = self->ram;
	}
	if (self->bar < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdf);
}

FIXTURE_TEARDOWN(bar_mmap)
{
	if (self->device)
		vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

static u64 bar_size(struct vfio_pci_device *device, int bar)
{
	return device->bars[bar].info.size;
}

/* Where a region is in the file, whether it exists or not. */
static u64 region_pos(struct vfio_pci_device *device, u32 index)
{
	return device->config_space.offset / VFIO_PCI_CONFIG_REGION_INDEX * index;
}

static void expect_no_mmap(struct __test_metadata *_metadata, int fd,
			   u64 pos, size_t size, int flags, int error)
{
	void *vaddr;

	errno = 0;
	vaddr = mmap(NULL, size, PROT_READ, flags, fd, pos);
	EXPECT_EQ(MAP_FAILED, vaddr) {
		TH_LOG("mmap() of %#zx bytes at %#llx succeeds", size,
		       (unsigned long long)pos);
	}
	EXPECT_EQ(error, errno) {
		TH_LOG("mmap() of %#zx bytes at %#llx", size,
		       (unsigned long long)pos);
	}
}

TEST_F(bar_mmap, errors)
{
	struct vfio_pci_device *device = self->device;
	u64 size = bar_size(device, self->bar);
	u64 pos = vfio_pci_bar_pos(device, self->bar, 0);
	int fd = device->fd, i;

	/* No such region: behind the last one, and far behind it. */
	expect_no_mmap(_metadata, fd, region_pos(device, VFIO_PCI_NUM_REGIONS),
		       page_size, MAP_SHARED, EINVAL);
	expect_no_mmap(_metadata, fd, region_pos(device, 0x1000), page_size,
		       MAP_SHARED, EINVAL);
	/* Regions that are not mappable: ROM, config space, VGA; I/O BARs. */
	for (i = VFIO_PCI_ROM_REGION_INDEX; i < VFIO_PCI_NUM_REGIONS; i++)
		expect_no_mmap(_metadata, fd, region_pos(device, i), page_size,
			       MAP_SHARED, EINVAL);
	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		if (!(device->bars[i].info.flags & VFIO_REGION_INFO_FLAG_MMAP))
			expect_no_mmap(_metadata, fd,
				       vfio_pci_bar_pos(device, i, 0),
				       page_size, MAP_SHARED, EINVAL);
	}

	/* Past the end, across the end, nowhere near a page. */
	expect_no_mmap(_metadata, fd, pos + size, page_size, MAP_SHARED, EINVAL);
	expect_no_mmap(_metadata, fd, pos, size + page_size, MAP_SHARED, EINVAL);
	expect_no_mmap(_metadata, fd, pos + size - page_size, 2 * page_size,
		       MAP_SHARED, EINVAL);
	expect_no_mmap(_metadata, fd, pos + 4, page_size, MAP_SHARED, EINVAL);

	expect_no_mmap(_metadata, fd, pos, page_size, MAP_PRIVATE, EINVAL);
}

/* A BAR smaller than a page has the page to itself, and only that page. */
TEST_F(bar_mmap, sub_page)
{
	struct vfio_pci_device *device = self->device;
	void *vaddr;
	u32 val;
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (device->bars[bar].info.flags & VFIO_REGION_INFO_FLAG_MMAP &&
		    bar_size(device, bar) < page_size)
			break;
	}
	if (bar == PCI_STD_NUM_BARS)
		SKIP(return, "%s has no mappable BAR below a page\n", device_bdf);

	vaddr = vfio_pci_bar_mmap(device, bar, 0, page_size);
	ASSERT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));

	vaddr = vfio_pci_bar_mmap(device, bar, 0, bar_size(device, bar));
	ASSERT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));

	expect_no_mmap(_metadata, device->fd, vfio_pci_bar_pos(device, bar, 0),
		       2 * page_size, MAP_SHARED, EINVAL);
	expect_no_mmap(_metadata, device->fd,
		       vfio_pci_bar_pos(device, bar, page_size), page_size,
		       MAP_SHARED, EINVAL);
}

/* What the caller passed to mmap() is what is shown, region index included. */
TEST_F(bar_mmap, maps_offset)
{
	struct vfio_pci_device *device = self->device;
	struct proc_map map;
	u64 offset;
	void *vaddr;
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (!(device->bars[bar].info.flags & VFIO_REGION_INFO_FLAG_MMAP))
			continue;

		offset = bar_size(device, bar) > page_size ? page_size : 0;
		vaddr = vfio_pci_bar_mmap(device, bar, offset, page_size);
		ASSERT_TRUE(proc_map_find(vaddr, &map));
		EXPECT_EQ(vaddr, map.start);
		EXPECT_EQ(vaddr + page_size, map.end);
		EXPECT_EQ(vfio_pci_bar_pos(device, bar, offset), map.pgoff);
		EXPECT_STREQ("rw-s", map.prot);
		ASSERT_EQ(0, munmap(vaddr, page_size));
	}
}

TEST_F(bar_mmap, maps_name)
{
	struct vfio_pci_device *device = self->device;
	const char *cdev = vfio_pci_get_cdev_path(device_bdf);
	char name[NAME_MAX];
	struct proc_map map;
	void *vaddr;
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (!(device->bars[bar].info.flags & VFIO_REGION_INFO_FLAG_MMAP))
			continue;

		vaddr = vfio_pci_bar_mmap(device, bar, 0, page_size);
		ASSERT_TRUE(proc_map_find(vaddr, &map));
		/* Ends with where the BAR number belongs. */
		snprintf_assert(name, sizeof(name), "/dmabuf:%s:%s/%d",
				strrchr(cdev, '/') + 1, device_bdf, bar);
		EXPECT_STREQ(name, map.name);
		ASSERT_EQ(0, munmap(vaddr, page_size));
	}
	free((void *)cdev);
}

TEST_F(bar_mmap, vm_flags)
{
	void *vaddr = vfio_pci_bar_mmap(self->device, self->bar, 0, page_size);

	/* shared, VM_IO, VM_PFNMAP, VM_DONTEXPAND, VM_DONTDUMP */
	EXPECT_TRUE(proc_map_has_flags(vaddr, "shiopfdedd"));
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

/* Not cached, and the page of the BAR that the offset says. */
TEST_F(bar_mmap, page_table)
{
	u64 offset = bar_size(self->device, self->bar) - page_size;
	struct pfnmap pfnmap;
	void *vaddr;
	u32 val;
	int ret;

	vaddr = vfio_pci_bar_mmap(self->device, self->bar, offset, page_size);
	ret = pfnmap_get(vaddr, &pfnmap);
	if (ret == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	/* Nothing before the first access. */
	ASSERT_EQ(-ENOENT, ret);
	ASSERT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, pfnmap_get(vaddr, &pfnmap));
	EXPECT_EQ(sysfs_bar_start_get(device_bdf, self->bar) + offset,
		  pfnmap.pfn * page_size);
	EXPECT_EQ(page_size, pfnmap.page_size);
	EXPECT_TRUE(pfnmap.writable);
	EXPECT_STREQ("nc", pfnmap.cache);
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

/* A page each at the start, in the middle and at the end. */
static int sample_pages(u64 size, u64 *pages)
{
	u64 nr = size / page_size;
	const u64 all[] = { 0, 1, 2, nr / 2 - 1, nr / 2, nr - 2, nr - 1 };

	memcpy(pages, all, sizeof(all));
	return ARRAY_SIZE(all);
}

TEST_F(bar_mmap, contents)
{
	struct vfio_pci_device *device = self->device;
	u64 size, pages[16], pos;
	void *whole, *vaddr;
	int i, nr;
	u32 val;

	if (self->ram < 0)
		SKIP(return, "%s has no BAR backed by memory\n", device_bdf);

	size = bar_size(device, self->ram);
	nr = sample_pages(size, pages);
	for (i = 0; i < nr; i++)
		vfio_pci_bar_write32(device, self->ram, pages[i] * page_size,
				     MARK(pages[i]));

	whole = vfio_pci_bar_mmap(device, self->ram, 0, size);
	for (i = 0; i < nr; i++) {
		pos = pages[i] * page_size;
		ASSERT_EQ(0, try_read32(whole + pos, &val));
		EXPECT_EQ(MARK(pages[i]), val);

		vaddr = vfio_pci_bar_mmap(device, self->ram, pos, page_size);
		ASSERT_EQ(0, try_read32(vaddr, &val));
		EXPECT_EQ(MARK(pages[i]), val);

		/* The last word of the page, from one mapping to the other. */
		ASSERT_EQ(0, try_write32(vaddr + page_size - 4, ~MARK(pages[i])));
		ASSERT_EQ(0, try_read32(whole + pos + page_size - 4, &val));
		EXPECT_EQ(~MARK(pages[i]), val);
		EXPECT_EQ(~MARK(pages[i]),
			  vfio_pci_bar_read32(device, self->ram,
					      pos + page_size - 4));
		ASSERT_EQ(0, munmap(vaddr, page_size));
	}
	ASSERT_EQ(0, munmap(whole, size));
}

/* munmap() of the middle makes two mappings of one. */
TEST_F(bar_mmap, split)
{
	struct vfio_pci_device *device = self->device;
	struct proc_map map;
	void *vaddr;
	u32 val;
	int i;

	if (self->big < 0)
		SKIP(return, "%s has no BAR of four pages\n", device_bdf);

	for (i = 0; self->ram >= 0 && i < 4; i++)
		vfio_pci_bar_write32(device, self->ram, i * page_size, MARK(i));

	vaddr = vfio_pci_bar_mmap(device, self->big, 0, 4 * page_size);
	ASSERT_EQ(0, munmap(vaddr + page_size, 2 * page_size));
	ASSERT_EQ(-EACCES, try_read32(vaddr + page_size, &val));

	ASSERT_EQ(0, try_read32(vaddr, &val));
	if (self->ram >= 0)
		EXPECT_EQ(MARK(0), val);
	ASSERT_EQ(0, try_read32(vaddr + 3 * page_size, &val));
	if (self->ram >= 0)
		EXPECT_EQ(MARK(3), val);

	ASSERT_TRUE(proc_map_find(vaddr + 3 * page_size, &map));
	EXPECT_EQ(vaddr + 3 * page_size, map.start);
	EXPECT_EQ(vfio_pci_bar_pos(device, self->big, 3 * page_size), map.pgoff);

	/* Each part is found by what takes the BAR out of reach. */
	vfio_pci_decode_set(device, false);
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	EXPECT_EQ(-EFAULT, try_read32(vaddr + 3 * page_size, &val));
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	EXPECT_EQ(0, try_read32(vaddr + 3 * page_size, &val));

	ASSERT_EQ(0, munmap(vaddr, page_size));
	EXPECT_EQ(0, try_read32(vaddr + 3 * page_size, &val));
	ASSERT_EQ(0, munmap(vaddr + 3 * page_size, page_size));
}

/* mmap() does not ask whether the BAR can be reached. The access does. */
TEST_F(bar_mmap, decode_off)
{
	struct vfio_pci_device *device = self->device;
	void *before, *meanwhile;
	u32 val;

	before = vfio_pci_bar_mmap(device, self->bar, 0, page_size);
	ASSERT_EQ(0, try_read32(before, &val));

	vfio_pci_decode_set(device, false);
	meanwhile = vfio_pci_bar_mmap(device, self->bar, 0, page_size);
	EXPECT_EQ(-EFAULT, try_read32(before, &val));
	EXPECT_EQ(-EFAULT, try_read32(meanwhile, &val));
	expect_no_mmap(_metadata, device->fd,
		       vfio_pci_bar_pos(device, self->bar, 0), page_size,
		       MAP_PRIVATE, EINVAL);

	vfio_pci_decode_set(device, true);
	EXPECT_EQ(0, try_read32(before, &val));
	EXPECT_EQ(0, try_read32(meanwhile, &val));

	ASSERT_EQ(0, munmap(before, page_size));
	ASSERT_EQ(0, munmap(meanwhile, page_size));
}

/* A cdev opens a device once only. */
static void expect_still_open(struct __test_metadata *_metadata,
			      struct vfio_pci_device *again, struct iommu *iommu)
{
	if (iommu->mode->container_path)
		return;

	vfio_pci_cdev_open(again, device_bdf);
	EXPECT_EQ(-EINVAL, __vfio_device_bind_iommufd(again->fd, iommu->iommufd,
						      NULL));
	ASSERT_EQ(0, close(again->fd));
}

/* The mapping holds the device open without the fd. */
TEST_F(bar_mmap, keeps_device_open)
{
	struct vfio_pci_device *again;
	int bar = self->bar;
	void *vaddr, *other;
	u32 val;

	vaddr = vfio_pci_bar_mmap(self->device, bar, 0, page_size);
	other = vfio_pci_bar_mmap(self->device, bar, 0, page_size);
	ASSERT_EQ(0, try_read32(vaddr, &val));
	vfio_pci_device_cleanup(self->device);
	self->device = NULL;

	EXPECT_EQ(0, try_read32(vaddr, &val));
	EXPECT_EQ(0, try_read32(other, &val));

	again = vfio_pci_device_alloc(device_bdf, self->iommu);
	expect_still_open(_metadata, again, self->iommu);

	/* The last mapping does, whichever it is. */
	ASSERT_EQ(0, munmap(vaddr, page_size));
	EXPECT_EQ(0, try_read32(other, &val));
	expect_still_open(_metadata, again, self->iommu);
	vfio_pci_device_free(again);

	ASSERT_EQ(0, munmap(other, page_size));
	self->device = vfio_pci_device_init(device_bdf, self->iommu);
}

TEST_F(bar_mmap, fork)
{
	struct vfio_pci_device *device = self->device;
	void *vaddr, *own;
	int status;
	pid_t pid;
	u32 val;

	vaddr = vfio_pci_bar_mmap(device, self->bar, 0, page_size);
	ASSERT_EQ(0, try_read32(vaddr, &val));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		own = vfio_pci_bar_mmap(device, self->bar, 0, page_size);
		if (try_read32(vaddr, &val) || try_read32(own, &val) ||
		    munmap(vaddr, page_size))
			_exit(1);

		vfio_pci_decode_set(device, false);
		if (try_read32(own, &val) != -EFAULT)
			_exit(2);
		_exit(0);
	}

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	/* What one process does to the device is seen by the others. */
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

TEST_F(bar_mmap, mremap)
{
	struct vfio_pci_device *device = self->device;
	void *vaddr, *target;
	u32 val;

	if (self->big < 0)
		SKIP(return, "%s has no BAR of four pages\n", device_bdf);

	vaddr = vfio_pci_bar_mmap(device, self->big, 0, 2 * page_size);
	ASSERT_EQ(0, try_read32(vaddr + page_size, &val));

	/* It cannot be made to grow, nor be duplicated. */
	EXPECT_EQ(MAP_FAILED, mremap(vaddr, 2 * page_size, 4 * page_size,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(MAP_FAILED, mremap(vaddr, 0, page_size, MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);

	/* It can be moved, and is found at its new place. */
	target = mmap_reserve(2 * page_size, page_size, 0);
	ASSERT_EQ(target, mremap(vaddr, 2 * page_size, 2 * page_size,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(0, try_read32(target + page_size, &val));
	vfio_pci_decode_set(device, false);
	EXPECT_EQ(-EFAULT, try_read32(target + page_size, &val));
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(0, try_read32(target + page_size, &val));

	/* And shrink. */
	ASSERT_EQ(target, mremap(target, 2 * page_size, page_size, 0));
	EXPECT_EQ(-EACCES, try_read32(target + page_size, &val));
	EXPECT_EQ(0, try_read32(target, &val));
	ASSERT_EQ(0, munmap(target, page_size));
}

/* No advice takes the page away, or makes it another mapping. */
TEST_F(bar_mmap, madvise)
{
	struct vfio_pci_device *device = self->device;
	struct proc_map map;
	long faults;
	void *vaddr;
	u32 val;

	vaddr = vfio_pci_bar_mmap(device, self->bar, 0, page_size);
	ASSERT_EQ(0, try_read32(vaddr, &val));
	EXPECT_EQ(0, madvise_pfnmap(vaddr, page_size));
	EXPECT_EQ(0, try_read32_faults(vaddr, &val, &faults));
	EXPECT_EQ(0, faults);
	EXPECT_TRUE(proc_map_has_flags(vaddr, "shiopfdedd"));
	ASSERT_TRUE(proc_map_find(vaddr, &map));
	EXPECT_EQ(vaddr, map.start);
	EXPECT_EQ(vaddr + page_size, map.end);
	EXPECT_EQ(vfio_pci_bar_pos(device, self->bar, 0), map.pgoff);

	/* It is found at once by what takes the BAR out of reach. */
	vfio_pci_decode_set(device, false);
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	EXPECT_EQ(0, madvise_pfnmap(vaddr, page_size));
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

TEST_F(bar_mmap, mprotect)
{
	struct vfio_pci_device *device = self->device;
	void *vaddr;
	u32 val;

	vaddr = vfio_pci_bar_mmap(device, self->bar, 0, page_size);
	ASSERT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, mprotect(vaddr, page_size, PROT_NONE));
	EXPECT_EQ(-EACCES, try_read32(vaddr, &val));
	ASSERT_EQ(0, mprotect(vaddr, page_size, PROT_READ));
	EXPECT_EQ(0, try_read32(vaddr, &val));
	if (self->ram >= 0)
		EXPECT_EQ(-EACCES, try_write32(vaddr, val));
	ASSERT_EQ(0, mprotect(vaddr, page_size, PROT_READ | PROT_WRITE));
	if (self->ram >= 0)
		EXPECT_EQ(0, try_write32(vaddr, val));
	ASSERT_EQ(0, munmap(vaddr, page_size));

	/* Read-only from the start. */
	vaddr = __vfio_pci_bar_mmap(device, self->bar, 0, page_size, PROT_READ);
	ASSERT_NE(MAP_FAILED, vaddr);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	if (self->ram >= 0)
		EXPECT_EQ(-EACCES, try_write32(vaddr, val));
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

/* MAP_FIXED in the middle of a mapping of the same BAR, and of another file. */
TEST_F(bar_mmap, map_fixed)
{
	struct vfio_pci_device *device = self->device;
	void *vaddr, *middle;
	u32 val;
	int i;

	if (self->ram < 0)
		SKIP(return, "%s has no BAR backed by memory\n", device_bdf);

	for (i = 0; i < 4; i++)
		vfio_pci_bar_write32(device, self->ram, i * page_size, MARK(i));

	vaddr = vfio_pci_bar_mmap(device, self->ram, 0, 4 * page_size);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, try_read32(vaddr + i * page_size, &val));

	middle = mmap(vaddr + page_size, page_size, PROT_READ,
		      MAP_SHARED | MAP_FIXED, device->fd,
		      vfio_pci_bar_pos(device, self->ram, 3 * page_size));
	ASSERT_EQ(vaddr + page_size, middle);
	middle = mmap(vaddr + 2 * page_size, page_size, PROT_READ,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(vaddr + 2 * page_size, middle);

	ASSERT_EQ(0, try_read32(vaddr, &val));
	EXPECT_EQ(MARK(0), val);
	ASSERT_EQ(0, try_read32(vaddr + page_size, &val));
	EXPECT_EQ(MARK(3), val);
	ASSERT_EQ(0, try_read32(vaddr + 2 * page_size, &val));
	EXPECT_EQ(0, val);
	ASSERT_EQ(0, try_read32(vaddr + 3 * page_size, &val));
	EXPECT_EQ(MARK(3), val);
	ASSERT_EQ(0, munmap(vaddr, 4 * page_size));
}

/* As many mappings as it takes, made and gone in any order. */
TEST_F(bar_mmap, many)
{
	struct vfio_pci_device *device = self->device;
	void *vaddr[256];
	u32 val;
	int i;

	for (i = 0; i < ARRAY_SIZE(vaddr); i++) {
		vaddr[i] = vfio_pci_bar_mmap(device, self->bar, 0, page_size);
		ASSERT_EQ(0, try_read32(vaddr[i], &val));
	}
	for (i = 0; i < ARRAY_SIZE(vaddr); i += 2)
		ASSERT_EQ(0, munmap(vaddr[i], page_size));

	vfio_pci_decode_set(device, false);
	for (i = 1; i < ARRAY_SIZE(vaddr); i += 2)
		ASSERT_EQ(-EFAULT, try_read32(vaddr[i], &val));
	vfio_pci_decode_set(device, true);
	for (i = 1; i < ARRAY_SIZE(vaddr); i += 2) {
		ASSERT_EQ(0, try_read32(vaddr[i], &val));
		ASSERT_EQ(0, munmap(vaddr[i], page_size));
	}
}

static u64 mapping_inode(const void *vaddr)
{
	struct proc_map map;

	VFIO_ASSERT_TRUE(proc_map_find(vaddr, &map));
	return map.inode;
}

/* One buffer for all mappings of a BAR, and for no other BAR. */
TEST_F(bar_mmap, one_buffer)
{
	struct vfio_pci_device *device = self->device;
	void *first[PCI_STD_NUM_BARS] = {}, *vaddr;
	u64 inode[PCI_STD_NUM_BARS], last;
	int bar, other, status;
	pid_t pid;
	u32 val;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (!(device->bars[bar].info.flags & VFIO_REGION_INFO_FLAG_MMAP))
			continue;

		first[bar] = vfio_pci_bar_mmap(device, bar, 0, page_size);
		inode[bar] = mapping_inode(first[bar]);
		for (other = 0; other < bar; other++) {
			if (first[other])
				EXPECT_NE(inode[other], inode[bar]);
		}

		/* Another part, with less access; in another process. */
		last = bar_size(device, bar) > page_size ?
		       bar_size(device, bar) - page_size : 0;
		vaddr = __vfio_pci_bar_mmap(device, bar, last, page_size, PROT_READ);
		ASSERT_NE(MAP_FAILED, vaddr);
		EXPECT_EQ(inode[bar], mapping_inode(vaddr));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			vaddr = vfio_pci_bar_mmap(device, bar, 0, page_size);
			_exit(mapping_inode(vaddr) != inode[bar]);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);

		/* The first one is not special. */
		ASSERT_EQ(0, munmap(first[bar], page_size));
		first[bar] = vfio_pci_bar_mmap(device, bar, 0, page_size);
		EXPECT_EQ(inode[bar], mapping_inode(first[bar]));
		ASSERT_EQ(0, munmap(vaddr, page_size));
	}

	/* It goes with the last of them, and the next mapping brings another. */
	ASSERT_EQ(0, munmap(first[self->bar], page_size));
	vaddr = vfio_pci_bar_mmap(device, self->bar, 0, page_size);
	EXPECT_NE(inode[self->bar], mapping_inode(vaddr));
	EXPECT_EQ(0, try_read32(vaddr, &val));
	vfio_pci_decode_set(device, false);
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

/*
 * What is behind the mapping is no DMA-BUF that anyone could get hold of. It may
 * be the file of a device, which can be opened.
 */
TEST_F(bar_mmap, map_files)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_RW };
	char path[PATH_MAX];
	struct proc_map map;
	void *vaddr;
	int fd;

	vaddr = vfio_pci_bar_mmap(self->device, self->bar, 0, page_size);
	ASSERT_TRUE(proc_map_find(vaddr, &map));
	snprintf_assert(path, sizeof(path), "/proc/self/map_files/%lx-%lx",
			(unsigned long)map.start, (unsigned long)map.end);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		EXPECT_EQ(ENXIO, errno);
	} else {
		EXPECT_EQ(-1, ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync));
		EXPECT_EQ(EINVAL, errno);
		ASSERT_EQ(0, close(fd));
	}
	ASSERT_EQ(0, munmap(vaddr, page_size));
}

/*
 * A kernel has all of these or none: EXPORT=no in the environment says that it is
 * built without. Mappings of the device fd are the same either way.
 */
TEST_F(bar_mmap, features)
{
	static const struct {
		u32 feature;
		u32 op;
		size_t size;
	} features[] = {
		{ VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_GET,
		  sizeof(struct vfio_device_feature_dma_buf) },
		{ VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE, VFIO_DEVICE_FEATURE_SET,
		  sizeof(struct vfio_device_feature_dma_buf_revoke) },
		{ VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR, VFIO_DEVICE_FEATURE_SET,
		  sizeof(struct vfio_device_feature_dma_buf_memattr) },
	};
	const char *export = getenv("EXPORT");
	bool without = export && !strcmp(export, "no");
	const int fd = self->device->fd;
	u8 zeroes[64] = {};
	int i, ret;

	ret = __vfio_device_feature(fd, VFIO_DEVICE_FEATURE_PROBE |
				    VFIO_DEVICE_FEATURE_GET |
				    VFIO_DEVICE_FEATURE_DMA_BUF, NULL, 0);
	if (ret == -ENOTTY && !without)
		SKIP(return, "This kernel does not export BARs\n");

	for (i = 0; i < ARRAY_SIZE(features); i++) {
		EXPECT_EQ(without ? -ENOTTY : 0,
			  __vfio_device_feature(fd, VFIO_DEVICE_FEATURE_PROBE |
						features[i].op | features[i].feature,
						NULL, 0));
		/* Nothing but zeroes: a buffer of no range, or fd 0. */
		ret = __vfio_device_feature(fd, features[i].op | features[i].feature,
					    zeroes, features[i].size);
		EXPECT_EQ(without ? -ENOTTY : -EINVAL, ret);
	}
}

/*
 * 4.5, section 8: the buffer behind a mapping is nobody's to import, to revoke or
 * to map, should he get hold of it.
 */
TEST_F(bar_mmap, implicit)
{
	struct vfio_pci_device *device = self->device;
	const char *export = getenv("EXPORT");
	bool without = export && !strcmp(export, "no"), uncached;
	struct vfio_device_feature_dma_buf_memattr memattr = {};
	struct vfio_device_feature_dma_buf_revoke revoke = {};
	void *vaddr = vfio_pci_bar_mmap(device, self->bar, 0, page_size);
	int fd = vma_file_get(vaddr, &uncached);
	u32 val;

	if (fd == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");
	/* 4.2: as io_remap_pfn_range() would, and for guests on arm64. */
	EXPECT_TRUE(uncached);

	EXPECT_EQ(-EOPNOTSUPP, __importer_create(device_bdf, fd));
	expect_no_mmap(_metadata, fd, 0, page_size, MAP_SHARED, EINVAL);
	revoke.dmabuf_fd = fd;
	EXPECT_EQ(without ? -ENOTTY : -ENODEV,
		  __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_SET |
					VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE,
					&revoke, sizeof(revoke)));
	memattr.dmabuf_fd = fd;
	EXPECT_EQ(without ? -ENOTTY : -ENODEV,
		  __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_SET |
					VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR,
					&memattr, sizeof(memattr)));

	EXPECT_EQ(0, try_read32(vaddr, &val));
	ASSERT_EQ(0, munmap(vaddr, page_size));
	ASSERT_EQ(0, close(fd));
}

/* Nor is there another part of it: the one that was mapped goes. */
TEST_F(bar_mmap, remap_file_pages)
{
	void *vaddr;
	u32 val;

	if (self->big < 0)
		SKIP(return, "%s has no BAR of four pages\n", device_bdf);

	vaddr = vfio_pci_bar_mmap(self->device, self->big, 0, 3 * page_size);
	ASSERT_EQ(0, try_read32(vaddr, &val));
	EXPECT_EQ(-1, remap_file_pages(vaddr + page_size, page_size, 0, 0, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	EXPECT_EQ(-EACCES, try_read32(vaddr + page_size, &val));
	EXPECT_EQ(0, try_read32(vaddr + 2 * page_size, &val));
	ASSERT_EQ(0, munmap(vaddr, 3 * page_size));
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	page_size = getpagesize();
	return test_harness_run(argc, argv);
}
