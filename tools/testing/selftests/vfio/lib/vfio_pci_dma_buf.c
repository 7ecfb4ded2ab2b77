// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/iommufd.h>
#include <linux/limits.h>
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

int __vfio_pci_dma_buf_revoke(struct vfio_pci_device *device, int fd)
{
	const struct vfio_device_feature_dma_buf_revoke revoke = {
		.dmabuf_fd = fd,
	};

	return __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_SET |
				     VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE,
				     &revoke, sizeof(revoke));
}

void vfio_pci_dma_buf_revoke(struct vfio_pci_device *device, int fd)
{
	VFIO_ASSERT_EQ(__vfio_pci_dma_buf_revoke(device, fd), 0);
}

int __vfio_pci_dma_buf_memattr_set(struct vfio_pci_device *device, int fd,
				   u32 memattr)
{
	const struct vfio_device_feature_dma_buf_memattr attr = {
		.dmabuf_fd = fd,
		.memattr = memattr,
	};

	return __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_SET |
				     VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR,
				     &attr, sizeof(attr));
}

void vfio_pci_dma_buf_memattr_set(struct vfio_pci_device *device, int fd,
				  u32 memattr)
{
	VFIO_ASSERT_EQ(__vfio_pci_dma_buf_memattr_set(device, fd, memattr), 0);
}

void *__vfio_pci_dma_buf_mmap(int fd, u64 offset, u64 size, int prot)
{
	return mmap(NULL, size, prot, MAP_SHARED, fd, offset);
}

void *vfio_pci_dma_buf_mmap(int fd, u64 offset, u64 size)
{
	void *vaddr = __vfio_pci_dma_buf_mmap(fd, offset, size,
					      PROT_READ | PROT_WRITE);

	VFIO_ASSERT_NE(vaddr, MAP_FAILED, "Failed to map DMA-BUF fd %d\n", fd);
	return vaddr;
}

int __iommu_map_dma_buf(struct iommu *iommu, int fd, u64 size, iova_t iova)
{
	struct iommu_ioas_map_file args = {
		.size = sizeof(args),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_FIXED_IOVA,
		.ioas_id = iommu->ioas_id,
		.fd = fd,
		.length = size,
		.iova = iova,
	};

	VFIO_ASSERT_NE(iommu->iommufd, 0);
	return ioctl(iommu->iommufd, IOMMU_IOAS_MAP_FILE, &args) ? -errno : 0;
}

int __iommu_unmap_dma_buf(struct iommu *iommu, iova_t iova, u64 size)
{
	struct iommu_ioas_unmap args = {
		.size = sizeof(args),
		.ioas_id = iommu->ioas_id,
		.iova = iova,
		.length = size,
	};

	return ioctl(iommu->iommufd, IOMMU_IOAS_UNMAP, &args) ? -errno : 0;
}

int iommu_translates(const char *bdf, iova_t iova)
{
	char path[PATH_MAX], line[256];
	unsigned long pfn;
	int ret = 0;
	FILE *dump;

	snprintf_assert(path, sizeof(path),
			"/sys/kernel/debug/iommu/intel/%s/domain_translation_struct",
			bdf);
	dump = fopen(path, "re");
	if (!dump)
		return -EOPNOTSUPP;

	/* IOVA_PFN | ..., in units of 4 KiB */
	while (!ret && fgets(line, sizeof(line), dump))
		ret = sscanf(line, "%lx |", &pfn) == 1 && pfn == iova >> 12;
	fclose(dump);

	return ret;
}
