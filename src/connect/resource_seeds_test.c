/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Property test: random services that are well, slow, silent, away, failing, throttling, that refuse
 * to start; entries that change, move, leave and are unfit; policies that change; calls of every
 * operation, some cancelled, in a world that closes at some time. Whatever the seed:
 *
 *	- every call ends exactly once, never inside its start, and not long after its deadline
 *	- an unsafe operation that may not be repeated is carried out once at most
 *	- no instance is left open, and what an entry asked for that left is closed when its calls end
 *	- no memory is left
 */
#include "connect/connect_world_test.h"
#include "io/seeds_test.h"

#define MAX_CALLS 40
#define STEPS 120
#define DEADLINE_MS 4000

struct seed_call {
	struct cw_call c; /* first */
	bool started, unsafe;
	uint64_t start_ns;
	char params[32];
};

struct seed {
	struct connect_world cw;
	struct sn_rng rng;
	struct seed_call calls[MAX_CALLS];
	unsigned n_calls;
};

static const char *const names[] = {"a", "b", "c"};
static const char *const operations[] = {"Get", "Put", "Add", "Refuse", "Gte"};

static uint64_t below(struct seed *s, uint64_t n)
{
	return sn__rng_below(&s->rng, n);
}

static void new_moods(struct seed *s)
{
	struct sn_sim_service *v = sn__sim_service(names[below(s, 3)]);

	v->away = below(s, 6) == 0;
	v->silent = below(s, 10) == 0;
	v->fail = below(s, 4) == 0 ? 400 : 0;
	v->broken = below(s, 4) == 0 ? 400 : 0;
	v->throttle = below(s, 4) == 0 ? 600 : 0;
	v->unavailable = below(s, 5) == 0 ? 600 : 0;
	v->start_errors = below(s, 8) == 0 ? 300 : 0;
	v->delay_ms = below(s, 3) == 0 ? below(s, 800) : 0;
	v->jitter_ms = below(s, 3) == 0 ? below(s, 300) : 0;
	v->answer_size = below(s, 8) == 0 ? 1000 : 0;
}

static void new_peers(struct seed *s)
{
	char json[1024] = "{";
	uint64_t n = below(s, 4);
	size_t at = 1;

	for (uint64_t i = 0; i < n; i++) {
		const char *type = below(s, 8) == 0 ? "sinn" : "sim";

		at += (size_t)snprintf(json + at, sizeof json - at,
				"%s\"%u\":{\"subClass\":\"%s\",\"config\":{\"service\":\"%s\","
				"\"n\":%u}}",
				i > 0 ? "," : "", (unsigned)i, type, names[below(s, 3)],
				(unsigned)below(s, 2));
	}
	(void)snprintf(json + at, sizeof json - at, "}");
	mw_peers_of(&s->cw.w, "database", "d", json);
}

static void new_policies(struct seed *s)
{
	static const char *const balances[] = {
			"first", "random", "round-robin", "least-request", "peak-ewma"};
	char json[256];

	(void)snprintf(json, sizeof json,
			"{\"values\":{\"balance\":\"%s\",\"retry-count\":%u,\"timeout\":%u,"
			"\"retry-unsafe\":false,\"deadline\":%u,\"retry-initial-delay\":%u,"
			"\"max-inflight\":%u}}",
			balances[below(s, 5)], (unsigned)below(s, 4), 100 + (unsigned)below(s, 900),
			DEADLINE_MS, (unsigned)below(s, 300), 1 + (unsigned)below(s, 8));
	mw_policies(&s->cw.w, json);
}

static void new_call(struct seed *s)
{
	struct seed_call *c;
	struct sn_error err;
	uint64_t op = below(s, 5);

	if (s->n_calls == MAX_CALLS)
		return;
	c = &s->calls[s->n_calls++];
	c->start_ns = sn__loop_now_ns(s->cw.w.loop);
	c->unsafe = op == 2;
	(void)snprintf(c->params, sizeof c->params, "{\"number\":%u}", s->n_calls);
	c->started = cw_start(&s->cw, &c->c, operations[op], c->params, &err) == 0;
	assert_true(c->started || s->cw.w.closed);
}

static void cancel_one(struct seed *s)
{
	struct seed_call *c;

	if (s->n_calls == 0)
		return;
	c = &s->calls[below(s, s->n_calls)];
	if (c->started && c->c.done == 0)
		sn__resource_stop(&c->c.rc);
}

static void step(struct seed *s)
{
	switch (below(s, 10)) {
	case 0:
		new_moods(s);
		break;
	case 1:
		new_peers(s);
		break;
	case 2:
		if (below(s, 3) == 0)
			new_policies(s);
		break;
	case 3:
		cancel_one(s);
		break;
	default:
		new_call(s);
		break;
	}
	mw_run(&s->cw.w, below(s, 4) == 0 ? below(s, 400) : below(s, 20));
}

static void print_course(const struct seed *s)
{
	for (unsigned i = 0; i < s->n_calls; i++)
		print_message("%.*s: %u attempts, %s\n", (int)s->calls[i].c.rc.operation.len,
				s->calls[i].c.rc.operation.ptr, s->calls[i].c.result.attempts,
				s->calls[i].c.code != 0 ? s->calls[i].c.err.text : "good");
}

static void check_end(struct seed *s)
{
	for (unsigned i = 0; i < s->n_calls; i++) {
		struct seed_call *c = &s->calls[i];

		assert_int_equal(c->c.done, c->started);
		if (!c->started)
			continue;
		assert_true(c->c.done_ns <= c->start_ns + sn_ms_to_ns(DEADLINE_MS + 100));
		if (c->c.code == 0)
			assert_true(sn_result_attempts(&c->c.result) > 0);
		if (c->c.code == 0)
			assert_true(sn__sim_runs[i + 1] > 0);
		if (c->unsafe)
			assert_true(sn__sim_runs[i + 1] <= 1);
		if (c->c.code == SN_E_REJECTED)
			assert_non_null(sn_result_error_type(&c->c.result));
		cw_finish(&c->c);
	}
	for (unsigned i = 0; i < SN_COUNT(names); i++) {
		assert_int_equal(sn__sim_service(names[i])->open, 0);
		assert_int_equal(sn__sim_service(names[i])->running, 0);
		assert_int_equal(sn__sim_service(names[i])->calls, sn__sim_service(names[i])->done);
	}
}

static void one(uint64_t seed, bool single)
{
	struct seed *s = sn__calloc(1, sizeof *s);
	uint64_t close_at;

	assert_non_null(s);
	sn__rng_seed(&s->rng, seed);
	cw_open(&s->cw, seed);
	for (unsigned i = 0; i < SN_COUNT(names); i++)
		sn__rng_seed(&sn__sim_service(names[i])->rng, seed * 31 + i);
	new_policies(s);
	new_peers(s);
	close_at = below(s, 4) == 0 ? below(s, STEPS) : STEPS;
	for (uint64_t i = 0; i < close_at; i++)
		step(s);
	if (close_at == STEPS)
		mw_run(&s->cw.w, DEADLINE_MS + 1000);
	cw_stop(&s->cw);
	if (single)
		print_course(s);
	check_end(s);
	cw_close(&s->cw);
	sn__free(s);
}

int main(void)
{
	return seeds_main("resource calls", one);
}
