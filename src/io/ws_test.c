/* SPDX-License-Identifier: Apache-2.0 */
/* WebSockets: our client against our server on libuv and the simulation, and raw bytes against
 * each of them. */
#include <stdio.h>

#include "base/buf.h"
#include "io/world_test.h"
#include "io/ws.h"

/* ---- one side: what it heard ---- */

struct side {
	struct sn_ws *ws;
	struct sn_buf got; /* "t:text\n", "b:..\n" */
	unsigned messages, drains;
	size_t bytes;
	bool opened, closed, echo, close_on_open, abort_on_message, quiet, take;
	char *taken; /* the last message */
	struct sn_error err;
};

static void on_open(struct sn_ws *ws, void *arg)
{
	struct side *s = arg;

	s->opened = true;
	if (s->close_on_open)
		sn__ws_close(ws, 1000, "bye");
}

static void on_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	struct side *s = arg;

	assert_int_equal(data.ptr[data.len], 0);
	s->messages++;
	s->bytes += data.len;
	if (!s->quiet)
		assert_int_equal(sn__buf_printf(&s->got, "%c:%.*s\n", text ? 't' : 'b',
						 (int)SN_MIN(data.len, (size_t)100), data.ptr),
				0);
	if (s->take) {
		sn__free(s->taken);
		s->taken = sn__ws_take_message(ws);
		assert_ptr_equal(s->taken, data.ptr);
		return;
	}
	if (s->abort_on_message) {
		sn__ws_abort(ws);
		s->ws = NULL;
		s->closed = true;
		return;
	}
	if (s->echo)
		assert_int_equal(sn__ws_send(ws, text, data), 0);
}

static void on_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	struct side *s = arg;

	assert_false(s->closed);
	s->closed = true;
	s->ws = NULL;
	s->err.code = err->code;
	s->err.foreign = err->foreign;
	memcpy(s->err.text, err->text, sizeof(s->err.text));
	/* Calls inside it do no harm. */
	assert_int_equal(sn__ws_send(ws, true, SN_STR("x")), SN_E_CLOSED);
	sn__ws_close(ws, 1000, NULL);
}

static void on_drain(struct sn_ws *ws, void *arg)
{
	((struct side *)arg)->drains++;
}

static const struct sn_ws_ops ops = {on_open, on_message, on_close, on_drain};

/* ---- a server that accepts one ---- */

static struct side client, server;
static struct sn_ws_options server_opts, client_opts;
static struct sn_http_server *http;
static struct sn_addr addr;
static bool http_done;
static int accept_result;

static void handler(struct sn_exchange *x, void *arg)
{
	struct sn_error err;

	accept_result = sn__ws_accept(x, &server_opts, &ops, &server, &server.ws, &err);
	if (accept_result == SN_E_PROTOCOL)
		sn__ws_refuse(x);
	else if (accept_result < 0)
		sn_exchange_abort(x);
	else
		server.opened = true;
}

static void serve(struct world *w)
{
	struct sn_http_server_config config = {
			.addr = world_addr(w->sim != NULL ? "127.0.0.1:8080" : "127.0.0.1:0")};

	client = server = (struct side){0};
	sn__buf_init(&client.got, 1 << 24);
	sn__buf_init(&server.got, 1 << 24);
	client_opts = server_opts = (struct sn_ws_options){0};
	http_done = false;
	assert_int_equal(sn__http_server_open(w->a, &config, handler, NULL, &http, NULL), 0);
	addr = *sn__http_server_addr(http);
}

static void on_http_done(void *arg)
{
	http_done = true;
}

static void serve_end(struct world *w)
{
	sn__http_server_close(http, 100, on_http_done, NULL);
	world_run(w, &http_done);
	sn__ws_abort(client.ws);
	sn__ws_abort(server.ws);
	sn__buf_finish(&client.got);
	sn__buf_finish(&server.got);
}

static void connect_to(struct world *w, const char *path)
{
	char url[200];

	(void)snprintf(url, sizeof(url), "ws://127.0.0.1:%u%s", sn__addr_port(&addr), path);
	assert_int_equal(sn__ws_connect(w->b, url, NULL, &client_opts, &ops, &client, &client.ws,
					 NULL),
			0);
	assert_false(client.opened);
}

