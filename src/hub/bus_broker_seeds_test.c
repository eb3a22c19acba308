/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Property test: three hubs on one simulated broker, whose links are cut and heal, whose answers are
 * lost and late; logs that are slow, fail and crash; hubs that are killed and return; subscribers of
 * every mood. Whatever the seed:
 *
 *	- every publication ends once
 *	- durable: who wants events at least once, at whichever hub, gets every one whose publisher was told
 *	  that it was taken, and in the end the broker keeps nothing
 *	- else: nobody gets an event twice, or out of its publisher's order; while no link is cut everybody
 *	  gets every one
 *	- of every subscriber: offered = delivered + failed + dropped + queued, at any time
 *	- no memory is left
 */
#include "hub/bus_broker_world_test.h"
#include "io/seeds_test.h"

#define HUBS 3u
#define SUBS 3u    /* of each hub */
#define KEEPERS 2u /* the first of them: at least once */
#define STEPS 80

struct hub {
	struct sn_bus *bus;
	struct bw_log *log;
	bool cut;
};

struct seed {
	struct bw *w;
	struct sn_sim_broker *broker;
	struct hub hubs[HUBS];
	bool durable, calm, all_cut;
	bool wanted[BW_EVENTS]; /* of type "x" */
	unsigned char from[BW_EVENTS];
};

static const char *const hub_ids[HUBS] = {"one", "two", "three"};

static uint64_t below(struct seed *s, uint64_t n)
{
	return sn__rng_below(&s->w->rng, n);
}

static struct bw_sub *sub_of(struct seed *s, unsigned hub, unsigned i)
{
	return bw_sub(s->w, hub * SUBS + i);
}

static void new_mood(struct seed *s, struct bw_sub *sub)
{
	static const enum bw_mood moods[] = {BW_TAKES, BW_TAKES, BW_FAILS, BW_SILENT, BW_SLOW};
	bool was_silent = sub->mood == BW_SILENT;

	sub->mood = s->calm ? BW_TAKES : moods[below(s, SN_COUNT(moods))];
	sub->slow_ms = 1 + (unsigned)below(s, 200);
	for (unsigned i = 0; was_silent && sub->mood != BW_SILENT && i < SN_COUNT(sub->flight); i++)
		if (sub->flight[i].sub != NULL && !sn_timer_armed(&sub->flight[i].timer))
			bw_answer(&sub->flight[i]);
}

static void hub_open(struct seed *s, unsigned i)
{
	struct sn_bus_options opts = {0};
	struct hub *h = &s->hubs[i];

	assert_int_equal(bbw_link_open(s->w, hub_ids[i], s->durable, &opts.link), 0);
	if (s->durable) {
		bw_log_reopen(h->log);
		opts.log = &h->log->log;
	}
	assert_int_equal(sn__bus_create(s->w->loop, &opts, &h->bus), 0);
	for (unsigned n = 0; n < SUBS; n++) {
		struct bw_sub *sub = sub_of(s, i, n);

		assert_int_equal(sn__bus_attach(h->bus, &sub->s), 0);
		assert_int_equal(sn__bus_subscribe(&sub->s, SN_STR("x")), 0);
	}
}

static void cut(struct seed *s, unsigned i, bool is)
{
	s->hubs[i].cut = is;
	sn__sim_broker_cut(s->broker, hub_ids[i], is);
}

/* Half of them are killed: nothing of theirs is written or sent any more. */
static void restart(struct seed *s, unsigned i)
{
	struct hub *h = &s->hubs[i];
	bool killed = below(s, 2) == 0;

	if (killed)
		cut(s, i, true);
	h->log->dead = killed;
	for (unsigned n = 0; n < SUBS; n++)
		bw_give_up(sub_of(s, i, n));
	bw_bus_close(s->w, &h->bus);
	if (killed)
		cut(s, i, false);
	bw_pass(s->w, below(s, 3) == 0 ? below(s, 3000) : 0);
	hub_open(s, i);
}

static void set_up(struct seed *s)
{
	for (unsigned i = 0; i < HUBS * SUBS; i++) {
		struct bw_sub *sub = bw_sub(s->w, i);
		bool keeper = s->durable && i % SUBS < KEEPERS;

		sub->s.at_least_once = keeper;
		sub->s.window = below(s, 2) == 0 ? 1 : 1 + (unsigned)below(s, 20);
		sub->s.queue_max = below(s, 2) == 0 && !s->calm ? 1 + below(s, 12) : 0;
		sub->s.retry_min_ms = 10 + (uint32_t)below(s, 100);
		sub->s.retry_max_ms = 200 + (uint32_t)below(s, 1000);
		sub->s.full = (enum sn_bus_full)below(s, 2); /* nobody is sent away */
		new_mood(s, sub);
	}
	for (unsigned i = 0; i < HUBS; i++) {
		struct bw_log *l = test_calloc(1, sizeof *l);

		l->log = s->w->log.log;
		l->loop = s->w->loop;
		l->rng = &s->w->rng;
		sn_list_init(&l->ops);
		s->hubs[i].log = l;
		hub_open(s, i);
	}
	bw_pass(s->w, 200); /* the broker knows them */
}

static void publish(struct seed *s)
{
	unsigned hub = (unsigned)below(s, HUBS), number = s->w->n_pubs;
	bool all = below(s, 10) == 0, other = !all && below(s, 8) == 0;

	if (number + 1 >= BW_EVENTS / 8 || s->hubs[hub].bus == NULL)
		return;
	s->wanted[number] = !other;
	s->from[number] = (unsigned char)hub;
	assert_non_null(bw_publish_at(
			s->w, s->hubs[hub].bus, other ? "y" : "x", all, below(s, 2) == 0));
}

