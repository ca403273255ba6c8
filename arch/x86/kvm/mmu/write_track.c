// SPDX-License-Identifier: GPL-2.0-only
/*
 * The counts of write-tracked pages of a VM's memslots: made when they are needed, found
 * without a lock, and freed when they are not needed any more.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hashtable.h>
#include <linux/kvm_host.h>
#include <linux/rculist.h>
#include <linux/workqueue.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "page_track.h"
#include "write_counts.h"
#include "write_track.h"

/*
 * What would be in struct kvm.  But kvmgt.ko is built against that: were it larger, a
 * distribution's kvmgt.ko would not load with this kvm.ko.
 */
struct write_track_vm {
	struct hlist_node node;
	struct kvm *kvm;
	struct write_spares spares;
	struct delayed_work disable;
	struct rcu_head rcu;
};

/* All VMs, by the address of struct kvm. */
static DEFINE_HASHTABLE(vms, 8);
static DEFINE_SPINLOCK(vms_lock);

/* Set with slots_arch_lock held; NULLed with mmu_lock held for write, too, or with the memslot. */
static struct write_counts __rcu **counts_of(const struct kvm_memory_slot *slot)
{
	/* Not the array that its type tells of: see struct kvm_arch_memory_slot. */
	return (struct write_counts __rcu **)&slot->arch.gfn_write_track;
}

static struct write_track_vm *find_vm(struct kvm *kvm)
{
	struct write_track_vm *vm, *found = NULL;

	/* It stays as long as @kvm does; RCU is for others that come and go. */
	rcu_read_lock();
	hash_for_each_possible_rcu(vms, vm, node, (unsigned long)kvm) {
		if (vm->kvm == kvm) {
			found = vm;
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

static void allow_lpage(unsigned long index, unsigned int count, void *data)
{
	struct kvm_memory_slot *slot = data;

	while (count--)
		kvm_mmu_gfn_allow_lpage(slot, slot->base_gfn + index);
}

/* Does anybody track pages? */
static bool is_used(struct kvm *kvm)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	return kvm_page_track_has_external_user(kvm) || kvm->arch.indirect_shadow_pages;
}

/* Take the counts from all memslots, unless somebody needs them and @vm is to stay. */
static void take_counts(struct write_track_vm *vm, struct list_head *unused, bool destroy)
{
	struct kvm *kvm = vm->kvm;
	struct kvm_memory_slot *slot;
	struct write_counts *counts;
	int i, bkt;

	/*
	 * Nobody may be about to replace a memslot.  Else one that was replaced, and that
	 * a vCPU still uses, could keep its pointer to what is freed here.
	 */
	lockdep_assert_held(&kvm->slots_lock);

	mutex_lock(&kvm->slots_arch_lock);
	write_lock(&kvm->mmu_lock);

	if (is_used(kvm) && !WARN_ON_ONCE(destroy))
		goto out_unlock;

	/* Pairs with write_track_enabled(): who saw true may find counts, or NULL. */
	WRITE_ONCE(kvm->arch.external_write_tracking_enabled, false);

	for (i = 0; i < kvm_arch_nr_memslot_as_ids(kvm); i++) {
		kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, i)) {
			counts = rcu_replace_pointer(*counts_of(slot), NULL,
						     lockdep_is_held(&kvm->mmu_lock));
			if (!counts)
				continue;
			/* A tracker may leave without a word on what it tracked. */
			write_counts_for_each(counts, allow_lpage, slot);
			write_counts_put_aside(counts, unused);
		}
	}
	write_spares_free(&vm->spares);

out_unlock:
	write_unlock(&kvm->mmu_lock);
	mutex_unlock(&kvm->slots_arch_lock);
}

static void write_track_disable(struct work_struct *work)
{
	struct write_track_vm *vm = container_of(to_delayed_work(work), struct write_track_vm,
						 disable);
	LIST_HEAD(unused);

	/* Who has it may wait for a vCPU, and that for userspace: no reason to wait here. */
	if (!mutex_trylock(&vm->kvm->slots_lock)) {
		queue_delayed_work(system_unbound_wq, &vm->disable, HZ);
		return;
	}
	take_counts(vm, &unused, false);
	mutex_unlock(&vm->kvm->slots_lock);
	if (list_empty(&unused))
		return;

	/* For those in write_track_test() who found them. */
	synchronize_rcu();
	write_counts_free_all(&unused);
}

/**
 * write_track_init - a new VM does not track writes
 * @kvm: the VM
 *
 * Context: may sleep.
 * Return: 0, or -ENOMEM.
 */
int write_track_init(struct kvm *kvm)
{
	struct write_track_vm *vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);

	if (!vm)
		return -ENOMEM;

	vm->kvm = kvm;
	write_spares_init(&vm->spares);
	INIT_DELAYED_WORK(&vm->disable, write_track_disable);

	spin_lock(&vms_lock);
	hash_add_rcu(vms, &vm->node, (unsigned long)kvm);
	spin_unlock(&vms_lock);
	return 0;
}

/**
 * write_track_destroy - a VM goes away
 * @kvm: the VM, without vCPUs, trackers and shadow pages
 *
 * Context: may sleep; slots_lock not held.
 */
