/* SPDX-License-Identifier: Apache-2.0 */

/* sn_grpc_call(): a unary call whose answer is collected; as api_request.c does it for HTTP. */

#include "base/mem.h"
#include "mesh/api.h"
#include "mesh/grpc_call.h"

struct call {
	struct sn_operation op;
	struct sn_grpc_call gc;
	struct sn_grpc_text text;
	struct sn_grpc_answer answer;
	struct sn_runtime *rt;
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

static int call_start(struct sn_operation *op, struct sn_error *err)
{
	struct call *c = call_of(op);

	return sn__grpc_call_start(c->rt, &c->gc, err);
}

static void answer_init(void *answer)
{
	sn__grpc_answer_init(answer);
}

static void answer_destroy(void *answer)
{
	sn_grpc_answer_destroy(answer);
}

static void call_tell(const struct sn_listener *listener, void *answer, const struct sn_error *err)
{
	((sn_grpc_answer_fn *)(void *)listener->fn)(answer, err, listener->arg);
}

static const struct sn_operation_type call_type = {
		.size = sizeof(struct call),
		.init = call_init,
		.reset = call_reset,
		.finish = call_finish,
		.start = call_start,
		.cancel = call_cancel,
		.answer = offsetof(struct call, answer),
		.answer_size = sizeof(struct sn_grpc_answer),
		.answer_init = answer_init,
		.answer_destroy = answer_destroy,
		.tell = call_tell,
};

int sn__grpc_calls_create(struct sn_runtime *rt, struct sn_operations **ret_calls)
{
	return sn__operations_create(rt, &call_type, ret_calls);
}

/* ---- the answer ---- */

static int on_message(struct sn_grpc_call *gc, struct sn_str message)
{
	/* A second one makes the call fail. */
	return gc->answer->has_message ? 0 : sn__grpc_answer_message(gc->answer, message);
}

static void on_done(struct sn_grpc_call *gc, const struct sn_error *err)
{
	struct call *c = SN_CONTAINER_OF(gc, struct call, gc);

	sn__operation_end(&c->op, err == NULL || sn_error_code(err) == SN_E_STATUS, err);
}

static const struct sn_grpc_call_ops call_ops = {.on_message = on_message, .on_done = on_done};

/* ---- submission ---- */

/* What was asked for. */
struct asked {
	const char *kind, *name, *endpoint, *method;
	const struct ProtobufCMessage *request;
	const struct sn_grpc_options *opts;
};

/* Between enter and leave. On success the call is under way or posted. */
static int submit(struct sn_runtime *rt, struct sn_target *target, const struct asked *a,
		const struct sn_listener *listener, struct sn_call_id *ret_id, struct sn_error *err)
{
	struct sn_operation *op;
	struct call *c;
	int r = sn__operation_take(rt->grpc_calls, &op);

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	c = call_of(op);
	r = sn__grpc_text_fill(&c->text, a->method, true, a->request, a->opts, err);
	if (r < 0) {
		sn__operation_give(op);
		return r;
	}
	c->rt = rt;
	c->gc = (struct sn_grpc_call){
			.ops = &call_ops,
			.target = target,
			.text = &c->text,
			.answer = &c->answer,
	};
	return sn__operation_submit(op, listener, ret_id, err);
}

static int call_enter(struct sn_runtime *rt, void *arg, const struct sn_listener *listener,
		struct sn_call_id *ret_id, struct sn_error *err)
{
	const struct asked *a = arg;
	struct sn_target *target;
	int r = sn__enter(rt);

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	r = sn__grpc_target(rt, a->kind, a->name, a->endpoint, &target, err);
	if (r == 0)
		r = submit(rt, target, a, listener, ret_id, err);
	sn__leave(rt);
	return r;
}

int sn_grpc_call(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		const char *method, const struct ProtobufCMessage *request,
		const struct sn_grpc_options *opts, sn_grpc_answer_fn *fn, void *arg,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	struct asked asked = {kind, name, endpoint, method, request, opts};
	const struct sn_listener listener = {.fn = (void (*)(void))fn, .arg = arg};
	struct sn_error err;
	int r = call_enter(rt, &asked, &listener, ret_id, &err);

	if (r < 0)
		sn__error_give(&err, ret_error);
	return r;
}

void sn_grpc_cancel(struct sn_runtime *rt, struct sn_call_id id)
{
	if (sn__enter(rt) < 0)
		return;
	sn__operations_cancel(rt->grpc_calls, id.value);
	sn__leave(rt);
}

int sn_grpc_call_wait(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, const char *method, const struct ProtobufCMessage *request,
		const struct sn_grpc_options *opts, struct sn_grpc_answer **ret_answer,
		struct sn_error **ret_error)
{
	struct asked asked = {kind, name, endpoint, method, request, opts};
	void *answer = NULL;
	int r = sn__operation_wait(rt, &call_type, call_enter, &asked, &answer, ret_error);

	if (answer != NULL)
		*ret_answer = answer;
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
