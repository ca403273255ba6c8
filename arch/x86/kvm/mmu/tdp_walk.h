/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_TDP_WALK_H
#define __KVM_X86_MMU_TDP_WALK_H

/*
 * Walks of the TDP MMU's page tables under RCU that go straight to a page table and over its SPTEs:
 * aging, reads of the working set, and clears of the dirty log.
 */
#include <linux/kvm_host.h>
#include <linux/rcupdate.h>

#include "mmu_internal.h"
#include "spte.h"

/*
 * Is @root a valid root of the address space?  Then *@role is its role.  A walk of
 * kvm->arch.tdp_mmu_roots under RCU needs no reference to a root: KVM unlinks roots with
 * list_del_rcu(), and frees them by call_rcu().
 *
 * kvm_tdp_mmu_invalidate_all_roots() may set role.invalid meanwhile.  The rest of the role never
 * changes.  So it is fine to read the role once.  Pairs with that function's WRITE_ONCE().
 */
static inline bool tdp_root_is_valid(struct kvm_mmu_page *root, int as_id,
				     union kvm_mmu_page_role *role)
{
	role->word = READ_ONCE(root->role.word);

	return !role->invalid && kvm_mmu_role_as_id(*role) == as_id;
}

/*
 * The SPTE that maps @gfn, or that of the page table of @min_level + 1 that has one: the first from
 * the root down that is not present, or a leaf, or of @min_level.  *@level is that of the root's
 * SPTEs, and becomes that of the SPTE.  *@spte becomes its value.
 *
 * Context: RCU read lock, which keeps the root and its page tables.
 */
static __always_inline u64 *tdp_find_spte(u64 *spt, gfn_t gfn, int *level, int min_level, u64 *spte)
{
	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "RCU does not keep the page tables");

	for (;;) {
		u64 *sptep = spt + SPTE_INDEX(gfn << PAGE_SHIFT, *level);

		/*
		 * Faults and zaps may write the SPTE meanwhile.  Read it once, so that the
		 * cmpxchg expects the value that was checked.  Pairs with the write that
		 * linked a child: the reads of the child's SPTEs depend on this one, so
		 * they return what was there then, or newer.  With mmu_lock held for read,
		 * that write is the cmpxchg of tdp_mmu_set_spte_atomic().  With the lock
		 * held for write, it is the xchg or the plain store of
		 * kvm_tdp_mmu_write_spte(); x86 does not reorder stores, so the child's
		 * SPTEs are visible before it.
		 */
		*spte = READ_ONCE(*sptep);
		if (*level == min_level || !is_shadow_present_pte(*spte) ||
		    is_last_spte(*spte, *level))
			return sptep;
		spt = __va(spte_to_pfn(*spte) << PAGE_SHIFT);
		--*level;
	}
}

#endif
