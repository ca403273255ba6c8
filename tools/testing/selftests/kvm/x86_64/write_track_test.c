// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM tells trackers of each write to a tracked page, once and in order, and of no other write,
 * whatever happens to memslots.  KVM has blocks of counts only where it tracks pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bitmap.h>
#include <linux/sizes.h>
#include <linux/userfaultfd.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "stress_util.h"
#include "test_util.h"
#include "track_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
/* Memslots of the other address space, SMM. */
#define SMM_TEST_SLOT	(BIT(16) | 1)
#define SMM_SLOT	(BIT(16) | 2)

/* How often trackers may track a page: KVM has the other half of the range of a count. */
#define MOST_OFTEN	32767

#define TEST_MEM	0x40000000ULL
/* Whole blocks, and a part of one. */
#define NR_PAGES	1000
#define MEMORY_SIZE	(NR_PAGES * PAGE_SIZE)
#define ZAP_SLOT	2
#define ZAP_MEM		0x100000000ULL
#define SMM_MEM		0x80000000ULL
#define SMM_SIZE	65536
#define SMM_PORT	0xe

/* The most that the guest does in one run. */
#define MAX_OPS		4096

enum op_kind {
	OP_BYTE,
	OP_INT,
	OP_LONG,
	/* An atomic operation. */
	OP_XCHG,
	OP_READ,
	NR_OP_KINDS
};

struct op {
	uint64_t gpa;
	uint64_t value;
	enum op_kind kind;
};

static struct op ops[MAX_OPS];
static uint64_t nr_ops;
static struct l2_map l2_map;
static struct l2 l2;

static void guest_code(uint64_t unused)
{
	uint64_t i;

	for (;;) {
		for (i = 0; i < READ_ONCE(nr_ops); i++) {
			void *where = (void *)ops[i].gpa;

			switch (ops[i].kind) {
			case OP_BYTE:
				WRITE_ONCE(*(uint8_t *)where, ops[i].value);
				break;
			case OP_INT:
				WRITE_ONCE(*(uint32_t *)where, ops[i].value);
				break;
			case OP_LONG:
				WRITE_ONCE(*(uint64_t *)where, ops[i].value);
				break;
			case OP_XCHG:
				asm volatile ("xchg %0, %1" : "+m" (*(uint64_t *)where) :
					      "r" (ops[i].value) : "memory");
				break;
			default:
				READ_ONCE(*(uint64_t *)where);
			}
		}
		GUEST_SYNC(0);
	}
}

