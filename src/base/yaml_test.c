/* SPDX-License-Identifier: Apache-2.0 */
#include "base/yaml.h"

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/test.h"

static void as_json(void **state)
{
	static const struct {
		const char *yaml, *json;
	} v[] = {
			{"", "null"},
			{"# nothing\n", "null"},
			{"a: 1\nb: [true, ~, 'x', \"y\\n\"]\nc:\n  - d: 2.5\n    e:\n",
					"{\"a\":1,\"b\":[true,null,\"x\",\"y\\n\"],\"c\":[{\"d\":2.5,\"e\":null}]}"},
			{"x: 0x1F\no: 0o17\nn: -12\np: +3\nf: 1e3\ng: .5\nh: 5.\ns: 1_000\nv: 1.2.3\nd: 012\n",
					"{\"x\":31,\"o\":15,\"n\":-12,\"p\":3,\"f\":1000.0,\"g\":0.5,\"h\":5.0,"
					"\"s\":\"1_000\",\"v\":\"1.2.3\",\"d\":12}"},
			{"yes: no\non: OFF\nnull: True\n",
					"{\"yes\":\"no\",\"on\":\"OFF\",\"null\":true}"},
			{"a: !!str 5\nb: ! 6\nc: !!int 7\n", "{\"a\":\"5\",\"b\":\"6\",\"c\":7}"},
			{"a: &x {k: [1]}\nb: *x\nc: &y z\n*y : 1\n",
					"{\"a\":{\"k\":[1]},\"b\":{\"k\":[1]},\"c\":\"z\",\"z\":1}"},
			{"a: |\n  one\n  two\nb: >-\n  three\n  four\n",
					"{\"a\":\"one\\ntwo\\n\",\"b\":\"three four\"}"},
			{"{\"a\":1,\n\t\"b\":\"\\ud83d\\ude00\\/\\u00e9\",\"c\":[\n1.5e3\n],\"\":{}}",
					"{\"a\":1,\"b\":\"\xf0\x9f\x98\x80/\xc3\xa9\",\"c\":[1500.0],\"\":{}}"},
			{"a: {\n}\nb: [\n]\n", "{\"a\":{},\"b\":[]}"},
			{"-9223372036854775808", "-9223372036854775808"},
			{"0x7fffffffffffffff", "9223372036854775807"},
	};

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		struct sn_yaml y;
		struct sn_error err;
		json_t *json = NULL;
		char *text;

		if (sn__yaml_parse(&y, "f", sn_str_from(v[i].yaml), &err) < 0)
			fail_msg("%s: %s", v[i].yaml, err.text);
		assert_int_equal(sn__yaml_to_json(y.root, &json, NULL), 0);
		text = sn__json_text(json);
		assert_string_equal(text, v[i].json);
		sn__free(text);
		json_decref(json);
		sn__yaml_finish(&y);
	}
}

static void assert_place(struct sn_place p, uint32_t line, uint32_t column)
{
	assert_int_equal(p.line, line);
	assert_int_equal(p.column, column);
}

static void places(void **state)
{
	struct sn_yaml y;
	const struct sn_yaml_node *list;

	assert_int_equal(
			sn__yaml_parse(&y, "f",
					SN_STR("a:\n  \"b\": 'c'\n  d: [1, \"x\"]\ne:\nf: {\"g\":\n h}\n"),
					NULL),
			0);
	assert_place(y.root->place, 1, 1);
	assert_place(y.root->items->place, 1, 1);
	assert_place(y.root->items->value->items->place, 2, 3);
	assert_place(y.root->items->value->items->value->place, 2, 8);
	list = sn__yaml_get(y.root->items->value, "d");
	assert_place(list->place, 3, 6);
	assert_place(list->items->value->place, 3, 7);
	assert_place(list->items->next->value->place, 3, 10);
	assert_place(sn__yaml_get(y.root, "e")->place, 4, 1); /* nothing there: the key's */
	assert_place(sn__yaml_get(y.root, "f")->items->place, 5, 5);
	assert_place(sn__yaml_get(y.root, "f")->items->value->place, 6, 2);
	sn__yaml_finish(&y);
}

