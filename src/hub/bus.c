/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/bus_impl.h"

/* ---- events ---- */

int sn__bus_event_create(struct sn_str type, struct sn_str source, struct sn_str data, bool all,
		struct sn_rng *rng, struct sn_bus_event **ret_event)
{
	struct sn_bus_event *e;
	struct sn_str parts[] = {type, source, data};
	struct sn_str *to[3];
	char *at;

	if (type.len == 0 || type.len > SN_BUS_TYPE_MAX)
		return SN_E_INVALID;
	e = sn__malloc(sizeof(*e) + type.len + source.len + data.len);
	if (e == NULL)
		return SN_E_NOMEM;
	*e = (struct sn_bus_event){.refs = 1, .all = all};
	e->id[0] = sn__rng_u64(rng);
	e->id[1] = sn__rng_u64(rng);
	to[0] = &e->type;
	to[1] = &e->source;
	to[2] = &e->data;
	at = (char *)(e + 1);
	for (unsigned i = 0; i < 3; i++) {
		if (parts[i].len > 0)
			memcpy(at, parts[i].ptr, parts[i].len);
		*to[i] = (struct sn_str){at, parts[i].len};
		at += parts[i].len;
	}
	*ret_event = e;
	return 0;
}

struct sn_bus_event *sn__bus_event_ref(struct sn_bus_event *e)
{
	e->refs++;
	return e;
}

void sn__bus_event_unref(struct sn_bus_event *e)
{
	if (e == NULL || --e->refs > 0)
		return;
	if (e->free_encoded != NULL)
		e->free_encoded(e->encoded);
	sn__free(e);
}

/* ---- topics: who wants a type ---- */

static struct bus_topic *topic_new(struct sn_str type)
{
	struct bus_topic *t = sn__calloc(1, sizeof(*t) + type.len + 1);

	if (t == NULL)
		return NULL;
	t->len = (uint32_t)type.len;
	if (type.len > 0)
		memcpy(t->type, type.ptr, type.len);
	return t;
}

static void topic_free(struct bus_topic *t)
{
	if (t != NULL)
		sn__free(t->list);
	sn__free(t);
}

static struct bus_topic *topic_find(struct sn_bus *bus, struct sn_str type)
{
	struct bus_topic *t = sn__map_get(&bus->topics, type);

	if (t != NULL)
		return t;
	t = topic_new(type);
	if (t == NULL)
		return NULL;
	if (sn__map_add(&bus->topics, (struct sn_str){t->type, t->len}, t) < 0) {
		topic_free(t);
		return NULL;
	}
	return t;
}

/* After it was walked, and when one has left: holes are closed, and without members it is no more. */
void sn__bus_topic_release(struct sn_bus *bus, struct bus_topic *t)
{
	uint32_t n = 0;

	if (t->busy)
		return;
	if (t->n_live < t->n) {
		for (uint32_t i = 0; i < t->n; i++) {
			if (t->list[i] == NULL)
				continue;
			t->list[i]->index = n;
			t->list[n++] = t->list[i];
		}
		t->n = n;
	}
	if (t->n > 0 || t == bus->all)
		return;
	(void)sn__map_remove(&bus->topics, (struct sn_str){t->type, t->len});
	topic_free(t);
}

static int join(struct bus_topic *t, struct sn_bus_member *m, struct bus_membership *ms)
{
	if (t->n == t->cap) {
		uint32_t cap = t->cap == 0 ? 4 : 2 * t->cap;
		struct bus_membership **list = sn__realloc(
				t->list, cap * sizeof(struct bus_membership *));

		if (list == NULL)
			return SN_E_NOMEM;
		t->list = list;
		t->cap = cap;
	}
	*ms = (struct bus_membership){.topic = t, .member = m, .index = t->n};
	sn_list_init(&ms->link);
	t->list[t->n++] = ms;
	t->n_live++;
	return 0;
}

