/* SPDX-License-Identifier: Apache-2.0 */
/* Public nodes: what goes out. Every operation begins in a later turn, on the loop's thread. */
#include "dialect/microhome/nodes.h"

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "proto/json_pull.h"

struct sn_node_answer {
	unsigned status, version;
	bool has_data, has_error;
	size_t data, error, type, source, payload; /* in texts */
	struct sn_buf texts;
};

enum kind { SEND, EMIT, SUBSCRIBE, UNSUBSCRIBE, RUNNING };

/* A thread that waits for an operation. On its stack. */
struct waiter {
	struct sn_wait wait, detached;
	struct op *op; /* loop thread; NULL: it has ended, or nobody waits any more */
	int code;
	struct sn_error err;
	struct sn_node_answer *answer;
};

struct op {
	struct sn_task task;
	struct sn_list link; /* in node->ops once it is under way */
	struct sn_node *node;
	enum kind kind;
	struct sn_addr to; /* of SEND; else the broker */
	char *type, *json;
	struct sn_node_send_options o;
	struct sn_mh_exchange x;
	struct mh_handling *handling; /* of SUBSCRIBE */
	sn_node_handler_fn *handler;
	sn_node_answer_fn *answer;
	sn_node_done_fn *done;
	void *handler_arg, *arg;
	struct waiter *waiter;
};

/* ---- answers ---- */

static void answer_init(struct sn_node_answer *a)
{
	*a = (struct sn_node_answer){0};
	sn__buf_init(&a->texts, 8 * SN_MH_VALUE_MAX);
}

static int answer_text(struct sn_node_answer *a, struct sn_str text, size_t *ret_at)
{
	int r;

	*ret_at = a->texts.len;
	r = sn__buf_append_str(&a->texts, text);
	return r < 0 ? r : sn__buf_append(&a->texts, "", 1);
}

static int answer_fill(struct sn_node_answer *a, const struct sn_mh_exchange *x)
{
	const struct sn_mh_event *e = &x->reply;
	int r;

	a->status = e->status;
	a->version = e->version;
	a->has_data = e->data.ptr != NULL;
	a->has_error = e->error.ptr != NULL;
	r = answer_text(a, e->data, &a->data);
	if (r == 0)
		r = answer_text(a, e->error, &a->error);
	if (r == 0)
		r = answer_text(a, e->type, &a->type);
	if (r == 0)
		r = answer_text(a, e->source, &a->source);
	return r < 0 ? r : answer_text(a, x->payload, &a->payload);
}

const char *sn_node_answer_data(const struct sn_node_answer *a)
{
	return a->has_data ? sn__buf_data(&a->texts) + a->data : NULL;
}

const char *sn_node_answer_error(const struct sn_node_answer *a)
{
	return a->has_error ? sn__buf_data(&a->texts) + a->error : NULL;
}

const char *sn_node_answer_type(const struct sn_node_answer *a)
{
	return sn__buf_data(&a->texts) + a->type;
}

const char *sn_node_answer_source(const struct sn_node_answer *a)
{
	return sn__buf_data(&a->texts) + a->source;
}

const char *sn_node_answer_payload(const struct sn_node_answer *a)
{
	return sn__buf_data(&a->texts) + a->payload;
}

unsigned sn_node_answer_status(const struct sn_node_answer *a)
{
	return a->status;
}

unsigned sn_node_answer_version(const struct sn_node_answer *a)
{
	return a->version;
}

void sn_node_answer_destroy(struct sn_node_answer *a)
{
	if (a == NULL)
		return;
	sn__buf_finish(&a->texts);
	sn__free(a);
}

/* ---- the end ---- */

static void op_free(struct op *op)
{
	sn__free(op->type);
	sn__free(op->json);
	sn__free(op);
}

