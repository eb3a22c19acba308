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

/** A target by its place; *err says what is wrong. */
SN_MUST_USE int sn__sidecar_target(
		const struct sn_place *p, struct sn_api_target *ret_target, struct sn_error *err);

/* ---- /peers (sidecar_peers.c) ---- */

/** @path: behind /peers. Answers. */
void sn__sidecar_peers(struct sn_sidecar *side, struct sn_exchange *x, const char *path);
/** Every watch comes to its end. */
void sn__sidecar_unwatch(struct sn_sidecar *side);

#endif
