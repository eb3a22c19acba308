/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 requests against a server that does every bad thing, on real sockets and simulated. */
#include "io/h2.h"
#include "io/h2_script.h"
#include "io/http_probe.h"
#include "io/sim.h"

#define ROUNDS 200000 /* turns before a test gives up */

static bool on_sim;

struct world {
	int64_t mem; /* before */
	struct sn_sim *sim;
	struct sn_loop *client, *server;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct h2s srv;
	bool pool_gone;
};

static void turn(struct world *w)
{
	if (w->sim != NULL)
		(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_MS);
	else
		(void)sn__loop_run(w->client, SN_RUN_ONCE);
}

static void run_until(struct world *w, const int *pending)
{
	for (int i = 0; *pending > 0; i++) {
		assert_true(i < ROUNDS);
		turn(w);
	}
}

/* Both loops go on for a while. */
static void run_ms(struct world *w, uint64_t ms)
{
	uint64_t end_ns = sn__loop_now_ns(w->client) + ms * SN_NS_PER_MS;

	while (sn__loop_clock_ns(w->client) < end_ns) {
		if (w->sim != NULL)
			turn(w);
		else
			(void)sn__loop_run(w->client, SN_RUN_NOWAIT);
	}
}

static void dest_open(struct world *w, struct sn_http_dest_options d)
{
	sn__http_dest_unref(w->dest);
	d.host = "127.0.0.1";
	d.port = sn__addr_port(&w->srv.addr);
	d.version = SN_HTTP_2;
	assert_int_equal(sn__http_dest_create(w->pool, &d, &w->dest), 0);
}

static void world_open(struct world *w, const struct h2s_step *steps, unsigned n_steps)
{
	memset(w, 0, sizeof *w);
	w->mem = sn__mem_live();
	if (on_sim) {
		assert_int_equal(sn__sim_create(&(struct sn_sim_options){.seed = 1}, &w->sim), 0);
		assert_int_equal(sn__sim_loop(w->sim, &w->client), 0);
		assert_int_equal(sn__sim_loop(w->sim, &w->server), 0);
	} else {
		assert_int_equal(sn__loop_uv_open(NULL, &w->client, NULL), 0);
		w->server = w->client;
	}
	h2s_open(&w->srv, w->server, steps, n_steps);
	assert_int_equal(sn__http_pool_create(w->client, NULL, &w->pool), 0);
	dest_open(w, (struct sn_http_dest_options){0});
}

static void on_pool_gone(void *arg)
{
	*(bool *)arg = true;
}

static void world_close(struct world *w)
{
	sn__http_dest_unref(w->dest);
	sn__http_pool_close(w->pool, on_pool_gone, &w->pool_gone);
	assert_false(w->pool_gone);
	for (int i = 0; !w->pool_gone; i++) {
		assert_true(i < ROUNDS);
		turn(w);
	}
	h2s_finish(&w->srv);
	sn__loop_close(w->client, NULL, NULL);
	if (w->sim != NULL) {
		sn__loop_close(w->server, NULL, NULL);
		sn__sim_destroy(w->sim);
	}
	assert_int_equal(sn__mem_live(), w->mem);
}

static void start(struct world *w, struct probe *p, int *pending, const char *method)
{
	probe_init(p, method, "/x");
	p->pending = pending;
	p->req.idle_timeout_ms = 100;
	assert_int_equal(sn__http_start(w->dest, &p->req, NULL), 0);
	assert_int_equal(p->n_done, 0);
}

static void get(struct world *w, struct probe *p, const char *method)
{
	int pending = 1;

	start(w, p, &pending, method);
	run_until(w, &pending);
}

