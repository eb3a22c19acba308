/* SPDX-License-Identifier: Apache-2.0 */
/* berlioz-policy.json: resolution, candidates and monitors. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"
#include "io/sim.h"
#include "mesh/policy.h"

static json_t *file;

struct run {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_policies *ps;
	json_t *heard;
};

static void run_open(struct run *run)
{
	struct sn_sim_options so = {.seed = 1};
	struct sn_policies_options po = {0};

	assert_int_equal(sn__sim_create(&so, &run->sim), 0);
	assert_int_equal(sn__sim_loop(run->sim, &run->loop), 0);
	po.loop = run->loop;
	assert_int_equal(sn__policies_create(&po, &run->ps), 0);
	run->heard = json_array();
}

static void run_close(struct run *run)
{
	sn__policies_destroy(run->ps);
	sn__loop_close(run->loop, NULL, NULL);
	sn__sim_destroy(run->sim);
	json_decref(run->heard);
}

/* Our paths have at most three parts; every tree of the vectors is shallower. */
static struct sn_path path_of(const json_t *parts)
{
	struct sn_path path = {
			.n = (unsigned)SN_MIN(json_array_size(parts), (size_t)SN_PATH_PARTS)};

	for (unsigned i = 0; i < path.n; i++)
		path.part[i] = sn_str_from(json_string_value(json_array_get(parts, i)));
	return path;
}

static void check_value(const json_t *c, struct run *run, const struct sn_paths *paths,
		struct sn_policy_found *found)
{
	json_t *value;

	assert_int_equal(sn__policies_get(run->ps, json_string_value(json_object_get(c, "name")),
					 paths, SN_DIALECT_BERLIOZ, &value, found),
			0);
	if (!json_equal(value, json_object_get(c, "value")))
		fail_msg("%s: %s", json_string_value(json_object_get(c, "id")),
				json_dumps(value, JSON_ENCODE_ANY));
	json_decref(value);
}

/* "found": a depth, "default" or "none". */
static void check_depth(const json_t *want, const struct sn_policy_found *found)
{
	if (json_is_integer(want)) {
		assert_int_equal(found->where, SN_POLICY_IN_TREE);
		assert_int_equal(found->depth, json_integer_value(want));
	} else if (strcmp(json_string_value(want), "default") == 0) {
		assert_int_equal(found->where, SN_POLICY_IN_DEFAULT);
	} else {
		assert_int_equal(found->where, SN_POLICY_NOWHERE);
	}
}

static void cases(void **state)
{
	json_t *c;
	size_t i;

	json_array_foreach(json_object_get(file, "cases"), i, c)
	{
		struct sn_policy_found found;
		struct sn_paths paths = {.n = 1};
		struct run run;

		print_message("%s\n", json_string_value(json_object_get(c, "id")));
		run_open(&run);
		paths.path[0] = path_of(json_object_get(c, "target"));
		assert_int_equal(sn__policies_set(run.ps, SN_POLICY_AGENT,
						 json_object_get(c, "policies"), NULL),
				0);
		check_value(c, &run, &paths, &found);
		check_depth(json_object_get(c, "found"), &found);
		run_close(&run);
	}
	assert_int_equal(i, 44);
}

static void candidates(void **state)
{
	json_t *c;
	size_t i, k;

	json_array_foreach(json_object_get(file, "candidates"), i, c)
	{
		json_t *want = json_object_get(c, "found"), *t;
		struct sn_paths paths = {0};
		struct sn_policy_found found;
		struct run run;

		print_message("%s\n", json_string_value(json_object_get(c, "id")));
		run_open(&run);
		json_array_foreach(json_object_get(c, "targets"), k, t)
				paths.path[paths.n++] = path_of(t);
		assert_int_equal(sn__policies_set(run.ps, SN_POLICY_AGENT,
						 json_object_get(c, "policies"), NULL),
				0);
		check_value(c, &run, &paths, &found);
		check_depth(json_is_object(want) ? json_object_get(want, "depth") : want, &found);
		if (json_object_get(want, "target") != NULL)
			assert_true(json_equal(
					json_array_get(json_object_get(c, "targets"), found.path),
					json_object_get(want, "target")));
		run_close(&run);
	}
	assert_int_equal(i, 7);
}

static void on_value(const json_t *value, void *arg)
{
	struct run *run = arg;

	assert_int_equal(json_array_append_new(run->heard, json_deep_copy(value)), 0);
}

static void monitors(void **state)
{
	json_t *c, *step;
	size_t i, k;

	json_array_foreach(json_object_get(file, "monitors"), i, c)
	{
		struct sn_paths paths = {.n = 1, .path = {path_of(json_object_get(c, "target"))}};
		const char *name = json_string_value(json_object_get(c, "name"));
		struct sn_policy_monitor *m = NULL;
		struct run run;

		print_message("%s\n", json_string_value(json_object_get(c, "id")));
		run_open(&run);
		json_array_foreach(json_object_get(c, "steps"), k, step)
		{
			const char *op = json_string_value(json_object_get(step, "op"));

			if (strcmp(op, "monitor") == 0)
				assert_int_equal(sn__policy_monitor_start(run.ps, name, &paths,
								 SN_DIALECT_BERLIOZ, on_value, &run,
								 &m),
						0);
			else
				assert_int_equal(
						sn__policies_set(run.ps, SN_POLICY_AGENT,
								json_object_get(json_object_get(step,
												"data"),
										"policies"),
								NULL),
						0);
			assert_int_equal(json_array_size(run.heard), 0); /* not inside the call */
			(void)sn__sim_run(run.sim, sn__sim_now_ns(run.sim) + SN_NS_PER_MS);
			assert_true(json_equal(run.heard, json_object_get(step, "callbacks")));
			assert_int_equal(json_array_clear(run.heard), 0);
		}
		sn__policy_monitor_stop(m);
		run_close(&run);
	}
	assert_int_equal(i, 5);
}

static int load(void **state)
{
	const char *root = getenv("SINEW_SOURCE_ROOT");
	json_error_t error;
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/tests/vectors/berlioz-policy.json",
			root != NULL ? root : ".");
	file = json_load_file(path, 0, &error);
	return file != NULL ? 0 : -1;
}

static int unload(void **state)
{
	json_decref(file);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(cases),
			cmocka_unit_test(candidates),
			cmocka_unit_test(monitors),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