static void until(struct world *w, const bool *what)
{
	world_run(w, what);
}

static void open_both(struct world *w)
{
	serve(w);
	connect_to(w, "/x?y");
	until(w, &client.opened);
	while (!server.opened)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
}

static void expect_got(struct world *w, struct side *s, const char *text)
{
	struct sn_str want = sn_str_from(text);

	while (s->got.len < want.len && !s->closed && sn__loop_run(w->a, SN_RUN_ONCE))
		;
	assert_int_equal(sn__buf_append(&s->got, "", 1), 0);
	assert_string_equal(sn__buf_data(&s->got), text);
	sn__buf_clear(&s->got);
}

/* ---- tests ---- */

static void taken_messages(void **state)
{
	static const size_t sizes[] = {5, 300000, 0, 70000};
	struct world *w = *state;
	char *text = sn__malloc(300000);

	assert_non_null(text);
	memset(text, 'x', 300000);
	open_both(w);
	client.take = true;
	client.quiet = true;
	for (size_t i = 0; i < SN_COUNT(sizes); i++) {
		assert_int_equal(sn__ws_send(server.ws, true, (struct sn_str){text, sizes[i]}), 0);
		while (client.messages <= i && sn__loop_run(w->a, SN_RUN_ONCE))
			;
		assert_int_equal(strlen(client.taken), sizes[i]);
	}
	sn__free(client.taken);
	sn__free(text);
	serve_end(w);
}

static void talk_and_close(void **state)
{
	struct world *w = *state;

	open_both(w);
	server.echo = true;
	assert_int_equal(sn__ws_send(client.ws, true, SN_STR("hello")), 0);
	assert_int_equal(sn__ws_send(client.ws, false, SN_STR("bin")), 0);
	assert_int_equal(sn__ws_send(client.ws, true, SN_STR("")), 0);
	expect_got(w, &server, "t:hello\nb:bin\nt:\n");
	expect_got(w, &client, "t:hello\nb:bin\nt:\n");
	assert_int_equal(sn__ws_send(client.ws, true, SN_STR("last")), 0);
	sn__ws_close(client.ws, 4001, "reason");
	assert_int_equal(sn__ws_send(client.ws, true, SN_STR("late")), SN_E_CLOSED);
	sn__ws_close(client.ws, 4002, NULL);
	until(w, &client.closed);
	until(w, &server.closed);
	expect_got(w, &server, "t:last\n");
	assert_int_equal(server.err.code, SN_E_CLOSED);
	assert_int_equal(server.err.foreign, 4001);
	assert_int_equal(client.err.code, SN_E_CLOSED);
	assert_int_equal(client.err.foreign, 4001);
	serve_end(w);
}

static void server_closes(void **state)
{
	struct world *w = *state;

	open_both(w);
	sn__ws_close(server.ws, 1001, NULL);
	until(w, &client.closed);
	until(w, &server.closed);
	assert_int_equal(client.err.code, SN_E_CLOSED);
	assert_int_equal(client.err.foreign, 1001);
	assert_int_equal(server.err.foreign, 1001);
	serve_end(w);
}

static void close_in_callbacks(void **state)
{
	struct world *w = *state;

	serve(w);
	client.close_on_open = true;
	connect_to(w, "");
	until(w, &client.closed);
	until(w, &server.closed);
	assert_int_equal(server.err.foreign, 1000);
	serve_end(w);

	open_both(w);
	server.abort_on_message = true;
	assert_int_equal(sn__ws_send(client.ws, true, SN_STR("a")), 0);
	assert_int_equal(sn__ws_send(client.ws, true, SN_STR("b")), 0);
	until(w, &server.closed);
	assert_int_equal(server.messages, 1);
	until(w, &client.closed);
	assert_true(client.err.code == SN_E_RESET || client.err.code == SN_E_EOF);
	serve_end(w);
}

static void close_before_open(void **state)
{
	struct world *w = *state;

	serve(w);
	connect_to(w, "");
	sn__ws_close(client.ws, 1000, NULL);
	until(w, &client.closed);
	assert_false(client.opened);
	assert_int_equal(client.err.code, SN_E_CLOSED);
	connect_to(w, "");
	sn__ws_abort(client.ws);
	client.ws = NULL;
	serve_end(w);
}

