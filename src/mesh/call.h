/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_CALL_H
#define SN_SRC_MESH_CALL_H

/*
 * Internal. A call: deadline( retry( pick( admit( attempt )))) over any transport. The transport
 * (HTTP in mesh/request.c, drivers in connect/resource.c) knows how to make one attempt at one
 * peer and says how it ended; everything else is decided here. docs/architecture.md, "The call".
 *
 * Loop thread. struct sn_call is embedded in the caller's operation; a call that succeeds
 * allocates nothing.
 */

#include <sinew/context.h>
#include <sinew/mesh.h> /* enum sn_retry */

#include "base/error.h"
#include "io/http.h" /* enum sn_sent */
#include "mesh/admit.h"
#include "mesh/catalog.h"
#include "mesh/mesh.h"
#include "mesh/peer_state.h"
#include "mesh/policy.h"
#include "mesh/tracer.h"

struct sn_call;

struct sn_call_ops {
	/**
	 * Start one attempt at call->permit.state. sn__call_attempt_done() must follow exactly once,
	 * never before this returned. A negative return is an attempt that failed before it began:
	 * nothing was sent, nothing counts against the peer, the call ends with that code (out of
	 * memory, malformed request) and no attempt_done follows.
	 */
	int (*attempt)(struct sn_call *call);
	/** Stop the running attempt; sn__call_attempt_done() still follows, in a later turn. @code:
	 * SN_E_TIMEOUT, SN_E_DEADLINE, SN_E_CANCELLED, SN_E_CLOSED. At most once an attempt. */
	void (*abort)(struct sn_call *call, int code);
	/** Exactly once, never before sn__call_start() returned. @err NULL: the last attempt's answer
	 * stands; else borrowed for the time of the call (SN_E_STATUS: the last attempt was answered
	 * with a failure status, and what the transport kept of it still stands). The call's memory
	 * may be reused inside. */
	void (*done)(struct sn_call *call, const struct sn_error *err /* may be NULL */);
	/** Sessions: whether the peer has been reached, asked when open-timeout is over; then that is
	 * what the breaker hears, else the attempt is aborted. *ret_ns: since when; the attempt's start
	 * when a connection was there already, and the breaker hears nothing. May be NULL (never). */
	bool (*opened)(struct sn_call *call, uint64_t *ret_ns);
	/** The peer is a TCP address and port: a breaker opened by connect errors is probed by a
	 * connect of the mesh's own. */
	bool tcp;
	const char *status_tag; /* of spans; NULL: "http.status_code" */
};

#define SN_CALL_FREE_RETRIES 3 /* first failures to connect that do not count as attempts */
#define SN_CALL_TRIED 8        /* distinct peers of one call that are remembered */

struct sn_call {
	/* ---- filled by the caller before sn__call_start(), everything else zero ---- */
	const struct sn_call_ops *ops;
	struct sn_target *target;
	struct sn_str what; /* "GET /path" for the recorder: no query, no secrets; lives until done */
	struct sn_str method, url; /* for spans; live until done */
	enum sn_safety safety;
	enum sn_retry retry;
	enum sn_dialect dialect; /* whose defaults hold; sn_request: SN_DIALECT_BERLIOZ */
	/* A long stream: open-timeout instead of timeout, which ends with sn__call_answered() or
	 * ops->opened(); no deadline but the caller's, and that bounds the whole. */
	bool session;
	uint32_t timeout_ms;              /* of one attempt; 0: policy */
	uint32_t deadline_ms;             /* of the whole call; 0: policy */
	const struct sn_context *context; /* read by sn__call_start() only; may be NULL */

	/* ---- for the transport, from attempt() until done() ---- */
	struct sn_permit
			permit; /* .state: the latest attempt's peer (address, port, slot); .peer: its catalog
	                                 * entry, in attempt() only */
	const struct sn_policy *policy; /* read anew before each attempt */
	unsigned attempt;               /* number of the present one, from 1 */
	uint64_t id;                    /* sn__call_id_text() */
	uint64_t deadline_ns;           /* of the call; SN_NEVER_NS: none */
	uint64_t attempt_deadline_ns;   /* of the attempt: the mesh aborts it then */

	struct sn_trace trace; /* sn__trace_headers() */

	/* ---- private ---- */
	struct sn_mesh *mesh;
	struct sn_mesh_target *mt;
	struct sn_list link; /* mesh->calls */
	struct sn_timer timer;
	struct sn_task task;
	struct sn_policy_tree *tree; /* of policy */
	uint64_t policy_version;
	struct sn_peer_state *held; /* keeps permit.state until done() has returned */
	struct sn_error *story;     /* NULL until the first failure, or when memory is out */
	uint64_t start_ns, attempt_start_ns, sleep_start_ns;
	uint64_t tried[SN_CALL_TRIED]; /* serials of peers to avoid while others exist */
	unsigned n_tried;
	unsigned counted;      /* failures that count against retry-count */
	unsigned free_retries; /* first connect failures that did not count */
	uint8_t state;         /* call.c */
	bool answered;         /* sn__call_answered() */
	int abort_code;        /* why the running attempt was aborted; 0: it was not */
	int end_code;          /* cancelled or closed: no retry, whatever the attempt says */
	int code, foreign;     /* how it ends */
};

/**
 * Start. The first attempt may be started inside; done() never is called inside. On error nothing
 * follows: SN_E_CLOSED (mesh is closing).
 */
SN_MUST_USE int sn__call_start(struct sn_mesh *mesh, struct sn_call *call);
/** The attempt ended; read and copied here. A failed one may start the next attempt inside. */
void sn__call_attempt_done(struct sn_call *call, const struct sn_outcome *outcome);
/** The head of a streamed answer was given to the caller: breaker and cost hear of it, and the
 * attempt's time-out is over. The permit is kept until sn__call_attempt_done(), as for every attempt;
 * a failure of the body should be SN_OUTCOME_REJECTED, for nothing can be sent again. */
void sn__call_answered(struct sn_call *call, const struct sn_outcome *outcome);
/** Ask to stop. done() follows in a later turn, with SN_E_CANCELLED unless a good answer was
 * quicker. */
void sn__call_cancel(struct sn_call *call);

/** Nanoseconds the call may still take; SN_NEVER_NS: no limit (what the wire is told). */
uint64_t sn__call_left_ns(const struct sn_call *call);

#define SN_CALL_ID_SIZE 17
/** 16 hexadecimal digits and a NUL. */
void sn__call_id_text(uint64_t id, char out[SN_CALL_ID_SIZE]);

#endif
