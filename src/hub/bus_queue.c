/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/bus_impl.h"

/*
 * One subscriber. What it is offered goes to the ring; from there, `window` at once, to deliver(); and
 * with the answer it ends. At least once and failed: it goes back to the front and everything rests for
 * a while, longer each time, so that order is kept while the subscriber is away. An event that fails
 * again and again is set aside, with a clock of its own, so that it does not hold up the others for ever.
 *
 * Behind (at least once only): the log has events that are not here. As long as that is so, new ones
 * are not put here either but read from the log, so that order is kept.
 */

static void wake(struct sn_bus_member *m)
{
	if (m->overflowed || !sn_list_empty(&m->ready))
		return;
	sn_list_push_back(&m->bus->ready, &m->ready);
	sn__bus_wake(m->bus);
}

/* ---- slots ---- */

static void hold(struct sn_bus *bus, struct sn_bus_event *e)
{
	(void)sn__bus_event_ref(e);
	if (e->queued++ == 0)
		bus->counts.queued_bytes += sn_bus_bytes(e);
}

static void let_go(struct sn_bus *bus, struct sn_bus_event *e)
{
	if (--e->queued == 0)
		bus->counts.queued_bytes -= sn_bus_bytes(e);
	sn__bus_event_unref(e);
}

static struct bus_slot *at(struct sn_bus_member *m, uint32_t i)
{
	return &m->ring[(m->head + i) & (m->cap - 1)];
}

/* Room for one more, and for those under way and aside to come back. */
static bool grow(struct sn_bus_member *m)
{
	uint32_t cap = m->cap == 0 ? 8 : 2 * m->cap;
	struct bus_slot *ring;

	if (m->len + m->n_flight + m->n_aside < m->cap)
		return true;
	ring = sn__malloc(cap * sizeof(*ring));
	if (ring == NULL)
		return false;
	for (uint32_t i = 0; i < m->len; i++)
		ring[i] = *at(m, i);
	sn__free(m->ring);
	m->ring = ring;
	m->cap = cap;
	m->head = 0;
	return true;
}

static struct bus_slot pop(struct sn_bus_member *m)
{
	struct bus_slot slot = *at(m, 0);

	m->head = (m->head + 1) & (m->cap - 1);
	m->len--;
	m->admitted--;
	return slot;
}

static void push_front(struct sn_bus_member *m, struct bus_slot slot)
{
	m->head = (m->head - 1) & (m->cap - 1);
	m->len++;
	m->admitted++;
	*at(m, 0) = slot;
}

static size_t n_here(const struct sn_bus_member *m)
{
	return m->admitted + m->n_flight + m->n_aside;
}

static size_t bytes_max(const struct sn_bus_member *m)
{
	const struct sn_bus *bus = m->bus;
	size_t max = m->s->queue_bytes_max;

	if (bus->counts.queued_bytes > bus->opts.max_bytes)
		max = SN_MIN(max, bus->opts.max_bytes / SN_MAX(bus->n_busy, 1));
	return max;
}

static bool is_over(const struct sn_bus_member *m)
{
	return n_here(m) > m->s->queue_max || m->bytes > bytes_max(m);
}

static bool fits(const struct sn_bus_member *m, size_t bytes)
{
	if (n_here(m) == 0)
		return true; /* one at least, however large */
	return n_here(m) < m->s->queue_max && m->bytes + bytes <= bytes_max(m);
}

enum ending { DELIVERED, FAILED, DROPPED };

/* What was queued is so no more. */
static void count_end(struct sn_bus_member *m, enum ending how, size_t n)
{
	struct sn_bus_counts *counts = &m->bus->counts;

	m->s->queued -= n;
	counts->queued -= n;
	switch (how) {
	case DELIVERED:
		m->s->delivered += n;
		counts->delivered += n;
		break;
	case FAILED:
		m->s->failed += n;
		counts->failed += n;
		break;
	case DROPPED:
		m->s->dropped += n;
		counts->dropped += n;
		break;
	}
}

static void count_offer(struct sn_bus_member *m)
{
	m->s->offered++;
	m->s->queued++;
	m->bus->counts.offered++;
	m->bus->counts.queued++;
}

/* @slot has left the queue for good. */
static void slot_end(struct sn_bus_member *m, struct bus_slot *slot, enum ending how, int code)
{
	struct sn_bus_event *e = slot->event;

	count_end(m, how, 1);
	sn__bus_pub_result(slot, m, code);
	let_go(m->bus, e);
}

