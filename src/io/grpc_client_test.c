/* SPDX-License-Identifier: Apache-2.0 */
/* The gRPC client: what it sends, and what it makes of answers, good and bad. */
#include "io/grpc_client.h"

#include "io/grpc_world_test.h"
#include "proto/generated/messages.pb-c.h"

/* ---- a server that answers as it is told ---- */

static struct script {
	unsigned status;
	struct sn_header headers[6];
	struct sn_str body;
	struct sn_header trailers[6];
	bool only;  /* head and nothing else */
	bool abort; /* break off instead of the end */
	bool never; /* no answer at all */
	/* what came */
	struct sn_buf seen, body_seen;
	unsigned n_closed;
	int close_status;
} script;

static size_t count(const struct sn_header *h)
{
	size_t n = 0;

	while (n < 6 && h[n].name != NULL)
		n++;
	return n;
}

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	script.n_closed++;
	script.close_status = status;
}

static void answer(struct sn_exchange *x)
{
	int r;

	if (script.only) {
		r = sn_exchange_respond(
				x, script.status, script.headers, count(script.headers), NULL, 0);
	} else {
		r = sn_exchange_start(x, script.status, script.headers, count(script.headers), -1);
		if (r == 0 && script.body.len > 0)
			r = sn_exchange_write(x, script.body.ptr, script.body.len);
		if (r == 0 && !script.abort)
			r = sn_exchange_end(x, script.trailers, count(script.trailers));
	}
	assert_true(r == 0 || r == SN_E_NOMEM);
	if (r < 0 || script.abort)
		sn_exchange_abort(x);
}

static void on_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	if (status < 0)
		return;
	if (size > 0)
		assert_int_equal(sn__buf_append(&script.body_seen, body, size), 0);
	else if (!script.never)
		answer(x);
}

static void handler(struct sn_exchange *x, void *arg)
{
	const struct sn_http_head *head = sn__exchange_head(x);

	sn__buf_clear(&script.seen);
	sn__buf_clear(&script.body_seen);
	assert_int_equal(sn__buf_printf(&script.seen, "%s %s", sn_exchange_method(x),
					 sn_exchange_path(x)),
			0);
	for (unsigned i = 0; i < head->n_headers; i++)
		if (!sn__str_ieq(head->headers[i].name, SN_STR("host")))
			put_headers_text(&script.seen, &head->headers[i], 1);
	sn_exchange_on_close(x, on_close, NULL);
	sn__exchange_endless(x);
	assert_int_equal(sn_exchange_read(x, on_body, NULL), 0);
}

static void serve(struct world *w)
{
	script = (struct script){.status = 200};
	sn__buf_init(&script.seen, 1 << 20);
	sn__buf_init(&script.body_seen, 64 << 20);
	gw_open(w, handler, NULL);
}

static void serve_end(void)
{
	gw_close();
	sn__buf_finish(&script.seen);
	sn__buf_finish(&script.body_seen);
}

static void set(struct sn_header *to, const char *const *from)
{
	size_t n = 0;

	for (; from[2 * n] != NULL; n++)
		to[n] = (struct sn_header){from[2 * n], from[2 * n + 1]};
	to[n] = (struct sn_header){NULL, NULL};
}

/* ---- what it sends ---- */

static void request_head(void **state)
{
	static const struct sn_http_header metadata[] = {
			{SN_STR("authorization"), SN_STR("Bearer x")},
			{SN_STR("trace-bin"), SN_STR("AQI")}};
	static const char expected[] =
			"POST /a.B/C grpc-timeout=1500000u te=trailers "
			"content-type=application/grpc grpc-encoding=gzip "
			"grpc-accept-encoding=identity,gzip user-agent=grpc-c-sinew/" SN_VERSION
			" authorization=Bearer x trace-bin=AQI";
	struct call c;

	serve(*state);
	script.headers[0] = (struct sn_header){"content-type", "application/grpc"};
	script.trailers[0] = (struct sn_header){"grpc-status", "0"};
	call_init(&c, "/a.B/C");
	c.req.framed = SN_STR("\0\0\0\0\1x");
	c.req.metadata = metadata;
	c.req.n_metadata = 2;
	c.req.gzip = true;
	c.req.timeout_ns = 1500 * SN_NS_PER_MS;
	assert_int_equal(sn__grpc_start(gw.dest, &c.req, NULL), 0);
	call_expect(&c, "head OK OK");
	assert_string_equal(as_text(&script.seen), expected);
	assert_true(sn_str_eq(sn__buf_str(&script.body_seen), SN_STR("\0\0\0\0\1x")));
	call_unary(&c, "/a.B/C", SN_STR(""));
	call_expect(&c, "head OK OK");
	assert_string_equal(as_text(&script.seen),
			"POST /a.B/C te=trailers content-type=application/grpc "
			"grpc-accept-encoding=identity,gzip user-agent=grpc-c-sinew/" SN_VERSION);
	serve_end();
}

