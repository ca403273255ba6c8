// SPDX-License-Identifier: GPL-2.0-only
/* Nested guests with nested paging, see nested_util.h. */
#include <string.h>

#include <linux/sizes.h>

#include "nested_util.h"
#include "processor.h"
#include "test_util.h"

#define L2_STACK_PAGES	2

const char *l2_supported(void)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM))
		return "KVM has no nested SVM";
	if (!kvm_cpu_has(X86_FEATURE_NPT))
		return "KVM has no nested paging for nested SVM";
	return NULL;
}

/* Zeroed pages that follow each other in L1's virtual and physical memory. */
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
	uint64_t nr_leaves = (nr_pages + NPT_ENTRIES - 1) / NPT_ENTRIES;
	uint64_t *root, *pointers, *low, *directory, *leaves;
	uint64_t pointers_gpa, low_gpa, directory_gpa, i;
	vm_vaddr_t gva;

	TEST_ASSERT(gpa && gpa % SZ_1G == 0 && gpa / SZ_1G < NPT_ENTRIES &&
		    nr_pages <= SZ_1G / PAGE_SIZE, "The NPT cannot map %lu pages at 0x%lx",
		    nr_pages, gpa);

	map->gpa = gpa;
	map->nr_pages = nr_pages;
	map->huge = huge;

	root = alloc_tables(vm, 1, &gva, &map->root_gpa);
	pointers = alloc_tables(vm, 1, &gva, &pointers_gpa);
	low = alloc_tables(vm, 1, &gva, &low_gpa);
	directory = alloc_tables(vm, 1, &gva, &directory_gpa);
	map->directory = (uint64_t *)gva;
	leaves = alloc_tables(vm, nr_leaves + spare_tables, &gva, &map->leaves_gpa);
	map->leaves = (uint64_t *)gva;

	root[0] = pointers_gpa | NPT_ALL;
	pointers[0] = low_gpa | NPT_ALL;
	pointers[gpa / SZ_1G] = directory_gpa | NPT_ALL;

	for (i = 0; i < NPT_ENTRIES; i++)
		low[i] = i * SZ_2M | NPT_ALL | NPT_HUGE;

	for (i = 0; i < nr_leaves; i++)
		directory[i] = huge ? (gpa + i * SZ_2M) | NPT_ALL | NPT_HUGE :
				      (map->leaves_gpa + i * PAGE_SIZE) | NPT_ALL;

	for (i = 0; i < nr_pages; i++)
		leaves[i] = (gpa + i * PAGE_SIZE) | NPT_ALL;
}

void l2_create(struct kvm_vm *vm, struct l2 *l2)
{
	vm_vaddr_t svm_gva;

	vcpu_alloc_svm(vm, &svm_gva);
	l2->svm = (struct svm_test_data *)svm_gva;
	l2->stack = vm_vaddr_alloc_pages(vm, L2_STACK_PAGES) + L2_STACK_PAGES * PAGE_SIZE;
}

void l2_init(struct l2 *l2, const struct l2_map *map, void (*code)(uint64_t), uint64_t arg)
{
	struct vmcb *vmcb = l2->svm->vmcb;

	/* As after a call: aligned to 16 but for the return address. */
	generic_svm_setup(l2->svm, code, (void *)(l2->stack - 8));
	vmcb->save.rflags = 2;
	vmcb->control.nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	vmcb->control.nested_cr3 = map->root_gpa;
	memset(l2->regs, 0, sizeof(l2->regs));
	l2->regs[4] = arg;
}

/*
 * Not run_guest(), which keeps L2's registers in globals, for one vCPU.  #VMEXIT
 * gives back L1's rax and rsp; all else is L2's then.
 */
uint64_t l2_run(struct l2 *l2)
{
	uint64_t vmcb_gpa = l2->svm->vmcb_gpa;
	uint64_t *regs = l2->regs;

	/* The compiler may use the 128 bytes below the stack. */
	asm volatile ("lea -128(%%rsp), %%rsp\n\t"
		      "push %%rbp\n\t"
		      "push %%rbx\n\t"
		      "push %[regs]\n\t"
		      "vmload %%rax\n\t"
		      "mov %[regs], %%r15\n\t"
		      "mov 0x00(%%r15), %%rbx\n\t"
		      "mov 0x08(%%r15), %%rcx\n\t"
		      "mov 0x10(%%r15), %%rdx\n\t"
		      "mov 0x18(%%r15), %%rsi\n\t"
		      "mov 0x20(%%r15), %%rdi\n\t"
		      "mov 0x28(%%r15), %%rbp\n\t"
		      "mov 0x30(%%r15), %%r8\n\t"
		      "mov 0x38(%%r15), %%r9\n\t"
		      "mov 0x40(%%r15), %%r10\n\t"
		      "mov 0x48(%%r15), %%r11\n\t"
		      "mov 0x50(%%r15), %%r12\n\t"
		      "mov 0x58(%%r15), %%r13\n\t"
		      "mov 0x60(%%r15), %%r14\n\t"
		      "mov 0x68(%%r15), %%r15\n\t"
		      "vmrun %%rax\n\t"
		      "vmsave %%rax\n\t"
		      "xchg %%r15, (%%rsp)\n\t"
		      "mov %%rbx, 0x00(%%r15)\n\t"
		      "mov %%rcx, 0x08(%%r15)\n\t"
		      "mov %%rdx, 0x10(%%r15)\n\t"
		      "mov %%rsi, 0x18(%%r15)\n\t"
		      "mov %%rdi, 0x20(%%r15)\n\t"
		      "mov %%rbp, 0x28(%%r15)\n\t"
		      "mov %%r8,  0x30(%%r15)\n\t"
		      "mov %%r9,  0x38(%%r15)\n\t"
		      "mov %%r10, 0x40(%%r15)\n\t"
		      "mov %%r11, 0x48(%%r15)\n\t"
		      "mov %%r12, 0x50(%%r15)\n\t"
		      "mov %%r13, 0x58(%%r15)\n\t"
		      "mov %%r14, 0x60(%%r15)\n\t"
		      "pop 0x68(%%r15)\n\t"
		      "pop %%rbx\n\t"
		      "pop %%rbp\n\t"
		      "lea 128(%%rsp), %%rsp\n\t"
		      : [regs] "+D" (regs), "+a" (vmcb_gpa)
		      :
		      : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
			"r15", "memory", "cc");

	return l2->svm->vmcb->control.exit_code;
}
