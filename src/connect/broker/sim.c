/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What travels between a client and the server (`struct travel`) belongs to the client: it arrives in
 * order, unless it may overtake, and is lost when the link is cut meanwhile (`epoch`) or the client
 * leaves. What the server keeps for a durable name (`struct kept`) has an owner while it is out.
 */

#include "connect/broker/sim.h"

#include <stdio.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "base/option.h"
#include "base/test.h"
#include "io/loop.h"

#define CLIENTS 16
#define AHEAD_MAX 1000u /* messages that a subscription keeps without credit */

/* ---- the server ---- */

struct message {
	unsigned refs;
	char *subject, *payload;
	size_t size;
	char id[64];
};

struct sub;
struct kept {
	struct sn_list link; /* durable.kept */
	struct message *m;
	uint64_t seq;
	unsigned attempt;
	uint64_t due_ns; /* when it goes out, for the first time or again */
};

struct durable {
	struct sn_list link; /* sim_server.durables */
	struct sim_server *server;
	char *name, *filter;
	struct sn_list kept;
	struct sub *sub; /* who reads it now */
	struct sn_timer timer;
};

struct sim_server {
	struct sn_sim_broker *pub;
	struct sn_loop *loop;
	struct sn_list clients, durables;
	struct sn_list stored; /* of messages with an id: struct known.link */
	char cut[CLIENTS][16];
	bool all_cut;
	uint64_t seq;
};

struct known {
	struct sn_list link;
	char id[64];
};

static struct sn_sim_broker brokers[SN_SIM_BROKERS];

/* ---- a client ---- */

enum way { TO_SERVER, TO_CLIENT, OUT_OF_ORDER };

struct sending;
struct travel {
	struct sn_list link; /* client.travels */
	struct client *c;
	struct sn_timer timer;
	unsigned epoch;
	void (*arrive)(struct travel *t, bool lost);
	struct sub *sub;
	struct durable *durable;
	struct message *m;
	struct sending *sending;
	uint64_t seq, delay_ms;
	unsigned attempt;
	enum sn_driver_answer answer;
};

struct sending {
	struct sn_list link; /* client.sendings */
	struct client *c;
	struct sn_driver_publish *p; /* NULL: told */
	struct sn_task task;
	bool travels, ending;
	unsigned n;
	struct message *m[];
};

struct delivery {
	struct sn_driver_delivery pub; /* first */
	struct sub *sub;
	struct message *m;
	uint64_t seq; /* 0: not durable */
};

struct sub {
	struct sn_list link; /* client.subs */
	struct client *c;
	struct sn_driver_subscription *pub;
	struct durable *durable;
	struct sn_task task;
	struct message *ahead[AHEAD_MAX];
	unsigned n_ahead;
	uint32_t credit;
	unsigned unanswered;
	bool active, leaving, ended;
};

struct options {
	const char *server, *client;
};
static const struct sn_option option_table[] = {
		{.name = "server",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct options, server),
				.def = "a",
				.help = "Server."},
		{.name = "client",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct options, client),
				.def = "x",
				.help = "Name of its link."},
		{0},
};

struct client {
	struct sn_list link; /* sim_server.clients */
	struct sim_server *server;
	struct sn_loop *loop;
	char name[16];
	struct sn_driver_watch *watch;
	struct sn_timer connect_timer;
	struct sn_task watch_task, close_task;
	struct sn_list travels, sendings, subs;
	unsigned epoch;
	uint64_t last_ns[2]; /* when the latest arrives, each way */
	bool wanted, up, told_up, told, closing, closed;
	void (*done)(void *arg);
	void *arg;
};

static void connect_soon(struct client *c);
static void pump(struct durable *d);
static void close_check(struct client *c);

static bool happens(struct sim_server *s, unsigned chance)
{
	return chance > 0 && sn__rng_below(&s->pub->rng, 1000) < chance;
}

static uint64_t delay_ns(struct sim_server *s)
{
	return s->pub->delay_ms == 0
			? 0
			: sn__rng_below(&s->pub->rng, sn_ms_to_ns(s->pub->delay_ms) + 1);
}

