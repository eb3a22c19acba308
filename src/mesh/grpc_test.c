/* SPDX-License-Identifier: Apache-2.0 */

/* Unary calls: what each status means to the mesh, time, retries, context, the end of it all. */

#pragma GCC diagnostic ignored "-Wunused-function"
#include "mesh/grpc_world_test.h"
#include "proto/generated/messages.pb-c.h"

static void test_ok(void **state)
{
	struct sn_grpc_metadata seen = {"x-seen", "it", 2};
	struct caller c = {.o = {.metadata = &seen, .n_metadata = 1}};
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	caller_run(&c, &s);
	assert_int_equal(c.code, 0);
	assert_int_equal(c.grpc, SN_GRPC_OK);
	assert_true(c.answered);
	assert_int_equal(c.status, 0);
	assert_string_equal(c.body, "hello");
	assert_string_equal(c.identity, "1");
	assert_int_equal(strlen(c.call_id), 16);
	assert_int_equal(c.attempts, 1);
	assert_true(c.head_ok);
	assert_true(c.trail_ok);
	assert_int_equal(c.details, 0);
	assert_string_equal(s.hosts[0].log.seen, "it");
	assert_int_equal(s.hosts[0].log.closed, 0);
	site_close(&s);
}

/* ---- statuses ---- */

