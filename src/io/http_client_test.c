/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client against a server that does every bad thing, on real sockets and simulated. */
#include "io/http_script.h"

#define OK5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define ROUNDS 200000 /* turns before a test gives up */

static bool on_sim;

struct world {
	int64_t mem; /* before */
	struct sn_sim *sim;
	struct sn_loop *client, *server;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct script script;
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

static void world_open(struct world *w, const struct step *steps, unsigned n_steps,
		const struct sn_http_pool_options *opts)
{
	struct sn_http_dest_options d = {.host = "127.0.0.1"};

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
	script_open(&w->script, w->server, steps, n_steps);
	assert_int_equal(sn__http_pool_create(w->client, opts, &w->pool), 0);
	d.port = sn__addr_port(&w->script.addr);
	assert_int_equal(sn__http_dest_create(w->pool, &d, &w->dest), 0);
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
	script_finish(&w->script);
	sn__loop_close(w->client, NULL, NULL);
	if (w->sim != NULL) {
		sn__loop_close(w->server, NULL, NULL);
		sn__sim_destroy(w->sim);
	}
	assert_int_equal(sn__mem_live(), w->mem);
}

/* One request from begin to end; the result is in @p. */
static void get(struct world *w, struct probe *p, const char *method)
{
	int pending = 1;

	probe_init(p, method, "/");
	p->pending = &pending;
	p->req.idle_timeout_ms = 100;
	assert_int_equal(sn__http_start(w->dest, &p->req, NULL), 0);
	assert_int_equal(p->n_done, 0);
	run_until(w, &pending);
}

struct expect {
	const char *name;
	struct step step;
	int code;
	enum sn_phase phase;
	enum sn_sent sent;
	unsigned status;
	const char *body;
	const char *detail;   /* a part of it; NULL: any */
	unsigned connections; /* afterwards */
};

static const struct expect table[] = {
		{"plain", {OK5, THEN_KEEP}, 0, SN_PHASE_NONE, SN_SENT_YES, 200, "hello", NULL, 1},
		{"split at every byte", {OK5, THEN_KEEP, .piece = 1}, 0, SN_PHASE_NONE, SN_SENT_YES,
				200, "hello", NULL, 1},
		{"chunked with trailer, split",
				{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
				 "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 7\r\n\r\n",
						THEN_KEEP, .piece = 1},
				0, SN_PHASE_NONE, SN_SENT_YES, 200, "hello", NULL, 1},
		{"until close", {"HTTP/1.1 200 OK\r\n\r\nhello", THEN_CLOSE}, 0, SN_PHASE_NONE,
				SN_SENT_YES, 200, "hello", NULL, 0},
		{"HTTP/1.0", {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", THEN_KEEP}, 0,
				SN_PHASE_NONE, SN_SENT_YES, 200, "hello", NULL, 0},
		{"Connection: close",
				{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
						THEN_KEEP},
				0, SN_PHASE_NONE, SN_SENT_YES, 200, "hello", NULL, 0},
		{"100-continue noise",
				{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK5,
						THEN_KEEP},
				0, SN_PHASE_NONE, SN_SENT_YES, 200, "hello", NULL, 1},
		{"no content", {"HTTP/1.1 204 No Content\r\n\r\n", THEN_KEEP}, 0, SN_PHASE_NONE,
				SN_SENT_YES, 204, "", NULL, 1},
		{"status 500", {"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", THEN_KEEP}, 0,
				SN_PHASE_NONE, SN_SENT_YES, 500, "", NULL, 1},
		{"longer than announced", {OK5 "!", THEN_KEEP}, 0, SN_PHASE_NONE, SN_SENT_YES, 200,
				"hello", NULL, 0},
		{"a second answer", {OK5 OK5, THEN_KEEP}, 0, SN_PHASE_NONE, SN_SENT_YES, 200,
				"hello", NULL, 0},
		{"shorter than announced",
				{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", THEN_CLOSE},
				SN_E_EOF, SN_PHASE_READ, SN_SENT_YES, 200, "hello",
				"inside the body", 0},
		{"chunks cut off",
				{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
						THEN_CLOSE},
				SN_E_EOF, SN_PHASE_READ, SN_SENT_YES, 200, "hello",
				"inside the body", 0},
		{"no answer", {NULL, THEN_CLOSE}, SN_E_EOF, SN_PHASE_WAIT, SN_SENT_MAYBE, 0, "",
				"without an answer", 0},
		{"half a head", {"HTTP/1.1 200 OK\r\nConte", THEN_CLOSE}, SN_E_EOF, SN_PHASE_READ,
				SN_SENT_MAYBE, 0, "", "inside the answer's head", 0},
		{"reset instead of an answer", {NULL, THEN_RESET}, SN_E_RESET, SN_PHASE_WAIT,
				SN_SENT_MAYBE, 0, "", NULL, 0},
		{"stall in the body",
				{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", THEN_STALL},
				SN_E_TIMEOUT, SN_PHASE_READ, SN_SENT_YES, 200, "hello",
				"for 100 ms", 0},
		{"malformed status line", {"HTTP/1.1 2OO OK\r\n\r\n", THEN_KEEP}, SN_E_PROTOCOL,
				SN_PHASE_READ, SN_SENT_MAYBE, 0, "", "malformed status", 0},
		{"not HTTP", {"SSH-2.0-OpenSSH_9.2\r\n", THEN_KEEP}, SN_E_PROTOCOL, SN_PHASE_READ,
				SN_SENT_MAYBE, 0, "", "", 0},
		{"two lengths",
				{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
						THEN_KEEP},
				SN_E_PROTOCOL, SN_PHASE_READ, SN_SENT_MAYBE, 0, "",
				"Content-Length", 0},
		{"bad chunk",
				{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
						THEN_KEEP},
				SN_E_PROTOCOL, SN_PHASE_READ, SN_SENT_YES, 200, "", "chunk", 0},
		{"101 unasked",
				{"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
						THEN_KEEP},
				SN_E_PROTOCOL, SN_PHASE_READ, SN_SENT_MAYBE, 0, "", "101", 0},
};

static void one_by_one(void **state)
{
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		const struct expect *e = &table[i];
		struct world w;
		struct probe p;

		world_open(&w, &e->step, 1, NULL);
		get(&w, &p, "GET");
		if (p.req.result.code != e->code || p.req.result.phase != e->phase ||
				p.req.result.sent != e->sent)
			fail_msg("%s: code %d, phase %s, sent %d, %s", e->name, p.req.result.code,
					sn__phase_name(p.req.result.phase), p.req.result.sent,
					p.req.result.detail);
		assert_int_equal(p.req.result.status, e->status);
		assert_true(sn_str_eq(sn__buf_str(&p.body), sn_str_from(e->body)));
		if (e->detail != NULL)
			assert_non_null(strstr(p.req.result.detail, e->detail));
		if (sn__http_dest_connections(w.dest) != e->connections)
			fail_msg("%s: %u connections", e->name, sn__http_dest_connections(w.dest));
		assert_int_equal(p.req.result.head_ns != 0, e->status != 0);
		assert_true(p.req.result.done_ns >= p.req.result.start_ns);
		if (strstr(e->name, "trailer") != NULL)
			assert_string_equal(p.trailer, "7");
		probe_finish(&p);
		world_close(&w);
	}
}

static void what_goes_out(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	static const struct sn_http_header h1[] = {{SN_STR("A"), SN_STR("1")}},
					   h2[] = {{SN_STR("B"), SN_STR("2")}};
	char want[256];
	struct world w;
	struct probe p;
	int pending = 1;

	world_open(&w, &step, 1, NULL);
	probe_init(&p, "POST", "/x?y=z");
	p.pending = &pending;
	p.req.headers = h1;
	p.req.headers2 = h2;
	p.req.n_headers = p.req.n_headers2 = 1;
	p.req.body = SN_STR("0123456789");
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	run_until(&w, &pending);
	assert_int_equal(p.req.result.code, 0);
	(void)snprintf(want, sizeof want,
			"POST /x?y=z HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n"
			"Content-Length: 10\r\nA: 1\r\nB: 2\r\n\r\n0123456789",
			sn__addr_port(&w.script.addr));
	assert_true(sn_str_eq(sn__buf_str(&w.script.seen), sn_str_from(want)));
	probe_finish(&p);
	world_close(&w);
}

static void refused_at_once(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	static const struct sn_http_header bad[] = {
			{SN_STR("A"), SN_STR("x\r\nB: y")}, {SN_STR("Host"), SN_STR("x")}};
	struct sn_error err;
	struct world w;
	struct probe p;

	world_open(&w, &step, 1, NULL);
	probe_init(&p, "GET", "no slash");
	assert_int_equal(sn__http_start(w.dest, &p.req, &err), SN_E_INVALID);
	assert_non_null(strstr(err.text, "target"));
	probe_init(&p, "G T", "/");
	assert_int_equal(sn__http_start(w.dest, &p.req, &err), SN_E_INVALID);
	assert_non_null(strstr(err.text, "method"));
	probe_init(&p, "GET", "/");
	for (int i = 0; i < 2; i++) {
		p.req.headers = &bad[i];
		p.req.n_headers = 1;
		assert_int_equal(sn__http_start(w.dest, &p.req, &err), SN_E_INVALID);
		assert_non_null(strstr(err.text, i == 0 ? "\"A\"" : "\"Host\""));
	}
	assert_int_equal(p.n_done, 0);
	world_close(&w);
}

static void kept_and_reused(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	struct world w;
	struct probe p;
	uint64_t mem;

	world_open(&w, &step, 1, NULL);
	for (int i = 0; i < 5; i++) {
		get(&w, &p, "GET");
		assert_int_equal(p.req.result.code, 0);
		assert_int_equal(p.req.result.reused, i > 0);
		probe_finish(&p);
	}
	assert_int_equal(w.script.n_accepted, 1);
	/* A connection that rests keeps for idle_ms and no longer. */
	mem = sn__loop_now_ns(w.client);
	if (on_sim) {
		(void)sn__sim_run(w.sim, mem + 3900 * SN_NS_PER_MS);
		assert_int_equal(sn__http_dest_connections(w.dest), 1);
		(void)sn__sim_run(w.sim, mem + 4100 * SN_NS_PER_MS);
		assert_int_equal(sn__http_dest_connections(w.dest), 0);
	}
	world_close(&w);
}

/* In steady state a request takes no memory. */
struct steady {
	struct world w;
	struct probe p;
	int left;
	uint64_t mem;
};

static void steady_next(struct probe *p)
{
	struct steady *s = SN_CONTAINER_OF(p, struct steady, p);

	if (--s->left == 1000)
		s->mem = sn__mem_count();
	if (s->left == 0)
		return;
	p->n_done = p->n_head = 0;
	sn__buf_clear(&p->body);
	assert_int_equal(sn__http_start(s->w.dest, &p->req, NULL), 0);
}

static void no_memory_per_request(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	struct steady s;

	if (on_sim)
		return; /* its network takes memory for what is under way */
	world_open(&s.w, &step, 1, NULL);
	probe_init(&s.p, "GET", "/");
	s.p.then = steady_next;
	s.left = 1100;
	assert_int_equal(sn__http_start(s.w.dest, &s.p.req, NULL), 0);
	run_until(&s.w, &s.left);
	/* The server of this test grows only the log of what it has seen. */
	assert_true(sn__mem_count() - s.mem <= 12);
	probe_finish(&s.p);
	world_close(&s.w);
}

/* More requests than connections: in order, none forgotten, never more than the limit. */
static void queued(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	struct sn_http_pool_options opts = {.max_per_dest = 3};
	struct probe p[20];
	struct world w;
	int pending = 20;

	world_open(&w, &step, 1, &opts);
	for (int i = 0; i < 20; i++) {
		probe_init(&p[i], "GET", "/");
		p[i].pending = &pending;
		assert_int_equal(sn__http_start(w.dest, &p[i].req, NULL), 0);
	}
	assert_int_equal(sn__http_dest_connections(w.dest), 3);
	sn__http_cancel(&p[10].req, SN_E_CANCELLED);
	assert_int_equal(p[10].n_done, 0);
	run_until(&w, &pending);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(p[i].req.result.code, i == 10 ? SN_E_CANCELLED : 0);
		assert_int_equal(p[i].req.result.sent, i == 10 ? SN_SENT_NO : SN_SENT_YES);
		probe_finish(&p[i]);
	}
	assert_int_equal(w.script.n_accepted, 3);
	world_close(&w);
}

/* The queue goes on when every connection of it dies. */
static void queue_survives(void **state)
{
	static const struct step step = {NULL, THEN_RESET};
	struct sn_http_pool_options opts = {.max_per_dest = 2};
	struct probe p[10];
	struct world w;
	int pending = 10;

	world_open(&w, &step, 1, &opts);
	for (int i = 0; i < 10; i++) {
		probe_init(&p[i], "GET", "/");
		p[i].pending = &pending;
		assert_int_equal(sn__http_start(w.dest, &p[i].req, NULL), 0);
	}
	run_until(&w, &pending);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(p[i].req.result.code, SN_E_RESET);
		probe_finish(&p[i]);
	}
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
	world_close(&w);
}

static void refused(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	struct world w;
	struct probe p;

	world_open(&w, &step, 1, NULL);
	sn__listener_close(w.script.listener);
	w.script.listener = NULL;
	get(&w, &p, "GET");
	assert_int_equal(p.req.result.code, SN_E_CONNECT);
	assert_int_equal(p.req.result.phase, SN_PHASE_CONNECT);
	assert_int_equal(p.req.result.sent, SN_SENT_NO);
	assert_int_equal(p.req.result.foreign, ECONNREFUSED);
	assert_non_null(strstr(p.req.result.detail, "refused"));
	world_close(&w);
}

static void until_gone(struct world *w)
{
	for (int i = 0; sn__http_dest_connections(w->dest) > 0; i++) {
		assert_true(i < ROUNDS);
		turn(w);
	}
}

/* The server closes a kept connection: seen while idle, it is never used again. */
static void closed_while_idle(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	struct world w;
	struct probe p;

	world_open(&w, &step, 1, NULL);
	get(&w, &p, "GET");
	probe_finish(&p);
	script_close_all(&w.script, false);
	until_gone(&w);
	get(&w, &p, "POST");
	assert_int_equal(p.req.result.code, 0);
	assert_false(p.req.result.reused);
	probe_finish(&p);
	world_close(&w);
}

/* The same when the event was not processed yet. Real sockets tell when asked, so that the request
 * goes over a new connection; where the news is still under way it fails, and says that it may have
 * been seen and that the connection was a kept one. */
static void closed_in_the_race(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	struct world w;
	struct probe p;
	int raced = 0;

	world_open(&w, &step, 1, NULL);
	for (int i = 0; i < 20; i++) {
		get(&w, &p, "POST");
		if (p.req.result.code != 0) {
			assert_true(on_sim);
			assert_true(p.req.result.code == SN_E_EOF ||
					p.req.result.code == SN_E_RESET);
			assert_true(p.req.result.reused);
			assert_int_equal(p.req.result.sent, SN_SENT_MAYBE);
			raced++;
		} else {
			assert_false(p.req.result.reused);
		}
		probe_finish(&p);
		script_close_all(&w.script, i % 4 > 1);
	}
	assert_int_equal(raced, on_sim ? 10 : 0);
	world_close(&w);
}

/* The answer comes before the request is out, and the rest of it is not sent. */
static void early_answer(void **state)
{
	static const struct step step = {"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge",
			THEN_STALL, .at_head = true};
	size_t size = 32 << 20;
	char *big = sn__calloc(1, size);
	struct world w;
	struct probe p;
	int pending = 1;

	world_open(&w, &step, 1, NULL);
	probe_init(&p, "POST", "/");
	p.pending = &pending;
	p.req.body = (struct sn_str){big, size};
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	run_until(&w, &pending);
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(p.req.result.status, 413);
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
	probe_finish(&p);
	world_close(&w);
	sn__free(big);
}

/* ---- bodies from a source ---- */

struct letters {
	struct sn_body_source src;
	struct sn_http_req *req;
	struct sn_loop *loop;
	struct sn_task task;
	size_t left, piece;
	bool hesitate, ready; /* AGAIN before every piece */
	int fail;
};

static void letters_ready(struct sn_task *task)
{
	struct letters *l = SN_CONTAINER_OF(task, struct letters, task);

	l->ready = true;
	sn__http_body_ready(l->req);
}

static ssize_t letters_read(struct sn_body_source *src, void *out, size_t n)
{
	struct letters *l = SN_CONTAINER_OF(src, struct letters, src);

	if (l->hesitate && !l->ready) {
		sn__loop_defer(l->loop, &l->task, letters_ready);
		return SN_E_AGAIN;
	}
	l->ready = false;
	if (l->left == 0 && l->fail != 0)
		return l->fail;
	n = SN_MIN(SN_MIN(n, l->piece), l->left);
	memset(out, 'a', n);
	l->left -= n;
	return (ssize_t)n;
}

static ssize_t letters_view(struct sn_body_source *src, const char **ret_view)
{
	static char many[50000];
	struct letters *l = SN_CONTAINER_OF(src, struct letters, src);
	ssize_t n = letters_read(src, many, sizeof(many));

	*ret_view = many;
	l->left += n > 0 ? (size_t)n : 0; /* until they are used */
	return n;
}

static void letters_used(struct sn_body_source *src, size_t n)
{
	SN_CONTAINER_OF(src, struct letters, src)->left -= n;
}

static void from_source(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};

