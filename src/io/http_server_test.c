/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server, byte by byte: a raw client writes text and compares what comes back (without the
 * Date lines), on libuv and on the simulation. */
#include <stdio.h>

#include "base/buf.h"
#include "io/http_server.h"
#include "io/world_test.h"

/* ---- a raw client ---- */

struct peer {
	struct world *w;
	struct sn_stream *s;
	struct sn_buf out, in;
	bool connected, eof, reset, hold; /* hold: do not read */
	bool half_close;
	uint64_t heard_ns; /* when it last read something */
};

static void peer_want(struct peer *p)
{
	sn__stream_want(p->s,
			(p->out.len > 0 ? SN_WRITABLE : 0u) |
					(p->hold || p->eof ? 0u : SN_READABLE));
}

static void peer_write(struct peer *p)
{
	while (p->out.len > 0) {
		struct sn_str v = sn__buf_str(&p->out);
		ssize_t n = sn__stream_write(p->s, &v, 1);

		if (n == SN_E_AGAIN)
			return;
		if (n < 0) {
			p->reset = true;
			sn__buf_clear(&p->out);
			return;
		}
		sn__buf_consume(&p->out, (size_t)n);
	}
	if (p->half_close) {
		p->half_close = false;
		assert_int_equal(sn__stream_shutdown(p->s), 0);
	}
}

static void peer_read(struct peer *p)
{
	char block[4096];

	for (;;) {
		ssize_t n = sn__stream_read(p->s, block, sizeof(block));

		if (n == SN_E_AGAIN)
			return;
		p->heard_ns = sn__loop_now_ns(p->w->b);
		if (n <= 0) {
			p->eof = true;
			p->reset |= n < 0;
			return;
		}
		assert_int_equal(sn__buf_append(&p->in, block, (size_t)n), 0);
	}
}

static void on_peer(struct sn_stream *s, unsigned events, void *arg)
{
	struct peer *p = arg;

	assert_int_equal(events & SN_STREAM_FAILED, 0);
	if (events & SN_STREAM_CONNECTED)
		p->connected = true;
	if (p->connected)
		peer_write(p);
	if (!p->hold && (events & SN_READABLE))
		peer_read(p);
	peer_want(p);
}

static void peer_send(struct peer *p, const char *text)
{
	assert_int_equal(sn__buf_puts(&p->out, text), 0);
	peer_want(p);
}

static void peer_open(struct world *w, struct peer *p, const struct sn_addr *addr, const char *text)
{
	*p = (struct peer){.w = w};
	sn__buf_init(&p->out, 1 << 26);
	sn__buf_init(&p->in, 1 << 26);
	assert_int_equal(sn__stream_connect(w->b, addr, on_peer, p, &p->s, NULL), 0);
	peer_send(p, text);
}

static void peer_close(struct peer *p)
{
	sn__stream_close(p->s, false);
	sn__buf_finish(&p->in);
	sn__buf_finish(&p->out);
}

/* Drop the Date lines; they must be well formed. */
static void strip_dates(struct sn_buf *b)
{
	char *at;

	assert_int_equal(sn__buf_append(b, "", 1), 0);
	while ((at = strstr(b->block + b->head, "Date: ")) != NULL) {
		char *end = strstr(at, "\r\n");
		size_t after;

		if (end == NULL)
			break;
		assert_int_equal(end - at, 35);
		assert_memory_equal(end - 4, " GMT", 4);
		after = (size_t)(b->block + b->head + b->len - (end + 2));
		memmove(at, end + 2, after);
		b->len -= (size_t)(end + 2 - at);
	}
	sn__buf_truncate(b, b->len - 1);
}

/* Run until @text has come (or the connection ended), and nothing else. */
static void peer_expect(struct peer *p, const char *text)
{
	size_t n = strlen(text);

	while (p->in.len < n && !p->eof && sn__loop_run(p->w->a, SN_RUN_ONCE))
		strip_dates(&p->in);
	strip_dates(&p->in);
	while (p->in.len < n && !p->eof && sn__loop_run(p->w->a, SN_RUN_ONCE))
		strip_dates(&p->in);
	if (p->in.len < n || memcmp(sn__buf_data(&p->in), text, n) != 0)
		fail_msg("got\n%.*s\nnot\n%s", (int)p->in.len,
				p->in.len > 0 ? sn__buf_data(&p->in) : "", text);
	sn__buf_consume(&p->in, n);
}

