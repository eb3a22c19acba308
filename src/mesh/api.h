/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_API_H
#define SN_SRC_MESH_API_H

/* Internal. What the public calls share: targets by name, monitors, servers, the end of them. */

#include "io/http_server.h"
#include "mesh/catalog.h"
#include "mesh/runtime.h"

/* A public target, checked: texts are the caller's. */
struct sn_api_target {
	struct sn_str kind, name, endpoint; /* each with a NUL behind it; kind: a constant */
};
#define SN_TARGET_NAME_MAX 255 /* bytes of each part */

/** Check (kind, name, endpoint) as sinew/mesh.h describes them. SN_E_INVALID with one sentence. */
SN_MUST_USE int sn__api_target(const char *kind, const char *name,
		const char *endpoint /* may be NULL */, struct sn_api_target *ret_name,
		struct sn_error *err);

/** sn__enter(), then the target with this name, made when missing. On success sn__leave() is due. */
SN_MUST_USE int sn__enter_target(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, struct sn_target **ret_target);

/** What every monitor has; the head of each kind's own object. */
struct sn_monitor;
struct sn_monitor_ops {
	/** Loop thread. Begin; the present value is told in a later turn. */
	void (*start)(struct sn_monitor *m);
	/** Loop thread. Nothing is told any more. Not called when start() never was. */
	void (*stop)(struct sn_monitor *m);
};
struct sn_monitor {
	const struct sn_monitor_ops *ops;
	struct sn_runtime *rt;
	struct sn_list link; /* in rt->monitors from start to end */
	struct sn_task start_task, stop_task;
	atomic_bool stopped; /* by the host: nothing may be told */
	bool running;
};
/** Start a copy of @like, the head of @size bytes, on the loop thread: at once when this is it. Any
 * thread; between enter and leave. SN_E_NOMEM. */
SN_MUST_USE int sn__monitor_open(struct sn_runtime *rt, const struct sn_monitor_ops *ops,
		const struct sn_monitor *like, size_t size, struct sn_monitor **ret_monitor);
static inline bool sn_monitor_silent(const struct sn_monitor *m)
{
	return atomic_load_explicit(&m->stopped, memory_order_acquire);
}

/* What a runtime knows about a server of the host's; the head of each kind's own object, and in the
 * slot of the HTTP server. */
struct sn_hosted {
	void (*closing)(struct sn_hosted *h); /* it stops accepting; may be NULL */
	void (*free)(struct sn_hosted *h);    /* it is gone */
	/* Loop thread: whether readiness waits for something of it, and one sentence for what, in
	 * SN_PART_MISSING_MAX bytes; may be NULL: never. */
	bool (*missing)(struct sn_hosted *h, char *out);
	struct sn_runtime *rt;
	struct sn_http_server *server;
	struct sn_list link; /* in rt->servers until it is gone */
	struct sn_task close_task;
	uint32_t grace_ms;
	bool stays; /* while the runtime drains: for who looks at it */
	bool is_closing;
	bool draining; /* is_closing, with the runtime's patience */
	bool awaited;  /* by the runtime's closing */
};
/* How to open one. */
struct sn_hosting {
	const char *listen, *tls_cert, *tls_key, *tls_ca; /* as struct sn_http_server_options */
	struct sn_http_server_config config;              /* addr and tls are filled in */
	sn_http_handler_fn *handler;
	void *arg;
	/** Loop thread. Make the object, with `free`; may still change what is above. NULL: the head is
	 * all there is of it. */
	int (*make)(struct sn_hosting *how, struct sn_hosted **ret_hosted, struct sn_error *err);
	bool ask_client_cert; /* of clients: tls_ca verifies one that is given, and none is demanded */
	bool inbound;         /* its requests are traced and counted (sinew/inbound.h) */
	struct sn_runtime *rt; /* filled in before make() */
};
/** As sn_http_server_open(), between enter and leave. */
SN_MUST_USE int sn__hosted_open(struct sn_runtime *rt, struct sn_hosting *how,
		struct sn_hosted **ret_hosted, struct sn_error *err);
/** Whether the request has "Authorization: Bearer @token"; in constant time. */
bool sn__bearer_fits(const struct sn_exchange *x, const char *token);
/** As sn_http_server_close(). */
void sn__hosted_close(struct sn_hosted *h, uint32_t grace_ms);

struct sn_grpc_server;
struct sn_http_server *sn__grpc_server_http(struct sn_grpc_server *server);
/** A generator of random numbers: the loop's on its thread, else one of the calling thread's. */
struct sn_rng *sn__api_rng(struct sn_runtime *rt);

/** The public view of a catalog entry; texts live as long as its version. */
void sn__peer_info(const struct sn_peer *peer, struct sn_peer_info *ret_info);

/** First stage of closing: monitors, delayed functions, waiting threads, the host's servers. */
void sn__api_close(struct sn_runtime *rt);
/** Last stage: what is left of them. */
void sn__api_free(struct sn_runtime *rt);
void sn__api_peers_close(struct sn_runtime *rt);   /* api_peers.c */
void sn__api_servers_close(struct sn_runtime *rt); /* api_server.c */
/** Servers that do not stay stop accepting. */
void sn__api_servers_drain(struct sn_runtime *rt);

#endif
