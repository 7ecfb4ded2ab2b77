// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults on the BARs of a device, from threads and processes, while it is taken
 * out of reach and given back by each event in turn
 *
 * Proves that no order of fault, mmap(), munmap(), export, import and revocation
 * crashes, hangs or confuses the kernel, which is told by its log: run it with
 * lockdep, KASAN and SLUB_RCU_DEBUG, and with KCSAN. And that whoever gets a
 * value at all gets the right one: a BAR that is backed by memory holds a mark
 * in each page, and reads of a BAR that does not respond give something else.
 * That is how an access shows that slips through during a reset.
 *
 * Each event is repeated for a bounded time, and longer if need be until it has
 * succeeded once: a device may be too busy for some of them. And until an access
 * has been refused, if the event is there to refuse it. What the events do one
 * by one is in vfio_pci_revoke_test.
 *
 * Specification: 2.6, 4.1, 5.3, 6.2, 6.7, 7, 8, 10. Defects: D3, D5, D7, D11,
 * D12, D14, D23.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
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

#define NR_PAGES 16
#define NR_THREADS 2		/* of each process */
#define NR_PROCESSES 2		/* besides that of the test */
#define ROUND_MS 800		/* for each event */
#define LIMIT_SECONDS 20	/* for what has to come about by itself */

#define MARK(_page) (0x57000000 | (u32)(_page))
#define IOVA SZ_1G

static const char *device_bdf;
static char *device_driver;
static size_t page_size;
static pid_t main_pid;
static bool have_hot_reset, have_bus_reset;

/* Shared with the processes. */
struct shared {
	int stop;
	int nr_ready;		/* processes that hold nothing but mappings */
	long reads;
	long faults;
	u32 wrong;		/* a value that no page holds */
};

static struct shared *shared;

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static bool stopped(void)
{
	return __atomic_load_n(&shared->stop, __ATOMIC_RELAXED);
}

struct stress {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	int nr_pages;
	bool ram;
	int fd;
	void *device_map;
	void *buffer_map;
	bool late_recovery;
	pthread_t threads[NR_THREADS];
	pthread_t churn[3];
	pid_t pids[NR_PROCESSES];
};

/* Read, and look at what comes. */
static void read_page(struct stress *stress, void *map, int page)
{
	u32 val;

	if (try_read32(map + page * page_size, &val)) {
		__atomic_add_fetch(&shared->faults, 1, __ATOMIC_RELAXED);
		return;
	}

	__atomic_add_fetch(&shared->reads, 1, __ATOMIC_RELAXED);
	if (stress->ram && val != MARK(page))
		__atomic_store_n(&shared->wrong, val ?: 1, __ATOMIC_RELAXED);
}

static void *storm(void *arg)
{
	struct stress *stress = arg;
	unsigned int seed = getpid();

	while (!stopped()) {
		read_page(stress, stress->device_map, rand_r(&seed) % stress->nr_pages);
		read_page(stress, stress->buffer_map, rand_r(&seed) % stress->nr_pages);
		/* There are more of them than CPUs. */
		sched_yield();
	}

	return NULL;
}

/* Mappings of the device fd come and go. */
static void *churn_mmap(void *arg)
{
	struct stress *stress = arg;
	unsigned int seed = 1;
	void *map;
	int page;

	while (!stopped()) {
		page = rand_r(&seed) % stress->nr_pages;
		map = vfio_pci_bar_mmap(stress->device, stress->bar, page * page_size,
					page_size);
		/* It is at the start of this one. */
		read_page(stress, map - page * page_size, page);
		VFIO_ASSERT_EQ(munmap(map, page_size), 0);
	}

	return NULL;
}

/* Buffers come and go, with the fd or with the mapping. */
static void *churn_export(void *arg)
{
	struct stress *stress = arg;
	unsigned int seed = 2;
	int fd, page, i = 0;
	void *map;

	while (!stopped()) {
		page = rand_r(&seed) % stress->nr_pages;
		fd = vfio_pci_dma_buf_export(stress->device, stress->bar,
					     page * page_size, page_size);
		if (i++ % 3 == 0) {
			close(fd);
			continue;
		}
		map = vfio_pci_dma_buf_mmap(fd, 0, page_size);
		read_page(stress, map - page * page_size, page);
		if (i % 3 == 1)
			close(fd);
		VFIO_ASSERT_EQ(munmap(map, page_size), 0);
		if (i % 3 != 1)
			close(fd);
	}

	return NULL;
}

