// SPDX-License-Identifier: GPL-2.0-only
/*
 * The BARs of a device are set up when it is opened
 *
 * Proves that the first accesses to BARs, by whoever and in whatever way, all
 * succeed when they are made at once; that a BAR which cannot be had fails the
 * accesses to it with its own error, but neither the open nor the accesses to
 * other BARs, and works when the device is opened again and nothing is in the
 * way any more; that nothing is left behind in /proc/iomem and
 * /proc/vmallocinfo by any number of opens and of opens that fail, which is
 * thousands, hundreds where each resets the device, or BAR_OPENS in the
 * environment. And it tells what an open costs.
 *
 * What keeps a BAR from being set up, and what widens the window in which first
 * accesses could disturb each other, is the module vfio_bar_selftest. Without
 * it, all that remains of this is luck.
 *
 * No case triggers anything in the device: what is read is its last register,
 * writes come from a buffer that cannot be read, which is not found out before
 * the BAR has to be there, and the ioeventfds are never signalled. Any device
 * with a BAR will do. Nobody else may use the device, nor what is next to it in
 * /proc/iomem, while the test runs.
 *
 * Specification: 2.1, 2.2, 2.3, 2.4, 2.6.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <linux/limits.h>
#include <linux/time64.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define MODULE_DIR "/sys/kernel/debug/vfio_bar_selftest/"

#define NR_THREADS 4
#define NR_PROCESSES 4
#define NR_WORKERS (NR_THREADS + NR_PROCESSES)

enum access { READ, WRITE, MMAP, IOEVENTFD, NR_ACCESSES };

static const char *const access_names[] = {
	[READ] = "read",
	[WRITE] = "write",
	[MMAP] = "mmap",
	[IOEVENTFD] = "ioeventfd",
};

static const char *device_bdf;
static size_t page_size;
static void *no_access;		/* a page of nothing */
static struct iommu *iommu;

static int module_open(const char *name)
{
	char path[PATH_MAX];

	snprintf_assert(path, sizeof(path), MODULE_DIR "%s", name);
	return open(path, O_WRONLY | O_CLOEXEC);
}

/* Return: 0 or -errno, which is -EOPNOTSUPP in a kernel without kprobes. */
static int module_write(int fd, const char *bdf, int bar)
{
	char text[64];

	snprintf_assert(text, sizeof(text), "%s %d", bdf, bar);
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static void module_clear(int fd)
{
	VFIO_ASSERT_EQ(write(fd, "\n", 1), 1);
}

/* How often each BAR was requested since "race" was written. */
static void module_requests(int *requests)
{
	FILE *file = fopen(MODULE_DIR "requests", "re");
	int bar, ret;

	VFIO_ASSERT_NOT_NULL(file);
	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		ret = fscanf(file, "%d", &requests[bar]);
		VFIO_ASSERT_EQ(ret, 1);
	}
	fclose(file);
}

static void region_info(struct vfio_pci_device *device, int index,
			struct vfio_region_info *info)
{
	info->argsz = sizeof(*info);
	info->index = index;
	ioctl_assert(device->fd, VFIO_DEVICE_GET_REGION_INFO, info);
}

/*
 * Complete @device, whose fd was opened, and touch no BAR, which
 * vfio_pci_device_init() does. In @device->bars and @device->config_space there
 * is no more than what VFIO_DEVICE_GET_REGION_INFO says.
 *
 * Return: 0 or -errno
 */
static int device_bind(struct vfio_pci_device *device)
{
	int ret, bar;

	ret = __vfio_device_bind_iommufd(device->fd, iommu->iommufd, NULL);
	if (ret)
		return ret;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		region_info(device, bar, &device->bars[bar].info);
	region_info(device, VFIO_PCI_CONFIG_REGION_INDEX, &device->config_space);

	return 0;
}

