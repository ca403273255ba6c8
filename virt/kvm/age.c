// SPDX-License-Identifier: GPL-2.0-only
/*
 * Aging of guest memory without mmu_lock: the part that is the same for all
 * architectures.  Selected by CONFIG_KVM_AGE_WITHOUT_LOCK.
 */
#include <linux/debugfs.h>
#include <linux/interval_tree.h>
#include <linux/kvm_age.h>
#include <linux/kvm_host.h>
#include <linux/minmax.h>
#include <linux/seq_file.h>
#include <linux/srcu.h>

DEFINE_PER_CPU(struct kvm_age_stats, kvm_age_stats);

/*
 * Ages, or tests, the gfns [range->start, range->end) of range->slot, and
 * returns true if any of them is young.  Neither sleeps nor expects mmu_lock.
 */
typedef bool (*kvm_age_handler_t)(struct kvm *kvm, struct kvm_gfn_range *range);

/*
 * Calls the handler, or kvm_age_gfn_bitmap() if there is a bitmap for [start, end)
 * instead.  Inlined, so that either is called directly.
 */
static __always_inline bool kvm_age_gfn_ranges(struct kvm *kvm,
					       unsigned long start,
					       unsigned long end,
					       kvm_age_handler_t handler,
					       struct kvm_age_bitmap *bitmap)
{
	struct kvm_gfn_range range = {
		.attr_filter = KVM_FILTER_SHARED,
		.may_block = false,
	};
	bool young = false;
	int as_id, idx;

	/* Whatever the architecture takes, it takes itself. */
	lockdep_assert_not_held(&kvm->mmu_lock);

	if (WARN_ON_ONCE(end <= start))
		return false;

	idx = srcu_read_lock(&kvm->srcu);

	for (as_id = 0; as_id < kvm_arch_nr_memslot_as_ids(kvm); as_id++) {
		struct kvm_memslots *slots = __kvm_memslots(kvm, as_id);
		struct interval_tree_node *node;

		for (node = interval_tree_iter_first(&slots->hva_tree, start, end - 1);
		     node; node = interval_tree_iter_next(node, start, end - 1)) {
			struct kvm_memory_slot *slot;
			unsigned long first, last;

			slot = container_of(node, struct kvm_memory_slot,
					    hva_node[slots->node_idx]);

			/* node->last is the last byte of the slot. */
			first = max(start, node->start);
			last = min(end - 1, node->last);

			range.slot = slot;
			range.start = hva_to_gfn_memslot(first, slot);
			range.end = hva_to_gfn_memslot(last, slot) + 1;

			if (!bitmap) {
				young |= handler(kvm, &range);
				continue;
			}

			/* Memslots are page-aligned, as the range is. */
			bitmap->first = ((end - first) >> PAGE_SHIFT) - 1;
			kvm_age_gfn_bitmap(kvm, &range, bitmap);
		}
	}

	srcu_read_unlock(&kvm->srcu, idx);

	return young;
}

/**
 * kvm_age_hva_range - make the guest memory behind a range of addresses old
 * @kvm: the VM
 * @start: first host virtual address, in bytes, need not be page-aligned
 * @end: last host virtual address plus one
 *
 * kvm_age_gfn() is called for every gfn whose page intersects [@start, @end),
 * once for each memslot and address space that maps it, without mmu_lock.
 *
 * The memslots are kept by kvm->srcu.  One that is deleted or moved meanwhile
 * stays as it is until the SRCU read section ends, but its SPTEs may be zapped
 * at any time: the architecture has to cope.  Unlike in the invalidating
 * notifiers, no state has to be equal between two calls, so nothing here waits
 * for a memslot update.
 *
 * Context: any in which SRCU may be read; does not sleep.  The contract of
 * mmu_notifier_ops.clear_young() holds: the caller may hold a page table lock,
 * and keeps the mm alive.
 *
 * Return: true if any of the memory was young.
 */
bool kvm_age_hva_range(struct kvm *kvm, unsigned long start, unsigned long end)
{
	return kvm_age_gfn_ranges(kvm, start, end, kvm_age_gfn, NULL);
}

/**
 * kvm_test_age_hva_range - is guest memory behind a range of addresses young?
 * @kvm: the VM
 * @start: first host virtual address, in bytes, need not be page-aligned
 * @end: last host virtual address plus one
 *
 * Like kvm_age_hva_range(), but calls kvm_test_age_gfn(), and so changes nothing.
 *
 * Context: as kvm_age_hva_range().
 *
 * Return: true if any of the memory is young.
 */
bool kvm_test_age_hva_range(struct kvm *kvm, unsigned long start, unsigned long end)
{
	return kvm_age_gfn_ranges(kvm, start, end, kvm_test_age_gfn, NULL);
}

/**
 * kvm_age_hva_bitmap - make some of the guest memory behind a range of addresses old
 * @kvm: the VM
 * @start: first host virtual address, in bytes, page-aligned
 * @end: last host virtual address plus one, page-aligned
 * @clear: which pages to make old, a bit for each; that of an address is
 *	   (@end - address) / PAGE_SIZE - 1
 * @young: where the bits of the young ones are set, and no bit cleared
 *
 * Tests all pages of [@start, @end), and ages those in @clear, in one go.  A gfn that
 * several memslots or address spaces map is young if it is in any of them, and is
 * made old in all of them.
 *
 * Context: as kvm_age_hva_range(), under the contract of
 * mmu_notifier_ops.test_clear_young().
 */
void kvm_age_hva_bitmap(struct kvm *kvm, unsigned long start, unsigned long end,
			const unsigned long *clear, unsigned long *young)
{
	struct kvm_age_bitmap bitmap = { .clear = clear, .young = young };

	if (WARN_ON_ONCE(!PAGE_ALIGNED(start | end)))
		return;

	kvm_age_gfn_ranges(kvm, start, end, NULL, &bitmap);
}

/**
 * kvm_age_stats_sum - what aging did, since the module was loaded, on all CPUs
 *
 * Context: any.  Who ages meanwhile is counted or not.
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
 * Context: may sleep.  Errors are debugfs's own, and ignored as its rules say.
 */
void kvm_age_create_debugfs(struct dentry *dir)
{
	debugfs_create_file("age", 0444, dir, NULL, &kvm_age_stats_fops);
}
