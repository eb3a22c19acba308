/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/mesh.h"

#include <string.h>

#include "base/mem.h"
#include "mesh/call.h"
#include "mesh/target.h"

int sn__mesh_create(const struct sn_mesh_options *opts, struct sn_mesh **ret_mesh)
{
	struct sn_mesh *mesh = sn__calloc(1, sizeof *mesh);

	if (mesh == NULL)
		return SN_E_NOMEM;
	mesh->opts = *opts;
	mesh->loop = opts->loop;
	mesh->next_id = sn__rng_u64(sn__loop_rng(opts->loop));
	sn_list_init(&mesh->targets);
	sn_list_init(&mesh->states);
	sn_list_init(&mesh->calls);
	sn_list_init(&mesh->probes);
	mesh->spare = sn__calloc(1, sizeof *mesh->spare);
	if (mesh->spare == NULL || sn__account_open(mesh) != 0) {
		sn__mesh_destroy(mesh);
		return SN_E_NOMEM;
	}
	*ret_mesh = mesh;
	return 0;
}

/* ---- the end ---- */

static void on_closed(struct sn_task *task)
{
	struct sn_mesh *mesh = SN_CONTAINER_OF(task, struct sn_mesh, close_task);

	if (mesh->close_done != NULL)
		mesh->close_done(mesh->close_arg);
}

void sn__mesh_ended(struct sn_mesh *mesh)
{
	if (!mesh->closing || mesh->closed || mesh->n_calls > 0)
		return;
	mesh->closed = true;
	sn__loop_defer(mesh->loop, &mesh->close_task, on_closed);
}

void sn__mesh_close(struct sn_mesh *mesh, void (*done)(void *arg), void *arg)
{
	assert(!mesh->closing);
	mesh->closing = true;
	mesh->close_done = done;
	mesh->close_arg = arg;
	sn__mesh_probes_close(mesh);
	sn__calls_close(mesh);
	SN_LIST_FOREACH (l, &mesh->targets)
		sn__mesh_refuse_all(SN_CONTAINER_OF(l, struct sn_mesh_target, link), SN_E_CLOSED);
	sn__mesh_ended(mesh);
}

/* The mesh's own reference goes; who else holds one frees plain memory later. */
static void state_drop(struct sn_peer_state *ps)
{
	sn_list_remove(&ps->link);
	if (ps->slot != NULL && ps->slot_destroy != NULL)
		ps->slot_destroy(ps->slot);
	ps->slot = NULL;
	ps->mt = NULL;
	sn__peer_state_unref(ps);
}

void sn__mesh_destroy(struct sn_mesh *mesh)
{
	if (mesh == NULL)
		return;
	sn__mesh_probes_close(mesh);
	SN_LIST_FOREACH_SAFE (l, &mesh->states) {
		state_drop(SN_CONTAINER_OF(l, struct sn_peer_state, link));
	}
	/* The targets' slots are left as they are: the catalog may be gone before us. */
	SN_LIST_FOREACH_SAFE (l, &mesh->targets) {
		sn__free(SN_CONTAINER_OF(l, struct sn_mesh_target, link)->block);
	}
	sn__account_close(mesh);
	sn__free(mesh->spare);
	sn__free(mesh);
}

/* ---- small things ---- */

unsigned sn__mesh_calls(const struct sn_mesh *mesh)
{
	return mesh->n_calls;
}

const struct sn_policy *sn__mesh_policy(
		struct sn_mesh *mesh, struct sn_target *t, enum sn_dialect dialect)
{
	struct sn_mesh_target *mt = sn__mesh_target(mesh, t);
	struct sn_policy_cache none = {0};

	return mt != NULL ? sn_mesh_target_policy(mt, dialect)
			  : sn__policies_of(mesh->opts.policies, t, &none, dialect);
}

/* ---- targets and peers ---- */

struct sn_mesh_target *sn__mesh_target(struct sn_mesh *mesh, struct sn_target *t)
{
	struct sn_mesh_target *mt = atomic_load_explicit(sn__target_slot(t), memory_order_acquire);
	void *block;

	if (mt != NULL)
		return mt;
	mt = sn_alloc_line(sizeof *mt, &block);
	if (mt == NULL)
		return NULL;
	mt->block = block;
	mt->mesh = mesh;
	mt->target = t;
	sn_list_init(&mt->pending);
	sn_list_push_back(&mesh->targets, &mt->link);
	atomic_store_explicit(sn__target_slot(t), mt, memory_order_release);
	return mt;
}

struct sn_peer_state *sn__mesh_peer(struct sn_mesh_target *mt, const struct sn_peer *peer)
{
	/* The member is atomic: filling it in a const version is what it is for. */
	_Atomic(struct sn_peer_state *) *slot = &((struct sn_peer *)(uintptr_t)peer)->state;
	struct sn_peer_state *ps = atomic_load_explicit(slot, memory_order_acquire);

	if (ps != NULL)
		return ps;
	ps = sn__peer_state_create(mt, peer, ++mt->mesh->serial);
	if (ps == NULL)
		return NULL;
	sn_list_push_back(&mt->mesh->states, &ps->link);
	mt->mesh->born++;
	if (mt->force != SN_BREAKER_AUTO && sn__mesh_breaker(ps) != NULL) {
		sn__breaker_force(ps->breaker, mt->force, sn__loop_now_ns(mt->mesh->loop));
		sn__mesh_breaker_changed(ps);
	}
	atomic_store_explicit(slot, sn__peer_state_ref(ps), memory_order_release);
	return ps;
}

