/* SPDX-License-Identifier: Apache-2.0 */

/* sn_queue_put(): one PutRecords after the other, and each again for the records that it refused. */

#include "base/mem.h"
#include "connect/puts.h"
#include "connect/queue.h"
#include "connect/resource.h"
#include "mesh/api.h"

#define BODY_MAX ((size_t)64 << 20)

struct put_wait {
	struct sn_wait wait;
	struct sn_queue_puts *puts;
	struct sn_error *error;
	int code;
};

/* Who is told of the end: a function, or a waiting thread. */
struct listener {
	sn_queue_puts_fn *fn;
	void *arg;
	struct put_wait *waiter; /* of sn_queue_put_wait(), else NULL */
};

struct put_op {
	struct sn_list link; /* connect->puts, from its start to its end */
	struct sn_connect *connect;
	struct sn_runtime *rt;
	struct sn_target *target;
	struct sn_queue_puts *puts;
	struct sn_resource_options options;
	struct sn_context context;
	uint64_t deadline_ns; /* of all of it */
	struct listener listener;
	/* the present request */
	struct sn_resource_call rc;
	struct sn_result result;
	struct sn_buf body;
	unsigned tries;
	struct sn_task task;
	struct sn_timer timer;
	struct sn_error err; /* code 0: none so far */
	bool calling;
	bool counted; /* a part of the runtime's closing */
};

static void request_start(struct put_op *op);

/* ---- the end ---- */

static void op_free(struct put_op *op)
{
	sn__puts_destroy(op->puts);
	sn__result_finish(&op->result);
	sn__buf_finish(&op->body);
	sn__free(op->rc.keep.state);
	sn__free(op);
}

static void refused_some(struct put_op *op)
{
	const struct sn_queue_puts *p = op->puts;
	const struct sn_put *first = NULL;

	for (size_t i = 0; i < p->n && first == NULL; i++)
		if (!p->v[i].stored)
			first = &p->v[i];
	sn__error_set(&op->err, SN_E_STATUS, "%s: %zu of %zu records are not stored; %s: %s",
			sn__target_text(op->target), p->n - p->n_stored, p->n,
			first->error_type != NULL ? first->error_type : "", first->error_text);
	op->err.retriable = true;
}

static void op_end(struct put_op *op)
{
	const struct sn_error *err = NULL;
	struct put_wait *w = op->listener.waiter;
	struct sn_runtime *rt = op->counted ? op->rt : NULL;

	if (op->puts->n_stored < op->puts->n && op->err.code == 0)
		refused_some(op);
	if (op->err.code != 0)
		err = &op->err;
	sn_list_remove(&op->link);
	if (w != NULL) {
		w->code = err != NULL ? err->code : 0;
		w->puts = SN_TAKE(op->puts);
		w->puts->lone = true;
		if (err != NULL && sn_error_copy(err, &w->error) < 0)
			w->error = NULL;
		sn__wait_wake(&w->wait);
	} else {
		op->listener.fn(op->puts, err, op->listener.arg);
	}
	op_free(op);
	if (rt != NULL)
		sn__runtime_part_closed(rt);
}

/* The present request failed for good, and nothing more is sent. */
static void op_fail(struct put_op *op, const struct sn_error *err, const char *type)
{
	op->err = *err;
	sn__puts_fail(op->puts, type,
			op->result.message[0] != '\0' && type[0] != '\0' ? op->result.message
									 : sn_error_text(err));
	op_end(op);
}

static void op_fail_code(struct put_op *op, int code, const char *what)
{
	struct sn_error err;

	sn__error_set(&err, code, "%s: PutRecords: %s", sn__target_text(op->target), what);
	op_fail(op, &err, "");
}

/* ---- requests ---- */

static uint64_t now_of(const struct put_op *op)
{
	return sn__loop_now_ns(op->rt->loop);
}

static void request_again(struct sn_timer *timer)
{
	request_start(SN_CONTAINER_OF(timer, struct put_op, timer));
}

/* Records were refused one by one: whether they are tried again. */
static bool again(struct put_op *op)
{
	struct sn_policy_cache cache = {.version = 0};
	const struct sn_policy *p = sn__policies_of(
			op->rt->policies, op->target, &cache, SN_DIALECT_BERLIOZ);
	uint64_t wait;

	if (op->options.retry == SN_RETRY_NONE || ++op->tries >= SN_MAX(p->retry_count, 1u))
		return false;
	wait = sn__policy_backoff_ns(p, op->tries, sn__loop_rng(op->rt->loop));
	if (op->deadline_ns != SN_NEVER_NS && sn_time_add(now_of(op), wait) >= op->deadline_ns)
		return false;
	sn__timer_start(op->rt->loop, &op->timer, wait, request_again);
	return true;
}

