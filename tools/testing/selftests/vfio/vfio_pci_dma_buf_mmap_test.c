// SPDX-License-Identifier: GPL-2.0-only
/*
 * mmap() of a BAR's part through the fd of an exported DMA-BUF
 *
 * Proves that whoever has the fd reaches exactly the bytes that were exported,
 * at offsets that count through the ranges one after the other, with no more
 * rights than the fd has; that the mapping does without the fd, is inherited,
 * and works in a process that never saw the device; that it ends with the
 * device, which it does not keep open, and that the fd is a valid fd after that.
 * And which exports are refused, that a failing one leaves nothing behind, and
 * that the memory that one takes is charged.
 *
 * Which pages a mapping is made of is for vfio_pci_dma_buf_fault_test, what ends
 * the access in between for vfio_pci_revoke_test and vfio_pci_dma_buf_revoke_test.
 *
 * Any device with a mappable BAR of at least 8 pages will do. Where it is backed
 * by memory, as that of QEMU's ivshmem-plain, contents are compared; the module
 * vfio_selftest allows to compare physical addresses on any device.
 *
 * Specification: 3.2, 3.3, 4.4 (names), 5.1 to 5.6, 11.
 * Defects: D1, D2, D3, D20, D22.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <linux/dma-buf.h>
#include <linux/limits.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define MARK(_page) (0xd0000000 | (u32)(_page))
#define NR_PAGES 8

static const char *device_bdf;
static size_t page_size;

struct owner {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	bool ram;
	u64 phys;
};

static void device_open(struct owner *owner, const char *iommu_mode)
{
	owner->iommu = iommu_init(iommu_mode);
	owner->device = vfio_pci_device_init(device_bdf, owner->iommu);
	vfio_pci_bars_unmap(owner->device);
}

static void device_close(struct owner *owner)
{
	vfio_pci_device_cleanup(owner->device);
	owner->device = NULL;
}

/* Return: false if the device has no BAR to test with. */
static bool owner_open(struct owner *owner, const char *iommu_mode)
{
	u64 size = NR_PAGES * page_size;
	int i;

	device_open(owner, iommu_mode);
	owner->bar = vfio_pci_bar_find(owner->device, size, true);
	owner->ram = owner->bar >= 0;
	if (!owner->ram)
		owner->bar = vfio_pci_bar_find(owner->device, size, false);
	if (owner->bar < 0)
		return false;
	owner->phys = sysfs_bar_start_get(device_bdf, owner->bar);

	for (i = 0; owner->ram && i < NR_PAGES; i++)
		vfio_pci_bar_write32(owner->device, owner->bar, i * page_size,
				     MARK(i));

	return true;
}

static void owner_close(struct owner *owner)
{
	if (owner->device)
		vfio_pci_device_cleanup(owner->device);
	iommu_cleanup(owner->iommu);
}

FIXTURE(dma_buf_mmap) {
	struct owner owner;
};

FIXTURE_SETUP(dma_buf_mmap)
{
	if (!owner_open(&self->owner, MODE_IOMMUFD))
		SKIP(return, "%s has no mappable BAR of %d pages\n", device_bdf,
		     NR_PAGES);
}

FIXTURE_TEARDOWN(dma_buf_mmap)
{
	owner_close(&self->owner);
}

/* The device is closed by the fd of the cdev, or by that and the group's. */
FIXTURE(dma_buf_close) {
	struct owner owner;
};

FIXTURE_VARIANT(dma_buf_close) {
	const char *iommu_mode;
};

FIXTURE_VARIANT_ADD(dma_buf_close, cdev) {
	.iommu_mode = MODE_IOMMUFD,
};

FIXTURE_VARIANT_ADD(dma_buf_close, group) {
	.iommu_mode = MODE_VFIO_TYPE1V2_IOMMU,
};

FIXTURE_SETUP(dma_buf_close)
{
	if (!owner_open(&self->owner, variant->iommu_mode))
		SKIP(return, "%s has no mappable BAR of %d pages\n", device_bdf,
		     NR_PAGES);
}

FIXTURE_TEARDOWN(dma_buf_close)
{
	owner_close(&self->owner);
}

/* Expect page @page of the BAR at @vaddr. */
#define EXPECT_PAGE(_owner, _page, _vaddr) do {					\
	const struct owner *__owner = (_owner);					\
	void *__vaddr = (_vaddr);						\
	u64 __page = (_page);							\
	struct pfnmap __pfnmap;							\
	u32 __val;								\
										\
	EXPECT_EQ(0, try_read32(__vaddr, &__val));				\
	if (__owner->ram)							\
		EXPECT_EQ(MARK(__page), __val);					\
	if (!pfnmap_get(__vaddr, &__pfnmap))					\
		EXPECT_EQ(__owner->phys / page_size + __page, __pfnmap.pfn);	\
} while (0)

#define EXPECT_NO_MMAP(_errno, _fd, _offset, _size, _prot, _flags) do {	\
	errno = 0;								\
	EXPECT_EQ(MAP_FAILED, mmap(NULL, _size, _prot, _flags, _fd, _offset));	\
	EXPECT_EQ(_errno, errno);						\
} while (0)

