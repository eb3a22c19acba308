/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What every driver with native calls must do, whatever its service: tested at its table, on a real
 * loop, against a service that misbehaves (fake_service.h) or, for the simulated ones, is told to.
 * A driver joins with a line in `subjects`.
 */

#include <jansson.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/test.h"
#include "connect/driver.h"
#include "connect/sim.h"
#include "fake_service.h"
#include "io/http.h"
#include "io/loop.h"

struct subject {
	enum sn_topic topic;
	const char *type;
	const char *config; /* with the port in place of "%u" */
	const char *bad[4];
	const char *operation, *params;
	bool network; /* else it is a simulated one */
};

static const struct subject subjects[] = {
		{SN_TOPIC_DATABASE, "sim", "{\"service\":\"c\"}",
				{"{}", "{\"service\":1}", "{\"service\":\"\"}", NULL}, "Put",
				"{\"a\":1}", false},
		{SN_TOPIC_BROKER, "sim", "{\"service\":\"c\"}", {"{}", "{\"service\":null}", NULL},
				"Get", "{\"a\":1}", false},
		{SN_TOPIC_DATABASE, "dynamodb",
				"{\"region\":\"r-1\",\"endpoint\":\"http://127.0.0.1:%u\",\"credentials\":"
				"{\"accessKeyId\":\"a\",\"secretAccessKey\":\"s\"}}",
				{"{}", "{\"region\":7}",
						"{\"region\":\"r-1\",\"endpoint\":\"http://\"}",
						NULL},
				"PutItem", "{\"Item\":{\"id\":{\"S\":\"1\"}}}", true},
		{SN_TOPIC_BROKER, "kinesis",
				"{\"region\":\"r-1\",\"endpoint\":\"http://127.0.0.1:%u\",\"credentials\":"
				"{\"accessKeyId\":\"a\",\"secretAccessKey\":\"s\"}}",
				{"{}", "{\"region\":7}",
						"{\"region\":\"r-1\",\"endpoint\":\"ftp://x\"}",
						NULL},
				"PutRecord", "{\"Data\":\"aGk=\",\"PartitionKey\":\"k\"}", true},
};

static const struct sn_driver *const simulated[] = {
		&sn__driver_database_sim, &sn__driver_broker_sim, NULL};

struct call {
	struct sn_driver_call pub;
	void *state;
	unsigned done;
	bool in_start;
	char *result; /* copied, with a NUL */
};

struct world {
	const struct subject *s;
	const struct sn_driver *driver;
	struct sn_connect_host host;
	struct sn_driver_open how;
	struct fake_service fake;
	bool away;
	char config[512];
	void *instance;
	bool closed, pool_closed;
	int64_t live;
};

/* ---- the world ---- */

static void run_until(struct world *w, const bool *flag, const unsigned *count, unsigned n)
{
	uint64_t end = sn__loop_clock_ns(w->host.loop) + 20 * SN_NS_PER_S;

	while (flag != NULL ? !*flag : *count < n) {
		(void)sn__loop_run(w->host.loop, SN_RUN_NOWAIT);
		if (sn__loop_clock_ns(w->host.loop) > end)
			fail_msg("%s: it does not end", w->s->type);
	}
}

static void run_for(struct world *w, uint64_t ms)
{
	uint64_t end = sn__loop_clock_ns(w->host.loop) + sn_ms_to_ns(ms);

	while (sn__loop_clock_ns(w->host.loop) < end)
		(void)sn__loop_run(w->host.loop, SN_RUN_NOWAIT);
}

