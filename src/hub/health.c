/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/health.h"

#include <assert.h>
#include <errno.h>

#include "base/mem.h"

enum lane { LANE_ASKED, LANE_GOOD, LANE_FAILED, LANES };

/* Where a check runs; given back when it has ended. */
struct place {
	struct sn_hub_probe probe;
	struct sn_hub_health *health;
	struct sn_hub_checked *of; /* NULL: removed meanwhile */
	struct sn_hub_checker *checker;
	struct sn_list link; /* sn_hub_health.free */
	enum lane lane;
};

struct sn_hub_health {
	struct sn_loop *loop;
	const struct sn_hub_health_ops *ops;
	unsigned at_once;
	struct sn_list due[LANES]; /* sn_hub_ask.link, sn_hub_checked.link: want a place */
	struct sn_list unasked;    /* sn_hub_ask.link: before they had one */
	unsigned n_running[LANES];
	struct sn_list free; /* place.link */
	struct sn_task pump_task, close_task;
	bool closing;
	void (*done)(void *arg);
	void *done_arg;
	struct sn_hub_health_counts counts;
};

static void pump(struct sn_hub_health *h, enum lane lane);
static void look_closed(struct sn_hub_health *h);

static struct sn_hub_checker *checker_ref(struct sn_hub_checker *checker)
{
	checker->refs++;
	return checker;
}

void sn__hub_checker_unref(struct sn_hub_checker *checker)
{
	if (checker == NULL)
		return;
	if (checker->refs > 0)
		checker->refs--;
	else if (checker->destroy != NULL)
		checker->destroy(checker);
}

static void forget(struct sn_hub_checker *checker, void *kept)
{
	if (kept != NULL)
		checker->forget(checker, kept);
}

static void pump_later(struct sn_task *task)
{
	struct sn_hub_health *h = SN_CONTAINER_OF(task, struct sn_hub_health, pump_task);

	for (unsigned lane = 0; lane < LANES; lane++)
		pump(h, (enum lane)lane);
	look_closed(h);
}

/* ---- what is asked once ---- */

static void ask_done(struct sn_hub_probe *probe, const struct sn_error *err)
{
	struct sn_hub_ask *ask = SN_CONTAINER_OF(probe, struct sn_hub_ask, probe);
	struct sn_hub_health *h = ask->health;

	h->n_running[LANE_ASKED]--;
	ask->running = false;
	forget(ask->checker, probe->kept);
	sn__hub_checker_unref(ask->checker);
	ask->ended(ask, err);
	pump(h, LANE_ASKED);
	look_closed(h);
}

static void pump_asked(struct sn_hub_health *h)
{
	static const struct sn_error cancelled = {.code = SN_E_CANCELLED, .text = "cancelled"};

	struct sn_list *at;

	while ((at = sn_list_pop_front(&h->unasked)) != NULL) {
		struct sn_hub_ask *ask = SN_CONTAINER_OF(at, struct sn_hub_ask, link);

		sn__hub_checker_unref(ask->checker);
		ask->ended(ask, &cancelled);
	}
	while (h->n_running[LANE_ASKED] < h->at_once &&
			(at = sn_list_pop_front(&h->due[LANE_ASKED])) != NULL) {
		struct sn_hub_ask *ask = SN_CONTAINER_OF(at, struct sn_hub_ask, link);

		h->n_running[LANE_ASKED]++;
		ask->running = true;
		ask->checker->start(ask->checker, &ask->probe);
	}
}

void sn__hub_health_ask(
		struct sn_hub_health *h, struct sn_hub_checker *checker, struct sn_hub_ask *ask)
{
	assert(!h->closing);
	ask->health = h;
	ask->checker = checker_ref(checker);
	ask->probe.done = ask_done;
	ask->probe.kept = NULL;
	ask->running = ask->cancelled = false;
	sn_list_push_back(&h->due[LANE_ASKED], &ask->link);
	sn__loop_defer(h->loop, &h->pump_task, pump_later);
}

void sn__hub_health_unask(struct sn_hub_ask *ask)
{
	if (ask->cancelled)
		return;
	ask->cancelled = true;
	if (ask->running) {
		ask->checker->cancel(ask->checker, &ask->probe);
		return;
	}
	sn_list_remove(&ask->link);
	sn_list_push_back(&ask->health->unasked, &ask->link);
	sn__loop_defer(ask->health->loop, &ask->health->pump_task, pump_later);
}