/* Importers come and go. */
static void *churn_import(void *arg)
{
	struct stress *stress = arg;
	int ret;

	while (!stopped()) {
		ret = __iommu_map_dma_buf(stress->iommu, stress->fd, page_size, IOVA);
		if (ret)
			VFIO_ASSERT_EQ(ret, -ENODEV);
		else
			VFIO_ASSERT_EQ(__iommu_unmap_dma_buf(stress->iommu, IOVA,
							     page_size), 0);
	}

	return NULL;
}

static void start_threads(struct stress *stress)
{
	int i;

	for (i = 0; i < NR_THREADS; i++)
		VFIO_ASSERT_EQ(pthread_create(&stress->threads[i], NULL, storm, stress), 0);
}

static void join_threads(struct stress *stress)
{
	int i;

	for (i = 0; i < NR_THREADS; i++)
		VFIO_ASSERT_EQ(pthread_join(stress->threads[i], NULL), 0);
}

/* They have the mappings only: nothing of theirs keeps the device open. */
static void start_processes(struct stress *stress)
{
	int i;

	shared->nr_ready = 0;
	for (i = 0; i < NR_PROCESSES; i++) {
		stress->pids[i] = fork();
		VFIO_ASSERT_GE(stress->pids[i], 0);
		if (stress->pids[i])
			continue;

		close(stress->device->fd);
		close(stress->iommu->iommufd);
		__atomic_add_fetch(&shared->nr_ready, 1, __ATOMIC_RELEASE);
		start_threads(stress);
		join_threads(stress);
		_exit(0);
	}

	while (__atomic_load_n(&shared->nr_ready, __ATOMIC_ACQUIRE) < NR_PROCESSES)
		sched_yield();
}

static void stop(struct stress *stress)
{
	__atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
}

static void join_processes(struct __test_metadata *_metadata, struct stress *stress)
{
	int i, status;

	for (i = 0; i < NR_PROCESSES; i++) {
		ASSERT_EQ(stress->pids[i], waitpid(stress->pids[i], &status, 0));
		EXPECT_EQ(0, status);
	}
}

static void mark_pages(struct stress *stress)
{
	int i;

	for (i = 0; stress->ram && i < stress->nr_pages; i++)
		vfio_pci_bar_write32(stress->device, stress->bar, i * page_size, MARK(i));
}

static void device_open(struct stress *stress)
{
	stress->device = vfio_pci_device_init(device_bdf, stress->iommu);
	vfio_pci_bars_unmap(stress->device);
}

static void buffer_open(struct stress *stress)
{
	stress->fd = vfio_pci_dma_buf_export(stress->device, stress->bar, 0,
					     stress->nr_pages * page_size);
	stress->buffer_map = vfio_pci_dma_buf_mmap(stress->fd, 0,
						   stress->nr_pages * page_size);
}

static void buffer_close(struct stress *stress)
{
	VFIO_ASSERT_EQ(munmap(stress->buffer_map, stress->nr_pages * page_size), 0);
	VFIO_ASSERT_EQ(close(stress->fd), 0);
}

FIXTURE(stress) {
	struct stress stress;
};

FIXTURE_SETUP(stress)
{
	struct stress *stress = &self->stress;
	u64 size;

	memset(shared, 0, sizeof(*shared));

	stress->iommu = iommu_init(MODE_IOMMUFD);
	device_open(stress);
	stress->bar = vfio_pci_bar_find(stress->device, page_size, true);
	stress->ram = stress->bar >= 0;
	if (!stress->ram)
		stress->bar = vfio_pci_bar_find(stress->device, page_size, false);
	if (stress->bar < 0)
		SKIP(return, "%s has no mappable BAR of a page\n", device_bdf);

	size = stress->device->bars[stress->bar].info.size;
	stress->nr_pages = min_t(u64, NR_PAGES, size / page_size);
	mark_pages(stress);
	buffer_open(stress);
	stress->device_map = vfio_pci_bar_mmap(stress->device, stress->bar, 0,
					       stress->nr_pages * page_size);
}

FIXTURE_TEARDOWN(stress)
{
	struct stress *stress = &self->stress;

	if (stress->device)
		vfio_pci_device_cleanup(stress->device);
	iommu_cleanup(stress->iommu);
}

