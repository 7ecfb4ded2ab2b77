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
 *   mmap.*, munmap.*      of one page; "first" and "last" when nothing else of
 *                         the BAR is mapped
 *   fault.SIZE.KIND       one fault that maps a page of SIZE, on average
 *   ranges.N              one fault of a page in a buffer of N scattered ranges
 *   whole.KIND.*          of 1 GiB or the whole BAR, where mmap() puts it: number
 *                         of faults to touch every page, alignment of the address
 *   neighbours            faults to touch the ranges of one page each that make
 *                         up a huge page
 *   zap.SIZE.KIND/BYTES   decoding turned off, with so much mapped; "unzap":
 *                         turned on again; "refault": all of it touched then
 *   revoke.SIZE/BYTES     the same, by VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE
 *   many.KIND.EVENT/N     the cost of EVENT when there are N of KIND: mappings of
 *                         the device fd, buffers, buffers that are mapped
 *   memory.KIND           that the kernel needs for each, without page tables
 *   threads.KIND.HOW/N    one fault while N threads or processes fault, each on
 *                         other pages, in the same mapping, or in mappings or
 *                         buffers of their own: the time from when the first
 *                         one started until the last one was done, over all
 *                         faults
 *
 * SIZE is pte, pmd or pud; KIND is device_fd or exported, what cannot be had is
 * left out. With BAR_PERF=full in the environment larger BARs and numbers are
 * tried, which takes a minute where a second is enough otherwise.
 *
 * Needs a BAR of 32 MiB, which QEMU's ivshmem-plain has; one of several GiB shows
 * the most.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <linux/align.h>
#include <linux/compiler.h>
#include <linux/log2.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

/* Of which the best is taken: an interrupt may have hit the others. */
#define ROUNDS 5

/* For a test, in a VM whose kernel checks everything */
#define LIMIT_SECONDS 300

#define MOST 10000
#define MAX_FDS (2 * MOST)

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

static u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static __printf(3, 4) void
report(u64 value, const char *unit, const char *format, ...)
{
	va_list ap;

	printf("# perf: ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf(" %llu %s\n", (unsigned long long)value, unit);
	fflush(stdout);
}

struct state {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	u64 size;
	u8 *arena;		/* address space, aligned to the largest page */
};

FIXTURE(bar_perf) {
	struct state state;
};

FIXTURE_SETUP(bar_perf)
{
	struct state *state = &self->state;
	struct rlimit limit;
	u8 *reserved;

	state->iommu = iommu_init(MODE_IOMMUFD);
	state->device = vfio_pci_device_init(device_bdf, state->iommu);
	vfio_pci_bars_unmap(state->device);
	state->bar = vfio_pci_bar_find(state->device, 16 * pmd_size, false);
	if (state->bar < 0)
		SKIP(return, "%s has no BAR of %zu bytes\n", device_bdf,
		     16 * pmd_size);
	state->size = state->device->bars[state->bar].info.size;

	/* Many buffers are many fds. With fewer there are fewer figures. */
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_max = max_t(rlim_t, limit.rlim_max, MAX_FDS);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit)) {
		ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
		limit.rlim_cur = limit.rlim_max;
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	}

	reserved = mmap(NULL, state->size + 2 * pud_size, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, reserved);
	state->arena = (u8 *)ALIGN((unsigned long)reserved, pud_size);
}

FIXTURE_TEARDOWN(bar_perf)
{
	struct state *state = &self->state;

	if (state->device)
		vfio_pci_device_cleanup(state->device);
	iommu_cleanup(state->iommu);
}

/* Return: NULL if the kernel cannot. */
static u8 *map(struct state *state, enum kind kind, int fd, size_t length,
	       u8 *place)
{
	u64 offset = kind == DEVICE_FD ?
		     vfio_pci_bar_pos(state->device, state->bar, 0) : 0;
	u8 *vaddr;

	vaddr = mmap(place, length, PROT_READ | PROT_WRITE,
		     MAP_SHARED | (place ? MAP_FIXED : 0),
		     kind == DEVICE_FD ? state->device->fd : fd, offset);

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
		READ_ONCE(*(u32 *)(vaddr + at));
}