/*
 * Let an open of the device fail when all else is done: what remains is to write
 * the ID of the device to where it cannot be written.
 *
 * Return: 0 or -errno
 */
static int device_bind_fails(struct vfio_pci_device *device)
{
	struct vfio_device_bind_iommufd *bind;
	int ret;

	bind = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(bind, MAP_FAILED);
	bind->argsz = sizeof(*bind);
	bind->iommufd = iommu->iommufd;
	VFIO_ASSERT_EQ(mprotect(bind, page_size, PROT_READ), 0);

	ret = ioctl(device->fd, VFIO_DEVICE_BIND_IOMMUFD, bind) ? -errno : 0;
	munmap(bind, page_size);

	return ret;
}

static struct vfio_pci_device *device_alloc(void)
{
	struct vfio_pci_device *device;

	device = vfio_pci_device_alloc(device_bdf, iommu);
	vfio_pci_cdev_open(device, device_bdf);

	return device;
}

static void device_close(struct vfio_pci_device *device)
{
	VFIO_ASSERT_EQ(close(device->fd), 0);
	vfio_pci_device_free(device);
}

/* Return: NULL and an errno if the device cannot be opened. */
static struct vfio_pci_device *__device_open(void)
{
	struct vfio_pci_device *device = device_alloc();
	int ret;

	ret = device_bind(device);
	if (ret) {
		device_close(device);
		errno = -ret;
		return NULL;
	}

	return device;
}

static struct vfio_pci_device *device_open(void)
{
	struct vfio_pci_device *device = __device_open();

	VFIO_ASSERT_NOT_NULL(device, "Cannot open %s\n", device_bdf);
	return device;
}

/* Add an ioeventfd that has @data, and remove it again. */
static int ioeventfd_at(struct vfio_pci_device *device, u64 offset, u64 data)
{
	int fd, ret;

	fd = eventfd(0, EFD_CLOEXEC);
	VFIO_ASSERT_GE(fd, 0);
	ret = __vfio_pci_ioeventfd(device, offset, data, fd);
	if (!ret)
		VFIO_ASSERT_EQ(__vfio_pci_ioeventfd(device, offset, data, -1), 0);
	close(fd);

	return ret;
}

/*
 * Access @bar. No two accesses by IOEVENTFD that are made at once may have the
 * same @data.
 *
 * Return: 0 or -errno
 */
static int bar_access(struct vfio_pci_device *device, int bar, enum access how,
		      u64 data)
{
	struct vfio_region_info *info = &device->bars[bar].info;
	u64 last = info->offset + info->size - sizeof(u32);
	void *vaddr;
	ssize_t ret;
	u32 val;

	switch (how) {
	case READ:
		ret = pread(device->fd, &val, sizeof(val), last);
		return ret == sizeof(val) ? 0 : -errno;
	case WRITE:
		ret = pwrite(device->fd, no_access, sizeof(val), last);
		/* It is dropped, and the buffer not read, in an MSI-X table */
		return ret == sizeof(val) || errno == EFAULT ? 0 : -errno;
	case MMAP:
		vaddr = mmap(NULL, page_size, PROT_READ, MAP_SHARED, device->fd,
			     info->offset);
		if (vaddr == MAP_FAILED)
			return -errno;
		VFIO_ASSERT_EQ(munmap(vaddr, page_size), 0);
		return 0;
	case IOEVENTFD:
		ret = ioeventfd_at(device, last, data);
		/* Not over an MSI-X table, which comes at one end if at all */
		if (ret == -EINVAL)
			ret = ioeventfd_at(device, info->offset, data);
		return ret;
	default:
		VFIO_FAIL("Unknown access %d\n", how);
	}
}

static bool can_access(struct vfio_pci_device *device, int bar, enum access how)
{
	struct vfio_region_info *info = &device->bars[bar].info;

	return info->size && (how != MMAP || info->flags & VFIO_REGION_INFO_FLAG_MMAP);
}

