/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __LINUX_KVM_AGE_H
#define __LINUX_KVM_AGE_H

#include <linux/mmu_notifier.h>
#include <linux/percpu.h>
#include <linux/types.h>

/* The kernel can ask about a whole page table, and the architecture can answer. */
#if defined(CONFIG_KVM_AGE_WITHOUT_LOCK) && defined(mmu_notifier_test_clear_young)
#define KVM_AGE_BITMAP
#endif

struct dentry;
struct kvm;
struct kvm_gfn_range;

/*
 * What aging did, since the module was loaded, for all VMs.  One set per CPU,
 * written once per range and not once per SPTE, and kept out of struct kvm, so
 * that modules built against an unmodified struct kvm still load.
 */
struct kvm_age_stats {
	/* Leaf SPTEs looked at. */
	unsigned long scanned;
	/* Of those, the ones that were young. */
	unsigned long young;
	/* Of the young ones, the ones made old.  Testing makes none old. */
	unsigned long aged;
	/* Of the young ones, the ones that changed meanwhile, and were left. */
	unsigned long lost;
	/* Ranges of one memslot, with at least one leaf SPTE, that were asked about. */
	unsigned long ranges;
};

/*
 * Which pages of a range of gfns are to be made old, and which were found young, as
 * in mmu_notifier_ops.test_clear_young(): the bits go down while the gfns go up.
 */
struct kvm_age_bitmap {
	const unsigned long *clear;
	unsigned long *young;
	/* The bit of the first gfn of the range. */
	unsigned long first;
};

DECLARE_PER_CPU(struct kvm_age_stats, kvm_age_stats);

bool kvm_age_hva_range(struct kvm *kvm, unsigned long start, unsigned long end);
bool kvm_test_age_hva_range(struct kvm *kvm, unsigned long start, unsigned long end);
void kvm_age_hva_bitmap(struct kvm *kvm, unsigned long start, unsigned long end,
			const unsigned long *clear, unsigned long *young);
void kvm_age_gfn_bitmap(struct kvm *kvm, struct kvm_gfn_range *range,
			const struct kvm_age_bitmap *bitmap);
struct kvm_age_stats kvm_age_stats_sum(void);
void kvm_age_create_debugfs(struct dentry *dir);

#endif
