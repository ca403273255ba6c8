// SPDX-License-Identifier: GPL-2.0-only
/*
 * Aging against everything else that changes SPTEs.
 *
 * Every vCPU rewrites its own slice of guest memory, over and over.  Only this vCPU can
 * have written its values.  Before each write, the vCPU checks that its last value is still
 * there.  Meanwhile, host threads age the memory, read the working set, log and clear dirty
 * pages, delete memslots, which zaps all roots, collapse and split the huge pages behind the
 * memory, and swap the memory out and in.  The test fails if a write is lost, lands in another
 * page, or is missing from the dirty log.
 *
 * With -n, the guests are nested.  L1 changes their nested page table all the time: it unmaps
 * and write-protects pages, moves them to other frames of its memory, and replaces whole
 * tables.
 *
 * With -r, one more vCPU reads a memslot that comes and goes, and that has the same memory.
 * When the memslot goes, KVM zaps only the SPTEs of that memslot.  So KVM deletes a memslot
 * that has SPTEs in its rmaps, while the memslot is aged.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/bitmap.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
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

/* Pages that idle_thread() marks and reads back together. */
#define IDLE_BATCH	64

/* L2 calls L1 after so many pages, and L1 then makes so many changes. */
#define PAGES_PER_VISIT	64
#define CHANGES		8

#define MAX_NESTED	8

/* What the guest has to know, set before it runs. */
static uint64_t slice_pages;
static uint64_t seed;
static bool nested;
static uint64_t nr_vcpus = 2;
static bool read_zapped;

/* L1's data, shared by all vCPUs.  @lock protects what L1 changes. */
static struct {
	struct l2_map map;
	struct l2 l2[MAX_NESTED];
	int lock;
	/* The frame that holds each page, and a free frame for each vCPU. */
	uint64_t *frames;
	uint64_t spare_frame[MAX_NESTED];
	uint64_t spare_table;
	uint64_t changes;
	uint64_t faults;
} l1;

/* The value of a page after its owner wrote it for the sweep'th time. */
static uint64_t page_tag(uint64_t page, uint64_t sweep)
{
	return page << 40 | sweep;
}

static void guest_code(uint64_t index)
{
	uint64_t state = seed + index;
	uint64_t first = index * slice_pages;
	uint64_t i, page, start, sweep;
	uint64_t *word;

	for (sweep = 1; ; sweep++) {
		start = stress_random(&state);
		for (i = 0; i < slice_pages; i++) {
			page = first + (start + i) % slice_pages;
			word = (uint64_t *)(TEST_MEM + page * PAGE_SIZE);

			GUEST_ASSERT_EQ(READ_ONCE(*word), page_tag(page, sweep - 1));
			WRITE_ONCE(*word, page_tag(page, sweep));
			if (nested && i % PAGES_PER_VISIT == 0)
				l2_call();
		}
		GUEST_SYNC1(sweep);
	}
}

/*
 * Read the memslot that comes and goes, at both of its addresses.  Each page of the memslot
 * is the page of the same number that the other vCPUs write.  While the memslot is gone, a
 * read returns 0.  Report how many reads found the memslot.
 */
static void reader_code(void)
{
	uint64_t value, page, hits = 0;

	for (;;) {
		for (page = 1; page < 2 * PAGES_PER_HUGE; page++) {
			value = READ_ONCE(*(uint64_t *)(ZAP_MEM + page * PAGE_SIZE));
			if (!value)
				continue;
			GUEST_ASSERT_EQ(value >> 40, page % PAGES_PER_HUGE);
			hits++;
		}
		GUEST_SYNC1(hits);
	}
}

static uint64_t frame_gpa(uint64_t frame)
{
	return TEST_MEM + frame * PAGE_SIZE;
}

/* The entry of the nested page table for a page. */
static uint64_t *l1_entry(uint64_t page)
{
	uint64_t table = l1.map.directory[page / L2_ENTRIES] & ~(PAGE_SIZE - 1ULL);

	return l1.map.leaves + (table - l1.map.leaves_gpa) / sizeof(uint64_t) +
	       page % L2_ENTRIES;
}

static void l1_map_page(uint64_t page)
{
	WRITE_ONCE(*l1_entry(page), frame_gpa(l1.frames[page]) | l1.map.page_bits);
}

