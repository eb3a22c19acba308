/* SPDX-License-Identifier: Apache-2.0 */

/* Resource calls over simulated drivers: what ends how, which instance is used, when it closes. */

#include "connect/connect_world_test.h"

#define ONE(service) \
	"{\"0\":{\"subClass\":\"sim\",\"name\":\"t\",\"config\":{\"service\":\"" service "\"}}}"
#define TWO \
	"{\"2\":{\"subClass\":\"sim\",\"config\":{\"service\":\"b\"}}," \
	"\"1\":{\"subClass\":\"sim\",\"config\":{\"service\":\"a\"}}}"

static void open_world(struct connect_world *cw, const char *peers)
{
	cw_open(cw, 7);
	mw_peers_of(&cw->w, "database", "d", peers);
}

static void says(const struct cw_call *c, const char *text)
{
	if (strstr(c->err.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", c->err.text, text);
}

static void answered(const struct cw_call *c, const char *json)
{
	size_t n;

	if (c->code != 0)
		fail_msg("%s", c->err.text);
	assert_string_equal(sn_result_json(&c->result, &n), json);
	assert_int_equal(n, strlen(json));
}

static void test_good(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	cw_call(&cw, &c, "Get", "{\"k\":1}");
	answered(&c, "{\"k\":1}");
	assert_null(sn_result_error_type(&c.result));
	assert_string_equal(sn_result_identity(&c.result), "0");
	assert_string_equal(sn_result_request_id(&c.result), "sim-0");
	assert_int_equal(sn_result_attempts(&c.result), 1);
	assert_int_equal(strlen(sn_result_call_id(&c.result)), 16);
	cw_finish(&c);
	cw_call(&cw, &c, "Put", "{}");
	answered(&c, "{}");
	assert_int_equal(sn__sim_service("a")->opened, 1);
	cw_finish(&c);
	cw_close(&cw);
	assert_int_equal(sn__sim_service("a")->open, 0);
}

static void test_refused(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	cw_call(&cw, &c, "Refuse", "{}");
	assert_int_equal(c.code, SN_E_REJECTED);
	assert_string_equal(c.err.text,
			"database d/default: Refuse: NoSuchThing: there is no such thing");
	assert_int_equal(c.err.foreign, 400);
	assert_int_equal(strlen(c.err.call_id), 16);
	assert_string_equal(sn_result_error_type(&c.result), "NoSuchThing");
	assert_int_equal(sn_result_attempts(&c.result), 1);
	cw_finish(&c);
	cw_close(&cw);
}

/* What cannot work is said at once, by name, without a retry. */
static void test_unfit(void **state)
{
	static const struct {
		const char *peers, *operation;
		int code;
		const char *says;
	} cases[] = {
			{ONE("a"), "Gt", SN_E_INVALID,
					"database d/default: sim has no operation Gt: did you mean Get?"},
			{"{\"0\":{\"subClass\":\"sinn\",\"config\":{}}}", "Get", SN_E_NOTSUP,
					"database d/default sinn not supported: no database driver is "
					"called sinn"},
			{"{\"0\":{\"subClass\":\"../sim\"}}", "Get", SN_E_NOTSUP,
					"../sim not supported"},
			{"{\"0\":{\"subClass\":\"sim\",\"config\":{\"service\":7}}}", "Get",
					SN_E_INVALID,
					"database d/default: config.service must name a simulated "
					"service"},
			{"{\"0\":{\"subClass\":\"sim\",\"config\":[]}}", "Get", SN_E_INVALID,
					"entry 0 is no object, or its config is none"},
			{"{\"0\":7}", "Get", SN_E_INVALID, "entry 0 is no object"},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct connect_world cw;
		struct cw_call c;

		open_world(&cw, cases[i].peers);
		cw_call(&cw, &c, cases[i].operation, "{}");
		assert_int_equal(c.code, cases[i].code);
		says(&c, cases[i].says);
		assert_int_equal(c.rc.call.attempt, 1);
		cw_finish(&c);
		cw_close(&cw);
	}
}

/* One entry that is unfit does not fail calls that the other can answer. */
static void test_unfit_of_two(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw,
			"{\"1\":{\"subClass\":\"none\"},"
			"\"2\":{\"subClass\":\"sim\",\"config\":{\"service\":\"b\"}}}");
	cw_call(&cw, &c, "Get", "{}");
	answered(&c, "{}");
	assert_string_equal(sn_result_identity(&c.result), "2");
	cw_finish(&c);
	cw_close(&cw);
}

static void test_no_entry(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw, "{}");
	cw_call(&cw, &c, "Get", "{}");
	assert_int_equal(c.code, SN_E_NO_PEER);
	cw_finish(&c);
	cw_close(&cw);
}

