/* SPDX-License-Identifier: Apache-2.0 */
/* What a method's functions do with a call: read its metadata, answer, end. See grpc_server_impl.h. */
#include <stdio.h>

#include "base/mem.h"
#include "io/grpc_server_impl.h"
#include "proto/protobuf.h"
#include "proto/trace.h"

#define METADATA_MAX 64           /* entries a user may add, of a kind */
#define METADATA_SIZE (64u << 10) /* and bytes */
#define OWN_MAX 5                 /* content-type, encoding, status, message, details */
#define FRAME_KEEP (64u << 10)    /* a greater block is given back */

int sn_grpc_message_unpack(const struct ProtobufCMessageDescriptor *type, const void *data,
		size_t size, struct ProtobufCMessage **ret_message)
{
	return sn__protobuf_unpack(type, (struct sn_str){data, size}, ret_message, NULL);
}

void sn_grpc_message_free(struct ProtobufCMessage *message)
{
	sn__protobuf_free(message);
}

/* ---- what came ---- */

static const void *decoded_get(struct sn_grpc_exchange *gx, struct sn_str name, struct sn_str value,
		size_t *ret_size)
{
	struct grpc_decoded *d;
	struct sn_buf b;

	for (d = gx->decoded; d != NULL; d = d->next)
		if (d->wire == value.ptr)
			goto found;
	sn__buf_init(&b, SIZE_MAX / 2);
	if (sn__grpc_value_read(name, value, &b) == 0)
		d = sn__malloc(sizeof(*d) + b.len + 1);
	if (d != NULL) {
		d->next = gx->decoded;
		d->wire = value.ptr;
		d->size = b.len;
		if (b.len > 0)
			memcpy(d->data, sn__buf_data(&b), b.len);
		d->data[b.len] = '\0';
		gx->decoded = d;
	}
	sn__buf_finish(&b);
	if (d == NULL)
		return NULL;
found:
	if (ret_size != NULL)
		*ret_size = d->size;
	return d->data;
}

const void *sn_grpc_exchange_header(struct sn_grpc_exchange *gx, const char *name, size_t *ret_size)
{
	const struct sn_str *value;

	if (gx->x == NULL)
		return NULL;
	value = sn__http_find(sn__exchange_head(gx->x), name);
	if (value == NULL)
		return NULL;
	if (sn__grpc_is_bin(sn_str_from(name)))
		return decoded_get(gx, sn_str_from(name), *value, ret_size);
	if (ret_size != NULL)
		*ret_size = value->len;
	return value->ptr;
}

const char *sn_grpc_exchange_method(const struct sn_grpc_exchange *gx)
{
	return gx->method->path;
}

void sn_grpc_exchange_context(const struct sn_grpc_exchange *gx, struct sn_context *ret_context)
{
	struct sn_context ctx = SN_CONTEXT_INIT;
	uint64_t now_ns = sn__loop_now_ns(gx->services->loop);

	if (gx->x != NULL && sn__exchange_traced(gx->x) != NULL) {
		ctx = *sn__exchange_traced(gx->x);
		ctx.deadline_ms = 0;
	} else if (gx->x != NULL) {
		const struct sn_http_head *head = sn__exchange_head(gx->x);

		(void)sn__trace_read(head->headers, head->n_headers, &ctx);
	}
	if (gx->deadline_ns > now_ns)
		ctx.deadline_ms = sn_ns_to_ms(gx->deadline_ns - now_ns);
	else if (gx->deadline_ns != 0)
		ctx.deadline_ms = 1; /* 0 would be none */
	*ret_context = ctx;
}

void **sn_grpc_exchange_slot(struct sn_grpc_exchange *gx)
{
	return &gx->slot;
}

/* ---- metadata of the answer ---- */

static int add(struct sn_buf *b, unsigned *n, const struct sn_grpc_metadata *entry)
{
	size_t before = b->len;
	int r;

	if (!sn__grpc_metadata_valid(entry))
		return SN_E_INVALID;
	if (*n >= METADATA_MAX)
		return SN_E_LIMIT;
	r = sn__buf_append(b, entry->name, strlen(entry->name) + 1);
	if (r == 0)
		r = sn__grpc_value_write(entry, b);
	if (r == 0)
		r = sn__buf_append(b, "", 1);
	if (r < 0 || b->len > METADATA_SIZE) {
		sn__buf_truncate(b, before);
		return r < 0 ? r : SN_E_LIMIT;
	}
	++*n;
	return 0;
}

