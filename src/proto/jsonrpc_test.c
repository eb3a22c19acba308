/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/mem.h"
#include "proto/jsonrpc.h"

/* Every way to cut @text in two and byte by byte: the same values. */
static void splits_to(const char *text, const char *const *values, int last)
{
	size_t len = strlen(text);

	for (size_t cut = 0; cut <= len; cut++) {
		struct sn_jsonrpc_split s = {0};
		struct sn_str value;
		size_t from = 0, used, seen = cut, i = 0;
		int r;

		for (;;) {
			r = sn__jsonrpc_next(&s, (struct sn_str){text + from, seen - from}, 40,
					&value, &used);
			if (r == 1) {
				assert_non_null(values[i]);
				assert_true(sn_str_eq(value, sn_str_from(values[i++])));
				from += used;
			} else if (r == 0 && seen < len) {
				seen = len;
			} else {
				break;
			}
		}
		assert_int_equal(r, last);
		assert_null(values[i]);
	}
}

static void splitting(void **state)
{
	const char *const two[] = {"{\"a\":\"}{\\\"\"}", "[1,{}]", NULL};
	const char *const none[] = {NULL};
	const char *const broken[] = {"{]", NULL};

	splits_to(" \n{\"a\":\"}{\\\"\"}\r\n[1,{}] ", two, 0);
	splits_to("", none, 0);
	splits_to("  ", none, 0);
	splits_to("{\"a", none, 0);
	splits_to("{] x", broken, SN_E_PARSE);
	splits_to("true", none, SN_E_PARSE);
	splits_to("{\"a\":\"0123456789012345678901234567890123456789\"}", none, SN_E_LIMIT);
}

static struct sn_jsonrpc_message read_ok(const char *text, struct sn_buf *scratch)
{
	struct sn_jsonrpc_message m;

	assert_int_equal(sn__jsonrpc_read(sn_str_from(text), scratch, &m), 0);
	return m;
}

static void kinds(void **state)
{
	static const struct {
		const char *text;
		enum sn_jsonrpc_kind kind;
		const char *id;
	} cases[] = {
			{"{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"m\"}", SN_JSONRPC_REQUEST,
					"\"q\""},
			{"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"m\"}", SN_JSONRPC_REQUEST,
					"0"},
			{"{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"m\"}", SN_JSONRPC_REQUEST,
					"\"\""},
			{"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"m\"}", SN_JSONRPC_REQUEST,
					"null"},
			{"{\"jsonrpc\":\"2.0\",\"method\":\"m\"}", SN_JSONRPC_NOTIFICATION, NULL},
			{"{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"m\"}", SN_JSONRPC_INVALID,
					NULL},
			{"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"m\"}", SN_JSONRPC_INVALID,
					"1"},
			{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", SN_JSONRPC_INVALID, "1"},
			{"{\"jsonrpc\":\"2.0\",\"id\":1}", SN_JSONRPC_INVALID, "1"},
			{"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}", SN_JSONRPC_RESULT, "1"},
			{"{\"jsonrpc\":\"2.0\",\"id\":{},\"error\":{}}", SN_JSONRPC_INVALID, NULL},
			{"{\"jsonrpc\":\"2.0\",\"id\":[1],\"result\":1}", SN_JSONRPC_INVALID, NULL},
			{"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{}}", SN_JSONRPC_ERROR,
					"null"},
			{"[1]", SN_JSONRPC_INVALID, NULL},
			{"{}", SN_JSONRPC_INVALID, NULL},
	};
	struct sn_buf scratch;

	sn__buf_init(&scratch, 1000);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_jsonrpc_message m = read_ok(cases[i].text, &scratch);

		assert_int_equal(m.kind, cases[i].kind);
		assert_true(sn_str_eq(m.id, sn_str_from(cases[i].id)));
	}
	sn__buf_finish(&scratch);
}

static void parts(void **state)
{
	struct sn_jsonrpc_message m;
	struct sn_buf scratch;

	sn__buf_init(&scratch, 1000);
	m = read_ok("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32002,\"message\":\"a\\n\","
		    "\"data\":{\"reason\":\"b\"}},\"token\":\"t\\u0031\"}",
			&scratch);
	assert_int_equal(m.code, -32002);
	assert_true(sn_str_eq(m.message, SN_STR("a\n")));
	assert_true(sn_str_eq(m.token, SN_STR("t1")));
	assert_true(sn_str_eq(m.data, SN_STR("{\"reason\":\"b\"}")));
	assert_int_equal(sn__jsonrpc_read(SN_STR("{\"a\":}"), &scratch, &m), SN_E_PARSE);
	sn__buf_finish(&scratch);
	sn__mem_fail_nth(1);
	assert_int_equal(sn__jsonrpc_read(SN_STR("{\"jsonrpc\":\"2.0\",\"method\":\"\\n\"}"),
					 &scratch, &m),
			SN_E_NOMEM);
	sn__mem_fail_nth(0);
	sn__buf_finish(&scratch);
}

static void writing(void **state)
{
	const struct sn_str none = {NULL, 0};
	struct sn_buf out;

	sn__buf_init(&out, 1000);
	assert_int_equal(sn__jsonrpc_write_result(SN_STR("\"q\""), SN_STR("412.5"), &out), 0);
	assert_true(sn_str_eq(sn__buf_str(&out),
			SN_STR("{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":412.5}")));
	sn__buf_clear(&out);
	assert_int_equal(sn__jsonrpc_write_error(none, -32700,
					 sn_str_from(sn__jsonrpc_code_text(-32700)), none, &out),
			0);
	assert_true(sn_str_eq(sn__buf_str(&out),
			SN_STR("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,"
			       "\"message\":\"Parse error\"}}")));
	sn__buf_clear(&out);
	assert_int_equal(sn__jsonrpc_write_error(SN_STR("7"), 17, SN_STR("no \"meter\""),
					 SN_STR("{\"room\":\"attic\"}"), &out),
			0);
	assert_true(sn_str_eq(sn__buf_str(&out),
			SN_STR("{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":17,\"message\":"
			       "\"no \\\"meter\\\"\",\"data\":{\"room\":\"attic\"}}}")));
	sn__buf_clear(&out);
	assert_int_equal(sn__jsonrpc_write_request(SN_STR("\"q\""), SN_STR("m"), SN_STR("[1]"),
					 SN_STR("t"), &out),
			0);
	assert_true(sn_str_eq(sn__buf_str(&out),
			SN_STR("{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"params\":[1],\"method\":\"m\","
			       "\"token\":\"t\"}")));
	assert_int_equal(sn__jsonrpc_write_result(
					 none, (struct sn_str){sn__buf_data(&out), 950}, &out),
			SN_E_LIMIT);
	sn__buf_finish(&out);
	for (int code = -32603; code <= -32600; code++)
		assert_string_not_equal(sn__jsonrpc_code_text(code), "Server error");
	assert_string_equal(sn__jsonrpc_code_text(-32002), "Server error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(splitting),
			cmocka_unit_test(kinds),
			cmocka_unit_test(parts),
			cmocka_unit_test(writing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