/* L1 moves only pages that its own L2 writes: that L2 does not run meanwhile. */
static void l1_move_page(uint64_t index, uint64_t page)
{
	uint64_t from = l1.frames[page];
	uint64_t to = l1.spare_frame[index];

	memcpy((void *)frame_gpa(to), (void *)frame_gpa(from), PAGE_SIZE);
	l1.frames[page] = to;
	l1.spare_frame[index] = from;
	l1_map_page(page);
}

static void l1_replace_table(uint64_t page)
{
	uint64_t *entry = &l1.map.directory[page / L2_ENTRIES];
	uint64_t old = *entry & ~(PAGE_SIZE - 1ULL);
	uint64_t new = l1.spare_table;

	memcpy(l1.map.leaves + (new - l1.map.leaves_gpa) / sizeof(uint64_t),
	       l1.map.leaves + (old - l1.map.leaves_gpa) / sizeof(uint64_t), PAGE_SIZE);
	WRITE_ONCE(*entry, new | L2_ALL);
	l1.spare_table = old;
}

static void l1_change(uint64_t index, uint64_t *state)
{
	uint64_t page = stress_random(state) % (slice_pages * nr_vcpus);
	uint64_t own = index * slice_pages + stress_random(state) % slice_pages;

	switch (stress_random(state) % 8) {
	case 0:
	case 1:
		WRITE_ONCE(*l1_entry(page), 0);
		break;
	case 2:
	case 3:
		WRITE_ONCE(*l1_entry(page), *l1_entry(page) & ~L2_WRITABLE);
		break;
	case 4:
	case 5:
		l1_move_page(index, own);
		break;
	case 6:
		l1_replace_table(page);
		break;
	case 7:
		l1_map_page(page);
		break;
	}
	l1.changes++;
}

static void l1_code(uint64_t index)
{
	struct l2 *l2 = &l1.l2[index];
	uint64_t state = seed + index;
	enum l2_exit exit;
	uint64_t page, i;

	l2_init(l2, &l1.map, guest_code, index);

	for (;;) {
		/* L1 changed the nested page table, on this vCPU or on another one. */
		l2_flush(l2);
		exit = l2_run(l2);

		while (__atomic_exchange_n(&l1.lock, 1, __ATOMIC_ACQUIRE))
			cpu_relax();

		switch (exit) {
		case L2_CALL:
			for (i = 0; i < CHANGES; i++)
				l1_change(index, &state);
			break;
		case L2_FAULT:
			page = (l2->fault_gpa - TEST_MEM) / PAGE_SIZE;
			GUEST_ASSERT(page < slice_pages * nr_vcpus);
			l1_map_page(page);
			l1.faults++;
			break;
		default:
			GUEST_FAIL("L2 exited with 0x%lx", l2->exit_code);
		}

		__atomic_store_n(&l1.lock, 0, __ATOMIC_RELEASE);
	}
}

struct vcpu_worker {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	/* Completed sweeps.  Only this thread writes the count. */
	uint64_t sweeps;
};

static struct kvm_vm *vm;
static uint64_t nr_pages;
static struct vcpu_worker vcpu_workers[KVM_MAX_VCPUS];

static struct page_idle idle;

static uint64_t *page_word(uint64_t page)
{
	return (uint64_t *)(addr_gpa2hva(vm, TEST_MEM) + page * PAGE_SIZE);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu_worker *worker = arg;
	uint64_t sweeps;

	/* Stop between two sweeps: all pages of the slice then have the tag of one sweep. */
	while (!stress_stopping()) {
		vcpu_run(worker->vcpu);

		sweeps = vcpu_sync_arg(worker->vcpu);
		TEST_ASSERT_EQ(sweeps, worker->sweeps + 1);
		WRITE_ONCE(worker->sweeps, sweeps);
	}
	return NULL;
}

static struct vcpu_worker reader;

static void *reader_thread(void *arg)
{
	struct kvm_run *run = reader.vcpu->run;

	while (!stress_stopping()) {
		vcpu_run(reader.vcpu);

		/* The memslot is gone: have the read return 0. */
		if (run->exit_reason == KVM_EXIT_MMIO) {
			TEST_ASSERT(!run->mmio.is_write, "The reader wrote 0x%llx",
				    run->mmio.phys_addr);
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
			continue;
		}

		WRITE_ONCE(reader.sweeps, vcpu_sync_arg(reader.vcpu));
	}
	return NULL;
}

