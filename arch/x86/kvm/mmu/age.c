// SPDX-License-Identifier: GPL-2.0-only
/*
 * Aging of guest memory without mmu_lock: of the TDP MMU's SPTEs under RCU, and of SPTEs in rmaps
 * with the lock of the rmap.  Documentation/virt/kvm/x86/aging.rst lists the races, and why each is
 * harmless.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/debugfs.h>
#include <linux/find.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/percpu.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/srcu.h>

#include "age.h"
#include "mmu.h"
#include "mmu_internal.h"
#include "mmutrace.h"
#include "rmap.h"
#include "spte.h"
#include "tdp_walk.h"

/* Aging runs without mmu_lock.  The generic walk must not take it either. */
static_assert(IS_ENABLED(CONFIG_KVM_MMU_LOCKLESS_AGING));

DEFINE_PER_CPU(struct kvm_age_stats, kvm_age_stats);

/* What to do with the young SPTEs of a range. */
struct age_op {
	/* Make none of them old. */
	bool test_only;
	/* If not NULL: which pages to make old, and where to say which are young. */
	const struct kvm_age_bitmap *bitmap;
	/* The bit of the first gfn of the range.  The bits go down while the gfns go up. */
	unsigned long first;
	/* If not NULL: the working set is read, and nothing is aged. */
	struct kvm_working_set_slot *working_set;
};

/*
 * Record in the bitmap that a young SPTE maps the gfns [start, end) of the range.  Returns true if
 * the caller is to make it old.
 */
static __always_inline bool age_found_young(const struct kvm_gfn_range *range,
					    const struct age_op *op, gfn_t start, gfn_t end)
{
	unsigned long first, last;

	if (!op->bitmap)
		return !op->test_only;

	first = op->first - (end - 1 - range->start);
	last = op->first - (start - range->start);

	bitmap_set(op->bitmap->young, first, last - first + 1);
	return find_next_bit(op->bitmap->clear, last + 1, first) <= last;
}

#ifdef CONFIG_X86_64
/* Make an SPTE of the TDP MMU old, if it still is what it was. */
static __always_inline void tdp_age_leaf(u64 *sptep, u64 spte, u64 aged, gfn_t gfn, int level,
					 const struct kvm_gfn_range *range,
					 struct kvm_age_stats *stats)
{
	if (__age_leaf(sptep, spte, aged, stats) && trace_kvm_tdp_mmu_spte_changed_enabled())
		trace_kvm_tdp_mmu_spte_changed(range->slot->as_id, gfn, level, spte, aged);
}

/*
 * Age or test a huge SPTE.  @gfn is the first gfn of the range that it maps.  It may also map gfns
 * outside of the range.
 */
static __always_inline void tdp_age_huge(u64 *sptep, u64 spte, int level, gfn_t gfn,
					 const struct kvm_gfn_range *range,
					 const struct age_op *op, struct kvm_age_stats *stats)
{
	gfn_t base = gfn_round_for_level(gfn, level);
	gfn_t end = min(base + KVM_PAGES_PER_HPAGE(level), range->end);

	/* Frozen and MMIO SPTEs are not shadow-present. */
	if (!is_shadow_present_pte(spte))
		return;

	stats->scanned++;
	if (!is_accessed_spte(spte))
		return;

	stats->young++;
	if (age_found_young(range, op, gfn, end))
		tdp_age_leaf(sptep, spte, age_spte(spte), base, level, range, stats);
}

/*
 * Age or test SPTEs of one page table: from *@sptep, which maps @gfn, to the end of the table or to
 * @end, whichever is first.  Returns the gfn after the last one.
 *
 * This loop dominates the cost of aging a page table of the host.  So the outer loop loads and
 * stores one word of the bitmaps at a time, and the inner loop has little to do.  Without bitmaps,
 * most ranges are a single gfn, and the outer loop runs once.
 */