struct sn_breaker *sn__mesh_breaker(struct sn_peer_state *ps)
{
	if (ps->breaker == NULL) {
		struct sn_breaker *b = sn__malloc(sizeof *b);

		if (b == NULL)
			return NULL;
		sn__breaker_init(b, sn__loop_now_ns(ps->mt->mesh->loop));
		ps->breaker = b;
	}
	return ps->breaker;
}

void sn__mesh_breaker_changed(struct sn_peer_state *ps)
{
	bool was = atomic_load_explicit(&ps->barred, memory_order_relaxed) != 0;
	bool is = sn__breaker_barred(ps->breaker);

	ps->mt->probe_due_ns = 0;
	if (was == is)
		return;
	atomic_store_explicit(&ps->barred, is, memory_order_relaxed);
	if (is)
		ps->mt->n_barred++;
	else
		ps->mt->n_barred--;
}

/* Touching a state that nobody uses costs memory latency: only with every 64th call, and as often
 * as states are made: peers that come and go with every call must not be forgotten more slowly. */
#define SWEEP_EVERY 64
#define SWEEP_STEPS 16
#define SWEEP_A_BIRTH 2
#define SWEEP_BIRTHS 256 /* at most in one call */

void sn__mesh_sweep(struct sn_mesh *mesh)
{
	unsigned births = SN_MIN(mesh->born, SWEEP_BIRTHS), steps = births * SWEEP_A_BIRTH;

	if (++mesh->sweep % SWEEP_EVERY == 0)
		steps += SWEEP_STEPS;
	mesh->born -= births;
	for (unsigned i = 0; i < steps && !sn_list_empty(&mesh->states); i++) {
		struct sn_peer_state *ps = SN_CONTAINER_OF(
				mesh->states.next, struct sn_peer_state, link);

		sn_list_remove(&ps->link);
		sn_list_push_back(&mesh->states, &ps->link);
		if (atomic_load_explicit(&ps->refs, memory_order_acquire) > 1 ||
				atomic_load_explicit(&ps->inflight, memory_order_relaxed) > 0)
			continue;
		/* Only ours is left: no version shows the peer any more, nothing can find it. */
		if (atomic_load_explicit(&ps->barred, memory_order_relaxed) != 0)
			ps->mt->n_barred--;
		state_drop(ps);
	}
}

/* ---- operators ---- */

int sn__mesh_breaker_force(struct sn_mesh *mesh, struct sn_target *t, const char *identity,
		enum sn_breaker_force force)
{
	struct sn_mesh_target *mt = sn__mesh_target(mesh, t);
	const struct sn_peers *peers = sn__target_peers(t);
	uint32_t found = 0;

	if (mt == NULL)
		return SN_E_NOMEM;
	for (uint32_t i = 0; peers != NULL && i < peers->n; i++) {
		struct sn_peer_state *ps;

		if (identity != NULL && !sn_str_eq(peers->peers[i].identity, sn_str_from(identity)))
			continue;
		ps = sn__mesh_peer(mt, &peers->peers[i]);
		if (ps == NULL || sn__mesh_breaker(ps) == NULL)
			return SN_E_NOMEM;
		sn__breaker_force(ps->breaker, force, sn__loop_now_ns(mesh->loop));
		sn__mesh_breaker_changed(ps);
		found++;
	}
	if (identity == NULL)
		mt->force = force; /* of peers to come, too */
	else if (found == 0)
		return SN_E_NOT_FOUND;
	sn__mesh_drain(mt);
	return 0;
}

void sn__mesh_target_each_peer(struct sn_mesh_target *mt,
		void (*fn)(const struct sn_target *t, const struct sn_peer_stat *stat, void *arg),
		void *arg)
{
	uint64_t now = sn__loop_now_ns(mt->mesh->loop);
	const struct sn_peers *peers = sn__target_peers(mt->target);

	for (uint32_t i = 0; peers != NULL && i < peers->n; i++) {
		const struct sn_peer_state *ps = atomic_load_explicit(
				&peers->peers[i].state, memory_order_acquire);
		struct sn_peer_stat stat;

		if (ps == NULL)
			continue;
		stat = (struct sn_peer_stat){.identity = ps->identity,
				.address = ps->address,
				.port = ps->port,
				.calls = ps->n_calls,
				.failures = ps->n_failures,
				.breaker = sn__breaker_name(ps->breaker),
				.cost_ns = (uint64_t)sn__peer_state_cost(ps, now),
				.inflight = atomic_load_explicit(
						&ps->inflight, memory_order_relaxed)};
		if (ps->breaker != NULL && sn__breaker_due(ps->breaker) != SN_NEVER_NS)
			stat.due_ns = sn__breaker_due(ps->breaker);
		fn(mt->target, &stat, arg);
	}
}

void sn__mesh_each_peer(struct sn_mesh *mesh, struct sn_target *t,
		void (*fn)(const struct sn_target *t, const struct sn_peer_stat *stat, void *arg),
		void *arg)
{
	SN_LIST_FOREACH (l, &mesh->targets) {
		struct sn_mesh_target *mt = SN_CONTAINER_OF(l, struct sn_mesh_target, link);

		if (t == NULL || mt->target == t)
			sn__mesh_target_each_peer(mt, fn, arg);
	}
}