/*
 * Mark pages idle and read them back.  A page may move to another frame meanwhile.  That is
 * fine: nothing looks at the answers.
 */
static void *idle_thread(void *arg)
{
	uint64_t pfns[IDLE_BATCH];
	bool is_idle[IDLE_BATCH];
	uint64_t page = 0;
	int nr;

	while (!stress_stopping()) {
		for (nr = 0; nr < IDLE_BATCH; nr++) {
			pfns[nr] = page_idle_pfn(&idle, page_word(page));
			page = (page + 1) % nr_pages;
			if (!pfns[nr])
				break;
		}
		if (!nr)
			continue;
		page_idle_mark(&idle, pfns, nr);
		page_idle_test(&idle, pfns, nr, is_idle);
		stress_count(arg);
	}
	return NULL;
}

static void *lru_thread(void *arg)
{
	while (!stress_stopping()) {
		aging_lru_read_and_pass();
		stress_count(arg);
	}
	return NULL;
}

static void snapshot(uint64_t *words)
{
	uint64_t page;

	for (page = 0; page < nr_pages; page++)
		words[page] = READ_ONCE(*page_word(page));
}

/*
 * The protocols of the dirty log: KVM_GET_DIRTY_LOG clears the log; or
 * KVM_CLEAR_DIRTY_LOG does; or the latter, with all pages dirty at the start.
 */
static const uint64_t log_modes[] = {
	0,
	KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
	KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET,
};

#define ROUNDS_PER_LOG	3

/*
 * If a word differs between two looks, a vCPU wrote the page between them.  The
 * first look comes after logging was turned on, or the log was cleared.  The second
 * comes before the log is fetched.  So the log has to have the page.
 */
static void check_dirty_log(struct stress_worker *worker, uint64_t mode, uint64_t *before,
			    uint64_t *after, unsigned long *log)
{
	uint64_t page, written;
	int round;

	for (round = 0; round < ROUNDS_PER_LOG && !stress_stopping(); round++) {
		snapshot(before);
		usleep(1000);
		snapshot(after);

		bitmap_zero(log, nr_pages);
		kvm_vm_get_dirty_log(vm, TEST_SLOT, log);

		errno = 0;
		written = 0;
		for (page = 0; page < nr_pages; page++) {
			written += before[page] != after[page];
			TEST_ASSERT(before[page] == after[page] || test_bit(page, log),
				    "Page %lu went from 0x%lx to 0x%lx, the log has it clean (mode %lu, round %d)",
				    page, before[page], after[page], mode, round);
		}

		if (mode)
			kvm_vm_clear_dirty_log(vm, TEST_SLOT, log, 0, nr_pages);
		/* Without a write, this round has checked nothing. */
		if (written)
			stress_count(worker);
	}
}

static void *dirty_log_thread(void *arg)
{
	uint64_t *before = calloc(nr_pages, sizeof(*before));
	uint64_t *after = calloc(nr_pages, sizeof(*after));
	unsigned long *log = bitmap_zalloc(nr_pages);
	uint64_t supported = kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	uint64_t mode, i;

	TEST_ASSERT(before && after && log, "Out of memory");

	for (i = 0; !stress_stopping(); i++) {
		mode = log_modes[i % ARRAY_SIZE(log_modes)] & supported;
		if (supported)
			vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, mode);

		vm_mem_region_set_flags(vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
		check_dirty_log(arg, mode, before, after, log);
		vm_mem_region_set_flags(vm, TEST_SLOT, 0);
	}

	free(before);
	free(after);
	free(log);
	return NULL;
}

/*
 * Create, move and delete a slot.  Only the reader of -r uses the slot, so no other vCPU
 * waits until it comes back.  Without -r, deleting the slot zaps the SPTEs of all slots
 * (KVM_X86_QUIRK_SLOT_ZAP_ALL).  The slot has memory that is aged, so that aging finds the
 * slot while it comes and goes.
 *
 * The library does not know the slot, because the library's list of slots is not thread-safe.
 */
static void *memslot_thread(void *arg)
{
	void *hva = addr_gpa2hva(vm, TEST_MEM);
	uint64_t state = seed ^ 'm';

	while (!stress_stopping()) {
		vm_set_user_memory_region(vm, ZAP_SLOT, 0, ZAP_MEM, HUGE_SIZE, hva);
		vm_set_user_memory_region(vm, ZAP_SLOT, 0, ZAP_MEM + HUGE_SIZE, HUGE_SIZE, hva);
		vm_set_user_memory_region(vm, ZAP_SLOT, 0, ZAP_MEM + HUGE_SIZE, 0, NULL);
		stress_count(arg);
		/* Let vCPUs map pages, for the next round to zap. */
		usleep(stress_random(&state) % 20000);
	}
	return NULL;
}