static void test_every_status(void **state)
{
	static const struct {
		int code;
		bool failure; /* counts against the peer */
		bool retried; /* by default, when the method may be repeated */
	} cases[] = {
			{SN_GRPC_CANCELLED, false, false},
			{SN_GRPC_UNKNOWN, true, false},
			{SN_GRPC_INVALID_ARGUMENT, false, false},
			{SN_GRPC_DEADLINE_EXCEEDED, true, true},
			{SN_GRPC_NOT_FOUND, false, false},
			{SN_GRPC_ALREADY_EXISTS, false, false},
			{SN_GRPC_PERMISSION_DENIED, false, false},
			{SN_GRPC_RESOURCE_EXHAUSTED, false, false},
			{SN_GRPC_FAILED_PRECONDITION, false, false},
			{SN_GRPC_ABORTED, false, false},
			{SN_GRPC_OUT_OF_RANGE, false, false},
			{SN_GRPC_UNIMPLEMENTED, false, false},
			{SN_GRPC_INTERNAL, true, false},
			{SN_GRPC_UNAVAILABLE, true, true},
			{SN_GRPC_DATA_LOSS, true, false},
			{SN_GRPC_UNAUTHENTICATED, false, false},
	};

	for (size_t i = 0; i < 2 * SN_COUNT(cases); i++) {
		bool idempotent = i % 2 == 1;
		struct do_step step = {.code = cases[i / 2].code, .text = "so it is"};
		struct caller c = {.o = {.idempotent = idempotent}};
		unsigned attempts = cases[i / 2].retried && idempotent ? 3 : 1;
		char line[64];
		struct site s;

		site_open(&s, &step, 1, NULL, 0);
		caller_run(&c, &s);
		assert_int_equal(c.code, SN_E_STATUS);
		assert_int_equal(c.grpc, step.code);
		assert_true(c.answered);
		assert_int_equal(c.status, step.code);
		assert_string_equal(c.text, "so it is");
		assert_int_equal(c.details, 2);
		assert_true(c.trail_ok);
		assert_int_equal(c.size, 0);
		assert_int_equal(c.attempts, attempts);
		assert_int_equal(s.hosts[0].log.n_calls, attempts);
		assert_int_equal(mw_state(&s.w, "1")->n_failures,
				cases[i / 2].failure ? attempts : 0);
		snprintf(line, sizeof(line), "status %d %s: so it is", step.code,
				sn_grpc_code_name(step.code));
		if (strstr(c.error, line) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", c.error, line);
		site_close(&s);
	}
}

static void test_other_peer_when_unavailable(void **state)
{
	static const struct do_step away[] = {{.code = SN_GRPC_UNAVAILABLE, .text = "away"}};

	for (int i = 0; i < 8; i++) {
		struct caller c = {.o = {.idempotent = true}};
		struct site s;

		site_open(&s, away, 1, echo_steps, 1);
		caller_run(&c, &s);
		assert_int_equal(c.code, 0);
		assert_string_equal(c.identity, "2");
		assert_true(c.attempts <= 2);
		site_close(&s);
	}
}

static void test_retry_options(void **state)
{
	static const struct do_step away[] = {{.code = SN_GRPC_UNAVAILABLE}};
	static const struct {
		enum sn_retry retry;
		bool idempotent;
		const char *policies;
		unsigned attempts;
	} cases[] = {
			{SN_RETRY_POLICY, false, "{}", 1},
			{SN_RETRY_POLICY, false, "{\"values\": {\"retry-unsafe\": true}}", 3},
			{SN_RETRY_SAFE, false, "{\"values\": {\"retry-unsafe\": true}}", 1},
			{SN_RETRY_SAFE, true, "{}", 3},
			{SN_RETRY_ALL, false, "{}", 3},
			{SN_RETRY_NONE, true, "{}", 1},
			{SN_RETRY_POLICY, true, "{\"values\": {\"retry-count\": 2}}", 2},
			{SN_RETRY_POLICY, true, "{\"values\": {\"retry-on\": [\"connect\"]}}", 1},
			{SN_RETRY_POLICY, true,
					"{\"values\": {\"retry-budget\": 0, \"retry-budget-min\": 0}}",
					1},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct caller c = {
				.o = {.retry = cases[i].retry, .idempotent = cases[i].idempotent}};
		struct site s;

		site_open(&s, away, 1, NULL, 0);
		mw_policies(&s.w, cases[i].policies);
		caller_run(&c, &s);
		assert_int_equal(c.code, SN_E_STATUS);
		assert_int_equal(s.hosts[0].log.n_calls, cases[i].attempts);
		site_close(&s);
	}
}

static void test_pushback(void **state)
{
	static const struct {
		int code;
		const char *pushback;
		unsigned attempts;
		uint64_t at_least_ms, at_most_ms;
	} cases[] = {
			{SN_GRPC_UNAVAILABLE, "2500", 2, 2500},
			{SN_GRPC_UNAVAILABLE, "0", 2, 0, 20},
			{SN_GRPC_UNAVAILABLE, "-1", 1, 0},
			{SN_GRPC_UNAVAILABLE, "soon", 1, 0},
			{SN_GRPC_RESOURCE_EXHAUSTED, "1500", 2, 1500},
			{SN_GRPC_RESOURCE_EXHAUSTED, "99999999", 1, 0},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct do_step steps[] = {{.code = cases[i].code, .pushback = cases[i].pushback},
				{.code = 0}};
		struct caller c = {.o = {.idempotent = true}};
		struct site s;
		uint64_t begin;

		site_open(&s, steps, 2, NULL, 0);
		begin = sn__sim_now_ns(s.w.sim);
		caller_run(&c, &s);
		assert_int_equal(c.code, cases[i].attempts > 1 ? 0 : SN_E_STATUS);
		assert_int_equal(c.attempts, cases[i].attempts);
		assert_true(c.done_ns - begin >= cases[i].at_least_ms * SN_NS_PER_MS);
		if (cases[i].at_most_ms > 0)
			assert_true(c.done_ns - begin <= cases[i].at_most_ms * SN_NS_PER_MS);
		site_close(&s);
	}
}

static void test_breaker(void **state)
{
	static const struct do_step bad[] = {{.code = SN_GRPC_INTERNAL}};
	struct site s;

	site_open(&s, bad, 1, NULL, 0);
	for (int i = 0; i < 8; i++) {
		struct caller c = {.done = 0};

		caller_run(&c, &s);
		assert_int_equal(c.code, i < 7 ? SN_E_STATUS : SN_E_BREAKER);
		assert_int_equal(c.answered, i < 7);
		assert_int_equal(c.grpc, i < 7 ? SN_GRPC_INTERNAL : SN_GRPC_UNAVAILABLE);
	}
	assert_int_equal(s.hosts[0].log.n_calls, 7);
	site_close(&s);
}

/* ---- outcomes nobody's server can be told to produce ---- */

static void test_outcomes(void **state)
{
	struct sn_grpc_req req = {.code = SN_E_RESET};
	struct sn_outcome o;

	/* REFUSED_STREAM: never processed. */
	req.http.result.code = SN_E_RESET;
	req.http.result.sent = SN_SENT_NO;
	req.http.result.phase = SN_PHASE_WAIT;
	sn__grpc_outcome(&req, NULL, &o);
	assert_int_equal(o.class, SN_OUTCOME_FAILED);
	assert_int_equal(o.sent, SN_SENT_NO);
	assert_true(o.retry_on & SN_RETRY_RESET);
	/* The same told as a status. */
	req.code = SN_E_STATUS;
	req.status.code = SN_GRPC_UNAVAILABLE;
	sn__grpc_outcome(&req, NULL, &o);
	assert_int_equal(o.class, SN_OUTCOME_UNAVAILABLE);
	assert_int_equal(o.sent, SN_SENT_NO);
	assert_true(o.retry_on & SN_RETRY_RESET);
	/* A proxy's 503 without gRPC's status. */
	req.http.result = (struct sn_http_result){.status = 503};
	sn__grpc_outcome(&req, NULL, &o);
	assert_int_equal(o.sent, SN_SENT_YES);
	assert_int_equal(o.retry_on, SN_RETRY_UNAVAILABLE | SN_RETRY_503 | SN_RETRY_5XX);
	/* Too large an answer: no other peer's would be smaller. */
	req.status.code = SN_GRPC_RESOURCE_EXHAUSTED;
	req.http.result.code = SN_E_CANCELLED;
	sn__grpc_outcome(&req, NULL, &o);
	assert_int_equal(o.class, SN_OUTCOME_REJECTED);
	/* What came was not gRPC. */
	req.code = SN_E_PROTOCOL;
	sn__grpc_outcome(&req, NULL, &o);
	assert_int_equal(o.class, SN_OUTCOME_FAILED);
}

/* ---- reaching a peer ---- */

static void test_nobody_listens(void **state)
{
	for (int i = 0; i < 8; i++) {
		struct caller c = {.done = 0}; /* not idempotent: nothing has left */
		struct sn_addr addr;
		struct site s;

		site_open(&s, echo_steps, 1, echo_steps, 1);
		addr = site_addr(&s, 0);
		sn__sim_refuse(s.w.sim, &addr, true);
		caller_run(&c, &s);
		assert_int_equal(c.code, 0);
		assert_string_equal(c.identity, "2");
		site_close(&s);
	}
}

static void test_everybody_is_away(void **state)
{
	struct caller c = {.done = 0};
	struct sn_addr addr;
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	addr = site_addr(&s, 0);
	sn__sim_refuse(s.w.sim, &addr, true);
	caller_run(&c, &s);
	assert_int_equal(c.code, SN_E_CONNECT);
	assert_int_equal(c.grpc, SN_GRPC_UNAVAILABLE);
	assert_false(c.answered);
	assert_int_equal(c.n_story, 3);
	site_close(&s);
}

static void test_no_peer(void **state)
{
	struct caller late = {.done = 0}, none = {.done = 0};
	struct site s;

	site_begin(&s);
	caller_start(&none, &s);
	caller_wait(&none);
	assert_int_equal(none.code, SN_E_NO_PEER);
	assert_int_equal(none.grpc, SN_GRPC_UNAVAILABLE);
	caller_start(&late, &s);
	site_run(&s, 500);
	site_host(&s, echo_steps, 1);
	site_publish(&s);
	caller_wait(&late);
	assert_int_equal(late.code, 0);
	site_close(&s);
}

static void test_protocols(void **state)
{
	static const struct {
		const char *protocol;
		int code;
	} cases[] = {{"grpc", 0}, {"h2", 0}, {"http", 0}, {"gopher", SN_E_NOTSUP}};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct caller c = {.done = 0};
		struct site s;
		char json[128];

		site_open(&s, echo_steps, 1, NULL, 0);
		snprintf(json, sizeof(json),
				"{\"9\": {\"protocol\": \"%s\", \"port\": %u, \"address\": "
				"\"127.0.0.1\"}}",
				cases[i].protocol, sn_grpc_server_port(s.hosts[0].server));
		mw_peers_of(&s.w, "service", "s", json);
		caller_run(&c, &s);
		assert_int_equal(c.code, cases[i].code);
		if (cases[i].code != 0)
			assert_non_null(strstr(c.error, cases[i].protocol));
		site_close(&s);
	}
}

