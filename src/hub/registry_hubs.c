/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry_impl.h"

/*
 * A hub is there as long as its key is, which hangs on a lease that the hub keeps alive. A node whose
 * owner is not there is adopted: written anew under another owner, on the condition that nobody else
 * has written it. Every hub works out the same one of those that are there as the one to do it (the
 * highest hash of hub and node), so that they rarely try in vain.
 */

#define REGRANT_MIN_MS 100u

/* ---- this hub's own key ---- */

static void presence_go(struct sn_hub_registry *r);

static void presence_retry(struct sn_timer *t)
{
	presence_go(SN_CONTAINER_OF(t, struct sn_hub_registry, presence_timer));
}

static void presence_after(struct sn_hub_registry *r, uint64_t ms)
{
	sn__timer_start(r->loop, &r->presence_timer, sn_ms_to_ns(ms), presence_retry);
}

static void presence_done(struct sn_hub_op *op, int code)
{
	struct sn_hub_registry *r = SN_CONTAINER_OF(op, struct sn_hub_registry, presence_op);
	bool there = false;

	switch (r->presence) {
	case HUB_GRANTING:
		r->presence = HUB_AWAY;
		if (code == 0) {
			r->lease = op->granted;
			r->presence = HUB_PUTTING;
		}
		break;
	case HUB_PUTTING:
	case HUB_KEEPING:
		there = code == 0;
		if (there)
			r->presence = HUB_THERE;
		else if (code == SN_E_NOT_FOUND || r->presence == HUB_PUTTING)
			r->presence = HUB_AWAY;
		break;
	default:
		r->presence = HUB_AWAY;
		break;
	}
	if (!r->closing) {
		if (there)
			presence_after(r, r->opts.hub_ttl_ms / 3);
		else if (code == 0 || (code == SN_E_NOT_FOUND && r->presence == HUB_AWAY))
			presence_go(r);
		else
			presence_after(r, SN_MAX(r->opts.hub_ttl_ms / 10, REGRANT_MIN_MS));
	}
	sn__hub_op_ended(r, code);
}

static void presence_go(struct sn_hub_registry *r)
{
	struct sn_hub_op *op = &r->presence_op;

	sn__timer_stop(r->loop, &r->presence_timer);
	op->if_revision = SN_HUB_ANY;
	op->lease = r->lease;
	switch (r->presence) {
	case HUB_AWAY:
		r->presence = HUB_GRANTING;
		op->kind = SN_HUB_GRANT;
		op->lease = 0;
		op->ttl_ms = r->opts.hub_ttl_ms;
		break;
	case HUB_PUTTING:
		op->kind = SN_HUB_PUT;
		op->key = sn_str_from(r->hub_key);
		op->value = SN_STR("{}");
		break;
	case HUB_THERE:
	case HUB_KEEPING: /* tried before */
		r->presence = HUB_KEEPING;
		op->kind = SN_HUB_KEEP;
		break;
	default:
		return;
	}
	op->done = presence_done;
	sn__hub_submit(r, op);
}

void sn__hub_presence_start(struct sn_hub_registry *r)
{
	r->presence = HUB_AWAY;
	presence_go(r);
}

void sn__hub_presence_stop(struct sn_hub_registry *r)
{
	sn__timer_stop(r->loop, &r->presence_timer);
	sn__timer_stop(r->loop, &r->sweep_timer);
	if (r->presence != HUB_THERE)
		return; /* an operation is under way, or there is nothing to take back */
	r->presence = HUB_LEAVING;
	r->presence_op.kind = SN_HUB_REVOKE;
	r->presence_op.lease = r->lease;
	sn__hub_submit(r, &r->presence_op);
}

/* ---- the others ---- */

