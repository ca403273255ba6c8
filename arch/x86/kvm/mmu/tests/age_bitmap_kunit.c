// SPDX-License-Identifier: GPL-2.0-only
/*
 * Aging of a range of host addresses through a bitmap, from the memslots to the SPTEs,
 * against a reference that goes page by page and knows what is in the tables.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/interval_tree.h>
#include <linux/minmax.h>
#include <linux/prandom.h>

#include "age_vm.h"

KUNIT_ARRAY_PARAM_DESC(kvm_mask_sets, kvm_mask_sets, name);

#define HVA_BASE	0x7f0000000000ull
#define MAX_PAGES	SPTE_ENT_PER_PAGE
#define MAX_BLOCKS	24

/*
 * Two memslots with a hole between them, the first of them at an offset from its addresses that is
 * no multiple of 2 MiB, and across an entry of the root; one that maps a part of the first a second
 * time; and one of the other address space.  One memslot is read-only, one is invalid, and one is
 * logged: aging must not depend on the flags.
 */
static const struct {
	int as_id;
	unsigned long page;
	unsigned long npages;
	gfn_t gfn;
	u32 flags;
} layout[] = {
	{ 0, 0, 700, GFNS_512G - 300 },
	{ 0, 750, 600, 3 * GFNS_1G + 2 * GFNS_2M, KVM_MEM_READONLY },
	{ 0, 200, 200, 5 * GFNS_1G + 411, KVM_MEMSLOT_INVALID },
	{ 1, 100, 800, GFNS_512G + 17, KVM_MEM_LOG_DIRTY_PAGES },
};

#define LAYOUT_PAGES	1350

/* The gfns of one PMD, in one root: a page table, or whatever is there instead. */
struct block {
	struct age_root *root;
	gfn_t gfn;
	struct age_table *table;
	u64 *entry;
	u64 link;
};

struct bitmap_vm {
	struct age_vm *vm;
	struct kvm_memslots memslots[2];
	struct kvm_memory_slot slots[ARRAY_SIZE(layout)];
	struct block blocks[MAX_BLOCKS];
	int nr_blocks;
	/* The SPTEs that the reference makes old. */
	u64 *aged[8 * MAX_PAGES];
	int nr_aged;
};

static void add_blocks(struct bitmap_vm *b, struct age_root *root, gfn_t start, gfn_t end)
{
	struct age_vm *vm = b->vm;
	gfn_t gfn;

	for (gfn = start & ~(GFNS_2M - 1); gfn < end; gfn += GFNS_2M) {
		struct age_table *parent;
		struct block *block;

		KUNIT_ASSERT_LT(vm->test, b->nr_blocks, MAX_BLOCKS);
		block = &b->blocks[b->nr_blocks++];
		block->root = root;
		block->gfn = gfn;
		block->table = age_table(vm, root, gfn, PG_LEVEL_4K);
		parent = age_table(vm, root, gfn, PG_LEVEL_2M);
		block->entry = &parent->expected[age_index(parent, gfn)];
		block->link = *block->entry;
	}
}

static struct bitmap_vm *new_bitmap_vm(struct kunit *test)
{
	struct bitmap_vm *b = kvm_kvzalloc(test, sizeof(*b));
	struct age_vm *vm = test->priv;
	int i, as_id;

	b->vm = vm;
	age_add_root(vm, 4, 0, false);
	age_add_root(vm, 4, 1, false);
	age_add_root(vm, 4, 0, false);
	age_add_root(vm, 4, 0, true);

	for (as_id = 0; as_id < KVM_MAX_NR_ADDRESS_SPACES; as_id++) {
		b->memslots[as_id].hva_tree = RB_ROOT_CACHED;
		rcu_assign_pointer(vm->kvm->memslots[as_id], &b->memslots[as_id]);
	}

	for (i = 0; i < ARRAY_SIZE(layout); i++) {
		struct kvm_memory_slot *slot = &b->slots[i];
		int root;

		slot->as_id = layout[i].as_id;
		slot->base_gfn = layout[i].gfn;
		slot->npages = layout[i].npages;
		slot->flags = layout[i].flags;
		slot->userspace_addr = HVA_BASE + layout[i].page * PAGE_SIZE;
		slot->hva_node[0].start = slot->userspace_addr;
		slot->hva_node[0].last = slot->userspace_addr + slot->npages * PAGE_SIZE - 1;
		interval_tree_insert(&slot->hva_node[0],
				     &b->memslots[slot->as_id].hva_tree);

		for (root = 0; root < vm->nr_roots; root++) {
			if (vm->roots[root].as_id == slot->as_id)
				add_blocks(b, &vm->roots[root], slot->base_gfn,
					   slot->base_gfn + slot->npages);
		}
	}

