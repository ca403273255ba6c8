// SPDX-License-Identifier: GPL-2.0-only
/* Trackers of guest writes, see track_util.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/compiler.h>

#include "processor.h"
#include "test_util.h"
#include "track_util.h"

#define TRACKER		"/sys/kernel/debug/kvm_track_test"

/* Longer than a line that the module returns, see track_test.c. */
#define LINE_SIZE	80

const char *track_supported(void)
{
	if (access(TRACKER, R_OK | W_OK))
		return "No " TRACKER ": is kvm-track-test.ko loaded, and debugfs mounted?";
	return NULL;
}

int track_open(void)
{
	int tracker = open(TRACKER, O_RDWR);

	TEST_ASSERT(tracker >= 0, "Failed to open " TRACKER);
	return tracker;
}

static int __printf(2, 3) command(int tracker, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);

	return write(tracker, line, len) == len ? 0 : -errno;
}

int track_register(int tracker, struct kvm_vm *vm)
{
	return command(tracker, "register %d", vm->fd);
}

int track_unregister(int tracker)
{
	return command(tracker, "unregister");
}

int track_page(int tracker, uint64_t gpa)
{
	return command(tracker, "track %llu", gpa / PAGE_SIZE);
}

int track_untrack_page(int tracker, uint64_t gpa)
{
	return command(tracker, "untrack %llu", gpa / PAGE_SIZE);
}

int64_t track_cost(int tracker, struct kvm_vm *vm, uint64_t gpa, uint64_t nr)
{
	struct track_event event;
	int r = command(tracker, "cost %d %llu %lu", vm->fd, gpa / PAGE_SIZE, nr);

	if (r)
		return r;
	TEST_ASSERT(track_read(tracker, &event, 1) == 1 && event.type == TRACK_COST,
		    "The tracker does not say what it cost");
	return event.value;
}

static struct track_event parse_event(const char *line)
{
	struct track_event event = {};

	if (sscanf(line, "write %li %d %li", &event.where, &event.bytes, &event.value) == 3)
		event.type = TRACK_WRITE;
	else if (sscanf(line, "remove %li %lu", &event.where, &event.value) == 2)
		event.type = TRACK_REMOVE;
	else if (sscanf(line, "cost %lu", &event.value) == 1)
		event.type = TRACK_COST;
	else if (sscanf(line, "lost %lu", &event.value) == 1)
		event.type = TRACK_LOST;
	else
		TEST_FAIL("Unknown event of the tracker: '%s'", line);
	return event;
}

size_t track_read(int tracker, struct track_event *events, size_t max)
{
	char line[LINE_SIZE + 1];
	size_t nr = 0;
	ssize_t len;

	while (nr < max && (len = read(tracker, line, LINE_SIZE))) {
		TEST_ASSERT(len > 0, "Failed to read the tracker's events");
		line[len] = 0;
		events[nr++] = parse_event(line);
	}
	return nr;
}

long track_bytes(struct kvm_vm *vm)
{
	char path[128];
	long bytes;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/write_track_bytes", getpid(),
		 vm->fd);
	file = fopen(path, "r");
	if (!file)
		return -1;
	TEST_ASSERT(fscanf(file, "%ld", &bytes) == 1, "%s has no number", path);
	fclose(file);
	return bytes;
}
