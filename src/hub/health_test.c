/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/health_world_test.h"

#include <errno.h>

static void enter(struct inst *i)
{
	sn__hub_health_add(w.health, &i->c, &w.spec);
}

static void leave(struct inst *i)
{
	sn__hub_health_remove(&i->c);
	assert_null(i->c.health);
}

/* Until it has been asked @n times more, and the last has ended. */
static void asked_again(struct inst *i, unsigned n)
{
	n += i->asked;
	for (unsigned k = 0; i->asked < n || i->under_way; k++) {
		assert_true(k < 200000);
		world_pass(10);
	}
}

static void thresholds(void **state)
{
	struct inst a = {.name = "a"};
	char why[32];

	world_open(1, 0);
	enter(&a);
	assert_int_equal(a.c.state, SN_HUB_STATE_UNKNOWN);
	a.code = SN_E_CONNECT;
	asked_again(&a, 2);
	assert_int_equal(a.c.state, SN_HUB_STATE_UNKNOWN); /* counts as well */
	assert_int_equal(a.went_unwell, 0);
	asked_again(&a, 1);
	assert_int_equal(a.c.state, SN_HUB_STATE_UNWELL);
	(void)snprintf(why, sizeof why, "code %d", SN_E_CONNECT);
	assert_string_equal(a.why, why);
	asked_again(&a, 10); /* it is told once */
	assert_int_equal(a.went_unwell, 1);
	assert_int_equal(world_counts().unwell, 1);
	a.code = 0;
	asked_again(&a, 1);
	a.code = SN_E_CONNECT; /* two in a row are wanted */
	asked_again(&a, 1);
	a.code = 0;
	asked_again(&a, 1);
	assert_int_equal(a.went_well, 0);
	asked_again(&a, 1);
	assert_int_equal(a.went_well, 1);
	assert_int_equal(a.c.state, SN_HUB_STATE_WELL);
	assert_int_equal(world_counts().unwell, 0);
	for (int k = 0; k < 5; k++) { /* three in a row are wanted */
		a.code = SN_E_TIMEOUT;
		asked_again(&a, 2);
		a.code = 0;
		asked_again(&a, 1);
	}
	assert_int_equal(a.went_unwell, 1);
	assert_int_equal(world_counts().checks, a.asked);
	assert_int_equal(world_counts().failed, 2 + 1 + 10 + 1 + 10);
	leave(&a);
	assert_int_equal(world_counts().instances, 0);
	world_close();
}

/* An instance that is well from its first check on is not told of. */
static void well_at_once(void **state)
{
	struct inst a = {.name = "a"};

	world_open(1, 0);
	enter(&a);
	asked_again(&a, 1);
	assert_int_equal(a.c.state, SN_HUB_STATE_WELL);
	world_pass(100000);
	assert_int_equal(a.went_well + a.went_unwell, 0);
	leave(&a);
	leave(&a); /* harmless */
	world_close();
}

/* No burst at the start, and none later. */
static void spread(void **state)
{
	enum { N = 10000 };
	struct inst *all = test_calloc(N, sizeof *all);
	unsigned before = 0, most = 0, total = 0;

	world_open(7, 0);
	for (unsigned k = 0; k < N; k++)
		enter(&all[k]);
	for (unsigned ms = 0; ms < 30000; ms += 10) {
		world_pass(10);
		total = (unsigned)world_counts().checks;
		most = SN_MAX(most, total - before);
		before = total;
		if (ms == 2500)
			assert_in_range(total, N * 45 / 100, N * 55 / 100);
		if (ms == 5010)
			for (unsigned k = 0; k < N; k++)
				assert_true(all[k].asked >= 1);
	}
	assert_in_range(most, 20, 60); /* 20 in 10 ms are the mean */
	assert_in_range(total, N * 57 / 10, N * 63 / 10);
	for (unsigned k = 0; k < N; k++) {
		assert_true(all[k].gap_min_ns >= 4500 * SN_NS_PER_MS);
		assert_true(all[k].gap_max_ns <= 5530 * SN_NS_PER_MS);
		leave(&all[k]);
	}
	world_close();
	test_free(all);
}

