/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_FAST_PAGE_FAULT_H
#define __KVM_X86_MMU_FAST_PAGE_FAULT_H

#include "mmu_internal.h"
#include "spte.h"

/*
 * The outcome of a page fault that KVM tries to handle without mmu_lock held for write.
 * FAST_PF_FIXED and FAST_PF_SPURIOUS are successes.  Every other value is the reason why the fault
 * takes the slow path.
 */
enum fast_pf {
	FAST_PF_FIXED,
	/* The SPTE allows the access by now, or did so all along. */
	FAST_PF_SPURIOUS,
	/* A reserved bit: an MMIO SPTE, of an old generation. */
	FAST_PF_MMIO,
	/* Private memory was accessed as shared, or shared memory as private. */
	FAST_PF_PRIVATE,
	/* There is no leaf SPTE, or, in an indirect MMU, aging took R, W and X from it. */
	FAST_PF_NOT_MAPPED,
	/* Not a write, and the SPTE lacks a right that only the slow path can give. */
	FAST_PF_NOT_WRITE,
	/*
	 * The SPTE is not MMU-writable, the guest's page tables do not allow the write, or the SPTE
	 * of an indirect shadow page lacks User as well.
	 */
	FAST_PF_READ_ONLY,
	/* In an indirect MMU, there is no memslot, or it is not logged: KVM does not try. */
	FAST_PF_NOT_LOGGED,
	/* A write to a huge page whose memslot is logged, which needs small ones. */
	FAST_PF_HUGE,
	/* The shadow page is unsync: the guest may have changed its page table without a fault. */
	FAST_PF_UNSYNC,
	/* The SPTE differs from the guest's page tables, or its shadow page is obsolete. */
	FAST_PF_STALE,
	/*
	 * The page may be a page table that KVM shadows, whose shadow page has to be unsync before
	 * the write.
	 */
	FAST_PF_SHADOWED,
	/* The cmpxchg failed too often, because the CPU or other tasks changed the SPTE. */
	FAST_PF_LOST,
	NR_FAST_PF
};

static inline bool fast_pf_is_slow(enum fast_pf outcome)
{
	return outcome > FAST_PF_SPURIOUS;
}

/*
 * Does the SPTE allow what the guest wanted?  Instruction fetches and writes are
 * mutually exclusive.
 */
static inline bool fast_pf_is_allowed(const struct kvm_page_fault *fault, u64 spte)
{
	if (fault->exec)
		return is_executable_pte(spte);

	if (fault->write)
		return is_writable_pte(spte);

	return spte & PT_PRESENT_MASK;
}

/**
 * fast_pf_prejudge - can a page fault be fast, by all that is known without its SPTE?
 * @fault: the fault
 * @ad_enabled: whether KVM uses A/D bits, kvm_ad_enabled()
 * @memory_is_private: whether the memory at the fault's gfn is private by now
 *
 * @memory_is_private may change at any time.  If the value is out of date, the guest faults again,
 * or the slow path reads the new value.  Check it before the SPTE: a fault on memory of the wrong
 * kind is not spurious, even if the SPTE allows the access.
 *
 * A fault on a non-present translation can be fast only without A/D bits: aging may have taken R, W
 * and X from the SPTE.
 *
 * Context: any.
 * Return: why the fault is slow, or FAST_PF_FIXED if that depends on the SPTE.
 */
static inline enum fast_pf fast_pf_prejudge(const struct kvm_page_fault *fault,
					    bool ad_enabled, bool memory_is_private)
{
	/* EPT misconfigurations do not set Present. */
	if (fault->rsvd)
		return FAST_PF_MMIO;
	if (fault->is_private != memory_is_private)
		return FAST_PF_PRIVATE;
	if (!fault->present)
		return ad_enabled ? FAST_PF_NOT_MAPPED : FAST_PF_FIXED;
	return fault->write ? FAST_PF_FIXED : FAST_PF_NOT_WRITE;
}

/**
 * fast_pf_decide - what to do with the SPTE that a page fault is about
 * @fault: the fault, which fast_pf_prejudge() has let pass
 * @spte: the SPTE, of any kind, as it was read once
 * @level: that of the page table it is in
 * @logged: whether dirty pages of the memslot are logged
 * @new_spte: set to the value to write, if the return value is FAST_PF_FIXED
 *
 * KVM restores only what it took away for a while: R and X, if access tracking took them, and W, if
 * access tracking or dirty logging took it and the SPTE is MMU-writable.  An SPTE that is not
 * MMU-writable must not become writable here.  KVM restores W of an access-tracked SPTE only on a
 * write fault, which it logs: dirty logging may have write-protected the SPTE after aging did.
 *
 * A huge page of a logged memslot is not made writable, as the log has a bit for each
 * small page and the fault is about one of them.
 *
 * Pure: looks at nothing but its arguments and the masks.
 * Return: FAST_PF_FIXED, and @new_spte, which the caller writes with a cmpxchg that expects @spte;
 * otherwise the outcome of the fault, and nothing to write.
 */
