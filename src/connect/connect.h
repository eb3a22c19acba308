/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_CONNECT_H
#define SN_SRC_CONNECT_CONNECT_H

/* Internal. What src/connect adds to a runtime: the pool of driver instances and the resource calls
 * made with it. */

#include "connect/pool.h"
#include "mesh/runtime.h"
#include "mesh/sidecar.h"

struct sn_operations;

struct sn_connect {
	struct sn_dialect_part part;
	struct sn_driver_pool pool;
	struct sn_operations *calls; /* of sn_database_call() and sn_queue_call() */
	struct sn_connect_route {
		struct sn_sidecar_route head;
		const struct sn_resource_kind *kind;
		struct sn_connect *connect;
	} routes[2];
	struct sn_list puts;      /* of sn_queue_put() */
	struct sn_list consumers; /* of sn_queue_consume() */
};

/** Before the runtime starts; it owns what was attached. SN_E_NOMEM. */
SN_MUST_USE int sn__connect_attach(struct sn_runtime *rt, struct sn_error *err);
/** That of @rt, or NULL. Any thread. */
struct sn_connect *sn__connect_of(const struct sn_runtime *rt);

/** POST /database/NAME/OPERATION and POST /queue/NAME/OPERATION of the sidecar (sidecar.c). Before
 * the runtime starts. */
void sn__connect_routes(struct sn_connect *c);

#endif