/* Of an open device: all its BARs that are not empty, in @bars. */
static int find_bars(struct vfio_pci_device *device, int *bars)
{
	int bar, nr_bars = 0;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (device->bars[bar].info.size)
			bars[nr_bars++] = bar;
	}

	return nr_bars;
}

/* How many of them are in memory: it takes no mapping to access the others. */
static int nr_memory_bars(struct vfio_pci_device *device, const int *bars,
			  int nr_bars)
{
	int i, count = 0;

	for (i = 0; i < nr_bars; i++) {
		u32 reg = vfio_pci_config_readl(device, PCI_BASE_ADDRESS_0 +
							bars[i] * sizeof(reg));

		count += !(reg & PCI_BASE_ADDRESS_SPACE_IO);
	}

	return count;
}

/* Make all accesses to all BARs but @except. */
static void access_all(struct __test_metadata *_metadata,
		       struct vfio_pci_device *device, int except)
{
	int bar, how;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		for (how = 0; how < NR_ACCESSES; how++) {
			if (bar == except || !can_access(device, bar, how))
				continue;
			EXPECT_EQ(0, bar_access(device, bar, how, 0)) {
				TH_LOG("%s of BAR %d", access_names[how], bar);
			}
		}
	}
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What the kernel has requested and mapped, as far as it is about devices. */
struct snapshot {
	char **lines;
	size_t nr_lines;
};

static void snapshot_add(struct snapshot *snapshot, const char *line)
{
	size_t size = (snapshot->nr_lines + 1) * sizeof(*snapshot->lines);

	snapshot->lines = realloc(snapshot->lines, size);
	VFIO_ASSERT_NOT_NULL(snapshot->lines);
	snapshot->lines[snapshot->nr_lines] = strdup(line);
	VFIO_ASSERT_NOT_NULL(snapshot->lines[snapshot->nr_lines++]);
}

static void snapshot_read(struct snapshot *snapshot, const char *path, bool vmalloc)
{
	char *line = NULL;
	size_t size = 0;
	FILE *file;

	file = fopen(path, "re");
	VFIO_ASSERT_NOT_NULL(file, "Cannot open %s\n", path);
	while (getline(&line, &size, file) >= 0) {
		if (!vmalloc)
			snapshot_add(snapshot, line);
		/* The same mapping can be at another address next time. */
		else if (strstr(line, " ioremap"))
			snapshot_add(snapshot, strchr(line, ' '));
	}
	free(line);
	fclose(file);
}

static void snapshot_take(struct snapshot *snapshot)
{
	memset(snapshot, 0, sizeof(*snapshot));
	snapshot_read(snapshot, "/proc/iomem", false);
	snapshot_read(snapshot, "/proc/ioports", false);
	snapshot_read(snapshot, "/proc/vmallocinfo", true);
	qsort(snapshot->lines, snapshot->nr_lines, sizeof(*snapshot->lines),
	      compare_lines);
}

static void snapshot_free(struct snapshot *snapshot)
{
	while (snapshot->nr_lines)
		free(snapshot->lines[--snapshot->nr_lines]);
	free(snapshot->lines);
}

static size_t snapshot_count(const struct snapshot *snapshot, const char *text)
{
	size_t i, count = 0;

	for (i = 0; i < snapshot->nr_lines; i++)
		count += !!strstr(snapshot->lines[i], text);

	return count;
}

/* Nothing has come, nothing has gone. */
static void expect_same(struct __test_metadata *_metadata,
			const struct snapshot *before)
{
	struct snapshot after;
	size_t i = 0, j = 0;
	int cmp;

	snapshot_take(&after);
	while (i < before->nr_lines || j < after.nr_lines) {
		if (i == before->nr_lines)
			cmp = 1;
		else if (j == after.nr_lines)
			cmp = -1;
		else
			cmp = strcmp(before->lines[i], after.lines[j]);
		EXPECT_EQ(0, cmp) {
			TH_LOG("%s: %s", cmp < 0 ? "gone" : "left behind",
			       cmp < 0 ? before->lines[i] : after.lines[j]);
		}
		i += cmp <= 0;
		j += cmp >= 0;
	}
	snapshot_free(&after);
}

