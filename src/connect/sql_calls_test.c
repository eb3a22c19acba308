/* SPDX-License-Identifier: Apache-2.0 */

/* Native operations of SQL drivers: what goes in and comes out as JSON, on SQLite in memory and the
 * simulated loop. */

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"
#include "connect/settings.h"
#include "connect/sql_calls.h"
#include "io/sim.h"

struct world {
	struct sn_sim *sim;
	struct sn_connect_host host;
	const struct sn_driver *driver;
	struct sn_settings *settings;
	struct sn_sql_binding sql;
	int64_t live;
};

struct call {
	struct sn_driver_call pub; /* first */
	bool done;
	char answer[512];
};

static void until(struct world *w, const bool *flag)
{
	while (!*flag)
		if (!sn__loop_run(w->host.loop, SN_RUN_ONCE) && !*flag)
			fail_msg("nothing can happen any more");
}

static void world_open(struct world *w)
{
	static const struct sn_sim_options perfect;
	struct sn_driver_open how = {.size = sizeof how, .resource = ""};
	struct sn_error err;

	memset(w, 0, sizeof *w);
	w->live = sn__mem_live();
	assert_int_equal(sn__sim_create(&perfect, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->host.loop), 0);
	sn__connect_host_init(&w->host);
	assert_int_equal(sn__driver_find(SN_TOPIC_DATABASE, SN_STR("sqlite"), &w->driver, &err), 0);
	assert_int_equal(sn__settings_read(w->driver, "{\"path\":\":memory:\",\"new\":\"x\"}", true,
					 NULL, &w->settings, &err),
			0);
	how.host = &w->host.pub;
	how.options = sn__settings_options(w->settings);
	w->sql.ops = w->driver->ops;
	w->sql.state = calloc(1, w->driver->state_size);
	assert_int_equal(w->driver->open(w->sql.state, &how), 0);
}

static void set(void *arg)
{
	*(bool *)arg = true;
}

static void world_close(struct world *w)
{
	bool closed = false;

	w->driver->close(w->sql.state, set, &closed);
	until(w, &closed);
	w->driver->finish(w->sql.state);
	free(w->sql.state);
	sn__settings_destroy(w->settings);
	sn__loop_close(w->host.loop, NULL, NULL);
	sn__sim_destroy(w->sim);
	assert_int_equal(sn__mem_live(), w->live);
}

static void on_done(struct sn_driver_call *pub)
{
	struct call *c = (struct call *)pub;

	assert_false(c->done);
	if (pub->outcome.verdict == SN_DRIVER_OK)
		(void)snprintf(c->answer, sizeof c->answer, "%.*s", (int)pub->result_size,
				pub->result_size > 0 ? pub->result : "");
	else
		(void)snprintf(c->answer, sizeof c->answer, "%s: %s", pub->type,
				pub->message[0] != '\0' ? pub->message : pub->outcome.detail);
	c->done = true;
}

static int run(struct world *w, struct call *c, const char *operation, const char *params,
		uint64_t max)
{
	const struct sn_driver_operation *op = sn__sql_calls.operations;
	void *state = calloc(1, sn__sql_calls.state_size);
	int r;

	while (strcmp(op->name, operation) != 0)
		op++;
	*c = (struct call){.pub = {.operation = op,
					   .params = params,
					   .params_size = strlen(params),
					   .max_result = max,
					   .state = state,
					   .done = on_done}};
	r = sn__sql_calls.start(&w->sql, &c->pub);
	assert_false(c->done);
	if (r == 0)
		until(w, &c->done);
	else
		(void)snprintf(c->answer, sizeof c->answer, "%s", c->pub.outcome.detail);
	free(state);
	return r;
}

static void test_answers(void **state)
{
	static const struct {
		const char *operation, *params, *answer;
	} cases[] = {
			{"script",
					"{\"sql\":\"CREATE TABLE t (a BIGINT PRIMARY KEY, b TEXT); "
					"CREATE INDEX i ON t (b)\"}",
					"{}"},
			{"execute", "{\"sql\":\"INSERT INTO t VALUES ($1, $2)\",\"params\":[1,\"\\u00e9\"]}",
					"{\"rows\":[],\"affected\":1}"},
			{"execute", "{\"sql\":\"INSERT INTO t VALUES ($1, $2)\",\"params\":[1,null]}",
					"constraint 1555: UNIQUE constraint failed: t.a"},
			{"query", "{\"sql\":\"SELECT a, b FROM t\"}",
					"{\"rows\":[{\"a\":1,\"b\":\"\xc3\xa9\"}],\"affected\":0}"},
			{"query",
					"{\"sql\":\"SELECT $1 AS a, $2 AS b, $3 AS c, $4 AS d, $5 AS e\","
					"\"params\":[true,false,0.5,{\"base64\":\"AP8=\"},null]}",
					"{\"rows\":[{\"a\":1,\"b\":0,\"c\":0.5,\"d\":{\"base64\":\"AP8=\"},"
					"\"e\":null}],\"affected\":0}"},
			{"query", "{\"sql\":\"SELECT 1e999 AS i, -1e999 AS j, 2.0 AS k\"}",
					"{\"rows\":[{\"i\":\"Infinity\",\"j\":\"-Infinity\",\"k\":2.0}],"
					"\"affected\":0}"},
			{"query", "{\"sql\":\"DELETE FROM t\"}",
					"rejected: the unit only reads, and this statement writes"},
			{"transaction",
					"{\"statements\":[{\"sql\":\"UPDATE t SET b = 'x'\"},"
					"{\"sql\":\"SELECT b FROM t WHERE a = $1\",\"params\":[1]}]}",
					"{\"results\":[{\"rows\":[],\"affected\":1},"
					"{\"rows\":[{\"b\":\"x\"}],\"affected\":0}]}"},
			{"transaction", "{\"statements\":[{\"sql\":\"DELETE FROM t\"},{\"sql\":\"x\"}]}",
					"rejected 1: near \"x\": syntax error"},
			{"query", "{\"sql\":\"SELECT count(*) AS n FROM t\"}",
					"{\"rows\":[{\"n\":1}],\"affected\":0}"},
	};
	struct world w;

	world_open(&w);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct call c;

		assert_int_equal(run(&w, &c, cases[i].operation, cases[i].params, 0), 0);
		if (strcmp(c.answer, cases[i].answer) != 0)
			fail_msg("%s gives %s", cases[i].params, c.answer);
	}
	world_close(&w);
}