/* Collapse 2 MiB of memory in use to a huge page; false if that is not possible now. */
static bool collapse(void *hva)
{
	return !madvise(hva, HUGE_SIZE, MADV_HUGEPAGE) && !madvise(hva, HUGE_SIZE, MADV_COLLAPSE);
}

static void *huge_thread(void *arg)
{
	uint64_t nr_huge = nr_pages / PAGES_PER_HUGE;
	uint64_t state = seed ^ 'h';

	while (!stress_stopping()) {
		uint64_t page = stress_random(&state) % nr_huge * PAGES_PER_HUGE;

		/* Fails while something else holds a reference to a page. */
		if (collapse(page_word(page)))
			stress_count(arg);
		usleep(stress_random(&state) % 5000);

		/*
		 * The kernel splits a huge page in which a VMA ends, and
		 * MADV_NOHUGEPAGE makes a VMA end there.  Unlike mprotect(),
		 * MADV_NOHUGEPAGE never takes the page from the guest.
		 */
		page += stress_random(&state) % (PAGES_PER_HUGE - 2) + 1;
		TEST_ASSERT(!madvise(page_word(page), PAGE_SIZE, MADV_NOHUGEPAGE),
			    "Failed to split a huge page");
		usleep(stress_random(&state) % 5000);
	}
	return NULL;
}

#define SWAP_PAGES	64

/* Swap a few pages out, and in again by reads, see swap_util.h. */
static void *swap_thread(void *arg)
{
	uint64_t state = seed ^ 's';
	bool was_out[SWAP_PAGES];
	uint64_t first, page;

	while (!stress_stopping()) {
		first = stress_random(&state) % (nr_pages - SWAP_PAGES);
		swap_out(page_word(first), SWAP_PAGES * PAGE_SIZE);

		for (page = 0; page < SWAP_PAGES; page++) {
			was_out[page] = swap_is_out(page_word(first + page));
			READ_ONCE(*page_word(first + page));
		}
		for (page = 0; page < SWAP_PAGES; page++) {
			if (was_out[page] && swap_is_clean(page_word(first + page)))
				stress_count(arg);
		}
		usleep(stress_random(&state) % 5000);
	}
	return NULL;
}

static void *working_set_thread(void *arg)
{
	int fd;

	while (!stress_stopping()) {
		fd = aging_open_working_set(vm->fd, "working_set");
		TEST_ASSERT(fd >= 0, "Failed to read the working set");
		close(fd);
		stress_count(arg);
	}
	return NULL;
}

static struct stress_worker workers[] = {
	{ .letter = 'i', .name = "page_idle_batches", .fn = idle_thread, },
	{ .letter = 'a', .name = "mglru_passes", .fn = lru_thread, },
	{ .letter = 'l', .name = "dirty_logs", .fn = dirty_log_thread, },
	{ .letter = 'm', .name = "memslot_deletions", .fn = memslot_thread, },
	{ .letter = 'h', .name = "huge_page_collapses", .fn = huge_thread, },
	{ .letter = 's', .name = "clean_pages_swapped_in", .fn = swap_thread, },
	{ .letter = 'w', .name = "working_sets_read", .fn = working_set_thread, },
	{}
};

/* Has any vCPU not finished its first sweep yet? */
static bool vcpus_unfinished(bool print)
{
	bool ret = false;
	int i;

	for (i = 0; i < nr_vcpus; i++) {
		if (READ_ONCE(vcpu_workers[i].sweeps))
			continue;
		ret = true;
		if (print)
			ksft_print_msg("waiting for the first sweep of vCPU %d\n", i);
	}
	if (read_zapped && !READ_ONCE(reader.sweeps)) {
		ret = true;
		if (print)
			ksft_print_msg("waiting for the reader to find its memslot\n");
	}
	return ret;
}

