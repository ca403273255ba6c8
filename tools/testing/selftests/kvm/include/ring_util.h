/* SPDX-License-Identifier: GPL-2.0-only */
/* A vCPU's dirty ring, as userspace reads it. */
#ifndef SELFTEST_KVM_RING_UTIL_H
#define SELFTEST_KVM_RING_UTIL_H

#include <stdbool.h>
#include <stdint.h>

#include <asm/barrier.h>
#include <linux/kvm.h>

struct dirty_ring {
	struct kvm_dirty_gfn *entries;
	uint32_t nr_entries;
	/* The next entry to take.  Does not go back to 0 where the ring wraps. */
	uint32_t next;
};

/*
 * Take the next page out of the ring; false if the ring is empty.  KVM owns the entry again
 * after kvm_vm_reset_dirty_ring().
 */
static inline bool dirty_ring_take(struct dirty_ring *ring, uint32_t *slot, uint64_t *offset)
{
	struct kvm_dirty_gfn *entry = &ring->entries[ring->next % ring->nr_entries];

	/*
	 * KVM may push the entry meanwhile.  Pairs with the smp_wmb() of kvm_dirty_ring_push():
	 * once the flag is set, slot and offset are there.
	 */
	if (smp_load_acquire(&entry->flags) != KVM_DIRTY_GFN_F_DIRTY)
		return false;

	*slot = entry->slot;
	*offset = entry->offset;
	/*
	 * From here on, KVM may reset the entry and write it again.  Pairs with the
	 * smp_load_acquire() of kvm_dirty_gfn_harvested(): the reads above come first.
	 */
	smp_store_release(&entry->flags, KVM_DIRTY_GFN_F_RESET);
	ring->next++;
	return true;
}

#endif
