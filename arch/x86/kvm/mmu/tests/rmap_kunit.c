// SPDX-License-Identifier: GPL-2.0-only
/*
 * The lists of SPTEs that shadow paging keeps, and aging through them: against a
 * list that the cases keep themselves, and beside a thread that changes them.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/compiler.h>
#include <linux/completion.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "mmu/age.h"
#include "mmu/rmap.h"
#include "masks.h"
#include "race.h"
#include "vm.h"

KUNIT_ARRAY_PARAM_DESC(kvm_mask_sets, kvm_mask_sets, name);

#define RMAP_SPTES	512
/* The memslot begins and ends inside a 1 GiB and a 2 MiB page, and contains whole ones. */
#define RMAP_BASE	((1ull << 18) - 700)
#define RMAP_NPAGES	((1ull << 18) + 700 + 1300)
/* A list of three descriptors, the first of them not full. */
#define RMAP_MANY	(2 * PTE_LIST_EXT + 3)

struct rmap_vm {
	const struct kvm_mask_set *set;
	struct kunit *test;
	struct kvm *kvm;
	struct kvm_memory_slot *slot;
	struct kvm_mmu_memory_cache cache;
	void *objects[1];
	/* SPTEs in the layout of a shadow page, which no page table links. */
	u64 *sptes;
	/* What they were before the call. */
	u64 before[RMAP_SPTES];
};

static gfn_t rmap_gfns(int level)
{
	return 1ull << (9 * (level - 1));
}

static void rmap_free_objects(void *data)
{
	struct kvm_mmu_memory_cache *cache = data;

	while (cache->nobjs)
		kmem_cache_free(pte_list_desc_cache, cache->objects[--cache->nobjs]);
}

/* False if there is no memory for a descriptor. */
static bool rmap_add(struct rmap_vm *vm, struct kvm_rmap_head *head, u64 *sptep)
{
	struct kvm_mmu_memory_cache *cache = &vm->cache;

	if (!cache->nobjs) {
		cache->objects[0] = kmem_cache_zalloc(pte_list_desc_cache, GFP_KERNEL);
		if (!cache->objects[0])
			return false;
		cache->nobjs = 1;
	}

	write_lock(&vm->kvm->mmu_lock);
	pte_list_add(vm->kvm, cache, sptep, head);
	write_unlock(&vm->kvm->mmu_lock);
	return true;
}

static void rmap_remove(struct rmap_vm *vm, struct kvm_rmap_head *head, u64 *sptep)
{
	write_lock(&vm->kvm->mmu_lock);
	pte_list_remove(vm->kvm, sptep, head);
	write_unlock(&vm->kvm->mmu_lock);
}

static struct rmap_list rmap_detach(struct rmap_vm *vm, struct kvm_rmap_head *head)
{
	struct rmap_list list;

	write_lock(&vm->kvm->mmu_lock);
	list = pte_list_detach(vm->kvm, head);
	write_unlock(&vm->kvm->mmu_lock);
	return list;
}

static int rmap_init(struct kunit *test)
{
	struct rmap_vm *vm;
	int ret, level;

	ret = kvm_masks_init(test);
	if (ret)
		return ret;

	/* It comes with the vendor module. */
	if (!pte_list_desc_cache) {
		kunit_err(test, "load kvm-amd or kvm-intel first\n");
		return -ENODEV;
	}

	vm = kunit_kzalloc(test, sizeof(*vm), GFP_KERNEL);
	if (!vm)
		return -ENOMEM;

	vm->test = test;
	vm->set = test->param_value;
	vm->kvm = kvm_new_vm(test);
	vm->kvm->arch.shadow_root_allocated = true;
	vm->kvm->arch.indirect_shadow_pages = 1;
	vm->sptes = kvm_kvzalloc(test, RMAP_SPTES * sizeof(u64));
	vm->cache.objects = vm->objects;
	vm->cache.capacity = ARRAY_SIZE(vm->objects);
	vm->cache.kmem_cache = pte_list_desc_cache;
	ret = kunit_add_action(test, rmap_free_objects, &vm->cache);
	if (ret)
		return ret;

	vm->slot = kunit_kzalloc(test, sizeof(*vm->slot), GFP_KERNEL);
	if (!vm->slot)
		return -ENOMEM;
	vm->slot->base_gfn = RMAP_BASE;
	vm->slot->npages = RMAP_NPAGES;
	for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		unsigned long n = gfn_to_index(RMAP_BASE + RMAP_NPAGES - 1, RMAP_BASE,
					       level) + 1;

		vm->slot->arch.rmap[level - PG_LEVEL_4K] =
			kvm_kvzalloc(test, n * sizeof(struct kvm_rmap_head));
	}

	test->priv = vm;
	return 0;
}