static void run_threads(unsigned long seconds)
{
	int i;

	for (i = 0; i < nr_vcpus; i++)
		pthread_create(&vcpu_workers[i].thread, NULL, vcpu_thread, &vcpu_workers[i]);
	if (read_zapped)
		pthread_create(&reader.thread, NULL, reader_thread, NULL);
	stress_run(workers, seconds, vcpus_unfinished);
	if (read_zapped)
		pthread_join(reader.thread, NULL);
	for (i = 0; i < nr_vcpus; i++)
		pthread_join(vcpu_workers[i].thread, NULL);
}

/* Compare all memory with what the vCPUs say they wrote last. */
static uint64_t count_wrong_pages(void)
{
	uint64_t *frames = nested ? addr_gva2hva(vm, (vm_vaddr_t)l1.frames) : NULL;
	uint64_t page, owner, expected, wrong = 0;
	uint64_t *word;

	for (page = 0; page < nr_pages; page++) {
		owner = page / slice_pages;
		/* L2 does not use the pages behind the slices: their frames are L1's spare ones. */
		if (nested && owner >= nr_vcpus)
			break;
		/* No vCPU writes the pages that the division into slices leaves over. */
		expected = page_tag(page, owner < nr_vcpus ? vcpu_workers[owner].sweeps : 0);
		word = page_word(nested ? frames[page] : page);
		if (*word == expected)
			continue;
		if (!wrong++)
			ksft_print_msg("page %lu has 0x%lx, its owner wrote 0x%lx\n",
				       page, *word, expected);
	}
	return wrong;
}

static void create_l1(void)
{
	uint64_t *frames;
	uint64_t i;

	l1.frames = (uint64_t *)vm_vaddr_alloc(vm, nr_pages * sizeof(*frames),
					       KVM_UTIL_MIN_VADDR);
	frames = addr_gva2hva(vm, (vm_vaddr_t)l1.frames);
	for (i = 0; i < nr_pages; i++)
		frames[i] = i;

	l2_map_create(vm, &l1.map, TEST_MEM, nr_pages, false, 1);
	l1.spare_table = l1.map.leaves_gpa + nr_pages / L2_ENTRIES * PAGE_SIZE;
	for (i = 0; i < nr_vcpus; i++) {
		l2_create(vm, &l1.l2[i]);
		l1.spare_frame[i] = nr_vcpus * slice_pages + i;
	}
	sync_global_to_guest(vm, nr_vcpus);
	sync_global_to_guest(vm, nested);
	sync_global_to_guest(vm, l1);
}

static void create_vm(void)
{
	struct kvm_vcpu *vcpus[KVM_MAX_VCPUS];
	uint64_t page;
	int i;

	vm = __vm_create_with_vcpus(VM_SHAPE_DEFAULT, nr_vcpus, nr_pages,
				    nested ? l1_code : guest_code, vcpus);
	vm_userspace_mem_region_add(vm, thp_configured() ? VM_MEM_SRC_ANONYMOUS_THP :
				    VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, nr_pages, 0);
	virt_map(vm, TEST_MEM, TEST_MEM, nr_pages);

	for (page = 0; page < nr_pages; page++)
		*page_word(page) = page_tag(page, 0);

	sync_global_to_guest(vm, slice_pages);
	sync_global_to_guest(vm, seed);
	if (nested)
		create_l1();
	for (i = 0; i < nr_vcpus; i++) {
		vcpu_workers[i].vcpu = vcpus[i];
		vcpu_args_set(vcpus[i], 1, i);
	}
	if (read_zapped) {
		vm_enable_cap(vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL);
		virt_map(vm, ZAP_MEM, ZAP_MEM, 2 * PAGES_PER_HUGE);
		reader.vcpu = vm_vcpu_add(vm, nr_vcpus, reader_code);
	}
}

