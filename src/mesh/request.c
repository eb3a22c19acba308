/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A fetch is a call (mesh/call.h) whose attempts are HTTP requests. Two shapes:
 *
 * whole: the owner collects the answer. Every answered attempt is told (on_head starts it over), and
 * the attempt ends with its body.
 *
 * streamed: the head can be given once only. A head that may be followed by a retry (5xx, 429) is
 * held back: reading pauses, the mesh is told at once, and then either makes another attempt (the
 * held answer is dropped) or ends the call (the held answer is given after all, and its body flows
 * after the call's end). A good head ends the attempt's time-out: its body flows under the HTTP
 * client's idle time-out, the permit is kept until its end, and no retry is possible any more.
 *
 * States of one attempt: in_flight (the HTTP request is not done), reported (the mesh knows how it
 * ended). A new attempt while the held answer is still in flight cancels that and waits (restart).
 */

#include "mesh/request.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "io/grpc.h"
#include "mesh/dest.h"
#include "proto/date.h"

#define HELD_BODY_MAX (256u << 10) /* what may still come in while reading is paused */

static void attempt_send(struct sn_fetch *f);

/* ---- outcomes ---- */

static unsigned retry_bits(unsigned status)
{
	switch (status) {
	case 502:
		return SN_RETRY_502 | SN_RETRY_5XX;
	case 503:
		return SN_RETRY_503 | SN_RETRY_5XX;
	case 504:
		return SN_RETRY_504 | SN_RETRY_5XX;
	default:
		return status >= 500 ? SN_RETRY_5XX : 0;
	}
}

static void outcome_of_status(unsigned status, int64_t retry_after_ms, struct sn_outcome *out)
{
	out->sent = SN_SENT_YES;
	out->foreign = (int)status;
	if (status < 500 && status != 429)
		return;
	out->class = status == 429      ? SN_OUTCOME_THROTTLED
			: status == 503 ? SN_OUTCOME_UNAVAILABLE
					: SN_OUTCOME_FAILED;
	out->phase = SN_PHASE_READ;
	out->code = SN_E_STATUS;
	out->retry_on = retry_bits(status);
	out->retry_after_ms = retry_after_ms;
	snprintf(out->detail, sizeof(out->detail), "status %u", status);
}

static void outcome_of_failure(const struct sn_http_result *res, struct sn_outcome *out)
{
	bool connecting = res->phase == SN_PHASE_RESOLVE || res->phase == SN_PHASE_CONNECT ||
			res->phase == SN_PHASE_TLS;

	out->class = SN_OUTCOME_FAILED;
	out->sent = res->sent;
	/* A peer that goes away in good order says nothing bad of itself. */
	out->along = res->along ||
			(res->sent == SN_SENT_NO && res->h2_error == SN_H2_REFUSED_STREAM);
	out->phase = res->phase;
	out->code = res->code;
	out->foreign = res->foreign;
	snprintf(out->detail, sizeof(out->detail), "%s",
			res->detail[0] != '\0' ? res->detail : sn_strerror(res->code));
	switch (res->code) {
	case SN_E_TIMEOUT:
		out->retry_on = connecting ? SN_RETRY_CONNECT : SN_RETRY_TIMEOUT;
		break;
	case SN_E_RESOLVE:
	case SN_E_CONNECT:
	case SN_E_TLS:
		out->retry_on = SN_RETRY_CONNECT;
		break;
	case SN_E_RESET:
	case SN_E_EOF:
	case SN_E_IO:
	case SN_E_PROTOCOL: /* what it sent is no answer */
		out->retry_on = connecting ? SN_RETRY_CONNECT : SN_RETRY_RESET;
		break;
	default: /* cancelled, closed, too large, out of memory: nothing the peer did */
		out->class = SN_OUTCOME_REJECTED;
		break;
	}
}

void sn__fetch_outcome(const struct sn_http_result *res, int64_t retry_after_ms,
		struct sn_outcome *ret_outcome)
{
	*ret_outcome = (struct sn_outcome)SN_OUTCOME_INIT;
	ret_outcome->first_byte_ns = res->head_ns;
	if (res->code == 0)
		outcome_of_status(res->status, retry_after_ms, ret_outcome);
	else
		outcome_of_failure(res, ret_outcome);
}

static void report(struct sn_fetch *f, const struct sn_outcome *outcome)
{
	struct sn_outcome out = *outcome;

	/* Bytes of the body that left and are nowhere any more. */
	if (f->source != NULL && f->pull.lost && f->source->rewind == NULL)
		out.not_replayable = true;
	f->reported = true;
	sn__call_attempt_done(&f->call, &out);
}

/* ---- the body on its way out ---- */

static struct sn_fetch_body *body_of(struct sn_body_source *source)
{
	return SN_CONTAINER_OF(source, struct sn_fetch_body, source);
}

/* A body that is known to be too large is not begun to be kept; a block of the right size is taken at
 * once. */
static int body_keep(struct sn_fetch_body *b, const void *data, size_t n)
{
	int64_t length = b->inner->length;
	char *space;
	int r = 0;

	if (length > 0 && (uint64_t)length > b->kept.max)
		return SN_E_LIMIT;
	if (length > 0 && b->kept.len == 0)
		r = sn__buf_reserve(&b->kept, (size_t)length, &space);
	return r < 0 ? r : sn__buf_append(&b->kept, data, n);
}

static ssize_t body_read(struct sn_body_source *source, void *out, size_t n)
{
	struct sn_fetch_body *b = body_of(source);
	ssize_t got;

	if (b->given < b->kept.len) {
		n = SN_MIN(n, b->kept.len - b->given);
		memcpy(out, sn__buf_data(&b->kept) + b->given, n);
		b->given += n;
		return (ssize_t)n;
	}
	got = b->inner->read(b->inner, out, n);
	if (got > 0 && b->inner->rewind == NULL && !b->lost) {
		b->lost = body_keep(b, out, (size_t)got) < 0;
		if (b->lost)
			sn__buf_finish(&b->kept);
		b->given = b->kept.len;
	}
	return got;
}

/* Only of sources that keep what they gave themselves, or gave what is too large to keep. */
static ssize_t body_view(struct sn_body_source *source, const char **ret_view)
{
	struct sn_fetch_body *b = body_of(source);

	return b->inner->view(b->inner, ret_view);
}

static void body_used(struct sn_body_source *source, size_t n)
{
	struct sn_fetch_body *b = body_of(source);

	b->lost = b->inner->rewind == NULL;
	b->inner->used(b->inner, n);
}

static int body_restart(struct sn_fetch *f)
{
	struct sn_fetch_body *b = &f->pull;

	if (f->source == NULL)
		return 0;
	b->given = 0;
	if (f->call.attempt <= 1)
		return 0;
	if (f->source->rewind != NULL)
		return f->source->rewind(f->source);
	return b->lost ? SN_E_STATE : 0;
}

void sn__fetch_body_ready(struct sn_fetch *f)
{
	if (f->in_flight)
		sn__http_body_ready(&f->req);
}

/* ---- headers of our own ---- */

static void extra_headers(struct sn_fetch *f)
{
	uint64_t left_ns = sn__call_left_ns(&f->call);
	unsigned n = 0;

	sn__trace_headers(&f->call, &f->trace);
	for (; n < f->trace.n; n++)
		f->extra[n] = f->trace.headers[n];
	if (f->grpc)
		f->extra[n++] = (struct sn_http_header){SN_STR("te"), SN_STR("trailers")};
	if (left_ns != SN_NEVER_NS && f->grpc) {
		sn__grpc_timeout_write(left_ns, f->left_text);
		f->extra[n++] = (struct sn_http_header){
				SN_STR("grpc-timeout"), sn_str_from(f->left_text)};
	} else if (left_ns != SN_NEVER_NS) {
		snprintf(f->left_text, sizeof(f->left_text), "%" PRIu64, sn_ns_to_ms(left_ns));
		f->extra[n++] = (struct sn_http_header){
				SN_STR("sinew-timeout-ms"), sn_str_from(f->left_text)};
	}
	f->req.headers2 = f->extra;
	f->req.n_headers2 = n;
}

/* ---- answers ---- */

static bool head_is_final(unsigned status)
{
	return status < 500 && status != 429;
}

static void copy_slice(struct sn_str *slice, char **at)
{
	memcpy(*at, slice->ptr != NULL ? slice->ptr : "", slice->len);
	slice->ptr = *at;
	*at += slice->len;
}

/* Keep the head beyond the callback: the struct with its texts behind it. */
static int head_hold(struct sn_fetch *f, const struct sn_http_head *head)
{
	size_t size = sizeof(*head) + head->reason.len;
	struct sn_http_head *copy;
	char *at;

	for (unsigned i = 0; i < head->n_headers; i++)
		size += head->headers[i].name.len + head->headers[i].value.len;
	copy = sn__malloc(size);
	if (copy == NULL)
		return SN_E_NOMEM;
	*copy = *head;
	at = (char *)(copy + 1);
	copy_slice(&copy->reason, &at);
	for (unsigned i = 0; i < copy->n_headers; i++) {
		copy_slice(&copy->headers[i].name, &at);
		copy_slice(&copy->headers[i].value, &at);
	}
	f->held_head = copy;
	return 0;
}

static void held_drop(struct sn_fetch *f)
{
	sn__free(SN_TAKE(f->held_head));
	sn__buf_finish(&f->held);
}

static void finish(struct sn_fetch *f, const struct sn_error *err)
{
	struct sn_error *last = SN_TAKE(f->last_error);

	held_drop(f);
	sn__buf_finish(&f->pull.kept);
	sn__loop_undefer(f->rt->loop, &f->task);
	f->ops->on_done(f, err);
	sn_error_destroy(last);
}

/* The request cannot go on for a reason of our own: on_done of the client follows. */
static void give_up(struct sn_fetch *f, int code)
{
	f->data_error = code;
	sn__http_cancel(&f->req, code);
}

static void outcome_of_head(const struct sn_fetch *f, struct sn_outcome *out)
{
	*out = (struct sn_outcome)SN_OUTCOME_INIT;
	out->first_byte_ns = f->head_ns;
	outcome_of_status(f->status, f->retry_after_ms, out);
}

/* A good head was given to the owner. */
static void answered(struct sn_fetch *f)
{
	struct sn_outcome outcome;

	outcome_of_head(f, &outcome);
	if (f->data_error == 0 &&
			!f->call.answered) /* else the owner has ended the attempt inside on_head */
		sn__call_answered(&f->call, &outcome);
}

/* A held head: the mesh decides what becomes of it. Not from inside the client's callback, for the
 * decision may be to cancel the request. */
static void held_report(struct sn_task *task)
{
	struct sn_fetch *f = SN_CONTAINER_OF(task, struct sn_fetch, task);
	struct sn_outcome outcome;

	if (f->reported)
		return;
	outcome_of_head(f, &outcome);
	report(f, &outcome);
}

static void on_head(struct sn_http_req *req, const struct sn_http_head *head)
{
	struct sn_fetch *f = SN_CONTAINER_OF(req, struct sn_fetch, req);
	const struct sn_str *after = sn__http_find(head, "retry-after");
	int r;

	f->status = head->status;
	f->head_ns = sn__loop_now_ns(f->rt->loop);
	f->retry_after_ms = after != NULL
			? sn__retry_after_ms(*after, sn__loop_wall_ns(f->rt->loop))
			: -1;
	if (f->whole || head_is_final(head->status)) {
		f->given = true;
		f->ops->on_head(f, head);
		if (!f->whole)
			answered(f);
		return;
	}
	r = head_hold(f, head);
	if (r < 0) {
		give_up(f, r);
		return;
	}
	sn__http_pause(req, true);
	sn__loop_defer(f->rt->loop, &f->task, held_report);
}

static void on_data(struct sn_http_req *req, struct sn_str data)
{
	struct sn_fetch *f = SN_CONTAINER_OF(req, struct sn_fetch, req);
	int r;

	if (f->data_error != 0 || f->restart)
		return;
	if (f->held_head != NULL)
		r = sn__buf_append_str(&f->held, data);
	else
		r = f->ops->on_data(f, data);
	if (r < 0)
		give_up(f, r);
}

/* The call ended with the held answer, or the good one is still coming: it belongs to the owner. */
static int held_give(struct sn_fetch *f)
{
	struct sn_http_head *head = SN_TAKE(f->held_head);
	int r = 0;

	f->given = true;
	f->ops->on_head(f, head);
	sn__free(head);
	if (f->held.len > 0)
		r = f->ops->on_data(f, sn__buf_str(&f->held));
	sn__buf_finish(&f->held);
	return r;
}

/* The HTTP request ended after the call did. */
static void end_outside(struct sn_fetch *f, const struct sn_http_result *res)
{
	struct sn_error err;

	if (f->last_error != NULL) {
		finish(f, f->last_error);
		return;
	}
	if (res->code == 0 && f->data_error == 0) {
		finish(f, NULL);
		return;
	}
	sn__error_set(&err, f->data_error != 0 ? f->data_error : res->code,
			"%s: the answer broke off: %s", sn__target_text(f->target),
			res->detail[0] != '\0' ? res->detail : sn_strerror(res->code));
	sn__call_id_text(f->call.id, err.call_id);
	finish(f, &err);
}

/* The attempt failed before the client took it: told in a later turn, with its sentence. */
static void start_failed_report(struct sn_task *task)
{
	struct sn_fetch *f = SN_CONTAINER_OF(task, struct sn_fetch, task);
	struct sn_outcome outcome = SN_OUTCOME_INIT;

	outcome.class = SN_OUTCOME_REJECTED;
	if (f->unfit) { /* one broken entry must not fail calls that others can answer */
		outcome.class = SN_OUTCOME_FAILED;
		outcome.retry_on = SN_RETRY_CONNECT;
		outcome.sent = SN_SENT_NO;
	}
	outcome.code = f->data_error;
	outcome.phase = SN_PHASE_ADMIT;
	snprintf(outcome.detail, sizeof(outcome.detail), "%s", f->start_detail);
	report(f, &outcome);
}

static void on_done(struct sn_http_req *req)
{
	struct sn_fetch *f = SN_CONTAINER_OF(req, struct sn_fetch, req);
	struct sn_outcome outcome;

	f->in_flight = false;
	if (f->given && !f->restart && req->result.code == 0 && req->result.n_trailers > 0 &&
			f->ops->on_trailers != NULL)
		f->ops->on_trailers(f, req->result.trailers, req->result.n_trailers);
	if (f->restart) {
		f->restart = false;
		attempt_send(f);
		return;
	}
	if (f->upgrade && req->result.code == 0 && req->result.status == 101 && !f->call_over) {
		f->tunnelled = true;
		f->ops->on_upgraded(f);
		return;
	}
	if (f->call_over) {
		end_outside(f, &req->result);
		return;
	}
	if (f->reported) /* the held answer came to its end before the mesh decided */
		return;
	if (f->data_error != 0)
		req->result.code = f->data_error;
	if (f->data_error == SN_E_LIMIT)
		snprintf(req->result.detail, sizeof(req->result.detail),
				"the answer is larger than max-response (%llu bytes)",
				(unsigned long long)f->call.policy->max_response);
	sn__fetch_outcome(&req->result, f->retry_after_ms, &outcome);
	/* A slow client must not open breakers. (In a session both ends may wait for each other.) */
	outcome.starved = req->result.starved && !f->call.session;
	outcome.not_again = f->any_status && outcome.code == SN_E_STATUS;
	if (f->given && !f->whole && outcome.code != 0)
		outcome.class = SN_OUTCOME_REJECTED; /* the owner has seen the head: this is final */
	report(f, &outcome);
}

static const struct sn_http_req_ops req_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_done,
};

