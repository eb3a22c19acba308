/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random traffic over the simulated network. For every seed: whatever is read is what was written,
 * in order; the end of a stream is only told when everything before it was read; every side comes to
 * an end; without faults every byte arrives; and the same seed takes the same course.
 */
#include "io/seeds_test.h"
#include "io/sim.h"
#include "io/stream.h"

#define PAIRS_MAX 6

enum { CHUNK = 4096 };

struct side {
	struct run *run;
	struct side *other;
	struct sn_loop *loop;
	struct sn_stream *stream;
	struct sn_timer timer; /* resting, or closing early */
	struct sn_timer early;
	uint64_t to_send, sent, received;
	uint64_t salt;
	bool open, resting, eof, shut, over, broken, closes_early;
};

struct run {
	struct sn_sim *sim;
	struct sn_rng rng;
	struct sn_loop *hosts[3];
	struct sn_listener *listeners[PAIRS_MAX];
	struct side sides[PAIRS_MAX][2];
	struct sn_timer faults[4];
	unsigned n_pairs, n_faults;
	bool faulty; /* something may break */
};

static unsigned char byte_at(const struct side *from, uint64_t at)
{
	return (unsigned char)((at + from->salt) * UINT64_C(0x9e3779b97f4a7c15) >> 56);
}

static void side_over(struct side *s, bool broken)
{
	s->over = true;
	s->broken = broken;
	if (broken)
		assert_non_null(sn__stream_error(s->stream));
	sn__timer_stop(s->loop, &s->timer);
	sn__timer_stop(s->loop, &s->early);
	sn__stream_close(s->stream, sn__rng_below(&s->run->rng, 4) == 0 && broken);
	s->stream = NULL;
}

static void side_want(struct side *s)
{
	sn__stream_want(s->stream,
			s->resting ? 0 : (s->eof ? 0 : SN_READABLE) | (s->shut ? 0 : SN_WRITABLE));
}

static void on_rested(struct sn_timer *t)
{
	struct side *s = SN_CONTAINER_OF(t, struct side, timer);

	s->resting = false;
	side_want(s);
}

static void on_early(struct sn_timer *t)
{
	struct side *s = SN_CONTAINER_OF(t, struct side, early);

	s->closes_early = true;
	s->over = true;
	sn__timer_stop(s->loop, &s->timer);
	sn__stream_close(s->stream, sn__rng_below(&s->run->rng, 2) == 0);
	s->stream = NULL;
}

static int side_read(struct side *s)
{
	unsigned char buf[CHUNK];
	unsigned reads = 1 + (unsigned)sn__rng_below(&s->run->rng, 4);

	while (reads-- > 0) {
		ssize_t n = sn__stream_read(s->stream, buf, 1 + sn__rng_below(&s->run->rng, CHUNK));

		if (n == SN_E_AGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		if (n == 0) {
			s->eof = true;
			assert_true(s->other->shut || s->other->closes_early);
			assert_int_equal(s->received, s->other->sent);
			return 0;
		}
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], byte_at(s->other, s->received + (uint64_t)i));
		s->received += (uint64_t)n;
		assert_true(s->received <= s->other->sent);
	}
	return 0;
}

static int side_write(struct side *s)
{
	unsigned char buf[CHUNK];
	uint64_t left = s->to_send - s->sent;
	size_t n = 1 + sn__rng_below(&s->run->rng, CHUNK), cut;
	ssize_t took;

	n = SN_MIN(n, left);
	cut = sn__rng_below(&s->run->rng, n + 1);
	for (size_t i = 0; i < n; i++)
		buf[i] = byte_at(s, s->sent + i);
	if (n > 0) {
		took = sn__stream_write(s->stream,
				(struct sn_str[]){{(char *)buf, cut}, {(char *)buf + cut, n - cut}},
				2);
		if (took == SN_E_AGAIN)
			return 0;
		if (took < 0)
			return (int)took;
		assert_in_range(took, 1, n);
		s->sent += (uint64_t)took;
	}
	if (s->sent == s->to_send) {
		s->shut = true;
		assert_int_equal(sn__stream_shutdown(s->stream), 0);
	}
	return 0;
}

static void on_side(struct sn_stream *stream, unsigned events, void *arg)
{
	struct side *s = arg;
	int r = 0;

	assert_ptr_equal(stream, s->stream);
	if (events & SN_STREAM_FAILED) {
		side_over(s, true);
		return;
	}
	if (events & SN_STREAM_CONNECTED) {
		assert_false(s->open);
		s->open = true;
	}
	assert_true(s->open);
	if (events & SN_READABLE)
		r = side_read(s);
	if (r == 0 && events & SN_WRITABLE && !s->shut)
		r = side_write(s);
	if (r < 0 || (s->eof && s->shut)) {
		side_over(s, r < 0);
		return;
	}
	if (!s->resting && sn__rng_below(&s->run->rng, 50) == 0) {
		s->resting = true;
		sn__timer_start(s->loop, &s->timer, sn__rng_below(&s->run->rng, SN_NS_PER_S),
				on_rested);
	}
	side_want(s);
}

static void on_accept(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	struct side *s = arg;

	assert_null(s->stream);
	s->stream = stream;
	s->open = true;
	sn_stream_set_owner(stream, on_side, s);
	side_want(s);
}

static struct sn_addr addr_of(unsigned pair)
{
	struct sn_addr addr;

	assert_int_equal(sn__addr_from_literal(SN_STR("10.0.0.1"), (uint16_t)(1000 + pair), &addr),
			0);
	return addr;
}

