// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>
#include <linux/vfio.h>

#include <libvfio.h>

int __vfio_pci_dma_buf_export_ranges(struct vfio_pci_device *device, u32 bar,
				     u32 open_flags,
				     const struct vfio_region_dma_range *ranges,
				     u32 nr_ranges)
{
	size_t size = sizeof(struct vfio_device_feature_dma_buf) +
		      sizeof(*ranges) * nr_ranges;
	struct vfio_device_feature_dma_buf *dma_buf;
	int ret;

	dma_buf = calloc_assert(1, size);
	dma_buf->region_index = bar;
	dma_buf->open_flags = open_flags;
	dma_buf->nr_ranges = nr_ranges;
	memcpy(dma_buf->dma_ranges, ranges, sizeof(*ranges) * nr_ranges);

	ret = __vfio_device_feature(device->fd,
				    VFIO_DEVICE_FEATURE_GET |
				    VFIO_DEVICE_FEATURE_DMA_BUF,
				    dma_buf, size);
	free(dma_buf);

	return ret;
}

int __vfio_pci_dma_buf_export(struct vfio_pci_device *device, u32 bar,
			      u64 offset, u64 length)
{
	const struct vfio_region_dma_range range = {
		.offset = offset,
		.length = length,
	};

	return __vfio_pci_dma_buf_export_ranges(device, bar,
						O_RDWR | O_CLOEXEC, &range, 1);
}

int vfio_pci_dma_buf_export(struct vfio_pci_device *device, u32 bar,
			    u64 offset, u64 length)
{
	int fd = __vfio_pci_dma_buf_export(device, bar, offset, length);

	VFIO_ASSERT_GE(fd, 0, "Failed to export BAR %u\n", bar);
	return fd;
}
