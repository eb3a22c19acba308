/* SPDX-License-Identifier: Apache-2.0 */
/* Times, durations, field masks and base64 as text. */
#include "proto/protobuf_known.h"

#include "base/mem.h"
#include "base/test.h"

typedef int (*time_text_fn)(int64_t seconds, int32_t nanos, struct sn_buf *out);
typedef int (*time_parse_fn)(struct sn_str text, int64_t *ret_seconds, int32_t *ret_nanos);

struct time {
	const char *text;
	int64_t seconds;
	int32_t nanos;
};

static void same_time(const struct time *t, time_text_fn put, time_parse_fn parse)
{
	int64_t seconds = 7;
	int32_t nanos = 7;
	struct sn_buf out;

	sn__buf_init(&out, 100);
	assert_int_equal(put(t->seconds, t->nanos, &out), 0);
	if (!sn_str_eq(sn__buf_str(&out), sn_str_from(t->text)))
		fail_msg("%.*s is not %s", (int)out.len, sn__buf_data(&out), t->text);
	assert_int_equal(parse(sn_str_from(t->text), &seconds, &nanos), 0);
	assert_true(seconds == t->seconds && nanos == t->nanos);
	sn__buf_finish(&out);
}

static void times(void **state)
{
	static const struct time good[] = {
			{"1970-01-01T00:00:00Z", 0, 0},
			{"1972-01-01T10:00:20.021Z", 63108020, 21000000},
			{"0001-01-01T00:00:00Z", INT64_C(-62135596800), 0},
			{"9999-12-31T23:59:59.999999999Z", INT64_C(253402300799), 999999999},
			{"1969-12-31T23:59:59.000001Z", -1, 1000},
			{"2000-02-29T00:00:00Z", 951782400, 0},
			{"2000-03-01T00:00:00Z", 951868800, 0},
			{"1900-03-01T00:00:00Z", INT64_C(-2203891200), 0},
			{"2026-11-21T06:30:00Z", 1795242600, 0},
	};
	static const char *const bad[] = {"", "1972-01-01T10:00:20", "1972-01-01t10:00:20Z",
			"1972-01-01T10:00:20z", "1972-13-01T10:00:20Z", "1972-00-01T10:00:20Z",
			"1972-01-32T10:00:20Z", "1973-02-29T10:00:20Z", "1900-02-29T00:00:00Z",
			"1972-01-01T24:00:00Z", "1972-01-01T10:60:20Z", "1972-01-01T10:00:60Z",
			"0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z",
			"0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01",
			"1972-01-01T10:00:20.Z", "1972-01-01T10:00:20.1234567890Z",
			"1972-01-01T10:00:20Zx", "1972-01-01", "1972-1-01T10:00:20Z",
			"1972-01-01T10:00:20+1:30", "1972-01-01T10:00:20+24:00"};
	int64_t seconds = 7;
	int32_t nanos = 7;
	struct sn_buf out;

	for (size_t i = 0; i < SN_COUNT(good); i++)
		same_time(&good[i], sn__protobuf_timestamp_text, sn__protobuf_timestamp_parse);
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		if (sn__protobuf_timestamp_parse(sn_str_from(bad[i]), &seconds, &nanos) !=
				SN_E_PARSE)
			fail_msg("accepted: %s", bad[i]);
	}
	assert_true(seconds == 7 && nanos == 7);
	assert_int_equal(sn__protobuf_timestamp_parse(
					 SN_STR("1970-01-01T01:30:00.5+01:30"), &seconds, &nanos),
			0);
	assert_true(seconds == 0 && nanos == 500000000);
	sn__buf_init(&out, 100);
	assert_int_equal(sn__protobuf_timestamp_text(INT64_C(-62135596801), 0, &out), SN_E_PARSE);
	assert_int_equal(sn__protobuf_timestamp_text(INT64_C(253402300800), 0, &out), SN_E_PARSE);
	assert_int_equal(sn__protobuf_timestamp_text(0, -1, &out), SN_E_PARSE);
	assert_int_equal(sn__protobuf_timestamp_text(0, 1000000000, &out), SN_E_PARSE);
	assert_int_equal(out.len, 0);
	sn__buf_finish(&out);
}

/* Every day of 800 years, and one before and after each end of a century. */
static void all_days(void **state)
{
	int64_t day = INT64_C(-30) * 366 * 86400;
	struct sn_buf out;
	struct sn_str last = {NULL, 0};
	char copy[24] = "";

	sn__buf_init(&out, 100);
	for (int i = 0; i < 800 * 365; i++, day += 86400) {
		int64_t seconds;
		int32_t nanos;

		sn__buf_clear(&out);
		assert_int_equal(sn__protobuf_timestamp_text(day, 0, &out), 0);
		assert_int_equal(sn__protobuf_timestamp_parse(sn__buf_str(&out), &seconds, &nanos),
				0);
		assert_true(seconds == day);
		if (last.len > 0)
			assert_true(memcmp(last.ptr, sn__buf_data(&out), 10) < 0);
		memcpy(copy, sn__buf_data(&out), out.len);
		last = (struct sn_str){copy, out.len};
	}
	sn__buf_finish(&out);
}

