// SPDX-License-Identifier: GPL-2.0-only
/*
 * Walks of shadow pages without mmu_lock, while KVM frees the shadow pages.
 *
 * When a vCPU faults on an MMIO address, KVM walks the shadow pages without mmu_lock to
 * recognise it.  Here every vCPU writes to MMIO addresses all the time.  They are spread over
 * more page tables than the VM may have shadow pages, so each vCPU zaps shadow pages that the
 * other vCPUs may be walking.  The host deletes a memslot, over and over, which zaps all
 * shadow pages.  The test fails if a write is lost, doubled or garbled.  Only a kernel with
 * KASAN sees a walk of a freed shadow page.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <linux/sizes.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define MMIO_BASE	0x100000000ULL
/* One address for each page table. */
#define MMIO_STEP	SZ_2M
#define MMIO_TABLES	256

/* The lowest limit that KVM takes, KVM_MIN_ALLOC_MMU_PAGES. */
#define MAX_SHADOW_PAGES	64

/* At the first write, KVM makes the MMIO SPTE.  At the second, KVM's walk finds it. */
#define WRITES_PER_TABLE	2
#define TABLES_PER_ROUND	200

#define ZAP_SLOT	1
#define ZAP_MEM		0x80000000ULL

#define MAX_VCPUS	8

static void guest_code(uint64_t index)
{
	struct guest_random_state state = new_guest_random_state(index + 1);
	uint64_t table, round, i, j;

	for (round = 1; ; round++) {
		for (i = 0; i < TABLES_PER_ROUND; i++) {
			table = guest_random_u32(&state) % MMIO_TABLES;
			for (j = 0; j < WRITES_PER_TABLE; j++)
				WRITE_ONCE(*(uint64_t *)(MMIO_BASE + table * MMIO_STEP),
					   table << 32 | index);
		}
		GUEST_SYNC1(round);
	}
}

struct vcpu_thread {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	uint64_t rounds;
	/* Writes that arrived, protected by ring_lock. */
	uint64_t writes;
};

static struct kvm_vm *vm;
static struct vcpu_thread threads[MAX_VCPUS];
static unsigned long nr_vcpus = 2;
static struct kvm_coalesced_mmio_ring *ring;
static uint32_t ring_size;
static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER;
static bool stop;

static void take_write(uint64_t gpa, uint32_t len, uint64_t data)
{
	uint64_t index = (uint32_t)data;

	TEST_ASSERT(len == sizeof(data) && index < nr_vcpus &&
		    gpa == MMIO_BASE + (data >> 32) * MMIO_STEP,
		    "0x%lx (%u bytes) was written to 0x%lx", data, len, gpa);
	threads[index].writes++;
}

static void drain_ring(void)
{
	uint32_t first, last;

	pthread_mutex_lock(&ring_lock);
	last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
	for (first = ring->first; first != last; first = (first + 1) % ring_size)
		take_write(ring->coalesced_mmio[first].phys_addr,
			   ring->coalesced_mmio[first].len,
			   *(uint64_t *)ring->coalesced_mmio[first].data);
	__atomic_store_n(&ring->first, first, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&ring_lock);
}

static void *vcpu_code(void *arg)
{
	struct vcpu_thread *thread = arg;
	struct kvm_run *run = thread->vcpu->run;
	struct ucall uc;

	/* Stop at the end of a round, so that the number of writes is known. */
	while (!READ_ONCE(stop) || run->exit_reason == KVM_EXIT_MMIO) {
		vcpu_run(thread->vcpu);
		drain_ring();

		errno = 0;
		if (run->exit_reason == KVM_EXIT_MMIO) {
			/* The ring was full. */
			TEST_ASSERT(run->mmio.is_write, "0x%llx was read", run->mmio.phys_addr);
			pthread_mutex_lock(&ring_lock);
			take_write(run->mmio.phys_addr, run->mmio.len,
				   *(uint64_t *)run->mmio.data);
			pthread_mutex_unlock(&ring_lock);
			continue;
		}
		TEST_ASSERT(get_ucall(thread->vcpu, &uc) == UCALL_SYNC &&
			    uc.args[0] == thread->rounds + 1, "Unexpected exit: %s",
			    exit_reason_str(run->exit_reason));
		thread->rounds++;
	}
	return NULL;
}

