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

#include "base/list.h"
#include "io/loop.h"

struct sn_runtime;
struct sn_operations;

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
	struct sn_task cancel_task;
};

struct sn_operation_type {
	size_t size;                             /* of the object */
	void (*init)(struct sn_operation *op);   /* a new one, zeroed */
	void (*reset)(struct sn_operation *op);  /* it is given back: memory may stay */
	void (*finish)(struct sn_operation *op); /* before it is freed */
	void (*cancel)(struct sn_operation *op); /* loop thread; it is running */
};

SN_MUST_USE int sn__operations_create(struct sn_runtime *rt, const struct sn_operation_type *type,
		struct sn_operations **ret_ops);
/** After the last has been given back. */
void sn__operations_destroy(struct sn_operations *ops /* may be NULL */);
/** One to use, until sn__operation_give(). Any thread. SN_E_NOMEM, SN_E_LIMIT (2^20). */
SN_MUST_USE int sn__operation_take(struct sn_operations *ops, struct sn_operation **ret_op);
/** By who holds it. Any thread. */
void sn__operation_give(struct sn_operation *op);
/** What sn__operations_cancel() takes, until it is given back. */
uint64_t sn__operation_id(const struct sn_operation *op);
/** The call is under way, and cancelled here when somebody has asked for that. Loop thread. */
void sn__operation_started(struct sn_operation *op);
/** Ask to stop. Any thread; between enter and leave. */
void sn__operations_cancel(struct sn_operations *ops, uint64_t id);

#endif
