/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire form of a message as JSON text, by its schema. Fields come in any order and any number
 * on the wire, in JSON once and in the order of the .proto, so every message is read twice: its
 * fields are counted, then strung together by field; then JSON is written field by field. A field
 * with another wire type than the schema says, a number that a closed enum does not have, and groups
 * count as unknown: left out.
 */
#include <math.h>

#include "base/map.h"
#include "base/mem.h"
#include "proto/protobuf.h"
#include "proto/protobuf_known.h"
#include "proto/schema.h"

struct writer {
	const struct sn_schema *schema;
	struct sn_buf *out;
	struct sn_error *err; /* own, never NULL */
	unsigned depth;       /* messages around */
	unsigned brackets;    /* of JSON around */
	struct sn_str path[SN_PROTOBUF_DEPTH_MAX + 1];
};

/* A field on the wire, and the next of the same number. */
struct found {
	struct sn_protobuf_field f;
	uint32_t next; /* index + 1 */
};

struct fields {
	struct found *v;
	uint32_t n;
	uint32_t *first; /* by field as declared: index + 1 */
	uint32_t *last;
	uint32_t *chosen; /* by oneof: field + 1 */
};

/* ---- failing ---- */

static int failed(struct writer *w, int code, const char *what)
{
	char path[200];
	size_t n = 0;

	for (unsigned i = 0; i < w->depth; i++) {
		size_t len = w->path[i].len;

		if (len == 0 || len > sizeof path - n - 2)
			continue;
		memcpy(path + n, w->path[i].ptr, len);
		n += len;
		path[n++] = '.';
	}
	if (n == 0)
		return sn__error_set(w->err, code, "message: %s", what);
	return sn__error_set(w->err, code, "field %.*s: %s", (int)(n - 1), path, what);
}

static int open_bracket(struct writer *w, char c)
{
	if (w->brackets == SN_JSON_DEPTH_MAX)
		return failed(w, SN_E_LIMIT, "nested too deep for JSON");
	w->brackets++;
	return sn__buf_append(w->out, &c, 1);
}

static int close_bracket(struct writer *w, char c)
{
	w->brackets--;
	return sn__buf_append(w->out, &c, 1);
}

/* ---- the fields of a message ---- */

static const struct {
	enum sn_protobuf_wire wire;
	bool packable;
} wires[] = {
		[SN_SCHEMA_NONE] = {SN_PROTOBUF_GROUP_END, false},
		[SN_SCHEMA_DOUBLE] = {SN_PROTOBUF_I64, true},
		[SN_SCHEMA_FLOAT] = {SN_PROTOBUF_I32, true},
		[SN_SCHEMA_INT64] = {SN_PROTOBUF_VARINT, true},
		[SN_SCHEMA_UINT64] = {SN_PROTOBUF_VARINT, true},
		[SN_SCHEMA_INT32] = {SN_PROTOBUF_VARINT, true},
		[SN_SCHEMA_FIXED64] = {SN_PROTOBUF_I64, true},
		[SN_SCHEMA_FIXED32] = {SN_PROTOBUF_I32, true},
		[SN_SCHEMA_BOOL] = {SN_PROTOBUF_VARINT, true},
		[SN_SCHEMA_STRING] = {SN_PROTOBUF_LEN, false},
		[SN_SCHEMA_GROUP] = {SN_PROTOBUF_GROUP_END, false}, /* fits nothing */
		[SN_SCHEMA_MESSAGE] = {SN_PROTOBUF_LEN, false},
		[SN_SCHEMA_BYTES] = {SN_PROTOBUF_LEN, false},
		[SN_SCHEMA_UINT32] = {SN_PROTOBUF_VARINT, true},
		[SN_SCHEMA_ENUM] = {SN_PROTOBUF_VARINT, true},
		[SN_SCHEMA_SFIXED32] = {SN_PROTOBUF_I32, true},
		[SN_SCHEMA_SFIXED64] = {SN_PROTOBUF_I64, true},
		[SN_SCHEMA_SINT32] = {SN_PROTOBUF_VARINT, true},
		[SN_SCHEMA_SINT64] = {SN_PROTOBUF_VARINT, true},
};

