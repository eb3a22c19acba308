/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An attempt is one struct sn_grpc_req. Which statuses are answers, and which count against the peer,
 * stands in outcome_of_status(); an answer other than OK is a success to the mesh and becomes
 * SN_E_STATUS only when the owner is told.
 */

#include "mesh/grpc_call.h"

#include <stdio.h>

#include "base/mem.h"
#include "mesh/api.h"
#include "mesh/dest.h"
#include "mesh/request.h"

/* ---- outcomes ---- */

/* The hint of gRFC A6: milliseconds; a negative number, or nonsense, forbids another attempt. */
static void pushback_read(const char *text, struct sn_outcome *out)
{
	uint64_t ms;

	if (text == NULL)
		return;
	if (sn__parse_u64(sn_str_from(text), INT32_MAX, &ms) == 0)
		out->retry_after_ms = (int64_t)ms;
	else
		out->not_again = true;
}

/* An answer without gRPC's status: something between us and the server spoke. */
static unsigned http_bits(unsigned status)
{
	return status == 502            ? SN_RETRY_502 | SN_RETRY_5XX
			: status == 503 ? SN_RETRY_503 | SN_RETRY_5XX
			: status == 504 ? SN_RETRY_504 | SN_RETRY_5XX
					: 0;
}

static void outcome_of_status(
		const struct sn_grpc_req *req, const char *pushback, struct sn_outcome *out)
{
	int code = req->status.code;
	const char *text = req->status.text != NULL ? req->status.text : "";

	switch (code) {
	case SN_GRPC_UNAVAILABLE:
		out->class = SN_OUTCOME_UNAVAILABLE;
		out->retry_on = SN_RETRY_UNAVAILABLE | http_bits(req->http.result.status);
		break;
	case SN_GRPC_DEADLINE_EXCEEDED:
		out->class = SN_OUTCOME_FAILED;
		out->retry_on = SN_RETRY_TIMEOUT;
		break;
	case SN_GRPC_INTERNAL:
	case SN_GRPC_UNKNOWN:
	case SN_GRPC_DATA_LOSS:
		out->class = SN_OUTCOME_FAILED;
		break;
	case SN_GRPC_RESOURCE_EXHAUSTED:
		out->class = SN_OUTCOME_THROTTLED;
		break;
	default:
		out->class = SN_OUTCOME_OK;
		return;
	}
	out->phase = SN_PHASE_READ;
	out->code = SN_E_STATUS;
	out->foreign = code;
	pushback_read(pushback, out);
	snprintf(out->detail, sizeof(out->detail), "status %d %s%s%s", code,
			sn_grpc_code_name(code), text[0] != '\0' ? ": " : "", text);
}

void sn__grpc_outcome(
		const struct sn_grpc_req *req, const char *pushback, struct sn_outcome *ret_outcome)
{
	struct sn_http_result res = req->http.result;

	*ret_outcome = (struct sn_outcome)SN_OUTCOME_INIT;
	ret_outcome->first_byte_ns = res.head_ns;
	if (req->code == 0)
		return;
	if (req->code != SN_E_STATUS) {
		res.code = req->code;
		sn__fetch_outcome(&res, -1, ret_outcome);
		return;
	}
	ret_outcome->sent = res.code == 0 ? SN_SENT_YES : res.sent;
	outcome_of_status(req, pushback, ret_outcome);
	if (res.code == 0 || ret_outcome->class == SN_OUTCOME_OK)
		return;
	if (req->status.code == SN_GRPC_RESOURCE_EXHAUSTED && res.code == SN_E_CANCELLED)
		ret_outcome->class = SN_OUTCOME_REJECTED; /* larger than max_message */
	else
		ret_outcome->retry_on |= SN_RETRY_RESET; /* it stands for a broken stream */
}

/* ---- attempts ---- */

/* The headers of this attempt's span behind the user's metadata. Their number. */
static unsigned trace_headers(struct sn_grpc_call *gc)
{
	struct sn_http_header *out = &gc->text->metadata[gc->text->n_metadata];

	sn__trace_headers(&gc->call, &gc->trace);
	for (unsigned i = 0; i < gc->trace.n; i++)
		out[i] = gc->trace.headers[i];
	return gc->trace.n;
}

static void give_up(struct sn_grpc_call *gc, int code)
{
	if (gc->stopped)
		return;
	gc->stopped = true;
	gc->own_error = code;
	if (gc->in_flight)
		sn__grpc_cancel(&gc->req, code);
}

static struct sn_grpc_call *call_of(struct sn_grpc_req *req)
{
	return SN_CONTAINER_OF(req, struct sn_grpc_call, req);
}

