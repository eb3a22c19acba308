/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry_impl.h"

static void node_seen(struct sn_hub_follow *f, struct sn_str id, const struct sn_hub_entry *entry,
		enum sn_hub_seen how)
{
	struct sn_hub_registry *r = f->arg;
	struct sn_hub_node *node = NULL;
	int code = 0;

	if (how != SN_HUB_BY_RANGE)
		sn__hub_view_tidy(r, entry->revision - 1);
	if (how != SN_HUB_REMOVED) {
		code = sn__hub_node_read(entry, id, &node);
		if (code == SN_E_PARSE) /* not ours, or broken: as if it were not there */
			sn__log(r->opts.log, SN_LOG_WARNING, "hub",
					"what the store has of node '%.*s' cannot be read",
					(int)SN_MIN(id.len, 200), id.ptr);
	}
	if (code == 0 || code == SN_E_PARSE)
		code = sn__hub_view_set(r, id, node, entry->revision,
				how == SN_HUB_BY_RANGE ? HUB_RANGE : HUB_WATCH);
	if (code < 0)
		sn__hub_follow_again(f);
}

static void nodes_read(struct sn_hub_follow *f, uint64_t revision)
{
	sn__hub_view_sweep(f->arg, f->generation, revision);
}

static void read_failed(struct sn_hub_follow *f, int code, const struct sn_error *err, bool often)
{
	struct sn_hub_registry *r = f->arg;

	if (!often)
		sn__log(r->opts.log, SN_LOG_WARNING, "hub", "the store cannot be read: %s",
				err->text);
	if (code != SN_E_CLOSED)
		r->counts.store_errors++;
}

static void read_stopped(struct sn_hub_follow *f)
{
	sn__hub_close_look(f->arg);
}

void sn__hub_store_start(struct sn_hub_registry *r)
{
	r->nodes = (struct sn_hub_follow){.store = r->store,
			.prefix = SN_STR(HUB_NODES),
			.seen = node_seen,
			.read = nodes_read,
			.failed = read_failed,
			.stopped = read_stopped,
			.arg = r};
	r->hubs = r->nodes;
	r->hubs.prefix = SN_STR(HUB_HUBS);
	r->hubs.seen = sn__hub_hub_seen;
	r->hubs.read = sn__hub_hubs_read;
	sn__hub_follow_start(&r->hubs);
	sn__hub_follow_start(&r->nodes);
}

void sn__hub_store_stop(struct sn_hub_registry *r)
{
	sn__hub_follow_stop(&r->hubs);
	sn__hub_follow_stop(&r->nodes);
}
