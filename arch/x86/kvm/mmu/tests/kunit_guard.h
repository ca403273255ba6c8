/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_TESTS_KUNIT_GUARD_H
#define __KVM_X86_MMU_TESTS_KUNIT_GUARD_H

/*
 * The KUnit suites change SPTE masks and tdp_mmu_enabled, on which VMs rely as long as
 * they exist: there are either VMs, or a case that changes them.
 */
#include <linux/kconfig.h>

#if IS_ENABLED(CONFIG_KVM_MMU_KUNIT_TEST)
/* Before a VM looks at any of these: 0, or -EBUSY while a case has changed them. */
int kvm_mmu_kunit_add_vm(void);
/* After the VM's last use. */
void kvm_mmu_kunit_remove_vm(void);

/* Before a case changes any of these: 0, or -EBUSY if there is a VM, or another case. */
int kvm_mmu_kunit_begin(void);
/* After the case has restored them. */
void kvm_mmu_kunit_end(void);
#else
static inline int kvm_mmu_kunit_add_vm(void)
{
	return 0;
}

static inline void kvm_mmu_kunit_remove_vm(void)
{
}
#endif

#endif
