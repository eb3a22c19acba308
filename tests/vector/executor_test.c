/* SPDX-License-Identifier: Apache-2.0 */
/* berlioz-executor.json, part "retry": attempts, waits and what is reported, on the virtual clock. */
#include <jansson.h>

#include "mesh/mesh_world_test.h"

struct run {
	struct mesh_world w;
	struct sn_call call;
	json_t *c;
	struct sn_timer timer;
	const char *outcome; /* of the running attempt */
	unsigned done;
	char value[32];
	struct sn_error err;
};

static const char *outcome_of(const struct run *run, unsigned attempt)
{
	json_t *list = json_object_get(run->c, "outcomes");
	size_t n = json_array_size(list);

	return json_string_value(json_array_get(list, SN_MIN(attempt, (unsigned)n) - 1));
}

static void on_answer(struct sn_timer *t)
{
	struct run *run = SN_CONTAINER_OF(t, struct run, timer);
	struct sn_outcome o = SN_OUTCOME_INIT;

	o.sent = SN_SENT_YES;
	if (strncmp(run->outcome, "ok", 2) != 0) {
		o.class = SN_OUTCOME_FAILED;
		o.phase = SN_PHASE_READ;
		o.code = SN_E_STATUS;
		o.retry_on = SN_RETRY_5XX;
		(void)snprintf(o.detail, sizeof o.detail, "%s", run->outcome);
	} else {
		(void)snprintf(run->value, sizeof run->value, "%s", run->outcome);
	}
	sn__call_attempt_done(&run->call, &o);
}

static int attempt(struct sn_call *call)
{
	struct run *run = SN_CONTAINER_OF(call, struct run, call);

	run->outcome = outcome_of(run, call->attempt);
	assert_string_not_equal(run->outcome, "no-peer");
	sn__timer_start(run->w.loop, &run->timer, SN_NS_PER_MS, on_answer);
	return 0;
}

static void no_abort(struct sn_call *call, int code)
{
	fail_msg("aborted: %d", code);
}

static void done(struct sn_call *call, const struct sn_error *err)
{
	struct run *run = SN_CONTAINER_OF(call, struct run, call);

	run->done++;
	if (err != NULL)
		run->err = *err;
}

/* The executor of the vectors has no breaker. */
static void set_policies(struct run *run, json_t *values)
{
	json_t *tree = json_pack("{s:{s:b}}", "values", "breaker", 0);

	assert_int_equal(json_object_update(json_object_get(tree, "values"), values), 0);
	assert_int_equal(sn__policies_set(run->w.policies, SN_POLICY_AGENT, tree, NULL), 0);
	json_decref(tree);
}

/* What must be so when attempt @n begins. */
static void prepare(struct run *run, unsigned n)
{
	json_t *change = json_object_get(run->c, "change");

	mw_peers(&run->w, strcmp(outcome_of(run, n), "no-peer") == 0 ? 0 : 3);
	if (change != NULL && json_integer_value(json_object_get(change, "before_attempt")) == n)
		set_policies(run, json_object_get(change, "policies"));
}

static void check(struct run *run)
{
	json_t *expect = json_object_get(run->c, "expect"), *sleep;
	const char *error = json_string_value(json_object_get(expect, "error"));
	const struct sn_attempt *last = run->err.n_attempts > 0
			? &run->err.attempts[run->err.n_attempts - 1]
			: NULL;
	size_t i;

	assert_int_equal(
			run->call.attempt, json_integer_value(json_object_get(expect, "attempts")));
	if (error == NULL) {
		assert_string_equal(
				run->value, json_string_value(json_object_get(expect, "value")));
		assert_int_equal(run->err.code, 0);
		return;
	}
	assert_non_null(last);
	assert_string_equal(last->detail, error);
	assert_non_null(strstr(run->err.text, error));
	json_array_foreach(json_object_get(expect, "sleeps_ms"), i, sleep)
	{
		char text[64];

		(void)snprintf(text, sizeof text, "retry in %.0f ms", json_number_value(sleep));
		assert_string_equal(run->err.attempts[i].decision, text);
	}
	assert_int_equal(run->err.n_attempts, i + 1);
}

/* The waits really taken: never early, late by at most a slot each. */
static void check_time(const struct run *run, uint64_t took_ns)
{
	json_t *expect = json_object_get(run->c, "expect"), *sleep;
	double ms = (double)took_ns / 1e6, want = 0;
	size_t i;

	json_array_foreach(json_object_get(expect, "sleeps_ms"), i, sleep)
			want += json_number_value(sleep);
	assert_true(ms >= want);
	assert_true(ms <= want + 30 * (double)(i + 1));
}

static void run_case(json_t *c)
{
	static const struct sn_call_ops ops = {.attempt = attempt, .abort = no_abort, .done = done};
	struct run run = {.c = c};
	unsigned prepared = 1;
	uint64_t start;

	mw_open(&run.w, 1);
	set_policies(&run, json_object_get(c, "policies"));
	run.call.ops = &ops;
	run.call.safety = SN_UNSAFE; /* the seed retries every method */
	run.call.dialect = SN_DIALECT_BERLIOZ;
	run.call.target = mw_target(&run.w);
	prepare(&run, 1);
	start = sn__sim_now_ns(run.w.sim);
	assert_int_equal(sn__call_start(run.w.mesh, &run.call), 0);
	assert_int_equal(run.done, 0);
	for (int i = 0; i < 100000 && run.done == 0; i++) {
		mw_run(&run.w, 1);
		if (run.call.attempt == prepared && run.call.story != NULL &&
				run.call.story->n_attempts_all == prepared)
			prepare(&run, ++prepared);
	}
	assert_int_equal(run.done, 1);
	check_time(&run, sn__sim_now_ns(run.w.sim) - start);
	check(&run);
	mw_close(&run.w);
}

static void all_cases(void **state)
{
	const char *root = getenv("SINEW_SOURCE_ROOT");
	json_error_t error;
	char path[512];
	json_t *file, *c;
	size_t i;

	(void)snprintf(path, sizeof(path), "%s/tests/vectors/berlioz-executor.json",
			root != NULL ? root : ".");
	file = json_load_file(path, 0, &error);
	assert_non_null(file);
	json_array_foreach(json_object_get(file, "retry"), i, c)
	{
		print_message("%s %s\n", json_string_value(json_object_get(c, "id")),
				json_string_value(json_object_get(c, "title")));
		run_case(c);
	}
	assert_int_equal(i, 16);
	json_decref(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_cases)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
