/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Aging of this process's memory on demand, for tests of KVM's young notifiers.
 *
 * Two ways lead from userspace to the clear_young notifier:
 *
 * - page_idle: names single pages and answers for single pages, but wants
 *   CONFIG_IDLE_PAGE_TRACKING, which distributions leave off.
 * - MGLRU through debugfs: walks the page tables of a whole memcg and answers
 *   with page counts per generation, on any kernel that has MGLRU.
 */
#ifndef SELFTEST_KVM_AGING_UTIL_H
#define SELFTEST_KVM_AGING_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The files behind page_idle; owned by whoever called page_idle_open(). */
struct page_idle {
	int bitmap_fd;
	int pagemap_fd;
};

/*
 * Open page_idle.  Returns NULL when it can be used, else the reason why not,
 * a string that stays valid.
 */
const char *page_idle_open(struct page_idle *idle);
void page_idle_close(struct page_idle *idle);

/*
 * The frame behind a host address of this process; 0 if none is mapped, or if it
 * is one of the last few of memory, which page_idle cannot tell of.
 */
uint64_t page_idle_pfn(struct page_idle *idle, const void *hva);

/*
 * Clear young in every mapping of the frames and mark them idle.  The kernel
 * ignores frames that are not on an LRU list, and tail pages of huge ones.
 * Frame 0 is left out.
 */
void page_idle_mark(struct page_idle *idle, const uint64_t *pfns, size_t nr);

/*
 * Which of the frames have been left alone since page_idle_mark()?  The kernel
 * answers by clearing young once more, so what was accessed is not idle until
 * marked again.
 *
 * It also answers for 64 neighbours at a time.  Both functions join frames of
 * one such word if they follow each other in @pfns, which saves much.
 * For frame 0, @is_idle is left as it is.
 */
void page_idle_test(struct page_idle *idle, const uint64_t *pfns, size_t nr, bool *is_idle);

/*
 * Put every page that waits in a per-CPU batch on its LRU list; neither
 * page_idle nor the counts of MGLRU see it before.  Drops clean page cache of
 * the whole system on the way.
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
 * To be called once, before the memory to be aged is allocated, as pages stay
 * charged to the memcg that first touched them, and before any other thread
 * exists.  The memcg is removed when the process exits.
 */
const char *aging_lru_setup(void);

/*
 * Go back to the memcg that this process came from, and return.  What it touches for
 * the first time meanwhile belongs there, and is not aged with the rest.
 */
void aging_lru_leave(void);
void aging_lru_enter(void);

/* Read the state of the memcg. */
void aging_lru_read(struct aging_lru *lru);

/*
 * Run one aging pass over every node, starting from the state last read.  A
 * state that is out of date makes it a no-op.
 */
void aging_lru_pass(const struct aging_lru *lru);

/* Read the state and run one pass. */
void aging_lru_read_and_pass(void);

/*
 * How many anonymous pages the last pass found young, and how many were faulted
 * in before it and since the pass preceding it.  The walk moves young pages to
 * the generation that is the youngest when it begins, and opens a new one when
 * it ends.
 */
unsigned long aging_lru_young(void);

/*
 * Let passes walk page tables, as they do from the start, or have them open a new
 * generation only.  For the whole system, and until this process exits, which turns
 * it on again.  Wants aging_lru_setup() before.
 */
void aging_lru_walk(bool on);

/*
 * Evict the anonymous pages of this process that are older than the two youngest
 * generations, as far as nobody holds them.  What the last pass found young is in the
 * second youngest.
 */
void aging_lru_evict_old(void);

/* The AnonHugePages of the mapping that holds @hva, in bytes. */
uint64_t aging_huge_bytes(void *hva);

/* A positive decimal number, or 0 if @arg is anything else. */
unsigned long aging_parse_positive(const char *arg);

/*
 * How often mmu_lock was taken since boot, by all VMs, for read or for write, or for
 * write alone.
 * Returns -1 without CONFIG_LOCK_STAT, or before it was ever taken.
 */
long aging_mmu_lock_acquisitions(void);
long aging_mmu_lock_write_acquisitions(void);

/*
 * How many faults KVM has fixed without mmu_lock, of all VMs that there are now.
 * Returns -1 if debugfs does not say so.
 */
long aging_fast_faults(void);

/*
 * What aging did since KVM was loaded, by a name in its debugfs file.  Returns -1 if
 * the file or the name is not there, as with a KVM that ages with mmu_lock.
 */
long aging_stat(const char *key);

#endif
