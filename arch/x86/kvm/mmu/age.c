// SPDX-License-Identifier: GPL-2.0-only
/*
 * Aging of guest memory without mmu_lock: of the TDP MMU's SPTEs under RCU, and of SPTEs in
 * rmaps with the lock of the rmap.  Documentation/virt/kvm/x86/aging.rst lists the races, and
 * what settles each.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/find.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/percpu.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>

#include "age.h"
#include "mmu.h"
#include "mmu_internal.h"
#include "mmutrace.h"
#include "rmap.h"
#include "spte.h"
#include "tdp_iter.h"

/* Aging runs without mmu_lock.  The generic walk must not take it either. */
static_assert(IS_ENABLED(CONFIG_KVM_AGE_WITHOUT_LOCK));

/* What to do with the young SPTEs of a range. */
struct age_op {
	/* Make none of them old. */
	bool test_only;
	/* If not NULL: which pages to make old, and where to say which are young. */
	const struct kvm_age_bitmap *bitmap;
};

/*
 * Note that the SPTE that maps the gfns [start, end) of the range is young.  Returns true if
 * the caller is to make it old.
 */
static __always_inline bool age_found_young(const struct kvm_gfn_range *range,
					    const struct age_op *op, gfn_t start, gfn_t end)
{
	const struct kvm_age_bitmap *bitmap = op->bitmap;
	unsigned long first, last;

	if (!bitmap)
		return !op->test_only;

	/* The bits go down while the gfns go up. */
	first = bitmap->first - (end - 1 - range->start);
	last = bitmap->first - (start - range->start);

	bitmap_set(bitmap->young, first, last - first + 1);
	return find_next_bit(bitmap->clear, last + 1, first) <= last;
}

#ifdef CONFIG_X86_64
/* Age or test one SPTE of the TDP MMU, which may map gfns outside of the range, too. */
static __always_inline bool tdp_age_spte(u64 *sptep, u64 spte, int level, gfn_t gfn,
					 const struct kvm_gfn_range *range,
					 const struct age_op *op,
					 struct kvm_age_stats *stats)
{
	gfn_t base = gfn_round_for_level(gfn, level);
	gfn_t end = min(base + KVM_PAGES_PER_HPAGE(level), range->end);

	/* Frozen and MMIO SPTEs are not shadow-present. */
	if (!is_shadow_present_pte(spte))
		return false;

	stats->scanned++;
	if (!is_accessed_spte(spte))
		return false;

	stats->young++;
	if (age_found_young(range, op, gfn, end) && age_leaf(sptep, spte, stats) &&
	    trace_kvm_tdp_mmu_spte_changed_enabled())
		trace_kvm_tdp_mmu_spte_changed(range->slot->as_id, base, level, spte,
					       age_spte(spte));
	return true;
}

/*
 * Test the SPTEs from *@sptep, of @gfn, on, up to the end of the page table or to @end,
 * and age those in the bitmap.  Returns the gfn where it ended.
 *
 * This does for each SPTE what tdp_age_spte() does, without the tracepoint.  The loop is
 * most of what it costs to age a page table of the host, so it goes over a word of the
 * bitmaps at a time, and has little in it.
 */
