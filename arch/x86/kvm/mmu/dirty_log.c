// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clearing the dirty log beside running vCPUs, with mmu_lock held for read.
 * Documentation/virt/kvm/locking.rst says why no write is lost.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/debugfs.h>
#include <linux/find.h>
#include <linux/kvm_host.h>
#include <linux/minmax.h>
#include <linux/percpu.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

#include "dirty_log.h"
#include "mmu.h"
#include "mmu_internal.h"
#include "mmutrace.h"
#include "rmap.h"
#include "tdp_mmu.h"
#include "tdp_walk.h"

/* The generic code takes the bits of a range, and leaves mmu_lock to this file. */
static_assert(IS_ENABLED(CONFIG_HAVE_KVM_LOG_DIRTY_RANGE));

/*
 * What clears of the log did, since the module was loaded, for all VMs.  Kept out of struct kvm, as
 * those of aging.
 */
static DEFINE_PER_CPU(struct {
	/* SPTEs that lost W or Dirty. */
	unsigned long cleared;
	/* How often a clear let another task run, or have mmu_lock. */
	unsigned long gave_way;
}, dirty_log_stats);

/* Pages whose next write KVM has to notice, of gfns that one page table maps. */
struct dirty_log_range {
	const struct kvm_memory_slot *slot;
	/* Bit 0 is that of the gfn @first. */
	const unsigned long *bitmap;
	gfn_t first;
	/* The gfns [@start, @end) that have their bit set.  @start has. */
	gfn_t start;
	gfn_t end;
	/* How KVM notices a write, see dirty_log_cleared(). */
	bool wrprot;
	/* SPTEs that were cleared, also of the ranges before. */
	unsigned long cleared;
};

/* The word of the bitmap that begins with the bit @base, without the pages before and after. */
static __always_inline unsigned long range_word(const unsigned long *bitmap, unsigned long base,
						unsigned long start, unsigned long end)
{
	unsigned long word = bitmap[BIT_WORD(base)];

	if (!word)
		return 0;
	if (base < start)
		word &= BITMAP_FIRST_WORD_MASK(start);
	if (end - base < BITS_PER_LONG)
		word &= BITMAP_LAST_WORD_MASK(end);
	return word;
}

/*
 * Marks the page dirty if the clear removes the only bit that says so.  The page still is the
 * guest's: the MMU notifier needs mmu_lock for write to take it away.
 */
static __always_inline bool clear_leaf(u64 *sptep, u64 *spte, u64 *new_spte, int level, bool wrprot,
				       struct dirty_log_range *range)
{
	if (!dirty_log_clear_spte(sptep, spte, level, wrprot))
		return false;

	range->cleared++;
	*new_spte = dirty_log_cleared(*spte, level, wrprot);
	if (dirty_log_lost_dirty(*spte, *new_spte))
		kvm_set_pfn_dirty(spte_to_pfn(*spte));
	return true;
}

#ifdef CONFIG_X86_64
/* Returns false if the SPTE was no leaf, or was not present, and has to be looked for again. */
static __always_inline bool tdp_clear_leaf(u64 *sptep, u64 spte, gfn_t gfn, int level, bool wrprot,
					   struct dirty_log_range *range)
{
	u64 new_spte;

	if (!clear_leaf(sptep, &spte, &new_spte, level, wrprot, range))
		return is_shadow_present_pte(spte) && is_last_spte(spte, level);

	trace_kvm_tdp_mmu_spte_changed(range->slot->as_id, gfn, level, spte, new_spte);
	return true;
}

/*
 * Clear the SPTEs of one page table, which maps all gfns of the range.  *@sptep is that of the
 * first.
 */
static __always_inline void tdp_clear_table(u64 *sptep, struct dirty_log_range *range, bool wrprot)
{
	const unsigned long start = range->start - range->first;
	const unsigned long end = range->end - range->first;
	const unsigned long *bitmap = range->bitmap;
	unsigned long base, word, i;

	sptep -= start;
	for (base = round_down(start, BITS_PER_LONG); base < end; base += BITS_PER_LONG) {
		for (word = range_word(bitmap, base, start, end); word; word &= word - 1) {
			i = base + __ffs(word);
			/*
			 * The CPU, faults, aging and zaps by other holders of mmu_lock for read may
			 * write the SPTE meanwhile.  Read it once, so that the cmpxchg expects
			 * the value that was checked.  Pairs with the writers that
			 * dirty_log_clear_spte() lists.
			 */
			tdp_clear_leaf(sptep + i, READ_ONCE(sptep[i]), range->first + i,
				       PG_LEVEL_4K, wrprot, range);
		}
	}
}

/*
 * Returns true if the root maps the range by a huge SPTE, and @leave_huge.  Otherwise a huge SPTE
 * is write-protected, also with PML, so that a write splits it.
 */
