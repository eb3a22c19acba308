/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_SEEDS_TEST_H
#define SN_SRC_IO_SEEDS_TEST_H

/*
 * Internal, tests only: the frame of a property test. SINEW_SEEDS says up to which seed (default 100),
 * SINEW_SEEDS_FROM from which (1): a long run may be done in parts. SINEW_SEED runs a single one, where
 * the test may print its course. A failing seed prints itself, however the program ends.
 *
 *	static void one(uint64_t seed, bool single) { ... cmocka's assertions ... }
 *	int main(void) { return seeds_main("streams", one); }
 */

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/test.h"

typedef void seeds_fn(uint64_t seed, bool single);

static const char *seeds_name;
static seeds_fn *seeds_one;
static volatile uint64_t seeds_now;
/* Seeds that once failed, run first; zero ends them. */
static uint64_t seeds_known[8];

static inline void seeds_print(void)
{
	char line[128];
	int n = snprintf(line, sizeof line, "%s: failing seed %llu, replay with SINEW_SEED=%llu\n",
			seeds_name, (unsigned long long)seeds_now, (unsigned long long)seeds_now);

	if (n > 0 && write(2, line, (size_t)n) < 0)
		return;
}

static inline void seeds_on_signal(int sig)
{
	seeds_print();
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

static inline uint64_t seeds_env(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t value;

	return text != NULL && sn__parse_u64(sn_str_from(text), UINT64_MAX, &value) == 0
			? value
			: otherwise;
}

static inline void seeds_all(void **state)
{
	uint64_t n = seeds_env("SINEW_SEEDS", 100);
	int64_t live = sn__mem_live();

	if (getenv("SINEW_SEED") != NULL) {
		seeds_now = seeds_env("SINEW_SEED", 1);
		seeds_one(seeds_now, true);
		assert_int_equal(sn__mem_live(), live);
		return;
	}
	for (unsigned i = 0; i < SN_COUNT(seeds_known) && seeds_known[i] != 0; i++) {
		seeds_now = seeds_known[i];
		seeds_one(seeds_now, false);
	}
	for (seeds_now = seeds_env("SINEW_SEEDS_FROM", 1); seeds_now <= n; seeds_now++) {
		seeds_one(seeds_now, false);
		if (sn__mem_live() != live) /* so that the message is this one */
			print_error("%d blocks leaked\n", (int)(sn__mem_live() - live));
		assert_int_equal(sn__mem_live(), live);
	}
}

static inline int seeds_main(const char *name, seeds_fn *one)
{
	const struct CMUnitTest tests[] = {{name, seeds_all, NULL, NULL, NULL}};
	int failed;

	seeds_name = name;
	seeds_one = one;
	(void)signal(SIGABRT, seeds_on_signal);
	(void)signal(SIGALRM, seeds_on_signal);
	(void)signal(SIGTERM, seeds_on_signal); /* the runner's time-out */
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (failed != 0)
		seeds_print();
	return failed;
}

#endif
