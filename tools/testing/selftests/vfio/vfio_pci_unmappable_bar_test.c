// SPDX-License-Identifier: GPL-2.0-only
/*
 * A BAR whose mmap() is refused must not be exported as a DMA-BUF either, and one
 * that nobody can map must not be mapped by the kernel
 *
 * The refusal is made by the vfio_pci_test module, so any device with a memory
 * BAR of at least a page will do. Needs the module to be loaded and
 * CONFIG_VFIO_PCI_DMABUF; the device is bound to the module's driver during
 * the test and goes back to its own afterwards.
 *
 * The BARs that hardware does not let anyone map (pci_dev->non_mappable_bars,
 * on s390) are imitated only as far as the driver looks at the flag.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <linux/limits.h>
#include <linux/vfio.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define TEST_DRIVER "vfio-pci-test"
#define PARAMETERS "/sys/module/vfio_pci_test/parameters/"

static const char *device_bdf;
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

static void parameter_set(const char *name, unsigned int value)
{
	char path[PATH_MAX], buf[16];

	snprintf_assert(path, sizeof(path), PARAMETERS "%s", name);
	snprintf_assert(buf, sizeof(buf), "%u", value);
	file_write(path, buf);
}

/* The BAR to test with: memory, and large enough to be exported. */
static int first_bar(struct vfio_pci_device *device)
{
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (device->bars[bar].info.size >= getpagesize())
			return bar;
	}

	return -1;
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
	parameter_set("nommap", variant->nommap);
	parameter_set("non_mappable", variant->non_mappable);
	sysfs_driver_set(device_bdf, TEST_DRIVER);

	self->nr_requested = nr_requested();
	self->iommu = iommu_init(default_iommu_mode);
	self->device = vfio_pci_device_init(device_bdf, self->iommu);
	self->bar = first_bar(self->device);
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
	vaddr = mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED,
		     self->device->fd, info->offset);
	if (!variant->mappable) {
		ASSERT_EQ(MAP_FAILED, vaddr);
		ASSERT_EQ(EINVAL, errno);
		return;
	}

	ASSERT_NE(MAP_FAILED, vaddr);
	ASSERT_EQ(0, munmap(vaddr, getpagesize()));
}

/* By the kernel, on behalf of userspace */
TEST_F(unmappable_bar, access)
{
	struct vfio_region_info *info = &self->device->bars[self->bar].info;
	struct vfio_device_ioeventfd ioeventfd = {
		.argsz = sizeof(ioeventfd),
		.flags = VFIO_DEVICE_IOEVENTFD_32,
		.offset = info->offset + info->size - sizeof(u32),
	};
	int fd = self->device->fd;
	u32 val;

	ioeventfd.fd = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, ioeventfd.fd);

	if (!variant->non_mappable) {
		EXPECT_LT(self->nr_requested, nr_requested());
		EXPECT_EQ(sizeof(val), pread(fd, &val, sizeof(val), ioeventfd.offset));
		EXPECT_EQ(0, ioctl(fd, VFIO_DEVICE_IOEVENTFD, &ioeventfd));
	} else {
		EXPECT_EQ(self->nr_requested, nr_requested());
		EXPECT_EQ(-1, pread(fd, &val, sizeof(val), ioeventfd.offset));
		EXPECT_EQ(ENODEV, errno);
		EXPECT_EQ(-1, pwrite(fd, &val, sizeof(val), ioeventfd.offset));
		EXPECT_EQ(ENODEV, errno);
		EXPECT_EQ(-1, ioctl(fd, VFIO_DEVICE_IOEVENTFD, &ioeventfd));
		EXPECT_EQ(ENODEV, errno);
	}
	EXPECT_EQ(0, close(ioeventfd.fd));
}

TEST_F(unmappable_bar, export)
{
	int fd;

	if (variant->export_ret) {
		ASSERT_EQ(variant->export_ret,
			  __vfio_pci_dma_buf_export(self->device, self->bar, 0,
						    getpagesize()));
		return;
	}

	fd = vfio_pci_dma_buf_export(self->device, self->bar, 0, getpagesize());
	ASSERT_EQ(getpagesize(), lseek(fd, 0, SEEK_END));
	ASSERT_EQ(0, close(fd));
}

/* The same page twice, and all of that is refused too. */
TEST_F(unmappable_bar, export_ranges)
{
	const struct vfio_region_dma_range ranges[] = {
		{ .offset = 0, .length = getpagesize() },
		{ .offset = 0, .length = getpagesize() },
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
	ASSERT_EQ(2 * getpagesize(), lseek(ret, 0, SEEK_END));
	ASSERT_EQ(0, close(ret));
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
	parameter_set("nommap", 0);
	parameter_set("non_mappable", 0);
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
