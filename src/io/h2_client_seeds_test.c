/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random HTTP/2 requests to a server that is wrong at random (refusals, resets, GOAWAY, stalls,
 * windows that stay shut, ends in the middle), over a network that is bad at random. Each completes
 * exactly once; what completes well is whole and right; what was "not sent" was never answered;
 * nothing leaks.
 */
#include "io/h2.h"
#include "io/h2_script.h"
#include "io/http_probe.h"
#include "io/seeds_test.h"
#include "io/sim.h"

#define N 40

struct call {
	struct probe p;
	struct sn_timer start, stop, resume, ready;
	struct sn_body_source src;
	size_t left, size;
	char target[16];
	unsigned seen, answered; /* by the server */
	size_t received;
	bool started;
};

static struct {
	struct sn_sim *sim;
	struct sn_loop *client, *server;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct h2s srv;
	struct sn_timer open;
	struct call calls[N];
	int pending;
	bool pool_gone;
} w;

static char body[200000];

static unsigned below(unsigned n)
{
	return (unsigned)sn__rng_below(sn__sim_rng(w.sim), n);
}

/* ---- the server ---- */

static size_t answer_size(unsigned id)
{
	return id % 7 == 0 ? 300000 + id : id * 37 % 900;
}

static bool has_trailers(unsigned id)
{
	return id % 3 == 0;
}

static unsigned id_of(const struct h2s_stream *st)
{
	unsigned id = 0;

	for (const char *at = st->path + 1; *at >= '0' && *at <= '9'; at++)
		id = id * 10 + (unsigned)(*at - '0');
	assert_true(id < N);
	return id;
}

static struct h2s_step choose(struct h2s *srv, const struct h2s_stream *st)
{
	static const enum h2s_act bad[] = {H2S_EARLY, H2S_RESET, H2S_RESET_BODY, H2S_STALL,
			H2S_STALL_BODY, H2S_GOAWAY, H2S_GOAWAY_AWAY, H2S_CLOSE, H2S_CLOSE_BODY,
			H2S_MALFORMED, H2S_LENGTH, H2S_GARBAGE, H2S_PINGS};
	static const uint32_t errors[] = {NGHTTP2_REFUSED_STREAM, NGHTTP2_REFUSED_STREAM,
			NGHTTP2_INTERNAL_ERROR, NGHTTP2_CANCEL, NGHTTP2_NO_ERROR};
	unsigned id = id_of(st);
	struct h2s_step step = {.body = answer_size(id),
			.trailers = has_trailers(id),
			.info = below(4) == 0};

	if (below(3) == 0)
		step.act = bad[below(SN_COUNT(bad))];
	if (step.act == H2S_PINGS && below(4) != 0)
		step.act = H2S_RESET;
	step.error = errors[below(SN_COUNT(errors))];
	if (step.act == H2S_GOAWAY)
		step.error = NGHTTP2_NO_ERROR;
	w.calls[id].seen++;
	return step;
}

static void answered(struct h2s *srv, const struct h2s_stream *st)
{
	w.calls[id_of(st)].answered++;
}

/* Windows shut and open. */
static void on_open(struct sn_timer *t)
{
	if (w.srv.keep_shut)
		h2s_open_windows(&w.srv);
	else
		w.srv.keep_shut = below(3) == 0;
	sn__timer_start(w.server, t, (10 + below(100)) * SN_NS_PER_MS, on_open);
}

/* ---- the calls ---- */

static void on_resume(struct sn_timer *t)
{
	sn__http_pause(&SN_CONTAINER_OF(t, struct call, resume)->p.req, false);
}

static void on_data(struct probe *p)
{
	struct call *c = SN_CONTAINER_OF(p, struct call, p);

	if (below(40) == 0)
		sn__http_cancel(&w.calls[below(N)].p.req, SN_E_CANCELLED);
	if (below(8) != 0)
		return;
	sn__http_pause(&p->req, true);
	sn__timer_start(w.client, &c->resume, below(50) * SN_NS_PER_MS, on_resume);
}

