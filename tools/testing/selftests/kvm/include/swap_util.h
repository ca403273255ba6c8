/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory of this process on swap, for tests of who knows that a page is dirty.
 *
 * What is swapped in by a read is clean, and stays in the swap cache, from where
 * it may be dropped without being written again.  When a guest writes such a page,
 * the host's own page table does not say so.  KVM alone knows that it is dirty,
 * until it unmaps the page, and has to say so then.
 */
#ifndef SELFTEST_KVM_SWAP_UTIL_H
#define SELFTEST_KVM_SWAP_UTIL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * To be called before the others.  Returns NULL if there is swap, and if pages
 * can be looked at, else the reason why not, a string that stays valid.
 */
const char *swap_open(void);

/*
 * Ask the kernel to swap out [@hva, @hva + @size), in bytes, both multiples of the
 * page size.  It leaves pages that somebody holds, or that are on no LRU list.
 */
void swap_out(void *hva, size_t size);

/* Is the page at @hva out, as far as the page table of this process knows? */
bool swap_is_out(const void *hva);

/*
 * Is the page at @hva present, and in the swap cache without being dirty?  It may
 * be dirty in page tables.
 */
bool swap_is_clean(const void *hva);

#endif
