// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is what a guest wrote still there, after it was aged and swapped out?
 *
 * The host reads pages in from swap, so they are clean, see swap_util.h.  Then the
 * guest writes the pages, which KVM alone knows, and the host ages them: once or
 * again, before or after the guest reads or writes more, and with dirty logging
 * turned on and off between.  Then the host swaps the pages out once more, and what
 * it reads back has to be what the guest wrote last.
 *
 * Host and guest take turns, so each run does the same.  age_stress_test covers the
 * races.
 */
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
#define TEST_MEM	0x100000000ULL

/* How often to try to swap out pages that something held a moment ago. */
#define SWAP_TRIES	50

/*
 * The steps of each case, for pages that came clean from swap: the guest (r)eads or
 * (w)rites all of them, the host (a)ges them, or turns dirty (l)ogging on and off.
 */
static const char *const cases[] = {
	"w", "wa", "waa", "war", "wara", "waw", "wawa", "warawa", "wal", "wala",
	"wlaw", "wlawa", "walaw", "rwa", "rawa", "arawa",
};

/* What the host tells the guest. */
static struct {
	uint64_t nr_pages;
	/* The version that the guest reads from the pages, or writes to them, see page_tag(). */
	uint64_t version;
	bool write;
} job;

static uint64_t page_tag(uint64_t page, uint64_t version)
{
	return page << 32 | version;
}