	for (int kind = 0; kind < 16; kind++) {
		bool chunked = kind & 1, hesitate = kind & 2, large = kind & 4;
		size_t total = large ? 300000 : 37;
		struct letters l = {.src.read = letters_read,
				.left = total,
				.hesitate = hesitate,
				.piece = large ? 50000 : 10};
		struct world w;
		struct probe p;
		int pending = 1;
		size_t a = 0;

		world_open(&w, &step, 1, NULL);
		l.loop = w.client;
		l.req = &p.req;
		l.src.length = chunked ? -1 : (int64_t)total;
		l.src.view = kind & 8 ? letters_view : NULL; /* of no use with chunks */
		l.src.used = letters_used;
		probe_init(&p, "PUT", "/");
		p.pending = &pending;
		p.req.source = &l.src;
		assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
		run_until(&w, &pending);
		assert_int_equal(p.req.result.code, 0);
		assert_int_equal(sn__http_dest_connections(w.dest), 1);
		for (size_t i = 0; i < w.script.seen.len; i++)
			a += sn__buf_data(&w.script.seen)[i] == 'a';
		assert_true(a >= total && a < total + 200);
		assert_int_equal(memmem(sn__buf_data(&w.script.seen), w.script.seen.len, "chunked",
						 7) != NULL,
				chunked);
		probe_finish(&p);
		world_close(&w);
	}
}

