/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog by itself: names, versions, monitors, states, the end. What dialects write is tested
 * with the dialect. */
#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "io/sim.h"
#include "mesh/catalog_impl.h"
#include "mesh/peer_state.h"

struct world {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_catalog *cat;
};

static int setup(void **state)
{
	static const struct sn_sim_options opts = {.seed = 3};
	struct world *w = test_calloc(1, sizeof(*w));

	assert_int_equal(sn__sim_create(&opts, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->loop), 0);
	assert_int_equal(sn__catalog_create(w->loop, NULL, NULL, &w->cat), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	sn__catalog_destroy(w->cat);
	sn__loop_close(w->loop, NULL, NULL);
	sn__sim_destroy(w->sim);
	test_free(w);
	return sn__mem_live() == 0 ? 0 : -1;
}

static void run(struct world *w)
{
	(void)sn__sim_run(w->sim, SN_NEVER_NS);
}

/* One value of ["service", name, "rest"]; NULL: absent. */
struct put {
	struct sn_update update;
	const char *name, *json;
	int code;
	uint32_t changes;
	unsigned done;
};

static struct sn_path path_of(const char *name)
{
	return (struct sn_path){
			.n = 3, .part = {SN_STR("service"), sn_str_from(name), SN_STR("rest")}};
}

static int put_work(struct sn_update *u, struct sn_batch *b)
{
	struct put *p = SN_CONTAINER_OF(u, struct put, update);
	struct sn_path path = path_of(p->name);

	if (p->json == NULL)
		return sn__batch_set_absent(b, SN_SECTION_PEERS, &path);
	return sn__batch_set_peers(b, &path, sn_str_from(p->json));
}

static void put_done(struct sn_update *u, int code, uint32_t changes)
{
	struct put *p = SN_CONTAINER_OF(u, struct put, update);

	p->code = code;
	p->changes = changes;
	p->done++;
}

static void submit(struct world *w, struct put *p, const char *name, const char *json, size_t size)
{
	*p = (struct put){.name = name,
			.json = json,
			.code = 77,
			.update = {.size = size, .work = put_work, .done = put_done}};
	sn__catalog_submit(w->cat, &p->update);
	assert_int_equal(p->done, 0);
}

static void put(struct world *w, const char *name, const char *json)
{
	struct put p;

	submit(w, &p, name, json, 1);
	run(w);
	assert_int_equal(p.done, 1);
	assert_int_equal(p.code, 0);
}

static struct sn_target *target(struct world *w, const char *name)
{
	struct sn_target *t = NULL;

	assert_int_equal(sn__catalog_target(w->cat, SN_STR("service"), sn_str_from(name),
					 SN_STR("rest"), &t),
			0);
	return t;
}

/* ---- names ---- */

static void names(void **state)
{
	struct world *w = *state;
	struct sn_target *t = target(w, "basket"), *again = NULL, *raw = NULL;
	struct sn_path path = path_of("basket");
	static char longer[SN_NAME_MAX + 1];

	assert_string_equal(sn__target_text(t), "service basket/rest");
	assert_true(sn_str_eq(sn__target_kind(t), SN_STR("service")));
	assert_true(sn_str_eq(sn__target_name(t), SN_STR("basket")));
	assert_true(sn_str_eq(sn__target_endpoint(t), SN_STR("rest")));
	assert_ptr_equal(target(w, "basket"), t);
	assert_ptr_not_equal(target(w, "bask"), t);
	assert_int_equal(sn__catalog_target(w->cat, SN_STR("database"), SN_STR("x"), SN_STR(""),
					 &again),
			0);
	assert_string_equal(sn__target_text(again), "database x");
	assert_int_equal(sn__catalog_path_target(w->cat, SN_SECTION_PEERS, &path, &raw), 0);
	assert_ptr_not_equal(raw, t);
	memset(longer, 'x', sizeof(longer));
	assert_int_equal(sn__catalog_target(w->cat, SN_STR("service"),
					 (struct sn_str){longer, sizeof(longer)}, SN_STR(""),
					 &again),
			SN_E_INVALID);
	assert_int_equal(sn__catalog_target(w->cat, SN_STR("service"), (struct sn_str){"a\0b", 3},
					 SN_STR(""), &again),
			SN_E_INVALID);
	assert_int_equal(
			sn__catalog_target(w->cat, SN_STR("\1"), SN_STR("0[]"), SN_STR(""), &again),
			SN_E_INVALID);
}

static void unknown_names_cost_nothing(void **state)
{
	struct world *w = *state;
	struct sn_target *t = NULL;
	int64_t live;

	put(w, "known", "{\"1\":{\"port\":1}}");
	live = sn__mem_live();
	for (int i = 0; i < 100; i++) {
		char name[16];
		int n = snprintf(name, sizeof(name), "n%d", i);

		assert_null(sn__catalog_find(w->cat, SN_STR("service"),
				(struct sn_str){name, (size_t)n}, SN_STR("rest")));
	}
	assert_int_equal(sn__mem_live(), live);
	assert_int_equal(sn__catalog_look_up(w->cat, SN_STR("service"), SN_STR("known"),
					 SN_STR("rest"), &t),
			0);
	assert_non_null(t);
	assert_int_equal(sn__target_peers(t)->n, 1);
	assert_ptr_equal(sn__catalog_find(w->cat, SN_STR("service"), SN_STR("known"),
					 SN_STR("rest")),
			t);
}

static void many_targets(void **state)
{
	struct world *w = *state;
	char name[16];

	for (int i = 0; i < 5000; i++) {
		(void)snprintf(name, sizeof(name), "t%d", i);
		assert_string_equal(sn__target_name(target(w, name)).ptr, name);
	}
	for (int i = 0; i < 5000; i++) {
		(void)snprintf(name, sizeof(name), "t%d", i);
		assert_true(sn_str_eq(sn__target_name(target(w, name)), sn_str_from(name)));
	}
	assert_int_equal(w->cat->n_targets, 5000);
}

/* ---- versions ---- */

static void versions(void **state)
{
	struct world *w = *state;
	struct sn_target *t = target(w, "a");
	const struct sn_peers *first, *none;

	assert_null(sn__target_peers(t));
	put(w, "a",
			"{\"b\":{\"protocol\":\"http\",\"port\":81,\"address\":\"h\",\"weight\":7},"
			" \"10\" : {\"x\":[1, 2]} ,\"9\":5,\"b\":{\"protocol\":\"ws\",\"port\":82.0,"
			"\"address\":\"\\u00e9\"}}");
	first = sn__target_peers_get(t);
	assert_int_equal(first->n, 3);
	assert_int_equal(first->first, 2);
	assert_int_equal(first->version, 1);
	assert_string_equal(first->peers[0].identity.ptr, "b");
	assert_string_equal(first->peers[0].protocol.ptr, "ws");
	assert_string_equal(first->peers[0].address.ptr, "\xc3\xa9");
	assert_int_equal(first->peers[0].port, 82);
	assert_int_equal(first->peers[0].weight, 1);
	assert_string_equal(first->peers[1].json.ptr, "{\"x\":[1, 2]}");
	assert_int_equal(first->peers[1].port, 0);
	assert_string_equal(first->peers[1].protocol.ptr, "");
	assert_string_equal(first->peers[2].json.ptr, "5");
	assert_int_equal(sn__peers_find(first, SN_STR("10")), 1);
	assert_int_equal(sn__peers_find(first, SN_STR("11")), 3);
	assert_string_equal(sn__peers_json(first),
			"{\"b\":{\"protocol\":\"ws\",\"port\":82.0,"
			"\"address\":\"\\u00e9\"},\"10\":{\"x\":[1, 2]},\"9\":5}");
	/* The same in other words is no new version. */
	put(w, "a",
			"{\"9\":5.0,\"10\":{\"x\":[1,2]},\"b\":{\"address\":\"\xc3\xa9\",\"port\":82,"
			"\"protocol\":\"ws\"}}");
	assert_ptr_equal(sn__target_peers(t), first);
	put(w, "a", "{}");
	assert_int_equal(sn__target_peers(t)->n, 0);
	assert_string_equal(sn__peers_json(sn__target_peers(t)), "{}");
	put(w, "a", NULL);
	assert_null(sn__target_peers(t));
	assert_string_equal(first->peers[0].identity.ptr, "b"); /* still held */
	sn__peers_unref(first);
	none = sn__peers_none();
	assert_int_equal(none->n, 0);
	assert_string_equal(sn__peers_json(none), "{}");
	sn__peers_unref(none);
}

static void states_are_carried(void **state)
{
	struct world *w = *state;
	struct sn_target *t = target(w, "a");
	struct sn_peer_state one = {.refs = 1}, two = {.refs = 1};
	const struct sn_peers *p;

	put(w, "a", "{\"1\":{\"port\":1,\"address\":\"x\"},\"2\":{\"port\":2,\"address\":\"x\"}}");
	p = sn__target_peers(t);
	atomic_store(&((struct sn_peers *)(uintptr_t)p)->peers[0].state, sn__peer_state_ref(&one));
	atomic_store(&((struct sn_peers *)(uintptr_t)p)->peers[1].state, sn__peer_state_ref(&two));
	/* Another order, more members: the same peers. One has moved. */
	put(w, "a",
			"{\"3\":{},\"2\":{\"address\":\"x\",\"port\":2,\"more\":1},"
			"\"1\":{\"port\":1,\"address\":\"y\"}}");
	p = sn__target_peers(t);
	assert_null(atomic_load(&p->peers[0].state));
	assert_ptr_equal(atomic_load(&p->peers[1].state), &two);
	assert_null(atomic_load(&p->peers[2].state));
	put(w, "a", "{\"3\":{\"z\":1},\"2\":{\"address\":\"x\",\"port\":2}}");
	p = sn__target_peers(t);
	assert_ptr_equal(atomic_load(&p->peers[1].state), &two);
	assert_int_equal(atomic_load(&two.refs),
			4); /* ours, and one for each version not yet freed */
	sn__catalog_destroy(w->cat);
	w->cat = NULL;
	run(w);
	assert_int_equal(atomic_load(&one.refs), 1);
	assert_int_equal(atomic_load(&two.refs), 1);
}

/* ---- order of updates ---- */

static void updates_keep_their_order(void **state)
{
	struct world *w = *state;
	struct sn_target *t = target(w, "a");
	struct put large, small, broken;

	submit(w, &large, "a", "{\"1\":{\"port\":1}}", SN_UPDATE_INLINE_MAX + 1);
	submit(w, &small, "a", "{\"1\":{\"port\":2}}", 1);
	submit(w, &broken, "a", "[]", SN_UPDATE_INLINE_MAX + 1);
	assert_false(sn__catalog_idle(w->cat));
	run(w);
	assert_true(sn__catalog_idle(w->cat));
	assert_int_equal(large.done + small.done + broken.done, 3);
	assert_int_equal(large.changes + small.changes, 2);
	assert_int_equal(broken.code, SN_E_PARSE);
	assert_int_equal(broken.changes, 0);
	assert_int_equal(sn__target_peers(t)->peers[0].port, 2);
}

struct watch {
	struct sn_target_monitor m;
	struct sn_catalog *to_destroy;
	struct sn_target_monitor *to_stop;
	unsigned calls;
};

static void on_change(struct sn_target_monitor *m, const struct sn_peers *peers)
{
	struct watch *watch = SN_CONTAINER_OF(m, struct watch, m);

	watch->calls++;
	if (watch->to_stop != NULL)
		sn__target_monitor_stop(watch->to_stop);
	if (watch->to_destroy != NULL)
		sn__catalog_destroy(watch->to_destroy);
}

static void monitors_stop_each_other(void **state)
{
	struct world *w = *state;
	struct watch a = {.calls = 0}, b = {.calls = 0}, never = {.calls = 0};

	sn__target_monitor_stop(&never.m);
	a.to_stop = &b.m;
	sn__target_monitor_start(target(w, "a"), &a.m, on_change);
	sn__target_monitor_start(target(w, "a"), &b.m, on_change);
	put(w, "a", "{\"1\":{}}");
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 0);
	a.to_stop = &a.m;
	put(w, "a", "{\"2\":{}}");
	put(w, "a", "{\"3\":{}}");
	assert_int_equal(a.calls, 2);
	/* Told of what is there in a later turn, unless stopped before. */
	sn__target_monitor_start(target(w, "a"), &b.m, on_change);
	assert_int_equal(b.calls, 0);
	sn__target_monitor_stop(&b.m);
	sn__target_monitor_stop(&b.m);
	run(w);
	assert_int_equal(b.calls, 0);
}

