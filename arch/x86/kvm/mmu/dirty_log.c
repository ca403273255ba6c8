// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clearing the dirty log beside running vCPUs, with mmu_lock held for read.  Why no write
 * is lost is in Documentation/virt/kvm/locking.rst.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/rculist.h>

#include "dirty_log.h"
#include "mmu.h"
#include "mmu_internal.h"
#include "mmutrace.h"
#include "rmap.h"
#include "tdp_iter.h"
#include "tdp_mmu.h"

/* Without it, the generic code would hold mmu_lock for write. */
static_assert(IS_ENABLED(CONFIG_KVM_CLEAR_DIRTY_LOG_SHARED));

/*
 * What has the log to find: pages of 4 KiB, as they are logged, or the huge ones that are
 * still there, which have to be split before they are written.
 */
struct dirty_log_range {
	const struct kvm_memory_slot *slot;
	/* The pages are those of @mask, from @gfn on, or all that have any of them. */
	gfn_t gfn;
	unsigned long mask;
	/* How a write will be noticed, see dirty_log_cleared(). */
	bool wrprot;
};

static gfn_t range_start(const struct dirty_log_range *range)
{
	return range->gfn + __ffs(range->mask);
}

static gfn_t range_end(const struct dirty_log_range *range)
{
	return range->gfn + __fls(range->mask) + 1;
}

/*
 * The page is told that it is dirty if nobody else knows any more.  It still is the
 * guest's, as to take it away needs mmu_lock for write.
 */
static bool clear_leaf(u64 *sptep, u64 *spte, u64 *new_spte, int level, bool wrprot)
{
	if (!dirty_log_clear_spte(sptep, spte, level, wrprot))
		return false;

	*new_spte = dirty_log_cleared(*spte, level, wrprot);
	if (dirty_log_lost_dirty(*spte, *new_spte))
		kvm_set_pfn_dirty(spte_to_pfn(*spte));
	return true;
}

#ifdef CONFIG_X86_64
static void tdp_clear_root(struct kvm_mmu_page *root, const struct dirty_log_range *range,
			   bool huge)
{
	const int min_level = huge ? PG_LEVEL_2M : PG_LEVEL_4K;
	struct tdp_iter iter;
	u64 new_spte;

	for_each_tdp_pte_min_level(iter, root, min_level, range_start(range), range_end(range)) {
		if (!huge && (iter.level > PG_LEVEL_4K ||
			      !(range->mask & BIT(iter.gfn - range->gfn))))
			continue;

		if (clear_leaf(rcu_dereference(iter.sptep), &iter.old_spte, &new_spte, iter.level,
			       huge || range->wrprot))
			trace_kvm_tdp_mmu_spte_changed(iter.as_id, iter.gfn, iter.level,
						       iter.old_spte, new_spte);
	}
}

/*
 * All valid roots of the memslot's address space.  RCU keeps them and their page tables,
 * as it does for aging.  A root that becomes valid meanwhile has nothing in it that was
 * logged before the bits were taken.
 */
static void tdp_clear(struct kvm *kvm, const struct dirty_log_range *range, bool huge)
{
	struct kvm_mmu_page *root;

	lockdep_assert_held_read(&kvm->mmu_lock);

	if (!tdp_mmu_enabled)
		return;

	rcu_read_lock();

	list_for_each_entry_rcu(root, &kvm->arch.tdp_mmu_roots, link) {
		/* Once, as in tdp_age_gfn_range(). */
		union kvm_mmu_page_role role = { .word = READ_ONCE(root->role.word) };

		if (!role.invalid && kvm_mmu_role_as_id(role) == range->slot->as_id)
			tdp_clear_root(root, range, huge);
	}

	rcu_read_unlock();
}
#else
static void tdp_clear(struct kvm *kvm, const struct dirty_log_range *range, bool huge)
{
}
#endif

/*
 * Rmaps, and the shadow pages that their SPTEs are in, change only with mmu_lock held for
 * write.
 */
static void rmap_clear(struct kvm_rmap_head *rmap_head, int level, bool wrprot)
{
	struct rmap_iterator iter;
	u64 *sptep, spte, new_spte;

	for (sptep = rmap_list_first(kvm_rmap_get(rmap_head), &iter); sptep;
	     sptep = rmap_list_next(&iter)) {
		spte = mmu_spte_get_lockless(sptep);
		clear_leaf(sptep, &spte, &new_spte, level, wrprot);
	}
}

