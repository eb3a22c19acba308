/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/budget.h"

#include "base/mem.h"
#include "base/random.h"
#include "base/test.h"
#include "base/time.h"

static void starts_full_and_runs_dry(void **state)
{
	struct sn_budget b = {0};
	uint64_t now = 5000 * SN_NS_PER_S;

	for (int i = 0; i < 30; i++)
		assert_true(sn__budget_take(&b, 0.2, 3, 1, now));
	assert_false(sn__budget_take(&b, 0.2, 3, 1, now));
	for (int i = 0; i < 5; i++)
		sn__budget_call(&b, now);
	assert_true(sn__budget_take(&b, 0.2, 3, 1, now)); /* a fifth of five calls */
	assert_false(sn__budget_take(&b, 0.2, 3, 1, now));
}

static void timeout_costs_double(void **state)
{
	struct sn_budget b = {0};

	for (int i = 0; i < 15; i++)
		assert_true(sn__budget_take(&b, 0.2, 3, 2, SN_NS_PER_S));
	assert_false(sn__budget_take(&b, 0.2, 3, 2, SN_NS_PER_S));
}

static void comes_back_after_ten_seconds(void **state)
{
	struct sn_budget b = {0};
	uint64_t now = 77 * SN_NS_PER_S;

	for (int i = 0; i < 30; i++)
		assert_true(sn__budget_take(&b, 0.2, 3, 1, now));
	assert_false(sn__budget_take(&b, 0.2, 3, 1, now + 9 * SN_NS_PER_S));
	assert_true(sn__budget_take(&b, 0.2, 3, 1, now + 10 * SN_NS_PER_S));
	assert_true(sn__budget_tokens(&b, 0.2, 3, now + 1000 * SN_NS_PER_S) == 30);
	assert_true(sn__budget_tokens(&b, 0.2, 10, now + 1000 * SN_NS_PER_S) == 100);
}

/* Whatever comes: in any ten seconds that end with a retry, retries cost no more than the share of
 * their calls and the fixed rate. */
static void never_more_than_the_share(void **state)
{
	for (uint64_t seed = 1; seed <= 200; seed++) {
		uint32_t calls[200] = {0}, spent[200] = {0};
		struct sn_budget b = {0};
		struct sn_rng rng;
		uint64_t now = SN_NS_PER_S;

		sn__rng_seed(&rng, seed);
		while (now / SN_NS_PER_S < 200) {
			uint32_t cost = 1 + (uint32_t)sn__rng_below(&rng, 2);

			sn__budget_call(&b, now);
			calls[now / SN_NS_PER_S]++;
			if (sn__rng_below(&rng, 3) != 0 && sn__budget_take(&b, 0.2, 3, cost, now))
				spent[now / SN_NS_PER_S] += cost;
			now += sn__rng_below(&rng, 200 * SN_NS_PER_MS);
			if (sn__rng_below(&rng, 500) == 0)
				now += sn__rng_below(&rng, 20) * SN_NS_PER_S;
		}
		for (int from = 0; from + 10 <= 200; from++) {
			uint32_t n = 0, cost = 0;

			if (spent[from + 9] == 0)
				continue;
			for (int i = from; i < from + 10; i++) {
				n += calls[i];
				cost += spent[i];
			}
			if (cost > 30 + 0.2 * n)
				fail_msg("seed %d: %u tokens for %u calls", (int)seed, cost, n);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(starts_full_and_runs_dry),
			cmocka_unit_test(timeout_costs_double),
			cmocka_unit_test(comes_back_after_ten_seconds),
			cmocka_unit_test(never_more_than_the_share),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