static void l1_code(uint64_t unused)
{
	l2_init(&l2, &l2_map, guest_code, 0);
	l2_run(&l2);
	GUEST_FAIL("L2 exited with 0x%lx", l2.exit_code);
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static void *memory;
static uint64_t value;
static uint64_t random_state = 1;

static void run_ops(void)
{
	struct ucall uc;

	sync_global_to_guest(vm, ops);
	sync_global_to_guest(vm, nr_ops);
	vcpu_run(vcpu);
	errno = 0;
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(uc.cmd == UCALL_SYNC, "Unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
}

static void add_op(uint64_t page, enum op_kind kind)
{
	static const unsigned int bytes[] = { 1, 4, 8, 8, 8 };
	uint64_t mask = bytes[kind] == 8 ? ~0ULL : BIT_ULL(bytes[kind] * 8) - 1;

	TEST_ASSERT(nr_ops < MAX_OPS, "Too many ops");
	value++;
	ops[nr_ops++] = (struct op) {
		.gpa = TEST_MEM + page * PAGE_SIZE + value * 8 % PAGE_SIZE,
		.value = value & mask,
		.kind = kind,
	};
}

static unsigned int op_bytes(const struct op *op)
{
	return op->kind == OP_BYTE ? 1 : op->kind == OP_INT ? 4 : 8;
}

/* Did the tracker hear of each write of the guest to @tracked pages, and of nothing else? */
static bool heard(int tracker, const unsigned long *tracked)
{
	static struct track_event events[MAX_OPS + 1];
	size_t nr = track_read(tracker, events, MAX_OPS + 1), i, j = 0;
	bool ok = true;

	for (i = 0; i < nr_ops && ok; i++) {
		if (ops[i].kind == OP_READ ||
		    !tracked || !test_bit((ops[i].gpa - TEST_MEM) / PAGE_SIZE, tracked))
			continue;
		ok = j < nr && events[j].type == TRACK_WRITE && events[j].where == ops[i].gpa &&
		     events[j].bytes == op_bytes(&ops[i]) && events[j].value == ops[i].value;
		if (!ok)
			ksft_print_msg("not told of the write of 0x%lx to 0x%lx\n", ops[i].value,
				       ops[i].gpa);
		j++;
	}
	if (ok && j < nr)
		ksft_print_msg("told of a write to 0x%lx (%d), and of %lu more\n", events[j].where,
			       events[j].type, nr - j - 1);
	return ok && j == nr;
}

/* Have the guest write all pages in turn.  Does the tracker hear of those in @tracked? */
static bool write_all_and_hear(int tracker, const unsigned long *tracked)
{
	uint64_t page;

	nr_ops = 0;
	for (page = 0; page < NR_PAGES; page++)
		add_op(page, OP_LONG);
	run_ops();
	return heard(tracker, tracked);
}

static void create_memslot(uint32_t flags)
{
	vm_set_user_memory_region(vm, TEST_SLOT, flags, TEST_MEM, MEMORY_SIZE, memory);
}

static void delete_memslot(void)
{
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_MEM, 0, NULL);
}

/* Deleting a memslot zaps all roots, even if the guest does not use the memslot. */
static void zap_all(void)
{
	vm_set_user_memory_region(vm, ZAP_SLOT, 0, ZAP_MEM, PAGE_SIZE, memory);
	vm_set_user_memory_region(vm, ZAP_SLOT, 0, ZAP_MEM, 0, NULL);
}

static void create_vm(bool nested)
{
	vm = __vm_create(VM_SHAPE_DEFAULT, 1, NR_PAGES);
	vcpu = vm_vcpu_add(vm, 0, nested ? l1_code : guest_code);
	/* Align the memory, so that the kernel can use huge pages. */
	memory = mmap(NULL, MEMORY_SIZE + SZ_2M, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(memory != MAP_FAILED, "Out of memory");
	munmap(memory + MEMORY_SIZE + SZ_2M - (unsigned long)memory % SZ_2M,
	       (unsigned long)memory % SZ_2M);
	memory += SZ_2M - (unsigned long)memory % SZ_2M;
	create_memslot(0);
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	if (nested) {
		l2_map_create(vm, &l2_map, TEST_MEM, NR_PAGES, false, 0);
		l2_create(vm, &l2);
		sync_global_to_guest(vm, l2_map);
		sync_global_to_guest(vm, l2);
	}
}

static void free_vm(void)
{
	kvm_vm_free(vm);
	munmap(memory, MEMORY_SIZE);
}

static int new_tracker(void)
{
	int tracker = track_open(), r = track_register(tracker, vm);

	TEST_ASSERT(!r, "Failed to register a tracker: %d", r);
	return tracker;
}

static void add_one(int tracker, unsigned long *tracked, uint64_t page)
{
	int r = track_page(tracker, TEST_MEM + page * PAGE_SIZE);

	TEST_ASSERT(!r, "Failed to track page %lu: %d", page, r);
	set_bit(page, tracked);
}

static void remove_one(int tracker, unsigned long *tracked, uint64_t page)
{
	int r = track_untrack_page(tracker, TEST_MEM + page * PAGE_SIZE);

	TEST_ASSERT(!r, "Failed to untrack page %lu: %d", page, r);
	clear_bit(page, tracked);
}

static const uint64_t border_pages[] = { 0, 1, 62, 63, 64, 65, 127, 128, 511, 512, 513, 900, 999 };

/* All kinds of reads and writes, pages at all borders, and a page that is tracked twice. */
static bool test_reports(void)
{
	int tracker = new_tracker(), other = new_tracker();
	unsigned long *tracked = bitmap_zalloc(NR_PAGES);
	bool ok = true;
	int i, j;

	ok &= write_all_and_hear(tracker, NULL);
	for (i = 0; i < ARRAY_SIZE(border_pages); i++)
		add_one(tracker, tracked, border_pages[i]);
	ok &= write_all_and_hear(tracker, tracked);
	ok &= heard(other, tracked);

	nr_ops = 0;
	for (i = 0; i < 1000; i++) {
		j = stress_random(&random_state) % (2 * ARRAY_SIZE(border_pages));
		add_op(j < ARRAY_SIZE(border_pages) ? border_pages[j] :
						      stress_random(&random_state) % NR_PAGES,
		       stress_random(&random_state) % NR_OP_KINDS);
	}
	run_ops();
	ok &= heard(tracker, tracked);
	ok &= heard(other, tracked);

	/* Tracked once more, and once less: the page is still tracked. */
	add_one(other, tracked, 64);
	remove_one(tracker, tracked, 64);
	set_bit(64, tracked);
	ok &= write_all_and_hear(tracker, tracked);
	ok &= heard(other, tracked);

	track_unregister(other);
	remove_one(tracker, tracked, 64);
	remove_one(tracker, tracked, 0);
	ok &= write_all_and_hear(tracker, tracked);
	ok &= heard(other, NULL);

	for (i = 0; i < ARRAY_SIZE(border_pages); i++) {
		if (test_bit(border_pages[i], tracked))
			remove_one(tracker, tracked, border_pages[i]);
	}
	ok &= write_all_and_hear(tracker, NULL);
	close(tracker);
	close(other);
	free(tracked);
	return ok;
}

/* Counts stay when a memslot gets other flags.  They go when the memslot goes. */
static bool test_slots(void)
{
	unsigned long *tracked = bitmap_zalloc(NR_PAGES);
	struct track_event event = {};
	int tracker = new_tracker();
	bool ok = true;

	add_one(tracker, tracked, 5);
	add_one(tracker, tracked, 999);
	ok &= write_all_and_hear(tracker, tracked);
	create_memslot(KVM_MEM_LOG_DIRTY_PAGES);
	ok &= write_all_and_hear(tracker, tracked);
	create_memslot(0);
	ok &= write_all_and_hear(tracker, tracked);

	/* KVM does not move a memslot while a tracker is registered, and never has. */
	ok &= __vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_MEM + PAGE_SIZE,
					  MEMORY_SIZE, memory) && errno == EINVAL;
	ok &= write_all_and_hear(tracker, tracked);

	delete_memslot();
	ok &= track_read(tracker, &event, 1) == 1 && event.type == TRACK_REMOVE &&
	      event.where == TEST_MEM / PAGE_SIZE && event.value == NR_PAGES;
	ok &= track_page(tracker, TEST_MEM) == -EINVAL;
	ok &= track_untrack_page(tracker, TEST_MEM) == -EINVAL;

	/* The memslot is a new one: none of its pages is tracked. */
	create_memslot(0);
	bitmap_zero(tracked, NR_PAGES);
	ok &= track_untrack_page(tracker, TEST_MEM + 5 * PAGE_SIZE) == -ENOENT;
	ok &= write_all_and_hear(tracker, tracked);
	add_one(tracker, tracked, 6);
	ok &= write_all_and_hear(tracker, tracked);
	remove_one(tracker, tracked, 6);
	ok &= write_all_and_hear(tracker, tracked);

	/* A memslot of another size. */
	delete_memslot();
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_MEM, 65 * PAGE_SIZE, memory);
	ok &= track_read(tracker, &event, 1) == 1 && event.type == TRACK_REMOVE;
	ok &= track_page(tracker, TEST_MEM + 64 * PAGE_SIZE) == 0;
	ok &= track_page(tracker, TEST_MEM + 65 * PAGE_SIZE) == -EINVAL;
	delete_memslot();
	create_memslot(0);

	close(tracker);
	free(tracked);
	/* Without a tracker, KVM moves the memslot. */
	ok &= !__vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_MEM + PAGE_SIZE,
					   MEMORY_SIZE, memory);
	ok &= !__vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_MEM, MEMORY_SIZE,
					   memory);
	return ok;
}