static void busy_change(struct sn_bus_member *m, size_t before)
{
	if (before == 0 && n_here(m) > 0)
		m->bus->n_busy++;
	else if (before > 0 && n_here(m) == 0)
		m->bus->n_busy--;
}

/* A slot behind the limits comes within them: its publisher need not wait any more. */
static void unblock(struct bus_slot *slot)
{
	struct bus_pub *pub = slot->pub;

	if (pub == NULL)
		return;
	if (pub->p == NULL || pub->p->result == NULL)
		slot->pub = NULL;
	sn__bus_pub_step(pub, 0);
	if (slot->pub == NULL)
		sn__bus_pub_unref(pub);
}

static void admit(struct sn_bus_member *m)
{
	while (m->admitted < m->len) {
		struct bus_slot *slot = at(m, m->admitted);
		size_t bytes = sn_bus_bytes(slot->event);

		if (!fits(m, bytes))
			return;
		m->admitted++;
		m->bytes += bytes;
		unblock(slot);
	}
}

/* ---- offers ---- */

static void drop_oldest(struct sn_bus_member *m)
{
	struct bus_slot slot = pop(m);

	m->bytes -= sn_bus_bytes(slot.event);
	slot_end(m, &slot, DROPPED, SN_E_LIMIT);
}

static void tell_now(struct sn_bus_member *m, struct bus_pub *pub, int code)
{
	if (pub->p != NULL && pub->p->result != NULL)
		pub->p->result(pub->p, m->id, code);
}

/* It is not taken into the queue: in the log it stays for later, else it is lost. */
static void pass_over(struct sn_bus_member *m, struct bus_pub *pub, uint64_t seq, int code)
{
	if (seq != 0) {
		m->behind = m->more = true;
		m->n_behind++;
		wake(m);
	} else {
		count_end(m, DROPPED, 1);
	}
	tell_now(m, pub, code);
}

static void push(struct sn_bus_member *m, struct bus_pub *pub, uint64_t seq, bool within)
{
	size_t before = n_here(m);
	bool told = pub->p != NULL && pub->p->result != NULL;
	struct bus_slot slot = {.event = pub->event, .seq = seq};

	if (!grow(m)) {
		pass_over(m, pub, seq, SN_E_NOMEM);
		return;
	}
	hold(m->bus, pub->event);
	if (told || !within) {
		slot.pub = pub;
		pub->refs++;
	}
	*at(m, m->len++) = slot;
	if (seq != 0)
		m->last_seq = seq;
	if (within) {
		m->admitted++;
		m->bytes += sn_bus_bytes(pub->event);
	} else {
		pub->waiting++;
	}
	busy_change(m, before);
	wake(m);
}

static void overflow(struct sn_bus_member *m, struct bus_pub *pub)
{
	m->overflowed = true;
	sn_list_remove(&m->ready);
	sn_list_push_back(&m->bus->overflowed, &m->ready);
	sn__bus_wake(m->bus);
	count_end(m, DROPPED, 1);
	tell_now(m, pub, SN_E_LIMIT);
}

void sn__bus_offer(struct sn_bus_member *m, struct bus_pub *pub, uint64_t seq)
{
	size_t bytes = sn_bus_bytes(pub->event);

	count_offer(m);
	if (m->behind && seq != 0) {
		m->more = true;
		m->n_behind++;
		tell_now(m, pub, SN_E_LIMIT);
		return;
	}
	if (m->admitted == m->len && fits(m, bytes)) {
		push(m, pub, seq, true);
		return;
	}
	switch (m->s->full) {
	case SN_BUS_BLOCK:
		push(m, pub, seq, false);
		return;
	case SN_BUS_DISCONNECT:
		overflow(m, pub);
		return;
	case SN_BUS_DROP_OLDEST:
		break;
	}
	if (seq != 0) {
		pass_over(m, pub, seq, SN_E_LIMIT);
		return;
	}
	if (m->len == 0) { /* what is under way cannot be dropped */
		pass_over(m, pub, 0, SN_E_LIMIT);
		return;
	}
	/* The new one first: who is told of a dropped one may detach the subscriber. */
	push(m, pub, seq, true);
	while (m->s != NULL && m->len > 1 && is_over(m))
		drop_oldest(m);
}

/* ---- deliveries ---- */

