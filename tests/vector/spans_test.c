/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berlioz-spans.json through the public API: requests that come in with the vectors' headers
 * (sn_inbound_begin), calls made for them, spans of the application's own, and what the collector
 * gets. Only ids, times and durations are taken from what was reported; the rest must be equal.
 */
#include "base/test.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <sinew/inbound.h>
#include <sinew/mesh.h>
#include <sinew/resource.h>

#include "base/json.h"
#include "base/mem.h"

#define BODIES_MAX 256
#define HEADERS 6

static const char *const names[HEADERS] = {"X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId",
		"X-B3-Sampled", "X-B3-Flags", "traceparent"};

/* The peer and the collector, in a runtime of their own. Texts only: jansson's counts are no matter for
 * two threads. */
static struct {
	struct sn_runtime *rt;
	struct sn_http_server *server;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char *bodies[BODIES_MAX]; /* batches of spans that came */
	unsigned n_bodies;
	char headers[HEADERS][64]; /* of the last request to the peer; "": none */
	unsigned status;           /* what the peer answers */
} other = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* The test's own: what was taken from there. */
static json_t *spans;

static void on_spans(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	assert_int_equal(status, 0);
	pthread_mutex_lock(&other.lock);
	assert_true(other.n_bodies < BODIES_MAX);
	other.bodies[other.n_bodies++] = sn__strndup(body, size);
	pthread_cond_broadcast(&other.changed);
	pthread_mutex_unlock(&other.lock);
	assert_int_equal(sn_exchange_respond(x, 202, NULL, 0, NULL, 0), 0);
}

static void on_request(struct sn_exchange *x, void *arg)
{
	unsigned status;

	if (strcmp(sn_exchange_path(x), "/api/v2/spans") == 0) {
		assert_int_equal(sn_exchange_read_all(x, 0, on_spans, NULL), 0);
		return;
	}
	pthread_mutex_lock(&other.lock);
	for (size_t i = 0; i < HEADERS; i++) {
		const char *value = sn_exchange_header(x, names[i]);

		(void)snprintf(other.headers[i], sizeof(other.headers[i]), "%s",
				value != NULL ? value : "");
	}
	status = other.status;
	pthread_mutex_unlock(&other.lock);
	if (sn_exchange_header(x, "x-amz-target") != NULL) /* a table */
		assert_int_equal(sn_exchange_respond(x, 200, NULL, 0, "{}", 2), 0);
	else
		assert_int_equal(sn_exchange_respond(x, status, NULL, 0, NULL, 0), 0);
}

static void answer_with(unsigned status)
{
	pthread_mutex_lock(&other.lock);
	other.status = status;
	pthread_mutex_unlock(&other.lock);
}

/* With the lock held. */
static void spans_fetch(void)
{
	for (unsigned i = 0; i < other.n_bodies; i++) {
		json_t *list = json_loads(other.bodies[i], 0, NULL);

		assert_true(json_is_array(list));
		assert_int_equal(json_array_extend(spans, list), 0);
		json_decref(list);
		sn__free(other.bodies[i]);
	}
	other.n_bodies = 0;
}

/* The first of what came; taken out. */
static json_t *span_take(void)
{
	struct timespec until;
	json_t *span;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	pthread_mutex_lock(&other.lock);
	while (json_array_size(spans) == 0 && other.n_bodies == 0) {
		if (pthread_cond_timedwait(&other.changed, &other.lock, &until) != 0)
			fail_msg("no span came");
	}
	spans_fetch();
	pthread_mutex_unlock(&other.lock);
	span = json_incref(json_array_get(spans, 0));
	json_array_remove(spans, 0);
	return span;
}

static int group_setup(void **state)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_http_server_options http = {.size = sizeof(http), .listen = "127.0.0.1:0"};

	spans = json_array();
	opts.agent = "";
	(void)unsetenv("BERLIOZ_AGENT_PATH");
	if (sn_open(&opts, &other.rt, NULL) < 0 ||
			sn_http_server_open(
					other.rt, &http, on_request, NULL, &other.server, NULL) < 0)
		return -1;
	return setenv("BERLIOZ_CLUSTER", "shop", 1) + setenv("BERLIOZ_SECTOR", "core", 1) +
			setenv("BERLIOZ_SERVICE", "Front", 1);
}

static int group_teardown(void **state)
{
	json_decref(spans);
	return sn_close(other.rt, NULL, NULL);
}

