/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures of AWS: the published suite, what it leaves out, limits and want of memory. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"
#include "base/time.h"
#include "proto/sigv4.h"

#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct sn_str text_of(const json_t *object, const char *name)
{
	const json_t *v = json_object_get(object, name);

	return (struct sn_str){json_string_value(v), json_string_length(v)};
}

static json_t *load_vectors(void)
{
	char path[512];
	json_error_t err;
	json_t *doc;

	(void)snprintf(path, sizeof path, "%s/tests/vectors/sigv4.json",
			getenv("SINEW_SOURCE_ROOT"));
	doc = json_load_file(path, 0, &err);
	assert_non_null(doc);
	return doc;
}

struct signer {
	struct sn_sigv4 s;
	struct sn_sigv4_key key;
	struct sn_buf out;
};

static void open_signer(struct signer *me)
{
	assert_int_equal(sn__sigv4_init(&me->s), 0);
	assert_int_equal(sn__sigv4_key(&me->s, SN_STR("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
					 SN_STR("20150830T123600Z"), SN_STR("us-east-1"),
					 SN_STR("service"), &me->key),
			0);
	assert_string_equal(me->key.scope, "20150830/us-east-1/service/aws4_request");
	sn__buf_init(&me->out, 65536);
}

static void close_signer(struct signer *me)
{
	static const struct sn_sigv4_key cleared;

	sn__sigv4_key_clear(&me->key);
	assert_memory_equal(&me->key, &cleared, sizeof cleared);
	sn__buf_finish(&me->out);
	sn__sigv4_finish(&me->s);
	sn__sigv4_finish(&me->s);
}

static void case_of_suite(struct signer *me, const json_t *c)
{
	struct sn_http_header headers[16];
	struct sn_sigv4_request req = {.headers = headers,
			.method = text_of(c, "method"),
			.path = text_of(c, "path"),
			.query = text_of(c, "query")};
	const json_t *list = json_object_get(c, "headers"), *h;
	struct sn_str canonical = text_of(c, "canonical");
	char want[1024];
	size_t i;

	json_array_foreach(list, i, h)
	{
		const json_t *name = json_array_get(h, 0), *value = json_array_get(h, 1);

		assert_true(i < SN_COUNT(headers));
		headers[i].name = sn_str_from(json_string_value(name));
		headers[i].value = sn_str_from(json_string_value(value));
	}
	req.n_headers = (unsigned)json_array_size(list);
	assert_int_equal(sn__sigv4_hash(&me->s, text_of(c, "body"), req.payload), 0);
	assert_int_equal(sn__sigv4_canonical(&me->s, &req), 0);
	if (!sn_str_eq(sn__buf_str(&me->s.text), canonical))
		fail_msg("%s:\n%.*s\nand not\n%s\n", text_of(c, "name").ptr, (int)me->s.text.len,
				sn__buf_data(&me->s.text), canonical.ptr);
	sn__buf_clear(&me->out);
	assert_int_equal(sn__sigv4_authorization(&me->s, &me->key, SN_STR("AKIDEXAMPLE"),
					 "20150830T123600Z", &req, &me->out),
			0);
	(void)snprintf(want, sizeof want,
			"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/"
			"aws4_request, SignedHeaders=%s, Signature=%s",
			text_of(c, "signed").ptr, text_of(c, "signature").ptr);
	if (!sn_str_eq(sn__buf_str(&me->out), sn_str_from(want)))
		fail_msg("%s: %.*s and not %s", text_of(c, "name").ptr, (int)me->out.len,
				sn__buf_data(&me->out), want);
}

static void suite(void **state)
{
	json_t *doc = load_vectors();
	const json_t *list = json_object_get(doc, "cases"), *c;
	struct signer me;
	size_t i;

	open_signer(&me);
	assert_int_equal(json_array_size(list), 33);
	json_array_foreach(list, i, c) case_of_suite(&me, c);
	close_signer(&me);
	json_decref(doc);
}

/* The second line of the canonical request, and the third. */
static void lines(
		struct sn_sigv4 *s, bool s3, const char *path, const char *query, const char *want)
{
	struct sn_sigv4_request req = {.method = SN_STR("GET"),
			.path = sn_str_from(path),
			.query = sn_str_from(query),
			.s3 = s3,
			.payload = "x"};
	char all[512];

	assert_int_equal(sn__sigv4_canonical(s, &req), 0);
	(void)snprintf(all, sizeof all, "GET\n%s\n\n\nx", want);
	if (!sn_str_eq(sn__buf_str(&s->text), sn_str_from(all)))
		fail_msg("%s ? %s: %.*s and not %s", path, query, (int)s->text.len,
				sn__buf_data(&s->text), all);
}

static void paths_and_queries(void **state)
{
	struct sn_sigv4 s;

	assert_int_equal(sn__sigv4_init(&s), 0);
	lines(&s, false, "", "", "/\n");
	lines(&s, true, "", "", "/\n");
	lines(&s, false, "/a%20b", "", "/a%2520b\n");
	lines(&s, true, "/a%20b", "", "/a%20b\n");
	lines(&s, true, "/a//b/../%2f./c%2Fd~%7e+", "", "/a//b/../%2F./c%2Fd~~%2B\n");
	lines(&s, false, "/../../a/./../b/", "", "/b/\n");
	lines(&s, false, "/a/../..", "", "/\n");
	lines(&s, false, "/a/b/..", "", "/a\n");
	lines(&s, false, "/a/b/../", "", "/a/\n");
	lines(&s, false, "/a/b/../../c", "", "/c\n");
	lines(&s, false, "a/.", "", "/a\n");
	lines(&s, false, "/a/..b/...", "", "/a/..b/...\n");
	/* Parameters without a value gain a '=', empty ones fall away. */
	lines(&s, false, "/", "uploads", "/\nuploads=");
	lines(&s, false, "/", "&b&&a=&", "/\na=&b=");
	/* By name first: '=' has no part in the order ('-' stands before it). */
	lines(&s, false, "/", "a-b=1&a=2&a=1%2f&a=1-", "/\na=1%2F&a=1-&a=2&a-b=1");
	/* As they are written: an encoded byte before all others, in whatever case it came. */
	lines(&s, false, "/", "b=1&%c3%a4=2&a=3&%5B=4&%41=5", "/\n%5B=4&%C3%A4=2&A=5&a=3&b=1");
	/* A '%' that encodes nothing, a second '='. */
	lines(&s, false, "/", "a=%&b=%4&c=%4g&d=1=2", "/\na=%25&b=%254&c=%254g&d=1%3D2");
	sn__sigv4_finish(&s);
}

static void headers_are_folded(void **state)
{
	static const struct sn_http_header h[] = {
			{SN_STR("X-B"), SN_STR("\t 1 \t 2 ")},
			{SN_STR("x-a-b"), SN_STR("")},
			{SN_STR("X-A"), SN_STR("  ")},
			{SN_STR("x-b"), {0}},
			{SN_STR("X-B"), SN_STR("3")},
	};
	struct sn_sigv4_request req = {.method = SN_STR("PUT"),
			.path = SN_STR("/"),
			.headers = h,
			.n_headers = SN_COUNT(h),
			.payload = "UNSIGNED-PAYLOAD"};
	struct sn_sigv4 s;

	assert_int_equal(sn__sigv4_init(&s), 0);
	assert_int_equal(sn__sigv4_canonical(&s, &req), 0);
	assert_true(sn_str_eq(sn__buf_str(&s.text),
			SN_STR("PUT\n/\n\nx-a:\nx-a-b:\nx-b:1 2,,3\n\nx-a;x-a-b;x-b\nUNSIGNED-PAYLOAD")));
	sn__sigv4_finish(&s);
}

static void keys(void **state)
{
	char secret[SN_SIGV4_SECRET_MAX + 1], region[160];
	struct sn_sigv4_key key = {.scope = "as before"};
	struct sn_sigv4 s;

	memset(secret, 's', sizeof secret);
	memset(region, 'r', sizeof region);
	assert_int_equal(sn__sigv4_init(&s), 0);
	/* The example of the AWS documentation, "Examples of how to derive a signing key". */
	assert_int_equal(sn__sigv4_key(&s, SN_STR("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
					 SN_STR("20150830"), SN_STR("us-east-1"), SN_STR("iam"),
					 &key),
			0);
	assert_memory_equal(key.key,
			"\xc4\xaf\xb1\xcc\x57\x71\xd8\x71\x76\x3a\x39\x3e\x44\xb7\x03\x57"
			"\x1b\x55\xcc\x28\x42\x4d\x1a\x5e\x86\xda\x6e\xd3\xc1\x54\xa4\xb9",
			32);
	assert_int_equal(sn__sigv4_key(&s, (struct sn_str){secret, sizeof secret},
					 SN_STR("20150830"), SN_STR("r"), SN_STR("s"), &key),
			SN_E_LIMIT);
	assert_int_equal(sn__sigv4_key(&s, SN_STR("x"), SN_STR("20150830"),
					 (struct sn_str){region, sizeof region}, SN_STR("s"), &key),
			SN_E_LIMIT);
	assert_string_equal(key.scope, "20150830/us-east-1/iam/aws4_request");
	/* Longer than a block of SHA-256, and none at all. */
	assert_int_equal(sn__sigv4_key(&s, (struct sn_str){secret, SN_SIGV4_SECRET_MAX},
					 SN_STR("20150830"), SN_STR("r"), SN_STR("s"), &key),
			0);
	assert_memory_equal(key.key,
			"\x69\x13\x4e\xfd\x38\x67\x8d\xfd\xdf\xf2\xb9\x50\x7d\x52\xc7\xfe"
			"\xc9\xc0\x5e\xcb\x33\x5e\xa7\xd9\xe9\x6a\x6b\x39\x6c\xd1\xb2\xf3",
			32);
	assert_int_equal(sn__sigv4_key(&s, (struct sn_str){0}, SN_STR("20150830"), SN_STR("r"),
					 SN_STR("s"), &key),
			0);
	sn__sigv4_finish(&s);
}

static void dates_and_hashes(void **state)
{
	char date[SN_SIGV4_DATE], hash[SN_SIGV4_HASH];
	struct sn_sigv4 s;

	sn__sigv4_date(UINT64_C(1440938160) * SN_NS_PER_S + 999999999, date);
	assert_string_equal(date, "20150830T123600Z");
	sn__sigv4_date(0, date);
	assert_string_equal(date, "19700101T000000Z");
	assert_int_equal(sn__sigv4_init(&s), 0);
	assert_int_equal(sn__sigv4_hash(&s, (struct sn_str){0}, hash), 0);
	assert_string_equal(hash, EMPTY_HASH);
	assert_int_equal(sn__sigv4_hash(&s, SN_STR("Param1=value1"), hash), 0);
	assert_string_equal(
			hash, "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e");
	sn__sigv4_finish(&s);
}

static void limits(void **state)
{
	static char many[70 * 2], long_path[300 * 1024];
	struct sn_http_header h[SN_SIGV4_PARTS_MAX + 1];
	struct sn_sigv4_request req = {.method = SN_STR("GET"), .path = SN_STR("/"), .headers = h};
	struct signer me;

	open_signer(&me);
	for (unsigned i = 0; i < SN_COUNT(h); i++)
		h[i] = (struct sn_http_header){SN_STR("a"), SN_STR("b")};
	for (size_t i = 0; i < sizeof many; i += 2)
		memcpy(many + i, "a&", 2);
	memset(long_path, '/', sizeof long_path);
	req.query = (struct sn_str){many, 2 * SN_SIGV4_PARTS_MAX};
	req.n_headers = SN_SIGV4_PARTS_MAX;
	assert_int_equal(sn__sigv4_canonical(&me.s, &req), 0);
	req.query.len += 2;
	assert_int_equal(sn__sigv4_canonical(&me.s, &req), SN_E_LIMIT);
	req.query.len = 0;
	req.n_headers++;
	assert_int_equal(sn__sigv4_canonical(&me.s, &req), SN_E_LIMIT);
	req.n_headers = 0;
	req.path = (struct sn_str){long_path, sizeof long_path};
	assert_int_equal(sn__sigv4_authorization(&me.s, &me.key, SN_STR("A"), "20150830T123600Z",
					 &req, &me.out),
			SN_E_LIMIT);
	assert_int_equal(me.out.len, 0);
	/* Large ones are not kept. */
	req.path.len = 100 * 1024;
	assert_int_equal(sn__sigv4_canonical(&me.s, &req), 0);
	req.path.len = 1;
	assert_int_equal(sn__sigv4_canonical(&me.s, &req), 0);
	assert_true(me.s.text.cap <= 16384);
	/* No room where it shall go. */
	sn__buf_finish(&me.out);
	sn__buf_init(&me.out, 100);
	assert_int_equal(sn__sigv4_authorization(&me.s, &me.key, SN_STR("A"), "20150830T123600Z",
					 &req, &me.out),
			SN_E_LIMIT);
	assert_int_equal(me.out.len, 0);
	close_signer(&me);
}

static void want_of_memory(void **state)
{
	static const struct sn_http_header h[] = {{SN_STR("host"), SN_STR("h")}};
	struct sn_sigv4_request req = {.method = SN_STR("GET"),
			.path = SN_STR("/"),
			.headers = h,
			.n_headers = 1,
			.query = SN_STR("a=b"),
			.payload = EMPTY_HASH};
	int64_t live = sn__mem_live();
	uint64_t count;
	struct signer me;

	for (uint64_t n = 1;; n++) {
		int r;

		open_signer(&me);
		sn__mem_fail_nth(n);
		r = sn__sigv4_authorization(
				&me.s, &me.key, SN_STR("A"), "20150830T123600Z", &req, &me.out);
		sn__mem_fail_nth(0);
		if (r == 0) {
			assert_true(n > 1);
			break;
		}
		assert_int_equal(r, SN_E_NOMEM);
		assert_int_equal(me.out.len, 0);
		close_signer(&me);
	}
	/* From the second request on none is taken. */
	count = sn__mem_count();
	for (int i = 0; i < 10; i++) {
		sn__buf_clear(&me.out);
		assert_int_equal(sn__sigv4_hash(&me.s, SN_STR("body"), req.payload), 0);
		assert_int_equal(sn__sigv4_authorization(&me.s, &me.key, SN_STR("A"),
						 "20150830T123600Z", &req, &me.out),
				0);
	}
	assert_int_equal(sn__mem_count(), count);
	close_signer(&me);
	assert_int_equal(sn__mem_live(), live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(suite),
			cmocka_unit_test(paths_and_queries),
			cmocka_unit_test(headers_are_folded),
			cmocka_unit_test(keys),
			cmocka_unit_test(dates_and_hashes),
			cmocka_unit_test(limits),
			cmocka_unit_test(want_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
