/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_AWS_H
#define SN_SRC_CONNECT_AWS_H

/*
 * Internal. What the drivers of AWS services share: region, endpoint and credentials from a peer's
 * `config`, else from where the SDKs look; signed requests of the JSON protocols (1.0, 1.1) over our
 * own HTTP client; what an answer means. One attempt a request: no retries here but one, when the
 * service says that our clock is wrong or that the credentials have expired. Loop thread.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"
#include "io/http.h"
#include "mesh/admit.h" /* struct sn_outcome */
#include "proto/sigv4.h"

struct sn_aws;
struct sn_aws_creds;

struct sn_aws_options {
	struct sn_loop *loop;
	struct sn_http_pool *pool;
	struct sn_tls *tls;  /* for https endpoints; referenced; NULL: one of our own is made */
	struct sn_log *log;  /* may be NULL */
	const char *service; /* "dynamodb": signing name, part of the default endpoint */
	const char *endpoint_variable; /* "AWS_ENDPOINT_URL_DYNAMODB" */
	const char *target;   /* "DynamoDB_20120810": before the operation in X-Amz-Target */
	const char *json;     /* "1.0" or "1.1" */
	struct sn_str config; /* the peer's `config` as JSON text; "{}" works */
	const char *(*env)(const char *name); /* NULL: getenv; for tests */
};
/** Texts of @opts may go afterwards, but service, target and json may not. Reads the configuration, not
 * yet credentials. SN_E_INVALID with one clear sentence (no region anywhere, an endpoint that is no
 * URL, a broken profile file), SN_E_NOMEM. */
SN_MUST_USE int sn__aws_open(
		const struct sn_aws_options *opts, struct sn_aws **ret_aws, struct sn_error *err);
/** Requests under way end with SN_E_CLOSED in later turns; then @done (may be NULL), never before
 * this returned; then it is gone. */
void sn__aws_close(struct sn_aws *aws, void (*done)(void *arg), void *arg);
/** "https://dynamodb.eu-north-1.amazonaws.com", for messages. */
const char *sn__aws_endpoint(const struct sn_aws *aws);

#define SN_AWS_TARGET_MAX 128
#define SN_AWS_AUTHORIZATION_MAX 640

/* One request; embedded in the caller's operation. */
struct sn_aws_req {
	/* filled by the caller, everything else zero; slices live until done */
	struct sn_str operation;     /* "PutItem": letters and digits */
	struct sn_str body;          /* JSON */
	uint64_t max_response;       /* bytes; 0: 16 MiB */
	uint32_t connect_timeout_ms; /* as in struct sn_http_req; 0: its defaults */
	uint32_t idle_timeout_ms;
	/** Exactly once, never before sn__aws_start() returned. What is below is valid inside. The
	 * request may go in it. */
	void (*done)(struct sn_aws_req *req);

	/* the result */
	struct sn_outcome outcome; /* as mesh/admit.h wants it: throttling by type (sent is NO then:
	                            * nothing was done), 5xx, transport. Other answers above 299:
	                            * SN_OUTCOME_REJECTED with SN_E_REJECTED */
	unsigned status;           /* 0: no answer */
	struct sn_buf answer; /* as it came, JSON or nothing; from done() on the caller's, who ends it
	                        * by sn__buf_finish() */
	char type[96];        /* of an error, without namespace: "ResourceNotFoundException" */
	char message[256];    /* of an error, cut to fit; also where credentials were looked for */
	char request_id[96]; /* x-amzn-RequestId */

	/* private */
	struct sn_aws *aws;
	struct sn_aws_creds *creds; /* signed with */
	struct sn_list link;
	struct sn_http_req http;
	struct sn_task task;
	unsigned flags;
	int code;         /* it ends with, when it is ours to say */
	int64_t offset_s; /* of the clock it was signed by */
	int64_t server_s; /* what the service's clock said; -1: nothing */
	uint32_t crc;     /* x-amz-crc32, when the flag says so */
	char date[SN_SIGV4_DATE];
	char header_type[96];
	char target[SN_AWS_TARGET_MAX];
	char authorization[SN_AWS_AUTHORIZATION_MAX];
	struct sn_http_header headers[5];
};
/** SN_E_INVALID (a name no operation has), SN_E_NOMEM, SN_E_CLOSED: nothing follows. Credentials that
 * cannot be had end the request with SN_E_REJECTED, and its message says where was looked. */
SN_MUST_USE int sn__aws_start(struct sn_aws *aws, struct sn_aws_req *req, struct sn_error *err);
/** done() follows in a later turn with @code unless the answer was quicker. */
void sn__aws_cancel(struct sn_aws_req *req, int code);

#endif
