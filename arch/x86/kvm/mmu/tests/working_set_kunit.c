// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading the working set: of every form of a leaf, of random page tables that are used, faulted
 * in, aged and read in any order, and beside a thread that uses them.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/types.h>

#include "mmu/dirty_log.h"
#include "mmu/working_set.h"
#include "age_vm.h"
#include "race.h"

KUNIT_ARRAY_PARAM_DESC(kvm_mask_sets, kvm_mask_sets, name);

static int ws_leaf_level(u64 leaf)
{
	return leaf & LEAF_PSE ? PG_LEVEL_2M : PG_LEVEL_4K;
}

static bool ws_read_leaf(u64 *sptep)
{
	return working_set_read_leaf(sptep, *sptep, ws_leaf_level(*sptep));
}

/* As kvm_next_leaf(), with each combination of the readers' bits that a leaf with A/D bits has. */
static bool ws_next_leaf(const struct kvm_mask_set *set, u64 *leaf)
{
	const u64 bits = LEAF_YOUNG_AGING | LEAF_YOUNG_WS;
	u64 next;

	if (*leaf && kvm_leaf_has_ad(set, *leaf)) {
		next = ((*leaf | ~bits) + 1) & bits;
		*leaf = (*leaf & ~bits) | next;
		if (next)
			return true;
	}

	return kvm_next_leaf(set, leaf);
}

/* Neither reader takes from the other, whoever comes first. */
static void working_set_every_leaf(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property found = { "found" };
	struct kvm_property exact = { "read form" };
	struct kvm_property again = { "not found again" };
	struct kvm_property young = { "young for aging" };
	struct kvm_property aging = { "as young for aging" };
	struct kvm_property aged = { "old form" };
	struct kvm_property reading = { "aged, and as touched" };
	struct kvm_property absent = { "not present, and left" };
	const u64 absents[] = { SHADOW_NONPRESENT_VALUE, FROZEN_SPTE, shadow_mmio_value };
	u64 leaf = 0, spte;
	int i;

	while (ws_next_leaf(set, &leaf)) {
		bool touched = kvm_leaf_is_touched(set, leaf);

		spte = leaf;
		kvm_check(&young, leaf, is_accessed_spte(leaf), kvm_leaf_is_young(set, leaf));
		kvm_check(&found, leaf, ws_read_leaf(&spte), touched);
		kvm_check(&exact, leaf, spte, kvm_leaf_make_read(set, leaf));
		kvm_check(&aging, leaf, is_accessed_spte(spte), kvm_leaf_is_young(set, leaf));
		if (!kvm_leaf_has_ad(set, leaf))
			continue;

		kvm_check(&again, leaf, ws_read_leaf(&spte), false);
		spte = age_spte(leaf);
		kvm_check(&aged, leaf, spte, kvm_leaf_make_old(set, leaf));
		kvm_check(&reading, leaf, ws_read_leaf(&spte), touched);
	}

	/* A table where a huge leaf was is not a leaf, however young. */
	spte = make_nonleaf_spte((u64 *)PAGE_OFFSET, !set->ad);
	leaf = spte;
	kvm_check(&absent, leaf, working_set_read_leaf(&spte, spte, PG_LEVEL_2M), false);
	kvm_check(&absent, leaf, spte, leaf);

	for (i = 0; i < ARRAY_SIZE(absents); i++) {
		spte = absents[i];
		kvm_check(&absent, absents[i], ws_read_leaf(&spte), false);
		kvm_check(&absent, absents[i], spte, absents[i]);
	}

	kvm_expect(test, &young);
	kvm_expect(test, &found);
	kvm_expect(test, &exact);
	kvm_expect(test, &aging);
	kvm_expect(test, &absent);
	if (set->ad) {
		kvm_expect(test, &again);
		kvm_expect(test, &aged);
		kvm_expect(test, &reading);
	}
}

