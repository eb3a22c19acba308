/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/breaker.h"

#include <string.h>

#include "base/mem.h"
#include "base/time.h"

#define EXPONENT_MAX 20

void sn__breaker_init(struct sn_breaker *b, uint64_t now_ns)
{
	memset(b, 0, sizeof *b);
	b->since_ns = now_ns;
	b->second = now_ns / SN_NS_PER_S;
}

/* ---- the window ---- */

static void roll(struct sn_breaker *b, uint64_t now_ns)
{
	uint64_t second = now_ns / SN_NS_PER_S;

	if (second <= b->second)
		return;
	if (second - b->second >= SN_BREAKER_BUCKETS) {
		memset(b->bucket, 0, sizeof b->bucket);
	} else {
		for (uint64_t s = b->second + 1; s <= second; s++)
			memset(&b->bucket[s % SN_BREAKER_BUCKETS], 0, sizeof b->bucket[0]);
	}
	b->second = second;
}

static bool ratio_is_bad(const struct sn_breaker *b, const struct sn_policy *policy)
{
	uint64_t ok = 0, total = 0;

	for (int i = 0; i < SN_BREAKER_BUCKETS; i++) {
		ok += b->bucket[i].ok;
		total += b->bucket[i].total;
	}
	return total >= policy->breaker_min_requests &&
			(double)ok < policy->breaker_success_ratio * (double)total;
}

/* ---- changes of state ---- */

static void enter(struct sn_breaker *b, enum sn_breaker_state state)
{
	b->state = state;
	b->generation++;
	b->granted = b->succeeded = 0;
	memset(b->lease_ns, 0, sizeof b->lease_ns);
}

static void enter_half_open(struct sn_breaker *b)
{
	enter(b, SN_BREAKER_HALF_OPEN);
	b->stage = 1;
}

static void enter_closed(struct sn_breaker *b, uint64_t now_ns)
{
	enter(b, SN_BREAKER_CLOSED);
	/* Cold: what was before the outage says nothing about the peer that came back. */
	memset(b->bucket, 0, sizeof b->bucket);
	b->consecutive = 0;
	b->since_ns = now_ns;
}

static void enter_open(struct sn_breaker *b, const struct sn_policy *policy, bool by_connect,
		int64_t hint_ms, uint64_t now_ns, struct sn_rng *rng)
{
	double open_ms = policy->breaker_open;

	if (b->state == SN_BREAKER_CLOSED) {
		uint64_t steps = (now_ns - b->since_ns) / sn_ms_to_ns(SN_BREAKER_DECAY_MS);

		b->exponent -= (uint32_t)SN_MIN(steps, (uint64_t)b->exponent);
	}
	for (uint32_t i = 0; i < b->exponent && open_ms < policy->breaker_max_open; i++)
		open_ms *= 2;
	open_ms = SN_MIN(open_ms, (double)policy->breaker_max_open);
	open_ms += open_ms * 0.5 * sn__rng_unit(rng);
	if (hint_ms > 0)
		open_ms = SN_MAX(open_ms, (double)SN_MIN(hint_ms, SN_HINT_MAX_MS));
	enter(b, SN_BREAKER_OPEN);
	b->by_connect = by_connect;
	b->due_ns = sn_time_add(now_ns, (uint64_t)(open_ms * (double)SN_NS_PER_MS));
	if (b->exponent < EXPONENT_MAX)
		b->exponent++;
}

/* ---- what may go through ---- */

static bool lease_is_over(const struct sn_breaker *b, uint64_t now_ns)
{
	for (int i = 0; i < SN_BREAKER_PROBES; i++) {
		if (b->lease_ns[i] != 0 && now_ns >= b->lease_ns[i])
			return true;
	}
	return false;
}

enum sn_breaker_verdict sn__breaker_check(struct sn_breaker *b, const struct sn_policy *policy,
		uint64_t now_ns, struct sn_rng *rng)
{
	if (b->force != SN_BREAKER_AUTO)
		return b->force == SN_BREAKER_FORCE_CLOSE ? SN_BREAKER_ADMIT : SN_BREAKER_REFUSE;
	switch (b->state) {
	case SN_BREAKER_CLOSED:
		return SN_BREAKER_ADMIT;
	case SN_BREAKER_OPEN:
		if (now_ns < b->due_ns)
			return SN_BREAKER_REFUSE;
		if (b->by_connect)
			return SN_BREAKER_CONNECT_DUE;
		enter_half_open(b);
		return SN_BREAKER_PROBE_DUE;
	case SN_BREAKER_CONNECT:
		if (now_ns < b->due_ns)
			return SN_BREAKER_WAIT;
		enter_open(b, policy, true, 0, now_ns, rng);
		return SN_BREAKER_REFUSE;
	case SN_BREAKER_HALF_OPEN:
		if (lease_is_over(b, now_ns)) {
			enter_open(b, policy, false, 0, now_ns, rng);
			return SN_BREAKER_REFUSE;
		}
		return b->granted < b->stage ? SN_BREAKER_PROBE_DUE : SN_BREAKER_WAIT;
	}
	return SN_BREAKER_REFUSE;
}

