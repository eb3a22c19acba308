/* SPDX-License-Identifier: Apache-2.0 */
/* Dates of HTTP and of ISO 8601. */
#include "base/test.h"
#include "proto/date.h"

static void http(void **state)
{
	static const char *const wrong[] = {"", "Sun, 06 Nov 1994 08:49:37 UTC",
			"Sun, 06 nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
			"Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
			"Sun, 06 Nov 1994 08:60:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT",
			"Sun, 06 Nov 1969 08:49:37 GMT", "Sun,  6 Nov 1994 08:49:37 GMT",
			"Sun, 06 Nov 1994 08:49:37 GMT ", "Sunday, 06-Nov-94 08:49:37 GMT"};
	int64_t s = 7;

	assert_true(sn__date_http(SN_STR("Sun, 06 Nov 1994 08:49:37 GMT"), &s));
	assert_int_equal(s, 784111777);
	assert_true(sn__date_http(SN_STR("Thu, 01 Jan 1970 00:00:00 GMT"), &s));
	assert_int_equal(s, 0);
	assert_true(sn__date_http(SN_STR("Thu, 31 Dec 2037 23:59:60 GMT"), &s));
	assert_int_equal(s, 2145916800);
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_false(sn__date_http(sn_str_from(wrong[i]), &s));
	assert_int_equal(s, 2145916800);
}

static void iso(void **state)
{
	static const char *const good[] = {"2015-08-30T12:36:00Z", "2015-08-30T12:36:00.5Z",
			"2015-08-30T12:36:00.123456Z", "2015-08-30T12:36:00+00:00",
			"2015-08-30T12:36:00.1+00:00"};
	static const char *const wrong[] = {"", "2015-08-30", "2015-08-30T12:36:00",
			"2015-08-30 12:36:00Z", "2015-13-30T12:36:00Z", "2015-00-30T12:36:00Z",
			"2015-08-30T12:36:00+01:00", "2015-08-30T12:36:00Zz",
			"2015-08-30T12:36:00.", "2015-08-30T12:3a:00Z", "1969-08-30T12:36:00Z",
			"2015-08-30T12-36:00Z", "+015-08-30T12:36:00Z"};
	int64_t s = 7;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_true(sn__date_iso(sn_str_from(good[i]), &s));
		assert_int_equal(s, 1440938160);
	}
	assert_true(sn__date_iso(SN_STR("2016-02-29T00:00:00Z"), &s));
	assert_int_equal(s, 1456704000);
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_false(sn__date_iso(sn_str_from(wrong[i]), &s));
	assert_int_equal(s, 1456704000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(http),
			cmocka_unit_test(iso),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
