// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KVM takes to track guest writes: memory, by the whole system's counters of slab and
 * vmalloc, and time.  The test measures a tracker of a large memslot that nothing touches, or
 * a nested guest whose page tables are spread over a memslot.  The lines that are not TAP are
 * "NAME NUMBER", for scripts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/sizes.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "test_util.h"
#include "track_util.h"
#include "ucall_common.h"

#define LARGE_SLOT	1
#define LARGE_MEM	0x4000000000ULL
#define NR_RANGES	1000

/*
 * The memory that L2 reads.  L1's own page tables map it by pages of 1 GiB.  A nested leaf table
 * covers 2 MiB of it.
 */
#define L2_MEM		0x200000000ULL
#define L2_GIB		32
#define NR_LEAVES	(L2_GIB * 512ULL)

/* As often as kvm-track-test.ko asks KVM at once. */
#define MAX_TIMES	1000000

static struct l2_map map;
static struct l2 l2;

static void l2_code(uint64_t unused)
{
	uint64_t i;

	for (i = 0; i < NR_LEAVES; i++)
		READ_ONCE(*(uint64_t *)(L2_MEM + i * SZ_2M));
	GUEST_SYNC(0);
}

static void l1_code(uint64_t unused)
{
	GUEST_SYNC(0);
	l2_run_for_good(&l2, &map, l2_code, 0);
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;

static long read_kb(const char *key)
{
	char line[128];
	long kb = -1;
	FILE *file = fopen("/proc/meminfo", "r");

	TEST_ASSERT(file, "No /proc/meminfo");
	while (kb < 0 && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':')
			kb = atol(line + strlen(key) + 1);
	}
	fclose(file);
	return kb;
}

static long memory_kb(void)
{
	/* Wait until the kernel has freed what it frees in batches. */
	sleep(7);
	return read_kb("Slab") + read_kb("VmallocUsed");
}

static double ms_since(struct timespec start)
{
	struct timespec elapsed = timespec_elapsed(start);

	return elapsed.tv_sec * 1e3 + elapsed.tv_nsec / 1e6;
}

