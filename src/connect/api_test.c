/* SPDX-License-Identifier: Apache-2.0 */

/* The public calls of sinew/resource.h on a runtime with its own thread. */

#include <sinew/resource.h>

#include <jansson.h>
#include <semaphore.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"
#include "connect/sim.h"

static const struct sn_driver *const drivers[] = {
		&sn__driver_database_sim, &sn__driver_broker_sim, NULL};

static const char file[] =
		"peers:\n"
		"  database:\n"
		"    seed: {\"0\": {tableName: t1, config: {region: eu-north-1}}}\n"
		"    later: {\"0\": {name: t2, class: nosql, subClass: sim, id: x,"
		" config: {service: a}}, \"1\": {name: t3, subClass: sim, config: {service: b}}}\n"
		"    oldest: {\"0\": {name: t4, region: r1, credentials: {accessKeyId: k}}}\n"
		"    bare: {\"0\": {}}\n"
		"  queue:\n"
		"    contacts: {\"0\": {streamName: jobs, config: {}}}\n"
		"    work: {\"0\": {name: jobs, subClass: sim, config: {service: q}}}\n";

static struct sn_runtime *open_runtime(void)
{
	struct sn_options o = SN_OPTIONS_INIT;
	struct sn_error *err;
	struct sn_runtime *rt;

	sn__sim_services_reset();
	sn__drivers_add_for_tests(drivers);
	o.config_text = file;
	o.agent = "";
	if (sn_open(&o, &rt, &err) < 0)
		fail_msg("%s", sn_error_text(err));
	assert_int_equal(sn_wait_ready(rt, 5000), 0);
	return rt;
}

static void close_runtime(struct sn_runtime *rt)
{
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	sn__drivers_add_for_tests(NULL);
}

/* ---- who is there ---- */

static void same(char *got, const char *want)
{
	assert_string_equal(got, want);
	sn_free(got);
}

static void test_info(void **state)
{
	struct sn_runtime *rt = open_runtime();
	char *json;

	assert_int_equal(sn_get_database_info(rt, "seed", &json), 0);
	same(json, "{\"tableName\":\"t1\",\"config\":{\"region\":\"eu-north-1\"}}");
	assert_int_equal(sn_get_database_info(rt, "later", &json), 0);
	same(json, "{\"tableName\":\"t2\",\"config\":{\"service\":\"a\"}}");
	assert_int_equal(sn_get_database_info(rt, "oldest", &json), 0);
	same(json,
			"{\"tableName\":\"t4\",\"config\":{\"region\":\"r1\",\"credentials\":"
			"{\"accessKeyId\":\"k\"}}}");
	assert_int_equal(sn_get_database_info(rt, "bare", &json), 0);
	same(json, "{\"tableName\":null,\"config\":{}}");
	assert_int_equal(sn_get_database_info(rt, "nobody", &json), 0);
	same(json, "null");
	assert_int_equal(sn_get_database_info(rt, "", &json), SN_E_INVALID);
	assert_int_equal(sn_get_queue_info(rt, "contacts", &json), 0);
	same(json, "{\"streamName\":\"jobs\",\"config\":{}}");
	close_runtime(rt);
}

static void test_maps(void **state)
{
	struct sn_runtime *rt = open_runtime();
	unsigned seen[2] = {0, 0};
	char *json;

	assert_int_equal(sn_get_databases(rt, "later", &json), 0);
	same(json,
			"{\"0\":{\"name\":\"t2\",\"class\":\"nosql\",\"subClass\":\"sim\",\"id\":\"x\","
			"\"config\":{\"service\":\"a\"},\"tableName\":\"t2\"},"
			"\"1\":{\"name\":\"t3\",\"subClass\":\"sim\",\"config\":{\"service\":\"b\"},"
			"\"tableName\":\"t3\"}}");
	assert_int_equal(sn_get_databases(rt, "bare", &json), 0);
	same(json, "{\"0\":{\"config\":{}}}");
	assert_int_equal(sn_get_databases(rt, "nobody", &json), 0);
	same(json, "null");
	assert_int_equal(sn_get_queues(rt, "contacts", &json), 0);
	same(json, "{\"0\":{\"streamName\":\"jobs\",\"config\":{}}}");
	assert_int_equal(sn_get_random_queue(rt, "nobody", &json), 0);
	same(json, "null");
	for (int i = 0; i < 64; i++) {
		assert_int_equal(sn_get_random_database(rt, "later", &json), 0);
		seen[strstr(json, "t2") == NULL]++;
		sn_free(json);
	}
	assert_true(seen[0] > 8 && seen[1] > 8);
	close_runtime(rt);
}

struct heard {
	sem_t sem;
	char last[256];
};

static void on_value(const char *json, void *arg)
{
	struct heard *h = arg;

	(void)snprintf(h->last, sizeof h->last, "%s", json);
	sem_post(&h->sem);
}

