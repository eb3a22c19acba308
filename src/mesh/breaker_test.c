/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/breaker.h"

#include <math.h>

#include "base/mem.h"
#include "base/test.h"
#include "base/time.h"

#define S SN_NS_PER_S

struct fixture {
	struct sn_breaker b;
	struct sn_policy p;
	struct sn_rng rng;
	uint64_t now;
};

static const struct sn_outcome ok = {.class = SN_OUTCOME_OK, .retry_after_ms = -1};
static const struct sn_outcome bad = {.class = SN_OUTCOME_FAILED,
		.sent = SN_SENT_YES,
		.phase = SN_PHASE_READ,
		.retry_after_ms = -1};
static const struct sn_outcome refused = {.class = SN_OUTCOME_FAILED,
		.sent = SN_SENT_NO,
		.phase = SN_PHASE_CONNECT,
		.retry_after_ms = -1};
static const struct sn_outcome throttled = {
		.class = SN_OUTCOME_THROTTLED, .sent = SN_SENT_YES, .retry_after_ms = -1};
static const struct sn_outcome rejected = {.class = SN_OUTCOME_REJECTED, .retry_after_ms = -1};

static void setup(struct fixture *f)
{
	memset(f, 0, sizeof *f);
	f->p = (struct sn_policy){.breaker = true,
			.breaker_min_requests = 20,
			.breaker_success_ratio = 0.5,
			.breaker_consecutive_failures = 7,
			.breaker_open = 1000,
			.breaker_max_open = 60000};
	f->now = 1000 * S;
	sn__rng_seed(&f->rng, 1);
	sn__breaker_init(&f->b, f->now);
}

static void result(struct fixture *f, const struct sn_outcome *o, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		(void)sn__breaker_result(&f->b, &f->p, f->b.generation, 0, o, f->now, &f->rng);
}

static enum sn_breaker_verdict check(struct fixture *f)
{
	return sn__breaker_check(&f->b, &f->p, f->now, &f->rng);
}

/* One probe with a deadline in 5 s and its outcome. */
static bool probe(struct fixture *f, const struct sn_outcome *o)
{
	uint32_t generation;
	uint8_t slot;

	assert_int_equal(check(f), SN_BREAKER_PROBE_DUE);
	generation = f->b.generation;
	slot = sn__breaker_probe(&f->b, f->now + 5 * S, f->now);
	return sn__breaker_result(&f->b, &f->p, generation, slot, o, f->now, &f->rng);
}

static void to_half_open(struct fixture *f)
{
	result(f, &bad, 7);
	assert_int_equal(check(f), SN_BREAKER_REFUSE);
	f->now = f->b.due_ns;
	assert_int_equal(check(f), SN_BREAKER_PROBE_DUE);
}

static void opens_after_consecutive_failures(void **state)
{
	struct fixture f;

	setup(&f);
	result(&f, &bad, 6);
	assert_int_equal(check(&f), SN_BREAKER_ADMIT);
	result(&f, &ok, 1);
	result(&f, &bad, 6);
	assert_int_equal(check(&f), SN_BREAKER_ADMIT);
	result(&f, &throttled, 20);
	result(&f, &rejected, 20);
	assert_int_equal(check(&f), SN_BREAKER_ADMIT);
	result(&f, &bad, 1);
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
	assert_true(sn__breaker_barred(&f.b));
}

/* Requests that shared a connection are one failure when it breaks. */
static void counts_a_connection_once(void **state)
{
	struct sn_outcome along = bad;
	struct fixture f;

	along.along = true;
	setup(&f);
	for (int i = 0; i < 6; i++) {
		result(&f, &bad, 1);
		result(&f, &along, 63);
	}
	assert_int_equal(check(&f), SN_BREAKER_ADMIT);
	result(&f, &bad, 1);
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
	f.now = f.b.due_ns;
	assert_false(probe(&f, &along)); /* a probe tells what it saw */
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
}

