/* SPDX-License-Identifier: Apache-2.0 */
/* The tracer on a simulated loop: calls by a scripted transport, our own HTTP server as collector. */
#include "base/json.h"
#include "io/http_server.h"
#include "mesh/mesh_world_test.h"
#include "mesh/metrics.h"

struct fixture {
	struct mesh_world w;
	struct sn_loop *b; /* the collector's */
	struct sn_http_server *server;
	struct sn_http_pool *pool;
	char url[64];
	json_t *spans; /* what has come, of whatever form */
	bool pool_closed, server_closed, tracer_closed, started;
};

/* ---- the collector ---- */

static void take(struct fixture *f, json_t *doc)
{
	json_t *list = doc;

	if (json_is_object(doc)) {
		list = json_array_get(json_object_get(doc, "resourceSpans"), 0);
		list = json_array_get(json_object_get(list, "scopeSpans"), 0);
		list = json_object_get(list, "spans");
	}
	assert_true(json_is_array(list));
	assert_int_equal(json_array_extend(f->spans, list), 0);
}

static void on_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	json_t *doc = NULL;

	if (status != 0)
		return;
	/* jansson's own, so that a failing allocation of ours is not the collector's. */
	doc = json_loadb(body, size, 0, NULL);
	assert_non_null(doc);
	take(arg, doc);
	json_decref(doc);
	if (sn_exchange_respond(x, 202, NULL, 0, NULL, 0) < 0)
		sn_exchange_abort(x);
}

static void collector(struct sn_exchange *x, void *arg)
{
	if (sn_exchange_read_all(x, 0, on_body, arg) < 0)
		sn_exchange_abort(x);
}

static void set_true(void *arg)
{
	*(bool *)arg = true;
}

/* ---- the world ---- */

static void open_world(struct fixture *f)
{
	struct sn_http_server_config config = {0};

	memset(f, 0, sizeof(*f));
	f->spans = json_array();
	mw_open(&f->w, 7);
	mw_peers(&f->w, 2);
	assert_int_equal(sn__sim_loop(f->w.sim, &f->b), 0);
	assert_int_equal(sn__addr_parse_listen(SN_STR("127.0.0.1:0"), &config.addr, NULL), 0);
	assert_int_equal(sn__http_server_open(f->b, &config, collector, f, &f->server, NULL), 0);
	assert_int_equal(sn__http_pool_create(f->w.loop, NULL, &f->pool), 0);
	(void)snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u",
			sn__addr_port(sn__http_server_addr(f->server)));
}

static int start(struct fixture *f, const char *zipkin, const char *otlp, double sample)
{
	int r = sn__tracer_set_metrics(f->w.tracer, f->w.metrics);

	if (r == 0)
		r = sn__tracer_set_names(f->w.tracer, SN_STR("Front"), NULL, NULL);
	if (r == 0 && zipkin != NULL)
		r = sn__tracer_add(f->w.tracer, SN_EXPORT_ZIPKIN, zipkin, sample, NULL);
	if (r == 0 && otlp != NULL)
		r = sn__tracer_add(f->w.tracer, SN_EXPORT_OTLP, otlp, sample, NULL);
	if (r == 0)
		r = sn__tracer_start(f->w.tracer, f->pool);
	f->started = r == 0;
	return r;
}

static void flush(struct fixture *f)
{
	sn__tracer_close(f->w.tracer, set_true, &f->tracer_closed);
	assert_false(f->tracer_closed);
	mw_run(&f->w, 5000);
	assert_true(f->tracer_closed);
}

static void close_world(struct fixture *f)
{
	if (!f->tracer_closed)
		flush(f);
	sn__http_pool_close(f->pool, set_true, &f->pool_closed);
	sn__http_server_close(f->server, 0, set_true, &f->server_closed);
	mw_run(&f->w, 100);
	assert_true(f->pool_closed && f->server_closed);
	sn__loop_close(f->b, NULL, NULL);
	json_decref(f->spans);
	mw_close(&f->w);
}

/* ---- calls that remember what peers are told ---- */

struct traced {
	struct mw_call c;
	struct sn_trace_headers told[4];
	unsigned n;
};

static int attempt(struct sn_call *call)
{
	struct traced *t = SN_CONTAINER_OF(call, struct traced, c.call);

	if (t->n < SN_COUNT(t->told))
		sn__trace_headers(call, &t->told[t->n++]);
	return mw_attempt(call);
}

static const struct sn_call_ops traced_ops = {
		.attempt = attempt, .abort = mw_abort, .done = mw_done};

static void traced_init(struct traced *t)
{
	memset(t, 0, sizeof(*t));
	t->c.call.ops = &traced_ops;
	t->c.call.method = SN_STR("GET");
	t->c.call.url = SN_STR("/items?q=1");
}