static void request_refused(void **state)
{
	static const char *const paths[] = {"", "/", "a/b", "/a", "/a/", "//b", "/a b/c", "/a/b\n"};
	static const struct sn_http_header bad[] = {{SN_STR("a b"), SN_STR("x")}};
	struct sn_error err;
	struct call c;

	serve(*state);
	for (size_t i = 0; i < SN_COUNT(paths); i++) {
		call_init(&c, paths[i]);
		assert_int_equal(sn__grpc_start(gw.dest, &c.req, &err), SN_E_INVALID);
		assert_non_null(strstr(err.text, "is not a method"));
		call_finish(&c);
	}
	call_init(&c, "/a/b");
	c.req.metadata = bad;
	c.req.n_metadata = 1;
	assert_int_equal(sn__grpc_start(gw.dest, &c.req, &err), SN_E_INVALID);
	call_finish(&c);
	serve_end();
}

static void request_stream(void **state)
{
	Grpc__Testing__SimpleRequest message = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	char *zeros = test_calloc(1, 100000);
	struct sn_grpc_reader reader;
	struct call c;
	size_t used;

	message.response_size = 7;
	serve(*state);
	script.headers[0] = (struct sn_header){"content-type", "application/grpc"};
	script.trailers[0] = (struct sn_header){"grpc-status", "0"};
	call_init(&c, "/a.B/C");
	c.req.streams = true;
	c.req.gzip = true;
	assert_int_equal(sn__grpc_start(gw.dest, &c.req, NULL), 0);
	assert_int_equal(sn__grpc_send(&c.req, (struct sn_str){zeros, 100000}), 0);
	assert_int_equal(sn__grpc_send_message(&c.req, &message.base), 0);
	sn__grpc_end(&c.req);
	sn__grpc_end(&c.req);
	assert_int_equal(sn__grpc_send_message(&c.req, &message.base), SN_E_STATE);
	call_expect(&c, "head OK OK");
	assert_in_range(script.body_seen.len, 50, 1000);
	sn__grpc_reader_init(&reader, 0);
	reader.gzip = true;
	assert_int_equal(sn__grpc_reader_next(&reader, sn__buf_str(&script.body_seen), &used),
			SN_GRPC_MESSAGE);
	assert_int_equal(reader.message.len, 100000);
	assert_memory_equal(reader.message.ptr, zeros, 100000);
	sn__buf_consume(&script.body_seen, used);
	assert_int_equal(sn__grpc_reader_next(&reader, sn__buf_str(&script.body_seen), &used),
			SN_GRPC_MESSAGE);
	assert_true(sn_str_eq(reader.message, SN_STR("\20\7")));
	sn__grpc_reader_finish(&reader);
	test_free(zeros);
	serve_end();
}