/* ---- attempts ---- */

static int attempt_start(struct sn_fetch *f, struct sn_error *err)
{
	const struct sn_policy *policy = f->call.policy;
	struct sn_http_dest *dest;
	int r = f->grpc ? sn__dest_grpc_of(f->rt, f->call.permit.state, policy, &dest, err)
			: sn__dest_of(f->rt, f->call.permit.state, policy, &dest, err);

	f->unfit = r == SN_E_NOTSUP || r == SN_E_INVALID;
	if (r < 0)
		return r;
	r = body_restart(f);
	if (r < 0)
		return sn__error_set(err, r, "the body cannot be sent again");
	f->req = (struct sn_http_req){
			.ops = &req_ops,
			.method = f->method,
			.target = f->url,
			.headers = f->headers,
			.n_headers = f->n_headers,
			.body = f->body,
			.source = f->source != NULL ? &f->pull.source : NULL,
			.connect_timeout_ms = policy->connect_timeout,
			.idle_timeout_ms = policy->idle_timeout,
			.upgrade = f->upgrade,
	};
	extra_headers(f);
	return sn__http_start(dest, &f->req, err);
}

static void attempt_send(struct sn_fetch *f)
{
	struct sn_error err;
	int r;

	f->reported = f->given = false;
	f->status = 0;
	f->head_ns = 0;
	f->retry_after_ms = -1;
	f->data_error = 0;
	r = attempt_start(f, &err);
	if (r < 0) {
		f->data_error = r;
		snprintf(f->start_detail, sizeof(f->start_detail), "%.*s",
				(int)sizeof(f->start_detail) - 1, err.text);
		sn__loop_defer(f->rt->loop, &f->task, start_failed_report);
		return;
	}
	f->in_flight = true;
}

