/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_PEER_STATE_H
#define SN_SRC_MESH_PEER_STATE_H

/*
 * Internal. What the mesh knows about one peer: cost, calls in flight, breaker; made at the first
 * call to it. It stands for (target, identity, address, port, protocol), and without an address for
 * the whole entry: the catalog hands it on from version to version while those stay
 * (sn__peer_state_ref, sn__peer_state_unref, any thread).
 *
 * The mesh holds one reference of its own and frees a state on the loop when nobody else holds one
 * and nothing is in flight. Everything but ref and unref belongs to the loop thread; the figures are
 * atomics so that others may read them.
 */

#include <stdatomic.h>

#include "base/list.h"
#include "base/str.h"

struct sn_breaker;
struct sn_mesh;
struct sn_mesh_target;

#define SN_CACHE_LINE 64

struct sn_peer_state {
	/* Read by every pick: one cache line. */
	_Alignas(SN_CACHE_LINE) _Atomic double cost_ns; /* peak EWMA at stamp_ns; 0: no sample yet */
	_Atomic uint64_t stamp_ns;
	_Atomic uint64_t exclude_until_ns; /* the peer's own wish (Retry-After) */
	_Atomic uint32_t inflight;
	_Atomic uint32_t barred;    /* breaker is not plainly closed: ask it */
	struct sn_breaker *breaker; /* NULL until the first failure */
	uint64_t serial;            /* unique in the mesh, never 0 */
	atomic_uint refs;
	uint16_t port;

	/* For the transport. */
	const char *identity, *protocol, *address; /* live as long as the state */
	void *slot; /* the transport's own, e.g. its struct sn_http_dest; NULL at first */
	void (*slot_destroy)(void *slot); /* loop thread; the peer left or the mesh closed */

	/* The mesh's own. */
	struct sn_mesh_target *mt;
	struct sn_list link;
	uint64_t n_calls, n_failures; /* attempts that ended */
	void *block;                  /* what was allocated */
};

/** Any thread. */
struct sn_peer_state *sn__peer_state_ref(struct sn_peer_state *ps);
/** Any thread; never runs slot_destroy. */
void sn__peer_state_unref(struct sn_peer_state *ps /* may be NULL */);

/** "identity address:port", or "identity" when the entry has no address. */
void sn__peer_state_text(const struct sn_peer_state *ps, char *out, size_t size);

#define SN_COST_TAU_NS 1e10
#define SN_COST_CAP_NS 5e9
/** What the cost has decayed to by now. */
double sn__peer_state_cost(const struct sn_peer_state *ps, uint64_t now_ns);
/** A good answer took @latency_ns: the cost jumps to a worse sample, else moves towards it. */
void sn__peer_state_observe(struct sn_peer_state *ps, uint64_t latency_ns, uint64_t now_ns);
/** A failed attempt: max(latency, twice the cost), after a time-out at least @timeout_ns; capped. */
void sn__peer_state_observe_failure(struct sn_peer_state *ps, uint64_t latency_ns,
		uint64_t timeout_ns /* 0: no time-out */, uint64_t now_ns);

#endif
