// SPDX-License-Identifier: GPL-2.0-only
/*
 * What clearing the dirty log does to each kind of SPTE, and to one that has become
 * another one meanwhile; who gets mmu_lock in between, and what it counts for those who wait.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/prandom.h>

#include "mmu/dirty_log.h"
#include "mmu/fast_page_fault.h"
#include "age_vm.h"
#include "race.h"

KUNIT_ARRAY_PARAM_DESC(kvm_mask_sets, kvm_mask_sets, name);

/* For cases that are about the lock, and not about SPTEs. */
static const void *one_mask_set_gen_params(const void *prev, char *desc)
{
	return prev ? NULL : kvm_mask_sets_gen_params(NULL, desc);
}

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

/* The memslot: it begins and ends within a page table and a word, and crosses an SPTE of 1 GiB. */
#define BASE_GFN	(3 * GFNS_1G - 2 * GFNS_2M + 37)
#define NPAGES		1800
#define FIRST_BLOCK	(BASE_GFN & ~(GFNS_2M - 1))
#define NR_BLOCKS	4
#define ROUNDS		12

static void restore_log_size(void *size)
{
	kvm_x86_ops.cpu_dirty_log_size = (long)size;
}

/* As if the host had no PML, until the case sets it.  It is put back after the case. */
static void set_no_pml(struct kunit *test)
{
	void *size = (void *)(long)kvm_x86_ops.cpu_dirty_log_size;

	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, restore_log_size, size), 0);
	kvm_x86_ops.cpu_dirty_log_size = 0;
}

/* Anything that may be in the tables, which stay as they are if a huge page takes their place. */
static void fill(struct age_vm *vm, u64 (*links)[NR_BLOCKS], struct rnd_state *rnd)
{
	int root, block, i;

	for (root = 0; root < vm->nr_roots; root++) {
		for (block = 0; block < NR_BLOCKS; block++) {
			gfn_t gfn = FIRST_BLOCK + block * GFNS_2M;
			struct age_table *table = age_table(vm, &vm->roots[root], gfn, PG_LEVEL_4K);
			u32 r = prandom_u32_state(rnd);
			u64 spte = links[root][block];

			if (r % 8 == 0)
				spte = SHADOW_NONPRESENT_VALUE;
			else if (r % 8 == 1)
				spte = FROZEN_SPTE;
			else if (r % 8 == 2)
				spte = age_make_leaf(vm->leaves[(r >> 4) % vm->nr_leaves], gfn,
						     PG_LEVEL_2M);
			age_set(vm, &vm->roots[root], gfn, PG_LEVEL_2M, spte);

			for (i = 0; i < AGE_ENTRIES; i++) {
				r = prandom_u32_state(rnd);
				if (r % 16 == 0)
					spte = r & 16 ? FROZEN_SPTE : SHADOW_NONPRESENT_VALUE;
				else if (r % 16 == 1)
					spte = age_mmio_spte(gfn + i);
				else
					spte = age_make_leaf(vm->leaves[(r >> 4) % vm->nr_leaves],
							     gfn + i, PG_LEVEL_4K);
				age_set_entry(table, i, spte);
			}
		}
	}
}

/* What a clear makes of the SPTE of @gfn in each root that it is to visit. */
static void expect_cleared(struct age_vm *vm, u64 (*links)[NR_BLOCKS], gfn_t gfn, bool wrprot)
{
	int block = (gfn - FIRST_BLOCK) / GFNS_2M;
	int root;

	for (root = 0; root < vm->nr_roots; root++) {
		struct age_table *table;
		bool huge;
		u64 *spte;

		if (vm->roots[root].as_id || vm->roots[root].invalid)
			continue;

		table = age_table(vm, &vm->roots[root], gfn, PG_LEVEL_2M);
		spte = &table->expected[age_index(table, gfn)];
		huge = *spte != links[root][block];
		if (!huge) {
			table = age_table(vm, &vm->roots[root], gfn, PG_LEVEL_4K);
			spte = &table->expected[age_index(table, gfn)];
		}
		if (*spte & LEAF_PRESENT)
			*spte &= ~logged_bit(vm->set, *spte, wrprot || huge);
	}
}

