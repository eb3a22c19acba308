/* SPDX-License-Identifier: Apache-2.0 */

/* sn_grpc_call(): a unary call whose answer is collected; as api_request.c does it for HTTP. */

#include "base/mem.h"
#include "mesh/api.h"
#include "mesh/grpc_call.h"

struct call_wait {
	struct sn_wait wait;
	struct sn_grpc_answer *answer; /* made beforehand: the answer moves into it */
	struct sn_error *error;
	bool answered;
	bool called; /* it went out: `error` is all there is to say */
	int code;
};

/* Who is told of the end: a function, or a waiting thread. */
struct listener {
	sn_grpc_answer_fn *fn;
	void *arg;
	struct call_wait *waiter; /* of sn_grpc_call_wait(), else NULL */
};

struct call {
	struct sn_operation op;
	struct sn_grpc_call gc;
	struct sn_grpc_text text;
	struct sn_grpc_answer answer;
	struct sn_runtime *rt;
	struct sn_task start_task;
	struct listener listener;
};

/* ---- operations ---- */

static struct call *call_of(struct sn_operation *op)
{
	return SN_CONTAINER_OF(op, struct call, op);
}

static void call_init(struct sn_operation *op)
{
	sn__grpc_text_init(&call_of(op)->text);
	sn__grpc_answer_init(&call_of(op)->answer);
}

static void call_reset(struct sn_operation *op)
{
	sn__grpc_text_reset(&call_of(op)->text);
	sn__grpc_answer_reset(&call_of(op)->answer);
}

static void call_finish(struct sn_operation *op)
{
	sn__grpc_text_finish(&call_of(op)->text);
	sn__grpc_answer_finish(&call_of(op)->answer);
}

static void call_cancel(struct sn_operation *op)
{
	sn__grpc_call_cancel(&call_of(op)->gc);
}

int sn__grpc_calls_create(struct sn_runtime *rt, struct sn_operations **ret_calls)
{
	static const struct sn_operation_type type = {
			.size = sizeof(struct call),
			.init = call_init,
			.reset = call_reset,
			.finish = call_finish,
			.cancel = call_cancel,
	};

	return sn__operations_create(rt, &type, ret_calls);
}

/* ---- the answer ---- */

static int on_message(struct sn_grpc_call *gc, struct sn_str message)
{
	/* A second one makes the call fail. */
	return gc->answer->has_message ? 0 : sn__grpc_answer_message(gc->answer, message);
}

/* A waiting thread takes the answer along; its own empty one stays here for the next call. */
static void waiter_wake(struct call_wait *w, struct sn_grpc_answer *a /* may be NULL */,
		const struct sn_error *err /* may be NULL */)
{
	w->code = err != NULL ? sn_error_code(err) : 0;
	w->answered = a != NULL;
	if (a != NULL) {
		struct sn_grpc_answer empty = *w->answer;

		*w->answer = *a;
		w->answer->lone = true;
		*a = empty;
		a->lone = false;
	}
	if (err != NULL && sn_error_copy(err, &w->error) < 0)
		w->error = NULL;
	sn__wait_wake(&w->wait);
}

static void call_end(struct call *c, const struct sn_error *err)
{
	struct listener listener = c->listener;
	struct sn_grpc_answer *a = err == NULL || sn_error_code(err) == SN_E_STATUS ? &c->answer
										    : NULL;

	if (listener.waiter != NULL)
		waiter_wake(listener.waiter, a, err);
	else
		listener.fn(a, err, listener.arg);
	sn__operation_give(&c->op);
}

static void on_done(struct sn_grpc_call *gc, const struct sn_error *err)
{
	call_end(SN_CONTAINER_OF(gc, struct call, gc), err);
}

static const struct sn_grpc_call_ops call_ops = {.on_message = on_message, .on_done = on_done};

/* ---- submission ---- */

static void start_run(struct sn_task *task)
{
	struct call *c = SN_CONTAINER_OF(task, struct call, start_task);
	struct sn_error err;

	if (sn__grpc_call_start(c->rt, &c->gc, &err) < 0)
		call_end(c, &err);
	else
		sn__operation_started(&c->op);
}

