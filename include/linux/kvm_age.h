/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __LINUX_KVM_AGE_H
#define __LINUX_KVM_AGE_H

#include <linux/percpu.h>
#include <linux/types.h>

struct dentry;
struct kvm;

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
};

DECLARE_PER_CPU(struct kvm_age_stats, kvm_age_stats);

bool kvm_age_hva_range(struct kvm *kvm, unsigned long start, unsigned long end);
bool kvm_test_age_hva_range(struct kvm *kvm, unsigned long start, unsigned long end);
struct kvm_age_stats kvm_age_stats_sum(void);
void kvm_age_create_debugfs(struct dentry *dir);

#endif
