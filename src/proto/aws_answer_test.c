/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of AWS's JSON protocols, checksums, documents with credentials. */
#include <stdio.h>

#include "base/test.h"
#include "proto/aws_answer.h"

static void faults(void **state)
{
	static const struct {
		const char *header, *body, *type, *message;
		enum sn_aws_kind kind;
	} cases[] = {
			{"", "", "", "", SN_AWS_REFUSED},
			{"", "<html>", "", "", SN_AWS_REFUSED},
			{"", "[1]", "", "", SN_AWS_REFUSED},
			{"",
					"{\"__type\":\"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException\","
					"\"message\":\"Requested resource not found\"}",
					"ResourceNotFoundException", "Requested resource not found",
					SN_AWS_REFUSED},
			{"",
					"{\"Message\":\"Rate exceeded\\n\\\"now\\\"\",\"x\":{\"__type\":\"a\"},"
					"\"__type\":\"com.amazon.coral.availability#ThrottlingException\"}",
					"ThrottlingException", "Rate exceeded \"now\"",
					SN_AWS_THROTTLE},
			{"ProvisionedThroughputExceededException:http://internal.amazon.com/coral/",
					"", "ProvisionedThroughputExceededException", "",
					SN_AWS_THROTTLE},
			/* The body speaks louder; `message` louder than `Message`. */
			{"x#Other:y", "{\"__type\":\"LimitExceededException\",\"Message\":\"a\",\"message\":\"b\"}",
					"LimitExceededException", "b", SN_AWS_THROTTLE},
			{"x#Other:y", "{\"message\":\"b\",\"Message\":\"a\",\"code\":\"c\"}",
					"Other", "b", SN_AWS_REFUSED},
			{"", "{\"code\":\"RequestLimitExceeded\"}", "RequestLimitExceeded", "",
					SN_AWS_THROTTLE},
			{"", "{\"__type\":1,\"message\":null,\"a\":[{}]}", "", "", SN_AWS_REFUSED},
			/* Broken behind what matters. */
			{"", "{\"__type\":\"RequestTimeTooSkewed\",\"message\":\"m\",",
					"RequestTimeTooSkewed", "m", SN_AWS_SKEW},
			{"",
					"{\"__type\":\"com.amazon.coral.service#InvalidSignatureException\","
					"\"message\":\"Signature expired: 2015 is now earlier than 2016\"}",
					"InvalidSignatureException",
					"Signature expired: 2015 is now earlier than 2016",
					SN_AWS_SKEW},
			{"",
					"{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature not "
					"yet current: 2016 is still later than 2015\"}",
					"InvalidSignatureException",
					"Signature not yet current: 2016 is still later than 2015",
					SN_AWS_SKEW},
			{"",
					"{\"__type\":\"InvalidSignatureException\",\"message\":\"The request "
					"signature we calculated does not match\"}",
					"InvalidSignatureException",
					"The request signature we calculated does not match",
					SN_AWS_REFUSED},
			{"", "{\"__type\":\"a.b#ExpiredTokenException\",\"message\":\"\\u0001\\u00e9\"}",
					"ExpiredTokenException", " \xc3\xa9", SN_AWS_EXPIRED},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct sn_aws_fault f;

		sn__aws_fault_read(sn_str_from(cases[i].header), sn_str_from(cases[i].body), &f);
		assert_string_equal(f.type, cases[i].type);
		assert_string_equal(f.message, cases[i].message);
		assert_int_equal(sn__aws_fault_kind(&f), cases[i].kind);
	}
}

