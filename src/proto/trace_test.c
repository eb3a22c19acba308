/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/trace.h"

#include "base/mem.h"
#include "base/test.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static bool read_one(const char *name, const char *value, struct sn_context *ctx)
{
	struct sn_http_header headers[] = {
			{SN_STR("other"), SN_STR("x")}, {sn_str_from(name), sn_str_from(value)}};

	return sn__trace_read(headers, 2, ctx);
}

static void test_w3c(void **state)
{
	static const char *const bad[] = {"", "00", "00-" TRACE "-" SPAN "-0",
			"00-" TRACE "-" SPAN "-01x", "00-" TRACE "-" SPAN "-01-more",
			"ff-" TRACE "-" SPAN "-01", "00-" TRACE "_" SPAN "-01",
			"00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01",
			"00-00000000000000000000000000000000-" SPAN "-01",
			"00-" TRACE "-0000000000000000-01", "00-" TRACE "-" SPAN "-0g",
			"cc-" TRACE "-" SPAN "-01.more", "0x-" TRACE "-" SPAN "-01"};
	struct sn_context ctx = {.size = 7};

	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		assert_false(read_one("traceparent", bad[i], &ctx));
		assert_int_equal(ctx.size, 7);
	}
	assert_true(read_one("TraceParent", "00-" TRACE "-" SPAN "-01", &ctx));
	assert_int_equal(ctx.size, sizeof(ctx));
	assert_true(ctx.trace_id[0] == UINT64_C(0x0af7651916cd43dd));
	assert_true(ctx.trace_id[1] == UINT64_C(0x8448eb211c80319c));
	assert_true(ctx.span_id == UINT64_C(0xb7ad6b7169203331));
	assert_int_equal(ctx.parent_span_id, 0);
	assert_true(ctx.sampled);
	assert_int_equal(ctx.deadline_ms, 0);
	assert_true(read_one("traceparent", "cc-" TRACE "-" SPAN "-02-more", &ctx));
	assert_false(ctx.sampled);
}

static void test_b3(void **state)
{
	const struct sn_http_header headers[] = {
			{SN_STR("x-b3-traceid"), SN_STR("a1")},
			{SN_STR("X-B3-SpanId"), SN_STR("b2")},
			{SN_STR("X-B3-ParentSpanId"), SN_STR("c3")},
			{SN_STR("X-B3-Sampled"), SN_STR("0")},
			{SN_STR("traceparent"), SN_STR("00-" TRACE "-" SPAN "-01")},
	};
	struct sn_context ctx = SN_CONTEXT_INIT;

	assert_false(sn__trace_read(headers, 1, &ctx));
	assert_int_equal(ctx.trace_id[1], 0);
	assert_true(sn__trace_read(headers, 4, &ctx));
	assert_int_equal(ctx.trace_id[1], 0xa1);
	assert_int_equal(ctx.span_id, 0xb2);
	assert_int_equal(ctx.parent_span_id, 0xc3);
	assert_false(ctx.sampled);
	/* Where both are, the standard's counts. */
	assert_true(sn__trace_read(headers, 5, &ctx));
	assert_true(ctx.span_id == UINT64_C(0xb7ad6b7169203331));
	assert_true(sn__trace_read_b3(headers, 5, &ctx));
	assert_int_equal(ctx.span_id, 0xb2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_w3c),
			cmocka_unit_test(test_b3),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