static void opens_by_ratio_over_ten_seconds(void **state)
{
	struct fixture f;

	setup(&f);
	for (int i = 0; i < 9; i++) { /* 18 results, 9 of them failures: too few */
		result(&f, &bad, 1);
		result(&f, &ok, 1);
	}
	assert_int_equal(check(&f), SN_BREAKER_ADMIT);
	f.now += 11 * S; /* all forgotten */
	for (int i = 0; i < 9; i++) {
		result(&f, &bad, 1);
		result(&f, &ok, 1);
	}
	result(&f, &ok, 2);
	f.now += 5 * S; /* still in the window */
	result(&f, &bad, 2);
	assert_int_equal(check(&f), SN_BREAKER_ADMIT); /* 11 of 22 */
	result(&f, &bad, 1);
	assert_int_equal(check(&f), SN_BREAKER_REFUSE); /* 11 of 23 */
}

static void stays_open_longer_each_time(void **state)
{
	struct fixture f;
	double base = 1;

	setup(&f);
	to_half_open(&f);
	for (int i = 0; i < 10; i++) {
		uint64_t opened = f.now;
		double s;

		base = fmin(base * 2, 60);
		assert_false(probe(&f, &bad));
		assert_int_equal(check(&f), SN_BREAKER_REFUSE);
		s = (double)(f.b.due_ns - opened) / (double)S;
		assert_true(s >= base && s <= base * 1.5);
		f.now = f.b.due_ns;
	}
}

static void exponent_falls_while_closed(void **state)
{
	struct fixture f;
	uint64_t opened;

	setup(&f);
	f.b.exponent = 3;
	f.now += 61 * S; /* two steps of 30 s */
	opened = f.now;
	result(&f, &bad, 7);
	assert_true(f.b.due_ns - opened >= 2 * S && f.b.due_ns - opened <= 3 * S);
	assert_int_equal(f.b.exponent, 2);
}

static void closes_after_one_two_four(void **state)
{
	struct fixture f;
	unsigned probes = 0;

	setup(&f);
	to_half_open(&f);
	for (;;) {
		probes++;
		if (probe(&f, &ok))
			break;
	}
	assert_int_equal(probes, 7);
	assert_int_equal(check(&f), SN_BREAKER_ADMIT);
	result(&f, &bad, 6); /* cold: nothing of before counts */
	assert_int_equal(check(&f), SN_BREAKER_ADMIT);
}

static void grants_no_more_than_the_stage(void **state)
{
	struct fixture f;
	uint8_t slots[4];
	uint32_t generation;

	setup(&f);
	to_half_open(&f);
	(void)probe(&f, &ok);
	generation = f.b.generation;
	slots[0] = sn__breaker_probe(&f.b, 0, f.now);
	assert_int_equal(check(&f), SN_BREAKER_PROBE_DUE);
	slots[1] = sn__breaker_probe(&f.b, 0, f.now);
	assert_int_equal(check(&f), SN_BREAKER_WAIT);
	/* A cancelled probe gives its place back. */
	assert_false(sn__breaker_result(&f.b, &f.p, generation, slots[0], NULL, f.now, &f.rng));
	assert_int_equal(check(&f), SN_BREAKER_PROBE_DUE);
	assert_false(sn__breaker_result(&f.b, &f.p, generation, slots[1], &ok, f.now, &f.rng));
	assert_false(probe(&f, &ok));
	assert_int_equal(f.b.stage, 4);
}

static void lease_frees_a_lost_probe(void **state)
{
	struct fixture f;
	uint32_t generation;
	uint8_t slot;

	setup(&f);
	to_half_open(&f);
	generation = f.b.generation;
	slot = sn__breaker_probe(&f.b, f.now + 5 * S, f.now);
	f.now += 6 * S - 1; /* deadline plus one second */
	assert_int_equal(check(&f), SN_BREAKER_WAIT);
	assert_int_equal(sn__breaker_due(&f.b), f.now + 1);
	f.now++;
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
	/* The late answer decides nothing. */
	f.now = f.b.due_ns;
	assert_int_equal(check(&f), SN_BREAKER_PROBE_DUE);
	assert_false(sn__breaker_result(&f.b, &f.p, generation, slot, &ok, f.now, &f.rng));
	assert_int_equal(f.b.succeeded, 0);
	/* Without a deadline the lease is 10 s. */
	(void)sn__breaker_probe(&f.b, 0, f.now);
	assert_int_equal(sn__breaker_due(&f.b), f.now + 10 * S);
}

