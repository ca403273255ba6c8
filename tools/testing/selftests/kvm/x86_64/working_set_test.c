// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does KVM tell which pages a guest touched since the last read?
 *
 * In each round, the guest touches some of its pages, more or less of them.  The host then reads
 * the VM's working_set_bitmap, and compares it page by page with what the guest did: what it
 * touched and nothing else, and nothing at all if the host reads once more.
 *
 * The guest may be a nested one (-n), whose memory KVM maps with shadow pages.  Or L1 and L2, one
 * without nested paging (-N), touch half of the pages each.
 *
 * With -a, MGLRU ages the memory between use and read, and has to find as many pages young as the
 * guest touched; without, it does so after the read.
 *
 * Each read ends with a flush of the guest's TLB, so the test need not do that.
 *
 * With -d, KVM write-protects the memory and splits huge pages between use and read: the memslot's
 * writes are logged then.
 *
 * With -s, L1 write-protects all pages in its tables between use and read, and KVM syncs its own
 * with them, which makes them old for MGLRU.
 *
 * With -e, the host evicts what the guest left alone, which MGLRU finds old, to swap between use
 * and read.
 *
 * With -m, a memslot that the guest does not use is replaced between use and read, and KVM keeps
 * the SPTEs of the others (KVM_X86_QUIRK_SLOT_ZAP_ALL is off).
 *
 * With -c, the test compares nothing, and prints what a read of the text takes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

/* A higher id than TEST_SLOT, at a lower address.  It begins at the last bit of a word. */
#define ODD_SLOT	2
#define ODD_MEM		(0xc0000000ULL + 63 * PAGE_SIZE)
#define ODD_PAGES	64

/* The memslots map more than KVM takes bits for while this one is there. */
#define LARGE_SLOT	3
#define LARGE_MEM	0x1000000000ULL

#define PAGES_PER_HUGE	512

/*
 * What the host tells the guest: one unit of @one_in is touched, none if that is 0; the first of
 * them if @regular, else any.
 */
static struct {
	uint64_t nr_units;
	/* A page, or a huge page. */
	uint64_t unit_pages;
	uint64_t round;
	uint64_t one_in;
	bool regular;
} job;

static const uint64_t densities[] = { 1, 3, 100, 32 * PAGES_PER_HUGE, 0, 1 };

/* Host and guest compute the same pattern. */
static uint64_t pattern_hash(uint64_t unit, uint64_t round)
{
	uint64_t hash = (unit + 1) * 0x9e3779b97f4a7c15ULL ^ (round + 1) * 0xbf58476d1ce4e5b9ULL;

	hash ^= hash >> 29;
	hash *= 0x94d049bb133111ebULL;
	return hash ^ hash >> 32;
}

static bool is_touched(uint64_t unit)
{
	if (!job.one_in)
		return false;
	return (job.regular ? unit : pattern_hash(unit, job.round)) % job.one_in == 0;
}

/* Touch those units of the pattern that are the @nth of @of parts. */
static void guest_touch(uint64_t of, uint64_t nth)
{
	uint64_t unit, page;

	for (unit = 0; unit < job.nr_units; unit++) {
		if (!is_touched(unit) || pattern_hash(unit, ~job.round) % of != nth)
			continue;
		page = unit * job.unit_pages + pattern_hash(unit, 0) % job.unit_pages;
		/* Also when it is populated: MGLRU knows nothing of a zero page. */
		WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE), job.round);
	}
}

static void guest_code(void)
{
	for (;;) {
		guest_touch(1, 0);
		GUEST_SYNC1(job.round);
	}
}

static struct l2_map l2_map;
static struct l2 l2;

static void l2_code(uint64_t unused)
{
	guest_code();
}

static void l1_code(void)
{
	l2_run_for_good(&l2, &l2_map, l2_code, 0);
}

static void synced_l2_code(uint64_t unused)
{
	for (;;) {
		guest_touch(1, 0);
		l2_call();
		GUEST_SYNC1(job.round);
		l2_call();
	}
}

/* KVM syncs its tables when L2 runs again.  It writes those SPTEs whose rights have changed. */
static void synced_l1_code(void)
{
	uint64_t page;

	l2_init(&l2, &l2_map, synced_l2_code, 0);
	for (;;) {
		GUEST_ASSERT_EQ(l2_run(&l2), L2_CALL);
		for (page = 0; page < job.nr_units; page++)
			l2_map.leaves[page] ^= L2_WRITABLE;
		l2_flush(&l2);
	}
}

