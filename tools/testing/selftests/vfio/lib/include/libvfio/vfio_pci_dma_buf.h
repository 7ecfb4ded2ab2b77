/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_DMA_BUF_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_DMA_BUF_H

#include <linux/types.h>
#include <linux/vfio.h>

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

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_DMA_BUF_H */