static void check_body(const struct probe *p, size_t n)
{
	assert_int_equal(p->body.len, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(sn__buf_data(&p->body)[i], h2s_letter(i));
}

/* ---- every way an answer can be ---- */

struct expect {
	const char *name;
	struct h2s_step step;
	int code;
	enum sn_phase phase;
	enum sn_sent sent;
	unsigned status;
	size_t body;
	int h2_error;
	const char *detail;   /* a part of it; NULL: any */
	unsigned connections; /* afterwards */
};

static const struct expect table[] = {
		{"plain", {.body = 5}, 0, SN_PHASE_NONE, SN_SENT_YES, 200, 5, -1, NULL, 1},
		{"no body", {0}, 0, SN_PHASE_NONE, SN_SENT_YES, 200, 0, -1, NULL, 1},
		{"large", {.body = 3000000}, 0, SN_PHASE_NONE, SN_SENT_YES, 200, 3000000, -1, NULL,
				1},
		{"trailers", {.body = 70000, .trailers = true}, 0, SN_PHASE_NONE, SN_SENT_YES, 200,
				70000, -1, NULL, 1},
		{"trailers only behind the head", {.trailers = true}, 0, SN_PHASE_NONE, SN_SENT_YES,
				200, 0, -1, NULL, 1},
		{"informational first", {.body = 5, .info = true}, 0, SN_PHASE_NONE, SN_SENT_YES,
				200, 5, -1, NULL, 1},
		{"status 503", {.status = 503}, 0, SN_PHASE_NONE, SN_SENT_YES, 503, 0, -1, NULL, 1},
		{"no content", {.status = 204}, 0, SN_PHASE_NONE, SN_SENT_YES, 204, 0, -1, NULL, 1},
		{"reset", {H2S_RESET, .error = NGHTTP2_INTERNAL_ERROR}, SN_E_RESET, SN_PHASE_WAIT,
				SN_SENT_MAYBE, 0, 0, NGHTTP2_INTERNAL_ERROR, "INTERNAL_ERROR", 1},
		{"reset in the body",
				{H2S_RESET_BODY, .body = 10, .error = NGHTTP2_ENHANCE_YOUR_CALM},
				SN_E_RESET, SN_PHASE_READ, SN_SENT_YES, 200, 5,
				NGHTTP2_ENHANCE_YOUR_CALM, "ENHANCE_YOUR_CALM", 1},
		{"reset without an error in the body",
				{H2S_RESET_BODY, .body = 10, .error = NGHTTP2_NO_ERROR}, SN_E_RESET,
				SN_PHASE_READ, SN_SENT_YES, 200, 5, NGHTTP2_NO_ERROR, NULL, 1},
		{"refused twice", {H2S_RESET, .error = NGHTTP2_REFUSED_STREAM}, SN_E_RESET,
				SN_PHASE_WAIT, SN_SENT_NO, 0, 0, NGHTTP2_REFUSED_STREAM,
				"REFUSED_STREAM", 1},
		{"stall in the body", {H2S_STALL_BODY, .body = 10}, SN_E_TIMEOUT, SN_PHASE_READ,
				SN_SENT_YES, 200, 5, -1, "for 100 ms", 1},
		{"closed instead of an answer", {H2S_CLOSE}, SN_E_EOF, SN_PHASE_WAIT, SN_SENT_MAYBE,
				0, 0, -1, "without an answer", 0},
		{"closed in the body", {H2S_CLOSE_BODY, .body = 10}, SN_E_EOF, SN_PHASE_READ,
				SN_SENT_YES, 200, 5, -1, NULL, 0},
		{"GOAWAY behind the request", {H2S_GOAWAY, .body = 70000}, 0, SN_PHASE_NONE,
				SN_SENT_YES, 200, 70000, -1, NULL, 0},
		{"GOAWAY before the request, for ever", {H2S_GOAWAY_AWAY}, SN_E_RESET,
				SN_PHASE_WAIT, SN_SENT_NO, 0, 0, NGHTTP2_REFUSED_STREAM, NULL, 0},
		{"malformed", {H2S_MALFORMED, .body = 5}, SN_E_PROTOCOL, SN_PHASE_WAIT,
				SN_SENT_MAYBE, 0, 0, NGHTTP2_PROTOCOL_ERROR, "PROTOCOL_ERROR", 1},
		{"wrong length", {H2S_LENGTH, .body = 5}, SN_E_PROTOCOL, SN_PHASE_READ, SN_SENT_YES,
				200, 5, NGHTTP2_PROTOCOL_ERROR, NULL, 1},
		{"not HTTP/2", {H2S_GARBAGE}, SN_E_PROTOCOL, SN_PHASE_WAIT, SN_SENT_MAYBE, 0, 0, -1,
				NULL, 0},
		{"flood of PINGs", {H2S_PINGS}, SN_E_PROTOCOL, SN_PHASE_WAIT, SN_SENT_MAYBE, 0, 0,
				-1, NULL, 0},
		{"a head too large", {H2S_BIG_HEAD}, SN_E_PROTOCOL, SN_PHASE_WAIT, SN_SENT_MAYBE, 0,
				0, -1, "too large", 1},
};

static void one_by_one(void **state)
{
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		const struct expect *e = &table[i];
		struct world w;
		struct probe p;

		world_open(&w, &e->step, 1);
		get(&w, &p, "GET");
		if (p.req.result.code != e->code || p.req.result.phase != e->phase ||
				p.req.result.sent != e->sent ||
				p.req.result.h2_error != e->h2_error)
			fail_msg("%s: code %d, phase %s, sent %d, h2 %d, %s", e->name,
					p.req.result.code, sn__phase_name(p.req.result.phase),
					p.req.result.sent, p.req.result.h2_error,
					p.req.result.detail);
		assert_int_equal(p.req.result.status, e->status);
		if (p.body.len != e->body)
			fail_msg("%s: %zu bytes", e->name, p.body.len);
		check_body(&p, e->body);
		if (e->detail != NULL && strstr(p.req.result.detail, e->detail) == NULL)
			fail_msg("%s: %s", e->name, p.req.result.detail);
		if (sn__http_dest_connections(w.dest) != e->connections)
			fail_msg("%s: %u connections", e->name, sn__http_dest_connections(w.dest));
		if (e->step.trailers)
			assert_string_equal(p.trailer, "7");
		assert_true(p.req.result.done_ns >= p.req.result.start_ns);
		assert_int_equal(p.req.result.head_ns != 0, e->status != 0);
		probe_finish(&p);
		world_close(&w);
	}
}