static void request_pressure(void **state)
{
	char *piece = test_calloc(1, 50000);
	unsigned n_again = 0;
	struct call c;
	char *space;

	serve(*state);
	script.headers[0] = (struct sn_header){"content-type", "application/grpc"};
	script.trailers[0] = (struct sn_header){"grpc-status", "0"};
	call_streams(&c, "/a.B/C");
	for (int i = 0; i < 100; i++) {
		int r = sn__grpc_send(&c.req, (struct sn_str){piece, 50000});

		assert_true(r == 0 || r == SN_E_AGAIN);
		if (r == 0)
			continue;
		n_again++;
		UNTIL(c.drained);
		c.drained = false;
	}
	assert_in_range(n_again, 10, 100);
	sn__grpc_end(&c.req);
	call_expect(&c, "head OK OK");
	assert_int_equal(script.body_seen.len, 100 * 50005);
	/* One message may be larger than all that may wait. */
	call_streams(&c, "/a.B/C");
	sn__buf_clear(&script.body_seen);
	assert_int_equal(sn__buf_reserve(&c.last, 20 << 20, &space), 0);
	memset(space, 'x', 20 << 20);
	assert_int_equal(sn__grpc_send(&c.req, (struct sn_str){space, 20 << 20}), SN_E_AGAIN);
	assert_int_equal(sn__grpc_send(&c.req, SN_STR("x")), SN_E_LIMIT);
	UNTIL(c.drained);
	sn__grpc_end(&c.req);
	call_expect(&c, "head OK OK");
	assert_int_equal(script.body_seen.len, (20 << 20) + 5);
	/* Who does not wait is refused in the end. */
	call_streams(&c, "/a.B/C");
	for (n_again = 0; sn__grpc_send(&c.req, (struct sn_str){piece, 50000}) != SN_E_LIMIT;)
		assert_true(++n_again < 1000);
	assert_int_equal(n_again, (16 << 20) / 50005);
	sn__grpc_cancel(&c.req, SN_E_DEADLINE);
	call_expect(&c, "DEADLINE DEADLINE_EXCEEDED \"deadline passed\"");
	test_free(piece);
	serve_end();
}

/* ---- what comes back ---- */

#define CT "content-type", "application/grpc"
#define GZ "grpc-encoding", "gzip"

