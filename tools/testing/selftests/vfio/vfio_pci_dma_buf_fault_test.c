// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults on BAR mappings: which page of which size each of them brings
 *
 * Proves by the number of faults, and by the page tables where the module
 * vfio_selftest can read them, that a huge page is used where one fits into
 * the mapping and into what is contiguous, and nowhere else; that ranges which
 * are neighbours count as one; that mmap() picks an address at which huge pages
 * are possible, for the device fd and for the fd of a buffer; and that however
 * the ranges lie, each page is the right one.
 *
 * Needs a BAR of several huge pages, which QEMU's ivshmem-plain has (64 MiB do,
 * the cases on the largest pages want 2 GiB). Whether it is backed by memory
 * makes no difference to the faults, but without that only the physical
 * addresses are compared, by the module.
 *
 * Specification: 6.1, 6.3 (fallback), 6.4, 6.5, 6.6; 12 (numbers of faults).
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <linux/align.h>
#include <linux/limits.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define MARK(_page) (0xfa000000 | (u32)(_page))

static const char *device_bdf;
static size_t page_size;
static u64 pmd_size;
static u64 largest_size;	/* of the pages that the CPU has */

struct bar {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int index;
	bool ram;
	u64 size;
	u64 phys;
	bool have_pfnmap;
};

/* Return: false if the device has no BAR to test with. */
static bool bar_open(struct bar *bar, const char *iommu_mode)
{
	struct pfnmap pfnmap;

	bar->iommu = iommu_init(iommu_mode);
	bar->device = vfio_pci_device_init(device_bdf, bar->iommu);
	vfio_pci_bars_unmap(bar->device);

	bar->index = vfio_pci_bar_find(bar->device, 8 * pmd_size, true);
	bar->ram = bar->index >= 0;
	if (!bar->ram)
		bar->index = vfio_pci_bar_find(bar->device, 8 * pmd_size, false);
	if (bar->index < 0)
		return false;

	bar->size = bar->device->bars[bar->index].info.size;
	bar->phys = sysfs_bar_start_get(device_bdf, bar->index);
	bar->have_pfnmap = pfnmap_get(bar, &pfnmap) != -EOPNOTSUPP;

	return true;
}

static void bar_close(struct bar *bar)
{
	if (!bar->device)
		return;
	vfio_pci_device_cleanup(bar->device);
	iommu_cleanup(bar->iommu);
}

FIXTURE(fault) {
	struct bar bar;
};

FIXTURE_VARIANT(fault) {
	const char *iommu_mode;
	bool exported;		/* map a buffer over the BAR, not the BAR */
};

FIXTURE_VARIANT_ADD(fault, cdev) {
	.iommu_mode = MODE_IOMMUFD,
};

FIXTURE_VARIANT_ADD(fault, group) {
	.iommu_mode = MODE_VFIO_TYPE1V2_IOMMU,
};

FIXTURE_VARIANT_ADD(fault, exported) {
	.iommu_mode = MODE_IOMMUFD,
	.exported = true,
};

FIXTURE_SETUP(fault)
{
	if (!pmd_size)
		SKIP(return, "This kernel has no huge pages\n");
	if (!bar_open(&self->bar, variant->iommu_mode))
		SKIP(return, "%s has no mappable BAR of 8 huge pages\n", device_bdf);
}

FIXTURE_TEARDOWN(fault)
{
	bar_close(&self->bar);
}

/* The file and the position in it by which @offset of the BAR is mapped. */
struct target {
	int fd;
	u64 pos;
};

static struct target target_get(struct bar *bar, bool exported)
{
	if (!exported)
		return (struct target) {
			.fd = bar->device->fd,
			.pos = vfio_pci_bar_pos(bar->device, bar->index, 0),
		};

	return (struct target) {
		.fd = vfio_pci_dma_buf_export(bar->device, bar->index, 0,
					      bar->size),
	};
}

static void *target_mmap(struct target target, void *vaddr, u64 offset, u64 size)
{
	vaddr = mmap(vaddr, size, PROT_READ | PROT_WRITE,
		     MAP_SHARED | (vaddr ? MAP_FIXED : 0), target.fd,
		     target.pos + offset);
	VFIO_ASSERT_NE(vaddr, MAP_FAILED);

	return vaddr;
}

