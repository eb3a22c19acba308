/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world itself: time, faults, resets; and the sweep of allocation failures over both
 * back ends. */
#include <errno.h>
#include <string.h>

#include "io/resolve.h"
#include "io/world_test.h"

struct end {
	struct sn_stream *s;
	unsigned events;
	uint64_t at_ns;
	int error;
};

static void on_end(struct sn_stream *s, unsigned events, void *arg)
{
	struct end *e = arg;

	e->events |= events;
	e->at_ns = sn__loop_now_ns(s->loop);
	if (events & SN_STREAM_FAILED)
		e->error = sn__stream_error(s)->code;
	sn__stream_want(s, 0);
}

struct line {
	struct sn_addr addr;
	struct sn_listener *l;
	struct end client, server;
	struct sn_stream *others[4]; /* accepted after the first */
	unsigned n_others;
};

static void on_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	struct line *line = arg;

	if (line->server.s == NULL)
		line->server.s = s;
	else
		line->others[line->n_others++] = s;
	sn_stream_set_owner(s, on_end, &line->server);
}

static void pass(struct world *w, uint64_t ms)
{
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + ms * SN_NS_PER_MS);
}

static void dial(struct world *w, struct line *line, const char *where)
{
	*line = (struct line){.addr = world_addr(where)};
	assert_int_equal(sn__listen(w->b, &line->addr, NULL, on_accept, line, &line->l, NULL), 0);
	line->addr = *sn__listener_addr(line->l);
	assert_int_equal(sn__stream_connect(w->a, &line->addr, on_end, &line->client,
					 &line->client.s, NULL),
			0);
}

static void hang_up(struct line *line)
{
	sn__stream_close(line->client.s, false);
	sn__stream_close(line->server.s, false);
	for (unsigned i = 0; i < line->n_others; i++)
		sn__stream_close(line->others[i], false);
	sn__listener_close(line->l);
}

static void time_passes(void **state)
{
	struct world *w = *state;
	struct sn_sim_options slow = {
			.latency_min_ns = 30 * SN_NS_PER_MS, .latency_max_ns = 30 * SN_NS_PER_MS};
	struct line line;
	uint64_t start = sn__sim_now_ns(w->sim);

	assert_true(start == SN_SIM_START_NS);
	assert_false(sn__sim_run(w->sim, start + SN_NS_PER_S)); /* nothing to happen: time passes */
	assert_true(sn__sim_now_ns(w->sim) == start + SN_NS_PER_S);
	sn__sim_set(w->sim, &slow);
	start = sn__sim_now_ns(w->sim);
	dial(w, &line, "127.0.0.1:0");
	assert_true(sn__sim_run(w->sim, start + 59 * SN_NS_PER_MS));
	assert_non_null(line.server.s);
	assert_int_equal(line.client.events, 0);
	pass(w, 2);
	assert_int_equal(line.client.events, SN_STREAM_CONNECTED);
	assert_in_range(line.client.at_ns - start, 60 * SN_NS_PER_MS, 61 * SN_NS_PER_MS);
	hang_up(&line);
}

static void on_stop(struct sn_timer *t)
{
	t->due_ns = 0;
}

static struct sn_sim *stopped;
static void on_stopping(struct sn_timer *t)
{
	sn__sim_stop(stopped);
}

static void stops(void **state)
{
	struct world *w = *state;
	struct sn_timer first = {.due_ns = 0}, second = {.due_ns = 0};

	stopped = w->sim;
	sn__timer_start(w->a, &first, SN_NS_PER_S, on_stopping);
	sn__timer_start(w->b, &second, 2 * SN_NS_PER_S, on_stop);
	assert_true(sn__sim_run(w->sim, SN_NEVER_NS));
	assert_in_range(sn__sim_now_ns(w->sim) - SN_SIM_START_NS, SN_NS_PER_S,
			SN_NS_PER_S + 20 * SN_NS_PER_MS);
	assert_true(sn_timer_armed(&second));
	assert_false(sn__sim_run(w->sim, SN_NEVER_NS));
	assert_int_equal(second.due_ns, 0);
	assert_int_equal(sn__rng_below(sn__sim_rng(w->sim), 1), 0);
}