void write_track_destroy(struct kvm *kvm)
{
	struct write_track_vm *vm = find_vm(kvm);
	LIST_HEAD(unused);

	/* Nobody is left who could queue it again. */
	cancel_delayed_work_sync(&vm->disable);

	/* Before @vm, with which they are accounted.  No reader is left, either. */
	mutex_lock(&kvm->slots_lock);
	take_counts(vm, &unused, true);
	mutex_unlock(&kvm->slots_lock);
	write_counts_free_all(&unused);

	spin_lock(&vms_lock);
	hash_del_rcu(&vm->node);
	spin_unlock(&vms_lock);
	kfree_rcu(vm, rcu);
}

/* Memory for the memslot's counts.  To be published before, or with, the memslot. */
static int create_counts(struct write_track_vm *vm, struct kvm_memory_slot *slot)
{
	struct write_counts *counts;

	counts = write_counts_create(&vm->spares, slot->npages);
	if (!counts)
		return -ENOMEM;

	/* Pairs with the rcu_dereference() in write_track_test(). */
	rcu_assign_pointer(*counts_of(slot), counts);
	return 0;
}

/**
 * write_track_enable - have counts, as somebody is about to track pages
 * @kvm: the VM
 *
 * They may be gone again as soon as they are there: see write_track_ready().
 *
 * Context: may sleep, with kvm->srcu held or not; takes slots_arch_lock.
 * Return: 0, or -ENOMEM, and then it may be tried again.
 */
int write_track_enable(struct kvm *kvm)
{
	struct write_track_vm *vm;
	struct kvm_memory_slot *slot;
	int r = 0, i, bkt, idx;

	if (write_track_enabled(kvm))
		return 0;

	vm = find_vm(kvm);
	/* A vCPU holds it already, who registers does not. */
	idx = srcu_read_lock(&kvm->srcu);
	mutex_lock(&kvm->slots_arch_lock);

	/* Once is enough if several of them get here. */
	if (write_track_enabled(kvm))
		goto out_unlock;

	for (i = 0; i < kvm_arch_nr_memslot_as_ids(kvm); i++) {
		kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, i)) {
			/* They may be there, from a try that failed. */
			if (rcu_access_pointer(*counts_of(slot)))
				continue;
			r = create_counts(vm, slot);
			if (r)
				goto out_unlock;
		}
	}

	/* After all the pointers.  Pairs with write_track_enabled(). */
	smp_store_release(&kvm->arch.external_write_tracking_enabled, true);
	/* Whoever needs them may get no further. */
	write_track_disable_soon(kvm, HZ);

out_unlock:
	mutex_unlock(&kvm->slots_arch_lock);
	srcu_read_unlock(&kvm->srcu, idx);
	/* What there is of them is no use. */
	if (r)
		write_track_disable_soon(kvm, 0);
	return r;
}

/**
 * write_track_disable_soon - free the counts if nobody tracks anything any more
 * @kvm: the VM
 * @delay: until this is looked at, in jiffies
 *
 * Context: any.
 */
void write_track_disable_soon(struct kvm *kvm, unsigned long delay)
{
	struct write_track_vm *vm = find_vm(kvm);

	if (delay)
		queue_delayed_work(system_unbound_wq, &vm->disable, delay);
	else
		mod_delayed_work(system_unbound_wq, &vm->disable, 0);
}

/**
 * write_track_prepare - have counts, and what a page fault may need to track pages
 * @kvm: the VM
 *
 * Either may be gone when mmu_lock is taken: see write_track_ready().
 *
 * Context: as write_track_enable().
 * Return: 0 or -ENOMEM.
 */
int write_track_prepare(struct kvm *kvm)
{
	return write_track_enable(kvm) ?: write_track_fill_spares(kvm);
}

/**
 * write_track_fill_spares - allocate what a page fault may need to track pages
 * @kvm: the VM
 *
 * Context: may sleep.
 * Return: 0, also if there are no counts, or -ENOMEM.
 */
int write_track_fill_spares(struct kvm *kvm)
{
	int r;

	if (!write_track_enabled(kvm))
		return 0;

	/* Enough for two, so that several vCPUs seldom have to begin anew. */
	r = write_spares_fill(&find_vm(kvm)->spares, PT64_ROOT_MAX_LEVEL,
			      2 * PT64_ROOT_MAX_LEVEL);

	/* Others may have freed all of it meanwhile, but for these. */
	if (!write_track_enabled(kvm))
		write_track_disable_soon(kvm, HZ);
	return r;
}

/**
 * write_track_ready - can pages be tracked, as many as a page fault shadows at most?
 * @kvm: the VM
 *
 * The spare blocks are everybody's, and the counts go away with the last shadow page.  So
 * who wants to track pages looks once more when mmu_lock keeps others from changing this.
 *
 * Context: mmu_lock held for write.
 * Return: false if the caller has to drop mmu_lock, and do write_track_prepare() again.
 */
bool write_track_ready(struct kvm *kvm)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	return write_track_enabled(kvm) &&
	       write_spares_have(&find_vm(kvm)->spares, PT64_ROOT_MAX_LEVEL);
}

