/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_BUS_WORLD_TEST_H
#define SN_SRC_HUB_BUS_WORLD_TEST_H

/*
 * Internal, tests only: a bus in a simulated world with subscribers of every mood, a log that can be
 * slow, fail and crash, and a link between buses. None of the helpers' memory is the library's, so that
 * it never runs short.
 */

#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "connect/driver.h"
#include "hub/bus.h"
#include "io/sim.h"

#define BW_SUBS 16
#define BW_EVENTS 4096
#define BW_OPS 4096
#define BW_BUSES 2

/* ---- a log in memory, which a bus that is opened anew finds as it was ---- */

struct bw_kept {
	uint64_t seq, id[2], wanted; /* wanted: bits by number of subscriber */
	unsigned number;
	char type[8];
	bool all, committed;
};

struct bw_log_op {
	struct sn_timer timer;
	struct bw_log *log;
	struct sn_list link; /* bw_log.ops */
	uint64_t seq;        /* keep */
	const char *id;      /* read */
	char id_text[8];
	uint64_t after, upto; /* upto: what had been kept when it was asked for */
	unsigned limit;
	void (*event)(void *arg, uint64_t seq, struct sn_bus_event *event);
	void (*done)(void *arg, int code);
	void *arg;
};

struct bw_log {
	struct sn_bus_log log; /* first */
	struct sn_loop *loop;
	struct sn_rng *rng;
	struct bw_kept kept[BW_EVENTS];
	unsigned n_kept;
	struct bw_log_op pool[BW_OPS];
	struct sn_list ops;
	unsigned fail, delay_ms, forgotten;
	uint64_t last_ns;
	bool dead; /* the process is dying: nothing is written any more */
	struct sn_task task;
	void (*closed)(void *arg);
	void *closed_arg;
};

static inline unsigned bw_number(const char *id)
{
	return (unsigned)(id[1] - 'a'); /* "sa", "sb", ... */
}

static inline void bw_log_ended(struct bw_log *l, struct bw_log_op *o)
{
	sn_list_remove(&o->link);
	o->log = NULL;
	if (sn_list_empty(&l->ops) && l->closed != NULL)
		l->closed(l->closed_arg);
}

static inline struct sn_bus_event *bw_event(
		struct sn_rng *rng, const char *type, unsigned number, bool all)
{
	struct sn_bus_event *e;
	char data[16];

	(void)snprintf(data, sizeof data, "%u", number);
	if (sn__bus_event_create(sn_str_from(type), SN_STR("tester"), sn_str_from(data), all, rng,
			    &e) < 0)
		return NULL;
	return e;
}

static inline unsigned bw_event_number(const struct sn_bus_event *e)
{
	uint64_t n = 0;

	assert_int_equal(sn__parse_u64(e->data, UINT32_MAX, &n), 0);
	return (unsigned)n;
}

static inline int bw_log_read(struct bw_log *l, struct bw_log_op *o)
{
	unsigned n = 0, me = bw_number(o->id_text);

	for (unsigned i = 0; i < l->n_kept && n < o->limit; i++) {
		struct bw_kept *k = &l->kept[i];
		struct sn_bus_event *e;

		if (k->seq <= o->after || k->seq > o->upto || (k->wanted & UINT64_C(1) << me) == 0)
			continue;
		e = bw_event(l->rng, k->type, k->number, k->all);
		if (e == NULL)
			return SN_E_NOMEM;
		e->id[0] = k->id[0];
		e->id[1] = k->id[1];
		o->event(o->arg, k->seq, e);
		n++;
	}
	return 0;
}

static inline void bw_log_run(struct sn_timer *t)
{
	struct bw_log_op *o = SN_CONTAINER_OF(t, struct bw_log_op, timer);
	struct bw_log *l = o->log;
	/* A process that died has told nobody; here it ends as a failure. */
	bool fail = l->dead || (l->fail > 0 && sn__rng_below(l->rng, 1000) < l->fail);
	int code = fail ? SN_E_IO : 0;

	if (o->event != NULL && !fail)
		code = bw_log_read(l, o);
	for (unsigned i = 0; o->event == NULL && i < l->n_kept; i++)
		if (l->kept[i].seq == o->seq) {
			l->kept[i].committed = !fail;
			if (fail)
				l->kept[i].wanted = 0;
		}
	o->done(o->arg, code);
	bw_log_ended(l, o);
}

