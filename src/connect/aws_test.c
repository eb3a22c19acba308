/* SPDX-License-Identifier: Apache-2.0 */
/* Signed requests and what their answers mean. */
#include "connect/aws_world_test.h"

#define HERE "{" KEYS ",\"endpoint\":\"http://127.0.0.1:8000\"}"
/* An answer with @body. */
static const char *answer(const char *status, const char *headers, const char *body)
{
	static char text[8][1024];
	static unsigned at;
	char *out = text[at++ % 8];

	(void)snprintf(out, sizeof text[0],
			"HTTP/1.1 %s X\r\nx-amzn-RequestId: R2\r\n%sContent-Length: %zu\r\n\r\n%s",
			status, headers, strlen(body), body);
	return out;
}

static void good(void **state)
{
	static const struct step step = {GOOD, THEN_KEEP};
	struct aws_world w;
	struct ask a;

	world_open(&w, &step, 1);
	assert_int_equal(world_aws(&w, HERE, NULL), 0);
	assert_string_equal(sn__aws_endpoint(w.aws), "http://127.0.0.1:8000");
	for (int i = 0; i < 3; i++) {
		ask_run(&w, &a);
		assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
		assert_int_equal(a.req.outcome.code, 0);
		assert_int_equal(a.req.status, 200);
		assert_string_equal(a.req.request_id, "R1");
		assert_string_equal(a.req.type, "");
		assert_true(sn_str_eq(sn__buf_str(&a.req.answer), SN_STR("{}")));
		ask_finish(&a);
	}
	assert_int_equal(w.script.n_accepted, 1);
	assert_true(world_saw(&w, "POST / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"));
	assert_true(world_saw(&w, "Content-Type: application/x-amz-json-1.0\r\n"));
	assert_true(world_saw(&w, "X-Amz-Target: DynamoDB_20120810.PutItem\r\n"));
	assert_true(world_saw(&w,
			"/eu-north-1/dynamodb/aws4_request, SignedHeaders="
			"content-type;host;x-amz-date;x-amz-target, Signature="));
	assert_false(world_saw(&w, "wJalr"));
	assert_string_equal(w.logged, "");
	world_close(&w);
}

/* The signature is the one that anybody makes of what arrived. */
static void signature(void **state)
{
	static const struct step step = {GOOD, THEN_KEEP};
	struct sn_sigv4_key key;
	struct sn_sigv4 s;
	struct sn_http_header h[8];
	struct sn_sigv4_request req = {
			.method = SN_STR("POST"), .path = SN_STR("/a%20b/"), .headers = h};
	struct aws_world w;
	struct sn_buf out;
	struct ask a;
	char seen[2048], *line, *save;
	struct sn_str sent = {0};
	char date[SN_SIGV4_DATE] = "";

	world_open(&w, &step, 1);
	assert_int_equal(
			world_aws(&w,
					"{\"region\":\"r\",\"accessKeyId\":\"A\",\"secretAccessKey\":"
					"\"S\",\"sessionToken\":\"T\\/\",\"endpoint\":"
					"\"http://127.0.0.1:8000/a%20b/\"}",
					NULL),
			0);
	ask_run(&w, &a);
	ask_finish(&a);
	(void)snprintf(seen, sizeof seen, "%.*s", (int)w.script.seen.len,
			sn__buf_data(&w.script.seen));
	for (line = strtok_r(seen, "\r\n", &save); line != NULL;
			line = strtok_r(NULL, "\r\n", &save)) {
		char *colon = strstr(line, ": ");
		struct sn_http_header one;

		if (colon == NULL)
			continue;
		one.name = (struct sn_str){line, (size_t)(colon - line)};
		one.value = sn_str_from(colon + 2);
		if (sn_str_eq(one.name, SN_STR("Authorization")))
			sent = one.value;
		else if (!sn_str_eq(one.name, SN_STR("Content-Length")))
			h[req.n_headers++] = one;
		if (sn_str_eq(one.name, SN_STR("X-Amz-Date")))
			(void)snprintf(date, sizeof date, "%s", colon + 2);
	}
	assert_int_equal(req.n_headers, 5);
	assert_int_equal(sn__sigv4_init(&s), 0);
	assert_int_equal(sn__sigv4_key(&s, SN_STR("S"), sn_str_from(date), SN_STR("r"),
					 SN_STR("dynamodb"), &key),
			0);
	assert_int_equal(sn__sigv4_hash(&s, SN_STR("{\"a\":1}"), req.payload), 0);
	sn__buf_init(&out, 4096);
	assert_int_equal(sn__sigv4_authorization(&s, &key, SN_STR("A"), date, &req, &out), 0);
	assert_true(sn_str_eq(sn__buf_str(&out), sent));
	assert_non_null(memmem(sent.ptr, sent.len, "x-amz-security-token", 20));
	assert_true(world_saw(&w, "X-Amz-Security-Token: T/\r\n"));
	sn__buf_finish(&out);
	sn__sigv4_finish(&s);
	world_close(&w);
}

