/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server over HTTP/2: what sinew/http.h promises, for each stream. */
#include "io/h2_service.h"
#include "io/tls_cert.h"

#define WINDOW 65535
#define PLAIN "content-type: text/plain\n"

static struct h2_peer p;

static void talks(void **state)
{
	static const struct {
		const char *method, *path;
		unsigned status;
		const char *headers, *body;
		bool head_ended;
	} table[] = {
			{"GET", "/hello", 200, PLAIN "content-length: 2\n", "hi", false},
			{"HEAD", "/hello", 200, PLAIN "content-length: 2\n", "", true},
			{"GET", "/empty", 200, "", "", true},
			{"GET", "/204", 204, "", "", true},
			{"GET", "/no?a=b", 404, PLAIN "content-length: 2\n", "no", false},
			{"GET", "/sized", 200, "content-length: 3\n", "abc", false},
			{"HEAD", "/sized", 200, "content-length: 3\n", "", false},
			{"GET", "/later", 200, PLAIN "content-length: 5\n", "later", false},
			{"OPTIONS", "*", 404, PLAIN "content-length: 2\n", "no", false},
			{"CONNECT", NULL, 501, NULL, NULL, false},
	};
	struct world *w = *state;

	serve(w, NULL);
	h2_open(w, &p, &service.addr, WINDOW);
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		struct h2_stream *st = &p.streams[p.n_streams];

		if (table[i].path == NULL) {
			nghttp2_nv nva[] = {
					{(uint8_t *)(uintptr_t) ":method",
							(uint8_t *)(uintptr_t) "CONNECT", 7, 7, 0},
					{(uint8_t *)(uintptr_t) ":authority",
							(uint8_t *)(uintptr_t) "a:1", 10, 3, 0}};

			p.n_streams++;
			sn__buf_init(&st->body, 1000);
			st->id = nghttp2_submit_request(p.session, NULL, nva, 2, NULL, NULL);
		} else {
			(void)h2_ask_with(&p, table[i].method, table[i].path, "localhost", NULL,
					NULL, 0);
		}
		h2_go(&p);
		h2_expect(&p, st, table[i].status, table[i].headers, table[i].body);
		assert_int_equal(st->head_ended, table[i].head_ended);
		H2_UNTIL(&p, st->closed);
		assert_int_equal(st->error, 0);
	}
	assert_string_equal(service.target, "OPTIONS|*|");
	h2_close(&p);
	serve_end();
	assert_int_equal(service.close_status, 0);
}

static void trailers(void **state)
{
	struct world *w = *state;
	struct h2_stream *st;

	serve(w, NULL);
	h2_open(w, &p, &service.addr, WINDOW);
	st = h2_get(&p, "/trailers");
	h2_expect(&p, st, 200, "", "abc");
	assert_string_equal(st->trailers, "x-sum: 3\nx-more: yes\n");
	st = h2_get(&p, "/trailers-alone");
	h2_expect(&p, st, 200, "", "");
	assert_string_equal(st->trailers, "x-sum: 3\n");
	/* The request's are nobody's business, but its end. */
	st = h2_ask_with(&p, "POST", "/all", "localhost", NULL, "abc", 3);
	st->with_trailers = true;
	h2_go(&p);
	h2_expect(&p, st, 200, "content-length: 3\n", "abc");
	h2_close(&p);
	serve_end();
}

static void request_heads(void **state)
{
	static const char *const value[] = {
			"x-value", "a b", "cookie", "a=1", "cookie", "b=2", NULL};
	static const char *const host[] = {"host", "localhost", NULL};
	static const char *const other[] = {"host", "else.test", NULL};
	struct world *w = *state;

	serve(w, NULL);
	h2_open(w, &p, &service.addr, WINDOW);
	h2_expect(&p, h2_ask_with(&p, "GET", "/header", "localhost", value, NULL, 0), 200, NULL,
			"a b");
	h2_expect(&p, h2_get(&p, "/host"), 200, NULL, "localhost");
	h2_expect(&p, h2_ask_with(&p, "GET", "/host", "localhost", host, NULL, 0), 200, NULL,
			"localhost");
	h2_expect(&p, h2_ask_with(&p, "GET", "/host", NULL, host, NULL, 0), 200, NULL, "localhost");
	h2_expect(&p, h2_ask_with(&p, "GET", "/host", "localhost", other, NULL, 0), 400, NULL,
			NULL);
	h2_expect(&p, h2_get(&p, "/x?q=1&r=/"), 404, NULL, NULL);
	assert_string_equal(service.target, "GET|/x|q=1&r=/");
	h2_close(&p);
	serve_end();
}