/* Number of faults to touch every page. */
static long touch_faults(u8 *vaddr, size_t length)
{
	static u8 warm[4];
	long before;

	/* Whatever the steps below touch is there after this. */
	before = thread_faults();
	touch(warm, sizeof(warm), sizeof(warm));
	before = thread_faults();
	touch(vaddr, length, page_size);

	return thread_faults() - before;
}

/* Return: -1 for the device fd; -2 if there is no such thing. */
static int open_kind(struct state *state, enum kind kind, size_t length)
{
	int fd;
	u8 *vaddr;

	if (kind == DEVICE_FD)
		return -1;

	fd = __vfio_pci_dma_buf_export(state->device, state->bar, 0, length);
	if (fd < 0)
		return -2;
	vaddr = map(state, kind, fd, page_size, NULL);
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
	struct state *state = &self->state;
	struct vfio_pci_device *device;
	u64 begin, opened = ~0ULL, closed = ~0ULL;
	int i;

	vfio_pci_device_cleanup(state->device);
	state->device = NULL;
	device = vfio_pci_device_alloc(device_bdf, state->iommu);
	for (i = 0; i < ROUNDS; i++) {
		vfio_pci_cdev_open(device, device_bdf);
		begin = now();
		ASSERT_EQ(0, __vfio_device_bind_iommufd(device->fd,
							state->iommu->iommufd,
							NULL));
		opened = min(opened, now() - begin);
		begin = now();
		ASSERT_EQ(0, close(device->fd));
		closed = min(closed, now() - begin);
	}
	report(opened, "ns", "open");
	report(closed, "ns", "close");
	vfio_pci_device_free(device);
}

TEST_F(bar_perf, export)
{
	struct state *state = &self->state;
	u64 begin, cost = ~0ULL;
	int i, fd;

	for (i = 0; i < 4 * ROUNDS; i++) {
		begin = now();
		fd = __vfio_pci_dma_buf_export(state->device, state->bar, 0,
					       page_size);
		cost = min(cost, now() - begin);
		if (fd < 0)
			SKIP(return, "No export: %s\n", strerror(-fd));
		ASSERT_EQ(0, close(fd));
	}
	report(cost, "ns", "export");
}

TEST_F(bar_perf, mmap)
{
	struct state *state = &self->state;
	u64 begin, first, more, unmapped, last;
	u8 *one, *other;
	enum kind kind;
	int i, fd;

	for (kind = 0; kind < NR_KINDS; kind++) {
		fd = open_kind(state, kind, page_size);
		if (fd < -1)
			continue;

		first = ~0ULL;
		more = ~0ULL;
		unmapped = ~0ULL;
		last = ~0ULL;
		for (i = 0; i < 4 * ROUNDS; i++) {
			begin = now();
			one = map(state, kind, fd, page_size, NULL);
			first = min(first, now() - begin);
			begin = now();
			other = map(state, kind, fd, page_size, NULL);
			more = min(more, now() - begin);
			touch(other, page_size, page_size);
			touch(one, page_size, page_size);
			begin = now();
			munmap(other, page_size);
			unmapped = min(unmapped, now() - begin);
			begin = now();
			munmap(one, page_size);
			last = min(last, now() - begin);
		}
		report(first, "ns", "mmap.%s.first", kind_name[kind]);
		report(more, "ns", "mmap.%s", kind_name[kind]);
		report(unmapped, "ns", "munmap.%s", kind_name[kind]);
		report(last, "ns", "munmap.%s.last", kind_name[kind]);
		close_kind(fd);
	}
}

