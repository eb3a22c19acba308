/* SPDX-License-Identifier: Apache-2.0 */
/* The sidecar on the simulated loop: what each route does, over both versions, and with every
 * allocation failing once. */
#include "io/h2.h"
#include "io/tunnel.h"
#include "mesh/sidecar_world_test.h"
#include "proto/ws_handshake.h"

#define NEVER 60000 /* ms; more than anything here takes */

/* ---- a peer: answers with the body it got; /ws switches and says everything again ---- */

struct echo {
	struct sn_stream *stream;
	struct sn_buf out;
};

static struct {
	struct side_world s;
	struct echo echo;
	unsigned n_requests;
	bool hold; /* answers wait */
	struct sn_exchange *held;
	char seen[64]; /* method and path */
	char key[64], host[64], gone[8];
} t;

static void echo_close(bool reset)
{
	sn__stream_close(SN_TAKE(t.echo.stream), reset);
	sn__buf_finish(&t.echo.out);
}

static void echo_event(struct sn_stream *stream, unsigned events, void *arg)
{
	struct sn_str v;
	char piece[4096];
	ssize_t n, m;

	while ((n = sn__stream_read(stream, piece, sizeof(piece))) > 0)
		if (sn__buf_append(&t.echo.out, piece, (size_t)n) < 0) {
			echo_close(true);
			return;
		}
	if (t.echo.out.len > 0) {
		v = sn__buf_str(&t.echo.out);
		m = sn__stream_write(stream, &v, 1);
		sn__buf_consume(&t.echo.out, (size_t)SN_MAX(m, 0));
	}
	if (n != SN_E_AGAIN)
		echo_close(n < 0);
	else
		sn__stream_want(stream, SN_READABLE | (t.echo.out.len > 0 ? SN_WRITABLE : 0u));
}

static void echo_begin(struct sn_exchange *x)
{
	char accept[SN_WS_ACCEPT_LEN + 1] = "";
	const struct sn_header headers[] = {{"Connection", "Upgrade"}, {"Upgrade", "websocket"},
			{"Sec-WebSocket-Accept", accept}};
	struct sn_buf unsent;

	sn__buf_init(&t.echo.out, 1 << 20);
	sn__buf_init(&unsent, 1 << 16);
	if (sn__ws_accept_for(sn_str_from(t.key), accept) == 0 &&
			sn_exchange_start(x, 101, headers, SN_COUNT(headers), -1) == 0)
		t.echo.stream = sn__exchange_take_stream(x, &t.echo.out, &unsent);
	if (t.echo.stream == NULL) {
		sn_exchange_abort(x);
		sn__buf_finish(&unsent);
		sn__buf_finish(&t.echo.out);
		return;
	}
	sn_stream_set_owner(t.echo.stream, echo_event, NULL);
	/* The head goes first. */
	if (sn__buf_append_str(&unsent, sn__buf_str(&t.echo.out)) < 0) {
		sn__buf_finish(&unsent);
		echo_close(true);
		return;
	}
	sn__buf_finish(&t.echo.out);
	t.echo.out = unsent;
	sn__stream_want(t.echo.stream, SN_READABLE | SN_WRITABLE);
}

static void peer_answer(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	static const struct sn_header headers[] = {{"X-Peer", "yes"}, {"Keep-Alive", "no"}};

	if (status == 0 && t.hold)
		t.held = x;
	else if (status == 0 && sn_exchange_respond(x, 200, headers, 2, body, size) < 0)
		sn_exchange_abort(x);
}

static void peer(struct sn_exchange *x, void *arg)
{
	const char *key = sn_exchange_header(x, "sec-websocket-key");

	t.n_requests++;
	(void)snprintf(t.seen, sizeof(t.seen), "%s %s?%s", sn_exchange_method(x),
			sn_exchange_path(x), sn_exchange_query(x));
	(void)snprintf(t.host, sizeof(t.host), "%s", sn_exchange_header(x, "host"));
	(void)snprintf(t.key, sizeof(t.key), "%s", key != NULL ? key : "");
	(void)snprintf(t.gone, sizeof(t.gone), "%s",
			sn_exchange_header(x, "x-gone") != NULL ? "kept" : "");
	if (strcmp(sn_exchange_path(x), "/ws") == 0)
		echo_begin(x);
	else if (sn_exchange_read_all(x, 0, peer_answer, NULL) < 0)
		sn_exchange_abort(x);
}

/* ---- a client ---- */

struct client {
	struct sn_http_req req;
	struct sn_http_header headers[3];
	struct sn_stream *stream; /* of an upgraded connection */
	struct sn_buf body;
	char call_id[32];
	unsigned done;
};