static void peer_expect_end(struct peer *p, bool reset)
{
	while (!p->eof && sn__loop_run(p->w->a, SN_RUN_ONCE))
		;
	assert_true(p->eof);
	assert_int_equal(p->in.len, 0);
	assert_int_equal(p->reset, reset);
}

/* ---- a service ---- */

struct service {
	struct world *w;
	struct sn_http_server *server;
	struct sn_addr addr;
	struct sn_timer timer;
	struct sn_exchange *kept;
	unsigned requests, closes;
	int close_status, body_status;
	uint64_t close_ns;
	size_t to_write, pour_size;
	bool done;
	char query[32];
};

static struct service service;

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	service.closes++;
	service.close_status = status;
	service.close_ns = sn__loop_now_ns(service.w->a);
	if (service.kept == x)
		service.kept = NULL;
}

static void respond(struct sn_exchange *x, unsigned status, const char *text)
{
	static const struct sn_header h = {"Content-Type", "text/plain"};

	assert_int_equal(sn_exchange_respond(x, status, &h, 1, text, strlen(text)), 0);
	assert_int_equal(sn_exchange_respond(x, status, &h, 1, text, strlen(text)), SN_E_STATE);
}

static void on_all(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	service.body_status = status;
	if (status != 0)
		return;
	assert_int_equal(((const char *)body)[size], 0);
	if (sn_exchange_respond(x, 200, NULL, 0, body, size) < 0) {
		assert_true(sn__mem_failed());
		sn_exchange_abort(x);
	}
}

static void on_piece(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	int r;

	service.body_status = status;
	if (status != 0)
		return;
	r = size > 0 ? sn_exchange_write(x, body, size) : sn_exchange_end(x, NULL, 0);
	assert_true(r == 0 || r == SN_E_AGAIN);
	if (r == SN_E_AGAIN)
		sn_exchange_pause(x, true);
}

static void on_echo_drain(struct sn_exchange *x, void *arg)
{
	sn_exchange_pause(x, false);
}

static void on_later(struct sn_timer *t)
{
	respond(service.kept, 200, "later");
}

static void pour(struct sn_exchange *x, void *arg)
{
	static char block[5000];

	memset(block, 'x', sizeof(block));
	while (service.to_write > 0) {
		size_t n = SN_MIN(service.to_write, sizeof(block));
		int r = sn_exchange_write(x, block, n);

		assert_true(r == 0 || r == SN_E_AGAIN);
		service.to_write -= n;
		if (r == SN_E_AGAIN)
			return;
	}
	assert_int_equal(sn_exchange_end(x, NULL, 0), 0);
}

static void handle_streams(struct sn_exchange *x, const char *path)
{
	static const struct sn_header trailer = {"X-Sum", "3"};

	if (strcmp(path, "/chunked") == 0) {
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, -1), 0);
		assert_int_equal(sn_exchange_write(x, "a", 1), 0);
		assert_int_equal(sn_exchange_write(x, "", 0), 0);
		assert_int_equal(sn_exchange_write(x, "bc", 2), 0);
		assert_int_equal(sn_exchange_end(x, &trailer, 1), 0);
		assert_int_equal(sn_exchange_end(x, &trailer, 1), SN_E_STATE);
	} else if (strcmp(path, "/sized") == 0) {
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, 3), 0);
		assert_int_equal(sn_exchange_write(x, "abcd", 4),
				strcmp(sn_exchange_method(x), "HEAD") == 0 ? 0 : SN_E_LIMIT);
		assert_int_equal(sn_exchange_write(x, "abc", 3), 0);
		assert_int_equal(sn_exchange_end(x, NULL, 0), 0);
	} else if (strcmp(path, "/short") == 0) {
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, 3), 0);
		assert_int_equal(sn_exchange_write(x, "a", 1), 0);
		assert_int_equal(sn_exchange_end(x, NULL, 0), SN_E_STATE);
	} else if (strcmp(path, "/pour") == 0) {
		if (service.pour_size == 0)
			service.pour_size = 30000000;
		service.to_write = service.pour_size;
		sn_exchange_on_drain(x, pour, NULL);
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, (int64_t)service.pour_size), 0);
		pour(x, NULL);
	} else {
		respond(x, 404, "no");
	}
}

