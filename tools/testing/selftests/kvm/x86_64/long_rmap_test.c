// SPDX-License-Identifier: GPL-2.0-only
/*
 * Aging of a page that a guest maps more often than an rmap may grow.
 *
 * L1 maps all pages of L2 to one frame.  The rmap of that frame grows beyond 1000 SPTEs,
 * KVM zaps them all, and the rmap grows again.  Meanwhile the host ages the frame: KVM walks
 * the rmap without mmu_lock.  Each vCPU writes the frame through one page after the other,
 * and checks that its last write is there.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define TEST_MEM	0x100000000ULL

/* More than twice the SPTEs that an rmap can have. */
#define NR_ALIASES	2048

/* KVM's RMAP_RECYCLE_THRESHOLD. */
#define MAX_RMAP	1000

#define NR_VCPUS	2

static struct l2_map map;
static struct l2 l2[NR_VCPUS];

static void l2_code(uint64_t index)
{
	uint64_t alias, writes = 0;
	uint64_t *word;

	for (;;) {
		for (alias = 0; alias < NR_ALIASES; alias++) {
			word = (uint64_t *)(TEST_MEM + alias * PAGE_SIZE) + index;
			GUEST_ASSERT_EQ(READ_ONCE(*word), writes);
			WRITE_ONCE(*word, ++writes);
		}
		GUEST_SYNC(0);
	}
}

static void l1_code(uint64_t index)
{
	l2_run_for_good(&l2[index], &map, l2_code, index);
}

struct vcpu_thread {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	uint64_t sweeps;
};

static struct kvm_vm *vm;
static struct vcpu_thread threads[NR_VCPUS];
static struct page_idle idle;
static bool with_idle;
/* L1 maps all pages of L2 to this frame. */
static uint64_t frame_gpa = TEST_MEM;
static bool stop;

static void *vcpu_code(void *arg)
{
	struct vcpu_thread *thread = arg;
	struct ucall uc;

	do {
		vcpu_run(thread->vcpu);
		errno = 0;
		if (get_ucall(thread->vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT(uc.cmd == UCALL_SYNC, "Unexpected exit: %s",
			    exit_reason_str(thread->vcpu->run->exit_reason));
		WRITE_ONCE(thread->sweeps, thread->sweeps + 1);
	} while (!READ_ONCE(stop));
	return NULL;
}

static void *frame_hva(void)
{
	return addr_gpa2hva(vm, frame_gpa);
}

/* Choose a frame that page_idle knows: it does not know the last few of memory. */
static void choose_frame(void)
{
	while (with_idle && !page_idle_pfn(&idle, frame_hva())) {
		frame_gpa += PAGE_SIZE;
		TEST_ASSERT(frame_gpa < TEST_MEM + NR_ALIASES * PAGE_SIZE,
			    "page_idle tells of none of the pages");
	}
}

static void create_vm(void)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	uint64_t *leaves;
	uint64_t i;

	vm = __vm_create_with_vcpus(VM_SHAPE_DEFAULT, NR_VCPUS, NR_ALIASES, l1_code, vcpus);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, NR_ALIASES, 0);
	virt_map(vm, TEST_MEM, TEST_MEM, NR_ALIASES);
	memset(addr_gpa2hva(vm, TEST_MEM), 0, NR_ALIASES * PAGE_SIZE);
	choose_frame();

	l2_map_create(vm, &map, TEST_MEM, NR_ALIASES, false, 0);
	leaves = addr_gva2hva(vm, (vm_vaddr_t)map.leaves);
	for (i = 0; i < NR_ALIASES; i++)
		leaves[i] = frame_gpa | map.page_bits;

	for (i = 0; i < NR_VCPUS; i++) {
		threads[i].vcpu = vcpus[i];
		l2_create(vm, &l2[i]);
		vcpu_args_set(vcpus[i], 1, i);
	}
	sync_global_to_guest(vm, map);
	sync_global_to_guest(vm, l2);
}

/* Returns how often the frame was aged. */
static uint64_t age(unsigned long seconds)
{
	struct timespec start;
	uint64_t pfn, rounds = 0;
	bool is_idle;

	aging_drain_lru();
	clock_gettime(CLOCK_MONOTONIC, &start);
	/* A slow host is no failure: go on until each vCPU has written all pages once. */
	while (timespec_elapsed(start).tv_sec < seconds ||
	       !READ_ONCE(threads[0].sweeps) || !READ_ONCE(threads[1].sweeps)) {
		rounds++;
		if (!with_idle) {
			aging_lru_read_and_pass();
			continue;
		}
		pfn = page_idle_pfn(&idle, frame_hva());
		page_idle_mark(&idle, &pfn, 1);
		page_idle_test(&idle, &pfn, 1, &is_idle);
	}
	return rounds;
}

static void help(const char *name)
{
	printf("usage: %s [-s seconds]\n"
	       " -s: how long to run (default: 10)\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	uint64_t rounds, longest, writes;
	long aged;
	unsigned long seconds = 10;
	const char *why;
	int i, opt;

	while ((opt = getopt(argc, argv, "s:")) != -1) {
		if (opt != 's')
			help(argv[0]);
		seconds = aging_parse_positive(optarg);
	}
	if (optind != argc || !seconds)
		help(argv[0]);

	ksft_print_header();

	why = l2_supported(true);
	__TEST_REQUIRE(!why, "%s", why);
	why = page_idle_open(&idle);
	with_idle = !why;
	if (!with_idle) {
		why = aging_lru_setup();
		__TEST_REQUIRE(!why, "%s", why);
	}

	create_vm();
	ksft_set_plan(3);

	for (i = 0; i < NR_VCPUS; i++)
		pthread_create(&threads[i].thread, NULL, vcpu_code, &threads[i]);
	aged = aging_stat("aged");
	rounds = age(seconds);
	aged = aging_stat("aged") - aged;
	WRITE_ONCE(stop, true);
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(threads[i].thread, NULL);

	for (i = 0; i < NR_VCPUS; i++) {
		writes = *((uint64_t *)frame_hva() + i);
		ksft_print_msg("vCPU %d: %lu sweeps, %lu writes\n", i, threads[i].sweeps, writes);
		TEST_ASSERT_EQ(writes, threads[i].sweeps * NR_ALIASES);
	}
	ksft_test_result_pass("no write was lost\n");

	longest = vm_get_stat(vm, "max_mmu_rmap_size");
	ksft_print_msg("longest rmap: %lu, aged %lu times through %s\n", longest, rounds,
		       with_idle ? "page_idle" : "MGLRU");
	ksft_test_result(longest >= MAX_RMAP, "the rmap grew until it was zapped\n");
	/* The rounds alone prove nothing: page_idle and MGLRU may have skipped the frame. */
	if (aging_stat("aged") < 0)
		ksft_test_result_skip("and was aged: this KVM does not count that\n");
	else
		ksft_test_result(aged >= MAX_RMAP, "and was aged: %ld SPTEs\n", aged);

	kvm_vm_free(vm);
	ksft_finished();
}
