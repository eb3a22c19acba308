/* SPDX-License-Identifier: Apache-2.0 */

/* Options of gRPC calls on their way out, answers on their way in. */

#include "base/mem.h"
#include "base/test.h"
#include "mesh/grpc_answer.h"
#include "mesh/grpc_text.h"
#include "proto/generated/messages.pb-c.h"

#define META(...) \
	(const struct sn_grpc_metadata[]) \
	{ \
		__VA_ARGS__ \
	}

static void refuses(const char *method, const struct sn_grpc_options *opts, bool unary,
		const struct ProtobufCMessage *request, const char *why)
{
	struct sn_grpc_text t = {.n_metadata = 0};
	struct sn_error err;

	sn__grpc_text_init(&t);
	assert_int_equal(sn__grpc_text_fill(&t, method, unary, request, opts, &err), SN_E_INVALID);
	if (strstr(sn_error_text(&err), why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", sn_error_text(&err), why);
	sn__grpc_text_finish(&t);
}

static void test_refused(void **state)
{
	static const char *const methods[] = {"", "/", "/a", "//", "//b", "/a/", "a/b", "/a b/c",
			"/a/b?c", "/a/b#", "/a/\x7f", "/a/\xc3\xa4"};
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;

	for (size_t i = 0; i < SN_COUNT(methods); i++)
		refuses(methods[i], NULL, true, NULL, "is not valid");
	o.size = 3;
	refuses("/a.B/c", &o, true, NULL, "options.size");
	o.size = sizeof(o) + 1;
	refuses("/a.B/c", &o, true, NULL, "options.size");
	o = (struct sn_grpc_options)SN_GRPC_OPTIONS_INIT;
	o.bytes_size = 1;
	refuses("/a.B/c", &o, true, NULL, "without bytes");
	o.bytes = "x";
	refuses("/a.B/c", &o, true, &request.base, "not both");
	refuses("/a.B/c", &o, false, NULL, "sn_grpc_stream_send");
	o = (struct sn_grpc_options)SN_GRPC_OPTIONS_INIT;
	o.retry = (enum sn_retry)7;
	refuses("/a.B/c", &o, true, NULL, "retry");
}

static void test_refused_metadata(void **state)
{
	static const struct sn_grpc_metadata bad[] = {
			{"Upper", "x", 1},
			{"grpc-timeout", "1S", 2},
			{"", "x", 1},
			{NULL, "x", 1},
			{"a b", "x", 1},
			{":path", "x", 1},
			{"x", "\x01", 1},
			{"x", "line\n", 5},
			{"content-type", "text/plain", 10},
			{"connection", "close", 5},
	};
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;

	o.n_metadata = 1;
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		o.metadata = &bad[i];
		refuses("/a.B/c", &o, true, NULL, "metadata");
	}
	o.n_metadata = SN_GRPC_METADATA_MAX + 1;
	refuses("/a.B/c", &o, true, NULL, "more than 64");
}

static void assert_str(struct sn_str s, const char *want)
{
	assert_int_equal(s.len, strlen(want));
	assert_memory_equal(s.ptr, want, s.len);
}

static void test_copied(void **state)
{
	struct sn_context context = {.size = sizeof(context), .deadline_ms = 7};
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;
	struct sn_grpc_text t = {.n_metadata = 0};
	char name[] = "x-key", method[] = "/a.B/Do";
	struct sn_grpc_metadata meta[] = {{name, "value", 5}, {"raw-bin", "\0\xff", 2}};

	sn__grpc_text_init(&t);
	o.metadata = meta;
	o.n_metadata = 2;
	o.bytes = "payload";
	o.bytes_size = 7;
	o.context = &context;
	for (int i = 0; i < 3; i++) { /* used again and again */
		assert_int_equal(sn__grpc_text_fill(&t, method, true, NULL, &o, NULL), 0);
		context.deadline_ms = 8;
		assert_str(t.path, "/a.B/Do");
		assert_int_equal(t.n_metadata, 2);
		assert_str(t.metadata[0].name, "x-key");
		assert_str(t.metadata[0].value, "value");
		assert_str(t.metadata[1].name, "raw-bin");
		assert_str(t.metadata[1].value, "AP8");
		assert_int_equal(t.options.context->deadline_ms, i == 0 ? 7 : 8);
		assert_int_equal(t.frame.len, 5 + 7);
		assert_memory_equal(sn__buf_data(&t.frame), "\0\0\0\0\7payload", 12);
		sn__grpc_text_reset(&t);
	}
	assert_int_equal(sn__grpc_text_fill(&t, method, false, NULL, NULL, NULL), 0);
	assert_int_equal(t.frame.len, 0);
	assert_int_equal(t.n_metadata, 0);
	sn__grpc_text_finish(&t);
}

static void test_packed(void **state)
{
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	struct sn_grpc_text t = {.n_metadata = 0};

	request.response_size = 5;
	sn__grpc_text_init(&t);
	assert_int_equal(sn__grpc_text_fill(&t, "/a.B/c", true, &request.base, NULL, NULL), 0);
	assert_int_equal(t.frame.len, 5 + 2);
	assert_memory_equal(sn__buf_data(&t.frame), "\0\0\0\0\2\x10\5", 7);
	sn__grpc_text_finish(&t);
}

static void test_text_out_of_memory(void **state)
{
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;
	int64_t live = sn__mem_live();

	o.metadata = META({"a-key", "value", 5}, {"b-bin", "\1\2\3", 3});
	o.n_metadata = 2;
	o.bytes = "payload";
	o.bytes_size = 7;
	for (uint64_t n = 1;; n++) {
		struct sn_grpc_text t = {.n_metadata = 0};
		bool failed;
		int r;

		sn__grpc_text_init(&t);
		sn__mem_fail_nth(n);
		r = sn__grpc_text_fill(&t, "/a.B/c", true, NULL, &o, NULL);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		sn__grpc_text_finish(&t);
		assert_int_equal(sn__mem_live(), live);
		if (!failed)
			break;
	}
}

/* ---- answers ---- */

static const struct sn_http_header headers[] = {
		{{"x-a", 3}, {"one", 3}},
		{{"x-a", 3}, {"two", 3}},
		{{"x-bin", 5}, {"AP8", 3}},
		{{"broken-bin", 10}, {"=!", 2}},
		{{"empty", 5}, {NULL, 0}},
};

static void test_fields(void **state)
{
	struct sn_grpc_fields f;
	size_t size = 77;

	sn__grpc_fields_init(&f);
	assert_null(sn__grpc_fields_find(&f, "x-a", &size));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(sn__grpc_fields_add(&f, headers, SN_COUNT(headers)), 0);
		assert_string_equal(sn__grpc_fields_find(&f, "x-a", NULL), "one");
		assert_string_equal(sn__grpc_fields_find(&f, "X-A", &size), "one");
		assert_int_equal(size, 3);
		assert_memory_equal(sn__grpc_fields_find(&f, "x-bin", &size), "\0\xff", 3);
		assert_int_equal(size, 2);
		assert_null(sn__grpc_fields_find(&f, "broken-bin", NULL));
		assert_string_equal(sn__grpc_fields_find(&f, "empty", &size), "");
		assert_int_equal(size, 0);
		sn__grpc_fields_clear(&f);
		assert_null(sn__grpc_fields_find(&f, "x-a", NULL));
	}
	sn__grpc_fields_finish(&f);
}

