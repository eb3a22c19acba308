/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way to etcd: which member, as whom, and what an ending means.
 *
 * All calls use the same member until one fails there (a connection, our time-out, no leader); then its
 * connection is dropped, so that what hangs on a line that is cut ends too, and the next member is
 * taken. When all have failed in a row the link rests, longer each time.
 *
 * A user's token is asked for before the first call, and anew when etcd does not know it any more (it
 * forgets them after a while, and with a restart).
 */
#include <stdio.h>

#include "hub/etcd.h"
#include "io/tls.h"
#include "proto/generated/etcd.pb-c.h"
#include "proto/protobuf.h"
#include "proto/url.h"

#define CONNECT_MS 2000u
#define TIMEOUT_MS 5000u
#define PING_MS 6000u /* etcd takes offence at more than one in 5 s */
#define REST_MIN_MS 50u
#define REST_MAX_MS 2000u
#define REQUEST_MAX (8u << 20)

/* ---- members ---- */

/* Streams that hang there are not waited for; a single call has its own time-out. */
static void drop_dest(struct sn_etcd_link *link)
{
	sn__http_dest_unref(SN_TAKE(link->dest));
	link->generation++;
	link->proven = false;
	link->dropped(link);
}

static int make_dest(struct sn_etcd_link *link)
{
	const struct sn_etcd_endpoint *e = &link->endpoints[link->at];
	const struct sn_http_dest_options opts = {
			.host = e->host,
			.port = e->port,
			.tls = e->secure ? link->tls : NULL,
			.version = SN_HTTP_2,
			.ping_ms = PING_MS,
			.ping_timeout_ms = link->timeout_ms,
	};

	return link->dest != NULL ? 0 : sn__http_dest_create(link->pool, &opts, &link->dest);
}

static void on_kick(struct sn_task *task)
{
	struct sn_etcd_link *link = SN_CONTAINER_OF(task, struct sn_etcd_link, kick);

	link->ready(link);
}

static void kick(struct sn_etcd_link *link)
{
	sn__loop_defer(link->loop, &link->kick, on_kick);
}

static void on_rested(struct sn_timer *timer)
{
	struct sn_etcd_link *link = SN_CONTAINER_OF(timer, struct sn_etcd_link, rest);

	link->resting = false;
	kick(link);
}

/* Longer with every round; the jitter keeps several hubs apart. */
static void rest(struct sn_etcd_link *link)
{
	unsigned round = SN_MIN(link->failures / link->n_endpoints, 8u);
	uint64_t ms = SN_MIN(
			(uint64_t)REST_MIN_MS << round, SN_MIN(REST_MAX_MS, link->timeout_ms / 2));

	ms = ms / 2 + sn__rng_below(sn__loop_rng(link->loop), ms / 2 + 1);
	link->resting = true;
	sn__timer_start(link->loop, &link->rest, sn_ms_to_ns(ms), on_rested);
}

/* @same: the member is not to blame. */
static void failed(struct sn_etcd_link *link, const struct sn_etcd_call *call, bool same,
		const struct sn_error *err)
{
	if (link->closed || call->generation != link->generation)
		return;
	link->why = *err;
	if (link->proven && !same && call->why == 0) { /* a connection that was good: anew */
		drop_dest(link);
		kick(link);
		return;
	}
	link->failures++;
	if (!same) {
		drop_dest(link);
		link->at = (link->at + 1) % link->n_endpoints;
	}
	if (same ? link->failures < 2 : link->failures % link->n_endpoints != 0) {
		kick(link);
		return;
	}
	rest(link);
	if (link->away)
		return;
	link->away = true;
	link->state(link, &link->why);
}

static void heard(struct sn_etcd_link *link)
{
	link->failures = 0;
	link->proven = true;
	if (!link->away || link->closed)
		return;
	link->away = false;
	link->state(link, NULL);
}

/* ---- how a call ended ---- */

static bool says(const struct sn_grpc_status *status, const char *words)
{
	return status->text != NULL && strstr(status->text, words) != NULL;
}

