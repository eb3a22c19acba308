/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_REGISTRY_WORLD_TEST_H
#define SN_SRC_HUB_REGISTRY_WORLD_TEST_H

/*
 * Internal, tests only: hubs on one store in a simulated world, each with its own way to the store
 * that can be slow, lose answers, refuse, be cut off; nodes that are there or not; a checker that asks
 * them.
 */

#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "hub/registry.h"
#include "io/sim.h"

/* ---- the way to the store: an engine that passes everything on ---- */

struct way_op {
	struct sn_hub_op op; /* of the store behind */
	struct sn_hub_op *of;
	struct way *way;
	struct sn_timer timer;
	struct sn_list link; /* way.ops */
	int code;
	bool used, lost; /* lost: the answer */
	bool arrived;
};

struct way_watch {
	struct sn_hub_watch w; /* at the store behind */
	struct sn_hub_watch *of;
	struct way *way;
	struct sn_list link; /* way.watches */
	bool lost;
};

/* None of it is the library's memory, so that it never runs short. */
#define WAY_OPS 300
struct way {
	struct sn_hub_store store; /* first */
	struct way_op pool[WAY_OPS];
	struct way_watch watch_pool[2];
	struct sn_hub_store *behind;
	struct sn_rng *rng;
	struct sn_list ops, watches;
	/* chances in 1000, of every operation */
	unsigned refuse, lose;
	uint32_t delay_ms; /* at most */
	bool cut;
	uint64_t last_ns; /* answers keep their order */
	void (*done)(void *arg);
	void *done_arg;
	struct sn_task task;
	bool closing;
};

static inline bool way_chance(struct way *way, unsigned per_mille)
{
	return per_mille > 0 && sn__rng_below(way->rng, 1000) < per_mille;
}

static inline void way_answer(struct sn_timer *t)
{
	struct way_op *o = SN_CONTAINER_OF(t, struct way_op, timer);
	struct sn_hub_op *of = o->of;
	int code = o->code;

	if (o->lost) {
		code = SN_E_TIMEOUT;
		(void)sn__error_set(&of->err, code, "no answer");
	} else {
		of->err = o->op.err;
		of->revision = o->op.revision;
		of->granted = o->op.granted;
	}
	sn_list_remove(&o->link);
	o->used = false;
	of->done(of, code);
}

static inline void way_later(struct way_op *o)
{
	struct way *way = o->way;
	uint64_t now = sn__loop_now_ns(way->store.loop), at = now;

	if (way->delay_ms > 0)
		at += sn_ms_to_ns(sn__rng_below(way->rng, way->delay_ms + 1));
	at = SN_MAX(at, way->last_ns);
	way->last_ns = at;
	sn__timer_start(way->store.loop, &o->timer, at - now, way_answer);
}

static inline void way_entry(struct sn_hub_op *op, const struct sn_hub_entry *e)
{
	struct way_op *o = SN_CONTAINER_OF(op, struct way_op, op);

	if (o->of->entry != NULL && !o->lost)
		o->of->entry(o->of, e);
}

static inline void way_done(struct sn_hub_op *op, int code)
{
	struct way_op *o = SN_CONTAINER_OF(op, struct way_op, op);

	o->code = code;
	way_later(o);
}

static inline void way_submit(struct sn_hub_store *store, struct sn_hub_op *op)
{
	struct way *way = (struct way *)store;
	unsigned i = 0;
	struct way_op *o;

	while (way->pool[i].used)
		assert_true(++i < WAY_OPS);
	o = &way->pool[i];
	*o = (struct way_op){.used = true};

	o->of = op;
	o->way = way;
	o->op = *op;
	o->op.done = way_done;
	o->op.entry = way_entry;
	sn_list_push_back(&way->ops, &o->link);
	if (way->cut || way_chance(way, way->refuse)) {
		o->code = SN_E_CONNECT;
		(void)sn__error_set(&o->op.err, SN_E_CONNECT, "the store is away");
		way_later(o);
		return;
	}
	o->lost = way_chance(way, way->lose);
	sn_hub_submit(way->behind, &o->op);
}

