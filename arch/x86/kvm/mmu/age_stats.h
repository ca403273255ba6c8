/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_AGE_STATS_H
#define __KVM_X86_MMU_AGE_STATS_H

#include <linux/percpu.h>

struct dentry;

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
	/* Of the young ones, the ones whose cmpxchg failed, and that stayed as they were. */
	unsigned long lost;
	/* Ranges of one memslot, with at least one leaf SPTE, that were asked about. */
	unsigned long ranges;
};

DECLARE_PER_CPU(struct kvm_age_stats, kvm_age_stats);

struct kvm_age_stats kvm_age_stats_sum(void);
void kvm_age_create_debugfs(struct dentry *dir);

#endif
