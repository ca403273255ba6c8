/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * When there are counts of write-tracked pages: from the first tracker or shadow root on,
 * until there is none of either.
 */
#ifndef __KVM_X86_MMU_WRITE_TRACK_H
#define __KVM_X86_MMU_WRITE_TRACK_H

#include <linux/kvm_host.h>

int write_track_init(struct kvm *kvm);
void write_track_destroy(struct kvm *kvm);

int write_track_enable(struct kvm *kvm);
void write_track_disable_soon(struct kvm *kvm, unsigned long delay);

int write_track_fill_spares(struct kvm *kvm);
int write_track_prepare(struct kvm *kvm);
bool write_track_ready(struct kvm *kvm);

int write_track_create_memslot(struct kvm *kvm, struct kvm_memory_slot *slot);
void write_track_free_memslot(struct kvm_memory_slot *slot);

int write_track_add(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn);
int write_track_remove(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn);
unsigned int write_track_count(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn);
bool write_track_test(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn);

unsigned long write_track_bytes(struct kvm *kvm);

/**
 * write_track_enabled - are there counts?
 * @kvm: the VM
 *
 * Context: any.  With mmu_lock held for write, the answer does not become false.
 * Return: true if every memslot has counts, which are visible to the caller.
 */
static inline bool write_track_enabled(struct kvm *kvm)
{
	/*
	 * Read before the pointers to the counts, and the memslots that have them.  Pairs
	 * with the smp_store_release() in write_track_enable().
	 */
	return smp_load_acquire(&kvm->arch.external_write_tracking_enabled);
}

#endif
