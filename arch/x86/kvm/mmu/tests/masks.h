/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_TESTS_MASKS_H
#define __KVM_X86_MMU_TESTS_MASKS_H

/*
 * The SPTE formats that KVM's masks can describe, and what is true of a leaf in
 * each of them.  The truth is stated in bit numbers, and not by way of KVM's
 * masks and helpers, as those are what is examined.
 */
#include <kunit/test.h>

#include <linux/bits.h>
#include <linux/kvm_host.h>

#include "mmu.h"
#include "mmu/mmu_internal.h"
#include "mmu/spte.h"
#include "mmu/tests/kunit_guard.h"

/* Bits 2:0.  For NPT, bit 0 is Present and bit 2 is User. */
#define LEAF_R			BIT_ULL(0)
#define LEAF_W			BIT_ULL(1)
#define LEAF_X			BIT_ULL(2)
#define LEAF_RWX		(LEAF_R | LEAF_W | LEAF_X)
#define LEAF_PSE		BIT_ULL(7)
#define LEAF_PRESENT		BIT_ULL(11)
#define LEAF_ADDR		GENMASK_ULL(51, 12)

/* With A/D bits: young for aging, or for the reader of the working set, without Accessed. */
#define LEAF_YOUNG_AGING	BIT_ULL(54)
#define LEAF_YOUNG_WS		BIT_ULL(56)

#define NPT_A			BIT_ULL(5)
#define NPT_D			BIT_ULL(6)
#define NPT_HOST_WRITABLE	BIT_ULL(9)
#define NPT_MMU_WRITABLE	BIT_ULL(10)
#define NPT_NX			BIT_ULL(63)

#define EPT_MT			GENMASK_ULL(5, 3)
#define EPT_MT_WB		(6ULL << 3)
#define EPT_IPAT		BIT_ULL(6)
#define EPT_A			BIT_ULL(8)
#define EPT_D			BIT_ULL(9)
#define EPT_AD_OFF		BIT_ULL(52)
#define EPT_AD_WRPROT		BIT_ULL(53)
#define EPT_SAVED_R		BIT_ULL(54)
#define EPT_SAVED_X		BIT_ULL(56)
#define EPT_HOST_WRITABLE	BIT_ULL(57)
#define EPT_MMU_WRITABLE	BIT_ULL(58)
#define EPT_SUPPRESS_VE		BIT_ULL(63)

struct kvm_mask_set {
	const char *name;
	bool ept;
	bool ad;
	bool exec_only;
};

/* Each suite makes its parameters of them, with KUNIT_ARRAY_PARAM_DESC(). */
static const struct kvm_mask_set kvm_mask_sets[] __maybe_unused = {
	{ .name = "npt", .ad = true },
	{ .name = "ept_ad", .ept = true, .ad = true },
	{ .name = "ept_ad_exec_only", .ept = true, .ad = true, .exec_only = true },
	{ .name = "ept_no_ad", .ept = true },
	{ .name = "ept_no_ad_exec_only", .ept = true, .exec_only = true },
};

/* All that kvm_masks_set() changes, by itself or through the functions it calls. */
static u64 * const kvm_mask_globals[] = {
	&shadow_host_writable_mask,
	&shadow_mmu_writable_mask,
	&shadow_nx_mask,
	&shadow_x_mask,
	&shadow_user_mask,
	&shadow_accessed_mask,
	&shadow_dirty_mask,
	&shadow_mmio_value,
	&shadow_mmio_mask,
	&shadow_mmio_access_mask,
	&shadow_present_mask,
	&shadow_memtype_mask,
	&shadow_me_value,
	&shadow_me_mask,
	&shadow_acc_track_mask,
	&shadow_young_ws_mask,
	&shadow_nonpresent_or_rsvd_mask,
	&shadow_nonpresent_or_rsvd_lower_gfn_mask,
};

struct kvm_saved_masks {
	u64 masks[ARRAY_SIZE(kvm_mask_globals)];
	bool mmio_caching;
	bool tdp_mmu;
	int nx_huge_pages;
};

/* There is no TDP MMU on 32-bit. */
static inline void kvm_set_tdp_mmu(bool enabled)
{
#ifdef CONFIG_X86_64
	tdp_mmu_enabled = enabled;
#endif
}

static inline void kvm_masks_restore(void *data)
{
	struct kvm_saved_masks *saved = data;
	int i;

	for (i = 0; i < ARRAY_SIZE(kvm_mask_globals); i++)
		*kvm_mask_globals[i] = saved->masks[i];

	enable_mmio_caching = saved->mmio_caching;
	kvm_set_tdp_mmu(saved->tdp_mmu);
	nx_huge_pages = saved->nx_huge_pages;
	kvm_mmu_kunit_end();
}