static void durations(void **state)
{
	static const struct time good[] = {
			{"0s", 0, 0},
			{"1.500s", 1, 500000000},
			{"-1.500s", -1, -500000000},
			{"-0.000001s", 0, -1000},
			{"0.000000001s", 0, 1},
			{"315576000000.999999999s", INT64_C(315576000000), 999999999},
			{"-315576000000s", INT64_C(-315576000000), 0},
	};
	static const char *const bad[] = {"", "1", "s", "-s", ".5s", "1.s", "1.0000000001s", "+1s",
			"--1s", "1 s", "1ss", "315576000001s", "99999999999999999999s", "0x1s"};
	int64_t seconds = 7;
	int32_t nanos = 7;
	struct sn_buf out;

	for (size_t i = 0; i < SN_COUNT(good); i++)
		same_time(&good[i], sn__protobuf_duration_text, sn__protobuf_duration_parse);
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		if (sn__protobuf_duration_parse(sn_str_from(bad[i]), &seconds, &nanos) !=
				SN_E_PARSE)
			fail_msg("accepted: %s", bad[i]);
	}
	assert_true(seconds == 7 && nanos == 7);
	sn__buf_init(&out, 100);
	assert_int_equal(sn__protobuf_duration_text(1, -1, &out), SN_E_PARSE);
	assert_int_equal(sn__protobuf_duration_text(-1, 1, &out), SN_E_PARSE);
	assert_int_equal(sn__protobuf_duration_text(0, 1000000000, &out), SN_E_PARSE);
	assert_int_equal(sn__protobuf_duration_text(INT64_C(315576000001), 0, &out), SN_E_PARSE);
	assert_int_equal(sn__protobuf_duration_text(INT64_MIN, 0, &out), SN_E_PARSE);
	assert_int_equal(sn__protobuf_duration_text(0, INT32_MIN, &out), SN_E_PARSE);
	sn__buf_finish(&out);
}

static void paths(void **state)
{
	static const struct {
		const char *path, *text;
	} good[] = {
			{"", ""},
			{"a", "a"},
			{"foo_bar.baz_qux", "fooBar.bazQux"},
			{"a_b_c", "aBC"},
			{"_a", "A"},
			{"a1.b2_c", "a1.b2C"},
	};
	static const char *const bad[] = {"fooBar", "a_", "a__b", "a_1", "a_.b", "A"};
	struct sn_buf out;

	sn__buf_init(&out, 100);
	for (size_t i = 0; i < SN_COUNT(good); i++) {
		sn__buf_clear(&out);
		assert_int_equal(sn__protobuf_path_text(sn_str_from(good[i].path), &out), 0);
		assert_true(sn_str_eq(sn__buf_str(&out), sn_str_from(good[i].text)));
		sn__buf_clear(&out);
		assert_int_equal(sn__protobuf_path_parse(sn_str_from(good[i].text), &out), 0);
		assert_true(sn_str_eq(sn__buf_str(&out), sn_str_from(good[i].path)));
	}
	for (size_t i = 0; i < SN_COUNT(bad); i++)
		assert_int_equal(sn__protobuf_path_text(sn_str_from(bad[i]), &out), SN_E_PARSE);
	assert_int_equal(sn__protobuf_path_parse(SN_STR("a_b"), &out), SN_E_PARSE);
	sn__buf_finish(&out);
}

/* RFC 4648, section 10, and the alphabets' ends. */
static void base64(void **state)
{
	static const struct {
		const char *bytes, *text;
	} good[] = {
			{"", ""},
			{"f", "Zg=="},
			{"fo", "Zm8="},
			{"foo", "Zm9v"},
			{"foob", "Zm9vYg=="},
			{"fooba", "Zm9vYmE="},
			{"foobar", "Zm9vYmFy"},
			{"\xfb\xff\xbf", "+/+/"},
	};
	static const char *const bad[] = {"Z", "Zg=", "=", "==", "Z===", "Zg==Zg==", "Zm8=x",
			"Z g=", "Zm9v\n", "Zm9vY"};
	struct sn_buf out;

	sn__buf_init(&out, 100);
	for (size_t i = 0; i < SN_COUNT(good); i++) {
		sn__buf_clear(&out);
		assert_int_equal(sn__protobuf_base64_text(sn_str_from(good[i].bytes), &out), 0);
		assert_true(sn_str_eq(sn__buf_str(&out), sn_str_from(good[i].text)));
		sn__buf_clear(&out);
		assert_int_equal(sn__protobuf_base64_parse(sn_str_from(good[i].text), &out), 0);
		assert_true(sn_str_eq(sn__buf_str(&out), sn_str_from(good[i].bytes)));
	}
	sn__buf_clear(&out);
	assert_int_equal(sn__protobuf_base64_parse(SN_STR("-_-_Zm8"), &out), 0);
	assert_true(sn_str_eq(sn__buf_str(&out),
			SN_STR("\xfb\xff\xbf"
			       "fo")));
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		sn__buf_clear(&out);
		assert_int_equal(sn__protobuf_base64_parse(sn_str_from(bad[i]), &out), SN_E_PARSE);
		assert_int_equal(out.len, 0);
	}
	sn__buf_finish(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(times),
			cmocka_unit_test(all_days),
			cmocka_unit_test(durations),
			cmocka_unit_test(paths),
			cmocka_unit_test(base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