static const char *told(const struct traced *t, unsigned i, const char *name)
{
	static char text[80];
	const struct sn_trace_headers *h = &t->told[i];

	assert_true(i < t->n);
	for (unsigned k = 0; k < h->n; k++) {
		if (!sn_str_eq(h->headers[k].name, sn_str_from(name)))
			continue;
		(void)snprintf(text, sizeof(text), "%.*s", (int)h->headers[k].value.len,
				h->headers[k].value.ptr);
		return text;
	}
	return NULL;
}

static const char *text_of(const json_t *span, const char *name)
{
	const char *text = json_string_value(json_object_get(span, name));

	return text != NULL ? text : "";
}

/* A metric's value, or -1. */
static double metric(struct fixture *f, const char *line)
{
	struct sn_buf out;
	const char *at;
	double v;

	sn__buf_init(&out, 1 << 20);
	assert_int_equal(sn__metrics_render(f->w.metrics, &out), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	at = strstr(sn__buf_data(&out), line);
	v = at != NULL ? strtod(at + strlen(line), NULL) : -1;
	sn__buf_finish(&out);
	return v;
}

/* ---- tests ---- */

/* `trace` of the file: a span a call, one an attempt, back-off as a note. */
static void a_span_a_call_and_one_an_attempt(void **state)
{
	static struct fixture f;
	struct traced t;
	const json_t *call, *attempts[2];
	uint64_t begin, end;
	char want[80];

	open_world(&f);
	mw_policies(&f.w,
			"{\"values\": {\"retry-initial-delay\": 40, \"retry-jitter\": \"none\"}}");
	assert_int_equal(start(&f, NULL, f.url, 1), 0);
	traced_init(&t);
	mw_call(&f.w, &t.c, MW_503, MW_OK);
	flush(&f);
	assert_int_equal(json_array_size(f.spans), 3); /* attempts end before their call */
	call = json_array_get(f.spans, 2);
	assert_null(json_object_get(call, "parentSpanId"));
	begin = strtoull(text_of(call, "startTimeUnixNano"), NULL, 10);
	end = strtoull(text_of(call, "endTimeUnixNano"), NULL, 10);
	assert_true(end >= begin + 40000000);
	for (int i = 0; i < 2; i++) {
		attempts[i] = json_array_get(f.spans, (size_t)i);
		assert_string_equal(text_of(attempts[i], "parentSpanId"), text_of(call, "spanId"));
		assert_string_equal(text_of(attempts[i], "traceId"), text_of(call, "traceId"));
		assert_true(strtoull(text_of(attempts[i], "startTimeUnixNano"), NULL, 10) >= begin);
		assert_true(strtoull(text_of(attempts[i], "endTimeUnixNano"), NULL, 10) <= end);
		(void)snprintf(want, sizeof(want), "00-%s-%s-01", text_of(call, "traceId"),
				text_of(attempts[i], "spanId"));
		assert_string_equal(told(&t, (unsigned)i, "traceparent"), want);
		assert_null(told(&t, (unsigned)i, "X-B3-TraceId"));
	}
	assert_string_not_equal(text_of(attempts[0], "spanId"), text_of(attempts[1], "spanId"));
	assert_int_equal(json_array_size(json_object_get(call, "events")), 1);
	assert_non_null(json_object_get(attempts[0], "status"));
	assert_null(json_object_get(attempts[1], "status"));
	close_world(&f);
}

static void shares_of_new_traces_are_recorded(void **state)
{
	static struct fixture f;
	struct traced t;
	unsigned sampled = 0;

	open_world(&f);
	assert_int_equal(start(&f, f.url, NULL, 0.5), 0);
	for (int i = 0; i < 100; i++) {
		traced_init(&t);
		mw_call(&f.w, &t.c, MW_OK);
		sampled += told(&t, 0, "traceparent")[54] == '1';
	}
	flush(&f);
	assert_in_range(sampled, 30, 70);
	assert_int_equal(json_array_size(f.spans), 2 * sampled);
	close_world(&f);
}

/* What the caller has begun goes on; what it does not record is passed on and not recorded. */
static void contexts_go_on(void **state)
{
	static struct fixture f;
	struct traced t;
	struct sn_context ctx = SN_CONTEXT_INIT;

	open_world(&f);
	assert_int_equal(start(&f, f.url, NULL, 0), 0); /* of new traces none */
	ctx.trace_id[0] = 0xa1;
	ctx.trace_id[1] = 0xb2;
	ctx.span_id = 0xc3;
	ctx.sampled = true;
	traced_init(&t);
	t.c.call.context = &ctx;
	mw_call(&f.w, &t.c, MW_OK);
	assert_memory_equal(told(&t, 0, "traceparent"), "00-00000000000000a100000000000000b2-", 36);
	ctx.sampled = false;
	traced_init(&t);
	t.c.call.context = &ctx;
	mw_call(&f.w, &t.c, MW_OK);
	assert_int_equal(told(&t, 0, "traceparent")[54], '0');
	traced_init(&t);
	mw_call(&f.w, &t.c, MW_OK);
	flush(&f);
	assert_int_equal(json_array_size(f.spans), 2);
	assert_string_equal(text_of(json_array_get(f.spans, 1), "parentId"), "00000000000000c3");
	assert_string_equal(text_of(json_array_get(f.spans, 0), "traceId"),
			"00000000000000a100000000000000b2");
	close_world(&f);
}

/* The original's form: no collector, then one, then none again. */
static void collectors_come_and_go(void **state)
{
	static struct fixture f;
	struct traced t;

	open_world(&f);
	mw_policies(&f.w, "{\"values\": {\"enable-zipkin\": true}}");
	assert_int_equal(start(&f, NULL, NULL, 1), 0);
	for (int i = 0; i < 3; i++) {
		if (i == 1)
			assert_int_equal(sn__tracer_set_collector(f.w.tracer, f.url, NULL), 0);
		if (i == 2) {
			mw_run(&f.w, 3000); /* sent before it goes */
			assert_int_equal(sn__tracer_set_collector(f.w.tracer, NULL, NULL), 0);
		}
		traced_init(&t);
		mw_call(&f.w, &t.c, MW_OK);
		assert_non_null(told(&t, 0, "X-B3-TraceId"));
		assert_null(told(&t, 0, "traceparent"));
	}
	assert_int_equal(json_array_size(f.spans), 1);
	assert_true(metric(&f, "exporter=\"enable-zipkin\",result=\"sent\"} ") == 1);
	assert_true(metric(&f, "exporter=\"enable-zipkin\",result=\"dropped\"} ") == 2);
	assert_true(metric(&f, "exporter=\"enable-zipkin\",result=\"failed\"} ") == 0);
	assert_true(metric(&f, "sinew_spans_waiting{exporter=\"enable-zipkin\"} ") == 0);
	close_world(&f);
}

static void urls_are_checked(void **state)
{
	static struct fixture f;
	static const char *const wrong[] = {
			"", "ws://a:1", "http://", "http://u:p@h", "a b", "http://h:0"};
	struct sn_error err;

	open_world(&f);
	assert_int_equal(start(&f, NULL, NULL, 1), 0);
	for (size_t i = 0; i < SN_COUNT(wrong); i++) {
		assert_int_equal(sn__tracer_set_collector(f.w.tracer, wrong[i], &err), SN_E_PARSE);
		assert_true(strlen(err.text) > 0);
		assert_int_equal(sn__tracer_add(f.w.tracer, SN_EXPORT_OTLP, wrong[i], 1, &err),
				SN_E_PARSE);
	}
	close_world(&f);
}

/* A collector that does not exist costs its spans and nothing else. */
static void nobody_listens(void **state)
{
	static struct fixture f;
	struct traced t;

	open_world(&f);
	assert_int_equal(start(&f, "http://127.0.0.1:9", f.url, 1), 0);
	for (int i = 0; i < 3; i++) {
		traced_init(&t);
		mw_call(&f.w, &t.c, MW_OK);
	}
	mw_run(&f.w, 5000);
	assert_true(metric(&f, "exporter=\"zipkin\",result=\"failed\"} ") == 6);
	assert_true(metric(&f, "exporter=\"zipkin\",result=\"sent\"} ") == 0);
	assert_true(metric(&f, "exporter=\"otlp\",result=\"sent\"} ") == 6);
	assert_int_equal(json_array_size(f.spans), 6);
	close_world(&f);
}

/* One life in which the @nth allocation fails; whether it did. */
static bool life(uint64_t nth)
{
	static const struct mw_step steps[] = {MW_503, MW_OK};
	static struct fixture f;
	struct traced t;
	bool failed;

	open_world(&f);
	mw_policies(&f.w, "{\"values\": {\"enable-zipkin\": true, \"zipkin-sleep-span\": true}}");
	traced_init(&t);
	t.c.call.target = mw_target(&f.w);
	sn__mem_fail_nth(nth);
	if (start(&f, f.url, f.url, 1) == 0 &&
			sn__tracer_set_collector(f.w.tracer, f.url, NULL) == 0 &&
			mw_start(&f.w, &t.c, steps, SN_COUNT(steps)) == 0) {
		for (int i = 0; i < 10000 && t.c.done == 0; i++)
			mw_run(&f.w, 10);
		assert_int_equal(t.c.done, 1);
	}
	flush(&f);
	failed = sn__mem_failed();
	sn__mem_fail_nth(0);
	assert_true(json_array_size(f.spans) <= 9); /* 3 + 3 + 3, the sleep among them */
	if (!failed)
		assert_int_equal(json_array_size(f.spans), 9);
	close_world(&f); /* nothing has leaked */
	return failed;
}

static void without_memory(void **state)
{
	uint64_t n = 1;

	while (life(n))
		n++;
	assert_in_range(n, 20, 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(a_span_a_call_and_one_an_attempt),
			cmocka_unit_test(shares_of_new_traces_are_recorded),
			cmocka_unit_test(contexts_go_on),
			cmocka_unit_test(collectors_come_and_go),
			cmocka_unit_test(urls_are_checked),
			cmocka_unit_test(nobody_listens),
			cmocka_unit_test(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
