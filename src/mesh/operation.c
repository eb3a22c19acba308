/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/operation.h"

#include <string.h>

#include "base/mem.h"
#include "mesh/runtime.h"

#define OPERATIONS_MAX (1u << 20)

struct sn_operations {
	struct sn_runtime *rt;
	const struct sn_operation_type *type;
	struct sn_list free;  /* loop thread only */
	pthread_mutex_t lock; /* the rest */
	struct sn_list free_elsewhere;
	struct sn_operation **all;
	uint32_t n, cap;
};

int sn__operations_create(struct sn_runtime *rt, const struct sn_operation_type *type,
		struct sn_operations **ret_ops)
{
	struct sn_operations *ops = sn__calloc(1, sizeof(*ops));

	if (ops == NULL)
		return SN_E_NOMEM;
	if (pthread_mutex_init(&ops->lock, NULL) != 0) {
		sn__free(ops);
		return SN_E_NOMEM;
	}
	ops->rt = rt;
	ops->type = type;
	sn_list_init(&ops->free);
	sn_list_init(&ops->free_elsewhere);
	*ret_ops = ops;
	return 0;
}

void sn__operations_destroy(struct sn_operations *ops)
{
	if (ops == NULL)
		return;
	for (uint32_t i = 0; i < ops->n; i++) {
		ops->type->finish(ops->all[i]);
		sn__free(ops->all[i]);
	}
	sn__free(ops->all);
	pthread_mutex_destroy(&ops->lock);
	sn__free(ops);
}

/* Under the lock. */
static int table_room(struct sn_operations *ops)
{
	uint32_t cap = ops->cap > 0 ? ops->cap * 2 : 64;
	struct sn_operation **all;

	if (ops->n < ops->cap)
		return 0;
	if (ops->n >= OPERATIONS_MAX)
		return SN_E_LIMIT;
	all = sn__realloc(ops->all, cap * sizeof(struct sn_operation *));
	if (all == NULL)
		return SN_E_NOMEM;
	ops->all = all;
	ops->cap = cap;
	return 0;
}

/* Under the lock. */
static int make(struct sn_operations *ops, bool elsewhere, struct sn_operation **ret_op)
{
	struct sn_operation *op;
	int r = table_room(ops);

	if (r < 0)
		return r;
	op = sn__calloc(1, ops->type->size);
	if (op == NULL)
		return SN_E_NOMEM;
	op->all = ops;
	op->index = ops->n;
	op->elsewhere = elsewhere;
	sn_list_init(&op->link);
	ops->type->init(op);
	ops->all[ops->n++] = op;
	*ret_op = op;
	return 0;
}

/* Only who holds the operation changes it, so this needs no locked instruction. */
static void generation_next(struct sn_operation *op)
{
	uint32_t now = atomic_load_explicit(&op->generation, memory_order_relaxed);

	atomic_store_explicit(&op->generation, now + 1, memory_order_release);
}

int sn__operation_take(struct sn_operations *ops, struct sn_operation **ret_op)
{
	bool here = sn__loop_is_here(ops->rt->loop);
	struct sn_list *node = here ? sn_list_pop_front(&ops->free) : NULL;
	struct sn_operation *op = NULL;
	int r = 0;

	if (node == NULL) {
		pthread_mutex_lock(&ops->lock);
		if (!here)
			node = sn_list_pop_front(&ops->free_elsewhere);
		if (node == NULL)
			r = make(ops, !here, &op);
		pthread_mutex_unlock(&ops->lock);
	}
	if (r < 0)
		return r;
	if (node != NULL)
		op = SN_CONTAINER_OF(node, struct sn_operation, link);
	op->running = false;
	generation_next(op);
	*ret_op = op;
	return 0;
}

void sn__operation_give(struct sn_operation *op)
{
	struct sn_operations *ops = op->all;

	ops->type->reset(op);
	generation_next(op);
	if (!op->elsewhere && sn__loop_is_here(ops->rt->loop)) {
		sn_list_push_front(&ops->free, &op->link);
		return;
	}
	pthread_mutex_lock(&ops->lock);
	sn_list_push_front(&ops->free_elsewhere, &op->link);
	pthread_mutex_unlock(&ops->lock);
}

/* It is under way, and cancelled here when somebody has asked for that. */
static void started(struct sn_operation *op)
{
	op->running = true;
	if (atomic_load(&op->cancel) == atomic_load(&op->generation))
		op->all->type->cancel(op);
}

static void start_run(struct sn_task *task)
{
	struct sn_operation *op = SN_CONTAINER_OF(task, struct sn_operation, start_task);
	struct sn_error err;

	if (op->all->type->start(op, &err) < 0)
		sn__operation_end(op, false, &err);
	else
		started(op);
}

int sn__operation_submit(struct sn_operation *op, const struct sn_listener *listener,
		struct sn_call_id *ret_id, struct sn_error *err)
{
	struct sn_loop *loop = op->all->rt->loop;
	uint64_t id = (uint64_t)op->index << 32 | atomic_load(&op->generation);

