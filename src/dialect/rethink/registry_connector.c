/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The Registry Connector: messages to HTTP requests and back. What a message asks and what a reply
 * answers is decided in message.c and answer.c, on any thread; here it is carried out, on the loop's.
 *
 * A message becomes an operation, which is planned by the thread that brings it. Most make one
 * request; data objects of an owner make one for the owner's hyperties and one for each of these. The
 * poll for changes is an operation without a message.
 */

#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "dialect/rethink/connector.h"
#include "mesh/operation.h"

#define KEEP_MAX (64u << 10) /* larger buffers are given back */
#define TEXT_MAX ((size_t)64 << 20)

enum sn_rethink_asked { ASK_MESSAGE, ASK_USER, ASK_ADD, ASK_DELETE, ASK_POLL };

/* The response message; what a waiting thread takes along. */
struct answer {
	bool lone;
	bool silent;
	struct sn_buf text; /* a NUL behind it, not counted */
};

struct message {
	struct sn_operation op;
	struct sn_rethink *c;
	struct sn_rethink_ask ask;
	struct sn_rethink_plan plan;
	struct sn_arena arena;
	struct sn_buf in, path, body, found;
	struct sn_rethink_words hyperties; /* of an owner */
	uint32_t next;
	struct answer answer;
	struct sn_task task;
	bool poll;
};

struct sn_rethink {
	struct sn_runtime *rt;
	struct sn_rethink_thread *thread; /* NULL: the loop is the caller's */
	struct sn_rethink_loop *loop;     /* NULL: the table is the host's */
	struct sn_rethink_table table;
	struct sn_rethink_config config;
	struct sn_rethink_style style;
	struct sn_yaml yaml;
	struct sn_arena arena;
	struct sn_operations *ops;
	atomic_uint in_flight;
	sn_rethink_fn *notify; /* NULL: nobody listens */
	void *notify_arg;
	struct sn_task open_task, close_task, poll_task;
	atomic_bool poll_queued;
	/* loop thread */
	struct sn_timer timer; /* of the next poll */
	struct sn_buf domain;  /* of the last message, where the settings have none */
	uint64_t n_told;
	bool polling;
	bool closing, table_idle, loop_closed, over;
	struct sn_wait *waiter; /* of closing */
	void (*done)(void *arg);
	void *done_arg;
};

/* ---- operations ---- */

static struct message *message_of(struct sn_operation *op)
{
	return SN_CONTAINER_OF(op, struct message, op);
}

static void answer_init(void *p)
{
	struct answer *a = p;

	*a = (struct answer){.lone = false};
	sn__buf_init(&a->text, TEXT_MAX);
}

static void answer_destroy(void *p)
{
	struct answer *a = p;

	sn__buf_finish(&a->text);
	sn__free(a);
}

static void message_init(struct sn_operation *op)
{
	struct message *m = message_of(op);

	sn__rethink_ask_init(&m->ask);
	sn__arena_init(&m->arena, 2048, SN_RETHINK_ARENA_MAX);
	sn__buf_init(&m->in, SN_RETHINK_MESSAGE_MAX + 1);
	sn__buf_init(&m->path, 16 * SN_RETHINK_PATH_MAX);
	sn__buf_init(&m->body, 2 * SN_RETHINK_MESSAGE_MAX);
	sn__buf_init(&m->found, TEXT_MAX);
	answer_init(&m->answer);
}

static void buf_reset(struct sn_buf *b)
{
	if (b->cap > KEEP_MAX)
		sn__buf_finish(b);
	else
		sn__buf_clear(b);
}

static void message_reset(struct sn_operation *op)
{
	struct message *m = message_of(op);

	if (m->arena.used > KEEP_MAX)
		sn__arena_finish(&m->arena);
	else
		sn__arena_reset(&m->arena);
	buf_reset(&m->in);
	buf_reset(&m->path);
	buf_reset(&m->body);
	buf_reset(&m->found);
	buf_reset(&m->answer.text);
	m->answer.silent = false;
	m->hyperties = (struct sn_rethink_words){NULL, 0};
	m->next = 0;
	m->poll = false;
}

