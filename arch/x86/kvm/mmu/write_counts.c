// SPDX-License-Identifier: GPL-2.0-only
/*
 * How often each page of a memslot is tracked for writes, see write_counts.h.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/hash.h>
#include <linux/limits.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "write_counts.h"

#define BLOCK_PAGES	64

/*
 * A bucket for so many pages of the memslot, within limits.  If all pages of a memslot of
 * 8 GiB are tracked, chains are of 16 blocks on average.  Beyond that, those who track are
 * not that many: for each page that KVM tracks for itself, there is a shadow page, and those
 * are in 4096 buckets for the whole VM.
 */
#define PAGES_PER_BUCKET	1024
#define MAX_BUCKETS		2048

struct write_block {
	union {
		struct hlist_node link;
		/* While it is spare. */
		struct write_block *next;
	};
	/* Its first page is BLOCK_PAGES times this. */
	unsigned long number;
	/* How many of its counts are not 0. */
	unsigned int nr_tracked;
	u16 counts[BLOCK_PAGES];
	struct rcu_head rcu;
};

struct write_counts {
	struct write_spares *spares;
	struct hlist_head *buckets;
	unsigned int bits;
	unsigned long nr_blocks;
	/* Used once they are put aside. */
	struct list_head link;
};

/* @object was allocated, or is about to be freed. */
static void account(struct write_spares *spares, const void *object, bool allocated)
{
	long size = ksize(object);

	atomic_long_add(allocated ? size : -size, &spares->bytes);
}

/**
 * write_spares_init - there are no spare blocks as yet
 * @spares: the VM's
 */
void write_spares_init(struct write_spares *spares)
{
	spin_lock_init(&spares->lock);
	spares->first = NULL;
	spares->nr = 0;
	atomic_long_set(&spares->bytes, 0);
}

static void put_spare(struct write_spares *spares, struct write_block *block)
{
	spin_lock(&spares->lock);
	block->next = spares->first;
	spares->first = block;
	WRITE_ONCE(spares->nr, spares->nr + 1);
	spin_unlock(&spares->lock);
}

static struct write_block *take_spare(struct write_spares *spares)
{
	struct write_block *block;

	spin_lock(&spares->lock);
	block = spares->first;
	if (block) {
		spares->first = block->next;
		WRITE_ONCE(spares->nr, spares->nr - 1);
	}
	spin_unlock(&spares->lock);
	return block;
}

/**
 * write_spares_fill - allocate spare blocks
 * @spares: the VM's
 * @min: how many there have to be
 * @nr: how many there are to be if there is memory, not less than @min
 *
 * They are not the caller's: who needs them asks write_spares_have() when nobody else can
 * take them any more.
 *
 * Context: may sleep.
 * Return: 0, or -ENOMEM, with some of them allocated perhaps.
 */
int write_spares_fill(struct write_spares *spares, unsigned int min, unsigned int nr)
{
	struct write_block *block;

	might_sleep();

	/* Pairs with the WRITE_ONCE() of put_spare() and take_spare(): may be out of date. */
	while (READ_ONCE(spares->nr) < nr) {
		block = kmalloc(sizeof(*block), GFP_KERNEL_ACCOUNT);
		if (!block)
			return READ_ONCE(spares->nr) < min ? -ENOMEM : 0;
		account(spares, block, true);
		put_spare(spares, block);
	}
	return 0;
}

/**
 * write_spares_have - is there what may be needed?
 * @spares: the VM's
 * @nr: at most so many blocks are needed until the lock is dropped
 *
 * Context: what excludes write_counts_add() by others: mmu_lock held for write.
 * Return: false if others took them: drop the lock, fill them again, and begin anew.
 */
bool write_spares_have(const struct write_spares *spares, unsigned int nr)
{
	/* Only rises meanwhile, as nobody else takes any. */
	return READ_ONCE(spares->nr) >= nr;
}

/**
 * write_spares_free - free the spare blocks that are there
 * @spares: the VM's
 *
 * Context: what excludes write_counts_add(): mmu_lock held for write, or nobody else knows
 * of them any more.
 */
void write_spares_free(struct write_spares *spares)
{
	struct write_block *block;

	while ((block = take_spare(spares))) {
		account(spares, block, false);
		kfree(block);
	}
}

/**
 * write_counts_create - the counts of a memslot, each of them 0
 * @spares: where blocks are taken from, and memory is accounted; must outlive the counts
 * @npages: of the memslot, more than 0
 *
 * Context: may sleep.
 * Return: the counts, or NULL if there is no memory.
 */
struct write_counts *write_counts_create(struct write_spares *spares, unsigned long npages)
{
	/* Not one bucket: hash_long() does not know of 0 bits. */
	unsigned long nr = clamp(npages / PAGES_PER_BUCKET, 2UL, (unsigned long)MAX_BUCKETS);
	struct write_counts *counts = kmalloc(sizeof(*counts), GFP_KERNEL_ACCOUNT);

	if (!counts)
		return NULL;

	counts->spares = spares;
	counts->bits = ilog2(nr);
	counts->nr_blocks = 0;
	counts->buckets = kcalloc(1UL << counts->bits, sizeof(*counts->buckets),
				  GFP_KERNEL_ACCOUNT);
	if (!counts->buckets) {
		kfree(counts);
		return NULL;
	}

	account(spares, counts, true);
	account(spares, counts->buckets, true);
	return counts;
}

/**
 * write_counts_free - free the counts of a memslot, tracked pages or not
 * @counts: of the memslot
 *
 * Context: a grace period after the last reader could find them.
 */
