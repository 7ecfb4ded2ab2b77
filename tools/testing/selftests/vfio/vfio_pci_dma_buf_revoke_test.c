// SPDX-License-Identifier: GPL-2.0-only
/*
 * The features that take the fd of a DMA-BUF: revocation for good, and the
 * memory attribute
 *
 * Proves of VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE that nobody reaches the BAR
 * through the buffer after it, in no process, by no duplicate of the fd, and
 * not as an importer; that nothing brings it back; and that other buffers of the
 * same range and mappings of the device fd do not even lose their pages. Of
 * VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR that mappings made after it, and no
 * others, have that attribute in the page tables, which is not said by the
 * protection of the VMA. Of both, each error.
 *
 * Any device with a mappable BAR of 4 pages will do. Buffers of another device
 * take a second device as another argument, those of another exporter
 * /dev/udmabuf. The cases on importers that do not let go, and on the attribute,
 * need the module vfio_selftest.
 *
 * Not here: EOPNOTSUPP of drivers without export, ENOTTY of kernels without.
 *
 * Specification: 7.1, 7.9, 8, 9, 6.7 for a revocation for good.
 */
#include <fcntl.h>
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
#include <linux/udmabuf.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define LIMIT_SECONDS 10
#define MARK(_page) (0x4e000000 | (u32)(_page))
#define IOVA SZ_1G

static char **device_bdfs;
static int nr_devices;
static size_t page_size;

struct owner {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	int bar;
	bool ram;
};

static void owner_open(struct owner *owner)
{
	owner->iommu = iommu_init(MODE_IOMMUFD);
	owner->device = vfio_pci_device_init(device_bdfs[0], owner->iommu);
	vfio_pci_bars_unmap(owner->device);
}

static void owner_close(struct owner *owner)
{
	if (!owner->device)
		return;
	vfio_pci_device_cleanup(owner->device);
	iommu_cleanup(owner->iommu);
	owner->device = NULL;
}

static bool owner_find_bar(struct owner *owner)
{
	owner->bar = vfio_pci_bar_find(owner->device, 4 * page_size, true);
	owner->ram = owner->bar >= 0;
	if (!owner->ram)
		owner->bar = vfio_pci_bar_find(owner->device, 4 * page_size, false);

	return owner->bar >= 0;
}

static int owner_export(struct owner *owner)
{
	return vfio_pci_dma_buf_export(owner->device, owner->bar, 0, 2 * page_size);
}

/* Nothing can be begun with the fd, by whoever has it. */
#define EXPECT_FD_REVOKED(_fd) do {						\
	int __fd = (_fd);							\
										\
	errno = 0;								\
	EXPECT_EQ(MAP_FAILED, __vfio_pci_dma_buf_mmap(__fd, 0, page_size,	\
						      PROT_READ));		\
	EXPECT_EQ(ENODEV, errno);						\
	EXPECT_EQ(-ENODEV, __iommu_map_dma_buf(self->owner.iommu, __fd,		\
					       2 * page_size, IOVA + SZ_4M));	\
	EXPECT_EQ(2 * page_size, lseek(__fd, 0, SEEK_END));			\
} while (0)

#define EXPECT_SIGBUS(_vaddr) do {						\
	void *__vaddr = (_vaddr);						\
	u32 __val;								\
										\
	EXPECT_EQ(-EFAULT, try_read32(__vaddr, &__val));			\
	EXPECT_EQ(-EFAULT, try_read32(__vaddr + page_size, &__val));		\
} while (0)

/* Readable, and had been all the time. */
#define EXPECT_UNTOUCHED(_vaddr) do {						\
	long __faults;								\
	u32 __val;								\
										\
	EXPECT_EQ(0, try_read32_faults(_vaddr, &__val, &__faults));		\
	EXPECT_EQ(0, __faults);							\
} while (0)

FIXTURE(dma_buf_revoke) {
	struct owner owner;
	int fd;
	void *vaddr;
};

FIXTURE_SETUP(dma_buf_revoke)
{
	u32 val;

	owner_open(&self->owner);
	if (!owner_find_bar(&self->owner))
		SKIP(return, "%s has no mappable BAR of 4 pages\n", device_bdfs[0]);

	self->fd = owner_export(&self->owner);
	self->vaddr = vfio_pci_dma_buf_mmap(self->fd, 0, 2 * page_size);
	ASSERT_EQ(0, try_read32(self->vaddr, &val));
	ASSERT_EQ(0, try_read32(self->vaddr + page_size, &val));
}

FIXTURE_TEARDOWN(dma_buf_revoke)
{
	owner_close(&self->owner);
}

TEST_F(dma_buf_revoke, revoked)
{
	struct vfio_pci_device *device = self->owner.device;
	void *vaddr;
	u32 val;
	int fd;

	vfio_pci_dma_buf_revoke(device, self->fd);
	EXPECT_SIGBUS(self->vaddr);
	EXPECT_EQ(-EFAULT, try_write32(self->vaddr, 0));
	EXPECT_FD_REVOKED(self->fd);
	EXPECT_EQ(-EBADFD, __vfio_pci_dma_buf_revoke(device, self->fd));

	/* To lend the range again, export it again. */
	fd = owner_export(&self->owner);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	EXPECT_EQ(0, try_read32(vaddr, &val));
	EXPECT_SIGBUS(self->vaddr);
	ASSERT_EQ(0, close(self->fd));
	EXPECT_SIGBUS(self->vaddr);
	ASSERT_EQ(0, munmap(self->vaddr, 2 * page_size));
	EXPECT_UNTOUCHED(vaddr);
	ASSERT_EQ(0, munmap(vaddr, 2 * page_size));
	ASSERT_EQ(0, close(fd));
}

