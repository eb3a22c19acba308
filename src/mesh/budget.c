/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/budget.h"

#include "base/mem.h"
#include "base/time.h"

/* Forget the slots that are over. */
static void roll(struct sn_budget *b, uint64_t now_ns)
{
	uint64_t second = now_ns / SN_NS_PER_S;
	uint64_t passed = second > b->second ? second - b->second : 0;

	for (uint64_t i = 0; i < SN_MIN(passed, (uint64_t)SN_BUDGET_SLOTS); i++) {
		b->calls[(second - i) % SN_BUDGET_SLOTS] = 0;
		b->spent[(second - i) % SN_BUDGET_SLOTS] = 0;
	}
	if (passed > 0)
		b->second = second;
}

void sn__budget_call(struct sn_budget *b, uint64_t now_ns)
{
	roll(b, now_ns);
	b->calls[b->second % SN_BUDGET_SLOTS]++;
}

double sn__budget_tokens(struct sn_budget *b, double ratio, double min_per_s, uint64_t now_ns)
{
	uint64_t calls = 0, spent = 0;

	roll(b, now_ns);
	for (int i = 0; i < SN_BUDGET_SLOTS; i++) {
		calls += b->calls[i];
		spent += b->spent[i];
	}
	return ratio * (double)calls + min_per_s * SN_BUDGET_SLOTS - (double)spent;
}

bool sn__budget_take(
		struct sn_budget *b, double ratio, double min_per_s, uint32_t cost, uint64_t now_ns)
{
	if (sn__budget_tokens(b, ratio, min_per_s, now_ns) < cost)
		return false;
	b->spent[b->second % SN_BUDGET_SLOTS] += cost;
	return true;
}