	op->listener = *listener;
	if (!sn__loop_is_here(loop)) {
		sn__loop_post(loop, &op->start_task, start_run);
	} else {
		int r = op->all->type->start(op, err);

		if (r < 0) {
			sn__operation_give(op);
			return r;
		}
		started(op);
	}
	if (ret_id != NULL)
		ret_id->value = id;
	return 0;
}

static void cancel_run(struct sn_task *task)
{
	struct sn_operation *op = SN_CONTAINER_OF(task, struct sn_operation, cancel_task);

	atomic_store(&op->cancel_queued, false);
	/* The generation first: of a later one, another thread may be filling in the rest just now. */
	if (atomic_load(&op->cancel) == atomic_load(&op->generation) && op->running)
		op->all->type->cancel(op);
}

void sn__operations_cancel(struct sn_operations *ops, uint64_t id)
{
	uint32_t generation = (uint32_t)id, seen;
	struct sn_operation *op;

	pthread_mutex_lock(&ops->lock);
	op = (id >> 32) < ops->n ? ops->all[id >> 32] : NULL;
	pthread_mutex_unlock(&ops->lock);
	if (op == NULL || generation % 2 == 0 || atomic_load(&op->generation) != generation)
		return;
	/* Only upwards: a late caller must not overwrite a newer call's wish. */
	seen = atomic_load(&op->cancel);
	while ((int32_t)(generation - seen) > 0 &&
			!atomic_compare_exchange_weak(&op->cancel, &seen, generation))
		;
	if (!atomic_exchange(&op->cancel_queued, true))
		sn__loop_post(ops->rt->loop, &op->cancel_task, cancel_run);
}

/* ---- the end ---- */

struct sn_operation_wait {
	struct sn_wait wait;
	const struct sn_operation_type *type;
	void *answer; /* made beforehand: the answer moves into it */
	struct sn_error *error;
	bool answered;
	bool called; /* it went out: `error` is all there is to say */
	int code;
};

static void swap(void *a, void *b, size_t n)
{
	unsigned char *x = a, *y = b, t[256];

	while (n > 0) {
		size_t m = SN_MIN(n, sizeof(t));

		memcpy(t, x, m);
		memcpy(x, y, m);
		memcpy(y, t, m);
		x += m;
		y += m;
		n -= m;
	}
}

static void set_lone(void *answer, bool lone)
{
	memcpy(answer, &lone, sizeof(lone));
}

/* A waiting thread takes the answer along; its own empty one stays here for the next call. */
static void waiter_wake(struct sn_operation_wait *w, void *answer, const struct sn_error *err)
{
	w->code = err != NULL ? sn_error_code(err) : 0;
	w->answered = answer != NULL;
	if (answer != NULL) {
		swap(w->answer, answer, w->type->answer_size);
		set_lone(w->answer, true);
		set_lone(answer, false);
	}
	sn__error_give(err, &w->error);
	sn__wait_wake(&w->wait);
}

void sn__operation_end(struct sn_operation *op, bool answered, const struct sn_error *err)
{
	const struct sn_operation_type *type = op->all->type;
	struct sn_listener listener = op->listener;
	void *answer = answered ? (char *)op + type->answer : NULL;

	if (listener.waiter != NULL)
		waiter_wake(listener.waiter, answer, err);
	else
		type->tell(&listener, answer, err);
	sn__operation_give(op);
}

static int wait_submit(struct sn_runtime *rt, struct sn_operation_wait *w,
		sn_operation_submit_fn *submit, void *arg, struct sn_error *err)
{
	const struct sn_listener listener = {.waiter = w};
	int r;

	w->answer = sn__malloc(w->type->answer_size);
	if (w->answer == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	w->type->answer_init(w->answer);
	set_lone(w->answer, true);
	r = submit(rt, arg, &listener, NULL, err);
	if (r < 0)
		return r;
	w->called = true;
	sn__wait_for(&w->wait, UINT64_MAX);
	return w->code;
}

static int wait_end(struct sn_operation_wait *w, int r, const struct sn_error *err,
		void **ret_answer, struct sn_error **ret_error)
{
	if (w->answered)
		*ret_answer = w->answer;
	else if (w->answer != NULL)
		w->type->answer_destroy(w->answer);
	if (r < 0 && ret_error != NULL && w->error != NULL)
		*ret_error = SN_TAKE(w->error);
	else if (r < 0 && !w->called)
		sn__error_give(err, ret_error);
	sn_error_destroy(w->error);
	return r;
}

int sn__operation_wait(struct sn_runtime *rt, const struct sn_operation_type *type,
		sn_operation_submit_fn *submit, void *arg, void **ret_answer,
		struct sn_error **ret_error)
{
	struct sn_operation_wait w = {.type = type};
	struct sn_error err;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	r = sn__wait_init(&w.wait, rt);
	if (r == 0) {
		r = wait_submit(rt, &w, submit, arg, &err);
		sn__wait_finish(&w.wait);
		r = wait_end(&w, r, &err, ret_answer, ret_error);
	}
	sn__leave(rt);
	return r;
}