static uint64_t back_off(struct sn_bus_member *m, uint32_t failures)
{
	uint64_t ms = m->s->retry_min_ms;

	for (uint32_t i = 1; i < failures && ms < m->s->retry_max_ms; i++)
		ms *= 2;
	ms = SN_MIN(ms, m->s->retry_max_ms);
	return sn_ms_to_ns(ms) - sn__rng_below(sn__loop_rng(m->bus->loop), sn_ms_to_ns(ms) / 5 + 1);
}

static bool set_aside(struct sn_bus_member *m, const struct bus_slot *slot, uint64_t now)
{
	if (m->n_aside == BUS_ASIDE_MAX)
		return false;
	if (m->aside == NULL)
		m->aside = sn__malloc(BUS_ASIDE_MAX * sizeof(*m->aside));
	if (m->aside == NULL)
		return false;
	m->aside[m->n_aside] = *slot;
	m->aside[m->n_aside++].due_ns = now + back_off(m, slot->tries);
	return true;
}

static void try_later(struct sn_bus_member *m, struct bus_slot *slot, int code)
{
	uint64_t now = sn__loop_now_ns(m->bus->loop);
	struct bus_pub *pub = slot->pub;

	slot->tries++;
	/* Of several that fail together one counts; those set aside have their own clocks. */
	if (now >= m->paused_until_ns && slot->tries <= BUS_ASIDE_AFTER) {
		m->failures++;
		m->paused_until_ns = now + back_off(m, m->failures);
	}
	slot->pub = NULL;
	if (slot->tries < BUS_ASIDE_AFTER || !set_aside(m, slot, now))
		push_front(m, *slot);
	slot->pub = pub;
	sn__bus_pub_result(slot, m, code); /* who may detach it */
}

void sn__bus_delivered(struct sn_bus_subscriber *s, struct sn_bus_event *event, int code)
{
	struct sn_bus_member *m = s->member;
	size_t before;
	struct bus_slot slot;
	uint32_t i = 0;

	if (m == NULL)
		return;
	while (i < m->n_flight && m->flight[i].event != event)
		i++;
	if (i == m->n_flight)
		return;
	before = n_here(m);
	slot = m->flight[i];
	m->n_flight--;
	memmove(&m->flight[i], &m->flight[i + 1], (m->n_flight - i) * sizeof(slot));
	wake(m);
	if (code < 0 && s->at_least_once) {
		try_later(m, &slot, code);
		return;
	}
	m->bytes -= sn_bus_bytes(event);
	if (code == 0)
		m->failures = 0;
	if (slot.seq != 0)
		m->bus->opts.log->forget(m->bus->opts.log, slot.seq, m->id);
	busy_change(m, before);
	admit(m);
	slot_end(m, &slot, code == 0 ? DELIVERED : FAILED, code);
}

static bool flight_room(struct sn_bus_member *m)
{
	uint32_t cap = m->flight_cap == 0 ? 1 : SN_MIN(2 * m->flight_cap, m->window);
	struct bus_slot *flight;

	if (m->n_flight < m->flight_cap)
		return true;
	flight = sn__realloc(m->flight, cap * sizeof(*flight));
	if (flight == NULL)
		return false;
	m->flight = flight;
	m->flight_cap = cap;
	return true;
}

/* The next one: of those aside one that is due, else the oldest. */
static bool next(struct sn_bus_member *m, uint64_t now, struct bus_slot *ret_slot)
{
	for (uint32_t i = 0; i < m->n_aside; i++) {
		if (m->aside[i].due_ns > now)
			continue;
		*ret_slot = m->aside[i];
		m->n_aside--;
		memmove(&m->aside[i], &m->aside[i + 1], (m->n_aside - i) * sizeof(*ret_slot));
		return true;
	}
	if (m->admitted == 0)
		return false;
	*ret_slot = pop(m);
	return true;
}

static void ring(struct sn_timer *t)
{
	wake(SN_CONTAINER_OF(t, struct sn_bus_member, timer));
}

static void wait_for(struct sn_bus_member *m, uint64_t now, uint64_t due)
{
	if (!sn_timer_armed(&m->timer) || m->timer.due_ns > due)
		sn__timer_start(m->bus->loop, &m->timer, sn_time_until(now, due), ring);
}

