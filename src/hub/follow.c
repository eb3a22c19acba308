/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/follow.h"

#include "base/mem.h"

#define PAUSE_MIN_MS 100u

static struct sn_str behind(const struct sn_hub_follow *f, struct sn_str key)
{
	return (struct sn_str){key.ptr + f->prefix.len, key.len - f->prefix.len};
}

static void read_start(struct sn_hub_follow *f)
{
	f->reading = true;
	f->again = false;
	f->generation++;
	f->op.revision = 0;
	sn_hub_submit(f->store, &f->op);
}

static void read_again(struct sn_timer *t)
{
	struct sn_hub_follow *f = SN_CONTAINER_OF(t, struct sn_hub_follow, timer);

	if (!f->reading)
		read_start(f);
}

static void read_later(struct sn_hub_follow *f)
{
	if (f->stop || sn_timer_armed(&f->timer))
		return;
	f->pause_ms = SN_MIN(SN_MAX(2 * f->pause_ms, PAUSE_MIN_MS), SN_HUB_FOLLOW_PAUSE_MAX_MS);
	sn__timer_start(f->store->loop, &f->timer, sn_ms_to_ns(f->pause_ms), read_again);
}

static void range_entry(struct sn_hub_op *op, const struct sn_hub_entry *entry)
{
	struct sn_hub_follow *f = SN_CONTAINER_OF(op, struct sn_hub_follow, op);

	if (!f->stop)
		f->seen(f, behind(f, entry->key), entry, SN_HUB_BY_RANGE);
}

static void range_done(struct sn_hub_op *op, int code)
{
	struct sn_hub_follow *f = SN_CONTAINER_OF(op, struct sn_hub_follow, op);

	f->reading = false;
	if (f->stop) {
		f->stopped(f);
		return;
	}
	if (code < 0) {
		f->failed(f, code, &op->err, f->pause_ms >= SN_HUB_FOLLOW_PAUSE_MAX_MS);
		read_later(f);
		return;
	}
	if (f->again) { /* something was missed meanwhile: what was not seen may be there */
		read_later(f);
		return;
	}
	f->told = SN_MAX(f->told, op->revision);
	if (!f->watching) {
		f->watching = true;
		f->watch.from = op->revision + 1;
		f->store->ops->watch(f->store, &f->watch);
	}
	f->read(f, op->revision);
	if (!f->again)
		f->pause_ms = 0;
}

void sn__hub_follow_again(struct sn_hub_follow *f)
{
	f->again = true;
	if (!f->reading)
		read_later(f);
}

static void watch_change(struct sn_hub_watch *w, const struct sn_hub_entry *entry, bool removed)
{
	struct sn_hub_follow *f = SN_CONTAINER_OF(w, struct sn_hub_follow, watch);

	f->told = SN_MAX(f->told, entry->revision);
	f->seen(f, behind(f, entry->key), entry, removed ? SN_HUB_REMOVED : SN_HUB_BY_WATCH);
}

static void watch_lost(struct sn_hub_watch *w, uint64_t revision)
{
	struct sn_hub_follow *f = SN_CONTAINER_OF(w, struct sn_hub_follow, watch);

	(void)revision;
	f->lost++;
	sn__timer_stop(f->store->loop, &f->timer);
	if (f->reading)
		f->again = true;
	else
		read_start(f);
}

void sn__hub_follow_start(struct sn_hub_follow *f)
{
	f->op.kind = SN_HUB_RANGE;
	f->op.key = f->prefix;
	f->op.entry = range_entry;
	f->op.done = range_done;
	f->watch.prefix = f->prefix;
	f->watch.change = watch_change;
	f->watch.lost = watch_lost;
	read_start(f);
}

void sn__hub_follow_stop(struct sn_hub_follow *f)
{
	f->stop = true;
	sn__timer_stop(f->store->loop, &f->timer);
	if (f->watching)
		f->store->ops->unwatch(f->store, &f->watch);
	f->watching = false;
}