TEST_F(dma_buf_mmap, whole)
{
	struct owner *owner = &self->owner;
	struct proc_map map;
	void *vaddr;
	int fd, i;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0,
				     NR_PAGES * page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, NR_PAGES * page_size);
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_PAGE(owner, i, vaddr + i * page_size);

	/* shared, VM_IO, VM_PFNMAP, VM_DONTEXPAND, VM_DONTDUMP */
	EXPECT_TRUE(proc_map_has_flags(vaddr, "shiopfdedd"));
	ASSERT_TRUE(proc_map_find(vaddr, &map));
	EXPECT_STREQ("rw-s", map.prot);
	EXPECT_EQ(0, map.pgoff);

	ASSERT_EQ(0, munmap(vaddr, NR_PAGES * page_size));
	ASSERT_EQ(0, close(fd));
}

/* Any part of a buffer that is itself a part of the BAR. */
TEST_F(dma_buf_mmap, parts)
{
	struct owner *owner = &self->owner;
	struct proc_map map;
	int fd, start, nr, i;
	void *vaddr;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 2 * page_size,
				     4 * page_size);
	for (start = 0; start < 4; start++) {
		for (nr = 1; start + nr <= 4; nr++) {
			vaddr = vfio_pci_dma_buf_mmap(fd, start * page_size,
						      nr * page_size);
			for (i = 0; i < nr; i++)
				EXPECT_PAGE(owner, 2 + start + i, vaddr + i * page_size);
			ASSERT_TRUE(proc_map_find(vaddr, &map));
			EXPECT_EQ(start * page_size, map.pgoff);
			ASSERT_EQ(0, munmap(vaddr, nr * page_size));
		}
	}
	ASSERT_EQ(0, close(fd));
}

/* Disordered, overlapping, repeated, touching: pages as they come. */
static const struct {
	int start, nr;
} scattered[] = {
	{ 5, 2 }, { 1, 1 }, { 2, 2 }, { 5, 1 }, { 0, 8 }, { 7, 1 }, { 6, 1 }, { 6, 1 },
};

static int export_scattered(struct vfio_pci_device *device, int bar,
			    int *pages, int *nr_pages)
{
	struct vfio_region_dma_range ranges[ARRAY_SIZE(scattered)];
	int i, j;

	*nr_pages = 0;
	for (i = 0; i < ARRAY_SIZE(scattered); i++) {
		ranges[i].offset = scattered[i].start * page_size;
		ranges[i].length = scattered[i].nr * page_size;
		for (j = 0; j < scattered[i].nr; j++)
			pages[(*nr_pages)++] = scattered[i].start + j;
	}

	return __vfio_pci_dma_buf_export_ranges(device, bar, O_RDWR | O_CLOEXEC,
						ranges, ARRAY_SIZE(ranges));
}

TEST_F(dma_buf_mmap, ranges)
{
	struct owner *owner = &self->owner;
	int pages[64], fd, nr, start, i;
	void *vaddr;

	fd = export_scattered(owner->device, owner->bar, pages, &nr);
	ASSERT_LE(0, fd);
	ASSERT_EQ(nr * page_size, lseek(fd, 0, SEEK_END));

	vaddr = vfio_pci_dma_buf_mmap(fd, 0, nr * page_size);
	for (i = nr - 1; i >= 0; i--)
		EXPECT_PAGE(owner, pages[i], vaddr + i * page_size);
	ASSERT_EQ(0, munmap(vaddr, nr * page_size));

	/* From each page on, across the edges of ranges. */
	for (start = 0; start < nr; start++) {
		vaddr = vfio_pci_dma_buf_mmap(fd, start * page_size,
					      (nr - start) * page_size);
		for (i = start; i < nr; i++)
			EXPECT_PAGE(owner, pages[i], vaddr + (i - start) * page_size);
		ASSERT_EQ(0, munmap(vaddr, (nr - start) * page_size));
	}
	ASSERT_EQ(0, close(fd));
}

/* What is written goes there, and nowhere else. */
TEST_F(dma_buf_mmap, written)
{
	struct owner *owner = &self->owner;
	void *vaddr;
	u32 val;
	int fd, i;

	if (!owner->ram)
		SKIP(return, "%s has no BAR backed by memory\n", device_bdf);

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 3 * page_size,
				     2 * page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	for (i = 0; i < 2 * page_size; i += sizeof(u32))
		ASSERT_EQ(0, try_write32(vaddr + i, ~i));

	for (i = 0; i < 2 * page_size; i += sizeof(u32)) {
		ASSERT_EQ(0, try_read32(vaddr + i, &val));
		ASSERT_EQ(~i, val);
	}
	for (i = 0; i < 2; i++)
		EXPECT_EQ(~(i * page_size),
			  vfio_pci_bar_read32(owner->device, owner->bar,
					      (3 + i) * page_size) | ~0ull << 32);
	for (i = 0; i < NR_PAGES; i++) {
		if (i != 3 && i != 4)
			EXPECT_EQ(MARK(i),
				  vfio_pci_bar_read32(owner->device, owner->bar,
						      i * page_size));
	}
	ASSERT_EQ(0, munmap(vaddr, 2 * page_size));
	ASSERT_EQ(0, close(fd));
}