static void bodies(void **state)
{
	static const char *const expect[] = {"expect", "100-continue", NULL};
	static char body[300000];
	struct world *w = *state;
	struct h2_stream *st;

	memset(body, 'b', sizeof body);
	serve(w, NULL);
	h2_open(w, &p, &service.addr, 1 << 20);
	st = h2_post(&p, "/all", "", 0);
	h2_expect(&p, st, 200, "", "");
	st = h2_post(&p, "/echo", body, sizeof body);
	H2_UNTIL(&p, st->ended);
	assert_int_equal(st->body.len, sizeof body);
	assert_memory_equal(sn__buf_data(&st->body), body, sizeof body);
	assert_string_equal(st->trailers, "x-sum: 3\n");
	assert_true(service.n_pieces > 2);
	st = h2_ask_with(&p, "POST", "/all", "localhost", expect, "abcdef", 6);
	st->hold = true;
	h2_go(&p);
	H2_UNTIL(&p, st->n_infos == 1);
	st->hold = false;
	assert_int_equal(nghttp2_session_resume_data(p.session, st->id), 0);
	h2_go(&p);
	h2_expect(&p, st, 200, "content-length: 6\n", "abcdef");
	h2_close(&p);
	serve_end();
}

static void many_at_once(void **state)
{
	struct world *w = *state;
	struct h2_stream *st[100];

	serve(w, NULL);
	h2_open(w, &p, &service.addr, WINDOW);
	h2_expect(&p, h2_get(&p, "/hello"), 200, NULL, "hi");
	p.n_reads = 0;
	for (unsigned i = 0; i < SN_COUNT(st); i++)
		st[i] = h2_ask_with(&p, "GET", i % 2 ? "/hello" : "/header", "localhost", NULL,
				NULL, 0);
	h2_go(&p);
	for (unsigned i = 0; i < SN_COUNT(st); i++)
		h2_expect(&p, st[i], 200, NULL, i % 2 ? "hi" : "none");
	assert_int_equal(service.requests, 101);
	if (w->sim == NULL)
		assert_in_range(p.n_reads, 1, 4); /* not one a request */
	h2_close(&p);
	serve_end();
}

/* A paused stream shuts its own window and nothing else. */
static void pause_is_felt(void **state)
{
	static char body[2000000];
	struct world *w = *state;
	struct h2_stream *st, *other;
	struct sn_exchange *x;
	size_t before;

	serve(w, NULL);
	h2_open(w, &p, &service.addr, WINDOW);
	st = h2_post(&p, "/read", body, sizeof body);
	H2_UNTIL(&p, service.body_size > 0);
	x = service.kept;
	sn_exchange_pause(x, true);
	before = service.body_size;
	for (int i = 0; i < 5; i++) {
		other = h2_post(&p, "/all", "abc", 3);
		h2_expect(&p, other, 200, NULL, "abc");
	}
	assert_int_equal(service.body_size, before + 15); /* of the others */
	before = sizeof body - st->send.len;              /* what our side has sent */
	assert_in_range(before, 1, 600000);
	assert_false(st->closed);
	sn_exchange_pause(x, false);
	h2_expect(&p, st, 200, NULL, "read");
	assert_int_equal(service.body_size, sizeof body + 15);
	h2_close(&p);
	serve_end();
}

/* The other way: a client that takes slowly, and one that does not take at all. */
static void back_pressure(void **state)
{
	struct world *w = *state;
	struct h2_stream *st, *large;
	size_t given = 0;

	serve(w, NULL);
	service.pour_size = 3000000;
	h2_open(w, &p, &service.addr, WINDOW);
	st = h2_get(&p, "/pour");
	H2_UNTIL(&p, st->body.len == WINDOW);
	/* Its window is full; the producer has to wait, others flow. */
	h2_expect(&p, h2_get(&p, "/hello"), 200, NULL, "hi");
	assert_int_equal(st->body.len, WINDOW);
	assert_in_range(service.pour_size - service.to_write, WINDOW, WINDOW + 75000);
	large = h2_get(&p, "/large");
	while (!st->ended || !large->ended) {
		H2_UNTIL(&p, st->body.len + large->body.len > given || (st->ended && large->ended));
		given = st->body.len + large->body.len;
		(void)nghttp2_session_consume(p.session, st->id, 5000);
		(void)nghttp2_session_consume(p.session, large->id, 40000);
		h2_go(&p);
		assert_int_equal(nghttp2_submit_window_update(p.session, 0, st->id, 20000), 0);
		assert_int_equal(nghttp2_submit_window_update(p.session, 0, large->id, 40000), 0);
		h2_go(&p);
	}
	assert_int_equal(st->body.len, 3000000);
	assert_int_equal(large->body.len, 3000000);
	h2_close(&p);
	serve_end();
}

