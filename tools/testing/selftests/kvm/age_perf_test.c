// SPDX-License-Identifier: GPL-2.0-only
/*
 * What aging costs, and what it costs the vCPUs.
 *
 * -m pass measures MGLRU aging passes over guest memory that is all young, or all
 * old; or over the same memory without a VM, or beside a VM that does not map it.
 * It also measures how long it takes to touch that memory again after a pass.
 *
 * -m populate measures how long vCPUs take to fault their memory in.  A thread may
 * age the memory through MGLRU meanwhile, all the time or at a fixed rate.
 *
 * Results are lines of "key value" on stdout.  The reader judges the times: none of
 * them makes the test fail.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define HUGE_SIZE	(2ul << 20)

#define TEST_SLOT	1
#define FLUSH_SLOT	2

#define TEST_MEM	0x100000000ULL
#define FLUSH_MEM	0x80000000ULL

enum owner {
	/* The guest touches the memory. */
	OWNER_GUEST,
	/* The host touches the memory, and there is no VM. */
	OWNER_NO_VM,
	/* The host touches the memory, and there is a VM that does not map it. */
	OWNER_EMPTY_VM,
};

static bool huge_pages;
static bool idle;
static unsigned long passes_per_second;

static void guest_code(uint64_t gva, uint64_t pages)
{
	uint64_t i;

	for (;;) {
		for (i = 0; i < pages; i++)
			WRITE_ONCE(*(uint64_t *)(gva + i * PAGE_SIZE), i);
		GUEST_SYNC(0);
	}
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_to_ns(ts);
}

