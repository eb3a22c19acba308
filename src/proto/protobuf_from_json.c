/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as the wire form of a message, by its schema. */
#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "proto/json_pull.h"
#include "proto/protobuf.h"
#include "proto/protobuf_known.h"
#include "proto/schema.h"

#define NUMBER_MAX 1000 /* digits of a number in a string */

/* Where in the JSON: a member or an item. */
struct place {
	struct sn_str name; /* NULL: item */
	size_t index;
};

struct reader {
	const struct sn_schema *schema;
	struct sn_buf *out;
	struct sn_error *err; /* own, never NULL */
	struct sn_buf bytes;  /* of the scalar at hand */
	unsigned depth;       /* messages around */
	unsigned n_path;
	struct place path[3 * SN_JSON_DEPTH_MAX];
};

/* ---- failing ---- */

static size_t place_text(const struct reader *rd, char *text, size_t size)
{
	struct sn_buf b;
	size_t n = 0;

	sn__buf_init(&b, size - 1);
	for (unsigned i = 0; i < rd->n_path; i++) {
		const struct place *p = &rd->path[i];
		int r = p->name.ptr == NULL ? sn__buf_printf(&b, "[%zu]", p->index)
					    : sn__buf_puts(&b, b.len > 0 ? "." : "");

		if (r < 0 || (p->name.ptr != NULL && sn__buf_append_str(&b, p->name) < 0))
			break;
	}
	for (; n < b.len; n++) {
		char c = sn__buf_data(&b)[n];

		text[n] = (unsigned char)c < 0x20 || c == 0x7f ? '?' : c;
	}
	text[n] = '\0';
	sn__buf_finish(&b);
	return n;
}

static int failed(struct reader *rd, int code, const char *fmt, ...) SN_PRINTF(3, 4);
static int failed(struct reader *rd, int code, const char *fmt, ...)
{
	char place[200], what[160];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	if (place_text(rd, place, sizeof place) == 0)
		return sn__error_set(rd->err, code, "message: %s", what);
	return sn__error_set(rd->err, code, "field %s: %s", place, what);
}

static int wrong(struct reader *rd, const char *want, const json_t *json)
{
	return failed(rd, SN_E_INVALID, "%s is due, not %s", want, sn__json_kind(json));
}

static int push(struct reader *rd, struct place place)
{
	if (rd->n_path == SN_COUNT(rd->path))
		return failed(rd, SN_E_LIMIT, "nested too deep");
	rd->path[rd->n_path++] = place;
	return 0;
}

/* ---- numbers ---- */

struct whole {
	bool negative;
	uint64_t size;
};

static int whole_from_real(struct reader *rd, double v, struct whole *ret_whole)
{
	if (v != floor(v) || v <= -0x1p64 || v >= 0x1p64)
		return failed(rd, SN_E_INVALID, "a whole number is due");
	*ret_whole = (struct whole){v < 0, (uint64_t)fabs(v)};
	return 0;
}

/* What JSON has as a number, of any size: "1.2e1". */
static int real_from_text(struct reader *rd, struct sn_str text, double *ret_v)
{
	SN_AUTO_JSON json_t *json = NULL;
	struct sn_json_pull pull;
	struct sn_str number;
	char real[NUMBER_MAX + 4];
	int r;

	sn__json_begin(&pull, text);
	if (sn__json_number(&pull, &number) < 0 || number.len != text.len ||
			number.len > NUMBER_MAX)
		return failed(rd, SN_E_INVALID, "a number is due");
	/* With a point or an exponent jansson reads it as a real, which has no limit of digits. */
	memcpy(real, number.ptr, number.len);
	for (size_t i = 0; i < number.len; i++) {
		if (strchr(".eE", number.ptr[i]) != NULL)
			text.len = 0;
	}
	memcpy(real + number.len, "e0", 2);
	number.len += text.len > 0 ? 2 : 0;
	r = sn__json_parse((struct sn_str){real, number.len}, sizeof real, &json, NULL);
	if (r == SN_E_NOMEM)
		return r;
	if (r < 0)
		return failed(rd, SN_E_INVALID, "the number is out of range");
	*ret_v = json_number_value(json);
	return 0;
}

