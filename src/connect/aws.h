/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_AWS_H
#define SN_SRC_CONNECT_AWS_H

/*
 * Internal. What the drivers of AWS services share: region, endpoint and credentials from a peer's
 * `config`, else from where the SDKs look; signed requests of the JSON protocols (1.0, 1.1) over our
 * own HTTP client; what an answer means. One attempt a request: no retries here but one, when the
 * service says that our clock is wrong. Loop thread.
 */

#include "base/buf.h"
#include "base/error.h"
#include "io/http.h"
#include "mesh/admit.h" /* struct sn_outcome */

struct sn_aws;

struct sn_aws_options {
	struct sn_loop *loop;
	struct sn_http_pool *pool;
	struct sn_tls *tls;  /* for https endpoints; referenced; NULL: one of our own is made */
	const char *service; /* "dynamodb": signing name, part of the default endpoint */
	const char *endpoint_variable; /* "AWS_ENDPOINT_URL_DYNAMODB" */
	const char *target;   /* "DynamoDB_20120810": before the operation in X-Amz-Target */
	const char *json;     /* "1.0" or "1.1" */
	struct sn_str config; /* the peer's `config` as JSON text; "{}" works */
	const char *(*env)(const char *name); /* NULL: getenv; for tests */
};
/** Reads the configuration, not yet credentials. SN_E_INVALID with one clear sentence (no region
 * anywhere, an endpoint that is no URL), SN_E_NOMEM. */
SN_MUST_USE int sn__aws_open(
		const struct sn_aws_options *opts, struct sn_aws **ret_aws, struct sn_error *err);
/** Requests under way end with SN_E_CLOSED in later turns; then @done, then it is gone. */
void sn__aws_close(struct sn_aws *aws, void (*done)(void *arg), void *arg);

/* One request; embedded in the caller's operation. */
struct sn_aws_req {
	/* filled by the caller, everything else zero; slices live until done */
	struct sn_str operation; /* "PutItem" */
	struct sn_str body;      /* JSON */
	uint64_t max_response;   /* bytes; 0: 16 MiB */
	/** Exactly once, never before sn__aws_start() returned. What is below is valid inside. */
	void (*done)(struct sn_aws_req *req);

	/* the result */
	struct sn_outcome
			outcome; /* as mesh/admit.h wants it: throttling by __type, 5xx, transport.
	                            * Other 4xx: SN_OUTCOME_REJECTED with SN_E_REJECTED */
	unsigned status;         /* 0: no answer */
	struct sn_buf answer;    /* JSON as it came; the caller may take it */
	char type[96];           /* of an error, without namespace: "ResourceNotFoundException" */
	char message[256];       /* of an error, cut to fit */
	char request_id[96];     /* x-amzn-RequestId */

	/* private */
	struct sn_aws *aws;
	struct sn_list link;
	struct sn_http_req http;
	struct sn_task task;
	void *text; /* headers of the attempt */
	unsigned flags;
};
/** SN_E_NOMEM, SN_E_CLOSED: nothing follows. Credentials that cannot be had end the request with
 * SN_E_REJECTED and where was looked. */
SN_MUST_USE int sn__aws_start(struct sn_aws *aws, struct sn_aws_req *req, struct sn_error *err);
/** done() follows in a later turn with @code unless the answer was quicker. */
void sn__aws_cancel(struct sn_aws_req *req, int code);

#endif
