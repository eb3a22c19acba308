/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/peer_state.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "mesh/breaker.h"
#include "mesh/target.h"

struct sn_peer_state *sn__peer_state_create(
		struct sn_mesh_target *mt, const struct sn_peer *peer, uint64_t serial)
{
	size_t texts = peer->identity.len + peer->protocol.len + peer->address.len + 3;
	const struct sn_str from[3] = {peer->identity, peer->protocol, peer->address};
	const char *to[3];
	struct sn_peer_state *ps;
	void *block;
	char *text;

	ps = sn_alloc_line(sizeof *ps + texts, &block);
	if (ps == NULL)
		return NULL;
	ps->block = block;
	text = (char *)(ps + 1);
	for (int i = 0; i < 3; i++) {
		to[i] = text;
		if (from[i].len > 0)
			memcpy(text, from[i].ptr, from[i].len);
		text += from[i].len;
		*text++ = '\0';
	}
	ps->identity = to[0];
	ps->protocol = to[1];
	ps->address = to[2];
	ps->port = peer->port;
	ps->serial = serial;
	ps->mt = mt;
	sn_list_init(&ps->link);
	atomic_init(&ps->refs, 1);
	return ps;
}

struct sn_peer_state *sn__peer_state_ref(struct sn_peer_state *ps)
{
	atomic_fetch_add_explicit(&ps->refs, 1, memory_order_relaxed);
	return ps;
}

void sn__peer_state_unref(struct sn_peer_state *ps)
{
	if (ps == NULL || atomic_fetch_sub_explicit(&ps->refs, 1, memory_order_acq_rel) != 1)
		return;
	/* The mesh has let go of it before: slot and list are settled. */
	sn__free(ps->breaker);
	sn__free(ps->block);
}

void sn__peer_state_text(const struct sn_peer_state *ps, char *out, size_t size)
{
	bool v6 = strchr(ps->address, ':') != NULL;

	if (ps->address[0] == '\0') {
		(void)snprintf(out, size, "%s", ps->identity);
		return;
	}
	(void)snprintf(out, size, "%s %s%s%s:%u", ps->identity, v6 ? "[" : "", ps->address,
			v6 ? "]" : "", ps->port);
}

/*
 * exp(-x) for x >= 0, within 0.02 %: 2^(-x log2 e), the whole part by the exponent's bits, the rest
 * by a polynomial. exp() alone would cost half of what a pick may.
 */
static double exp_minus(double x)
{
	double y = x * 1.4426950408889634, f;
	uint64_t whole, bits;

	if (y >= 1000)
		return 0;
	whole = (uint64_t)y;
	f = y - (double)whole;
	f = 1 + f * (-0.6931471805 + f * (0.2401597 + f * (-0.0548 + f * 0.00778745)));
	bits = (UINT64_C(1023) - whole) << 52;
	memcpy(&y, &bits, sizeof y);
	return y * f;
}

static double decayed(double cost, uint64_t since_ns)
{
	/* Below a thousandth of tau nothing changes that a balancer could see. */
	return since_ns < (uint64_t)(SN_COST_TAU_NS / 1000)
			? cost
			: cost * exp_minus((double)since_ns / SN_COST_TAU_NS);
}

double sn__peer_state_cost(const struct sn_peer_state *ps, uint64_t now_ns)
{
	double cost = atomic_load_explicit(&ps->cost_ns, memory_order_relaxed);
	uint64_t stamp = atomic_load_explicit(&ps->stamp_ns, memory_order_relaxed);

	return now_ns > stamp ? decayed(cost, now_ns - stamp) : cost;
}

void sn__peer_state_set_cost(struct sn_peer_state *ps, double cost_ns, uint64_t now_ns)
{
	atomic_store_explicit(&ps->cost_ns, cost_ns, memory_order_relaxed);
	atomic_store_explicit(&ps->stamp_ns, now_ns, memory_order_relaxed);
}

void sn__peer_state_observe(struct sn_peer_state *ps, uint64_t latency_ns, uint64_t now_ns)
{
	double rtt = latency_ns > 0 ? (double)latency_ns : 1;
	uint64_t stamp = atomic_load_explicit(&ps->stamp_ns, memory_order_relaxed);
	double cost = sn__peer_state_cost(ps, now_ns);

	if (rtt < cost) {
		double w = exp_minus(
				now_ns > stamp ? (double)(now_ns - stamp) / SN_COST_TAU_NS : 0);
		double old = atomic_load_explicit(&ps->cost_ns, memory_order_relaxed);

		rtt = old * w + rtt * (1 - w);
	}
	sn__peer_state_set_cost(ps, rtt, now_ns);
}

void sn__peer_state_observe_failure(
		struct sn_peer_state *ps, uint64_t latency_ns, uint64_t timeout_ns, uint64_t now_ns)
{
	double cost = sn__peer_state_cost(ps, now_ns);
	double bad = SN_MAX((double)latency_ns, 2 * cost);

	bad = SN_MIN(SN_MAX(bad, (double)timeout_ns), SN_COST_CAP_NS);
	/* The cap bounds the penalty, it does not forgive a cost that is above it. */
	sn__peer_state_set_cost(ps, SN_MAX(bad, cost), now_ns);
}
