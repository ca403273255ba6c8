// SPDX-License-Identifier: GPL-2.0-only
/* What the suite of the dirty log needs of kvm.ko, see kunit_exports.c. */
#include <kunit/visibility.h>

#include <linux/export.h>
#include <linux/kvm_host.h>

#include "mmu/fast_page_fault.h"

/* As there, away from the definitions. */
#define EXPORT_TO_SUITES(symbol) EXPORT_SYMBOL_IF_KUNIT(symbol)

EXPORT_TO_SUITES(kvm_x86_ops);
EXPORT_TO_SUITES(kvm_fault_wait_read_lock);
EXPORT_TO_SUITES(kvm_fault_wait_write_lock);
EXPORT_TO_SUITES(kvm_fault_waited_ns);
EXPORT_TO_SUITES(kvm_arch_mmu_enable_log_dirty_range);