/* What etcd's status means; *ret_same: not for want of a member. */
static enum sn_etcd_end judge_status(
		const struct sn_grpc_status *status, int *ret_code, bool *ret_same)
{
	*ret_code = SN_E_IO;
	switch (status->code) {
	case SN_GRPC_UNAVAILABLE:
		*ret_code = says(status, "timed out") ? SN_E_TIMEOUT : SN_E_CONNECT;
		return says(status, "no leader") ? SN_ETCD_UNSENT : SN_ETCD_UNKNOWN;
	case SN_GRPC_UNAUTHENTICATED:
		*ret_code = SN_E_REJECTED;
		*ret_same = true;
		return SN_ETCD_UNSENT;
	case SN_GRPC_INVALID_ARGUMENT:
		if (says(status, "auth store is old") || says(status, "user name is empty")) {
			*ret_code = SN_E_REJECTED;
			*ret_same = true;
			return SN_ETCD_UNSENT;
		}
		*ret_code = says(status, "too large") ? SN_E_LIMIT : SN_E_IO;
		return SN_ETCD_REFUSED;
	case SN_GRPC_NOT_FOUND:
		*ret_code = SN_E_NOT_FOUND;
		return SN_ETCD_REFUSED;
	case SN_GRPC_RESOURCE_EXHAUSTED:
		*ret_code = SN_E_LIMIT;
		return SN_ETCD_REFUSED;
	case SN_GRPC_PERMISSION_DENIED:
		*ret_code = SN_E_REJECTED;
		return SN_ETCD_REFUSED;
	case SN_GRPC_OUT_OF_RANGE:
	case SN_GRPC_FAILED_PRECONDITION:
	case SN_GRPC_ALREADY_EXISTS:
	case SN_GRPC_UNIMPLEMENTED:
		return SN_ETCD_REFUSED;
	default:
		return SN_ETCD_UNKNOWN;
	}
}

/* The connection did not carry it. */
static bool is_lost(const struct sn_grpc_req *req)
{
	const struct sn_http_result *res = &req->http.result;

	if (req->code == 0)
		return false;
	return req->code != SN_E_STATUS ||
			(res->h2_error >= 0 && res->code != 0 && res->code != SN_E_CANCELLED);
}

static enum sn_etcd_end judge(
		const struct sn_etcd_call *call, bool *ret_same, struct sn_error *ret_err)
{
	const struct sn_etcd_endpoint *e = &call->link->endpoints[call->at];
	const struct sn_grpc_req *req = &call->req;
	const struct sn_http_result *res = &req->http.result;
	bool unsent = res->sent == SN_SENT_NO;
	const char *words = req->status.text;
	enum sn_etcd_end end;
	int code;

	if (call->why != 0) {
		*ret_same = call->why == SN_E_REJECTED;
		code = call->why == SN_E_TIMEOUT && unsent   ? SN_E_CONNECT
				: call->why == SN_E_PROTOCOL ? SN_E_IO
							     : call->why;
		sn__error_set(ret_err, code, "etcd at %s: %s", e->url,
				call->why == SN_E_TIMEOUT ? "no answer in time"
						: call->why == SN_E_PROTOCOL
						? "an answer that makes no sense"
						: call->why == SN_E_REJECTED
						? "no permission"
						: sn_strerror(call->why));
		return unsent ? SN_ETCD_UNSENT : SN_ETCD_UNKNOWN;
	}
	if (is_lost(req)) {
		code = req->code == SN_E_NOMEM || req->code == SN_E_CLOSED ? req->code
									   : SN_E_CONNECT;
		sn__error_set(ret_err, code, "etcd at %s: %s", e->url,
				words != NULL ? words : sn_strerror(req->code));
		if (!call->streams && call->heard)
			return SN_ETCD_OK;
		return unsent ? SN_ETCD_UNSENT : SN_ETCD_UNKNOWN;
	}
	if (req->code == 0 && !call->streams)
		return SN_ETCD_OK;
	if (req->code == 0) {
		sn__error_set(ret_err, SN_E_CONNECT, "etcd at %s: the stream was ended", e->url);
		return SN_ETCD_UNKNOWN;
	}
	end = judge_status(&req->status, &code, ret_same);
	sn__error_set(ret_err, code, "etcd at %s: %s", e->url,
			words != NULL ? words : sn_grpc_code_name(req->status.code));
	ret_err->foreign = req->status.code;
	return end;
}

static void forget_token(struct sn_etcd_link *link, const struct sn_etcd_call *call)
{
	bool same = (link->token == NULL) == (call->token == NULL) &&
			(link->token == NULL || strcmp(link->token, call->token) == 0);

	if (link->user == NULL || !same)
		return; /* there is a newer one */
	sn__free(SN_TAKE(link->token));
	link->tokenless = false;
}

static void on_done(struct sn_grpc_req *req)
{
	struct sn_etcd_call *call = SN_CONTAINER_OF(req, struct sn_etcd_call, req);
	struct sn_etcd_link *link = call->link;
	bool same = false;
	struct sn_error err;
	enum sn_etcd_end end = judge(call, &same, &err);

	call->running = false;
	/* It was not etcd that said so. */
	call->too_large = req->http.result.code == SN_E_CANCELLED &&
			req->status.code == SN_GRPC_RESOURCE_EXHAUSTED;
	if (same)
		forget_token(link, call);
	if (same && link->user == NULL)
		end = SN_ETCD_REFUSED; /* there is nobody to be */
	sn__free(SN_TAKE(call->token));
	sn__buf_finish(&call->framed);
	sn__grpc_status_finish(&req->status);
	if (end == SN_ETCD_UNSENT || end == SN_ETCD_UNKNOWN || call->streams) {
		if (call->why != SN_E_CANCELLED && call->why != SN_E_CLOSED)
			failed(link, call, same, &err);
	} else if (call != &link->auth) {
		heard(link);
	}
	call->why = 0;
	call->done(call, end, &err);
}