static void handler(struct sn_exchange *x, void *arg)
{
	const char *path = sn_exchange_path(x);

	service.requests++;
	sn_exchange_on_close(x, on_close, NULL);
	if (strlen(sn_exchange_query(x)) < sizeof(service.query))
		memcpy(service.query, sn_exchange_query(x), strlen(sn_exchange_query(x)) + 1);
	if (strcmp(path, "/hello") == 0) {
		respond(x, 200, "hi");
	} else if (strcmp(path, "/header") == 0) {
		const char *v = sn_exchange_header(x, "x-value");

		respond(x, 200, v != NULL ? v : "none");
	} else if (strcmp(path, "/empty") == 0) {
		assert_int_equal(sn_exchange_respond(x, 204, NULL, 0, NULL, 0), 0);
	} else if (strcmp(path, "/all") == 0) {
		assert_int_equal(sn_exchange_read_all(x, 1000, on_all, NULL), 0);
		assert_int_equal(sn_exchange_read_all(x, 1000, on_all, NULL), SN_E_STATE);
	} else if (strcmp(path, "/echo") == 0) {
		sn_exchange_on_drain(x, on_echo_drain, NULL);
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, -1), 0);
		assert_int_equal(sn_exchange_read(x, on_piece, NULL), 0);
	} else if (strcmp(path, "/later") == 0) {
		service.kept = x;
		sn__timer_start(service.w->a, &service.timer, 30 * SN_NS_PER_MS, on_later);
	} else if (strcmp(path, "/keep") == 0) {
		service.kept = x;
	} else if (strcmp(path, "/abort") == 0) {
		sn_exchange_abort(x);
	} else {
		handle_streams(x, path);
	}
}

static void serve(struct world *w, const struct sn_http_server_config *with)
{
	struct sn_http_server_config config = {0};

	if (with != NULL)
		config = *with;
	config.addr = world_addr("127.0.0.1:0");
	if (w->sim != NULL)
		config.addr = world_addr("127.0.0.1:8080");
	service = (struct service){.w = w};
	assert_int_equal(sn__http_server_open(w->a, &config, handler, NULL, &service.server, NULL),
			0);
	service.addr = *sn__http_server_addr(service.server);
	assert_true(sn__addr_port(&service.addr) != 0);
}

static void on_closed(void *arg)
{
	service.done = true;
}

static void serve_end(void)
{
	sn__http_server_close(service.server, 1000, on_closed, NULL);
	world_run(service.w, &service.done);
	assert_int_equal(service.requests, service.closes);
}

#define H " HTTP/1.1\r\nHost: localhost\r\n"
#define OK "HTTP/1.1 200 OK\r\n"
#define TEXT OK "Content-Type: text/plain\r\n"
#define HI TEXT "Content-Length: 2\r\n\r\nhi"

/* ---- tests ---- */

struct talk {
	const char *in, *out;
	bool ends; /* the server closes */
};

