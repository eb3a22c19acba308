/* SPDX-License-Identifier: Apache-2.0 */
/* A breaker that connect errors opened is probed by a connect of our own, without a request: no
 * caller's call is spent on a peer that is not there. */
#include "base/mem.h"
#include "io/resolve.h"
#include "io/stream.h"
#include "mesh/target.h"

struct probe {
	struct sn_list link; /* mesh->probes */
	struct sn_mesh *mesh;
	struct sn_peer_state *ps;
	struct sn_policy_tree *tree; /* of policy */
	const struct sn_policy *policy;
	uint32_t generation;
	unsigned next;
	struct sn_timer timer;
	struct sn_stream *stream;
	struct sn_resolve resolve;
};

static void probe_free(struct probe *pr)
{
	sn__resolve_cancel(&pr->resolve);
	sn__timer_stop(pr->mesh->loop, &pr->timer);
	sn__stream_close(pr->stream, true);
	sn_list_remove(&pr->link);
	sn__peer_state_unref(pr->ps);
	sn__policies_release(pr->tree);
	sn__free(pr);
}

static void probe_end(struct probe *pr, bool ok)
{
	struct sn_mesh *mesh = pr->mesh;
	struct sn_mesh_target *mt = pr->ps->mt;

	sn__breaker_connected(pr->ps->breaker, pr->generation, ok, pr->policy,
			sn__loop_now_ns(mesh->loop), sn__loop_rng(mesh->loop));
	sn__mesh_breaker_changed(pr->ps);
	probe_free(pr);
	sn__mesh_drain(mt);
	sn__mesh_ended(mesh);
}

static void try_next(struct probe *pr);

static void on_stream(struct sn_stream *s, unsigned events, void *arg)
{
	struct probe *pr = arg;

	if ((events & SN_STREAM_CONNECTED) != 0) {
		probe_end(pr, true);
	} else if ((events & SN_STREAM_FAILED) != 0) {
		sn__stream_close(s, true);
		pr->stream = NULL;
		try_next(pr);
	}
}

static void try_next(struct probe *pr)
{
	while (pr->next < pr->resolve.n_addrs) {
		if (sn__stream_connect(pr->mesh->loop, &pr->resolve.addrs[pr->next++], on_stream,
				    pr, &pr->stream, NULL) == 0)
			return;
		pr->stream = NULL;
	}
	probe_end(pr, false);
}

static void on_resolved(struct sn_resolve *op, int status)
{
	struct probe *pr = SN_CONTAINER_OF(op, struct probe, resolve);

	if (status != 0)
		probe_end(pr, false);
	else
		try_next(pr);
}

static void on_timeout(struct sn_timer *t)
{
	probe_end(SN_CONTAINER_OF(t, struct probe, timer), false);
}

void sn__mesh_probe(struct sn_peer_state *ps, const struct sn_policy *policy)
{
	struct sn_mesh *mesh = ps->mt->mesh;
	struct probe *pr = sn__calloc(1, sizeof *pr);
	uint64_t timeout_ns = sn_ms_to_ns(policy->connect_timeout);

	if (pr == NULL ||
			sn__resolve(mesh->loop, &pr->resolve, ps->address, ps->port, on_resolved) !=
					0) {
		sn__free(pr);
		sn__breaker_skip_connect(ps->breaker);
		return;
	}
	pr->mesh = mesh;
	pr->ps = sn__peer_state_ref(ps);
	pr->tree = sn__policies_hold(mesh->opts.policies);
	pr->policy = policy;
	/* The timer may be late by a slot; the breaker gives up only if it never comes. */
	pr->generation = sn__breaker_connecting(
			ps->breaker, sn__loop_now_ns(mesh->loop) + timeout_ns + SN_NS_PER_S);
	sn__timer_start(mesh->loop, &pr->timer, timeout_ns, on_timeout);
	sn_list_push_back(&mesh->probes, &pr->link);
}

void sn__mesh_probes_close(struct sn_mesh *mesh)
{
	SN_LIST_FOREACH_SAFE (l, &mesh->probes)
		probe_free(SN_CONTAINER_OF(l, struct probe, link));
}