/* ---- calls ---- */

static void on_message(struct sn_grpc_req *req, struct sn_str bytes)
{
	struct sn_etcd_call *call = SN_CONTAINER_OF(req, struct sn_etcd_call, req);
	ProtobufCMessage *message;
	int r = sn__protobuf_unpack(call->answer, bytes, &message, NULL);

	if (r == 0) {
		r = call->message(call, message);
		sn__protobuf_free(message);
	}
	if (r < 0) {
		sn__etcd_cancel(call, r == SN_E_PARSE || r == SN_E_LIMIT ? SN_E_PROTOCOL : r);
		return;
	}
	call->heard = true;
	if (call->streams)
		heard(call->link);
}

static const struct sn_grpc_req_ops req_ops = {.on_message = on_message, .on_done = on_done};

/* "hasleader": a member that is cut off from the others ends the call instead of serving its past. */
static int put_metadata(struct sn_etcd_link *link, struct sn_etcd_call *call)
{
	call->metadata[0] = (struct sn_http_header){SN_STR("hasleader"), SN_STR("true")};
	call->req.metadata = call->metadata;
	call->req.n_metadata = 1;
	if (link->token == NULL || call == &link->auth)
		return 0;
	call->token = sn__strdup(link->token);
	if (call->token == NULL)
		return SN_E_NOMEM;
	call->metadata[1] = (struct sn_http_header){SN_STR("token"), sn_str_from(call->token)};
	call->req.n_metadata = 2;
	return 0;
}

int sn__etcd_call(struct sn_etcd_link *link, struct sn_etcd_call *call,
		const ProtobufCMessage *request, struct sn_error *err)
{
	int r = make_dest(link);

	assert(!call->running);
	call->link = link;
	call->at = link->at;
	call->generation = link->generation;
	call->why = 0;
	call->heard = false;
	sn__buf_init(&call->framed, REQUEST_MAX);
	call->req = (struct sn_grpc_req){
			.ops = &req_ops,
			.path = sn_str_from(call->path),
			.streams = call->streams,
			.one_answer = !call->streams,
			.max_message = call->max_message,
			.connect_timeout_ms = SN_MIN(link->timeout_ms, CONNECT_MS),
	};
	if (r == 0)
		r = put_metadata(link, call);
	if (r == 0 && request != NULL)
		r = sn__grpc_frame_message(&call->framed, request, false);
	call->req.framed = sn__buf_str(&call->framed);
	if (r == 0)
		r = sn__grpc_start(link->dest, &call->req, err);
	else
		sn__error_set(err, r, "%s", sn_strerror(r));
	if (r < 0) {
		sn__free(SN_TAKE(call->token));
		sn__buf_finish(&call->framed);
		if (!link->closed)
			rest(link); /* out of memory: who has not given up is asked again */
		return r;
	}
	call->running = true;
	return 0;
}

void sn__etcd_cancel(struct sn_etcd_call *call, int code)
{
	if (!call->running || call->why != 0)
		return;
	call->why = code;
	sn__grpc_cancel(&call->req, code);
}

/* ---- authentication ---- */

static int on_token(struct sn_etcd_call *call, const ProtobufCMessage *message)
{
	const Etcd__AuthenticateResponse *answer = (const Etcd__AuthenticateResponse *)message;
	char *token = sn__strdup(answer->token);

	if (token == NULL)
		return SN_E_NOMEM;
	sn__free(call->link->token);
	call->link->token = token;
	return 0;
}

static void on_auth_done(
		struct sn_etcd_call *call, enum sn_etcd_end end, const struct sn_error *err)
{
	struct sn_etcd_link *link = call->link;

	sn__timer_stop(link->loop, &link->auth_timer);
	if (end == SN_ETCD_REFUSED && err->foreign == SN_GRPC_FAILED_PRECONDITION)
		link->tokenless = true; /* "authentication is not enabled" */
	else if (end == SN_ETCD_REFUSED)
		failed(link, call, false, err);
	kick(link);
}

static void on_auth_timeout(struct sn_timer *timer)
{
	sn__etcd_cancel(&SN_CONTAINER_OF(timer, struct sn_etcd_link, auth_timer)->auth,
			SN_E_TIMEOUT);
}

