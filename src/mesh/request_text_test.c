/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "mesh/request_text.h"
#include "mesh/response.h"

static struct sn_str header(const struct sn_request_text *t, const char *name)
{
	for (unsigned i = 0; i < t->n_headers; i++)
		if (sn__str_ieq(t->headers[i].name, sn_str_from(name)))
			return t->headers[i].value;
	return (struct sn_str){NULL, 0};
}

static void assert_str(struct sn_str got, const char *want)
{
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.ptr, want, got.len);
}

static void test_defaults(void **state)
{
	struct sn_request_text t = {.cap = 0};

	assert_int_equal(sn__request_text_fill(&t, NULL, NULL), 0);
	assert_str(t.method, "GET");
	assert_str(t.url, "/");
	assert_int_equal(t.n_headers, 0);
	assert_int_equal(t.body.len, 0);
	assert_false(t.keyed);
	sn__request_text_finish(&t);
}

static void test_copies_all(void **state)
{
	struct sn_header headers[] = {{"X-A", "1"}, {"Idempotency-Key", "k"}};
	struct sn_request_options o = {.size = sizeof(o),
			.method = "POST",
			.url = "contact",
			.headers = headers,
			.n_headers = 2,
			.json = "{\"a\": 1}",
			.idempotency_key = "unused"};
	struct sn_request_text t = {.cap = 0};

	assert_int_equal(sn__request_text_fill(&t, &o, NULL), 0);
	assert_str(t.url, "/contact");
	assert_str(t.body, "{\"a\": 1}");
	assert_str(header(&t, "content-type"), "application/json");
	assert_str(header(&t, "idempotency-key"), "k");
	assert_int_equal(t.n_headers, 3);
	assert_true(t.keyed);
	sn__request_text_finish(&t);
}

static void test_content_type_of_the_caller(void **state)
{
	struct sn_header headers[] = {{"content-type", "application/merge-patch+json"}};
	struct sn_request_options o = {
			.size = sizeof(o), .headers = headers, .n_headers = 1, .json = "{}"};
	struct sn_request_text t = {.cap = 0};

	assert_int_equal(sn__request_text_fill(&t, &o, NULL), 0);
	assert_int_equal(t.n_headers, 1);
	assert_str(header(&t, "Content-Type"), "application/merge-patch+json");
	sn__request_text_finish(&t);
}

static void test_refused(void **state)
{
	static const struct sn_header bad = {"A b", "1"}, split = {"A", "1\r\nB: 2"},
				      host = {"host", "x"}, length = {"Content-Length", "3"};
	struct {
		struct sn_request_options o;
		const char *sentence;
	} cases[] = {
			{{.url = "http://10.0.0.1/x"}, "url must be relative: begin it with /"},
			{{.url = "//10.0.0.1/x"}, "url must be relative: begin it with /"},
			{{.url = "x-y+z.1://h"}, "url must be relative: begin it with /"},
			{{.url = "/a b"}, "url holds a space"},
			{{.url = "/a#b"}, "url holds a space"},
			{{.method = "G T"}, "method \"G T\" is not valid"},
			{{.headers = &bad, .n_headers = 1}, "header \"A b\" is not valid"},
			{{.headers = &split, .n_headers = 1}, "header \"A\" is not valid"},
			{{.headers = &host, .n_headers = 1},
					"header \"Host\" is set by the library"},
			{{.headers = &length, .n_headers = 1}, "header \"Content-Length\" is set"},
			{{.json = "{}", .body = "x", .body_size = 1}, "a body or json"},
			{{.body_size = 1}, "body_size without body"},
			{{.retry = (enum sn_retry)9}, "retry has no value 9"},
			{{.idempotency_key = "a\nb"}, "idempotency_key"},
	};
	struct sn_request_text t = {.cap = 0};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_error err;

		cases[i].o.size = sizeof(cases[i].o);
		assert_int_equal(sn__request_text_fill(&t, &cases[i].o, &err), SN_E_INVALID);
		assert_non_null(strstr(err.text, cases[i].sentence));
	}
	sn__request_text_finish(&t);
}

