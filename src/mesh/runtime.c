/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Closing goes in stages, because almost everything on a loop ends in a later turn. A stage counts
 * its open parts (sn__runtime_part_opened/closed); when the last one is closed the next stage runs
 * from the loop, never from inside the part's callback:
 *
 *   stop_work   dialects, the host's servers, monitors, calls (complete with SN_E_CLOSED)
 *   wait_users  until no other thread is inside a public call (blocked ones have been woken)
 *   stop_io     the connections
 *   finish      memory of the loop's thread; in the order opposite to opening
 *
 * Fork: the child handler raises a process-wide generation; a runtime whose generation differs is
 * dead. Nothing else may happen in the handler, because the loop's thread may have been anywhere.
 */

#include "mesh/runtime.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "base/mem.h"
#include "io/http.h"
#include "mesh/api.h"
#include "mesh/catalog.h"
#include "mesh/dest.h"
#include "mesh/grpc_call.h"
#include "mesh/inbound.h"
#include "mesh/mesh.h"
#include "mesh/metrics.h"
#include "mesh/operation.h"
#include "mesh/policy.h"
#include "mesh/recorder.h"
#include "mesh/request.h"

#define DRAIN_MS 30000 /* without a configuration */

/* ---- fork ---- */

static atomic_uint fork_generation;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static int fork_registered;

static void fork_in_child(void)
{
	atomic_fetch_add_explicit(&fork_generation, 1, memory_order_relaxed);
}

static void fork_register(void)
{
	fork_registered = pthread_atfork(NULL, NULL, fork_in_child);
}

static bool is_forked(const struct sn_runtime *rt)
{
	return rt->fork_generation != atomic_load_explicit(&fork_generation, memory_order_relaxed);
}

/* ---- public calls in and out ---- */

int sn__enter(struct sn_runtime *rt)
{
	if (is_forked(rt))
		return SN_E_FORKED;
	/* The loop's own thread needs no count: it is what closing runs on. */
	if (sn__loop_is_here(rt->loop))
		return atomic_load(&rt->state) == SN_RUNTIME_CLOSING ? SN_E_CLOSED : 0;
	/* The order matters: first be counted, then look. Closing does it the other way round. */
	atomic_fetch_add(&rt->users, 1);
	if (atomic_load(&rt->state) == SN_RUNTIME_CLOSING) {
		atomic_fetch_sub(&rt->users, 1);
		return SN_E_CLOSED;
	}
	return 0;
}

void sn__leave(struct sn_runtime *rt)
{
	if (!sn__loop_is_here(rt->loop))
		atomic_fetch_sub(&rt->users, 1);
}

/* ---- opening ---- */