static void create_vm(void)
{
	struct kvm_vcpu *vcpus[KVM_MAX_VCPUS];
	struct kvm_coalesced_mmio_zone zone = {
		.addr = MMIO_BASE,
		.size = MMIO_TABLES * MMIO_STEP,
	};
	uint32_t offset;
	uint64_t i;

	vm = __vm_create_with_vcpus(VM_SHAPE_DEFAULT, nr_vcpus, MMIO_TABLES * 512,
				    guest_code, vcpus);
	for (i = 0; i < MMIO_TABLES; i++)
		virt_map(vm, MMIO_BASE + i * MMIO_STEP, MMIO_BASE + i * MMIO_STEP, 1);

	for (i = 0; i < nr_vcpus; i++) {
		threads[i].vcpu = vcpus[i];
		vcpu_args_set(vcpus[i], 1, i);
	}

	offset = kvm_check_cap(KVM_CAP_COALESCED_MMIO);
	ring = (void *)vcpus[0]->run + offset * getpagesize();
	ring_size = (getpagesize() - sizeof(*ring)) / sizeof(struct kvm_coalesced_mmio);
	vm_ioctl(vm, KVM_REGISTER_COALESCED_MMIO, &zone);
	vm_ioctl(vm, KVM_SET_NR_MMU_PAGES, (void *)(unsigned long)MAX_SHADOW_PAGES);
}

/* The guest does not use the memslot, but deleting it zaps the shadow pages of all memslots. */
static unsigned long zap_all(unsigned long seconds)
{
	struct timespec start;
	unsigned long zaps;
	void *hva;

	hva = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(hva != MAP_FAILED, "Failed to map a memslot");

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (zaps = 0; timespec_elapsed(start).tv_sec < seconds; zaps++) {
		vm_set_user_memory_region(vm, ZAP_SLOT, 0, ZAP_MEM, getpagesize(), hva);
		vm_set_user_memory_region(vm, ZAP_SLOT, 0, ZAP_MEM, 0, NULL);
		/* Let vCPUs map pages, for the next round to zap. */
		usleep(2000);
	}
	munmap(hva, getpagesize());
	return zaps;
}

static void help(const char *name)
{
	printf("usage: %s [-v vcpus] [-s seconds]\n"
	       " -v: vCPUs, 8 at most (default: 2)\n"
	       " -s: how long to run (default: 10)\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	unsigned long seconds = 10, zaps, i;
	uint64_t zapped, walks = 0;
	bool complete = true;
	int opt;

	while ((opt = getopt(argc, argv, "v:s:")) != -1) {
		switch (opt) {
		case 'v':
			nr_vcpus = aging_parse_positive(optarg);
			break;
		case 's':
			seconds = aging_parse_positive(optarg);
			break;
		default:
			help(argv[0]);
		}
	}
	if (optind != argc || !seconds || !nr_vcpus || nr_vcpus > MAX_VCPUS)
		help(argv[0]);

	ksft_print_header();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_COALESCED_MMIO));
	__TEST_REQUIRE(!get_kvm_param_bool("tdp_mmu"),
		       "The TDP MMU's pages are freed by RCU: load kvm with tdp_mmu=0");
	__TEST_REQUIRE(get_kvm_param_bool("mmio_caching"), "KVM keeps no MMIO SPTEs");

	create_vm();
	ksft_set_plan(2);

	for (i = 0; i < nr_vcpus; i++)
		pthread_create(&threads[i].thread, NULL, vcpu_code, &threads[i]);
	zaps = zap_all(seconds);
	WRITE_ONCE(stop, true);
	for (i = 0; i < nr_vcpus; i++)
		pthread_join(threads[i].thread, NULL);
	drain_ring();

	for (i = 0; i < nr_vcpus; i++) {
		ksft_print_msg("vCPU %lu: %lu rounds, %lu writes\n", i, threads[i].rounds,
			       threads[i].writes);
		complete &= threads[i].writes ==
			    threads[i].rounds * TABLES_PER_ROUND * WRITES_PER_TABLE;
		walks += threads[i].writes / WRITES_PER_TABLE;
	}
	ksft_test_result(walks && complete, "all writes arrived once\n");

	zapped = vm_get_stat(vm, "mmu_shadow_zapped");
	ksft_print_msg("%lu walks, %lu shadow pages zapped, all of them %lu times\n",
		       walks, zapped, zaps);
	ksft_test_result(zapped > MMIO_TABLES && zaps, "shadow pages were zapped\n");

	kvm_vm_free(vm);
	ksft_finished();
}