static void message_finish(struct sn_operation *op)
{
	struct message *m = message_of(op);

	sn__rethink_ask_finish(&m->ask);
	sn__arena_finish(&m->arena);
	sn__buf_finish(&m->in);
	sn__buf_finish(&m->path);
	sn__buf_finish(&m->body);
	sn__buf_finish(&m->found);
	sn__buf_finish(&m->answer.text);
}

static void message_cancel(struct sn_operation *op)
{
}

/* What is said when there is no memory to say more. */
static const char *last_words(const struct message *m)
{
	return m->plan.bare ? "{\"body\":{\"code\":500,\"description\":\"Internal Server Error\"}}"
			    : "{\"type\":\"response\",\"body\":{\"code\":500,\"description\":"
			      "\"Internal Server Error\"}}";
}

static void tell(const struct sn_listener *listener, void *p, const struct sn_error *err)
{
	sn_rethink_fn *fn = (sn_rethink_fn *)listener->fn;
	struct answer *a = p;

	if (a->silent) {
		fn(NULL, listener->arg);
		return;
	}
	fn(a->text.len > 0 ? sn__buf_data(&a->text)
			   : last_words(SN_CONTAINER_OF(a, struct message, answer)),
			listener->arg);
}

static int message_start(struct sn_operation *op, struct sn_error *err);

static const struct sn_operation_type message_type = {
		.size = sizeof(struct message),
		.init = message_init,
		.reset = message_reset,
		.finish = message_finish,
		.start = message_start,
		.cancel = message_cancel,
		.answer = offsetof(struct message, answer),
		.answer_size = sizeof(struct answer),
		.answer_init = answer_init,
		.answer_destroy = answer_destroy,
		.tell = tell,
};

/* ---- the end of a message ---- */

static void closing_go_on(struct sn_rethink *c);

static void message_end(struct message *m)
{
	struct sn_rethink *c = m->c;

	if (!m->poll)
		sn__operation_end(&m->op, true, NULL);
	else
		sn__operation_give(&m->op);
	if (atomic_fetch_sub(&c->in_flight, 1) == 1 && c->closing)
		closing_go_on(c);
}

/* @reply NULL: the plan has the code. */
static void answer(struct message *m, const struct sn_rethink_reply *reply)
{
	m->answer.silent = m->plan.kind == SN_RETHINK_SILENT;
	if (!m->answer.silent &&
			sn__rethink_answer(&m->plan, &m->c->style, reply, &m->arena,
					&m->answer.text) < 0)
		sn__buf_clear(&m->answer.text); /* the last words */
	message_end(m);
}

static void answer_run(struct sn_task *task)
{
	answer(SN_CONTAINER_OF(task, struct message, task), NULL);
}

/* Something of ours failed. */
static void give_up(struct message *m, unsigned code)
{
	m->plan.code = code;
	answer(m, NULL);
}

/* ---- notifications ---- */

static struct sn_str domain_of(const struct sn_rethink *c)
{
	return c->style.domain.len > 0 ? c->style.domain : sn__buf_str(&c->domain);
}

/* @url: text; @status: a JSON string. */
static int notify(struct sn_str url, struct sn_str status, void *arg)
{
	struct sn_rethink *c = arg;
	struct sn_buf text;
	int r;

	sn__buf_init(&text, 64u << 10);
	r = sn__rethink_notification(c->n_told + 1, domain_of(c), url, status, &text);
	if (r == 0) {
		c->n_told++;
		c->notify(sn__buf_data(&text), c->notify_arg);
	} else {
		sn__log(&c->rt->log, SN_LOG_WARNING, "rethink", "a change was not told: %s",
				sn_strerror(r));
	}
	sn__buf_finish(&text);
	return r == SN_E_LIMIT ? 0 : r;
}

static void poll_again(struct sn_rethink *c);

static void poll_answered(struct sn_rethink_ask *ask, const struct sn_rethink_reply *reply)
{
	struct message *m = SN_CONTAINER_OF(ask, struct message, ask);
	struct sn_rethink *c = m->c;
	int r = sn__rethink_changes(reply, &m->arena, notify, c);

	if (r < 0 && !c->closing)
		sn__log(&c->rt->log, SN_LOG_WARNING, "rethink", "poll for changes: %s",
				reply->error != NULL ? reply->error
						: r == SN_E_STATE
						? "the registry's answer is no map"
						: sn_strerror(r));
	c->polling = false;
	poll_again(c);
	message_end(m);
}