/* ---- what goes out ---- */

static void heads(void **state)
{
	static const struct h2s_step step = {.body = 5};
	static const struct sn_http_header h1[] =
			{
					{SN_STR("X-One"), SN_STR("1")},
					{SN_STR("Keep-Alive"), SN_STR("timeout=5")},
					{SN_STR("Proxy-Connection"), SN_STR("close")},
					{SN_STR("Upgrade"), SN_STR("websocket")},
					{SN_STR("TE"), SN_STR("gzip")},
					{SN_STR("TE"), SN_STR("trailers")},
			},
					   h2[] = {{SN_STR("TraceParent"), SN_STR("2")}};
	char want[512];
	struct world w;
	struct probe p;
	int pending = 1;

	world_open(&w, &step, 1);
	probe_init(&p, "POST", "/a?b=c");
	p.pending = &pending;
	p.req.headers = h1;
	p.req.n_headers = SN_COUNT(h1);
	p.req.headers2 = h2;
	p.req.n_headers2 = 1;
	p.req.body = SN_STR("0123456789");
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	run_until(&w, &pending);
	assert_int_equal(p.req.result.code, 0);
	(void)snprintf(want, sizeof want,
			":method=POST;:scheme=http;:authority=127.0.0.1:%u;:path=/a?b=c;"
			"content-length=10;x-one=1;te=trailers;traceparent=2;",
			sn__addr_port(&w.srv.addr));
	assert_string_equal(w.srv.last.headers, want);
	assert_int_equal(w.srv.last.received, 10);
	assert_true(p.req.result.sent_ns != 0);
	probe_finish(&p);
	get(&w, &p, "POST");
	assert_non_null(strstr(w.srv.last.headers, "content-length=0;"));
	assert_true(p.req.result.reused);
	probe_finish(&p);
	get(&w, &p, "HEAD");
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(p.body.len, 0);
	probe_finish(&p);
	assert_int_equal(w.srv.n_accepted, 1);
	world_close(&w);
}

static void refused_at_once(void **state)
{
	static const struct h2s_step step = {0};
	static const struct sn_http_header bad[] = {{SN_STR("A"), SN_STR("x\r\nB: y")},
			{SN_STR("Host"), SN_STR("x")}, {SN_STR("Transfer-Encoding"), SN_STR("x")},
			{SN_STR(":path"), SN_STR("/")}};
	static struct sn_http_header many[SN_HTTP_HEADERS_MAX + 1];
	struct sn_error err;
	struct world w;
	struct probe p;

	world_open(&w, &step, 1);
	probe_init(&p, "GET", "no slash");
	assert_int_equal(sn__http_start(w.dest, &p.req, &err), SN_E_INVALID);
	probe_init(&p, "G T", "/");
	assert_int_equal(sn__http_start(w.dest, &p.req, &err), SN_E_INVALID);
	probe_init(&p, "GET", "/");
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		p.req.headers = &bad[i];
		p.req.n_headers = 1;
		assert_int_equal(sn__http_start(w.dest, &p.req, &err), SN_E_INVALID);
	}
	for (size_t i = 0; i < SN_COUNT(many); i++)
		many[i] = (struct sn_http_header){SN_STR("a"), SN_STR("b")};
	p.req.headers = many;
	p.req.n_headers = SN_COUNT(many);
	assert_int_equal(sn__http_start(w.dest, &p.req, &err), SN_E_LIMIT);
	p.req.n_headers = 0;
	p.req.upgrade = true;
	assert_int_equal(sn__http_start(w.dest, &p.req, &err), SN_E_NOTSUP);
	assert_non_null(strstr(err.text, "HTTP/2"));
	assert_int_equal(p.n_done, 0);
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
	world_close(&w);
}

/* A source that has something only now and then. */
struct source {
	struct sn_body_source src;
	size_t left, piece;
	bool dry;
	unsigned n_rewound;
	size_t size;
	int fails;
};

static ssize_t source_read(struct sn_body_source *src, void *out, size_t n)
{
	struct source *s = SN_CONTAINER_OF(src, struct source, src);

	if (s->fails != 0)
		return s->fails;
	s->dry = !s->dry;
	if (s->dry)
		return SN_E_AGAIN;
	n = SN_MIN(SN_MIN(n, s->piece), s->left);
	memset(out, 'x', n);
	s->left -= n;
	return (ssize_t)n;
}

static int source_rewind(struct sn_body_source *src)
{
	struct source *s = SN_CONTAINER_OF(src, struct source, src);

	s->n_rewound++;
	s->left = s->size;
	return 0;
}

