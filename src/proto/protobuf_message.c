/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands between a stranger's bytes and protobuf-c, which
 *
 *  - recurses a kilobyte of stack a level without a limit: the check counts levels;
 *  - makes of 2 bytes (an empty submessage, an unknown field) some hundred: the check adds up what it
 *    will allocate, allocation by allocation, and compares the sum with the size of the input;
 *  - merges a submessage that comes twice by copying the repeated fields of the first again: n times
 *    of a long list are n * n work. Such copies are added to the sum as if they stayed. It also forgets
 *    scalars of the first in proto3 and refuses oneofs that are not set, so before it unpacks, such
 *    submessages are made one: their bytes one behind the other mean the same;
 *  - takes strings as they come: UTF-8 is checked here, and so are bytes of zero, at which the C
 *    string it makes would end;
 *  - lets required fields with a default be absent, which is its own idea.
 *
 * Everything else it refuses by itself (a known field with another wire type, groups, lengths
 * beyond the end) is refused here too, with a sentence that says where.
 */
#include "proto/protobuf.h"

#include <stdio.h>

#include <protobuf-c/protobuf-c.h>

#include "base/mem.h"

#define ALLOC_COST 16   /* what an allocation takes beside its bytes */
#define SCANNED_COST 32 /* protobuf-c's note of one field, */
#define SCANNED_ON_STACK \
	16           /* of which so many lie on its stack; then blocks, each twice the last */
#define SEEN_WORDS 4 /* fields of most messages: 256 */

struct check {
	struct sn_error *err; /* may be NULL */
	size_t limit;
	size_t memory; /* what protobuf-c would have allocated so far */
	size_t copies; /* what it would have copied in merges */
	bool merges;   /* a submessage comes twice */
	unsigned depth;
	uint32_t path[SN_PROTOBUF_DEPTH_MAX + 1]; /* numbers of the fields around */
};

/* ---- failing ---- */

static int check_failed(struct check *c, int code, uint32_t number, const char *what)
{
	char path[160];
	size_t n = 0;

	for (unsigned i = 0; i < c->depth && n < sizeof path - 16; i++)
		n += (size_t)snprintf(path + n, sizeof path - n, "%u.", c->path[i]);
	path[n] = '\0';
	if (number != 0)
		return sn__error_set(c->err, code, "field %s%u: %s", path, number, what);
	if (n > 0) {
		path[n - 1] = '\0';
		return sn__error_set(c->err, code, "field %s: %s", path, what);
	}
	return sn__error_set(c->err, code, "message: %s", what);
}

static int charge(struct check *c, uint32_t number, size_t bytes)
{
	c->memory += bytes; /* at most some hundred times 2^31 */
	if (c->memory + c->copies <= c->limit)
		return 0;
	return check_failed(c, SN_E_LIMIT, number,
			"the message would take far more memory than it has bytes");
}

/* ---- types ---- */

static enum sn_protobuf_wire wire_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return SN_PROTOBUF_I32;
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return SN_PROTOBUF_I64;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return SN_PROTOBUF_LEN;
	default:
		return SN_PROTOBUF_VARINT;
	}
}

/* Of an element in the array of a repeated field. */
static size_t size_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_UINT64:
		return 8;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	default:
		return 4;
	}
}

/* ---- fields ---- */

/* Whether @data is whole varints; how many. */
static bool count_varints(struct sn_str data, size_t *ret_n)
{
	uint64_t value;

	for (*ret_n = 0; data.len > 0; ++*ret_n) {
		size_t small = 0;

		while (small < data.len && (unsigned char)data.ptr[small] < 0x80)
			small++;
		*ret_n += small;
		data.ptr += small;
		data.len -= small;
		if (data.len == 0)
			return true;
		if (sn__protobuf_varint(&data, &value) < 0)
			return false;
	}
	return true;
}