/* Not before a domain is known: asking empties the registry's list, and nobody could be told. */
static void poll_now(struct sn_rethink *c)
{
	struct sn_operation *op;
	struct message *m;

	if (c->polling || c->closing || c->notify == NULL || domain_of(c).len == 0)
		return;
	if (sn__operation_take(c->ops, &op) < 0)
		return;
	m = message_of(op);
	m->c = c;
	m->poll = true;
	m->ask.method = SN_RETHINK_GET;
	m->ask.path = SN_STR("/registry/updated");
	m->ask.fn = poll_answered;
	c->polling = true;
	atomic_fetch_add(&c->in_flight, 1);
	sn__rethink_ask(&c->table, &m->ask);
}

static void on_poll_timer(struct sn_timer *timer)
{
	struct sn_rethink *c = SN_CONTAINER_OF(timer, struct sn_rethink, timer);

	poll_now(c);
	if (!c->polling)
		poll_again(c);
}

static void poll_again(struct sn_rethink *c)
{
	if (c->notify != NULL && c->config.poll_interval_ms > 0 && !c->closing)
		sn__timer_start(c->rt->loop, &c->timer, sn_ms_to_ns(c->config.poll_interval_ms),
				on_poll_timer);
}

static void on_poll_task(struct sn_task *task)
{
	struct sn_rethink *c = SN_CONTAINER_OF(task, struct sn_rethink, poll_task);

	atomic_store(&c->poll_queued, false);
	poll_now(c);
}

/* ---- one message ---- */

static void owner_next(struct message *m);

static void owner_answered(struct sn_rethink_ask *ask, const struct sn_rethink_reply *reply)
{
	struct message *m = SN_CONTAINER_OF(ask, struct message, ask);
	int r = sn__rethink_owner_objects(&m->plan, reply, &m->arena, &m->found);

	if (r == SN_E_STATE) {
		m->plan.hyperty = false;
		answer(m, reply);
	} else if (r < 0) {
		give_up(m, 500);
	} else {
		owner_next(m);
	}
}

/* All are asked: what they reported, as one map. */
static void owner_end(struct message *m)
{
	struct sn_rethink_reply none = {.status = 404}, all = {.status = 200};
	int r = 0;

	if (m->found.len == 0) {
		answer(m, &none);
		return;
	}
	r = sn__buf_append(&m->found, "}", 1);
	if (r == 0) {
		all.body = sn__buf_str(&m->found);
		m->plan.scheme = (struct sn_str){NULL, 0};
		answer(m, &all);
		return;
	}
	give_up(m, 500);
}

static void owner_next(struct message *m)
{
	int r;

	if (m->next == m->hyperties.n) {
		owner_end(m);
		return;
	}
	sn__buf_clear(&m->path);
	r = sn__rethink_reporter(m->hyperties.v[m->next++], m->plan.query, &m->path);
	if (r < 0) {
		give_up(m, r == SN_E_LIMIT ? 414 : 500);
		return;
	}
	m->ask.path = sn__buf_str(&m->path);
	m->ask.fn = owner_answered;
	sn__rethink_ask(&m->c->table, &m->ask);
}

static void owner_known(struct sn_rethink_ask *ask, const struct sn_rethink_reply *reply)
{
	struct message *m = SN_CONTAINER_OF(ask, struct message, ask);
	int r = sn__rethink_owner_hyperties(&m->plan, reply, &m->arena, &m->hyperties);

	if (r == SN_E_STATE)
		answer(m, reply);
	else if (r < 0)
		give_up(m, 500);
	else
		owner_next(m);
}

static void answered(struct sn_rethink_ask *ask, const struct sn_rethink_reply *reply)
{
	struct message *m = SN_CONTAINER_OF(ask, struct message, ask);
	struct sn_rethink *c = m->c;

	if (m->plan.kind == SN_RETHINK_UPDATE && c->notify != NULL &&
			sn__rethink_update_told(&m->plan, reply, &m->arena))
		(void)!notify(m->plan.target, m->plan.status, c);
	answer(m, reply);
}

