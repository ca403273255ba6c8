/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How often each page of a memslot is tracked for writes, in memory that is proportional
 * to the pages that are.
 *
 * The counts are in blocks of 64 pages each, in a hash table of the memslot's.  A block is
 * there while any of its pages is tracked, and is freed a grace period after none is.  Who
 * changes counts excludes all others who do, by mmu_lock held for write; who reads needs
 * RCU alone.
 *
 * With mmu_lock held, no block can be allocated.  So they are taken from the VM's spare
 * ones, which are filled before the lock is taken, and looked at again afterwards, as
 * somebody else may have taken them.
 */
#ifndef __KVM_X86_MMU_WRITE_COUNTS_H
#define __KVM_X86_MMU_WRITE_COUNTS_H

#include <linux/atomic.h>
#include <linux/compiler_types.h>
#include <linux/spinlock_types.h>
#include <linux/types.h>

struct write_block;
struct write_counts;

/* The spare blocks of a VM, and how much memory its counts take. */
struct write_spares {
	/* Protects @first; @nr is read without. */
	spinlock_t lock;
	struct write_block *first;
	unsigned int nr;
	/* As allocated: of tables, blocks and spares; not of what waits for a grace period. */
	atomic_long_t bytes;
};

void write_spares_init(struct write_spares *spares);
int write_spares_fill(struct write_spares *spares, unsigned int min, unsigned int nr);
bool write_spares_have(const struct write_spares *spares, unsigned int nr);
void write_spares_free(struct write_spares *spares);

struct write_counts *write_counts_create(struct write_spares *spares, unsigned long npages);
void write_counts_free(struct write_counts *counts);
void write_counts_put_aside(struct write_counts *counts, struct list_head *unused);
void write_counts_free_all(struct list_head *unused);

int write_counts_add(struct write_counts *counts, unsigned long index);
int write_counts_remove(struct write_counts *counts, unsigned long index);
unsigned int write_counts_test(const struct write_counts *counts, unsigned long index);
void write_counts_for_each(const struct write_counts *counts,
			   void (*fn)(unsigned long index, unsigned int count, void *data),
			   void *data);

#if IS_ENABLED(CONFIG_KUNIT)
const u8 *write_counts_block(const struct write_counts *counts, unsigned long index);
#endif

#endif
