/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How often each page of a memslot is write-tracked, in memory that grows with the number of
 * tracked pages.
 *
 * A memslot has a hash table of blocks, each of which counts for 64 pages.  A block exists
 * while one of its pages is tracked.  Writers hold mmu_lock for write.  Readers hold RCU,
 * and KVM frees a block a grace period after it unlinks it.
 *
 * KVM cannot allocate a block while it holds mmu_lock, so write_track_add() takes one from
 * a cache that its caller filled before: a vCPU's mmu_page_header_cache, whose objects are
 * large enough for a block, too.
 */
#ifndef __KVM_X86_MMU_WRITE_TRACK_H
#define __KVM_X86_MMU_WRITE_TRACK_H

#include <linux/kvm_host.h>
#include <linux/minmax.h>

#define WRITE_BLOCK_PAGES	64

struct write_block {
	struct hlist_node link;
	/*
	 * The block counts for the pages from number * WRITE_BLOCK_PAGES on, counted from the
	 * memslot's first.
	 */
	unsigned long number;
	/* The number of counts that are not 0. */
	unsigned int nr_tracked;
	u16 counts[WRITE_BLOCK_PAGES];
	struct rcu_head rcu;
};

/* The size of an object of mmu_page_header_cache; needs mmu_internal.h. */
#define WRITE_BLOCK_BYTES	max(sizeof(struct kvm_mmu_page), sizeof(struct write_block))

struct write_counts {
	struct hlist_head *buckets;
	/* There are 1 << bits buckets. */
	unsigned int bits;
	/* Written with mmu_lock held for write, read without it. */
	unsigned long nr_blocks;
};

struct write_counts *write_counts_create(unsigned long npages);
void write_counts_free(struct write_counts *counts);
int write_counts_add(struct write_counts *counts, unsigned long index,
		     struct kvm_mmu_memory_cache *blocks);
int write_counts_remove(struct write_counts *counts, unsigned long index);
unsigned int write_counts_test(const struct write_counts *counts, unsigned long index);
unsigned long write_counts_bytes(const struct write_counts *counts);

#if IS_ENABLED(CONFIG_KUNIT)
const u8 *write_counts_block(const struct write_counts *counts, unsigned long index);
#endif

int write_track_alloc_memslot(struct kvm *kvm, struct kvm_memory_slot *slot);
void write_track_free_memslot(struct kvm_memory_slot *slot);

int write_track_add(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn,
		    struct kvm_mmu_memory_cache *blocks);
int write_track_remove(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn);
unsigned int write_track_count(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn);
bool write_track_test(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn);

unsigned long write_track_bytes(struct kvm *kvm);

#endif