static inline struct bw_log_op *bw_log_op(struct bw_log *l)
{
	struct bw_log_op *o = l->pool;
	uint64_t now = sn__loop_now_ns(l->loop), at = now;

	while (o->log != NULL)
		assert_true(++o < l->pool + BW_OPS);
	memset(o, 0, sizeof *o);
	o->log = l;
	sn_list_push_back(&l->ops, &o->link);
	if (l->delay_ms > 0)
		at += sn_ms_to_ns(sn__rng_below(l->rng, l->delay_ms + 1));
	l->last_ns = SN_MAX(at, l->last_ns);
	sn__timer_start(l->loop, &o->timer, l->last_ns - now, bw_log_run);
	return o;
}

static inline int bw_log_keep(struct sn_bus_log *log, uint64_t seq, struct sn_bus_event *event,
		const char *const *ids, void (*done)(void *arg, int code), void *arg)
{
	struct bw_log *l = (struct bw_log *)log;
	struct bw_kept *k;
	struct bw_log_op *o;

	assert_true(l->n_kept < BW_EVENTS);
	assert_true(l->n_kept == 0 || seq > l->kept[l->n_kept - 1].seq);
	k = &l->kept[l->n_kept++];
	*k = (struct bw_kept){.seq = seq,
			.id = {event->id[0], event->id[1]},
			.number = bw_event_number(event),
			.all = event->all};
	(void)snprintf(k->type, sizeof k->type, "%.*s", (int)event->type.len, event->type.ptr);
	for (; *ids != NULL; ids++)
		k->wanted |= UINT64_C(1) << bw_number(*ids);
	assert_true(k->wanted != 0);
	o = bw_log_op(l);
	o->seq = seq;
	o->done = done;
	o->arg = arg;
	return 0;
}

static inline void bw_log_forget(struct sn_bus_log *log, uint64_t seq, const char *id)
{
	struct bw_log *l = (struct bw_log *)log;

	l->forgotten++;
	for (unsigned i = 0; !l->dead && i < l->n_kept; i++)
		if (l->kept[i].seq == seq)
			l->kept[i].wanted &= ~(UINT64_C(1) << bw_number(id));
}

static inline int bw_log_start_read(struct sn_bus_log *log, const char *id, uint64_t after,
		unsigned limit, void (*event)(void *arg, uint64_t seq, struct sn_bus_event *event),
		void (*done)(void *arg, int code), void *arg)
{
	struct bw_log_op *o = bw_log_op((struct bw_log *)log);

	(void)snprintf(o->id_text, sizeof o->id_text, "%s", id);
	o->after = after;
	o->upto = o->log->n_kept > 0 ? o->log->kept[o->log->n_kept - 1].seq : 0;
	o->limit = limit;
	o->event = event;
	o->done = done;
	o->arg = arg;
	return 0;
}

static inline void bw_log_drop(struct sn_bus_log *log, const char *id)
{
	struct bw_log *l = (struct bw_log *)log;

	for (unsigned i = 0; i < l->n_kept; i++)
		l->kept[i].wanted &= ~(UINT64_C(1) << bw_number(id));
}

static inline void bw_log_closed(struct sn_task *task)
{
	struct bw_log *l = SN_CONTAINER_OF(task, struct bw_log, task);

	l->closed(l->closed_arg);
}

static inline void bw_log_close(struct sn_bus_log *log, void (*done)(void *arg), void *arg)
{
	struct bw_log *l = (struct bw_log *)log;

	l->closed = done;
	l->closed_arg = arg;
	if (sn_list_empty(&l->ops))
		sn__loop_defer(l->loop, &l->task, bw_log_closed);
}

/* As the next process finds it. */
static inline void bw_log_reopen(struct bw_log *l)
{
	unsigned n = 0;

	l->closed = NULL;
	l->dead = false;
	l->log.last = 0;
	for (unsigned i = 0; i < l->n_kept; i++) {
		if (!l->kept[i].committed)
			continue;
		l->log.last = l->kept[i].seq;
		if (l->kept[i].wanted != 0 || i + 1 == l->n_kept)
			l->kept[n++] = l->kept[i];
	}
	l->n_kept = n;
}

