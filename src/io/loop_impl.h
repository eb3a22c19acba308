/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_LOOP_IMPL_H
#define SN_SRC_IO_LOOP_IMPL_H

/* Internal, for the loop's back ends only: what they share and what they provide. */

#include <stdatomic.h>

#include "io/resolve.h"
#include "io/stream.h"
#include "io/timer.h"

/* A back end. Every slot is set; loop thread unless noted. */
struct sn_loop_ops {
	bool (*run)(struct sn_loop *loop, enum sn_run mode);
	void (*stop)(struct sn_loop *loop);
	void (*hold)(struct sn_loop *loop, bool hold);
	int (*fd)(struct sn_loop *loop);
	int (*timeout_ms)(struct sn_loop *loop);
	void (*close)(struct sn_loop *loop, void (*done)(void *arg), void *arg);
	void (*abandon)(struct sn_loop *loop);
	/** A post is waiting. Any thread. */
	void (*wake)(struct sn_loop *loop);
	/** Something was started outside a turn: a turn must follow soon. */
	void (*kick)(struct sn_loop *loop);
	uint64_t (*clock_ns)(struct sn_loop *loop);
	uint64_t (*wall_ns)(struct sn_loop *loop);
	int (*work)(struct sn_loop *loop, struct sn_job *job);
	int (*poll_open)(struct sn_loop *loop, int fd, sn_poll_fn *fn, void *arg,
			struct sn_poll **ret_poll);
	void (*poll_want)(struct sn_poll *poll, unsigned events);
	void (*poll_close)(struct sn_poll *poll);
	int (*connect)(struct sn_loop *loop, const struct sn_addr *addr, sn_stream_fn *fn,
			void *arg, struct sn_stream **ret_stream, struct sn_error *err);
	int (*listen)(struct sn_loop *loop, const struct sn_addr *addr,
			const struct sn_listen_options *opts, sn_accept_fn *fn, void *arg,
			struct sn_listener **ret_listener, struct sn_error *err);
	void (*listener_pause)(struct sn_listener *l, bool pause);
	void (*listener_close)(struct sn_listener *l);
	/** Ask for @host; sets op->query; ends with sn__resolve_done(). SN_E_NOMEM. */
	int (*query)(struct sn_resolve *op, const char *host);
	/** Forget op->query: op is not touched any more. */
	void (*query_cancel)(struct sn_resolve *op);
	/** Ask for records of @name; sets q->query; ends with sn__dns_query_done(). SN_E_NOMEM. */
	int (*dns)(struct sn_dns_query *q, const char *name, unsigned type);
	/** Forget q->query: q is not touched any more. */
	void (*dns_cancel)(struct sn_dns_query *q);
};

/* The common part; a back end's own follows it in memory. */
struct sn_loop {
	const struct sn_loop_ops *ops;
	uint64_t now_ns; /* of this turn */
	uint64_t turn;
	bool in_turn;
	struct sn_wheel wheel;
	struct sn_rng rng;
	struct sn_list tasks;            /* sn_task.link, deferred */
	struct sn_list hooks;            /* sn_hook.link */
	struct sn_list *hook_at;         /* the next hook to run */
	_Atomic(struct sn_task *) posts; /* newest first */
	_Atomic uintptr_t owner;         /* the thread */
	bool system_resolver;
	char ares_config[SN_RESOLVER_SERVERS_MAX +
			1];   /* "": /etc/resolv.conf; a path; or servers */
	struct sn_ares *ares; /* NULL until the first query */
};

struct sn_poll {
	struct sn_loop *loop;
	sn_poll_fn *fn;
	void *arg;
};

struct sn_listener {
	struct sn_loop *loop;
	sn_accept_fn *fn;
	void *arg;
	struct sn_addr addr;
};

void sn__loop_init(struct sn_loop *loop, const struct sn_loop_ops *ops, uint64_t now_ns,
		uint64_t seed);

/* A turn: begin (harmless inside one), any events, posts and tasks, end (runs the hooks). Between
 * begin and end the thread is inside one RCU read section. */
void sn__turn_begin(struct sn_loop *loop);
void sn__turn_posts(struct sn_loop *loop);
/** The tasks deferred so far; what they defer waits for the next turn. */
void sn__turn_tasks(struct sn_loop *loop);
void sn__turn_end(struct sn_loop *loop);

static inline bool sn_loop_has_posts(struct sn_loop *loop)
{
	return atomic_load_explicit(&loop->posts, memory_order_acquire) != NULL;
}

/** The answer to ops->query, from anywhere on the loop's thread: op->fn is called in the next turn.
 * The families of @addrs are put in turns and the port is set here; what is too much is left out. */
void sn__resolve_done(struct sn_resolve *op, int status, const char *detail,
		const struct sn_addr *addrs, unsigned n_addrs, uint32_t ttl_s);

/** The answer to ops->dns, likewise; @answer is copied. */
void sn__dns_query_done(
		struct sn_dns_query *q, int status, const char *detail, struct sn_str answer);

/* resolve_ares.c, for back ends that have sn_poll */
int sn__ares_dns(struct sn_dns_query *q, const char *name, unsigned type);
void sn__ares_dns_cancel(struct sn_dns_query *q);
int sn__ares_query(struct sn_resolve *op, const char *host);
void sn__ares_query_cancel(struct sn_resolve *op);
/** Queries from now on are made anew from ares_config. */
void sn__ares_reset(struct sn_loop *loop);
/** Before the loop closes. */
void sn__ares_finish(struct sn_loop *loop);
/** In a child after fork(): closes sockets, leaves memory. */
void sn__ares_abandon(struct sn_loop *loop);
/* resolve_system.c */
int sn__system_query(struct sn_resolve *op, const char *host);
void sn__system_query_cancel(struct sn_resolve *op);

#endif
