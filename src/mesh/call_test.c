/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of a call one by one: retry, budget, deadline, hints, refusals, cancel, close. */
#include "io/stream.h"
#include "mesh/mesh_world_test.h"

/* No jitter and no waits to think of, unless a test says otherwise. */
#define PLAIN "\"retry-jitter\":\"none\",\"retry-initial-delay\":100"

static void answered(void **state)
{
	struct mesh_world w;
	struct mw_call c = {0};

	mw_open(&w, 1);
	mw_peers(&w, 3);
	mw_call(&w, &c, MW_OK);
	assert_int_equal(c.code, 0);
	assert_int_equal(c.attempts, 1);
	assert_int_equal(sn__mesh_calls(w.mesh), 0);
	mw_close(&w);
}

static void story_of_three_attempts(void **state)
{
	struct mesh_world w;
	struct mw_call c = {0};
	struct sn_record rec;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{" PLAIN "}}");
	mw_peers(&w, 3);
	mw_call(&w, &c, MW_503, MW_RESET, MW_503);
	assert_int_equal(c.code, SN_E_STATUS);
	assert_int_equal(c.err.n_attempts, 3);
	assert_string_equal(c.err.attempts[0].decision, "retry in 100 ms");
	assert_string_equal(c.err.attempts[1].decision, "retry in 200 ms");
	assert_string_equal(c.err.attempts[2].decision, "give up: attempts used up");
	assert_int_equal(c.err.attempts[1].code, SN_E_RESET);
	assert_int_equal(c.err.attempts[1].phase, SN_PHASE_WAIT);
	assert_non_null(strstr(c.err.attempts[0].peer, " 10.0.0."));
	assert_non_null(strstr(c.err.text, "service s/default: 3 attempts; last: "));
	assert_true(c.err.retriable);
	/* Peers that failed are avoided while others exist. */
	assert_string_not_equal(c.peers[0], c.peers[1]);
	assert_string_not_equal(c.peers[1], c.peers[2]);
	assert_string_not_equal(c.peers[0], c.peers[2]);
	/* The recorder tells the same under the id of the error. */
	assert_int_equal(strlen(c.err.call_id), 16);
	assert_int_equal(sn__recorder_find(w.recorder, c.call.id, &rec, NULL), 0);
	assert_int_equal(rec.n_attempts, 3);
	assert_string_equal(rec.text, c.err.text);
	mw_close(&w);
}

static void unsafe_is_not_repeated(void **state)
{
	struct mesh_world w;
	struct mw_call post = {.call.safety = SN_UNSAFE}, keyed = {.call.safety = SN_KEYED},
		       all = {.call.safety = SN_UNSAFE, .call.retry = SN_RETRY_ALL},
		       berlioz = {.call.safety = SN_UNSAFE, .call.dialect = SN_DIALECT_BERLIOZ},
		       safe_only = {.call.safety = SN_UNSAFE,
				       .call.dialect = SN_DIALECT_BERLIOZ,
				       .call.retry = SN_RETRY_SAFE},
		       unsent = {.call.safety = SN_UNSAFE, .call.retry = SN_RETRY_SAFE};

	mw_open(&w, 1);
	mw_peers(&w, 3);
	mw_call(&w, &post, MW_RESET, MW_OK);
	assert_int_equal(post.attempts, 1);
	assert_string_equal(post.err.attempts[0].decision, "give up: unsafe to repeat");
	mw_call(&w, &keyed, MW_RESET, MW_OK);
	assert_int_equal(keyed.code, 0);
	mw_call(&w, &all, MW_RESET, MW_OK);
	assert_int_equal(all.code, 0);
	mw_call(&w, &berlioz, MW_RESET, MW_OK);
	assert_int_equal(berlioz.code, 0);
	mw_call(&w, &safe_only, MW_RESET, MW_OK);
	assert_int_equal(safe_only.attempts, 1);
	mw_call(&w, &unsent, MW_REFUSED, MW_OK);
	assert_int_equal(unsent.code, 0);
	mw_close(&w);
}

