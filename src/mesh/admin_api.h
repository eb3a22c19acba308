/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_ADMIN_API_H
#define SN_SRC_MESH_ADMIN_API_H

/*
 * Internal. What a runtime tells and lets be changed over HTTP: health, metrics, peers, policies,
 * breakers, the stories of calls. docs/admin.md has the routes. Loop thread.
 *
 * On a Unix socket (mode 0600; only our own user and root get in) everything is open unless a token
 * is set; then what changes something needs it, as "Authorization: Bearer TOKEN". Over TCP on loopback
 * GETs are open and changes need the token (without one they are refused); off loopback everything
 * needs it.
 */

#include <jansson.h>

#include "io/http_server.h"
#include "mesh/runtime.h"

struct sn_admin_options {
	const char *listen;       /* as sn__addr_parse_listen() reads it */
	const char *token;        /* NULL: none is asked for */
	const char *name;         /* of the instance */
	const char *const *hosts; /* as struct sn_http_server_config; may be NULL */
	json_t *config;           /* the file, secrets still in; NULL: none */
	json_t *origins; /* where each value comes from (sn__config_origins()); NULL: none */
};
/** Listen on @rt until it closes. @opts is copied. On the loop thread, while the runtime is set up, or
 * from another thread in own-thread mode, between enter and leave. SN_E_INVALID (also: off loopback
 * without a token), SN_E_EXISTS (address
 * in use), SN_E_IO, SN_E_NOMEM. */
SN_MUST_USE int sn__admin_listen(
		struct sn_runtime *rt, const struct sn_admin_options *opts, struct sn_error *err);

/* Further things to look at, told by a floor above. */
struct sn_admin_route {
	struct sn_list link; /* rt->admin_routes */
	const char *path;    /* "/hub": it, and what begins with it and a '/' */
	/** Answer @x: a GET or HEAD of somebody who may ask. admin_impl.h has what helps. */
	void (*handle)(struct sn_admin_route *route, struct sn_exchange *x);
};
/** Before the runtime starts. The route must stay until the runtime's parts are destroyed. */
void sn__admin_route_add(struct sn_runtime *rt, struct sn_admin_route *route);

#endif
