/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_RANDOM_H
#define SN_SRC_BASE_RANDOM_H

/* Internal. Seeded generator (xoshiro256++): one a loop, or one a thread. Not for secrets. */

#include <stddef.h>
#include <stdint.h>

#include <sinew/base.h>

struct sn_rng {
	uint64_t s[4];
};

void sn__rng_seed(struct sn_rng *rng, uint64_t seed);
uint64_t sn__rng_u64(struct sn_rng *rng);
/** Uniform over [0, n), n above 0, without bias. */
uint64_t sn__rng_below(struct sn_rng *rng, uint64_t n);
/** Uniform over [0, 1). */
double sn__rng_unit(struct sn_rng *rng);
/** From the kernel, for seeds, ids and masks. SN_E_IO. Any thread. */
SN_MUST_USE int sn__random_bytes(void *out, size_t n);

#endif
