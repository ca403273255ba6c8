// SPDX-License-Identifier: GPL-2.0-only
/*
 * Do aging and the dirty log tell the truth about 32-bit guests?
 *
 * The guests page by two levels of 1024 entries, or by PAE, with small pages or large ones.
 * With npt=0 or ept=0, KVM shadows these guests, below a root of four entries.  KVM has two
 * shadow pages for a table of 1024 entries, and four for a directory of 1024 entries, each for
 * a part of it ("quadrant").  KVM breaks up a large page by shadow pages that shadow no table.
 * The guest maps its memory in each of the four GiB that it can address, so KVM needs all of
 * these shadow pages.
 *
 * The guest reads some pages, writes others and leaves the rest alone.  The test compares
 * what page_idle and the dirty log say of each page, and lock_stat counts mmu_lock meanwhile.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/bitmap.h>
#include <linux/sizes.h>

#include "aging_util.h"
#include "kvm_util.h"
#include "legacy_util.h"
#include "processor.h"
#include "test_util.h"

#define TEST_SLOT	1
#define FLUSH_SLOT	2
#define ROOTS_SLOT	3

/*
 * LOW_PAGES at 0 hold the guest's code and tables.  The guest reads and writes NR_PAGES at
 * TEST_MEM.  FLUSH_MEM is for flush_guest_tlb(), and ROOTS_MEM for test_roots().
 */
#define LOW_PAGES	64
#define TEST_MEM	SZ_16M
#define NR_PAGES	1024
#define FLUSH_MEM	SZ_64M
#define ROOTS_MEM	SZ_128M

/* Addresses in the guest's memory.  The code is shorter than CODE_SIZE. */
#define CODE		0x1000
#define CODE_SIZE	64
#define LIST		0x2000
#define POINTERS	0x5000
#define DIRECTORIES	0x6000
#define TABLES		0xa000

/* The GiB that 32 bits address, and where in each GiB the guest maps the test's memory. */
#define NR_GIB		4
#define OFFSET		SZ_256M

#define PAGES_PER_GIB	(NR_PAGES / NR_GIB)

/* Roots that test_roots() loads: PAE tables of 32 bytes, behind the one at POINTERS. */
#define NR_ROOTS	24
/* KVM counts the directories that it shadows in blocks of 64 pages, see write_track.h. */
#define BLOCK		(64 * PAGE_SIZE)

#define ROUNDS		2
/* Checks for each way to page. */
#define CHECKS		(1 + ROUNDS * 6)

static const struct paging {
	const char *name;
	bool pae;
	bool large;
} pagings[] = {
	{ "32-bit", false, false },
	{ "32-bit, 4 MiB pages", false, true },
	{ "PAE", true, false },
	{ "PAE, 2 MiB pages", true, true },
};

enum touch {
	TOUCH_NONE,
	TOUCH_READ,
	TOUCH_WRITE,
};

/*
 * The guest walks the list at LIST up to a zero, and then exits to the host.  It writes each
 * address whose lowest bit is set, and reads each other address.
 */