static void on_head(struct sn_grpc_req *req, const struct sn_http_head *head)
{
	struct sn_grpc_call *gc = call_of(req);
	struct sn_outcome outcome = SN_OUTCOME_INIT;
	int r;

	if (gc->stopped)
		return;
	r = sn__grpc_fields_add(&gc->answer->header, head->headers, head->n_headers);
	if (r < 0) {
		give_up(gc, r);
		return;
	}
	if (gc->streams && !gc->call.answered) {
		outcome.first_byte_ns = sn__loop_now_ns(gc->rt->loop);
		sn__call_answered(&gc->call, &outcome);
	}
	if (gc->ops->on_head != NULL)
		gc->ops->on_head(gc);
}

static void on_message(struct sn_grpc_req *req, struct sn_str message)
{
	struct sn_grpc_call *gc = call_of(req);
	int r = gc->stopped ? 0 : gc->ops->on_message(gc, message);

	if (r < 0)
		give_up(gc, r);
}

static void on_drain(struct sn_grpc_req *req)
{
	struct sn_grpc_call *gc = call_of(req);

	if (!gc->stopped && gc->ops->on_drain != NULL)
		gc->ops->on_drain(gc);
}

static void on_done(struct sn_grpc_req *req)
{
	struct sn_grpc_call *gc = call_of(req);
	struct sn_grpc_answer *a = gc->answer;
	const struct sn_http_result *res = &req->http.result;
	struct sn_outcome outcome;

	gc->in_flight = false;
	if (gc->own_error != 0)
		req->code = gc->own_error;
	if (sn__grpc_fields_add(&a->trailer, res->trailers, res->n_trailers) < 0)
		sn__grpc_fields_clear(&a->trailer);
	sn__grpc_outcome(req, sn__grpc_fields_find(&a->trailer, "grpc-retry-pushback-ms", NULL),
			&outcome);
	a->status = req->status;
	req->status = (struct sn_grpc_status){.code = 0};
	if (gc->call.answered && outcome.code != 0)
		outcome.class = SN_OUTCOME_REJECTED; /* the session was open: this is final */
	outcome.not_replayable = gc->not_replayable;
	sn__call_attempt_done(&gc->call, &outcome);
}

static const struct sn_grpc_req_ops req_ops = {
		.on_head = on_head,
		.on_message = on_message,
		.on_drain = on_drain,
		.on_done = on_done,
};

/* Told in a later turn, with its sentence. */
static void start_failed_report(struct sn_task *task)
{
	struct sn_grpc_call *gc = SN_CONTAINER_OF(task, struct sn_grpc_call, task);
	struct sn_outcome outcome = SN_OUTCOME_INIT;

	outcome.class = SN_OUTCOME_REJECTED;
	if (gc->unfit) { /* one broken entry must not fail calls that others can answer */
		outcome.class = SN_OUTCOME_FAILED;
		outcome.retry_on = SN_RETRY_CONNECT;
		outcome.sent = SN_SENT_NO;
	}
	outcome.code = gc->start_error;
	outcome.phase = SN_PHASE_ADMIT;
	snprintf(outcome.detail, sizeof(outcome.detail), "%s", gc->detail);
	sn__call_attempt_done(&gc->call, &outcome);
}

static int attempt_start(struct sn_grpc_call *gc, struct sn_error *err)
{
	const struct sn_policy *policy = gc->call.policy;
	const struct sn_grpc_options *o = &gc->text->options;
	uint64_t due_ns = gc->streams ? gc->call.deadline_ns : gc->call.attempt_deadline_ns;
	uint64_t left_ns = sn_time_until(sn__loop_now_ns(gc->rt->loop), due_ns);
	struct sn_http_dest *dest;
	int r = sn__dest_grpc_of(gc->rt, gc->call.permit.state, policy, &dest, err);

	gc->unfit = r == SN_E_NOTSUP || r == SN_E_INVALID;
	if (r < 0)
		return r;
	gc->req = (struct sn_grpc_req){
			.ops = &req_ops,
			.path = gc->text->path,
			.metadata = gc->text->metadata,
			.n_metadata = gc->text->n_metadata + trace_headers(gc),
			.framed = sn__buf_str(&gc->text->frame),
			.streams = gc->streams,
			.one_answer = !gc->streams,
			.gzip = o->gzip,
			.timeout_ns = due_ns != SN_NEVER_NS ? SN_MAX(left_ns, 1u) : SN_NEVER_NS,
			.max_message = o->max_message,
			.connect_timeout_ms = policy->connect_timeout,
	};
	return sn__grpc_start(dest, &gc->req, err);
}

