/* SPDX-License-Identifier: Apache-2.0 */

/* The driver by its table, as the core uses it, on the simulated network. */

#include "connect/aws_driver.h"
#include "connect/aws_world_test.h"
#include "connect/database/dynamodb_params.h"
#include "connect/driver.h"

extern const struct sn_driver sn__driver_database_dynamodb;
#define DRIVER (&sn__driver_database_dynamodb)
#define HERE "{" KEYS ",\"endpoint\":\"http://127.0.0.1:8000\"}"

struct bench {
	struct aws_world w;
	struct sn_connect_host host;
	struct sn_driver_open how;
	void *instance;
	bool closed;
};

static void bench_open(struct bench *b, const struct step *step)
{
	memset(b, 0, sizeof(*b));
	world_open(&b->w, step, 1);
	b->host = (struct sn_connect_host){
			.loop = b->w.client, .pool = b->w.pool, .log = &b->w.log};
	sn__connect_host_init(&b->host);
	b->instance = sn__calloc(1, DRIVER->state_size);
	b->how = (struct sn_driver_open){
			.size = sizeof(b->how), .host = &b->host.pub, .resource = "contacts"};
	b->how.config = HERE;
}

static void bench_close(struct bench *b, bool opened)
{
	if (opened) {
		DRIVER->close(b->instance, on_flag, &b->closed);
		assert_false(b->closed);
		turn_until(&b->w, &b->closed);
		DRIVER->finish(b->instance);
	}
	sn__free(b->instance);
	world_close(&b->w);
}

struct one {
	struct sn_driver_call call;
	bool done;
	struct sn_driver_outcome outcome;
	char result[200], type[96];
};

static void on_done(struct sn_driver_call *call)
{
	struct one *o = SN_CONTAINER_OF(call, struct one, call);

	assert_false(o->done);
	o->done = true;
	o->outcome = call->outcome;
	snprintf(o->result, sizeof(o->result), "%.*s", (int)call->result_size,
			call->result_size > 0 ? call->result : "");
	snprintf(o->type, sizeof(o->type), "%s", call->type);
	sn__free(call->state);
	call->state = NULL;
}

static int one_start(struct bench *b, struct one *o, const char *operation, const char *params)
{
	const struct sn_driver_operation *op;
	int r;

	memset(o, 0, sizeof(*o));
	assert_int_equal(sn__driver_operation(DRIVER, sn_str_from(operation), &op, NULL), 0);
	o->call = (struct sn_driver_call){.operation = op,
			.params = params,
			.params_size = strlen(params),
			.done = on_done,
			.state = sn__calloc(1, DRIVER->calls->state_size),
			.outcome = {.retry_after_ms = -1}};
	if (o->call.state == NULL)
		return SN_E_NOMEM;
	r = DRIVER->calls->start(b->instance, &o->call);
	assert_false(o->done);
	if (r < 0)
		sn__free(o->call.state);
	return r;
}

static const struct step good = {GOOD, THEN_KEEP};

static void a_table_of_a_peer(void **state)
{
	struct sn_error err;
	struct bench b;
	struct one o;

	(void)state;
	if (sn__driver_check(DRIVER, &err) < 0)
		fail_msg("%s", err.text);
	bench_open(&b, &good);
	assert_int_equal(DRIVER->open(b.instance, &b.how), 0);
	assert_int_equal(one_start(&b, &o, "PutItem", "{\"TableName\":\"x\",\"Item\":{}}"), 0);
	turn_until(&b.w, &o.done);
	assert_int_equal(o.outcome.verdict, SN_DRIVER_OK);
	assert_string_equal(o.result, "{}");
	assert_true(world_saw(&b.w, "X-Amz-Target: DynamoDB_20120810.PutItem\r\n"));
	assert_true(world_saw(&b.w, "\r\n\r\n{\"TableName\":\"contacts\",\"Item\":{}}"));
	/* What cannot be sent is told at once, and nothing follows. */
	assert_int_equal(one_start(&b, &o, "BatchGetItem",
					 "{\"RequestItems\":{\"$\":1,\"contacts\":2}}"),
			SN_E_INVALID);
	assert_non_null(strstr(o.call.outcome.detail, "names the table both as"));
	assert_int_equal(b.w.script.n_requests, 1);
	bench_close(&b, true);
}

static void a_table_of_the_file(void **state)
{
	const struct sn_aws_connector options = {.resource = "from-the-file",
			.aws = {.region = "r",
					.endpoint = "http://127.0.0.1:8000",
					.access_key_id = "A",
					.secret_access_key = "S\"",
					.session_token = "T"}};
	struct bench b;
	struct one o;

	(void)state;
	bench_open(&b, &good);
	b.how.options = &options;
	b.how.config = b.how.resource = NULL;
	assert_int_equal(DRIVER->open(b.instance, &b.how), 0);
	assert_int_equal(one_start(&b, &o, "DescribeTable", "{}"), 0);
	turn_until(&b.w, &o.done);
	assert_int_equal(o.outcome.verdict, SN_DRIVER_OK);
	assert_true(world_saw(&b.w, "\r\n\r\n{\"TableName\":\"from-the-file\"}"));
	assert_true(world_saw(&b.w, "Credential=A/"));
	assert_true(world_saw(&b.w, "X-Amz-Security-Token: T\r\n"));
	bench_close(&b, true);
}

