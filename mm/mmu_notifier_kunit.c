// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bitmap of mmu_notifier_test_clear_young(), with several notifiers on one mm.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <kunit/test.h>

#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mmu_notifier.h>
#include <linux/prandom.h>
#include <linux/sched.h>

/* Three windows of which notifiers are asked at once, and a bit. */
#define PAGES	(3 * MMU_NOTIFIER_YOUNG_PAGES + 77)
#define BASE	0x10000000ul

/* A secondary MMU that knows of each page whether it is young. */
struct young_mmu {
	struct mmu_notifier mn;
	DECLARE_BITMAP(young, PAGES);
	DECLARE_BITMAP(expected, PAGES);
	unsigned long calls;
	bool too_many;
};

static struct young_mmu *to_young_mmu(struct mmu_notifier *mn)
{
	return container_of(mn, struct young_mmu, mn);
}

static void young_test_clear(struct mmu_notifier *mn, struct mm_struct *mm,
			     unsigned long start, unsigned long end,
			     const unsigned long *clear, unsigned long *young)
{
	struct young_mmu *mmu = to_young_mmu(mn);
	unsigned long addr;

	mmu->calls++;
	if ((end - start) / PAGE_SIZE > MMU_NOTIFIER_YOUNG_PAGES)
		mmu->too_many = true;

	for (addr = start; addr < end; addr += PAGE_SIZE) {
		unsigned long bit = (end - addr) / PAGE_SIZE - 1;
		unsigned long page = (addr - BASE) / PAGE_SIZE;

		if (!test_bit(page, mmu->young))
			continue;
		__set_bit(bit, young);
		if (test_bit(bit, clear))
			__clear_bit(page, mmu->young);
	}
}

static int young_clear(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long start,
		       unsigned long end)
{
	struct young_mmu *mmu = to_young_mmu(mn);
	unsigned long first = (start - BASE) / PAGE_SIZE, last = (end - BASE) / PAGE_SIZE;
	bool young = find_next_bit(mmu->young, last, first) < last;

	mmu->calls++;
	bitmap_clear(mmu->young, first, last - first);
	return young;
}

static const struct mmu_notifier_ops with_bitmap = {
	.clear_young		= young_clear,
	.test_clear_young	= young_test_clear,
};

static const struct mmu_notifier_ops without_bitmap = {
	.clear_young		= young_clear,
};

/* Has nothing to say about young pages, as the notifiers of most drivers. */
static const struct mmu_notifier_ops without_young = {};

static void young_unregister(void *data)
{
	struct young_mmu *mmu = data;

	mmu_notifier_unregister(&mmu->mn, mmu->mn.mm);
}

static struct young_mmu *young_register(struct kunit *test, const struct mmu_notifier_ops *ops)
{
	struct young_mmu *mmu = kunit_kzalloc(test, sizeof(*mmu), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mmu);
	mmu->mn.ops = ops;
	KUNIT_ASSERT_EQ(test, mmu_notifier_register(&mmu->mn, current->mm), 0);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, young_unregister, mmu), 0);
	return mmu;
}

static void young_random_bitmap(unsigned long *bitmap, struct rnd_state *rnd)
{
	u32 one_in = 1 << (prandom_u32_state(rnd) % 6);
	int i;

	bitmap_zero(bitmap, PAGES);
	for (i = 0; i < PAGES; i++) {
		if (prandom_u32_state(rnd) % one_in == 0)
			__set_bit(i, bitmap);
	}
}

