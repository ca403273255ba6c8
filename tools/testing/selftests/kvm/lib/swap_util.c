// SPDX-License-Identifier: GPL-2.0-only
/* Memory of this process on swap, see swap_util.h. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/bits.h>
#include <linux/kernel-page-flags.h>

#include "swap_util.h"
#include "test_util.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT		21
#endif

/* Bits of an entry of pagemap. */
#define PAGEMAP_PRESENT		BIT_ULL(63)
#define PAGEMAP_SWAP		BIT_ULL(62)
#define PAGEMAP_PFN_MASK	(BIT_ULL(55) - 1)

static int pagemap_fd = -1;
static int kpageflags_fd = -1;

const char *swap_open(void)
{
	char line[256];
	FILE *swaps;
	bool found;

	swaps = fopen("/proc/swaps", "r");
	if (!swaps)
		return "the kernel has no swap";
	/* The first line is a heading. */
	found = fgets(line, sizeof(line), swaps) && fgets(line, sizeof(line), swaps);
	fclose(swaps);
	if (!found)
		return "no swap is on";

	pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	kpageflags_fd = open("/proc/kpageflags", O_RDONLY);
	if (pagemap_fd < 0 || kpageflags_fd < 0)
		return "cannot open pagemap or kpageflags (CONFIG_PROC_PAGE_MONITOR, root)";
	return NULL;
}

static uint64_t read_entry(int fd, uint64_t index)
{
	uint64_t entry;

	TEST_ASSERT(pread(fd, &entry, sizeof(entry), index * sizeof(entry)) == sizeof(entry),
		    "Failed to read the entry of page 0x%lx", index);
	return entry;
}

static uint64_t pagemap_entry(const void *hva)
{
	return read_entry(pagemap_fd, (uintptr_t)hva / getpagesize());
}

void swap_out(void *hva, size_t size)
{
	TEST_ASSERT(!madvise(hva, size, MADV_PAGEOUT), "Failed to swap out");
}

bool swap_is_out(const void *hva)
{
	return pagemap_entry(hva) & PAGEMAP_SWAP;
}

bool swap_is_clean(const void *hva)
{
	uint64_t entry = pagemap_entry(hva);
	uint64_t flags;

	if (!(entry & PAGEMAP_PRESENT))
		return false;

	flags = read_entry(kpageflags_fd, entry & PAGEMAP_PFN_MASK);
	return (flags & BIT_ULL(KPF_SWAPCACHE)) && !(flags & BIT_ULL(KPF_DIRTY));
}