static int check_packed(struct check *c, const ProtobufCFieldDescriptor *field, struct sn_str data)
{
	enum sn_protobuf_wire wire = wire_of(field->type);
	size_t n;

	if (wire == SN_PROTOBUF_VARINT) {
		if (!count_varints(data, &n))
			return check_failed(c, SN_E_PARSE, field->id,
					"packed numbers end in the middle of one");
	} else {
		size_t size = wire == SN_PROTOBUF_I32 ? 4 : 8;

		if (data.len % size != 0)
			return check_failed(c, SN_E_PARSE, field->id,
					"packed numbers end in the middle of one");
		n = data.len / size;
	}
	return charge(c, field->id, n * size_of(field->type));
}

static int check_string(struct check *c, const ProtobufCFieldDescriptor *field, struct sn_str text)
{
	if (!sn__utf8_valid(text))
		return check_failed(c, SN_E_PARSE, field->id, "a string that is not UTF-8");
	if (text.len > 0 && memchr(text.ptr, '\0', text.len) != NULL)
		return check_failed(c, SN_E_PARSE, field->id,
				"a string with a byte of zero, at which it would end");
	return charge(c, field->id, text.len + 1 + ALLOC_COST);
}

static int check_message(
		struct check *c, const ProtobufCMessageDescriptor *type, struct sn_str data);

static int check_nested(struct check *c, const ProtobufCFieldDescriptor *field, struct sn_str data)
{
	int r;

	if (c->depth == SN_PROTOBUF_DEPTH_MAX)
		return check_failed(c, SN_E_LIMIT, field->id, "messages nested too deep");
	c->path[c->depth++] = field->id;
	r = check_message(c, field->descriptor, data);
	c->depth--;
	return r;
}

static int check_value(struct check *c, const ProtobufCFieldDescriptor *field,
		const struct sn_protobuf_field *f)
{
	bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
	enum sn_protobuf_wire wire = wire_of(field->type);
	int r = 0;

	if (repeated && f->wire == SN_PROTOBUF_LEN && wire != SN_PROTOBUF_LEN)
		return check_packed(c, field, f->bytes);
	if (f->wire != wire)
		return check_failed(c, SN_E_PARSE, f->number, "not of the type of this field");
	if (repeated)
		r = charge(c, f->number, size_of(field->type));
	if (r < 0)
		return r;
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		return check_string(c, field, f->bytes);
	case PROTOBUF_C_TYPE_BYTES:
		return charge(c, f->number, f->bytes.len + ALLOC_COST);
	case PROTOBUF_C_TYPE_MESSAGE:
		return check_nested(c, field, f->bytes);
	default:
		return 0;
	}
}

/* ---- messages ---- */

struct frame {
	const ProtobufCMessageDescriptor *type;
	size_t memory;                        /* of the check, when this message began */
	size_t n_scanned;                     /* its fields so far */
	uint64_t *seen;                       /* bit set of fields by their index */
	const ProtobufCFieldDescriptor *last; /* found; the next is often the same; may be NULL */
};

static int check_scanned(struct check *c, struct frame *frame, uint32_t number)
{
	size_t n = frame->n_scanned++ + SCANNED_ON_STACK;

	if (n == SCANNED_ON_STACK || (n & (n - 1)) != 0)
		return 0;
	return charge(c, number, n * SCANNED_COST + ALLOC_COST); /* a block begins */
}

static int check_field(struct check *c, struct frame *frame, const struct sn_protobuf_field *f,
		size_t size)
{
	const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(
			frame->type, f->number);
	int r = check_scanned(c, frame, f->number);
	size_t index;

	if (r < 0)
		return r;
	if (f->wire == SN_PROTOBUF_GROUP)
		return check_failed(c, SN_E_PARSE, f->number, "groups are not supported");
	if (field == NULL || field->id != f->number)
		field = protobuf_c_message_descriptor_get_field(frame->type, f->number);
	if (field == NULL)
		return charge(c, f->number,
				sizeof(ProtobufCMessageUnknownField) + size + 2 * ALLOC_COST);
	frame->last = field;
	index = (size_t)(field - frame->type->fields);
	if (field->type == PROTOBUF_C_TYPE_MESSAGE && field->label != PROTOBUF_C_LABEL_REPEATED &&
			(frame->seen[index / 64] >> index % 64 & 1) != 0) {
		c->copies += c->memory - frame->memory;
		c->merges = true;
	}
	frame->seen[index / 64] |= UINT64_C(1) << index % 64;
	return check_value(c, field, f);
}