static void source_fails(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};

	for (int kind = 0; kind < 2; kind++) {
		struct letters l = {.src.read = letters_read, .left = 20, .piece = 10};
		struct world w;
		struct probe p;
		int pending = 1;

		world_open(&w, &step, 1, NULL);
		l.src.length = kind == 0 ? 30 : -1;
		l.fail = kind == 0 ? 0 : SN_E_STATE;
		probe_init(&p, "PUT", "/");
		p.pending = &pending;
		p.req.source = &l.src;
		assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
		run_until(&w, &pending);
		assert_int_equal(p.req.result.code, kind == 0 ? SN_E_EOF : SN_E_STATE);
		assert_int_equal(p.req.result.phase, SN_PHASE_WRITE);
		assert_int_equal(w.script.n_requests, 0);
		probe_finish(&p);
		world_close(&w);
	}
}

/* ---- pause, cancel, hand-over, the end ---- */

static void pause_once(struct probe *p)
{
	sn__http_pause(&p->req, true);
}

static void paused(void **state)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
	size_t size = 2 << 20;
	char *answer = sn__malloc(sizeof head + size + 64);
	struct step step = {answer, THEN_KEEP};
	struct world w;
	struct probe p;
	int pending = 1, pauses = 0;
	size_t at = sizeof head - 1;

	memcpy(answer, head, sizeof head);
	for (size_t i = 0; i < size / 16; i++, at += 16)
		memcpy(answer + at, "b\r\n0123456789a\r\n", 17);
	memcpy(answer + at, "0\r\n\r\n", 6);
	world_open(&w, &step, 1, NULL);
	probe_init(&p, "GET", "/");
	p.pending = &pending;
	p.data = pause_once;
	p.req.idle_timeout_ms = on_sim ? 1 : 5000; /* real time may pass on a busy machine */
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	for (int i = 0; pending > 0 && i < ROUNDS; i++) {
		unsigned before = p.n_data;

		if (pauses < 3) /* at first let some time go by in which nothing may come */
			for (int k = 0; p.n_data > 0 && k < 3; k++)
				(void)(on_sim ? sn__sim_run(w.sim,
								sn__sim_now_ns(w.sim) +
										50 * SN_NS_PER_MS)
					      : sn__loop_run(w.client, SN_RUN_NOWAIT));
		assert_int_equal(p.n_data, before);
		if (p.n_data > 0) {
			pauses++;
			sn__http_pause(&p.req, false);
			sn__http_pause(&p.req, true);
			sn__http_pause(&p.req, false);
		}
		while (p.n_data == before && pending > 0)
			turn(&w);
		assert_true(p.n_data <= before + 1);
	}
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(p.body.len, size / 16 * 11);
	probe_finish(&p);
	world_close(&w);
	sn__free(answer);
}

