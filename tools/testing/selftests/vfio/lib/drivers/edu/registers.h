/* SPDX-License-Identifier: GPL-2.0-only */
/* The educational device of QEMU, see docs/specs/edu in QEMU's source. */
#ifndef SELFTESTS_VFIO_LIB_DRIVERS_EDU_REGISTERS_H
#define SELFTESTS_VFIO_LIB_DRIVERS_EDU_REGISTERS_H

#define EDU_VENDOR_ID		0x1234
#define EDU_DEVICE_ID		0x11e8

/* BAR 0 */
#define EDU_ID			0x00	/* major and minor version, and this: */
#define EDU_ID_MASK		0xffff
#define EDU_ID_VALUE		0x00ed
#define EDU_IRQ_STATUS		0x24
#define EDU_IRQ_RAISE		0x60
#define EDU_IRQ_ACK		0x64

/* 64 bits each */
#define EDU_DMA_SRC		0x80
#define EDU_DMA_DST		0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_CMD		0x98
#define EDU_DMA_RUN		0x01	/* until it is done */
#define EDU_DMA_TO_MEMORY	0x02	/* from the buffer; without it, to the buffer */

/* As the DMA engine addresses it, which alone can reach it. */
#define EDU_BUFFER		0x40000

#endif /* SELFTESTS_VFIO_LIB_DRIVERS_EDU_REGISTERS_H */