/* What rewrites a leaf keeps both readers' bits. */
static void working_set_bits_are_kept(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property cleared = { "log cleared" };
	u64 leaf = 0, spte;

	if (!set->ad)
		kunit_skip(test, "no bits to keep");

	while (ws_next_leaf(set, &leaf)) {
		if (!kvm_leaf_has_ad(set, leaf))
			continue;

		spte = dirty_log_cleared(leaf, ws_leaf_level(leaf), false);
		kvm_check(&cleared, leaf, kvm_leaf_is_touched(set, spte),
			  kvm_leaf_is_touched(set, leaf));
		kvm_check(&cleared, leaf, is_accessed_spte(spte), kvm_leaf_is_young(set, leaf));
		spte = dirty_log_cleared(leaf, ws_leaf_level(leaf), true);
		kvm_check(&cleared, leaf, kvm_leaf_is_touched(set, spte),
			  kvm_leaf_is_touched(set, leaf));
		kvm_check(&cleared, leaf, is_accessed_spte(spte), kvm_leaf_is_young(set, leaf));
	}

	kvm_expect(test, &cleared);
}

/*
 * A memslot of 3 GiB and some pages, that begins and ends inside a page table.  Its pages are in a
 * few page tables, and in huge leaves.
 */
#define WS_BASE		(GFNS_1G - 700)
#define WS_NPAGES	(700 + 2 * GFNS_1G + 5 * GFNS_2M + 33)

struct ws_leaf {
	struct age_root *root;
	gfn_t gfn;
	int level;
	u64 *sptep;
};

#define WS_MAX_LEAVES	2048

struct ws_vm {
	struct age_vm *vm;
	struct kunit *test;
	struct kvm_working_set_slot slot;
	/* What was touched since the last read. */
	unsigned long *touched;
	struct ws_leaf leaves[WS_MAX_LEAVES];
	int nr_leaves;
	struct rnd_state rnd;
};

static u32 ws_random(struct ws_vm *ws, u32 n)
{
	return prandom_u32_state(&ws->rnd) % n;
}

static void ws_add_leaf(struct ws_vm *ws, struct age_root *root, gfn_t gfn, int level)
{
	struct age_vm *vm = ws->vm;
	struct ws_leaf *leaf = &ws->leaves[ws->nr_leaves++];
	u64 old = kvm_leaf_make_read(vm->set, age_young_leaf(vm, gfn, level));

	KUNIT_ASSERT_LE(ws->test, ws->nr_leaves, WS_MAX_LEAVES);
	leaf->root = root;
	leaf->gfn = gfn_round_for_level(gfn, level);
	leaf->level = level;
	leaf->sptep = age_set(vm, root, gfn, level, old & ~LEAF_YOUNG_AGING);
}

/* The SPTE of the page table of @level that maps @leaf, in the table above. */
static u64 *ws_table_sptep(struct ws_vm *ws, struct ws_leaf *leaf, int level)
{
	struct age_table *table = age_table(ws->vm, leaf->root, leaf->gfn, level);

	return &table->spt[age_index(table, leaf->gfn)];
}

static void ws_model_touch(struct ws_vm *ws, struct ws_leaf *leaf)
{
	gfn_t start = max(leaf->gfn, ws->slot.base_gfn);
	gfn_t end = min(leaf->gfn + gfns_per_leaf(leaf->level), WS_BASE + WS_NPAGES);

	bitmap_set(ws->touched, start - kvm_working_set_first_bit(&ws->slot), end - start);
}

/* As the CPU uses a page, with nothing in its caches: from the root down. */
static void ws_cpu_touches(struct ws_vm *ws, struct ws_leaf *leaf)
{
	u64 accessed = kvm_leaf_accessed(ws->vm->set);
	int level;

	for (level = leaf->root->level; level > leaf->level; level--)
		*ws_table_sptep(ws, leaf, level) |= accessed;
	*leaf->sptep |= accessed;
	ws_model_touch(ws, leaf);
}

/* As a fault does it: the leaf, and then the tables. */
static void ws_make_tables_young(struct ws_vm *ws, struct ws_leaf *leaf)
{
	struct tdp_iter iter = {
		.gfn = leaf->gfn,
		.level = leaf->level,
		.root_level = leaf->root->level,
	};
	int level;

	for (level = leaf->level; level <= leaf->root->level; level++)
		iter.pt_path[level - 1] =
			(tdp_ptep_t)age_table(ws->vm, leaf->root, leaf->gfn, level)->spt;

	rcu_read_lock();
	kvm_working_set_tables_young(&iter);
	rcu_read_unlock();
}

static void ws_fault_touches(struct ws_vm *ws, struct ws_leaf *leaf)
{
	*leaf->sptep = age_young_leaf(ws->vm, leaf->gfn, leaf->level);
	ws_make_tables_young(ws, leaf);
	ws_model_touch(ws, leaf);
}