void write_counts_free(struct write_counts *counts)
{
	struct write_block *block;
	struct hlist_node *next;
	unsigned long i;

	for (i = 0; i < 1UL << counts->bits; i++) {
		hlist_for_each_entry_safe(block, next, &counts->buckets[i], link) {
			account(counts->spares, block, false);
			kfree(block);
		}
	}
	account(counts->spares, counts->buckets, false);
	account(counts->spares, counts, false);
	kfree(counts->buckets);
	kfree(counts);
}

/**
 * write_counts_put_aside - remember to free the counts of a memslot
 * @counts: of the memslot, which does not refer to them any more
 * @unused: the list for write_counts_free_all()
 *
 * Context: any; readers may still be at them.
 */
void write_counts_put_aside(struct write_counts *counts, struct list_head *unused)
{
	list_add(&counts->link, unused);
}

/**
 * write_counts_free_all - write_counts_free() for each that was put aside
 * @unused: the list, which is empty afterwards
 *
 * Context: a grace period after the last reader could find them.
 */
void write_counts_free_all(struct list_head *unused)
{
	struct write_counts *counts, *next;

	list_for_each_entry_safe(counts, next, unused, link)
		write_counts_free(counts);
	INIT_LIST_HEAD(unused);
}

static struct hlist_head *bucket_of(const struct write_counts *counts, unsigned long number)
{
	return &counts->buckets[hash_long(number, counts->bits)];
}

static __always_inline struct write_block *find_block(const struct write_counts *counts,
						      unsigned long number)
{
	struct write_block *block;

	/* Of those who change counts, there is one, and it needs no RCU. */
	hlist_for_each_entry_rcu(block, bucket_of(counts, number), link, true) {
		if (block->number == number)
			return block;
	}
	return NULL;
}

#if IS_ENABLED(CONFIG_KUNIT)
/* What a reader has in hand while the block is unlinked, of which it reads a byte. */
const u8 *write_counts_block(const struct write_counts *counts, unsigned long index)
{
	return (const u8 *)find_block(counts, index / BLOCK_PAGES);
}
#endif

/**
 * write_counts_add - track a page once more
 * @counts: of the memslot
 * @index: the page, counted from the memslot's first
 *
 * Context: what excludes all others who add or remove; there is a spare block, see
 * write_spares_have().
 * Return: 0; -EOVERFLOW if it is tracked as often as can be counted, or -ENOMEM if there is
 * no spare block, which is a bug of the caller's, and nothing has changed.
 */
int write_counts_add(struct write_counts *counts, unsigned long index)
{
	unsigned long number = index / BLOCK_PAGES;
	struct write_block *block = find_block(counts, number);
	u16 *count;

	if (!block) {
		block = take_spare(counts->spares);
		if (WARN_ON_ONCE(!block))
			return -ENOMEM;

		block->number = number;
		block->nr_tracked = 1;
		memset(block->counts, 0, sizeof(block->counts));
		block->counts[index % BLOCK_PAGES] = 1;
		/* Releases all of the above; pairs with the dependent reads of find_block(). */
		hlist_add_head_rcu(&block->link, bucket_of(counts, number));
		counts->nr_blocks++;
		return 0;
	}

	count = &block->counts[index % BLOCK_PAGES];
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
 * Context: what excludes all others who add or remove.
 * Return: 0; -ENOENT if it is not tracked, and nothing has changed.
 */
int write_counts_remove(struct write_counts *counts, unsigned long index)
{
	struct write_block *block = find_block(counts, index / BLOCK_PAGES);
	u16 *count;

	if (!block)
		return -ENOENT;
	count = &block->counts[index % BLOCK_PAGES];
	if (!*count)
		return -ENOENT;

	/* Pairs with the READ_ONCE() of write_counts_test(). */
	WRITE_ONCE(*count, *count - 1);
	if (*count || --block->nr_tracked)
		return 0;

	/* Not among the spares, to be another block at once: a reader may be at this one. */
	hlist_del_rcu(&block->link);
	counts->nr_blocks--;
	account(counts->spares, block, false);
	kfree_rcu(block, rcu);
	return 0;
}

/**
 * write_counts_test - how often is a page tracked?
 * @counts: of the memslot
 * @index: the page, counted from the memslot's first
 *
 * Context: RCU read-side critical section, or what excludes all others who add or remove.
 * Return: that, or 0; what others add or remove meanwhile may be seen or not.
 */
unsigned int write_counts_test(const struct write_counts *counts, unsigned long index)
{
	struct write_block *block = find_block(counts, index / BLOCK_PAGES);

	return block ? READ_ONCE(block->counts[index % BLOCK_PAGES]) : 0;
}

/**
 * write_counts_for_each - call a function for each page that is tracked
 * @counts: of the memslot
 * @fn: gets the page, counted from the memslot's first, and how often it is tracked; must
 *	not add or remove
 * @data: for @fn
 *
 * Context: what excludes all others who add or remove.
 */
void write_counts_for_each(const struct write_counts *counts,
			   void (*fn)(unsigned long index, unsigned int count, void *data),
			   void *data)
{
	struct write_block *block;
	unsigned long i;
	int j;

	/* Mostly, there is none. */
	for (i = 0; counts->nr_blocks && i < 1UL << counts->bits; i++) {
		hlist_for_each_entry(block, &counts->buckets[i], link) {
			for (j = 0; j < BLOCK_PAGES; j++) {
				if (block->counts[j])
					fn(block->number * BLOCK_PAGES + j, block->counts[j], data);
			}
		}
	}
}
