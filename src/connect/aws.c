/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request is signed and sent when it has credentials; otherwise it waits in aws->waiting for the
 * chain. Its headers stand in the request itself, and nothing is allocated for it but its answer.
 *
 * Two refusals are not the caller's: a clock that is wrong (the offset to the service's is kept, from
 * its Date), and credentials that have expired (the chain looks again). Each sends the same request
 * once more; such a request was not executed.
 *
 * A request is in aws->reqs from start to done, whatever its state. done() may free it and may close
 * aws, so that aws goes by a task of its own.
 */
#include "connect/aws.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "connect/aws_impl.h"
#include "mesh/request.h" /* sn__fetch_outcome() */
#include "proto/aws_answer.h"
#include "proto/date.h"

#define ANSWER_MAX (16u << 20)
#define ANSWER_AT_ONCE 65536u /* of an announced length, reserved before a byte of it came */
#define IDLE_TLS_MS 15000
#define SKEW_MIN_S 30 /* a clock that differs by less is not what was refused */

enum {
	REQ_WAITING = 1,  /* for credentials */
	REQ_FLYING = 2,   /* the HTTP client has it */
	REQ_ENDING = 4,   /* its task is queued */
	REQ_MOVED = 8,    /* sent again with another clock */
	REQ_RENEWED = 16, /* sent again with other credentials */
	REQ_CRC = 32,
	REQ_GZIP = 64,
};