/* What every fixture begins and ends with. */
static void setup(struct snapshot *before)
{
	iommu = iommu_init(MODE_IOMMUFD);
	snapshot_take(before);
}

static void teardown(struct __test_metadata *_metadata, struct snapshot *before)
{
	expect_same(_metadata, before);
	snapshot_free(before);
	iommu_cleanup(iommu);
}

FIXTURE(bar_setup) {
	struct snapshot before;
	struct vfio_pci_device *device;
	int bars[PCI_STD_NUM_BARS];
	int nr_bars;
};

FIXTURE_SETUP(bar_setup)
{
	setup(&self->before);
	self->device = device_open();
	self->nr_bars = find_bars(self->device, self->bars);
	if (!self->nr_bars)
		SKIP(return, "%s has no BAR\n", device_bdf);
}

FIXTURE_TEARDOWN(bar_setup)
{
	device_close(self->device);
	teardown(_metadata, &self->before);
}

TEST_F(bar_setup, all_accesses)
{
	access_all(_metadata, self->device, -1);
}

/* Nobody is interested in a BAR that is not there. */
TEST_F(bar_setup, empty_bar)
{
	struct vfio_pci_device *device = self->device;
	int bar;
	u32 val;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		u64 offset = device->bars[bar].info.offset;

		if (device->bars[bar].info.size)
			continue;
		EXPECT_EQ(-1, pread(device->fd, &val, sizeof(val), offset));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, pwrite(device->fd, &val, sizeof(val), offset));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(MAP_FAILED, mmap(NULL, page_size, PROT_READ,
					   MAP_SHARED, device->fd, offset));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-EINVAL, ioeventfd_at(device, offset, 0));
	}
}

/*
 * What is no BAR is refused, and does not become an index of one. A kernel that
 * gets this wrong may write to its own memory: go no further then.
 */
TEST_F(bar_setup, ioeventfd_elsewhere)
{
	u64 region = self->device->bars[1].info.offset;
	int index;

	for (index = PCI_STD_NUM_BARS; index < 64; index++) {
		ASSERT_EQ(-EINVAL, ioeventfd_at(self->device, index * region, 0)) {
			TH_LOG("region %d", index);
		}
	}
	for (index = 1; index < 64; index++) {
		ASSERT_EQ(-EINVAL, ioeventfd_at(self->device, -(index * region), 0)) {
			TH_LOG("region %d", -index);
		}
	}
	ASSERT_EQ(-EINVAL, ioeventfd_at(self->device, 1ULL << 63, 0));
	ASSERT_EQ(-EINVAL, ioeventfd_at(self->device, -1ULL, 0));
}

/* The BARs of an open device are taken, whether or not they have been accessed. */
TEST_F(bar_setup, reserved)
{
	int hold, i;

	hold = module_open("hold");
	if (hold < 0)
		SKIP(return, "The module vfio_bar_selftest is not loaded\n");

	for (i = 0; i < self->nr_bars; i++) {
		EXPECT_EQ(-EBUSY, module_write(hold, device_bdf, self->bars[i])) {
			TH_LOG("BAR %d", self->bars[i]);
		}
	}
	close(hold);
}