/* A fault that comes later finds nothing either. */
TEST_F(dma_buf_revoke, untouched_mapping)
{
	void *vaddr = vfio_pci_dma_buf_mmap(self->fd, 0, 2 * page_size);

	vfio_pci_dma_buf_revoke(self->owner.device, self->fd);
	EXPECT_SIGBUS(vaddr);
}

TEST_F(dma_buf_revoke, importer)
{
	struct vfio_pci_device *device = self->owner.device;
	int ret;

	ASSERT_EQ(0, __iommu_map_dma_buf(self->owner.iommu, self->fd,
					 2 * page_size, IOVA));
	ret = iommu_translates(device->bdf, IOVA);
	if (ret != -EOPNOTSUPP)
		EXPECT_EQ(1, ret);

	vfio_pci_dma_buf_revoke(device, self->fd);
	ret = iommu_translates(device->bdf, IOVA);
	if (ret != -EOPNOTSUPP)
		EXPECT_EQ(0, ret);
	EXPECT_SIGBUS(self->vaddr);
	EXPECT_FD_REVOKED(self->fd);

	vfio_pci_decode_set(device, false);
	vfio_pci_decode_set(device, true);
	ret = iommu_translates(device->bdf, IOVA);
	if (ret != -EOPNOTSUPP)
		EXPECT_EQ(0, ret);
	ASSERT_EQ(0, __iommu_unmap_dma_buf(self->owner.iommu, IOVA, 2 * page_size));
}

/* Others that reach the very same pages keep theirs. */
TEST_F(dma_buf_revoke, others)
{
	struct vfio_pci_device *device = self->owner.device;
	void *vaddr[64], *device_map;
	int fd[64], i, ret;
	u32 val;

	device_map = vfio_pci_bar_mmap(device, self->owner.bar, 0, 2 * page_size);
	ASSERT_EQ(0, try_read32(device_map, &val));
	for (i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = owner_export(&self->owner);
		vaddr[i] = vfio_pci_dma_buf_mmap(fd[i], 0, 2 * page_size);
		ASSERT_EQ(0, try_read32(vaddr[i], &val));
	}
	ASSERT_EQ(0, __iommu_map_dma_buf(self->owner.iommu, fd[0], 2 * page_size,
					 IOVA));

	vfio_pci_dma_buf_revoke(device, self->fd);
	vfio_pci_dma_buf_revoke(device, fd[32]);
	EXPECT_SIGBUS(self->vaddr);
	EXPECT_SIGBUS(vaddr[32]);
	EXPECT_UNTOUCHED(device_map);
	for (i = 0; i < ARRAY_SIZE(fd); i++) {
		if (i != 32)
			EXPECT_UNTOUCHED(vaddr[i]);
	}
	ret = iommu_translates(device->bdf, IOVA);
	if (ret != -EOPNOTSUPP)
		EXPECT_EQ(1, ret);

	/* They are not forgotten, whatever has been taken from between them. */
	vfio_pci_decode_set(device, false);
	EXPECT_SIGBUS(device_map);
	for (i = 0; i < ARRAY_SIZE(fd); i++)
		EXPECT_SIGBUS(vaddr[i]);
	vfio_pci_decode_set(device, true);
	for (i = 0; i < ARRAY_SIZE(fd); i++)
		EXPECT_EQ(i == 32 ? -EFAULT : 0, try_read32(vaddr[i], &val));
}

TEST_F(dma_buf_revoke, duplicates)
{
	struct vfio_pci_device *device = self->owner.device;
	void *vaddr;
	u32 val;
	int dup_fd;

	dup_fd = dup(self->fd);
	ASSERT_LE(0, dup_fd);
	vaddr = vfio_pci_dma_buf_mmap(dup_fd, 0, 2 * page_size);
	ASSERT_EQ(0, try_read32(vaddr, &val));

	/* By whichever of them. */
	vfio_pci_dma_buf_revoke(device, dup_fd);
	EXPECT_SIGBUS(self->vaddr);
	EXPECT_SIGBUS(vaddr);
	EXPECT_FD_REVOKED(self->fd);
	EXPECT_FD_REVOKED(dup_fd);
	EXPECT_EQ(-EBADFD, __vfio_pci_dma_buf_revoke(device, self->fd));
	EXPECT_EQ(-EBADFD, __vfio_pci_dma_buf_revoke(device, dup_fd));
}

/* An fd that only allows to read is enough to take it back. */
TEST_F(dma_buf_revoke, read_only)
{
	const struct vfio_region_dma_range range = { .length = 2 * page_size };
	void *vaddr;
	u32 val;
	int fd;

	fd = __vfio_pci_dma_buf_export_ranges(self->owner.device, self->owner.bar,
					      O_RDONLY | O_CLOEXEC, &range, 1);
	ASSERT_LE(0, fd);
	vaddr = __vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size, PROT_READ);
	ASSERT_NE(MAP_FAILED, vaddr);
	ASSERT_EQ(0, try_read32(vaddr, &val));
	vfio_pci_dma_buf_revoke(self->owner.device, fd);
	EXPECT_SIGBUS(vaddr);
	EXPECT_FD_REVOKED(fd);
}

