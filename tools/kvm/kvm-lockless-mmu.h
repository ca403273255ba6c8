/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_LOCKLESS_MMU_H
#define KVM_LOCKLESS_MMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KVM_DEBUGFS	"/sys/kernel/debug/kvm"

/* Exit statuses: success, no KVM of the series, and wrong arguments or what could not be read. */
enum { EXIT_OK, EXIT_NOT_OURS, EXIT_ERROR };

/* Prints the message, and ends with EXIT_ERROR. */
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *fmt, ...);

/* Does the loaded KVM, if any, say that it is the series'? */
bool kvm_is_ours(void);

/* The string as JSON has it, in quotes. */
void json_string(const char *string);

/* The command wss: returns an exit status.  argv[0] is the command's name. */
int wss(int argc, char **argv);

/* A picture: which of a VM's memory was touched, over time. */
struct wss_map;

/*
 * A map that will be written to @path.  Dies if it cannot be created, so that nothing is watched
 * in vain.
 */
struct wss_map *wss_map_open(const char *path);
/* In the pass that is made now, the VM has memory at gfns [@gfn, @gfn + @pages). */
void wss_map_memory(struct wss_map *map, uint64_t gfn, uint64_t pages);
/* In this pass, @pages of the 64 from @gfn on were touched. */
void wss_map_touched(struct wss_map *map, uint64_t gfn, unsigned int pages);
/* The pass is done: it told what was touched from @begin to @end, in seconds. */
void wss_map_pass(struct wss_map *map, double begin, double end);
/* Or it told nothing, and the map is as it was before. */
void wss_map_drop(struct wss_map *map);
/*
 * Writes the map under its name, which is an existing file's until then, and frees it.  Dies if
 * that fails, or if there was no pass.
 */
void wss_map_write(struct wss_map *map, const char *vm);

#endif
