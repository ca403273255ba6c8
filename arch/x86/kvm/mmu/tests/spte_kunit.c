// SPDX-License-Identifier: GPL-2.0-only
/*
 * What must be true of every leaf SPTE that is aged, restored, write-protected
 * or split: properties over all combinations of the bits that matter, for each
 * of the formats that an SPTE may have.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/types.h>

#include "mmu/age.h"
#include "masks.h"

KUNIT_ARRAY_PARAM_DESC(kvm_mask_sets, kvm_mask_sets, name);

struct spte_field {
	const char *name;
	u64 mask;
};

static void spte_masks_are_disjoint(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	const struct spte_field fields[] = {
		{ "MMU-present", SPTE_MMU_PRESENT_MASK },
		{ "A/D type", SPTE_TDP_AD_MASK },
		{ "saved R/X", SHADOW_ACC_TRACK_SAVED_BITS_MASK <<
			       SHADOW_ACC_TRACK_SAVED_BITS_SHIFT },
		{ "Host-writable", shadow_host_writable_mask },
		{ "MMU-writable", shadow_mmu_writable_mask },
		{ "Accessed", set->ept ? EPT_A : NPT_A },
		{ "Dirty", set->ept ? EPT_D : NPT_D },
		{ "RWX, or Present, Writable and User", LEAF_RWX },
		{ "address", LEAF_ADDR },
		{ "page size", LEAF_PSE },
		/* NPT: PWT and PCD; bit 8, Global, is unused but not free. */
		{ "memory type", set->ept ? EPT_MT | EPT_IPAT :
					    GENMASK_ULL(4, 3) | BIT_ULL(8) },
		{ "suppress #VE, or NX", BIT_ULL(63) },
	};
	int i, j;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		KUNIT_EXPECT_NE_MSG(test, fields[i].mask, 0ull, "%s", fields[i].name);
		for (j = 0; j < i; j++)
			KUNIT_EXPECT_EQ_MSG(test, fields[i].mask & fields[j].mask, 0ull,
					    "%s and %s", fields[i].name, fields[j].name);
	}
}

static void spte_is_accessed_and_dirty(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property accessed = { "accessed" };
	struct kvm_property dirty = { "dirty" };
	u64 spte = 0;

	while (kvm_next_leaf(set, &spte)) {
		kvm_check(&accessed, spte, is_accessed_spte(spte),
			  kvm_leaf_is_young(set, spte));
		kvm_check(&dirty, spte, is_dirty_spte(spte),
			  kvm_leaf_is_dirty(set, spte));
	}

	kvm_expect(test, &accessed);
	kvm_expect(test, &dirty);
}

static void spte_age(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	const u64 kept = LEAF_PRESENT | LEAF_PSE | LEAF_ADDR | BIT_ULL(63) |
			 kvm_leaf_host_writable(set) | kvm_leaf_mmu_writable(set);
	struct kvm_property exact = { "old form" };
	struct kvm_property accessed = { "not accessed" };
	struct kvm_property bits = { "bits that aging does not change" };
	struct kvm_property dirty = { "dirty iff it was" };
	struct kvm_property dirty_bit = { "Dirty with A/D bits" };
	struct kvm_property writable = { "not writable without A/D bits" };
	struct kvm_property twice = { "aged twice" };
	u64 spte = 0, old;

	while (kvm_next_leaf(set, &spte)) {
		old = age_spte(spte);

		kvm_check(&exact, spte, old, kvm_leaf_make_old(set, spte));
		kvm_check(&accessed, spte, is_accessed_spte(old), false);
		kvm_check(&bits, spte, old & kept, spte & kept);
		kvm_check(&dirty, spte, is_dirty_spte(old), is_dirty_spte(spte));
		kvm_check(&twice, spte, age_spte(old), old);

		if (kvm_leaf_has_ad(set, spte))
			kvm_check(&dirty_bit, spte, old & kvm_leaf_dirty(set),
				  spte & kvm_leaf_dirty(set));
		else
			kvm_check(&writable, spte, old & LEAF_RWX, 0);
	}

	kvm_expect(test, &exact);
	kvm_expect(test, &accessed);
	kvm_expect(test, &bits);
	kvm_expect(test, &dirty);
	kvm_expect(test, &twice);
	if (set->ad)
		kvm_expect(test, &dirty_bit);
	if (set->ept)
		kvm_expect(test, &writable);
}

