/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/database/item.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"

/* Plain JSON, and the item it is. */
static const struct {
	const char *plain, *item;
	const char *back; /* what comes back when it is not @plain */
} v[] = {
		{"{}", "{}", NULL},
		{"{\"id\":\"a\"}", "{\"id\":{\"S\":\"a\"}}", NULL},
		{" { \"a\" : [ ] , \"b\" : { } } ", "{\"a\":{\"L\":[]},\"b\":{\"M\":{}}}",
				"{\"a\":[],\"b\":{}}"},
		{"{\"t\":true,\"f\":false,\"n\":null}",
				"{\"t\":{\"BOOL\":true},\"f\":{\"BOOL\":false},\"n\":{\"NULL\":true}}",
				NULL},
		/* Numbers keep their digits. */
		{"{\"n\":[0,-0,1.50,12345678901234567890123456789012345678,1e-130,9.9E+125]}",
				"{\"n\":{\"L\":[{\"N\":\"0\"},{\"N\":\"-0\"},{\"N\":\"1.50\"},"
				"{\"N\":\"12345678901234567890123456789012345678\"},"
				"{\"N\":\"1e-130\"},{\"N\":\"9.9E+125\"}]}}",
				NULL},
		/* Texts keep their escapes. */
		{"{\"\\u00e9\\n\":\"\\ud83d\\ude00\\\"\xc3\xa9\"}",
				"{\"\\u00e9\\n\":{\"S\":\"\\ud83d\\ude00\\\"\xc3\xa9\"}}", NULL},
		{"{\"z\":\"a\\u0000b\",\"\\u0000\":0}",
				"{\"z\":{\"S\":\"a\\u0000b\"},\"\\u0000\":{\"N\":\"0\"}}", NULL},
		{"{\"a\":{\"b\":[{\"c\":1}]}}",
				"{\"a\":{\"M\":{\"b\":{\"L\":[{\"M\":{\"c\":{\"N\":\"1\"}}}]}}}}",
				NULL},
		/* Binary data and sets. */
		{"{\"b\":{\"$B\":\"AAEC\"}}", "{\"b\":{\"B\":\"AAEC\"}}", NULL},
		{"{\"s\":{\"$SS\":[\"x\",\"y\"]},\"n\":{\"$NS\":[1,2.50]},\"b\":{\"$BS\":[\"AA==\"]}}",
				"{\"s\":{\"SS\":[\"x\",\"y\"]},\"n\":{\"NS\":[\"1\",\"2.50\"]},"
				"\"b\":{\"BS\":[\"AA==\"]}}",
				NULL},
		{"{\"n\":{\"$NS\":[\"3\"]},\"m\":{\"$N\":\"4\"},\"o\":{\"$N\":5}}",
				"{\"n\":{\"NS\":[\"3\"]},\"m\":{\"N\":\"4\"},\"o\":{\"N\":\"5\"}}",
				"{\"n\":{\"$NS\":[3]},\"m\":4,\"o\":5}"},
		{"{\"n\":{\"$N\":\"+.5\"},\"s\":{\"$NS\":[\"007\"]}}",
				"{\"n\":{\"N\":\"+.5\"},\"s\":{\"NS\":[\"007\"]}}", NULL},
		{"{\"b\":{\"\\u0024B\":\"AAEC\"}}", "{\"b\":{\"B\":\"AAEC\"}}",
				"{\"b\":{\"$B\":\"AAEC\"}}"},
		/* What only looks like it: at the top, with company, by another name, escaped. */
		{"{\"$B\":\"x\"}", "{\"$B\":{\"S\":\"x\"}}", NULL},
		{"{\"a\":{\"$B\":\"x\",\"c\":1}}",
				"{\"a\":{\"M\":{\"$B\":{\"S\":\"x\"},\"c\":{\"N\":\"1\"}}}}", NULL},
		{"{\"a\":{\"$S\":\"x\"}}", "{\"a\":{\"M\":{\"$S\":{\"S\":\"x\"}}}}", NULL},
		{"{\"a\":{\"B\":\"x\"}}", "{\"a\":{\"M\":{\"B\":{\"S\":\"x\"}}}}", NULL},
		{"{\"a\":{\"$$B\":\"x\"}}", "{\"a\":{\"M\":{\"$B\":{\"S\":\"x\"}}}}", NULL},
		{"{\"a\":{\"$$$NS\":[1]}}", "{\"a\":{\"M\":{\"$$NS\":{\"L\":[{\"N\":\"1\"}]}}}}",
				NULL},
		{"{\"a\":{\"\\u0024$B\":\"x\"}}", "{\"a\":{\"M\":{\"$B\":{\"S\":\"x\"}}}}",
				"{\"a\":{\"$$B\":\"x\"}}"},
		{"{\"a\":{\"$$B\":{\"$$B\":{\"$B\":\"AA==\"}}}}",
				"{\"a\":{\"M\":{\"$B\":{\"M\":{\"$B\":{\"B\":\"AA==\"}}}}}}", NULL},
		/* Members of one name are the service's affair. */
		{"{\"a\":1,\"a\":2}", "{\"a\":{\"N\":\"1\"},\"a\":{\"N\":\"2\"}}", NULL},
};

