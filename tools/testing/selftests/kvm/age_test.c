// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does aging tell the truth about a guest?
 *
 * A guest reads some of its pages, writes others and leaves the rest alone.  The host
 * ages the memory and compares what aging says with what the guest did:
 *
 * - page_idle: the age of every page;
 * - MGLRU: the number of young pages (lru), which pages go when the host evicts the old
 *   generations (evict, look), or what page_idle says of pages that MGLRU skipped (skip).
 *
 * The guest may be a nested one (-n), whose memory KVM maps with shadow pages.  Or it may
 * be a nested one without nested paging (-N), for which KVM has a second root of the same
 * memory.  L1 then uses some of the pages, and L2 the rest.
 *
 * With -W, a thread reads the guest's working set 100 times a second meanwhile, which must
 * not make a page old for the host.
 *
 * Aging does not flush TLBs, so a guest with a stale TLB entry may use a page without
 * setting Accessed again.  Therefore the test flushes after it ages and before it runs the
 * guest, see flush_guest_tlb(), and can be strict.  The test fails if anything else ages
 * the same memory: run it without memory pressure and without DAMON.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "swap_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define FLUSH_SLOT	2
#define ROM_SLOT	3

#define TEST_MEM	0x100000000ULL
#define FLUSH_MEM	0x80000000ULL
#define ROM_MEM		0x90000000ULL
#define ROM_PAGES	4

#define PAGES_PER_HUGE	512

#define AGE_BITMAP	"/sys/module/kvm/parameters/age_bitmap"

/* Checks that each run_*_round() makes in every mode. */
#define CHECKS		3

enum touch {
	TOUCH_NONE,
	TOUCH_READ,
	TOUCH_WRITE,
};

enum phase {
	PHASE_POPULATE,
	PHASE_CONTROL,
	PHASE_PATTERN,
};

/* What the host tells the guest. */
static struct {
	uint64_t nr_units;
	/* Aging treats a unit as one: a page, or a huge page. */
	uint64_t unit_pages;
	uint64_t round;
	enum phase phase;
	bool read_only;
	/* Does the guest read ROM_MEM?  L2 has none. */
	bool rom;
} job;

/* Host and guest compute the same pattern: the host need not pass it. */
static uint64_t pattern_hash(uint64_t unit, uint64_t round)
{
	uint64_t hash = (unit + 1) * 0x9e3779b97f4a7c15ULL ^ (round + 1) * 0xbf58476d1ce4e5b9ULL;

	hash ^= hash >> 29;
	hash *= 0x94d049bb133111ebULL;
	return hash ^ hash >> 32;
}

static enum touch pattern(uint64_t unit, uint64_t round)
{
	uint64_t hash = pattern_hash(unit, round);

	/* With few huge pages, too, the pattern has a young unit and an old one. */
	if (unit == 0)
		return TOUCH_READ;
	if (unit == 1)
		return TOUCH_NONE;

	if (job.read_only)
		return hash % 2 ? TOUCH_READ : TOUCH_NONE;
	return hash % 3;
}

/*
 * With small pages, the control touches one page per page table of the guest, so
 * that the same page tables are young after it as after a full pattern.  With huge
 * pages, one page per page table would be all memory, so the control touches none.
 */
static bool control_touches(uint64_t unit)
{
	return job.unit_pages == 1 && unit % PAGES_PER_HUGE == 0;
}

static void guest_touch(uint64_t page, enum touch touch)
{
	uint64_t *word = (uint64_t *)(TEST_MEM + page * PAGE_SIZE);

	if (touch == TOUCH_READ)
		READ_ONCE(*word);
	else if (touch == TOUCH_WRITE)
		WRITE_ONCE(*word, page);
}

/* PHASE_POPULATE touches all units.  The other phases touch the @nth of @of parts of them. */
static void guest_phase(uint64_t of, uint64_t nth)
{
	uint64_t unit, page;

	for (page = 0; job.rom && page < ROM_PAGES; page++)
		READ_ONCE(*(uint64_t *)(ROM_MEM + page * PAGE_SIZE));

	for (unit = 0; unit < job.nr_units; unit++) {
		if (job.phase != PHASE_POPULATE && pattern_hash(unit, job.round) / 16 % of != nth)
			continue;
		page = unit * job.unit_pages;
		switch (job.phase) {
		case PHASE_POPULATE:
			guest_touch(page, job.read_only ? TOUCH_READ : TOUCH_WRITE);
			break;
		case PHASE_CONTROL:
			if (control_touches(unit))
				guest_touch(page, TOUCH_READ);
			break;
		case PHASE_PATTERN:
			/* Any page of a huge one makes all of it young. */
			page += pattern_hash(unit, ~job.round) % job.unit_pages;
			guest_touch(page, pattern(unit, job.round));
			break;
		}
	}
}

