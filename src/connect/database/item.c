/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/database/item.h"

#include "base/mem.h"

/* Members of one object, written one after the other. */
static int put_member(struct sn_buf *out, bool first, const char *prefix, struct sn_str raw_key)
{
	int r = sn__buf_puts(out, first ? "\"" : ",\"");

	if (r == 0)
		r = sn__buf_puts(out, prefix);
	if (r == 0)
		r = sn__buf_append_str(out, raw_key);
	return r < 0 ? r : sn__buf_append(out, "\":", 2);
}

static int put_wrapped(
		struct sn_buf *out, const char *before, struct sn_str text, const char *after)
{
	int r = sn__buf_puts(out, before);

	if (r == 0)
		r = sn__buf_append_str(out, text);
	return r < 0 ? r : sn__buf_puts(out, after);
}

static bool is_number(struct sn_str text)
{
	struct sn_json_pull in;
	struct sn_str number;

	sn__json_begin(&in, text);
	return sn__json_peek(&in) == SN_JSON_NUMBER && sn__json_number(&in, &number) == 0 &&
			number.len == text.len;
}

/* Not what was wanted: @otherwise when it is another value. */
static int wrong(struct sn_json_pull *in, int otherwise)
{
	if (sn__json_peek(in) == SN_JSON_ERROR)
		return sn__json_skip(in, NULL);
	return otherwise;
}

/* The name of a member in our notation: one '$' or more and a type; escapes do not matter. */
struct notation {
	const char *type; /* "SS" */
	size_t mark;      /* bytes of the first '$' as it is written */
	bool more;        /* '$'s follow: the member of a map, escaped */
};

static size_t dollar(struct sn_str text)
{
	if (text.len >= 1 && text.ptr[0] == '$')
		return 1;
	return text.len >= 6 && memcmp(text.ptr, "\\u0024", 6) == 0 ? 6 : 0;
}

static bool is_notation(struct sn_json_string key, struct notation *ret)
{
	static const char *const types[] = {"B", "N", "SS", "NS", "BS"};
	size_t first = dollar(key.raw), n = 0;
	unsigned dollars = 0;

	for (size_t one = first; one > 0; dollars++) {
		n += one;
		one = dollar((struct sn_str){key.raw.ptr + n, key.raw.len - n});
	}
	if (dollars == 0)
		return false;
	key.raw = (struct sn_str){key.raw.ptr + n, key.raw.len - n};
	for (size_t i = 0; i < SN_COUNT(types); i++) {
		if (!sn__json_string_is(key, sn_str_from(types[i])))
			continue;
		*ret = (struct notation){types[i], first, dollars > 1};
		return true;
	}
	return false;
}

/* Whether the object that begins at @look has one member alone, with a name of our notation. */
static bool is_noted(struct sn_json_pull look, struct notation *ret)
{
	struct sn_json_string key;

	/* Looked further only where it matters: else every level would be read twice. */
	return sn__json_enter_object(&look) == 0 && sn__json_member(&look, &key) > 0 &&
			is_notation(key, ret) && sn__json_skip(&look, NULL) == 0 &&
			sn__json_member(&look, &key) == 0;
}

typedef int element_fn(struct sn_json_pull *in, struct sn_buf *out);

/* An array, each element as @fn makes it. @code: it is none. */
static int elements(struct sn_json_pull *in, int code, element_fn *fn, struct sn_buf *out)
{
	bool first = true;
	int r;

	if (sn__json_peek(in) != SN_JSON_ARRAY)
		return wrong(in, code);
	r = sn__json_enter_array(in);
	if (r == 0)
		r = sn__buf_append(out, "[", 1);
	while (r == 0) {
		r = sn__json_item(in);
		if (r <= 0)
			break;
		r = sn__buf_puts(out, first ? "" : ",");
		first = false;
		if (r == 0)
			r = fn(in, out);
	}
	return r < 0 ? r : sn__buf_append(out, "]", 1);
}

/* ---- plain to typed ---- */

static int marshal_value(struct sn_json_pull *in, struct sn_buf *out);

/* @strip: bytes of the names that are left out. */
static int marshal_members(struct sn_json_pull *in, struct sn_buf *out, size_t strip)
{
	struct sn_json_string key;
	bool first = true;
	int r = sn__json_enter_object(in);

	if (r == 0)
		r = sn__buf_append(out, "{", 1);
	while (r == 0) {
		r = sn__json_member(in, &key);
		if (r <= 0)
			break;
		key.raw = (struct sn_str){key.raw.ptr + strip, key.raw.len - strip};
		r = put_member(out, first, "", key.raw);
		first = false;
		if (r == 0)
			r = marshal_value(in, out);
	}
	return r < 0 ? r : sn__buf_append(out, "}", 1);
}

