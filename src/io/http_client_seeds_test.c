/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random requests to a server that is wrong at random, over a network that is bad at random. Each
 * completes exactly once; what completes well is whole and right and was asked for once; what was
 * "not sent" was never seen; nothing leaks.
 */
#include "io/http_script.h"
#include "io/seeds_test.h"

#define N 40

struct call {
	struct probe p;
	struct sn_timer start, stop, resume;
	struct sn_body_source src;
	size_t left;
	char target[16], body[512];
	unsigned seen; /* by the server */
	bool started;
};

static struct {
	struct sn_sim *sim;
	struct sn_loop *client, *server;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct script script;
	struct call calls[N];
	int pending;
	bool pool_gone;
} w;

static unsigned below(unsigned n)
{
	return (unsigned)sn__rng_below(sn__sim_rng(w.sim), n);
}

/* ---- the server ---- */

static size_t answer_size(unsigned id)
{
	return id % 7 == 0 ? 40000 + id : id * 37 % 900;
}

static char letter(unsigned id, size_t i)
{
	return (char)('a' + (id + i) % 26);
}

static size_t put_body(char *out, unsigned id, bool chunked)
{
	size_t n = answer_size(id), at = 0;

	for (size_t i = 0; i < n;) {
		size_t most = below(2000) + 1;
		size_t piece = chunked ? SN_MIN(n - i, most) : n;

		if (chunked)
			at += (size_t)snprintf(out + at, 32, "%zx\r\n", piece);
		for (size_t k = 0; k < piece; k++, i++)
			out[at++] = letter(id, i);
		if (chunked)
			at += (size_t)snprintf(out + at, 32, "\r\n");
	}
	if (chunked)
		at += (size_t)snprintf(out + at, 32, "0\r\n\r\n");
	out[at] = '\0';
	return at;
}

static void check_request(unsigned id, struct sn_str request)
{
	const struct call *c = &w.calls[id];
	const char *body = memmem(request.ptr, request.len, "\r\n\r\n", 4);

	assert_non_null(body);
	if (c->src.view != NULL) {
		assert_int_equal(request.ptr + request.len - body - 4, c->src.length);
		assert_memory_equal(body + 4, c->body, (size_t)c->src.length);
	}
	if (c->p.req.source == NULL)
		assert_true(sn_str_eq(c->p.req.body,
				(struct sn_str){body + 4,
						(size_t)(request.ptr + request.len - body - 4)}));
}

