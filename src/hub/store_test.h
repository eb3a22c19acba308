/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_STORE_TEST_H
#define SN_SRC_HUB_STORE_TEST_H

/*
 * Internal, tests only: what every engine of store.h must do. An engine joins with a struct
 * store_engine, a setup that calls store_world_open(), and
 *
 *	const struct CMUnitTest tests[] = {STORE_CONFORMANCE(setup, store_world_close)};
 *
 * Each test has a new, empty store.
 */

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/test.h"
#include "hub/store.h"
#include "io/sim.h"

struct store_world;
struct store_engine {
	const char *name;
	/** Before open(): a directory, a server. May be NULL, as what undoes it. */
	void (*setup)(struct store_world *w);
	void (*teardown)(struct store_world *w);
	/** Open the store; opened again in one world: with what was in it, if it is persistent. A
	 * negative code only when out of memory. */
	int (*open)(struct store_world *w, struct sn_hub_store **ret_store);
	/** Old revisions are forgotten; NULL: as many changes do it as `history` says. */
	void (*compact)(struct store_world *w);
	unsigned history;
	bool persistent;
	bool shared;      /* may be open twice at once */
	bool sweep;       /* returns SN_E_NOMEM wherever memory is short, and goes on */
	uint32_t ttl_ms;  /* the shortest lease it can have */
	uint32_t late_ms; /* a lease may end that much later; waits are that much longer */
};

struct store_world {
	const struct store_engine *engine;
	struct sn_sim *sim; /* NULL: libuv */
	struct sn_loop *loop;
	struct sn_hub_store *store, *second;
	void *arg; /* the engine's */
	char text[256];
	int64_t live;
};

/* ---- running ---- */

static inline void store_until(struct store_world *w, const bool *flag)
{
	while (!*flag)
		if (!sn__loop_run(w->loop, SN_RUN_ONCE) && !*flag)
			fail_msg("nothing can happen any more");
}

struct store_clock {
	struct sn_timer timer;
	bool rang;
};

static inline void store_ring(struct sn_timer *t)
{
	SN_CONTAINER_OF(t, struct store_clock, timer)->rang = true;
}

static inline void store_pass(struct store_world *w, uint64_t ms)
{
	struct store_clock c = {.rang = false};

	sn__timer_start(w->loop, &c.timer, sn_ms_to_ns(ms), store_ring);
	store_until(w, &c.rang);
}

static inline void store_set(void *arg)
{
	*(bool *)arg = true;
}

static inline void store_shut(struct store_world *w, struct sn_hub_store **store)
{
	bool closed = false;

	if (*store == NULL)
		return;
	(*store)->ops->close(*store, store_set, &closed);
	*store = NULL;
	store_until(w, &closed);
}

static inline int store_world_open(const struct store_engine *engine,
		const struct sn_sim_options *opts /* NULL: libuv */, void **state)
{
	struct store_world *w = test_calloc(1, sizeof *w);

	w->engine = engine;
	if (engine->setup != NULL)
		engine->setup(w);
	w->live = sn__mem_live();
	if (opts != NULL) {
		assert_int_equal(sn__sim_create(opts, &w->sim), 0);
		assert_int_equal(sn__sim_loop(w->sim, &w->loop), 0);
	} else {
		assert_int_equal(sn__loop_uv_open(NULL, &w->loop, NULL), 0);
	}
	assert_int_equal(engine->open(w, &w->store), 0);
	*state = w;
	return 0;
}

static inline int store_world_close(void **state)
{
	struct store_world *w = *state;

	store_shut(w, &w->second);
	store_shut(w, &w->store);
	sn__loop_close(w->loop, NULL, NULL);
	if (w->sim != NULL)
		sn__sim_destroy(w->sim);
	assert_int_equal(sn__mem_live(), w->live);
	if (w->engine->teardown != NULL)
		w->engine->teardown(w);
	test_free(w);
	return 0;
}

/* ---- operations ---- */

struct store_op {
	struct sn_hub_op op; /* first */
	bool done;
	unsigned n_done, order;
	int code;
	char *list; /* what RANGE told: "key=value " each */
	size_t len, size, n_entries;
	uint64_t created, changed, lease; /* of the last entry */
};

static unsigned store_ended; /* numbers the ends */

