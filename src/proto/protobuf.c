/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of the wire format one by one, in both directions. */
#include "proto/protobuf.h"

#include "base/mem.h"

#define VARINT_MAX 10 /* bytes of 64 bits */
#define TAG_MAX 5     /* bytes of a tag or a length: 32 bits */
#define FIELD_NUMBER_MAX ((1u << 29) - 1)

/* ---- reading ---- */

static inline int read_varint(struct sn_str *in, size_t max, uint64_t *ret_value)
{
	uint64_t value = 0;
	size_t n = SN_MIN(in->len, max);

	if (n > 0 && (unsigned char)in->ptr[0] < 0x80) { /* most are */
		*ret_value = (unsigned char)*in->ptr++;
		in->len--;
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)in->ptr[i];

		if (i == VARINT_MAX - 1 && c > 1)
			return SN_E_PARSE;
		value |= (uint64_t)(c & 0x7f) << (7 * i);
		if (c < 0x80) {
			in->ptr += i + 1;
			in->len -= i + 1;
			*ret_value = value;
			return 0;
		}
	}
	return SN_E_PARSE;
}

int sn__protobuf_varint(struct sn_str *in, uint64_t *ret_value)
{
	return read_varint(in, VARINT_MAX, ret_value);
}

static int read_fixed(struct sn_str *in, size_t n, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (in->len < n)
		return SN_E_PARSE;
	for (size_t i = 0; i < n; i++)
		value |= (uint64_t)(unsigned char)in->ptr[i] << (8 * i);
	in->ptr += n;
	in->len -= n;
	*ret_value = value;
	return 0;
}

static int read_bytes(struct sn_str *in, struct sn_str *ret_bytes)
{
	uint64_t n;
	int r = read_varint(in, TAG_MAX, &n);

	if (r < 0)
		return r;
	if (n > in->len)
		return SN_E_PARSE;
	*ret_bytes = (struct sn_str){in->ptr, (size_t)n};
	in->ptr += n;
	in->len -= (size_t)n;
	return 0;
}

static int read_tag(struct sn_str *in, uint32_t *ret_number, enum sn_protobuf_wire *ret_wire)
{
	uint64_t tag;
	int r = read_varint(in, TAG_MAX, &tag);

	if (r < 0)
		return r;
	if (tag >> 3 == 0 || tag >> 3 > FIELD_NUMBER_MAX || (tag & 7) > SN_PROTOBUF_I32)
		return SN_E_PARSE;
	*ret_number = (uint32_t)(tag >> 3);
	*ret_wire = (enum sn_protobuf_wire)(tag & 7);
	return 0;
}

/* What stands behind a tag, except of groups. */
static int read_value(struct sn_str *in, struct sn_protobuf_field *field)
{
	switch (field->wire) {
	case SN_PROTOBUF_VARINT:
		return read_varint(in, VARINT_MAX, &field->value);
	case SN_PROTOBUF_I64:
		return read_fixed(in, 8, &field->value);
	case SN_PROTOBUF_I32:
		return read_fixed(in, 4, &field->value);
	case SN_PROTOBUF_LEN:
		return read_bytes(in, &field->bytes);
	default:
		return SN_E_PARSE;
	}
}

/* To the end of the group @number, whose beginning has been read. */
static int read_group(struct sn_str *in, uint32_t number, struct sn_str *ret_content)
{
	uint32_t open[SN_PROTOBUF_DEPTH_MAX] = {number};
	const char *begin = in->ptr;
	unsigned depth = 1;

	for (;;) {
		struct sn_protobuf_field field = {0};
		const char *end = in->ptr;
		int r = read_tag(in, &field.number, &field.wire);

		if (r < 0)
			return r;
		if (field.wire == SN_PROTOBUF_GROUP) {
			if (depth == SN_PROTOBUF_DEPTH_MAX)
				return SN_E_PARSE;
			open[depth++] = field.number;
		} else if (field.wire == SN_PROTOBUF_GROUP_END) {
			if (field.number != open[--depth])
				return SN_E_PARSE;
			if (depth == 0) {
				*ret_content = (struct sn_str){begin, (size_t)(end - begin)};
				return 0;
			}
		} else {
			r = read_value(in, &field);
			if (r < 0)
				return r;
		}
	}
}

