// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the VFIO selftests cannot see or do from userspace
 *
 * Files in debugfs, in a directory of the module's name:
 *
 *   pfnmap  What the page tables of the caller say about a PFN mapping. What is
 *           in vm_page_prot is not always what ends up there. Write an address,
 *           read "pfn PFN size SIZE writable 0|1 cache nc|wc|other", numbers in
 *           hexadecimal. The write fails with ENOENT where nothing is mapped.
 *   vma     What userspace cannot see of a mapping of the caller. Write an address,
 *           read "uncached 0|1 fd FD": whether KVM may map it uncached in any way,
 *           and an fd of the file that is behind it.
 *   fence   Read an fd, in decimal: a sync_file with a fence that is signalled
 *           when the file that it was read from is closed, or after 15 seconds,
 *           because who waits for it may be the one who should close that.
 *   config  Write "DEVICE OFFSET", the device as in sysfs: the next write to
 *           this offset of its config space fails, with what is written to. An
 *           empty line calls it off.
 *   importer  Write "DEVICE FD": the device that has exported this DMA-BUF gets
 *           an importer of it, until the file is closed. Read "told COUNT power
 *           STATE": how many times it has been told to let go, and the power
 *           state that the device was in when that happened last. Write "map":
 *           it maps the DMA-BUF, whatever it is told, until "unmap" is written, the
 *           file is closed, or 15 seconds have passed, as with a fence.
 *   reservation  Write an fd of a DMA-BUF, in decimal: its reservation lock is held
 *           until the file is closed.
 *   d1      Write "DEVICE": it can enter D1, even if it does not say so, until
 *           the file is closed.
 *   hold    Write "DEVICE": the memory_lock of it is held for read, as by who
 *           accesses it, until the file is closed. vfio-pci must have the device
 *           open.
 *
 * And a PCI driver of the module's name, for a device whose driver_override names
 * it. All that it does is to want a reset of the link after any error.
 *
 * With the parameter "race" two threads race for a variable for so many seconds
 * before the module is loaded: what KCSAN must report.  With "leak" it forgets some
 * memory then: what kmemleak must report.
 */
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/sync_file.h>
#include <linux/uaccess.h>
#include <linux/vfio_pci_core.h>
#include <linux/workqueue.h>

MODULE_IMPORT_NS("DMA_BUF");

static struct dentry *vfio_selftest_dir;

/* Read @text and an fd of a file, whose reference goes here. Once. */
static ssize_t read_fd(char __user *buf, size_t count, loff_t *ppos,
		       const char *text, struct file *file)
{
	char line[32];
	ssize_t ret = 0;
	int fd, len;

	if (*ppos)
		goto err_file;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		ret = fd;
		goto err_file;
	}

	len = scnprintf(line, sizeof(line), "%s%d\n", text, fd);
	ret = simple_read_from_buffer(buf, count, ppos, line, len);
	if (ret != len) {
		ret = ret < 0 ? ret : -EINVAL;
		goto err_fd;
	}

	fd_install(fd, file);
	return ret;

err_fd:
	put_unused_fd(fd);
err_file:
	fput(file);
	return ret;
}

/* pfnmap */

struct pfnmap_answer {
	size_t len;
	char text[96];
};

/* Only the bits that tell the two apart: a huge page puts others elsewhere. */
static const char *cache_name(pgprot_t prot)
{
	pgprot_t nc = pgprot_noncached(__pgprot(0));
	pgprot_t wc = pgprot_writecombine(__pgprot(0));
	u64 mask = pgprot_val(nc) ^ pgprot_val(wc);

	if (!((pgprot_val(prot) ^ pgprot_val(nc)) & mask))
		return "nc";
	if (!((pgprot_val(prot) ^ pgprot_val(wc)) & mask))
		return "wc";

	return "other";
}

static int pfnmap_open(struct inode *inode, struct file *file)
{
	file->private_data = kzalloc_obj(struct pfnmap_answer);

	return file->private_data ? 0 : -ENOMEM;
}

static int pfnmap_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);

	return 0;
}

