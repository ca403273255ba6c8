/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_RMAP_H
#define __KVM_X86_MMU_RMAP_H

#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/kvm_host.h>
#include <linux/lockdep.h>
#include <linux/preempt.h>
#include <linux/processor.h>

#include "mmu.h"
#include "mmu_internal.h"

/* make pte_list_desc fit well in cache lines */
#define PTE_LIST_EXT 14

/*
 * struct pte_list_desc is the core data structure used to implement a custom
 * list for tracking a set of related SPTEs, e.g. all the SPTEs that map a
 * given GFN when used in the context of rmaps.  Using a custom list allows KVM
 * to optimize for the common case where many GFNs will have at most a handful
 * of SPTEs pointing at them, i.e. allows packing multiple SPTEs into a small
 * memory footprint, which in turn improves runtime performance by exploiting
 * cache locality.
 *
 * A list is comprised of one or more pte_list_desc objects (descriptors).
 * Each individual descriptor stores up to PTE_LIST_EXT SPTEs.  If a descriptor
 * is full and a new SPTEs needs to be added, a new descriptor is allocated and
 * becomes the head of the list.  This means that by definitions, all tail
 * descriptors are full.
 *
 * Note, the meta data fields are deliberately placed at the start of the
 * structure to optimize the cacheline layout; accessing the descriptor will
 * touch only a single cacheline so long as @spte_count<=6 (or if only the
 * descriptors metadata is accessed).
 */
struct pte_list_desc {
	struct pte_list_desc *more;
	/* The number of PTEs stored in _this_ descriptor. */
	u32 spte_count;
	/* The number of PTEs stored in all tails of this descriptor. */
	u32 tail_count;
	u64 *sptes[PTE_LIST_EXT];
};

/*
 * kvm_rmap_head.val is 0 for an empty list.  Otherwise it is a pointer, to the
 * only SPTE of the list, or with KVM_RMAP_MANY, to a struct pte_list_desc.
 */
#define KVM_RMAP_MANY	BIT(0)

/*
 * Set while a task walks the list without mmu_lock, or changes it.  Never set in the head
 * of an empty list, see __kvm_rmap_lock().
 */
#define KVM_RMAP_LOCKED	BIT(1)

static_assert(__alignof__(struct pte_list_desc) > (KVM_RMAP_MANY | KVM_RMAP_LOCKED));

/*
 * The value of a head at one moment, without the lock bit; 0 is the empty list.  The value has its
 * own type, so that a walk takes a struct rmap_list and not a head: only the list that
 * kvm_rmap_lock_readonly() returned is locked.  A second read of the head may return another list.
 */
struct rmap_list {
	unsigned long val;
};

static inline struct pte_list_desc *rmap_list_desc(struct rmap_list list)
{
	if (!(list.val & KVM_RMAP_MANY))
		return NULL;

	return (struct pte_list_desc *)(list.val & ~KVM_RMAP_MANY);
}

/*
 * Returns the list without the lock bit.  The caller holds mmu_lock (read or write) or the lock
 * bit, so no other task changes the list.  Aging may set and clear the lock bit meanwhile, so this
 * masks it out.  Pairs with the stores of __kvm_rmap_lock() and __kvm_rmap_unlock().
 */
static inline struct rmap_list kvm_rmap_get(const struct kvm_rmap_head *rmap_head)
{
	return (struct rmap_list) { READ_ONCE(rmap_head->val) & ~KVM_RMAP_LOCKED };
}

static inline struct kvm_rmap_head *gfn_to_rmap(gfn_t gfn, int level,
						const struct kvm_memory_slot *slot)
{
	unsigned long idx;

	idx = gfn_to_index(gfn, slot->base_gfn, level);
	return &slot->arch.rmap[level - PG_LEVEL_4K][idx];
}

/* All fields are private to rmap_list_first() and rmap_list_next(). */
struct rmap_iterator {
	struct pte_list_desc *desc;	/* holds the sptep if not NULL */
	int pos;			/* index of the sptep */
};

/* The first SPTE of @list, or NULL if it is empty.  @iter is for rmap_list_next(). */
static inline u64 *rmap_list_first(struct rmap_list list, struct rmap_iterator *iter)
{
	iter->desc = rmap_list_desc(list);
	iter->pos = 0;

	return iter->desc ? iter->desc->sptes[0] : (u64 *)list.val;
}

/* The SPTE after the one that was returned last, or NULL. */
static inline u64 *rmap_list_next(struct rmap_iterator *iter)
{
	if (!iter->desc)
		return NULL;

	/*
	 * The caller may have removed the SPTE that was returned last: compare with the current
	 * count.
	 */
	if (++iter->pos >= iter->desc->spte_count) {
		iter->desc = iter->desc->more;
		iter->pos = 0;
		if (!iter->desc)
			return NULL;
	}

	return iter->desc->sptes[iter->pos];
}

