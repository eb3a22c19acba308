/* SPDX-License-Identifier: Apache-2.0 */
/* Header blocks while they come in. What nghttp2 refuses is not asked here (tests/h2 does). */
#include "io/h2_head.h"

#include "base/mem.h"
#include "base/test.h"

static char large[30000];

static int add(struct sn_h2_block *block, const char *name, const char *value)
{
	return sn__h2_block_add(block, sn_str_from(name), sn_str_from(value));
}

static void expect(const struct sn_h2_block *block, unsigned i, const char *name, const char *value)
{
	assert_true(i < block->head.n_headers);
	assert_string_equal(block->head.headers[i].name.ptr, name);
	assert_string_equal(block->head.headers[i].value.ptr, value);
	assert_int_equal(block->head.headers[i].value.len, strlen(value));
}

static int request(struct sn_h2_block *block)
{
	int r = 0;

	for (const char *const *p = (const char *const[]){":method", "GET", ":scheme", "http",
			     ":path", "/a?b", "cookie", "a=b", "x-one", " \t1\t ", "cookie", "c=d",
			     "x-empty", " ", ":authority", "here", NULL};
			r == 0 && *p != NULL; p += 2)
		r = add(block, p[0], p[1]);
	return r == 0 ? sn__h2_block_finish(block) : r;
}

static void test_request(void **state)
{
	struct sn_h2_block *block = sn__h2_block_create();

	assert_non_null(block);
	for (int i = 0; i < 2; i++) { /* again in the same memory */
		assert_int_equal(request(block), 0);
		assert_string_equal(block->head.method.ptr, "GET");
		assert_string_equal(block->head.target.ptr, "/a?b");
		assert_int_equal(block->head.n_headers, 4);
		expect(block, 0, "cookie", "a=b; c=d");
		expect(block, 1, "x-one", "1");
		expect(block, 2, "x-empty", "");
		expect(block, 3, "host", "here");
		assert_false(block->too_large);
		sn__h2_block_reset(block);
	}
	sn__h2_block_destroy(block);
}

/* As much as a block may hold, all of it cookies: joined they take as much again. */
static void test_large_cookies(void **state)
{
	struct sn_h2_block *block = sn__h2_block_create();
	struct sn_str piece = {large, 21000};

	assert_non_null(block);
	memset(large, 'x', sizeof large);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(sn__h2_block_add(block, SN_STR("cookie"), piece), 0);
		assert_false(block->too_large);
	}
	assert_int_equal(sn__h2_block_finish(block), 0);
	assert_int_equal(block->head.n_headers, 1);
	assert_int_equal(block->head.headers[0].value.len, 3 * piece.len + 4);
	assert_memory_equal(block->head.headers[0].value.ptr + piece.len, "; xx", 4);
	sn__h2_block_destroy(block);
}

static void test_too_large(void **state)
{
	struct sn_h2_block *block = sn__h2_block_create();

	assert_non_null(block);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sn__h2_block_add(block, SN_STR("x"),
						 (struct sn_str){large, sizeof large}),
				0);
	assert_true(block->too_large);
	assert_int_equal(block->head.n_headers, 2);
	assert_true(block->seen > 3 * sizeof large);
	sn__h2_block_reset(block);
	for (unsigned i = 0; i < SN_HTTP_HEADERS_MAX; i++)
		assert_int_equal(add(block, "a", "b"), 0);
	assert_true(block->too_large);
	assert_int_equal(block->head.n_headers, SN_HTTP_HEADERS_MAX - 2);
	assert_int_equal(sn__h2_block_finish(block), 0);
	sn__h2_block_destroy(block);
}

static void test_status(void **state)
{
	struct sn_h2_block *block = sn__h2_block_create();

	assert_non_null(block);
	assert_int_equal(add(block, ":status", "204"), 0);
	assert_int_equal(block->head.status, 204);
	assert_false(block->bad_status);
	sn__h2_block_reset(block);
	for (const char *const *p = (const char *const[]){"000", "099", NULL}; *p != NULL; p++) {
		assert_int_equal(add(block, ":status", *p), 0);
		assert_true(block->bad_status);
		sn__h2_block_reset(block);
		assert_false(block->bad_status);
	}
	sn__h2_block_destroy(block);
}

static void test_no_memory(void **state)
{
	int64_t live = sn__mem_live();
	int r = SN_E_NOMEM;

	for (uint64_t nth = 1; r != 0; nth++) {
		struct sn_h2_block *block;

		assert_true(nth < 100);
		sn__mem_fail_nth(nth);
		block = sn__h2_block_create();
		r = block != NULL ? request(block) : SN_E_NOMEM;
		sn__mem_fail_nth(0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		sn__h2_block_destroy(block);
		assert_int_equal(sn__mem_live(), live);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_request),
			cmocka_unit_test(test_large_cookies),
			cmocka_unit_test(test_too_large),
			cmocka_unit_test(test_status),
			cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
