/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/trace.h"

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

bool sn__trace_read_b3(const struct sn_http_header *headers, unsigned n, struct sn_context *ret_ctx)
{
	struct sn_context ctx = SN_CONTEXT_INIT;
	struct sn_str sampled;

	if (!trace_id_read(find(headers, n, SN_STR("X-B3-TraceId")), ctx.trace_id) ||
			!id_read(find(headers, n, SN_STR("X-B3-SpanId")), &ctx.span_id))
		return false;
	if (!id_read(find(headers, n, SN_STR("X-B3-ParentSpanId")), &ctx.parent_span_id))
		ctx.parent_span_id = 0;
	sampled = find(headers, n, SN_STR("X-B3-Sampled"));
	ctx.debug = sn_str_eq(find(headers, n, SN_STR("X-B3-Flags")), SN_STR("1"));
	ctx.sampled = ctx.debug || sampled.ptr == NULL || sn_str_eq(sampled, SN_STR("1")) ||
			sn__str_ieq(sampled, SN_STR("true"));
	*ret_ctx = ctx;
	return true;
}

/* "00-<trace id>-<span id>-<flags>"; a later version may say more behind another "-". */
bool sn__trace_read_w3c(
		const struct sn_http_header *headers, unsigned n, struct sn_context *ret_ctx)
{
	struct sn_str text = find(headers, n, SN_STR("traceparent"));
	struct sn_context ctx = SN_CONTEXT_INIT;
	uint64_t version, flags;

	if (text.len < 55 || text.ptr[2] != '-' || text.ptr[35] != '-' || text.ptr[52] != '-')
		return false;
	for (size_t i = 0; i < 55; i++)
		if (text.ptr[i] >= 'A' && text.ptr[i] <= 'F')
			return false;
	if (sn__parse_hex_u64((struct sn_str){text.ptr, 2}, 254, &version) < 0 ||
			(text.len > 55 && (version == 0 || text.ptr[55] != '-')) ||
			!trace_id_read((struct sn_str){text.ptr + 3, 32}, ctx.trace_id) ||
			!id_read((struct sn_str){text.ptr + 36, 16}, &ctx.span_id) ||
			sn__parse_hex_u64((struct sn_str){text.ptr + 53, 2}, 255, &flags) < 0)
		return false;
	ctx.sampled = flags & 1;
	*ret_ctx = ctx;
	return true;
}

bool sn__trace_read(const struct sn_http_header *headers, unsigned n, struct sn_context *ret_ctx)
{
	return sn__trace_read_w3c(headers, n, ret_ctx) || sn__trace_read_b3(headers, n, ret_ctx);
}

void sn__traceparent_write(const struct sn_context *ctx, uint64_t span_id, char out[56])
{
	(void)snprintf(out, 56, "00-%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "-%02x",
			ctx->trace_id[0], ctx->trace_id[1], span_id, ctx->sampled ? 1u : 0u);
}