/* At an address that is @skew bytes above one congruent with the BAR's. */
static void *target_mmap_at(struct bar *bar, struct target target,
			    u64 offset, u64 size, u64 skew)
{
	u64 align = SZ_1G;
	void *vaddr;

	vaddr = mmap_reserve(size, align, (bar->phys + offset + skew) % align);
	return target_mmap(target, vaddr, offset, size);
}

/* Faults of reading the word at every @step of [@start, @end). */
static long count_faults(void *start, void *end, u64 step)
{
	long faults, all = 0;
	void *vaddr;
	u32 val;

	for (vaddr = start; vaddr < end; vaddr += step) {
		VFIO_ASSERT_EQ(try_read32_faults(vaddr, &val, &faults), 0);
		all += faults;
	}

	return all;
}

/* Expect @bytes into the BAR at @vaddr, marked before if it can be. */
#define EXPECT_AT(_bytes, _vaddr) do {						\
	void *__vaddr = (_vaddr);						\
	u64 __bytes = (_bytes);							\
	struct pfnmap __pfnmap;							\
	u32 __val;								\
										\
	if (bar->ram)								\
		vfio_pci_bar_write32(bar->device, bar->index, __bytes,		\
				     MARK(__bytes / page_size));		\
	EXPECT_EQ(0, try_read32(__vaddr, &__val));				\
	if (bar->ram)								\
		EXPECT_EQ(MARK(__bytes / page_size), __val);			\
	if (!pfnmap_get(__vaddr, &__pfnmap))					\
		EXPECT_EQ((bar->phys + __bytes) / page_size, __pfnmap.pfn);	\
} while (0)

#define EXPECT_PAGE_SIZE(_size, _vaddr) do {					\
	struct pfnmap __pfnmap;							\
										\
	if (bar->have_pfnmap) {						\
		EXPECT_EQ(0, pfnmap_get(_vaddr, &__pfnmap));			\
		EXPECT_EQ(_size, __pfnmap.page_size);				\
	}									\
} while (0)

/* 6.6: without a hint, at an address that is congruent with the physical one. */
TEST_F(fault, chosen_address)
{
	struct bar *bar = &self->bar;
	struct target target = target_get(bar, variant->exported);
	static const u64 offsets[] = { 0, SZ_4K, SZ_1M, SZ_2M, SZ_2M + SZ_64K };
	u64 size, offset, align;
	void *vaddr;
	int i;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		offset = ALIGN(offsets[i], page_size);
		for (size = 2 * pmd_size; offset + size <= bar->size; size *= 2) {
			/* The largest page that fits the mapping for sure. */
			align = size >= 2ULL * SZ_1G ? largest_size : pmd_size;

			vaddr = target_mmap(target, NULL, offset, size);
			EXPECT_EQ((bar->phys + offset) % align,
				  (u64)vaddr % align) {
				TH_LOG("%#llx bytes at %#llx", (unsigned long long)size,
				       (unsigned long long)offset);
			}
			ASSERT_EQ(0, munmap(vaddr, size));
		}
	}
}

/* A hint and MAP_FIXED are obeyed, whatever it does to huge pages. */
TEST_F(fault, given_address)
{
	struct bar *bar = &self->bar;
	struct target target = target_get(bar, variant->exported);
	void *hint, *vaddr;

	hint = mmap_reserve(4 * pmd_size, pmd_size, 0);
	ASSERT_EQ(0, munmap(hint, 4 * pmd_size));
	hint += page_size;
	vaddr = mmap(hint, 2 * pmd_size, PROT_READ, MAP_SHARED, target.fd,
		     target.pos);
	EXPECT_EQ(hint, vaddr);
	ASSERT_EQ(0, munmap(vaddr, 2 * pmd_size));

	vaddr = mmap(hint, 2 * pmd_size, PROT_READ, MAP_SHARED | MAP_FIXED,
		     target.fd, target.pos);
	EXPECT_EQ(hint, vaddr);
	EXPECT_AT(0, vaddr);
	EXPECT_PAGE_SIZE(page_size, vaddr);
	ASSERT_EQ(0, munmap(vaddr, 2 * pmd_size));
}