/* What is left of a mapping, and what it was moved to. */
TEST_F(dma_buf_revoke, mappings)
{
	void *moved, *parts, *target;
	u32 val;

	parts = vfio_pci_dma_buf_mmap(self->fd, 0, 2 * page_size);
	ASSERT_EQ(0, try_read32(parts + page_size, &val));
	ASSERT_EQ(0, munmap(parts, page_size));

	moved = vfio_pci_dma_buf_mmap(self->fd, page_size, page_size);
	ASSERT_EQ(0, try_read32(moved, &val));
	target = mmap_reserve(page_size, page_size, 0);
	ASSERT_EQ(target, mremap(moved, page_size, page_size,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(0, try_read32(target, &val));

	vfio_pci_dma_buf_revoke(self->owner.device, self->fd);
	EXPECT_EQ(-EFAULT, try_read32(parts + page_size, &val));
	EXPECT_EQ(-EFAULT, try_read32(target, &val));
}

TEST_F(dma_buf_revoke, inherited)
{
	int to_child[2], to_parent[2], status;
	char byte = 0;
	pid_t pid;
	u32 val;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		void *own = vfio_pci_dma_buf_mmap(self->fd, 0, 2 * page_size);

		if (try_read32(self->vaddr, &val) || try_read32(own, &val))
			_exit(1);
		if (write(to_parent[1], &byte, 1) != 1 ||
		    read(to_child[0], &byte, 1) != 1)
			_exit(2);
		if (try_read32(self->vaddr, &val) != -EFAULT ||
		    try_read32(own, &val) != -EFAULT)
			_exit(3);
		if (mmap(NULL, page_size, PROT_READ, MAP_SHARED, self->fd, 0) !=
		    MAP_FAILED)
			_exit(4);
		_exit(0);
	}

	ASSERT_EQ(1, read(to_parent[0], &byte, 1));
	vfio_pci_dma_buf_revoke(self->owner.device, self->fd);
	ASSERT_EQ(1, write(to_child[1], &byte, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_SIGBUS(self->vaddr);
}

/* For now does not end for good, and for good ends with nothing. */
TEST_F(dma_buf_revoke, states)
{
	struct vfio_pci_device *device = self->owner.device;
	int fd, i;

	for (i = 0; i < 4; i++) {
		void *vaddr;
		u32 val;

		fd = owner_export(&self->owner);
		vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
		ASSERT_EQ(0, try_read32(vaddr, &val));

		switch (i) {
		case 0:
			vfio_pci_decode_set(device, false);
			vfio_pci_dma_buf_revoke(device, fd);
			EXPECT_SIGBUS(vaddr);
			EXPECT_FD_REVOKED(fd);
			vfio_pci_decode_set(device, true);
			break;
		case 1:
			ASSERT_EQ(0, __vfio_pci_low_power_enter(device, -1));
			vfio_pci_dma_buf_revoke(device, fd);
			EXPECT_SIGBUS(vaddr);
			EXPECT_FD_REVOKED(fd);
			ASSERT_EQ(0, __vfio_pci_low_power_exit(device));
			break;
		case 2:
			if (__vfio_pci_power_state_set(device, 3))
				vfio_pci_decode_set(device, false);
			vfio_pci_dma_buf_revoke(device, fd);
			EXPECT_SIGBUS(vaddr);
			EXPECT_FD_REVOKED(fd);
			__vfio_pci_power_state_set(device, 0);
			vfio_pci_decode_set(device, true);
			break;
		case 3:
			vfio_pci_dma_buf_revoke(device, fd);
			vfio_pci_decode_set(device, false);
			vfio_pci_decode_set(device, true);
			__vfio_pci_reset(device);
			break;
		}
		EXPECT_SIGBUS(vaddr);
		EXPECT_FD_REVOKED(fd);
		EXPECT_EQ(-EBADFD, __vfio_pci_dma_buf_revoke(device, fd));
		ASSERT_EQ(0, munmap(vaddr, 2 * page_size));
		ASSERT_EQ(0, close(fd));
		/* It was not this one. */
		ASSERT_EQ(0, try_read32(self->vaddr, &val));
	}
}

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* 7.1: from ok to revoked importers are told and waited for, and never else. */
TEST_F(dma_buf_revoke, told_once)
{
	struct vfio_pci_device *device = self->owner.device;
	int fence = fence_create(), other, importer, other_importer;
	time_t start;

	if (fence == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	other = owner_export(&self->owner);
	importer = importer_create(device->bdf, self->fd);
	other_importer = importer_create(device->bdf, other);
	EXPECT_EQ(0, importer_told(importer, NULL));

	/* For now, and again for now. */
	vfio_pci_decode_set(device, false);
	EXPECT_EQ(1, importer_told(importer, NULL));
	vfio_pci_decode_set(device, false);
	ASSERT_EQ(0, __vfio_pci_low_power_enter(device, -1));
	ASSERT_EQ(0, __vfio_pci_low_power_exit(device));
	EXPECT_EQ(1, importer_told(importer, NULL));

	/* For good, with somebody there who would be waited for. */
	fence_add(fence, self->fd);
	start = now();
	vfio_pci_dma_buf_revoke(device, self->fd);
	EXPECT_LT(now() - start, LIMIT_SECONDS);
	EXPECT_EQ(1, importer_told(importer, NULL));
	EXPECT_EQ(1, importer_told(other_importer, NULL));

	/* The other way nobody is called, and then only who has not been. */
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(1, importer_told(importer, NULL));
	EXPECT_EQ(1, importer_told(other_importer, NULL));
	vfio_pci_decode_set(device, false);
	EXPECT_LT(now() - start, LIMIT_SECONDS);
	EXPECT_EQ(1, importer_told(importer, NULL));
	EXPECT_EQ(2, importer_told(other_importer, NULL));
	vfio_pci_decode_set(device, true);
	fence_signal(fence);

	/* From ok straight to for good. */
	vfio_pci_dma_buf_revoke(device, other);
	EXPECT_EQ(3, importer_told(other_importer, NULL));
	vfio_pci_decode_set(device, false);
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(-EBADFD, __vfio_pci_dma_buf_revoke(device, other));
	EXPECT_EQ(1, importer_told(importer, NULL));
	EXPECT_EQ(3, importer_told(other_importer, NULL));

	ASSERT_EQ(0, close(importer));
	ASSERT_EQ(0, close(other_importer));
	ASSERT_EQ(0, close(other));
}

/* The device closes with buffers that are revoked, and some that are not. */
TEST_F(dma_buf_revoke, then_close)
{
	int fd = owner_export(&self->owner);
	void *vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	u32 val;

	ASSERT_EQ(0, try_read32(vaddr, &val));
	vfio_pci_dma_buf_revoke(self->owner.device, fd);
	vfio_pci_device_cleanup(self->owner.device);
	EXPECT_SIGBUS(vaddr);
	EXPECT_SIGBUS(self->vaddr);
	EXPECT_FD_REVOKED(fd);
	EXPECT_FD_REVOKED(self->fd);
	ASSERT_EQ(0, close(fd));
	ASSERT_EQ(0, munmap(self->vaddr, 2 * page_size));
	ASSERT_EQ(0, close(self->fd));
	ASSERT_EQ(0, munmap(vaddr, 2 * page_size));
	self->owner.device = vfio_pci_device_init(device_bdfs[0], self->owner.iommu);
}

struct revoke_call {
	struct vfio_pci_device *device;
	int fd;
};

static void *revoke_thread(void *arg)
{
	struct revoke_call *call = arg;

	return (void *)(long)__vfio_pci_dma_buf_revoke(call->device, call->fd);
}

/* Once for good is enough, whoever it is. */
TEST_F(dma_buf_revoke, race)
{
	pthread_t threads[8];
	int i, round, nr;
	void *ret;

	for (round = 0; round < 50; round++) {
		struct revoke_call call = {
			.device = self->owner.device,
			.fd = self->fd,
		};

		for (i = 0; i < ARRAY_SIZE(threads); i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL,
						    revoke_thread, &call));
		for (i = 0, nr = 0; i < ARRAY_SIZE(threads); i++) {
			ASSERT_EQ(0, pthread_join(threads[i], &ret));
			if (!ret)
				nr++;
			else
				EXPECT_EQ(-EBADFD, (long)ret);
		}
		EXPECT_EQ(1, nr);
		EXPECT_SIGBUS(self->vaddr);

		ASSERT_EQ(0, munmap(self->vaddr, 2 * page_size));
		ASSERT_EQ(0, close(self->fd));
		self->fd = owner_export(&self->owner);
		self->vaddr = vfio_pci_dma_buf_mmap(self->fd, 0, 2 * page_size);
	}
}

/* 6.7, 7.9: an importer that holds on keeps the caller waiting, nobody else. */
static void try_drain(struct __test_metadata *_metadata, struct owner *owner,
		      int fd, void *mapped, bool mapping)
{
	struct vfio_pci_device *device = owner->device;
	struct revoke_call call = { .device = device, .fd = fd };
	int hot_reset = __vfio_pci_hot_reset(device), bar = owner->bar;
	time_t end = now() + LIMIT_SECONDS;
	int hold = dma_buf_hold(device->bdf, fd, mapping), other;
	void *vaddr, *other_map, *device_map, *ret;
	bool begun = false;
	pthread_t thread;
	u32 val;

	if (hold == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	other = owner_export(owner);
	other_map = vfio_pci_dma_buf_mmap(other, 0, 2 * page_size);
	ASSERT_EQ(0, try_read32(other_map, &val));
	ASSERT_EQ(0, __iommu_map_dma_buf(owner->iommu, fd,
					 2 * page_size, IOVA));
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	ASSERT_EQ(0, pthread_create(&thread, NULL, revoke_thread, &call));

	/* The status comes first: no new mapping from then on. */
	while (!begun && now() < end) {
		void *probe = __vfio_pci_dma_buf_mmap(fd, 0, page_size,
						      PROT_READ);

		begun = probe == MAP_FAILED && errno == ENODEV;
		if (!begun)
			ASSERT_EQ(0, munmap(probe, page_size));
		sched_yield();
	}
	ASSERT_TRUE(begun);
	EXPECT_EQ(EBUSY, pthread_tryjoin_np(thread, &ret));

	/* Who faults on it is told at once. */
	EXPECT_SIGBUS(vaddr);
	ret = __vfio_pci_dma_buf_mmap(fd, 0, page_size, PROT_READ);
	EXPECT_EQ(MAP_FAILED, ret);
	EXPECT_EQ(EBUSY, pthread_tryjoin_np(thread, &ret));

	/* Who has another buffer keeps its pages and gets new ones, */
	EXPECT_UNTOUCHED(other_map);
	EXPECT_EQ(0, try_read32(other_map + page_size, &val));
	/* as does who has the device fd, or maps it only now. */
	device_map = vfio_pci_bar_mmap(device, bar, 0, page_size);
	EXPECT_EQ(0, try_read32(device_map, &val));
	ASSERT_EQ(0, munmap(device_map, page_size));
	vfio_pci_bar_read32(device, bar, 0);
	/* A reset would have to wait, with the lock of the set: it does not. */
	EXPECT_EQ(hot_reset ?: -EBUSY, __vfio_pci_hot_reset(device));
	EXPECT_EQ(EBUSY, pthread_tryjoin_np(thread, &ret));

	dma_buf_let_go(hold);
	ASSERT_EQ(0, pthread_join(thread, &ret));
	EXPECT_EQ(0, (long)ret);
	EXPECT_EQ(-EBADFD, __vfio_pci_dma_buf_revoke(device, fd));
	EXPECT_EQ(0, try_read32(other_map, &val));
	EXPECT_SIGBUS(mapped);
	EXPECT_SIGBUS(vaddr);
}

TEST_F(dma_buf_revoke, drain)
{
	try_drain(_metadata, &self->owner, self->fd, self->vaddr, false);
}

TEST_F(dma_buf_revoke, drain_mapping)
{
	try_drain(_metadata, &self->owner, self->fd, self->vaddr, true);
}

/* 5.3, 7.1, 8: an importer maps a buffer when, and only when, it is not revoked. */
TEST_F(dma_buf_revoke, importer_maps)
{
	struct vfio_pci_device *device = self->owner.device;
	int importer = importer_create(device->bdf, self->fd), i;

	if (importer == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	/* What was waited for once is waited for again: the count is right. */
	for (i = 0; i < 3; i++) {
		importer_map(importer);
		importer_unmap(importer);
		vfio_pci_decode_set(device, false);
		EXPECT_EQ(i + 1, importer_told(importer, NULL));
		EXPECT_EQ(-ENODEV, __importer_map(importer));
		vfio_pci_decode_set(device, true);
	}
	importer_map(importer);
	importer_unmap(importer);

	vfio_pci_dma_buf_revoke(device, self->fd);
	EXPECT_EQ(-ENODEV, __importer_map(importer));
	vfio_pci_decode_set(device, false);
	vfio_pci_decode_set(device, true);
	EXPECT_EQ(-ENODEV, __importer_map(importer));

	vfio_pci_device_cleanup(device);
	EXPECT_EQ(-ENODEV, __importer_map(importer));
	ASSERT_EQ(0, close(importer));
	self->owner.device = vfio_pci_device_init(device_bdfs[0], self->owner.iommu);
}

/* The payload and the flags, for both features. */
static void try_arguments(struct __test_metadata *_metadata,
			  struct vfio_pci_device *device, u32 feature,
			  size_t size, int fd)
{
	struct vfio_device_feature *arg;
	u32 payload[2] = { fd };
	void *edge;

	/* It is there, and only to be set. */
	EXPECT_EQ(0, __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_PROBE |
					   feature, NULL, 0));
	EXPECT_EQ(0, __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_PROBE |
					   VFIO_DEVICE_FEATURE_SET | feature,
					   NULL, 0));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd,
						 VFIO_DEVICE_FEATURE_PROBE |
						 VFIO_DEVICE_FEATURE_GET | feature,
						 NULL, 0));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd,
						 VFIO_DEVICE_FEATURE_GET | feature,
						 payload, size));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd,
						 VFIO_DEVICE_FEATURE_GET |
						 VFIO_DEVICE_FEATURE_SET | feature,
						 payload, size));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd, feature, payload, size));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd,
						 VFIO_DEVICE_FEATURE_SET | feature,
						 payload, size - 1));
	EXPECT_EQ(-EINVAL, __vfio_device_feature(device->fd,
						 VFIO_DEVICE_FEATURE_SET | feature,
						 NULL, 0));

	/* The header is the last that can be read. */
	edge = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, edge);
	ASSERT_EQ(0, munmap(edge + page_size, page_size));
	arg = edge + page_size - sizeof(*arg);
	arg->argsz = sizeof(*arg) + size;
	arg->flags = VFIO_DEVICE_FEATURE_SET | feature;
	EXPECT_EQ(-1, ioctl(device->fd, VFIO_DEVICE_FEATURE, arg));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(0, munmap(edge, page_size));
}