/* A call that KVM or the tracker refuses changes nothing. */
static bool test_refused(void)
{
	unsigned long *tracked = bitmap_zalloc(NR_PAGES);
	int tracker = track_open(), i, r = 0;
	bool ok = true;

	ok &= track_page(tracker, TEST_MEM) == -ENOTCONN;
	ok &= !track_register(tracker, vm);
	ok &= track_register(tracker, vm) == -EBUSY;
	ok &= track_page(tracker, 1ULL << 45) == -EINVAL;
	ok &= track_untrack_page(tracker, TEST_MEM) == -ENOENT;

	add_one(tracker, tracked, 70);
	for (i = 1; i < MOST_OFTEN && !r; i++)
		r = track_page(tracker, TEST_MEM + 70 * PAGE_SIZE);
	ok &= !r;
	ok &= track_page(tracker, TEST_MEM + 70 * PAGE_SIZE) == -EOVERFLOW;
	ok &= write_all_and_hear(tracker, tracked);
	for (i = 1; i < MOST_OFTEN && !r; i++)
		r = track_untrack_page(tracker, TEST_MEM + 70 * PAGE_SIZE);
	ok &= !r;
	ok &= write_all_and_hear(tracker, tracked);
	remove_one(tracker, tracked, 70);
	ok &= track_untrack_page(tracker, TEST_MEM + 70 * PAGE_SIZE) == -ENOENT;
	ok &= write_all_and_hear(tracker, tracked);
	close(tracker);
	free(tracked);
	return ok;
}