static inline void store_on_done(struct sn_hub_op *op, int code)
{
	struct store_op *o = (struct store_op *)op;

	o->done = true;
	o->n_done++;
	o->order = ++store_ended;
	o->code = code;
	if (code < 0)
		assert_true(op->err.text[0] != '\0');
}

static inline void store_on_entry(struct sn_hub_op *op, const struct sn_hub_entry *e)
{
	struct store_op *o = (struct store_op *)op;

	assert_false(o->done);
	if (o->list != NULL && o->len + e->key.len + e->value.len + 3 < o->size)
		o->len += (size_t)snprintf(o->list + o->len, o->size - o->len, "%.*s=%.*s ",
				(int)e->key.len, e->key.ptr, (int)e->value.len, e->value.ptr);
	o->n_entries++;
	o->created = e->created;
	o->changed = e->revision;
	o->lease = e->lease;
}

static inline void store_start(struct sn_hub_store *store, struct store_op *o)
{
	o->op.done = store_on_done;
	o->op.entry = store_on_entry;
	sn_hub_submit(store, &o->op);
	assert_false(o->done); /* never before the call returned */
}

static inline int store_run_op(
		struct store_world *w, struct sn_hub_store *store, struct store_op *o)
{
	store_start(store, o);
	store_until(w, &o->done);
	assert_int_equal(o->n_done, 1);
	return o->code;
}

static inline int store_put_if(struct store_world *w, const char *key, const char *value,
		uint64_t if_revision, uint64_t lease, uint64_t *ret_revision /* may be NULL */)
{
	struct store_op o = {.op = {.kind = SN_HUB_PUT,
					     .key = sn_str_from(key),
					     .value = sn_str_from(value),
					     .if_revision = if_revision,
					     .lease = lease}};
	int code = store_run_op(w, w->store, &o);

	if (ret_revision != NULL)
		*ret_revision = o.op.revision;
	return code;
}

static inline uint64_t store_put(struct store_world *w, const char *key, const char *value)
{
	uint64_t revision;

	assert_int_equal(store_put_if(w, key, value, SN_HUB_ANY, 0, &revision), 0);
	return revision;
}

static inline int store_remove_if(struct store_world *w, const char *key, uint64_t if_revision,
		uint64_t *ret_revision)
{
	struct store_op o = {.op = {.kind = SN_HUB_REMOVE,
					     .key = sn_str_from(key),
					     .if_revision = if_revision}};
	int code = store_run_op(w, w->store, &o);

	if (ret_revision != NULL)
		*ret_revision = o.op.revision;
	return code;
}

static inline int store_lease_op(
		struct store_world *w, enum sn_hub_op_kind kind, uint64_t ttl_ms, uint64_t *lease)
{
	struct store_op o = {.op = {.kind = kind, .ttl_ms = ttl_ms, .lease = *lease}};
	int code = store_run_op(w, w->store, &o);

	if (kind == SN_HUB_GRANT)
		*lease = o.op.granted;
	return code;
}

/* What is there, "key=value " each in order. */
static inline const char *store_list(struct store_world *w, const char *prefix)
{
	struct store_op o = {.op = {.kind = SN_HUB_RANGE, .key = sn_str_from(prefix)},
			.list = w->text,
			.size = sizeof w->text};

	w->text[0] = '\0';
	assert_int_equal(store_run_op(w, w->store, &o), 0);
	return w->text;
}

static inline uint64_t store_revision(struct store_world *w)
{
	struct store_op o = {.op = {.kind = SN_HUB_RANGE, .key = SN_STR("none/")}};

	assert_int_equal(store_run_op(w, w->store, &o), 0);
	return o.op.revision;
}

static inline void store_wait_for(struct store_world *w, const char *prefix, const char *list)
{
	for (unsigned i = 0; strcmp(store_list(w, prefix), list) != 0; i++) {
		if (i > 3000)
			fail_msg("'%s' is '%s', not '%s'", prefix, w->text, list);
		store_pass(w, 20);
	}
}

/* ---- watches ---- */

struct store_watch {
	struct sn_hub_watch w; /* first */
	struct sn_hub_store *store;
	char list[4096]; /* "key=value " and "-key " each */
	size_t len;
	unsigned n_changes, n_lost;
	uint64_t revision, lost_at;
	bool leave; /* with the first change */
};

static inline void store_on_change(
		struct sn_hub_watch *w, const struct sn_hub_entry *e, bool removed)
{
	struct store_watch *sw = (struct store_watch *)w;

