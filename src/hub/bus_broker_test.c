/* SPDX-License-Identifier: Apache-2.0 */

/* A link to a simulated broker: what its own hub and other hubs see of it. The real brokers are in
 * tests/connect/bus_broker_test.c, every fault at once in bus_broker_seeds_test.c. */

#include "hub/bus_broker_world_test.h"

struct world {
	struct bw *w; /* its bus: hub "one", its second bus: hub "two" */
	struct sn_sim_broker *broker;
	struct bw_log *log; /* of hub "two" */
};

static int open_second(struct world *x, bool durable)
{
	struct sn_bus_options opts = {0};
	int r;

	r = bbw_link_open(x->w, "two", durable, &opts.link);
	if (r < 0)
		return r;
	bw_log_reopen(x->log);
	opts.log = &x->log->log;
	r = sn__bus_create(x->w->loop, &opts, &x->w->second);
	if (r < 0) {
		bool closed = false;

		opts.link->close(opts.link, bw_set, &closed);
		bw_pass(x->w, 1000);
		assert_true(closed);
		return r;
	}
	r = sn__bus_attach(x->w->second, &bw_sub(x->w, 1)->s);
	return r == 0 ? sn__bus_subscribe(&bw_sub(x->w, 1)->s, SN_STR("x")) : r;
}

static void open_first(struct world *x, bool durable)
{
	struct sn_bus_options opts = {0};

	assert_int_equal(bbw_link_open(x->w, "one", durable, &opts.link), 0);
	assert_int_equal(sn__bus_create(x->w->loop, &opts, &x->w->bus), 0);
	(void)bw_attach(x->w, 0, "x");
}

/* The broker's memory is that of the test itself: so both ends are inside it. */
struct test {
	void (*fn)(struct world *x);
};

static void run(void **state)
{
	const struct test *t = *state;
	struct world *x = test_calloc(1, sizeof *x);

	sn__drivers_add_for_tests(bbw_drivers);
	x->w = bw_new(1);
	x->broker = sn__sim_broker("a");
	x->log = test_calloc(1, sizeof *x->log);
	x->log->log = x->w->log.log;
	x->log->loop = x->w->loop;
	x->log->rng = &x->w->rng;
	sn_list_init(&x->log->ops);
	bw_sub(x->w, 1)->s.at_least_once = true;
	t->fn(x);
	bw_free(x->w);
	sn__sim_broker_reset();
	sn__drivers_add_for_tests(NULL);
	test_free(x->log);
	test_free(x);
}

/* It comes a second time while the log is still writing it, which then fails: it comes a third time. */
static void slow_log(struct world *x)
{
	struct bw_pub *p;

	open_first(x, true);
	assert_int_equal(open_second(x, true), 0);
	bw_pass(x->w, 100);
	x->w->subs[1].mood = BW_SILENT;
	x->broker->ack_wait_ms = 100;
	x->log->delay_ms = 1000;
	x->log->fail = 1000;
	p = bw_publish(x->w, "x");
	while (x->broker->redelivered == 0)
		bw_pass(x->w, 10);
	assert_int_equal(p->code, 0);
	bw_give_up(&x->w->subs[1]); /* nobody has it when the hub dies */
	x->log->dead = true;
	bw_bus_close(x->w, &x->w->second);
	assert_int_equal(sn__sim_broker_kept(x->broker), 1);
	x->log->fail = x->log->delay_ms = 0;
	x->w->subs[1].mood = BW_TAKES;
	assert_int_equal(open_second(x, true), 0);
	bw_pass(x->w, 2000);
	assert_int_equal(x->w->subs[1].n_got, 1);
	assert_int_equal(sn__sim_broker_kept(x->broker), 0);
}

/* The broker is away: without `durable` a publisher hears so at once, with it after having tried. */
static void away(struct world *x)
{
	struct bw_pub *p;

	open_first(x, false);
	bw_pass(x->w, 100);
	sn__sim_broker_cut(x->broker, NULL, true);
	p = bw_publish(x->w, "x");
	bw_pass(x->w, 20);
	assert_int_equal(p->code, SN_E_CONNECT);
	assert_int_equal(x->w->subs[0].n_got, 1);
	assert_int_equal(open_second(x, true), 0);
	p = bw_publish_at(x->w, x->w->second, "x", false, false);
	bw_pass(x->w, SN_BUS_BROKER_PATIENCE_S * 1000 - 1000);
	assert_int_equal(p->done, 0);
	bw_pass(x->w, 2000);
	assert_int_equal(p->code, SN_E_CONNECT);
	p = bw_publish_at(x->w, x->w->second, "x", false, false);
	bw_pass(x->w, 1000);
	sn__sim_broker_cut(x->broker, NULL, false);
	bw_pass(x->w, 1000);
	assert_int_equal(p->done, 1);
	assert_int_equal(p->code, 0);
}

/* Its answer was lost, so that it is published again: under the same id, and stored once. */
static void again(struct world *x)
{
	struct bw_pub *p;

	open_first(x, true);
	assert_int_equal(open_second(x, true), 0);
	bw_pass(x->w, 100);
	x->broker->mute = 1000;
	p = bw_publish(x->w, "x");
	bw_pass(x->w, 1000);
	assert_int_equal(p->done, 0);
	x->broker->mute = 0;
	bw_pass(x->w, 1000);
	assert_int_equal(p->code, 0);
	assert_true(x->broker->repeated > 0);
	assert_int_equal(x->broker->stored, 1);
	assert_int_equal(x->w->subs[1].n_got, 1);
}

static unsigned publish_some(struct world *x)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 6; i++) {
		if (bw_publish_at(x->w, i % 2 == 0 ? x->w->bus : x->w->second, "x", false, false) !=
				NULL)
			n++;
		bw_pass(x->w, i == 3 ? 300 : 0);
	}
	bw_pass(x->w, 3000);
	return n;
}

/* Every allocation of hub "two" and of its traffic fails once: everything ends, and what publishers
 * were told is there is there. */
static void sweep(struct world *x, bool durable)
{
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct bw_sub *b = bw_sub(x->w, 1);
		unsigned first = x->w->n_pubs, n = 0;
		int code;

		if (x->w->bus == NULL)
			open_first(x, durable);
		memset(b, 0, sizeof *b);
		bw_sub(x->w, 1)->s.at_least_once = true;
		bw_pass(x->w, 100);
		sn__mem_fail_nth(nth);
		code = open_second(x, durable);
		assert_true(code == 0 || code == SN_E_NOMEM);
		if (code == 0) {
			bw_pass(x->w, 100);
			n = publish_some(x);
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		bw_pass(x->w, 20000);
		for (unsigned i = first; i < x->w->n_pubs; i++) {
			bool has = false;

			assert_int_equal(x->w->pubs[i].done, 1);
			for (unsigned k = 0; k < b->n_got; k++)
				has = has || b->got[k] == i;
			assert_true(has || x->w->pubs[i].code != 0 || !durable);
		}
		if (!failed)
			assert_int_equal(n, 6);
		if (x->w->second != NULL)
			bw_bus_close(x->w, &x->w->second);
		bw_log_drop(&x->log->log, "sb");
		x->log->n_kept = 0;
	}
}

static void sweep_plain(struct world *x)
{
	sweep(x, false);
}

static void sweep_durable(struct world *x)
{
	sweep(x, true);
}

#define TEST(fn) \
	{ \
#fn, run, NULL, NULL, &(struct test) \
		{ \
			fn \
		} \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
			TEST(slow_log),
			TEST(away),
			TEST(again),
			TEST(sweep_plain),
			TEST(sweep_durable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
