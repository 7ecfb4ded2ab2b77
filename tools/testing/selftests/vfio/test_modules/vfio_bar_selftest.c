// SPDX-License-Identifier: GPL-2.0-only
/*
 * What makes the BARs of a device hard to get, for the VFIO selftests
 *
 * Files in debugfs, in a directory of the module's name. To each a device is
 * written, as in sysfs, with the index of a BAR where there is one. It has its
 * effect until the file is closed, or something else is written to it; an empty
 * line stands for nothing. One file of a kind can be in use at a time.
 *
 *   hold    "DEVICE BAR": the resource of the BAR is requested, as a driver of a
 *           boot framebuffer does.
 *   unmap   "DEVICE BAR": pci_iomap() of the BAR fails.
 *   busy    "DEVICE": the device cannot be reset, as if someone else were about
 *           to do it. If it has a way to be reset at all, an open of it by VFIO
 *           fails with EAGAIN.
 *   race    "DEVICE": whoever maps a BAR with pci_iomap() first waits until
 *           someone else requests the same BAR, or for 20 ms. This is what an
 *           interrupt, or another task, does between the two once in a while.
 *           Written again, it works for the first one again.
 *
 * "unmap" and "race" need kprobes. And there is a file to read:
 *
 *   requests  how often each BAR of the device was requested since "race" was
 *           written last
 */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/processor.h>
#include <linux/ptrace.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#define RACE_NS (20 * NSEC_PER_MSEC)

/*
 * A kind of file. @begin is called with @pdev and @bar set, and @end to undo it.
 * The two are read by probes, which run only in between.
 */
struct effect {
	const char *name;
	bool has_bar;
	int (*begin)(struct effect *effect);
	void (*end)(struct effect *effect);
	struct pci_dev *pdev;
	int bar;
	struct file *user;
};

/* All fields of all effects, but for what probes read */
static DEFINE_MUTEX(effects_mutex);

static struct effect hold, unmap, busy, race;

static int hold_begin(struct effect *effect)
{
	return pci_request_region(effect->pdev, effect->bar, KBUILD_MODNAME);
}

static void hold_end(struct effect *effect)
{
	pci_release_region(effect->pdev, effect->bar);
}

/* Runs in place of pci_iomap() */
static void __iomem *no_iomap(struct pci_dev *pdev, int bar, unsigned long max)
{
	return NULL;
}

static int unmap_iomap(struct kprobe *kp, struct pt_regs *regs)
{
	if ((void *)regs_get_kernel_argument(regs, 0) != unmap.pdev ||
	    (int)regs_get_kernel_argument(regs, 1) != unmap.bar)
		return 0;

	instruction_pointer_set(regs, (unsigned long)no_iomap);

	return 1;
}

/* Keeps the probe from being optimized: it could not go elsewhere then. */
static void unmap_post(struct kprobe *kp, struct pt_regs *regs,
		       unsigned long flags)
{
}

static struct kprobe unmap_probe;

static int unmap_begin(struct effect *effect)
{
	/* What an earlier registration left in it is in the way */
	unmap_probe = (struct kprobe) {
		.symbol_name = "pci_iomap",
		.pre_handler = unmap_iomap,
		.post_handler = unmap_post,
	};

	return register_kprobe(&unmap_probe);
}

static void unmap_end(struct effect *effect)
{
	unregister_kprobe(&unmap_probe);
}

/* Nobody resets a device, or reads its config space by sysfs, meanwhile. */
static int busy_begin(struct effect *effect)
{
	pci_cfg_access_lock(effect->pdev);

	return 0;
}

static void busy_end(struct effect *effect)
{
	pci_cfg_access_unlock(effect->pdev);
}

static atomic_t race_requests[PCI_STD_NUM_BARS];

static int race_request(struct kprobe *kp, struct pt_regs *regs)
{
	int bars = regs_get_kernel_argument(regs, 1), bar;

	if ((void *)regs_get_kernel_argument(regs, 0) != race.pdev)
		return 0;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if (bars & 1 << bar)
			atomic_inc(&race_requests[bar]);
	}

	return 0;
}

static int race_iomap(struct kprobe *kp, struct pt_regs *regs)
{
	unsigned int bar = regs_get_kernel_argument(regs, 1);
	u64 end = ktime_get_mono_fast_ns() + RACE_NS;

	if ((void *)regs_get_kernel_argument(regs, 0) != race.pdev ||
	    bar >= PCI_STD_NUM_BARS)
		return 0;

	while (atomic_read(&race_requests[bar]) == 1 &&
	       ktime_get_mono_fast_ns() < end)
		cpu_relax();

	return 0;
}