	return b;
}

/* Anything that may be there, on both levels. */
static void fill(struct bitmap_vm *b, struct rnd_state *rnd)
{
	struct age_vm *vm = b->vm;
	int i, j;

	for (i = 0; i < b->nr_blocks; i++) {
		struct block *block = &b->blocks[i];
		u64 spte = block->link;
		u32 r = prandom_u32_state(rnd);

		if (r % 8 == 0)
			spte = SHADOW_NONPRESENT_VALUE;
		else if (r % 8 == 1)
			spte = FROZEN_SPTE;
		else if (r % 8 <= 3)
			spte = age_make_leaf(vm->leaves[(r >> 4) % vm->nr_leaves], block->gfn,
					     PG_LEVEL_2M);
		age_set(vm, block->root, block->gfn, PG_LEVEL_2M, spte);

		for (j = 0; j < AGE_ENTRIES; j++) {
			r = prandom_u32_state(rnd);

			if (r % 16 == 0)
				spte = SHADOW_NONPRESENT_VALUE;
			else if (r % 16 == 1)
				spte = FROZEN_SPTE;
			else if (r % 16 == 2)
				spte = age_mmio_spte(block->gfn + j);
			else
				spte = age_make_leaf(vm->leaves[(r >> 4) % vm->nr_leaves],
						     block->gfn + j, PG_LEVEL_4K);
			age_set_entry(block->table, j, spte);
		}
	}
}

/* The valid root's leaf that maps the gfn, if there is one, as it is expected to be. */
static u64 *find_leaf(struct bitmap_vm *b, int root, gfn_t gfn)
{
	int i;

	for (i = 0; i < b->nr_blocks; i++) {
		struct block *block = &b->blocks[i];
		u64 *spte = block->entry;

		if (block->root != &b->vm->roots[root] || gfn - block->gfn >= GFNS_2M)
			continue;

		if (*spte == block->link)
			spte = &block->table->expected[gfn - block->gfn];
		return *spte & LEAF_PRESENT ? spte : NULL;
	}

	return NULL;
}

/* Is the page of the host young in any of the slots and roots that map it? */
static bool reference_page(struct bitmap_vm *b, unsigned long hva, bool clear)
{
	struct age_vm *vm = b->vm;
	bool young = false;
	int i, root;

	for (i = 0; i < ARRAY_SIZE(layout); i++) {
		unsigned long page = (hva - HVA_BASE) / PAGE_SIZE - layout[i].page;

		if (hva < HVA_BASE || page >= layout[i].npages)
			continue;

		for (root = 0; root < vm->nr_roots; root++) {
			u64 *spte;

			if (vm->roots[root].invalid || vm->roots[root].as_id != layout[i].as_id)
				continue;
			spte = find_leaf(b, root, layout[i].gfn + page);
			if (!spte || !kvm_leaf_is_young(vm->set, *spte))
				continue;

			young = true;
			if (clear)
				b->aged[b->nr_aged++] = spte;
		}
	}

	return young;
}

/* Age a range, and compare with the result of asking about one page at a time. */
static void check(struct bitmap_vm *b, unsigned long start, unsigned long end,
		  const unsigned long *clear, const unsigned long *others)
{
	DECLARE_BITMAP(want, MAX_PAGES);
	DECLARE_BITMAP(young, MAX_PAGES);
	DECLARE_BITMAP(asked, MAX_PAGES);
	struct kvm_age_stats before, after;
	struct kunit *test = b->vm->test;
	unsigned long hva, aged = 0;
	int i;

	bitmap_copy(want, others, MAX_PAGES);
	bitmap_copy(young, others, MAX_PAGES);
	bitmap_copy(asked, clear, MAX_PAGES);

	b->nr_aged = 0;
	for (hva = start; hva < end; hva += PAGE_SIZE) {
		int bit = (end - hva) / PAGE_SIZE - 1;

		if (reference_page(b, hva, test_bit(bit, clear)))
			__set_bit(bit, want);
	}

	/* Only now, as all of them are looked at before any of them is aged. */
	for (i = 0; i < b->nr_aged; i++) {
		if (!kvm_leaf_is_young(b->vm->set, *b->aged[i]))
			continue;
		*b->aged[i] = kvm_leaf_make_old(b->vm->set, *b->aged[i]);
		aged++;
	}

	before = kvm_age_stats_sum();
	kvm_age_hva_bitmap(b->vm->kvm, start, end, asked, young);
	after = kvm_age_stats_sum();

	age_compare(b->vm);
	KUNIT_ASSERT_TRUE(test, bitmap_equal(asked, clear, MAX_PAGES));
	for (i = 0; i < MAX_PAGES; i++)
		KUNIT_ASSERT_EQ_MSG(test, test_bit(i, young), test_bit(i, want),
				    "page %d of [%lx, %lx)",
				    (int)((end - start) / PAGE_SIZE) - 1 - i, start, end);
	KUNIT_ASSERT_EQ(test, after.aged - before.aged, aged);
	KUNIT_ASSERT_EQ(test, after.lost - before.lost, 0ul);
}

