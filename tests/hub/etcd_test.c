/* SPDX-License-Identifier: Apache-2.0 */
/* The store's conformance in a real etcd, which all tests share: each has a prefix of its own. */
#include "connect/driver.h"
#include "etcd_server.h"
#include "hub/store_test.h"
#include "io/http.h"

static struct etcd_server server;
static unsigned count;

struct site {
	struct sn_connect_host host;
	char prefix[32];
};

static void site_setup(struct store_world *w)
{
	struct site *site = test_calloc(1, sizeof *site);

	(void)snprintf(site->prefix, sizeof site->prefix, "/sinew-test/%u/", count++);
	w->arg = site;
}

static void site_teardown(struct store_world *w)
{
	test_free(w->arg);
}

static int site_open(struct store_world *w, struct sn_hub_store **ret_store)
{
	const char *const endpoints[] = {server.url, NULL};
	struct site *site = w->arg;
	const struct sn_hub_etcd_options opts = {.endpoints = endpoints, .prefix = site->prefix};

	site->host.loop = w->loop;
	if (site->host.pool == NULL)
		assert_int_equal(sn__http_pool_create(w->loop, NULL, &site->host.pool), 0);
	return sn__hub_etcd_open(&site->host, &opts, ret_store, NULL);
}

static void site_compact(struct store_world *w)
{
	etcd_compact(&server);
}

static const struct store_engine engine = {
		.name = "etcd",
		.setup = site_setup,
		.teardown = site_teardown,
		.open = site_open,
		.compact = site_compact,
		.persistent = true,
		.shared = true,
		.ttl_ms = 1000,
		.late_ms = 600,
};

static int setup(void **state)
{
	return store_world_open(&engine, NULL, state);
}

static int teardown(void **state)
{
	struct store_world *w = *state;
	struct site *site = w->arg;
	bool gone = false;

	store_shut(w, &w->second);
	store_shut(w, &w->store);
	sn__http_pool_close(site->host.pool, store_set, &gone);
	store_until(w, &gone);
	return store_world_close(state);
}

static int start(void **state)
{
	etcd_open(&server);
	return 0;
}

static int stop(void **state)
{
	etcd_close(&server);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {STORE_CONFORMANCE(setup, teardown)};

	if (!etcd_there()) {
		puts("SKIPPED: etcd-server is missing");
		return 77;
	}
	return cmocka_run_group_tests(tests, start, stop);
}