static void part(struct sn_bus *bus, struct bus_membership *ms)
{
	struct bus_topic *t = ms->topic;

	sn_list_remove(&ms->link);
	t->n_live--;
	if (t->busy) {
		t->list[ms->index] = NULL;
		return;
	}
	t->list[ms->index] = t->list[--t->n];
	t->list[ms->index]->index = ms->index;
	sn__bus_topic_release(bus, t);
}

static struct bus_membership *membership(struct sn_bus_member *m, struct sn_str type)
{
	SN_LIST_FOREACH (at, &m->topics) {
		struct bus_membership *ms = SN_CONTAINER_OF(at, struct bus_membership, link);

		if (sn_str_eq((struct sn_str){ms->topic->type, ms->topic->len}, type))
			return ms;
	}
	return NULL;
}

int sn__bus_subscribe(struct sn_bus_subscriber *s, struct sn_str type)
{
	struct sn_bus_member *m = s->member;
	struct bus_membership *ms;
	struct bus_topic *t;

	if (m == NULL)
		return SN_E_STATE;
	if (membership(m, type) != NULL)
		return 0;
	if (type.len == 0 || type.len > SN_BUS_TYPE_MAX || m->n_topics == SN_BUS_TYPES_MAX)
		return SN_E_LIMIT;
	ms = sn__malloc(sizeof(*ms));
	t = ms != NULL ? topic_find(m->bus, type) : NULL;
	if (t == NULL || join(t, m, ms) < 0) {
		if (t != NULL)
			sn__bus_topic_release(m->bus, t);
		sn__free(ms);
		return SN_E_NOMEM;
	}
	sn_list_push_back(&m->topics, &ms->link);
	m->n_topics++;
	return 0;
}

int sn__bus_unsubscribe(struct sn_bus_subscriber *s, struct sn_str type)
{
	struct sn_bus_member *m = s->member;
	struct bus_membership *ms = m != NULL ? membership(m, type) : NULL;

	if (ms == NULL)
		return SN_E_NOT_FOUND;
	part(m->bus, ms);
	sn__free(ms);
	m->n_topics--;
	return 0;
}

/* ---- subscribers ---- */

static void member_free(struct sn_bus_member *m)
{
	sn_list_remove(&m->link);
	sn_list_remove(&m->ready);
	sn__free(m->ring);
	sn__free(m->flight);
	sn__free(m->aside);
	sn__free(m);
}

static void subscriber_defaults(struct sn_bus_subscriber *s)
{
	if (s->window == 0)
		s->window = 1;
	if (s->queue_max == 0)
		s->queue_max = 1000;
	if (s->queue_bytes_max == 0)
		s->queue_bytes_max = 8u << 20;
	if (s->retry_min_ms == 0)
		s->retry_min_ms = 100;
	if (s->retry_max_ms == 0)
		s->retry_max_ms = 30000;
}

int sn__bus_attach(struct sn_bus *bus, struct sn_bus_subscriber *s)
{
	struct sn_str id = sn_str_from(s->id);
	struct sn_bus_member *m;

	if (bus->closing)
		return SN_E_CLOSED;
	if (s->at_least_once && bus->opts.log == NULL)
		return SN_E_NOTSUP;
	if (bus->counts.subscribers == bus->opts.max_subscribers)
		return SN_E_LIMIT;
	if (s->at_least_once && sn__map_get(&bus->ids, id) != NULL)
		return SN_E_EXISTS;
	m = sn__calloc(1, sizeof(*m) + id.len + 1);
	if (m == NULL)
		return SN_E_NOMEM;
	memcpy(m->id, s->id, id.len);
	m->bus = bus;
	m->s = s;
	sn_list_init(&m->link);
	sn_list_init(&m->ready);
	sn_list_init(&m->topics);
	if (join(bus->all, m, &m->all) < 0) {
		member_free(m);
		return SN_E_NOMEM;
	}
	if (s->at_least_once && sn__map_add(&bus->ids, (struct sn_str){m->id, id.len}, m) < 0) {
		part(bus, &m->all);
		member_free(m);
		return SN_E_NOMEM;
	}
	subscriber_defaults(s);
	m->window = (uint32_t)SN_MIN(s->window, s->queue_max);
	m->attach_seq = bus->seq;
	m->behind = m->more = s->at_least_once;
	s->queued = 0;
	s->member = m;
	sn_list_push_back(&bus->members, &m->link);
	bus->counts.subscribers++;
	if (m->behind) {
		sn_list_push_back(&bus->ready, &m->ready);
		sn__bus_wake(bus);
	}
	return 0;
}