/* All that the two bitmaps of one call may be, and what must have become of them. */
static void young_random(struct kunit *test)
{
	struct young_mmu *mmus[3];
	unsigned long *bitmap, *before;
	struct rnd_state rnd;
	int round, i, m;

	mmus[0] = young_register(test, &with_bitmap);
	mmus[1] = young_register(test, &without_bitmap);
	mmus[2] = young_register(test, &with_bitmap);
	young_register(test, &without_young);

	bitmap = kunit_kzalloc(test, BITS_TO_LONGS(PAGES) * sizeof(long), GFP_KERNEL);
	before = kunit_kzalloc(test, BITS_TO_LONGS(PAGES) * sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_TRUE(test, bitmap && before);
	prandom_seed_state(&rnd, 612);

	for (round = 0; round < 200; round++) {
		unsigned int first = prandom_u32_state(&rnd) % PAGES;
		unsigned int npages = 1 + prandom_u32_state(&rnd) % (PAGES - first);
		unsigned long start = BASE + first * PAGE_SIZE;
		unsigned long end = start + npages * PAGE_SIZE;
		bool fallback = prandom_u32_state(&rnd) & 1;
		int want = 0, got;

		young_random_bitmap(bitmap, &rnd);
		bitmap_copy(before, bitmap, PAGES);
		for (m = 0; m < 3; m++) {
			young_random_bitmap(mmus[m]->young, &rnd);
			bitmap_copy(mmus[m]->expected, mmus[m]->young, PAGES);
			mmus[m]->calls = 0;
		}

		got = mmu_notifier_test_clear_young(current->mm, start, end, fallback, bitmap);

		/* Page by page, with the last page's bit first. */
		for (i = 0; i < PAGES; i++) {
			unsigned int page = first + npages - 1 - i;
			bool flipped = test_bit(i, bitmap) != test_bit(i, before);
			bool young = false;

			if (i >= npages) {
				KUNIT_ASSERT_FALSE_MSG(test, flipped, "bit %d of %u", i, npages);
				continue;
			}

			for (m = 0; m < 3; m += 2) {
				young |= test_bit(page, mmus[m]->expected);
				if (test_bit(i, before))
					__clear_bit(page, mmus[m]->expected);
			}
			KUNIT_ASSERT_EQ_MSG(test, flipped, young, "bit %d of %u", i, npages);

			if (fallback && test_bit(page, mmus[1]->expected)) {
				want = 1;
				__clear_bit(page, mmus[1]->expected);
			}
		}

		KUNIT_ASSERT_EQ(test, got, want);
		KUNIT_ASSERT_EQ(test, mmus[1]->calls, (unsigned long)fallback);
		for (m = 0; m < 3; m++) {
			KUNIT_ASSERT_TRUE_MSG(test, bitmap_equal(mmus[m]->young,
								 mmus[m]->expected, PAGES),
					      "notifier %d", m);
			KUNIT_ASSERT_FALSE(test, mmus[m]->too_many);
		}
	}
}

/* 0 to test and 1 to test and clear, one page at a time. */
static void young_flip(struct kunit *test)
{
	struct young_mmu *mmu = young_register(test, &with_bitmap);
	int young, clear;

	for (young = 0; young <= 1; young++) {
		for (clear = 0; clear <= 1; clear++) {
			unsigned long bitmap = clear;

			bitmap_zero(mmu->young, PAGES);
			if (young)
				__set_bit(5, mmu->young);
			KUNIT_EXPECT_EQ(test, mmu_notifier_test_clear_young(
					current->mm, BASE + 5 * PAGE_SIZE, BASE + 6 * PAGE_SIZE,
					true, &bitmap), 0);
			KUNIT_EXPECT_EQ(test, bitmap, (unsigned long)(clear ^ young));
			KUNIT_EXPECT_EQ(test, test_bit(5, mmu->young), young && !clear);
		}
	}
}

static void young_can(struct kunit *test)
{
	unsigned long bitmap = 1;

	/* Nobody to ask. */
	KUNIT_EXPECT_TRUE(test, mmu_notifier_can_test_clear_young(current->mm));
	KUNIT_EXPECT_EQ(test, mmu_notifier_test_clear_young(current->mm, BASE, BASE + PAGE_SIZE,
							    true, &bitmap), 0);
	KUNIT_EXPECT_EQ(test, bitmap, 1ul);

	young_register(test, &with_bitmap);
	young_register(test, &without_young);
	KUNIT_EXPECT_TRUE(test, mmu_notifier_can_test_clear_young(current->mm));
	young_register(test, &without_bitmap);
	KUNIT_EXPECT_FALSE(test, mmu_notifier_can_test_clear_young(current->mm));
}

static int young_init(struct kunit *test)
{
	/* For an mm, as the thread has none. */
	return kunit_vm_mmap(test, NULL, 0, PAGE_SIZE, PROT_READ, MAP_ANONYMOUS | MAP_PRIVATE, 0) ?
	       0 : -ENOMEM;
}

static struct kunit_case young_cases[] = {
	KUNIT_CASE(young_can),
	KUNIT_CASE(young_flip),
	KUNIT_CASE(young_random),
	{}
};

static struct kunit_suite young_suite = {
	.name = "mmu_notifier_young",
	.init = young_init,
	.test_cases = young_cases,
};

kunit_test_suite(young_suite);

MODULE_DESCRIPTION("KUnit suite of the MMU notifiers for young pages");
MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
MODULE_LICENSE("GPL");