static struct kprobe race_probes[2];

static int race_begin(struct effect *effect)
{
	struct kprobe *probes[] = { &race_probes[0], &race_probes[1] };
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		atomic_set(&race_requests[bar], 0);

	race_probes[0] = (struct kprobe) {
		.symbol_name = "pci_request_selected_regions",
		.pre_handler = race_request,
	};
	race_probes[1] = (struct kprobe) {
		.symbol_name = "pci_iomap",
		.pre_handler = race_iomap,
	};

	return register_kprobes(probes, ARRAY_SIZE(probes));
}

static void race_end(struct effect *effect)
{
	struct kprobe *probes[] = { &race_probes[0], &race_probes[1] };

	unregister_kprobes(probes, ARRAY_SIZE(probes));
}

static struct effect hold = {
	.name = "hold",
	.has_bar = true,
	.begin = hold_begin,
	.end = hold_end,
};

static struct effect unmap = {
	.name = "unmap",
	.has_bar = true,
	.begin = unmap_begin,
	.end = unmap_end,
};

static struct effect busy = {
	.name = "busy",
	.begin = busy_begin,
	.end = busy_end,
};

static struct effect race = {
	.name = "race",
	.begin = race_begin,
	.end = race_end,
};

static struct effect *const effects[] = { &hold, &unmap, &busy, &race };

static void effect_end(struct effect *effect)
{
	if (!effect->pdev)
		return;

	effect->end(effect);
	pci_dev_put(effect->pdev);
	effect->pdev = NULL;
}

static struct pci_dev *find_device(const char *name)
{
	unsigned int domain, bus, slot, func;

	if (sscanf(name, "%x:%x:%x.%x", &domain, &bus, &slot, &func) != 4)
		return NULL;

	return pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
}

static ssize_t effect_write(struct file *file, const char __user *ubuf,
			    size_t count, loff_t *ppos)
{
	struct effect *effect = file->private_data;
	char buf[64];
	int ret;

	if (*ppos || count >= sizeof(buf))
		return -EINVAL;
	if (copy_from_user(buf, ubuf, count))
		return -EFAULT;
	buf[count] = '\0';

	mutex_lock(&effects_mutex);
	if (effect->user && effect->user != file) {
		ret = -EBUSY;
		goto out;
	}
	effect_end(effect);
	effect->user = file;

	ret = 0;
	if (!strim(buf)[0])
		goto out;

	ret = -EINVAL;
	if (effect->has_bar && (sscanf(buf, "%*s %d", &effect->bar) != 1 ||
				effect->bar < 0 ||
				effect->bar >= PCI_STD_NUM_BARS))
		goto out;

	ret = -ENODEV;
	effect->pdev = find_device(buf);
	if (!effect->pdev)
		goto out;

	ret = effect->begin(effect);
	if (ret) {
		pci_dev_put(effect->pdev);
		effect->pdev = NULL;
	}
out:
	mutex_unlock(&effects_mutex);
	return ret ? ret : (ssize_t)count;
}

static int effect_release(struct inode *inode, struct file *file)
{
	struct effect *effect = file->private_data;

	mutex_lock(&effects_mutex);
	if (effect->user == file) {
		effect_end(effect);
		effect->user = NULL;
	}
	mutex_unlock(&effects_mutex);

	return 0;
}

static const struct file_operations effect_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.release = effect_release,
	.write = effect_write,
};

static int requests_show(struct seq_file *m, void *unused)
{
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		seq_printf(m, "%d\n", atomic_read(&race_requests[bar]));

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(requests);

static struct dentry *vfio_bar_selftest_dir;

static int __init vfio_bar_selftest_init(void)
{
	int i;

	vfio_bar_selftest_dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	if (IS_ERR(vfio_bar_selftest_dir))
		return PTR_ERR(vfio_bar_selftest_dir);

	for (i = 0; i < ARRAY_SIZE(effects); i++)
		debugfs_create_file(effects[i]->name, 0200,
				    vfio_bar_selftest_dir, effects[i],
				    &effect_fops);
	debugfs_create_file("requests", 0400, vfio_bar_selftest_dir, NULL,
			    &requests_fops);

	return 0;
}

static void __exit vfio_bar_selftest_exit(void)
{
	debugfs_remove(vfio_bar_selftest_dir);
}

module_init(vfio_bar_selftest_init);
module_exit(vfio_bar_selftest_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Hard to get BARs for the VFIO selftests");