static void test_answer(void **state)
{
	int64_t live = sn__mem_live();
	struct sn_grpc_answer a;
	struct ProtobufCMessage *m;
	size_t size = 9;

	sn__grpc_answer_init(&a);
	assert_int_equal(sn_grpc_answer_code(&a), 0);
	assert_string_equal(sn_grpc_answer_text(&a), "");
	assert_string_equal(sn_grpc_answer_identity(&a), "");
	assert_null(sn_grpc_answer_details(&a, &size));
	assert_int_equal(size, 0);
	assert_null(sn_grpc_answer_bytes(&a, &size));
	assert_int_equal(sn_grpc_answer_unpack(&a, &grpc__testing__simple_request__descriptor, &m),
			SN_E_NOT_FOUND);
	assert_int_equal(sn__grpc_answer_message(&a, SN_STR("\x10\5")), 0);
	assert_memory_equal(sn_grpc_answer_bytes(&a, &size), "\x10\5", 3);
	assert_int_equal(size, 2);
	assert_int_equal(sn_grpc_answer_unpack(&a, &grpc__testing__simple_request__descriptor, &m),
			0);
	assert_int_equal(((Grpc__Testing__SimpleRequest *)m)->response_size, 5);
	sn_grpc_message_free(m);
	sn__grpc_answer_reset(&a);
	assert_null(sn_grpc_answer_bytes(&a, NULL));
	assert_int_equal(sn__grpc_answer_message(&a, SN_STR("")), 0);
	assert_non_null(sn_grpc_answer_bytes(&a, &size)); /* an empty message is a message */
	assert_int_equal(size, 0);
	sn_grpc_answer_destroy(&a); /* not one of _wait: nothing happens */
	sn__grpc_answer_finish(&a);
	sn_grpc_answer_destroy(NULL);
	assert_int_equal(sn__mem_live(), live);
}