static void errors(void **state)
{
	static const struct {
		const char *yaml;
		int code;
		const char *text;
	} v[] = {
			{"a: 1\nb: 2\na: 3\n", SN_E_PARSE,
					"f:3:1: duplicate key \"a\" (first at 1:1)"},
			{"{\"a\": {\"x\": 1, \"x\": 2}}", SN_E_PARSE,
					"f:1:16: duplicate key \"x\" (first at 1:8)"},
			{"a: \"x\n", SN_E_PARSE,
					"f:1:5: double-quoted scalar without closing quote"},
			{"a: \xff\n", SN_E_PARSE, "f:1:4: byte 0xff is not UTF-8"},
			{"a: b\x01\n", SN_E_PARSE, "f:1:5: control character 0x01"},
			{"a: 1\n---\nb: 2\n", SN_E_PARSE, NULL},
			{"[a]: 1\n", SN_E_PARSE,
					"f:1:1: a key must be a word or a text, not a list"},
			{"a: 1\r\n- ? b\n", SN_E_PARSE,
					"f:2:3: explicit keys (`? key`) are not supported; write "
					"`key: value`"},
			{"? e:\t:", SN_E_PARSE,
					"f:1:1: explicit keys (`? key`) are not supported; write "
					"`key: value`"},
			{"a: *x\n", SN_E_PARSE, NULL},
			{"a: &x [*x]\n", SN_E_PARSE, NULL},
			{"a: !!binary AAAA\n", SN_E_PARSE, NULL},
			{"a: !include x\n", SN_E_PARSE, "f:1:13: tag !include means nothing here"},
			{"a: b: c\n", SN_E_PARSE, NULL},
			{"a: [1\nb: 2\n", SN_E_PARSE, NULL},
	};
	struct sn_yaml y = {.file = "untouched"};

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		struct sn_error err = {0};

		assert_int_equal(sn__yaml_parse(&y, "f", sn_str_from(v[i].yaml), &err), v[i].code);
		if (v[i].text != NULL)
			assert_string_equal(err.text, v[i].text);
		else if (strncmp(err.text, "f:", 2) != 0)
			fail_msg("%s -> %s", v[i].yaml, err.text);
		assert_string_equal(y.file, "untouched");
	}
	assert_int_equal(sn__yaml_parse_file(&y, "/nonexistent/file.yaml", NULL), SN_E_NOT_FOUND);
	assert_int_equal(sn__yaml_parse_file(&y, "/", NULL), SN_E_IO);
}

static void numbers_json_lacks(void **state)
{
	struct sn_yaml y;
	struct sn_problems p;
	json_t *json = NULL;
	char text[300];

	sn__problems_init(&p, "f");
	assert_int_equal(sn__yaml_parse(&y, "f", SN_STR("[.inf, 1,\n 9223372036854775808, 1e999]"),
					 NULL),
			0);
	assert_int_equal(sn__yaml_to_json(y.root, &json, &p), SN_E_INVALID);
	assert_null(json);
	assert_int_equal(p.n, 3);
	assert_string_equal(sn__problem_text(&p, &p.list[1], text, sizeof text),
			"f:2:2: 9223372036854775808 is not a number JSON can hold");
	sn__problems_finish(&p);
	sn__yaml_finish(&y);
}

