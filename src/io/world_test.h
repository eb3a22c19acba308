/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_WORLD_TEST_H
#define SN_SRC_IO_WORLD_TEST_H

/* Internal, tests only: two loops to talk to each other, on either back end (on libuv both are the
 * same loop; or one in a host's loop), so that one test runs on all. */

#include <uv.h>

#include "base/mem.h"
#include "base/test.h"
#include "io/loop.h"
#include "io/sim.h"
#include "io/stream.h"

struct world {
	struct sn_sim *sim; /* NULL: libuv */
	uv_loop_t host;
	bool hosted;
	struct sn_loop *a, *b;
	int64_t live;
};

static inline struct world *world_open(const struct sn_sim_options *opts /* NULL: libuv */)
{
	struct world *w = test_malloc(sizeof *w);

	*w = (struct world){.live = sn__mem_live()};
	if (opts == NULL) {
		assert_int_equal(sn__loop_uv_open(NULL, &w->a, NULL), 0);
		w->b = w->a;
		return w;
	}
	assert_int_equal(sn__sim_create(opts, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->a), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->b), 0);
	return w;
}

static inline int world_uv(void **state)
{
	*state = world_open(NULL);
	return 0;
}

static inline int world_host(void **state)
{
	struct world *w = test_malloc(sizeof *w);

	*w = (struct world){.live = sn__mem_live(), .hosted = true};
	assert_int_equal(uv_loop_init(&w->host), 0);
	assert_int_equal(sn__loop_uv_open(&w->host, &w->a, NULL), 0);
	w->b = w->a;
	*state = w;
	return 0;
}

static inline int world_sim(void **state)
{
	static const struct sn_sim_options perfect;

	*state = world_open(&perfect);
	return 0;
}

/* A network with everything that delays but breaks nothing. */
static inline int world_rough(void **state)
{
	static const struct sn_sim_options rough = {.seed = 7,
			.latency_min_ns = SN_NS_PER_MS,
			.latency_max_ns = 20 * SN_NS_PER_MS,
			.loss = 20,
			.partial_write = 300,
			.partial_read = 300,
			.window = 5000};

	*state = world_open(&rough);
	return 0;
}

static inline int world_close(void **state)
{
	struct world *w = *state;
	int64_t leaked;

	sn__loop_close(w->a, NULL, NULL);
	if (w->hosted) {
		assert_int_equal(uv_run(&w->host, UV_RUN_DEFAULT), 0);
		assert_int_equal(uv_loop_close(&w->host), 0);
	}
	if (w->b != w->a)
		sn__loop_close(w->b, NULL, NULL);
	sn__sim_destroy(w->sim);
	leaked = sn__mem_live() - w->live;
	test_free(w);
	if (leaked != 0)
		print_error("%d blocks leaked\n", (int)leaked);
	return leaked == 0 ? 0 : -1;
}

/** Wait for something and do it. Whether anything can still happen. */
static inline bool world_once(struct world *w)
{
	return w->hosted ? uv_run(&w->host, UV_RUN_ONCE) != 0 : sn__loop_run(w->a, SN_RUN_ONCE);
}

/** Do what is possible now. */
static inline bool world_poll(struct world *w)
{
	return w->hosted ? uv_run(&w->host, UV_RUN_NOWAIT) != 0 : sn__loop_run(w->a, SN_RUN_NOWAIT);
}

/** Whatever can still happen. Nothing may be waiting for ever. */
static inline bool world_drain(struct world *w)
{
	return w->hosted ? uv_run(&w->host, UV_RUN_DEFAULT) != 0
			 : sn__loop_run(w->a, SN_RUN_DEFAULT);
}

/** Until *@done or until nothing can happen. */
static inline void world_run(struct world *w, const bool *done)
{
	while (!*done && world_once(w))
		;
	assert_true(*done);
}

static inline struct sn_addr world_addr(const char *text)
{
	struct sn_addr addr;

	assert_int_equal(sn__addr_parse_listen(sn_str_from(text), &addr, NULL), 0);
	return addr;
}

#endif
