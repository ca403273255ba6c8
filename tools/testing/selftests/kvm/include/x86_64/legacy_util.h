/* SPDX-License-Identifier: GPL-2.0-only */
/* 32-bit guests with paging, for tests of how KVM shadows their page tables. */
#ifndef SELFTEST_KVM_LEGACY_UTIL_H
#define SELFTEST_KVM_LEGACY_UTIL_H

#include <stdint.h>

#include <linux/bits.h>

#include "kvm_util.h"
#include "processor.h"

/*
 * Add vCPU 0 to a VM.  It starts at @rip, with flat segments, interrupts off and paging on.
 * @cr3 points to its page tables, and @cr4 says which format they have.
 */
static inline struct kvm_vcpu *vcpu_add_legacy(struct kvm_vm *vm, uint32_t rip, uint32_t cr3,
					       uint32_t cr4)
{
	const struct kvm_segment code = {
		.limit = ~0U, .type = 0xb, .present = 1, .s = 1, .db = 1, .g = 1, .selector = 8,
	};
	const struct kvm_segment data = {
		.limit = ~0U, .type = 0x3, .present = 1, .s = 1, .db = 1, .g = 1, .selector = 16,
	};
	struct kvm_regs regs = { .rip = rip, .rflags = BIT(1) };
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	struct kvm_sregs sregs;

	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG;
	sregs.cr3 = cr3;
	sregs.cr4 = cr4;
	sregs.efer = 0;
	sregs.cs = code;
	sregs.ss = data;
	sregs.ds = data;
	sregs.es = data;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);

	return vcpu;
}

#endif