static void rmap_empty(struct rmap_vm *vm, struct kvm_rmap_head *head)
{
	pte_list_free(rmap_detach(vm, head));
}

/* The list must be exactly the SPTEs that have a bit set, each of them once. */
static void rmap_compare(struct rmap_vm *vm, struct kvm_rmap_head *head, u64 want)
{
	struct kunit *test = vm->test;
	struct rmap_iterator iter;
	struct rmap_list list;
	unsigned int count;
	u64 found = 0;
	u64 *sptep;

	list = kvm_rmap_get(head);
	KUNIT_ASSERT_EQ(test, READ_ONCE(head->val), list.val);
	KUNIT_ASSERT_EQ(test, list.val == 0, want == 0);
	write_lock(&vm->kvm->mmu_lock);
	count = pte_list_count(head);
	write_unlock(&vm->kvm->mmu_lock);
	KUNIT_ASSERT_EQ(test, count, hweight64(want));

	for (sptep = rmap_list_first(list, &iter); sptep; sptep = rmap_list_next(&iter)) {
		u64 bit;

		KUNIT_ASSERT_TRUE(test, sptep >= vm->sptes && sptep < vm->sptes + 64);
		bit = BIT_ULL(sptep - vm->sptes);
		KUNIT_ASSERT_EQ(test, found & bit, 0ull);
		found |= bit;
	}
	KUNIT_ASSERT_EQ(test, found, want);
}

/* From empty to four descriptors and back, in any order. */
static void rmap_add_and_remove(struct kunit *test)
{
	struct rmap_vm *vm = test->priv;
	struct kvm_rmap_head *head = gfn_to_rmap(RMAP_BASE, PG_LEVEL_4K, vm->slot);
	const int max = 3 * PTE_LIST_EXT + 2;
	struct rnd_state rnd;
	u64 in = 0;
	int n, i;

	prandom_seed_state(&rnd, 612);
	rmap_compare(vm, head, 0);

	for (n = 1; n <= max; n++) {
		while (hweight64(in) < n) {
			i = prandom_u32_state(&rnd) % 64;
			if (in & BIT_ULL(i))
				continue;
			KUNIT_ASSERT_TRUE(test, rmap_add(vm, head, &vm->sptes[i]));
			in |= BIT_ULL(i);
			rmap_compare(vm, head, in);
		}
		while (in) {
			i = prandom_u32_state(&rnd) % 64;
			if (!(in & BIT_ULL(i)))
				continue;
			rmap_remove(vm, head, &vm->sptes[i]);
			in &= ~BIT_ULL(i);
			rmap_compare(vm, head, in);
		}
	}
}

static void rmap_detach_all(struct kunit *test)
{
	struct rmap_vm *vm = test->priv;
	struct kvm_rmap_head *head = gfn_to_rmap(RMAP_BASE, PG_LEVEL_4K, vm->slot);
	int n, i;

	KUNIT_EXPECT_EQ(test, rmap_detach(vm, head).val, 0ul);

	for (n = 1; n <= RMAP_MANY; n++) {
		struct kvm_rmap_head detached;
		struct rmap_list list;

		for (i = 0; i < n; i++)
			KUNIT_ASSERT_TRUE(test, rmap_add(vm, head, &vm->sptes[i]));

		list = rmap_detach(vm, head);
		rmap_compare(vm, head, 0);
		detached.val = list.val;
		rmap_compare(vm, &detached, GENMASK_ULL(n - 1, 0));
		pte_list_free(list);
	}
}