	assert_true(e->revision >= sw->revision);
	assert_true(e->revision > sw->lost_at);
	if (e->key.len + e->value.len + 4 < sizeof sw->list - sw->len)
		sw->len += (size_t)snprintf(sw->list + sw->len, sizeof sw->list - sw->len,
				removed ? "-%.*s " : "%.*s=%.*s ", (int)e->key.len, e->key.ptr,
				(int)e->value.len, e->value.ptr);
	sw->n_changes++;
	sw->revision = e->revision;
	if (!removed)
		assert_true(e->created <= e->revision);
	if (sw->leave)
		sw->store->ops->unwatch(sw->store, w);
}

static inline void store_on_lost(struct sn_hub_watch *w, uint64_t revision)
{
	struct store_watch *sw = (struct store_watch *)w;

	sw->n_lost++;
	sw->lost_at = revision;
}

static inline void store_watch(struct sn_hub_store *store, struct store_watch *sw,
		const char *prefix, uint64_t from)
{
	memset(sw, 0, sizeof *sw);
	sw->store = store;
	sw->w = (struct sn_hub_watch){.prefix = sn_str_from(prefix),
			.from = from,
			.change = store_on_change,
			.lost = store_on_lost};
	store->ops->watch(store, &sw->w);
	assert_int_equal(sw->n_changes + sw->n_lost, 0);
}

/* Until it was told as many changes, or been lost. */
static inline void store_told(struct store_world *w, const struct store_watch *sw, unsigned n)
{
	for (unsigned i = 0; sw->n_changes < n && sw->n_lost == 0; i++) {
		if (i > 6000)
			fail_msg("told %u changes, not %u: %s", sw->n_changes, n, sw->list);
		store_pass(w, 10);
	}
}

/* ---- the tests ---- */

static inline void store_conditions(void **state)
{
	struct store_world *w = *state;
	uint64_t a, b, r;

	assert_int_equal(store_put_if(w, "n/a", "1", 0, 0, &a), 0);
	assert_true(a > 0);
	assert_int_equal(store_put_if(w, "n/a", "2", 0, 0, &r), SN_E_EXISTS);
	assert_true(r == a);
	assert_int_equal(store_put_if(w, "n/a", "2", a, 0, &b), 0);
	assert_true(b > a);
	assert_int_equal(store_put_if(w, "n/a", "3", a, 0, &r), SN_E_EXISTS);
	assert_true(r == b);
	assert_int_equal(store_put_if(w, "n/b", "3", a, 0, &r), SN_E_EXISTS);
	assert_true(r == 0);
	assert_string_equal(store_list(w, "n/"), "n/a=2 ");
	assert_int_equal(store_remove_if(w, "n/a", a, &r), SN_E_EXISTS);
	assert_true(r == b);
	assert_int_equal(store_remove_if(w, "n/b", a, &r), SN_E_EXISTS);
	assert_true(r == 0);
	assert_int_equal(store_remove_if(w, "n/b", SN_HUB_ANY, NULL), SN_E_NOT_FOUND);
	assert_int_equal(store_remove_if(w, "n/a", b, &r), 0);
	assert_true(r > b);
	assert_string_equal(store_list(w, ""), "");
	/* It is another one now. */
	assert_int_equal(store_put_if(w, "n/a", "4", b, 0, NULL), SN_E_EXISTS);
	assert_int_equal(store_put_if(w, "n/a", "4", 0, 0, NULL), 0);
}

static inline void store_ranges(void **state)
{
	struct store_world *w = *state;
	struct store_op o = {.op = {.kind = SN_HUB_RANGE, .key = SN_STR("n/b")}};
	uint64_t first, last;

	store_put(w, "n/c", "3");
	store_put(w, "m/z", "0");
	first = store_put(w, "n/b", "2");
	store_put(w, "n/a", "1");
	store_put(w, "o", "9");
	store_put(w, "n/\xc2\xb5", "5");
	store_put(w, "n/\xff", "6");
	last = store_put(w, "n/b", "7");
	assert_string_equal(store_list(w, "n/"), "n/a=1 n/b=7 n/c=3 n/\xc2\xb5=5 n/\xff=6 ");
	assert_string_equal(store_list(w, "n/\xff"), "n/\xff=6 ");
	assert_string_equal(store_list(w, "n"), w->text);
	assert_string_equal(store_list(w, "m"), "m/z=0 ");
	assert_string_equal(store_list(w, "x"), "");
	assert_string_equal(
			store_list(w, ""), "m/z=0 n/a=1 n/b=7 n/c=3 n/\xc2\xb5=5 n/\xff=6 o=9 ");
	assert_int_equal(store_run_op(w, w->store, &o), 0);
	assert_int_equal(o.n_entries, 1);
	assert_true(o.created == first);
	assert_true(o.changed == last);
	assert_true(o.lease == 0);
	assert_true(o.op.revision >= last);
}