/* The dead keep their places; the living are asked in time all the same. */
static void lanes(void **state)
{
	enum { N = 300, DEAD = 200 };
	struct inst *all = test_calloc(N, sizeof *all);

	world_open(3, 4);
	w.spec.every_ms = 1000;
	for (unsigned k = 0; k < N; k++) {
		if (k < DEAD) {
			all[k].code = SN_E_TIMEOUT;
			all[k].slow_ms = 1000;
		}
		enter(&all[k]);
	}
	world_pass(300000);
	assert_true(w.max_asked <= 8);
	for (unsigned k = 0; k < N; k++)
		all[k].gap_max_ns = 0;
	world_pass(20000);
	for (unsigned k = DEAD; k < N; k++)
		assert_true(all[k].gap_max_ns <= 1120 * SN_NS_PER_MS);
	assert_int_equal(world_counts().unwell, DEAD);
	assert_int_equal(world_counts().went_unwell, DEAD);
	for (unsigned k = 0; k < N; k++)
		leave(&all[k]);
	world_close();
	test_free(all);
}

/* What failed at our own end says nothing. */
static void our_own(void **state)
{
	struct inst a = {.name = "a", .code = SN_E_NOMEM};

	world_open(1, 0);
	enter(&a);
	asked_again(&a, 10);
	a.code = SN_E_LIMIT;
	a.foreign = EMFILE;
	asked_again(&a, 10);
	a.code = SN_E_CONNECT;
	a.foreign = EADDRNOTAVAIL;
	asked_again(&a, 10);
	assert_int_equal(a.c.state, SN_HUB_STATE_UNKNOWN);
	assert_int_equal(world_counts().unjudged, 30);
	assert_int_equal(world_counts().checks, 0);
	a.foreign = ECONNREFUSED;
	asked_again(&a, 2);
	a.code = SN_E_NOMEM; /* between two failures: they are still in a row */
	asked_again(&a, 1);
	a.code = SN_E_TLS;
	a.foreign = EMFILE; /* a reason of another list */
	asked_again(&a, 1);
	assert_int_equal(a.went_unwell, 1);
	leave(&a);
	world_close();
}

static struct inst *other;

static void both_leave(struct inst *i)
{
	sn__hub_health_remove(&i->c);
	sn__hub_health_remove(&other->c);
}

static void tell_again(struct inst *i)
{
	sn__hub_health_tell_again(&i->c);
}

static void removed(void **state)
{
	struct inst a = {.name = "a", .slow_ms = 500}, b = {.name = "b", .slow_ms = 500};

	world_open(1, 1);
	w.spec.every_ms = 10;
	enter(&a);
	enter(&b);
	world_pass(100); /* one is under way, one waits */
	assert_int_equal(w.n_asked, 1);
	assert_int_equal(a.asked + b.asked, 1);
	leave(&a);
	leave(&b);
	assert_int_equal(w.n_cancelled, 1);
	world_pass(2000);
	assert_int_equal(a.asked + b.asked, 1);
	assert_int_equal(w.n_kept, 0);
	enter(&a); /* anew, from nothing */
	assert_int_equal(a.c.state, SN_HUB_STATE_UNKNOWN);
	world_pass(300);
	leave(&a);
	enter(&a); /* while the former one is still being cancelled */
	a.slow_ms = b.slow_ms = 0;
	a.code = b.code = SN_E_RESET;
	enter(&b);
	a.then = b.then = both_leave;
	other = &b;
	world_pass(10000);
	assert_int_equal(a.went_unwell + b.went_unwell, 1);
	assert_int_equal(world_counts().instances, 0);
	assert_int_equal(world_counts().unwell, 0);
	a.then = tell_again;
	a.went_unwell = 0;
	enter(&a);
	asked_again(&a, 2);
	assert_int_equal(a.went_unwell, 0);
	asked_again(&a, 4); /* each time anew */
	assert_int_equal(a.went_unwell, 4);
	a.code = 0;
	asked_again(&a, 5);
	assert_int_equal(a.went_well, 0); /* it was not out */
	leave(&a);
	world_close();
}