/*
 * KVM takes no memory at first, then a little for each memslot, then more for each block with a
 * tracked page, and gives the latter back.
 */
static bool test_memory(void)
{
	unsigned long *tracked = bitmap_zalloc(NR_PAGES);
	struct track_event event = {};
	long registered, one, all;
	int tracker, i;
	bool ok = true;

	ok &= !track_bytes(vm);
	tracker = new_tracker();
	registered = track_bytes(vm);
	ok &= registered > 0 && registered <= 16384;

	add_one(tracker, tracked, 3);
	one = track_bytes(vm) - registered;
	for (i = 64; i < NR_PAGES; i += 64)
		add_one(tracker, tracked, i);
	all = track_bytes(vm) - registered;
	ksft_print_msg("%ld bytes, %ld for one page, %ld for one in each of %d blocks\n",
		       registered, one, all, NR_PAGES / 64 + 1);
	ok &= one > 0 && one <= 2048 && all > one && all <= (NR_PAGES / 64 + 1) * 2048;

	for (i = 0; i < NR_PAGES; i++) {
		if (test_bit(i, tracked))
			remove_one(tracker, tracked, i);
	}
	ok &= track_bytes(vm) == registered;

	/* A page that a tracker leaves tracked stays tracked, until the memslot goes. */
	add_one(tracker, tracked, 3);
	close(tracker);
	tracker = new_tracker();
	ok &= track_bytes(vm) == registered + one;
	ok &= write_all_and_hear(tracker, tracked);
	delete_memslot();
	ok &= track_read(tracker, &event, 1) == 1 && event.type == TRACK_REMOVE;
	ok &= track_bytes(vm) < registered;
	create_memslot(0);
	ok &= track_bytes(vm) == registered;
	ok &= write_all_and_hear(tracker, NULL);
	close(tracker);
	ok &= track_bytes(vm) == registered;
	free(tracked);
	return ok;
}