static void is(struct sn_buf *out, const char *want)
{
	assert_int_equal(sn__buf_append(out, "", 1), 0);
	assert_string_equal(sn__buf_data(out), want);
	sn__buf_clear(out);
}

static int unmarshal(const char *item, struct sn_buf *out)
{
	struct sn_json_pull in;
	int r;

	sn__json_begin(&in, sn_str_from(item));
	in.wide = true;
	r = sn__item_unmarshal(&in, out);
	return r < 0 ? r : sn__json_finish(&in);
}

static void vectors(void **state)
{
	struct sn_buf out;

	sn__buf_init(&out, 4096);
	for (size_t i = 0; i < SN_COUNT(v); i++) {
		assert_int_equal(sn__item_marshal(sn_str_from(v[i].plain), &out, NULL), 0);
		is(&out, v[i].item);
		assert_int_equal(unmarshal(v[i].item, &out), 0);
		is(&out, v[i].back != NULL ? v[i].back : v[i].plain);
	}
	sn__buf_finish(&out);
}

static void refused(void **state)
{
	static const struct {
		const char *plain;
		int code;
		size_t offset;
	} bad[] = {
			{"", SN_E_PARSE, 1},
			{"[]", SN_E_INVALID, 0},
			{" 1", SN_E_INVALID, 1},
			{"x", SN_E_PARSE, 0},
			{"{\"a\":1", SN_E_PARSE, 6},
			{"{\"a\":x}", SN_E_PARSE, 5},
			{"{\"a\":1}{", SN_E_PARSE, 7},
			{"{\"a\":{\"$B\":1}}", SN_E_INVALID, 11},
			{"{\"a\":{\"$SS\":\"x\"}}", SN_E_INVALID, 12},
			{"{\"a\":{\"$SS\":[1]}}", SN_E_INVALID, 13},
			{"{\"a\":{\"$NS\":[true]}}", SN_E_INVALID, 13},
			{"{\"a\":{\"$N\":null}}", SN_E_INVALID, 11},
			{"{\"a\":{\"$B\":\"x\"", SN_E_PARSE, 14},
			{"{\"a\":01}", SN_E_PARSE, 5},
			{"{\"a\":\"\xff\"}", SN_E_PARSE, 6},
	};
	struct sn_buf out;

	sn__buf_init(&out, 4096);
	assert_int_equal(sn__buf_puts(&out, "kept"), 0);
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		size_t at = 999;
		int r = sn__item_marshal(sn_str_from(bad[i].plain), &out, &at);

		if (r != bad[i].code || at != bad[i].offset)
			fail_msg("%s: %d at %zu", bad[i].plain, r, at);
		assert_int_equal(out.len, 4);
	}
	sn__buf_finish(&out);
}