/* ---- a link between the buses of a world ---- */

struct bw_sent {
	struct sn_timer timer;
	struct bw_link *link;
	struct sn_bus_event *event;
	void *token;
	int code;
};

struct bw_link {
	struct sn_bus_link link; /* first */
	struct bw_link *other;
	struct sn_loop *loop;
	struct bw_sent sent[64];
	unsigned n_out, n_received, fail, done;
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
	struct sn_task task;
};

static inline void bw_received(void *arg, int code)
{
	((struct bw_link *)arg)->done++;
	assert_true(code == 0 || code == SN_E_CLOSED);
}

static inline void bw_link_run(struct sn_timer *t)
{
	struct bw_sent *s = SN_CONTAINER_OF(t, struct bw_sent, timer);
	struct bw_link *l = s->link, *to = l->other;

	l->n_out--;
	s->link = NULL;
	if (s->code == 0 && to != NULL && !to->closing && to->link.bus != NULL &&
			sn__bus_link_received(&to->link, s->event, bw_received, to) == 0)
		to->n_received++;
	sn__bus_link_sent(&l->link, s->token, l->closing ? SN_E_CLOSED : s->code);
	if (l->n_out == 0 && l->closing)
		l->closed(l->closed_arg);
}

static inline void bw_link_send(struct sn_bus_link *link, struct sn_bus_event *event, void *token)
{
	struct bw_link *l = (struct bw_link *)link;
	struct bw_sent *s = l->sent;

	while (s->link != NULL)
		assert_true(++s < l->sent + SN_COUNT(l->sent));
	*s = (struct bw_sent){.link = l, .event = event, .token = token};
	if (l->fail > 0) {
		l->fail--;
		s->code = SN_E_CONNECT;
	}
	l->n_out++;
	sn__timer_start(l->loop, &s->timer, SN_NS_PER_MS, bw_link_run);
}

static inline void bw_link_closed(struct sn_task *task)
{
	struct bw_link *l = SN_CONTAINER_OF(task, struct bw_link, task);

	l->closed(l->closed_arg);
}

static inline void bw_link_close(struct sn_bus_link *link, void (*done)(void *arg), void *arg)
{
	struct bw_link *l = (struct bw_link *)link;

	l->closing = true;
	l->closed = done;
	l->closed_arg = arg;
	if (l->n_out == 0)
		sn__loop_defer(l->loop, &l->task, bw_link_closed);
}

/* ---- subscribers ---- */

enum bw_mood { BW_TAKES, BW_FAILS, BW_SILENT, BW_SLOW, BW_LEAVES };

struct bw_flight {
	struct sn_timer timer;
	struct bw_sub *sub;
	struct sn_bus_event *event;
};

struct bw_sub {
	struct sn_bus_subscriber s; /* first */
	struct bw *w;
	enum bw_mood mood;
	unsigned slow_ms, poison; /* poison: the number that always fails */
	struct bw_flight flight[64];
	unsigned n_flight, max_flight;
	unsigned got[BW_EVENTS], n_got; /* numbers, in order of taking */
	unsigned n_tries, gone;
	char id[4];
};

/* ---- publications ---- */

struct bw_pub {
	struct sn_bus_publish p; /* first */
	unsigned done, subscribers, results, failed_results;
	int code, last_result;
};

struct bw {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_bus *bus, *second;
	struct bw_log log;
	struct bw_link links[BW_BUSES];
	struct bw_sub subs[BW_SUBS];
	struct bw_pub pubs[BW_EVENTS];
	unsigned n_pubs;
	struct sn_rng rng;
	int64_t live;
	bool with_log, with_link;
	const char *path;  /* of a log in a file, instead */
	uint64_t kept_max; /* of that; 0: its own */
};