static bool tdp_clear_root(struct kvm_mmu_page *root, int root_level,
			   struct dirty_log_range *range, bool leave_huge)
{
	u64 *sptep, spte;
	int level;

	/* A root with fewer levels than the others maps fewer gfns. */
	if (range->start >= KVM_PAGES_PER_HPAGE(root_level + 1))
		return false;

	do {
		level = root_level;
		sptep = tdp_find_spte(root->spt, range->start, &level, PG_LEVEL_4K, &spte);
		if (level == PG_LEVEL_4K) {
			if (range->wrprot)
				tdp_clear_table(sptep, range, true);
			else
				tdp_clear_table(sptep, range, false);
			return false;
		}
		if (!is_shadow_present_pte(spte))
			return false;
		if (leave_huge)
			return true;
		/* A vCPU may have split it meanwhile.  Its small SPTEs inherit W. */
	} while (!tdp_clear_leaf(sptep, spte, gfn_round_for_level(range->start, level), level, true,
				 range));

	return false;
}

/*
 * All valid roots of the memslot's address space.  RCU keeps them and their page tables, as
 * it does for aging.  A root that is created meanwhile has no SPTE that a vCPU wrote through
 * before the bits were taken.
 */
static bool tdp_clear(struct kvm *kvm, struct dirty_log_range *range, bool leave_huge)
{
	union kvm_mmu_page_role role;
	struct kvm_mmu_page *root;
	bool left = false;

	lockdep_assert_held_read(&kvm->mmu_lock);

	if (!tdp_mmu_enabled)
		return false;

	list_for_each_entry_rcu(root, &kvm->arch.tdp_mmu_roots, link) {
		if (tdp_root_is_valid(root, range->slot->as_id, &role))
			left |= tdp_clear_root(root, role.level, range, leave_huge);
	}

	return left;
}
#else
static bool tdp_clear(struct kvm *kvm, struct dirty_log_range *range, bool leave_huge)
{
	return false;
}
#endif

/* mmu_lock, held for read, keeps the rmap, and the shadow pages that its SPTEs are in. */
static __always_inline void rmap_clear(struct kvm_rmap_head *rmap_head, int level, bool wrprot,
				       struct dirty_log_range *range)
{
	struct rmap_iterator iter;
	u64 *sptep, spte, new_spte;

	for (sptep = rmap_list_first(kvm_rmap_get(rmap_head), &iter); sptep;
	     sptep = rmap_list_next(&iter)) {
		spte = mmu_spte_get_lockless(sptep);
		clear_leaf(sptep, &spte, &new_spte, level, wrprot, range);
	}
}

static void rmaps_clear(struct dirty_log_range *range)
{
	struct kvm_rmap_head *rmap_heads = gfn_to_rmap(range->first, PG_LEVEL_4K, range->slot);
	const unsigned long start = range->start - range->first;
	const unsigned long end = range->end - range->first;
	unsigned long base, word;

	for (base = round_down(start, BITS_PER_LONG); base < end; base += BITS_PER_LONG) {
		for (word = range_word(range->bitmap, base, start, end); word; word &= word - 1)
			rmap_clear(rmap_heads + base + __ffs(word), PG_LEVEL_4K, range->wrprot,
				   range);
	}
}

/* Does the range have huge pages in rmaps?  Write-protects them if @clear. */
static bool rmaps_huge(struct dirty_log_range *range, bool clear)
{
	struct kvm_rmap_head *rmap_head;
	bool found = false;
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		/* One of each level: the range is within 2 MiB. */
		rmap_head = gfn_to_rmap(range->start, level, range->slot);
		if (!kvm_rmap_get(rmap_head).val)
			continue;
		found = true;
		if (clear)
			rmap_clear(rmap_head, level, true, range);
	}

	return found;
}

/* RCU keeps the page tables of the TDP MMU, see tdp_clear(). */
static void clear_lock(struct kvm *kvm)
	__acquires(&kvm->mmu_lock)
	__acquires(RCU)
{
	read_lock(&kvm->mmu_lock);
	rcu_read_lock();
}

static void clear_unlock(struct kvm *kvm)
	__releases(RCU)
	__releases(&kvm->mmu_lock)
{
	rcu_read_unlock();
	read_unlock(&kvm->mmu_lock);
}

/*
 * If logging began with all pages in the log, the memslot's huge pages are still there, and still
 * writable.  With eager_page_split and the TDP MMU, split those that the range needs, so that vCPUs
 * need not split them.  Then write-protect what is left, so that a write splits it.  Split first:
 * small SPTEs inherit W, and pages that are still in the log need not fault.
 *
 * KVM makes no huge page in a memslot that is logged.  A forged dirty ring may name a memslot that
 * is not logged, and nobody relies on a log of that.
 *
 * To split huge pages, KVM drops mmu_lock and takes it again.  To split huge pages in rmaps, it
 * takes mmu_lock for write.  That is fine: the log's bits are taken already, and userspace copies
 * the pages only when the ioctl has returned.
 */
