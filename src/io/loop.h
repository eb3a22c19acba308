/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_LOOP_H
#define SN_SRC_IO_LOOP_H

/*
 * Internal. The loop: all time, randomness, readiness, name resolution and off-loop work pass
 * through it, so that the same program runs on libuv (loop_uv.c) and on a deterministic simulation
 * (loop_sim.c: virtual clock, in-memory network, seeded randomness).
 *
 * Threads: everything here is called on the loop's own thread, except sn__loop_post() (any thread).
 * Nodes (timers, posts, defers, jobs, polls) are embedded in the operation that uses them, so that
 * starting one cannot fail unless its function says so.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <sinew/base.h>
#include "base/error.h"
#include "base/list.h"
#include "base/random.h"
#include "base/str.h"
#include "base/time.h"

struct sn_loop;
struct uv_loop_s;

/* ---- opening, running, closing ---- */

/** A loop of its own on libuv, or inside the host's (@host not NULL: the host runs it). */
SN_MUST_USE int sn__loop_uv_open(struct uv_loop_s *host /* may be NULL */,
		struct sn_loop **ret_loop, struct sn_error *err);

/** How a turn ends. */
enum sn_run {
	SN_RUN_DEFAULT, /* until sn__loop_stop() or nothing is left that could ever happen */
	SN_RUN_ONCE,    /* wait for at least one event, then return */
	SN_RUN_NOWAIT,  /* what is ready now */
};
/** Not for host loops. Returns whether anything is still active. */
bool sn__loop_run(struct sn_loop *loop, enum sn_run mode);
void sn__loop_stop(struct sn_loop *loop);
/** SN_RUN_DEFAULT goes on although nothing is active, until sn__loop_stop(): for a loop that waits
 * for posts of other threads. A host's loop is kept alive. */
void sn__loop_hold(struct sn_loop *loop, bool hold);
/** Descriptor that becomes readable when sn__loop_run(NOWAIT) has work (foreign loops), and the
 * milliseconds until a timer is due (-1: none). SN_E_NOTSUP on the simulation. */
SN_MUST_USE int sn__loop_fd(struct sn_loop *loop);
int sn__loop_timeout_ms(struct sn_loop *loop);
/** Everything opened on it must be closed. On a host loop the handles close in its next turns:
 * @done (may be NULL on own loops, which are drained here) is called when the last is gone. */
void sn__loop_close(struct sn_loop *loop, void (*done)(void *arg), void *arg);
/** In a child after fork(): close descriptors and free what was opened on the loop (streams,
 * listeners, polls: none may be touched afterwards) without a word to anything shared with the
 * parent. When the fork met the loop's thread in the middle of a turn, and in a host's loop, memory
 * is left alone. */
void sn__loop_abandon(struct sn_loop *loop);

/** Whether the caller is on the loop's thread. Any thread. */
bool sn__loop_is_here(const struct sn_loop *loop);
/** The running thread takes the loop over (before its first run on that thread). */
void sn__loop_adopt(struct sn_loop *loop);

/* ---- time and randomness ---- */

/** The time of this turn, monotonic; read once a turn. Outside a turn (a host's own callback, before
 * the first run) the clock is read, and a turn is sure to follow. */
uint64_t sn__loop_now_ns(struct sn_loop *loop);
/** The clock read anew (durations inside a turn). Virtual on the simulation. */
uint64_t sn__loop_clock_ns(struct sn_loop *loop);
/** Nanoseconds since 1970. */
uint64_t sn__loop_wall_ns(struct sn_loop *loop);
struct sn_rng *sn__loop_rng(struct sn_loop *loop);
/** Number of turns so far. */
uint64_t sn__loop_turn(const struct sn_loop *loop);

/* ---- timers: one coarse wheel a loop, 10 ms slots; never early, late by at most a slot ---- */

struct sn_timer;
typedef void sn_timer_fn(struct sn_timer *t);
struct sn_timer {
	struct sn_list link; /* zero-initialised means not armed */
	uint64_t due_ns;
	sn_timer_fn *fn;
};
static inline bool sn_timer_armed(const struct sn_timer *t)
{
	return t->link.next != NULL && t->link.next != &t->link;
}
/** Arm or arm anew. @fn runs once, in a later turn. */
void sn__timer_start(struct sn_loop *loop, struct sn_timer *t, uint64_t delay_ns, sn_timer_fn *fn);
void sn__timer_stop(struct sn_loop *loop, struct sn_timer *t);

/* ---- the next turn, and other threads ---- */

struct sn_task;
typedef void sn_task_fn(struct sn_task *task);
struct sn_task {
	struct sn_task *next;
	struct sn_list link; /* for defer; zero-initialised means not queued */
	sn_task_fn *fn;
};
static inline bool sn_task_queued(const struct sn_task *task) /* by sn__loop_defer() */
{
	return task->link.next != NULL && task->link.next != &task->link;
}
/** Run @fn in the next turn (never before the caller returned). A task is queued at most once. */
void sn__loop_defer(struct sn_loop *loop, struct sn_task *task, sn_task_fn *fn);
void sn__loop_undefer(struct sn_loop *loop, struct sn_task *task);
/** Run @fn on the loop's thread. Any thread; cannot fail; wakes the loop. The task must stay valid
 * until it ran, and the loop until this has returned (@fn may run before). Order of one thread's
 * posts is kept. */
void sn__loop_post(struct sn_loop *loop, struct sn_task *task, sn_task_fn *fn);
/** Called once at the end of every turn, after all events (batched writes, catalog swaps). The
 * hook stays until removed. */
struct sn_hook {
	struct sn_list link;
	void (*fn)(struct sn_hook *hook);
};
void sn__loop_hook_add(struct sn_loop *loop, struct sn_hook *hook, void (*fn)(struct sn_hook *));
void sn__loop_hook_remove(struct sn_loop *loop, struct sn_hook *hook);

/* ---- work off the loop ---- */

struct sn_job;
struct sn_job {
	void (*work)(struct sn_job *job); /* helper thread; inline on the simulation */
	void (*done)(struct sn_job *job); /* loop thread, a later turn */
	struct sn_loop *loop;
	struct sn_task task;
	void *backend[20]; /* the back end's request lives here */
};
/** Cannot be taken back: @done always follows. SN_E_NOMEM. */
SN_MUST_USE int sn__loop_work(struct sn_loop *loop, struct sn_job *job,
		void (*work)(struct sn_job *), void (*done)(struct sn_job *));

/* ---- readiness of a foreign descriptor (drivers); SN_E_NOTSUP on the simulation ---- */

#define SN_READABLE 1u
#define SN_WRITABLE 2u
struct sn_poll;
typedef void sn_poll_fn(struct sn_poll *poll, unsigned events, void *arg);
SN_MUST_USE int sn__poll_open(
		struct sn_loop *loop, int fd, sn_poll_fn *fn, void *arg, struct sn_poll **ret_poll);
/** @events: SN_READABLE | SN_WRITABLE, or 0 to rest. */
void sn__poll_want(struct sn_poll *poll, unsigned events);
/** The descriptor stays the caller's; no callback afterwards. */
void sn__poll_close(struct sn_poll *poll);

#endif
