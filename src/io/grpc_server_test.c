/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC services: what raw requests get for an answer, and what a method's functions may do. */
#include "io/grpc_server.h"

#include "io/grpc_world_test.h"
#include "proto/generated/messages.pb-c.h"

/* ---- a service ---- */

static struct {
	struct sn_grpc_services *services;
	struct sn_grpc_exchange *x; /* of Never and Hold */
	struct sn_timer timer;
	unsigned begun, closed, messages, ends, sent, drained;
	size_t bytes;
	int close_status;
	bool done; /* of on_close */
	size_t n, size;
	struct sn_context context;
} s;

static void on_close(struct sn_grpc_exchange *x, int status, void *arg)
{
	assert_ptr_equal(arg, &s);
	s.closed++;
	s.close_status = status;
	s.done = true;
	s.x = NULL;
	if (status == 0 || status == SN_E_CANCELLED)
		assert_int_not_equal(sn_grpc_exchange_send(x, NULL, "x", 1), 0);
	sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0); /* too late: nothing */
}

static void begin(struct sn_grpc_exchange *x)
{
	s.begun++;
	assert_null(*sn_grpc_exchange_slot(x));
	*sn_grpc_exchange_slot(x) = &s;
	sn_grpc_exchange_on_close(x, on_close, &s);
}

static void echo(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *bytes = request;
	const char *initial;
	struct sn_grpc_metadata entry = {"x-trailing-bin", NULL, 0};

	begin(x);
	assert_string_equal(sn_grpc_exchange_method(x), "/test.Test/Echo");
	initial = sn_grpc_exchange_header(x, "x-initial", NULL);
	if (initial != NULL)
		assert_int_equal(sn_grpc_exchange_add_header(x,
						 &(struct sn_grpc_metadata){"x-initial", initial,
								 strlen(initial)}),
				0);
	entry.value = sn_grpc_exchange_header(x, "x-trailing-bin", &entry.size);
	assert_ptr_equal(entry.value, sn_grpc_exchange_header(x, "X-Trailing-Bin", NULL));
	if (entry.value != NULL)
		assert_int_equal(sn_grpc_exchange_add_trailer(x, &entry), 0);
	assert_null(sn_grpc_exchange_header(x, "x-none", NULL));
	sn_grpc_exchange_context(x, &s.context);
	sn_grpc_exchange_gzip(x, true);
	assert_int_equal(sn_grpc_exchange_send(x, NULL, bytes->data, bytes->size), 0);
	assert_int_equal(sn_grpc_exchange_send(x, NULL, "x", 1), SN_E_STATE);
	assert_int_equal(sn_grpc_exchange_add_header(x, &entry), SN_E_STATE);
	assert_int_equal(sn_grpc_exchange_send_header(x), SN_E_STATE);
	sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
	assert_int_equal(sn_grpc_exchange_add_trailer(x, &entry), SN_E_STATE);
	assert_int_equal(sn_grpc_exchange_send(x, NULL, "x", 1), SN_E_STATE);
	sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
}

static void sum(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Grpc__Testing__SimpleRequest *req = request;
	Grpc__Testing__StreamingInputCallResponse res =
			GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;

	begin(x);
	res.aggregated_payload_size = req->response_size;
	sn_grpc_exchange_reply(x, &res.base);
	sn_grpc_exchange_reply(x, &res.base);
}

/* "code text" */
static void fail_as_told(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *bytes = request;
	char text[200];
	int code;

	begin(x);
	assert_true(bytes->size >= 3 && bytes->size < sizeof(text));
	memcpy(text, bytes->data, bytes->size);
	text[bytes->size] = '\0';
	code = (text[0] - '0') * 10 + text[1] - '0';
	assert_int_equal(sn_grpc_exchange_add_header(x, &(struct sn_grpc_metadata){"x-h", "1", 1}),
			0);
	assert_int_equal(sn_grpc_exchange_add_trailer(x, &(struct sn_grpc_metadata){"x-t", "2", 1}),
			0);
	assert_int_equal(sn_grpc_exchange_add_trailer(
					 x, &(struct sn_grpc_metadata){"grpc-status", "2", 1}),
			SN_E_INVALID);
	sn_grpc_exchange_finish(x, code, bytes->size > 3 ? text + 3 : NULL, "\b\5", 2);
}

