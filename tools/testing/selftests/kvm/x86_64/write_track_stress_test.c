// SPDX-License-Identifier: GPL-2.0-only
/*
 * Trackers come and go while vCPUs write and memslots change.  Each vCPU writes increasing
 * numbers to a page of its own.  A tracker tracks this page, reads the number before and after
 * a pause, and untracks the page.  KVM must tell the tracker of each number between the two
 * once, in order.
 *
 * With -n, the vCPUs run nested guests.  KVM tracks their page tables itself, and L1 rewrites
 * the page tables.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "stress_util.h"
#include "test_util.h"
#include "track_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define OTHER_SLOT	2
#define TEST_MEM	0x40000000ULL
#define NR_PAGES	1024
/* The guest does not use this memslot, but deleting it zaps all roots. */
#define OTHER_MEM	0x100000000ULL
#define NR_VCPUS	2
/* The events that a tracker keeps, and one for those that it lost. */
#define MAX_EVENTS	(8192 + 1)

static struct l2_map map;
static struct l2 l2[NR_VCPUS];
static bool nested;

/* Both counters' pages are in one block of KVM's counts, and below one page table. */
static uint64_t counter_gpa(uint64_t index)
{
	return TEST_MEM + (60 + index * 2) * PAGE_SIZE;
}

static void guest_code(uint64_t index)
{
	uint64_t *counter = (uint64_t *)counter_gpa(index);
	uint64_t random = index, n = 0, page;

	for (;;) {
		WRITE_ONCE(*counter, ++n);
		page = stress_random(&random) % NR_PAGES;
		/* Write elsewhere, too, in any page.  check() ignores these writes. */
		WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE + 64), n);
		if (n % 256 == 0) {
			if (nested)
				l2_call();
			else
				GUEST_SYNC(0);
		}
	}
}