/* One text or number of a set, as the text that DynamoDB wants. */
static int marshal_text(struct sn_json_pull *in, struct sn_buf *out)
{
	struct sn_json_string text;
	int r;

	if (sn__json_peek(in) != SN_JSON_STRING)
		return wrong(in, SN_E_INVALID);
	r = sn__json_string(in, &text);
	return r < 0 ? r : put_wrapped(out, "\"", text.raw, "\"");
}

static int marshal_number(struct sn_json_pull *in, struct sn_buf *out)
{
	struct sn_str number;
	int r;

	if (sn__json_peek(in) != SN_JSON_NUMBER)
		return marshal_text(in, out);
	r = sn__json_number(in, &number);
	return r < 0 ? r : put_wrapped(out, "\"", number, "\"");
}

/* {"$SS": [...]} -> {"SS": [...]} */
static int marshal_typed(struct sn_json_pull *in, const char *type, struct sn_buf *out)
{
	element_fn *element = type[0] == 'N' ? marshal_number : marshal_text;
	struct sn_json_string key;
	int r = sn__json_enter_object(in);

	if (r == 0)
		r = sn__json_member(in, &key);
	if (r > 0)
		r = put_wrapped(out, "{\"", sn_str_from(type), "\":");
	if (r == 0)
		r = type[1] == 'S' ? elements(in, SN_E_INVALID, element, out) : element(in, out);
	if (r == 0)
		r = sn__json_member(in, &key); /* the end: there is one member */
	return r < 0 ? r : sn__buf_append(out, "}", 1);
}

static int marshal_object(struct sn_json_pull *in, struct sn_buf *out)
{
	struct notation n = {NULL, 0, false};
	int r;

	if (is_noted(*in, &n) && !n.more)
		return marshal_typed(in, n.type, out);
	r = sn__buf_puts(out, "{\"M\":");
	if (r == 0)
		r = marshal_members(in, out, n.more ? n.mark : 0);
	return r < 0 ? r : sn__buf_append(out, "}", 1);
}

static int marshal_array(struct sn_json_pull *in, struct sn_buf *out)
{
	int r = sn__buf_puts(out, "{\"L\":");

	if (r == 0)
		r = elements(in, SN_E_INVALID, marshal_value, out);
	return r < 0 ? r : sn__buf_append(out, "}", 1);
}

/* The depth is the reader's to bound. */
static int marshal_value(struct sn_json_pull *in, struct sn_buf *out)
{
	struct sn_json_string text;
	struct sn_str number;
	bool b;
	int r;

	switch (sn__json_peek(in)) {
	case SN_JSON_OBJECT:
		return marshal_object(in, out);
	case SN_JSON_ARRAY:
		return marshal_array(in, out);
	case SN_JSON_STRING:
		r = sn__json_string(in, &text);
		return r < 0 ? r : put_wrapped(out, "{\"S\":\"", text.raw, "\"}");
	case SN_JSON_NUMBER:
		r = sn__json_number(in, &number);
		return r < 0 ? r : put_wrapped(out, "{\"N\":\"", number, "\"}");
	case SN_JSON_TRUE:
	case SN_JSON_FALSE:
		r = sn__json_bool(in, &b);
		return r < 0 ? r : sn__buf_puts(out, b ? "{\"BOOL\":true}" : "{\"BOOL\":false}");
	case SN_JSON_NULL:
		r = sn__json_null(in);
		return r < 0 ? r : sn__buf_puts(out, "{\"NULL\":true}");
	default:
		return sn__json_skip(in, NULL);
	}
}

int sn__item_marshal(struct sn_str json, struct sn_buf *out, size_t *ret_offset)
{
	size_t before = out->len;
	struct sn_json_pull in;
	int r;

	sn__json_begin(&in, json.len > 0 ? json : SN_STR(" "));
	in.wide = true;
	if (sn__json_peek(&in) == SN_JSON_OBJECT)
		r = marshal_members(&in, out, 0);
	else
		r = wrong(&in, SN_E_INVALID);
	if (r == 0)
		r = sn__json_finish(&in);
	if (r < 0) {
		sn__buf_truncate(out, before);
		if (ret_offset != NULL)
			*ret_offset = sn_json_offset(&in);
	}
	return r;
}

/* ---- typed to plain ---- */

static int unmarshal_value(struct sn_json_pull *in, struct sn_buf *out);

/* A map: with one member that looks like our notation that member gets a '$' more. */
static int unmarshal_members(struct sn_json_pull *in, struct sn_buf *out, bool top)
{
	struct sn_json_string key;
	struct notation n;
	bool first = true, escape;
	int r;

	if (sn__json_peek(in) != SN_JSON_OBJECT)
		return wrong(in, SN_E_PROTOCOL);
	escape = !top && is_noted(*in, &n);
	r = sn__json_enter_object(in);
	if (r == 0)
		r = sn__buf_append(out, "{", 1);
	while (r == 0) {
		r = sn__json_member(in, &key);
		if (r <= 0)
			break;
		r = put_member(out, first, escape ? "$" : "", key.raw);
		first = false;
		if (r == 0)
			r = unmarshal_value(in, out);
	}
	return r < 0 ? r : sn__buf_append(out, "}", 1);
}