static void fill_bitmap(unsigned long *bitmap, struct rnd_state *rnd)
{
	u32 kind = prandom_u32_state(rnd) % 4;
	int i;

	bitmap_zero(bitmap, MAX_PAGES);
	if (kind == 0)
		return;
	if (kind == 1) {
		bitmap_fill(bitmap, MAX_PAGES);
		return;
	}
	for (i = 0; i < MAX_PAGES; i++) {
		if (prandom_u32_state(rnd) % (kind == 2 ? 2 : 64) == 0)
			__set_bit(i, bitmap);
	}
}

#define RANDOM_ROUNDS	60
#define RANDOM_RANGES	4

static void bitmap_random(struct kunit *test)
{
	struct bitmap_vm *b = new_bitmap_vm(test);
	DECLARE_BITMAP(others, MAX_PAGES);
	DECLARE_BITMAP(clear, MAX_PAGES);
	unsigned long aged = 0;
	struct rnd_state rnd;
	int round, i;

	prandom_seed_state(&rnd, 612);

	for (round = 0; round < RANDOM_ROUNDS; round++) {
		fill(b, &rnd);

		for (i = 0; i < RANDOM_RANGES; i++) {
			u32 most = 1 << (prandom_u32_state(&rnd) % 10);
			unsigned long first, npages;

			/* A page, a few, or many; from before the first to behind the last. */
			first = prandom_u32_state(&rnd) % (LAYOUT_PAGES + 60);
			npages = 1 + prandom_u32_state(&rnd) % most;
			fill_bitmap(clear, &rnd);
			/* Beyond the range, too: neither read nor written. */
			fill_bitmap(others, &rnd);
			check(b, HVA_BASE + first * PAGE_SIZE - 30 * PAGE_SIZE,
			      HVA_BASE + (first + npages) * PAGE_SIZE - 30 * PAGE_SIZE,
			      clear, others);
			aged += b->nr_aged;
		}
	}

	KUNIT_EXPECT_GT(test, aged, 10ul * RANDOM_ROUNDS);
}

/*
 * A huge leaf that one slot maps in part is young for these pages, and for no other, and is made
 * old if the bit of any of these pages is set.
 */
static void bitmap_inside_huge_leaf(struct kunit *test)
{
	struct bitmap_vm *b = new_bitmap_vm(test);
	struct age_vm *vm = b->vm;
	/* The first 300 pages of the first slot end a huge page, 400 begin the next. */
	const gfn_t first = (GFNS_512G - 300) & ~(GFNS_2M - 1);
	DECLARE_BITMAP(others, MAX_PAGES);
	DECLARE_BITMAP(clear, MAX_PAGES);
	int bit, n;

	bitmap_zero(others, MAX_PAGES);

	/* From 212 pages before the slot to 300 inside, and on. */
	for (n = 0; n < 3; n++) {
		unsigned long start = HVA_BASE - 212 * PAGE_SIZE + n * 256 * PAGE_SIZE;
		unsigned long end = start + MAX_PAGES * PAGE_SIZE;

		for (bit = -1; bit < MAX_PAGES; bit += bit < 0 ? 1 : 73) {
			bitmap_zero(clear, MAX_PAGES);
			if (bit >= 0)
				__set_bit(bit, clear);
			age_set_young(vm, &vm->roots[0], first, PG_LEVEL_2M);
			age_set_young(vm, &vm->roots[0], first + GFNS_2M, PG_LEVEL_2M);
			age_set_young(vm, &vm->roots[1], GFNS_512G, PG_LEVEL_2M);
			check(b, start, end, clear, others);
			/* One bit ages the whole huge leaf. */
			KUNIT_ASSERT_LE(test, b->nr_aged, bit < 0 ? 0 : 2);
		}
	}
}

