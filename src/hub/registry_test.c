/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <unistd.h>

#include "connect/driver.h"
#include "hub/registry_world_test.h"

static int setup(void **state)
{
	struct world *w = world_new(1);

	w->opts.hub_ttl_ms = 1000;
	w->opts.register_timeout_ms = 500;
	w->opts.check_timeout_ms = 500;
	for (unsigned i = 1; i < 10; i++)
		w->nodes[i].alive = true;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	world_free(*state);
	return 0;
}

static void in_order(void **state)
{
	struct world *w = *state;
	struct sn_hub_counts counts;
	struct world_change wc;

	world_hub_open(w, 0);
	assert_int_equal(world_enter(w, 0, "a", "a:99"), SN_HUB_UNHEALTHY);
	assert_string_equal(world_address(w, 0, "a"), "");
	assert_int_equal(world_enter(w, 0, "a", "a:1"), SN_HUB_OK);
	assert_string_equal(world_address(w, 0, "a"), "a:1");
	assert_string_equal(world_owner(w, 0, "a"), "hub0");
	assert_int_equal(w->nodes[1].asked, 1);
	/* The check comes first, also for what is there. */
	assert_int_equal(world_enter(w, 0, "a", "a:1"), SN_HUB_EXISTS);
	assert_int_equal(w->nodes[1].asked, 2);
	assert_int_equal(world_enter(w, 0, "a", "a:99"), SN_HUB_UNHEALTHY);
	assert_int_equal(world_enter(w, 0, "b", "a:1"), SN_HUB_OK);
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 2);
	assert_int_equal(world_leave(w, 0, "c"), SN_HUB_UNKNOWN);
	assert_int_equal(world_leave(w, 0, "a"), SN_HUB_OK);
	assert_int_equal(world_leave(w, 0, "a"), SN_HUB_UNKNOWN);
	assert_string_equal(world_address(w, 0, "a"), "");
	assert_int_equal(world_enter(w, 0, "a", "a:2"), SN_HUB_OK);
	assert_string_equal(world_address(w, 0, "a"), "a:2");
	/* A check that takes too long. */
	w->nodes[3].slow_ms = 700;
	world_register(w, 0, "slow", "a:3", &wc);
	world_pass(w, 490);
	assert_int_equal(wc.done, 0);
	assert_int_equal(world_ended(w, &wc), SN_HUB_UNHEALTHY);
	sn__hub_registry_counts(w->hubs[0].registry, &counts);
	assert_int_equal(counts.changes[SN_HUB_OK], 4);
	assert_int_equal(counts.changes[SN_HUB_UNHEALTHY], 3);
	assert_int_equal(counts.changes[SN_HUB_EXISTS], 1);
	assert_int_equal(counts.changes[SN_HUB_UNKNOWN], 2);
	assert_int_equal(counts.nodes, 2);
	assert_int_equal(counts.own, 2);
	assert_int_equal(counts.hubs, 1);
	assert_true(counts.ready);
}

static void refused(void **state)
{
	struct world *w = *state;
	struct sn_hub_change c = {.done = world_change_done};
	struct sn_hub_registry *r;
	char big[SN_HUB_NODE_ID_MAX + 2];

	world_hub_open(w, 0);
	r = w->hubs[0].registry;
	memset(big, 'x', sizeof big);
	big[sizeof big - 1] = '\0';
	assert_int_equal(sn__hub_register(r, "", "a:1", NULL, &c), SN_E_INVALID);
	assert_int_equal(sn__hub_register(r, big, "a:1", NULL, &c), SN_E_INVALID);
	assert_int_equal(sn__hub_register(r, "\xff", "a:1", NULL, &c), SN_E_INVALID);
	assert_int_equal(sn__hub_register(r, "a", "", NULL, &c), SN_E_INVALID);
	assert_int_equal(sn__hub_register(r, "a", "a:1", "[]", &c), SN_E_INVALID);
	assert_int_equal(sn__hub_register(r, "a", "a:1", "{\"a\":}", &c), SN_E_INVALID);
	assert_int_equal(sn__hub_register(r, "a", "a:1", "", &c), SN_E_INVALID);
	assert_int_equal(sn__hub_unregister(r, "", &c), SN_E_INVALID);
	w->opts.hub = "";
	assert_int_equal(sn__hub_registry_open(w->loop, &w->opts, &r, NULL), SN_E_INVALID);
}

