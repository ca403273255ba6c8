// SPDX-License-Identifier: GPL-2.0-only
/*
 * Aging of page tables that the cases build themselves, by the functions that the MMU notifiers
 * call.  The cases compute the expected result from what they put into the tables, without a walk,
 * and compare all SPTEs with it, also those that must not change.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/completion.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/minmax.h>
#include <linux/prandom.h>
#include <linux/rculist.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "age_vm.h"
#include "race.h"

KUNIT_ARRAY_PARAM_DESC(kvm_mask_sets, kvm_mask_sets, name);

/*
 * What aging [start, end) does: each leaf of each valid root of the address space
 * that maps any gfn of the range is aged.  All tables are taken to be linked.
 */
static struct age_result age_reference(struct age_vm *vm, int as_id, gfn_t start,
				       gfn_t end, bool test_only)
{
	struct age_result result = {};
	int i, index;

	for (i = 0; i < vm->nr_tables; i++) {
		struct age_table *table = &vm->tables[i];
		gfn_t pages = gfns_per_leaf(table->level);

		if (table->root->invalid || table->root->as_id != as_id)
			continue;

		for (index = 0; index < AGE_ENTRIES; index++) {
			gfn_t gfn = table->gfn + index * pages;
			u64 spte = table->expected[index];

			if (gfn >= end || gfn + pages <= start)
				continue;
			if (!(spte & LEAF_PRESENT))
				continue;
			if (table->level > PG_LEVEL_4K && !(spte & LEAF_PSE))
				continue;

			age_expect_old(vm, &result, &table->expected[index], test_only);
		}
	}

	return result;
}

static bool age_under_rcu(u64 *sptep, u64 old_spte, struct kvm_age_stats *stats)
{
	bool aged;

	rcu_read_lock();
	aged = age_leaf(sptep, old_spte, stats);
	rcu_read_unlock();
	return aged;
}

static bool age_call(struct age_vm *vm, int as_id, gfn_t start, gfn_t end,
		     bool test_only)
{
	return kvm_age_range(vm->kvm, vm->slots[as_id], start, end, test_only);
}

/* Age or test a range.  What is expected of the SPTEs is in the tables already. */
static void age_and_compare(struct age_vm *vm, int as_id, gfn_t start, gfn_t end,
			    bool test_only, struct age_result want)
{
	struct kvm_age_stats before = kvm_age_stats_sum(), after;
	struct kunit *test = vm->test;
	bool young;

	young = age_call(vm, as_id, start, end, test_only);
	after = kvm_age_stats_sum();

	age_compare(vm);
	KUNIT_ASSERT_EQ_MSG(test, young, want.young != 0, "[%llx, %llx)", start, end);
	KUNIT_ASSERT_EQ_MSG(test, after.scanned - before.scanned, want.scanned,
			    "[%llx, %llx)", start, end);
	KUNIT_ASSERT_EQ_MSG(test, after.young - before.young, want.young,
			    "[%llx, %llx)", start, end);
	KUNIT_ASSERT_EQ(test, after.aged - before.aged, test_only ? 0 : want.young);
	KUNIT_ASSERT_EQ(test, after.lost - before.lost, 0ull);
}

static void age_range(struct age_vm *vm, int as_id, gfn_t start, gfn_t end,
		      bool test_only, struct age_result *result)
{
	struct age_result want = age_reference(vm, as_id, start, end, test_only);

	age_and_compare(vm, as_id, start, end, test_only, want);
	if (result)
		*result = want;
}

/*
 * Age a range that has @young young leaves.  They are counted by the case itself
 * as well, so that a reference that finds nothing is not taken for success.
 */
static void age_young(struct age_vm *vm, int as_id, gfn_t start, gfn_t end, u64 young)
{
	struct kunit *test = vm->test;
	struct age_result result;

	age_range(vm, as_id, start, end, true, &result);
	KUNIT_ASSERT_EQ_MSG(test, result.young, young, "[%llx, %llx)", start, end);
	age_range(vm, as_id, start, end, false, &result);
	KUNIT_ASSERT_EQ_MSG(test, result.young, young, "[%llx, %llx)", start, end);
	age_range(vm, as_id, start, end, false, &result);
	KUNIT_ASSERT_EQ_MSG(test, result.young, 0ull, "[%llx, %llx)", start, end);
}