/* Throttling, 500, 503, a broken connection: tried again and mended. */
static void test_retries(void **state)
{
	for (int what = 0; what < 4; what++) {
		struct connect_world cw;
		struct sn_sim_service *s;
		struct sn_error err;
		struct cw_call c;

		open_world(&cw, ONE("a"));
		s = sn__sim_service("a");
		*(what == 0                                 ? &s->throttle
						: what == 1 ? &s->broken
						: what == 2 ? &s->unavailable
							    : &s->fail) = 1000;
		assert_int_equal(cw_start(&cw, &c, "Put", "{}", &err), 0);
		mw_run(&cw.w, 100);
		assert_int_equal(c.done, 0);
		s->throttle = s->broken = s->unavailable = s->fail = 0;
		mw_run(&cw.w, 3000);
		assert_int_equal(c.done, 1);
		answered(&c, "{}");
		assert_int_equal(sn_result_attempts(&c.result), 2);
		cw_finish(&c);
		cw_close(&cw);
	}
}

static void test_gives_up(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	sn__sim_service("a")->throttle = 1000;
	cw_call(&cw, &c, "Put", "{}");
	assert_int_equal(c.code, SN_E_STATUS);
	says(&c, "3 attempts; last: 0: throttled");
	assert_int_equal(c.err.n_attempts, 3);
	assert_string_equal(c.err.attempts[0].peer, "0");
	cw_finish(&c);
	cw_close(&cw);
}

/* An operation that must not run twice is not tried again once it may have arrived. */
static void test_unsafe(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	mw_policies(&cw.w, "{\"values\":{\"retry-unsafe\":false}}");
	sn__sim_service("a")->fail = 1000;
	cw_call(&cw, &c, "Add", "{}");
	assert_int_equal(c.code, SN_E_RESET);
	assert_int_equal(c.rc.call.attempt, 1);
	says(&c, "unsafe to repeat");
	cw_finish(&c);
	cw_call(&cw, &c, "Put", "{}");
	assert_int_equal(c.rc.call.attempt, 3);
	cw_finish(&c);
	cw_close(&cw);
}

/* balance first: the first entry by number, the next while the first cannot be connected. */
static void test_first(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw, TWO);
	for (int i = 0; i < 20; i++) {
		cw_call(&cw, &c, "Get", "{}");
		assert_string_equal(sn_result_identity(&c.result), "1");
		cw_finish(&c);
	}
	sn__sim_service("a")->broken = 1000; /* unwell, but there: it stays the first's */
	cw_call(&cw, &c, "Get", "{}");
	assert_int_equal(c.code, SN_E_STATUS);
	assert_int_equal(sn__sim_service("b")->calls, 0);
	cw_finish(&c);
	sn__sim_service("a")->broken = 0;
	sn__sim_service("a")->away = true;
	for (int i = 0; i < 20; i++) {
		cw_call(&cw, &c, "Add", "{}");
		answered(&c, "{}");
		assert_string_equal(sn_result_identity(&c.result), "2");
		cw_finish(&c);
	}
	cw_close(&cw);
}

/* The order is that of the identities, not that of the message. */
static void test_first_of_three(void **state)
{
	static const char *const want[] = {"1", "2", "10"};
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw,
			"{\"10\":{\"subClass\":\"sim\",\"config\":{\"service\":\"c\"}},"
			"\"2\":{\"subClass\":\"sim\",\"config\":{\"service\":\"b\"}},"
			"\"1\":{\"subClass\":\"sim\",\"config\":{\"service\":\"a\"}}}");
	for (int i = 0; i < 3; i++) {
		cw_call(&cw, &c, "Get", "{}");
		assert_string_equal(sn_result_identity(&c.result), want[i]);
		cw_finish(&c);
		sn__sim_service(i == 0 ? "a" : "b")->away = true;
	}
	cw_close(&cw);
}