/* A DMA-BUF of ordinary memory. */
static int create_udmabuf(void)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC };
	int dev, memfd, fd;

	dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -errno;

	memfd = memfd_create("udmabuf", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	VFIO_ASSERT_GE(memfd, 0);
	VFIO_ASSERT_EQ(ftruncate(memfd, page_size), 0);
	VFIO_ASSERT_EQ(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	create.memfd = memfd;
	create.size = page_size;
	fd = ioctl(dev, UDMABUF_CREATE, &create);
	VFIO_ASSERT_GE(fd, 0);
	close(memfd);
	close(dev);

	return fd;
}

static int call_revoke(struct vfio_pci_device *device, int fd)
{
	return __vfio_pci_dma_buf_revoke(device, fd);
}

static int call_memattr(struct vfio_pci_device *device, int fd)
{
	return __vfio_pci_dma_buf_memattr_set(device, fd, VFIO_DMA_BUF_MEMATTR_NC);
}

/* Not everywhere: on x86 "nopat" is enough for it to be missing. */
static bool have_wc(struct vfio_pci_device *device)
{
	return __vfio_pci_dma_buf_memattr_set(device, -1,
					      VFIO_DMA_BUF_MEMATTR_WC) != -ENOENT;
}

/* Fds that are not the right ones, for both features. */
static void try_fds(struct __test_metadata *_metadata, struct owner *owner,
		    int (*call)(struct vfio_pci_device *device, int fd))
{
	char path[PATH_MAX];
	int fd, orphan;

	/* Not open, no more open, open by its path only. */
	EXPECT_EQ(-EBADF, call(owner->device, -1));
	EXPECT_EQ(-EBADF, call(owner->device, 1 << 20));
	fd = owner_export(owner);
	snprintf_assert(path, sizeof(path), "/proc/self/fd/%d", fd);
	orphan = open(path, O_PATH | O_CLOEXEC);
	ASSERT_LE(0, orphan);
	ASSERT_EQ(0, close(fd));
	EXPECT_EQ(-EBADF, call(owner->device, fd));
	EXPECT_EQ(-EBADF, call(owner->device, orphan));
	ASSERT_EQ(0, close(orphan));

	/* Not a DMA-BUF. */
	EXPECT_EQ(-EINVAL, call(owner->device, owner->device->fd));
	EXPECT_EQ(-EINVAL, call(owner->device, owner->iommu->iommufd));
	fd = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EINVAL, call(owner->device, fd));
	ASSERT_EQ(0, close(fd));
	fd = memfd_create("memfd", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EINVAL, call(owner->device, fd));
	ASSERT_EQ(0, close(fd));

	/* Of another exporter. */
	fd = create_udmabuf();
	if (fd >= 0) {
		EXPECT_EQ(-ENODEV, call(owner->device, fd));
		ASSERT_EQ(0, close(fd));
	}

	/* Of this device, but of an earlier time that it was open. */
	orphan = owner_export(owner);
	vfio_pci_device_cleanup(owner->device);
	owner->device = vfio_pci_device_init(device_bdfs[0], owner->iommu);
	EXPECT_EQ(-ENODEV, call(owner->device, orphan));
	ASSERT_EQ(0, close(orphan));

	fd = owner_export(owner);
	EXPECT_EQ(0, call(owner->device, fd));
	ASSERT_EQ(0, close(fd));
}