void sn__bus_set_window(struct sn_bus_subscriber *s, unsigned window)
{
	struct sn_bus_member *m = s->member;

	s->window = SN_MAX(window, 1);
	if (m == NULL)
		return;
	m->window = (uint32_t)SN_MIN(s->window, s->queue_max);
	if (m->overflowed || !sn_list_empty(&m->ready))
		return;
	sn_list_push_back(&m->bus->ready, &m->ready);
	sn__bus_wake(m->bus);
}

static void leave(struct sn_bus_member *m, bool forget)
{
	struct sn_bus *bus = m->bus;
	struct sn_bus_subscriber *s = m->s;

	while (!sn_list_empty(&m->topics)) {
		struct bus_membership *ms = SN_CONTAINER_OF(
				m->topics.next, struct bus_membership, link);

		part(bus, ms);
		sn__free(ms);
	}
	part(bus, &m->all);
	if (s->at_least_once) {
		(void)sn__map_remove(&bus->ids, sn_str_from(m->id));
		if (forget)
			bus->opts.log->drop(bus->opts.log, m->id);
	}
	sn__timer_stop(bus->loop, &m->timer);
	sn_list_remove(&m->ready);
	sn_list_remove(&m->link);
	sn_list_push_back(&bus->left, &m->link);
	bus->counts.subscribers--;
	s->member = NULL; /* whoever is told now may detach it again */
	sn__bus_queue_drop(m, SN_E_CLOSED);
	m->s = NULL;
	sn__bus_wake(bus);
}

void sn__bus_detach(struct sn_bus_subscriber *s, bool forget)
{
	if (s->member != NULL)
		leave(s->member, forget);
}

/* ---- the task ---- */

static void tell_overflowed(struct sn_bus *bus)
{
	struct sn_list *at;

	while ((at = sn_list_pop_front(&bus->overflowed)) != NULL) {
		struct sn_bus_member *m = SN_CONTAINER_OF(at, struct sn_bus_member, ready);
		struct sn_bus_subscriber *s = m->s;

		bus->counts.disconnected++;
		leave(m, false);
		if (s->ops->gone != NULL)
			s->ops->gone(s);
	}
}

static void reap(struct sn_bus *bus)
{
	SN_LIST_FOREACH_SAFE (at, &bus->left) {
		struct sn_bus_member *m = SN_CONTAINER_OF(at, struct sn_bus_member, link);

		if (!m->reading)
			member_free(m);
	}
}

static void destroy(struct sn_bus *bus)
{
	void (*done)(void *arg) = bus->done;
	void *arg = bus->done_arg;
	struct sn_list *at;

	while ((at = sn_list_pop_front(&bus->pool)) != NULL)
		sn__free(SN_CONTAINER_OF(at, struct bus_pub, link));
	sn__loop_undefer(bus->loop, &bus->task);
	topic_free(bus->all);
	sn__map_finish(&bus->topics);
	sn__map_finish(&bus->ids);
	sn__free(bus->keepers);
	sn__free(bus);
	if (done != NULL)
		done(arg);
}

static void part_closed(void *arg)
{
	struct sn_bus *bus = arg;

	bus->stage++;
	bus->ended = true;
	sn__bus_wake(bus);
}