/* The last piece has come, the end is still to be told, and nothing more will come to wake it. */
static void paused_at_the_end(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	struct world w;
	struct probe p;
	int pending = 1;

	world_open(&w, &step, 1, NULL);
	probe_init(&p, "GET", "/");
	p.pending = &pending;
	p.data = pause_once;
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	for (int i = 0; p.n_data == 0; i++) {
		assert_true(i < ROUNDS);
		turn(&w);
	}
	assert_int_equal(pending, 1);
	sn__http_pause(&p.req, false);
	assert_int_equal(pending, 1);
	run_until(&w, &pending);
	assert_int_equal(p.req.result.code, 0);
	assert_int_equal(sn__http_dest_connections(w.dest), 1);
	probe_finish(&p);
	world_close(&w);
}

static void cancel_itself(struct probe *p)
{
	sn__http_cancel(&p->req, SN_E_DEADLINE);
	sn__http_cancel(&p->req, SN_E_CANCELLED);
	assert_int_equal(p->n_done, 0);
}

static void cancelled(void **state)
{
	static const struct step answer = {OK5, THEN_KEEP, .piece = 40},
				 silent = {NULL, THEN_STALL};
	struct world w;
	struct probe p;
	int pending = 1;

	world_open(&w, &answer, 1, NULL);
	probe_init(&p, "GET", "/"); /* inside its own callback */
	p.pending = &pending;
	p.data = cancel_itself;
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	run_until(&w, &pending);
	assert_int_equal(p.req.result.code, SN_E_DEADLINE);
	assert_int_equal(p.req.result.phase, SN_PHASE_READ);
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
	probe_finish(&p);

	pending = 1;
	probe_init(&p, "GET", "/"); /* while connecting */
	p.pending = &pending;
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	sn__http_cancel(&p.req, SN_E_CANCELLED);
	assert_int_equal(p.n_done, 0);
	run_until(&w, &pending);
	assert_int_equal(p.req.result.phase, SN_PHASE_CONNECT);
	assert_int_equal(p.req.result.sent, SN_SENT_NO);

	pending = 1;
	w.script.steps = &silent;
	probe_init(&p, "GET", "/"); /* while waiting */
	p.pending = &pending;
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	for (int i = 0; w.script.n_requests < 2; i++) {
		assert_true(i < ROUNDS);
		turn(&w);
	}
	sn__http_cancel(&p.req, SN_E_TIMEOUT);
	run_until(&w, &pending);
	assert_int_equal(p.req.result.code, SN_E_TIMEOUT);
	assert_int_equal(p.req.result.phase, SN_PHASE_WAIT);
	assert_int_equal(p.req.result.sent, SN_SENT_MAYBE);
	world_close(&w);
}