TEST_F(dma_buf_revoke, arguments)
{
	try_arguments(_metadata, self->owner.device,
		      VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE,
		      sizeof(struct vfio_device_feature_dma_buf_revoke), self->fd);
	/* None of them did it. */
	EXPECT_UNTOUCHED(self->vaddr);
}

TEST_F(dma_buf_revoke, fds)
{
	try_fds(_metadata, &self->owner, call_revoke);
}

/* What one device lent is not another's to take back. */
TEST_F(dma_buf_revoke, other_device)
{
	struct vfio_pci_device *other;

	if (nr_devices < 2)
		SKIP(return, "Takes two devices\n");

	other = vfio_pci_device_init(device_bdfs[1], self->owner.iommu);
	EXPECT_EQ(-ENODEV, __vfio_pci_dma_buf_revoke(other, self->fd));
	EXPECT_EQ(-ENODEV, call_memattr(other, self->fd));
	EXPECT_UNTOUCHED(self->vaddr);
	EXPECT_EQ(0, __vfio_pci_dma_buf_revoke(self->owner.device, self->fd));
	EXPECT_EQ(-ENODEV, __vfio_pci_dma_buf_revoke(other, self->fd));
	vfio_pci_device_cleanup(other);
}

/* Has neither device nor iommufd, only what comes by its socket. */
static int client(int sock)
{
	int fd = socket_recv_fd(sock);
	void *vaddr;
	u32 val;

	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	if (try_read32(vaddr, &val) || try_read32(vaddr + page_size, &val))
		return 1;
	socket_send(sock, 0);

	/* The owner does not ask. */
	while (!try_read32(vaddr, &val))
		;
	if (try_read32(vaddr + page_size, &val) != -EFAULT)
		return 2;
	if (mmap(NULL, page_size, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED ||
	    errno != ENODEV)
		return 3;

	/* Gets another one. */
	socket_send(sock, 0);
	fd = socket_recv_fd(sock);
	vaddr = vfio_pci_dma_buf_mmap(fd, 0, 2 * page_size);
	if (try_read32(vaddr, &val))
		return 4;

	return 0;
}

FIXTURE(dma_buf_client) {
	struct owner owner;
	struct process clients[2];
};

FIXTURE_SETUP(dma_buf_client)
{
	int i;

	/* Before anything is opened, so that nothing is inherited. */
	for (i = 0; i < ARRAY_SIZE(self->clients); i++)
		process_start(&self->clients[i], client);

	owner_open(&self->owner);
	if (!owner_find_bar(&self->owner))
		SKIP(return, "%s has no mappable BAR of 4 pages\n", device_bdfs[0]);
}

FIXTURE_TEARDOWN(dma_buf_client)
{
	owner_close(&self->owner);
}

TEST_F(dma_buf_client, taken_back)
{
	int fd, i;

	fd = owner_export(&self->owner);
	for (i = 0; i < ARRAY_SIZE(self->clients); i++)
		socket_send_fd(self->clients[i].socket, fd);
	for (i = 0; i < ARRAY_SIZE(self->clients); i++)
		ASSERT_EQ(0, socket_recv(self->clients[i].socket));

	/* In the middle of what they do with it. */
	vfio_pci_dma_buf_revoke(self->owner.device, fd);
	for (i = 0; i < ARRAY_SIZE(self->clients); i++)
		ASSERT_EQ(0, socket_recv(self->clients[i].socket));
	ASSERT_EQ(0, close(fd));

	fd = owner_export(&self->owner);
	for (i = 0; i < ARRAY_SIZE(self->clients); i++) {
		socket_send_fd(self->clients[i].socket, fd);
		EXPECT_EQ(0, process_wait(&self->clients[i]));
	}
	ASSERT_EQ(0, close(fd));
}

/* Memory attributes, as the page tables have them. */
FIXTURE(memattr) {
	struct owner owner;
	int fd;
	u64 size;
};

FIXTURE_SETUP(memattr)
{
	struct pfnmap pfnmap;

	if (pfnmap_get(self, &pfnmap) == -EOPNOTSUPP)
		SKIP(return, "The module vfio_selftest is not loaded\n");

	owner_open(&self->owner);
	if (!owner_find_bar(&self->owner))
		SKIP(return, "%s has no mappable BAR of 4 pages\n", device_bdfs[0]);
	if (!have_wc(self->owner.device))
		SKIP(return, "There is no write-combining\n");

	self->size = min_t(u64, SZ_4M,
			   self->owner.device->bars[self->owner.bar].info.size);
	self->fd = vfio_pci_dma_buf_export(self->owner.device, self->owner.bar, 0,
					   self->size);
}

FIXTURE_TEARDOWN(memattr)
{
	owner_close(&self->owner);
}

/* At the start, in the middle, and at the end of a mapping of all. */
#define EXPECT_CACHE(_cache, _vaddr) do {					\
	u64 __at[] = { 0, page_size, self->size / 2, self->size - page_size };	\
	void *__vaddr = (_vaddr);						\
	struct pfnmap __pfnmap;							\
	u32 __i, __val;								\
										\
	for (__i = 0; __i < ARRAY_SIZE(__at); __i++) {				\
		EXPECT_EQ(0, try_read32(__vaddr + __at[__i], &__val));		\
		EXPECT_EQ(0, pfnmap_get(__vaddr + __at[__i], &__pfnmap));	\
		EXPECT_STREQ(_cache, __pfnmap.cache);				\
	}									\
} while (0)