static char *text_copy(const void *text, size_t size)
{
	char *p = test_calloc(1, size + 1);

	if (size > 0)
		memcpy(p, text, size);
	return p;
}

static struct message *message_copy(const struct sn_driver_message *from)
{
	struct message *m = test_calloc(1, sizeof *m);

	m->refs = 1;
	m->subject = text_copy(from->subject, strlen(from->subject));
	m->payload = text_copy(from->payload, from->size);
	m->size = from->size;
	for (size_t i = 0; i < from->n_headers; i++)
		if (strcmp(from->headers[i].name, "Nats-Msg-Id") == 0)
			(void)snprintf(m->id, sizeof m->id, "%s", from->headers[i].value);
	return m;
}

static struct message *message_ref(struct message *m)
{
	m->refs++;
	return m;
}

static void message_unref(struct message *m)
{
	if (m == NULL || --m->refs > 0)
		return;
	test_free(m->subject);
	test_free(m->payload);
	test_free(m);
}

/* ---- what travels ---- */

static void travel_end(struct travel *t, bool lost)
{
	struct client *c = t->c;

	sn__timer_stop(c->loop, &t->timer);
	sn_list_remove(&t->link);
	c->server->pub->lost += lost;
	t->arrive(t, lost);
	message_unref(t->m);
	test_free(t);
}

static void on_arrival(struct sn_timer *timer)
{
	struct travel *t = SN_CONTAINER_OF(timer, struct travel, timer);

	travel_end(t, t->epoch != t->c->epoch || !t->c->up);
}

static struct travel *travel(
		struct client *c, enum way way, void (*arrive)(struct travel *t, bool lost))
{
	struct travel *t = test_calloc(1, sizeof *t);
	uint64_t now = sn__loop_now_ns(c->loop), at = now + delay_ns(c->server);
	uint64_t *last = &c->last_ns[way == TO_SERVER ? 0 : 1];

	t->c = c;
	t->epoch = c->epoch;
	t->arrive = arrive;
	sn_list_push_back(&c->travels, &t->link);
	if (way != OUT_OF_ORDER)
		*last = at = SN_MAX(at, *last + 1);
	sn__timer_start(c->loop, &t->timer, at - now, on_arrival);
	return t;
}

/* ---- publishing ---- */

static void outcomes(struct sn_driver_publish *p, enum sn_driver_verdict verdict,
		enum sn_driver_sent sent, int code)
{
	for (size_t i = 0; i < p->n; i++) {
		p->outcomes[i] = (struct sn_driver_outcome){
				.verdict = verdict, .sent = sent, .code = code};
		(void)snprintf(p->outcomes[i].detail, sizeof p->outcomes[i].detail, "%s",
				sn_strerror(code));
	}
}

static void sending_free(struct sending *s)
{
	struct client *c = s->c;

	if (s->p != NULL || s->travels)
		return;
	for (unsigned i = 0; i < s->n; i++)
		message_unref(s->m[i]);
	sn_list_remove(&s->link);
	test_free(s);
	close_check(c);
}

static void on_told(struct sn_task *task)
{
	struct sending *s = SN_CONTAINER_OF(task, struct sending, task);
	struct sn_driver_publish *p = s->p;

	s->p = NULL;
	p->done(p);
	sending_free(s);
}

/* In a later turn; once. */
static void tell(struct sending *s, enum sn_driver_verdict verdict, enum sn_driver_sent sent,
		int code)
{
	if (s->p == NULL || s->ending)
		return;
	s->ending = true;
	outcomes(s->p, verdict, sent, code);
	sn__loop_defer(s->c->loop, &s->task, on_told);
}

static void on_stored(struct travel *t, bool lost)
{
	struct sending *s = t->sending;

	s->travels = false;
	if (lost)
		tell(s, SN_DRIVER_FAILED, SN_DRIVER_SENT_MAYBE, SN_E_RESET);
	else
		tell(s, SN_DRIVER_OK, SN_DRIVER_SENT_YES, 0);
	sending_free(s);
}

static void on_mute(struct travel *t, bool lost)
{
	t->sending->travels = false;
	tell(t->sending, SN_DRIVER_FAILED, SN_DRIVER_SENT_MAYBE, SN_E_TIMEOUT);
	sending_free(t->sending);
}