static const struct talk talk_table[] = {
		{"GET /hello" H "\r\n", HI, false},
		{"GET /hello?a=b" H "Connection: close\r\n\r\n",
				TEXT "Content-Length: 2\r\nConnection: close\r\n\r\nhi", true},
		{"GET http://localhost/hello?a=b" H "\r\n", HI, false},
		{"GET http://localhost" H "\r\n",
				"HTTP/1.1 404 Not Found\r\n"
				"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
				false},
		{"GET /hello HTTP/1.0\r\n\r\n",
				TEXT "Content-Length: 2\r\nConnection: close\r\n\r\nhi", true},
		{"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
				TEXT "Content-Length: 2\r\nConnection: keep-alive\r\n\r\nhi",
				false},
		{"HEAD /hello" H "\r\nGET /hello" H "\r\n", TEXT "Content-Length: 2\r\n\r\n" HI,
				false},
		{"GET /hello" H "\r\nGET /header" H "X-Value:  v w \r\n\r\nGET /later" H
		 "\r\nGET /empty" H "\r\nGET /hello" H "\r\n",
				HI TEXT "Content-Length: 3\r\n\r\nv w" TEXT
					"Content-Length: 5\r\n\r\nlater"
					"HTTP/1.1 204 No Content\r\n\r\n" HI,
				false},
		{"POST /all" H "Content-Length: 3\r\n\r\nabcGET /hello" H "\r\n",
				OK "Content-Length: 3\r\n\r\nabc" HI, false},
		{"POST /all" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
		 "GET /hello" H "\r\n",
				OK "Content-Length: 4\r\n\r\nabcd" HI, false},
		{"POST /all" H "\r\n", OK "Content-Length: 0\r\n\r\n", false},
		{"POST /all" H "Content-Length: 1001\r\n\r\n",
				"HTTP/1.1 413 Content Too Large\r\n"
				"Content-Type: text/plain\r\nContent-Length: 45\r\nConnection: close\r\n\r\n"
				"413 Content Too Large: the body is too large\n",
				true},
		{"POST /echo" H "Content-Length: 3\r\n\r\nabc",
				OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
				false},
		{"GET /chunked" H "\r\n",
				OK "Transfer-Encoding: chunked\r\n\r\n"
				   "1\r\na\r\n2\r\nbc\r\n0\r\nX-Sum: 3\r\n\r\n",
				false},
		{"HEAD /chunked" H "\r\nGET /hello" H "\r\n",
				OK "Transfer-Encoding: chunked\r\n\r\n" HI, false},
		{"GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
				OK "Connection: close\r\n\r\nabc", true},
		{"GET /sized" H "\r\n", OK "Content-Length: 3\r\n\r\nabc", false},
		{"HEAD /sized" H "\r\n", OK "Content-Length: 3\r\n\r\n", false},
		/* answered without reading: the body is dropped */
		{"POST /hello" H "Content-Length: 5\r\n\r\nabcdeGET /hello" H "\r\n", HI HI, false},
		{"POST /hello" H
		 "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /hello" H "\r\n",
				HI HI, false},
		{"POST /hello" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
				TEXT "Content-Length: 2\r\nConnection: close\r\n\r\nhi", true},
		{"POST /all" H "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n",
				"HTTP/1.1 413 Content Too Large\r\n"
				"Content-Type: text/plain\r\nContent-Length: 45\r\nConnection: close\r\n\r\n"
				"413 Content Too Large: the body is too large\n",
				true},
		/* refused */
		{"GET / HTTP/1.1\r\n\r\n",
				"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
				"Content-Length: 25\r\nConnection: close\r\n\r\n400 Bad Request: no Host\n",
				true},
		{"HEAD /\r\n",
				"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
				"Content-Length: 40\r\nConnection: close\r\n\r\n"
				"400 Bad Request: malformed request line\n",
				true},
		{"GET / HTTP/2.0\r\n\r\n",
				"HTTP/1.1 505 HTTP Version Not Supported\r\n"
				"Content-Type: text/plain\r\nContent-Length: 59\r\nConnection: close\r\n\r\n"
				"505 HTTP Version Not Supported: HTTP version not supported\n",
				true},
		{"CONNECT a:1" H "\r\n",
				"HTTP/1.1 501 Not Implemented\r\n"
				"Content-Type: text/plain\r\nContent-Length: 46\r\nConnection: close\r\n\r\n"
				"501 Not Implemented: CONNECT is not supported\n",
				true},
		{"POST /all" H "Transfer-Encoding: chunked\r\n\r\nx\r\n",
				"HTTP/1.1 400 Bad Request\r\n"
				"Content-Type: text/plain\r\nContent-Length: 38\r\nConnection: close\r\n\r\n"
				"400 Bad Request: malformed chunk size\n",
				true},
		{"GET /hello" H "\r\nGARBAGE\r\n\r\n",
				HI
				"HTTP/1.1 400 Bad Request\r\n"
				"Content-Type: text/plain\r\nContent-Length: 40\r\nConnection: close\r\n\r\n"
				"400 Bad Request: malformed request line\n",
				true},
};

static void talks(void **state)
{
	struct world *w = *state;

	serve(w, NULL);
	for (size_t i = 0; i < SN_COUNT(talk_table); i++) {
		struct peer p;

		peer_open(w, &p, &service.addr, talk_table[i].in);
		peer_expect(&p, talk_table[i].out);
		if (talk_table[i].ends)
			peer_expect_end(&p, false);
		else
			assert_int_equal(p.in.len, 0);
		peer_close(&p);
	}
	serve_end();
}