/* What a leaf without A/D bits may be used for, old or not. */
static u64 spte_rx(u64 spte)
{
	u64 rx = spte & (LEAF_R | LEAF_X);

	if (spte & EPT_SAVED_R)
		rx |= LEAF_R;
	if (spte & EPT_SAVED_X)
		rx |= LEAF_X;
	return rx;
}

/*
 * A read fault, then a write fault, on an old leaf.  W does not come back by
 * itself: the SPTE may have been write-protected since W was taken away.
 */
static void spte_restore(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property exact = { "restored" };
	struct kvm_property writable = { "restored without W" };
	struct kvm_property dirty = { "restored and dirty iff it was" };
	struct kvm_property saved = { "nothing left of the saved R and X" };
	struct kvm_property written = { "written, then aged" };
	struct kvm_property written_dirty = { "written, then aged, and dirty" };
	u64 spte = 0, new, old;

	while (kvm_next_leaf(set, &spte)) {
		if (kvm_leaf_has_ad(set, spte))
			continue;

		old = age_spte(spte);
		new = restore_acc_track_spte(old);

		kvm_check(&exact, spte, new,
			  (spte & ~(LEAF_RWX | EPT_SAVED_R | EPT_SAVED_X)) | spte_rx(spte));
		kvm_check(&writable, spte, new & LEAF_W, 0);
		kvm_check(&dirty, spte, is_dirty_spte(new), is_dirty_spte(spte));
		kvm_check(&saved, spte, new & (EPT_SAVED_R | EPT_SAVED_X), 0);

		/* Restored and aged over and over, without a write. */
		kvm_check(&exact, spte, age_spte(new), old);

		if (!(spte & EPT_MMU_WRITABLE) || !(new & LEAF_R))
			continue;

		new |= LEAF_W;
		kvm_check(&written, spte, age_spte(new), old);
		kvm_check(&written_dirty, spte, is_dirty_spte(age_spte(new)), true);
	}

	/* NPT has no leaf without A/D bits. */
	if (!set->ept)
		return;

	kvm_expect(test, &exact);
	kvm_expect(test, &writable);
	kvm_expect(test, &dirty);
	kvm_expect(test, &saved);
	kvm_expect(test, &written);
	kvm_expect(test, &written_dirty);
}

/*
 * Without A/D bits, MMU-writable says that the page is dirty.  A clear of the dirty log clears W,
 * and keeps MMU-writable.  KVM marks the page dirty when it clears MMU-writable, even if aging has
 * cleared W before.
 */
static void spte_write_protect(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property logged = { "write-protected for the dirty log" };
	struct kvm_property shadowed = { "write-protected for shadow paging" };
	struct kvm_property old = { "write-protected while old" };
	struct kvm_property fault = { "old, then read" };
	u64 spte = 0, new;

	while (kvm_next_leaf(set, &spte)) {
		if (kvm_leaf_has_ad(set, spte) || !(spte & LEAF_W))
			continue;

		kvm_check(&logged, spte, is_dirty_spte(spte & ~LEAF_W), true);

		new = spte & ~(LEAF_W | EPT_MMU_WRITABLE);
		kvm_check(&shadowed, spte, is_dirty_spte(spte) && !is_dirty_spte(new), true);

		new = age_spte(spte);
		kvm_check(&old, spte, is_dirty_spte(new) &&
			  !is_dirty_spte(new & ~EPT_MMU_WRITABLE), true);

		new = restore_acc_track_spte(new);
		kvm_check(&fault, spte, is_dirty_spte(new) && !(new & LEAF_W), true);
	}

	if (!set->ept)
		return;

	kvm_expect(test, &logged);
	kvm_expect(test, &shadowed);
	kvm_expect(test, &old);
	kvm_expect(test, &fault);
}