static bool known(struct sim_server *s, const char *id)
{
	struct known *k;

	if (id[0] == '\0')
		return false;
	SN_LIST_FOREACH (pos, &s->stored)
		if (strcmp(SN_CONTAINER_OF(pos, struct known, link)->id, id) == 0) {
			s->pub->repeated++;
			return true;
		}
	k = test_calloc(1, sizeof *k);
	(void)snprintf(k->id, sizeof k->id, "%s", id);
	sn_list_push_front(&s->stored, &k->link);
	return false;
}

static void store(struct sim_server *s, struct message *m)
{
	if (known(s, m->id))
		return;
	s->seq++;
	s->pub->stored++;
	SN_LIST_FOREACH (pos, &s->durables) {
		struct durable *d = SN_CONTAINER_OF(pos, struct durable, link);
		struct kept *k;

		if (strcmp(d->filter, m->subject) != 0)
			continue;
		k = test_calloc(1, sizeof *k);
		k->m = message_ref(m);
		k->seq = s->seq;
		sn_list_push_back(&d->kept, &k->link);
		pump(d);
	}
}

static void on_delivery(struct travel *t, bool lost);

/* To those who are there. */
static void spread(struct sim_server *s, struct message *m)
{
	SN_LIST_FOREACH (pos, &s->clients) {
		struct client *c = SN_CONTAINER_OF(pos, struct client, link);

		SN_LIST_FOREACH (at, &c->subs) {
			struct sub *sub = SN_CONTAINER_OF(at, struct sub, link);
			struct travel *t;

			if (!sub->active || sub->leaving || sub->durable != NULL ||
					strcmp(sub->pub->filter, m->subject) != 0)
				continue;
			t = travel(c, TO_CLIENT, on_delivery);
			t->sub = sub;
			t->m = message_ref(m);
		}
	}
}

static void on_published(struct travel *t, bool lost)
{
	struct sending *s = t->sending;
	struct sim_server *server = t->c->server;
	bool durable = s->p != NULL && s->p->durable && !s->ending;

	s->travels = false;
	if (lost) {
		tell(s, SN_DRIVER_FAILED, SN_DRIVER_SENT_MAYBE, SN_E_RESET);
	} else if (durable && happens(server, server->pub->full)) {
		tell(s, SN_DRIVER_UNAVAILABLE, SN_DRIVER_SENT_YES, SN_E_STATUS);
	} else {
		for (unsigned i = 0; i < s->n; i++) {
			spread(server, s->m[i]);
			if (durable)
				store(server, s->m[i]);
		}
		if (durable) {
			bool mute = happens(server, server->pub->mute);

			s->travels = true;
			travel(t->c, TO_CLIENT, mute ? on_mute : on_stored)->sending = s;
		}
	}
	sending_free(s);
}

static int sim_publish(void *state, struct sn_driver_publish *p)
{
	struct client *c = state;
	struct sending *s;

	if (c->closing)
		return SN_E_CLOSED;
	connect_soon(c);
	s = test_calloc(1, sizeof *s + p->n * sizeof s->m[0]);
	s->c = c;
	s->p = p;
	p->driver = s;
	sn_list_push_back(&c->sendings, &s->link);
	if (!c->up) {
		tell(s, SN_DRIVER_UNAVAILABLE, SN_DRIVER_SENT_NO, SN_E_CONNECT);
		return 0;
	}
	for (size_t i = 0; i < p->n; i++)
		s->m[s->n++] = message_copy(&p->messages[i]);
	c->server->pub->published += p->n;
	s->travels = true;
	travel(c, TO_SERVER, on_published)->sending = s;
	if (!p->durable)
		tell(s, SN_DRIVER_OK, SN_DRIVER_SENT_YES, 0);
	return 0;
}

static void sim_publish_cancel(void *state, struct sn_driver_publish *p, int code)
{
	struct sending *s = p->driver;

	tell(s, SN_DRIVER_FAILED, SN_DRIVER_SENT_MAYBE, code);
}

/* ---- durable names ---- */

static void kept_free(struct kept *k)
{
	sn_list_remove(&k->link);
	message_unref(k->m);
	test_free(k);
}