/* An empty list is not locked.  Any other is, and comes back as it was. */
static void rmap_lock_and_unlock(struct kunit *test)
{
	struct rmap_vm *vm = test->priv;
	struct kvm_rmap_head *head = gfn_to_rmap(RMAP_BASE, PG_LEVEL_4K, vm->slot);
	int n;

	for (n = 0; n <= RMAP_MANY; n++) {
		unsigned long before = head->val, locked;
		int count = preempt_count(), inside;
		struct rmap_list list;

		list = kvm_rmap_lock_readonly(head);
		locked = READ_ONCE(head->val);
		inside = preempt_count();
		if (list.val)
			kvm_rmap_unlock_readonly(head, list);

		KUNIT_ASSERT_EQ(test, list.val, before);
		KUNIT_ASSERT_EQ(test, locked, n ? before | KVM_RMAP_LOCKED : 0);
		KUNIT_ASSERT_EQ(test, head->val, before);
		KUNIT_ASSERT_EQ(test, preempt_count(), count);
		if (IS_ENABLED(CONFIG_PREEMPT_COUNT))
			KUNIT_ASSERT_EQ(test, inside, count + !!n);

		KUNIT_ASSERT_TRUE(test, rmap_add(vm, head, &vm->sptes[n]));
	}
	rmap_empty(vm, head);
}

/* Whatever the form of a leaf: aged as in the TDP MMU, the others left alone. */
static void rmap_every_leaf(struct kunit *test)
{
	struct rmap_vm *vm = test->priv;
	struct kvm_rmap_head *head = gfn_to_rmap(RMAP_BASE, PG_LEVEL_4K, vm->slot);
	const u64 absent[] = { SHADOW_NONPRESENT_VALUE, FROZEN_SPTE, shadow_mmio_value,
			       kvm_young_leaf(vm->set) & ~LEAF_PRESENT };
	struct kvm_property aged = { "aged" };
	struct kvm_property tested = { "tested" };
	struct kvm_property young = { "found young" };
	struct kvm_property others = { "not present, and left" };
	u64 leaf = 0;
	int i;

	/* The leaf in the middle of three descriptors, none of the rest present. */
	for (i = 0; i < RMAP_MANY; i++) {
		vm->sptes[i] = absent[i % ARRAY_SIZE(absent)];
		KUNIT_ASSERT_TRUE(test, rmap_add(vm, head, &vm->sptes[i]));
	}

	while (kvm_next_leaf(vm->set, &leaf)) {
		bool is_young = kvm_leaf_is_young(vm->set, leaf);
		u64 *sptep = &vm->sptes[RMAP_MANY / 2];

		*sptep = leaf;
		kvm_check(&young, leaf, kvm_age_range(vm->kvm, vm->slot, RMAP_BASE,
						      RMAP_BASE + 1, true), is_young);
		kvm_check(&tested, leaf, *sptep, leaf);
		kvm_check(&young, leaf, kvm_age_range(vm->kvm, vm->slot, RMAP_BASE,
						      RMAP_BASE + 1, false), is_young);
		kvm_check(&aged, leaf, *sptep,
			  is_young ? kvm_leaf_make_old(vm->set, leaf) : leaf);
	}

	for (i = 0; i < RMAP_MANY; i++) {
		if (i != RMAP_MANY / 2)
			kvm_check(&others, i, vm->sptes[i], absent[i % ARRAY_SIZE(absent)]);
	}

	rmap_empty(vm, head);
	kvm_expect(test, &young);
	kvm_expect(test, &tested);
	kvm_expect(test, &aged);
	kvm_expect(test, &others);
}

struct rmap_leaf {
	gfn_t gfn;
	int level;
};

/* Every leaf that maps a gfn of the range is aged, on whatever level, and no other. */
static void rmap_check_range(struct rmap_vm *vm, const struct rmap_leaf *leaves, int n,
			     gfn_t start, gfn_t end)
{
	u64 young_leaf = kvm_young_leaf(vm->set);
	u64 old_leaf = kvm_leaf_make_old(vm->set, young_leaf);
	struct kvm_age_stats before, after;
	struct kunit *test = vm->test;
	u64 scanned = 0;
	int i;

	for (i = 0; i < n; i++)
		vm->sptes[i] = young_leaf;

	before = kvm_age_stats_sum();
	kvm_age_range(vm->kvm, vm->slot, start, end, false);
	after = kvm_age_stats_sum();

	for (i = 0; i < n; i++) {
		gfn_t gfns = rmap_gfns(leaves[i].level);
		gfn_t first = leaves[i].gfn & ~(gfns - 1);
		bool inside = first < end && first + gfns > start;

		scanned += inside;
		KUNIT_ASSERT_EQ_MSG(test, vm->sptes[i], inside ? old_leaf : young_leaf,
				    "gfn %llx, level %d, range [%llx, %llx)",
				    leaves[i].gfn, leaves[i].level, start, end);
	}
	KUNIT_ASSERT_EQ(test, after.scanned - before.scanned, scanned);
	KUNIT_ASSERT_EQ(test, after.aged - before.aged, scanned);
}

