/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdio.h>

#include "mesh/mesh_world_test.h"

static const struct sn_policy *policy_of(struct mesh_world *w, enum sn_dialect dialect)
{
	return sn__mesh_policy(w->mesh, mw_target(w), dialect);
}

static void defaults(void **state)
{
	struct mesh_world w;
	const struct sn_policy *p;

	mw_open(&w, 1);
	p = policy_of(&w, SN_DIALECT_CORE);
	assert_int_equal(p->timeout, 5000);
	assert_int_equal(p->deadline, 15000);
	assert_int_equal(p->retry_jitter, 1);
	assert_false(p->retry_unsafe);
	assert_int_equal(p->retry_on,
			SN_RETRY_CONNECT | SN_RETRY_RESET | SN_RETRY_TIMEOUT | SN_RETRY_502 |
					SN_RETRY_503 | SN_RETRY_504 | SN_RETRY_UNAVAILABLE);
	assert_true(p->retry_budget_min == 3 && p->retry_budget == 0.2);
	assert_int_equal(p->max_response, 16 << 20);
	assert_string_equal(p->tls_ca, "");
	p = policy_of(&w, SN_DIALECT_BERLIOZ);
	assert_int_equal(p->deadline, 0);
	assert_int_equal(p->retry_jitter, 0);
	assert_true(p->retry_unsafe && p->no_peer_retry && p->retry_count_first);
	assert_true((p->retry_on & SN_RETRY_5XX) != 0);
	assert_true(p->retry_budget_min == 10);
	assert_int_equal(sn__balance_of(p, SN_STR("service"), SN_DIALECT_BERLIOZ),
			SN_BALANCE_RANDOM);
	assert_int_equal(sn__balance_of(p, SN_STR("service"), SN_DIALECT_CORE),
			SN_BALANCE_PEAK_EWMA);
	assert_int_equal(sn__balance_of(p, SN_STR("queue"), SN_DIALECT_BERLIOZ), SN_BALANCE_FIRST);
	mw_close(&w);
}

static void inherits_and_overrides(void **state)
{
	struct mesh_world w;
	const struct sn_policy *p;

	mw_open(&w, 1);
	mw_policies(&w,
			"{\"values\":{\"timeout\":1000,\"retry-count\":7,\"host-header\":\"a\"},"
			"\"children\":{\"service\":{\"values\":{\"timeout\":2000},\"children\":"
			"{\"s\":{\"children\":{\"default\":{\"values\":{\"balance\":\"round-robin\","
			"\"retry-on\":[\"503\"],\"tls-verify\":false,\"retry-budget\":0.5}}}},"
			"\"other\":{\"values\":{\"timeout\":1}}}}}}");
	p = policy_of(&w, SN_DIALECT_CORE);
	assert_int_equal(p->timeout, 2000);
	assert_int_equal(p->retry_count, 7);
	assert_int_equal(p->balance, SN_BALANCE_ROUND_ROBIN);
	assert_int_equal(p->retry_on, SN_RETRY_503);
	assert_string_equal(p->host_header, "a");
	assert_false(p->tls_verify);
	assert_true(p->retry_budget == 0.5);
	assert_int_equal(p->deadline, 15000);
	assert_int_equal(policy_of(&w, SN_DIALECT_BERLIOZ)->deadline, 0);
	/* Targets without nodes of their own share one value. */
	assert_ptr_equal(sn__mesh_policy(w.mesh, mw_target_of(&w, "service", "x"), SN_DIALECT_CORE),
			sn__mesh_policy(w.mesh, mw_target_of(&w, "service", "y"), SN_DIALECT_CORE));
	mw_policies(&w, "{}");
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->timeout, 5000);
	assert_int_equal(w.warnings, 0);
	mw_close(&w);
}