static void run_vcpu(struct kvm_vcpu *vcpu)
{
	vcpu_run(vcpu);
	errno = 0;
	TEST_ASSERT(get_ucall(vcpu, NULL) == UCALL_SYNC, "Unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
}

static struct kvm_vm *create_vm(int nr_vcpus, uint64_t pages_per_vcpu, struct kvm_vcpu **vcpus)
{
	uint64_t pages = nr_vcpus * pages_per_vcpu;
	struct kvm_vm *vm;
	int i;

	vm = __vm_create_with_vcpus(VM_SHAPE_DEFAULT, nr_vcpus, pages, guest_code, vcpus);
	/* Memory of VM_MEM_SRC_ANONYMOUS has no huge pages. */
	vm_userspace_mem_region_add(vm, huge_pages ? VM_MEM_SRC_ANONYMOUS_THP :
				    VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, pages, 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, FLUSH_MEM, FLUSH_SLOT, 1, 0);
	virt_map(vm, TEST_MEM, TEST_MEM, pages);

	for (i = 0; i < nr_vcpus; i++)
		vcpu_args_set(vcpus[i], 2, TEST_MEM + i * pages_per_vcpu * PAGE_SIZE,
			      pages_per_vcpu);
	return vm;
}

/*
 * Aging does not flush TLBs, and a page that the guest uses through a stale TLB entry
 * stays old.  So turn on dirty logging for a slot that maps nothing: that flushes the
 * guest's TLB, see age_test.c.
 */
static void touch_from_guest(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	vm_mem_region_set_flags(vm, FLUSH_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	vm_mem_region_set_flags(vm, FLUSH_SLOT, 0);
	run_vcpu(vcpu);
}

/* The same for the host: mprotect() takes write access away, and flushes the host's TLB. */
static void touch_from_host(void *hva, uint64_t pages)
{
	uint64_t i;

	TEST_ASSERT(!mprotect(hva, pages * PAGE_SIZE, PROT_READ) &&
		    !mprotect(hva, pages * PAGE_SIZE, PROT_READ | PROT_WRITE),
		    "Failed to flush the TLB");
	for (i = 0; i < pages; i++)
		WRITE_ONCE(*(uint64_t *)(hva + i * PAGE_SIZE), i);
}

static void measure_passes(enum owner owner, uint64_t pages, unsigned long rounds)
{
	struct kvm_vcpu *vcpu = NULL;
	struct kvm_vm *vm = NULL;
	struct aging_lru lru;
	uint64_t size = pages * PAGE_SIZE;
	void *map = NULL, *hva = NULL;
	uint64_t start, touched;
	unsigned long i;
	long faults;

	if (owner == OWNER_GUEST) {
		vm = create_vm(1, pages, &vcpu);
	} else {
		if (owner == OWNER_EMPTY_VM)
			vm = vm_create_barebones();
		map = mmap(NULL, size + HUGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		TEST_ASSERT(map != MAP_FAILED, "Failed to map memory");
		hva = (void *)align_up((uintptr_t)map, HUGE_SIZE);
		if (thp_configured())
			TEST_ASSERT(!madvise(hva, size, huge_pages ? MADV_HUGEPAGE :
					     MADV_NOHUGEPAGE), "Failed to choose a page size");
	}

	/* Round 0 populates the memory, and moves the new pages to their generations. */
	for (i = 0; i <= rounds; i++) {
		faults = aging_fast_faults();
		touched = now_ns();
		if (owner == OWNER_GUEST && (!idle || !i))
			touch_from_guest(vm, vcpu);
		else if (!idle || !i)
			touch_from_host(hva, pages);
		touched = now_ns() - touched;
		faults = aging_fast_faults() - faults;
		if (!i)
			aging_drain_lru();
		if (owner == OWNER_GUEST)
			hva = addr_gpa2hva(vm, TEST_MEM);
		TEST_ASSERT(!huge_pages || aging_huge_bytes(hva) == size,
			    "The memory is not in huge pages");

		aging_lru_read(&lru);
		start = now_ns();
		aging_lru_pass(&lru);
		start = now_ns() - start;
		if (!i)
			continue;

		printf("pass_ns %lu\n", start);
		printf("pages %lu\n", pages);
		printf("young %lu\n", aging_lru_young());
		printf("touch_ns %lu\n", touched);
		printf("fast_faults %ld\n", faults);
	}

	if (map)
		munmap(map, size + HUGE_SIZE);
	if (vm)
		kvm_vm_free(vm);
}

static pthread_barrier_t start_line;
static bool stop_aging;
static uint64_t end_ns[KVM_MAX_VCPUS];

static void *populate_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;

	pthread_barrier_wait(&start_line);
	run_vcpu(vcpu);
	end_ns[vcpu->id] = now_ns();
	return NULL;
}

struct aging_work {
	unsigned long passes;
	uint64_t ns;
};

static void sleep_until(uint64_t ns)
{
	struct timespec ts = { ns / NSEC_PER_SEC, ns % NSEC_PER_SEC };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void *aging_thread(void *arg)
{
	struct aging_work *work = arg;
	uint64_t start;

	pthread_barrier_wait(&start_line);
	start = now_ns();
	while (!READ_ONCE(stop_aging)) {
		aging_lru_read_and_pass();
		work->passes++;
		if (passes_per_second)
			sleep_until(start + work->passes * NSEC_PER_SEC / passes_per_second);
	}
	work->ns = now_ns() - start;
	return NULL;
}

static void measure_populate(int nr_vcpus, uint64_t pages_per_vcpu, bool age)
{
	struct kvm_vcpu *vcpus[KVM_MAX_VCPUS];
	pthread_t threads[KVM_MAX_VCPUS];
	struct aging_work work = {};
	uint64_t start, end = 0;
	struct kvm_vm *vm;
	pthread_t ager;
	int i;

	vm = create_vm(nr_vcpus, pages_per_vcpu, vcpus);
	pthread_barrier_init(&start_line, NULL, nr_vcpus + age + 1);
	stop_aging = false;

	for (i = 0; i < nr_vcpus; i++)
		pthread_create(&threads[i], NULL, populate_thread, vcpus[i]);
	if (age)
		pthread_create(&ager, NULL, aging_thread, &work);

	/* Before the barrier opens: this thread may be the last to return from it. */
	start = now_ns();
	pthread_barrier_wait(&start_line);

	for (i = 0; i < nr_vcpus; i++) {
		pthread_join(threads[i], NULL);
		end = max(end, end_ns[i]);
	}
	if (age) {
		WRITE_ONCE(stop_aging, true);
		pthread_join(ager, NULL);
	}

	printf("populate_ns %lu\n", end - start);
	if (age)
		printf("passes %lu\naging_ns %lu\n", work.passes, work.ns);

	pthread_barrier_destroy(&start_line);
	kvm_vm_free(vm);
}

static void help(const char *name)
{
	printf("usage: %s -m pass [-b MiB] [-i passes] [-e|-E] [-H] [-o]\n"
	       "       %s -m populate [-v vcpus] [-b MiB] [-i rounds] [-a 0|1] [-r passes]\n"
	       " -b: memory, or, with -m populate, memory of each vCPU (default: 64)\n"
	       " -i: how often to measure (default: 5)\n"
	       " -e: the host touches the memory, and there is no VM\n"
	       " -E: the host touches the memory, beside a VM that does not map it\n"
	       " -H: put the memory in huge pages\n"
	       " -o: touch the memory only once, so that all passes but the first find it old\n"
	       " -v: vCPUs (default: 4)\n"
	       " -a: age beside the vCPUs (default: 0)\n"
	       " -r: aging passes a second, at most (default: no pause between passes)\n",
	       name, name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	enum owner owner = OWNER_GUEST;
	unsigned long nr_vcpus = 4;
	unsigned long rounds = 5;
	unsigned long mib = 64;
	const char *mode = "";
	const char *why;
	bool populate;
	bool age = false;
	uint64_t pages;
	int opt;

	while ((opt = getopt(argc, argv, "m:b:i:v:a:r:eEHo")) != -1) {
		switch (opt) {
		case 'm':
			mode = optarg;
			break;
		case 'b':
			mib = aging_parse_positive(optarg);
			break;
		case 'i':
			rounds = aging_parse_positive(optarg);
			break;
		case 'v':
			nr_vcpus = aging_parse_positive(optarg);
			break;
		case 'a':
			if (strcmp(optarg, "0") && strcmp(optarg, "1"))
				help(argv[0]);
			age = optarg[0] == '1';
			break;
		case 'r':
			passes_per_second = aging_parse_positive(optarg);
			if (!passes_per_second)
				help(argv[0]);
			break;
		case 'H':
			huge_pages = true;
			break;
		case 'o':
			idle = true;
			break;
		case 'e':
			owner = OWNER_NO_VM;
			break;
		case 'E':
			owner = OWNER_EMPTY_VM;
			break;
		default:
			help(argv[0]);
		}
	}
	populate = !strcmp(mode, "populate");
	if (optind != argc || (!populate && strcmp(mode, "pass")) || !mib || !rounds ||
	    !nr_vcpus || nr_vcpus > KVM_MAX_VCPUS || (populate && owner != OWNER_GUEST) ||
	    (populate && (idle || huge_pages)) || (passes_per_second && !age))
		help(argv[0]);
	pages = (mib << 20) / PAGE_SIZE;
	if (huge_pages)
		__TEST_REQUIRE(thp_configured() && get_trans_hugepagesz() == HUGE_SIZE,
			       "No transparent huge pages of 2 MiB");

	/* Flush each line, so that a reader of a pipe need not wait for the end. */
	setvbuf(stdout, NULL, _IOLBF, 0);

	if (!populate || age) {
		why = aging_lru_setup();
		__TEST_REQUIRE(!why, "%s", why);
	}

	if (!populate) {
		measure_passes(owner, pages, rounds);
		return 0;
	}
	while (rounds--)
		measure_populate(nr_vcpus, pages, age);
	return 0;
}