static int whole_from_text(struct reader *rd, struct sn_str text, struct whole *ret_whole)
{
	struct whole v = {0};
	struct sn_str digits = text;
	double real;
	int r;

	if (digits.len > 0 && digits.ptr[0] == '-') {
		v.negative = true;
		digits.ptr++;
		digits.len--;
	}
	if (sn__parse_u64(digits, UINT64_MAX, &v.size) == 0) {
		*ret_whole = v;
		return 0;
	}
	r = real_from_text(rd, text, &real);
	return r < 0 ? r : whole_from_real(rd, real, ret_whole);
}

static int read_whole(struct reader *rd, const json_t *json, struct whole *ret_whole)
{
	json_int_t v = json_integer_value(json);

	if (json_is_integer(json)) {
		*ret_whole = (struct whole){v < 0, v < 0 ? -(uint64_t)v : (uint64_t)v};
		return 0;
	}
	if (json_is_real(json))
		return whole_from_real(rd, json_real_value(json), ret_whole);
	if (json_is_string(json))
		return whole_from_text(rd,
				(struct sn_str){json_string_value(json), json_string_length(json)},
				ret_whole);
	return wrong(rd, "a number", json);
}

/* As its type has it on the wire. */
static int fit_whole(
		struct reader *rd, enum sn_schema_type type, struct whole v, uint64_t *ret_bits)
{
	bool is_signed = type == SN_SCHEMA_INT32 || type == SN_SCHEMA_SINT32 ||
			type == SN_SCHEMA_SFIXED32 || type == SN_SCHEMA_INT64 ||
			type == SN_SCHEMA_SINT64 || type == SN_SCHEMA_SFIXED64 ||
			type == SN_SCHEMA_ENUM;
	bool is_long = type == SN_SCHEMA_INT64 || type == SN_SCHEMA_SINT64 ||
			type == SN_SCHEMA_SFIXED64 || type == SN_SCHEMA_UINT64 ||
			type == SN_SCHEMA_FIXED64;
	uint64_t max = is_long ? UINT64_MAX : UINT32_MAX;
	uint64_t bits = v.negative ? -v.size : v.size;

	if (is_signed)
		max = max / 2 + (v.negative ? 1 : 0);
	else if (v.negative)
		max = 0;
	if (v.size > max)
		return failed(rd, SN_E_INVALID, "the number is out of range");
	if (type == SN_SCHEMA_SINT32 || type == SN_SCHEMA_SINT64)
		bits = (bits << 1) ^ (v.negative ? UINT64_MAX : 0);
	*ret_bits = type == SN_SCHEMA_SFIXED32 || type == SN_SCHEMA_SINT32 ? (uint32_t)bits : bits;
	return 0;
}

static int read_real(struct reader *rd, const json_t *json, double *ret_v)
{
	struct sn_str text = {json_string_value(json), json_string_length(json)};

	if (json_is_number(json)) {
		*ret_v = json_number_value(json);
		return 0;
	}
	if (text.ptr == NULL)
		return wrong(rd, "a number", json);
	if (sn_str_eq(text, SN_STR("NaN")))
		*ret_v = (double)NAN;
	else if (sn_str_eq(text, SN_STR("Infinity")))
		*ret_v = (double)INFINITY;
	else if (sn_str_eq(text, SN_STR("-Infinity")))
		*ret_v = -(double)INFINITY;
	else
		return real_from_text(rd, text, ret_v);
	return 0;
}

static int read_double(struct reader *rd, const json_t *json, uint64_t *ret_bits)
{
	double v;
	int r = read_real(rd, json, &v);

	if (r == 0)
		memcpy(ret_bits, &v, sizeof v);
	return r;
}

static int read_float(struct reader *rd, const json_t *json, uint64_t *ret_bits)
{
	uint32_t bits;
	double v;
	float f;
	int r = read_real(rd, json, &v);

	if (r < 0)
		return r;
	/* What rounds to FLT_MAX is in range. */
	if (isfinite(v) && fabs(v) >= (double)FLT_MAX * (1 + 0x1p-25))
		return failed(rd, SN_E_INVALID, "the number is out of range");
	f = (float)v;
	memcpy(&bits, &f, sizeof bits);
	*ret_bits = bits;
	return 0;
}