/* All of a BAR is requested and mapped once, however often it is accessed. */
TEST_F(bar_setup, once)
{
	struct snapshot first, now;
	int i;

	access_all(_metadata, self->device, -1);
	snapshot_take(&first);
	EXPECT_EQ(self->nr_bars, snapshot_count(&first, ": vfio\n") -
				 snapshot_count(&self->before, ": vfio\n"));
	EXPECT_EQ(nr_memory_bars(self->device, self->bars, self->nr_bars),
		  snapshot_count(&first, " ioremap") -
		  snapshot_count(&self->before, " ioremap"));

	for (i = 0; i < 10; i++)
		access_all(_metadata, self->device, -1);
	snapshot_take(&now);
	EXPECT_EQ(first.nr_lines, now.nr_lines);
	snapshot_free(&now);
	snapshot_free(&first);
}

FIXTURE(bar_race) {
	struct snapshot before;
	int module;		/* or -1 */
	int bars[PCI_STD_NUM_BARS];
	int nr_bars;
	struct race *race;
};

FIXTURE_VARIANT(bar_race) {
	bool same;		/* all access the same BAR */
};

FIXTURE_VARIANT_ADD(bar_race, same) {
	.same = true,
};

FIXTURE_VARIANT_ADD(bar_race, different) {
	.same = false,
};

/* In memory that processes share */
struct race {
	pthread_barrier_t barrier;
	struct vfio_pci_device *device;
	struct worker {
		struct race *race;
		int number;
		int bar;
		enum access how;
		int ret;
	} workers[NR_WORKERS];
};

FIXTURE_SETUP(bar_race)
{
	struct vfio_pci_device *device;
	pthread_barrierattr_t attr;

	setup(&self->before);
	self->module = module_open("race");

	device = device_open();
	self->nr_bars = find_bars(device, self->bars);
	device_close(device);
	if (!self->nr_bars)
		SKIP(return, "%s has no BAR\n", device_bdf);

	self->race = mmap(NULL, sizeof(*self->race), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->race);
	ASSERT_EQ(0, pthread_barrierattr_init(&attr));
	ASSERT_EQ(0, pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED));
	ASSERT_EQ(0, pthread_barrier_init(&self->race->barrier, &attr, NR_WORKERS));
}

FIXTURE_TEARDOWN(bar_race)
{
	if (self->module >= 0)
		close(self->module);
	if (self->race) {
		pthread_barrier_destroy(&self->race->barrier);
		munmap(self->race, sizeof(*self->race));
	}
	teardown(_metadata, &self->before);
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct race *race = worker->race;

	pthread_barrier_wait(&race->barrier);
	worker->ret = bar_access(race->device, worker->bar, worker->how,
				 worker->number);

	return NULL;
}

/* Processes first: what is forked has no other threads then. */
static void start_and_wait(struct __test_metadata *_metadata, struct race *race)
{
	pthread_t threads[NR_THREADS];
	pid_t pids[NR_PROCESSES];
	int i, status;

	for (i = 0; i < NR_PROCESSES; i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i]) {
			work(&race->workers[NR_THREADS + i]);
			_exit(0);
		}
	}
	for (i = 0; i < NR_THREADS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, work,
					    &race->workers[i]));

	for (i = 0; i < NR_THREADS; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	for (i = 0; i < NR_PROCESSES; i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		ASSERT_EQ(0, status);
	}
}

/*
 * Let all workers make the first access to a BAR at once, @rounds times. The
 * module, if there is one, keeps the first from going on until there is another.
 */
static void race_rounds(struct __test_metadata *_metadata, struct race *race,
			const int *bars, int nr_bars, bool same, int rounds,
			int module)
{
	int round, i;

	for (round = 0; round < rounds; round++) {
		race->device = device_open();

		for (i = 0; i < NR_WORKERS; i++) {
			struct worker *worker = &race->workers[i];
			int which = same ? round / NR_ACCESSES : i;

			worker->race = race;
			worker->number = i;
			worker->bar = bars[which % nr_bars];
			worker->how = (i + round) % NR_ACCESSES;
			if (!can_access(race->device, worker->bar, worker->how))
				worker->how = READ;
			worker->ret = -EINPROGRESS;
		}

		/* Not while it is being opened */
		if (module >= 0)
			ASSERT_EQ(0, module_write(module, device_bdf, 0));
		start_and_wait(_metadata, race);
		if (module >= 0)
			module_clear(module);

		for (i = 0; i < NR_WORKERS; i++) {
			struct worker *worker = &race->workers[i];

			EXPECT_EQ(0, worker->ret) {
				TH_LOG("round %d: %s of BAR %d by a %s", round,
				       access_names[worker->how], worker->bar,
				       i < NR_THREADS ? "thread" : "process");
			}
		}
		device_close(race->device);
		/* One round says it all. */
		if (!__test_passed(_metadata))
			break;
	}
}