static void fill_bitmap(unsigned long *bitmap, struct rnd_state *rnd)
{
	unsigned int kind = prandom_u32_state(rnd) % 4, i;

	for (i = 0; i < BITS_TO_LONGS(NPAGES); i++) {
		switch (kind) {
		case 0:
			bitmap[i] = ~0ul;
			break;
		case 1:
			bitmap[i] = BIT(prandom_u32_state(rnd) % BITS_PER_LONG);
			break;
		case 2:
			bitmap[i] = prandom_u32_state(rnd) % 8 ? 0 : 1;
			break;
		default:
			prandom_bytes_state(rnd, &bitmap[i], sizeof(bitmap[i]));
		}
	}
}

/* Ranges of any geometry, against a reference that goes page by page. */
static void dirty_log_ranges(struct kunit *test)
{
	u64 (*links)[NR_BLOCKS] = kunit_kcalloc(test, AGE_MAX_ROOTS, sizeof(*links), GFP_KERNEL);
	unsigned long *bitmap = kunit_kcalloc(test, BITS_TO_LONGS(NPAGES), sizeof(long),
					      GFP_KERNEL);
	struct age_vm *vm = test->priv;
	struct kvm_memory_slot *slot = vm->slots[0];
	unsigned long offset, npages, bit;
	struct rnd_state rnd;
	int root, block, i;
	bool wrprot;

	KUNIT_ASSERT_NOT_NULL(test, links);
	KUNIT_ASSERT_NOT_NULL(test, bitmap);
	set_no_pml(test);

	prandom_seed_state(&rnd, 18);
	slot->base_gfn = BASE_GFN;
	slot->npages = NPAGES;
	age_add_root(vm, 4, 0, false);
	age_add_root(vm, 5, 0, false);
	age_add_root(vm, 4, 1, false);
	age_add_root(vm, 4, 0, true);
	for (root = 0; root < vm->nr_roots; root++) {
		for (block = 0; block < NR_BLOCKS; block++) {
			gfn_t gfn = FIRST_BLOCK + block * GFNS_2M;
			struct age_table *table;

			age_table(vm, &vm->roots[root], gfn, PG_LEVEL_4K);
			table = age_table(vm, &vm->roots[root], gfn, PG_LEVEL_2M);
			links[root][block] = table->expected[age_index(table, gfn)];
		}
	}

	mutex_init(&vm->kvm->slots_lock);
	for (i = 0; i < ROUNDS; i++) {
		wrprot = i & 1;
		kvm_x86_ops.cpu_dirty_log_size = wrprot ? 0 : 512;

		fill(vm, links, &rnd);
		fill_bitmap(bitmap, &rnd);
		/* Bits from @npages on may be set: nobody may look at them. */
		offset = prandom_u32_state(&rnd) % NPAGES;
		npages = prandom_u32_state(&rnd) % (NPAGES - offset) + 1;
		for_each_set_bit(bit, bitmap, npages)
			expect_cleared(vm, links, BASE_GFN + offset + bit, wrprot);

		mutex_lock(&vm->kvm->slots_lock);
		kvm_arch_mmu_enable_log_dirty_range(vm->kvm, slot, offset, npages, bitmap);
		mutex_unlock(&vm->kvm->slots_lock);
		age_compare(vm);
	}
}

/* A thread that wants mmu_lock for write, and looks how far the clear is when it gets it. */
struct waiter {
	struct kvm *kvm;
	u64 *first;
	u64 *last;
	/* How often the first SPTE was cleared, and the last was not. */
	unsigned long met;
};

static int wait_for_lock(void *data)
{
	struct waiter *waiter = data;

	while (!kthread_should_stop()) {
		write_lock(&waiter->kvm->mmu_lock);
		if (!(READ_ONCE(*waiter->first) & LEAF_W) && (READ_ONCE(*waiter->last) & LEAF_W))
			waiter->met++;
		write_unlock(&waiter->kvm->mmu_lock);
		cond_resched();
	}

	return 0;
}

