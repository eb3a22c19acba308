/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_SIDECAR_IMPL_H
#define SN_SRC_MESH_SIDECAR_IMPL_H

/* Internal. What the files of the sidecar share. Loop thread. */

#include "mesh/api.h"
#include "mesh/proxy.h"
#include "mesh/sidecar.h"
#include "mesh/sidecar_path.h"

#define SN_WATCHES_MAX 1000 /* of one sidecar */

struct sn_sidecar {
	struct sn_hosted hosted;
	struct sn_proxy_pool pool;
	struct sn_runtime *rt;
	char *token;
	struct sn_list watches;
	unsigned n_watches;
};

/** Deadline and trace that a request came with, and what may be sent again. */
void sn__sidecar_context(
		struct sn_exchange *x, struct sn_context *ret_context, enum sn_retry *ret_retry);

/* ---- the access log (sidecar_log.c) ---- */

struct sn_sidecar_entry {
	struct sn_str method, path; /* a query is left out */
	const char *target, *peer, *call;
	unsigned status, attempts;
	uint64_t duration_ns, n_in, n_out; /* bytes of the bodies */
	int code;                          /* why it failed; 0: it did not */
};
/** Write a line of it, or not. */
void sn__sidecar_tell(struct sn_sidecar *side, const struct sn_sidecar_entry *entry);
/** Refuse a request that is no call (yet), and tell it. */
void sn__sidecar_refuse(struct sn_sidecar *side, struct sn_exchange *x, unsigned status,
		const char *detail);
/** Tell of a request that was answered here. */
void sn__sidecar_answered(struct sn_sidecar *side, struct sn_exchange *x, unsigned status);

/** A target by its place; *err says what is wrong. */
SN_MUST_USE int sn__sidecar_target(const struct sn_side_place *p, struct sn_api_target *ret_target,
		struct sn_error *err);

/* ---- /peers (sidecar_peers.c) ---- */

/** @path: behind /peers. Answers. */
void sn__sidecar_peers(struct sn_sidecar *side, struct sn_exchange *x, const char *path);
/** Every watch comes to its end. */
void sn__sidecar_unwatch(struct sn_sidecar *side);

#endif
