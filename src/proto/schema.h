/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_SCHEMA_H
#define SN_SRC_PROTO_SCHEMA_H

/*
 * Internal, of schema.c and protobuf_json.c. What a schema keeps of its files. Names lie in the
 * arena of their file, with a NUL behind them.
 */

#include "base/arena.h"
#include "base/map.h"
#include "proto/protobuf_json.h"

/* Numbers of FieldDescriptorProto.Type. */
enum sn_schema_type {
	SN_SCHEMA_NONE = 0,
	SN_SCHEMA_DOUBLE = 1,
	SN_SCHEMA_FLOAT = 2,
	SN_SCHEMA_INT64 = 3,
	SN_SCHEMA_UINT64 = 4,
	SN_SCHEMA_INT32 = 5,
	SN_SCHEMA_FIXED64 = 6,
	SN_SCHEMA_FIXED32 = 7,
	SN_SCHEMA_BOOL = 8,
	SN_SCHEMA_STRING = 9,
	SN_SCHEMA_GROUP = 10,
	SN_SCHEMA_MESSAGE = 11,
	SN_SCHEMA_BYTES = 12,
	SN_SCHEMA_UINT32 = 13,
	SN_SCHEMA_ENUM = 14,
	SN_SCHEMA_SFIXED32 = 15,
	SN_SCHEMA_SFIXED64 = 16,
	SN_SCHEMA_SINT32 = 17,
	SN_SCHEMA_SINT64 = 18,
};

enum sn_schema_label {
	SN_SCHEMA_OPTIONAL = 1,
	SN_SCHEMA_REQUIRED = 2,
	SN_SCHEMA_REPEATED = 3,
};

/* Messages with a JSON form of their own. */
enum sn_schema_known {
	SN_SCHEMA_PLAIN,
	SN_SCHEMA_ANY,
	SN_SCHEMA_DURATION,
	SN_SCHEMA_FIELD_MASK,
	SN_SCHEMA_LIST_VALUE,
	SN_SCHEMA_STRUCT,
	SN_SCHEMA_TIMESTAMP,
	SN_SCHEMA_VALUE,
	SN_SCHEMA_WRAPPER,
};

struct sn_schema_field {
	struct sn_str name, json_name;
	struct sn_str type_name; /* full name of a message or enum */
	struct sn_str default_value;
	uint32_t number;
	int32_t oneof; /* index, or -1 */
	enum sn_schema_type type;
	enum sn_schema_label label;
	bool packed;    /* is written so */
	bool presence;  /* a default value that is there differs from an absent one */
	bool optional3; /* "optional" of proto3; its oneof is not one */
};

struct sn_schema_message {
	struct sn_str name, full_name;
	struct sn_schema_message *next;     /* beside it */
	struct sn_schema_message *messages; /* within it */
	struct sn_schema_enum *enums;
	struct sn_schema_field *fields; /* as declared */
	struct sn_schema_field **by_number;
	struct sn_str *oneofs;
	uint32_t n_fields, n_oneofs;
	enum sn_schema_known known;
	bool map_entry; /* fields[0] is the key, fields[1] the value */
};

struct sn_schema_value {
	struct sn_str name;
	int32_t number;
};

struct sn_schema_enum {
	struct sn_str name, full_name;
	struct sn_schema_enum *next;
	struct sn_schema_value *values;     /* as declared */
	struct sn_schema_value **by_number; /* and then as declared */
	uint32_t n_values;
	bool closed; /* other numbers are no values of it */
	bool null;   /* google.protobuf.NullValue */
};

struct sn_schema_service {
	struct sn_str name, full_name;
	struct sn_schema_method *methods;
	uint32_t n_methods;
};

const struct sn_schema_enum *sn__schema_enum(
		const struct sn_schema *schema, struct sn_str full_name);
/** The field with @number, or NULL. */
const struct sn_schema_field *sn__schema_field(
		const struct sn_schema_message *message, uint32_t number);
/** The first value declared with @number, or NULL. */
const struct sn_schema_value *sn__schema_value(const struct sn_schema_enum *e, int32_t number);

#endif
