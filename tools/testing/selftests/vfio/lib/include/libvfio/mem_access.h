/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_MEM_ACCESS_H
#define SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_MEM_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

/*
 * Access memory that may be out of reach. Each access is one instruction of the
 * width that the name says, done exactly once. Any thread may use these, a
 * signal that hits anything else has its usual effect.
 *
 * Return: 0, -EFAULT if the access raised SIGBUS, -EACCES if it raised SIGSEGV.
 */
int try_read32(const volatile void *addr, u32 *val);
int try_write32(volatile void *addr, u32 val);

/*
 * try_read32() that counts the page faults it took. Meant for a thread with
 * nothing else to fault on, so the stack and the code are touched beforehand.
 */
int try_read32_faults(const volatile void *addr, u32 *val, long *faults);

/* The page faults that the calling thread has taken so far. */
long thread_faults(void);

/* Return: the size of a huge page that is mapped by a PMD, 0 if there are none. */
u64 huge_page_size(void);

/* A mapping as /proc/self/maps shows it. */
struct proc_map {
	void *start;
	void *end;
	char prot[8];
	u64 pgoff;		/* in bytes, as in the file */
	u64 inode;
	char name[256];
};

/* Return: false if nothing is mapped at @addr. */
bool proc_map_find(const void *addr, struct proc_map *map);

/*
 * Whether the mapping that starts at @vaddr has all the flags of @wanted, which
 * are the two-letter ones of VmFlags in /proc/self/smaps, one after the other.
 */
bool proc_map_has_flags(const void *vaddr, const char *wanted);

/*
 * Give every advice that madvise() knows to a PFN mapping that can be written to,
 * other than MADV_DONTFORK, which such a mapping is not rid of again.
 *
 * Return: how many had another result than with any such mapping. They are printed.
 */
int madvise_pfnmap(void *vaddr, size_t size);

#endif /* SELFTESTS_VFIO_LIB_INCLUDE_LIBVFIO_MEM_ACCESS_H */