static const struct step *choose(struct script *sc, struct sn_str request)
{
	static char answer[140000];
	static struct step step;
	const char *path = memchr(request.ptr, '/', request.len);
	unsigned id = 0, kind = below(14);
	char *at = answer;

	for (path++; *path >= '0' && *path <= '9'; path++)
		id = id * 10 + (unsigned)(*path - '0');
	assert_true(id < N);
	w.calls[id].seen++;
	check_request(id, request);
	step = (struct step){.answer = answer, .piece = below(3) == 0 ? below(40) + 1 : 0};
	if (step.piece != 0 && answer_size(id) > 1000)
		step.piece *= 100;
	if (below(4) == 0)
		at += snprintf(at, 100, "HTTP/1.1 100 Continue\r\n\r\n");
	if (kind < 6) {
		at += snprintf(at, 100, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
				answer_size(id));
		(void)put_body(at, id, false);
		step.then = kind == 0 ? THEN_CLOSE : THEN_KEEP;
	} else if (kind < 9) {
		at += snprintf(at, 100, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		(void)put_body(at, id, true);
	} else if (kind == 9) {
		at += snprintf(at, 100, "HTTP/1.1 200 OK\r\n\r\n");
		(void)put_body(at, id, false);
		step.then = THEN_CLOSE;
	} else if (kind == 10) {
		at += snprintf(at, 100, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
				answer_size(id) + 3);
		(void)put_body(at, id, false);
		step.then = THEN_CLOSE;
	} else if (kind == 11) {
		step.answer = "HTTP/1.1 200 OK\r\nContent-Length: 7x\r\n\r\n";
	} else {
		answer[below(20)] = '\0';
		step.then = kind == 12 ? THEN_RESET : THEN_STALL;
	}
	return &step;
}

/* ---- the calls ---- */

static void on_resume(struct sn_timer *t)
{
	sn__http_pause(&SN_CONTAINER_OF(t, struct call, resume)->p.req, false);
}

static void on_data(struct probe *p)
{
	struct call *c = SN_CONTAINER_OF(p, struct call, p);

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
}

static ssize_t read_source(struct sn_body_source *src, void *out, size_t n)
{
	struct call *c = SN_CONTAINER_OF(src, struct call, src);

	size_t most = below(200) + 1;

	n = SN_MIN(SN_MIN(n, c->left), most);
	memset(out, 'x', n);
	c->left -= n;
	return (ssize_t)n;
}

static ssize_t view_source(struct sn_body_source *src, const char **ret_view)
{
	struct call *c = SN_CONTAINER_OF(src, struct call, src);
	size_t most = below(200) + 1;

	*ret_view = c->body + src->length - c->left;
	return (ssize_t)SN_MIN(c->left, most);
}

static void used_source(struct sn_body_source *src, size_t n)
{
	struct call *c = SN_CONTAINER_OF(src, struct call, src);

	assert_true(n <= c->left);
	c->left -= n;
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
		c->left = below(500);
		c->src = (struct sn_body_source){.read = read_source,
				.length = below(2) != 0 ? -1 : (int64_t)c->left};
		c->p.req.source = &c->src;
		if (c->src.length > 0 && below(2) != 0) {
			c->src.view = view_source;
			c->src.used = used_source;
			for (size_t i = 0; i < c->left; i++)
				c->body[i] = (char)('a' + i % 23);
		}
	} else if (post) {
		memset(c->body, 'b', sizeof c->body);
		c->p.req.body = (struct sn_str){c->body, below(sizeof c->body)};
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
		print_message("%u: %s at %s, sent %d, status %u, seen %u, %s\n", id,
				sn_code_name(res->code), sn__phase_name(res->phase), res->sent,
				res->status, c->seen, res->detail);
	assert_int_equal(c->p.n_done, 1);
	assert_true(c->seen <= 1);
	if (res->sent == SN_SENT_NO)
		assert_int_equal(c->seen, 0);
	if (res->status != 0)
		assert_int_equal(res->sent, SN_SENT_YES);
	if (res->code != 0) {
		assert_true(res->code == SN_E_TIMEOUT || res->code == SN_E_RESET ||
				res->code == SN_E_EOF || res->code == SN_E_PROTOCOL ||
				res->code == SN_E_CONNECT);
		assert_int_not_equal(res->detail[0], '\0');
		return;
	}
	assert_int_equal(c->seen, 1);
	assert_int_equal(c->p.body.len, answer_size(id));
	for (size_t i = 0; i < c->p.body.len; i++)
		assert_int_equal(sn__buf_data(&c->p.body)[i], letter(id, i));
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
	static const struct step none = {"", THEN_KEEP};
	struct sn_sim_options net = {.seed = seed};
	struct sn_http_pool_options opts;
	struct sn_http_dest_options d = {.host = "127.0.0.1"};

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
	script_open(&w.script, w.server, &none, 1);
	w.script.choose = choose;
	opts = (struct sn_http_pool_options){.max_per_dest = below(6) + 1,
			.idle_ms = below(100) + 1,
			.max_idle = below(4) + 1};
	assert_int_equal(sn__http_pool_create(w.client, &opts, &w.pool), 0);
	d.port = sn__addr_port(&w.script.addr);
	assert_int_equal(sn__http_dest_create(w.pool, &d, &w.dest), 0);
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
	script_finish(&w.script);
	sn__loop_close(w.client, NULL, NULL);
	sn__loop_close(w.server, NULL, NULL);
	sn__sim_destroy(w.sim);
}

int main(void)
{
	return seeds_main("http_client", one);
}
