// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes of each kind of page fault on each kind of SPTE, against a rule that is
 * stated in bit numbers.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

#include "mmu/age.h"
#include "mmu/fast_page_fault.h"
#include "masks.h"

KUNIT_ARRAY_PARAM_DESC(kvm_mask_sets, kvm_mask_sets, name);

enum access {
	ACCESS_READ,
	ACCESS_WRITE,
	ACCESS_FETCH,
	NR_ACCESS
};

#define FAULT_PRESENT	BIT(0)
#define FAULT_RSVD	BIT(1)
#define FAULT_PRIVATE	BIT(2)
#define FAULT_USER	BIT(3)
#define NR_FAULTS	BIT(4)

static struct kvm_page_fault fault_of(enum access access, unsigned int flags, gfn_t gfn)
{
	return (struct kvm_page_fault) {
		.write = access == ACCESS_WRITE,
		.exec = access == ACCESS_FETCH,
		.present = flags & FAULT_PRESENT,
		.rsvd = flags & FAULT_RSVD,
		.is_private = flags & FAULT_PRIVATE,
		.user = flags & FAULT_USER,
		.gfn = gfn,
	};
}

/* All faults, by their flags alone: the first row that fits gives the outcome. */
static void fast_pf_flags(struct kunit *test)
{
	unsigned int bits;

	for (bits = 0; bits < NR_FAULTS * 4 * NR_ACCESS; bits++) {
		const bool present = bits & FAULT_PRESENT, private = bits & FAULT_PRIVATE;
		const bool memory_is_private = bits & NR_FAULTS;
		const bool ad_enabled = bits & NR_FAULTS << 1;
		const enum access access = bits / (NR_FAULTS * 4);
		struct kvm_page_fault fault = fault_of(access, bits, 0);
		const struct {
			bool fits;
			enum fast_pf want;
		} rows[] = {
			{ bits & FAULT_RSVD, FAST_PF_MMIO },
			{ private && !memory_is_private, FAST_PF_PRIVATE },
			{ !private && memory_is_private, FAST_PF_PRIVATE },
			{ !present && ad_enabled, FAST_PF_NOT_MAPPED },
			/* Access tracking, perhaps. */
			{ !present, FAST_PF_FIXED },
			{ access == ACCESS_WRITE, FAST_PF_FIXED },
			{ true, FAST_PF_NOT_WRITE },
		};
		int i = 0;

		while (!rows[i].fits)
			i++;
		KUNIT_EXPECT_EQ_MSG(test, fast_pf_prejudge(&fault, ad_enabled, memory_is_private),
				    rows[i].want, "fault 0x%x", bits);
	}
}

static bool leaf_allows(const struct kvm_mask_set *set, u64 spte, enum access access)
{
	if (access == ACCESS_READ)
		return spte & LEAF_R;
	if (access == ACCESS_WRITE)
		return spte & LEAF_W;
	return set->ept ? spte & LEAF_X : !(spte & NPT_NX);
}

/* An aged SPTE with R and X restored, but not W. */
static u64 leaf_restored(const struct kvm_mask_set *set, u64 spte)
{
	u64 restored = spte & ~(EPT_SAVED_R | EPT_SAVED_X);

	if (kvm_leaf_has_ad(set, spte) || (spte & LEAF_RWX))
		return spte;
	if (spte & EPT_SAVED_R)
		restored |= LEAF_R;
	if (spte & EPT_SAVED_X)
		restored |= LEAF_X;
	return restored;
}

struct leaf_properties {
	struct kvm_property outcome;
	struct kvm_property fixed;
	struct kvm_property untouched;
	struct kvm_property dirty;
	struct kvm_property volatile_bits;
	unsigned long seen[NR_FAST_PF];
};

static void check_leaf(const struct kvm_mask_set *set, u64 spte, enum access access, int level,
		       bool logged, struct leaf_properties *properties)
{
	const bool write = access == ACCESS_WRITE;
	const u64 wanted = leaf_restored(set, spte) | (write ? LEAF_W : 0);
	struct kvm_page_fault fault = fault_of(access, FAULT_PRESENT, 0);
	const u64 nothing = 0x5555555555555555ull;
	enum fast_pf outcome;
	u64 new = nothing;
	const struct {
		bool fits;
		enum fast_pf want;
	} rows[] = {
		{ level > PG_LEVEL_4K && !(spte & LEAF_PSE), FAST_PF_NOT_MAPPED },
		{ leaf_allows(set, spte, access), FAST_PF_SPURIOUS },
		{ write && !(spte & kvm_leaf_mmu_writable(set)), FAST_PF_READ_ONLY },
		{ write && level > PG_LEVEL_4K && logged, FAST_PF_HUGE },
		{ leaf_allows(set, wanted, access), FAST_PF_FIXED },
		{ true, FAST_PF_NOT_WRITE },
	};
	int i = 0;

	while (!rows[i].fits)
		i++;

	outcome = fast_pf_decide(&fault, spte, level, logged, &new);
	properties->seen[outcome]++;
	kvm_check(&properties->outcome, spte, outcome, rows[i].want);
	if (outcome != FAST_PF_FIXED) {
		kvm_check(&properties->untouched, spte, new, nothing);
		return;
	}

	kvm_check(&properties->fixed, spte, new, wanted);
	/* With A/D bits, the CPU sets Dirty; without, MMU-writable says so. */
	kvm_check(&properties->dirty, spte, kvm_leaf_is_dirty(set, spte) &&
		  !kvm_leaf_is_dirty(set, new), false);
	/* An SPTE that can be fixed must be volatile, or a writer could overwrite the fix. */
	kvm_check(&properties->volatile_bits, spte, spte_has_volatile_bits(spte), true);
}

