// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which page of a BAR is behind a page of a buffer.
 *
 * A buffer is the concatenation of ranges of physical memory.  Ranges that are
 * neighbours both in the buffer and in physical memory make one extent, so that
 * an extent is as long as it can be.  That is what decides about huge pages.
 *
 * The extents are in an array, in the order in which they are in the buffer.
 * One more entry, of which only @pgoff means anything, says where the last one
 * ends.  Most buffers have one extent, which takes no memory of its own.
 */

#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/slab.h>

#include "vfio_pci_priv.h"

/**
 * vfio_pci_extents_init - find the extents of a buffer
 * @extents: to be filled
 * @vec: the ranges, whole pages each
 * @nr: their number, at least one
 *
 * Return: 0, or -ENOMEM, in which case there is nothing to free.
 */
int vfio_pci_extents_init(struct vfio_pci_extents *extents,
			  const struct phys_vec *vec, unsigned int nr)
{
	struct vfio_pci_extent *ext;
	unsigned long pgoff = 0;
	unsigned int i, n = 1;

	for (i = 1; i < nr; i++)
		n += vec[i - 1].paddr + vec[i - 1].len != vec[i].paddr;

	extents->nr = n;
	extents->ext = extents->single;
	if (n > 1) {
		extents->ext = kvmalloc_objs(*extents->ext, (size_t)n + 1,
					     GFP_KERNEL_ACCOUNT);
		if (!extents->ext)
			return -ENOMEM;
	}

	ext = extents->ext;
	for (i = 0; i < nr; i++) {
		if (!i || vec[i - 1].paddr + vec[i - 1].len != vec[i].paddr) {
			ext->pgoff = pgoff;
			ext->pfn = PHYS_PFN(vec[i].paddr);
			ext++;
		}
		pgoff += vec[i].len >> PAGE_SHIFT;
	}
	ext->pgoff = pgoff;
	ext->pfn = 0;

	return 0;
}

void vfio_pci_extents_init_one(struct vfio_pci_extents *extents,
			       phys_addr_t paddr, unsigned long nr_pages)
{
	extents->nr = 1;
	extents->ext = extents->single;
	extents->single[0].pgoff = 0;
	extents->single[0].pfn = PHYS_PFN(paddr);
	extents->single[1].pgoff = nr_pages;
	extents->single[1].pfn = 0;
}

void vfio_pci_extents_free(struct vfio_pci_extents *extents)
{
	if (extents->ext != extents->single)
		kvfree(extents->ext);
}

/**
 * vfio_pci_extent_find - find the extent that a page of a buffer is in
 * @extents: those of the buffer
 * @pgoff: the page, which may be none of the buffer
 *
 * Takes a time that grows with the logarithm of the number of extents.
 *
 * Return: the extent, which ends where the entry after it begins, or NULL.
 */
const struct vfio_pci_extent *
vfio_pci_extent_find(const struct vfio_pci_extents *extents,
		     unsigned long pgoff)
{
	const struct vfio_pci_extent *ext = extents->ext;
	unsigned int nr = extents->nr;

	if (pgoff >= ext[nr].pgoff)
		return NULL;

	/* What is looked for is one of the nr entries from ext on */
	while (nr > 1) {
		unsigned int half = nr / 2;

		if (pgoff >= ext[half].pgoff)
			ext += half;
		nr -= half;
	}

	return ext;
}

/**
 * vfio_pci_extents_pfn - find the PFN for a fault
 * @extents: those of the buffer
 * @vmf: the fault
 * @order: the size of the page that is asked for
 * @base: the page offset in the VMA's file where the buffer begins
 * @pfn: where to put the result
 *
 * Return: 0, VM_FAULT_FALLBACK if a page of that size is not to be had here,
 * VM_FAULT_SIGBUS if the address is none of the buffer.
 */
vm_fault_t vfio_pci_extents_pfn(const struct vfio_pci_extents *extents,
				struct vm_fault *vmf, unsigned int order,
				unsigned long base, unsigned long *pfn)
{
	unsigned long addr = vmf->address & ~((PAGE_SIZE << order) - 1);
	struct vm_area_struct *vma = vmf->vma;
	const struct vfio_pci_extent *ext;
	unsigned long pgoff;

	if (order && (addr < vma->vm_start ||
		      addr + (PAGE_SIZE << order) > vma->vm_end))
		return VM_FAULT_FALLBACK;

	pgoff = vma->vm_pgoff + ((addr - vma->vm_start) >> PAGE_SHIFT) - base;
	ext = vfio_pci_extent_find(extents, pgoff);
	if (unlikely(!ext))
		return VM_FAULT_SIGBUS;

	*pfn = ext->pfn + (pgoff - ext->pgoff);

	if (order && (ext[1].pgoff - pgoff < 1UL << order ||
		      !IS_ALIGNED(*pfn, 1UL << order)))
		return VM_FAULT_FALLBACK;

	return 0;
}
