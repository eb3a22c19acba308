/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/b3.h"

#include <inttypes.h>
#include <stdio.h>

static struct sn_str find(const struct sn_http_header *headers, unsigned n, struct sn_str name)
{
	for (unsigned i = 0; i < n; i++)
		if (sn__str_ieq(headers[i].name, name))
			return headers[i].value;
	return (struct sn_str){NULL, 0};
}

/* An id that is 0 means "none" to everybody, so it does not count as one. */
static bool id_read(struct sn_str text, uint64_t *ret_id)
{
	return text.len >= 1 && text.len <= 16 &&
			sn__parse_hex_u64(text, UINT64_MAX, ret_id) == 0 && *ret_id != 0;
}

static bool trace_id_read(struct sn_str text, uint64_t ret_id[2])
{
	ret_id[0] = 0;
	if (text.len <= 16)
		return id_read(text, &ret_id[1]);
	return text.len == 32 &&
			sn__parse_hex_u64((struct sn_str){text.ptr, 16}, UINT64_MAX, &ret_id[0]) ==
			0 &&
			id_read((struct sn_str){text.ptr + 16, 16}, &ret_id[1]);
}

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
	struct sn_context ctx = SN_CONTEXT_INIT;
	struct sn_str sampled = find(headers, n, SN_STR("X-B3-Sampled"));

	*ret_shared = false;
	if (!trace_id_read(find(headers, n, SN_STR("X-B3-TraceId")), ctx.trace_id) ||
			!id_read(find(headers, n, SN_STR("X-B3-SpanId")), &ctx.span_id)) {
		sn__b3_root(rng, ret_ctx);
		return;
	}
	if (!id_read(find(headers, n, SN_STR("X-B3-ParentSpanId")), &ctx.parent_span_id))
		ctx.parent_span_id = 0;
	ctx.debug = sn_str_eq(find(headers, n, SN_STR("X-B3-Flags")), SN_STR("1"));
	ctx.sampled = ctx.debug || sampled.ptr == NULL || sn_str_eq(sampled, SN_STR("1")) ||
			sn__str_ieq(sampled, SN_STR("true"));
	*ret_shared = ctx.parent_span_id != 0 && ctx.parent_span_id != ctx.span_id;
	*ret_ctx = ctx;
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