static void test_monitors(void **state)
{
	struct sn_runtime *rt = open_runtime();
	struct sn_monitor *m, *q;
	struct heard h, hq;

	sem_init(&h.sem, 0, 0);
	sem_init(&hq.sem, 0, 0);
	assert_int_equal(sn_monitor_databases(rt, "oldest", on_value, &h, &m), 0);
	assert_int_equal(sn_monitor_queues(rt, "work", on_value, &hq, &q), 0);
	sem_wait(&h.sem);
	assert_string_equal(h.last,
			"{\"0\":{\"name\":\"t4\",\"region\":\"r1\",\"credentials\":{\"accessKeyId\":"
			"\"k\"},\"tableName\":\"t4\",\"config\":{\"region\":\"r1\",\"credentials\":"
			"{\"accessKeyId\":\"k\"}}}}");
	sem_wait(&hq.sem);
	assert_string_equal(hq.last,
			"{\"0\":{\"name\":\"jobs\",\"subClass\":\"sim\",\"config\":{\"service\":\"q\"},"
			"\"streamName\":\"jobs\"}}");
	sn_monitor_stop(m);
	sn_monitor_stop(q);
	assert_int_equal(sn_monitor_queues(rt, "", on_value, &hq, &q), SN_E_INVALID);
	close_runtime(rt);
	sem_destroy(&h.sem);
	sem_destroy(&hq.sem);
}

/* ---- calls ---- */

struct end {
	sem_t sem;
	int code;
	unsigned calls;
	char json[64];
	struct sn_runtime *rt; /* to wait on, from the wrong thread */
	int deadlk;
};

static void on_end(const struct sn_result *res, const struct sn_error *err, void *arg)
{
	struct end *e = arg;
	struct sn_result *never;

	e->calls++;
	e->code = err != NULL ? sn_error_code(err) : 0;
	(void)snprintf(e->json, sizeof e->json, "%s",
			res != NULL ? sn_result_json(res, NULL) : "none");
	if (e->rt != NULL)
		e->deadlk = sn_queue_call_wait(e->rt, "work", "Get", NULL, NULL, &never, NULL);
	sem_post(&e->sem);
}

static void test_call(void **state)
{
	struct sn_runtime *rt = open_runtime();
	struct end e = {.rt = rt};

	sem_init(&e.sem, 0, 0);
	assert_int_equal(sn_database_call(rt, "later", "Get", "{\"k\":1}", NULL, on_end, &e, NULL,
					 NULL),
			0);
	sem_wait(&e.sem);
	assert_int_equal(e.code, 0);
	assert_string_equal(e.json, "{\"k\":1}");
	assert_int_equal(e.deadlk, SN_E_DEADLK);
	assert_int_equal(
			sn_queue_call(rt, "work", "Refuse", NULL, NULL, on_end, &e, NULL, NULL), 0);
	sem_wait(&e.sem);
	assert_int_equal(e.code, SN_E_REJECTED);
	assert_string_equal(e.json, "{}");
	assert_int_equal(e.calls, 2);
	close_runtime(rt);
	sem_destroy(&e.sem);
}

static void test_refused_at_once(void **state)
{
	static const struct {
		const char *name, *operation, *params, *says;
	} cases[] = {
			{"later", "Get", "[]", "params must be a JSON object"},
			{"later", "Get", "{", "params are no JSON: byte 1"},
			{"later", "", "{}", "an operation's name has 1 to 128 characters"},
			{"later", "Get Item", "{}", "printable characters"},
			{"", "Get", "{}", "the name must have 1 to 255 bytes"},
	};
	struct sn_resource_options o = SN_RESOURCE_OPTIONS_INIT;
	struct sn_runtime *rt = open_runtime();
	struct sn_error *err;
	struct end e = {.calls = 0};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		assert_int_equal(sn_database_call(rt, cases[i].name, cases[i].operation,
						 cases[i].params, NULL, on_end, &e, NULL, &err),
				SN_E_INVALID);
		if (strstr(sn_error_text(err), cases[i].says) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", sn_error_text(err), cases[i].says);
		sn_error_destroy(err);
	}
	o.size = 3;
	assert_int_equal(sn_queue_call(rt, "work", "Get", NULL, &o, on_end, &e, NULL, NULL),
			SN_E_INVALID);
	close_runtime(rt);
	assert_int_equal(e.calls, 0);
}

