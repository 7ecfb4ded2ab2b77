// SPDX-License-Identifier: GPL-2.0-only
/*
 * The educational device of QEMU
 *
 * Its DMA engine moves data between memory and a buffer of its own, so a copy
 * takes two transfers, and it takes the CPU to start the second one, in
 * memcpy_wait(). Each takes 100 ms, whatever its size.
 *
 * Errors are not reported: what cannot be read is zero, what cannot be written
 * is dropped. By default an address is cut off to 28 bits, and IOVAs can be
 * larger, so the device is to be made with "-device edu,dma_mask=...".
 */
#include <time.h>
#include <unistd.h>

#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/io.h>
#include <linux/pci_regs.h>
#include <linux/sizes.h>

#include <libvfio.h>

#include "registers.h"

/*
 * Half of the buffer: QEMU 7.2 takes the last byte of it to be outside of it,
 * and ends.
 */
#define EDU_MEMCPY_SIZE SZ_2K

/*
 * At 5 copies a second: enough that one follows another and is followed by one,
 * and no more than a test can wait for.
 */
#define EDU_MEMCPY_COUNT 4

struct edu_state {
	iova_t src;
	iova_t dst;
	u64 size;
	u64 count;		/* copies to go, the current one included */
	bool to_memory;		/* the transfer of it that is in progress */

	bool dma_checked;
	u64 dma_target;		/* for the check to write to */
};

static struct edu_state *to_edu_state(struct vfio_pci_device *device)
{
	return device->driver.region.vaddr;
}

static void *edu_registers(struct vfio_pci_device *device)
{
	return device->bars[0].vaddr;
}

/*
 * The device is left alone: it serves many tests that have no use for a driver,
 * and some of them make its BAR unmappable.
 */
static int edu_probe(struct vfio_pci_device *device)
{
	if (!vfio_pci_device_match(device, EDU_VENDOR_ID, EDU_DEVICE_ID) ||
	    !edu_registers(device))
		return -EINVAL;

	return 0;
}

static void edu_dma_start(struct vfio_pci_device *device, u64 src, u64 dst,
			  u64 size, u64 flags)
{
	void *registers = edu_registers(device);

	writeq(src, registers + EDU_DMA_SRC);
	writeq(dst, registers + EDU_DMA_DST);
	writeq(size, registers + EDU_DMA_COUNT);
	writeq(flags | EDU_DMA_RUN, registers + EDU_DMA_CMD);
}

static void edu_dma_wait(struct vfio_pci_device *device)
{
	/*
	 * There is nothing to wait on, the interrupt is the test's; and reads
	 * without a pause would keep a CPU of the host busy.
	 */
	while (readq(edu_registers(device) + EDU_DMA_CMD) & EDU_DMA_RUN)
		usleep(5000);
}

/*
 * Without this, with the default mask, data would silently go to and come from
 * elsewhere. What is in the buffer is unknown: all that can be asked is whether
 * a number that is not there by chance has gone.
 */
static void edu_dma_check(struct vfio_pci_device *device)
{
	struct edu_state *edu = to_edu_state(device);
	struct timespec ts;
	u64 old;

	if (edu->dma_checked)
		return;

	VFIO_ASSERT_EQ(clock_gettime(CLOCK_REALTIME, &ts), 0);
	old = (u64)ts.tv_nsec << 34 ^ ts.tv_sec;
	WRITE_ONCE(edu->dma_target, old);
	edu_dma_start(device, EDU_BUFFER, to_iova(device, &edu->dma_target),
		      sizeof(old), EDU_DMA_TO_MEMORY);
	edu_dma_wait(device);
	VFIO_ASSERT_NE(READ_ONCE(edu->dma_target), old,
		       "%s does not reach IOVA 0x%lx: is its dma_mask too small?\n",
		       device->bdf, to_iova(device, &edu->dma_target));
	edu->dma_checked = true;
}

static void edu_init(struct vfio_pci_device *device)
{
	struct edu_state *edu = to_edu_state(device);

	VFIO_ASSERT_GE(device->driver.region.size, sizeof(*edu));
	VFIO_ASSERT_EQ(readl(edu_registers(device) + EDU_ID) & EDU_ID_MASK,
		       EDU_ID_VALUE);

	/* It has no reset: somebody else's transfer may still be going on. */
	edu_dma_wait(device);
	*edu = (struct edu_state) {};

	vfio_pci_config_writew(device, PCI_COMMAND,
			       PCI_COMMAND_MEMORY |
			       PCI_COMMAND_MASTER |
			       PCI_COMMAND_INTX_DISABLE);

	vfio_pci_msi_enable(device, 0, 1);

	device->driver.msi = 0;
	device->driver.max_memcpy_size = EDU_MEMCPY_SIZE;
	device->driver.max_memcpy_count = EDU_MEMCPY_COUNT;
}

static void edu_remove(struct vfio_pci_device *device)
{
	edu_dma_wait(device);
	vfio_pci_msi_disable(device);
	vfio_pci_config_writew(device, PCI_COMMAND, PCI_COMMAND_MEMORY);
}

static void edu_memcpy_transfer(struct vfio_pci_device *device, bool to_memory)
{
	struct edu_state *edu = to_edu_state(device);

	edu->to_memory = to_memory;
	if (to_memory)
		edu_dma_start(device, EDU_BUFFER, edu->dst, edu->size,
			      EDU_DMA_TO_MEMORY);
	else
		edu_dma_start(device, edu->src, EDU_BUFFER, edu->size, 0);
}

static void edu_memcpy_start(struct vfio_pci_device *device,
			     iova_t src, iova_t dst, u64 size, u64 count)
{
	struct edu_state *edu = to_edu_state(device);

	edu_dma_check(device);

	edu->src = src;
	edu->dst = dst;
	edu->size = size;
	edu->count = count;
	if (count)
		edu_memcpy_transfer(device, false);
}

static int edu_memcpy_wait(struct vfio_pci_device *device)
{
	struct edu_state *edu = to_edu_state(device);

	while (edu->count) {
		edu_dma_wait(device);
		if (!edu->to_memory)
			edu_memcpy_transfer(device, true);
		else if (--edu->count)
			edu_memcpy_transfer(device, false);
	}

	return 0;
}

static void edu_send_msi(struct vfio_pci_device *device)
{
	void *registers = edu_registers(device);
	u32 status;

	/* Any bit does it, and stays set until it is acknowledged. */
	writel(1, registers + EDU_IRQ_RAISE);
	status = readl(registers + EDU_IRQ_STATUS);
	VFIO_ASSERT_EQ(status, 1);
	writel(status, registers + EDU_IRQ_ACK);
}

const struct vfio_pci_driver_ops edu_ops = {
	.name = "edu",
	.probe = edu_probe,
	.init = edu_init,
	.remove = edu_remove,
	.memcpy_start = edu_memcpy_start,
	.memcpy_wait = edu_memcpy_wait,
	.send_msi = edu_send_msi,
};