static void flat_l2_code(uint64_t unused)
{
	for (;;) {
		guest_touch(2, 1);
		l2_call();
	}
}

static void flat_l1_code(void)
{
	l2_init(&l2, NULL, flat_l2_code, 0);
	for (;;) {
		guest_touch(2, 0);
		GUEST_ASSERT_EQ(l2_run(&l2), L2_CALL);
		GUEST_SYNC1(job.round);
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static uint64_t pages = 16 * PAGES_PER_HUGE;
static bool huge_pages;
static bool nested;
static bool flat;
static bool age_before;
static bool log_between;
static bool sync_between;
static bool evict_between;
static bool memslot_between;
static bool count;
static uint8_t *bitmap;

static void run_round(uint64_t round, uint64_t one_in)
{
	struct ucall uc;

	job.round = round;
	job.one_in = one_in;
	sync_global_to_guest(vm, job);

	vcpu_run(vcpu);
	errno = 0;
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(uc.cmd == UCALL_SYNC && uc.args[0] == round,
		    "The guest did not finish round %lu: %s", round,
		    exit_reason_str(vcpu->run->exit_reason));
}

static void read_bitmap(void)
{
	int fd = aging_open_working_set(vm->fd, "working_set_bitmap");

	TEST_ASSERT(fd >= 0, "Failed to open working_set_bitmap");
	TEST_ASSERT(pread(fd, bitmap, pages / 8, TEST_MEM / PAGE_SIZE / 8) == pages / 8,
		    "Failed to read working_set_bitmap");
	close(fd);
}

struct text {
	uint64_t since_ns;
	uint64_t took_ns;
	uint64_t touched;
	uint64_t by_4k;
	uint64_t by_2m;
};

/* What the text says, and of the memslot of the test. */
static struct text read_text(void)
{
	struct text text = {};
	char buf[8192], *line;
	int fd = aging_open_working_set(vm->fd, "working_set");
	ssize_t len;

	TEST_ASSERT(fd >= 0, "Failed to open working_set");
	len = read(fd, buf, sizeof(buf) - 1);
	TEST_ASSERT(len > 0, "Failed to read working_set");
	buf[len] = 0;
	close(fd);

	TEST_ASSERT(sscanf(buf, "since_ns %lu took_ns %lu", &text.since_ns, &text.took_ns) == 2,
		    "working_set has no times: %s", buf);
	line = strstr(buf, "memslot 0.1 ");
	line = line ? strstr(line, "touched ") : NULL;
	TEST_ASSERT(line && sscanf(line, "touched %lu by_4k %lu by_2048k %lu", &text.touched,
				   &text.by_4k, &text.by_2m) == 3,
		    "working_set has no memslot: %s", buf);
	return text;
}

/* How many units the guest touched; and how many the bitmap has wrong, of whatever else. */
static uint64_t compare(uint64_t *wrong)
{
	uint64_t unit, page, used = 0, missed = 0, invented = 0;

	for (unit = 0; unit < job.nr_units; unit++) {
		used += is_touched(unit);
		for (page = unit * job.unit_pages; page < (unit + 1) * job.unit_pages; page++) {
			bool found = bitmap[page / 8] & (1 << page % 8);

			if (found == is_touched(unit))
				continue;
			if (found)
				invented++;
			else
				missed++;
			if (missed + invented == 1)
				ksft_print_msg("page %lu was %s\n", page, found ?
					       "left alone but found" : "touched but not found");
		}
	}
	if (missed || invented)
		ksft_print_msg("%lu pages missed, %lu invented\n", missed, invented);
	*wrong = missed + invented;
	return used;
}

/* What the guest left alone goes to swap, or some of it.  What it used stays. */
static void evict_unused(void)
{
	uint64_t page, unused = 0, out = 0, wrong = 0;
	int tries;

	/* Pages that are locked, or not on their list, stay at the first try. */
	for (tries = 0; tries < 10 && out < unused / 2 + 1; tries++) {
		aging_lru_evict_old();
		unused = 0;
		out = 0;
		wrong = 0;
		for (page = 0; page < pages; page++) {
			bool is_out = swap_is_out(addr_gpa2hva(vm, TEST_MEM + page * PAGE_SIZE));

			unused += !is_touched(page);
			out += is_out;
			wrong += is_out && is_touched(page);
		}
		if (!unused)
			break;
	}
	ksft_print_msg("%lu of %lu unused pages are on swap\n", out - wrong, unused);
	TEST_ASSERT(!wrong, "%lu used pages are on swap", wrong);
	TEST_ASSERT(!unused || out, "Nothing was evicted");
}

static void check_young(uint64_t round, uint64_t used, unsigned long young)
{
	/*
	 * MGLRU also sees the pages of the guest's own code and page tables, and the test's: some
	 * hundred.
	 */
	if (young < used || young > used + 1500)
		ksft_print_msg("MGLRU found %lu young of %lu used\n", young, used);
	ksft_test_result(young >= used && young <= used + 1500,
			 "round %lu: MGLRU finds them young, too\n", round);
}

static void check_round(uint64_t round, uint64_t one_in)
{
	unsigned long young = 0;
	uint64_t used, wrong;
	struct text text;

	run_round(round, one_in);
	if (age_before) {
		aging_lru_read_and_pass();
		young = aging_lru_young();
	}
	if (evict_between)
		evict_unused();
	if (memslot_between) {
		vm_mem_region_delete(vm, ODD_SLOT);
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, ODD_MEM, ODD_SLOT, ODD_PAGES,
					    0);
	}
	if (log_between)
		vm_mem_region_set_flags(vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	read_bitmap();
	if (!age_before && !sync_between) {
		aging_lru_read_and_pass();
		young = aging_lru_young();
	}

	used = compare(&wrong);
	ksft_test_result(!wrong, "round %lu: %lu of %lu touched, and found\n", round, used,
			 job.nr_units);

	if (!sync_between)
		check_young(round, used * job.unit_pages, young);

	text = read_text();
	ksft_test_result(!text.touched && text.since_ns && text.since_ns != text.took_ns,
			 "round %lu: nothing was touched since\n", round);
	/* That zaps what has been split, so that it can be a huge page again. */
	if (log_between)
		vm_mem_region_set_flags(vm, TEST_SLOT, 0);
}

static void check_text(void)
{
	struct text text;
	uint64_t size = pages * PAGE_SIZE;

	run_round(100, 1);
	text = read_text();
	ksft_test_result(text.touched == size &&
			 (huge_pages ? text.by_2m == size && !text.by_4k :
			  text.by_4k >= size && !text.by_2m),
			 "the text says how much was touched\n");
}

/* What cannot be asked, and that it loses nothing. */
static void check_errors(void)
{
	uint64_t wrong, flushes;
	off_t hole, odd, test, end;
	char byte[8];
	int fd;

	run_round(101, 3);
	flushes = vm_get_stat(vm, "remote_tlb_flush_requests");
	fd = aging_open_working_set(vm->fd, "working_set_bitmap");
	TEST_ASSERT(fd >= 0, "Failed to open working_set_bitmap");
	ksft_test_result(aging_open_working_set(vm->fd, "working_set_bitmap") < 0 &&
			 errno == EBUSY &&
			 aging_open_working_set(vm->fd, "working_set") < 0 && errno == EBUSY,
			 "one reader at a time\n");
	ksft_test_result(vm_get_stat(vm, "remote_tlb_flush_requests") > flushes,
			 "a read flushes the guest's TLB\n");
	ksft_test_result(pread(fd, byte, 7, 0) < 0 && errno == EINVAL &&
			 pread(fd, byte, 8, 1) < 0 && errno == EINVAL,
			 "whole words only\n");
	ksft_test_result(lseek(fd, 0, SEEK_END) == (TEST_MEM / PAGE_SIZE + pages) / 8 &&
			 !read(fd, byte, 8) &&
			 lseek(fd, -8, SEEK_CUR) > 0 && read(fd, byte, 8) == 8,
			 "the bitmap ends with the last memslot\n");
	/* The code's memslot, the odd one, maybe some of KVM's own, and that of the test. */
	hole = align_up(memslot2region(vm, 0)->region.memory_size / PAGE_SIZE, 64) / 8;
	odd = ODD_MEM / PAGE_SIZE / 64 * 8;
	test = TEST_MEM / PAGE_SIZE / 8;
	end = test + pages / 8;
	ksft_test_result(!lseek(fd, 0, SEEK_DATA) && lseek(fd, 5, SEEK_DATA) == 5 &&
			 lseek(fd, 5, SEEK_HOLE) == hole && lseek(fd, hole, SEEK_HOLE) == hole &&
			 lseek(fd, hole, SEEK_DATA) == odd &&
			 lseek(fd, odd + 1, SEEK_DATA) == odd + 1 &&
			 lseek(fd, odd, SEEK_HOLE) == odd + 16 &&
			 lseek(fd, odd + 16, SEEK_HOLE) == odd + 16 &&
			 lseek(fd, test - 8, SEEK_DATA) == test &&
			 lseek(fd, end - 1, SEEK_DATA) == end - 1 &&
			 lseek(fd, 0, SEEK_CUR) == end - 1 && lseek(fd, test, SEEK_HOLE) == end,
			 "holes are where no memslot is\n");
	ksft_test_result(lseek(fd, end, SEEK_DATA) < 0 && errno == ENXIO &&
			 lseek(fd, -1, SEEK_HOLE) < 0 && errno == ENXIO,
			 "nothing to seek behind the last memslot\n");
	TEST_ASSERT(pread(fd, bitmap, pages / 8, TEST_MEM / PAGE_SIZE / 8) == pages / 8,
		    "Failed to read working_set_bitmap");
	close(fd);
	compare(&wrong);
	ksft_test_result(!wrong, "the first reader has it all\n");
}

/* In each state, a read of what was touched, and one of nothing. */
static void print_counts(void)
{
	static const uint64_t one_in_tables[] = { 0, 32, 16, 8, 4, 2, 1 };
	struct text text;
	int i;

	for (i = 0; i <= ARRAY_SIZE(one_in_tables); i++) {
		/* All pages last. */
		run_round(i + 1, i == ARRAY_SIZE(one_in_tables) ? 1 :
				 one_in_tables[i] * PAGES_PER_HUGE);
		text = read_text();
		printf("touched %lu\n", (uint64_t)(text.touched / PAGE_SIZE));
		printf("read_ns %lu\n", text.took_ns);
		text = read_text();
		printf("nothing_ns %lu\n", text.took_ns);
	}
}

static void create_vm(void)
{
	vm = __vm_create_with_one_vcpu(&vcpu, 2 * pages,
				       flat ? flat_l1_code : sync_between ? synced_l1_code :
				       nested ? l1_code : guest_code);
	vm_userspace_mem_region_add(vm, huge_pages ? VM_MEM_SRC_ANONYMOUS_THP :
				    VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, pages, 0);
	virt_map(vm, TEST_MEM, TEST_MEM, pages);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, ODD_MEM, ODD_SLOT, ODD_PAGES, 0);
	if (memslot_between)
		vm_enable_cap(vm, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL);

	if (nested) {
		l2_create(vm, &l2);
		if (!flat) {
			l2_map_create(vm, &l2_map, TEST_MEM, pages, huge_pages, 0);
			sync_global_to_guest(vm, l2_map);
		}
		sync_global_to_guest(vm, l2);
	}
}

/* Memslots that map more than the host can have: no bitmaps for them. */
static void check_large(void)
{
	uint64_t nr = 33ul * sysconf(_SC_PHYS_PAGES), size = nr * PAGE_SIZE;
	void *mem;
	int fd;

	/* KVM allows no more for a memslot, and takes memory for the rmaps of one. */
	if (nr > INT_MAX || LARGE_MEM / PAGE_SIZE + nr > vm->max_gfn || nested ||
	    !get_kvm_param_bool("tdp_mmu")) {
		ksft_test_result_skip("memslots that are too large are refused\n");
		return;
	}
	mem = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "Failed to map %lu bytes", size);
	vm_set_user_memory_region(vm, LARGE_SLOT, 0, LARGE_MEM, size, mem);
	fd = aging_open_working_set(vm->fd, "working_set");
	ksft_test_result(fd < 0 && errno == E2BIG, "memslots that are too large are refused\n");
	vm_set_user_memory_region(vm, LARGE_SLOT, 0, LARGE_MEM, 0, mem);
	munmap(mem, size);
}

