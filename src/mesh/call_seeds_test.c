/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Property test: random worlds of peers that are well, slow, failing, refusing, silent, throttling;
 * policies, catalog and breakers that change; calls of every kind, some cancelled. Whatever the seed:
 *
 *	- every call ends exactly once, by its deadline, never inside sn__call_start()
 *	- an unsafe request is never sent twice unless it was allowed
 *	- attempts never exceed retry-count and the three free ones; retries never exceed the budget
 *	- a half-open breaker never has more probes under way than its stage
 *	- who waits is granted in order
 *	- in the end nothing is in flight, and when all is well again every breaker closes
 *
 * SINEW_SEEDS: how many (200); SINEW_SEED: only this one.
 */
#include "io/stream.h"
#include "mesh/mesh_world_test.h"

#define MAX_PEERS 6
#define MAX_CALLS 48
#define RETRY_COUNT_MAX 5
#define DAY_MS UINT64_C(86400000)

enum mood { WELL, SLOW, ERROR_500, UNAVAILABLE, RESETS, REFUSES, SILENT, THROTTLES, MOODS };

struct seed_call {
	struct sn_call call;
	struct seed *s;
	struct sn_timer timer, cancel;
	struct sn_outcome outcome;
	bool running, in_start, allowed_twice, has_deadline, waited;
	unsigned done, attempts, bytes_sent;
	uint64_t queue_no;
	uint64_t due_ns; /* the end must have come by then */
	uint64_t max_attempt_ns;
};

struct seed {
	struct mesh_world w;
	struct sn_rng rng;
	uint64_t number;
	enum mood moods[MAX_PEERS + 1]; /* by identity */
	struct sn_listener *listeners[MAX_PEERS + 1];
	struct seed_call calls[MAX_CALLS];
	unsigned n_calls, retries;
	uint64_t queue_no, granted_no;
	bool tcp, forces;
};

static uint64_t below(struct seed *s, uint64_t n)
{
	return sn__rng_below(&s->rng, n);
}

static bool chance(struct seed *s, unsigned percent)
{
	return below(s, 100) < percent;
}

