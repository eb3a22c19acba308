/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON reader and what is built on it (members, equality, quoting). */
#include "base/buf.h"
#include "base/mem.h"
#include "base/test.h"
#include "proto/json_value.h"

static int check(const char *text)
{
	return sn__json_check(sn_str_from(text), NULL);
}

static void accepts(void **state)
{
	static const char *const good[] = {"null", "true", " false ", "0", "-0", "-1.5e+10", "1E5",
			"\"\"", "[]", "{}", "[1,2]", "{\"a\":1}", "\t[ 1 , { \"a\" : [ ] } ]\r\n",
			"\"\\u00e9\\ud83d\\ude00\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
			"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "{\"a\":1,\"a\":2}", "\"\x7f\"",
			"[[[[[[[[]]]]]]]]", "\"12345678\\n901234567\""};

	for (size_t i = 0; i < SN_COUNT(good); i++) {
		if (check(good[i]) != 0)
			fail_msg("refused: %s", good[i]);
	}
}

static void refuses(void **state)
{
	static const char *const bad[] = {"", " ", "nul", "nulll", "tru", "[", "]", "{", "}", "[1",
			"[1,", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,}",
			"{a:1}", "{\"a\" 1}", "{1:2}", "[}", "{]", "[1}", "{\"a\":1]", "1 2", "01",
			"-", "+1", "1.", ".5", "1e", "1e+", "0x1", "--1", "NaN", "Infinity", "\"",
			"\"a", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"",
			"\"\\ud800x\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\\u0000\"",
			"\"\x01\"", "\"\n\"", "\"\x80\"", "\"\xc0\x80\"", "\"\xc3\"",
			"\"\xe0\x80\x80\"", "\"\xed\xa0\x80\"", "\"\xf0\x80\x80\x80\"",
			"\"\xf4\x90\x80\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xe2\x82\"", "'a'",
			"\xef\xbb\xbf{}", "{\"a\":1}x", "/**/1", "\"a\\",
			"\"abcdefgh\x1fijklmnop\""};

	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		if (check(bad[i]) != SN_E_PARSE)
			fail_msg("accepted: %s", bad[i]);
	}
	assert_int_equal(sn__json_check((struct sn_str){"1\0", 2}, NULL), SN_E_PARSE);
}

static void depth(void **state)
{
	char text[3 * SN_JSON_PULL_DEPTH];
	size_t offset = 0;

	memset(text, '[', SN_JSON_PULL_DEPTH);
	memset(text + SN_JSON_PULL_DEPTH, ']', SN_JSON_PULL_DEPTH);
	assert_int_equal(
			sn__json_check((struct sn_str){text, (size_t)2 * SN_JSON_PULL_DEPTH}, NULL),
			0);
	memset(text, '[', SN_JSON_PULL_DEPTH + 1);
	assert_int_equal(sn__json_check((struct sn_str){text, (size_t)2 * SN_JSON_PULL_DEPTH},
					 &offset),
			SN_E_LIMIT);
	assert_int_equal(offset, SN_JSON_PULL_DEPTH);
}

static void pulls(void **state)
{
	struct sn_str text = SN_STR(
			" { \"a\" : [ 1, \"x\\ty\", true, null ], \"b\\u0062\":-2.5 , \"c\":{} } ");
	struct sn_json_string key, s;
	struct sn_json_pull r;
	struct sn_str n, raw;
	char out[8];
	bool b;

	sn__json_begin(&r, text);
	assert_int_equal(sn__json_enter_object(&r), 0);
	assert_int_equal(sn__json_member(&r, &key), 1);
	assert_true(sn__json_string_is(key, SN_STR("a")));
	assert_int_equal(sn__json_enter_array(&r), 0);
	assert_int_equal(sn__json_item(&r), 1);
	assert_int_equal(sn__json_peek(&r), SN_JSON_NUMBER);
	assert_int_equal(sn__json_number(&r, &n), 0);
	assert_true(sn_str_eq(n, SN_STR("1")));
	assert_int_equal(sn__json_item(&r), 1);
	assert_int_equal(sn__json_string(&r, &s), 0);
	assert_true(s.escaped);
	assert_int_equal(sn__json_unescape(s, out), 3);
	assert_memory_equal(out, "x\ty", 3);
	assert_int_equal(sn__json_item(&r), 1);
	assert_int_equal(sn__json_bool(&r, &b), 0);
	assert_true(b);
	assert_int_equal(sn__json_item(&r), 1);
	assert_int_equal(sn__json_null(&r), 0);
	assert_int_equal(sn__json_item(&r), 0);
	assert_int_equal(sn__json_member(&r, &key), 1);
	assert_true(sn__json_string_is(key, SN_STR("bb")));
	assert_false(sn__json_string_is(key, SN_STR("b")));
	assert_false(sn__json_string_is(key, SN_STR("bbb")));
	assert_int_equal(sn__json_skip(&r, &raw), 0);
	assert_true(sn_str_eq(raw, SN_STR("-2.5")));
	assert_int_equal(sn__json_member(&r, &key), 1);
	assert_int_equal(sn__json_skip(&r, &raw), 0);
	assert_true(sn_str_eq(raw, SN_STR("{}")));
	assert_int_equal(sn__json_member(&r, &key), 0);
	assert_int_equal(sn__json_finish(&r), 0);
	/* An error stays. */
	assert_int_equal(sn__json_null(&r), SN_E_PARSE);
	assert_int_equal(sn__json_finish(&r), SN_E_PARSE);
}

