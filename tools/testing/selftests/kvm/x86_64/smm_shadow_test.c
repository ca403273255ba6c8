// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does the guest see what SMM wrote to its page tables, while dirty pages are logged?
 *
 * With npt=0 or ept=0, KVM shadows the page tables of the guest and of its SMM handler.  The
 * handler has memslots of its own for the same memory.  When KVM shadows one of the guest's, it
 * write-protects the table in the guest's memslots only.  KVM makes an SPTE that maps the table
 * in SMM's memslots writable after it has marked the shadow page unsync.  When userspace clears
 * the log, KVM takes W from that SPTE.  Before KVM sets W again, it has to mark the shadow page
 * unsync again.
 *
 * The handler turns on paging, because faults in real mode take another path.
 */
#include <linux/bitmap.h>
#include <linux/sizes.h>

#include "kvm_util.h"
#include "legacy_util.h"
#include "processor.h"
#include "test_util.h"

/*
 * The guest and SMM see NR_PAGES, from 0 to the end of SMRAM.  SMM_SLOT is SMM's memslot for
 * this memory.
 */
#define NR_PAGES	64
#define SMM_SLOT	(BIT(16) | 0)

#define CODE		0x1000
#define DIRECTORY	0x2000
#define TABLE		0x3000
#define SMM_DIRECTORY	0x4000
#define PAGES		0x5000
#define SMM_CODE	0x38000
/* At least the length of the code of each. */
#define CODE_SIZE	128

/* The page table maps this address to one of two pages, which hold FIRST_VALUE and the next. */
#define TEST_GVA	0x400000
#define FIRST_VALUE	0x1000

#define PORT		0x80

#define ROUNDS		4

/* Over and over, the guest flushes a page from the TLB, reads it, and tells the host. */
static __attribute__((naked)) void guest(void)
{
	asm volatile (".code32\n"
		      "1: invlpg " __stringify(TEST_GVA) "\n"
		      "mov " __stringify(TEST_GVA) ", %eax\n"
		      "out %eax, $" __stringify(PORT) "\n"
		      "jmp 1b\n"
		      ".code64\n");
}

/* SMM turns on paging, with all memory at its own address, and writes the page table's entry. */
static __attribute__((naked)) void smm_handler(void)
{
	asm volatile (".code16\n"
		      "mov $" __stringify(SMM_DIRECTORY) ", %eax\n"
		      "mov %eax, %cr3\n"
		      "mov $0x10, %eax\n" /* CR4.PSE */
		      "mov %eax, %cr4\n"
		      "mov %cr0, %eax\n"
		      "or $0x80010001, %eax\n" /* CR0.PG, WP, PE */
		      "mov %eax, %cr0\n"
		      "addr32 mov %ebx, " __stringify(TABLE) "\n"
		      "out %al, $" __stringify(PORT) "\n"
		      "rsm\n"
		      ".code64\n");
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;

static void *memory_at(uint64_t gpa)
{
	return addr_gpa2hva(vm, gpa);
}

static uint32_t test_page_entry(int page)
{
	return (PAGES + page * PAGE_SIZE) | PTE_PRESENT_MASK | PTE_WRITABLE_MASK |
	       PTE_ACCESSED_MASK | PTE_DIRTY_MASK;
}

static void create_vm(void)
{
	const uint32_t large = PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_ACCESSED_MASK |
			       PTE_DIRTY_MASK | PTE_LARGE_MASK;
	int page;

	vm = vm_create_barebones();
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, NR_PAGES, 0);
	vm_set_user_memory_region(vm, SMM_SLOT, KVM_MEM_LOG_DIRTY_PAGES, 0, NR_PAGES * PAGE_SIZE,
				  memory_at(0));
	memcpy(memory_at(CODE), guest, CODE_SIZE);
	memcpy(memory_at(SMM_CODE), smm_handler, CODE_SIZE);
	for (page = 0; page < 2; page++)
		*(uint32_t *)memory_at(PAGES + page * PAGE_SIZE) = FIRST_VALUE + page;
	((uint32_t *)memory_at(SMM_DIRECTORY))[0] = large;
	((uint32_t *)memory_at(DIRECTORY))[0] = large;
	((uint32_t *)memory_at(DIRECTORY))[TEST_GVA / SZ_4M] =
		TABLE | PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_ACCESSED_MASK;
	*(uint32_t *)memory_at(TABLE) = test_page_entry(0);

	vcpu = vcpu_add_legacy(vm, CODE, DIRECTORY, X86_CR4_PSE);
}

static void run(void)
{
	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO && vcpu->run->io.port == PORT,
		    "Unexpected exit: %s", exit_reason_str(vcpu->run->exit_reason));
}

/* Which of the two pages does the guest see at TEST_GVA? */
static int guest_page(void)
{
	run();
	return *(uint32_t *)((char *)vcpu->run + vcpu->run->io.data_offset) - FIRST_VALUE;
}

static void smm_sets_page(int page)
{
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	/* Complete the OUT that the vCPU exited for, before the SMI. */
	vcpu_run_complete_io(vcpu);
	vcpu_regs_get(vcpu, &regs);
	regs.rbx = test_page_entry(page);
	vcpu_regs_set(vcpu, &regs);
	vcpu_events_get(vcpu, &events);
	events.smi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	vcpu_events_set(vcpu, &events);
	run();
	vcpu_events_get(vcpu, &events);
	TEST_ASSERT(events.smi.smm, "Not in SMM");
}

static bool is_logged(void)
{
	unsigned long *log = bitmap_zalloc(NR_PAGES);
	bool logged;

	kvm_vm_get_dirty_log(vm, SMM_SLOT, log);
	logged = test_bit(TABLE / PAGE_SIZE, log);
	free(log);
	return logged;
}

int main(void)
{
	int round, found;

	ksft_print_header();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));
	/* With TDP, KVM shadows no page table here. */
	TEST_REQUIRE(!kvm_is_tdp_enabled());
	ksft_set_plan(2 * ROUNDS);
	create_vm();
	TEST_ASSERT(guest_page() == 0, "The guest does not read its own page");

	for (round = 1; round <= ROUNDS; round++) {
		smm_sets_page(round % 2);
		found = guest_page();
		ksft_test_result(found == round % 2,
				 "round %d: the guest has the page that SMM gave it\n", round);
		ksft_test_result(is_logged(), "round %d: what SMM wrote is logged\n", round);
	}
	kvm_vm_free(vm);
	ksft_finished();
}
