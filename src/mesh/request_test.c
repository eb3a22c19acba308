/* SPDX-License-Identifier: Apache-2.0 */

/* Requests to targets, streamed both ways, on the simulated network against servers that do as they
 * are told. */

#pragma GCC diagnostic ignored "-Wunused-function"
#include "io/http_script.h"
#include "mesh/dest.h"
#include "mesh/mesh_world_test.h"
#include "mesh/request.h"

#define OK_5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define BAD_4 "HTTP/1.1 503 Away\r\nContent-Length: 4\r\nX-Why: no\r\n\r\naway"

struct site {
	struct mesh_world w;
	struct sn_runtime rt;
	struct script servers[2];
	unsigned n_servers;
	bool pool_closed;
};

static void site_open(struct site *s, const struct step *steps, unsigned n,
		const struct step *steps2, unsigned n2)
{
	char json[400];
	int len;

	memset(s, 0, sizeof(*s));
	mw_open(&s->w, 1);
	s->rt = (struct sn_runtime){.loop = s->w.loop,
			.catalog = s->w.cat,
			.policies = s->w.policies,
			.mesh = s->w.mesh};
	assert_int_equal(sn__http_pool_create(s->w.loop, NULL, &s->rt.pool), 0);
	script_open(&s->servers[0], s->w.loop, steps, n);
	s->n_servers = 1;
	len = snprintf(json, sizeof(json),
			"{\"1\": {\"protocol\": \"http\", \"port\": %u, "
			"\"address\": \"127.0.0.1\"}",
			sn__addr_port(&s->servers[0].addr));
	if (steps2 != NULL) {
		script_open(&s->servers[1], s->w.loop, steps2, n2);
		s->n_servers = 2;
		len += snprintf(json + len, sizeof(json) - (size_t)len,
				", \"2\": {\"protocol\": "
				"\"http\", \"port\": %u, \"address\": \"127.0.0.1\"}",
				sn__addr_port(&s->servers[1].addr));
	}
	snprintf(json + len, sizeof(json) - (size_t)len, "}");
	mw_peers_of(&s->w, "service", "a", json);
}

static void pool_closed(void *arg)
{
	((struct site *)arg)->pool_closed = true;
}

static void site_close(struct site *s)
{
	sn__mesh_close(s->w.mesh, mw_on_closed, &s->w);
	mw_run(&s->w, 100);
	assert_true(s->w.closed);
	sn__http_pool_close(s->rt.pool, pool_closed, s);
	mw_run(&s->w, 100);
	assert_true(s->pool_closed);
	for (unsigned i = 0; i < s->n_servers; i++)
		script_finish(&s->servers[i]);
	sn__tls_cache_destroy(s->rt.tls_cache);
	mw_close(&s->w);
}

/* ---- an owner that writes down what it is told ---- */

struct owner {
	struct sn_fetch f;
	struct site *site;
	struct sn_buf body;
	unsigned n_heads, n_done, status;
	int code;
	char text[SN_ERROR_TEXT_MAX];
	unsigned attempts;
	bool pause_at_head, cancel_at_head, fail_at_data;
};

static void owner_head(struct sn_fetch *f, const struct sn_http_head *head)
{
	struct owner *o = SN_CONTAINER_OF(f, struct owner, f);

	o->n_heads++;
	o->status = head->status;
	sn__buf_clear(&o->body);
	if (o->pause_at_head)
		sn__fetch_pause(f, true);
	if (o->cancel_at_head)
		sn__fetch_cancel(f);
}

static int owner_data(struct sn_fetch *f, struct sn_str data)
{
	struct owner *o = SN_CONTAINER_OF(f, struct owner, f);

	if (o->fail_at_data)
		return SN_E_LIMIT;
	return sn__buf_append_str(&o->body, data);
}

static void owner_done(struct sn_fetch *f, const struct sn_error *err)
{
	struct owner *o = SN_CONTAINER_OF(f, struct owner, f);

	o->n_done++;
	o->code = err != NULL ? sn_error_code(err) : 0;
	o->attempts = f->call.attempt;
	snprintf(o->text, sizeof(o->text), "%s", err != NULL ? sn_error_text(err) : "");
}

static const struct sn_fetch_ops owner_ops = {
		.on_head = owner_head,
		.on_data = owner_data,
		.on_done = owner_done,
};