static void sizes(void **state)
{
	static const size_t table[] = {0, 1, 125, 126, 127, 65535, 65536, 65537, 300000};
	struct world *w = *state;
	char *data = test_malloc(300000);
	size_t total = 0;

	memset(data, 'x', 300000);
	open_both(w);
	server.echo = client.quiet = server.quiet = true;
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		assert_int_equal(sn__ws_send(client.ws, i % 2, (struct sn_str){data, table[i]}), 0);
		total += table[i];
	}
	while (client.messages < SN_COUNT(table) && sn__loop_run(w->a, SN_RUN_ONCE))
		;
	assert_int_equal(client.bytes, total);
	assert_int_equal(server.bytes, total);
	test_free(data);
	serve_end(w);
}

static void too_large(void **state)
{
	struct world *w = *state;
	char data[1002];

	memset(data, 'x', sizeof(data));
	serve(w);
	server_opts.max_message = 1000;
	server.quiet = true;
	connect_to(w, "");
	until(w, &client.opened);
	assert_int_equal(sn__ws_send(client.ws, true, (struct sn_str){data, 1000}), 0);
	assert_int_equal(sn__ws_send(client.ws, true, (struct sn_str){data, 1001}), 0);
	until(w, &client.closed);
	until(w, &server.closed);
	assert_int_equal(server.messages, 1);
	assert_int_equal(server.err.code, SN_E_LIMIT);
	assert_int_equal(client.err.code, SN_E_CLOSED);
	assert_int_equal(client.err.foreign, 1009);
	serve_end(w);
}

static void shared_frames_and_queue(void **state)
{
	struct world *w = *state;
	struct sn_ws_frame *frame;
	char data[1000];
	unsigned sent = 0;
	int r;

	memset(data, 'x', sizeof(data));
	serve(w);
	server_opts.max_queue = 10000;
	client.quiet = true;
	connect_to(w, "");
	until(w, &client.opened);
	while (!server.opened)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_int_equal(sn__ws_frame_create(true, (struct sn_str){data, 1000}, &frame), 0);
	while ((r = sn__ws_send_frame(server.ws, frame)) == 0)
		sent++;
	assert_int_equal(r, SN_E_LIMIT);
	assert_int_equal(sent, 9); /* 1004 bytes each */
	assert_in_range(sn__ws_queued(server.ws), 9000, 10000);
	sn__ws_frame_unref(frame);
	while (client.messages < sent && sn__loop_run(w->a, SN_RUN_ONCE))
		;
	assert_int_equal(client.messages, sent);
	assert_int_equal(client.bytes, 1000 * sent);
	assert_int_equal(server.drains, 1);
	assert_int_equal(sn__ws_queued(server.ws), 0);
	serve_end(w);
}

static void pings(void **state)
{
	struct world *w = *state;
	uint64_t start;

	serve(w);
	client_opts.ping_ms = 1000;
	connect_to(w, "");
	until(w, &client.opened);
	start = sn__loop_clock_ns(w->a);
	while (sn__loop_clock_ns(w->a) - start < 10 * SN_NS_PER_S && !client.closed)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_false(client.closed); /* the server answers */
	serve_end(w);
}

/* ---- raw bytes against the server ---- */

struct raw {
	struct sn_stream *s;
	struct sn_buf in;
	const char *to_send;
	size_t left;
	bool eof;
};

static void on_raw(struct sn_stream *s, unsigned events, void *arg)
{
	struct raw *raw = arg;
	char block[1000];
	ssize_t n;

	while (raw->left > 0) {
		struct sn_str v = {raw->to_send, raw->left};

		n = sn__stream_write(s, &v, 1);
		if (n <= 0)
			break;
		raw->to_send += n;
		raw->left -= (size_t)n;
	}
	while ((n = sn__stream_read(s, block, sizeof(block))) > 0)
		assert_int_equal(sn__buf_append(&raw->in, block, (size_t)n), 0);
	raw->eof |= n != SN_E_AGAIN;
	sn__stream_want(s, (raw->eof ? 0u : SN_READABLE) | (raw->left > 0 ? SN_WRITABLE : 0u));
}

