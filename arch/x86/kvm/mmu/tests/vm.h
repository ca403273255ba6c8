/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_TESTS_VM_H
#define __KVM_X86_MMU_TESTS_VM_H

/* As much of a VM as aging needs, and aging of it as the MMU notifiers do it. */
#include <kunit/test.h>

#include <linux/bitmap.h>
#include <linux/kvm_host.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>

#include "mmu.h"
#include "masks.h"

static inline void kvm_cleanup_srcu(void *srcu)
{
	cleanup_srcu_struct(srcu);
}

/* Without any memslot, root or shadow page. */
static inline struct kvm *kvm_new_vm(struct kunit *test)
{
	struct kvm *kvm = kvm_kvzalloc(test, sizeof(*kvm));

	refcount_set(&kvm->users_count, 1);
	rwlock_init(&kvm->mmu_lock);
#ifdef CONFIG_X86_64
	INIT_LIST_HEAD(&kvm->arch.tdp_mmu_roots);
#endif
	KUNIT_ASSERT_EQ(test, init_srcu_struct(&kvm->srcu), 0);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, kvm_cleanup_srcu,
							&kvm->srcu), 0);
	return kvm;
}

/* Age or test gfns [start, end) of a memslot: true if any was young. */
static inline bool kvm_age_range(struct kvm *kvm, struct kvm_memory_slot *slot,
				 gfn_t start, gfn_t end, bool test_only)
{
	struct kvm_gfn_range range = {
		.slot = slot,
		.start = start,
		.end = end,
	};
	bool young;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	if (test_only)
		young = kvm_test_age_gfn(kvm, &range);
	else
		young = kvm_age_gfn(kvm, &range);
	srcu_read_unlock(&kvm->srcu, idx);

	return young;
}

/*
 * The same through a bitmap, for any number of gfns that it has bits for: makes those in
 * @clear old, and sets the bits of the young ones in @young.
 */
static inline void kvm_age_bitmap(struct kvm *kvm, struct kvm_memory_slot *slot,
				  gfn_t start, gfn_t end, const unsigned long *clear,
				  unsigned long *young)
{
	struct kvm_age_bitmap bitmap = {
		.clear = clear,
		.young = young,
		.end = __gfn_to_hva_memslot(slot, start) + (end - start) * PAGE_SIZE,
	};
	struct kvm_gfn_range range = {
		.slot = slot,
		.start = start,
		.end = end,
		.arg.age_bitmap = &bitmap,
	};
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	kvm_age_gfn_bitmap(kvm, &range);
	srcu_read_unlock(&kvm->srcu, idx);
}

#endif
