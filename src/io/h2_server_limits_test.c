/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server over HTTP/2: what it refuses, whom it does not wait for, and what want of memory
 * breaks. */
#include "io/h2_service.h"

#define WINDOW 65535
#define PING 6
#define RST_STREAM 3
#define SETTINGS 4
#define WINDOW_UPDATE 8
#define CONTINUATION 9
/* GET http://localhost/hello and /keep, without Huffman. */
#define HEADERS_HELLO "\x82\x86\x04\x06/hello\x01\x09localhost"
#define HEADERS_KEEP "\x82\x86\x04\x05/keep\x01\x09localhost"

static struct h2_peer p;

/* ---- sizes ---- */

static void sizes(void **state)
{
	static const struct sn_http_server_config config = {.max_head = 2000, .max_body = 5000};
	static char value[5000], body[20000];
	static const char *const long_value[] = {"x-long", value, NULL};
	static const char *const length[] = {"content-length", "5001", NULL};
	static const char *many[2 * 101 + 1];
	struct world *w = *state;
	struct h2_stream *st;

	serve(w, &config);
	h2_open(w, &p, &service.addr, WINDOW);
	memset(value, 'v', sizeof value - 1);
	memset(body, 'b', sizeof body);
	h2_expect(&p, h2_ask_with(&p, "GET", "/hello", "localhost", long_value, NULL, 0), 431, NULL,
			NULL);
	h2_expect(&p, h2_ask_with(&p, "HEAD", "/hello", "localhost", long_value, NULL, 0), 431,
			NULL, "");
	for (int i = 0; i < 101; i++) {
		many[2 * i] = "a";
		many[2 * i + 1] = "";
	}
	h2_expect(&p, h2_ask_with(&p, "GET", "/hello", "localhost", many, NULL, 0), 431, NULL,
			NULL);
	assert_int_equal(service.requests, 0);
	/* Announced, without asking the handler; then the rest is not wanted. */
	st = h2_ask_with(&p, "POST", "/all", "localhost", length, body, 5001);
	st->hold = true;
	h2_expect(&p, st, 413, NULL, NULL);
	assert_int_equal(service.requests, 0);
	H2_UNTIL(&p, st->closed);
	assert_true(st->reset);
	assert_int_equal(st->error, NGHTTP2_NO_ERROR);
	/* Not announced: /all takes 1,000 bytes, the server 5,000. */
	h2_expect(&p, h2_post(&p, "/all", body, 1000), 200, NULL, NULL);
	h2_expect(&p, h2_post(&p, "/all", body, 1001), 413, NULL, NULL);
	assert_int_equal(service.body_status, SN_E_LIMIT);
	h2_expect(&p, h2_post(&p, "/read", body, 5000), 200, NULL, "read");
	h2_expect(&p, h2_post(&p, "/read", body, 5001), 413, NULL, NULL);
	assert_int_equal(service.body_status, SN_E_LIMIT);
	st = h2_post(&p, "/echo", body, 20000); /* the answer has begun */
	H2_UNTIL(&p, st->closed);
	assert_int_equal(st->error, NGHTTP2_INTERNAL_ERROR);
	assert_int_equal(service.close_status, SN_E_LIMIT);
	h2_expect(&p, h2_get(&p, "/hello"), 200, NULL, "hi");
	h2_close(&p);
	serve_end();
}

/* Beyond max_streams nghttp2's client waits; who does not is refused. */
static void streams_are_counted(void **state)
{
	static const struct sn_http_server_config config = {.max_streams = 3};
	struct world *w = *state;

	serve(w, &config);
	h2_open(w, &p, &service.addr, WINDOW);
	h2_expect(&p, h2_get(&p, "/hello"), 200, NULL, "hi");
	assert_int_equal(nghttp2_session_get_remote_settings(
					 p.session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS),
			3);
	h2_close(&p);
	h2_open_raw(w, &p, &service.addr, true);
	for (uint32_t id = 1; id < 20; id += 2)
		h2_frame(&p, 1, 5, id, HEADERS_KEEP, sizeof HEADERS_KEEP - 1);
	while (service.requests < 4)
		assert_true(h2_once(w));
	for (int i = 0; i < 10; i++)
		(void)h2_once(w);
	assert_int_equal(service.requests, 4);
	h2_close(&p);
	serve_end();
}

