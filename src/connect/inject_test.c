/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/inject.h"

#include "base/mem.h"
#include "base/test.h"
#include "proto/json_pull.h"

static void expect(const char *json, const char *want)
{
	struct sn_buf out;

	sn__buf_init(&out, 4096);
	assert_int_equal(sn__buf_puts(&out, "before "), 0);
	assert_int_equal(sn__inject_text(sn_str_from(json), SN_STR("StreamName"), SN_STR("jobs"),
					 &out, NULL),
			0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_string_equal(sn__buf_data(&out) + 7, want);
	sn__buf_finish(&out);
}

static void sets(void **state)
{
	(void)state;
	expect("{}", "{\"StreamName\":\"jobs\"}");
	expect(" { } ", "{\"StreamName\":\"jobs\"}");
	expect("{\"Limit\": 1.50 }", "{\"StreamName\":\"jobs\",\"Limit\":1.50}");
	/* What the caller says is replaced, however written and however often. */
	expect("{\"StreamName\":\"other\"}", "{\"StreamName\":\"jobs\"}");
	expect("{\"a\":1,\"StreamName\":null,\"b\":[ 1, 2 ],\"Str\\u0065amName\":{\"x\":1}}",
			"{\"StreamName\":\"jobs\",\"a\":1,\"b\":[ 1, 2 ]}");
	/* Only the top level counts; what is written stays as it is, escapes and doubles too. */
	expect("{\"x\":{\"StreamName\":\"in\"},\"\\u0078\":\"\\u00e9\"}",
			"{\"StreamName\":\"jobs\",\"x\":{\"StreamName\":\"in\"},"
			"\"\\u0078\":\"\\u00e9\"}");
	expect("{\"streamname\":1}", "{\"StreamName\":\"jobs\",\"streamname\":1}");
}

static void escapes(void **state)
{
	struct sn_buf out;

	(void)state;
	sn__buf_init(&out, 4096);
	assert_int_equal(sn__inject_text(SN_STR("{\"a\":1}"), SN_STR("T\"N"), SN_STR("x\\y\n"),
					 &out, NULL),
			0);
	assert_memory_equal(sn__buf_data(&out), "{\"T\\\"N\":\"x\\\\y\\n\",\"a\":1}", out.len);
	sn__buf_clear(&out);
	assert_int_equal(sn__inject(SN_STR("{\"a\":1,\"b\":2}"), SN_STR("a"), SN_STR("{\"$\":[]}"),
					 &out, NULL),
			0);
	assert_memory_equal(sn__buf_data(&out), "{\"a\":{\"$\":[]},\"b\":2}", out.len);
	sn__buf_finish(&out);
}

static void refuse(struct sn_str json, int code, size_t offset)
{
	struct sn_buf out;
	size_t at = 999;

	sn__buf_init(&out, 4096);
	assert_int_equal(sn__buf_puts(&out, "kept"), 0);
	assert_int_equal(sn__inject_text(json, SN_STR("N"), SN_STR("v"), &out, &at), code);
	assert_int_equal(at, offset);
	assert_int_equal(out.len, 4);
	sn__buf_finish(&out);
}

static void refuses(void **state)
{
	char deep[200];

	(void)state;
	refuse(SN_STR(""), SN_E_INVALID, 1);
	refuse((struct sn_str){NULL, 0}, SN_E_INVALID, 1);
	refuse(SN_STR("[]"), SN_E_INVALID, 0);
	refuse(SN_STR("null"), SN_E_INVALID, 0);
	refuse(SN_STR(" \"{}\""), SN_E_INVALID, 1);
	refuse(SN_STR("{\"a\":1"), SN_E_PARSE, 6);
	refuse(SN_STR("{\"a\":}"), SN_E_PARSE, 5);
	refuse(SN_STR("{\"a\":1,}"), SN_E_PARSE, 7);
	refuse(SN_STR("{}{}"), SN_E_PARSE, 2);
	memset(deep, '[', sizeof deep);
	memcpy(deep, "{\"a\":", 5);
	refuse((struct sn_str){deep, sizeof deep}, SN_E_LIMIT, 5 + SN_JSON_PULL_WIDE - 1);
}

static void limit(void **state)
{
	struct sn_buf out;

	(void)state;
	sn__buf_init(&out, 12);
	assert_int_equal(sn__inject_text(SN_STR("{\"a\":1}"), SN_STR("N"), SN_STR("v"), &out, NULL),
			SN_E_LIMIT);
	assert_int_equal(out.len, 0);
	sn__buf_finish(&out);
}

static void no_memory(void **state)
{
	int64_t live = sn__mem_live();
	struct sn_buf out;

	(void)state;
	for (unsigned n = 1;; n++) {
		int r;

		sn__buf_init(&out, 4096);
		sn__mem_fail_nth(n);
		r = sn__inject_text(SN_STR("{\"a\":\"0123456789012345678901234567890123456789"
					   "0123456789012345678901234567890123456789\"}"),
				SN_STR("N"), SN_STR("v"), &out, NULL);
		sn__mem_fail_nth(0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		assert_true(r == 0 || out.len == 0);
		sn__buf_finish(&out);
		assert_int_equal(sn__mem_live(), live);
		if (r == 0) {
			assert_true(n > 1);
			break;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(sets),
			cmocka_unit_test(escapes),
			cmocka_unit_test(refuses),
			cmocka_unit_test(limit),
			cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