static void what_is_final(void **state)
{
	struct mesh_world w;
	struct mw_call off = {.call.retry = SN_RETRY_NONE}, not_on = {0}, body = {0},
		       rejected = {0}, begin = {0};

	mw_open(&w, 1);
	mw_peers(&w, 3);
	mw_call(&w, &off, MW_503, MW_OK);
	assert_string_equal(off.err.attempts[0].decision, "give up: retries are off");
	mw_call(&w, &not_on, MW_500, MW_OK); /* 500 is retried in the berlioz dialect only */
	assert_string_equal(not_on.err.attempts[0].decision, "give up: not in retry-on");
	mw_call(&w, &body,
			{.outcome = {.class = SN_OUTCOME_FAILED,
					 .sent = SN_SENT_MAYBE,
					 .retry_on = SN_RETRY_RESET,
					 .code = SN_E_RESET,
					 .retry_after_ms = -1,
					 .not_replayable = true}},
			MW_OK);
	assert_string_equal(
			body.err.attempts[0].decision, "give up: the body cannot be sent again");
	mw_call(&w, &rejected,
			{.outcome = {.class = SN_OUTCOME_REJECTED,
					 .sent = SN_SENT_YES,
					 .code = SN_E_TLS,
					 .retry_on = SN_RETRY_CONNECT,
					 .retry_after_ms = -1}},
			MW_OK);
	assert_int_equal(rejected.code, SN_E_TLS);
	assert_int_equal(rejected.attempts, 1);
	mw_call(&w, &begin, {.refuse = SN_E_NOMEM}, MW_OK);
	assert_int_equal(begin.code, SN_E_NOMEM);
	assert_int_equal(begin.attempts, 0);
	mw_close(&w);
}

static void first_connect_failures_are_free(void **state)
{
	struct mesh_world w;
	struct mw_call c = {.call.safety = SN_UNSAFE},
		       berlioz = {.call.dialect = SN_DIALECT_BERLIOZ}, one = {0};

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{" PLAIN ",\"retry-count\":1}}");
	mw_peers(&w, 5);
	/* Three distinct peers for nothing; the fourth failure counts, and one is all there is. */
	mw_call(&w, &c, MW_REFUSED);
	assert_int_equal(c.attempts, 4);
	assert_string_equal(c.err.attempts[0].decision, "retry at once at another peer");
	assert_string_equal(c.err.attempts[3].decision, "give up: attempts used up");
	for (int i = 0; i < 4; i++) {
		for (int k = 0; k < i; k++)
			assert_string_not_equal(c.peers[i], c.peers[k]);
	}
	mw_call(&w, &berlioz, MW_REFUSED);
	assert_int_equal(berlioz.attempts, 1);
	mw_peers(&w, 1); /* nobody else to go to */
	mw_call(&w, &one, MW_REFUSED);
	assert_int_equal(one.attempts, 1);
	mw_close(&w);
}

static void budget_ends_retries(void **state)
{
	struct mesh_world w;
	unsigned retries = 0, marked = 0;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{\"retry-initial-delay\":0,\"breaker\":false}}");
	mw_peers(&w, 3);
	for (int i = 0; i < 60; i++) {
		struct mw_call c = {0};

		mw_call(&w, &c, MW_503);
		retries += c.attempts - 1;
		if (strstr(c.err.text, "budget") != NULL) {
			assert_string_equal(c.err.attempts[c.err.n_attempts - 1].decision,
					"give up: budget");
			marked++;
		}
	}
	/* 30 to begin with, and a fifth of 60 calls; over a few seconds at 10 ms a step. */
	assert_true(retries >= 30 && retries <= 30 + 12);
	assert_true(marked > 0);
	mw_close(&w);
}

static void deadline_bounds_everything(void **state)
{
	struct mesh_world w;
	struct mw_call stuck = {.call.deadline_ms = 700}, wait = {.call.deadline_ms = 700},
		       inherited = {0};
	struct sn_context ctx = {.size = sizeof ctx, .deadline_ms = 300};
	uint64_t start;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{\"retry-jitter\":\"none\",\"timeout\":500,\"breaker\":false}}");
	mw_peers(&w, 2);
	start = sn__sim_now_ns(w.sim);
	mw_call(&w, &stuck, MW_STUCK); /* 500 ms, and no time for a wait of 500 ms */
	assert_int_equal(stuck.code, SN_E_TIMEOUT);
	assert_string_equal(stuck.err.attempts[0].decision, "give up: no time left");
	assert_string_equal(stuck.err.attempts[0].detail, "no answer within 500 ms");
	assert_true(stuck.done_ns - start < 600 * SN_NS_PER_MS);
	mw_call(&w, &wait, MW_503, MW_STUCK); /* 503 at once, 500 ms, 200 ms are left */
	assert_int_equal(wait.code, SN_E_DEADLINE);
	assert_int_equal(wait.attempts, 2);
	start = sn__sim_now_ns(w.sim);
	inherited.call.context = &ctx;
	mw_call(&w, &inherited, MW_STUCK);
	assert_int_equal(inherited.code, SN_E_DEADLINE);
	assert_true(inherited.done_ns - start < 350 * SN_NS_PER_MS);
	mw_close(&w);
}