/* ---- faults ---- */

static struct run *running;

static void on_unstall(struct sn_timer *t)
{
	for (unsigned i = 0; i < running->n_pairs; i++) {
		struct sn_addr addr = addr_of(i);

		sn__sim_stall(running->sim, &addr, false);
	}
}

static void on_fault(struct sn_timer *t)
{
	struct run *run = running;
	struct sn_addr addr = addr_of((unsigned)sn__rng_below(&run->rng, run->n_pairs));

	if (sn__rng_below(&run->rng, 2) == 0) {
		sn__sim_break(run->sim, &addr);
		return;
	}
	sn__sim_stall(run->sim, &addr, true);
	sn__timer_start(run->hosts[0], t, sn__rng_below(&run->rng, 5 * SN_NS_PER_S), on_unstall);
}

static uint64_t upto(struct run *run, uint64_t n)
{
	return sn__rng_below(&run->rng, n + 1);
}

static bool maybe(struct run *run, unsigned one_in)
{
	return sn__rng_below(&run->rng, one_in) == 0;
}

static void open_world(struct run *run, uint64_t seed)
{
	struct sn_sim_options opts = {.seed = seed};

	sn__rng_seed(&run->rng, seed);
	opts.latency_max_ns = maybe(run, 3) ? 0 : upto(run, 50 * SN_NS_PER_MS);
	opts.latency_min_ns = upto(run, opts.latency_max_ns);
	opts.loss = maybe(run, 2) ? 0 : (unsigned)upto(run, 100);
	opts.partial_read = maybe(run, 2) ? 0 : (unsigned)upto(run, 1000);
	opts.partial_write = maybe(run, 2) ? 0 : (unsigned)upto(run, 1000);
	opts.window = maybe(run, 2) ? 0 : 1 + upto(run, 9000);
	run->faulty = maybe(run, 2);
	if (run->faulty) {
		opts.reset = maybe(run, 2) ? 0 : (unsigned)upto(run, 20);
		opts.refuse = maybe(run, 2) ? 0 : (unsigned)upto(run, 200);
		run->n_faults = (unsigned)upto(run, SN_COUNT(run->faults));
	}
	assert_int_equal(sn__sim_create(&opts, &run->sim), 0);
	for (size_t i = 0; i < SN_COUNT(run->hosts); i++)
		assert_int_equal(sn__sim_loop(run->sim, &run->hosts[i]), 0);
}

static void open_pair(struct run *run, unsigned i)
{
	struct sn_addr addr = addr_of(i);

	for (unsigned k = 0; k < 2; k++) {
		struct side *s = &run->sides[i][k];

		*s = (struct side){.run = run,
				.other = &run->sides[i][!k],
				.loop = run->hosts[upto(run, SN_COUNT(run->hosts) - 1)],
				.to_send = upto(run, UINT64_C(1) << upto(run, 16)),
				.salt = sn__rng_u64(&run->rng)};
	}
	assert_int_equal(sn__listen(run->sides[i][1].loop, &addr, NULL, on_accept,
					 &run->sides[i][1], &run->listeners[i], NULL),
			0);
	assert_int_equal(sn__stream_connect(run->sides[i][0].loop, &addr, on_side,
					 &run->sides[i][0], &run->sides[i][0].stream, NULL),
			0);
	if (run->faulty && maybe(run, 4))
		sn__timer_start(run->sides[i][0].loop, &run->sides[i][0].early,
				upto(run, SN_NS_PER_S), on_early);
}

static void check_pair(const struct run *run, unsigned i)
{
	for (unsigned k = 0; k < 2; k++) {
		const struct side *s = &run->sides[i][k];

		/* The server's side exists only when a connection came so far. */
		assert_true(s->over || (k == 1 && !s->open));
		if (s->over && !s->broken && !s->closes_early)
			assert_true(s->eof && s->shut);
		if (run->faulty)
			continue;
		assert_true(s->over && !s->broken);
		assert_int_equal(s->received, s->other->to_send);
	}
}

static uint64_t run_once(uint64_t seed)
{
	struct run run = {.n_faults = 0};
	uint64_t trace;

	running = &run;
	open_world(&run, seed);
	run.n_pairs = 1 + (unsigned)upto(&run, PAIRS_MAX - 1);
	for (unsigned i = 0; i < run.n_pairs; i++)
		open_pair(&run, i);
	for (unsigned i = 0; i < run.n_faults; i++)
		sn__timer_start(run.hosts[0], &run.faults[i], upto(&run, 3 * SN_NS_PER_S),
				on_fault);
	assert_false(sn__sim_run(run.sim, SN_NEVER_NS));
	for (unsigned i = 0; i < run.n_pairs; i++) {
		check_pair(&run, i);
		sn__listener_close(run.listeners[i]);
	}
	trace = sn__sim_trace(run.sim);
	for (size_t i = 0; i < SN_COUNT(run.hosts); i++)
		sn__loop_close(run.hosts[i], NULL, NULL);
	sn__sim_destroy(run.sim);
	return trace;
}

static void one(uint64_t seed, bool single)
{
	uint64_t trace = run_once(seed);
	void *shift = sn__malloc(1 + seed % 5000); /* other addresses, same course */

	assert_non_null(shift);
	assert_true(run_once(seed) == trace);
	sn__free(shift);
	if (single)
		print_message("trace %016llx\n", (unsigned long long)trace);
}

int main(void)
{
	return seeds_main("streams", one);
}