struct sn_aws {
	struct sn_loop *loop;
	struct sn_http_dest *dest;
	struct sn_tls *tls;
	const char *service, *target_prefix;
	char content_type[40];
	char target[512]; /* of the HTTP request: the endpoint's path */
	struct sn_aws_config config;
	struct sn_aws_chain chain;
	struct sn_sigv4 signer;
	struct sn_sigv4_key key;
	struct sn_aws_creds *key_creds; /* the key is of; may be NULL */
	char key_day[9];
	struct sn_buf text; /* an authorization under work */
	int64_t date_s;     /* of date, the last one written */
	char date[SN_SIGV4_DATE];
	int64_t offset_s; /* the service's clock is so much ahead of ours */
	struct sn_list reqs;
	bool closing;
	struct sn_task task;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* ---- how a request ends ---- */

static void on_gone(struct sn_task *task)
{
	struct sn_aws *aws = SN_CONTAINER_OF(task, struct sn_aws, task);
	void (*closed)(void *arg) = aws->closed;
	void *arg = aws->closed_arg;

	sn__aws_chain_finish(&aws->chain);
	sn__aws_creds_unref(aws->key_creds);
	sn__sigv4_key_clear(&aws->key);
	sn__sigv4_finish(&aws->signer);
	sn__aws_config_finish(&aws->config);
	sn__buf_finish(&aws->text);
	sn__http_dest_unref(aws->dest);
	sn__tls_unref(aws->tls);
	sn__free(aws);
	if (closed != NULL)
		closed(arg);
}

static void settle(struct sn_aws *aws)
{
	if (aws->closing && sn_list_empty(&aws->reqs) && sn_aws_chain_idle(&aws->chain) &&
			!sn_task_queued(&aws->task))
		sn__loop_defer(aws->loop, &aws->task, on_gone);
}

static void finish(struct sn_aws_req *req)
{
	struct sn_aws *aws = req->aws;

	sn__aws_creds_unref(SN_TAKE(req->creds));
	sn_list_remove(&req->link);
	req->flags = 0;
	explicit_bzero(req->authorization, sizeof(req->authorization));
	req->done(req);
	settle(aws);
}

static void on_end(struct sn_task *task)
{
	finish(SN_CONTAINER_OF(task, struct sn_aws_req, task));
}

/* What an earlier answer of the same request said does not count any more. */
static void forget_answer(struct sn_aws_req *req)
{
	req->status = 0;
	req->server_s = -1;
	req->type[0] = req->message[0] = req->request_id[0] = req->header_type[0] = '\0';
	sn__buf_finish(&req->answer);
}

/* Ours to say, in the next turn. */
static void end_later(struct sn_aws_req *req, int code, const char *detail)
{
	forget_answer(req);
	req->outcome = (struct sn_outcome)SN_OUTCOME_INIT;
	req->outcome.class = SN_OUTCOME_REJECTED;
	req->outcome.code = code;
	req->outcome.phase = SN_PHASE_ADMIT;
	(void)snprintf(req->outcome.detail, sizeof(req->outcome.detail), "%s", detail);
	req->flags = REQ_ENDING;
	sn__loop_defer(req->aws->loop, &req->task, on_end);
}

/* ---- signing ---- */

static int64_t now_s(const struct sn_aws *aws)
{
	return (int64_t)(sn__loop_wall_ns(aws->loop) / SN_NS_PER_S) + aws->offset_s;
}

static int key_of(struct sn_aws *aws, struct sn_aws_creds *creds, const char *date)
{
	struct sn_sigv4_key key;
	int r;

	if (aws->key_creds == creds && memcmp(aws->key_day, date, 8) == 0)
		return 0;
	r = sn__sigv4_key(&aws->signer, creds->secret, sn_str_from(date),
			sn_str_from(aws->config.region), sn_str_from(aws->service), &key);
	if (r < 0)
		return r;
	aws->key = key;
	sn__sigv4_key_clear(&key);
	sn__aws_creds_unref(aws->key_creds);
	aws->key_creds = sn__aws_creds_ref(creds);
	memcpy(aws->key_day, date, 8);
	return 0;
}

static int sign(struct sn_aws *aws, struct sn_aws_req *req)
{
	struct sn_http_header all[5];
	struct sn_sigv4_request s = {
			.method = SN_STR("POST"), .path = sn_str_from(aws->target), .headers = all};
	int r;

	/* What is sent as it is, and the Host header, which the client writes. */
	memcpy(all, req->headers, sizeof(all));
	all[0] = (struct sn_http_header){SN_STR("Host"), sn_str_from(aws->config.host)};
	s.n_headers = req->creds->token.len > 0 ? 5 : 4;
	r = key_of(aws, req->creds, req->date);
	if (r == 0)
		r = sn__sigv4_hash(&aws->signer, req->body, s.payload);
	sn__buf_clear(&aws->text);
	if (r == 0)
		r = sn__sigv4_authorization(
				&aws->signer, &aws->key, req->creds->id, req->date, &s, &aws->text);
	if (r == 0 && aws->text.len >= sizeof(req->authorization))
		r = SN_E_LIMIT;
	if (r < 0)
		return r;
	memcpy(req->authorization, sn__buf_data(&aws->text), aws->text.len);
	req->headers[0] = (struct sn_http_header){
			SN_STR("Authorization"), {req->authorization, aws->text.len}};
	return 0;
}

/* [0] is Authorization, once there is one; [4] exists with a session's token only. */
static void fill_headers(struct sn_aws *aws, struct sn_aws_req *req)
{
	int64_t at_s = SN_MAX(now_s(aws), 0);

	if (aws->date[0] == '\0' || aws->date_s != at_s)
		sn__sigv4_date((uint64_t)at_s * SN_NS_PER_S, aws->date);
	aws->date_s = at_s;
	memcpy(req->date, aws->date, sizeof(req->date));
	req->offset_s = aws->offset_s;
	req->headers[1] = (struct sn_http_header){
			SN_STR("Content-Type"), sn_str_from(aws->content_type)};
	req->headers[2] = (struct sn_http_header){
			SN_STR("X-Amz-Date"), {req->date, SN_SIGV4_DATE - 1}};
	req->headers[3] = (struct sn_http_header){SN_STR("X-Amz-Target"), sn_str_from(req->target)};
	req->headers[4] = (struct sn_http_header){
			SN_STR("X-Amz-Security-Token"), req->creds->token};
}

/* ---- answers ---- */

static void keep_text(char *out, size_t size, const struct sn_str *s /* may be NULL */)
{
	size_t n = s != NULL ? SN_MIN(s->len, size - 1) : 0;

	if (n > 0)
		memcpy(out, s->ptr, n);
	out[n] = '\0';
}

static void on_head(struct sn_http_req *http, const struct sn_http_head *head)
{
	struct sn_aws_req *req = SN_CONTAINER_OF(http, struct sn_aws_req, http);
	const struct sn_str *id = sn__http_find(head, "x-amzn-requestid");
	const struct sn_str *crc = sn__http_find(head, "x-amz-crc32");
	const struct sn_str *date = sn__http_find(head, "date");
	const struct sn_str *after = sn__http_find(head, "retry-after");
	const struct sn_str *encoding = sn__http_find(head, "content-encoding");
	uint64_t value;
	char *space;

	req->status = head->status;
	keep_text(req->request_id, sizeof(req->request_id),
			id != NULL ? id : sn__http_find(head, "x-amz-request-id"));
	if (head->status > 299)
		keep_text(req->header_type, sizeof(req->header_type),
				sn__http_find(head, "x-amzn-errortype"));
	if (date == NULL || !sn__date_http(*date, &req->server_s))
		req->server_s = -1;
	if (crc != NULL && sn__parse_u64(*crc, UINT32_MAX, &value) == 0) {
		req->crc = (uint32_t)value;
		req->flags |= REQ_CRC;
	}
	if (encoding != NULL && !sn__str_ieq(*encoding, SN_STR("identity")))
		req->flags |= REQ_GZIP;
	req->outcome.retry_after_ms = after != NULL
			? sn__retry_after_ms(*after, sn__loop_wall_ns(req->aws->loop))
			: -1;
	if (head->has_length && head->length > req->answer.max)
		sn__http_cancel(http, SN_E_LIMIT);
	else if (head->has_length && head->length > 0)
		(void)!sn__buf_reserve(&req->answer, SN_MIN(head->length, ANSWER_AT_ONCE), &space);
}

static void on_data(struct sn_http_req *http, struct sn_str data)
{
	struct sn_aws_req *req = SN_CONTAINER_OF(http, struct sn_aws_req, http);
	int r = sn__buf_append_str(&req->answer, data);

	if (r < 0)
		sn__http_cancel(http, r);
}

static void broken(struct sn_aws_req *req, const char *detail)
{
	req->outcome.class = SN_OUTCOME_FAILED;
	req->outcome.phase = SN_PHASE_READ;
	req->outcome.code = SN_E_PROTOCOL;
	req->outcome.retry_on = SN_RETRY_RESET;
	(void)snprintf(req->outcome.detail, sizeof(req->outcome.detail), "%s", detail);
}

static void judge_success(struct sn_aws_req *req)
{
	if (req->flags & REQ_GZIP)
		broken(req, "the answer is encoded, which was not asked for");
	else if (req->flags & REQ_CRC && sn__aws_crc32(sn__buf_str(&req->answer)) != req->crc)
		broken(req, "the answer is not what its checksum says");
}

static enum sn_aws_kind read_fault(struct sn_aws_req *req)
{
	struct sn_aws_fault fault;
	struct sn_str body = req->flags & REQ_GZIP ? (struct sn_str){0} : sn__buf_str(&req->answer);