static struct sn_stream *taken;

static void take(struct probe *p)
{
	taken = sn__http_take_stream(&p->req, &p->body);
}

static void upgraded(void **state)
{
	static const struct step step = {
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
			"Upgrade: echo\r\n\r\nrest",
			THEN_KEEP};
	static const struct sn_http_header h[] = {{SN_STR("Upgrade"), SN_STR("echo")}};

	for (int take_it = 0; take_it < 2; take_it++) {
		struct world w;
		struct probe p;
		int pending = 1;

		world_open(&w, &step, 1, NULL);
		probe_init(&p, "GET", "/");
		p.pending = &pending;
		p.req.upgrade = true;
		p.req.headers = h;
		p.req.n_headers = 1;
		p.then = take_it ? take : NULL;
		taken = NULL;
		assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
		run_until(&w, &pending);
		assert_int_equal(p.req.result.code, 0);
		assert_int_equal(p.req.result.status, 101);
		assert_int_equal(taken != NULL, take_it);
		assert_non_null(memmem(sn__buf_data(&w.script.seen), w.script.seen.len,
				"Connection: Upgrade\r\n", 21));
		if (take_it)
			assert_true(sn_str_eq(sn__buf_str(&p.body), SN_STR("rest")));
		assert_int_equal(sn__http_dest_connections(w.dest), 0);
		sn__stream_close(taken, false);
		probe_finish(&p);
		world_close(&w);
	}
}