static void on_head(struct sn_http_req *req, const struct sn_http_head *head)
{
	struct client *c = SN_CONTAINER_OF(req, struct client, req);
	const struct sn_str *id = sn__http_find(head, "sinew-call-id");

	if (id != NULL)
		(void)snprintf(c->call_id, sizeof(c->call_id), "%.*s", (int)id->len, id->ptr);
}

static void on_data(struct sn_http_req *req, struct sn_str data)
{
	struct client *c = SN_CONTAINER_OF(req, struct client, req);

	if (sn__buf_append(&c->body, data.ptr, data.len) < 0)
		assert_true(sn__mem_failed());
}

static void on_done(struct sn_http_req *req)
{
	struct client *c = SN_CONTAINER_OF(req, struct client, req);

	c->done++;
	if (req->upgrade && req->result.status == 101)
		c->stream = sn__http_take_stream(req, &c->body);
}

static const struct sn_http_req_ops ops = {
		.on_head = on_head, .on_data = on_data, .on_done = on_done};

/* Whether it began. */
static bool ask(struct client *c, struct sn_http_dest *dest, const char *method, const char *target,
		const char *body)
{
	int r;

	c->req.ops = &ops;
	c->req.method = sn_str_from(method);
	c->req.target = sn_str_from(target);
	c->req.body = sn_str_from(body);
	c->req.headers = c->headers;
	sn__buf_init(&c->body, 1 << 20);
	r = sn__http_start(dest, &c->req, NULL);
	assert_true(r == 0 || r == SN_E_NOMEM);
	return r == 0;
}

static void header(struct client *c, const char *name, const char *value)
{
	c->headers[c->req.n_headers++] = (struct sn_http_header){
			sn_str_from(name), sn_str_from(value)};
}

static void until_done(struct client *c)
{
	for (int i = 0; c->done == 0; i++) {
		assert_true(i < NEVER);
		mw_run(&t.s.w, 1);
	}
	assert_int_equal(c->done, 1);
}

static void client_end(struct client *c)
{
	sn__stream_close(SN_TAKE(c->stream), false);
	sn__buf_finish(&c->body);
}

static void begin(void)
{
	memset(&t, 0, sizeof(t));
	side_open(&t.s, 1, peer, NULL);
	mw_policies(&t.s.w, "{\"values\":{\"retry-initial-delay\":1,\"retry-max-delay\":2}}");
}

static void end(void)
{
	if (t.echo.stream != NULL)
		echo_close(true);
	side_close(&t.s);
}

static void check_body(const struct client *c, const char *want)
{
	assert_int_equal(c->body.len, strlen(want));
	assert_memory_equal(sn__buf_data(&c->body), want, c->body.len);
}

#define CALL "/call/service/s/default"

static void calls_over_both_versions(void **state)
{
	begin();
	for (int v = 0; v < 2; v++) {
		struct client c = {.done = 0};

		header(&c, "X-Gone", "1");
		if (v == 0)
			header(&c, "Keep-Alive", "x");
		assert_true(ask(&c, v == 0 ? t.s.by1 : t.s.by2, "PUT", CALL "/a/../b?c=%20",
				"hello"));
		until_done(&c);
		assert_int_equal(c.req.result.status, 200);
		check_body(&c, "hello");
		assert_int_equal(strlen(c.call_id), 16);
		assert_string_equal(t.seen, "PUT /a/../b?c=%20");
		assert_true(strcmp(t.host, "10.0.0.1") == 0 || strcmp(t.host, "10.0.0.2") == 0 ||
				strcmp(t.host, "10.0.0.1:80") == 0 ||
				strcmp(t.host, "10.0.0.2:80") == 0);
		assert_string_equal(t.gone, "kept");
		client_end(&c);
	}
	assert_int_equal(t.s.n_lines, 2);
	end();
}

static void wrong_paths(void **state)
{
	static const struct {
		const char *method, *path;
		unsigned status;
	} cases[] = {{"GET", "/", 404}, {"GET", "/call/service/s", 400},
			{"GET", "/call/ser%2Fvice/s/default/", 400}, {"GET", "/peers/x", 400},
			{"DELETE", "/peers/service/s/default", 405},
			{"GET", "/call/service/s/default/x", 200},
			{"GET", "/peers/service/s/default", 200},
			{"HEAD", "/peers/service/s/default", 200},
			{"GET", "/peers/service/unknown/default", 200}};

	begin();
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct client c = {.done = 0};

		assert_true(ask(&c, t.s.by1, cases[i].method, cases[i].path, ""));
		until_done(&c);
		assert_int_equal(c.req.result.status, cases[i].status);
		client_end(&c);
	}
	assert_int_equal(t.s.n_lines, SN_COUNT(cases));
	end();
}

