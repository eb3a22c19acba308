/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Node against node on a bad network: splits, losses, resets, refused connections, a server that goes
 * and returns, handlers that answer at once, later, or never. Every exchange ends exactly once, within
 * its time; what ends well was answered with its own data; what was answered had been handled.
 */
#include <stdio.h>

#include "dialect/microhome/node.h"
#include "io/seeds_test.h"
#include "io/sim.h"
#include "io/world_test.h"

#define ASKS 120
#define SERVERS 3
#define SILENT_MS 400 /* of the client's time-out */

struct ask {
	struct sn_mh_exchange x;
	struct course *c;
	unsigned n, ended, handled, server;
	uint64_t begun_ns;
	bool rpc;
	char data[32];
};

struct later {
	struct sn_mh_reply *reply;
	struct sn_timer timer;
	struct sn_loop *loop;
	struct later *next;
	char data[32];
};

struct course {
	struct sn_sim *sim;
	struct sn_loop *here, *there;
	struct sn_mh_client *client;
	struct side {
		struct course *c;
		struct sn_addr addr;
		struct sn_mh_server *server;
		struct sn_timer timer;
		bool closing;
	} sides[SERVERS];
	struct ask asks[ASKS];
	struct later *kept;
	struct sn_timer next;
	unsigned started, ended, good, closing;
	bool keep, over;
};

/* ---- the servers ---- */

static void note_handled(struct course *c, struct sn_str data)
{
	uint64_t n;

	assert_int_equal(sn__parse_u64(data, ASKS - 1, &n), 0);
	c->asks[n].handled++;
}

static void on_echo(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	note_handled(arg, event->data);
	(void)sn__mh_reply_send(reply, event->data);
}

static void on_silent(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	note_handled(arg, event->data);
}

static void on_fail(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	note_handled(arg, event->data);
	(void)sn__mh_reply_refuse(reply, 2, "no", NULL);
}

static void on_due(struct sn_timer *t)
{
	struct later *l = SN_CONTAINER_OF(t, struct later, timer);

	(void)sn__mh_reply_send(l->reply, sn_str_from(l->data));
	sn__mh_reply_unref(l->reply);
	l->reply = NULL;
}

static void on_later(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct course *c = arg;
	struct later *l = sn__calloc(1, sizeof(*l));

	note_handled(c, event->data);
	snprintf(l->data, sizeof(l->data), "%.*s", (int)event->data.len, event->data.ptr);
	l->reply = sn__mh_reply_ref(reply);
	l->loop = c->there;
	l->next = c->kept;
	c->kept = l;
	sn__timer_start(c->there, &l->timer,
			sn__rng_below(sn__loop_rng(c->there), 500 * SN_NS_PER_MS), on_due);
}

static void side_open(struct side *s)
{
	struct sn_mh_server_options o = {.id = "there", .listen = s->addr};

	assert_int_equal(sn__mh_server_open(s->c->there, &o, &s->server, NULL), 0);
	assert_int_equal(sn__mh_server_on(s->server, SN_STR("echo"), on_echo, s->c), 0);
	assert_int_equal(sn__mh_server_on(s->server, SN_STR("silent"), on_silent, s->c), 0);
	assert_int_equal(sn__mh_server_on(s->server, SN_STR("fail"), on_fail, s->c), 0);
	assert_int_equal(sn__mh_server_on(s->server, SN_STR("later"), on_later, s->c), 0);
}

static void on_side(struct sn_timer *t);

static void on_side_closed(void *arg)
{
	struct side *s = arg;

	s->closing = false;
	s->server = NULL;
	s->c->closing--;
	if (!s->c->over)
		sn__timer_start(s->c->there, &s->timer,
				sn__rng_below(sn__loop_rng(s->c->there), SN_NS_PER_S), on_side);
}

static void side_close(struct side *s, uint32_t grace_ms)
{
	s->closing = true;
	s->c->closing++;
	sn__mh_server_close(s->server, grace_ms, on_side_closed, s);
}

/* It goes, or returns. */
static void on_side(struct sn_timer *t)
{
	struct side *s = SN_CONTAINER_OF(t, struct side, timer);
	struct sn_rng *rng = sn__loop_rng(s->c->there);

	if (s->closing)
		return;
	if (s->server == NULL) {
		side_open(s);
		sn__timer_start(s->c->there, t, sn__rng_below(rng, 3 * SN_NS_PER_S), on_side);
	} else {
		side_close(s, (uint32_t)sn__rng_below(rng, 2) * 200);
	}
}

/* ---- the asker ---- */

static void on_end(struct sn_mh_exchange *x)
{
	struct ask *a = SN_CONTAINER_OF(x, struct ask, x);
	struct course *c = a->c;
	uint64_t took = sn__sim_now_ns(c->sim) - a->begun_ns;

	a->ended++;
	c->ended++;
	assert_int_equal(a->ended, 1);
	assert_true(took <= (SILENT_MS + 20) * SN_NS_PER_MS);
	if (x->status == 0) {
		c->good++;
		assert_true(sn_str_eq(x->reply.data, sn_str_from(a->data)));
	}
	if (x->status == 0 || x->status == SN_E_STATUS)
		assert_int_equal(a->handled, 1);
	assert_true(a->handled <= 1);
}