static int check_fields(struct check *c, struct frame *frame, struct sn_str data)
{
	const ProtobufCMessageDescriptor *type = frame->type;
	struct sn_protobuf_field f;
	int r;

	for (;;) {
		size_t before = data.len;

		r = sn__protobuf_next(&data, &f);
		if (r < 0)
			return check_failed(c, r, 0, "not a protobuf message");
		if (r == 0)
			break;
		r = check_field(c, frame, &f, before - data.len);
		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < type->n_fields; i++) {
		if (type->fields[i].label == PROTOBUF_C_LABEL_REQUIRED &&
				(frame->seen[i / 64] >> i % 64 & 1) == 0)
			return check_failed(c, SN_E_PARSE, type->fields[i].id,
					"required, and not there");
	}
	return 0;
}

/* Room for the fields of @type: @few, or memory to be freed. */
static uint64_t *bit_set(const ProtobufCMessageDescriptor *type, uint64_t few[SEEN_WORDS])
{
	size_t words = (type->n_fields + 63) / 64;

	return words > SEEN_WORDS ? sn__calloc(words, sizeof *few) : few;
}

static int check_message(
		struct check *c, const ProtobufCMessageDescriptor *type, struct sn_str data)
{
	uint64_t few[SEEN_WORDS] = {0};
	struct frame frame = {.type = type, .memory = c->memory};
	int r = charge(c, 0, type->sizeof_message + ALLOC_COST);

	if (r < 0)
		return r;
	frame.seen = bit_set(type, few);
	if (frame.seen == NULL)
		return check_failed(c, SN_E_NOMEM, 0, "out of memory");
	r = check_fields(c, &frame, data);
	if (frame.seen != few)
		sn__free(frame.seen);
	return r;
}

static int check(struct check *c, const ProtobufCMessageDescriptor *type, struct sn_str data,
		struct sn_error *err)
{
	if (data.len > INT32_MAX)
		return sn__error_set(err, SN_E_LIMIT, "message: larger than 2 GiB");
	/* One by one: the path need not be zeroed for every small message. */
	c->err = err;
	c->limit = SN_PROTOBUF_BLOWUP_MIN + data.len * SN_PROTOBUF_BLOWUP;
	c->memory = 0;
	c->copies = 0;
	c->merges = false;
	c->depth = 0;
	return check_message(c, type, data);
}

int sn__protobuf_check(const struct ProtobufCMessageDescriptor *type, struct sn_str data,
		struct sn_error *err)
{
	struct check c;

	return check(&c, type, data, err);
}

/* ---- submessages that come twice ---- */

static bool comes_again(struct sn_str rest, uint32_t number)
{
	struct sn_protobuf_field f;

	while (sn__protobuf_next(&rest, &f) > 0) {
		if (f.number == number)
			return true;
	}
	return false;
}

/* The bytes of @first, and behind them those of the same field in the @rest of its message. */
static int gather(const struct sn_protobuf_field *first, struct sn_str rest, struct sn_buf *out)
{
	int r = sn__buf_append_str(out, first->bytes);
	struct sn_protobuf_field f;

	while (r == 0 && sn__protobuf_next(&rest, &f) > 0) {
		if (f.number == first->number)
			r = sn__buf_append_str(out, f.bytes);
	}
	return r;
}

static int merge_fields(const ProtobufCMessageDescriptor *type, struct sn_str in, uint64_t *seen,
		struct sn_buf *out);

/* A copy of the message @in, which has been checked. */
static int merge_message(
		const ProtobufCMessageDescriptor *type, struct sn_str in, struct sn_buf *out)
{
	uint64_t few[SEEN_WORDS] = {0};
	uint64_t *seen = bit_set(type, few);
	int r;

	if (seen == NULL)
		return SN_E_NOMEM;
	r = merge_fields(type, in, seen, out);
	if (seen != few)
		sn__free(seen);
	return r;
}