/*
 * Takes the BARs out of reach and gives them back. -EAGAIN if somebody else has
 * what that takes, for a moment.
 */
typedef int event_t(struct stress *stress);

#define MAX_EVENTS 12
#define NR_TURNS 4		/* of an event, until each other has had one */

static bool never_refused(void)
{
	return !__atomic_load_n(&shared->faults, __ATOMIC_RELAXED);
}

/* Nothing is stuck. */
static void expect_usable(struct __test_metadata *_metadata, struct stress *stress)
{
	u32 val;
	int i;

	for (i = 0; i < stress->nr_pages; i++) {
		EXPECT_EQ(0, try_read32(stress->device_map + i * page_size, &val));
		if (stress->ram)
			EXPECT_EQ(MARK(i), val);
		EXPECT_EQ(0, try_read32(stress->buffer_map + i * page_size, &val));
		if (stress->ram)
			EXPECT_EQ(MARK(i), val);
	}
	ASSERT_EQ(0, __iommu_map_dma_buf(stress->iommu, stress->fd, page_size, IOVA));
	ASSERT_EQ(0, __iommu_unmap_dma_buf(stress->iommu, IOVA, page_size));
}

/*
 * All at once, and @events by turns, again and again. With @refuse an access
 * that comes in between has to fail, by any mapping.
 */
static void run_events(struct __test_metadata *_metadata, struct stress *stress,
		       event_t * const *events, int nr_events, bool refuse)
{
	void *(* const churn[])(void *) = { churn_mmap, churn_export, churn_import };
	long long end = now_ms() + ROUND_MS;
	long long limit = now_ms() + LIMIT_SECONDS * 1000;
	int i, ret, turn = 0, busy = 0, missing = nr_events;
	int nr[MAX_EVENTS] = {};

	start_processes(stress);
	start_threads(stress);
	for (i = 0; i < ARRAY_SIZE(churn); i++)
		ASSERT_EQ(0, pthread_create(&stress->churn[i], NULL, churn[i], stress));

	do {
		i = turn++ % nr_events;
		ret = events[i](stress);
		if (ret == -EAGAIN) {
			busy++;
			ret = 0;
			/* Who has it may want this CPU. */
			sched_yield();
		} else if (!ret) {
			missing -= !nr[i]++;
		}
	} while (!ret && (now_ms() < end || (now_ms() < limit &&
		 (missing || (refuse && never_refused())))));
	EXPECT_EQ(0, ret) {
		TH_LOG("event %d of %d: %s", i, nr_events, strerror(-ret));
	}

	stop(stress);
	join_threads(stress);
	for (i = 0; i < ARRAY_SIZE(churn); i++)
		ASSERT_EQ(0, pthread_join(stress->churn[i], NULL));
	join_processes(_metadata, stress);

	TH_LOG("%d events, %d when the device was busy, %ld reads, %ld faults",
	       turn - busy, busy, shared->reads, shared->faults);
	for (i = 0; i < nr_events; i++) {
		EXPECT_LT(0, nr[i]) {
			TH_LOG("event %d of %d never succeeded", i, nr_events);
		}
	}
	EXPECT_EQ(0, shared->wrong);
	EXPECT_LT(0, shared->reads);
	if (refuse)
		EXPECT_LT(0, shared->faults);

	expect_usable(_metadata, stress);
}

static void run(struct __test_metadata *_metadata, struct stress *stress,
		event_t *event)
{
	run_events(_metadata, stress, &event, 1, false);
}

static void run_refuse(struct __test_metadata *_metadata, struct stress *stress,
		       event_t *event)
{
	run_events(_metadata, stress, &event, 1, true);
}

static int decode(struct stress *stress)
{
	vfio_pci_decode_set(stress->device, false);
	vfio_pci_decode_set(stress->device, true);

	return 0;
}

TEST_F(stress, decode)
{
	struct stress *stress = &self->stress;

	run_refuse(_metadata, stress, decode);
}

static bool can_reset(struct stress *stress)
{
	return stress->device->info.flags & VFIO_DEVICE_FLAGS_RESET;
}

static int device_reset(struct stress *stress)
{
	return __vfio_pci_reset(stress->device);
}

