/* SPDX-License-Identifier: Apache-2.0 */

/* The list of drivers, the check of their tables, what the host offers, how outcomes are read. */

#include "connect/driver.h"

#include "base/mem.h"
#include "base/test.h"
#include "io/sim.h"
#include "mesh/admit.h"
#include "mesh/policy.h"

static int no_open(void *instance, struct sn_driver_open *how)
{
	return SN_E_NOTSUP;
}
static void no_close(void *instance, void (*done)(void *arg), void *arg)
{
}
static void no_finish(void *instance)
{
}
static int no_start(void *instance, struct sn_driver_call *call)
{
	return SN_E_NOTSUP;
}
static void no_cancel(void *instance, struct sn_driver_call *call, int code)
{
}

static const struct sn_driver_operation operations[] = {
		{"GetItem", SN_DRIVER_SAFE, 0},
		{"PutItem", SN_DRIVER_IDEMPOTENT, 1},
		{NULL},
};
static const struct sn_driver_operation doubled[] = {
		{"GetItem", SN_DRIVER_SAFE, 0}, {"GetItem", SN_DRIVER_SAFE, 0}, {NULL}};
static const struct sn_driver_calls calls = {
		.size = sizeof(calls),
		.operations = operations,
		.start = no_start,
		.cancel = no_cancel,
};
static const struct sn_driver good = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "toy",
		.topic = SN_TOPIC_DATABASE,
		.summary = "For this test",
		.open = no_open,
		.close = no_close,
		.finish = no_finish,
		.calls = &calls,
};

static void test_builtin(void **state)
{
	struct sn_error err;

	for (const struct sn_driver *const *d = sn__drivers_builtin(); *d != NULL; d++) {
		const struct sn_driver *found;

		if (sn__driver_check(*d, &err) < 0)
			fail_msg("%s: %s", (*d)->name, err.text);
		assert_int_equal(
				sn__driver_find((*d)->topic, sn_str_from((*d)->name), &found, &err),
				0);
		assert_ptr_equal(found, *d);
	}
}