/* @rest: what follows on @f in its message. */
static int merge_nested(const ProtobufCFieldDescriptor *field, const struct sn_protobuf_field *f,
		struct sn_str rest, struct sn_buf *out)
{
	/* In a oneof the last counts, as protobuf-c has it. */
	bool merged = field->label != PROTOBUF_C_LABEL_REPEATED &&
			(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 &&
			comes_again(rest, f->number);
	size_t from = out->len;
	struct sn_buf whole;
	int r;

	sn__buf_init(&whole, f->bytes.len + rest.len + 1);
	r = merged ? gather(f, rest, &whole) : 0;
	if (r == 0)
		r = merge_message(field->descriptor, merged ? sn__buf_str(&whole) : f->bytes, out);
	sn__buf_finish(&whole);
	return r < 0 ? r : sn__protobuf_put_around(out, f->number, from);
}

static int merge_fields(const ProtobufCMessageDescriptor *type, struct sn_str in, uint64_t *seen,
		struct sn_buf *out)
{
	const ProtobufCFieldDescriptor *field;
	struct sn_protobuf_field f;
	struct sn_str raw = in;
	int r = 0;

	for (; r == 0 && sn__protobuf_next(&in, &f) > 0; raw = in) {
		raw.len -= in.len;
		field = protobuf_c_message_descriptor_get_field(type, f.number);
		if (field == NULL || field->type != PROTOBUF_C_TYPE_MESSAGE) {
			r = sn__buf_append_str(out, raw);
			continue;
		}
		if (field->label != PROTOBUF_C_LABEL_REPEATED &&
				(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) {
			size_t index = (size_t)(field - type->fields);
			uint64_t bit = UINT64_C(1) << index % 64;

			if ((seen[index / 64] & bit) != 0)
				continue;
			seen[index / 64] |= bit;
		}
		r = merge_nested(field, &f, in, out);
	}
	return r;
}

/* ---- protobuf-c with our allocator ---- */

static void *message_alloc(void *failed, size_t size)
{
	void *p = sn__malloc(size);

	if (p == NULL)
		*(bool *)failed = true;
	return p;
}

static void message_free(void *failed, void *p)
{
	sn__free(p);
}

static int unpack(const ProtobufCMessageDescriptor *type, struct sn_str data,
		ProtobufCMessage **ret_message, struct sn_error *err)
{
	bool no_memory = false;
	ProtobufCAllocator allocator = {message_alloc, message_free, &no_memory};
	ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, data.len,
			(const uint8_t *)(data.ptr != NULL ? data.ptr : ""));

	if (message == NULL && no_memory)
		return sn__error_set(err, SN_E_NOMEM, "message: out of memory");
	if (message == NULL)
		return sn__error_set(err, SN_E_PARSE, "message: not a %s", type->name);
	*ret_message = message;
	return 0;
}

int sn__protobuf_unpack(const struct ProtobufCMessageDescriptor *type, struct sn_str data,
		struct ProtobufCMessage **ret_message, struct sn_error *err)
{
	struct sn_buf merged;
	struct check c;
	int r = check(&c, type, data, err);

	if (r < 0)
		return r;
	if (!c.merges)
		return unpack(type, data, ret_message, err);
	sn__buf_init(&merged, data.len + 1); /* one field takes less than two */
	r = merge_message(type, data, &merged);
	if (r == 0)
		r = unpack(type, sn__buf_str(&merged), ret_message, err);
	else
		r = sn__error_set(err, r, "message: out of memory");
	sn__buf_finish(&merged);
	return r;
}

void sn__protobuf_free(struct ProtobufCMessage *message)
{
	ProtobufCAllocator allocator = {message_alloc, message_free, NULL};

	if (message != NULL)
		protobuf_c_message_free_unpacked(message, &allocator);
}

int sn__protobuf_pack(const struct ProtobufCMessage *message, struct sn_buf *out)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	char *space;
	int r = sn__buf_reserve(out, size, &space);

	if (r < 0)
		return r;
	if (size > 0)
		sn__buf_commit(out, protobuf_c_message_pack(message, (uint8_t *)space));
	return 0;
}