TEST_F(stress, device_reset)
{
	struct stress *stress = &self->stress;

	if (!can_reset(stress))
		SKIP(return, "%s cannot be reset\n", device_bdf);

	run(_metadata, stress, device_reset);
}

/* Fails fast if a fault holds the lock that it wants. */
static int hot_reset(struct stress *stress)
{
	int ret = __vfio_pci_hot_reset(stress->device);

	return ret == -EBUSY ? -EAGAIN : ret;
}

TEST_F(stress, hot_reset)
{
	struct stress *stress = &self->stress;

	if (!have_hot_reset)
		SKIP(return, "%s has no hot reset\n", device_bdf);

	run(_metadata, stress, hot_reset);
}

static int sysfs_reset(struct stress *stress)
{
	return __sysfs_reset(device_bdf);
}

/* By the same methods as VFIO_DEVICE_RESET */
TEST_F(stress, sysfs_reset)
{
	struct stress *stress = &self->stress;

	if (!can_reset(stress))
		SKIP(return, "%s has no reset in sysfs\n", device_bdf);

	run(_metadata, stress, sysfs_reset);
}

static int bus_reset(struct stress *stress)
{
	return __sysfs_bus_reset(device_bdf);
}

TEST_F(stress, bus_reset)
{
	struct stress *stress = &self->stress;

	if (!have_bus_reset)
		SKIP(return, "%s has no port that resets its bus\n", device_bdf);

	run(_metadata, stress, bus_reset);
}

/* Nobody waits for the recovery here, and what it leaves has decoding off. */
static int recover(struct stress *stress, int limit_ms)
{
	int uevents = uevent_open(), ret;

	ret = __port_error_inject(device_bdf, true);
	if (!ret && !uevent_get(uevents, device_bdf,
				"ERROR_EVENT=SUCCESSFUL_RECOVERY", limit_ms))
		ret = -ETIMEDOUT;
	close(uevents);
	if (!ret)
		vfio_pci_decode_set(stress->device, true);

	return ret;
}

static int error(struct stress *stress)
{
	return recover(stress, LIMIT_SECONDS * 1000);
}

/*
 * -EAGAIN if the kernel has not recovered soon: a reset of the bus has cleared the
 * error before it was seen, or recovery waits for the device lock.
 */
static int error_if_seen(struct stress *stress)
{
	int ret = recover(stress, 500);

	if (ret != -ETIMEDOUT)
		return ret;

	stress->late_recovery = true;
	return -EAGAIN;
}

/* For when nobody resets the device any more: recovery that is late is over then. */
static void wait_late_recovery(struct stress *stress)
{
	int uevents = uevent_open();

	while (stress->late_recovery &&
	       uevent_get(uevents, device_bdf, "ERROR_EVENT=SUCCESSFUL_RECOVERY", 3000))
		;
	close(uevents);
}

/* @ret of error(): what the port, or the kernel, cannot do */
static bool has_no_errors(int ret)
{
	return ret == -EOPNOTSUPP || ret == -ENODEV || ret == -EPROTONOSUPPORT;
}

TEST_F(stress, error)
{
	struct stress *stress = &self->stress;
	int ret = error(stress);

	if (has_no_errors(ret))
		SKIP(return, "No error of a port above %s: %s\n", device_bdf,
		     strerror(-ret));

	run(_metadata, stress, error);
}

static int flr(struct stress *stress)
{
	return __vfio_pci_flr(stress->device);
}

TEST_F(stress, flr)
{
	struct stress *stress = &self->stress;

	if (__vfio_pci_flr(stress->device) == -ENODEV)
		SKIP(return, "%s has no FLR\n", device_bdf);

	run(_metadata, stress, flr);
}

static bool can_d3hot(struct stress *stress)
{
	return vfio_pci_cap_find(stress->device, PCI_CAP_ID_PM);
}

static int d3hot(struct stress *stress)
{
	return __vfio_pci_power_state_set(stress->device, 3) ?:
	       __vfio_pci_power_state_set(stress->device, 0);
}

TEST_F(stress, d3hot)
{
	struct stress *stress = &self->stress;

	if (!can_d3hot(stress))
		SKIP(return, "%s has no power management\n", device_bdf);

	run_refuse(_metadata, stress, d3hot);
}

static int low_power(struct stress *stress)
{
	return __vfio_pci_low_power_enter(stress->device, -1) ?:
	       __vfio_pci_low_power_exit(stress->device);
}