/* The provider's domain is what messages say, unless it is set. */
static void learn_domain(struct sn_rethink *c, const struct sn_rethink_plan *plan)
{
	if (c->notify == NULL || c->style.domain.len > 0 || plan->domain.len == 0 ||
			sn_str_eq(plan->domain, sn__buf_str(&c->domain)))
		return;
	sn__buf_clear(&c->domain);
	if (sn__buf_append_str(&c->domain, plan->domain) < 0)
		sn__buf_clear(&c->domain);
}

static int message_start(struct sn_operation *op, struct sn_error *err)
{
	struct message *m = message_of(op);
	struct sn_rethink *c = m->c;

	learn_domain(c, &m->plan);
	if (m->plan.kind == SN_RETHINK_ANSWER || m->plan.kind == SN_RETHINK_SILENT) {
		sn__loop_defer(c->rt->loop, &m->task, answer_run);
		return 0;
	}
	m->ask.method = m->plan.method;
	m->ask.path = sn__buf_str(&m->path);
	m->ask.body = sn__buf_str(&m->body);
	m->ask.fn = answered;
	if (m->plan.kind == SN_RETHINK_OWNER && m->plan.single.len == 0)
		m->ask.fn = owner_known;
	else if (m->plan.kind == SN_RETHINK_OWNER)
		m->ask.fn = owner_answered;
	sn__rethink_ask(&c->table, &m->ask);
	return 0;
}

/* ---- taking messages ---- */

/* What a public function was given. */
struct asked {
	struct sn_rethink *c;
	enum sn_rethink_asked what;
	struct sn_str message, user, hyperty, value;
};

static int keep(struct message *m, struct sn_str text, struct sn_str *ret_kept)
{
	int r;

	if (text.len > m->in.max)
		return SN_E_LIMIT;
	r = sn__buf_append_str(&m->in, text);
	*ret_kept = sn__buf_str(&m->in);
	return r;
}

static int plan(struct message *m, const struct asked *a)
{
	struct sn_str message;
	int r;

	switch (a->what) {
	case ASK_MESSAGE:
		r = a->message.len > SN_RETHINK_MESSAGE_MAX ? SN_E_LIMIT
							    : keep(m, a->message, &message);
		if (r == SN_E_LIMIT) {
			m->plan = (struct sn_rethink_plan){.kind = SN_RETHINK_ANSWER, .code = 413};
			return 0;
		}
		if (r < 0)
			return r;
		return sn__rethink_plan(
				message, &a->c->style, &m->arena, &m->path, &m->body, &m->plan);
	case ASK_USER:
		return sn__rethink_plan_get(a->user, &m->path, &m->plan);
	case ASK_ADD:
		return sn__rethink_plan_add(a->user, a->hyperty, a->value, &m->arena, &m->path,
				&m->body, &m->plan);
	default:
		return sn__rethink_plan_delete(a->user, a->hyperty, &m->path, &m->plan);
	}
}

/* Too many at once: said in the message's own terms. */
static void overload(struct message *m)
{
	if (m->plan.kind != SN_RETHINK_SILENT) {
		m->plan.kind = SN_RETHINK_ANSWER;
		m->plan.code = 503;
	}
}

static int submit(struct sn_rethink *c, const struct asked *a, const struct sn_listener *listener,
		struct sn_error *err)
{
	struct sn_operation *op;
	struct message *m;
	int r = sn__operation_take(c->ops, &op);

	if (r < 0)
		return r;
	m = message_of(op);
	m->c = c;
	r = plan(m, a);
	if (r < 0) {
		sn__operation_give(op);
		return r;
	}
	if (atomic_fetch_add(&c->in_flight, 1) >= (unsigned)c->config.max_inflight)
		overload(m);
	return sn__operation_submit(op, listener, NULL, err);
}

static int asked_enter(struct sn_runtime *rt, void *arg, const struct sn_listener *listener,
		struct sn_call_id *ret_id, struct sn_error *err)
{
	const struct asked *a = arg;
	int r = sn__enter(rt);

	if (r == 0) {
		r = submit(a->c, a, listener, err);
		sn__leave(rt);
	}
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : r;
}