static void destroyed_in_a_call(void **state)
{
	struct world *w = *state;
	struct watch a = {.calls = 0}, b = {.calls = 0};
	struct put first, second;

	a.to_destroy = w->cat;
	sn__target_monitor_start(target(w, "a"), &a.m, on_change);
	sn__target_monitor_start(target(w, "a"), &b.m, on_change);
	submit(w, &first, "a", "{\"1\":{}}", 1);
	submit(w, &second, "a", "{\"2\":{}}", 1);
	run(w);
	w->cat = NULL;
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 0);
	assert_int_equal(first.code, SN_E_CLOSED);
	assert_int_equal(second.code, SN_E_CLOSED);
	sn__target_monitor_stop(&a.m); /* harmless afterwards */
}

static void destroyed_while_working(void **state)
{
	struct world *w = *state;
	struct put large, next;

	submit(w, &large, "a", "{\"1\":{}}", SN_UPDATE_INLINE_MAX + 1);
	submit(w, &next, "a", "{\"2\":{}}", 1);
	while (!w->cat->working)
		(void)sn__loop_run(w->loop, SN_RUN_ONCE);
	sn__catalog_destroy(w->cat);
	w->cat = NULL;
	assert_int_equal(next.code, SN_E_CLOSED);
	assert_int_equal(large.done, 0);
	run(w);
	assert_int_equal(large.done, 1);
	assert_int_equal(large.code, SN_E_CLOSED);
}