struct expect {
	const char *status, *headers, *body;
	enum sn_outcome_class class;
	int code;
	unsigned retry_on;
	enum sn_sent sent;
	const char *type, *message, *detail;
};

static const struct expect table[] = {
		{"400", "",
				"{\"__type\":\"com.amazonaws.dynamodb.v20120810#"
				"ResourceNotFoundException\",\"message\":\"no table\"}",
				SN_OUTCOME_REJECTED, SN_E_REJECTED, 0, SN_SENT_YES,
				"ResourceNotFoundException", "no table",
				"ResourceNotFoundException"},
		{"400", "x-amzn-ErrorType: ValidationException:http://x/\r\n", "",
				SN_OUTCOME_REJECTED, SN_E_REJECTED, 0, SN_SENT_YES,
				"ValidationException", "", "ValidationException"},
		{"400", "", "{\"__type\":\"a#ProvisionedThroughputExceededException\"}",
				SN_OUTCOME_THROTTLED, SN_E_STATUS, SN_RETRY_429 | SN_RETRY_5XX,
				SN_SENT_NO, "ProvisionedThroughputExceededException", "",
				"ProvisionedThroughputExceededException"},
		{"503", "", "{\"__type\":\"a#ThrottlingException\"}", SN_OUTCOME_THROTTLED,
				SN_E_STATUS, SN_RETRY_429 | SN_RETRY_5XX, SN_SENT_NO,
				"ThrottlingException", "", "ThrottlingException"},
		{"429", "Retry-After: 3\r\n", "slow", SN_OUTCOME_THROTTLED, SN_E_STATUS,
				SN_RETRY_429 | SN_RETRY_5XX, SN_SENT_NO, "", "", "status 429"},
		{"500", "", "{\"__type\":\"a#InternalServerError\",\"Message\":\"m\"}",
				SN_OUTCOME_FAILED, SN_E_STATUS, SN_RETRY_5XX, SN_SENT_YES,
				"InternalServerError", "m", "InternalServerError"},
		{"503", "", "<html>", SN_OUTCOME_UNAVAILABLE, SN_E_STATUS,
				SN_RETRY_503 | SN_RETRY_5XX, SN_SENT_YES, "", "", "status 503"},
		{"307", "Location: /\r\n", "", SN_OUTCOME_REJECTED, SN_E_REJECTED, 0, SN_SENT_YES,
				"", "", "status 307"},
		/* Not ours to repair: a wrong secret; a clock the service says nothing of. */
		{"400", "",
				"{\"__type\":\"a#InvalidSignatureException\",\"message\":\"does not "
				"match\"}",
				SN_OUTCOME_REJECTED, SN_E_REJECTED, 0, SN_SENT_YES,
				"InvalidSignatureException", "does not match",
				"InvalidSignatureException"},
		{"403", "", "{\"__type\":\"RequestTimeTooSkewed\"}", SN_OUTCOME_REJECTED,
				SN_E_REJECTED, 0, SN_SENT_YES, "RequestTimeTooSkewed", "",
				"RequestTimeTooSkewed"},
		/* Credentials of the config do not change. */
		{"400", "", "{\"__type\":\"a#ExpiredTokenException\"}", SN_OUTCOME_REJECTED,
				SN_E_REJECTED, 0, SN_SENT_YES, "ExpiredTokenException", "",
				"ExpiredTokenException"},
		{"200", "x-amz-crc32: 1\r\n", "{}", SN_OUTCOME_FAILED, SN_E_PROTOCOL,
				SN_RETRY_RESET, SN_SENT_YES, "", "",
				"the answer is not what its checksum says"},
		{"200", "Content-Encoding: gzip\r\n", "xx", SN_OUTCOME_FAILED, SN_E_PROTOCOL,
				SN_RETRY_RESET, SN_SENT_YES, "", "",
				"the answer is encoded, which was not asked for"},
};

