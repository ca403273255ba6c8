// SPDX-License-Identifier: GPL-2.0-only
/* A VM of nothing but TDP page tables, see age_vm.h. */
#include <linux/gfp.h>
#include <linux/rculist.h>
#include <linux/string.h>

#include "age_vm.h"

static u64 age_address(gfn_t gfn)
{
	/* Any address will do, as long as it is not that of another gfn. */
	return ((gfn << PAGE_SHIFT) ^ BIT_ULL(50)) & LEAF_ADDR;
}

u64 age_make_leaf(u64 leaf, gfn_t gfn, int level)
{
	leaf &= ~(LEAF_ADDR | LEAF_PSE);
	if (level > PG_LEVEL_4K)
		leaf |= LEAF_PSE;
	return leaf | age_address(gfn & ~(gfns_per_leaf(level) - 1));
}

u64 age_young_leaf(struct age_vm *vm, gfn_t gfn, int level)
{
	return age_make_leaf(kvm_young_leaf(vm->set), gfn, level);
}

/* With all bits set that mean anything in a leaf and may be set in an MMIO SPTE. */
u64 age_mmio_spte(gfn_t gfn)
{
	return shadow_mmio_value | MMIO_SPTE_GEN_LOW_MASK |
	       MMIO_SPTE_GEN_HIGH_MASK | ((gfn << PAGE_SHIFT) & GENMASK_ULL(39, 12));
}

static void age_free_table(void *spt)
{
	free_page((unsigned long)spt);
}

struct age_table *age_add_table(struct age_vm *vm, struct age_root *root,
				gfn_t gfn, int level)
{
	struct kunit *test = vm->test;
	struct age_table *table;

	KUNIT_ASSERT_LT(test, vm->nr_tables, AGE_MAX_TABLES);
	table = &vm->tables[vm->nr_tables];

	table->root = root;
	table->gfn = gfn & ~(gfns_per_leaf(level + 1) - 1);
	table->level = level;
	table->expected = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, table->expected);
	table->spt = (u64 *)__get_free_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, table->spt);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, age_free_table,
							table->spt), 0);

	memset64(table->expected, SHADOW_NONPRESENT_VALUE, AGE_ENTRIES);
	memset64(table->spt, SHADOW_NONPRESENT_VALUE, AGE_ENTRIES);
	vm->nr_tables++;
	return table;
}

struct age_root *age_add_root(struct age_vm *vm, int level, int as_id,
			      bool invalid)
{
	struct kunit *test = vm->test;
	struct age_table *table;
	struct kvm_mmu_page *sp;
	struct age_root *root;

	KUNIT_ASSERT_LT(test, vm->nr_roots, AGE_MAX_ROOTS);
	root = &vm->roots[vm->nr_roots++];
	root->level = level;
	root->as_id = as_id;
	root->invalid = invalid;

	sp = kunit_kzalloc(test, sizeof(*sp), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, sp);
	root->sp = sp;

	table = age_add_table(vm, root, 0, level);
	sp->tdp_mmu_page = true;
	sp->spt = table->spt;
	sp->role.level = level;
	sp->role.direct = true;
	sp->role.access = ACC_ALL;
	sp->role.ad_disabled = !vm->set->ad;
	sp->role.smm = as_id;
	sp->role.invalid = invalid;
	list_add_rcu(&sp->link, &vm->kvm->arch.tdp_mmu_roots);
	return root;
}

int age_index(struct age_table *table, gfn_t gfn)
{
	return (gfn - table->gfn) / gfns_per_leaf(table->level);
}

u64 *age_set_entry(struct age_table *table, int index, u64 spte)
{
	table->expected[index] = spte;
	WRITE_ONCE(table->spt[index], spte);
	return &table->spt[index];
}

/* The table of @level that has the SPTE of @gfn, made and linked if need be. */
struct age_table *age_table(struct age_vm *vm, struct age_root *root,
			    gfn_t gfn, int level)
{
	gfn_t first = gfn & ~(gfns_per_leaf(level + 1) - 1);
	struct age_table *table, *parent;
	int i;

	for (i = 0; i < vm->nr_tables; i++) {
		table = &vm->tables[i];
		if (table->root == root && table->level == level &&
		    table->gfn == first)
			return table;
	}

	KUNIT_ASSERT_LT(vm->test, level, root->level);
	parent = age_table(vm, root, gfn, level + 1);
	table = age_add_table(vm, root, gfn, level);
	age_set_entry(parent, age_index(parent, gfn),
		      make_nonleaf_spte(table->spt, !vm->set->ad));
	return table;
}

u64 *age_set(struct age_vm *vm, struct age_root *root, gfn_t gfn, int level,
	     u64 spte)
{
	struct age_table *table = age_table(vm, root, gfn, level);

	return age_set_entry(table, age_index(table, gfn), spte);
}

u64 *age_set_young(struct age_vm *vm, struct age_root *root, gfn_t gfn,
		   int level)
{
	return age_set(vm, root, gfn, level, age_young_leaf(vm, gfn, level));
}

void age_expect_old(struct age_vm *vm, struct age_result *result,
		    u64 *expected, bool test_only)
{
	result->scanned++;
	if (!kvm_leaf_is_young(vm->set, *expected))
		return;

	result->young++;
	if (!test_only)
		*expected = kvm_leaf_make_old(vm->set, *expected);
}

void age_compare(struct age_vm *vm)
{
	struct kunit *test = vm->test;
	int i, index;

	for (i = 0; i < vm->nr_tables; i++) {
		struct age_table *table = &vm->tables[i];

		if (!memcmp(table->spt, table->expected, PAGE_SIZE))
			continue;

		for (index = 0; index < AGE_ENTRIES; index++)
			KUNIT_ASSERT_EQ_MSG(test, table->spt[index],
					    table->expected[index],
					    "gfn %llx, level %d, as_id %d%s",
					    table->gfn + index * gfns_per_leaf(table->level),
					    table->level, table->root->as_id,
					    table->root->invalid ? ", invalid root" : "");
	}
}

int age_init(struct kunit *test)
{
	struct age_vm *vm;
	u64 leaf = 0;
	int ret, i;

	ret = kvm_masks_init(test);
	if (ret)
		return ret;

	vm = kunit_kzalloc(test, sizeof(*vm), GFP_KERNEL);
	if (!vm)
		return -ENOMEM;

	vm->test = test;
	vm->set = test->param_value;
	vm->kvm = kvm_new_vm(test);

	for (i = 0; i < ARRAY_SIZE(vm->slots); i++) {
		vm->slots[i] = kunit_kzalloc(test, sizeof(*vm->slots[i]), GFP_KERNEL);
		if (!vm->slots[i])
			return -ENOMEM;
		vm->slots[i]->as_id = i;
		vm->slots[i]->npages = 1ull << 40;
	}

	while (kvm_next_leaf(vm->set, &leaf))
		vm->nr_leaves += !(leaf & (LEAF_PSE | BIT_ULL(51)));

	vm->leaves = kvm_kvzalloc(test, vm->nr_leaves * sizeof(*vm->leaves));
	leaf = 0;
	i = 0;
	while (kvm_next_leaf(vm->set, &leaf)) {
		if (!(leaf & (LEAF_PSE | BIT_ULL(51))))
			vm->leaves[i++] = leaf & ~LEAF_ADDR;
	}

	test->priv = vm;
	return 0;
}
