/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/bus_impl.h"

/* ---- publications ---- */

static struct bus_pub *pub_new(struct sn_bus *bus, struct sn_bus_event *event, int *ret_code)
{
	struct sn_list *at;
	struct bus_pub *pub;

	*ret_code = bus->closing                                            ? SN_E_CLOSED
			: bus->counts.publishing == bus->opts.max_publishes ? SN_E_LIMIT
									    : SN_E_NOMEM;
	if (*ret_code != SN_E_NOMEM)
		return NULL;
	at = sn_list_pop_front(&bus->pool);
	pub = at != NULL ? SN_CONTAINER_OF(at, struct bus_pub, link) : sn__malloc(sizeof(*pub));
	if (pub == NULL)
		return NULL;
	*pub = (struct bus_pub){.bus = bus, .event = sn__bus_event_ref(event), .refs = 1};
	sn_list_push_back(&bus->incoming, &pub->link);
	bus->counts.publishing++;
	sn__bus_wake(bus);
	*ret_code = 0;
	return pub;
}

void sn__bus_pub_unref(struct bus_pub *pub)
{
	if (--pub->refs > 0)
		return;
	sn_list_push_back(&pub->bus->pool, &pub->link);
}

void sn__bus_pub_step(struct bus_pub *pub, int code)
{
	if (pub->code == 0)
		pub->code = code;
	if (--pub->waiting > 0)
		return;
	sn_list_remove(&pub->link);
	sn_list_push_back(&pub->bus->finished, &pub->link);
	sn__bus_wake(pub->bus);
}

void sn__bus_pub_result(struct bus_slot *slot, struct sn_bus_member *m, int code)
{
	struct bus_pub *pub = slot->pub;

	slot->pub = NULL;
	if (pub == NULL)
		return;
	if (pub->p != NULL && pub->p->result != NULL)
		pub->p->result(pub->p, m->id, code);
	sn__bus_pub_unref(pub);
}

/* What is in p->bus: so that it can be forgotten. */
struct publish_state {
	struct bus_pub *pub;
};

static struct publish_state *state_of(struct sn_bus_publish *p)
{
	return (struct publish_state *)(void *)p->bus;
}

int sn__bus_publish(struct sn_bus *bus, struct sn_bus_event *event, struct sn_bus_publish *p)
{
	int code;
	struct bus_pub *pub = pub_new(bus, event, &code);

	if (pub == NULL)
		return code;
	pub->p = p;
	state_of(p)->pub = pub;
	bus->counts.published++;
	return 0;
}

void sn__bus_publish_forget(struct sn_bus_publish *p)
{
	state_of(p)->pub->p = NULL;
}

int sn__bus_link_received(struct sn_bus_link *link, struct sn_bus_event *event,
		void (*done)(void *arg, int code), void *arg)
{
	int code = SN_E_AGAIN;
	struct bus_pub *pub = link->bus->links_held ? NULL : pub_new(link->bus, event, &code);

	if (pub == NULL)
		return code;
	pub->by_link = true;
	pub->received = done;
	pub->received_arg = arg;
	link->bus->counts.received++;
	return 0;
}

void sn__bus_hold_links(struct sn_bus *bus, bool hold)
{
	bus->links_held = hold;
}

void sn__bus_link_sent(struct sn_bus_link *link, void *token, int code)
{
	struct sn_bus_counts *counts = &link->bus->counts;

	if (code == 0)
		counts->sent++;
	else
		counts->send_failed++;
	sn__bus_pub_step(token, code);
}

/* ---- routing ---- */

static bool room_for_keepers(struct sn_bus *bus, size_t n)
{
	size_t cap = SN_MAX(bus->keepers_cap, 16);
	struct sn_bus_member **list;

	while (cap < n + 1) /* and the NULL that ends them */
		cap *= 2;
	if (cap == bus->keepers_cap)
		return true;
	list = sn__realloc(bus->keepers, cap * sizeof(struct sn_bus_member *));
	if (list == NULL)
		return false;
	bus->keepers = list;
	bus->keepers_cap = cap;
	return true;
}