#define HINTED(ms_) \
	{ \
		.outcome = { \
			.class = SN_OUTCOME_THROTTLED, \
			.sent = SN_SENT_YES, \
			.code = SN_E_STATUS, \
			.foreign = 429, \
			.retry_after_ms = (ms_), \
			.detail = "status 429" \
		} \
	}

static void hints(void **state)
{
	struct mesh_world w;
	struct mw_call no_hint = {0}, waits = {0}, too_long = {0}, others = {0}, refused = {0};
	uint64_t start;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{" PLAIN "}}");
	mw_peers(&w, 1);
	mw_call(&w, &no_hint, HINTED(-1), MW_OK); /* 429: only after its hint */
	assert_int_equal(no_hint.attempts, 1);
	start = sn__sim_now_ns(w.sim);
	mw_call(&w, &waits, HINTED(2000), MW_OK);
	assert_int_equal(waits.code, 0);
	assert_true(waits.done_ns - start >= 2000 * SN_NS_PER_MS);
	start = sn__sim_now_ns(w.sim);
	mw_call(&w, &too_long, HINTED(20000), MW_OK); /* the deadline is 15 s */
	assert_string_equal(too_long.err.attempts[0].decision, "give up: no time left");
	assert_true(too_long.done_ns - start < 50 * SN_NS_PER_MS);
	/* The peer asked to be left alone: others' calls do, too. */
	mw_call(&w, &refused, MW_OK);
	assert_int_equal(refused.code, SN_E_BREAKER);
	assert_non_null(strstr(refused.err.text, "asked to be left alone"));
	mw_peers(&w, 3);
	start = sn__sim_now_ns(w.sim);
	mw_call(&w, &others, HINTED(9000), MW_OK); /* another peer is asked after the usual wait */
	assert_int_equal(others.code, 0);
	assert_true(others.done_ns - start < 300 * SN_NS_PER_MS);
	mw_close(&w);
}

static void open_breakers_refuse(void **state)
{
	struct mesh_world w;
	struct mw_call c = {0}, after = {0};

	mw_open(&w, 1);
	mw_policies(&w,
			"{\"values\":{" PLAIN ",\"retry-count\":4,"
			"\"breaker-consecutive-failures\":2,\"breaker-open\":5000}}");
	mw_peers(&w, 1);
	/* The refusal ends it; the last real failure is the error, the refusal its last line. */
	mw_call(&w, &c, MW_503);
	assert_int_equal(c.code, SN_E_STATUS);
	assert_int_equal(c.attempts, 2);
	assert_int_equal(c.err.n_attempts, 3);
	assert_int_equal(c.err.n_attempts_all, 2);
	assert_int_equal(c.err.attempts[2].code, SN_E_BREAKER);
	assert_string_equal(c.err.attempts[2].decision, "give up: refused");
	mw_call(&w, &after, MW_OK);
	assert_int_equal(after.code, SN_E_BREAKER);
	assert_int_equal(after.attempts, 0);
	assert_non_null(strstr(after.err.text, "next probe in "));
	/* When its time is over the next safe call is the probe, and seven close it. */
	mw_run(&w, 8000);
	for (int i = 0; i < 7; i++) {
		struct mw_call probe = {0};

		assert_string_not_equal(sn__breaker_name(mw_state(&w, "1")->breaker), "closed");
		mw_call(&w, &probe, MW_OK);
		assert_int_equal(probe.code, 0);
	}
	assert_string_equal(sn__breaker_name(mw_state(&w, "1")->breaker), "closed");
	mw_close(&w);
}

static void unsafe_takes_no_probe_from_others(void **state)
{
	struct mesh_world w;

	mw_open(&w, 1);
	mw_peers(&w, 2);
	(void)mw_state(&w, "1");
	for (int i = 0; i < 2; i++) { /* barred and due */
		struct sn_peer_state *ps = mw_state(&w, "1");

		assert_non_null(sn__mesh_breaker(ps));
		ps->breaker->state = SN_BREAKER_OPEN;
		ps->breaker->due_ns = 0;
		sn__mesh_breaker_changed(ps);
	}
	for (int i = 0; i < 20; i++) {
		struct mw_call c = {.call.safety = SN_UNSAFE};

		mw_call(&w, &c, MW_OK);
		assert_string_equal(c.peers[0], "2");
	}
	mw_peers(&w, 1); /* nothing else is left */
	for (int i = 0; i < 1; i++) {
		struct mw_call c = {.call.safety = SN_UNSAFE};

		mw_call(&w, &c, MW_OK);
		assert_string_equal(c.peers[0], "1");
	}
	mw_close(&w);
}