static void test_connection_breaks(void **state)
{
	static const struct do_step hold[] = {{.hold = true}, {.code = 0}};

	for (int idempotent = 0; idempotent < 2; idempotent++) {
		struct caller c = {.o = {.idempotent = idempotent}};
		struct sn_addr addr;
		struct site s;

		site_open(&s, hold, 2, NULL, 0);
		caller_start(&c, &s);
		site_run(&s, 50);
		assert_int_equal(s.hosts[0].log.n_calls, 1);
		addr = site_addr(&s, 0);
		sn__sim_break(s.w.sim, &addr);
		caller_wait(&c);
		assert_int_equal(c.grpc, idempotent ? SN_GRPC_OK : SN_GRPC_UNAVAILABLE);
		assert_int_equal(s.hosts[0].log.n_calls, idempotent ? 2 : 1);
		assert_int_equal(s.hosts[0].log.n_closed, idempotent ? 2 : 1);
		site_close(&s);
	}
}

/* ---- time ---- */

static const struct do_step hold_steps[] = {{.hold = true}};

static void test_deadline(void **state)
{
	struct caller c = {.o = {.deadline_ms = 300, .idempotent = true}};
	struct site s;
	uint64_t begin;

	site_open(&s, hold_steps, 1, NULL, 0);
	begin = sn__sim_now_ns(s.w.sim);
	caller_run(&c, &s);
	assert_int_equal(c.grpc, SN_GRPC_DEADLINE_EXCEEDED);
	assert_true(c.done_ns - begin <= 350 * SN_NS_PER_MS);
	/* The server was told. */
	assert_true(s.hosts[0].log.context.deadline_ms > 250);
	assert_true(s.hosts[0].log.context.deadline_ms <= 300);
	site_run(&s, 100);
	assert_int_equal(s.hosts[0].log.n_closed, 1);
	assert_true(s.hosts[0].log.closed == SN_E_DEADLINE ||
			s.hosts[0].log.closed == SN_E_CANCELLED);
	site_close(&s);
}

