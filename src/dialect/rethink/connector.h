/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_RETHINK_CONNECTOR_H
#define SN_SRC_RETHINK_CONNECTOR_H

/*
 * Internal to the registry connector. registry_connector.c makes requests of messages and messages
 * of replies; it knows HTTP only as a table of three functions (sinew/rethink.h). request_loop.c
 * and request_thread.c are the tables of ours: they try again, balance and break themselves.
 * request_table.c stands before every table: it makes the attempts where the table is a host's, and
 * brings its answers to the loop's thread.
 *
 * Loop thread, unless a function says otherwise.
 */

#include <stdatomic.h>

#include <sinew/rethink.h>
#include "base/list.h"
#include "dialect/rethink/config.h"
#include "io/loop.h"
#include "io/tls.h"
#include "mesh/runtime.h"

/* ---- registry_connector.c ---- */

/** sn_rethink_close() for a part of the runtime, which is closing already. Loop thread; @done follows in
 * a later turn. */
void sn__rethink_close(struct sn_rethink *c, void (*done)(void *arg), void *arg);

/* ---- request_loop.c ---- */

struct sn_rethink_loop;
extern const struct sn_rethink_shim sn__rethink_loop_shim; /* host: struct sn_rethink_loop */
/** @config is borrowed until closing is done. Any thread. SN_E_NOMEM, SN_E_INVALID. */
SN_MUST_USE int sn__rethink_loop_create(struct sn_runtime *rt,
		const struct sn_rethink_config *config, struct sn_rethink_loop **ret_l,
		struct sn_error *err);
/** The replicas become peers, at the latest with the first request. What fails is told by requests. */
void sn__rethink_loop_start(struct sn_rethink_loop *l);
/** Requests end with an error; then it is freed and @done called, in a later turn. */
void sn__rethink_loop_close(struct sn_rethink_loop *l, void (*done)(void *arg), void *arg);
/** Of one that was never started. Any thread. */
void sn__rethink_loop_destroy(struct sn_rethink_loop *l /* may be NULL */);

/* ---- request_thread.c ---- */

struct sn_rethink_thread;
extern const struct sn_rethink_shim sn__rethink_thread_shim; /* host: struct sn_rethink_thread */
/** A runtime with a thread of its own. Any thread. What sn_open() returns. */
SN_MUST_USE int sn__rethink_thread_open(struct sn_rethink_thread **ret_t, struct sn_error *err);
struct sn_runtime *sn__rethink_thread_runtime(struct sn_rethink_thread *t);
/** Whose requests its table makes. */
void sn__rethink_thread_use(struct sn_rethink_thread *t, struct sn_rethink_loop *l);
/** Not on its own thread. */
void sn__rethink_thread_close(struct sn_rethink_thread *t /* may be NULL */);

/* ---- request_table.c ---- */

struct sn_rethink_table {
	struct sn_runtime *rt;
	const struct sn_rethink_config *config;
	const struct sn_rethink_shim *shim;
	void *host;
	bool foreign;        /* a host's: attempts are made here */
	struct sn_list asks; /* sn_rethink_ask.link */
	unsigned n_held;     /* answers of a host that are due to nobody */
	unsigned next_base;  /* the base URL to begin with */
	bool closing;
	void (*idle)(void *arg); /* closing: nothing is under way any more */
	void *idle_arg;
};

struct sn_rethink_ask;
typedef void sn_rethink_ask_fn(struct sn_rethink_ask *ask, const struct sn_rethink_reply *reply);
/* One request: embedded in an operation. */
struct sn_rethink_ask {
	/* filled by the caller; slices have a NUL behind them and live until fn */
	enum sn_rethink_method method;
	struct sn_str path, body;
	sn_rethink_ask_fn *fn;
	/* private */
	struct sn_rethink_table *table;
	struct sn_list link;
	struct sn_buf url;
	struct sn_rethink_held *held; /* a host's answer is due */
	struct sn_timer timer;
	struct sn_task task;
	unsigned attempt, base;
	const char *error;
};
void sn__rethink_ask_init(struct sn_rethink_ask *ask);
void sn__rethink_ask_finish(struct sn_rethink_ask *ask);

void sn__rethink_table_init(struct sn_rethink_table *t, struct sn_runtime *rt,
		const struct sn_rethink_config *config);
/** ask->fn follows exactly once, never inside. */
void sn__rethink_ask(struct sn_rethink_table *t, struct sn_rethink_ask *ask);
/** What is under way ends with an error; @idle in a later turn, when a host has answered all. (Those of
 * our own tables end with their closing.) */
void sn__rethink_table_close(struct sn_rethink_table *t, void (*idle)(void *arg), void *arg);

#endif