static void fast_pf_leaves(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct leaf_properties properties = {
		.outcome = { "outcome" },
		.fixed = { "fixed SPTE" },
		.untouched = { "nothing to write if not fixed" },
		.dirty = { "dirty if it was" },
		.volatile_bits = { "volatile before, if it can be fixed" },
	};
	enum access access;
	u64 spte = 0;
	int level;

	while (kvm_next_leaf(set, &spte)) {
		for (access = 0; access < NR_ACCESS; access++) {
			for (level = PG_LEVEL_4K; level <= PG_LEVEL_1G; level++) {
				check_leaf(set, spte, access, level, false, &properties);
				check_leaf(set, spte, access, level, true, &properties);
			}
		}
	}

	kvm_expect(test, &properties.outcome);
	kvm_expect(test, &properties.fixed);
	kvm_expect(test, &properties.untouched);
	kvm_expect(test, &properties.dirty);
	kvm_expect(test, &properties.volatile_bits);

	KUNIT_EXPECT_NE(test, properties.seen[FAST_PF_FIXED], 0ul);
	KUNIT_EXPECT_NE(test, properties.seen[FAST_PF_SPURIOUS], 0ul);
	KUNIT_EXPECT_NE(test, properties.seen[FAST_PF_NOT_MAPPED], 0ul);
	KUNIT_EXPECT_NE(test, properties.seen[FAST_PF_READ_ONLY], 0ul);
	KUNIT_EXPECT_NE(test, properties.seen[FAST_PF_HUGE], 0ul);
	KUNIT_EXPECT_NE(test, properties.seen[FAST_PF_NOT_WRITE], 0ul);
}

/* An SPTE that is not a leaf is never fixed, whatever its bits. */
static void fast_pf_no_leaf(struct kunit *test)
{
	const u64 sptes[] = {
		0, SHADOW_NONPRESENT_VALUE, FROZEN_SPTE, shadow_mmio_value,
		shadow_mmio_value | LEAF_RWX, LEAF_RWX | LEAF_ADDR | LEAF_PSE,
	};
	enum fast_pf outcome;
	enum access access;
	int i, level;
	u64 new;

	for (i = 0; i < ARRAY_SIZE(sptes); i++) {
		for (access = 0; access < NR_ACCESS; access++) {
			struct kvm_page_fault fault = fault_of(access, FAULT_PRESENT, 0);

			for (level = PG_LEVEL_4K; level <= PG_LEVEL_1G; level++) {
				outcome = fast_pf_decide(&fault, sptes[i], level, false, &new);
				KUNIT_EXPECT_EQ_MSG(test, outcome, FAST_PF_NOT_MAPPED,
						    "SPTE 0x%llx", sptes[i]);
			}
		}
	}
}

/*
 * The extra checks for indirect shadow pages: all combinations of what the shadow page and the
 * guest's tables say.
 */
static void fast_pf_indirect(struct kunit *test)
{
	const gfn_t gfn = 0x12345;
	enum fast_pf outcome;
	unsigned int bits;
	int level;

	for (level = PG_LEVEL_4K; level <= PG_LEVEL_1G; level++) {
		const gfn_t base = gfn & ~((1ull << 9 * (level - PG_LEVEL_4K)) - 1);

		for (bits = 0; bits < 1u << 12; bits++) {
			const bool moved = bits & 4, user = bits & 8, has_user = bits & 16;
			const struct fast_pf_shadow shadow = {
				.gfn = base + moved,
				.level = level,
				.access = bits >> 5 & ACC_ALL,
				.obsolete = bits & 1,
				.unsync = bits & 2,
				.maps_table = bits & BIT(11),
			};
			const unsigned int gpte_access = bits >> 8 & ACC_ALL;
			const unsigned int flags = FAULT_PRESENT | (user ? FAULT_USER : 0);
			struct kvm_page_fault fault = fault_of(ACCESS_WRITE, flags, gfn);
			const u64 spte = LEAF_ADDR | (has_user ? shadow_user_mask : 0);
			const struct {
				bool fits;
				enum fast_pf want;
			} rows[] = {
				{ shadow.obsolete, FAST_PF_STALE },
				{ moved, FAST_PF_STALE },
				{ shadow.access != gpte_access, FAST_PF_STALE },
				{ shadow.unsync, FAST_PF_UNSYNC },
				{ !(shadow.access & ACC_WRITE_MASK), FAST_PF_READ_ONLY },
				{ user && !has_user, FAST_PF_READ_ONLY },
				{ shadow.maps_table, FAST_PF_SHADOWED },
				{ true, FAST_PF_FIXED },
			};
			int i = 0;

			while (!rows[i].fits)
				i++;
			outcome = fast_pf_decide_indirect(&fault, spte, &shadow, gpte_access);
			KUNIT_ASSERT_EQ_MSG(test, outcome, rows[i].want, "level %d, 0x%x", level,
					    bits);
		}
	}
}

static struct kunit_case fast_pf_cases[] = {
	KUNIT_CASE(fast_pf_flags),
	KUNIT_CASE_PARAM(fast_pf_leaves, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(fast_pf_no_leaf, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(fast_pf_indirect, kvm_mask_sets_gen_params),
	{}
};

static int fast_pf_init(struct kunit *test)
{
	return test->param_value ? kvm_masks_init(test) : 0;
}

static struct kunit_suite fast_pf_suite = {
	.name = "kvm_fast_page_fault",
	.init = fast_pf_init,
	.test_cases = fast_pf_cases,
};

kunit_test_suite(fast_pf_suite);