TEST_F(stress, low_power)
{
	struct stress *stress = &self->stress;

	run_refuse(_metadata, stress, low_power);
}

/* -EAGAIN if it was kept awake: a thread exports, which wakes it. */
static int low_power_wakeup(struct stress *stress)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), ret;
	long long end = now_ms() + 100;
	eventfd_t count = 0;

	VFIO_ASSERT_GE(fd, 0);
	ret = __vfio_pci_low_power_enter(stress->device, fd);
	if (!ret) {
		while (!sysfs_is_suspended(device_bdf) && eventfd_read(fd, &count) &&
		       now_ms() < end)
			sched_yield();
		vfio_pci_config_readw(stress->device, PCI_VENDOR_ID);
		ret = __vfio_pci_low_power_exit(stress->device);
	}
	if (!ret && !count && eventfd_read(fd, &count))
		ret = -EAGAIN;
	close(fd);

	return ret;
}

TEST_F(stress, low_power_wakeup)
{
	struct stress *stress = &self->stress;

	run(_metadata, stress, low_power_wakeup);
}

/* One buffer after the other takes the place of the one before. */
static int revoke_buffer(struct stress *stress)
{
	u64 size = stress->nr_pages * page_size;
	int fd, i;
	void *map;

	fd = vfio_pci_dma_buf_export(stress->device, stress->bar, 0, size);
	map = mmap(stress->buffer_map, size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, fd, 0);
	VFIO_ASSERT_EQ(map, stress->buffer_map);
	for (i = 0; i < stress->nr_pages; i++)
		read_page(stress, map, i);
	vfio_pci_dma_buf_revoke(stress->device, fd);
	VFIO_ASSERT_EQ(try_read32(map, &(u32){ 0 }), -EFAULT);

	/* Leave one that can be used. */
	VFIO_ASSERT_EQ(mmap(map, size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, stress->fd, 0), map);
	close(fd);

	return 0;
}

TEST_F(stress, revoke)
{
	struct stress *stress = &self->stress;

	run(_metadata, stress, revoke_buffer);
}

/* Everything that the device can do */
TEST_F(stress, mixed)
{
	struct stress *stress = &self->stress;
	event_t *events[MAX_EVENTS];
	int nr = 0;

	events[nr++] = decode;
	if (can_d3hot(stress))
		events[nr++] = d3hot;
	events[nr++] = low_power;
	events[nr++] = revoke_buffer;
	if (can_reset(stress))
		events[nr++] = device_reset;
	events[nr++] = low_power_wakeup;
	if (can_reset(stress))
		events[nr++] = sysfs_reset;
	if (have_hot_reset)
		events[nr++] = hot_reset;

	run_events(_metadata, stress, events, nr, true);
}

/* With an importer, which has to let go. -EAGAIN if nothing can be imported now. */
static int revoke_imported(struct stress *stress)
{
	iova_t iova = IOVA + SZ_2M;
	int fd, ret;

	fd = vfio_pci_dma_buf_export(stress->device, stress->bar, 0, page_size);
	ret = __iommu_map_dma_buf(stress->iommu, fd, page_size, iova);
	if (!ret) {
		vfio_pci_dma_buf_revoke(stress->device, fd);
		VFIO_ASSERT_EQ(__iommu_unmap_dma_buf(stress->iommu, iova, page_size), 0);
	}
	close(fd);

	return ret == -ENODEV ? -EAGAIN : ret;
}

static int set_irqs(struct vfio_pci_device *device, int index, u32 data, int fd)
{
	struct {
		struct vfio_irq_set set;
		s32 fd;
	} irqs = {
		.set = {
			.argsz = sizeof(irqs),
			.flags = VFIO_IRQ_SET_ACTION_TRIGGER | data,
			.index = index,
			.count = data == VFIO_IRQ_SET_DATA_EVENTFD,
		},
		.fd = fd,
	};

	return ioctl(device->fd, VFIO_DEVICE_SET_IRQS, &irqs) ? -errno : 0;
}