static gfn_t tdp_age_table(u64 *sptep, gfn_t gfn, gfn_t end,
			   const struct kvm_gfn_range *range,
			   const struct kvm_age_bitmap *bitmap, struct kvm_age_stats *stats)
{
	gfn_t table_end = gfn_round_for_level(gfn, PG_LEVEL_2M) + SPTE_ENT_PER_PAGE;
	const u64 accessed = shadow_accessed_mask;

	end = min(end, table_end);

	while (gfn < end) {
		/* The bits go down while the gfns go up. */
		unsigned long bit = bitmap->first - (gfn - range->start);
		gfn_t n = min(end - gfn, (gfn_t)bit % BITS_PER_LONG + 1);
		unsigned long clear = bitmap->clear[BIT_WORD(bit)];
		unsigned long mask = BIT_MASK(bit), young = 0;
		u64 *stop = sptep + n;

		for (; sptep < stop; sptep++, mask >>= 1) {
			/*
			 * The CPU, faults and zaps may write the SPTE meanwhile.
			 * Read it once, so that the cmpxchg expects the value that
			 * was checked.  Pairs with their atomic operations.
			 */
			u64 spte = READ_ONCE(*sptep);
			u64 old;

			if (!is_shadow_present_pte(spte))
				continue;

			stats->scanned++;
			/*
			 * Open-coded is_accessed_spte() and age_spte() for A/D
			 * bits.  On a CPU without an Accessed bit, all SPTEs of the
			 * TDP MMU have A/D bits disabled.
			 */
			if (likely(spte_ad_enabled(spte))) {
				old = spte & ~accessed;
				if (old == spte)
					continue;
			} else {
				if (!is_accessed_spte(spte))
					continue;
				old = age_spte(spte);
			}

			young |= mask;
			if (clear & mask)
				__age_leaf(sptep, spte, old, stats);
		}

		bitmap->young[BIT_WORD(bit)] |= young;
		stats->young += hweight_long(young);
		gfn += n;
	}

	return end;
}

/*
 * Age or test the leaves of one root that map the gfns of the range, up to @end.  A
 * huge SPTE counts even if only a part of it is in the range.
 *
 * Most ranges are a single page, or the gfns of one page table of the host.  So the walk
 * goes straight down to the last level, on to the end of that page table, and begins at the
 * root again for the next one.
 */
static __always_inline bool tdp_age_root(struct kvm_mmu_page *root, int root_level,
					 gfn_t end, const struct kvm_gfn_range *range,
					 const struct age_op *op,
					 struct kvm_age_stats *stats)
{
	gfn_t gfn = range->start;
	bool young = false;

	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "RCU does not keep the page tables");

	while (gfn < end) {
		/* RCU keeps the root and its page tables. */
		u64 *spt = root->spt;
		int level = root_level;
		u64 *sptep, spte;

		for (;;) {
			sptep = spt + SPTE_INDEX(gfn << PAGE_SHIFT, level);
			/*
			 * Faults and zaps may write the SPTE meanwhile.  Read it
			 * once, so that the cmpxchg expects the value that was
			 * checked.  Pairs with the write that linked a child: the
			 * reads of the child's SPTEs depend on this one, so they
			 * return what was there then, or newer.  That write is the
			 * cmpxchg of tdp_mmu_set_spte_atomic(), or, with mmu_lock
			 * held for write, the xchg or the plain store of
			 * kvm_tdp_mmu_write_spte(), before which x86 makes earlier
			 * stores visible.
			 */
			spte = READ_ONCE(*sptep);
			if (!is_shadow_present_pte(spte) || is_last_spte(spte, level))
				break;
			spt = __va(spte_to_pfn(spte) << PAGE_SHIFT);
			level--;
		}

		/* Its neighbours may be page tables. */
		if (level > PG_LEVEL_4K) {
			young |= tdp_age_spte(sptep, spte, level, gfn, range, op, stats);
			gfn = gfn_round_for_level(gfn, level) + KVM_PAGES_PER_HPAGE(level);
			continue;
		}

		if (op->bitmap && !trace_kvm_tdp_mmu_spte_changed_enabled()) {
			gfn = tdp_age_table(sptep, gfn, end, range, op->bitmap, stats);
			continue;
		}

		for (;;) {
			young |= tdp_age_spte(sptep, spte, PG_LEVEL_4K, gfn, range, op, stats);
			gfn++;
			if (gfn >= end || !SPTE_INDEX(gfn << PAGE_SHIFT, PG_LEVEL_4K))
				break;
			spte = READ_ONCE(*++sptep);
		}
	}

	return young;
}

/*
 * Age or test all valid roots of the memslot's address space.  The walk needs no reference
 * to a root: KVM unlinks roots with list_del_rcu(), and frees them by call_rcu().  It does
 * not matter whether the walk visits a root that becomes invalid meanwhile: KVM marks the
 * pages of its dirty SPTEs dirty when it zaps the root, and a vCPU that still uses the root
 * loads a valid one, and faults its pages there, young.
 */
