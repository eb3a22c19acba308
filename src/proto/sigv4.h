/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_SIGV4_H
#define SN_SRC_PROTO_SIGV4_H

/*
 * Internal. AWS Signature Version 4 ("AWS General Reference, Signature Version 4 signing process"):
 * the Authorization header of one request. No I/O, no clock, no allocation after
 * sn__sigv4_key(), which is kept for a day, region and service.
 */

#include "base/buf.h"
#include "base/str.h"
#include "proto/http.h"

#define SN_SIGV4_DATE 17 /* "20150830T123600Z" and a NUL */
#define SN_SIGV4_HASH 65 /* hexadecimal SHA-256 and a NUL */

struct sn_sigv4_key {
	char scope[160];       /* "20150830/eu-north-1/dynamodb/aws4_request" */
	unsigned char key[32]; /* cleansed by sn__sigv4_key_clear() */
};
/** @date: "20150830". SN_E_LIMIT (texts too long), SN_E_NOMEM. */
SN_MUST_USE int sn__sigv4_key(struct sn_sigv4_key *key, struct sn_str secret, struct sn_str date,
		struct sn_str region, struct sn_str service);
void sn__sigv4_key_clear(struct sn_sigv4_key *key);

struct sn_sigv4_request {
	struct sn_str method, path, query; /* as sent: encoded; query without '?' */
	const struct sn_http_header
			*headers; /* all that are signed: host, x-amz-date, ...; any order
	                                       * and case; values are trimmed and folded here */
	unsigned n_headers;
	char payload[SN_SIGV4_HASH]; /* sn__sigv4_hash() of the body, or "UNSIGNED-PAYLOAD" */
	bool encode_path_twice;      /* every service but S3 */
};
void sn__sigv4_hash(struct sn_str body, char out[SN_SIGV4_HASH]);
/** "20150830T123600Z" of @wall_ns. */
void sn__sigv4_date(uint64_t wall_ns, char out[SN_SIGV4_DATE]);
/** "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=..." appended to @out.
 * SN_E_LIMIT (more than 64 headers or query parameters), SN_E_NOMEM. */
SN_MUST_USE int sn__sigv4_authorization(const struct sn_sigv4_key *key, struct sn_str access_key,
		const char date[SN_SIGV4_DATE], const struct sn_sigv4_request *req,
		struct sn_buf *out);

#endif