static int ask(struct asked *a, sn_rethink_fn *fn, void *arg)
{
	const struct sn_listener listener = {.fn = (void (*)(void))fn, .arg = arg};
	struct sn_error err;

	return asked_enter(a->c->rt, a, &listener, NULL, &err);
}

static int ask_wait(struct asked *a, char **ret_response)
{
	void *got = NULL;
	struct answer *one;
	const char *words = "{\"type\":\"response\",\"body\":{\"code\":500}}";
	int r = sn__operation_wait(a->c->rt, &message_type, asked_enter, a, &got, NULL);

	if (r < 0)
		return r;
	one = got;
	*ret_response = NULL;
	if (!one->silent) {
		*ret_response = sn__strdup(one->text.len > 0 ? sn__buf_data(&one->text) : words);
		r = *ret_response != NULL ? 0 : SN_E_NOMEM;
	}
	answer_destroy(one);
	return r;
}

int sn_rethink_process(struct sn_rethink *c, const char *message, size_t size, sn_rethink_fn *fn,
		void *arg)
{
	return ask(&(struct asked){.c = c, .what = ASK_MESSAGE, .message = {message, size}}, fn,
			arg);
}

int sn_rethink_process_message(
		struct sn_rethink *c, const char *message, sn_rethink_fn *fn, void *arg)
{
	return sn_rethink_process(c, message, strlen(message), fn, arg);
}

int sn_rethink_get_user(struct sn_rethink *c, const char *user, sn_rethink_fn *fn, void *arg)
{
	return ask(&(struct asked){.c = c, .what = ASK_USER, .user = sn_str_from(user)}, fn, arg);
}

int sn_rethink_add_hyperty(struct sn_rethink *c, const char *user, const char *hyperty,
		const char *value, sn_rethink_fn *fn, void *arg)
{
	return ask(&(struct asked){.c = c,
				   .what = ASK_ADD,
				   .user = sn_str_from(user),
				   .hyperty = sn_str_from(hyperty),
				   .value = sn_str_from(value)},
			fn, arg);
}

int sn_rethink_delete_hyperty(struct sn_rethink *c, const char *user, const char *hyperty,
		sn_rethink_fn *fn, void *arg)
{
	return ask(&(struct asked){.c = c,
				   .what = ASK_DELETE,
				   .user = sn_str_from(user),
				   .hyperty = sn_str_from(hyperty)},
			fn, arg);
}

int sn_rethink_process_message_wait(struct sn_rethink *c, const char *message, char **ret_response)
{
	return ask_wait(&(struct asked){.c = c,
					.what = ASK_MESSAGE,
					.message = sn_str_from(message)},
			ret_response);
}

int sn_rethink_get_user_wait(struct sn_rethink *c, const char *user, char **ret_response)
{
	return ask_wait(&(struct asked){.c = c, .what = ASK_USER, .user = sn_str_from(user)},
			ret_response);
}

int sn_rethink_add_hyperty_wait(struct sn_rethink *c, const char *user, const char *hyperty,
		const char *value, char **ret_response)
{
	return ask_wait(&(struct asked){.c = c,
					.what = ASK_ADD,
					.user = sn_str_from(user),
					.hyperty = sn_str_from(hyperty),
					.value = sn_str_from(value)},
			ret_response);
}

int sn_rethink_delete_hyperty_wait(
		struct sn_rethink *c, const char *user, const char *hyperty, char **ret_response)
{
	return ask_wait(&(struct asked){.c = c,
					.what = ASK_DELETE,
					.user = sn_str_from(user),
					.hyperty = sn_str_from(hyperty)},
			ret_response);
}

int sn_rethink_poll(struct sn_rethink *c)
{
	int r = sn__enter(c->rt);

	if (r < 0)
		return r;
	if (c->notify == NULL)
		r = SN_E_STATE;
	else if (!atomic_exchange(&c->poll_queued, true))
		sn__loop_post(c->rt->loop, &c->poll_task, on_poll_task);
	sn__leave(c->rt);
	return r;
}

/* ---- opening ---- */

static const char *environment(const char *name, void *arg)
{
	return getenv(name);
}