static void test_urls_that_are_relative(void **state)
{
	static const char *const urls[][2] = {
			{"", "/"},
			{"/", "/"},
			{"x", "/x"},
			{"?a=b", "/?a=b"},
			{"/a?u=http://b/", "/a?u=http://b/"},
			{"a:b", "/a:b"},
	};
	struct sn_request_text t = {.cap = 0};

	for (size_t i = 0; i < SN_COUNT(urls); i++) {
		struct sn_request_options o = {.size = sizeof(o), .url = urls[i][0]};

		assert_int_equal(sn__request_text_fill(&t, &o, NULL), 0);
		assert_str(t.url, urls[i][1]);
	}
	sn__request_text_finish(&t);
}

static void test_memory_is_used_again(void **state)
{
	struct sn_request_options o = {
			.size = sizeof(o), .url = "/x", .body = "hello", .body_size = 5};
	struct sn_request_text t = {.cap = 0};
	uint64_t before;

	assert_int_equal(sn__request_text_fill(&t, &o, NULL), 0);
	before = sn__mem_count();
	for (int i = 0; i < 100; i++) {
		sn__request_text_reset(&t);
		assert_int_equal(sn__request_text_fill(&t, &o, NULL), 0);
	}
	assert_int_equal(sn__mem_count(), before);
	sn__request_text_finish(&t);
	sn__mem_fail_nth(1);
	assert_int_equal(sn__request_text_fill(&t, &o, NULL), SN_E_NOMEM);
	sn__mem_fail_nth(0);
	assert_null(t.block);
}

static void head_of(struct sn_http_head *head)
{
	memset(head, 0, sizeof(*head));
	head->status = 201;
	head->n_headers = 2;
	head->headers[0] = (struct sn_http_header){SN_STR("Content-Type"), SN_STR("text/plain")};
	head->headers[1] = (struct sn_http_header){SN_STR("X-Empty"), {NULL, 0}};
}

static void test_response(void **state)
{
	static struct sn_http_head head;
	struct sn_header h;
	struct sn_response res;
	size_t size;

	head_of(&head);
	sn__response_init(&res);
	assert_string_equal(sn_response_body(&res, NULL), "");
	assert_int_equal(sn__response_head(&res, &head, 8), 0);
	assert_int_equal(sn__response_text(&res, SN_STR("7"), &res.identity), 0);
	assert_int_equal(sn__response_data(&res, SN_STR("12345")), 0);
	assert_int_equal(sn__response_data(&res, SN_STR("678")), 0);
	assert_int_equal(sn__response_data(&res, SN_STR("9")), SN_E_LIMIT);
	assert_int_equal(sn_response_status(&res), 201);
	assert_string_equal(sn_response_body(&res, &size), "12345678");
	assert_int_equal(size, 8);
	assert_string_equal(sn_response_header(&res, "content-TYPE"), "text/plain");
	assert_string_equal(sn_response_header(&res, "x-empty"), "");
	assert_null(sn_response_header(&res, "x-none"));
	assert_int_equal(sn_response_headers(&res), 2);
	assert_int_equal(sn_response_header_at(&res, 1, &h), 0);
	assert_string_equal(h.name, "X-Empty");
	assert_int_equal(sn_response_header_at(&res, 2, &h), SN_E_INVALID);
	assert_string_equal(sn_response_identity(&res), "7");
	assert_string_equal(sn_response_url(&res), "");
	sn__response_reset(&res);
	assert_string_equal(sn_response_body(&res, &size), "");
	assert_int_equal(size, 0);
	sn__response_finish(&res);
}

static void test_response_length_over_the_limit(void **state)
{
	static struct sn_http_head head;
	struct sn_response res;

	head_of(&head);
	head.has_length = true;
	head.length = 9;
	sn__response_init(&res);
	assert_int_equal(sn__response_head(&res, &head, 8), SN_E_LIMIT);
	sn__response_finish(&res);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_defaults),
			cmocka_unit_test(test_copies_all),
			cmocka_unit_test(test_content_type_of_the_caller),
			cmocka_unit_test(test_refused),
			cmocka_unit_test(test_urls_that_are_relative),
			cmocka_unit_test(test_memory_is_used_again),
			cmocka_unit_test(test_response),
			cmocka_unit_test(test_response_length_over_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
