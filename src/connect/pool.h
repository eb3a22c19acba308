/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_POOL_H
#define SN_SRC_CONNECT_POOL_H

/*
 * Internal. Open instances of drivers, one for each different entry of the catalog (driver, identity
 * and the entry's text): counted by the peers they hang on and by the calls that use them. When the
 * entry leaves or changes the peer's count goes at once, so that the instance closes when its last
 * call has ended. Loop thread.
 */

#include "connect/driver.h"
#include "connect/entry.h"
#include "connect/settings.h"
#include "connect/sql_calls.h"
#include "io/loop.h"
#include "mesh/catalog.h"
#include "mesh/peer_state.h"

struct sn_driver_pool {
	struct sn_connect_host host;
	struct sn_list instances; /* sn_instance.link */
	struct sn_list watches;   /* of the targets whose peers have instances */
	unsigned n_open;          /* instances that are not gone */
	bool closing;
	void (*done)(void *arg);
	void *arg;
	struct sn_task task;
};

struct sn_instance {
	const struct sn_driver *driver;
	void *state; /* the driver's */
	const struct sn_driver_calls *calls;
	void *calls_instance; /* what they are called with */

	/* private */
	struct sn_driver_pool *pool;
	struct sn_list link; /* pool->instances while it can be found */
	unsigned refs;
	struct sn_task task;
	struct sn_driver_open how;
	struct sn_str identity, json; /* of the entry */
	char *texts;
	struct sn_settings *settings; /* NULL: the driver reads its config itself */
	struct sn_sql_binding sql;
};

/** @host: its public part is filled in here. */
void sn__driver_pool_init(struct sn_driver_pool *pool, const struct sn_connect_host *host);
/** No more instances; they close as their calls end. Then @done, in a later turn. */
void sn__driver_pool_close(struct sn_driver_pool *pool, void (*done)(void *arg), void *arg);

/* Who asks. */
struct sn_instance_wish {
	const struct sn_resource_kind *kind;
	struct sn_target *target;
	struct sn_peer_state *ps; /* its slot is the pool's */
	const struct sn_peer *peer;
};
/**
 * The instance for a peer, opened when there is none; counted for the caller. SN_E_NOTSUP (no driver,
 * or one without native calls), SN_E_INVALID (the entry, its config), SN_E_CLOSED, SN_E_NOMEM: @err
 * has one sentence.
 */
SN_MUST_USE int sn__instance_get(struct sn_driver_pool *pool, const struct sn_instance_wish *wish,
		struct sn_instance **ret_instance, struct sn_error *err);
/** The driver of the instance that hangs on a peer of a database or queue, or NULL. */
const struct sn_driver *sn__instance_driver(const struct sn_peer_state *ps);
/** It closes in a later turn when this was the last. */
void sn__instance_unref(struct sn_instance *inst /* may be NULL */);

#endif