static void on_stop(struct sn_timer *t)
{
	sn__http_cancel(&SN_CONTAINER_OF(t, struct call, stop)->p.req, SN_E_TIMEOUT);
}

static void on_over(struct probe *p)
{
	struct call *c = SN_CONTAINER_OF(p, struct call, p);

	sn__timer_stop(w.client, &c->stop);
	sn__timer_stop(w.client, &c->resume);
	sn__timer_stop(w.client, &c->ready);
}

static void on_ready(struct sn_timer *t)
{
	sn__http_body_ready(&SN_CONTAINER_OF(t, struct call, ready)->p.req);
}

static ssize_t read_source(struct sn_body_source *src, void *out, size_t n)
{
	struct call *c = SN_CONTAINER_OF(src, struct call, src);
	size_t most = below(2000) + 1;

	if (below(3) == 0) {
		sn__timer_start(w.client, &c->ready, below(20) * SN_NS_PER_MS, on_ready);
		return SN_E_AGAIN;
	}
	n = SN_MIN(SN_MIN(n, c->left), most);
	memset(out, 'x', n);
	c->left -= n;
	return (ssize_t)n;
}

static int rewind_source(struct sn_body_source *src)
{
	struct call *c = SN_CONTAINER_OF(src, struct call, src);

	c->left = c->size;
	return 0;
}

static void on_start(struct sn_timer *t)
{
	struct call *c = SN_CONTAINER_OF(t, struct call, start);
	unsigned id = (unsigned)(c - w.calls);
	bool post = below(2) != 0;

	(void)snprintf(c->target, sizeof c->target, "/%u", id);
	probe_init(&c->p, post ? "POST" : "GET", c->target);
	c->p.pending = &w.pending;
	c->p.data = on_data;
	c->p.then = on_over;
	if (post && below(3) == 0) {
		c->left = c->size = below(5000);
		c->src = (struct sn_body_source){.read = read_source,
				.rewind = below(2) != 0 ? rewind_source : NULL,
				.length = below(2) != 0 ? -1 : (int64_t)c->left};
		c->p.req.source = &c->src;
	} else if (post) {
		c->size = below(4) == 0 ? sizeof body : below(500);
		c->p.req.body = (struct sn_str){body, c->size};
	}
	c->p.req.idle_timeout_ms = 500;
	c->started = true;
	assert_int_equal(sn__http_start(w.dest, &c->p.req, NULL), 0);
	assert_int_equal(c->p.n_done, 0);
	sn__timer_start(w.client, &c->stop,
			sn_ms_to_ns(below(20) == 0 ? below(5) : 1000 + below(1000)), on_stop);
}

static void check(const struct call *c, bool single)
{
	unsigned id = (unsigned)(c - w.calls);
	const struct sn_http_result *res = &c->p.req.result;

	if (single)
		print_message("%u: %s at %s, sent %d, status %u, h2 %d, seen %u, %s\n", id,
				sn_code_name(res->code), sn__phase_name(res->phase), res->sent,
				res->status, res->h2_error, c->seen, res->detail);
	assert_int_equal(c->p.n_done, 1);
	assert_true(c->seen <= 2);
	if (res->sent == SN_SENT_NO)
		assert_int_equal(c->answered, 0);
	if (res->status != 0)
		assert_int_equal(res->sent, SN_SENT_YES);
	if (res->code != 0) {
		assert_true(res->code == SN_E_TIMEOUT || res->code == SN_E_RESET ||
				res->code == SN_E_EOF || res->code == SN_E_PROTOCOL ||
				res->code == SN_E_CONNECT || res->code == SN_E_CANCELLED);
		assert_int_not_equal(res->detail[0], '\0');
		return;
	}
	assert_true(c->answered <= 1);
	assert_int_equal(c->p.body.len, answer_size(id));
	for (size_t i = 0; i < c->p.body.len; i++)
		assert_int_equal(sn__buf_data(&c->p.body)[i], h2s_letter(i));
	if (has_trailers(id))
		assert_string_equal(c->p.trailer, "7");
}

