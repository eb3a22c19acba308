/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_B3_H
#define SN_SRC_MESH_B3_H

/* Internal. Trace context as B3 headers, both ways (docs/berlioz.md, tracing). Any thread. */

#include <sinew/context.h>
#include "base/random.h"
#include "proto/http1.h"

/** What an incoming request says, or a new root made with @rng. @headers: any case.
 * *ret_shared: the span began at the caller and is joined. deadline_ms of the context is left 0. */
void sn__b3_read(const struct sn_http_header *headers, unsigned n, struct sn_rng *rng,
		struct sn_context *ret_ctx, bool *ret_shared);
/** A new root: sampled, trace id and span id equal. */
void sn__b3_root(struct sn_rng *rng, struct sn_context *ret_ctx);

#define SN_B3_HEADERS 5
/* The headers of one span and their texts. */
struct sn_b3_headers {
	unsigned n;
	struct sn_http_header headers[SN_B3_HEADERS];
	char trace_id[33], span_id[17], parent_id[17];
};
/** Headers of the span @span_id that is a child of @parent; @parent NULL: a root of its own. */
void sn__b3_write(const struct sn_context *parent /* may be NULL */, uint64_t span_id,
		struct sn_b3_headers *ret_headers);
/** Headers of the span that @ctx stands for, passed on as it is. */
void sn__b3_pass(const struct sn_context *ctx, struct sn_b3_headers *ret_headers);

#endif