static inline enum fast_pf fast_pf_decide(const struct kvm_page_fault *fault, u64 spte,
					  int level, bool logged, u64 *new_spte)
{
	u64 new = spte;

	if (!is_shadow_present_pte(spte) || !is_last_spte(spte, level))
		return FAST_PF_NOT_MAPPED;

	/* A stale TLB entry, or another vCPU was faster. */
	if (fast_pf_is_allowed(fault, spte))
		return FAST_PF_SPURIOUS;

	if (is_access_track_spte(spte))
		new = restore_acc_track_spte(spte);

	if (fault->write) {
		if (!is_mmu_writable_spte(spte))
			return FAST_PF_READ_ONLY;
		if (level > PG_LEVEL_4K && logged)
			return FAST_PF_HUGE;
		new |= PT_WRITABLE_MASK;
	}

	if (!fast_pf_is_allowed(fault, new))
		return FAST_PF_NOT_WRITE;

	*new_spte = new;
	return FAST_PF_FIXED;
}

/* An SPTE of an indirect shadow page, as KVM sees it with mmu_lock held. */
struct fast_pf_shadow {
	/* The gfn that the SPTE maps, rounded down to @level. */
	gfn_t gfn;
	/* The level of its shadow page. */
	int level;
	/* What the guest's page tables allowed when it was made, ACC_*. */
	unsigned int access;
	/* The shadow page is about to go. */
	bool obsolete;
	/* The shadow page is unsync: the guest may write its page table without a fault. */
	bool unsync;
	/* It may map a page table that KVM shadows, in any address space. */
	bool maps_table;
};

/**
 * fast_pf_decide_indirect - whether that answer holds in an indirect shadow page
 * @fault: the fault; its gfn is what the guest's page tables were found to map
 * @spte: the SPTE, for which fast_pf_decide() returned FAST_PF_FIXED or FAST_PF_SPURIOUS
 * @shadow: what else there is to know of it
 * @gpte_access: what the guest's page tables were found to allow, ACC_*
 *
 * The fault walked the guest's page tables without mmu_lock, and an unsync shadow page may lag
 * behind them, so either may be out of date.  If both give the same gfn and rights, KVM may act on
 * them.  Otherwise the slow path decides.
 *
 * Pure, like fast_pf_decide().
 * Return: FAST_PF_FIXED if the answer of fast_pf_decide() stands; otherwise the reason why the
 * fault is slow.
 */
static inline enum fast_pf fast_pf_decide_indirect(const struct kvm_page_fault *fault, u64 spte,
						   const struct fast_pf_shadow *shadow,
						   unsigned int gpte_access)
{
	if (shadow->obsolete || shadow->access != gpte_access ||
	    shadow->gfn != gfn_round_for_level(fault->gfn, shadow->level))
		return FAST_PF_STALE;
	if (shadow->unsync)
		return FAST_PF_UNSYNC;
	if (!(shadow->access & ACC_WRITE_MASK))
		return FAST_PF_READ_ONLY;
	/*
	 * W is not all that is missing.  The SPTE lacks User as well; with EPT, User means R, and
	 * aging may have taken R after the fault.
	 */
	if (fault->user && (spte & shadow_user_mask) != shadow_user_mask)
		return FAST_PF_READ_ONLY;
	if (shadow->maps_table)
		return FAST_PF_SHADOWED;

	return FAST_PF_FIXED;
}

/* In mmu.c: the functions that keep page tables during a walk, and the walk of shadow pages. */
void walk_shadow_page_lockless_begin(struct kvm_vcpu *vcpu);
void walk_shadow_page_lockless_end(struct kvm_vcpu *vcpu);
u64 *kvm_shadow_last_sptep_lockless(struct kvm_vcpu *vcpu, gpa_t gpa, u64 *spte);

gfn_t kvm_mmu_page_get_gfn(struct kvm_mmu_page *sp, int index);
u32 kvm_mmu_page_get_access(struct kvm_mmu_page *sp, int index);
bool is_obsolete_sp(struct kvm *kvm, struct kvm_mmu_page *sp);
bool kvm_gfn_is_shadowed(struct kvm *kvm, gfn_t gfn);

void kvm_fault_wait_read_lock(struct kvm *kvm) __acquires(&kvm->mmu_lock);
void kvm_fault_wait_write_lock(struct kvm *kvm) __acquires(&kvm->mmu_lock);
u64 kvm_fault_waited_ns(void);

/*
 * Take mmu_lock for a page fault.  If that has to wait, KVM counts for how long.  A kernel with
 * lockdep does not try first: lockdep learns no lock order from a trylock.
 *
 * Context: as read_lock() and write_lock().
 */
static inline void kvm_fault_read_lock(struct kvm *kvm)
	__acquires(&kvm->mmu_lock)
{
	if (IS_ENABLED(CONFIG_PROVE_LOCKING) || unlikely(!read_trylock(&kvm->mmu_lock)))
		kvm_fault_wait_read_lock(kvm);
}

static inline void kvm_fault_write_lock(struct kvm *kvm)
	__acquires(&kvm->mmu_lock)
{
	if (IS_ENABLED(CONFIG_PROVE_LOCKING) || unlikely(!write_trylock(&kvm->mmu_lock)))
		kvm_fault_wait_write_lock(kvm);
}

int fast_page_fault(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
int fast_page_fault_indirect(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
			     unsigned int access);
void fast_pf_create_debugfs(struct dentry *dir);

#endif
