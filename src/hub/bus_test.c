/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/bus_world_test.h"

static const struct sn_bus_options plain;

static int setup(void **state)
{
	struct bw *w = bw_new(1);

	assert_int_equal(bw_bus_open(w, &plain), 0);
	*state = w;
	return 0;
}

static int setup_log(void **state)
{
	struct bw *w = bw_new(1);

	w->with_log = true;
	assert_int_equal(bw_bus_open(w, &plain), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	bw_free(*state);
	return 0;
}

static void reopen(struct bw *w, bool crash)
{
	w->log.dead = crash;
	bw_bus_close(w, &w->bus);
	for (unsigned i = 0; i < BW_SUBS; i++)
		if (w->subs[i].w != NULL)
			bw_give_up(&w->subs[i]);
	assert_int_equal(bw_bus_open(w, &plain), 0);
}

static void got(const struct bw_sub *sub, unsigned first, unsigned n)
{
	assert_int_equal(sub->n_got, n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(sub->got[i], first + i);
}

static void fans_out(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_attach(w, 0, "x"), *b = bw_attach(w, 1, "x"),
		      *c = bw_attach(w, 2, "y");
	struct bw_pub *p = bw_publish(w, "x"), *q = bw_publish(w, "y"), *r = bw_publish(w, "z");
	struct sn_bus_counts counts;

	bw_pass(w, 50);
	assert_int_equal(p->done + q->done + r->done, 3);
	assert_int_equal(p->subscribers, 2);
	assert_int_equal(p->results, 2);
	assert_int_equal(q->subscribers, 1);
	assert_int_equal(r->subscribers, 0);
	got(a, 1, 1);
	got(b, 1, 1);
	got(c, 2, 1);
	p = bw_publish_at(w, w->bus, "whatever", true, true);
	bw_pass(w, 50);
	assert_int_equal(p->subscribers, 3);
	assert_int_equal(c->n_got, 2);
	bw_detach(b, false);
	p = bw_publish(w, "x");
	bw_pass(w, 50);
	assert_int_equal(p->subscribers, 1);
	assert_int_equal(b->n_got, 2);
	for (unsigned i = 0; i < 100; i++)
		(void)bw_publish(w, "y");
	bw_pass(w, 5000);
	assert_int_equal(c->n_got, 102);
	for (unsigned i = 3; i < 102; i++) /* in order */
		assert_int_equal(c->got[i], c->got[i - 1] + 1);
	sn__bus_counts(w->bus, &counts);
	assert_int_equal(counts.published, 105);
	assert_int_equal(counts.offered, 107);
	assert_int_equal(counts.delivered, 107);
	assert_int_equal(counts.subscribers, 2);
	assert_int_equal(counts.types, 2);
	assert_int_equal(counts.queued + counts.queued_bytes + counts.publishing, 0);
}

static void types(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_attach(w, 0, "x"), *b = bw_attach(w, 1, "x");
	struct sn_bus_counts counts;
	char type[SN_BUS_TYPE_MAX + 1];
	struct bw_pub *p;

	assert_int_equal(sn__bus_subscribe(&a->s, SN_STR("x")), 0);
	assert_int_equal(sn__bus_subscribe(&a->s, SN_STR("")), SN_E_LIMIT);
	memset(type, 't', sizeof type);
	assert_int_equal(sn__bus_subscribe(&a->s, (struct sn_str){type, sizeof type}), SN_E_LIMIT);
	p = bw_publish(w, "x");
	bw_pass(w, 20);
	assert_int_equal(p->subscribers, 2);
	assert_int_equal(a->n_got, 1);
	assert_int_equal(sn__bus_unsubscribe(&a->s, SN_STR("y")), SN_E_NOT_FOUND);
	assert_int_equal(sn__bus_unsubscribe(&a->s, SN_STR("x")), 0);
	assert_int_equal(sn__bus_unsubscribe(&a->s, SN_STR("x")), SN_E_NOT_FOUND);
	p = bw_publish(w, "x");
	bw_pass(w, 20);
	assert_int_equal(p->subscribers, 1);
	for (unsigned i = 0; i < SN_BUS_TYPES_MAX; i++) {
		char t[8];

		(void)snprintf(t, sizeof t, "%u", i);
		assert_int_equal(sn__bus_subscribe(&b->s, sn_str_from(t)),
				i == SN_BUS_TYPES_MAX - 1 ? SN_E_LIMIT : 0);
	}
	bw_detach(a, false);
	bw_detach(b, false);
	sn__bus_counts(w->bus, &counts);
	assert_int_equal(counts.types, 0);
	assert_int_equal(sn__bus_subscribe(&a->s, SN_STR("x")), SN_E_STATE);
	assert_int_equal(sn__bus_unsubscribe(&a->s, SN_STR("x")), SN_E_NOT_FOUND);
	bw_detach(a, false);
}

static void windows(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0);

	a->s.window = 5;
	a->mood = BW_SLOW;
	a->slow_ms = 20;
	(void)bw_attach(w, 0, "x");
	for (unsigned i = 0; i < 20; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 15);
	assert_int_equal(a->n_tries, 5);
	assert_int_equal(a->s.queued, 20);
	bw_pass(w, 1000);
	assert_int_equal(a->max_flight, 5);
	got(a, 1, 20);
}

/* Wider and narrower while it has a backlog. */
static void window_changes(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0);
	struct sn_bus_subscriber nobody = {0};

	a->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	for (unsigned i = 0; i < 20; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 15);
	assert_int_equal(a->n_tries, 1);
	sn__bus_set_window(&a->s, 4);
	sn__bus_set_window(&a->s, 4);
	bw_pass(w, 15);
	assert_int_equal(a->n_tries, 4);
	sn__bus_set_window(&a->s, 0); /* one it always is */
	bw_pass(w, 15);
	a->mood = BW_TAKES;
	bw_answer(&a->flight[0]);
	bw_pass(w, 15);
	assert_int_equal(a->n_tries, 4); /* three are under way yet */
	for (unsigned i = 0; i < 4; i++)
		if (a->flight[i].sub != NULL)
			bw_answer(&a->flight[i]);
	bw_pass(w, 1000);
	assert_int_equal(a->max_flight, 4);
	got(a, 1, 20);
	sn__bus_set_window(&nobody, 3); /* for when it is attached */
	assert_int_equal(nobody.window, 3);
}