static void on_late(struct sn_timer *t)
{
	assert_int_equal(sn_grpc_exchange_send(s.x, NULL, "late", 4), 0);
	sn_grpc_exchange_finish(s.x, SN_GRPC_OK, NULL, NULL, 0);
}

static void late(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	begin(x);
	s.x = x;
	sn__timer_start(gw.w->a, &s.timer, 50 * SN_NS_PER_MS, on_late);
}

static void never(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	begin(x);
	s.x = x;
}

/* Asks for nothing: lives until it is ended. */
static void hold(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	s.begun++;
	s.x = x;
}

static void up_start(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	assert_null(request);
	begin(x);
	s.x = x;
}

static void up_message(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *bytes = request;
	char text[64];
	int n;

	assert_int_equal(s.ends, 0);
	if (bytes != NULL) {
		s.messages++;
		s.bytes += bytes->size;
		if (bytes->size == 5 && memcmp(bytes->data, "pause", 5) == 0)
			sn_grpc_exchange_pause(x, true);
		if (bytes->size == 4 && memcmp(bytes->data, "stop", 4) == 0)
			sn_grpc_exchange_finish(x, SN_GRPC_ABORTED, "stopped", NULL, 0);
		return;
	}
	s.ends++;
	n = snprintf(text, sizeof(text), "%u/%zu", s.messages, s.bytes);
	assert_int_equal(sn_grpc_exchange_send(x, NULL, text, (size_t)n), 0);
	sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
}

static void down_send(struct sn_grpc_exchange *x, void *arg)
{
	char *message = test_calloc(1, s.size + 1);
	int r = 0;

	s.drained += arg != NULL;
	while (s.sent < s.n && r == 0) {
		memset(message, 'a' + (int)(s.sent % 26), s.size);
		r = sn_grpc_exchange_send(x, NULL, message, s.size);
		assert_true(r == 0 || r == SN_E_AGAIN);
		s.sent++;
	}
	test_free(message);
	if (s.sent == s.n)
		sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
}

static void down(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	begin(x);
	sn_grpc_exchange_on_drain(x, down_send, &s);
	assert_int_equal(sn_grpc_exchange_send_header(x), 0);
	down_send(x, NULL);
}

static void chat(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *bytes = request;

	if (bytes == NULL)
		sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
	else
		assert_int_equal(sn_grpc_exchange_send(x, NULL, bytes->data, bytes->size), 0);
}

static void sums(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Grpc__Testing__SimpleRequest *req = request;

	if (req != NULL)
		s.bytes += (size_t)req->response_size;
	else
		sn_grpc_exchange_finish(x, SN_GRPC_OUT_OF_RANGE, NULL, NULL, 0);
}

static void silent(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	begin(x);
	sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
}

/* Does a bit of everything and takes what it gets. */
static void loose(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *bytes = request;
	struct sn_grpc_metadata entry = {"x-a-bin", "\1\2", 2};
	char zeros[500] = {0};
	size_t size;

	if (bytes == NULL) {
		sn_grpc_exchange_finish(x, SN_GRPC_ABORTED, "100 %", "details", 7);
		return;
	}
	sn_grpc_exchange_gzip(x, true);
	(void)sn_grpc_exchange_header(x, "x-trailing-bin", &size);
	(void)!sn_grpc_exchange_add_header(x, &entry);
	(void)!sn_grpc_exchange_add_trailer(x, &entry);
	(void)!sn_grpc_exchange_send(x, NULL, zeros, sizeof(zeros));
}