/* The link first: events it still has under way may have to be kept. */
static void close_step(struct sn_bus *bus)
{
	if (bus->stage == BUS_OPEN) {
		bus->stage = BUS_CLOSING_LINK;
		bus->ended = bus->opts.link == NULL;
		if (bus->opts.link != NULL)
			bus->opts.link->close(bus->opts.link, part_closed, bus);
		else
			bus->stage = BUS_CLOSING_LOG;
	}
	if (bus->stage == BUS_CLOSING_LOG && bus->ended) {
		bus->ended = false;
		if (bus->opts.log != NULL)
			bus->opts.log->close(bus->opts.log, part_closed, bus);
		else
			bus->stage = BUS_CLOSED;
	}
	if (bus->stage == BUS_CLOSED && sn_list_empty(&bus->open) &&
			sn_list_empty(&bus->finished) && sn_list_empty(&bus->incoming) &&
			sn_list_empty(&bus->left))
		destroy(bus);
}

static void serve(struct sn_task *task)
{
	struct sn_bus *bus = SN_CONTAINER_OF(task, struct sn_bus, task);
	struct sn_list todo, *at;

	sn__bus_route_all(bus);
	tell_overflowed(bus);
	/* Those that are ready again meanwhile have their turn in the next one. */
	sn_list_init(&todo);
	sn_list_splice_back(&todo, &bus->ready);
	while ((at = sn_list_pop_front(&todo)) != NULL)
		sn__bus_serve(SN_CONTAINER_OF(at, struct sn_bus_member, ready));
	sn__bus_tell_publishers(bus);
	reap(bus);
	if (bus->closing)
		close_step(bus);
}

void sn__bus_wake(struct sn_bus *bus)
{
	sn__loop_defer(bus->loop, &bus->task, serve);
}

/* ---- opening and closing ---- */

int sn__bus_create(struct sn_loop *loop, const struct sn_bus_options *opts, struct sn_bus **ret_bus)
{
	struct sn_bus *bus = sn__calloc(1, sizeof(*bus));
	struct sn_list *lists[] = {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL};

	if (bus == NULL)
		return SN_E_NOMEM;
	bus->all = topic_new(SN_STR(""));
	if (bus->all == NULL) {
		sn__free(bus);
		return SN_E_NOMEM;
	}
	lists[0] = &bus->members;
	lists[1] = &bus->left;
	lists[2] = &bus->ready;
	lists[3] = &bus->overflowed;
	lists[4] = &bus->incoming;
	lists[5] = &bus->open;
	lists[6] = &bus->finished;
	lists[7] = &bus->pool;
	for (unsigned i = 0; i < SN_COUNT(lists); i++)
		sn_list_init(lists[i]);
	bus->loop = loop;
	bus->opts = *opts;
	if (bus->opts.max_subscribers == 0)
		bus->opts.max_subscribers = 100000;
	if (bus->opts.max_publishes == 0)
		bus->opts.max_publishes = 10000;
	if (bus->opts.max_bytes == 0)
		bus->opts.max_bytes = 64u << 20;
	if (opts->log != NULL)
		bus->seq = opts->log->last;
	if (opts->link != NULL)
		opts->link->bus = bus;
	*ret_bus = bus;
	return 0;
}

void sn__bus_close(struct sn_bus *bus, void (*done)(void *arg), void *arg)
{
	bus->closing = true;
	bus->done = done;
	bus->done_arg = arg;
	while (!sn_list_empty(&bus->members))
		leave(SN_CONTAINER_OF(bus->members.next, struct sn_bus_member, link), false);
	sn__bus_wake(bus);
}

void sn__bus_counts(const struct sn_bus *bus, struct sn_bus_counts *ret_counts)
{
	*ret_counts = bus->counts;
	ret_counts->types = sn_map_count(&bus->topics);
	if (bus->opts.log != NULL)
		ret_counts->log_dropped = bus->opts.log->dropped;
}
