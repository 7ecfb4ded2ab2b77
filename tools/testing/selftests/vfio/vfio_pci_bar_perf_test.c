// SPDX-License-Identifier: GPL-2.0-only
/*
 * What access to the BARs of a device costs
 *
 * Prints lines "# perf: NAME VALUE UNIT" and fails on no figure: what they are
 * worth depends on the machine. Where instructions are counted instead of time,
 * as with QEMU's -icount shift=0 (one CPU, an instruction is 1 ns), two runs
 * give the same figures, so that kernels can be compared. The names:
 *
 *   open, close, export   of a device, of a buffer of one page
 *   mmap.*, munmap.*      of one page; "first" when nothing else of the BAR is
 *                         mapped
 *   fault.SIZE.KIND       one fault that maps a page of SIZE, on average
 *   ranges.N              one fault of a page in a buffer of N scattered ranges
 *   whole.KIND.*          of 1 GiB or the whole BAR, where mmap() puts it: number
 *                         of faults to touch every page, alignment of the address
 *   neighbours            faults to touch the ranges of one page each that make
 *                         up a huge page
 *   zap.SIZE.KIND/BYTES   decoding turned off, with so much mapped, and "unzap":
 *                         turned on again
 *   revoke.SIZE/BYTES     the same, by VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE
 *   many.KIND.EVENT/N     the cost of EVENT when there are N of KIND: mappings of
 *                         the device fd, buffers, buffers that are mapped
 *   memory.KIND           that the kernel needs for each, without page tables
 *   threads.KIND/N        one fault while N threads or processes fault, each on
 *                         other pages: wall-clock time over all faults
 *
 * SIZE is pte, pmd or pud; KIND is device_fd or exported, what cannot be had is
 * left out. With BAR_PERF=full in the environment larger BARs and numbers are
 * tried, which takes a minute where a second is enough otherwise.
 *
 * Needs a BAR of 32 MiB, which QEMU's ivshmem-plain has; one of several GiB shows
 * the most.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <linux/align.h>
#include <linux/log2.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

/* Of which the best is taken: an interrupt may have hit the others. */
#define ROUNDS 5

static const char *device_bdf;
static bool full;
static size_t page_size, pmd_size, pud_size;

enum kind { DEVICE_FD, EXPORTED, NR_KINDS };

static const char * const kind_name[] = { "device_fd", "exported" };

/* A mapping can have pages of @page, but no larger ones, at @skew in the arena. */
struct size {
	const char *name;
	size_t page;
	size_t skew;
};

static struct size sizes[3];

static volatile u32 sink;

static u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void __attribute__((format(printf, 3, 4)))
perf(u64 value, const char *unit, const char *format, ...)
{
	va_list ap;

	printf("# perf: ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf(" %llu %s\n", (unsigned long long)value, unit);
	fflush(stdout);
}

FIXTURE(bar_perf) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	u64 size;
	u8 *arena;		/* address space, aligned to the largest page */
};

FIXTURE_SETUP(bar_perf)
{
	struct rlimit limit;
	u8 *reserved;

	self->iommu = iommu_init(MODE_IOMMUFD);
	self->device = vfio_pci_device_init(device_bdf, self->iommu);
	vfio_pci_bars_unmap(self->device);
	self->bar = vfio_pci_bar_find(self->device, 16 * pmd_size, false);
	if (self->bar < 0)
		SKIP(return, "%s has no BAR of %zu bytes\n", device_bdf,
		     16 * pmd_size);
	self->size = self->device->bars[self->bar].info.size;

	/* Many buffers are many fds */
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = limit.rlim_max;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));

	reserved = mmap(NULL, self->size + 2 * pud_size, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, reserved);
	self->arena = (u8 *)ALIGN((unsigned long)reserved, pud_size);
}