static void breaking(void **state)
{
	struct world *w = *state;
	struct h2_stream *st, *kept;

	serve(w, NULL);
	h2_open(w, &p, &service.addr, WINDOW);
	kept = h2_get(&p, "/keep");
	H2_UNTIL(&p, service.kept != NULL);
	st = h2_get(&p, "/abort");
	H2_UNTIL(&p, st->closed);
	assert_int_equal(st->error, NGHTTP2_INTERNAL_ERROR);
	assert_int_equal(service.close_status, SN_E_CLOSED);
	st = h2_get(&p, "/short");
	H2_UNTIL(&p, st->closed);
	assert_int_equal(st->error, NGHTTP2_INTERNAL_ERROR);
	assert_int_equal(service.close_status, SN_E_CLOSED);
	/* The client resets: before the answer, and in its middle. */
	assert_int_equal(service.closes, 2);
	assert_int_equal(nghttp2_submit_rst_stream(p.session, 0, kept->id, NGHTTP2_CANCEL), 0);
	h2_go(&p);
	H2_UNTIL(&p, service.closes == 3);
	assert_int_equal(service.close_status, SN_E_RESET);
	st = h2_get(&p, "/open");
	H2_UNTIL(&p, st->body.len == 1);
	assert_int_equal(sn_exchange_respond(service.kept, 200, NULL, 0, "", 0), SN_E_STATE);
	assert_int_equal(nghttp2_submit_rst_stream(p.session, 0, st->id, NGHTTP2_CANCEL), 0);
	h2_go(&p);
	H2_UNTIL(&p, service.closes == 4);
	assert_int_equal(service.close_status, SN_E_RESET);
	/* In the middle of a body that is being read. */
	st = h2_ask_with(&p, "POST", "/all", "localhost", NULL, "abc", 3);
	st->stay_open = true;
	h2_go(&p);
	H2_UNTIL(&p, service.requests == 5);
	assert_int_equal(nghttp2_submit_rst_stream(p.session, 0, st->id, NGHTTP2_CANCEL), 0);
	h2_go(&p);
	H2_UNTIL(&p, service.closes == 5);
	assert_int_equal(service.body_status, SN_E_RESET);
	/* A request that breaks the rules of HTTP is nobody's but its own. */
	h2_expect(&p, h2_get(&p, "/hello"), 200, NULL, "hi");
	/* The connection goes with everything. */
	(void)h2_get(&p, "/keep");
	(void)h2_get(&p, "/open");
	H2_UNTIL(&p, service.requests == 8);
	h2_close(&p);
	while (service.closes < 8)
		assert_true(h2_once(w));
	assert_int_equal(service.close_status, SN_E_RESET);
	serve_end();
}

/* Answered before the request was there: the rest is dropped, and refused when it is much. */
static void early_answers(void **state)
{
	static char body[2000000];
	struct world *w = *state;
	struct h2_stream *st;

	serve(w, NULL);
	h2_open(w, &p, &service.addr, WINDOW);
	st = h2_post(&p, "/hello", body, 100000);
	h2_expect(&p, st, 200, NULL, "hi");
	H2_UNTIL(&p, st->closed);
	assert_false(st->reset);
	st = h2_post(&p, "/hello", body, sizeof body);
	h2_expect(&p, st, 200, NULL, "hi");
	H2_UNTIL(&p, st->closed);
	assert_true(st->reset);
	assert_int_equal(st->error, NGHTTP2_NO_ERROR);
	assert_in_range(sizeof body - st->send.len, 200000, 1000000);
	st = h2_ask_with(&p, "POST", "/hello", "localhost", NULL, body, 10);
	st->stay_open = true; /* for ever */
	h2_go(&p);
	h2_expect(&p, st, 200, NULL, "hi");
	H2_UNTIL(&p, st->closed);
	assert_true(st->reset);
	assert_int_equal(st->error, NGHTTP2_NO_ERROR);
	/* One is left over when the connection ends. */
	st = h2_ask_with(&p, "POST", "/hello", "localhost", NULL, body, 10);
	st->stay_open = true;
	h2_go(&p);
	h2_expect(&p, st, 200, NULL, "hi");
	h2_close(&p);
	serve_end();
}

