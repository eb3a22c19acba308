/* SPDX-License-Identifier: Apache-2.0 */
/* google.protobuf.Struct, Value and ListValue (google/protobuf/struct.proto) and JSON. */
#include <math.h>

#include "base/mem.h"
#include "proto/protobuf.h"
#include "proto/protobuf_json.h"

enum value_field {
	VALUE_NULL = 1,
	VALUE_NUMBER = 2,
	VALUE_STRING = 3,
	VALUE_BOOL = 4,
	VALUE_STRUCT = 5,
	VALUE_LIST = 6,
};

/* ---- reading ---- */

static int malformed(struct sn_error *err)
{
	return sn__error_set(err, SN_E_PARSE, "google.protobuf.Struct: not well-formed");
}

static int no_memory(struct sn_error *err)
{
	return sn__error_set(err, SN_E_NOMEM, "out of memory");
}

static int too_deep(struct sn_error *err)
{
	return sn__error_set(err, SN_E_LIMIT, "google.protobuf.Struct: nested more than %d deep",
			SN_JSON_DEPTH_MAX);
}

static int read_value(struct sn_str in, unsigned depth, json_t **json, struct sn_error *err);

/* One member; of the fields of its entry the last count. */
static int read_entry(struct sn_str in, unsigned depth, json_t *object, struct sn_error *err)
{
	SN_AUTO_JSON json_t *value = NULL;
	struct sn_protobuf_field f;
	struct sn_str key = SN_STR("");
	int r;

	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		if (f.wire != SN_PROTOBUF_LEN)
			continue;
		if (f.number == 1)
			key = f.bytes;
		r = f.number == 2 ? read_value(f.bytes, depth, &value, err) : 0;
		if (r < 0)
			return r;
	}
	if (r < 0)
		return malformed(err);
	if (!sn__utf8_valid(key) || (key.len > 0 && memchr(key.ptr, '\0', key.len) != NULL))
		return sn__error_set(err, SN_E_PARSE,
				"google.protobuf.Struct: a name that is not UTF-8, or has a byte of zero");
	if (value == NULL)
		value = json_null();
	if (json_object_setn_nocheck(object, key.len > 0 ? key.ptr : "", key.len, value) < 0)
		return no_memory(err);
	return 0;
}

static int read_members(struct sn_str in, unsigned depth, json_t *object, struct sn_error *err)
{
	struct sn_protobuf_field f;
	int r;

	if (depth >= SN_JSON_DEPTH_MAX)
		return too_deep(err);
	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		if (f.number == 1 && f.wire == SN_PROTOBUF_LEN)
			r = read_entry(f.bytes, depth + 1, object, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? malformed(err) : 0;
}

static int read_items(struct sn_str in, unsigned depth, json_t *array, struct sn_error *err)
{
	struct sn_protobuf_field f;
	int r;

	if (depth >= SN_JSON_DEPTH_MAX)
		return too_deep(err);
	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		SN_AUTO_JSON json_t *value = NULL;

		if (f.number != 1 || f.wire != SN_PROTOBUF_LEN)
			continue;
		r = read_value(f.bytes, depth + 1, &value, err);
		if (r < 0)
			return r;
		if (json_array_append(array, value) < 0)
			return no_memory(err);
	}
	return r < 0 ? malformed(err) : 0;
}

static json_t *number_of(uint64_t bits)
{
	double v;

	memcpy(&v, &bits, sizeof v);
	if (v > -0x1p53 && v < 0x1p53 && v == (double)(json_int_t)v && (v != 0 || !signbit(v)))
		return json_integer((json_int_t)v);
	return isfinite(v) ? json_real(v) : NULL;
}

/* One kind of value; structs and lists go on with the one before (*json). */
static int read_kind(const struct sn_protobuf_field *f, unsigned depth, json_t **json,
		struct sn_error *err)
{
	bool object = f->number == VALUE_STRUCT;
	json_t *v = NULL;
	double number;

	if (f->wire == SN_PROTOBUF_VARINT && f->number == VALUE_NULL) {
		v = json_null();
	} else if (f->wire == SN_PROTOBUF_VARINT && f->number == VALUE_BOOL) {
		v = json_boolean(f->value != 0);
	} else if (f->wire == SN_PROTOBUF_I64 && f->number == VALUE_NUMBER) {
		memcpy(&number, &f->value, sizeof number);
		if (!isfinite(number))
			return sn__error_set(err, SN_E_PARSE,
					"google.protobuf.Struct: a number that is not finite");
		v = number_of(f->value);
	} else if (f->wire == SN_PROTOBUF_LEN && f->number == VALUE_STRING) {
		if (!sn__utf8_valid(f->bytes))
			return sn__error_set(err, SN_E_PARSE,
					"google.protobuf.Struct: a string that is not UTF-8");
		v = json_stringn_nocheck(f->bytes.len > 0 ? f->bytes.ptr : "", f->bytes.len);
	} else if (f->wire == SN_PROTOBUF_LEN && (object || f->number == VALUE_LIST)) {
		if (*json != NULL && (object ? json_is_object(*json) : json_is_array(*json)))
			v = json_incref(*json);
		else
			v = object ? json_object() : json_array();
	} else {
		return 0;
	}
	if (v == NULL)
		return no_memory(err);
	json_decref(*json);
	*json = v;
	if (json_is_object(v))
		return read_members(f->bytes, depth, v, err);
	return json_is_array(v) ? read_items(f->bytes, depth, v, err) : 0;
}

/* *json: NULL, or what an earlier part of the same value has made. */
static int read_value(struct sn_str in, unsigned depth, json_t **json, struct sn_error *err)
{
	struct sn_protobuf_field f;
	int r;

	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		r = read_kind(&f, depth, json, err);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return malformed(err);
	if (*json == NULL)
		*json = json_null();
	return 0;
}

