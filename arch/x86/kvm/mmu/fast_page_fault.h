/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_FAST_PAGE_FAULT_H
#define __KVM_X86_MMU_FAST_PAGE_FAULT_H

#include "mmu_internal.h"
#include "spte.h"

/*
 * What becomes of a page fault that is looked at without mmu_lock held for write: the
 * SPTE is fixed, or need not be.  All else is why the fault takes the slow way.
 */
enum fast_pf {
	FAST_PF_FIXED,
	/* The SPTE allows the access by now, or did so all along. */
	FAST_PF_SPURIOUS,
	/* A reserved bit: an MMIO SPTE, of an old generation. */
	FAST_PF_MMIO,
	/* Private memory was accessed as shared, or shared memory as private. */
	FAST_PF_PRIVATE,
	/* There is no leaf SPTE. */
	FAST_PF_NOT_MAPPED,
	/* Not a write to what is mapped: it would take rights that the slow way gives. */
	FAST_PF_NOT_WRITE,
	/* A write where the host, the guest or the MMU does not allow any. */
	FAST_PF_READ_ONLY,
	/* A write to a huge page whose memslot is logged, which needs small ones. */
	FAST_PF_HUGE,
	/* The SPTE is in a page that follows the guest's page table with a delay. */
	FAST_PF_UNSYNC,
	/* The SPTE maps what the guest's page tables said before, or is about to go. */
	FAST_PF_STALE,
	/* A write to what may be a page table that is shadowed, and has to be unsync first. */
	FAST_PF_SHADOWED,
	/* The SPTE was changed by others again and again. */
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
 * @memory_is_private may change at any time.  If it is old, the guest faults again, or
 * the slow way finds the new value.  It is looked at before the SPTE, because an SPTE
 * that allows the access does not make a fault on memory of the wrong kind spurious.
 *
 * A fault on what is not present at all is of interest only if it may come from access
 * tracking, which takes R, W and X away: without A/D bits.
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
 * @new_spte: what to write, if that is what to do
 *
 * Only what KVM took away for a while is given back: R and X that access tracking took,
 * and W that it or dirty logging took, if the SPTE is MMU-writable.  If it is not, the
 * write may be one that must not happen.  W of an access-tracked SPTE comes back with a
 * write only, which is logged, as the SPTE may have been write-protected meanwhile.
 *
 * A huge page of a logged memslot is not made writable, as the log has a bit for each
 * small page and the fault is about one of them.
 *
 * Pure: looks at nothing but its arguments and the masks.
 * Return: FAST_PF_FIXED with @new_spte set, to be written by a cmpxchg that expects
 * @spte; else what the outcome is without.
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
	/* What it maps, rounded to its level. */
	gfn_t gfn;
	/* That of the shadow page that it is in. */
	int level;
	/* What the guest's page tables allowed when it was made, ACC_*. */
	unsigned int access;
	/* The shadow page is about to go. */
	bool obsolete;
	/* The guest may write the page table behind it without KVM's knowing. */
	bool unsync;
	/* It may map a page table that is shadowed, in whichever address space. */
	bool maps_table;
};

/**
 * fast_pf_decide_indirect - whether that answer holds in an indirect shadow page
 * @fault: the fault; its gfn is what the guest's page tables were found to map
 * @spte: the SPTE, of which fast_pf_decide() has said that it can be fixed, or need not
 * @shadow: what else there is to know of it
 * @gpte_access: what the guest's page tables were found to allow, ACC_*
 *
 * The guest's page tables were read without mmu_lock, so what they say may be old, and
 * what the SPTE says may be too, if it is in an unsync page.  Where both say the same,
 * it is what the guest may rely on.  Else the slow way finds out.
 *
 * Pure, like fast_pf_decide().
 * Return: FAST_PF_FIXED if the SPTE may get what it lacks, or need not; else why not.
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
	/* More than W is missing: with EPT, this is R, which aging has taken. */
	if (fault->user && (spte & shadow_user_mask) != shadow_user_mask)
		return FAST_PF_READ_ONLY;
	if (shadow->maps_table)
		return FAST_PF_SHADOWED;

	return FAST_PF_FIXED;
}

/* Of mmu.c: what keeps the page tables that are walked, and the walk of shadow pages. */
void walk_shadow_page_lockless_begin(struct kvm_vcpu *vcpu);
void walk_shadow_page_lockless_end(struct kvm_vcpu *vcpu);
u64 *kvm_shadow_last_sptep_lockless(struct kvm_vcpu *vcpu, gpa_t gpa, u64 *spte);

gfn_t kvm_mmu_page_get_gfn(struct kvm_mmu_page *sp, int index);
u32 kvm_mmu_page_get_access(struct kvm_mmu_page *sp, int index);
bool is_obsolete_sp(struct kvm *kvm, struct kvm_mmu_page *sp);
bool kvm_gfn_is_shadowed(struct kvm *kvm, gfn_t gfn);

int fast_page_fault(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
int fast_page_fault_indirect(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
			     unsigned int access);
void fast_pf_create_debugfs(struct dentry *dir);

#endif