static void *set_flags(void *tid)
{
	WRITE_ONCE(*(pid_t *)tid, syscall(SYS_gettid));
	create_memslot(KVM_MEM_LOG_DIRTY_PAGES);
	return NULL;
}

static void *write_one(void *unused)
{
	run_ops();
	return NULL;
}

/*
 * Wait until the thread has slept for 0.2 s.  Then it sleeps in synchronize_srcu(): it would not
 * wait so long for a page or a lock.
 */
static void wait_until_it_sleeps(pid_t *tid)
{
	int slept = 0, i;
	char path[64], state;
	FILE *file;

	for (i = 0; slept < 20; i++) {
		TEST_ASSERT(i < 3000, "The memslot is replaced without waiting for the vCPU");
		usleep(10000);
		state = 0;
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", READ_ONCE(*tid));
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fscanf(file, "%*d (%*[^)]) %c", &state) == 1 && state == 'D')
			slept++;
		else
			slept = 0;
		fclose(file);
	}
}

/*
 * A vCPU looks up a memslot, and waits for the memory of it (userfaultfd).  Then userspace
 * changes the flags of the memslot, so KVM replaces the memslot by a new one, and the first
 * tracker registers.  The vCPU still has the old memslot, which never gets counts.  The tracker
 * hears of the write all the same.
 */
static bool test_replaced(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { .start = (unsigned long)memory, .len = MEMORY_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	unsigned long *tracked = bitmap_zalloc(NR_PAGES);
	void *zeroes = calloc(NR_PAGES, PAGE_SIZE);
	/* Not UFFDIO_ZEROPAGE: a write would replace the zero page by another page. */
	struct uffdio_copy copy = {
		.dst = range.range.start,
		.src = (unsigned long)zeroes,
		.len = range.range.len,
	};
	struct pollfd uffd_poll = { .events = POLLIN };
	pthread_t writer, replacer;
	struct uffd_msg msg;
	int uffd, tracker;
	pid_t tid = 0;
	bool ok;

	ok = !track_bytes(vm);
	madvise(memory, MEMORY_SIZE, MADV_DONTNEED);
	uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	uffd_poll.fd = uffd;
	TEST_ASSERT(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api) &&
		    !ioctl(uffd, UFFDIO_REGISTER, &range), "No userfaultfd");

	nr_ops = 0;
	add_op(7, OP_LONG);
	pthread_create(&writer, NULL, write_one, NULL);
	TEST_ASSERT(poll(&uffd_poll, 1, 30000) == 1 &&
		    read(uffd, &msg, sizeof(msg)) == sizeof(msg), "No message of userfaultfd");

	pthread_create(&replacer, NULL, set_flags, &tid);
	wait_until_it_sleeps(&tid);

	tracker = new_tracker();
	add_one(tracker, tracked, 7);
	TEST_ASSERT(!ioctl(uffd, UFFDIO_COPY, &copy), "UFFDIO_COPY");
	pthread_join(writer, NULL);
	pthread_join(replacer, NULL);
	ok &= heard(tracker, tracked);
	ok &= write_all_and_hear(tracker, tracked);

	close(tracker);
	close(uffd);
	create_memslot(0);
	free(zeroes);
	free(tracked);
	return ok;
}

/* In real mode: movl $value, gpa; in $SMM_PORT, %al; rsm. */
static uint8_t smm_code[] = {
	0x66, 0x67, 0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0xe4, SMM_PORT, 0x0f, 0xaa,
};