static const struct sn_grpc_method methods[] = {
		{.name = "Echo", .start = echo},
		{.name = "Sum",
				.request = &grpc__testing__simple_request__descriptor,
				.start = sum},
		{.name = "Fail", .start = fail_as_told},
		{.name = "Late", .start = late},
		{.name = "Never", .start = never},
		{.name = "Hold", .start = hold},
		{.name = "Up", .start = up_start, .message = up_message, .client_streams = true},
		{.name = "Down", .start = down, .server_streams = true},
		{.name = "Chat",
				.start = up_start,
				.message = chat,
				.client_streams = true,
				.server_streams = true},
		{.name = "Sums",
				.request = &grpc__testing__simple_request__descriptor,
				.start = up_start,
				.message = sums,
				.client_streams = true},
		{.name = "Silent", .start = silent},
		{.name = "Loose",
				.start = up_start,
				.message = loose,
				.client_streams = true,
				.server_streams = true},
};
static const struct sn_grpc_service service = {.size = sizeof(service),
		.name = "test.Test",
		.methods = methods,
		.n_methods = SN_COUNT(methods)};

static int try_serve(struct world *w, const struct sn_grpc_services_options *opts)
{
	int r;

	memset(&s, 0, sizeof(s));
	gw = (struct grpc_world){.w = w, .version = gw.version};
	r = sn__grpc_services_create(w->a, opts, &s.services);
	if (r == 0)
		r = sn__grpc_services_add(s.services, &service, NULL);
	return r == 0 ? gw_try(w, sn__grpc_handle, s.services) : r;
}

static void serve(struct world *w)
{
	static const struct sn_grpc_services_options opts = {.max_message = 300000};

	assert_int_equal(try_serve(w, &opts), 0);
}

static void serve_end(void)
{
	gw_close();
	sn__grpc_services_destroy(s.services);
}

static void until_closed(int status)
{
	UNTIL(s.done);
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.close_status, status);
}

/* ---- the table ---- */

static void table(void **state)
{
	struct world *w = *state;
	static const struct sn_grpc_service empty = {
			.size = sizeof(empty), .name = "empty.Service"};
	struct sn_grpc_service bad = service;
	struct sn_grpc_method two[] = {methods[0], methods[0]};
	struct sn_error err;

	assert_int_equal(sn__grpc_services_create(w->a, NULL, &s.services), 0);
	assert_null(sn__grpc_services_at(s.services, 0));
	bad.size = 8;
	assert_int_equal(sn__grpc_services_add(s.services, &bad, &err), SN_E_INVALID);
	bad = (struct sn_grpc_service){.size = sizeof(bad), .name = "a/b"};
	assert_int_equal(sn__grpc_services_add(s.services, &bad, &err), SN_E_INVALID);
	assert_string_equal(err.text, "the service has no valid name");
	assert_int_equal(sn__grpc_services_add(s.services, &empty, &err), 0);
	bad = (struct sn_grpc_service){
			.size = sizeof(bad), .name = "x", .methods = two, .n_methods = 2};
	assert_int_equal(sn__grpc_services_add(s.services, &bad, &err), SN_E_INVALID);
	assert_string_equal(err.text, "service x: two methods are called Echo");
	two[1] = (struct sn_grpc_method){.name = "M", .start = echo, .client_streams = true};
	assert_int_equal(sn__grpc_services_add(s.services, &bad, &err), SN_E_INVALID);
	assert_string_equal(err.text, "service x: method M lacks its function \"message\"");
	two[1] = (struct sn_grpc_method){.name = "M"};
	assert_int_equal(sn__grpc_services_add(s.services, &bad, &err), SN_E_INVALID);
	assert_string_equal(err.text, "service x: method M lacks its function \"start\"");
	two[1] = (struct sn_grpc_method){.name = "M/N", .start = echo};
	assert_int_equal(sn__grpc_services_add(s.services, &bad, &err), SN_E_INVALID);
	assert_string_equal(err.text, "service x: method 1 has no valid name");
	assert_int_equal(sn__grpc_services_add(s.services, &service, NULL), 0);
	assert_int_equal(sn__grpc_services_add(s.services, &service, &err), SN_E_EXISTS);
	assert_string_equal(err.text, "two services are called test.Test");
	assert_ptr_equal(sn__grpc_services_at(s.services, 1), &service);
	assert_null(sn__grpc_services_at(s.services, 2));
	sn__grpc_services_destroy(s.services);
	sn__grpc_services_destroy(NULL);
}

