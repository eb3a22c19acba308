/* SPDX-License-Identifier: Apache-2.0 */
#include "io/grpc.h"

#include <stdio.h>

#include "base/mem.h"
#include "proto/protobuf.h"

#define KEEP_BLOCK (16u << 10) /* a greater block is given back between messages */

#define GZIP_MIN 64 /* what is shorter gains nothing */

/* ---- messages out ---- */

static void put_prefix(char *at, bool compressed, size_t n)
{
	at[0] = compressed;
	at[1] = (char)(n >> 24);
	at[2] = (char)(n >> 16);
	at[3] = (char)(n >> 8);
	at[4] = (char)n;
}

int sn__grpc_frame(struct sn_buf *out, struct sn_str message, bool gzip)
{
	size_t before = out->len;
	bool compressed = false;
	char *space;
	int r;

	if (message.len > UINT32_MAX)
		return SN_E_LIMIT;
	/* In one step: what is appended now needs no more memory. */
	r = sn__buf_reserve(out, SN_GRPC_PREFIX + message.len, &space);
	if (r < 0)
		return r;
	sn__buf_commit(out, SN_GRPC_PREFIX);
	if (gzip && message.len >= GZIP_MIN) {
		r = sn__gzip(message, message.len, out);
		if (r == SN_E_NOMEM) {
			sn__buf_truncate(out, before);
			return r;
		}
		compressed = r == 0;
	}
	if (!compressed && message.len > 0) {
		memcpy(space + SN_GRPC_PREFIX, message.ptr, message.len);
		sn__buf_commit(out, message.len);
	}
	put_prefix(space, compressed, out->len - before - SN_GRPC_PREFIX);
	return 0;
}

int sn__grpc_frame_message(struct sn_buf *out, const struct ProtobufCMessage *message, bool gzip)
{
	static const char prefix[SN_GRPC_PREFIX];
	size_t before = out->len, n = 0;
	struct sn_buf packed;
	int r;

	if (gzip) {
		sn__buf_init(&packed, SIZE_MAX / 2);
		r = sn__protobuf_pack(message, &packed);
		if (r == 0)
			r = sn__grpc_frame(out, sn__buf_str(&packed), true);
		sn__buf_finish(&packed);
		return r;
	}
	r = sn__buf_append(out, prefix, sizeof(prefix));
	if (r == 0)
		r = sn__protobuf_pack(message, out);
	if (r == 0) {
		n = out->len - before - SN_GRPC_PREFIX;
		r = n > UINT32_MAX ? SN_E_LIMIT : 0;
	}
	if (r == 0)
		put_prefix(out->block + out->head + before, false, n);
	else
		sn__buf_truncate(out, before);
	return r;
}

/* ---- messages in ---- */

void sn__grpc_reader_init(struct sn_grpc_reader *r, size_t max)
{
	*r = (struct sn_grpc_reader){.max = max > 0 ? max : SN_GRPC_MESSAGE_MAX};
	sn__buf_init(&r->kept, SIZE_MAX / 2);
	sn__buf_init(&r->inflated, r->max);
}

void sn__grpc_reader_finish(struct sn_grpc_reader *r)
{
	sn__free(r->kept.block);
	sn__free(r->inflated.block);
	sn__gunzip_destroy(r->gunzip);
	*r = (struct sn_grpc_reader){.max = r->max};
}

static void tidy(struct sn_buf *b)
{
	sn__buf_clear(b);
	if (b->cap > KEEP_BLOCK)
		sn__buf_finish(b);
}

void sn__grpc_reader_reset(struct sn_grpc_reader *r, size_t max)
{
	tidy(&r->kept);
	tidy(&r->inflated);
	r->max = max > 0 ? max : SN_GRPC_MESSAGE_MAX;
	r->inflated.max = r->max;
	r->gzip = false;
	r->have = 0;
	r->message = (struct sn_str){NULL, 0};
	r->code = r->error = 0;
}