/* SMM has memslots of its own, without tracked pages.  Trackers hear of its writes all the same. */
static bool test_smm(void)
{
	unsigned long *tracked = bitmap_zalloc(NR_PAGES);
	struct kvm_vcpu_events vcpu_events;
	int tracker, i;
	bool ok = true;
	void *smram;

	/* No huge pages: if SMM maps the tracked page as part of one, its writes do not fault. */
	madvise(memory, MEMORY_SIZE, MADV_NOHUGEPAGE);
	smram = mmap(NULL, SMM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(smram != MAP_FAILED, "Out of memory");
	vm_set_user_memory_region(vm, SMM_SLOT, 0, SMM_MEM, SMM_SIZE, smram);
	vm_set_user_memory_region(vm, SMM_TEST_SLOT, 0, TEST_MEM, MEMORY_SIZE, memory);
	vcpu_set_msr(vcpu, MSR_IA32_SMBASE, SMM_MEM);

	tracker = new_tracker();
	add_one(tracker, tracked, 9);
	for (i = 8; i < 11; i++) {
		nr_ops = 0;
		add_op(i, OP_INT);
		*(uint32_t *)&smm_code[4] = ops[0].gpa;
		*(uint32_t *)&smm_code[8] = ops[0].value;
		memcpy(smram + 0x8000, smm_code, sizeof(smm_code));

		vcpu_events_get(vcpu, &vcpu_events);
		vcpu_events.smi.pending = 1;
		vcpu_events.flags |= KVM_VCPUEVENT_VALID_SMM;
		vcpu_events_set(vcpu, &vcpu_events);
		vcpu_run(vcpu);
		TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO &&
			    vcpu->run->io.port == SMM_PORT, "Unexpected exit: %s",
			    exit_reason_str(vcpu->run->exit_reason));
		ok &= heard(tracker, tracked);
		ok &= *(uint32_t *)(memory + (ops[0].gpa - TEST_MEM)) == ops[0].value;

		/* Have the vCPU leave SMM. */
		nr_ops = 0;
		run_ops();
	}
	close(tracker);
	vm_set_user_memory_region(vm, SMM_TEST_SLOT, 0, TEST_MEM, 0, NULL);
	vm_set_user_memory_region(vm, SMM_SLOT, 0, SMM_MEM, 0, NULL);
	munmap(smram, SMM_SIZE);
	free(tracked);
	return ok;
}

/* KVM tracks writes for its shadow pages, too, until it zaps them. */
static bool test_nested(void)
{
	unsigned long *tracked = bitmap_zalloc(NR_PAGES);
	int tracker = new_tracker();
	long registered, with_tracker, with_both;
	bool ok = true;

	registered = track_bytes(vm);
	add_one(tracker, tracked, 3);
	with_tracker = track_bytes(vm);
	ok &= with_tracker > registered;
	ok &= write_all_and_hear(tracker, tracked);
	with_both = track_bytes(vm);
	ok &= with_both > with_tracker;

	remove_one(tracker, tracked, 3);
	close(tracker);
	ok &= track_bytes(vm) == registered + with_both - with_tracker;
	run_ops();
	delete_memslot();
	create_memslot(0);
	ok &= track_bytes(vm) == registered;

	/* And again. */
	nr_ops = 0;
	add_op(5, OP_LONG);
	run_ops();
	ok &= track_bytes(vm) == registered + with_both - with_tracker;
	delete_memslot();
	create_memslot(0);
	ok &= track_bytes(vm) == registered;
	free(tracked);
	return ok;
}

/*
 * A tracker cannot untrack a page that KVM tracks itself, here the root of L1's nested page
 * tables.  Nor can a tracker keep KVM from tracking the page, however often the tracker does so.
 */
