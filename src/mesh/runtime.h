/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_RUNTIME_H
#define SN_SRC_MESH_RUNTIME_H

/*
 * Internal. The runtime: one loop and what lives on it. sn_open() (src/dialect/open.c) opens the
 * core here, then the dialects the options ask for; sn_close() undoes it in stages, each of which
 * waits for its completions: dialects, monitors, calls and servers; then the connections; then the
 * memory; then the loop.
 *
 * Threads: the setup runs on the opening thread before the loop's thread starts, all else on the
 * loop thread unless a function says "any thread".
 */

#include <pthread.h>
#include <stdatomic.h>

#include <sinew/mesh.h>
#include <sinew/runtime.h>
#include "base/error.h"
#include "base/list.h"
#include "base/log.h"
#include "io/loop.h"
#include "mesh/catalog.h"

struct sn_http_pool;
struct sn_mesh;
struct sn_metrics;
struct sn_operations;
struct sn_policies;
struct sn_recorder;
struct sn_tls_cache;
struct sn_tracer;
struct sn_inbounds;

#define SN_PART_MISSING_MAX 256

/* A dialect's hold on the runtime: embedded in the dialect's own object. */
struct sn_dialect_part;
struct sn_part_ops {
	const char *name;
	/** Stop talking: no new work, and no callback of the user afterwards. Call
	 * sn__runtime_part_closed() once, in a later turn, when nothing is in flight any more. */
	void (*close)(struct sn_dialect_part *dialect);
	/** Whether it still waits for something that readiness needs, and one sentence for what. NULL:
	 * never. */
	bool (*missing)(struct sn_dialect_part *dialect, char out[SN_PART_MISSING_MAX]);
	/** Free everything; also for one that was never started. */
	void (*destroy)(struct sn_dialect_part *dialect);
	/** Closing needs turns of the loop, also when it was never started: when sn_open() fails behind it,
	 * the runtime is started and closed. Not possible on a host's libuv loop. */
	bool turns;
};
struct sn_dialect_part {
	const struct sn_part_ops *ops;
	struct sn_runtime *rt;
	struct sn_list link;
};

enum sn_runtime_state { SN_RUNTIME_OPENING, SN_RUNTIME_OPEN, SN_RUNTIME_CLOSING };

struct sn_runtime {
	/* any thread */
	atomic_int state;         /* enum sn_runtime_state */
	atomic_uint users;        /* public calls of other threads inside right now */
	unsigned fork_generation; /* differs from the process's: we are in a child */
	enum sn_mode mode;
	struct sn_loop *loop;
	struct sn_catalog *catalog;
	struct sn_policies *policies;
	struct sn_recorder *recorder;
	struct sn_metrics *metrics;
	struct sn_tracer *tracer;
	struct sn_inbounds *inbounds; /* requests that come in */
	struct sn_mesh *mesh;
	struct sn_http_pool *pool;
	struct sn_operations *requests;   /* of sn_request() */
	struct sn_operations *grpc_calls; /* of sn_grpc_call() */
	struct sn_tls_cache *tls_cache;   /* mesh/dest.c; loop thread; NULL at first */
	uint64_t seed;
	pthread_t thread;
	pthread_mutex_t lock;   /* ready, adopted */
	pthread_cond_t changed; /* these and state */
	bool ready, adopted;
	struct sn_log log;