/* ---- raw requests ---- */

#define CT "200 content-type=application/grpc"
#define ONE SN_STR("\0\0\0\0\2hi")

static const struct raw_case {
	const char *method, *path;
	struct sn_str body;
	const char *more[7];
	const char *expected;
} raw_cases[] = {
		{"POST", "/test.Test/Echo", {"\0\0\0\0\2hi", 7}, {NULL},
				CT " | <0><0><0><0><2>hi | grpc-status=0"},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\0", 5},
				{"content-type", "application/grpc+proto"},
				CT " | <0><0><0><0><0> | grpc-status=0"},
		{"POST", "/test.Test/Sum", {"\0\0\0\0\2\20\7", 7}, {NULL},
				CT " | <0><0><0><0><2><8><7> | grpc-status=0"},
		/* not gRPC */
		{"POST", "/test.Test/Echo", {"{}", 2}, {"content-type", "application/json"},
				"415 content-type=text/plain | this<32>server<32>speaks<32>gRPC:<32>"
				"content-type<32>application/grpc<10>"},
		{"GET", "/test.Test/Echo", {"", 0}, {NULL},
				"405 allow=POST | gRPC<32>calls<32>are<32>POST<32>requests<10>"},
		/* names */
		{"POST", "/connector.v1.ConnectorService/Nope", {"\0\0\0\0\0", 5}, {NULL},
				CT " grpc-status=12 grpc-message=unknown service "
				   "connector.v1.ConnectorService"},
		{"POST", "/test.Test/Nope", {"\0\0\0\0\0", 5}, {NULL},
				CT " grpc-status=12 grpc-message=unknown method Nope for service "
				   "test.Test"},
		{"POST", "/", {"", 0}, {NULL},
				CT " grpc-status=12 grpc-message=malformed method name: \"/\""},
		{"POST", "/test.Test/Echo/", {"", 0}, {NULL},
				CT " grpc-status=12 grpc-message=unknown service test.Test/Echo"},
		/* time-outs */
		{"POST", "/test.Test/Echo", {"\0\0\0\0\2hi", 7}, {"grpc-timeout", "10S"},
				CT " | <0><0><0><0><2>hi | grpc-status=0"},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\2hi", 7}, {"grpc-timeout", "soon"},
				CT " grpc-status=13 grpc-message=malformed grpc-timeout: \"soon\""},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\2hi", 7}, {"grpc-timeout", "0m"},
				CT " grpc-status=4 grpc-message=the call's deadline has passed"},
		/* encodings */
		{"POST", "/test.Test/Echo", {"\0\0\0\0\2hi", 7}, {"grpc-encoding", "identity"},
				CT " | <0><0><0><0><2>hi | grpc-status=0"},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\2hi", 7}, {"grpc-encoding", "snappy"},
				CT " grpc-status=12 grpc-message=grpc-encoding \"snappy\" is not "
				   "supported grpc-accept-encoding=identity,gzip"},
		{"POST", "/test.Test/Echo", {"\1\0\0\0\2hi", 7}, {NULL},
				CT " grpc-status=13 grpc-message=received a compressed message "
				   "without grpc-encoding"},
		{"POST", "/test.Test/Echo", {"\1\0\0\0\2hi", 7}, {"grpc-encoding", "gzip"},
				CT " grpc-status=13 grpc-message=failed to decompress the received "
				   "message"},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\2hi", 7},
				{"grpc-accept-encoding", "identity,gzip", "grpc-encoding", "gzip"},
				CT " grpc-encoding=gzip | <0><0><0><0><2>hi | grpc-status=0"},
		/* messages */
		{"POST", "/test.Test/Echo", {"", 0}, {NULL},
				CT " grpc-status=12 grpc-message=the request has no message"},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\0\0\0\0\0\0", 10}, {NULL},
				CT " grpc-status=12 grpc-message=the request has more than one "
				   "message"},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\2h", 6}, {NULL},
				CT
				" grpc-status=13 grpc-message=the request ended inside a message"},
		{"POST", "/test.Test/Echo", {"\0\0", 2}, {NULL},
				CT
				" grpc-status=13 grpc-message=the request ended inside a message"},
		{"POST", "/test.Test/Echo", {"\0\0\377\0\0x", 6}, {NULL},
				CT " grpc-status=8 grpc-message=received message larger than max "
				   "(16711680 vs. 300000)"},
		{"POST", "/test.Test/Echo", {"\7\0\0\0\0", 5}, {NULL},
				CT
				" grpc-status=13 grpc-message=received a message with the unknown "
				"compressed flag 7"},
		/* answers */
		{"POST", "/test.Test/Fail",
				{"\0\0\0\0\3"
				 "05 ",
						8},
				{NULL},
				CT " x-h=1 grpc-status=5 grpc-status-details-bin=CAU x-t=2"},
		{"POST", "/test.Test/Fail",
				{"\0\0\0\0\13"
				 "16 n\303\274 100%",
						16},
				{NULL},
				CT " x-h=1 grpc-status=16 grpc-message=n%C3%BC 100%25 "
				   "grpc-status-details-bin=CAU x-t=2"},
		{"POST", "/test.Test/Fail",
				{"\0\0\0\0\3"
				 "77 ",
						8},
				{NULL},
				CT " x-h=1 grpc-status=2 grpc-status-details-bin=CAU x-t=2"},
		{"POST", "/test.Test/Silent", {"\0\0\0\0\0", 5}, {NULL},
				CT
				" grpc-status=13 grpc-message=the method ended without an answer"},
		{"POST", "/test.Test/Late", {"\0\0\0\0\0", 5}, {"grpc-timeout", "10S"},
				CT " | <0><0><0><0><4>late | grpc-status=0"},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\0", 5},
				{"x-initial", "abc", "x-trailing-bin", "q6ur"},
				CT " x-initial=abc | <0><0><0><0><0> | grpc-status=0 "
				   "x-trailing-bin=q6ur"},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\0", 5}, {"x-trailing-bin", "Zg==,Zm8="},
				CT " | <0><0><0><0><0> | grpc-status=0 x-trailing-bin=Zg"},
		{"POST", "/test.Test/Echo", {"\0\0\0\0\0", 5}, {"x-trailing-bin", "Z"},
				CT " | <0><0><0><0><0> | grpc-status=0"},
		/* streams */
		{"POST", "/test.Test/Up", {"", 0}, {NULL},
				CT " | <0><0><0><0><3>0/0 | grpc-status=0"},
		{"POST", "/test.Test/Chat", {"\0\0\0\0\1a\0\0\0\0\1b", 12}, {NULL},
				CT " | <0><0><0><0><1>a<0><0><0><0><1>b | grpc-status=0"},
		{"POST", "/test.Test/Chat", {"", 0}, {NULL}, CT " grpc-status=0"},
		{"POST", "/test.Test/Chat", {"\0\0\0\0\1a\0\0\0", 9}, {NULL},
				CT " | <0><0><0><0><1>a | grpc-status=13 grpc-message=the request "
				   "ended inside a message"},
		{"POST", "/test.Test/Up", {"\0\0\0\0\4stop\0\0\0\0\1x", 15}, {NULL},
				CT " grpc-status=10 grpc-message=stopped"},
		{"POST", "/test.Test/Sums", {"\0\0\0\0\2\20\7\0\0\0\0\2\20\3", 14}, {NULL},
				CT " grpc-status=11"},
};