static void source_init(struct source *s, size_t size, int64_t length)
{
	*s = (struct source){.src = {.read = source_read, .length = length},
			.left = size,
			.size = size,
			.piece = 1000};
}

static void run_source(struct world *w, struct probe *p, struct source *s)
{
	int pending = 1;

	probe_init(p, "POST", "/up");
	p->pending = &pending;
	p->req.source = &s->src;
	assert_int_equal(sn__http_start(w->dest, &p->req, NULL), 0);
	for (int i = 0; p->n_done == 0; i++) {
		assert_true(i < ROUNDS);
		sn__http_body_ready(&p->req);
		turn(w);
	}
}

static void sources(void **state)
{
	static const struct h2s_step step = {.body = 5};
	struct source s;
	struct world w;
	struct probe p;

	world_open(&w, &step, 1);
	for (int i = 0; i < 4; i++) {
		source_init(&s, i < 2 ? 100000 : 0, i % 2 == 0 ? -1 : (int64_t)s.size);
		s.src.length = i % 2 == 0 ? -1 : (int64_t)s.size;
		run_source(&w, &p, &s);
		assert_int_equal(p.req.result.code, 0);
		assert_int_equal(w.srv.last.received, s.size);
		assert_int_equal(strstr(w.srv.last.headers, "content-length") != NULL, i % 2);
		probe_finish(&p);
	}
	source_init(&s, 99, 100);
	run_source(&w, &p, &s);
	assert_int_equal(p.req.result.code, SN_E_EOF);
	assert_int_equal(p.req.result.phase, SN_PHASE_WRITE);
	probe_finish(&p);
	source_init(&s, 99, -1);
	s.fails = SN_E_IO;
	run_source(&w, &p, &s);
	assert_int_equal(p.req.result.code, SN_E_IO);
	assert_non_null(strstr(p.req.result.detail, "source"));
	probe_finish(&p);
	/* Nothing of that hurt the connection. */
	get(&w, &p, "GET");
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(w.srv.n_accepted, 1);
	probe_finish(&p);
	world_close(&w);
}

/* Not processed: sent again if the body can be, once. */
static void placed_anew(void **state)
{
	static const struct h2s_step steps[] = {{H2S_RESET, .error = NGHTTP2_REFUSED_STREAM},
			{H2S_ANSWER, .body = 5}, {H2S_GOAWAY_AWAY}, {H2S_ANSWER, .body = 5},
			{H2S_RESET, .error = NGHTTP2_REFUSED_STREAM}, {H2S_ANSWER, .body = 5},
			{H2S_RESET, .error = NGHTTP2_REFUSED_STREAM}, {H2S_ANSWER, .body = 5}};
	struct source s;
	struct world w;
	struct probe p;

	world_open(&w, steps, SN_COUNT(steps));
	get(&w, &p, "GET");
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(p.req.result.h2_error, -1);
	check_body(&p, 5);
	assert_int_equal(w.srv.n_accepted, 1);
	probe_finish(&p);
	get(&w, &p, "GET");
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(w.srv.n_accepted, 2);
	probe_finish(&p);
	source_init(&s, 3000, -1);
	s.src.rewind = source_rewind;
	run_source(&w, &p, &s);
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(s.n_rewound, 1);
	assert_int_equal(w.srv.last.received, 3000);
	probe_finish(&p);
	source_init(&s, 3000, -1);
	run_source(&w, &p, &s);
	assert_int_equal(p.req.result.code, SN_E_RESET);
	assert_int_equal(p.req.result.sent, SN_SENT_NO);
	assert_int_equal(p.req.result.h2_error, NGHTTP2_REFUSED_STREAM);
	probe_finish(&p);
	world_close(&w);
}

static void early_answer(void **state)
{
	static const struct h2s_step step = {H2S_EARLY, .status = 403, .body = 5};
	static char body[400000];
	struct world w;
	struct probe p;
	int pending = 1;

	world_open(&w, &step, 1);
	w.srv.keep_shut = true;
	probe_init(&p, "POST", "/x");
	p.pending = &pending;
	p.req.body = (struct sn_str){body, sizeof body};
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	run_until(&w, &pending);
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(p.req.result.status, 403);
	check_body(&p, 5);
	assert_int_equal(sn__http_dest_connections(w.dest), 1);
	probe_finish(&p);
	world_close(&w);
}

/* The peer's windows are respected, and what comes later goes on. */
static void window_stall(void **state)
{
	static const struct h2s_step step = {.body = 5};
	static char body[200000];
	struct probe p[3];
	struct world w;
	int pending = 3;

	world_open(&w, &step, 1);
	w.srv.window = 10000;
	w.srv.keep_shut = true;
	for (int i = 0; i < 3; i++) {
		probe_init(&p[i], "POST", "/x");
		p[i].pending = &pending;
		p[i].req.body = (struct sn_str){body, sizeof body};
		assert_int_equal(sn__http_start(w.dest, &p[i].req, NULL), 0);
	}
	run_ms(&w, 30);
	assert_int_equal(pending, 3);
	h2s_open_windows(&w.srv);
	run_until(&w, &pending);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(p[i].req.result.code, 0);
		probe_finish(&p[i]);
	}
	assert_int_equal(w.srv.last.received, sizeof body);
	world_close(&w);
}

