/* SPDX-License-Identifier: Apache-2.0 */
/* berlioz-executor.json: addresses, environment, identity, names. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"
#include "dialect/berlioz/address.h"
#include "proto/json_value.h"

static json_t *vectors;

static const char *from_env(const char *name, void *arg)
{
	return json_string_value(json_object_get(arg, name));
}

static int load(void **state)
{
	char path[512];
	json_error_t error;

	(void)snprintf(path, sizeof(path), "%s/tests/vectors/berlioz-executor.json",
			getenv("SINEW_SOURCE_ROOT") != NULL ? getenv("SINEW_SOURCE_ROOT") : ".");
	vectors = json_load_file(path, 0, &error);
	return vectors != NULL ? 0 : -1;
}

static int unload(void **state)
{
	json_decref(vectors);
	return sn__mem_live() == 0 ? 0 : -1;
}

static json_t *part(const char *name, size_t want)
{
	json_t *cases = json_object_get(vectors, name);

	assert_int_equal(json_array_size(cases), want);
	return cases;
}

static void environment(void **state)
{
	json_t *c, *value;
	const char *name;
	size_t i;

	json_array_foreach(part("environment", 6), i, c)
	{
		json_t *env = json_object_get(c, "environment");

		json_object_foreach(env, name, value)
		{
			struct sn_buf b;

			sn__buf_init(&b, 4096);
			assert_int_equal(sn__place_substitute(sn_str_from(json_string_value(value)),
							 from_env, env, &b),
					0);
			assert_int_equal(sn__buf_append(&b, "", 1), 0);
			assert_string_equal(sn__buf_data(&b),
					json_string_value(json_object_get(
							json_object_get(c, "resolved"), name)));
			sn__buf_finish(&b);
		}
	}
}

static void identity(void **state)
{
	json_t *c;
	size_t i;

	json_array_foreach(part("identity", 6), i, c)
	{
		const char *want = json_string_value(json_object_get(c, "identity"));
		struct sn_own_place place;

		assert_int_equal(
				sn__place_init(&place, from_env, json_object_get(c, "environment")),
				0);
		if (want == NULL)
			assert_null(place.identity);
		else
			assert_string_equal(place.identity, want);
		sn__place_finish(&place);
	}
}

static void names(void **state)
{
	json_t *c;
	size_t i;

	json_array_foreach(part("names", 5), i, c)
	{
		struct sn_buf b;

		sn__buf_init(&b, 4096);
		assert_int_equal(sn__berlioz_remote_name(
						 sn_str_from(json_string_value(
								 json_object_get(c, "target"))),
						 &b),
				0);
		assert_int_equal(sn__buf_append(&b, "", 1), 0);
		assert_string_equal(sn__buf_data(&b),
				json_string_value(json_object_get(c, "remote_service_name")));
		sn__buf_finish(&b);
	}
}

/* "sector('infra').service('meter','push')": the texts between quotes, and what stands before. */
struct call {
	char kind[32], name[64], endpoint[64];
};

static struct call read_call(const char *text)
{
	char sector[32] = "", args[2][32] = {"", ""};
	struct call c = {"", "", ""};
	const char *p = text;
	int n;

	if (sscanf(p, "sector('%31[^']').%n", sector, &n) == 1)
		p += n;
	(void)sscanf(p, "%31[a-z]('%31[^']','%31[^']'", c.kind, args[0], args[1]);
	(void)snprintf(c.name, sizeof(c.name), "%s%s%s", sector, *sector ? "." : "", args[0]);
	(void)snprintf(c.endpoint, sizeof(c.endpoint), "%s", args[1]);
	return c;
}

static void is_path(const struct sn_path *path, const char *a, const char *b, const char *c)
{
	const char *want[] = {a, b, c};

	for (unsigned i = 0; i < SN_PATH_PARTS; i++) {
		if (want[i] == NULL)
			assert_int_equal(path->n <= i, 1);
		else if (path->n <= i || !sn_str_eq(path->part[i], sn_str_from(want[i])))
			fail_msg("part %u is not %s", i, want[i]);
	}
}