static const struct {
	const char *what;
	unsigned status;
	const char *headers[9];
	struct sn_str body;
	const char *trailers[9];
	bool only, abort, one_answer;
	const char *expected;
} answers[] = {
		{"a message", 200, {CT, "x-h", "1"}, {"\0\0\0\0\2hi", 7},
				{"grpc-status", "0", "x-t", "2"}, .one_answer = true,
				.expected = "head x-h=1 [hi] OK OK x-t=2"},
		{"three", 200, {"content-type", "application/grpc+proto;a=b"},
				{"\0\0\0\0\1a\0\0\0\0\0\0\0\0\0\1c", 17}, {"grpc-status", "0"},
				.expected = "head [a] [] [c] OK OK"},
		{"compressed", 200, {CT, GZ},
				/* printf hello | gzip -n */
				{"\1\0\0\0\31"
				 "\37\213\10\0\0\0\0\0\0\3\313\110\315\311\311\7\0\206\246\20\66\5\0\0\0",
						30},
				{"grpc-status", "0"}, .expected = "head [hello] OK OK"},
		{"identity", 200, {CT, "grpc-encoding", "identity"}, {"\0\0\0\0\0", 5},
				{"grpc-status", "0"}, .expected = "head [] OK OK"},
		{"status", 200, {CT}, {"", 0},
				{"grpc-status", "5", "grpc-message", "n%C3%B6%20",
						"grpc-status-details-bin", "CAU="},
				.expected = "head STATUS NOT_FOUND \"n\303\266 \"<8><5>"},
		{"message and status", 200, {CT}, {"\0\0\0\0\1a", 6}, {"grpc-status", "10"},
				.one_answer = true, .expected = "head [a] STATUS ABORTED"},
		{"trailers only", 200, {CT, "grpc-status", "7", "grpc-message", "no", "x-t", "3"},
				{"", 0}, {NULL}, .only = true,
				.expected = "STATUS PERMISSION_DENIED \"no\" x-t=3 only"},
		{"trailers only, OK", 200, {CT, "grpc-status", "0"}, {"", 0}, {NULL}, .only = true,
				.expected = "OK OK only"},
		{"trailers only and data", 200, {CT, "grpc-status", "0"}, {"\0\0\0\0\0", 5}, {NULL},
				.expected = "STATUS INTERNAL \"the answer has a message behind its "
					    "status\" only"},
		{"trailers only of a proxy", 503, {CT, "grpc-status", "8"}, {"", 0}, {NULL},
				.only = true, .expected = "STATUS RESOURCE_EXHAUSTED only"},
		/* not gRPC */
		{"a page", 200, {"content-type", "text/html"}, {"<p>", 3}, {NULL},
				.expected = "STATUS UNKNOWN \"the answer has the content-type "
					    "\"text/html\"\""},
		{"no type", 200, {NULL}, {"<p>", 3}, {NULL},
				.expected = "STATUS UNKNOWN \"the answer has the content-type "
					    "\"\"\""},
		{"404", 404, {"content-type", "text/html"}, {"<p>", 3}, {NULL},
				.expected = "STATUS UNIMPLEMENTED \"the answer has HTTP status 404 "
					    "(Not Found)\""},
		{"503", 503, {CT}, {"", 0}, {NULL}, .only = true,
				.expected = "STATUS UNAVAILABLE \"the answer has HTTP status 503 "
					    "(Service Unavailable)\""},
		{"302", 302, {NULL}, {"", 0}, {NULL}, .only = true,
				.expected = "STATUS UNKNOWN \"the answer has HTTP status 302 "
					    "(Found)\""},
		/* broken gRPC */
		{"no status", 200, {CT}, {"\0\0\0\0\1a", 6}, {NULL},
				.expected = "head [a] STATUS UNKNOWN \"the answer has no "
					    "grpc-status\""},
		{"no number", 200, {CT}, {"", 0}, {"grpc-status", "fine"},
				.expected = "head STATUS UNKNOWN \"the answer has the unknown "
					    "grpc-status \"fine\"\""},
		{"half a message", 200, {CT}, {"\0\0\0\0\2a", 6}, {"grpc-status", "0"},
				.expected = "head STATUS INTERNAL \"the answer ended inside a "
					    "message\""},
		{"half a message with a status", 200, {CT}, {"\0\0\0\0\2a", 6},
				{"grpc-status", "14"}, .expected = "head STATUS UNAVAILABLE"},
		{"none of one", 200, {CT}, {"", 0}, {"grpc-status", "0"}, .one_answer = true,
				.expected = "head STATUS UNIMPLEMENTED \"the answer has no "
					    "message\""},
		{"two of one", 200, {CT}, {"\0\0\0\0\1a\0\0\0\0\1b", 12}, {"grpc-status", "0"},
				.one_answer = true,
				.expected = "head [a] STATUS UNIMPLEMENTED \"the answer has more "
					    "than one message\""},
		{"too large", 200, {CT}, {"\0\0\100\0\1a", 6}, {"grpc-status", "0"},
				.expected = "head STATUS RESOURCE_EXHAUSTED \"received message "
					    "larger than max (4194305 vs. 4194304)\""},
		{"compressed unasked", 200, {CT}, {"\1\0\0\0\1a", 6}, {"grpc-status", "0"},
				.expected = "head STATUS INTERNAL \"received a compressed message "
					    "without grpc-encoding\""},
		{"not gzip", 200, {CT, GZ}, {"\1\0\0\0\1a", 6}, {"grpc-status", "0"},
				.expected = "head STATUS INTERNAL \"failed to decompress the "
					    "received message\""},
		{"unknown encoding", 200, {CT, "grpc-encoding", "snappy"}, {"", 0},
				{"grpc-status", "0"},
				.expected = "STATUS INTERNAL \"the answer has the unknown "
					    "grpc-encoding \"snappy\"\""},
};

static void all_answers(void **state)
{
	serve(*state);
	for (size_t i = 0; i < SN_COUNT(answers); i++) {
		struct call c;

		script.status = answers[i].status;
		set(script.headers, answers[i].headers);
		set(script.trailers, answers[i].trailers);
		script.body = answers[i].body;
		script.only = answers[i].only;
		call_init(&c, "/a.B/C");
		c.req.one_answer = answers[i].one_answer;
		c.req.framed = SN_STR("\0\0\0\0\0");
		assert_int_equal(sn__grpc_start(gw.dest, &c.req, NULL), 0);
		call_expect(&c, answers[i].expected);
	}
	serve_end();
}

