// SPDX-License-Identifier: GPL-2.0-only
/*
 * A clear of the dirty log that drops mmu_lock between two page tables, for a task that waits for
 * it, still flushes TLBs for what it cleared before.
 *
 * The vCPU writes all pages, so that the clear takes a while, and then the first and the last one
 * without a pause, through its TLB.  A thread zaps memory that the guest has never used: KVM takes
 * mmu_lock for write, and has no reason to flush.  After each clear that gave way, the test waits
 * for the next write to either page, which has to be in the log.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <linux/bitmap.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define TEST_MEM	0x100000000ULL
#define NR_PAGES	4096UL

#define LAST_PAGE	(NR_PAGES - 1)

#define ZAP_SLOT	2
#define ZAP_MEM		0x80000000ULL
#define ZAP_PAGES	16

/* Clears that have to give way.  After so many seconds, fewer will do. */
#define WANT_CLEARS	8
#define MAX_SECONDS	60

/* The host begins a round.  The vCPU says when it has written all pages. */
static struct {
	uint64_t round;
	uint64_t written;
} job, *shared;

static void guest_code(void)
{
	uint64_t page, round, n = 0;

	for (;;) {
		round = READ_ONCE(job.round);
		for (page = 0; page < NR_PAGES; page++)
			WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE), round);
		WRITE_ONCE(job.written, round);
		while (READ_ONCE(job.round) == round) {
			WRITE_ONCE(*(uint64_t *)TEST_MEM, ++n);
			WRITE_ONCE(*(uint64_t *)(TEST_MEM + LAST_PAGE * PAGE_SIZE), n);
		}
	}
}

static void *vcpu_thread(void *vcpu)
{
	/* Until the end of the program. */
	for (;;)
		vcpu_run(vcpu);
	return NULL;
}

static void *zap_thread(void *memory)
{
	for (;;)
		TEST_ASSERT(!madvise(memory, ZAP_PAGES * PAGE_SIZE, MADV_DONTNEED),
			    "madvise failed: %d", errno);
	return NULL;
}

int main(int argc, char *argv[])
{
	unsigned long *log = bitmap_zalloc(NR_PAGES);
	int clears = 0, missing = 0, rounds = 0;
	pthread_t threads[2];
	struct timespec begin;
	struct kvm_vcpu *vcpu;
	uint64_t *first, *last, values[2];
	struct kvm_vm *vm;
	long gave_way;

	if (argc != 1) {
		printf("usage: %s\n", argv[0]);
		exit(KSFT_FAIL);
	}

	ksft_print_header();
	gave_way = aging_dirty_log_stat("gave_way");
	__TEST_REQUIRE(gave_way >= 0, "debugfs does not say if a clear gave way");
	/* The writes are in the log when the vCPU has exited, not when they are seen. */
	__TEST_REQUIRE(!host_cpu_is_intel || !get_kvm_intel_param_bool("pml"),
		       "With PML, the CPU logs writes that this test takes for missing");
	ksft_set_plan(1);
	TEST_ASSERT(log, "Out of memory");

	vm = __vm_create(VM_SHAPE_DEFAULT, 1, NR_PAGES);
	vcpu = vm_vcpu_add(vm, 0, guest_code);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, NR_PAGES,
				    KVM_MEM_LOG_DIRTY_PAGES);
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, ZAP_MEM, ZAP_SLOT, ZAP_PAGES, 0);
	first = addr_gpa2hva(vm, TEST_MEM);
	last = addr_gpa2hva(vm, TEST_MEM + LAST_PAGE * PAGE_SIZE);
	shared = addr_gva2hva(vm, (vm_vaddr_t)&job);

	pthread_create(&threads[0], NULL, vcpu_thread, vcpu);
	pthread_create(&threads[1], NULL, zap_thread, addr_gpa2hva(vm, ZAP_MEM));

	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (clears < WANT_CLEARS && timespec_elapsed(begin).tv_sec < MAX_SECONDS) {
		WRITE_ONCE(shared->round, ++rounds);
		while (READ_ONCE(shared->written) != rounds)
			;

		gave_way = aging_dirty_log_stat("gave_way");
		kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
		values[0] = READ_ONCE(*first);
		values[1] = READ_ONCE(*last);
		if (aging_dirty_log_stat("gave_way") == gave_way)
			continue;

		while (READ_ONCE(*first) == values[0] || READ_ONCE(*last) == values[1])
			;
		kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
		missing += !test_bit(0, log) + !test_bit(LAST_PAGE, log);
		clears++;
	}

	ksft_print_msg("%d clears in %d rounds gave way, %d times a write is missing in the log\n",
		       clears, rounds, missing);
	/* An old EACCES would turn a failed assertion into a skip. */
	errno = 0;
	if (clears)
		ksft_test_result(!missing, "flushed\n");
	else
		ksft_test_result_skip("flushed: no clear gave way, as on one CPU or PREEMPT_RT\n");
	ksft_finished();
}