static ssize_t pfnmap_write(struct file *file, const char __user *buf,
			    size_t count, loff_t *ppos)
{
	struct pfnmap_answer *answer = file->private_data;
	struct follow_pfnmap_args args = {};
	struct mm_struct *mm = current->mm;
	unsigned long address;
	int ret;

	ret = kstrtoul_from_user(buf, count, 0, &address);
	if (ret)
		return ret;

	mmap_read_lock(mm);
	args.vma = vma_lookup(mm, address);
	args.address = address;
	if (!args.vma || follow_pfnmap_start(&args)) {
		mmap_read_unlock(mm);
		return -ENOENT;
	}

	answer->len = scnprintf(answer->text, sizeof(answer->text),
				"pfn %lx size %lx writable %d cache %s\n",
				args.pfn, ~args.addr_mask + 1, args.writable,
				cache_name(args.pgprot));
	follow_pfnmap_end(&args);
	mmap_read_unlock(mm);

	return count;
}

static ssize_t pfnmap_read(struct file *file, char __user *buf, size_t count,
			   loff_t *ppos)
{
	struct pfnmap_answer *answer = file->private_data;

	return simple_read_from_buffer(buf, count, ppos, answer->text,
				       answer->len);
}

static const struct file_operations pfnmap_fops = {
	.owner = THIS_MODULE,
	.open = pfnmap_open,
	.release = pfnmap_release,
	.write = pfnmap_write,
	.read = pfnmap_read,
	.llseek = default_llseek,
};

/* vma */

struct vma_answer {
	struct file *file;
	bool uncached;
};

static int vma_open(struct inode *inode, struct file *file)
{
	file->private_data = kzalloc_obj(struct vma_answer);

	return file->private_data ? 0 : -ENOMEM;
}

static int vma_release(struct inode *inode, struct file *file)
{
	struct vma_answer *answer = file->private_data;

	if (answer->file)
		fput(answer->file);
	kfree(answer);

	return 0;
}

static ssize_t vma_write(struct file *file, const char __user *buf,
			 size_t count, loff_t *ppos)
{
	struct vma_answer *answer = file->private_data;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	unsigned long address;
	int ret;

	ret = kstrtoul_from_user(buf, count, 0, &address);
	if (ret)
		return ret;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, address);
	if (!vma || !vma->vm_file) {
		ret = -ENOENT;
	} else if (answer->file) {
		ret = -EBUSY;
	} else {
		answer->file = get_file(vma->vm_file);
		answer->uncached = vma->vm_flags & VM_ALLOW_ANY_UNCACHED;
	}
	mmap_read_unlock(mm);

	return ret ?: count;
}

static ssize_t vma_read(struct file *file, char __user *buf, size_t count,
			loff_t *ppos)
{
	struct vma_answer *answer = file->private_data;

	if (!answer->file)
		return -EINVAL;

	return read_fd(buf, count, ppos,
		       answer->uncached ? "uncached 1 fd " : "uncached 0 fd ",
		       get_file(answer->file));
}

static const struct file_operations vma_fops = {
	.owner = THIS_MODULE,
	.open = vma_open,
	.release = vma_release,
	.write = vma_write,
	.read = vma_read,
	.llseek = default_llseek,
};

/* fence */

#define FENCE_SECONDS 15

struct test_fence {
	struct dma_fence *fence;
	struct delayed_work timeout;
};

static void test_fence_timeout(struct work_struct *work)
{
	struct test_fence *test = container_of(to_delayed_work(work),
					       struct test_fence, timeout);

	dma_fence_signal(test->fence);
}

static const char *test_fence_name(struct dma_fence *fence)
{
	return KBUILD_MODNAME;
}

static const struct dma_fence_ops test_fence_ops = {
	.get_driver_name = test_fence_name,
	.get_timeline_name = test_fence_name,
};

static int fence_open(struct inode *inode, struct file *file)
{
	struct test_fence *test = kzalloc_obj(*test);

	if (!test)
		return -ENOMEM;

	test->fence = kzalloc_obj(*test->fence);
	if (!test->fence) {
		kfree(test);
		return -ENOMEM;
	}

	dma_fence_init(test->fence, &test_fence_ops, NULL,
		       dma_fence_context_alloc(1), 1);
	INIT_DELAYED_WORK(&test->timeout, test_fence_timeout);
	schedule_delayed_work(&test->timeout, FENCE_SECONDS * HZ);
	file->private_data = test;

	return 0;
}