static int attempt(struct sn_call *call)
{
	struct sn_fetch *f = SN_CONTAINER_OF(call, struct sn_fetch, call);

	held_drop(f);
	if (f->in_flight) { /* a held answer nobody wants */
		f->reported = false;
		f->restart = true;
		sn__http_cancel(&f->req, SN_E_CANCELLED);
	} else {
		attempt_send(f);
	}
	return 0;
}

static void attempt_abort(struct sn_call *call, int code)
{
	struct sn_fetch *f = SN_CONTAINER_OF(call, struct sn_fetch, call);

	f->restart = false; /* not begun yet: its end is told all the same */
	if (f->tunnelled)
		f->ops->on_abort(f);
	else if (f->in_flight)
		give_up(f, code);
}

/* The call ended. What still flows is the owner's, or nobody's. */
static void call_done(struct sn_call *call, const struct sn_error *err)
{
	struct sn_fetch *f = SN_CONTAINER_OF(call, struct sn_fetch, call);
	bool give = f->held_head != NULL && !f->cancelled &&
			(err == NULL || sn_error_code(err) == SN_E_STATUS);
	int r = 0;

	f->call_over = true;
	if (give)
		r = held_give(f);
	if (!f->in_flight) {
		finish(f, give ? NULL : err);
		return;
	}
	if (give || (err == NULL && !f->cancelled)) {
		if (r < 0)
			give_up(f, r);
		else
			sn__http_pause(&f->req, f->paused);
		return;
	}
	if (err != NULL && sn_error_copy(err, &f->last_error) < 0)
		f->last_error = NULL; /* end_outside() has a shorter sentence */
	give_up(f, err != NULL ? sn_error_code(err) : SN_E_CANCELLED);
}