/* ---- instances ---- */

static void check_due(struct sn_timer *t)
{
	struct sn_hub_checked *c = SN_CONTAINER_OF(t, struct sn_hub_checked, timer);
	enum lane lane = c->failed ? LANE_FAILED : LANE_GOOD;

	sn_list_push_back(&c->health->due[lane], &c->link);
	pump(c->health, lane);
}

static void schedule(struct sn_hub_checked *c, bool first)
{
	struct sn_loop *loop = c->health->loop;
	uint64_t every_ns = sn_ms_to_ns(c->spec->every_ms), delay_ns;

	if (first)
		delay_ns = sn__rng_below(sn__loop_rng(loop), every_ns);
	else
		delay_ns = every_ns - every_ns / 10 +
				sn__rng_below(sn__loop_rng(loop), every_ns / 5 + 1);
	sn__timer_start(loop, &c->timer, delay_ns, check_due);
}

static bool is_our_own(const struct sn_error *err)
{
	if (err == NULL || err->code == SN_E_NOMEM)
		return err != NULL;
	switch (err->code == SN_E_TLS ? 0 : err->foreign) { /* there it is no errno */
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case EADDRNOTAVAIL:
		return true;
	default:
		return false;
	}
}

static void turn(struct sn_hub_checked *c, enum sn_hub_state state, const struct sn_error *err)
{
	struct sn_hub_health *h = c->health;

	c->run = 0;
	c->state = state;
	if (state == SN_HUB_STATE_UNWELL) {
		h->counts.went_unwell++;
		h->counts.unwell++;
	} else {
		h->counts.went_well++;
		h->counts.unwell--;
	}
	h->ops->changed(c, err);
}

/* The last that is done with @c, which may be gone afterwards. */
static void judge(struct sn_hub_checked *c, const struct sn_error *err)
{
	struct sn_hub_health *h = c->health;
	bool unwell = c->state == SN_HUB_STATE_UNWELL;

	if (is_our_own(err)) {
		h->counts.unjudged++;
		return;
	}
	c->failed = err != NULL;
	h->counts.checks++;
	h->counts.failed += c->failed;
	if (c->failed == unwell) {
		c->run = 0;
		if (!unwell)
			c->state = SN_HUB_STATE_WELL;
		return;
	}
	c->run++;
	if (unwell && c->run >= c->spec->healthy_after)
		turn(c, SN_HUB_STATE_WELL, NULL);
	else if (!unwell && c->run >= c->spec->unhealthy_after)
		turn(c, SN_HUB_STATE_UNWELL, err);
}

static void check_done(struct sn_hub_probe *probe, const struct sn_error *err)
{
	struct place *p = SN_CONTAINER_OF(probe, struct place, probe);
	struct sn_hub_health *h = p->health;
	struct sn_hub_checked *c = p->of;
	enum lane lane = p->lane;

	h->n_running[lane]--;
	if (c == NULL) {
		forget(p->checker, probe->kept);
	} else {
		c->kept = probe->kept;
		c->place = NULL;
	}
	sn__hub_checker_unref(p->checker);
	sn_list_push_front(&h->free, &p->link);
	if (c != NULL) {
		schedule(c, false);
		judge(c, err);
	}
	pump(h, lane);
	look_closed(h);
}

static struct place *place_take(struct sn_hub_health *h)
{
	struct sn_list *at = sn_list_pop_front(&h->free);
	struct place *p;

	if (at != NULL)
		return SN_CONTAINER_OF(at, struct place, link);
	p = sn__calloc(1, sizeof(*p));
	if (p == NULL)
		return NULL;
	p->health = h;
	p->probe.done = check_done;
	return p;
}

static void check_start(struct sn_hub_checked *c, struct place *p, enum lane lane)
{
	struct sn_hub_health *h = c->health;

	p->of = c;
	p->lane = lane;
	p->checker = checker_ref(c->spec->checker);
	p->probe.timeout_ms = c->spec->timeout_ms;
	p->probe.kept = c->kept;
	h->ops->about(c, &p->probe);
	c->kept = NULL;
	c->place = p;
	h->n_running[lane]++;
	p->checker->start(p->checker, &p->probe);
}