static void refusals(void **state)
{
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		const struct expect *e = &table[i];
		const struct step step = {answer(e->status, e->headers, e->body), THEN_KEEP};
		struct aws_world w;
		struct ask a;

		world_open(&w, &step, 1);
		assert_int_equal(world_aws(&w, HERE, NULL), 0);
		ask_run(&w, &a);
		assert_int_equal(a.req.outcome.class, e->class);
		assert_int_equal(a.req.outcome.code, e->code);
		assert_int_equal(a.req.outcome.retry_on, e->retry_on);
		assert_int_equal(a.req.outcome.sent, e->sent);
		assert_int_equal(a.req.outcome.retry_after_ms,
				strstr(e->headers, "Retry-After") != NULL ? 3000 : -1);
		assert_string_equal(a.req.type, e->type);
		assert_string_equal(a.req.message, e->message);
		assert_string_equal(a.req.outcome.detail, e->detail);
		assert_string_equal(a.req.request_id, "R2");
		assert_true(sn_str_eq(sn__buf_str(&a.req.answer), sn_str_from(e->body)));
		assert_int_equal(w.script.n_requests, 1);
		ask_finish(&a);
		world_close(&w);
	}
}

static void transport(void **state)
{
	static const struct step close = {NULL, THEN_CLOSE},
				 half = {"HTTP/1.1 200 OK\r\n"
					 "Content-Length: 9\r\n\r\n{",
						 THEN_CLOSE};
	struct aws_world w;
	struct ask a;

	world_open(&w, &close, 1);
	assert_int_equal(world_aws(&w, HERE, NULL), 0);
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_FAILED);
	assert_int_equal(a.req.outcome.sent, SN_SENT_MAYBE);
	assert_int_equal(a.req.outcome.retry_on, SN_RETRY_RESET);
	assert_int_equal(a.req.status, 0);
	w.script.steps = &half;
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_FAILED);
	assert_int_equal(a.req.outcome.sent, SN_SENT_YES);
	ask_finish(&a);
	sn__sim_refuse(w.sim, &w.script.addr, true);
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_FAILED);
	assert_int_equal(a.req.outcome.sent, SN_SENT_NO);
	assert_int_equal(a.req.outcome.retry_on, SN_RETRY_CONNECT);
	world_close(&w);
}

static void too_large(void **state)
{
	static const struct step steps[] = {{"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"
					     "0123456789a",
							    THEN_KEEP},
			{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			 "b\r\n0123456789a\r\n0\r\n\r\n",
					THEN_KEEP}};
	struct aws_world w;
	struct ask a;

	world_open(&w, steps, 2);
	assert_int_equal(world_aws(&w, HERE, NULL), 0);
	for (int i = 0; i < 2; i++) {
		ask_init(&a, "Scan", "{}");
		a.req.max_response = 10;
		assert_int_equal(ask_start(&w, &a), 0);
		turn_until(&w, &a.done);
		assert_int_equal(a.req.outcome.class, SN_OUTCOME_REJECTED);
		assert_int_equal(a.req.outcome.code, SN_E_LIMIT);
		assert_string_equal(a.req.outcome.detail, "the answer is larger than 10 bytes");
		ask_finish(&a);
	}
	world_close(&w);
}