static void durable_free(struct durable *d)
{
	while (!sn_list_empty(&d->kept))
		kept_free(SN_CONTAINER_OF(d->kept.next, struct kept, link));
	sn__timer_stop(d->server->loop, &d->timer);
	sn_list_remove(&d->link);
	test_free(d->name);
	test_free(d->filter);
	test_free(d);
}

static struct durable *durable_of(struct sim_server *s, const struct sn_driver_subscription *pub)
{
	struct durable *d;

	SN_LIST_FOREACH (pos, &s->durables) {
		d = SN_CONTAINER_OF(pos, struct durable, link);
		if (strcmp(d->name, pub->durable) == 0)
			return d;
	}
	d = test_calloc(1, sizeof *d);
	d->server = s;
	d->name = text_copy(pub->durable, strlen(pub->durable));
	d->filter = text_copy(pub->filter, strlen(pub->filter));
	sn_list_init(&d->kept);
	sn_list_push_back(&s->durables, &d->link);
	return d;
}

static void on_due(struct sn_timer *timer)
{
	pump(SN_CONTAINER_OF(timer, struct durable, timer));
}

static void send_out(struct durable *d, struct kept *k)
{
	struct sim_server *s = d->server;
	bool overtake = happens(s, s->pub->overtake);
	unsigned n = happens(s, s->pub->twice) && d->sub->credit > 1 ? 2 : 1;

	k->attempt++;
	k->due_ns = sn__loop_now_ns(s->loop) + sn_ms_to_ns(s->pub->ack_wait_ms);
	s->pub->redelivered += k->attempt > 1;
	while (n-- > 0) {
		struct travel *t = travel(
				d->sub->c, overtake ? OUT_OF_ORDER : TO_CLIENT, on_delivery);

		t->sub = d->sub;
		t->m = message_ref(k->m);
		t->seq = k->seq;
		t->attempt = k->attempt;
		d->sub->credit--;
	}
}

/* What is due goes out as long as there is credit. */
static void pump(struct durable *d)
{
	struct sub *sub = d->sub;
	uint64_t now = sn__loop_now_ns(d->server->loop), next = UINT64_MAX;

	SN_LIST_FOREACH (pos, &d->kept) {
		struct kept *k = SN_CONTAINER_OF(pos, struct kept, link);

		if (k->due_ns <= now && sub != NULL && sub->active && sub->credit > 0)
			send_out(d, k);
		if (k->due_ns > now)
			next = SN_MIN(next, k->due_ns);
	}
	sn__timer_stop(d->server->loop, &d->timer);
	if (next != UINT64_MAX)
		sn__timer_start(d->server->loop, &d->timer, next - now, on_due);
}

static void on_answer(struct travel *t, bool lost)
{
	struct durable *d = t->durable;
	struct sim_server *s = t->c->server;
	bool there = false;

	SN_LIST_FOREACH (pos, &s->durables) /* it may have been forgotten */
		there = there || SN_CONTAINER_OF(pos, struct durable, link) == d;
	if (lost || !there)
		return;
	SN_LIST_FOREACH (pos, &d->kept) {
		struct kept *k = SN_CONTAINER_OF(pos, struct kept, link);

		if (k->seq != t->seq)
			continue;
		if (t->answer == SN_DRIVER_NACK) {
			k->due_ns = sn__loop_now_ns(s->loop) + sn_ms_to_ns(t->delay_ms);
		} else {
			s->pub->acked++;
			kept_free(k);
		}
		break;
	}
	pump(d);
}

/* ---- subscriptions ---- */

static void sub_leave(struct sub *sub)
{
	struct durable *d = sub->durable;

	sub->active = false;
	if (d != NULL && d->sub == sub)
		d->sub = NULL;
}

static void on_ended(struct sn_task *task)
{
	struct sub *sub = SN_CONTAINER_OF(task, struct sub, task);
	struct client *c = sub->c;

	sn_list_remove(&sub->link);
	sub->pub->outcome = (struct sn_driver_outcome){
			.verdict = SN_DRIVER_OK, .code = c->closing ? SN_E_CLOSED : 0};
	sub->pub->ended(sub->pub);
	for (unsigned i = 0; i < sub->n_ahead; i++)
		message_unref(sub->ahead[i]);
	SN_LIST_FOREACH (pos, &c->travels) {
		struct travel *t = SN_CONTAINER_OF(pos, struct travel, link);

		if (t->sub == sub)
			t->sub = NULL;
	}
	test_free(sub);
	close_check(c);
}

