/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FileDescriptorProto (google/protobuf/descriptor.proto), read with our own reader of fields. Each
 * file has an arena; what it defines is found by full name in one map. References between types are
 * names and looked up when they are needed, so that files may come in any order.
 *
 * A file is read in two steps: into its arena first, which may fail anywhere, and only when it is
 * complete into the maps.
 */
#include "proto/schema.h"

#include <stdlib.h>

#include "base/mem.h"
#include "proto/protobuf.h"

#define ARENA_BLOCK 4096

struct file {
	struct file *next;
	struct sn_str name, bytes, package;
	struct symbol *symbols; /* newest first */
	struct relative *relatives;
	uint32_t n_symbols;
	bool proto3;
	struct sn_arena arena;
};

enum symbol_kind {
	SYMBOL_MESSAGE,
	SYMBOL_ENUM,
	SYMBOL_SERVICE,
	SYMBOL_OTHER, /* method, field, value */
};

struct symbol {
	struct symbol *next;
	struct sn_str name;
	struct file *file;
	const void *what; /* by kind */
	enum symbol_kind kind;
};

/* A type named without a leading dot, which is looked for from the inside out, as in a .proto: some
 * servers (grpc-js) describe themselves so. The text at name->ptr lies behind "scope.", so that the
 * full name can take its place. */
struct relative {
	struct relative *next;
	struct sn_str *name;
	char *text; /* "scope.name" */
	size_t scope_len;
};

struct sn_schema {
	struct file *files; /* newest first */
	struct sn_map by_name;
	struct sn_map symbols;
	size_t used; /* by all arenas */
};

/* One file being read. */
struct reader {
	struct file *file;
	struct sn_error *err;
	unsigned depth;
};

/* ---- pieces ---- */

static void *take(struct reader *rd, size_t n, size_t size)
{
	struct sn_arena *a = &rd->file->arena;
	void *p;

	if (size > 0 && n > (a->max - a->used) / size) {
		(void)sn__error_set(rd->err, SN_E_LIMIT, "file %s: the schema is too large",
				rd->file->name.ptr);
		return NULL;
	}
	p = sn__arena_zalloc(a, n * size);
	if (p == NULL)
		(void)sn__error_set(rd->err, SN_E_NOMEM, "out of memory");
	return p;
}

static int malformed(struct reader *rd, const char *what)
{
	return sn__error_set(rd->err, SN_E_PARSE, "file %s: %s",
			rd->file->name.ptr != NULL ? rd->file->name.ptr : "without a name", what);
}

static int copy(struct reader *rd, struct sn_str s, struct sn_str *ret_copy)
{
	char *p = take(rd, s.len + 1, 1);

	if (p == NULL)
		return rd->err->code;
	if (s.len > 0)
		memcpy(p, s.ptr, s.len);
	*ret_copy = (struct sn_str){p, s.len};
	return 0;
}

static bool is_identifier(struct sn_str s, bool dots)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		bool letter = (sn_ascii_lower(c) >= 'a' && sn_ascii_lower(c) <= 'z') || c == '_';
		bool other = (c >= '0' && c <= '9') || (dots && c == '.' && i > 0 && i + 1 < s.len);

		if (!letter && !other)
			return false;
	}
	return s.len > 0;
}

/* Names go into messages and onto terminals. */
static bool is_text(struct sn_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
			return false;
	}
	return sn__utf8_valid(s);
}

/* A name within @scope, its own and the full one. */
static int read_name(struct reader *rd, struct sn_str name, struct sn_str scope,
		struct sn_str *ret_name, struct sn_str *ret_full)
{
	size_t dot = scope.len > 0 ? 1 : 0;
	char *p;

	if (!is_identifier(name, false))
		return malformed(rd, "a definition without a proper name");
	if (name.len + scope.len > SN_SCHEMA_NAME_MAX)
		return sn__error_set(rd->err, SN_E_LIMIT, "file %s: names are too long",
				rd->file->name.ptr);
	p = take(rd, scope.len + dot + name.len + 1, 1);
	if (p == NULL)
		return rd->err->code;
	if (dot != 0) {
		memcpy(p, scope.ptr, scope.len);
		p[scope.len] = '.';
	}
	memcpy(p + scope.len + dot, name.ptr, name.len);
	*ret_full = (struct sn_str){p, scope.len + dot + name.len};
	*ret_name = (struct sn_str){p + scope.len + dot, name.len};
	return 0;
}

