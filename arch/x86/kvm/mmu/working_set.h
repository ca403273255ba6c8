/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_WORKING_SET_H
#define __KVM_X86_MMU_WORKING_SET_H

/*
 * Which pages of a VM were touched since the last read, without mmu_lock, and without taking what
 * aging reports to reclaim.  Documentation/virt/kvm/x86/working-set.rst is for the user.
 */
#include <linux/compiler.h>
#include <linux/kvm_host.h>

#include "age.h"
#include "spte.h"
#include "tdp_iter.h"

struct dentry;

/* Set for good by the first read of any VM. */
extern bool kvm_working_set_was_read;

#ifdef CONFIG_X86_64
int kvm_working_set_read_slot(struct kvm *kvm, struct kvm_working_set_slot *slot);

void kvm_working_set_create_debugfs(struct kvm *kvm, struct dentry *dir);
void kvm_working_set_destroy_vm(struct kvm *kvm);

/*
 * Make the page tables above a leaf young, from the lowest to the root's.  To be called after KVM
 * itself has made the leaf young, as the CPU may hold the tables in its paging-structure caches
 * and not set Accessed in them again.
 *
 * The read of the flag and these writes come after the write of the leaf, and the cmpxchg that
 * wrote it is a full barrier.  A pass sets the flag, makes the tables old from the root down, and
 * reads the leaf last, with a full barrier after each step.  So if the pass missed the leaf, this
 * sees the flag and makes young each table that the pass made old.
 *
 * Context: in the RCU section of @iter's walk.
 */
static inline void kvm_working_set_tables_young(struct tdp_iter *iter)
{
	int level;

	/* Pairs with the smp_mb() of kvm_working_set_read_slot(). */
	if (likely(!READ_ONCE(kvm_working_set_was_read)))
		return;

	for (level = iter->level + 1; level <= iter->root_level; level++) {
		u64 *table = rcu_dereference(iter->pt_path[level - 1]);
		u64 *sptep = table + SPTE_INDEX(iter->gfn << PAGE_SHIFT, level);
		/*
		 * A pass may make the table old, and a zap may remove it.  The cmpxchg expects a
		 * page table, and tries again as long as there is an old one.  Pairs with the
		 * cmpxchg of working_set_open_table(), and with those of zaps.
		 */
		u64 spte = READ_ONCE(*sptep);

		while (is_shadow_present_pte(spte) && !is_last_spte(spte, level) &&
		       !(spte & shadow_accessed_mask)) {
			if (try_cmpxchg64(sptep, &spte, spte | shadow_accessed_mask))
				break;
		}
	}
}
#else
static inline void kvm_working_set_create_debugfs(struct kvm *kvm, struct dentry *dir)
{
}

static inline void kvm_working_set_destroy_vm(struct kvm *kvm)
{
}
#endif

#endif
