/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, strings and numbers, buffers, arenas, lists, random numbers, errors. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"
#include "base/test.h"

static void numbers(void **state)
{
	uint64_t v = 7;

	assert_int_equal(sn__parse_u64(SN_STR("18446744073709551615"), UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(sn__parse_u64(SN_STR("18446744073709551616"), UINT64_MAX, &v), SN_E_LIMIT);
	assert_int_equal(sn__parse_u64(SN_STR(""), 9, &v), SN_E_PARSE);
	assert_int_equal(sn__parse_u64(SN_STR("+1"), 9, &v), SN_E_PARSE);
	assert_int_equal(sn__parse_u64(SN_STR("12"), 9, &v), SN_E_LIMIT);
	assert_int_equal(sn__parse_hex_u64(SN_STR("fF"), 255, &v), 0);
	assert_int_equal(v, 255);
	assert_int_equal(sn__parse_duration_ms(SN_STR("2m"), &v), 0);
	assert_int_equal(v, 120000);
	assert_int_equal(sn__parse_duration_ms(SN_STR("5 s"), &v), SN_E_PARSE);
	assert_int_equal(sn__parse_size(SN_STR("64KiB"), &v), 0);
	assert_int_equal(v, 65536);
	assert_int_equal(sn__parse_size(SN_STR("10MB"), &v), 0);
	assert_int_equal(v, 10000000);
}

static void nearest(void **state)
{
	static const char *const names[] = {"timeout", "retry-count", NULL};

	assert_string_equal(sn__nearest("timout", names), "timeout");
	assert_string_equal(sn__nearest("retrycount", names), "retry-count");
	assert_null(sn__nearest("zipkin", names));
}

static void buffer(void **state)
{
	struct sn_buf b;

	sn__buf_init(&b, 1000);
	for (int i = 0; i < 100; i++)
		assert_int_equal(sn__buf_append(&b, "0123456789", 10), 0);
	assert_int_equal(sn__buf_append(&b, "x", 1), SN_E_LIMIT);
	sn__buf_consume(&b, 995);
	assert_int_equal(sn__buf_printf(&b, "-%d", 42), 0);
	assert_memory_equal(sn__buf_data(&b), "56789-42", 8);
	assert_int_equal(b.len, 8);
	sn__buf_clear(&b);
	sn__buf_release_if_empty(&b);
	assert_null(b.block);
	sn__buf_finish(&b);
}

static void arena_and_faults(void **state)
{
	struct sn_arena a;
	int64_t live = sn__mem_live();

	sn__arena_init(&a, 128, 4096);
	for (uint64_t n = 1;; n++) {
		sn__mem_fail_nth(n);
		for (int i = 0; i < 40; i++) {
			char *p = sn__arena_zalloc(&a, 33);

			if (p == NULL)
				break;
			memset(p, 1, 33);
		}
		if (!sn__mem_failed())
			break;
		sn__arena_finish(&a);
	}
	sn__mem_fail_nth(0);
	assert_null(sn__arena_alloc(&a, 4096));
	sn__arena_reset(&a);
	assert_non_null(sn__arena_alloc(&a, 100));
	sn__arena_finish(&a);
	assert_int_equal(sn__mem_live(), live);
}

static void random_is_uniform_and_repeats(void **state)
{
	struct sn_rng a, b;
	unsigned seen[7] = {0};

	sn__rng_seed(&a, 42);
	sn__rng_seed(&b, 42);
	for (int i = 0; i < 70000; i++) {
		uint64_t v = sn__rng_below(&a, 7);

		assert_int_equal(v, sn__rng_below(&b, 7));
		seen[v]++;
	}
	for (int i = 0; i < 7; i++)
		assert_in_range(seen[i], 9500, 10500);
}

static void error_keeps_first_and_latest(void **state)
{
	struct sn_error e;
	struct sn_error *copy;
	struct sn_attempt_info info;

	assert_int_equal(sn__error_set(&e, SN_E_CONNECT, "no %s", "luck"), SN_E_CONNECT);
	for (int i = 0; i < 40; i++)
		sn__error_add_attempt(&e)->foreign = i;
	assert_int_equal(sn_error_attempts(&e), SN_ERROR_ATTEMPTS_MAX);
	assert_int_equal(sn_error_attempt(&e, 0, &info), 0);
	assert_int_equal(info.foreign, 0);
	assert_int_equal(sn_error_attempt(&e, SN_ERROR_ATTEMPTS_MAX - 1, &info), 0);
	assert_int_equal(info.foreign, 39);
	assert_int_equal(sn_error_attempt(&e, SN_ERROR_ATTEMPTS_MAX, &info), SN_E_INVALID);
	(void)sn__error_prefix(&e, "basket");
	assert_string_equal(sn_error_text(&e), "basket: no luck");
	assert_int_equal(sn_error_copy(&e, &copy), 0);
	assert_true(sn_error_retriable(copy));
	sn_error_destroy(copy);
}

static void codes_and_version(void **state)
{
	struct sn_error e = {.foreign = 503, .call_id = "5f3a"};

	/* Every code has a text and a name of its own; the last is SN_E_REJECTED. */
	for (int code = SN_OK; code >= SN_E_REJECTED; code--) {
		assert_string_not_equal(sn_strerror(code), "unknown error");
		assert_string_not_equal(sn_code_name(code), "UNKNOWN");
	}
	assert_string_equal(sn_strerror(SN_E_REJECTED - 1), "unknown error");
	assert_string_equal(sn_strerror(1), "unknown error");
	assert_string_equal(sn_code_name(SN_E_NOMEM), "NOMEM");
	assert_string_equal(sn_code_name(-1000), "UNKNOWN");
	assert_string_equal(sn_version(), SN_VERSION);
	assert_int_equal(sn_error_foreign(&e), 503);
	assert_string_equal(sn_error_call_id(&e), "5f3a");
}

static void utf8(void **state)
{
	static const struct {
		const char *text;
		bool valid;
	} v[] = {
			{"", true},
			{"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", true},
			{"\x80", false},
			{"\xc0\x80", false},
			{"\xc1\xbf", false},
			{"\xc3", false},
			{"\xe0\x9f\xbf", false},
			{"\xe0\xa0\x80", true},
			{"\xed\xa0\x80", false},
			{"\xed\x9f\xbf", true},
			{"\xe2\x82", false},
			{"\xe2\x28\xa1", false},
			{"\xf0\x8f\xbf\xbf", false},
			{"\xf4\x8f\xbf\xbf", true},
			{"\xf4\x90\x80\x80", false},
			{"\xf5\x80\x80\x80", false},
			{"\xff", false},
	};

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		if (sn__utf8_valid(sn_str_from(v[i].text)) != v[i].valid)
			fail_msg("text %zu", i);
	}
	for (size_t len = 0; len < 20; len++) {
		for (size_t bad = 0; bad <= len; bad++) {
			char text[21] = "abcdefghijklmnopqrst";

			if (bad < len)
				text[bad] = '\xff';
			assert_int_equal(sn__utf8_valid((struct sn_str){text, len}), bad == len);
		}
	}
	assert_int_equal(sn__utf8_length(SN_STR("\xe2\x82\xac"
						"x")),
			3);
}

static void times(void **state)
{
	assert_int_equal(sn_ns_to_ms(1), 1);
	assert_true(sn_ms_to_ns(UINT64_MAX) == SN_NEVER_NS);
	assert_int_equal(sn_time_until(10, 4), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(numbers),
			cmocka_unit_test(nearest),
			cmocka_unit_test(buffer),
			cmocka_unit_test(arena_and_faults),
			cmocka_unit_test(random_is_uniform_and_repeats),
			cmocka_unit_test(error_keeps_first_and_latest),
			cmocka_unit_test(codes_and_version),
			cmocka_unit_test(utf8),
			cmocka_unit_test(times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