static int locks_init(struct sn_runtime *rt)
{
	pthread_condattr_t attr;
	int r;

	if (pthread_condattr_init(&attr) != 0)
		return SN_E_NOMEM;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	r = pthread_cond_init(&rt->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (r != 0)
		return SN_E_NOMEM;
	if (pthread_mutex_init(&rt->lock, NULL) != 0) {
		pthread_cond_destroy(&rt->changed);
		return SN_E_NOMEM;
	}
	return 0;
}

static void memory_free(struct sn_runtime *rt)
{
	sn__log_finish(&rt->log);
	pthread_mutex_destroy(&rt->lock);
	pthread_cond_destroy(&rt->changed);
	sn__free(rt);
}

static void policy_warn(const char *text, void *arg)
{
	struct sn_runtime *rt = arg;

	sn__log(&rt->log, SN_LOG_WARNING, "policies", "%s", text);
}

static void trace_warn(const char *text, void *arg)
{
	struct sn_runtime *rt = arg;

	sn__log(&rt->log, SN_LOG_WARNING, "trace", "%s", text);
}

static int mesh_open(
		struct sn_runtime *rt, const struct sn_options *opts, sn_paths_fn *paths, void *arg)
{
	struct sn_recorder_options recorder = {.loop = rt->loop,
			.dir = opts->record_dir != NULL ? opts->record_dir : opts->state_dir};
	struct sn_policies_options policies = {
			.loop = rt->loop,
			.paths = paths, /* policies are looked up along the registry's own paths */
			.paths_arg = arg,
			.warn = policy_warn,
			.warn_arg = rt,
	};
	struct sn_mesh_options mesh = {.loop = rt->loop, .catalog = rt->catalog};
	struct sn_error warning = {.code = 0};
	int r = sn__policies_create(&policies, &rt->policies);

	if (r == 0)
		r = sn__recorder_create(&recorder, &rt->recorder, &warning);
	if (r == 0 && warning.code != 0)
		sn__log(&rt->log, SN_LOG_WARNING, "recorder", "%s", warning.text);
	if (r == 0)
		r = sn__metrics_create(0, &rt->metrics);
	if (r == 0)
		r = sn__tracer_create(rt->loop, &rt->tracer);
	if (r == 0)
		sn__tracer_on_warning(rt->tracer, trace_warn, rt);
	if (r == 0)
		r = sn__tracer_set_metrics(rt->tracer, rt->metrics);
	mesh.policies = rt->policies;
	mesh.recorder = rt->recorder;
	mesh.metrics = rt->metrics;
	mesh.tracer = rt->tracer;
	if (r == 0)
		r = sn__mesh_create(&mesh, &rt->mesh);
	if (r == 0)
		r = sn__inbounds_create(rt, &rt->inbounds);
	return r;
}

/* What may fail and needs no turn of the loop to undo. */
static int core_open(struct sn_runtime *rt, const struct sn_options *opts, sn_paths_fn *paths,
		void *arg, struct sn_error *err)
{
	int r = sn__loop_uv_open(opts->mode == SN_MODE_UV ? opts->uv_loop : NULL, &rt->loop, err);

	if (r < 0)
		return r;
	sn__rng_seed(sn__loop_rng(rt->loop), rt->seed);
	r = sn__catalog_create(rt->loop, paths, arg, &rt->catalog);
	if (r == 0)
		r = mesh_open(rt, opts, paths, arg);
	if (r == 0)
		r = sn__requests_create(rt, &rt->requests);
	if (r == 0)
		r = sn__grpc_calls_create(rt, &rt->grpc_calls);
	if (r < 0)
		return sn__error_set(err, r, "cannot open the runtime: %s", sn_strerror(r));
	return 0;
}

int sn__runtime_create(const struct sn_options *opts, sn_paths_fn *paths, void *arg,
		struct sn_runtime **ret_rt, struct sn_error *err)
{
	struct sn_runtime *rt;
	int r;

	pthread_once(&fork_once, fork_register);
	if (fork_registered != 0)
		return sn__error_set(err, SN_E_NOMEM, "cannot watch for fork(): out of memory");
	rt = sn__calloc(1, sizeof(*rt));
	if (rt == NULL)
		return sn__error_set(err, SN_E_NOMEM, "cannot open the runtime: out of memory");
	r = locks_init(rt);
	if (r < 0) {
		sn__free(rt);
		return sn__error_set(err, r, "cannot open the runtime: out of memory");
	}
	rt->mode = opts->mode;
	sn__log_init(&rt->log, opts->log, opts->log_arg, opts->log_level, SN_LOG_PLAIN);
	rt->fork_generation = atomic_load(&fork_generation);
	rt->seed = opts->seed;
	rt->drain_ms = DRAIN_MS;
	sn_list_init(&rt->dialects);
	sn_list_init(&rt->monitors);
	sn_list_init(&rt->waiters);
	sn_list_init(&rt->servers);
	sn_list_init(&rt->lingering);
	sn_list_init(&rt->delayed);
	sn_list_init(&rt->sidecar_routes);
	sn_list_init(&rt->admin_routes);
	if (rt->seed == 0)
		r = sn__random_bytes(&rt->seed, sizeof(rt->seed));
	if (r == 0)
		r = core_open(rt, opts, paths, arg, err);
	if (r < 0) {
		sn__runtime_destroy(rt);
		return r;
	}
	*ret_rt = rt;
	return 0;
}

static void core_free(struct sn_runtime *rt)
{
	while (!sn_list_empty(&rt->dialects)) {
		struct sn_list *last = rt->dialects.prev;
		struct sn_dialect_part *dialect = SN_CONTAINER_OF(
				last, struct sn_dialect_part, link);

		sn_list_remove(last);
		dialect->ops->destroy(dialect);
	}
	sn__api_free(rt);
	sn__operations_destroy(rt->requests);
	sn__operations_destroy(rt->grpc_calls);
	sn__inbounds_destroy(rt->inbounds);
	sn__mesh_destroy(rt->mesh);
	sn__tracer_destroy(rt->tracer);
	sn__tls_cache_destroy(rt->tls_cache);
	sn__recorder_destroy(rt->recorder);
	sn__metrics_destroy(rt->metrics);
	sn__policies_destroy(rt->policies);
	sn__catalog_destroy(rt->catalog);
}

void sn__runtime_destroy(struct sn_runtime *rt)
{
	core_free(rt);
	if (rt->loop != NULL)
		sn__loop_close(rt->loop, NULL, NULL);
	memory_free(rt);
}

void sn__runtime_attach(struct sn_runtime *rt, struct sn_dialect_part *dialect,
		const struct sn_part_ops *ops, bool unready)
{
	dialect->ops = ops;
	dialect->rt = rt;
	sn_list_push_back(&rt->dialects, &dialect->link);
	rt->unready += unready;
}

struct sn_dialect_part *sn__runtime_dialect(const struct sn_runtime *rt, const char *name)
{
	SN_LIST_FOREACH (pos, &rt->dialects) {
		struct sn_dialect_part *dialect = SN_CONTAINER_OF(
				pos, struct sn_dialect_part, link);

		if (strcmp(dialect->ops->name, name) == 0)
			return dialect;
	}
	return NULL;
}

static void *thread_main(void *arg)
{
	struct sn_runtime *rt = arg;

	sn__loop_adopt(rt->loop);
	pthread_mutex_lock(&rt->lock);
	rt->adopted = true;
	pthread_cond_broadcast(&rt->changed);
	pthread_mutex_unlock(&rt->lock);
	sn__loop_hold(rt->loop, true);
	while (!rt->finished)
		sn__loop_run(rt->loop, SN_RUN_DEFAULT);
	sn__loop_hold(rt->loop, false);
	core_free(rt);
	sn__loop_close(rt->loop, NULL, NULL);
	return NULL;
}

/* The host's signals are the host's: the thread starts with all of them blocked. */
static int thread_start(struct sn_runtime *rt, struct sn_error *err)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&rt->thread, NULL, thread_main, rt);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return sn__error_set(
				err, SN_E_LIMIT, "cannot start the loop's thread: errno %d", r);
	pthread_setname_np(rt->thread, "sinew-loop");
	/* From here on it is the loop's thread, not we: nobody may still take us for it. */
	pthread_mutex_lock(&rt->lock);
	while (!rt->adopted)
		pthread_cond_wait(&rt->changed, &rt->lock);
	pthread_mutex_unlock(&rt->lock);
	return 0;
}