/* The service under test. */
static struct sn_runtime *front_open(const char *policies)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	unsigned port = sn_http_server_port(other.server);
	struct sn_error *err = NULL;
	struct sn_runtime *rt;
	char config[2048];

	(void)snprintf(config, sizeof(config),
			"policies: {enable-zipkin: true, no-peer-wait: 0, %s, "
			"zipkin-endpoint: 'http://127.0.0.1:%u/api/v2/spans'}\n"
			"peers:\n"
			"  'service://shop-core-basket-rest': {'1': {protocol: http, address: 127.0.0.1, "
			"port: %u}}\n"
			"  'cluster://billing-web': {'1': {protocol: http, address: 127.0.0.1, port: 1}}\n"
			"  'database://shop-core-ledger': {'0': {name: ledger, class: nosql, subClass: "
			"dynamodb, config: {region: r, endpoint: 'http://127.0.0.1:%u', credentials: "
			"{accessKeyId: a, secretAccessKey: b}}}}\n",
			policies, port, port, port);
	opts.agent = "";
	opts.config_text = config;
	if (sn_open(&opts, &rt, &err) < 0)
		fail_msg("%s", sn_error_text(err));
	assert_int_equal(sn_wait_ready(rt, 20000), 0);
	return rt;
}

static json_t *vectors(void)
{
	const char *root = getenv("SINEW_SOURCE_ROOT");
	char path[1024];
	json_t *doc;

	(void)snprintf(path, sizeof(path), "%s/tests/vectors/berlioz-spans.json",
			root != NULL ? root : ".");
	doc = json_load_file(path, 0, NULL);
	assert_non_null(doc);
	return doc;
}

/* ---- b3 ---- */

static const char *header_of(const char *name, void *arg)
{
	const char *key;
	json_t *value;

	json_object_foreach(arg, key, value)
	{
		if (sn__str_ieq(sn_str_from(key), sn_str_from(name)))
			return json_string_value(value);
	}
	return NULL;
}

static void check_id(const char *what, json_t *want, uint64_t high, uint64_t low, char fresh[17])
{
	const char *text = json_string_value(want);
	char got[33];

	if (high != 0)
		(void)snprintf(got, sizeof(got), "%016llx%016llx", (unsigned long long)high,
				(unsigned long long)low);
	else
		(void)snprintf(got, sizeof(got), "%016llx", (unsigned long long)low);
	if (text == NULL) {
		assert_int_equal(low, 0);
		return;
	}
	if (strcmp(text, "$new") == 0) {
		if (fresh[0] == '\0')
			(void)snprintf(fresh, 17, "%s", got);
		text = fresh;
	}
	if (strcmp(got, text) != 0)
		fail_msg("%s: got %s, not %s", what, got, text);
}

static void check_context(
		const char *id, json_t *want, const struct sn_context *ctx, char fresh[17])
{
	check_id(id, json_object_get(want, "traceId"), ctx->trace_id[0], ctx->trace_id[1], fresh);
	check_id(id, json_object_get(want, "spanId"), 0, ctx->span_id, fresh);
	check_id(id, json_object_get(want, "parentId"), 0, ctx->parent_span_id, fresh);
	assert_int_equal(ctx->sampled, json_is_true(json_object_get(want, "sampled")));
	assert_int_equal(ctx->debug, json_is_true(json_object_get(want, "debug")));
}

static const char *header_told(const char *name)
{
	size_t i = 0;

	while (strcmp(names[i], name) != 0)
		i++;
	return other.headers[i];
}

/* What the peer was told. */
static void check_outgoing(const char *id, json_t *want, const char *fresh)
{
	size_t n = 0;
	const char *name;
	json_t *value;

	pthread_mutex_lock(&other.lock);
	json_object_foreach(want, name, value)
	{
		const char *text = json_string_value(value), *got = header_told(name);

		if (strcmp(text, "$id64") == 0)
			assert_int_equal(strlen(got), 16);
		else if (strcmp(got, strcmp(text, "$new") == 0 ? fresh : text) != 0)
			fail_msg("%s: %s: %s", id, name, got);
	}
	for (size_t i = 0; i < HEADERS; i++)
		n += other.headers[i][0] != '\0';
	pthread_mutex_unlock(&other.lock);
	assert_int_equal(n, json_object_size(want));
}

static void call(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		const char *method, const char *url, const struct sn_context *ctx)
{
	struct sn_request_options opts = SN_REQUEST_INIT;
	struct sn_response *res = NULL;
	int r;

	opts.method = method;
	opts.url = url;
	opts.context = ctx;
	r = sn_request_wait(rt, kind, name, endpoint, &opts, &res, NULL);
	assert_true(r <= 0);
	sn_response_destroy(res);
}

