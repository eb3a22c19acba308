/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Property test: a bus with a log that is slow, fails and crashes; subscribers of every mood, policy
 * and window, which come and go; publishers who forget. Whatever the seed:
 *
 *	- every publication that was not forgotten ends once, and each of its results comes once
 *	- who wants events at least once gets every one whose publisher was told that it was taken
 *	- the others get none twice, and in order
 *	- of every subscriber: offered = delivered + failed + dropped + queued, at any time
 *	- a subscriber without a backlog is never waited for, and no memory is left
 */
#include "hub/bus_world_test.h"
#include "io/seeds_test.h"

#define SUBS 8
#define KEEPERS 4 /* the first of them: at least once */
#define STEPS 100

struct seed {
	struct bw *w;
	struct sn_bus_options opts;
	bool wanted[BW_EVENTS]; /* of type "x", which the keepers want */
	bool forgotten[BW_EVENTS];
};

static const char *const types[] = {"x", "y"};

static uint64_t below(struct seed *s, uint64_t n)
{
	return sn__rng_below(&s->w->rng, n);
}

static void new_mood(struct seed *s, struct bw_sub *sub)
{
	static const enum bw_mood moods[] = {BW_TAKES, BW_TAKES, BW_FAILS, BW_SILENT, BW_SLOW};
	bool was_silent = sub->mood == BW_SILENT;

	sub->mood = moods[below(s, SN_COUNT(moods))];
	sub->slow_ms = 1 + (unsigned)below(s, 100);
	sub->poison = below(s, 4) == 0 ? (unsigned)below(s, 300) : 0;
	for (unsigned i = 0; was_silent && sub->mood != BW_SILENT && i < SN_COUNT(sub->flight); i++)
		if (sub->flight[i].sub != NULL && !sn_timer_armed(&sub->flight[i].timer))
			bw_answer(&sub->flight[i]);
}

static void join(struct seed *s, unsigned i)
{
	struct bw_sub *sub = bw_sub(s->w, i);

	assert_int_equal(sn__bus_attach(s->w->bus, &sub->s), 0);
	assert_int_equal(sn__bus_subscribe(&sub->s, SN_STR("x")), 0);
	if (i % 2 == 0)
		assert_int_equal(sn__bus_subscribe(&sub->s, SN_STR("y")), 0);
}

static void set_up(struct seed *s, unsigned i)
{
	struct bw_sub *sub = bw_sub(s->w, i);

	sub->s.at_least_once = i < KEEPERS;
	sub->s.window = below(s, 2) == 0 ? 1 : 1 + (unsigned)below(s, 20);
	sub->s.queue_max = below(s, 2) == 0 ? 0 : 1 + below(s, 12);
	sub->s.retry_min_ms = 10 + (uint32_t)below(s, 100);
	sub->s.retry_max_ms = 200 + (uint32_t)below(s, 1000);
	sub->s.full = i < KEEPERS ? (enum sn_bus_full)below(s, 2) : (enum sn_bus_full)below(s, 3);
	new_mood(s, sub);
	join(s, i);
}

static void restart(struct seed *s)
{
	s->w->log.dead = below(s, 2) == 0;
	for (unsigned i = 0; i < SUBS; i++)
		bw_give_up(&s->w->subs[i]);
	bw_bus_close(s->w, &s->w->bus);
	assert_int_equal(bw_bus_open(s->w, &s->opts), 0);
	for (unsigned i = 0; i < SUBS; i++)
		join(s, i);
}

static void publish(struct seed *s)
{
	const char *type = types[below(s, 4) == 0];
	bool all = below(s, 10) == 0;
	struct bw_pub *p;

	if (s->w->n_pubs + 1 >= BW_EVENTS / 4)
		return;
	s->wanted[s->w->n_pubs] = all || type[0] == 'x';
	p = bw_publish_at(s->w, s->w->bus, type, all, below(s, 2) == 0);
	assert_non_null(p);
	if (below(s, 30) == 0) {
		sn__bus_publish_forget(&p->p);
		s->forgotten[p - s->w->pubs] = true;
	}
}