/* The address that mmap() chose serves: a huge page a fault. */
TEST_F(fault, whole)
{
	struct bar *bar = &self->bar;
	struct target target = target_get(bar, variant->exported);
	u64 size = min_t(u64, bar->size, 64 * pmd_size);
	void *vaddr;

	vaddr = target_mmap(target, NULL, 0, size);
	EXPECT_EQ(size / pmd_size, count_faults(vaddr, vaddr + size, pmd_size / 4));
	EXPECT_PAGE_SIZE(pmd_size, vaddr + pmd_size);

	/* Everything was there, down to the last page. */
	EXPECT_EQ(0, count_faults(vaddr, vaddr + size, pmd_size / 32));
	EXPECT_AT(size - page_size, vaddr + size - page_size);
	EXPECT_AT(pmd_size + page_size, vaddr + pmd_size + page_size);
	ASSERT_EQ(0, munmap(vaddr, size));
}

/* 1 GiB takes one fault, if the CPU has such pages. */
TEST_F(fault, largest)
{
	struct bar *bar = &self->bar;
	struct target target = target_get(bar, variant->exported);
	u64 step = 64 * pmd_size;
	long faults = largest_size == SZ_1G ? 1 : SZ_1G / step;
	void *vaddr;

	if (bar->size < SZ_2G)
		SKIP(return, "%s has no BAR of 2 GiB\n", device_bdf);

	/* Aligned for such a page, whether there is one or not. */
	vaddr = target_mmap_at(bar, target, 0, SZ_1G, 0);
	EXPECT_AT(SZ_1G - page_size, vaddr + SZ_1G - page_size);
	EXPECT_PAGE_SIZE(largest_size, vaddr + SZ_1G - page_size);
	ASSERT_EQ(0, munmap(vaddr, SZ_1G));

	vaddr = target_mmap(target, NULL, 0, SZ_2G);
	EXPECT_EQ(faults, count_faults(vaddr, vaddr + SZ_1G, step));
	EXPECT_PAGE_SIZE(largest_size, vaddr + SZ_1G - step);
	EXPECT_EQ(faults, count_faults(vaddr + SZ_1G, vaddr + SZ_2G, step));
	EXPECT_EQ(largest_size == SZ_1G ? 0 : (long)(SZ_2G / pmd_size) - 2 * faults,
		  count_faults(vaddr, vaddr + SZ_2G, pmd_size));
	EXPECT_AT(SZ_1G + 3 * page_size, vaddr + SZ_1G + 3 * page_size);
	EXPECT_AT(SZ_2G - page_size, vaddr + SZ_2G - page_size);
	ASSERT_EQ(0, munmap(vaddr, SZ_2G));

	/* Of 1 GiB that is only shifted, all but a page is made of smaller ones. */
	vaddr = target_mmap_at(bar, target, page_size, SZ_1G, 0);
	count_faults(vaddr, vaddr + SZ_1G, SZ_512M);
	EXPECT_AT(page_size, vaddr);
	EXPECT_PAGE_SIZE(page_size, vaddr);
	EXPECT_AT(SZ_512M + page_size, vaddr + SZ_512M);
	EXPECT_PAGE_SIZE(pmd_size, vaddr + SZ_512M);
	ASSERT_EQ(0, munmap(vaddr, SZ_1G));
}

/*
 * 6.4, the matrix: a mapping whose start and end are aligned or not, of a part
 * of the BAR, at an address congruent with it or not.
 */
TEST_F(fault, matrix)
{
	struct bar *bar = &self->bar;
	struct target target = target_get(bar, variant->exported);
	u64 cut_start, cut_end, skew, start, size, addr, huge;
	void *vaddr;
	int i;

	for (i = 0; i < 8; i++) {
		cut_start = i & 1 ? page_size : 0;
		cut_end = i & 2 ? page_size : 0;
		skew = i & 4 ? 2 * page_size : 0;

		start = pmd_size + cut_start;
		size = 3 * pmd_size - cut_start - cut_end;
		vaddr = target_mmap_at(bar, target, start, size, skew);

		/* One access in each huge page's worth of the BAR, in its middle. */
		for (addr = pmd_size; addr < 4 * pmd_size; addr += pmd_size) {
			EXPECT_EQ(1, count_faults(vaddr + addr - start + pmd_size / 2,
						  vaddr + addr - start + pmd_size / 2 + 4,
						  page_size));
			huge = !skew && addr >= start && addr + pmd_size <= start + size;
			EXPECT_PAGE_SIZE(huge ? pmd_size : page_size,
					 vaddr + addr - start + pmd_size / 2);
			/* Its neighbour came with it only if it is huge. */
			EXPECT_EQ(!huge, count_faults(vaddr + addr - start + pmd_size / 4,
						      vaddr + addr - start + pmd_size / 4 + 4,
						      page_size)) {
				TH_LOG("start cut %llu, end cut %llu, skew %llu, page at %#llx",
				       (unsigned long long)cut_start,
				       (unsigned long long)cut_end,
				       (unsigned long long)skew,
				       (unsigned long long)addr);
			}
			EXPECT_AT(addr + pmd_size / 2,
				  vaddr + addr - start + pmd_size / 2);
		}
		EXPECT_AT(start, vaddr);
		EXPECT_AT(start + size - page_size, vaddr + size - page_size);
		ASSERT_EQ(0, munmap(vaddr, size));
	}
}