static void guest_code(void)
{
	for (;;) {
		guest_phase(1, 0);
		GUEST_SYNC1(job.round);
	}
}

static struct l2_map l2_map;
static struct l2 l2;

static void l2_code(uint64_t unused)
{
	guest_code();
}

/* L2 does what the guest does otherwise, and never exits to L1. */
static void l1_code(void)
{
	l2_run_for_good(&l2, &l2_map, l2_code, 0);
}

static void flat_l2_code(uint64_t unused)
{
	for (;;) {
		guest_phase(2, 1);
		l2_call();
	}
}

/* L1 and L2 take turns, and each touches half of the units. */
static void flat_l1_code(void)
{
	l2_init(&l2, NULL, flat_l2_code, 0);
	for (;;) {
		guest_phase(2, 0);
		GUEST_ASSERT_EQ(l2_run(&l2), L2_CALL);
		GUEST_SYNC1(job.round);
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct page_idle idle;
/*
 * These arrays have one order, in which the test asks page_idle: unit by unit, except with
 * -m skip, where unit_order[] says which unit an index stands for.
 */
static uint64_t *unit_order;
static uint64_t *unit_pfns;
static bool *unit_idle;
static bool huge_pages;
static bool count_locks;
static bool nested;
/* Nested, but without nested paging. */
static bool flat;
static bool ask_at_once;
static bool look_around;
static bool skip_others;
/* Without A/D bits, aging takes R, W and X from an SPTE.  A fast page fault restores them. */
static bool access_tracking;

static void run_phase(enum phase phase, uint64_t round)
{
	struct ucall uc;

	job.phase = phase;
	job.round = round;
	sync_global_to_guest(vm, job);

	vcpu_run(vcpu);
	errno = 0;
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(uc.cmd == UCALL_SYNC && uc.args[0] == round,
		    "The guest did not finish round %lu: %s", round,
		    exit_reason_str(vcpu->run->exit_reason));
}

/*
 * Make the guest set Accessed again on each page that it uses.
 *
 * When userspace turns on dirty logging for a slot, KVM flushes TLBs in any case.
 * For a slot that maps nothing, KVM changes no SPTE.  The flush is of the whole
 * TLB: KVM has ranged flushes under Hyper-V only.  The guest does not run now, so
 * the flush happens at its next entry, in time.  Deleting a slot would flush, too,
 * but would zap every SPTE of the VM.
 *
 * An emulated SVM host flushes at every entry and exit anyway.
 */
static void flush_guest_tlb(void)
{
	vm_mem_region_set_flags(vm, FLUSH_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	vm_mem_region_set_flags(vm, FLUSH_SLOT, 0);
}

/* Mark all units idle, which clears young, and count those that are not idle after that. */
static uint64_t mark_all_idle(void)
{
	uint64_t unit, busy = 0;

	page_idle_mark(&idle, unit_pfns, job.nr_units);
	page_idle_test(&idle, unit_pfns, job.nr_units, unit_idle);

	for (unit = 0; unit < job.nr_units; unit++) {
		if (!unit_pfns[unit] || unit_idle[unit])
			continue;
		if (!busy++)
			ksft_print_msg("unit %lu is young at rest\n", unit);
	}
	return busy;
}

/*
 * Neither the guest nor another VM runs, so aging alone can take mmu_lock between the two
 * readings.
 */
static void check_locks(uint64_t round, long before)
{
	long taken = aging_mmu_lock_acquisitions() - before;

	if (!count_locks)
		return;
	ksft_print_msg("mmu_lock taken %ld times while aging\n", taken);
	ksft_test_result(!taken, "round %lu: aging does without mmu_lock\n", round);
}

static void run_idle_round(uint64_t round)
{
	uint64_t missed = 0, invented = 0, used = 0;
	uint64_t unit, busy;
	long locks, faults;

	locks = aging_mmu_lock_acquisitions();
	busy = mark_all_idle();
	check_locks(round, locks);
	if (busy)
		ksft_print_msg("%lu of %lu units are young at rest\n", busy, job.nr_units);
	ksft_test_result(!busy, "round %lu: memory at rest is old\n", round);

	flush_guest_tlb();
	faults = aging_fast_faults();
	run_phase(PHASE_PATTERN, round);
	faults = aging_fast_faults() - faults;

	page_idle_test(&idle, unit_pfns, job.nr_units, unit_idle);
	for (unit = 0; unit < job.nr_units; unit++) {
		enum touch touch = pattern(unit, round);
		bool old = unit_idle[unit];

		if (!unit_pfns[unit])
			continue;

		used += touch != TOUCH_NONE;
		if (touch != TOUCH_NONE && old) {
			if (!missed++)
				ksft_print_msg("unit %lu was %s but is old\n", unit,
					       touch == TOUCH_READ ? "read" : "written");
		} else if (touch == TOUCH_NONE && !old) {
			if (!invented++)
				ksft_print_msg("unit %lu was left alone but is young\n", unit);
		}
	}
	if (missed || invented)
		ksft_print_msg("%lu of %lu units are wrongly old, %lu wrongly young\n", missed,
			       job.nr_units, invented);
	ksft_test_result(!missed, "round %lu: what the guest used is young\n", round);
	ksft_test_result(!invented, "round %lu: what it left alone is old\n", round);
	if (access_tracking) {
		ksft_print_msg("%lu units used, %ld fast page faults\n", used, faults);
		ksft_test_result(faults == used,
				 "round %lu: each was brought back without mmu_lock\n", round);
	}
}

/* Run one pass and return how many pages it found young. */
static unsigned long lru_pass(void)
{
	aging_lru_read_and_pass();
	return aging_lru_young();
}

/*
 * The generations count every page of the process, so its stack and heap, and the
 * guest's code and page tables, count as young, too.  The control finds their
 * number: it is what is young beyond the few pages that the control touches.  The
 * number is the same in all passes, give or take JITTER pages, one or two in practice.
 */
#define JITTER		4
/* At most so many of these pages are young, not counting page tables. */
#define MAX_OTHERS	64

static void run_lru_round(uint64_t round)
{
	unsigned long pages = job.nr_units * job.unit_pages;
	unsigned long control, young, others;
	unsigned long controlled = 0, used = 0, tables = 0;
	uint64_t unit;
	long locks;

	for (unit = 0; unit < job.nr_units; unit++) {
		controlled += control_touches(unit);
		if (pattern(unit, round) != TOUCH_NONE)
			used += job.unit_pages;
	}
	/* The guest's page tables that the control does not use, see control_touches(). */
	if (job.unit_pages > 1)
		tables = pages / PAGES_PER_HUGE;

	/* The first pass makes old what earlier rounds left young. */
	lru_pass();
	flush_guest_tlb();
	run_phase(PHASE_CONTROL, round);
	control = lru_pass();

	flush_guest_tlb();
	run_phase(PHASE_PATTERN, round);
	locks = aging_mmu_lock_acquisitions();
	young = lru_pass();
	check_locks(round, locks);

	ksft_print_msg("%lu of %lu pages used, %lu young; control: %lu used, %lu young\n",
		       used, pages, young, controlled, control);
	ksft_test_result(control >= controlled &&
			 control <= controlled + MAX_OTHERS + pages / PAGES_PER_HUGE,
			 "round %lu: memory at rest is old\n", round);

	others = control - controlled;
	ksft_test_result(young + JITTER >= used + others,
			 "round %lu: what the guest used is young\n", round);
	ksft_test_result(young <= used + others + tables + JITTER,
			 "round %lu: what it left alone is old\n", round);
}

/* If mm/ asks KVM about a page table at once, a range has at least so many leaf SPTEs. */
#define MANY_PER_RANGE	16
/* The same for reclaim: it asks about a page, and, if the page is young, about those around. */
#define FEW_PER_RANGE	2

static void check_at_once(uint64_t round, long ranges, long scanned, long many)
{
	ksft_print_msg("%ld SPTEs in %ld ranges\n", scanned, ranges);
	ksft_test_result(ranges > 0 && (scanned >= many * ranges) == ask_at_once,
			 "round %lu: KVM is asked %s\n", round,
			 ask_at_once ? "about a page table at once" : "page by page");
}

/*
 * To take a huge page from the guest, KVM flushes twice, because mm/ splits the page first.
 * To find the page young, KVM must not flush.  With MGLRU, reclaim calls clear_flush_young()
 * for huge pages only.
 */
static void check_flushes(uint64_t round, uint64_t flushes)
{
	uint64_t used = 0, out = 0, unit;

	for (unit = 0; unit < job.nr_units; unit++) {
		used += pattern(unit, round) != TOUCH_NONE;
		out += swap_is_out(addr_gpa2hva(vm, TEST_MEM + unit * job.unit_pages * PAGE_SIZE));
	}
	ksft_print_msg("%lu flushes of TLBs, for %lu units evicted and %lu used\n", flushes, out,
		       used);
	ksft_test_result(flushes < 2 * out + used / 2,
			 "round %lu: no TLB is flushed for young pages\n", round);
}

/*
 * Pages that the guest used are in a younger generation than those that it left alone.  So
 * when the host evicts the older generations, the pages that the guest left alone must go.
 * Check page by page: a generation may have the right number of pages, but the wrong ones.
 */
static void run_evict_round(uint64_t round)
{
	uint64_t missed = 0, invented = 0, unit, flushes;
	long ranges, scanned, locks;
	int tries;

	lru_pass();
	flush_guest_tlb();
	run_phase(PHASE_PATTERN, round);

	/* With -m look, eviction has to find the used pages, not a walk of page tables. */
	if (look_around) {
		aging_lru_walk(false);
		ranges = aging_stat("ranges");
		lru_pass();
		lru_pass();
		ksft_test_result(aging_stat("ranges") == ranges,
				 "round %lu: KVM is not asked before\n", round);
	}

	ranges = aging_stat("ranges");
	scanned = aging_stat("scanned");
	if (!look_around) {
		locks = aging_mmu_lock_acquisitions();
		lru_pass();
		check_locks(round, locks);
		ranges = aging_stat("ranges") - ranges;
		scanned = aging_stat("scanned") - scanned;
	}

	flushes = vm_get_stat(vm, "remote_tlb_flush_requests");
	/* Pages that are locked, or not on their list, stay at the first try. */
	for (tries = 0; tries < 10; tries++) {
		aging_lru_evict_old();

		missed = 0;
		invented = 0;
		for (unit = 0; unit < job.nr_units; unit++) {
			void *hva = addr_gpa2hva(vm, TEST_MEM + unit * job.unit_pages * PAGE_SIZE);
			bool used = pattern(unit, round) != TOUCH_NONE;

			missed += used && swap_is_out(hva);
			invented += !used && !swap_is_out(hva);
		}
		if (!invented)
			break;
	}
	if (look_around) {
		ranges = aging_stat("ranges") - ranges;
		scanned = aging_stat("scanned") - scanned;
		aging_lru_walk(true);
	}

	ksft_print_msg("%lu units: %lu wrongly evicted, %lu kept\n", job.nr_units, missed,
		       invented);
	ksft_test_result(!missed, "round %lu: what the guest used is young\n", round);
	ksft_test_result(!invented, "round %lu: what it left alone is old\n", round);
	if (look_around && huge_pages)
		check_flushes(round, vm_get_stat(vm, "remote_tlb_flush_requests") - flushes);
	else
		check_at_once(round, ranges, scanned,
			      look_around ? FEW_PER_RANGE : MANY_PER_RANGE);
}

/*
 * The memcg that run_skip_round() ages has every other page of every other page table.  So
 * mm/ need not ask KVM about half of the page tables, and has pages to skip in the rest.
 */
static bool is_asked(uint64_t unit)
{
	return unit / PAGES_PER_HUGE % 2 == 0;
}

static bool is_ours(uint64_t unit)
{
	return is_asked(unit) && unit % 2;
}

/*
 * A page table maps pages of two memcgs, and MGLRU ages one of them.  MGLRU skips the pages
 * of the other memcg, so those that are young stay young.  page_idle must find these young
 * afterwards, and the aged ones old.
 */
static void run_skip_round(uint64_t round)
{
	uint64_t asked = 0, used = 0, lost = 0, left = 0, invented = 0, i;
	unsigned long young;
	long ranges, scanned;

	/* The first pass makes old what earlier rounds left young. */
	lru_pass();
	mark_all_idle();
	flush_guest_tlb();
	run_phase(PHASE_PATTERN, round);
	ranges = aging_stat("ranges");
	scanned = aging_stat("scanned");
	young = lru_pass();
	ranges = aging_stat("ranges") - ranges;
	scanned = aging_stat("scanned") - scanned;
	page_idle_test(&idle, unit_pfns, job.nr_units, unit_idle);

	for (i = 0; i < job.nr_units; i++) {
		uint64_t unit = unit_order[i];
		bool touched = pattern(unit, round) != TOUCH_NONE;

		asked += is_asked(unit);
		used += touched && is_ours(unit);
		if (!unit_pfns[i])
			continue;
		lost += touched && !is_ours(unit) && unit_idle[i];
		left += touched && is_ours(unit) && !unit_idle[i];
		invented += !touched && !unit_idle[i];
	}
	ksft_print_msg("%lu of ours used, %lu young, %lu left; %lu of others lost; %lu invented\n",
		       used, young, left, lost, invented);
	ksft_print_msg("%lu are in tables with some of ours\n", asked);
	ksft_test_result(young + JITTER >= used && !left,
			 "round %lu: what the guest used was young, and is old\n", round);
	ksft_test_result(!lost, "round %lu: what was skipped is young\n", round);
	ksft_test_result(!invented, "round %lu: what it left alone is old\n", round);
	check_at_once(round, ranges, scanned, MANY_PER_RANGE);
	ksft_test_result(scanned <= (long)asked + 4 * MAX_OTHERS,
			 "round %lu: KVM is not asked about tables with none of ours\n", round);
}

/* Will a VM that is created now take a bitmap? */
static bool age_bitmap(void)
{
	char c = 'N';
	FILE *file;

	file = fopen(AGE_BITMAP, "r");
	if (!file)
		return false;
	TEST_ASSERT(fscanf(file, "%c", &c) == 1, "Failed to read " AGE_BITMAP);
	fclose(file);
	return c == 'Y';
}

static void set_age_bitmap(bool value)
{
	FILE *file = fopen(AGE_BITMAP, "w");

	TEST_ASSERT(file && fprintf(file, "%d", value) > 0 && !fclose(file),
		    "Failed to write " AGE_BITMAP);
}

/* exit() runs this, also after a failed assertion. */
static void allow_age_bitmap(void)
{
	set_age_bitmap(true);
}

/* If one VM of a process takes no bitmap, mm/ asks page by page about all of the process. */
static void create_vm_without_bitmap(void)
{
	atexit(allow_age_bitmap);
	set_age_bitmap(false);
	vm_create_barebones();
	set_age_bitmap(true);
}

static void create_vm(uint64_t pages)
{
	uint64_t bytes = pages * PAGE_SIZE;
	void *hva;

	vm = __vm_create_with_one_vcpu(&vcpu, pages,
				       flat ? flat_l1_code : nested ? l1_code : guest_code);
	vm_userspace_mem_region_add(vm, huge_pages ? VM_MEM_SRC_ANONYMOUS_THP :
				    VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, pages, 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, FLUSH_MEM, FLUSH_SLOT, 1, 0);
	virt_map(vm, TEST_MEM, TEST_MEM, pages);
	/* Have aging visit a read-only memslot, too, like that of a BIOS. */
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, ROM_MEM, ROM_SLOT, ROM_PAGES,
				    KVM_MEM_READONLY);
	virt_map(vm, ROM_MEM, ROM_MEM, ROM_PAGES);
	memset(addr_gpa2hva(vm, ROM_MEM), 0x5a, ROM_PAGES * PAGE_SIZE);
	job.rom = !nested;
	if (nested) {
		if (!flat)
			l2_map_create(vm, &l2_map, TEST_MEM, pages, huge_pages, 0);
		l2_create(vm, &l2);
		sync_global_to_guest(vm, l2_map);
		sync_global_to_guest(vm, l2);
	}

	/* Populate by writing: a read would map the zero page, which is on no LRU list. */
	hva = addr_gpa2hva(vm, TEST_MEM);
	if (skip_others) {
		uint64_t page;

		/* A page belongs to the memcg that touches it first. */
		aging_lru_leave();
		for (page = 0; page < pages; page++) {
			if (!is_ours(page))
				memset(hva + page * PAGE_SIZE, 0x5a, PAGE_SIZE);
		}
		aging_lru_enter();
	}
	memset(hva, 0x5a, bytes);
	__TEST_REQUIRE(!huge_pages || aging_huge_bytes(hva) == bytes,
		       "Only %lu of %lu bytes are in huge pages", aging_huge_bytes(hva), bytes);
}

static void lookup_pfns(void)
{
	uint64_t unit, i, left_out = 0, nr = 0;
	void *hva;

	unit_pfns = calloc(job.nr_units, sizeof(*unit_pfns));
	unit_idle = calloc(job.nr_units, sizeof(*unit_idle));
	unit_order = calloc(job.nr_units, sizeof(*unit_order));
	TEST_ASSERT(unit_pfns && unit_idle && unit_order, "Out of memory");

	/*
	 * page_idle_test() asks once about frames of one word that follow each other in its
	 * argument.  Neighbours in memory are pages of one memcg, so list the pages of the
	 * aged memcg first, then those of the other.
	 */
	for (unit = 0; unit < job.nr_units; unit++) {
		if (!skip_others || is_ours(unit))
			unit_order[nr++] = unit;
	}
	for (unit = 0; skip_others && unit < job.nr_units; unit++) {
		if (!is_ours(unit))
			unit_order[nr++] = unit;
	}

	for (i = 0; i < job.nr_units; i++) {
		hva = addr_gpa2hva(vm, TEST_MEM + unit_order[i] * job.unit_pages * PAGE_SIZE);
		unit_pfns[i] = page_idle_pfn(&idle, hva);
		left_out += !unit_pfns[i];
	}
	/* The host has written all pages, so they are mapped, and have frames. */
	if (left_out)
		ksft_print_msg("%lu units at the end of memory are left out\n", left_out);
	TEST_ASSERT(left_out < 64 && left_out < job.nr_units / 2,
		    "%lu of %lu units are not mapped", left_out, job.nr_units);
}

/* For -W. */
static bool read_working_set;
static bool stop_reader;
static pthread_t reader;
static unsigned long reads;

static void *reader_thread(void *unused)
{
	int fd;

	while (!READ_ONCE(stop_reader)) {
		fd = aging_open_working_set(vm->fd, "working_set");
		TEST_ASSERT(fd >= 0, "Failed to read the working set");
		close(fd);
		reads++;
		usleep(10000);
	}
	return NULL;
}

static void help(const char *name)
{
	printf("usage: %s [-m idle|lru|evict|look|skip] [-p pages] [-i rounds] [-HrnNLFW]\n"
	       " -m: how to age (default: idle where the kernel has page_idle, else lru)\n"
	       "     idle   page_idle\n"
	       "     lru    MGLRU in debugfs, and count the young pages\n"
	       "     evict  MGLRU, and look which pages it evicts; wants swap\n"
	       "     look   as evict, but eviction itself finds the young pages\n"
	       "     skip   MGLRU, of a memcg that has one of four pages; page_idle checks\n"
	       " -p: 4 KiB pages to age (default: 4096)\n"
	       " -i: rounds (default: 3; 1 of -m evict -H, as huge pages do not come back)\n"
	       " -H: put the memory in 2 MiB pages; -p is rounded up, 4 of them at least\n"
	       " -r: the guest only reads\n"
	       " -n: the guest is a nested one, with nested paging\n"
	       " -N: a nested guest without nested paging does half of what the guest does\n"
	       " -L: aging must not take mmu_lock, as counted by lock_stat; not with look or skip\n"
	       " -F: add a VM that takes no bitmap, so that mm/ asks KVM page by page\n"
	       " -W: read the working set 100 times a second meanwhile\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	bool want_idle = false, want_lru = false, want_evict = false, fallback = false;
	bool want_pfns;
	unsigned long pages = 4096;
	unsigned long rounds = 3;
	const char *why = NULL;
	uint64_t round;
	int opt;

	while ((opt = getopt(argc, argv, "m:p:i:HrnNLFW")) != -1) {
		switch (opt) {
		case 'm':
			want_idle = !strcmp(optarg, "idle");
			look_around = !strcmp(optarg, "look");
			want_evict = look_around || !strcmp(optarg, "evict");
			skip_others = !strcmp(optarg, "skip");
			want_lru = want_evict || skip_others || !strcmp(optarg, "lru");
			if (!want_idle && !want_lru)
				help(argv[0]);
			break;
		case 'p':
			pages = aging_parse_positive(optarg);
			break;
		case 'i':
			rounds = aging_parse_positive(optarg);
			break;
		case 'H':
			huge_pages = true;
			break;
		case 'r':
			job.read_only = true;
			break;
		case 'N':
			flat = true;
			fallthrough;
		case 'n':
			nested = true;
			break;
		case 'L':
			count_locks = true;
			break;
		case 'F':
			fallback = true;
			break;
		case 'W':
			read_working_set = true;
			break;
		default:
			help(argv[0]);
		}
	}
	/* At least two pages: one that the guest uses, and one that it leaves alone. */
	if (optind != argc || pages < 2 || !rounds)
		help(argv[0]);
	if ((look_around && count_locks) || (skip_others && (huge_pages || count_locks)))
		help(argv[0]);

	ksft_print_header();

	job.unit_pages = 1;
	if (huge_pages) {
		__TEST_REQUIRE(thp_configured(), "No transparent huge pages");
		TEST_REQUIRE(get_trans_hugepagesz() == PAGES_PER_HUGE * PAGE_SIZE);
		job.unit_pages = PAGES_PER_HUGE;
		pages = align_up(max(pages, 4UL * PAGES_PER_HUGE), PAGES_PER_HUGE);
	}
	job.nr_units = pages / job.unit_pages;

	if (nested) {
		why = l2_supported(!flat);
		__TEST_REQUIRE(!why, "%s", why);
	}

	if (!want_lru || skip_others) {
		why = page_idle_open(&idle);
		__TEST_REQUIRE(!why || !(want_idle || skip_others), "%s", why);
		want_idle = !why && !skip_others;
	}
	want_pfns = want_idle || skip_others;
	if (!want_idle) {
		why = aging_lru_setup();
		__TEST_REQUIRE(!why, "%s", why);
	}
	if (want_evict) {
		why = swap_open();
		__TEST_REQUIRE(!why, "%s", why);
		__TEST_REQUIRE(aging_stat("ranges") >= 0, "KVM does not say what aging did");
		if (huge_pages)
			rounds = 1;
	}
	__TEST_REQUIRE(!fallback || age_bitmap(), "No VM can be asked about several pages at once");
	/* mm/ asks about each huge page by itself. */
	ask_at_once = age_bitmap() && !fallback && !huge_pages;

	create_vm(pages);
	if (read_working_set) {
		int fd = aging_open_working_set(vm->fd, "working_set");

		__TEST_REQUIRE(fd >= 0 || (errno != ENOENT && errno != EOPNOTSUPP),
			       "KVM has no working set to read");
		TEST_ASSERT(fd >= 0, "Failed to read the working set");
		close(fd);
	}
	if (fallback)
		create_vm_without_bitmap();
	ksft_print_msg("aging %lu pages of %s through %s\n", pages,
		       nested ? "a nested guest" : "a guest", want_idle ? "page_idle" : "MGLRU");
	/* KVM fixes faults of nested guests with mmu_lock held. */
	access_tracking = want_idle && !nested && host_cpu_is_intel &&
			  get_kvm_intel_param_bool("ept") && !get_kvm_intel_param_bool("eptad");
	__TEST_REQUIRE(!access_tracking || aging_fast_faults() >= 0,
		       "No pf_fast in debugfs");
	ksft_set_plan(rounds * (CHECKS + count_locks + access_tracking + look_around +
			     2 * skip_others) + read_working_set);

	run_phase(PHASE_POPULATE, 0);
	__TEST_REQUIRE(!count_locks || aging_mmu_lock_acquisitions() > 0,
		       "lock_stat does not know mmu_lock");
	if (want_pfns)
		lookup_pfns();
	if (read_working_set)
		pthread_create(&reader, NULL, reader_thread, NULL);

	for (round = 1; round <= rounds; round++) {
		if (want_evict && round > 1)
			run_phase(PHASE_POPULATE, round);
		/* Page faults and activation leave pages in per-CPU batches, off the LRU lists. */
		aging_drain_lru();
		if (want_idle)
			run_idle_round(round);
		else if (want_evict)
			run_evict_round(round);
		else if (skip_others)
			run_skip_round(round);
		else
			run_lru_round(round);
	}

	if (read_working_set) {
		WRITE_ONCE(stop_reader, true);
		pthread_join(reader, NULL);
		ksft_print_msg("the working set was read %lu times\n", reads);
		ksft_test_result(reads > rounds, "the working set was read\n");
	}
	if (want_pfns)
		page_idle_close(&idle);
	free(unit_order);
	free(unit_pfns);
	free(unit_idle);
	kvm_vm_free(vm);
	ksft_finished();
}