/* Date of the service, @ahead seconds before ours. */
static const char *skewed(struct aws_world *w, const char *type, int ahead)
{
	time_t t = (time_t)(sn__loop_wall_ns(w->client) / SN_NS_PER_S) + ahead;
	char header[64], body[200];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(header, sizeof header, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
	(void)snprintf(body, sizeof body,
			"{\"__type\":\"x#%s\",\"message\":\"Signature expired: a\"}", type);
	return answer("400", header, body);
}

static void clock_is_corrected_once(void **state)
{
	struct step steps[] = {
			{NULL, THEN_KEEP}, {GOOD, THEN_KEEP}, {NULL, THEN_KEEP}, {NULL, THEN_KEEP}};
	char want[64], date[SN_SIGV4_DATE];
	struct aws_world w;
	struct ask a;

	world_open(&w, steps, 4);
	assert_int_equal(world_aws(&w, HERE, NULL), 0);
	steps[0].answer = skewed(&w, "InvalidSignatureException", 3600);
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
	assert_int_equal(w.script.n_requests, 2);
	ask_finish(&a);
	sn__sigv4_date(sn__loop_wall_ns(w.client) + 3600 * SN_NS_PER_S, date);
	(void)snprintf(want, sizeof want, "X-Amz-Date: %.11s", date);
	assert_true(world_saw(&w, want));
	/* The offset stays; a service that says the same again is believed once. */
	steps[2].answer = skewed(&w, "RequestTimeTooSkewed", -7200);
	steps[3].answer = skewed(&w, "RequestTimeTooSkewed", 90000);
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_REJECTED);
	assert_string_equal(a.req.type, "RequestTimeTooSkewed");
	assert_int_equal(w.script.n_requests, 4);
	ask_finish(&a);
	world_close(&w);
}

/* When its clock is ours, another signature by the clock cannot help. */
static void clock_is_right(void **state)
{
	struct step step = {NULL, THEN_KEEP};
	struct aws_world w;
	struct ask a;

	world_open(&w, &step, 1);
	assert_int_equal(world_aws(&w, HERE, NULL), 0);
	step.answer = skewed(&w, "InvalidSignatureException", 10);
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_REJECTED);
	assert_int_equal(w.script.n_requests, 1);
	ask_finish(&a);
	world_close(&w);
}

