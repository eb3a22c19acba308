/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_BREAKER_H
#define SN_SRC_MESH_BREAKER_H

/*
 * Internal. The circuit breaker of one peer: a state machine without clock, timer or I/O of its own.
 *
 *	closed --(7 failures in a row, or under 50 % of at least 20 in 10 s)--> open
 *	open --(its time is over)--> half-open; opened by connect errors: connect first
 *	connect --(connected)--> half-open; --(not)--> open
 *	half-open --(1, then 2, then 4 probes succeeded)--> closed; --(any failed)--> open
 *
 * Every change of state begins a new generation; a result that was admitted in another one is
 * dropped, so that late answers decide nothing. A probe has a lease: it guards against a completion
 * that never comes. Not thread-safe: loop thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"
#include "mesh/admit.h"
#include "mesh/mesh.h"
#include "mesh/policy.h"

#define SN_BREAKER_BUCKETS 10
#define SN_BREAKER_PROBES 4            /* of the last stage */
#define SN_BREAKER_LEASE_MS 10000      /* of a probe without a deadline */
#define SN_BREAKER_LEASE_GRACE_MS 1000 /* added to a probe's deadline */
#define SN_HINT_MAX_MS INT64_C(300000) /* a Retry-After counts up to here */
#define SN_BREAKER_DECAY_MS 30000      /* closed so long: the exponent falls by one */

enum sn_breaker_state {
	SN_BREAKER_CLOSED,
	SN_BREAKER_OPEN,
	SN_BREAKER_CONNECT,
	SN_BREAKER_HALF_OPEN
};

struct sn_breaker {
	enum sn_breaker_state state;
	enum sn_breaker_force force;
	uint32_t generation;
	uint32_t consecutive; /* failures in a row, while closed */
	uint32_t exponent;    /* of the next open time */
	uint64_t since_ns;    /* when it closed */
	uint64_t due_ns;      /* open: when a probe is due; connect: when it is given up */
	bool by_connect;
	uint8_t stage;              /* half-open: probes of the present stage, 1, 2 or 4 */
	uint8_t granted, succeeded; /* of the stage */
	uint64_t lease_ns[SN_BREAKER_PROBES]; /* 0: slot free */
	uint64_t second;                      /* of the newest bucket */
	struct {
		uint32_t ok, total;
	} bucket[SN_BREAKER_BUCKETS];
};

enum sn_breaker_verdict {
	SN_BREAKER_ADMIT,       /* closed */
	SN_BREAKER_PROBE_DUE,   /* take a probe with sn__breaker_probe() */
	SN_BREAKER_CONNECT_DUE, /* connect, sn__breaker_connecting() first */
	SN_BREAKER_WAIT,        /* a connect or all probes are under way: see sn__breaker_due() */
	SN_BREAKER_REFUSE,
};

void sn__breaker_init(struct sn_breaker *b, uint64_t now_ns);
/** What may go through now. Steps from open on when its time is over, and back when a lease is. */
enum sn_breaker_verdict sn__breaker_check(struct sn_breaker *b, const struct sn_policy *policy,
		uint64_t now_ns, struct sn_rng *rng);
/** Take a due probe. @deadline_ns: of its attempt, 0: none. Returns its slot, from 1. */
uint8_t sn__breaker_probe(struct sn_breaker *b, uint64_t deadline_ns, uint64_t now_ns);
/** Our own connect begins; it is given up at @due_ns. Returns the generation for the result. */
uint32_t sn__breaker_connecting(struct sn_breaker *b, uint64_t due_ns);
void sn__breaker_connected(struct sn_breaker *b, uint32_t generation, bool ok,
		const struct sn_policy *policy, uint64_t now_ns, struct sn_rng *rng);
/** No connect can be made: the next call is the probe. */
void sn__breaker_skip_connect(struct sn_breaker *b);
/**
 * How an attempt ended that was admitted in @generation, as probe @slot (0: none); @outcome NULL:
 * says nothing. Returns whether the breaker has closed by it.
 */
bool sn__breaker_result(struct sn_breaker *b, const struct sn_policy *policy, uint32_t generation,
		uint8_t slot, const struct sn_outcome *outcome /* may be NULL */, uint64_t now_ns,
		struct sn_rng *rng);
void sn__breaker_force(struct sn_breaker *b, enum sn_breaker_force force, uint64_t now_ns);
/** When there may be a probe again; SN_NEVER_NS: forced open. */
uint64_t sn__breaker_due(const struct sn_breaker *b);
/** Whether a pick must ask. */
bool sn__breaker_barred(const struct sn_breaker *b);
const char *sn__breaker_name(const struct sn_breaker *b /* may be NULL */);

/** Whether an outcome counts as a failure of the peer. */
static inline bool sn_outcome_failed(const struct sn_outcome *o)
{
	return o->class == SN_OUTCOME_FAILED || o->class == SN_OUTCOME_UNAVAILABLE;
}

#endif