/* Sets up an interrupt, for which the device has to be in D0. */
static int irqs(struct stress *stress)
{
	struct vfio_pci_device *device = stress->device;
	int index = device->msix_info.count ? VFIO_PCI_MSIX_IRQ_INDEX :
					      VFIO_PCI_MSI_IRQ_INDEX;
	int fd = eventfd(0, EFD_CLOEXEC), ret;

	VFIO_ASSERT_GE(fd, 0);
	ret = set_irqs(device, index, VFIO_IRQ_SET_DATA_EVENTFD, fd);
	close(fd);
	if (ret)
		return ret == -EINVAL ? -EAGAIN : ret;

	return set_irqs(device, index, VFIO_IRQ_SET_DATA_NONE, -1);
}

struct event_loops;

struct event_loop {
	struct event_loops *loops;
	event_t *event;
	pthread_t thread;
	/* As long as anybody else does anything with the device */
	bool refused;
	int done;
	int ret;
};

struct event_loops {
	struct stress *stress;
	struct event_loop loop[MAX_EVENTS];
	int nr;
};

static int nr_never_done(struct event_loops *loops)
{
	struct event_loop *loop;
	int never = 0;

	for (loop = loops->loop; loop < loops->loop + loops->nr; loop++)
		never += !loop->refused && !__atomic_load_n(&loop->done, __ATOMIC_RELAXED);

	return never;
}

static void *event_loop(void *arg)
{
	struct event_loop *loop = arg;
	int ret;

	while (!stopped()) {
		/*
		 * The kernel gives nobody a turn: some would take it again and again.
		 * Others need decoding, which an error leaves off.
		 */
		if (loop->event != decode && loop->done >= NR_TURNS &&
		    nr_never_done(loop->loops)) {
			usleep(1000);
			continue;
		}
		ret = loop->event(loop->loops->stress);
		/* Somebody else resets it. */
		if (ret == -EAGAIN || ret == -EBUSY) {
			sched_yield();
			continue;
		}
		if (ret) {
			loop->ret = ret;
			break;
		}
		__atomic_add_fetch(&loop->done, 1, __ATOMIC_RELAXED);
	}

	return NULL;
}

static void add_loop(struct event_loops *loops, event_t *event, bool refused)
{
	VFIO_ASSERT_LT(loops->nr, MAX_EVENTS);
	loops->loop[loops->nr++] = (struct event_loop){
		.loops = loops,
		.event = event,
		.refused = refused,
	};
}

/*
 * Each event in a thread of its own: what waits for a lock of another, or of a
 * reset that VFIO did not start, does so here. Those that hang are killed by the
 * limit on the time of the test.
 */
TEST_F_TIMEOUT(stress, at_once, 5 * LIMIT_SECONDS + 20)
{
	struct stress *stress = &self->stress;
	struct event_loops loops = { .stress = stress };
	struct event_loop *loop;
	long long end, limit;
	int i, ret;

	add_loop(&loops, decode, false);
	add_loop(&loops, low_power, false);
	if (can_d3hot(stress))
		add_loop(&loops, d3hot, false);
	if (can_reset(stress)) {
		/* The one waits for the device lock, the other tries it. */
		add_loop(&loops, device_reset, true);
		add_loop(&loops, sysfs_reset, false);
	}
	if (have_bus_reset)
		add_loop(&loops, bus_reset, false);
	if (have_hot_reset)
		add_loop(&loops, hot_reset, true);
	if (stress->device->msix_info.count || stress->device->msi_info.count)
		add_loop(&loops, irqs, false);
	/* The write succeeds even if there is no reset, because the device is busy. */
	if (__vfio_pci_flr(stress->device) != -ENODEV)
		add_loop(&loops, flr, false);
	add_loop(&loops, revoke_buffer, false);
	add_loop(&loops, revoke_imported, false);
	ret = error(stress);
	if (!has_no_errors(ret)) {
		ASSERT_EQ(0, ret);
		add_loop(&loops, error_if_seen, true);
	}

	start_threads(stress);
	for (i = 0; i < loops.nr; i++) {
		loop = &loops.loop[i];
		ASSERT_EQ(0, pthread_create(&loop->thread, NULL, event_loop, loop));
	}

	end = now_ms() + ROUND_MS;
	/* Whoever gets the device has it for a whole reset. */
	limit = now_ms() + 4 * LIMIT_SECONDS * 1000;
	while (now_ms() < end || (nr_never_done(&loops) && now_ms() < limit))
		usleep(10000);
	stop(stress);
	join_threads(stress);
	for (i = 0; i < loops.nr; i++) {
		loop = &loops.loop[i];
		ASSERT_EQ(0, pthread_join(loop->thread, NULL));
		EXPECT_EQ(0, loop->ret) {
			TH_LOG("event %d of %d: %s", i, loops.nr, strerror(-loop->ret));
		}
		EXPECT_TRUE(loop->done || loop->refused) {
			TH_LOG("event %d of %d never succeeded", i, loops.nr);
		}
		TH_LOG("event %d of %d: %d times", i, loops.nr, loop->done);
	}
	wait_late_recovery(stress);
	EXPECT_EQ(0, shared->wrong);
	if (can_reset(stress))
		EXPECT_EQ(0, device_reset(stress));
	if (have_hot_reset)
		EXPECT_EQ(0, hot_reset(stress));

	/* One of them may have been the last to say what state the device is in. */
	if (can_d3hot(stress))
		EXPECT_EQ(0, __vfio_pci_power_state_set(stress->device, 0));
	vfio_pci_decode_set(stress->device, true);
	expect_usable(_metadata, stress);
}