/* A huge page that is split by munmap() comes back as small ones. */
TEST_F(fault, split)
{
	struct bar *bar = &self->bar;
	struct target target = target_get(bar, variant->exported);
	void *vaddr;

	vaddr = target_mmap_at(bar, target, 0, 2 * pmd_size, 0);
	EXPECT_EQ(2, count_faults(vaddr, vaddr + 2 * pmd_size, pmd_size));
	ASSERT_EQ(0, munmap(vaddr + pmd_size - page_size, page_size));

	EXPECT_AT(0, vaddr);
	EXPECT_PAGE_SIZE(page_size, vaddr);
	EXPECT_AT(pmd_size - 2 * page_size, vaddr + pmd_size - 2 * page_size);
	EXPECT_EQ(0, count_faults(vaddr + pmd_size, vaddr + 2 * pmd_size, page_size));
	EXPECT_PAGE_SIZE(pmd_size, vaddr + pmd_size);
	ASSERT_EQ(0, munmap(vaddr, 2 * pmd_size));
}

TEST_F(fault, inherited)
{
	struct bar *bar = &self->bar;
	struct target target = target_get(bar, variant->exported);
	void *vaddr;
	int status;
	pid_t pid;

	vaddr = target_mmap_at(bar, target, 0, 2 * pmd_size, 0);
	EXPECT_EQ(1, count_faults(vaddr, vaddr + pmd_size, pmd_size / 8));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* Copied or not: one fault at most for a huge page. */
		if (count_faults(vaddr, vaddr + pmd_size, pmd_size / 8) > 1)
			_exit(1);
		_exit(count_faults(vaddr + pmd_size, vaddr + 2 * pmd_size,
				   pmd_size / 8) == 1 ? 0 : 2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, munmap(vaddr, 2 * pmd_size));
}

/* Buffers of many ranges, which only an export can make. */
FIXTURE(fault_ranges) {
	struct bar bar;
};

FIXTURE_SETUP(fault_ranges)
{
	if (!pmd_size)
		SKIP(return, "This kernel has no huge pages\n");
	if (!bar_open(&self->bar, MODE_IOMMUFD))
		SKIP(return, "%s has no mappable BAR of 8 huge pages\n", device_bdf);
}

FIXTURE_TEARDOWN(fault_ranges)
{
	bar_close(&self->bar);
}

static int export_ranges(struct bar *bar,
			 const struct vfio_region_dma_range *ranges, u32 nr)
{
	int fd = __vfio_pci_dma_buf_export_ranges(bar->device, bar->index,
						  O_RDWR | O_CLOEXEC, ranges, nr);

	VFIO_ASSERT_GE(fd, 0);
	return fd;
}

static void *buf_mmap_at(struct bar *bar, int fd, u64 size, u64 phys)
{
	void *vaddr = mmap_reserve(size, SZ_1G, (bar->phys + phys) % SZ_1G);

	return target_mmap((struct target) { .fd = fd }, vaddr, 0, size);
}