int sn__runtime_start(struct sn_runtime *rt, struct sn_error *err)
{
	int r = sn__http_pool_create(rt->loop, NULL, &rt->pool);

	if (r < 0)
		return sn__error_set(err, r, "cannot open the runtime: %s", sn_strerror(r));
	r = sn__tracer_start(rt->tracer, rt->pool);
	if (r < 0)
		(void)sn__error_set(err, r, "cannot open the runtime: %s", sn_strerror(r));
	sn__inbounds_start(rt->inbounds);
	atomic_store(&rt->state, SN_RUNTIME_OPEN);
	if (rt->unready == 0)
		rt->ready = true;
	if (r == 0 && rt->mode == SN_MODE_THREAD)
		r = thread_start(rt, err);
	if (r < 0) {
		sn__http_pool_close(rt->pool, NULL, NULL);
		sn__loop_run(rt->loop, SN_RUN_NOWAIT);
	}
	return r;
}

void sn__runtime_ready(struct sn_runtime *rt)
{
	if (rt->unready == 0 || --rt->unready > 0)
		return;
	pthread_mutex_lock(&rt->lock);
	rt->ready = true;
	pthread_cond_broadcast(&rt->changed);
	pthread_mutex_unlock(&rt->lock);
}

/* ---- closing ---- */

static void stage_run(struct sn_task *task)
{
	struct sn_runtime *rt = SN_CONTAINER_OF(task, struct sn_runtime, stage_task);

	rt->stage(rt);
}

/* The next stage begins when every part of this one is closed; at the earliest in the next turn. */
static void stage_next(struct sn_runtime *rt, void (*stage)(struct sn_runtime *rt))
{
	rt->stage = stage;
	sn__runtime_part_closed(rt);
}

void sn__runtime_part_opened(struct sn_runtime *rt)
{
	rt->parts_open++;
}

static void part_closed(void *arg)
{
	sn__runtime_part_closed(arg);
}

