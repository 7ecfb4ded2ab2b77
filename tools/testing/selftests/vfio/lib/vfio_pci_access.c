// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/limits.h>
#include <linux/pci_regs.h>
#include <linux/types.h>
#include <linux/vfio.h>

#include <libvfio.h>

static int __config_access(struct vfio_pci_device *device, bool write,
			   size_t offset, size_t size, void *data)
{
	u64 pos = device->config_space.offset + offset;
	ssize_t ret;

	if (write)
		ret = pwrite(device->fd, data, size, pos);
	else
		ret = pread(device->fd, data, size, pos);
	if (ret < 0)
		return -errno;

	VFIO_ASSERT_EQ(ret, size);
	return 0;
}

u16 vfio_pci_cap_find(struct vfio_pci_device *device, u8 id)
{
	int ttl = 48;
	u8 pos;

	if (!(vfio_pci_config_readw(device, PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return 0;

	pos = vfio_pci_config_readb(device, PCI_CAPABILITY_LIST);
	while (pos && ttl--) {
		if (vfio_pci_config_readb(device, pos) == id)
			return pos;
		pos = vfio_pci_config_readb(device, pos + PCI_CAP_LIST_NEXT);
	}

	return 0;
}

int __vfio_pci_decode_set(struct vfio_pci_device *device, bool on)
{
	u16 command;
	int ret;

	ret = __config_access(device, false, PCI_COMMAND, sizeof(command),
			      &command);
	if (ret)
		return ret;

	if (on)
		command |= PCI_COMMAND_MEMORY;
	else
		command &= ~PCI_COMMAND_MEMORY;

	return __config_access(device, true, PCI_COMMAND, sizeof(command),
			       &command);
}

void vfio_pci_decode_set(struct vfio_pci_device *device, bool on)
{
	VFIO_ASSERT_EQ(__vfio_pci_decode_set(device, on), 0);
}

int __vfio_pci_power_state_set(struct vfio_pci_device *device, u8 state)
{
	u16 pos = vfio_pci_cap_find(device, PCI_CAP_ID_PM);
	u16 ctrl;

	if (!pos)
		return -ENODEV;

	ctrl = vfio_pci_config_readw(device, pos + PCI_PM_CTRL);
	ctrl &= ~PCI_PM_CTRL_STATE_MASK;
	ctrl |= state;

	return __config_access(device, true, pos + PCI_PM_CTRL, sizeof(ctrl),
			       &ctrl);
}

int vfio_pci_power_state_get(struct vfio_pci_device *device)
{
	u16 pos = vfio_pci_cap_find(device, PCI_CAP_ID_PM);

	if (!pos)
		return -ENODEV;

	return vfio_pci_config_readw(device, pos + PCI_PM_CTRL) &
	       PCI_PM_CTRL_STATE_MASK;
}

int __vfio_pci_low_power_enter(struct vfio_pci_device *device, int eventfd)
{
	struct vfio_device_low_power_entry_with_wakeup entry = {
		.wakeup_eventfd = eventfd,
	};

	if (eventfd < 0)
		return __vfio_device_feature(device->fd,
					     VFIO_DEVICE_FEATURE_SET |
					     VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
					     NULL, 0);

	return __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_SET |
				     VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
				     &entry, sizeof(entry));
}

int __vfio_pci_low_power_exit(struct vfio_pci_device *device)
{
	return __vfio_device_feature(device->fd, VFIO_DEVICE_FEATURE_SET |
				     VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
				     NULL, 0);
}

bool sysfs_is_suspended(const char *bdf)
{
	char path[PATH_MAX], status[32];
	int fd, len;

	snprintf_assert(path, sizeof(path),
			"/sys/bus/pci/devices/%s/power/runtime_status", bdf);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, status, sizeof(status) - 1);
	close(fd);
	status[len < 0 ? 0 : len] = '\0';

	return !strcmp(status, "suspended\n");
}

int __vfio_pci_reset(struct vfio_pci_device *device)
{
	return ioctl(device->fd, VFIO_DEVICE_RESET) ? -errno : 0;
}

int __vfio_pci_flr(struct vfio_pci_device *device)
{
	u16 pos = vfio_pci_cap_find(device, PCI_CAP_ID_EXP);
	u16 ctl;
	u8 af;

	if (pos && vfio_pci_config_readl(device, pos + PCI_EXP_DEVCAP) &
	    PCI_EXP_DEVCAP_FLR) {
		ctl = vfio_pci_config_readw(device, pos + PCI_EXP_DEVCTL);
		ctl |= PCI_EXP_DEVCTL_BCR_FLR;
		return __config_access(device, true, pos + PCI_EXP_DEVCTL,
				       sizeof(ctl), &ctl);
	}

	pos = vfio_pci_cap_find(device, PCI_CAP_ID_AF);
	if (pos && vfio_pci_config_readb(device, pos + PCI_AF_CAP) &
	    PCI_AF_CAP_FLR) {
		af = PCI_AF_CTRL_FLR;
		return __config_access(device, true, pos + PCI_AF_CTRL,
				       sizeof(af), &af);
	}

	return -ENODEV;
}

int vfio_pci_event_open(struct vfio_pci_device *device, u32 index)
{
	struct {
		struct vfio_irq_set set;
		s32 fd;
	} __packed irq = {
		.set = {
			.argsz = sizeof(irq),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD |
				 VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = index,
			.count = 1,
		},
		.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
	};

	VFIO_ASSERT_GE(irq.fd, 0);
	if (ioctl(device->fd, VFIO_DEVICE_SET_IRQS, &irq)) {
		close(irq.fd);
		return -1;
	}

	return irq.fd;
}

int __sysfs_write(const char *bdf, const char *attribute, const char *text)
{
	char path[PATH_MAX];
	int fd, ret = 0;

	snprintf_assert(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf,
			attribute);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);

	return ret;
}