static void test_wait(void **state)
{
	struct sn_runtime *rt = open_runtime();
	struct sn_result *res = NULL;
	struct sn_error *err = NULL;
	size_t n;

	assert_int_equal(sn_database_call_wait(rt, "later", "Put", "{\"a\":2}", NULL, &res, &err),
			0);
	assert_string_equal(sn_result_json(res, &n), "{\"a\":2}");
	assert_int_equal(n, 7);
	assert_null(sn_result_error_type(res));
	assert_string_equal(sn_result_identity(res), "0");
	assert_string_equal(sn_result_request_id(res), "sim-0");
	assert_int_equal(sn_result_attempts(res), 1);
	assert_int_equal(strlen(sn_result_call_id(res)), 16);
	assert_null(err);
	sn_result_destroy(res);
	res = NULL;
	assert_int_equal(sn_queue_call_wait(rt, "work", "Refuse", NULL, NULL, &res, &err),
			SN_E_REJECTED);
	assert_string_equal(sn_result_error_type(res), "NoSuchThing");
	assert_string_equal(sn_error_text(err),
			"queue work: Refuse: NoSuchThing: there is no such thing");
	assert_string_equal(sn_error_call_id(err), sn_result_call_id(res));
	sn_result_destroy(res);
	sn_error_destroy(err);
	res = NULL;
	assert_int_equal(sn_database_call_wait(rt, "later", "Got", NULL, NULL, &res, &err),
			SN_E_INVALID);
	assert_null(res);
	assert_string_equal(sn_error_text(err),
			"database later: sim has no operation Got: did you mean Get?");
	sn_error_destroy(err);
	sn_result_destroy(NULL);
	close_runtime(rt);
}

static void test_options(void **state)
{
	struct sn_resource_options o = SN_RESOURCE_OPTIONS_INIT;
	struct sn_context context = SN_CONTEXT_INIT;
	struct sn_runtime *rt = open_runtime();
	struct sn_result *res;

	sn__sim_service("a")->silent = true;
	o.timeout_ms = 50;
	o.retry = SN_RETRY_NONE;
	assert_int_equal(sn_database_call_wait(rt, "later", "Get", NULL, &o, &res, NULL),
			SN_E_TIMEOUT);
	o.timeout_ms = 0;
	o.deadline_ms = 50;
	assert_int_equal(sn_database_call_wait(rt, "later", "Get", NULL, &o, &res, NULL),
			SN_E_DEADLINE);
	o.deadline_ms = 0;
	context.deadline_ms = 50;
	o.context = &context;
	assert_int_equal(sn_database_call_wait(rt, "later", "Get", NULL, &o, &res, NULL),
			SN_E_DEADLINE);
	close_runtime(rt);
}

static void test_cancel_and_close(void **state)
{
	struct sn_runtime *rt = open_runtime();
	struct end e = {.calls = 0};
	struct sn_call_id id;

	sem_init(&e.sem, 0, 0);
	sn__sim_service("a")->silent = true;
	assert_int_equal(
			sn_database_call(rt, "later", "Get", NULL, NULL, on_end, &e, &id, NULL), 0);
	sn_resource_cancel(rt, id);
	sem_wait(&e.sem);
	assert_int_equal(e.code, SN_E_CANCELLED);
	sn_resource_cancel(rt, id); /* it has ended */
	for (int i = 0; i < 10; i++)
		assert_int_equal(sn_database_call(rt, "later", "Get", NULL, NULL, on_end, &e, &id,
						 NULL),
				0);
	close_runtime(rt);
	assert_int_equal(e.calls, 11);
	assert_int_equal(e.code, SN_E_CLOSED);
	assert_int_equal(sn__sim_service("a")->open, 0);
	sem_destroy(&e.sem);
}

/* Allocation failures between submission and end, from another thread. */
static void test_sweep(void **state)
{
	struct sn_runtime *rt = open_runtime();

	for (uint64_t n = 1; n < 100; n++) {
		struct sn_result *res = NULL;
		struct sn_error *err = NULL;
		bool failed;
		int r;

		sn__mem_fail_nth(n);
		r = sn_database_call_wait(rt, "later", "Get", "{\"k\":1}", NULL, &res, &err);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r == 0)
			assert_string_equal(sn_result_json(res, NULL), "{\"k\":1}");
		else
			assert_int_equal(r, SN_E_NOMEM);
		sn_result_destroy(res);
		sn_error_destroy(err);
		if (!failed) {
			assert_int_equal(r, 0);
			break;
		}
		assert_true(n < 99);
	}
	for (uint64_t n = 1; n < 100; n++) {
		char *json = NULL;
		bool failed;
		int r;

		sn__mem_fail_nth(n);
		r = sn_get_databases(rt, "later", &json);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		sn_free(json);
		if (!failed)
			break;
	}
	close_runtime(rt);
}

static int check_live(void **state)
{
	static int64_t live;

	if (*state == NULL)
		live = sn__mem_live();
	else
		assert_int_equal(sn__mem_live(), live);
	*state = &live;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(test_info, check_live, check_live),
			cmocka_unit_test_setup_teardown(test_maps, check_live, check_live),
			cmocka_unit_test_setup_teardown(test_monitors, check_live, check_live),
			cmocka_unit_test_setup_teardown(test_call, check_live, check_live),
			cmocka_unit_test_setup_teardown(
					test_refused_at_once, check_live, check_live),
			cmocka_unit_test_setup_teardown(test_wait, check_live, check_live),
			cmocka_unit_test_setup_teardown(test_options, check_live, check_live),
			cmocka_unit_test_setup_teardown(
					test_cancel_and_close, check_live, check_live),
			cmocka_unit_test_setup_teardown(test_sweep, check_live, check_live),
	};

	(void)unsetenv("BERLIOZ_AGENT_PATH");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