/* A type's full name with a dot before it, or a relative one (resolve() follows). */
static int read_type_name(
		struct reader *rd, struct sn_str name, struct sn_str scope, struct sn_str *ret_name)
{
	bool full = name.len > 0 && name.ptr[0] == '.';
	struct relative *rel;

	if (full)
		name = (struct sn_str){name.ptr + 1, name.len - 1};
	if (!is_identifier(name, true) || name.len > SN_SCHEMA_NAME_MAX)
		return malformed(rd, "a type without a proper name");
	if (full || scope.len == 0)
		return copy(rd, name, ret_name);
	rel = take(rd, 1, sizeof *rel + scope.len + name.len + 2);
	if (rel == NULL)
		return rd->err->code;
	*rel = (struct relative){rd->file->relatives, ret_name, (char *)(rel + 1), scope.len};
	memcpy(rel->text, scope.ptr, scope.len);
	rel->text[scope.len] = '.';
	memcpy(rel->text + scope.len + 1, name.ptr, name.len);
	*ret_name = (struct sn_str){rel->text + scope.len + 1, name.len};
	rd->file->relatives = rel;
	return 0;
}

static int add_symbol(
		struct reader *rd, enum symbol_kind kind, struct sn_str full_name, const void *what)
{
	struct symbol *s = take(rd, 1, sizeof *s);

	if (s == NULL)
		return rd->err->code;
	*s = (struct symbol){.next = rd->file->symbols,
			.name = full_name,
			.file = rd->file,
			.what = what,
			.kind = kind};
	rd->file->symbols = s;
	rd->file->n_symbols++;
	return 0;
}

static int next(struct reader *rd, struct sn_str *in, struct sn_protobuf_field *ret_field)
{
	int r = sn__protobuf_next(in, ret_field);

	return r < 0 ? malformed(rd, "not a FileDescriptorProto") : r;
}

static bool is_bytes(const struct sn_protobuf_field *f, uint32_t number)
{
	return f->number == number && f->wire == SN_PROTOBUF_LEN;
}

static bool is_number(const struct sn_protobuf_field *f, uint32_t number)
{
	return f->number == number && f->wire == SN_PROTOBUF_VARINT;
}

/* How often each field below 16 comes. */
static int count(struct reader *rd, struct sn_str in, uint32_t ret_counts[16])
{
	struct sn_protobuf_field f;
	int r;

	memset(ret_counts, 0, 16 * sizeof *ret_counts);
	while ((r = next(rd, &in, &f)) > 0) {
		if (f.number < 16 && f.wire == SN_PROTOBUF_LEN)
			ret_counts[f.number]++;
	}
	return r;
}

/* The last string in field @number; empty when there is none. */
static int find_string(
		struct reader *rd, struct sn_str in, uint32_t number, struct sn_str *ret_string)
{
	struct sn_protobuf_field f;
	int r;

	*ret_string = (struct sn_str){NULL, 0};
	while ((r = next(rd, &in, &f)) > 0) {
		if (is_bytes(&f, number))
			*ret_string = f.bytes;
	}
	return r;
}

/* ---- fields ---- */

/* "a_long_name" to "aLongName". */
static int make_json_name(struct reader *rd, struct sn_str name, struct sn_str *ret_name)
{
	char *p = take(rd, name.len + 1, 1);
	bool upper = false;
	size_t n = 0;

	if (p == NULL)
		return rd->err->code;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		if (c == '_') {
			upper = true;
			continue;
		}
		p[n++] = upper && c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
		upper = false;
	}
	*ret_name = (struct sn_str){p, n};
	return 0;
}

static bool is_packable(enum sn_schema_type type)
{
	return type != SN_SCHEMA_STRING && type != SN_SCHEMA_BYTES && type != SN_SCHEMA_MESSAGE &&
			type != SN_SCHEMA_GROUP;
}

static int read_field_options(struct reader *rd, struct sn_str in, struct sn_schema_field *field)
{
	struct sn_protobuf_field f;
	int r;

	while ((r = next(rd, &in, &f)) > 0) {
		if (is_number(&f, 2))
			field->packed = f.value != 0;
	}
	return r;
}

