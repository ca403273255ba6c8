// SPDX-License-Identifier: GPL-2.0-only
/*
 * A migration without an end: no write may be missing from the dirty log.
 *
 * Each vCPU writes increasing numbers to random pages, and has a word of its own in each
 * page.  A thread does what a migration does: it copies the memory once, and then, over and
 * over, takes the log, clears it, and copies the pages that were in it.  Every so often, the
 * thread pauses the vCPUs, makes one more pass, and compares the copy with the memory.  If
 * KVM does not log a write, it does not write-protect the page again either, so the copy of
 * the page stays different.
 *
 * Meanwhile, other threads unmap the memory, swap it out, age it, collapse it to huge pages,
 * and delete memslots, which zaps all roots.  With -n, the guests are nested, and L1 changes
 * their nested page tables all the time.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <linux/bitmap.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "ring_util.h"
#include "stress_util.h"
#include "swap_util.h"
#include "sync_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define ZAP_SLOT	2

#define TEST_MEM	0x100000000ULL
#define ZAP_MEM		0x80000000ULL

#define HUGE_SIZE	(2ULL << 20)
#define PAGES_PER_HUGE	(HUGE_SIZE / PAGE_SIZE)

/* Pages that KVM_CLEAR_DIRTY_LOG is asked to clear at once. */
#define CLEAR_PAGES	512

/* Passes before the thread compares the copy, and turns logging off and on again. */
#define PASSES		20

/*
 * Mostly, a vCPU writes a page once.  Now and then, it writes the page BURST times, and so
 * goes on writing while the thread takes the log and copies the page.  If KVM does not flush
 * the TLB, these writes go through a stale entry, and the log lacks them.
 */
#define BURST		500000
#define VISITS_PER_BURST	64

/* Pages that a vCPU visits between two exits to the host. */
#define VISITS_PER_EXIT	64
/* Pages that an L2 visits between two exits to L1, and the changes that L1 makes each time. */
#define VISITS_PER_CALL	64
#define CHANGES		4

#define MAX_VCPUS	8
#define MAX_PAGES	262144
#define RING_ENTRIES	4096

static const char * const mode_names[] = { "get", "clear", "initial", "ring" };

static enum mode {
	/* KVM_GET_DIRTY_LOG clears the log. */
	MODE_GET,
	/* KVM_CLEAR_DIRTY_LOG clears the log. */
	MODE_CLEAR,
	/* As MODE_CLEAR, with all pages in the log when logging begins. */
	MODE_INITIAL,
	MODE_RING,
	NR_MODES
} mode;

/* What the guest has to know. */
static uint64_t nr_pages = 1024;
static uint64_t nr_vcpus = 2;
static uint64_t seed = 1;
static bool nested, huge;

static struct {
	struct l2_map map;
	struct l2 l2[MAX_VCPUS];
} l1;

static void guest_code(uint64_t index)
{
	uint64_t visits, burst, value = 0;
	uint64_t state = seed + index;
	uint64_t *word;

	for (visits = 1; ; visits++) {
		word = (uint64_t *)(TEST_MEM + stress_random(&state) % nr_pages * PAGE_SIZE);
		word += index;

		burst = stress_random(&state) % VISITS_PER_BURST ? 1 : BURST;
		while (burst--)
			WRITE_ONCE(*word, ++value);

		if (nested && visits % VISITS_PER_CALL == 0)
			l2_call();
		if (visits % VISITS_PER_EXIT == 0)
			GUEST_SYNC1(value);
	}
}

static uint64_t *l1_entry(uint64_t page)
{
	return huge ? &l1.map.directory[page / PAGES_PER_HUGE] : &l1.map.leaves[page];
}

/* Map the page to any frame: L2 and the test do not care to which. */
static void l1_map_random(uint64_t page, uint64_t *state)
{
	uint64_t frame = TEST_MEM + stress_random(state) % nr_pages * PAGE_SIZE;
	uint64_t bits = l1.map.page_bits;

	if (huge) {
		frame &= ~(HUGE_SIZE - 1);
		bits |= L2_HUGE;
	}
	WRITE_ONCE(*l1_entry(page), frame | bits);
}

static void l1_change(uint64_t *state)
{
	uint64_t page = stress_random(state) % nr_pages;
	uint64_t *entry = l1_entry(page);

	switch (stress_random(state) % 4) {
	case 0:
		WRITE_ONCE(*entry, 0);
		break;
	case 1:
		WRITE_ONCE(*entry, *entry & ~L2_WRITABLE);
		break;
	default:
		l1_map_random(page, state);
		break;
	}
}

