/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_MESH_H
#define SN_SRC_MESH_MESH_H

/*
 * Internal. The mesh: everything that calls on one loop share. Per target (struct sn_mesh_target):
 * the queue, limits, budget, cached policy and metrics; per peer: struct sn_peer_state.
 *
 * Loop thread. Order of the end: sn__mesh_close(), its done, then the catalog, then
 * sn__mesh_destroy() before or after the catalog (peers objects that users still hold do no harm).
 */

#include "base/error.h"
#include "io/loop.h"
#include "mesh/catalog.h"
#include "mesh/policy.h"

struct sn_mesh;
struct sn_metrics;
struct sn_recorder;
struct sn_tracer;

struct sn_mesh_options {
	struct sn_loop *loop;
	struct sn_catalog *catalog;
	struct sn_policies *policies;
	struct sn_recorder *recorder; /* may be NULL */
	struct sn_metrics *metrics;   /* may be NULL */
	struct sn_tracer *tracer;     /* may be NULL */
};
/** All are borrowed and must outlive the mesh. SN_E_NOMEM. */
SN_MUST_USE int sn__mesh_create(const struct sn_mesh_options *opts, struct sn_mesh **ret_mesh);
/** No new calls or permits; open ones end with SN_E_CLOSED in later turns; granted sessions are
 * their owners' to end. Then @done (may be NULL), in a later turn. */
void sn__mesh_close(struct sn_mesh *mesh, void (*done)(void *arg), void *arg);
/** After close has completed; or at any time in a forked child. Transport slots are destroyed. */
void sn__mesh_destroy(struct sn_mesh *mesh /* may be NULL */);

/** Calls that have not ended. */
unsigned sn__mesh_calls(const struct sn_mesh *mesh);
/** The policies of a target now; valid in this turn. Never NULL. */
const struct sn_policy *sn__mesh_policy(
		struct sn_mesh *mesh, struct sn_target *t, enum sn_dialect dialect);

enum sn_breaker_force { SN_BREAKER_AUTO, SN_BREAKER_FORCE_OPEN, SN_BREAKER_FORCE_CLOSE };
/** `sinew breaker`: for one peer, or for all, also those to come (@identity NULL). SN_E_NOT_FOUND,
 * SN_E_NOMEM. */
SN_MUST_USE int sn__mesh_breaker_force(struct sn_mesh *mesh, struct sn_target *t,
		const char *identity /* may be NULL */, enum sn_breaker_force force);

/* One peer as the console shows it. */
struct sn_peer_stat {
	const char *identity, *address; /* live until the callback returns */
	uint16_t port;
	uint32_t inflight;
	uint64_t cost_ns;
	const char *breaker; /* "closed", "open", "half-open", "forced open", "forced closed" */
	uint64_t due_ns;     /* open: loop time of the next probe; 0: not known */
	uint64_t calls, failures; /* attempts since the peer is known */
};
/** Present peers of @t (NULL: of all targets) that were ever called. Loop thread. */
void sn__mesh_each_peer(struct sn_mesh *mesh, struct sn_target *t /* may be NULL */,
		void (*fn)(const struct sn_target *t, const struct sn_peer_stat *stat, void *arg),
		void *arg);

#endif
