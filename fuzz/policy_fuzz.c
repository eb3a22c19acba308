/* SPDX-License-Identifier: Apache-2.0 */
/* Any JSON as a tree of policies: it is put in force or refused, and what is compiled from it is what
 * looking each name up gives. */
#include <stdlib.h>

#include "base/mem.h"
#include "io/sim.h"
#include "mesh/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static int paths_fn(void *arg, struct sn_str kind, struct sn_str name, struct sn_str endpoint,
		struct sn_paths *ret)
{
	ret->n = 3;
	ret->path[0] = (struct sn_path){.n = 1, .part = {SN_STR("a")}};
	ret->path[1] = (struct sn_path){.n = 2, .part = {SN_STR("b"), SN_STR("a")}};
	ret->path[2] = (struct sn_path){.n = 3, .part = {SN_STR("c"), SN_STR("b"), SN_STR("a")}};
	return 0;
}

/* The value of each name, stored by itself, is the field of the compiled policy. */
static void compare(struct sn_policies *ps, const struct sn_policy *p, const struct sn_paths *paths,
		enum sn_dialect dialect)
{
	for (const struct sn_policy_def *d = sn__policy_defs; d->name != NULL; d++) {
		struct sn_policy one = {0};
		json_t *v;

		must(sn__policies_get(ps, d->name, paths, dialect, &v, NULL) == 0);
		if (d->kind != SN_POLICY_TEXT && !json_is_null(v)) {
			must(sn__policy_store(d, v, &one) != SN_POLICY_WRONG_TYPE);
			must(memcmp((const char *)&one + d->offset, (const char *)p + d->offset,
					     sn__policy_field_size(d)) == 0);
		}
		json_decref(v);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct sn_sim_options so = {.seed = 1};
	struct sn_policies_options po = {.paths = paths_fn};
	json_t *tree = json_loadb((const char *)data, size, 0, NULL), *doc;
	struct sn_policies *ps;
	struct sn_paths paths;
	struct sn_sim *sim;

	if (tree == NULL)
		return 0;
	must(sn__sim_create(&so, &sim) == 0 && sn__sim_loop(sim, &po.loop) == 0);
	must(sn__policies_create(&po, &ps) == 0);
	sn__policies_paths(ps, SN_STR("c"), SN_STR("b"), SN_STR("a"), &paths);
	if (sn__policies_set(ps, SN_POLICY_AGENT, tree, NULL) == 0) {
		for (int d = 0; d < SN_DIALECTS; d++)
			compare(ps, sn__policies_on(ps, &paths, (enum sn_dialect)d), &paths,
					(enum sn_dialect)d);
		must(sn__policies_explain(ps, &paths, SN_DIALECT_BERLIOZ, &doc) == 0);
		json_decref(doc);
	}
	sn__policies_destroy(ps);
	sn__loop_close(po.loop, NULL, NULL);
	sn__sim_destroy(sim);
	json_decref(tree);
	return 0;
}