static void on_bad(struct sn_exchange *x, void *arg)
{
	static const struct sn_header bad[] = {{"Content-Length", "1"}, {"Transfer-Encoding", "x"},
			{"a b", "c"}, {"a", "b\n"}, {"Connection", "keep-alive"}};
	static const struct sn_header hop[] = {{"Connection", "close"}, {"Keep-Alive", "1"},
			{"Upgrade", "x"}, {"Proxy-Connection", "x"}, {"X-Ok", " \tyes "},
			{"Date", "then"}};

	for (size_t i = 0; i < SN_COUNT(bad); i++)
		assert_int_equal(sn_exchange_respond(x, 200, &bad[i], 1, NULL, 0), SN_E_INVALID);
	assert_int_equal(sn_exchange_respond(x, 101, NULL, 0, NULL, 0), SN_E_INVALID);
	assert_int_equal(sn_exchange_start(x, 101, NULL, 0, -1), SN_E_INVALID);
	assert_int_equal(sn_exchange_start(x, 1000, NULL, 0, -1), SN_E_INVALID);
	assert_int_equal(sn_exchange_write(x, "a", 1), SN_E_STATE);
	assert_int_equal(sn_exchange_end(x, NULL, 0), SN_E_STATE);
	assert_int_equal(sn_exchange_respond(x, 200, hop, SN_COUNT(hop), "x", 1), 0);
}

static void bad_answers(void **state)
{
	struct world *w = *state;
	struct sn_http_server_config config = {.addr = world_addr("127.0.0.1:0")};

	if (w->sim != NULL)
		config.addr = world_addr("127.0.0.1:8080");
	service = (struct service){.w = w};
	assert_int_equal(sn__http_server_open(w->a, &config, on_bad, NULL, &service.server, NULL),
			0);
	h2_open(w, &p, sn__http_server_addr(service.server), WINDOW);
	h2_expect(&p, h2_get(&p, "/"), 200, "x-ok: yes\ncontent-length: 1\n", "x");
	h2_close(&p);
	serve_end();
}

static void origins(void **state)
{
	static const struct sn_http_server_config config = {.check_origin = true};
	static const char *const evil[] = {"origin", "http://evil.test", NULL};
	static const char *const same[] = {"origin", "http://localhost", NULL};
	struct world *w = *state;

	serve(w, &config);
	h2_open(w, &p, &service.addr, WINDOW);
	h2_expect(&p, h2_get(&p, "/hello"), 200, NULL, NULL);
	h2_expect(&p, h2_ask_with(&p, "GET", "/hello", "evil.test", NULL, NULL, 0), 421, NULL,
			NULL);
	h2_expect(&p, h2_ask_with(&p, "GET", "/hello", "localhost", evil, NULL, 0), 403, NULL,
			NULL);
	h2_expect(&p, h2_ask_with(&p, "GET", "/hello", "localhost", same, NULL, 0), 200, NULL,
			NULL);
	h2_close(&p);
	serve_end();
}

