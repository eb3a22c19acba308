/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry_impl.h"

/*
 * Two prefixes are followed: nodes and hubs. Each is read as a range, then watched from the revision
 * after it. Whatever is missed (the watch lost its place, no memory for a change) is made good by
 * reading the range anew; what comes by both ways is told apart by revisions.
 */

#define PAUSE_MIN_MS 100u
#define PAUSE_MAX_MS 5000u

static struct sn_str without(struct sn_str key, struct sn_str prefix)
{
	return (struct sn_str){key.ptr + prefix.len, key.len - prefix.len};
}

static void read_start(struct hub_sync *s)
{
	s->reading = true;
	s->again = false;
	s->generation++;
	s->op.revision = 0;
	sn__hub_submit(s->registry, &s->op);
}

static void read_again(struct sn_timer *t)
{
	struct hub_sync *s = SN_CONTAINER_OF(t, struct hub_sync, timer);

	if (!s->reading)
		read_start(s);
}

static void read_entry(struct sn_hub_op *op, const struct sn_hub_entry *entry)
{
	struct hub_sync *s = SN_CONTAINER_OF(op, struct hub_sync, op);

	if (!s->registry->closing)
		s->seen(s, without(entry->key, s->prefix), entry, false, true);
}

static void read_later(struct hub_sync *s)
{
	s->pause_ms = SN_MIN(SN_MAX(2 * s->pause_ms, PAUSE_MIN_MS), PAUSE_MAX_MS);
	sn__timer_start(s->registry->loop, &s->timer, sn_ms_to_ns(s->pause_ms), read_again);
}

static void read_done(struct sn_hub_op *op, int code)
{
	struct hub_sync *s = SN_CONTAINER_OF(op, struct hub_sync, op);
	struct sn_hub_registry *r = s->registry;

	s->reading = false;
	if (!r->closing && code == 0 && s->again) {
		read_later(s); /* something was missed meanwhile: what was not seen may be there */
	} else if (!r->closing && code < 0) {
		if (s->pause_ms < PAUSE_MAX_MS)
			sn__log(r->opts.log, SN_LOG_WARNING, "hub", "the store cannot be read: %s",
					op->err.text);
		read_later(s);
	} else if (!r->closing) {
		s->pause_ms = 0;
		s->read(s, op->revision);
		if (!s->watching) {
			s->watching = true;
			s->watch.from = op->revision + 1;
			r->store->ops->watch(r->store, &s->watch);
		}
	}
	sn__hub_op_ended(r, code);
}

void sn__hub_sync_again(struct hub_sync *s)
{
	s->again = true;
	if (!s->reading && !s->registry->closing && !sn_timer_armed(&s->timer))
		read_later(s);
}

static void watch_change(struct sn_hub_watch *w, const struct sn_hub_entry *entry, bool removed)
{
	struct hub_sync *s = SN_CONTAINER_OF(w, struct hub_sync, watch);

	if (s == &s->registry->nodes)
		sn__hub_view_tidy(s->registry, entry->revision - 1);
	s->seen(s, without(entry->key, s->prefix), entry, removed, false);
}

static void watch_lost(struct sn_hub_watch *w, uint64_t revision)
{
	struct hub_sync *s = SN_CONTAINER_OF(w, struct hub_sync, watch);

	(void)revision;
	s->registry->counts.resyncs++;
	sn__timer_stop(s->registry->loop, &s->timer);
	if (s->reading)
		s->again = true;
	else
		read_start(s);
}

static void node_seen(struct hub_sync *s, struct sn_str id, const struct sn_hub_entry *entry,
		bool removed, bool by_range)
{
	struct sn_hub_registry *r = s->registry;
	struct sn_hub_node *node = NULL;
	int code = 0;

	if (!removed) {
		code = sn__hub_node_read(entry, id, &node);
		if (code == SN_E_PARSE) /* not ours, or broken: as if it were not there */
			sn__log(r->opts.log, SN_LOG_WARNING, "hub",
					"what the store has of node '%.*s' cannot be read",
					(int)SN_MIN(id.len, 200), id.ptr);
	}
	if (code == 0 || code == SN_E_PARSE)
		code = sn__hub_view_set(
				r, id, node, entry->revision, by_range ? HUB_RANGE : HUB_WATCH);
	if (code < 0)
		sn__hub_sync_again(s);
}

static void nodes_read(struct hub_sync *s, uint64_t revision)
{
	sn__hub_view_sweep(s->registry, s->generation, revision);
}

static void sync_init(struct hub_sync *s, struct sn_hub_registry *r, struct sn_str prefix)
{
	s->registry = r;
	s->prefix = prefix;
	s->op.kind = SN_HUB_RANGE;
	s->op.key = prefix;
	s->op.entry = read_entry;
	s->op.done = read_done;
	s->watch.prefix = prefix;
	s->watch.change = watch_change;
	s->watch.lost = watch_lost;
}

void sn__hub_store_start(struct sn_hub_registry *r)
{
	sync_init(&r->hubs, r, SN_STR(HUB_HUBS));
	r->hubs.seen = sn__hub_hub_seen;
	r->hubs.read = sn__hub_hubs_read;
	sync_init(&r->nodes, r, SN_STR(HUB_NODES));
	r->nodes.seen = node_seen;
	r->nodes.read = nodes_read;
	read_start(&r->hubs);
	read_start(&r->nodes);
}

void sn__hub_store_stop(struct sn_hub_registry *r)
{
	struct hub_sync *both[] = {&r->hubs, &r->nodes};

	for (unsigned i = 0; i < SN_COUNT(both); i++) {
		sn__timer_stop(r->loop, &both[i]->timer);
		if (both[i]->watching)
			r->store->ops->unwatch(r->store, &both[i]->watch);
		both[i]->watching = false;
	}
}
