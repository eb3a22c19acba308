/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "mesh/mesh_world_test.h"

struct picker {
	struct mesh_world w;
	struct sn_pick pick;
	struct sn_policy policy;
	struct sn_rng rng;
	unsigned hits[32];
};

static void setup(struct picker *p, unsigned n, enum sn_balance balance)
{
	memset(p, 0, sizeof *p);
	mw_open(&p->w, 3);
	mw_peers(&p->w, n);
	sn__rng_seed(&p->rng, 5);
	p->policy = *sn__mesh_policy(p->w.mesh, mw_target(&p->w), SN_DIALECT_CORE);
	p->pick = (struct sn_pick){.mt = sn__mesh_target(p->w.mesh, mw_target(&p->w)),
			.peers = sn__target_peers(mw_target(&p->w)),
			.policy = &p->policy,
			.balance = balance,
			.rng = &p->rng,
			.now_ns = sn__loop_now_ns(p->w.loop)};
}

static struct sn_peer_state *state(struct picker *p, unsigned i)
{
	return sn__mesh_peer(p->pick.mt, &p->pick.peers->peers[i]);
}

static void cost(struct picker *p, unsigned i, double ms)
{
	sn__peer_state_set_cost(state(p, i), ms * 1e6, p->pick.now_ns);
}

static void run(struct picker *p, unsigned times)
{
	memset(p->hits, 0, sizeof p->hits);
	for (unsigned i = 0; i < times; i++) {
		assert_int_equal(sn__balance_pick(&p->pick), 0);
		assert_true(p->pick.index < p->pick.peers->n);
		p->hits[p->pick.index]++;
	}
}

static void random_is_uniform(void **state_)
{
	struct picker p;

	setup(&p, 10, SN_BALANCE_RANDOM);
	run(&p, 100000);
	for (int i = 0; i < 10; i++)
		assert_true(p.hits[i] > 9500 && p.hits[i] < 10500);
	mw_close(&p.w);
}

static void round_robin_and_first(void **state_)
{
	struct picker p;

	setup(&p, 5, SN_BALANCE_ROUND_ROBIN);
	run(&p, 1000);
	for (int i = 0; i < 5; i++)
		assert_int_equal(p.hits[i], 200);
	p.pick.balance = SN_BALANCE_FIRST;
	run(&p, 100);
	assert_int_equal(p.hits[p.pick.peers->first], 100);
	mw_close(&p.w);
}

static void cheapest_of_a_few(void **state_)
{
	struct picker p;

	setup(&p, 4, SN_BALANCE_PEAK_EWMA);
	for (unsigned i = 0; i < 4; i++)
		cost(&p, i, i == 2 ? 1 : 5);
	run(&p, 100);
	assert_int_equal(p.hits[2], 100);
	/* Five times as busy as the others costs as much as they do. */
	atomic_store(&state(&p, 2)->inflight, 5);
	run(&p, 100);
	assert_int_equal(p.hits[2], 0);
	/* Equal: who comes first is random. */
	for (unsigned i = 0; i < 4; i++) {
		atomic_store(&state(&p, i)->inflight, 0);
		cost(&p, i, 1);
	}
	run(&p, 4000);
	for (int i = 0; i < 4; i++)
		assert_true(p.hits[i] > 800);
	mw_close(&p.w);
}

static void worst_of_many_is_never_picked(void **state_)
{
	struct picker p;

	setup(&p, 10, SN_BALANCE_PEAK_EWMA);
	for (unsigned i = 0; i < 10; i++)
		cost(&p, i, i == 7 ? 50 : 1 + 0.001 * i);
	run(&p, 10000); /* two distinct samples: the other one is always better */
	assert_int_equal(p.hits[7], 0);
	p.pick.balance = SN_BALANCE_LEAST_REQUEST;
	for (unsigned i = 0; i < 10; i++)
		atomic_store(&state(&p, i)->inflight, i == 3 ? 9 : 2);
	run(&p, 10000);
	assert_int_equal(p.hits[3], 0);
	assert_true(p.hits[7] > 0);
	for (unsigned i = 0; i < 10; i++)
		atomic_store(&state(&p, i)->inflight, 0);
	mw_close(&p.w);
}

static void new_peer_gets_one_call_not_a_thousand(void **state_)
{
	struct picker p;

	setup(&p, 3, SN_BALANCE_PEAK_EWMA);
	cost(&p, 0, 10);
	cost(&p, 1, 10);
	run(&p, 10);
	assert_int_equal(p.hits[2], 10); /* nobody has tried it yet */
	atomic_store(&state(&p, 2)->inflight, 1);
	run(&p, 10);
	assert_int_equal(p.hits[2], 0); /* it is being measured */
	atomic_store(&state(&p, 2)->inflight, 0);
	mw_close(&p.w);
}