static void owner_start(struct owner *o, struct site *s)
{
	o->site = s;
	sn__buf_init(&o->body, 64 << 20);
	o->f.ops = &owner_ops;
	assert_int_equal(sn__catalog_target(s->w.cat, SN_STR("service"), SN_STR("a"),
					 SN_STR("default"), &o->f.target),
			0);
	if (o->f.method.len == 0)
		o->f.method = SN_STR("GET");
	if (o->f.url.len == 0)
		o->f.url = SN_STR("/x?secret=1");
	assert_int_equal(sn__fetch_start(&s->rt, &o->f, NULL), 0);
	assert_int_equal(o->n_done, 0);
}

static void owner_run(struct owner *o, struct site *s)
{
	owner_start(o, s);
	for (int i = 0; i < 60000 && o->n_done == 0; i += 10)
		mw_run(&s->w, 10);
	assert_int_equal(o->n_done, 1);
}

static void assert_body(const struct owner *o, const char *want)
{
	assert_int_equal(o->body.len, strlen(want));
	assert_memory_equal(sn__buf_data(&o->body), want, strlen(want));
}

static void owner_finish(struct owner *o)
{
	sn__buf_finish(&o->body);
}

/* ---- the answer ---- */

static void test_streamed_answer(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP, .piece = 7}};
	struct owner o = {.n_done = 0};
	struct site s;

	site_open(&s, steps, 1, NULL, 0);
	owner_run(&o, &s);
	assert_int_equal(o.code, 0);
	assert_int_equal(o.n_heads, 1);
	assert_int_equal(o.status, 200);
	assert_body(&o, "hello");
	assert_int_equal(o.attempts, 1);
	owner_finish(&o);
	site_close(&s);
}

static void test_held_head_is_dropped_for_a_better_one(void **state)
{
	static const struct step steps[] = {{BAD_4, THEN_KEEP}, {OK_5, THEN_KEEP}};
	struct owner o = {.n_done = 0};
	struct site s;

	site_open(&s, steps, 2, NULL, 0);
	owner_run(&o, &s);
	assert_int_equal(o.code, 0);
	assert_int_equal(o.n_heads, 1); /* the 503 was never shown */
	assert_int_equal(o.status, 200);
	assert_body(&o, "hello");
	assert_int_equal(o.attempts, 2);
	owner_finish(&o);
	site_close(&s);
}

static void test_last_held_head_is_given(void **state)
{
	static const struct step steps[] = {{BAD_4, THEN_KEEP, .piece = 3}};
	struct owner o = {.n_done = 0};
	struct site s;

	site_open(&s, steps, 1, NULL, 0);
	owner_run(&o, &s);
	assert_int_equal(o.code, 0);
	assert_int_equal(o.n_heads, 1);
	assert_int_equal(o.status, 503);
	assert_body(&o, "away");
	assert_int_equal(o.attempts, 3);
	assert_int_equal(s.servers[0].n_requests, 3);
	owner_finish(&o);
	site_close(&s);
}

static void test_long_held_answer_is_cut_off(void **state)
{
	/* A failure whose body would never end: the next attempt does not wait for it. */
	static const struct step steps[] = {
			{"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\nonly a part", THEN_STALL},
			{OK_5, THEN_KEEP},
	};
	struct owner o = {.n_done = 0};
	struct site s;

	site_open(&s, steps, 2, NULL, 0);
	owner_run(&o, &s);
	assert_int_equal(o.code, 0);
	assert_int_equal(o.status, 200);
	assert_int_equal(o.n_heads, 1);
	owner_finish(&o);
	site_close(&s);
}