static void world_open(struct world *w, const struct subject *s)
{
	struct sn_error err;
	const char *port;

	memset(w, 0, sizeof *w);
	w->live = sn__mem_live();
	w->s = s;
	sn__sim_services_reset();
	if (sn__driver_find(s->topic, sn_str_from(s->type), &w->driver, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(sn__driver_check(w->driver, &err), 0);
	if (s->network)
		fake_start(&w->fake, 0);
	port = strstr(s->config, "%u");
	if (port != NULL)
		(void)snprintf(w->config, sizeof w->config, "%.*s%u%s", (int)(port - s->config),
				s->config, w->fake.port, port + 2);
	else
		(void)snprintf(w->config, sizeof w->config, "%s", s->config);
	assert_int_equal(sn__loop_uv_open(NULL, &w->host.loop, &err), 0);
	assert_int_equal(sn__http_pool_create(w->host.loop, NULL, &w->host.pool), 0);
	sn__connect_host_init(&w->host);
}

static void on_pool_closed(void *arg)
{
	((struct world *)arg)->pool_closed = true;
}

static void world_close(struct world *w)
{
	sn__http_pool_close(w->host.pool, on_pool_closed, w);
	run_until(w, &w->pool_closed, NULL, 0);
	sn__loop_close(w->host.loop, NULL, NULL);
	if (w->s->network && !w->away)
		fake_stop(&w->fake);
	if (sn__mem_live() != w->live)
		fail_msg("%s: %d blocks are left", w->s->type, (int)(sn__mem_live() - w->live));
}

static int try_open(struct world *w, const char *config)
{
	int r;

	w->instance = calloc(1, w->driver->state_size + 1);
	w->how = (struct sn_driver_open){.size = sizeof w->how,
			.host = &w->host.pub,
			.peer = "{}",
			.config = config,
			.resource = "t"};
	r = w->driver->open(w->instance, &w->how);
	if (r < 0) {
		free(w->instance);
		w->instance = NULL;
	}
	return r;
}

static void instance_open(struct world *w)
{
	if (try_open(w, w->config) < 0)
		fail_msg("%s: %s", w->s->type, w->how.error);
	w->closed = false;
}

static void on_closed(void *arg)
{
	bool *closed = &((struct world *)arg)->closed;

	assert_false(*closed);
	*closed = true;
}

static void instance_close(struct world *w)
{
	w->driver->close(w->instance, on_closed, w);
	assert_false(w->closed); /* never inside */
	run_until(w, &w->closed, NULL, 0);
	w->driver->finish(w->instance);
	free(w->instance);
}

/* How the service is from now on. */
static void mood(struct world *w, enum fake_mood mood)
{
	struct sn_sim_service *s = sn__sim_service("c");

	atomic_store(&w->fake.mood, mood);
	s->silent = mood == FAKE_SILENT;
	s->fail = mood == FAKE_CUT || mood == FAKE_HALF || mood == FAKE_NONSENSE ? 1000 : 0;
	s->broken = mood == FAKE_BROKEN ? 1000 : 0;
	s->delay_ms = mood == FAKE_SLOW ? 100 : 0;
	s->answer_size = mood == FAKE_HUGE ? FAKE_HUGE_BYTES : 0;
}

static void go_away(struct world *w)
{
	sn__sim_service("c")->away = true;
	w->away = true;
	if (w->s->network)
		fake_stop(&w->fake);
}

static void come_back(struct world *w)
{
	sn__sim_service("c")->away = false;
	w->away = false;
	if (w->s->network)
		fake_start(&w->fake, w->fake.port);
}

/* ---- calls ---- */

static void on_done(struct sn_driver_call *pub)
{
	struct call *c = SN_CONTAINER_OF(pub, struct call, pub);

	assert_false(c->in_start);
	assert_int_equal(c->done, 0);
	c->result = strndup(pub->result_size > 0 ? pub->result : "{}",
			pub->result_size > 0 ? pub->result_size : 2);
	c->done++;
	/* The driver may not look at either again. */
	memset(c->state, 0xa5, 16);
}

static void call_start(struct world *w, struct call *c, const char *params, uint64_t max)
{
	const struct sn_driver_operation *op;
	struct sn_error err;
	int r;

	memset(c, 0, sizeof *c);
	if (sn__driver_operation(w->driver, sn_str_from(w->s->operation), &op, &err) < 0)
		fail_msg("%s", err.text);
	c->state = calloc(1, w->driver->calls->state_size + 16);
	c->pub = (struct sn_driver_call){.operation = op,
			.params = params,
			.params_size = strlen(params),
			.connect_timeout_ms = 2000,
			.idle_timeout_ms = 10000,
			.max_result = max,
			.state = c->state,
			.done = on_done,
			.outcome = {.retry_after_ms = -1}};
	c->in_start = true;
	r = w->driver->calls->start(w->instance, &c->pub);
	c->in_start = false;
	if (r < 0)
		fail_msg("%s: start: %s", w->s->type, c->pub.outcome.detail);
	assert_int_equal(c->done, 0);
}

static void call_finish(struct call *c)
{
	free(c->state);
	free(c->result);
}

static void call(struct world *w, struct call *c, uint64_t max)
{
	call_start(w, c, w->s->params, max);
	run_until(w, NULL, &c->done, 1);
}

static void is_good(struct world *w, const struct call *c)
{
	json_t *doc = json_loads(c->result, 0, NULL);

	if (c->pub.outcome.verdict != SN_DRIVER_OK)
		fail_msg("%s: %s", w->s->type, c->pub.outcome.detail);
	assert_int_equal(c->pub.outcome.code, 0);
	assert_true(json_is_object(doc));
	json_decref(doc);
}

static void is_bad(struct world *w, const struct call *c)
{
	const struct sn_driver_outcome *o = &c->pub.outcome;

	if (o->verdict == SN_DRIVER_OK)
		fail_msg("%s: that was no answer: %s", w->s->type, c->result);
	assert_true(o->code < 0);
	assert_true(memchr(o->detail, '\0', sizeof o->detail) != NULL && o->detail[0] != '\0');
}

/* ---- what every driver must do ---- */

typedef void check_fn(struct world *w);

static void for_all(check_fn *check)
{
	for (size_t i = 0; i < SN_COUNT(subjects); i++) {
		struct world w;

		world_open(&w, &subjects[i]);
		check(&w);
		world_close(&w);
	}
}

static void cycles(struct world *w)
{
	for (int i = 0; i < 100; i++) {
		instance_open(w);
		instance_close(w);
	}
	assert_int_equal(atomic_load(&w->fake.seen), 0); /* nobody was asked */
}

static void bad_configs(struct world *w)
{
	for (size_t i = 0; i < SN_COUNT(w->s->bad) && w->s->bad[i] != NULL; i++) {
		int r = try_open(w, w->s->bad[i]);

		if (r >= 0)
			fail_msg("%s takes %s", w->s->type, w->s->bad[i]);
		assert_int_equal(r, SN_E_INVALID);
		assert_true(strlen(w->how.error) > 10);
	}
}

static void well(struct world *w)
{
	struct call c[64];

	instance_open(w);
	for (size_t i = 0; i < SN_COUNT(c); i++)
		call_start(w, &c[i], w->s->params, 1 << 24);
	for (size_t i = 0; i < SN_COUNT(c); i++) {
		run_until(w, NULL, &c[i].done, 1);
		is_good(w, &c[i]);
		call_finish(&c[i]);
	}
	instance_close(w);
}

static void away(struct world *w)
{
	struct call c;

	go_away(w);
	instance_open(w); /* that alone asks nobody */
	call(w, &c, 1 << 24);
	is_bad(w, &c);
	assert_int_equal(c.pub.outcome.verdict, SN_DRIVER_FAILED);
	assert_int_equal(c.pub.outcome.code, SN_E_CONNECT);
	assert_int_equal(c.pub.outcome.sent, SN_DRIVER_SENT_NO);
	call_finish(&c);
	come_back(w);
	call(w, &c, 1 << 24);
	is_good(w, &c);
	call_finish(&c);
	go_away(w); /* in the middle of its life */
	call(w, &c, 1 << 24);
	is_bad(w, &c);
	call_finish(&c);
	instance_close(w);
}

static void broken(struct world *w)
{
	static const enum fake_mood moods[] = {FAKE_CUT, FAKE_HALF, FAKE_NONSENSE, FAKE_BROKEN};
	struct call c;

	instance_open(w);
	for (size_t i = 0; i < SN_COUNT(moods); i++) {
		mood(w, moods[i]);
		call(w, &c, 1 << 24);
		is_bad(w, &c);
		assert_int_equal(c.pub.outcome.verdict, SN_DRIVER_FAILED);
		assert_int_not_equal(c.pub.outcome.sent, SN_DRIVER_SENT_NO);
		call_finish(&c);
		mood(w, FAKE_GOOD); /* and nothing of it stays */
		call(w, &c, 1 << 24);
		is_good(w, &c);
		call_finish(&c);
	}
	instance_close(w);
}

/* Whatever comes, it ends. That an answer is a JSON object is the core's to check. */
static void odd_answers(struct world *w)
{
	static const enum fake_mood moods[] = {FAKE_EMPTY, FAKE_NO_JSON};
	struct call c;

	instance_open(w);
	for (size_t i = 0; i < SN_COUNT(moods); i++) {
		mood(w, moods[i]);
		call(w, &c, 1 << 24);
		if (c.pub.outcome.verdict != SN_DRIVER_OK)
			is_bad(w, &c);
		call_finish(&c);
	}
	instance_close(w);
}

static void sizes(struct world *w)
{
	size_t n = 1 << 20;
	char *params = malloc(n + 1);
	struct call c;

	instance_open(w);
	memset(params, ' ', n);
	params[0] = '{';
	params[n - 1] = '}';
	params[n] = '\0';
	call_start(w, &c, params, 1 << 24);
	run_until(w, NULL, &c.done, 1);
	is_good(w, &c);
	call_finish(&c);
	free(params);
	mood(w, FAKE_HUGE);
	call(w, &c, 1 << 24);
	is_good(w, &c);
	assert_int_equal(strlen(c.result), FAKE_HUGE_BYTES);
	call_finish(&c);
	call(w, &c, 1 << 16);
	is_bad(w, &c);
	assert_int_equal(c.pub.outcome.code, SN_E_LIMIT);
	call_finish(&c);
	instance_close(w);
}

static void slow(struct world *w)
{
	struct call c;

	instance_open(w);
	mood(w, FAKE_SLOW);
	call(w, &c, 1 << 24);
	is_good(w, &c);
	call_finish(&c);
	instance_close(w);
}

static void cancelled(struct world *w)
{
	static const int codes[] = {SN_E_TIMEOUT, SN_E_DEADLINE, SN_E_CANCELLED, SN_E_CLOSED};
	struct call c;

	instance_open(w);
	mood(w, FAKE_SILENT);
	for (size_t i = 0; i < 2 * SN_COUNT(codes); i++) {
		call_start(w, &c, w->s->params, 1 << 24);
		if (i % 2 != 0) /* else at once */
			run_for(w, 30);
		assert_int_equal(c.done, 0);
		w->driver->calls->cancel(w->instance, &c.pub, codes[i / 2]);
		assert_int_equal(c.done, 0);
		run_until(w, NULL, &c.done, 1);
		is_bad(w, &c);
		assert_int_equal(c.pub.outcome.code, codes[i / 2]);
		call_finish(&c);
	}
	mood(w, FAKE_GOOD);
	call(w, &c, 1 << 24);
	is_good(w, &c);
	call_finish(&c);
	instance_close(w);
}

static void closed_while_busy(struct world *w)
{
	struct call c[20];

	instance_open(w);
	mood(w, FAKE_SILENT);
	for (size_t i = 0; i < SN_COUNT(c); i++)
		call_start(w, &c[i], w->s->params, 1 << 24);
	run_for(w, 20);
	instance_close(w);
	for (size_t i = 0; i < SN_COUNT(c); i++) {
		assert_int_equal(c[i].done, 1);
		is_bad(w, &c[i]);
		assert_int_equal(c[i].pub.outcome.code, SN_E_CLOSED);
		call_finish(&c[i]);
	}
}

/* Every allocation of opening and calling fails in turn. */
static void out_of_memory(struct world *w)
{
	for (uint64_t n = 1; n < 300; n++) {
		struct call c = {.done = 0};
		bool failed, started = false;

		sn__mem_fail_nth(n);
		if (try_open(w, w->config) == 0) {
			const struct sn_driver_operation *op;

			w->closed = false;
			if (sn__driver_operation(
					    w->driver, sn_str_from(w->s->operation), &op, NULL) < 0)
				fail();
			c.state = calloc(1, w->driver->calls->state_size + 16);
			c.pub = (struct sn_driver_call){.operation = op,
					.params = w->s->params,
					.params_size = strlen(w->s->params),
					.connect_timeout_ms = 2000,
					.max_result = 1 << 20,
					.state = c.state,
					.done = on_done,
					.outcome = {.retry_after_ms = -1}};
			started = w->driver->calls->start(w->instance, &c.pub) == 0;
			if (started)
				run_until(w, NULL, &c.done, 1);
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (started && !failed)
			is_good(w, &c);
		call_finish(&c);
		if (w->instance != NULL)
			instance_close(w);
		w->instance = NULL;
		if (!failed) {
			assert_true(started);
			return;
		}
	}
	fail_msg("%s: the sweep has no end", w->s->type);
}

#define TEST(name) \
	static void test_##name(void **state) \
	{ \
		for_all(name); \
	}
TEST(cycles)
TEST(bad_configs)
TEST(well)
TEST(away)
TEST(broken)
TEST(odd_answers)
TEST(sizes)
TEST(slow)
TEST(cancelled)
TEST(closed_while_busy)
TEST(out_of_memory)

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_cycles),
			cmocka_unit_test(test_bad_configs),
			cmocka_unit_test(test_well),
			cmocka_unit_test(test_away),
			cmocka_unit_test(test_broken),
			cmocka_unit_test(test_odd_answers),
			cmocka_unit_test(test_sizes),
			cmocka_unit_test(test_slow),
			cmocka_unit_test(test_cancelled),
			cmocka_unit_test(test_closed_while_busy),
			cmocka_unit_test(test_out_of_memory),
	};

	/* Nothing of this machine's own setup. */
	(void)unsetenv("AWS_REGION");
	(void)unsetenv("AWS_DEFAULT_REGION");
	(void)unsetenv("AWS_PROFILE");
	(void)setenv("AWS_CONFIG_FILE", "/dev/null", 1);
	(void)setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null", 1);
	(void)setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	sn__drivers_add_for_tests(simulated);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