static void end_check(struct sub *sub)
{
	if (!sub->leaving || sub->unanswered > 0 || sub->ended)
		return;
	sub->ended = true;
	sn__loop_undefer(sub->c->loop, &sub->task);
	sn__loop_defer(sub->c->loop, &sub->task, on_ended);
}

static void give(struct sub *sub, struct message *m, uint64_t seq, unsigned attempt)
{
	struct delivery *d = test_calloc(1, sizeof *d);

	d->pub.message = (struct sn_driver_message){
			.subject = m->subject, .payload = m->payload, .size = m->size};
	d->pub.sub = sub->pub;
	d->pub.attempt = attempt;
	d->sub = sub;
	d->m = message_ref(m);
	d->seq = seq;
	sub->unanswered++;
	sub->c->server->pub->delivered++;
	sub->pub->message(sub->pub, &d->pub);
}

static void on_delivery(struct travel *t, bool lost)
{
	struct sub *sub = t->sub;

	if (sub == NULL)
		return;
	if (lost || sub->leaving) {
		sub->credit += t->seq != 0; /* it was taken when it was sent */
	} else if (t->seq != 0) {
		give(sub, t->m, t->seq, t->attempt);
	} else if (sub->credit > 0 && sub->n_ahead == 0) {
		sub->credit--;
		give(sub, t->m, 0, 1);
	} else if (sub->n_ahead < AHEAD_MAX) {
		sub->ahead[sub->n_ahead++] = message_ref(t->m);
	} else {
		sub->pub->dropped++;
	}
}

/* What has come without credit. */
static void on_credit(struct sn_task *task)
{
	struct sub *sub = SN_CONTAINER_OF(task, struct sub, task);

	while (sub->n_ahead > 0 && sub->credit > 0 && !sub->leaving) {
		struct message *m = sub->ahead[0];

		sub->n_ahead--;
		memmove(sub->ahead, sub->ahead + 1, sub->n_ahead * sizeof(struct message *));
		sub->credit--;
		give(sub, m, 0, 1);
		message_unref(m);
	}
	if (sub->durable != NULL)
		pump(sub->durable);
}

static void sim_credit(void *state, struct sn_driver_subscription *pub, uint32_t more)
{
	struct sub *sub = pub->driver;

	sub->credit += more;
	if (!sub->ended)
		sn__loop_defer(sub->c->loop, &sub->task, on_credit);
}

static void on_subscribed(struct travel *t, bool lost)
{
	struct sub *sub = t->sub;

	if (lost || sub == NULL || sub->leaving)
		return;
	sub->active = true;
	if (sub->pub->durable != NULL) {
		sub->durable = durable_of(t->c->server, sub->pub);
		sub->durable->sub = sub;
		pump(sub->durable);
	}
	if (sub->pub->active != NULL)
		sub->pub->active(sub->pub);
}

static int sim_subscribe(void *state, struct sn_driver_subscription *pub)
{
	struct client *c = state;
	struct sub *sub;

	if (c->closing)
		return SN_E_CLOSED;
	if (pub->group != NULL)
		return SN_E_NOTSUP;
	sub = test_calloc(1, sizeof *sub);
	sub->c = c;
	sub->pub = pub;
	pub->driver = sub;
	sn_list_push_back(&c->subs, &sub->link);
	connect_soon(c);
	if (c->up)
		travel(c, TO_SERVER, on_subscribed)->sub = sub;
	return 0;
}

static void sim_answer(void *state, struct sn_driver_delivery *pub, enum sn_driver_answer answer,
		uint32_t delay_ms)
{
	struct delivery *d = (struct delivery *)pub;
	struct sub *sub = d->sub;
	struct client *c = state;

	if (d->seq != 0 && c->up) {
		struct travel *t = travel(c, TO_SERVER, on_answer);

		t->durable = sub->durable;
		t->seq = d->seq;
		t->answer = answer;
		t->delay_ms = delay_ms;
	}
	message_unref(d->m);
	test_free(d);
	sub->unanswered--;
	end_check(sub);
}