static void step(struct seed *s)
{
	unsigned i = (unsigned)below(s, SUBS);
	struct bw_sub *sub = &s->w->subs[i];

	switch (below(s, 12)) {
	case 0:
	case 1:
		new_mood(s, sub);
		break;
	case 2:
		if (i >= KEEPERS && sub->s.member != NULL)
			bw_detach(sub, below(s, 2) == 0);
		else if (sub->s.member == NULL)
			join(s, i);
		break;
	case 3:
		s->w->log.delay_ms = below(s, 2) == 0 ? (unsigned)below(s, 60) : 0;
		s->w->log.fail = below(s, 3) == 0 ? 200 : 0;
		break;
	case 4:
		if (below(s, 5) == 0)
			restart(s);
		break;
	default:
		for (uint64_t n = below(s, 8); n > 0; n--)
			publish(s);
		break;
	}
	bw_pass(s->w, below(s, 4) == 0 ? below(s, 300) : below(s, 3));
	for (i = 0; i < SUBS; i++)
		bw_check(&s->w->subs[i]);
}

static void check_keeper(struct seed *s, const struct bw_sub *sub, bool single)
{
	bool *has = test_calloc(BW_EVENTS, sizeof *has);

	for (unsigned i = 0; i < sub->n_got; i++)
		has[sub->got[i]] = true;
	for (unsigned i = 1; i < s->w->n_pubs; i++) {
		const struct bw_pub *p = &s->w->pubs[i];
		bool must = s->wanted[i] && !s->forgotten[i] && p->code == 0;

		if (single && must && !has[i])
			print_message("%s has not got %u\n", sub->id, i);
		assert_true(!must || has[i]);
	}
	test_free(has);
}

static void check_other(const struct bw_sub *sub)
{
	for (unsigned i = 1; i < sub->n_got; i++) {
		if (sub->s.window == 1)
			assert_true(sub->got[i] > sub->got[i - 1]);
		for (unsigned j = 0; j < i; j++)
			assert_true(sub->got[j] != sub->got[i]);
	}
}

static void check_pubs(struct seed *s)
{
	for (unsigned i = 1; i < s->w->n_pubs; i++) {
		const struct bw_pub *p = &s->w->pubs[i];

		assert_int_equal(p->done, !s->forgotten[i]);
		if (!s->forgotten[i] && p->p.result != NULL)
			assert_int_equal(p->results, p->subscribers);
	}
}

static void one(uint64_t seed, bool single)
{
	struct seed *s = test_calloc(1, sizeof *s);
	struct sn_bus_counts counts;

	s->w = bw_new(seed);
	s->w->with_log = true;
	s->opts.max_bytes = below(s, 2) == 0 ? 2000 : 0;
	assert_int_equal(bw_bus_open(s->w, &s->opts), 0);
	for (unsigned i = 0; i < SUBS; i++)
		set_up(s, i);
	for (unsigned i = 0; i < STEPS; i++)
		step(s);
	s->w->log.fail = s->w->log.delay_ms = 0;
	for (unsigned i = 0; i < SUBS; i++) {
		struct bw_sub *sub = &s->w->subs[i];

		if (sub->s.member == NULL)
			join(s, i);
		while (sub->mood != BW_TAKES)
			new_mood(s, sub);
		sub->poison = 0;
	}
	bw_pass(s->w, 60000);
	sn__bus_counts(s->w->bus, &counts);
	assert_int_equal(counts.queued, 0);
	assert_int_equal(counts.queued_bytes, 0);
	assert_int_equal(counts.publishing, 0);
	check_pubs(s);
	for (unsigned i = 0; i < SUBS; i++) {
		bw_check(&s->w->subs[i]);
		assert_int_equal(s->w->subs[i].s.queued, 0);
		if (i < KEEPERS)
			check_keeper(s, &s->w->subs[i], single);
		else
			check_other(&s->w->subs[i]);
	}
	bw_free(s->w);
	test_free(s);
}

int main(void)
{
	return seeds_main("bus", one);
}
