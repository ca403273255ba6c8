// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clearing the dirty log beside running vCPUs, with mmu_lock held for read.
 * Documentation/virt/kvm/locking.rst says why no write is lost.
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

/* The generic code holds mmu_lock for read only if this is selected. */
static_assert(IS_ENABLED(CONFIG_KVM_CLEAR_DIRTY_LOG_SHARED));

/* The pages whose next write KVM has to notice. */
struct dirty_log_range {
	const struct kvm_memory_slot *slot;
	/* Bit 0 of @mask is the page at @gfn. */
	gfn_t gfn;
	unsigned long mask;
	/* How KVM notices a write, see dirty_log_cleared(). */
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
 * Marks the page dirty if the clear removes the only bit that says so.  The page still is the
 * guest's: the MMU notifier needs mmu_lock for write to take it away.
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
 * All valid roots of the memslot's address space.  RCU keeps them and their page tables, as
 * it does for aging.  A root that is created meanwhile has no SPTE that a vCPU wrote through
 * before the bits were taken.
 */
static void tdp_clear(struct kvm *kvm, const struct dirty_log_range *range, bool huge)
{
	struct kvm_mmu_page *root;

	lockdep_assert_held_read(&kvm->mmu_lock);

	if (!tdp_mmu_enabled)
		return;

	rcu_read_lock();

	list_for_each_entry_rcu(root, &kvm->arch.tdp_mmu_roots, link) {
		/* As in tdp_age_gfn_range(). */
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

/* mmu_lock, held for read, keeps the rmap, and the shadow pages that its SPTEs are in. */
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

/* Does the range have huge pages in rmaps?  Write-protects them if @clear. */
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
			if (!kvm_rmap_get(first).val)
				continue;
			found = true;
			if (clear)
				rmap_clear(first, level, true);
		}
	}

	return found;
}

/*
 * Logging began with all pages in the log, so the memslot's huge pages are still there, and still
 * writable.  With eager_page_split and the TDP MMU, split the huge pages of the range, so that
 * vCPUs need not split them.  Then write-protect the huge pages that are left, so that a write
 * splits them.  Split first: small SPTEs inherit W, and pages that are still in the log need not
 * fault.
 *
 * A vCPU may split a huge page meanwhile.  Its small SPTEs inherit W, and are visited after
 * this.  KVM makes no huge page in a memslot that is logged.  A forged dirty ring may name a
 * memslot that is not logged, and nobody relies on a log of that.
 *
 * To split huge pages, KVM drops mmu_lock and takes it again.  To split huge pages in rmaps, it
 * takes mmu_lock for write.  That is fine: the log's bits are taken already, and not yet returned
 * to userspace.
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
 * @gfn_offset: the page of bit 0 of @mask, counted from the first of @slot
 * @mask: the pages, at least one, and none beyond the end of @slot
 *
 * The caller has taken the pages out of the log, and flushes TLBs before it returns to
 * userspace.
 *
 * Context: slots_lock held; mmu_lock held for read.  If KVM has to split huge pages (logging began
 * with all pages in the log), it drops mmu_lock, may sleep, and takes mmu_lock again.
 */
void kvm_arch_mmu_enable_log_dirty_pt_masked(struct kvm *kvm, struct kvm_memory_slot *slot,
					     gfn_t gfn_offset, unsigned long mask)
{
	const struct dirty_log_range range = {
		.slot = slot,
		.gfn = slot->base_gfn + gfn_offset,
		.mask = mask,
		/* With PML, the CPU logs a write that sets Dirty. */
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