static int fence_release(struct inode *inode, struct file *file)
{
	struct test_fence *test = file->private_data;

	cancel_delayed_work_sync(&test->timeout);
	dma_fence_signal(test->fence);
	dma_fence_put(test->fence);
	kfree(test);

	return 0;
}

static ssize_t fence_read(struct file *file, char __user *buf, size_t count,
			  loff_t *ppos)
{
	struct test_fence *test = file->private_data;
	struct sync_file *sync_file = sync_file_create(test->fence);

	if (!sync_file)
		return -ENOMEM;

	return read_fd(buf, count, ppos, "", sync_file->file);
}

static const struct file_operations fence_fops = {
	.owner = THIS_MODULE,
	.open = fence_open,
	.release = fence_release,
	.read = fence_read,
	.llseek = default_llseek,
};

/* The devices that follow are named as in sysfs. */

static struct pci_dev *find_device(const char *name)
{
	unsigned int domain, bus, slot, func;

	if (sscanf(name, "%x:%x:%x.%x", &domain, &bus, &slot, &func) != 4)
		return NULL;

	return pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
}

static int get_text(char *buf, size_t size, const char __user *ubuf,
		    size_t count, loff_t *ppos)
{
	if (*ppos || count >= size)
		return -EINVAL;
	if (copy_from_user(buf, ubuf, count))
		return -EFAULT;
	buf[count] = '\0';

	return 0;
}

static struct pci_dev *find_user_device(const char __user *ubuf, size_t count,
					loff_t *ppos)
{
	struct pci_dev *pdev;
	char buf[64];
	int ret;

	ret = get_text(buf, sizeof(buf), ubuf, count, ppos);
	if (ret)
		return ERR_PTR(ret);
	pdev = find_device(buf);

	return pdev ?: ERR_PTR(-ENODEV);
}

/* config */

static DEFINE_MUTEX(config_mutex);
static struct pci_dev *config_dev;
static struct pci_ops *config_ops;
static int config_offset;
static bool config_failed;

static int config_read(struct pci_bus *bus, unsigned int devfn, int where,
		       int size, u32 *val)
{
	return config_ops->read(bus, devfn, where, size, val);
}

static int config_write(struct pci_bus *bus, unsigned int devfn, int where,
			int size, u32 val)
{
	if (devfn == config_dev->devfn && where == config_offset &&
	    !READ_ONCE(config_failed)) {
		WRITE_ONCE(config_failed, true);
		return PCIBIOS_SET_FAILED;
	}

	return config_ops->write(bus, devfn, where, size, val);
}

static struct pci_ops failing_ops = {
	.read = config_read,
	.write = config_write,
};

static void config_restore(void)
{
	if (!config_dev)
		return;

	pci_bus_set_ops(config_dev->bus, config_ops);
	/* Who is in one of the functions above holds a spinlock. */
	synchronize_rcu();
	pci_dev_put(config_dev);
	config_dev = NULL;
}

static ssize_t config_file_write(struct file *file, const char __user *ubuf,
				 size_t count, loff_t *ppos)
{
	struct pci_dev *pdev;
	char buf[64];
	int ret, offset;

	ret = get_text(buf, sizeof(buf), ubuf, count, ppos);
	if (ret)
		return ret;

	guard(mutex)(&config_mutex);
	config_restore();
	if (!strim(buf)[0])
		return count;

	if (sscanf(buf, "%*s %i", &offset) != 1)
		return -EINVAL;
	pdev = find_device(buf);
	if (!pdev)
		return -ENODEV;

	config_dev = pdev;
	config_offset = offset;
	config_failed = false;
	config_ops = pdev->bus->ops;
	failing_ops.add_bus = config_ops->add_bus;
	failing_ops.remove_bus = config_ops->remove_bus;
	failing_ops.map_bus = config_ops->map_bus;
	pci_bus_set_ops(pdev->bus, &failing_ops);

	return count;
}

static const struct file_operations config_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = config_file_write,
};

/* importer */

struct importer {
	struct mutex mutex;		/* what follows, until it is told */
	struct dma_buf_attachment *attachment;
	struct sg_table *sgt;
	struct delayed_work timeout;
	struct pci_dev *pdev;
	/* Under the reservation lock */
	unsigned int told;
	u16 power;
};