int __sysfs_reset(const char *bdf)
{
	return __sysfs_write(bdf, "reset", "1");
}

int __sysfs_bus_reset(const char *bdf)
{
	return __sysfs_write(bdf, "../reset_subordinate", "1");
}

int __port_error_inject(const char *bdf, bool fatal)
{
	/* Of drivers/pci/pcie/aer_inject.c, which has no header */
	struct {
		u8 bus, dev, fn;
		u32 uncor_status, cor_status, header_log[4], domain;
	} error = {
		.uncor_status = fatal ? PCI_ERR_UNC_DLP : PCI_ERR_UNC_COMP_TIME,
	};
	unsigned int domain, bus, dev, fn;
	char path[PATH_MAX], *device;
	int fd, ret = 0;

	snprintf_assert(path, sizeof(path), "/sys/bus/pci/devices/%s/..", bdf);
	device = realpath(path, NULL);
	VFIO_ASSERT_NOT_NULL(device);
	ret = sscanf(basename(device), "%x:%x:%x.%x", &domain, &bus, &dev, &fn);
	free(device);
	if (ret != 4)
		return -ENODEV;

	error.domain = domain;
	error.bus = bus;
	error.dev = dev;
	error.fn = fn;

	fd = open("/dev/aer_inject", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -EOPNOTSUPP;
	ret = write(fd, &error, sizeof(error)) < 0 ? -errno : 0;
	close(fd);

	return ret;
}

int __vfio_pci_hot_reset(struct vfio_pci_device *device)
{
	u64 buf[DIV_ROUND_UP(sizeof(struct vfio_pci_hot_reset) + sizeof(s32),
			     sizeof(u64))] = {};
	struct vfio_pci_hot_reset *reset = (void *)buf;

	reset->argsz = sizeof(*reset);
	/* Ownership is proven by the group, or by the iommufd. */
	if (device->group_fd) {
		reset->argsz += sizeof(s32);
		reset->count = 1;
		reset->group_fds[0] = device->group_fd;
	}

	return ioctl(device->fd, VFIO_DEVICE_PCI_HOT_RESET, reset) ? -errno : 0;
}

u32 vfio_pci_bar_read32(struct vfio_pci_device *device, u32 bar, u64 offset)
{
	u32 val;

	VFIO_ASSERT_EQ(pread(device->fd, &val, sizeof(val),
			     vfio_pci_bar_pos(device, bar, offset)), sizeof(val));
	return val;
}

void vfio_pci_bar_write32(struct vfio_pci_device *device, u32 bar, u64 offset,
			  u32 val)
{
	VFIO_ASSERT_EQ(pwrite(device->fd, &val, sizeof(val),
			      vfio_pci_bar_pos(device, bar, offset)), sizeof(val));
}

/*
 * Only prefetchable memory may be tried: a write to it has no side effects. The
 * end of the BAR is least likely to be something else after all.
 */
static bool bar_is_ram(struct vfio_pci_device *device, u32 bar)
{
	u64 offset = device->bars[bar].info.size - sizeof(u32);
	u32 reg, old;
	bool ram;

	reg = vfio_pci_config_readl(device, PCI_BASE_ADDRESS_0 + 4 * bar);
	if (reg & PCI_BASE_ADDRESS_SPACE || !(reg & PCI_BASE_ADDRESS_MEM_PREFETCH))
		return false;

	old = vfio_pci_bar_read32(device, bar, offset);
	vfio_pci_bar_write32(device, bar, offset, ~old);
	ram = vfio_pci_bar_read32(device, bar, offset) == ~old;
	vfio_pci_bar_write32(device, bar, offset, old);

	return ram && vfio_pci_bar_read32(device, bar, offset) == old;
}

int vfio_pci_bar_find(struct vfio_pci_device *device, u64 size, bool ram)
{
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		struct vfio_region_info *info = &device->bars[bar].info;

		if (!(info->flags & VFIO_REGION_INFO_FLAG_MMAP) ||
		    info->size < size)
			continue;
		if (!ram || bar_is_ram(device, bar))
			return bar;
	}

	return -1;
}

int __vfio_pci_ioeventfd(struct vfio_pci_device *device, u64 pos, u64 val, int fd)
{
	struct vfio_device_ioeventfd ioeventfd = {
		.argsz = sizeof(ioeventfd),
		.flags = VFIO_DEVICE_IOEVENTFD_32,
		.offset = pos,
		.data = val,
		.fd = fd,
	};

	return ioctl(device->fd, VFIO_DEVICE_IOEVENTFD, &ioeventfd) ? -errno : 0;
}

void *__vfio_pci_bar_mmap(struct vfio_pci_device *device, u32 bar, u64 offset,
			  u64 size, int prot)
{
	return mmap(NULL, size, prot, MAP_SHARED, device->fd,
		    vfio_pci_bar_pos(device, bar, offset));
}

void *vfio_pci_bar_mmap(struct vfio_pci_device *device, u32 bar, u64 offset,
			u64 size)
{
	void *vaddr = __vfio_pci_bar_mmap(device, bar, offset, size,
					  PROT_READ | PROT_WRITE);

	VFIO_ASSERT_NE(vaddr, MAP_FAILED, "Failed to map BAR %u\n", bar);
	return vaddr;
}

void vfio_pci_bars_unmap(struct vfio_pci_device *device)
{
	int i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct vfio_pci_bar *bar = &device->bars[i];

		if (!bar->vaddr)
			continue;
		VFIO_ASSERT_EQ(munmap(bar->vaddr, bar->info.size), 0);
		bar->vaddr = NULL;
	}
}