/* The server does not keep time: our own clock does. */
static void test_deadline_of_a_stalled_peer(void **state)
{
	struct caller first = {.done = 0}, c = {.o = {.deadline_ms = 300}};
	struct sn_addr addr;
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	caller_run(&first, &s);
	addr = site_addr(&s, 0);
	sn__sim_stall(s.w.sim, &addr, true);
	caller_run(&c, &s);
	assert_int_equal(c.code, SN_E_DEADLINE);
	assert_int_equal(c.grpc, SN_GRPC_DEADLINE_EXCEEDED);
	sn__sim_stall(s.w.sim, &addr, false);
	site_close(&s);
}

static void test_timeout_of_an_attempt(void **state)
{
	for (int i = 0; i < 8; i++) {
		struct caller c = {.o = {.timeout_ms = 100, .idempotent = true}};
		struct site s;

		site_open(&s, hold_steps, 1, echo_steps, 1);
		caller_run(&c, &s);
		assert_int_equal(c.code, 0);
		assert_string_equal(c.identity, "2");
		if (s.hosts[0].log.n_calls > 0) /* grpc-timeout is the attempt's */
			assert_true(s.hosts[0].log.context.deadline_ms <= 100);
		site_close(&s);
	}
}

static void test_context(void **state)
{
	struct sn_context context = {.size = sizeof(context),
			.deadline_ms = 200,
			.trace_id = {7, 9},
			.span_id = 3,
			.sampled = true};
	struct caller c = {.o = {.context = &context}}, root = {.done = 0};
	const struct sn_context *seen;
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	seen = &s.hosts[0].log.context;
	caller_run(&c, &s);
	assert_int_equal(c.code, 0);
	assert_true(seen->deadline_ms > 150 && seen->deadline_ms <= 200);
	mw_policies(&s.w, "{\"values\": {\"enable-zipkin\": true}}");
	c.done = 0;
	caller_run(&c, &s);
	assert_int_equal(seen->trace_id[0], 7);
	assert_int_equal(seen->trace_id[1], 9);
	assert_int_equal(seen->parent_span_id, 3);
	assert_true(seen->span_id != 0 && seen->span_id != 3);
	caller_run(&root, &s);
	assert_true(seen->trace_id[1] != 0 && seen->trace_id[1] != 9);
	site_close(&s);
}