static inline void bw_answer(struct bw_flight *f)
{
	struct bw_sub *sub = f->sub;
	struct sn_bus_event *event = f->event;
	unsigned number = bw_event_number(event);
	int code = sub->mood == BW_FAILS || (sub->poison != 0 && number == sub->poison)
			? SN_E_CONNECT
			: 0;

	f->sub = NULL;
	sub->n_flight--;
	if (code == 0) {
		assert_true(sub->n_got < BW_EVENTS);
		sub->got[sub->n_got++] = number;
	}
	sn__bus_delivered(&sub->s, event, code);
}

static inline void bw_answer_later(struct sn_timer *t)
{
	bw_answer(SN_CONTAINER_OF(t, struct bw_flight, timer));
}

static inline void bw_deliver(struct sn_bus_subscriber *s, struct sn_bus_event *event)
{
	struct bw_sub *sub = (struct bw_sub *)s;
	struct bw_flight *f = sub->flight;

	sub->n_tries++;
	if (sub->mood == BW_LEAVES) {
		sn__bus_detach(s, false);
		return;
	}
	while (f->sub != NULL)
		assert_true(++f < sub->flight + SN_COUNT(sub->flight));
	f->sub = sub;
	f->event = event;
	sub->n_flight++;
	sub->max_flight = SN_MAX(sub->max_flight, sub->n_flight);
	assert_true(sub->n_flight <= s->window);
	if (sub->mood != BW_SILENT)
		sn__timer_start(sub->w->loop, &f->timer,
				sub->mood == BW_SLOW ? sn_ms_to_ns(sub->slow_ms) : 0,
				bw_answer_later);
}

/* Deliveries that are under way are the subscriber's own to give up. */
static inline void bw_give_up(struct bw_sub *sub)
{
	for (unsigned i = 0; i < SN_COUNT(sub->flight); i++) {
		sn__timer_stop(sub->w->loop, &sub->flight[i].timer);
		sub->flight[i].sub = NULL;
	}
	sub->n_flight = 0;
}

static inline void bw_gone(struct sn_bus_subscriber *s)
{
	struct bw_sub *sub = (struct bw_sub *)s;

	sub->gone++;
	bw_give_up(sub);
}

static const struct sn_bus_subscriber_ops bw_ops = {bw_deliver, bw_gone};

static inline struct bw_sub *bw_sub(struct bw *w, unsigned i)
{
	struct bw_sub *sub = &w->subs[i];

	sub->w = w;
	sub->s.ops = &bw_ops;
	(void)snprintf(sub->id, sizeof sub->id, "s%c", 'a' + (int)i);
	sub->s.id = sub->id;
	return sub;
}

static inline struct bw_sub *bw_attach(struct bw *w, unsigned i, const char *type)
{
	struct bw_sub *sub = bw_sub(w, i);

	assert_int_equal(sn__bus_attach(w->bus, &sub->s), 0);
	if (type != NULL)
		assert_int_equal(sn__bus_subscribe(&sub->s, sn_str_from(type)), 0);
	return sub;
}

static inline void bw_detach(struct bw_sub *sub, bool forget)
{
	sn__bus_detach(&sub->s, forget);
	bw_give_up(sub);
}

static inline void bw_check(const struct bw_sub *sub)
{
	const struct sn_bus_subscriber *s = &sub->s;

	assert_true(s->offered == s->delivered + s->failed + s->dropped + s->queued);
}

static inline void bw_done(struct sn_bus_publish *p, int code, unsigned subscribers)
{
	struct bw_pub *pub = (struct bw_pub *)p;

	pub->done++;
	pub->code = code;
	pub->subscribers = subscribers;
}

static inline void bw_result(struct sn_bus_publish *p, const char *subscriber, int code)
{
	struct bw_pub *pub = (struct bw_pub *)p;

	assert_true(subscriber[0] == 's');
	pub->results++;
	pub->failed_results += code < 0;
	pub->last_result = code;
}

/* The event has the publication's number as data. */
static inline struct bw_pub *bw_publish_at(
		struct bw *w, struct sn_bus *bus, const char *type, bool all, bool results)
{
	struct bw_pub *pub = &w->pubs[w->n_pubs];
	struct sn_bus_event *e;
	int code;