static int read_field_part(struct reader *rd, const struct sn_protobuf_field *f,
		struct sn_str scope, struct sn_schema_field *field)
{
	if (is_number(f, 3))
		field->number = (uint32_t)SN_MIN(f->value, (uint64_t)UINT32_MAX);
	else if (is_number(f, 4))
		field->label = f->value <= SN_SCHEMA_REPEATED ? (enum sn_schema_label)f->value : 0;
	else if (is_number(f, 5))
		field->type = f->value <= SN_SCHEMA_SINT64 ? (enum sn_schema_type)f->value
							   : SN_SCHEMA_NONE;
	else if (is_bytes(f, 6))
		return read_type_name(rd, f->bytes, scope, &field->type_name);
	else if (is_bytes(f, 7))
		return copy(rd, f->bytes, &field->default_value);
	else if (is_bytes(f, 8))
		return read_field_options(rd, f->bytes, field);
	else if (is_number(f, 9))
		field->oneof = f->value < INT32_MAX ? (int32_t)f->value : INT32_MAX;
	else if (is_bytes(f, 10))
		return is_text(f->bytes) ? copy(rd, f->bytes, &field->json_name)
					 : malformed(rd, "a JSON name that is no text");
	else if (is_number(f, 17))
		field->optional3 = f->value != 0;
	return 0;
}

/* What follows from its parts. */
static int complete_field(struct reader *rd, struct sn_schema_field *field)
{
	bool named = field->type == SN_SCHEMA_MESSAGE || field->type == SN_SCHEMA_ENUM ||
			field->type == SN_SCHEMA_GROUP;

	if (field->number == 0 || field->number >= 1u << 29 || field->type == SN_SCHEMA_NONE ||
			named != (field->type_name.len > 0))
		return malformed(rd, "a field without a proper number or type");
	if (field->label == 0)
		field->label = SN_SCHEMA_OPTIONAL;
	field->packed = field->packed && is_packable(field->type);
	field->presence = !rd->file->proto3 || field->oneof >= 0 || field->optional3 ||
			field->type == SN_SCHEMA_MESSAGE;
	return field->json_name.len == 0 ? make_json_name(rd, field->name, &field->json_name) : 0;
}

static int read_field(struct reader *rd, struct sn_str in, struct sn_str scope,
		struct sn_schema_field *field)
{
	struct sn_protobuf_field f;
	struct sn_str name, full;
	int r;

	*field = (struct sn_schema_field){.oneof = -1, .packed = rd->file->proto3};
	r = find_string(rd, in, 1, &name);
	if (r == 0)
		r = read_name(rd, name, scope, &field->name, &full);
	if (r == 0)
		r = add_symbol(rd, SYMBOL_OTHER, full, field);
	if (r < 0)
		return r;
	while ((r = next(rd, &in, &f)) > 0) {
		r = read_field_part(rd, &f, scope, field);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : complete_field(rd, field);
}

/* ---- enums ---- */

static int read_enum_value(struct reader *rd, struct sn_str in, struct sn_str scope,
		struct sn_schema_value *value)
{
	struct sn_protobuf_field f;
	struct sn_str name, full;
	int r = find_string(rd, in, 1, &name);

	if (r == 0)
		r = read_name(rd, name, scope, &value->name, &full);
	if (r == 0)
		r = add_symbol(rd, SYMBOL_OTHER, full, value);
	if (r < 0)
		return r;
	while ((r = next(rd, &in, &f)) > 0) {
		if (is_number(&f, 2))
			value->number = (int32_t)(uint32_t)f.value;
	}
	return r;
}

static int by_value(const void *a, const void *b)
{
	const struct sn_schema_value *x = *(struct sn_schema_value *const *)a;
	const struct sn_schema_value *y = *(struct sn_schema_value *const *)b;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return x < y ? -1 : x > y;
}

static int read_enum(struct reader *rd, struct sn_str in, struct sn_str scope,
		struct sn_schema_enum **list)
{
	struct sn_schema_enum *e = take(rd, 1, sizeof *e);
	struct sn_protobuf_field f;
	uint32_t counts[16];
	struct sn_str name;
	int r;