/* Neighbours on both sides are young, too, and stay so. */
static void age_one_leaf(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	int level, i;

	for (level = PG_LEVEL_4K; level <= PG_LEVEL_1G; level++) {
		gfn_t pages = gfns_per_leaf(level);
		gfn_t gfn = GFNS_512G * level + 5 * pages;

		for (i = -1; i <= 1; i++)
			age_set_young(vm, root, gfn + i * pages, level);

		age_young(vm, 0, gfn, gfn + pages, 1);
		age_young(vm, 0, gfn - pages, gfn + 2 * pages, 2);
	}
}

/* All forms that a leaf may have, each by itself, and then all in a row. */
static void age_every_leaf(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	u64 young = 0, seen = 0;
	struct age_result result;
	int i, level;

	/* As many gfns of level 1 and 2 as there are, one for each leaf. */
	for (level = PG_LEVEL_4K; level <= PG_LEVEL_2M; level++) {
		gfn_t pages = gfns_per_leaf(level);
		gfn_t base = GFNS_512G * level;

		young = 0;
		seen = 0;
		for (i = 0; i < vm->nr_leaves; i++) {
			u64 leaf = age_make_leaf(vm->leaves[i], base + i * pages, level);

			young += kvm_leaf_is_young(vm->set, leaf);
			age_set(vm, root, base + i * pages, level, leaf);
		}

		KUNIT_ASSERT_NE(test, young, 0ull);
		age_range(vm, 0, base, base + i * pages, true, &result);
		KUNIT_ASSERT_EQ(test, result.young, young);

		for (i = 0; i < vm->nr_leaves; i += 2) {
			age_range(vm, 0, base + i * pages, base + (i + 1) * pages, true,
				  &result);
			age_range(vm, 0, base + i * pages, base + (i + 1) * pages, false,
				  &result);
			seen += result.young;
		}

		age_range(vm, 0, base, base + i * pages, false, &result);
		KUNIT_ASSERT_EQ(test, seen + result.young, young);
		age_young(vm, 0, base, base + i * pages, 0);
	}
}

/* A huge leaf is aged as a whole, even if a single gfn of it is asked for. */
static void age_inside_huge_leaf(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	int level, i, j;

	for (level = PG_LEVEL_2M; level <= PG_LEVEL_1G; level++) {
		gfn_t pages = gfns_per_leaf(level);
		gfn_t gfn = GFNS_512G * level + 7 * pages;
		const struct {
			gfn_t start;
			gfn_t end;
			u64 young;
		} ranges[] = {
			{ gfn, gfn + 1, 1 },
			{ gfn + 1, gfn + 2, 1 },
			{ gfn + pages / 2, gfn + pages / 2 + 1, 1 },
			{ gfn + 1, gfn + pages - 1, 1 },
			{ gfn + pages - 1, gfn + pages, 1 },
			{ gfn + pages - 1, gfn + pages + 1, 2 },
			{ gfn - 1, gfn + 1, 2 },
			{ gfn - 1, gfn, 1 },
			{ gfn - 1, gfn + pages + 1, 3 },
			{ gfn - pages + 1, gfn + 2 * pages - 1, 3 },
		};

		for (i = 0; i < ARRAY_SIZE(ranges); i++) {
			for (j = -1; j <= 1; j++)
				age_set_young(vm, root, gfn + j * pages, level);

			age_young(vm, 0, ranges[i].start, ranges[i].end,
				  ranges[i].young);
		}
	}
}

/*
 * From gfn @base on: a leaf of 1 GiB, then eight of 2 MiB, then 1024 of 4 KiB,
 * then one of 2 MiB again, a hole to the next GiB, and a leaf of 1 GiB.
 */
static void age_build_mixed(struct age_vm *vm, struct age_root *root, gfn_t base)
{
	gfn_t gfn = base;
	int i;

	age_set_young(vm, root, gfn, PG_LEVEL_1G);

	gfn += GFNS_1G;
	for (i = 0; i < 8; i++, gfn += GFNS_2M)
		age_set_young(vm, root, gfn, PG_LEVEL_2M);
	for (i = 0; i < 1024; i++, gfn++)
		age_set_young(vm, root, gfn, PG_LEVEL_4K);

	age_set_young(vm, root, gfn, PG_LEVEL_2M);
	age_set_young(vm, root, base + 2 * GFNS_1G, PG_LEVEL_1G);
}

