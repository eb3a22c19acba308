/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_BUDGET_H
#define SN_SRC_MESH_BUDGET_H

/*
 * Internal. The retry budget of one target: over the last 10 seconds, retries may cost at most a
 * share of the calls plus a fixed rate. Ten slots of a second; nothing is carried longer, and an
 * unused target is full. Loop thread.
 */

#include <stdbool.h>
#include <stdint.h>

#define SN_BUDGET_SLOTS 10

struct sn_budget {
	uint64_t second; /* of the newest slot */
	uint32_t calls[SN_BUDGET_SLOTS];
	uint32_t spent[SN_BUDGET_SLOTS];
};

/** A call began. */
void sn__budget_call(struct sn_budget *b, uint64_t now_ns);
/** Tokens left, at @ratio a call and @min_per_s. */
double sn__budget_tokens(struct sn_budget *b, double ratio, double min_per_s, uint64_t now_ns);
/** Pay @cost tokens for a retry; false: not enough, nothing is taken. */
bool sn__budget_take(struct sn_budget *b, double ratio, double min_per_s, uint32_t cost,
		uint64_t now_ns);

#endif