	/* loop thread */
	struct sn_list dialects;       /* sn_dialect_part.link, in order of opening */
	struct sn_list monitors;       /* sn_monitor.link */
	struct sn_list waiters;        /* threads in sn_get_peers_wait() */
	struct sn_list servers;        /* of sn_http_server_open() */
	struct sn_list lingering;      /* sn_hosted.link: the server is gone, its tunnels are not */
	struct sn_list delayed;        /* of sn_after() */
	struct sn_list sidecar_routes; /* sn_sidecar_route.link; before the thread starts */
	struct sn_list admin_routes;   /* sn_admin_route.link; the same */
	unsigned parts_open;           /* of the present stage of closing */
	void (*stage)(struct sn_runtime *rt); /* what follows when they are closed */
	struct sn_task stage_task, close_task;
	bool finished; /* the loop may stop for good */
	bool stepping; /* inside sn_runtime_step() */
	struct sn_timer users_timer;
	unsigned unready; /* dialects that have not had their first message */
	void (*done)(void *arg);
	void *done_arg;
	/* requests through the sidecar, told one by one; set before the loop's thread starts */
	sn_log_fn *access; /* NULL: they are not */
	void *access_arg;
	double access_share; /* 0 to 1 */
	/* drain.c, loop thread; the first three are set before the loop's thread starts */
	uint32_t drain_ms;     /* how long what is open may take to end */
	sn_drain_fn *on_drain; /* NULL: nobody asks */
	void *on_drain_arg;
	bool draining, drained;
	unsigned drain_holds;
	struct sn_timer drain_timer;
};

/** Loop, catalog, policies, mesh; no thread yet. @opts has been checked for size. @paths, @arg: how
 * a dialect spells targets (sn__catalog_create()). */
SN_MUST_USE int sn__runtime_create(const struct sn_options *opts, sn_paths_fn *paths, void *arg,
		struct sn_runtime **ret_rt, struct sn_error *err);
/** Before sn__runtime_start(): take it apart again, dialects included. */
void sn__runtime_destroy(struct sn_runtime *rt);
/** Start the thread (own-thread mode). On failure the caller destroys. */
SN_MUST_USE int sn__runtime_start(struct sn_runtime *rt, struct sn_error *err);

/** @unready: sn_wait_ready() waits until sn__runtime_ready() was called for it. */
void sn__runtime_attach(struct sn_runtime *rt, struct sn_dialect_part *dialect,
		const struct sn_part_ops *ops, bool unready);
/** The dialect called @name, or NULL. Any thread (the list never changes while open). */
struct sn_dialect_part *sn__runtime_dialect(const struct sn_runtime *rt, const char *name);
void sn__runtime_ready(struct sn_runtime *rt);

/** One more part to wait for in this stage of closing, and its end. */
void sn__runtime_part_opened(struct sn_runtime *rt);
void sn__runtime_part_closed(struct sn_runtime *rt);

/**
 * Loop thread. Draining: servers (but those that stay: the admin API) stop accepting, what they have
 * begun ends in peace, at most rt->drain_ms; readiness is gone at once. Then on_drain() is told, in
 * a later turn; closing is the owner's. Nothing the second time.
 */
void sn__runtime_drain(struct sn_runtime *rt);
/** Draining waits for whoever holds. */
void sn__drain_hold(struct sn_runtime *rt);
void sn__drain_release(struct sn_runtime *rt);
void sn__drain_stop(struct sn_runtime *rt); /* closing begins */

/**
 * Every public call on a runtime stands between these two. Any thread. sn__enter() refuses with
 * SN_E_FORKED in a child and SN_E_CLOSED while closing; sn_close() waits until all have left.
 */
SN_MUST_USE int sn__enter(struct sn_runtime *rt);
void sn__leave(struct sn_runtime *rt);

/* ---- blocking twins ---- */

/* A thread that waits for something on the loop. Lives on the waiting thread's stack; the loop
 * side calls sn__wait_wake() exactly once, as the last thing it does with it. */
struct sn_wait {
	struct sn_task task;
	struct sn_runtime *rt;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool woken;
};
/** SN_E_DEADLK on the loop thread and without own thread. */
SN_MUST_USE int sn__wait_init(struct sn_wait *w, struct sn_runtime *rt);
void sn__wait_finish(struct sn_wait *w);
void sn__wait_wake(struct sn_wait *w);
/** Wait at most @timeout_ms (UINT64_MAX: for ever); whether it was woken. */
bool sn__wait_for(struct sn_wait *w, uint64_t timeout_ms);

#endif