int sn_grpc_exchange_add_header(struct sn_grpc_exchange *gx, const struct sn_grpc_metadata *entry)
{
	if (gx->head_sent || gx->ended || gx->over)
		return SN_E_STATE;
	return add(&gx->headers, &gx->n_headers, entry);
}

int sn_grpc_exchange_add_trailer(struct sn_grpc_exchange *gx, const struct sn_grpc_metadata *entry)
{
	if (gx->ended || gx->over)
		return SN_E_STATE;
	return add(&gx->trailers, &gx->n_trailers, entry);
}

/* The entries in @b behind @out; how many. */
static size_t spread(const struct sn_buf *b, struct sn_header *out)
{
	size_t n = 0;

	for (size_t i = 0; i < b->len; n++) {
		out[n].name = sn__buf_data(b) + i;
		i += strlen(out[n].name) + 1;
		out[n].value = sn__buf_data(b) + i;
		i += strlen(out[n].value) + 1;
	}
	return n;
}

static int send_head(struct sn_grpc_exchange *gx)
{
	struct sn_header headers[METADATA_MAX + OWN_MAX];
	size_t n = 0;
	int r;

	if (gx->head_sent)
		return 0;
	headers[n++] = (struct sn_header){"content-type", "application/grpc"};
	if (gx->gzip && gx->accepts_gzip)
		headers[n++] = (struct sn_header){"grpc-encoding", "gzip"};
	gx->encoding_sent = n == 2;
	n += spread(&gx->headers, headers + n);
	r = sn_exchange_start(gx->x, 200, headers, n, -1);
	if (r < 0)
		return r;
	gx->head_sent = true;
	return 0;
}

int sn_grpc_exchange_send_header(struct sn_grpc_exchange *gx)
{
	if (gx->ended || gx->head_sent)
		return SN_E_STATE;
	return gx->over || gx->x == NULL ? SN_E_RESET : send_head(gx);
}

void sn_grpc_exchange_gzip(struct sn_grpc_exchange *gx, bool gzip)
{
	gx->gzip = gzip;
}

/* ---- messages and the end ---- */

static int may_send(const struct sn_grpc_exchange *gx)
{
	if (gx->user_ended)
		return SN_E_STATE;
	if (gx->over || gx->x == NULL || gx->ended)
		return SN_E_RESET;
	return !gx->method->method->server_streams && gx->n_out > 0 ? SN_E_STATE : 0;
}

int sn_grpc_exchange_send(struct sn_grpc_exchange *gx, const struct ProtobufCMessage *message,
		const void *bytes, size_t size)
{
	struct sn_buf *frame = &gx->services->frame;
	bool gzip;
	int r = may_send(gx);

	if (r < 0)
		return r;
	/* The head only goes out with a message that can follow it. */
	gzip = gx->gzip && gx->accepts_gzip && (!gx->head_sent || gx->encoding_sent);
	r = message != NULL ? sn__grpc_frame_message(frame, message, gzip)
			    : sn__grpc_frame(frame, (struct sn_str){bytes, size}, gzip);
	if (r == 0)
		r = send_head(gx);
	if (r == 0)
		r = sn_exchange_write(gx->x, sn__buf_data(frame), frame->len);
	if (r == 0 || r == SN_E_AGAIN)
		gx->n_out++;
	gx->drain_due |= r == SN_E_AGAIN;
	sn__buf_clear(frame);
	if (frame->cap > FRAME_KEEP)
		sn__buf_finish(frame);
	return r;
}

/* Names and values of the status; memory for the values in @b. */
static size_t put_status(struct sn_header *out, char code_text[4], int code, struct sn_str text,
		struct sn_str details, struct sn_buf *b)
{
	struct sn_grpc_metadata entry = {"x-bin", details.ptr, details.len};
	size_t n = 0, details_at = 0;

	if (code < 10) {
		code_text[0] = (char)('0' + code);
		code_text[1] = '\0';
	} else {
		(void)snprintf(code_text, 4, "%d", code);
	}
	out[n++] = (struct sn_header){"grpc-status", code_text};
	/* Without memory the code must do. */
	if (text.len > 0 && (sn__grpc_percent_encode(text, b) < 0 || sn__buf_append(b, "", 1) < 0))
		return n;
	details_at = b->len;
	if (details.len > 0 &&
			(sn__grpc_value_write(&entry, b) < 0 || sn__buf_append(b, "", 1) < 0))
		details.len = 0;
	if (text.len > 0)
		out[n++] = (struct sn_header){"grpc-message", sn__buf_data(b)};
	if (details.len > 0)
		out[n++] = (struct sn_header){
				"grpc-status-details-bin", sn__buf_data(b) + details_at};
	return n;
}

