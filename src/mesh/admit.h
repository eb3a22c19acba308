/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_ADMIT_H
#define SN_SRC_MESH_ADMIT_H

/*
 * Internal. The permit: the right to use one peer of a target. sn__admit() looks the target up,
 * asks the limits, picks a peer and asks its breaker; sn__permit_done() gives it back exactly once.
 * A call takes one for each attempt; a session (tunnel, subscription, watch, long stream) holds one
 * for its life and is never retried by the mesh.
 *
 * A session in three steps:
 *	permit = {.target = t, .fn = granted, .arg = me};
 *	r = sn__admit(mesh, &permit, &err);   0: granted; SN_E_AGAIN: granted() comes; else refused
 *	open it at permit.state within permit.policy->open_timeout; then
 *	sn__permit_opened(&permit, &outcome)  the breaker and the cost hear of the opening
 *	sn__permit_done(&permit, NULL)        when the session ends (also when opening failed)
 *
 * Loop thread.
 */

#include "base/error.h"
#include "io/http.h" /* enum sn_sent */
#include "io/loop.h"
#include "mesh/catalog.h"
#include "mesh/policy.h"

struct sn_mesh;
struct sn_mesh_target;
struct sn_peer_state;

enum sn_safety { SN_SAFE, SN_IDEMPOTENT, SN_KEYED, SN_UNSAFE };

enum sn_outcome_class {
	SN_OUTCOME_OK,          /* success, also 3xx and 4xx answers */
	SN_OUTCOME_FAILED,      /* counts against the peer, retried when policy and safety allow */
	SN_OUTCOME_THROTTLED,   /* 429 and its like: excludes, fails a probe, never trips */
	SN_OUTCOME_REJECTED,    /* final, says nothing about the peer */
	SN_OUTCOME_UNAVAILABLE, /* 503, UNAVAILABLE: failed, with its own retry-on name */
};

/* How an attempt ended; only the transport can fill it. */
struct sn_outcome {
	enum sn_outcome_class class;
	enum sn_sent sent; /* SN_SENT_NO: not a byte of the request has left */
	enum sn_phase phase;
	int code;               /* SN_E_ code, 0 for OK */
	int foreign;            /* errno, status, ... */
	unsigned retry_on;      /* SN_RETRY_ bits that describe the failure; 0: never retried. After
	                         * abort(SN_E_TIMEOUT) the mesh fills code, class and bits itself. */
	int64_t retry_after_ms; /* hint; -1: none. Zero-initialise means "at once": set it! */
	uint64_t first_byte_ns; /* loop time of the response head; 0: none (latency ends there) */
	bool not_replayable;    /* a part of the body has left and cannot be sent again */
	bool starved;    /* what ran out of time waited for the caller's body, not for the peer */
	bool not_again;  /* the peer asks that this call be not tried again */
	bool along;      /* one connection broke, and another attempt tells of it: not counted
	                         * by the breaker again */
	char detail[96]; /* one clause: "connection refused", "status 503" */
};
#define SN_OUTCOME_INIT \
	{ \
		.retry_after_ms = -1 \
	}

struct sn_permit;
/** @err NULL: granted. Never inside sn__admit(). */
typedef void sn_permit_fn(struct sn_permit *permit, const struct sn_error *err /* may be NULL */);

struct sn_permit {
	/* filled by the caller */
	struct sn_target *target;
	enum sn_safety safety;
	enum sn_dialect dialect;
	bool tcp;              /* as in struct sn_call_ops */
	const uint64_t *tried; /* serials of peers to avoid while others exist */
	unsigned n_tried;
	uint64_t wait_until_ns; /* waiting ends then at the latest; 0: no limit of the caller's */
	uint64_t attempt_ns;    /* the longest the attempt may take, for the lease of a probe; 0: no
	                            * limit */
	sn_permit_fn *fn;
	void *arg;

	/* while granted */
	struct sn_peer_state *state;    /* of a call: until its done() */
	const struct sn_peer *peer;     /* catalog entry; valid in the turn of the grant only */
	const struct sn_policy *policy; /* as of the grant; valid in its turn only */

	/* private */
	struct sn_mesh *mesh;
	struct sn_mesh_target *mt;
	struct sn_list link; /* mt->pending */
	struct sn_timer timer;
	uint64_t start_ns;
	uint32_t generation; /* of the breaker at the grant */
	uint8_t probe;       /* slot of a probe, counted from 1; 0: none */
	bool granted, reported;
};

/**
 * 0: granted, permit->state is the peer. SN_E_AGAIN: waits in the target's queue, permit->fn comes
 * later. Refused: SN_E_NO_PEER, SN_E_BREAKER (err says when the next probe is due), SN_E_OVERLOAD,
 * SN_E_CLOSED, SN_E_NOMEM.
 */
int sn__admit(struct sn_mesh *mesh, struct sn_permit *permit,
		struct sn_error *err /* may be NULL */);
/** Leave the queue; fn is not called. Nothing happens when the permit is not waiting. */
void sn__permit_withdraw(struct sn_permit *permit);
/** Tell breaker and cost how the opening (or the attempt) went; at most once. */
void sn__permit_opened(struct sn_permit *permit, const struct sn_outcome *outcome);
/** End it. @outcome: as sn__permit_opened() when that was not called; NULL: says nothing about the
 * peer (cancelled). The state may be gone afterwards. */
void sn__permit_done(struct sn_permit *permit, const struct sn_outcome *outcome /* may be NULL */);

#endif