#define CHECK(s, cond) \
	do { \
		if (!(cond)) \
			fail_msg("seed %llu: %s", (unsigned long long)(s)->number, #cond); \
	} while (0)

/* ---- peers ---- */

static void on_accept(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	sn__stream_close(stream, false);
}

static struct sn_addr addr_of(unsigned peer)
{
	struct sn_addr addr;
	char text[32];

	(void)snprintf(text, sizeof text, "10.0.0.%u:80", peer);
	assert_int_equal(sn__addr_parse_listen(sn_str_from(text), &addr, NULL), 0);
	return addr;
}

static void set_mood(struct seed *s, unsigned peer, enum mood mood)
{
	struct sn_addr addr = addr_of(peer);

	s->moods[peer] = mood;
	sn__sim_refuse(s->w.sim, &addr, mood == REFUSES);
	sn__sim_stall(s->w.sim, &addr, mood == SILENT);
}

static void outcome_of(struct seed *s, enum mood mood, struct sn_outcome *o)
{
	*o = (struct sn_outcome)SN_OUTCOME_INIT;
	o->sent = SN_SENT_YES;
	o->phase = SN_PHASE_READ;
	if (mood == WELL || mood == SLOW)
		return;
	o->class = mood == THROTTLES          ? SN_OUTCOME_THROTTLED
			: mood == UNAVAILABLE ? SN_OUTCOME_UNAVAILABLE
					      : SN_OUTCOME_FAILED;
	o->code = SN_E_STATUS;
	o->retry_on = SN_RETRY_5XX;
	(void)snprintf(o->detail, sizeof o->detail, "mood %d", mood);
	if (mood == UNAVAILABLE)
		o->retry_on |= SN_RETRY_503;
	if ((mood == UNAVAILABLE || mood == THROTTLES) && chance(s, 50))
		o->retry_after_ms = (int64_t)below(s, 5000);
	if (mood == RESETS || mood == SILENT) {
		o->code = SN_E_RESET;
		o->retry_on = SN_RETRY_RESET;
		o->sent = chance(s, 50) ? SN_SENT_MAYBE : SN_SENT_YES;
		o->phase = SN_PHASE_WAIT;
		o->not_replayable = chance(s, 10);
	}
	if (mood == REFUSES) {
		o->code = SN_E_CONNECT;
		o->retry_on = SN_RETRY_CONNECT;
		o->sent = SN_SENT_NO;
		o->phase = SN_PHASE_CONNECT;
	}
}

/* ---- the transport ---- */

static void attempt_over(struct sn_timer *t)
{
	struct seed_call *c = SN_CONTAINER_OF(t, struct seed_call, timer);

	CHECK(c->s, c->running);
	c->running = false;
	sn__call_attempt_done(&c->call, &c->outcome);
}

static void check_breaker(struct seed *s, const struct sn_peer_state *ps)
{
	const struct sn_breaker *b = ps->breaker;
	unsigned leases = 0;

	if (b == NULL)
		return;
	for (int i = 0; i < SN_BREAKER_PROBES; i++)
		leases += b->lease_ns[i] != 0;
	CHECK(s,
			b->state != SN_BREAKER_HALF_OPEN ||
					(b->granted <= b->stage && leases <= b->stage));
	CHECK(s, b->state == SN_BREAKER_HALF_OPEN || leases == 0);
	CHECK(s, (atomic_load(&ps->barred) != 0) == sn__breaker_barred(b));
}

static int attempt(struct sn_call *call)
{
	struct seed_call *c = SN_CONTAINER_OF(call, struct seed_call, call);
	struct sn_peer_state *ps = call->permit.state;
	struct seed *s = c->s;
	enum mood mood = s->moods[ps->identity[0] - '0'];

	CHECK(s, !c->running && c->done == 0);
	CHECK(s, atomic_load(&ps->inflight) > 0);
	check_breaker(s, ps);
	if (c->queue_no != 0 && call->attempt == 1) { /* its first wait, not one after "no peer" */
		CHECK(s, c->queue_no > s->granted_no);
		s->granted_no = c->queue_no;
	}
	if (chance(s, 1))
		return SN_E_NOMEM;
	if (c->attempts++ > 0)
		s->retries++;
	CHECK(s, c->attempts <= RETRY_COUNT_MAX + SN_CALL_FREE_RETRIES);
	CHECK(s, c->bytes_sent == 0 || c->allowed_twice);
	outcome_of(s, mood, &c->outcome);
	c->bytes_sent += c->outcome.sent != SN_SENT_NO;
	c->running = true;
	if (mood != SILENT)
		sn__timer_start(s->w.loop, &c->timer,
				below(s, mood == SLOW ? 8000 : 80) * SN_NS_PER_MS, attempt_over);
	return 0;
}

static void on_abort(struct sn_call *call, int code)
{
	struct seed_call *c = SN_CONTAINER_OF(call, struct seed_call, call);

	CHECK(c->s, c->running);
	/* Now and then the answer was already on its way. */
	if (!chance(c->s, 5) || c->outcome.class != SN_OUTCOME_OK) {
		c->outcome.class = SN_OUTCOME_FAILED;
		c->outcome.code = code;
	}
	sn__timer_start(c->s->w.loop, &c->timer, 0, attempt_over);
}

static void on_done(struct sn_call *call, const struct sn_error *err)
{
	struct seed_call *c = SN_CONTAINER_OF(call, struct seed_call, call);

	CHECK(c->s, !c->in_start && !c->running && c->done == 0);
	c->done++;
	sn__timer_stop(c->s->w.loop, &c->cancel);
	/* A wheel slot for the timer and one for the answer to the abort. */
	CHECK(c->s, sn__loop_now_ns(c->s->w.loop) <= c->due_ns + 40 * SN_NS_PER_MS);
	if (err == NULL)
		return;
	CHECK(c->s, err->code < 0 && err->text[0] != '\0' && strlen(err->call_id) == 16);
	for (uint32_t i = 0; i < err->n_attempts; i++)
		CHECK(c->s,
				err->attempts[i].decision[0] != '\0' &&
						err->attempts[i].detail[0] != '\0');
}

static const struct sn_call_ops ops = {.attempt = attempt, .abort = on_abort, .done = on_done};
static const struct sn_call_ops tcp_ops = {
		.attempt = attempt, .abort = on_abort, .done = on_done, .tcp = true};

/* ---- what happens ---- */

static void on_cancel(struct sn_timer *t)
{
	sn__call_cancel(&SN_CONTAINER_OF(t, struct seed_call, cancel)->call);
}

static void start_call(struct seed *s, struct seed_call *c, bool plain)
{
	struct sn_call *call = &c->call;
	const struct sn_policy *p;
	uint64_t now = sn__loop_now_ns(s->w.loop);

	memset(c, 0, sizeof *c);
	c->s = s;
	call->ops = s->tcp ? &tcp_ops : &ops;
	call->target = mw_target(&s->w);
	call->safety = (enum sn_safety)below(s, 4);
	call->retry = (enum sn_retry)below(s, 4);
	call->dialect = (enum sn_dialect)below(s, 2);
	call->timeout_ms = chance(s, 30) ? 1 + (uint32_t)below(s, 3000) : 0;
	call->deadline_ms = chance(s, 70) ? 1 + (uint32_t)below(s, 20000) : 0;
	if (plain) {
		call->safety = SN_SAFE;
		call->deadline_ms = 0;
	}
	p = sn__mesh_policy(s->w.mesh, call->target, call->dialect);
	/* What is allowed when it starts may be forbidden later; what never is may not happen. */
	c->allowed_twice = call->safety != SN_UNSAFE || call->retry == SN_RETRY_ALL ||
			(call->retry == SN_RETRY_POLICY && call->dialect == SN_DIALECT_BERLIOZ);
	c->due_ns = call->deadline_ms != 0 ? now + sn_ms_to_ns(call->deadline_ms)
			: p->deadline != 0 ? now + sn_ms_to_ns(p->deadline)
					   : now + sn_ms_to_ns(DAY_MS);
	c->in_start = true;
	CHECK(s, sn__call_start(s->w.mesh, call) == 0);
	c->in_start = false;
	CHECK(s, c->done == 0);
	if (c->attempts == 0 && call->permit.link.next != NULL &&
			!sn_list_empty(&call->permit.link))
		c->queue_no = ++s->queue_no;
	if (chance(s, 10))
		sn__timer_start(s->w.loop, &c->cancel, below(s, 3000) * SN_NS_PER_MS, on_cancel);
}

static void random_policies(struct seed *s)
{
	static const char *const balances[] = {
			"default", "random", "round-robin", "least-request", "peak-ewma", "first"};
	char json[640];

	(void)snprintf(json, sizeof json,
			"{\"values\":{\"retry-count\":%u,\"retry-initial-delay\":%u,"
			"\"timeout\":%u,\"deadline\":%u,\"breaker\":%s,\"breaker-consecutive-failures\":%u,"
			"\"breaker-min-requests\":%u,\"breaker-open\":%u,\"max-inflight\":%u,\"max-pending\":%u,"
			"\"no-peer-wait\":%u,\"balance\":\"%s\",\"retry-budget-min\":%u,"
			"\"connect-timeout\":%u}}",
			(unsigned)below(s, RETRY_COUNT_MAX + 1), (unsigned)below(s, 300),
			1 + (unsigned)below(s, 4000),
			chance(s, 50) ? 1 + (unsigned)below(s, 20000) : 0,
			chance(s, 85) ? "true" : "false", 1 + (unsigned)below(s, 8),
			1 + (unsigned)below(s, 20), 1 + (unsigned)below(s, 3000),
			1 + (unsigned)below(s, 10), (unsigned)below(s, 30),
			(unsigned)below(s, 4000), balances[below(s, SN_COUNT(balances))],
			(unsigned)below(s, 20), 1 + (unsigned)below(s, 1000));
	mw_policies(&s->w, json);
}

static void something_happens(struct seed *s)
{
	unsigned peer = 1 + (unsigned)below(s, MAX_PEERS);
	char identity[2] = {(char)('0' + peer), '\0'};

	switch (below(s, 12)) {
	case 0:
		mw_peers(&s->w, (unsigned)below(s, MAX_PEERS + 1));
		break;
	case 1:
		if (chance(s, 30))
			random_policies(s);
		break;
	case 2:
		if (s->forces)
			(void)!sn__mesh_breaker_force(s->w.mesh, mw_target(&s->w),
					chance(s, 50) ? identity : NULL,
					(enum sn_breaker_force)below(s, 3));
		break;
	case 3:
	case 4:
	case 5:
		set_mood(s, peer, (enum mood)below(s, MOODS));
		break;
	default:
		if (s->n_calls < MAX_CALLS)
			start_call(s, &s->calls[s->n_calls++], false);
		break;
	}
	if (chance(s, 60))
		mw_run(&s->w, below(s, chance(s, 10) ? 5000 : 200));
}

/* ---- the end ---- */

static void all_ended(struct seed *s)
{
	struct sn_mesh_target *mt = sn__mesh_target(s->w.mesh, mw_target(&s->w));

	for (unsigned i = 0; i < s->n_calls; i++)
		CHECK(s, s->calls[i].done == 1);
	CHECK(s, sn__mesh_calls(s->w.mesh) == 0);
	CHECK(s, mt->inflight == 0 && mt->n_pending == 0 && sn_list_empty(&mt->pending));
	SN_LIST_FOREACH (l, &s->w.mesh->states) {
		const struct sn_peer_state *ps = SN_CONTAINER_OF(l, struct sn_peer_state, link);

		CHECK(s, atomic_load(&ps->inflight) == 0);
		check_breaker(s, ps);
	}
}

static void on_stat(const struct sn_target *t, const struct sn_peer_stat *stat, void *arg)
{
	*(bool *)arg &= strcmp(stat->breaker, "closed") == 0;
}

/* All is well: sooner or later every peer is used again and every call answered. */
static void recovers(struct seed *s)
{
	bool closed = false;

	for (unsigned i = 1; i <= MAX_PEERS; i++)
		set_mood(s, i, WELL);
	mw_policies(&s->w, "{\"values\":{\"breaker-max-open\":2000,\"balance\":\"round-robin\"}}");
	mw_peers(&s->w, MAX_PEERS);
	if (s->forces) /* which begins anew: breakers of other seeds find their own way */
		(void)!sn__mesh_breaker_force(s->w.mesh, mw_target(&s->w), NULL, SN_BREAKER_AUTO);
	for (int i = 0; i < 400 && !closed; i++) {
		struct seed_call *c = &s->calls[0];

		start_call(s, c, true);
		mw_run(&s->w, 30000);
		CHECK(s, c->done == 1);
		closed = true;
		sn__mesh_each_peer(s->w.mesh, NULL, on_stat, &closed);
	}
	CHECK(s, closed);
}

static void run_seed(uint64_t number)
{
	struct seed *s = test_calloc(1, sizeof *s);
	unsigned events;

	s->number = number;
	mw_open(&s->w, number);
	sn__rng_seed(&s->rng, number * 2654435761u + 1);
	s->tcp = chance(s, 50);
	s->forces = chance(s, 20);
	for (unsigned i = 1; i <= MAX_PEERS; i++) {
		struct sn_addr addr = addr_of(i);

		CHECK(s,
				sn__listen(s->w.loop, &addr, NULL, on_accept, NULL,
						&s->listeners[i], NULL) == 0);
		set_mood(s, i, (enum mood)below(s, MOODS));
	}
	mw_peers(&s->w, (unsigned)below(s, MAX_PEERS + 1));
	random_policies(s);
	events = 20 + (unsigned)below(s, 120);
	for (unsigned i = 0; i < events; i++)
		something_happens(s);
	mw_run(&s->w, 120000);
	all_ended(s);
	/* A retry a fifth of a call, twenty a second at most (two minutes at the outside). */
	CHECK(s, s->retries <= MAX_CALLS * 0.2 + 20 * 10 * 30);
	recovers(s);
	for (unsigned i = 1; i <= MAX_PEERS; i++)
		sn__listener_close(s->listeners[i]);
	mw_close(&s->w);
	test_free(s);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t n;

	return text != NULL && sn__parse_u64(sn_str_from(text), UINT64_MAX, &n) == 0 ? n
										     : otherwise;
}

static void seeds(void **state)
{
	uint64_t only = number_from("SINEW_SEED", 0), n = number_from("SINEW_SEEDS", 200);

	if (only != 0) {
		run_seed(only);
		return;
	}
	for (uint64_t i = 1; i <= n; i++)
		run_seed(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(seeds)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