/* Submitted at once, carried out in order. */
static inline void store_order(void **state)
{
	struct store_world *w = *state;
	struct store_op ops[40];
	char keys[40][8];

	memset(ops, 0, sizeof ops);
	store_ended = 0;
	for (unsigned i = 0; i < 40; i++) {
		struct sn_hub_op *op = &ops[i].op;

		(void)snprintf(keys[i], sizeof keys[i], "k%u", i / 4);
		op->key = sn_str_from(keys[i]);
		op->value = SN_STR("v");
		op->kind = i % 4 == 1 ? SN_HUB_RANGE : i % 4 == 2 ? SN_HUB_REMOVE : SN_HUB_PUT;
		op->if_revision = i % 4 == 0 ? 0 : SN_HUB_ANY;
		store_start(w->store, &ops[i]);
	}
	for (unsigned i = 0; i < 40; i++) {
		store_until(w, &ops[i].done);
		assert_int_equal(ops[i].order, i + 1);
		assert_int_equal(ops[i].code, 0);
		if (i % 4 == 1)
			assert_int_equal(ops[i].n_entries, 1);
		if (i > 0)
			assert_true(ops[i].op.revision >= ops[i - 1].op.revision);
	}
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(ops[i].n_done, 1);
}

static inline void store_sizes(void **state)
{
	struct store_world *w = *state;
	char *big = test_malloc(SN_HUB_VALUE_MAX + 1);
	char *key = test_malloc(SN_HUB_KEY_MAX + 1);
	char *list = test_malloc(SN_HUB_VALUE_MAX + 2 * SN_HUB_KEY_MAX);
	struct store_op o = {.op = {.kind = SN_HUB_PUT,
					     .key = {key, SN_HUB_KEY_MAX},
					     .value = {big, SN_HUB_VALUE_MAX},
					     .if_revision = SN_HUB_ANY}};
	struct store_op r = {.op = {.kind = SN_HUB_RANGE, .key = {key, SN_HUB_KEY_MAX}},
			.list = list,
			.size = SN_HUB_VALUE_MAX + 2 * SN_HUB_KEY_MAX};

	memset(big, 'x', SN_HUB_VALUE_MAX + 1);
	memset(key, 'k', SN_HUB_KEY_MAX + 1);
	big[1] = big[SN_HUB_VALUE_MAX - 1] = 'y';
	assert_int_equal(store_run_op(w, w->store, &o), 0);
	assert_int_equal(store_run_op(w, w->store, &r), 0);
	assert_int_equal(r.n_entries, 1);
	assert_int_equal(r.len, SN_HUB_KEY_MAX + SN_HUB_VALUE_MAX + 2);
	assert_memory_equal(list + SN_HUB_KEY_MAX + 1, big, SN_HUB_VALUE_MAX);
	o = (struct store_op){.op = {.kind = SN_HUB_PUT,
					      .key = SN_STR("k"),
					      .value = {big, SN_HUB_VALUE_MAX + 1},
					      .if_revision = SN_HUB_ANY}};
	assert_int_equal(store_run_op(w, w->store, &o), SN_E_LIMIT);
	o = (struct store_op){.op = {.kind = SN_HUB_PUT,
					      .key = {key, SN_HUB_KEY_MAX + 1},
					      .if_revision = SN_HUB_ANY}};
	assert_int_equal(store_run_op(w, w->store, &o), SN_E_LIMIT);
	o = (struct store_op){.op = {.kind = SN_HUB_PUT, .if_revision = SN_HUB_ANY}};
	assert_int_equal(store_run_op(w, w->store, &o), SN_E_INVALID);
	store_put(w, "n", "");
	assert_string_equal(store_list(w, "n"), "n= ");
	test_free(big);
	test_free(key);
	test_free(list);
}

