/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_GRPC_CALL_H
#define SN_SRC_MESH_GRPC_CALL_H

/*
 * Internal. gRPC as the transport of a call: one call of a target's method, with everything
 * mesh/call.h decides; unary (api_grpc.c collects the answer) or a stream of messages
 * (grpc_stream.c), which is a session. Loop thread.
 */

#include "io/grpc_client.h"
#include "mesh/call.h"
#include "mesh/grpc_answer.h"
#include "mesh/grpc_text.h"
#include "mesh/operation.h"
#include "mesh/runtime.h"

struct sn_grpc_call;
struct sn_grpc_call_ops {
	/** Streams: an attempt has begun, messages may be sent with sn__grpc_send(). A negative return
	 * ends the call with that code. NULL for unary calls. */
	int (*on_start)(struct sn_grpc_call *gc);
	/** The initial metadata is in gc->answer. May be NULL. */
	void (*on_head)(struct sn_grpc_call *gc);
	/** A negative return ends the call with that code. */
	int (*on_message)(struct sn_grpc_call *gc, struct sn_str message);
	/** May be NULL. */
	void (*on_drain)(struct sn_grpc_call *gc);
	/** Exactly once, never before sn__grpc_call_start() returned. @err NULL: status OK; SN_E_STATUS:
	 * gc->answer has the peer's. Borrowed for the time of the call; the memory of @gc is the
	 * caller's again. */
	void (*on_done)(struct sn_grpc_call *gc, const struct sn_error *err /* may be NULL */);
};

struct sn_grpc_call {
	/* ---- filled by the caller ---- */
	const struct sn_grpc_call_ops *ops;
	struct sn_target *target;
	struct sn_grpc_text *text;     /* lives until on_done */
	struct sn_grpc_answer *answer; /* an initialised one; reset with each attempt */
	bool streams;

	/* ---- for the owner ---- */
	struct sn_call call;    /* id, attempt, permit.state (the peer) */
	struct sn_grpc_req req; /* while `in_flight` */
	bool in_flight;
	bool not_replayable; /* set by the owner: what was sent is nowhere any more */

	/* ---- private ---- */
	struct sn_runtime *rt;
	struct sn_task task;
	struct sn_trace_headers trace;
	bool stopped;
	int start_error; /* why the attempt could not begin */
	int own_error;   /* why we ended the attempt ourselves; 0: we did not */
	bool unfit;      /* the peer's entry is what kept the attempt from starting */
	char detail[96];
};

/** SN_E_CLOSED, SN_E_NOMEM: nothing follows. */
SN_MUST_USE int sn__grpc_call_start(
		struct sn_runtime *rt, struct sn_grpc_call *gc, struct sn_error *err);
/** on_done follows in a later turn, with SN_E_CANCELLED unless the answer was quicker. */
void sn__grpc_call_cancel(struct sn_grpc_call *gc);

/** What the end of an attempt means to the mesh. @pushback: value of grpc-retry-pushback-ms. */
void sn__grpc_outcome(const struct sn_grpc_req *req, const char *pushback /* may be NULL */,
		struct sn_outcome *ret_outcome);
/** Target of the public calls: a service or a cluster. SN_E_INVALID, SN_E_NOMEM. */
SN_MUST_USE int sn__grpc_target(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, struct sn_target **ret_target,
		struct sn_error *err);

/* ---- the public unary calls (api_grpc.c) ---- */

SN_MUST_USE int sn__grpc_calls_create(struct sn_runtime *rt, struct sn_operations **ret_calls);

#endif
