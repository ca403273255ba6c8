// SPDX-License-Identifier: GPL-2.0-only
/*
 * For how long a vCPU stands still while one KVM_CLEAR_DIRTY_LOG clears a large memslot, and
 * another thread zaps other memory all the time, as reclaim or a balloon does.
 *
 * One vCPU writes all pages of the memslot, so that each has a writable SPTE and is in the log.
 * Two other vCPUs run beside the clear.  One touches the memory that the thread zaps, so it
 * faults all the time.  The other one writes a page of its own, and needs nothing of KVM.  Each
 * looks at its TSC between two accesses, and keeps the longest time in between.
 *
 * The same is measured for as long without a clear.  If KVM counts how long page faults wait for
 * mmu_lock, that is printed besides.  A vCPU that has no CPU meanwhile does not wait.
 *
 * Results are lines of "key value" on stdout.  The reader judges the times: none of them
 * makes the test fail.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>

#include <linux/bitmap.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "sync_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define LOG_SLOT	1
#define ZAP_SLOT	2

#define LOG_MEM		0x100000000ULL
#define ZAP_MEM		0x80000000ULL
#define ZAP_PAGES	1024

/* The host's memory behind the memslot that is logged: the same pages again and again. */
#define FILE_PAGES	16384

#define MAX_PAGES	0x400000

enum vcpus {
	VCPU_LOG,
	VCPU_FAULT,
	VCPU_WRITE,
	NR_VCPUS
};

/* What the guest has to know. */
static uint64_t nr_pages = 1 << 20;

/*
 * The host adds one to @epoch.  Each vCPU then says in @longest what it found in the epoch that
 * ended, in cycles, and in @seen that it is in the new one.
 */
static struct {
	uint64_t epoch;
	uint64_t seen[NR_VCPUS];
	uint64_t longest[NR_VCPUS];
} gaps, *shared;

static void log_code(uint64_t unused)
{
	uint64_t page, round;

	for (round = 1; ; round++) {
		for (page = 0; page < nr_pages; page++)
			WRITE_ONCE(*(uint64_t *)(LOG_MEM + page * PAGE_SIZE), round);
		GUEST_SYNC(round);
	}
}

static void gap_code(uint64_t index)
{
	uint64_t epoch = 0, longest = 0, page = 0, last, now, own;
	uint64_t *word;

	last = rdtsc();
	for (;;) {
		word = index == VCPU_FAULT ? (uint64_t *)(ZAP_MEM + page * PAGE_SIZE) : &own;
		WRITE_ONCE(*word, page);
		page = (page + 1) % ZAP_PAGES;

		now = rdtsc();
		longest = max(longest, now - last);
		if (READ_ONCE(gaps.epoch) != epoch) {
			epoch = READ_ONCE(gaps.epoch);
			WRITE_ONCE(gaps.longest[index], longest);
			/* x86 does not reorder the two. */
			barrier();
			WRITE_ONCE(gaps.seen[index], epoch);
			longest = 0;
			now = rdtsc();
		}
		last = now;
	}
}

static struct kvm_vm *vm;
static bool stop;

static void *vcpu_thread(void *vcpu)
{
	/* Until the end of the program. */
	for (;;)
		vcpu_run(vcpu);
	return NULL;
}

static void *zap_thread(void *mem)
{
	while (!READ_ONCE(stop))
		TEST_ASSERT(!madvise(mem, ZAP_PAGES * PAGE_SIZE, MADV_DONTNEED),
			    "madvise failed: %d", errno);
	return NULL;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_to_ns(ts);
}

/* Begin an epoch, when both vCPUs have seen that the last one has ended. */
static void next_epoch(void)
{
	uint64_t epoch = shared->epoch + 1;
	int i;

	WRITE_ONCE(shared->epoch, epoch);
	for (i = VCPU_FAULT; i <= VCPU_WRITE; i++) {
		while (READ_ONCE(shared->seen[i]) != epoch)
			usleep(100);
	}
}

static void print_gaps(const char *what, uint64_t tsc_khz, long waited_ns)
{
	if (waited_ns >= 0)
		printf("%s_waited_us %ld\n", what,
		       (aging_fault_stat("waited_ns") - waited_ns) / 1000);
	printf("%s_fault_us %lu\n", what, shared->longest[VCPU_FAULT] * 1000 / tsc_khz);
	printf("%s_write_us %lu\n", what, shared->longest[VCPU_WRITE] * 1000 / tsc_khz);
}

static void write_all(struct kvm_vcpu *vcpu)
{
	vcpu_run(vcpu);
	vcpu_sync_arg(vcpu);
}

