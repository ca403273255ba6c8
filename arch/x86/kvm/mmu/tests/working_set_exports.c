// SPDX-License-Identifier: GPL-2.0-only
/* What the suite of the working set needs of kvm.ko, see kunit_exports.c. */
#include <kunit/visibility.h>

#include <linux/export.h>

#include "mmu/working_set.h"

/* As there, away from the definitions. */
#define EXPORT_TO_SUITES(symbol) EXPORT_SYMBOL_IF_KUNIT(symbol)

EXPORT_TO_SUITES(kvm_working_set_was_read);
EXPORT_TO_SUITES(kvm_working_set_read_slot);