/* There is nothing to let go of: it is told because it is attached. */
static void importer_told(struct dma_buf_attachment *attachment)
{
	struct importer *importer = attachment->importer_priv;
	struct pci_dev *pdev = importer->pdev;
	u16 ctrl = 0;

	/* The register, not what the PCI core believes */
	if (pdev->pm_cap)
		pci_read_config_word(pdev, pdev->pm_cap + PCI_PM_CTRL, &ctrl);
	importer->power = ctrl & PCI_PM_CTRL_STATE_MASK;
	importer->told++;
}

static const struct dma_buf_attach_ops importer_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = importer_told,
};

static int importer_map(struct importer *importer)
{
	struct dma_resv *resv;
	struct sg_table *sgt;

	if (!importer->attachment)
		return -EINVAL;
	if (importer->sgt)
		return -EBUSY;

	resv = importer->attachment->dmabuf->resv;
	dma_resv_lock(resv, NULL);
	sgt = dma_buf_map_attachment(importer->attachment, DMA_BIDIRECTIONAL);
	dma_resv_unlock(resv);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	importer->sgt = sgt;
	schedule_delayed_work(&importer->timeout, FENCE_SECONDS * HZ);

	return 0;
}

static int importer_unmap(struct importer *importer)
{
	struct dma_resv *resv;

	if (!importer->sgt)
		return -EINVAL;

	resv = importer->attachment->dmabuf->resv;
	dma_resv_lock(resv, NULL);
	dma_buf_unmap_attachment(importer->attachment, importer->sgt,
				 DMA_BIDIRECTIONAL);
	dma_resv_unlock(resv);
	importer->sgt = NULL;
	cancel_delayed_work(&importer->timeout);

	return 0;
}

static void importer_timeout(struct work_struct *work)
{
	struct importer *importer = container_of(to_delayed_work(work),
						 struct importer, timeout);

	guard(mutex)(&importer->mutex);
	if (importer->sgt)
		importer_unmap(importer);
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *importer = kzalloc_obj(*importer);

	if (!importer)
		return -ENOMEM;

	mutex_init(&importer->mutex);
	INIT_DELAYED_WORK(&importer->timeout, importer_timeout);
	file->private_data = importer;

	return 0;
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *importer = file->private_data;
	struct dma_buf *dmabuf;

	cancel_delayed_work_sync(&importer->timeout);
	if (importer->sgt)
		importer_unmap(importer);
	if (importer->attachment) {
		dmabuf = importer->attachment->dmabuf;
		dma_buf_detach(dmabuf, importer->attachment);
		dma_buf_put(dmabuf);
		pci_dev_put(importer->pdev);
	}
	kfree(importer);

	return 0;
}

static ssize_t importer_write(struct file *file, const char __user *ubuf,
			      size_t count, loff_t *ppos)
{
	struct importer *importer = file->private_data;
	struct dma_buf_attachment *attachment;
	struct dma_buf *dmabuf;
	char buf[64];
	int ret, fd;

	ret = get_text(buf, sizeof(buf), ubuf, count, ppos);
	if (ret)
		return ret;

	guard(mutex)(&importer->mutex);
	if (!strcmp(buf, "map"))
		return importer_map(importer) ?: count;
	if (!strcmp(buf, "unmap"))
		return importer_unmap(importer) ?: count;
	if (sscanf(buf, "%*s %d", &fd) != 1)
		return -EINVAL;
	if (importer->attachment)
		return -EBUSY;

	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	importer->pdev = find_device(buf);
	if (!importer->pdev) {
		ret = -ENODEV;
		goto err_dmabuf;
	}

	attachment = dma_buf_dynamic_attach(dmabuf, &importer->pdev->dev,
					    &importer_ops, importer);
	if (IS_ERR(attachment)) {
		ret = PTR_ERR(attachment);
		goto err_pdev;
	}
	importer->attachment = attachment;

	return count;

err_pdev:
	pci_dev_put(importer->pdev);
err_dmabuf:
	dma_buf_put(dmabuf);
	return ret;
}