static __attribute__((naked)) void legacy_guest(void)
{
	asm volatile (".code32\n"
		      "1: mov $" __stringify(LIST) ", %esi\n"
		      "2: mov (%esi), %eax\n"
		      "add $4, %esi\n"
		      "test %eax, %eax\n"
		      "jz 4f\n"
		      "test $1, %al\n"
		      "jz 3f\n"
		      "mov %eax, -1(%eax)\n"
		      "jmp 2b\n"
		      "3: mov (%eax), %ebx\n"
		      "jmp 2b\n"
		      "4: out %al, $0x80\n"
		      "jmp 1b\n"
		      ".code64\n");
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static const struct paging *paging;
static struct page_idle idle;
static uint64_t pfns[NR_PAGES];
static bool is_idle[NR_PAGES];

static enum touch pattern(uint64_t page, uint64_t round)
{
	return (page + page / PAGES_PER_GIB + round) % 3;
}

static uint32_t page_gva(uint64_t page)
{
	uint32_t gib = page / PAGES_PER_GIB * SZ_1G + OFFSET;

	/* With large pages, the guest maps all of the test's memory in each GiB. */
	if (paging->large)
		return gib + page * PAGE_SIZE;
	/* Spread the pages over a whole table. */
	return gib + page % PAGES_PER_GIB * (paging->pae ? 2 : 4) * PAGE_SIZE;
}

static void set_entry(uint64_t table, uint64_t index, uint64_t value)
{
	if (paging->pae)
		((uint64_t *)addr_gpa2hva(vm, table))[index] = value;
	else
		((uint32_t *)addr_gpa2hva(vm, table))[index] = value;
}

static void set_directory(uint32_t gva, uint64_t value)
{
	if (paging->pae)
		set_entry(DIRECTORIES + gva / SZ_1G * PAGE_SIZE, gva % SZ_1G / SZ_2M, value);
	else
		set_entry(DIRECTORIES, gva / SZ_4M, value);
}

static void build_tables(void)
{
	const uint64_t table = PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_ACCESSED_MASK;
	/* KVM maps a page read-only, whatever the log says, if the guest's entry is not dirty. */
	const uint64_t leaf = table | PTE_DIRTY_MASK;
	uint64_t page, gib, offset;

	for (gib = 0; gib < NR_GIB; gib++) {
		if (paging->pae)
			set_entry(POINTERS, gib,
				  (DIRECTORIES + gib * PAGE_SIZE) | PTE_PRESENT_MASK);
		if (!paging->large)
			set_directory(gib * SZ_1G + OFFSET, (TABLES + gib * PAGE_SIZE) | table);
		for (offset = 0; paging->large && offset < NR_PAGES * PAGE_SIZE;
		     offset += paging->pae ? SZ_2M : SZ_4M)
			set_directory(gib * SZ_1G + OFFSET + offset,
				      (TEST_MEM + offset) | leaf | PTE_LARGE_MASK);
	}
	set_directory(0, leaf | PTE_LARGE_MASK);

	for (page = 0; !paging->large && page < NR_PAGES; page++)
		set_entry(TABLES + page / PAGES_PER_GIB * PAGE_SIZE,
			  page_gva(page) / PAGE_SIZE % (paging->pae ? 512 : 1024),
			  (TEST_MEM + page * PAGE_SIZE) | leaf);
}

static void create_vm(void)
{
	uint64_t page;

	vm = vm_create_barebones();
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, LOW_PAGES, 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_MEM, TEST_SLOT, NR_PAGES, 0);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, FLUSH_MEM, FLUSH_SLOT, 1, 0);
	memset(addr_gpa2hva(vm, TEST_MEM), 0x5a, NR_PAGES * PAGE_SIZE);
	memcpy(addr_gpa2hva(vm, CODE), legacy_guest, CODE_SIZE);
	build_tables();

	vcpu = vcpu_add_legacy(vm, CODE, paging->pae ? POINTERS : DIRECTORIES,
			       X86_CR4_PSE | (paging->pae ? X86_CR4_PAE : 0));

	for (page = 0; page < NR_PAGES; page++)
		pfns[page] = page_idle_pfn(&idle, addr_gpa2hva(vm, TEST_MEM + page * PAGE_SIZE));
}

static void run_guest(void)
{
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
}

static void touch_pages(uint64_t round)
{
	uint32_t *list = addr_gpa2hva(vm, LIST);
	uint64_t page;

	for (page = 0; page < NR_PAGES; page++) {
		if (pattern(page, round) != TOUCH_NONE)
			*list++ = page_gva(page) | (pattern(page, round) == TOUCH_WRITE);
	}
	*list = 0;
	run_guest();
}

static void map_pages(void)
{
	uint32_t *list = addr_gpa2hva(vm, LIST);
	uint64_t page;

	for (page = 0; page < NR_PAGES; page++)
		*list++ = page_gva(page) | 1;
	*list = 0;
	run_guest();
}