static void late_results_are_dropped(void **state)
{
	struct fixture f;
	uint32_t generation;

	setup(&f);
	generation = f.b.generation;
	to_half_open(&f);
	for (int i = 0; i < 10; i++)
		assert_false(sn__breaker_result(&f.b, &f.p, generation, 0, &ok, f.now, &f.rng));
	assert_int_equal(check(&f), SN_BREAKER_PROBE_DUE);
	assert_int_equal(f.b.stage, 1);
}

static void throttled_fails_a_probe(void **state)
{
	struct sn_outcome hinted = throttled;
	struct fixture f;

	setup(&f);
	to_half_open(&f);
	hinted.retry_after_ms = 20000;
	assert_false(probe(&f, &hinted));
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
	assert_true(f.b.due_ns >= f.now + 20 * S);
	f.now = f.b.due_ns;
	hinted.retry_after_ms = 4000000;
	assert_false(probe(&f, &hinted));
	assert_true(f.b.due_ns <= f.now + 300 * S); /* the cap */
}

static void connect_errors_are_probed_by_a_connect(void **state)
{
	struct fixture f;
	uint32_t generation;

	setup(&f);
	result(&f, &refused, 7);
	f.now = f.b.due_ns;
	assert_int_equal(check(&f), SN_BREAKER_CONNECT_DUE);
	generation = sn__breaker_connecting(&f.b, f.now + 2 * S);
	assert_int_equal(check(&f), SN_BREAKER_WAIT);
	sn__breaker_connected(&f.b, generation, false, &f.p, f.now, &f.rng);
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
	assert_true(f.b.due_ns >= f.now + 2 * S);

	f.now = f.b.due_ns;
	assert_int_equal(check(&f), SN_BREAKER_CONNECT_DUE);
	generation = sn__breaker_connecting(&f.b, f.now + 2 * S);
	sn__breaker_connected(&f.b, generation, true, &f.p, f.now, &f.rng);
	assert_int_equal(check(&f), SN_BREAKER_PROBE_DUE);

	/* A connect that never ends is given up. */
	setup(&f);
	result(&f, &refused, 7);
	f.now = f.b.due_ns;
	generation = sn__breaker_connecting(&f.b, f.now + 2 * S);
	f.now += 2 * S;
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
	sn__breaker_connected(&f.b, generation, true, &f.p, f.now, &f.rng);
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
	/* Where no connect can be made the next call is the probe. */
	f.now = f.b.due_ns;
	sn__breaker_skip_connect(&f.b);
	assert_int_equal(check(&f), SN_BREAKER_PROBE_DUE);
}

static void forced(void **state)
{
	struct fixture f;

	setup(&f);
	sn__breaker_force(&f.b, SN_BREAKER_FORCE_OPEN, f.now);
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
	assert_int_equal(sn__breaker_due(&f.b), SN_NEVER_NS);
	f.now += 1000 * S;
	assert_int_equal(check(&f), SN_BREAKER_REFUSE);
	sn__breaker_force(&f.b, SN_BREAKER_FORCE_CLOSE, f.now);
	result(&f, &bad, 100);
	assert_int_equal(check(&f), SN_BREAKER_ADMIT);
	sn__breaker_force(&f.b, SN_BREAKER_AUTO, f.now);
	assert_int_equal(check(&f), SN_BREAKER_ADMIT);
	assert_string_equal(sn__breaker_name(&f.b), "closed");
	result(&f, &bad, 7);
	assert_string_equal(sn__breaker_name(&f.b), "open");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(opens_after_consecutive_failures),
			cmocka_unit_test(counts_a_connection_once),
			cmocka_unit_test(opens_by_ratio_over_ten_seconds),
			cmocka_unit_test(stays_open_longer_each_time),
			cmocka_unit_test(exponent_falls_while_closed),
			cmocka_unit_test(closes_after_one_two_four),
			cmocka_unit_test(grants_no_more_than_the_stage),
			cmocka_unit_test(lease_frees_a_lost_probe),
			cmocka_unit_test(late_results_are_dropped),
			cmocka_unit_test(throttled_fails_a_probe),
			cmocka_unit_test(connect_errors_are_probed_by_a_connect),
			cmocka_unit_test(forced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
