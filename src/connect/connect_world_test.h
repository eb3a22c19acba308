/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_CONNECT_WORLD_TEST_H
#define SN_SRC_CONNECT_CONNECT_WORLD_TEST_H

/* Internal, tests only: a mesh on a simulated loop with simulated drivers and resource calls. */

#include "connect/resource.h"
#include "connect/sim.h"
#include "mesh/mesh_world_test.h"

struct connect_world {
	struct mesh_world w;
	struct sn_driver_pool pool;
	bool pool_closed;
};

struct cw_call {
	struct sn_resource_call rc; /* first */
	struct sn_result result;
	struct connect_world *cw;
	unsigned done; /* times */
	bool in_start;
	int code;
	struct sn_error err;
	uint64_t done_ns;
};

static const struct sn_driver *const cw_drivers[] = {
		&sn__driver_database_sim, &sn__driver_broker_sim, NULL};

static inline void cw_open_pool(struct connect_world *cw)
{
	const struct sn_connect_host host = {.loop = cw->w.loop};

	sn__driver_pool_init(&cw->pool, &host);
	cw->pool_closed = false;
}

static inline void cw_open(struct connect_world *cw, uint64_t seed)
{
	sn__sim_services_reset();
	sn__drivers_add_for_tests(cw_drivers);
	memset(cw, 0, sizeof *cw);
	mw_open(&cw->w, seed);
	cw_open_pool(cw);
}

static inline void cw_pool_closed(void *arg)
{
	((struct connect_world *)arg)->pool_closed = true;
}

/* Everything still open ends with SN_E_CLOSED. */
static inline void cw_stop(struct connect_world *cw)
{
	struct mesh_world *w = &cw->w;

	if (w->mesh == NULL || w->closed)
		return;
	sn__driver_pool_close(&cw->pool, cw_pool_closed, cw);
	sn__mesh_close(w->mesh, mw_on_closed, w);
	mw_run(w, 10);
	assert_true(cw->pool_closed);
	assert_true(w->closed);
}

static inline void cw_close(struct connect_world *cw)
{
	cw_stop(cw);
	mw_close(&cw->w);
	sn__drivers_add_for_tests(NULL);
}

static inline void cw_done(struct sn_resource_call *rc, const struct sn_error *err)
{
	struct cw_call *c = SN_CONTAINER_OF(rc, struct cw_call, rc);

	assert_false(c->in_start);
	c->done++;
	c->code = err != NULL ? err->code : 0;
	c->done_ns = sn__loop_now_ns(c->cw->w.loop);
	if (err != NULL)
		c->err = *err;
}

/* A call of database "d". */
static inline int cw_start(struct connect_world *cw, struct cw_call *c, const char *operation,
		const char *params, struct sn_error *err)
{
	int r;

	memset(c, 0, sizeof *c);
	sn__result_init(&c->result);
	c->cw = cw;
	c->rc.kind = &sn__database_kind;
	c->rc.target = mw_target_of(&cw->w, "database", "d");
	c->rc.operation = sn_str_from(operation);
	c->rc.params = sn_str_from(params);
	c->rc.result = &c->result;
	c->rc.done = cw_done;
	c->in_start = true;
	r = sn__resource_start(&cw->pool, cw->w.mesh, &c->rc, err);
	c->in_start = false;
	return r;
}

static inline void cw_finish(struct cw_call *c)
{
	sn__result_finish(&c->result);
	sn__free(c->rc.keep.state);
}

/* Start and run until it has ended. */
static inline void cw_call(struct connect_world *cw, struct cw_call *c, const char *operation,
		const char *params)
{
	struct sn_error err;

	assert_int_equal(cw_start(cw, c, operation, params, &err), 0);
	for (int i = 0; i < 2000 && c->done == 0; i++)
		mw_run(&cw->w, 10);
	assert_int_equal(c->done, 1);
}

#endif
