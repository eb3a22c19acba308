/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_BERLIOZ_ADDRESS_H
#define SN_SRC_DIALECT_BERLIOZ_ADDRESS_H

/*
 * Internal. The own place (environment variables) and how a call's (kind, name, endpoint) is
 * spelled in the registry. Spec 2 and 5.3.
 */

#include "base/buf.h"
#include "mesh/catalog.h"

/* Where the process stands. Absent texts are NULL. Immutable after init. */
struct sn_own_place {
	char *cluster, *sector, *service;
	char *identity;   /* BERLIOZ_IDENTITY without prefix, plus one when asked */
	char *agent_path; /* WebSocket URL */
	bool override;    /* BERLIOZ_METADATA_SOURCE is "override" */
	char *override_text;
};

/** A variable's raw value, or NULL. getenv() has this shape but for @arg. */
typedef const char *sn_getenv_fn(const char *name, void *arg);

/** Read the variables. @fn NULL: the process environment (no other thread may change it
 * meanwhile). SN_E_NOMEM, SN_E_LIMIT (a value over 64 KiB; the override may have 16 MiB). */
SN_MUST_USE int sn__place_init(
		struct sn_own_place *p, sn_getenv_fn *fn /* may be NULL */, void *arg);
void sn__place_finish(struct sn_own_place *p);
/** ${NAME} replaced by raw values, one pass; unknown names stay. Appends. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__place_substitute(
		struct sn_str value, sn_getenv_fn *fn, void *arg, struct sn_buf *out);

/**
 * The registry paths of a target, best first (sn_paths_fn; @arg: struct sn_own_place). @kind: service,
 * cluster, database, queue, secret_public_key, secret_private_key. @name: "SECTOR.NAME" for another
 * sector (not for clusters). @endpoint: empty means "default"; ignored for resources.
 */
int sn__berlioz_paths(void *place, struct sn_str kind, struct sn_str name, struct sn_str endpoint,
		struct sn_paths *ret_paths);

/** Name of a remote service in traces: "service://shop-core-Basket" -> "service-shop-core-basket".
 * Appends. */
SN_MUST_USE int sn__berlioz_remote_name(struct sn_str id, struct sn_buf *out);

#endif
