/* SPDX-License-Identifier: Apache-2.0 */
/* URLs and percent coding. */
#include "base/test.h"
#include "proto/url.h"

struct good {
	const char *text, *host, *authority, *target;
	unsigned port;
	bool secure, websocket, v6;
};

static void split(void **state)
{
	static const struct good table[] = {
			{"http://a", "a", "a", "", 80, false, false, false},
			{"https://a.b.c/", "a.b.c", "a.b.c", "/", 443, true, false, false},
			{"ws://127.0.0.1:55555/abc", "127.0.0.1", "127.0.0.1:55555", "/abc", 55555,
					false, true, false},
			{"WSS://h:1?q=1/2", "h", "h:1", "?q=1/2", 1, true, true, false},
			{"http://[::1]:65535/x?y", "::1", "[::1]:65535", "/x?y", 65535, false,
					false, true},
			{"http://[fe80::1.2.3.4]", "fe80::1.2.3.4", "[fe80::1.2.3.4]", "", 80,
					false, false, true},
			{"http://a_b/%20:@/", "a_b", "a_b", "/%20:@/", 80, false, false, false},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct good *g = &table[i];
		struct sn_url u;

		assert_int_equal(sn__url_parse(sn_str_from(g->text), &u, NULL), 0);
		assert_true(sn_str_eq(u.host, sn_str_from(g->host)));
		assert_true(sn_str_eq(u.authority, sn_str_from(g->authority)));
		assert_true(sn_str_eq(u.target, sn_str_from(g->target)));
		assert_int_equal(u.port, g->port);
		assert_int_equal(u.secure, g->secure);
		assert_int_equal(u.websocket, g->websocket);
		assert_int_equal(u.host_is_v6, g->v6);
	}
}

static void refused(void **state)
{
	static const char *const table[] = {"", "a", "http:", "http://", "http:///x", "ftp://a",
			"http//a", "http://u@a", "http://u:p@a/", "http://a:", "http://a:0",
			"http://a:65536", "http://a:+1", "http://a:1x", "http://[::1", "http://[]",
			"http://[::g]", "http://[::1]x", "http://a b", "http://a/\x01",
			"http://a/\xc3\xa4", "http://a#b", "http://a]b", "http://a%41",
			"http://a\\b", "http://:80"};
	char text[SN_URL_MAX + 2];
	struct sn_url u = {.port = 7};
	struct sn_error err;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(sn__url_parse(sn_str_from(table[i]), &u, &err), SN_E_PARSE);
		assert_int_equal(u.port, 7);
		assert_non_null(strstr(sn_error_text(&err), "URL"));
	}
	assert_int_equal(sn__url_parse(SN_STR("http://me:secret@a"), &u, &err), SN_E_PARSE);
	assert_null(strstr(sn_error_text(&err), "secret"));
	memset(text, 'a', sizeof(text));
	memcpy(text, "http://", 7);
	assert_int_equal(
			sn__url_parse((struct sn_str){text, SN_URL_MAX + 1}, &u, NULL), SN_E_LIMIT);
	assert_int_equal(sn__url_parse((struct sn_str){text, 7 + 256}, &u, NULL), SN_E_PARSE);
	assert_int_equal(sn__url_parse((struct sn_str){text, 7 + 255}, &u, NULL), 0);
}

static void percent(void **state)
{
	struct sn_buf b;
	char out[8];
	size_t n = 99;

	assert_int_equal(sn__percent_decode(SN_STR("/a%20%2fb+"), out, sizeof(out), &n), 0);
	assert_int_equal(n, 6);
	assert_memory_equal(out, "/a /b+", 6);
	assert_int_equal(sn__percent_decode(SN_STR("%"), out, sizeof(out), &n), SN_E_PARSE);
	assert_int_equal(sn__percent_decode(SN_STR("%4"), out, sizeof(out), &n), SN_E_PARSE);
	assert_int_equal(sn__percent_decode(SN_STR("%4g"), out, sizeof(out), &n), SN_E_PARSE);
	assert_int_equal(sn__percent_decode(SN_STR("%00"), out, sizeof(out), &n), SN_E_PARSE);
	assert_int_equal(sn__percent_decode(SN_STR("123456789"), out, sizeof(out), &n), SN_E_LIMIT);
	sn__buf_init(&b, 40);
	assert_int_equal(sn__percent_encode(SN_STR("aZ09-._~ /%+\xc3\xa9"), &b), 0);
	assert_true(sn_str_eq(sn__buf_str(&b), SN_STR("aZ09-._~%20%2F%25%2B%C3%A9")));
	assert_int_equal(sn__percent_encode(SN_STR("01234567890123456789"), &b), SN_E_LIMIT);
	sn__buf_finish(&b);
	assert_int_equal(n, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(split),
			cmocka_unit_test(refused),
			cmocka_unit_test(percent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
