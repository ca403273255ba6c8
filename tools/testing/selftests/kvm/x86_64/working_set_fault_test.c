// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does KVM tell of a page that it has mapped for a fault, and that no CPU used since?
 *
 * The leaf that the fault handler writes is young.  The CPU that faults has made the page tables
 * above young, but a read may make them old before the handler writes the leaf.  It need not look
 * below them again, unless the handler makes them young.
 *
 * Here, userfaultfd withholds the page, so that the read comes between.  The page then is the
 * entry that fills the dirty ring, so that the vCPU exits to userspace before it runs again.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "ring_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define TEST_MEM	0x100000000ULL

/* More than the ring has. */
#define NR_PAGES	2048
/* The last of the first page table. */
#define MISSING		511
/* With PML, KVM takes no smaller one. */
#define RING_ENTRIES	1024

/* What the host tells the guest: how many pages to write, or that it is the one that is missing. */
static struct {
	uint64_t nr_writes;
	bool missing;
} job;

/* Writes begin behind the first page table, so that MISSING comes last. */
static uint64_t page_of(uint64_t nth)
{
	return (MISSING + 1 + nth) % NR_PAGES;
}

static void guest_write(uint64_t page)
{
	WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE), page);
}

static void guest_code(void)
{
	uint64_t nth;

	/* So that there is a page table for the missing page. */
	READ_ONCE(*(uint64_t *)TEST_MEM);
	for (;;) {
		for (nth = 0; nth < job.nr_writes; nth++)
			guest_write(page_of(nth));
		if (job.missing)
			guest_write(MISSING);
		GUEST_SYNC(0);
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct dirty_ring ring;

static uint64_t harvest(void)
{
	uint64_t offset, nr = 0;
	uint32_t slot;

	while (dirty_ring_take(&ring, &slot, &offset))
		nr++;
	kvm_vm_reset_dirty_ring(vm);
	return nr;
}

/* Run the guest up to its next ucall.  Returns how many entries filled the ring, or 0. */
static uint64_t run_job(uint64_t nr_writes)
{
	uint64_t full = 0;

	job.nr_writes = nr_writes;
	sync_global_to_guest(vm, job);
	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason != KVM_EXIT_DIRTY_RING_FULL)
			break;
		full = harvest();
	}
	TEST_ASSERT(get_ucall(vcpu, NULL) == UCALL_SYNC, "Unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
	return full;
}

static void *vcpu_thread(void *unused)
{
	vcpu_run(vcpu);
	return NULL;
}

/* Is the page that was missing in the working set? */
static bool found_missing(void)
{
	int fd = aging_open_working_set(vm->fd, "working_set_bitmap");
	uint64_t word;

	TEST_ASSERT(fd >= 0, "Failed to open working_set_bitmap");
	TEST_ASSERT(pread(fd, &word, 8, (TEST_MEM / PAGE_SIZE + MISSING) / 64 * 8) == 8,
		    "Failed to read working_set_bitmap");
	close(fd);
	return word >> MISSING % 64 & 1;
}

/* Have faults on @page wait until copy_page().  Returns the userfaultfd. */
static int withhold_page(void *page)
{
	struct uffdio_register range = {
		.range = { .start = (unsigned long)page, .len = PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);

	__TEST_REQUIRE(uffd >= 0, "No userfaultfd");
	TEST_ASSERT(!ioctl(uffd, UFFDIO_API, &api), "Failed to use userfaultfd");
	TEST_ASSERT(!madvise(page, PAGE_SIZE, MADV_DONTNEED), "Failed to drop a page");
	TEST_ASSERT(!ioctl(uffd, UFFDIO_REGISTER, &range), "Failed to register a page");
	return uffd;
}

static void copy_page(int uffd, void *page)
{
	static uint8_t content[4096] __aligned(4096);
	struct uffdio_copy copy = {
		.dst = (unsigned long)page,
		.src = (unsigned long)content,
		.len = PAGE_SIZE,
	};

	TEST_ASSERT(!ioctl(uffd, UFFDIO_COPY, &copy), "Failed to copy a page");
}

int main(int argc, char *argv[])
{
	struct uffd_msg message;
	uint64_t full, nr;
	pthread_t thread;
	void *missing;
	int uffd, fd;

	if (argc != 1) {
		printf("usage: %s\n", argv[0]);
		exit(KSFT_FAIL);
	}

	ksft_print_header();
	/* A vCPU that does not fault would never be heard of. */
	alarm(120);
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING) ||
		     kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL));

	vm = __vm_create(VM_SHAPE_DEFAULT, 1, NR_PAGES);
	vm_enable_dirty_ring(vm, RING_ENTRIES * sizeof(*ring.entries));
	vcpu = vm_vcpu_add(vm, 0, guest_code);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, NR_PAGES,
				    KVM_MEM_LOG_DIRTY_PAGES);
	memset(addr_gpa2hva(vm, TEST_MEM), 1, NR_PAGES * PAGE_SIZE);
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	ring = (struct dirty_ring) { vcpu_map_dirty_ring(vcpu), RING_ENTRIES };
	missing = addr_gpa2hva(vm, TEST_MEM + MISSING * PAGE_SIZE);
	uffd = withhold_page(missing);

	fd = aging_open_working_set(vm->fd, "working_set");
	__TEST_REQUIRE(fd >= 0 || (errno != ENOENT && errno != EOPNOTSUPP),
		       "KVM has no working set to read: %s", strerror(errno));
	close(fd);
	ksft_set_plan(3);

	/* How many entries fill the ring? */
	full = run_job(RING_ENTRIES);
	TEST_ASSERT(full && full < RING_ENTRIES, "The ring was not full with %u entries",
		    RING_ENTRIES);
	harvest();
	TEST_ASSERT(!run_job(full - 1), "The ring is full too early");

	job.nr_writes = 0;
	job.missing = true;
	sync_global_to_guest(vm, job);
	pthread_create(&thread, NULL, vcpu_thread, NULL);
	TEST_ASSERT(read(uffd, &message, sizeof(message)) == sizeof(message) &&
		    message.event == UFFD_EVENT_PAGEFAULT, "The guest did not fault");
	/* The vCPU waits for the page in KVM's fault handler. */
	ksft_test_result(!found_missing(), "the page is not found before it is there\n");
	copy_page(uffd, missing);
	pthread_join(thread, NULL);
	ksft_test_result(vcpu->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL,
			 "the vCPU exits before it uses the page: %s\n",
			 exit_reason_str(vcpu->run->exit_reason));
	ksft_test_result(found_missing(), "the page is found when KVM has mapped it\n");

	nr = harvest();
	TEST_ASSERT(nr == full, "%lu entries in the ring, not %lu", nr, full);
	close(uffd);
	kvm_vm_free(vm);
	ksft_finished();
}
