/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pick. In order: a due probe (call.md: "a due probe comes first"); a peer by the balancer among
 * those that are neither barred, nor asked to be left alone, nor tried by this call; one that was
 * tried; a due probe for who may not take one ahead of others; else nothing.
 *
 * When nothing is special about a target (no breaker open, no hint, nothing tried) a pick touches
 * two peers' cache lines and one random number; otherwise it samples a few times and then scans.
 */
#include "mesh/target.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/time.h"

#define NONE UINT32_MAX
#define SCAN_ALL 4 /* so few peers are compared all */
#define SAMPLE_TRIES 8
#define FLOOR_NS 1000.0

enum sn_balance sn__balance_of(
		const struct sn_policy *policy, struct sn_str kind, enum sn_dialect dialect)
{
	if (policy->balance != SN_BALANCE_DEFAULT)
		return (enum sn_balance)policy->balance;
	if (sn_str_eq(kind, SN_STR("database")) || sn_str_eq(kind, SN_STR("queue")))
		return SN_BALANCE_FIRST;
	return dialect == SN_DIALECT_BERLIOZ ? SN_BALANCE_RANDOM : SN_BALANCE_PEAK_EWMA;
}

static struct sn_peer_state *state_of(const struct sn_pick *p, uint32_t i)
{
	return atomic_load_explicit(&p->peers->peers[i].state, memory_order_acquire);
}

static bool was_tried(const struct sn_pick *p, const struct sn_peer_state *ps)
{
	for (unsigned i = 0; i < p->n_tried; i++) {
		if (p->tried[i] == ps->serial)
			return true;
	}
	return false;
}

static bool is_barred(const struct sn_pick *p, struct sn_peer_state *ps)
{
	if (!p->policy->breaker)
		return false;
	if (atomic_load_explicit(&ps->exclude_until_ns, memory_order_relaxed) > p->now_ns)
		return true;
	return atomic_load_explicit(&ps->barred, memory_order_relaxed) != 0;
}

static bool eligible(const struct sn_pick *p, uint32_t i, bool tried_too)
{
	struct sn_peer_state *ps = state_of(p, i);

	/* A peer without a state is new; it is barred only when its whole target is. */
	if (ps == NULL)
		return !p->policy->breaker || p->mt->force != SN_BREAKER_FORCE_OPEN;
	return (!is_barred(p, ps) && (tried_too || !was_tried(p, ps)));
}

/* ---- comparing ---- */

struct load {
	double cost; /* 0: never measured */
	double busy; /* (in flight + 1) / weight */
};

static struct load load_of(const struct sn_pick *p, uint32_t i)
{
	const struct sn_peer_state *ps = state_of(p, i);
	double weight = p->peers->peers[i].weight;
	struct load l = {0, 1};

	if (ps != NULL) {
		l.busy = atomic_load_explicit(&ps->inflight, memory_order_relaxed) + 1;
		if (p->balance == SN_BALANCE_PEAK_EWMA)
			l.cost = sn__peer_state_cost(ps, p->now_ns);
	}
	if (weight > 1)
		l.busy /= weight;
	return l;
}

/*
 * A peer that was never measured gets its first call at once; while that is under way it counts as
 * costing what the other costs, else the floor of 1 us would send it a thousand more.
 */
static bool is_better(struct load a, struct load b)
{
	if (a.cost == 0)
		a.cost = a.busy <= 1 ? FLOOR_NS : b.cost;
	if (b.cost == 0)
		b.cost = b.busy <= 1 ? FLOOR_NS : a.cost;
	return SN_MAX(a.cost, FLOOR_NS) * a.busy < SN_MAX(b.cost, FLOOR_NS) * b.busy;
}

/* ---- choosing ---- */

static uint32_t scan_from(const struct sn_pick *p, uint32_t start, bool special, bool tried_too)
{
	uint32_t n = p->peers->n;

	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = start + k < n ? start + k : start + k - n;

		if (!special || eligible(p, i, tried_too))
			return i;
	}
	return NONE;
}