/**
 * write_track_create_memslot - a new memslot has counts if the others have
 * @kvm: the VM
 * @slot: the memslot, which nobody knows of yet
 *
 * Context: slots_arch_lock held, until the memslot is there or given up.
 * Return: 0, or -ENOMEM.
 */
int write_track_create_memslot(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	lockdep_assert_held(&kvm->slots_arch_lock);

	return write_track_enabled(kvm) ? create_counts(find_vm(kvm), slot) : 0;
}

/**
 * write_track_free_memslot - a memslot goes away
 * @slot: the memslot, which no reader finds any more
 *
 * Context: after the grace period of kvm->srcu that memslots are freed after.
 */
void write_track_free_memslot(struct kvm_memory_slot *slot)
{
	struct write_counts *counts = rcu_replace_pointer(*counts_of(slot), NULL, true);

	if (counts)
		write_counts_free(counts);
}

static struct write_counts *counts_to_change(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	struct write_counts *counts;

	lockdep_assert_held_write(&kvm->mmu_lock);

	counts = rcu_dereference_protected(*counts_of(slot), lockdep_is_held(&kvm->mmu_lock));
	/* The memslot is current, and was looked up after write_track_enabled(). */
	KVM_BUG_ON(!counts, kvm);
	return counts;
}

/**
 * write_track_add - track a page once more
 * @kvm: the VM
 * @slot: the memslot of @gfn, looked up since write_track_ready()
 * @gfn: the page
 *
 * Context: mmu_lock held for write since write_track_ready(); kvm->srcu or slots_lock held.
 * Return: as write_counts_add().
 */
int write_track_add(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn)
{
	struct write_counts *counts = counts_to_change(kvm, slot);

	return counts ? write_counts_add(counts, gfn - slot->base_gfn) : -EIO;
}

/**
 * write_track_remove - track a page once less
 * @kvm: the VM, whose memslots have counts
 * @slot: the memslot of @gfn
 * @gfn: the page
 *
 * Context: mmu_lock held for write; kvm->srcu or slots_lock held.
 * Return: as write_counts_remove().
 */
int write_track_remove(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn)
{
	struct write_counts *counts = counts_to_change(kvm, slot);

	return counts ? write_counts_remove(counts, gfn - slot->base_gfn) : -EIO;
}

/**
 * write_track_count - how often is a page tracked, by whomever?
 * @kvm: the VM, whose memslots have counts
 * @slot: the memslot of @gfn
 * @gfn: the page
 *
 * Context: mmu_lock held for write; kvm->srcu or slots_lock held.
 * Return: that, in the address space of @slot.
 */
unsigned int write_track_count(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn)
{
	struct write_counts *counts = counts_to_change(kvm, slot);

	return counts ? write_counts_test(counts, gfn - slot->base_gfn) : 0;
}

static __always_inline bool is_tracked(struct kvm *kvm, const struct kvm_memory_slot *slot,
				       gfn_t gfn)
{
	/* Pairs with the rcu_assign_pointer() in create_counts(). */
	const struct write_counts *counts = rcu_dereference(*counts_of(slot));

	if (unlikely(!counts)) {
		/*
		 * A memslot that was replaced, by one with other flags, before there were
		 * counts, does not have them.  The one that replaced it does, and is found
		 * now: it was there when write_track_enable() looked.
		 */
		slot = __gfn_to_memslot(__kvm_memslots(kvm, slot->as_id), gfn);
		if (!slot)
			return false;
		counts = rcu_dereference(*counts_of(slot));
	}
	return counts && write_counts_test(counts, gfn - slot->base_gfn);
}

/**
 * write_track_test - is a page tracked, in any address space?
 * @kvm: the VM, for which write_track_enabled() was true a moment ago
 * @slot: a memslot of @gfn, which may have been replaced since it was looked up
 * @gfn: the page
 *
 * Context: kvm->srcu or slots_lock held.  With mmu_lock held, for read or write, the answer
 * is true if the page was tracked before the lock was taken.
 */
bool write_track_test(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn)
{
	bool r;

	BUILD_BUG_ON(KVM_MAX_NR_ADDRESS_SPACES > 2);
	lockdep_assert_once(lockdep_is_held(&kvm->slots_lock) ||
			    srcu_read_lock_held(&kvm->srcu));

	rcu_read_lock();
	r = is_tracked(kvm, slot, gfn);
	if (!r && kvm_arch_nr_memslot_as_ids(kvm) > 1) {
		slot = __gfn_to_memslot(__kvm_memslots(kvm, slot->as_id ^ 1), gfn);
		r = slot && is_tracked(kvm, slot, gfn);
	}
	rcu_read_unlock();
	return r;
}

/**
 * write_track_bytes - how much memory is allocated to track writes
 * @kvm: the VM
 *
 * Context: any.
 * Return: bytes as the allocator counts them, without what waits for a grace period.
 */
unsigned long write_track_bytes(struct kvm *kvm)
{
	return atomic_long_read(&find_vm(kvm)->spares.bytes);
}
