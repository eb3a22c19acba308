/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_RCU_H
#define SN_SRC_BASE_RCU_H

/*
 * Internal. Read-copy-update; the only user of liburcu (bp flavour: threads register themselves).
 * Readers never block and never wait; who replaces a published object retires the old one, and
 * frees retired ones in batches off the loop, after one sn__rcu_synchronize(). No call_rcu: it
 * starts a hidden thread, and dies after fork.
 *
 * A published pointer is an _Atomic(struct x *): written by sn_rcu_publish(), read by
 * sn_rcu_dereference() inside a read section, good until the section ends.
 */

#include <stdatomic.h>
#include <stdbool.h>

#if defined(__SANITIZE_THREAD__)
#define SN_RCU_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define SN_RCU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SN_RCU_TSAN 1
#elif __has_feature(address_sanitizer)
#define SN_RCU_ASAN 1
#endif
#endif

/* Read sections inline: the functions meant for this are marked so in the header (under ten lines,
 * for use in any code). Not where UBSan would see that liburcu places its own reader object at less
 * than its declared alignment. */
#ifndef SN_RCU_ASAN
#define _LGPL_SOURCE 1
#endif
#include <urcu/urcu-bp.h>

/* Set in a child whose fork() came where liburcu could not be made ready for it: nothing is freed
 * in it any more, so that reading needs no marks. */
extern bool sn__rcu_off;
#ifdef SN_RCU_TSAN
extern char sn__rcu_tag;
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#endif

/** Before the first use of everything below (who makes an object that is published calls it).
 * Installs the fork handlers once. Any thread. */
void sn__rcu_init(void);

/** Sections nest. Never block or wait in one. Any thread. */
static inline void sn_rcu_read_lock(void)
{
	if (!sn__rcu_off)
		urcu_bp_read_lock();
}

static inline void sn_rcu_read_unlock(void)
{
#ifdef SN_RCU_TSAN
	__tsan_release(&sn__rcu_tag); /* what was read happened before the end of a grace period */
#endif
	if (!sn__rcu_off)
		urcu_bp_read_unlock();
}

/** Whether the calling thread is inside a read section (for assertions). */
static inline bool sn_rcu_reading(void)
{
	return !sn__rcu_off && urcu_bp_read_ongoing() != 0;
}

#define sn_rcu_dereference(slot) atomic_load_explicit((slot), memory_order_acquire)
#define sn_rcu_publish(slot, value) atomic_store_explicit((slot), (value), memory_order_release)

/**
 * Wait until every read section open now has ended. Off the loop; never inside a read section.
 * Returns false in a child in which that cannot be known: then nothing retired may be freed.
 */
bool sn__rcu_synchronize(void);

/* ---- retired objects ---- */

/** Lies in every object that is published. */
struct sn_rcu_head {
	struct sn_rcu_head *next;
	void (*free)(struct sn_rcu_head *head);
};
/** A list of retired objects: {NULL} is the empty one. */
struct sn_rcu_batch {
	struct sn_rcu_head *first;
	size_t n;
};

/** Put an object that no later reader can find into the list; cannot fail. */
static inline void sn_rcu_retire(struct sn_rcu_batch *batch, struct sn_rcu_head *head,
		void (*free_fn)(struct sn_rcu_head *head))
{
	head->free = free_fn;
	head->next = batch->first;
	batch->first = head;
	batch->n++;
}

/** Synchronize once, then free all of @batch and leave it empty. Where synchronize() cannot know,
 * the objects are left alone for good. Off the loop. */
void sn__rcu_free_batch(struct sn_rcu_batch *batch);
/** Free without waiting: when no reader can be there any more (teardown, single-threaded tests). */
void sn__rcu_free_batch_now(struct sn_rcu_batch *batch);

#endif