/* Serve it and call for it; the span's id. */
static void run_b3(struct sn_runtime *rt, json_t *c, struct sn_context *ret_ctx)
{
	const char *id = json_string_value(json_object_get(c, "id"));
	struct sn_inbound_request req = SN_INBOUND_REQUEST_INIT;
	struct sn_inbound *inbound;
	char fresh[17] = "";

	req.method = "GET";
	req.url = id;
	req.header = header_of;
	req.arg = json_object_get(c, "incoming");
	assert_int_equal(sn_inbound_begin(rt, &req, &inbound), 0);
	sn_inbound_context(inbound, ret_ctx);
	check_context(id, json_object_get(c, "server_context"), ret_ctx, fresh);
	answer_with(200);
	call(rt, "service", "basket", "rest", NULL, id, ret_ctx);
	check_outgoing(id, json_object_get(c, "outgoing"), fresh);
	sn_inbound_end(inbound, 200);
}

/* The span of @kind whose url ends with @id, or NULL. */
static json_t *span_of(const char *kind, const char *id)
{
	json_t *span;
	size_t i;

	json_array_foreach(spans, i, span)
	{
		const char *url = json_string_value(
				json_object_get(json_object_get(span, "tags"), "http.url"));

		if (strcmp(json_string_value(json_object_get(span, "kind")), kind) == 0 &&
				strstr(url, id) != NULL)
			return span;
	}
	return NULL;
}

static void check_b3(json_t *c, const struct sn_context *ctx)
{
	const char *id = json_string_value(json_object_get(c, "id"));
	json_t *server = span_of("SERVER", id), *client = span_of("CLIENT", id);
	json_t *context = json_object_get(c, "server_context");
	char span_id[17];

	if (!json_is_true(json_object_get(c, "server_span_recorded"))) {
		assert_null(server);
		assert_null(client);
		return;
	}
	(void)snprintf(span_id, sizeof(span_id), "%016llx", (unsigned long long)ctx->span_id);
	assert_string_equal(json_string_value(json_object_get(server, "id")), span_id);
	assert_string_equal(json_string_value(json_object_get(client, "parentId")), span_id);
	assert_int_equal(json_is_true(json_object_get(server, "shared")),
			json_is_true(json_object_get(context, "shared")));
	assert_int_equal(json_is_true(json_object_get(server, "debug")), ctx->debug);
	assert_int_equal(ctx->debug,
			json_object_get(json_object_get(server, "tags"), "X-B3-Flags") != NULL);
}

static void test_b3(void **state)
{
	json_t *doc = vectors(), *cases = json_object_get(doc, "b3"), *c;
	struct sn_runtime *rt = front_open("retry-count: 1");
	struct sn_context ctx[10];
	size_t i;

	assert_int_equal(json_array_size(cases), SN_COUNT(ctx));
	json_array_foreach(cases, i, c) run_b3(rt, c, &ctx[i]);
	assert_int_equal(sn_close(rt, NULL, NULL), 0); /* the last spans leave */
	pthread_mutex_lock(&other.lock);
	spans_fetch();
	pthread_mutex_unlock(&other.lock);
	json_array_foreach(cases, i, c) check_b3(c, &ctx[i]);
	json_array_clear(spans);
	json_decref(doc);
}

/* ---- spans ---- */

static json_t *span_case(json_t *doc, const char *id)
{
	json_t *c;
	size_t i;

	json_array_foreach(json_object_get(doc, "spans"), i, c)
	{
		if (strcmp(json_string_value(json_object_get(c, "id")), id) == 0)
			return c;
	}
	fail_msg("no case %s", id);
	return NULL;
}

/* The reported span is that of the case, but for times, and for the names in @but. */
static void check_span(json_t *c, const char *const *but)
{
	static const char *const always[] = {"timestamp", "duration"};
	json_t *want = json_object_get(c, "span"), *got = span_take();

	for (size_t i = 0; i < 2; i++) {
		assert_true(json_integer_value(json_object_get(got, always[i])) >= 1);
		json_object_set(got, always[i], json_object_get(want, always[i]));
	}
	for (; but != NULL && *but != NULL; but++) {
		assert_non_null(json_object_get(got, *but));
		json_object_set(got, *but, json_object_get(want, *but));
	}
	if (!sn__json_equal(got, want)) {
		char *text = json_dumps(got, 0);

		fail_msg("%s: %s", json_string_value(json_object_get(c, "id")), text);
	}
	json_decref(got);
}

static const char *given(json_t *c, const char *name)
{
	return json_string_value(json_object_get(json_object_get(c, "given"), name));
}

static void serve(struct sn_runtime *rt, json_t *c, json_t *headers)
{
	struct sn_inbound_request req = SN_INBOUND_REQUEST_INIT;
	json_t *status = json_object_get(json_object_get(c, "given"), "status");
	struct sn_inbound *inbound;

	req.method = given(c, "method");
	req.url = given(c, "url");
	req.ipv4 = given(c, "local_ipv4");
	req.header = header_of;
	req.arg = headers;
	assert_int_equal(sn_inbound_begin(rt, &req, &inbound), 0);
	sn_inbound_end(inbound, (unsigned)json_integer_value(status));
	json_decref(headers);
}