/* ---- other scalars ---- */

/* The nearest of @n names to @word for a sentence; "" when there is none. */
static void suggest(const char *word, const char **names, char *text, size_t size)
{
	const char *near = names != NULL ? sn__nearest(word, names) : NULL;

	text[0] = '\0';
	if (near != NULL)
		(void)snprintf(text, size, "; do you mean %s?", near);
}

static int unknown_value(struct reader *rd, const struct sn_schema_enum *e, const char *word)
{
	const char **names = sn__calloc((size_t)e->n_values + 1, sizeof *names);
	char near[100];

	for (uint32_t i = 0; names != NULL && i < e->n_values; i++)
		names[i] = e->values[i].name.ptr;
	suggest(word, names, near, sizeof near);
	sn__free(names);
	return failed(rd, SN_E_INVALID, "not a value of %s%s", e->full_name.ptr, near);
}

static int read_enum(struct reader *rd, const struct sn_schema_field *field, const json_t *json,
		uint64_t *ret_bits)
{
	const struct sn_schema_enum *e = sn__schema_enum(rd->schema, field->type_name);
	struct sn_str text = {json_string_value(json), json_string_length(json)};
	struct whole v;
	int r;

	if (e == NULL)
		return failed(rd, SN_E_NOT_FOUND, "its type %s is not in the schema",
				field->type_name.ptr);
	if (json_is_null(json) && e->null) {
		*ret_bits = 0;
		return 0;
	}
	for (uint32_t i = 0; text.ptr != NULL && i < e->n_values; i++) {
		if (sn_str_eq(e->values[i].name, text)) {
			*ret_bits = (uint64_t)(int64_t)e->values[i].number;
			return 0;
		}
	}
	if (text.ptr != NULL &&
			(text.len == 0 ||
					(text.ptr[0] != '-' &&
							(text.ptr[0] < '0' || text.ptr[0] > '9'))))
		return unknown_value(rd, e, text.ptr);
	if (text.ptr == NULL && !json_is_number(json))
		return wrong(rd, "a name or number", json);
	r = read_whole(rd, json, &v);
	if (r == 0)
		r = fit_whole(rd, SN_SCHEMA_ENUM, v, ret_bits);
	if (r == 0 && e->closed && sn__schema_value(e, (int32_t)(uint32_t)*ret_bits) == NULL)
		return failed(rd, SN_E_INVALID, "not a value of %s", e->full_name.ptr);
	return r;
}

static int read_bytes(struct reader *rd, const json_t *json, struct sn_str *ret_bytes)
{
	int r;

	if (!json_is_string(json))
		return wrong(rd, "a string (bytes are given in base64)", json);
	sn__buf_clear(&rd->bytes);
	r = sn__protobuf_base64_parse(
			(struct sn_str){json_string_value(json), json_string_length(json)},
			&rd->bytes);
	if (r == SN_E_PARSE)
		return failed(rd, SN_E_INVALID, "bytes are given in base64");
	*ret_bytes = sn__buf_str(&rd->bytes);
	return r;
}

/* @ret_field: without a number; its bytes lie in the JSON or in rd->bytes. */
static int read_scalar(struct reader *rd, const struct sn_schema_field *field, const json_t *json,
		struct sn_protobuf_field *ret_field)
{
	struct whole v;
	int r;

