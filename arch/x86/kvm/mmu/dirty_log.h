/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_DIRTY_LOG_H
#define __KVM_X86_MMU_DIRTY_LOG_H

#include <linux/kvm_host.h>

#include "mmu.h"
#include "spte.h"

/**
 * dirty_log_spte - log the writes that an SPTE allows
 * @kvm: the VM
 * @slot: the memslot of @gfn, logged or not
 * @gfn: the gfn that the SPTE maps
 * @spte: the value that the caller has just written to the SPTE
 * @level: of its page table
 *
 * Call this after the SPTE is written, not before.  A clear of the log takes the page's bit,
 * and then W of the SPTE, see kvm_arch_mmu_enable_log_dirty_range().  If the bit were set
 * first, a clear could take it, and find no W.  The SPTE would become writable after that,
 * and no write would fault, to be logged.  The caller writes the SPTE by a locked operation,
 * or holds mmu_lock for write, which keeps clears out.  So a clear that takes the bit sees W.
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
 * dirty_log_cleared - the value of an SPTE with which KVM notices the next write
 * @spte: the SPTE, of any kind
 * @level: of its page table
 * @wrprot: clear W, so that a write faults.  Else, clear W if the SPTE has no A/D bits, or must not
 *	    use them for PML; otherwise clear Dirty, so that PML logs the next write.
 *
 * Pure: looks at nothing but its arguments and the masks.
 * Return: @spte without that bit; unchanged if the bit is clear, or @spte is not a present leaf.
 */
static inline u64 dirty_log_cleared(u64 spte, int level, bool wrprot)
{
	if (!is_shadow_present_pte(spte) || !is_last_spte(spte, level))
		return spte;

	return spte & ~(wrprot || spte_ad_need_write_protect(spte) ? PT_WRITABLE_MASK :
								     shadow_dirty_mask);
}

/*
 * Does the change lose the only bit that says the page is dirty?  That bit is Dirty, or
 * MMU-writable if the SPTE has no Dirty bit, see is_dirty_spte().  dirty_log_cleared() clears
 * either W or Dirty.
 */
static inline bool dirty_log_lost_dirty(u64 old_spte, u64 new_spte)
{
	return old_spte & ~new_spte & ~(u64)PT_WRITABLE_MASK;
}

/**
 * dirty_log_clear_spte - have KVM notice the next write through an SPTE
 * @sptep: the SPTE, which may change meanwhile
 * @spte: the value that the caller read, of any kind; set to the value that was replaced, or
 *	  that was found last
 * @level: of its page table
 * @wrprot: as for dirty_log_cleared()
 *
 * The cmpxchg expects a leaf.  An atomic AND could hit an SPTE that is no leaf any more, and
 * spoil an MMIO SPTE, or make a page table read-only.  The cmpxchg pairs with those of
 * fast_pf_fix(), tdp_mmu_set_spte_atomic() and aging, and with the CPU, which sets Accessed
 * and Dirty.  Unlike aging, this tries again until it succeeds or finds nothing to clear:
 * each time that it fails, another writer has made progress.
 *
 * Context: mmu_lock held for read or write, so that every other writer of a present leaf uses an
 * atomic operation.  The caller keeps the page table.
 * Return: true if the SPTE has changed, from @spte to what dirty_log_cleared() makes of it.
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

struct dentry;

void dirty_log_create_debugfs(struct dentry *dir);

#endif