static void wake(struct waiter *w, const struct sn_error *err, struct sn_node_answer *a)
{
	w->op = NULL;
	w->code = err != NULL ? err->code : 0;
	if (err != NULL)
		w->err = *err;
	if (a != NULL) {
		w->answer = sn__malloc(sizeof(*w->answer));
		if (w->answer != NULL) {
			*w->answer = *a;
			answer_init(a); /* taken */
		} else if (w->code == 0) {
			w->code = sn__error_set(&w->err, SN_E_NOMEM, "out of memory");
		}
	}
	sn__wait_wake(&w->wait);
}

/* Once; frees @op. */
static void op_end(struct op *op, const struct sn_error *err /* may be NULL */,
		struct sn_node_answer *a /* may be NULL */)
{
	struct sn_node *node = op->node;
	sn_node_answer_fn *answer = op->answer;
	sn_node_done_fn *done = op->done;
	struct waiter *w = op->waiter;
	void *arg = op->arg;

	sn_list_remove(&op->link);
	op_free(op);
	if (w != NULL)
		wake(w, err, a);
	else if (answer != NULL)
		answer(a, err, arg);
	else if (done != NULL)
		done(err, arg);
	sn__node_unref(node);
}

static void op_fail(struct op *op, int code, const char *text)
{
	struct sn_error err;

	sn__error_set(&err, code, "%s", text);
	op_end(op, &err, NULL);
}

/* What an exchange came to. */
static void end_by_exchange(struct op *op)
{
	struct sn_mh_exchange *x = &op->x;
	char text[SN_MH_REASON_MAX];
	struct sn_node_answer a;
	struct sn_error err;
	bool answered = x->status == 0 || x->status == SN_E_STATUS;

	answer_init(&a);
	if (answered && answer_fill(&a, x) < 0) {
		op_fail(op, SN_E_NOMEM, "out of memory");
	} else if (x->status < 0) {
		sn__mh_explain(x, text, NULL);
		sn__error_set(&err, x->status, "%s", text);
		op_end(op, &err, answered ? &a : NULL);
	} else if (op->kind != SEND && sn__mh_is_unhandled(&x->reply)) {
		sn__error_set(&err, SN_E_NOTSUP,
				"the broker does not know " SN_MH_PUBLISH
				" and its like: one of version 0.0.1 takes no events from others");
		op_end(op, &err, &a);
	} else {
		op_end(op, NULL, &a);
	}
	sn__buf_finish(&a.texts);
}

static void on_exchange(struct sn_mh_exchange *x)
{
	end_by_exchange(SN_CONTAINER_OF(x, struct op, x));
}

static void on_told(int status, const char *text, void *arg)
{
	struct op *op = arg;

	if (status < 0 && op->handling != NULL)
		sn__node_handling_free(op->handling);
	if (status < 0)
		op_fail(op, status, text);
	else
		op_end(op, NULL, NULL);
}

/* ---- the beginning, loop thread ---- */

static int start_exchange(struct op *op, const char *type)
{
	struct sn_node *node = op->node;
	struct sn_mh_send send = {.to = op->to,
			.type = sn_str_from(type),
			.data = sn_str_from(op->json),
			.timeout_ms = op->o.timeout_ms,
			.version = op->o.version,
			.rpc = op->o.rpc,
			.notify = op->o.notify};

	if (op->kind != SEND && !sn__mh_member_broker(node->m, &send.to)) {
		op->x.text = "the node is alone: it has no broker";
		return SN_E_STATE;
	}
	return sn__mh_exchange_start(sn__mh_member_client(node->m), &op->x, &send, on_exchange);
}

static int start_subscribe(struct op *op)
{
	struct sn_node *node = op->node;
	int r = sn__node_handling(node, op->type, op->handler, op->handler_arg, &op->handling);

	if (r < 0)
		return r;
	op->handling->subscribed = true;
	r = sn__mh_member_subscribe(node->m, sn_str_from(op->type), sn__node_on_event, op->handling,
			on_told, op);
	if (r < 0)
		sn__node_handling_free(SN_TAKE(op->handling));
	return r;
}

