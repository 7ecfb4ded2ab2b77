// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VFIO PCI variant driver for devices that misbehave on demand
 *
 * It is vfio-pci, except that its parameters make a device what hardware that
 * is at hand is not. It binds only to a device whose driver_override names it.
 * A parameter takes effect where its description says.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>

static uint nommap;
module_param(nommap, uint, 0644);
MODULE_PARM_DESC(nommap, "Bit mask of the BARs whose mmap() is refused, at open");

static bool non_mappable;
module_param(non_mappable, bool, 0644);
MODULE_PARM_DESC(non_mappable, "Set pci_dev->non_mappable_bars, at probe");

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
	.mmap		= vfio_pci_core_mmap,
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

static const struct vfio_pci_device_ops vfio_pci_test_pci_ops = {
	.get_dmabuf_phys = vfio_pci_core_get_dmabuf_phys,
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
	tdev->core_device.pci_ops = &vfio_pci_test_pci_ops;
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
