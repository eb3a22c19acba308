/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry_impl.h"

/* This hub's own nodes are checked (src/hub/health.h), and removed when they are unwell. */

static struct hub_record *record_of(struct sn_hub_checked *c)
{
	return SN_CONTAINER_OF(c, struct hub_record, checked);
}

static void about(struct sn_hub_checked *c, struct sn_hub_probe *probe)
{
	struct hub_record *rec = record_of(c);

	sn__hub_node_unref(rec->asked);
	rec->asked = sn__hub_node_ref(rec->node);
	probe->id = rec->node->id;
	probe->address = rec->node->address;
	probe->attributes = rec->node->attributes;
}

static void unhealthy_gone(struct hub_write *w, int code)
{
	struct sn_hub_registry *r = w->registry;
	struct hub_record *rec = sn__hub_record(r, sn_str_from(w->node->id));

	if (code == 0)
		r->counts.removed++;
	else if (rec != NULL)
		sn__hub_health_tell_again(&rec->checked);
}

static void changed(struct sn_hub_checked *c, const struct sn_error *err)
{
	struct hub_record *rec = record_of(c);
	struct sn_hub_registry *r = rec->owner->registry;

	if (c->state != SN_HUB_STATE_UNWELL)
		return; /* too late: its removal is under way */
	if (rec->writing) {
		sn__hub_health_tell_again(c);
		return;
	}
	sn__log(r->opts.log, SN_LOG_WARNING, "hub", "node '%.200s' (%.100s) is removed: %s",
			rec->node->id, rec->node->address, err->text);
	if (sn__hub_write_start(r, rec, NULL, unhealthy_gone) < 0)
		sn__hub_health_tell_again(c);
}

void sn__hub_checks_changed(struct sn_hub_registry *r, struct hub_record *rec, bool registered)
{
	sn__hub_health_remove(&rec->checked);
	sn__hub_node_unref(rec->asked);
	rec->asked = NULL;
	if (registered && rec->owner == r->me && r->spec.every_ms > 0 && !r->closing)
		sn__hub_health_add(r->health, &rec->checked, &r->spec);
}

void sn__hub_checks_stop(struct sn_hub_registry *r)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&r->records, &i)) != NULL;)
		sn__hub_checks_changed(r, e->value, false);
}

int sn__hub_checks_open(struct sn_hub_registry *r)
{
	static const struct sn_hub_health_ops ops = {.about = about, .changed = changed};

	r->spec = (struct sn_hub_check_spec){.checker = r->opts.checker,
			.every_ms = r->opts.check_every_ms,
			.timeout_ms = r->opts.check_timeout_ms,
			.healthy_after = 1,
			.unhealthy_after = r->opts.unhealthy_after};
	return sn__hub_health_open(r->loop, &ops, r->opts.checks_at_once, &r->health);
}
