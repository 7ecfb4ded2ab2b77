/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_DMA_BUF_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_DMA_BUF_H

#include <linux/types.h>
#include <linux/vfio.h>

#include <libvfio/iommu.h>
#include <libvfio/vfio_pci_device.h>

/*
 * Export @nr_ranges parts of @bar as one DMA-BUF. The caller closes the fd.
 *
 * Return: the fd, or -errno.
 */
int __vfio_pci_dma_buf_export_ranges(struct vfio_pci_device *device, u32 bar,
				     u32 open_flags,
				     const struct vfio_region_dma_range *ranges,
				     u32 nr_ranges);

/* The same for one range, open for reading and writing. */
int __vfio_pci_dma_buf_export(struct vfio_pci_device *device, u32 bar,
			      u64 offset, u64 length);
int vfio_pci_dma_buf_export(struct vfio_pci_device *device, u32 bar,
			    u64 offset, u64 length);

/*
 * VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE and VFIO_DEVICE_FEATURE_DMA_BUF_MEMATTR.
 *
 * Return: 0, or -errno.
 */
int __vfio_pci_dma_buf_revoke(struct vfio_pci_device *device, int fd);
void vfio_pci_dma_buf_revoke(struct vfio_pci_device *device, int fd);
int __vfio_pci_dma_buf_memattr_set(struct vfio_pci_device *device, int fd,
				   u32 memattr);
void vfio_pci_dma_buf_memattr_set(struct vfio_pci_device *device, int fd,
				  u32 memattr);

/* mmap() of the fd, at an address that the kernel chooses. */
void *__vfio_pci_dma_buf_mmap(int fd, u64 offset, u64 size, int prot);
void *vfio_pci_dma_buf_mmap(int fd, u64 offset, u64 size);

/*
 * Have iommufd import @size bytes from the start of the buffer, and map them at
 * @iova. Only for the mode "iommufd".
 *
 * Return: 0, or -errno.
 */
int __iommu_map_dma_buf(struct iommu *iommu, int fd, u64 size, iova_t iova);
int __iommu_unmap_dma_buf(struct iommu *iommu, iova_t iova, u64 size);

/*
 * Whether the device can reach @iova, by the page table of its IOMMU.
 *
 * Return: 1 or 0, -EOPNOTSUPP if the IOMMU does not tell.
 */
int iommu_translates(const char *bdf, iova_t iova);

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_DMA_BUF_H */