/* Handlers that subscribing has added; the others of the type stay. */
static void free_handlers(struct sn_node *node, struct sn_str type)
{
	SN_LIST_FOREACH_SAFE (pos, &node->handlers) {
		struct mh_handling *h = SN_CONTAINER_OF(pos, struct mh_handling, link);

		if (h->subscribed && sn_str_eq(type, (struct sn_str){h->type, h->len}))
			sn__node_handling_free(h);
	}
}

static int start_unsubscribe(struct op *op)
{
	int r = sn__mh_member_forget(op->node->m, sn_str_from(op->type));

	if (r < 0)
		return r;
	free_handlers(op->node, sn_str_from(op->type));
	return start_exchange(op, SN_MH_UNSUBSCRIBE);
}

/* False: it is over already. */
static bool check_running(struct op *op)
{
	struct sn_node *node = op->node;

	if (node->state == SN_NODE_STARTING)
		return true;
	if (node->state == SN_NODE_RUNNING)
		op_end(op, NULL, NULL);
	else if (node->failure != NULL)
		op_end(op, node->failure, NULL);
	else
		op_fail(op, SN_E_STATUS, "not registered");
	return false;
}

static void op_run(struct sn_task *task)
{
	struct op *op = SN_CONTAINER_OF(task, struct op, task);
	struct sn_node *node = op->node;
	int r = 0;

	if (node->m == NULL) {
		op_fail(op, SN_E_CLOSED, "the node is closed");
		return;
	}
	sn_list_push_back(&node->ops, &op->link);
	switch (op->kind) {
	case SEND:
	case EMIT:
		r = start_exchange(op, op->type);
		break;
	case SUBSCRIBE:
		r = start_subscribe(op);
		break;
	case UNSUBSCRIBE:
		r = start_unsubscribe(op);
		break;
	case RUNNING:
		(void)check_running(op);
		return;
	}
	if (r < 0)
		op_fail(op, r,
				op->x.text != NULL && op->x.text[0] != '\0' ? op->x.text
									    : sn_strerror(r));
}

void sn__node_ops_close(struct sn_node *node)
{
	struct sn_list *pos;

	while ((pos = node->ops.next) != &node->ops) {
		struct op *op = SN_CONTAINER_OF(pos, struct op, link);

		sn__mh_exchange_cancel(&op->x);
		op_fail(op, SN_E_CLOSED, "the node is closed");
	}
}

void sn__node_ops_state(struct sn_node *node)
{
	SN_LIST_FOREACH_SAFE (pos, &node->ops) {
		struct op *op = SN_CONTAINER_OF(pos, struct op, link);

		if (op->kind == RUNNING)
			(void)check_running(op);
	}
}

/* ---- submitting, any thread ---- */

static struct op *op_make(struct sn_node *node, enum kind kind, const char *type, const char *json)
{
	struct op *op = sn__calloc(1, sizeof(*op));

	if (op == NULL)
		return NULL;
	op->node = node;
	op->kind = kind;
	sn_list_init(&op->link);
	if (type != NULL)
		op->type = sn__strdup(type);
	if (json != NULL)
		op->json = sn__strdup(json);
	if ((type != NULL && op->type == NULL) || (json != NULL && op->json == NULL)) {
		op_free(op);
		return NULL;
	}
	return op;
}

/* Takes @op, on failure too. */
static int submit(struct op *op)
{
	struct sn_runtime *rt = op->node->rt;
	int r = sn__enter(rt);

	if (r < 0) {
		op_free(op);
		return r;
	}
	atomic_fetch_add(&op->node->refs, 1);
	sn__loop_post(rt->loop, &op->task, op_run);
	sn__leave(rt);
	return 0;
}

