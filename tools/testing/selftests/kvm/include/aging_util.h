/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Aging of this process's memory on demand, for tests of KVM's young notifiers.
 *
 * Userspace can trigger the clear_young notifier in two ways:
 *
 * - page_idle asks and answers about single pages, but needs
 *   CONFIG_IDLE_PAGE_TRACKING, which distributions leave off.
 * - MGLRU, through debugfs, walks the page tables of a whole memcg and answers
 *   with page counts per generation, on any kernel that has MGLRU.
 */
#ifndef SELFTEST_KVM_AGING_UTIL_H
#define SELFTEST_KVM_AGING_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The files behind page_idle, from page_idle_open() to page_idle_close(). */
struct page_idle {
	int bitmap_fd;
	int pagemap_fd;
};

/*
 * Open page_idle.  Returns NULL on success, else the reason why not, a string
 * that stays valid.
 */
const char *page_idle_open(struct page_idle *idle);
void page_idle_close(struct page_idle *idle);

/*
 * The frame behind a host address of this process.  Returns 0 if no frame is
 * mapped there, or if it is one of the last frames of memory, for which
 * page_idle has no answer.
 */
uint64_t page_idle_pfn(struct page_idle *idle, const void *hva);

/*
 * Clear young in every mapping of the frames and mark the frames idle.  The
 * kernel ignores frames that are not on an LRU list, and tail pages.  Frame 0 is
 * skipped.
 */
void page_idle_mark(struct page_idle *idle, const uint64_t *pfns, size_t nr);

/*
 * Which of the frames were not accessed since page_idle_mark()?  The kernel
 * clears young once more to find out.  A frame that was accessed is not idle
 * until it is marked again.
 *
 * The kernel answers for the 64 frames of one word at a time.  Both functions
 * ask once for frames of one word that follow each other in @pfns.
 * For frame 0, @is_idle is left as it is.
 */
void page_idle_test(struct page_idle *idle, const uint64_t *pfns, size_t nr, bool *is_idle);

/*
 * Put every page that waits in a per-CPU batch on its LRU list: page_idle and
 * the counts of MGLRU do not see a page in a batch.  This also drops the clean
 * page cache of the whole system.
 */
void aging_drain_lru(void);

#define AGING_MAX_NODES	64

/* What MGLRU says about the memcg of this process at one moment. */
struct aging_lru {
	int nr_nodes;
	struct {
		int nid;
		unsigned long max_seq;
		/* Anonymous pages of the second youngest generation. */
		unsigned long anon_aged;
	} nodes[AGING_MAX_NODES];
};

/*
 * Move this process to a memcg of its own and find that memcg in MGLRU.
 * Returns NULL on success, else the reason why not, a string that stays valid.
 * Call this once, before any other thread exists, and before the memory to be
 * aged is allocated: pages stay charged to the memcg that touched them first.
 * exit() removes the memcg.
 */
const char *aging_lru_setup(void);

/*
 * aging_lru_leave() moves this process back to the memcg that it came from, and
 * aging_lru_enter() to that of aging_lru_setup() again.  A page that the process
 * touches first in between is charged to the old memcg, and is not aged with the rest.
 */
void aging_lru_leave(void);
void aging_lru_enter(void);

/* Read the state of the memcg. */
void aging_lru_read(struct aging_lru *lru);

/*
 * Run one aging pass over every node, from the state that was read last.  If
 * that state is out of date, the pass does nothing.
 */
void aging_lru_pass(const struct aging_lru *lru);

/* Read the state and run one pass. */
void aging_lru_read_and_pass(void);

/*
 * How many anonymous pages the last pass found young, plus those that were
 * faulted in between that pass and the one before.  The walk moves young pages
 * to the generation that is the youngest when the walk begins, and opens a new
 * generation when the walk ends.
 */
unsigned long aging_lru_young(void);

/*
 * With @on, passes walk page tables, as they do at first.  Without, a pass only opens
 * a new generation.  This changes the whole system, until this process exits, which
 * turns the walk on again.  Call aging_lru_setup() before.
 */
void aging_lru_walk(bool on);

/*
 * Evict the anonymous pages of this process that are older than the two youngest
 * generations.  Pages that something holds stay.  Pages that the last pass found young
 * are in the second youngest generation, and stay, too.
 */
void aging_lru_evict_old(void);

/* The AnonHugePages of the mapping that holds @hva, in bytes. */
uint64_t aging_huge_bytes(void *hva);

/* A positive decimal number, or 0 if @arg is anything else. */
unsigned long aging_parse_positive(const char *arg);

/*
 * How often all VMs took mmu_lock since boot: for read or for write, or for write
 * alone.
 * Returns -1 without CONFIG_LOCK_STAT, or if mmu_lock was never taken.
 */
long aging_mmu_lock_acquisitions(void);
long aging_mmu_lock_write_acquisitions(void);

/*
 * How many faults KVM has fixed without mmu_lock, in all VMs that exist now.
 * Returns -1 if debugfs does not say.
 */
long aging_fast_faults(void);

/*
 * A count of what aging did since KVM was loaded, by its name in kvm/age of debugfs.
 * Returns -1 without that file or name: a KVM that ages with mmu_lock has neither.
 */
long aging_stat(const char *key);

/* The same of clears of the dirty log, by its name in kvm/dirty_log. */
long aging_dirty_log_stat(const char *key);

/* The same of page faults, by its name in kvm/fast_page_fault. */
long aging_fault_stat(const char *key);

/*
 * Read which memory the guest of this process's VM @vm_fd touched, by opening the VM's file @name
 * in debugfs: "working_set" or "working_set_bitmap".  The file shows it until it is closed.
 * Returns -1 with errno if the VM has no such file, or on other errors of open().
 */
int aging_open_working_set(int vm_fd, const char *name);

#endif