/* ---- the caller changes its mind ---- */

static void test_cancel(void **state)
{
	struct caller c = {.done = 0};
	struct site s;

	for (int i = 0; i < 3; i++) { /* at once, under way, answered long ago */
		site_open(&s, i < 2 ? hold_steps : echo_steps, 1, NULL, 0);
		c = (struct caller){.done = 0};
		caller_start(&c, &s);
		if (i > 0)
			site_run(&s, 50);
		sn_grpc_cancel(&s.rt, c.id);
		sn_grpc_cancel(&s.rt, c.id);
		sn_grpc_cancel(&s.rt, (struct sn_call_id){UINT64_MAX});
		site_run(&s, 50);
		assert_int_equal(c.done, 1);
		assert_int_equal(c.code, i < 2 ? SN_E_CANCELLED : 0);
		assert_int_equal(s.hosts[0].log.n_closed, s.hosts[0].log.n_calls);
		if (i == 1)
			assert_int_equal(s.hosts[0].log.closed, SN_E_CANCELLED);
		assert_int_equal(mw_state(&s.w, "1")->n_failures, 0);
		site_close(&s);
	}
}

static void test_close_ends_calls(void **state)
{
	struct caller calls[3] = {{.done = 0}}, late = {.done = 0};
	struct sn_error *err = NULL;
	struct site s;

	site_open(&s, hold_steps, 1, NULL, 0);
	for (int i = 0; i < 3; i++)
		caller_start(&calls[i], &s);
	site_run(&s, 50);
	sn__mesh_close(s.w.mesh, mw_on_closed, &s.w);
	assert_int_equal(caller_try(&late, &s, &err), SN_E_CLOSED);
	assert_int_equal(sn_error_code(err), SN_E_CLOSED);
	sn_error_destroy(err);
	site_run(&s, 50);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(calls[i].done, 1);
		assert_int_equal(calls[i].code, SN_E_CLOSED);
	}
	site_close(&s);
	assert_int_equal(late.done, 0);
}

/* ---- messages ---- */

static void test_large_messages(void **state)
{
	char *big = test_malloc(3 << 20);
	struct site s;

	memset(big, 'x', 3 << 20);
	site_open(&s, echo_steps, 1, NULL, 0);
	for (int i = 0; i < 4; i++) {
		struct caller c = {.o = {.bytes = big,
						   .bytes_size = 3 << 20,
						   .gzip = i % 2 == 1,
						   .max_message = i < 2 ? 0 : 1 << 20}};

		caller_run(&c, &s);
		if (i < 2) {
			assert_int_equal(c.code, 0);
			assert_int_equal(c.size, 3 << 20);
		} else {
			assert_int_equal(c.grpc, SN_GRPC_RESOURCE_EXHAUSTED);
		}
	}
	assert_int_equal(
			s.hosts[0].log.n_calls, 4); /* too large an answer is not asked for again */
	assert_int_equal(mw_state(&s.w, "1")->n_failures, 0);
	site_close(&s);
	test_free(big);
}