static void a_watch_hears_of_changes(void **state)
{
	struct client c = {.done = 0};

	begin();
	assert_true(ask(&c, t.s.by2, "GET", "/peers/service/s/default?watch", ""));
	mw_run(&t.s.w, 100);
	assert_int_equal(c.done, 0);
	assert_non_null(memmem(sn__buf_data(&c.body), c.body.len, "10.0.0.2", 8));
	sn__buf_clear(&c.body);
	mw_peers(&t.s.w, 1);
	mw_run(&t.s.w, 100);
	assert_null(memmem(sn__buf_data(&c.body), c.body.len, "10.0.0.2", 8));
	assert_int_equal(sn__buf_data(&c.body)[c.body.len - 1], '\n');
	side_stop(&t.s, 1000);
	until_done(&c);
	assert_int_equal(c.req.result.code, 0); /* a proper end */
	client_end(&c);
	end();
}

static void write_all(struct client *c, const char *text)
{
	struct sn_str v = sn_str_from(text);

	assert_int_equal(sn__stream_write(c->stream, &v, 1), (int)v.len);
}

static size_t read_some(struct client *c)
{
	char piece[100];
	ssize_t n = sn__stream_read(c->stream, piece, sizeof(piece));

	if (n > 0 && sn__buf_append(&c->body, piece, (size_t)n) < 0)
		assert_true(sn__mem_failed());
	return (size_t)SN_MAX(n, 0);
}

static void nobody(struct sn_stream *stream, unsigned events, void *arg)
{
}

