/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_HEALTH_WORLD_TEST_H
#define SN_SRC_HUB_HEALTH_WORLD_TEST_H

/* Internal, tests only: instances in simulated time, and a checker that asks them. */

#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "hub/health.h"
#include "io/sim.h"

#define ASKED_MAX 1024

struct inst {
	struct sn_hub_checked c;
	char name[16];
	/* how it is */
	int code, foreign; /* 0: it lives */
	uint32_t slow_ms;
	/* what became of it */
	unsigned asked;
	unsigned went_unwell, went_well;
	uint64_t asked_ns, changed_ns;
	uint64_t gap_min_ns, gap_max_ns; /* between two checks */
	char why[64];
	bool under_way;
	void (*then)(struct inst *i); /* in changed() */
};

struct asked {
	struct sn_hub_probe *probe; /* NULL: free */
	struct inst *inst;          /* NULL: cancelled */
	struct sn_timer timer;
};

struct world {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_hub_health *health;
	struct sn_hub_checker checker;
	struct sn_hub_check_spec spec;
	struct asked asked[ASKED_MAX];
	unsigned n_asked, max_asked; /* at once */
	unsigned n_kept;             /* by the checker */
	unsigned n_cancelled;
	bool destroyed;
	void (*judged)(struct inst *i,
			int code); /* may be NULL: of a check that ended uncancelled */
	int64_t live;
};
static struct world w;

static inline void fake_done(struct sn_timer *t)
{
	struct asked *a = SN_CONTAINER_OF(t, struct asked, timer);
	struct sn_hub_probe *probe = a->probe;
	struct inst *i = a->inst;
	struct sn_error err;

	a->probe = NULL;
	w.n_asked--;
	(void)sn__error_set(&err, i == NULL ? SN_E_CANCELLED : i->code, "code %d",
			i == NULL ? SN_E_CANCELLED : i->code);
	if (i != NULL) {
		err.foreign = i->foreign;
		i->under_way = false;
		if (w.judged != NULL)
			w.judged(i, i->code);
	}
	probe->done(probe, i != NULL && i->code == 0 ? NULL : &err);
}

static inline void fake_start(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	struct inst *i = SN_CONTAINER_OF((void *)(uintptr_t)probe->id, struct inst, name);
	uint64_t now_ns = sn__loop_now_ns(w.loop);
	struct asked *a = w.asked;

	assert_ptr_equal(checker, &w.checker);
	assert_int_equal(probe->timeout_ms, w.spec.timeout_ms);
	assert_false(i->under_way); /* never twice at once */
	i->under_way = true;
	while (a->probe != NULL)
		assert_true(++a < w.asked + ASKED_MAX);
	if (probe->kept == NULL) {
		probe->kept = i;
		w.n_kept++;
	}
	assert_ptr_equal(probe->kept, i);
	if (i->asked++ > 0) {
		uint64_t gap_ns = now_ns - i->asked_ns;

		i->gap_min_ns = i->asked == 2 ? gap_ns : SN_MIN(i->gap_min_ns, gap_ns);
		i->gap_max_ns = SN_MAX(i->gap_max_ns, gap_ns);
	}
	i->asked_ns = now_ns;
	*a = (struct asked){.probe = probe, .inst = i};
	w.n_asked++;
	w.max_asked = SN_MAX(w.max_asked, w.n_asked);
	sn__timer_start(w.loop, &a->timer, sn_ms_to_ns(SN_MIN(i->slow_ms, probe->timeout_ms)),
			fake_done);
}

static inline void fake_cancel(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	for (struct asked *a = w.asked; a < w.asked + ASKED_MAX; a++) {
		if (a->probe != probe)
			continue;
		assert_non_null(a->inst); /* once */
		a->inst->under_way = false;
		a->inst = NULL;
		w.n_cancelled++;
		sn__timer_start(w.loop, &a->timer, 0, fake_done);
		return;
	}
	fail_msg("not being asked");
}

static inline void fake_forget(struct sn_hub_checker *checker, void *kept)
{
	assert_non_null(kept);
	w.n_kept--;
}

static inline void fake_destroy(struct sn_hub_checker *checker)
{
	assert_false(w.destroyed);
	w.destroyed = true;
}

static inline void world_about(struct sn_hub_checked *c, struct sn_hub_probe *probe)
{
	probe->id = SN_CONTAINER_OF(c, struct inst, c)->name;
}

static inline void world_changed(struct sn_hub_checked *c, const struct sn_error *err)
{
	struct inst *i = SN_CONTAINER_OF(c, struct inst, c);

	/* Transitions only. */
	if (c->state == SN_HUB_STATE_UNWELL) {
		i->went_unwell++;
		assert_non_null(err);
		(void)snprintf(i->why, sizeof i->why, "%.60s", err->text);
	} else {
		i->went_well++;
		assert_null(err);
	}
	i->changed_ns = sn__loop_now_ns(w.loop);
	if (i->then != NULL)
		i->then(i);
}

static const struct sn_hub_health_ops world_ops = {world_about, world_changed};

static inline void world_open(uint64_t seed, unsigned at_once)
{
	const struct sn_sim_options opts = {.seed = seed};

	w = (struct world){.live = sn__mem_live()};
	assert_int_equal(sn__sim_create(&opts, &w.sim), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.loop), 0);
	assert_int_equal(sn__hub_health_open(w.loop, &world_ops, at_once, &w.health), 0);
	w.checker = (struct sn_hub_checker){.start = fake_start,
			.cancel = fake_cancel,
			.forget = fake_forget,
			.destroy = fake_destroy};
	w.spec = (struct sn_hub_check_spec){.checker = &w.checker,
			.every_ms = 5000,
			.timeout_ms = 1000,
			.healthy_after = 2,
			.unhealthy_after = 3};
}

static inline void world_pass(uint64_t ms)
{
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + sn_ms_to_ns(ms));
}

static inline void world_set(void *arg)
{
	*(bool *)arg = true;
}

/* All instances have been removed. */
static inline void world_close(void)
{
	bool closed = false;

	sn__hub_health_close(w.health, world_set, &closed);
	assert_false(closed);
	world_pass(100);
	assert_true(closed);
	assert_int_equal(w.n_asked, 0);
	assert_int_equal(w.n_kept, 0);
	assert_int_equal(w.checker.refs, 0);
	sn__hub_checker_unref(&w.checker);
	assert_true(w.destroyed);
	sn__loop_close(w.loop, NULL, NULL);
	sn__sim_destroy(w.sim);
	assert_int_equal(sn__mem_live(), w.live);
}

static inline struct sn_hub_health_counts world_counts(void)
{
	struct sn_hub_health_counts counts;

	sn__hub_health_counts(w.health, &counts);
	return counts;
}

#endif