static void drops_oldest(void **state)
{
	struct bw *w = *state;
	struct bw_sub *dead = bw_sub(w, 0), *quick = bw_sub(w, 1);
	struct bw_pub *p[10];

	dead->s.queue_max = 4;
	dead->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	for (unsigned i = 0; i < 10; i++) {
		p[i] = bw_publish(w, "x");
		bw_pass(w, 20);
		assert_int_equal(p[i]->done, 1);
	}
	got(quick, 1, 10); /* never delayed */
	assert_int_equal(dead->s.queued, 4);
	assert_int_equal(dead->s.dropped, 6);
	assert_int_equal(dead->s.offered, 10);
	assert_int_equal(p[0]->results, 1); /* under way */
	assert_int_equal(p[1]->results, 2);
	assert_int_equal(p[1]->last_result, SN_E_LIMIT);
	assert_int_equal(p[9]->results, 1);
	dead->mood = BW_TAKES;
	bw_answer(&dead->flight[0]);
	bw_pass(w, 100);
	assert_int_equal(dead->n_got, 4);
	assert_int_equal(dead->got[0], 1);
	assert_int_equal(dead->got[1], 8);
	assert_int_equal(p[9]->results, 2);
	bw_check(dead);
}

static void all_under_way(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0);
	struct bw_pub *p;

	a->s.queue_max = 1;
	a->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	(void)bw_publish(w, "x");
	bw_pass(w, 10);
	p = bw_publish(w, "x"); /* what is under way cannot be dropped */
	bw_pass(w, 10);
	assert_int_equal(p->last_result, SN_E_LIMIT);
	assert_int_equal(a->s.dropped, 1);
	bw_check(a);
}

