// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the KUnit suites of the MMU, which are a module of their own, need of
 * kvm.ko and nobody else does.  Linked into kvm.ko only if the suites are built.
 */
#include <kunit/visibility.h>

#include <linux/atomic.h>
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/kvm_host.h>

#include "mmu.h"
#include "mmu/age_stats.h"
#include "mmu/mmu_internal.h"
#include "mmu/rmap.h"
#include "mmu/spte.h"
#include "mmu/tests/kunit_guard.h"

/*
 * Not next to the definitions, where checkpatch wants EXPORT_SYMBOL*(): the files
 * that have them need not know of the suites.
 */
#define EXPORT_TO_SUITES(symbol) EXPORT_SYMBOL_IF_KUNIT(symbol)

/* The VMs, or -1 during a case that changes what they rely on. */
static atomic_t nr_vms = ATOMIC_INIT(0);

int kvm_mmu_kunit_add_vm(void)
{
	/* Fully ordered: pairs with the release in kvm_mmu_kunit_end(). */
	return atomic_inc_unless_negative(&nr_vms) ? 0 : -EBUSY;
}

void kvm_mmu_kunit_remove_vm(void)
{
	/* Release: the VM's reads are done.  Pairs with the cmpxchg in kvm_mmu_kunit_begin(). */
	atomic_dec_return_release(&nr_vms);
}

int kvm_mmu_kunit_begin(void)
{
	/* Fully ordered: pairs with the release in kvm_mmu_kunit_remove_vm(). */
	return atomic_cmpxchg(&nr_vms, 0, -1) ? -EBUSY : 0;
}

void kvm_mmu_kunit_end(void)
{
	/* Release: the old values are restored.  Pairs with kvm_mmu_kunit_add_vm(). */
	atomic_set_release(&nr_vms, 0);
}

EXPORT_TO_SUITES(kvm_mmu_kunit_begin);
EXPORT_TO_SUITES(kvm_mmu_kunit_end);

EXPORT_TO_SUITES(shadow_host_writable_mask);
EXPORT_TO_SUITES(shadow_mmu_writable_mask);
EXPORT_TO_SUITES(shadow_nx_mask);
EXPORT_TO_SUITES(shadow_x_mask);
EXPORT_TO_SUITES(shadow_user_mask);
EXPORT_TO_SUITES(shadow_accessed_mask);
EXPORT_TO_SUITES(shadow_dirty_mask);
EXPORT_TO_SUITES(shadow_mmio_value);
EXPORT_TO_SUITES(shadow_mmio_mask);
EXPORT_TO_SUITES(shadow_mmio_access_mask);
EXPORT_TO_SUITES(shadow_present_mask);
EXPORT_TO_SUITES(shadow_memtype_mask);
EXPORT_TO_SUITES(shadow_me_value);
EXPORT_TO_SUITES(shadow_me_mask);
EXPORT_TO_SUITES(shadow_acc_track_mask);
EXPORT_TO_SUITES(shadow_young_ws_mask);
EXPORT_TO_SUITES(shadow_nonpresent_or_rsvd_mask);
EXPORT_TO_SUITES(shadow_nonpresent_or_rsvd_lower_gfn_mask);
EXPORT_TO_SUITES(kvm_mmu_reset_all_pte_masks);
EXPORT_TO_SUITES(nx_huge_pages);

EXPORT_TO_SUITES(mark_spte_for_access_track);
EXPORT_TO_SUITES(spte_has_volatile_bits);
EXPORT_TO_SUITES(make_huge_page_split_spte);
EXPORT_TO_SUITES(make_mmio_spte);
EXPORT_TO_SUITES(make_nonleaf_spte);

#ifdef CONFIG_X86_64
EXPORT_TO_SUITES(tdp_mmu_enabled);
#endif
EXPORT_TO_SUITES(kvm_age_gfn);
EXPORT_TO_SUITES(kvm_test_age_gfn);
EXPORT_TO_SUITES(kvm_age_gfn_bitmap);
EXPORT_TO_SUITES(kvm_age_hva_bitmap);
EXPORT_TO_SUITES(kvm_age_stats_sum);

EXPORT_TO_SUITES(pte_list_desc_cache);
EXPORT_TO_SUITES(pte_list_add);
EXPORT_TO_SUITES(pte_list_remove);
EXPORT_TO_SUITES(pte_list_detach);
EXPORT_TO_SUITES(pte_list_free);
EXPORT_TO_SUITES(pte_list_count);
EXPORT_TO_SUITES(kvm_mmu_slot_gfn_write_protect);
#ifdef CONFIG_DEBUG_LOCK_ALLOC
EXPORT_TO_SUITES(kvm_rmap_lock_map);
EXPORT_TO_SUITES(kvm_rmap_lock_held);
#endif