/* ---- many at once ---- */

#define MANY 64

static void shared(void **state)
{
	static const struct h2s_step step = {.body = 20000};
	struct probe p[MANY];
	struct world w;
	int pending = MANY;

	world_open(&w, &step, 1);
	for (int i = 0; i < MANY; i++)
		start(&w, &p[i], &pending, "GET");
	run_until(&w, &pending);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(p[i].req.result.code, 0);
		check_body(&p[i], 20000);
		probe_finish(&p[i]);
	}
	assert_int_equal(w.srv.n_accepted, 1);
	assert_int_equal(w.srv.n_requests, MANY);
	world_close(&w);
}

/* As many streams as the peer, and our own option, allow; then connections; then the queue. */
static void limits(void **state)
{
	static const struct h2s_step step = {.body = 5};
	struct probe p[MANY];
	struct world w;
	int pending = 1;

	world_open(&w, &step, 1);
	w.srv.max_streams = 3;
	dest_open(&w, (struct sn_http_dest_options){.max_connections = 2});
	start(&w, &p[0], &pending, "GET");
	run_until(&w, &pending); /* the limit is known */
	probe_finish(&p[0]);
	pending = MANY;
	for (int i = 0; i < MANY; i++)
		start(&w, &p[i], &pending, "GET");
	run_until(&w, &pending);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(p[i].req.result.code, 0);
		check_body(&p[i], 5);
		probe_finish(&p[i]);
	}
	assert_int_equal(w.srv.n_accepted, 2);

	w.srv.max_streams = 0;
	w.srv.n_accepted = w.srv.most_open = 0;
	dest_open(&w, (struct sn_http_dest_options){.max_connections = 3, .max_streams = 4});
	pending = MANY;
	for (int i = 0; i < MANY; i++)
		start(&w, &p[i], &pending, "GET");
	run_until(&w, &pending);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(p[i].req.result.code, 0);
		probe_finish(&p[i]);
	}
	assert_int_equal(w.srv.n_accepted, 3);
	assert_true(w.srv.most_open <= 12);
	world_close(&w);
}

static void limit_learnt_too_late(void **state)
{
	static const struct h2s_step step = {.body = 5};
	struct probe p[MANY];
	struct world w;
	int pending = MANY;

	world_open(&w, &step, 1);
	w.srv.max_streams = 2;
	dest_open(&w, (struct sn_http_dest_options){.max_connections = 1});
	for (int i = 0; i < MANY; i++)
		start(&w, &p[i], &pending, "GET");
	run_until(&w, &pending);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(p[i].req.result.code, 0);
		probe_finish(&p[i]);
	}
	assert_int_equal(w.srv.n_accepted, 1);
	/* What the first SETTINGS said holds for the connections that are dialled then: nothing is
	 * refused twice. */
	dest_open(&w, (struct sn_http_dest_options){.max_connections = MANY});
	pending = MANY;
	for (int i = 0; i < MANY; i++)
		start(&w, &p[i], &pending, "GET");
	run_until(&w, &pending);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(p[i].req.result.code, 0);
		probe_finish(&p[i]);
	}
	world_close(&w);
}

static void goaway_moves_the_rest(void **state)
{
	static const struct h2s_step steps[] = {{H2S_ANSWER, .body = 300000}, {H2S_GOAWAY_AWAY},
			{H2S_ANSWER, .body = 300000}};
	struct probe p[10];
	struct world w;
	int pending = 10;

	world_open(&w, steps, SN_COUNT(steps));
	for (int i = 0; i < 10; i++)
		start(&w, &p[i], &pending, "GET");
	run_until(&w, &pending);
	for (int i = 0; i < 10; i++) {
		if (p[i].req.result.code != 0)
			fail_msg("%d: %s", i, p[i].req.result.detail);
		check_body(&p[i], 300000);
		probe_finish(&p[i]);
	}
	assert_int_equal(w.srv.n_accepted, 2);
	world_close(&w);
}

