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

#include "base/error.h"
#include "io/http.h"
#include "mesh/catalog.h"
#include "mesh/policy.h"

struct sn_mesh;
struct sn_permit;
struct sn_call;

enum sn_safety { SN_SAFE, SN_IDEMPOTENT, SN_KEYED, SN_UNSAFE };

enum sn_outcome_class {
	SN_OUTCOME_OK,          /* success, also 4xx answers */
	SN_OUTCOME_FAILED,      /* counts against the peer, retried when policy and safety allow */
	SN_OUTCOME_THROTTLED,   /* 429 and its like: excludes, never trips */
	SN_OUTCOME_REJECTED,    /* final, nothing against the peer */
	SN_OUTCOME_UNAVAILABLE, /* 503, UNAVAILABLE: failed, with its own retry-on name */
};

/* How an attempt ended; only the transport can fill it. */
struct sn_outcome {
	enum sn_outcome_class class;
	enum sn_sent sent;
	enum sn_phase phase;
	int code;            /* SN_E_ code, 0 for OK */
	int foreign;         /* errno, status, ... */
	unsigned retry_on;   /* SN_RETRY_ bit that describes the failure; 0: not retryable */
	int64_t retry_after_ms; /* hint; -1: none */
	uint64_t first_byte_ns; /* loop time of the response head; 0: none (latency ends there) */
	bool not_replayable; /* a part of the body has left and cannot be sent again */
	char detail[96];
};

struct sn_call_ops {
	/** Start one attempt at call->peer. sn__call_attempt_done() must follow exactly once, never
	 * before this returned; a negative return is an attempt that failed before it began. */
	int (*attempt)(struct sn_call *call);
	/** Stop the running attempt; sn__call_attempt_done() still follows. @code: SN_E_TIMEOUT,
	 * SN_E_DEADLINE, SN_E_CANCELLED, SN_E_CLOSED. */
	void (*abort)(struct sn_call *call, int code);
	/** A probe of our own: connect without a request (breaker opened by connect errors). May be
	 * NULL: then the next call is the probe. */
	void (*probe)(struct sn_call *call);
	/** Exactly once, never before sn__call_start() returned. @err NULL: the last attempt's
	 * outcome stands. The call's memory may be reused inside. */
	void (*done)(struct sn_call *call, const struct sn_error *err);
};

#endif