/* All of the memslot's memory is one file, many times. */
static void add_log_slot(void)
{
	const uint64_t bytes = FILE_PAGES * PAGE_SIZE;
	uint64_t done, left;
	void *mem, *part;
	int fd;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, LOG_MEM, LOG_SLOT, nr_pages, 0);
	virt_map(vm, LOG_MEM, LOG_MEM, nr_pages);
	mem = addr_gpa2hva(vm, LOG_MEM);

	fd = memfd_create("dirty_log_gap", 0);
	TEST_ASSERT(fd >= 0 && !ftruncate(fd, bytes), "No memory file: %d", errno);
	for (done = 0; done < nr_pages * PAGE_SIZE; done += bytes) {
		left = nr_pages * PAGE_SIZE - done;
		part = mmap(mem + done, min(bytes, left), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, fd, 0);
		TEST_ASSERT(part != MAP_FAILED, "mmap failed: %d", errno);
	}
	close(fd);
}

static void measure(unsigned long rounds)
{
	unsigned long *taken = bitmap_zalloc(nr_pages);
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS], zap;
	uint64_t start, took, nr, i;
	unsigned long tsc_khz;
	long waited_ns;
	void *zapped;

	TEST_ASSERT(taken, "Out of memory");
	vm = __vm_create(VM_SHAPE_DEFAULT, NR_VCPUS, nr_pages);
	vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	add_log_slot();
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, ZAP_MEM, ZAP_SLOT, ZAP_PAGES, 0);
	virt_map(vm, ZAP_MEM, ZAP_MEM, ZAP_PAGES);
	zapped = addr_gpa2hva(vm, ZAP_MEM);

	for (i = 0; i < NR_VCPUS; i++) {
		vcpus[i] = vm_vcpu_add(vm, i, i == VCPU_LOG ? log_code : gap_code);
		vcpu_args_set(vcpus[i], 1, i);
	}
	sync_global_to_guest(vm, nr_pages);
	shared = addr_gva2hva(vm, (vm_vaddr_t)&gaps);
	tsc_khz = __vcpu_ioctl(vcpus[0], KVM_GET_TSC_KHZ, NULL);
	TEST_ASSERT(tsc_khz, "No TSC");

	write_all(vcpus[VCPU_LOG]);
	vm_mem_region_set_flags(vm, LOG_SLOT, KVM_MEM_LOG_DIRTY_PAGES);

	for (i = VCPU_FAULT; i <= VCPU_WRITE; i++)
		pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]);

	while (rounds--) {
		/* The first round also takes the log, and so makes the next one fault. */
		write_all(vcpus[VCPU_LOG]);
		kvm_vm_get_dirty_log(vm, LOG_SLOT, taken);
		for (nr = 0, i = 0; i < BITS_TO_LONGS(nr_pages); i++)
			nr += __builtin_popcountl(taken[i]);
		errno = 0;
		TEST_ASSERT_EQ(nr, nr_pages);

		stop = false;
		pthread_create(&zap, NULL, zap_thread, zapped);
		next_epoch();
		waited_ns = aging_fault_stat("waited_ns");
		start = now_ns();
		kvm_vm_clear_dirty_log(vm, LOG_SLOT, taken, 0, nr_pages);
		took = now_ns() - start;
		next_epoch();
		printf("clear_us %lu\n", took / 1000);
		print_gaps("clear", tsc_khz, waited_ns);

		waited_ns = aging_fault_stat("waited_ns");
		usleep(took / 1000);
		next_epoch();
		print_gaps("idle", tsc_khz, waited_ns);
		WRITE_ONCE(stop, true);
		pthread_join(zap, NULL);
	}
}

static void help(const char *name)
{
	printf("usage: %s [-p pages] [-i rounds]\n"
	       " -p: pages that are cleared at once, a multiple of %d, at most %d (default: %lu)\n"
	       " -i: how often (default: 3)\n", name, BITS_PER_LONG, MAX_PAGES, nr_pages);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	unsigned long rounds = 3;
	int opt;

	while ((opt = getopt(argc, argv, "p:i:")) != -1) {
		switch (opt) {
		case 'p':
			nr_pages = aging_parse_positive(optarg);
			break;
		case 'i':
			rounds = aging_parse_positive(optarg);
			break;
		default:
			help(argv[0]);
		}
	}
	if (optind != argc || !nr_pages || nr_pages % BITS_PER_LONG || nr_pages > MAX_PAGES ||
	    !rounds)
		help(argv[0]);

	/* Flush each line, so that a reader of a pipe need not wait for the end. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2));

	measure(rounds);
	return 0;
}