static void spte_is_volatile(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property predicate = { "volatile" };
	u64 spte = 0;

	while (kvm_next_leaf(set, &spte)) {
		bool want = true;

		if (kvm_leaf_has_ad(set, spte))
			want = !(spte & kvm_leaf_accessed(set)) ||
			       ((spte & LEAF_W) ? !(spte & kvm_leaf_dirty(set)) :
						  !!(spte & kvm_leaf_mmu_writable(set)));

		kvm_check(&predicate, spte, spte_has_volatile_bits(spte), want);
	}

	kvm_expect(test, &predicate);
}

/*
 * All that a leaf may turn into in one step while another task holds mmu_lock for write: it is
 * aged, read for the working set, faulted in by the fast page fault handler, or used by the CPU.
 * Returns how many values were written to @changed.
 */
static int spte_changes(const struct kvm_mask_set *set, u64 spte, u64 *changed)
{
	u64 restored = spte;
	int nr = 0;

	if (kvm_leaf_is_young(set, spte))
		changed[nr++] = kvm_leaf_make_old(set, spte);
	if (kvm_leaf_make_read(set, spte) != spte)
		changed[nr++] = kvm_leaf_make_read(set, spte);

	if (!kvm_leaf_has_ad(set, spte)) {
		if (!(spte & LEAF_RWX)) {
			restored &= ~(EPT_SAVED_R | EPT_SAVED_X);
			restored |= spte_rx(spte);
			changed[nr++] = restored;
		}
	} else if (spte & LEAF_RWX) {
		changed[nr++] = spte | kvm_leaf_accessed(set);
		if (spte & LEAF_W)
			changed[nr++] = spte | kvm_leaf_accessed(set) |
					kvm_leaf_dirty(set);
	}

	if (spte & kvm_leaf_mmu_writable(set))
		changed[nr++] = restored | LEAF_W;

	return nr;
}

/*
 * An SPTE that is not volatile is overwritten without looking at what it has become.  The overwrite
 * may only lose that aging, or the reader of the working set, made the page old.
 */
static void spte_changes_are_volatile(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property changes = { "change of a non-volatile SPTE" };
	unsigned long aged = 0, nr_volatile = 0;
	u64 changed[5];
	u64 spte = 0;
	int i, nr;

	while (kvm_next_leaf(set, &spte)) {
		if (spte_has_volatile_bits(spte)) {
			nr_volatile++;
			continue;
		}

		nr = spte_changes(set, spte, changed);
		for (i = 0; i < nr; i++) {
			if (changed[i] == kvm_leaf_make_old(set, spte) ||
			    changed[i] == kvm_leaf_make_read(set, spte)) {
				aged++;
				changed[i] = spte;
			}
			kvm_check(&changes, spte, changed[i], spte);
		}
	}

	KUNIT_EXPECT_NE(test, nr_volatile, 0ul);
	if (!set->ad) {
		KUNIT_EXPECT_EQ(test, changes.checked, 0ul);
		return;
	}

	KUNIT_EXPECT_NE(test, aged, 0ul);
	kvm_expect(test, &changes);
}

/*
 * Why Accessed is not cleared with an atomic AND: a frozen SPTE has the bit set,
 * for NPT and for EPT, and without it is neither frozen nor anything else that
 * its owner would know.
 */