struct question {
	struct sn_hub_ask ask;
	struct inst inst;
	unsigned ended;
	int code;
};

static void question_ended(struct sn_hub_ask *ask, const struct sn_error *err)
{
	struct question *q = SN_CONTAINER_OF(ask, struct question, ask);

	q->ended++;
	q->code = err != NULL ? err->code : 0;
}

static void put(struct question *q)
{
	q->ask.ended = question_ended;
	q->ask.probe.id = q->inst.name;
	q->ask.probe.timeout_ms = w.spec.timeout_ms;
	sn__hub_health_ask(w.health, &w.checker, &q->ask);
	assert_int_equal(q->ended, 0);
}

static void once(void **state)
{
	struct question q[6] = {0};
	struct inst slow = {.slow_ms = 900};

	world_open(1, 2);
	w.spec.every_ms = 10;
	enter(&slow); /* another lane */
	world_pass(100);
	for (unsigned k = 0; k < 6; k++) {
		q[k].inst.slow_ms = 100;
		q[k].inst.code = k == 1 ? SN_E_CONNECT : 0;
		put(&q[k]);
	}
	world_pass(10);
	assert_int_equal(q[0].inst.asked + q[1].inst.asked + q[2].inst.asked, 2);
	sn__hub_health_unask(&q[0].ask); /* under way */
	sn__hub_health_unask(&q[4].ask); /* waits */
	sn__hub_health_unask(&q[4].ask);
	assert_int_equal(q[0].ended + q[4].ended, 0);
	world_pass(1000);
	for (unsigned k = 0; k < 6; k++) {
		assert_int_equal(q[k].ended, 1);
		assert_int_equal(q[k].code,
				k == 1                             ? SN_E_CONNECT
						: k == 0 || k == 4 ? SN_E_CANCELLED
								   : 0);
		assert_int_equal(q[k].inst.asked, k != 4);
		q[k].ended = 0;
	}
	assert_int_equal(world_counts().checks, slow.asked - slow.under_way);
	for (unsigned k = 0; k < 6; k++)
		put(&q[k]);
	leave(&slow);
	world_pass(10);
	for (unsigned k = 0; k < 6; k++)
		sn__hub_health_unask(&q[k].ask);
	world_close(); /* waits for them */
	for (unsigned k = 0; k < 6; k++)
		assert_int_equal(q[k].ended, 1);
}

/* Nothing is allocated once all places have been used. */
static void without_memory(void **state)
{
	struct inst all[20] = {0};
	struct sn_hub_health *none = NULL;
	uint64_t before;

	world_open(1, 4);
	for (unsigned k = 0; k < 20; k++)
		enter(&all[k]);
	sn__mem_fail_nth(1);
	assert_int_equal(sn__hub_health_open(w.loop, &world_ops, 0, &none), SN_E_NOMEM);
	assert_null(none);
	sn__mem_fail_nth(1); /* the first place */
	world_pass(5000);
	assert_true(sn__mem_failed());
	sn__mem_fail_nth(0);
	assert_int_equal(world_counts().unjudged, 1);
	world_pass(20000);
	before = sn__mem_count();
	world_pass(60000);
	assert_int_equal(sn__mem_count(), before);
	for (unsigned k = 0; k < 20; k++) {
		assert_true(all[k].asked >= 15);
		assert_int_equal(all[k].c.state, SN_HUB_STATE_WELL);
		leave(&all[k]);
	}
	world_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(thresholds),
			cmocka_unit_test(well_at_once),
			cmocka_unit_test(spread),
			cmocka_unit_test(lanes),
			cmocka_unit_test(our_own),
			cmocka_unit_test(removed),
			cmocka_unit_test(once),
			cmocka_unit_test(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
