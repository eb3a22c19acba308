/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sn_queue_consume(): connect/shards.h says what is to be done, this does it: calls, batches to the
 * user, a timer.
 *
 * A consumer is counted: by the list it stands in, until it has ended and its user has let go of it
 * (at the latest until the runtime is gone), and by every batch that is out, because a batch may be
 * answered on any thread at any time, also long after the runtime. `lock` keeps such an answer from
 * posting to a loop that is closing.
 */

#include <stdio.h>

#include "base/mem.h"
#include "base/random.h"
#include "connect/queue.h"
#include "connect/resource.h"
#include "connect/shards.h"
#include "mesh/api.h"

#define RECORDS_DEFAULT 1000
#define POLL_DEFAULT_MS 1000
#define POLL_MIN_MS 200
#define LIST_DEFAULT_MS 60000
#define PARAMS_MAX ((size_t)64 << 10)

/* One request; as many as may be under way, and the list's. */
struct asking {
	struct sn_list link; /* consumer->idle, or in none */
	struct sn_queue_consumer *consumer;
	struct sn_resource_call rc;
	struct sn_result result;
	struct sn_buf params;
	struct sn_str operation;
	struct sn_shard *shard; /* NULL: the list */
};

struct sn_queue_consumer {
	atomic_uint refs;
	struct sn_runtime *rt;
	struct sn_connect *connect;
	struct sn_target *target;
	struct sn_queue_consumer_options o;
	struct sn_task start_task, stop_task;
	atomic_bool stop_asked;
	uint32_t drain_ms;

	pthread_mutex_t lock; /* deaf */
	bool deaf;            /* the loop takes no answers any more */

	/* loop thread */
	struct sn_list link; /* connect->consumers */
	struct sn_shards *shards;
	struct sn_list idle; /* asking.link */
	struct sn_list busy; /* asking.link */
	struct sn_task pump_task;
	struct sn_timer timer, drain_timer;
	struct sn_error error; /* of on_end; code 0: none */
	bool released;         /* by its user */
	bool over;             /* the end came; requests under way are waited for */
	bool ended;            /* on_end was called */
	bool counted;          /* a part of the runtime's closing */
};

static void pump_later(struct sn_queue_consumer *c);

/* ---- memory ---- */

static void askings_free(struct sn_list *list)
{
	struct sn_list *node;

	while ((node = sn_list_pop_front(list)) != NULL) {
		struct asking *a = SN_CONTAINER_OF(node, struct asking, link);

		sn__result_finish(&a->result);
		sn__buf_finish(&a->params);
		sn__free(a->rc.keep.state);
		sn__free(a);
	}
}

static void consumer_free(struct sn_queue_consumer *c)
{
	askings_free(&c->idle);
	sn__shards_destroy(c->shards);
	pthread_mutex_destroy(&c->lock);
	sn__free(c);
}

static void consumer_unref(struct sn_queue_consumer *c)
{
	if (atomic_fetch_sub(&c->refs, 1) == 1)
		consumer_free(c);
}

/* ---- the end ---- */

/* Nobody is asked any more; on_end follows with the last answer. */
static void consumer_over(struct sn_queue_consumer *c, const struct sn_error *err /* may be NULL */)
{
	if (c->over)
		return;
	c->over = true;
	if (err != NULL)
		sn__error_set(&c->error, err->code, "%s: %s", sn__target_text(c->target),
				err->text);
	sn__timer_stop(c->rt->loop, &c->timer);
	sn__timer_stop(c->rt->loop, &c->drain_timer);
	SN_LIST_FOREACH_SAFE (pos, &c->busy)
		sn__resource_stop(&SN_CONTAINER_OF(pos, struct asking, link)->rc);
	pump_later(c);
}

/* What is answered from now on is only freed, by who answers: nothing here may know of it any more. */
static void deafen(struct sn_queue_consumer *c)
{
	pthread_mutex_lock(&c->lock);
	c->deaf = true;
	pthread_mutex_unlock(&c->lock);
}

