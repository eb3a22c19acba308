/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/grpc_answer.h"

#include <string.h>

#include "base/mem.h"
#include "proto/protobuf.h"

void sn__grpc_buf_reset(struct sn_buf *b)
{
	if (b->cap > SN_GRPC_KEEP_MAX)
		sn__buf_finish(b);
	else
		sn__buf_clear(b);
}

/* ---- metadata ---- */

/* One entry in `texts`: these sizes, the name, the value, each text with a NUL behind it. */
struct entry {
	uint32_t name, value;
};

void sn__grpc_fields_init(struct sn_grpc_fields *f)
{
	sn__buf_init(&f->texts, SN_GRPC_FIELDS_MAX);
}

void sn__grpc_fields_finish(struct sn_grpc_fields *f)
{
	sn__buf_finish(&f->texts);
}

void sn__grpc_fields_clear(struct sn_grpc_fields *f)
{
	sn__grpc_buf_reset(&f->texts);
}

static int field_put(struct sn_buf *b, const struct sn_http_header *h)
{
	struct entry e = {.name = (uint32_t)h->name.len};
	size_t at = b->len, value_at;
	int r = sn__buf_append(b, &e, sizeof(e));

	if (r == 0)
		r = sn__buf_append_str(b, h->name);
	if (r == 0)
		r = sn__buf_append(b, "", 1);
	value_at = b->len;
	if (r == 0)
		r = sn__grpc_value_read(h->name, h->value, b);
	e.value = (uint32_t)(b->len - value_at);
	if (r == 0)
		r = sn__buf_append(b, "", 1);
	if (r < 0)
		sn__buf_truncate(b, at);
	else
		memcpy(b->block + b->head + at, &e, sizeof(e));
	return r;
}

int sn__grpc_fields_add(struct sn_grpc_fields *f, const struct sn_http_header *headers, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int r = field_put(&f->texts, &headers[i]);

		if (r < 0 && r != SN_E_PARSE)
			return r;
	}
	return 0;
}

const void *sn__grpc_fields_find(const struct sn_grpc_fields *f, const char *name, size_t *ret_size)
{
	struct sn_str wanted = sn_str_from(name);
	const char *p = sn__buf_str(&f->texts).ptr;

	for (size_t left = f->texts.len; left > 0;) {
		struct entry e;
		size_t size;

		memcpy(&e, p, sizeof(e));
		size = sizeof(e) + e.name + 1 + e.value + 1;
		if (sn__str_ieq((struct sn_str){p + sizeof(e), e.name}, wanted)) {
			if (ret_size != NULL)
				*ret_size = e.value;
			return p + sizeof(e) + e.name + 1;
		}
		p += size;
		left -= size;
	}
	return NULL;
}

/* ---- the answer ---- */

void sn__grpc_answer_init(struct sn_grpc_answer *a)
{
	*a = (struct sn_grpc_answer){.lone = false};
	sn__buf_init(&a->message, SIZE_MAX / 2);
	sn__buf_init(&a->identity, SN_GRPC_FIELDS_MAX);
	sn__grpc_fields_init(&a->header);
	sn__grpc_fields_init(&a->trailer);
}

void sn__grpc_answer_finish(struct sn_grpc_answer *a)
{
	sn__grpc_status_finish(&a->status);
	sn__buf_finish(&a->message);
	sn__buf_finish(&a->identity);
	sn__grpc_fields_finish(&a->header);
	sn__grpc_fields_finish(&a->trailer);
}

void sn__grpc_answer_reset(struct sn_grpc_answer *a)
{
	sn__grpc_status_finish(&a->status);
	a->status = (struct sn_grpc_status){.code = 0};
	a->attempts = 0;
	a->has_message = false;
	a->call_id[0] = '\0';
	sn__grpc_buf_reset(&a->message);
	sn__grpc_buf_reset(&a->identity);
	sn__grpc_fields_clear(&a->header);
	sn__grpc_fields_clear(&a->trailer);
}

int sn__grpc_answer_message(struct sn_grpc_answer *a, struct sn_str message)
{
	char *space;
	int r = sn__buf_reserve(&a->message, message.len + 1, &space);

	if (r < 0)
		return r;
	if (message.len > 0)
		memcpy(space, message.ptr, message.len);
	space[message.len] = '\0';
	sn__buf_commit(&a->message, message.len);
	a->has_message = true;
	return 0;
}

void sn__grpc_answer_identity(struct sn_grpc_answer *a, const char *identity)
{
	sn__buf_clear(&a->identity);
	if (sn__buf_append(&a->identity, identity, strlen(identity) + 1) < 0)
		sn__buf_clear(&a->identity); /* for people only: not worth a failed call */
}

/* ---- public ---- */

int sn_grpc_answer_code(const struct sn_grpc_answer *a)
{
	return a->status.code;
}

const char *sn_grpc_answer_text(const struct sn_grpc_answer *a)
{
	return a->status.text != NULL ? a->status.text : "";
}

static const void *bytes_of(const struct sn_buf *b, bool there, size_t *ret_size)
{
	if (ret_size != NULL)
		*ret_size = there ? b->len : 0;
	if (!there)
		return NULL;
	return b->len > 0 ? sn__buf_data(b) : "";
}

const void *sn_grpc_answer_details(const struct sn_grpc_answer *a, size_t *ret_size)
{
	return bytes_of(&a->status.details, a->status.details.len > 0, ret_size);
}

const void *sn_grpc_answer_bytes(const struct sn_grpc_answer *a, size_t *ret_size)
{
	return bytes_of(&a->message, a->has_message, ret_size);
}

int sn_grpc_answer_unpack(const struct sn_grpc_answer *a,
		const struct ProtobufCMessageDescriptor *type,
		struct ProtobufCMessage **ret_message)
{
	if (!a->has_message)
		return SN_E_NOT_FOUND;
	return sn__protobuf_unpack(type, sn__buf_str(&a->message), ret_message, NULL);
}

const void *sn_grpc_answer_header(
		const struct sn_grpc_answer *a, const char *name, size_t *ret_size)
{
	return sn__grpc_fields_find(&a->header, name, ret_size);
}

const void *sn_grpc_answer_trailer(
		const struct sn_grpc_answer *a, const char *name, size_t *ret_size)
{
	return sn__grpc_fields_find(&a->trailer, name, ret_size);
}

const char *sn_grpc_answer_identity(const struct sn_grpc_answer *a)
{
	return a->identity.len > 0 ? sn__buf_data(&a->identity) : "";
}

const char *sn_grpc_answer_call_id(const struct sn_grpc_answer *a)
{
	return a->call_id;
}

unsigned sn_grpc_answer_attempts(const struct sn_grpc_answer *a)
{
	return a->attempts;
}

void sn_grpc_answer_destroy(struct sn_grpc_answer *a)
{
	if (a == NULL || !a->lone)
		return;
	sn__grpc_answer_finish(a);
	sn__free(a);
}
