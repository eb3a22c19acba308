/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/sidecar_path.h"

#include "base/mem.h"
#include "base/test.h"

static void check_read(const char *path, unsigned n, const char *a, const char *b, const char *c,
		const char *rest)
{
	const char *parts[] = {a, b, c};
	struct sn_side_place p;

	assert_true(sn__place_read(path, &p));
	assert_int_equal(p.n, n);
	for (unsigned i = 0; i < n; i++)
		assert_string_equal(p.part[i], parts[i]);
	assert_string_equal(p.rest, rest);
}

static void parts_are_decoded_and_the_rest_is_not(void **state)
{
	check_read("", 0, NULL, NULL, NULL, "/");
	check_read("/", 0, NULL, NULL, NULL, "/");
	check_read("/a", 1, "a", NULL, NULL, "/");
	check_read("/a/", 1, "a", NULL, NULL, "/");
	check_read("/a/b", 2, "a", "b", NULL, "/");
	check_read("/a/b/c", 3, "a", "b", "c", "/");
	check_read("/a/b/c/", 3, "a", "b", "c", "/");
	check_read("/a/b/c/d/../%2F//", 3, "a", "b", "c", "/d/../%2F//");
	check_read("/a%20b/%C3%A4/c", 3, "a b", "\xc3\xa4", "c", "/");
	check_read("//b/c", 3, "", "b", "c", "/");
	check_read("/../a/..", 3, "..", "a", "..", "/");
}

static void what_would_be_another_place_is_refused(void **state)
{
	static const char *const wrong[] = {
			"/a%2Fb", "/a/%2f", "/a/b/c%2fd", "/%00", "/a%0", "/a%zz/b", "/%", "/a/b%"};
	char longest[SN_NAME_MAX + 8] = "/";
	struct sn_side_place p;

	for (size_t i = 0; i < SN_COUNT(wrong); i++)
		assert_false(sn__place_read(wrong[i], &p));
	memset(longest + 1, 'x', SN_NAME_MAX);
	assert_true(sn__place_read(longest, &p));
	assert_int_equal(strlen(p.part[0]), SN_NAME_MAX);
	longest[SN_NAME_MAX + 1] = 'x';
	assert_false(sn__place_read(longest, &p));
	longest[SN_NAME_MAX / 2] = '/'; /* together they are too long */
	longest[SN_NAME_MAX + 1] = '\0';
	assert_true(sn__place_read(longest, &p));
}

static struct sn_http_head head_with(const char *target, const char *second)
{
	struct sn_http_head head = {.n_headers = 0};

	head.headers[head.n_headers++] = (struct sn_http_header){SN_STR("Host"), SN_STR("x")};
	if (target != NULL)
		head.headers[head.n_headers++] = (struct sn_http_header){
				SN_STR("Sinew-Target"), sn_str_from(target)};
	if (second != NULL)
		head.headers[head.n_headers++] = (struct sn_http_header){
				SN_STR("sinew-target"), sn_str_from(second)};
	return head;
}

static bool call(const char *path, const char *target, const char *second, struct sn_side_place *p)
{
	struct sn_http_head head = head_with(target, second);

	return sn__place_of_call(path, &head, p);
}

static void a_call_names_all_three(void **state)
{
	struct sn_side_place p;

	assert_true(call("/call/service/b/c/x%2f?", NULL, NULL, &p));
	assert_string_equal(p.part[2], "c");
	assert_string_equal(p.rest, "/x%2f?");
	assert_false(call("/call/service/b", NULL, NULL, &p));
	assert_false(call("/call", NULL, NULL, &p));
	assert_false(call("/caller/service/b/c", NULL, NULL, &p));
	assert_true(call("/own/path", "service/b/c", NULL, &p));
	assert_string_equal(p.part[0], "service");
	assert_string_equal(p.rest, "/own/path");
	assert_true(call("/call/a/b/c", "service/b/c/", NULL, &p));
	assert_string_equal(p.rest, "/call/a/b/c");
	assert_false(call("/own", "service/b", NULL, &p));
	assert_false(call("/own", "service/b/c/d", NULL, &p));
	assert_false(call("/own", "", NULL, &p));
	assert_false(call("/own", "/service/b/c", NULL, &p));
	assert_false(call("/own", "service/b%2fc/d", NULL, &p));
	assert_false(call("/call/service/b/c", "service/b/c", "service/b/c", &p));
}

static void a_query_has_a_member(void **state)
{
	assert_true(sn__query_has("watch", "watch"));
	assert_true(sn__query_has("watch=1", "watch"));
	assert_true(sn__query_has("a=b&watch", "watch"));
	assert_true(sn__query_has("a&watch&b", "watch"));
	assert_true(sn__query_has("&&watch=", "watch"));
	assert_false(sn__query_has("", "watch"));
	assert_false(sn__query_has("watches", "watch"));
	assert_false(sn__query_has("a=watch", "watch"));
	assert_false(sn__query_has("wat&ch", "watch"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(parts_are_decoded_and_the_rest_is_not),
			cmocka_unit_test(what_would_be_another_place_is_refused),
			cmocka_unit_test(a_call_names_all_three),
			cmocka_unit_test(a_query_has_a_member),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
