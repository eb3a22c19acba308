/* SPDX-License-Identifier: Apache-2.0 */
/* Types of a schema as text in the manner of .proto files, for people. */
#include "proto/schema.h"

#include "base/mem.h"

static const char *const type_names[] = {
		[SN_SCHEMA_DOUBLE] = "double",
		[SN_SCHEMA_FLOAT] = "float",
		[SN_SCHEMA_INT64] = "int64",
		[SN_SCHEMA_UINT64] = "uint64",
		[SN_SCHEMA_INT32] = "int32",
		[SN_SCHEMA_FIXED64] = "fixed64",
		[SN_SCHEMA_FIXED32] = "fixed32",
		[SN_SCHEMA_BOOL] = "bool",
		[SN_SCHEMA_STRING] = "string",
		[SN_SCHEMA_BYTES] = "bytes",
		[SN_SCHEMA_UINT32] = "uint32",
		[SN_SCHEMA_SFIXED32] = "sfixed32",
		[SN_SCHEMA_SFIXED64] = "sfixed64",
		[SN_SCHEMA_SINT32] = "sint32",
		[SN_SCHEMA_SINT64] = "sint64",
};

static const char *type_text(const struct sn_schema_field *f)
{
	return f->type_name.len > 0 ? f->type_name.ptr : type_names[f->type];
}

static int indent(struct sn_buf *out, unsigned depth)
{
	return sn__buf_printf(out, "%*s", (int)(2 * depth), "");
}

static int enum_text(struct sn_buf *out, unsigned depth, const struct sn_schema_enum *e,
		struct sn_str name)
{
	int r = indent(out, depth);

	if (r == 0)
		r = sn__buf_printf(out, "enum %s {\n", name.ptr);
	for (uint32_t i = 0; i < e->n_values && r == 0; i++) {
		r = indent(out, depth + 1);
		if (r == 0)
			r = sn__buf_printf(out, "%s = %d;\n", e->values[i].name.ptr,
					e->values[i].number);
	}
	if (r == 0)
		r = indent(out, depth);
	return r < 0 ? r : sn__buf_puts(out, "}\n");
}

static int default_text(struct sn_buf *out, const struct sn_schema_field *f)
{
	int r = sn__buf_puts(out, " [default = ");

	if (r == 0 && (f->type == SN_SCHEMA_STRING || f->type == SN_SCHEMA_BYTES))
		r = sn__json_quote(f->default_value, out);
	else if (r == 0)
		r = sn__buf_append_str(out, f->default_value);
	return r < 0 ? r : sn__buf_puts(out, "]");
}

static int field_text(const struct sn_schema *schema, struct sn_buf *out, unsigned depth,
		const struct sn_schema_field *f)
{
	const struct sn_schema_message *type = f->type == SN_SCHEMA_MESSAGE
			? sn__schema_message(schema, f->type_name)
			: NULL;
	const char *label = "";
	int r = indent(out, depth);

	if (f->label == SN_SCHEMA_REPEATED)
		label = "repeated ";
	else if (f->label == SN_SCHEMA_REQUIRED)
		label = "required ";
	else if (f->optional3)
		label = "optional ";
	if (r < 0)
		return r;
	if (f->label == SN_SCHEMA_REPEATED && type != NULL && type->map_entry)
		r = sn__buf_printf(out, "map<%s, %s> %s = %u", type_text(&type->fields[0]),
				type_text(&type->fields[1]), f->name.ptr, f->number);
	else
		r = sn__buf_printf(out, "%s%s%s %s = %u", label,
				f->type == SN_SCHEMA_GROUP ? "group " : "", type_text(f),
				f->name.ptr, f->number);
	if (r == 0 && f->default_value.len > 0)
		r = default_text(out, f);
	return r < 0 ? r : sn__buf_puts(out, ";\n");
}

/* Members of a oneof come one behind the other. */
static int fields_text(const struct sn_schema *schema, struct sn_buf *out, unsigned depth,
		const struct sn_schema_message *m)
{
	int32_t open = -1;
	int r = 0;

	for (uint32_t i = 0; i <= m->n_fields && r == 0; i++) {
		const struct sn_schema_field *f = i < m->n_fields ? &m->fields[i] : NULL;
		int32_t oneof = f != NULL && !f->optional3 ? f->oneof : -1;

		if (oneof != open && open >= 0) {
			r = indent(out, depth);
			if (r == 0)
				r = sn__buf_puts(out, "}\n");
		}
		if (r == 0 && oneof != open && oneof >= 0) {
			r = indent(out, depth);
			if (r == 0)
				r = sn__buf_printf(out, "oneof %s {\n", m->oneofs[oneof].ptr);
		}
		open = oneof;
		if (r == 0 && f != NULL)
			r = field_text(schema, out, oneof >= 0 ? depth + 1 : depth, f);
	}
	return r;
}

static int message_text(const struct sn_schema *schema, struct sn_buf *out, unsigned depth,
		const struct sn_schema_message *m, struct sn_str name)
{
	int r = indent(out, depth);

	if (r == 0)
		r = sn__buf_printf(out, "message %s {\n", name.ptr);
	if (r == 0)
		r = fields_text(schema, out, depth + 1, m);
	for (const struct sn_schema_enum *e = m->enums; r == 0 && e != NULL; e = e->next)
		r = enum_text(out, depth + 1, e, e->name);
	/* Recursion ends: the reader has counted levels. */
	for (const struct sn_schema_message *n = m->messages; r == 0 && n != NULL; n = n->next) {
		if (!n->map_entry)
			r = message_text(schema, out, depth + 1, n, n->name);
	}
	if (r == 0)
		r = indent(out, depth);
	return r < 0 ? r : sn__buf_puts(out, "}\n");
}

static int service_text(struct sn_buf *out, const struct sn_schema_service *s)
{
	int r = sn__buf_printf(out, "service %s {\n", s->full_name.ptr);

	for (uint32_t i = 0; i < s->n_methods && r == 0; i++) {
		const struct sn_schema_method *m = &s->methods[i];

		r = sn__buf_printf(out, "  rpc %s(%s%s) returns (%s%s);\n", m->name.ptr,
				m->client_streams ? "stream " : "", m->input.ptr,
				m->server_streams ? "stream " : "", m->output.ptr);
	}
	return r < 0 ? r : sn__buf_puts(out, "}\n");
}

int sn__schema_describe(const struct sn_schema *schema, struct sn_str full_name, struct sn_buf *out)
{
	const struct sn_schema_message *m = sn__schema_message(schema, full_name);
	const struct sn_schema_enum *e = sn__schema_enum(schema, full_name);
	const struct sn_schema_service *s = sn__schema_service(schema, full_name);
	size_t before = out->len;
	int r = SN_E_NOT_FOUND;

	if (m != NULL)
		r = message_text(schema, out, 0, m, m->full_name);
	else if (e != NULL)
		r = enum_text(out, 0, e, e->full_name);
	else if (s != NULL)
		r = service_text(out, s);
	if (r < 0)
		sn__buf_truncate(out, before);
	return r;
}
