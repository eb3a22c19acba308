/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api.h"

#include "base/mem.h"

/* ---- targets ---- */

static int part_check(const char *what, struct sn_str part, struct sn_error *err)
{
	if (part.len == 0 || part.len > SN_TARGET_NAME_MAX)
		return sn__error_set(err, SN_E_INVALID, "the %s must have 1 to %d bytes", what,
				SN_TARGET_NAME_MAX);
	if (!sn__utf8_valid(part)) /* it would be seen in metrics, in JSON, in logs */
		return sn__error_set(err, SN_E_INVALID, "the %s is not UTF-8", what);
	return 0;
}

int sn__api_target(const char *kind, const char *name, const char *endpoint,
		struct sn_api_target *ret_name, struct sn_error *err)
{
	static const char *const kinds[] = {
			"service", "cluster", "database", "queue", "hyperty", NULL};
	struct sn_api_target t = {.name = sn_str_from(name)};
	int r;

	for (unsigned i = 0; kind != NULL && kinds[i] != NULL; i++)
		if (strcmp(kind, kinds[i]) == 0)
			t.kind = sn_str_from(kinds[i]);
	if (t.kind.ptr == NULL)
		return sn__error_set(err, SN_E_INVALID,
				"unknown kind \"%.40s\": it must be service, "
				"cluster, database, queue or hyperty",
				kind != NULL ? kind : "");
	r = part_check("name", t.name, err);
	if (r < 0)
		return r;
	if (kind[0] == 's' || kind[0] == 'c' || kind[0] == 'h') {
		t.endpoint = sn_str_from(endpoint != NULL ? endpoint : "default");
		r = part_check("endpoint", t.endpoint, err);
		if (r < 0)
			return r;
	} else {
		t.endpoint = SN_STR("");
	}
	*ret_name = t;
	return 0;
}

int sn__enter_target(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, struct sn_target **ret_target)
{
	struct sn_api_target t;
	int r = sn__api_target(kind, name, endpoint, &t, NULL);

	if (r == 0)
		r = sn__enter(rt);
	if (r < 0)
		return r;
	r = sn__catalog_target(rt->catalog, t.kind, t.name, t.endpoint, ret_target);
	if (r < 0)
		sn__leave(rt);
	return r;
}

/* ---- functions on the loop thread ---- */

struct delayed {
	struct sn_task task;
	struct sn_timer timer;
	struct sn_list link; /* in rt->delayed while the timer runs */
	struct sn_runtime *rt;
	void (*fn)(struct sn_runtime *rt, void *arg);
	void *arg;
	uint32_t delay_ms;
};

static void delayed_end(struct delayed *d)
{
	struct delayed copy = *d;

	sn__free(d);
	copy.fn(copy.rt, copy.arg);
}

static void delayed_due(struct sn_timer *timer)
{
	struct delayed *d = SN_CONTAINER_OF(timer, struct delayed, timer);

	sn_list_remove(&d->link);
	delayed_end(d);
}

static void delayed_run(struct sn_task *task)
{
	struct delayed *d = SN_CONTAINER_OF(task, struct delayed, task);

	if (d->delay_ms == 0) {
		delayed_end(d);
	} else if (atomic_load(&d->rt->state) == SN_RUNTIME_CLOSING) {
		sn__free(d);
	} else {
		sn_list_push_back(&d->rt->delayed, &d->link);
		sn__timer_start(d->rt->loop, &d->timer, sn_ms_to_ns(d->delay_ms), delayed_due);
	}
}

int sn_after(struct sn_runtime *rt, uint32_t delay_ms, void (*fn)(struct sn_runtime *rt, void *arg),
		void *arg)
{
	struct delayed *d;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	d = sn__calloc(1, sizeof(*d));
	if (d == NULL) {
		sn__leave(rt);
		return SN_E_NOMEM;
	}
	d->rt = rt;
	d->fn = fn;
	d->arg = arg;
	d->delay_ms = delay_ms;
	sn__loop_post(rt->loop, &d->task, delayed_run);
	sn__leave(rt);
	return 0;
}

int sn_post(struct sn_runtime *rt, void (*fn)(struct sn_runtime *rt, void *arg), void *arg)
{
	return sn_after(rt, 0, fn, arg);
}

void sn_free(void *p)
{
	sn__free(p);
}

/* ---- monitors ---- */

static void monitor_start(struct sn_monitor *m)
{
	sn_list_push_back(&m->rt->monitors, &m->link);
	if (sn_monitor_silent(m) || atomic_load(&m->rt->state) == SN_RUNTIME_CLOSING)
		return; /* the host's stop, or the end of closing, frees it */
	m->running = true;
	m->ops->start(m);
}

static void monitor_start_run(struct sn_task *task)
{
	monitor_start(SN_CONTAINER_OF(task, struct sn_monitor, start_task));
}

static void monitor_halt(struct sn_monitor *m)
{
	if (!m->running)
		return;
	m->running = false;
	m->ops->stop(m);
}

static void monitor_free(struct sn_monitor *m)
{
	sn_list_remove(&m->link);
	sn__free(m);
}

static void monitor_stop_run(struct sn_task *task)
{
	struct sn_monitor *m = SN_CONTAINER_OF(task, struct sn_monitor, stop_task);

	monitor_halt(m);
	monitor_free(m);
}

int sn__monitor_open(struct sn_runtime *rt, const struct sn_monitor_ops *ops,
		const struct sn_monitor *like, size_t size, struct sn_monitor **ret_monitor)
{
	struct sn_monitor *m = sn__malloc(size);

	if (m == NULL)
		return SN_E_NOMEM;
	memcpy(m, like, size);
	m->ops = ops;
	m->rt = rt;
	sn_list_init(&m->link);
	*ret_monitor = m; /* before start(): what it tells may stop it */
	if (sn__loop_is_here(rt->loop))
		monitor_start(m);
	else
		sn__loop_post(rt->loop, &m->start_task, monitor_start_run);
	return 0;
}

void sn_monitor_stop(struct sn_monitor *m)
{
	struct sn_runtime *rt;

	if (m == NULL)
		return;
	rt = m->rt;
	if (sn__enter(rt) < 0)
		return;
	if (!atomic_exchange(&m->stopped, true)) {
		if (sn__loop_is_here(rt->loop))
			monitor_halt(m);
		/* Behind a start that is still queued, and not inside its own callback. */
		sn__loop_post(rt->loop, &m->stop_task, monitor_stop_run);
	}
	sn__leave(rt);
}

/* ---- the end ---- */

void sn__api_close(struct sn_runtime *rt)
{
	SN_LIST_FOREACH (pos, &rt->monitors)
		monitor_halt(SN_CONTAINER_OF(pos, struct sn_monitor, link));
	while (!sn_list_empty(&rt->delayed)) {
		struct delayed *d = SN_CONTAINER_OF(rt->delayed.next, struct delayed, link);

		sn_list_remove(&d->link);
		sn__timer_stop(rt->loop, &d->timer);
		sn__free(d);
	}
	sn__api_peers_close(rt);
	sn__api_servers_close(rt);
}

void sn__api_free(struct sn_runtime *rt)
{
	while (!sn_list_empty(&rt->monitors))
		monitor_free(SN_CONTAINER_OF(rt->monitors.next, struct sn_monitor, link));
	while (!sn_list_empty(&rt->servers)) { /* of a runtime that never started */
		struct sn_hosted *h = SN_CONTAINER_OF(
				sn_list_pop_front(&rt->servers), struct sn_hosted, link);

		sn__http_server_discard(h->server);
		h->free(h);
	}
}