static void test_broken_body_is_final(void **state)
{
	static const struct step steps[] = {
			{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", THEN_CLOSE},
			{OK_5, THEN_KEEP},
	};
	struct owner o = {.n_done = 0};
	struct site s;

	site_open(&s, steps, 2, NULL, 0);
	owner_run(&o, &s);
	assert_true(o.code == SN_E_RESET || o.code == SN_E_EOF);
	assert_int_equal(o.n_heads, 1);
	assert_int_equal(o.attempts, 1);
	owner_finish(&o);
	site_close(&s);
}

static void test_broken_body_is_retried_when_whole(void **state)
{
	static const struct step steps[] = {
			{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", THEN_CLOSE},
			{OK_5, THEN_KEEP},
	};
	struct owner o = {.f = {.whole = true}};
	struct site s;

	site_open(&s, steps, 2, NULL, 0);
	owner_run(&o, &s);
	assert_int_equal(o.code, 0);
	assert_int_equal(o.n_heads, 2);
	assert_body(&o, "hello");
	owner_finish(&o);
	site_close(&s);
}

static void test_whole_answer_stands_with_the_error(void **state)
{
	static const struct step steps[] = {{BAD_4, THEN_KEEP}};
	struct owner o = {.f = {.whole = true}};
	struct site s;

	site_open(&s, steps, 1, NULL, 0);
	owner_run(&o, &s);
	assert_int_equal(o.code, SN_E_STATUS);
	assert_int_equal(o.n_heads, 3);
	assert_int_equal(o.status, 503);
	assert_body(&o, "away");
	owner_finish(&o);
	site_close(&s);
}

static void test_pause_and_resume(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP}};
	struct owner o = {.pause_at_head = true};
	struct site s;

	site_open(&s, steps, 1, NULL, 0);
	owner_start(&o, &s);
	mw_run(&s.w, 8000); /* longer than the time-out of an attempt, which the head has ended */
	assert_int_equal(o.n_heads, 1);
	assert_int_equal(o.n_done, 0);
	assert_int_equal(o.body.len, 0);
	sn__fetch_pause(&o.f, false);
	mw_run(&s.w, 10);
	assert_int_equal(o.n_done, 1);
	assert_int_equal(o.code, 0);
	assert_body(&o, "hello");
	owner_finish(&o);
	site_close(&s);
}

static void test_cancel(void **state)
{
	static const struct step stalls[] = {{NULL, THEN_STALL}};
	static const struct step bad[] = {{BAD_4, THEN_KEEP}};
	static const struct step half[] = {
			{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", THEN_STALL}};
	static const struct {
		const struct step *steps;
		uint64_t after_ms; /* waiting for the head, in a back-off, inside the body */
	} cases[] = {{stalls, 0}, {stalls, 50}, {bad, 300}, {half, 50}};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct owner o = {.n_done = 0};
		struct site s;

		site_open(&s, cases[i].steps, 1, NULL, 0);
		owner_start(&o, &s);
		mw_run(&s.w, cases[i].after_ms);
		assert_int_equal(o.n_done, 0);
		sn__fetch_cancel(&o.f);
		assert_int_equal(o.n_done, 0);
		mw_run(&s.w, 10);
		assert_int_equal(o.n_done, 1);
		assert_int_equal(o.code, SN_E_CANCELLED);
		owner_finish(&o);
		site_close(&s);
	}
}

static void test_cancel_inside_the_head(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP}};

	for (int whole = 0; whole < 2; whole++) {
		struct owner o = {.f = {.whole = whole}, .cancel_at_head = true};
		struct site s;

		site_open(&s, steps, 1, NULL, 0);
		owner_run(&o, &s);
		assert_true(o.code == SN_E_CANCELLED || o.code == 0);
		assert_int_equal(o.n_heads, 1);
		owner_finish(&o);
		site_close(&s);
	}
}

static void test_owner_refuses_the_body(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP}};

	for (int whole = 0; whole < 2; whole++) {
		struct owner o = {.f = {.whole = whole}, .fail_at_data = true};
		struct site s;

		site_open(&s, steps, 1, NULL, 0);
		owner_run(&o, &s);
		assert_int_equal(o.code, SN_E_LIMIT);
		assert_int_equal(o.attempts, 1); /* another attempt would be no smaller */
		owner_finish(&o);
		site_close(&s);
	}
}

static void test_close_with_calls_in_flight(void **state)
{
	static const struct step steps[] = {{BAD_4, THEN_KEEP}, {NULL, THEN_STALL}};
	struct owner waiting = {.n_done = 0}, sleeping = {.n_done = 0};
	struct site s;

	site_open(&s, steps, 2, NULL, 0);
	owner_start(&sleeping, &s);
	mw_run(&s.w, 1);
	owner_start(&waiting, &s);
	mw_run(&s.w, 50);
	site_close(&s);
	assert_int_equal(sleeping.code, SN_E_CLOSED);
	assert_int_equal(waiting.code, SN_E_CLOSED);
	owner_finish(&waiting);
	owner_finish(&sleeping);
}

