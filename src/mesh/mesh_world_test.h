/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_MESH_WORLD_TEST_H
#define SN_SRC_MESH_MESH_WORLD_TEST_H

/* Internal, tests only: a mesh on a simulated loop, and a transport that does as a script says. */

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"
#include "io/sim.h"
#include "mesh/call.h"
#include "mesh/catalog_write.h"
#include "mesh/target.h"

struct mesh_world {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_catalog *cat;
	struct sn_policies *policies;
	struct sn_metrics *metrics;
	struct sn_recorder *recorder;
	struct sn_tracer *tracer;
	struct sn_mesh *mesh;
	unsigned warnings;
	bool closed;
	int64_t live;
};

static inline void mw_run(struct mesh_world *w, uint64_t ms)
{
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + sn_ms_to_ns(ms));
}

static inline void mw_warn(const char *text, void *arg)
{
	((struct mesh_world *)arg)->warnings++;
}

/* 0, or SN_E_NOMEM with everything undone (the sweep of allocation failures). */
static inline int mw_try_open(struct mesh_world *w)
{
	struct sn_policies_options po = {.loop = w->loop, .warn = mw_warn, .warn_arg = w};
	struct sn_recorder_options ro = {.loop = w->loop};
	struct sn_mesh_options mo = {.loop = w->loop};
	int r = sn__catalog_create(w->loop, NULL, NULL, &w->cat);

	if (r == 0)
		r = sn__policies_create(&po, &w->policies);
	if (r == 0)
		r = sn__metrics_create(0, &w->metrics);
	if (r == 0)
		r = sn__recorder_create(&ro, &w->recorder, NULL);
	if (r == 0)
		r = sn__tracer_create(w->loop, &w->tracer);
	mo.catalog = w->cat;
	mo.policies = w->policies;
	mo.metrics = w->metrics;
	mo.recorder = w->recorder;
	mo.tracer = w->tracer;
	return r == 0 ? sn__mesh_create(&mo, &w->mesh) : r;
}

static inline void mw_init(struct mesh_world *w, uint64_t seed)
{
	struct sn_sim_options so = {.seed = seed};

	memset(w, 0, sizeof *w);
	w->live = sn__mem_live();
	assert_int_equal(sn__sim_create(&so, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->loop), 0);
}

static inline void mw_open(struct mesh_world *w, uint64_t seed)
{
	mw_init(w, seed);
	assert_int_equal(mw_try_open(w), 0);
	mw_run(w, 1000); /* the time is not 0 */
}

static inline void mw_on_closed(void *arg)
{
	((struct mesh_world *)arg)->closed = true;
}

static inline void mw_close(struct mesh_world *w)
{
	if (w->mesh != NULL && !w->closed) {
		sn__mesh_close(w->mesh, mw_on_closed, w);
		mw_run(w, 10);
		assert_true(w->closed);
	}
	sn__mesh_destroy(w->mesh);
	sn__tracer_destroy(w->tracer);
	sn__recorder_destroy(w->recorder);
	sn__metrics_destroy(w->metrics);
	sn__catalog_destroy(w->cat);
	mw_run(w, 10);
	sn__policies_destroy(w->policies);
	sn__loop_close(w->loop, NULL, NULL);
	sn__sim_destroy(w->sim);
	assert_int_equal(sn__mem_live(), w->live);
}

static inline void mw_policies(struct mesh_world *w, const char *json)
{
	json_t *tree = json_loads(json, 0, NULL);

	assert_non_null(tree);
	assert_int_equal(sn__policies_set(w->policies, SN_POLICY_AGENT, tree, NULL), 0);
	json_decref(tree);
}

/* ---- the catalog ---- */

struct mw_update {
	struct sn_update u;
	struct sn_path path;
	const char *json; /* NULL: absent */
	int code;
	bool done;
};

static inline int mw_work(struct sn_update *u, struct sn_batch *batch)
{
	struct mw_update *up = SN_CONTAINER_OF(u, struct mw_update, u);

	return up->json != NULL ? sn__batch_set_peers(batch, &up->path, sn_str_from(up->json))
				: sn__batch_set_absent(batch, SN_SECTION_PEERS, &up->path);
}