static void blocks(void **state)
{
	struct bw *w = *state;
	struct bw_sub *slow = bw_sub(w, 0), *quick = bw_sub(w, 1);
	struct bw_pub *p[6];

	slow->s.queue_max = 2;
	slow->s.full = SN_BUS_BLOCK;
	slow->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	for (unsigned i = 0; i < 6; i++)
		p[i] = bw_publish(w, "x");
	bw_pass(w, 200);
	got(quick, 1, 6);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(p[i]->done, i < 2);
	sn__bus_publish_forget(&p[5]->p);
	slow->mood = BW_TAKES;
	bw_answer(&slow->flight[0]);
	bw_pass(w, 200);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(p[i]->done, i < 5);
	got(slow, 1, 6);
	/* One that leaves lets its publishers go. */
	slow->mood = BW_SILENT;
	for (unsigned i = 0; i < 4; i++)
		p[i] = bw_publish(w, "x");
	bw_pass(w, 100);
	assert_int_equal(p[3]->done, 0);
	bw_detach(slow, false);
	bw_pass(w, 10);
	assert_int_equal(p[3]->done, 1);
	assert_int_equal(p[3]->code, 0);
	assert_int_equal(p[3]->results, 2);
	bw_check(slow);
}

static void disconnects(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0), *b = bw_sub(w, 1);
	struct sn_bus_counts counts;

	a->s.queue_max = 3;
	a->s.full = SN_BUS_DISCONNECT;
	a->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	for (unsigned i = 0; i < 5; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 100);
	assert_int_equal(a->gone, 1);
	assert_null(a->s.member);
	assert_int_equal(a->s.offered, 4);
	assert_int_equal(a->s.dropped, 4);
	got(b, 1, 5);
	sn__bus_counts(w->bus, &counts);
	assert_int_equal(counts.disconnected, 1);
	assert_int_equal(counts.subscribers, 1);
	bw_check(a);
}

static void fails(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_attach(w, 0, "x");
	struct bw_pub *p;

	a->mood = BW_FAILS;
	p = bw_publish(w, "x");
	bw_pass(w, 50);
	assert_int_equal(p->last_result, SN_E_CONNECT);
	assert_int_equal(a->s.failed, 1);
	assert_int_equal(a->n_tries, 1); /* at most once */
	a->s.at_least_once = true;
	bw_detach(a, false);
	assert_int_equal(sn__bus_attach(w->bus, &a->s), SN_E_NOTSUP);
	a->s.at_least_once = false;
}

static void bytes(void **state)
{
	static char big[40000];
	struct bw *w = *state;
	struct bw_sub *dead[3], *quick = bw_sub(w, 3);
	struct sn_bus_options opts = {.max_bytes = 1000000};
	struct sn_bus_counts counts;

	bw_bus_close(w, &w->bus);
	assert_int_equal(bw_bus_open(w, &opts), 0);
	memset(big, '1', sizeof big);
	for (unsigned i = 0; i < 3; i++) {
		dead[i] = bw_sub(w, i);
		dead[i]->mood = BW_SILENT;
		dead[i]->s.queue_bytes_max = i == 0 ? 100000 : 0;
		(void)bw_attach(w, i, i == 1 ? "y" : "x");
	}
	(void)bw_attach(w, 3, NULL);
	for (unsigned i = 0; i < 200; i++) {
		struct sn_bus_event *e;
		struct bw_pub *p = &w->pubs[w->n_pubs++];

		p->p.done = bw_done;
		assert_int_equal(sn__bus_event_create(i % 2 == 0 ? SN_STR("x") : SN_STR("y"),
						 SN_STR(""), (struct sn_str){big, sizeof big},
						 false, &w->rng, &e),
				0);
		assert_int_equal(sn__bus_publish(w->bus, e, &p->p), 0);
		sn__bus_event_unref(e);
		bw_pass(w, 1);
		assert_int_equal(p->done, 1);
	}
	assert_int_equal(dead[0]->s.queued, 2);
	sn__bus_counts(w->bus, &counts);
	assert_true(counts.queued_bytes < 1100000);
	assert_true(dead[1]->s.queued > 3 && dead[2]->s.queued > 3);
	/* A subscriber without a backlog gets everything all the same. */
	assert_int_equal(sn__bus_subscribe(&quick->s, SN_STR("x")), 0);
	for (unsigned i = 0; i < 5; i++) {
		struct bw_pub *p = bw_publish(w, "x");

		bw_pass(w, 20);
		assert_int_equal(p->done, 1);
	}
	assert_int_equal(quick->n_got, 5);
	for (unsigned i = 0; i < 3; i++)
		bw_check(dead[i]);
}

