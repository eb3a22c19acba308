/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/mem.h"
#include "base/time.h"
#include "proto/microhome.h"

static void timestamps(void **state)
{
	static const struct {
		uint64_t s, ms;
		const char *text;
	} cases[] = {
			{0, 0, "1970-01-01T00:00:00.000Z"},
			{951782399, 999, "2000-02-28T23:59:59.999Z"},
			{951782400, 1, "2000-02-29T00:00:00.001Z"},
			{1930795506, 789, "2031-03-09T04:05:06.789Z"},
			{4107542399, 0, "2100-02-28T23:59:59.000Z"},
			{4107542400, 0, "2100-03-01T00:00:00.000Z"},
	};
	char out[SN_MICROHOME_TIMESTAMP + 1] = "";

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		sn__microhome_timestamp(cases[i].s * SN_NS_PER_S + cases[i].ms * SN_NS_PER_MS, out);
		assert_string_equal(out, cases[i].text);
	}
}

static void ids(void **state)
{
	const struct sn_str none = {NULL, 0};
	char a[SN_MICROHOME_UUID], b[SN_MICROHOME_UUID], plain[SN_MICROHOME_UUID];
	struct sn_str request = {a, sizeof(a)}, reply = {b, sizeof(b)};
	struct sn_rng rng;

	sn__rng_seed(&rng, 1);
	for (unsigned i = 0; i < 1000; i++) {
		sn__microhome_uuid(&rng, plain);
		assert_int_equal(plain[14], '4');
		assert_non_null(memchr("89ab", plain[19], 4));
		assert_false(sn__microhome_is_marked((struct sn_str){plain, sizeof(plain)}, none));
		sn__microhome_uuid_marked(&rng, none, a);
		assert_true(sn__microhome_is_marked(request, none));
		assert_int_equal(a[14], '4');
		sn__microhome_uuid_marked(&rng, request, b);
		assert_true(sn__microhome_is_marked(reply, request));
		assert_false(sn__microhome_is_marked(reply, none));
		assert_false(sn__microhome_is_marked(reply, (struct sn_str){plain, sizeof(plain)}));
		a[0] = a[0] == '0' ? '1' : '0';
		assert_false(sn__microhome_is_marked(request, none));
	}
	assert_false(sn__microhome_is_marked(SN_STR("c0a7e1d2"), none));
	assert_false(sn__microhome_is_marked(none, none));
	assert_false(sn__microhome_is_marked(reply, SN_STR("no uuid")));
}

/* Every prefix with an escape takes memory; without memory it says so. */
static void escapes(void **state)
{
	static const char text[] = "{\"type\":\"\\u00b5.\\n\",\"source\":\"a\\\"b\",\"id\":\"x\","
				   "\"data\":{\"z\":\"\\u0000\"},\"type\":\"\\t\"}";
	struct sn_microhome_packet p = {.payload = sn_str_from(text), .version = 2, .status = 1};
	struct sn_microhome_event e;
	struct sn_buf scratch;

	sn__buf_init(&scratch, SN_MICROHOME_PAYLOAD_MAX * 2);
	sn__mem_fail_nth(1);
	assert_int_equal(sn__microhome_read(&p, false, &scratch, &e), SN_MICROHOME_E_NOMEM);
	sn__mem_fail_nth(0);
	assert_int_equal(sn__microhome_read(&p, false, &scratch, &e), SN_MICROHOME_FINE);
	assert_true(sn_str_eq(e.type, SN_STR("\t")));
	assert_true(sn_str_eq(e.source, SN_STR("a\"b")));
	assert_true(sn_str_eq(e.data, SN_STR("{\"z\":\"\\u0000\"}")));
	assert_null(e.timestamp.ptr);
	assert_int_equal(sn__microhome_read(&p, true, &scratch, &e), SN_MICROHOME_E_FIELDS);
	sn__buf_finish(&scratch);
}

static void writing(void **state)
{
	struct sn_microhome_send s = {.id = SN_STR("i"),
			.timestamp = SN_STR("t"),
			.source = SN_STR("a\n"),
			.type = SN_STR("x.y"),
			.token = SN_STR("\"s\""),
			.version = 9,
			.status = 2};
	char *big = sn__malloc(70000);
	struct sn_microhome_packet p;
	struct sn_buf out;

	sn__buf_init(&out, SN_MICROHOME_PACKET_MAX * 8);
	sn__mem_fail_nth(1);
	assert_int_equal(sn__microhome_write(&s, &out), SN_MICROHOME_E_NOMEM);
	sn__mem_fail_nth(0);
	assert_int_equal(sn__microhome_write(&s, &out), SN_MICROHOME_FINE);
	assert_int_equal(sn__microhome_next(sn__buf_str(&out), &p), out.len);
	assert_int_equal(p.version, 2);
	assert_true(sn_str_eq(p.payload,
			SN_STR("{\"id\":\"i\",\"timestamp\":\"t\",\"source\":\"a\\n\",\"type\":"
			       "\"x.y\",\"token\":\"\\\"s\\\"\"}")));
	sn__buf_clear(&out);
	memset(big, '1', 70000);
	s.data = (struct sn_str){big, SN_MICROHOME_PAYLOAD_MAX};
	assert_int_equal(sn__microhome_write(&s, &out), SN_MICROHOME_E_TOO_LARGE);
	s.data.len = 70000;
	assert_int_equal(sn__microhome_write(&s, &out), SN_MICROHOME_E_TOO_LARGE);
	s.data.len = 1;
	s.status = 256;
	assert_int_equal(sn__microhome_write(&s, &out), SN_MICROHOME_E_STATUS_RANGE);
	s.type.len = 0;
	assert_int_equal(sn__microhome_write(&s, &out), SN_MICROHOME_E_FIELDS);
	assert_int_equal(out.len, 0);
	sn__buf_finish(&out);
	sn__free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(timestamps),
			cmocka_unit_test(ids),
			cmocka_unit_test(escapes),
			cmocka_unit_test(writing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