	sn__aws_fault_read(sn_str_from(req->header_type), body, &fault);
	memcpy(req->type, fault.type, sizeof(req->type));
	memcpy(req->message, fault.message, sizeof(req->message));
	return sn__aws_fault_kind(&fault);
}

/* Not 2xx. sn__fetch_outcome() has judged by the status alone. */
static void judge_refusal(struct sn_aws_req *req, enum sn_aws_kind kind)
{
	struct sn_outcome *o = &req->outcome;

	o->phase = SN_PHASE_READ;
	if (kind == SN_AWS_THROTTLE || o->class == SN_OUTCOME_THROTTLED) {
		o->class = SN_OUTCOME_THROTTLED;
		o->code = SN_E_STATUS;
		o->retry_on = SN_RETRY_429 | SN_RETRY_5XX;
		o->sent = SN_SENT_NO; /* nothing was done: whatever it is, it may be sent again */
	} else if (o->class == SN_OUTCOME_OK) {
		o->class = SN_OUTCOME_REJECTED;
		o->code = SN_E_REJECTED;
	}
	if (req->type[0] != '\0')
		(void)snprintf(o->detail, sizeof(o->detail), "%s", req->type);
	else
		(void)snprintf(o->detail, sizeof(o->detail), "status %u", req->status);
}

/* ---- attempts ---- */

static const struct sn_http_req_ops http_ops;

/* Credentials are there. */
static int send_req(struct sn_aws *aws, struct sn_aws_req *req, struct sn_error *err)
{
	int r;

	fill_headers(aws, req);
	r = sign(aws, req);
	if (r < 0)
		return sn__error_set(err, r, "the signature: %s", sn_strerror(r));
	req->http = (struct sn_http_req){
			.ops = &http_ops,
			.method = SN_STR("POST"),
			.target = sn_str_from(aws->target),
			.headers = req->headers,
			.n_headers = req->creds->token.len > 0 ? 5 : 4,
			.body = req->body,
			.connect_timeout_ms = req->connect_timeout_ms,
			.idle_timeout_ms = req->idle_timeout_ms,
	};
	forget_answer(req);
	r = sn__http_start(aws->dest, &req->http, err);
	if (r == 0)
		req->flags = (req->flags & (REQ_MOVED | REQ_RENEWED)) | REQ_FLYING;
	return r;
}

/* 0: on its way, or waiting. */
static int begin(struct sn_aws *aws, struct sn_aws_req *req, struct sn_error *err)
{
	int r = sn__aws_chain_get(&aws->chain, now_s(aws), &req->creds);

	if (r == 0)
		return send_req(aws, req, err);
	if (r == SN_E_AGAIN) {
		req->flags |= REQ_WAITING;
		return 0;
	}
	return sn__error_set(err, r, "%s", r == SN_E_REJECTED ? aws->chain.why : sn_strerror(r));
}

static void no_credentials(struct sn_aws_req *req)
{
	end_later(req, SN_E_REJECTED, "no credentials");
	(void)snprintf(req->message, sizeof(req->message), "%s", req->aws->chain.why);
}

static void begin_or_end(struct sn_aws *aws, struct sn_aws_req *req)
{
	struct sn_error err;
	int r = begin(aws, req, &err);

	if (r == SN_E_REJECTED)
		no_credentials(req);
	else if (r < 0)
		end_later(req, r, err.text);
}

static void on_ready(struct sn_aws_chain *chain, int code)
{
	struct sn_aws *aws = SN_CONTAINER_OF(chain, struct sn_aws, chain);

	SN_LIST_FOREACH_SAFE (pos, &aws->reqs) {
		struct sn_aws_req *req = SN_CONTAINER_OF(pos, struct sn_aws_req, link);

		if (!(req->flags & REQ_WAITING))
			continue;
		req->flags &= ~(unsigned)REQ_WAITING;
		if (code == 0)
			begin_or_end(aws, req);
		else if (code == SN_E_REJECTED)
			no_credentials(req);
		else
			end_later(req, code, sn_strerror(code));
	}
	settle(aws);
}

/* Whether another clock may help; then it is put right for all. */
static bool move_clock(struct sn_aws *aws, struct sn_aws_req *req)
{
	int64_t offset;

	if (req->flags & REQ_MOVED || req->server_s < 0)
		return false;
	req->flags |= REQ_MOVED;
	offset = req->server_s - (int64_t)(sn__loop_wall_ns(aws->loop) / SN_NS_PER_S);
	if (offset - req->offset_s < SKEW_MIN_S && req->offset_s - offset < SKEW_MIN_S)
		return false;
	aws->offset_s = offset;
	return true;
}

/* Whether other credentials than those refused are there or may come. */
static bool renew(struct sn_aws *aws, struct sn_aws_req *req)
{
	struct sn_aws_creds *new;
	bool same;
	int r;

	if (req->flags & REQ_RENEWED)
		return false;
	req->flags |= REQ_RENEWED;
	sn__aws_chain_expired(&aws->chain, req->creds);
	r = sn__aws_chain_get(&aws->chain, now_s(aws), &new);
	if (r < 0)
		return r == SN_E_AGAIN;
	same = sn__aws_creds_equal(req->creds, new);
	sn__aws_creds_unref(new);
	return !same;
}

static bool again(struct sn_aws *aws, struct sn_aws_req *req, enum sn_aws_kind kind)
{
	if (aws->closing)
		return false;
	if (kind == SN_AWS_SKEW ? !move_clock(aws, req)
				: kind != SN_AWS_EXPIRED || !renew(aws, req))
		return false;
	sn__aws_creds_unref(SN_TAKE(req->creds));
	begin_or_end(aws, req);
	return true;
}

static void on_done(struct sn_http_req *http)
{
	struct sn_aws_req *req = SN_CONTAINER_OF(http, struct sn_aws_req, http);
	int64_t after_ms = req->status != 0 ? req->outcome.retry_after_ms : -1;
	enum sn_aws_kind kind;

	req->flags &= ~(unsigned)REQ_FLYING;
	sn__fetch_outcome(&http->result, after_ms, &req->outcome);
	if (http->result.code == SN_E_LIMIT)
		(void)snprintf(req->outcome.detail, sizeof(req->outcome.detail),
				"the answer is larger than %zu bytes", req->answer.max);
	if (http->result.code == 0 && req->status < 300) {
		judge_success(req);
	} else if (http->result.code == 0) {
		kind = read_fault(req);
		if (again(req->aws, req, kind))
			return;
		judge_refusal(req, kind);
	}
	finish(req);
}

static const struct sn_http_req_ops http_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_done,
};

