/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/grpc_text.h"

#include "base/mem.h"
#include "mesh/grpc_answer.h" /* sn__grpc_buf_reset() */

#define TEXTS_MAX (1u << 20)

void sn__grpc_text_init(struct sn_grpc_text *t)
{
	sn__buf_init(&t->frame, SIZE_MAX / 2);
	sn__buf_init(&t->texts, TEXTS_MAX);
}

void sn__grpc_text_finish(struct sn_grpc_text *t)
{
	sn__buf_finish(&t->frame);
	sn__buf_finish(&t->texts);
}

void sn__grpc_text_reset(struct sn_grpc_text *t)
{
	sn__grpc_buf_reset(&t->frame);
	sn__grpc_buf_reset(&t->texts);
}

/* ---- checks ---- */

/* "/package.Service/Method" */
static bool method_valid(struct sn_str method)
{
	const char *slash;

	if (method.len < 4 || method.len >= SN_HTTP_TARGET_MAX || method.ptr[0] != '/')
		return false;
	for (size_t i = 0; i < method.len; i++) {
		unsigned char c = (unsigned char)method.ptr[i];

		if (c <= ' ' || c >= 0x7f || c == '#' || c == '?')
			return false;
	}
	slash = memchr(method.ptr + 1, '/', method.len - 1);
	return slash != NULL && slash > method.ptr + 1 && slash < method.ptr + method.len - 1;
}

static int metadata_check(const struct sn_grpc_options *o, struct sn_error *err)
{
	if (o->n_metadata > SN_GRPC_METADATA_MAX)
		return sn__error_set(err, SN_E_INVALID, "more than %d entries of metadata",
				SN_GRPC_METADATA_MAX);
	for (size_t i = 0; i < o->n_metadata; i++) {
		const struct sn_grpc_metadata *m = &o->metadata[i];

		if (m->name == NULL || !sn__grpc_metadata_valid(m))
			return sn__error_set(err, SN_E_INVALID,
					"metadata \"%.64s\" is not valid: a name is in "
					"lower case and not of the protocol's own, a value "
					"printable unless the name ends in -bin",
					m->name != NULL ? m->name : "");
	}
	return 0;
}

static int options_copy(const struct sn_grpc_options *opts, struct sn_grpc_options *ret_o,
		struct sn_error *err)
{
	*ret_o = (struct sn_grpc_options)SN_GRPC_OPTIONS_INIT;
	if (opts == NULL)
		return 0;
	if (opts->size < offsetof(struct sn_grpc_options, bytes) || opts->size > sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID,
				"options.size is %zu: use SN_GRPC_OPTIONS_INIT", opts->size);
	memcpy(ret_o, opts, opts->size);
	return 0;
}

static int options_check(const struct sn_grpc_options *o, bool unary,
		const struct ProtobufCMessage *request, struct sn_error *err)
{
	bool has_bytes = o->bytes != NULL || o->bytes_size > 0;

	if (o->bytes == NULL && o->bytes_size > 0)
		return sn__error_set(err, SN_E_INVALID, "bytes_size without bytes");
	if (has_bytes && (request != NULL || !unary))
		return sn__error_set(err, SN_E_INVALID,
				unary ? "a call has a message or bytes, not both"
				      : "a stream's messages are sent by sn_grpc_stream_send()");
	if (o->retry > SN_RETRY_NONE)
		return sn__error_set(err, SN_E_INVALID, "retry has no value %d", (int)o->retry);
	return metadata_check(o, err);
}

/* ---- the copy ---- */

static int put(struct sn_buf *b, struct sn_str text, struct sn_str *ret_text)
{
	int r = sn__buf_append_str(b, text);

	/* The block may still move: where it begins is added in the end. */
	*ret_text = (struct sn_str){NULL, text.len};
	return r;
}

static int put_entry(struct sn_buf *b, const struct sn_grpc_metadata *m, struct sn_http_header *h)
{
	int r = put(b, sn_str_from(m->name), &h->name);
	size_t at = b->len;

	if (r == 0)
		r = sn__grpc_value_write(m, b);
	h->value = (struct sn_str){NULL, b->len - at};
	return r;
}

static int texts_fill(struct sn_grpc_text *t, struct sn_str method, const struct sn_grpc_options *o)
{
	struct sn_buf *b = &t->texts;
	const char *at;
	int r;

	sn__buf_clear(b);
	r = put(b, method, &t->path);
	for (size_t i = 0; i < o->n_metadata && r == 0; i++)
		r = put_entry(b, &o->metadata[i], &t->metadata[i]);
	if (r < 0)
		return r;
	at = sn__buf_data(b);
	t->path.ptr = at;
	at += t->path.len;
	for (size_t i = 0; i < o->n_metadata; i++) {
		t->metadata[i].name.ptr = at;
		t->metadata[i].value.ptr = at + t->metadata[i].name.len;
		at += t->metadata[i].name.len + t->metadata[i].value.len;
	}
	t->n_metadata = (unsigned)o->n_metadata;
	return 0;
}

static int frame_fill(struct sn_grpc_text *t, const struct ProtobufCMessage *request,
		const struct sn_grpc_options *o)
{
	sn__buf_clear(&t->frame);
	if (request != NULL)
		return sn__grpc_frame_message(&t->frame, request, o->gzip);
	return sn__grpc_frame(&t->frame, (struct sn_str){o->bytes, o->bytes_size}, o->gzip);
}

int sn__grpc_text_fill(struct sn_grpc_text *t, const char *method, bool unary,
		const struct ProtobufCMessage *request, const struct sn_grpc_options *opts,
		struct sn_error *err)
{
	struct sn_grpc_options o;
	int r = options_copy(opts, &o, err);

	if (r == 0)
		r = options_check(&o, unary, request, err);
	if (r < 0)
		return r;
	if (!method_valid(sn_str_from(method)))
		return sn__error_set(err, SN_E_INVALID,
				"method \"%.80s\" is not valid: it is \"/package.Service/Method\"",
				method);
	r = texts_fill(t, sn_str_from(method), &o);
	if (r == 0 && unary)
		r = frame_fill(t, request, &o);
	if (r < 0)
		return sn__error_set(err, r, "%s",
				r == SN_E_LIMIT ? "metadata or message are too large"
						: sn_strerror(r));
	t->options = o;
	if (o.context != NULL) {
		t->context = *o.context;
		t->options.context = &t->context;
	}
	return 0;
}