static void safe_call_takes_a_due_probe_first(void **state)
{
	struct mesh_world w;
	struct sn_peer_state *ps;

	mw_open(&w, 1);
	mw_peers(&w, 8);
	for (unsigned i = 1; i <= 8; i++) {
		char id[4];

		(void)snprintf(id, sizeof id, "%u", i);
		sn__peer_state_observe(mw_state(&w, id), i * SN_NS_PER_MS, sn__loop_now_ns(w.loop));
	}
	ps = mw_state(&w, "5");
	assert_non_null(sn__mesh_breaker(ps));
	ps->breaker->state = SN_BREAKER_OPEN;
	sn__mesh_breaker_changed(ps);
	for (int i = 0; i < 7; i++) {
		struct mw_call c = {0};

		mw_call(&w, &c, MW_OK);
		assert_string_equal(c.peers[0], "5");
	}
	assert_string_equal(sn__breaker_name(ps->breaker), "closed");
	/* Closed: it costs what the others cost in the middle, whatever its probes took. */
	assert_true(sn__peer_state_cost(ps, sn__loop_now_ns(w.loop)) > 3e6);
	assert_true(sn__peer_state_cost(ps, sn__loop_now_ns(w.loop)) < 7e6);
	mw_close(&w);
}

static void limits_queue_in_order(void **state)
{
	static const struct mw_step slow = {.delay_ms = 50, .outcome = {.retry_after_ms = -1}};
	struct mw_call calls[7] = {0};
	struct mesh_world w;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{\"max-inflight\":2,\"max-pending\":4}}");
	mw_peers(&w, 3);
	for (int i = 0; i < 7; i++)
		assert_int_equal(mw_start(&w, &calls[i], &slow, 1), 0);
	assert_int_equal(calls[6].done, 0); /* refused, but told later */
	mw_run(&w, 1);
	assert_int_equal(calls[6].code, SN_E_OVERLOAD);
	assert_non_null(strstr(calls[6].err.text, "2 calls in flight and 4 waiting"));
	mw_run(&w, 1000);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(calls[i].done, 1);
		assert_int_equal(calls[i].code, 0);
		if (i > 0)
			assert_true(calls[i].done_ns >= calls[i - 1].done_ns);
	}
	mw_close(&w);
}

static void waits_for_a_first_peer(void **state)
{
	static const struct mw_step fine = {.outcome = {.retry_after_ms = -1}};
	struct mw_call c = {0}, never = {0}, at_once = {.call.dialect = SN_DIALECT_BERLIOZ};
	struct mesh_world w;
	uint64_t start;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{\"retry-count\":1}}");
	assert_int_equal(mw_start(&w, &c, &fine, 1), 0);
	mw_run(&w, 1000);
	assert_int_equal(c.done, 0);
	mw_peers(&w, 1);
	mw_run(&w, 10);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.code, 0);
	mw_peers(&w, 0);
	start = sn__sim_now_ns(w.sim);
	mw_call(&w, &never, MW_OK);
	assert_int_equal(never.code, SN_E_NO_PEER);
	assert_true(never.done_ns - start >= 3000 * SN_NS_PER_MS);
	assert_true(never.done_ns - start < 3100 * SN_NS_PER_MS);
	start = sn__sim_now_ns(w.sim);
	mw_call(&w, &at_once, MW_OK);
	assert_int_equal(at_once.code, SN_E_NO_PEER);
	assert_true(at_once.done_ns - start < 50 * SN_NS_PER_MS);
	mw_close(&w);
}