static __always_inline gfn_t tdp_age_table(u64 *sptep, gfn_t gfn, gfn_t end,
					   const struct kvm_gfn_range *range,
					   const struct age_op *op, struct kvm_age_stats *stats)
{
	gfn_t table_end = gfn_round_for_level(gfn, PG_LEVEL_2M) + SPTE_ENT_PER_PAGE;
	const u64 accessed = shadow_accessed_mask;
	const u64 young_mask = accessed | SPTE_YOUNG_AGING;
	const u64 young_ws = shadow_young_ws_mask;
	const bool age_all = !op->bitmap && !op->test_only;

	end = min(end, table_end);

	while (gfn < end) {
		unsigned long mask = 0, clear = 0, young = 0, bit = 0;
		gfn_t next = end;

		if (op->bitmap) {
			bit = op->first - (gfn - range->start);
			next = min(end, gfn + bit % BITS_PER_LONG + 1);
			mask = BIT_MASK(bit);
			clear = op->bitmap->clear[BIT_WORD(bit)];
		}

		for (; gfn < next; gfn++, sptep++, mask >>= 1) {
			/*
			 * The CPU, faults, zaps, clears of the dirty log and other walks may write
			 * the SPTE meanwhile.  Read it once, so that the cmpxchg expects the value
			 * that was checked.  Pairs with the writers that __age_leaf() lists.
			 */
			u64 spte = READ_ONCE(*sptep);
			u64 aged;

			if (!is_shadow_present_pte(spte))
				continue;

			stats->scanned++;
			/*
			 * is_accessed_spte() and age_spte(), open-coded for an SPTE with A/D bits.
			 * On a CPU without an Accessed bit, all SPTEs of the TDP MMU have A/D bits
			 * disabled.
			 */
			if (likely(spte_ad_enabled(spte))) {
				aged = spte & ~young_mask;
				if (likely(spte & accessed))
					aged |= young_ws;
				else if (aged == spte)
					continue;
			} else {
				if (!is_accessed_spte(spte))
					continue;
				aged = age_spte(spte);
			}

			stats->young++;
			/* The mask is 0 without bitmaps. */
			young |= mask;
			if ((clear & mask) || age_all)
				tdp_age_leaf(sptep, spte, aged, gfn, PG_LEVEL_4K, range, stats);
		}

		if (op->bitmap)
			op->bitmap->young[BIT_WORD(bit)] |= young;
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
static __always_inline void tdp_age_root(struct kvm_mmu_page *root, int root_level,
					 gfn_t end, const struct kvm_gfn_range *range,
					 const struct age_op *op,
					 struct kvm_age_stats *stats)
{
	gfn_t gfn = range->start;

	while (gfn < end) {
		int level = root_level;
		u64 *sptep, spte;

		sptep = tdp_find_spte(root->spt, gfn, &level, PG_LEVEL_4K, &spte);
		if (level == PG_LEVEL_4K) {
			gfn = tdp_age_table(sptep, gfn, end, range, op, stats);
			continue;
		}

		/* Its neighbours may be page tables. */
		tdp_age_huge(sptep, spte, level, gfn, range, op, stats);
		gfn = gfn_round_for_level(gfn, level) + KVM_PAGES_PER_HPAGE(level);
	}
}

/*
 * Age or test all valid roots of the memslot's address space.  It does not matter whether the
 * walk visits a root that becomes invalid meanwhile: KVM marks the pages of its dirty SPTEs
 * dirty when it zaps the root, and a vCPU that still uses the root loads a valid one, and
 * faults its pages there, young.
 */
static __always_inline void tdp_age_gfn_range(struct kvm *kvm,
					      const struct kvm_gfn_range *range,
					      const struct age_op *op,
					      struct kvm_age_stats *stats)
{
	union kvm_mmu_page_role role;
	struct kvm_mmu_page *root;

	if (!tdp_mmu_enabled)
		return;

	rcu_read_lock();

	list_for_each_entry_rcu(root, &kvm->arch.tdp_mmu_roots, link) {
		gfn_t end;

		if (!tdp_root_is_valid(root, range->slot->as_id, &role))
			continue;

		/* A root with fewer levels than the others maps fewer gfns. */
		end = min_t(gfn_t, range->end, KVM_PAGES_PER_HPAGE(role.level + 1));
		tdp_age_root(root, role.level, end, range, op, stats);
	}

	rcu_read_unlock();
}
#else
static void tdp_age_gfn_range(struct kvm *kvm, const struct kvm_gfn_range *range,
			      const struct age_op *op, struct kvm_age_stats *stats)
{
}
#endif

/*
 * Age, test or read the SPTEs of one rmap of @level, which map the gfns [start, end) of the range,
 * and maybe others.  While the rmap is locked, KVM cannot remove SPTEs from it, so it neither frees
 * their shadow pages nor uses the SPTEs for another gfn.  It may zap them, because
 * drop_spte() clears an SPTE before it removes it.
 */
static __always_inline void rmap_age(struct kvm_rmap_head *rmap_head, int level,
				     gfn_t start, gfn_t end, const struct kvm_gfn_range *range,
				     const struct age_op *op,
				     struct kvm_age_stats *stats)
{
	/* Do not read the head again: if the list was empty, nobody has locked it. */
	struct rmap_list list = kvm_rmap_lock_readonly(rmap_head);
	struct rmap_iterator iter;
	bool touched = false;
	u64 *sptep;

	if (!list.val)
		return;

	lockdep_assert(kvm_rmap_lock_held());

	for (sptep = rmap_list_first(list, &iter); sptep; sptep = rmap_list_next(&iter)) {
		u64 spte = mmu_spte_get_lockless(sptep);

		if (op->working_set) {
			touched |= working_set_read_leaf(sptep, spte, level);
			continue;
		}

		if (!is_shadow_present_pte(spte))
			continue;

		stats->scanned++;
		if (!is_accessed_spte(spte))
			continue;

		stats->young++;
		/* The other SPTEs of this rmap get the same answer. */
		if (!age_found_young(range, op, start, end))
			break;

		age_leaf(sptep, spte, stats);
	}

	kvm_rmap_unlock_readonly(rmap_head, list);

	if (touched)
		working_set_found(op->working_set, start, level);
}

/*
 * Age or test the rmaps of the range, on all levels: from the first to the last rmap that
 * has a gfn of the range.  A range of two gfns may have two rmaps of an upper level.  Returns
 * false if there are no rmaps to walk.
 */
static __always_inline bool rmap_age_gfn_range(struct kvm *kvm,
					       const struct kvm_gfn_range *range,
					       const struct age_op *op,
					       struct kvm_age_stats *stats)
{
	const struct kvm_memory_slot *slot = range->slot;
	int level;

	if (!kvm_memslots_have_rmaps(kvm))
		return false;

	/*
	 * With the TDP MMU, only nested guests whose page tables KVM shadows have SPTEs in rmaps,
	 * and each of them has an indirect shadow page.  The count may change meanwhile.  That is
	 * fine: aging misses what the new guest used, as if it had run before the guest.  Direct
	 * shadow pages without a parent may have SPTEs, too, and nobody uses those.  Pairs with the
	 * WRITE_ONCE() of account_shadowed() and unaccount_shadowed().
	 */
	if (tdp_mmu_enabled && !READ_ONCE(kvm->arch.indirect_shadow_pages))
		return false;

	/*
	 * KVM allocates rmaps for the current memslots.  This memslot may have been replaced before
	 * that; kvm->srcu keeps it.
	 */
	if (!slot->arch.rmap[0])
		return false;

	for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		struct kvm_rmap_head *rmap_head = gfn_to_rmap(range->start, level, slot);
		gfn_t gfn, next;

		for (gfn = range->start; gfn < range->end; gfn = next, rmap_head++) {
			next = gfn_round_for_level(gfn, level) + KVM_PAGES_PER_HPAGE(level);
			rmap_age(rmap_head, level, gfn, min(next, range->end), range, op, stats);
			if (stats->young && op->test_only)
				return true;
		}
	}

	return true;
}

static __always_inline bool age_gfn_range(struct kvm *kvm,
					  const struct kvm_gfn_range *range,
					  const struct age_op op)
{
	struct kvm_age_stats stats = {};

	/* kvm->srcu keeps range->slot. */
	lockdep_assert(srcu_read_lock_held(&kvm->srcu));
	lockdep_assert_not_held(&kvm->mmu_lock);

	tdp_age_gfn_range(kvm, range, &op, &stats);
	if (!stats.young || !op.test_only)
		rmap_age_gfn_range(kvm, range, &op, &stats);

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

	return stats.young;
}

/**
 * kvm_age_gfn - make the SPTEs of a range of gfns old
 * @kvm: the VM
 * @range: gfns [start, end) of one memslot
 *
 * This does not mark the page of a young SPTE accessed: the callers, clear_young() and
 * clear_flush_young(), report it to mm/ by the return value.  It does not flush TLBs.
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
 * kvm_age_read_rmaps - find what rmaps say was touched since the working set was last read
 * @kvm: the VM
 * @memslot: the memslot
 * @start: the first gfn, in the memslot
 * @end: one past the last gfn
 * @slot: where to record it
 *
 * Context: as kvm_age_gfn().
 * Return: false if the memslot has no rmaps to read.
 */
bool kvm_age_read_rmaps(struct kvm *kvm, const struct kvm_memory_slot *memslot, gfn_t start,
			gfn_t end, struct kvm_working_set_slot *slot)
{
	const struct kvm_gfn_range range = {
		.slot = (struct kvm_memory_slot *)memslot,
		.start = start,
		.end = end,
	};
	const struct age_op op = { .working_set = slot };
	struct kvm_age_stats unused = {};

	lockdep_assert(srcu_read_lock_held(&kvm->srcu));
	lockdep_assert_not_held(&kvm->mmu_lock);

	return rmap_age_gfn_range(kvm, &range, &op, &unused);
}

#if defined(KVM_AGE_BITMAP) || IS_ENABLED(CONFIG_KVM_MMU_KUNIT_TEST)
/**
 * kvm_age_gfn_bitmap - test the SPTEs of a range of gfns, and make some of them old
 * @kvm: the VM
 * @range: gfns [start, end) of one memslot, with arg.age_bitmap for the host virtual
 *	   addresses that they have there
 *
 * A huge SPTE is young for all gfns of the range that it maps, and is made old if the
 * bit of any of them is set in the bitmap's @clear.
 *
 * Context: as kvm_age_gfn().  For the 512 gfns of one page table of the host, the walk reads at
 * most 512 leaf SPTEs per root, and goes over 512 rmaps of the lowest level, and one or two of
 * each upper level.
 * Return: true if any SPTE was young.
 */
bool kvm_age_gfn_bitmap(struct kvm *kvm, struct kvm_gfn_range *range)
{
	const struct kvm_age_bitmap *bitmap = range->arg.age_bitmap;
	/* gfn_to_hva_memslot() is for writers, and returns an error for a read-only memslot. */
	unsigned long hva = __gfn_to_hva_memslot(range->slot, range->start);

	return age_gfn_range(kvm, range, (struct age_op) {
		.bitmap = bitmap,
		.first = ((bitmap->end - hva) >> PAGE_SHIFT) - 1,
	});
}
#endif

/**
 * kvm_age_stats_sum - what aging did, since the module was loaded, on all CPUs
 *
 * Context: any.  The sum may miss aging that runs meanwhile.
 * Return: the sum.
 */
struct kvm_age_stats kvm_age_stats_sum(void)
{
	struct kvm_age_stats sum = {};
	int cpu;

	for_each_possible_cpu(cpu) {
		struct kvm_age_stats *stats = per_cpu_ptr(&kvm_age_stats, cpu);

		sum.scanned += READ_ONCE(stats->scanned);
		sum.young += READ_ONCE(stats->young);
		sum.aged += READ_ONCE(stats->aged);
		sum.lost += READ_ONCE(stats->lost);
		sum.ranges += READ_ONCE(stats->ranges);
	}

	return sum;
}

static int kvm_age_stats_show(struct seq_file *m, void *unused)
{
	struct kvm_age_stats sum = kvm_age_stats_sum();

	seq_printf(m, "scanned %lu\n", sum.scanned);
	seq_printf(m, "young %lu\n", sum.young);
	seq_printf(m, "aged %lu\n", sum.aged);
	seq_printf(m, "lost %lu\n", sum.lost);
	seq_printf(m, "ranges %lu\n", sum.ranges);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(kvm_age_stats);

/**
 * kvm_age_create_debugfs - create the file that shows what aging did
 * @dir: KVM's debugfs directory; removing it removes the file
 *
 * Context: may sleep.  Errors are ignored, as debugfs asks its users to do.
 */
void kvm_age_create_debugfs(struct dentry *dir)
{
	debugfs_create_file("age", 0444, dir, NULL, &kvm_age_stats_fops);
}