static void what_it_cannot_open(void **state)
{
	struct bench b;
	struct one o;

	(void)state;
	bench_open(&b, &good);
	b.how.config = "{}";
	assert_int_equal(DRIVER->open(b.instance, &b.how), SN_E_INVALID);
	assert_non_null(strstr(b.how.error, "region"));
	b.how.config = "{\"region\":\"r\",\"endpoint\":\"ftp://x\"}";
	assert_int_equal(DRIVER->open(b.instance, &b.how), SN_E_INVALID);
	assert_non_null(strstr(b.how.error, "endpoint"));
	bench_close(&b, false);

	/* An entry without a table still serves what needs none. */
	bench_open(&b, &good);
	b.how.resource = "";
	assert_int_equal(DRIVER->open(b.instance, &b.how), 0);
	assert_int_equal(one_start(&b, &o, "GetItem", "{}"), SN_E_INVALID);
	assert_string_equal(o.call.outcome.detail, "the entry names no table");
	assert_int_equal(one_start(&b, &o, "ListTables", "{}"), 0);
	turn_until(&b.w, &o.done);
	assert_int_equal(o.outcome.verdict, SN_DRIVER_OK);
	bench_close(&b, true);
}

static void refused_and_throttled(void **state)
{
	static const struct step steps[] = {
			{"HTTP/1.1 400 X\r\nContent-Length: 64\r\n\r\n"
			 "{\"__type\":\"com.amazonaws.dynamodb#ResourceNotFoundException\"    }",
					THEN_KEEP},
			{"HTTP/1.1 400 X\r\nContent-Length: 49\r\n\r\n"
			 "{\"__type\":\"a#ProvisionedThroughputExceededException\"}",
					THEN_KEEP},
			{"HTTP/1.1 500 X\r\nContent-Length: 34\r\n\r\n"
			 "{\"__type\":\"a#InternalServerError\"}",
					THEN_KEEP},
	};
	static const struct {
		enum sn_driver_verdict verdict;
		int code;
		const char *type;
	} want[] = {{SN_DRIVER_REJECTED, SN_E_REJECTED, "ResourceNotFoundException"},
			{SN_DRIVER_THROTTLED, 0, "ProvisionedThroughputExceededException"},
			{SN_DRIVER_FAILED, SN_E_STATUS, "InternalServerError"}};
	struct bench b;
	struct one o;

	(void)state;
	for (size_t i = 0; i < SN_COUNT(steps); i++) {
		char text[400];
		const char *body = strstr(steps[i].answer, "\r\n\r\n") + 4;
		struct step step = {text, THEN_KEEP};

		snprintf(text, sizeof(text), "%.14s X\r\nContent-Length: %zu\r\n\r\n%s",
				steps[i].answer, strlen(body), body);
		bench_open(&b, &step);
		assert_int_equal(DRIVER->open(b.instance, &b.how), 0);
		assert_int_equal(one_start(&b, &o, "GetItem", "{}"), 0);
		turn_until(&b.w, &o.done);
		assert_int_equal(o.outcome.verdict, want[i].verdict);
		if (want[i].code != 0)
			assert_int_equal(o.outcome.code, want[i].code);
		assert_string_equal(o.type, want[i].type);
		bench_close(&b, true);
	}
}

static void cancelled_and_closed(void **state)
{
	static const struct step never = {NULL, THEN_KEEP};
	struct bench b;
	struct one a, c;

	(void)state;
	bench_open(&b, &never);
	assert_int_equal(DRIVER->open(b.instance, &b.how), 0);
	assert_int_equal(one_start(&b, &a, "GetItem", "{}"), 0);
	DRIVER->calls->cancel(b.instance, &a.call, SN_E_DEADLINE);
	assert_false(a.done);
	turn_until(&b.w, &a.done);
	assert_int_equal(a.outcome.code, SN_E_DEADLINE);
	/* Closed while one is under way. */
	assert_int_equal(one_start(&b, &a, "GetItem", "{}"), 0);
	assert_int_equal(one_start(&b, &c, "GetItem", "{}"), 0);
	bench_close(&b, true);
	assert_true(a.done && c.done);
	assert_int_equal(a.outcome.code, SN_E_CLOSED);
	assert_int_equal(c.outcome.code, SN_E_CLOSED);
}

static void no_memory(void **state)
{
	(void)state;
	for (unsigned nth = 1;; nth++) {
		struct bench b;
		struct one o;
		bool failed;
		int r, s = 0;

		bench_open(&b, &good);
		sn__mem_fail_nth(nth);
		r = DRIVER->open(b.instance, &b.how);
		if (r == 0)
			s = one_start(&b, &o, "PutItem", "{\"Item\":{}}");
		failed = sn__mem_failed();
		sn__mem_fail_nth(0); /* the other side shares our memory */
		if (r == 0 && s == 0)
			turn_until(&b.w, &o.done);
		assert_true(r == 0 || r == SN_E_NOMEM);
		assert_true(s == 0 || s == SN_E_NOMEM);
		if (!failed)
			assert_int_equal(o.outcome.verdict, SN_DRIVER_OK);
		bench_close(&b, r == 0);
		if (!failed) {
			assert_true(nth > 5);
			break;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup(a_table_of_a_peer, clear_vars),
			cmocka_unit_test_setup(a_table_of_the_file, clear_vars),
			cmocka_unit_test_setup(what_it_cannot_open, clear_vars),
			cmocka_unit_test_setup(refused_and_throttled, clear_vars),
			cmocka_unit_test_setup(cancelled_and_closed, clear_vars),
			cmocka_unit_test_setup(no_memory, clear_vars),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