static inline void way_change(struct sn_hub_watch *w, const struct sn_hub_entry *e, bool removed)
{
	struct way_watch *ww = SN_CONTAINER_OF(w, struct way_watch, w);

	if (ww->way->cut)
		ww->lost = true;
	else
		ww->of->change(ww->of, e, removed);
}

static inline void way_lost(struct sn_hub_watch *w, uint64_t revision)
{
	struct way_watch *ww = SN_CONTAINER_OF(w, struct way_watch, w);

	if (ww->way->cut)
		ww->lost = true;
	else
		ww->of->lost(ww->of, revision);
}

static inline void way_watch(struct sn_hub_store *store, struct sn_hub_watch *w)
{
	struct way *way = (struct way *)store;
	struct way_watch *ww = way->watch_pool[0].of == NULL ? &way->watch_pool[0]
							     : &way->watch_pool[1];

	assert_null(ww->of);

	ww->w = *w;
	ww->w.change = way_change;
	ww->w.lost = way_lost;
	ww->of = w;
	ww->way = way;
	sn_list_push_back(&way->watches, &ww->link);
	way->behind->ops->watch(way->behind, &ww->w);
}

static inline void way_unwatch(struct sn_hub_store *store, struct sn_hub_watch *w)
{
	struct way *way = (struct way *)store;

	SN_LIST_FOREACH (at, &way->watches) {
		struct way_watch *ww = SN_CONTAINER_OF(at, struct way_watch, link);

		if (ww->of != w)
			continue;
		way->behind->ops->unwatch(way->behind, &ww->w);
		sn_list_remove(at);
		ww->of = NULL;
		return;
	}
	fail_msg("not watched");
}

/* The way is whole again: what happened meanwhile is not known. */
static inline void way_heal(struct way *way)
{
	way->cut = false;
	SN_LIST_FOREACH (at, &way->watches) {
		struct way_watch *ww = SN_CONTAINER_OF(at, struct way_watch, link);

		if (ww->lost)
			ww->of->lost(ww->of, 1);
		ww->lost = false;
	}
}

static const struct sn_hub_store_ops way_ops = {
		.name = "way", .submit = way_submit, .watch = way_watch, .unwatch = way_unwatch};

static inline void way_init(struct way *way, struct sn_hub_store *behind, struct sn_rng *rng)
{
	memset(way, 0, sizeof *way);
	way->store = (struct sn_hub_store){.ops = &way_ops, .loop = behind->loop};
	way->behind = behind;
	way->rng = rng;
	sn_list_init(&way->ops);
	sn_list_init(&way->watches);
}

/* ---- nodes, and the checker that asks them ---- */

#define WORLD_NODES 64
#define WORLD_HUBS 3

struct world_node {
	bool alive;
	uint32_t slow_ms; /* to answer */
	unsigned asked;
};

struct world_probe {
	struct sn_hub_probe *probe;
	struct world *world;
	struct sn_timer timer;
	struct sn_list link; /* world.probes */
	bool cancelled, ok;
};

struct world_hub {
	struct way way;
	struct sn_hub_registry *registry;
	struct sn_hub_watcher watcher;
	/* what the watcher was told */
	char ids[WORLD_NODES][16], addresses[WORLD_NODES][16];
	unsigned n_told, n_settled;
	char name[16];
	bool open;
};

#define WORLD_PROBES 600
struct world {
	struct world_probe pool[WORLD_PROBES];
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_hub_store *store;
	struct sn_hub_checker checker;
	struct sn_list probes;
	unsigned n_probes, max_probes;
	struct world_node nodes[1000]; /* by port */
	struct world_hub hubs[WORLD_HUBS];
	struct sn_hub_registry_options opts;
	struct sn_rng rng;
	int64_t live;
	bool cut; /* the ways of hubs that open */
};

static inline unsigned world_port(const char *address)
{
	uint64_t port = 0;

	assert_int_equal(sn__parse_u64(sn_str_from(address + 2), 999, &port), 0); /* "a:17" */
	return (unsigned)port;
}