/* A session's peer has been reached. */
static bool session_opened(struct sn_call *call, uint64_t *ret_ns)
{
	struct sn_fetch *f = SN_CONTAINER_OF(call, struct sn_fetch, call);
	const struct sn_http_result *res = &f->req.result;

	if (!f->in_flight || res->connected_ns == 0)
		return false;
	*ret_ns = SN_MAX(res->connected_ns, call->attempt_start_ns);
	return true;
}

static const struct sn_call_ops call_ops = {
		.opened = session_opened,
		.attempt = attempt,
		.abort = attempt_abort,
		.done = call_done,
		.tcp = true,
};

/* ---- the whole ---- */

static bool method_in(struct sn_str method, const char *const *list)
{
	for (; *list != NULL; list++)
		if (sn_str_eq(method, sn_str_from(*list)))
			return true;
	return false;
}

static enum sn_safety safety_of(const struct sn_fetch *f)
{
	static const char *const safe[] = {"GET", "HEAD", "OPTIONS", "TRACE", NULL};
	static const char *const idempotent[] = {"PUT", "DELETE", NULL};

	if (method_in(f->method, safe))
		return SN_SAFE;
	if (method_in(f->method, idempotent))
		return SN_IDEMPOTENT;
	return f->keyed ? SN_KEYED : SN_UNSAFE;
}

