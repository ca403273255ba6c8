// SPDX-License-Identifier: GPL-2.0-only
/*
 * The counts of write-tracked pages, against arrays of them, and beside readers.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "mmu/write_track.h"
#include "race.h"

/* One block, for write_counts_add(). */
struct block_cache {
	struct kvm_mmu_memory_cache cache;
	void *object;
};

static int fill_cache(struct block_cache *blocks)
{
	if (blocks->cache.nobjs)
		return 0;

	blocks->object = kcalloc(1, sizeof(struct write_block), GFP_KERNEL);
	blocks->cache.objects = &blocks->object;
	blocks->cache.nobjs = !!blocks->object;
	return blocks->object ? 0 : -ENOMEM;
}

static void free_cache(struct block_cache *blocks)
{
	if (blocks->cache.nobjs)
		kfree(blocks->object);
}

/* The counts of one memslot, and what they should be. */
struct counted_slot {
	struct block_cache blocks;
	struct write_counts *counts;
	unsigned long npages;
	u16 *want;
};

static void free_slot(void *data)
{
	struct counted_slot *slot = data;

	write_counts_free(slot->counts);
	free_cache(&slot->blocks);
}

static struct counted_slot *create_slot(struct kunit *test, unsigned long npages)
{
	struct counted_slot *slot = kunit_kzalloc(test, sizeof(*slot), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, slot);
	slot->want = kunit_kcalloc(test, npages, sizeof(*slot->want), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, slot->want);
	slot->npages = npages;

	slot->counts = write_counts_create(npages);
	KUNIT_ASSERT_NOT_NULL(test, slot->counts);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, free_slot, slot), 0);
	return slot;
}

static int add_page(struct kunit *test, struct counted_slot *slot, unsigned long index)
{
	int r;

	KUNIT_ASSERT_EQ(test, fill_cache(&slot->blocks), 0);
	r = write_counts_add(slot->counts, index, &slot->blocks.cache);
	if (!r)
		slot->want[index]++;
	return r;
}

static int remove_page(struct counted_slot *slot, unsigned long index)
{
	int r = write_counts_remove(slot->counts, index);

	if (!r)
		slot->want[index]--;
	return r;
}

/* Check the count of each page, and that blocks exist only for 64 pages with a tracked one. */
static void expect_counts(struct kunit *test, const struct counted_slot *slot)
{
	unsigned long i, nr_blocks = 0, wrong = 0, seen = -1UL;

	for (i = 0; i < slot->npages; i++) {
		wrong += write_counts_test(slot->counts, i) != slot->want[i];
		if (slot->want[i] && i / WRITE_BLOCK_PAGES != seen) {
			seen = i / WRITE_BLOCK_PAGES;
			nr_blocks++;
		}
	}
	KUNIT_EXPECT_EQ(test, wrong, 0);
	KUNIT_EXPECT_EQ(test, slot->counts->nr_blocks, nr_blocks);
}

static void expect_empty(struct kunit *test, struct counted_slot *slot)
{
	KUNIT_EXPECT_EQ(test, slot->counts->nr_blocks, 0);
}

/* Sizes that are, and are not, multiples of a block, or of what a bucket is for. */
static const unsigned long sizes[] = { 1, 2, 63, 64, 65, 128, 200, 8191, 8192, 8193 };

static void size_desc(const unsigned long *npages, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%lu pages", *npages);
}

KUNIT_ARRAY_PARAM(sizes, sizes, size_desc);

/* Around each border of a block, track each page once, twice, and together with each neighbour. */
static void write_track_borders(struct kunit *test)
{
	const unsigned long npages = *(const unsigned long *)test->param_value;
	struct counted_slot *slot = create_slot(test, npages);
	unsigned long border, i, j;

	for (border = 0; border <= npages + WRITE_BLOCK_PAGES; border += WRITE_BLOCK_PAGES) {
		const unsigned long first = border < 2 ? 0 : border - 2;
		const unsigned long last = min(border + 2, npages);

		/* All of them, for small memslots; else some, and the last. */
		if (border > 4 * WRITE_BLOCK_PAGES && border + 2 * WRITE_BLOCK_PAGES < npages)
			continue;

		for (i = first; i < last; i++) {
			for (j = first; j < last; j++) {
				KUNIT_ASSERT_EQ(test, add_page(test, slot, i), 0);
				KUNIT_ASSERT_EQ(test, add_page(test, slot, j), 0);
				expect_counts(test, slot);
				KUNIT_ASSERT_EQ(test, remove_page(slot, i), 0);
				expect_counts(test, slot);
				KUNIT_ASSERT_EQ(test, remove_page(slot, j), 0);
				KUNIT_ASSERT_EQ(test, remove_page(slot, j), -ENOENT);
			}
		}
	}
	expect_counts(test, slot);
	expect_empty(test, slot);
}