static void broken_off(void **state)
{
	struct call c;

	serve(*state);
	set(script.headers, (const char *[]){CT, NULL});
	script.body = SN_STR("\0\0\0\0\1a");
	script.abort = true;
	call_unary(&c, "/a.B/C", SN_STR(""));
	UNTIL(c.done);
	if (gw.version == SN_HTTP_1) {
		assert_true(c.req.code == SN_E_RESET || c.req.code == SN_E_EOF);
		assert_non_null(strstr(as_text(&c.text), "UNAVAILABLE"));
	} else {
		assert_int_equal(c.req.code, SN_E_STATUS);
		assert_true(c.req.http.result.h2_error >= 0);
		assert_non_null(strstr(as_text(&c.text), " \"the peer reset the stream"));
	}
	call_finish(&c);
	serve_end();
}

static void unreachable(void **state)
{
	struct sn_http_dest_options opts = {.host = "127.0.0.1", .port = 1};
	struct sn_http_dest *dest;
	struct call c;

	serve(*state);
	opts.version = gw.version;
	assert_int_equal(sn__http_dest_create(gw.pool, &opts, &dest), 0);
	call_init(&c, "/a.B/C");
	c.req.streams = true;
	assert_int_equal(sn__grpc_start(dest, &c.req, NULL), 0);
	UNTIL(c.done);
	assert_int_equal(c.req.code, SN_E_CONNECT);
	assert_int_equal(c.req.http.result.sent, SN_SENT_NO);
	assert_non_null(strstr(as_text(&c.text), "CONNECT UNAVAILABLE \""));
	call_finish(&c);
	sn__http_dest_unref(dest);
	serve_end();
}

/* ---- what the caller does ---- */

static void cancels(void **state)
{
	struct call c;

	serve(*state);
	set(script.headers, (const char *[]){CT, NULL});
	/* At once. */
	call_unary(&c, "/a.B/C", SN_STR(""));
	sn__grpc_cancel(&c.req, SN_E_TIMEOUT);
	sn__grpc_cancel(&c.req, SN_E_CANCELLED);
	assert_false(c.done);
	call_expect(&c, "TIMEOUT DEADLINE_EXCEEDED \"timed out\"");
	/* While the server thinks. */
	script.never = true;
	call_unary(&c, "/a.B/C", SN_STR(""));
	sn__buf_clear(&script.seen);
	UNTIL(script.seen.len > 0);
	sn__grpc_cancel(&c.req, SN_E_CANCELLED);
	call_expect(&c, "CANCELLED CANCELLED \"cancelled\"");
	serve_end();
}

static void cancel_on_message(struct sn_grpc_req *req, struct sn_str message)
{
	call_on_message(req, message);
	sn__grpc_cancel(req, SN_E_CANCELLED);
	sn__grpc_pause(req, true);
	sn__grpc_pause(req, false);
}

/* Nothing is told behind it. */
static void cancels_inside(void **state)
{
	struct sn_grpc_req_ops ops = call_ops;
	struct call c;

	ops.on_message = cancel_on_message;
	serve(*state);
	set(script.headers, (const char *[]){CT, NULL});
	set(script.trailers, (const char *[]){"grpc-status", "0", NULL});
	script.body = SN_STR("\0\0\0\0\1a\0\0\0\0\1b");
	call_init(&c, "/a.B/C");
	c.req.ops = &ops;
	c.req.framed = SN_STR("\0\0\0\0\0");
	assert_int_equal(sn__grpc_start(gw.dest, &c.req, NULL), 0);
	call_expect(&c, "head [a] CANCELLED CANCELLED \"cancelled\"");
	serve_end();
}

/* Message by message, though they came in one piece; the end waits, too. */
static void pauses(void **state)
{
	for (int cancelled = 0; cancelled < 2; cancelled++) {
		struct call c;

		serve(*state);
		set(script.headers, (const char *[]){CT, NULL});
		set(script.trailers,
				(const char *[]){"grpc-status", "5", "grpc-message", "x", "x-t",
						"y", NULL});
		script.body = SN_STR("\0\0\0\0\1a\0\0\0\0\1b\0\0\0\0\1c");
		call_unary(&c, "/a.B/C", SN_STR(""));
		c.pause_each = true;
		for (unsigned i = 1; i <= 3; i++) {
			UNTIL(c.n == i);
			gw_settle();
			assert_int_equal(c.n, i);
			if (i < 3)
				assert_false(c.done);
			if (cancelled && i == 2)
				break;
			c.paused_by_test = false;
			sn__grpc_pause(&c.req, false);
		}
		if (cancelled) {
			sn__grpc_cancel(&c.req, SN_E_CANCELLED);
			call_expect(&c, "head [a] [b] CANCELLED CANCELLED \"cancelled\"");
		} else {
			call_expect(&c, "head [a] [b] [c] STATUS NOT_FOUND \"x\" x-t=y");
		}
		serve_end();
	}
}