static void test_spread(void **state)
{
	static const char *const balances[] = {
			"random", "round-robin", "least-request", "peak-ewma", NULL};

	for (int b = 0; balances[b] != NULL; b++) {
		struct connect_world cw;
		struct cw_call c[40];
		struct sn_error err;
		char policy[64];

		open_world(&cw, TWO);
		(void)snprintf(policy, sizeof policy, "{\"values\":{\"balance\":\"%s\"}}",
				balances[b]);
		mw_policies(&cw.w, policy);
		sn__sim_service("a")->delay_ms = sn__sim_service("b")->delay_ms = 20;
		for (size_t i = 0; i < SN_COUNT(c); i++)
			assert_int_equal(cw_start(&cw, &c[i], "Get", "{}", &err), 0);
		mw_run(&cw.w, 200);
		for (size_t i = 0; i < SN_COUNT(c); i++) {
			answered(&c[i], "{}");
			cw_finish(&c[i]);
		}
		assert_true(sn__sim_service("a")->calls > 8);
		assert_true(sn__sim_service("b")->calls > 8);
		cw_close(&cw);
	}
}

/* The agent moves the database while calls run: those end on the old instance, which then closes. */
static void test_moves(void **state)
{
	struct connect_world cw;
	struct sn_error err;
	struct cw_call c, d;

	open_world(&cw, ONE("a"));
	sn__sim_service("a")->delay_ms = 1000;
	assert_int_equal(cw_start(&cw, &c, "Get", "{\"old\":1}", &err), 0);
	mw_run(&cw.w, 50);
	mw_peers_of(&cw.w, "database", "d", ONE("b"));
	cw_call(&cw, &d, "Get", "{\"new\":1}");
	answered(&d, "{\"new\":1}");
	assert_int_equal(c.done, 0);
	assert_int_equal(sn__sim_service("a")->open, 1);
	assert_int_equal(sn__sim_service("b")->open, 1);
	mw_run(&cw.w, 1000);
	answered(&c, "{\"old\":1}");
	mw_run(&cw.w, 10);
	assert_int_equal(sn__sim_service("a")->open, 0);
	cw_finish(&c);
	cw_finish(&d);
	/* It leaves without a call: closed at once. */
	mw_peers_of(&cw.w, "database", "d", "{}");
	mw_run(&cw.w, 10);
	assert_int_equal(sn__sim_service("b")->open, 0);
	/* And comes back: opened anew. */
	mw_peers_of(&cw.w, "database", "d", ONE("b"));
	cw_call(&cw, &d, "Get", "{}");
	answered(&d, "{}");
	assert_int_equal(sn__sim_service("b")->opened, 2);
	cw_finish(&d);
	cw_close(&cw);
}

/* The first place is gone; the call's next attempt goes to the new one. */
static void test_moves_in_time(void **state)
{
	struct connect_world cw;
	struct sn_error err;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	sn__sim_service("a")->away = true;
	assert_int_equal(cw_start(&cw, &c, "Add", "{}", &err), 0);
	mw_run(&cw.w, 100);
	mw_peers_of(&cw.w, "database", "d", ONE("b"));
	mw_run(&cw.w, 5000);
	assert_int_equal(c.done, 1);
	answered(&c, "{}");
	cw_finish(&c);
	cw_close(&cw);
}

/* An entry with an address keeps its state when its config changes, but not its instance. */
static void test_address(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw,
			"{\"0\":{\"address\":\"10.0.0.1\",\"port\":1,\"subClass\":\"sim\","
			"\"config\":{\"service\":\"a\"}}}");
	cw_call(&cw, &c, "Get", "{}");
	cw_finish(&c);
	mw_peers_of(&cw.w, "database", "d",
			"{\"0\":{\"address\":\"10.0.0.1\",\"port\":1,\"subClass\":\"sim\","
			"\"config\":{\"service\":\"b\"}}}");
	cw_call(&cw, &c, "Get", "{}");
	answered(&c, "{}");
	assert_int_equal(sn__sim_service("b")->calls, 1);
	mw_run(&cw.w, 10);
	assert_int_equal(sn__sim_service("a")->open, 0);
	cw_finish(&c);
	cw_close(&cw);
}