	*ret_field = (struct sn_protobuf_field){.wire = SN_PROTOBUF_VARINT};
	switch (field->type) {
	case SN_SCHEMA_DOUBLE:
		ret_field->wire = SN_PROTOBUF_I64;
		return read_double(rd, json, &ret_field->value);
	case SN_SCHEMA_FLOAT:
		ret_field->wire = SN_PROTOBUF_I32;
		return read_float(rd, json, &ret_field->value);
	case SN_SCHEMA_BOOL:
		ret_field->value = json_is_true(json) ? 1 : 0;
		return json_is_boolean(json) ? 0 : wrong(rd, "true or false", json);
	case SN_SCHEMA_ENUM:
		return read_enum(rd, field, json, &ret_field->value);
	case SN_SCHEMA_BYTES:
		ret_field->wire = SN_PROTOBUF_LEN;
		return read_bytes(rd, json, &ret_field->bytes);
	case SN_SCHEMA_STRING:
		ret_field->wire = SN_PROTOBUF_LEN;
		ret_field->bytes = (struct sn_str){
				json_string_value(json), json_string_length(json)};
		return json_is_string(json) ? 0 : wrong(rd, "a string", json);
	case SN_SCHEMA_FIXED32:
	case SN_SCHEMA_SFIXED32:
		ret_field->wire = SN_PROTOBUF_I32;
		break;
	case SN_SCHEMA_FIXED64:
	case SN_SCHEMA_SFIXED64:
		ret_field->wire = SN_PROTOBUF_I64;
		break;
	case SN_SCHEMA_GROUP:
		return failed(rd, SN_E_INVALID, "groups are not supported");
	default:
		break;
	}
	r = read_whole(rd, json, &v);
	return r < 0 ? r : fit_whole(rd, field->type, v, &ret_field->value);
}

static int put_scalar(struct reader *rd, uint32_t number, const struct sn_protobuf_field *f)
{
	switch (f->wire) {
	case SN_PROTOBUF_I32:
		return sn__protobuf_put_i32(rd->out, number, (uint32_t)f->value);
	case SN_PROTOBUF_I64:
		return sn__protobuf_put_i64(rd->out, number, f->value);
	case SN_PROTOBUF_LEN:
		return sn__protobuf_put_bytes(rd->out, number, f->bytes);
	default:
		return sn__protobuf_put_varint(rd->out, number, f->value);
	}
}

/* ---- values ---- */

static int read_message(struct reader *rd, const struct sn_schema_message *m, const json_t *json);

static const struct sn_schema_message *message_of(
		struct reader *rd, const struct sn_schema_field *field)
{
	return field->type == SN_SCHEMA_MESSAGE ? sn__schema_message(rd->schema, field->type_name)
						: NULL;
}

static int read_value(struct reader *rd, const struct sn_schema_field *field, const json_t *json,
		bool presence)
{
	const struct sn_schema_message *m = message_of(rd, field);
	struct sn_protobuf_field f;
	size_t from = rd->out->len;
	int r;

	if (field->type == SN_SCHEMA_MESSAGE) {
		if (m == NULL)
			return failed(rd, SN_E_NOT_FOUND, "its type %s is not in the schema",
					field->type_name.ptr);
		r = read_message(rd, m, json);
		return r < 0 ? r : sn__protobuf_put_around(rd->out, field->number, from);
	}
	r = read_scalar(rd, field, json, &f);
	if (r < 0 || (!presence && f.value == 0 && f.bytes.len == 0))
		return r;
	return put_scalar(rd, field->number, &f);
}

/* Whether null is a value here, not absence. */
static bool takes_null(struct reader *rd, const struct sn_schema_field *field)
{
	const struct sn_schema_message *m = message_of(rd, field);
	const struct sn_schema_enum *e = field->type == SN_SCHEMA_ENUM
			? sn__schema_enum(rd->schema, field->type_name)
			: NULL;

	return (m != NULL && m->known == SN_SCHEMA_VALUE) || (e != NULL && e->null);
}

static int read_item(struct reader *rd, const struct sn_schema_field *field, const json_t *json)
{
	struct sn_protobuf_field f;
	int r;

	if (json_is_null(json) && !takes_null(rd, field))
		return failed(rd, SN_E_INVALID, "null is no item of a list");
	if (!field->packed)
		return read_value(rd, field, json, true);
	r = read_scalar(rd, field, json, &f);
	return r < 0 ? r : sn__protobuf_put_packed(rd->out, f.wire, f.value);
}

