/* SPDX-License-Identifier: Apache-2.0 */

/* sn_database_call(), sn_queue_call(): resource calls of the public API; as mesh/api_request.c does
 * it for requests. */

#include "base/mem.h"
#include "connect/connect.h"
#include "connect/resource.h"
#include "mesh/api.h"
#include "mesh/operation.h"

struct resource {
	struct sn_operation op;
	struct sn_resource_call rc;
	struct sn_connect *connect;
	struct sn_runtime *rt;
	struct sn_buf text; /* operation and params, each with a NUL behind it */
	struct sn_result result;
	struct sn_context context;
};

/* What a call is made of. */
struct asked {
	const struct sn_resource_kind *kind;
	const char *name, *operation, *params;
	const struct sn_resource_options *opts; /* may be NULL */
};

/* ---- operations ---- */

static struct resource *resource_of(struct sn_operation *op)
{
	return SN_CONTAINER_OF(op, struct resource, op);
}

static void resource_init(struct sn_operation *op)
{
	sn__buf_init(&resource_of(op)->text, SIZE_MAX);
	sn__result_init(&resource_of(op)->result);
}

static void resource_reset(struct sn_operation *op)
{
	struct resource *res = resource_of(op);

	if (res->text.cap > SN_RESOURCE_KEEP_MAX)
		sn__buf_finish(&res->text);
	sn__buf_clear(&res->text);
	sn__result_reset(&res->result);
}

static void resource_finish(struct sn_operation *op)
{
	struct resource *res = resource_of(op);

	sn__buf_finish(&res->text);
	sn__result_finish(&res->result);
	sn__free(res->rc.keep.state);
}

static void resource_cancel(struct sn_operation *op)
{
	sn__resource_stop(&resource_of(op)->rc);
}

static int resource_start(struct sn_operation *op, struct sn_error *err)
{
	struct resource *res = resource_of(op);

	return sn__resource_start(&res->connect->pool, res->rt->mesh, &res->rc, err);
}

static void result_init(void *answer)
{
	sn__result_init(answer);
}

static void result_destroy(void *answer)
{
	sn_result_destroy(answer);
}

static void resource_tell(
		const struct sn_listener *listener, void *answer, const struct sn_error *err)
{
	((sn_result_fn *)(void *)listener->fn)(answer, err, listener->arg);
}

static const struct sn_operation_type resource_type = {
		.size = sizeof(struct resource),
		.init = resource_init,
		.reset = resource_reset,
		.finish = resource_finish,
		.start = resource_start,
		.cancel = resource_cancel,
		.answer = offsetof(struct resource, result),
		.answer_size = sizeof(struct sn_result),
		.answer_init = result_init,
		.answer_destroy = result_destroy,
		.tell = resource_tell,
};

int sn__resource_calls_create(struct sn_runtime *rt, struct sn_operations **ret_calls)
{
	return sn__operations_create(rt, &resource_type, ret_calls);
}

/* ---- submission ---- */

static void on_done(struct sn_resource_call *rc, const struct sn_error *err)
{
	struct resource *res = SN_CONTAINER_OF(rc, struct resource, rc);
	int code = err != NULL ? sn_error_code(err) : 0;
	bool told = code == 0 ||
			((code == SN_E_STATUS || code == SN_E_REJECTED) &&
					res->result.type[0] != '\0');

	sn__operation_end(&res->op, told, err);
}

static int text_fill(struct resource *res, const struct asked *a)
{
	size_t n = strlen(a->operation) + 1, m = strlen(a->params) + 1;
	int r = sn__buf_append(&res->text, a->operation, n);

	if (r == 0)
		r = sn__buf_append(&res->text, a->params, m);
	if (r < 0)
		return r;
	res->rc.operation = (struct sn_str){sn__buf_data(&res->text), n - 1};
	res->rc.params = (struct sn_str){sn__buf_data(&res->text) + n, m - 1};
	return 0;
}

static int call_fill(struct resource *res, struct sn_target *target, const struct asked *a,
		const struct sn_resource_options *o)
{
	struct sn_resource_call fresh = {
			.kind = a->kind,
			.target = target,
			.retry = o->retry,
			.timeout_ms = o->timeout_ms,
			.deadline_ms = o->deadline_ms,
			.result = &res->result,
			.done = on_done,
			.keep = {res->rc.keep.state, res->rc.keep.size},
	};

	res->rc = fresh;
	if (o->context != NULL) {
		res->context = *o->context;
		res->rc.context = &res->context;
	}
	return text_fill(res, a);
}

/* Between enter and leave. On success the call is under way or posted. */
static int submit(struct sn_runtime *rt, struct sn_target *target, const struct asked *a,
		const struct sn_resource_options *o, const struct sn_listener *listener,
		struct sn_call_id *ret_id, struct sn_error *err)
{
	struct sn_connect *c = sn__connect_of(rt);
	struct sn_operation *op;
	struct resource *res;
	int r = c != NULL ? sn__operation_take(c->calls, &op) : SN_E_NOTSUP;

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	res = resource_of(op);
	res->rt = rt;
	res->connect = c;
	r = call_fill(res, target, a, o);
	if (r < 0) {
		sn__operation_give(op);
		return sn__error_set(err, r, "%s", sn_strerror(r));
	}
	return sn__operation_submit(op, listener, ret_id, err);
}