static void wrong_values_are_told(void **state)
{
	struct mesh_world w;
	const struct sn_policy *p;
	struct sn_policy_found found;
	struct sn_paths paths;
	json_t *v;

	mw_open(&w, 1);
	mw_policies(&w,
			"{\"values\":{\"timeout\":\"5s\",\"retry-count\":-3,\"max-pending\":1e30,"
			"\"balance\":\"best\",\"retry-on\":[\"503\",\"often\"],\"breaker\":1},"
			"\"children\":{\"service\":7,\"cluster\":{\"values\":[]}}}");
	assert_int_equal(w.warnings, 8);
	p = policy_of(&w, SN_DIALECT_CORE);
	assert_int_equal(p->timeout, 5000);
	assert_int_equal(p->retry_count, 0);
	assert_int_equal(p->max_pending, 1000000000);
	assert_int_equal(p->balance, SN_BALANCE_DEFAULT);
	assert_true(p->breaker);
	/* A wrong value deeper down hides a good one above: the default is used. */
	mw_policies(&w,
			"{\"values\":{\"timeout\":1},\"children\":{\"service\":{\"values\":"
			"{\"timeout\":true}}}}");
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->timeout, 5000);
	sn__policies_paths(w.policies, SN_STR("service"), SN_STR("s"), SN_STR("default"), &paths);
	assert_int_equal(sn__policies_get(w.policies, "timeout", &paths, SN_DIALECT_CORE, &v,
					 &found),
			0);
	assert_int_equal(json_integer_value(v), 5000);
	assert_true(found.wrong_type);
	json_decref(v);
	mw_close(&w);
}

static void bad_trees_change_nothing(void **state)
{
	struct mesh_world w;
	struct sn_error err;
	json_t *tree = json_array(), *deep = json_object(), *at = deep;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{\"timeout\":77}}");
	assert_int_equal(sn__policies_set(w.policies, SN_POLICY_AGENT, tree, &err), SN_E_INVALID);
	assert_string_equal(err.text, "policies: expected an object");
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->timeout, 77);
	json_decref(tree);
	for (int i = 0; i < 100; i++) {
		json_t *children = json_object(), *next = json_object();

		assert_int_equal(json_object_set_new(at, "children", children), 0);
		assert_int_equal(json_object_set_new(children, "x", next), 0);
		at = next;
	}
	assert_int_equal(sn__policies_set(w.policies, SN_POLICY_AGENT, deep, &err), 0);
	assert_int_equal(w.warnings, 1);
	json_decref(deep);
	mw_close(&w);
}

static void the_file_wins_node_by_node(void **state)
{
	struct mesh_world w;
	json_t *file = json_pack("{s:{s:i}, s:{s:{s:{s:i}}}}", "values", "timeout", 1000,
			"children", "service", "values", "retry-count", 9);

	mw_open(&w, 1);
	mw_policies(&w,
			"{\"values\":{\"timeout\":2000,\"deadline\":3000},\"children\":{\"service\":"
			"{\"values\":{\"retry-count\":2,\"idle-timeout\":44}},\"queue\":{}}}");
	assert_int_equal(sn__policies_set(w.policies, SN_POLICY_FILE, file, NULL), 0);
	json_decref(file);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->timeout, 1000);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->deadline, 3000);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->retry_count, 9);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->idle_timeout, 44);
	assert_int_equal(sn__policies_set(w.policies, SN_POLICY_FILE, NULL, NULL), 0);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->retry_count, 2);
	mw_close(&w);
}

/* A part's own values: below file and agent at the same node, above what stands higher up. */
static void own_values_are_the_last_of_a_node(void **state)
{
	json_t *own = json_pack(
			"{s:i, s:i, s:i}", "timeout", 11, "deadline", 12, "retry-count", 13);
	struct mesh_world w;

	mw_open(&w, 1);
	mw_policies(&w,
			"{\"values\":{\"timeout\":2000,\"idle-timeout\":44},\"children\":{\"service\":"
			"{\"children\":{\"s\":{\"values\":{\"deadline\":5}}}}}}");
	assert_int_equal(sn__policies_own(w.policies, "service", "s", own), 0);
	assert_int_equal(sn__policies_own(w.policies, "service", "another", own), 0);
	json_decref(own);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->timeout, 11);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->deadline, 5);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->retry_count, 13);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->idle_timeout, 44);
	assert_int_equal(sn__policies_own(w.policies, "service", "another", NULL), 0);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->retry_count, 13);
	assert_int_equal(sn__policies_own(w.policies, "service", "s", NULL), 0);
	assert_int_equal(policy_of(&w, SN_DIALECT_CORE)->timeout, 2000);
	mw_close(&w);
}

static int three_paths(void *arg, struct sn_str kind, struct sn_str name, struct sn_str endpoint,
		struct sn_paths *ret)
{
	if (sn_str_eq(kind, SN_STR("nothing")))
		return SN_E_INVALID;
	ret->n = 3;
	ret->path[0] = (struct sn_path){.n = 1, .part = {SN_STR("flat")}};
	ret->path[1] = (struct sn_path){.n = 2, .part = {SN_STR("id"), endpoint}};
	ret->path[2] = (struct sn_path){.n = 3, .part = {kind, name, endpoint}};
	return 0;
}