/* ---- time and failures ---- */

static void test_other_peer_after_a_timeout(void **state)
{
	static const struct step stalls[] = {{NULL, THEN_STALL}}, good[] = {{OK_5, THEN_KEEP}};

	for (int i = 0; i < 8; i++) {
		struct owner o = {.f = {.timeout_ms = 100}};
		struct site s;

		site_open(&s, stalls, 1, good, 1);
		owner_run(&o, &s);
		assert_int_equal(o.code, 0);
		assert_true(o.attempts <= 2);
		owner_finish(&o);
		site_close(&s);
	}
}

static void test_deadline_ends_it(void **state)
{
	static const struct step stalls[] = {{NULL, THEN_STALL}};
	struct owner o = {.f = {.deadline_ms = 300, .timeout_ms = 100}};
	struct site s;
	uint64_t begin;

	site_open(&s, stalls, 1, NULL, 0);
	begin = sn__sim_now_ns(s.w.sim);
	owner_run(&o, &s);
	assert_true(o.code == SN_E_TIMEOUT || o.code == SN_E_DEADLINE);
	assert_true(sn__sim_now_ns(s.w.sim) - begin < 400 * SN_NS_PER_MS);
	owner_finish(&o);
	site_close(&s);
}

static void test_throttled(void **state)
{
	static const struct step steps[] = {
			{"HTTP/1.1 429 Slow\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n",
					THEN_KEEP},
			{OK_5, THEN_KEEP},
	};
	struct owner o = {.n_done = 0};
	struct site s;
	uint64_t begin;

	site_open(&s, steps, 2, NULL, 0);
	begin = sn__sim_now_ns(s.w.sim);
	owner_run(&o, &s);
	assert_int_equal(o.code, 0);
	assert_int_equal(o.status, 200);
	assert_int_equal(o.attempts, 2);
	assert_true(sn__sim_now_ns(s.w.sim) - begin >= 2000 * SN_NS_PER_MS);
	owner_finish(&o);
	site_close(&s);
}

static void test_not_http(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP}};
	struct owner o = {.n_done = 0};
	struct site s;

	site_open(&s, steps, 1, NULL, 0);
	mw_peers_of(&s.w, "service", "a",
			"{\"9\": {\"protocol\": \"gopher\", \"port\": 70, "
			"\"address\": \"127.0.0.1\"}}");
	owner_run(&o, &s);
	assert_int_equal(o.code, SN_E_NOTSUP);
	assert_non_null(strstr(o.text, "gopher"));
	owner_finish(&o);
	site_close(&s);
}

/* An agent that names entries nobody can call beside a good one: calls do not notice. */
static void test_unfit_peers_are_passed_over(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP}};
	struct site s;
	char json[400];

	site_open(&s, steps, 1, NULL, 0);
	(void)snprintf(json, sizeof(json),
			"{\"1\": null, \"3\": {\"protocol\": \"gopher\", \"port\": 70, \"address\": "
			"\"127.0.0.1\"}, \"4\": {\"protocol\": \"http\", \"port\": %u, \"address\": "
			"\"127.0.0.1\"}}",
			sn__addr_port(&s.servers[0].addr));
	mw_peers_of(&s.w, "service", "a", json);
	for (int i = 0; i < 40; i++) {
		struct owner o = {.n_done = 0};

		owner_run(&o, &s);
		assert_int_equal(o.code, 0);
		assert_int_equal(o.status, 200);
		owner_finish(&o);
	}
	site_close(&s);
}

/* ---- the body ---- */

struct text_source {
	struct sn_body_source source;
	const char *text;
	size_t at, piece;
	unsigned n_rewinds;
	bool ready;
};

static ssize_t text_read(struct sn_body_source *source, void *out, size_t n)
{
	struct text_source *t = SN_CONTAINER_OF(source, struct text_source, source);

	n = SN_MIN(SN_MIN(n, t->piece), strlen(t->text) - t->at);
	memcpy(out, t->text + t->at, n);
	t->at += n;
	return (ssize_t)n;
}

