/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Nested guests, for tests of KVM's shadow MMU: L2 runs on a page table (NPT or EPT)
 * that L1 owns, and that KVM shadows; or without one, on the memory that L1 sees.
 *
 * L2 has L1's own page tables (CR3), and by the nested ones the first GiB of L1's
 * memory, and the test's memory, as they are in L1.  So it may do what L1 can,
 * ucalls included: they exit from L2 to the host.  Of the registers, XMM and the
 * like are not kept apart: L1 may change them when L2 did not call it.
 */
#ifndef SELFTEST_KVM_NESTED_UTIL_H
#define SELFTEST_KVM_NESTED_UTIL_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm_util.h"
#include "svm_util.h"
#include "vmx.h"

/*
 * Bits of an entry: present, writable and user in the NPT; readable, writable and
 * executable in the EPT.
 */
#define L2_WRITABLE	BIT_ULL(1)
#define L2_ALL		(BIT_ULL(0) | L2_WRITABLE | BIT_ULL(2))
#define L2_HUGE		BIT_ULL(7)
#define L2_ENTRIES	512

/* The nested page tables.  Addresses of tables are L1's virtual ones. */
struct l2_map {
	uint64_t root_gpa;
	/* What an entry that maps a page has besides its address. */
	uint64_t page_bits;
	/*
	 * The entries of the directory that map the test's memory, L2_ENTRIES pages
	 * each.  Unless huge, they point to leaf tables, which follow each other in
	 * @leaves, and begin at the physical address @leaves_gpa.
	 */
	uint64_t *directory;
	uint64_t *leaves;
	uint64_t leaves_gpa;
};

/* One vCPU's L2. */
struct l2 {
	/* One of the two, by the vendor of the CPU. */
	struct svm_test_data *svm;
	struct vmx_pages *vmx;
	uint64_t stack;
	/*
	 * rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15; rsp is in the VMCB or VMCS, and
	 * rax in the VMCB, or here.
	 */
	uint64_t regs[14];
	uint64_t rax;
	/* How often VMLAUNCH or VMRESUME failed, at the last l2_run(). */
	uint64_t failed;
	bool launched;
	/* Of the last exit: as the CPU calls it, and the address of an L2_FAULT. */
	uint64_t exit_code;
	uint64_t fault_gpa;
};

enum l2_exit {
	/* L2 called l2_call(), and will go on behind it. */
	L2_CALL,
	/* The nested page tables do not allow what L2 did; it will try again. */
	L2_FAULT,
	L2_OTHER,
};

/* NULL if there can be such guests, with nested paging or without, else the reason why not. */
const char *l2_supported(bool nested_paging);

/*
 * On the host, before the vCPUs run: build the page tables, for @nr_pages from
 * @gpa on, which is aligned to 1 GiB and not beyond 512 GiB; with @huge, in pages
 * of 2 MiB.  Else, @spare_tables are left over behind the leaf tables.
 */
void l2_map_create(struct kvm_vm *vm, struct l2_map *map, uint64_t gpa,
		   uint64_t nr_pages, bool huge, uint64_t spare_tables);

/* On the host, before the vCPUs run: what a vCPU needs for its L2. */
void l2_create(struct kvm_vm *vm, struct l2 *l2);

/*
 * In L1: L2 will begin at @code, with @arg as its argument; without nested paging if
 * @map is NULL.
 */
void l2_init(struct l2 *l2, const struct l2_map *map, void (*code)(uint64_t), uint64_t arg);

/* In L1: enter L2, and say why it came back. */
enum l2_exit l2_run(struct l2 *l2);

/* In L1: l2_init(), and enter L2, which fails the test if it comes back. */
void l2_run_for_good(struct l2 *l2, const struct l2_map *map, void (*code)(uint64_t),
		     uint64_t arg);

/* In L1: L2 is to see what has changed in the page tables, when it runs next. */
void l2_flush(struct l2 *l2);

/* In L2: let L1 in. */
void l2_call(void);

#endif