static void expect_old(struct age_vm *vm, struct age_root *root, gfn_t gfn, int level)
{
	struct age_table *table = age_table(vm, root, gfn, level);
	struct age_result unused = {};

	age_expect_old(vm, &unused, &table->expected[age_index(table, gfn)], false);
}

/*
 * A root of five levels, and beside it one of four, which maps no more than the first
 * part of the range; and a leaf of 1 GiB.
 */
static void bitmap_beyond_root(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct age_root *five = age_add_root(vm, 5, 0, false);
	struct age_root *four = age_add_root(vm, 4, 0, false);
	const gfn_t last = GFNS_4_LEVELS - 1;
	DECLARE_BITMAP(clear, MAX_PAGES);
	DECLARE_BITMAP(young, MAX_PAGES);
	int i;

	age_set_young(vm, four, last, PG_LEVEL_4K);
	/* What the rest of the range would be, modulo the span of the root. */
	age_set_young(vm, four, 0, PG_LEVEL_4K);
	age_set_young(vm, five, last + 2, PG_LEVEL_4K);
	age_set_young(vm, five, 2 * GFNS_4_LEVELS, PG_LEVEL_1G);

	bitmap_zero(clear, MAX_PAGES);
	bitmap_zero(young, MAX_PAGES);
	kvm_age_bitmap(vm->kvm, vm->slots[0], last - 99, last + 101, clear, young);
	for (i = 0; i < MAX_PAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, test_bit(i, young), i == 98 || i == 100, "bit %d", i);
	age_compare(vm);

	bitmap_fill(clear, MAX_PAGES);
	kvm_age_bitmap(vm->kvm, vm->slots[0], last - 99, last + 101, clear, young);
	expect_old(vm, four, last, PG_LEVEL_4K);
	expect_old(vm, five, last + 2, PG_LEVEL_4K);
	age_compare(vm);

	/* The last of 512 gfns inside the huge page is the only one to ask for it. */
	bitmap_zero(clear, MAX_PAGES);
	bitmap_zero(young, MAX_PAGES);
	__set_bit(0, clear);
	kvm_age_bitmap(vm->kvm, vm->slots[0], 2 * GFNS_4_LEVELS + 77,
		       2 * GFNS_4_LEVELS + 77 + MAX_PAGES, clear, young);
	KUNIT_EXPECT_TRUE(test, bitmap_full(young, MAX_PAGES));
	expect_old(vm, five, 2 * GFNS_4_LEVELS, PG_LEVEL_1G);
	age_compare(vm);
}

/* No memslot there, and nothing mapped where there is one. */
static void bitmap_nothing(struct kunit *test)
{
	struct bitmap_vm *b = new_bitmap_vm(test);
	DECLARE_BITMAP(others, MAX_PAGES);
	DECLARE_BITMAP(clear, MAX_PAGES);
	struct kvm_age_stats before;

	bitmap_zero(others, MAX_PAGES);
	bitmap_fill(clear, MAX_PAGES);
	before = kvm_age_stats_sum();

	check(b, HVA_BASE, HVA_BASE + MAX_PAGES * PAGE_SIZE, clear, others);
	check(b, HVA_BASE - MAX_PAGES * PAGE_SIZE, HVA_BASE, clear, others);
	check(b, HVA_BASE + LAYOUT_PAGES * PAGE_SIZE, HVA_BASE + (LAYOUT_PAGES + 1) * PAGE_SIZE,
	      clear, others);
	KUNIT_EXPECT_EQ(test, kvm_age_stats_sum().scanned, before.scanned);
}

static struct kunit_case bitmap_cases[] = {
	KUNIT_CASE_PARAM(bitmap_random, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(bitmap_inside_huge_leaf, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(bitmap_beyond_root, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(bitmap_nothing, kvm_mask_sets_gen_params),
	{}
};

static struct kunit_suite bitmap_suite = {
	.name = "kvm_age_bitmap",
	.init = age_init,
	.test_cases = bitmap_cases,
};

kunit_test_suite(bitmap_suite);
