/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fork. A child has one thread, but inherits liburcu's list of readers (of which all but one are
 * gone, some for ever "inside a section") and its locks (perhaps held by a thread that is gone).
 * liburcu's own handlers repair both, at the price of taking its locks before the fork. That blocks
 * while another thread is in synchronize(), and for ever when the forking thread is itself inside a
 * read section: a host may well fork in a callback of ours, and a loop turn is one section. So the
 * handler looks first (sync_lock is ours, held around every synchronize). In the one case that would
 * never end, the child goes on without RCU: it frees nothing and needs no sections.
 */
#include "base/rcu.h"

#include <pthread.h>

#include "base/mem.h"

bool sn__rcu_off;
#ifdef SN_RCU_TSAN
char sn__rcu_tag;
#endif

static pthread_mutex_t sync_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
/* Of the forking thread, because the C library does not keep two forks apart. */
static _Thread_local bool fork_prepared;

static void before_fork(void)
{
	if (sn__rcu_off)
		return;
	if (pthread_mutex_trylock(&sync_lock) != 0) {
		if (sn_rcu_reading())
			return; /* the other waits for our section to end, and we would for it */
		(void)pthread_mutex_lock(&sync_lock);
	}
	urcu_bp_before_fork();
	fork_prepared = true;
}

static void after_fork_parent(void)
{
	if (!fork_prepared)
		return;
	fork_prepared = false;
	urcu_bp_after_fork_parent();
	(void)pthread_mutex_unlock(&sync_lock);
}

static void after_fork_child(void)
{
	if (sn__rcu_off)
		return;
	if (!fork_prepared) {
		sn__rcu_off = true;
		return;
	}
	fork_prepared = false;
	urcu_bp_after_fork_child();
	(void)pthread_mutex_unlock(&sync_lock);
}

static void init(void)
{
	(void)pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

void sn__rcu_init(void)
{
	(void)pthread_once(&once, init);
}

bool sn__rcu_synchronize(void)
{
	assert(!sn_rcu_reading());
	if (sn__rcu_off)
		return false;
	(void)pthread_mutex_lock(&sync_lock);
	urcu_bp_synchronize_rcu();
	(void)pthread_mutex_unlock(&sync_lock);
#ifdef SN_RCU_TSAN
	__tsan_acquire(&sn__rcu_tag);
#endif
	return true;
}

void sn__rcu_free_batch_now(struct sn_rcu_batch *batch)
{
	struct sn_rcu_head *head = batch->first;

	*batch = (struct sn_rcu_batch){0};
	while (head != NULL) {
		struct sn_rcu_head *next = head->next;

		head->free(head);
		head = next;
	}
}

void sn__rcu_free_batch(struct sn_rcu_batch *batch)
{
	if (batch->first == NULL)
		return;
	if (sn__rcu_synchronize())
		sn__rcu_free_batch_now(batch);
	else
		*batch = (struct sn_rcu_batch){0};
}