static void numbers(void **state)
{
	static const struct {
		const char *a, *b;
		bool equal;
	} pairs[] = {
			{"1", "1.0", true},
			{"1", "10e-1", true},
			{"100", "1e2", true},
			{"0.001", "1E-3", true},
			{"-0", "0", true},
			{"0", "0.00e5", true},
			{"1", "-1", false},
			{"1", "1.0000000001", false},
			{"123456789012345678901234567890", "12345678901234567890123456789e1", true},
			{"123456789012345678901234567890", "123456789012345678901234567891", false},
			{"1.50", "15e-1", true},
			{"10.01", "1.001e1", true},
			{"10.01", "100.1", false},
			{"1e400", "10e399", true},
			{"1e400", "1e401", false},
			{"0.5", "5", false},
	};
	uint64_t v = 7;

	for (size_t i = 0; i < SN_COUNT(pairs); i++) {
		struct sn_str a = sn_str_from(pairs[i].a), b = sn_str_from(pairs[i].b);

		if (sn__json_number_eq(a, b) != pairs[i].equal ||
				sn__json_number_eq(b, a) != pairs[i].equal)
			fail_msg("%s and %s", pairs[i].a, pairs[i].b);
	}
	assert_int_equal(sn__json_uint(SN_STR("65535"), 65535, &v), 0);
	assert_int_equal(v, 65535);
	assert_int_equal(sn__json_uint(SN_STR("65536"), 65535, &v), SN_E_LIMIT);
	assert_int_equal(sn__json_uint(SN_STR("8.08e3"), 65535, &v), 0);
	assert_int_equal(v, 8080);
	assert_int_equal(sn__json_uint(SN_STR("443.0"), 65535, &v), 0);
	assert_int_equal(v, 443);
	assert_int_equal(sn__json_uint(SN_STR("0.0e9"), 65535, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(sn__json_uint(SN_STR("443.5"), 65535, &v), SN_E_PARSE);
	assert_int_equal(sn__json_uint(SN_STR("-1"), 65535, &v), SN_E_PARSE);
	assert_int_equal(sn__json_uint(SN_STR("1e99"), UINT64_MAX, &v), SN_E_LIMIT);
	assert_int_equal(sn__json_uint(SN_STR("99999999999999999999"), UINT64_MAX, &v), SN_E_LIMIT);
	assert_int_equal(sn__json_uint(SN_STR("18446744073709551615"), UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
}

static void members(void **state)
{
	struct sn_arena arena;
	struct sn_json_members m;
	struct sn_buf b;

	sn__arena_init(&arena, 512, 1 << 20);
	assert_int_equal(
			sn__json_members(
					SN_STR("{\"a\":1,\"b\":2,\"\\u0061\":3,\"c\":[],\"b\":{}}"),
					&arena, &m),
			0);
	assert_int_equal(m.n, 3);
	assert_true(sn_str_eq(m.v[0].key, SN_STR("a")) && sn_str_eq(m.v[0].raw, SN_STR("3")));
	assert_true(sn_str_eq(m.v[1].key, SN_STR("b")) && m.v[1].type == SN_JSON_OBJECT);
	assert_true(sn__json_members_get(&m, SN_STR("c")) == &m.v[2]);
	assert_null(sn__json_members_get(&m, SN_STR("d")));
	assert_int_equal(sn__json_members(SN_STR("[]"), &arena, &m), SN_E_PARSE);
	/* Many, with a double far away. */
	sn__buf_init(&b, 1 << 16);
	for (int i = 0; i < 300; i++)
		assert_int_equal(sn__buf_printf(&b, "%s\"k%d\":%d", i == 0 ? "{" : ",", i % 299, i),
				0);
	assert_int_equal(sn__buf_puts(&b, "}"), 0);
	assert_int_equal(sn__json_members(sn__buf_str(&b), &arena, &m), 0);
	assert_int_equal(m.n, 299);
	assert_true(sn_str_eq(m.v[0].raw, SN_STR("299")));
	assert_true(sn_str_eq(m.v[298].raw, SN_STR("298")));
	sn__buf_finish(&b);
	sn__arena_finish(&arena);
}

static void equality(void **state)
{
	static const struct {
		const char *a, *b;
		bool equal;
	} pairs[] = {
			{"{\"a\":1,\"b\":2}", "{ \"b\" : 2.0, \"a\" : 1 }", true},
			{"{\"a\":1}", "{\"a\":1,\"b\":null}", false},
			{"{\"a\":null}", "{\"a\":null}", true},
			{"{\"a\":null}", "{\"b\":null}", false},
			{"[1,2]", "[2,1]", false},
			{"[1,2]", "[ 1 , 2 ]", true},
			{"[1,2]", "[1,2,3]", false},
			{"[]", "{}", false},
			{"1", "\"1\"", false},
			{"\"\\u00e9\"", "\"\xc3\xa9\"", true},
			{"\"a\"", "\"A\"", false},
			{"{\"a\":1,\"a\":2}", "{\"a\":2}", true},
			{"{\"a\":2,\"a\":1}", "{\"a\":2}", false},
			{"true", "false", false},
			{"{\"x\":{\"y\":[{\"z\":1},{}]}}", "{\"x\":{\"y\":[{\"z\":1e0},{ }]}}",
					true},
			{"{\"x\":{\"y\":[{\"z\":1},{}]}}", "{\"x\":{\"y\":[{\"z\":1},[]]}}", false},
			{"{\"\\u0061\":1,\"b\":2}", "{\"b\":2,\"a\":1}", true},
	};
	struct sn_arena arena;

	sn__arena_init(&arena, 512, 1 << 20);
	for (size_t i = 0; i < SN_COUNT(pairs); i++) {
		bool ab = !pairs[i].equal, ba = ab;
		struct sn_str a = sn_str_from(pairs[i].a), b = sn_str_from(pairs[i].b);

		assert_int_equal(sn__json_text_equal(a, b, &arena, &ab), 0);
		assert_int_equal(sn__json_text_equal(b, a, &arena, &ba), 0);
		if (ab != pairs[i].equal || ba != pairs[i].equal)
			fail_msg("%s and %s", pairs[i].a, pairs[i].b);
	}
	sn__arena_finish(&arena);
}

static void out_of_memory(void **state)
{
	int64_t live = sn__mem_live();
	struct sn_arena arena;
	bool equal = false;
	int rc = SN_E_NOMEM;

	for (uint64_t n = 1; rc == SN_E_NOMEM; n++) {
		sn__arena_init(&arena, 16, 1 << 20);
		sn__mem_fail_nth(n);
		rc = sn__json_text_equal(SN_STR("{\"\\u0061\":[{\"b\":1}],\"c\":{}}"),
				SN_STR("{\"c\":{},\"a\":[{\"b\":1.0}]}"), &arena, &equal);
		sn__mem_fail_nth(0);
		sn__arena_finish(&arena);
		assert_true(sn__mem_live() == live);
		assert_true(rc == 0 ? equal : !equal);
	}
	assert_int_equal(rc, 0);
}

static void quoting(void **state)
{
	char out[64];
	struct sn_str text = {"a\"\\\n\x01\x0b\xc3\xa9/", 9};
	size_t n = sn__json_quote_to(text, out);
	struct sn_json_string s;
	struct sn_json_pull r;
	char back[64];

	assert_int_equal(sn__json_check((struct sn_str){out, n}, NULL), 0);
	sn__json_begin(&r, (struct sn_str){out, n});
	assert_int_equal(sn__json_string(&r, &s), 0);
	assert_int_equal(sn__json_unescape(s, back), text.len);
	assert_memory_equal(back, text.ptr, text.len);
}

/* What cannot stand as it is, at every place of texts of every length: bytes are looked at by eights.
 * Memory ends with the text. */
static void quoting_at_every_place(void **state)
{
	static const char *const odd[] = {"\"", "\\", "\n", "\x1f", "\xc3\xa9", "\x7f"};
	char out[256], back[64];

	for (size_t len = 0; len < 20; len++) {
		for (size_t at = 0; at <= len; at++) {
			const char *here = odd[(len + at) % SN_COUNT(odd)];
			size_t n = len + strlen(here), n_out;
			char *text = test_malloc(n), *quoted;
			struct sn_json_string s;
			struct sn_json_pull r;
			struct sn_str raw;

			memset(text, 'a', n);
			memcpy(text + at, here, strlen(here));
			n_out = sn__json_quote_to((struct sn_str){text, n}, out);
			quoted = test_malloc(n_out);
			memcpy(quoted, out, n_out);
			sn__json_begin(&r, (struct sn_str){quoted, n_out});
			assert_int_equal(sn__json_string(&r, &s), 0);
			assert_int_equal(sn__json_unescape(s, back), n);
			assert_memory_equal(back, text, n);
			sn__json_begin_checked(&r, (struct sn_str){quoted, n_out});
			assert_int_equal(sn__json_skip(&r, &raw), 0);
			assert_int_equal(raw.len, n_out);
			assert_int_equal(sn__json_check((struct sn_str){quoted, n_out - 1}, NULL),
					SN_E_PARSE);
			test_free(quoted);
			test_free(text);
		}
	}
}

/* What is only passed on: any text, more levels, both kinds of them. */
static void wide(void **state)
{
	char text[2 * SN_JSON_PULL_WIDE + 40];
	struct sn_json_string key;
	struct sn_json_pull r;
	struct sn_str raw;
	size_t at = 0, n = 0;

	(void)state;
	assert_int_equal(sn__json_check(SN_STR("\"a\\u0000\""), NULL), SN_E_PARSE);
	assert_int_equal(sn__json_check_wide(SN_STR("\"a\\u0000\""), NULL), 0);
	assert_int_equal(sn__json_check_wide(SN_STR("\"\\ud800\""), NULL), SN_E_PARSE);
	assert_int_equal(sn__json_check_wide(SN_STR("\"\0\""), NULL), SN_E_PARSE);
	sn__json_begin(&r, SN_STR("{\"\\u0000\":[1]}"));
	r.wide = true;
	assert_int_equal(sn__json_enter_object(&r), 0);
	assert_int_equal(sn__json_member(&r, &key), 1);
	assert_int_equal(sn__json_unescape(key, text), 1);
	assert_int_equal(text[0], 0);
	assert_int_equal(sn__json_skip(&r, &raw), 0);
	assert_int_equal(raw.len, 3);
	memset(text, '[', SN_JSON_PULL_WIDE);
	memset(text + SN_JSON_PULL_WIDE, ']', SN_JSON_PULL_WIDE);
	assert_int_equal(sn__json_check_wide(
					 (struct sn_str){text, (size_t)2 * SN_JSON_PULL_WIDE}, &at),
			0);
	assert_int_equal(sn__json_check((struct sn_str){text, (size_t)2 * SN_JSON_PULL_WIDE}, &at),
			SN_E_LIMIT);
	assert_int_equal(at, SN_JSON_PULL_DEPTH);
	memset(text, '[', SN_JSON_PULL_WIDE + 1);
	assert_int_equal(sn__json_check_wide((struct sn_str){text, sizeof text}, &at), SN_E_LIMIT);
	assert_int_equal(at, SN_JSON_PULL_WIDE);
	/* Objects and arrays by turns, closed by the wrong bracket at every level. */
	for (unsigned levels = 1; levels <= 20; levels++) {
		n = 0;
		for (unsigned i = 0; i < levels; i++) {
			memcpy(text + n, i % 3 == 1 ? "{\"\":" : "[", i % 3 == 1 ? 4 : 1);
			n += i % 3 == 1 ? 4 : 1;
		}
		text[n++] = '0';
		for (unsigned i = levels; i-- > 0;)
			text[n++] = i % 3 == 1 ? '}' : ']';
		assert_int_equal(sn__json_check_wide((struct sn_str){text, n}, &at), 0);
		text[n - 1] = '}';
		assert_int_equal(sn__json_check_wide((struct sn_str){text, n}, &at), SN_E_PARSE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(accepts),
			cmocka_unit_test(refuses),
			cmocka_unit_test(depth),
			cmocka_unit_test(pulls),
			cmocka_unit_test(numbers),
			cmocka_unit_test(members),
			cmocka_unit_test(equality),
			cmocka_unit_test(out_of_memory),
			cmocka_unit_test(quoting),
			cmocka_unit_test(quoting_at_every_place),
			cmocka_unit_test(wide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