static enum sn_grpc_event fail(struct sn_grpc_reader *r, int code, int error, const char *reason)
{
	r->code = code;
	r->error = error;
	if (reason != NULL)
		(void)snprintf(r->reason, sizeof(r->reason), "%s", reason);
	return SN_GRPC_ERROR;
}

static size_t announced(const struct sn_grpc_reader *r)
{
	return (size_t)r->prefix[1] << 24 | (size_t)r->prefix[2] << 16 | (size_t)r->prefix[3] << 8 |
			r->prefix[4];
}

/* Whether a message with this prefix is refused. */
static bool refused(struct sn_grpc_reader *r)
{
	size_t n = announced(r);

	if (r->prefix[0] > 1) {
		(void)snprintf(r->reason, sizeof(r->reason),
				"received a message with the unknown compressed flag %u",
				r->prefix[0]);
		(void)fail(r, SN_GRPC_INTERNAL, SN_E_PROTOCOL, NULL);
	} else if (r->prefix[0] == 1 && !r->gzip) {
		(void)fail(r, SN_GRPC_INTERNAL, SN_E_PROTOCOL,
				"received a compressed message without grpc-encoding");
	} else if (n > r->max) {
		(void)snprintf(r->reason, sizeof(r->reason),
				"received message larger than max (%zu vs. %zu)", n, r->max);
		(void)fail(r, SN_GRPC_RESOURCE_EXHAUSTED, SN_E_LIMIT, NULL);
	}
	return r->code != 0;
}

/* A whole message, as it came. */
static enum sn_grpc_event deliver(struct sn_grpc_reader *r, struct sn_str message)
{
	int result;

	r->have = 0;
	r->message = message;
	if (r->prefix[0] == 0 || message.len == 0)
		return SN_GRPC_MESSAGE;
	sn__buf_clear(&r->inflated);
	result = sn__gunzip(&r->gunzip, message, &r->inflated);
	if (result == SN_E_NOMEM)
		return fail(r, SN_GRPC_RESOURCE_EXHAUSTED, result, sn_strerror(result));
	if (result == SN_E_LIMIT) {
		(void)snprintf(r->reason, sizeof(r->reason),
				"received message larger than max after decompression (over %zu)",
				r->max);
		return fail(r, SN_GRPC_RESOURCE_EXHAUSTED, result, NULL);
	}
	if (result < 0)
		return fail(r, SN_GRPC_INTERNAL, SN_E_PROTOCOL,
				"failed to decompress the received message");
	r->message = sn__buf_str(&r->inflated);
	return SN_GRPC_MESSAGE;
}

enum sn_grpc_event sn__grpc_reader_next(
		struct sn_grpc_reader *r, struct sn_str in, size_t *ret_used)
{
	size_t used = 0, n, part;

	*ret_used = 0;
	if (r->code != 0)
		return SN_GRPC_ERROR;
	r->message = (struct sn_str){NULL, 0};
	if (r->have == 0) { /* the last one was used up */
		tidy(&r->kept);
		tidy(&r->inflated);
	}
	if (r->have < SN_GRPC_PREFIX) {
		used = SN_MIN(in.len, (size_t)(SN_GRPC_PREFIX - r->have));
		if (used > 0)
			memcpy(r->prefix + r->have, in.ptr, used);
		r->have += (unsigned)used;
		*ret_used = used;
		if (r->have < SN_GRPC_PREFIX)
			return SN_GRPC_MORE;
		if (refused(r))
			return SN_GRPC_ERROR;
	}
	n = announced(r);
	if (r->kept.len == 0 && in.len - used >= n) {
		*ret_used = used + n;
		return deliver(r, (struct sn_str){n > 0 ? in.ptr + used : "", n});
	}
	part = SN_MIN(in.len - used, n - r->kept.len);
	if (part > 0 && sn__buf_append(&r->kept, in.ptr + used, part) < 0)
		return fail(r, SN_GRPC_RESOURCE_EXHAUSTED, SN_E_NOMEM, sn_strerror(SN_E_NOMEM));
	*ret_used = used + part;
	return r->kept.len == n ? deliver(r, sn__buf_str(&r->kept)) : SN_GRPC_MORE;
}