/* See flush_guest_tlb() of age_test.c. */
static void flush_guest_tlb(void)
{
	vm_mem_region_set_flags(vm, FLUSH_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	vm_mem_region_set_flags(vm, FLUSH_SLOT, 0);
}

static void age_round(uint64_t round)
{
	uint64_t page, busy = 0, missed = 0, invented = 0;
	long locks;

	aging_drain_lru();
	locks = aging_mmu_lock_acquisitions();
	page_idle_mark(&idle, pfns, NR_PAGES);
	page_idle_test(&idle, pfns, NR_PAGES, is_idle);
	locks = aging_mmu_lock_acquisitions() - locks;
	for (page = 0; page < NR_PAGES; page++)
		busy += pfns[page] && !is_idle[page];

	flush_guest_tlb();
	touch_pages(round);
	page_idle_test(&idle, pfns, NR_PAGES, is_idle);
	for (page = 0; page < NR_PAGES; page++) {
		if (!pfns[page])
			continue;
		missed += is_idle[page] && pattern(page, round) != TOUCH_NONE;
		invented += !is_idle[page] && pattern(page, round) == TOUCH_NONE;
	}
	ksft_print_msg("mmu_lock taken %ld times\n", locks);
	ksft_print_msg("%lu young at rest, %lu wrongly old, %lu wrongly young\n", busy, missed,
		       invented);
	ksft_test_result(!locks, "%s: aging does without mmu_lock\n", paging->name);
	ksft_test_result(!busy, "%s: memory at rest is old\n", paging->name);
	ksft_test_result(!missed && !invented,
			 "%s: what the guest used is young, and no other\n", paging->name);
}

static void log_round(uint64_t round)
{
	unsigned long *log = bitmap_zalloc(NR_PAGES);
	uint64_t page, missed = 0, invented = 0;
	long clear_locks, locks;

	TEST_ASSERT(log, "Out of memory");
	clear_locks = aging_mmu_lock_write_acquisitions();
	kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
	clear_locks = aging_mmu_lock_write_acquisitions() - clear_locks;

	locks = aging_mmu_lock_write_acquisitions();
	touch_pages(round);
	locks = aging_mmu_lock_write_acquisitions() - locks;

	kvm_vm_get_dirty_log(vm, TEST_SLOT, log);
	for (page = 0; page < NR_PAGES; page++) {
		bool written = pattern(page, round) == TOUCH_WRITE;

		missed += written && !test_bit(page, log);
		invented += !written && test_bit(page, log);
	}
	ksft_print_msg("mmu_lock taken for write %ld times to clear, %ld by the guest\n",
		       clear_locks, locks);
	ksft_print_msg("%lu wrongly clean, %lu wrongly dirty\n", missed, invented);
	ksft_test_result(!clear_locks, "%s: the log is cleared without mmu_lock for write\n",
			 paging->name);
	ksft_test_result(!locks, "%s: and so are the faults that follow\n", paging->name);
	ksft_test_result(!missed && !invented,
			 "%s: what the guest wrote is in the log, and no other\n", paging->name);
	free(log);
}

static void test_paging(void)
{
	uint64_t round, page, nr = 0;

	create_vm();
	map_pages();
	__TEST_REQUIRE(aging_mmu_lock_acquisitions() > 0, "lock_stat does not know mmu_lock");
	for (page = 0; page < NR_PAGES; page++)
		nr += *(uint32_t *)addr_gpa2hva(vm, TEST_MEM + page * PAGE_SIZE) ==
		      (page_gva(page) | 1);
	ksft_print_msg("%lu of %d pages written\n", nr, NR_PAGES);
	ksft_test_result(nr == NR_PAGES, "%s: the guest writes where its tables say\n",
			 paging->name);

	for (round = 0; round < ROUNDS; round++)
		age_round(round);

	vm_mem_region_set_flags(vm, TEST_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	/* Have KVM map all pages, as 4 KiB pages: after that, only writes to clean pages fault. */
	map_pages();
	for (round = 0; round < ROUNDS; round++)
		log_round(round);
	kvm_vm_free(vm);
}

/*
 * To load a root, KVM takes a shadow page for each directory, and a block of counts for each
 * BLOCK that has a directory, all from one cache that KVM fills before.  The number of blocks
 * changes from root to root, so that the cache is left with different numbers of objects.  If
 * the cache is ever too small, KVM warns.
 */
static void test_roots(void)
{
	uint64_t gib, root, directory, nr = 0;
	struct kvm_sregs sregs;

	create_vm();
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, ROOTS_MEM, ROOTS_SLOT,
				    NR_ROOTS * NR_GIB * BLOCK / PAGE_SIZE, 0);
	vcpu_sregs_get(vcpu, &sregs);

	for (root = 0; root < NR_ROOTS; root++) {
		uint32_t *list = addr_gpa2hva(vm, LIST);

		sregs.cr3 += 32;
		for (gib = 0; gib < NR_GIB; gib++) {
			directory = ROOTS_MEM + root * NR_GIB * BLOCK + gib * PAGE_SIZE +
				    gib % (root % NR_GIB + 1) * BLOCK;
			memcpy(addr_gpa2hva(vm, directory),
			       addr_gpa2hva(vm, DIRECTORIES + gib * PAGE_SIZE), PAGE_SIZE);
			set_entry(sregs.cr3, gib, directory | PTE_PRESENT_MASK);
			*list++ = page_gva(gib * PAGES_PER_GIB + root) | 1;
		}
		*list = 0;
		vcpu_sregs_set(vcpu, &sregs);
		run_guest();
		for (gib = 0; gib < NR_GIB; gib++) {
			uint64_t page = gib * PAGES_PER_GIB + root;

			nr += *(uint32_t *)addr_gpa2hva(vm, TEST_MEM + page * PAGE_SIZE) ==
			      (page_gva(page) | 1);
		}
	}
	ksft_test_result(nr == NR_ROOTS * NR_GIB, "%s: %d roots\n", paging->name, NR_ROOTS);
	kvm_vm_free(vm);
}

int main(void)
{
	const char *why;
	int i;

	ksft_print_header();
	why = page_idle_open(&idle);
	__TEST_REQUIRE(!why, "%s", why);
	ksft_set_plan(ARRAY_SIZE(pagings) * CHECKS + 2);
	for (i = 0; i < ARRAY_SIZE(pagings); i++) {
		paging = &pagings[i];
		test_paging();
		if (paging->pae)
			test_roots();
	}
	page_idle_close(&idle);
	ksft_finished();
}