/* 512 ranges of a page that follow each other are one huge page. */
TEST_F(fault_ranges, neighbours)
{
	struct bar *bar = &self->bar;
	u32 nr = 2 * pmd_size / page_size, i;
	struct vfio_region_dma_range *ranges = calloc(nr, sizeof(*ranges));
	void *vaddr;
	int fd;

	for (i = 0; i < nr; i++) {
		ranges[i].offset = pmd_size + i * page_size;
		ranges[i].length = page_size;
	}
	fd = export_ranges(bar, ranges, nr);
	vaddr = buf_mmap_at(bar, fd, 2 * pmd_size, pmd_size);
	EXPECT_EQ(1, count_faults(vaddr, vaddr + pmd_size, page_size));
	EXPECT_EQ(1, count_faults(vaddr + pmd_size, vaddr + 2 * pmd_size, page_size));
	EXPECT_PAGE_SIZE(pmd_size, vaddr);
	EXPECT_AT(pmd_size + 7 * page_size, vaddr + 7 * page_size);
	EXPECT_AT(3 * pmd_size - page_size, vaddr + 2 * pmd_size - page_size);
	ASSERT_EQ(0, munmap(vaddr, 2 * pmd_size));

	/* And mmap() knows that. */
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * pmd_size);
	EXPECT_EQ((bar->phys + pmd_size) % pmd_size, (u64)vaddr % pmd_size);
	EXPECT_EQ(2, count_faults(vaddr, vaddr + 2 * pmd_size, pmd_size / 8));
	ASSERT_EQ(0, munmap(vaddr, 2 * pmd_size));
	ASSERT_EQ(0, close(fd));
	free(ranges);
}

/* Neighbours in the BAR that are none in the buffer, and the other way round. */
TEST_F(fault_ranges, not_neighbours)
{
	struct bar *bar = &self->bar;
	u64 half = pmd_size / 2;
	const struct vfio_region_dma_range ranges[] = {
		/* Both halves, the wrong way round. */
		{ .offset = half, .length = half },
		{ .offset = 0, .length = half },
		/* Aligned, but with a hole of a page. */
		{ .offset = 2 * pmd_size, .length = half },
		{ .offset = 2 * pmd_size + half + page_size, .length = half },
		/* A whole one in between. */
		{ .offset = 5 * pmd_size, .length = pmd_size },
		/* The same page over and over. */
		{ .offset = 0, .length = page_size },
		{ .offset = 0, .length = page_size },
	};
	u64 size = 3 * pmd_size + 2 * page_size, pos;
	void *vaddr;
	int fd, i;

	fd = export_ranges(bar, ranges, ARRAY_SIZE(ranges));
	vaddr = buf_mmap_at(bar, fd, size, 0);
	for (i = 0, pos = 0; i < ARRAY_SIZE(ranges); i++) {
		EXPECT_AT(ranges[i].offset, vaddr + pos);
		EXPECT_PAGE_SIZE(ranges[i].length == pmd_size ?
				 pmd_size : page_size, vaddr + pos);
		pos += ranges[i].length;
		EXPECT_AT(ranges[i].offset + ranges[i].length - page_size,
			  vaddr + pos - page_size);
	}
	ASSERT_EQ(0, munmap(vaddr, size));
	ASSERT_EQ(0, close(fd));
}

/*
 * Range edges inside of, at, and across huge pages. Joined ranges that together
 * cover one give one, whatever lies before and behind them.
 */
TEST_F(fault_ranges, edges)
{
	struct bar *bar = &self->bar;
	const struct vfio_region_dma_range ranges[] = {
		/* [0.5, 1) and [1, 1.25) and [1.25, 2.5) of the BAR */
		{ .offset = pmd_size / 2, .length = pmd_size / 2 },
		{ .offset = pmd_size, .length = pmd_size / 4 },
		{ .offset = pmd_size + pmd_size / 4, .length = pmd_size * 5 / 4 },
	};
	void *vaddr;
	int fd;

	fd = export_ranges(bar, ranges, ARRAY_SIZE(ranges));
	vaddr = buf_mmap_at(bar, fd, 2 * pmd_size, pmd_size / 2);
	EXPECT_AT(pmd_size - page_size, vaddr + pmd_size / 2 - page_size);
	EXPECT_PAGE_SIZE(page_size, vaddr + pmd_size / 2 - page_size);
	EXPECT_AT(pmd_size, vaddr + pmd_size / 2);
	EXPECT_PAGE_SIZE(pmd_size, vaddr + pmd_size / 2);
	EXPECT_AT(2 * pmd_size - page_size, vaddr + pmd_size * 3 / 2 - page_size);
	EXPECT_PAGE_SIZE(pmd_size, vaddr + pmd_size * 3 / 2 - page_size);
	EXPECT_AT(2 * pmd_size, vaddr + pmd_size * 3 / 2);
	EXPECT_PAGE_SIZE(page_size, vaddr + pmd_size * 3 / 2);
	ASSERT_EQ(0, munmap(vaddr, 2 * pmd_size));
	ASSERT_EQ(0, close(fd));
}