TEST_F_TIMEOUT(bar_race, first_access, 240)
{
	race_rounds(_metadata, self->race, self->bars, self->nr_bars,
		    variant->same, 32, -1);
}

TEST_F_TIMEOUT(bar_race, first_access_widened, 240)
{
	if (self->module < 0)
		SKIP(return, "The module vfio_bar_selftest is not loaded\n");
	if (module_write(self->module, device_bdf, 0) == -EOPNOTSUPP)
		SKIP(return, "The kernel has no kprobes\n");
	module_clear(self->module);

	race_rounds(_metadata, self->race, self->bars, self->nr_bars,
		    variant->same, 4 * NR_ACCESSES, self->module);
}

FIXTURE(bar_soft) {
	struct snapshot before;
	struct vfio_pci_device *device;
	int nr_bars;
	int module;
	int bar;
};

/* What is in the way of one BAR, and the error that this gives. */
FIXTURE_VARIANT(bar_soft) {
	const char *file;
	int error;
};

FIXTURE_VARIANT_ADD(bar_soft, held) {
	.file = "hold",
	.error = -EBUSY,
};

FIXTURE_VARIANT_ADD(bar_soft, not_mapped) {
	.file = "unmap",
	.error = -ENOMEM,
};

FIXTURE_SETUP(bar_soft)
{
	struct vfio_pci_device *device;
	int bars[PCI_STD_NUM_BARS], ret, i;

	setup(&self->before);
	self->module = module_open(variant->file);
	if (self->module < 0)
		SKIP(return, "The module vfio_bar_selftest is not loaded\n");

	/* Preferably one that can be accessed in all ways */
	device = device_open();
	self->nr_bars = find_bars(device, bars);
	for (i = self->nr_bars - 1; i > 0 && !can_access(device, bars[i], MMAP); i--)
		;
	device_close(device);
	if (!self->nr_bars)
		SKIP(return, "%s has no BAR\n", device_bdf);

	self->bar = bars[i];
	ret = module_write(self->module, device_bdf, self->bar);
	if (ret == -EOPNOTSUPP)
		SKIP(return, "The kernel has no kprobes\n");
	ASSERT_EQ(0, ret);
	self->device = device_open();
}

FIXTURE_TEARDOWN(bar_soft)
{
	if (self->device)
		device_close(self->device);
	if (self->module >= 0)
		close(self->module);
	teardown(_metadata, &self->before);
}

static void expect_error(struct __test_metadata *_metadata,
			 struct vfio_pci_device *device, int bar, int error)
{
	int how;

	for (how = 0; how < NR_ACCESSES; how++) {
		if (!can_access(device, bar, how))
			continue;
		EXPECT_EQ(error, bar_access(device, bar, how, 0)) {
			TH_LOG("%s of BAR %d", access_names[how], bar);
		}
	}
}

TEST_F(bar_soft, errors)
{
	int ret, error;

	expect_error(_metadata, self->device, self->bar, variant->error);
	access_all(_metadata, self->device, self->bar);
	/* In this order, too */
	expect_error(_metadata, self->device, self->bar, variant->error);

	/* A kernel that knows no export has another error, for every BAR */
	error = __vfio_device_feature(self->device->fd,
				      VFIO_DEVICE_FEATURE_PROBE |
				      VFIO_DEVICE_FEATURE_GET |
				      VFIO_DEVICE_FEATURE_DMA_BUF, NULL, 0);
	if (!error)
		error = -ENODEV;
	ret = __vfio_pci_dma_buf_export(self->device, self->bar, 0, page_size);
	EXPECT_EQ(error, ret);
}