TEST_F(memattr, in_force)
{
	struct vfio_pci_device *device = self->owner.device;
	void *nc, *wc, *again, *device_map;

	nc = vfio_pci_dma_buf_mmap(self->fd, 0, self->size);
	device_map = vfio_pci_bar_mmap(device, self->owner.bar, 0, self->size);
	EXPECT_CACHE("nc", nc);
	EXPECT_CACHE("nc", device_map);

	/* What is mapped stays as it is, even if it has to fault again. */
	vfio_pci_dma_buf_memattr_set(device, self->fd, VFIO_DMA_BUF_MEMATTR_WC);
	wc = vfio_pci_dma_buf_mmap(self->fd, 0, self->size);
	EXPECT_CACHE("wc", wc);
	EXPECT_CACHE("nc", nc);
	vfio_pci_decode_set(device, false);
	vfio_pci_decode_set(device, true);
	EXPECT_CACHE("nc", nc);
	EXPECT_CACHE("wc", wc);
	EXPECT_CACHE("nc", device_map);

	vfio_pci_dma_buf_memattr_set(device, self->fd, VFIO_DMA_BUF_MEMATTR_NC);
	again = vfio_pci_dma_buf_mmap(self->fd, 0, self->size);
	EXPECT_CACHE("nc", again);
	EXPECT_CACHE("wc", wc);

	/* The device fd has no part in it, mapped before or after. */
	ASSERT_EQ(0, munmap(device_map, self->size));
	vfio_pci_dma_buf_memattr_set(device, self->fd, VFIO_DMA_BUF_MEMATTR_WC);
	device_map = vfio_pci_bar_mmap(device, self->owner.bar, 0, self->size);
	EXPECT_CACHE("nc", device_map);

	ASSERT_EQ(0, munmap(nc, self->size));
	ASSERT_EQ(0, munmap(wc, self->size));
	ASSERT_EQ(0, munmap(again, self->size));
	ASSERT_EQ(0, munmap(device_map, self->size));
}

