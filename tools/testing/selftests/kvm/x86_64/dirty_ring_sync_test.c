// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does the dirty ring have room for a sync of a nested guest's page tables?
 *
 * L1 makes all entries of an unsync leaf table writable, and KVM syncs them at once.  The
 * ring has fewer entries than the table, and userspace does not harvest the ring meanwhile.
 * The ring must have room for what the sync pushes, and for each page that L2 writes later.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/bitmap.h>

#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "ring_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define TEST_MEM	0x100000000ULL

/* All pages of one leaf table. */
#define NR_PAGES	L2_ENTRIES
#define NPT_DIRTY	BIT_ULL(6)
#define EPT_DIRTY	BIT_ULL(9)
/* The smallest ring that KVM takes. */
#define RING_ENTRIES	(PAGE_SIZE / sizeof(struct kvm_dirty_gfn))

static struct l2_map l2_map;
static struct l2 l2;

static void l2_code(uint64_t unused)
{
	uint64_t page;

	for (page = 0; page < NR_PAGES; page++)
		READ_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE));
	l2_call();
	/* KVM has synced the leaf table by now. */
	GUEST_SYNC1(1);
	for (page = 0; page < NR_PAGES; page++)
		WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE), page);
	GUEST_SYNC1(2);
}

static void l1_code(uint64_t unused)
{
	int i;

	for (i = 0; i < L2_ENTRIES; i++)
		l2_map.leaves[i] &= ~L2_WRITABLE;
	l2_init(&l2, &l2_map, l2_code, 0);
	GUEST_ASSERT_EQ(l2_run(&l2), L2_CALL);
	/* If L1 uses A/D bits, KVM's sync makes an SPTE writable only if L1's entry is dirty. */
	for (i = 0; i < L2_ENTRIES; i++)
		l2_map.leaves[i] |= L2_WRITABLE | (host_cpu_is_amd ? NPT_DIRTY : EPT_DIRTY);
	l2_flush(&l2);
	l2_run(&l2);
	GUEST_FAIL("L2 exited with 0x%lx", l2.exit_code);
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct dirty_ring ring;
static unsigned long *dirty;

/* Take all entries out of the ring.  Returns how many there were. */
static uint64_t harvest(void)
{
	uint64_t offset, nr = 0;
	uint32_t slot;

	for (; dirty_ring_take(&ring, &slot, &offset); nr++) {
		if (slot == TEST_SLOT && offset < NR_PAGES)
			set_bit(offset, dirty);
	}
	if (nr)
		kvm_vm_reset_dirty_ring(vm);
	return nr;
}

/* Run the guest up to its next ucall.  Returns how often the ring was full. */
static unsigned int run_until(uint64_t want)
{
	unsigned int full = 0;
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason != KVM_EXIT_DIRTY_RING_FULL)
			break;
		full++;
		TEST_ASSERT(harvest(), "KVM overwrote entries: the ring is full, but has none");
	}
	errno = 0;
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(uc.cmd == UCALL_SYNC && uc.args[0] == want, "Unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
	return full;
}

int main(int argc, char *argv[])
{
	uint64_t page, nr_dirty = 0, synced;
	unsigned int full;
	const char *why;

	if (argc != 1) {
		printf("usage: %s\n", argv[0]);
		exit(KSFT_FAIL);
	}

	ksft_print_header();
	why = l2_supported(true);
	__TEST_REQUIRE(!why, "%s", why);
	/* With PML, KVM keeps 512 more entries free, and takes no ring as small as this one. */
	__TEST_REQUIRE(!host_cpu_is_intel || !get_kvm_intel_param_bool("pml"),
		       "With PML, each ring has room for a sync of one table");
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) ||
		     kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL));
	ksft_set_plan(2);

	vm = __vm_create(VM_SHAPE_DEFAULT, 1, NR_PAGES);
	vm_enable_dirty_ring(vm, RING_ENTRIES * sizeof(*ring.entries));
	vcpu = vm_vcpu_add(vm, 0, l1_code);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, NR_PAGES,
				    KVM_MEM_LOG_DIRTY_PAGES);
	/* Populate: else L2 reads the zero page, and KVM cannot map that writable. */
	memset(addr_gpa2hva(vm, TEST_MEM), 1, NR_PAGES * PAGE_SIZE);
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	ring = (struct dirty_ring) { vcpu_map_dirty_ring(vcpu), RING_ENTRIES };
	l2_map_create(vm, &l2_map, TEST_MEM, NR_PAGES, false, 0);
	l2_create(vm, &l2);
	sync_global_to_guest(vm, l2_map);
	sync_global_to_guest(vm, l2);
	dirty = bitmap_zalloc(NR_PAGES);
	TEST_ASSERT(dirty, "Out of memory");

	full = run_until(1);
	synced = harvest();
	ksft_print_msg("%lu entries when L2 has written nothing, %u times full\n", synced, full);
	ksft_test_result(!full && synced < RING_ENTRIES, "room for a sync\n");

	bitmap_zero(dirty, NR_PAGES);
	full = run_until(2);
	harvest();
	for (page = 0; page < NR_PAGES; page++)
		nr_dirty += test_bit(page, dirty);
	ksft_print_msg("%lu of %d written pages in the ring, %u times full\n", nr_dirty, NR_PAGES,
		       full);
	ksft_test_result(nr_dirty == NR_PAGES, "writes are in the ring\n");

	kvm_vm_free(vm);
	ksft_finished();
}