static bool test_own(void)
{
	int tracker = new_tracker(), nr, r = 0;
	bool ok = true;

	nr_ops = 0;
	add_op(5, OP_LONG);
	run_ops();
	ok &= track_untrack_page(tracker, l2_map.root_gpa) == -ENOENT;
	ok &= !track_page(tracker, l2_map.root_gpa);
	ok &= !track_untrack_page(tracker, l2_map.root_gpa);
	ok &= track_untrack_page(tracker, l2_map.root_gpa) == -ENOENT;

	for (nr = 0; nr <= MOST_OFTEN && !r; nr++)
		r = track_page(tracker, l2_map.root_gpa);
	ok &= r == -EOVERFLOW;
	zap_all();
	run_ops();
	close(tracker);
	return ok;
}

/* KVM maps no tracked page as part of a huge page, until the page is not tracked any more. */
static bool test_huge(void)
{
	int tracker = new_tracker(), r;
	uint64_t huge;
	bool ok;

	madvise(memory, MEMORY_SIZE, MADV_HUGEPAGE);
	memset(memory, 0, MEMORY_SIZE);
	if (!aging_huge_bytes(memory)) {
		ksft_print_msg("huge: the kernel has no huge pages for it\n");
		close(tracker);
		return true;
	}
	nr_ops = 0;
	add_op(5, OP_LONG);
	huge = vm_get_stat(vm, "pages_2m");
	run_ops();
	ok = vm_get_stat(vm, "pages_2m") == huge + 1;

	r = track_page(tracker, TEST_MEM + 6 * PAGE_SIZE);
	TEST_ASSERT(!r, "Failed to track a page: %d", r);
	run_ops();
	ok &= vm_get_stat(vm, "pages_2m") == huge;

	r = track_untrack_page(tracker, TEST_MEM + 6 * PAGE_SIZE);
	TEST_ASSERT(!r, "Failed to untrack a page: %d", r);
	close(tracker);
	zap_all();
	run_ops();
	ok &= vm_get_stat(vm, "pages_2m") == huge + 1;
	return ok;
}

static const struct {
	const char *name;
	bool (*fn)(void);
	bool nested;
	/* The test needs TDP.  Without, KVM shadows the guest, and memslots have counts at once. */
	bool tdp;
	int cap;
} tests[] = {
	{ "reports", test_reports },
	{ "slots", test_slots },
	{ "refused", test_refused },
	{ "memory", test_memory, .tdp = true },
	{ "replaced", test_replaced, .tdp = true },
	{ "huge", test_huge, .tdp = true },
	{ "smm", test_smm, .cap = KVM_CAP_X86_SMM },
	{ "nested", test_nested, .nested = true },
	{ "own", test_own, .nested = true },
};

static void help(const char *name)
{
	int i;

	printf("usage: %s [-t test]\n -t: one of", name);
	for (i = 0; i < ARRAY_SIZE(tests); i++)
		printf(" %s", tests[i].name);
	printf(" (default: all)\n");
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	const char *only = NULL, *why;
	int opt, i;

	while ((opt = getopt(argc, argv, "t:")) != -1) {
		if (opt != 't')
			help(argv[0]);
		only = optarg;
	}
	for (i = 0; only && i < ARRAY_SIZE(tests) && strcmp(only, tests[i].name); i++)
		;
	if (optind != argc || i == ARRAY_SIZE(tests))
		help(argv[0]);

	ksft_print_header();
	why = track_supported();
	__TEST_REQUIRE(!why, "%s", why);
	ksft_set_plan(only ? 1 : ARRAY_SIZE(tests));

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		if (only && strcmp(only, tests[i].name))
			continue;
		why = tests[i].nested ? l2_supported(true) : NULL;
		if (tests[i].tdp && !kvm_is_tdp_enabled())
			why = "guests without TDP are shadowed";
		if (why || (tests[i].cap && !kvm_has_cap(tests[i].cap))) {
			ksft_test_result_skip("%s: %s\n", tests[i].name, why ?: "not supported");
			continue;
		}
		create_vm(tests[i].nested);
		ksft_test_result(tests[i].fn(), "%s\n", tests[i].name);
		free_vm();
	}
	ksft_finished();
}
