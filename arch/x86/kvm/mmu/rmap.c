// SPDX-License-Identifier: GPL-2.0-only
/*
 * The lists of SPTEs that shadow paging keeps.  Each 4 KiB, 2 MiB and 1 GiB page of a memslot has
 * an rmap, the list of the SPTEs that map it with that page size.  Each shadow page has a list of
 * the SPTEs that link it.
 *
 * A writer of a list holds mmu_lock for write, and sets the lock bit of the list's head,
 * unless the list is empty.  So a reader needs one of the two: mmu_lock, for read or write, or
 * the bit.
 *
 * The holder of a bit has preemption off and does nothing that may sleep, also on PREEMPT_RT: it
 * allocates descriptors before it sets the bit, and frees them after it clears the bit.  Interrupts
 * stay on, because no interrupt handler takes a bit.  No task takes two bits at a time.
 *
 * A writer holds the bit for a few stores, and searches the list before.  A reader without mmu_lock
 * holds it for a walk of the list.  When an rmap reaches RMAP_RECYCLE_THRESHOLD + 2 SPTEs,
 * __rmap_add() zaps all of them.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/lockdep.h>
#include <linux/slab.h>

#include "mmu_internal.h"
#include "rmap.h"

struct kmem_cache *pte_list_desc_cache;

#ifdef CONFIG_DEBUG_LOCK_ALLOC
/* All rmaps share one lockdep map, because an rmap head has no room for more than a bit. */
struct lockdep_map kvm_rmap_lock_map = {
	.name = "kvm_rmap_lock",
	.key = (struct lock_class_key *)&kvm_rmap_lock_map,
	.wait_type_inner = LD_WAIT_SPIN,
};

/* Does this task have an rmap locked?  For assertions only. */
bool kvm_rmap_lock_held(void)
{
	return lock_is_held(&kvm_rmap_lock_map);
}
#endif

/* Lock a list to change it. */
static struct rmap_list kvm_rmap_lock(struct kvm *kvm, struct kvm_rmap_head *rmap_head)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	return __kvm_rmap_lock(rmap_head);
}

/* Unlock a list that is @list from now on. */
static void kvm_rmap_unlock(struct kvm *kvm, struct kvm_rmap_head *rmap_head,
			    struct rmap_list list)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	__kvm_rmap_unlock(rmap_head, list);
}

/**
 * pte_list_add - add an SPTE to a list
 * @kvm: the VM
 * @cache: holds at least one descriptor
 * @spte: the SPTE, with the value that walks of the list are to see
 * @rmap_head: the head of the list
 *
 * Context: mmu_lock held for write.
 * Return: the number of SPTEs that were in the list before.
 */
int pte_list_add(struct kvm *kvm, struct kvm_mmu_memory_cache *cache, u64 *spte,
		 struct kvm_rmap_head *rmap_head)
{
	/* mmu_lock keeps other writers out, so this is the list that is locked below. */
	struct rmap_list locked, list = kvm_rmap_get(rmap_head);
	struct pte_list_desc *desc = rmap_list_desc(list);
	struct pte_list_desc *new = NULL;
	int count;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (!list.val) {
		/* Nobody locks an empty list.  Pairs with the acquire in __kvm_rmap_lock(). */
		smp_store_release(&rmap_head->val, (unsigned long)spte);
		return 0;
	}

	/*
	 * If the head is full, allocate a new head descriptor, as tail descriptors
	 * are always kept full.
	 */
	if (!desc || desc->spte_count == PTE_LIST_EXT)
		new = kvm_mmu_memory_cache_alloc(cache);

	locked = kvm_rmap_lock(kvm, rmap_head);
	KVM_MMU_WARN_ON(locked.val != list.val);

	if (!desc) {
		count = 1;
		new->sptes[0] = (u64 *)list.val;
		new->spte_count = 1;
		new->tail_count = 0;
	} else {
		count = desc->tail_count + desc->spte_count;
		if (new) {
			new->more = desc;
			new->spte_count = 0;
			new->tail_count = count;
		}
	}

	if (new) {
		desc = new;
		list.val = (unsigned long)desc | KVM_RMAP_MANY;
	}
	desc->sptes[desc->spte_count++] = spte;

	kvm_rmap_unlock(kvm, rmap_head, list);
	return count;
}

/*
 * Take the SPTE at @pos of @desc out of @list, which is locked.  Returns the new list.  Sets @empty
 * to the descriptor that the caller has to free, if there is one.
 */