void sn__runtime_part_closed(struct sn_runtime *rt)
{
	assert(rt->parts_open > 0);
	if (--rt->parts_open == 0)
		sn__loop_defer(rt->loop, &rt->stage_task, stage_run);
}

static void host_loop_closed(void *arg)
{
	struct sn_runtime *rt = arg;
	void (*done)(void *arg) = rt->done;
	void *done_arg = rt->done_arg;

	memory_free(rt);
	if (done != NULL)
		done(done_arg);
}

static void stage_finish(struct sn_runtime *rt)
{
	rt->finished = true;
	if (rt->mode != SN_MODE_UV) {
		sn__loop_stop(rt->loop);
		return;
	}
	core_free(rt);
	sn__loop_hold(rt->loop, false);
	sn__loop_close(rt->loop, host_loop_closed, rt);
}

static void stage_io(struct sn_runtime *rt)
{
	sn__runtime_part_opened(rt);
	sn__runtime_part_opened(rt);
	sn__http_pool_close(rt->pool, part_closed, rt);
	stage_next(rt, stage_finish);
}

/* Spans of the last calls, before the connections go. */
static void stage_flush(struct sn_runtime *rt)
{
	sn__runtime_part_opened(rt);
	sn__runtime_part_opened(rt);
	sn__tracer_close(rt->tracer, part_closed, rt);
	stage_next(rt, stage_io);
}

static void stage_post_run(struct sn_task *task)
{
	struct sn_runtime *rt = SN_CONTAINER_OF(task, struct sn_runtime, close_task);

	rt->stage(rt);
}

static void users_look_again(struct sn_timer *timer);

static void stage_users(struct sn_runtime *rt)
{
	if (atomic_load(&rt->users) != 0) {
		sn__timer_start(rt->loop, &rt->users_timer, SN_NS_PER_MS, users_look_again);
		return;
	}
	/* What they posted before they left stands in the queue before this. */
	rt->stage = stage_flush;
	sn__loop_post(rt->loop, &rt->close_task, stage_post_run);
}

static void users_look_again(struct sn_timer *timer)
{
	stage_users(SN_CONTAINER_OF(timer, struct sn_runtime, users_timer));
}

static void close_run(struct sn_task *task)
{
	struct sn_runtime *rt = SN_CONTAINER_OF(task, struct sn_runtime, close_task);

	sn__drain_stop(rt);
	sn__runtime_part_opened(rt);
	SN_LIST_FOREACH (pos, &rt->dialects) {
		struct sn_dialect_part *dialect = SN_CONTAINER_OF(
				pos, struct sn_dialect_part, link);

		sn__runtime_part_opened(rt);
		dialect->ops->close(dialect);
	}
	sn__api_close(rt); /* monitors, servers, delayed functions */
	sn__runtime_part_opened(rt);
	sn__mesh_close(rt->mesh, part_closed, rt);
	stage_next(rt, stage_users);
}

/* In a child after fork(): the loop's thread does not exist here and may have stood anywhere, so
 * its structures cannot be walked. Descriptors are closed, nothing is written. */
static int close_forked(struct sn_runtime *rt)
{
	sn__loop_abandon(rt->loop);
	sn__free(rt);
	return 0;
}

static int close_foreign(struct sn_runtime *rt)
{
	while (!rt->finished)
		sn__loop_run(rt->loop, SN_RUN_ONCE);
	sn__runtime_destroy(rt);
	return 0;
}

int sn_close(struct sn_runtime *rt, void (*done)(void *arg), void *arg)
{
	int open = SN_RUNTIME_OPEN;

	if (is_forked(rt))
		return close_forked(rt);
	if (rt->mode == SN_MODE_THREAD ? sn__loop_is_here(rt->loop) : rt->stepping)
		return SN_E_DEADLK;
	if (!atomic_compare_exchange_strong(&rt->state, &open, SN_RUNTIME_CLOSING))
		return SN_E_STATE;
	rt->done = done;
	rt->done_arg = arg;
	pthread_mutex_lock(&rt->lock);
	pthread_cond_broadcast(&rt->changed);
	pthread_mutex_unlock(&rt->lock);
	if (rt->mode == SN_MODE_UV)
		sn__loop_hold(rt->loop, true); /* the host's loop must not end before we have */
	sn__loop_post(rt->loop, &rt->close_task, close_run);
	if (rt->mode == SN_MODE_UV)
		return 0;
	if (rt->mode == SN_MODE_FOREIGN)
		return close_foreign(rt);
	pthread_join(rt->thread, NULL);
	memory_free(rt);
	if (done != NULL)
		done(arg);
	return 0;
}

