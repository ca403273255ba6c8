// SPDX-License-Identifier: GPL-2.0-only
/* Nested guests, see nested_util.h. */
#include <string.h>

#include <linux/sizes.h>

#include "nested_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define L2_STACK_PAGES	2

/* Bit 1 is always set.  Bit 9 (IF) lets the host interrupt L2. */
#define L2_RFLAGS	(BIT(1) | BIT(9))

/* The memory type of a leaf entry of the EPT. */
#define EPT_WRITE_BACK	(6ULL << 3)

#define INVEPT_SINGLE	1

const char *l2_supported(bool nested_paging)
{
	if (host_cpu_is_intel) {
		if (!kvm_cpu_has(X86_FEATURE_VMX))
			return "KVM has no nested VMX";
		if (nested_paging && !kvm_cpu_has_ept())
			return "KVM has no nested EPT for nested VMX";
		return NULL;
	}

	if (!kvm_cpu_has(X86_FEATURE_SVM))
		return "KVM has no nested SVM";
	if (nested_paging && !kvm_cpu_has(X86_FEATURE_NPT))
		return "KVM has no nested paging for nested SVM";
	return NULL;
}

/* Allocate zeroed pages that follow each other in L1's virtual and physical memory. */
static uint64_t *alloc_tables(struct kvm_vm *vm, uint64_t nr, vm_vaddr_t *gva, uint64_t *gpa)
{
	uint64_t *hva;

	*gva = vm_vaddr_alloc_pages(vm, nr);
	*gpa = addr_gva2gpa(vm, *gva);
	hva = addr_gva2hva(vm, *gva);
	memset(hva, 0, nr * PAGE_SIZE);
	return hva;
}

void l2_map_create(struct kvm_vm *vm, struct l2_map *map, uint64_t gpa,
		   uint64_t nr_pages, bool huge, uint64_t spare_tables)
{
	uint64_t nr_directory = (nr_pages + L2_ENTRIES - 1) / L2_ENTRIES;
	uint64_t *root, *pointers, *low, *directory, *leaves;
	uint64_t pointers_gpa, low_gpa, directory_gpa, i;
	vm_vaddr_t gva;

	TEST_ASSERT(gpa && gpa % SZ_1G == 0 && gpa / SZ_1G < L2_ENTRIES &&
		    nr_pages <= SZ_1G / PAGE_SIZE, "Nested paging cannot map %lu pages at 0x%lx",
		    nr_pages, gpa);

	map->page_bits = L2_ALL | (host_cpu_is_intel ? EPT_WRITE_BACK : 0);

	root = alloc_tables(vm, 1, &gva, &map->root_gpa);
	pointers = alloc_tables(vm, 1, &gva, &pointers_gpa);
	low = alloc_tables(vm, 1, &gva, &low_gpa);
	directory = alloc_tables(vm, 1, &gva, &directory_gpa);
	map->directory = (uint64_t *)gva;

	root[0] = pointers_gpa | L2_ALL;
	pointers[0] = low_gpa | L2_ALL;
	pointers[gpa / SZ_1G] = directory_gpa | L2_ALL;

	for (i = 0; i < L2_ENTRIES; i++)
		low[i] = i * SZ_2M | map->page_bits | L2_HUGE;

	if (huge) {
		for (i = 0; i < nr_directory; i++)
			directory[i] = (gpa + i * SZ_2M) | map->page_bits | L2_HUGE;
		return;
	}

	leaves = alloc_tables(vm, nr_directory + spare_tables, &gva, &map->leaves_gpa);
	map->leaves = (uint64_t *)gva;
	for (i = 0; i < nr_directory; i++)
		directory[i] = (map->leaves_gpa + i * PAGE_SIZE) | L2_ALL;
	for (i = 0; i < nr_pages; i++)
		leaves[i] = (gpa + i * PAGE_SIZE) | map->page_bits;
}

void l2_create(struct kvm_vm *vm, struct l2 *l2)
{
	vm_vaddr_t gva;

	if (host_cpu_is_intel) {
		vcpu_alloc_vmx(vm, &gva);
		l2->vmx = (struct vmx_pages *)gva;
	} else {
		vcpu_alloc_svm(vm, &gva);
		l2->svm = (struct svm_test_data *)gva;
	}
	l2->stack = vm_vaddr_alloc_pages(vm, L2_STACK_PAGES) + L2_STACK_PAGES * PAGE_SIZE;
}

/*
 * A vCPU that waits for another one has to let the host interrupt it, so that the host
 * can run the other one.  On Bochs, the host cannot interrupt a guest that has interrupts
 * off.  L1 itself gets no interrupts.
 */
static void let_host_in(void)
{
	asm volatile ("sti");
}