static void paths_are_put_together(void **state)
{
	struct sn_policies_options po = {.paths = three_paths};
	struct sn_policies *ps;
	struct sn_policy_cache cache = {0};
	const struct sn_policy *p;
	struct mesh_world w;
	json_t *tree = json_loads("{\"values\":{\"timeout\":9,\"open-timeout\":8},\"children\":{"
				  "\"flat\":{\"values\":{\"timeout\":1}},"
				  "\"id\":{\"values\":{\"timeout\":2,\"deadline\":22},"
				  "\"children\":{\"default\":{\"values\":{\"retry-count\":5}}}},"
				  "\"service\":{\"values\":{\"deadline\":3,\"idle-timeout\":33}}}}",
			0, NULL);

	mw_open(&w, 1);
	po.loop = w.loop;
	assert_int_equal(sn__policies_create(&po, &ps), 0);
	assert_int_equal(sn__policies_set(ps, SN_POLICY_AGENT, tree, NULL), 0);
	json_decref(tree);
	for (int i = 0; i < 2; i++) { /* the second time from the list */
		cache.version = 0;
		p = sn__policies_of(ps, mw_target(&w), &cache, SN_DIALECT_CORE);
		assert_int_equal(p->timeout, 1);
		assert_int_equal(p->deadline, 22);
		assert_int_equal(p->retry_count, 5);
		assert_int_equal(p->idle_timeout, 33);
		assert_int_equal(p->open_timeout, 8);
	}
	assert_ptr_equal(sn__policies_of(ps, mw_target(&w), &cache, SN_DIALECT_CORE), p);
	sn__policies_destroy(ps);
	mw_close(&w);
}

static void held_policies_outlive_the_tree(void **state)
{
	struct mesh_world w;
	struct sn_policy_tree *tree;
	const struct sn_policy *p;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{\"host-header\":\"kept\"}}");
	p = policy_of(&w, SN_DIALECT_CORE);
	tree = sn__policies_hold(w.policies);
	mw_policies(&w, "{}");
	assert_string_equal(p->host_header, "kept");
	sn__policies_release(tree);
	mw_close(&w);
}

static void explains(void **state)
{
	struct mesh_world w;
	struct sn_paths paths;
	json_t *doc, *e;
	const char *first;

	mw_open(&w, 1);
	mw_policies(&w,
			"{\"values\":{\"timeout\":9,\"x-team\":[1]},\"children\":{\"service\":{\"children\":"
			"{\"s\":{\"values\":{\"retry-count\":4,\"x-mine\":true,\"deadline\":\"soon\"}}}}}}");
	sn__policies_paths(w.policies, SN_STR("service"), SN_STR("s"), SN_STR("default"), &paths);
	assert_int_equal(sn__policies_explain(w.policies, &paths, SN_DIALECT_CORE, &doc), 0);
	first = json_object_iter_key(json_object_iter(doc));
	assert_string_equal(first, "timeout");
	e = json_object_get(doc, "timeout");
	assert_int_equal(json_integer_value(json_object_get(e, "value")), 9);
	assert_string_equal(json_string_value(json_object_get(e, "from")), "root");
	assert_string_equal(json_string_value(json_object_get(e, "source")), "agent");
	e = json_object_get(doc, "retry-count");
	assert_string_equal(json_string_value(json_object_get(e, "from")), "service/s");
	e = json_object_get(doc, "deadline");
	assert_int_equal(json_integer_value(json_object_get(e, "value")), 15000);
	assert_string_equal(json_string_value(json_object_get(e, "from")),
			"default (the tree's value is of the wrong type)");
	e = json_object_get(doc, "breaker-open");
	assert_string_equal(json_string_value(json_object_get(e, "from")), "default");
	assert_string_equal(
			json_string_value(json_object_get(json_object_get(doc, "tls-ca"), "from")),
			"unset");
	assert_non_null(json_object_get(doc, "x-team"));
	assert_true(json_is_true(json_object_get(json_object_get(doc, "x-mine"), "value")));
	json_decref(doc);
	mw_close(&w);
}

/* ---- the file's values ---- */

static void check_is(const char *name, const char *json, const char *want /* NULL: refused */,
		const char *text)
{
	json_t *in = json_loads(json, JSON_DECODE_ANY, NULL), *out = NULL;
	struct sn_error err;
	int r;

	assert_non_null(in);
	r = sn__policy_check(sn__policy_def(name), in, &out, &err);
	if (want != NULL) {
		json_t *w = json_loads(want, JSON_DECODE_ANY, NULL);

		assert_int_equal(r, 0);
		assert_true(json_equal(out, w));
		json_decref(w);
		json_decref(out);
	} else {
		assert_int_equal(r, SN_E_INVALID);
		assert_string_equal(err.text, text);
	}
	json_decref(in);
}