int sn__protobuf_next(struct sn_str *in, struct sn_protobuf_field *ret_field)
{
	struct sn_protobuf_field field = {0};
	struct sn_str rest = *in;
	int r;

	if (rest.len == 0)
		return 0;
	r = read_tag(&rest, &field.number, &field.wire);
	if (r == 0)
		r = field.wire == SN_PROTOBUF_GROUP ? read_group(&rest, field.number, &field.bytes)
						    : read_value(&rest, &field);
	if (r < 0)
		return r;
	*in = rest;
	*ret_field = field;
	return 1;
}

/* ---- writing ---- */

static size_t write_varint(char *out, uint64_t value)
{
	size_t n = 0;

	for (; value >= 0x80; value >>= 7)
		out[n++] = (char)(value | 0x80);
	out[n++] = (char)value;
	return n;
}

static size_t write_tag(char *out, uint32_t number, enum sn_protobuf_wire wire)
{
	assert(number > 0 && number <= FIELD_NUMBER_MAX);
	return write_varint(out, (uint64_t)number << 3 | wire);
}

static int put_fixed(struct sn_buf *out, uint32_t number, enum sn_protobuf_wire wire, size_t size,
		uint64_t value)
{
	char text[TAG_MAX + 8];
	size_t n = write_tag(text, number, wire);

	for (size_t i = 0; i < size; i++)
		text[n++] = (char)(value >> (8 * i));
	return sn__buf_append(out, text, n);
}

int sn__protobuf_put_varint(struct sn_buf *out, uint32_t number, uint64_t value)
{
	char text[TAG_MAX + VARINT_MAX];
	size_t n = write_tag(text, number, SN_PROTOBUF_VARINT);

	n += write_varint(text + n, value);
	return sn__buf_append(out, text, n);
}

int sn__protobuf_put_i32(struct sn_buf *out, uint32_t number, uint32_t value)
{
	return put_fixed(out, number, SN_PROTOBUF_I32, 4, value);
}

int sn__protobuf_put_i64(struct sn_buf *out, uint32_t number, uint64_t value)
{
	return put_fixed(out, number, SN_PROTOBUF_I64, 8, value);
}

int sn__protobuf_put_bytes(struct sn_buf *out, uint32_t number, struct sn_str bytes)
{
	char text[TAG_MAX + VARINT_MAX];
	size_t n = write_tag(text, number, SN_PROTOBUF_LEN);
	char *space;
	int r;

	n += write_varint(text + n, bytes.len);
	if (bytes.len > SIZE_MAX - n)
		return SN_E_LIMIT;
	r = sn__buf_reserve(out, n + bytes.len, &space);
	if (r < 0)
		return r;
	memcpy(space, text, n);
	if (bytes.len > 0)
		memcpy(space + n, bytes.ptr, bytes.len);
	sn__buf_commit(out, n + bytes.len);
	return 0;
}

int sn__protobuf_put_packed(struct sn_buf *out, enum sn_protobuf_wire wire, uint64_t value)
{
	size_t size = wire == SN_PROTOBUF_I64 ? 8 : 4;
	char text[VARINT_MAX];
	size_t n = 0;

	if (wire == SN_PROTOBUF_VARINT) {
		n = write_varint(text, value);
	} else {
		for (; n < size; n++)
			text[n] = (char)(value >> (8 * n));
	}
	return sn__buf_append(out, text, n);
}

int sn__protobuf_put_around(struct sn_buf *out, uint32_t number, size_t from)
{
	char text[TAG_MAX + VARINT_MAX];
	size_t n = write_tag(text, number, SN_PROTOBUF_LEN);
	size_t len = out->len - from;
	char *space;
	int r;

	n += write_varint(text + n, len);
	r = sn__buf_reserve(out, n, &space);
	if (r < 0)
		return r;
	space -= len;
	memmove(space + n, space, len);
	memcpy(space, text, n);
	sn__buf_commit(out, n);
	return 0;
}