static void cancel_at_every_stage(void **state)
{
	static const struct mw_step stuck = MW_STUCK, fails = MW_503;
	struct mw_call running = {0}, sleeping = {0}, waiting = {0};
	struct mesh_world w;

	mw_open(&w, 1);
	mw_peers(&w, 1);
	mw_policies(&w, "{\"values\":{\"retry-jitter\":\"none\"}}");
	assert_int_equal(mw_start(&w, &running, &stuck, 1), 0);
	mw_run(&w, 10);
	sn__call_cancel(&running.call);
	sn__call_cancel(&running.call);
	assert_int_equal(running.done, 0);
	mw_run(&w, 20);
	assert_int_equal(running.code, SN_E_CANCELLED);
	assert_int_equal(running.aborted, 1);
	assert_null(mw_state(&w, "1")->breaker); /* counts as nothing */
	assert_int_equal(mw_start(&w, &sleeping, &fails, 1), 0);
	mw_run(&w, 100);
	assert_int_equal(sleeping.attempts, 1);
	sn__call_cancel(&sleeping.call);
	mw_run(&w, 1);
	assert_int_equal(sleeping.code, SN_E_CANCELLED);
	assert_int_equal(sleeping.err.n_attempts, 2);
	mw_peers(&w, 0);
	assert_int_equal(mw_start(&w, &waiting, &fails, 1), 0);
	sn__call_cancel(&waiting.call);
	assert_int_equal(waiting.done, 0);
	mw_run(&w, 1);
	assert_int_equal(waiting.code, SN_E_CANCELLED);
	mw_close(&w);
}

static void close_ends_everything(void **state)
{
	static const struct mw_step stuck = MW_STUCK, fails = MW_503;
	struct mw_call calls[3] = {0};
	struct mesh_world w;

	mw_open(&w, 1);
	mw_peers(&w, 1);
	mw_policies(&w, "{\"values\":{\"max-inflight\":1,\"retry-jitter\":\"none\"}}");
	assert_int_equal(mw_start(&w, &calls[1], &fails, 1), 0);
	mw_run(&w, 20);
	assert_int_equal(mw_start(&w, &calls[0], &stuck, 1), 0);
	assert_int_equal(mw_start(&w, &calls[2], &stuck, 1), 0);
	mw_run(&w, 20);
	sn__mesh_close(w.mesh, mw_on_closed, &w);
	for (int i = 0; i < 3; i++)
		assert_int_equal(calls[i].done, 0);
	mw_run(&w, 50);
	for (int i = 0; i < 3; i++)
		assert_int_equal(calls[i].code, SN_E_CLOSED);
	assert_true(w.closed);
	assert_int_equal(mw_start(&w, &calls[0], &stuck, 1), SN_E_CLOSED);
	mw_close(&w);
}

/* No peer at first, then one whose breaker is open: the refusal is no good end. */
static void no_peer_then_refused(void **state)
{
	static const struct mw_step ok = MW_OK;
	struct mw_call c = {.call.dialect = SN_DIALECT_BERLIOZ};
	struct mesh_world w;

	mw_open(&w, 1);
	assert_int_equal(mw_start(&w, &c, &ok, 1), 0);
	mw_run(&w, 20);
	mw_peers(&w, 1);
	assert_int_equal(sn__mesh_breaker_force(w.mesh, mw_target(&w), NULL, SN_BREAKER_FORCE_OPEN),
			0);
	mw_run(&w, 5000);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.code, SN_E_NO_PEER);
	assert_int_equal(c.attempts, 0);
	mw_close(&w);
}

static void forced_breakers(void **state)
{
	struct mw_call c = {0}, again = {0};
	struct mesh_world w;

	mw_open(&w, 1);
	mw_peers(&w, 2);
	assert_int_equal(sn__mesh_breaker_force(w.mesh, mw_target(&w), "9", SN_BREAKER_FORCE_OPEN),
			SN_E_NOT_FOUND);
	assert_int_equal(sn__mesh_breaker_force(w.mesh, mw_target(&w), NULL, SN_BREAKER_FORCE_OPEN),
			0);
	mw_call(&w, &c, MW_OK);
	assert_int_equal(c.code, SN_E_BREAKER);
	assert_non_null(strstr(c.err.text, "forced open"));
	assert_int_equal(sn__mesh_breaker_force(w.mesh, mw_target(&w), "2", SN_BREAKER_AUTO), 0);
	mw_call(&w, &again, MW_OK);
	assert_string_equal(again.peers[0], "2");
	mw_peers(&w, 4); /* who comes later is barred like the others */
	for (int i = 0; i < 20; i++) {
		struct mw_call later = {0};

		mw_call(&w, &later, MW_OK);
		assert_string_equal(later.peers[0], "2");
	}
	assert_int_equal(sn__mesh_breaker_force(w.mesh, mw_target(&w), NULL, SN_BREAKER_AUTO), 0);
	mw_peers(&w, 5);
	for (int i = 0; i < 20; i++) {
		struct mw_call later = {0};

		mw_call(&w, &later, MW_OK);
		assert_int_equal(later.code, 0);
	}
	mw_close(&w);
}