static void attributes(void **state)
{
	struct world *w = *state;
	struct world_change wc = {.c.done = world_change_done};
	const struct sn_hub_node *n;

	world_hub_open(w, 0);
	world_hub_open(w, 1);
	assert_int_equal(sn__hub_register(w->hubs[0].registry, "\xc2\xb5/\"x\\", "a:1",
					 "{\"protocol\":\"microhome\",\"v\":2}", &wc.c),
			0);
	assert_int_equal(world_ended(w, &wc), SN_HUB_OK);
	world_pass(w, 50);
	n = sn__hub_find(w->hubs[1].registry, SN_STR("\xc2\xb5/\"x\\"));
	assert_non_null(n);
	assert_string_equal(n->id, "\xc2\xb5/\"x\\");
	assert_string_equal(n->attributes, "{\"protocol\":\"microhome\",\"v\":2}");
	assert_string_equal(n->owner, "hub0");
	assert_true(n->revision > 0);
	assert_true(sn__hub_revision(w->hubs[1].registry) >= n->revision);
}

/* Two at once with one id: one wins; the other has it when the first does not. */
static void at_once(void **state)
{
	struct world *w = *state;
	struct world_change a, b, c, leave;

	world_hub_open(w, 0);
	world_register(w, 0, "x", "a:1", &a);
	world_register(w, 0, "x", "a:2", &b);
	assert_int_equal(world_ended(w, &a), SN_HUB_OK);
	assert_int_equal(world_ended(w, &b), SN_HUB_EXISTS);
	w->nodes[3].alive = false;
	w->nodes[3].slow_ms = 100; /* to be found dead */
	world_register(w, 0, "y", "a:3", &a);
	world_register(w, 0, "y", "a:2", &b);
	world_register(w, 0, "y", "a:1", &c);
	world_unregister(w, 0, "y", &leave);
	assert_int_equal(world_ended(w, &a), SN_HUB_UNHEALTHY);
	assert_int_equal(world_ended(w, &b), SN_HUB_OK);
	assert_int_equal(world_ended(w, &c), SN_HUB_EXISTS);
	assert_int_equal(world_ended(w, &leave), SN_HUB_OK);
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 1);
	/* At two hubs. */
	world_hub_open(w, 1);
	world_pass(w, 50);
	world_register(w, 0, "z", "a:1", &a);
	world_register(w, 1, "z", "a:2", &b);
	assert_int_equal(world_ended(w, &a), SN_HUB_OK);
	assert_int_equal(world_ended(w, &b), SN_HUB_EXISTS);
}

static void dead_ones_go(void **state)
{
	struct world *w = *state;
	struct sn_hub_counts counts;

	w->opts.check_every_ms = 1000;
	w->opts.checks_at_once = 2;
	world_hub_open(w, 0);
	for (unsigned i = 1; i < 10; i++) {
		char id[8], address[8];

		(void)snprintf(id, sizeof id, "n%u", i);
		(void)snprintf(address, sizeof address, "a:%u", i);
		assert_int_equal(world_enter(w, 0, id, address), SN_HUB_OK);
	}
	for (unsigned i = 1; i < 10; i++)
		w->nodes[i].slow_ms = 90;
	w->max_probes = 0;
	world_pass(w, 10000);
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 9);
	assert_int_equal(w->max_probes, 2); /* no more at once */
	assert_in_range(w->nodes[5].asked, 9, 13);
	w->nodes[5].alive = false;
	world_pass(w, 1500); /* at most two failures */
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 9);
	w->nodes[5].alive = true;
	world_pass(w, 4000);
	w->nodes[5].alive = false;
	world_pass(w, 4500);
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 8);
	assert_string_equal(world_address(w, 0, "n5"), "");
	sn__hub_registry_counts(w->hubs[0].registry, &counts);
	assert_int_equal(counts.removed, 1);
	assert_true(counts.checks_failed >= 3);
	/* It returns. */
	w->nodes[5].alive = true;
	assert_int_equal(world_enter(w, 0, "n5", "a:5"), SN_HUB_OK);
}

