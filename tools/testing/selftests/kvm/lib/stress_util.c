// SPDX-License-Identifier: GPL-2.0-only
#include <time.h>
#include <unistd.h>

#include <linux/compiler.h>

#include "stress_util.h"
#include "test_util.h"

/* Seconds between two lines that say what the test still waits for. */
#define REPORT_PERIOD	10

static bool stop;

bool stress_stopping(void)
{
	return READ_ONCE(stop);
}

void stress_count(struct stress_worker *worker)
{
	WRITE_ONCE(worker->count, worker->count + 1);
}

static struct stress_worker *worker_of(struct stress_worker *workers, char letter)
{
	for (; workers->name; workers++) {
		if (letter && workers->letter == letter)
			return workers;
	}
	return NULL;
}

bool stress_enabled(struct stress_worker *workers, char letter)
{
	struct stress_worker *worker = worker_of(workers, letter);

	return worker && !worker->disabled;
}

void stress_disable(struct stress_worker *workers, char letter, const char *why)
{
	struct stress_worker *worker = worker_of(workers, letter);

	if (!worker->disabled)
		ksft_print_msg("no %s: %s\n", worker->name, why);
	worker->disabled = true;
}

bool stress_leave_out(struct stress_worker *workers, const char *letters)
{
	struct stress_worker *worker;

	for (; *letters; letters++) {
		worker = worker_of(workers, *letters);
		if (!worker)
			return false;
		worker->disabled = true;
	}
	return true;
}

/* Has any worker not finished its first operation yet? */
static bool workers_unfinished(struct stress_worker *workers, bool print)
{
	bool ret = false;

	for (; workers->name; workers++) {
		if (workers->disabled || READ_ONCE(workers->count))
			continue;
		ret = true;
		if (print)
			ksft_print_msg("waiting for the first of %s\n", workers->name);
	}
	return ret;
}

void stress_run(struct stress_worker *workers, unsigned long seconds,
		bool (*unfinished)(bool print))
{
	struct stress_worker *worker;
	struct timespec start;
	unsigned long elapsed;
	bool print, wait;

	for (worker = workers; worker->name; worker++) {
		if (!worker->disabled)
			pthread_create(&worker->thread, NULL, worker->fn, worker);
	}

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		sleep(1);
		elapsed = timespec_elapsed(start).tv_sec;
		print = elapsed >= seconds && elapsed % REPORT_PERIOD == 0;
		wait = workers_unfinished(workers, print);
		if (unfinished)
			wait |= unfinished(print);
	} while (elapsed < seconds || wait);

	WRITE_ONCE(stop, true);
	for (worker = workers; worker->name; worker++) {
		if (!worker->disabled)
			pthread_join(worker->thread, NULL);
	}
}