static void values_of_files(void **state)
{
	check_is("timeout", "\"5s\"", "5000", NULL);
	check_is("timeout", "250", "250", NULL);
	check_is("timeout", "\"soon\"", NULL,
			"timeout: expected a time such as 250ms, 5s or a number of milliseconds");
	check_is("timeout", "0", NULL, "timeout: must be between 1 and 604800000 ms");
	check_is("max-response", "\"64KiB\"", "65536", NULL);
	check_is("retry-budget", "\"20%\"", "0.2", NULL);
	check_is("retry-budget", "0.5", "0.5", NULL);
	check_is("retry-count", "2.5", NULL, "retry-count: expected a whole number");
	check_is("retry-count", "[]", NULL, "retry-count: expected a whole number");
	check_is("breaker", "\"yes\"", NULL, "breaker: expected true or false");
	check_is("balance", "\"first\"", "\"first\"", NULL);
	check_is("balance", "\"best\"", NULL,
			"balance: expected one of default, random, round-robin, "
			"least-request, peak-ewma, first");
	check_is("retry-on", "[503, \"reset\"]", "[\"503\", \"reset\"]", NULL);
	check_is("retry-on", "[404]", NULL,
			"retry-on: expected a list of connect, reset, timeout, 502, "
			"503, 504, 5xx, unavailable");
	check_is("tls-ca", "\"/x\"", "\"/x\"", NULL);
	check_is("tls-ca", "1", NULL, "tls-ca: expected a text");
	assert_string_equal(sn__policy_nearest("retry-cuont"), "retry-count");
	assert_null(sn__policy_nearest("x-team-color"));
	assert_null(sn__policy_def("nonsense"));
}

/* ---- the reference page ---- */

static void page_is_what_the_table_says(void **state)
{
	const char *root = getenv("SINEW_SOURCE_ROOT");
	char path[512], *page = test_malloc(1 << 16);
	struct sn_buf out;
	FILE *file;
	size_t n;

	(void)snprintf(path, sizeof path, "%s/docs/policies.md", root != NULL ? root : ".");
	sn__buf_init(&out, 1 << 16);
	assert_int_equal(sn__policy_doc(&out), 0);
	if (getenv("SINEW_UPDATE") != NULL) {
		file = fopen(path, "w");
		assert_non_null(file);
		assert_int_equal(fwrite(sn__buf_data(&out), 1, out.len, file), out.len);
		assert_int_equal(fclose(file), 0);
	}
	file = fopen(path, "r");
	if (file == NULL)
		fail_msg("%s is not there: run this test with SINEW_UPDATE=1", path);
	n = fread(page, 1, 1 << 16, file);
	(void)fclose(file);
	if (n != out.len || memcmp(page, sn__buf_data(&out), n) != 0)
		fail_msg("%s differs from the table: run this test with SINEW_UPDATE=1", path);
	sn__buf_finish(&out);
	test_free(page);
}

/* ---- monitors ---- */

struct listener {
	struct sn_policy_monitor *m;
	struct listener *stops; /* may be NULL */
	int64_t heard[4];
	unsigned n;
};

static void on_value(const json_t *value, void *arg)
{
	struct listener *l = arg;

	l->heard[l->n++ % 4] = json_integer_value(value);
	if (l->stops != NULL) {
		sn__policy_monitor_stop(l->stops->m);
		l->stops->m = NULL;
		l->stops = NULL;
	}
}

static void monitors_stop_each_other(void **state)
{
	struct mesh_world w;
	struct listener a = {0}, b = {0}, c = {0};

	mw_open(&w, 1);
	a.stops = &b;
	c.stops = &c;
	assert_int_equal(sn__policy_monitor_start(w.policies, "timeout", NULL, SN_DIALECT_CORE,
					 on_value, &a, &a.m),
			0);
	assert_int_equal(sn__policy_monitor_start(w.policies, "timeout", NULL, SN_DIALECT_CORE,
					 on_value, &b, &b.m),
			0);
	assert_int_equal(sn__policy_monitor_start(w.policies, "timeout", NULL, SN_DIALECT_CORE,
					 on_value, &c, &c.m),
			0);
	assert_int_equal(a.n, 0);
	mw_run(&w, 1);
	mw_policies(&w, "{\"values\":{\"timeout\":5000.0}}"); /* the same number */
	mw_run(&w, 1);
	mw_policies(&w, "{\"values\":{\"timeout\":6}}");
	mw_policies(&w, "{\"values\":{\"timeout\":7}}");
	mw_run(&w, 1);
	assert_int_equal(a.n, 2);
	assert_int_equal(a.heard[1], 7);
	assert_int_equal(b.n, 0);
	assert_int_equal(c.n, 1);
	sn__policy_monitor_stop(a.m);
	mw_close(&w);
}