/* The list lets go of it. */
static void consumer_leave(struct sn_queue_consumer *c)
{
	sn_list_remove(&c->link);
	consumer_unref(c);
}

static void consumer_end(struct sn_queue_consumer *c)
{
	struct sn_runtime *rt = c->rt;
	bool counted = c->counted;

	sn__loop_undefer(rt->loop, &c->pump_task);
	deafen(c);
	c->ended = true;
	sn__shards_destroy(SN_TAKE(c->shards));
	c->o.on_end(c->error.code != 0 ? &c->error : NULL, c->o.arg);
	if (c->released)
		consumer_leave(c);
	if (counted)
		sn__runtime_part_closed(rt);
}

/* ---- requests ---- */

static void asking_answer(struct asking *a, const struct sn_error *err)
{
	struct sn_queue_consumer *c = a->consumer;
	const struct sn_result *res = &a->result;
	struct sn_shards_answer answer = {.type = "", .text = ""};

	if (err != NULL) {
		answer.code = err->code;
		answer.type = res->type;
		answer.text = res->type[0] != '\0' ? res->message : err->text;
	} else {
		answer.json = sn__buf_str(&res->json);
	}
	sn_list_remove(&a->link);
	sn_list_push_front(&c->idle, &a->link);
	sn__shards_answer(c->shards, a->shard, &answer, sn__loop_now_ns(c->rt->loop));
}

static void on_answer(struct sn_resource_call *rc, const struct sn_error *err)
{
	struct asking *a = SN_CONTAINER_OF(rc, struct asking, rc);

	asking_answer(a, err);
	pump_later(a->consumer);
}

static int asking_get(struct sn_queue_consumer *c, struct asking **ret_asking)
{
	struct sn_list *node = sn_list_pop_front(&c->idle);
	struct asking *a;

	if (node != NULL) {
		*ret_asking = SN_CONTAINER_OF(node, struct asking, link);
		return 0;
	}
	a = sn__calloc(1, sizeof(*a));
	if (a == NULL)
		return SN_E_NOMEM;
	sn_list_init(&a->link);
	a->consumer = c;
	sn__result_init(&a->result);
	sn__buf_init(&a->params, PARAMS_MAX);
	*ret_asking = a;
	return 0;
}

/* The consumer tries again by itself, for ever and at its own pace: one attempt each. */
static int asking_start(struct asking *a, const struct sn_shards_todo *todo, struct sn_error *err)
{
	struct sn_queue_consumer *c = a->consumer;
	int r;

	a->shard = todo->shard;
	a->operation = todo->operation;
	sn__result_reset(&a->result);
	sn__buf_clear(&a->params);
	r = sn__buf_append(&a->params, todo->params, strlen(todo->params) + 1);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	a->rc = (struct sn_resource_call){
			.kind = &sn__queue_kind,
			.target = c->target,
			.operation = a->operation,
			.params = {sn__buf_data(&a->params), a->params.len - 1},
			.retry = SN_RETRY_NONE,
			.result = &a->result,
			.done = on_answer,
			.keep = {a->rc.keep.state, a->rc.keep.size},
	};
	return sn__resource_start(&c->connect->pool, c->rt->mesh, &a->rc, err);
}

static void ask(struct sn_queue_consumer *c, const struct sn_shards_todo *todo)
{
	struct sn_shards_answer answer = {.type = "", .text = "out of memory"};
	struct asking *a;
	struct sn_error err;
	int r = asking_get(c, &a);

	if (r < 0) {
		answer.code = r;
		sn__shards_answer(c->shards, todo->shard, &answer, sn__loop_now_ns(c->rt->loop));
		return;
	}
	sn_list_push_back(&c->busy, &a->link);
	r = asking_start(a, todo, &err);
	if (r < 0)
		asking_answer(a, &err);
}

/* ---- batches ---- */