/* It depends on what was when the device was opened, and on nothing else. */
TEST_F(bar_soft, until_reopened)
{
	module_clear(self->module);
	expect_error(_metadata, self->device, self->bar, variant->error);

	device_close(self->device);
	self->device = device_open();
	access_all(_metadata, self->device, -1);
}

/* VFIO holds all BARs but the one that it has not mapped. */
TEST_F(bar_soft, released)
{
	struct snapshot now;
	int hold;

	access_all(_metadata, self->device, self->bar);
	expect_error(_metadata, self->device, self->bar, variant->error);
	snapshot_take(&now);
	EXPECT_EQ(self->nr_bars - 1, snapshot_count(&now, ": vfio\n") -
				     snapshot_count(&self->before, ": vfio\n"));
	snapshot_free(&now);

	/* So other drivers can have that one. */
	if (variant->error == -EBUSY)
		module_clear(self->module);
	hold = variant->error == -EBUSY ? self->module : module_open("hold");
	ASSERT_LE(0, hold);
	EXPECT_EQ(0, module_write(hold, device_bdf, self->bar));
	if (hold != self->module)
		close(hold);
}

FIXTURE(bar_leak) {
	struct snapshot before;
	int hold, unmap, busy;
};

FIXTURE_SETUP(bar_leak)
{
	setup(&self->before);
	self->hold = module_open("hold");
	self->unmap = module_open("unmap");
	self->busy = module_open("busy");
	if (self->unmap < 0)
		return;
	if (module_write(self->unmap, device_bdf, 0) == -EOPNOTSUPP) {
		close(self->unmap);
		self->unmap = -1;
		return;
	}
	module_clear(self->unmap);
}

FIXTURE_TEARDOWN(bar_leak)
{
	/* Or nothing, if there is no module */
	close(self->hold);
	close(self->unmap);
	close(self->busy);
	teardown(_metadata, &self->before);
}

static int nr_opens(bool reset)
{
	const char *wanted = getenv("BAR_OPENS");

	if (wanted)
		return atoi(wanted);

	/* To be reset by each open and each close takes its time. */
	return reset ? 200 : 2000;
}

/*
 * An open that fails when the BARs have been set up, which the module tells,
 * gives them back at once, and not when the fd is closed or opened again.
 */
TEST_F(bar_leak, failed_open)
{
	int requests[PCI_STD_NUM_BARS], race, bar;
	struct vfio_pci_device *device;

	race = module_open("race");
	if (race < 0)
		SKIP(return, "The module vfio_bar_selftest is not loaded\n");
	if (module_write(race, device_bdf, 0) == -EOPNOTSUPP) {
		close(race);
		SKIP(return, "The kernel has no kprobes\n");
	}

	device = device_alloc();
	EXPECT_EQ(-EFAULT, device_bind_fails(device));
	module_requests(requests);
	close(race);
	expect_same(_metadata, &self->before);

	ASSERT_EQ(0, device_bind(device));
	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		EXPECT_EQ(!!device->bars[bar].info.size, requests[bar]) {
			TH_LOG("BAR %d", bar);
		}
	}
	access_all(_metadata, device, -1);
	device_close(device);
}

/*
 * Opens that get everything and opens that do not get one of the BARs, with and
 * without accesses; opens that fail when the BARs have been set up, and before,
 * where the device can be reset.
 */