static ssize_t importer_read(struct file *file, char __user *ubuf, size_t count,
			     loff_t *ppos)
{
	struct importer *importer = file->private_data;
	struct dma_resv *resv;
	char text[48];
	int len;

	guard(mutex)(&importer->mutex);
	if (!importer->attachment)
		return -EINVAL;

	resv = importer->attachment->dmabuf->resv;
	dma_resv_lock(resv, NULL);
	len = scnprintf(text, sizeof(text), "told %u power %u\n",
			importer->told, importer->power);
	dma_resv_unlock(resv);

	return simple_read_from_buffer(ubuf, count, ppos, text, len);
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.write = importer_write,
	.read = importer_read,
	.llseek = default_llseek,
};

/* reservation */

struct reservation {
	struct dma_buf *dmabuf;
	struct task_struct *task;
	struct completion locked;
};

/* A thread, because a task must not go back to userspace with the lock held. */
static int reservation_thread(void *arg)
{
	struct reservation *reservation = arg;

	dma_resv_lock(reservation->dmabuf->resv, NULL);
	complete(&reservation->locked);
	for (;;) {
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	dma_resv_unlock(reservation->dmabuf->resv);

	return 0;
}

static ssize_t reservation_write(struct file *file, const char __user *ubuf,
				 size_t count, loff_t *ppos)
{
	struct reservation *reservation;
	int ret, fd;

	ret = kstrtoint_from_user(ubuf, count, 0, &fd);
	if (ret)
		return ret;

	reservation = kzalloc_obj(*reservation);
	if (!reservation)
		return -ENOMEM;
	init_completion(&reservation->locked);
	reservation->dmabuf = dma_buf_get(fd);
	if (IS_ERR(reservation->dmabuf)) {
		ret = PTR_ERR(reservation->dmabuf);
		goto err_free;
	}
	if (cmpxchg(&file->private_data, NULL, reservation)) {
		ret = -EBUSY;
		goto err_put;
	}

	reservation->task = kthread_run(reservation_thread, reservation,
					"vfio_selftest");
	if (IS_ERR(reservation->task)) {
		ret = PTR_ERR(reservation->task);
		file->private_data = NULL;
		goto err_put;
	}
	wait_for_completion(&reservation->locked);

	return count;

err_put:
	dma_buf_put(reservation->dmabuf);
err_free:
	kfree(reservation);
	return ret;
}

static int reservation_release(struct inode *inode, struct file *file)
{
	struct reservation *reservation = file->private_data;

	if (reservation) {
		kthread_stop(reservation->task);
		dma_buf_put(reservation->dmabuf);
	}
	kfree(reservation);

	return 0;
}

static const struct file_operations reservation_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.release = reservation_release,
	.write = reservation_write,
};

/* d1 */

static ssize_t d1_write(struct file *file, const char __user *ubuf,
			size_t count, loff_t *ppos)
{
	struct pci_dev *pdev = find_user_device(ubuf, count, ppos);

	if (IS_ERR(pdev))
		return PTR_ERR(pdev);

	/* One that can do it anyway does not lose that */
	if (pdev->d1_support || cmpxchg(&file->private_data, NULL, pdev)) {
		pci_dev_put(pdev);
		return count;
	}
	pdev->d1_support = true;

	return count;
}

static int d1_release(struct inode *inode, struct file *file)
{
	struct pci_dev *pdev = file->private_data;

	if (pdev)
		pdev->d1_support = false;
	pci_dev_put(pdev);

	return 0;
}

static const struct file_operations d1_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.release = d1_release,
	.write = d1_write,
};

/* hold */

static ssize_t hold_write(struct file *file, const char __user *ubuf,
			  size_t count, loff_t *ppos)
{
	struct pci_dev *pdev = find_user_device(ubuf, count, ppos);
	struct vfio_pci_core_device *vdev = NULL;

	if (IS_ERR(pdev))
		return PTR_ERR(pdev);

	device_lock(&pdev->dev);
	if (pdev->driver && !strcmp(pdev->driver->name, "vfio-pci"))
		vdev = dev_get_drvdata(&pdev->dev);
	if (vdev && !vdev->vdev.open_count)
		vdev = NULL;
	device_unlock(&pdev->dev);
	pci_dev_put(pdev);

	if (!vdev)
		return -ENODEV;
	if (cmpxchg(&file->private_data, NULL, vdev))
		return -EBUSY;
	down_read_non_owner(&vdev->memory_lock);

	return count;
}