	assert_true(w->n_pubs < BW_EVENTS);
	e = bw_event(&w->rng, type, w->n_pubs, all);
	if (e == NULL)
		return NULL;
	memset(pub, 0, sizeof *pub);
	pub->p.done = bw_done;
	pub->p.result = results ? bw_result : NULL;
	code = sn__bus_publish(bus, e, &pub->p);
	sn__bus_event_unref(e);
	if (code < 0)
		return NULL;
	assert_int_equal(pub->done, 0);
	w->n_pubs++;
	return pub;
}

static inline struct bw_pub *bw_publish(struct bw *w, const char *type)
{
	struct bw_pub *pub = bw_publish_at(w, w->bus, type, false, true);

	assert_non_null(pub);
	return pub;
}

/* ---- the world ---- */

static inline void bw_pass(struct bw *w, uint64_t ms)
{
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + sn_ms_to_ns(ms));
}

static inline void bw_set(void *arg)
{
	*(bool *)arg = true;
}

static inline void bw_bus_close(struct bw *w, struct sn_bus **bus)
{
	bool closed = false;

	if (*bus == NULL)
		return;
	sn__bus_close(*bus, bw_set, &closed);
	*bus = NULL;
	for (unsigned i = 0; !closed && i < 10000; i++)
		bw_pass(w, 1);
	assert_true(closed);
}

static inline void bw_log_finish(struct bw *w, struct sn_bus_log *log)
{
	bool closed = false;

	log->close(log, bw_set, &closed);
	for (unsigned i = 0; !closed && i < 1000; i++)
		bw_pass(w, 1);
	assert_true(closed);
}

static inline int bw_bus_open(struct bw *w, const struct sn_bus_options *more)
{
	struct sn_bus_options opts = *more;
	int code;

	if (w->path != NULL) {
		struct sn_connect_host host = {.loop = w->loop};

		code = sn__bus_log_open(&host, w->path, &opts.log, NULL);

		if (code < 0)
			return code;
		if (w->kept_max > 0)
			opts.log->kept_max = w->kept_max;
	}
	if (w->with_log) {
		bw_log_reopen(&w->log);
		opts.log = &w->log.log;
	}
	if (w->with_link) {
		w->links[0].closing = false;
		opts.link = &w->links[0].link;
	}
	code = sn__bus_create(w->loop, &opts, &w->bus);
	if (code < 0 && w->path != NULL)
		bw_log_finish(w, opts.log);
	return code;
}

static inline struct bw *bw_new(uint64_t seed)
{
	struct sn_sim_options opts = {.seed = seed};
	int64_t live = sn__mem_live();
	struct bw *w = test_calloc(1, sizeof *w);

	w->live = live;
	assert_int_equal(sn__sim_create(&opts, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->loop), 0);
	sn__rng_seed(&w->rng, seed);
	w->n_pubs = 1; /* events are numbered from 1 */
	w->log.log = (struct sn_bus_log){.keep = bw_log_keep,
			.forget = bw_log_forget,
			.read = bw_log_start_read,
			.drop = bw_log_drop,
			.close = bw_log_close};
	w->log.loop = w->loop;
	w->log.rng = &w->rng;
	sn_list_init(&w->log.ops);
	for (unsigned i = 0; i < BW_BUSES; i++) {
		w->links[i].link.send = bw_link_send;
		w->links[i].link.close = bw_link_close;
		w->links[i].loop = w->loop;
		w->links[i].other = &w->links[1 - i];
	}
	return w;
}

static inline void bw_free(struct bw *w)
{
	bw_bus_close(w, &w->bus);
	bw_bus_close(w, &w->second);
	for (unsigned i = 0; i < BW_SUBS; i++)
		if (w->subs[i].w != NULL) {
			bw_give_up(&w->subs[i]);
			bw_check(&w->subs[i]);
			assert_int_equal(w->subs[i].s.queued, 0);
		}
	for (unsigned i = 1; i < w->n_pubs; i++)
		if (w->pubs[i].done != 0) /* else forgotten */
			assert_int_equal(w->pubs[i].done, 1);
	sn__loop_close(w->loop, NULL, NULL);
	sn__sim_destroy(w->sim);
	assert_int_equal(sn__mem_live(), w->live);
	test_free(w);
}

#endif