static void limits(void **state)
{
	struct bw *w = *state;
	struct sn_bus_options opts = {.max_subscribers = 1, .max_publishes = 2};
	struct sn_bus_event *e = bw_event(&w->rng, "x", 1, false);
	struct sn_bus_publish more = {.done = bw_done};

	bw_bus_close(w, &w->bus);
	assert_int_equal(bw_bus_open(w, &opts), 0);
	(void)bw_attach(w, 0, "x");
	assert_int_equal(sn__bus_attach(w->bus, &bw_sub(w, 1)->s), SN_E_LIMIT);
	(void)bw_publish(w, "x");
	(void)bw_publish(w, "x");
	assert_int_equal(sn__bus_publish(w->bus, e, &more), SN_E_LIMIT);
	bw_pass(w, 100);
	(void)bw_publish(w, "x");
	sn__bus_event_unref(e);
	assert_int_equal(sn__bus_event_create(
					 SN_STR(""), SN_STR(""), SN_STR(""), false, &w->rng, &e),
			SN_E_INVALID);
}

static unsigned n_freed;

static void free_encoded(void *encoded)
{
	assert_ptr_equal(encoded, &n_freed);
	n_freed++;
}

static void encoded_once(void **state)
{
	struct bw *w = *state;
	struct sn_bus_event *e = bw_event(&w->rng, "x", 1, false);
	struct bw_pub *p = &w->pubs[w->n_pubs++];

	n_freed = 0;
	e->encoded = &n_freed;
	e->free_encoded = free_encoded;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	p->p.done = bw_done;
	assert_int_equal(sn__bus_publish(w->bus, e, &p->p), 0);
	sn__bus_event_unref(e);
	assert_int_equal(n_freed, 0);
	bw_pass(w, 50);
	assert_int_equal(n_freed, 1);
	sn__bus_event_unref(NULL);
}

static void leaves_inside(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0), *b = bw_attach(w, 1, "x");
	struct bw_pub *p[3];

	a->mood = BW_LEAVES;
	(void)bw_attach(w, 0, "x");
	for (unsigned i = 0; i < 3; i++)
		p[i] = bw_publish(w, "x");
	bw_pass(w, 50);
	assert_int_equal(a->n_tries, 1);
	assert_null(a->s.member);
	got(b, 1, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(p[i]->results, 2);
		assert_int_equal(p[i]->failed_results, 1);
	}
	bw_check(a);
}

static void tried_again(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0);
	struct bw_pub *p[4];

	a->s.at_least_once = true;
	a->s.retry_min_ms = 100;
	a->s.retry_max_ms = 800;
	a->mood = BW_FAILS;
	(void)bw_attach(w, 0, "x");
	bw_pass(w, 20); /* what the log has is read first */
	for (unsigned i = 0; i < 4; i++)
		p[i] = bw_publish(w, "x");
	bw_pass(w, 50);
	assert_int_equal(p[0]->done, 1);
	assert_int_equal(p[0]->last_result, SN_E_CONNECT); /* the first try */
	assert_int_equal(p[1]->results, 0);
	assert_int_equal(a->n_tries, 1);
	bw_pass(w, 200);
	assert_in_range(a->n_tries, 2, 3);
	a->mood = BW_TAKES;
	bw_pass(w, 2000);
	got(a, 1, 4); /* in order */
	assert_int_equal(w->log.forgotten, 4);
	assert_int_equal(a->s.delivered, 4);
	assert_true(a->s.redelivered > 0);
	bw_check(a);
}