static void on_pool_gone(void *arg)
{
	w.pool_gone = true;
}

static void run(bool (*over)(void))
{
	for (int i = 0; !over(); i++) {
		assert_true(i < 100000);
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
	}
}

static bool none_pending(void)
{
	return w.pending == 0;
}

static bool pool_gone(void)
{
	return w.pool_gone;
}

static void world_open(uint64_t seed)
{
	struct sn_sim_options net = {.seed = seed};
	struct sn_http_pool_options opts;
	struct sn_http_dest_options d = {.host = "127.0.0.1", .version = SN_HTTP_2};

	memset(&w, 0, sizeof w);
	assert_int_equal(sn__sim_create(&net, &w.sim), 0);
	if (below(4) != 0)
		net = (struct sn_sim_options){.latency_min_ns = 1000,
				.latency_max_ns = below(20000000),
				.loss = below(30),
				.reset = below(20),
				.partial_write = below(300),
				.partial_read = below(300),
				.refuse = below(60),
				.window = below(3) == 0 ? 2000 : 0};
	sn__sim_set(w.sim, &net);
	assert_int_equal(sn__sim_loop(w.sim, &w.client), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.server), 0);
	h2s_open(&w.srv, w.server, NULL, 0);
	w.srv.choose = choose;
	w.srv.answered = answered;
	w.srv.max_streams = below(3) == 0 ? below(5) + 1 : 0;
	w.srv.window = below(3) == 0 ? below(5000) + 1 : 0;
	w.srv.silent = below(5) == 0;
	sn__timer_start(w.server, &w.open, SN_NS_PER_MS, on_open);
	opts = (struct sn_http_pool_options){.max_per_dest = below(6) + 1,
			.idle_ms = below(100) + 1,
			.max_idle = below(4) + 1};
	assert_int_equal(sn__http_pool_create(w.client, &opts, &w.pool), 0);
	d.port = sn__addr_port(&w.srv.addr);
	d.max_streams = below(3) == 0 ? below(6) + 1 : 0;
	d.ping_ms = below(3) == 0 ? below(200) + 20 : 0;
	d.ping_timeout_ms = below(300) + 20;
	assert_int_equal(sn__http_dest_create(w.pool, &d, &w.dest), 0);
	/* Not started yet, but somebody may cancel them. */
	for (int i = 0; i < N; i++)
		w.calls[i].p.req.flags = ~0u;
}

static void one(uint64_t seed, bool single)
{
	bool early;

	world_open(seed);
	early = below(5) == 0; /* the pool is closed on open requests */
	w.pending = N;
	for (int i = 0; i < N; i++)
		sn__timer_start(w.client, &w.calls[i].start, below(1500) * SN_NS_PER_MS, on_start);
	if (!early)
		run(none_pending);
	else
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + below(1500) * SN_NS_PER_MS);
	for (int i = 0; i < N; i++)
		sn__timer_stop(w.client, &w.calls[i].start);
	sn__http_dest_unref(w.dest);
	sn__http_pool_close(w.pool, on_pool_gone, NULL);
	run(pool_gone);
	for (int i = 0; i < N; i++) {
		struct call *c = &w.calls[i];

		if (early && c->p.req.result.code == SN_E_CLOSED)
			assert_int_equal(c->p.n_done, 1);
		else if (c->started)
			check(c, single);
		if (c->started)
			probe_finish(&c->p);
	}
	sn__timer_stop(w.server, &w.open);
	h2s_finish(&w.srv);
	sn__loop_close(w.client, NULL, NULL);
	sn__loop_close(w.server, NULL, NULL);
	sn__sim_destroy(w.sim);
}

int main(void)
{
	return seeds_main("h2_client", one);
}