static void test_timeout_and_cancel(void **state)
{
	struct connect_world cw;
	struct sn_error err;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	sn__sim_service("a")->silent = true;
	assert_int_equal(cw_start(&cw, &c, "Get", "{}", &err), 0);
	mw_run(&cw.w, 100);
	sn__resource_stop(&c.rc);
	mw_run(&cw.w, 10);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.code, SN_E_CANCELLED);
	cw_finish(&c);

	mw_policies(&cw.w, "{\"values\":{\"timeout\":200,\"retry-count\":2}}");
	cw_call(&cw, &c, "Get", "{}");
	assert_int_equal(c.code, SN_E_TIMEOUT);
	assert_int_equal(c.rc.call.attempt, 2);
	cw_finish(&c);
	assert_int_equal(sn__sim_service("a")->running, 0);

	assert_int_equal(cw_start(&cw, &c, "Get", "{}", &err), 0);
	cw_stop(&cw); /* in the middle of it */
	assert_int_equal(c.done, 1);
	assert_int_equal(c.code, SN_E_CLOSED);
	cw_finish(&c);
	cw_close(&cw);
}

/* The breaker of the only entry opens: calls fail at once and say when the next probe is due. */
static void test_breaker(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	mw_policies(&cw.w, "{\"values\":{\"retry-count\":1}}");
	sn__sim_service("a")->away = true;
	for (int i = 0; i < 7; i++) {
		cw_call(&cw, &c, "Get", "{}");
		assert_int_equal(c.code, SN_E_CONNECT);
		cw_finish(&c);
	}
	cw_call(&cw, &c, "Get", "{}");
	assert_int_equal(c.code, SN_E_BREAKER);
	cw_finish(&c);
	sn__sim_service("a")->away = false;
	mw_run(&cw.w, 2000);
	cw_call(&cw, &c, "Get", "{}");
	answered(&c, "{}");
	cw_finish(&c);
	cw_close(&cw);
}

static void test_sizes(void **state)
{
	struct connect_world cw;
	struct cw_call c;
	size_t n;

	open_world(&cw, ONE("a"));
	sn__sim_service("a")->answer_size = 4 << 20;
	cw_call(&cw, &c, "Get", "{}");
	assert_int_equal(c.code, 0);
	assert_int_equal(strlen(sn_result_json(&c.result, &n)), 4 << 20);
	assert_int_equal(n, 4 << 20);
	cw_finish(&c);
	mw_policies(&cw.w, "{\"values\":{\"max-response\":65536}}");
	cw_call(&cw, &c, "Get", "{}");
	assert_int_equal(c.code, SN_E_LIMIT);
	assert_int_equal(c.rc.call.attempt, 1);
	cw_finish(&c);
	cw_close(&cw);
}

static void test_no_json(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	sn__sim_service("a")->mumbles = true;
	cw_call(&cw, &c, "Get", "{}");
	assert_int_equal(c.code, SN_E_PROTOCOL);
	assert_int_equal(c.rc.call.attempt, 3);
	says(&c, "the answer is no JSON object");
	cw_finish(&c);
	cw_close(&cw);
}

static void test_start_error(void **state)
{
	struct connect_world cw;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	sn__sim_service("a")->start_errors = 1000;
	cw_call(&cw, &c, "Get", "{}");
	assert_int_equal(c.code, SN_E_LIMIT);
	says(&c, "database d/default: does not start");
	cw_finish(&c);
	cw_close(&cw);
}

/* Two targets whose entries are the same share one instance. */
static void test_shared(void **state)
{
	struct connect_world cw;
	struct sn_error err;
	struct cw_call c;

	open_world(&cw, ONE("a"));
	mw_peers_of(&cw.w, "database", "e", ONE("a"));
	cw_call(&cw, &c, "Get", "{}");
	cw_finish(&c);
	memset(&c, 0, sizeof c);
	sn__result_init(&c.result);
	c.cw = &cw;
	c.rc.kind = &sn__database_kind;
	c.rc.target = mw_target_of(&cw.w, "database", "e");
	c.rc.operation = SN_STR("Get");
	c.rc.params = SN_STR("{}");
	c.rc.result = &c.result;
	c.rc.done = cw_done;
	assert_int_equal(sn__resource_start(&cw.pool, cw.w.mesh, &c.rc, &err), 0);
	mw_run(&cw.w, 10);
	answered(&c, "{}");
	assert_int_equal(sn__sim_service("a")->opened, 1);
	mw_peers_of(&cw.w, "database", "d", "{}");
	mw_run(&cw.w, 10);
	assert_int_equal(sn__sim_service("a")->open, 1);
	cw_finish(&c);
	cw_close(&cw);
	assert_int_equal(sn__sim_service("a")->open, 0);
}