static inline void world_answered(struct sn_timer *t)
{
	struct world_probe *p = SN_CONTAINER_OF(t, struct world_probe, timer);
	struct sn_hub_probe *probe = p->probe;
	struct sn_error err;
	bool ok = p->ok;

	p->world->n_probes--;
	sn_list_remove(&p->link);
	(void)sn__error_set(&err, p->cancelled ? SN_E_CANCELLED : SN_E_CONNECT, "nobody there");
	ok = ok && !p->cancelled;
	p->probe = NULL;
	probe->done(probe, ok ? NULL : &err);
}

static inline void world_probe(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	struct world *w = SN_CONTAINER_OF(checker, struct world, checker);
	struct world_node *node = &w->nodes[world_port(probe->address)];
	struct world_probe *p = w->pool;
	uint64_t ms = node->slow_ms;

	while (p->probe != NULL)
		assert_true(++p < w->pool + WORLD_PROBES);
	*p = (struct world_probe){0};

	p->world = w;
	p->probe = probe;
	p->ok = node->alive && ms < probe->timeout_ms;
	if (ms > probe->timeout_ms)
		ms = probe->timeout_ms;
	node->asked++;
	w->n_probes++;
	w->max_probes = SN_MAX(w->max_probes, w->n_probes);
	sn_list_push_back(&w->probes, &p->link);
	sn__timer_start(w->loop, &p->timer, sn_ms_to_ns(ms), world_answered);
}

static inline void world_cancel(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	struct world *w = SN_CONTAINER_OF(checker, struct world, checker);

	SN_LIST_FOREACH (at, &w->probes) {
		struct world_probe *p = SN_CONTAINER_OF(at, struct world_probe, link);

		if (p->probe != probe)
			continue;
		p->cancelled = true;
		sn__timer_start(w->loop, &p->timer, 0, world_answered);
		return;
	}
	fail_msg("not being checked");
}

/* ---- hubs ---- */

static inline void world_changed(
		struct sn_hub_watcher *w, const struct sn_hub_node *node, bool removed)
{
	struct world_hub *h = SN_CONTAINER_OF(w, struct world_hub, watcher);
	unsigned i = 0, free_one = WORLD_NODES;

	for (; i < WORLD_NODES && strcmp(h->ids[i], node->id) != 0; i++)
		if (h->ids[i][0] == '\0' && free_one == WORLD_NODES)
			free_one = i;
	h->n_told++;
	if (removed) {
		assert_true(i < WORLD_NODES); /* it was told of before */
		h->ids[i][0] = '\0';
		return;
	}
	if (i == WORLD_NODES)
		i = free_one;
	assert_true(i < WORLD_NODES);
	(void)snprintf(h->ids[i], sizeof h->ids[i], "%s", node->id);
	(void)snprintf(h->addresses[i], sizeof h->addresses[i], "%s", node->address);
}

static inline void world_settled(struct sn_hub_watcher *w)
{
	SN_CONTAINER_OF(w, struct world_hub, watcher)->n_settled++;
}

/* Hub @i, which says that it is @name. */
static inline void world_hub_open_as(struct world *w, unsigned i, const char *name)
{
	struct world_hub *h = &w->hubs[i];

	assert_false(h->open);
	memset(h, 0, sizeof *h);
	h->open = true;
	(void)snprintf(h->name, sizeof h->name, "%s", name);
	way_init(&h->way, w->store, &w->rng);
	h->way.cut = w->cut;
	w->opts.store = &h->way.store;
	w->opts.checker = &w->checker;
	w->opts.hub = h->name;
	assert_int_equal(sn__hub_registry_open(w->loop, &w->opts, &h->registry, NULL), 0);
	h->watcher.changed = world_changed;
	h->watcher.settled = world_settled;
	sn__hub_watch_add(h->registry, &h->watcher);
}

static inline void world_hub_open(struct world *w, unsigned i)
{
	char name[8];

	(void)snprintf(name, sizeof name, "hub%u", i);
	world_hub_open_as(w, i, name);
}

static inline void world_pass(struct world *w, uint64_t ms)
{
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + sn_ms_to_ns(ms));
}

static inline void world_set(void *arg)
{
	*(bool *)arg = true;
}