static void ws_age_some(struct ws_vm *ws)
{
	gfn_t gfn = ws->leaves[ws_random(ws, ws->nr_leaves)].gfn;

	gfn = max_t(gfn_t, gfn, WS_BASE);
	kvm_age_range(ws->vm->kvm, ws->vm->slots[0], gfn,
		      min_t(gfn_t, gfn + 1 + ws_random(ws, 2000), WS_BASE + WS_NPAGES), false);
}

static unsigned long ws_bits(struct ws_vm *ws)
{
	return WS_BASE + WS_NPAGES - kvm_working_set_first_bit(&ws->slot);
}

/* Exactly what was touched is found, and no leaf is young below an old table. */
static void ws_read(struct ws_vm *ws)
{
	struct kunit *test = ws->test;
	unsigned long bits = ws_bits(ws), bit;
	int i, level;

	for (i = 0; i < ws->nr_leaves; i++) {
		struct ws_leaf *leaf = &ws->leaves[i];

		if (!kvm_leaf_is_touched(ws->vm->set, *leaf->sptep))
			continue;
		for (level = leaf->level + 1; level <= leaf->root->level; level++)
			KUNIT_ASSERT_TRUE_MSG(test, *ws_table_sptep(ws, leaf, level) &
					      kvm_leaf_accessed(ws->vm->set),
					      "young leaf of level %d at %llx below an old table of level %d",
					      leaf->level, leaf->gfn, level);
	}

	bitmap_zero(ws->slot.touched, bits);
	KUNIT_ASSERT_EQ(test, kvm_working_set_read_slot(ws->vm->kvm, &ws->slot), 0);

	if (!bitmap_equal(ws->slot.touched, ws->touched, bits)) {
		for (bit = 0; test_bit(bit, ws->slot.touched) == test_bit(bit, ws->touched); bit++)
			;
		KUNIT_FAIL_AND_ABORT(test, "gfn %llx %s",
				     kvm_working_set_first_bit(&ws->slot) + bit,
				     test_bit(bit, ws->touched) ? "was touched, and is missed" :
								  "was left alone, and is found");
	}
	bitmap_zero(ws->touched, bits);
}

static struct ws_vm *ws_create(struct kunit *test)
{
	struct ws_vm *ws = kvm_kvzalloc(test, sizeof(*ws));

	ws->vm = test->priv;
	ws->test = test;
	ws->slot.base_gfn = WS_BASE;
	ws->slot.npages = WS_NPAGES;
	ws->slot.touched = kvm_kvzalloc(test, BITS_TO_LONGS(ws_bits(ws)) * sizeof(long));
	ws->touched = kvm_kvzalloc(test, BITS_TO_LONGS(ws_bits(ws)) * sizeof(long));
	prandom_seed_state(&ws->rnd, 612);
	kvm_working_set_was_read = true;
	return ws;
}

#define WS_ROUNDS	1000

static void working_set_random(struct kunit *test)
{
	static const gfn_t tables[] = {
		WS_BASE, WS_BASE + 512, GFNS_1G, GFNS_1G + 7 * GFNS_2M, 2 * GFNS_1G - GFNS_2M,
		2 * GFNS_1G, 3 * GFNS_1G, 3 * GFNS_1G + 4 * GFNS_2M, WS_BASE + WS_NPAGES - 1,
	};
	const struct kvm_mask_set *set = test->param_value;
	unsigned long touches = 0, reads = 0;
	struct ws_vm *ws;
	int i, n, round;

	if (!set->ad)
		kunit_skip(test, "refused: no Accessed bit");

	ws = ws_create(test);
	for (n = 0; n < 2; n++) {
		struct age_root *root = age_add_root(ws->vm, n ? 5 : 4, 0, false);

		for (i = 0; i < ARRAY_SIZE(tables); i++) {
			gfn_t gfn = clamp(gfn_round_for_level(tables[i], PG_LEVEL_2M) +
					  ws_random(ws, 400), WS_BASE, WS_BASE + WS_NPAGES - 60);
			int pages;

			for (pages = 0; pages < 60; pages++)
				ws_add_leaf(ws, root, gfn + pages, PG_LEVEL_4K);
		}
		for (i = 0; i < 20; i++)
			ws_add_leaf(ws, root, GFNS_1G + (20 + i * 3) * GFNS_2M, PG_LEVEL_2M);
	}

	for (round = 0; round < WS_ROUNDS; round++) {
		struct ws_leaf *leaf = &ws->leaves[ws_random(ws, ws->nr_leaves)];

		switch (ws_random(ws, 16)) {
		case 0 ... 4:
			ws_cpu_touches(ws, leaf);
			touches++;
			break;
		case 5 ... 9:
			ws_fault_touches(ws, leaf);
			touches++;
			break;
		case 10 ... 13:
			ws_age_some(ws);
			break;
		default:
			ws_read(ws);
			reads++;
			break;
		}
	}
	ws_read(ws);
	kunit_info(test, "%lu touches, %lu reads\n", touches, reads);
}