extern struct kmem_cache *pte_list_desc_cache;

#ifdef CONFIG_DEBUG_LOCK_ALLOC
extern struct lockdep_map kvm_rmap_lock_map;
bool kvm_rmap_lock_held(void);
#else
static inline bool kvm_rmap_lock_held(void)
{
	return true;
}
#endif

/*
 * Set the lock bit.  An empty list is not locked, and a writer adds the first SPTE without
 * the bit.  Disables preemption if it returns a list that is not empty.  Inlined, because aging
 * takes one bit for each gfn; lock_stat names the function that it is inlined in.
 */
static __always_inline struct rmap_list __kvm_rmap_lock(struct kvm_rmap_head *rmap_head)
{
	struct rmap_list list = { READ_ONCE(rmap_head->val) };

	if (!list.val)
		return list;

	preempt_disable();
	lock_map_acquire(&kvm_rmap_lock_map);
	if (list.val & KVM_RMAP_LOCKED)
		lock_contended(&kvm_rmap_lock_map, _THIS_IP_);

	for (;;) {
		if (list.val & KVM_RMAP_LOCKED) {
			cpu_relax();
			list.val = READ_ONCE(rmap_head->val);
			continue;
		}

		if (!list.val)
			break;

		/*
		 * The acquire pairs with the release in __kvm_rmap_unlock(), for
		 * the descriptors, and with the release in pte_list_add() that
		 * added the first SPTE to an empty list: the walk sees that
		 * SPTE as it was then, or newer.  If the cmpxchg fails, @list
		 * becomes what is in the head now.
		 */
		if (try_cmpxchg_acquire(&rmap_head->val, &list.val,
					list.val | KVM_RMAP_LOCKED)) {
			lock_acquired(&kvm_rmap_lock_map, _THIS_IP_);
			return list;
		}
	}

	lock_map_release(&kvm_rmap_lock_map);
	preempt_enable();
	return list;
}

static __always_inline void __kvm_rmap_unlock(struct kvm_rmap_head *rmap_head,
					      struct rmap_list list)
{
	KVM_MMU_WARN_ON(!(READ_ONCE(rmap_head->val) & KVM_RMAP_LOCKED));

	/*
	 * Pairs with the acquire in __kvm_rmap_lock().  The next holder sees what this
	 * one did to the list, and frees no descriptor or shadow page that this one is
	 * still reading.
	 */
	smp_store_release(&rmap_head->val, list.val);
	lock_map_release(&kvm_rmap_lock_map);
	preempt_enable();
}

/**
 * kvm_rmap_lock_readonly - keep the list of an rmap as it is
 * @rmap_head: the head of the list
 *
 * Walk the list that was returned.  A second read of @rmap_head->val may return a list that
 * nobody has locked, because an empty list is not locked.
 *
 * While the list is locked, KVM frees no shadow page that has an SPTE in the list, because KVM
 * removes the SPTE from the list first.  KVM may have zapped an SPTE that is still in the list.
 *
 * Context: does not sleep; mmu_lock need not be held.  No other rmap is locked.  Disables
 * preemption if it returns a list that is not empty.
 * Return: the list, to be walked with rmap_list_first() and handed to
 * kvm_rmap_unlock_readonly(); if it is empty, nothing is locked.
 */
static __always_inline struct rmap_list
kvm_rmap_lock_readonly(struct kvm_rmap_head *rmap_head)
{
	return __kvm_rmap_lock(rmap_head);
}

/**
 * kvm_rmap_unlock_readonly - unlock a list that kvm_rmap_lock_readonly() returned
 * @rmap_head: the head of the list
 * @list: what was returned, not empty
 */
static __always_inline void kvm_rmap_unlock_readonly(struct kvm_rmap_head *rmap_head,
						     struct rmap_list list)
{
	/* A reader leaves the list as it is. */
	KVM_MMU_WARN_ON(kvm_rmap_get(rmap_head).val != list.val);
	__kvm_rmap_unlock(rmap_head, list);
}

int pte_list_add(struct kvm *kvm, struct kvm_mmu_memory_cache *cache, u64 *spte,
		 struct kvm_rmap_head *rmap_head);
void pte_list_remove(struct kvm *kvm, u64 *spte, struct kvm_rmap_head *rmap_head);
struct rmap_list pte_list_detach(struct kvm *kvm, struct kvm_rmap_head *rmap_head);
void pte_list_free(struct rmap_list list);
unsigned int pte_list_count(struct kvm_rmap_head *rmap_head);

#endif