void l2_init(struct l2 *l2, const struct l2_map *map, void (*code)(uint64_t), uint64_t arg)
{
	/* As after a call: aligned to 16 bytes, minus 8 for the return address. */
	void *rsp = (void *)(l2->stack - 8);
	struct vmcb *vmcb;

	let_host_in();

	memset(l2->regs, 0, sizeof(l2->regs));
	l2->regs[4] = arg;
	l2->rax = 0;
	l2->launched = false;

	if (host_cpu_is_intel) {
		GUEST_ASSERT(prepare_for_vmx_operation(l2->vmx));
		GUEST_ASSERT(load_vmcs(l2->vmx));
		l2->vmx->eptp_gpa = map ? map->root_gpa : 0;
		prepare_vmcs(l2->vmx, code, rsp);
		GUEST_ASSERT(!vmwrite(GUEST_RFLAGS, L2_RFLAGS));
		return;
	}

	vmcb = l2->svm->vmcb;
	generic_svm_setup(l2->svm, code, rsp);
	vmcb->save.rflags = L2_RFLAGS;
	if (map) {
		vmcb->control.nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
		vmcb->control.nested_cr3 = map->root_gpa;
	}
}

/*
 * Enter L2 and come back.  The code of svm_util.h and vmx.h does not do here: it keeps
 * L2's registers in globals, for one vCPU, or not at all.  While L2 runs, the address of
 * the registers is on top of the stack.
 *
 * SAVE_L1 skips the 128 bytes below the stack, as the compiler may use them.
 */
#define SAVE_L1				\
	"lea -128(%%rsp), %%rsp\n\t"	\
	"push %%rbp\n\t"		\
	"push %%rbx\n\t"		\
	"push %[regs]\n\t"

#define LOAD_L2				\
	"mov %[regs], %%r15\n\t"	\
	"mov 0x00(%%r15), %%rbx\n\t"	\
	"mov 0x08(%%r15), %%rcx\n\t"	\
	"mov 0x10(%%r15), %%rdx\n\t"	\
	"mov 0x18(%%r15), %%rsi\n\t"	\
	"mov 0x20(%%r15), %%rdi\n\t"	\
	"mov 0x28(%%r15), %%rbp\n\t"	\
	"mov 0x30(%%r15), %%r8\n\t"	\
	"mov 0x38(%%r15), %%r9\n\t"	\
	"mov 0x40(%%r15), %%r10\n\t"	\
	"mov 0x48(%%r15), %%r11\n\t"	\
	"mov 0x50(%%r15), %%r12\n\t"	\
	"mov 0x58(%%r15), %%r13\n\t"	\
	"mov 0x60(%%r15), %%r14\n\t"

/* SAVE_L2 leaves the address of the registers in r15. */
#define SAVE_L2				\
	"xchg %%r15, (%%rsp)\n\t"	\
	"mov %%rbx, 0x00(%%r15)\n\t"	\
	"mov %%rcx, 0x08(%%r15)\n\t"	\
	"mov %%rdx, 0x10(%%r15)\n\t"	\
	"mov %%rsi, 0x18(%%r15)\n\t"	\
	"mov %%rdi, 0x20(%%r15)\n\t"	\
	"mov %%rbp, 0x28(%%r15)\n\t"	\
	"mov %%r8,  0x30(%%r15)\n\t"	\
	"mov %%r9,  0x38(%%r15)\n\t"	\
	"mov %%r10, 0x40(%%r15)\n\t"	\
	"mov %%r11, 0x48(%%r15)\n\t"	\
	"mov %%r12, 0x50(%%r15)\n\t"	\
	"mov %%r13, 0x58(%%r15)\n\t"	\
	"mov %%r14, 0x60(%%r15)\n\t"	\
	"pop 0x68(%%r15)\n\t"

#define LOAD_L1				\
	"pop %%rbx\n\t"			\
	"pop %%rbp\n\t"			\
	"lea 128(%%rsp), %%rsp\n\t"

/* #VMEXIT restores L1's rax and rsp.  All other registers still hold L2's values. */
static void svm_run_l2(struct l2 *l2)
{
	uint64_t vmcb_gpa = l2->svm->vmcb_gpa;
	uint64_t *regs = l2->regs;

	asm volatile (SAVE_L1
		      "vmload %%rax\n\t"
		      LOAD_L2
		      "mov 0x68(%%r15), %%r15\n\t"
		      "vmrun %%rax\n\t"
		      "vmsave %%rax\n\t"
		      SAVE_L2
		      LOAD_L1
		      : [regs] "+D" (regs), "+a" (vmcb_gpa)
		      :
		      : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
			"r15", "memory", "cc");
}