/* ---- foreign loops ---- */

int sn_runtime_fd(struct sn_runtime *rt)
{
	if (is_forked(rt))
		return SN_E_FORKED;
	if (rt->mode != SN_MODE_FOREIGN)
		return SN_E_STATE;
	return sn__loop_fd(rt->loop);
}

int sn_runtime_timeout(struct sn_runtime *rt)
{
	if (is_forked(rt))
		return SN_E_FORKED;
	if (rt->mode != SN_MODE_FOREIGN)
		return SN_E_STATE;
	return sn__loop_timeout_ms(rt->loop);
}

int sn_runtime_step(struct sn_runtime *rt)
{
	if (is_forked(rt))
		return SN_E_FORKED;
	if (rt->mode != SN_MODE_FOREIGN || rt->stepping)
		return SN_E_STATE;
	if (!sn__loop_is_here(rt->loop))
		sn__loop_adopt(rt->loop);
	rt->stepping = true;
	sn__loop_run(rt->loop, SN_RUN_NOWAIT);
	rt->stepping = false;
	return 0;
}

/* ---- blocking twins ---- */

int sn__wait_init(struct sn_wait *w, struct sn_runtime *rt)
{
	pthread_condattr_t attr;

	if (rt->mode != SN_MODE_THREAD || sn__loop_is_here(rt->loop))
		return SN_E_DEADLK;
	*w = (struct sn_wait){.rt = rt};
	if (pthread_condattr_init(&attr) != 0)
		return SN_E_NOMEM;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (pthread_cond_init(&w->cond, &attr) != 0) {
		pthread_condattr_destroy(&attr);
		return SN_E_NOMEM;
	}
	pthread_condattr_destroy(&attr);
	if (pthread_mutex_init(&w->lock, NULL) != 0) {
		pthread_cond_destroy(&w->cond);
		return SN_E_NOMEM;
	}
	return 0;
}

void sn__wait_finish(struct sn_wait *w)
{
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->cond);
}

void sn__wait_wake(struct sn_wait *w)
{
	pthread_mutex_lock(&w->lock);
	w->woken = true;
	pthread_cond_signal(&w->cond);
	/* Under the lock: as soon as it is free the waiter may take its stack back. */
	pthread_mutex_unlock(&w->lock);
}

static void due_in(uint64_t timeout_ms, struct timespec *ret_due)
{
	uint64_t due_ns = sn_time_add(sn__clock_mono_ns(), sn_ms_to_ns(timeout_ms));

	if (due_ns / SN_NS_PER_S > INT32_MAX) /* for ever, and every time_t can hold it */
		due_ns = (uint64_t)INT32_MAX * SN_NS_PER_S;
	ret_due->tv_sec = (time_t)(due_ns / SN_NS_PER_S);
	ret_due->tv_nsec = (long)(due_ns % SN_NS_PER_S);
}

bool sn__wait_for(struct sn_wait *w, uint64_t timeout_ms)
{
	struct timespec due;
	bool woken;

	due_in(timeout_ms, &due);
	pthread_mutex_lock(&w->lock);
	while (!w->woken && pthread_cond_timedwait(&w->cond, &w->lock, &due) != ETIMEDOUT)
		;
	woken = w->woken;
	pthread_mutex_unlock(&w->lock);
	return woken;
}

int sn_wait_ready(struct sn_runtime *rt, uint32_t timeout_ms)
{
	struct timespec due;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	due_in(timeout_ms, &due);
	pthread_mutex_lock(&rt->lock);
	if (!rt->ready && (rt->mode != SN_MODE_THREAD || sn__loop_is_here(rt->loop)))
		r = SN_E_DEADLK;
	while (!rt->ready && r == 0) {
		if (atomic_load(&rt->state) == SN_RUNTIME_CLOSING)
			r = SN_E_CLOSED;
		else if (pthread_cond_timedwait(&rt->changed, &rt->lock, &due) == ETIMEDOUT)
			r = rt->ready ? 0 : SN_E_TIMEOUT;
	}
	pthread_mutex_unlock(&rt->lock);
	sn__leave(rt);
	return r;
}
