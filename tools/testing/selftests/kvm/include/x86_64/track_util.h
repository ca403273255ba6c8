/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trackers of guest writes, for tests.  kvm-track-test.ko registers with KVM as KVMGT does,
 * see arch/x86/kvm/mmu/tests/track_test.c.
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
	/* TRACK_WRITE: the address.  TRACK_REMOVE: the first gfn of the memslot. */
	uint64_t where;
	/*
	 * TRACK_WRITE: the value that the guest wrote.  TRACK_REMOVE: pages of the memslot.
	 * TRACK_COST: nanoseconds.  TRACK_LOST: the number of lost events.
	 */
	uint64_t value;
	/* TRACK_WRITE alone. */
	int bytes;
};

/* NULL if a test can use trackers, else the reason why not. */
const char *track_supported(void);

/* Open a tracker, which is not registered yet.  close() closes it. */
int track_open(void);

/* Each returns 0, or the error as a negative number. */
int track_register(int tracker, struct kvm_vm *vm);
int track_unregister(int tracker);
int track_page(int tracker, uint64_t gpa);
int track_untrack_page(int tracker, uint64_t gpa);

/*
 * Ask KVM @nr times whether a page of the VM is tracked.  Returns how many nanoseconds that
 * took, or a negative error.
 */
int64_t track_cost(int tracker, struct kvm_vm *vm, uint64_t gpa, uint64_t nr);

/* Take at most @max of the events that the tracker has queued. */
size_t track_read(int tracker, struct track_event *events, size_t max);

/* How many bytes KVM takes to track writes of the VM, or -1 if KVM does not say. */
long track_bytes(struct kvm_vm *vm);

#endif