static void raw_requests(void **state)
{
	serve(*state);
	for (size_t i = 0; i < SN_COUNT(raw_cases); i++) {
		const struct raw_case *c = &raw_cases[i];

		s.messages = s.ends = 0;
		s.bytes = 0;
		raw_expect(c->method, c->path, c->body, c->more, c->expected);
	}
	assert_int_equal(s.closed, s.begun);
	serve_end();
}

/* What protobuf refuses; the sentence is its own. */
static void unreadable(void **state)
{
	struct raw raw;

	serve(*state);
	for (int streams = 0; streams < 2; streams++) {
		assert_int_equal(raw_try(&raw, "POST",
						 streams ? "/test.Test/Sums" : "/test.Test/Sum",
						 SN_STR("\0\0\0\0\2\20\377"), NULL),
				0);
		UNTIL(raw.done);
		assert_non_null(strstr(as_text(&raw.text),
				streams ? " grpc-status=13 grpc-message=a message cannot be read: "
					: " grpc-status=13 grpc-message=the request cannot be "
					  "read: "));
		assert_int_equal(s.closed, streams);
		assert_int_equal(s.close_status, streams ? SN_E_PROTOCOL : 0);
		raw_finish(&raw);
	}
	serve_end();
}

static void http_beside(struct sn_exchange *x, void *arg)
{
	assert_int_equal(sn_exchange_respond(x, 200, NULL, 0, arg, strlen(arg)), 0);
}