static inline void store_watches(void **state)
{
	struct store_world *w = *state;
	struct store_watch now, past, leaving, other;
	uint64_t a;

	store_put(w, "n/old", "0");
	a = store_put(w, "n/a", "1");
	store_put(w, "m/a", "1");
	store_watch(w->store, &now, "n/", 0);
	store_watch(w->store, &past, "n/", a);
	store_watch(w->store, &leaving, "n/", a);
	store_watch(w->store, &other, "m/", a);
	leaving.leave = true;
	store_put(w, "n/b", "2");
	store_put(w, "n/b", "3");
	assert_int_equal(store_remove_if(w, "n/a", SN_HUB_ANY, NULL), 0);
	assert_int_equal(store_remove_if(w, "m/a", SN_HUB_ANY, NULL), 0);
	assert_int_equal(store_put_if(w, "n/b", "4", 0, 0, NULL), SN_E_EXISTS);
	store_told(w, &now, 3);
	store_told(w, &past, 4);
	store_told(w, &other, 2);
	store_told(w, &leaving, 1);
	assert_string_equal(now.list, "n/b=2 n/b=3 -n/a ");
	assert_string_equal(past.list, "n/a=1 n/b=2 n/b=3 -n/a ");
	assert_string_equal(other.list, "m/a=1 -m/a ");
	assert_string_equal(leaving.list, "n/a=1 ");
	w->store->ops->unwatch(w->store, &past.w);
	store_put(w, "n/c", "5");
	store_told(w, &now, 4);
	assert_int_equal(past.n_changes, 4);
	w->store->ops->unwatch(w->store, &now.w);
	w->store->ops->unwatch(w->store, &other.w);
	assert_int_equal(now.n_lost + past.n_lost + other.n_lost, 0);
}

/* What a RANGE gave and what a watch from the revision after it tells are everything there is. */
static inline void store_range_then_watch(void **state)
{
	struct store_world *w = *state;
	struct store_watch sw;
	struct store_op puts[30];
	char keys[30][8];
	uint64_t at = 0;

	memset(puts, 0, sizeof puts);
	for (unsigned i = 0; i < 30; i++) {
		(void)snprintf(keys[i], sizeof keys[i], "n/%02u", i);
		puts[i].op = (struct sn_hub_op){.kind = SN_HUB_PUT,
				.key = sn_str_from(keys[i]),
				.value = SN_STR("v"),
				.if_revision = 0};
		store_start(w->store, &puts[i]);
		if (i == 14) {
			struct store_op o = {.op = {.kind = SN_HUB_RANGE, .key = SN_STR("n/")}};

			assert_int_equal(store_run_op(w, w->store, &o), 0);
			assert_int_equal(o.n_entries, 15);
			at = o.op.revision;
		}
	}
	store_watch(w->store, &sw, "n/", at + 1);
	for (unsigned i = 0; i < 30; i++)
		store_until(w, &puts[i].done);
	store_told(w, &sw, 15);
	store_pass(w, 30);
	assert_int_equal(sw.n_changes, 15);
	assert_memory_equal(sw.list, "n/15=v n/16=v ", 14);
	w->store->ops->unwatch(w->store, &sw.w);
}

static inline void store_compaction(void **state)
{
	struct store_world *w = *state;
	struct store_watch sw, live;
	uint64_t from = store_put(w, "n/a", "1"), last;

	store_watch(w->store, &live, "n/live", 0);
	if (w->engine->compact == NULL && w->engine->history == 0)
		skip();
	for (unsigned i = 0; i < w->engine->history; i++)
		store_put(w, "m", "x");
	last = store_put(w, "n/a", "2");
	if (w->engine->compact != NULL)
		w->engine->compact(w);
	store_watch(w->store, &sw, "n/", from);
	store_told(w, &sw, 1000);
	assert_int_equal(sw.n_lost, 1);
	assert_int_equal(sw.n_changes, 0);
	assert_true(sw.lost_at >= last);
	store_put(w, "n/live", "3");
	store_told(w, &live, 1);
	for (unsigned i = 0; sw.n_changes < 1 && i < 6000; i++)
		store_pass(w, 10);
	assert_string_equal(sw.list, "n/live=3 ");
	assert_int_equal(sw.n_lost, 1);
	assert_string_equal(live.list, "n/live=3 ");
	assert_int_equal(live.n_lost, 0);
	w->store->ops->unwatch(w->store, &sw.w);
	w->store->ops->unwatch(w->store, &live.w);
}