static const gfn_t rmap_edges[] = {
	RMAP_BASE, RMAP_BASE + 1, (1ull << 18) - 513, (1ull << 18) - 512,
	(1ull << 18) - 1, 1ull << 18, (1ull << 18) + 1, (1ull << 18) + 511,
	(1ull << 18) + 512, (1ull << 18) + 513, (2ull << 18) - 1, 2ull << 18,
	(2ull << 18) + 700, RMAP_BASE + RMAP_NPAGES - 1,
};

/* A leaf at each edge, and all huge ones around them.  Returns how many. */
static int rmap_add_leaves(struct rmap_vm *vm, struct rmap_leaf *leaves)
{
	struct kunit *test = vm->test;
	int level, i, n = 0;
	gfn_t gfn;

	for (i = 0; i < ARRAY_SIZE(rmap_edges); i++) {
		leaves[n].level = PG_LEVEL_4K;
		leaves[n++].gfn = rmap_edges[i];
	}
	/* All huge leaves at the ends of the slot and of the pages of 1 GiB in it. */
	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		for (gfn = RMAP_BASE & ~(rmap_gfns(level) - 1);
		     gfn < RMAP_BASE + RMAP_NPAGES; gfn += rmap_gfns(level)) {
			if (level == PG_LEVEL_2M && gfn > (1ull << 18) + 2048 &&
			    gfn < (2ull << 18) - 2048)
				continue;
			leaves[n].level = level;
			leaves[n++].gfn = max_t(gfn_t, gfn, RMAP_BASE);
		}
	}
	KUNIT_ASSERT_LE(test, n, RMAP_SPTES);

	for (i = 0; i < n; i++)
		KUNIT_ASSERT_TRUE(test, rmap_add(vm, gfn_to_rmap(leaves[i].gfn,
								 leaves[i].level,
								 vm->slot),
						 &vm->sptes[i]));
	return n;
}

static void rmap_ranges(struct kunit *test)
{
	struct rmap_vm *vm = test->priv;
	struct rmap_leaf *leaves;
	int i, j, n;

	leaves = kvm_kvzalloc(test, 1024 * sizeof(*leaves));
	n = rmap_add_leaves(vm, leaves);

	/* From each edge to each, and the page after it. */
	for (i = 0; i < ARRAY_SIZE(rmap_edges); i++) {
		for (j = i; j < ARRAY_SIZE(rmap_edges); j++) {
			if (i < j)
				rmap_check_range(vm, leaves, n, rmap_edges[i], rmap_edges[j]);
			rmap_check_range(vm, leaves, n, rmap_edges[i], rmap_edges[j] + 1);
		}
	}

	for (i = 0; i < n; i++)
		rmap_empty(vm, gfn_to_rmap(leaves[i].gfn, leaves[i].level, vm->slot));
}

#define RMAP_BITMAP_ROUNDS	300
#define RMAP_BITMAP_PAGES	SPTE_ENT_PER_PAGE

