/* SPDX-License-Identifier: Apache-2.0 */

/* sn_request(): a fetch whose answer is collected. */

#include "base/mem.h"
#include "mesh/api.h"
#include "mesh/operation.h"
#include "mesh/request.h"
#include "mesh/request_text.h"
#include "mesh/response.h"

struct request {
	struct sn_operation op;
	struct sn_fetch fetch;
	struct sn_runtime *rt;
	struct sn_request_text text;
	struct sn_response response;
	struct sn_context context;
};

/* ---- operations ---- */

static struct request *request_of(struct sn_operation *op)
{
	return SN_CONTAINER_OF(op, struct request, op);
}

static void request_init(struct sn_operation *op)
{
	sn__response_init(&request_of(op)->response);
}

static void request_reset(struct sn_operation *op)
{
	sn__request_text_reset(&request_of(op)->text);
	sn__response_reset(&request_of(op)->response);
}

static void request_finish(struct sn_operation *op)
{
	sn__request_text_finish(&request_of(op)->text);
	sn__response_finish(&request_of(op)->response);
}

static void request_cancel(struct sn_operation *op)
{
	sn__fetch_cancel(&request_of(op)->fetch);
}

static int request_start(struct sn_operation *op, struct sn_error *err)
{
	struct request *req = request_of(op);

	return sn__fetch_start(req->rt, &req->fetch, err);
}

static void response_init(void *answer)
{
	sn__response_init(answer);
}

static void response_destroy(void *answer)
{
	sn_response_destroy(answer);
}

static void request_tell(
		const struct sn_listener *listener, void *answer, const struct sn_error *err)
{
	((sn_response_fn *)(void *)listener->fn)(answer, err, listener->arg);
}

static const struct sn_operation_type request_type = {
		.size = sizeof(struct request),
		.init = request_init,
		.reset = request_reset,
		.finish = request_finish,
		.start = request_start,
		.cancel = request_cancel,
		.answer = offsetof(struct request, response),
		.answer_size = sizeof(struct sn_response),
		.answer_init = response_init,
		.answer_destroy = response_destroy,
		.tell = request_tell,
};

int sn__requests_create(struct sn_runtime *rt, struct sn_operations **ret_requests)
{
	return sn__operations_create(rt, &request_type, ret_requests);
}

/* ---- the answer ---- */

static int answer_where(struct request *req)
{
	struct sn_buf *texts = &req->response.texts;
	int r = sn__response_text(&req->response,
			sn_str_from(req->fetch.call.permit.state->identity),
			&req->response.identity);

	if (r < 0)
		return r;
	req->response.url = (uint32_t)texts->len;
	r = sn__fetch_url(&req->fetch, texts);
	return r < 0 ? r : sn__buf_append(texts, "", 1);
}

static void on_head(struct sn_fetch *f, const struct sn_http_head *head)
{
	struct request *req = SN_CONTAINER_OF(f, struct request, fetch);
	int r = sn__response_head(&req->response, head, f->call.policy->max_response);

	if (r == 0)
		r = answer_where(req);
	if (r < 0)
		sn__fetch_fail(f, r);
}

static int on_data(struct sn_fetch *f, struct sn_str data)
{
	return sn__response_data(&SN_CONTAINER_OF(f, struct request, fetch)->response, data);
}

static void on_done(struct sn_fetch *f, const struct sn_error *err)
{
	struct request *req = SN_CONTAINER_OF(f, struct request, fetch);
	bool answered;

	if (err != NULL && sn_error_code(err) == SN_E_STATUS && f->status < 500)
		err = NULL; /* 429: an answer like other 4xx once nobody retries it */
	answered = err == NULL || sn_error_code(err) == SN_E_STATUS;
	if (answered) {
		req->response.attempts = f->call.attempt;
		sn__call_id_text(f->call.id, req->response.call_id);
	}
	sn__operation_end(&req->op, answered, err);
}

static const struct sn_fetch_ops fetch_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_done,
};

/* ---- submission ---- */

