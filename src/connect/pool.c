/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who holds what: a peer's state holds a `hold` in its slot, which counts one instance; a call counts
 * the instance of its attempt. The mesh keeps a state until some later sweep, but an entry that has
 * left or changed should be let go at once: so every target with holds is watched, and a hold whose
 * state is in the new version no more is dropped.
 *
 * An instance whose count is 0 can be found no more. It closes in a turn of its own, for the last
 * unref may come from inside the driver's own completion; finish() has a turn of its own likewise.
 */

#include "connect/pool.h"

#include <stdio.h>

#include "base/mem.h"
#include "mesh/runtime.h"

#define ENTRY_MAX ((size_t)1 << 20) /* bytes of an entry and what is made of it */

struct watch {
	struct sn_target_monitor monitor;
	struct sn_list link;  /* pool->watches */
	struct sn_list holds; /* hold.link */
};

struct hold {
	struct sn_list link;
	struct sn_peer_state *ps;
	struct sn_instance *inst;
};

/* ---- instances ---- */

static void instance_free(struct sn_instance *inst)
{
	sn__settings_destroy(inst->settings);
	sn__free(inst->state);
	sn__free(inst->texts);
	sn__free(inst);
}

static void pool_done(struct sn_task *task)
{
	struct sn_driver_pool *pool = SN_CONTAINER_OF(task, struct sn_driver_pool, task);

	pool->done(pool->arg);
}

static void pool_check(struct sn_driver_pool *pool)
{
	if (pool->closing && pool->n_open == 0 && !sn_task_queued(&pool->task))
		sn__loop_defer(pool->host.loop, &pool->task, pool_done);
}

static void instance_finish(struct sn_task *task)
{
	struct sn_instance *inst = SN_CONTAINER_OF(task, struct sn_instance, task);
	struct sn_driver_pool *pool = inst->pool;

	inst->driver->finish(inst->state);
	instance_free(inst);
	pool->n_open--;
	pool_check(pool);
}

static void instance_closed(void *arg)
{
	struct sn_instance *inst = arg;

	sn__loop_defer(inst->pool->host.loop, &inst->task, instance_finish);
}

static void instance_close(struct sn_task *task)
{
	struct sn_instance *inst = SN_CONTAINER_OF(task, struct sn_instance, task);

	inst->driver->close(inst->state, instance_closed, inst);
}

void sn__instance_unref(struct sn_instance *inst)
{
	if (inst == NULL || --inst->refs > 0)
		return;
	sn_list_remove(&inst->link);
	sn__loop_defer(inst->pool->host.loop, &inst->task, instance_close);
}

static char *put(char **at, struct sn_str s)
{
	char *copy = *at;

	if (s.len > 0)
		memcpy(copy, s.ptr, s.len);
	copy[s.len] = '\0';
	*at += s.len + 1;
	return copy;
}

/* The texts that live as long as the instance, in one block. */
static int instance_texts(
		struct sn_instance *inst, const struct sn_peer *peer, const struct sn_entry *e)
{
	char *at = sn__malloc(
			peer->identity.len + peer->json.len + e->config.len + e->resource.len + 4);

	if (at == NULL)
		return SN_E_NOMEM;
	inst->texts = at;
	inst->identity = (struct sn_str){put(&at, peer->identity), peer->identity.len};
	inst->json = (struct sn_str){put(&at, peer->json), peer->json.len};
	inst->how.peer = inst->json.ptr;
	inst->how.config = put(&at, e->config);
	inst->how.resource = put(&at, e->resource);
	return 0;
}

