/* SPDX-License-Identifier: Apache-2.0 */
/* What a loop promises, on both back ends: timers, turns, tasks, posts, hooks, jobs. */
#include "io/world_test.h"

#include <string.h>

/* ---- timers ---- */

struct alarm {
	struct sn_timer timer;
	struct sn_loop *loop;
	uint64_t due_ns, turn;
	unsigned *order;
	unsigned rank;
	struct alarm *stop, *restart;
	bool fired, punctual; /* on the virtual clock nothing else is late */
};

static void on_alarm(struct sn_timer *t)
{
	struct alarm *a = SN_CONTAINER_OF(t, struct alarm, timer);

	assert_false(sn_timer_armed(t));
	assert_true(sn__loop_now_ns(a->loop) >= a->due_ns);
	assert_true(sn__loop_turn(a->loop) > a->turn);
	if (a->punctual)
		assert_in_range(sn__loop_now_ns(a->loop) - a->due_ns, 0, 10 * SN_NS_PER_MS + 10000);
	a->rank = a->order != NULL ? ++*a->order : 1;
	a->fired = true;
	if (a->stop != NULL)
		sn__timer_stop(a->loop, &a->stop->timer);
	if (a->restart != NULL) {
		a->restart->turn = sn__loop_turn(a->loop);
		sn__timer_start(a->loop, &a->restart->timer, 0, on_alarm);
	}
}

static void set(struct world *w, struct alarm *a, uint64_t delay_ns)
{
	a->loop = w->a;
	a->punctual = w->sim != NULL;
	a->due_ns = sn__loop_now_ns(w->a) + delay_ns;
	a->turn = sn__loop_turn(w->a);
	sn__timer_start(w->a, &a->timer, delay_ns, on_alarm);
}

static void timers_in_order(void **state)
{
	struct world *w = *state;
	static const unsigned delays_ms[] = {90, 0, 700, 30, 60, 1};
	static const unsigned ranks[] = {5, 0, 6, 3, 4, 0};
	struct alarm alarms[6] = {{.rank = 0}};
	unsigned order = 0;
	uint64_t late;

	for (int i = 0; i < 6; i++) {
		alarms[i].order = &order;
		set(w, &alarms[i], delays_ms[i] * SN_NS_PER_MS);
	}
	world_run(w, &alarms[2].fired);
	for (int i = 0; i < 6; i++) {
		assert_true(alarms[i].fired);
		if (ranks[i] != 0)
			assert_int_equal(alarms[i].rank, ranks[i]);
	}
	late = sn__loop_now_ns(w->a) - alarms[2].due_ns;
	if (w->sim != NULL)
		assert_in_range(late, 0, 10 * SN_NS_PER_MS + 10000);
}

static void timers_stop_and_restart(void **state)
{
	struct world *w = *state;
	struct alarm victim = {.rank = 0}, killer = {.stop = &victim}, again = {.restart = NULL};
	struct alarm last = {.rank = 0}, spring = {.restart = &again};

	again.loop = w->a;
	set(w, &killer, 10 * SN_NS_PER_MS);
	set(w, &victim, 10 * SN_NS_PER_MS); /* the same slot, behind */
	set(w, &spring, 10 * SN_NS_PER_MS);
	set(w, &last, 10 * SN_NS_PER_MS);
	set(w, &last, 50 * SN_NS_PER_MS); /* anew */
	world_run(w, &last.fired);
	assert_true(killer.fired);
	assert_false(victim.fired);
	assert_false(sn_timer_armed(&victim.timer));
	assert_true(again.fired);
	sn__timer_stop(w->a, &last.timer); /* twice does no harm */
}

/* Long delays go through every level of the wheel; only the virtual clock has the patience. */
static void timers_long(void **state)
{
	struct world *w = *state;
	static const uint64_t delays_s[] = {
			1, 40, 42, 2600, 2700, 90000, 200000, 20000000, 900000000};
	struct alarm alarms[SN_COUNT(delays_s)] = {{.rank = 0}};

	for (size_t i = 0; i < SN_COUNT(delays_s); i++)
		set(w, &alarms[i], delays_s[i] * SN_NS_PER_S);
	for (size_t i = 0; i < SN_COUNT(delays_s); i++) {
		world_run(w, &alarms[i].fired);
		assert_in_range(sn__loop_now_ns(w->a) - alarms[i].due_ns, 0, 11 * SN_NS_PER_MS);
	}
}