static void spte_frozen(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	const u64 spte = FROZEN_SPTE;
	int level;

	KUNIT_EXPECT_TRUE(test, is_frozen_spte(spte));
	KUNIT_EXPECT_FALSE(test, is_shadow_present_pte(spte));
	KUNIT_EXPECT_FALSE(test, is_frozen_spte(SHADOW_NONPRESENT_VALUE));
	KUNIT_EXPECT_EQ(test, spte & LEAF_RWX, 0ull);

	/* FROZEN_SPTE passes for a leaf: check that an SPTE is present before is_last_spte(). */
	for (level = PG_LEVEL_4K; level <= PG_LEVEL_512G; level++)
		KUNIT_EXPECT_TRUE(test, is_last_spte(spte, level));

	KUNIT_EXPECT_EQ(test, spte & (NPT_A | EPT_A), NPT_A | EPT_A);
	KUNIT_EXPECT_FALSE(test, is_frozen_spte(spte & ~kvm_leaf_accessed(set)));
	KUNIT_EXPECT_FALSE(test, is_shadow_present_pte(spte & ~kvm_leaf_accessed(set)));
	if (set->ad)
		KUNIT_EXPECT_FALSE(test, is_frozen_spte(spte & ~shadow_accessed_mask));
}

/*
 * The generation of an MMIO SPTE is in bits that mean Accessed, Dirty, page size,
 * saved R or X, or MMU-writable in a present one.
 */
static void spte_mmio(struct kunit *test)
{
	static const gfn_t gfns[] = { 0, 1, 0x12345, GENMASK_ULL(35 - PAGE_SHIFT, 0) };
	struct kvm_property present = { "MMIO SPTE is present" };
	struct kvm_property frozen = { "MMIO SPTE is frozen" };
	struct kvm_property mmio = { "MMIO SPTE" };
	struct kvm_property generation = { "generation of an MMIO SPTE" };
	struct kvm_memslots *slots;
	struct kvm_vcpu *vcpu;
	struct kvm *kvm;
	u64 gen, spte;

	kvm = kvm_kvzalloc(test, sizeof(*kvm));
	vcpu = kvm_kvzalloc(test, sizeof(*vcpu));
	vcpu->kvm = kvm;
	kvm->arch.shadow_mmio_value = shadow_mmio_value;
	slots = &kvm->__memslots[0][0];
	rcu_assign_pointer(kvm->memslots[0], slots);
	KUNIT_ASSERT_NE(test, shadow_mmio_value, 0ull);

	for (gen = 0; gen <= MMIO_SPTE_GEN_MASK; gen++) {
		slots->generation = gen;
		/* All accesses with all addresses, many times over. */
		spte = make_mmio_spte(vcpu, gfns[(gen >> 3) % ARRAY_SIZE(gfns)],
				      gen & ACC_ALL);

		kvm_check(&present, spte, is_shadow_present_pte(spte), false);
		kvm_check(&frozen, spte, is_frozen_spte(spte), false);
		kvm_check(&mmio, spte, is_mmio_spte(kvm, spte), true);
		kvm_check(&generation, spte, get_mmio_spte_generation(spte), gen);
	}

	KUNIT_EXPECT_FALSE(test, is_mmio_spte(kvm, FROZEN_SPTE));
	KUNIT_EXPECT_FALSE(test, is_mmio_spte(kvm, SHADOW_NONPRESENT_VALUE));
	kvm_expect(test, &present);
	kvm_expect(test, &frozen);
	kvm_expect(test, &mmio);
	kvm_expect(test, &generation);
}

