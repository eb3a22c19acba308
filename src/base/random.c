/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

#include <sys/random.h>

static uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

void sn__rng_seed(struct sn_rng *rng, uint64_t seed)
{
	/* splitmix64: spreads any seed, zero too, over the whole state. */
	for (int i = 0; i < 4; i++) {
		uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));

		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		rng->s[i] = z ^ (z >> 31);
	}
}

uint64_t sn__rng_u64(struct sn_rng *rng)
{
	uint64_t *s = rng->s;
	uint64_t result = rotl(s[0] + s[3], 23) + s[0];
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

uint64_t sn__rng_below(struct sn_rng *rng, uint64_t n)
{
	/* Lemire: multiply and reject the few values that would weigh double. */
	unsigned __int128 m = (unsigned __int128)sn__rng_u64(rng) * n;

	if ((uint64_t)m < n) {
		uint64_t floor = (0 - n) % n;

		while ((uint64_t)m < floor)
			m = (unsigned __int128)sn__rng_u64(rng) * n;
	}
	return (uint64_t)(m >> 64);
}

double sn__rng_unit(struct sn_rng *rng)
{
	return (double)(sn__rng_u64(rng) >> 11) * 0x1.0p-53;
}

int sn__random_bytes(void *out, size_t n)
{
	char *p = out;

	while (n > 0) {
		ssize_t got = getrandom(p, n, 0);

		if (got < 0)
			return SN_E_IO;
		p += got;
		n -= (size_t)got;
	}
	return 0;
}