static void guest_code(void)
{
	uint64_t page;
	uint64_t *word;

	for (;;) {
		for (page = 0; page < job.nr_pages; page++) {
			word = (uint64_t *)(TEST_MEM + page * PAGE_SIZE);
			if (job.write)
				WRITE_ONCE(*word, page_tag(page, job.version));
			else
				GUEST_ASSERT_EQ(READ_ONCE(*word), page_tag(page, job.version));
		}
		GUEST_SYNC(job.version);
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

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct page_idle idle;
static uint64_t *pfns;
static bool with_idle;
static bool nested;

static uint64_t *page_word(uint64_t page)
{
	return (uint64_t *)(addr_gpa2hva(vm, TEST_MEM) + page * PAGE_SIZE);
}

static void run_guest_pass(bool write)
{
	struct ucall uc;

	job.write = write;
	job.version += write;
	sync_global_to_guest(vm, job);

	vcpu_run(vcpu);
	errno = 0;
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(uc.cmd == UCALL_SYNC && uc.args[1] == job.version,
		    "The guest did not get through: %s",
		    exit_reason_str(vcpu->run->exit_reason));
}

static void age(void)
{
	uint64_t page;

	if (!with_idle) {
		aging_lru_read_and_pass();
		return;
	}
	for (page = 0; page < job.nr_pages; page++)
		pfns[page] = page_idle_pfn(&idle, page_word(page));
	page_idle_mark(&idle, pfns, job.nr_pages);
}

/* Returns how many pages did not go out. */
static uint64_t swap_all_out(void)
{
	uint64_t page, left = 0;
	int i;

	for (i = 0; i < SWAP_TRIES; i++) {
		/* Pages may be in another CPU's batch.  Draining is slow: try without it first. */
		if (i)
			aging_drain_lru();
		swap_out(page_word(0), job.nr_pages * PAGE_SIZE);

		left = 0;
		for (page = 0; page < job.nr_pages; page++)
			left += !swap_is_out(page_word(page));
		if (!left)
			break;
		usleep(1000);
	}
	return left;
}

/* Read all pages in.  Returns how many are clean; @wrong counts those with a wrong value. */
static uint64_t swap_all_in(uint64_t *wrong)
{
	uint64_t page, value, clean = 0;

	*wrong = 0;
	for (page = 0; page < job.nr_pages; page++) {
		value = READ_ONCE(*page_word(page));
		clean += swap_is_clean(page_word(page));
		if (value == page_tag(page, job.version))
			continue;
		if (!(*wrong)++)
			ksft_print_msg("page %lu has 0x%lx, the guest wrote 0x%lx\n", page,
				       value, page_tag(page, job.version));
	}
	return clean;
}

static void run_case(const char *steps)
{
	uint64_t left, clean, wrong;
	const char *step;

	left = swap_all_out();
	clean = swap_all_in(&wrong);
	/* The case before this one has checked the contents. */
	TEST_ASSERT(!wrong, "%lu pages are wrong before case %s", wrong, steps);

	for (step = steps; *step; step++) {
		switch (*step) {
		case 'r':
		case 'w':
			run_guest_pass(*step == 'w');
			break;
		case 'a':
			age();
			break;
		case 'l':
			vm_mem_region_set_flags(vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
			vm_mem_region_set_flags(vm, TEST_SLOT, 0);
			break;
		}
	}

	left += swap_all_out();
	swap_all_in(&wrong);
	if (left || wrong || clean < job.nr_pages)
		ksft_print_msg("%s: %lu of %lu pages came clean, %lu not out in time, %lu wrong\n",
			       steps, clean, job.nr_pages, left, wrong);
	/* Something else may hold a few pages; no page may be wrong. */
	ksft_test_result(!wrong && clean >= job.nr_pages / 2 && left <= job.nr_pages / 2,
			 "%s%s\n", nested ? "nested_" : "", steps);

	/* Write all pages anew, so that the next cases do not fail for this one. */
	if (wrong)
		run_guest_pass(true);
}

static void create_vm(void)
{
	uint64_t page;

	vm = __vm_create_with_one_vcpu(&vcpu, job.nr_pages, nested ? l1_code : guest_code);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, job.nr_pages, 0);
	virt_map(vm, TEST_MEM, TEST_MEM, job.nr_pages);
	if (nested) {
		l2_map_create(vm, &l2_map, TEST_MEM, job.nr_pages, false, 0);
		l2_create(vm, &l2);
		sync_global_to_guest(vm, l2_map);
		sync_global_to_guest(vm, l2);
	}

	for (page = 0; page < job.nr_pages; page++)
		*page_word(page) = page_tag(page, job.version);
}

static void help(const char *name)
{
	printf("usage: %s [-m idle|lru] [-p pages] [-n] [case ...]\n"
	       " -m: age through page_idle, or through MGLRU in debugfs\n"
	       "     (default: page_idle where the kernel has it)\n"
	       " -p: 4 KiB pages of memory (default: 256)\n"
	       " -n: the guest is a nested one, with nested paging\n"
	       " case: the steps for pages that came clean from swap, one letter each\n"
	       "     (default: a built-in list of cases):\n"
	       "     r, w the guest reads or writes all pages, a the host ages them,\n"
	       "     l the host turns dirty logging on and off\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	bool want_idle = false, want_lru = false;
	const char *const *list = cases;
	uint64_t wrong;
	int i, opt, nr = ARRAY_SIZE(cases);
	const char *why;

	job.nr_pages = 256;
	while ((opt = getopt(argc, argv, "m:p:n")) != -1) {
		switch (opt) {
		case 'm':
			want_idle = !strcmp(optarg, "idle");
			want_lru = !strcmp(optarg, "lru");
			if (!want_idle && !want_lru)
				help(argv[0]);
			break;
		case 'p':
			job.nr_pages = aging_parse_positive(optarg);
			break;
		case 'n':
			nested = true;
			break;
		default:
			help(argv[0]);
		}
	}
	if (optind < argc) {
		list = (const char *const *)argv + optind;
		nr = argc - optind;
	}
	for (i = 0; i < nr; i++) {
		if (!*list[i] || strspn(list[i], "rwal") != strlen(list[i]))
			help(argv[0]);
	}
	if (!job.nr_pages)
		help(argv[0]);

	ksft_print_header();

	why = swap_open();
	__TEST_REQUIRE(!why, "%s", why);
	if (nested) {
		why = l2_supported(true);
		__TEST_REQUIRE(!why, "%s", why);
	}
	if (!want_lru) {
		why = page_idle_open(&idle);
		__TEST_REQUIRE(!why || !want_idle, "%s", why);
		with_idle = !why;
	}
	if (!with_idle) {
		why = aging_lru_setup();
		__TEST_REQUIRE(!why, "%s", why);
	}
	pfns = calloc(job.nr_pages, sizeof(*pfns));
	TEST_ASSERT(pfns, "Out of memory");

	create_vm();
	/* So far, only the host has touched the pages. */
	swap_all_out();
	__TEST_REQUIRE(swap_all_in(&wrong) >= job.nr_pages / 2,
		       "Swapped-in pages do not stay on swap: swap is a RAM disk, or nearly full");
	ksft_print_msg("%lu pages of %s, aged through %s\n", job.nr_pages,
		       nested ? "a nested guest" : "a guest", with_idle ? "page_idle" : "MGLRU");
	ksft_set_plan(nr);
	for (i = 0; i < nr; i++)
		run_case(list[i]);

	if (with_idle)
		page_idle_close(&idle);
	free(pfns);
	kvm_vm_free(vm);
	ksft_finished();
}
