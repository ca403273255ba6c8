// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does KVM log a write to the last page that was cleared, if that page is the first page of a
 * huge page?
 *
 * Each word of the log stands for 64 pages, counted from the first page of the memslot.  If
 * the memslot does not begin at a multiple of 64 pages, a word may stand for pages of two huge
 * pages.  With KVM_DIRTY_LOG_INITIALLY_SET, KVM splits a huge page when userspace clears pages
 * of it, or, with kvm.eager_page_split=0, write-protects it as a whole.  For such a word, KVM
 * has to do that to both huge pages.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/bitmap.h>
#include <linux/sizes.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define TEST_MEM	0x40000000ULL

#define PAGES_PER_HUGE	512
/*
 * The memslot begins inside the first 2 MiB, which KVM cannot map as a huge page.  BORDER is
 * between the two huge pages behind them.
 */
#define NR_PAGES	(3 * PAGES_PER_HUGE)
#define BORDER		(2 * PAGES_PER_HUGE)

#define EAGER_SPLIT	"/sys/module/kvm/parameters/eager_page_split"

/* Where the memslot begins, in pages behind TEST_MEM. */
static const unsigned int starts[] = { 1, 2, 17, 33, 63 };

/* Checks for each start. */
#define CHECKS		2

/* The guest writes [first, end), in pages behind TEST_MEM. */
static struct {
	uint64_t first;
	uint64_t end;
} job;

static struct l2_map l2_map;
static struct l2 l2;

static void guest_code(uint64_t unused)
{
	uint64_t page;

	for (;;) {
		for (page = job.first; page < job.end; page++)
			WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE), page);
		GUEST_SYNC1(job.first);
	}
}

static void l1_code(uint64_t unused)
{
	l2_run_for_good(&l2, &l2_map, guest_code, 0);
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static bool nested;

static void guest_write(uint64_t first, uint64_t end)
{
	struct ucall uc;

	job.first = first;
	job.end = end;
	sync_global_to_guest(vm, job);
	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "Unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
}

static void *map_huge_pages(void)
{
	uint64_t size = NR_PAGES * PAGE_SIZE;
	void *hva;

	hva = mmap(NULL, size + SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, "Failed to map memory");
	hva = align_ptr_up(hva, SZ_2M);
	TEST_ASSERT(!madvise(hva, size, MADV_HUGEPAGE), "Failed to ask for huge pages");
	memset(hva, 0x5a, size);
	return hva;
}

static void create_vm(void)
{
	vm = __vm_create_with_one_vcpu(&vcpu, NR_PAGES, nested ? l1_code : guest_code);
	vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	if (nested) {
		l2_map_create(vm, &l2_map, TEST_MEM, NR_PAGES, true, 0);
		l2_create(vm, &l2);
		sync_global_to_guest(vm, l2_map);
		sync_global_to_guest(vm, l2);
	}
}

static uint64_t count_dirty(uint64_t first, uint64_t end)
{
	unsigned long *log = bitmap_zalloc(NR_PAGES);
	uint64_t page, dirty = 0;

	TEST_ASSERT(log, "Out of memory");
	kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
	for (page = first; page < end; page++)
		dirty += test_bit(page, log);
	free(log);
	return dirty;
}

static void test_start(unsigned int start, char *hva)
{
	const uint64_t nr = NR_PAGES - start;
	const uint64_t size = nr * PAGE_SIZE;
	const uint64_t gpa = TEST_MEM + start * PAGE_SIZE;
	/*
	 * Pages of the memslot, [first, end): the last is the first page behind the border, and
	 * @first begins the word of the log that this page is in.
	 */
	const uint64_t end = BORDER - start + 1;
	const uint64_t first = (end - 1) / BITS_PER_LONG * BITS_PER_LONG;
	unsigned long cleared = GENMASK((end - 1) % BITS_PER_LONG, 0);
	uint64_t huge, before, after;

	create_vm();
	vm_set_user_memory_region(vm, TEST_SLOT, 0, gpa, size, hva + start * PAGE_SIZE);
	guest_write(start, NR_PAGES);
	huge = vm_get_stat(vm, "pages_2m");
	__TEST_REQUIRE(huge >= 2, "Only %lu huge pages are mapped", huge);

	vm_set_user_memory_region(vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES, gpa, size,
				  hva + start * PAGE_SIZE);
	kvm_vm_clear_dirty_log(vm, TEST_SLOT, &cleared, first, BITS_PER_LONG);
	before = count_dirty(first, end);
	guest_write(start + first, start + end);
	after = count_dirty(first, end);

	ksft_print_msg("%lu pages cleared, %lu dirty, %lu when they were written\n", end - first,
		       before, after);
	ksft_test_result(!before, "memslot from page %u: what is cleared is clean\n", start);
	ksft_test_result(after == end - first,
			 "memslot from page %u: what is written then is dirty\n", start);
	vm_set_user_memory_region(vm, TEST_SLOT, 0, gpa, 0, NULL);
	kvm_vm_free(vm);
}

static char split_was;

static void set_eager_split(char value)
{
	FILE *file = fopen(EAGER_SPLIT, "w");

	TEST_ASSERT(file && fputc(value, file) != EOF && !fclose(file),
		    "Failed to write " EAGER_SPLIT);
}

/* exit() runs this, also after a failed assertion. */
static void restore_eager_split(void)
{
	set_eager_split(split_was);
}

static void help(const char *name)
{
	printf("usage: %s [-n]\n"
	       " -n: a nested guest, with nested paging\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	static const char splits[] = { 'N', 'Y' };
	const char *why;
	FILE *file;
	void *hva;
	int opt, i, j;

	while ((opt = getopt(argc, argv, "n")) != -1) {
		if (opt != 'n')
			help(argv[0]);
		nested = true;
	}
	if (optind != argc)
		help(argv[0]);

	ksft_print_header();
	if (nested) {
		why = l2_supported(true);
		__TEST_REQUIRE(!why, "%s", why);
	}
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
		     KVM_DIRTY_LOG_INITIALLY_SET);
	__TEST_REQUIRE(thp_configured(), "No transparent huge pages");
	file = fopen(EAGER_SPLIT, "r");
	__TEST_REQUIRE(file, "No " EAGER_SPLIT);
	split_was = fgetc(file);
	fclose(file);
	atexit(restore_eager_split);

	hva = map_huge_pages();
	ksft_set_plan(ARRAY_SIZE(splits) * ARRAY_SIZE(starts) * CHECKS);
	for (i = 0; i < ARRAY_SIZE(splits); i++) {
		set_eager_split(splits[i]);
		ksft_print_msg("eager_page_split=%c\n", splits[i]);
		for (j = 0; j < ARRAY_SIZE(starts); j++)
			test_start(starts[j], hva);
	}
	ksft_finished();
}