/* ---- time ---- */

static void slow_clients(void **state)
{
	static const struct sn_http_server_config config = {
			.head_timeout_ms = 500, .idle_timeout_ms = 2000};
	struct world *w = *state;
	struct h2_stream *st;
	uint64_t start_ns;

	serve(w, &config);
	service.pour_size = 1000000;
	/* A body that stalls. */
	h2_open(w, &p, &service.addr, WINDOW);
	st = h2_ask_with(&p, "POST", "/all", "localhost", NULL, "abc", 3);
	st->stay_open = true;
	h2_go(&p);
	start_ns = sn__sim_now_ns(w->sim);
	h2_expect(&p, st, 408, NULL, NULL);
	assert_in_range(p.heard_ns - start_ns, 2000 * SN_NS_PER_MS, 2100 * SN_NS_PER_MS);
	assert_int_equal(service.body_status, SN_E_TIMEOUT);
	/* A window that does not open: its stream only. */
	st = h2_get(&p, "/pour");
	start_ns = sn__sim_now_ns(w->sim);
	H2_UNTIL(&p, st->closed);
	assert_int_equal(st->error, NGHTTP2_CANCEL);
	assert_int_equal(service.close_status, SN_E_TIMEOUT);
	assert_in_range(service.close_ns - start_ns, 2000 * SN_NS_PER_MS, 2100 * SN_NS_PER_MS);
	h2_expect(&p, h2_get(&p, "/hello"), 200, NULL, "hi");
	/* Nothing to do: GOAWAY. PINGs do not count. */
	start_ns = sn__sim_now_ns(w->sim);
	assert_int_equal(nghttp2_submit_ping(p.session, 0, NULL), 0);
	h2_go(&p);
	H2_UNTIL(&p, p.eof);
	assert_true(p.goaway && !p.broken);
	assert_int_equal(p.goaway_error, NGHTTP2_NO_ERROR);
	assert_in_range(p.heard_ns - start_ns, 2000 * SN_NS_PER_MS, 2100 * SN_NS_PER_MS);
	h2_close(&p);
	/* A head that does not end. */
	h2_open_raw(w, &p, &service.addr, true);
	h2_frame(&p, 1, 1, 1, HEADERS_HELLO, sizeof HEADERS_HELLO - 1);
	start_ns = sn__sim_now_ns(w->sim);
	H2_UNTIL(&p, p.eof);
	assert_in_range(p.heard_ns - start_ns, 500 * SN_NS_PER_MS, 600 * SN_NS_PER_MS);
	h2_close(&p);
	/* A client that takes nothing at all from its socket. */
	h2_open(w, &p, &service.addr, 1 << 30);
	H2_UNTIL(&p, p.connected);
	service.requests = service.closes = 0;
	p.hold = true;
	(void)h2_get(&p, "/pour");
	H2_UNTIL(&p, service.closes == 1);
	assert_int_equal(service.close_status, SN_E_TIMEOUT);
	h2_close(&p);
	serve_end();
}

static void pings(void **state)
{
	static const struct sn_http_server_config config = {
			.ping_ms = 300, .ping_timeout_ms = 400, .idle_timeout_ms = 5000};
	struct world *w = *state;
	uint64_t start_ns;

	serve(w, &config);
	h2_open(w, &p, &service.addr, WINDOW);
	(void)h2_get(&p, "/keep");
	H2_UNTIL(&p, p.n_pings == 5); /* answered by nghttp2 */
	assert_int_equal(service.closes, 0);
	p.hold = true;
	h2_want(&p);
	start_ns = sn__sim_now_ns(w->sim);
	H2_UNTIL(&p, service.closes == 1);
	assert_int_equal(service.close_status, SN_E_TIMEOUT);
	assert_in_range(service.close_ns - start_ns, 400 * SN_NS_PER_MS, 800 * SN_NS_PER_MS);
	h2_close(&p);
	serve_end();
}