static void clear_range(struct kvm *kvm, struct dirty_log_range *range)
{
	const bool huge = kvm_dirty_log_manual_protect_and_init_set(kvm);
	bool split = huge && READ_ONCE(eager_page_split) && tdp_mmu_enabled;

	if (split && kvm_memslots_have_rmaps(kvm) && rmaps_huge(range, false)) {
		clear_unlock(kvm);
		write_lock(&kvm->mmu_lock);
		kvm_shadow_mmu_try_split_huge_pages(kvm, range->slot, range->start, range->end,
						    PG_LEVEL_4K);
		write_unlock(&kvm->mmu_lock);
		clear_lock(kvm);
	}

	while (tdp_clear(kvm, range, split)) {
		rcu_read_unlock();
		kvm_tdp_mmu_try_split_huge_pages(kvm, range->slot, range->start, range->end,
						 PG_LEVEL_4K, true);
		rcu_read_lock();
		split = false;
	}

	/*
	 * Also without any guest whose page tables KVM shadows.  A direct shadow page that has lost
	 * its parent keeps SPTEs with W, and KVM may link it again.
	 */
	if (!kvm_memslots_have_rmaps(kvm))
		return;

	if (huge)
		rmaps_huge(range, true);
	rmaps_clear(range);
}

/**
 * kvm_arch_mmu_enable_log_dirty_range - have the next write to some pages logged
 * @kvm: the VM
 * @slot: their memslot
 * @offset: the page of bit 0 of @bitmap, counted from the first of @slot
 * @npages: how many bits there are, none of them beyond the end of @slot
 * @bitmap: the pages
 *
 * The caller has taken the pages out of the log, and flushes TLBs before it lets go of slots_lock,
 * and so before any ioctl that clears returns to userspace.
 *
 * Between two page tables, this lets other tasks run, and gives mmu_lock to one that waits for it.
 * A task that held it for write meanwhile has flushed what it changed.  What was cleared before
 * that still has to be flushed; KVM finds an SPTE that may be writable in a TLB by MMU-writable.
 *
 * Context: slots_lock held.  Takes mmu_lock for read; may sleep.  If KVM has to split huge pages
 * (logging began with all pages in the log) of a nested guest, takes it for write.
 */
void kvm_arch_mmu_enable_log_dirty_range(struct kvm *kvm, struct kvm_memory_slot *slot,
					 gfn_t offset, unsigned long npages,
					 const unsigned long *bitmap)
{
	struct dirty_log_range range = {
		.slot = slot,
		.bitmap = bitmap,
		.first = slot->base_gfn + offset,
		/* With PML, the CPU logs a write that sets Dirty. */
		.wrprot = !kvm_x86_ops.cpu_dirty_log_size,
	};
	unsigned long bit;

	lockdep_assert_held(&kvm->slots_lock);

	clear_lock(kvm);

	bit = find_first_bit(bitmap, npages);
	while (bit < npages) {
		range.start = range.first + bit;
		range.end = gfn_round_for_level(range.start, PG_LEVEL_2M) + SPTE_ENT_PER_PAGE;
		range.end = min(range.end, range.first + npages);
		clear_range(kvm, &range);

		/*
		 * Ask the lock itself: rwlock_needbreak() is 0 unless the kernel is fully
		 * preemptible.  vCPUs that fault queue up behind a writer that waits.
		 */
		bit = find_next_bit(bitmap, npages, range.end - range.first);
		if (bit < npages && (need_resched() || rwlock_is_contended(&kvm->mmu_lock))) {
			clear_unlock(kvm);
			this_cpu_inc(dirty_log_stats.gave_way);
			cond_resched();
			clear_lock(kvm);
		}
	}

	clear_unlock(kvm);
	this_cpu_add(dirty_log_stats.cleared, range.cleared);
}

static int dirty_log_stats_show(struct seq_file *m, void *unused)
{
	unsigned long cleared = 0, gave_way = 0;
	int cpu;

	for_each_possible_cpu(cpu) {
		cleared += READ_ONCE(per_cpu(dirty_log_stats, cpu).cleared);
		gave_way += READ_ONCE(per_cpu(dirty_log_stats, cpu).gave_way);
	}

	seq_printf(m, "cleared %lu\n", cleared);
	seq_printf(m, "gave_way %lu\n", gave_way);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dirty_log_stats);

/**
 * dirty_log_create_debugfs - create the file that shows what clears of the log did
 * @dir: KVM's debugfs directory; removing it removes the file
 *
 * Context: may sleep.  Errors are ignored, as debugfs asks its users to do.
 */
void dirty_log_create_debugfs(struct dentry *dir)
{
	debugfs_create_file("dirty_log", 0444, dir, NULL, &dirty_log_stats_fops);
}