FIXTURE_TEARDOWN(bar_perf)
{
	if (self->device)
		vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

/* Return: NULL if the kernel cannot. */
static u8 *map(FIXTURE_DATA(bar_perf) *self, enum kind kind, int fd, size_t length,
	       u8 *place)
{
	u64 offset = kind == DEVICE_FD ?
		     vfio_pci_bar_pos(self->device, self->bar, 0) : 0;
	u8 *vaddr;

	vaddr = mmap(place, length, PROT_READ | PROT_WRITE,
		     MAP_SHARED | (place ? MAP_FIXED : 0),
		     kind == DEVICE_FD ? self->device->fd : fd, offset);

	return vaddr == MAP_FAILED ? NULL : vaddr;
}

/* Give a place back to the arena, so that mmap() finds nothing free there. */
static void unmap(u8 *vaddr, size_t length)
{
	VFIO_ASSERT_EQ(mmap(vaddr, length, PROT_NONE, MAP_FIXED | MAP_PRIVATE |
			    MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), vaddr);
}

static void touch(u8 *vaddr, size_t length, size_t step)
{
	size_t at;

	for (at = 0; at < length; at += step)
		sink = *(volatile u32 *)(vaddr + at);
}

/* Return: -1 for the device fd; -2 if there is no such thing. */
static int open_kind(FIXTURE_DATA(bar_perf) *self, enum kind kind, size_t length)
{
	int fd;
	u8 *vaddr;

	if (kind == DEVICE_FD)
		return -1;

	fd = __vfio_pci_dma_buf_export(self->device, self->bar, 0, length);
	if (fd < 0)
		return -2;
	vaddr = map(self, kind, fd, page_size, NULL);
	if (!vaddr) {
		close(fd);
		return -2;
	}
	munmap(vaddr, page_size);

	return fd;
}

static void close_kind(int fd)
{
	if (fd >= 0)
		close(fd);
}

TEST_F(bar_perf, open)
{
	struct vfio_pci_device *device;
	u64 begin, opened = ~0ULL, closed = ~0ULL;
	int i;

	vfio_pci_device_cleanup(self->device);
	self->device = NULL;
	device = vfio_pci_device_alloc(device_bdf, self->iommu);
	for (i = 0; i < ROUNDS; i++) {
		vfio_pci_cdev_open(device, device_bdf);
		begin = now();
		ASSERT_EQ(0, __vfio_device_bind_iommufd(device->fd,
							self->iommu->iommufd,
							NULL));
		opened = min(opened, now() - begin);
		begin = now();
		ASSERT_EQ(0, close(device->fd));
		closed = min(closed, now() - begin);
	}
	perf(opened, "ns", "open");
	perf(closed, "ns", "close");
	vfio_pci_device_free(device);
}

TEST_F(bar_perf, export)
{
	u64 begin, cost = ~0ULL;
	int i, fd;

	for (i = 0; i < 4 * ROUNDS; i++) {
		begin = now();
		fd = __vfio_pci_dma_buf_export(self->device, self->bar, 0,
					       page_size);
		cost = min(cost, now() - begin);
		if (fd < 0)
			SKIP(return, "No export: %s\n", strerror(-fd));
		ASSERT_EQ(0, close(fd));
	}
	perf(cost, "ns", "export");
}

TEST_F(bar_perf, mmap)
{
	u64 begin, first, more, unmapped;
	u8 *one, *other;
	enum kind kind;
	int i, fd;

	for (kind = 0; kind < NR_KINDS; kind++) {
		fd = open_kind(self, kind, page_size);
		if (fd < -1)
			continue;

		first = more = unmapped = ~0ULL;
		for (i = 0; i < 4 * ROUNDS; i++) {
			begin = now();
			one = map(self, kind, fd, page_size, NULL);
			first = min(first, now() - begin);
			begin = now();
			other = map(self, kind, fd, page_size, NULL);
			more = min(more, now() - begin);
			touch(other, page_size, page_size);
			begin = now();
			munmap(other, page_size);
			unmapped = min(unmapped, now() - begin);
			munmap(one, page_size);
		}
		perf(first, "ns", "mmap.%s.first", kind_name[kind]);
		perf(more, "ns", "mmap.%s", kind_name[kind]);
		perf(unmapped, "ns", "munmap.%s", kind_name[kind]);
		close_kind(fd);
	}
}

/* So much of the BAR that there are some pages of a size. Return: 0 if not. */
static size_t some(FIXTURE_DATA(bar_perf) *self, const struct size *size)
{
	size_t length = max((size_t)SZ_16M, 2 * size->page);

	if (length > self->size)
		length = size->page;

	return length <= self->size ? length : 0;
}

TEST_F(bar_perf, fault)
{
	u64 begin, cost;
	size_t length;
	enum kind kind;
	long faults;
	u8 *vaddr;
	int i, s, fd;

	for (s = 0; s < ARRAY_SIZE(sizes); s++) {
		length = some(self, &sizes[s]);
		for (kind = 0; length && kind < NR_KINDS; kind++) {
			fd = open_kind(self, kind, length);
			if (fd < -1)
				continue;
			cost = ~0ULL;
			for (i = 0; i < ROUNDS; i++) {
				vaddr = map(self, kind, fd, length,
					    self->arena + sizes[s].skew);
				ASSERT_NE(NULL, vaddr);
				faults = thread_faults();
				begin = now();
				touch(vaddr, length, sizes[s].page);
				cost = min(cost, now() - begin);
				faults = thread_faults() - faults;
				unmap(vaddr, length);
			}
			/* Or it is something else that has been measured. */
			if (faults == length / sizes[s].page)
				perf(cost / faults, "ns", "fault.%s.%s",
				     sizes[s].name, kind_name[kind]);
			close_kind(fd);
		}
	}
}

/* In an order of which no range is the neighbour of the one before. */
static void scatter(struct vfio_region_dma_range *ranges, int nr, size_t length)
{
	int i;

	for (i = 0; i < nr; i++) {
		ranges[i].offset = (i * 2654435761ULL) % nr * 2 * length;
		ranges[i].length = length;
	}
}

TEST_F(bar_perf, ranges)
{
	static const int numbers[] = { 1, 16, 256, 4096 };
	struct vfio_region_dma_range *ranges;
	size_t length = min((size_t)self->size / 2, (size_t)SZ_16M);
	u64 begin, cost;
	int i, n, fd;
	u8 *vaddr;

	ranges = calloc_assert(4096, sizeof(*ranges));
	for (n = 0; n < ARRAY_SIZE(numbers); n++) {
		if (length / numbers[n] < page_size)
			continue;
		scatter(ranges, numbers[n], length / numbers[n]);
		fd = __vfio_pci_dma_buf_export_ranges(self->device, self->bar,
						      O_RDWR | O_CLOEXEC, ranges,
						      numbers[n]);
		if (fd < 0)
			continue;
		cost = ~0ULL;
		for (i = 0; i < ROUNDS; i++) {
			vaddr = map(self, EXPORTED, fd, length,
				    self->arena + page_size);
			if (!vaddr)
				break;
			begin = now();
			touch(vaddr, length, page_size);
			cost = min(cost, now() - begin);
			unmap(vaddr, length);
		}
		if (cost != ~0ULL)
			perf(cost / (length / page_size), "ns", "ranges.%d",
			     numbers[n]);
		close(fd);
	}
	free(ranges);
}

TEST_F(bar_perf, whole)
{
	size_t length = min(self->size, full ? (u64)SZ_1G : (u64)SZ_32M);
	enum kind kind;
	long faults;
	u8 *vaddr;
	int fd;

	for (kind = 0; kind < NR_KINDS; kind++) {
		fd = open_kind(self, kind, length);
		if (fd < -1)
			continue;
		vaddr = map(self, kind, fd, length, NULL);
		ASSERT_NE(NULL, vaddr);
		faults = thread_faults();
		touch(vaddr, length, page_size);
		faults = thread_faults() - faults;
		perf(faults, "faults", "whole.%s.faults", kind_name[kind]);
		perf(1ULL << __builtin_ctzl((unsigned long)vaddr), "bytes",
		     "whole.%s.alignment", kind_name[kind]);
		munmap(vaddr, length);
		close_kind(fd);
	}
}

TEST_F(bar_perf, neighbours)
{
	struct vfio_region_dma_range *ranges;
	int nr = pmd_size / page_size, i, fd;
	long faults;
	u8 *vaddr;

	ranges = calloc_assert(nr, sizeof(*ranges));
	for (i = 0; i < nr; i++) {
		ranges[i].offset = i * page_size;
		ranges[i].length = page_size;
	}
	fd = __vfio_pci_dma_buf_export_ranges(self->device, self->bar,
					      O_RDWR | O_CLOEXEC, ranges, nr);
	free(ranges);
	if (fd < 0)
		SKIP(return, "No export: %s\n", strerror(-fd));
	vaddr = map(self, EXPORTED, fd, pmd_size, self->arena);
	if (vaddr) {
		faults = thread_faults();
		touch(vaddr, pmd_size, page_size);
		perf(thread_faults() - faults, "faults", "neighbours");
	}
	ASSERT_EQ(0, close(fd));
}

TEST_F(bar_perf, zap)
{
	size_t most = min(self->size, full ? (u64)SZ_1G : (u64)SZ_16M), length;
	u64 begin, off, on;
	enum kind kind;
	u8 *vaddr;
	int s, i, fd;

	for (s = 0; s < ARRAY_SIZE(sizes); s++) {
		for (length = max((size_t)SZ_16M, sizes[s].page); length <= most;
		     length *= 4) {
			for (kind = 0; kind < NR_KINDS; kind++) {
				fd = open_kind(self, kind, length);
				if (fd < -1)
					continue;
				vaddr = map(self, kind, fd, length,
					    self->arena + sizes[s].skew);
				ASSERT_NE(NULL, vaddr);
				off = on = ~0ULL;
				for (i = 0; i < 2; i++) {
					touch(vaddr, length, sizes[s].page);
					begin = now();
					vfio_pci_decode_set(self->device, false);
					off = min(off, now() - begin);
					begin = now();
					vfio_pci_decode_set(self->device, true);
					on = min(on, now() - begin);
				}
				perf(off, "ns", "zap.%s.%s/%zu", sizes[s].name,
				     kind_name[kind], length);
				perf(on, "ns", "unzap.%s.%s/%zu", sizes[s].name,
				     kind_name[kind], length);
				if (kind == EXPORTED) {
					touch(vaddr, length, sizes[s].page);
					begin = now();
					if (!__vfio_pci_dma_buf_revoke(self->device, fd))
						perf(now() - begin, "ns",
						     "revoke.%s/%zu",
						     sizes[s].name, length);
				}
				unmap(vaddr, length);
				close_kind(fd);
			}
		}
	}
}

/* What many.* is about. */
enum many { MAPPINGS, BUFFERS, MAPPED_BUFFERS, NR_MANY };

static const char * const many_name[] = { "mappings", "buffers", "mapped_buffers" };

struct one {
	int fd;
	u8 *vaddr;
};

/* Return: false if the kernel cannot, or not so many. */
static bool one_make(FIXTURE_DATA(bar_perf) *self, enum many many, struct one *one)
{
	*one = (struct one){ .fd = -1 };

	if (many != MAPPINGS) {
		one->fd = __vfio_pci_dma_buf_export(self->device, self->bar, 0,
						    page_size);
		if (one->fd < 0)
			return false;
	}
	if (many == BUFFERS)
		return true;

	one->vaddr = map(self, many == MAPPINGS ? DEVICE_FD : EXPORTED, one->fd,
			 page_size, NULL);
	if (!one->vaddr)
		close_kind(one->fd);

	return one->vaddr;
}

static void one_unmake(struct one *one)
{
	if (one->vaddr)
		munmap(one->vaddr, page_size);
	close_kind(one->fd);
}

static void touch_all(struct one *ones, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		if (ones[i].vaddr)
			touch(ones[i].vaddr, page_size, page_size);
}

static void many_events(FIXTURE_DATA(bar_perf) *self, enum many many, struct one *ones,
			int nr)
{
	u64 begin, off = ~0ULL, on = ~0ULL, fault = ~0ULL, revoke = ~0ULL;
	struct one one;
	int i;

	for (i = 0; i < 3; i++) {
		touch_all(ones, nr);
		begin = now();
		vfio_pci_decode_set(self->device, false);
		off = min(off, now() - begin);
		begin = now();
		vfio_pci_decode_set(self->device, true);
		on = min(on, now() - begin);
	}
	perf(off, "ns", "many.%s.off/%d", many_name[many], nr);
	perf(on, "ns", "many.%s.on/%d", many_name[many], nr);
	touch_all(ones, nr);

	/* One more, which the others should be none of the business of. */
	for (i = 0; i < ROUNDS; i++) {
		if (!one_make(self, MAPPED_BUFFERS, &one))
			return;
		begin = now();
		touch(one.vaddr, page_size, page_size);
		fault = min(fault, now() - begin);
		begin = now();
		if (!__vfio_pci_dma_buf_revoke(self->device, one.fd))
			revoke = min(revoke, now() - begin);
		one_unmake(&one);
	}
	perf(fault, "ns", "many.%s.fault/%d", many_name[many], nr);
	if (revoke != ~0ULL)
		perf(revoke, "ns", "many.%s.revoke/%d", many_name[many], nr);
}

TEST_F(bar_perf, many)
{
	int most = full ? 10000 : 100, nr = 0, want;
	struct one *ones = calloc_assert(most, sizeof(*ones));
	enum many many;

	for (many = 0; many < NR_MANY; many++) {
		for (want = 1; want <= most; want *= 10) {
			while (nr < want && one_make(self, many, &ones[nr]))
				nr++;
			if (nr < want)
				break;
			many_events(self, many, ones, nr);
		}
		while (nr)
			one_unmake(&ones[--nr]);
	}
	free(ones);
}

static u64 kernel_memory(void)
{
	char line[128];
	u64 sum = 0, kib;
	FILE *file;

	file = fopen("/proc/meminfo", "re");
	VFIO_ASSERT_NOT_NULL(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Slab: %llu kB", (unsigned long long *)&kib) == 1 ||
		    sscanf(line, "Percpu: %llu kB", (unsigned long long *)&kib) == 1 ||
		    sscanf(line, "VmallocUsed: %llu kB", (unsigned long long *)&kib) == 1)
			sum += kib * SZ_1K;
	fclose(file);

	return sum;
}

TEST_F(bar_perf, memory)
{
	int most = full ? 10000 : 1000, nr;
	struct one *ones = calloc_assert(most, sizeof(*ones));
	enum many many;
	u64 before;

	/* What is allocated on first use is not for each. */
	for (nr = 0; nr < most; nr++)
		ones[nr].fd = -1;
	for (many = 0; many < NR_MANY; many++) {
		if (!one_make(self, many, &ones[0]))
			continue;
		before = kernel_memory();
		for (nr = 1; nr < most; nr++)
			if (!one_make(self, many, &ones[nr]))
				break;
		perf((kernel_memory() - before) / nr, "bytes", "memory.%s",
		     many_name[many]);
		while (nr)
			one_unmake(&ones[--nr]);
	}
	free(ones);
}

/* Who faults meets the others at the barrier before and after. */
struct faulter {
	FIXTURE_DATA(bar_perf) *self;
	pthread_barrier_t *barrier;
	enum kind kind;
	int fd;
	u8 *vaddr;		/* NULL: to be mapped */
	u8 *place;
	size_t length;
};

static void *faulter(void *arg)
{
	struct faulter *faulter = arg;
	bool own = !faulter->vaddr;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		if (own)
			faulter->vaddr = map(faulter->self, faulter->kind,
					     faulter->fd, faulter->length,
					     faulter->place);
		pthread_barrier_wait(faulter->barrier);
		touch(faulter->vaddr, faulter->length, page_size);
		pthread_barrier_wait(faulter->barrier);
		/* A mapping that all of them share is made anew in between. */
		pthread_barrier_wait(faulter->barrier);
		if (own)
			unmap(faulter->vaddr, faulter->length);
	}

	return NULL;
}