static int hold_release(struct inode *inode, struct file *file)
{
	struct vfio_pci_core_device *vdev = file->private_data;

	if (vdev)
		up_read_non_owner(&vdev->memory_lock);

	return 0;
}

static const struct file_operations hold_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.release = hold_release,
	.write = hold_write,
};

/* The driver */

static pci_ers_result_t reset_error_detected(struct pci_dev *pdev,
					     pci_channel_state_t state)
{
	return PCI_ERS_RESULT_NEED_RESET;
}

static pci_ers_result_t reset_slot_reset(struct pci_dev *pdev)
{
	return PCI_ERS_RESULT_RECOVERED;
}

static const struct pci_error_handlers reset_err_handlers = {
	.error_detected = reset_error_detected,
	.slot_reset = reset_slot_reset,
};

static int reset_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return 0;
}

static const struct pci_device_id reset_table[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{}
};

/* It does no DMA, so the rest of the IOMMU group can be with VFIO. */
static struct pci_driver reset_driver = {
	.name = KBUILD_MODNAME,
	.id_table = reset_table,
	.probe = reset_probe,
	.err_handler = &reset_err_handlers,
	.driver_managed_dma = true,
};

/* race */

static unsigned int race;
module_param(race, uint, 0444);
MODULE_PARM_DESC(race, "Seconds of a data race, at load");

static unsigned long race_count;

static int race_thread(void *arg)
{
	unsigned long end = jiffies + race * HZ;

	while (time_before(jiffies, end)) {
		race_count++;
		/* The compiler is not to take the loop apart */
		barrier();
		cond_resched();
	}

	return 0;
}

static int race_run(void)
{
	struct task_struct *task;

	task = kthread_create(race_thread, NULL, "vfio_selftest");
	if (IS_ERR(task))
		return PTR_ERR(task);
	/* It may have ended when it is to be stopped */
	get_task_struct(task);
	wake_up_process(task);

	race_thread(NULL);
	kthread_stop(task);
	put_task_struct(task);
	/* What nobody reads the compiler may leave out */
	pr_info("vfio_selftest: race: %lu\n", race_count);

	return 0;
}

/* leak */

static bool leak;
module_param(leak, bool, 0444);
MODULE_PARM_DESC(leak, "Forget some memory, at load");

static void leak_run(void)
{
	void *p;
	int i;

	/*
	 * So many that the allocator forgets them, and zeroed: free memory has
	 * pointers to what is next.
	 */
	for (i = 0; i < 1000; i++) {
		p = kzalloc(128, GFP_KERNEL);
		/* The compiler is not to leave it out */
		OPTIMIZER_HIDE_VAR(p);
	}
}

static int __init vfio_selftest_init(void)
{
	int ret;

	if (leak)
		leak_run();

	if (race) {
		ret = race_run();
		if (ret)
			return ret;
	}

	ret = pci_register_driver(&reset_driver);
	if (ret)
		return ret;

	vfio_selftest_dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	if (IS_ERR(vfio_selftest_dir)) {
		pci_unregister_driver(&reset_driver);
		return PTR_ERR(vfio_selftest_dir);
	}

	debugfs_create_file("pfnmap", 0600, vfio_selftest_dir, NULL, &pfnmap_fops);
	debugfs_create_file("vma", 0600, vfio_selftest_dir, NULL, &vma_fops);
	debugfs_create_file("fence", 0400, vfio_selftest_dir, NULL, &fence_fops);
	debugfs_create_file("config", 0200, vfio_selftest_dir, NULL, &config_fops);
	debugfs_create_file("importer", 0600, vfio_selftest_dir, NULL, &importer_fops);
	debugfs_create_file("reservation", 0200, vfio_selftest_dir, NULL,
			    &reservation_fops);
	debugfs_create_file("d1", 0200, vfio_selftest_dir, NULL, &d1_fops);
	debugfs_create_file("hold", 0200, vfio_selftest_dir, NULL, &hold_fops);

	return 0;
}

static void __exit vfio_selftest_exit(void)
{
	debugfs_remove(vfio_selftest_dir);
	config_restore();
	pci_unregister_driver(&reset_driver);
}

module_init(vfio_selftest_init);
module_exit(vfio_selftest_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Eyes and hands of the VFIO selftests");
