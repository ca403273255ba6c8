/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of this process on swap, for tests of whether KVM reports dirty pages.
 *
 * A page that a read swaps in is clean, and stays in the swap cache.  The kernel
 * may drop such a page without writing it again.  When a guest writes the page,
 * the host's own page table does not say so.  KVM alone knows that the page is
 * dirty, and has to report that when it zaps the SPTE.
 */
#ifndef SELFTEST_KVM_SWAP_UTIL_H
#define SELFTEST_KVM_SWAP_UTIL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Call this before the functions below.  Returns NULL if swap is on, and if
 * pagemap and kpageflags can be opened; else the reason why not, a string that
 * stays valid.
 */
const char *swap_open(void);

/*
 * Ask the kernel to swap out [@hva, @hva + @size), in bytes, both multiples of the
 * page size.  The kernel leaves pages that something holds, or that are on no LRU list.
 */
void swap_out(void *hva, size_t size);

/* Does the page table of this process say that the page at @hva is on swap? */
bool swap_is_out(const void *hva);

/*
 * Is the page at @hva present, in the swap cache, and not marked dirty?  A PTE or
 * an SPTE may still be dirty.
 */
bool swap_is_clean(const void *hva);

#endif