/* What asking for each page of the range by itself says, and what that makes old. */
static void rmap_check_bitmap(struct rmap_vm *vm, const struct rmap_leaf *leaves, int n,
			      gfn_t start, gfn_t end, struct rnd_state *rnd)
{
	u64 young_leaf = kvm_young_leaf(vm->set);
	u64 old_leaf = kvm_leaf_make_old(vm->set, young_leaf);
	DECLARE_BITMAP(clear, RMAP_BITMAP_PAGES);
	DECLARE_BITMAP(young, RMAP_BITMAP_PAGES);
	DECLARE_BITMAP(want, RMAP_BITMAP_PAGES);
	unsigned int one_in = 1 << (prandom_u32_state(rnd) % 10);
	struct kunit *test = vm->test;
	int i;

	bitmap_zero(clear, RMAP_BITMAP_PAGES);
	bitmap_zero(young, RMAP_BITMAP_PAGES);
	bitmap_zero(want, RMAP_BITMAP_PAGES);
	for (i = 0; i < RMAP_BITMAP_PAGES; i++) {
		if (prandom_u32_state(rnd) % one_in == 0)
			__set_bit(i, clear);
	}
	for (i = 0; i < n; i++)
		vm->sptes[i] = prandom_u32_state(rnd) & 1 ? young_leaf : old_leaf;

	for (i = 0; i < n; i++) {
		gfn_t gfns = rmap_gfns(leaves[i].level);
		gfn_t first = leaves[i].gfn & ~(gfns - 1);
		gfn_t gfn;

		for (gfn = max(first, start); gfn < min(first + gfns, end); gfn++) {
			if (vm->sptes[i] == young_leaf)
				__set_bit(end - 1 - gfn, want);
		}
	}

	memcpy(vm->before, vm->sptes, n * sizeof(u64));
	kvm_age_bitmap(vm->kvm, vm->slot, start, end, clear, young);

	KUNIT_ASSERT_TRUE_MSG(test, bitmap_equal(young, want, RMAP_BITMAP_PAGES),
			      "[%llx, %llx)", start, end);
	for (i = 0; i < n; i++) {
		gfn_t gfns = rmap_gfns(leaves[i].level);
		gfn_t first = leaves[i].gfn & ~(gfns - 1);
		u64 spte = vm->before[i];
		gfn_t gfn;

		for (gfn = max(first, start); gfn < min(first + gfns, end); gfn++) {
			if (test_bit(end - 1 - gfn, clear))
				spte = old_leaf;
		}
		KUNIT_ASSERT_EQ_MSG(test, vm->sptes[i], spte,
				    "gfn %llx, level %d, range [%llx, %llx)",
				    leaves[i].gfn, leaves[i].level, start, end);
	}
}

static void rmap_bitmaps(struct kunit *test)
{
	struct rmap_vm *vm = test->priv;
	struct rmap_leaf *leaves;
	struct rnd_state rnd;
	int round, i, n;

	prandom_seed_state(&rnd, 612);
	leaves = kvm_kvzalloc(test, 1024 * sizeof(*leaves));
	n = rmap_add_leaves(vm, leaves);

	/* A second SPTE in each rmap, which is not old or young with the first. */
	KUNIT_ASSERT_LE(test, 2 * n, RMAP_SPTES);
	for (i = 0; i < n; i++) {
		leaves[n + i] = leaves[i];
		KUNIT_ASSERT_TRUE(test, rmap_add(vm, gfn_to_rmap(leaves[i].gfn, leaves[i].level,
								 vm->slot),
						 &vm->sptes[n + i]));
	}
	n *= 2;

	/* Around an edge, so that something is there. */
	for (round = 0; round < RMAP_BITMAP_ROUNDS; round++) {
		gfn_t edge = rmap_edges[prandom_u32_state(&rnd) % ARRAY_SIZE(rmap_edges)];
		unsigned long pages = 1 + prandom_u32_state(&rnd) % RMAP_BITMAP_PAGES;
		gfn_t start = edge - prandom_u32_state(&rnd) % pages;

		start = max_t(gfn_t, start, RMAP_BASE);
		rmap_check_bitmap(vm, leaves, n, start,
				  min_t(gfn_t, start + pages, RMAP_BASE + RMAP_NPAGES), &rnd);
	}

	for (i = 0; i < n; i++)
		rmap_empty(vm, gfn_to_rmap(leaves[i].gfn, leaves[i].level, vm->slot));
}

#ifdef CONFIG_X86_64
/* Aging does not walk rmaps that do not exist, or that cannot have SPTEs. */
static void rmap_not_needed(struct kunit *test)
{
	struct rmap_vm *vm = test->priv;
	struct kvm_rmap_head *head = gfn_to_rmap(RMAP_BASE, PG_LEVEL_4K, vm->slot);
	struct kvm_memory_slot *slot = vm->slot;
	struct kvm_rmap_head *rmap = slot->arch.rmap[0];
	struct kvm *kvm = vm->kvm;

	vm->sptes[0] = kvm_young_leaf(vm->set);
	KUNIT_ASSERT_TRUE(test, rmap_add(vm, head, &vm->sptes[0]));
	KUNIT_EXPECT_TRUE(test, kvm_age_range(kvm, slot, RMAP_BASE, RMAP_BASE + 1, true));

	/* No nested guest is shadowed now. */
	kvm->arch.indirect_shadow_pages = 0;
	KUNIT_EXPECT_FALSE(test, kvm_age_range(kvm, slot, RMAP_BASE, RMAP_BASE + 1, true));
	/* Without the TDP MMU, aging walks rmaps whatever the count is. */
	kvm_set_tdp_mmu(false);
	KUNIT_EXPECT_TRUE(test, kvm_age_range(kvm, slot, RMAP_BASE, RMAP_BASE + 1, true));
	kvm_set_tdp_mmu(true);
	kvm->arch.indirect_shadow_pages = 1;

	/* A memslot that was replaced before the first nested guest has no rmaps. */
	slot->arch.rmap[0] = NULL;
	KUNIT_EXPECT_FALSE(test, kvm_age_range(kvm, slot, RMAP_BASE, RMAP_BASE + 1, true));
	slot->arch.rmap[0] = rmap;

	kvm->arch.shadow_root_allocated = false;
	KUNIT_EXPECT_FALSE(test, kvm_age_range(kvm, slot, RMAP_BASE, RMAP_BASE + 1, true));

	KUNIT_EXPECT_EQ(test, vm->sptes[0], kvm_young_leaf(vm->set));
	rmap_empty(vm, head);
}
#endif