/* The wheel's slots begin at round times: due exactly there, or a moment before or after. */
static void timers_round(void **state)
{
	struct world *w = *state;
	static const uint64_t rounds_ms[] = {640, 640 * 64, 640 * 64 * 64};
	struct alarm alarms[3][3] = {{{.rank = 0}}};
	uint64_t now = sn__loop_now_ns(w->a);

	for (int i = 0; i < 3; i++) {
		uint64_t slot = rounds_ms[i] * SN_NS_PER_MS;
		uint64_t due = (now / slot + 3) * slot;

		set(w, &alarms[i][0], due - now - 1);
		set(w, &alarms[i][1], due - now);
		set(w, &alarms[i][2], due - now + 1);
	}
	for (int i = 0; i < 3; i++) {
		for (int k = 0; k < 3; k++)
			world_run(w, &alarms[i][k].fired);
	}
}

/* A timer that comes before the one the loop waits for. */
static void timers_sooner(void **state)
{
	struct world *w = *state;
	struct alarm later = {.rank = 0}, sooner = {.rank = 0};

	set(w, &later, 20 * SN_NS_PER_S);
	(void)world_poll(w);
	(void)world_poll(w);
	set(w, &sooner, 20 * SN_NS_PER_MS);
	world_run(w, &sooner.fired);
	assert_false(later.fired);
	sn__timer_stop(w->a, &later.timer);
}

/* Random starts, stops and restarts against a plain array. */
static void timers_random(void **state)
{
	struct world *w = *state;
	struct alarm alarms[64] = {{.rank = 0}};
	struct sn_rng rng;

	sn__rng_seed(&rng, 5);
	for (int round = 0; round < 3000; round++) {
		struct alarm *a = &alarms[sn__rng_below(&rng, 64)];

		a->fired = false;
		if (sn__rng_below(&rng, 4) == 0) {
			sn__timer_stop(w->a, &a->timer);
			a->due_ns = SN_NEVER_NS;
		} else {
			set(w, a,
					sn__rng_below(&rng,
							UINT64_C(1) << (20 +
									sn__rng_below(&rng, 22))));
		}
		(void)sn__sim_run(
				w->sim, sn__sim_now_ns(w->sim) + sn__rng_below(&rng, SN_NS_PER_S));
		for (int i = 0; i < 64; i++) {
			if (sn_time_add(alarms[i].due_ns, 11 * SN_NS_PER_MS) <
					sn__sim_now_ns(w->sim))
				assert_true(alarms[i].fired || alarms[i].loop == NULL);
			if (alarms[i].due_ns > sn__sim_now_ns(w->sim))
				assert_false(alarms[i].fired);
		}
	}
	for (int i = 0; i < 64; i++)
		sn__timer_stop(w->a, &alarms[i].timer);
}

/* ---- tasks, posts, hooks ---- */

struct step {
	struct sn_task task;
	struct sn_hook hook;
	struct sn_loop *loop;
	struct step *next, *cancel;
	uint64_t turn;
	unsigned runs, limit;
	bool done;
};

static void on_task(struct sn_task *task)
{
	struct step *s = SN_CONTAINER_OF(task, struct step, task);

	assert_true(sn__loop_turn(s->loop) > s->turn);
	assert_false(sn_task_queued(task));
	s->turn = sn__loop_turn(s->loop);
	s->runs++;
	if (s->cancel != NULL)
		sn__loop_undefer(s->loop, &s->cancel->task);
	if (s->runs < s->limit)
		sn__loop_defer(s->loop, task, on_task);
	else
		s->done = true;
}

static void tasks_wait_for_the_next_turn(void **state)
{
	struct world *w = *state;
	struct step a = {.loop = w->a, .limit = 5}, b = {.loop = w->a, .limit = 1},
		    c = {.loop = w->a};

	a.cancel = &c;
	a.turn = b.turn = sn__loop_turn(w->a);
	sn__loop_defer(w->a, &a.task, on_task);
	sn__loop_defer(w->a, &a.task, on_task); /* once only */
	sn__loop_defer(w->a, &b.task, on_task);
	sn__loop_defer(w->a, &c.task, on_task);
	assert_int_equal(a.runs, 0);
	world_run(w, &a.done);
	assert_int_equal(a.runs, 5);
	assert_int_equal(b.runs, 1);
	assert_int_equal(c.runs, 0);
}

static void on_post(struct sn_task *task)
{
	struct step *s = SN_CONTAINER_OF(task, struct step, task);

	assert_true(sn__loop_is_here(s->loop));
	s->runs++;
	s->done = true;
	if (s->next != NULL)
		assert_false(s->next->done); /* in order */
}

