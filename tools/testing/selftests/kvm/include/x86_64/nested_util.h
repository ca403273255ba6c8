/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Nested guests with nested paging, for tests of KVM's shadow MMU: L2 runs on a
 * page table (NPT) that L1 owns, and that KVM shadows.
 *
 * L2 has L1's own page tables (CR3), and by the NPT the first GiB of L1's memory,
 * and the test's memory, as they are in L1.  So it may do what L1 can, ucalls
 * included: they exit from L2 to the host.
 */
#ifndef SELFTEST_KVM_NESTED_UTIL_H
#define SELFTEST_KVM_NESTED_UTIL_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm_util.h"
#include "svm_util.h"

#define NPT_PRESENT	BIT_ULL(0)
#define NPT_WRITABLE	BIT_ULL(1)
#define NPT_USER	BIT_ULL(2)
#define NPT_HUGE	BIT_ULL(7)
#define NPT_ALL		(NPT_PRESENT | NPT_WRITABLE | NPT_USER)
#define NPT_ENTRIES	512

/* The NPT.  Addresses of tables are L1's virtual ones. */
struct l2_map {
	uint64_t root_gpa;
	/* The test's memory: where it begins, and its pages of 4 KiB. */
	uint64_t gpa;
	uint64_t nr_pages;
	bool huge;
	/*
	 * The entries of the directory that map the test's memory, NPT_ENTRIES pages
	 * each.  Unless huge, they point to leaf tables, which follow each other in
	 * @leaves, and begin at the physical address @leaves_gpa.
	 */
	uint64_t *directory;
	uint64_t *leaves;
	uint64_t leaves_gpa;
};

/* One vCPU's L2. */
struct l2 {
	struct svm_test_data *svm;
	uint64_t stack;
	/* rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15; rax and rsp are in the VMCB. */
	uint64_t regs[14];
};

/* NULL if there can be such guests, else the reason why not. */
const char *l2_supported(void);

/*
 * On the host, before the vCPUs run: build the NPT, for @nr_pages from @gpa on,
 * which is aligned to 1 GiB and not beyond 512 GiB; with @huge, in pages of 2 MiB.
 * @spare_tables are left over behind the leaf tables.
 */
void l2_map_create(struct kvm_vm *vm, struct l2_map *map, uint64_t gpa,
		   uint64_t nr_pages, bool huge, uint64_t spare_tables);

/* On the host, before the vCPUs run: what a vCPU needs for its L2. */
void l2_create(struct kvm_vm *vm, struct l2 *l2);

/* In L1: L2 will begin at @code, with @arg as its argument. */
void l2_init(struct l2 *l2, const struct l2_map *map, void (*code)(uint64_t), uint64_t arg);

/* In L1: enter L2; returns the exit code of the #VMEXIT that ended that. */
uint64_t l2_run(struct l2 *l2);

#endif