static void poison(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0);

	a->s.at_least_once = true;
	a->poison = 2;
	(void)bw_attach(w, 0, "x");
	for (unsigned i = 0; i < 10; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 5000);
	assert_int_equal(a->n_got, 9);
	assert_int_equal(a->s.queued, 1);
	a->poison = 0;
	bw_pass(w, 20000);
	assert_int_equal(a->n_got, 10);
	assert_int_equal(a->got[9], 2);
	bw_check(a);
}

static void restarts(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0), *b = bw_sub(w, 1);

	a->s.at_least_once = true;
	a->mood = BW_SILENT;
	b->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	for (unsigned i = 0; i < 100; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 50);
	reopen(w, true);
	a->mood = BW_TAKES;
	b->mood = BW_TAKES;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	for (unsigned i = 0; i < 10; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 20000);
	got(a, 1, 110); /* what was there comes first */
	got(b, 101, 10);
	bw_check(a);
	/* What the log has is not forgotten by leaving, unless so it shall be. */
	a->mood = BW_SILENT;
	for (unsigned i = 0; i < 5; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 50);
	bw_detach(a, false);
	a->mood = BW_TAKES;
	(void)bw_attach(w, 0, "x");
	bw_pass(w, 1000);
	got(a, 1, 115);
	a->mood = BW_SILENT;
	for (unsigned i = 0; i < 5; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 50);
	bw_detach(a, true);
	a->mood = BW_TAKES;
	(void)bw_attach(w, 0, "x");
	bw_pass(w, 1000);
	got(a, 1, 115);
	assert_int_equal(sn__bus_attach(w->bus, &bw_sub(w, 2)->s), 0);
	w->subs[3].s.at_least_once = true;
	(void)bw_sub(w, 3);
	w->subs[3].s.id = "sa";
	assert_int_equal(sn__bus_attach(w->bus, &w->subs[3].s), SN_E_EXISTS);
}

static void spills(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0), *b = bw_sub(w, 1);
	struct bw_pub *last;

	a->s.at_least_once = true;
	a->s.queue_max = 4;
	a->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	bw_pass(w, 10);
	for (unsigned i = 0; i < 199; i++)
		(void)bw_publish(w, "x");
	last = bw_publish(w, "x");
	bw_pass(w, 5000);
	assert_int_equal(last->done, 1);
	got(b, 1, 200);
	assert_int_equal(a->s.queued, 200);
	assert_int_equal(a->s.dropped, 0);
	a->mood = BW_TAKES;
	bw_answer(&a->flight[0]);
	bw_pass(w, 5000);
	got(a, 1, 200);
	bw_check(a);
	for (unsigned i = 0; i < 10; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 1000);
	got(a, 1, 210);
}

static void log_fails(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0), *b = bw_attach(w, 1, "x");
	struct sn_bus_counts counts;
	struct bw_pub *p;

	a->s.at_least_once = true;
	(void)bw_attach(w, 0, "x");
	bw_pass(w, 20);
	w->log.fail = 1000;
	p = bw_publish(w, "x");
	bw_pass(w, 50);
	assert_int_equal(p->code, SN_E_IO);
	assert_int_equal(a->n_got, 1); /* as well as it goes */
	assert_int_equal(b->n_got, 1);
	sn__bus_counts(w->bus, &counts);
	assert_int_equal(counts.log_failed, 1);
	w->log.fail = 0;
	w->log.delay_ms = 50;
	p = bw_publish(w, "x");
	bw_pass(w, 0);
	assert_int_equal(p->done, 0);
	bw_pass(w, 100);
	assert_int_equal(p->done, 1);
}