#define RMAP_RACE_RMAPS		4
#define RMAP_RACE_ROUNDS	2000
/* The number of times that the two threads should meet, and the minimum for the case to pass. */
#define RMAP_RACE_GOOD		5000
#define RMAP_RACE_MIN		20

/* An address bit that tells a reused SPTE. */
#define RMAP_REUSED		BIT_ULL(30)

/* An xchg(), which takes no 64 bits on 32-bit. */
static u64 rmap_zap(u64 *sptep)
{
	u64 spte = mmu_spte_get_lockless(sptep);

	while (!try_cmpxchg64(sptep, &spte, SHADOW_NONPRESENT_VALUE))
		;
	return spte;
}

struct rmap_race {
	struct rmap_vm *vm;
	struct completion started;
	int longest;
	/* Written by the thread. */
	unsigned long rounds;
	unsigned long saw_old;
	bool no_memory;
	struct kvm_property listed;
	struct kvm_property removed;
	/* Written by the case. */
	struct kvm_property kept;
};

/*
 * Add SPTEs to an rmap, and remove them again, one by one or all at once, as KVM does: map, add,
 * zap, remove.  After that, the SPTE's page is used for something else, which is just as young, and
 * must not be touched.
 */
static void rmap_race_one(struct rmap_race *race, struct kvm_rmap_head *head, u64 *sptes,
			  int n, bool detach)
{
	struct rmap_vm *vm = race->vm;
	u64 young = kvm_young_leaf(vm->set);
	u64 old = kvm_leaf_make_old(vm->set, young);
	u64 reused = young | RMAP_REUSED;
	unsigned long wait;
	u64 spte;
	int i;

	for (i = 0; i < n; i++) {
		WRITE_ONCE(sptes[i], young);
		if (!rmap_add(vm, head, &sptes[i])) {
			race->no_memory = true;
			n = i;
			break;
		}
		kvm_race_delay(race->rounds + i);
	}

	/*
	 * With lockdep, locking takes longer than the code above.  Wait, so that the other thread
	 * gets in between.
	 */
	for (wait = race->rounds * 97 % 4096; wait; wait--)
		barrier();

	if (detach)
		pte_list_free(rmap_detach(vm, head));

	for (i = 0; i < n; i++) {
		spte = rmap_zap(&sptes[i]);
		if (spte == old)
			WRITE_ONCE(race->saw_old, race->saw_old + 1);
		else
			kvm_check(&race->listed, young, spte, young);

		if (!detach)
			rmap_remove(vm, head, &sptes[i]);

		WRITE_ONCE(sptes[i], reused);
		kvm_race_delay(race->rounds + i);
		spte = rmap_zap(&sptes[i]);
		kvm_check(&race->removed, reused, spte, reused);
	}
}

static int rmap_race_thread(void *data)
{
	struct rmap_race *race = data;
	struct rmap_vm *vm = race->vm;
	int i;

	complete(&race->started);

	while (!kthread_should_stop()) {
		/* Mostly one or two: the lists that change the form of their head. */
		int n = race->rounds % 16 ? 1 + race->rounds / 2 % 2 : race->longest;

		for (i = 0; i < RMAP_RACE_RMAPS; i++)
			rmap_race_one(race, gfn_to_rmap(RMAP_BASE + i, PG_LEVEL_4K,
							vm->slot),
				      vm->sptes + i * 64, n, race->rounds % 2);

		WRITE_ONCE(race->rounds, race->rounds + 1);
	}

	return 0;
}