/* A number its enum does not know and may not have. */
static bool is_foreign(struct writer *w, const struct sn_schema_field *field, uint64_t value)
{
	const struct sn_schema_enum *e;

	if (field->type != SN_SCHEMA_ENUM)
		return false;
	e = sn__schema_enum(w->schema, field->type_name);
	return e != NULL && e->closed && sn__schema_value(e, (int32_t)(uint32_t)value) == NULL;
}

static bool fits(struct writer *w, const struct sn_schema_field *field,
		const struct sn_protobuf_field *f)
{
	if (f->wire == wires[field->type].wire)
		return !is_foreign(w, field, f->value);
	return f->wire == SN_PROTOBUF_LEN && wires[field->type].packable &&
			field->label == SN_SCHEMA_REPEATED;
}

/* Another member of its oneof has been before: it goes. */
static void choose(struct fields *fields, const struct sn_schema_field *field, uint32_t index)
{
	uint32_t old;

	if (field->oneof < 0)
		return;
	old = fields->chosen[field->oneof];
	if (old != 0 && old != index + 1)
		fields->first[old - 1] = 0;
	fields->chosen[field->oneof] = index + 1;
}

static void string_together(struct writer *w, const struct sn_schema_message *m, struct sn_str in,
		struct fields *fields)
{
	struct sn_protobuf_field f;

	while (sn__protobuf_next(&in, &f) > 0) {
		const struct sn_schema_field *field = sn__schema_field(m, f.number);
		uint32_t index;

		if (field == NULL || !fits(w, field, &f))
			continue;
		index = (uint32_t)(field - m->fields);
		choose(fields, field, index);
		fields->v[fields->n++] = (struct found){.f = f};
		if (fields->first[index] == 0)
			fields->first[index] = fields->n;
		else
			fields->v[fields->last[index] - 1].next = fields->n;
		fields->last[index] = fields->n;
	}
}

/* fields.v is to be freed. */
static int collect(struct writer *w, const struct sn_schema_message *m, struct sn_str data,
		struct fields *ret_fields)
{
	size_t n_index = (size_t)2 * m->n_fields + m->n_oneofs;
	struct fields fields = {0};
	struct sn_protobuf_field f;
	struct sn_str in = data;
	size_t n = 0;
	char *p;
	int r;

	if (w->depth == SN_PROTOBUF_DEPTH_MAX)
		return failed(w, SN_E_LIMIT, "messages nested too deep");
	while ((r = sn__protobuf_next(&in, &f)) > 0)
		n++;
	if (r < 0)
		return failed(w, SN_E_PARSE, "not a protobuf message");
	p = sn__calloc(1, n * sizeof *fields.v + n_index * sizeof *fields.first);
	if (p == NULL)
		return SN_E_NOMEM;
	fields.v = (struct found *)(void *)p;
	fields.first = (uint32_t *)(void *)(p + n * sizeof *fields.v);
	fields.last = fields.first + m->n_fields;
	fields.chosen = fields.last + m->n_fields;
	string_together(w, m, data, &fields);
	*ret_fields = fields;
	return 0;
}

/* The one that counts of a singular field: the last; of messages, which are merged, all one behind
 * the other (*ret_merged is to be freed). NULL: none. */
static int single(const struct fields *fields, uint32_t index, bool is_message,
		const struct sn_protobuf_field **ret_field, struct found **ret_merged)
{
	struct found *merged;
	size_t len = 0;
	char *at;

	*ret_merged = NULL;
	*ret_field = NULL;
	if (fields->first[index] == 0)
		return 0;
	*ret_field = &fields->v[fields->last[index] - 1].f;
	if (!is_message || fields->first[index] == fields->last[index])
		return 0;
	for (uint32_t i = fields->first[index]; i != 0; i = fields->v[i - 1].next)
		len += fields->v[i - 1].f.bytes.len;
	merged = sn__malloc(sizeof *merged + len);
	if (merged == NULL)
		return SN_E_NOMEM;
	at = (char *)(merged + 1);
	*merged = (struct found){.f = {.wire = SN_PROTOBUF_LEN, .bytes = {at, len}}};
	for (uint32_t i = fields->first[index]; i != 0; i = fields->v[i - 1].next) {
		struct sn_str s = fields->v[i - 1].f.bytes;

		if (s.len > 0)
			memcpy(at, s.ptr, s.len);
		at += s.len;
	}
	*ret_merged = merged;
	*ret_field = &merged->f;
	return 0;
}