static size_t put(char *out, size_t at, size_t size, struct sn_str s)
{
	size_t n = SN_MIN(s.len, size - at);

	memcpy(out + at, s.ptr, n);
	return at + n;
}

/* For the recorder: the path only, for a query may hold secrets. (No printf on the way of a call.) */
static struct sn_str what_of(struct sn_fetch *f)
{
	const char *query = memchr(f->url.ptr, '?', f->url.len);
	struct sn_str path = {
			f->url.ptr, query != NULL ? (size_t)(query - f->url.ptr) : f->url.len};
	size_t n = put(f->what, 0, sizeof(f->what), f->method);

	n = put(f->what, n, sizeof(f->what), SN_STR(" "));
	n = put(f->what, n, sizeof(f->what), path);
	return (struct sn_str){f->what, n};
}

static int fetch_check(const struct sn_fetch *f, struct sn_error *err)
{
	if (!sn__http_method_valid(f->method))
		return sn__error_set(err, SN_E_INVALID, "method \"%.*s\" is not valid",
				(int)SN_MIN(f->method.len, 32u), f->method.ptr);
	if (!sn__http_target_valid(f->url))
		return sn__error_set(err, SN_E_INVALID,
				"url \"%.*s\" is not valid: it must begin "
				"with / and hold no space, control character or #",
				(int)SN_MIN(f->url.len, 80u), f->url.ptr);
	return 0;
}