/* iommufd takes a single range, and does not put together what would be one. */
TEST_F(dma_buf_mmap, import_ranges)
{
	struct owner *owner = &self->owner;
	struct vfio_region_dma_range ranges[] = {
		{ .offset = 0, .length = page_size },
		{ .offset = page_size, .length = page_size },
	};
	int fd, i;

	for (i = 0; i < 3; i++) {
		/* Neighbours, with a gap, and one twice. */
		ranges[1].offset = (i + 1) % 3 * page_size;
		fd = __vfio_pci_dma_buf_export_ranges(owner->device, owner->bar,
						      O_RDWR | O_CLOEXEC, ranges,
						      ARRAY_SIZE(ranges));
		ASSERT_LE(0, fd);
		EXPECT_EQ(-EOPNOTSUPP, __iommu_map_dma_buf(owner->iommu, fd,
							   2 * page_size, SZ_1G));
		EXPECT_EQ(-EOPNOTSUPP, __iommu_map_dma_buf(owner->iommu, fd,
							   page_size, SZ_1G));
		ASSERT_EQ(0, close(fd));
	}

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, 2 * page_size);
	EXPECT_EQ(0, __iommu_map_dma_buf(owner->iommu, fd, 2 * page_size, SZ_1G));
	EXPECT_EQ(0, __iommu_unmap_dma_buf(owner->iommu, SZ_1G, 2 * page_size));
	ASSERT_EQ(0, close(fd));
}

TEST_F(dma_buf_mmap, errors)
{
	struct owner *owner = &self->owner;
	u64 size = 2 * page_size;
	int fd;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, page_size, size);

	/* Past the end, across the end, far behind it. */
	EXPECT_NO_MMAP(EINVAL, fd, size, page_size, PROT_READ, MAP_SHARED);
	EXPECT_NO_MMAP(EINVAL, fd, page_size, size, PROT_READ, MAP_SHARED);
	EXPECT_NO_MMAP(EINVAL, fd, 0, size + page_size, PROT_READ, MAP_SHARED);
	EXPECT_NO_MMAP(EINVAL, fd, 1ULL << 40, page_size, PROT_READ, MAP_SHARED);
	EXPECT_NO_MMAP(EINVAL, fd, SZ_2G, page_size, PROT_READ, MAP_SHARED);
	EXPECT_NO_MMAP(EINVAL, fd, 1, page_size, PROT_READ, MAP_SHARED);
	EXPECT_NO_MMAP(EOVERFLOW, fd, -page_size, size, PROT_READ, MAP_SHARED);

	EXPECT_NO_MMAP(EINVAL, fd, 0, page_size, PROT_READ, MAP_PRIVATE);
	EXPECT_NO_MMAP(EINVAL, fd, 0, page_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE);

	/* The buffer is none the worse for it. */
	EXPECT_NE(MAP_FAILED, __vfio_pci_dma_buf_mmap(fd, 0, size, PROT_READ));
	ASSERT_EQ(0, close(fd));
}

/* D20: an fd that is not open for writing gives a mapping that is not either. */
TEST_F(dma_buf_mmap, read_only)
{
	struct owner *owner = &self->owner;
	const struct vfio_region_dma_range range = { .length = 2 * page_size };
	char paths[2][PATH_MAX];
	struct proc_map map;
	void *vaddr;
	int fd, i;
	u32 val;

	fd = __vfio_pci_dma_buf_export_ranges(owner->device, owner->bar,
					      O_RDONLY | O_CLOEXEC, &range, 1);
	ASSERT_LE(0, fd);
	ASSERT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);

	EXPECT_NO_MMAP(EACCES, fd, 0, page_size, PROT_READ | PROT_WRITE,
		       MAP_SHARED);
	EXPECT_NO_MMAP(EACCES, fd, 0, page_size, PROT_WRITE, MAP_SHARED);
	EXPECT_NO_MMAP(EINVAL, fd, 0, page_size, PROT_READ, MAP_PRIVATE);

	vaddr = __vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size, PROT_READ);
	ASSERT_NE(MAP_FAILED, vaddr);
	EXPECT_PAGE(owner, 0, vaddr);
	EXPECT_PAGE(owner, 1, vaddr + page_size);
	EXPECT_EQ(-EACCES, try_write32(vaddr, 0));

	EXPECT_EQ(-1, mprotect(vaddr, page_size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(vaddr, page_size, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, madvise(vaddr, page_size, MADV_REMOVE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-EACCES, try_write32(vaddr, 0));

	/* Nobody gets another fd of it that can do more, or any other at all. */
	ASSERT_TRUE(proc_map_find(vaddr, &map));
	snprintf_assert(paths[0], sizeof(paths[0]), "/proc/self/fd/%d", fd);
	snprintf_assert(paths[1], sizeof(paths[1]), "/proc/self/map_files/%lx-%lx",
			(unsigned long)map.start, (unsigned long)map.end);
	for (i = 0; i < ARRAY_SIZE(paths); i++) {
		EXPECT_EQ(-1, open(paths[i], O_RDWR | O_CLOEXEC));
		EXPECT_EQ(ENXIO, errno);
		EXPECT_EQ(-1, open(paths[i], O_RDONLY | O_CLOEXEC));
		EXPECT_EQ(ENXIO, errno);
	}
	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_RDWR));
	EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_NO_MMAP(EACCES, fd, 0, page_size, PROT_READ | PROT_WRITE,
		       MAP_SHARED);

	/* It is zapped like any other. */
	vfio_pci_decode_set(owner->device, false);
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	vfio_pci_decode_set(owner->device, true);
	EXPECT_PAGE(owner, 0, vaddr);

	ASSERT_EQ(0, munmap(vaddr, 2 * page_size));
	ASSERT_EQ(0, close(fd));
}