/* Nothing until `ready`. */
static ssize_t late_read(struct sn_body_source *source, void *out, size_t n)
{
	struct text_source *t = SN_CONTAINER_OF(source, struct text_source, source);

	return t->ready ? text_read(source, out, n) : SN_E_AGAIN;
}

static int text_rewind(struct sn_body_source *source)
{
	struct text_source *t = SN_CONTAINER_OF(source, struct text_source, source);

	t->at = 0;
	t->n_rewinds++;
	return 0;
}

static unsigned count(const struct sn_buf *seen, const char *what)
{
	size_t n = strlen(what), len = seen->len;
	const char *p = sn__buf_data(seen), *hit;
	unsigned found = 0;

	while ((hit = memmem(p, len, what, n)) != NULL) {
		found++;
		len -= (size_t)(hit + n - p);
		p = hit + n;
	}
	return found;
}

static void test_body_is_sent_again(void **state)
{
	static const struct step steps[] = {{BAD_4, THEN_KEEP}, {OK_5, THEN_KEEP}};

	for (int rewinds = 0; rewinds < 2; rewinds++) {
		struct text_source t = {.source = {.read = text_read,
							.length = -1,
							.rewind = rewinds ? text_rewind : NULL},
				.text = "the body in pieces",
				.piece = 5};
		struct owner o = {.f = {.method = SN_STR("PUT"), .source = &t.source}};
		struct site s;

		site_open(&s, steps, 2, NULL, 0);
		owner_run(&o, &s);
		assert_int_equal(o.code, 0);
		assert_int_equal(o.status, 200);
		assert_int_equal(t.n_rewinds, rewinds);
		assert_int_equal(count(&s.servers[0].seen, "PUT /x"), 2);
		assert_int_equal(count(&s.servers[0].seen, "the b"), 2);
		owner_finish(&o);
		site_close(&s);
	}
}

static void test_body_that_comes_late(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP}};
	struct text_source t = {
			.source = {.read = late_read, .length = 4}, .text = "late", .piece = 4};
	struct owner o = {.f = {.method = SN_STR("PUT"), .source = &t.source}};
	struct site s;

	site_open(&s, steps, 1, NULL, 0);
	owner_start(&o, &s);
	mw_run(&s.w, 500);
	assert_int_equal(o.n_done, 0);
	assert_int_equal(count(&s.servers[0].seen, "late"), 0);
	t.ready = true;
	sn__fetch_body_ready(&o.f);
	mw_run(&s.w, 50);
	assert_int_equal(o.n_done, 1);
	assert_int_equal(o.code, 0);
	assert_int_equal(count(&s.servers[0].seen, "late"), 1);
	owner_finish(&o);
	site_close(&s);
}

/* A caller whose body does not come is not the peer's failure: its breaker stays closed. */
static void test_body_that_never_comes(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP}};
	struct owner last = {.f = {.method = SN_STR("GET")}};
	struct site s;

	site_open(&s, steps, 1, NULL, 0);
	for (int i = 0; i < 12; i++) {
		struct text_source t = {.source = {.read = late_read, .length = 4},
				.text = "late",
				.piece = 4};
		struct owner o = {.f = {.method = SN_STR("PUT"),
						  .source = &t.source,
						  .timeout_ms = 100}};

		owner_run(&o, &s);
		assert_int_equal(o.code, SN_E_TIMEOUT);
		assert_int_equal(o.attempts, 1);
		owner_finish(&o);
	}
	owner_run(&last, &s);
	assert_int_equal(last.code, 0);
	assert_int_equal(last.status, 200);
	owner_finish(&last);
	site_close(&s);
}

static void test_body_larger_than_the_buffer_is_final(void **state)
{
	static const struct step steps[] = {{BAD_4, THEN_KEEP}, {OK_5, THEN_KEEP}};
	struct text_source t = {.source = {.read = text_read, .length = -1},
			.text = "the body in pieces",
			.piece = 5};
	struct owner o = {.f = {.method = SN_STR("PUT"), .source = &t.source}};
	struct site s;

	site_open(&s, steps, 2, NULL, 0);
	mw_policies(&s.w, "{\"values\": {\"retry-buffer\": 8}}");
	owner_run(&o, &s);
	assert_int_equal(o.status, 503);
	assert_int_equal(o.attempts, 1);
	assert_int_equal(count(&s.servers[0].seen, "PUT /x"), 1);
	owner_finish(&o);
	site_close(&s);
}