static struct rmap_list pte_list_desc_remove_entry(struct rmap_list list,
						   struct pte_list_desc *desc, int pos,
						   struct pte_list_desc **empty)
{
	struct pte_list_desc *head_desc = rmap_list_desc(list);
	int last = head_desc->spte_count - 1;

	/*
	 * Replace the to-be-freed SPTE with the last valid entry from the head
	 * descriptor to ensure that tail descriptors are full at all times.
	 * Note, this also means that tail_count is stable for each descriptor.
	 */
	desc->sptes[pos] = head_desc->sptes[last];
	head_desc->sptes[last] = NULL;
	head_desc->spte_count--;
	if (head_desc->spte_count)
		return list;

	/*
	 * The head descriptor is empty.  If there are no tail descriptors, the
	 * list is empty, else the next descriptor is the new head.
	 */
	*empty = head_desc;
	list.val = 0;
	if (head_desc->more)
		list.val = (unsigned long)head_desc->more | KVM_RMAP_MANY;

	return list;
}

/* Where in the descriptors of @list is @spte?  False if it is nowhere. */
static bool pte_list_find(struct rmap_list list, u64 *spte, struct pte_list_desc **desc,
			  int *pos)
{
	for (*desc = rmap_list_desc(list); *desc; *desc = (*desc)->more) {
		for (*pos = 0; *pos < (*desc)->spte_count; ++*pos) {
			if ((*desc)->sptes[*pos] == spte)
				return true;
		}
	}

	return false;
}

/**
 * pte_list_remove - take an SPTE out of a list
 * @kvm: the VM
 * @spte: the SPTE
 * @rmap_head: the head of the list
 *
 * No walk of the list touches the SPTE after this has returned.  If the SPTE is not in the
 * list, that is a bug of KVM, and the list stays as it is.
 *
 * Context: mmu_lock held for write.
 */
void pte_list_remove(struct kvm *kvm, u64 *spte, struct kvm_rmap_head *rmap_head)
{
	/* mmu_lock keeps other writers out, so this is the list that is locked below. */
	struct rmap_list locked, list = kvm_rmap_get(rmap_head);
	struct pte_list_desc *desc = NULL, *empty = NULL;
	int pos;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (KVM_BUG_ON_DATA_CORRUPTION((u64 *)list.val != spte &&
				       !pte_list_find(list, spte, &desc, &pos), kvm))
		return;

	/* The head descriptor is never empty: heads that become so are removed. */
	if (KVM_BUG_ON_DATA_CORRUPTION(desc && !rmap_list_desc(list)->spte_count, kvm))
		return;

	locked = kvm_rmap_lock(kvm, rmap_head);
	KVM_MMU_WARN_ON(locked.val != list.val);
	if (desc)
		list = pte_list_desc_remove_entry(list, desc, pos, &empty);
	else
		list.val = 0;
	kvm_rmap_unlock(kvm, rmap_head, list);

	if (empty)
		kmem_cache_free(pte_list_desc_cache, empty);
}

/**
 * pte_list_detach - take all SPTEs out of a list at once
 * @kvm: the VM
 * @rmap_head: the head of the list
 *
 * Context: mmu_lock held for write.
 * Return: the list that was there, which no other task can reach any more, to be walked with
 * rmap_list_first() and handed to pte_list_free().
 */
struct rmap_list pte_list_detach(struct kvm *kvm, struct kvm_rmap_head *rmap_head)
{
	struct rmap_list list = kvm_rmap_lock(kvm, rmap_head);

	if (list.val)
		kvm_rmap_unlock(kvm, rmap_head, (struct rmap_list) {});

	return list;
}

/**
 * pte_list_free - free what a detached list consists of
 * @list: what pte_list_detach() returned, empty or not
 */
void pte_list_free(struct rmap_list list)
{
	struct pte_list_desc *desc, *next;

	for (desc = rmap_list_desc(list); desc; desc = next) {
		next = desc->more;
		kmem_cache_free(pte_list_desc_cache, desc);
	}
}

/**
 * pte_list_count - the number of SPTEs in a list
 * @rmap_head: the head of the list
 *
 * Context: mmu_lock held.
 * Return: the number of SPTEs.
 */
unsigned int pte_list_count(struct kvm_rmap_head *rmap_head)
{
	struct rmap_list list = kvm_rmap_get(rmap_head);
	struct pte_list_desc *desc = rmap_list_desc(list);

	if (!desc)
		return list.val ? 1 : 0;

	return desc->tail_count + desc->spte_count;
}