static void an_upgraded_connection(void **state)
{
	struct client c = {.done = 0};

	begin();
	c.req.upgrade = true;
	header(&c, "Upgrade", "websocket");
	header(&c, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
	assert_true(ask(&c, t.s.by1, "GET", CALL "/ws", ""));
	until_done(&c);
	assert_int_equal(c.req.result.status, 101);
	assert_non_null(c.stream);
	sn_stream_set_owner(c.stream, nobody, NULL);
	assert_string_equal(t.key, "dGhlIHNhbXBsZSBub25jZQ==");
	write_all(&c, "ping");
	mw_run(&t.s.w, 10);
	assert_int_equal(read_some(&c), 4);
	check_body(&c, "ping");
	client_end(&c);
	mw_run(&t.s.w, 10);
	assert_null(t.echo.stream); /* the peer heard of the end */
	end();
}

static void no_upgrade_to_http2(void **state)
{
	struct client c = {.done = 0};

	begin();
	c.req.upgrade = true;
	header(&c, "Upgrade", "websocket, h2c");
	assert_true(ask(&c, t.s.by1, "GET", CALL "/x", ""));
	until_done(&c);
	assert_int_equal(c.req.result.status, 200);
	client_end(&c);
	end();
}

/* ---- WebSocket over HTTP/2 ---- */

struct h2_client {
	struct sn_h2 *h2;
	struct sn_h2_scratch *scratch;
	struct sn_stream *stream;
	struct sn_buf in, out;
	int32_t id;
	unsigned status;
	bool asked, ended, closed, gone, failed, accept;
};

static void w_head(struct sn_h2 *h2, int32_t id, void *stream, const struct sn_http_head *head,
		unsigned flags)
{
	struct h2_client *c = h2->arg;

	c->status = head->status;
	c->accept = sn__http_find(head, "sec-websocket-accept") != NULL;
}

static void w_data(struct sn_h2 *h2, int32_t id, void *stream, struct sn_str data)
{
	struct h2_client *c = h2->arg;

	if (sn__buf_append(&c->in, data.ptr, data.len) < 0)
		assert_true(sn__mem_failed());
	sn__h2_consume(h2, id, data.len);
}

static void w_end(struct sn_h2 *h2, int32_t id, void *stream)
{
	((struct h2_client *)h2->arg)->ended = true;
}

static void w_close(struct sn_h2 *h2, int32_t id, void *stream, uint32_t error)
{
	((struct h2_client *)h2->arg)->closed = true;
}

static ssize_t w_read(struct sn_h2 *h2, int32_t id, void *stream, void *out, size_t n,
		unsigned *ret_flags)
{
	struct h2_client *c = h2->arg;

	n = SN_MIN(n, c->out.len);
	if (n == 0)
		return SN_E_AGAIN;
	memcpy(out, sn__buf_data(&c->out), n);
	sn__buf_consume(&c->out, n);
	return (ssize_t)n;
}

static void w_settings(struct sn_h2 *h2)
{
	struct h2_client *c = h2->arg;
	const nghttp2_nv nva[] = {sn_h2_nv(SN_STR(":method"), SN_STR("CONNECT")),
			sn_h2_nv(SN_STR(":protocol"), SN_STR("websocket")),
			sn_h2_nv(SN_STR(":scheme"), SN_STR("http")),
			sn_h2_nv(SN_STR(":authority"), SN_STR("localhost")),
			sn_h2_nv(SN_STR(":path"), SN_STR(CALL "/ws"))};

	assert_int_equal(nghttp2_session_get_remote_settings(
					 h2->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL),
			1);
	if (c->asked)
		return;
	c->asked = true;
	c->id = sn__h2_request(h2, nva, SN_COUNT(nva), true, c);
	c->failed = c->id < 0;
}

static void w_gone(struct sn_h2 *h2)
{
	((struct h2_client *)h2->arg)->gone = true;
}

static const struct sn_h2_ops w_ops = {
		.on_head = w_head,
		.on_data = w_data,
		.on_end = w_end,
		.on_close = w_close,
		.read = w_read,
		.on_settings = w_settings,
		.on_gone = w_gone,
};

static void w_connected(struct sn_stream *stream, unsigned events, void *arg)
{
	struct h2_client *c = arg;
	struct sn_h2_config config = {.ops = &w_ops, .arg = c, .scratch = c->scratch};

	c->failed = (events & SN_STREAM_FAILED) != 0 || sn__h2_open(&config, stream, &c->h2) < 0;
	if (!c->failed)
		c->stream = NULL; /* taken */
}

/* Whether it began. */
static bool w_open(struct h2_client *c)
{
	struct sn_addr addr;

	memset(c, 0, sizeof(*c));
	sn__buf_init(&c->in, 1 << 20);
	sn__buf_init(&c->out, 1 << 20);
	assert_int_equal(sn__addr_parse_listen(SN_STR(SIDE_LISTEN), &addr, NULL), 0);
	return sn__h2_scratch_create(&c->scratch) == 0 &&
			sn__stream_connect(t.s.client_loop, &addr, w_connected, c, &c->stream,
					NULL) == 0;
}

/* Until its answer, or its end. */
static void w_answered(struct h2_client *c)
{
	for (int i = 0; c->status == 0 && !c->closed && !c->gone && !c->failed; i++) {
		assert_true(i < NEVER);
		mw_run(&t.s.w, 1);
	}
}

static void w_finish(struct h2_client *c)
{
	if (c->h2 != NULL)
		sn__h2_close(c->h2, NGHTTP2_NO_ERROR);
	sn__stream_close(c->stream, true);
	mw_run(&t.s.w, 10);
	sn__h2_scratch_destroy(c->scratch);
	sn__buf_finish(&c->in);
	sn__buf_finish(&c->out);
}

static void w_say(struct h2_client *c, const char *text)
{
	if (sn__buf_puts(&c->out, text) == 0)
		sn__h2_resume(c->h2, c->id);
}

static void websocket_over_http2(void **state)
{
	struct h2_client c;

	begin();
	assert_true(w_open(&c));
	w_answered(&c);
	assert_int_equal(c.status, 200);
	assert_false(c.accept);
	assert_true(sn__ws_key_valid(sn_str_from(t.key)));
	assert_string_equal(t.seen, "GET /ws?");
	for (int i = 0; i < 5; i++) {
		w_say(&c, "ping");
		mw_run(&t.s.w, 10);
		assert_int_equal(c.in.len, 4 * (i + 1));
	}
	echo_close(false);
	mw_run(&t.s.w, 10);
	assert_true(c.ended);
	w_finish(&c);
	end();
}

static void websocket_over_http2_is_reset(void **state)
{
	struct h2_client c;

	begin();
	for (int i = 0; i < 2; i++) {
		assert_true(w_open(&c));
		w_answered(&c);
		w_say(&c, "ping");
		mw_run(&t.s.w, 10);
		assert_int_equal(c.in.len, 4);
		if (i == 0) {
			sn__h2_reset(c.h2, c.id, NGHTTP2_CANCEL);
			mw_run(&t.s.w, 10);
			assert_null(t.echo.stream);
		} else {
			echo_close(true);
			mw_run(&t.s.w, 10);
			assert_true(c.closed && !c.ended);
		}
		w_finish(&c);
	}
	end();
}

/* ---- draining ---- */

static void what_is_under_way_ends_in_peace(void **state)
{
	struct client c = {.done = 0}, late = {.done = 0};

	begin();
	t.hold = true;
	assert_true(ask(&c, t.s.by1, "GET", CALL "/slow", ""));
	mw_run(&t.s.w, 100);
	assert_non_null(t.held);
	t.s.rt.drain_ms = 10000;
	sn__runtime_drain(&t.s.rt);
	assert_true(t.s.rt.draining && !t.s.rt.drained);
	mw_run(&t.s.w, 100);
	assert_true(ask(&late, t.s.by1, "GET", CALL "/late", ""));
	until_done(&late);
	assert_int_equal(late.req.result.code, SN_E_CONNECT);
	assert_false(t.s.rt.drained);
	assert_int_equal(sn_exchange_respond(t.held, 200, NULL, 0, "slow", 4), 0);
	until_done(&c);
	check_body(&c, "slow");
	mw_run(&t.s.w, 100);
	assert_true(t.s.rt.drained);
	sn__drain_stop(&t.s.rt);
	client_end(&c);
	client_end(&late);
	end();
}

static void draining_has_an_end(void **state)
{
	struct client c = {.done = 0};

	begin();
	t.hold = true;
	assert_true(ask(&c, t.s.by1, "GET", CALL "/slow", ""));
	mw_run(&t.s.w, 100);
	t.s.rt.drain_ms = 500;
	sn__runtime_drain(&t.s.rt);
	mw_run(&t.s.w, 400);
	assert_false(t.s.rt.drained);
	assert_int_equal(c.done, 0);
	mw_run(&t.s.w, 200);
	assert_true(t.s.rt.drained);
	assert_int_equal(c.done, 1);
	sn__drain_stop(&t.s.rt);
	client_end(&c);
	end();
}

/* ---- without memory ---- */

static void run_call(void)
{
	struct client c = {.done = 0};

	if (ask(&c, t.s.by1, "PUT", CALL "/x", "hello"))
		until_done(&c);
	client_end(&c);
}

static void run_call2(void)
{
	struct client c = {.done = 0};

	if (ask(&c, t.s.by2, "PUT", CALL "/x", "hello"))
		until_done(&c);
	client_end(&c);
}

static void run_watch(void)
{
	struct client c = {.done = 0};

	if (ask(&c, t.s.by1, "GET", "/peers/service/s/default?watch", "")) {
		mw_run(&t.s.w, 100);
		if (c.done == 0)
			sn__http_cancel(&c.req, SN_E_CANCELLED);
		until_done(&c);
	}
	client_end(&c);
}

static void run_upgrade(void)
{
	struct client c = {.done = 0};

	c.req.upgrade = true;
	header(&c, "Upgrade", "websocket");
	header(&c, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
	if (ask(&c, t.s.by1, "GET", CALL "/ws", ""))
		until_done(&c);
	if (c.stream != NULL) {
		sn_stream_set_owner(c.stream, nobody, NULL);
		write_all(&c, "ping");
		mw_run(&t.s.w, 10);
		(void)read_some(&c);
	}
	client_end(&c);
}

static void run_websocket(void)
{
	struct h2_client c;

	if (w_open(&c))
		w_answered(&c);
	if (c.status == 200 && !c.closed && !c.gone)
		w_say(&c, "ping");
	mw_run(&t.s.w, 10);
	w_finish(&c);
}

static void everything_ends_without_memory(void **state)
{
	static void (*const runs[])(void) = {
			run_call, run_call2, run_watch, run_upgrade, run_websocket};

	for (size_t i = 0; i < SN_COUNT(runs); i++) {
		bool more = true;
		uint64_t n;

		for (n = 1; more; n++) {
			assert_true(n < 500);
			begin();
			sn__mem_fail_nth(n);
			runs[i]();
			more = sn__mem_failed();
			sn__mem_fail_nth(0);
			end(); /* nothing is left */
		}
		assert_in_range(n, 10, 500);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(calls_over_both_versions),
			cmocka_unit_test(wrong_paths),
			cmocka_unit_test(a_watch_hears_of_changes),
			cmocka_unit_test(an_upgraded_connection),
			cmocka_unit_test(no_upgrade_to_http2),
			cmocka_unit_test(websocket_over_http2),
			cmocka_unit_test(websocket_over_http2_is_reset),
			cmocka_unit_test(what_is_under_way_ends_in_peace),
			cmocka_unit_test(draining_has_an_end),
			cmocka_unit_test(everything_ends_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
