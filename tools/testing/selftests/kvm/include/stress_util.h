/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What stress tests share: threads that each do one thing to the memory of a guest, over
 * and over.  They run until the time is up and each has finished at least one operation.
 */
#ifndef SELFTEST_KVM_STRESS_UTIL_H
#define SELFTEST_KVM_STRESS_UTIL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/*
 * One of the threads.  A test has an array of workers, and the last one has no name.
 * A worker is enabled until stress_disable() or stress_leave_out().
 */
struct stress_worker {
	/* The user leaves the worker out by this letter.  0: the test needs the worker. */
	char letter;
	/* What the worker counts. */
	const char *name;
	/* Takes the worker.  Returns NULL soon after stress_stopping() is true. */
	void *(*fn)(void *worker);

	bool disabled;
	pthread_t thread;
	/* Written by the thread alone. */
	uint64_t count;
};

/* Is the worker enabled?  False if no worker has the letter. */
bool stress_enabled(struct stress_worker *workers, char letter);

/* Leave a worker out, and print why, unless the worker is left out already. */
void stress_disable(struct stress_worker *workers, char letter, const char *why);

/* Leave out the workers of @letters, for the user; false if a letter has no worker. */
bool stress_leave_out(struct stress_worker *workers, const char *letters);

/* A worker calls this each time that it has finished an operation. */
void stress_count(struct stress_worker *worker);

bool stress_stopping(void);

/*
 * Run all enabled workers for @seconds, and then until each has counted to one: a slow host
 * is no failure, and the harness finds a hung one.  @unfinished, if not NULL, returns true
 * to ask for more time, and prints what for if its argument is true.  Call this once in a
 * process.
 */
void stress_run(struct stress_worker *workers, unsigned long seconds,
		bool (*unfinished)(bool print));

/* A step of splitmix64, for host and guest: good enough to choose places. */
static inline uint64_t stress_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

#endif