#define LEASED(k, v, l) \
	{ \
		.kind = SN_HUB_PUT, .key = SN_STR(k), .value = SN_STR(v), \
		.if_revision = SN_HUB_ANY, .lease = (l) \
	}

static inline void store_leases(void **state)
{
	struct store_world *w = *state;
	uint32_t ttl = w->engine->ttl_ms;
	struct store_watch sw;
	uint64_t kept = 0, left = 0, ended = 0, none = 4711;

	assert_int_equal(store_lease_op(w, SN_HUB_GRANT, ttl, &kept), 0);
	assert_int_equal(store_lease_op(w, SN_HUB_GRANT, ttl, &left), 0);
	assert_int_equal(store_lease_op(w, SN_HUB_GRANT, 60000, &ended), 0);
	assert_true(kept != 0 && left != 0 && kept != left);
	store_watch(w->store, &sw, "l/", 0);
	{ /* at once: leases are short, and a machine may be slow */
		const struct sn_hub_op changes[] = {LEASED("l/kept", "1", kept),
				LEASED("l/left", "1", left), LEASED("l/left2", "1", left),
				LEASED("l/moved", "1", left), LEASED("l/freed", "1", left),
				LEASED("l/taken", "1", left), LEASED("l/ended", "1", ended),
				LEASED("l/moved", "2", kept), LEASED("l/freed", "2", 0),
				{.kind = SN_HUB_REMOVE,
						.key = SN_STR("l/taken"),
						.if_revision = SN_HUB_ANY},
				LEASED("l/none", "1", none),
				{.kind = SN_HUB_REVOKE, .lease = ended},
				{.kind = SN_HUB_KEEP, .lease = kept}};
		struct store_op ops[SN_COUNT(changes)];

		memset(ops, 0, sizeof ops);
		for (size_t i = 0; i < SN_COUNT(ops); i++) {
			ops[i].op = changes[i];
			store_start(w->store, &ops[i]);
		}
		for (size_t i = 0; i < SN_COUNT(ops); i++) {
			store_until(w, &ops[i].done);
			assert_int_equal(
					ops[i].code, changes[i].lease == none ? SN_E_NOT_FOUND : 0);
		}
	}
	store_wait_for(w, "l/", "l/freed=2 l/kept=1 l/left=1 l/left2=1 l/moved=2 ");
	for (unsigned i = 0; i < 6; i++) { /* twice as long as it lives by itself */
		store_pass(w, ttl / 3);
		assert_int_equal(store_lease_op(w, SN_HUB_KEEP, 0, &kept), 0);
	}
	store_pass(w, w->engine->late_ms);
	assert_int_equal(store_lease_op(w, SN_HUB_KEEP, 0, &kept), 0);
	assert_string_equal(store_list(w, "l/"), "l/freed=2 l/kept=1 l/moved=2 ");
	assert_int_equal(store_lease_op(w, SN_HUB_KEEP, 0, &left), SN_E_NOT_FOUND);
	assert_int_equal(store_lease_op(w, SN_HUB_KEEP, 0, &none), SN_E_NOT_FOUND);
	assert_int_equal(store_lease_op(w, SN_HUB_REVOKE, 0, &left), SN_E_NOT_FOUND);
	store_pass(w, ttl + w->engine->late_ms);
	store_wait_for(w, "l/", "l/freed=2 ");
	store_told(w, &sw, 15);
	assert_int_equal(sw.n_changes, 15); /* 9 puts, 6 keys that have gone */
	w->store->ops->unwatch(w->store, &sw.w);
}

static inline void store_lease_before_its_end(void **state)
{
	struct store_world *w = *state;
	uint64_t lease = 0;

	assert_int_equal(store_lease_op(w, SN_HUB_GRANT, 3 * w->engine->ttl_ms, &lease), 0);
	assert_int_equal(store_put_if(w, "l", "1", 0, lease, NULL), 0);
	store_pass(w, 2 * w->engine->ttl_ms);
	assert_string_equal(store_list(w, ""), "l=1 ");
}