static void test_unpack(void **state)
{
	struct ProtobufCMessage *m = NULL;

	assert_int_equal(sn_grpc_message_unpack(&grpc__testing__simple_request__descriptor,
					 "\x10\5", 2, &m),
			0);
	assert_int_equal(((Grpc__Testing__SimpleRequest *)m)->response_size, 5);
	sn_grpc_message_free(m);
	sn_grpc_message_free(NULL);
	assert_int_equal(sn_grpc_message_unpack(
					 &grpc__testing__simple_request__descriptor, "\x10", 1, &m),
			SN_E_PARSE);
}

static void test_error_codes(void **state)
{
	static const struct {
		int code, foreign, want;
	} cases[] = {
			{SN_E_STATUS, 5, SN_GRPC_NOT_FOUND},
			{SN_E_STATUS, 99, SN_GRPC_UNKNOWN},
			{SN_E_STATUS, 503, SN_GRPC_UNAVAILABLE},
			{SN_E_STATUS, 0, SN_GRPC_UNKNOWN},
			{SN_E_DEADLINE, 0, SN_GRPC_DEADLINE_EXCEEDED},
			{SN_E_TIMEOUT, 0, SN_GRPC_DEADLINE_EXCEEDED},
			{SN_E_CONNECT, 111, SN_GRPC_UNAVAILABLE},
			{SN_E_NO_PEER, 0, SN_GRPC_UNAVAILABLE},
			{SN_E_BREAKER, 0, SN_GRPC_UNAVAILABLE},
			{SN_E_RESET, 0, SN_GRPC_UNAVAILABLE},
			{SN_E_CANCELLED, 0, SN_GRPC_CANCELLED},
			{SN_E_OVERLOAD, 0, SN_GRPC_RESOURCE_EXHAUSTED},
			{SN_E_PROTOCOL, 0, SN_GRPC_INTERNAL},
	};

	assert_int_equal(sn_grpc_error_code(NULL), SN_GRPC_OK);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_error err;

		sn__error_set(&err, cases[i].code, "x");
		err.foreign = cases[i].foreign;
		assert_int_equal(sn_grpc_error_code(&err), cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_refused),
			cmocka_unit_test(test_refused_metadata),
			cmocka_unit_test(test_copied),
			cmocka_unit_test(test_packed),
			cmocka_unit_test(test_text_out_of_memory),
			cmocka_unit_test(test_fields),
			cmocka_unit_test(test_answer),
			cmocka_unit_test(test_unpack),
			cmocka_unit_test(test_error_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