/* mmap() wants to read in any case. Such an fd can be handed on, and revoked. */
TEST_F(dma_buf_mmap, write_only)
{
	struct owner *owner = &self->owner;
	const struct vfio_region_dma_range range = { .length = page_size };
	int fd;

	fd = __vfio_pci_dma_buf_export_ranges(owner->device, owner->bar,
					      O_WRONLY | O_CLOEXEC, &range, 1);
	ASSERT_LE(0, fd);
	ASSERT_EQ(O_WRONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_NO_MMAP(EACCES, fd, 0, page_size, PROT_READ, MAP_SHARED);
	EXPECT_NO_MMAP(EACCES, fd, 0, page_size, PROT_WRITE, MAP_SHARED);
	ASSERT_EQ(0, close(fd));
}

/* D22: revoked for now is not revoked. mmap() succeeds, the access fails. */
TEST_F(dma_buf_mmap, decode_off)
{
	struct owner *owner = &self->owner;
	void *before, *meanwhile;
	u32 val;
	int fd;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, 2 * page_size);
	before = vfio_pci_dma_buf_mmap(fd, page_size, page_size);
	EXPECT_PAGE(owner, 1, before);

	vfio_pci_decode_set(owner->device, false);
	meanwhile = vfio_pci_dma_buf_mmap(fd, page_size, page_size);
	EXPECT_EQ(-EFAULT, try_read32(before, &val));
	EXPECT_EQ(-EFAULT, try_read32(meanwhile, &val));
	EXPECT_NO_MMAP(EINVAL, fd, 2 * page_size, page_size, PROT_READ, MAP_SHARED);
	EXPECT_NO_MMAP(EINVAL, fd, 0, page_size, PROT_READ, MAP_PRIVATE);

	vfio_pci_decode_set(owner->device, true);
	EXPECT_PAGE(owner, 1, before);
	EXPECT_PAGE(owner, 1, meanwhile);

	ASSERT_EQ(0, munmap(before, page_size));
	ASSERT_EQ(0, munmap(meanwhile, page_size));
	ASSERT_EQ(0, close(fd));
}

TEST_F(dma_buf_mmap, fd_closed)
{
	struct owner *owner = &self->owner;
	void *vaddr;
	u32 val;
	int fd;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, 2 * page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	EXPECT_PAGE(owner, 0, vaddr);
	ASSERT_EQ(0, close(fd));

	EXPECT_PAGE(owner, 0, vaddr);
	EXPECT_PAGE(owner, 1, vaddr + page_size);
	vfio_pci_decode_set(owner->device, false);
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	vfio_pci_decode_set(owner->device, true);
	EXPECT_PAGE(owner, 1, vaddr + page_size);

	/* Half of it is enough. */
	ASSERT_EQ(0, munmap(vaddr, page_size));
	EXPECT_PAGE(owner, 1, vaddr + page_size);
	ASSERT_EQ(0, munmap(vaddr + page_size, page_size));
}

TEST_F(dma_buf_mmap, split)
{
	struct owner *owner = &self->owner;
	void *vaddr;
	u32 val;
	int fd;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, page_size,
				     4 * page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 4 * page_size);
	ASSERT_EQ(0, close(fd));
	ASSERT_EQ(0, munmap(vaddr + page_size, 2 * page_size));

	EXPECT_PAGE(owner, 1, vaddr);
	EXPECT_EQ(-EACCES, try_read32(vaddr + page_size, &val));
	EXPECT_PAGE(owner, 4, vaddr + 3 * page_size);

	vfio_pci_decode_set(owner->device, false);
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	EXPECT_EQ(-EFAULT, try_read32(vaddr + 3 * page_size, &val));
	vfio_pci_decode_set(owner->device, true);
	EXPECT_PAGE(owner, 1, vaddr);
	EXPECT_PAGE(owner, 4, vaddr + 3 * page_size);

	ASSERT_EQ(0, munmap(vaddr, page_size));
	ASSERT_EQ(0, munmap(vaddr + 3 * page_size, page_size));
}

