/* SPDX-License-Identifier: Apache-2.0 */
/* The store in a file: the conformance suite on both loops, and what only it has. */
#include <stdlib.h>
#include <unistd.h>

#include "connect/driver.h"
#include "hub/store_test.h"

static void setup(struct store_world *w)
{
	char *folder = calloc(1, 64);

	/* Thousands of commits: not on a disk, where there is a choice. */
	(void)snprintf(folder, 64, "%s/sinew-store-XXXXXX",
			access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (mkdtemp(folder) == NULL)
		fail_msg("no folder");
	w->arg = folder;
}

static void teardown(struct store_world *w)
{
	static const char *const names[] = {"hub.db", "hub.db-wal", "hub.db-shm"};
	char path[128];

	for (size_t i = 0; i < SN_COUNT(names); i++) {
		(void)snprintf(path, sizeof path, "%s/%s", (char *)w->arg, names[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(w->arg), 0);
	free(w->arg);
}

static int sqlite_open(struct store_world *w, struct sn_hub_store **ret_store)
{
	struct sn_connect_host host = {.loop = w->loop};
	char path[128];
	struct sn_error err;

	(void)snprintf(path, sizeof path, "%s/hub.db", (char *)w->arg);
	return sn__hub_sqlite_open(&host, path, ret_store, &err);
}

static const struct store_engine sqlite = {
		.name = "sqlite",
		.setup = setup,
		.teardown = teardown,
		.open = sqlite_open,
		.history = 4100,
		.persistent = true,
		.sweep = true,
		.ttl_ms = 300,
		.late_ms = 150,
};

static int setup_sim(void **state)
{
	static const struct sn_sim_options perfect;

	return store_world_open(&sqlite, &perfect, state);
}

static int setup_uv(void **state)
{
	return store_world_open(&sqlite, NULL, state);
}

/* Leases are there after a restart, with their whole time. */
static void leases_again(void **state)
{
	struct store_world *w = *state;
	uint64_t lease = 0;

	assert_int_equal(store_lease_op(w, SN_HUB_GRANT, 300, &lease), 0);
	assert_int_equal(store_put_if(w, "l", "1", 0, lease, NULL), 0);
	store_shut(w, &w->store);
	store_pass(w, 400);
	assert_int_equal(sqlite_open(w, &w->store), 0);
	assert_string_equal(store_list(w, ""), "l=1 ");
	assert_int_equal(store_lease_op(w, SN_HUB_KEEP, 0, &lease), 0);
	store_wait_for(w, "", "");
	assert_int_equal(store_lease_op(w, SN_HUB_KEEP, 0, &lease), SN_E_NOT_FOUND);
}

static unsigned went, came;
static void on_state(void *arg, const struct sn_error *err)
{
	if (err != NULL)
		went++;
	else
		came++;
}

/* No folder for the file: an error, and all is well when there is one. */
static void away(void **state)
{
	struct store_world *w = *state;
	char moved[80];

	store_shut(w, &w->store);
	teardown(w);
	w->arg = NULL;
	setup(w);
	(void)snprintf(moved, sizeof moved, "%s.away", (char *)w->arg);
	assert_int_equal(rename(w->arg, moved), 0);
	went = came = 0;
	assert_int_equal(sqlite_open(w, &w->store), 0);
	w->store->state = on_state;
	assert_int_equal(store_put_if(w, "a", "1", 0, 0, NULL), SN_E_IO);
	assert_int_equal(store_put_if(w, "a", "1", 0, 0, NULL), SN_E_IO);
	assert_int_equal(went, 1);
	assert_int_equal(rename(moved, w->arg), 0);
	assert_int_equal(store_put_if(w, "a", "1", 0, 0, NULL), 0);
	assert_int_equal(came, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			STORE_CONFORMANCE(setup_sim, store_world_close),
			STORE_CONFORMANCE(setup_uv, store_world_close),
			cmocka_unit_test_setup_teardown(leases_again, setup_uv, store_world_close),
			cmocka_unit_test_setup_teardown(away, setup_uv, store_world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