static void old_versions_are_freed(void **state)
{
	struct world *w = *state;
	struct put p;
	int64_t live;

	(void)target(w, "a");
	put(w, "a", "{\"0\":{}}");
	live = sn__mem_live();
	for (int i = 0; i < 50; i++) {
		char json[32];

		(void)snprintf(json, sizeof(json), "{\"%d\":{}}", i + 1);
		put(w, "a", json);
	}
	assert_true(sn__mem_live() > live); /* a handful waits */
	submit(w, &p, "a", "{\"x\":{}}", SN_UPDATE_INLINE_MAX + 1);
	run(w);
	assert_int_equal(sn__mem_live(), live);
}

/* ---- out of memory ---- */

static void out_of_memory(void **state)
{
	struct world *w = *state;
	struct watch watch = {.calls = 0};
	struct sn_target *t = target(w, "a");
	bool done = false;

	put(w, "a", "{\"1\":{\"port\":1}}");
	sn__target_monitor_start(t, &watch.m, on_change);
	run(w);
	for (uint64_t n = 1; !done; n++) {
		struct put p;

		submit(w, &p, n % 2 == 0 ? "a" : "other",
				"{\"9\":{\"port\":9,\"\\u0061\":1},\"1\":{\"address\":\"\\u0062\"}}",
				n % 3 == 0 ? SN_UPDATE_INLINE_MAX + 1 : 1);
		sn__mem_fail_nth((n + 5) / 6);
		run(w);
		sn__mem_fail_nth(0);
		assert_int_equal(p.done, 1);
		if (p.code == 0) {
			done = n > 60;
			put(w, "a", "{\"1\":{\"port\":1}}");
			put(w, "other", NULL);
			watch.calls = 1;
			continue;
		}
		assert_int_equal(p.code, SN_E_NOMEM);
		assert_int_equal(watch.calls, 1);
		assert_int_equal(sn__target_peers(t)->peers[0].port, 1);
	}
	sn__target_monitor_stop(&watch.m);
}

static void targets_without_memory(void **state)
{
	struct world *w = *state;
	struct sn_target *t = NULL;
	int rc = SN_E_NOMEM;

	for (uint64_t n = 1; rc == SN_E_NOMEM; n++) {
		sn__mem_fail_nth(n);
		rc = sn__catalog_target(w->cat, SN_STR("service"), SN_STR("m"), SN_STR("rest"), &t);
		sn__mem_fail_nth(0);
		assert_true((rc == 0) == (t != NULL));
	}
	assert_int_equal(rc, 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
			T(names),
			T(unknown_names_cost_nothing),
			T(many_targets),
			T(versions),
			T(states_are_carried),
			T(updates_keep_their_order),
			T(monitors_stop_each_other),
			T(destroyed_in_a_call),
			T(destroyed_while_working),
			T(old_versions_are_freed),
			T(out_of_memory),
			T(targets_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