enum sharing { SAME_MAPPING, OTHER_MAPPINGS, OTHER_BUFFERS, PROCESSES, NR_SHARING };

static const char * const sharing_name[] = {
	"same_mapping", "other_mappings", "other_buffers", "processes",
};

static void run_faulters(FIXTURE_DATA(bar_perf) *self, enum kind kind,
			 enum sharing sharing, int nr)
{
	size_t length = SZ_16M / 4, stride = 2 * length;
	struct faulter faulters[4] = {};
	pthread_barrierattr_t attr;
	pthread_barrier_t *barrier;
	u64 begin, cost = ~0ULL;
	pthread_t threads[4];
	int i, fd, round;
	pid_t pids[4];
	u8 *vaddr;

	fd = open_kind(self, kind, SZ_16M);
	if (fd < -1 || (kind == DEVICE_FD && sharing == OTHER_BUFFERS))
		return;

	barrier = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(barrier, MAP_FAILED);
	VFIO_ASSERT_EQ(pthread_barrierattr_init(&attr), 0);
	VFIO_ASSERT_EQ(pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED), 0);
	VFIO_ASSERT_EQ(pthread_barrier_init(barrier, &attr, nr + 1), 0);

	vaddr = self->arena + page_size;
	for (i = 0; i < nr; i++) {
		faulters[i] = (struct faulter){
			.self = self, .barrier = barrier, .kind = kind, .fd = fd,
			.place = vaddr + i * (sharing == SAME_MAPPING ? length : stride),
			.length = length,
		};
		if (sharing == SAME_MAPPING)
			faulters[i].vaddr = faulters[i].place;
		if (sharing == OTHER_BUFFERS)
			faulters[i].fd = open_kind(self, kind, SZ_16M);
		if (sharing != PROCESSES) {
			VFIO_ASSERT_EQ(pthread_create(&threads[i], NULL, faulter,
						      &faulters[i]), 0);
			continue;
		}
		pids[i] = fork();
		VFIO_ASSERT_GE(pids[i], 0);
		if (!pids[i]) {
			faulter(&faulters[i]);
			_exit(0);
		}
	}

	for (round = 0; round < ROUNDS; round++) {
		if (sharing == SAME_MAPPING)
			VFIO_ASSERT_EQ(map(self, kind, fd, SZ_16M, vaddr), vaddr);
		pthread_barrier_wait(barrier);
		begin = now();
		pthread_barrier_wait(barrier);
		cost = min(cost, now() - begin);
		if (sharing == SAME_MAPPING)
			unmap(vaddr, SZ_16M);
		pthread_barrier_wait(barrier);
	}

	for (i = 0; i < nr; i++) {
		if (sharing == PROCESSES)
			VFIO_ASSERT_EQ(waitpid(pids[i], NULL, 0), pids[i]);
		else
			VFIO_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
		if (sharing == OTHER_BUFFERS)
			close_kind(faulters[i].fd);
	}
	perf(cost / (nr * (length / page_size)), "ns", "threads.%s.%s/%d",
	     kind_name[kind], sharing_name[sharing], nr);
	pthread_barrier_destroy(barrier);
	munmap(barrier, page_size);
	close_kind(fd);
}

TEST_F(bar_perf, threads)
{
	enum sharing sharing;
	enum kind kind;
	int nr;

	for (kind = 0; kind < NR_KINDS; kind++)
		for (sharing = 0; sharing < NR_SHARING; sharing++)
			for (nr = 1; nr <= 4; nr *= 2)
				run_faulters(self, kind, sharing, nr);
}

int main(int argc, char *argv[])
{
	const char *how = getenv("BAR_PERF");

	full = how && !strcmp(how, "full");
	page_size = getpagesize();
	pmd_size = page_size * (page_size / 8);
	pud_size = pmd_size * (page_size / 8);
	sizes[0] = (struct size){ "pte", page_size, page_size };
	sizes[1] = (struct size){ "pmd", pmd_size, pmd_size };
	sizes[2] = (struct size){ "pud", pud_size, 0 };
	device_bdf = vfio_selftests_get_bdf(&argc, argv);

	return test_harness_run(argc, argv);
}