static void test_bad_params(void **state)
{
	static const struct {
		const char *operation, *params, *says;
	} cases[] = {
			{"query", "{}", "sql must be a text"},
			{"query", "[", "not JSON"},
			{"query", "{\"sql\":7}", "sql must be a text"},
			{"query", "{\"sql\":\"x\",\"params\":7}", "params must be a list"},
			{"query", "{\"sql\":\"x\",\"params\":[[]]}",
					"a parameter is null, a number"},
			{"query", "{\"sql\":\"x\",\"params\":[{}]}",
					"a parameter is null, a number"},
			{"query", "{\"sql\":\"x\",\"params\":[{\"base64\":\"?\"}]}", "base64"},
			{"transaction", "{\"statements\":[]}", "statements must be a list"},
			{"transaction", "{\"statements\":[7]}", "sql must be a text"},
			{"script", "{\"sql\":\"x\",\"params\":[1]}", "a script has no params"},
	};
	struct world w;

	world_open(&w);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct call c;

		if (run(&w, &c, cases[i].operation, cases[i].params, 0) >= 0)
			fail_msg("%s is taken", cases[i].params);
		if (strstr(c.answer, cases[i].says) == NULL)
			fail_msg("%s gives %s", cases[i].params, c.answer);
	}
	world_close(&w);
}

static void test_limit(void **state)
{
	struct world w;
	struct call c;

	world_open(&w);
	assert_int_equal(run(&w, &c, "query", "{\"sql\":\"SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaa'\"}",
					 40),
			0);
	assert_int_equal(c.pub.outcome.verdict, SN_DRIVER_REJECTED);
	assert_int_equal(c.pub.outcome.code, SN_E_LIMIT);
	world_close(&w);
}

/* Every allocation fails once. */
static void test_no_memory(void **state)
{
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct world w;
		struct call c;
		int r;

		world_open(&w);
		sn__mem_fail_nth(n);
		r = run(&w, &c, "transaction",
				"{\"statements\":[{\"sql\":\"SELECT $1 AS a, $2 AS b\",\"params\":[1,"
				"{\"base64\":\"AAAA\"}]},{\"sql\":\"SELECT 'x' AS y\"}]}",
				0);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (!failed)
			assert_string_equal(c.answer,
					"{\"results\":[{\"rows\":[{\"a\":1,\"b\":{\"base64\":\"AAAA\"}}],"
					"\"affected\":0},{\"rows\":[{\"y\":\"x\"}],\"affected\":0}]}");
		else if (r == 0)
			assert_int_not_equal(c.pub.outcome.verdict, SN_DRIVER_OK);
		else
			assert_int_equal(r, SN_E_NOMEM);
		world_close(&w);
	}
}

static void test_settings(void **state)
{
	static const struct {
		const char *json, *says;
	} cases[] = {
			{"{}", "path is missing"},
			{"{\"path\":[]}", "path must be a text"},
			{"{\"path\":\"x\",\"pth\":1}", "pth"},
			{"{\"path\":\"x\",\"synchronous\":\"no\"}", "synchronous"},
			{"{\"path\":\"x\",\"group\":0}", "group"},
			{"{\"path\":\"x\"", "no JSON"},
	};
	const struct sn_driver *d;
	struct sn_settings *s;
	struct sn_error err;

	assert_int_equal(sn__driver_find(SN_TOPIC_DATABASE, SN_STR("sqlite"), &d, &err), 0);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		assert_int_equal(sn__settings_read(d, cases[i].json, false, NULL, &s, &err),
				SN_E_INVALID);
		if (strstr(err.text, cases[i].says) == NULL)
			fail_msg("%s gives %s", cases[i].json, err.text);
	}
	for (uint64_t n = 1; n < 200; n++) {
		int64_t live = sn__mem_live();
		bool failed;
		int r;

		sn__mem_fail_nth(n);
		r = sn__settings_read(d, "{\"path\":\"x\",\"busy-timeout\":\"1s\"}", false, NULL,
				&s, &err);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		if (r == 0)
			sn__settings_destroy(s);
		assert_int_equal(sn__mem_live(), live);
		if (!failed)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_answers),
			cmocka_unit_test(test_bad_params),
			cmocka_unit_test(test_limit),
			cmocka_unit_test(test_no_memory),
			cmocka_unit_test(test_settings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