/* A leaf of 4 KiB that only inherits what the huge one says and saves. */
static void spte_split(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property exact = { "child" };
	struct kvm_property dirty = { "child is dirty iff the huge SPTE is" };
	struct kvm_property accessed = { "child is accessed iff the huge SPTE is" };
	struct kvm_property pfn = { "pfn of child" };
	union kvm_mmu_page_role role = { .access = ACC_ALL };
	u64 pages, spte, child, want;
	struct kvm *kvm;
	int i;

	kvm = kvm_kvzalloc(test, sizeof(*kvm));
	kvm->arch.disable_nx_huge_pages = true;

	for (role.level = PG_LEVEL_4K; role.level <= PG_LEVEL_2M; role.level++) {
		pages = role.level == PG_LEVEL_4K ? 1 : 512;

		spte = 0;
		while (kvm_next_leaf(set, &spte)) {
			if (!(spte & LEAF_PSE))
				continue;

			for (i = 0; i < 512; i++) {
				child = make_huge_page_split_spte(kvm, spte, role, i);
				want = spte + ((i * pages) << PAGE_SHIFT);
				if (role.level == PG_LEVEL_4K)
					want &= ~LEAF_PSE;

				kvm_check(&exact, spte, child, want);
				kvm_check(&dirty, spte, is_dirty_spte(child),
					  is_dirty_spte(spte));
				kvm_check(&accessed, spte, is_accessed_spte(child),
					  is_accessed_spte(spte));
				kvm_check(&pfn, spte, spte_to_pfn(child),
					  spte_to_pfn(spte) + i * pages);
			}
		}
	}

	KUNIT_EXPECT_FALSE(test, kvm->vm_bugged);
	kvm_expect(test, &exact);
	kvm_expect(test, &dirty);
	kvm_expect(test, &accessed);
	kvm_expect(test, &pfn);
}

/*
 * The iTLB multihit mitigation made the huge SPTE non-executable, and the split
 * gives X back: at once, or, if the SPTE is old, by way of the saved X.
 */
static void spte_split_to_executable(struct kunit *test)
{
	const struct kvm_mask_set *set = test->param_value;
	struct kvm_property exact = { "executable child" };
	struct kvm_property dirty = { "child is dirty iff the huge SPTE is" };
	struct kvm_property restored = { "child is executable once restored" };
	union kvm_mmu_page_role role = { .level = PG_LEVEL_4K, .access = ACC_ALL };
	u64 spte = 0, child, want;
	struct kvm *kvm;

	kvm = kvm_kvzalloc(test, sizeof(*kvm));
	WRITE_ONCE(nx_huge_pages, 1);

	while (kvm_next_leaf(set, &spte)) {
		if (!(spte & LEAF_PSE))
			continue;

		want = (spte & ~LEAF_PSE) + (511ull << PAGE_SHIFT);

		if (!set->ept) {
			if (!(spte & NPT_NX))
				continue;
			want &= ~NPT_NX;
		} else {
			if (spte_rx(spte) & LEAF_X)
				continue;
			if (!kvm_leaf_has_ad(set, spte) && !(spte & LEAF_RWX))
				want |= EPT_SAVED_X;
			else
				want |= LEAF_X;
		}

		child = make_huge_page_split_spte(kvm, spte, role, 511);
		kvm_check(&exact, spte, child, want);
		kvm_check(&dirty, spte, is_dirty_spte(child), is_dirty_spte(spte));
		if (!kvm_leaf_has_ad(set, spte) && !(spte & LEAF_RWX))
			child = restore_acc_track_spte(child);
		kvm_check(&restored, spte, is_executable_pte(child), true);
	}

	KUNIT_EXPECT_FALSE(test, kvm->vm_bugged);
	kvm_expect(test, &exact);
	kvm_expect(test, &dirty);
	kvm_expect(test, &restored);
}

static struct kunit_case spte_cases[] = {
	KUNIT_CASE_PARAM(spte_masks_are_disjoint, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_is_accessed_and_dirty, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_age, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_restore, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_write_protect, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_is_volatile, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_changes_are_volatile, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_frozen, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_mmio, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_split, kvm_mask_sets_gen_params),
	KUNIT_CASE_PARAM(spte_split_to_executable, kvm_mask_sets_gen_params),
	{}
};

static struct kunit_suite spte_suite = {
	.name = "kvm_spte",
	.init = kvm_masks_init,
	.test_cases = spte_cases,
};

kunit_test_suite(spte_suite);