/* ---- floods ---- */

enum flood {
	FLOOD_PING,
	FLOOD_SETTINGS,
	FLOOD_EMPTY,
	FLOOD_PRIORITY,
	FLOOD_WINDOW,
	FLOOD_RESET,
	FLOOD_CONTINUATION,
	FLOOD_N
};

static void flood(enum flood kind, uint32_t i)
{
	static const char zeros[8];
	uint32_t id = 3 + 2 * i;

	switch (kind) {
	case FLOOD_PING:
		h2_frame(&p, PING, 0, 0, zeros, 8);
		break;
	case FLOOD_SETTINGS:
		h2_frame(&p, SETTINGS, 0, 0, NULL, 0);
		break;
	case FLOOD_EMPTY:
		h2_frame(&p, 0, 0, 1, NULL, 0);
		break;
	case FLOOD_PRIORITY:
		h2_frame(&p, 2, 0, id, zeros, 5);
		break;
	case FLOOD_WINDOW:
		h2_frame(&p, WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4);
		break;
	case FLOOD_RESET:
		h2_frame(&p, 1, 5, id, HEADERS_KEEP, sizeof HEADERS_KEEP - 1);
		h2_frame(&p, RST_STREAM, 0, id, "\0\0\0\x8", 4);
		break;
	default:
		if (i == 0)
			h2_frame(&p, 1, 1, id, HEADERS_HELLO, sizeof HEADERS_HELLO - 1);
		h2_frame(&p, CONTINUATION, 0, 3, NULL, 0);
		break;
	}
}

/* The error code of the GOAWAY that came, or -1. */
static int64_t goaway_of(const struct h2_peer *peer)
{
	const unsigned char *at = (const unsigned char *)sn__buf_data(&peer->in);
	size_t left = peer->in.len;

	while (left >= 9) {
		size_t n = 9 + ((size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2]);

		if (left >= 17 && at[3] == 7)
			return (int64_t)at[13] << 24 | at[14] << 16 | at[15] << 8 | at[16];
		if (n > left)
			break;
		at += n;
		left -= n;
	}
	return -1;
}

static void floods_are_told_to_calm_down(void **state)
{
	struct world *w = *state;

	for (int kind = 0; kind < FLOOD_N; kind++) {
		struct h2_peer other;
		int64_t error, live;

		serve(w, NULL);
		h2_open(w, &other, &service.addr, WINDOW);
		h2_expect(&other, h2_get(&other, "/hello"), 200, NULL, "hi");
		h2_open_raw(w, &p, &service.addr, true);
		h2_frame(&p, 1, 4, 1, HEADERS_KEEP, sizeof HEADERS_KEEP - 1);
		H2_UNTIL(&p, service.requests == 2);
		live = sn__mem_live();
		for (uint32_t i = 0; i < 10000; i++)
			flood((enum flood)kind, i);
		H2_UNTIL(&p, p.eof || p.broken);
		/* What the server still held of it was little. */
		assert_in_range(sn__mem_live() - live + 1000, 0, 1600);
		if (p.in.len > 0) {
			error = goaway_of(&p);
			/* CONTINUATION and resets are counted by nghttp2 as well. */
			assert_true(error == NGHTTP2_ENHANCE_YOUR_CALM || error == -1 ||
					(error > 0 && kind >= FLOOD_RESET));
		}
		assert_in_range(service.requests, 2, 400); /* of the reset ones few were begun */
		h2_expect(&other, h2_get(&other, "/hello"), 200, NULL, "hi");
		h2_close(&p);
		h2_close(&other);
		serve_end();
	}
}