/* ---- scalars ---- */

static int put_real(struct writer *w, double v, bool is_float)
{
	if (isnan(v))
		return sn__buf_puts(w->out, "\"NaN\"");
	if (isinf(v))
		return sn__buf_puts(w->out, v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
	return sn__json_real(v, is_float, w->out);
}

static int put_float(struct writer *w, uint64_t bits)
{
	uint32_t low = (uint32_t)bits;
	float v;

	memcpy(&v, &low, sizeof v);
	return put_real(w, (double)v, true);
}

static int put_double(struct writer *w, uint64_t bits)
{
	double v;

	memcpy(&v, &bits, sizeof v);
	return put_real(w, v, false);
}

static int put_enum(struct writer *w, const struct sn_schema_field *field, uint64_t bits)
{
	const struct sn_schema_enum *e = sn__schema_enum(w->schema, field->type_name);
	int32_t number = (int32_t)(uint32_t)bits;
	const struct sn_schema_value *v = e != NULL ? sn__schema_value(e, number) : NULL;

	if (e != NULL && e->null)
		return sn__buf_puts(w->out, "null");
	if (v != NULL)
		return sn__buf_printf(w->out, "\"%s\"", v->name.ptr);
	return sn__buf_printf(w->out, "%d", number);
}

static int put_bytes(struct writer *w, struct sn_str bytes)
{
	int r = sn__buf_puts(w->out, "\"");

	if (r == 0)
		r = sn__protobuf_base64_text(bytes, w->out);
	return r < 0 ? r : sn__buf_puts(w->out, "\"");
}

static int put_scalar(struct writer *w, const struct sn_schema_field *field,
		const struct sn_protobuf_field *f)
{
	uint32_t low = (uint32_t)f->value;

	switch (field->type) {
	case SN_SCHEMA_DOUBLE:
		return put_double(w, f->value);
	case SN_SCHEMA_FLOAT:
		return put_float(w, f->value);
	case SN_SCHEMA_INT32:
	case SN_SCHEMA_SFIXED32:
		return sn__buf_printf(w->out, "%d", (int32_t)low);
	case SN_SCHEMA_SINT32:
		return sn__buf_printf(w->out, "%d", (int32_t)sn_protobuf_zigzag(low));
	case SN_SCHEMA_UINT32:
	case SN_SCHEMA_FIXED32:
		return sn__buf_printf(w->out, "%u", low);
	case SN_SCHEMA_INT64:
	case SN_SCHEMA_SFIXED64:
		return sn__buf_printf(w->out, "\"%lld\"", (long long)f->value);
	case SN_SCHEMA_SINT64:
		return sn__buf_printf(w->out, "\"%lld\"", (long long)sn_protobuf_zigzag(f->value));
	case SN_SCHEMA_UINT64:
	case SN_SCHEMA_FIXED64:
		return sn__buf_printf(w->out, "\"%llu\"", (unsigned long long)f->value);
	case SN_SCHEMA_BOOL:
		return sn__buf_puts(w->out, f->value != 0 ? "true" : "false");
	case SN_SCHEMA_ENUM:
		return put_enum(w, field, f->value);
	case SN_SCHEMA_BYTES:
		return put_bytes(w, f->bytes);
	default:
		if (!sn__utf8_valid(f->bytes))
			return failed(w, SN_E_PARSE, "a string that is not UTF-8");
		return sn__json_quote(f->bytes, w->out);
	}
}

/* Whether a field without presence is as good as absent. */
static bool is_default(struct writer *w, const struct sn_schema_field *field,
		const struct sn_protobuf_field *f)
{
	const struct sn_schema_enum *e;

	switch (field->type) {
	case SN_SCHEMA_STRING:
	case SN_SCHEMA_BYTES:
		return f->bytes.len == 0;
	case SN_SCHEMA_ENUM: /* null is null, whatever its number */
		e = sn__schema_enum(w->schema, field->type_name);
		return (uint32_t)f->value == 0 || (e != NULL && e->null);
	case SN_SCHEMA_INT32:
	case SN_SCHEMA_UINT32:
	case SN_SCHEMA_SINT32:
		return (uint32_t)f->value == 0;
	default:
		return f->value == 0;
	}
}

/* ---- values ---- */

static int put_message(struct writer *w, const struct sn_schema_message *m, struct sn_str data);

static int put_value(struct writer *w, const struct sn_schema_field *field,
		const struct sn_protobuf_field *f)
{
	const struct sn_schema_message *m;

	if (field->type != SN_SCHEMA_MESSAGE)
		return put_scalar(w, field, f);
	m = sn__schema_message(w->schema, field->type_name);
	if (m == NULL)
		return failed(w, SN_E_NOT_FOUND, "its type is not in the schema");
	return put_message(w, m, f->bytes);
}

/* The items of one packed field. */
static int put_packed(struct writer *w, const struct sn_schema_field *field, struct sn_str in,
		bool *first)
{
	enum sn_protobuf_wire wire = wires[field->type].wire;
	size_t size = wire == SN_PROTOBUF_I32 ? 4 : 8;

	while (in.len > 0) {
		struct sn_protobuf_field f = {.wire = wire};
		int r = 0;

		if (wire == SN_PROTOBUF_VARINT) {
			if (sn__protobuf_varint(&in, &f.value) < 0)
				return failed(w, SN_E_PARSE,
						"packed numbers end in the middle of one");
		} else {
			if (in.len < size)
				return failed(w, SN_E_PARSE,
						"packed numbers end in the middle of one");
			for (size_t i = 0; i < size; i++)
				f.value |= (uint64_t)(unsigned char)in.ptr[i] << (8 * i);
			in.ptr += size;
			in.len -= size;
		}
		if (is_foreign(w, field, f.value))
			continue;
		if (!*first)
			r = sn__buf_puts(w->out, ",");
		*first = false;
		if (r == 0)
			r = put_scalar(w, field, &f);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Sets *ret_empty: no item, whatever came. */
static int put_list(struct writer *w, const struct sn_schema_field *field,
		const struct fields *fields, uint32_t index, bool *ret_empty)
{
	bool packable = wires[field->type].packable;
	bool first = true;
	int r = open_bracket(w, '[');

	for (uint32_t i = fields->first[index]; r == 0 && i != 0; i = fields->v[i - 1].next) {
		const struct sn_protobuf_field *f = &fields->v[i - 1].f;

		if (packable && f->wire == SN_PROTOBUF_LEN) {
			r = put_packed(w, field, f->bytes, &first);
			continue;
		}
		if (!first)
			r = sn__buf_puts(w->out, ",");
		first = false;
		if (r == 0)
			r = put_value(w, field, f);
	}
	*ret_empty = first;
	return r < 0 ? r : close_bracket(w, ']');
}

/* ---- maps ---- */

struct pair {
	struct fields fields; /* of its entry */
	char number[24];
};

/* The key as JSON has it: a string. */
static int key_text(struct writer *w, const struct sn_schema_field *field, struct pair *pair,
		struct sn_str *ret_key)
{
	static const struct sn_protobuf_field none = {0};
	const struct sn_protobuf_field *f;
	struct found *merged;
	struct sn_buf text;
	struct sn_buf *out = w->out;
	int r = single(&pair->fields, 0, false, &f, &merged);

	if (f == NULL)
		f = &none;
	if (field->type == SN_SCHEMA_STRING) {
		if (!sn__utf8_valid(f->bytes))
			return failed(w, SN_E_PARSE, "a key that is not UTF-8");
		*ret_key = f->bytes;
		return r;
	}
	/* Numbers look as they do elsewhere; quotes are put later. */
	sn__buf_init(&text, sizeof pair->number);
	w->out = &text;
	r = put_scalar(w, field, f);
	w->out = out;
	if (r == 0) {
		size_t quote = sn__buf_data(&text)[0] == '"' ? 1 : 0;

		*ret_key = (struct sn_str){pair->number, text.len - 2 * quote};
		memcpy(pair->number, sn__buf_data(&text) + quote, ret_key->len);
	}
	sn__buf_finish(&text);
	return r;
}

static int put_pair(struct writer *w, const struct sn_schema_field *field, struct sn_str key,
		const struct pair *pair)
{
	static const struct sn_protobuf_field none = {0};
	const struct sn_protobuf_field *f;
	struct found *merged;
	int r = single(&pair->fields, 1, field->type == SN_SCHEMA_MESSAGE, &f, &merged);

	if (r == 0)
		r = sn__json_quote(key, w->out);
	if (r == 0)
		r = sn__buf_puts(w->out, ":");
	if (r == 0)
		r = put_value(w, field, f != NULL ? f : &none);
	sn__free(merged);
	return r;
}

/* A value no map of this type can have: the whole entry is as good as unknown. */
static bool is_foreign_entry(
		struct writer *w, const struct sn_schema_field *value, struct sn_str in)
{
	struct sn_protobuf_field f;
	bool foreign = false;

	while (value->type == SN_SCHEMA_ENUM && sn__protobuf_next(&in, &f) > 0) {
		if (f.number == 2 && f.wire == SN_PROTOBUF_VARINT)
			foreign = is_foreign(w, value, f.value);
	}
	return foreign;
}

/* Of several entries with one key the last counts. */
static int read_pairs(struct writer *w, const struct sn_schema_message *entry,
		const struct fields *fields, uint32_t index, struct pair *pairs, struct sn_map *map)
{
	int r = 0;

	for (uint32_t i = fields->first[index]; r == 0 && i != 0; i = fields->v[i - 1].next) {
		struct sn_str key = {NULL, 0};

		if (is_foreign_entry(w, &entry->fields[1], fields->v[i - 1].f.bytes))
			continue;
		r = collect(w, entry, fields->v[i - 1].f.bytes, &pairs->fields);
		if (r == 0)
			r = key_text(w, &entry->fields[0], pairs, &key);
		if (r == 0)
			r = sn__map_put(map, key, pairs, NULL);
		pairs++;
	}
	return r;
}

static int put_map(struct writer *w, const struct sn_schema_message *entry,
		const struct fields *fields, uint32_t index, bool *ret_empty)
{
	const struct sn_map_entry *e;
	struct pair *pairs;
	struct sn_map map;
	size_t n = 0;
	int r;

	for (uint32_t i = fields->first[index]; i != 0; i = fields->v[i - 1].next)
		n++;
	pairs = sn__calloc(n, sizeof *pairs);
	if (pairs == NULL)
		return SN_E_NOMEM;
	sn__map_init(&map);
	r = read_pairs(w, entry, fields, index, pairs, &map);
	if (r == 0)
		r = open_bracket(w, '{');
	*ret_empty = true;
	for (size_t pos = 0; r == 0 && (e = sn__map_next(&map, &pos)) != NULL;) {
		if (!*ret_empty)
			r = sn__buf_puts(w->out, ",");
		*ret_empty = false;
		if (r == 0)
			r = put_pair(w, &entry->fields[1], e->key, e->value);
	}
	if (r == 0)
		r = close_bracket(w, '}');
	sn__map_finish(&map);
	for (size_t i = 0; i < n; i++)
		sn__free(pairs[i].fields.v);
	sn__free(pairs);
	return r;
}

/* ---- messages ---- */

static int put_repeated(struct writer *w, const struct sn_schema_field *field,
		const struct fields *fields, uint32_t index, bool *ret_empty)
{
	const struct sn_schema_message *m = field->type == SN_SCHEMA_MESSAGE
			? sn__schema_message(w->schema, field->type_name)
			: NULL;

	if (m != NULL && m->map_entry)
		return put_map(w, m, fields, index, ret_empty);
	return put_list(w, field, fields, index, ret_empty);
}

static int put_singular(struct writer *w, const struct sn_schema_field *field,
		const struct fields *fields, uint32_t index, bool *ret_empty)
{
	const struct sn_protobuf_field *f;
	struct found *merged;
	int r = single(fields, index, field->type == SN_SCHEMA_MESSAGE, &f, &merged);

	*ret_empty = r == 0 && !field->presence && is_default(w, field, f);
	if (r == 0 && !*ret_empty)
		r = put_value(w, field, f);
	sn__free(merged);
	return r;
}

static int put_field(struct writer *w, const struct sn_schema_field *field,
		const struct fields *fields, uint32_t index, bool *first)
{
	size_t before = w->out->len;
	bool empty;
	int r = *first ? 0 : sn__buf_puts(w->out, ",");

	if (r == 0)
		r = sn__json_quote(field->json_name, w->out);
	if (r == 0)
		r = sn__buf_puts(w->out, ":");
	if (r < 0)
		return r;
	w->path[w->depth++] = field->name;
	r = field->label == SN_SCHEMA_REPEATED ? put_repeated(w, field, fields, index, &empty)
					       : put_singular(w, field, fields, index, &empty);
	w->depth--;
	if (r == 0 && empty)
		sn__buf_truncate(w->out, before);
	else
		*first = false;
	return r;
}

/* Members without the brackets around. */
static int put_members(
		struct writer *w, const struct sn_schema_message *m, struct sn_str data, bool first)
{
	struct fields fields = {0};
	int r = collect(w, m, data, &fields);

	for (uint32_t i = 0; r == 0 && i < m->n_fields; i++) {
		if (fields.first[i] != 0)
			r = put_field(w, &m->fields[i], &fields, i, &first);
	}
	sn__free(fields.v);
	return r;
}

/* ---- messages with a form of their own ---- */

/* The numbers in fields 1 and 2. */
static int put_time(struct writer *w, const struct sn_schema_message *m, struct sn_str in)
{
	struct sn_protobuf_field f;
	int64_t seconds = 0;
	int32_t nanos = 0;
	int r;

	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		if (f.number == 1 && f.wire == SN_PROTOBUF_VARINT)
			seconds = (int64_t)f.value;
		if (f.number == 2 && f.wire == SN_PROTOBUF_VARINT)
			nanos = (int32_t)(uint32_t)f.value;
	}
	if (r == 0)
		r = sn__buf_puts(w->out, "\"");
	if (r == 0 && m->known == SN_SCHEMA_TIMESTAMP)
		r = sn__protobuf_timestamp_text(seconds, nanos, w->out);
	else if (r == 0)
		r = sn__protobuf_duration_text(seconds, nanos, w->out);
	if (r == SN_E_PARSE)
		return failed(w, r,
				m->known == SN_SCHEMA_TIMESTAMP
						? "not a time of the years 1 to 9999"
						: "not a duration of up to 10,000 years");
	return r < 0 ? r : sn__buf_puts(w->out, "\"");
}

static int put_mask(struct writer *w, struct sn_str in)
{
	struct sn_protobuf_field f;
	struct sn_buf paths;
	int r;

	sn__buf_init(&paths, in.len + 1);
	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		if (f.number != 1 || f.wire != SN_PROTOBUF_LEN)
			continue;
		r = paths.len > 0 ? sn__buf_puts(&paths, ",") : 0;
		/* Would come back as none, or as two. */
		if (r == 0 && (f.bytes.len == 0 || memchr(f.bytes.ptr, ',', f.bytes.len) != NULL))
			r = SN_E_PARSE;
		if (r == 0)
			r = sn__protobuf_path_text(f.bytes, &paths);
		if (r < 0)
			break;
	}
	if (r == 0 && !sn__utf8_valid(sn__buf_str(&paths)))
		r = SN_E_PARSE;
	if (r == 0)
		r = sn__json_quote(sn__buf_str(&paths), w->out);
	sn__buf_finish(&paths);
	return r == SN_E_PARSE ? failed(w, r, "not a field mask that has a JSON form") : r;
}

static int put_struct(struct writer *w, enum sn_protobuf_value kind, struct sn_str data)
{
	SN_AUTO_JSON json_t *json = NULL;
	struct sn_error err;
	int r = sn__protobuf_value_read(kind, data, w->brackets, &json, &err);

	return r < 0 ? failed(w, r, err.text) : sn__json_dump(json, w->out);
}

static int put_wrapper(struct writer *w, const struct sn_schema_message *m, struct sn_str data)
{
	static const struct sn_protobuf_field none = {0};
	struct fields fields;
	int r = collect(w, m, data, &fields);

	if (r < 0)
		return r;
	r = put_scalar(w, &m->fields[0],
			fields.first[0] != 0 ? &fields.v[fields.last[0] - 1].f : &none);
	sn__free(fields.v);
	return r;
}

static int put_any_of(struct writer *w, const struct sn_schema_message *m, struct sn_str url,
		struct sn_str value)
{
	int r = open_bracket(w, '{');

	if (r == 0)
		r = sn__buf_puts(w->out, "\"@type\":");
	if (r == 0)
		r = sn__json_quote(url, w->out);
	w->path[w->depth++] = m->full_name;
	if (r == 0 && m->known == SN_SCHEMA_PLAIN)
		r = put_members(w, m, value, false);
	else if (r == 0)
		r = sn__buf_puts(w->out, ",\"value\":");
	if (r == 0 && m->known != SN_SCHEMA_PLAIN)
		r = put_message(w, m, value);
	w->depth--;
	return r < 0 ? r : close_bracket(w, '}');
}

static int put_any(struct writer *w, struct sn_str in)
{
	struct sn_str url = {NULL, 0}, value = {NULL, 0}, name;
	const struct sn_schema_message *m;
	struct sn_protobuf_field f;
	int r;

	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		if (f.number == 1 && f.wire == SN_PROTOBUF_LEN)
			url = f.bytes;
		if (f.number == 2 && f.wire == SN_PROTOBUF_LEN)
			value = f.bytes;
	}
	if (r == 0 && url.len == 0 && value.len == 0)
		return sn__buf_puts(w->out, "{}");
	if (r < 0 || !sn__utf8_valid(url))
		return failed(w, SN_E_PARSE, "not a google.protobuf.Any");
	name = url;
	for (size_t i = 0; i < url.len; i++) {
		if (url.ptr[i] == '/')
			name = (struct sn_str){url.ptr + i + 1, url.len - i - 1};
	}
	m = name.len < url.len ? sn__schema_message(w->schema, name) : NULL;
	if (m == NULL)
		return failed(w, SN_E_NOT_FOUND, "of a type that is not in the schema");
	if (w->depth == SN_PROTOBUF_DEPTH_MAX)
		return failed(w, SN_E_LIMIT, "messages nested too deep");
	return put_any_of(w, m, url, value);
}

