// SPDX-License-Identifier: GPL-2.0-only
/*
 * How much a thread that clears the dirty log all the time slows vCPUs down.
 *
 * Each vCPU has memory of its own, and each measured vCPU writes all of its memory.
 *
 * Without -o, the measured vCPUs write their memory for the first time.  The host has
 * populated the memory, so each page is a fault that KVM fixes with mmu_lock held for read,
 * or, for a nested guest, for write.  One more vCPU, which is not measured, writes the pages
 * that the thread clears.
 *
 * With -o, the measured vCPUs write again after logging began, and the thread clears their
 * own pages.
 *
 * The thread also takes CPU time.  To tell the two costs apart, -t spin has a thread that
 * only takes CPU time.
 *
 * Results are lines of "key value" on stdout.  The reader judges the times: none of them
 * makes the test fail.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <linux/bitmap.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define LOG_SLOT	2

#define TEST_MEM	0x100000000ULL

static const char * const thread_names[] = { "none", "spin", "clear" };

static enum what {
	/* No thread runs beside the vCPUs. */
	THREAD_NONE,
	THREAD_SPIN,
	THREAD_CLEAR,
	NR_WHATS
} what;

/* What the guest has to know. */
static uint64_t writes_per_page, pages_per_vcpu;
static uint64_t rounds_of[KVM_MAX_VCPUS];

static struct {
	struct l2_map map;
	struct l2 l2[KVM_MAX_VCPUS];
} l1;

static uint64_t mem_of(uint64_t index)
{
	return TEST_MEM + index * pages_per_vcpu * PAGE_SIZE;
}

static void write_page(uint64_t *word)
{
	uint64_t i;

	for (i = 0; i < writes_per_page; i++)
		WRITE_ONCE(*word, i);
}

static void guest_code(uint64_t index)
{
	uint64_t round, page;

	for (;;) {
		for (round = 0; round < rounds_of[index]; round++) {
			for (page = 0; page < pages_per_vcpu; page++)
				write_page((uint64_t *)(mem_of(index) + page * PAGE_SIZE));
		}
		GUEST_SYNC(0);
	}
}

static void l1_code(uint64_t index)
{
	l2_run_for_good(&l1.l2[index], &l1.map, guest_code, index);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_to_ns(ts);
}

static struct kvm_vm *vm;
static pthread_barrier_t start_line;
static bool stop;
static uint64_t end_ns[KVM_MAX_VCPUS];

static void run_vcpu(struct kvm_vcpu *vcpu)
{
	vcpu_run(vcpu);
	errno = 0;
	TEST_ASSERT(get_ucall(vcpu, NULL) == UCALL_SYNC, "Unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
}

static void *measured_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;

	pthread_barrier_wait(&start_line);
	run_vcpu(vcpu);
	end_ns[vcpu->id] = now_ns();
	return NULL;
}

static void *logged_thread(void *arg)
{
	pthread_barrier_wait(&start_line);
	while (!READ_ONCE(stop))
		run_vcpu(arg);
	return NULL;
}

static struct {
	uint32_t slot;
	uint64_t pages;
	unsigned long *taken;
	/* What clear_once() has done. */
	uint64_t passes, cleared, ns;
} log_;

static void clear_once(void)
{
	uint64_t start, i;

	kvm_vm_get_dirty_log(vm, log_.slot, log_.taken);
	for (i = 0; i < BITS_TO_LONGS(log_.pages); i++)
		log_.cleared += __builtin_popcountl(log_.taken[i]);

	start = now_ns();
	kvm_vm_clear_dirty_log(vm, log_.slot, log_.taken, 0, log_.pages);
	log_.ns += now_ns() - start;
	log_.passes++;
}

static void *beside_thread(void *arg)
{
	pthread_barrier_wait(&start_line);
	/* Clear at least once, even if the vCPUs are done before. */
	do {
		if (what == THREAD_CLEAR)
			clear_once();
	} while (!READ_ONCE(stop));
	return NULL;
}

static void add_slot(uint32_t slot, uint64_t gpa, uint64_t pages)
{
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, gpa, slot, pages, 0);
	virt_map(vm, gpa, gpa, pages);
	memset(addr_gpa2hva(vm, gpa), 0, pages * PAGE_SIZE);
}

/* Before measuring, KVM maps the pages that the thread clears, and what L1 needs. */
static void create_vm(int nr_vcpus, bool own, bool nested, uint64_t rounds,
		      struct kvm_vcpu **vcpus)
{
	const uint64_t pages = pages_per_vcpu * (nr_vcpus + !own);
	int i;

	vm = __vm_create(VM_SHAPE_DEFAULT, nr_vcpus + !own, pages);
	vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);

	add_slot(TEST_SLOT, mem_of(0), pages_per_vcpu * nr_vcpus);
	if (!own)
		add_slot(LOG_SLOT, mem_of(nr_vcpus), pages_per_vcpu);

	for (i = 0; i < nr_vcpus + !own; i++) {
		vcpus[i] = vm_vcpu_add(vm, i, nested ? l1_code : guest_code);
		vcpu_args_set(vcpus[i], 1, i);
		rounds_of[i] = own || i == nr_vcpus;
	}
	if (nested) {
		l2_map_create(vm, &l1.map, TEST_MEM, pages, false, 0);
		for (i = 0; i < nr_vcpus + !own; i++)
			l2_create(vm, &l1.l2[i]);
		sync_global_to_guest(vm, l1);
	}
	sync_global_to_guest(vm, writes_per_page);
	sync_global_to_guest(vm, pages_per_vcpu);
	sync_global_to_guest(vm, rounds_of);

	for (i = 0; i < nr_vcpus + !own; i++)
		run_vcpu(vcpus[i]);

	for (i = 0; i < nr_vcpus; i++)
		rounds_of[i] = rounds;
	sync_global_to_guest(vm, rounds_of);
}