/* As often as a thread makes a leaf young, as often is one found. */
#define WS_RACE_PAGES	8
#define WS_RACE_GOOD	1000
#define WS_RACE_MIN	200

struct ws_race {
	struct ws_vm *ws;
	unsigned long touches;
};

static int ws_race_thread(void *data)
{
	struct ws_race *race = data;
	struct ws_vm *ws = race->ws;
	unsigned long n = 0;

	while (!kthread_should_stop()) {
		struct ws_leaf *leaf = &ws->leaves[n++ % WS_RACE_PAGES];
		u64 young = age_young_leaf(ws->vm, leaf->gfn, leaf->level);
		u64 spte = READ_ONCE(*leaf->sptep);

		if (!kvm_leaf_is_touched(ws->vm->set, spte) &&
		    try_cmpxchg64(leaf->sptep, &spte, young)) {
			ws_make_tables_young(ws, leaf);
			WRITE_ONCE(race->touches, race->touches + 1);
		}
		kvm_race_delay(n);
	}

	return 0;
}

static void working_set_beside_faults(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	unsigned long begin, found = 0, rounds = 0, busy = 0;
	struct task_struct *task;
	struct age_root *root;
	struct ws_race *race;
	struct ws_vm *ws;
	int i;

	if (!set->ad)
		kunit_skip(test, "refused: no Accessed bit");
	/* What races is the same: the walks, and a cmpxchg. */
	if (set->ept)
		kunit_skip(test, "as with NPT");

	ws = ws_create(test);
	/* One page table, so that the race is about few bits. */
	ws->slot.base_gfn = GFNS_1G;
	ws->slot.npages = GFNS_2M;
	root = age_add_root(ws->vm, 4, 0, false);
	for (i = 0; i < WS_RACE_PAGES; i++)
		ws_add_leaf(ws, root, GFNS_1G + i * 61, PG_LEVEL_4K);

	race = kunit_kzalloc(test, sizeof(*race), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, race);
	race->ws = ws;
	/* Old, as after a read: the tables, too. */
	kvm_working_set_read_slot(ws->vm->kvm, &ws->slot);

	task = kvm_race_start(test, ws_race_thread, race, "kvm_working_set");
	begin = jiffies;
	do {
		unsigned long nr;

		bitmap_zero(ws->slot.touched, GFNS_2M);
		kvm_working_set_read_slot(ws->vm->kvm, &ws->slot);
		nr = bitmap_weight(ws->slot.touched, GFNS_2M);
		found += nr;
		busy += nr && nr < WS_RACE_PAGES;
		rounds++;
		cond_resched();
	} while (!kvm_race_is_over(begin, min(busy, READ_ONCE(race->touches)), WS_RACE_GOOD,
				   WS_RACE_MIN));
	kthread_stop(task);

	bitmap_zero(ws->slot.touched, GFNS_2M);
	kvm_working_set_read_slot(ws->vm->kvm, &ws->slot);
	found += bitmap_weight(ws->slot.touched, GFNS_2M);
	kunit_info(test, "%lu reads, %lu leaves made young\n", rounds, race->touches);
	KUNIT_EXPECT_GE(test, race->touches, (unsigned long)WS_RACE_MIN);
	KUNIT_EXPECT_EQ(test, found, race->touches);
}

static struct kunit_case working_set_cases[] = {
	KUNIT_CASE_PARAM(working_set_every_leaf, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(working_set_bits_are_kept, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(working_set_random, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(working_set_beside_faults, kvm_mask_sets_gen_params),
	{}
};

static struct kunit_suite working_set_suite = {
	.name = "kvm_working_set",
	.init = age_init,
	.test_cases = working_set_cases,
};

kunit_test_suite(working_set_suite);