static void replaced(void **state)
{
	struct world *w = *state;

	w->opts.replace_dead = true;
	world_hub_open(w, 0);
	assert_int_equal(world_enter(w, 0, "x", "a:1"), SN_HUB_OK);
	assert_int_equal(world_enter(w, 0, "x", "a:2"), SN_HUB_EXISTS);
	w->nodes[1].alive = false;
	assert_int_equal(world_enter(w, 0, "x", "a:2"), SN_HUB_OK);
	assert_string_equal(world_address(w, 0, "x"), "a:2");
	assert_int_equal(world_enter(w, 0, "x", "a:2"), SN_HUB_EXISTS);
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 1);
}

static void renewed(void **state)
{
	struct world *w = *state;
	struct world_change wc = {.c.done = world_change_done};
	uint64_t before;

	w->opts.renew_same = true;
	world_hub_open(w, 0);
	assert_int_equal(world_enter(w, 0, "x", "a:1"), SN_HUB_OK);
	before = sn__hub_revision(w->hubs[0].registry);
	assert_int_equal(world_enter(w, 0, "x", "a:1"), SN_HUB_OK);
	assert_true(sn__hub_revision(w->hubs[0].registry) == before);
	assert_int_equal(world_enter(w, 0, "x", "a:2"), SN_HUB_EXISTS);
	assert_int_equal(sn__hub_register(w->hubs[0].registry, "x", "a:1", "{\"v\":1}", &wc.c), 0);
	assert_int_equal(world_ended(w, &wc), SN_HUB_OK);
	assert_string_equal(
			sn__hub_find(w->hubs[0].registry, SN_STR("x"))->attributes, "{\"v\":1}");
	/* From another hub: it is that one's now. */
	world_hub_open(w, 1);
	world_pass(w, 50);
	assert_int_equal(world_enter(w, 1, "x", "a:1"), SN_HUB_OK);
	world_pass(w, 50);
	assert_string_equal(world_owner(w, 0, "x"), "hub1");
}

static void full(void **state)
{
	struct world *w = *state;
	struct world_change a, b, c;

	w->opts.max_nodes = 2;
	world_hub_open(w, 0);
	world_register(w, 0, "a", "a:1", &a);
	world_register(w, 0, "b", "a:1", &b);
	world_register(w, 0, "c", "a:1", &c);
	assert_int_equal(world_ended(w, &a), SN_HUB_OK);
	assert_int_equal(world_ended(w, &b), SN_HUB_OK);
	assert_int_equal(world_ended(w, &c), SN_HUB_FULL);
	assert_int_equal(world_leave(w, 0, "a"), SN_HUB_OK);
	assert_int_equal(world_enter(w, 0, "c", "a:1"), SN_HUB_OK);
}