static void first_of_a_database(void **state)
{
	struct mesh_world w;
	struct mw_call fails = {0}, down = {0};

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{" PLAIN "}}");
	mw_peers_of(&w, "database", "d",
			"{\"2\":{\"address\":\"b\",\"port\":1},"
			"\"1\":{\"address\":\"a\",\"port\":1}}");
	fails.call.target = mw_target_of(&w, "database", "d");
	mw_call(&w, &fails, MW_503, MW_503, MW_OK);
	assert_string_equal(fails.peers[0], "1");
	assert_string_equal(fails.peers[1], "1"); /* it was there: it stays the first */
	down.call.target = fails.call.target;
	mw_call(&w, &down, MW_REFUSED, MW_OK);
	assert_string_equal(down.peers[0], "1");
	assert_string_equal(down.peers[1], "2");
	mw_close(&w);
}

static void sessions(void **state)
{
	static const struct sn_outcome fine = SN_OUTCOME_INIT;
	struct sn_permit p = {0}, full = {0};
	struct mesh_world w;
	struct sn_error err;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{\"max-inflight\":1,\"max-pending\":0}}");
	mw_peers(&w, 1);
	p.target = full.target = mw_target(&w);
	assert_int_equal(sn__admit(w.mesh, &p, &err), 0);
	assert_string_equal(p.state->identity, "1");
	assert_int_equal(sn__admit(w.mesh, &full, &err), SN_E_OVERLOAD);
	mw_run(&w, 5);
	sn__permit_opened(&p, &fine);
	assert_true(sn__peer_state_cost(p.state, sn__loop_now_ns(w.loop)) > 1e6);
	mw_run(&w, 100000);
	assert_int_equal(atomic_load(&p.state->inflight), 1);
	sn__permit_done(&p, NULL);
	assert_int_equal(sn__admit(w.mesh, &full, &err), 0);
	sn__permit_done(&full, NULL);
	mw_close(&w);
}

/* The answer of an attempt that a refusal followed can still be told whose it was. */
static void refused_call_keeps_its_peer(void **state)
{
	static const struct mw_step fails = MW_503;
	struct mw_call c = {0};
	struct mesh_world w;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{\"retry-jitter\":\"none\",\"retry-initial-delay\":5000}}");
	mw_peers(&w, 1);
	assert_int_equal(mw_start(&w, &c, &fails, 1), 0);
	mw_run(&w, 20);
	for (int i = 0; i < 4000; i++) { /* the peer leaves, its version is freed, others call */
		struct mw_call other = {.call.target = mw_target_of(&w, "service", "t")};

		mw_peers_of(&w, "service", "t",
				i % 2 == 0 ? "{\"1\":{\"address\":\"a\",\"port\":1}}"
					   : "{\"1\":{\"address\":\"b\",\"port\":1}}");
		if (i == 0)
			mw_peers(&w, 0);
		if (i % 20 == 0)
			mw_call(&w, &other, MW_OK);
	}
	assert_int_equal(c.done, 0);
	while (c.done == 0)
		mw_run(&w, 10);
	assert_int_equal(c.code, SN_E_NO_PEER);
	assert_string_equal(c.last_peer, "1 10.0.0.1:80");
	mw_close(&w);
}

/* ---- connects of our own ---- */

static const struct sn_call_ops tcp_ops = {
		.attempt = mw_attempt, .abort = mw_abort, .done = mw_done, .tcp = true};

static void on_accept(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	++*(unsigned *)arg;
	sn__stream_close(stream, false);
}

static void connect_comes_before_the_probe(void **state)
{
	struct sn_listener *listener;
	struct sn_addr addr;
	unsigned accepted = 0;
	struct mesh_world w;

	mw_open(&w, 1);
	mw_policies(&w,
			"{\"values\":{" PLAIN ",\"retry-count\":1,"
			"\"breaker-consecutive-failures\":2}}");
	mw_peers(&w, 1);
	for (int i = 0; i < 2; i++) {
		struct mw_call c = {.call.ops = &tcp_ops};

		mw_call(&w, &c, MW_REFUSED);
	}
	for (int i = 0; i < 3; i++) { /* nobody listens: no call is spent on finding out */
		struct mw_call c = {.call.ops = &tcp_ops};

		mw_run(&w, 15000);
		mw_call(&w, &c, MW_OK);
		assert_int_equal(c.code, SN_E_BREAKER);
		assert_int_equal(c.attempts, 0);
	}
	assert_int_equal(sn__addr_parse_listen(SN_STR("10.0.0.1:80"), &addr, NULL), 0);
	assert_int_equal(sn__listen(w.loop, &addr, NULL, on_accept, &accepted, &listener, NULL), 0);
	mw_run(&w, 60000);
	for (int i = 0; i < 7; i++) {
		struct mw_call c = {.call.ops = &tcp_ops};

		mw_call(&w, &c, MW_OK); /* the first waits for the connect */
		assert_int_equal(c.code, 0);
	}
	assert_int_equal(accepted, 1);
	assert_string_equal(sn__breaker_name(mw_state(&w, "1")->breaker), "closed");
	sn__listener_close(listener);
	mw_close(&w);
}