static void windows_do_not_overflow(void **state)
{
	static const char zeros[16384];
	struct world *w = *state;

	serve(w, NULL);
	/* Over the connection's. */
	h2_open_raw(w, &p, &service.addr, true);
	h2_frame(&p, WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4);
	H2_UNTIL(&p, p.eof);
	assert_int_equal(goaway_of(&p), NGHTTP2_FLOW_CONTROL_ERROR);
	h2_close(&p);
	/* A client that sends more than it may, on a stream that nobody reads. */
	h2_open_raw(w, &p, &service.addr, true);
	h2_frame(&p, 1, 4, 1, HEADERS_KEEP, sizeof HEADERS_KEEP - 1);
	for (int i = 0; i < 40; i++)
		h2_frame(&p, 0, 0, 1, zeros, sizeof zeros);
	H2_UNTIL(&p, service.closes == 1 && service.requests == 1);
	h2_close(&p);
	serve_end();
}

/* One octet a field that stands for 4,000. */
static void bombs_do_not_grow(void **state)
{
	static char head[16000];
	static char bomb[16384];
	struct world *w = *state;
	struct h2_peer other;
	size_t n;
	int64_t live;

	serve(w, NULL);
	h2_open(w, &other, &service.addr, WINDOW);
	h2_expect(&other, h2_get(&other, "/hello"), 200, NULL, "hi");
	h2_open_raw(w, &p, &service.addr, true);
	n = sizeof HEADERS_HELLO - 1;
	memcpy(head, HEADERS_HELLO, n);
	memcpy(head + n, "\x40\x01x\x7f\x81\x1d", 6); /* indexed: "x", 3,840 bytes */
	memset(head + n + 6, 'b', 3840);
	h2_frame(&p, 1, 5, 1, head, n + 6 + 3840);
	H2_UNTIL(&p, service.requests == 2);
	live = sn__mem_live();
	memset(bomb, 0xbe, sizeof bomb); /* the newest entry */
	memcpy(bomb, HEADERS_HELLO, sizeof HEADERS_HELLO - 1);
	for (uint32_t i = 0; i < 20; i++)
		h2_frame(&p, 1, 5, 3 + 2 * i, bomb, sizeof bomb);
	H2_UNTIL(&p, p.eof);
	assert_in_range(sn__mem_live() - live + 1000, 0, 1300);
	assert_int_equal(goaway_of(&p), NGHTTP2_ENHANCE_YOUR_CALM);
	assert_int_equal(service.requests, 2);
	h2_expect(&other, h2_get(&other, "/hello"), 200, NULL, "hi");
	h2_close(&p);
	h2_close(&other);
	serve_end();
}

/* ---- want of memory ---- */

static bool over(const struct h2_stream *st)
{
	return st->ended || st->closed || p.eof;
}

static void faults_break_only_what_they_must(void **state)
{
	struct world *w = *state;

	for (uint64_t n = 1; n < 400; n++) {
		struct h2_stream *a, *b, *c;
		bool failed;

		serve(w, NULL);
		h2_open(w, &p, &service.addr, WINDOW);
		H2_UNTIL(&p, p.connected);
		a = h2_post(&p, "/all", "abc", 3);
		b = h2_post(&p, "/echo", "abc", 3);
		c = h2_get(&p, "/hello_not_there");
		/* Not the client's allocations: its session has the C library's. What it submits
		 * is packed by now, and what comes has room. */
		assert_int_equal(sn__buf_append(&a->body, "", 1), 0);
		assert_int_equal(sn__buf_append(&b->body, "", 1), 0);
		assert_int_equal(sn__buf_append(&c->body, "", 1), 0);
		sn__mem_fail_nth(n);
		while (!(over(a) && over(b) && over(c)) && h2_once(w))
			;
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(over(a) && over(b) && over(c));
		if (!failed) {
			assert_true(a->ended && b->ended && c->ended);
			assert_int_equal(a->status, 200);
			assert_int_equal(b->body.len, 4);
		}
		h2_close(&p);
		serve_end();
		if (!failed) {
			assert_in_range(n, 10, 399);
			return;
		}
	}
	fail();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			EVERY(sizes),
			SIM(streams_are_counted),
			SIM(slow_clients),
			SIM(pings),
			SIM(floods_are_told_to_calm_down),
			EVERY(windows_do_not_overflow),
			EVERY(bombs_do_not_grow),
			SIM(faults_break_only_what_they_must),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
