/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_PROTOBUF_H
#define SN_SRC_PROTO_PROTOBUF_H

/*
 * Internal. Protocol buffers on the wire (protobuf.dev, "Encoding"): a reader and a writer of fields,
 * and the check that stands before protobuf-c, which crashes on deep nesting and allocates what a
 * stranger asks for. Any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

#define SN_PROTOBUF_DEPTH_MAX 100 /* nested messages and groups */
/* A message may take this many times its size in memory; every one this much. */
#define SN_PROTOBUF_BLOWUP ((size_t)64)
#define SN_PROTOBUF_BLOWUP_MIN ((size_t)1 << 20)

enum sn_protobuf_wire {
	SN_PROTOBUF_VARINT = 0,
	SN_PROTOBUF_I64 = 1,
	SN_PROTOBUF_LEN = 2,
	SN_PROTOBUF_GROUP = 3, /* deprecated; skipped whole */
	SN_PROTOBUF_GROUP_END = 4,
	SN_PROTOBUF_I32 = 5,
};

/* ---- fields ---- */

struct sn_protobuf_field {
	uint32_t number;
	enum sn_protobuf_wire wire;
	uint64_t value;      /* VARINT, I64, I32 */
	struct sn_str bytes; /* LEN: in the input; GROUP: its content */
};
/** The next field of *in, which is shortened by it. 1, 0 at the end, SN_E_PARSE. */
SN_MUST_USE int sn__protobuf_next(struct sn_str *in, struct sn_protobuf_field *ret_field);
/** One varint off *in (packed fields). SN_E_PARSE. */
SN_MUST_USE int sn__protobuf_varint(struct sn_str *in, uint64_t *ret_value);
static inline int64_t sn_protobuf_zigzag(uint64_t v)
{
	return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/** Append. SN_E_LIMIT, SN_E_NOMEM: the buffer is as before. */
SN_MUST_USE int sn__protobuf_put_varint(struct sn_buf *out, uint32_t number, uint64_t value);
SN_MUST_USE int sn__protobuf_put_i32(struct sn_buf *out, uint32_t number, uint32_t value);
SN_MUST_USE int sn__protobuf_put_i64(struct sn_buf *out, uint32_t number, uint64_t value);
SN_MUST_USE int sn__protobuf_put_bytes(struct sn_buf *out, uint32_t number, struct sn_str bytes);

/** What stands in a packed field: a value without its tag. @wire: VARINT, I64 or I32. */
SN_MUST_USE int sn__protobuf_put_packed(
		struct sn_buf *out, enum sn_protobuf_wire wire, uint64_t value);
/** The bytes of @out from @from on become field @number: a message whose size shows afterwards. */
SN_MUST_USE int sn__protobuf_put_around(struct sn_buf *out, uint32_t number, size_t from);

/* ---- messages of protobuf-c ---- */

/**
 * Whether @data can be given to protobuf-c as a message of @type: well-formed, nested at most
 * SN_PROTOBUF_DEPTH_MAX deep, known fields of their type, required ones there, no groups, strings
 * UTF-8 without bytes of zero (the C string would end there), and what it would allocate bounded by
 * SN_PROTOBUF_BLOWUP. SN_E_PARSE, SN_E_LIMIT, SN_E_NOMEM (only types of over 256 fields take
 * memory); err says where ("field 3.2: ...").
 */
SN_MUST_USE int sn__protobuf_check(const struct ProtobufCMessageDescriptor *type,
		struct sn_str data, struct sn_error *err /* may be NULL */);
/** Check, then unpack with our allocator. SN_E_PARSE, SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__protobuf_unpack(const struct ProtobufCMessageDescriptor *type,
		struct sn_str data, struct ProtobufCMessage **ret_message,
		struct sn_error *err /* may be NULL */);
void sn__protobuf_free(struct ProtobufCMessage *message /* may be NULL */);
/** Append the packed message. SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__protobuf_pack(const struct ProtobufCMessage *message, struct sn_buf *out);

#endif