static void detach_run(struct sn_task *task)
{
	struct sn_wait *detached = SN_CONTAINER_OF(task, struct sn_wait, task);
	struct waiter *w = SN_CONTAINER_OF(detached, struct waiter, detached);

	if (w->op != NULL) {
		w->op->waiter = NULL;
		w->op = NULL;
		w->code = sn__error_set(&w->err, SN_E_TIMEOUT, "nothing has come in time");
	}
	sn__wait_wake(&w->detached);
}

/* Until the operation has ended, or nobody waits any more: the loop has the last word. */
static void wait_or_detach(struct waiter *w, uint64_t timeout_ms)
{
	if (sn__wait_for(&w->wait, timeout_ms))
		return;
	sn__loop_post(w->wait.rt->loop, &w->detached.task, detach_run);
	sn__wait_for(&w->detached, UINT64_MAX);
}

/* Takes @op. */
static int submit_wait(struct op *op, uint64_t timeout_ms, struct sn_node_answer **ret_answer,
		struct sn_error **ret_error)
{
	struct sn_runtime *rt = op->node->rt;
	struct waiter *w = sn__calloc(1, sizeof(*w));
	int r = w != NULL ? sn__enter(rt) : SN_E_NOMEM;

	if (r < 0) {
		op_free(op);
		sn__free(w);
		return r;
	}
	r = sn__wait_init(&w->wait, rt);
	if (r == 0) {
		r = sn__wait_init(&w->detached, rt);
		if (r < 0)
			sn__wait_finish(&w->wait);
	}
	if (r < 0) {
		op_free(op);
	} else {
		w->op = op;
		op->waiter = w;
		atomic_fetch_add(&op->node->refs, 1);
		sn__loop_post(rt->loop, &op->task, op_run);
		wait_or_detach(w, timeout_ms);
		sn__wait_finish(&w->wait);
		sn__wait_finish(&w->detached);
		r = w->code;
		if (r < 0)
			sn__error_give(&w->err, ret_error);
		if (ret_answer != NULL && w->answer != NULL)
			*ret_answer = SN_TAKE(w->answer);
		sn_node_answer_destroy(w->answer);
	}
	sn__leave(rt);
	sn__free(w);
	return r;
}

int sn_node_wait_running(struct sn_node *node, uint32_t timeout_ms, struct sn_error **ret_error)
{
	struct op *op = op_make(node, RUNNING, NULL, NULL);

	return op == NULL ? SN_E_NOMEM : submit_wait(op, timeout_ms, NULL, ret_error);
}

/* ---- send ---- */

static int check_json(const char *json)
{
	struct sn_str text = sn_str_from(json);

	if (json != NULL && sn__json_check_wide(text, NULL) < 0)
		return SN_E_PARSE;
	return text.len > SN_MICROHOME_PAYLOAD_MAX ? SN_E_LIMIT : 0;
}

static int send_make(struct sn_node *node, const char *address, const char *type, const char *json,
		const struct sn_node_send_options *opts, struct op **ret_op)
{
	struct sn_addr to;
	struct op *op;
	int r;

	if (opts != NULL && (opts->size != sizeof(*opts) || opts->version > 2))
		return SN_E_INVALID;
	r = sn__mh_address(sn_str_from(address), &to, NULL);
	if (r == 0)
		r = type[0] == '\0' ? SN_E_INVALID : check_json(json);
	if (r == SN_E_LIMIT && opts != NULL && opts->rpc && strlen(json) < SN_MH_VALUE_MAX)
		r = 0;
	if (r < 0)
		return r;
	op = op_make(node, SEND, type, json);
	if (op == NULL)
		return SN_E_NOMEM;
	op->to = to;
	if (opts != NULL)
		op->o = *opts;
	*ret_op = op;
	return 0;
}

int sn_node_send(struct sn_node *node, const char *address, const char *type, const char *json,
		const struct sn_node_send_options *opts, sn_node_answer_fn *fn, void *arg)
{
	struct op *op;
	int r = send_make(node, address, type, json, opts, &op);

	if (r < 0)
		return r;
	op->answer = fn;
	op->arg = arg;
	return submit(op);
}