/* Byte by byte it is still a preface; what only looks like one is not. */
static void prefaces(void **state)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	static const char wrong[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX";
	struct world *w = *state;

	serve(w, NULL);
	h2_open_raw(w, &p, &service.addr, false);
	for (size_t i = 0; i < sizeof hello - 1; i++) {
		h2_raw(&p, hello + i, 1);
		while (p.out.len > 0)
			assert_true(h2_once(w));
		assert_true(i >= 23 || p.in.len == 0);
	}
	H2_UNTIL(&p, p.in.len >= 9);
	assert_int_equal(sn__buf_data(&p.in)[3], 4); /* SETTINGS */
	h2_close(&p);
	h2_open_raw(w, &p, &service.addr, false);
	h2_raw(&p, wrong, sizeof wrong - 1);
	H2_UNTIL(&p, p.in.len >= 12);
	assert_memory_equal(sn__buf_data(&p.in), "HTTP/1.1 505", 12);
	h2_close(&p);
	/* HTTP/1.1 on the same port, and no preface behind a request. */
	h2_open_raw(w, &p, &service.addr, false);
	h2_raw(&p, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", 32);
	H2_UNTIL(&p, p.in.len >= 12);
	assert_memory_equal(sn__buf_data(&p.in), "HTTP/1.1 200", 12);
	sn__buf_clear(&p.in);
	h2_raw(&p, hello, sizeof hello - 1);
	H2_UNTIL(&p, p.in.len >= 12);
	assert_memory_equal(sn__buf_data(&p.in), "HTTP/1.1 505", 12);
	h2_close(&p);
	/* Half a preface, and silence. */
	h2_open_raw(w, &p, &service.addr, false);
	h2_raw(&p, hello, 10);
	while (p.out.len > 0)
		assert_true(h2_once(w));
	h2_close(&p);
	serve_end();
}

static void over_tls(void **state)
{
	struct world *w = *state;
	struct sn_tls_options s = {.cert = cert_path("good.pem"),
					      .key = cert_path("good.key"),
					      .alpn = "h2,http/1.1"},
			      c = {.ca = cert_path("ca.pem"), .alpn = "h2,http/1.1"};
	struct sn_http_server_config config = {0};
	struct sn_tls *client;

	assert_int_equal(sn__tls_create(w->a, &s, true, &config.tls), 0);
	assert_int_equal(sn__tls_create(w->b, &c, false, &client), 0);
	serve(w, &config);
	h2_open_tls(w, &p, &service.addr, WINDOW, client);
	h2_expect(&p, h2_get(&p, "/hello"), 200, PLAIN "content-length: 2\n", "hi");
	assert_string_equal(sn__tls_alpn(p.s), "h2");
	h2_expect(&p, h2_post(&p, "/all", "abc", 3), 200, NULL, "abc");
	h2_close(&p);
	/* Agreed on, and then something else is said. */
	h2_open_tls(w, &p, &service.addr, WINDOW, client);
	p.raw = true;
	sn__buf_clear(&p.out);
	h2_raw(&p, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", 32);
	H2_UNTIL(&p, p.eof);
	assert_true(p.in.len == 0 || sn__buf_data(&p.in)[3] == 4);
	h2_close(&p);
	sn__tls_unref(client);
	serve_end();
	sn__tls_unref(config.tls);
}

static void close_is_graceful(void **state)
{
	struct world *w = *state;
	struct h2_stream *st, *late;
	struct h2_peer idle;

	serve(w, NULL);
	h2_open(w, &idle, &service.addr, WINDOW);
	h2_expect(&idle, h2_get(&idle, "/hello"), 200, NULL, "hi");
	h2_open(w, &p, &service.addr, WINDOW);
	st = h2_get(&p, "/later");
	H2_UNTIL(&p, service.requests == 2);
	sn__http_server_close(service.server, 5000, on_closed, NULL);
	H2_UNTIL(&idle, idle.eof);
	assert_true(idle.goaway);
	assert_int_equal(idle.goaway_error, NGHTTP2_NO_ERROR);
	assert_int_equal(idle.goaway_last, 1);
	H2_UNTIL(&p, p.goaway);
	assert_int_equal(p.goaway_last, st->id);
	late = NULL;
	h2_expect(&p, st, 200, NULL, "later");
	(void)late;
	H2_UNTIL(&p, p.eof);
	h2_close(&idle);
	h2_close(&p);
	world_run(w, &service.done);
	assert_int_equal(service.close_status, 0);
}

static void close_breaks_after_grace(void **state)
{
	struct world *w = *state;
	struct h2_stream *st;

	serve(w, NULL);
	h2_open(w, &p, &service.addr, WINDOW);
	st = h2_get(&p, "/open");
	(void)h2_get(&p, "/keep");
	H2_UNTIL(&p, st->body.len == 1 && service.requests == 2);
	sn__http_server_close(service.server, 200, on_closed, NULL);
	world_run(w, &service.done);
	assert_int_equal(service.closes, 2);
	assert_int_equal(service.close_status, SN_E_CLOSED);
	H2_UNTIL(&p, p.eof);
	assert_false(st->ended);
	h2_close(&p);
}

static int certs(void **state)
{
	return cert_make_all(NULL);
}

static int no_certs(void **state)
{
	return cert_remove_all(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			EVERY(talks),
			EVERY(trailers),
			SIM(request_heads),
			EVERY(bodies),
			EVERY(many_at_once),
			EVERY(pause_is_felt),
			EVERY(back_pressure),
			EVERY(breaking),
			EVERY(early_answers),
			EVERY(bad_answers),
			SIM(origins),
			EVERY(prefaces),
			EVERY(over_tls),
			EVERY(close_is_graceful),
			EVERY(close_breaks_after_grace),
	};

	return cmocka_run_group_tests(tests, certs, no_certs);
}