static int options_copy(const struct sn_resource_options *opts, struct sn_resource_options *ret_o,
		struct sn_error *err)
{
	*ret_o = (struct sn_resource_options)SN_RESOURCE_OPTIONS_INIT;
	if (opts == NULL)
		return 0;
	if (opts->size < offsetof(struct sn_resource_options, timeout_ms) ||
			opts->size > sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID,
				"options.size is %zu: use SN_RESOURCE_OPTIONS_INIT", opts->size);
	memcpy(ret_o, opts, opts->size);
	return 0;
}

static int asked_check(struct asked *a, struct sn_error *err)
{
	int r = sn__operation_check(a->operation, err);

	if (a->params == NULL)
		a->params = "{}";
	return r < 0 ? r : sn__params_check(sn_str_from(a->params), err);
}

static int target_find(struct sn_runtime *rt, const struct asked *a, struct sn_target **ret_target,
		struct sn_error *err)
{
	struct sn_api_target t;
	int r = sn__api_target(a->kind->name, a->name, NULL, &t, err);

	if (r < 0)
		return r;
	r = sn__catalog_target(rt->catalog, t.kind, t.name, t.endpoint, ret_target);
	if (r < 0)
		return sn__error_set(err, r, "%s %s: %s", a->kind->name, a->name, sn_strerror(r));
	return 0;
}

static int resource_enter(struct sn_runtime *rt, void *arg, const struct sn_listener *listener,
		struct sn_call_id *ret_id, struct sn_error *err)
{
	struct asked *a = arg;
	struct sn_resource_options o;
	struct sn_target *target;
	int r = options_copy(a->opts, &o, err);

	if (r == 0)
		r = asked_check(a, err);
	if (r < 0)
		return r;
	r = sn__enter(rt);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	r = target_find(rt, a, &target, err);
	if (r == 0)
		r = submit(rt, target, a, &o, listener, ret_id, err);
	sn__leave(rt);
	return r;
}

static int call(struct sn_runtime *rt, struct asked *a, sn_result_fn *fn, void *arg,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	const struct sn_listener listener = {.fn = (void (*)(void))fn, .arg = arg};
	struct sn_error err;
	int r = resource_enter(rt, a, &listener, ret_id, &err);

	if (r < 0)
		sn__error_give(&err, ret_error);
	return r;
}

static int call_wait(struct sn_runtime *rt, struct asked *a, struct sn_result **ret_result,
		struct sn_error **ret_error)
{
	void *answer = NULL;
	int r = sn__operation_wait(rt, &resource_type, resource_enter, a, &answer, ret_error);

	if (answer != NULL)
		*ret_result = answer;
	return r;
}

int sn_database_call(struct sn_runtime *rt, const char *name, const char *operation,
		const char *params, const struct sn_resource_options *opts, sn_result_fn *fn,
		void *arg, struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	struct asked a = {&sn__database_kind, name, operation, params, opts};

	return call(rt, &a, fn, arg, ret_id, ret_error);
}

int sn_queue_call(struct sn_runtime *rt, const char *name, const char *operation,
		const char *params, const struct sn_resource_options *opts, sn_result_fn *fn,
		void *arg, struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	struct asked a = {&sn__queue_kind, name, operation, params, opts};

	return call(rt, &a, fn, arg, ret_id, ret_error);
}

int sn_database_call_wait(struct sn_runtime *rt, const char *name, const char *operation,
		const char *params, const struct sn_resource_options *opts,
		struct sn_result **ret_result, struct sn_error **ret_error)
{
	struct asked a = {&sn__database_kind, name, operation, params, opts};

	return call_wait(rt, &a, ret_result, ret_error);
}

int sn_queue_call_wait(struct sn_runtime *rt, const char *name, const char *operation,
		const char *params, const struct sn_resource_options *opts,
		struct sn_result **ret_result, struct sn_error **ret_error)
{
	struct asked a = {&sn__queue_kind, name, operation, params, opts};

	return call_wait(rt, &a, ret_result, ret_error);
}

void sn_resource_cancel(struct sn_runtime *rt, struct sn_call_id id)
{
	struct sn_connect *c;

	if (sn__enter(rt) < 0)
		return;
	c = sn__connect_of(rt);
	if (c != NULL)
		sn__operations_cancel(c->calls, id.value);
	sn__leave(rt);
}

/* ---- results ---- */

const char *sn_result_json(const struct sn_result *res, size_t *ret_size)
{
	bool is_set = res->json.len > 0;

	if (ret_size != NULL)
		*ret_size = is_set ? res->json.len : 2;
	return is_set ? sn__buf_data(&res->json) : "{}";
}

const char *sn_result_error_type(const struct sn_result *res)
{
	return res->type[0] != '\0' ? res->type : NULL;
}

const char *sn_result_request_id(const struct sn_result *res)
{
	return res->request_id;
}

const char *sn_result_identity(const struct sn_result *res)
{
	return res->identity.len > 0 ? sn__buf_data(&res->identity) : "";
}

const char *sn_result_call_id(const struct sn_result *res)
{
	return res->call_id;
}

unsigned sn_result_attempts(const struct sn_result *res)
{
	return res->attempts;
}

void sn_result_destroy(struct sn_result *res)
{
	if (res == NULL || !res->lone)
		return;
	sn__result_finish(res);
	sn__free(res);
}