static void rmaps_clear(struct kvm *kvm, const struct dirty_log_range *range)
{
	unsigned long mask;

	lockdep_assert_held_read(&kvm->mmu_lock);

	if (!kvm_memslots_have_rmaps(kvm))
		return;

	for (mask = range->mask; mask; mask &= mask - 1)
		rmap_clear(gfn_to_rmap(range->gfn + __ffs(mask), PG_LEVEL_4K, range->slot),
			   PG_LEVEL_4K, range->wrprot);
}

/* Whether the rmaps have huge pages, and write-protect them, if @clear. */
static bool rmaps_huge(struct kvm *kvm, const struct dirty_log_range *range, bool clear)
{
	struct kvm_rmap_head *first, *last;
	bool found = false;
	int level;

	lockdep_assert_held_read(&kvm->mmu_lock);

	if (!kvm_memslots_have_rmaps(kvm))
		return false;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		first = gfn_to_rmap(range_start(range), level, range->slot);
		last = gfn_to_rmap(range_end(range) - 1, level, range->slot);

		for (; first <= last; first++) {
			if (!kvm_rmap_get(first))
				continue;
			found = true;
			if (clear)
				rmap_clear(first, level, true);
		}
	}

	return found;
}

/*
 * All pages of the memslot were assumed to be dirty when logging began, so its huge pages
 * are still there, and still writable.  If huge pages are split early, split those of the
 * range, so that vCPUs need not.  Then write-protect what is left, so that it is split
 * before it is written.  In this order, as what is split inherits W, and pages that are in
 * the log had better not fault.
 *
 * It is fine if somebody else splits one meanwhile: what it is split to inherits W, and
 * is looked at afterwards.  None is made, as the memslot is logged; or it is not, and the
 * reset of a ring that names it has no effect that matters.
 *
 * Huge pages are split with mmu_lock dropped and taken again, and those in rmaps need it
 * for write.  The log's bits are taken, and nothing has been returned.
 */
static void clear_huge(struct kvm *kvm, const struct dirty_log_range *range)
{
	const bool split = READ_ONCE(eager_page_split) && tdp_mmu_enabled;

	if (split && rmaps_huge(kvm, range, false)) {
		read_unlock(&kvm->mmu_lock);
		write_lock(&kvm->mmu_lock);
		kvm_shadow_mmu_try_split_huge_pages(kvm, range->slot, range_start(range),
						    range_end(range), PG_LEVEL_4K);
		write_unlock(&kvm->mmu_lock);
		read_lock(&kvm->mmu_lock);
	}

	if (split)
		kvm_tdp_mmu_try_split_huge_pages(kvm, range->slot, range_start(range),
						 range_end(range), PG_LEVEL_4K, true);

	rmaps_huge(kvm, range, true);
	tdp_clear(kvm, range, true);
}

/**
 * kvm_arch_mmu_enable_log_dirty_pt_masked - have the next write to some pages logged
 * @kvm: the VM
 * @slot: their memslot
 * @gfn_offset: the first gfn that @mask is about, from the start of @slot
 * @mask: the pages, at least one, and none beyond the end of @slot
 *
 * The pages have been taken out of the log already, and the caller flushes TLBs before
 * it says so to userspace.
 *
 * Context: slots_lock held; mmu_lock held for read, and may be dropped and taken again,
 * if all pages were in the log when it was turned on.  May sleep only then.
 */
void kvm_arch_mmu_enable_log_dirty_pt_masked(struct kvm *kvm, struct kvm_memory_slot *slot,
					     gfn_t gfn_offset, unsigned long mask)
{
	const struct dirty_log_range range = {
		.slot = slot,
		.gfn = slot->base_gfn + gfn_offset,
		.mask = mask,
		/* All with PML log what the CPU finds not to be Dirty. */
		.wrprot = !kvm_x86_ops.cpu_dirty_log_size,
	};

	lockdep_assert_held(&kvm->slots_lock);
	lockdep_assert_held_read(&kvm->mmu_lock);

	if (WARN_ON_ONCE(!mask))
		return;

	if (kvm_dirty_log_manual_protect_and_init_set(kvm))
		clear_huge(kvm, &range);

	tdp_clear(kvm, &range, false);
	rmaps_clear(kvm, &range);
}