	if (e == NULL)
		return rd->err->code;
	r = count(rd, in, counts);
	if (r == 0)
		r = find_string(rd, in, 1, &name);
	if (r == 0)
		r = read_name(rd, name, scope, &e->name, &e->full_name);
	if (r == 0)
		r = add_symbol(rd, SYMBOL_ENUM, e->full_name, e);
	if (r < 0)
		return r;
	if (counts[2] == 0)
		return malformed(rd, "an enum without values");
	e->values = take(rd, counts[2], sizeof *e->values);
	e->by_number = e->values != NULL ? take(rd, counts[2], sizeof *e->by_number) : NULL;
	if (e->by_number == NULL)
		return rd->err->code;
	while ((r = next(rd, &in, &f)) > 0) {
		/* Values are siblings of their enum. */
		if (is_bytes(&f, 2))
			r = read_enum_value(rd, f.bytes, scope, &e->values[e->n_values++]);
		if (r < 0)
			return r;
	}
	for (uint32_t i = 0; i < e->n_values; i++)
		e->by_number[i] = &e->values[i];
	qsort(e->by_number, e->n_values, sizeof *e->by_number, by_value);
	e->closed = !rd->file->proto3;
	e->null = sn_str_eq(e->full_name, SN_STR("google.protobuf.NullValue"));
	e->next = *list;
	*list = e;
	return r;
}

/* ---- messages ---- */

static enum sn_schema_known known_of(struct sn_str full_name)
{
	static const struct {
		const char *name;
		enum sn_schema_known known;
	} table[] = {
			{"Any", SN_SCHEMA_ANY},
			{"Duration", SN_SCHEMA_DURATION},
			{"FieldMask", SN_SCHEMA_FIELD_MASK},
			{"ListValue", SN_SCHEMA_LIST_VALUE},
			{"Struct", SN_SCHEMA_STRUCT},
			{"Timestamp", SN_SCHEMA_TIMESTAMP},
			{"Value", SN_SCHEMA_VALUE},
			{"DoubleValue", SN_SCHEMA_WRAPPER},
			{"FloatValue", SN_SCHEMA_WRAPPER},
			{"Int64Value", SN_SCHEMA_WRAPPER},
			{"UInt64Value", SN_SCHEMA_WRAPPER},
			{"Int32Value", SN_SCHEMA_WRAPPER},
			{"UInt32Value", SN_SCHEMA_WRAPPER},
			{"BoolValue", SN_SCHEMA_WRAPPER},
			{"StringValue", SN_SCHEMA_WRAPPER},
			{"BytesValue", SN_SCHEMA_WRAPPER},
	};
	struct sn_str package = SN_STR("google.protobuf.");

	if (full_name.len <= package.len || memcmp(full_name.ptr, package.ptr, package.len) != 0)
		return SN_SCHEMA_PLAIN;
	full_name.ptr += package.len;
	full_name.len -= package.len;
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		if (sn_str_eq(full_name, sn_str_from(table[i].name)))
			return table[i].known;
	}
	return SN_SCHEMA_PLAIN;
}