static void age_mixed_levels(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	/* The second leaf of 1 GiB is below another entry of the root. */
	gfn_t base = GFNS_512G - 2 * GFNS_1G;
	gfn_t first_2m = base + GFNS_1G;
	gfn_t first_4k = first_2m + 8 * GFNS_2M;
	gfn_t last_2m = first_4k + 1024;
	const struct {
		gfn_t start;
		gfn_t end;
		u64 young;
	} ranges[] = {
		{ base, base + 3 * GFNS_1G, 1 + 8 + 1024 + 1 + 1 },
		{ base + 12345, first_4k + 3, 1 + 8 + 3 },
		{ base + GFNS_1G - 1, first_2m + 1, 2 },
		{ first_2m + GFNS_2M + 1, first_2m + 3 * GFNS_2M - 1, 2 },
		{ first_4k - 1, first_4k + 1, 2 },
		{ first_4k + 511, first_4k + 513, 2 },
		{ first_4k + 100, first_4k + 1000, 900 },
		{ last_2m - 1, last_2m + 1, 2 },
		{ last_2m + GFNS_2M - 1, base + 2 * GFNS_1G + 1, 2 },
		{ last_2m + GFNS_2M, base + 2 * GFNS_1G, 0 },
		{ first_4k + 1023, base + 2 * GFNS_1G + 1, 3 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		age_build_mixed(vm, root, base);
		age_young(vm, 0, ranges[i].start, ranges[i].end, ranges[i].young);
	}
}

/* Nothing is mapped between the leaves, from a page to most of the root. */
static void age_holes(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	const gfn_t gfns[] = {
		7,
		12,
		7 + 3 * GFNS_2M,
		7 + 4 * GFNS_1G,
		9 + 5 * GFNS_512G,
		9 + 500 * GFNS_512G,
	};
	int i, j;

	/* An empty root, and empty tables on all levels. */
	age_young(vm, 0, 0, GFNS_4_LEVELS, 0);
	age_table(vm, root, 300 * GFNS_512G, PG_LEVEL_1G);
	age_table(vm, root, 301 * GFNS_512G + 3 * GFNS_1G, PG_LEVEL_2M);
	age_table(vm, root, 302 * GFNS_512G + 3 * GFNS_1G + GFNS_2M, PG_LEVEL_4K);
	age_young(vm, 0, 0, GFNS_4_LEVELS, 0);

	for (i = 0; i < ARRAY_SIZE(gfns); i++) {
		for (j = i; j < ARRAY_SIZE(gfns); j++) {
			int n;

			for (n = 0; n < ARRAY_SIZE(gfns); n++)
				age_set_young(vm, root, gfns[n], PG_LEVEL_4K);

			/* Starts and ends inside of the holes at either side. */
			age_young(vm, 0, gfns[i] - 2, gfns[j] + 2, j - i + 1);
			/* The hole alone. */
			if (i)
				age_young(vm, 0, gfns[i - 1] + 1, gfns[i], 0);
		}
	}

	age_young(vm, 0, gfns[4] + GFNS_1G + 1, gfns[5] - GFNS_1G - 1, 0);
}

/* On all levels, what is not present is left exactly as it is. */
static void age_not_present(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	u64 young = 0;
	int level, i;

	for (level = PG_LEVEL_4K; level <= PG_LEVEL_512G; level++) {
		gfn_t pages = gfns_per_leaf(level);
		gfn_t gfn = level == PG_LEVEL_512G ? 10 * GFNS_512G :
						     GFNS_512G * level;
		u64 sptes[] = {
			FROZEN_SPTE,
			age_mmio_spte(gfn),
			shadow_mmio_value,
			SHADOW_NONPRESENT_VALUE,
			/* A leaf that lacks nothing but being present. */
			age_young_leaf(vm, gfn, level) & ~LEAF_PRESENT,
			0,
			~LEAF_PRESENT,
		};

		for (i = 0; i < ARRAY_SIZE(sptes); i++) {
			KUNIT_ASSERT_EQ(test, sptes[i] & LEAF_PRESENT, 0ull);
			age_set(vm, root, gfn + 2 * i * pages, level, sptes[i]);
			if (level == PG_LEVEL_512G)
				continue;
			age_set_young(vm, root, gfn + (2 * i + 1) * pages, level);
			young++;
		}
	}

	age_young(vm, 0, 0, GFNS_4_LEVELS, young);
}

/* A VM has several roots, e.g. one for each mode that its vCPUs are in. */
static void age_several_roots(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	gfn_t gfn = 3 * GFNS_1G;
	int i, n;

	for (i = 0; i < 5; i++)
		age_add_root(vm, 4, 0, i == 1 || i == 4);

	for (i = 0; i < 5; i++) {
		age_set_young(vm, &vm->roots[i], gfn, PG_LEVEL_2M);
		age_set_young(vm, &vm->roots[i], gfn + GFNS_2M, PG_LEVEL_4K);
	}

	age_young(vm, 0, gfn, gfn + GFNS_1G, 3 * 2);

	/* Only the leaves of the invalid roots are young, and do not count. */
	KUNIT_EXPECT_FALSE(test, age_call(vm, 0, gfn, gfn + GFNS_1G, true));
	KUNIT_EXPECT_FALSE(test, age_call(vm, 0, gfn, gfn + GFNS_1G, false));
	age_compare(vm);

	/* One root of the valid ones is enough. */
	for (n = 0; n < 5; n++) {
		age_set_young(vm, &vm->roots[n], gfn, PG_LEVEL_2M);
		age_young(vm, 0, gfn, gfn + 1, !vm->roots[n].invalid);
	}
}

static void age_address_spaces(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	gfn_t gfn = 3 * GFNS_1G;
	int as_id, i;

	for (i = 0; i < 4; i++)
		age_add_root(vm, 4, i & 1, false);

	for (as_id = 0; as_id <= 1; as_id++) {
		for (i = 0; i < 4; i++)
			age_set_young(vm, &vm->roots[i], gfn, PG_LEVEL_4K);

		/* Two old roots of one, then two young ones of the other. */
		age_young(vm, as_id, gfn, gfn + 1, 2);
		age_young(vm, !as_id, gfn, gfn + 1, 2);
	}

	age_set_young(vm, &vm->roots[1], gfn, PG_LEVEL_4K);
	age_young(vm, 0, gfn, gfn + 1, 0);
	age_young(vm, 1, gfn, gfn + 1, 1);
}

/* For any mix of young and old, testing says what aging will, and changes nothing. */
static void age_test_only(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	struct age_result result;
	int bits, i;

	for (bits = 0; bits < 256; bits++) {
		for (i = 0; i < 8; i++) {
			int level = i < 4 ? PG_LEVEL_4K : PG_LEVEL_2M;
			gfn_t gfn = i < 4 ? i : i * GFNS_2M;
			u64 leaf = age_young_leaf(vm, gfn, level);

			if (!(bits & BIT(i)))
				leaf = kvm_leaf_make_old(vm->set, leaf);
			age_set(vm, root, gfn, level, leaf);
		}

		age_range(vm, 0, 0, 8 * GFNS_2M, true, &result);
		age_range(vm, 0, 0, 8 * GFNS_2M, true, &result);
		KUNIT_ASSERT_EQ(test, result.scanned, 8ull);
		KUNIT_ASSERT_EQ(test, result.young, (u64)hweight8(bits));
	}
}

/*
 * A memslot may have gfns that a root of four levels cannot map.  Modulo the span of the root, they
 * would be the gfns of other pages.
 */
static void age_beyond_root(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	gfn_t last = GFNS_4_LEVELS - 1;

	age_set_young(vm, root, 0, PG_LEVEL_4K);
	age_set_young(vm, root, 1, PG_LEVEL_4K);
	age_set_young(vm, root, GFNS_1G, PG_LEVEL_1G);
	age_set_young(vm, root, last, PG_LEVEL_4K);

	age_young(vm, 0, GFNS_4_LEVELS, GFNS_4_LEVELS + 512, 0);
	age_young(vm, 0, GFNS_4_LEVELS + GFNS_1G, GFNS_4_LEVELS + GFNS_1G + 1, 0);
	age_young(vm, 0, 5 * GFNS_4_LEVELS, 7 * GFNS_4_LEVELS, 0);
	age_young(vm, 0, last, last + 1 + GFNS_1G, 1);
	age_young(vm, 0, 0, GFNS_4_LEVELS + 512, 3);
}

/* A root of five levels, and beside it one of four, as with nested guests. */
static void age_five_levels(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *five = age_add_root(vm, 5, 0, false);
	struct age_root *four = age_add_root(vm, 4, 0, false);
	gfn_t last = GFNS_4_LEVELS - 1;

	age_set_young(vm, four, last, PG_LEVEL_4K);
	age_set_young(vm, four, 0, PG_LEVEL_4K);
	age_set_young(vm, five, 0, PG_LEVEL_4K);
	age_set_young(vm, five, last, PG_LEVEL_4K);
	age_set_young(vm, five, last + 1, PG_LEVEL_1G);
	age_set_young(vm, five, 300 * GFNS_4_LEVELS + GFNS_2M, PG_LEVEL_2M);
	age_set_young(vm, five, 512 * GFNS_4_LEVELS - 1, PG_LEVEL_4K);

	age_young(vm, 0, last, last + 2, 3);
	age_young(vm, 0, last + 3, 299 * GFNS_4_LEVELS, 0);
	age_young(vm, 0, 300 * GFNS_4_LEVELS + GFNS_2M + 5,
		  300 * GFNS_4_LEVELS + GFNS_2M + 6, 1);
	age_young(vm, 0, 1, 600 * GFNS_4_LEVELS, 1);
	age_young(vm, 0, 0, 1, 2);
}

#define AGE_RANDOM_ROUNDS	300
#define AGE_RANDOM_BLOCKS	4

/*
 * Four neighbours of 2 MiB each, and across the boundary of an entry of the root: in each round,
 * each neighbour is a huge leaf, a hole, a frozen SPTE, or a page table of 512 random SPTEs.  Aging
 * must not touch a table that is not linked.  The reference goes page by page.
 */
static void age_random(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	const gfn_t pages = AGE_RANDOM_BLOCKS * GFNS_2M;
	const gfn_t base = GFNS_512G - pages / 2;
	struct age_table *tables[AGE_RANDOM_BLOCKS];
	u64 links[AGE_RANDOM_BLOCKS];
	u64 *huge[AGE_RANDOM_BLOCKS];
	struct rnd_state rnd;
	u64 young = 0;
	int round, i, j;

	prandom_seed_state(&rnd, 612);

	for (i = 0; i < AGE_RANDOM_BLOCKS; i++) {
		struct age_table *parent;

		tables[i] = age_table(vm, root, base + i * GFNS_2M, PG_LEVEL_4K);
		parent = age_table(vm, root, base + i * GFNS_2M, PG_LEVEL_2M);
		huge[i] = &parent->expected[age_index(parent, base + i * GFNS_2M)];
		links[i] = *huge[i];
	}

	for (round = 0; round < AGE_RANDOM_ROUNDS; round++) {
		bool test_only = prandom_u32_state(&rnd) % 4 == 0;
		struct age_result want = {};
		u64 *last = NULL;
		gfn_t gfn, start, end;

		for (i = 0; i < AGE_RANDOM_BLOCKS; i++) {
			u64 spte = links[i];

			gfn = base + i * GFNS_2M;

			switch (prandom_u32_state(&rnd) % 8) {
			case 0:
				spte = SHADOW_NONPRESENT_VALUE;
				break;
			case 1:
				spte = FROZEN_SPTE;
				break;
			case 2:
			case 3:
				j = prandom_u32_state(&rnd) % vm->nr_leaves;
				spte = age_make_leaf(vm->leaves[j], gfn, PG_LEVEL_2M);
				break;
			}
			age_set(vm, root, gfn, PG_LEVEL_2M, spte);

			for (j = 0; j < AGE_ENTRIES; j++) {
				u32 r = prandom_u32_state(&rnd);

				if (r % 16 == 0)
					spte = SHADOW_NONPRESENT_VALUE;
				else if (r % 16 == 1)
					spte = FROZEN_SPTE;
				else if (r % 16 == 2)
					spte = age_mmio_spte(gfn + j);
				else
					spte = age_make_leaf(vm->leaves[(r >> 4) % vm->nr_leaves],
							     gfn + j, PG_LEVEL_4K);
				age_set_entry(tables[i], j, spte);
			}
		}

		/* Few pages, many, or more than there are. */
		start = base + prandom_u32_state(&rnd) % pages;
		switch (prandom_u32_state(&rnd) % 4) {
		case 0:
			end = start + 1;
			break;
		case 1:
			end = start + 1 + prandom_u32_state(&rnd) % 16;
			break;
		case 2:
			end = start + 1 + prandom_u32_state(&rnd) % pages;
			break;
		default:
			start -= prandom_u32_state(&rnd) % pages;
			end = base + pages + 1;
			break;
		}

		for (gfn = max(start, base); gfn < min(end, base + pages); gfn++) {
			u64 *expected;

			i = (gfn - base) / GFNS_2M;
			expected = huge[i];
			if (*expected == links[i])
				expected = &tables[i]->expected[gfn % GFNS_2M];
			/* A huge leaf is met again for each of its pages. */
			if (expected == last || !(*expected & LEAF_PRESENT))
				continue;

			last = expected;
			age_expect_old(vm, &want, expected, test_only);
		}

		age_and_compare(vm, 0, start, end, test_only, want);
		young += want.young;
	}

	KUNIT_EXPECT_GT(test, young, (u64)AGE_RANDOM_ROUNDS);
}

/* No other CPU writes the SPTE: the leaf is made old, and counted. */
static void age_leaf_unchanged(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct kvm_property returned = { "returned true" };
	struct kvm_property value = { "old form" };
	struct kvm_property counted = { "counted as aged" };
	int i;

	for (i = 0; i < vm->nr_leaves; i++) {
		u64 old = age_make_leaf(vm->leaves[i], 0x1234, PG_LEVEL_4K);
		struct kvm_age_stats stats = {};
		u64 spte = old;

		if (!kvm_leaf_is_young(vm->set, old))
			continue;

		kvm_check(&returned, old, age_under_rcu(&spte, old, &stats), true);
		kvm_check(&value, old, spte, kvm_leaf_make_old(vm->set, old));
		kvm_check(&counted, old, stats.aged, 1);
		kvm_check(&counted, old, stats.lost + stats.young + stats.scanned, 0);
	}

	kvm_expect(test, &returned);
	kvm_expect(test, &value);
	kvm_expect(test, &counted);
}

struct age_change {
	const char *name;
	u64 spte;
};

/*
 * Another CPU writes the SPTE between the walk's read and its cmpxchg.  The written value must
 * stay, bit by bit.  An atomic AND does not pass this.
 */
static void age_leaf_changed(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	const struct kvm_mask_set *set = vm->set;
	struct kvm_property properties[] = {
		{ "frozen" },
		{ "zapped" },
		{ "turned into MMIO" },
		{ "zapped and remapped, young" },
		{ "zapped and remapped, old" },
		{ "aged by another CPU" },
		{ "replaced by a page table" },
		{ "write-protected for the dirty log" },
		{ "write-protected for shadow paging" },
		{ "made writable by a fast page fault" },
		{ "made dirty by the CPU" },
	};
	struct kvm_property returned = { "returned false" };
	struct kvm_property counted = { "counted as lost" };
	const u64 mmu_writable = kvm_leaf_mmu_writable(set);
	struct age_table *table;
	u64 nonleaf;
	int i, j;

	table = age_add_table(vm, NULL, 0, PG_LEVEL_4K);
	nonleaf = make_nonleaf_spte(table->spt, !set->ad);
	/* The tables are not used, so there is nothing to compare them with. */
	vm->nr_tables = 0;

	for (i = 0; i < vm->nr_leaves; i++) {
		u64 old = age_make_leaf(vm->leaves[i], 0x1234, PG_LEVEL_4K);
		u64 remapped = age_make_leaf(old, 0x1235, PG_LEVEL_4K);
		bool ad = kvm_leaf_has_ad(set, old);
		u64 changed[] = {
			FROZEN_SPTE,
			SHADOW_NONPRESENT_VALUE,
			age_mmio_spte(0x1234),
			remapped,
			kvm_leaf_make_old(set, remapped),
			kvm_leaf_make_old(set, old),
			nonleaf,
			old & ~LEAF_W,
			old & ~(LEAF_W | mmu_writable),
			(old & mmu_writable) && (old & LEAF_R) ? old | LEAF_W : old,
			ad && (old & LEAF_W) ? old | kvm_leaf_dirty(set) : old,
		};

		if (!kvm_leaf_is_young(set, old))
			continue;

		BUILD_BUG_ON(ARRAY_SIZE(changed) != ARRAY_SIZE(properties));

		for (j = 0; j < ARRAY_SIZE(changed); j++) {
			struct kvm_age_stats stats = {};
			u64 spte = changed[j];

			/* Not a change to a leaf like this one. */
			if (spte == old)
				continue;

			kvm_check(&returned, old, age_under_rcu(&spte, old, &stats), false);
			kvm_check(&properties[j], old, spte, changed[j]);
			kvm_check(&counted, old, stats.lost, 1);
			kvm_check(&counted, old, stats.aged + stats.young +
				  stats.scanned, 0);
		}
	}

	for (j = 0; j < ARRAY_SIZE(properties); j++) {
		/* Without A/D bits, there is no Dirty bit for the CPU to set. */
		if (set->ad || j < ARRAY_SIZE(properties) - 1)
			kvm_expect(test, &properties[j]);
	}
	kvm_expect(test, &returned);
	kvm_expect(test, &counted);
}

#define AGE_RACE_SPTES	8
#define AGE_RACE_ROUNDS	8000
/* The number of times that the two threads should meet, and the minimum for the case to pass. */
#define AGE_RACE_GOOD	2000
#define AGE_RACE_MIN	20

/* What a thread does to the SPTEs while the case ages them. */
struct age_race {
	const struct kvm_mask_set *set;
	struct completion started;
	u64 *sptes;
	u64 leaves[2];
	u64 dirty;
	/* Written by the thread. */
	unsigned long rounds;
	unsigned long saw_old;
	struct kvm_property frozen;
	struct kvm_property mapped;
	struct kvm_property zapped_dirty;
};

/*
 * Zap and remap as tdp_mmu_zap_spte_atomic() does it: freeze, flush, overwrite.  The thread that
 * froze an SPTE owns it until it overwrites it.
 */
static int age_race_freeze(void *data)
{
	struct age_race *race = data;
	u64 leaf = race->leaves[0];
	u64 spte;
	int i;

	complete(&race->started);

	while (!kthread_should_stop()) {
		u64 next = leaf ^ race->leaves[0] ^ race->leaves[1];

		for (i = 0; i < AGE_RACE_SPTES; i++) {
			u64 *sptep = &race->sptes[i];

			spte = xchg(sptep, FROZEN_SPTE);
			if (spte == kvm_leaf_make_old(race->set, leaf))
				WRITE_ONCE(race->saw_old, race->saw_old + 1);
			else
				kvm_check(&race->mapped, leaf, spte, leaf);

			kvm_race_delay(race->rounds);

			spte = xchg(sptep, next);
			kvm_check(&race->frozen, FROZEN_SPTE, spte, FROZEN_SPTE);

			kvm_race_delay(race->rounds);
		}

		leaf = next;
		WRITE_ONCE(race->rounds, race->rounds + 1);
	}

	return 0;
}

/*
 * Map, write, and zap: whatever happens in between, the zapped SPTE must say that the page was
 * written.  With A/D bits the CPU's write sets Dirty, without them MMU-writable says so.  In every
 * other round, without A/D bits, the thread restores an old SPTE, as a read fault does, or restores
 * it and sets W, as a write fault does.
 */
static int age_race_zap(void *data)
{
	struct age_race *race = data;
	const struct kvm_mask_set *set = race->set;
	u64 spte, new;
	int i;

	complete(&race->started);

	while (!kthread_should_stop()) {
		for (i = 0; i < AGE_RACE_SPTES; i++) {
			u64 *sptep = &race->sptes[i];

			WRITE_ONCE(*sptep, race->leaves[i & 1]);
			kvm_race_delay(race->rounds);

			if (set->ad)
				atomic64_or(race->dirty, (atomic64_t *)sptep);
			kvm_race_delay(race->rounds);

			spte = READ_ONCE(*sptep);
			if (!kvm_leaf_is_young(set, spte))
				WRITE_ONCE(race->saw_old, race->saw_old + 1);

			if (!set->ad && (race->rounds & 1) && is_access_track_spte(spte)) {
				new = restore_acc_track_spte(spte);
				if (race->rounds & 2)
					new |= LEAF_W;
				try_cmpxchg64(sptep, &spte, new);
				kvm_race_delay(race->rounds);
			}

			spte = xchg(sptep, SHADOW_NONPRESENT_VALUE);
			kvm_check(&race->mapped, race->leaves[i & 1],
				  spte & (LEAF_PRESENT | LEAF_ADDR),
				  race->leaves[i & 1] & (LEAF_PRESENT | LEAF_ADDR));
			if (spte & LEAF_PRESENT)
				kvm_check(&race->zapped_dirty, spte,
					  is_dirty_spte(spte), true);
			kvm_race_delay(race->rounds);
		}

		WRITE_ONCE(race->rounds, race->rounds + 1);
	}

	return 0;
}

static void age_against(struct age_vm *vm, struct age_race *race,
			int (*threadfn)(void *data), const char *name)
{
	struct kvm_age_stats before, after;
	struct kunit *test = vm->test;
	struct task_struct *task;
	unsigned long round, begin;

	init_completion(&race->started);
	race->set = vm->set;

	before = kvm_age_stats_sum();

	task = kvm_race_start(test, threadfn, race, name);
	wait_for_completion(&race->started);

	/* Every other time through a bitmap. */
	begin = jiffies;
	for (round = 0; round < AGE_RACE_ROUNDS ||
	     !kvm_race_is_over(begin, min(READ_ONCE(race->saw_old), READ_ONCE(race->rounds)),
			       AGE_RACE_GOOD, AGE_RACE_MIN); round++) {
		unsigned long young = 0, clear = ~0ul;

		if (round & 1)
			kvm_age_bitmap(vm->kvm, vm->slots[0], 0, AGE_RACE_SPTES, &clear,
				       &young);
		else
			age_call(vm, 0, 0, AGE_RACE_SPTES, false);
		cond_resched();
	}

	kthread_stop(task);
	after = kvm_age_stats_sum();

	kunit_info(test, "%lu rounds, %lu by the thread, aged %lu, lost %lu\n",
		   round, race->rounds, after.aged - before.aged,
		   after.lost - before.lost);

	KUNIT_EXPECT_GE(test, race->rounds, (unsigned long)AGE_RACE_MIN);
	KUNIT_EXPECT_GE(test, race->saw_old, (unsigned long)AGE_RACE_MIN);
	KUNIT_EXPECT_EQ(test, after.young - before.young,
			after.aged - before.aged + after.lost - before.lost);
}

static void age_against_freezing(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	struct age_race *race;
	int i;

	race = kunit_kzalloc(test, sizeof(*race), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, race);
	race->frozen.name = "frozen SPTE stays frozen";
	race->mapped.name = "SPTE is what was mapped, young or old";

	race->leaves[0] = age_young_leaf(vm, 0x100, PG_LEVEL_4K);
	race->leaves[1] = age_young_leaf(vm, 0x101, PG_LEVEL_4K);
	race->sptes = age_table(vm, root, 0, PG_LEVEL_4K)->spt;
	for (i = 0; i < AGE_RACE_SPTES; i++)
		race->sptes[i] = race->leaves[0];

	age_against(vm, race, age_race_freeze, "kvm_age_freeze");
	kvm_expect(test, &race->frozen);
	KUNIT_EXPECT_EQ_MSG(test, race->mapped.failed, 0ul,
			    "frozen while %llx was mapped: %llx", race->mapped.want,
			    race->mapped.got);
}

static void age_against_zapping(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *root = age_add_root(vm, 4, 0, false);
	struct age_race *race;

	race = kunit_kzalloc(test, sizeof(*race), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, race);
	race->mapped.name = "zapped SPTE is what was mapped";
	race->zapped_dirty.name = "zapped SPTE is dirty";

	race->leaves[0] = age_young_leaf(vm, 0x100, PG_LEVEL_4K);
	race->leaves[1] = age_young_leaf(vm, 0x101, PG_LEVEL_4K);
	if (vm->set->ad) {
		race->dirty = kvm_leaf_dirty(vm->set);
		race->leaves[0] &= ~race->dirty;
		race->leaves[1] &= ~race->dirty;
	}
	race->sptes = age_table(vm, root, 0, PG_LEVEL_4K)->spt;

	age_against(vm, race, age_race_zap, "kvm_age_zap");
	kvm_expect(test, &race->mapped);
	kvm_expect(test, &race->zapped_dirty);
}

static struct kunit_case age_cases[] = {
	KUNIT_CASE_PARAM(age_one_leaf, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_every_leaf, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_inside_huge_leaf, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_mixed_levels, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_holes, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_not_present, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_several_roots, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_address_spaces, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_test_only, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_beyond_root, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_five_levels, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_random, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_leaf_unchanged, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_leaf_changed, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_against_freezing, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(age_against_zapping, kvm_mask_sets_gen_params),
	{}
};

static struct kunit_suite age_suite = {
	.name = "kvm_age",
	.init = age_init,
	.test_cases = age_cases,
};

kunit_test_suite(age_suite);