/*
 * A VM exit restores L1's rsp, and turns interrupts off.  All other registers still hold L2's
 * values.
 */
static void vmx_run_l2(struct l2 *l2)
{
	uint64_t *regs = l2->regs;

	/* mov does not change the flags: the jne below uses those of cmpb. */
	asm volatile (SAVE_L1
		      "mov %[host_rsp], %%rax\n\t"
		      "vmwrite %%rsp, %%rax\n\t"
		      "mov %[host_rip], %%rax\n\t"
		      "lea 2f(%%rip), %%rbx\n\t"
		      "vmwrite %%rbx, %%rax\n\t"
		      "movq $0, %c[failed](%[regs])\n\t"
		      "cmpb $0, %c[launched](%[regs])\n\t"
		      LOAD_L2
		      "mov %c[rax](%%r15), %%rax\n\t"
		      "mov 0x68(%%r15), %%r15\n\t"
		      "jne 1f\n\t"
		      "vmlaunch\n\t"
		      "jmp 3f\n\t"
		      "1: vmresume\n\t"
		      "3: mov (%%rsp), %%r15\n\t"
		      "incq %c[failed](%%r15)\n\t"
		      "2:\n\t"
		      SAVE_L2
		      "mov %%rax, %c[rax](%%r15)\n\t"
		      LOAD_L1
		      : [regs] "+D" (regs)
		      : [host_rsp] "i" (HOST_RSP), [host_rip] "i" (HOST_RIP),
			[rax] "i" (offsetof(struct l2, rax) - offsetof(struct l2, regs)),
			[failed] "i" (offsetof(struct l2, failed) - offsetof(struct l2, regs)),
			[launched] "i" (offsetof(struct l2, launched) - offsetof(struct l2, regs))
		      : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13",
			"r14", "r15", "memory", "cc");

	let_host_in();
	GUEST_ASSERT(!l2->failed);
	l2->launched = true;
}

enum l2_exit l2_run(struct l2 *l2)
{
	struct vmcb *vmcb;

	if (host_cpu_is_intel) {
		vmx_run_l2(l2);
		l2->exit_code = vmreadz(VM_EXIT_REASON);
		switch (l2->exit_code) {
		case EXIT_REASON_VMCALL:
			vmwrite(GUEST_RIP, vmreadz(GUEST_RIP) + vmreadz(VM_EXIT_INSTRUCTION_LEN));
			return L2_CALL;
		case EXIT_REASON_EPT_VIOLATION:
			l2->fault_gpa = vmreadz(GUEST_PHYSICAL_ADDRESS);
			return L2_FAULT;
		}
		return L2_OTHER;
	}

	svm_run_l2(l2);
	vmcb = l2->svm->vmcb;
	l2->exit_code = vmcb->control.exit_code;
	/* One entry has done what l2_flush() asked for. */
	vmcb->control.tlb_ctl = TLB_CONTROL_DO_NOTHING;
	switch (l2->exit_code) {
	case SVM_EXIT_VMMCALL:
		vmcb->save.rip += 3;
		return L2_CALL;
	case SVM_EXIT_NPF:
		l2->fault_gpa = vmcb->control.exit_info_2;
		return L2_FAULT;
	}
	return L2_OTHER;
}

void l2_run_for_good(struct l2 *l2, const struct l2_map *map, void (*code)(uint64_t),
		     uint64_t arg)
{
	l2_init(l2, map, code, arg);
	l2_run(l2);
	GUEST_FAIL("L2 exited with 0x%lx", l2->exit_code);
}

void l2_set_map(struct l2 *l2, const struct l2_map *map)
{
	if (host_cpu_is_intel)
		GUEST_ASSERT(!vmwrite(EPT_POINTER, (vmreadz(EPT_POINTER) & (PAGE_SIZE - 1)) |
				      map->root_gpa));
	else
		l2->svm->vmcb->control.nested_cr3 = map->root_gpa;
	/* On AMD, L2 has one ASID, and so one TLB, for all nested page tables. */
	l2_flush(l2);
}

void l2_flush(struct l2 *l2)
{
	struct {
		uint64_t eptp;
		uint64_t reserved;
	} operand = {};
	bool failed;

	if (!host_cpu_is_intel) {
		l2->svm->vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
		return;
	}

	operand.eptp = vmreadz(EPT_POINTER);
	asm volatile ("invept %[operand], %[type]\n\t"
		      "setna %[failed]"
		      : [failed] "=qm" (failed)
		      : [operand] "m" (operand), [type] "r" ((uint64_t)INVEPT_SINGLE)
		      : "memory", "cc");
	GUEST_ASSERT(!failed);
}

void l2_call(void)
{
	if (host_cpu_is_intel)
		vmcall();
	else
		vmmcall();
}
