// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/ioctl.h>

#include <linux/dma-buf.h>
#include <linux/types.h>

#include <libvfio.h>

#define MODULE_DIR "/sys/kernel/debug/vfio_selftest/"

int pfnmap_get(const void *addr, struct pfnmap *pfnmap)
{
	int fd, ret, nr, writable;
	char buf[128];

	memset(pfnmap, 0, sizeof(*pfnmap));

	fd = open(MODULE_DIR "pfnmap", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -EOPNOTSUPP;

	snprintf_assert(buf, sizeof(buf), "0x%lx", (unsigned long)addr);
	if (write(fd, buf, strlen(buf)) < 0) {
		ret = -errno;
		goto out;
	}

	ret = pread(fd, buf, sizeof(buf) - 1, 0);
	VFIO_ASSERT_GT(ret, 0);
	buf[ret] = '\0';
	nr = sscanf(buf, "pfn %" SCNx64 " size %" SCNx64 " writable %d cache %7s",
		    &pfnmap->pfn, &pfnmap->page_size, &writable, pfnmap->cache);
	VFIO_ASSERT_EQ(nr, 4);
	pfnmap->writable = writable;
	ret = 0;
out:
	close(fd);
	return ret;
}

int vma_file_get(const void *addr, bool *uncached)
{
	int fd = open(MODULE_DIR "vma", O_RDWR | O_CLOEXEC);
	int ret, nr, flag, file;
	char buf[64];

	if (fd < 0)
		return -EOPNOTSUPP;

	snprintf_assert(buf, sizeof(buf), "0x%lx", (unsigned long)addr);
	VFIO_ASSERT_EQ(write(fd, buf, strlen(buf)), strlen(buf));
	ret = pread(fd, buf, sizeof(buf) - 1, 0);
	VFIO_ASSERT_GT(ret, 0);
	buf[ret] = '\0';
	nr = sscanf(buf, "uncached %d fd %d", &flag, &file);
	VFIO_ASSERT_EQ(nr, 2);
	*uncached = flag;
	close(fd);

	return file;
}

int fence_create(void)
{
	int fd = open(MODULE_DIR "fence", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -EOPNOTSUPP : fd;
}

void fence_add(int fence, int dmabuf_fd)
{
	struct dma_buf_import_sync_file import = { .flags = DMA_BUF_SYNC_RW };
	char buf[16];
	int ret;

	ret = pread(fence, buf, sizeof(buf) - 1, 0);
	VFIO_ASSERT_GT(ret, 0);
	buf[ret] = '\0';

	import.fd = atoi(buf);
	ioctl_assert(dmabuf_fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &import);
	VFIO_ASSERT_EQ(close(import.fd), 0);
}

void fence_signal(int fence)
{
	VFIO_ASSERT_EQ(close(fence), 0);
}

int __importer_create(const char *bdf, int dmabuf_fd)
{
	int fd = open(MODULE_DIR "importer", O_RDWR | O_CLOEXEC), ret;
	char text[64];

	if (fd < 0)
		return -EOPNOTSUPP;
	snprintf_assert(text, sizeof(text), "%s %d", bdf, dmabuf_fd);
	if (write(fd, text, strlen(text)) != strlen(text)) {
		ret = -errno;
		close(fd);
		return ret;
	}

	return fd;
}

int importer_create(const char *bdf, int dmabuf_fd)
{
	int fd = __importer_create(bdf, dmabuf_fd);

	if (fd != -EOPNOTSUPP)
		VFIO_ASSERT_GE(fd, 0);

	return fd;
}

int importer_told(int importer, int *power)
{
	int ret, nr, told, state;
	char buf[64];

	ret = pread(importer, buf, sizeof(buf) - 1, 0);
	VFIO_ASSERT_GT(ret, 0);
	buf[ret] = '\0';
	nr = sscanf(buf, "told %d power %d", &told, &state);
	VFIO_ASSERT_EQ(nr, 2);
	if (power)
		*power = state;

	return told;
}

int __importer_map(int importer)
{
	return pwrite(importer, "map", 3, 0) == 3 ? 0 : -errno;
}

void importer_map(int importer)
{
	VFIO_ASSERT_EQ(__importer_map(importer), 0);
}

void importer_unmap(int importer)
{
	VFIO_ASSERT_EQ(pwrite(importer, "unmap", 5, 0), 5);
}

int dma_buf_hold(const char *bdf, int dmabuf_fd, bool mapping)
{
	int fd = mapping ? importer_create(bdf, dmabuf_fd) : fence_create();

	if (fd < 0)
		return fd;
	if (mapping)
		importer_map(fd);
	else
		fence_add(fd, dmabuf_fd);

	return fd;
}

void dma_buf_let_go(int hold)
{
	VFIO_ASSERT_EQ(close(hold), 0);
}

static int open_and_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -EOPNOTSUPP;
	VFIO_ASSERT_EQ(write(fd, text, strlen(text)), strlen(text));

	return fd;
}

int reservation_hold(int dmabuf_fd)
{
	char text[16];

	snprintf_assert(text, sizeof(text), "%d", dmabuf_fd);
	return open_and_write(MODULE_DIR "reservation", text);
}

int d1_allow(const char *bdf)
{
	return open_and_write(MODULE_DIR "d1", bdf);
}

int memory_lock_hold(const char *bdf)
{
	return open_and_write(MODULE_DIR "hold", bdf);
}

static int config_set(const char *text)
{
	int fd = open_and_write(MODULE_DIR "config", text);

	if (fd < 0)
		return fd;
	VFIO_ASSERT_EQ(close(fd), 0);

	return 0;
}

int config_write_fail(const char *bdf, int offset)
{
	char text[64];

	snprintf_assert(text, sizeof(text), "%s %d", bdf, offset);
	return config_set(text);
}

void config_write_fail_end(void)
{
	config_set("\n");
}