static int by_number(const void *a, const void *b)
{
	const struct sn_schema_field *x = *(struct sn_schema_field *const *)a;
	const struct sn_schema_field *y = *(struct sn_schema_field *const *)b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* What was put in front of the other, back into the order of the file. */
static void reverse_types(struct sn_schema_message *m)
{
	struct sn_schema_message *messages = m->messages;
	struct sn_schema_enum *enums = m->enums;

	for (m->messages = NULL; messages != NULL;) {
		struct sn_schema_message *next_message = messages->next;

		messages->next = m->messages;
		m->messages = messages;
		messages = next_message;
	}
	for (m->enums = NULL; enums != NULL;) {
		struct sn_schema_enum *next_enum = enums->next;

		enums->next = m->enums;
		m->enums = enums;
		enums = next_enum;
	}
}

static int complete_message(struct reader *rd, struct sn_schema_message *m)
{
	reverse_types(m);
	for (uint32_t i = 0; i < m->n_fields; i++) {
		m->by_number[i] = &m->fields[i];
		if (m->fields[i].oneof >= 0 && (uint32_t)m->fields[i].oneof >= m->n_oneofs)
			return malformed(rd, "a field of a oneof that is not there");
	}
	if (m->n_fields > 1)
		qsort(m->by_number, m->n_fields, sizeof *m->by_number, by_number);
	for (uint32_t i = 1; i < m->n_fields; i++) {
		if (m->by_number[i]->number == m->by_number[i - 1]->number)
			return malformed(rd, "two fields with one number");
	}
	if (m->map_entry &&
			(m->n_fields != 2 || m->by_number[0]->number != 1 ||
					m->by_number[1]->number != 2 || m->fields[0].number != 1 ||
					m->fields[0].label == SN_SCHEMA_REPEATED ||
					m->fields[1].label == SN_SCHEMA_REPEATED))
		return malformed(rd, "an entry of a map without key and value");
	if (m->known == SN_SCHEMA_WRAPPER &&
			(m->n_fields != 1 || m->fields[0].number != 1 ||
					m->fields[0].label == SN_SCHEMA_REPEATED ||
					m->fields[0].type_name.len > 0))
		m->known = SN_SCHEMA_PLAIN;
	return 0;
}

static int read_message(struct reader *rd, struct sn_str in, struct sn_str scope,
		struct sn_schema_message **list);

static int read_message_part(
		struct reader *rd, const struct sn_protobuf_field *f, struct sn_schema_message *m)
{
	struct sn_schema_field *extension;
	struct sn_protobuf_field option;
	struct sn_str in = f->bytes;
	struct sn_str name, full;
	int r = 0;

	if (f->wire != SN_PROTOBUF_LEN)
		return 0;
	switch (f->number) {
	case 2:
		return read_field(rd, in, m->full_name, &m->fields[m->n_fields++]);
	case 3:
		return read_message(rd, in, m->full_name, &m->messages);
	case 4:
		return read_enum(rd, in, m->full_name, &m->enums);
	case 6:
		extension = take(rd, 1, sizeof *extension);
		return extension != NULL ? read_field(rd, in, m->full_name, extension)
					 : rd->err->code;
	case 7:
		while ((r = next(rd, &in, &option)) > 0) {
			if (is_number(&option, 7))
				m->map_entry = option.value != 0;
		}
		return r;
	case 8:
		r = find_string(rd, in, 1, &name);
		if (r == 0)
			r = read_name(rd, name, m->full_name, &m->oneofs[m->n_oneofs++], &full);
		return r;
	default:
		return 0;
	}
}

static int read_message(struct reader *rd, struct sn_str in, struct sn_str scope,
		struct sn_schema_message **list)
{
	struct sn_schema_message *m = take(rd, 1, sizeof *m);
	struct sn_protobuf_field f;
	uint32_t counts[16];
	struct sn_str name;
	int r;

	if (m == NULL)
		return rd->err->code;
	if (rd->depth == SN_SCHEMA_DEPTH_MAX)
		return sn__error_set(rd->err, SN_E_LIMIT, "file %s: types nested too deep",
				rd->file->name.ptr);
	r = count(rd, in, counts);
	if (r == 0)
		r = find_string(rd, in, 1, &name);
	if (r == 0)
		r = read_name(rd, name, scope, &m->name, &m->full_name);
	if (r == 0)
		r = add_symbol(rd, SYMBOL_MESSAGE, m->full_name, m);
	if (r < 0)
		return r;
	m->known = known_of(m->full_name);
	m->fields = take(rd, counts[2], sizeof *m->fields);
	m->by_number = m->fields != NULL ? take(rd, counts[2], sizeof *m->by_number) : NULL;
	m->oneofs = m->by_number != NULL ? take(rd, counts[8], sizeof *m->oneofs) : NULL;
	if (m->oneofs == NULL)
		return rd->err->code;
	rd->depth++;
	while ((r = next(rd, &in, &f)) > 0) {
		r = read_message_part(rd, &f, m);
		if (r < 0)
			return r;
	}
	rd->depth--;
	if (r == 0)
		r = complete_message(rd, m);
	m->next = *list;
	*list = m;
	return r;
}

/* ---- services ---- */

static int read_method(struct reader *rd, struct sn_str in, struct sn_str scope,
		struct sn_schema_method *method)
{
	struct sn_protobuf_field f;
	struct sn_str name, full;
	int r = find_string(rd, in, 1, &name);

	if (r == 0)
		r = read_name(rd, name, scope, &method->name, &full);
	if (r == 0)
		r = add_symbol(rd, SYMBOL_OTHER, full, method);
	if (r < 0)
		return r;
	while ((r = next(rd, &in, &f)) > 0) {
		if (is_bytes(&f, 2))
			r = read_type_name(rd, f.bytes, scope, &method->input);
		else if (is_bytes(&f, 3))
			r = read_type_name(rd, f.bytes, scope, &method->output);
		else if (is_number(&f, 5))
			method->client_streams = f.value != 0;
		else if (is_number(&f, 6))
			method->server_streams = f.value != 0;
		if (r < 0)
			return r;
	}
	if (r == 0 && (method->input.len == 0 || method->output.len == 0))
		return malformed(rd, "a method without input or output");
	return r;
}

static int read_service(struct reader *rd, struct sn_str in, struct sn_str scope)
{
	struct sn_schema_service *s = take(rd, 1, sizeof *s);
	struct sn_protobuf_field f;
	uint32_t counts[16];
	struct sn_str name;
	int r;

	if (s == NULL)
		return rd->err->code;
	r = count(rd, in, counts);
	if (r == 0)
		r = find_string(rd, in, 1, &name);
	if (r == 0)
		r = read_name(rd, name, scope, &s->name, &s->full_name);
	if (r == 0)
		r = add_symbol(rd, SYMBOL_SERVICE, s->full_name, s);
	if (r < 0)
		return r;
	s->methods = take(rd, counts[2], sizeof *s->methods);
	if (s->methods == NULL)
		return rd->err->code;
	while ((r = next(rd, &in, &f)) > 0) {
		if (is_bytes(&f, 2))
			r = read_method(rd, f.bytes, s->full_name, &s->methods[s->n_methods++]);
		if (r < 0)
			return r;
	}
	return r;
}

/* ---- files ---- */

/* Name, package and syntax come first: everything else needs them. */
static int read_head(struct reader *rd, struct sn_str in)
{
	struct file *file = rd->file;
	struct sn_str name, package, syntax;
	int r = find_string(rd, in, 1, &name);

	if (r == 0)
		r = find_string(rd, in, 2, &package);
	if (r == 0)
		r = find_string(rd, in, 12, &syntax);
	if (r < 0)
		return r;
	if (name.len == 0 || name.len > SN_SCHEMA_NAME_MAX || !is_text(name))
		return malformed(rd, "not a FileDescriptorProto");
	r = copy(rd, name, &file->name);
	if (r < 0)
		return r;
	if (package.len > SN_SCHEMA_NAME_MAX || (package.len > 0 && !is_identifier(package, true)))
		return malformed(rd, "a package without a proper name");
	r = copy(rd, package, &file->package);
	file->proto3 = sn_str_eq(syntax, SN_STR("proto3"));
	if (r == 0 && !file->proto3 && syntax.len > 0 && !sn_str_eq(syntax, SN_STR("proto2")))
		return malformed(rd, "neither proto2 nor proto3");
	return r;
}

static int read_file(struct reader *rd, struct sn_str in)
{
	struct sn_schema_message *messages = NULL;
	struct sn_schema_enum *enums = NULL;
	struct sn_schema_field *extension;
	struct sn_str package = rd->file->package;
	struct sn_protobuf_field f;
	int r;

	while ((r = next(rd, &in, &f)) > 0) {
		if (is_bytes(&f, 4)) {
			r = read_message(rd, f.bytes, package, &messages);
		} else if (is_bytes(&f, 5)) {
			r = read_enum(rd, f.bytes, package, &enums);
		} else if (is_bytes(&f, 6)) {
			r = read_service(rd, f.bytes, package);
		} else if (is_bytes(&f, 7)) {
			extension = take(rd, 1, sizeof *extension);
			r = extension != NULL ? read_field(rd, f.bytes, package, extension)
					      : rd->err->code;
		}
		if (r < 0)
			return r;
	}
	return r;
}

static void file_destroy(struct file *file)
{
	sn__arena_finish(&file->arena);
	sn__free(file);
}

/* All symbols, or none. */
static int publish_symbols(struct sn_schema *schema, struct reader *rd)
{
	struct symbol *s;
	int r = sn__map_reserve(
			&schema->symbols, sn_map_count(&schema->symbols) + rd->file->n_symbols);

	for (s = rd->file->symbols; r == 0 && s != NULL; s = s->next) {
		const struct symbol *old = sn__map_get(&schema->symbols, s->name);

		if (old != NULL)
			r = sn__error_set(rd->err, SN_E_PARSE, "%s is defined in %s and in %s",
					s->name.ptr, old->file->name.ptr, rd->file->name.ptr);
		else
			r = sn__map_add(&schema->symbols, s->name, s);
		if (r < 0)
			break;
	}
	if (r == 0)
		return 0;
	if (r != SN_E_PARSE)
		r = sn__error_set(
				rd->err, r, "file %s: the schema is too large", rd->file->name.ptr);
	if (s == NULL) /* nothing was added */
		return r;
	for (struct symbol *t = rd->file->symbols; t != s; t = t->next)
		(void)sn__map_remove(&schema->symbols, t->name);
	return r;
}

static void unpublish(struct sn_schema *schema, struct file *file)
{
	for (struct symbol *s = file->symbols; s != NULL; s = s->next)
		(void)sn__map_remove(&schema->symbols, s->name);
	(void)sn__map_remove(&schema->by_name, file->name);
	schema->used -= file->arena.used;
}

/* Whether the name of @rel with the first @n bytes of its scope before it is a type. */
static bool resolve_at(const struct sn_schema *schema, const struct relative *rel, size_t n)
{
	char name[2 * SN_SCHEMA_NAME_MAX + 2];
	const struct symbol *s;

	if (n > 0) {
		memcpy(name, rel->text, n);
		name[n++] = '.';
	}
	memcpy(name + n, rel->name->ptr, rel->name->len);
	s = sn__map_get(&schema->symbols, (struct sn_str){name, n + rel->name->len});
	return s != NULL && (s->kind == SYMBOL_MESSAGE || s->kind == SYMBOL_ENUM);
}

/* From the inside out. What is found replaces the relative name, where there is room for it. */
static bool resolve_one(const struct sn_schema *schema, struct relative *rel)
{
	size_t n = rel->scope_len, len = rel->name->len;

	while (n > 0 && !resolve_at(schema, rel, n)) {
		do
			n--;
		while (n > 0 && rel->text[n] != '.');
	}
	if (n == 0)
		return resolve_at(schema, rel, 0);
	memmove(rel->text + n + 1, rel->name->ptr, len + 1);
	*rel->name = (struct sn_str){rel->text, n + 1 + len};
	return true;
}

/* Relative names of all files that were not found before: their types may have come now. */
static void resolve(struct sn_schema *schema)
{
	for (struct file *file = schema->files; file != NULL; file = file->next) {
		struct relative **at = &file->relatives;

		while (*at != NULL) {
			if (resolve_one(schema, *at))
				*at = (*at)->next;
			else
				at = &(*at)->next;
		}
	}
}

/* Read into its arena, then into the maps. On failure the caller destroys it. */
static int file_add(struct sn_schema *schema, struct reader *rd, struct sn_str bytes)
{
	struct file *file = rd->file;
	int r = copy(rd, bytes, &file->bytes);

	if (r == 0)
		r = read_file(rd, file->bytes);
	if (r == 0)
		r = publish_symbols(schema, rd);
	if (r < 0)
		return r;
	r = sn__map_add(&schema->by_name, file->name, file);
	if (r < 0) {
		r = sn__error_set(rd->err, r, "out of memory");
		schema->used += file->arena.used; /* as unpublish() expects */
		unpublish(schema, file);
		return r;
	}
	schema->used += file->arena.used;
	file->next = schema->files;
	schema->files = file;
	return 0;
}

static int add_one(struct sn_schema *schema, struct sn_str bytes, struct sn_error *err)
{
	struct sn_error own = {0};
	struct reader rd = {.err = &own};
	struct file *file = sn__calloc(1, sizeof *file);
	int r;

	if (file == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	rd.file = file;
	sn__arena_init(&file->arena, ARENA_BLOCK, SN_SCHEMA_SIZE_MAX - schema->used);
	r = read_head(&rd, bytes);
	if (r == 0 && sn__map_get(&schema->by_name, file->name) != NULL) {
		file_destroy(file);
		return 0;
	}
	if (r == 0)
		r = file_add(schema, &rd, bytes);
	if (r < 0) {
		file_destroy(file);
		return sn__error_set(err, r, "%s", own.text);
	}
	return 0;
}

int sn__schema_add_file(struct sn_schema *schema, struct sn_str bytes, struct sn_error *err)
{
	int r = add_one(schema, bytes, err);

	if (r == 0)
		resolve(schema);
	return r;
}

int sn__schema_add_set(struct sn_schema *schema, struct sn_str set, struct sn_error *err)
{
	struct file *before = schema->files;
	struct sn_protobuf_field f;
	int r;

	while ((r = sn__protobuf_next(&set, &f)) > 0) {
		if (!is_bytes(&f, 1))
			continue;
		r = add_one(schema, f.bytes, err);
		if (r < 0)
			goto undo;
	}
	if (r == 0) {
		resolve(schema);
		return 0;
	}
	r = sn__error_set(err, r, "not a FileDescriptorSet");
undo:
	while (schema->files != before) {
		struct file *file = schema->files;

		schema->files = file->next;
		unpublish(schema, file);
		file_destroy(file);
	}
	return r;
}

int sn__schema_create(struct sn_schema **ret_schema)
{
	struct sn_schema *schema = sn__calloc(1, sizeof *schema);

	if (schema == NULL)
		return SN_E_NOMEM;
	sn__map_init(&schema->by_name);
	sn__map_init(&schema->symbols);
	*ret_schema = schema;
	return 0;
}

void sn__schema_destroy(struct sn_schema *schema)
{
	if (schema == NULL)
		return;
	while (schema->files != NULL) {
		struct file *file = schema->files;

		schema->files = file->next;
		file_destroy(file);
	}
	sn__map_finish(&schema->by_name);
	sn__map_finish(&schema->symbols);
	sn__free(schema);
}

/* ---- looking up ---- */

struct sn_str sn__schema_file(const struct sn_schema *schema, struct sn_str name)
{
	const struct file *file = sn__map_get(&schema->by_name, name);

	return file != NULL ? file->bytes : (struct sn_str){NULL, 0};
}

struct sn_str sn__schema_file_of(const struct sn_schema *schema, struct sn_str symbol)
{
	const struct symbol *s = sn__map_get(&schema->symbols, symbol);

	return s != NULL ? s->file->bytes : (struct sn_str){NULL, 0};
}

struct sn_str sn__schema_import(const struct sn_schema *schema, struct sn_str name, unsigned index)
{
	struct sn_str in = sn__schema_file(schema, name);
	struct sn_protobuf_field f;

	while (sn__protobuf_next(&in, &f) > 0) {
		if (is_bytes(&f, 3) && index-- == 0)
			return f.bytes;
	}
	return (struct sn_str){NULL, 0};
}

static const void *lookup(
		const struct sn_schema *schema, struct sn_str full_name, enum symbol_kind kind)
{
	const struct symbol *s = sn__map_get(&schema->symbols, full_name);

	return s != NULL && s->kind == kind ? s->what : NULL;
}

const struct sn_schema_message *sn__schema_message(
		const struct sn_schema *schema, struct sn_str full_name)
{
	return lookup(schema, full_name, SYMBOL_MESSAGE);
}

const struct sn_schema_enum *sn__schema_enum(
		const struct sn_schema *schema, struct sn_str full_name)
{
	return lookup(schema, full_name, SYMBOL_ENUM);
}

const struct sn_schema_service *sn__schema_service(
		const struct sn_schema *schema, struct sn_str full_name)
{
	return lookup(schema, full_name, SYMBOL_SERVICE);
}

const struct sn_schema_field *sn__schema_field(
		const struct sn_schema_message *message, uint32_t number)
{
	uint32_t low = 0, high = message->n_fields;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (message->by_number[mid]->number == number)
			return message->by_number[mid];
		if (message->by_number[mid]->number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const struct sn_schema_value *sn__schema_value(const struct sn_schema_enum *e, int32_t number)
{
	uint32_t low = 0, high = e->n_values;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (e->by_number[mid]->number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low < e->n_values && e->by_number[low]->number == number ? e->by_number[low] : NULL;
}

int sn__schema_method_at(const struct sn_schema_service *service, unsigned index,
		struct sn_schema_method *ret_method)
{
	if (index >= service->n_methods)
		return SN_E_NOT_FOUND;
	*ret_method = service->methods[index];
	return 0;
}
