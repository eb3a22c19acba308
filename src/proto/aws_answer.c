/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/aws_answer.h"

#include <zlib.h>

#include "base/mem.h"
#include "proto/date.h"
#include "proto/json_pull.h"

/* ---- errors ---- */

/* Control characters become spaces; what is not UTF-8, or does not fit, ends the text. */
static void put_text(struct sn_str s, char *out, size_t size)
{
	size_t at = 0;

	while (s.len > 0) {
		size_t n = sn__utf8_length(s);

		if (n == 0 || n >= size - at)
			break;
		memcpy(out + at, s.ptr, n);
		if (n == 1 && ((unsigned char)*s.ptr < ' ' || *s.ptr == 0x7f))
			out[at] = ' ';
		at += n;
		s.ptr += n;
		s.len -= n;
	}
	out[at] = '\0';
}

/* Bytes of the beginning of @raw, at most @max, that end between two characters. */
static size_t cut(struct sn_str raw, size_t max)
{
	size_t i = 0, step;

	for (; i < raw.len; i += step) {
		const char *p = raw.ptr + i;

		step = *p != '\\' ? 1 : p[1] != 'u' ? 2 : 6;
		if (step == 6 && (p[2] == 'd' || p[2] == 'D') && strchr("89abAB", p[3]) != NULL)
			step = 12; /* the first half of a pair */
		if (i + step > max)
			break;
	}
	return i;
}

/* As above, of a string of JSON: no more of it than can fit is unescaped. */
static void put_string(struct sn_json_string s, char *out, size_t size)
{
	char text[1536]; /* 256 characters as \uXXXX */

	if (!s.escaped) {
		put_text(s.raw, out, size);
		return;
	}
	s.raw.len = cut(s.raw, sizeof(text));
	put_text((struct sn_str){text, sn__json_unescape(s, text)}, out, size);
}

/* "com.amazonaws.dynamodb.v20120810#ThrottlingException:http://..." -> "ThrottlingException" */
static struct sn_str without_namespace(struct sn_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == ':' || s.ptr[i] == ',') {
			s.len = i;
			break;
		}
	}
	for (size_t i = s.len; i > 0; i--) {
		if (s.ptr[i - 1] == '#') {
			s.ptr += i;
			s.len -= i;
			break;
		}
	}
	return s;
}

static void put_type(struct sn_str s, struct sn_aws_fault *fault)
{
	put_text(without_namespace(s), fault->type, sizeof(fault->type));
}

static void read_member(struct sn_json_string key, struct sn_json_string value,
		struct sn_aws_fault *fault, bool *message_seen)
{
	char type[512];

	if (sn__json_string_is(key, SN_STR("__type")) ||
			(fault->type[0] == '\0' && sn__json_string_is(key, SN_STR("code")))) {
		put_string(value, type, sizeof(type));
		put_type(sn_str_from(type), fault);
	} else if (sn__json_string_is(key, SN_STR("message")) ||
			(!*message_seen &&
					(sn__json_string_is(key, SN_STR("Message")) ||
							sn__json_string_is(key,
									SN_STR("errorMessage"))))) {
		*message_seen = true;
		put_string(value, fault->message, sizeof(fault->message));
	}
}

void sn__aws_fault_read(struct sn_str header, struct sn_str body, struct sn_aws_fault *ret_fault)
{
	struct sn_json_string key, value;
	struct sn_json_pull r;
	bool seen = false;

	*ret_fault = (struct sn_aws_fault){0};
	put_type(header, ret_fault);
	if (body.len == 0)
		return;
	sn__json_begin(&r, body);
	if (sn__json_enter_object(&r) < 0)
		return;
	while (sn__json_member(&r, &key) > 0) {
		if (sn__json_peek(&r) != SN_JSON_STRING) {
			if (sn__json_skip(&r, NULL) < 0)
				return;
			continue;
		}
		if (sn__json_string(&r, &value) < 0)
			return;
		read_member(key, value, ret_fault, &seen);
	}
}

static bool is_one_of(const char *type, const char *const *names)
{
	for (; *names != NULL; names++) {
		if (strcmp(type, *names) == 0)
			return true;
	}
	return false;
}

