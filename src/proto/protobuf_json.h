/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_PROTOBUF_JSON_H
#define SN_SRC_PROTO_PROTOBUF_JSON_H

/*
 * Internal. Messages as JSON by their descriptors (protobuf.dev, "ProtoJSON Format"): what
 * `sinew grpc` needs to call a method it has never seen, and google.protobuf.Struct, which streams'
 * configurations arrive in. Objects of one thread.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

/* ---- schema: descriptors read at run time ---- */

struct sn_schema; /* files, messages, enums, services by full name */
struct sn_schema_message;
struct sn_schema_enum;
struct sn_schema_service;

#define SN_SCHEMA_SIZE_MAX ((size_t)64 << 20) /* memory of all files */
#define SN_SCHEMA_NAME_MAX 512                /* bytes of a full name */
#define SN_SCHEMA_DEPTH_MAX 32                /* messages defined in messages */

SN_MUST_USE int sn__schema_create(struct sn_schema **ret_schema);
void sn__schema_destroy(struct sn_schema *schema /* may be NULL */);
/** Add one serialized FileDescriptorProto (copied), or a FileDescriptorSet, all of it or nothing.
 * Types may be defined in files that come later. A file that is there already is passed over. Files
 * of proto2 and proto3. SN_E_PARSE, SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__schema_add_file(
		struct sn_schema *schema, struct sn_str file, struct sn_error *err);
SN_MUST_USE int sn__schema_add_set(
		struct sn_schema *schema, struct sn_str set, struct sn_error *err);
/** The serialized file called @name ("a/b.proto"), or the one that defines @symbol (a full name of a
 * message, enum, service, method, field or enum value); {NULL, 0}: none. */
struct sn_str sn__schema_file(const struct sn_schema *schema, struct sn_str name);
struct sn_str sn__schema_file_of(const struct sn_schema *schema, struct sn_str symbol);
/** Names of the files @name imports, one a call by @index; {NULL, 0} at the end. */
struct sn_str sn__schema_import(const struct sn_schema *schema, struct sn_str name, unsigned index);

const struct sn_schema_message *sn__schema_message(
		const struct sn_schema *schema, struct sn_str full_name);
/** Empty message names when the method is not there. */
struct sn_schema_method {
	struct sn_str name, input, output; /* full names of the messages, without a leading dot */
	bool client_streams, server_streams;
};
const struct sn_schema_service *sn__schema_service(
		const struct sn_schema *schema, struct sn_str full_name);
/** SN_E_NOT_FOUND behind the last. */
SN_MUST_USE int sn__schema_method_at(const struct sn_schema_service *service, unsigned index,
		struct sn_schema_method *ret_method);
/** A .proto-like text of a message, enum or service, for people. SN_E_NOT_FOUND, SN_E_NOMEM. */
SN_MUST_USE int sn__schema_describe(
		const struct sn_schema *schema, struct sn_str full_name, struct sn_buf *out);

/* ---- messages and JSON ---- */

/** The wire form of @message as JSON text: camelCase names, 64-bit integers as strings, bytes in
 * base64, enums by name, maps as objects, default values left out; Struct, Value, ListValue,
 * Timestamp, Duration, FieldMask, Any, wrappers and Empty in their own forms. Unknown fields and
 * groups are left out. JSON is nested at most SN_JSON_DEPTH_MAX deep. SN_E_PARSE, SN_E_LIMIT,
 * SN_E_NOMEM, SN_E_NOT_FOUND (the type of a field or an Any is not in the schema); then @out is as
 * before. */
SN_MUST_USE int sn__protobuf_to_json(const struct sn_schema *schema,
		const struct sn_schema_message *message, struct sn_str data, struct sn_buf *out,
		struct sn_error *err);
/** Back. Names as in the .proto or in camelCase. err: where and what ("field payload.body: bytes are
 * given in base64"), with the nearest name for an unknown one. Null is absence, except of a Value.
 * SN_E_INVALID, SN_E_LIMIT, SN_E_NOMEM, SN_E_NOT_FOUND as above; then @out is as before. */
SN_MUST_USE int sn__protobuf_from_json(const struct sn_schema *schema,
		const struct sn_schema_message *message, const json_t *json, struct sn_buf *out,
		struct sn_error *err);

/** google.protobuf.Struct alone, without a schema: bytes to a JSON object and back. Whole numbers
 * below 2^53 become integers; of several members with one name the last wins. Nested at most
 * SN_JSON_DEPTH_MAX deep (SN_E_LIMIT). Reading: SN_E_PARSE (also a number that is NaN or infinite, a
 * name with a byte of zero), SN_E_NOMEM. Writing: SN_E_INVALID (no object; an integer that a double
 * cannot hold), SN_E_LIMIT, SN_E_NOMEM; then @out is as before. */
SN_MUST_USE int sn__protobuf_struct_read(
		struct sn_str data, json_t **ret_json, struct sn_error *err);
SN_MUST_USE int sn__protobuf_struct_write(
		const json_t *json, struct sn_buf *out, struct sn_error *err);
/** The same for its parts (any JSON; an array), standing @depth brackets deep in other JSON. */
enum sn_protobuf_value {
	SN_PROTOBUF_STRUCT,
	SN_PROTOBUF_VALUE,
	SN_PROTOBUF_LIST,
};
SN_MUST_USE int sn__protobuf_value_read(enum sn_protobuf_value kind, struct sn_str data,
		unsigned depth, json_t **ret_json, struct sn_error *err);
SN_MUST_USE int sn__protobuf_value_write(enum sn_protobuf_value kind, const json_t *json,
		unsigned depth, struct sn_buf *out, struct sn_error *err);

#endif
