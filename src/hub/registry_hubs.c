/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry_impl.h"

#include "proto/json_pull.h"

/*
 * A hub is there as long as its key is, which hangs on a lease that the hub keeps alive. A node whose
 * owner is not there is adopted: written anew under another owner, on the condition that nobody else
 * has written it. Every hub works out the same one of those that are there as the one to do it (the
 * highest hash of hub and node), so that they rarely try in vain.
 *
 * Two hubs with one id: who comes writes the key, whatever it had (mostly it is its own, of a process
 * that has crashed). A hub that is alive sees that somebody else has written its key. The elder writes
 * it again, and by that the younger knows: it is refused, and rests until the key has gone.
 */

#define REGRANT_MIN_MS 100u

/* ---- this hub's own key ---- */

static void presence_go(struct sn_hub_registry *r);

static bool is_elder(const struct sn_hub_registry *r)
{
	return r->since_ms != r->other.since_ms ? r->since_ms < r->other.since_ms
						: r->instance < r->other.instance;
}

/* Somebody has written our key after us. True: what is to be done about it begins now, or with the end
 * of what is under way. */
static bool contested(struct sn_hub_registry *r)
{
	if (r->other.revision <= r->put_revision || r->refused || r->claim ||
			(r->presence != HUB_THERE && r->presence != HUB_KEEPING))
		return false;
	if (is_elder(r)) {
		r->claim = true;
		sn__log(r->opts.log, SN_LOG_WARNING, "hub",
				"another hub with the id '%s' has come to this store: it is refused",
				r->hub);
	} else {
		r->refused = true;
		sn__log(r->opts.log, SN_LOG_ERROR, "hub", "hub '%s': %s", r->hub, HUB_REFUSED_TEXT);
	}
	return true;
}

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
		if (there && r->presence == HUB_PUTTING)
			r->put_revision = op->revision;
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
		if (there && (contested(r) || r->claim || r->refused))
			presence_go(r);
		else if (there)
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
	if (r->presence == HUB_THERE || r->presence == HUB_KEEPING)
		r->presence = r->refused ? HUB_REFUSED : r->claim ? HUB_PUTTING : HUB_KEEPING;
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
		r->claim = false;
		op->kind = SN_HUB_PUT;
		op->key = sn_str_from(r->hub_key);
		op->value = sn_str_from(r->hub_value);
		break;
	case HUB_KEEPING:
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

/* Our own key. */
static void own_seen(struct sn_hub_registry *r, const struct sn_hub_entry *entry, bool removed)
{
	uint64_t since = 0, instance = 0;
	struct sn_json_string key;
	struct sn_json_pull pull;
	struct sn_str value;
	int more;

	if (removed) {
		/* It was away for longer than the lease lasts, or whoever had it has gone: again. */
		if (r->presence == HUB_THERE || r->presence == HUB_REFUSED) {
			r->refused = r->claim = false;
			r->presence = HUB_AWAY;
			presence_go(r);
		} else if (r->presence == HUB_KEEPING) { /* when that has ended */
			r->refused = false;
			r->claim = true;
		}
		return;
	}
	if (sn__json_check(entry->value, NULL) < 0)
		return;
	sn__json_begin_checked(&pull, entry->value);
	more = sn__json_enter_object(&pull);
	while (more >= 0 && (more = sn__json_member(&pull, &key)) > 0) {
		more = sn__json_skip(&pull, &value);
		if (more == 0 && sn__json_string_is(key, SN_STR("since")))
			more = sn__json_uint(value, UINT64_MAX, &since);
		else if (more == 0 && sn__json_string_is(key, SN_STR("instance")))
			more = sn__json_uint(value, UINT64_MAX, &instance);
	}
	if (instance == 0 || instance == r->instance)
		return;
	r->other.revision = entry->revision;
	r->other.since_ms = since;
	r->other.instance = instance;
	if (contested(r) && r->presence == HUB_THERE)
		presence_go(r);
}

/* ---- the others ---- */

void sn__hub_hub_seen(struct sn_hub_follow *f, struct sn_str id, const struct sn_hub_entry *entry,
		enum sn_hub_seen how)
{
	struct sn_hub_registry *r = f->arg;
	bool removed = how == SN_HUB_REMOVED;
	struct hub_owner *o = removed ? sn__map_get(&r->owners, id) : sn__hub_owner(r, id);

	if (o == NULL) {
		if (!removed)
			sn__hub_follow_again(f); /* no memory */
		return;
	}
	if (how == SN_HUB_BY_RANGE)
		o->generation = f->generation;
	if (entry->revision <= o->revision)
		return;
	o->revision = entry->revision;
	if (o == r->me) {
		own_seen(r, entry, removed);
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

void sn__hub_hubs_read(struct sn_hub_follow *f, uint64_t revision)
{
	struct sn_hub_registry *r = f->arg;
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&r->owners, &i)) != NULL;) {
		struct hub_owner *o = e->value;
		struct sn_hub_entry gone = {.revision = revision};

		if (o->live && o->generation != f->generation && o->revision <= revision) {
			gone.revision = SN_MAX(revision, o->revision + 1);
			sn__hub_hub_seen(f, e->key, &gone, SN_HUB_REMOVED);
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
