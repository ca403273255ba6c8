/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_AGE_H
#define __KVM_X86_MMU_AGE_H

#include <linux/kvm_host.h>

#include "age_stats.h"
#include "spte.h"

#include <asm/cmpxchg.h>

/*
 * The old form of a young, shadow-present leaf SPTE.
 *
 * With A/D bits, Accessed is cleared.  Without A/D bits, KVM marks the SPTE for access tracking: R,
 * W and X are cleared.  MMU-writable stays, and still says that the page is dirty.
 */
static inline u64 age_spte(u64 spte)
{
	if (spte_ad_enabled(spte))
		return spte & ~shadow_accessed_mask;

	return mark_spte_for_access_track(spte);
}

/*
 * Make a young leaf SPTE old, if @sptep still is @old_spte, a value that was read from it and is
 * known to be a present leaf.  @new_spte is what age_spte() makes of it.  Returns true if it is old
 * now.  The caller keeps the page table.  TDP MMU: it is in the RCU read section in which it read
 * @old_spte.  Shadow MMU: it holds the lock of the rmap.
 *
 * The cmpxchg expects a present leaf, so it cannot touch an SPTE that was zapped
 * or frozen meanwhile.  An atomic AND could: FROZEN_SPTE has the Accessed bits
 * of both NPT and EPT set.
 *
 * The cmpxchg pairs with every other writer of a present leaf:
 *  - the cmpxchg of tdp_mmu_set_spte_atomic(), fast_pf_fix(), dirty_log_clear_spte(), and of aging
 *    on another CPU;
 *  - the test_and_clear_bit() of spte_wrprot_for_clear_dirty();
 *  - the exchange of kvm_tdp_mmu_write_spte_atomic() and __update_clear_spte_slow(),
 *    which finds the young or the old form, and in both whether the page is dirty;
 *  - the CPU, which sets Accessed and Dirty;
 *  - the plain store of __kvm_tdp_mmu_write_spte() and __update_clear_spte_fast() to an SPTE
 *    without volatile bits.  Such an SPTE has A/D bits, Accessed, and either W and Dirty, or
 *    neither W nor MMU-writable.  The store can only undo the clear of Accessed.
 *
 * If the cmpxchg fails, the CPU or another task changed the SPTE after it was read as young.  The
 * SPTE stays as it is, and counts as young.
 */
static __always_inline bool __age_leaf(u64 *sptep, u64 old_spte, u64 new_spte,
				       struct kvm_age_stats *stats)
{
	KVM_MMU_WARN_ON(!is_shadow_present_pte(old_spte));
	KVM_MMU_WARN_ON(is_ept_ve_possible(new_spte));

	if (!try_cmpxchg64(sptep, &old_spte, new_spte)) {
		stats->lost++;
		return false;
	}

	stats->aged++;
	return true;
}

static inline bool age_leaf(u64 *sptep, u64 old_spte, struct kvm_age_stats *stats)
{
	return __age_leaf(sptep, old_spte, age_spte(old_spte), stats);
}

#endif