static uint32_t sample(const struct sn_pick *p, uint32_t not, bool special, bool tried_too)
{
	uint32_t n = p->peers->n, i;

	for (int k = 0; k < SAMPLE_TRIES; k++) {
		/* Drawing from one fewer keeps two samples distinct without a second draw. */
		i = (uint32_t)sn__rng_below(p->rng, not != NONE ? n - 1 : n);
		if (not != NONE && i >= not )
			i++;
		if (!special || eligible(p, i, tried_too))
			return i;
	}
	return NONE;
}

static uint32_t choose_random(const struct sn_pick *p, bool special, bool tried_too)
{
	uint32_t i = sample(p, NONE, special, tried_too), n = 0;

	if (i != NONE)
		return i;
	for (uint32_t k = 0; k < p->peers->n; k++) {
		if (eligible(p, k, tried_too) && sn__rng_below(p->rng, ++n) == 0)
			i = k;
	}
	return i;
}

static uint32_t choose_all(const struct sn_pick *p, bool special, bool tried_too)
{
	uint32_t n = p->peers->n, best = NONE;
	uint32_t start = (uint32_t)sn__rng_below(p->rng, n);
	struct load best_load = {0, 0};

	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = start + k < n ? start + k : start + k - n;
		struct load l;

		if (special && !eligible(p, i, tried_too))
			continue;
		l = load_of(p, i);
		if (best == NONE || is_better(l, best_load)) {
			best = i;
			best_load = l;
		}
	}
	return best;
}

static uint32_t choose_by_load(const struct sn_pick *p, bool special, bool tried_too)
{
	uint32_t a, b;

	if (p->peers->n <= SCAN_ALL)
		return choose_all(p, special, tried_too);
	a = sample(p, NONE, special, tried_too);
	if (a == NONE)
		return choose_all(p, special, tried_too);
	b = sample(p, a, special, tried_too);
	return b != NONE && is_better(load_of(p, b), load_of(p, a)) ? b : a;
}

/* The first entry, and when it may not be taken the next one in the order of identities. */
static uint32_t choose_first(const struct sn_pick *p, bool special, bool tried_too)
{
	uint32_t n = p->peers->n, best = NONE, first = p->peers->first < n ? p->peers->first : 0;
	uint64_t lowest = UINT64_MAX;

	if (!special || eligible(p, first, tried_too))
		return first;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t number = sn__identity_number(p->peers->peers[i].identity);

		if ((best == NONE || number < lowest) && eligible(p, i, tried_too)) {
			best = i;
			lowest = number;
		}
	}
	return best;
}

static uint32_t choose(const struct sn_pick *p, bool special, bool tried_too)
{
	uint32_t n = p->peers->n;

	if (n == 1)
		return !special || eligible(p, 0, tried_too) ? 0 : NONE;
	switch (p->balance) {
	case SN_BALANCE_FIRST:
		return choose_first(p, special, tried_too);
	case SN_BALANCE_ROUND_ROBIN:
		return scan_from(p, (uint32_t)(p->mt->round_robin++ % n), special, tried_too);
	case SN_BALANCE_LEAST_REQUEST:
	case SN_BALANCE_PEAK_EWMA:
		return choose_by_load(p, special, tried_too);
	case SN_BALANCE_DEFAULT:
	case SN_BALANCE_RANDOM:
		break;
	}
	return choose_random(p, special, tried_too);
}

/* ---- probes ---- */

