// SPDX-License-Identifier: GPL-2.0-only
/*
 * What clearing the dirty log does to each kind of SPTE, and to one that has become
 * another one meanwhile.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

#include "mmu/dirty_log.h"
#include "masks.h"

KUNIT_ARRAY_PARAM_DESC(kvm_mask_sets, kvm_mask_sets, name);

/* What has to go, so that the next write faults, or, with PML, is logged by the CPU. */
static u64 logged_bit(const struct kvm_mask_set *set, u64 spte, bool wrprot)
{
	if (wrprot || (set->ept && (spte & (EPT_AD_OFF | EPT_AD_WRPROT))))
		return LEAF_W;
	return kvm_leaf_dirty(set);
}

/* All leaves, also if the value that was read is out of date. */
static void dirty_log_leaves(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property cleared = { "cleared SPTE" };
	struct kvm_property changed = { "changed, if it has the bit" };
	struct kvm_property memory = { "SPTE in memory" };
	struct kvm_property read = { "SPTE that was replaced" };
	struct kvm_property dirty = { "the page is told, if the SPTE does not know any more" };
	u64 spte = 0;
	int i;

	while (kvm_next_leaf(set, &spte)) {
		for (i = 0; i < 4; i++) {
			const bool wrprot = i & 1;
			/* With another address, so that the first cmpxchg fails. */
			u64 old = i & 2 ? spte ^ BIT_ULL(51) : spte;
			u64 want = spte & ~logged_bit(set, spte, wrprot);
			u64 in_memory = spte;
			bool done;

			kvm_check(&cleared, spte, dirty_log_cleared(spte, PG_LEVEL_4K, wrprot),
				  want);

			done = dirty_log_clear_spte(&in_memory, &old, PG_LEVEL_4K, wrprot);
			kvm_check(&changed, spte, done, want != spte);
			kvm_check(&memory, spte, in_memory, want);
			if (!done)
				continue;
			kvm_check(&read, spte, old, spte);
			kvm_check(&dirty, spte, dirty_log_lost_dirty(spte, want),
				  kvm_leaf_is_dirty(set, spte) &&
				  !kvm_leaf_is_dirty(set, want));
		}
	}

	kvm_expect(test, &cleared);
	kvm_expect(test, &changed);
	kvm_expect(test, &memory);
	kvm_expect(test, &read);
	kvm_expect(test, &dirty);
}

/* An SPTE that was a leaf when it was read, and is not any more, must not change. */
static void dirty_log_no_leaf(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	const u64 leaf = kvm_young_leaf(set) | BIT_ULL(30);
	const struct {
		const char *name;
		u64 spte;
		int level;
	} rows[] = {
		{ "not present", SHADOW_NONPRESENT_VALUE, PG_LEVEL_4K },
		{ "frozen", FROZEN_SPTE, PG_LEVEL_4K },
		{ "MMIO", shadow_mmio_value | LEAF_W, PG_LEVEL_4K },
		{ "MMIO, huge", shadow_mmio_value | LEAF_W, PG_LEVEL_2M },
		{ "page table", leaf & ~LEAF_PSE, PG_LEVEL_2M },
	};
	int i, wrprot;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		for (wrprot = 0; wrprot < 2; wrprot++) {
			u64 in_memory = rows[i].spte;
			u64 spte = leaf;

			if (rows[i].level > PG_LEVEL_4K)
				spte |= LEAF_PSE;
			/* Or the case would prove nothing. */
			KUNIT_ASSERT_NE(test, dirty_log_cleared(spte, rows[i].level, wrprot), spte);

			KUNIT_EXPECT_FALSE_MSG(test, dirty_log_clear_spte(&in_memory, &spte,
									  rows[i].level, wrprot),
					       "%s", rows[i].name);
			KUNIT_EXPECT_EQ_MSG(test, in_memory, rows[i].spte, "%s", rows[i].name);
		}
	}
}

static struct kunit_case dirty_log_cases[] = {
	KUNIT_CASE_PARAM(dirty_log_leaves, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(dirty_log_no_leaf, kvm_mask_sets_gen_params),
	{}
};

static struct kunit_suite dirty_log_suite = {
	.name = "kvm_dirty_log",
	.init = kvm_masks_init,
	.test_cases = dirty_log_cases,
};

kunit_test_suite(dirty_log_suite);