/* Of this buffer, and of no other over the same range. */
TEST_F(memattr, other_buffer)
{
	void *other_map, *map;
	int other;

	other = vfio_pci_dma_buf_export(self->owner.device, self->owner.bar, 0,
					self->size);
	vfio_pci_dma_buf_memattr_set(self->owner.device, self->fd,
				     VFIO_DMA_BUF_MEMATTR_WC);
	other_map = vfio_pci_dma_buf_mmap(other, 0, self->size);
	map = vfio_pci_dma_buf_mmap(self->fd, 0, self->size);
	EXPECT_CACHE("nc", other_map);
	EXPECT_CACHE("wc", map);
	EXPECT_CACHE("nc", other_map);
}

/* What a mapping goes through does not change it. */
TEST_F(memattr, kept)
{
	void *map, *target;
	int status;
	pid_t pid;

	vfio_pci_dma_buf_memattr_set(self->owner.device, self->fd,
				     VFIO_DMA_BUF_MEMATTR_WC);
	map = vfio_pci_dma_buf_mmap(self->fd, 0, self->size);
	EXPECT_CACHE("wc", map);

	ASSERT_EQ(0, mprotect(map, self->size, PROT_READ));
	EXPECT_CACHE("wc", map);
	ASSERT_EQ(0, mprotect(map, self->size, PROT_NONE));
	ASSERT_EQ(0, mprotect(map, self->size, PROT_READ | PROT_WRITE));
	EXPECT_CACHE("wc", map);

	target = mmap_reserve(self->size, SZ_2M, 0);
	ASSERT_EQ(target, mremap(map, self->size, self->size,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_CACHE("wc", target);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_CACHE("wc", target);
		_exit(_metadata->exit_code);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_CACHE("wc", target);
}

TEST_F(memattr, contents)
{
	struct vfio_pci_device *device = self->owner.device;
	void *map;
	u64 pos;
	u32 val;

	if (!self->owner.ram)
		SKIP(return, "%s has no BAR backed by memory\n", device_bdfs[0]);

	vfio_pci_dma_buf_memattr_set(device, self->fd, VFIO_DMA_BUF_MEMATTR_WC);
	map = vfio_pci_dma_buf_mmap(self->fd, 0, self->size);
	for (pos = 0; pos < self->size; pos += 16 * page_size + 64)
		ASSERT_EQ(0, try_write32(map + pos, MARK(pos / 64)));
	__sync_synchronize();
	for (pos = 0; pos < self->size; pos += 16 * page_size + 64) {
		EXPECT_EQ(MARK(pos / 64),
			  vfio_pci_bar_read32(device, self->owner.bar, pos));
		ASSERT_EQ(0, try_read32(map + pos, &val));
		EXPECT_EQ(MARK(pos / 64), val);
	}
}

/* Revoked like any other, for now and for good. */
TEST_F(memattr, revoked)
{
	struct vfio_pci_device *device = self->owner.device;
	void *map;
	u32 val;

	vfio_pci_dma_buf_memattr_set(device, self->fd, VFIO_DMA_BUF_MEMATTR_WC);
	map = vfio_pci_dma_buf_mmap(self->fd, 0, self->size);
	EXPECT_CACHE("wc", map);
	vfio_pci_decode_set(device, false);
	EXPECT_EQ(-EFAULT, try_read32(map, &val));
	EXPECT_EQ(-EFAULT, try_read32(map + self->size - page_size, &val));
	/* It can be set meanwhile. */
	vfio_pci_dma_buf_memattr_set(device, self->fd, VFIO_DMA_BUF_MEMATTR_NC);
	vfio_pci_decode_set(device, true);
	EXPECT_CACHE("wc", map);

	vfio_pci_dma_buf_revoke(device, self->fd);
	EXPECT_EQ(-EFAULT, try_read32(map, &val));
	EXPECT_EQ(-EFAULT, try_read32(map + self->size - page_size, &val));
	EXPECT_EQ(-ENODEV, call_memattr(device, self->fd));
}

/* Disordered and repeated ranges of it. */
TEST_F(memattr, ranges)
{
	const struct vfio_region_dma_range ranges[] = {
		{ .offset = 3 * page_size, .length = page_size },
		{ .offset = 0, .length = 2 * page_size },
		{ .offset = 3 * page_size, .length = page_size },
		{ .offset = 2 * page_size, .length = page_size },
	};
	static const int pages[] = { 3, 0, 1, 3, 2 };
	u64 phys = sysfs_bar_start_get(device_bdfs[0], self->owner.bar);
	struct pfnmap pfnmap;
	void *map;
	int fd, i;
	u32 val;

	fd = __vfio_pci_dma_buf_export_ranges(self->owner.device, self->owner.bar,
					      O_RDWR | O_CLOEXEC, ranges,
					      ARRAY_SIZE(ranges));
	ASSERT_LE(0, fd);
	vfio_pci_dma_buf_memattr_set(self->owner.device, fd, VFIO_DMA_BUF_MEMATTR_WC);
	map = vfio_pci_dma_buf_mmap(fd, 0, ARRAY_SIZE(pages) * page_size);
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		ASSERT_EQ(0, try_read32(map + i * page_size, &val));
		ASSERT_EQ(0, pfnmap_get(map + i * page_size, &pfnmap));
		EXPECT_STREQ("wc", pfnmap.cache);
		EXPECT_EQ(phys / page_size + pages[i], pfnmap.pfn);
	}
	ASSERT_EQ(0, munmap(map, ARRAY_SIZE(pages) * page_size));

	/* A part of it, read-only. */
	map = __vfio_pci_dma_buf_mmap(fd, 2 * page_size, 2 * page_size, PROT_READ);
	ASSERT_NE(MAP_FAILED, map);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, try_read32(map + i * page_size, &val));
		ASSERT_EQ(0, pfnmap_get(map + i * page_size, &pfnmap));
		EXPECT_STREQ("wc", pfnmap.cache);
		EXPECT_FALSE(pfnmap.writable);
		EXPECT_EQ(phys / page_size + pages[2 + i], pfnmap.pfn);
	}
	EXPECT_EQ(-EACCES, try_write32(map, 0));
}