static int read_list(struct reader *rd, const struct sn_schema_field *field, const json_t *json)
{
	size_t n = json_array_size(json);
	size_t from = rd->out->len;
	int r = 0;

	if (!json_is_array(json))
		return wrong(rd, "an array", json);
	for (size_t i = 0; i < n && r == 0; i++) {
		r = push(rd, (struct place){.index = i});
		if (r < 0)
			return r;
		r = read_item(rd, field, json_array_get(json, i));
		if (r == 0)
			rd->n_path--;
	}
	return r < 0 || !field->packed || n == 0
			? r
			: sn__protobuf_put_around(rd->out, field->number, from);
}

/* ---- maps ---- */

static int read_key(struct reader *rd, const struct sn_schema_field *field, struct sn_str key)
{
	struct sn_protobuf_field f = {.wire = SN_PROTOBUF_LEN, .bytes = key};
	SN_AUTO_JSON json_t *json = NULL;
	int r = 0;

	if (field->type == SN_SCHEMA_BOOL) {
		f = (struct sn_protobuf_field){.wire = SN_PROTOBUF_VARINT,
				.value = sn_str_eq(key, SN_STR("true"))};
		if (f.value == 0 && !sn_str_eq(key, SN_STR("false")))
			return failed(rd, SN_E_INVALID, "the key true or false is due");
	} else if (field->type != SN_SCHEMA_STRING) {
		json = json_stringn_nocheck(key.ptr, key.len);
		r = json != NULL ? read_scalar(rd, field, json, &f) : SN_E_NOMEM;
	}
	return r < 0 ? r : put_scalar(rd, 1, &f);
}

static int read_map(struct reader *rd, const struct sn_schema_field *field,
		const struct sn_schema_message *entry, const json_t *json)
{
	const char *key;
	json_t *value;

	if (!json_is_object(json))
		return wrong(rd, "an object", json);
	json_object_foreach((json_t *)json, key, value)
	{
		size_t from = rd->out->len;
		int r = push(rd, (struct place){.name = sn_str_from(key)});

		if (r == 0 && json_is_null(value) && !takes_null(rd, &entry->fields[1]))
			r = failed(rd, SN_E_INVALID, "null is no value of a map");
		if (r == 0)
			r = read_key(rd, &entry->fields[0], sn_str_from(key));
		if (r == 0)
			r = read_value(rd, &entry->fields[1], value, true);
		if (r == 0)
			r = sn__protobuf_put_around(rd->out, field->number, from);
		if (r < 0)
			return r;
		rd->n_path--;
	}
	return 0;
}

/* ---- messages ---- */

static const struct sn_schema_field *field_named(
		const struct sn_schema_message *m, struct sn_str name)
{
	for (uint32_t i = 0; i < m->n_fields; i++) {
		if (sn_str_eq(m->fields[i].json_name, name))
			return &m->fields[i];
	}
	for (uint32_t i = 0; i < m->n_fields; i++) {
		if (sn_str_eq(m->fields[i].name, name))
			return &m->fields[i];
	}
	return NULL;
}

static int unknown_field(struct reader *rd, const struct sn_schema_message *m, const char *word)
{
	const char **names = sn__calloc((size_t)m->n_fields + 1, sizeof *names);
	char near[100];

	for (uint32_t i = 0; names != NULL && i < m->n_fields; i++)
		names[i] = m->fields[i].json_name.ptr;
	suggest(word, names, near, sizeof near);
	sn__free(names);
	return failed(rd, SN_E_INVALID, "not in %s%s", m->full_name.ptr, near);
}

static int read_field(struct reader *rd, const struct sn_schema_field *field, const json_t *json)
{
	const struct sn_schema_message *m = message_of(rd, field);

	if (field->label == SN_SCHEMA_REPEATED && m != NULL && m->map_entry)
		return read_map(rd, field, m, json);
	if (field->label == SN_SCHEMA_REPEATED)
		return read_list(rd, field, json);
	return read_value(rd, field, json, field->presence);
}