static void test_params(void **state)
{
	struct sn_error err;

	assert_int_equal(sn__params_check(SN_STR(" {\"a\": [1]} "), &err), 0);
	assert_int_equal(sn__params_check(SN_STR("[1]"), &err), SN_E_INVALID);
	assert_string_equal(err.text, "params must be a JSON object");
	assert_int_equal(sn__params_check(SN_STR("{\"a\":}"), &err), SN_E_INVALID);
	assert_string_equal(err.text, "params are no JSON: byte 5");
	assert_int_equal(sn__params_check(SN_STR(""), &err), SN_E_INVALID);
}

static void test_odd_entries(void **state)
{
	static const struct {
		const char *json, *info, *whole;
	} cases[] = {
			{"7", "null", "7"},
			{"[]", "null", "[]"},
			{"{}", "{\"streamName\":null,\"config\":{}}", "{\"config\":{}}"},
			{"{\"name\":null,\"config\":null}", "{\"streamName\":null,\"config\":{}}",
					"{\"name\":null,\"config\":null}"},
			{"{\"name\":\"\\u0041\",\"x\":1.0}",
					"{\"streamName\":\"\\u0041\",\"config\":{}}",
					"{\"name\":\"\\u0041\",\"x\":1.0,\"streamName\":\"\\u0041\","
					"\"config\":{}}"},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_str json = sn_str_from(cases[i].json);
		struct sn_buf b;

		sn__buf_init(&b, 4096);
		assert_int_equal(sn__entry_info(&sn__queue_kind, json, &b), 0);
		assert_int_equal(sn__buf_append(&b, "", 1), 0);
		assert_string_equal(sn__buf_data(&b), cases[i].info);
		sn__buf_clear(&b);
		assert_int_equal(sn__entry_whole(&sn__queue_kind, json, &b), 0);
		assert_int_equal(sn__buf_append(&b, "", 1), 0);
		assert_string_equal(sn__buf_data(&b), cases[i].whole);
		sn__buf_finish(&b);
	}
}

/* Every allocation of a call fails in turn. */
static void test_sweep(void **state)
{
	for (uint64_t n = 1; n < 200; n++) {
		struct connect_world cw;
		struct sn_error err;
		struct cw_call c;
		bool failed;
		int r;

		open_world(&cw, ONE("a"));
		(void)mw_target_of(&cw.w, "database", "d");
		sn__mem_fail_nth(n);
		r = cw_start(&cw, &c, "Get", "{\"k\":1}", &err);
		if (r == 0)
			mw_run(&cw.w, 8000);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(c.done, r == 0);
		if (r < 0)
			assert_int_equal(r, SN_E_NOMEM);
		else if (!failed || c.code == 0)
			answered(&c, "{\"k\":1}");
		else
			assert_int_equal(c.code, SN_E_NOMEM);
		cw_finish(&c);
		cw_close(&cw);
		assert_int_equal(sn__sim_service("a")->open, 0);
		if (!failed)
			return;
	}
	fail_msg("the sweep has no end");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_good),
			cmocka_unit_test(test_refused),
			cmocka_unit_test(test_unfit),
			cmocka_unit_test(test_unfit_of_two),
			cmocka_unit_test(test_no_entry),
			cmocka_unit_test(test_retries),
			cmocka_unit_test(test_gives_up),
			cmocka_unit_test(test_unsafe),
			cmocka_unit_test(test_first),
			cmocka_unit_test(test_first_of_three),
			cmocka_unit_test(test_spread),
			cmocka_unit_test(test_moves),
			cmocka_unit_test(test_moves_in_time),
			cmocka_unit_test(test_address),
			cmocka_unit_test(test_timeout_and_cancel),
			cmocka_unit_test(test_breaker),
			cmocka_unit_test(test_sizes),
			cmocka_unit_test(test_no_json),
			cmocka_unit_test(test_start_error),
			cmocka_unit_test(test_shared),
			cmocka_unit_test(test_params),
			cmocka_unit_test(test_odd_entries),
			cmocka_unit_test(test_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
