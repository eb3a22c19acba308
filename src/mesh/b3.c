/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/b3.h"

#include <inttypes.h>
#include <stdio.h>

#include "proto/trace.h"

static uint64_t id_new(struct sn_rng *rng)
{
	uint64_t id;

	do
		id = sn__rng_u64(rng);
	while (id == 0);
	return id;
}

void sn__b3_root(struct sn_rng *rng, struct sn_context *ret_ctx)
{
	uint64_t id = id_new(rng);

	*ret_ctx = (struct sn_context){
			.size = sizeof(*ret_ctx),
			.trace_id = {0, id},
			.span_id = id,
			.sampled = true,
	};
}

void sn__b3_read(const struct sn_http_header *headers, unsigned n, struct sn_rng *rng,
		struct sn_context *ret_ctx, bool *ret_shared)
{
	if (!sn__trace_read_b3(headers, n, ret_ctx)) {
		*ret_shared = false;
		sn__b3_root(rng, ret_ctx);
		return;
	}
	*ret_shared = ret_ctx->parent_span_id != 0 && ret_ctx->parent_span_id != ret_ctx->span_id;
}

static void add(struct sn_b3_headers *h, struct sn_str name, const char *value)
{
	h->headers[h->n++] = (struct sn_http_header){name, sn_str_from(value)};
}

void sn__b3_write(const struct sn_context *parent, uint64_t span_id, struct sn_b3_headers *h)
{
	h->n = 0;
	snprintf(h->span_id, sizeof(h->span_id), "%016" PRIx64, span_id);
	if (parent == NULL)
		snprintf(h->trace_id, sizeof(h->trace_id), "%s", h->span_id);
	else if (parent->trace_id[0] != 0)
		snprintf(h->trace_id, sizeof(h->trace_id), "%016" PRIx64 "%016" PRIx64,
				parent->trace_id[0], parent->trace_id[1]);
	else
		snprintf(h->trace_id, sizeof(h->trace_id), "%016" PRIx64, parent->trace_id[1]);
	add(h, SN_STR("X-B3-TraceId"), h->trace_id);
	add(h, SN_STR("X-B3-SpanId"), h->span_id);
	if (parent != NULL) {
		snprintf(h->parent_id, sizeof(h->parent_id), "%016" PRIx64, parent->span_id);
		add(h, SN_STR("X-B3-ParentSpanId"), h->parent_id);
	}
	add(h, SN_STR("X-B3-Sampled"), parent == NULL || parent->sampled ? "1" : "0");
}

void sn__b3_pass(const struct sn_context *ctx, struct sn_b3_headers *h)
{
	struct sn_context parent = *ctx;

	parent.span_id = ctx->parent_span_id;
	sn__b3_write(&parent, ctx->span_id, h);
	if (ctx->parent_span_id == 0) { /* a root: what says so is not said */
		h->headers[2] = h->headers[3];
		h->n--;
	}
	if (ctx->debug)
		add(h, SN_STR("X-B3-Flags"), "1");
}