static inline void mw_updated(struct sn_update *u, int code, uint32_t changes)
{
	struct mw_update *up = SN_CONTAINER_OF(u, struct mw_update, u);

	up->code = code;
	up->done = true;
}

/* Peers of {kind, name, "default"}; in force when this returns. */
static inline void mw_peers_of(struct mesh_world *w, const char *kind, const char *name,
		const char *json /* NULL: absent */)
{
	struct mw_update up = {.path = {.n = 3,
					       .part = {sn_str_from(kind), sn_str_from(name),
							       SN_STR("default")}},
			.json = json};

	up.u.work = mw_work;
	up.u.done = mw_updated;
	sn__catalog_submit(w->cat, &up.u);
	while (!up.done)
		mw_run(w, 1);
	assert_int_equal(up.code, 0);
}

/* @n peers 1..n of service "s", 10.0.0.i:80. */
static inline void mw_peers(struct mesh_world *w, unsigned n)
{
	char json[8192] = "{";
	size_t at = 1;

	for (unsigned i = 1; i <= n; i++)
		at += (size_t)snprintf(json + at, sizeof json - at,
				"%s\"%u\":{\"protocol\":\"http\",\"address\":\"10.0.0.%u\",\"port\":80}",
				i > 1 ? "," : "", i, i);
	(void)snprintf(json + at, sizeof json - at, "}");
	mw_peers_of(w, "service", "s", n > 0 ? json : NULL);
}

static inline struct sn_target *mw_target_of(
		struct mesh_world *w, const char *kind, const char *name)
{
	struct sn_target *t;

	assert_int_equal(sn__catalog_target(w->cat, sn_str_from(kind), sn_str_from(name),
					 SN_STR("default"), &t),
			0);
	return t;
}

static inline struct sn_target *mw_target(struct mesh_world *w)
{
	return mw_target_of(w, "service", "s");
}

/* The state of peer @identity (made when missing). */
static inline struct sn_peer_state *mw_state(struct mesh_world *w, const char *identity)
{
	struct sn_target *t = mw_target(w);
	const struct sn_peers *peers = sn__target_peers(t);
	uint32_t i = sn__peers_find(peers, sn_str_from(identity));

	assert_true(i < peers->n);
	return sn__mesh_peer(sn__mesh_target(w->mesh, t), &peers->peers[i]);
}

/* ---- the scripted transport ---- */

struct mw_step {
	struct sn_outcome outcome;
	uint64_t delay_ms; /* how long the attempt takes */
	int refuse;        /* attempt() returns it */
	bool stuck;        /* no answer; ends when aborted */
};

#define MW_OK \
	{ \
		.outcome = {.retry_after_ms = -1 } \
	}
#define MW_FAIL(bits, sent_, phase_, code_) \
	{ \
		.outcome = { \
			.class = SN_OUTCOME_FAILED, \
			.sent = (sent_), \
			.phase = (phase_), \
			.code = (code_), \
			.retry_on = (bits), \
			.retry_after_ms = -1, \
			.detail = "scripted" \
		} \
	}
#define MW_500 MW_FAIL(SN_RETRY_5XX, SN_SENT_YES, SN_PHASE_READ, SN_E_STATUS)
#define MW_503 MW_FAIL(SN_RETRY_503 | SN_RETRY_5XX, SN_SENT_YES, SN_PHASE_READ, SN_E_STATUS)
#define MW_RESET MW_FAIL(SN_RETRY_RESET, SN_SENT_MAYBE, SN_PHASE_WAIT, SN_E_RESET)
#define MW_REFUSED MW_FAIL(SN_RETRY_CONNECT, SN_SENT_NO, SN_PHASE_CONNECT, SN_E_CONNECT)
#define MW_STUCK \
	{ \
		.stuck = true, .outcome = { \
			.sent = SN_SENT_YES, \
			.phase = SN_PHASE_WAIT, \
			.class = SN_OUTCOME_FAILED, \
			.retry_after_ms = -1 \
		} \
	}

