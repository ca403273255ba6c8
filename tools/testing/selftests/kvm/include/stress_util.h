/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What stress tests share: threads that each do one thing to the memory of a guest, over
 * and over, until the test has run for long enough, and each has got somewhere.
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
 * One of the threads.  They are passed as an array, which ends with one without a name.
 * To be there is to be enabled, until somebody disables it.
 */
struct stress_worker {
	/* By which the user leaves it out, or 0 if the test is none without it. */
	char letter;
	/* What it counts. */
	const char *name;
	/* Gets the worker, and returns NULL soon after stress_stopping(). */
	void *(*fn)(void *worker);

	bool disabled;
	pthread_t thread;
	/* Written by the thread alone. */
	uint64_t count;
};

/* Whether a worker is enabled; false for a letter that none has. */
bool stress_enabled(struct stress_worker *workers, char letter);

/* Leave a worker out, and tell why, if it is not left out already. */
void stress_disable(struct stress_worker *workers, char letter, const char *why);

/* Leave out all workers of @letters, as the user wants; false if there is no such worker. */
bool stress_leave_out(struct stress_worker *workers, const char *letters);

/* By a worker: it has done what it does once more. */
void stress_count(struct stress_worker *worker);

bool stress_stopping(void);

/*
 * Run all that are enabled for @seconds, and then as long as it takes each to count one:
 * a slow host is no failure, and a hung one is for the harness to find.  @unfinished, if
 * not NULL, may ask for more time, and says what for if its argument is true.  Once in a
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