static void run(void)
{
	struct ucall uc;

	vcpu_run(vcpu);
	errno = 0;
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(uc.cmd == UCALL_SYNC, "Unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
}

static void *create_slot(uint64_t size)
{
	void *hva = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	TEST_ASSERT(hva != MAP_FAILED, "Failed to reserve 0x%lx bytes", size);
	madvise(hva, size, MADV_NOHUGEPAGE);
	vm_set_user_memory_region(vm, LARGE_SLOT, 0, LARGE_MEM, size, hva);
	return hva;
}

/* Print the kernel's counters, and KVM's own count, if KVM has one. */
static void print_memory(const char *what, long kb)
{
	long bytes = track_bytes(vm);

	printf("%s_kib %ld\n", what, kb);
	if (bytes >= 0)
		printf("%s_bytes %ld\n", what, bytes);
}

static void track_ranges(int tracker, uint64_t size, int (*fn)(int tracker, uint64_t gpa))
{
	uint64_t step = size / NR_RANGES & ~(PAGE_SIZE - 1), i;
	int r;

	for (i = 0; i < NR_RANGES; i++) {
		r = fn(tracker, LARGE_MEM + i * step);
		TEST_ASSERT(!r, "Failed at range %lu: %d", i, r);
	}
}

static void large_slot(uint64_t size)
{
	struct timespec start;
	long before, none;
	int tracker;
	double ms;

	vm = vm_create_with_one_vcpu(&vcpu, l1_code);
	create_slot(size);
	run();

	tracker = track_open();
	before = memory_kb();
	clock_gettime(CLOCK_MONOTONIC, &start);
	TEST_ASSERT_EQ(track_register(tracker, vm), 0);
	ms = ms_since(start);
	none = memory_kb();
	printf("register_us %.0f\n", ms * 1e3);
	print_memory("registered", none - before);

	track_ranges(tracker, size, track_page);
	print_memory("tracked", memory_kb() - before);
	track_ranges(tracker, size, track_untrack_page);
	print_memory("untracked", memory_kb() - before);

	/* The counters include the tracker's own memory, which close() frees. */
	TEST_ASSERT_EQ(track_unregister(tracker), 0);
	print_memory("unregistered", memory_kb() - before);
	close(tracker);
	kvm_vm_free(vm);
}

/* Spread L1's nested page tables over the memslot.  Each leaf table maps the same one page. */
static void spread_tables(void *hva, uint64_t size)
{
	uint64_t *root = addr_gpa2hva(vm, map.root_gpa);
	uint64_t *pointers = addr_gpa2hva(vm, root[0] & ~(PAGE_SIZE - 1));
	uint64_t step = size / (NR_LEAVES + L2_GIB + 1) & ~(PAGE_SIZE - 1), next = 0;
	uint64_t page = next++ * step, i, j;

	for (i = 0; i < L2_GIB; i++) {
		uint64_t directory = next++ * step;

		pointers[L2_MEM / SZ_1G + i] = (LARGE_MEM + directory) | L2_ALL;
		for (j = 0; j < L2_ENTRIES; j++) {
			uint64_t leaf = next++ * step;

			((uint64_t *)(hva + directory))[j] = (LARGE_MEM + leaf) | L2_ALL;
			*(uint64_t *)(hva + leaf) = (LARGE_MEM + page) | map.page_bits;
		}
	}
}

static void nested_guest(uint64_t size)
{
	struct timespec start;
	long before;
	void *hva;
	double ms;
	uint64_t i;

	vm = vm_create_with_one_vcpu(&vcpu, l1_code);
	hva = create_slot(size);
	l2_map_create(vm, &map, SZ_1G, 1, false, 0);
	l2_create(vm, &l2);
	for (i = 0; i < L2_GIB; i++)
		__virt_pg_map(vm, L2_MEM + i * SZ_1G, L2_MEM + i * SZ_1G, PG_LEVEL_1G);
	spread_tables(hva, size);
	sync_global_to_guest(vm, map);
	sync_global_to_guest(vm, l2);
	run();

	before = memory_kb();
	clock_gettime(CLOCK_MONOTONIC, &start);
	run();
	ms = ms_since(start);
	printf("nested_ms %.0f\n", ms);
	/* Slab includes rmaps and the headers of shadow pages, not the two pages of each. */
	print_memory("nested", memory_kb() - before);
	kvm_vm_free(vm);
}

/* How long does KVM take to say whether a page is tracked, without a tracker and with one? */
static void cost(uint64_t nr)
{
	int tracker = track_open();
	int64_t off, not_tracked, tracked;

	vm = vm_create_with_one_vcpu(&vcpu, l1_code);
	create_slot(SZ_1G);
	off = track_cost(tracker, vm, LARGE_MEM, nr);
	__TEST_REQUIRE(off >= 0, "kprobes cannot find KVM's function");
	TEST_ASSERT_EQ(track_register(tracker, vm), 0);
	not_tracked = track_cost(tracker, vm, LARGE_MEM, nr);
	TEST_ASSERT_EQ(track_page(tracker, LARGE_MEM), 0);
	tracked = track_cost(tracker, vm, LARGE_MEM, nr);
	printf("off_ns %.3f\n", (double)off / nr);
	printf("not_tracked_ns %.3f\n", (double)not_tracked / nr);
	printf("tracked_ns %.3f\n", (double)tracked / nr);
	close(tracker);
	kvm_vm_free(vm);
}

static void help(const char *name)
{
	printf("usage: %s [-g GiB] [-n GiB] [-c times]\n"
	       " -g: a tracker of a memslot of this size, at most 512 (default: 512)\n"
	       " -n: instead, a nested guest with page tables in a memslot of this size\n"
	       " -c: instead, the time to ask KVM so often whether a page is tracked,\n"
	       "     at most %d\n", name, MAX_TIMES);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	uint64_t gib = 512, nested = 0, times = 0;
	const char *why;
	int opt;

	while ((opt = getopt(argc, argv, "g:n:c:")) != -1) {
		switch (opt) {
		case 'g':
			gib = aging_parse_positive(optarg);
			break;
		case 'n':
			nested = aging_parse_positive(optarg);
			break;
		case 'c':
			times = aging_parse_positive(optarg);
			if (times > MAX_TIMES)
				help(argv[0]);
			break;
		default:
			help(argv[0]);
		}
	}
	if (optind != argc || !gib || gib > 512 || nested > 512)
		help(argv[0]);

	ksft_print_header();
	why = nested ? l2_supported(true) : track_supported();
	__TEST_REQUIRE(!why, "%s", why);
	ksft_set_plan(1);
	if (nested)
		nested_guest(nested * SZ_1G);
	else if (times)
		cost(times);
	else
		large_slot(gib * SZ_1G);
	ksft_test_result_pass("measured\n");
	ksft_finished();
}
