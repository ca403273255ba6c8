// SPDX-License-Identifier: GPL-2.0-only
/*
 * The dirty log of a nested guest with several roots.
 *
 * L1 runs L2 on three nested page tables by turns.  One maps L2's addresses to the same ones of
 * L1, one to the same pages in reverse, so an address means another page there, and the third
 * shares the leaf table of the first.  KVM shadows each: a page has two SPTEs, and one of them is
 * below two roots.  A write through any of them has to be logged, for the page that L1 has mapped
 * there, and after the log was cleared, through each of them again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/bitmap.h>

#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "sync_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define TEST_MEM	0x40000000ULL
#define NR_PAGES	L2_ENTRIES
#define NR_MAPS		3

/* Which pages L2 writes, and on which nested page tables. */
static struct {
	uint64_t map;
	uint64_t first;
	uint64_t step;
} job;

static struct l2_map l2_maps[NR_MAPS];
static struct l2 l2;

static void l2_code(uint64_t unused)
{
	uint64_t page, n;

	for (n = 1; ; n++) {
		for (page = READ_ONCE(job.first); page < NR_PAGES; page += READ_ONCE(job.step))
			WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE), n);
		l2_call();
	}
}

static void l1_code(uint64_t unused)
{
	int i;

	for (i = 0; i < NR_PAGES; i++)
		l2_maps[1].leaves[i] = (TEST_MEM + (NR_PAGES - 1 - i) * PAGE_SIZE) |
				       l2_maps[1].page_bits;
	l2_maps[2].directory[0] = l2_maps[0].directory[0];

	l2_init(&l2, &l2_maps[0], l2_code, 0);
	for (;;) {
		l2_set_map(&l2, &l2_maps[READ_ONCE(job.map)]);
		GUEST_ASSERT(l2_run(&l2) == L2_CALL);
		GUEST_SYNC(0);
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;

/* Have L2 write each @step-th page of its own, from @first on, and set L1's pages in @want. */
static void l2_write(uint64_t map, uint64_t first, uint64_t step, unsigned long *want)
{
	uint64_t page;

	job.map = map;
	job.first = first;
	job.step = step;
	sync_global_to_guest(vm, job);
	vcpu_run(vcpu);
	vcpu_sync_arg(vcpu);
	for (page = first; page < NR_PAGES; page += step)
		set_bit(map == 1 ? NR_PAGES - 1 - page : page, want);
}

/* Is the log just @want?  Clears both. */
static bool log_is(unsigned long *want, bool manual)
{
	unsigned long *log = bitmap_zalloc(NR_PAGES);
	bool same;

	kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
	if (manual)
		kvm_vm_clear_dirty_log(vm, TEST_SLOT, log, 0, NR_PAGES);
	same = !memcmp(log, want, NR_PAGES / 8);
	bitmap_zero(want, NR_PAGES);
	free(log);
	return same;
}

static bool test_roots(bool manual)
{
	unsigned long *want = bitmap_zalloc(NR_PAGES);
	uint64_t map, other;
	bool ok = true;

	vm = __vm_create_with_one_vcpu(&vcpu, NR_PAGES, l1_code);
	if (manual)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, NR_PAGES,
				    KVM_MEM_LOG_DIRTY_PAGES);
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	for (map = 0; map < NR_MAPS; map++)
		l2_map_create(vm, &l2_maps[map], TEST_MEM, NR_PAGES, false, 0);
	l2_create(vm, &l2);
	sync_global_to_guest(vm, l2_maps);
	sync_global_to_guest(vm, l2);

	for (map = 0; map < NR_MAPS; map++) {
		for (other = 0; other < NR_MAPS; other++) {
			/* All SPTEs become writable, and a clear takes that from all. */
			l2_write(map, 0, 1, want);
			l2_write(other, 0, 1, want);
			ok &= log_is(want, manual);
			l2_write(map, 1, 3, want);
			ok &= log_is(want, manual);
			l2_write(other, 1, 3, want);
			ok &= log_is(want, manual);
			/* Some of them twice, as the page is writable by another root's SPTE. */
			l2_write(map, 0, 7, want);
			l2_write(other, 2, 5, want);
			ok &= log_is(want, manual);
			if (!ok) {
				ksft_print_msg("wrong for roots %lu and %lu\n", map, other);
				goto out;
			}
		}
	}
out:
	kvm_vm_free(vm);
	free(want);
	return ok;
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
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2));
	ksft_set_plan(2);
	ksft_test_result(test_roots(false), "KVM_GET_DIRTY_LOG clears\n");
	ksft_test_result(test_roots(true), "KVM_CLEAR_DIRTY_LOG clears\n");
	ksft_finished();
}