static void links(void **state)
{
	struct bw *w = *state;
	struct bw_sub *here = bw_sub(w, 0), *there = bw_sub(w, 1);
	struct sn_bus_options opts = {.link = &w->links[1].link};
	struct sn_bus_counts counts;
	struct bw_pub *p;

	bw_bus_close(w, &w->bus);
	w->with_link = true;
	assert_int_equal(bw_bus_open(w, &plain), 0);
	assert_int_equal(sn__bus_create(w->loop, &opts, &w->second), 0);
	(void)bw_attach(w, 0, "x");
	assert_int_equal(sn__bus_attach(w->second, &there->s), 0);
	assert_int_equal(sn__bus_subscribe(&there->s, SN_STR("x")), 0);
	p = bw_publish(w, "x");
	bw_pass(w, 0);
	assert_int_equal(p->done, 0); /* it waits for the link */
	bw_pass(w, 50);
	assert_int_equal(p->done, 1);
	assert_int_equal(p->subscribers, 1); /* of this hub */
	got(here, 1, 1);
	got(there, 1, 1);
	assert_int_equal(w->links[1].done, 1);
	p = bw_publish_at(w, w->second, "x", false, false);
	bw_pass(w, 50);
	assert_int_equal(p->done, 1);
	assert_int_equal(here->n_got, 2);
	assert_int_equal(there->n_got, 2);
	w->links[0].fail = 1;
	p = bw_publish(w, "x");
	bw_pass(w, 50);
	assert_int_equal(p->code, SN_E_CONNECT);
	assert_int_equal(here->n_got, 3);
	assert_int_equal(there->n_got, 2);
	/* One that blocks holds the acknowledgement back. */
	there->s.full = SN_BUS_BLOCK;
	there->s.queue_max = 1;
	there->mood = BW_SILENT;
	(void)bw_publish(w, "x");
	bw_pass(w, 20);
	(void)bw_publish(w, "x");
	bw_pass(w, 20);
	assert_int_equal(w->links[1].done, 2);
	there->mood = BW_TAKES;
	bw_answer(&there->flight[0]);
	bw_pass(w, 100);
	assert_int_equal(w->links[1].done, 3);
	sn__bus_counts(w->bus, &counts);
	assert_int_equal(counts.sent, 3);
	assert_int_equal(counts.send_failed, 1);
	assert_int_equal(counts.received, 1);
	/* Closed with one on its way. */
	p = bw_publish(w, "x");
	bw_pass(w, 0);
	bw_bus_close(w, &w->bus);
	assert_int_equal(p->done, 1);
	bw_bus_close(w, &w->second);
	bw_check(there);
}

/* While what was before is not back, nothing of other hubs is taken; what is published here is. */
static void held(void **state)
{
	struct bw *w = *state;
	struct bw_sub *here = bw_sub(w, 0);
	struct sn_bus_counts counts;
	struct sn_bus_event *e;

	bw_bus_close(w, &w->bus);
	w->with_link = true;
	assert_int_equal(bw_bus_open(w, &plain), 0);
	sn__bus_hold_links(w->bus, true);
	e = bw_event(&w->rng, "x", 7, false);
	assert_int_equal(sn__bus_link_received(&w->links[0].link, e, bw_received, &w->links[0]),
			SN_E_AGAIN);
	(void)bw_attach(w, 0, "x");
	(void)bw_publish(w, "x");
	bw_pass(w, 50);
	got(here, 1, 1);
	sn__bus_hold_links(w->bus, false);
	assert_int_equal(sn__bus_link_received(&w->links[0].link, e, bw_received, &w->links[0]), 0);
	sn__bus_event_unref(e);
	bw_pass(w, 50);
	assert_int_equal(here->n_got, 2);
	assert_int_equal(w->links[0].done, 1);
	sn__bus_counts(w->bus, &counts);
	assert_int_equal(counts.received, 1);
	bw_bus_close(w, &w->bus);
}

static void closes_busy(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = bw_sub(w, 0), *b = bw_sub(w, 1);
	struct sn_bus_event *e = bw_event(&w->rng, "x", 1, false);
	struct sn_bus_publish late = {.done = bw_done};
	struct bw_pub *p[10];
	bool closed = false;

	a->s.at_least_once = true;
	a->mood = BW_SILENT;
	b->mood = BW_SILENT;
	b->s.full = SN_BUS_BLOCK;
	b->s.queue_max = 2;
	w->log.delay_ms = 100;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	for (unsigned i = 0; i < 9; i++)
		p[i] = bw_publish(w, "x");
	bw_pass(w, 1);
	p[9] = bw_publish(w, "x");
	sn__bus_close(w->bus, bw_set, &closed);
	assert_int_equal(sn__bus_publish(w->bus, e, &late), SN_E_CLOSED);
	assert_int_equal(sn__bus_attach(w->bus, &bw_sub(w, 2)->s), SN_E_CLOSED);
	w->bus = NULL;
	assert_false(closed);
	bw_pass(w, 2000);
	assert_true(closed);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(p[i]->done, 1);
	assert_int_equal(p[9]->code, SN_E_CLOSED);
	sn__bus_event_unref(e);
}