static void give(struct sn_queue_consumer *c, const struct sn_shards_todo *todo)
{
	struct sn_queue_batch *b = todo->batch;

	atomic_fetch_add(&c->refs, 1);
	b->consumer = c;
	b->owner = todo->shard;
	c->o.on_batch(b, c->o.arg);
}

static void answer_run(struct sn_task *task)
{
	struct sn_queue_batch *b = SN_CONTAINER_OF(task, struct sn_queue_batch, task);
	struct sn_queue_consumer *c = b->consumer;

	if (c->ended) {
		sn__batch_destroy(b);
	} else {
		sn__shards_batch_done(
				c->shards, b->owner, b->n_answered, sn__loop_now_ns(c->rt->loop));
		pump_later(c);
	}
	consumer_unref(c);
}

void sn_queue_batch_answer(struct sn_queue_batch *batch, size_t n_done)
{
	struct sn_queue_consumer *c = batch->consumer;
	bool deaf;

	batch->n_answered = n_done;
	atomic_fetch_add(&c->refs, 1); /* the loop may be done with the batch before we have left */
	pthread_mutex_lock(&c->lock);
	deaf = c->deaf;
	if (!deaf)
		sn__loop_post(c->rt->loop, &batch->task, answer_run);
	pthread_mutex_unlock(&c->lock);
	if (deaf) {
		sn__batch_destroy(batch);
		consumer_unref(c);
	}
	consumer_unref(c);
}

size_t sn_queue_batch_count(const struct sn_queue_batch *batch)
{
	return batch->n - batch->done;
}

int sn_queue_batch_at(const struct sn_queue_batch *batch, size_t index,
		struct sn_queue_message *ret_message)
{
	if (index >= batch->n - batch->done)
		return SN_E_INVALID;
	*ret_message = batch->messages[batch->done + index];
	return 0;
}

const char *sn_queue_batch_shard(const struct sn_queue_batch *batch)
{
	return batch->shard;
}

uint64_t sn_queue_batch_behind_ms(const struct sn_queue_batch *batch)
{
	return batch->behind_ms;
}

/* ---- what is to be done ---- */

static void on_timer(struct sn_timer *timer)
{
	pump_later(SN_CONTAINER_OF(timer, struct sn_queue_consumer, timer));
}

static void sleep_until(struct sn_queue_consumer *c, uint64_t wake_ns)
{
	struct sn_loop *loop = c->rt->loop;

	if (wake_ns == SN_NEVER_NS)
		sn__timer_stop(loop, &c->timer);
	else
		sn__timer_start(loop, &c->timer, sn_time_until(sn__loop_now_ns(loop), wake_ns),
				on_timer);
}

static void pump_run(struct sn_task *task)
{
	struct sn_queue_consumer *c = SN_CONTAINER_OF(task, struct sn_queue_consumer, pump_task);
	struct sn_shards_todo todo;

	while (!c->over) {
		switch (sn__shards_next(c->shards, sn__loop_now_ns(c->rt->loop), &todo)) {
		case SN_SHARDS_IDLE:
			sleep_until(c, todo.wake_ns);
			return;
		case SN_SHARDS_LIST:
		case SN_SHARDS_ITERATOR:
		case SN_SHARDS_READ:
			ask(c, &todo);
			break;
		case SN_SHARDS_BATCH:
			give(c, &todo);
			break;
		case SN_SHARDS_CHECKPOINT:
			if (c->o.on_checkpoint != NULL)
				c->o.on_checkpoint(todo.id, todo.sequence, c->o.arg);
			break;
		case SN_SHARDS_TROUBLE:
			if (c->o.on_trouble != NULL)
				c->o.on_trouble(todo.id, todo.error, c->o.arg);
			break;
		case SN_SHARDS_END:
			consumer_over(c, todo.error);
			break;
		}
	}
	if (!c->ended && sn_list_empty(&c->busy))
		consumer_end(c);
}