static void measure(int nr_vcpus, bool own, bool nested, uint64_t rounds)
{
	const uint64_t measured = nr_vcpus * pages_per_vcpu;
	struct kvm_vcpu *vcpus[KVM_MAX_VCPUS];
	pthread_t threads[KVM_MAX_VCPUS], beside;
	uint64_t start, end = 0;
	double seconds;
	int i;

	memset(&log_, 0, sizeof(log_));
	log_.slot = own ? TEST_SLOT : LOG_SLOT;
	log_.pages = own ? measured : pages_per_vcpu;
	log_.taken = bitmap_zalloc(log_.pages);
	TEST_ASSERT(log_.taken, "Out of memory");

	create_vm(nr_vcpus, own, nested, rounds, vcpus);
	vm_mem_region_set_flags(vm, log_.slot, KVM_MEM_LOG_DIRTY_PAGES);

	pthread_barrier_init(&start_line, NULL, nr_vcpus + !own + (what != THREAD_NONE) + 1);
	stop = false;
	for (i = 0; i < nr_vcpus + !own; i++)
		pthread_create(&threads[i], NULL,
			       i < nr_vcpus ? measured_thread : logged_thread, vcpus[i]);
	if (what != THREAD_NONE)
		pthread_create(&beside, NULL, beside_thread, NULL);

	/* Before the barrier opens: this thread may be the last to return from it. */
	start = now_ns();
	pthread_barrier_wait(&start_line);

	for (i = 0; i < nr_vcpus; i++) {
		pthread_join(threads[i], NULL);
		end = max(end, end_ns[i]);
	}
	WRITE_ONCE(stop, true);
	if (!own)
		pthread_join(threads[nr_vcpus], NULL);
	if (what != THREAD_NONE)
		pthread_join(beside, NULL);

	seconds = (double)(end - start) / NSEC_PER_SEC;
	printf("writes_per_second %.0f\n", measured * rounds * writes_per_page / seconds);
	if (what == THREAD_CLEAR && own) {
		clear_once();
		errno = 0;
		TEST_ASSERT(log_.cleared >= measured, "Only %lu of %lu pages were logged",
			    log_.cleared, measured);
	}
	if (what == THREAD_CLEAR)
		printf("passes %lu\ncleared %lu\nclearing_ns %lu\n", log_.passes, log_.cleared,
		       log_.ns);

	pthread_barrier_destroy(&start_line);
	free(log_.taken);
	kvm_vm_free(vm);
}

static void help(const char *name)
{
	printf("usage: %s [-t thread] [-v vcpus] [-b MiB] [-i rounds]\n"
	       "       [-o [-r rewrites]] [-w writes] [-n]\n"
	       " -t: the thread beside the vCPUs: none; spin, which only takes CPU time; or\n"
	       "     clear, which clears the dirty log without a pause (default: none)\n"
	       " -v: vCPUs that are measured (default: 4)\n"
	       " -b: memory of each vCPU (default: 64)\n"
	       " -i: how often to measure (default: 5)\n"
	       " -o: clear the pages that the measured vCPUs write, not those of another vCPU\n"
	       " -r: with -o, how often each measured vCPU writes all of its pages (default: 10)\n"
	       " -w: writes in a row to each page (default: 1)\n"
	       " -n: nested guests, with nested paging\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	unsigned long nr_vcpus = 4, mib = 64, rounds = 5, rewrites = 0;
	bool own = false, nested = false;
	const char *why;
	int opt;

	writes_per_page = 1;
	while ((opt = getopt(argc, argv, "t:v:b:i:r:w:on")) != -1) {
		switch (opt) {
		case 't':
			for (what = 0; what < NR_WHATS; what++) {
				if (!strcmp(optarg, thread_names[what]))
					break;
			}
			break;
		case 'v':
			nr_vcpus = aging_parse_positive(optarg);
			break;
		case 'b':
			mib = aging_parse_positive(optarg);
			break;
		case 'i':
			rounds = aging_parse_positive(optarg);
			break;
		case 'r':
			rewrites = aging_parse_positive(optarg);
			if (!rewrites)
				help(argv[0]);
			break;
		case 'w':
			writes_per_page = aging_parse_positive(optarg);
			break;
		case 'o':
			own = true;
			break;
		case 'n':
			nested = true;
			break;
		default:
			help(argv[0]);
		}
	}
	if (optind != argc || what == NR_WHATS || !mib || !rounds || !writes_per_page ||
	    !nr_vcpus || nr_vcpus >= KVM_MAX_VCPUS || (rewrites && !own))
		help(argv[0]);
	if (!rewrites)
		rewrites = own ? 10 : 1;

	/* Flush each line, so that a reader of a pipe need not wait for the end. */
	setvbuf(stdout, NULL, _IOLBF, 0);

	if (nested) {
		why = l2_supported(true);
		__TEST_REQUIRE(!why, "%s", why);
	}
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2));

	pages_per_vcpu = (mib << 20) / PAGE_SIZE;
	while (rounds--)
		measure(nr_vcpus, own, nested, rewrites);
	return 0;
}