/* ---- threads ---- */

struct reader {
	struct mesh_world *w;
	atomic_bool stop;
	unsigned reads;
};

static void *read_on(void *arg)
{
	struct reader *r = arg;

	while (!atomic_load(&r->stop)) {
		struct sn_paths paths;
		json_t *v;

		sn__policies_paths(r->w->policies, SN_STR("service"), SN_STR("s"),
				SN_STR("default"), &paths);
		if (sn__policies_get(r->w->policies, "timeout", &paths, SN_DIALECT_CORE, &v,
				    NULL) != 0)
			return NULL;
		r->reads += json_integer_value(v) >= 1 && json_integer_value(v) <= 500;
		json_decref(v);
	}
	return NULL;
}

static void other_threads_read(void **state)
{
	struct mesh_world w;
	struct reader r = {.w = &w};
	pthread_t thread;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{\"timeout\":500}}");
	assert_int_equal(pthread_create(&thread, NULL, read_on, &r), 0);
	for (unsigned i = 1; i <= 500; i++) {
		char json[128];

		(void)snprintf(json, sizeof json,
				"{\"children\":{\"service\":{\"values\":"
				"{\"timeout\":%u}}}}",
				i);
		mw_policies(&w, json);
	}
	atomic_store(&r.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	mw_close(&w);
}

/* ---- memory ---- */

static int try_all(struct mesh_world *w, const json_t *tree, struct sn_policy_monitor **m)
{
	struct sn_policies_options po = {.loop = w->loop, .paths = three_paths};
	struct sn_policy_cache cache = {0};
	struct sn_paths paths;
	int r = sn__policies_create(&po, &w->policies);

	*m = NULL;
	if (r != 0)
		return r;
	r = sn__policies_set(w->policies, SN_POLICY_AGENT, (json_t *)(uintptr_t)tree, NULL);
	if (r != 0) {
		assert_int_equal(sn__policies_version(w->policies), 1);
		return r;
	}
	sn__policies_paths(w->policies, SN_STR("service"), SN_STR("s"), SN_STR("default"), &paths);
	assert_int_equal(sn__policies_of(w->policies, mw_target(w), &cache, SN_DIALECT_CORE)
					 ->timeout,
			1);
	return sn__policy_monitor_start(
			w->policies, "timeout", &paths, SN_DIALECT_CORE, on_value, NULL, m);
}

static void out_of_memory(void **state)
{
	json_t *tree = json_loads(
			"{\"children\":{\"flat\":{\"values\":{\"timeout\":1}},\"id\":{\"values\":"
			"{\"deadline\":2}},\"a\":{},\"b\":{\"children\":{\"c\":{}}}}}",
			0, NULL);
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct sn_policy_monitor *m;
		struct mesh_world w;
		int r;

		mw_init(&w, 1);
		assert_int_equal(sn__catalog_create(w.loop, NULL, NULL, &w.cat), 0);
		(void)mw_target(&w);
		sn__mem_fail_nth(n);
		r = try_all(&w, tree, &m);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(r == 0 || (failed && r == SN_E_NOMEM));
		sn__policy_monitor_stop(m);
		mw_close(&w);
	}
	json_decref(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(defaults),
			cmocka_unit_test(inherits_and_overrides),
			cmocka_unit_test(wrong_values_are_told),
			cmocka_unit_test(bad_trees_change_nothing),
			cmocka_unit_test(the_file_wins_node_by_node),
			cmocka_unit_test(own_values_are_the_last_of_a_node),
			cmocka_unit_test(paths_are_put_together),
			cmocka_unit_test(held_policies_outlive_the_tree),
			cmocka_unit_test(explains),
			cmocka_unit_test(values_of_files),
			cmocka_unit_test(page_is_what_the_table_says),
			cmocka_unit_test(monitors_stop_each_other),
			cmocka_unit_test(other_threads_read),
			cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
