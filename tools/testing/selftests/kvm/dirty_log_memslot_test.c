// SPDX-License-Identifier: GPL-2.0-only
/*
 * The dirty log of unusual memslots: with odd bases and sizes, read-only, two for one piece
 * of memory, cleared by two threads, and with a dirty ring whose entries userspace has forged,
 * or which is reset by a task that gets signals.  And what KVM says to bad arguments.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include <asm/barrier.h>
#include <linux/bitmap.h>

#include "kvm_util.h"
#include "processor.h"
#include "ring_util.h"
#include "stress_util.h"
#include "sync_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define ALIAS_SLOT	2
#define TEST_MEM	0x40000000ULL
#define ALIAS_MEM	0x50000000ULL
#define NR_PAGES	512
/* More than NR_PAGES, as KVM exits before the ring is full: with PML, 576 entries before. */
#define RING_ENTRIES	4096

#define LOG		KVM_MEM_LOG_DIRTY_PAGES

/* The pages that the guest is to write. */
static struct {
	uint64_t nr;
	uint64_t gpas[NR_PAGES];
} job;

static void guest_code(void)
{
	uint64_t i, n = 0;

	for (;;) {
		n++;
		for (i = 0; i < READ_ONCE(job.nr); i++)
			WRITE_ONCE(*(uint64_t *)job.gpas[i], n);
		GUEST_SYNC1(n);
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static char *memory;
static struct dirty_ring ring;

static void create_vm(bool manual, bool with_ring)
{
	vm = __vm_create(VM_SHAPE_DEFAULT, 1, 2 * NR_PAGES);
	if (manual)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	if (with_ring)
		vm_enable_dirty_ring(vm, RING_ENTRIES * sizeof(*ring.entries));
	vcpu = vm_vcpu_add(vm, 0, guest_code);
	if (with_ring)
		ring = (struct dirty_ring) { vcpu_map_dirty_ring(vcpu), RING_ENTRIES };
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	virt_map(vm, ALIAS_MEM, ALIAS_MEM, NR_PAGES);
}

static void set_slot(int slot, uint32_t flags, uint64_t gpa, uint64_t nr)
{
	vm_set_user_memory_region(vm, slot, flags, gpa, nr * PAGE_SIZE, memory);
}

static void run(void)
{
	sync_global_to_guest(vm, job);
	vcpu_run(vcpu);
	vcpu_sync_arg(vcpu);
}

/* Have the guest write each page of the memslot at @gpa that is set in @pages. */
static void write_pages(uint64_t gpa, const unsigned long *pages)
{
	uint64_t i;

	job.nr = 0;
	for (i = 0; i < NR_PAGES; i++) {
		if (test_bit(i, pages))
			job.gpas[job.nr++] = gpa + i * PAGE_SIZE;
	}
	run();
}

/* Does the log of a memslot with @nr pages equal @pages?  Bits behind its end do not count. */
static bool log_is(int slot, uint64_t nr, const unsigned long *pages)
{
	unsigned long *log = bitmap_zalloc(NR_PAGES);
	bool ok = true;
	uint64_t i;

	kvm_vm_get_dirty_log(vm, slot, log);
	for (i = 0; i < nr; i++)
		ok &= test_bit(i, log) == test_bit(i, pages);
	free(log);
	return ok;
}

static bool ring_is(uint64_t nr, const unsigned long *pages)
{
	unsigned long *log = bitmap_zalloc(NR_PAGES);
	uint64_t i, offset;
	bool ok = true;
	uint32_t slot;

	while (dirty_ring_take(&ring, &slot, &offset)) {
		ok &= slot == TEST_SLOT && offset < nr;
		if (ok)
			set_bit(offset, log);
	}
	kvm_vm_reset_dirty_ring(vm);
	for (i = 0; i < nr; i++)
		ok &= test_bit(i, log) == test_bit(i, pages);
	free(log);
	return ok;
}

/* Every @step-th page, from @first on. */
static unsigned long *choose(uint64_t nr, uint64_t first, uint64_t step)
{
	unsigned long *pages = bitmap_zalloc(NR_PAGES);
	uint64_t i;

	for (i = first; i < nr; i += step)
		set_bit(i, pages);
	return pages;
}

enum mode { GET, CLEAR, RING };

static bool test_odd(enum mode mode)
{
	static const uint64_t bases[] = { 1, 3, 63, 65 };
	static const uint64_t sizes[] = { 1, 63, 64, 65, 129 };
	unsigned long *none = bitmap_zalloc(NR_PAGES), *some, *others;
	bool ok = true;
	int i, j;

	create_vm(mode == CLEAR, mode == RING);
	for (i = 0; i < ARRAY_SIZE(bases) * ARRAY_SIZE(sizes) && ok; i++) {
		const uint64_t gpa = TEST_MEM + bases[i / ARRAY_SIZE(sizes)] * PAGE_SIZE;
		const uint64_t nr = sizes[i % ARRAY_SIZE(sizes)];

		set_slot(TEST_SLOT, LOG, gpa, nr);
		for (j = 0; j < 3 && ok; j++) {
			some = choose(nr, j, 3);
			others = choose(nr, nr - 1, 1);
			write_pages(gpa, some);
			ok &= mode == RING ? ring_is(nr, some) : log_is(TEST_SLOT, nr, some);
			if (mode == CLEAR) {
				kvm_vm_clear_dirty_log(vm, TEST_SLOT, some, 0, nr);
				ok &= log_is(TEST_SLOT, nr, none);
			}
			/* The last page alone: it may have a word of the log for itself. */
			write_pages(gpa, others);
			ok &= mode == RING ? ring_is(nr, others) : log_is(TEST_SLOT, nr, others);
			if (mode == CLEAR)
				kvm_vm_clear_dirty_log(vm, TEST_SLOT, others, 0, nr);
			free(some);
			free(others);
		}
		if (!ok)
			ksft_print_msg("wrong for %lu pages at 0x%lx\n", nr, gpa);
		set_slot(TEST_SLOT, 0, gpa, 0);
	}
	free(none);
	kvm_vm_free(vm);
	return ok;
}

static bool test_odd_get(void)
{
	return test_odd(GET);
}

static bool test_odd_clear(void)
{
	return test_odd(CLEAR);
}

static bool test_odd_ring(void)
{
	return test_odd(RING);
}

/* A write to a read-only memslot exits to userspace, and KVM does not log it. */
static bool test_readonly(void)
{
	unsigned long *none = bitmap_zalloc(NR_PAGES), *one = choose(6, 5, 64);
	bool ok;

	create_vm(false, false);
	set_slot(TEST_SLOT, LOG | KVM_MEM_READONLY, TEST_MEM, NR_PAGES);
	job.nr = 1;
	job.gpas[0] = TEST_MEM + 5 * PAGE_SIZE;
	sync_global_to_guest(vm, job);
	vcpu_run(vcpu);
	ok = vcpu->run->exit_reason == KVM_EXIT_MMIO && vcpu->run->mmio.is_write &&
	     vcpu->run->mmio.phys_addr == job.gpas[0];
	ok &= log_is(TEST_SLOT, NR_PAGES, none);
	run();
	ok &= log_is(TEST_SLOT, NR_PAGES, none);

	/* KVM logs the same write to a writable memslot. */
	set_slot(TEST_SLOT, 0, TEST_MEM, 0);
	set_slot(TEST_SLOT, LOG, TEST_MEM, NR_PAGES);
	write_pages(TEST_MEM, one);
	ok &= log_is(TEST_SLOT, NR_PAGES, one);
	kvm_vm_free(vm);
	free(none);
	free(one);
	return ok;
}

/* Each memslot's log has what the guest wrote through gfns of that memslot. */
static bool test_alias(void)
{
	unsigned long *thirds = choose(NR_PAGES, 0, 3), *fifths = choose(NR_PAGES, 1, 5);
	bool ok = true;
	int i;

	create_vm(false, false);
	set_slot(TEST_SLOT, LOG, TEST_MEM, NR_PAGES);
	set_slot(ALIAS_SLOT, LOG, ALIAS_MEM, NR_PAGES);
	for (i = 0; i < 3 && ok; i++) {
		write_pages(TEST_MEM, i & 1 ? fifths : thirds);
		write_pages(ALIAS_MEM, i & 1 ? thirds : fifths);
		ok &= log_is(TEST_SLOT, NR_PAGES, i & 1 ? fifths : thirds);
		ok &= log_is(ALIAS_SLOT, NR_PAGES, i & 1 ? thirds : fifths);
	}
	kvm_vm_free(vm);
	free(thirds);
	free(fifths);
	return ok;
}

static pthread_mutex_t copying = PTHREAD_MUTEX_INITIALIZER;
static uint64_t copy[NR_PAGES];

static uint64_t *number_of(uint64_t page)
{
	return (uint64_t *)(memory + page * PAGE_SIZE);
}

static void *clear_and_copy(void *worker)
{
	unsigned long *log = bitmap_zalloc(NR_PAGES);
	uint64_t i;

	while (!stress_stopping()) {
		kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
		kvm_vm_clear_dirty_log(vm, TEST_SLOT, log, 0, NR_PAGES);
		for (i = 0; i < NR_PAGES; i++) {
			if (!test_bit(i, log))
				continue;
			/* Under the lock, a thread cannot replace a copy by an older one. */
			pthread_mutex_lock(&copying);
			copy[i] = READ_ONCE(*number_of(i));
			pthread_mutex_unlock(&copying);
		}
		stress_count(worker);
	}
	free(log);
	return NULL;
}

static void *write_and_write(void *worker)
{
	uint64_t random = 1, i;

	while (!stress_stopping()) {
		job.nr = 64;
		for (i = 0; i < job.nr; i++)
			job.gpas[i] = TEST_MEM + stress_random(&random) % NR_PAGES * PAGE_SIZE;
		run();
		stress_count(worker);
	}
	return NULL;
}

/* Two threads clear one log, and each copies the pages that it got.  None may be lost. */
static bool test_two_clear(void)
{
	static struct stress_worker workers[] = {
		{ 0, "rounds of the vCPU", write_and_write },
		{ 0, "rounds of the first thread", clear_and_copy },
		{ 0, "rounds of the second thread", clear_and_copy },
		{}
	};
	unsigned long *log = bitmap_zalloc(NR_PAGES);
	uint64_t i, lost = 0;

	create_vm(true, false);
	memset(memory, 0, NR_PAGES * PAGE_SIZE);
	set_slot(TEST_SLOT, LOG, TEST_MEM, NR_PAGES);
	stress_run(workers, 3, NULL);

	kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
	for (i = 0; i < NR_PAGES; i++)
		lost += !test_bit(i, log) && copy[i] != *number_of(i);
	ksft_print_msg("%lu, %lu and %lu rounds, %lu pages lost\n", workers[0].count,
		       workers[1].count, workers[2].count, lost);
	free(log);
	kvm_vm_free(vm);
	return !lost;
}

/*
 * Userspace forges entries of the ring, and some of them KVM never pushed.  Pages that the
 * entries name may be missing from the log.  Nothing else may happen.
 */
static bool test_forged_ring(void)
{
	static const struct {
		uint32_t slot;
		uint64_t offset;
	} forged[] = {
		{ TEST_SLOT, NR_PAGES },
		{ TEST_SLOT, NR_PAGES - 1 },
		/* KVM joins these four into one mask, though their offsets wrap around. */
		{ TEST_SLOT, -3ULL },
		{ TEST_SLOT, 2 },
		{ TEST_SLOT, -1ULL },
		{ TEST_SLOT, 0 },
		{ TEST_SLOT, 1ULL << 63 },
		{ ALIAS_SLOT + 1, 0 },
		{ 0, 0 },
		{ 0x7fff, 0 },
		{ 0xffff, 5 },
		{ 1 << 16 | TEST_SLOT, 5 },
		{ 0xffff << 16 | TEST_SLOT, 5 },
		{ -1U, -1ULL },
	};
	unsigned long *all = choose(NR_PAGES, 0, 1);
	uint32_t nr, seen = 0;
	int i;

	create_vm(false, true);
	set_slot(TEST_SLOT, LOG, TEST_MEM, NR_PAGES);
	write_pages(TEST_MEM, all);
	for (i = 0; i < RING_ENTRIES; i++) {
		ring.entries[i].slot = forged[i % ARRAY_SIZE(forged)].slot;
		ring.entries[i].offset = forged[i % ARRAY_SIZE(forged)].offset;
		/*
		 * Pairs with the smp_load_acquire() of kvm_dirty_gfn_harvested(): KVM reads the
		 * entry after the flag.
		 */
		smp_store_release(&ring.entries[i].flags, KVM_DIRTY_GFN_F_RESET);
	}
	nr = kvm_vm_reset_dirty_ring(vm);
	ksft_print_msg("%u of %u forged entries reset\n", nr, RING_ENTRIES);

	/* KVM has room in the ring for pages that the guest writes for the first time. */
	set_slot(ALIAS_SLOT, LOG, ALIAS_MEM, NR_PAGES);
	write_pages(ALIAS_MEM, all);
	for (i = 0; i < NR_PAGES; i++)
		seen += ring.entries[(nr + i) % RING_ENTRIES].slot == ALIAS_SLOT;
	kvm_vm_free(vm);
	free(all);
	return nr >= NR_PAGES && nr < RING_ENTRIES && seen == NR_PAGES;
}

/* A signal that is not ignored. */
static void on_signal(int unused)
{
}

/*
 * KVM resets all entries that userspace has harvested, though signals wait for the task: QEMU
 * relies on that.  The first and the last page by turns, so that KVM clears them one by one.
 */
static bool test_ring_signals(void)
{
	const struct itimerval often = { { .tv_usec = 100 }, { .tv_usec = 100 } }, never = {};
	const struct sigaction action = { .sa_handler = on_signal };
	uint32_t i, round, nr, slot, fewer = 0;
	uint64_t offset;

	create_vm(false, true);
	set_slot(TEST_SLOT, LOG, TEST_MEM, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		job.gpas[i] = TEST_MEM + (i & 1 ? NR_PAGES - 1 - i / 2 : i / 2) * PAGE_SIZE;
	job.nr = NR_PAGES;
	sigaction(SIGALRM, &action, NULL);
	for (round = 0; round < 20; round++) {
		run();
		nr = 0;
		while (dirty_ring_take(&ring, &slot, &offset))
			nr++;
		TEST_ASSERT(nr >= NR_PAGES, "Only %u of %d pages in the ring", nr, NR_PAGES);
		setitimer(ITIMER_REAL, &often, NULL);
		fewer += __vm_ioctl(vm, KVM_RESET_DIRTY_RINGS, NULL) != nr;
		setitimer(ITIMER_REAL, &never, NULL);
		/* The rest. */
		kvm_vm_reset_dirty_ring(vm);
	}
	ksft_print_msg("%u of %u times, not all entries were reset\n", fewer, round);
	kvm_vm_free(vm);
	return !fewer;
}

static bool fails(unsigned long cmd, void *arg, int want, const char *what)
{
	int got = ioctl(vm->fd, cmd, arg) < 0 ? errno : 0;

	if (got != want)
		ksft_print_msg("%s: %s, not %s\n", what, strerror(got), strerror(want));
	return got == want;
}

static bool get_fails(uint32_t slot, void *bitmap, int want, const char *what)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	return fails(KVM_GET_DIRTY_LOG, &log, want, what);
}

static bool clear_fails(uint32_t slot, uint64_t first, uint32_t nr, void *bitmap, int want,
			const char *what)
{
	struct kvm_clear_dirty_log log = {
		.slot = slot, .first_page = first, .num_pages = nr, .dirty_bitmap = bitmap,
	};

	return fails(KVM_CLEAR_DIRTY_LOG, &log, want, what);
}

/* As on a KVM without the series, which this passes, too.  No page leaves the log. */
static bool test_errors(void)
{
	const uint64_t odd = NR_PAGES - 4;
	unsigned long *all = choose(odd, 0, 1), *bits = choose(NR_PAGES, 0, 1);
	void *bad = (void *)1;
	bool ok = true;

	create_vm(true, false);
	set_slot(TEST_SLOT, LOG, TEST_MEM, odd);
	set_slot(ALIAS_SLOT, 0, ALIAS_MEM, NR_PAGES);
	write_pages(TEST_MEM, all);

	ok &= get_fails(TEST_SLOT + 2, bits, ENOENT, "get: no memslot");
	ok &= get_fails(ALIAS_SLOT, bits, ENOENT, "get: not logged");
	ok &= get_fails(0x7fff, bits, EINVAL, "get: beyond the memslots");
	ok &= get_fails(0xffff0000, bits, EINVAL, "get: no address space");
	ok &= get_fails(TEST_SLOT, bad, EFAULT, "get: bitmap");

	ok &= clear_fails(TEST_SLOT + 2, 0, 64, bits, ENOENT, "clear: no memslot");
	ok &= clear_fails(ALIAS_SLOT, 0, 64, bits, ENOENT, "clear: not logged");
	ok &= clear_fails(0x7fff, 0, 64, bits, EINVAL, "clear: beyond the memslots");
	ok &= clear_fails(0xffff0000, 0, 64, bits, EINVAL, "clear: no address space");
	ok &= clear_fails(TEST_SLOT, 1, 64, bits, EINVAL, "clear: odd first page");
	ok &= clear_fails(TEST_SLOT, 0, 63, bits, EINVAL, "clear: odd number of pages");
	ok &= clear_fails(TEST_SLOT, 0, odd + 1, bits, EINVAL, "clear: a page too many");
	ok &= clear_fails(TEST_SLOT, 0, -1U, bits, EINVAL, "clear: all pages too many");
	ok &= clear_fails(TEST_SLOT, NR_PAGES, 0, bits, EINVAL, "clear: behind the memslot");
	ok &= clear_fails(TEST_SLOT, -64ULL, 64, bits, EINVAL, "clear: first page that wraps");
	ok &= clear_fails(TEST_SLOT, 0, 64, bad, EFAULT, "clear: bitmap");
	ok &= clear_fails(TEST_SLOT, 0, 0, bad, 0, "clear: no page");
	ok &= fails(KVM_RESET_DIRTY_RINGS, NULL, EINVAL, "reset: no rings");
	ok &= log_is(TEST_SLOT, odd, all);

	/* The end is right, but for the bits behind it. */
	ok &= clear_fails(TEST_SLOT, NR_PAGES - 64, 60, bits, 0, "clear: the end");
	kvm_vm_free(vm);

	create_vm(false, true);
	set_slot(TEST_SLOT, LOG, TEST_MEM, odd);
	ok &= get_fails(TEST_SLOT, bits, ENXIO, "get: there are rings");
	ok &= clear_fails(TEST_SLOT, 0, 64, bits, ENXIO, "clear: there are rings");
	ok &= fails(KVM_RESET_DIRTY_RINGS, NULL, 0, "reset: nothing");
	kvm_vm_free(vm);
	free(bits);
	free(all);
	return ok;
}

/* The entries that wait in the ring. */
static uint32_t ring_used(void)
{
	uint32_t nr = 0;

	while (nr < RING_ENTRIES &&
	       READ_ONCE(ring.entries[(ring.next + nr) % RING_ENTRIES].flags) ==
	       KVM_DIRTY_GFN_F_DIRTY)
		nr++;
	return nr;
}

static bool prefault_logs_nothing(void)
{
	struct kvm_pre_fault_memory range = {
		.gpa = TEST_MEM, .size = NR_PAGES * PAGE_SIZE,
	};
	const uint32_t before = ring_used();
	int ret;

	do {
		ret = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
	} while (range.size && (!ret || errno == EINTR));
	/* Else, there was nothing to log. */
	TEST_ASSERT(!range.size, KVM_IOCTL_ERROR(KVM_PRE_FAULT_MEMORY, ret));
	ksft_print_msg("%u entries before a prefault, %u after it\n", before, ring_used());
	return ring_used() == before;
}

/*
 * A ring need not have room for as many pages as userspace prefaults: nothing writes them, so
 * KVM logs none, whether they are mapped or not.  What the guest writes afterwards is logged.
 */
static bool test_prefault(void)
{
	unsigned long *thirds = choose(NR_PAGES, 0, 3), *all = choose(NR_PAGES, 0, 1);
	bool ok;

	create_vm(false, true);
	/* Else, KVM maps the zero page, and cannot map that writable. */
	memset(memory, 1, NR_PAGES * PAGE_SIZE);
	set_slot(TEST_SLOT, LOG, TEST_MEM, NR_PAGES);
	ok = prefault_logs_nothing();
	write_pages(TEST_MEM, thirds);
	ok &= ring_is(NR_PAGES, thirds);
	write_pages(TEST_MEM, all);
	ok &= prefault_logs_nothing();
	ok &= ring_is(NR_PAGES, all);
	/* Write-protected, or clean. */
	ok &= prefault_logs_nothing();
	write_pages(TEST_MEM, all);
	ok &= ring_is(NR_PAGES, all);
	kvm_vm_free(vm);
	free(thirds);
	free(all);
	return ok;
}

static const struct {
	const char *name;
	bool (*fn)(void);
} tests[] = {
	{ "odd_get", test_odd_get },
	{ "odd_clear", test_odd_clear },
	{ "odd_ring", test_odd_ring },
	{ "readonly", test_readonly },
	{ "alias", test_alias },
	{ "two_clear", test_two_clear },
	{ "ring_signals", test_ring_signals },
	{ "errors", test_errors },
	/* A KVM without the series fails the first of these, and warns at the second. */
	{ "prefault", test_prefault },
	{ "forged_ring", test_forged_ring },
};

int main(int argc, char *argv[])
{
	int i;

	if (argc != 1) {
		printf("usage: %s\n", argv[0]);
		exit(KSFT_FAIL);
	}

	ksft_print_header();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_READONLY_MEM));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) ||
		     kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL));
	memory = mmap(NULL, NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(memory != MAP_FAILED, "Out of memory");

	ksft_set_plan(ARRAY_SIZE(tests));
	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		if (tests[i].fn == test_prefault && !kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
			ksft_test_result_skip("%s: KVM prefaults only with TDP\n", tests[i].name);
		else
			ksft_test_result(tests[i].fn(), "%s\n", tests[i].name);
	}
	ksft_finished();
}