/* So much of the BAR that there are some pages of a size. Return: 0 if not. */
static size_t some(struct state *state, const struct size *size)
{
	size_t length = max_t(size_t, SZ_16M, 2 * size->page);

	if (length > state->size)
		length = size->page;

	return length <= state->size ? length : 0;
}

TEST_F(bar_perf, fault)
{
	struct state *state = &self->state;
	u64 begin, cost;
	size_t length;
	enum kind kind;
	long faults;
	u8 *vaddr;
	int i, s, fd;

	for (s = 0; s < ARRAY_SIZE(sizes); s++) {
		length = some(state, &sizes[s]);
		for (kind = 0; length && kind < NR_KINDS; kind++) {
			fd = open_kind(state, kind, length);
			if (fd < -1)
				continue;
			cost = ~0ULL;
			for (i = 0; i < ROUNDS; i++) {
				vaddr = map(state, kind, fd, length,
					    state->arena + sizes[s].skew);
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
				report(cost / faults, "ns", "fault.%s.%s",
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
	struct state *state = &self->state;
	static const int numbers[] = { 1, 16, 256, 4096 };
	struct vfio_region_dma_range *ranges;
	size_t length = min_t(size_t, state->size / 2, SZ_16M);
	u64 begin, cost;
	int i, n, fd;
	u8 *vaddr;

	ranges = calloc_assert(4096, sizeof(*ranges));
	for (n = 0; n < ARRAY_SIZE(numbers); n++) {
		if (length / numbers[n] < page_size)
			continue;
		scatter(ranges, numbers[n], length / numbers[n]);
		fd = __vfio_pci_dma_buf_export_ranges(state->device, state->bar,
						      O_RDWR | O_CLOEXEC, ranges,
						      numbers[n]);
		if (fd < 0)
			continue;
		cost = ~0ULL;
		for (i = 0; i < ROUNDS; i++) {
			vaddr = map(state, EXPORTED, fd, length,
				    state->arena + page_size);
			if (!vaddr)
				break;
			begin = now();
			touch(vaddr, length, page_size);
			cost = min(cost, now() - begin);
			unmap(vaddr, length);
		}
		if (cost != ~0ULL)
			report(cost / (length / page_size), "ns", "ranges.%d",
			       numbers[n]);
		close(fd);
	}
	free(ranges);
}

TEST_F(bar_perf, whole)
{
	struct state *state = &self->state;
	size_t length = min(state->size, full ? (u64)SZ_1G : (u64)SZ_32M);
	enum kind kind;
	u8 *vaddr;
	int fd;

	/*
	 * The arena and what lies next to it are aligned. Have something there
	 * that is not, and too large to be put anywhere else.
	 */
	ASSERT_NE(MAP_FAILED, mmap(NULL, length + page_size, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				   -1, 0));

	for (kind = 0; kind < NR_KINDS; kind++) {
		fd = open_kind(state, kind, length);
		if (fd < -1)
			continue;
		vaddr = map(state, kind, fd, length, NULL);
		ASSERT_NE(NULL, vaddr);
		report(touch_faults(vaddr, length), "faults", "whole.%s.faults", kind_name[kind]);
		report(1ULL << __builtin_ctzl((unsigned long)vaddr), "bytes",
		       "whole.%s.alignment", kind_name[kind]);
		munmap(vaddr, length);
		close_kind(fd);
	}
}

TEST_F(bar_perf, neighbours)
{
	struct state *state = &self->state;
	struct vfio_region_dma_range *ranges;
	int nr = pmd_size / page_size, i, fd;
	u8 *vaddr;

	ranges = calloc_assert(nr, sizeof(*ranges));
	for (i = 0; i < nr; i++) {
		ranges[i].offset = i * page_size;
		ranges[i].length = page_size;
	}
	fd = __vfio_pci_dma_buf_export_ranges(state->device, state->bar,
					      O_RDWR | O_CLOEXEC, ranges, nr);
	free(ranges);
	if (fd < 0)
		SKIP(return, "No export: %s\n", strerror(-fd));
	vaddr = map(state, EXPORTED, fd, pmd_size, state->arena);
	if (vaddr)
		report(touch_faults(vaddr, pmd_size), "faults", "neighbours");
	ASSERT_EQ(0, close(fd));
}

/* Turn decoding off and on again; what that takes, if it is less. */
static void time_decode(struct state *state, u64 *off, u64 *on)
{
	u64 begin = now();

	vfio_pci_decode_set(state->device, false);
	*off = min(*off, now() - begin);
	begin = now();
	vfio_pci_decode_set(state->device, true);
	*on = min(*on, now() - begin);
}

static void zap(struct __test_metadata *_metadata, struct state *state,
		const struct size *size, enum kind kind, size_t length)
{
	u64 begin, cost, off = ~0ULL, on = ~0ULL, refault = ~0ULL;
	int i, fd, ret;
	u8 *vaddr;

	fd = open_kind(state, kind, length);
	if (fd < -1)
		return;
	vaddr = map(state, kind, fd, length, state->arena + size->skew);
	ASSERT_NE(NULL, vaddr);

	touch(vaddr, length, size->page);
	for (i = 0; i < 2; i++) {
		time_decode(state, &off, &on);
		begin = now();
		touch(vaddr, length, size->page);
		refault = min(refault, now() - begin);
	}
	report(off, "ns", "zap.%s.%s/%zu", size->name, kind_name[kind], length);
	report(on, "ns", "unzap.%s.%s/%zu", size->name, kind_name[kind], length);
	report(refault, "ns", "refault.%s.%s/%zu", size->name, kind_name[kind],
	       length);
	if (kind == EXPORTED) {
		begin = now();
		ret = __vfio_pci_dma_buf_revoke(state->device, fd);
		cost = now() - begin;
		if (!ret)
			report(cost, "ns", "revoke.%s/%zu", size->name, length);
	}
	unmap(vaddr, length);
	close_kind(fd);
}

TEST_F_TIMEOUT(bar_perf, zap, LIMIT_SECONDS)
{
	struct state *state = &self->state;
	const struct size *size;
	u64 length, most, step;
	enum kind kind;

	for (size = sizes; size < sizes + ARRAY_SIZE(sizes); size++) {
		/* Of the largest pages, a BAR of any size has few. */
		most = !full ? SZ_16M : size->page == pud_size ? state->size : SZ_1G;
		most = min(most, state->size);
		step = size->page == pud_size ? 2 : 4;
		for (length = max_t(u64, SZ_16M, size->page); length <= most;
		     length *= step) {
			for (kind = 0; kind < NR_KINDS; kind++)
				zap(_metadata, state, size, kind, length);
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
static bool one_make(struct state *state, enum many many, struct one *one)
{
	*one = (struct one){ .fd = -1 };

	if (many != MAPPINGS) {
		one->fd = __vfio_pci_dma_buf_export(state->device, state->bar, 0,
						    page_size);
		if (one->fd < 0)
			return false;
	}
	if (many == BUFFERS)
		return true;

	one->vaddr = map(state, many == MAPPINGS ? DEVICE_FD : EXPORTED, one->fd,
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

static void many_events(struct state *state, enum many many, struct one *ones,
			int nr)
{
	u64 begin, off = ~0ULL, on = ~0ULL, fault = ~0ULL, revoke = ~0ULL;
	struct one one;
	int i;

	for (i = 0; i < 3; i++) {
		touch_all(ones, nr);
		time_decode(state, &off, &on);
	}
	report(off, "ns", "many.%s.off/%d", many_name[many], nr);
	report(on, "ns", "many.%s.on/%d", many_name[many], nr);
	touch_all(ones, nr);

	/* One more, which the others should be none of the business of. */
	for (i = 0; i < ROUNDS; i++) {
		if (!one_make(state, MAPPED_BUFFERS, &one))
			return;
		begin = now();
		touch(one.vaddr, page_size, page_size);
		fault = min(fault, now() - begin);
		begin = now();
		if (!__vfio_pci_dma_buf_revoke(state->device, one.fd))
			revoke = min(revoke, now() - begin);
		one_unmake(&one);
	}
	report(fault, "ns", "many.%s.fault/%d", many_name[many], nr);
	if (revoke != ~0ULL)
		report(revoke, "ns", "many.%s.revoke/%d", many_name[many], nr);
}

TEST_F_TIMEOUT(bar_perf, many, LIMIT_SECONDS)
{
	struct state *state = &self->state;
	int most = full ? MOST : 100, nr = 0, want;
	struct one *ones = calloc_assert(most, sizeof(*ones));
	enum many many;

	for (many = 0; many < NR_MANY; many++) {
		for (want = 1; want <= most; want *= 10) {
			while (nr < want && one_make(state, many, &ones[nr]))
				nr++;
			if (nr < want)
				break;
			many_events(state, many, ones, nr);
		}
		while (nr)
			one_unmake(&ones[--nr]);
	}
	free(ones);
}

static u64 kernel_memory(int meminfo)
{
	static const char * const wanted[] = { "Slab:", "Percpu:", "VmallocUsed:" };
	char text[4096], *line;
	u64 sum = 0;
	ssize_t len;
	int i;

	len = pread(meminfo, text, sizeof(text) - 1, 0);
	VFIO_ASSERT_GT(len, 0);
	text[len] = '\0';
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		line = strstr(text, wanted[i]);
		if (line)
			sum += strtoull(line + strlen(wanted[i]), NULL, 10) * SZ_1K;
	}

	return sum;
}

TEST_F_TIMEOUT(bar_perf, memory, LIMIT_SECONDS)
{
	struct state *state = &self->state;
	int most = full ? MOST : 1000, nr;
	struct one *ones = calloc_assert(most, sizeof(*ones));
	enum many many;
	u64 before;
	int meminfo;
	s64 grown;

	/* Later there may be no fd left. */
	meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, meminfo);
	for (many = 0; many < NR_MANY; many++) {
		/* What is allocated on first use is not for each. */
		if (!one_make(state, many, &ones[0]))
			continue;
		before = kernel_memory(meminfo);
		for (nr = 1; nr < most; nr++)
			if (!one_make(state, many, &ones[nr]))
				break;
		/* Others may have freed more meanwhile; the first is in "before". */
		grown = kernel_memory(meminfo) - before;
		if (nr > 1 && grown > 0)
			report(grown / (nr - 1), "bytes", "memory.%s", many_name[many]);
		while (nr)
			one_unmake(&ones[--nr]);
	}
	ASSERT_EQ(0, close(meminfo));
	free(ones);
}

#define MAX_FAULTERS 4

/* Starts when the others do, and is not gone before they have finished. */
struct faulter {
	struct state *state;
	pthread_barrier_t *barrier;
	enum kind kind;
	int fd;
	u8 *vaddr;		/* NULL: to be mapped at @place */
	u8 *place;
	size_t length;
	u64 start;
	u64 end;
};

static void *faulter(void *arg)
{
	struct faulter *faulter = arg;
	static u8 warm[4];
	u64 start, end;
	u8 *vaddr;

	vaddr = faulter->vaddr ?: map(faulter->state, faulter->kind, faulter->fd,
				      faulter->length, faulter->place);
	VFIO_ASSERT_NOT_NULL(vaddr);

	/* A process has to fault in even what it executes. */
	touch(warm, sizeof(warm), sizeof(warm));
	now();
	pthread_barrier_wait(faulter->barrier);
	start = now();
	touch(vaddr, faulter->length, page_size);
	end = now();
	pthread_barrier_wait(faulter->barrier);

	faulter->start = start;
	faulter->end = end;

	return NULL;
}

static const struct sharing {
	const char *name;
	bool processes;
	bool same_mapping;
	bool other_buffers;
} sharings[] = {
	{ "same_mapping", .same_mapping = true },
	{ "other_mappings" },
	{ "other_buffers", .other_buffers = true },
	{ "processes", .processes = true },
	{ "processes_same_mapping", .processes = true, .same_mapping = true },
	{ "processes_other_buffers", .processes = true, .other_buffers = true },
};

/* From when the first one started until the last one was done. */
static u64 run_faulters(struct faulter *faulters, int nr, bool processes)
{
	u64 start = ~0ULL, end = 0;
	pthread_t threads[MAX_FAULTERS];
	pid_t pids[MAX_FAULTERS];
	int i, status;

	for (i = 0; i < nr; i++) {
		if (!processes) {
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

	for (i = 0; i < nr; i++) {
		if (processes) {
			VFIO_ASSERT_EQ(waitpid(pids[i], &status, 0), pids[i]);
			VFIO_ASSERT_EQ(status, 0);
		} else {
			VFIO_ASSERT_EQ(pthread_join(threads[i], NULL), 0);
		}
		start = min(start, faulters[i].start);
		end = max(end, faulters[i].end);
	}

	return end - start;
}

static void share(struct state *state, enum kind kind,
		  const struct sharing *sharing, int nr)
{
	size_t length = SZ_16M / MAX_FAULTERS, stride = 2 * length;
	u8 *vaddr = state->arena + page_size;
	pthread_barrierattr_t attr;
	struct shared {
		pthread_barrier_t barrier;
		struct faulter faulters[MAX_FAULTERS];
	} *shared;
	u64 cost = ~0ULL;
	int i, fd, round;

	fd = open_kind(state, kind, SZ_16M);
	if (fd < -1 || (kind == DEVICE_FD && sharing->other_buffers))
		return;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(shared, MAP_FAILED);
	VFIO_ASSERT_EQ(pthread_barrierattr_init(&attr), 0);
	VFIO_ASSERT_EQ(pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED), 0);
	VFIO_ASSERT_EQ(pthread_barrier_init(&shared->barrier, &attr, nr), 0);

	for (i = 0; i < nr; i++) {
		struct faulter *faulter = &shared->faulters[i];

		faulter->state = state;
		faulter->barrier = &shared->barrier;
		faulter->kind = kind;
		faulter->fd = sharing->other_buffers ?
			      open_kind(state, kind, SZ_16M) : fd;
		faulter->place = vaddr + i * (sharing->same_mapping ? length : stride);
		faulter->vaddr = sharing->same_mapping ? faulter->place : NULL;
		faulter->length = length;
	}

	for (round = 0; round < ROUNDS; round++) {
		if (sharing->same_mapping)
			VFIO_ASSERT_EQ(map(state, kind, fd, SZ_16M, vaddr), vaddr);
		cost = min(cost, run_faulters(shared->faulters, nr,
					      sharing->processes));
		/* What threads have mapped, too */
		unmap(vaddr, MAX_FAULTERS * stride);
	}
	report(cost / (nr * (length / page_size)), "ns", "threads.%s.%s/%d",
	       kind_name[kind], sharing->name, nr);

	for (i = 0; i < nr && sharing->other_buffers; i++)
		close_kind(shared->faulters[i].fd);
	pthread_barrier_destroy(&shared->barrier);
	munmap(shared, sizeof(*shared));
	close_kind(fd);
}

TEST_F_TIMEOUT(bar_perf, threads, LIMIT_SECONDS)
{
	struct state *state = &self->state;
	enum kind kind;
	int i, nr;

	for (kind = 0; kind < NR_KINDS; kind++)
		for (i = 0; i < ARRAY_SIZE(sharings); i++)
			for (nr = 1; nr <= MAX_FAULTERS; nr *= 2)
				share(state, kind, &sharings[i], nr);
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
