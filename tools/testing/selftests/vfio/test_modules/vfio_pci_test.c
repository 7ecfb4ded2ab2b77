// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VFIO PCI variant driver for devices that misbehave on demand, and for what
 * variant drivers do by themselves
 *
 * It is vfio-pci, except that its parameters make a device what hardware that
 * is at hand is not, and the driver what others are: nvgrace-gpu, which maps
 * BARs itself and exports memory that is in none, or those without an export.
 * It binds only to a device whose driver_override names it. A parameter takes
 * effect where its description says.
 */
#include <linux/align.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>

static uint nommap;
module_param(nommap, uint, 0644);
MODULE_PARM_DESC(nommap, "Bit mask of the BARs whose mmap() is refused, at open");

static bool non_mappable;
module_param(non_mappable, bool, 0644);
MODULE_PARM_DESC(non_mappable, "Set pci_dev->non_mappable_bars, at probe");

static uint own_mmap;
module_param(own_mmap, uint, 0644);
MODULE_PARM_DESC(own_mmap, "Bit mask of the BARs that the driver maps itself, at mmap()");

static int own_memory;
module_param(own_memory, int, 0644);
MODULE_PARM_DESC(own_memory, "Pages from a BAR to the memory that is exported as that BAR, at export");

static uint no_export;
module_param(no_export, uint, 0644);
MODULE_PARM_DESC(no_export, "1: pci_ops without what exports need, 2: no pci_ops, at probe");

struct vfio_pci_test_device {
	struct vfio_pci_core_device core_device;
	/* What remove() puts back. */
	bool was_non_mappable;
};

static int vfio_pci_test_open_device(struct vfio_device *core_vdev)
{
	struct vfio_pci_core_device *vdev =
		container_of(core_vdev, struct vfio_pci_core_device, vdev);
	int ret, bar;

	ret = vfio_pci_core_enable(vdev);
	if (ret)
		return ret;

	vfio_pci_core_finish_enable(vdev);

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (nommap & BIT(bar))
			vdev->bar_mmap_supported[bar] = false;
	}

	return 0;
}

#ifdef VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE
#define fault_lock vfio_pci_core_fault_lock
#else
/* On a kernel for control runs, which may not have the function. */
static vm_fault_t fault_lock(struct vfio_pci_core_device *vdev,
			     struct vm_fault *vmf)
{
	down_read(&vdev->memory_lock);

	return 0;
}
#endif

static unsigned int vma_to_index(struct vm_area_struct *vma)
{
	return vma->vm_pgoff >> (VFIO_PCI_OFFSET_SHIFT - PAGE_SHIFT);
}

/* Where in its region the VMA starts, in pages */
static unsigned long vma_to_start(struct vm_area_struct *vma)
{
	return vma->vm_pgoff & (VFIO_PCI_OFFSET_MASK >> PAGE_SHIFT);
}

static vm_fault_t vfio_pci_test_huge_fault(struct vm_fault *vmf,
					   unsigned int order)
{
	struct vm_area_struct *vma = vmf->vma;
	struct vfio_pci_core_device *vdev = vma->vm_private_data;
	unsigned long addr = ALIGN_DOWN(vmf->address, PAGE_SIZE << order);
	unsigned long pfn;
	vm_fault_t ret;

	pfn = PHYS_PFN(pci_resource_start(vdev->pdev, vma_to_index(vma))) +
	      vma_to_start(vma) + ((addr - vma->vm_start) >> PAGE_SHIFT);
	if (!is_aligned_for_order(vma, addr, pfn, order))
		return VM_FAULT_FALLBACK;

	ret = fault_lock(vdev, vmf);
	if (ret)
		return ret;
	ret = vfio_pci_vmf_insert_pfn(vdev, vmf, pfn, order);
	up_read(&vdev->memory_lock);

	return ret;
}

static vm_fault_t vfio_pci_test_fault(struct vm_fault *vmf)
{
	return vfio_pci_test_huge_fault(vmf, 0);
}

static const struct vm_operations_struct vfio_pci_test_vm_ops = {
	.fault = vfio_pci_test_fault,
#ifdef CONFIG_ARCH_SUPPORTS_HUGE_PFNMAP
	.huge_fault = vfio_pci_test_huge_fault,
#endif
};

/*
 * The VMA keeps the file of the device and gets vm_ops of the driver, so the
 * core knows of it only by the address space of the device.
 */
static int vfio_pci_test_mmap(struct vfio_device *core_vdev,
			      struct vm_area_struct *vma)
{
	struct vfio_pci_core_device *vdev =
		container_of(core_vdev, struct vfio_pci_core_device, vdev);
	unsigned int bar = vma_to_index(vma);
	void __iomem *io;

	if (bar >= PCI_STD_NUM_BARS || !(own_mmap & BIT(bar)))
		return vfio_pci_core_mmap(core_vdev, vma);

	if (!(vma->vm_flags & VM_SHARED) || !vdev->bar_mmap_supported[bar])
		return -EINVAL;
	if (vma_to_start(vma) + vma_pages(vma) >
	    PHYS_PFN(PAGE_ALIGN(pci_resource_len(vdev->pdev, bar))))
		return -EINVAL;