struct mw_call {
	struct sn_call call;
	struct mesh_world *w;
	const struct mw_step *steps; /* the last repeats */
	unsigned n_steps, at;
	struct sn_timer timer;
	bool running, in_start;
	unsigned done; /* times */
	unsigned attempts, aborted;
	int code;
	bool sent_twice; /* a second attempt after bytes may have arrived */
	bool may_have_arrived;
	char peers[16][8]; /* identity of each attempt's peer */
	uint64_t done_ns;
	char last_peer[96];
	struct sn_error err;
};

static inline const struct mw_step *mw_step(const struct mw_call *c)
{
	return &c->steps[SN_MIN(c->at - 1, c->n_steps - 1)];
}

static inline void mw_attempt_over(struct sn_timer *t)
{
	struct mw_call *c = SN_CONTAINER_OF(t, struct mw_call, timer);

	assert_true(c->running);
	c->running = false;
	c->may_have_arrived |= mw_step(c)->outcome.sent != SN_SENT_NO;
	sn__call_attempt_done(&c->call, &mw_step(c)->outcome);
}

static inline int mw_attempt(struct sn_call *call)
{
	struct mw_call *c = SN_CONTAINER_OF(call, struct mw_call, call);
	const struct mw_step *step;

	assert_false(c->running);
	assert_non_null(call->permit.state);
	assert_true(atomic_load(&call->permit.state->inflight) > 0);
	c->at++;
	step = mw_step(c);
	if (step->refuse != 0)
		return step->refuse;
	c->sent_twice |= c->may_have_arrived;
	c->running = true;
	if (c->attempts < SN_COUNT(c->peers))
		(void)snprintf(c->peers[c->attempts], sizeof c->peers[0], "%s",
				call->permit.state->identity);
	c->attempts++;
	if (!step->stuck)
		sn__timer_start(c->w->loop, &c->timer, sn_ms_to_ns(step->delay_ms),
				mw_attempt_over);
	return 0;
}

static inline void mw_abort(struct sn_call *call, int code)
{
	struct mw_call *c = SN_CONTAINER_OF(call, struct mw_call, call);

	assert_true(c->running);
	c->aborted++;
	sn__timer_start(c->w->loop, &c->timer, 0, mw_attempt_over);
}

static inline void mw_done(struct sn_call *call, const struct sn_error *err)
{
	struct mw_call *c = SN_CONTAINER_OF(call, struct mw_call, call);

	assert_false(c->in_start);
	assert_false(c->running);
	c->done++;
	if (c->attempts > 0)
		sn__peer_state_text(call->permit.state, c->last_peer, sizeof c->last_peer);
	c->code = err != NULL ? err->code : 0;
	c->done_ns = sn__loop_now_ns(c->w->loop);
	if (err != NULL)
		c->err = *err;
}

static const struct sn_call_ops mw_ops = {
		.attempt = mw_attempt, .abort = mw_abort, .done = mw_done};

static inline int mw_start(struct mesh_world *w, struct mw_call *c, const struct mw_step *steps,
		unsigned n_steps)
{
	int r;

	c->w = w;
	c->steps = steps;
	c->n_steps = n_steps;
	if (c->call.ops == NULL)
		c->call.ops = &mw_ops;
	if (c->call.target == NULL)
		c->call.target = mw_target(w);
	c->in_start = true;
	r = sn__call_start(w->mesh, &c->call);
	c->in_start = false;
	return r;
}

/* Start and run to its end. */
#define mw_call(w, c, ...) \
	do { \
		static const struct mw_step steps_[] = {__VA_ARGS__}; \
		assert_int_equal(mw_start((w), (c), steps_, (unsigned)SN_COUNT(steps_)), 0); \
		for (int i_ = 0; i_ < 100000 && (c)->done == 0; i_++) \
			mw_run((w), 10); \
		assert_int_equal((c)->done, 1); \
	} while (0)

#endif