static void adopted(void **state)
{
	struct world *w = *state;
	struct sn_hub_counts counts;
	unsigned asked;

	w->opts.check_every_ms = 500;
	world_hub_open(w, 0);
	world_hub_open(w, 1);
	world_hub_open(w, 2);
	world_pass(w, 100);
	for (unsigned i = 1; i < 10; i++) {
		char id[8], address[8];

		(void)snprintf(id, sizeof id, "n%u", i);
		(void)snprintf(address, sizeof address, "a:%u", i);
		assert_int_equal(world_enter(w, 0, id, address), SN_HUB_OK);
	}
	world_pass(w, 3000);
	sn__hub_registry_counts(w->hubs[1].registry, &counts);
	assert_int_equal(counts.hubs, 3);
	assert_int_equal(counts.nodes, 9);
	assert_int_equal(counts.own, 0); /* nobody takes what is looked after */
	world_hub_close(w, 0, true);
	world_pass(w, 900);
	assert_string_equal(world_owner(w, 1, "n1"), "hub0");
	world_pass(w, 1200);
	for (unsigned i = 1; i < 10; i++) {
		char id[8];

		(void)snprintf(id, sizeof id, "n%u", i);
		assert_string_not_equal(world_owner(w, 1, id), "hub0");
		assert_string_equal(world_owner(w, 1, id), world_owner(w, 2, id));
	}
	sn__hub_registry_counts(w->hubs[1].registry, &counts);
	asked = (unsigned)counts.adopted;
	sn__hub_registry_counts(w->hubs[2].registry, &counts);
	assert_int_equal(asked + counts.adopted, 9); /* each once */
	assert_true(asked > 0 && counts.adopted > 0);
	asked = w->nodes[4].asked;
	world_pass(w, 2000);
	assert_in_range(w->nodes[4].asked - asked, 3, 6); /* by one */
	w->nodes[4].alive = false;
	world_pass(w, 2500);
	assert_string_equal(world_address(w, 1, "n4"), "");
	/* It returns under its name, and has nothing to do. */
	world_hub_open(w, 0);
	world_pass(w, 2000);
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 8);
	/* One that leaves in order is missed at once. */
	world_hub_close(w, 1, false);
	world_pass(w, 300);
	for (unsigned i = 1; i < 10; i++) {
		char id[8];

		(void)snprintf(id, sizeof id, "n%u", i);
		assert_string_not_equal(world_owner(w, 2, id), "hub1");
	}
	world_hub_close(w, 0, false);
	world_hub_close(w, 2, false);
	world_hub_open(w, 1);
	world_pass(w, 2500);
	assert_int_equal(sn__hub_count(w->hubs[1].registry), 8);
	assert_string_equal(world_owner(w, 1, "n1"), "hub1");
}

/* The store is away while a hub's lease runs out: it comes back, without its nodes. */
static void partitioned(void **state)
{
	struct world *w = *state;
	struct sn_hub_counts counts;

	w->opts.check_every_ms = 200;
	world_hub_open(w, 0);
	world_hub_open(w, 1);
	world_pass(w, 100);
	assert_int_equal(world_enter(w, 0, "x", "a:1"), SN_HUB_OK);
	assert_int_equal(world_enter(w, 0, "y", "a:2"), SN_HUB_OK);
	w->hubs[0].way.cut = true;
	world_pass(w, 3000);
	assert_string_equal(world_owner(w, 1, "x"), "hub1");
	assert_string_equal(world_owner(w, 0, "x"), "hub0"); /* what it knows */
	assert_int_equal(world_enter(w, 0, "z", "a:3"), SN_HUB_INSERT_FAILED);
	assert_int_equal(world_enter(w, 0, "x", "a:3"), SN_HUB_EXISTS);
	w->nodes[2].alive = false;
	world_pass(w, 3000);
	assert_string_equal(world_address(w, 1, "y"), "");
	way_heal(&w->hubs[0].way);
	world_pass(w, 6000);
	assert_string_equal(world_owner(w, 0, "x"), "hub1");
	assert_string_equal(world_address(w, 0, "y"), "");
	sn__hub_registry_counts(w->hubs[0].registry, &counts);
	assert_true(counts.store_errors > 0);
	assert_true(counts.resyncs > 0);
	sn__hub_registry_counts(w->hubs[1].registry, &counts);
	assert_int_equal(counts.hubs, 2);
	assert_int_equal(world_enter(w, 0, "z", "a:3"), SN_HUB_OK);
	world_pass(w, 100);
	assert_string_equal(world_address(w, 1, "z"), "a:3");
}

static bool is_refused(struct world *w, unsigned i)
{
	struct sn_hub_counts counts;

	sn__hub_registry_counts(w->hubs[i].registry, &counts);
	return counts.refused;
}