/* Long ones are cut between two characters, escaped or not. */
static void long_faults(void **state)
{
	static const char *const pieces[] = {
			"x", "\xc3\xa9", "\\u00e9", "\\ud83d\\ude00", "\\\\", "a\\ud83d\\ude00"};
	char body[8192];

	for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
		struct sn_aws_fault f;
		size_t n = (size_t)snprintf(body, sizeof body, "{\"message\":\"");

		for (int k = 0; k < 500; k++)
			n += (size_t)snprintf(body + n, sizeof body - n, "%s", pieces[i]);
		(void)snprintf(body + n, sizeof body - n, "\",\"__type\":\"T\"}");
		sn__aws_fault_read(SN_STR(""), sn_str_from(body), &f);
		assert_string_equal(f.type, "T");
		assert_true(strlen(f.message) >= 250);
		assert_true(sn__utf8_valid(sn_str_from(f.message)));
	}
}

static void checksums(void **state)
{
	assert_int_equal(sn__aws_crc32(SN_STR("123456789")), 0xcbf43926);
	assert_int_equal(sn__aws_crc32((struct sn_str){0}), 0);
	assert_true(sn__aws_crc32_is(SN_STR("2745614147"), SN_STR("{}")));
	assert_false(sn__aws_crc32_is(SN_STR("2745614148"), SN_STR("{}")));
	assert_false(sn__aws_crc32_is(SN_STR("-1"), SN_STR("{}")));
	assert_false(sn__aws_crc32_is(SN_STR("99999999999"), SN_STR("{}")));
}

static void documents(void **state)
{
	char imds[] = "{\"Code\" : \"Success\", \"LastUpdated\" : \"2026-01-01T00:00:00Z\","
		      "\"Type\" : \"AWS-HMAC\", \"AccessKeyId\" : \"ASIA\","
		      "\"SecretAccessKey\" : \"s\\/e\", \"Token\" : \"t\\u003d\","
		      "\"Expiration\" : \"2015-08-30T12:36:00Z\", \"n\": [1]}";
	char plain[] = "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"}";
	struct sn_aws_document d;

	assert_int_equal(sn__aws_document_read(imds, sizeof imds - 1, &d, NULL), 0);
	assert_true(sn_str_eq(d.id, SN_STR("ASIA")));
	assert_true(sn_str_eq(d.secret, SN_STR("s/e")));
	assert_true(sn_str_eq(d.token, SN_STR("t=")));
	assert_int_equal(d.expires_s, 1440938160);
	assert_int_equal(sn__aws_document_read(plain, sizeof plain - 1, &d, NULL), 0);
	assert_int_equal(d.token.len, 0);
	assert_int_equal(d.expires_s, -1);
}

static void wrong_documents(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *want;
	} cases[] = {
			{"", SN_E_PARSE, "what came is no JSON object"},
			{"[]", SN_E_PARSE, "what came is no JSON object"},
			{"{\"AccessKeyId\":\"secret\"", SN_E_PARSE, "what came is no JSON object"},
			{"{\"AccessKeyId\":\"secret\"}", SN_E_PARSE,
					"what came has no SecretAccessKey"},
			{"{\"SecretAccessKey\":\"secret\"}", SN_E_PARSE,
					"what came has no AccessKeyId"},
			{"{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Expiration\":\"secret\"}",
					SN_E_PARSE, "the Expiration that came is no date"},
			{"{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"no\\u0021\"}",
					SN_E_REJECTED, "refused: no!"},
			{"{\"code\":\"Failed\"}", SN_E_REJECTED, "refused: Failed"},
			{"{\"message\":\"not now\"}", SN_E_REJECTED, "refused: not now"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct sn_aws_document d = {.expires_s = 5};
		struct sn_error err;
		char text[256];

		(void)snprintf(text, sizeof text, "%s", cases[i].text);
		assert_int_equal(
				sn__aws_document_read(text, strlen(text), &d, &err), cases[i].code);
		assert_string_equal(sn_error_text(&err), cases[i].want);
		assert_int_equal(d.expires_s, 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(faults),
			cmocka_unit_test(long_faults),
			cmocka_unit_test(checksums),
			cmocka_unit_test(documents),
			cmocka_unit_test(wrong_documents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