static void l1_code(uint64_t index)
{
	uint64_t random = index + 100, page;
	uint64_t *leaf;

	l2_init(&l2[index], &map, guest_code, index);
	for (;;) {
		switch (l2_run(&l2[index])) {
		case L2_CALL:
			/* Unmap a page.  An L2 may be about to write the page. */
			page = stress_random(&random) % NR_PAGES;
			WRITE_ONCE(map.leaves[page], 0);
			/* Map a leaf table with W or without: KVM has a shadow page for each. */
			page = stress_random(&random) % (NR_PAGES / L2_ENTRIES);
			WRITE_ONCE(map.directory[page],
				   (map.leaves_gpa + page * PAGE_SIZE) |
				   (L2_ALL & ~(stress_random(&random) & L2_WRITABLE)));
			l2_flush(&l2[index]);
			GUEST_SYNC(0);
			break;
		case L2_FAULT:
			page = (l2[index].fault_gpa - TEST_MEM) / PAGE_SIZE;
			GUEST_ASSERT(page < NR_PAGES);
			leaf = &map.leaves[page];
			WRITE_ONCE(*leaf, (TEST_MEM + page * PAGE_SIZE) | map.page_bits);
			page /= L2_ENTRIES;
			WRITE_ONCE(map.directory[page],
				   (map.leaves_gpa + page * PAGE_SIZE) | L2_ALL);
			break;
		default:
			GUEST_FAIL("L2 exited with 0x%lx", l2[index].exit_code);
		}
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[NR_VCPUS];
static void *memory;

static void *run_vcpu(void *arg)
{
	struct stress_worker *worker = arg;
	struct kvm_vcpu *vcpu = vcpus[worker->letter ? 1 : 0];
	struct ucall uc;

	while (!stress_stopping()) {
		vcpu_run(vcpu);
		errno = 0;
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT(uc.cmd == UCALL_SYNC, "Unexpected exit: %s",
			    exit_reason_str(vcpu->run->exit_reason));
		stress_count(worker);
	}
	return NULL;
}

static uint64_t checked;

static void check(struct track_event *events, size_t nr, uint64_t gpa, uint64_t before,
		  uint64_t after)
{
	uint64_t next = 0;
	size_t i;

	for (i = 0; i < nr; i++) {
		if (events[i].type == TRACK_LOST)
			return;
		if (events[i].type != TRACK_WRITE || events[i].where != gpa)
			continue;
		TEST_ASSERT(next ? events[i].value == next : events[i].value <= before + 1,
			    "After %lu: told of the write of %lu when %lu was due", before,
			    events[i].value, next ?: before + 1);
		next = events[i].value + 1;
	}
	/* KVM writes memory before it tells the tracker, which may miss the write of @after. */
	TEST_ASSERT((next ?: before + 1) >= after, "Not told of the writes of %lu to %lu",
		    next ?: before + 1, after - 1);
	if (next)
		__atomic_fetch_add(&checked, 1, __ATOMIC_RELAXED);
}

static void *track_counter(void *arg)
{
	struct track_event *events = calloc(MAX_EVENTS, sizeof(*events));
	struct stress_worker *worker = arg;
	const uint64_t index = worker->letter == 'u';
	const uint64_t gpa = counter_gpa(index);
	uint64_t *counter = memory + (gpa - TEST_MEM);
	uint64_t random = index + 200, before, after;
	bool left = false;
	int tracker, r;
	size_t nr;

	TEST_ASSERT(events, "Out of memory");
	while (!stress_stopping()) {
		tracker = track_open();
		r = track_register(tracker, vm);
		TEST_ASSERT(!r, "Failed to register a tracker: %d", r);
		r = track_page(tracker, gpa);
		TEST_ASSERT(!r, "Failed to track a page: %d", r);
		/* Undo what the tracker before this one left: the page is tracked once. */
		if (left) {
			r = track_untrack_page(tracker, gpa);
			TEST_ASSERT(!r, "Failed to untrack what was left: %d", r);
		}
		before = READ_ONCE(*counter);
		usleep(stress_random(&random) % 4000);
		after = READ_ONCE(*counter);
		/* Now and then, leave the page tracked. */
		left = !(stress_random(&random) % 8);
		if (!left) {
			r = track_untrack_page(tracker, gpa);
			TEST_ASSERT(!r, "Failed to untrack a page: %d", r);
		}
		r = track_unregister(tracker);
		TEST_ASSERT(!r, "Failed to unregister a tracker: %d", r);
		nr = track_read(tracker, events, MAX_EVENTS);
		check(events, nr, gpa, before, after);
		close(tracker);
		stress_count(worker);
		usleep(stress_random(&random) % 4000);
	}
	free(events);
	return NULL;
}

static void *change_flags(void *arg)
{
	uint32_t flags = 0;

	while (!stress_stopping()) {
		flags ^= KVM_MEM_LOG_DIRTY_PAGES;
		vm_set_user_memory_region(vm, TEST_SLOT, flags, TEST_MEM, NR_PAGES * PAGE_SIZE,
					  memory);
		stress_count(arg);
		usleep(1000);
	}
	return NULL;
}

static void *create_and_delete(void *arg)
{
	while (!stress_stopping()) {
		vm_set_user_memory_region(vm, OTHER_SLOT, 0, OTHER_MEM, NR_PAGES * PAGE_SIZE,
					  memory);
		usleep(1000);
		vm_set_user_memory_region(vm, OTHER_SLOT, 0, OTHER_MEM, 0, NULL);
		stress_count(arg);
		usleep(3000);
	}
	return NULL;
}

static struct stress_worker workers[] = {
	{ 0, "rounds of the first vCPU", run_vcpu },
	{ 'v', "rounds of the second vCPU", run_vcpu },
	{ 't', "times the first counter was tracked", track_counter },
	{ 'u', "times the second counter was tracked", track_counter },
	{ 'f', "changes of flags", change_flags },
	{ 'd', "memslots created and deleted", create_and_delete },
	{}
};

static void help(const char *name)
{
	printf("usage: %s [-s seconds] [-n] [-x letters]\n"
	       " -s: how long to run (default: 10)\n"
	       " -n: nested guests\n"
	       " -x: leave out the second (v)CPU, (t) and (u), tracking of the first or second\n"
	       "     counter, change of (f)lags, (d)eleting memslots\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	unsigned long seconds = 10;
	const char *why;
	int opt, i, tracker;
	long empty;

	while ((opt = getopt(argc, argv, "s:nx:")) != -1) {
		switch (opt) {
		case 's':
			seconds = aging_parse_positive(optarg);
			break;
		case 'n':
			nested = true;
			break;
		case 'x':
			if (!stress_leave_out(workers, optarg))
				help(argv[0]);
			break;
		default:
			help(argv[0]);
		}
	}
	if (optind != argc || !seconds)
		help(argv[0]);

	ksft_print_header();
	why = track_supported() ?: nested ? l2_supported(true) : NULL;
	__TEST_REQUIRE(!why, "%s", why);
	/* Without the second vCPU, nothing writes the second counter. */
	if (!stress_enabled(workers, 'v') && stress_enabled(workers, 'u'))
		stress_disable(workers, 'u', "the second vCPU does not run");
	ksft_set_plan(2);

	vm = __vm_create_with_vcpus(VM_SHAPE_DEFAULT, NR_VCPUS, NR_PAGES,
				    nested ? l1_code : guest_code, vcpus);
	memory = mmap(NULL, NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(memory != MAP_FAILED, "Out of memory");

	tracker = track_open();
	TEST_ASSERT(!track_register(tracker, vm), "Failed to register a tracker");
	empty = track_bytes(vm);
	close(tracker);

	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_MEM, NR_PAGES * PAGE_SIZE, memory);
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	if (nested)
		l2_map_create(vm, &map, TEST_MEM, NR_PAGES, false, 0);
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_args_set(vcpus[i], 1, (uint64_t)i);
		if (nested)
			l2_create(vm, &l2[i]);
	}
	sync_global_to_guest(vm, map);
	sync_global_to_guest(vm, l2);
	sync_global_to_guest(vm, nested);

	stress_run(workers, seconds, NULL);
	for (i = 0; workers[i].name; i++)
		ksft_print_msg("%lu %s\n", workers[i].count, workers[i].name);
	ksft_print_msg("%lu times, there were writes, and room for all\n", checked);
	ksft_test_result(checked || (!stress_enabled(workers, 't') &&
				     !stress_enabled(workers, 'u')),
			 "each write was told of once\n");

	/* Deleting a memslot zaps all shadow pages, so KVM tracks no page for them. */
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_MEM, 0, NULL);
	ksft_test_result(track_bytes(vm) == empty, "no memory is left\n");

	kvm_vm_free(vm);
	ksft_finished();
}