int sn_node_send_wait(struct sn_node *node, const char *address, const char *type, const char *json,
		const struct sn_node_send_options *opts, struct sn_node_answer **ret_answer,
		struct sn_error **ret_error)
{
	struct op *op;
	int r = send_make(node, address, type, json, opts, &op);

	return r < 0 ? r : submit_wait(op, UINT64_MAX, ret_answer, ret_error);
}

/* ---- through the broker ---- */

static int publish(struct sn_node *node, const char *how, const char *type, const char *json,
		sn_node_answer_fn *fn, void *arg)
{
	struct sn_buf data;
	struct op *op = NULL;
	int r = type[0] == '\0' ? SN_E_INVALID : check_json(json);

	if (r < 0)
		return r;
	sn__buf_init(&data, SIZE_MAX);
	r = sn__buf_puts(&data, "{\"event\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(type), &data);
	if (r == 0 && json != NULL)
		r = sn__buf_puts(&data, ",\"data\":");
	if (r == 0 && json != NULL)
		r = sn__buf_puts(&data, json);
	if (r == 0)
		r = sn__buf_append(&data, "}", 2);
	if (r == 0)
		op = op_make(node, EMIT, how, sn__buf_data(&data));
	sn__buf_finish(&data);
	if (op == NULL)
		return SN_E_NOMEM;
	op->answer = fn;
	op->arg = arg;
	return submit(op);
}

int sn_node_emit(struct sn_node *node, const char *type, const char *json, sn_node_answer_fn *fn,
		void *arg)
{
	return publish(node, SN_MH_PUBLISH, type, json, fn, arg);
}

int sn_node_broadcast(struct sn_node *node, const char *type, const char *json,
		sn_node_answer_fn *fn, void *arg)
{
	return publish(node, SN_MH_BROADCAST, type, json, fn, arg);
}

static int subscribe_make(struct sn_node *node, const char *type, sn_node_handler_fn *fn, void *arg,
		struct op **ret_op)
{
	struct op *op;

	if (type[0] == '\0' || fn == NULL)
		return SN_E_INVALID;
	op = op_make(node, SUBSCRIBE, type, NULL);
	if (op == NULL)
		return SN_E_NOMEM;
	op->handler = fn;
	op->handler_arg = arg;
	*ret_op = op;
	return 0;
}

int sn_node_subscribe(struct sn_node *node, const char *type, sn_node_handler_fn *fn, void *arg,
		sn_node_done_fn *done, void *done_arg)
{
	struct op *op;
	int r = subscribe_make(node, type, fn, arg, &op);

	if (r < 0)
		return r;
	op->done = done;
	op->arg = done_arg;
	return submit(op);
}

int sn_node_subscribe_wait(struct sn_node *node, const char *type, sn_node_handler_fn *fn,
		void *arg, uint32_t timeout_ms, struct sn_error **ret_error)
{
	struct op *op;
	int r = subscribe_make(node, type, fn, arg, &op);

	return r < 0 ? r : submit_wait(op, timeout_ms, NULL, ret_error);
}

int sn_node_unsubscribe(struct sn_node *node, const char *type, sn_node_done_fn *done, void *arg)
{
	struct sn_buf data;
	struct op *op = NULL;
	int r;

	if (type[0] == '\0')
		return SN_E_INVALID;
	sn__buf_init(&data, SIZE_MAX);
	r = sn__buf_puts(&data, "{\"unsubscribe\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(type), &data);
	if (r == 0)
		r = sn__buf_append(&data, "}", 2);
	if (r == 0)
		op = op_make(node, UNSUBSCRIBE, type, sn__buf_data(&data));
	sn__buf_finish(&data);
	if (op == NULL)
		return SN_E_NOMEM;
	op->done = done;
	op->arg = arg;
	return submit(op);
}
