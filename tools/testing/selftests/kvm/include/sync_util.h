/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_SYNC_UTIL_H
#define SELFTEST_KVM_SYNC_UTIL_H

#include <errno.h>
#include <stdint.h>

#include "kvm_util.h"
#include "test_util.h"
#include "ucall_common.h"

/*
 * The first argument of the guest's GUEST_SYNC(), for which @vcpu has exited.  Any other exit fails
 * the test, with what the guest has to say about it.
 */
static inline uint64_t vcpu_sync_arg(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	/* An old EACCES would turn a failed assertion into a skip. */
	errno = 0;
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		return uc.args[0];
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected exit: %s", exit_reason_str(vcpu->run->exit_reason));
	}
}

#endif