void sn__hub_hub_seen(struct hub_sync *s, struct sn_str id, const struct sn_hub_entry *entry,
		bool removed, bool by_range)
{
	struct sn_hub_registry *r = s->registry;
	struct hub_owner *o = removed ? sn__map_get(&r->owners, id) : sn__hub_owner(r, id);

	if (o == NULL) {
		if (!removed)
			sn__hub_sync_again(s); /* no memory */
		return;
	}
	if (by_range)
		o->generation = s->generation;
	if (entry->revision <= o->revision)
		return;
	o->revision = entry->revision;
	if (o == r->me) {
		/* It was away for longer than the lease lasts: at once again. */
		if (removed && r->presence == HUB_THERE) {
			r->presence = HUB_AWAY;
			presence_go(r);
		}
		return;
	}
	if (o->live == !removed)
		return;
	o->live = !removed;
	sn__log(r->opts.log, SN_LOG_INFO, "hub", removed ? "hub '%s' is gone" : "hub '%s' is there",
			o->id);
	r->n_hubs += removed ? -(size_t)1 : 1;
	if (removed) /* it may have been the one to adopt what others have left */
		sn__hub_sweep_soon(r);
	sn__hub_owner_release(r, o);
}

void sn__hub_hubs_read(struct hub_sync *s, uint64_t revision)
{
	struct sn_hub_registry *r = s->registry;
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&r->owners, &i)) != NULL;) {
		struct hub_owner *o = e->value;
		struct sn_hub_entry gone = {.revision = revision};

		if (o->live && o->generation != s->generation && o->revision <= revision) {
			gone.revision = SN_MAX(revision, o->revision + 1);
			sn__hub_hub_seen(s, e->key, &gone, true, false);
		} else {
			sn__hub_owner_release(r, o);
		}
	}
	sn__hub_sweep_soon(r);
}

/* ---- adoption ---- */

static uint64_t weight(const struct hub_owner *o, struct sn_str id)
{
	const uint64_t key[2] = {o->hash, ~o->hash};

	return sn__siphash13(key, id);
}

static bool is_ours_to_take(struct sn_hub_registry *r, struct sn_str id)
{
	uint64_t mine = weight(r->me, id);
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&r->owners, &i)) != NULL;) {
		const struct hub_owner *o = e->value;

		if (o != r->me && o->live && weight(o, id) > mine)
			return false;
	}
	return true;
}

static void sweep(struct sn_timer *t);

static void adopted(struct hub_write *w, int code)
{
	struct sn_hub_registry *r = w->registry;

	r->n_adopting--;
	if (code == 0)
		r->counts.adopted++;
	if (code < 0 || (r->sweep_more && r->n_adopting == 0))
		sn__hub_sweep_soon(r);
}

static void sweep(struct sn_timer *t)
{
	struct sn_hub_registry *r = SN_CONTAINER_OF(t, struct sn_hub_registry, sweep_timer);
	const struct sn_map_entry *e;

	r->sweep_more = false;
	if (!r->ready || !r->hubs.watching ||
			(r->presence != HUB_THERE && r->presence != HUB_KEEPING)) {
		sn__hub_sweep_soon(r); /* who is not there himself adopts nobody */
		return;
	}
	while ((e = sn__map_next(&r->records, &r->sweep_at)) != NULL) {
		struct hub_record *rec = e->value;

		if (rec->gone || rec->writing || rec->owner->live || !is_ours_to_take(r, e->key))
			continue;
		if (r->n_adopting == HUB_ADOPTIONS_MAX ||
				sn__hub_write_start(r, rec, r->hub, adopted) < 0) {
			r->sweep_more = true;
			r->sweep_at--;
			break;
		}
		r->n_adopting++;
	}
	if (e == NULL)
		r->sweep_at = 0;
	if (r->sweep_more && r->n_adopting == 0)
		sn__hub_sweep_soon(r);
}

/* Not at once: a hub that has only lost its lease takes it anew. */
void sn__hub_sweep_soon(struct sn_hub_registry *r)
{
	uint64_t ms = r->opts.hub_ttl_ms / 10;

	if (r->closing || sn_timer_armed(&r->sweep_timer))
		return;
	sn__timer_start(r->loop, &r->sweep_timer, sn_ms_to_ns(r->sweep_more ? 0 : SN_MAX(ms, 10)),
			sweep);
}