static void trouble_broker(struct seed *s)
{
	struct sn_sim_broker *b = s->broker;

	b->delay_ms = below(s, 3) == 0 ? 0 : below(s, 300);
	b->ack_wait_ms = 50 + below(s, 2000);
	b->mute = below(s, 2) == 0 ? 0 : (unsigned)below(s, 400);
	b->full = below(s, 2) == 0 ? 0 : (unsigned)below(s, 400);
	b->twice = below(s, 2) == 0 ? 0 : (unsigned)below(s, 400);
	b->overtake = below(s, 2) == 0 ? 0 : (unsigned)below(s, 400);
}

static void trouble(struct seed *s, unsigned i)
{
	struct bw_log *l = s->hubs[i].log;

	switch (below(s, 6)) {
	case 0:
		trouble_broker(s);
		break;
	case 1:
		cut(s, i, !s->hubs[i].cut);
		break;
	case 2:
		if (below(s, 4) == 0) {
			s->all_cut = !s->all_cut;
			sn__sim_broker_cut(s->broker, NULL, s->all_cut);
		}
		break;
	case 3:
		l->delay_ms = below(s, 2) == 0 ? (unsigned)below(s, 400) : 0;
		l->fail = below(s, 3) == 0 ? 300 : 0;
		break;
	case 4:
		if (below(s, 2) == 0)
			restart(s, i);
		break;
	default:
		new_mood(s, sub_of(s, i, (unsigned)below(s, SUBS)));
		break;
	}
}

static void step(struct seed *s)
{
	for (uint64_t n = below(s, 8); n > 0; n--)
		publish(s);
	if (!s->calm)
		trouble(s, (unsigned)below(s, HUBS));
	bw_pass(s->w, below(s, 4) == 0 ? below(s, 1000) : below(s, 3));
	for (unsigned i = 0; i < HUBS * SUBS; i++)
		bw_check(&s->w->subs[i]);
}

/* Everything is well again. */
static void heal(struct seed *s)
{
	struct sn_sim_broker *b = s->broker;

	b->mute = b->full = b->twice = b->overtake = 0;
	s->calm = true;
	sn__sim_broker_cut(b, NULL, false);
	for (unsigned i = 0; i < HUBS; i++) {
		cut(s, i, false);
		s->hubs[i].log->fail = s->hubs[i].log->delay_ms = 0;
		for (unsigned n = 0; n < SUBS; n++)
			new_mood(s, sub_of(s, i, n));
	}
	bw_pass(s->w, 90000);
}

static void check_keeper(struct seed *s, const struct bw_sub *sub, bool single)
{
	bool *has = test_calloc(BW_EVENTS, sizeof *has);

	for (unsigned i = 0; i < sub->n_got; i++)
		has[sub->got[i]] = true;
	for (unsigned i = 1; i < s->w->n_pubs; i++) {
		bool must = s->wanted[i] && s->w->pubs[i].code == 0;

		if (single && must && !has[i])
			print_message("%s has not got %u of %s\n", sub->id, i, hub_ids[s->from[i]]);
		assert_true(!must || has[i]);
	}
	test_free(has);
}

/* @all: it has every event. */
static void check_once(struct seed *s, const struct bw_sub *sub, bool all)
{
	unsigned last[HUBS] = {0}, n = 0;

	for (unsigned i = 0; i < sub->n_got; i++) {
		unsigned number = sub->got[i], from = s->from[number];

		if (sub->s.window == 1)
			assert_true(number > last[from]);
		last[from] = number;
		for (unsigned j = 0; j < i; j++)
			assert_true(sub->got[j] != number);
	}
	for (unsigned i = 1; i < s->w->n_pubs; i++)
		n += s->wanted[i];
	if (all)
		assert_int_equal(sub->n_got, n);
}

static void check(struct seed *s, bool calm, bool single)
{
	struct sn_bus_counts counts;

	for (unsigned i = 1; i < s->w->n_pubs; i++)
		assert_int_equal(s->w->pubs[i].done, 1);
	for (unsigned i = 0; i < HUBS; i++) {
		sn__bus_counts(s->hubs[i].bus, &counts);
		assert_int_equal(counts.queued, 0);
		assert_int_equal(counts.queued_bytes, 0);
		assert_int_equal(counts.publishing, 0);
		for (unsigned n = 0; n < SUBS; n++) {
			const struct bw_sub *sub = sub_of(s, i, n);

			bw_check(sub);
			if (s->durable && n < KEEPERS)
				check_keeper(s, sub, single);
			if (!s->durable || calm)
				check_once(s, sub, calm);
		}
	}
	assert_int_equal(sn__sim_broker_kept(s->broker), 0);
}

static void one(uint64_t seed, bool single)
{
	struct seed *s = test_calloc(1, sizeof *s);
	bool calm;

	sn__drivers_add_for_tests(bbw_drivers);
	s->w = bw_new(seed);
	s->broker = sn__sim_broker("a");
	sn__rng_seed(&s->broker->rng, seed);
	s->durable = below(s, 3) != 0;
	calm = s->calm = below(s, 6) == 0;
	set_up(s);
	if (calm)
		s->broker->delay_ms = below(s, 300);
	for (unsigned i = 0; i < STEPS; i++)
		step(s);
	heal(s);
	check(s, calm, single);
	for (unsigned i = 0; i < HUBS; i++) {
		bw_bus_close(s->w, &s->hubs[i].bus);
		test_free(s->hubs[i].log);
	}
	bw_free(s->w);
	sn__sim_broker_reset();
	sn__drivers_add_for_tests(NULL);
	test_free(s);
}

int main(void)
{
	return seeds_main("bus_broker", one);
}
