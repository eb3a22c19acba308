/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_TESTS_HUB_ETCD_SITE_H
#define SN_TESTS_HUB_ETCD_SITE_H

/* Tests only: worlds of hub/store_test.h on a real etcd. */

#include "connect/driver.h"
#include "etcd_server.h"
#include "hub/etcd.h"
#include "hub/store_test.h"
#include "io/http.h"

static struct etcd_server server;

/* How the stores of a test are opened; the prefix is each world's own. */
static struct sn_hub_etcd_options site_how;
static const char *site_endpoints[4];

struct site {
	struct sn_connect_host host;
	char prefix[32];
	unsigned n_away, n_back;
	char why[200];
};

#define SITE_PATIENT_MS 60000u /* an etcd that is there answers in time, on any machine */

/* How long operations wait from now on: short once nobody will answer. */
static inline void site_wait(struct sn_hub_store *store, uint32_t ms)
{
	((struct sn_etcd *)store)->link.timeout_ms = ms;
}

static inline void site_setup(struct store_world *w)
{
	static unsigned count;
	struct site *site = test_calloc(1, sizeof *site);

	(void)snprintf(site->prefix, sizeof site->prefix, "/sinew-test/%u/", count++);
	w->arg = site;
}

static inline void site_teardown(struct store_world *w)
{
	test_free(w->arg);
}

static inline void site_state(void *arg, const struct sn_error *err)
{
	struct site *site = arg;

	if (err == NULL) {
		site->n_back++;
		return;
	}
	site->n_away++;
	(void)snprintf(site->why, sizeof site->why, "%s", err->text);
}

static inline int site_open(struct store_world *w, struct sn_hub_store **ret_store)
{
	const char *const endpoints[] = {server.url, NULL};
	struct site *site = w->arg;
	struct sn_hub_etcd_options opts = site_how;
	int r;

	opts.endpoints = site_endpoints[0] != NULL ? site_endpoints : endpoints;
	opts.prefix = site->prefix;
	if (opts.timeout_ms == 0)
		opts.timeout_ms = SITE_PATIENT_MS;
	site->host.loop = w->loop;
	if (site->host.pool == NULL)
		assert_int_equal(sn__http_pool_create(w->loop, NULL, &site->host.pool), 0);
	r = sn__hub_etcd_open(&site->host, &opts, ret_store, NULL);
	if (r == 0) {
		(*ret_store)->state = site_state;
		(*ret_store)->state_arg = site;
	}
	return r;
}

static inline void site_compact(struct store_world *w)
{
	etcd_compact(&server);
}

static const struct store_engine site_engine = {
		.name = "etcd",
		.setup = site_setup,
		.teardown = site_teardown,
		.open = site_open,
		.compact = site_compact,
		.persistent = true,
		.shared = true,
		.ttl_ms = 2000,
		.late_ms = 600,
};

static inline int site_begin(void **state)
{
	return store_world_open(&site_engine, NULL, state);
}

static inline int site_end(void **state)
{
	struct store_world *w = *state;
	struct site *site = w->arg;
	bool gone = false;

	store_shut(w, &w->second);
	store_shut(w, &w->store);
	sn__http_pool_close(site->host.pool, store_set, &gone);
	store_until(w, &gone);
	site_how = (struct sn_hub_etcd_options){.timeout_ms = 0};
	memset(site_endpoints, 0, sizeof site_endpoints);
	return store_world_close(state);
}

static inline int site_start_server(void **state)
{
	etcd_open(&server);
	return 0;
}

static inline int site_stop_server(void **state)
{
	etcd_close(&server);
	return 0;
}

#endif