static void cancelled(void **state)
{
	static const struct step step = {NULL, THEN_STALL};
	static const int codes[] = {SN_E_CANCELLED, SN_E_TIMEOUT};
	struct aws_world w;
	struct ask a;

	world_open(&w, &step, 1);
	assert_int_equal(world_aws(&w, HERE, NULL), 0);
	for (int i = 0; i < 2; i++) {
		ask_init(&a, "GetItem", "{}");
		assert_int_equal(ask_start(&w, &a), 0);
		for (int k = 0; k < 20; k++)
			(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
		assert_int_equal(w.script.n_requests, i + 1);
		sn__aws_cancel(&a.req, codes[i]);
		assert_false(a.done);
		turn_until(&w, &a.done);
		assert_int_equal(a.req.outcome.code, codes[i]);
		assert_int_equal(a.req.outcome.class,
				i == 0 ? SN_OUTCOME_REJECTED : SN_OUTCOME_FAILED);
	}
	world_close(&w);
}

static void closed_while_busy(void **state)
{
	static const struct step step = {NULL, THEN_STALL};
	struct aws_world w;
	struct ask a, b;

	world_open(&w, &step, 1);
	assert_int_equal(world_aws(&w, HERE, NULL), 0);
	ask_init(&a, "GetItem", "{}");
	ask_init(&b, "GetItem", "{}");
	assert_int_equal(ask_start(&w, &a), 0);
	assert_int_equal(ask_start(&w, &b), 0);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
	sn__aws_close(w.aws, on_flag, &w.aws_gone);
	assert_false(a.done || b.done || w.aws_gone);
	assert_int_equal(sn__aws_start(w.aws, &(struct sn_aws_req){.operation = SN_STR("X")}, NULL),
			SN_E_CLOSED);
	turn_until(&w, &w.aws_gone);
	assert_true(a.done && b.done);
	assert_int_equal(a.req.outcome.code, SN_E_CLOSED);
	assert_int_equal(b.req.outcome.code, SN_E_CLOSED);
	w.aws = NULL;
	world_close(&w);
}

static void wrong_operations(void **state)
{
	static const struct step step = {GOOD, THEN_KEEP};
	static const char *const names[] = {"", "Put Item", "Put\r\nX: y", "Put-Item"};
	char name[200];
	struct sn_error err;
	struct aws_world w;
	struct ask a;

	world_open(&w, &step, 1);
	assert_int_equal(world_aws(&w, HERE, NULL), 0);
	for (size_t i = 0; i < SN_COUNT(names); i++) {
		ask_init(&a, names[i], "{}");
		assert_int_equal(sn__aws_start(w.aws, &a.req, &err), SN_E_INVALID);
		assert_null(strstr(err.text, "\r"));
	}
	memset(name, 'a', sizeof name);
	name[sizeof name - 1] = '\0';
	ask_init(&a, name, "{}");
	assert_int_equal(sn__aws_start(w.aws, &a.req, &err), SN_E_INVALID);
	assert_false(a.done);
	world_close(&w);
}

static void long_path(void **state)
{
	static const struct step step = {GOOD, THEN_KEEP};
	static char config[2000];
	struct sn_error err;
	struct aws_world w;

	world_open(&w, &step, 1);
	(void)snprintf(config, sizeof config,
			"{" KEYS ",\"endpoint\":\"http://127.0.0.1:8000/%01000d\"}", 0);
	assert_int_equal(world_aws(&w, config, &err), SN_E_INVALID);
	assert_string_equal(err.text, "endpoint: its path is too long");
	world_close(&w);
}

/* Every allocation fails once, from opening to the answer. */
static void want_of_memory(void **state)
{
	static const struct step step = {GOOD, THEN_KEEP};
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct aws_world w;
		struct ask a;
		int r;

		assert_true(n < 200);
		world_open(&w, &step, 1);
		ask_init(&a, "PutItem", "{}");
		sn__mem_fail_nth(n);
		r = world_aws(&w, HERE, NULL);
		if (r == 0)
			r = ask_start(&w, &a);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r < 0) {
			assert_int_equal(r, SN_E_NOMEM);
			assert_false(a.done);
		} else {
			turn_until(&w, &a.done);
			if (a.req.outcome.code != 0)
				assert_int_equal(a.req.outcome.code, SN_E_NOMEM);
			assert_true(failed || a.req.outcome.code == 0);
			ask_finish(&a);
		}
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup(good, clear_vars),
			cmocka_unit_test_setup(signature, clear_vars),
			cmocka_unit_test_setup(refusals, clear_vars),
			cmocka_unit_test_setup(transport, clear_vars),
			cmocka_unit_test_setup(too_large, clear_vars),
			cmocka_unit_test_setup(clock_is_corrected_once, clear_vars),
			cmocka_unit_test_setup(clock_is_right, clear_vars),
			cmocka_unit_test_setup(cancelled, clear_vars),
			cmocka_unit_test_setup(closed_while_busy, clear_vars),
			cmocka_unit_test_setup(wrong_operations, clear_vars),
			cmocka_unit_test_setup(long_path, clear_vars),
			cmocka_unit_test_setup(want_of_memory, clear_vars),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