TEST_F(dma_buf_mmap, mremap_madvise)
{
	struct owner *owner = &self->owner;
	void *vaddr, *target;
	long faults;
	u32 val;
	int fd;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, 4 * page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	EXPECT_PAGE(owner, 1, vaddr + page_size);

	EXPECT_EQ(MAP_FAILED, mremap(vaddr, 2 * page_size, 3 * page_size,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, madvise_pfnmap(vaddr, 2 * page_size));
	EXPECT_EQ(0, try_read32_faults(vaddr + page_size, &val, &faults));
	EXPECT_EQ(0, faults);
	EXPECT_TRUE(proc_map_has_flags(vaddr, "shiopfdedd"));
	EXPECT_PAGE(owner, 0, vaddr);
	EXPECT_PAGE(owner, 1, vaddr + page_size);

	target = mmap_reserve(2 * page_size, page_size, 0);
	ASSERT_EQ(target, mremap(vaddr, 2 * page_size, 2 * page_size,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_PAGE(owner, 0, target);
	EXPECT_PAGE(owner, 1, target + page_size);
	ASSERT_EQ(0, munmap(target, 2 * page_size));
	ASSERT_EQ(0, close(fd));
}

/* It maps the file again: another page of the buffer, and none behind its end. */
TEST_F(dma_buf_mmap, remap_file_pages)
{
	struct owner *owner = &self->owner;
	void *vaddr;
	int fd;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, 4 * page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 3 * page_size);
	EXPECT_PAGE(owner, 0, vaddr);

	ASSERT_EQ(0, remap_file_pages(vaddr, page_size, 0, 3, 0));
	EXPECT_PAGE(owner, 3, vaddr);
	EXPECT_PAGE(owner, 1, vaddr + page_size);

	EXPECT_EQ(-1, remap_file_pages(vaddr + 2 * page_size, page_size, 0, 4, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_PAGE(owner, 3, vaddr);
	EXPECT_PAGE(owner, 1, vaddr + page_size);
	munmap(vaddr, 3 * page_size);
	ASSERT_EQ(0, close(fd));
}

TEST_F(dma_buf_mmap, fork)
{
	struct owner *owner = &self->owner;
	void *vaddr;
	int fd, status;
	pid_t pid;
	u32 val;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, 2 * page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	EXPECT_PAGE(owner, 0, vaddr);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (try_read32(vaddr, &val) || (owner->ram && val != MARK(0)))
			_exit(1);
		if (try_read32(vaddr + page_size, &val) ||
		    (owner->ram && val != MARK(1)))
			_exit(2);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);

	EXPECT_PAGE(owner, 1, vaddr + page_size);
	ASSERT_EQ(0, munmap(vaddr, 2 * page_size));
	ASSERT_EQ(0, close(fd));
}

/* A name that userspace gives, none by itself. */
TEST_F(dma_buf_mmap, name)
{
	struct owner *owner = &self->owner;
	struct proc_map map;
	void *vaddr;
	int fd;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, page_size);
	ASSERT_TRUE(proc_map_find(vaddr, &map));
	EXPECT_STREQ("/dmabuf:", map.name);
	ASSERT_EQ(0, ioctl(fd, DMA_BUF_SET_NAME, "doorbell"));
	ASSERT_TRUE(proc_map_find(vaddr, &map));
	EXPECT_STREQ("/dmabuf:doorbell", map.name);
	ASSERT_EQ(0, munmap(vaddr, page_size));
	ASSERT_EQ(0, close(fd));
}

/*
 * 5.3: the buffer does not keep the device open. It is of no use after that, not
 * even if the device is opened again, but the fd is an fd.
 */
TEST_F(dma_buf_close, device_closed)
{
	struct owner *owner = &self->owner;
	struct iommu *iommu;
	struct stat st;
	void *vaddr;
	int fd, i;
	u32 val;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, 2 * page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	EXPECT_PAGE(owner, 0, vaddr);
	device_close(owner);
	iommu_cleanup(owner->iommu);

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
		EXPECT_EQ(-EFAULT, try_read32(vaddr + page_size, &val));
		EXPECT_EQ(-EFAULT, try_write32(vaddr, 0));
		EXPECT_NO_MMAP(ENODEV, fd, 0, page_size, PROT_READ, MAP_SHARED);

		iommu = iommu_init(MODE_IOMMUFD);
		EXPECT_EQ(-ENODEV, __iommu_map_dma_buf(iommu, fd, 2 * page_size,
						       SZ_1G));
		iommu_cleanup(iommu);

		EXPECT_EQ(0, fstat(fd, &st));
		EXPECT_EQ(2 * page_size, lseek(fd, 0, SEEK_END));

		if (!i)
			device_open(owner, variant->iommu_mode);
	}

	ASSERT_EQ(0, munmap(vaddr, 2 * page_size));
	ASSERT_EQ(0, close(fd));
}

/* 5.4: a mapping of the device fd does keep it open, with all its buffers. */
TEST_F(dma_buf_close, device_mapped)
{
	struct owner *owner = &self->owner;
	void *device_map, *vaddr, *other;
	u32 val;
	int fd;

	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, 2 * page_size);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, page_size);
	device_map = vfio_pci_bar_mmap(owner->device, owner->bar, 0, page_size);
	device_close(owner);

	EXPECT_PAGE(owner, 0, device_map);
	EXPECT_PAGE(owner, 0, vaddr);
	other = vfio_pci_dma_buf_mmap(fd, page_size, page_size);
	EXPECT_PAGE(owner, 1, other);

	ASSERT_EQ(0, munmap(device_map, page_size));
	EXPECT_EQ(-EFAULT, try_read32(vaddr, &val));
	EXPECT_EQ(-EFAULT, try_read32(other, &val));
	EXPECT_NO_MMAP(ENODEV, fd, 0, page_size, PROT_READ, MAP_SHARED);

	ASSERT_EQ(0, munmap(vaddr, page_size));
	ASSERT_EQ(0, munmap(other, page_size));
	ASSERT_EQ(0, close(fd));
}