FIXTURE(memattr_errors) {
	struct owner owner;
	int fd;
};

FIXTURE_SETUP(memattr_errors)
{
	owner_open(&self->owner);
	if (!owner_find_bar(&self->owner))
		SKIP(return, "%s has no mappable BAR of 4 pages\n", device_bdfs[0]);
	self->fd = owner_export(&self->owner);
}

FIXTURE_TEARDOWN(memattr_errors)
{
	owner_close(&self->owner);
}

TEST_F(memattr_errors, arguments)
{
	try_arguments(_metadata, self->owner.device,
		      VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR,
		      sizeof(struct vfio_device_feature_dma_buf_memattr), self->fd);
}

TEST_F(memattr_errors, fds)
{
	try_fds(_metadata, &self->owner, call_memattr);
}

TEST_F(memattr_errors, values)
{
	struct vfio_pci_device *device = self->owner.device;
	static const u32 unknown[] = { 2, 3, 255, 256, 1U << 31, ~0U };
	bool wc = have_wc(device);
	int i;

	EXPECT_EQ(0, __vfio_pci_dma_buf_memattr_set(device, self->fd,
						    VFIO_DMA_BUF_MEMATTR_NC));
	EXPECT_EQ(wc ? 0 : -ENOENT,
		  __vfio_pci_dma_buf_memattr_set(device, self->fd,
						 VFIO_DMA_BUF_MEMATTR_WC));
	for (i = 0; i < ARRAY_SIZE(unknown); i++) {
		EXPECT_EQ(-ENOENT, __vfio_pci_dma_buf_memattr_set(device, self->fd,
								  unknown[i]));
		/* Support can be probed without a buffer. */
		EXPECT_EQ(-ENOENT, __vfio_pci_dma_buf_memattr_set(device, -1,
								  unknown[i]));
	}

	vfio_pci_dma_buf_revoke(device, self->fd);
	EXPECT_EQ(-ENODEV, __vfio_pci_dma_buf_memattr_set(device, self->fd,
							  VFIO_DMA_BUF_MEMATTR_NC));
	EXPECT_EQ(wc ? -ENODEV : -ENOENT,
		  __vfio_pci_dma_buf_memattr_set(device, self->fd,
						 VFIO_DMA_BUF_MEMATTR_WC));
}

int main(int argc, char *argv[])
{
	device_bdfs = vfio_selftests_get_bdfs(&argc, argv, &nr_devices);
	page_size = getpagesize();
	return test_harness_run(argc, argv);
}