/*
 * Unbind the driver, which waits for the device to be closed, and for all who
 * have a registration of it: so has a fault on a buffer that is not revoked.
 */
static pid_t start_unbind(struct stress *stress)
{
	struct pollfd pfd = {
		.fd = vfio_pci_event_open(stress->device, VFIO_PCI_REQ_IRQ_INDEX),
		.events = POLLIN,
	};
	pid_t pid;

	VFIO_ASSERT_GE(pfd.fd, 0);
	pid = fork();
	VFIO_ASSERT_GE(pid, 0);
	if (!pid) {
		close(stress->device->fd);
		close(stress->iommu->iommufd);
		_exit(-__sysfs_write(device_bdf, "driver/unbind", device_bdf));
	}

	VFIO_ASSERT_EQ(poll(&pfd, 1, LIMIT_SECONDS * 1000), 1);
	VFIO_ASSERT_EQ(close(pfd.fd), 0);

	return pid;
}

/* The device goes away under those who fault on its buffers. */
static void run_closing(struct __test_metadata *_metadata,
			struct stress *stress, bool unbind)
{
	long long end = now_ms() + 2 * ROUND_MS;
	u64 size = stress->nr_pages * page_size;
	int nr = 0, i, status;
	pid_t pid = 0;
	u32 val;

	/* It would keep the device open. */
	ASSERT_EQ(0, munmap(stress->device_map, size));

	do {
		long reads = shared->reads;

		stress->device_map = stress->buffer_map;
		shared->stop = 0;
		start_processes(stress);
		if (unbind)
			pid = start_unbind(stress);
		start_threads(stress);
		while (__atomic_load_n(&shared->reads, __ATOMIC_RELAXED) < reads + 50)
			sched_yield();

		/* They have their pages, which are to be faulted in just then. */
		decode(stress);
		vfio_pci_device_cleanup(stress->device);
		stress->device = NULL;
		for (i = 0; i < stress->nr_pages; i++)
			EXPECT_EQ(-EFAULT, try_read32(stress->buffer_map +
						      i * page_size, &val));
		if (unbind) {
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			ASSERT_EQ(0, status);
			sysfs_driver_set(device_bdf, device_driver);
		}
		device_open(stress);
		mark_pages(stress);
		EXPECT_EQ(-EFAULT, try_read32(stress->buffer_map, &val));

		stop(stress);
		join_threads(stress);
		join_processes(_metadata, stress);
		buffer_close(stress);
		buffer_open(stress);
		nr++;
	} while (now_ms() < end);

	TH_LOG("%d times, %ld reads, %ld faults", nr, shared->reads, shared->faults);
	EXPECT_EQ(0, shared->wrong);
	EXPECT_EQ(0, try_read32(stress->buffer_map, &val));
}

TEST_F(stress, close)
{
	struct stress *stress = &self->stress;

	run_closing(_metadata, stress, false);
}

TEST_F(stress, unbind)
{
	struct stress *stress = &self->stress;

	run_closing(_metadata, stress, true);
}

