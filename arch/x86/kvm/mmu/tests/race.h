/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MMU_TESTS_RACE_H
#define __KVM_X86_MMU_TESTS_RACE_H

#include <kunit/test.h>

#include <linux/compiler.h>
#include <linux/cpumask.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/smp.h>

/*
 * Delay for a varying time, so that the other CPU may write in between.  Not with cpu_relax(): it
 * takes an emulated CPU longer than the whole window is wide.
 */
static inline void kvm_race_delay(unsigned long round)
{
	unsigned long n = round * 7 % 64;

	while (n--)
		barrier();
	cond_resched();
}

/*
 * Start a thread on another CPU than the case (if there is one), so that the scheduler does not run
 * the two in turns.  KUnit runs each case in its own thread, so the case need not restore its
 * affinity.  Do not assert before kthread_stop(): the thread uses memory of the case.
 */
static inline struct task_struct *kvm_race_start(struct kunit *test,
						 int (*threadfn)(void *data),
						 void *data, const char *name)
{
	struct task_struct *task;
	unsigned int cpu, other;

	task = kthread_create(threadfn, data, "%s", name);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);

	cpu = raw_smp_processor_id();
	other = cpumask_any_but(cpu_online_mask, cpu);
	if (other < nr_cpu_ids) {
		set_cpus_allowed_ptr(current, cpumask_of(cpu));
		kthread_bind(task, other);
	}

	wake_up_process(task);
	return task;
}

/*
 * Has the race lasted long enough?  Yes, if the threads met @often times.  After some seconds, @min
 * times are enough: in a guest of a busy host, they seldom run at the same time.  A time limit ends
 * the race in any case.  @begin is in jiffies.
 */
static inline bool kvm_race_is_over(unsigned long begin, unsigned long met,
				    unsigned long often, unsigned long min)
{
	if (met >= often)
		return true;
	if (time_before(jiffies, begin + 3 * HZ))
		return false;
	return met >= min || time_after(jiffies, begin + 20 * HZ);
}

#endif