/* Adds and removes at random, those that are refused among them. */
static void write_track_random(struct kunit *test)
{
	const unsigned long npages = *(const unsigned long *)test->param_value;
	struct counted_slot *slot = create_slot(test, npages);
	struct rnd_state rnd;
	unsigned long i, n;
	int r;

	prandom_seed_state(&rnd, npages);
	for (n = 0; n < 30000; n++) {
		/* Few pages in many blocks, so that blocks come and go. */
		i = prandom_u32_state(&rnd) % 100 * npages / 100;
		if (prandom_u32_state(&rnd) & 1) {
			bool tracked = slot->want[i];

			r = remove_page(slot, i);
			if (r != (tracked ? 0 : -ENOENT))
				break;
		} else if (add_page(test, slot, i)) {
			break;
		}
		if (write_counts_test(slot->counts, i) != slot->want[i])
			break;
		cond_resched();
	}
	KUNIT_EXPECT_EQ(test, n, 30000);
	expect_counts(test, slot);

	for (i = 0; i < npages; i++) {
		while (slot->want[i])
			KUNIT_ASSERT_EQ(test, remove_page(slot, i), 0);
	}
	expect_counts(test, slot);
	expect_empty(test, slot);
}

/* An add or remove that cannot be counted fails, and changes nothing. */
static void write_track_limits(struct kunit *test)
{
	struct counted_slot *slot = create_slot(test, 200);
	unsigned long n;

	/* Neither a page of no block, nor one of a block that is there. */
	KUNIT_EXPECT_EQ(test, remove_page(slot, 70), -ENOENT);
	KUNIT_ASSERT_EQ(test, add_page(test, slot, 69), 0);
	KUNIT_EXPECT_EQ(test, remove_page(slot, 70), -ENOENT);
	expect_counts(test, slot);

	for (n = 0; n < U16_MAX; n++)
		KUNIT_ASSERT_EQ(test, add_page(test, slot, 70), 0);
	KUNIT_EXPECT_EQ(test, add_page(test, slot, 70), -EOVERFLOW);
	KUNIT_EXPECT_EQ(test, add_page(test, slot, 70), -EOVERFLOW);
	KUNIT_ASSERT_EQ(test, add_page(test, slot, 71), 0);
	expect_counts(test, slot);

	for (n = 0; n < U16_MAX; n++)
		KUNIT_ASSERT_EQ(test, remove_page(slot, 70), 0);
	KUNIT_EXPECT_EQ(test, remove_page(slot, 70), -ENOENT);
	expect_counts(test, slot);

	KUNIT_ASSERT_EQ(test, remove_page(slot, 69), 0);
	KUNIT_ASSERT_EQ(test, remove_page(slot, 71), 0);
	expect_counts(test, slot);
	expect_empty(test, slot);
}

/*
 * The memory is in proportion to the blocks: at most 2 KiB for each block, and none after the last
 * page is untracked.
 */
static void write_track_memory(struct kunit *test)
{
	const unsigned long npages = BIT(27);
	struct write_counts *counts = write_counts_create(npages);
	struct block_cache blocks = {};
	unsigned long empty, i;

	KUNIT_ASSERT_NOT_NULL(test, counts);
	empty = write_counts_bytes(counts);
	KUNIT_EXPECT_GE(test, empty, sizeof(*counts));
	KUNIT_EXPECT_LE(test, empty, (16 << 10) + 64);

	for (i = 0; i < 1000; i++) {
		KUNIT_EXPECT_EQ(test, fill_cache(&blocks), 0);
		KUNIT_EXPECT_EQ(test, write_counts_add(counts, i * (npages / 1000),
						       &blocks.cache), 0);
	}
	KUNIT_EXPECT_GE(test, write_counts_bytes(counts),
			empty + 1000 * sizeof(struct write_block));
	KUNIT_EXPECT_LE(test, write_counts_bytes(counts), empty + 1000 * 2048);

	for (i = 0; i < 1000; i++)
		KUNIT_EXPECT_EQ(test, write_counts_remove(counts, i * (npages / 1000)), 0);
	KUNIT_EXPECT_EQ(test, write_counts_bytes(counts), empty);

	write_counts_free(counts);
	free_cache(&blocks);
}