static int read_settings(struct sn_rethink *c, const struct sn_rethink_options *o,
		struct sn_problems *problems)
{
	struct sn_error err;
	int r = sn__yaml_parse(
			&c->yaml, "config", sn_str_from(o->config != NULL ? o->config : ""), &err);

	if (r < 0)
		return sn__problem_from(problems, &err);
	sn__arena_init(&c->arena, 1024, (size_t)1 << 20);
	r = sn__options_read(sn__rethink_options, c->yaml.root, &c->config, &c->arena, problems);
	if (r < 0)
		return r;
	return sn__rethink_config_check(&c->config, c->yaml.root, o->url,
			o->environment ? environment : NULL, NULL, &c->arena, problems);
}

static int check_files(const struct sn_rethink *c, struct sn_error *err)
{
	const struct sn_rethink_ssl *ssl = &c->config.ssl;
	const struct sn_tls_options tls = {.ca = ssl->ca,
			.cert = ssl->cert,
			.key = ssl->key,
			.key_password = ssl->passphrase};

	return ssl->enabled ? sn__tls_check(&tls, false, err) : 0;
}

static int settings(struct sn_rethink *c, const struct sn_rethink_options *o, struct sn_error *err)
{
	struct sn_problems problems;
	int r;

	sn__problems_init(&problems, NULL);
	r = read_settings(c, o, &problems);
	if (r == SN_E_NOMEM)
		(void)sn__error_set(err, r, "out of memory");
	else if (r < 0)
		(void)sn__problems_to_error(&problems, r, err);
	sn__problems_finish(&problems);
	if (r < 0)
		return r;
	c->style = sn__rethink_style(&c->config);
	c->notify = c->config.notifications ? o->notify : NULL;
	c->notify_arg = o->notify_arg;
	return check_files(c, err);
}

static int check_options(const struct sn_rethink_options *o, struct sn_error *err)
{
	const struct sn_rethink_shim *s = o->shim;

	if (o->size != sizeof(*o))
		return sn__error_set(err, SN_E_INVALID,
				"options.size is %zu: use SN_RETHINK_OPTIONS_INIT", o->size);
	if (s != NULL &&
			(s->size != sizeof(*s) || s->get == NULL || s->put == NULL ||
					s->del == NULL))
		return sn__error_set(err, SN_E_INVALID,
				"options.shim must have its size, get, put and del");
	return 0;
}

static void destroy(struct sn_rethink *c)
{
	if (c == NULL)
		return;
	sn__operations_destroy(c->ops);
	sn__buf_finish(&c->domain);
	sn__yaml_finish(&c->yaml);
	sn__arena_finish(&c->arena);
	sn__free(c);
}

/* The table given, else that for the caller's loop, else that with a thread. */
static int choose_table(
		struct sn_rethink *c, const struct sn_rethink_options *o, struct sn_error *err)
{
	struct sn_rethink_table *t = &c->table;
	int r = 0;

	c->rt = o->rt;
	if (c->rt == NULL) {
		r = sn__rethink_thread_open(&c->thread, err);
		if (r < 0)
			return r;
		c->rt = sn__rethink_thread_runtime(c->thread);
	}
	sn__rethink_table_init(t, c->rt, &c->config);
	if (o->shim != NULL) {
		t->shim = o->shim;
		t->host = o->shim_host;
		t->foreign = true;
		return 0;
	}
	r = sn__rethink_loop_create(c->rt, &c->config, &c->loop, err);
	if (r < 0)
		return r;
	t->shim = &sn__rethink_loop_shim;
	t->host = c->loop;
	if (c->thread != NULL) {
		sn__rethink_thread_use(c->thread, c->loop);
		t->shim = &sn__rethink_thread_shim;
		t->host = c->thread;
	}
	return 0;
}

static void open_run(struct sn_task *task)
{
	struct sn_rethink *c = SN_CONTAINER_OF(task, struct sn_rethink, open_task);

	if (c->loop != NULL)
		sn__rethink_loop_start(c->loop);
	poll_again(c);
}