static void request_next(struct put_op *op)
{
	sn__puts_next(op->puts);
	op->tries = 0;
	if (sn_puts_over(op->puts))
		op_end(op);
	else
		request_start(op);
}

static void request_done(struct sn_resource_call *rc, const struct sn_error *err)
{
	struct put_op *op = SN_CONTAINER_OF(rc, struct put_op, rc);
	size_t left;
	int r;

	op->calling = false;
	if (err != NULL) {
		op_fail(op, err, op->result.type);
		return;
	}
	r = sn__puts_answer(op->puts, sn__buf_str(&op->result.json), &left);
	if (r < 0)
		op_fail_code(op, r, r == SN_E_NOMEM ? "out of memory" : "the answer is none to it");
	else if (atomic_load(&op->rt->state) == SN_RUNTIME_CLOSING &&
			op->puts->n_stored < op->puts->n)
		op_fail_code(op, SN_E_CLOSED, sn_strerror(SN_E_CLOSED));
	else if (left == 0 || !again(op))
		request_next(op);
}

static void request_fill(struct put_op *op)
{
	const struct sn_resource_options *o = &op->options;
	struct sn_resource_call fresh = {
			.kind = &sn__queue_kind,
			.target = op->target,
			.operation = SN_STR("PutRecords"),
			.params = {sn__buf_data(&op->body), op->body.len - 1},
			.retry = o->retry,
			.timeout_ms = o->timeout_ms,
			.context = o->context,
			.result = &op->result,
			.done = request_done,
			.keep = {op->rc.keep.state, op->rc.keep.size},
	};

	if (op->deadline_ns != SN_NEVER_NS)
		fresh.deadline_ms = (uint32_t)SN_MIN(
				sn_ns_to_ms(sn_time_until(now_of(op), op->deadline_ns)),
				UINT32_MAX);
	op->rc = fresh;
}

/* Not inside sn_queue_put(). */
static void request_start(struct put_op *op)
{
	struct sn_error err;
	int r;

	if (op->deadline_ns != SN_NEVER_NS && now_of(op) >= op->deadline_ns) {
		op_fail_code(op, SN_E_DEADLINE, sn_strerror(SN_E_DEADLINE));
		return;
	}
	r = sn__puts_body(op->puts, &op->body);
	if (r < 0) {
		op_fail_code(op, r, sn_strerror(r));
		return;
	}
	request_fill(op);
	r = sn__resource_start(&op->connect->pool, op->rt->mesh, &op->rc, &err);
	if (r < 0)
		op_fail(op, &err, "");
	else
		op->calling = true;
}

static void op_run(struct sn_task *task)
{
	struct put_op *op = SN_CONTAINER_OF(task, struct put_op, task);

	if (atomic_load(&op->rt->state) == SN_RUNTIME_CLOSING) {
		op_fail_code(op, SN_E_CLOSED, sn_strerror(SN_E_CLOSED));
		return;
	}
	sn_list_push_back(&op->connect->puts, &op->link);
	if (op->options.deadline_ms != 0)
		op->deadline_ns = sn_time_add(now_of(op), sn_ms_to_ns(op->options.deadline_ms));
	request_start(op);
}

void sn__queue_puts_close(struct sn_connect *c)
{
	SN_LIST_FOREACH_SAFE (pos, &c->puts) {
		struct put_op *op = SN_CONTAINER_OF(pos, struct put_op, link);

		sn__runtime_part_opened(op->rt);
		op->counted = true;
		if (op->calling)
			continue; /* the mesh ends its call */
		sn__timer_stop(op->rt->loop, &op->timer);
		op_fail_code(op, SN_E_CLOSED, sn_strerror(SN_E_CLOSED));
	}
}

/* ---- submission ---- */

