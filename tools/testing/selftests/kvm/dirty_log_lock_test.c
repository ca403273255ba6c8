// SPDX-License-Identifier: GPL-2.0-only
/*
 * What one pass of a migration costs: a vCPU faults on all of its memory, and userspace
 * clears the log.  The two take turns, so that the test can count each by itself: how often
 * KVM takes mmu_lock for write, how many faults KVM fixes without that, and the time.  An
 * emulator may make the time a count of instructions.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <linux/bitmap.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "ring_util.h"
#include "sync_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define TEST_MEM	0x100000000ULL

/* One more round comes first and does not count: it may fault for other reasons. */
#define ROUNDS		3

#define MAX_PAGES	0x40000
/* With a ring, or a nested guest. */
#define MAX_PAGES_RING	0x4000

/* Percent of the faults that KVM has to fix without mmu_lock held for write. */
#define WANT_FAST	95

static const char * const mode_names[] = { "get", "clear", "ring" };

static enum mode {
	MODE_GET,
	MODE_CLEAR,
	MODE_RING,
	NR_MODES
} mode = MODE_CLEAR;

/* What the guest has to know. */
static uint64_t nr_pages = 4096;
/* The guest writes one page in so many. */
static uint64_t stride = 1;
static struct l2_map l2_map;
static struct l2 l2;

static void guest_code(uint64_t unused)
{
	uint64_t page, round;

	for (round = 1; ; round++) {
		for (page = 0; page < nr_pages; page += stride)
			WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE), round);
		GUEST_SYNC1(round);
	}
}

static void l1_code(uint64_t unused)
{
	l2_run_for_good(&l2, &l2_map, guest_code, 0);
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static unsigned long *taken;
static struct dirty_ring ring;

/* A moment, and the counts up to it. */
struct mark {
	struct timespec time;
	long writes;
	long fast;
};

static struct mark mark_now(void)
{
	struct mark mark = {
		.writes = aging_mmu_lock_write_acquisitions(),
		.fast = aging_fast_faults(),
	};

	clock_gettime(CLOCK_MONOTONIC, &mark.time);
	return mark;
}

/* Sums over all rounds. */
struct cost {
	uint64_t ns;
	long writes;
	long fast;
};

static void add_since(struct cost *cost, const struct mark *mark)
{
	struct timespec elapsed = timespec_elapsed(mark->time);
	struct mark now = mark_now();

	cost->ns += elapsed.tv_sec * 1000000000ULL + elapsed.tv_nsec;
	cost->writes += now.writes - mark->writes;
	cost->fast += now.fast - mark->fast;
}

static void write_all(struct cost *cost)
{
	struct mark mark = mark_now();

	vcpu_run(vcpu);
	add_since(cost, &mark);

	vcpu_sync_arg(vcpu);
}

static void clear_all(struct cost *cost)
{
	uint64_t page, offset, nr = 0;
	struct mark mark;
	uint32_t slot;

	bitmap_zero(taken, nr_pages);

	switch (mode) {
	case MODE_GET:
		mark = mark_now();
		kvm_vm_get_dirty_log(vm, TEST_SLOT, taken);
		add_since(cost, &mark);
		break;
	case MODE_CLEAR:
		kvm_vm_get_dirty_log(vm, TEST_SLOT, taken);
		mark = mark_now();
		kvm_vm_clear_dirty_log(vm, TEST_SLOT, taken, 0, nr_pages);
		add_since(cost, &mark);
		break;
	default:
		while (dirty_ring_take(&ring, &slot, &offset)) {
			if (slot == TEST_SLOT && offset < nr_pages)
				set_bit(offset, taken);
		}
		mark = mark_now();
		kvm_vm_reset_dirty_ring(vm);
		add_since(cost, &mark);
		break;
	}

	for (page = 0; page < nr_pages; page++)
		nr += test_bit(page, taken);

	/* An old EACCES would turn a failed assertion into a skip. */
	errno = 0;
	TEST_ASSERT_EQ(nr, DIV_ROUND_UP(nr_pages, stride));
}

static void print_cost(const char *name, const struct cost *cost, uint64_t ns, uint64_t total)
{
	ksft_print_msg("%lu of \"%s\": %lu ns each, mmu_lock taken for write %ld times\n", total,
		       name, ns / total, cost->writes);
}

static void create_vm(bool nested)
{
	vm = __vm_create(VM_SHAPE_DEFAULT, 1, nr_pages);
	if (mode == MODE_RING) {
		/* Twice the pages, at least: KVM keeps some entries free. */
		for (ring.nr_entries = 1024; ring.nr_entries < 2 * nr_pages;)
			ring.nr_entries *= 2;
		vm_enable_dirty_ring(vm, ring.nr_entries * sizeof(*ring.entries));
	} else if (mode == MODE_CLEAR) {
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	}
	vcpu = vm_vcpu_add(vm, 0, nested ? l1_code : guest_code);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, nr_pages, 0);
	virt_map(vm, TEST_MEM, TEST_MEM, nr_pages);
	if (mode == MODE_RING)
		ring.entries = vcpu_map_dirty_ring(vcpu);
	if (nested) {
		l2_map_create(vm, &l2_map, TEST_MEM, nr_pages, false, 0);
		l2_create(vm, &l2);
		sync_global_to_guest(vm, l2_map);
		sync_global_to_guest(vm, l2);
	}
	sync_global_to_guest(vm, nr_pages);
	sync_global_to_guest(vm, stride);
	taken = bitmap_zalloc(nr_pages);
	TEST_ASSERT(taken, "Out of memory");
}