int sn__fetch_start(struct sn_runtime *rt, struct sn_fetch *f, struct sn_error *err)
{
	int r = fetch_check(f, err);

	if (r < 0)
		return r;
	f->rt = rt;
	sn__buf_init(&f->held, HELD_BODY_MAX);
	sn__buf_init(&f->pull.kept,
			SN_MAX(1,
					sn__mesh_policy(rt->mesh, f->target, SN_DIALECT_BERLIOZ)
							->retry_buffer));
	if (f->source != NULL) {
		f->pull.inner = f->source;
		f->pull.source = (struct sn_body_source){
				.read = body_read, .length = f->source->length};
		if (f->source->view != NULL && f->source->length >= 0 &&
				(f->source->rewind != NULL ||
						(uint64_t)f->source->length > f->pull.kept.max)) {
			f->pull.source.view = body_view;
			f->pull.source.used = body_used;
		}
	}
	f->call.ops = &call_ops;
	f->call.target = f->target;
	f->call.what = what_of(f);
	f->call.method = f->method;
	f->call.url = f->url;
	f->call.safety = safety_of(f);
	f->call.retry = f->retry;
	f->call.dialect = SN_DIALECT_BERLIOZ;
	f->call.session = f->grpc || f->upgrade;
	f->call.timeout_ms = f->timeout_ms;
	f->call.deadline_ms = f->deadline_ms;
	f->call.context = f->context;
	r = sn__call_start(rt->mesh, &f->call);
	if (r < 0)
		return sn__error_set(err, r, "%s: %s", sn__target_text(f->target), sn_strerror(r));
	return 0;
}

void sn__fetch_cancel(struct sn_fetch *f)
{
	f->cancelled = true;
	if (!f->call_over)
		sn__call_cancel(&f->call);
	else if (f->in_flight)
		give_up(f, SN_E_CANCELLED);
}

void sn__fetch_end(struct sn_fetch *f)
{
	struct sn_outcome outcome;

	f->tunnelled = false;
	outcome_of_head(f, &outcome);
	report(f, &outcome);
}

void sn__fetch_fail(struct sn_fetch *f, int code)
{
	if (f->in_flight)
		give_up(f, code);
}

void sn__fetch_pause(struct sn_fetch *f, bool pause)
{
	f->paused = pause;
	if (f->in_flight && f->held_head == NULL)
		sn__http_pause(&f->req, pause);
}

int sn__fetch_url(const struct sn_fetch *f, struct sn_buf *out)
{
	int r = sn__buf_append_str(out, sn__dest_url(f->call.permit.state));

	return r < 0 ? r : sn__buf_append_str(out, f->url);
}

/* ---- Retry-After ---- */

int64_t sn__retry_after_ms(struct sn_str value, uint64_t wall_ns)
{
	uint64_t seconds;
	int64_t at_s, ms;

	if (sn__parse_u64(value, UINT32_MAX, &seconds) == 0)
		return (int64_t)seconds * 1000;
	if (!sn__date_http(value, &at_s))
		return -1;
	ms = at_s * 1000 - (int64_t)(wall_ns / SN_NS_PER_MS);
	return SN_MAX(ms, 0);
}