static void help(const char *name)
{
	printf("usage: %s [-b MiB] [-i rounds] [-H] [-n|-N] [-a [-e]] [-d] [-m] [-s] [-c]\n"
	       " -b: memory of the guest (default 32)\n"
	       " -i: how often to go through all patterns (default 2)\n"
	       " -H: in huge pages\n"
	       " -n: of a nested guest; -N: L1 and L2 share it, without nested paging\n"
	       " -a: MGLRU ages between use and read\n"
	       " -d: the log of writes is turned on between use and read\n"
	       " -e: what is unused is evicted between use and read; with -a, without -H; wants swap\n"
	       " -m: a memslot is replaced between use and read\n"
	       " -s: L1 write-protects its pages between use and read; with -n, without -H and -a\n"
	       " -c: print what a read takes, and compare nothing\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	unsigned long rounds = 2, round, i;
	const char *why;
	int opt, fd;
	char byte[8];

	while ((opt = getopt(argc, argv, "b:i:HnNademsc")) != -1) {
		switch (opt) {
		case 'b':
			pages = aging_parse_positive(optarg) * (1ul << 20) / PAGE_SIZE;
			break;
		case 'i':
			rounds = aging_parse_positive(optarg);
			break;
		case 'H':
			huge_pages = true;
			break;
		case 'N':
			flat = true;
			fallthrough;
		case 'n':
			nested = true;
			break;
		case 'a':
			age_before = true;
			break;
		case 'd':
			log_between = true;
			break;
		case 'e':
			evict_between = true;
			break;
		case 'm':
			memslot_between = true;
			break;
		case 's':
			sync_between = true;
			break;
		case 'c':
			count = true;
			break;
		default:
			help(argv[0]);
		}
	}
	pages = align_up(pages, PAGES_PER_HUGE);
	if (optind != argc || !pages || !rounds)
		help(argv[0]);
	if (sync_between && (!nested || flat || huge_pages || age_before))
		help(argv[0]);
	if (evict_between && (!age_before || huge_pages))
		help(argv[0]);

	if (!count)
		ksft_print_header();
	job.unit_pages = huge_pages ? PAGES_PER_HUGE : 1;
	job.nr_units = pages / job.unit_pages;
	if (nested) {
		why = l2_supported(!flat);
		__TEST_REQUIRE(!why, "%s", why);
	}
	why = count ? NULL : aging_lru_setup();
	__TEST_REQUIRE(!why, "%s", why);

	why = evict_between ? swap_open() : NULL;
	__TEST_REQUIRE(!why, "%s", why);
	__TEST_REQUIRE(!memslot_between ||
		       kvm_check_cap(KVM_CAP_DISABLE_QUIRKS2) & KVM_X86_QUIRK_SLOT_ZAP_ALL,
		       "KVM always zaps all memslots");

	create_vm();
	bitmap = malloc(pages / 8);
	TEST_ASSERT(bitmap, "Out of memory");
	fd = aging_open_working_set(vm->fd, "working_set");
	__TEST_REQUIRE(fd >= 0 || (errno != ENOENT && errno != EOPNOTSUPP),
		       "KVM has no working set to read: %s", strerror(errno));
	close(fd);

	/* Populate. */
	run_round(0, 1);
	if (count) {
		job.regular = true;
		print_counts();
	} else {
		ksft_set_plan(rounds * ARRAY_SIZE(densities) * (3 - sync_between) + 10);
		aging_drain_lru();
		aging_lru_read_and_pass();
		read_text();
		for (round = 1; round <= rounds; round++) {
			for (i = 0; i < ARRAY_SIZE(densities); i++)
				check_round(round * 10 + i, densities[i]);
		}
		check_text();
		check_errors();
		check_large();
	}

	/* A file that outlives the VM. */
	fd = aging_open_working_set(vm->fd, "working_set_bitmap");
	TEST_ASSERT(fd >= 0, "Failed to open working_set_bitmap");
	kvm_vm_free(vm);
	if (!count)
		ksft_test_result(read(fd, byte, 8) < 0 && errno == EIO,
				 "a file of a VM that is gone says so\n");
	close(fd);
	free(bitmap);
	if (!count)
		ksft_finished();
	return 0;
}