static void sim_unsubscribe(void *state, struct sn_driver_subscription *pub, bool forget)
{
	struct sub *sub = pub->driver;
	struct durable *d = sub->durable;

	sub->leaving = true;
	sub_leave(sub);
	if (forget && d != NULL) {
		sub->durable = NULL;
		durable_free(d);
	}
	end_check(sub);
}

/* ---- the link ---- */

static bool is_cut(const struct client *c)
{
	const struct sim_server *s = c->server;

	for (unsigned i = 0; i < CLIENTS; i++)
		if (s->cut[i][0] != '\0' && strcmp(s->cut[i], c->name) == 0)
			return true;
	return s->all_cut;
}

static void on_watch(struct sn_task *task)
{
	struct client *c = SN_CONTAINER_OF(task, struct client, watch_task);

	if (c->told && c->told_up == c->up)
		return;
	c->told = true;
	c->told_up = c->up;
	c->watch->changed(c->watch, c->up, c->up ? "sim" : c->epoch > 0 ? "cut" : "");
}

static void tell_watch(struct client *c)
{
	if (c->watch != NULL)
		sn__loop_defer(c->loop, &c->watch_task, on_watch);
}

static void on_connected(struct sn_timer *timer)
{
	struct client *c = SN_CONTAINER_OF(timer, struct client, connect_timer);

	if (is_cut(c) || c->closing)
		return;
	c->up = true;
	c->last_ns[0] = c->last_ns[1] = 0;
	tell_watch(c);
	SN_LIST_FOREACH (pos, &c->subs)
		travel(c, TO_SERVER, on_subscribed)->sub = SN_CONTAINER_OF(pos, struct sub, link);
}

static void connect_soon(struct client *c)
{
	c->wanted = true;
	if (!c->up && !sn_timer_armed(&c->connect_timer))
		sn__timer_start(c->loop, &c->connect_timer, delay_ns(c->server), on_connected);
}

static void client_cut(struct client *c)
{
	c->epoch++;
	c->up = false;
	sn__timer_stop(c->loop, &c->connect_timer);
	SN_LIST_FOREACH (pos, &c->subs)
		sub_leave(SN_CONTAINER_OF(pos, struct sub, link));
	tell_watch(c);
}

void sn__sim_broker_cut(struct sn_sim_broker *b, const char *client, bool cut)
{
	struct sim_server *s = b->server;

	if (client == NULL)
		s->all_cut = cut;
	for (unsigned i = 0; client != NULL && i < CLIENTS; i++) {
		bool same = strcmp(s->cut[i], client) == 0;

		if (cut && (same || s->cut[i][0] == '\0')) {
			(void)snprintf(s->cut[i], sizeof s->cut[i], "%s", client);
			break;
		}
		if (!cut && same)
			s->cut[i][0] = '\0';
	}
	SN_LIST_FOREACH (pos, &s->clients) {
		struct client *c = SN_CONTAINER_OF(pos, struct client, link);

		if (c->up && is_cut(c))
			client_cut(c);
		else if (!c->up && c->wanted && !is_cut(c))
			connect_soon(c);
	}
}

static void sim_watch(void *state, struct sn_driver_watch *watch)
{
	struct client *c = state;

	c->watch = watch;
	connect_soon(c);
	tell_watch(c);
}

/* ---- opening and closing ---- */

struct sn_sim_broker *sn__sim_broker(const char *name)
{
	for (unsigned i = 0; i < SN_SIM_BROKERS; i++) {
		struct sn_sim_broker *b = &brokers[i];

		if (b->server == NULL) {
			(void)snprintf(b->name, sizeof b->name, "%s", name);
			b->ack_wait_ms = 1000;
			sn__rng_seed(&b->rng, i + 1);
			b->server = test_calloc(1, sizeof *b->server);
			b->server->pub = b;
			sn_list_init(&b->server->clients);
			sn_list_init(&b->server->durables);
			sn_list_init(&b->server->stored);
			return b;
		}
		if (strcmp(b->name, name) == 0)
			return b;
	}
	return NULL;
}

