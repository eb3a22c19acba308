/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_SIDECAR_H
#define SN_SRC_MESH_SIDECAR_H

/*
 * Internal. The sidecar: programs in any language reach the mesh over HTTP on loopback or a Unix
 * socket. docs/sidecar.md has the routes. Bodies are streamed both ways: what is kept is what a retry
 * may need (policy retry-buffer) and a bounded window. Loop thread.
 */

#include "mesh/runtime.h"

struct sn_sidecar_options {
	const char *listen;       /* as sn__addr_parse_listen() reads it */
	const char *token;        /* asked for as "Authorization: Bearer TOKEN"; NULL: none */
	const char *const *hosts; /* as struct sn_http_server_config; may be NULL */
	size_t max_head;          /* bytes; 0: 64 KiB */
	uint64_t max_body;        /* bytes; 0: no limit */
	unsigned max_connections; /* 0: 10000 */
	uint32_t idle_ms;         /* 0: 60000 */
};
/** Listen on @rt until it closes; open calls are cancelled then. Threads and results as
 * sn__admin_listen(). */
SN_MUST_USE int sn__sidecar_listen(
		struct sn_runtime *rt, const struct sn_sidecar_options *opts, struct sn_error *err);

/* Further requests of the sidecar's clients, served by a floor above. */
struct sn_sidecar;
struct sn_exchange;
struct sn_sidecar_route {
	struct sn_list link; /* rt->sidecar_routes */
	const char *prefix;  /* of the path: "/database/" */
	/** Answer @x, who has shown the token. sidecar_impl.h has what helps. */
	void (*handle)(struct sn_sidecar_route *route, struct sn_sidecar *side,
			struct sn_exchange *x);
};
/** Before the runtime starts. The route must stay until the runtime's parts are destroyed. */
void sn__sidecar_route_add(struct sn_runtime *rt, struct sn_sidecar_route *route);

#endif