/* @crash: without a word to the store. */
static inline void world_hub_close(struct world *w, unsigned i, bool crash)
{
	struct world_hub *h = &w->hubs[i];
	bool closed = false;

	if (!h->open)
		return;
	h->way.cut = h->way.cut || crash;
	sn__hub_registry_close(h->registry, world_set, &closed);
	for (unsigned n = 0; !closed && n < 10000; n++)
		world_pass(w, 1);
	assert_true(closed);
	assert_true(sn_list_empty(&h->way.ops));
	assert_true(sn_list_empty(&h->way.watches));
	h->open = false;
}

static inline struct world *world_new(uint64_t seed)
{
	struct sn_sim_options opts = {.seed = seed};
	int64_t live = sn__mem_live();
	struct world *w = test_calloc(1, sizeof *w);

	w->live = live;
	assert_int_equal(sn__sim_create(&opts, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->loop), 0);
	assert_int_equal(sn__hub_memory_open(w->loop, &w->store), 0);
	sn__rng_seed(&w->rng, seed);
	sn_list_init(&w->probes);
	w->checker = (struct sn_hub_checker){.start = world_probe, .cancel = world_cancel};
	return w;
}

static inline void world_free(struct world *w)
{
	bool closed = false;

	for (unsigned i = 0; i < WORLD_HUBS; i++)
		world_hub_close(w, i, false);
	assert_int_equal(w->n_probes, 0);
	w->store->ops->close(w->store, world_set, &closed);
	world_pass(w, 10);
	assert_true(closed);
	sn__loop_close(w->loop, NULL, NULL);
	sn__sim_destroy(w->sim);
	assert_int_equal(sn__mem_live(), w->live);
	test_free(w);
}

/* ---- changes ---- */

struct world_change {
	struct sn_hub_change c; /* first */
	unsigned done;
	enum sn_hub_refusal refusal;
	int code;
	char address[16], text[128];
};

static inline void world_change_done(struct sn_hub_change *c, enum sn_hub_refusal refusal,
		const struct sn_hub_node *node, const struct sn_error *err)
{
	struct world_change *wc = (struct world_change *)c;

	wc->done++;
	wc->refusal = refusal;
	wc->code = err != NULL ? err->code : 0;
	assert_true((refusal == SN_HUB_OK) == (err == NULL));
	(void)snprintf(wc->text, sizeof wc->text, "%s", err != NULL ? err->text : "");
	(void)snprintf(wc->address, sizeof wc->address, "%s", node != NULL ? node->address : "");
}

static inline void world_register(struct world *w, unsigned hub, const char *id,
		const char *address, struct world_change *wc)
{
	memset(wc, 0, sizeof *wc);
	wc->c.done = world_change_done;
	assert_int_equal(sn__hub_register(w->hubs[hub].registry, id, address, NULL, &wc->c), 0);
	assert_int_equal(wc->done, 0);
}

static inline void world_unregister(
		struct world *w, unsigned hub, const char *id, struct world_change *wc)
{
	memset(wc, 0, sizeof *wc);
	wc->c.done = world_change_done;
	assert_int_equal(sn__hub_unregister(w->hubs[hub].registry, id, &wc->c), 0);
	assert_int_equal(wc->done, 0);
}

static inline enum sn_hub_refusal world_ended(struct world *w, const struct world_change *wc)
{
	for (unsigned i = 0; wc->done == 0 && i < 20000; i++)
		world_pass(w, 1);
	assert_int_equal(wc->done, 1);
	return wc->refusal;
}

static inline enum sn_hub_refusal world_enter(
		struct world *w, unsigned hub, const char *id, const char *address)
{
	struct world_change wc;

	world_register(w, hub, id, address, &wc);
	return world_ended(w, &wc);
}

static inline enum sn_hub_refusal world_leave(struct world *w, unsigned hub, const char *id)
{
	struct world_change wc;

	world_unregister(w, hub, id, &wc);
	return world_ended(w, &wc);
}

/* "" when it is not known to the hub. */
static inline const char *world_address(struct world *w, unsigned hub, const char *id)
{
	const struct sn_hub_node *n = sn__hub_find(w->hubs[hub].registry, sn_str_from(id));

	return n != NULL ? n->address : "";
}

static inline const char *world_owner(struct world *w, unsigned hub, const char *id)
{
	const struct sn_hub_node *n = sn__hub_find(w->hubs[hub].registry, sn_str_from(id));

	return n != NULL ? n->owner : "";
}

#endif