	io = vfio_pci_core_get_iomap(vdev, bar);
	if (IS_ERR(io))
		return PTR_ERR(io);

	vma->vm_private_data = vdev;
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	vma->vm_page_prot = pgprot_decrypted(vma->vm_page_prot);
	vm_flags_set(vma, VM_ALLOW_ANY_UNCACHED | VM_IO | VM_PFNMAP |
			  VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &vfio_pci_test_vm_ops;

	return 0;
}

static const struct vfio_device_ops vfio_pci_test_ops = {
	.name		= "vfio-pci-test",
	.init		= vfio_pci_core_init_dev,
	.release	= vfio_pci_core_release_dev,
	.open_device	= vfio_pci_test_open_device,
	.close_device	= vfio_pci_core_close_device,
	.ioctl		= vfio_pci_core_ioctl,
	.get_region_info_caps = vfio_pci_ioctl_get_region_info,
	.device_feature	= vfio_pci_core_ioctl_feature,
	.read		= vfio_pci_core_read,
	.write		= vfio_pci_core_write,
	.mmap		= vfio_pci_test_mmap,
	.request	= vfio_pci_core_request,
	.match		= vfio_pci_core_match,
	.match_token_uuid = vfio_pci_core_match_token_uuid,
	.bind_iommufd	= vfio_iommufd_physical_bind,
	.unbind_iommufd	= vfio_iommufd_physical_unbind,
	.attach_ioas	= vfio_iommufd_physical_attach_ioas,
	.detach_ioas	= vfio_iommufd_physical_detach_ioas,
	.pasid_attach_ioas = vfio_iommufd_physical_pasid_attach_ioas,
	.pasid_detach_ioas = vfio_iommufd_physical_pasid_detach_ioas,
};

/*
 * The provider is that of the BAR, whatever the memory is. Nothing is done to
 * that memory here, nor by the tests, which do no DMA to it.
 */
static int vfio_pci_test_get_dmabuf_phys(struct vfio_pci_core_device *vdev,
					 struct p2pdma_provider **provider,
					 unsigned int region_index,
					 struct phys_vec *phys_vec,
					 struct vfio_region_dma_range *dma_ranges,
					 size_t nr_ranges)
{
	struct pci_dev *pdev = vdev->pdev;

	if (!own_memory)
		return vfio_pci_core_get_dmabuf_phys(vdev, provider,
						     region_index, phys_vec,
						     dma_ranges, nr_ranges);

	*provider = pcim_p2pdma_provider(pdev, region_index);
	if (!*provider)
		return -EINVAL;

	return vfio_pci_core_fill_phys_vec(phys_vec, dma_ranges, nr_ranges,
					   pci_resource_start(pdev, region_index) +
					   (s64)own_memory * PAGE_SIZE,
					   pci_resource_len(pdev, region_index));
}

static const struct vfio_pci_device_ops vfio_pci_test_pci_ops = {
	.get_dmabuf_phys = vfio_pci_test_get_dmabuf_phys,
};

static const struct vfio_pci_device_ops vfio_pci_test_no_export_ops = {
};

static int vfio_pci_test_probe(struct pci_dev *pdev,
			       const struct pci_device_id *id)
{
	struct vfio_pci_test_device *tdev;
	int ret;

	tdev = vfio_alloc_device(vfio_pci_test_device, core_device.vdev,
				 &pdev->dev, &vfio_pci_test_ops);
	if (IS_ERR(tdev))
		return PTR_ERR(tdev);

	tdev->was_non_mappable = pdev->non_mappable_bars;
	if (non_mappable)
		pdev->non_mappable_bars = true;

	dev_set_drvdata(&pdev->dev, &tdev->core_device);
	if (!no_export)
		tdev->core_device.pci_ops = &vfio_pci_test_pci_ops;
	else if (no_export == 1)
		tdev->core_device.pci_ops = &vfio_pci_test_no_export_ops;
	ret = vfio_pci_core_register_device(&tdev->core_device);
	if (ret)
		goto out_restore;

	return 0;

out_restore:
	pdev->non_mappable_bars = tdev->was_non_mappable;
	vfio_put_device(&tdev->core_device.vdev);
	return ret;
}

static void vfio_pci_test_remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *vdev = dev_get_drvdata(&pdev->dev);
	struct vfio_pci_test_device *tdev =
		container_of(vdev, struct vfio_pci_test_device, core_device);

	vfio_pci_core_unregister_device(vdev);
	pdev->non_mappable_bars = tdev->was_non_mappable;
	vfio_put_device(&vdev->vdev);
}

static const struct pci_device_id vfio_pci_test_table[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{}
};

static struct pci_driver vfio_pci_test_driver = {
	.name			= "vfio-pci-test",
	.id_table		= vfio_pci_test_table,
	.probe			= vfio_pci_test_probe,
	.remove			= vfio_pci_test_remove,
	.err_handler		= &vfio_pci_core_err_handlers,
	.driver_managed_dma	= true,
};

module_pci_driver(vfio_pci_test_driver);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("VFIO PCI variant driver for the VFIO selftests");
