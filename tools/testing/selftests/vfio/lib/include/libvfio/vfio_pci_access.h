/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_ACCESS_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_ACCESS_H

#include <stdbool.h>

#include <linux/types.h>

#include <libvfio/vfio_pci_device.h>

/*
 * What takes the BARs of a device out of reach and gives them back, and ways to
 * what is in them that do not depend on a mapping.
 *
 * The __ forms return 0 or -errno.
 */

/* The offset of a capability in config space, 0 if the device has none. */
u16 vfio_pci_cap_find(struct vfio_pci_device *device, u8 id);

/* PCI_COMMAND_MEMORY */
int __vfio_pci_decode_set(struct vfio_pci_device *device, bool on);
void vfio_pci_decode_set(struct vfio_pci_device *device, bool on);

/*
 * The power state by the PM capability, 0 for D0 and 3 for D3hot.
 *
 * Return: -ENODEV if the device has no such capability.
 */
int __vfio_pci_power_state_set(struct vfio_pci_device *device, u8 state);
int vfio_pci_power_state_get(struct vfio_pci_device *device);

/* VFIO_DEVICE_FEATURE_LOW_POWER_*, with a wake-up if @eventfd is not negative. */
int __vfio_pci_low_power_enter(struct vfio_pci_device *device, int eventfd);
int __vfio_pci_low_power_exit(struct vfio_pci_device *device);

/* Is the device asleep? Nothing tells when it has gone to sleep. */
bool sysfs_is_suspended(const char *bdf);

/*
 * VFIO_DEVICE_RESET; FLR by config space, which is -ENODEV if the device has
 * none; the "reset" file in sysfs; that of the port above, for all below it.
 */
int __vfio_pci_reset(struct vfio_pci_device *device);
int __vfio_pci_flr(struct vfio_pci_device *device);
int __sysfs_reset(const char *bdf);
int __sysfs_bus_reset(const char *bdf);

/*
 * An eventfd for what is not an interrupt: VFIO_PCI_ERR_IRQ_INDEX,
 * VFIO_PCI_REQ_IRQ_INDEX. -1 if the device has no such event.
 */
int vfio_pci_event_open(struct vfio_pci_device *device, u32 index);

/* Write to a file of the device in sysfs. */
int __sysfs_write(const char *bdf, const char *attribute, const char *text);

/*
 * Have the port above the device report an error, which is recovered from if it
 * is fatal by a reset of all that is below the port.
 *
 * Return: -EOPNOTSUPP if the kernel cannot inject errors, -ENODEV or
 * -EPROTONOSUPPORT if there is no port that could report one.
 */
int __port_error_inject(const char *bdf, bool fatal);

/* VFIO_DEVICE_PCI_HOT_RESET by whatever the device was opened with. */
int __vfio_pci_hot_reset(struct vfio_pci_device *device);

/*
 * The first mappable BAR of at least @size bytes, one that keeps what is
 * written to it if @ram.
 *
 * Return: -1 if there is none.
 */
int vfio_pci_bar_find(struct vfio_pci_device *device, u64 size, bool ram);

/* Where @offset of @bar is in the file that the device fd stands for. */
static inline u64 vfio_pci_bar_pos(struct vfio_pci_device *device, u32 bar,
				   u64 offset)
{
	return device->bars[bar].info.offset + offset;
}

/* Without a mapping, by read() and write(). */
u32 vfio_pci_bar_read32(struct vfio_pci_device *device, u32 bar, u64 offset);
void vfio_pci_bar_write32(struct vfio_pci_device *device, u32 bar, u64 offset,
			  u32 val);

/*
 * VFIO_DEVICE_IOEVENTFD: whenever the eventfd @fd is signalled the kernel writes
 * @val, of 32 bits, to what vfio_pci_bar_pos() calls @pos. -1 for @fd ends that.
 */
int __vfio_pci_ioeventfd(struct vfio_pci_device *device, u64 pos, u64 val, int fd);

/* mmap() of a part of a BAR at an address that the kernel chooses. */
void *__vfio_pci_bar_mmap(struct vfio_pci_device *device, u32 bar, u64 offset,
			  u64 size, int prot);
void *vfio_pci_bar_mmap(struct vfio_pci_device *device, u32 bar, u64 offset,
			u64 size);

/* Undo the mappings of whole BARs that vfio_pci_device_init() makes. */
void vfio_pci_bars_unmap(struct vfio_pci_device *device);

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_VFIO_PCI_ACCESS_H */
