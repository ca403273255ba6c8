// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM clears the log of a nested guest whose page tables L1 has just torn down.
 *
 * L1 maps L2's memory by a huge page.  The memslot is logged, so KVM shadows that by a page table
 * of small pages, and no page table of L1 stands for it.  When L1 removes the huge page, the shadow
 * page loses its parent, but keeps its SPTEs, also if all shadow pages of L1's page tables go.  KVM
 * links it again when L1 maps the huge page again, and then L2 writes through these SPTEs.  If a
 * clear in between has left them writable, the log lacks the write.
 */
#include <stdio.h>
#include <stdlib.h>

#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "sync_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define TEST_MEM	0x40000000ULL
#define NR_PAGES	L2_ENTRIES

/* Of the nested page tables: l2_map_create() allocates them one after the other. */
#define NR_TABLES	4

static struct l2_map l2_map;
static struct l2 l2;

static void l2_code(uint64_t unused)
{
	uint64_t n;

	for (n = 1; ; n++) {
		/* The first write faults, and KVM links the shadow page.  The second need not. */
		WRITE_ONCE(*(uint64_t *)TEST_MEM, n);
		WRITE_ONCE(*(uint64_t *)(TEST_MEM + PAGE_SIZE), n);
		l2_call();
	}
}

/*
 * KVM emulates these writes to a page table that it shadows.  For most other instructions, it zaps
 * the shadow page, and with it what that points to.
 */
static void write_entry(uint64_t *entry, uint64_t value)
{
	asm volatile ("movq %1, %0" : "=m" (*entry) : "r" (value) : "memory");
}

static void write_byte(uint8_t *byte, uint8_t value)
{
	asm volatile ("movb %1, %0" : "=m" (*byte) : "q" (value) : "memory");
}

static void l1_code(uint64_t unused)
{
	uint8_t *tables = (uint8_t *)l2_map.directory - (NR_TABLES - 1) * PAGE_SIZE;
	uint64_t huge = l2_map.directory[0], i;

	l2_init(&l2, &l2_map, l2_code, 0);
	for (;;) {
		GUEST_ASSERT(l2_run(&l2) == L2_CALL);
		/* A whole entry: KVM unlinks what it points to. */
		write_entry(l2_map.directory, 0);
		/* A single byte in an entry: KVM takes it for no page table any more. */
		for (i = 0; i < NR_TABLES; i++)
			write_byte(&tables[i * PAGE_SIZE + 1], tables[i * PAGE_SIZE + 1]);
		GUEST_SYNC(0);
		write_entry(l2_map.directory, huge);
		l2_flush(&l2);
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;

/* Run L2 until it has written both pages.  Are they in the log, which this clears? */
static bool both_are_logged(void)
{
	unsigned long log[NR_PAGES / BITS_PER_LONG];

	vcpu_run(vcpu);
	vcpu_sync_arg(vcpu);
	kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
	return (log[0] & 3) == 3;
}

int main(int argc, char *argv[])
{
	const char *why;

	if (argc != 1) {
		printf("usage: %s\n", argv[0]);
		exit(KSFT_FAIL);
	}

	ksft_print_header();
	why = l2_supported(true);
	__TEST_REQUIRE(!why, "%s", why);
	ksft_set_plan(2);

	vm = __vm_create_with_one_vcpu(&vcpu, NR_PAGES, l1_code);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, NR_PAGES,
				    KVM_MEM_LOG_DIRTY_PAGES);
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	l2_map_create(vm, &l2_map, TEST_MEM, NR_PAGES, true, 0);
	l2_create(vm, &l2);
	sync_global_to_guest(vm, l2_map);
	sync_global_to_guest(vm, l2);
	TEST_ASSERT(addr_gva2gpa(vm, (vm_vaddr_t)l2_map.directory -
				 (NR_TABLES - 1) * PAGE_SIZE) == l2_map.root_gpa,
		    "The nested page tables do not follow each other");

	ksft_test_result(both_are_logged(), "writes are in the log\n");
	ksft_test_result(both_are_logged(), "so are those after the shadow page is linked again\n");

	kvm_vm_free(vm);
	ksft_finished();
}
