// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whatever clears the dirty log flushes TLBs before it returns, also if it dropped mmu_lock
 * between two page tables for a task that waited for it.
 *
 * The vCPU writes some pages, and then the first and the last one without a pause, through its
 * TLB.  After each clear, the test waits for the next write to either page, which has to be in the
 * log.  Nothing else makes the vCPU exit, as an exit may flush its TLB, too.
 *
 * For clears that give way, there are enough pages that a clear takes a while, and a thread zaps
 * memory that the guest has never used: KVM takes mmu_lock for write, and has no reason to flush.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <linux/bitmap.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "ring_util.h"
#include "sync_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define TEST_MEM	0x100000000ULL
#define MAX_PAGES	4096UL

#define ZAP_SLOT	2
#define ZAP_MEM		0x80000000ULL
#define ZAP_PAGES	16

#define RING_ENTRIES	1024

#define CLEARS		64
/* Clears that have to give way.  After so many seconds, fewer will do. */
#define CLEARS_THAT_GIVE_WAY	8
#define MAX_SECONDS	60

static const char * const names[] = { "get", "clear", "ring", "two_resets", "gave_way" };

enum mode {
	/* KVM_GET_DIRTY_LOG clears the log. */
	MODE_GET,
	/* KVM_CLEAR_DIRTY_LOG clears the log. */
	MODE_CLEAR,
	MODE_RING,
	/* As MODE_RING, but another thread resets what this one has harvested. */
	MODE_TWO_RESETS,
	/* As MODE_GET, and only clears that gave way count. */
	MODE_GAVE_WAY,
	NR_MODES
};

/* The host begins a round, the last of which is 0.  The vCPU says when it has written all pages. */
static struct {
	uint64_t nr_pages;
	uint64_t round;
	uint64_t written;
} job, *shared;

static void guest_code(void)
{
	uint64_t page, round, n = 0;

	while ((round = READ_ONCE(job.round))) {
		for (page = 0; page < job.nr_pages; page++)
			WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE), round);
		WRITE_ONCE(job.written, round);
		while (READ_ONCE(job.round) == round) {
			WRITE_ONCE(*(uint64_t *)TEST_MEM, ++n);
			WRITE_ONCE(*(uint64_t *)(TEST_MEM + (job.nr_pages - 1) * PAGE_SIZE), n);
		}
	}
	GUEST_SYNC1(0);
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct dirty_ring ring;
/* The pages that the last take_and_clear() found in the log. */
static unsigned long *log;
/* Ends the thread that zaps, or resets. */
static bool stop;

static void *vcpu_thread(void *unused)
{
	vcpu_run(vcpu);
	vcpu_sync_arg(vcpu);
	return NULL;
}

static void *reset_thread(void *unused)
{
	while (!READ_ONCE(stop))
		kvm_vm_reset_dirty_ring(vm);
	return NULL;
}

static void *zap_thread(void *memory)
{
	while (!READ_ONCE(stop))
		TEST_ASSERT(!madvise(memory, ZAP_PAGES * PAGE_SIZE, MADV_DONTNEED),
			    "madvise failed: %d", errno);
	return NULL;
}

static bool has_ring(enum mode mode)
{
	return mode == MODE_RING || mode == MODE_TWO_RESETS;
}

static void create_vm(enum mode mode)
{
	vm = __vm_create(VM_SHAPE_DEFAULT, 1, MAX_PAGES);
	if (mode == MODE_CLEAR)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	if (has_ring(mode))
		vm_enable_dirty_ring(vm, RING_ENTRIES * sizeof(*ring.entries));
	vcpu = vm_vcpu_add(vm, 0, guest_code);
	if (has_ring(mode))
		ring = (struct dirty_ring) { vcpu_map_dirty_ring(vcpu), RING_ENTRIES };

	job.nr_pages = mode == MODE_GAVE_WAY ? MAX_PAGES : 2;
	job.round = 1;
	job.written = 0;
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, job.nr_pages,
				    KVM_MEM_LOG_DIRTY_PAGES);
	virt_map(vm, TEST_MEM, TEST_MEM, job.nr_pages);
	sync_global_to_guest(vm, job);
	shared = addr_gva2hva(vm, (vm_vaddr_t)&job);
}