static void addresses(void **state)
{
	json_t *c;
	size_t i;

	json_array_foreach(part("addresses", 8), i, c)
	{
		struct call call = read_call(json_string_value(json_object_get(c, "call")));
		const char *flat = json_string_value(json_object_get(c, "flat_id"));
		const char *id = json_string_value(json_object_get(c, "id"));
		const char *endpoint = json_string_value(json_object_get(c, "endpoint"));
		const char *dot = strchr(call.name, '.');
		const char *name = dot != NULL ? dot + 1 : call.name;
		struct sn_paths paths;
		struct sn_own_place place;

		assert_int_equal(sn__place_init(&place, from_env, json_object_get(c, "env")), 0);
		assert_int_equal(sn__berlioz_paths(&place, sn_str_from(call.kind),
						 sn_str_from(call.name), sn_str_from(call.endpoint),
						 &paths),
				0);
		is_path(&paths.path[0], flat, NULL, NULL);
		if (endpoint != NULL) {
			assert_int_equal(paths.n, 3);
			is_path(&paths.path[1], id, endpoint, NULL);
			is_path(&paths.path[2], call.kind, name, endpoint);
		} else {
			assert_int_equal(paths.n, 2);
			is_path(&paths.path[1], call.kind, name, NULL);
		}
		sn__place_finish(&place);
	}
}

static void refused(void **state)
{
	struct sn_own_place place = {.cluster = (char *)(uintptr_t) "shop"};
	struct sn_paths paths;
	static char longer[2000];

	memset(longer, 'x', sizeof(longer));
	assert_int_equal(sn__berlioz_paths(&place, SN_STR("gateway"), SN_STR("a"), SN_STR("b"),
					 &paths),
			SN_E_INVALID);
	assert_int_equal(sn__berlioz_paths(&place, SN_STR("service"), SN_STR(""), SN_STR("b"),
					 &paths),
			SN_E_INVALID);
	assert_int_equal(sn__berlioz_paths(&place, SN_STR("service"), SN_STR(".a"), SN_STR("b"),
					 &paths),
			SN_E_INVALID);
	assert_int_equal(sn__berlioz_paths(&place, SN_STR("service"), SN_STR("a."), SN_STR("b"),
					 &paths),
			SN_E_INVALID);
	assert_int_equal(sn__berlioz_paths(&place, SN_STR("service"),
					 (struct sn_str){longer, sizeof(longer)}, SN_STR("b"),
					 &paths),
			SN_E_INVALID);
	/* No sector: services are known by their kind tree only, clusters by their id, too. */
	assert_int_equal(sn__berlioz_paths(&place, SN_STR("service"), SN_STR("a"), SN_STR("b"),
					 &paths),
			0);
	assert_int_equal(paths.n, 1);
	is_path(&paths.path[0], "service", "a", "b");
	assert_int_equal(sn__berlioz_paths(&place, SN_STR("cluster"), SN_STR("a"), SN_STR("b"),
					 &paths),
			0);
	assert_int_equal(paths.n, 3);
	is_path(&paths.path[0], "cluster://a-b", NULL, NULL);
}

static void place_without_memory(void **state)
{
	json_t *env = json_pack("{s:s, s:s, s:s, s:s}", "BERLIOZ_CLUSTER", "${X}a",
			"BERLIOZ_SECTOR", "s", "BERLIOZ_IDENTITY", "p-7", "BERLIOZ_IDENTITY_PREFIX",
			"P-");
	int64_t live = sn__mem_live();
	struct sn_own_place place;
	int rc = SN_E_NOMEM;

	for (uint64_t n = 1; rc == SN_E_NOMEM; n++) {
		sn__mem_fail_nth(n);
		rc = sn__place_init(&place, from_env, env);
		sn__mem_fail_nth(0);
		if (rc < 0)
			assert_true(sn__mem_live() == live && place.cluster == NULL);
	}
	assert_int_equal(rc, 0);
	assert_string_equal(place.cluster, "${X}a");
	assert_string_equal(place.identity, "7");
	assert_false(place.override);
	sn__place_finish(&place);
	json_decref(env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(environment),
			cmocka_unit_test(identity),
			cmocka_unit_test(names),
			cmocka_unit_test(addresses),
			cmocka_unit_test(refused),
			cmocka_unit_test(place_without_memory),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