static void l1_code(uint64_t index)
{
	struct l2 *l2 = &l1.l2[index];
	uint64_t state = seed + index;
	uint64_t page;
	int i;

	l2_init(l2, &l1.map, guest_code, index);

	for (;;) {
		l2_flush(l2);
		switch (l2_run(l2)) {
		case L2_CALL:
			for (i = 0; i < CHANGES; i++)
				l1_change(&state);
			break;
		case L2_FAULT:
			page = (l2->fault_gpa - TEST_MEM) / PAGE_SIZE;
			GUEST_ASSERT(page < nr_pages);
			l1_map_random(page, &state);
			break;
		default:
			GUEST_FAIL("L2 exited with 0x%lx", l2->exit_code);
		}
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[MAX_VCPUS];
/* A shared mapping of a file: unmapping pages zaps SPTEs, and loses no data. */
static void *mem;
/* Set after the workers have stopped: until then, the copy thread waits for paused vCPUs. */
static bool stop_vcpus;

static uint64_t *page_words(uint64_t page)
{
	return mem + page * PAGE_SIZE;
}

/* The library does not know the slot, as it does not align files to huge pages. */
static void set_test_slot(uint32_t flags)
{
	vm_set_user_memory_region(vm, TEST_SLOT, flags, TEST_MEM, nr_pages * PAGE_SIZE, mem);
}

/* The copy thread sets @wanted to pause the vCPUs.  @waiting vCPUs have paused. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool wanted;
	int waiting;
} pause_ = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void pause_here(void)
{
	if (!READ_ONCE(pause_.wanted))
		return;

	pthread_mutex_lock(&pause_.lock);
	pause_.waiting++;
	pthread_cond_broadcast(&pause_.changed);
	while (pause_.wanted)
		pthread_cond_wait(&pause_.changed, &pause_.lock);
	pause_.waiting--;
	pthread_cond_broadcast(&pause_.changed);
	pthread_mutex_unlock(&pause_.lock);
}

static void pause_vcpus(void)
{
	pthread_mutex_lock(&pause_.lock);
	WRITE_ONCE(pause_.wanted, true);
	while (pause_.waiting < nr_vcpus)
		pthread_cond_wait(&pause_.changed, &pause_.lock);
	pthread_mutex_unlock(&pause_.lock);
}

static void resume_vcpus(void)
{
	pthread_mutex_lock(&pause_.lock);
	WRITE_ONCE(pause_.wanted, false);
	pthread_cond_broadcast(&pause_.changed);
	while (pause_.waiting)
		pthread_cond_wait(&pause_.changed, &pause_.lock);
	pthread_mutex_unlock(&pause_.lock);
}

static uint64_t writes[MAX_VCPUS];
/*
 * Exits for a full ring.  While the ring is full, a vCPU exits each time that it tries to run:
 * @full_stops counts such exits in a row as one.
 */
static uint64_t full_exits[MAX_VCPUS], full_stops[MAX_VCPUS];

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	bool was_full = false;

	while (!READ_ONCE(stop_vcpus)) {
		pause_here();
		vcpu_run(vcpu);

		/* Try again, until the copy thread has emptied the ring. */
		if (vcpu->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
			full_exits[vcpu->id]++;
			full_stops[vcpu->id] += !was_full;
			was_full = true;
			continue;
		}
		was_full = false;

		WRITE_ONCE(writes[vcpu->id], vcpu_sync_arg(vcpu));
	}
	return NULL;
}

/* The copy of each page has a word for each vCPU.  @taken: the pages in the log. */
static uint64_t (*copy)[MAX_VCPUS];
static unsigned long *taken;
static struct dirty_ring rings[MAX_VCPUS];
static uint64_t copied;
/* The huge pages that KVM had mapped when logging began, summed over all times. */
static uint64_t huge_mapped;

static void copy_page(uint64_t page)
{
	int i;

	for (i = 0; i < nr_vcpus; i++)
		copy[page][i] = READ_ONCE(page_words(page)[i]);
	copied++;
}

static void copy_taken(uint64_t first, uint64_t nr)
{
	uint64_t page;

	for (page = first; page < first + nr; page++) {
		if (test_bit(page, taken))
			copy_page(page);
	}
}

static void take_ring(int i)
{
	uint64_t offset;
	uint32_t slot;

	while (dirty_ring_take(&rings[i], &slot, &offset)) {
		TEST_ASSERT(slot == TEST_SLOT && offset < nr_pages,
			    "Slot %u, offset 0x%lx in the ring of vCPU %d", slot, offset, i);
		set_bit(offset, taken);
	}
}

/* Take the log, clear it, copy, in this order for each page. */
static void one_pass(void)
{
	uint64_t first, nr;
	int i;

	bitmap_zero(taken, nr_pages);

	switch (mode) {
	case MODE_GET:
		kvm_vm_get_dirty_log(vm, TEST_SLOT, taken);
		copy_taken(0, nr_pages);
		break;
	case MODE_CLEAR:
	case MODE_INITIAL:
		kvm_vm_get_dirty_log(vm, TEST_SLOT, taken);
		for (first = 0; first < nr_pages; first += nr) {
			nr = min_t(uint64_t, CLEAR_PAGES, nr_pages - first);
			kvm_vm_clear_dirty_log(vm, TEST_SLOT, taken + first / BITS_PER_LONG,
					       first, nr);
			copy_taken(first, nr);
		}
		break;
	default:
		for (i = 0; i < nr_vcpus; i++)
			take_ring(i);
		kvm_vm_reset_dirty_ring(vm);
		copy_taken(0, nr_pages);
		break;
	}
}

static void compare(struct stress_worker *worker)
{
	uint64_t page, wrong = 0, *words;
	int i;

	for (page = 0; page < nr_pages; page++) {
		words = page_words(page);
		for (i = 0; i < nr_vcpus; i++) {
			if (words[i] == copy[page][i])
				continue;
			if (!wrong++)
				ksft_print_msg("page %lu: vCPU %d wrote %lu, the copy has %lu\n",
					       page, i, words[i], copy[page][i]);
		}
	}

	/* An old EACCES would turn a failed assertion into a skip. */
	errno = 0;
	TEST_ASSERT(!wrong, "%lu words were written, and not in the log (comparison %lu)",
		    wrong, worker->count);
	stress_count(worker);
}

static void *copy_thread(void *arg)
{
	uint64_t state = seed ^ 'c';
	uint64_t page;
	int i;

	while (!stress_stopping()) {
		WRITE_ONCE(huge_mapped, huge_mapped + vm_get_stat(vm, "pages_2m"));
		set_test_slot(KVM_MEM_LOG_DIRTY_PAGES);
		for (page = 0; page < nr_pages; page++)
			copy_page(page);
		for (i = 0; i < PASSES; i++) {
			usleep(stress_random(&state) % 2000);
			one_pass();
		}

		/* Right after the last pass, while the vCPUs' TLBs may have stale entries. */
		pause_vcpus();
		one_pass();
		compare(arg);
		resume_vcpus();

		set_test_slot(0);
		/* Let vCPUs map huge pages: KVM maps none while it logs the memslot. */
		usleep(stress_random(&state) % 10000);
	}
	return NULL;
}

#define UNMAP_PAGES	64

static void *unmap_thread(void *arg)
{
	uint64_t state = seed ^ 'u';
	uint64_t page, nr;

	while (!stress_stopping()) {
		nr = stress_random(&state) % UNMAP_PAGES + 1;
		page = stress_random(&state) % (nr_pages - nr + 1);
		TEST_ASSERT(!madvise(page_words(page), nr * PAGE_SIZE, MADV_DONTNEED),
			    "Failed to unmap memory");
		stress_count(arg);
		usleep(stress_random(&state) % 4000);
	}
	return NULL;
}

#define SWAP_PAGES	64

static void *swap_thread(void *arg)
{
	uint64_t state = seed ^ 's';
	unsigned char cached[SWAP_PAGES];
	uint64_t first;

	while (!stress_stopping()) {
		first = stress_random(&state) % (nr_pages - SWAP_PAGES + 1);
		swap_out(page_words(first), SWAP_PAGES * PAGE_SIZE);
		TEST_ASSERT(!mincore(page_words(first), SWAP_PAGES * PAGE_SIZE, cached),
			    "Failed to look for pages");
		if (memchr(cached, 0, SWAP_PAGES))
			stress_count(arg);
		usleep(stress_random(&state) % 50000);
	}
	return NULL;
}

static void *lru_thread(void *arg)
{
	while (!stress_stopping()) {
		aging_lru_read_and_pass();
		stress_count(arg);
		usleep(10000);
	}
	return NULL;
}

static bool collapse(void *hva)
{
	return !madvise(hva, HUGE_SIZE, MADV_COLLAPSE);
}

/* When unmap_thread() unmaps a part of a huge page, the kernel splits it again. */
static void *huge_thread(void *arg)
{
	uint64_t nr_huge = nr_pages / PAGES_PER_HUGE;
	uint64_t state = seed ^ 'h';

	while (!stress_stopping()) {
		/* Fails while something else holds a reference to a page. */
		if (collapse(page_words(stress_random(&state) % nr_huge * PAGES_PER_HUGE)))
			stress_count(arg);
		usleep(stress_random(&state) % 20000);
	}
	return NULL;
}

/* As age_stress_test: the guest does not use the slot, but deleting it zaps all roots. */
static void *memslot_thread(void *arg)
{
	uint64_t state = seed ^ 'm';

	while (!stress_stopping()) {
		vm_set_user_memory_region(vm, ZAP_SLOT, 0, ZAP_MEM, nr_pages * PAGE_SIZE, mem);
		vm_set_user_memory_region(vm, ZAP_SLOT, 0, ZAP_MEM, 0, NULL);
		stress_count(arg);
		usleep(stress_random(&state) % 200000);
	}
	return NULL;
}

static struct stress_worker workers[] = {
	{ .name = "comparisons", .fn = copy_thread, },
	{ .letter = 'u', .name = "unmapped_ranges", .fn = unmap_thread, },
	{ .letter = 's', .name = "swapped_out_ranges", .fn = swap_thread, },
	{ .letter = 'a', .name = "mglru_passes", .fn = lru_thread, },
	{ .letter = 'h', .name = "huge_page_collapses", .fn = huge_thread, },
	{ .letter = 'm', .name = "memslot_deletions", .fn = memslot_thread, },
	{}
};

static bool huge_unmapped(bool print)
{
	bool ret = huge && !READ_ONCE(huge_mapped);

	if (ret && print)
		ksft_print_msg("waiting for the first huge page\n");
	return ret;
}

static void run_threads(unsigned long seconds)
{
	pthread_t threads[MAX_VCPUS];
	int i;

	for (i = 0; i < nr_vcpus; i++)
		pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]);
	stress_run(workers, seconds, huge_unmapped);
	WRITE_ONCE(stop_vcpus, true);
	for (i = 0; i < nr_vcpus; i++)
		pthread_join(threads[i], NULL);
}