/* A request as large as the server allows; over that it is refused. */
static void test_very_large_request(void **state)
{
	static const struct do_step heard[] = {{.code = SN_GRPC_ABORTED}};
	struct sn_grpc_server_options o = {
			.size = sizeof(o), .listen = "127.0.0.1:0", .max_message = 30 << 20};
	char *big = test_malloc((30 << 20) + 1);
	struct site s;

	memset(big, 'x', (30 << 20) + 1);
	site_begin(&s);
	o.services = s.hosts[0].services;
	host_open_with(&s, &s.hosts[0], heard, 1, &o);
	s.n_hosts = 1;
	site_publish(&s);
	for (int over = 0; over < 2; over++) {
		struct caller c = {.o = {.bytes = big, .bytes_size = (30 << 20) + over}};

		caller_run(&c, &s);
		assert_int_equal(c.grpc, over ? SN_GRPC_RESOURCE_EXHAUSTED : SN_GRPC_ABORTED);
	}
	site_close(&s);
	test_free(big);
}

static void message_done(const struct sn_grpc_answer *a, const struct sn_error *err, void *arg)
{
	struct ProtobufCMessage *m;

	assert_null(err);
	assert_int_equal(sn_grpc_answer_unpack(a, &grpc__testing__simple_request__descriptor, &m),
			0);
	*(int *)arg = ((Grpc__Testing__SimpleRequest *)m)->response_size;
	sn_grpc_message_free(m);
}

static void test_messages_of_protobuf(void **state)
{
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	struct site s;
	int got = 0;

	request.response_size = 77;
	site_open(&s, echo_steps, 1, NULL, 0);
	assert_int_equal(sn_grpc_call(&s.rt, "service", "s", "default", "/t.S/Do", &request.base,
					 NULL, message_done, &got, NULL, NULL),
			0);
	site_run(&s, 100);
	assert_int_equal(got, 77);
	site_close(&s);
}

static void test_unknown_method(void **state)
{
	struct caller c = {.site = NULL};
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	c.site = &s;
	assert_int_equal(sn_grpc_call(&s.rt, "service", "s", NULL, "/t.S/Nothing", NULL, NULL,
					 caller_done, &c, NULL, NULL),
			0);
	caller_wait(&c);
	assert_int_equal(c.grpc, SN_GRPC_UNIMPLEMENTED);
	assert_int_equal(mw_state(&s.w, "1")->n_failures, 0);
	site_close(&s);
}

static void test_invalid(void **state)
{
	static const struct {
		const char *kind, *name, *endpoint, *method, *why;
	} cases[] = {
			{"thing", "s", NULL, "/a/b", "unknown kind"},
			{"database", "s", NULL, "/a/b", "not to a database"},
			{"service", "", NULL, "/a/b", "name"},
			{"service", "s", "", "/a/b", "endpoint"},
			{"service", "s", NULL, "a.B/c", "method"},
	};
	struct sn_error *err;
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		err = NULL;
		assert_int_equal(sn_grpc_call(&s.rt, cases[i].kind, cases[i].name,
						 cases[i].endpoint, cases[i].method, NULL, NULL,
						 caller_done, NULL, NULL, &err),
				SN_E_INVALID);
		assert_non_null(strstr(sn_error_text(err), cases[i].why));
		sn_error_destroy(err);
		assert_int_equal(sn_grpc_call(&s.rt, cases[i].kind, cases[i].name,
						 cases[i].endpoint, cases[i].method, NULL, NULL,
						 caller_done, NULL, NULL, NULL),
				SN_E_INVALID);
	}
	site_close(&s);
}

/* ---- what is written down ---- */