/* A clear lets a waiting task have mmu_lock, between two page tables. */
static void dirty_log_gives_way(struct kunit *test)
{
	unsigned long *bitmap = kunit_kcalloc(test, BITS_TO_LONGS(NPAGES), sizeof(long),
					      GFP_KERNEL);
	struct age_vm *vm = test->priv;
	struct kvm_memory_slot *slot = vm->slots[0];
	struct waiter waiter = { .kvm = vm->kvm };
	unsigned long begin = jiffies;
	struct task_struct *task;
	struct age_root *root;
	gfn_t gfn;

	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		kunit_skip(test, "a clear does not see who waits for the lock");

	KUNIT_ASSERT_NOT_NULL(test, bitmap);
	set_no_pml(test);

	slot->base_gfn = BASE_GFN;
	slot->npages = NPAGES;
	bitmap_set(bitmap, 0, NPAGES);
	root = age_add_root(vm, 4, 0, false);
	for (gfn = BASE_GFN; gfn < BASE_GFN + NPAGES; gfn++)
		age_set_young(vm, root, gfn, PG_LEVEL_4K);
	waiter.first = age_set_young(vm, root, BASE_GFN, PG_LEVEL_4K);
	waiter.last = age_set_young(vm, root, BASE_GFN + NPAGES - 1, PG_LEVEL_4K);
	KUNIT_ASSERT_NE(test, *waiter.first & LEAF_W, 0ull);

	mutex_init(&vm->kvm->slots_lock);
	task = kvm_race_start(test, wait_for_lock, &waiter, "dirty_log_waiter");
	do {
		mutex_lock(&vm->kvm->slots_lock);
		kvm_arch_mmu_enable_log_dirty_range(vm->kvm, slot, 0, NPAGES, bitmap);
		write_lock(&vm->kvm->mmu_lock);
		for (gfn = BASE_GFN; gfn < BASE_GFN + NPAGES; gfn++)
			age_set_young(vm, root, gfn, PG_LEVEL_4K);
		write_unlock(&vm->kvm->mmu_lock);
		mutex_unlock(&vm->kvm->slots_lock);
		cond_resched();
	} while (!kvm_race_is_over(begin, READ_ONCE(waiter.met), 10, 1));
	kthread_stop(task);

	KUNIT_EXPECT_GE(test, waiter.met, 1ul);
}

struct fault {
	struct kvm *kvm;
	bool write;
	/* The thread begins when this is set. */
	bool begin;
};

static int fault_takes_lock(void *data)
{
	struct fault *fault = data;

	while (!READ_ONCE(fault->begin) && !kthread_should_stop())
		schedule_timeout_interruptible(1);

	if (fault->write) {
		kvm_fault_write_lock(fault->kvm);
		write_unlock(&fault->kvm->mmu_lock);
	} else {
		kvm_fault_read_lock(fault->kvm);
		read_unlock(&fault->kvm->mmu_lock);
	}

	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

/* The time that a page fault waits for mmu_lock is counted. */
static void dirty_log_fault_waits(struct kunit *test)
{
	struct age_vm *vm = test->priv;
	struct fault fault = { .kvm = vm->kvm };
	unsigned long end = jiffies + 20 * HZ;
	struct task_struct *task;
	u64 waited, begin;
	int i;

	if (IS_ENABLED(CONFIG_PREEMPT_RT) || num_online_cpus() < 2)
		kunit_skip(test, "needs a lock that spins, and two CPUs");

	for (i = 0; i < 2; i++) {
		fault.write = i;
		fault.begin = false;
		waited = kvm_fault_waited_ns();
		task = kvm_race_start(test, fault_takes_lock, &fault, "dirty_log_fault");

		write_lock(&vm->kvm->mmu_lock);
		WRITE_ONCE(fault.begin, true);
		while (!rwlock_is_contended(&vm->kvm->mmu_lock) && time_before(jiffies, end))
			cpu_relax();
		/* By the clock: mdelay() may be shorter. */
		begin = ktime_get_ns();
		while (ktime_get_ns() - begin < 2 * NSEC_PER_MSEC)
			cpu_relax();
		write_unlock(&vm->kvm->mmu_lock);

		kthread_stop(task);
		KUNIT_EXPECT_GE(test, kvm_fault_waited_ns() - waited, 2ull * NSEC_PER_MSEC);
	}
}

static struct kunit_case dirty_log_cases[] = {
	KUNIT_CASE_PARAM(dirty_log_leaves, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(dirty_log_no_leaf, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(dirty_log_ranges, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(dirty_log_gives_way, one_mask_set_gen_params),
	KUNIT_CASE_PARAM(dirty_log_fault_waits, one_mask_set_gen_params),
	{}
};

static struct kunit_suite dirty_log_suite = {
	.name = "kvm_dirty_log",
	.init = age_init,
	.test_cases = dirty_log_cases,
};

kunit_test_suite(dirty_log_suite);