static void take_and_clear(enum mode mode)
{
	uint64_t offset;
	uint32_t slot;

	if (!has_ring(mode)) {
		kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
		if (mode == MODE_CLEAR)
			kvm_vm_clear_dirty_log(vm, TEST_SLOT, log, 0, job.nr_pages);
		return;
	}

	bitmap_zero(log, MAX_PAGES);
	while (dirty_ring_take(&ring, &slot, &offset)) {
		if (slot == TEST_SLOT && offset < job.nr_pages)
			set_bit(offset, log);
	}
	/* Until the other thread is about to flush, or has. */
	while (mode == MODE_TWO_RESETS &&
	       READ_ONCE(ring.entries[(ring.next - 1) % RING_ENTRIES].flags) ==
	       KVM_DIRTY_GFN_F_RESET)
		;
	kvm_vm_reset_dirty_ring(vm);
}

static void test_flush(enum mode mode)
{
	const int want = mode == MODE_GAVE_WAY ? CLEARS_THAT_GIVE_WAY : CLEARS;
	int clears = 0, missing = 0, rounds = 0;
	uint64_t *first, *last, values[2];
	pthread_t runner, other = 0;
	struct timespec begin;
	long gave_way = 0;

	if (mode == MODE_GAVE_WAY && aging_dirty_log_stat("gave_way") < 0) {
		ksft_test_result_skip("%s: debugfs does not say if a clear gave way\n",
				      names[mode]);
		return;
	}

	create_vm(mode);
	first = addr_gpa2hva(vm, TEST_MEM);
	last = addr_gpa2hva(vm, TEST_MEM + (job.nr_pages - 1) * PAGE_SIZE);
	if (mode == MODE_GAVE_WAY) {
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, ZAP_MEM, ZAP_SLOT, ZAP_PAGES,
					    0);
		pthread_create(&other, NULL, zap_thread, addr_gpa2hva(vm, ZAP_MEM));
	}
	if (mode == MODE_TWO_RESETS)
		pthread_create(&other, NULL, reset_thread, NULL);
	pthread_create(&runner, NULL, vcpu_thread, NULL);

	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (clears < want && timespec_elapsed(begin).tv_sec < MAX_SECONDS) {
		WRITE_ONCE(shared->round, ++rounds);
		while (READ_ONCE(shared->written) != rounds)
			;

		if (mode == MODE_GAVE_WAY)
			gave_way = aging_dirty_log_stat("gave_way");
		take_and_clear(mode);
		values[0] = READ_ONCE(*first);
		values[1] = READ_ONCE(*last);
		while (READ_ONCE(*first) == values[0] || READ_ONCE(*last) == values[1])
			;
		take_and_clear(mode);
		/* Not earlier: to read it takes so long that the vCPU exits meanwhile. */
		if (mode == MODE_GAVE_WAY && aging_dirty_log_stat("gave_way") == gave_way)
			continue;
		missing += !test_bit(0, log) + !test_bit(job.nr_pages - 1, log);
		clears++;
	}
	WRITE_ONCE(shared->round, 0);
	pthread_join(runner, NULL);
	WRITE_ONCE(stop, true);
	if (other)
		pthread_join(other, NULL);
	WRITE_ONCE(stop, false);
	kvm_vm_free(vm);

	ksft_print_msg("%s: %d clears in %d rounds, %d times a write is missing in the log\n",
		       names[mode], clears, rounds, missing);
	/* An old EACCES would turn a failed assertion into a skip. */
	errno = 0;
	if (clears)
		ksft_test_result(!missing, "%s\n", names[mode]);
	else
		ksft_test_result_skip("%s: no clear gave way, as on PREEMPT_RT\n", names[mode]);
}

int main(int argc, char *argv[])
{
	enum mode mode;
	cpu_set_t cpus;

	if (argc != 1) {
		printf("usage: %s\n", argv[0]);
		exit(KSFT_FAIL);
	}

	ksft_print_header();
	/* The writes are in the log when the vCPU has exited, not when they are seen. */
	__TEST_REQUIRE(!host_cpu_is_intel || !get_kvm_intel_param_bool("pml"),
		       "With PML, the CPU logs writes that this test takes for missing");
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) ||
		     kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL));
	/* On one CPU, the vCPU has exited whenever the test runs. */
	TEST_ASSERT(!sched_getaffinity(0, sizeof(cpus), &cpus), "sched_getaffinity failed");
	TEST_REQUIRE(CPU_COUNT(&cpus) > 1);
	ksft_set_plan(NR_MODES);

	log = bitmap_zalloc(MAX_PAGES);
	TEST_ASSERT(log, "Out of memory");
	for (mode = 0; mode < NR_MODES; mode++)
		test_flush(mode);
	free(log);
	ksft_finished();
}