/* Once its rings have grown, a bus takes no memory for an event but the event. */
static void hot(void **state)
{
	struct bw *w = *state;
	struct sn_bus_event *e = bw_event(&w->rng, "x", 1, false);
	struct bw_pub *p = &w->pubs[w->n_pubs++];
	uint64_t before;

	for (unsigned i = 0; i < BW_SUBS; i++)
		(void)bw_attach(w, i, "x");
	p->p.done = bw_done;
	p->p.result = bw_result;
	for (unsigned i = 0; i < 300; i++) {
		if (i == 10)
			before = sn__mem_count();
		assert_int_equal(sn__bus_publish(w->bus, e, &p->p), 0);
		bw_pass(w, 20);
	}
	assert_true(sn__mem_count() == before);
	assert_int_equal(p->results, 300 * BW_SUBS);
	p->done = 1;
	sn__bus_event_unref(e);
}

/* Every allocation fails once: who could not be served is counted, and it goes on. */
static void sweep(void **state)
{
	struct bw *w = *state;
	bool failed = true;

	bw_bus_close(w, &w->bus);
	for (uint64_t nth = 1; failed; nth++) {
		struct bw_sub *a = bw_sub(w, 0), *b = bw_sub(w, 1);
		unsigned n = 0, first = w->n_pubs;
		int code;

		memset(a, 0, sizeof *a);
		memset(b, 0, sizeof *b);
		(void)bw_sub(w, 0);
		(void)bw_sub(w, 1);
		a->s.at_least_once = true;
		a->s.queue_max = 6;
		sn__mem_fail_nth(nth);
		code = bw_bus_open(w, &plain);
		if (code == 0)
			code = sn__bus_attach(w->bus, &a->s);
		if (code == 0)
			code = sn__bus_attach(w->bus, &b->s);
		if (code == 0)
			code = sn__bus_subscribe(&a->s, SN_STR("x"));
		if (code == 0)
			code = sn__bus_subscribe(&b->s, SN_STR("x"));
		assert_true(code == 0 || code == SN_E_NOMEM);
		for (unsigned i = 0; code == 0 && i < 12; i++)
			n += bw_publish_at(w, w->bus, "x", false, true) != NULL;
		if (code == 0)
			bw_pass(w, 5000);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (code == 0) {
			unsigned in_error = 0;

			bw_pass(w, 5000);
			for (unsigned i = first; i < w->n_pubs; i++)
				in_error += w->pubs[i].code < 0;
			/* At least once: unless its publisher was told of an error. */
			assert_true(a->n_got + in_error >= n);
			assert_true(b->n_got + b->s.dropped >= n);
			bw_check(a);
			bw_check(b);
		}
		if (w->bus != NULL)
			bw_bus_close(w, &w->bus);
		bw_log_drop(&w->log.log, "sa");
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define LOG_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup_log, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
			TEST(fans_out),
			TEST(types),
			TEST(windows),
			TEST(window_changes),
			TEST(drops_oldest),
			TEST(all_under_way),
			TEST(blocks),
			TEST(disconnects),
			TEST(fails),
			TEST(bytes),
			TEST(limits),
			TEST(encoded_once),
			TEST(leaves_inside),
			TEST(links),
			TEST(held),
			TEST(hot),
			LOG_TEST(tried_again),
			LOG_TEST(poison),
			LOG_TEST(restarts),
			LOG_TEST(spills),
			LOG_TEST(log_fails),
			LOG_TEST(closes_busy),
			LOG_TEST(sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
