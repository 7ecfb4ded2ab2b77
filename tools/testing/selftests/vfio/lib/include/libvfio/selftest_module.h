/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_SELFTEST_MODULE_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_SELFTEST_MODULE_H

#include <stdbool.h>

#include <linux/types.h>

/*
 * What the module vfio_selftest sees and does. Everything gives -EOPNOTSUPP if
 * it is not loaded, which is what to skip a test for.
 */

/* What the page tables say about an address. -ENOENT if nothing is mapped. */
struct pfnmap {
	u64 pfn;
	u64 page_size;
	bool writable;
	char cache[8];		/* "nc", "wc" or "other" */
};

int pfnmap_get(const void *addr, struct pfnmap *pfnmap);

/*
 * An fd of the file behind a mapping, and whether the mapping has
 * VM_ALLOW_ANY_UNCACHED.
 */
int vma_file_get(const void *addr, bool *uncached);

/*
 * A fence that is not signalled until fence_signal(). Return: an fd of it.
 * fence_add() makes all who wait for a DMA-BUF wait for the fence, too.
 */
int fence_create(void);
void fence_add(int fence, int dmabuf_fd);
void fence_signal(int fence);

/*
 * An importer of a DMA-BUF, which lets go at once when it is told to. Return: an
 * fd, to be closed to get rid of it.
 *
 * importer_told() is how many times that has happened, with the power state that
 * the device was in the last time.
 */
int __importer_create(const char *bdf, int dmabuf_fd);
int importer_create(const char *bdf, int dmabuf_fd);
int importer_told(int importer, int *power);

/* It maps the DMA-BUF, and does not let go before importer_unmap() or its end. */
int __importer_map(int importer);
void importer_map(int importer);
void importer_unmap(int importer);

/*
 * Keep who revokes a DMA-BUF that has an importer waiting until dma_buf_let_go(): by
 * a fence, or an importer of its own with a @mapping. Return: an fd.
 */
int dma_buf_hold(const char *bdf, int dmabuf_fd, bool mapping);
void dma_buf_let_go(int hold);

/* Hold the reservation lock of the DMA-BUF until the returned fd is closed. */
int reservation_hold(int dmabuf_fd);

/* Let the device enter D1, until the returned fd is closed. */
int d1_allow(const char *bdf);

/* Keep who wants the device's memory_lock for write waiting, until the fd is closed. */
int memory_lock_hold(const char *bdf);

/* Make the next write to @offset of the device's config space fail. */
int config_write_fail(const char *bdf, int offset);
void config_write_fail_end(void);

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_SELFTEST_MODULE_H */
