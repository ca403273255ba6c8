// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page faults that KVM fixes without mmu_lock held for write: the guest wrote to a page that KVM
 * write-protected for dirty logging, or used a page that aging took R, W and X from.
 * fast_page_fault.h decides what to do.  This file walks the page tables, and writes the SPTE.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/ktime.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/spinlock.h>

#include "fast_page_fault.h"
#include "mmu.h"
#include "mmu_internal.h"
#include "mmutrace.h"
#include "tdp_mmu.h"

/* After this many failed cmpxchgs, a fault takes the slow path. */
#define FAST_PF_TRIES	5

/*
 * How many page faults of all VMs had which outcome, since the module was loaded.  Kept out of
 * struct kvm and struct kvm_vcpu: larger ones would keep modules such as kvmgt.ko from loading.
 */
static DEFINE_PER_CPU(unsigned long [NR_FAST_PF], fast_pf_stats);
/* How long they waited for mmu_lock, those of nested guests included. */
static DEFINE_PER_CPU(u64, fault_waited_ns);

void kvm_fault_wait_read_lock(struct kvm *kvm)
	__acquires(&kvm->mmu_lock)
{
	const u64 begin = ktime_get_ns();

	read_lock(&kvm->mmu_lock);
	this_cpu_add(fault_waited_ns, ktime_get_ns() - begin);
}

void kvm_fault_wait_write_lock(struct kvm *kvm)
	__acquires(&kvm->mmu_lock)
{
	const u64 begin = ktime_get_ns();

	write_lock(&kvm->mmu_lock);
	this_cpu_add(fault_waited_ns, ktime_get_ns() - begin);
}

/*
 * How long all page faults have waited for mmu_lock, since the module was loaded.  On 32 bits, a
 * CPU that adds to it meanwhile may spoil the sum.
 */
u64 kvm_fault_waited_ns(void)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(fault_waited_ns, cpu));
	return sum;
}

/*
 * Write @new_spte, unless the SPTE has changed.  If the SPTE becomes writable, log the page.
 *
 * Do not set Dirty here.  That would spare the CPU a PML entry, but need a flush of the TLB.
 * A page may so be logged twice, which is harmless.
 *
 * The cmpxchg pairs with every other writer of a present leaf: with aging and clears of the log,
 * which change the SPTE in place, and with zaps.  It expects a present value, so it cannot thaw a
 * frozen SPTE.  If it succeeds, the SPTE maps the same page at the same gfn as when it was read:
 * the gfn of a direct MMU's SPTE never changes, and the host does not give the page away before KVM
 * has zapped the SPTE.  For an indirect shadow page, the caller holds mmu_lock, without which the
 * gfn of the SPTE does not change.
 */
static __always_inline bool fast_pf_fix(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
					u64 *sptep, u64 old_spte, u64 new_spte)
{
	if (!try_cmpxchg64(sptep, &old_spte, new_spte))
		return false;

	if (is_writable_pte(new_spte) && !is_writable_pte(old_spte))
		mark_page_dirty_in_slot(vcpu->kvm, fault->slot, fault->gfn);

	return true;
}

static __always_inline bool memory_is_private(struct kvm *kvm, struct kvm_page_fault *fault)
{
	/* A VM without private memory does not check: any fault matches. */
	if (!kvm->arch.has_private_mem)
		return fault->is_private;

	return kvm_mem_is_private(kvm, fault->gfn);
}

/*
 * fast_pf_decide() uses this for huge pages only.  There is no slot while KVM deletes the memslot,
 * though an SPTE may still be there.
 */
static __always_inline bool fast_pf_is_logged(struct kvm_page_fault *fault, int level)
{
	return level > PG_LEVEL_4K && fault->slot && kvm_slot_dirty_track_enabled(fault->slot);
}

static __always_inline int fast_pf_return(struct kvm_vcpu *vcpu, enum fast_pf outcome)
{
	this_cpu_inc(fast_pf_stats[outcome]);
	if (fast_pf_is_slow(outcome))
		return RET_PF_INVALID;

	vcpu->stat.pf_fast++;
	return outcome == FAST_PF_FIXED ? RET_PF_FIXED : RET_PF_SPURIOUS;
}

/* The walk of fast_page_fault().  The caller keeps the page tables. */
static __always_inline enum fast_pf fast_pf_direct(struct kvm_vcpu *vcpu,
						   struct kvm_page_fault *fault, bool tdp_mmu)
{
	u64 *sptep, spte = 0, new_spte;
	enum fast_pf outcome;
	int tries = 0, level;