static void pump_later(struct sn_queue_consumer *c)
{
	if (!c->ended && !sn_task_queued(&c->pump_task))
		sn__loop_defer(c->rt->loop, &c->pump_task, pump_run);
}

/* ---- stopping ---- */

static void on_drain_timer(struct sn_timer *timer)
{
	struct sn_queue_consumer *c = SN_CONTAINER_OF(timer, struct sn_queue_consumer, drain_timer);
	struct sn_error err;

	sn__error_set(&err, SN_E_TIMEOUT, "stopped with batches that were not answered");
	consumer_over(c, &err);
}

static void stop_run(struct sn_task *task)
{
	struct sn_queue_consumer *c = SN_CONTAINER_OF(task, struct sn_queue_consumer, stop_task);

	c->released = true;
	if (c->ended) {
		consumer_leave(c);
	} else if (!c->over) {
		sn__shards_stop(c->shards);
		if (c->drain_ms != 0)
			sn__timer_start(c->rt->loop, &c->drain_timer, sn_ms_to_ns(c->drain_ms),
					on_drain_timer);
		pump_later(c);
	}
}

void sn_queue_consumer_stop(struct sn_queue_consumer *consumer, uint32_t drain_ms)
{
	struct sn_runtime *rt = consumer->rt;

	if (sn__enter(rt) < 0)
		return;
	if (!atomic_exchange(&consumer->stop_asked, true)) {
		consumer->drain_ms = drain_ms;
		sn__loop_post(rt->loop, &consumer->stop_task, stop_run);
	}
	sn__leave(rt);
}

static void consumer_close(struct sn_queue_consumer *c)
{
	struct sn_error err;

	deafen(c);
	sn__error_set(&err, SN_E_CLOSED, "%s", sn_strerror(SN_E_CLOSED));
	consumer_over(c, &err);
}

void sn__queue_consumers_close(struct sn_connect *connect)
{
	SN_LIST_FOREACH (pos, &connect->consumers) {
		struct sn_queue_consumer *c = SN_CONTAINER_OF(pos, struct sn_queue_consumer, link);

		if (c->ended)
			continue;
		sn__runtime_part_opened(c->rt);
		c->counted = true;
		consumer_close(c);
	}
}

void sn__queue_consumers_free(struct sn_connect *connect)
{
	SN_LIST_FOREACH_SAFE (pos, &connect->consumers)
		consumer_leave(SN_CONTAINER_OF(pos, struct sn_queue_consumer, link));
}

/* ---- starting ---- */

static void start_run(struct sn_task *task)
{
	struct sn_queue_consumer *c = SN_CONTAINER_OF(task, struct sn_queue_consumer, start_task);

	sn_list_push_back(&c->connect->consumers, &c->link);
	if (atomic_load(&c->rt->state) == SN_RUNTIME_CLOSING) {
		consumer_close(c);
		return;
	}
	pump_later(c);
}

static uint64_t wall_ms(void *arg)
{
	struct sn_queue_consumer *c = arg;

	return sn__loop_wall_ns(c->rt->loop) / SN_NS_PER_MS;
}

static int options_check(struct sn_queue_consumer_options *o, struct sn_error *err)
{
	if (o->on_batch == NULL || o->on_end == NULL)
		return sn__error_set(err, SN_E_INVALID, "on_batch and on_end must be set");
	if ((unsigned)o->from > SN_QUEUE_AT_TIMESTAMP)
		return sn__error_set(err, SN_E_INVALID, "from has no value %d", (int)o->from);
	if (o->max_records > SN_BATCH_RECORDS_MAX)
		return sn__error_set(err, SN_E_INVALID, "max_records must be 1 to %d",
				SN_BATCH_RECORDS_MAX);
	if (o->poll_ms != 0 && o->poll_ms < POLL_MIN_MS)
		return sn__error_set(err, SN_E_INVALID, "poll_ms must be at least %d", POLL_MIN_MS);
	if (o->max_records == 0)
		o->max_records = RECORDS_DEFAULT;
	if (o->poll_ms == 0)
		o->poll_ms = POLL_DEFAULT_MS;
	if (o->list_ms == 0)
		o->list_ms = LIST_DEFAULT_MS;
	return 0;
}