static void plain_http_beside(void **state)
{
	const struct sn_grpc_services_options opts = {
			.http = http_beside, .http_arg = (void *)(uintptr_t) "page"};

	assert_int_equal(try_serve(*state, &opts), 0);
	raw_expect("GET", "/", SN_STR(""), (const char *[]){"content-type", "text/html", NULL},
			"200 | page");
	raw_expect("POST", "/test.Test/Echo", ONE, NULL, CT " | <0><0><0><0><2>hi | grpc-status=0");
	serve_end();
}

static void context(void **state)
{
	static const char *const more[] = {"grpc-timeout", "2S", "traceparent",
			"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", NULL};
	struct raw raw;

	serve(*state);
	assert_int_equal(raw_try(&raw, "POST", "/test.Test/Echo", ONE, more), 0);
	UNTIL(raw.done);
	raw_finish(&raw);
	assert_in_range(s.context.deadline_ms, 1, 2000);
	assert_true(s.context.trace_id[1] == UINT64_C(0x8448eb211c80319c));
	assert_true(s.context.span_id == UINT64_C(0xb7ad6b7169203331));
	assert_int_equal(raw_try(&raw, "POST", "/test.Test/Echo", ONE, NULL), 0);
	UNTIL(raw.done);
	raw_finish(&raw);
	assert_int_equal(s.context.deadline_ms, 0);
	assert_int_equal(s.context.trace_id[1], 0);
	serve_end();
}

/* ---- ends ---- */

static void deadline(void **state)
{
	static const char *const more[] = {"grpc-timeout", "30m", NULL};
	static const char expected[] = CT
			" grpc-status=4 grpc-message=the call's deadline has passed";

	serve(*state);
	raw_expect("POST", "/test.Test/Never", ONE, more, expected);
	until_closed(SN_E_DEADLINE);
	/* One that nobody listens for, and is answered when nobody waits any more. */
	raw_expect("POST", "/test.Test/Hold", ONE, more, expected);
	assert_non_null(s.x);
	assert_int_equal(sn_grpc_exchange_send(s.x, NULL, "x", 1), SN_E_RESET);
	assert_null(sn_grpc_exchange_header(s.x, "grpc-timeout", NULL));
	sn_grpc_exchange_finish(s.x, SN_GRPC_OK, NULL, NULL, 0);
	/* And one that begins to listen afterwards. */
	raw_expect("POST", "/test.Test/Hold", ONE, more, expected);
	s.done = false;
	s.closed = 0;
	sn_grpc_exchange_on_close(s.x, on_close, &s);
	until_closed(SN_E_DEADLINE);
	/* And one that is never ended: with the services it goes. */
	raw_expect("POST", "/test.Test/Hold", ONE, more, expected);
	serve_end();
}