	do {
		if (tdp_mmu)
			sptep = kvm_tdp_mmu_fast_pf_get_last_sptep(vcpu, fault->gfn, &spte);
		else
			sptep = kvm_shadow_last_sptep_lockless(vcpu, fault->addr, &spte);

		/* The vCPU has a reference to the root, so there is an SPTE. */
		outcome = FAST_PF_NOT_MAPPED;
		if (WARN_ON_ONCE(!sptep))
			break;

		level = sptep_to_sp(sptep)->role.level;
		outcome = fast_pf_decide(fault, spte, level, fast_pf_is_logged(fault, level),
					 &new_spte);
		if (outcome != FAST_PF_FIXED ||
		    fast_pf_fix(vcpu, fault, sptep, spte, new_spte))
			break;

		outcome = FAST_PF_LOST;
	} while (++tries < FAST_PF_TRIES);

	trace_fast_page_fault(vcpu, fault, sptep, spte, outcome);

	return outcome;
}

/**
 * fast_page_fault - fix a page fault without mmu_lock, if it can be
 * @vcpu: the vCPU that faulted, whose MMU is a direct one
 * @fault: the fault; its gfn and slot are those of the faulting address
 *
 * Context: vCPU ioctl, kvm->srcu held for read, mmu_lock not held.
 * Return: RET_PF_FIXED, RET_PF_SPURIOUS, or RET_PF_INVALID if mmu_lock is needed.
 */
int fast_page_fault(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	enum fast_pf outcome;

	outcome = fast_pf_prejudge(fault, kvm_ad_enabled(), memory_is_private(vcpu->kvm, fault));
	if (outcome != FAST_PF_FIXED)
		return fast_pf_return(vcpu, outcome);

	/* A direct MMU is the TDP MMU's, if that is enabled. */
	if (tdp_mmu_enabled) {
		kvm_tdp_mmu_walk_lockless_begin();
		outcome = fast_pf_direct(vcpu, fault, true);
		kvm_tdp_mmu_walk_lockless_end();
	} else {
		walk_shadow_page_lockless_begin(vcpu);
		outcome = fast_pf_direct(vcpu, fault, false);
		walk_shadow_page_lockless_end(vcpu);
	}

	return fast_pf_return(vcpu, outcome);
}

/**
 * fast_page_fault_indirect - fix a write-protection fault on an indirect shadow page's SPTE
 * @vcpu: the vCPU that faulted, whose page tables, or whose L2's, KVM shadows
 * @fault: the fault; its gfn and slot are those that the guest's page tables give
 * @access: the access that the guest's page tables allow, ACC_*
 *
 * Takes mmu_lock for read.  KVM changes the gfn and the rights of an indirect shadow page's
 * SPTE with mmu_lock held for write.  Without the lock, the cmpxchg could succeed on an SPTE
 * that has the same value again and maps another gfn, and KVM would log the write for the
 * wrong page.  It still is a cmpxchg, because aging, and other holders of the lock for read,
 * write the SPTE.
 *
 * Context: vCPU ioctl, kvm->srcu held for read, mmu_lock not held.
 * Return: RET_PF_FIXED, RET_PF_SPURIOUS, or RET_PF_INVALID if mmu_lock is needed for
 * write.
 */
