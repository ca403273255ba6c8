/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_DIRTY_LOG_H
#define __KVM_X86_MMU_DIRTY_LOG_H

#include <linux/kvm_host.h>

#include "mmu.h"
#include "spte.h"

/**
 * dirty_log_spte - log the writes that an SPTE allows, which has just been written
 * @kvm: the VM
 * @slot: the memslot of @gfn, logged or not
 * @gfn: what the SPTE maps
 * @spte: its value
 * @level: of its page table
 *
 * After it was written, and not before.  Who clears the log takes the page's bit, and
 * then W of the SPTE, see kvm_arch_mmu_enable_log_dirty_pt_masked().  If the bit came
 * first, it could be taken before the SPTE allows writes, which nobody would log then,
 * as the next write does not fault.  The SPTE is written by a locked operation, or with
 * mmu_lock held for write, which excludes who clears; so whoever takes the bit sees it.
 *
 * Context: vCPU ioctl, kvm->srcu held for read, mmu_lock held.
 */
static inline void dirty_log_spte(struct kvm *kvm, const struct kvm_memory_slot *slot,
				  gfn_t gfn, u64 spte, int level)
{
	lockdep_assert_held(&kvm->mmu_lock);

	if (!(spte & PT_WRITABLE_MASK) || !kvm_slot_dirty_track_enabled(slot))
		return;

	/* Enforced by kvm_mmu_hugepage_adjust(). */
	WARN_ON_ONCE(level > PG_LEVEL_4K);
	mark_page_dirty_in_slot(kvm, slot, gfn);
}

/**
 * dirty_log_cleared - an SPTE, such that the next write to what it maps is noticed
 * @spte: the SPTE, of any kind
 * @level: of its page table
 * @wrprot: without W, so that a write faults; else, with PML, without Dirty, so that the
 *	    CPU logs it, but for SPTEs that are without A/D bits or must not use them so
 *
 * Pure: looks at nothing but its arguments and the masks.
 * Return: the SPTE without that bit, or @spte if it does not have it, or is no leaf.
 */
static inline u64 dirty_log_cleared(u64 spte, int level, bool wrprot)
{
	if (!is_shadow_present_pte(spte) || !is_last_spte(spte, level))
		return spte;

	return spte & ~(wrprot || spte_ad_need_write_protect(spte) ? PT_WRITABLE_MASK :
								     shadow_dirty_mask);
}

/*
 * Whether a page has to be told that it is dirty when its SPTE changes: nobody else knows
 * any more.
 */
static inline bool dirty_log_lost_dirty(u64 old_spte, u64 new_spte)
{
	return is_dirty_spte(old_spte) && !is_dirty_spte(new_spte);
}

/**
 * dirty_log_clear_spte - have the next write to what an SPTE maps noticed
 * @sptep: the SPTE, which may change meanwhile
 * @spte: what was read there, of any kind; gets what was replaced, or found last
 * @level: of its page table
 * @wrprot: as for dirty_log_cleared()
 *
 * A cmpxchg that expects a leaf.  An atomic AND could hit what is none any more: it would
 * make an MMIO SPTE something else, or a page table read-only.  It pairs with the cmpxchg
 * of fast_pf_fix() and tdp_mmu_set_spte_atomic(), with those of aging, and with the
 * CPU's setting of Accessed and Dirty.  Unlike aging's, it goes on until it succeeds or
 * has nothing left to do: each turn, somebody else has made progress.
 *
 * Context: mmu_lock held for read or write, so that all others who change the SPTE do so
 * with atomic operations; what keeps the page table is up to the caller.
 * Return: true if it was changed, from @spte to what dirty_log_cleared() makes of that.
 */
static inline bool dirty_log_clear_spte(u64 *sptep, u64 *spte, int level, bool wrprot)
{
	u64 new_spte;

	do {
		new_spte = dirty_log_cleared(*spte, level, wrprot);
		if (new_spte == *spte)
			return false;
	} while (!try_cmpxchg64(sptep, spte, new_spte));

	return true;
}

#endif
