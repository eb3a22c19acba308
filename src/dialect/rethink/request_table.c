/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Before every table of HTTP functions. Our own make all attempts themselves and answer on the loop's
 * thread in a later turn. A host's makes one attempt a call, may answer from any thread and at any
 * time, even before its function returns: so each of its calls hangs on a small object of its own,
 * which stays until the host has called back, also when nobody waits for it any more.
 */

#include "base/mem.h"
#include "dialect/rethink/connector.h"

#define PAUSE_MAX_MS 50u
#define URL_MAX (256u << 10)

/* One call of a host's function. */
struct sn_rethink_held {
	struct sn_task task;
	struct sn_rethink_table *table;
	struct sn_rethink_ask *ask; /* NULL: given up */
	char *error, *body;         /* the host's, copied */
	bool failed;                /* without memory for the words */
	size_t size;
	unsigned status;
};

static void attempt(struct sn_rethink_ask *ask);

void sn__rethink_ask_init(struct sn_rethink_ask *ask)
{
	*ask = (struct sn_rethink_ask){.attempt = 0};
	sn__buf_init(&ask->url, URL_MAX);
}

void sn__rethink_ask_finish(struct sn_rethink_ask *ask)
{
	sn__buf_finish(&ask->url);
}

void sn__rethink_table_init(struct sn_rethink_table *t, struct sn_runtime *rt,
		const struct sn_rethink_config *config)
{
	*t = (struct sn_rethink_table){.rt = rt, .config = config};
	sn_list_init(&t->asks);
}

/* ---- the end ---- */

static void check_idle(struct sn_rethink_table *t)
{
	if (t->closing && sn_list_empty(&t->asks) && t->n_held == 0 && t->idle != NULL) {
		void (*idle)(void *arg) = t->idle;

		t->idle = NULL;
		idle(t->idle_arg);
	}
}

static void end(struct sn_rethink_ask *ask, const struct sn_rethink_reply *reply)
{
	struct sn_rethink_table *t = ask->table;

	sn_list_remove(&ask->link);
	sn__timer_stop(t->rt->loop, &ask->timer);
	ask->fn(ask, reply);
	check_idle(t);
}

static void end_run(struct sn_task *task)
{
	struct sn_rethink_ask *ask = SN_CONTAINER_OF(task, struct sn_rethink_ask, task);

	end(ask, &(struct sn_rethink_reply){.error = ask->error});
}

/* Never inside the call that began it. */
static void end_later(struct sn_rethink_ask *ask, const char *error)
{
	ask->error = error;
	sn__loop_defer(ask->table->rt->loop, &ask->task, end_run);
}

/* ---- attempts at a host's table ---- */

static void on_pause(struct sn_timer *timer)
{
	attempt(SN_CONTAINER_OF(timer, struct sn_rethink_ask, timer));
}

static void failed(struct sn_rethink_ask *ask, const char *error)
{
	struct sn_rethink_table *t = ask->table;
	unsigned shift = SN_MIN(ask->attempt - 1, 6u);
	uint64_t pause_ms = SN_MIN(UINT64_C(1) << shift, PAUSE_MAX_MS);

	if (!t->foreign || t->closing || ask->attempt >= t->config->retries) {
		end_later(ask, error);
		return;
	}
	ask->base = (ask->base + 1) % (unsigned)t->config->url.n;
	sn__timer_start(t->rt->loop, &ask->timer, sn_ms_to_ns(pause_ms), on_pause);
}

static void held_free(struct sn_rethink_held *h)
{
	sn__free(h->error);
	sn__free(h->body);
	sn__free(h);
}

static void held_run(struct sn_task *task)
{
	struct sn_rethink_held *h = SN_CONTAINER_OF(task, struct sn_rethink_held, task);
	struct sn_rethink_table *t = h->table;
	struct sn_rethink_ask *ask = h->ask;

	t->n_held--;
	if (ask != NULL) {
		ask->held = NULL;
		sn__timer_stop(t->rt->loop, &ask->timer);
		if (h->error != NULL || h->failed)
			failed(ask, "no answer");
		else
			end(ask,
					&(struct sn_rethink_reply){.status = h->status,
							.body = {h->body, h->size}});
	}
	held_free(h);
	check_idle(t);
}