static __always_inline bool tdp_age_gfn_range(struct kvm *kvm,
					      const struct kvm_gfn_range *range,
					      const struct age_op *op,
					      struct kvm_age_stats *stats)
{
	const int as_id = range->slot->as_id;
	struct kvm_mmu_page *root;
	bool young = false;

	if (!tdp_mmu_enabled)
		return false;

	rcu_read_lock();

	list_for_each_entry_rcu(root, &kvm->arch.tdp_mmu_roots, link) {
		/*
		 * kvm_tdp_mmu_invalidate_all_roots() may set role.invalid meanwhile.
		 * The rest of the role never changes.  So it is fine to read the
		 * role once.  Pairs with that function's WRITE_ONCE().
		 */
		union kvm_mmu_page_role role = { .word = READ_ONCE(root->role.word) };
		gfn_t end;

		if (role.invalid || kvm_mmu_role_as_id(role) != as_id)
			continue;

		/* A root with fewer levels than the others maps fewer gfns. */
		end = min_t(gfn_t, range->end, KVM_PAGES_PER_HPAGE(role.level + 1));
		young |= tdp_age_root(root, role.level, end, range, op, stats);
	}

	rcu_read_unlock();

	return young;
}
#else
static bool tdp_age_gfn_range(struct kvm *kvm, const struct kvm_gfn_range *range,
			      const struct age_op *op, struct kvm_age_stats *stats)
{
	return false;
}
#endif

/*
 * Age or test the SPTEs of one rmap, which map the gfns [start, end) of the range, and maybe
 * others.  While the rmap is locked, KVM cannot remove SPTEs from it, so it neither frees
 * their shadow pages nor uses the SPTEs for another gfn.  It may zap them, because
 * drop_spte() clears an SPTE before it removes it.
 */
static __always_inline bool rmap_age(struct kvm_rmap_head *rmap_head, gfn_t start, gfn_t end,
				     const struct kvm_gfn_range *range,
				     const struct age_op *op,
				     struct kvm_age_stats *stats)
{
	/* Do not read the head again: if the list was empty, nobody has locked it. */
	unsigned long list = kvm_rmap_lock(rmap_head);
	struct rmap_iterator iter;
	bool young = false;
	u64 *sptep;

	if (!list)
		return false;

	lockdep_assert(kvm_rmap_lock_held());

	for (sptep = rmap_list_first(list, &iter); sptep; sptep = rmap_list_next(&iter)) {
		u64 spte = mmu_spte_get_lockless(sptep);

		if (!is_shadow_present_pte(spte))
			continue;

		stats->scanned++;
		if (!is_accessed_spte(spte))
			continue;

		young = true;
		stats->young++;
		/* The other SPTEs of this rmap get the same answer. */
		if (!age_found_young(range, op, start, end))
			break;

		age_leaf(sptep, spte, stats);
	}

	kvm_rmap_unlock(rmap_head, list);

	return young;
}

/*
 * Age or test the rmaps of the range, on all levels: from the first to the last rmap that
 * has a gfn of the range.  A range of two gfns may have two rmaps of an upper level.
 */
static __always_inline bool rmap_age_gfn_range(struct kvm *kvm,
					       const struct kvm_gfn_range *range,
					       const struct age_op *op,
					       struct kvm_age_stats *stats)
{
	const struct kvm_memory_slot *slot = range->slot;
	bool young = false;
	int level;

	if (!kvm_memslots_have_rmaps(kvm))
		return false;

	/*
	 * With the TDP MMU, KVM shadows nested guests only, and none of them runs
	 * without an indirect shadow page.  The count may go up meanwhile.  That is
	 * fine: aging misses what the nested guest has used since, as if it had come
	 * before.  Pairs with the WRITE_ONCE() of account_shadowed().
	 */
	if (tdp_mmu_enabled && !READ_ONCE(kvm->arch.indirect_shadow_pages))
		return false;