static void cancelled(void **state)
{
	static const struct h2s_step steps[] = {{H2S_ANSWER, .body = 5}, {H2S_STALL},
			{H2S_STALL_BODY, .body = 100}, {H2S_ANSWER, .body = 5}};
	struct probe p[4];
	struct world w;
	int pending = 1, other = 3;

	world_open(&w, steps, SN_COUNT(steps));
	start(&w, &p[0], &pending, "GET");
	run_until(&w, &pending);
	probe_finish(&p[0]);
	for (int i = 0; i < 3; i++)
		start(&w, &p[i], &other, "GET");
	while (p[1].n_head == 0)
		turn(&w);
	/* Before a byte of it has left, and after. */
	start(&w, &p[3], &pending, "GET");
	sn__http_cancel(&p[3].req, SN_E_CANCELLED);
	sn__http_cancel(&p[0].req, SN_E_DEADLINE);
	sn__http_cancel(&p[1].req, SN_E_CANCELLED);
	sn__http_cancel(&p[1].req, SN_E_TIMEOUT);
	assert_int_equal(p[0].n_done + p[1].n_done + p[3].n_done, 0);
	run_until(&w, &other);
	assert_int_equal(p[3].req.result.code, SN_E_CANCELLED);
	assert_int_equal(p[3].req.result.sent, SN_SENT_NO);
	assert_int_equal(p[0].req.result.code, SN_E_DEADLINE);
	assert_int_equal(p[0].req.result.sent, SN_SENT_MAYBE);
	assert_int_equal(p[0].req.result.phase, SN_PHASE_WAIT);
	assert_int_equal(p[1].req.result.code, SN_E_CANCELLED);
	assert_int_equal(p[1].req.result.sent, SN_SENT_YES);
	assert_int_equal(p[2].req.result.code, 0);
	probe_finish(&p[2]);
	get(&w, &p[2], "GET");
	assert_int_equal(p[2].req.result.code, 0);
	assert_int_equal(w.srv.n_requests, 5);
	assert_int_equal(w.srv.n_resets, 2);
	assert_int_equal(w.srv.last_reset, NGHTTP2_CANCEL);
	assert_int_equal(w.srv.n_accepted, 1);
	for (int i = 0; i < 4; i++)
		probe_finish(&p[i]);
	world_close(&w);
}

/* ---- back-pressure ---- */

static void pause_now(struct probe *p)
{
	sn__http_pause(&p->req, true);
}

static void paused(void **state)
{
	static const struct h2s_step step = {.body = 1000000, .trailers = true};
	struct probe p, other;
	struct world w;
	int pending = 1, one = 1;

	world_open(&w, &step, 1);
	start(&w, &p, &pending, "GET");
	p.data = pause_now;
	while (p.n_data == 0)
		turn(&w);
	/* Longer than idle_timeout_ms, and the others are not held up. */
	run_ms(&w, 150);
	assert_int_equal(p.n_data, 1);
	start(&w, &other, &one, "GET");
	run_until(&w, &one);
	check_body(&other, 1000000);
	probe_finish(&other);
	SN_LIST_FOREACH (pos, &w.srv.conns) {
		struct h2s_conn *c = SN_CONTAINER_OF(pos, struct h2s_conn, link);
		struct h2s_stream *st = SN_CONTAINER_OF(c->streams.next, struct h2s_stream, link);

		assert_true(st->sent <= 2 * SN_H2_STREAM_WINDOW);
	}
	while (p.n_done == 0) {
		sn__http_pause(&p.req, false);
		turn(&w);
	}
	assert_int_equal(p.req.result.code, 0);
	assert_true(p.n_data > 1);
	check_body(&p, 1000000);
	assert_string_equal(p.trailer, "7");
	probe_finish(&p);
	world_close(&w);
}

/* The whole answer is there before the caller goes on, or gives up. */
static void whole_but_paused(void **state)
{
	static const struct h2s_step step = {.body = 100000, .trailers = true};
	struct probe p;
	struct world w;

	for (int i = 0; i < 3; i++) {
		int pending = 1;

		world_open(&w, &step, 1);
		start(&w, &p, &pending, "GET");
		p.data = pause_now;
		while (p.n_data == 0)
			turn(&w);
		run_ms(&w, 150);
		assert_int_equal(p.n_data, 1);
		if (i == 0) {
			p.data = NULL;
			sn__http_pause(&p.req, false);
			run_until(&w, &pending);
			assert_int_equal(p.req.result.code, 0);
			check_body(&p, 100000);
			assert_string_equal(p.trailer, "7");
		} else if (i == 1) {
			sn__http_cancel(&p.req, SN_E_CANCELLED);
			run_until(&w, &pending);
			assert_int_equal(p.req.result.code, SN_E_CANCELLED);
		}
		w.mem += p.body.cap > 0;
		world_close(&w);
		assert_int_equal(p.n_done, 1);
		probe_finish(&p);
	}
}

/* ---- what callbacks may do ---- */

struct web {
	struct world w;
	struct probe p[6];
	int pending;
	bool again;
};
static struct web web;

static void web_done(struct probe *p)
{
	if (web.again)
		return;
	web.again = true;
	sn__http_cancel(&web.p[1].req, SN_E_CANCELLED);
	start(&web.w, &web.p[4], &web.pending, "GET");
	start(&web.w, &web.p[5], &web.pending, "GET");
	sn__http_cancel(&web.p[5].req, SN_E_CANCELLED);
}