/* ---- the caller's side ---- */

static bool operation_valid(struct sn_str op)
{
	for (size_t i = 0; i < op.len; i++) {
		char c = op.ptr[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
			return false;
	}
	return op.len > 0;
}

int sn__aws_start(struct sn_aws *aws, struct sn_aws_req *req, struct sn_error *err)
{
	size_t prefix = strlen(aws->target_prefix);
	int r;

	if (aws->closing)
		return sn__error_set(err, SN_E_CLOSED, "%s", sn_strerror(SN_E_CLOSED));
	if (!operation_valid(req->operation) ||
			prefix + req->operation.len + 2 > sizeof(req->target))
		return sn__error_set(err, SN_E_INVALID,
				"operation \"%.*s\": letters and digits only",
				(int)SN_MIN(req->operation.len, 64),
				operation_valid(req->operation) ? req->operation.ptr : "");
	memcpy(req->target, aws->target_prefix, prefix);
	req->target[prefix] = '.';
	memcpy(req->target + prefix + 1, req->operation.ptr, req->operation.len);
	req->target[prefix + 1 + req->operation.len] = '\0';
	req->aws = aws;
	req->flags = 0;
	req->creds = NULL;
	sn__buf_init(&req->answer, req->max_response != 0 ? (size_t)req->max_response : ANSWER_MAX);
	r = begin(aws, req, err);
	if (r < 0 && r != SN_E_REJECTED) {
		sn__aws_creds_unref(SN_TAKE(req->creds));
		return r;
	}
	sn_list_push_back(&aws->reqs, &req->link);
	if (r == SN_E_REJECTED)
		no_credentials(req);
	return 0;
}

void sn__aws_cancel(struct sn_aws_req *req, int code)
{
	if (req->flags & REQ_WAITING)
		end_later(req, code, "while waiting for credentials");
	else if (req->flags & REQ_FLYING)
		sn__http_cancel(&req->http, code);
}

/* ---- opening, closing ---- */

static int open_dest(struct sn_aws *aws, const struct sn_aws_options *opts)
{
	const struct sn_url *url = &aws->config.url;
	struct sn_tls_options tls = {.ca = sn__aws_env(opts->env, "AWS_CA_BUNDLE")};
	struct sn_http_dest_options to = {.port = url->port, .host_header = aws->config.host};
	char host[SN_URL_HOST_MAX + 1];
	int r = 0;

	if (opts->tls != NULL)
		aws->tls = sn__tls_ref(opts->tls);
	else if (url->secure)
		r = sn__tls_create(opts->loop, &tls, false, &aws->tls);
	if (r < 0)
		return r;
	(void)snprintf(host, sizeof(host), "%.*s", (int)url->host.len, url->host.ptr);
	to.host = host;
	to.tls = url->secure ? aws->tls : NULL;
	to.idle_ms = url->secure ? IDLE_TLS_MS
				 : 0; /* a handshake costs much more than a connection */
	return sn__http_dest_create(opts->pool, &to, &aws->dest);
}

static int build(struct sn_aws *aws, const struct sn_aws_options *opts, struct sn_error *err)
{
	int r = sn__aws_config_read(opts, &aws->config, err);

	if (r < 0)
		return r;
	if (aws->config.url.target.len >= sizeof(aws->target))
		return sn__error_set(err, SN_E_INVALID, "endpoint: its path is too long");
	(void)snprintf(aws->target, sizeof(aws->target), "%s%.*s",
			aws->config.url.target.len > 0 ? "" : "/", (int)aws->config.url.target.len,
			aws->config.url.target.ptr);
	r = sn__sigv4_init(&aws->signer);
	if (r == 0)
		r = open_dest(aws, opts);
	if (r < 0)
		return sn__error_set(err, r, "%s: %s", aws->config.endpoint, sn_strerror(r));
	aws->chain = (struct sn_aws_chain){
			.loop = opts->loop,
			.env = opts->env,
			.configured = SN_TAKE(aws->config.creds),
			.ready = on_ready,
			.metadata = {.loop = opts->loop,
					.pool = opts->pool,
					.tls = aws->tls,
					.env = opts->env},
	};
	return 0;
}

int sn__aws_open(const struct sn_aws_options *opts, struct sn_aws **ret_aws, struct sn_error *err)
{
	struct sn_aws *aws = sn__calloc(1, sizeof(*aws));
	int r;

	if (aws == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	aws->loop = opts->loop;
	aws->service = opts->service;
	aws->target_prefix = opts->target;
	(void)snprintf(aws->content_type, sizeof(aws->content_type), "application/x-amz-json-%s",
			opts->json);
	sn_list_init(&aws->reqs);
	sn__buf_init(&aws->text, 4096);
	r = build(aws, opts, err);
	if (r < 0) {
		on_gone(&aws->task);
		return r;
	}
	*ret_aws = aws;
	return 0;
}

void sn__aws_close(struct sn_aws *aws, void (*done)(void *arg), void *arg)
{
	assert(!aws->closing);
	aws->closing = true;
	aws->closed = done;
	aws->closed_arg = arg;
	SN_LIST_FOREACH_SAFE (pos, &aws->reqs)
		sn__aws_cancel(SN_CONTAINER_OF(pos, struct sn_aws_req, link), SN_E_CLOSED);
	sn__aws_metadata_stop(&aws->chain.metadata);
	settle(aws);
}

const char *sn__aws_endpoint(const struct sn_aws *aws)
{
	return aws->config.endpoint;
}