static void ask(struct course *c)
{
	static const char *const types[] = {"echo", "echo", "echo", "later", "silent", "fail"};
	struct sn_rng *rng = sn__loop_rng(c->here);
	struct ask *a = &c->asks[c->started];
	struct sn_mh_send send = {.type = sn_str_from(types[sn__rng_below(rng, SN_COUNT(types))])};

	a->c = c;
	a->n = c->started++;
	a->server = (unsigned)sn__rng_below(rng, SERVERS);
	a->begun_ns = sn__sim_now_ns(c->sim);
	snprintf(a->data, sizeof(a->data), "%u", a->n);
	send.to = c->sides[a->server].addr;
	send.data = sn_str_from(a->data);
	send.rpc = sn__rng_below(rng, 8) == 0;
	assert_int_equal(sn__mh_exchange_start(c->client, &a->x, &send, on_end), 0);
	if (sn__rng_below(rng, 20) == 0) {
		sn__mh_exchange_cancel(&a->x);
		a->ended++;
		c->ended++;
	}
}

static void on_next(struct sn_timer *t)
{
	struct course *c = SN_CONTAINER_OF(t, struct course, next);
	struct sn_rng *rng = sn__loop_rng(c->here);
	unsigned burst = 1 + (unsigned)sn__rng_below(rng, 8);

	while (burst-- > 0 && c->started < ASKS)
		ask(c);
	if (c->started < ASKS)
		sn__timer_start(c->here, t, sn__rng_below(rng, 300 * SN_NS_PER_MS), on_next);
}

/* ---- a course ---- */

static void options(struct sn_rng *rng, struct sn_sim_options *o)
{
	o->latency_min_ns = sn__rng_below(rng, 2 * SN_NS_PER_MS);
	o->latency_max_ns = o->latency_min_ns + sn__rng_below(rng, 20 * SN_NS_PER_MS);
	o->loss = (unsigned)sn__rng_below(rng, 30);
	o->reset = sn__rng_below(rng, 2) == 0 ? 0 : (unsigned)sn__rng_below(rng, 40);
	o->refuse = sn__rng_below(rng, 2) == 0 ? 0 : (unsigned)sn__rng_below(rng, 100);
	o->partial_write = (unsigned)sn__rng_below(rng, 500);
	o->partial_read = (unsigned)sn__rng_below(rng, 500);
	o->window = 64 + sn__rng_below(rng, 5000);
}

static void open_course(struct course *c, uint64_t seed, struct sn_sim_options *o)
{
	struct sn_mh_client_options co = {.id = "here", .timeout_ms = SILENT_MS};
	struct sn_rng rng;
	char text[64];

	sn__rng_seed(&rng, seed);
	options(&rng, o);
	o->seed = seed;
	co.keep = c->keep = sn__rng_below(&rng, 3) > 0;
	co.max_connecting = 1 + (unsigned)sn__rng_below(&rng, 20);
	co.window = 1 + (unsigned)sn__rng_below(&rng, 8);
	assert_int_equal(sn__sim_create(o, &c->sim), 0);
	assert_int_equal(sn__sim_loop(c->sim, &c->here), 0);
	assert_int_equal(sn__sim_loop(c->sim, &c->there), 0);
	assert_int_equal(sn__mh_client_create(c->here, &co, &c->client, NULL), 0);
	for (unsigned i = 0; i < SERVERS; i++) {
		struct side *s = &c->sides[i];

		snprintf(text, sizeof(text), "127.0.0.1:%u", 5102 + i);
		s->c = c;
		s->addr = world_addr(text);
		side_open(s);
		if (i > 0)
			sn__timer_start(c->there, &s->timer, sn__rng_below(&rng, 3 * SN_NS_PER_S),
					on_side);
	}
	sn__timer_start(c->here, &c->next, 0, on_next);
}

static void close_course(struct course *c)
{
	c->over = true;
	sn__mh_client_destroy(c->client);
	for (unsigned i = 0; i < SERVERS; i++) {
		sn__timer_stop(c->there, &c->sides[i].timer);
		if (c->sides[i].server != NULL && !c->sides[i].closing)
			side_close(&c->sides[i], 0);
	}
	while (c->kept != NULL) {
		struct later *l = c->kept;

		c->kept = l->next;
		sn__timer_stop(c->there, &l->timer);
		sn__mh_reply_unref(l->reply);
		sn__free(l);
	}
	(void)sn__sim_run(c->sim, sn__sim_now_ns(c->sim) + 2 * SN_NS_PER_S);
	assert_int_equal(c->closing, 0);
	sn__loop_close(c->here, NULL, NULL);
	sn__loop_close(c->there, NULL, NULL);
	sn__sim_destroy(c->sim);
}

static void one(uint64_t seed, bool single)
{
	struct course *c = sn__calloc(1, sizeof(*c));
	struct sn_sim_options o = {0};
	bool gentle;

	open_course(c, seed, &o);
	gentle = o.reset == 0 && o.refuse == 0;
	for (unsigned i = 0; i < 200 && c->ended < ASKS; i++)
		(void)sn__sim_run(c->sim, sn__sim_now_ns(c->sim) + SN_NS_PER_S);
	assert_int_equal(c->started, ASKS);
	assert_int_equal(c->ended, ASKS);
	/* The first server never goes: without faults of the network its echoes come back. */
	assert_true(!gentle || c->good > 0);
	if (single)
		print_message("seed %llu: %s, %u of %u answered\n", (unsigned long long)seed,
				c->keep ? "kept" : "one each", c->good, ASKS);
	close_course(c);
	sn__free(c);
}

int main(void)
{
	return seeds_main("microhome/exchange", one);
}
