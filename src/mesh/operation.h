/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_OPERATION_H
#define SN_SRC_MESH_OPERATION_H

/*
 * Internal. The operations behind public calls (sn_request(), sn_grpc_call()). They are made once and
 * used again, so that a call of steady state takes no memory: those of the loop thread in a list
 * without lock, those of other threads behind one.
 *
 * An id is (index, generation). An operation is never freed before the runtime is, so any thread may
 * look one up by index and compare the generation: cancelling an ended call finds another number.
 */

#include <pthread.h>
#include <stdatomic.h>

#include <sinew/mesh.h>
#include "base/error.h"
#include "base/list.h"
#include "io/loop.h"

struct sn_operation_wait;
struct sn_operations;
struct sn_runtime;

/* Who is told of the end: a function, or a waiting thread. */
struct sn_listener {
	void (*fn)(void); /* of the kind's own type */
	void *arg;
	struct sn_operation_wait *waiter; /* of sn__operation_wait(), else NULL */
};

/* The head of each kind's own object. */
struct sn_operation {
	struct sn_operations *all;
	struct sn_list link; /* in one of the free lists */
	uint32_t index;
	bool elsewhere;              /* belongs to the list of other threads */
	bool running;                /* sn__operation_started() was called; loop thread */
	_Atomic uint32_t generation; /* even: free */
	_Atomic uint32_t cancel;     /* generation to cancel; 0: none */
	atomic_bool cancel_queued;
	struct sn_task cancel_task, start_task;
	struct sn_listener listener;
};

struct sn_operation_type {
	size_t size;                             /* of the object */
	void (*init)(struct sn_operation *op);   /* a new one, zeroed */
	void (*reset)(struct sn_operation *op);  /* it is given back: memory may stay */
	void (*finish)(struct sn_operation *op); /* before it is freed */
	/* Loop thread. On failure nothing follows, else sn__operation_end(), never inside. */
	int (*start)(struct sn_operation *op, struct sn_error *err);
	void (*cancel)(struct sn_operation *op); /* loop thread; it is running */
	/* What it answers with: a part of the object that begins with `bool lone`. */
	size_t answer, answer_size;        /* where, bytes */
	void (*answer_init)(void *answer); /* one for a waiting thread, which will be `lone` */
	void (*answer_destroy)(void *answer);
	/* Call listener->fn. @answer: NULL: there is none. */
	void (*tell)(const struct sn_listener *listener, void *answer, const struct sn_error *err);
};

SN_MUST_USE int sn__operations_create(struct sn_runtime *rt, const struct sn_operation_type *type,
		struct sn_operations **ret_ops);
/** After the last has been given back. */
void sn__operations_destroy(struct sn_operations *ops /* may be NULL */);
/** One to use, until sn__operation_give(). Any thread. SN_E_NOMEM, SN_E_LIMIT (2^20). */
SN_MUST_USE int sn__operation_take(struct sn_operations *ops, struct sn_operation **ret_op);
/** By who holds it. Any thread. */
void sn__operation_give(struct sn_operation *op);
/** Start it here, or on the loop's thread. On failure it has been given back. Any thread; between enter
 * and leave. */
SN_MUST_USE int sn__operation_submit(struct sn_operation *op, const struct sn_listener *listener,
		struct sn_call_id *ret_id /* may be NULL */, struct sn_error *err);
/** The end, once: the listener is told, and the operation given back. @err NULL: it went well. Loop
 * thread. */
void sn__operation_end(struct sn_operation *op, bool answered, const struct sn_error *err);
/** The blocking twin of a call. @submit: make and submit the operation with this listener. The results
 * are set whole or not at all; both are the caller's. SN_E_DEADLK on the loop thread. */
typedef int sn_operation_submit_fn(struct sn_runtime *rt, void *arg,
		const struct sn_listener *listener, struct sn_call_id *ret_id,
		struct sn_error *err);
SN_MUST_USE int sn__operation_wait(struct sn_runtime *rt, const struct sn_operation_type *type,
		sn_operation_submit_fn *submit, void *arg, void **ret_answer,
		struct sn_error **ret_error /* may be NULL */);
/** Ask to stop what sn__operation_submit() gave this id. Any thread; between enter and leave. */
void sn__operations_cancel(struct sn_operations *ops, uint64_t id);

#endif
