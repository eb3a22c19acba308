/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_SIDECAR_WORLD_TEST_H
#define SN_SRC_MESH_SIDECAR_WORLD_TEST_H

/* Internal, tests only: a sidecar on a simulated loop, clients on a second, peers of service "s" on a
 * third. */

#include "io/http.h"
#include "io/http_server.h"
#include "mesh/api.h"
#include "mesh/dest.h"
#include "mesh/mesh_world_test.h"
#include "mesh/sidecar.h"

#define SIDE_PEERS 2
#define SIDE_LISTEN "127.0.0.1:7000"

struct side_world {
	struct mesh_world w;
	struct sn_runtime rt;
	struct sn_loop *client_loop, *peer_loop;
	struct sn_http_server *peers[SIDE_PEERS];
	struct sn_http_pool *clients;
	struct sn_http_dest *by1, *by2; /* the sidecar over HTTP/1.1 and HTTP/2 */
	bool pool_closed, clients_closed;
	unsigned peers_closed;
	unsigned n_lines; /* of the access log */
};

static inline void side_access(enum sn_log_level level, const char *line, void *arg)
{
	json_t *doc = json_loads(line, 0, NULL);

	assert_non_null(doc);
	json_decref(doc);
	((struct side_world *)arg)->n_lines++;
}

static inline void side_dest(
		struct side_world *s, enum sn_http_version version, struct sn_http_dest **ret)
{
	struct sn_http_dest_options o = {.host = "127.0.0.1", .port = 7000, .version = version};

	assert_int_equal(sn__http_dest_create(s->clients, &o, ret), 0);
}

/* @handler, @arg: of the peers 10.0.0.1 and 10.0.0.2. */
static inline void side_open(
		struct side_world *s, uint64_t seed, sn_http_handler_fn *handler, void *arg)
{
	struct sn_sidecar_options o = {.listen = SIDE_LISTEN};
	struct sn_http_server_config config = {0};
	struct sn_error err;

	memset(s, 0, sizeof(*s));
	mw_open(&s->w, seed);
	s->rt = (struct sn_runtime){.loop = s->w.loop,
			.catalog = s->w.cat,
			.policies = s->w.policies,
			.recorder = s->w.recorder,
			.metrics = s->w.metrics,
			.tracer = s->w.tracer,
			.mesh = s->w.mesh,
			.access = side_access,
			.access_arg = s,
			.access_share = 1};
	sn_list_init(&s->rt.servers);
	sn_list_init(&s->rt.monitors);
	sn_list_init(&s->rt.waiters);
	sn_list_init(&s->rt.delayed);
	sn_list_init(&s->rt.sidecar_routes);
	sn_list_init(&s->rt.dialects);
	atomic_store(&s->rt.state, SN_RUNTIME_OPEN);
	assert_int_equal(sn__sim_loop(s->w.sim, &s->client_loop), 0);
	assert_int_equal(sn__sim_loop(s->w.sim, &s->peer_loop), 0);
	assert_int_equal(sn__http_pool_create(s->w.loop, NULL, &s->rt.pool), 0);
	assert_int_equal(sn__sidecar_listen(&s->rt, &o, &err), 0);
	for (unsigned i = 0; i < SIDE_PEERS; i++) {
		char text[24];

		(void)snprintf(text, sizeof(text), "10.0.0.%u:80", i + 1);
		assert_int_equal(sn__addr_parse_listen(sn_str_from(text), &config.addr, NULL), 0);
		assert_int_equal(sn__http_server_open(s->peer_loop, &config, handler, arg,
						 &s->peers[i], NULL),
				0);
	}
	mw_peers(&s->w, SIDE_PEERS);
	assert_int_equal(sn__http_pool_create(s->client_loop, NULL, &s->clients), 0);
	side_dest(s, SN_HTTP_1, &s->by1);
	side_dest(s, SN_HTTP_2, &s->by2);
}

static inline void side_true(void *arg)
{
	*(bool *)arg = true;
}

static inline void side_count(void *arg)
{
	++*(unsigned *)arg;
}

/* The sidecar only; its open calls end within @grace_ms or are broken. */
static inline void side_stop(struct side_world *s, uint32_t grace_ms)
{
	SN_LIST_FOREACH_SAFE (pos, &s->rt.servers)
		sn__hosted_close(SN_CONTAINER_OF(pos, struct sn_hosted, link), grace_ms);
}

static inline void side_close(struct side_world *s)
{
	side_stop(s, 0);
	mw_run(&s->w, 100);
	assert_true(sn_list_empty(&s->rt.servers));
	if (!s->w.closed) {
		sn__mesh_close(s->w.mesh, mw_on_closed, &s->w);
		mw_run(&s->w, 100);
	}
	assert_int_equal(s->rt.drain_holds, 0); /* every call has ended */
	sn__http_dest_unref(s->by1);
	sn__http_dest_unref(s->by2);
	sn__http_pool_close(s->clients, side_true, &s->clients_closed);
	sn__http_pool_close(s->rt.pool, side_true, &s->pool_closed);
	for (unsigned i = 0; i < SIDE_PEERS; i++)
		sn__http_server_close(s->peers[i], 0, side_count, &s->peers_closed);
	mw_run(&s->w, 60000);
	assert_true(s->clients_closed && s->pool_closed);
	assert_int_equal(s->peers_closed, SIDE_PEERS);
	sn__loop_close(s->client_loop, NULL, NULL);
	sn__loop_close(s->peer_loop, NULL, NULL);
	sn__tls_cache_destroy(s->rt.tls_cache);
	mw_close(&s->w);
}

#endif
