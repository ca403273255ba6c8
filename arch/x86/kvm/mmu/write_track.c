// SPDX-License-Identifier: GPL-2.0-only
/*
 * How often each page of a memslot is write-tracked, see write_track.h.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/hash.h>
#include <linux/kvm_host.h>
#include <linux/limits.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "mmu_internal.h"
#include "write_track.h"

/*
 * A memslot has one bucket for PAGES_PER_BUCKET of its pages, rounded down to a power of two, and
 * between 2 and MAX_BUCKETS of them.  If all pages of a memslot of 8 GiB are tracked, a chain has
 * 16 blocks on average.  KVM does not track all pages of a larger memslot itself: it has a shadow
 * page for each page that it tracks, and limits shadow pages, by default to one for 50 pages of
 * memory.  It finds them in 4096 buckets for the whole VM, so those chains grow, too.  A guest can
 * choose page tables that share a bucket in either table, and so slow its own faults.
 */
#define PAGES_PER_BUCKET	1024
#define MAX_BUCKETS		2048

/**
 * write_counts_create - the counts of a memslot, each of them 0
 * @npages: of the memslot, more than 0
 *
 * Context: may sleep.
 * Return: the counts, or NULL if there is no memory.
 */
struct write_counts *write_counts_create(unsigned long npages)
{
	/* Not one bucket: hash_long() does not take 0 bits. */
	unsigned long nr = clamp(npages / PAGES_PER_BUCKET, 2UL, (unsigned long)MAX_BUCKETS);
	struct write_counts *counts = kmalloc(sizeof(*counts), GFP_KERNEL_ACCOUNT);

	if (!counts)
		return NULL;

	counts->bits = ilog2(nr);
	counts->nr_blocks = 0;
	counts->buckets = kcalloc(1UL << counts->bits, sizeof(*counts->buckets),
				  GFP_KERNEL_ACCOUNT);
	if (!counts->buckets) {
		kfree(counts);
		return NULL;
	}

	return counts;
}

/**
 * write_counts_free - free the counts of a memslot, whether or not they are 0
 * @counts: of the memslot
 *
 * Context: no reader can find the counts.
 */
void write_counts_free(struct write_counts *counts)
{
	struct write_block *block;
	struct hlist_node *next;
	unsigned long i;

	for (i = 0; counts->nr_blocks && i < 1UL << counts->bits; i++) {
		hlist_for_each_entry_safe(block, next, &counts->buckets[i], link) {
			kfree(block);
			counts->nr_blocks--;
		}
	}
	kfree(counts->buckets);
	kfree(counts);
}

static struct hlist_head *bucket_of(const struct write_counts *counts, unsigned long number)
{
	return &counts->buckets[hash_long(number, counts->bits)];
}

/* @exclusive: the caller keeps writers out.  Otherwise the caller is in an RCU read section. */
static __always_inline struct write_block *find_block(const struct write_counts *counts,
						      unsigned long number, bool exclusive)
{
	struct write_block *block;

	hlist_for_each_entry_rcu(block, bucket_of(counts, number), link, exclusive) {
		if (block->number == number)
			return block;
	}
	return NULL;
}

#if IS_ENABLED(CONFIG_KUNIT)
/* For the KUnit suite: the block of a page, as a reader finds it. */
const u8 *write_counts_block(const struct write_counts *counts, unsigned long index)
{
	return (const u8 *)find_block(counts, index / WRITE_BLOCK_PAGES, false);
}
#endif

/**
 * write_counts_add - track a page once more
 * @counts: of the memslot
 * @index: the page, counted from the memslot's first
 * @blocks: holds a zeroed object of at least sizeof(struct write_block)
 *
 * Context: the caller excludes all other writers.
 * Return: 0, or -EOVERFLOW if the count is U16_MAX, and then nothing has changed.
 */
int write_counts_add(struct write_counts *counts, unsigned long index,
		     struct kvm_mmu_memory_cache *blocks)
{
	unsigned long number = index / WRITE_BLOCK_PAGES;
	struct write_block *block = find_block(counts, number, true);
	u16 *count;

