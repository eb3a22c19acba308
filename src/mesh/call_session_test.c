/* SPDX-License-Identifier: Apache-2.0 */

/* Calls that are sessions: open-timeout, what counts as opened, and that nothing is tried again then. */

#pragma GCC diagnostic ignored "-Wunused-function"
#include "mesh/mesh_world_test.h"

static bool reached;               /* what opened() answers */
static unsigned asked, connect_ms; /* 0: the connection was there */

static bool mw_opened(struct sn_call *call, uint64_t *ret_ns)
{
	asked++;
	*ret_ns = call->attempt_start_ns + sn_ms_to_ns(connect_ms);
	return reached;
}

static const struct sn_call_ops session_ops = {
		.attempt = mw_attempt, .abort = mw_abort, .done = mw_done, .opened = mw_opened};

static const struct mw_step stuck[] = {MW_STUCK};
static const struct mw_step refused[] = {MW_REFUSED, MW_STUCK};

static void session_open(struct mesh_world *w, struct mw_call *c, const struct mw_step *steps,
		unsigned n_steps, unsigned n_peers)
{
	reached = false;
	asked = connect_ms = 0;
	mw_open(w, 1);
	mw_peers(w, n_peers);
	c->call.ops = &session_ops;
	c->call.session = true;
	c->call.safety = SN_UNSAFE;
	c->call.retry = SN_RETRY_SAFE;
	assert_int_equal(mw_start(w, c, steps, n_steps), 0);
}

static void no_peer_in_time(void **state)
{
	struct mw_call c = {.done = 0};
	struct mesh_world w;

	session_open(&w, &c, stuck, 1, 2);
	mw_run(&w, 4900);
	assert_int_equal(c.done, 0);
	mw_run(&w, 200); /* open-timeout is 5 s */
	assert_int_equal(asked, 1);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.code, SN_E_TIMEOUT);
	assert_int_equal(c.attempts, 1);
	mw_close(&w);
}

static void open_for_ever(void **state)
{
	struct mw_call c = {.done = 0};
	struct mesh_world w;
	struct sn_peer_state *ps;

	session_open(&w, &c, stuck, 1, 1);
	reached = true;
	ps = mw_state(&w, "1");
	mw_run(&w, 4900);
	assert_int_equal(ps->n_calls, 0);
	mw_run(&w, 200);
	assert_int_equal(ps->n_calls, 1); /* the breaker has heard of it */
	assert_int_equal(ps->n_failures, 0);
	mw_run(&w, 3600000); /* no time-out, no deadline */
	assert_int_equal(c.done, 0);
	assert_int_equal(asked, 1);
	assert_int_equal(atomic_load(&ps->inflight), 1);
	sn__call_cancel(&c.call);
	mw_run(&w, 10);
	assert_int_equal(c.code, SN_E_CANCELLED);
	mw_close(&w);
}

/* A connection that was made is a success; one that was there says nothing of a peer that is silent. */
static void silence_is_no_success(void **state)
{
	for (connect_ms = 0; connect_ms <= 40; connect_ms += 40) {
		struct mw_call c = {.done = 0};
		struct mesh_world w;
		struct sn_peer_state *ps;
		unsigned ms = connect_ms;
		double before;

		session_open(&w, &c, stuck, 1, 1);
		connect_ms = ms;
		reached = true;
		ps = mw_state(&w, "1");
		assert_non_null(sn__mesh_breaker(ps));
		ps->breaker->consecutive = 3;
		mw_run(&w, 4990);
		sn__peer_state_set_cost(ps, 9e6, sn__loop_now_ns(w.loop));
		before = atomic_load(&ps->cost_ns);
		mw_run(&w, 100);
		assert_int_equal(ps->n_calls, 1);
		assert_int_equal(ps->breaker->consecutive, ms > 0 ? 0 : 3);
		if (ms > 0)
			assert_true(atomic_load(&ps->cost_ns) > before);
		else
			assert_true(atomic_load(&ps->cost_ns) == before);
		sn__call_cancel(&c.call);
		mw_run(&w, 10);
		mw_close(&w);
	}
}

static void its_own_deadline(void **state)
{
	for (int early = 0; early < 2; early++) {
		struct mw_call c = {.call = {.deadline_ms = early ? 3000 : 60000}};
		struct mesh_world w;

		session_open(&w, &c, stuck, 1, 1);
		reached = true;
		mw_run(&w, early ? 2900 : 59900);
		assert_int_equal(c.done, 0);
		mw_run(&w, 200);
		assert_int_equal(c.done, 1);
		assert_int_equal(c.code, SN_E_DEADLINE);
		assert_non_null(strstr(c.err.text, early ? "within 3000 ms" : "within 60000 ms"));
		assert_int_equal(c.attempts, 1);
		mw_close(&w);
	}
}

static void answered_early(void **state)
{
	static const struct sn_outcome good = SN_OUTCOME_INIT;
	struct mw_call c = {.call = {.timeout_ms = 1000}};
	struct mesh_world w;

	session_open(&w, &c, stuck, 1, 1);
	mw_run(&w, 100);
	sn__call_answered(&c.call, &good);
	mw_run(&w, 100000);
	assert_int_equal(asked, 0);
	assert_int_equal(c.done, 0);
	sn__call_cancel(&c.call);
	mw_run(&w, 10);
	assert_int_equal(c.done, 1);
	mw_close(&w);
}

static void second_peer_when_nothing_left(void **state)
{
	struct mw_call c = {.done = 0};
	struct mesh_world w;

	session_open(&w, &c, refused, 2, 2);
	mw_run(&w, 1000);
	assert_int_equal(c.attempts, 2);
	assert_string_not_equal(c.peers[0], c.peers[1]);
	sn__call_cancel(&c.call);
	mw_run(&w, 10);
	assert_int_equal(c.code, SN_E_CANCELLED);
	mw_close(&w);
}

/* An answer that forbids another attempt, of a plain call. */
static void not_again(void **state)
{
	static const struct mw_step steps[] = {{.outcome = {.class = SN_OUTCOME_UNAVAILABLE,
								.sent = SN_SENT_YES,
								.phase = SN_PHASE_READ,
								.code = SN_E_STATUS,
								.retry_on = SN_RETRY_UNAVAILABLE,
								.retry_after_ms = -1,
								.not_again = true,
								.detail = "status 14"}},
			MW_OK};
	struct mw_call c = {.call = {.safety = SN_IDEMPOTENT}};
	struct mesh_world w;

	mw_open(&w, 1);
	mw_peers(&w, 2);
	assert_int_equal(mw_start(&w, &c, steps, 2), 0);
	mw_run(&w, 5000);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.attempts, 1);
	assert_int_equal(c.code, SN_E_STATUS);
	assert_non_null(strstr(c.err.text, "asks not to try again"));
	mw_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(no_peer_in_time),
			cmocka_unit_test(open_for_ever),
			cmocka_unit_test(silence_is_no_success),
			cmocka_unit_test(its_own_deadline),
			cmocka_unit_test(answered_early),
			cmocka_unit_test(second_peer_when_nothing_left),
			cmocka_unit_test(not_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