TEST_F_TIMEOUT(bar_leak, opens, 600)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int bars[PCI_STD_NUM_BARS], nr_bars, nr, i;
	int refused = 0, soft = 0, busy = 0, failed = 0, late = 0;
	struct vfio_pci_device *device;
	bool module = self->hold >= 0;
	bool reset;

	device = device_open();
	nr_bars = find_bars(device, bars);
	ioctl_assert(device->fd, VFIO_DEVICE_GET_INFO, &info);
	reset = info.flags & VFIO_DEVICE_FLAGS_RESET;
	nr = nr_opens(reset);
	device_close(device);
	if (!nr_bars)
		SKIP(return, "%s has no BAR\n", device_bdf);
	if (!module)
		TH_LOG("The module vfio_bar_selftest is not loaded: all opens get everything");

	for (i = 0; i < nr; i++) {
		int bar = bars[i / 8 % nr_bars], with = -1;

		/* Probes take a while to be set, so not as often */
		if (module && i % 4 == 1)
			with = self->hold;
		else if (module && i % 64 == 2 && self->unmap >= 0)
			with = self->unmap;
		else if (module && i % 8 == 3)
			with = self->busy;
		if (with >= 0)
			ASSERT_EQ(0, module_write(with, device_bdf, bar));

		if (!reset || i % 4 == 0) {
			device = device_alloc();
			ASSERT_EQ(-EFAULT, device_bind_fails(device));
			device_close(device);
			late++;
		}

		device = __device_open();
		if (with >= 0 && with == self->busy) {
			if (!device)
				ASSERT_EQ(EAGAIN, errno);
			busy++;
			failed += !device;
		} else {
			ASSERT_NE(NULL, device);
		}
		if (with >= 0 && with != self->busy) {
			refused++;
			soft += !!bar_access(device, bar, READ, 0);
		}
		if (device && i & 16)
			access_all(_metadata, device, with >= 0 ? bar : -1);
		if (device)
			device_close(device);
		if (with >= 0)
			module_clear(with);
	}

	TH_LOG("%d opens, %d of them without a BAR, %d failed; %d more failed late",
	       i, soft, failed, late);
	if (!module)
		return;
	EXPECT_LT(0, soft);
	EXPECT_EQ(refused, soft);
	/* What is never reset does not notice that it cannot be. */
	if (reset) {
		EXPECT_LT(0, failed);
		EXPECT_EQ(busy, failed);
	}
}

static s64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/*
 * What setting up the BARs costs, and whom: the one who opens the device, or the
 * one who makes the first access. It is for a comparison of kernels, nothing
 * fails on a time.
 */
TEST_F_TIMEOUT(bar_setup, cost, 120)
{
	s64 start, opens = 0, first = 0, second = 0;
	struct vfio_pci_bar bars[PCI_STD_NUM_BARS];
	struct vfio_pci_device *device;
	int i, bar, rounds = 50;

	memcpy(bars, self->device->bars, sizeof(bars));
	device_close(self->device);
	for (i = 0; i < rounds; i++) {
		device = device_alloc();
		start = now_ns();
		ASSERT_EQ(0, __vfio_device_bind_iommufd(device->fd,
							iommu->iommufd, NULL));
		opens += now_ns() - start;
		memcpy(device->bars, bars, sizeof(bars));

		for (bar = 0; bar < self->nr_bars; bar++) {
			start = now_ns();
			bar_access(device, self->bars[bar], WRITE, 0);
			first += now_ns() - start;
			start = now_ns();
			bar_access(device, self->bars[bar], WRITE, 0);
			second += now_ns() - start;
		}
		device_close(device);
	}
	self->device = device_open();

	TH_LOG("open %lld us, first access to each of %d BARs %lld us, next one %lld us",
	       (long long)opens / rounds / 1000, self->nr_bars,
	       (long long)first / rounds / 1000,
	       (long long)second / rounds / 1000);
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	page_size = getpagesize();
	no_access = mmap(NULL, page_size, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(no_access, MAP_FAILED);

	return test_harness_run(argc, argv);
}
