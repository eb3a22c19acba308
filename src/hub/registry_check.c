/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry_impl.h"

/*
 * Checks have two lanes, each with `checks_at_once` places, so that nodes that are dead and keep their
 * places until the time-out do not keep new ones from registering.
 *
 * A node's periodic check is due at its own time: the first one anywhere within the interval, those
 * after it an interval later, a tenth more or less, so that a hundred thousand nodes read from the
 * store at once are not checked at once.
 */

static void pump(struct sn_hub_registry *r, enum hub_lane lane);

static void probe_done(struct sn_hub_probe *probe, const struct sn_error *err)
{
	struct hub_check *c = SN_CONTAINER_OF(probe, struct hub_check, probe);
	struct sn_hub_registry *r = c->registry;
	enum hub_lane lane = c->lane;

	r->n_running[lane]--;
	c->running = false;
	sn_list_remove(&c->link);
	c->ended(c, err);
	pump(r, lane);
	sn__hub_close_look(r);
}

static void cancelled(struct hub_check *c)
{
	static const struct sn_error err = {.code = SN_E_CANCELLED, .text = "cancelled"};

	sn_list_remove(&c->link);
	c->ended(c, &err);
}

static void run_waiting(struct sn_task *task)
{
	struct sn_hub_registry *r = SN_CONTAINER_OF(task, struct sn_hub_registry, check_task);

	for (unsigned lane = 0; lane < HUB_LANES; lane++)
		pump(r, (enum hub_lane)lane);
	sn__hub_close_look(r);
}

void sn__hub_check_start(struct hub_check *c)
{
	struct sn_hub_registry *r = c->registry;

	c->probe.done = probe_done;
	c->running = false;
	sn_list_push_back(&r->waiting[c->lane], &c->link);
	sn__loop_defer(r->loop, &r->check_task, run_waiting);
}

void sn__hub_check_cancel(struct hub_check *c)
{
	struct sn_hub_registry *r = c->registry;

	if (c->running)
		r->opts.checker->cancel(r->opts.checker, &c->probe);
	else
		c->record = NULL; /* pump() sees that nobody wants it */
	c->probe.timeout_ms = 0;
	sn__loop_defer(r->loop, &r->check_task, run_waiting);
}

/* ---- periodic checks ---- */

static void check_due(struct sn_timer *t);

static void schedule(struct sn_hub_registry *r, struct hub_record *rec, bool first)
{
	uint64_t every = sn_ms_to_ns(r->opts.check_every_ms), delay;
	struct sn_rng *rng = sn__loop_rng(r->loop);

	if (every == 0 || r->closing)
		return;
	if (first)
		delay = sn__rng_below(rng, every);
	else
		delay = every - every / 10 + sn__rng_below(rng, every / 5 + 1);
	sn__timer_start(r->loop, &rec->timer, delay, check_due);
}

static void unhealthy_gone(struct hub_write *w, int code)
{
	struct sn_hub_registry *r = w->registry;
	struct hub_record *rec = sn__hub_record(r, sn_str_from(w->node->id));

	if (code == 0)
		r->counts.removed++;
	else if (rec != NULL && rec->owner == r->me && rec->check == NULL)
		schedule(r, rec, false);
}

static void judge(struct sn_hub_registry *r, struct hub_record *rec, const struct sn_error *err)
{
	r->counts.checks++;
	if (err == NULL) {
		rec->failures = 0;
		schedule(r, rec, false);
		return;
	}
	r->counts.checks_failed++;
	if (rec->failures < UINT16_MAX)
		rec->failures++;
	if (rec->failures < r->opts.unhealthy_after || rec->writing) {
		schedule(r, rec, false);
		return;
	}
	sn__log(r->opts.log, SN_LOG_WARNING, "hub", "node '%.200s' (%.100s) is removed: %s",
			rec->node->id, rec->node->address, err->text);
	if (sn__hub_write_start(r, rec, NULL, unhealthy_gone) < 0)
		schedule(r, rec, false);
}

static void periodic_ended(struct hub_check *c, const struct sn_error *err)
{
	struct sn_hub_registry *r = c->registry;
	struct hub_record *rec = c->record;

	if (rec != NULL) {
		rec->check = NULL;
		judge(r, rec, err);
	}
	sn__hub_node_unref(c->node);
	sn__free(c);
}

static bool start_periodic(struct sn_hub_registry *r, struct hub_record *rec)
{
	struct hub_check *c = sn__calloc(1, sizeof(*c));

	if (c == NULL)
		return false;
	c->registry = r;
	c->lane = HUB_LANE_PERIODIC;
	c->ended = periodic_ended;
	c->record = rec;
	c->node = sn__hub_node_ref(rec->node);
	c->probe.id = rec->node->id;
	c->probe.address = rec->node->address;
	c->probe.attributes = rec->node->attributes;
	c->probe.timeout_ms = r->opts.check_timeout_ms;
	c->probe.done = probe_done;
	rec->check = c;
	c->running = true;
	r->n_running[c->lane]++;
	sn_list_push_back(&r->running[c->lane], &c->link);
	r->opts.checker->start(r->opts.checker, &c->probe);
	return true;
}

static void pump_due(struct sn_hub_registry *r)
{
	while (r->n_running[HUB_LANE_PERIODIC] < r->opts.checks_at_once &&
			!sn_list_empty(&r->due)) {
		struct hub_record *rec = SN_CONTAINER_OF(r->due.next, struct hub_record, link);

		sn_list_remove(&rec->link);
		if (!start_periodic(r, rec))
			schedule(r, rec, false); /* no memory: not the node's fault */
	}
}

static void pump(struct sn_hub_registry *r, enum hub_lane lane)
{
	if (lane == HUB_LANE_PERIODIC) {
		if (!r->closing)
			pump_due(r);
		return;
	}
	SN_LIST_FOREACH_SAFE (at, &r->waiting[lane]) {
		struct hub_check *c = SN_CONTAINER_OF(at, struct hub_check, link);

		if (c->probe.timeout_ms == 0) {
			cancelled(c);
		} else if (r->n_running[lane] < r->opts.checks_at_once) {
			sn_list_remove(&c->link);
			sn_list_push_back(&r->running[lane], &c->link);
			c->running = true;
			r->n_running[lane]++;
			r->opts.checker->start(r->opts.checker, &c->probe);
		}
	}
}

static void check_due(struct sn_timer *t)
{
	struct hub_record *rec = SN_CONTAINER_OF(t, struct hub_record, timer);
	struct sn_hub_registry *r = rec->owner->registry;

	sn_list_push_back(&r->due, &rec->link);
	sn__loop_defer(r->loop, &r->check_task, run_waiting);
}

void sn__hub_checks_changed(struct sn_hub_registry *r, struct hub_record *rec, bool registered)
{
	sn__timer_stop(r->loop, &rec->timer);
	sn_list_remove(&rec->link);
	rec->failures = 0;
	if (rec->check != NULL) {
		rec->check->record = NULL;
		sn__hub_check_cancel(rec->check);
		rec->check = NULL;
	}
	if (registered && rec->owner == r->me)
		schedule(r, rec, true);
}

void sn__hub_checks_stop(struct sn_hub_registry *r)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&r->records, &i)) != NULL;) {
		struct hub_record *rec = e->value;

		if (!rec->gone)
			sn__hub_checks_changed(r, rec, false);
	}
}
