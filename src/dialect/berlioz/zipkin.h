/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_BERLIOZ_ZIPKIN_H
#define SN_SRC_DIALECT_BERLIOZ_ZIPKIN_H

/*
 * Internal. Where the spans of `enable-zipkin` go (spec 9.1): the first peer of the registry id that
 * the root policy `zipkin-service-id` names, else the URL in `zipkin-endpoint`; both watched. Also
 * what services are called in spans (spec 9.3). Loop thread.
 */

#include "dialect/berlioz/address.h"
#include "dialect/berlioz/metadata.h"
#include "mesh/runtime.h"

struct sn_zipkin;

/** Names for @rt's tracer, and the watch. @place is borrowed. SN_E_NOMEM. */
SN_MUST_USE int sn__zipkin_create(struct sn_runtime *rt, const struct sn_own_place *place,
		const char *name /* when the place has no service */,
		struct sn_zipkin **ret_zipkin);
/** Watches no longer. */
void sn__zipkin_stop(struct sn_zipkin *zipkin);
/** Stopped, or never run. */
void sn__zipkin_destroy(struct sn_zipkin *zipkin /* may be NULL */);

#endif