static void refused(const struct sn_driver *d, const char *why)
{
	struct sn_error err;

	assert_int_equal(sn__driver_check(d, &err), SN_E_INVALID);
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void test_check(void **state)
{
	struct sn_driver_calls c = calls;
	struct sn_driver d = good;
	struct sn_error err;

	assert_int_equal(sn__driver_check(&d, &err), 0);
	d.abi++;
	refused(&d, "ABI 2");
	d = good;
	d.size -= 8;
	refused(&d, "bytes");
	d = good;
	d.name = "Toy";
	refused(&d, "proper name");
	d.name = "";
	refused(&d, "proper name");
	d = good;
	d.topic = (enum sn_topic)9;
	refused(&d, "topic");
	d = good;
	d.finish = NULL;
	refused(&d, "finish");
	d = good;
	d.calls = &c;
	c.size--;
	refused(&d, "table of calls");
	c = calls;
	c.cancel = NULL;
	refused(&d, "cancel");
	c = calls;
	c.operations = doubled;
	refused(&d, "twice");
}

static void test_find(void **state)
{
	static const struct sn_driver *const list[] = {&good, NULL};
	const struct sn_driver_operation *op;
	const struct sn_driver *found;
	enum sn_topic topic;
	struct sn_error err;

	assert_int_equal(sn__topic_find(SN_STR("broker"), &topic), 0);
	assert_int_equal(topic, SN_TOPIC_BROKER);
	assert_string_equal(sn__topic_name(topic), "broker");
	assert_int_equal(sn__topic_find(SN_STR("brokers"), &topic), SN_E_NOT_FOUND);

	sn__drivers_add_for_tests(list);
	assert_int_equal(sn__driver_find(SN_TOPIC_DATABASE, SN_STR("toy"), &found, &err), 0);
	assert_ptr_equal(found, &good);
	assert_int_equal(sn__driver_find(SN_TOPIC_BROKER, SN_STR("toy"), &found, &err),
			SN_E_NOT_FOUND);
	assert_non_null(strstr(err.text, "no broker driver is called toy"));
	assert_int_equal(sn__driver_find(SN_TOPIC_BROKER, SN_STR("../x"), &found, &err),
			SN_E_NOT_FOUND);
	assert_int_equal(
			sn__driver_find(SN_TOPIC_BROKER, SN_STR(""), &found, &err), SN_E_NOT_FOUND);
	sn__drivers_add_for_tests(NULL);
	assert_int_equal(sn__driver_find(SN_TOPIC_DATABASE, SN_STR("toy"), &found, &err),
			SN_E_NOT_FOUND);

	assert_int_equal(sn__driver_operation(&good, SN_STR("PutItem"), &op, &err), 0);
	assert_ptr_equal(op, &operations[1]);
	assert_int_equal(sn__driver_operation(&good, SN_STR("PutItems"), &op, &err), SN_E_INVALID);
	assert_string_equal(err.text, "toy has no operation PutItems: did you mean PutItem?");
	assert_int_equal(sn__driver_operation(&good, SN_STR("xyz"), &op, &err), SN_E_INVALID);
	assert_string_equal(err.text, "toy has no operation xyz");
}

/* ---- the host ---- */

struct ticker {
	struct sn_driver_task task;
	unsigned ran;
};

static void tick(struct sn_driver_task *task)
{
	SN_CONTAINER_OF(task, struct ticker, task)->ran++;
}

static void test_host(void **state)
{
	struct ticker a = {.task.fn = tick}, b = {.task.fn = tick};
	struct sn_connect_host host = {.rt = NULL};
	struct sn_driver_host *h = &host.pub;
	struct sn_sim *sim;
	uint64_t now;

	assert_int_equal(sn__sim_create(&(struct sn_sim_options){.seed = 1}, &sim), 0);
	assert_int_equal(sn__sim_loop(sim, &host.loop), 0);
	sn__connect_host_init(&host);
	now = h->now_ns(h);
	h->log(h, 1, "nobody listens");
	h->defer(h, &a.task);
	h->defer(h, &a.task);
	h->after(h, &b.task, 1000);
	assert_int_equal(a.ran, 0);
	(void)sn__sim_run(sim, now + sn_ms_to_ns(500));
	assert_int_equal(a.ran, 1);
	assert_int_equal(b.ran, 0);
	h->after(h, &b.task, 1000); /* anew */
	(void)sn__sim_run(sim, now + sn_ms_to_ns(1400));
	assert_int_equal(b.ran, 0);
	(void)sn__sim_run(sim, now + sn_ms_to_ns(1600));
	assert_int_equal(b.ran, 1);
	h->after(h, &b.task, 10);
	h->undo(h, &b.task);
	h->defer(h, &a.task);
	h->undo(h, &a.task);
	h->undo(h, &a.task);
	(void)sn__sim_run(sim, now + sn_ms_to_ns(2000));
	assert_int_equal(a.ran, 1);
	assert_int_equal(b.ran, 1);
	h->post(h, &a.task);
	(void)sn__sim_run(sim, now + sn_ms_to_ns(2100));
	assert_int_equal(a.ran, 2);
	sn__loop_close(host.loop, NULL, NULL);
	sn__sim_destroy(sim);
}

/* ---- outcomes ---- */

static void test_outcomes(void **state)
{
	static const struct {
		struct sn_driver_outcome from;
		enum sn_outcome_class class;
		enum sn_phase phase;
		unsigned retry_on;
		int code;
	} cases[] = {
			{{.verdict = SN_DRIVER_OK, .sent = SN_DRIVER_SENT_YES}, SN_OUTCOME_OK,
					SN_PHASE_READ, 0, 0},
			{{.verdict = SN_DRIVER_REJECTED,
					 .code = SN_E_REJECTED,
					 .sent = SN_DRIVER_SENT_YES},
					SN_OUTCOME_REJECTED, SN_PHASE_READ, 0, SN_E_REJECTED},
			{{.verdict = SN_DRIVER_FAILED, .code = SN_E_CONNECT}, SN_OUTCOME_FAILED,
					SN_PHASE_CONNECT, SN_RETRY_CONNECT, SN_E_CONNECT},
			{{.verdict = SN_DRIVER_FAILED,
					 .code = SN_E_RESET,
					 .sent = SN_DRIVER_SENT_MAYBE},
					SN_OUTCOME_FAILED, SN_PHASE_READ, SN_RETRY_RESET,
					SN_E_RESET},
			{{.verdict = SN_DRIVER_UNAVAILABLE,
					 .code = SN_E_STATUS,
					 .foreign = 503,
					 .sent = SN_DRIVER_SENT_YES},
					SN_OUTCOME_UNAVAILABLE, SN_PHASE_READ,
					SN_RETRY_503 | SN_RETRY_5XX, SN_E_STATUS},
			{{.verdict = SN_DRIVER_THROTTLED,
					 .code = SN_E_STATUS,
					 .foreign = 400,
					 .sent = SN_DRIVER_SENT_YES},
					SN_OUTCOME_THROTTLED, SN_PHASE_READ,
					SN_RETRY_UNAVAILABLE | SN_RETRY_429, SN_E_STATUS},
			{{.verdict = SN_DRIVER_THROTTLED,
					 .code = SN_E_STATUS,
					 .foreign = 400,
					 .sent = SN_DRIVER_SENT_NO},
					SN_OUTCOME_THROTTLED, SN_PHASE_READ,
					SN_RETRY_UNAVAILABLE | SN_RETRY_429, SN_E_STATUS},
			/* from a careless module */
			{{.verdict = (enum sn_driver_verdict)77,
					 .code = 5,
					 .sent = (enum sn_driver_sent)9,
					 .foreign = 1},
					SN_OUTCOME_FAILED, SN_PHASE_READ, 0, SN_E_STATUS},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_outcome o;

		sn__driver_outcome_of(&cases[i].from, &o);
		assert_int_equal(o.class, cases[i].class);
		assert_int_equal(o.phase, cases[i].phase);
		assert_int_equal(o.retry_on, cases[i].retry_on);
		assert_int_equal(o.code, cases[i].code);
	}
}

static void test_outcome_round(void **state)
{
	struct sn_outcome from = {.class = SN_OUTCOME_THROTTLED,
			.sent = SN_SENT_YES,
			.code = SN_E_STATUS,
			.foreign = 429,
			.retry_after_ms = 1500,
			.detail = "slow down"};
	struct sn_driver_outcome mid;
	struct sn_outcome to;

	sn__driver_outcome(&from, &mid);
	sn__driver_outcome_of(&mid, &to);
	assert_int_equal(to.class, from.class);
	assert_int_equal(to.sent, from.sent);
	assert_int_equal(to.code, from.code);
	assert_int_equal(to.foreign, from.foreign);
	assert_int_equal(to.retry_after_ms, 1500);
	assert_string_equal(to.detail, "slow down");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_builtin),
			cmocka_unit_test(test_check),
			cmocka_unit_test(test_find),
			cmocka_unit_test(test_host),
			cmocka_unit_test(test_outcomes),
			cmocka_unit_test(test_outcome_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