static void client_resets(void **state)
{
	static const char *const paths[] = {"/test.Test/Never", "/test.Test/Up", "/test.Test/Late"};

	for (size_t i = 0; i < SN_COUNT(paths); i++) {
		struct call c;

		if (i != 1 && gw.version == SN_HTTP_1)
			continue; /* a client that closes behind its request may still read */
		serve(*state);
		if (i == 1)
			call_streams(&c, paths[i]);
		else
			call_unary(&c, paths[i], SN_STR("x"));
		UNTIL(s.begun > 0);
		sn__timer_stop(gw.w->a, &s.timer);
		sn__grpc_cancel(&c.req, SN_E_CANCELLED);
		call_expect(&c, "CANCELLED CANCELLED \"cancelled\"");
		until_closed(SN_E_CANCELLED);
		serve_end();
	}
}

static void server_closes(void **state)
{
	struct call c;

	serve(*state);
	call_unary(&c, "/test.Test/Never", SN_STR("x"));
	UNTIL(s.begun > 0);
	sn__http_server_close(gw.server, 0, gw_gone, &gw.server_gone);
	UNTIL(gw.server_gone);
	gw.server = NULL;
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.close_status, SN_E_CLOSED);
	UNTIL(c.done);
	assert_true(c.req.code == SN_E_EOF || c.req.code == SN_E_RESET);
	assert_non_null(strstr(as_text(&c.text), " UNAVAILABLE "));
	call_finish(&c);
	serve_end();
}

/* ---- streams ---- */

static void back_pressure_down(void **state)
{
	struct call c;

	serve(*state);
	s.n = 100;
	s.size = 290000;
	call_unary(&c, "/test.Test/Down", SN_STR(""));
	c.pause_each = true;
	while (c.n < s.n) {
		UNTIL(c.paused_by_test);
		assert_int_equal(c.last.len, s.size);
		assert_int_equal(sn__buf_data(&c.last)[s.size / 2], 'a' + (int)(c.n - 1) % 26);
		assert_true(s.sent < c.n + 40); /* it waits for us */
		c.paused_by_test = false;
		sn__grpc_pause(&c.req, false);
	}
	assert_true(s.drained > 0);
	call_expect(&c, "head OK OK");
	until_closed(0);
	serve_end();
}

static void pause_up(void **state)
{
	struct call c;

	serve(*state);
	call_streams(&c, "/test.Test/Up");
	assert_int_equal(sn__grpc_send(&c.req, SN_STR("a")), 0);
	assert_int_equal(sn__grpc_send(&c.req, SN_STR("pause")), 0);
	assert_int_equal(sn__grpc_send(&c.req, SN_STR("bc")), 0);
	sn__grpc_end(&c.req);
	assert_int_equal(sn__grpc_send(&c.req, SN_STR("late")), SN_E_STATE);
	UNTIL(s.messages == 2);
	gw_settle();
	assert_int_equal(s.messages, 2);
	sn_grpc_exchange_pause(s.x, false);
	call_expect(&c, "head [3/8] OK OK");
	until_closed(0);
	serve_end();
}

/* Longer than any time-out, larger than any body of other requests. */
static void endless(void **state)
{
	char *piece = test_calloc(1, 290000);
	struct call c;

	serve(*state);
	call_streams(&c, "/test.Test/Up");
	for (unsigned i = 1; i <= 70; i++) {
		int r = sn__grpc_send(&c.req, (struct sn_str){piece, 290000});

		assert_true(r == 0 || r == SN_E_AGAIN);
		UNTIL(s.messages == i);
	}
	(void)sn__sim_run(gw.w->sim, sn__sim_now_ns(gw.w->sim) + 7200 * SN_NS_PER_S);
	assert_false(c.done);
	sn__grpc_end(&c.req);
	call_expect(&c, "head [70/20300000] OK OK");
	until_closed(0);
	test_free(piece);
	serve_end();
}