static void pump(struct sn_hub_health *h, enum lane lane)
{
	if (lane == LANE_ASKED) {
		pump_asked(h);
		return;
	}
	while (h->n_running[lane] < h->at_once && !sn_list_empty(&h->due[lane])) {
		struct sn_hub_checked *c = SN_CONTAINER_OF(
				sn_list_pop_front(&h->due[lane]), struct sn_hub_checked, link);
		struct place *p = place_take(h);

		if (p != NULL) {
			check_start(c, p, lane);
		} else {
			h->counts.unjudged++;
			schedule(c, false);
		}
	}
}

void sn__hub_health_add(struct sn_hub_health *h, struct sn_hub_checked *c,
		const struct sn_hub_check_spec *spec)
{
	assert(c->health == NULL && !h->closing && spec->every_ms > 0 && spec->timeout_ms > 0 &&
			spec->healthy_after > 0 && spec->unhealthy_after > 0);
	*c = (struct sn_hub_checked){.health = h, .spec = spec};
	sn_list_init(&c->link);
	h->counts.instances++;
	schedule(c, true);
}

void sn__hub_health_remove(struct sn_hub_checked *c)
{
	struct sn_hub_health *h = c->health;
	struct place *p = c->place;

	if (h == NULL)
		return;
	sn__timer_stop(h->loop, &c->timer);
	sn_list_remove(&c->link);
	forget(c->spec->checker, SN_TAKE(c->kept));
	h->counts.instances--;
	h->counts.unwell -= c->state == SN_HUB_STATE_UNWELL;
	c->place = NULL;
	c->health = NULL;
	if (p != NULL) {
		p->of = NULL;
		p->checker->cancel(p->checker, &p->probe);
	}
}

void sn__hub_health_tell_again(struct sn_hub_checked *c)
{
	if (c->health == NULL || c->state != SN_HUB_STATE_UNWELL)
		return;
	c->health->counts.unwell--;
	c->state = SN_HUB_STATE_WELL;
	c->run = c->spec->unhealthy_after - 1;
}

void sn__hub_health_counts(const struct sn_hub_health *h, struct sn_hub_health_counts *ret_counts)
{
	*ret_counts = h->counts;
	for (unsigned lane = 0; lane < LANES; lane++)
		ret_counts->running += h->n_running[lane];
}

/* ---- opening and closing ---- */

int sn__hub_health_open(struct sn_loop *loop, const struct sn_hub_health_ops *ops, unsigned at_once,
		struct sn_hub_health **ret_health)
{
	struct sn_hub_health *h = sn__calloc(1, sizeof(*h));

	if (h == NULL)
		return SN_E_NOMEM;
	h->loop = loop;
	h->ops = ops;
	h->at_once = at_once > 0 ? at_once : 256;
	sn_list_init(&h->free);
	sn_list_init(&h->unasked);
	for (unsigned lane = 0; lane < LANES; lane++)
		sn_list_init(&h->due[lane]);
	*ret_health = h;
	return 0;
}

static void close_step(struct sn_task *task)
{
	struct sn_hub_health *h = SN_CONTAINER_OF(task, struct sn_hub_health, close_task);
	void (*done)(void *arg) = h->done;
	void *arg = h->done_arg;
	struct sn_list *at;

	for (unsigned lane = 0; lane < LANES; lane++) {
		if (h->n_running[lane] > 0 || !sn_list_empty(&h->due[lane]) ||
				!sn_list_empty(&h->unasked))
			return;
	}
	sn__loop_undefer(h->loop, &h->pump_task);
	while ((at = sn_list_pop_front(&h->free)) != NULL)
		sn__free(SN_CONTAINER_OF(at, struct place, link));
	sn__free(h);
	done(arg);
}

static void look_closed(struct sn_hub_health *h)
{
	if (h->closing)
		sn__loop_defer(h->loop, &h->close_task, close_step);
}

void sn__hub_health_close(struct sn_hub_health *h, void (*done)(void *arg), void *arg)
{
	assert(!h->closing && h->counts.instances == 0);
	h->closing = true;
	h->done = done;
	h->done_arg = arg;
	look_closed(h);
}