static void test_recorder_and_metrics(void **state)
{
	static const struct do_step away[] = {{.code = SN_GRPC_UNAVAILABLE, .text = "away"}};
	struct caller c = {.o = {.idempotent = true}};
	struct sn_record record;
	struct sn_buf out;
	struct site s;
	uint64_t id;

	site_open(&s, away, 1, NULL, 0);
	caller_run(&c, &s);
	assert_int_equal(sn__call_id_parse(sn_str_from(c.call_id), &id), 0);
	assert_int_equal(sn__recorder_find(s.w.recorder, id, &record, NULL), 0);
	assert_string_equal(record.what, "/t.S/Do");
	assert_int_equal(record.attempts, 3);
	assert_int_equal(record.n_attempts, 3);
	assert_string_equal(record.attempts_kept[0].detail, "status 14 UNAVAILABLE: away");
	assert_int_equal(record.attempts_kept[0].foreign, 14);
	sn__buf_init(&out, 1 << 20);
	assert_int_equal(sn__metrics_render(s.w.metrics, &out), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_non_null(strstr(sn__buf_data(&out), "outcome=\"status\"} 1"));
	assert_non_null(strstr(sn__buf_data(&out), "reason=\"unavailable\"} 2"));
	sn__buf_finish(&out);
	site_close(&s);
}

/* ---- memory ---- */

static void test_no_allocation_of_our_own(void **state)
{
	uint64_t before = 0, first = 0;
	struct site s;

	/* What the transport takes a call is its own affair, and the same each time. */
	site_open(&s, echo_steps, 1, NULL, 0);
	for (int i = 0; i < 300; i++) {
		struct caller c = {.done = 0};

		before = sn__mem_count();
		caller_run(&c, &s);
		if (i == 200)
			first = sn__mem_count() - before;
		if (i > 200)
			assert_true(sn__mem_count() - before <= first + 2);
	}
	site_close(&s);
}

static void test_out_of_memory(void **state)
{
	static const struct do_step steps[] = {
			{.code = SN_GRPC_UNAVAILABLE, .text = "away"}, {.code = 0}};
	bool more = true;

	for (uint64_t n = 1; more; n++) {
		struct sn_grpc_metadata meta = {"x-seen", "it", 2};
		struct caller c = {.o = {.idempotent = true, .metadata = &meta, .n_metadata = 1}};
		struct site s;
		int r;

		site_open(&s, steps, 2, NULL, 0);
		sn__mem_fail_nth(n);
		r = caller_try(&c, &s, NULL);
		if (r == 0)
			caller_wait(&c);
		else
			assert_true(sn__mem_failed());
		more = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (!more)
			assert_int_equal(c.code, 0);
		site_close(&s); /* looks for leaks */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_ok),
			cmocka_unit_test(test_every_status),
			cmocka_unit_test(test_other_peer_when_unavailable),
			cmocka_unit_test(test_retry_options),
			cmocka_unit_test(test_pushback),
			cmocka_unit_test(test_breaker),
			cmocka_unit_test(test_outcomes),
			cmocka_unit_test(test_nobody_listens),
			cmocka_unit_test(test_everybody_is_away),
			cmocka_unit_test(test_no_peer),
			cmocka_unit_test(test_protocols),
			cmocka_unit_test(test_connection_breaks),
			cmocka_unit_test(test_deadline),
			cmocka_unit_test(test_deadline_of_a_stalled_peer),
			cmocka_unit_test(test_timeout_of_an_attempt),
			cmocka_unit_test(test_context),
			cmocka_unit_test(test_cancel),
			cmocka_unit_test(test_close_ends_calls),
			cmocka_unit_test(test_large_messages),
			cmocka_unit_test(test_very_large_request),
			cmocka_unit_test(test_messages_of_protobuf),
			cmocka_unit_test(test_unknown_method),
			cmocka_unit_test(test_invalid),
			cmocka_unit_test(test_recorder_and_metrics),
			cmocka_unit_test(test_no_allocation_of_our_own),
			cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