static int options_copy(const struct sn_queue_consumer_options *opts,
		struct sn_queue_consumer_options *ret_o, struct sn_error *err)
{
	*ret_o = (struct sn_queue_consumer_options)SN_QUEUE_CONSUMER_INIT;
	if (opts->size < offsetof(struct sn_queue_consumer_options, arg) ||
			opts->size > sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID,
				"options.size is %zu: use SN_QUEUE_CONSUMER_INIT", opts->size);
	memcpy(ret_o, opts, opts->size);
	return options_check(ret_o, err);
}

static int shards_create(struct sn_queue_consumer *c, struct sn_error *err)
{
	const struct sn_shards_options o = {
			.from = c->o.from,
			.timestamp_ms = c->o.timestamp_ms,
			.checkpoints = sn_str_from(c->o.checkpoints),
			.lookup = c->o.lookup,
			.arg = c->o.arg,
			.only = c->o.shard,
			.max_records = c->o.max_records,
			.poll_ms = c->o.poll_ms,
			.list_ms = c->o.list_ms,
			.rng = sn__loop_rng(c->rt->loop),
			.wall_ms = wall_ms,
			.wall_arg = c,
	};

	return sn__shards_create(&o, &c->shards, err);
}

/* Between enter and leave. */
static int consumer_create(struct sn_runtime *rt, const char *name,
		const struct sn_queue_consumer_options *o, struct sn_queue_consumer **ret_c,
		struct sn_error *err)
{
	struct sn_queue_consumer *c = NULL;
	struct sn_api_target t;
	int r = sn__api_target(sn__queue_kind.name, name, NULL, &t, err);

	if (r < 0)
		return r;
	c = sn__calloc(1, sizeof(*c));
	if (c == NULL || pthread_mutex_init(&c->lock, NULL) != 0) {
		sn__free(c);
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	atomic_init(&c->refs, 1); /* the list's */
	c->rt = rt;
	c->o = *o;
	sn_list_init(&c->link);
	sn_list_init(&c->idle);
	sn_list_init(&c->busy);
	c->connect = sn__connect_of(rt);
	r = c->connect == NULL ? sn__error_set(err, SN_E_NOTSUP, "%s", sn_strerror(SN_E_NOTSUP))
			       : shards_create(c, err);
	if (r == 0) {
		r = sn__catalog_target(rt->catalog, t.kind, t.name, t.endpoint, &c->target);
		if (r < 0)
			sn__error_set(err, r, "queue %s: %s", name, sn_strerror(r));
	}
	if (r < 0) {
		consumer_free(c);
		return r;
	}
	c->o.checkpoints = c->o.shard = NULL; /* the caller's */
	*ret_c = c;
	return 0;
}

int sn_queue_consume(struct sn_runtime *rt, const char *name,
		const struct sn_queue_consumer_options *opts,
		struct sn_queue_consumer **ret_consumer, struct sn_error **ret_error)
{
	struct sn_queue_consumer_options o;
	struct sn_queue_consumer *c = NULL;
	struct sn_error err;
	int r = options_copy(opts, &o, &err);

	if (r == 0) {
		r = sn__enter(rt);
		if (r < 0)
			sn__error_set(&err, r, "%s", sn_strerror(r));
	}
	if (r == 0) {
		r = consumer_create(rt, name, &o, &c, &err);
		if (r == 0) {
			*ret_consumer = c; /* before anything is told */
			sn__loop_post(rt->loop, &c->start_task, start_run);
		}
		sn__leave(rt);
	}
	if (r < 0)
		sn__error_give(&err, ret_error);
	return r;
}
