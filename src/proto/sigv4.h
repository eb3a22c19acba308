/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_SIGV4_H
#define SN_SRC_PROTO_SIGV4_H

/*
 * Internal. AWS Signature Version 4 ("AWS General Reference, Signature Version 4 signing process"):
 * the Authorization header of one request. No I/O, no clock. A signer is working memory that is made
 * once; signing with it takes no memory any more after the first requests. One thread at a time.
 */

#include "base/buf.h"
#include "base/str.h"
#include "proto/http.h"

#define SN_SIGV4_DATE 17        /* "20150830T123600Z" and a NUL */
#define SN_SIGV4_HASH 65        /* hexadecimal SHA-256 and a NUL */
#define SN_SIGV4_SECRET_MAX 256 /* bytes of a secret access key */
#define SN_SIGV4_PARTS_MAX 64   /* headers, and parameters of the query */

struct evp_md_st;
struct evp_md_ctx_st;

struct sn_sigv4 {
	struct evp_md_st *md; /* SHA-256 */
	struct evp_md_ctx_st *ctx;
	struct sn_buf text; /* the canonical request */
};
/** SN_E_NOMEM. */
SN_MUST_USE int sn__sigv4_init(struct sn_sigv4 *s);
/** Also after a failed or without an init, when it is zeroed. */
void sn__sigv4_finish(struct sn_sigv4 *s);

/* What is derived from a secret for a day, a region and a service. */
struct sn_sigv4_key {
	char scope[160]; /* "20150830/eu-north-1/dynamodb/aws4_request" */
	unsigned char key[32];
};
/** @date: "20150830", or longer, of which the first 8 count. SN_E_LIMIT (texts too long), SN_E_NOMEM. */
SN_MUST_USE int sn__sigv4_key(struct sn_sigv4 *s, struct sn_str secret, struct sn_str date,
		struct sn_str region, struct sn_str service, struct sn_sigv4_key *ret_key);
/** Nothing of the secret stays in memory. */
void sn__sigv4_key_clear(struct sn_sigv4_key *key);

struct sn_sigv4_request {
	struct sn_str method, path, query;    /* as sent: encoded; query without '?' */
	const struct sn_http_header *headers; /* all that are signed: host, x-amz-date, ...; any
	                                       * order and case; values are trimmed and folded here */
	unsigned n_headers;
	char payload[SN_SIGV4_HASH]; /* sn__sigv4_hash() of the body, or "UNSIGNED-PAYLOAD" */
	bool s3; /* the path is taken as it is; else encoded once more and normalised, as by every
	          * other service */
};
/** Hexadecimal SHA-256. SN_E_NOMEM (OpenSSL has none). */
SN_MUST_USE int sn__sigv4_hash(
		struct sn_sigv4 *s, struct sn_str body, char ret_hash[SN_SIGV4_HASH]);
/** "20150830T123600Z" of @wall_ns. */
void sn__sigv4_date(uint64_t wall_ns, char ret_date[SN_SIGV4_DATE]);
/** The canonical request into s->text. SN_E_LIMIT (more than SN_SIGV4_PARTS_MAX headers or
 * parameters, more text than a request can have), SN_E_NOMEM. */
SN_MUST_USE int sn__sigv4_canonical(struct sn_sigv4 *s, const struct sn_sigv4_request *req);
/** "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=..." appended to @out. Errors as
 * above, SN_E_NOMEM; then @out is as before. */
SN_MUST_USE int sn__sigv4_authorization(struct sn_sigv4 *s, const struct sn_sigv4_key *key,
		struct sn_str access_key, const char date[SN_SIGV4_DATE],
		const struct sn_sigv4_request *req, struct sn_buf *out);

#endif