int fast_page_fault_indirect(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
			     unsigned int access)
{
	struct kvm *kvm = vcpu->kvm;
	u64 *sptep, spte = 0, new_spte;
	enum fast_pf outcome, reason;
	struct fast_pf_shadow shadow;
	struct kvm_mmu_page *sp;
	int tries = 0;

	/*
	 * Pass true for A/D bits: leave every fault on a non-present translation to the slow path,
	 * even one on an aged SPTE, because the guest's page tables may have to be shadowed first.
	 */
	outcome = fast_pf_prejudge(fault, true, memory_is_private(kvm, fault));
	/*
	 * Clears of the log take W from SPTEs that the guest's page tables allow to be written.
	 * Without a log, W is missing for another reason, but for the first write after logging
	 * has ended, and the slow path would do the same walk again.
	 */
	if (outcome == FAST_PF_FIXED &&
	    !(fault->slot && kvm_slot_dirty_track_enabled(fault->slot)))
		outcome = FAST_PF_NOT_LOGGED;
	/* The slow path may allow a write that the guest's tables do not, if CR0.WP is 0. */
	if (outcome == FAST_PF_FIXED && !(access & ACC_WRITE_MASK))
		outcome = FAST_PF_READ_ONLY;
	if (outcome != FAST_PF_FIXED)
		return fast_pf_return(vcpu, outcome);

	kvm_fault_read_lock(kvm);

	do {
		outcome = FAST_PF_NOT_MAPPED;
		sptep = kvm_shadow_last_sptep_lockless(vcpu, fault->addr, &spte);
		/*
		 * An SPTE that is not present may be in the dummy root, which has no shadow page:
		 * an async page fault is handled again after a memslot with the root has gone and
		 * come back.
		 */
		if (!sptep || !is_shadow_present_pte(spte))
			break;

		sp = sptep_to_sp(sptep);
		outcome = fast_pf_decide(fault, spte, sp->role.level,
					 fast_pf_is_logged(fault, sp->role.level), &new_spte);
		if (fast_pf_is_slow(outcome))
			break;

		shadow.gfn = kvm_mmu_page_get_gfn(sp, spte_index(sptep));
		shadow.level = sp->role.level;
		shadow.access = kvm_mmu_page_get_access(sp, spte_index(sptep));
		shadow.obsolete = is_obsolete_sp(kvm, sp);
		/*
		 * A fault of the TDP MMU, with mmu_lock held for read, may set unsync
		 * meanwhile.  That is fine: the guest has not yet written the page
		 * table, which was write-protected until then.  Pairs with the
		 * WRITE_ONCE() of kvm_unsync_page().
		 */
		shadow.unsync = READ_ONCE(sp->unsync);
		/*
		 * Any gfn of a huge page may be a page table that KVM shadows, but
		 * kvm_gfn_is_shadowed() checks a single gfn.  So treat every huge page as one.
		 */
		shadow.maps_table = outcome == FAST_PF_FIXED &&
				    (shadow.level > PG_LEVEL_4K ||
				     kvm_gfn_is_shadowed(kvm, fault->gfn));
		reason = fast_pf_decide_indirect(fault, spte, &shadow, access);
		if (reason != FAST_PF_FIXED)
			outcome = reason;
		if (outcome != FAST_PF_FIXED ||
		    fast_pf_fix(vcpu, fault, sptep, spte, new_spte))
			break;

		outcome = FAST_PF_LOST;
	} while (++tries < FAST_PF_TRIES);

	trace_fast_page_fault(vcpu, fault, sptep, spte, outcome);
	read_unlock(&kvm->mmu_lock);

	return fast_pf_return(vcpu, outcome);
}

static int fast_pf_stats_show(struct seq_file *m, void *unused)
{
	static const char * const names[NR_FAST_PF] = {
		[FAST_PF_FIXED] = "fixed",
		[FAST_PF_SPURIOUS] = "spurious",
		[FAST_PF_MMIO] = "mmio",
		[FAST_PF_PRIVATE] = "private",
		[FAST_PF_NOT_MAPPED] = "not_mapped",
		[FAST_PF_NOT_WRITE] = "not_write",
		[FAST_PF_READ_ONLY] = "read_only",
		[FAST_PF_NOT_LOGGED] = "not_logged",
		[FAST_PF_HUGE] = "huge",
		[FAST_PF_UNSYNC] = "unsync",
		[FAST_PF_STALE] = "stale",
		[FAST_PF_SHADOWED] = "shadowed",
		[FAST_PF_LOST] = "lost",
	};
	enum fast_pf outcome;
	int cpu;

	for (outcome = 0; outcome < NR_FAST_PF; outcome++) {
		unsigned long sum = 0;

		for_each_possible_cpu(cpu)
			sum += READ_ONCE(per_cpu(fast_pf_stats, cpu)[outcome]);
		seq_printf(m, "%s %lu\n", names[outcome], sum);
	}
	seq_printf(m, "waited_ns %llu\n", kvm_fault_waited_ns());
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(fast_pf_stats);

/**
 * fast_pf_create_debugfs - create the file that shows what became of page faults
 * @dir: KVM's debugfs directory; removing it removes the file
 *
 * Context: may sleep.  Errors are ignored, as debugfs asks its users to do.
 */
void fast_pf_create_debugfs(struct dentry *dir)
{
	debugfs_create_file("fast_page_fault", 0444, dir, NULL, &fast_pf_stats_fops);
}