/* Between enter and leave. On success the call is under way or posted. */
static int submit(struct sn_runtime *rt, struct sn_target *target, const char *method,
		const struct ProtobufCMessage *request, const struct sn_grpc_options *opts,
		const struct listener *listener, struct sn_call_id *ret_id, struct sn_error *err)
{
	struct sn_operation *op;
	struct call *c;
	uint64_t id;
	int r = sn__operation_take(rt->grpc_calls, &op);

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	c = call_of(op);
	r = sn__grpc_text_fill(&c->text, method, true, request, opts, err);
	if (r < 0) {
		sn__operation_give(op);
		return r;
	}
	c->rt = rt;
	c->listener = *listener;
	c->gc = (struct sn_grpc_call){
			.ops = &call_ops,
			.target = target,
			.text = &c->text,
			.answer = &c->answer,
	};
	id = sn__operation_id(op);
	if (!sn__loop_is_here(rt->loop)) {
		sn__loop_post(rt->loop, &c->start_task, start_run);
	} else {
		r = sn__grpc_call_start(rt, &c->gc, err);
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

static int call_enter(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, const char *method, const struct ProtobufCMessage *request,
		const struct sn_grpc_options *opts, const struct listener *listener,
		struct sn_call_id *ret_id, struct sn_error *err)
{
	struct sn_target *target;
	int r = sn__enter(rt);

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	r = sn__grpc_target(rt, kind, name, endpoint, &target, err);
	if (r == 0)
		r = submit(rt, target, method, request, opts, listener, ret_id, err);
	sn__leave(rt);
	return r;
}

static void error_give(const struct sn_error *err, struct sn_error **ret_error)
{
	if (ret_error != NULL && sn_error_copy(err, ret_error) < 0)
		*ret_error = NULL;
}

int sn_grpc_call(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		const char *method, const struct ProtobufCMessage *request,
		const struct sn_grpc_options *opts, sn_grpc_answer_fn *fn, void *arg,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	struct sn_error err;
	int r = call_enter(rt, kind, name, endpoint, method, request, opts,
			&(struct listener){.fn = fn, .arg = arg}, ret_id, &err);

	if (r < 0)
		error_give(&err, ret_error);
	return r;
}

void sn_grpc_cancel(struct sn_runtime *rt, struct sn_call_id id)
{
	if (sn__enter(rt) < 0)
		return;
	sn__operations_cancel(rt->grpc_calls, id.value);
	sn__leave(rt);
}

/* ---- the blocking twin ---- */

static int wait_answer(struct call_wait *w)
{
	w->answer = sn__malloc(sizeof(*w->answer));
	if (w->answer == NULL)
		return SN_E_NOMEM;
	sn__grpc_answer_init(w->answer);
	w->answer->lone = true;
	return 0;
}

static int call_and_wait(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, const char *method, const struct ProtobufCMessage *request,
		const struct sn_grpc_options *opts, struct call_wait *w, struct sn_error *err)
{
	int r = call_enter(rt, kind, name, endpoint, method, request, opts,
			&(struct listener){.waiter = w}, NULL, err);

	if (r < 0)
		return r;
	w->called = true;
	sn__wait_for(&w->wait, UINT64_MAX);
	return w->code;
}

/* The results are set whole or not at all. */
static int wait_end(struct call_wait *w, int r, const struct sn_error *err,
		struct sn_grpc_answer **ret_answer, struct sn_error **ret_error)
{
	if (w->answered)
		*ret_answer = w->answer;
	else if (w->answer != NULL)
		sn_grpc_answer_destroy(w->answer);
	if (r < 0 && ret_error != NULL && w->error != NULL)
		*ret_error = SN_TAKE(w->error);
	else if (r < 0 && !w->called)
		error_give(err, ret_error);
	sn_error_destroy(w->error);
	return r;
}

int sn_grpc_call_wait(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, const char *method, const struct ProtobufCMessage *request,
		const struct sn_grpc_options *opts, struct sn_grpc_answer **ret_answer,
		struct sn_error **ret_error)
{
	struct call_wait w = {.answered = false};
	struct sn_error err;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	r = sn__wait_init(&w.wait, rt);
	if (r == 0) {
		r = wait_answer(&w);
		if (r < 0)
			sn__error_set(&err, r, "out of memory");
		else
			r = call_and_wait(
					rt, kind, name, endpoint, method, request, opts, &w, &err);
		sn__wait_finish(&w.wait);
		r = wait_end(&w, r, &err, ret_answer, ret_error);
	}
	sn__leave(rt);
	return r;
}

/* ---- errors ---- */

int sn_grpc_error_code(const struct sn_error *err)
{
	int foreign;

	if (err == NULL)
		return SN_GRPC_OK;
	if (sn_error_code(err) != SN_E_STATUS)
		return sn__grpc_code_of_result(sn_error_code(err));
	foreign = sn_error_foreign(err);
	if (foreign >= 100) /* of a request that was not gRPC */
		return sn__grpc_code_of_http((unsigned)foreign);
	return foreign > SN_GRPC_OK && foreign <= SN_GRPC_UNAUTHENTICATED ? foreign
									  : SN_GRPC_UNKNOWN;
}