	if (!block) {
		block = kvm_mmu_memory_cache_alloc(blocks);
		block->number = number;
		block->nr_tracked = 1;
		block->counts[index % WRITE_BLOCK_PAGES] = 1;
		/* Releases all of the above.  Pairs with the dependent reads of find_block(). */
		hlist_add_head_rcu(&block->link, bucket_of(counts, number));
		/* Pairs with the READ_ONCE() of write_counts_bytes(). */
		WRITE_ONCE(counts->nr_blocks, counts->nr_blocks + 1);
		return 0;
	}

	count = &block->counts[index % WRITE_BLOCK_PAGES];
	if (*count == U16_MAX)
		return -EOVERFLOW;

	if (!*count)
		block->nr_tracked++;
	/* Pairs with the READ_ONCE() of write_counts_test(). */
	WRITE_ONCE(*count, *count + 1);
	return 0;
}

/**
 * write_counts_remove - track a page once less
 * @counts: of the memslot
 * @index: the page, counted from the memslot's first
 *
 * Context: the caller excludes all other writers.
 * Return: 0, or -ENOENT if the page is not tracked, and then nothing has changed.
 */
int write_counts_remove(struct write_counts *counts, unsigned long index)
{
	struct write_block *block = find_block(counts, index / WRITE_BLOCK_PAGES, true);
	u16 *count;

	if (!block)
		return -ENOENT;
	count = &block->counts[index % WRITE_BLOCK_PAGES];
	if (!*count)
		return -ENOENT;

	/* Pairs with the READ_ONCE() of write_counts_test(). */
	WRITE_ONCE(*count, *count - 1);
	if (*count || --block->nr_tracked)
		return 0;

	/* A reader may be looking at the block: free it after a grace period. */
	hlist_del_rcu(&block->link);
	WRITE_ONCE(counts->nr_blocks, counts->nr_blocks - 1);
	kfree_rcu(block, rcu);
	return 0;
}

static __always_inline unsigned int counts_test(const struct write_counts *counts,
						unsigned long index)
{
	const struct write_block *block;
	unsigned int count;

	rcu_read_lock();
	block = find_block(counts, index / WRITE_BLOCK_PAGES, false);
	/* Pairs with the WRITE_ONCE() of write_counts_add() and write_counts_remove(). */
	count = block ? READ_ONCE(block->counts[index % WRITE_BLOCK_PAGES]) : 0;
	rcu_read_unlock();
	return count;
}

/**
 * write_counts_test - how often is a page tracked?
 * @counts: of the memslot, which the caller keeps from being freed
 * @index: the page, counted from the memslot's first
 *
 * Context: any.
 * Return: the count, which a writer may change meanwhile.
 */
unsigned int write_counts_test(const struct write_counts *counts, unsigned long index)
{
	return counts_test(counts, index);
}

/**
 * write_counts_bytes - the memory that the counts of a memslot take
 * @counts: of the memslot, which the caller keeps from being freed
 *
 * Context: any.
 * Return: bytes.
 */
unsigned long write_counts_bytes(const struct write_counts *counts)
{
	return kmalloc_size_roundup(sizeof(*counts)) +
	       kmalloc_size_roundup(sizeof(*counts->buckets) << counts->bits) +
	       READ_ONCE(counts->nr_blocks) * WRITE_BLOCK_BYTES;
}

static struct write_counts *counts_of(const struct kvm_memory_slot *slot)
{
	/*
	 * The pointer's type is historical: it points to a struct write_counts, see struct
	 * kvm_arch_memory_slot.
	 */
	return (struct write_counts *)slot->arch.gfn_write_track;
}

/**
 * write_track_alloc_memslot - have counts for a memslot
 * @kvm: the VM
 * @slot: the memslot, whose npages is set; it may have counts already
 *
 * Context: slots_arch_lock held.  The caller does not drop it before it has published the memslot,
 * or set the flag that kvm_page_track_write_tracking_enabled() reads.
 * Return: 0, or -ENOMEM.
 */
int write_track_alloc_memslot(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	lockdep_assert_held(&kvm->slots_arch_lock);

	if (!slot->arch.gfn_write_track)
		slot->arch.gfn_write_track = (void *)write_counts_create(slot->npages);

	return slot->arch.gfn_write_track ? 0 : -ENOMEM;
}

/**
 * write_track_free_memslot - a memslot goes away
 * @slot: the memslot, which no reader finds any more
 *
 * Context: kvm->srcu has had a grace period since KVM unpublished the memslot, or the VM has
 * no vCPUs any more.
 */