static void create_mem(void)
{
	size_t size = nr_pages * PAGE_SIZE;
	int fd = kvm_memfd_alloc(size, false);

	mem = mmap(NULL, size + HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "Failed to reserve addresses");
	mem = mmap(align_ptr_up(mem, HUGE_SIZE), size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, fd, 0);
	TEST_ASSERT(mem != MAP_FAILED, "Failed to map memory");
	/* Populate the memory, so that a guest's first write need not allocate. */
	memset(mem, 0, size);
}

static void create_vm(void)
{
	int i;

	vm = __vm_create(VM_SHAPE_DEFAULT, nr_vcpus, nr_pages);
	if (mode == MODE_RING)
		vm_enable_dirty_ring(vm, RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
	else if (mode == MODE_CLEAR)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	else if (mode == MODE_INITIAL)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);

	for (i = 0; i < nr_vcpus; i++)
		vcpus[i] = vm_vcpu_add(vm, i, nested ? l1_code : guest_code);

	create_mem();
	set_test_slot(0);
	virt_map(vm, TEST_MEM, TEST_MEM, nr_pages);

	for (i = 0; i < nr_vcpus; i++) {
		vcpu_args_set(vcpus[i], 1, i);
		if (mode == MODE_RING)
			rings[i] = (struct dirty_ring) {
				vcpu_map_dirty_ring(vcpus[i]), RING_ENTRIES
			};
	}

	if (nested) {
		l2_map_create(vm, &l1.map, TEST_MEM, nr_pages, huge, 0);
		for (i = 0; i < nr_vcpus; i++)
			l2_create(vm, &l1.l2[i]);
		sync_global_to_guest(vm, l1);
	}
	sync_global_to_guest(vm, nr_pages);
	sync_global_to_guest(vm, seed);
	sync_global_to_guest(vm, nested);
	sync_global_to_guest(vm, huge);
}