/* Whether the barred peer may take this call as a probe; notes in @p what there is to wait for. */
static bool may_probe(struct sn_pick *p, struct sn_peer_state *ps, bool last_resort)
{
	enum sn_breaker_verdict v = sn__breaker_check(ps->breaker, p->policy, p->now_ns, p->rng);

	if (v == SN_BREAKER_CONNECT_DUE) {
		if (p->tcp)
			sn__mesh_probe(ps, p->policy);
		else
			sn__breaker_skip_connect(ps->breaker);
		v = sn__breaker_check(ps->breaker, p->policy, p->now_ns, p->rng);
	}
	if (v == SN_BREAKER_PROBE_DUE) {
		uint64_t until = atomic_load_explicit(&ps->exclude_until_ns, memory_order_relaxed);

		if (until > p->now_ns) { /* what the peer asked for holds for probes too */
			p->due_ns = SN_MIN(p->due_ns, until);
			return false;
		}
		p->due_ns = 0; /* stays due when this call may not take it */
		return last_resort || (p->safety != SN_UNSAFE && !was_tried(p, ps));
	}
	if (v == SN_BREAKER_WAIT && ps->breaker->state == SN_BREAKER_CONNECT)
		p->waiting = true;
	p->due_ns = SN_MIN(p->due_ns, sn__breaker_due(ps->breaker));
	return false;
}

/* @last_resort: nothing else is left. */
static bool find_probe(struct sn_pick *p, bool last_resort)
{
	uint32_t n = p->peers->n, start;

	if (p->mt->n_barred == 0 || (!last_resort && p->now_ns < p->mt->probe_due_ns))
		return false;
	start = (uint32_t)sn__rng_below(p->rng, n);
	p->due_ns = SN_NEVER_NS;
	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = start + k < n ? start + k : start + k - n;
		struct sn_peer_state *ps = state_of(p, i);

		if (ps == NULL || atomic_load_explicit(&ps->barred, memory_order_relaxed) == 0)
			continue;
		if (!may_probe(p, ps, last_resort))
			continue;
		p->index = i;
		p->probe = true;
		return true;
	}
	p->mt->probe_due_ns = p->due_ns;
	return false;
}

/* The earliest end of a peer's wish to be left alone, when that is what stands in the way. */
static void find_hint(struct sn_pick *p)
{
	for (uint32_t i = 0; i < p->peers->n; i++) {
		struct sn_peer_state *ps = state_of(p, i);
		uint64_t until;

		if (ps == NULL || atomic_load_explicit(&ps->barred, memory_order_relaxed) != 0)
			continue;
		until = atomic_load_explicit(&ps->exclude_until_ns, memory_order_relaxed);
		if (until > p->now_ns && until < p->due_ns) {
			p->due_ns = until;
			p->hinted = true;
		}
	}
}

int sn__balance_pick(struct sn_pick *p)
{
	bool guarded = p->policy->breaker &&
			(p->mt->n_barred > 0 || p->mt->exclude_until_ns > p->now_ns ||
					p->mt->force == SN_BREAKER_FORCE_OPEN);

	p->probe = p->waiting = p->hinted = false;
	p->due_ns = SN_NEVER_NS;
	if (guarded && find_probe(p, false))
		return 0;
	p->index = choose(p, guarded || p->n_tried > 0, false);
	if (p->index == NONE && p->n_tried > 0)
		p->index = choose(p, guarded, true);
	if (p->index != NONE)
		return 0;
	if (find_probe(p, true))
		return 0;
	find_hint(p);
	return SN_E_BREAKER;
}

bool sn__balance_others(const struct sn_pick *p)
{
	for (uint32_t i = 0; i < p->peers->n; i++) {
		if (eligible(p, i, false))
			return true;
	}
	return false;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void sn__balance_cold_cost(struct sn_peer_state *ps, uint64_t now_ns)
{
	const struct sn_peers *peers = sn__target_peers(ps->mt->target);
	struct sn_pick p = {.peers = peers};
	double costs[64];
	size_t n = 0;

	for (uint32_t i = 0; peers != NULL && i < peers->n && n < SN_COUNT(costs); i++) {
		struct sn_peer_state *other = state_of(&p, i);
		double cost = other != NULL && other != ps ? sn__peer_state_cost(other, now_ns) : 0;

		if (cost > 0)
			costs[n++] = cost;
	}
	if (n == 0)
		return;
	qsort(costs, n, sizeof costs[0], by_value);
	sn__peer_state_set_cost(ps, costs[n / 2], now_ns);
}