/* Two with one id: who was there first goes on, the other rests until it has gone. */
static void twins(void **state)
{
	struct world *w = *state;

	world_hub_open_as(w, 0, "same");
	world_pass(w, 100);
	assert_int_equal(world_enter(w, 0, "x", "a:1"), SN_HUB_OK);
	world_hub_open_as(w, 1, "same");
	world_pass(w, 200);
	assert_false(is_refused(w, 0));
	assert_true(is_refused(w, 1));
	assert_int_equal(world_enter(w, 1, "y", "a:2"), SN_HUB_INSERT_FAILED);
	assert_int_equal(world_enter(w, 0, "y", "a:2"), SN_HUB_OK);
	assert_string_equal(world_address(w, 1, "y"), "a:2"); /* it reads along */
	world_pass(w, 5000);
	assert_false(is_refused(w, 0));
	assert_true(is_refused(w, 1));
	/* The first is cut off for longer than its lease lasts: the second takes the id, and the first,
	 * when it is back, has it again. */
	w->hubs[0].way.cut = true;
	world_pass(w, 3000);
	assert_false(is_refused(w, 1));
	assert_int_equal(world_enter(w, 1, "z", "a:3"), SN_HUB_OK);
	way_heal(&w->hubs[0].way);
	world_pass(w, 6000);
	assert_false(is_refused(w, 0));
	assert_true(is_refused(w, 1));
	/* It leaves in order, or not. */
	world_hub_close(w, 0, false);
	world_pass(w, 300);
	assert_false(is_refused(w, 1));
	world_hub_open_as(w, 0, "same");
	world_pass(w, 300);
	assert_true(is_refused(w, 0));
	world_hub_close(w, 1, true);
	world_pass(w, 3000);
	assert_false(is_refused(w, 0));
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 3);
	/* What a process leaves behind that has crashed is nobody. */
	world_hub_close(w, 0, true);
	world_hub_open_as(w, 0, "same");
	world_pass(w, 300);
	assert_false(is_refused(w, 0));
	assert_int_equal(world_enter(w, 0, "v", "a:5"), SN_HUB_OK);
}

/* Hub @i's lease is being kept alive: the store has done so, the answer is on its way. */
static struct way_op *keeping(struct world *w, unsigned i)
{
	SN_LIST_FOREACH (at, &w->hubs[i].way.ops) {
		struct way_op *o = SN_CONTAINER_OF(at, struct way_op, link);

		if (o->op.kind == SN_HUB_KEEP && sn_timer_armed(&o->timer))
			return o;
	}
	return NULL;
}

/* The second of two with one id is refused, and the first goes, all while the second's lease is being kept
 * alive: it takes the id when that has ended. */
static void twin_while_keeping(void **state)
{
	struct world *w = *state;
	struct sn_hub_counts counts;
	struct way_op *o;

	world_hub_open(w, 2);
	world_hub_open_as(w, 0, "same");
	world_pass(w, 100);
	w->hubs[0].way.cut = true; /* it does not see the second come */
	world_hub_open_as(w, 1, "same");
	world_pass(w, 100);
	w->hubs[1].way.delay_ms = 1000000;
	for (unsigned i = 0; (o = keeping(w, 1)) == NULL; i++) {
		assert_true(i < 400);
		world_pass(w, 1);
	}
	way_heal(&w->hubs[0].way);
	for (unsigned i = 0; !is_refused(w, 1); i++) {
		assert_true(i < 200);
		world_pass(w, 1);
	}
	assert_ptr_equal(keeping(w, 1), o);
	world_hub_close(w, 0, false);
	world_pass(w, 20);
	assert_ptr_equal(keeping(w, 1), o);
	w->hubs[1].way.delay_ms = 0;
	w->hubs[1].way.last_ns = 0;
	sn__timer_start(w->loop, &o->timer, 0, way_answer);
	world_pass(w, 200);
	assert_false(is_refused(w, 1));
	assert_int_equal(world_enter(w, 1, "x", "a:1"), SN_HUB_OK);
	sn__hub_registry_counts(w->hubs[2].registry, &counts);
	assert_int_equal(counts.hubs, 2); /* it says so itself, and the third has seen it */
}