/* Each page of a long and shuffled list is the right one. */
TEST_F(fault_ranges, scattered)
{
	struct bar *bar = &self->bar;
	u32 nr = 1024, nr_pages = 4 * pmd_size / page_size, i;
	struct vfio_region_dma_range *ranges = calloc(nr, sizeof(*ranges));
	struct pfnmap pfnmap;
	void *vaddr;
	u32 val;
	int fd;

	/* An odd step visits all pages of a power of two before the first again. */
	for (i = 0; i < nr; i++) {
		ranges[i].offset = (u64)(i * 677 % nr_pages) * page_size;
		ranges[i].length = page_size;
		if (bar->ram)
			vfio_pci_bar_write32(bar->device, bar->index,
					     ranges[i].offset,
					     MARK(ranges[i].offset / page_size));
	}
	fd = export_ranges(bar, ranges, nr);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, nr * page_size);
	EXPECT_EQ(nr, count_faults(vaddr, vaddr + nr * page_size, page_size));
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, try_read32(vaddr + i * page_size, &val));
		if (bar->ram)
			ASSERT_EQ(MARK(ranges[i].offset / page_size), val);
		if (bar->have_pfnmap) {
			ASSERT_EQ(0, pfnmap_get(vaddr + i * page_size, &pfnmap));
			ASSERT_EQ((bar->phys + ranges[i].offset) / page_size,
				  pfnmap.pfn);
		}
	}
	ASSERT_EQ(0, munmap(vaddr, nr * page_size));
	ASSERT_EQ(0, close(fd));
	free(ranges);
}

/*
 * A part of a buffer is mapped at an address that suits the first page of the
 * part, not that of the buffer.
 */
TEST_F(fault_ranges, chosen_address)
{
	struct bar *bar = &self->bar;
	const struct vfio_region_dma_range ranges[] = {
		{ .offset = 3 * page_size, .length = page_size },
		{ .offset = pmd_size, .length = 4 * pmd_size },
	};
	void *vaddr;
	int fd;

	fd = export_ranges(bar, ranges, ARRAY_SIZE(ranges));

	vaddr = vfio_pci_dma_buf_mmap(fd, page_size, 4 * pmd_size);
	EXPECT_EQ((bar->phys + pmd_size) % pmd_size, (u64)vaddr % pmd_size);
	EXPECT_EQ(4, count_faults(vaddr, vaddr + 4 * pmd_size, pmd_size / 8));
	ASSERT_EQ(0, munmap(vaddr, 4 * pmd_size));

	/* Here it is the second range that has huge pages. */
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 4 * pmd_size + page_size);
	count_faults(vaddr + page_size, vaddr + page_size + 4 * pmd_size, pmd_size / 8);
	EXPECT_AT(3 * page_size, vaddr);
	EXPECT_AT(pmd_size, vaddr + page_size);
	EXPECT_AT(5 * pmd_size - page_size, vaddr + 4 * pmd_size);
	ASSERT_EQ(0, munmap(vaddr, 4 * pmd_size + page_size));
	ASSERT_EQ(0, close(fd));
}

/* x86 has CPUs without pages of 1 GiB. */
static bool cpu_has_1g_pages(void)
{
	bool found = false, x86 = false;
	char *line = NULL;
	size_t len = 0;
	FILE *f;

	f = fopen("/proc/cpuinfo", "re");
	if (!f)
		return true;
	while (getline(&line, &len, f) > 0) {
		if (strncmp(line, "flags", strlen("flags")))
			continue;
		x86 = true;
		found = found || strstr(line, " pdpe1gb");
	}
	free(line);
	fclose(f);

	return found || !x86;
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	page_size = getpagesize();
	pmd_size = huge_page_size();
	largest_size = cpu_has_1g_pages() ? SZ_1G : pmd_size;
	return test_harness_run(argc, argv);
}