static inline void kvm_masks_set(const struct kvm_mask_set *set)
{
	kvm_mmu_reset_all_pte_masks();
	if (set->ept)
		kvm_mmu_set_ept_masks(set->ad, set->exec_only);
	shadow_young_ws_mask = set->ad ? LEAF_YOUNG_WS : 0;

	/*
	 * A host that has no reserved physical address bit, or whose user said
	 * mmio_caching=0, makes no MMIO SPTEs.  The suites want them anyway.
	 */
	if (!shadow_mmio_value) {
		enable_mmio_caching = true;
		if (set->ept) {
			shadow_mmio_value = LEAF_W | LEAF_X;
			shadow_mmio_mask = LEAF_RWX | EPT_SUPPRESS_VE;
		} else {
			shadow_mmio_value = BIT_ULL(51) | LEAF_R;
			shadow_mmio_mask = shadow_mmio_value;
		}
	}
}

/*
 * To be called by a suite's init, for cases with the masks of the parameter, and
 * with the TDP MMU where there is one.  All is put back after the case, even if an
 * assertion ends it.  Until then no VM can be created, and if there is one, the case fails.
 */
static inline int kvm_masks_init(struct kunit *test)
{
	struct kvm_saved_masks *saved;
	int i, ret;

	saved = kunit_kzalloc(test, sizeof(*saved), GFP_KERNEL);
	if (!saved)
		return -ENOMEM;

	ret = kvm_mmu_kunit_begin();
	if (ret) {
		kunit_err(test, "There is a VM, which relies on the masks: shut it down first");
		return ret;
	}

	for (i = 0; i < ARRAY_SIZE(kvm_mask_globals); i++)
		saved->masks[i] = *kvm_mask_globals[i];

	saved->mmio_caching = enable_mmio_caching;
	saved->tdp_mmu = tdp_mmu_enabled;
	saved->nx_huge_pages = nx_huge_pages;

	ret = kunit_add_action_or_reset(test, kvm_masks_restore, saved);
	if (ret)
		return ret;

	kvm_masks_set(test->param_value);
	kvm_set_tdp_mmu(true);
	return 0;
}

static inline u64 kvm_leaf_host_writable(const struct kvm_mask_set *set)
{
	return set->ept ? EPT_HOST_WRITABLE : NPT_HOST_WRITABLE;
}

static inline u64 kvm_leaf_mmu_writable(const struct kvm_mask_set *set)
{
	return set->ept ? EPT_MMU_WRITABLE : NPT_MMU_WRITABLE;
}

static inline u64 kvm_leaf_accessed(const struct kvm_mask_set *set)
{
	return set->ept ? EPT_A : NPT_A;
}

static inline u64 kvm_leaf_dirty(const struct kvm_mask_set *set)
{
	return set->ept ? EPT_D : NPT_D;
}

/*
 * With A/D bits in general, an EPT leaf may still have to do without: L1 may
 * disable them in the EPTP that it gives to L2.
 */
static inline bool kvm_leaf_has_ad(const struct kvm_mask_set *set, u64 spte)
{
	return !set->ept || !(spte & EPT_AD_OFF);
}

static inline bool kvm_leaf_is_young(const struct kvm_mask_set *set, u64 spte)
{
	if (kvm_leaf_has_ad(set, spte))
		return spte & (kvm_leaf_accessed(set) | LEAF_YOUNG_AGING);

	return spte & LEAF_RWX;
}

/* For the reader of the working set. */
static inline bool kvm_leaf_is_touched(const struct kvm_mask_set *set, u64 spte)
{
	if (kvm_leaf_has_ad(set, spte))
		return spte & (kvm_leaf_accessed(set) | LEAF_YOUNG_WS);

	return spte & LEAF_RWX;
}

static inline bool kvm_leaf_is_dirty(const struct kvm_mask_set *set, u64 spte)
{
	if (kvm_leaf_has_ad(set, spte))
		return spte & kvm_leaf_dirty(set);

	return spte & EPT_MMU_WRITABLE;
}

static inline u64 kvm_leaf_make_old(const struct kvm_mask_set *set, u64 spte)
{
	u64 old = spte & ~LEAF_RWX;

	if (kvm_leaf_has_ad(set, spte)) {
		old = spte & ~(kvm_leaf_accessed(set) | LEAF_YOUNG_AGING);
		if (spte & kvm_leaf_accessed(set))
			old |= LEAF_YOUNG_WS;
		return old;
	}

	if (spte & LEAF_R)
		old |= EPT_SAVED_R;
	if (spte & LEAF_X)
		old |= EPT_SAVED_X;
	return old;
}

/* What a read of the working set makes of a leaf. */
static inline u64 kvm_leaf_make_read(const struct kvm_mask_set *set, u64 spte)
{
	u64 read = spte & ~(kvm_leaf_accessed(set) | LEAF_YOUNG_WS);

	if (!kvm_leaf_has_ad(set, spte))
		return spte;
	if (spte & kvm_leaf_accessed(set))
		read |= LEAF_YOUNG_AGING;
	return read;
}