	/*
	 * KVM allocates rmaps for the current memslots.  This one may be older:
	 * replaced before that, and kept by kvm->srcu.
	 */
	if (!slot->arch.rmap[0])
		return false;

	for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		struct kvm_rmap_head *rmap_head = gfn_to_rmap(range->start, level, slot);
		gfn_t gfn, next;

		for (gfn = range->start; gfn < range->end; gfn = next, rmap_head++) {
			next = gfn_round_for_level(gfn, level) + KVM_PAGES_PER_HPAGE(level);
			young |= rmap_age(rmap_head, gfn, min(next, range->end), range, op,
					  stats);
			if (young && op->test_only)
				return true;
		}
	}

	return young;
}

static __always_inline bool age_gfn_range(struct kvm *kvm,
					  const struct kvm_gfn_range *range,
					  const struct age_op op)
{
	struct kvm_age_stats stats = {};
	bool young;

	/* For range->slot. */
	lockdep_assert(srcu_read_lock_held(&kvm->srcu));

	young = tdp_age_gfn_range(kvm, range, &op, &stats);
	if (!young || !op.test_only)
		young |= rmap_age_gfn_range(kvm, range, &op, &stats);

	if (!stats.scanned)
		return false;

	this_cpu_inc(kvm_age_stats.ranges);
	this_cpu_add(kvm_age_stats.scanned, stats.scanned);
	if (stats.young)
		this_cpu_add(kvm_age_stats.young, stats.young);
	if (stats.aged)
		this_cpu_add(kvm_age_stats.aged, stats.aged);
	if (stats.lost)
		this_cpu_add(kvm_age_stats.lost, stats.lost);

	trace_kvm_mmu_age(range->slot->as_id, range->start, range->end, op.test_only, &stats);

	return young;
}

/**
 * kvm_age_gfn - make the SPTEs of a range of gfns old
 * @kvm: the VM
 * @range: gfns [start, end) of one memslot
 *
 * The page of a young SPTE is not marked accessed: the caller, clear_young(),
 * does what it wants with the return value.  TLBs are not flushed.
 *
 * Context: kvm->srcu held for read; does not sleep, does not take mmu_lock.  Time
 * is bounded by the number of SPTEs of the range, times the number of roots, plus
 * the SPTEs in its rmaps.  Preemption is off for one rmap at a time.
 * Return: true if any SPTE was young, which includes those that changed
 * meanwhile and so were left as they are.
 */
bool kvm_age_gfn(struct kvm *kvm, struct kvm_gfn_range *range)
{
	return age_gfn_range(kvm, range, (struct age_op) {});
}

/**
 * kvm_test_age_gfn - test whether the SPTEs of a range of gfns are young
 * @kvm: the VM
 * @range: gfns [start, end) of one memslot
 *
 * Context: as kvm_age_gfn().
 * Return: true if any SPTE was young.
 */
bool kvm_test_age_gfn(struct kvm *kvm, struct kvm_gfn_range *range)
{
	return age_gfn_range(kvm, range, (struct age_op) { .test_only = true });
}

/**
 * kvm_age_gfn_bitmap - test the SPTEs of a range of gfns, and make some of them old
 * @kvm: the VM
 * @range: gfns [start, end) of one memslot
 * @bitmap: the gfns to make old, and where to set the bits of those that are young
 *
 * A huge SPTE is young for all gfns of the range that it maps, and is made old if the
 * bit of any of them is set in @bitmap->clear.
 *
 * Context: as kvm_age_gfn(), with the bound that this gives: for the 512 gfns of a
 * host's page table, 512 SPTEs for each root, and as many rmaps, plus one or two of
 * each upper level.
 */
void kvm_age_gfn_bitmap(struct kvm *kvm, struct kvm_gfn_range *range,
			const struct kvm_age_bitmap *bitmap)
{
	age_gfn_range(kvm, range, (struct age_op) { .bitmap = bitmap });
}