static int target_find(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, struct sn_target **ret_target, struct sn_error *err)
{
	struct sn_api_target t;
	int r = sn__api_target(kind, name, endpoint, &t, err);

	if (r < 0)
		return r;
	if (t.endpoint.len == 0)
		return sn__error_set(err, SN_E_INVALID,
				"a request goes to a service or a cluster, "
				"not to a %s",
				kind);
	r = sn__catalog_target(rt->catalog, t.kind, t.name, t.endpoint, ret_target);
	if (r < 0)
		return sn__error_set(
				err, r, "%s %s/%s: %s", kind, name, t.endpoint.ptr, sn_strerror(r));
	return 0;
}

static void fetch_fill(
		struct request *req, struct sn_target *target, const struct sn_request_options *o)
{
	req->fetch = (struct sn_fetch){
			.ops = &fetch_ops,
			.target = target,
			.method = req->text.method,
			.url = req->text.url,
			.headers = req->text.headers,
			.n_headers = req->text.n_headers,
			.body = req->text.body,
			.retry = o->retry,
			.keyed = req->text.keyed,
			.whole = true,
			.timeout_ms = o->timeout_ms,
			.deadline_ms = o->deadline_ms,
	};
	if (o->context != NULL) {
		req->context = *o->context;
		req->fetch.context = &req->context;
	}
}

/* Between enter and leave. On success the call is under way or posted. */
static int submit(struct sn_runtime *rt, struct sn_target *target,
		const struct sn_request_options *o, const struct sn_listener *listener,
		struct sn_call_id *ret_id, struct sn_error *err)
{
	struct sn_operation *op;
	struct request *req;
	int r = sn__operation_take(rt->requests, &op);

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	req = request_of(op);
	r = sn__request_text_fill(&req->text, o, err);
	if (r < 0) {
		sn__operation_give(op);
		return r;
	}
	req->rt = rt;
	fetch_fill(req, target, o);
	return sn__operation_submit(op, listener, ret_id, err);
}

static int options_copy(const struct sn_request_options *opts, struct sn_request_options *ret_o,
		struct sn_error *err)
{
	*ret_o = (struct sn_request_options)SN_REQUEST_INIT;
	if (opts == NULL)
		return 0;
	if (opts->size < offsetof(struct sn_request_options, url) || opts->size > sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID, "options.size is %zu: use SN_REQUEST_INIT",
				opts->size);
	memcpy(ret_o, opts, opts->size);
	return 0;
}

/* What was asked for. */
struct asked {
	const char *kind, *name, *endpoint;
	const struct sn_request_options *opts;
};

static int request_enter(struct sn_runtime *rt, void *arg, const struct sn_listener *listener,
		struct sn_call_id *ret_id, struct sn_error *err)
{
	const struct asked *a = arg;
	struct sn_request_options o;
	struct sn_target *target;
	int r = options_copy(a->opts, &o, err);

	if (r < 0)
		return r;
	r = sn__enter(rt);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	r = target_find(rt, a->kind, a->name, a->endpoint, &target, err);
	if (r == 0)
		r = submit(rt, target, &o, listener, ret_id, err);
	sn__leave(rt);
	return r;
}

int sn_request(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		const struct sn_request_options *opts, sn_response_fn *fn, void *arg,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	struct asked asked = {kind, name, endpoint, opts};
	const struct sn_listener listener = {.fn = (void (*)(void))fn, .arg = arg};
	struct sn_error err;
	int r = request_enter(rt, &asked, &listener, ret_id, &err);

	if (r < 0)
		sn__error_give(&err, ret_error);
	return r;
}

void sn_request_cancel(struct sn_runtime *rt, struct sn_call_id id)
{
	if (sn__enter(rt) < 0)
		return;
	sn__operations_cancel(rt->requests, id.value);
	sn__leave(rt);
}

int sn_request_wait(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		const struct sn_request_options *opts, struct sn_response **ret_response,
		struct sn_error **ret_error)
{
	struct asked asked = {kind, name, endpoint, opts};
	void *answer = NULL;
	int r = sn__operation_wait(rt, &request_type, request_enter, &asked, &answer, ret_error);

	if (answer != NULL)
		*ret_response = answer;
	return r;
}
