/* SPDX-License-Identifier: Apache-2.0 */
/* Trace context: the input is lines "name: value"; what was read comes back from what is written. */
#include "base/mem.h"
#include "mesh/b3.h"
#include "proto/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADERS_MAX 16

static unsigned read_lines(const char *text, size_t size, struct sn_http_header *headers)
{
	const char *end = text + size;
	unsigned n = 0;

	while (text < end && n < HEADERS_MAX) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		const char *colon;

		stop = stop != NULL ? stop : end;
		colon = memchr(text, ':', (size_t)(stop - text));
		if (colon != NULL) {
			const char *value = colon + 1 + (colon + 1 < stop && colon[1] == ' ');

			headers[n++] = (struct sn_http_header){{text, (size_t)(colon - text)},
					{value, (size_t)(stop - value)}};
		}
		text = stop + 1;
	}
	return n;
}

static void same(const struct sn_context *a, const struct sn_context *b, uint64_t span_id)
{
	assert(a->trace_id[0] == b->trace_id[0] && a->trace_id[1] == b->trace_id[1]);
	assert(b->span_id == span_id && a->sampled == b->sampled);
}

static void w3c_again(const struct sn_context *ctx)
{
	struct sn_http_header header = {.name = SN_STR("TraceParent")};
	struct sn_context again;
	char text[56];

	sn__traceparent_write(ctx, 7, text);
	header.value = sn_str_from(text);
	assert(header.value.len == 55 && sn__trace_read_w3c(&header, 1, &again));
	same(ctx, &again, 7);
}

static void b3_again(const struct sn_context *ctx)
{
	struct sn_b3_headers h;
	struct sn_context again;

	sn__b3_write(ctx, 7, &h);
	assert(h.n <= SN_B3_HEADERS && sn__trace_read_b3(h.headers, h.n, &again));
	same(ctx, &again, 7);
	assert(again.parent_span_id == ctx->span_id);
	sn__b3_pass(ctx, &h);
	assert(h.n <= SN_B3_HEADERS && sn__trace_read_b3(h.headers, h.n, &again));
	same(ctx, &again, ctx->span_id);
	assert(again.parent_span_id == ctx->parent_span_id && again.debug == ctx->debug);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_http_header headers[HEADERS_MAX];
	unsigned n = read_lines((const char *)data, size, headers);
	struct sn_context ctx = {.span_id = 99}, b3 = {.span_id = 99}, any = {.span_id = 99};
	bool has_w3c = sn__trace_read_w3c(headers, n, &ctx), shared;
	bool has_b3 = sn__trace_read_b3(headers, n, &b3);
	bool has = sn__trace_read(headers, n, &any);
	struct sn_rng rng;

	assert(has == (has_w3c || has_b3));
	assert(any.span_id == (has_w3c ? ctx.span_id : has_b3 ? b3.span_id : 99));
	assert(has_w3c || (ctx.span_id == 99 && ctx.trace_id[1] == 0));
	if (has_w3c) {
		assert(ctx.trace_id[1] != 0 && ctx.span_id != 0 && ctx.deadline_ms == 0);
		w3c_again(&ctx);
		b3_again(&ctx);
	}
	if (has_b3) {
		assert(b3.trace_id[1] != 0 && b3.span_id != 0 && (b3.sampled || !b3.debug));
		w3c_again(&b3);
		b3_again(&b3);
	}
	sn__rng_seed(&rng, 1);
	sn__b3_read(headers, n, &rng, &ctx, &shared);
	assert(ctx.trace_id[1] != 0 && ctx.span_id != 0 && (has_b3 || !shared));
	return 0;
}