/* Inserted, but the answer was lost: the node was told no, so it is not there; and may come again. */
static void taken_back(void **state)
{
	struct world *w = *state;
	struct world_change wc;

	world_hub_open(w, 0);
	world_hub_open(w, 1);
	world_pass(w, 100);
	w->hubs[0].way.lose = 1000;
	assert_int_equal(world_enter(w, 0, "x", "a:1"), SN_HUB_INSERT_FAILED);
	world_pass(w, 100);
	assert_string_equal(world_address(w, 1, "x"), "a:1"); /* for a moment */
	assert_int_equal(world_enter(w, 0, "x", "a:1"), SN_HUB_FIND_FAILED);
	w->hubs[0].way.lose = 0;
	world_register(w, 0, "x", "a:2", &wc);
	world_pass(w, 400);
	world_pass(w, 6000);
	if (world_ended(w, &wc) == SN_HUB_FIND_FAILED) /* it had paused for long */
		assert_int_equal(world_enter(w, 0, "x", "a:2"), SN_HUB_OK);
	assert_string_equal(world_address(w, 0, "x"), "a:2");
	assert_string_equal(world_address(w, 1, "x"), "a:2");
}

static void away_at_first(void **state)
{
	struct world *w = *state;
	struct world_change wc;

	w->cut = true;
	world_hub_open(w, 0);
	world_pass(w, 50);
	assert_int_equal(world_leave(w, 0, "x"), SN_HUB_FIND_FAILED);
	way_heal(&w->hubs[0].way);
	w->cut = false;
	world_register(w, 0, "x", "a:1", &wc);
	assert_int_equal(world_ended(w, &wc), SN_HUB_OK);
	world_pass(w, 100);
	assert_true(w->hubs[0].n_told > 0);
}

static void restarted(void **state)
{
	struct world *w = *state;

	world_hub_open(w, 0);
	for (unsigned i = 1; i < 10; i++) {
		char id[8], address[8];

		(void)snprintf(id, sizeof id, "n%u", i);
		(void)snprintf(address, sizeof address, "a:%u", i);
		assert_int_equal(world_enter(w, 0, id, address), SN_HUB_OK);
	}
	world_hub_close(w, 0, true);
	w->opts.check_every_ms = 300;
	w->nodes[3].alive = false;
	world_hub_open(w, 0);
	assert_int_equal(world_enter(w, 0, "n1", "a:1"), SN_HUB_EXISTS);
	world_pass(w, 2000);
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 8);
	assert_int_equal(w->hubs[0].n_settled > 0, 1);
}

static void store_close(struct world *w)
{
	bool closed = false;

	w->store->ops->close(w->store, world_set, &closed);
	for (unsigned i = 0; !closed && i < 1000; i++)
		world_pass(w, 1);
	assert_true(closed);
}

/* The process ends, and another one finds everything in the file. */
static void restarted_on_a_file(void **state)
{
	static const char *const ends[] = {"", "-wal", "-shm"};
	struct world *w = *state;
	struct sn_connect_host host = {.loop = w->loop};
	char folder[] = "/tmp/sinew-hub-XXXXXX", path[64];

	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof path, "%s/hub.db", folder);
	store_close(w);
	assert_int_equal(sn__hub_sqlite_open(&host, path, &w->store, NULL), 0);
	world_hub_open(w, 0);
	for (unsigned i = 1; i < 10; i++) {
		char id[8], address[8];

		(void)snprintf(id, sizeof id, "n%u", i);
		(void)snprintf(address, sizeof address, "a:%u", i);
		assert_int_equal(world_enter(w, 0, id, address), SN_HUB_OK);
	}
	assert_int_equal(world_leave(w, 0, "n9"), SN_HUB_OK);
	world_hub_close(w, 0, true);
	store_close(w);
	assert_int_equal(sn__hub_sqlite_open(&host, path, &w->store, NULL), 0);
	w->opts.check_every_ms = 300;
	w->nodes[3].alive = false;
	world_hub_open(w, 1); /* under another name: it takes them over */
	assert_int_equal(world_enter(w, 1, "n1", "a:1"), SN_HUB_EXISTS);
	assert_int_equal(sn__hub_count(w->hubs[1].registry), 8);
	assert_string_equal(world_owner(w, 1, "n1"), "hub0");
	world_pass(w, 5000);
	assert_string_equal(world_owner(w, 1, "n1"), "hub1");
	assert_int_equal(sn__hub_count(w->hubs[1].registry), 7);
	world_hub_close(w, 1, false);
	store_close(w);
	assert_int_equal(sn__hub_memory_open(w->loop, &w->store), 0); /* for the end */
	for (unsigned i = 0; i < SN_COUNT(ends); i++) {
		char name[96];

		(void)snprintf(name, sizeof name, "%s%s", path, ends[i]);
		(void)unlink(name);
	}
	assert_int_equal(rmdir(folder), 0);
}