#define HELLO \
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define ACCEPTED "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define MASK "\0\0\0\0"

struct attack {
	const char *bytes;
	size_t len;
	int code;          /* what the server's user is told; 0: nothing */
	const char *heard; /* what it got first */
	unsigned close;    /* the close code that comes back; 0: none */
};

#define ATTACK(b, code, heard, close) \
	{ \
		b, sizeof(b) - 1, code, heard, close \
	}

/* The payload of the close frame that ends @in, or 0. */
static unsigned close_code(const struct sn_buf *in)
{
	const uint8_t *p = (const uint8_t *)strstr(in->block + in->head, "\r\n\r\n");
	size_t n;

	assert_non_null(p);
	p += 4;
	while ((n = in->len - (size_t)(p - (const uint8_t *)(in->block + in->head))) >= 2) {
		if (p[0] == 0x88)
			return n >= 4 && p[1] >= 2 ? (unsigned)(p[2] << 8 | p[3]) : 1005;
		p += 2 + p[1];
	}
	return 0;
}

static void attacks(void **state)
{
	static const struct attack table[] = {
			ATTACK("\x81\x82" MASK "hi", 0, "t:hi\n", 0),
			ATTACK("\x01\x81" MASK "a\x89\x81" MASK "p\x80\x81" MASK "b", 0, "t:ab\n",
					0),
			ATTACK("\x02\x81" MASK "a\x00\x80" MASK "\x80\x81" MASK "b", 0, "b:ab\n",
					0),
			ATTACK("\x88\x80" MASK, SN_E_CLOSED, "", 1005),
			ATTACK("\x88\x82" MASK "\x03\xe8", SN_E_CLOSED, "", 1000),
			/* broken rules */
			ATTACK("\x81\x02hi", SN_E_PROTOCOL, "", 1002),         /* not masked */
			ATTACK("\xc1\x82" MASK "hi", SN_E_PROTOCOL, "", 1002), /* RSV1 */
			ATTACK("\x83\x82" MASK "hi", SN_E_PROTOCOL, "", 1002), /* opcode 3 */
			ATTACK("\x80\x82" MASK "hi", SN_E_PROTOCOL, "",
					1002), /* nothing to continue */
			ATTACK("\x01\x81" MASK "a\x81\x81" MASK "b", SN_E_PROTOCOL, "", 1002),
			ATTACK("\x09\x80" MASK, SN_E_PROTOCOL, "", 1002), /* fragmented ping */
			ATTACK("\x89\xfe\x00\x7e" MASK, SN_E_PROTOCOL, "", 1002), /* long ping */
			ATTACK("\x81\xfe\x00\x02" MASK "hi", SN_E_PROTOCOL, "",
					1002), /* length not minimal */
			ATTACK("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" MASK, SN_E_PROTOCOL, "",
					1002),
			ATTACK("\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00" MASK "x", SN_E_LIMIT, "",
					1009),
			ATTACK("\x81\x82" MASK "\xc3\x28", SN_E_PROTOCOL, "", 1007), /* not UTF-8 */
			ATTACK("\x81\x81" MASK "\xc3", SN_E_PROTOCOL, "", 1007),     /* cut UTF-8 */
			ATTACK("\x01\x81" MASK "\xc3\x80\x81" MASK "\x28", SN_E_PROTOCOL, "", 1007),
			ATTACK("\x88\x81" MASK "\x03", SN_E_CLOSED, "",
					1005), /* half a code: wslay takes it for none */
			ATTACK("\x88\x82" MASK "\x03\xed", SN_E_PROTOCOL, "",
					1002), /* 1005 on the wire */
			ATTACK("\x88\x83" MASK "\x03\xe8\xff", SN_E_PROTOCOL, "", 1007),
	};
	struct world *w = *state;

	for (size_t i = 0; i < SN_COUNT(table); i++) {
		const struct attack *a = &table[i];
		char text[400];
		struct raw raw = {.to_send = text, .left = sizeof(HELLO) - 1 + a->len};

		serve(w);
		memcpy(text, HELLO, sizeof(HELLO) - 1);
		memcpy(text + sizeof(HELLO) - 1, a->bytes, a->len);
		sn__buf_init(&raw.in, 10000);
		assert_int_equal(sn__stream_connect(w->b, &addr, on_raw, &raw, &raw.s, NULL), 0);
		sn__stream_want(raw.s, SN_WRITABLE);
		expect_got(w, &server, a->heard);
		if (a->code != 0) {
			while (!raw.eof && sn__loop_run(w->a, SN_RUN_ONCE))
				;
			assert_true(raw.eof);
			assert_int_equal(sn__buf_append(&raw.in, "", 1), 0);
			raw.in.len--;
			assert_non_null(strstr(sn__buf_data(&raw.in), ACCEPTED));
			if (close_code(&raw.in) != a->close)
				fail_msg("attack %zu: close code %u, not %u", i,
						close_code(&raw.in), a->close);
		}
		sn__stream_close(raw.s, false);
		until(w, &server.closed);
		if (a->code != 0)
			assert_int_equal(server.err.code, a->code);
		else
			assert_true(server.err.code == SN_E_EOF || server.err.code == SN_E_RESET);
		sn__buf_finish(&raw.in);
		serve_end(w);
	}
}