static void weights_count(void **state_)
{
	struct picker p;

	memset(&p, 0, sizeof p);
	setup(&p, 2, SN_BALANCE_LEAST_REQUEST);
	((struct sn_peer *)(uintptr_t)&p.pick.peers->peers[1])->weight = 3;
	for (unsigned i = 0; i < 400; i++) { /* all stay in flight */
		assert_int_equal(sn__balance_pick(&p.pick), 0);
		atomic_fetch_add(&state(&p, p.pick.index)->inflight, 1);
	}
	assert_true(atomic_load(&state(&p, 1)->inflight) >= 298);
	assert_true(atomic_load(&state(&p, 1)->inflight) <= 302);
	atomic_store(&state(&p, 0)->inflight, 0);
	atomic_store(&state(&p, 1)->inflight, 0);
	mw_close(&p.w);
}

static void tried_and_barred_are_left_out(void **state_)
{
	struct picker p;
	uint64_t tried[10];

	setup(&p, 10, SN_BALANCE_RANDOM);
	for (unsigned i = 0; i < 9; i++)
		tried[i] = state(&p, i)->serial;
	p.pick.tried = tried;
	p.pick.n_tried = 9;
	run(&p, 100);
	assert_int_equal(p.hits[9], 100);
	assert_true(sn__balance_others(&p.pick));
	tried[9] = state(&p, 9)->serial;
	p.pick.n_tried = 10;
	assert_false(sn__balance_others(&p.pick));
	run(&p, 1000); /* nobody else: any of them */
	assert_true(p.hits[0] > 0 && p.hits[9] > 0);
	p.pick.n_tried = 0;
	for (unsigned i = 0; i < 10; i++) {
		assert_non_null(sn__mesh_breaker(state(&p, i)));
		sn__breaker_force(state(&p, i)->breaker,
				i == 4 ? SN_BREAKER_AUTO : SN_BREAKER_FORCE_OPEN, p.pick.now_ns);
		sn__mesh_breaker_changed(state(&p, i));
	}
	for (enum sn_balance b = SN_BALANCE_RANDOM; b <= SN_BALANCE_FIRST; b++) {
		p.pick.balance = b;
		run(&p, 100);
		assert_int_equal(p.hits[4], 100);
	}
	p.policy.breaker = false;
	p.pick.balance = SN_BALANCE_RANDOM;
	run(&p, 1000);
	assert_true(p.hits[0] > 0);
	mw_close(&p.w);
}

static void cost_decays_and_peaks(void **state_)
{
	struct picker p;
	struct sn_peer_state *ps;
	uint64_t now;

	setup(&p, 1, SN_BALANCE_PEAK_EWMA);
	ps = state(&p, 0);
	now = p.pick.now_ns;
	sn__peer_state_observe(ps, 10 * SN_NS_PER_MS, now);
	assert_true(sn__peer_state_cost(ps, now) == 10e6);
	for (unsigned s = 1; s < 200; s++) {
		double want = 10e6 * exp(-(double)s / 10);

		assert_true(fabs(sn__peer_state_cost(ps, now + s * SN_NS_PER_S) - want) <
				want * 0.001);
	}
	/* Worse than what is left of it: at once. Better: slowly. */
	sn__peer_state_observe(ps, 9 * SN_NS_PER_MS, now + 10 * SN_NS_PER_S);
	assert_true(sn__peer_state_cost(ps, now + 10 * SN_NS_PER_S) == 9e6);
	sn__peer_state_observe(ps, 1 * SN_NS_PER_MS, now + 11 * SN_NS_PER_S);
	assert_true(sn__peer_state_cost(ps, now + 11 * SN_NS_PER_S) > 8e6);
	/* Failures: twice the cost, a time-out at least itself, five seconds at most. */
	sn__peer_state_set_cost(ps, 10e6, now);
	sn__peer_state_observe_failure(ps, 1000, 0, now);
	assert_true(sn__peer_state_cost(ps, now) == 20e6);
	sn__peer_state_observe_failure(ps, 1000, 500 * SN_NS_PER_MS, now);
	assert_true(sn__peer_state_cost(ps, now) == 500e6);
	sn__peer_state_observe_failure(ps, 0, 60 * SN_NS_PER_S, now);
	assert_true(sn__peer_state_cost(ps, now) == 5e9);
	mw_close(&p.w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(random_is_uniform),
			cmocka_unit_test(round_robin_and_first),
			cmocka_unit_test(cheapest_of_a_few),
			cmocka_unit_test(worst_of_many_is_never_picked),
			cmocka_unit_test(new_peer_gets_one_call_not_a_thousand),
			cmocka_unit_test(weights_count),
			cmocka_unit_test(tried_and_barred_are_left_out),
			cmocka_unit_test(cost_decays_and_peaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