static void continue_and_half_close(void **state)
{
	struct world *w = *state;
	struct peer p;

	serve(w, NULL);
	peer_open(w, &p, &service.addr,
			"POST /all" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	peer_expect(&p, "HTTP/1.1 100 Continue\r\n\r\n");
	p.half_close = true;
	peer_send(&p, "abc");
	peer_expect(&p, OK "Content-Length: 3\r\n"); /* with "close" when the end came in time */
	while (!p.eof)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_memory_equal(sn__buf_data(&p.in) + p.in.len - 3, "abc", 3);
	assert_false(p.reset);
	peer_close(&p);
	serve_end();
}

static void broken_by_handler(void **state)
{
	struct world *w = *state;
	struct peer p;

	serve(w, NULL);
	peer_open(w, &p, &service.addr, "GET /abort" H "\r\n");
	peer_expect_end(&p, true);
	assert_int_equal(service.close_status, SN_E_CLOSED);
	peer_close(&p);
	peer_open(w, &p, &service.addr, "GET /short" H "\r\n");
	while (!p.eof && sn__loop_run(w->a, SN_RUN_ONCE))
		;
	assert_true(p.reset);
	assert_int_equal(service.close_status, SN_E_CLOSED);
	peer_close(&p);
	serve_end();
}

static void client_goes_away(void **state)
{
	struct world *w = *state;
	struct peer p;

	serve(w, NULL);
	peer_open(w, &p, &service.addr, "POST /all" H "Content-Length: 100\r\n\r\nabc");
	while (service.requests == 0)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	sn__stream_close(p.s, true);
	p.s = NULL;
	while (service.closes == 0)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_int_equal(service.body_status, SN_E_RESET);
	assert_int_equal(service.close_status, SN_E_RESET);
	peer_close(&p);
	serve_end();
}

static void pressure_both_ways(void **state)
{
	static const struct sn_http_server_config config = {.max_body = 64u << 20};
	struct world *w = *state;
	/* More than the kernel's buffers hold. */
	const size_t size = w->sim != NULL ? 1000000 : 32000000;
	char text[100];
	struct peer p;
	char *body = test_malloc(size + 1);

	serve(w, &config);
	service.pour_size = size;
	peer_open(w, &p, &service.addr, "GET /pour" H "\r\n");
	p.hold = true;
	peer_want(&p);
	while (service.requests == 0)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	for (int i = 0; i < 100; i++)
		(void)sn__loop_run(w->a, SN_RUN_NOWAIT);
	assert_true(service.to_write > 0); /* it waits for us */
	p.hold = false;
	peer_want(&p);
	(void)snprintf(text, sizeof(text), OK "Content-Length: %zu\r\n\r\n", size);
	peer_expect(&p, text);
	while (p.in.len < size)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_int_equal(p.in.len, size);
	sn__buf_clear(&p.in);

	memset(body, 'y', size);
	body[size] = '\0';
	(void)snprintf(text, sizeof(text), "POST /echo" H "Content-Length: %zu\r\n\r\n", size);
	peer_send(&p, text);
	p.hold = true;
	peer_send(&p, body);
	for (int i = 0; i < 200; i++)
		(void)sn__loop_run(w->a, SN_RUN_NOWAIT);
	assert_true(p.out.len > 0); /* the server does not read what it cannot write */
	p.hold = false;
	peer_want(&p);
	while (service.closes < 2)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_int_equal(service.close_status, 0);
	test_free(body);
	peer_close(&p);
	serve_end();
}

static void respond_large(void **state)
{
	struct world *w = *state;
	struct peer p;
	char *body = test_malloc(1000001);

	memset(body, 'z', 1000000);
	body[1000000] = '\0';
	serve(w, NULL);
	peer_open(w, &p, &service.addr, "GET /keep" H "\r\n");
	while (service.kept == NULL)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_int_equal(sn_exchange_respond(service.kept, 200, NULL, 0, body, 1000000), 0);
	memset(body, '-', 1000000); /* it was copied */
	peer_expect(&p, OK "Content-Length: 1000000\r\n\r\n");
	while (p.in.len < 1000000)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	for (size_t i = 0; i < 1000000; i++)
		assert_int_equal(sn__buf_data(&p.in)[i], 'z');
	test_free(body);
	peer_close(&p);
	serve_end();
}

static void bad_answers(void **state)
{
	static const struct sn_header bad[] = {{"Content-Length", "3"}, {"Transfer-Encoding", "x"},
			{"Connection", "keep-alive"}, {"A b", "c"}, {"A", "b\nc"}};
	static const struct sn_header good[] = {{"Connection", "close"}, {"Date", "x"}};
	struct world *w = *state;
	struct peer p;

	serve(w, NULL);
	peer_open(w, &p, &service.addr, "GET /keep" H "\r\n");
	while (service.kept == NULL)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	for (size_t i = 0; i < SN_COUNT(bad); i++)
		assert_int_equal(sn_exchange_respond(service.kept, 200, &bad[i], 1, "", 0),
				SN_E_INVALID);
	assert_int_equal(sn_exchange_respond(service.kept, 199, NULL, 0, "", 0), SN_E_INVALID);
	assert_int_equal(sn_exchange_respond(service.kept, 1000, NULL, 0, "", 0), SN_E_INVALID);
	assert_int_equal(sn_exchange_respond(service.kept, 101, NULL, 0, "", 0), SN_E_INVALID);
	assert_int_equal(sn_exchange_start(service.kept, 101, NULL, 0, -1), SN_E_INVALID);
	assert_int_equal(sn_exchange_start(service.kept, 200, NULL, 0, -2), SN_E_INVALID);
	assert_int_equal(sn_exchange_write(service.kept, "a", 1), SN_E_STATE);
	assert_int_equal(sn_exchange_end(service.kept, NULL, 0), SN_E_STATE);
	assert_int_equal(sn_exchange_respond(service.kept, 200, good, 2, "a", 1), 0);
	p.in.max = 1 << 20;
	while (!p.eof)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_true(sn_str_eq(sn__buf_str(&p.in),
			SN_STR(OK "Date: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\na")));
	peer_close(&p);
	serve_end();
}

struct guard {
	const char *headers;
	unsigned status;
};

static void origins(void **state)
{
	static const char *const hosts[] = {"my.host", "other:81", NULL};
	static const struct sn_http_server_config config = {.check_origin = true, .hosts = hosts};
	static const struct guard table[] = {
			{"Host: localhost\r\n", 200},
			{"Host: LOCALHOST:123\r\n", 200},
			{"Host: 127.0.0.1:80\r\n", 200},
			{"Host: 127.1.2.3\r\n", 200},
			{"Host: [::1]:80\r\n", 200},
			{"Host: [::1]\r\n", 200},
			{"Host: my.host:1\r\n", 200},
			{"Host: other:81\r\n", 200},
			{"Host: other:82\r\n", 421},
			{"Host: evil.example\r\n", 421},
			{"Host: 10.0.0.1\r\n", 421},
			{"Host: [::ffff:127.0.0.1]:80\r\n", 421},
			{"Host: localhost.evil\r\n", 421},
			{"Host: 127.0.0.1.evil\r\n", 421},
			{"Host:\r\n", 421},
			{"Host: localhost\r\nOrigin: http://evil.example\r\n", 403},
			{"Host: localhost\r\nOrigin: null\r\n", 403},
			{"Host: localhost:8\r\nOrigin: http://localhost:8\r\n", 200},
			{"Host: localhost:8\r\nOrigin: http://localhost:9\r\n", 403},
			{"Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403},
			{"Host: localhost\r\nSec-Fetch-Site: same-site\r\n", 403},
			{"Host: localhost\r\nSec-Fetch-Site: same-origin\r\n", 200},
			{"Host: localhost\r\nSec-Fetch-Site: none\r\n", 200},
	};
	struct world *w = *state;

	serve(w, &config);
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		char text[200], status[30];
		struct peer p;

		(void)snprintf(text, sizeof(text), "GET /hello HTTP/1.1\r\n%s\r\n",
				table[i].headers);
		(void)snprintf(status, sizeof(status), "HTTP/1.1 %u ", table[i].status);
		peer_open(w, &p, &service.addr, text);
		peer_expect(&p, status);
		peer_close(&p);
	}
	serve_end();
}

/* ---- time and limits, on the virtual clock ---- */

static uint64_t ms_between(uint64_t from_ns, uint64_t to_ns)
{
	return (to_ns - from_ns) / SN_NS_PER_MS;
}

static void timeouts(void **state)
{
	static const struct sn_http_server_config config = {
			.head_timeout_ms = 1000, .idle_timeout_ms = 5000};
	struct world *w = *state;
	uint64_t start = sn__loop_clock_ns(w->a);
	struct peer p;

	serve(w, &config);
	peer_open(w, &p, &service.addr, "GET /hel");
	peer_expect(&p,
			"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\n"
			"Content-Length: 54\r\nConnection: close\r\n\r\n"
			"408 Request Timeout: the request did not come in time\n");
	assert_in_range(ms_between(start, p.heard_ns), 1000, 1020);
	peer_expect_end(&p, false);
	peer_close(&p);

	start = sn__loop_clock_ns(w->a);
	peer_open(w, &p, &service.addr, "");
	peer_expect_end(&p, false);
	assert_in_range(ms_between(start, p.heard_ns), 5000, 5020);
	peer_close(&p);

	peer_open(w, &p, &service.addr, "GET /hello" H "\r\n");
	peer_expect(&p, HI);
	start = p.heard_ns;
	peer_expect_end(&p, false);
	assert_in_range(ms_between(start, p.heard_ns), 4900, 5020);
	peer_close(&p);

	start = sn__loop_clock_ns(w->a);
	peer_open(w, &p, &service.addr, "POST /all" H "Content-Length: 3\r\n\r\na");
	peer_expect(&p, "HTTP/1.1 408 Request Timeout\r\n");
	assert_int_equal(service.body_status, SN_E_TIMEOUT);
	assert_in_range(ms_between(start, p.heard_ns), 5000, 5020);
	peer_close(&p);

	peer_open(w, &p, &service.addr, "GET /pour" H "\r\n");
	p.hold = true;
	peer_want(&p);
	start = sn__loop_clock_ns(w->a);
	while (service.closes < 3)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_int_equal(service.close_status, SN_E_TIMEOUT);
	assert_in_range(ms_between(start, service.close_ns), 5000, 5020);
	peer_close(&p);
	serve_end();
}

static void limits(void **state)
{
	static const struct sn_http_server_config config = {.max_head = 1000, .max_body = 100};
	struct world *w = *state;
	struct peer p;
	char text[20000];
	size_t n = strlen("GET /");

	serve(w, &config);
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	memcpy(text, "GET /", n);
	peer_open(w, &p, &service.addr, text);
	peer_expect(&p, "HTTP/1.1 414 URI Too Long\r\n");
	peer_close(&p);
	n = strlen("GET /" H "X: ");
	memcpy(text, "GET /" H "X: ", n);
	peer_open(w, &p, &service.addr, text);
	peer_expect(&p, "HTTP/1.1 431 Request Header Fields Too Large\r\n");
	peer_close(&p);
	peer_open(w, &p, &service.addr, "POST /all" H "Content-Length: 101\r\n\r\n");
	peer_expect(&p, "HTTP/1.1 413 Content Too Large\r\n");
	peer_close(&p);
	assert_int_equal(service.requests, 0);
	peer_open(w, &p, &service.addr, "POST /all" H "Transfer-Encoding: chunked\r\n\r\n65\r\n");
	text[101] = '\0';
	peer_send(&p, text);
	peer_expect(&p, "HTTP/1.1 413 Content Too Large\r\n");
	assert_int_equal(service.body_status, SN_E_LIMIT);
	peer_close(&p);
	serve_end();
}

static void connections_are_bounded(void **state)
{
	static const struct sn_http_server_config config = {.max_connections = 2};
	struct world *w = *state;
	struct peer a, b, c;

	serve(w, &config);
	peer_open(w, &a, &service.addr, "GET /hello" H "\r\n");
	peer_open(w, &b, &service.addr, "GET /hello" H "\r\n");
	peer_expect(&a, HI);
	peer_expect(&b, HI);
	peer_open(w, &c, &service.addr, "GET /hello" H "\r\n");
	for (int i = 0; i < 50; i++)
		(void)sn__loop_run(w->a, SN_RUN_NOWAIT);
	assert_int_equal(service.requests, 2);
	peer_close(&a);
	peer_expect(&c, HI);
	peer_close(&b);
	peer_close(&c);
	serve_end();
}

static void close_is_graceful(void **state)
{
	struct world *w = *state;
	struct peer idle, busy, stuck;

	serve(w, NULL);
	peer_open(w, &idle, &service.addr, "GET /hello" H "\r\n");
	peer_expect(&idle, HI);
	peer_open(w, &stuck, &service.addr, "GET /keep" H "\r\n");
	while (service.kept == NULL)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	service.kept = NULL;
	peer_open(w, &busy, &service.addr, "GET /later" H "\r\n");
	while (service.kept == NULL)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	sn__http_server_close(service.server, 200, on_closed, NULL);
	assert_false(service.done);
	peer_expect_end(&idle, false);
	peer_expect(&busy, TEXT "Content-Length: 5\r\nConnection: close\r\n\r\nlater");
	peer_expect_end(&busy, false);
	peer_close(&busy);
	peer_expect_end(&stuck, true);
	world_run(w, &service.done);
	assert_int_equal(service.close_status, SN_E_CLOSED);
	assert_int_equal(service.closes, 3);
	peer_close(&idle);
	peer_close(&stuck);
}

/* ---- upgrade ---- */

static struct sn_stream *taken;

static void upgrader(struct sn_exchange *x, void *arg)
{
	static const struct sn_header h[] = {{"Connection", "Upgrade"}, {"Upgrade", "echo"}};
	struct sn_buf rest, unsent;
	struct sn_str v;

	service.requests++;
	sn_exchange_on_close(x, on_close, NULL);
	sn__buf_init(&rest, 1000);
	sn__buf_init(&unsent, 1000);
	assert_int_equal(sn_exchange_start(x, 101, h, 2, -1), 0);
	taken = sn__exchange_take_stream(x, &rest, &unsent);
	assert_non_null(taken);
	assert_null(sn__exchange_take_stream(x, &rest, &unsent));
	assert_int_equal(sn__buf_append_str(&unsent, sn__buf_str(&rest)), 0);
	v = sn__buf_str(&unsent);
	while (v.len > 0) {
		ssize_t n = sn__stream_write(taken, &v, 1);

		assert_true(n > 0);
		v.ptr += n;
		v.len -= (size_t)n;
	}
	sn__buf_finish(&rest);
	sn__buf_finish(&unsent);
}

static void hand_over(void **state)
{
	struct sn_http_server_config config = {.addr = world_addr("127.0.0.1:8081")};
	struct world *w = *state;
	struct peer p;

	service = (struct service){.w = w};
	assert_int_equal(sn__http_server_open(w->a, &config, upgrader, NULL, &service.server, NULL),
			0);
	service.addr = *sn__http_server_addr(service.server);
	peer_open(w, &p, &service.addr,
			"GET /" H "Connection: upgrade\r\nUpgrade: echo\r\n\r\nraw bytes");
	peer_expect(&p,
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
			"Upgrade: echo\r\n\r\nraw bytes");
	while (service.closes == 0)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_int_equal(service.close_status, 0);
	sn__stream_close(taken, false);
	peer_close(&p);
	serve_end();
}

/* ---- memory ---- */

static void steady_state_allocates_nothing(void **state)
{
	struct world *w = *state;
	struct peer p;
	uint64_t before = 0;

	serve(w, NULL);
	peer_open(w, &p, &service.addr, "");
	for (int i = 0; i < 100; i++) {
		if (i == 50)
			before = sn__mem_count();
		peer_send(&p, "POST /all" H "Content-Length: 3\r\n\r\nabc");
		peer_expect(&p, OK "Content-Length: 3\r\n\r\nabc");
		peer_send(&p, "GET /chunked" H "\r\n");
		peer_expect(&p,
				OK "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n"
				   "X-Sum: 3\r\n\r\n");
	}
	assert_int_equal(sn__mem_count() - before, 0);
	peer_close(&p);
	serve_end();
}

static void faults_break_only_what_they_must(void **state)
{
	struct world *w = *state;

	for (uint64_t n = 1; n < 200; n++) {
		struct peer p;
		bool failed;

		serve(w, NULL);
		peer_open(w, &p, &service.addr, "");
		sn__buf_finish(&p.in);
		assert_int_equal(sn__buf_append(&p.in, "", 1), 0);
		while (!p.connected)
			(void)sn__loop_run(w->a, SN_RUN_ONCE);
		peer_send(&p, "POST /all" H "Content-Length: 3\r\n\r\nabc");
		sn__mem_fail_nth(n);
		while (p.in.len < 2 && !p.eof && sn__loop_run(w->a, SN_RUN_ONCE))
			;
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		peer_close(&p);
		serve_end();
		if (!failed) {
			assert_in_range(n, 3, 100);
			return;
		}
	}
	fail();
}

#define EVERY(test) \
	cmocka_unit_test_setup_teardown(test, world_uv, world_close), \
			cmocka_unit_test_setup_teardown(test, world_sim, world_close), \
			cmocka_unit_test_setup_teardown(test, world_rough, world_close)
#define SIM(test) cmocka_unit_test_setup_teardown(test, world_sim, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
			EVERY(talks),
			EVERY(continue_and_half_close),
			SIM(broken_by_handler),
			cmocka_unit_test_setup_teardown(broken_by_handler, world_uv, world_close),
			EVERY(client_goes_away),
			EVERY(pressure_both_ways),
			EVERY(respond_large),
			EVERY(bad_answers),
			SIM(origins),
			SIM(timeouts),
			SIM(limits),
			EVERY(connections_are_bounded),
			EVERY(close_is_graceful),
			SIM(hand_over),
			cmocka_unit_test_setup_teardown(
					steady_state_allocates_nothing, world_uv, world_close),
			SIM(faults_break_only_what_they_must),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