static void others_are_used_while_we_connect(void **state)
{
	struct sn_addr addr;
	struct mesh_world w;
	uint64_t start;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{" PLAIN ",\"breaker-consecutive-failures\":1}}");
	mw_peers(&w, 2);
	assert_int_equal(sn__addr_parse_listen(SN_STR("10.0.0.1:80"), &addr, NULL), 0);
	sn__sim_stall(w.sim, &addr, true);
	assert_non_null(sn__mesh_breaker(mw_state(&w, "1")));
	mw_state(&w, "1")->breaker->state = SN_BREAKER_OPEN;
	mw_state(&w, "1")->breaker->by_connect = true;
	sn__mesh_breaker_changed(mw_state(&w, "1"));
	start = sn__sim_now_ns(w.sim);
	for (int i = 0; i < 10; i++) {
		struct mw_call c = {.call.ops = &tcp_ops};

		mw_call(&w, &c, MW_OK);
		assert_string_equal(c.peers[0], "2");
	}
	assert_true(sn__sim_now_ns(w.sim) - start < 300 * SN_NS_PER_MS);
	mw_run(&w, 3000); /* connect-timeout: it opens again */
	assert_int_equal(mw_state(&w, "1")->breaker->state, SN_BREAKER_OPEN);
	mw_close(&w);
}

static void *slot_seen;

static void slot_gone(void *slot)
{
	slot_seen = slot;
}

static void peers_that_left_are_forgotten(void **state)
{
	struct mesh_world w;
	struct sn_peer_state *ps;

	slot_seen = NULL;
	mw_open(&w, 1);
	mw_peers(&w, 2);
	ps = mw_state(&w, "2");
	ps->slot = &w;
	ps->slot_destroy = slot_gone;
	mw_peers(&w, 3);
	assert_ptr_equal(mw_state(&w, "2"), ps); /* handed on */
	/* The version that showed it is freed with others, once there is enough garbage. */
	for (int i = 0; i < 20000 && slot_seen == NULL; i++) {
		struct mw_call c = {0};

		mw_peers(&w, i % 2 != 0 ? 1 : 0);
		if (i % 10 == 1)
			mw_call(&w, &c, MW_OK);
	}
	assert_ptr_equal(slot_seen, &w);
	mw_close(&w);
}

/* Found by an agent that changed every peer a thousand times a second: each call left more states
 * behind than it swept. */
static void flapping_peers_are_forgotten(void **state)
{
	struct mesh_world w;
	unsigned most = 0;

	mw_open(&w, 1);
	for (unsigned i = 0; i < 6000; i++) {
		struct mw_call c = {0};
		unsigned n = 0;
		char json[512];

		(void)snprintf(json, sizeof json,
				"{\"1\":{\"address\":\"10.0.0.1\",\"port\":%u},"
				"\"2\":{\"address\":\"10.0.0.2\",\"port\":%u},"
				"\"3\":{\"address\":\"10.0.0.3\",\"port\":%u}}",
				i + 1, i + 1, i + 1);
		mw_peers_of(&w, "service", "s", json);
		mw_call(&w, &c, MW_OK);
		SN_LIST_FOREACH (pos, &w.mesh->states)
			n++;
		most = SN_MAX(most, n);
	}
	/* Versions wait for 256 KiB of garbage, some 500 of them; then their states go. */
	assert_in_range(most, 3, 2000);
	mw_close(&w);
}