/*
 * A reader may use a block that a writer unlinks meanwhile.  If the writer freed the block at once,
 * KASAN would report it.
 */
static void write_track_grace_period(struct kunit *test)
{
	struct counted_slot *slot = create_slot(test, 200);
	const u8 *block;
	int i, sum = 0;

	if (!IS_ENABLED(CONFIG_KASAN))
		kunit_skip(test, "nobody would notice without KASAN");

	for (i = 0; i < 1000; i++) {
		KUNIT_ASSERT_EQ(test, add_page(test, slot, 100), 0);

		rcu_read_lock();
		block = write_counts_block(slot->counts, 100);
		if (block && !remove_page(slot, 100))
			sum += READ_ONCE(*block) >= 0;
		rcu_read_unlock();
	}
	KUNIT_EXPECT_EQ(test, sum, 1000);
	expect_empty(test, slot);
}

struct counted_readers {
	struct counted_slot *slot;
	unsigned long rounds, lost, invented;
};

/* Block 0 has a page that is always tracked, and all others have one that never is. */
static int read_counts(void *data)
{
	struct counted_readers *readers = data;
	const struct write_counts *counts = readers->slot->counts;
	unsigned long round = 0;

	while (!kthread_should_stop()) {
		unsigned long block = 1 + round % 8;

		if (!write_counts_test(counts, 5))
			readers->lost++;
		if (write_counts_test(counts, block * WRITE_BLOCK_PAGES + 7))
			readers->invented++;
		/* Pairs with the READ_ONCE() of write_track_readers(). */
		WRITE_ONCE(readers->rounds, ++round);
		cond_resched();
	}
	return 0;
}

/*
 * Beside a reader, blocks of the same bucket come and go.  A block that was published
 * before it was filled would show what was in its memory before.
 */
static void write_track_readers(struct kunit *test)
{
	struct counted_slot *slot = create_slot(test, 9 * WRITE_BLOCK_PAGES);
	struct counted_readers readers = { slot };
	unsigned long begin, n = 0, i;
	struct task_struct *reader;
	int failed = 0;

	KUNIT_ASSERT_EQ(test, add_page(test, slot, 5), 0);
	reader = kvm_race_start(test, read_counts, &readers, "kvm_write_track");

	begin = jiffies;
	while (!failed && !kvm_race_is_over(begin, READ_ONCE(readers.rounds), 200000, 10000)) {
		for (i = 1; i <= 8 && !failed; i++) {
			failed = fill_cache(&slot->blocks) ?:
				 write_counts_add(slot->counts, i * WRITE_BLOCK_PAGES + n % 7,
						  &slot->blocks.cache);
			kvm_race_delay(n + i);
		}
		while (--i)
			failed |= write_counts_remove(slot->counts, i * WRITE_BLOCK_PAGES + n % 7);
		n++;
	}
	kthread_stop(reader);

	KUNIT_EXPECT_EQ(test, failed, 0);
	KUNIT_EXPECT_EQ(test, readers.lost, 0);
	KUNIT_EXPECT_EQ(test, readers.invented, 0);
	KUNIT_EXPECT_GT(test, readers.rounds, 0);
	kunit_info(test, "%lu rounds of adding and removing, %lu of reading\n", n, readers.rounds);

	KUNIT_EXPECT_EQ(test, remove_page(slot, 5), 0);
	expect_counts(test, slot);
	expect_empty(test, slot);
}

static struct kunit_case write_track_cases[] = {
	KUNIT_CASE_PARAM(write_track_borders, sizes_gen_params),
	KUNIT_CASE_PARAM(write_track_random, sizes_gen_params),
	KUNIT_CASE(write_track_limits),
	KUNIT_CASE(write_track_memory),
	KUNIT_CASE(write_track_grace_period),
	KUNIT_CASE_SLOW(write_track_readers),
	{}
};

static struct kunit_suite write_track_suite = {
	.name = "kvm_write_track",
	.test_cases = write_track_cases,
};

kunit_test_suite(write_track_suite);
