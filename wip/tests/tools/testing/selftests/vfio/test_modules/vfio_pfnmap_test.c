// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the page tables of the caller say about a PFN mapping
 *
 * A test that maps a BAR can see what it reads, but not by which page size nor
 * with which memory attribute: what is in vm_page_prot is not always what ends
 * up in the page table. Write an address to the file in debugfs, and read
 *
 *   pfn PFN size SIZE writable 0|1 cache nc|wc|other
 *
 * from it, numbers in hexadecimal. The write fails with ENOENT where nothing is
 * mapped. Each opened file has an address of its own.
 */
#include <linux/debugfs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/uaccess.h>

struct vfio_pfnmap_test {
	char answer[96];
	size_t len;
};

static struct dentry *vfio_pfnmap_test_file;

/* Only the bits that tell the two apart: a huge page puts others elsewhere. */
static const char *cache_name(pgprot_t prot)
{
	pgprot_t nc = pgprot_noncached(__pgprot(0));
	pgprot_t wc = pgprot_writecombine(__pgprot(0));
	typeof(pgprot_val(prot)) mask = pgprot_val(nc) ^ pgprot_val(wc);

	if (!((pgprot_val(prot) ^ pgprot_val(nc)) & mask))
		return "nc";
	if (!((pgprot_val(prot) ^ pgprot_val(wc)) & mask))
		return "wc";

	return "other";
}

static int vfio_pfnmap_test_open(struct inode *inode, struct file *file)
{
	file->private_data = kzalloc(sizeof(struct vfio_pfnmap_test), GFP_KERNEL);

	return file->private_data ? 0 : -ENOMEM;
}

static int vfio_pfnmap_test_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);

	return 0;
}

static ssize_t vfio_pfnmap_test_write(struct file *file, const char __user *buf,
				      size_t count, loff_t *ppos)
{
	struct vfio_pfnmap_test *test = file->private_data;
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

	test->len = scnprintf(test->answer, sizeof(test->answer),
			      "pfn %lx size %lx writable %d cache %s\n",
			      args.pfn, ~args.addr_mask + 1, args.writable,
			      cache_name(args.pgprot));
	follow_pfnmap_end(&args);
	mmap_read_unlock(mm);

	return count;
}

static ssize_t vfio_pfnmap_test_read(struct file *file, char __user *buf,
				     size_t count, loff_t *ppos)
{
	struct vfio_pfnmap_test *test = file->private_data;

	return simple_read_from_buffer(buf, count, ppos, test->answer, test->len);
}

static const struct file_operations vfio_pfnmap_test_fops = {
	.owner = THIS_MODULE,
	.open = vfio_pfnmap_test_open,
	.release = vfio_pfnmap_test_release,
	.write = vfio_pfnmap_test_write,
	.read = vfio_pfnmap_test_read,
	.llseek = default_llseek,
};

static int __init vfio_pfnmap_test_init(void)
{
	vfio_pfnmap_test_file = debugfs_create_file("vfio_pfnmap_test", 0600,
						    NULL, NULL,
						    &vfio_pfnmap_test_fops);

	return PTR_ERR_OR_ZERO(vfio_pfnmap_test_file);
}

static void __exit vfio_pfnmap_test_exit(void)
{
	debugfs_remove(vfio_pfnmap_test_file);
}

module_init(vfio_pfnmap_test_init);
module_exit(vfio_pfnmap_test_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Page table look-up for the VFIO selftests");