static void test_server_spans(void **state)
{
	static const char *const ids[] = {"traceId", "id", NULL};
	json_t *doc = vectors();
	struct sn_runtime *rt = front_open("retry-count: 1");

	serve(rt, span_case(doc, "span-07"), json_object());
	check_span(span_case(doc, "span-07"), ids);
	serve(rt, span_case(doc, "span-08"),
			json_pack("{s:s, s:s, s:s, s:s}", "X-B3-TraceId", "6e0a2b4c8d1f3057",
					"X-B3-SpanId", "1d2c3b4a59687766", "X-B3-ParentSpanId",
					"6e0a2b4c8d1f3057", "X-B3-Sampled", "1"));
	check_span(span_case(doc, "span-08"), NULL);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	json_decref(doc);
}

static const struct sn_context parent = {.size = sizeof(parent),
		.trace_id = {0, 0x6e0a2b4c8d1f3057},
		.span_id = 0x6e0a2b4c8d1f3057,
		.sampled = true};
static const char *const fresh_id[] = {"id", NULL};

static void test_client_spans(void **state)
{
	static const char *const refused[] = {"id", "tags", NULL};
	json_t *doc = vectors();
	struct sn_runtime *rt = front_open("retry-count: 1");

	answer_with(200);
	call(rt, "service", "basket", "rest", "GET", "/items?page=2", &parent);
	check_span(span_case(doc, "span-01"), fresh_id);
	answer_with(503);
	call(rt, "service", "basket", "rest", "POST", "/items", &parent);
	check_span(span_case(doc, "span-02"), fresh_id);
	call(rt, "cluster", "billing", "web", "PUT", "/bill/9", &parent);
	check_span(span_case(doc, "span-03"), refused); /* our words say more */
	call(rt, "service", "Void", "rest", "GET", "/z", &parent);
	check_span(span_case(doc, "span-04"), fresh_id);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	json_decref(doc);
}

static void test_wait_span(void **state)
{
	json_t *doc = vectors(), *span;
	struct sn_runtime *rt = front_open(
			"retry-initial-delay: 20, zipkin-sleep-span: true, retry-count: 2");

	answer_with(503);
	call(rt, "service", "basket", "rest", "GET", "/", &parent);
	span = span_take();
	json_decref(span);
	check_span(span_case(doc, "span-05"), fresh_id);
	span = span_take();
	json_decref(span);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	json_decref(doc);
}

static void test_database_span(void **state)
{
	json_t *doc = vectors(), *c = span_case(doc, "span-06");
	struct sn_runtime *rt = front_open("retry-count: 1");
	struct sn_resource_options opts = SN_RESOURCE_OPTIONS_INIT;
	struct sn_result *res = NULL;
	struct sn_error *err = NULL;

	opts.context = &parent;
	if (sn_database_call_wait(rt, "ledger", "PutItem", "{\"Item\": {\"id\": {\"S\": \"1\"}}}",
			    &opts, &res, &err) < 0)
		fail_msg("%s", sn_error_text(err));
	sn_result_destroy(res);
	check_span(c, fresh_id);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	json_decref(doc);
}

static void test_instrument(void **state)
{
	json_t *doc = vectors(), *c = span_case(doc, "span-09"), *span;
	struct sn_runtime *rt = front_open("retry-count: 1");
	struct sn_instrument *i;
	struct sn_context ctx;

	assert_int_equal(sn_instrument_begin(rt, &parent, given(c, "remote"), given(c, "method"),
					 given(c, "url"), &i),
			0);
	sn_instrument_context(i, &ctx);
	assert_int_equal(ctx.trace_id[1], parent.trace_id[1]);
	assert_int_equal(ctx.parent_span_id, parent.span_id);
	sn_instrument_end(i, 200, NULL);
	check_span(c, fresh_id);
	/* A root of its own, failed. */
	assert_int_equal(sn_instrument_begin(rt, NULL, "Rating", "recount", "job://x", &i), 0);
	sn_instrument_end(i, 0, "no luck");
	span = span_take();
	assert_null(json_object_get(span, "parentId"));
	assert_string_equal(
			json_string_value(json_object_get(json_object_get(span, "tags"), "error")),
			"no luck");
	json_decref(span);
	sn_instrument_end(NULL, 0, NULL);
	assert_int_equal(sn_instrument_begin(rt, NULL, NULL, "a", "b", &i), SN_E_INVALID);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	json_decref(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_b3),
			cmocka_unit_test(test_server_spans),
			cmocka_unit_test(test_client_spans),
			cmocka_unit_test(test_wait_span),
			cmocka_unit_test(test_database_span),
			cmocka_unit_test(test_instrument),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