static void help(const char *name)
{
	printf("usage: %s [-v vcpus] [-b MiB] [-s seconds] [-d letters] [-S seed] [-n | -r]\n"
	       " -v: vCPUs (default: 2)\n"
	       " -b: memory of the VM in MiB, a multiple of 2 (default: 32)\n"
	       " -s: how long to run (default: 10)\n"
	       " -d: leave out: i page_idle, a MGLRU aging, l dirty logging,\n"
	       "     m memslot deletion, h huge page collapse and split, s swap,\n"
	       "     w reads of the working set\n"
	       " -S: seed of all random choices, a positive number (default: 1)\n"
	       " -n: nested guests, with nested paging; 8 vCPUs and 1024 MiB at most\n"
	       " -r: one more vCPU reads the memslot that is deleted, and deleting it zaps only\n"
	       "     the SPTEs of that memslot\n",
	       name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	unsigned long seconds = 10;
	struct stress_worker *worker;
	unsigned long mib = 32;
	uint64_t wrong;
	const char *why;
	int i, opt, fd, nr_enabled = 0;

	seed = 1;
	while ((opt = getopt(argc, argv, "v:b:s:d:S:nr")) != -1) {
		switch (opt) {
		case 'v':
			nr_vcpus = aging_parse_positive(optarg);
			break;
		case 'b':
			mib = aging_parse_positive(optarg);
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
		case 'r':
			read_zapped = true;
			break;
		default:
			help(argv[0]);
		}
	}
	nr_pages = (mib << 20) / PAGE_SIZE;
	if (optind != argc || !seconds || !seed || !mib || mib % 2 || !nr_vcpus ||
	    nr_vcpus > KVM_MAX_VCPUS || nr_vcpus > nr_pages ||
	    (nested && (nr_vcpus > MAX_NESTED || mib > 1024 || read_zapped)) ||
	    (read_zapped && !stress_enabled(workers, 'm')))
		help(argv[0]);
	/* With -n, each vCPU's L1 gets a spare frame, to move pages to. */
	slice_pages = nr_pages / nr_vcpus - nested;

	ksft_print_header();
	if (nested) {
		why = l2_supported(true);
		__TEST_REQUIRE(!why, "%s", why);
	}
	__TEST_REQUIRE(nr_vcpus + read_zapped <= kvm_check_cap(KVM_CAP_MAX_VCPUS),
		       "Too many vCPUs");
	__TEST_REQUIRE(!read_zapped ||
		       kvm_check_cap(KVM_CAP_DISABLE_QUIRKS2) & KVM_X86_QUIRK_SLOT_ZAP_ALL,
		       "KVM always zaps all memslots");

	if (stress_enabled(workers, 'i')) {
		why = page_idle_open(&idle);
		if (why)
			stress_disable(workers, 'i', why);
	}
	if (stress_enabled(workers, 'a')) {
		why = aging_lru_setup();
		if (why)
			stress_disable(workers, 'a', why);
	}

	__TEST_REQUIRE(stress_enabled(workers, 'i') || stress_enabled(workers, 'a'),
		       "Nothing to age memory with");

	create_vm();

	if (!thp_configured())
		stress_disable(workers, 'h', "the kernel has no transparent huge pages");
	else if (stress_enabled(workers, 'h') && !collapse(page_word(0)) && errno == EINVAL)
		stress_disable(workers, 'h', "the kernel cannot collapse on demand");

	if (stress_enabled(workers, 's')) {
		why = nr_pages > SWAP_PAGES ? swap_open() : "less than 64 pages";
		if (why)
			stress_disable(workers, 's', why);
	}

	if (stress_enabled(workers, 'w')) {
		fd = aging_open_working_set(vm->fd, "working_set");
		if (fd < 0)
			stress_disable(workers, 'w', "KVM has no working set to read");
		else
			close(fd);
	}

	for (worker = workers; worker->name; worker++)
		nr_enabled += !worker->disabled;
	ksft_set_plan(nr_enabled + 2 + nested);

	run_threads(seconds);

	/* The threads have asserted everything else. */
	for (worker = workers; worker->name; worker++) {
		if (worker->disabled)
			continue;
		ksft_print_msg("%s: %lu\n", worker->name, worker->count);
		ksft_test_result(worker->count, "%s\n", worker->name);
	}
	for (i = 0; i < nr_vcpus; i++)
		ksft_print_msg("vCPU %d: %lu sweeps\n", i, vcpu_workers[i].sweeps);
	if (read_zapped)
		ksft_print_msg("reads of the memslot that is deleted: %lu\n", reader.sweeps);
	ksft_test_result(!vcpus_unfinished(true), "vcpu_sweeps\n");

	if (nested) {
		sync_global_from_guest(vm, l1);
		ksft_print_msg("changes by L1: %lu, faults of L2: %lu\n", l1.changes, l1.faults);
		ksft_test_result(l1.changes && l1.faults, "l1_changes\n");
	}

	wrong = count_wrong_pages();
	ksft_print_msg("wrong_pages: %lu\n", wrong);
	ksft_test_result(!wrong, "memory_contents\n");

	kvm_vm_free(vm);
	ksft_finished();
}