static void stalls(void **state)
{
	struct world *w = *state;
	struct line line, late = {.client.events = 0};

	dial(w, &line, "127.0.0.1:0");
	pass(w, 1);
	sn__sim_stall(w->sim, &line.addr, true);
	assert_int_equal(sn__stream_write(line.client.s, &SN_STR("x"), 1), 1);
	sn__stream_want(line.server.s, SN_READABLE);
	assert_int_equal(sn__stream_connect(w->a, &line.addr, on_end, &late.client, &late.client.s,
					 NULL),
			0);
	pass(w, 60000);
	assert_int_equal(line.server.events, 0);
	assert_int_equal(late.client.events, 0);
	sn__sim_stall(w->sim, &line.addr, false);
	pass(w, 1);
	assert_int_equal(line.server.events, SN_READABLE);
	assert_int_equal(late.client.events, SN_STREAM_CONNECTED);
	sn__stream_close(late.client.s, true);
	hang_up(&line);
}

static void refuses(void **state)
{
	struct world *w = *state;
	struct line line;

	dial(w, &line, "127.0.0.1:0");
	sn__sim_refuse(w->sim, &line.addr, true);
	pass(w, 1);
	assert_int_equal(line.client.error, SN_E_CONNECT);
	assert_int_equal(sn__stream_error(line.client.s)->foreign, ECONNREFUSED);
	sn__stream_close(line.client.s, false);
	sn__sim_refuse(w->sim, &line.addr, false);
	line.client = (struct end){.events = 0};
	assert_int_equal(sn__stream_connect(w->a, &line.addr, on_end, &line.client, &line.client.s,
					 NULL),
			0);
	pass(w, 1);
	assert_int_equal(line.client.events, SN_STREAM_CONNECTED);
	hang_up(&line);
}

static void breaks(void **state)
{
	struct world *w = *state;
	struct line line;
	char byte;

	dial(w, &line, "127.0.0.1:0");
	pass(w, 1);
	sn__stream_want(line.client.s, SN_READABLE);
	sn__stream_want(line.server.s, SN_READABLE);
	sn__sim_break(w->sim, &line.addr);
	pass(w, 1);
	assert_true(line.client.events & SN_READABLE);
	assert_true(line.server.events & SN_READABLE);
	assert_int_equal(sn__stream_read(line.client.s, &byte, 1), SN_E_RESET);
	assert_int_equal(sn__stream_write(line.server.s, &SN_STR("x"), 1), SN_E_RESET);
	hang_up(&line);
}

/* What came before a reset can still be read. */
static void reset_behind_bytes(void **state)
{
	struct world *w = *state;
	struct line line;
	char bytes[4];

	dial(w, &line, "127.0.0.1:0");
	pass(w, 1);
	assert_int_equal(sn__stream_write(line.client.s, &SN_STR("abc"), 1), 3);
	pass(w, 1);
	sn__stream_close(line.client.s, true);
	pass(w, 1);
	assert_int_equal(sn__stream_read(line.server.s, bytes, 2), 2);
	assert_int_equal(sn__stream_read(line.server.s, bytes, 2), 1);
	assert_int_equal(sn__stream_read(line.server.s, bytes, 2), SN_E_RESET);
	line.client.s = NULL;
	hang_up(&line);
}

static void any_address(void **state)
{
	struct world *w = *state;
	struct line line;
	struct end e = {.events = 0};
	struct sn_addr addr;

	dial(w, &line, "0.0.0.0:4000");
	addr = world_addr("127.0.0.7:4000");
	assert_int_equal(sn__stream_connect(w->b, &addr, on_end, &e, &e.s, NULL), 0);
	pass(w, 1);
	assert_int_equal(e.events, SN_STREAM_CONNECTED);
	sn__stream_close(e.s, false);
	assert_int_equal(line.n_others, 1);
	hang_up(&line);
}

/* ---- every allocation fails once ---- */

struct story {
	struct sn_loop *loop;
	struct sn_listener *l;
	struct sn_stream *client, *server;
	struct sn_resolve resolve;
	struct sn_job job;
	bool resolved, job_done, client_over, server_over;
	int result;
};

static void story_fail(struct story *s, int code)
{
	if (s->result == 0)
		s->result = code;
}

static void on_story_client(struct sn_stream *stream, unsigned events, void *arg)
{
	struct story *s = arg;
	char byte;
	ssize_t n;

	if (events & SN_STREAM_CONNECTED) {
		sn__stream_want(stream, SN_READABLE);
		return;
	}
	n = events & SN_STREAM_FAILED ? sn__stream_error(stream)->code
				      : sn__stream_read(stream, &byte, 1);
	if (n == SN_E_AGAIN)
		return;
	if (n != 1)
		story_fail(s, n < 0 ? (int)n : SN_E_EOF);
	sn__stream_close(stream, false);
	s->client = NULL;
	s->client_over = true;
}