/* Any thread. */
static void held_answer(
		const char *error, const char *body, size_t size, unsigned status, void *arg)
{
	struct sn_rethink_held *h = arg;

	if (error != NULL) {
		h->failed = true;
	} else {
		h->status = status;
		h->size = body != NULL ? size : 0;
		h->body = sn__strndup(body != NULL ? body : "", h->size);
		h->failed = h->body == NULL;
	}
	sn__loop_post(h->table->rt->loop, &h->task, held_run);
}

static void give_up(struct sn_rethink_ask *ask)
{
	if (ask->held != NULL) {
		ask->held->ask = NULL;
		ask->held = NULL;
	}
}

static void on_timeout(struct sn_timer *timer)
{
	struct sn_rethink_ask *ask = SN_CONTAINER_OF(timer, struct sn_rethink_ask, timer);

	give_up(ask);
	failed(ask, "no answer in time");
}

/* ---- one attempt ---- */

static int call(struct sn_rethink_ask *ask, sn_rethink_answer_fn *fn, void *arg)
{
	const struct sn_rethink_table *t = ask->table;
	const char *url = sn__buf_data(&ask->url);

	switch (ask->method) {
	case SN_RETHINK_GET:
		return t->shim->get(t->host, url, fn, arg);
	case SN_RETHINK_PUT:
		return t->shim->put(t->host, url, ask->body.ptr, fn, arg);
	default:
		return t->shim->del(t->host, url, fn, arg);
	}
}

static int call_host(struct sn_rethink_ask *ask)
{
	struct sn_rethink_table *t = ask->table;
	struct sn_rethink_held *h = sn__calloc(1, sizeof(*h));
	int r;

	if (h == NULL)
		return SN_E_NOMEM;
	h->table = t;
	h->ask = ask;
	ask->held = h;
	t->n_held++;
	sn__timer_start(t->rt->loop, &ask->timer, sn_ms_to_ns(t->config->timeout_ms), on_timeout);
	r = call(ask, held_answer, h);
	if (r < 0) {
		sn__timer_stop(t->rt->loop, &ask->timer);
		ask->held = NULL;
		t->n_held--;
		sn__free(h);
	}
	return r;
}

/* What our own tables answer: on the loop's thread, in a later turn. */
static void own_answer(const char *error, const char *body, size_t size, unsigned status, void *arg)
{
	end(arg,
			&(struct sn_rethink_reply){
					.error = error, .status = status, .body = {body, size}});
}

static void attempt(struct sn_rethink_ask *ask)
{
	const struct sn_rethink_table *t = ask->table;
	int r;

	ask->attempt++;
	sn__buf_clear(&ask->url);
	r = sn__buf_puts(&ask->url, t->config->url.items[ask->base]);
	if (r == 0)
		r = sn__buf_append_str(&ask->url, ask->path);
	if (r == 0)
		r = sn__buf_append(&ask->url, "", 1);
	if (r == 0)
		r = t->foreign ? call_host(ask) : call(ask, own_answer, ask);
	if (r < 0)
		failed(ask, sn_strerror(r));
}

void sn__rethink_ask(struct sn_rethink_table *t, struct sn_rethink_ask *ask)
{
	ask->table = t;
	ask->attempt = 0;
	ask->held = NULL;
	ask->base = t->foreign ? t->next_base : 0;
	t->next_base = (t->next_base + 1) % (unsigned)t->config->url.n;
	sn_list_push_back(&t->asks, &ask->link);
	if (t->closing)
		end_later(ask, "closed");
	else
		attempt(ask);
}

void sn__rethink_table_close(struct sn_rethink_table *t, void (*idle)(void *arg), void *arg)
{
	t->closing = true;
	t->idle = idle;
	t->idle_arg = arg;
	if (t->foreign) {
		SN_LIST_FOREACH_SAFE (pos, &t->asks) {
			struct sn_rethink_ask *ask = SN_CONTAINER_OF(
					pos, struct sn_rethink_ask, link);

			give_up(ask);
			sn__timer_stop(t->rt->loop, &ask->timer);
			if (!sn_task_queued(&ask->task))
				end_later(ask, "closed");
		}
	}
	check_idle(t);
}
