/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_TESTS_AGE_VM_H
#define __KVM_X86_MMU_TESTS_AGE_VM_H

/*
 * TDP page tables that the cases build themselves, and beside each of them a table of
 * what its SPTEs must be.
 */
#include "mmu/age.h"
#include "masks.h"
#include "vm.h"

#define AGE_ENTRIES	512
#define AGE_MAX_TABLES	64
#define AGE_MAX_ROOTS	6

#define GFNS_2M		BIT_ULL(9)
#define GFNS_1G		BIT_ULL(18)
#define GFNS_512G	BIT_ULL(27)
#define GFNS_4_LEVELS	BIT_ULL(36)

struct age_root {
	struct kvm_mmu_page *sp;
	int level;
	int as_id;
	bool invalid;
};

struct age_table {
	struct age_root *root;
	/* The first gfn below it, and what each of its SPTEs must be. */
	gfn_t gfn;
	int level;
	u64 *spt;
	u64 *expected;
};

struct age_vm {
	const struct kvm_mask_set *set;
	struct kunit *test;
	struct kvm *kvm;
	struct kvm_memory_slot *slots[2];
	struct age_root roots[AGE_MAX_ROOTS];
	int nr_roots;
	struct age_table tables[AGE_MAX_TABLES];
	int nr_tables;
	/* All valid leaves, without page size and address. */
	u64 *leaves;
	u32 nr_leaves;
};

/* How many leaves are looked at, and how many of them are young. */
struct age_result {
	u64 scanned;
	u64 young;
};

static inline gfn_t gfns_per_leaf(int level)
{
	return 1ull << (9 * (level - 1));
}

u64 age_make_leaf(u64 leaf, gfn_t gfn, int level);
u64 age_young_leaf(struct age_vm *vm, gfn_t gfn, int level);
u64 age_mmio_spte(gfn_t gfn);
struct age_table *age_add_table(struct age_vm *vm, struct age_root *root,
				gfn_t gfn, int level);
struct age_root *age_add_root(struct age_vm *vm, int level, int as_id,
			      bool invalid);
int age_index(struct age_table *table, gfn_t gfn);
u64 *age_set_entry(struct age_table *table, int index, u64 spte);
struct age_table *age_table(struct age_vm *vm, struct age_root *root,
			    gfn_t gfn, int level);
u64 *age_set(struct age_vm *vm, struct age_root *root, gfn_t gfn, int level,
	     u64 spte);
u64 *age_set_young(struct age_vm *vm, struct age_root *root, gfn_t gfn,
		   int level);
void age_expect_old(struct age_vm *vm, struct age_result *result,
		    u64 *expected, bool test_only);
void age_compare(struct age_vm *vm);
int age_init(struct kunit *test);

#endif