/* Closed with everything under way: each operation ends once, and no watch is told any more. */
static inline void store_close_busy(void **state)
{
	struct store_world *w = *state;
	struct store_op ops[20];
	struct store_watch sw;
	unsigned told;

	memset(ops, 0, sizeof ops);
	store_watch(w->store, &sw, "", 0);
	for (unsigned i = 0; i < 20; i++) {
		ops[i].op = (struct sn_hub_op){.kind = (enum sn_hub_op_kind)(i % 6),
				.key = SN_STR("k"),
				.value = SN_STR("v"),
				.if_revision = SN_HUB_ANY,
				.lease = i % 6 > SN_HUB_GRANT ? 1 : 0,
				.ttl_ms = 60000};
		store_start(w->store, &ops[i]);
	}
	store_shut(w, &w->store);
	told = sw.n_changes;
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(ops[i].n_done, 1);
		assert_true(ops[i].code == 0 || ops[i].code == SN_E_CLOSED ||
				ops[i].code == SN_E_NOT_FOUND);
	}
	store_pass(w, 20);
	assert_int_equal(sw.n_changes, told);
}

static inline void store_again(void **state)
{
	struct store_world *w = *state;
	struct store_watch sw;
	uint64_t a, b;

	if (!w->engine->persistent)
		skip();
	store_put(w, "n/b", "1");
	assert_int_equal(store_remove_if(w, "n/b", SN_HUB_ANY, NULL), 0);
	a = store_put(w, "n/a", "1");
	store_shut(w, &w->store);
	assert_int_equal(w->engine->open(w, &w->store), 0);
	assert_string_equal(store_list(w, ""), "n/a=1 ");
	assert_true(store_revision(w) >= a);
	assert_int_equal(store_put_if(w, "n/a", "2", a, 0, &b), 0);
	assert_true(b > a);
	/* Changes of the time before are known, or said to be lost. */
	store_watch(w->store, &sw, "n/", a);
	store_told(w, &sw, 2);
	if (sw.n_lost == 0)
		assert_string_equal(sw.list, "n/a=1 n/a=2 ");
	w->store->ops->unwatch(w->store, &sw.w);
}

static inline void store_two(void **state)
{
	struct store_world *w = *state;
	struct sn_hub_store *first = w->store;
	struct store_watch sw;
	uint64_t a;

	if (!w->engine->shared)
		skip();
	assert_int_equal(w->engine->open(w, &w->second), 0);
	store_watch(w->second, &sw, "n/", 0);
	/* An operation on the second, so that its watch is surely there. */
	w->store = w->second;
	(void)store_list(w, "");
	store_pass(w, 100);
	w->store = first;
	a = store_put(w, "n/a", "1");
	store_told(w, &sw, 1);
	w->store = w->second;
	assert_string_equal(store_list(w, ""), "n/a=1 ");
	assert_int_equal(store_put_if(w, "n/a", "2", a, 0, NULL), 0);
	w->store = first;
	assert_int_equal(store_put_if(w, "n/a", "3", a, 0, NULL), SN_E_EXISTS);
	store_told(w, &sw, 2);
	assert_string_equal(sw.list, "n/a=1 n/a=2 ");
	w->second->ops->unwatch(w->second, &sw.w);
}

/* Every allocation fails once: what has failed has changed nothing, and the store goes on. */
static inline void store_sweep(void **state)
{
	struct store_world *w = *state;
	bool failed = true;

	if (!w->engine->sweep)
		skip();
	for (uint64_t nth = 1; failed; nth++) {
		uint64_t lease = 0;
		int code;

		sn__mem_fail_nth(nth);
		code = store_lease_op(w, SN_HUB_GRANT, 60000, &lease);
		if (code == 0)
			code = store_put_if(w, "n/a", "1", 0, lease, NULL);
		if (code == 0)
			code = store_put_if(w, "n/b", "1", 0, 0, NULL);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(code, failed ? SN_E_NOMEM : 0);
		if (lease != 0)
			assert_int_equal(store_lease_op(w, SN_HUB_REVOKE, 0, &lease), 0);
		assert_string_equal(store_list(w, ""), failed ? "" : "n/b=1 ");
	}
}

#define STORE_CONFORMANCE(setup, teardown) \
	cmocka_unit_test_setup_teardown(store_conditions, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_ranges, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_order, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_sizes, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_watches, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_range_then_watch, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_compaction, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_leases, setup, teardown), \
			cmocka_unit_test_setup_teardown( \
					store_lease_before_its_end, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_close_busy, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_again, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_two, setup, teardown), \
			cmocka_unit_test_setup_teardown(store_sweep, setup, teardown)

#endif