enum sn_aws_kind sn__aws_fault_kind(const struct sn_aws_fault *fault)
{
	static const char *const throttle[] = {"ProvisionedThroughputExceededException",
			"ThrottlingException", "RequestLimitExceeded", "Throttling",
			"ThrottledException", "RequestThrottled", "RequestThrottledException",
			"TooManyRequestsException", "LimitExceededException", "SlowDown",
			"BandwidthLimitExceeded", "PriorRequestNotComplete",
			"TransactionInProgressException", NULL};
	static const char *const skew[] = {
			"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", NULL};
	static const char *const expired[] = {"ExpiredTokenException", "ExpiredToken", NULL};
	/* Types that mean several things. */
	static const char *const signature[] = {
			"InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure", NULL};

	if (is_one_of(fault->type, throttle))
		return SN_AWS_THROTTLE;
	if (is_one_of(fault->type, expired))
		return SN_AWS_EXPIRED;
	if (is_one_of(fault->type, skew) ||
			(is_one_of(fault->type, signature) &&
					(strstr(fault->message, "Signature expired") != NULL ||
							strstr(fault->message, "not yet current") !=
									NULL)))
		return SN_AWS_SKEW;
	return SN_AWS_REFUSED;
}

/* ---- checksums ---- */

uint32_t sn__aws_crc32(struct sn_str body)
{
	uLong crc = crc32_z(0, NULL, 0);

	return (uint32_t)(body.len > 0 ? crc32_z(crc, (const Bytef *)body.ptr, body.len) : crc);
}

bool sn__aws_crc32_is(struct sn_str header, struct sn_str body)
{
	uint64_t want;

	return sn__parse_u64(header, UINT32_MAX, &want) == 0 && want == sn__aws_crc32(body);
}

/* ---- credentials ---- */

struct reading {
	struct sn_aws_document doc;
	struct sn_str code, message, expiration;
};

/* Unescaped where it stands: never longer than it was. */
static struct sn_str in_place(struct sn_json_string s)
{
	char *at = (char *)(uintptr_t)s.raw.ptr;

	if (s.escaped)
		s.raw.len = sn__json_unescape(s, at);
	return s.raw;
}

static int read_document(char *text, size_t size, struct reading *in)
{
	const struct {
		struct sn_str name;
		struct sn_str *value;
	} known[] = {
			{SN_STR("AccessKeyId"), &in->doc.id},
			{SN_STR("SecretAccessKey"), &in->doc.secret},
			{SN_STR("Token"), &in->doc.token},
			{SN_STR("Expiration"), &in->expiration},
			{SN_STR("Code"), &in->code},
			{SN_STR("code"), &in->code},
			{SN_STR("Message"), &in->message},
			{SN_STR("message"), &in->message},
	};
	struct sn_json_string key, value;
	struct sn_json_pull r;
	int rc;

	rc = size == 0 ? SN_E_PARSE : sn__json_check((struct sn_str){text, size}, NULL);
	if (rc < 0)
		return rc;
	sn__json_begin(&r, (struct sn_str){text, size});
	rc = sn__json_enter_object(&r);
	while (rc == 0 && (rc = sn__json_member(&r, &key)) > 0) {
		if (sn__json_peek(&r) != SN_JSON_STRING) {
			rc = sn__json_skip(&r, NULL);
			continue;
		}
		rc = sn__json_string(&r, &value);
		for (size_t i = 0; rc == 0 && i < SN_COUNT(known); i++) {
			if (!sn__json_string_is(key, known[i].name))
				continue;
			*known[i].value = in_place(value);
			break;
		}
	}
	return rc;
}

int sn__aws_document_read(
		char *text, size_t size, struct sn_aws_document *ret_doc, struct sn_error *err)
{
	struct reading in = {.doc = {.expires_s = -1}};
	char message[128];
	int r = read_document(text, size, &in);

	if (r < 0)
		return sn__error_set(err, SN_E_PARSE, "what came is no JSON object");
	put_text(in.message.len > 0 ? in.message : in.code, message, sizeof(message));
	if ((in.code.len > 0 && !sn_str_eq(in.code, SN_STR("Success"))) ||
			(in.doc.id.len == 0 && in.message.len > 0))
		return sn__error_set(err, SN_E_REJECTED, "refused: %s", message);
	if (in.doc.id.len == 0 || in.doc.secret.len == 0)
		return sn__error_set(err, SN_E_PARSE, "what came has no %s",
				in.doc.id.len == 0 ? "AccessKeyId" : "SecretAccessKey");
	if (in.expiration.len > 0 && !sn__date_iso(in.expiration, &in.doc.expires_s))
		return sn__error_set(err, SN_E_PARSE, "the Expiration that came is no date");
	*ret_doc = in.doc;
	return 0;
}
