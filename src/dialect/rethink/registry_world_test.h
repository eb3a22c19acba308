/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_RETHINK_REGISTRY_WORLD_TEST_H
#define SN_SRC_DIALECT_RETHINK_REGISTRY_WORLD_TEST_H

/* Internal, tests only: a store of the domain registry on a simulated loop, one operation at a time. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/test.h"
#include "dialect/rethink/registry_store.h"
#include "io/sim.h"

struct world {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_reg_store *store;
	int64_t now;
	/* what the last operation gave: "id status expires started modified guid|" of each entry */
	char seen[65536];
	size_t len;
	struct sn_reg_op op;
	bool over;
};

/* @sqlite: else the memory store. */
static inline void world_open(struct world *w, bool sqlite, uint64_t seed)
{
	const struct sn_sim_options sim = {.seed = seed};
	int r;

	*w = (struct world){.now = 1000000};
	assert_int_equal(sn__sim_create(&sim, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->loop), 0);
	if (sqlite) {
		const struct sn_reg_sql_options o = {.loop = w->loop,
				.type = "sqlite",
				.config = "{\"path\": \":memory:\"}"};
		struct sn_error err;

		r = sn__reg_sql_open(&o, &w->store, &err);
	} else {
		const struct sn_reg_memory_options o = {.loop = w->loop, .now = w->now};

		r = sn__reg_memory_open(&o, &w->store);
	}
	assert_int_equal(r, 0);
}

static inline void world_set(void *arg)
{
	*(bool *)arg = true;
}

static inline void world_until(struct world *w, const bool *flag)
{
	while (!*flag)
		if (!sn__loop_run(w->loop, SN_RUN_ONCE) && !*flag)
			fail_msg("nothing can happen any more");
}

static inline void world_close(struct world *w)
{
	bool closed = false;

	w->store->ops->close(w->store, world_set, &closed);
	world_until(w, &closed);
	sn__loop_close(w->loop, NULL, NULL);
	sn__sim_destroy(w->sim);
}

static inline void world_entry(
		struct sn_reg_op *op, const struct sn_reg_entry *e, struct sn_str guid)
{
	struct world *w = SN_CONTAINER_OF(op, struct world, op);
	const struct sn_str *t = e->v.text;

	w->len += (size_t)snprintf(w->seen + w->len, sizeof(w->seen) - w->len,
			"%.*s %.*s %d %lld %lld %.*s|", (int)e->id.len, e->id.ptr,
			(int)t[SN_REG_STATUS].len, t[SN_REG_STATUS].ptr, (int)e->v.expires,
			(long long)e->started, (long long)e->modified, (int)t[SN_REG_GUID].len,
			t[SN_REG_GUID].ptr != NULL ? t[SN_REG_GUID].ptr : "");
	assert_true(w->len < sizeof(w->seen));
}

static inline void world_done(struct sn_reg_op *op)
{
	SN_CONTAINER_OF(op, struct world, op)->over = true;
}

/* Carry out @op; its result. */
static inline int world_do(struct world *w, struct sn_reg_op op)
{
	int r;

	w->op = op;
	w->op.now = w->now;
	w->op.entry = world_entry;
	w->op.done = world_done;
	w->over = false;
	w->len = 0;
	w->seen[0] = '\0';
	r = w->store->ops->submit(w->store, &w->op);
	if (r == 0) {
		assert_false(w->over);
		world_until(w, &w->over);
	}
	assert_false(r == 1 && w->over);
	return r < 0 ? r : w->op.result;
}

static inline struct sn_reg_values world_values(const char *status, int32_t expires)
{
	struct sn_reg_values v = {.expires = expires, .has_expires = true};

	v.text[SN_REG_RESOURCES] = SN_STR("[\"chat\",\"a\\\"b\"]");
	v.text[SN_REG_SCHEMES] = SN_STR("[]");
	v.text[SN_REG_DESCRIPTOR] = SN_STR("d");
	v.text[SN_REG_RUNTIME] = SN_STR("");
	v.text[SN_REG_STATUS] = sn_str_from(status);
	return v;
}

#endif