static void not_items(void **state)
{
	static const struct {
		const char *item;
		int code;
	} bad[] = {
			{"[]", SN_E_PROTOCOL},
			{"{\"a\":1}", SN_E_PROTOCOL},
			{"{\"a\":{}}", SN_E_PROTOCOL},
			{"{\"a\":{\"X\":1}}", SN_E_PROTOCOL},
			{"{\"a\":{\"S\":1}}", SN_E_PROTOCOL},
			{"{\"a\":{\"N\":1}}", SN_E_PROTOCOL},
			{"{\"a\":{\"NULL\":false}}", SN_E_PROTOCOL},
			{"{\"a\":{\"BOOL\":\"true\"}}", SN_E_PROTOCOL},
			{"{\"a\":{\"L\":{}}}", SN_E_PROTOCOL},
			{"{\"a\":{\"M\":[]}}", SN_E_PROTOCOL},
			{"{\"a\":{\"SS\":[1]}}", SN_E_PROTOCOL},
			{"{\"a\":{\"S\":\"x\",\"N\":\"1\"}}", SN_E_PROTOCOL},
			{"{\"a\":{\"ThisIsNoTypeOfDynamoDb\":1}}", SN_E_PROTOCOL},
			{"{\"a\":{\"S\":\"x\"", SN_E_PARSE},
			{"{\"a\":{\"L\":[}}", SN_E_PARSE},
	};
	struct sn_buf out;

	sn__buf_init(&out, 4096);
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		int r = unmarshal(bad[i].item, &out);

		if (r != bad[i].code || out.len != 0)
			fail_msg("%s: %d", bad[i].item, r);
	}
	/* The names of the types may be escaped, as any name. */
	assert_int_equal(unmarshal("{\"a\":{\"\\u0053\\u0053\":[\"x\"]}}", &out), 0);
	is(&out, "{\"a\":{\"$SS\":[\"x\"]}}");
	sn__buf_finish(&out);
}

static void levels(void **state)
{
	char deep[400];
	size_t n = 0;
	struct sn_buf out, back;

	sn__buf_init(&out, 4096);
	sn__buf_init(&back, 4096);
	memcpy(deep, "{\"a\":", 5);
	memset(deep + 5, '[', 127);
	memset(deep + 132, ']', 127);
	deep[259] = '}';
	assert_int_equal(sn__item_marshal((struct sn_str){deep, 260}, &out, NULL), 0);
	/* Twice as many on the wire. */
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_int_equal(unmarshal(sn__buf_data(&out), &back), SN_E_LIMIT);
	assert_int_equal(back.len, 0);
	sn__buf_clear(&out);
	memset(deep + 5, '[', 128);
	assert_int_equal(sn__item_marshal((struct sn_str){deep, 260}, &out, &n), SN_E_LIMIT);
	assert_int_equal(n, 5 + 127);
	assert_int_equal(out.len, 0);
	sn__buf_finish(&out);
	sn__buf_finish(&back);
	sn__buf_init(&out, 20);
	assert_int_equal(sn__item_marshal(SN_STR("{\"a\":[1,2,3]}"), &out, NULL), SN_E_LIMIT);
	assert_int_equal(out.len, 0);
	sn__buf_finish(&out);
}

static void no_memory(void **state)
{
	int64_t live = sn__mem_live();
	char plain[1200];
	int n = snprintf(
			plain, sizeof plain, "{\"a\":{\"$SS\":[\"%0500d\"]},\"b\":[{\"c\":1}]}", 0);

	for (unsigned nth = 1;; nth++) {
		struct sn_json_pull in;
		struct sn_buf item, back;
		int r, s = 0;

		sn__buf_init(&item, 4096);
		sn__buf_init(&back, 4096);
		sn__mem_fail_nth(nth);
		r = sn__item_marshal((struct sn_str){plain, (size_t)n}, &item, NULL);
		if (r == 0) {
			sn__json_begin(&in, sn__buf_str(&item));
			s = sn__item_unmarshal(&in, &back);
		}
		sn__mem_fail_nth(0);
		assert_true((r == 0 || (r == SN_E_NOMEM && item.len == 0)));
		assert_true((s == 0 || (s == SN_E_NOMEM && back.len == 0)));
		sn__buf_finish(&item);
		sn__buf_finish(&back);
		assert_int_equal(sn__mem_live(), live);
		if (r == 0 && s == 0) {
			assert_true(nth > 2);
			break;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(vectors),
			cmocka_unit_test(refused),
			cmocka_unit_test(not_items),
			cmocka_unit_test(levels),
			cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