static void web_data(struct probe *p)
{
	if (p == &web.p[2])
		sn__http_cancel(&p->req, SN_E_CANCELLED);
	if (p == &web.p[3]) {
		sn__http_pause(&p->req, true);
		sn__http_pause(&p->req, false);
	}
}

static void from_callbacks(void **state)
{
	static const struct h2s_step step = {.body = 50000};

	memset(&web, 0, sizeof web);
	world_open(&web.w, &step, 1);
	web.pending = 4;
	for (int i = 0; i < 4; i++) {
		start(&web.w, &web.p[i], &web.pending, "GET");
		web.p[i].data = web_data;
		web.p[i].then = web_done;
	}
	web.pending += 2;
	run_until(&web.w, &web.pending);
	assert_int_equal(web.p[2].req.result.code, SN_E_CANCELLED);
	assert_int_equal(web.p[3].req.result.code, 0);
	assert_int_equal(web.p[4].req.result.code, 0);
	assert_int_equal(web.p[5].req.result.code, SN_E_CANCELLED);
	assert_int_equal(web.w.srv.n_accepted, 1);
	for (int i = 0; i < 6; i++)
		probe_finish(&web.p[i]);
	world_close(&web.w);
}

static void gone_in_callback(struct probe *p)
{
	sn__http_dest_unref(web.w.dest);
	web.w.dest = NULL;
	sn__http_pool_close(web.w.pool, on_pool_gone, &web.w.pool_gone);
	web.w.pool = NULL;
}

static void pool_closed_in_callback(void **state)
{
	static const struct h2s_step step = {.body = 50000};

	for (int i = 0; i < 2; i++) {
		memset(&web, 0, sizeof web);
		world_open(&web.w, &step, 1);
		web.pending = 4;
		for (int k = 0; k < 4; k++)
			start(&web.w, &web.p[k], &web.pending, "GET");
		if (i == 0)
			web.p[1].data = gone_in_callback;
		else
			web.p[1].then = gone_in_callback;
		run_until(&web.w, &web.pending);
		while (!web.w.pool_gone)
			turn(&web.w);
		for (int k = 0; k < 4; k++) {
			assert_int_equal(web.p[k].n_done, 1);
			probe_finish(&web.p[k]);
		}
		h2s_finish(&web.w.srv);
		sn__loop_close(web.w.client, NULL, NULL);
		if (web.w.sim != NULL) {
			sn__loop_close(web.w.server, NULL, NULL);
			sn__sim_destroy(web.w.sim);
		}
		assert_int_equal(sn__mem_live(), web.w.mem);
	}
}

/* ---- the connection ---- */

static void dial_shared_and_failed(void **state)
{
	static const struct h2s_step step = {.body = 5};
	struct probe p[MANY];
	struct world w;
	int pending = MANY;

	world_open(&w, &step, 1);
	/* The one that dialled goes away, and some others. */
	for (int i = 0; i < MANY; i++)
		start(&w, &p[i], &pending, "GET");
	assert_int_equal(sn__http_dest_connections(w.dest), 1);
	for (int i = 0; i < 10; i++)
		sn__http_cancel(&p[i].req, SN_E_CANCELLED);
	run_until(&w, &pending);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(p[i].req.result.code, i < 10 ? SN_E_CANCELLED : 0);
		assert_int_equal(p[i].req.result.sent, i < 10 ? SN_SENT_NO : SN_SENT_YES);
		probe_finish(&p[i]);
	}
	assert_int_equal(w.srv.n_accepted, 1);
	/* Nobody is left, or nobody answers. */
	dest_open(&w, (struct sn_http_dest_options){0});
	pending = 2;
	for (int i = 0; i < 2; i++) {
		start(&w, &p[i], &pending, "GET");
		sn__http_cancel(&p[i].req, SN_E_CANCELLED);
	}
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
	run_until(&w, &pending);
	h2s_close_all(&w.srv, false);
	sn__listener_close(w.srv.listener);
	w.srv.listener = NULL;
	pending = MANY;
	for (int i = 0; i < MANY; i++)
		start(&w, &p[i], &pending, "GET");
	assert_int_equal(sn__http_dest_connections(w.dest), 1);
	run_until(&w, &pending);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(p[i].req.result.code, SN_E_CONNECT);
		assert_int_equal(p[i].req.result.phase, SN_PHASE_CONNECT);
		assert_int_equal(p[i].req.result.along, i > 0); /* one failure, told once */
		assert_int_equal(p[i].req.result.sent, SN_SENT_NO);
		probe_finish(&p[i]);
	}
	world_close(&w);
}

/* A connection with many requests breaks: that is one failure, and one of them tells of it. */
static void broken_once(void **state)
{
	static const struct h2s_step step = {H2S_STALL};
	struct probe p[MANY];
	struct world w;
	int pending = MANY, told = 0;

	world_open(&w, &step, 1);
	for (int i = 0; i < MANY; i++)
		start(&w, &p[i], &pending, "GET");
	while (w.srv.n_requests < MANY)
		turn(&w);
	h2s_close_all(&w.srv, true);
	run_until(&w, &pending);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(p[i].req.result.code, SN_E_RESET);
		told += !p[i].req.result.along;
		probe_finish(&p[i]);
	}
	assert_int_equal(told, 1);
	world_close(&w);
}

