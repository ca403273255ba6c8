// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does the guest see what SMM wrote to its page tables, while dirty pages are logged?
 *
 * With npt=0, KVM shadows the page tables of the guest, and of its SMM handler, which has
 * memslots of its own for the same memory.  A shadow page write-protects its page table in
 * the memslots of one of them only.  Of the other's SPTEs for the page table, KVM makes one
 * writable when it has noted that the shadow page may differ from now on ("unsync").  When
 * the log is cleared, that SPTE loses W; before it gets W back, KVM has to note that again.
 *
 * The handler turns on paging, as the faults of real mode take another way.
 */
#include <linux/bitmap.h>
#include <linux/sizes.h>

#include "kvm_util.h"
#include "legacy_util.h"
#include "processor.h"
#include "test_util.h"

/* Memory that both see at 0, up to the end of SMRAM; a memslot of SMM, for the same memory. */
#define NR_PAGES	64
#define SMM_SLOT	(BIT(16) | 0)

#define CODE		0x1000
#define DIRECTORY	0x2000
#define TABLE		0x3000
#define SMM_DIRECTORY	0x4000
#define PAGES		0x5000
#define SMM_CODE	0x38000
/* At least as long as the code. */
#define CODE_SIZE	128

/* What the page table maps, one page or the other. */
#define TEST_GVA	0x400000
#define FIRST_VALUE	0x1000

#define PORT		0x80

#define ROUNDS		4

/* The guest: flush a page from the TLB, read it, tell the host, again and again. */
static __attribute__((naked)) void guest(void)
{
	asm volatile (".code32\n"
		      "1: invlpg " __stringify(TEST_GVA) "\n"
		      "mov " __stringify(TEST_GVA) ", %eax\n"
		      "out %eax, $" __stringify(PORT) "\n"
		      "jmp 1b\n"
		      ".code64\n");
}

/* SMM: turn on paging, which maps all memory where it is, and write the page table's entry. */
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

/* Which of the two pages the guest has at TEST_GVA. */
static int guest_page(void)
{
	run();
	return *(uint32_t *)((char *)vcpu->run + vcpu->run->io.data_offset) - FIRST_VALUE;
}

static void smm_sets_page(int page)
{
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	/* Done with the instruction that it exited for, as else that would be in SMM's way. */
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

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));
	/* Else, no page table is shadowed. */
	TEST_REQUIRE(!kvm_is_tdp_enabled());
	ksft_print_header();
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