static void on_story_server(struct sn_stream *stream, unsigned events, void *arg)
{
	struct story *s = arg;

	if (sn__stream_write(stream, &SN_STR("x"), 1) != 1)
		story_fail(s, SN_E_RESET);
	sn__stream_close(stream, false);
	s->server = NULL;
	s->server_over = true;
}

static void on_story_accept(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	struct story *s = arg;

	s->server = stream;
	sn_stream_set_owner(stream, on_story_server, s);
	sn__stream_want(stream, SN_WRITABLE);
}

static void on_story_resolved(struct sn_resolve *op, int status)
{
	struct story *s = SN_CONTAINER_OF(op, struct story, resolve);

	s->resolved = true;
	if (status == SN_E_NOMEM)
		story_fail(s, status);
}

static void on_story_work(struct sn_job *job)
{
}

static void on_story_job(struct sn_job *job)
{
	SN_CONTAINER_OF(job, struct story, job)->job_done = true;
}

static int story_start(struct story *s)
{
	struct sn_addr addr = world_addr("127.0.0.1:0");
	struct sn_error err;
	int r;

	s->resolved = s->job_done = s->client_over = true;
	r = sn__listen(s->loop, &addr, NULL, on_story_accept, s, &s->l, &err);
	if (r < 0)
		return r;
	r = sn__stream_connect(
			s->loop, sn__listener_addr(s->l), on_story_client, s, &s->client, &err);
	if (r < 0)
		return r;
	s->client_over = false;
	r = sn__resolve(s->loop, &s->resolve, "name.invalid", 80, on_story_resolved);
	if (r < 0)
		return r;
	s->resolved = false;
	r = sn__loop_work(s->loop, &s->job, on_story_work, on_story_job);
	if (r < 0)
		return r;
	s->job_done = false;
	return 0;
}

static int tell_story(struct sn_loop *loop)
{
	struct story s = {.loop = loop};
	int r = story_start(&s);

	while ((!s.client_over || !s.job_done) && sn__loop_run(loop, SN_RUN_ONCE))
		;
	assert_true(s.client_over && s.job_done);
	if (!s.resolved)
		sn__resolve_cancel(&s.resolve); /* a real server would take its time */
	sn__stream_close(s.server, false);
	sn__listener_close(s.l);
	return r < 0 ? r : s.result;
}

static int tell_on_uv(void)
{
	struct sn_loop *loop;
	int r = sn__loop_uv_open(NULL, &loop, NULL);

	if (r < 0)
		return r;
	/* a server that is not there: no real query leaves the machine */
	assert_int_equal(sn__resolver_select(loop, "ares:127.0.0.1:9"), 0);
	r = tell_story(loop);
	sn__loop_close(loop, NULL, NULL);
	return r;
}

static int tell_on_sim(void)
{
	struct sn_sim_options opts = {.seed = 1};
	struct sn_sim *sim;
	struct sn_loop *loop;
	int r = sn__sim_create(&opts, &sim);

	if (r < 0)
		return r;
	r = sn__sim_loop(sim, &loop);
	if (r == 0) {
		r = tell_story(loop);
		sn__loop_close(loop, NULL, NULL);
	}
	sn__sim_destroy(sim);
	return r;
}

static void sweep(int (*tell)(void), int *ret_failures)
{
	int64_t live = sn__mem_live();
	int r;

	*ret_failures = 0;
	for (uint64_t nth = 1;; nth++) {
		sn__mem_fail_nth(nth);
		r = tell();
		assert_int_equal(sn__mem_live(), live);
		if (!sn__mem_failed())
			break;
		/* A dropped connection, a lost text, or an error: but never silence or a leak. */
		*ret_failures += r < 0;
		assert_true(nth < 100);
	}
	sn__mem_fail_nth(0);
	assert_int_equal(r, 0);
}

static void no_memory(void **state)
{
	int failures;

	sweep(tell_on_sim, &failures);
	assert_true(failures >= 6);
	sweep(tell_on_uv, &failures);
	assert_true(failures >= 3);
}

#define SIM(test) cmocka_unit_test_setup_teardown(test, world_sim, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
			SIM(time_passes),
			SIM(stops),
			SIM(stalls),
			SIM(refuses),
			SIM(breaks),
			SIM(reset_behind_bytes),
			SIM(any_address),
			cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