struct fickle {
	struct sn_hub_watcher w; /* first */
	unsigned n;
	bool once;
};

static void fickle_changed(struct sn_hub_watcher *w, const struct sn_hub_node *n, bool removed)
{
	struct fickle *f = (struct fickle *)w;

	f->n++;
	if (f->once)
		sn__hub_watch_remove(w);
}

static void count_one(const struct sn_hub_node *node, void *arg)
{
	assert_true(node->id[0] != '\0');
	++*(unsigned *)arg;
}

static void watchers(void **state)
{
	struct world *w = *state;
	struct fickle once = {.w.changed = fickle_changed, .once = true};
	struct fickle always = {.w.changed = fickle_changed};
	unsigned n = 0, told;

	world_hub_open(w, 0);
	assert_int_equal(world_enter(w, 0, "x", "a:1"), SN_HUB_OK);
	assert_int_equal(world_enter(w, 0, "y", "a:2"), SN_HUB_OK);
	sn__hub_each(w->hubs[0].registry, count_one, &n);
	assert_int_equal(n, 2);
	sn__hub_watch_add(w->hubs[0].registry, &once.w);
	sn__hub_watch_add(w->hubs[0].registry, &always.w);
	assert_int_equal(once.n + always.n, 0);
	world_pass(w, 10);
	assert_int_equal(once.n, 1);
	assert_int_equal(always.n, 2);
	assert_int_equal(world_leave(w, 0, "x"), SN_HUB_OK);
	world_pass(w, 10);
	assert_int_equal(once.n, 1);
	assert_int_equal(always.n, 3);
	told = w->hubs[0].n_settled;
	assert_int_equal(world_enter(w, 0, "z", "a:2"), SN_HUB_OK);
	world_pass(w, 10);
	assert_int_equal(w->hubs[0].n_settled, told + 1);
	sn__hub_watch_remove(&always.w);
	sn__hub_watch_remove(&always.w);
	assert_int_equal(world_leave(w, 0, "z"), SN_HUB_OK);
	assert_int_equal(always.n, 4);
}

static void ignore_done(struct sn_hub_op *op, int code)
{
	assert_int_equal(code, 0);
	op->engine[0] = op;
}

static void unreadable(void **state)
{
	static const char *const values[] = {"", "{", "[]", "{}", "{\"address\":7}",
			"{\"address\":\"\"}", "{\"address\":\"a:1\"} x"};
	struct world *w = *state;
	struct sn_hub_op ops[SN_COUNT(values) + 1];

	memset(ops, 0, sizeof ops);
	for (unsigned i = 0; i < SN_COUNT(ops); i++) {
		static char keys[SN_COUNT(values) + 1][16];

		(void)snprintf(keys[i], sizeof keys[i], "nodes/%u", i);
		ops[i] = (struct sn_hub_op){.kind = SN_HUB_PUT,
				.key = sn_str_from(keys[i]),
				.value = i < SN_COUNT(values) ? sn_str_from(values[i])
							      : SN_STR("{\"address\":\"a:1\"}"),
				.if_revision = SN_HUB_ANY,
				.done = ignore_done};
		sn_hub_submit(w->store, &ops[i]);
	}
	world_hub_open(w, 0);
	world_pass(w, 100);
	assert_int_equal(sn__hub_count(w->hubs[0].registry), 1);
	assert_string_equal(world_address(w, 0, "7"), "a:1");
	world_pass(w, 1000);
	assert_string_equal(world_owner(w, 0, "7"), "hub0"); /* nobody's: adopted */
	assert_int_equal(world_enter(w, 0, "0", "a:1"), SN_HUB_EXISTS);
}

