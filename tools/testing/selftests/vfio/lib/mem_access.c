// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/resource.h>

#include <linux/mman.h>
#include <linux/types.h>

#include <libvfio.h>

/* Where a thread goes on if its access faults. */
struct access {
	sigjmp_buf env;
};

/* NULL while it is in none. */
static __thread struct access *current_access;

static pthread_once_t access_once = PTHREAD_ONCE_INIT;

static void access_fault(int sig)
{
	/* Not one of ours: let it happen again, without the handler. */
	if (!current_access) {
		signal(sig, SIG_DFL);
		return;
	}

	siglongjmp(current_access->env, sig);
}

static void access_init(void)
{
	struct sigaction sa = {
		.sa_handler = access_fault,
		/* Left by siglongjmp(), which does not restore the mask. */
		.sa_flags = SA_NODEFER,
	};

	VFIO_ASSERT_EQ(sigaction(SIGBUS, &sa, NULL), 0);
	VFIO_ASSERT_EQ(sigaction(SIGSEGV, &sa, NULL), 0);
}

static int try_access32(volatile u32 *addr, u32 *val, bool write)
{
	struct access access;
	int sig;

	pthread_once(&access_once, access_init);

	sig = sigsetjmp(access.env, 0);
	if (sig) {
		current_access = NULL;
		return sig == SIGBUS ? -EFAULT : -EACCES;
	}

	current_access = &access;
	if (write)
		*addr = *val;
	else
		*val = *addr;
	current_access = NULL;

	return 0;
}

int try_read32(const volatile void *addr, u32 *val)
{
	return try_access32((volatile u32 *)addr, val, false);
}

int try_write32(volatile void *addr, u32 val)
{
	return try_access32(addr, &val, true);
}

long thread_faults(void)
{
	struct rusage usage;

	VFIO_ASSERT_EQ(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_minflt + usage.ru_majflt;
}

int try_read32_faults(const volatile void *addr, u32 *val, long *faults)
{
	static u32 warm;
	long before;
	int ret;

	/* Whatever the steps below touch is there after this. */
	before = thread_faults();
	ret = try_read32(&warm, val);
	VFIO_ASSERT_EQ(ret, 0);
	*faults = thread_faults() - before;

	before = thread_faults();
	ret = try_read32(addr, val);
	*faults = thread_faults() - before;

	return ret;
}

u64 huge_page_size(void)
{
	unsigned long long size = 0;
	FILE *f;

	f = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "re");
	if (!f)
		return 0;
	if (fscanf(f, "%llu", &size) != 1)
		size = 0;
	fclose(f);

	return size;
}

bool proc_map_find(const void *addr, struct proc_map *map)
{
	char line[512];
	bool found = false;
	FILE *maps;

	maps = fopen("/proc/self/maps", "re");
	VFIO_ASSERT_NOT_NULL(maps);

	while (!found && fgets(line, sizeof(line), maps)) {
		u64 start, end;
		int name = 0, nr;

		memset(map, 0, sizeof(*map));
		nr = sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %" SCNu64 " %n",
			    &start, &end, map->prot, &map->pgoff, &map->inode, &name);
		VFIO_ASSERT_EQ(nr, 5);
		map->start = (void *)start;
		map->end = (void *)end;
		if (name)
			snprintf(map->name, sizeof(map->name), "%.*s",
				 (int)strcspn(line + name, "\n"), line + name);
		found = addr >= map->start && addr < map->end;
	}
	fclose(maps);

	return found;
}

bool proc_map_has_flags(const void *vaddr, const char *wanted)
{
	char start[32], line[512], flag[4];
	bool here = false, all = true;
	FILE *smaps;

	smaps = fopen("/proc/self/smaps", "re");
	VFIO_ASSERT_NOT_NULL(smaps);
	snprintf_assert(start, sizeof(start), "%lx-", (unsigned long)vaddr);
	while (fgets(line, sizeof(line), smaps)) {
		if (!strncmp(line, start, strlen(start)))
			here = true;
		else if (here && !strncmp(line, "VmFlags:", 8))
			break;
	}
	fclose(smaps);
	VFIO_ASSERT_TRUE(here);

	for (; *wanted; wanted += 2) {
		snprintf_assert(flag, sizeof(flag), " %.2s", wanted);
		all &= !!strstr(line, flag);
	}
	if (!all)
		fprintf(stderr, "# %s", line);

	return all;
}

int madvise_pfnmap(void *vaddr, size_t size)
{
	static const struct {
		int advice, error;
	} advices[] = {
		/* What would take the pages away or bring others, */
		{ MADV_DONTNEED, EINVAL },
		{ MADV_DONTNEED_LOCKED, EINVAL },
		{ MADV_FREE, EINVAL },
		{ MADV_COLD, EINVAL },
		{ MADV_PAGEOUT, EINVAL },
		{ MADV_COLLAPSE, EINVAL },
		{ MADV_POPULATE_READ, EINVAL },
		{ MADV_POPULATE_WRITE, EINVAL },
		{ MADV_GUARD_INSTALL, EINVAL },
		{ MADV_GUARD_REMOVE, EINVAL },
		/* take them from the file, which is not one on a disk, */
		{ MADV_REMOVE, ENODEV },
		/* and what would make the mapping another one. */
		{ MADV_WIPEONFORK, EINVAL },
		{ MADV_DOFORK, EINVAL },
		{ MADV_DODUMP, EINVAL },
		/* Nobody asks whether these can be followed. */
		{ MADV_WILLNEED, 0 },
		{ MADV_SEQUENTIAL, 0 },
		{ MADV_RANDOM, 0 },
		{ MADV_NORMAL, 0 },
		{ MADV_KEEPONFORK, 0 },
		{ MADV_DONTDUMP, 0 },
		/* A kernel without THP does not know the last two. */
		{ MADV_NOHUGEPAGE, 0 },
		{ MADV_HUGEPAGE, 0 },
	};
	int nr = ARRAY_SIZE(advices), i, error, wrong = 0;

	if (access("/sys/kernel/mm/transparent_hugepage", F_OK))
		nr -= 2;

	for (i = 0; i < nr; i++) {
		error = madvise(vaddr, size, advices[i].advice) ? errno : 0;
		if (error == advices[i].error)
			continue;
		fprintf(stderr, "# advice %d: %s\n", advices[i].advice,
			strerror(error));
		wrong++;
	}

	return wrong;
}