/* ---- headers of our own ---- */

static void test_no_trace_headers_unless_asked(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP}};
	struct owner o = {.n_done = 0};
	struct site s;

	site_open(&s, steps, 1, NULL, 0);
	owner_run(&o, &s);
	assert_int_equal(count(&s.servers[0].seen, "X-B3-"), 0);
	assert_int_equal(count(&s.servers[0].seen, "sinew-timeout-ms"), 0);
	owner_finish(&o);
	site_close(&s);
}

static void test_trace_headers(void **state)
{
	static const struct step steps[] = {{BAD_4, THEN_KEEP}, {OK_5, THEN_KEEP}};
	struct sn_context ctx = {.size = sizeof(ctx),
			.trace_id = {0, 0x6e0a2b4c8d1f3057},
			.span_id = 0x1d2c3b4a59687766,
			.sampled = true,
			.deadline_ms = 9000};
	struct owner o = {.f = {.context = &ctx}};
	struct site s;

	site_open(&s, steps, 2, NULL, 0);
	mw_policies(&s.w, "{\"values\": {\"enable-zipkin\": true}}");
	owner_run(&o, &s);
	assert_int_equal(o.code, 0);
	/* Two attempts, two spans of one trace, under the same parent. */
	assert_int_equal(count(&s.servers[0].seen, "X-B3-TraceId: 6e0a2b4c8d1f3057\r\n"), 2);
	assert_int_equal(count(&s.servers[0].seen, "X-B3-ParentSpanId: 1d2c3b4a59687766\r\n"), 2);
	assert_int_equal(count(&s.servers[0].seen, "X-B3-SpanId: "), 2);
	assert_int_equal(count(&s.servers[0].seen, "X-B3-SpanId: 1d2c3b4a59687766"), 0);
	assert_int_equal(count(&s.servers[0].seen, "X-B3-Sampled: 1\r\n"), 2);
	assert_int_equal(count(&s.servers[0].seen, "sinew-timeout-ms: 9000\r\n"), 1);
	assert_int_equal(count(&s.servers[0].seen, "sinew-timeout-ms: "), 2);
	owner_finish(&o);
	site_close(&s);
}

static void test_host_header_by_policy(void **state)
{
	static const struct step steps[] = {{OK_5, THEN_KEEP}};
	struct owner first = {.n_done = 0}, second = {.n_done = 0};
	struct site s;

	site_open(&s, steps, 1, NULL, 0);
	owner_run(&first, &s);
	mw_policies(&s.w, "{\"values\": {\"host-header\": \"shop.example\"}}");
	owner_run(&second, &s); /* the way to the peer is made anew */
	assert_int_equal(count(&s.servers[0].seen, "Host: 127.0.0.1:"), 1);
	assert_int_equal(count(&s.servers[0].seen, "Host: shop.example\r\n"), 1);
	owner_finish(&first);
	owner_finish(&second);
	site_close(&s);
}

/* ---- small parts ---- */

static void test_retry_after(void **state)
{
	const uint64_t wall_ns = UINT64_C(784111777) * SN_NS_PER_S; /* 06 Nov 1994 08:49:37 */
	static const struct {
		const char *value;
		int64_t ms;
	} cases[] = {
			{"0", 0},
			{"2", 2000},
			{"", -1},
			{"-1", -1},
			{"1.5", -1},
			{"soon", -1},
			{"Sun, 06 Nov 1994 08:49:37 GMT", 0},
			{"Sun, 06 Nov 1994 08:50:37 GMT", 60000},
			{"Sun, 06 Nov 1994 08:00:00 GMT", 0},
			{"Tue, 29 Feb 2000 00:00:00 GMT", 167670623000},
			{"Sun, 06 Nov 1994 08:49:37 UTC", -1},
			{"Sun, 06 Foo 1994 08:49:37 GMT", -1},
			{"Sun, 41 Nov 1994 08:49:37 GMT", -1},
			{"Sun, 06 Nov 1994 24:49:37 GMT", -1},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++)
		assert_int_equal(sn__retry_after_ms(sn_str_from(cases[i].value), wall_ns),
				cases[i].ms);
}