static void closed_with_requests(void **state)
{
	static const struct step step = {NULL, THEN_STALL};
	struct sn_http_pool_options opts = {.max_per_dest = 2};
	struct probe p[5];
	struct world w;
	int pending = 5;

	world_open(&w, &step, 1, &opts);
	for (int i = 0; i < 5; i++) {
		probe_init(&p[i], "GET", "/");
		p[i].pending = &pending;
		assert_int_equal(sn__http_start(w.dest, &p[i].req, NULL), 0);
	}
	while (w.script.n_requests < 2)
		turn(&w);
	world_close(&w);
	assert_int_equal(pending, 0);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(p[i].req.result.code, SN_E_CLOSED);
		assert_int_equal(p[i].req.result.sent, i < 2 ? SN_SENT_MAYBE : SN_SENT_NO);
	}
}

static void dropped_place(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	struct sn_http_dest *dest;
	struct world w;
	struct probe p;
	int pending = 1;

	world_open(&w, &step, 1, NULL);
	probe_init(&p, "GET", "/");
	p.pending = &pending;
	dest = sn__http_dest_ref(w.dest);
	assert_int_equal(sn__http_start(dest, &p.req, NULL), 0);
	sn__http_dest_unref(dest);
	sn__http_dest_unref(w.dest); /* the request keeps it until it is done */
	w.dest = NULL;
	run_until(&w, &pending);
	assert_int_equal(p.req.result.code, 0);
	probe_finish(&p);
	world_close(&w);
}