void write_track_free_memslot(struct kvm_memory_slot *slot)
{
	struct write_counts *counts = counts_of(slot);

	if (!counts)
		return;

	write_counts_free(counts);
	slot->arch.gfn_write_track = NULL;
}

/**
 * write_track_add - track a page once more
 * @kvm: the VM, which tracks writes
 * @slot: the current memslot of @gfn
 * @gfn: the page
 * @blocks: as for write_counts_add()
 *
 * Context: mmu_lock held for write.
 * Return: as write_counts_add().
 */
int write_track_add(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		    struct kvm_mmu_memory_cache *blocks)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	return write_counts_add(counts_of(slot), gfn - slot->base_gfn, blocks);
}

/**
 * write_track_remove - track a page once less
 * @kvm: the VM, which tracks writes
 * @slot: the current memslot of @gfn
 * @gfn: the page
 *
 * Context: mmu_lock held for write.
 * Return: as write_counts_remove().
 */
int write_track_remove(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	return write_counts_remove(counts_of(slot), gfn - slot->base_gfn);
}

/**
 * write_track_count - how often is a page tracked in one address space, by KVM and by trackers?
 * @kvm: the VM, which tracks writes
 * @slot: the current memslot of @gfn
 * @gfn: the page
 *
 * Context: mmu_lock held for write.
 * Return: the count.
 */
unsigned int write_track_count(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	return write_counts_test(counts_of(slot), gfn - slot->base_gfn);
}

/* By the current memslot of @gfn, if there is one. */
static noinline bool is_tracked_now(struct kvm_memslots *slots, gfn_t gfn)
{
	const struct kvm_memory_slot *slot = __gfn_to_memslot(slots, gfn);
	const struct write_counts *counts = slot ? counts_of(slot) : NULL;

	return counts && write_counts_test(counts, gfn - slot->base_gfn);
}

/**
 * write_track_test - is a page tracked, in any address space?
 * @kvm: the VM, for which kvm_page_track_write_tracking_enabled() was true
 * @slot: a memslot of @gfn, which KVM may have replaced since the caller looked it up
 * @gfn: the page
 *
 * Context: kvm->srcu or slots_lock held.  With mmu_lock held, for read or write, no other task
 * tracks or untracks the page: if it was tracked when the caller took the lock, it still is, unless
 * that was in the other address space, and its memslot there is deleted.
 */
bool write_track_test(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn)
{
	const struct write_counts *counts = counts_of(slot);
	struct kvm_memslots *slots;

	BUILD_BUG_ON(KVM_MAX_NR_ADDRESS_SPACES > 2);
	lockdep_assert_once(lockdep_is_held(&kvm->slots_lock) ||
			    srcu_read_lock_held(&kvm->srcu));

	if (likely(counts)) {
		if (counts_test(counts, gfn - slot->base_gfn))
			return true;
	} else if (is_tracked_now(__kvm_memslots(kvm, slot->as_id), gfn)) {
		/*
		 * A vCPU may hold a memslot that KVM replaced, by one with other flags, before the
		 * VM tracked writes.  That memslot never gets counts.  The current one has them:
		 * KVM set the pointer before the flag that the caller read.
		 */
		return true;
	}

	if (kvm_arch_nr_memslot_as_ids(kvm) == 1)
		return false;

	/* Few VMs have memslots in the address space of SMM. */
	slots = __kvm_memslots(kvm, slot->as_id ^ 1);
	return !kvm_memslots_empty(slots) && is_tracked_now(slots, gfn);
}

/**
 * write_track_bytes - the memory that it takes to track writes
 * @kvm: the VM
 *
 * Context: may sleep.
 * Return: bytes, for the counts of all memslots, without what waits for a grace period.
 */
unsigned long write_track_bytes(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	unsigned long bytes = 0;
	int i, bkt, idx;

	/* kvm->srcu keeps the memslots, and the lock their pointers to counts. */
	idx = srcu_read_lock(&kvm->srcu);
	mutex_lock(&kvm->slots_arch_lock);
	for (i = 0; i < kvm_arch_nr_memslot_as_ids(kvm); i++) {
		kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, i)) {
			if (counts_of(slot))
				bytes += write_counts_bytes(counts_of(slot));
		}
	}
	mutex_unlock(&kvm->slots_arch_lock);
	srcu_read_unlock(&kvm->srcu, idx);
	return bytes;
}