struct refused {
	const char *request, *answer;
};

static void refused_handshakes(void **state)
{
	static const struct refused table[] = {
			{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426 Upgrade Required\r\n"},
			{"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
			 "Upgrade: websocket\r\n\r\n",
					"HTTP/1.1 405 Method Not Allowed\r\n"},
			{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
			 "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
			 "Sec-WebSocket-Key: x\r\n\r\n",
					"HTTP/1.1 400 Bad Request\r\n"},
	};
	struct world *w = *state;

	for (size_t i = 0; i < SN_COUNT(table); i++) {
		struct raw raw = {.to_send = table[i].request, .left = strlen(table[i].request)};

		serve(w);
		sn__buf_init(&raw.in, 10000);
		assert_int_equal(sn__stream_connect(w->b, &addr, on_raw, &raw, &raw.s, NULL), 0);
		sn__stream_want(raw.s, SN_WRITABLE);
		while (!raw.eof && sn__loop_run(w->a, SN_RUN_ONCE))
			;
		assert_int_equal(accept_result, SN_E_PROTOCOL);
		assert_memory_equal(
				sn__buf_data(&raw.in), table[i].answer, strlen(table[i].answer));
		sn__stream_close(raw.s, false);
		sn__buf_finish(&raw.in);
		serve_end(w);
	}
}

/* ---- raw bytes against the client ---- */

static const char *raw_answer;
static struct sn_stream *raw_stream;
static bool raw_hangs;

static void on_raw_server(struct sn_stream *s, unsigned events, void *arg)
{
	char block[1000];
	struct sn_str v = sn_str_from(raw_answer);
	ssize_t n = sn__stream_read(s, block, sizeof(block));

	if (n == SN_E_AGAIN)
		return;
	if (n <= 0 || raw_hangs) {
		sn__stream_want(s, 0);
		return;
	}
	assert_int_equal(sn__stream_write(s, &v, 1), v.len);
	assert_int_equal(sn__stream_shutdown(s), 0);
	sn__stream_want(s, SN_READABLE);
}

static void on_raw_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	raw_stream = s;
	sn_stream_set_owner(s, on_raw_server, NULL);
	sn__stream_want(s, SN_READABLE);
}

struct answer {
	const char *text;
	int code, foreign;
};

static void bad_answers(void **state)
{
	static const struct answer table[] = {
			{"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", SN_E_STATUS, 404},
			{"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
			 "Sec-WebSocket-Accept: x\r\n\r\n",
					SN_E_PROTOCOL, 0},
			{"HTTP/1.1 200 OK\r\n\r\n", SN_E_STATUS, 200},
			{"220 smtp ready\r\n", SN_E_PROTOCOL, 0},
			{"HTTP/1.1 101", SN_E_EOF, 0},
			{"", SN_E_EOF, 0},
			{NULL, SN_E_TIMEOUT, 0},
	};
	struct world *w = *state;
	struct sn_listener *l;
	struct sn_addr at = world_addr("127.0.0.1:9090");

	assert_int_equal(sn__listen(w->a, &at, NULL, on_raw_accept, NULL, &l, NULL), 0);
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		client = (struct side){0};
		client_opts = (struct sn_ws_options){.open_timeout_ms = 300};
		raw_answer = table[i].text;
		raw_hangs = raw_answer == NULL;
		raw_stream = NULL;
		addr = at;
		connect_to(w, "/");
		until(w, &client.closed);
		assert_false(client.opened);
		assert_int_equal(client.err.code, table[i].code);
		assert_int_equal(client.err.foreign, table[i].foreign);
		sn__stream_close(raw_stream, false);
	}
	sn__listener_close(l);
	/* nobody listens now */
	client = (struct side){0};
	connect_to(w, "/");
	until(w, &client.closed);
	assert_int_equal(client.err.code, SN_E_CONNECT);
}