static int open_connector(
		const struct sn_rethink_options *o, struct sn_rethink **ret_c, struct sn_error *err)
{
	struct sn_rethink *c;
	int r = check_options(o, err);

	if (r < 0)
		return r;
	c = sn__calloc(1, sizeof(*c));
	if (c == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	sn__buf_init(&c->domain, 1024);
	r = settings(c, o, err);
	if (r == 0)
		r = choose_table(c, o, err);
	if (r == 0) {
		r = sn__operations_create(c->rt, &message_type, &c->ops);
		if (r < 0)
			(void)sn__error_set(err, r, "out of memory");
	}
	if (r < 0) {
		sn__rethink_loop_destroy(c->loop);
		sn__rethink_thread_close(c->thread);
		destroy(c);
		return r;
	}
	/* Before every message of this thread, and of those that hear of it from this one. */
	sn__loop_post(c->rt->loop, &c->open_task, open_run);
	*ret_c = c;
	return 0;
}

int sn_rethink_open(const struct sn_rethink_options *opts, struct sn_rethink **ret_c,
		struct sn_error **ret_error)
{
	struct sn_error err;
	int r = opts->rt != NULL ? sn__enter(opts->rt) : 0;

	if (r < 0) {
		(void)sn__error_set(&err, r, "%s", sn_strerror(r));
	} else {
		r = open_connector(opts, ret_c, &err);
		if (opts->rt != NULL)
			sn__leave(opts->rt);
	}
	if (r < 0)
		sn__error_give(&err, ret_error);
	return r;
}

/* ---- closing ---- */

static void closed_run(struct sn_task *task)
{
	struct sn_rethink *c = SN_CONTAINER_OF(task, struct sn_rethink, close_task);
	void (*done)(void *arg) = c->done;
	void *arg = c->done_arg;

	if (c->waiter != NULL) {
		sn__wait_wake(c->waiter); /* who waits does the rest */
		return;
	}
	destroy(c);
	if (done != NULL)
		done(arg);
}

/* Over when all messages are answered, a host has answered all it was asked, and the mesh has
 * forgotten the registry. */
static void closing_go_on(struct sn_rethink *c)
{
	if (c->over || !c->table_idle || !c->loop_closed || atomic_load(&c->in_flight) > 0)
		return;
	c->over = true;
	sn__loop_defer(c->rt->loop, &c->close_task, closed_run);
}

static void table_idle(void *arg)
{
	struct sn_rethink *c = arg;

	c->table_idle = true;
	closing_go_on(c);
}

static void loop_closed(void *arg)
{
	struct sn_rethink *c = arg;

	c->loop = NULL;
	c->loop_closed = true;
	closing_go_on(c);
}

static void close_run(struct sn_task *task)
{
	struct sn_rethink *c = SN_CONTAINER_OF(task, struct sn_rethink, close_task);

	c->closing = true;
	sn__timer_stop(c->rt->loop, &c->timer);
	c->loop_closed = c->loop == NULL;
	sn__rethink_table_close(&c->table, table_idle, c);
	if (c->loop != NULL)
		sn__rethink_loop_close(c->loop, loop_closed, c);
}

void sn__rethink_close(struct sn_rethink *c, void (*done)(void *arg), void *arg)
{
	c->done = done;
	c->done_arg = arg;
	sn__loop_post(c->rt->loop, &c->close_task, close_run);
}

int sn_rethink_close(struct sn_rethink *c, void (*done)(void *arg), void *arg)
{
	struct sn_rethink_thread *thread;
	struct sn_wait wait;
	int r;

	if (c == NULL)
		return 0;
	thread = c->thread;
	r = sn__enter(c->rt);
	if (r < 0)
		return r;
	r = sn__wait_init(&wait, c->rt);
	if (r == SN_E_DEADLK && thread != NULL) {
		sn__leave(c->rt);
		return r;
	}
	if (r < 0) {
		sn__rethink_close(c, done, arg);
		sn__leave(c->rt);
		return 0;
	}
	c->waiter = &wait;
	sn__loop_post(c->rt->loop, &c->close_task, close_run);
	sn__wait_for(&wait, UINT64_MAX);
	sn__wait_finish(&wait);
	sn__leave(c->rt);
	sn__rethink_thread_close(thread); /* what still lies on its loop ends there */
	destroy(c);
	if (done != NULL)
		done(arg);
	return 0;
}