/* Has neither device nor iommufd, only what comes by its socket. */
static int client(int sock)
{
	int fd, has_ram;
	void *vaddr;
	u32 val;

	fd = socket_recv_fd(sock);
	has_ram = socket_recv(sock);

	if (mmap(NULL, 3 * page_size, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED)
		return 1;
	vaddr = __vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size,
					PROT_READ | PROT_WRITE);
	if (vaddr == MAP_FAILED)
		return 2;
	if (try_read32(vaddr, &val) || (has_ram && val != MARK(4)))
		return 3;
	if (has_ram && try_write32(vaddr + page_size, ~MARK(5)))
		return 4;
	close(fd);
	socket_send(sock, 0);

	/* The owner ends it. */
	socket_recv(sock);
	if (try_read32(vaddr, &val) != -EFAULT)
		return 5;
	fd = socket_recv_fd(sock);
	if (__vfio_pci_dma_buf_mmap(fd, 0, page_size, PROT_READ) != MAP_FAILED ||
	    errno != ENODEV)
		return 6;

	return 0;
}

FIXTURE(dma_buf_client) {
	struct owner owner;
	struct process client;
};

FIXTURE_SETUP(dma_buf_client)
{
	/* Before anything is opened, so that nothing is inherited. */
	process_start(&self->client, client);

	if (!owner_open(&self->owner, MODE_IOMMUFD))
		SKIP(return, "%s has no mappable BAR of %d pages\n", device_bdf,
		     NR_PAGES);
}

FIXTURE_TEARDOWN(dma_buf_client)
{
	owner_close(&self->owner);
}

TEST_F(dma_buf_client, lent)
{
	struct vfio_pci_device *device = self->owner.device;
	int fd, bar = self->owner.bar;

	fd = vfio_pci_dma_buf_export(device, bar, 4 * page_size, 2 * page_size);
	socket_send_fd(self->client.socket, fd);
	socket_send(self->client.socket, self->owner.ram);
	ASSERT_EQ(0, socket_recv(self->client.socket));
	if (self->owner.ram)
		EXPECT_EQ(~MARK(5), vfio_pci_bar_read32(device, bar, 5 * page_size));

	device_close(&self->owner);
	socket_send(self->client.socket, 0);
	socket_send_fd(self->client.socket, fd);
	EXPECT_EQ(0, process_wait(&self->client));
	ASSERT_EQ(0, close(fd));
}

/* Export with an argument of which only @readable bytes can be read. */
static int export_cut_off(struct vfio_pci_device *device, const void *payload,
			  size_t size, size_t readable)
{
	struct vfio_device_feature *arg;
	void *edge;
	int ret;

	edge = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(edge, MAP_FAILED);
	VFIO_ASSERT_EQ(munmap(edge + page_size, page_size), 0);
	arg = edge + page_size - sizeof(*arg) - readable;
	arg->argsz = sizeof(*arg) + size;
	arg->flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
	memcpy(arg->data, payload, readable);
	ret = ioctl(device->fd, VFIO_DEVICE_FEATURE, arg);
	if (ret < 0)
		ret = -errno;
	VFIO_ASSERT_EQ(munmap(edge, page_size), 0);

	return ret;
}

/* Which parts of which regions are refused, and how. */
TEST_F(dma_buf_mmap, export_errors)
{
	struct owner *owner = &self->owner;
	struct vfio_pci_device *device = owner->device;
	u64 size = device->bars[owner->bar].info.size;
	struct {
		struct vfio_device_feature_dma_buf buf;
		struct vfio_region_dma_range range;
	} arg = {
		.buf = {
			.region_index = owner->bar,
			.open_flags = O_RDWR | O_CLOEXEC,
			.nr_ranges = 1,
		},
		.range = { .length = page_size },
	};
	const u32 get = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
	const u32 set = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF;
	int bar, fd;

	/* Ranges: no page multiple, empty, past the end, across it, no number. */
	EXPECT_EQ(-EINVAL, __vfio_pci_dma_buf_export(device, owner->bar, 4, page_size));
	EXPECT_EQ(-EINVAL, __vfio_pci_dma_buf_export(device, owner->bar, 0, 4));
	EXPECT_EQ(-EINVAL, __vfio_pci_dma_buf_export(device, owner->bar, 0, 0));
	EXPECT_EQ(-EINVAL, __vfio_pci_dma_buf_export(device, owner->bar, size, page_size));
	EXPECT_EQ(-EINVAL, __vfio_pci_dma_buf_export(device, owner->bar, size - page_size,
						     2 * page_size));
	EXPECT_EQ(-EOVERFLOW, __vfio_pci_dma_buf_export(device, owner->bar, -page_size,
							page_size));
	EXPECT_EQ(-EINVAL, __vfio_pci_dma_buf_export_ranges(device, owner->bar, O_RDWR,
							    NULL, 0));

	/* Regions: BARs that are I/O, too small, or empty, and what is no BAR. */
	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		struct vfio_region_info *info = &device->bars[bar].info;

		if (info->flags & VFIO_REGION_INFO_FLAG_MMAP &&
		    info->size >= page_size)
			continue;
		EXPECT_EQ(info->size ? -EINVAL : -ENODEV,
			  __vfio_pci_dma_buf_export(device, bar, 0, page_size));
	}
	for (bar = VFIO_PCI_ROM_REGION_INDEX; bar <= VFIO_PCI_NUM_REGIONS; bar++)
		EXPECT_EQ(-ENODEV, __vfio_pci_dma_buf_export(device, bar, 0, page_size));
	EXPECT_EQ(-ENODEV, __vfio_pci_dma_buf_export(device, 1 << 20, 0, page_size));

	/* 3.3: no flags. */
	arg.buf.flags = 1;
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd, get, &arg, sizeof(arg)));
	arg.buf.flags = 0;
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd, get, &arg,
						 sizeof(arg.buf) - 4));

	/* It is there, and only to be got. */
	EXPECT_EQ(0, __vfio_device_feature(device->fd, get | VFIO_DEVICE_FEATURE_PROBE,
					   NULL, 0));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd, set | VFIO_DEVICE_FEATURE_PROBE,
						 NULL, 0));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd, set, &arg, sizeof(arg)));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd, get | set, &arg, sizeof(arg)));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_DMA_BUF,
						 &arg, sizeof(arg)));

	/* What can be read ends after the header, and before the range. */
	EXPECT_EQ(-EFAULT, export_cut_off(device, &arg, sizeof(arg), 0));
	EXPECT_EQ(-EFAULT, export_cut_off(device, &arg, sizeof(arg), sizeof(arg.buf)));
	fd = export_cut_off(device, &arg, sizeof(arg), sizeof(arg));
	EXPECT_LE(0, fd);
	ASSERT_EQ(0, close(fd));
	fd = __vfio_device_feature(device->fd, get, &arg, sizeof(arg));
	EXPECT_LE(0, fd);
	ASSERT_EQ(0, close(fd));
}