static void bad_urls_and_names(void **state)
{
	struct world *w = *state;
	struct sn_error err;

	client = (struct side){0};
	assert_int_equal(sn__ws_connect(w->b, "http://a/", NULL, NULL, &ops, &client, &client.ws,
					 &err),
			SN_E_INVALID);
	assert_non_null(strstr(err.text, "ws://"));
	assert_int_equal(sn__ws_connect(w->b, "ws:/a", NULL, NULL, &ops, &client, &client.ws, &err),
			SN_E_INVALID);
	assert_int_equal(sn__ws_connect(w->b, "ws://no.such.name/", NULL, NULL, &ops, &client,
					 &client.ws, &err),
			0);
	until(w, &client.closed);
	assert_int_equal(client.err.code, SN_E_RESOLVE);
	assert_non_null(strstr(client.err.text, "no.such.name"));
}

static void silent_peer_is_noticed(void **state)
{
	struct raw raw = {.to_send = HELLO, .left = sizeof(HELLO) - 1};
	struct world *w = *state;
	uint64_t start = sn__loop_clock_ns(w->a);

	serve(w);
	server_opts.ping_ms = 1000;
	sn__buf_init(&raw.in, 10000);
	assert_int_equal(sn__stream_connect(w->b, &addr, on_raw, &raw, &raw.s, NULL), 0);
	sn__stream_want(raw.s, SN_WRITABLE);
	until(w, &server.closed); /* it reads the pings and says nothing */
	assert_int_equal(server.err.code, SN_E_TIMEOUT);
	assert_in_range((sn__loop_clock_ns(w->a) - start) / SN_NS_PER_MS, 3000, 3100);
	sn__stream_close(raw.s, false);
	sn__buf_finish(&raw.in);
	serve_end(w);
}

static void broken_connection(void **state)
{
	struct world *w = *state;

	open_both(w);
	sn__sim_break(w->sim, &addr);
	until(w, &client.closed);
	until(w, &server.closed);
	assert_int_equal(client.err.code, SN_E_RESET);
	assert_int_equal(server.err.code, SN_E_RESET);
	serve_end(w);
}

static void faults(void **state)
{
	struct world *w = *state;

	for (uint64_t n = 1; n < 500; n++) {
		char url[] = "ws://127.0.0.1:8080/";
		bool failed;
		int r;

		serve(w);
		server.quiet = true;
		sn__mem_fail_nth(n);
		r = sn__ws_connect(w->b, url, NULL, &client_opts, &ops, &client, &client.ws, NULL);
		while (r == 0 && !client.opened && !client.closed &&
				sn__loop_run(w->a, SN_RUN_ONCE))
			;
		if (client.opened && !client.closed &&
				sn__ws_send(client.ws, true, SN_STR("hello")) == 0) {
			while (server.messages == 0 && !client.closed &&
					sn__loop_run(w->a, SN_RUN_ONCE))
				;
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		serve_end(w);
		if (!failed) {
			assert_in_range(n, 10, 100);
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
			EVERY(talk_and_close),
			EVERY(taken_messages),
			EVERY(server_closes),
			EVERY(close_in_callbacks),
			EVERY(close_before_open),
			EVERY(sizes),
			EVERY(too_large),
			EVERY(shared_frames_and_queue),
			SIM(pings),
			EVERY(attacks),
			SIM(refused_handshakes),
			SIM(bad_answers),
			SIM(bad_urls_and_names),
			SIM(silent_peer_is_noticed),
			SIM(broken_connection),
			SIM(faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