static int options_copy(
		const struct sn_resource_options *opts, struct put_op *op, struct sn_error *err)
{
	op->options = (struct sn_resource_options)SN_RESOURCE_OPTIONS_INIT;
	if (opts == NULL)
		return 0;
	if (opts->size < offsetof(struct sn_resource_options, timeout_ms) ||
			opts->size > sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID,
				"options.size is %zu: use SN_RESOURCE_OPTIONS_INIT", opts->size);
	memcpy(&op->options, opts, opts->size);
	if (op->options.context == NULL)
		return 0;
	/* Its deadline is for all of it too. */
	op->context = *op->options.context;
	op->options.context = &op->context;
	if (op->context.deadline_ms != 0 &&
			(op->options.deadline_ms == 0 ||
					op->context.deadline_ms < op->options.deadline_ms))
		op->options.deadline_ms = (uint32_t)SN_MIN(op->context.deadline_ms, UINT32_MAX);
	op->context.deadline_ms = 0;
	return 0;
}

static int op_create(const struct sn_queue_record *records, size_t n,
		const struct sn_resource_options *opts, struct put_op **ret_op,
		struct sn_error *err)
{
	struct put_op *op = sn__calloc(1, sizeof(*op));
	int r;

	if (op == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	sn_list_init(&op->link);
	sn__result_init(&op->result);
	sn__buf_init(&op->body, BODY_MAX);
	op->deadline_ns = SN_NEVER_NS;
	r = options_copy(opts, op, err);
	if (r == 0)
		r = sn__puts_create(records, n, &op->puts, err);
	if (r < 0) {
		op_free(op);
		return r;
	}
	*ret_op = op;
	return 0;
}

/* Between enter and leave. */
static int submit(struct sn_runtime *rt, const char *name, struct put_op *op, struct sn_error *err)
{
	struct sn_api_target t;
	int r = sn__api_target(sn__queue_kind.name, name, NULL, &t, err);

	if (r < 0)
		return r;
	op->rt = rt;
	op->connect = sn__connect_of(rt);
	if (op->connect == NULL)
		return sn__error_set(err, SN_E_NOTSUP, "%s", sn_strerror(SN_E_NOTSUP));
	r = sn__catalog_target(rt->catalog, t.kind, t.name, t.endpoint, &op->target);
	if (r < 0)
		return sn__error_set(err, r, "queue %s: %s", name, sn_strerror(r));
	sn__loop_post(rt->loop, &op->task, op_run);
	return 0;
}

static int put(struct sn_runtime *rt, const char *name, const struct sn_queue_record *records,
		size_t n, const struct sn_resource_options *opts, const struct listener *listener,
		struct sn_error *err)
{
	struct put_op *op = NULL;
	int r = op_create(records, n, opts, &op, err);

	if (r < 0)
		return r;
	op->listener = *listener;
	r = sn__enter(rt);
	if (r < 0) {
		sn__error_set(err, r, "%s", sn_strerror(r));
	} else {
		r = submit(rt, name, op, err);
		sn__leave(rt);
	}
	if (r < 0)
		op_free(op);
	return r;
}

int sn_queue_put(struct sn_runtime *rt, const char *name, const struct sn_queue_record *records,
		size_t n, const struct sn_resource_options *opts, sn_queue_puts_fn *fn, void *arg,
		struct sn_error **ret_error)
{
	struct listener listener = {.fn = fn, .arg = arg};
	struct sn_error err;
	int r = put(rt, name, records, n, opts, &listener, &err);

	if (r < 0)
		sn__error_give(&err, ret_error);
	return r;
}

/* ---- the blocking twin ---- */

static int wait_end(
		struct put_wait *w, struct sn_queue_puts **ret_puts, struct sn_error **ret_error)
{
	if (ret_puts != NULL)
		*ret_puts = w->puts;
	else
		sn_queue_puts_destroy(w->puts);
	if (w->code < 0 && ret_error != NULL)
		*ret_error = w->error;
	else
		sn_error_destroy(w->error);
	return w->code;
}

int sn_queue_put_wait(struct sn_runtime *rt, const char *name,
		const struct sn_queue_record *records, size_t n,
		const struct sn_resource_options *opts, struct sn_queue_puts **ret_puts,
		struct sn_error **ret_error)
{
	struct put_wait w = {.code = 0};
	struct listener listener = {.waiter = &w};
	struct sn_error err;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	r = sn__wait_init(&w.wait, rt);
	if (r == 0) {
		r = put(rt, name, records, n, opts, &listener, &err);
		if (r == 0)
			sn__wait_for(&w.wait, UINT64_MAX);
		sn__wait_finish(&w.wait);
		if (r == 0)
			r = wait_end(&w, ret_puts, ret_error);
		else
			sn__error_give(&err, ret_error);
	}
	sn__leave(rt);
	return r;
}
