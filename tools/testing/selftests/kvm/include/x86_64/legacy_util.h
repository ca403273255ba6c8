/* SPDX-License-Identifier: GPL-2.0-only */
/* Guests of 32 bits with paging, for tests of what shadows their page tables. */
#ifndef SELFTEST_KVM_LEGACY_UTIL_H
#define SELFTEST_KVM_LEGACY_UTIL_H

#include <stdint.h>

#include <linux/bits.h>

#include "kvm_util.h"
#include "processor.h"

/*
 * Add the vCPU of a VM, which begins at @rip, with flat segments, interrupts off, and paging
 * by the tables at @cr3, of the format that @cr4 says.
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