void sn__sim_broker_reset(void)
{
	for (unsigned i = 0; i < SN_SIM_BROKERS; i++) {
		struct sim_server *s = brokers[i].server;

		if (s == NULL)
			continue;
		assert_true(sn_list_empty(&s->clients));
		while (!sn_list_empty(&s->durables))
			durable_free(SN_CONTAINER_OF(s->durables.next, struct durable, link));
		while (!sn_list_empty(&s->stored)) {
			struct sn_list *at = sn_list_pop_front(&s->stored);

			test_free(SN_CONTAINER_OF(at, struct known, link));
		}
		test_free(s);
	}
	memset(brokers, 0, sizeof brokers);
}

unsigned sn__sim_broker_kept(const struct sn_sim_broker *b)
{
	unsigned n = 0;

	SN_LIST_FOREACH (pos, &b->server->durables)
		SN_LIST_FOREACH (at, &SN_CONTAINER_OF(pos, struct durable, link)->kept)
			n++;
	return n;
}

static int sim_open(void *state, struct sn_driver_open *how)
{
	const struct options *o = how->options;
	struct sn_sim_broker *b = sn__sim_broker(o->server);
	struct client *c = state;

	if (b == NULL) {
		(void)snprintf(how->error, sizeof how->error, "too many servers");
		return SN_E_INVALID;
	}
	c->server = b->server;
	c->loop = c->server->loop = sn_connect_host(how)->loop;
	(void)snprintf(c->name, sizeof c->name, "%s", o->client);
	sn_list_init(&c->travels);
	sn_list_init(&c->sendings);
	sn_list_init(&c->subs);
	sn_list_push_back(&c->server->clients, &c->link);
	b->clients++;
	return 0;
}

static void on_closed(struct sn_task *task)
{
	struct client *c = SN_CONTAINER_OF(task, struct client, close_task);

	c->done(c->arg);
}

static void close_check(struct client *c)
{
	if (!c->closing || c->closed || !sn_list_empty(&c->sendings) || !sn_list_empty(&c->subs))
		return;
	c->closed = true;
	sn__loop_defer(c->loop, &c->close_task, on_closed);
}

static void sim_close(void *state, void (*done)(void *arg), void *arg)
{
	struct client *c = state;

	c->closing = true;
	c->done = done;
	c->arg = arg;
	sn__timer_stop(c->loop, &c->connect_timer);
	SN_LIST_FOREACH (pos, &c->sendings)
		tell(SN_CONTAINER_OF(pos, struct sending, link), SN_DRIVER_FAILED,
				SN_DRIVER_SENT_MAYBE, SN_E_CLOSED);
	SN_LIST_FOREACH (pos, &c->subs)
		if (!SN_CONTAINER_OF(pos, struct sub, link)->leaving)
			sim_unsubscribe(c, SN_CONTAINER_OF(pos, struct sub, link)->pub, false);
	close_check(c);
}

static void sim_finish(void *state)
{
	struct client *c = state;

	while (!sn_list_empty(&c->travels))
		travel_end(SN_CONTAINER_OF(c->travels.next, struct travel, link), true);
	sn__timer_stop(c->loop, &c->connect_timer);
	sn__loop_undefer(c->loop, &c->watch_task);
	sn_list_remove(&c->link);
	c->server->pub->clients--;
}

static const struct sn_driver_broker ops = {
		.size = sizeof(ops),
		.watch = sim_watch,
		.publish = sim_publish,
		.publish_cancel = sim_publish_cancel,
		.subscribe = sim_subscribe,
		.credit = sim_credit,
		.answer = sim_answer,
		.unsubscribe = sim_unsubscribe,
};

const struct sn_driver sn__sim_broker_driver = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "sim",
		.topic = SN_TOPIC_BROKER,
		.summary = "A broker in memory that does as a test says",
		.options = option_table,
		.options_size = sizeof(struct options),
		.state_size = sizeof(struct client),
		.open = sim_open,
		.close = sim_close,
		.finish = sim_finish,
		.ops = &ops,
};