/* @seen: a byte for each field, and behind them one for each oneof. */
static int read_member(struct reader *rd, const struct sn_schema_message *m, const char *key,
		const json_t *json, char *seen)
{
	const struct sn_schema_field *field = field_named(m, sn_str_from(key));

	if (field == NULL)
		return unknown_field(rd, m, key);
	if (json_is_null(json) && (field->label == SN_SCHEMA_REPEATED || !takes_null(rd, field)))
		return 0;
	if (seen[field - m->fields]++ != 0)
		return failed(rd, SN_E_INVALID, "given under both its names");
	if (field->oneof >= 0 && seen[m->n_fields + (uint32_t)field->oneof]++ != 0)
		return failed(rd, SN_E_INVALID, "a second member of the oneof %s",
				m->oneofs[field->oneof].ptr);
	return read_field(rd, field, json);
}

static int read_members(struct reader *rd, const struct sn_schema_message *m, const json_t *json,
		const char *skip, char *seen)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)json, key, value)
	{
		int r;

		if (skip != NULL && strcmp(key, skip) == 0)
			continue;
		r = push(rd, (struct place){.name = sn_str_from(key)});
		if (r == 0)
			r = read_member(rd, m, key, value, seen);
		if (r < 0)
			return r;
		rd->n_path--;
	}
	for (uint32_t i = 0; i < m->n_fields; i++) {
		if (m->fields[i].label == SN_SCHEMA_REQUIRED && seen[i] == 0)
			return failed(rd, SN_E_INVALID, "%s is required",
					m->fields[i].json_name.ptr);
	}
	return 0;
}

static int read_plain(struct reader *rd, const struct sn_schema_message *m, const json_t *json,
		const char *skip /* may be NULL */)
{
	SN_AUTO_FREE char *seen = NULL;

	if (!json_is_object(json))
		return wrong(rd, "an object", json);
	seen = sn__calloc((size_t)m->n_fields + m->n_oneofs, 1);
	return seen != NULL ? read_members(rd, m, json, skip, seen) : SN_E_NOMEM;
}

/* ---- messages with a form of their own ---- */

static int read_time(struct reader *rd, const struct sn_schema_message *m, const json_t *json)
{
	struct sn_str text = {json_string_value(json), json_string_length(json)};
	bool is_time = m->known == SN_SCHEMA_TIMESTAMP;
	int64_t seconds;
	int32_t nanos;
	int r = SN_E_PARSE;

	if (json_is_string(json))
		r = is_time ? sn__protobuf_timestamp_parse(text, &seconds, &nanos)
			    : sn__protobuf_duration_parse(text, &seconds, &nanos);
	if (r < 0)
		return failed(rd, SN_E_INVALID, "%s is due",
				is_time ? "a time like \"1972-01-01T10:00:20.021Z\""
					: "a duration like \"1.5s\"");
	if (seconds != 0)
		r = sn__protobuf_put_varint(rd->out, 1, (uint64_t)seconds);
	if (r == 0 && nanos != 0)
		r = sn__protobuf_put_varint(rd->out, 2, (uint64_t)(int64_t)nanos);
	return r;
}

static int read_mask(struct reader *rd, const json_t *json)
{
	struct sn_str rest = {json_string_value(json), json_string_length(json)};

	if (!json_is_string(json))
		return wrong(rd, "a string of names with commas between", json);
	while (rest.len > 0) {
		const char *comma = memchr(rest.ptr, ',', rest.len);
		size_t n = comma != NULL ? (size_t)(comma - rest.ptr) : rest.len;
		size_t from = rd->out->len;
		int r = sn__protobuf_path_parse((struct sn_str){rest.ptr, n}, rd->out);

		if (r == SN_E_PARSE || n == 0 || (comma != NULL && n + 1 == rest.len))
			return failed(rd, SN_E_INVALID,
					"names like \"aField.itsPart,another\" are due");
		if (r == 0)
			r = sn__protobuf_put_around(rd->out, 1, from);
		if (r < 0)
			return r;
		n += comma != NULL ? 1 : 0;
		rest.ptr += n;
		rest.len -= n;
	}
	return 0;
}

static int read_struct(struct reader *rd, enum sn_protobuf_value kind, const json_t *json)
{
	struct sn_error err = {0};
	int r = sn__protobuf_value_write(kind, json, 0, rd->out, &err);

	return r < 0 && r != SN_E_NOMEM ? failed(rd, r, "%s", err.text) : r;
}

