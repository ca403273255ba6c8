/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Nested guests, for tests of KVM's shadow MMU.  L2 runs on a nested page table (NPT or
 * EPT) that L1 owns and that KVM shadows.  Without nested paging, L2 sees the memory that
 * L1 sees.
 *
 * L2 uses L1's own page tables (CR3).  The nested page tables map the first GiB of L1's
 * memory, and the test's memory, to the same addresses as in L1.  So L2 may do what L1
 * can do, ucalls included: these exit from L2 to the host.
 *
 * L1 and L2 share XMM and the like.  L1 may change them at any exit of L2, not only at an
 * l2_call().
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

/* The nested page tables.  Pointers to tables are virtual addresses of L1. */
struct l2_map {
	uint64_t root_gpa;
	/* The bits, besides the address, of an entry that maps a page. */
	uint64_t page_bits;
	/*
	 * The entries of the directory that map the test's memory, L2_ENTRIES pages
	 * each.  Unless huge, they point to leaf tables.  The leaf tables follow each
	 * other in @leaves, from the physical address @leaves_gpa on.
	 */
	uint64_t *directory;
	uint64_t *leaves;
	uint64_t leaves_gpa;
};

/* One vCPU's L2. */
struct l2 {
	/* The vendor of the CPU decides which of the two is used. */
	struct svm_test_data *svm;
	struct vmx_pages *vmx;
	uint64_t stack;
	/*
	 * rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15.  rsp is in the VMCB or VMCS.  rax is in
	 * the VMCB, or, with VMX, in @rax.
	 */
	uint64_t regs[14];
	uint64_t rax;
	/* Did VMLAUNCH or VMRESUME fail at the last l2_run()?  0 or 1. */
	uint64_t failed;
	bool launched;
	/* The last exit: its code, as the CPU gives it, and the address of an L2_FAULT. */
	uint64_t exit_code;
	uint64_t fault_gpa;
};

enum l2_exit {
	/* L2 called l2_call().  At the next l2_run(), L2 returns from there. */
	L2_CALL,
	/* The nested page tables do not allow an access.  At the next l2_run(), L2 tries again. */
	L2_FAULT,
	L2_OTHER,
};

/* NULL if KVM supports nested guests, with nested paging or without; else why not. */
const char *l2_supported(bool nested_paging);

/*
 * On the host, before the vCPUs run: build nested page tables that map @nr_pages
 * from @gpa on.  @gpa is aligned to 1 GiB, not 0, and below 512 GiB.  With @huge,
 * the pages are of 2 MiB.  Without, @spare_tables free tables follow the leaf tables.
 */
void l2_map_create(struct kvm_vm *vm, struct l2_map *map, uint64_t gpa,
		   uint64_t nr_pages, bool huge, uint64_t spare_tables);

/* On the host, before the vCPUs run: allocate what one vCPU needs for its L2. */
void l2_create(struct kvm_vm *vm, struct l2 *l2);

/*
 * In L1: have L2 begin at @code, with the argument @arg.  If @map is NULL, L2 has no nested
 * paging.
 */
void l2_init(struct l2 *l2, const struct l2_map *map, void (*code)(uint64_t), uint64_t arg);

/* In L1: enter L2, and return why L2 exited. */
enum l2_exit l2_run(struct l2 *l2);

/* In L1: l2_init(), and enter L2.  An exit of L2 to L1 fails the test. */
void l2_run_for_good(struct l2 *l2, const struct l2_map *map, void (*code)(uint64_t),
		     uint64_t arg);

/* In L1: have L2 go on with other nested page tables.  L2 was begun with some. */
void l2_set_map(struct l2 *l2, const struct l2_map *map);

/* In L1: flush L2's TLB, so that L2 sees the changed page tables when it runs next. */
void l2_flush(struct l2 *l2);

/* In L2: exit to L1. */
void l2_call(void);

#endif