static int attempt(struct sn_call *call)
{
	struct sn_grpc_call *gc = SN_CONTAINER_OF(call, struct sn_grpc_call, call);
	struct sn_error err;
	int r;

	sn__grpc_answer_reset(gc->answer);
	gc->stopped = false;
	gc->own_error = 0;
	r = attempt_start(gc, &err);
	if (r < 0) {
		gc->start_error = r;
		snprintf(gc->detail, sizeof(gc->detail), "%.*s", (int)sizeof(gc->detail) - 1,
				err.text);
		sn__loop_defer(gc->rt->loop, &gc->task, start_failed_report);
		return 0;
	}
	gc->in_flight = true;
	r = gc->streams ? gc->ops->on_start(gc) : 0;
	if (r < 0)
		give_up(gc, r);
	return 0;
}

static void attempt_abort(struct sn_call *call, int code)
{
	give_up(SN_CONTAINER_OF(call, struct sn_grpc_call, call), code);
}

static bool session_opened(struct sn_call *call, uint64_t *ret_ns)
{
	struct sn_grpc_call *gc = SN_CONTAINER_OF(call, struct sn_grpc_call, call);
	const struct sn_http_result *res = &gc->req.http.result;

	if (!gc->in_flight || res->connected_ns == 0)
		return false;
	*ret_ns = SN_MAX(res->connected_ns, call->attempt_start_ns);
	return true;
}

static void error_of_answer(const struct sn_grpc_call *gc, struct sn_error *err)
{
	const struct sn_grpc_status *s = &gc->answer->status;
	char peer[96];

	sn__peer_state_text(gc->call.permit.state, peer, sizeof(peer));
	sn__error_set(err, SN_E_STATUS, "%s: %s: status %d %s%s%s", sn__target_text(gc->target),
			peer, s->code, sn_grpc_code_name(s->code), s->text != NULL ? ": " : "",
			s->text != NULL ? s->text : "");
	err->foreign = s->code;
	sn__call_id_text(gc->call.id, err->call_id);
}

static void call_done(struct sn_call *call, const struct sn_error *err)
{
	struct sn_grpc_call *gc = SN_CONTAINER_OF(call, struct sn_grpc_call, call);
	struct sn_grpc_answer *a = gc->answer;
	struct sn_error own;

	if (err == NULL || sn_error_code(err) == SN_E_STATUS) {
		a->attempts = call->attempt;
		sn__call_id_text(call->id, a->call_id);
		sn__grpc_answer_identity(a, call->permit.state->identity);
	}
	if (err == NULL && a->status.code != SN_GRPC_OK) {
		error_of_answer(gc, &own);
		err = &own;
	}
	gc->ops->on_done(gc, err);
}

static const struct sn_call_ops call_ops = {
		.attempt = attempt,
		.abort = attempt_abort,
		.done = call_done,
		.opened = session_opened,
		.tcp = true,
		.status_tag = "grpc.status_code",
};

/* ---- the whole ---- */

int sn__grpc_target(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		struct sn_target **ret_target, struct sn_error *err)
{
	struct sn_api_target t;
	int r = sn__api_target(kind, name, endpoint, &t, err);

	if (r < 0)
		return r;
	if (t.endpoint.len == 0)
		return sn__error_set(err, SN_E_INVALID,
				"a call goes to a service or a cluster, not to a %s", kind);
	r = sn__catalog_target(rt->catalog, t.kind, t.name, t.endpoint, ret_target);
	if (r < 0)
		return sn__error_set(
				err, r, "%s %s/%s: %s", kind, name, t.endpoint.ptr, sn_strerror(r));
	return 0;
}

int sn__grpc_call_start(struct sn_runtime *rt, struct sn_grpc_call *gc, struct sn_error *err)
{
	const struct sn_grpc_options *o = &gc->text->options;
	bool may_repeat = o->idempotent && !gc->streams;
	int r;

	gc->rt = rt;
	gc->call.ops = &call_ops;
	gc->call.target = gc->target;
	gc->call.what = gc->text->path;
	gc->call.method = gc->call.url = gc->text->path;
	gc->call.safety = may_repeat ? SN_IDEMPOTENT : SN_UNSAFE;
	/* A stream is tried again only when nothing of it has left, whatever the policies allow. */
	gc->call.retry = gc->streams && o->retry != SN_RETRY_NONE ? SN_RETRY_SAFE : o->retry;
	gc->call.dialect = SN_DIALECT_CORE;
	gc->call.session = gc->streams;
	gc->call.timeout_ms = o->timeout_ms;
	gc->call.deadline_ms = o->deadline_ms;
	gc->call.context = o->context;
	r = sn__call_start(rt->mesh, &gc->call);
	if (r < 0)
		return sn__error_set(err, r, "%s: %s", sn__target_text(gc->target), sn_strerror(r));
	return 0;
}

void sn__grpc_call_cancel(struct sn_grpc_call *gc)
{
	sn__call_cancel(&gc->call);
}
