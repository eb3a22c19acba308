/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_RUNTIME_H
#define SN_RUNTIME_H

#ifndef SN_UNSTABLE
#error "sinew/runtime.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/base.h>
#include <sinew/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A runtime: one loop with everything that runs on it (catalog, policies, connections, the link to
 * the agent). A process may have several.
 *
 * Threads the library makes, all with every signal blocked: own-thread mode: the loop thread
 * ("sinew-loop"); host-loop and foreign-loop mode: none. In every mode libuv's pool ("libuv-worker",
 * at most 4 unless UV_THREADPOOL_SIZE says otherwise) appears when the first large agent message or
 * file is worked on off the loop.
 *
 * A guest: no signal handler is installed, no signal reaches the host (writes use MSG_NOSIGNAL), no
 * child process is made or reaped. After fork() every handle is dead in the child: calls return
 * SN_E_FORKED, and sn_close() closes descriptors without a word on the wire (what the loop's thread
 * was just making when fork() was called stays behind); most of the memory stays the child's.
 */
struct sn_runtime;
struct uv_loop_s;

enum sn_mode {
	SN_MODE_THREAD = 0, /* the library's own thread runs the loop; _wait calls work */
	SN_MODE_UV = 1, /* inside the host's libuv loop (options.uv_loop), which the host runs */
	SN_MODE_FOREIGN = 2, /* any other loop: sn_runtime_fd(), sn_runtime_timeout(),
	                      * sn_runtime_step() */
};

enum sn_log_level { SN_LOG_ERROR, SN_LOG_WARNING, SN_LOG_INFO, SN_LOG_DEBUG };
/** One line, without newline; any thread of the library, one at a time. */
typedef void sn_log_fn(enum sn_log_level level, const char *line, void *arg);
/** Draining, which somebody asked the admin API for. @over false: it has begun, servers accept no more;
 * true: what was under way has ended, or had its time (limits.drain-timeout), and the host closes.
 * The loop's thread; must not block. */
typedef void sn_drain_fn(struct sn_runtime *rt, bool over, void *arg);

struct sn_options {
	size_t size; /* sizeof(struct sn_options) */
	enum sn_mode mode;
	struct uv_loop_s *uv_loop; /* SN_MODE_UV */
	const char *config; /* path of a YAML file (sections agent, peers, policies, ...); NULL:
	                            * none */
	const char *config_text; /* the same as text; NULL: none */
	const char *agent;       /* agent URL, ws://host:port/TASK; NULL: from config, else from
	                            * BERLIOZ_AGENT_PATH; "" : none */
	const char *state_dir;   /* keeps the last good metadata across restarts; NULL: none */
	sn_log_fn *log;          /* NULL: silent */
	void *log_arg;
	enum sn_log_level log_level; /* least important level that is passed on */
	uint64_t seed;               /* of the runtime's random numbers; 0: from the kernel */
	const char *record_dir; /* existing directory for the flight recorder's file, which `sinew
	                            * why` reads; NULL: state_dir */
	bool no_listen; /* leave out the configuration's section `listen`: for tools that use the
	                 * file of a program that runs */
	sn_log_fn *access; /* one JSON line for each request through the sidecar, as the configuration's
	                    * log.access asks; the loop's thread, must not block; NULL: none */
	void *access_arg;
	sn_drain_fn *drain; /* NULL: the admin API refuses POST /drain */
	void *drain_arg;
};
#define SN_OPTIONS_INIT \
	{ \
		.size = sizeof(struct sn_options), .log_level = SN_LOG_INFO \
	}

/**
 * Open a runtime. @opts may be NULL (all defaults: own thread, agent from the environment). Returns
 * at once; the agent may come later (look-ups are empty until its first message). SN_E_INVALID
 * (options, configuration: *ret_error says file:line:column), SN_E_NOMEM, SN_E_LIMIT, SN_E_IO.
 * @ret_error: owned by the caller; may be NULL. Any thread.
 */
SN_API SN_MUST_USE int sn_open(const struct sn_options *opts, struct sn_runtime **ret_rt,
		struct sn_error **ret_error);

/**
 * Close: open calls complete with SN_E_CLOSED, monitors stop, connections close, memory is freed.
 * Own-thread mode: returns when all that has happened; must not be called on the loop thread
 * (SN_E_DEADLK). SN_MODE_UV: @done (may be NULL) is called on the loop when the last handle is gone;
 * keep running the loop until then. SN_MODE_FOREIGN: done before return.
 */
SN_API int sn_close(struct sn_runtime *rt, void (*done)(void *arg), void *arg);

/** SN_MODE_FOREIGN: a descriptor that polls readable when sn_runtime_step() has work. */
SN_API SN_MUST_USE int sn_runtime_fd(struct sn_runtime *rt);
/** SN_MODE_FOREIGN: milliseconds until sn_runtime_step() must be called anyway; -1: no limit. */
SN_API int sn_runtime_timeout(struct sn_runtime *rt);
/** SN_MODE_FOREIGN: do what is ready; never blocks. The calling thread is the loop thread. */
SN_API int sn_runtime_step(struct sn_runtime *rt);

/** Run @fn on the loop thread, in a later turn. Any thread. SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED. */
SN_API SN_MUST_USE int sn_post(
		struct sn_runtime *rt, void (*fn)(struct sn_runtime *rt, void *arg), void *arg);
/** Run @fn once after @delay_ms, on the loop thread. Any thread. Errors as sn_post(). */
SN_API SN_MUST_USE int sn_after(struct sn_runtime *rt, uint32_t delay_ms,
		void (*fn)(struct sn_runtime *rt, void *arg), void *arg);

/**
 * Block until the agent's first message (or the static peers of the configuration) has been
 * applied, at most @timeout_ms. SN_E_TIMEOUT, SN_E_DEADLK, SN_E_FORKED, SN_E_CLOSED.
 */
SN_API SN_MUST_USE int sn_wait_ready(struct sn_runtime *rt, uint32_t timeout_ms);

#ifdef __cplusplus
}
#endif
#endif /* SN_RUNTIME_H */