/* Every allocation of a request fails once: it fails with SN_E_NOMEM, or does without. */
static void memory_sweep(void **state)
{
	static const struct step step = {OK5, THEN_KEEP, .piece = 20};
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct world w;
		struct probe p;
		int pending = 1, r;

		assert_true(nth < 1000);
		world_open(&w, &step, 1, NULL);
		probe_init(&p, "GET", "/");
		p.pending = &pending;
		sn__mem_fail_nth(nth);
		r = sn__http_start(w.dest, &p.req, NULL);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r < 0) {
			assert_int_equal(r, SN_E_NOMEM);
			assert_int_equal(sn__http_dest_connections(w.dest), 0);
		} else {
			run_until(&w, &pending);
			if (p.req.result.code != 0)
				assert_int_equal(p.req.result.code, SN_E_NOMEM);
			assert_true(failed || p.req.result.code == 0);
		}
		probe_finish(&p);
		world_close(&w);
	}
}

static void head_request(void **state)
{
	static const struct step step = {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", THEN_KEEP};
	struct world w;
	struct probe p;

	world_open(&w, &step, 1, NULL);
	for (int i = 0; i < 2; i++) {
		get(&w, &p, "HEAD");
		assert_int_equal(p.req.result.code, 0);
		assert_int_equal(p.req.result.reused, i);
		assert_int_equal(p.body.len, 0);
		probe_finish(&p);
	}
	world_close(&w);
}

/* A kept connection on which something comes that nobody asked for. */
static void speaks_while_idle(void **state)
{
	static const struct step step = {OK5, THEN_KEEP};
	static const struct sn_str late = {OK5, sizeof OK5 - 1};
	struct world w;
	struct probe p;

	world_open(&w, &step, 1, NULL);
	get(&w, &p, "GET");
	probe_finish(&p);
	assert_int_equal(sn__stream_write(SN_CONTAINER_OF(w.script.conns.next, struct script_conn,
							  link)
							  ->s,
					 &late, 1),
			(ssize_t)late.len);
	until_gone(&w);
	get(&w, &p, "GET");
	assert_int_equal(p.req.result.code, 0);
	assert_false(p.req.result.reused);
	assert_int_equal(p.body.len, 5);
	probe_finish(&p);
	world_close(&w);
}

/* After a whole exchange the connection ends in order, after a broken one it is reset. */
static void how_it_leaves(void **state)
{
	static const struct step steps[] = {
			{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
					THEN_KEEP},
			{"rubbish\r\n", THEN_KEEP}};
	struct world w;
	struct probe p;

	world_open(&w, steps, 2, NULL);
	for (unsigned i = 1; i <= 2; i++) {
		get(&w, &p, "GET");
		probe_finish(&p);
		for (int k = 0; w.script.n_fin + w.script.n_rst < i; k++) {
			assert_true(k < ROUNDS);
			turn(&w);
		}
		assert_int_equal(w.script.n_fin, 1);
	}
	assert_int_equal(w.script.n_rst, 1);
	world_close(&w);
}

static void no_memory_now(struct probe *p)
{
	sn__mem_fail_nth(1);
	sn__http_pause(&p->req, true);
}

/* What is left over when the caller pauses has nowhere to go. */
static void no_memory_for_the_rest(void **state)
{
	static const struct step step = {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
					 "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
			THEN_KEEP};
	struct world w;
	struct probe p;
	int pending = 1, rounds = 0;

	world_open(&w, &step, 1, NULL);
	probe_init(&p, "GET", "/");
	p.pending = &pending;
	p.data = no_memory_now;
	assert_int_equal(sn__http_start(w.dest, &p.req, NULL), 0);
	while (pending > 0) {
		assert_true(rounds++ < ROUNDS);
		turn(&w);
		if (sn__mem_failed())
			sn__mem_fail_nth(0);
	}
	assert_int_equal(p.req.result.code, SN_E_NOMEM);
	assert_int_equal(p.req.result.phase, SN_PHASE_READ);
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
	probe_finish(&p);
	world_close(&w);
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

int main(void)
{
	static const struct CMUnitTest tests[] = {
			cmocka_unit_test(one_by_one),
			cmocka_unit_test(what_goes_out),
			cmocka_unit_test(refused_at_once),
			cmocka_unit_test(kept_and_reused),
			cmocka_unit_test(no_memory_per_request),
			cmocka_unit_test(queued),
			cmocka_unit_test(queue_survives),
			cmocka_unit_test(refused),
			cmocka_unit_test(closed_while_idle),
			cmocka_unit_test(closed_in_the_race),
			cmocka_unit_test(early_answer),
			cmocka_unit_test(from_source),
			cmocka_unit_test(source_fails),
			cmocka_unit_test(paused),
			cmocka_unit_test(paused_at_the_end),
			cmocka_unit_test(cancelled),
			cmocka_unit_test(upgraded),
			cmocka_unit_test(closed_with_requests),
			cmocka_unit_test(dropped_place),
			cmocka_unit_test(memory_sweep),
			cmocka_unit_test(head_request),
			cmocka_unit_test(speaks_while_idle),
			cmocka_unit_test(how_it_leaves),
			cmocka_unit_test(no_memory_for_the_rest),
	};
	int failed = cmocka_run_group_tests_name("real", tests, set_real, NULL);

	failed += cmocka_run_group_tests_name("simulated", tests, set_sim, NULL);
	return failed;
}
