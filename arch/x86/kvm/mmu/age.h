/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_AGE_H
#define __KVM_X86_MMU_AGE_H

#include <linux/bitmap.h>
#include <linux/kvm_host.h>
#include <linux/math.h>
#include <linux/minmax.h>

#include "age_stats.h"
#include "spte.h"

#include <asm/cmpxchg.h>

/*
 * The old form of a young, shadow-present leaf SPTE.
 *
 * With A/D bits, Accessed and aging's own young bit are cleared; an SPTE that had Accessed stays
 * young for the reader of the working set.  Without A/D bits, KVM marks the SPTE for access
 * tracking: R, W and X are cleared.  MMU-writable stays, and still says that the page is dirty.
 */
static inline u64 age_spte(u64 spte)
{
	if (spte_ad_enabled(spte))
		return (spte & ~(shadow_accessed_mask | SPTE_YOUNG_AGING)) | spte_young_ws(spte);

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
 *  - the cmpxchg of working_set_read_leaf();
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

/* What one read of the working set found in one memslot. */
struct kvm_working_set_slot {
	int as_id;
	int id;
	gfn_t base_gfn;
	unsigned long npages;
	/* Bytes that young leaves of each page size map: 4 KiB, 2 MiB, 1 GiB. */
	u64 bytes[KVM_NR_PAGE_SIZES];
	/* One bit a page.  The first is that of the gfn @base_gfn, rounded down to 64. */
	unsigned long *touched;
};

static inline gfn_t kvm_working_set_first_bit(const struct kvm_working_set_slot *slot)
{
	return round_down(slot->base_gfn, BITS_PER_LONG);
}

/*
 * Record that a leaf of @level that maps @gfn was touched: all of it that is in the memslot.  Its
 * bytes count if @gfn is the first of these, as a huge leaf may be met once for each of its parts.
 */
static inline void working_set_found(struct kvm_working_set_slot *slot, gfn_t gfn, int level)
{
	gfn_t first = gfn_round_for_level(gfn, level);
	gfn_t start = max(first, slot->base_gfn);
	gfn_t end = min(first + KVM_PAGES_PER_HPAGE(level), slot->base_gfn + slot->npages);

	if (gfn == start)
		slot->bytes[level - PG_LEVEL_4K] += (end - start) << PAGE_SHIFT;
	bitmap_set(slot->touched, start - kvm_working_set_first_bit(slot), end - start);
}

/*
 * Read @spte, which was read from *@sptep, of a table of @level: true if it is a leaf that is young
 * for the reader of the working set.  It is old for that reader then, and if it had Accessed, still
 * young for aging.
 *
 * The cmpxchg expects a present leaf, and pairs with the writers that __age_leaf() lists.  Unlike
 * aging, this tries again until the leaf is old: a leaf that stayed young below a table that was
 * made old would not be found again.  Each time that it fails, another writer has made progress.
 *
 * SPTEs without A/D bits have no bit to spare.  L1 may make such SPTEs for L2.  They count as
 * touched until aging makes them old, and stay as they are.
 *
 * Context: as for __age_leaf().
 */
static __always_inline bool working_set_read_leaf(u64 *sptep, u64 spte, int level)
{
	const u64 accessed = shadow_accessed_mask;
	bool young = false;
	u64 new_spte;

	do {
		/* A huge leaf may have been split meanwhile. */
		if (!is_shadow_present_pte(spte) || !is_last_spte(spte, level))
			return young;
		if (unlikely(!spte_ad_enabled(spte)))
			return young || is_accessed_spte(spte);

		new_spte = spte & ~(accessed | SPTE_YOUNG_WORKING_SET);
		if (new_spte == spte)
			return young;
		if (spte & accessed)
			new_spte |= SPTE_YOUNG_AGING;
		young = true;
	} while (!try_cmpxchg64(sptep, &spte, new_spte));

	return true;
}

bool kvm_age_read_rmaps(struct kvm *kvm, const struct kvm_memory_slot *memslot, gfn_t start,
			gfn_t end, struct kvm_working_set_slot *slot);

#endif
