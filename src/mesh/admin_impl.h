/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_ADMIN_IMPL_H
#define SN_SRC_MESH_ADMIN_IMPL_H

/* Internal. What the files of the admin API share. Loop thread. */

#include "mesh/admin_api.h"
#include "mesh/admin_path.h"
#include "mesh/api.h"

#define SN_ADMIN_BODY_MAX (64u << 10) /* of a request that changes something */

struct sn_admin {
	struct sn_hosted hosted;
	struct sn_runtime *rt;
	char *name, *token;     /* token NULL: none is asked for */
	char *config, *origins; /* JSON texts, redacted */
	bool loopback;          /* also a Unix socket */
	bool local;             /* a Unix socket */
};

/* ---- answers ---- */

void sn__admin_text(struct sn_exchange *x, unsigned status, const char *type, struct sn_str text);
/** Takes the reference; NULL: out of memory. */
void sn__admin_json(struct sn_exchange *x, unsigned status, json_t *doc);
/** A problem document (RFC 9457) for a result; @err NULL: its own sentence. */
void sn__admin_error(struct sn_exchange *x, int code, const struct sn_error *err);

extern const char sn__admin_console[]; /* admin_console.c: an HTML page */

/* ---- routes (admin_mesh.c, admin_why.c) ---- */

void sn__admin_get_peers(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req);
void sn__admin_get_policies(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req);
void sn__admin_get_breakers(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req);
void sn__admin_get_targets(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req);
void sn__admin_get_why(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req);
/** The body of PUT /breakers/...: {"state": "open|close|auto", "peer": "IDENTITY"}. */
SN_MUST_USE int sn__admin_force(struct sn_admin *a, const struct sn_admin_request *req,
		struct sn_str body, struct sn_error *err);

#endif
