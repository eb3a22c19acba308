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
	uint64_t max_body;        /* bytes; 0: no limit */
	unsigned max_connections; /* 0: 10000 */
	uint32_t idle_ms;         /* 0: 60000 */
};
/** Listen on @rt until it closes; open calls are cancelled then. Threads and results as
 * sn__admin_listen(). */
SN_MUST_USE int sn__sidecar_listen(
		struct sn_runtime *rt, const struct sn_sidecar_options *opts, struct sn_error *err);

#endif