static void bounds(void **state)
{
	struct sn_buf b;
	struct sn_yaml y;
	struct sn_error err;

	sn__buf_init(&b, 1 << 20);
	/* Ten levels of nine aliases each: 3.4 billion values if copied. */
	assert_int_equal(sn__buf_puts(&b, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"), 0);
	for (int i = 1; i <= 10; i++) {
		assert_int_equal(sn__buf_printf(&b, "a%d: &a%d [", i, i), 0);
		for (int k = 0; k < 9; k++)
			assert_int_equal(sn__buf_printf(&b, "%s*a%d", k > 0 ? "," : "", i - 1), 0);
		assert_int_equal(sn__buf_puts(&b, "]\n"), 0);
	}
	assert_int_equal(sn__yaml_parse(&y, "f", sn__buf_str(&b), &err), SN_E_LIMIT);
	sn__buf_clear(&b);
	for (int i = 0; i < SN_YAML_DEPTH_MAX; i++)
		assert_int_equal(sn__buf_puts(&b, "["), 0);
	for (int i = 0; i < SN_YAML_DEPTH_MAX; i++)
		assert_int_equal(sn__buf_puts(&b, "]"), 0);
	assert_int_equal(sn__yaml_parse(&y, "f", sn__buf_str(&b), &err), 0);
	sn__yaml_finish(&y);
	sn__buf_clear(&b);
	for (int i = 0; i < 100; i++)
		assert_int_equal(sn__buf_puts(&b, "["), 0);
	assert_int_equal(sn__yaml_parse(&y, "f", sn__buf_str(&b), &err), SN_E_LIMIT);
	sn__buf_clear(&b);
	/* Depth through aliases: each level wraps the one before. */
	assert_int_equal(sn__buf_puts(&b, "- &a0 [x]\n"), 0);
	for (int i = 1; i < 80; i++)
		assert_int_equal(sn__buf_printf(&b, "- &a%d [*a%d]\n", i, i - 1), 0);
	assert_int_equal(sn__yaml_parse(&y, "f", sn__buf_str(&b), &err), SN_E_LIMIT);
	sn__buf_finish(&b);
}

static void many_keys(void **state)
{
	struct sn_buf b;
	struct sn_yaml y;

	sn__buf_init(&b, 16 << 20);
	for (int i = 0; i < 50000; i++)
		assert_int_equal(sn__buf_printf(&b, "key-%d: {port: %d}\n", i, i), 0);
	assert_int_equal(sn__yaml_parse(&y, NULL, sn__buf_str(&b), NULL), 0);
	assert_int_equal(y.root->count, 50000);
	sn__yaml_finish(&y);
	sn__buf_finish(&b);
}

static void faults(void **state)
{
	static const char text[] =
			"a: &x {k: [1, 'two']}\nb: *x\nc: !!str 5\n\"long text\": |\n  y\n";
	int64_t live = sn__mem_live();
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct sn_yaml y;
		int r;

		sn__mem_fail_nth(nth);
		r = sn__yaml_parse(&y, "f", sn_str_from(text), NULL);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		if (r == 0)
			sn__yaml_finish(&y);
		assert_int_equal(sn__mem_live(), live);
	}
}

static void problems(void **state)
{
	struct sn_problems p;
	struct sn_error err;
	char text[300];

	sn__problems_init(&p, "f");
	assert_int_equal(sn__problems_to_error(&p, SN_E_INVALID, &err), 0);
	sn__problem_warning(&p, (struct sn_place){9, 1}, "odd");
	for (uint32_t i = 0; i < SN_PROBLEMS_MAX + 5; i++)
		(void)sn__problem(&p, (struct sn_place){100 - i, 2}, "bad\n%u", i);
	sn__problems_sort(&p);
	assert_int_equal(p.n, SN_PROBLEMS_MAX);
	assert_string_equal(
			sn__problem_text(&p, &p.list[0], text, sizeof text), "f:9:1: warning: odd");
	assert_int_equal(sn__problems_to_error(&p, SN_E_INVALID, &err), SN_E_INVALID);
	assert_string_equal(err.text, "f:38:2: bad?62 (and 68 more)");
	sn__problems_finish(&p);
	sn__mem_fail_nth(1);
	(void)sn__problem(&p, (struct sn_place){0, 0}, "lost");
	sn__mem_fail_nth(0);
	assert_int_equal(sn__problems_to_error(&p, SN_E_INVALID, &err), SN_E_INVALID);
	assert_string_equal(err.text, "f: 1 problems");
	sn__problems_finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(as_json),
			cmocka_unit_test(places),
			cmocka_unit_test(errors),
			cmocka_unit_test(numbers_json_lacks),
			cmocka_unit_test(bounds),
			cmocka_unit_test(many_keys),
			cmocka_unit_test(faults),
			cmocka_unit_test(problems),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