/* Clients die in the middle of a fault. */
TEST_F(stress, clients_killed)
{
	struct stress *stress = &self->stress;
	long long end = now_ms() + ROUND_MS;
	int i, status, nr = 0;
	u32 val;

	do {
		long reads = __atomic_load_n(&shared->reads, __ATOMIC_RELAXED);

		start_processes(stress);
		do {
			decode(stress);
		} while (__atomic_load_n(&shared->reads, __ATOMIC_RELAXED) <
			 reads + 10);
		for (i = 0; i < NR_PROCESSES; i++)
			ASSERT_EQ(0, kill(stress->pids[i], SIGKILL));
		decode(stress);
		for (i = 0; i < NR_PROCESSES; i++) {
			ASSERT_EQ(stress->pids[i], waitpid(stress->pids[i], &status, 0));
			EXPECT_EQ(SIGKILL, WTERMSIG(status));
		}
		nr++;
	} while (now_ms() < end);

	TH_LOG("%d times, %ld reads, %ld faults", nr, shared->reads, shared->faults);
	EXPECT_EQ(0, shared->wrong);
	EXPECT_EQ(0, try_read32(stress->buffer_map, &val));
}

/* Owns the device, lends a part of it, and dies when it is told to. */
static int owner(int sock)
{
	struct iommu *iommu = iommu_init(MODE_IOMMUFD);
	struct vfio_pci_device *device;
	int bar;

	device = vfio_pci_device_init(device_bdf, iommu);
	bar = vfio_pci_bar_find(device, page_size, false);
	socket_send_fd(sock, vfio_pci_dma_buf_export(device, bar, 0, page_size));
	for (;;) {
		vfio_pci_decode_set(device, false);
		vfio_pci_decode_set(device, true);
	}

	return 0;
}

TEST(owner_killed)
{
	struct vfio_pci_device *device;
	struct process process;
	struct iommu *iommu;
	long long end;
	int fd, i, ret;
	void *map;
	u32 val;

	for (i = 0; i < 4; i++) {
		process_start(&process, owner);
		fd = socket_recv_fd(process.socket);
		map = vfio_pci_dma_buf_mmap(fd, 0, page_size);

		end = now_ms() + LIMIT_SECONDS * 1000;
		do {
			ret = try_read32(map, &val);
		} while (ret && now_ms() < end);
		EXPECT_EQ(0, ret);

		ASSERT_EQ(0, kill(process.pid, SIGKILL));
		EXPECT_EQ(-SIGKILL, process_wait(&process));

		/* All that it had open is closed by now. */
		EXPECT_EQ(-EFAULT, try_read32(map, &val));
		EXPECT_EQ(MAP_FAILED, __vfio_pci_dma_buf_mmap(fd, 0, page_size,
							      PROT_READ));
		EXPECT_EQ(ENODEV, errno);

		iommu = iommu_init(MODE_IOMMUFD);
		device = vfio_pci_device_init(device_bdf, iommu);
		EXPECT_EQ(-EFAULT, try_read32(map, &val));
		vfio_pci_device_cleanup(device);
		iommu_cleanup(iommu);
		ASSERT_EQ(0, munmap(map, page_size));
		ASSERT_EQ(0, close(fd));
	}
}

static void probe_resets(void)
{
	struct iommu *iommu = iommu_init(MODE_IOMMUFD);
	struct vfio_pci_device *device = vfio_pci_device_init(device_bdf, iommu);
	int ret;

	/* No slot or bus to reset; something there that others may have */
	ret = __vfio_pci_hot_reset(device);
	have_hot_reset = ret != -ENODEV && ret != -EINVAL;
	/* No port; one that cannot do it */
	ret = __sysfs_bus_reset(device_bdf);
	have_bus_reset = ret != -ENOENT && ret != -ENOTTY;
	vfio_pci_device_cleanup(device);
	iommu_cleanup(iommu);
}

static void restore(void)
{
	char *driver;

	/* The children that run the tests inherit the handler. */
	if (getpid() != main_pid)
		return;

	driver = sysfs_driver_get(device_bdf);
	if (!driver || strcmp(driver, device_driver))
		sysfs_driver_set(device_bdf, device_driver);
	free(driver);
	free(device_driver);
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	page_size = getpagesize();

	device_driver = sysfs_driver_get(device_bdf);
	if (!device_driver)
		ksft_exit_skip("%s is bound to no driver\n", device_bdf);

	shared = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VFIO_ASSERT_NE(shared, MAP_FAILED);
	probe_resets();
	main_pid = getpid();
	VFIO_ASSERT_EQ(atexit(restore), 0);

	return test_harness_run(argc, argv);
}