static void closed_pool(void **state)
{
	struct call c;

	serve(*state);
	script.never = true;
	call_unary(&c, "/a.B/C", SN_STR(""));
	UNTIL(script.seen.len > 0);
	sn__http_pool_close(gw.pool, gw_gone, &gw.pool_gone);
	UNTIL(c.done);
	assert_int_equal(c.req.code, SN_E_CLOSED);
	call_finish(&c);
	UNTIL(gw.pool_gone);
	call_init(&c, "/a.B/C");
	assert_int_equal(sn__grpc_start(gw.dest, &c.req, NULL), SN_E_CLOSED);
	call_finish(&c);
	gw.pool = NULL;
	serve_end();
}

/* ---- no memory ---- */

static bool sweep_one(struct world *w, uint64_t nth, bool only)
{
	struct call c;
	bool failed, begun;
	char *space;

	serve(w);
	set(script.headers,
			only ? (const char *[]){CT, "grpc-status", "5", "x-t", "y", NULL}
			     : (const char *[]){CT, GZ, NULL});
	set(script.trailers,
			(const char *[]){"grpc-status", "5", "grpc-message", "x",
					"grpc-status-details-bin", "CAU=", NULL});
	script.only = only;
	script.body = answers[2].body;
	call_init(&c, "/a.B/C");
	c.req.streams = true;
	assert_int_equal(sn__buf_reserve(&c.text, 1000, &space), 0);
	assert_int_equal(sn__buf_reserve(&c.last, 1000, &space), 0);
	assert_int_equal(sn__buf_reserve(&script.seen, 1000, &space), 0);
	assert_int_equal(sn__buf_reserve(&script.body_seen, 1000, &space), 0);
	sn__mem_fail_nth(nth);
	begun = sn__grpc_start(gw.dest, &c.req, NULL) == 0;
	if (begun && sn__grpc_send(&c.req, SN_STR("abc")) < 0)
		sn__grpc_cancel(&c.req, SN_E_NOMEM);
	if (begun)
		sn__grpc_end(&c.req);
	while (begun && !c.done && gw_once())
		;
	failed = sn__mem_failed();
	sn__mem_fail_nth(0);
	assert_int_equal(c.done, begun);
	assert_true(!begun || c.req.code < 0);
	call_finish(&c);
	serve_end();
	return failed;
}

static void no_memory(void **state)
{
	for (int only = 0; only < 2; only++) {
		uint64_t nth = 1;

		while (sweep_one(*state, nth, only))
			assert_true(++nth < 400);
		assert_true(nth > 5);
	}
}

#define EVERY(test) \
	cmocka_unit_test_setup_teardown(test, world_uv, world_close), \
			cmocka_unit_test_setup_teardown(test, world_sim, world_close), \
			cmocka_unit_test_setup_teardown(test, world_rough, world_close)
#define SIM(test) cmocka_unit_test_setup_teardown(test, world_sim, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
			EVERY(request_head),
			SIM(request_refused),
			EVERY(request_stream),
			EVERY(request_pressure),
			EVERY(all_answers),
			SIM(broken_off),
			SIM(unreachable),
			EVERY(cancels),
			EVERY(cancels_inside),
			EVERY(pauses),
			EVERY(closed_pool),
			SIM(no_memory),
	};
	int failed;

	gw.version = SN_HTTP_2;
	failed = cmocka_run_group_tests_name("HTTP/2", tests, NULL, NULL);
	gw.version = SN_HTTP_1;
	return failed + cmocka_run_group_tests_name("HTTP/1.1", tests, NULL, NULL);
}
