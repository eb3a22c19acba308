/* SPDX-License-Identifier: Apache-2.0 */

/* sn_request(): a fetch whose answer is collected. */

#include "base/mem.h"
#include "mesh/api.h"
#include "mesh/operation.h"
#include "mesh/request.h"
#include "mesh/request_text.h"
#include "mesh/response.h"

struct request_wait {
	struct sn_wait wait;
	struct sn_response *response; /* made beforehand: the answer moves into it */
	struct sn_error *error;
	bool answered;
	bool called; /* it went out: `error` is all there is to say */
	int code;
};

/* Who is told of the end: a function, or a waiting thread. */
struct listener {
	sn_response_fn *fn;
	void *arg;
	struct request_wait *waiter; /* of sn_request_wait(), else NULL */
};

struct request {
	struct sn_operation op;
	struct sn_fetch fetch;
	struct sn_runtime *rt;
	struct sn_task start_task;
	struct sn_request_text text;
	struct sn_response response;
	struct sn_context context;
	struct listener listener;
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

int sn__requests_create(struct sn_runtime *rt, struct sn_operations **ret_requests)
{
	static const struct sn_operation_type type = {
			.size = sizeof(struct request),
			.init = request_init,
			.reset = request_reset,
			.finish = request_finish,
			.cancel = request_cancel,
	};

	return sn__operations_create(rt, &type, ret_requests);
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

/* A waiting thread takes the answer along; its own empty one stays here for the next call. */
static void waiter_wake(struct request_wait *w, struct sn_response *res, const struct sn_error *err)
{
	w->code = err != NULL ? sn_error_code(err) : 0;
	w->answered = res != NULL;
	if (res != NULL) {
		struct sn_response empty = *w->response;

		*w->response = *res;
		w->response->lone = true;
		*res = empty;
		res->lone = false;
	}
	if (err != NULL && sn_error_copy(err, &w->error) < 0)
		w->error = NULL;
	sn__wait_wake(&w->wait);
}

static void request_end(struct request *req, const struct sn_error *err)
{
	struct sn_response *res = NULL;
	struct listener listener = req->listener;

	if (err != NULL && sn_error_code(err) == SN_E_STATUS && req->fetch.status < 500)
		err = NULL; /* 429: an answer like other 4xx once nobody retries it */
	if (err == NULL || sn_error_code(err) == SN_E_STATUS) {
		res = &req->response;
		res->attempts = req->fetch.call.attempt;
		sn__call_id_text(req->fetch.call.id, res->call_id);
	}
	if (listener.waiter != NULL)
		waiter_wake(listener.waiter, res, err);
	else
		listener.fn(res, err, listener.arg);
	sn__operation_give(&req->op);
}

static void on_done(struct sn_fetch *f, const struct sn_error *err)
{
	request_end(SN_CONTAINER_OF(f, struct request, fetch), err);
}

static const struct sn_fetch_ops fetch_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_done,
};

/* ---- submission ---- */

static void start_run(struct sn_task *task)
{
	struct request *req = SN_CONTAINER_OF(task, struct request, start_task);
	struct sn_error err;

	if (sn__fetch_start(req->rt, &req->fetch, &err) < 0)
		request_end(req, &err);
	else
		sn__operation_started(&req->op);
}

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
		const struct sn_request_options *o, const struct listener *listener,
		struct sn_call_id *ret_id, struct sn_error *err)
{
	struct sn_operation *op;
	struct request *req;
	uint64_t id;
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
	req->listener = *listener;
	id = sn__operation_id(op);
	if (!sn__loop_is_here(rt->loop)) {
		sn__loop_post(rt->loop, &req->start_task, start_run);
	} else {
		r = sn__fetch_start(rt, &req->fetch, err);
		if (r < 0) {
			sn__operation_give(op);
			return r;
		}
		sn__operation_started(op);
	}
	if (ret_id != NULL)
		ret_id->value = id;
	return 0;
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

static int request_enter(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, const struct sn_request_options *opts,
		const struct listener *listener, struct sn_call_id *ret_id, struct sn_error *err)
{
	struct sn_request_options o;
	struct sn_target *target;
	int r = options_copy(opts, &o, err);

	if (r < 0)
		return r;
	r = sn__enter(rt);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	r = target_find(rt, kind, name, endpoint, &target, err);
	if (r == 0)
		r = submit(rt, target, &o, listener, ret_id, err);
	sn__leave(rt);
	return r;
}

static void error_give(const struct sn_error *err, struct sn_error **ret_error)
{
	if (ret_error != NULL && sn_error_copy(err, ret_error) < 0)
		*ret_error = NULL;
}

int sn_request(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		const struct sn_request_options *opts, sn_response_fn *fn, void *arg,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	struct sn_error err;
	int r = request_enter(rt, kind, name, endpoint, opts,
			&(struct listener){.fn = fn, .arg = arg}, ret_id, &err);

	if (r < 0)
		error_give(&err, ret_error);
	return r;
}

/* ---- cancel ---- */

void sn_request_cancel(struct sn_runtime *rt, struct sn_call_id id)
{
	if (sn__enter(rt) < 0)
		return;
	sn__operations_cancel(rt->requests, id.value);
	sn__leave(rt);
}

/* ---- the blocking twin ---- */

static int wait_response(struct request_wait *w)
{
	w->response = sn__malloc(sizeof(*w->response));
	if (w->response == NULL)
		return SN_E_NOMEM;
	sn__response_init(w->response);
	w->response->lone = true;
	return 0;
}

static int request_wait(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, const struct sn_request_options *opts, struct request_wait *w,
		struct sn_error *err)
{
	int r = request_enter(
			rt, kind, name, endpoint, opts, &(struct listener){.waiter = w}, NULL, err);

	if (r < 0)
		return r;
	w->called = true;
	sn__wait_for(&w->wait, UINT64_MAX);
	return w->code;
}

/* The results are set whole or not at all. */
static int wait_end(struct request_wait *w, int r, const struct sn_error *err,
		struct sn_response **ret_response, struct sn_error **ret_error)
{
	if (w->answered) {
		*ret_response = w->response;
	} else if (w->response != NULL) {
		sn_response_destroy(w->response);
	}
	if (r < 0 && ret_error != NULL && w->error != NULL)
		*ret_error = SN_TAKE(w->error);
	else if (r < 0 && !w->called)
		error_give(err, ret_error);
	sn_error_destroy(w->error);
	return r;
}

int sn_request_wait(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		const struct sn_request_options *opts, struct sn_response **ret_response,
		struct sn_error **ret_error)
{
	struct request_wait w = {.answered = false};
	struct sn_error err;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	r = sn__wait_init(&w.wait, rt);
	if (r == 0) {
		r = wait_response(&w);
		if (r < 0)
			sn__error_set(&err, r, "out of memory");
		else
			r = request_wait(rt, kind, name, endpoint, opts, &w, &err);
		sn__wait_finish(&w.wait);
		r = wait_end(&w, r, &err, ret_response, ret_error);
	}
	sn__leave(rt);
	return r;
}