static int put_message(struct writer *w, const struct sn_schema_message *m, struct sn_str data)
{
	int r;

	switch (m->known) {
	case SN_SCHEMA_ANY:
		return put_any(w, data);
	case SN_SCHEMA_DURATION:
	case SN_SCHEMA_TIMESTAMP:
		return put_time(w, m, data);
	case SN_SCHEMA_FIELD_MASK:
		return put_mask(w, data);
	case SN_SCHEMA_LIST_VALUE:
		return put_struct(w, SN_PROTOBUF_LIST, data);
	case SN_SCHEMA_STRUCT:
		return put_struct(w, SN_PROTOBUF_STRUCT, data);
	case SN_SCHEMA_VALUE:
		return put_struct(w, SN_PROTOBUF_VALUE, data);
	case SN_SCHEMA_WRAPPER:
		return put_wrapper(w, m, data);
	default:
		r = open_bracket(w, '{');
		if (r == 0)
			r = put_members(w, m, data, true);
		return r < 0 ? r : close_bracket(w, '}');
	}
}

int sn__protobuf_to_json(const struct sn_schema *schema, const struct sn_schema_message *message,
		struct sn_str data, struct sn_buf *out, struct sn_error *err)
{
	struct sn_error own = {0};
	struct writer w = {.schema = schema, .out = out, .err = &own};
	size_t before = out->len;
	int r = put_message(&w, message, data);

	if (r == 0)
		return 0;
	sn__buf_truncate(out, before);
	if (own.code == 0)
		return sn__error_set(err, r, "message: %s",
				r == SN_E_NOMEM ? "out of memory" : "the JSON text is too large");
	return sn__error_set(err, r, "%s", own.text);
}
