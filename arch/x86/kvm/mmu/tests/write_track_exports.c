// SPDX-License-Identifier: GPL-2.0-only
/* What the suite of write tracking needs of kvm.ko, see kunit_exports.c. */
#include <kunit/visibility.h>

#include <linux/export.h>

#include "mmu/write_track.h"

/* As there, away from the definitions. */
#define EXPORT_TO_SUITES(symbol) EXPORT_SYMBOL_IF_KUNIT(symbol)

EXPORT_TO_SUITES(write_counts_create);
EXPORT_TO_SUITES(write_counts_free);
EXPORT_TO_SUITES(write_counts_add);
EXPORT_TO_SUITES(write_counts_remove);
EXPORT_TO_SUITES(write_counts_test);
EXPORT_TO_SUITES(write_counts_bytes);
EXPORT_TO_SUITES(write_counts_block);