static void kept(void *arg, int code)
{
	struct bus_pub *pub = arg;

	if (code < 0)
		pub->bus->counts.log_failed++;
	sn__bus_pub_step(pub, code);
}

/* Before anything is offered: whoever wants it at least once is known to the log. */
static uint64_t keep(struct sn_bus *bus, struct bus_pub *pub, const struct bus_topic *t)
{
	struct sn_bus_log *log = bus->opts.log;
	const char **ids;
	size_t n = 0;
	int code;

	if (log == NULL || sn_map_count(&bus->ids) == 0)
		return 0;
	for (uint32_t i = 0; i < t->n; i++)
		n += t->list[i]->member->s->at_least_once;
	if (n == 0)
		return 0;
	if (!room_for_keepers(bus, n)) {
		code = SN_E_NOMEM;
		goto failed;
	}
	ids = (const char **)(void *)bus->keepers;
	n = 0;
	for (uint32_t i = 0; i < t->n; i++)
		if (t->list[i]->member->s->at_least_once)
			ids[n++] = t->list[i]->member->id;
	ids[n] = NULL;
	code = log->keep(log, bus->seq + 1, pub->event, ids, kept, pub);
	if (code == 0) {
		pub->waiting++;
		return ++bus->seq;
	}
failed:
	bus->counts.log_failed++;
	pub->code = code;
	return 0;
}

static void offer_to(struct sn_bus *bus, struct bus_pub *pub, struct bus_topic *t)
{
	uint64_t seq = keep(bus, pub, t);
	uint32_t n = t->n;

	t->busy = true;
	for (uint32_t i = 0; i < n; i++) {
		struct bus_membership *ms = t->list[i];

		if (ms == NULL || ms->member->overflowed)
			continue;
		pub->subscribers++;
		sn__bus_offer(ms->member, pub, ms->member->s->at_least_once ? seq : 0);
	}
	t->busy = false;
	sn__bus_topic_release(bus, t);
}

static void route(struct sn_bus *bus, struct bus_pub *pub)
{
	struct sn_bus_link *link = bus->opts.link;
	struct bus_topic *t = pub->event->all ? bus->all
					      : sn__map_get(&bus->topics, pub->event->type);

	sn_list_push_back(&bus->open, &pub->link);
	pub->waiting = 1;
	if (bus->closing) {
		sn__bus_pub_step(pub, SN_E_CLOSED);
		return;
	}
	if (t != NULL)
		offer_to(bus, pub, t);
	if (link != NULL && !pub->by_link) {
		pub->waiting++;
		link->send(link, pub->event, pub);
	}
	sn__bus_pub_step(pub, 0);
}

void sn__bus_route_all(struct sn_bus *bus)
{
	struct sn_list todo, *at;

	sn_list_init(&todo);
	sn_list_splice_back(&todo, &bus->incoming);
	while ((at = sn_list_pop_front(&todo)) != NULL)
		route(bus, SN_CONTAINER_OF(at, struct bus_pub, link));
}

void sn__bus_tell_publishers(struct sn_bus *bus)
{
	struct sn_list todo, *at;

	sn_list_init(&todo);
	sn_list_splice_back(&todo, &bus->finished);
	while ((at = sn_list_pop_front(&todo)) != NULL) {
		struct bus_pub *pub = SN_CONTAINER_OF(at, struct bus_pub, link);
		struct sn_bus_publish *p = pub->p;

		bus->counts.publishing--;
		sn__bus_event_unref(pub->event);
		pub->event = NULL;
		if (p != NULL && (p->result == NULL || pub->refs == 1))
			pub->p = NULL; /* it may be freed in done() */
		if (p != NULL)
			p->done(p, pub->code, pub->subscribers);
		else if (pub->received != NULL)
			pub->received(pub->received_arg, pub->code);
		sn__bus_pub_unref(pub);
	}
}