/* An answer that is a status only: what would be head and trailers is one. */
static int send_only(
		struct sn_grpc_exchange *gx, const struct sn_header *trailers, size_t n_trailers)
{
	struct sn_header headers[2 * METADATA_MAX + OWN_MAX];
	size_t n = 0;

	headers[n++] = (struct sn_header){"content-type", "application/grpc"};
	if (n_trailers > 1)
		n += spread(&gx->headers, headers + n);
	memcpy(headers + n, trailers, n_trailers * sizeof(*trailers));
	return sn_exchange_respond(gx->x, 200, headers, n + n_trailers, NULL, 0);
}

void sn__grpc_exchange_end(
		struct sn_grpc_exchange *gx, int code, struct sn_str text, struct sn_str details)
{
	struct sn_header trailers[METADATA_MAX + OWN_MAX];
	char code_text[4];
	struct sn_buf b;
	size_t n;
	int r;

	gx->ended = true;
	sn__timer_stop(gx->services->loop, &gx->timer);
	if (gx->x == NULL)
		return;
	sn__buf_init(&b, METADATA_SIZE);
	n = put_status(trailers, code_text, code, text, details, &b);
	n += spread(&gx->trailers, trailers + n);
	r = gx->head_sent ? sn_exchange_end(gx->x, trailers, n) : send_only(gx, trailers, n);
	if (r < 0 && r != SN_E_RESET) /* too much, or no memory: the code alone */
		r = gx->head_sent ? sn_exchange_end(gx->x, trailers, 1)
				  : send_only(gx, trailers, 1);
	if (r < 0)
		sn_exchange_abort(gx->x);
	sn__buf_finish(&b);
}

void sn_grpc_exchange_finish(struct sn_grpc_exchange *gx, int code, const char *text,
		const void *details, size_t details_size)
{
	if (gx->user_ended)
		return;
	gx->user_ended = true;
	if (gx->over || gx->ended) { /* too late; it waited for this, perhaps */
		sn__grpc_exchange_kick(gx);
		return;
	}
	if (code < 0 || code > SN_GRPC_UNAUTHENTICATED)
		code = SN_GRPC_UNKNOWN;
	if (code == SN_GRPC_OK && gx->n_out == 0 && !gx->method->method->server_streams) {
		code = SN_GRPC_INTERNAL;
		text = "the method ended without an answer";
	}
	sn__grpc_exchange_end(gx, code, sn_str_from(text), (struct sn_str){details, details_size});
}

void sn_grpc_exchange_reply(struct sn_grpc_exchange *gx, const struct ProtobufCMessage *message)
{
	int r = sn_grpc_exchange_send(gx, message, "", 0);

	if (r == 0 || r == SN_E_AGAIN || r == SN_E_RESET)
		sn_grpc_exchange_finish(gx, SN_GRPC_OK, NULL, NULL, 0);
	else
		sn_grpc_exchange_finish(gx,
				r == SN_E_LIMIT || r == SN_E_NOMEM ? SN_GRPC_RESOURCE_EXHAUSTED
								   : SN_GRPC_INTERNAL,
				r == SN_E_LIMIT ? "the answer is too large to send"
						: sn_strerror(r),
				NULL, 0);
}

void sn_grpc_exchange_pause(struct sn_grpc_exchange *gx, bool pause)
{
	if (gx->paused == pause)
		return;
	gx->paused = pause;
	if (gx->x == NULL || gx->over)
		return;
	if (pause)
		sn_exchange_pause(gx->x, true);
	else
		sn__grpc_exchange_kick(gx);
}

void sn_grpc_exchange_on_drain(struct sn_grpc_exchange *gx, sn_grpc_exchange_fn *fn, void *arg)
{
	gx->on_drain = fn;
	gx->on_drain_arg = arg;
}

void sn_grpc_exchange_on_close(
		struct sn_grpc_exchange *gx, sn_grpc_exchange_close_fn *fn, void *arg)
{
	gx->on_close = fn;
	gx->on_close_arg = arg;
	if (gx->over)
		sn__grpc_exchange_kick(gx);
}