static enum mode mode_of(const char *name)
{
	enum mode i;

	for (i = 0; i < NR_MODES; i++) {
		if (!strcmp(name, mode_names[i]))
			break;
	}
	return i;
}

static void help(const char *name)
{
	printf("usage: %s [-m mode] [-v vcpus] [-p pages] [-s seconds]\n"
	       "       [-d letters] [-S seed] [-n] [-H]\n"
	       " -m: how the log is taken and cleared (default: get)\n"
	       "     get      KVM_GET_DIRTY_LOG does both\n"
	       "     clear    KVM_CLEAR_DIRTY_LOG clears\n"
	       "     initial  as clear, with all pages in the log at first\n"
	       "     ring     the dirty ring\n"
	       " -v: vCPUs, at most %d (default: 2)\n"
	       " -p: pages of memory, a multiple of %d, at most %d (default: %lu)\n"
	       " -s: how long to run (default: 10)\n"
	       " -d: leave out: u unmapping memory, s swap, a MGLRU aging, h huge page\n"
	       "     collapse, m memslot deletion\n"
	       " -S: seed of all random choices, a positive number (default: 1)\n"
	       " -n: nested guests, with nested paging\n"
	       " -H: go on until KVM has mapped a huge page before logging begins; with -n, L1\n"
	       "     maps L2's memory in huge pages; wants a multiple of 512 pages\n", name,
	       MAX_VCPUS, BITS_PER_LONG, MAX_PAGES, nr_pages);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	struct stress_worker *worker;
	unsigned long seconds = 10;
	uint64_t total = 0, exits = 0, stops = 0;
	const char *why;
	int i, opt;

	while ((opt = getopt(argc, argv, "m:v:p:s:d:S:nH")) != -1) {
		switch (opt) {
		case 'm':
			mode = mode_of(optarg);
			break;
		case 'v':
			nr_vcpus = aging_parse_positive(optarg);
			break;
		case 'p':
			nr_pages = aging_parse_positive(optarg);
			break;
		case 's':
			seconds = aging_parse_positive(optarg);
			break;
		case 'd':
			if (!stress_leave_out(workers, optarg))
				help(argv[0]);
			break;
		case 'S':
			seed = aging_parse_positive(optarg);
			break;
		case 'n':
			nested = true;
			break;
		case 'H':
			huge = true;
			break;
		default:
			help(argv[0]);
		}
	}
	if (optind != argc || mode == NR_MODES || !seconds || !seed || !nr_vcpus ||
	    nr_vcpus > MAX_VCPUS || !nr_pages || nr_pages % BITS_PER_LONG ||
	    nr_pages > MAX_PAGES || (huge && nr_pages % PAGES_PER_HUGE))
		help(argv[0]);

	ksft_print_header();
	if (nested) {
		why = l2_supported(true);
		__TEST_REQUIRE(!why, "%s", why);
	}
	if (mode == MODE_RING)
		TEST_REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) ||
			     kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL));
	if (mode == MODE_INITIAL)
		TEST_REQUIRE(kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
			     KVM_DIRTY_LOG_INITIALLY_SET);

	if (stress_enabled(workers, 'a')) {
		why = aging_lru_setup();
		if (why)
			stress_disable(workers, 'a', why);
	}

	create_vm();
	copy = calloc(nr_pages, sizeof(*copy));
	taken = bitmap_zalloc(nr_pages);
	TEST_ASSERT(copy && taken, "Out of memory");

	if (stress_enabled(workers, 's')) {
		why = swap_open();
		if (why)
			stress_disable(workers, 's', why);
	}
	if (stress_enabled(workers, 'h')) {
		if (nr_pages < PAGES_PER_HUGE)
			stress_disable(workers, 'h', "less than 512 pages");
		else if (!collapse(page_words(0)) && errno == EINVAL)
			stress_disable(workers, 'h', "the kernel cannot collapse files on demand");
	}

	ksft_set_plan(1);
	run_threads(seconds);

	for (i = 0; i < nr_vcpus; i++) {
		total += writes[i];
		exits += full_exits[i];
		stops += full_stops[i];
	}
	for (worker = workers; worker->name; worker++) {
		if (!worker->disabled)
			ksft_print_msg("%s: %lu\n", worker->name, worker->count);
	}
	ksft_print_msg("%lu writes, %lu pages copied, %lu huge pages\n", total, copied,
		       huge_mapped);
	if (mode == MODE_RING)
		ksft_print_msg("%lu exits for a full ring, which stopped a vCPU %lu times\n", exits,
			       stops);
	/* compare() has asserted the contents. */
	ksft_test_result(total && (huge_mapped || !huge), "%s%s\n", mode_names[mode],
			 nested ? "_nested" : "");

	kvm_vm_free(vm);
	ksft_finished();
}
