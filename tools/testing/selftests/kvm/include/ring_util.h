/* SPDX-License-Identifier: GPL-2.0-only */
/* The ring of pages that a vCPU has made dirty, as who empties it sees it. */
#ifndef SELFTEST_KVM_RING_UTIL_H
#define SELFTEST_KVM_RING_UTIL_H

#include <stdbool.h>
#include <stdint.h>

#include <asm/barrier.h>
#include <linux/kvm.h>

struct dirty_ring {
	struct kvm_dirty_gfn *entries;
	uint32_t nr_entries;
	/* The next one to be taken; goes on counting where the ring begins again. */
	uint32_t next;
};

/*
 * Takes the next page out of the ring: false if there is none.  Its entry is KVM's again
 * after kvm_vm_reset_dirty_ring().
 */
static inline bool dirty_ring_take(struct dirty_ring *ring, uint32_t *slot, uint64_t *offset)
{
	struct kvm_dirty_gfn *entry = &ring->entries[ring->next % ring->nr_entries];

	/* Pairs with KVM's release: what it wrote before it set the flag. */
	if (smp_load_acquire(&entry->flags) != KVM_DIRTY_GFN_F_DIRTY)
		return false;

	*slot = entry->slot;
	*offset = entry->offset;
	/* Pairs with KVM's acquire: it may write the entry again. */
	smp_store_release(&entry->flags, KVM_DIRTY_GFN_F_RESET);
	ring->next++;
	return true;
}

#endif