uint8_t sn__breaker_probe(struct sn_breaker *b, uint64_t deadline_ns, uint64_t now_ns)
{
	uint8_t i = 0;

	assert(b->state == SN_BREAKER_HALF_OPEN && b->granted < b->stage);
	while (b->lease_ns[i] != 0)
		i++; /* granted < stage <= SN_BREAKER_PROBES: one is free */
	b->granted++;
	if (deadline_ns != 0 && deadline_ns != SN_NEVER_NS)
		b->lease_ns[i] = sn_time_add(deadline_ns, sn_ms_to_ns(SN_BREAKER_LEASE_GRACE_MS));
	else
		b->lease_ns[i] = sn_time_add(now_ns, sn_ms_to_ns(SN_BREAKER_LEASE_MS));
	return (uint8_t)(i + 1);
}

uint32_t sn__breaker_connecting(struct sn_breaker *b, uint64_t due_ns)
{
	assert(b->state == SN_BREAKER_OPEN);
	enter(b, SN_BREAKER_CONNECT);
	b->due_ns = due_ns;
	return b->generation;
}

void sn__breaker_connected(struct sn_breaker *b, uint32_t generation, bool ok,
		const struct sn_policy *policy, uint64_t now_ns, struct sn_rng *rng)
{
	if (b->generation != generation || b->state != SN_BREAKER_CONNECT)
		return;
	if (ok)
		enter_half_open(b);
	else
		enter_open(b, policy, true, 0, now_ns, rng);
}

void sn__breaker_skip_connect(struct sn_breaker *b)
{
	if (b->state == SN_BREAKER_OPEN)
		b->by_connect = false;
}

/* ---- what came of it ---- */

static bool probe_result(struct sn_breaker *b, const struct sn_policy *policy, uint8_t slot,
		const struct sn_outcome *o, uint64_t now_ns, struct sn_rng *rng)
{
	if (b->lease_ns[slot - 1] == 0)
		return false;
	b->lease_ns[slot - 1] = 0;
	if (o == NULL || o->class == SN_OUTCOME_REJECTED) {
		b->granted--; /* somebody else may try */
		return false;
	}
	if (o->class != SN_OUTCOME_OK) {
		enter_open(b, policy, o->sent == SN_SENT_NO && o->phase <= SN_PHASE_CONNECT,
				o->retry_after_ms, now_ns, rng);
		return false;
	}
	if (++b->succeeded < b->stage)
		return false;
	if (b->stage == SN_BREAKER_PROBES) {
		enter_closed(b, now_ns);
		return true;
	}
	b->stage *= 2;
	b->granted = b->succeeded = 0;
	return false;
}

static void closed_result(struct sn_breaker *b, const struct sn_policy *policy,
		const struct sn_outcome *o, uint64_t now_ns, struct sn_rng *rng)
{
	bool failed = sn_outcome_failed(o);

	if (failed ? o->along : o->class != SN_OUTCOME_OK)
		return;
	roll(b, now_ns);
	b->bucket[b->second % SN_BREAKER_BUCKETS].total++;
	if (!failed) {
		b->bucket[b->second % SN_BREAKER_BUCKETS].ok++;
		b->consecutive = 0;
		return;
	}
	b->consecutive++;
	if (b->consecutive >= policy->breaker_consecutive_failures || ratio_is_bad(b, policy))
		enter_open(b, policy, o->sent == SN_SENT_NO && o->phase <= SN_PHASE_CONNECT,
				o->retry_after_ms, now_ns, rng);
}

bool sn__breaker_result(struct sn_breaker *b, const struct sn_policy *policy, uint32_t generation,
		uint8_t slot, const struct sn_outcome *outcome, uint64_t now_ns, struct sn_rng *rng)
{
	if (generation != b->generation || b->force != SN_BREAKER_AUTO)
		return false;
	if (b->state == SN_BREAKER_HALF_OPEN && slot != 0)
		return probe_result(b, policy, slot, outcome, now_ns, rng);
	if (b->state == SN_BREAKER_CLOSED && outcome != NULL)
		closed_result(b, policy, outcome, now_ns, rng);
	return false;
}

void sn__breaker_force(struct sn_breaker *b, enum sn_breaker_force force, uint64_t now_ns)
{
	enter_closed(b, now_ns); /* a new generation: what is under way decides nothing */
	b->exponent = 0;
	b->force = force;
}

uint64_t sn__breaker_due(const struct sn_breaker *b)
{
	uint64_t due = SN_NEVER_NS;

	if (b->force != SN_BREAKER_AUTO || b->state == SN_BREAKER_CLOSED)
		return b->force == SN_BREAKER_FORCE_OPEN ? SN_NEVER_NS : 0;
	if (b->state != SN_BREAKER_HALF_OPEN)
		return b->due_ns;
	if (b->granted < b->stage)
		return 0;
	for (int i = 0; i < SN_BREAKER_PROBES; i++) {
		if (b->lease_ns[i] != 0)
			due = SN_MIN(due, b->lease_ns[i]);
	}
	return due;
}

bool sn__breaker_barred(const struct sn_breaker *b)
{
	return b->force == SN_BREAKER_FORCE_OPEN ||
			(b->force == SN_BREAKER_AUTO && b->state != SN_BREAKER_CLOSED);
}

const char *sn__breaker_name(const struct sn_breaker *b)
{
	if (b == NULL)
		return "closed";
	if (b->force != SN_BREAKER_AUTO)
		return b->force == SN_BREAKER_FORCE_OPEN ? "forced open" : "forced closed";
	switch (b->state) {
	case SN_BREAKER_CLOSED:
		return "closed";
	case SN_BREAKER_OPEN:
	case SN_BREAKER_CONNECT:
		return "open";
	case SN_BREAKER_HALF_OPEN:
		return "half-open";
	}
	return "closed";
}