static void idle_ends(void **state)
{
	static const struct h2s_step step = {.body = 5};
	struct world w;
	struct probe p;

	world_open(&w, &step, 1);
	dest_open(&w, (struct sn_http_dest_options){.idle_ms = 50});
	get(&w, &p, "GET");
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(sn__http_dest_connections(w.dest), 1);
	probe_finish(&p);
	while (w.srv.n_gone == 0)
		turn(&w);
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
	assert_int_equal(w.srv.n_goaways, 1);
	assert_int_equal(w.srv.last_goaway, NGHTTP2_NO_ERROR);
	assert_int_equal(w.srv.n_gone, 1);
	/* The peer ends it. */
	for (int i = 0; i < 2; i++) {
		get(&w, &p, "GET");
		assert_int_equal(p.req.result.code, 0);
		probe_finish(&p);
		h2s_close_all(&w.srv, i == 1);
		while (sn__http_dest_connections(w.dest) > 0)
			turn(&w);
	}
	assert_int_equal(w.srv.n_accepted, 3);
	world_close(&w);
}

static void keep_alive(void **state)
{
	static const struct h2s_step steps[] = {{H2S_ANSWER, .body = 5}, {H2S_STALL}};
	struct world w;
	struct probe p;
	int pending = 1;

	world_open(&w, steps, 2);
	dest_open(&w, (struct sn_http_dest_options){.ping_ms = 30, .ping_timeout_ms = 2000});
	get(&w, &p, "GET");
	probe_finish(&p);
	start(&w, &p, &pending, "GET");
	for (int i = 0; i < 20 && w.srv.n_pings < 3; i++)
		run_ms(&w, 60);
	assert_true(w.srv.n_pings >= 3); /* as often as asked for */
	assert_int_equal(pending, 1);    /* answered */
	sn__http_cancel(&p.req, SN_E_CANCELLED);
	run_until(&w, &pending);
	probe_finish(&p);
	w.srv.silent = true;
	dest_open(&w, (struct sn_http_dest_options){.ping_ms = 30, .ping_timeout_ms = 50});
	pending = 1;
	start(&w, &p, &pending, "GET");
	run_until(&w, &pending);
	assert_int_equal(p.req.result.code, SN_E_TIMEOUT);
	assert_int_equal(p.req.result.sent, SN_SENT_MAYBE);
	assert_non_null(strstr(p.req.result.detail, "PING"));
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
	probe_finish(&p);
	world_close(&w);
}

/* Every allocation of an exchange fails once, the server's (of its streams) and the network's too:
 * each request ends, one way or the other, and nothing leaks. */
static void no_memory(void **state)
{
	static const struct h2s_step step = {.body = 3000, .trailers = true};
	unsigned n_failed = 0;
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct probe p[2];
		struct world w;
		int pending = 0;

		assert_true(nth < 2000);
		world_open(&w, &step, 1);
		sn__mem_fail_nth(nth);
		for (int i = 0; i < 2; i++) {
			probe_init(&p[i], "POST", "/x");
			p[i].pending = &pending;
			p[i].drop = true;
			p[i].req.body = SN_STR("body");
			if (sn__http_start(w.dest, &p[i].req, NULL) == 0)
				pending++;
			else
				assert_true(sn__mem_failed());
		}
		run_until(&w, &pending);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		for (int i = 0; i < 2; i++) {
			if (p[i].n_done > 0 && p[i].req.result.code == SN_E_NOMEM)
				n_failed++;
			assert_true(failed || p[i].req.result.code == 0);
			probe_finish(&p[i]);
		}
		world_close(&w);
	}
	assert_true(n_failed > 20);
}

static int set_sim(void **state)
{
	on_sim = true;
	return 0;
}

static int set_real(void **state)
{
	on_sim = false;
	return 0;
}

#define BOTH(test) \
	{#test " (libuv)", test, set_real, NULL, NULL}, \
	{ \
#test " (simulated)", test, set_sim, NULL, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
			BOTH(one_by_one),
			BOTH(heads),
			BOTH(refused_at_once),
			BOTH(sources),
			BOTH(placed_anew),
			BOTH(early_answer),
			BOTH(window_stall),
			BOTH(shared),
			BOTH(limits),
			BOTH(limit_learnt_too_late),
			BOTH(goaway_moves_the_rest),
			BOTH(cancelled),
			BOTH(paused),
			BOTH(whole_but_paused),
			BOTH(from_callbacks),
			BOTH(pool_closed_in_callback),
			BOTH(dial_shared_and_failed),
			BOTH(broken_once),
			BOTH(idle_ends),
			BOTH(keep_alive),
			BOTH(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
