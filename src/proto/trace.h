/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_TRACE_H
#define SN_SRC_PROTO_TRACE_H

/* Internal. Trace context out of headers (names in any case): B3 (Zipkin) and traceparent (W3C).
 * Any thread. */

#include <sinew/context.h>
#include "proto/http.h"

/** X-B3-TraceId and its kin. Whether there is one; else *ret_ctx is as before. deadline_ms of the
 * context is 0. */
bool sn__trace_read_b3(
		const struct sn_http_header *headers, unsigned n, struct sn_context *ret_ctx);
/** traceparent alone. The same results. */
bool sn__trace_read_w3c(
		const struct sn_http_header *headers, unsigned n, struct sn_context *ret_ctx);
/** A traceparent of the span @span_id of @ctx's trace. */
void sn__traceparent_write(const struct sn_context *ctx, uint64_t span_id, char out[56]);
/** traceparent, else B3. The same results. */
bool sn__trace_read(const struct sn_http_header *headers, unsigned n, struct sn_context *ret_ctx);

#endif