/* A young leaf that may be used in any way, and is dirty; without an address. */
static inline u64 kvm_young_leaf(const struct kvm_mask_set *set)
{
	u64 leaf = LEAF_PRESENT | LEAF_RWX | kvm_leaf_host_writable(set) |
		   kvm_leaf_mmu_writable(set);

	if (set->ept)
		leaf |= EPT_MT_WB | EPT_SUPPRESS_VE;
	if (set->ad)
		leaf |= kvm_leaf_accessed(set) | kvm_leaf_dirty(set);
	else
		leaf |= EPT_AD_OFF;

	return leaf;
}

/*
 * True for the leaves that KVM and the CPU can make.  The others are kept away
 * from KVM's functions, as some of them are met with a WARN.
 */
static inline bool kvm_leaf_is_valid(const struct kvm_mask_set *set, u64 spte)
{
	const u64 saved = EPT_SAVED_R | EPT_SAVED_X;
	u64 readable = LEAF_R;

	if ((spte & kvm_leaf_mmu_writable(set)) &&
	    !(spte & kvm_leaf_host_writable(set)))
		return false;
	if ((spte & LEAF_W) && !(spte & kvm_leaf_mmu_writable(set)))
		return false;

	if (!set->ept)
		return spte & LEAF_R;

	/* An EPT misconfiguration. */
	if ((spte & LEAF_W) && !(spte & LEAF_R))
		return false;

	if (kvm_leaf_has_ad(set, spte)) {
		if (!set->ad)
			return false;
	} else {
		if (spte & (EPT_A | EPT_D | EPT_AD_WRPROT))
			return false;
		if ((spte & saved) && (spte & LEAF_RWX))
			return false;
		if (!(spte & LEAF_RWX))
			readable = EPT_SAVED_R;
	}

	return set->exec_only || (spte & readable);
}

/*
 * Go on to the next valid leaf, or to the first if *@spte is 0; false after the
 * last.  Together they are all combinations of all bits that aging, the fast page
 * fault handler and the CPU look at or change.  Bits 30 and 51 make the address:
 * aligned to 1 GiB, and as high as it gets or not.  The suite of the working set adds the bits of
 * the two readers.
 */
static inline bool kvm_next_leaf(const struct kvm_mask_set *set, u64 *spte)
{
	u64 all = LEAF_RWX | LEAF_PSE | BIT_ULL(51);
	u64 fixed = LEAF_PRESENT | BIT_ULL(30);
	bool first = !*spte;
	u64 bits;

	if (set->ept) {
		all |= EPT_IPAT | EPT_A | EPT_D | EPT_AD_OFF | EPT_AD_WRPROT |
		       EPT_SAVED_R | EPT_SAVED_X | EPT_HOST_WRITABLE |
		       EPT_MMU_WRITABLE;
		fixed |= EPT_MT_WB | EPT_SUPPRESS_VE;
	} else {
		all |= NPT_A | NPT_D | NPT_HOST_WRITABLE | NPT_MMU_WRITABLE | NPT_NX;
	}

	bits = *spte & all;

	for (;;) {
		if (!first) {
			/* The next larger subset of the bits in @all. */
			bits = (bits - all) & all;
			if (!bits)
				return false;
		}

		first = false;
		if (kvm_leaf_has_ad(set, bits) && (bits & (LEAF_YOUNG_AGING | LEAF_YOUNG_WS)))
			continue;
		if (kvm_leaf_is_valid(set, fixed | bits)) {
			*spte = fixed | bits;
			return true;
		}
	}
}

/* Of a property that many SPTEs must have, the one that fails first is reported. */
struct kvm_property {
	const char *name;
	unsigned long checked;
	unsigned long failed;
	u64 spte;
	u64 got;
	u64 want;
};

static inline void kvm_check(struct kvm_property *property, u64 spte, u64 got,
			     u64 want)
{
	property->checked++;
	if (got == want)
		return;

	if (!property->failed++) {
		property->spte = spte;
		property->got = got;
		property->want = want;
	}
}

/* A property that was never checked does not hold. */
static inline void kvm_expect(struct kunit *test, struct kvm_property *property)
{
	KUNIT_EXPECT_NE_MSG(test, property->checked, 0ul, "%s: never checked",
			    property->name);
	KUNIT_EXPECT_EQ_MSG(test, property->failed, 0ul,
			    "%s: %lu of %lu, first: SPTE %016llx gives %llx instead of %llx",
			    property->name, property->failed, property->checked,
			    property->spte, property->got, property->want);
}

static inline void kvm_kvfree(void *data)
{
	kvfree(data);
}

/* Zeroed, too large for kunit_kzalloc(), and freed after the case. */
static inline void *kvm_kvzalloc(struct kunit *test, size_t size)
{
	void *data = kvzalloc(size, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, data);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, kvm_kvfree, data), 0);
	return data;
}

#endif