static void metrics_and_sampling(void **state)
{
	struct mesh_world w;
	struct mw_call c = {0};
	struct sn_record rec;
	struct sn_buf out;

	mw_open(&w, 1);
	mw_policies(&w, "{\"values\":{" PLAIN ",\"why-sample\":10}}");
	mw_peers(&w, 2);
	for (int i = 0; i < 20; i++) {
		struct mw_call one = {0};
		int want = i % 10 == 0 ? 0 : SN_E_NOT_FOUND;

		mw_call(&w, &one, MW_OK);
		assert_int_equal(sn__recorder_find(w.recorder, one.call.id, &rec, NULL), want);
	}
	mw_call(&w, &c, MW_503, MW_OK);
	assert_int_equal(sn__recorder_find(w.recorder, c.call.id, &rec, NULL), 0);
	assert_int_equal(rec.code, 0);
	assert_int_equal(rec.n_attempts, 1); /* the one that failed */
	sn__buf_init(&out, 1 << 20);
	assert_int_equal(sn__metrics_render(w.metrics, &out), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_non_null(strstr(sn__buf_data(&out),
			"sinew_calls_total{target=\"service s/default\",outcome=\"ok\"} 21\n"));
	assert_non_null(strstr(sn__buf_data(&out),
			"sinew_attempts_total{target=\"service s/default\"} 22\n"));
	assert_non_null(strstr(sn__buf_data(&out),
			"sinew_retries_total{target=\"service s/default\",reason=\"status\"} 1\n"));
	assert_non_null(strstr(sn__buf_data(&out),
			"sinew_breaker_state{target=\"service s/default\",peer=\"1\"} 0\n"));
	assert_non_null(strstr(
			sn__buf_data(&out), "sinew_budget_tokens{target=\"service s/default\"} "));
	sn__buf_finish(&out);
	mw_close(&w);
}

/* Memory may be out at any moment of a call that fails, retries and waits: it still ends once. */
static void out_of_memory_in_a_call(void **state)
{
	static const struct mw_step steps[] = {MW_503, MW_REFUSED, MW_503};
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct mw_call c = {0}, ok = {0};
		struct mesh_world w;
		int r;

		mw_open(&w, 1);
		mw_peers(&w, 3);
		c.call.target = mw_target(&w);
		sn__mem_fail_nth(n);
		r = mw_start(&w, &c, steps, 3);
		if (r == 0)
			mw_run(&w, 20000);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(c.done, r == 0 ? 1 : 0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		assert_true(r != 0 || c.code < 0);
		mw_call(&w, &ok, MW_OK);
		assert_int_equal(ok.code, 0);
		mw_close(&w);
	}
}

static void out_of_memory_at_opening(void **state)
{
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct mesh_world w;
		int r;

		mw_init(&w, 1);
		sn__mem_fail_nth(n);
		r = mw_try_open(&w);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		mw_close(&w);
	}
}

/* What a call of a known target takes from the heap: nothing. */
static void no_allocation_when_all_is_well(void **state)
{
	struct mesh_world w;
	uint64_t before = 0;

	mw_open(&w, 1);
	mw_peers(&w, 3);
	for (int i = 0; i < 300; i++) {
		struct mw_call c = {0};

		if (i == 200) /* the first ones meet every peer */
			before = sn__mem_count();
		mw_call(&w, &c, MW_OK);
	}
	assert_int_equal(sn__mem_count(), before);
	mw_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(answered),
			cmocka_unit_test(story_of_three_attempts),
			cmocka_unit_test(unsafe_is_not_repeated),
			cmocka_unit_test(what_is_final),
			cmocka_unit_test(first_connect_failures_are_free),
			cmocka_unit_test(budget_ends_retries),
			cmocka_unit_test(deadline_bounds_everything),
			cmocka_unit_test(hints),
			cmocka_unit_test(open_breakers_refuse),
			cmocka_unit_test(unsafe_takes_no_probe_from_others),
			cmocka_unit_test(safe_call_takes_a_due_probe_first),
			cmocka_unit_test(limits_queue_in_order),
			cmocka_unit_test(waits_for_a_first_peer),
			cmocka_unit_test(cancel_at_every_stage),
			cmocka_unit_test(close_ends_everything),
			cmocka_unit_test(forced_breakers),
			cmocka_unit_test(no_peer_then_refused),
			cmocka_unit_test(first_of_a_database),
			cmocka_unit_test(sessions),
			cmocka_unit_test(refused_call_keeps_its_peer),
			cmocka_unit_test(connect_comes_before_the_probe),
			cmocka_unit_test(others_are_used_while_we_connect),
			cmocka_unit_test(peers_that_left_are_forgotten),
			cmocka_unit_test(flapping_peers_are_forgotten),
			cmocka_unit_test(metrics_and_sampling),
			cmocka_unit_test(out_of_memory_in_a_call),
			cmocka_unit_test(out_of_memory_at_opening),
			cmocka_unit_test(no_allocation_when_all_is_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
