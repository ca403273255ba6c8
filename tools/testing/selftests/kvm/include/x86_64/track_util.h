/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trackers of guest writes, for tests: what KVMGT is, by kvm-track-test.ko, see
 * arch/x86/kvm/mmu/tests/track_test.c.
 */
#ifndef SELFTEST_KVM_TRACK_UTIL_H
#define SELFTEST_KVM_TRACK_UTIL_H

#include <stddef.h>
#include <stdint.h>

#include "kvm_util.h"

struct track_event {
	enum {
		TRACK_WRITE,
		TRACK_REMOVE,
		TRACK_COST,
		TRACK_LOST,
	} type;
	/* Of a write: its address.  Of a removed memslot: its first gfn. */
	uint64_t where;
	/* What was written; pages of the memslot; nanoseconds; lost events. */
	uint64_t value;
	/* Of a write. */
	int bytes;
};

/* NULL if there can be trackers, else the reason why not. */
const char *track_supported(void);

/* A tracker that is not registered yet, to be closed with close(). */
int track_open(void);

/* Each returns 0, or the error as a negative number. */
int track_register(int tracker, struct kvm_vm *vm);
int track_unregister(int tracker);
int track_page(int tracker, uint64_t gpa);
int track_untrack_page(int tracker, uint64_t gpa);

/*
 * How many nanoseconds it takes KVM to say @nr times whether a page of the VM is tracked,
 * or an error.
 */
int64_t track_cost(int tracker, struct kvm_vm *vm, uint64_t gpa, uint64_t nr);

/* Take at most @max of the events that have happened. */
size_t track_read(int tracker, struct track_event *events, size_t max);

/* The memory that KVM takes to track writes of the VM, or -1 if it does not say. */
long track_bytes(struct kvm_vm *vm);

#endif