static void deliver(struct sn_bus_member *m)
{
	uint64_t now = sn__loop_now_ns(m->bus->loop), due = SN_NEVER_NS;
	struct bus_slot slot;

	while (m->s != NULL && m->n_flight < m->window && now >= m->paused_until_ns) {
		if (!flight_room(m)) {
			wait_for(m, now, now + sn_ms_to_ns(m->s->retry_min_ms));
			return;
		}
		if (!next(m, now, &slot))
			break;
		m->flight[m->n_flight++] = slot;
		if (slot.tries > 0) {
			m->s->redelivered++;
			m->bus->counts.redelivered++;
		}
		m->s->ops->deliver(m->s, slot.event);
	}
	if (m->s == NULL || m->n_flight >= m->window)
		return;
	for (uint32_t i = 0; i < m->n_aside; i++)
		due = SN_MIN(due, m->aside[i].due_ns);
	if (m->admitted > 0)
		due = 0;
	if (due != SN_NEVER_NS)
		wait_for(m, now, SN_MAX(due, m->paused_until_ns));
}

/* ---- reading the log ---- */

static void read_event(void *arg, uint64_t seq, struct sn_bus_event *event)
{
	struct sn_bus_member *m = arg;
	size_t before;

	m->n_read++;
	if (m->s != NULL && !m->short_read && !fits(m, sn_bus_bytes(event)))
		m->short_read = m->more = true;
	if (m->s == NULL || m->short_read || !grow(m)) {
		m->short_read = true; /* later again, from here */
		sn__bus_event_unref(event);
		return;
	}
	before = n_here(m);
	if (seq <= m->attach_seq)
		count_offer(m);
	else if (m->n_behind > 0)
		m->n_behind--;
	hold(m->bus, event);
	sn__bus_event_unref(event);
	*at(m, m->len++) = (struct bus_slot){.event = event, .seq = seq};
	m->admitted++;
	m->bytes += sn_bus_bytes(event);
	m->last_seq = seq;
	busy_change(m, before);
}

static void read_done(void *arg, int code)
{
	struct sn_bus_member *m = arg;
	uint64_t now = sn__loop_now_ns(m->bus->loop);

	m->reading = false;
	if (m->s == NULL) {
		sn__bus_wake(m->bus); /* to be freed */
		return;
	}
	if (m->n_read == BUS_READ_MAX || m->short_read)
		m->more = true;
	m->short_read = code < 0 || (m->short_read && m->len == 0);
	if (m->short_read) { /* out of memory, or the log is ill */
		m->more = true;
		wait_for(m, now, now + sn_ms_to_ns(BUS_READ_PAUSE_MS));
	}
	m->behind = m->more;
	if (!m->behind && m->n_behind > 0) {
		/* Offered, but the log has not taken them: their publishers know. */
		count_end(m, DROPPED, m->n_behind);
		m->n_behind = 0;
	}
	if (!m->short_read)
		wake(m);
}

static void read_on(struct sn_bus_member *m)
{
	struct sn_bus_log *log = m->bus->opts.log;
	uint64_t now = sn__loop_now_ns(m->bus->loop);

	if (!m->behind || m->reading || m->len > 0)
		return;
	if (m->short_read && sn_timer_armed(&m->timer))
		return;
	m->short_read = m->more = false;
	m->n_read = 0;
	m->reading = true;
	if (log->read(log, m->id, m->last_seq, BUS_READ_MAX, read_event, read_done, m) < 0) {
		m->reading = false;
		m->more = true;
		wait_for(m, now, now + sn_ms_to_ns(BUS_READ_PAUSE_MS));
	}
}

/* ---- the whole ---- */

void sn__bus_serve(struct sn_bus_member *m)
{
	if (m->s == NULL)
		return;
	deliver(m);
	if (m->s != NULL)
		read_on(m);
}

void sn__bus_queue_drop(struct sn_bus_member *m, int code)
{
	size_t before = n_here(m);

	while (m->n_flight > 0)
		slot_end(m, &m->flight[--m->n_flight], DROPPED, code);
	while (m->n_aside > 0)
		slot_end(m, &m->aside[--m->n_aside], DROPPED, code);
	while (m->len > 0) {
		bool within = m->admitted > 0;
		struct bus_slot slot;

		if (!within) {
			m->admitted++;
			unblock(at(m, 0));
		}
		slot = pop(m);
		slot_end(m, &slot, DROPPED, code);
	}
	m->bytes = 0;
	if (before > 0)
		m->bus->n_busy--;
	count_end(m, DROPPED, m->n_behind);
	m->n_behind = 0;
}
