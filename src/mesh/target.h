/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_TARGET_H
#define SN_SRC_MESH_TARGET_H

/* Internal to the mesh (admit.c, balance.c, call.c, mesh.c): what all calls of a loop and all calls
 * to a target share. Loop thread. */

#include "base/list.h"
#include "base/mem.h"
#include "io/loop.h"
#include "mesh/breaker.h"
#include "mesh/budget.h"
#include "mesh/catalog.h"
#include "mesh/mesh.h"
#include "mesh/metrics.h"
#include "mesh/peer_state.h"
#include "mesh/policy.h"
#include "mesh/recorder.h"

#define SN_CALL_LABELS 10 /* outcomes of calls in metrics, see account.c */

struct sn_mesh_metrics {
	struct sn_metrics *m;
	struct sn_family *calls, *seconds, *attempts, *retries, *breaker, *inflight, *pending,
			*tokens;
	struct sn_collector collector;
};

struct sn_mesh {
	struct sn_mesh_options opts;
	struct sn_loop *loop;
	struct sn_list targets; /* sn_mesh_target.link */
	struct sn_list states;  /* sn_peer_state.link; the sweep goes round */
	struct sn_list calls;   /* sn_call.link */
	struct sn_list probes;  /* connects of our own */
	unsigned n_calls;
	uint64_t serial; /* of the newest peer state */
	unsigned sweep;
	unsigned born;    /* peer states made since the last sweep */
	uint64_t next_id; /* of calls, without a recorder */
	bool closing, closed;
	void (*close_done)(void *arg);
	void *close_arg;
	struct sn_task close_task;
	struct sn_mesh_metrics metrics;
	struct sn_error *spare; /* for a story when memory is out */
};

struct sn_mesh_target {
	/* Read by every pick: one cache line. */
	_Alignas(SN_CACHE_LINE) struct sn_mesh *mesh;
	struct sn_policy_cache cache;
	uint32_t inflight;
	uint32_t n_barred;         /* peer states whose breaker must be asked */
	uint64_t exclude_until_ns; /* some peer asked to be left alone until then */
	uint64_t round_robin;

	uint64_t probe_due_ns; /* no barred peer has a probe due before then; 0: look */
	struct sn_target *target;
	struct sn_list link;    /* mesh->targets */
	struct sn_list pending; /* sn_permit.link, in order */
	uint32_t n_pending;
	uint32_t why_countdown;      /* to the next ordinary call that is recorded */
	enum sn_breaker_force force; /* of the whole target */
	bool draining, again, monitoring;
	struct sn_budget budget;
	struct sn_target_monitor monitor;
	struct sn_series *calls[SN_CALL_LABELS], *seconds, *attempts;
	void *block; /* what was allocated */
};

/** Made when missing. NULL: out of memory. */
struct sn_mesh_target *sn__mesh_target(struct sn_mesh *mesh, struct sn_target *t);
/** sn__mesh_each_peer() of one target. */
void sn__mesh_target_each_peer(struct sn_mesh_target *mt,
		void (*fn)(const struct sn_target *t, const struct sn_peer_stat *stat, void *arg),
		void *arg);

/** @size zeroed bytes that begin with a cache line; *ret_block is to be freed. NULL: out of memory. */
static inline void *sn_alloc_line(size_t size, void **ret_block)
{
	char *block = sn__calloc(1, size + SN_CACHE_LINE - 1);

	*ret_block = block;
	if (block == NULL)
		return NULL;
	return (void *)(((uintptr_t)block + SN_CACHE_LINE - 1) & ~(uintptr_t)(SN_CACHE_LINE - 1));
}

static inline const struct sn_policy *sn_mesh_target_policy(
		struct sn_mesh_target *mt, enum sn_dialect dialect)
{
	return sn__policies_of(mt->mesh->opts.policies, mt->target, &mt->cache, dialect);
}

/* ---- peer_state.c ---- */