static void rmap_race_age(struct rmap_race *race)
{
	struct rmap_vm *vm = race->vm;

	kvm_age_range(vm->kvm, vm->slot, RMAP_BASE, RMAP_BASE + RMAP_RACE_RMAPS, false);
}

/*
 * Walk slowly, for the writer to come in between.  What is in a list that is locked
 * may be zapped meanwhile, but not be used for something else.
 */
static void rmap_race_walk(struct rmap_race *race)
{
	struct rmap_vm *vm = race->vm;
	struct rmap_iterator iter;
	struct rmap_list list;
	unsigned long n;
	u64 *sptep;
	int i;

	for (i = 0; i < RMAP_RACE_RMAPS; i++) {
		struct kvm_rmap_head *head = gfn_to_rmap(RMAP_BASE + i, PG_LEVEL_4K,
							 vm->slot);

		list = kvm_rmap_lock_readonly(head);
		if (!list.val)
			continue;

		for (sptep = rmap_list_first(list, &iter); sptep; sptep = rmap_list_next(&iter)) {
			u64 spte = READ_ONCE(*sptep);
			u64 reused = spte & RMAP_REUSED;

			for (n = 0; n < 200; n++)
				reused |= READ_ONCE(*sptep) & RMAP_REUSED;
			kvm_check(&race->kept, spte, reused, 0);
			/* As aging does, so that the thread can count the meetings. */
			if (is_shadow_present_pte(spte))
				try_cmpxchg64(sptep, &spte,
					      kvm_leaf_make_old(vm->set, spte));
		}
		kvm_rmap_unlock_readonly(head, list);
	}
}

static void rmap_race_run(struct kunit *test, void (*fn)(struct rmap_race *race),
			  int longest, struct kvm_property *kept)
{
	struct rmap_vm *vm = test->priv;
	struct task_struct *task;
	struct rmap_race *race;
	unsigned long round, begin;
	bool over = false;

	race = kunit_kzalloc(test, sizeof(*race), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, race);
	race->vm = vm;
	race->longest = longest;
	race->listed.name = "SPTE of a list is young or old";
	race->removed.name = "SPTE that was removed is not touched";
	init_completion(&race->started);

	task = kvm_race_start(test, rmap_race_thread, race, "kvm_rmap_race");
	wait_for_completion(&race->started);
	begin = jiffies;
	for (round = 0; round < RMAP_RACE_ROUNDS || !over; round++) {
		/*
		 * Meeting often is not enough: the thread does each variant in some of its rounds
		 * only.
		 */
		unsigned long often = READ_ONCE(race->rounds) < RMAP_RACE_ROUNDS ?
				      ULONG_MAX : RMAP_RACE_GOOD;

		fn(race);
		cond_resched();
		over = kvm_race_is_over(begin, READ_ONCE(race->saw_old), often, RMAP_RACE_MIN);
	}
	kthread_stop(task);

	kunit_info(test, "%lu rounds, %lu by the thread, %lu SPTEs aged\n", round,
		   race->rounds, race->saw_old);
	KUNIT_EXPECT_FALSE(test, race->no_memory);
	KUNIT_EXPECT_GE(test, race->rounds, (unsigned long)RMAP_RACE_MIN);
	KUNIT_EXPECT_GE(test, race->saw_old, (unsigned long)RMAP_RACE_MIN);
	kvm_expect(test, &race->listed);
	kvm_expect(test, &race->removed);
	*kept = race->kept;
}

static void rmap_age_beside_writer(struct kunit *test)
{
	struct kvm_property unused;

	rmap_race_run(test, rmap_race_age, RMAP_MANY, &unused);
}

static void rmap_walk_beside_writer(struct kunit *test)
{
	struct kvm_property kept;

	/* Keep lists short: a slow walk of a long list would leave the thread little time. */
	rmap_race_run(test, rmap_race_walk, 2, &kept);
	kept.name = "SPTE of a locked list is not reused";
	kvm_expect(test, &kept);
}

/*
 * The minimum of rounds, how many of them should find the SPTE old, and the minimum of those for
 * the case to pass.  On 32-bit, one in some 15000 rounds shows a write-protection that reads the
 * halves one by one.
 */
#define RMAP_PROTECT_ROUNDS	(IS_ENABLED(CONFIG_X86_32) ? 200000 : 20000)
#define RMAP_PROTECT_GOOD	5000
#define RMAP_PROTECT_MIN	20