static int instance_start(struct sn_instance *inst, struct sn_error *err)
{
	const struct sn_driver *d = inst->driver;
	int r = 0;

	if ((d->capabilities & SN_DRIVER_BY_OPTIONS) != 0)
		r = sn__settings_read(d, inst->how.config, true, inst->pool->host.log,
				&inst->settings, err);
	if (r < 0)
		return r;
	if (inst->settings != NULL)
		inst->how.options = sn__settings_options(inst->settings);
	inst->sql = (struct sn_sql_binding){.ops = d->ops};
	inst->calls = sn__driver_calls(d);
	inst->state = sn__calloc(1, SN_MAX(d->state_size, 1u));
	if (inst->state == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	inst->sql.state = inst->state;
	inst->calls_instance = d->calls == NULL ? &inst->sql : inst->state;
	inst->how.size = sizeof(inst->how);
	inst->how.host = &inst->pool->host.pub;
	r = d->open(inst->state, &inst->how);
	if (r < 0) {
		inst->how.error[sizeof(inst->how.error) - 1] = '\0';
		return sn__error_set(err, r, "%s",
				inst->how.error[0] != '\0' ? inst->how.error : sn_strerror(r));
	}
	return 0;
}

static int instance_open(struct sn_driver_pool *pool, const struct sn_driver *driver,
		const struct sn_peer *peer, const struct sn_entry *e,
		struct sn_instance **ret_instance, struct sn_error *err)
{
	struct sn_instance *inst = sn__calloc(1, sizeof(*inst));
	int r = inst != NULL ? instance_texts(inst, peer, e) : SN_E_NOMEM;

	if (r < 0) {
		sn__free(inst);
		return sn__error_set(err, r, "out of memory");
	}
	inst->pool = pool;
	inst->driver = driver;
	inst->refs = 1;
	r = instance_start(inst, err);
	if (r < 0) {
		instance_free(inst);
		return r;
	}
	sn_list_push_back(&pool->instances, &inst->link);
	pool->n_open++;
	*ret_instance = inst;
	return 0;
}

/* ---- what an entry asks for ---- */

static int driver_of(const struct sn_instance_wish *w, const struct sn_entry *e,
		const struct sn_driver **ret_driver, struct sn_error *err)
{
	struct sn_error why;
	int r = sn__driver_find(w->kind->topic, e->type, ret_driver, &why);

	if (r == 0 && sn__driver_calls(*ret_driver) == NULL)
		return sn__error_set(err, SN_E_NOTSUP, "%s not supported: it has no calls",
				(*ret_driver)->name);
	if (r == 0 || r == SN_E_NOMEM)
		return r < 0 ? sn__error_set(err, r, "out of memory") : 0;
	return sn__error_set(err, SN_E_NOTSUP, "%.*s not supported: %s",
			(int)SN_MIN(e->type.len, 64u), e->type.ptr, why.text);
}

static struct sn_instance *find(struct sn_driver_pool *pool, const struct sn_driver *driver,
		const struct sn_peer *peer)
{
	SN_LIST_FOREACH (pos, &pool->instances) {
		struct sn_instance *inst = SN_CONTAINER_OF(pos, struct sn_instance, link);

		if (inst->driver == driver && sn_str_eq(inst->json, peer->json) &&
				sn_str_eq(inst->identity, peer->identity))
			return inst;
	}
	return NULL;
}

/* Found or opened; counted. */
static int instance_of(struct sn_driver_pool *pool, const struct sn_instance_wish *w,
		struct sn_arena *arena, struct sn_instance **ret_instance, struct sn_error *err)
{
	const struct sn_driver *driver;
	struct sn_instance *inst;
	struct sn_entry e;
	int r = sn__entry_read(w->kind, w->peer->json, arena, &e);

	if (r == SN_E_INVALID)
		return sn__error_set(err, r, "entry %s is no object, or its config is none",
				w->peer->identity.ptr);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	r = driver_of(w, &e, &driver, err);
	if (r < 0)
		return r;
	inst = find(pool, driver, w->peer);
	if (inst == NULL)
		return instance_open(pool, driver, w->peer, &e, ret_instance, err);
	inst->refs++;
	*ret_instance = inst;
	return 0;
}

/* ---- holds ---- */

static void hold_destroy(void *slot)
{
	struct hold *h = slot;

	sn_list_remove(&h->link);
	sn__instance_unref(h->inst);
	sn__free(h);
}

static void hold_drop(struct hold *h)
{
	h->ps->slot = NULL;
	hold_destroy(h);
}

static bool is_present(const struct sn_peers *peers, const struct sn_peer_state *ps)
{
	for (uint32_t i = 0; peers != NULL && i < peers->n; i++) {
		if (atomic_load_explicit(&peers->peers[i].state, memory_order_acquire) == ps)
			return true;
	}
	return false;
}

static void on_peers(struct sn_target_monitor *monitor, const struct sn_peers *peers)
{
	struct watch *w = SN_CONTAINER_OF(monitor, struct watch, monitor);

	SN_LIST_FOREACH_SAFE (pos, &w->holds) {
		struct hold *h = SN_CONTAINER_OF(pos, struct hold, link);

		if (!is_present(peers, h->ps))
			hold_drop(h);
	}
}

static struct watch *watch_of(struct sn_driver_pool *pool, struct sn_target *t)
{
	struct watch *w;

	SN_LIST_FOREACH (pos, &pool->watches) {
		w = SN_CONTAINER_OF(pos, struct watch, link);
		if (w->monitor.target == t)
			return w;
	}
	w = sn__calloc(1, sizeof(*w));
	if (w == NULL)
		return NULL;
	sn_list_init(&w->holds);
	sn_list_push_back(&pool->watches, &w->link);
	sn__target_monitor_start(t, &w->monitor, on_peers);
	return w;
}

/* Hang the instance on the peer; the peer's count is its own. */
static int hold_make(struct sn_driver_pool *pool, const struct sn_instance_wish *wish,
		struct sn_instance *inst)
{
	struct watch *w = watch_of(pool, wish->target);
	struct hold *h = w != NULL ? sn__calloc(1, sizeof(*h)) : NULL;

	if (h == NULL)
		return SN_E_NOMEM;
	h->ps = wish->ps;
	h->inst = inst;
	inst->refs++;
	sn_list_push_back(&w->holds, &h->link);
	wish->ps->slot = h;
	wish->ps->slot_destroy = hold_destroy;
	return 0;
}

const struct sn_driver *sn__instance_driver(const struct sn_peer_state *ps)
{
	const struct hold *h = ps->slot;

	return h != NULL ? h->inst->driver : NULL;
}

int sn__instance_get(struct sn_driver_pool *pool, const struct sn_instance_wish *wish,
		struct sn_instance **ret_instance, struct sn_error *err)
{
	struct hold *h = wish->ps->slot;
	struct sn_instance *inst = NULL;
	struct sn_arena arena;
	int r;

	pool->host.pool = pool->host.rt != NULL ? pool->host.rt->pool : pool->host.pool;
	if (pool->closing)
		return sn__error_set(err, SN_E_CLOSED, "%s", sn_strerror(SN_E_CLOSED));
	/* A state with an address stays when the rest of its entry changes. */
	if (h != NULL && sn_str_eq(h->inst->json, wish->peer->json)) {
		h->inst->refs++;
		*ret_instance = h->inst;
		return 0;
	}
	sn__arena_init(&arena, 1024, ENTRY_MAX);
	r = instance_of(pool, wish, &arena, &inst, err);
	sn__arena_finish(&arena);
	if (r < 0)
		return r;
	if (h != NULL)
		hold_drop(h);
	r = hold_make(pool, wish, inst);
	if (r < 0) {
		sn__instance_unref(inst);
		return sn__error_set(err, r, "out of memory");
	}
	*ret_instance = inst;
	return 0;
}

/* ---- the whole ---- */

void sn__driver_pool_init(struct sn_driver_pool *pool, const struct sn_connect_host *host)
{
	memset(pool, 0, sizeof(*pool));
	pool->host = *host;
	sn__connect_host_init(&pool->host);
	sn_list_init(&pool->instances);
	sn_list_init(&pool->watches);
}

void sn__driver_pool_close(struct sn_driver_pool *pool, void (*done)(void *arg), void *arg)
{
	pool->closing = true;
	pool->done = done;
	pool->arg = arg;
	while (!sn_list_empty(&pool->watches)) {
		struct watch *w = SN_CONTAINER_OF(
				sn_list_pop_front(&pool->watches), struct watch, link);

		sn__target_monitor_stop(&w->monitor);
		while (!sn_list_empty(&w->holds))
			hold_drop(SN_CONTAINER_OF(w->holds.next, struct hold, link));
		sn__free(w);
	}
	pool_check(pool);
}