static void help(const char *name)
{
	printf("usage: %s [-m mode] [-p pages] [-e stride] [-n] [-r]\n"
	       " -m: get (KVM_GET_DIRTY_LOG clears), clear (KVM_CLEAR_DIRTY_LOG does), or ring\n"
	       "     (default: clear)\n"
	       " -p: pages of memory, a multiple of %d, at most %d (default: %lu)\n"
	       " -e: the guest writes one page in so many (default: 1)\n"
	       " -n: a nested guest, with nested paging\n"
	       " -r: report only, for a kernel that takes mmu_lock for write\n",
	       name, BITS_PER_LONG, MAX_PAGES, nr_pages);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	struct {
		struct cost faults, plain, clear;
	} cost = {};
	bool nested = false, report = false;
	uint64_t total;
	const char *why;
	long fast;
	int opt, i;

	while ((opt = getopt(argc, argv, "m:p:e:nr")) != -1) {
		switch (opt) {
		case 'm':
			for (mode = 0; mode < NR_MODES; mode++) {
				if (!strcmp(optarg, mode_names[mode]))
					break;
			}
			break;
		case 'p':
			nr_pages = aging_parse_positive(optarg);
			break;
		case 'e':
			stride = aging_parse_positive(optarg);
			break;
		case 'n':
			nested = true;
			break;
		case 'r':
			report = true;
			break;
		default:
			help(argv[0]);
		}
	}
	if (optind != argc || mode == NR_MODES || !nr_pages || nr_pages % BITS_PER_LONG ||
	    !stride || nr_pages > (mode == MODE_RING || nested ? MAX_PAGES_RING : MAX_PAGES))
		help(argv[0]);

	ksft_print_header();
	if (nested) {
		why = l2_supported(true);
		__TEST_REQUIRE(!why, "%s", why);
	}
	if (mode == MODE_RING)
		TEST_REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) ||
			     kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL));
	ksft_set_plan(3);

	create_vm(nested);
	write_all(&cost.plain);
	vm_mem_region_set_flags(vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES);

	for (i = -1; i < ROUNDS; i++) {
		if (!i)
			memset(&cost, 0, sizeof(cost));
		write_all(&cost.faults);
		write_all(&cost.plain);
		clear_all(&cost.clear);
	}

	total = ROUNDS * DIV_ROUND_UP(nr_pages, stride);
	fast = cost.faults.fast * 100 / (long)total;
	print_cost("fault", &cost.faults, cost.faults.ns - cost.plain.ns, total);
	print_cost("cleared page", &cost.clear, cost.clear.ns, total);
	ksft_print_msg("of the faults, %ld%% fast\n", fast);

	if (aging_mmu_lock_write_acquisitions() < 0) {
		ksft_test_result_skip("write_locks_to_clear: no CONFIG_LOCK_STAT\n");
		ksft_test_result_skip("write_locks_to_fault: no CONFIG_LOCK_STAT\n");
	} else {
		ksft_test_result(report || !cost.clear.writes, "write_locks_to_clear\n");
		ksft_test_result(report ||
				 cost.faults.writes * 100 <= (long)total * (100 - WANT_FAST),
				 "write_locks_to_fault\n");
	}
	if (aging_fast_faults() < 0)
		ksft_test_result_skip("fast_faults: debugfs does not say\n");
	else if (!nested && host_cpu_is_intel && get_kvm_intel_param_bool("pml"))
		ksft_test_result_skip("fast_faults: with PML, a write does not fault\n");
	else
		ksft_test_result(report || fast >= WANT_FAST, "fast_faults\n");

	kvm_vm_free(vm);
	ksft_finished();
}