static void authenticate(struct sn_etcd_link *link)
{
	Etcd__AuthenticateRequest request = ETCD__AUTHENTICATE_REQUEST__INIT;
	struct sn_etcd_call *call = &link->auth;

	if (call->running)
		return;
	request.name = link->user;
	request.password = link->password;
	call->path = "/etcdserverpb.Auth/Authenticate";
	call->answer = &etcd__authenticate_response__descriptor;
	call->message = on_token;
	call->done = on_auth_done;
	if (sn__etcd_call(link, call, &request.base, &link->why) < 0)
		return;
	sn__timer_start(link->loop, &link->auth_timer, sn_ms_to_ns(link->timeout_ms),
			on_auth_timeout);
}

bool sn__etcd_link_ready(struct sn_etcd_link *link)
{
	if (link->closed || link->resting)
		return false;
	if (link->user == NULL || link->token != NULL || link->tokenless)
		return true;
	authenticate(link);
	return false;
}

/* ---- options ---- */

static int add_endpoint(struct sn_etcd_link *link, const char *text, struct sn_error *err)
{
	struct sn_etcd_endpoint *e = &link->endpoints[link->n_endpoints];
	struct sn_url url;
	int r = sn__url_parse(sn_str_from(text), &url, err);

	if (r < 0) {
		sn__error_prefix(err, "etcd");
		return SN_E_INVALID;
	}
	if (url.websocket || (url.target.len > 0 && !sn_str_eq(url.target, SN_STR("/"))))
		return sn__error_set(err, SN_E_INVALID,
				"etcd: \"%.200s\" is not http://HOST:PORT or https://HOST:PORT",
				text);
	link->n_endpoints++;
	e->url = sn__strndup(
			text, sn_str_eq(url.target, SN_STR("/")) ? strlen(text) - 1 : strlen(text));
	e->host = sn__strndup(url.host.ptr, url.host.len);
	e->port = url.port;
	e->secure = url.secure;
	return e->url == NULL || e->host == NULL ? sn__error_set(err, SN_E_NOMEM, "out of memory")
						 : 0;
}

static int add_endpoints(struct sn_etcd_link *link, const char *const *texts, struct sn_error *err)
{
	size_t n = 0;

	while (texts != NULL && texts[n] != NULL)
		n++;
	if (n == 0)
		return sn__error_set(err, SN_E_INVALID, "etcd: there are no endpoints");
	link->endpoints = sn__calloc(n, sizeof(*link->endpoints));
	if (link->endpoints == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		int r = add_endpoint(link, texts[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int add_tls(struct sn_etcd_link *link, const struct sn_hub_etcd_options *opts,
		struct sn_error *err)
{
	const struct sn_tls_options tls = {
			.ca = opts->ca, .cert = opts->cert, .key = opts->key, .alpn = "h2"};
	bool secure = false;

	for (unsigned i = 0; i < link->n_endpoints; i++)
		secure |= link->endpoints[i].secure;
	if (!secure && (opts->ca != NULL || opts->cert != NULL || opts->key != NULL))
		return sn__error_set(err, SN_E_INVALID,
				"etcd: certificates are given, but no endpoint is https://");
	if (!secure)
		return 0;
	if (sn__tls_create(link->loop, &tls, false, &link->tls) < 0)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	return sn__tls_load(link->tls, err);
}

int sn__etcd_link_init(struct sn_etcd_link *link, struct sn_loop *loop, struct sn_http_pool *pool,
		const struct sn_hub_etcd_options *opts, struct sn_error *err)
{
	int r;

	link->loop = loop;
	link->pool = pool;
	link->timeout_ms = opts->timeout_ms != 0 ? opts->timeout_ms : TIMEOUT_MS;
	r = add_endpoints(link, opts->endpoints, err);
	if (r == 0 && (opts->user == NULL) != (opts->password == NULL))
		r = sn__error_set(err, SN_E_INVALID,
				"etcd: a user needs a password, and the reverse");
	if (r == 0 && opts->user != NULL) {
		link->user = sn__strdup(opts->user);
		link->password = sn__strdup(opts->password);
		if (link->user == NULL || link->password == NULL)
			r = sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	return r < 0 ? r : add_tls(link, opts, err);
}

void sn__etcd_link_close(struct sn_etcd_link *link)
{
	link->closed = true;
	sn__loop_undefer(link->loop, &link->kick);
	if (sn_timer_armed(&link->rest))
		sn__timer_stop(link->loop, &link->rest);
	sn__etcd_cancel(&link->auth, SN_E_CLOSED);
}

void sn__etcd_link_finish(struct sn_etcd_link *link)
{
	sn__loop_undefer(link->loop, &link->kick);
	sn__http_dest_unref(link->dest);
	sn__tls_unref(link->tls);
	for (unsigned i = 0; i < link->n_endpoints; i++) {
		sn__free(link->endpoints[i].url);
		sn__free(link->endpoints[i].host);
	}
	sn__free(link->endpoints);
	sn__free(link->user);
	sn__free(link->password);
	sn__free(link->token);
}