static void test_outcomes(void **state)
{
	static const struct {
		struct sn_http_result res;
		enum sn_outcome_class class;
		unsigned retry_on;
	} cases[] = {
			{{.status = 200}, SN_OUTCOME_OK, 0},
			{{.status = 404}, SN_OUTCOME_OK, 0},
			{{.status = 429}, SN_OUTCOME_THROTTLED, 0},
			{{.status = 500}, SN_OUTCOME_FAILED, SN_RETRY_5XX},
			{{.status = 502}, SN_OUTCOME_FAILED, SN_RETRY_502 | SN_RETRY_5XX},
			{{.status = 503}, SN_OUTCOME_UNAVAILABLE, SN_RETRY_503 | SN_RETRY_5XX},
			{{.status = 504}, SN_OUTCOME_FAILED, SN_RETRY_504 | SN_RETRY_5XX},
			{{.code = SN_E_CONNECT, .phase = SN_PHASE_CONNECT}, SN_OUTCOME_FAILED,
					SN_RETRY_CONNECT},
			{{.code = SN_E_RESOLVE, .phase = SN_PHASE_RESOLVE}, SN_OUTCOME_FAILED,
					SN_RETRY_CONNECT},
			{{.code = SN_E_TIMEOUT, .phase = SN_PHASE_CONNECT}, SN_OUTCOME_FAILED,
					SN_RETRY_CONNECT},
			{{.code = SN_E_TLS, .phase = SN_PHASE_TLS}, SN_OUTCOME_FAILED,
					SN_RETRY_CONNECT},
			{{.code = SN_E_RESET, .phase = SN_PHASE_WAIT}, SN_OUTCOME_FAILED,
					SN_RETRY_RESET},
			{{.code = SN_E_EOF, .phase = SN_PHASE_READ}, SN_OUTCOME_FAILED,
					SN_RETRY_RESET},
			{{.code = SN_E_PROTOCOL, .phase = SN_PHASE_READ}, SN_OUTCOME_FAILED,
					SN_RETRY_RESET},
			{{.code = SN_E_TIMEOUT, .phase = SN_PHASE_READ}, SN_OUTCOME_FAILED,
					SN_RETRY_TIMEOUT},
			{{.code = SN_E_LIMIT, .phase = SN_PHASE_READ}, SN_OUTCOME_REJECTED, 0},
			{{.code = SN_E_CANCELLED, .phase = SN_PHASE_WAIT}, SN_OUTCOME_REJECTED, 0},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_outcome out;

		sn__fetch_outcome(&cases[i].res, 1234, &out);
		assert_int_equal(out.class, cases[i].class);
		assert_int_equal(out.retry_on, cases[i].retry_on);
		assert_int_equal(out.retry_after_ms,
				cases[i].res.status == 429 || cases[i].res.status >= 500 ? 1234
											 : -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_streamed_answer),
			cmocka_unit_test(test_held_head_is_dropped_for_a_better_one),
			cmocka_unit_test(test_last_held_head_is_given),
			cmocka_unit_test(test_long_held_answer_is_cut_off),
			cmocka_unit_test(test_broken_body_is_final),
			cmocka_unit_test(test_broken_body_is_retried_when_whole),
			cmocka_unit_test(test_whole_answer_stands_with_the_error),
			cmocka_unit_test(test_pause_and_resume),
			cmocka_unit_test(test_cancel),
			cmocka_unit_test(test_cancel_inside_the_head),
			cmocka_unit_test(test_owner_refuses_the_body),
			cmocka_unit_test(test_close_with_calls_in_flight),
			cmocka_unit_test(test_other_peer_after_a_timeout),
			cmocka_unit_test(test_deadline_ends_it),
			cmocka_unit_test(test_throttled),
			cmocka_unit_test(test_not_http),
			cmocka_unit_test(test_unfit_peers_are_passed_over),
			cmocka_unit_test(test_body_is_sent_again),
			cmocka_unit_test(test_body_that_comes_late),
			cmocka_unit_test(test_body_that_never_comes),
			cmocka_unit_test(test_body_larger_than_the_buffer_is_final),
			cmocka_unit_test(test_no_trace_headers_unless_asked),
			cmocka_unit_test(test_trace_headers),
			cmocka_unit_test(test_host_header_by_policy),
			cmocka_unit_test(test_retry_after),
			cmocka_unit_test(test_outcomes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