/* 11: as many ranges as are documented, and not one more. */
TEST_F(dma_buf_mmap, nr_ranges)
{
	struct owner *owner = &self->owner;
	const u32 nr = VFIO_DMA_BUF_MAX_RANGES;
	struct vfio_region_dma_range *ranges;
	void *vaddr;
	int fd;
	u32 i;

	ranges = calloc_assert(nr + 1, sizeof(*ranges));
	for (i = 0; i < nr + 1; i++) {
		ranges[i].offset = i % NR_PAGES * page_size;
		ranges[i].length = page_size;
	}

	EXPECT_EQ(-E2BIG, __vfio_pci_dma_buf_export_ranges(owner->device, owner->bar,
							   O_RDWR, ranges, nr + 1));
	EXPECT_EQ(-E2BIG, __vfio_pci_dma_buf_export_ranges(owner->device, owner->bar,
							   O_RDWR, ranges, nr + 1));

	fd = __vfio_pci_dma_buf_export_ranges(owner->device, owner->bar,
					      O_RDWR | O_CLOEXEC, ranges, nr);
	ASSERT_LE(0, fd);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, nr * page_size);
	for (i = 0; i < nr; i += 4099)
		EXPECT_PAGE(owner, i % NR_PAGES, vaddr + i * page_size);
	EXPECT_PAGE(owner, (nr - 1) % NR_PAGES, vaddr + (nr - 1) * page_size);
	ASSERT_EQ(0, munmap(vaddr, nr * page_size));
	ASSERT_EQ(0, close(fd));
	free(ranges);
}

/* 11: who exports pays for it. */
static long cgroup_kernel_bytes(const char *cgroup)
{
	size_t size = 128 * sysconf(_SC_NPROCESSORS_ONLN) * page_size;
	char path[PATH_MAX], line[128];
	long bytes = -1;
	void *vaddr;
	FILE *stat;

	/* The figures are up to 64 changes old for each CPU: make more of them. */
	vaddr = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	VFIO_ASSERT_NE(vaddr, MAP_FAILED);
	VFIO_ASSERT_EQ(munmap(vaddr, size), 0);

	snprintf_assert(path, sizeof(path), "%s/memory.stat", cgroup);
	stat = fopen(path, "re");
	if (!stat)
		return -1;
	while (bytes < 0 && fgets(line, sizeof(line), stat))
		sscanf(line, "kernel %ld", &bytes);
	fclose(stat);

	return bytes;
}