/* The text of a number: as a number where JSON has it. */
static int put_number(struct sn_json_string text, bool in_set, struct sn_buf *out)
{
	if (!text.escaped && is_number(text.raw))
		return sn__buf_append_str(out, text.raw);
	return in_set ? put_wrapped(out, "\"", text.raw, "\"")
		      : put_wrapped(out, "{\"$N\":\"", text.raw, "\"}");
}

static int unmarshal_text(struct sn_json_pull *in, char kind, struct sn_buf *out)
{
	struct sn_json_string text;
	int r;

	if (sn__json_peek(in) != SN_JSON_STRING)
		return wrong(in, SN_E_PROTOCOL);
	r = sn__json_string(in, &text);
	if (r < 0)
		return r;
	if (kind == 'N')
		return put_number(text, false, out);
	return put_wrapped(out, kind == 'B' ? "{\"$B\":\"" : "\"", text.raw,
			kind == 'B' ? "\"}" : "\"");
}

/* One of a set. */
static int unmarshal_string(struct sn_json_pull *in, struct sn_buf *out)
{
	return unmarshal_text(in, 'S', out);
}

static int unmarshal_number(struct sn_json_pull *in, struct sn_buf *out)
{
	struct sn_json_string text;
	int r;

	if (sn__json_peek(in) != SN_JSON_STRING)
		return wrong(in, SN_E_PROTOCOL);
	r = sn__json_string(in, &text);
	return r < 0 ? r : put_number(text, true, out);
}

/* "SS", "NS", "BS" */
static int unmarshal_set(struct sn_json_pull *in, struct sn_str type, struct sn_buf *out)
{
	int r = put_wrapped(out, "{\"$", type, "\":");

	if (r == 0)
		r = elements(in, SN_E_PROTOCOL,
				type.ptr[0] == 'N' ? unmarshal_number : unmarshal_string, out);
	return r < 0 ? r : sn__buf_append(out, "}", 1);
}

static int unmarshal_flag(struct sn_json_pull *in, bool null, struct sn_buf *out)
{
	enum sn_json_type type = sn__json_peek(in);
	bool b;
	int r;

	if (type != SN_JSON_TRUE && (type != SN_JSON_FALSE || null))
		return wrong(in, SN_E_PROTOCOL);
	r = sn__json_bool(in, &b);
	return r < 0 ? r : sn__buf_puts(out, null ? "null" : b ? "true" : "false");
}

static int unmarshal_type(struct sn_json_pull *in, struct sn_str type, struct sn_buf *out)
{
	if (type.len == 1 && (type.ptr[0] == 'S' || type.ptr[0] == 'N' || type.ptr[0] == 'B'))
		return unmarshal_text(in, type.ptr[0], out);
	if (sn_str_eq(type, SN_STR("M")))
		return unmarshal_members(in, out, false);
	if (sn_str_eq(type, SN_STR("L")))
		return elements(in, SN_E_PROTOCOL, unmarshal_value, out);
	if (sn_str_eq(type, SN_STR("BOOL")) || sn_str_eq(type, SN_STR("NULL")))
		return unmarshal_flag(in, type.ptr[0] == 'N', out);
	if (sn_str_eq(type, SN_STR("SS")) || sn_str_eq(type, SN_STR("NS")) ||
			sn_str_eq(type, SN_STR("BS")))
		return unmarshal_set(in, type, out);
	return SN_E_PROTOCOL;
}

static int unmarshal_value(struct sn_json_pull *in, struct sn_buf *out)
{
	char name[6 * 4]; /* the longest, escaped */
	struct sn_json_string type;
	int r;

	if (sn__json_peek(in) != SN_JSON_OBJECT)
		return wrong(in, SN_E_PROTOCOL);
	r = sn__json_enter_object(in);
	if (r == 0)
		r = sn__json_member(in, &type);
	if (r <= 0 || type.raw.len > sizeof name)
		return r < 0 ? r : SN_E_PROTOCOL;
	r = unmarshal_type(in, (struct sn_str){name, sn__json_unescape(type, name)}, out);
	if (r == 0)
		r = sn__json_member(in, &type);
	return r > 0 ? SN_E_PROTOCOL : r;
}

int sn__item_unmarshal(struct sn_json_pull *in, struct sn_buf *out)
{
	size_t before = out->len;
	int r = unmarshal_members(in, out, true);

	if (r < 0)
		sn__buf_truncate(out, before);
	return r;
}