static int read_any_value(struct reader *rd, const struct sn_schema_message *m, const json_t *json)
{
	json_t *value;
	int r;

	if (m->known == SN_SCHEMA_PLAIN)
		return read_plain(rd, m, json, "@type");
	value = json_object_get(json, "value");
	if (value == NULL || json_object_size(json) != 2)
		return failed(rd, SN_E_INVALID,
				"\"value\" is due beside \"@type\", and nothing else");
	r = push(rd, (struct place){.name = SN_STR("value")});
	if (r == 0)
		r = read_message(rd, m, value);
	if (r == 0)
		rd->n_path--;
	return r;
}

/* What stands behind the last slash; empty: there is none. */
static struct sn_str type_of_url(struct sn_str url)
{
	for (size_t i = url.len; i > 0; i--) {
		if (url.ptr[i - 1] == '/')
			return (struct sn_str){url.ptr + i, url.len - i};
	}
	return (struct sn_str){"", 0};
}

static int read_any(struct reader *rd, const json_t *json)
{
	const json_t *type = json_object_get(json, "@type");
	struct sn_str url = {json_string_value(type), json_string_length(type)};
	struct sn_str name = type_of_url(url);
	const struct sn_schema_message *m;
	size_t from;
	int r;

	if (!json_is_object(json))
		return wrong(rd, "an object", json);
	if (json_object_size(json) == 0)
		return 0;
	if (name.len == 0)
		return failed(rd, SN_E_INVALID,
				"\"@type\" is due, like \"type.googleapis.com/a.Message\"");
	m = sn__schema_message(rd->schema, name);
	if (m == NULL)
		return failed(rd, SN_E_NOT_FOUND, "the type %.*s is not in the schema",
				(int)SN_MIN(name.len, (size_t)80), name.ptr);
	r = sn__protobuf_put_bytes(rd->out, 1, url);
	from = rd->out->len;
	if (r == 0)
		r = read_any_value(rd, m, json);
	return r < 0 || rd->out->len == from ? r : sn__protobuf_put_around(rd->out, 2, from);
}

static int read_known(struct reader *rd, const struct sn_schema_message *m, const json_t *json)
{
	switch (m->known) {
	case SN_SCHEMA_ANY:
		return read_any(rd, json);
	case SN_SCHEMA_DURATION:
	case SN_SCHEMA_TIMESTAMP:
		return read_time(rd, m, json);
	case SN_SCHEMA_FIELD_MASK:
		return read_mask(rd, json);
	case SN_SCHEMA_LIST_VALUE:
		return read_struct(rd, SN_PROTOBUF_LIST, json);
	case SN_SCHEMA_STRUCT:
		return read_struct(rd, SN_PROTOBUF_STRUCT, json);
	case SN_SCHEMA_VALUE:
		return read_struct(rd, SN_PROTOBUF_VALUE, json);
	case SN_SCHEMA_WRAPPER:
		return read_value(rd, &m->fields[0], json, false);
	default:
		return read_plain(rd, m, json, NULL);
	}
}

static int read_message(struct reader *rd, const struct sn_schema_message *m, const json_t *json)
{
	int r;

	if (rd->depth == SN_PROTOBUF_DEPTH_MAX)
		return failed(rd, SN_E_LIMIT, "messages nested too deep");
	rd->depth++;
	r = read_known(rd, m, json);
	rd->depth--;
	return r;
}

int sn__protobuf_from_json(const struct sn_schema *schema, const struct sn_schema_message *message,
		const json_t *json, struct sn_buf *out, struct sn_error *err)
{
	struct sn_error own = {0};
	struct reader rd = {.schema = schema, .out = out, .err = &own};
	size_t before = out->len;
	int r;

	sn__buf_init(&rd.bytes, out->max);
	r = read_message(&rd, message, json);
	sn__buf_finish(&rd.bytes);
	if (r == 0)
		return 0;
	sn__buf_truncate(out, before);
	if (own.code == 0)
		return sn__error_set(err, r, "message: %s",
				r == SN_E_NOMEM ? "out of memory" : "the message is too large");
	return sn__error_set(err, r, "%s", own.text);
}