static void closed_busy(void **state)
{
	struct world *w = *state;
	struct world_change a, b, c, d, e;

	w->opts.checks_at_once = 2;
	world_hub_open(w, 0);
	assert_int_equal(world_enter(w, 0, "x", "a:1"), SN_HUB_OK);
	w->hubs[0].way.lose = 1000;
	assert_int_equal(
			world_enter(w, 0, "u", "a:1"), SN_HUB_INSERT_FAILED); /* being taken back */
	w->hubs[0].way.lose = 0;
	w->nodes[2].slow_ms = 400;
	world_register(w, 0, "y", "a:2", &a);
	world_register(w, 0, "z", "a:2", &b);
	world_register(w, 0, "y", "a:3", &c);
	world_register(w, 0, "v", "a:3", &d);
	world_unregister(w, 0, "u", &e);
	world_pass(w, 1);
	world_hub_close(w, 0, false);
	assert_int_equal(a.refusal, SN_HUB_CLOSED);
	assert_int_equal(b.refusal, SN_HUB_CLOSED);
	assert_int_equal(c.refusal, SN_HUB_CLOSED);
	assert_int_equal(d.refusal, SN_HUB_CLOSED);
	assert_int_equal(e.refusal, SN_HUB_CLOSED);
	assert_int_equal(a.done + b.done + c.done + d.done + e.done, 5);
}

/* Every allocation of a hub's life fails once: what could not be done is said, and it goes on. */
static void sweep(void **state)
{
	struct world *w = *state;
	bool failed = true;

	w->opts.check_every_ms = 20;
	w->opts.hub_ttl_ms = 300;
	for (uint64_t nth = 1; failed; nth++) {
		struct sn_hub_registry *r = NULL;
		struct world_change a, b;
		bool closed = false, in = false;
		int code;

		memset(&a, 0, sizeof a);
		memset(&b, 0, sizeof b);
		a.c.done = b.c.done = world_change_done;
		w->opts.store = w->store;
		w->opts.checker = &w->checker;
		w->opts.hub = "sweep";
		sn__mem_fail_nth(nth);
		code = sn__hub_registry_open(w->loop, &w->opts, &r, NULL);
		if (code == 0)
			code = sn__hub_register(r, "x", "a:1", "{\"a\":1}", &a.c);
		if (code == 0) {
			in = world_ended(w, &a) == SN_HUB_OK;
			world_pass(w, 100);
			code = sn__hub_unregister(r, "x", &b.c);
		}
		if (b.c.done != NULL && code == 0 && world_ended(w, &b) == SN_HUB_OK)
			in = false;
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(code == 0 || (failed && code == SN_E_NOMEM));
		if (r == NULL)
			continue;
		/* Whatever has failed: it works now, and the view is that of the store. */
		world_pass(w, 500);
		assert_int_equal(sn__hub_count(r), in);
		assert_int_equal(sn__hub_register(r, "x", "a:1", "{\"a\":1}", &a.c), 0);
		a.done = b.done = 0;
		assert_int_equal(world_ended(w, &a), in ? SN_HUB_EXISTS : SN_HUB_OK);
		assert_int_equal(sn__hub_unregister(r, "x", &b.c), 0);
		assert_int_equal(world_ended(w, &b), SN_HUB_OK);
		world_pass(w, 500);
		assert_int_equal(sn__hub_count(r), 0);
		sn__hub_registry_close(r, world_set, &closed);
		world_pass(w, 500);
		assert_true(closed);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
			TEST(in_order),
			TEST(refused),
			TEST(attributes),
			TEST(at_once),
			TEST(dead_ones_go),
			TEST(replaced),
			TEST(renewed),
			TEST(full),
			TEST(adopted),
			TEST(partitioned),
			TEST(twins),
			TEST(twin_while_keeping),
			TEST(taken_back),
			TEST(away_at_first),
			TEST(restarted),
			TEST(restarted_on_a_file),
			TEST(watchers),
			TEST(unreadable),
			TEST(closed_busy),
			TEST(sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
