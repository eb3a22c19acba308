/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"

static json_t *parse(const char *text)
{
	struct sn_error err;
	json_t *json = NULL;

	if (sn__json_parse(sn_str_from(text), 1 << 20, &json, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	return json;
}

static void parse_and_dump(void **state)
{
	static const char *const same[] = {
			"{\"z\":1,\"a\":[1.5,true,null,\"x\"],\"m\":{}}",
			"\"text\"",
			"0",
			"null",
			"[]",
			"{\"a\":0.1,\"b\":1.0,\"c\":-9223372036854775808}",
			"\"\xc3\xa9\\u0000\\n\"",
	};

	for (size_t i = 0; i < SN_COUNT(same); i++) {
		json_t *json = parse(same[i]);
		char *text = sn__json_text(json);

		assert_string_equal(text, same[i]);
		sn__free(text);
		json_decref(json);
	}
}

static void parse_errors(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *begins;
	} v[] = {
			{"", SN_E_PARSE, "1:1: not JSON: "},
			{"{\"a\": 1,\n  \"b\": ]}", SN_E_PARSE, "2:"},
			{"{\"a\": 1} x", SN_E_PARSE, "1:"},
			{"[1e999]", SN_E_PARSE, "1:"},
			{"{\"password\":\"hunter2\" 3", SN_E_PARSE, "1:"},
			{"[\"\xff\"]", SN_E_PARSE, "1:"},
	};
	char deep[SN_JSON_DEPTH_MAX * 2 + 3];
	struct sn_error err;
	json_t *json = NULL;

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		assert_int_equal(sn__json_parse(sn_str_from(v[i].text), 1000, &json, &err),
				v[i].code);
		if (strncmp(err.text, v[i].begins, strlen(v[i].begins)) != 0)
			fail_msg("%s", err.text);
		assert_null(strstr(err.text, "hunter2"));
		assert_null(json);
	}
	assert_int_equal(sn__json_parse(SN_STR("[1,2]"), 4, &json, NULL), SN_E_LIMIT);
	for (int n = SN_JSON_DEPTH_MAX; n <= SN_JSON_DEPTH_MAX + 1; n++) {
		memset(deep, '[', (size_t)n);
		memset(deep + n, ']', (size_t)n);
		assert_int_equal(sn__json_parse((struct sn_str){deep, (size_t)n * 2}, 1000, &json,
						 &err),
				n <= SN_JSON_DEPTH_MAX ? 0 : SN_E_LIMIT);
	}
	json_decref(json);
	json = parse("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"");
	json_decref(json);
}

static void equality(void **state)
{
	static const struct {
		const char *a, *b;
		bool equal;
	} v[] = {
			{"1", "1.0", true},
			{"1", "\"1\"", false},
			{"9007199254740993", "9007199254740992.0", false},
			{"9223372036854775807", "9223372036854775807.0", false},
			{"-0.0", "0", true},
			{"{\"a\":1,\"b\":[2]}", "{\"b\":[2.0],\"a\":1}", true},
			{"[1,2]", "[2,1]", false},
			{"{\"a\":null}", "{}", false},
			{"{\"a\":null}", "{\"b\":null}", false},
			{"{}", "[]", false},
			{"true", "false", false},
			{"null", "null", true},
			{"\"a\\u0000b\"", "\"a\\u0000c\"", false},
			{"[1]", "[1,2]", false},
	};

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		json_t *a = parse(v[i].a), *b = parse(v[i].b);

		if (sn__json_equal(a, b) != v[i].equal || sn__json_equal(b, a) != v[i].equal)
			fail_msg("%s and %s", v[i].a, v[i].b);
		json_decref(a);
		json_decref(b);
	}
}

static void quoting(void **state)
{
	struct sn_buf b;
	json_t *json;

	sn__buf_init(&b, 100);
	assert_int_equal(sn__json_quote((struct sn_str){"a\"\\\n\x01\v\xff\xc3\xa9\x7f", 10}, &b),
			0);
	assert_int_equal(sn__buf_append(&b, "", 1), 0);
	assert_string_equal(sn__buf_data(&b),
			"\"a\\\"\\\\\\n\\u0001\\u000b\xef\xbf\xbd\xc3\xa9\\u007f\"");
	json = parse(sn__buf_data(&b));
	assert_string_equal(json_string_value(json), "a\"\\\n\x01\v\xef\xbf\xbd\xc3\xa9\x7f");
	json_decref(json);
	sn__buf_clear(&b);
	b.max = 5;
	assert_int_equal(sn__json_quote(SN_STR("abcdef"), &b), SN_E_LIMIT);
	assert_int_equal(b.len, 0);
	sn__buf_finish(&b);
}

static void redaction(void **state)
{
	json_t *json = parse("{\"region\":\"eu\",\"credentials\":{\"accessKeyId\":\"A\"},"
			     "\"list\":[{\"api-token\":1,\"dbPassword\":null}],\"Secret\":\"x\"}");
	json_t *copy = NULL;
	char *text;

	assert_int_equal(sn__json_redact(json, &copy), 0);
	text = sn__json_text(copy);
	assert_string_equal(text,
			"{\"region\":\"eu\",\"credentials\":\"***\","
			"\"list\":[{\"api-token\":\"***\",\"dbPassword\":null}],\"Secret\":\"***\"}");
	sn__free(text);
	json_decref(copy);
	text = sn__json_text(json);
	assert_non_null(strstr(text, "accessKeyId"));
	sn__free(text);
	json_decref(json);
}

static void faults(void **state)
{
	static const char text[] = "{\"a\":[1,2.5,\"xyz\",{\"secret\":true}],\"b\":null}";
	int64_t live = sn__mem_live();
	bool failed = true;

	/* jansson allocates as we do, in this test only: the host's functions are its own. */
	json_set_alloc_funcs(sn__malloc, sn__free);
	for (uint64_t nth = 1; failed; nth++) {
		json_t *json = NULL, *copy = NULL;
		char *out = NULL;
		int r;

		sn__mem_fail_nth(nth);
		r = sn__json_parse(sn_str_from(text), 1000, &json, NULL);
		if (r == 0) {
			r = sn__json_redact(json, &copy);
			out = sn__json_text(json);
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r < 0)
			/* jansson takes a string it has no memory for as an invalid token. */
			assert_true(r == SN_E_NOMEM || r == SN_E_PARSE);
		else
			assert_true(failed || out != NULL);
		if (out != NULL)
			assert_string_equal(out, text);
		sn__free(out);
		json_decref(copy);
		json_decref(json);
		assert_int_equal(sn__mem_live(), live);
	}
	json_set_alloc_funcs(malloc, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(parse_and_dump),
			cmocka_unit_test(parse_errors),
			cmocka_unit_test(equality),
			cmocka_unit_test(quoting),
			cmocka_unit_test(redaction),
			cmocka_unit_test(faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