/* One message beyond what streams may have waiting. */
static void large_answer(void **state)
{
	struct call c;

	serve(*state);
	s.n = 3;
	s.size = 20 << 20;
	call_init(&c, "/test.Test/Down");
	c.req.framed = SN_STR("\0\0\0\0\0");
	c.req.max_message = 32 << 20;
	assert_int_equal(sn__grpc_start(gw.dest, &c.req, NULL), 0);
	call_expect(&c, "head OK OK");
	assert_int_equal(s.drained, 2);
	until_closed(0);
	serve_end();
}

static void chats(void **state)
{
	struct call c;

	serve(*state);
	call_streams(&c, "/test.Test/Chat");
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(sn__grpc_send(&c.req, SN_STR("ping")), 0);
		UNTIL(c.n == i);
	}
	sn__grpc_end(&c.req);
	call_expect(&c, "head [ping] [ping] [ping] OK OK");
	serve_end();
}

/* ---- memory ---- */

static void steady_state(void **state)
{
	uint64_t before = 0;
	struct call c;

	serve(*state);
	for (int i = 0; i < 30; i++) {
		if (i == 20)
			before = sn__mem_count();
		call_init(&c, "/test.Test/Sum");
		c.req.framed = SN_STR("\0\0\0\0\2\20\7");
		sn__buf_finish(&c.text);
		assert_int_equal(sn__grpc_start(gw.dest, &c.req, NULL), 0);
		UNTIL(c.done);
		call_finish(&c);
		s.x = NULL;
	}
	/* One is the unpacked message, two are the test's own; the rest is nghttp2's. */
	print_message("%g allocations a call\n", (double)(sn__mem_count() - before) / 10);
	assert_in_range(sn__mem_count() - before, 0, gw.version == SN_HTTP_1 ? 35 : 155);
	serve_end();
}

static bool sweep_one(struct world *w, uint64_t nth, bool streams)
{
	static const char *const more[] = {"x-trailing-bin", "q6ur", "grpc-timeout", "1S",
			"grpc-encoding", "gzip", "grpc-accept-encoding", "gzip", NULL};
	/* printf hello | gzip -n */
	static const struct sn_str zipped = {
			"\1\0\0\0\31"
			"\37\213\10\0\0\0\0\0\0\3\313\110\315\311\311\7\0\206\246\20\66\5\0\0\0",
			30};
	struct raw raw = {.text = {.max = 0}};
	bool failed, begun;

	sn__mem_fail_nth(nth);
	begun = try_serve(w, NULL) == 0 &&
			raw_try(&raw, "POST", streams ? "/test.Test/Loose" : "/test.Test/Sum",
					streams ? zipped : SN_STR("\0\0\0\0\2\20\7"), more) == 0;
	while (begun && !raw.done && gw_once())
		;
	failed = sn__mem_failed();
	sn__mem_fail_nth(0);
	assert_int_equal(raw.done, begun);
	if (raw.text.max > 0)
		raw_finish(&raw);
	serve_end();
	return failed;
}

static void no_memory(void **state)
{
	for (int streams = 0; streams < 2; streams++) {
		uint64_t nth = 1;

		while (sweep_one(*state, nth, streams))
			assert_true(++nth < 400);
		assert_true(nth > 10);
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
			SIM(table),
			EVERY(raw_requests),
			SIM(unreadable),
			SIM(plain_http_beside),
			EVERY(context),
			EVERY(deadline),
			EVERY(client_resets),
			EVERY(server_closes),
			EVERY(back_pressure_down),
			EVERY(pause_up),
			SIM(endless),
			SIM(large_answer),
			EVERY(chats),
			cmocka_unit_test_setup_teardown(steady_state, world_uv, world_close),
			SIM(no_memory),
	};
	int failed;

	gw.version = SN_HTTP_2;
	failed = cmocka_run_group_tests_name("HTTP/2", tests, NULL, NULL);
	gw.version = SN_HTTP_1;
	return failed + cmocka_run_group_tests_name("HTTP/1.1", tests, NULL, NULL);
}