/* Age an SPTE, and use its page as the CPU or a fast page fault does, without any delay. */
static int rmap_protect_thread(void *data)
{
	struct rmap_vm *vm = data;
	const struct kvm_mask_set *set = vm->set;
	u64 *sptep = &vm->sptes[0];
	struct kvm_age_stats stats = {};
	unsigned int i;

	while (!kthread_should_stop()) {
		for (i = 0; i < 1000; i++) {
			u64 spte = mmu_spte_get_lockless(sptep);

			if (kvm_leaf_is_young(set, spte))
				age_leaf(sptep, spte, &stats);
			else if (kvm_leaf_has_ad(set, spte))
				try_cmpxchg64(sptep, &spte, spte | kvm_leaf_accessed(set));
			else
				try_cmpxchg64(sptep, &spte, restore_acc_track_spte(spte));
		}
		cond_resched();
	}

	return 0;
}

/*
 * Write-protect a page that is aged and used meanwhile.  Without A/D bits, aging moves R and X from
 * the lower to the upper half of the SPTE.  A write-protection whose new SPTE has the halves of two
 * values leaves R and X in both places, or in none.
 */
static void rmap_write_protect_beside_aging(struct kunit *test)
{
	struct rmap_vm *vm = test->priv;
	struct kvm_rmap_head *head = gfn_to_rmap(RMAP_BASE, PG_LEVEL_4K, vm->slot);
	struct kvm_property whole = { "SPTE with the halves of one value" };
	struct kvm_property protected = { "write-protected" };
	const u64 writable = kvm_young_leaf(vm->set);
	const u64 w = LEAF_W | kvm_leaf_mmu_writable(vm->set);
	unsigned long round, begin, met = 0;
	u64 *sptep = &vm->sptes[0];
	struct task_struct *task;
	u64 spte;

	*sptep = writable;
	KUNIT_ASSERT_TRUE(test, rmap_add(vm, head, sptep));

	task = kvm_race_start(test, rmap_protect_thread, vm, "kvm_rmap_protect");
	begin = jiffies;
	for (round = 0; round < RMAP_PROTECT_ROUNDS ||
	     !kvm_race_is_over(begin, met, RMAP_PROTECT_GOOD, RMAP_PROTECT_MIN); round++) {
		write_lock(&vm->kvm->mmu_lock);
		kvm_mmu_slot_gfn_write_protect(vm->kvm, vm->slot, RMAP_BASE, PG_LEVEL_4K);
		write_unlock(&vm->kvm->mmu_lock);

		spte = mmu_spte_get_lockless(sptep);
		met += !kvm_leaf_is_young(vm->set, spte);
		kvm_check(&whole, spte, kvm_leaf_is_valid(vm->set, spte), true);
		kvm_check(&protected, spte, spte & w, 0);
		if (whole.failed)
			break;

		while (!try_cmpxchg64(sptep, &spte, writable))
			;
		kvm_race_delay(round);
	}
	kthread_stop(task);
	rmap_empty(vm, head);

	kunit_info(test, "%lu rounds, %lu of them found it old\n", round, met);
	KUNIT_EXPECT_GE(test, met, (unsigned long)RMAP_PROTECT_MIN);
	kvm_expect(test, &whole);
	kvm_expect(test, &protected);
}

static struct kunit_case rmap_cases[] = {
	KUNIT_CASE_PARAM(rmap_add_and_remove, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(rmap_detach_all, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(rmap_lock_and_unlock, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(rmap_every_leaf, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(rmap_ranges, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(rmap_bitmaps, kvm_mask_sets_gen_params),
#ifdef CONFIG_X86_64
	KUNIT_CASE_PARAM(rmap_not_needed, kvm_mask_sets_gen_params),
#endif
	KUNIT_CASE_PARAM(rmap_age_beside_writer, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(rmap_walk_beside_writer, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(rmap_write_protect_beside_aging, kvm_mask_sets_gen_params),
	{}
};

static struct kunit_suite rmap_suite = {
	.name = "kvm_rmap",
	.init = rmap_init,
	.test_cases = rmap_cases,
};

kunit_test_suite(rmap_suite);

/* For the module: on 32-bit, this file is all of it. */
MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
MODULE_DESCRIPTION("KUnit suites of the x86 KVM MMU");
MODULE_LICENSE("GPL");