int sn__protobuf_value_read(enum sn_protobuf_value kind, struct sn_str data, unsigned depth,
		json_t **ret_json, struct sn_error *err)
{
	SN_AUTO_JSON json_t *json = NULL;
	int r;

	if (kind == SN_PROTOBUF_VALUE) {
		r = read_value(data, depth, &json, err);
	} else {
		json = kind == SN_PROTOBUF_LIST ? json_array() : json_object();
		if (json == NULL)
			return no_memory(err);
		r = kind == SN_PROTOBUF_LIST ? read_items(data, depth, json, err)
					     : read_members(data, depth, json, err);
	}
	if (r == 0)
		*ret_json = SN_TAKE(json);
	return r;
}

int sn__protobuf_struct_read(struct sn_str data, json_t **ret_json, struct sn_error *err)
{
	return sn__protobuf_value_read(SN_PROTOBUF_STRUCT, data, 0, ret_json, err);
}

/* ---- writing ---- */

static int write_value(
		const json_t *json, unsigned depth, struct sn_buf *out, struct sn_error *err);

static int write_members(
		const json_t *json, unsigned depth, struct sn_buf *out, struct sn_error *err)
{
	const char *key;
	json_t *value;

	if (depth >= SN_JSON_DEPTH_MAX)
		return too_deep(err);
	json_object_foreach((json_t *)json, key, value)
	{
		size_t entry = out->len, from;
		int r = sn__protobuf_put_bytes(out, 1, sn_str_from(key));

		from = out->len;
		if (r == 0)
			r = write_value(value, depth + 1, out, err);
		if (r == 0)
			r = sn__protobuf_put_around(out, 2, from);
		if (r == 0)
			r = sn__protobuf_put_around(out, 1, entry);
		if (r < 0)
			return r;
	}
	return 0;
}

static int write_items(const json_t *json, unsigned depth, struct sn_buf *out, struct sn_error *err)
{
	int r = 0;

	if (depth >= SN_JSON_DEPTH_MAX)
		return too_deep(err);
	for (size_t i = 0; i < json_array_size(json) && r == 0; i++) {
		size_t from = out->len;

		r = write_value(json_array_get(json, i), depth + 1, out, err);
		if (r == 0)
			r = sn__protobuf_put_around(out, 1, from);
	}
	return r;
}

static int write_number(const json_t *json, struct sn_buf *out, struct sn_error *err)
{
	double v = json_number_value(json);
	uint64_t bits;

	if (json_is_integer(json) && (v >= 0x1p63 || (json_int_t)v != json_integer_value(json)))
		return sn__error_set(err, SN_E_INVALID,
				"google.protobuf.Struct: numbers are doubles, which cannot hold %" JSON_INTEGER_FORMAT,
				json_integer_value(json));
	memcpy(&bits, &v, sizeof bits);
	return sn__protobuf_put_i64(out, VALUE_NUMBER, bits);
}

static int write_value(const json_t *json, unsigned depth, struct sn_buf *out, struct sn_error *err)
{
	size_t from = out->len;
	int r;

	switch (json_typeof(json)) {
	case JSON_OBJECT:
		r = write_members(json, depth, out, err);
		return r < 0 ? r : sn__protobuf_put_around(out, VALUE_STRUCT, from);
	case JSON_ARRAY:
		r = write_items(json, depth, out, err);
		return r < 0 ? r : sn__protobuf_put_around(out, VALUE_LIST, from);
	case JSON_STRING:
		return sn__protobuf_put_bytes(out, VALUE_STRING,
				(struct sn_str){json_string_value(json), json_string_length(json)});
	case JSON_INTEGER:
	case JSON_REAL:
		return write_number(json, out, err);
	case JSON_NULL:
		return sn__protobuf_put_varint(out, VALUE_NULL, 0);
	default:
		return sn__protobuf_put_varint(out, VALUE_BOOL, json_is_true(json) ? 1 : 0);
	}
}

static int write_kind(enum sn_protobuf_value kind, const json_t *json, unsigned depth,
		struct sn_buf *out, struct sn_error *err)
{
	if (kind == SN_PROTOBUF_VALUE)
		return write_value(json, depth, out, err);
	if (kind == SN_PROTOBUF_LIST)
		return json_is_array(json)
				? write_items(json, depth, out, err)
				: sn__error_set(err, SN_E_INVALID,
						  "google.protobuf.ListValue: %s is no array",
						  sn__json_kind(json));
	return json_is_object(json) ? write_members(json, depth, out, err)
				    : sn__error_set(err, SN_E_INVALID,
						      "google.protobuf.Struct: %s is no object",
						      sn__json_kind(json));
}

/* All of it or nothing, and a sentence in any case. */
int sn__protobuf_value_write(enum sn_protobuf_value kind, const json_t *json, unsigned depth,
		struct sn_buf *out, struct sn_error *err)
{
	size_t before = out->len;
	struct sn_error own = {0};
	int r = write_kind(kind, json, depth, out, &own);

	if (r == 0)
		return 0;
	sn__buf_truncate(out, before);
	if (own.code == 0)
		return sn__error_set(err, r, "google.protobuf.Struct: %s",
				r == SN_E_NOMEM ? "out of memory" : "too large");
	return sn__error_set(err, r, "%s", own.text);
}

int sn__protobuf_struct_write(const json_t *json, struct sn_buf *out, struct sn_error *err)
{
	return sn__protobuf_value_write(SN_PROTOBUF_STRUCT, json, 0, out, err);
}