/** With one reference, the mesh's. NULL: out of memory. */
struct sn_peer_state *sn__peer_state_create(
		struct sn_mesh_target *mt, const struct sn_peer *peer, uint64_t serial);
void sn__peer_state_set_cost(struct sn_peer_state *ps, double cost_ns, uint64_t now_ns);

/* ---- mesh.c ---- */

/** The state of a catalog entry, made when missing. NULL: out of memory. */
struct sn_peer_state *sn__mesh_peer(struct sn_mesh_target *mt, const struct sn_peer *peer);
/** The breaker, made when missing. NULL: out of memory. */
struct sn_breaker *sn__mesh_breaker(struct sn_peer_state *ps);
/** After any change of a breaker: keep barred and n_barred true. */
void sn__mesh_breaker_changed(struct sn_peer_state *ps);
/** Free a few states that nobody needs any more. Cheap; called with every call. */
void sn__mesh_sweep(struct sn_mesh *mesh);
/** A call or a probe ended: perhaps the last before the close is complete. */
void sn__mesh_ended(struct sn_mesh *mesh);

/* ---- balance.c ---- */

struct sn_pick {
	/* asked */
	struct sn_mesh_target *mt;
	const struct sn_peers *peers; /* at least one */
	const struct sn_policy *policy;
	enum sn_balance balance;
	enum sn_safety safety;
	const uint64_t *tried;
	unsigned n_tried;
	uint64_t now_ns;
	struct sn_rng *rng;
	bool tcp;
	/* answered */
	uint32_t index;
	bool probe;      /* take a probe of its breaker */
	bool waiting;    /* SN_E_BREAKER, but a connect of ours is under way */
	uint64_t due_ns; /* SN_E_BREAKER: when the next probe is due; SN_NEVER_NS: never */
	bool hinted;     /* SN_E_BREAKER: only because peers asked to be left alone */
};
/** What "default" means for a target. */
enum sn_balance sn__balance_of(
		const struct sn_policy *policy, struct sn_str kind, enum sn_dialect dialect);
/** 0 and pick->index, or SN_E_BREAKER. May start connects of our own. */
int sn__balance_pick(struct sn_pick *pick);
/** Whether there is a peer that is neither barred nor tried (mt, peers, policy, tried, now_ns). */
bool sn__balance_others(const struct sn_pick *pick);
/** After a breaker closed: what the others cost. */
void sn__balance_cold_cost(struct sn_peer_state *ps, uint64_t now_ns);

/* ---- probe.c ---- */

/** Connect to @ps without a request; its breaker is in OPEN and due. */
void sn__mesh_probe(struct sn_peer_state *ps, const struct sn_policy *policy);
void sn__mesh_probes_close(struct sn_mesh *mesh);

/* ---- account.c: what is written down about a call ---- */

struct sn_call;
/** SN_E_NOMEM. */
SN_MUST_USE int sn__account_open(struct sn_mesh *mesh);
void sn__account_close(struct sn_mesh *mesh);
/* What is counted of a target's calls. */
struct sn_target_counts {
	uint64_t calls, failed, attempts;
	uint64_t timed; /* calls that are in the buckets or beyond: no sessions */
	double seconds; /* of all calls together */
	uint64_t buckets[SN_METRICS_BUCKETS];
};
void sn__account_counts(const struct sn_mesh_target *mt, struct sn_target_counts *ret_counts);
void sn__account_retry(struct sn_mesh_target *mt, const struct sn_outcome *outcome);
/** The call has ended: metrics and recorder. */
void sn__account_call(struct sn_mesh_target *mt, const struct sn_call *call,
		const struct sn_error *err /* may be NULL */);

/* ---- call.c ---- */

/** Every call ends with SN_E_CLOSED. */
void sn__calls_close(struct sn_mesh *mesh);

/* ---- admit.c ---- */

/** Something changed: grant to who waits. */
void sn__mesh_drain(struct sn_mesh_target *mt);
/** Everybody who waits gets @code. */
void sn__mesh_refuse_all(struct sn_mesh_target *mt, int code);

#endif