static bool cgroup_write(const char *cgroup, const char *file, const char *value)
{
	char path[PATH_MAX];
	bool ok;
	int fd;

	snprintf_assert(path, sizeof(path), "%s/%s", cgroup, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = write(fd, value, strlen(value)) == strlen(value);
	close(fd);

	return ok;
}

/* A cgroup that has nothing but the test in it. */
struct cgroup {
	char root[32];
	char path[PATH_MAX];
};

static void cgroup_leave(struct cgroup *cgroup)
{
	cgroup_write(cgroup->root, "cgroup.procs", "0");
	rmdir(cgroup->path);
	umount2(cgroup->root, MNT_DETACH);
	rmdir(cgroup->root);
}

/* Return: false if there is no cgroup2, or no memory controller in it. */
static bool cgroup_enter(struct cgroup *cgroup)
{
	snprintf_assert(cgroup->root, sizeof(cgroup->root), "/tmp/vfio-cgroup-XXXXXX");
	VFIO_ASSERT_NOT_NULL(mkdtemp(cgroup->root));
	snprintf_assert(cgroup->path, sizeof(cgroup->path), "%s/vfio-%d",
			cgroup->root, getpid());
	if (mount("none", cgroup->root, "cgroup2", 0, NULL)) {
		rmdir(cgroup->root);
		return false;
	}
	if (cgroup_write(cgroup->root, "cgroup.subtree_control", "+memory") &&
	    !mkdir(cgroup->path, 0700) &&
	    cgroup_write(cgroup->path, "cgroup.procs", "0") &&
	    cgroup_kernel_bytes(cgroup->path) >= 0)
		return true;

	cgroup_leave(cgroup);
	return false;
}

TEST_F(dma_buf_mmap, charged)
{
	struct owner *owner = &self->owner;
	const u32 nr = 4096;
	struct vfio_region_dma_range *ranges;
	struct cgroup cgroup;
	long before, after;
	int fd[16], i;

	if (!cgroup_enter(&cgroup))
		SKIP(return, "No cgroup2 with a memory controller\n");

	ranges = calloc_assert(nr, sizeof(*ranges));
	for (i = 0; i < nr; i++)
		ranges[i].length = page_size;

	before = cgroup_kernel_bytes(cgroup.path);
	for (i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = __vfio_pci_dma_buf_export_ranges(owner->device, owner->bar,
							 O_RDWR | O_CLOEXEC,
							 ranges, nr);
	after = cgroup_kernel_bytes(cgroup.path);
	for (i = 0; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);
	free(ranges);
	cgroup_leave(&cgroup);

	/* An address and a length is the least that a range can take. */
	EXPECT_LE(before + (long)(ARRAY_SIZE(fd) * nr * 16), after);
}

#define NR_CHARGED 1024

/* What each buffer consists of, no matter how large it is, and its name. */
TEST_F_TIMEOUT(dma_buf_mmap, charged_each, 120)
{
	struct owner *owner = &self->owner;
	const char *name = "a name as long as they can have";
	int fd[NR_CHARGED], memfd[NR_CHARGED], i;
	struct rlimit limit, enough;
	long bytes[4];
	struct cgroup cgroup;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	enough.rlim_cur = 2 * NR_CHARGED + 64;
	enough.rlim_max = max(limit.rlim_max, enough.rlim_cur);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &enough));
	if (!cgroup_enter(&cgroup))
		SKIP(return, "No cgroup2 with a memory controller\n");

	/* Nothing is freed in between: that would show some time later. */
	bytes[0] = cgroup_kernel_bytes(cgroup.path);
	for (i = 0; i < NR_CHARGED; i++)
		fd[i] = __vfio_pci_dma_buf_export(owner->device, owner->bar, 0,
						  page_size);
	bytes[1] = cgroup_kernel_bytes(cgroup.path);
	for (i = 0; i < NR_CHARGED; i++)
		ioctl(fd[i], DMA_BUF_SET_NAME, name);
	bytes[2] = cgroup_kernel_bytes(cgroup.path);
	for (i = 0; i < NR_CHARGED; i++)
		memfd[i] = memfd_create("", MFD_CLOEXEC);
	bytes[3] = cgroup_kernel_bytes(cgroup.path);

	for (i = 0; i < NR_CHARGED; i++) {
		close(fd[i]);
		close(memfd[i]);
	}
	cgroup_leave(&cgroup);
	/* The last ones, which were the first to be missing. */
	EXPECT_LE(0, fd[NR_CHARGED - 1]);
	EXPECT_LE(0, memfd[NR_CHARGED - 1]);

	for (i = 3; i > 0; i--)
		bytes[i] = (bytes[i] - bytes[i - 1]) / NR_CHARGED;
	/*
	 * A memfd is a file, a dentry and an inode, the larger one, which are
	 * charged of every file. A struct dma_buf with its reservation object
	 * takes more than 300 bytes, what a driver has for a buffer less.
	 */
	EXPECT_LE(bytes[3] + 300, bytes[1]);
	/* Half of it, because the figures are not exact. */
	EXPECT_LE((long)strlen(name) / 2, bytes[2]);
}

/* D2: no fd to be had. */
TEST_F(dma_buf_mmap, fds_exhausted)
{
	struct owner *owner = &self->owner;
	struct rlimit limit, none;
	int i, fd;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	for (i = 0; i < 64; i++)
		EXPECT_EQ(-EMFILE, __vfio_pci_dma_buf_export(owner->device, owner->bar,
							     0, page_size));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));

	/* Nothing is left of them that a revocation could find. */
	vfio_pci_decode_set(owner->device, false);
	vfio_pci_decode_set(owner->device, true);
	fd = vfio_pci_dma_buf_export(owner->device, owner->bar, 0, page_size);
	ASSERT_EQ(0, close(fd));
}

/* D3: buffers that outlive the device, by an fd or by a mapping. */
TEST_F(dma_buf_close, outlives_device)
{
	struct owner *owner = &self->owner;
	void *vaddr[8];
	int fd[8], i;
	u32 val;

	for (i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = vfio_pci_dma_buf_export(owner->device, owner->bar,
						i * page_size, page_size);
		vaddr[i] = vfio_pci_dma_buf_mmap(fd[i], 0, page_size);
		EXPECT_PAGE(owner, i, vaddr[i]);
		if (i & 1)
			ASSERT_EQ(0, close(fd[i]));
	}
	device_close(owner);
	for (i = 0; i < ARRAY_SIZE(fd); i++) {
		EXPECT_EQ(-EFAULT, try_read32(vaddr[i], &val));
		ASSERT_EQ(0, munmap(vaddr[i], page_size));
		if (!(i & 1))
			ASSERT_EQ(0, close(fd[i]));
	}
	device_open(owner, variant->iommu_mode);
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	page_size = getpagesize();
	return test_harness_run(argc, argv);
}