static void posts_of_the_own_thread(void **state)
{
	struct world *w = *state;
	struct step a = {.loop = w->a}, b = {.loop = w->a};

	a.next = &b;
	sn__loop_hold(w->a, true); /* a host's loop with nothing to wait for would not look */
	sn__loop_post(w->a, &a.task, on_post);
	sn__loop_post(w->a, &b.task, on_post);
	assert_int_equal(a.runs + b.runs, 0);
	(void)world_poll(w);
	sn__loop_hold(w->a, false);
	assert_int_equal(a.runs, 1);
	assert_int_equal(b.runs, 1);
}

static void on_hook(struct sn_hook *hook)
{
	struct step *s = SN_CONTAINER_OF(hook, struct step, hook);

	assert_true(sn__loop_turn(s->loop) > s->turn); /* once a turn */
	s->turn = sn__loop_turn(s->loop);
	s->runs++;
	if (s->cancel != NULL)
		sn__loop_hook_remove(s->loop, &s->cancel->hook);
}

static void hooks_end_every_turn(void **state)
{
	struct world *w = *state;
	struct step task = {.loop = w->a, .limit = 7}, first = {.loop = w->a},
		    second = {.loop = w->a};
	struct step third = {.loop = w->a};

	first.cancel = &second;
	sn__loop_hook_add(w->a, &first.hook, on_hook);
	sn__loop_hook_add(w->a, &second.hook, on_hook);
	sn__loop_hook_add(w->a, &third.hook, on_hook);
	first.turn = third.turn = sn__loop_turn(w->a);
	sn__loop_defer(w->a, &task.task, on_task);
	world_run(w, &task.done);
	assert_true(first.runs >= 7);
	assert_int_equal(second.runs, 0);
	assert_int_equal(third.runs, first.runs);
	assert_int_equal(third.turn, sn__loop_turn(w->a));
	sn__loop_hook_remove(w->a, &first.hook);
	sn__loop_hook_remove(w->a, &second.hook);
	sn__loop_hook_remove(w->a, &third.hook);
}

/* ---- jobs ---- */

struct count_job {
	struct sn_job job;
	struct world *w;
	unsigned n;
	uint64_t turn;
	bool done;
};

static void on_work(struct sn_job *job)
{
	struct count_job *c = SN_CONTAINER_OF(job, struct count_job, job);

	if (c->w->sim == NULL)
		assert_false(sn__loop_is_here(job->loop));
	c->n++;
}

static void on_work_done(struct sn_job *job)
{
	struct count_job *c = SN_CONTAINER_OF(job, struct count_job, job);

	assert_true(sn__loop_is_here(job->loop));
	assert_int_equal(c->n, 1);
	assert_true(sn__loop_turn(job->loop) > c->turn);
	c->done = true;
}

static void jobs(void **state)
{
	struct world *w = *state;
	struct count_job c[8];

	for (int i = 0; i < 8; i++) {
		c[i] = (struct count_job){.w = w, .turn = sn__loop_turn(w->a)};
		assert_int_equal(sn__loop_work(w->a, &c[i].job, on_work, on_work_done), 0);
		assert_false(c[i].done);
	}
	for (int i = 0; i < 8; i++)
		world_run(w, &c[i].done);
}

/* ---- the clock ---- */

static void clocks(void **state)
{
	struct world *w = *state;
	uint64_t now = sn__loop_now_ns(w->a), year = UINT64_C(31556952) * SN_NS_PER_S;

	assert_true(now > 0);
	assert_true(sn__loop_clock_ns(w->a) >= now);
	assert_true(sn__loop_wall_ns(w->a) > 50 * year);
	(void)sn__rng_u64(sn__loop_rng(w->a));
}

static void nothing_to_do(void **state)
{
	struct world *w = *state;
	struct alarm a = {.rank = 0};

	set(w, &a, SN_NS_PER_S);
	sn__timer_stop(w->a, &a.timer);
	assert_false(world_poll(w));
	assert_false(world_drain(w)); /* returns at once */
}

#define ALL(test) \
	cmocka_unit_test_setup_teardown(test, world_uv, world_close), \
			cmocka_unit_test_setup_teardown(test, world_host, world_close), \
			cmocka_unit_test_setup_teardown(test, world_sim, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
			ALL(timers_in_order),
			ALL(timers_stop_and_restart),
			cmocka_unit_test_setup_teardown(timers_long, world_sim, world_close),
			cmocka_unit_test_setup_teardown(timers_round, world_sim, world_close),
			ALL(timers_sooner),
			cmocka_unit_test_setup_teardown(timers_random, world_sim, world_close),
			ALL(tasks_wait_for_the_next_turn),
			ALL(posts_of_the_own_thread),
			ALL(hooks_end_every_turn),
			ALL(jobs),
			ALL(clocks),
			ALL(nothing_to_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
