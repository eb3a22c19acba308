/* SPDX-License-Identifier: Apache-2.0 */
#include "io/timer.h"

#include "base/mem.h"

/*
 * A timer due in tick T lies on the lowest level l where T and the wheel's tick differ by at most 64
 * slots of that level. The slot of the current tick itself is always empty: a slot is emptied when
 * the wheel arrives there, and a timer is never due before the next tick. So an index tells its
 * distance, 1 to 64, without a turn counter.
 *
 * Timers do not know their slot. Stopping one may leave the bit of an empty slot behind, which is
 * found and cleared when the next tick is looked for.
 */

void sn__wheel_init(struct sn_wheel *w, uint64_t now_ns)
{
	w->tick = now_ns / SN_WHEEL_TICK_NS;
	w->n_timers = 0;
	for (unsigned l = 0; l < SN_WHEEL_LEVELS; l++) {
		w->used[l] = 0;
		for (unsigned i = 0; i < SN_WHEEL_SLOTS; i++)
			sn_list_init(&w->slots[l][i]);
	}
	sn_list_init(&w->expired);
}

static void place(struct sn_wheel *w, struct sn_timer *t)
{
	uint64_t due = t->due_ns / SN_WHEEL_TICK_NS + (t->due_ns % SN_WHEEL_TICK_NS != 0);
	unsigned level = 0, slot;

	if (due <= w->tick)
		due = w->tick + 1;
	while (level < SN_WHEEL_LEVELS - 1 &&
			(due >> (level * SN_WHEEL_BITS)) - (w->tick >> (level * SN_WHEEL_BITS)) >
					SN_WHEEL_SLOTS)
		level++;
	/* Too far for the last level (124 days): as far as it goes, and placed anew from there. */
	if ((due >> (level * SN_WHEEL_BITS)) - (w->tick >> (level * SN_WHEEL_BITS)) >
			SN_WHEEL_SLOTS)
		due = w->tick + ((uint64_t)SN_WHEEL_SLOTS << (level * SN_WHEEL_BITS));
	slot = (due >> (level * SN_WHEEL_BITS)) % SN_WHEEL_SLOTS;
	sn_list_push_back(&w->slots[level][slot], &t->link);
	w->used[level] |= UINT64_C(1) << slot;
}

void sn__wheel_start(struct sn_wheel *w, struct sn_timer *t, uint64_t now_ns, uint64_t due_ns)
{
	/* After a time without timers: what is started shall lie on a low level. */
	if (w->n_timers == 0 && now_ns / SN_WHEEL_TICK_NS > w->tick)
		w->tick = now_ns / SN_WHEEL_TICK_NS;
	if (sn_timer_armed(t))
		sn_list_remove(&t->link);
	else
		w->n_timers++;
	t->due_ns = due_ns;
	place(w, t);
}

void sn__wheel_stop(struct sn_wheel *w, struct sn_timer *t)
{
	if (!sn_timer_armed(t))
		return;
	sn_list_remove(&t->link);
	w->n_timers--;
}

/** The tick at which the wheel comes to the next used slot of @level; UINT64_MAX: none. */
static uint64_t level_next(struct sn_wheel *w, unsigned level)
{
	uint64_t base = w->tick >> (level * SN_WHEEL_BITS);
	unsigned first = (base + 1) % SN_WHEEL_SLOTS;

	while (w->used[level] != 0) {
		uint64_t bits = w->used[level];
		uint64_t turned = first != 0 ? bits >> first | bits << (SN_WHEEL_SLOTS - first)
					     : bits;
		unsigned distance = (unsigned)__builtin_ctzll(turned);
		unsigned slot = (first + distance) % SN_WHEEL_SLOTS;

		if (!sn_list_empty(&w->slots[level][slot]))
			return (base + 1 + distance) << (level * SN_WHEEL_BITS);
		w->used[level] &= ~(UINT64_C(1) << slot);
	}
	return UINT64_MAX;
}

static uint64_t next_tick(struct sn_wheel *w)
{
	uint64_t next = UINT64_MAX;

	if (w->n_timers == 0)
		return UINT64_MAX;
	for (unsigned l = 0; l < SN_WHEEL_LEVELS; l++) {
		uint64_t tick = level_next(w, l);

		if (tick < next)
			next = tick;
	}
	return next;
}

uint64_t sn__wheel_next_ns(struct sn_wheel *w, uint64_t now_ns)
{
	uint64_t now = now_ns / SN_WHEEL_TICK_NS, tick;

	if (!sn_list_empty(&w->expired))
		return 0;
	tick = next_tick(w);
	/* Nothing on the way: go on to now, so that what is started next lies on a low level. */
	if (tick > now && now > w->tick)
		w->tick = now;
	return tick > UINT64_MAX / SN_WHEEL_TICK_NS ? SN_NEVER_NS : tick * SN_WHEEL_TICK_NS;
}

/** Arrive at @tick: move the slots of the higher levels that begin there down, collect what is due. */
static void arrive(struct sn_wheel *w, uint64_t tick)
{
	struct sn_list moving, *slot;

	w->tick = tick - 1;
	for (unsigned l = SN_WHEEL_LEVELS - 1; l > 0; l--) {
		if (tick % (UINT64_C(1) << (l * SN_WHEEL_BITS)) != 0)
			continue;
		slot = &w->slots[l][(tick >> (l * SN_WHEEL_BITS)) % SN_WHEEL_SLOTS];
		sn_list_init(&moving);
		sn_list_splice_back(&moving, slot);
		while (!sn_list_empty(&moving)) {
			struct sn_list *node = sn_list_pop_front(&moving);

			place(w, SN_CONTAINER_OF(node, struct sn_timer, link));
		}
	}
	sn_list_splice_back(&w->expired, &w->slots[0][tick % SN_WHEEL_SLOTS]);
	w->tick = tick;
}

void sn__wheel_run(struct sn_wheel *w, uint64_t now_ns)
{
	uint64_t now = now_ns / SN_WHEEL_TICK_NS, tick;
	struct sn_list *node;

	while ((tick = next_tick(w)) <= now)
		arrive(w, tick);
	if (now > w->tick)
		w->tick = now;
	/* What a callback starts lies beyond w->tick, so that it waits for a later run. */
	while ((node = sn_list_pop_front(&w->expired)) != NULL) {
		struct sn_timer *t = SN_CONTAINER_OF(node, struct sn_timer, link);

		w->n_timers--;
		t->fn(t);
	}
}
