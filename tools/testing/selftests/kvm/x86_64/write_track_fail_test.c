// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tracking of guest writes when allocations fail.  By fail-nth, the test makes each allocation
 * of a call fail in turn.  The call returns ENOMEM, or does without the memory.  The VM goes
 * on, and the next try succeeds.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_util.h"
#include "nested_util.h"
#include "processor.h"
#include "test_util.h"
#include "track_util.h"
#include "ucall_common.h"

#define TEST_SLOT	1
#define OTHER_SLOT	2
#define TEST_MEM	0x40000000ULL
#define OTHER_MEM	0x100000000ULL
#define NR_PAGES	256
/* No call makes so many allocations. */
#define MAX_SITES	500

static struct l2_map map;
static struct l2 l2;

static void guest_code(uint64_t unused)
{
	uint64_t n = 0, page;

	for (;;) {
		n++;
		for (page = 0; page < NR_PAGES; page++)
			WRITE_ONCE(*(uint64_t *)(TEST_MEM + page * PAGE_SIZE), n);
		GUEST_SYNC1(n);
	}
}

static void l1_code(uint64_t unused)
{
	/* create_vm() runs the vCPU up to here: allocations of its first run do not fail. */
	GUEST_SYNC1(0);
	l2_run_for_good(&l2, &map, guest_code, 0);
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static void *memory;

static int try_to_run(void)
{
	return __vcpu_run(vcpu) ? -errno : 0;
}

static void run(void)
{
	struct ucall uc;

	vcpu_run(vcpu);
	errno = 0;
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "Unexpected exit: %s",
		    exit_reason_str(vcpu->run->exit_reason));
}

static void add_memslot(void)
{
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_MEM, NR_PAGES * PAGE_SIZE, memory);
}

static void create_vm(bool nested)
{
	vm = __vm_create(VM_SHAPE_DEFAULT, 1, NR_PAGES);
	vcpu = vm_vcpu_add(vm, 0, nested ? l1_code : guest_code);
	memory = mmap(NULL, NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	TEST_ASSERT(memory != MAP_FAILED, "Out of memory");
	add_memslot();
	virt_map(vm, TEST_MEM, TEST_MEM, NR_PAGES);
	if (nested) {
		l2_map_create(vm, &map, TEST_MEM, NR_PAGES, false, 0);
		l2_create(vm, &l2);
		sync_global_to_guest(vm, map);
		sync_global_to_guest(vm, l2);
	}
	run();
}

static void free_vm(void)
{
	kvm_vm_free(vm);
	munmap(memory, NR_PAGES * PAGE_SIZE);
}

static int fail_nth = -1;

static void set_knob(const char *name, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s", name);
	fd = open(path, O_WRONLY);
	TEST_ASSERT(fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value),
		    "Failed to set %s", path);
	close(fd);
}

/* Have allocations that may sleep fail, too, and no failure logged. */
static const char *injection_setup(void)
{
	if (access("/sys/kernel/debug/failslab", F_OK) ||
	    access("/sys/kernel/debug/fail_page_alloc", F_OK))
		return "No failslab, or no fail_page_alloc, in debugfs";
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR);
	if (fail_nth < 0)
		return "No /proc/thread-self/fail-nth";

	set_knob("failslab/ignore-gfp-wait", "N");
	set_knob("failslab/verbose", "0");
	set_knob("fail_page_alloc/ignore-gfp-wait", "N");
	set_knob("fail_page_alloc/min-order", "0");
	set_knob("fail_page_alloc/verbose", "0");
	return NULL;
}

static void inject(int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	TEST_ASSERT(pwrite(fail_nth, text, len, 0) == len, "Failed to write fail-nth");
}

/* Has the call reached the allocation that was to fail? */
static bool injected(void)
{
	char text[16] = {};

	TEST_ASSERT(pread(fail_nth, text, sizeof(text) - 1, 0) > 0, "Failed to read fail-nth");
	inject(0);
	return !atoi(text);
}

static int tracker;

static int register_one(void)
{
	return track_register(tracker, vm);
}

static int track_one(void)
{
	return track_page(tracker, TEST_MEM + 70 * PAGE_SIZE);
}

static int create_memslot(void)
{
	return __vm_set_user_memory_region(vm, OTHER_SLOT, 0, OTHER_MEM, NR_PAGES * PAGE_SIZE,
					   memory) ? -errno : 0;
}

/* The call to try, and what exists before each try: a registered tracker, a nested guest. */
static const struct site {
	const char *name;
	int (*fn)(void);
	bool registered;
	bool nested;
} sites[] = {
	{ "register", register_one },
	{ "track", track_one, .registered = true },
	{ "create_memslot", create_memslot, .registered = true },
	{ "run_nested", try_to_run, .nested = true },
};

static bool test_site(const struct site *site)
{
	int n, r = 0, failed = 0;
	bool reached = true, ok = true;
	long bytes;

	for (n = 1; reached && ok; n++) {
		TEST_ASSERT(n < MAX_SITES, "There is no end of allocations");
		create_vm(site->nested);
		tracker = track_open();
		if (site->registered)
			ok &= !track_register(tracker, vm);
		bytes = track_bytes(vm);

		inject(n);
		r = site->fn();
		reached = injected();
		failed += !!r;
		if (r && (r != -ENOMEM || !reached)) {
			ksft_print_msg("allocation %d: %d\n", n, r);
			ok = false;
		}

		/* If the VM tracked writes before, a failed call leaves no memory behind. */
		if (r && site->registered)
			ok &= track_bytes(vm) == bytes;
		if (r && !site->nested)
			run();
		/* The next try succeeds, and the VM runs. */
		if (r)
			ok &= !site->fn();
		run();
		ok &= track_bytes(vm) > 0;

		close(tracker);
		free_vm();
	}
	ksft_print_msg("%s: %d allocations, of which %d have to succeed\n", site->name, n - 2,
		       failed);
	return ok && failed;
}

static void help(const char *name)
{
	int i;

	printf("usage: %s [-t test]\n -t: one of", name);
	for (i = 0; i < ARRAY_SIZE(sites); i++)
		printf(" %s", sites[i].name);
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
	for (i = 0; only && i < ARRAY_SIZE(sites) && strcmp(only, sites[i].name); i++)
		;
	if (optind != argc || i == ARRAY_SIZE(sites))
		help(argv[0]);

	ksft_print_header();
	why = track_supported() ?: injection_setup();
	__TEST_REQUIRE(!why, "%s", why);
	ksft_set_plan(only ? 1 : ARRAY_SIZE(sites));

	for (i = 0; i < ARRAY_SIZE(sites); i++) {
		if (only && strcmp(only, sites[i].name))
			continue;
		why = sites[i].nested ? l2_supported(true) : NULL;
		if (why)
			ksft_test_result_skip("%s: %s\n", sites[i].name, why);
		else
			ksft_test_result(test_site(&sites[i]), "%s\n", sites[i].name);
	}
	ksft_finished();
}
