/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

/* ---- reading ---- */

/* jansson recurses up to 2048 deep, as would everything that walks the result. Brackets are counted
 * first; in text that is not JSON the count means nothing and does no harm. */
static bool too_deep(struct sn_str text, size_t *ret_pos)
{
	size_t depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '[' || c == '{') {
			if (++depth > SN_JSON_DEPTH_MAX) {
				*ret_pos = i;
				return true;
			}
		} else if ((c == ']' || c == '}') && depth > 0) {
			depth--;
		}
	}
	return false;
}

static void place_of(struct sn_str text, size_t pos, unsigned *ret_line, unsigned *ret_column)
{
	*ret_line = *ret_column = 1;
	for (size_t i = 0; i < pos; i++) {
		if (text.ptr[i] == '\n') {
			++*ret_line;
			*ret_column = 1;
		} else if (((unsigned char)text.ptr[i] & 0xc0) != 0x80) {
			++*ret_column;
		}
	}
}

static int parse_failed(struct sn_str text, const json_error_t *je, struct sn_error *err)
{
	struct sn_str why = sn_str_from(je->text);
	const char *near = strstr(je->text, " near ");
	unsigned line, column;

	/* In some places jansson does not say why, and then it was memory. */
	if (json_error_code(je) == json_error_out_of_memory || je->text[0] == '\0')
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	/* The text near the place may be a secret; the place says enough. */
	if (near != NULL)
		why.len = (size_t)(near - je->text);
	place_of(text, SN_MIN((size_t)SN_MAX(je->position, 0), text.len), &line, &column);
	return sn__error_set(err, SN_E_PARSE, "%u:%u: not JSON: %.*s", line, column, (int)why.len,
			why.ptr);
}

int sn__json_parse(struct sn_str text, size_t max_size, json_t **ret_json, struct sn_error *err)
{
	json_error_t je = {.line = -1};
	unsigned line, column;
	json_t *json;
	size_t pos;

	if (text.len > max_size)
		return sn__error_set(err, SN_E_LIMIT, "JSON text of %zu bytes, at most %zu allowed",
				text.len, max_size);
	if (too_deep(text, &pos)) {
		place_of(text, pos, &line, &column);
		return sn__error_set(err, SN_E_LIMIT, "%u:%u: nested more than %d deep", line,
				column, SN_JSON_DEPTH_MAX);
	}
	json = json_loadb(text.ptr != NULL ? text.ptr : "", text.len,
			JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
	if (json == NULL)
		return parse_failed(text, &je, err);
	*ret_json = json;
	return 0;
}

/* ---- comparing ---- */

static bool number_equal(const json_t *a, const json_t *b)
{
	double real;
	json_int_t whole;

	if (json_is_integer(a) && json_is_integer(b))
		return json_integer_value(a) == json_integer_value(b);
	if (json_is_real(a) && json_is_real(b))
		return json_real_value(a) == json_real_value(b);
	real = json_real_value(json_is_real(a) ? a : b);
	whole = json_integer_value(json_is_real(a) ? b : a);
	/* Exactly, not by rounding the integer: 2^53 + 1 differs from 2^53 as a double. */
	return real >= -0x1p63 && real < 0x1p63 && (double)(json_int_t)real == real &&
			(json_int_t)real == whole;
}

static bool object_equal(const json_t *a, const json_t *b)
{
	const char *key;
	json_t *value;

	if (json_object_size(a) != json_object_size(b))
		return false;
	json_object_foreach((json_t *)a, key, value)
	{
		json_t *other = json_object_get(b, key);

		if (other == NULL || !sn__json_equal(value, other))
			return false;
	}
	return true;
}

bool sn__json_equal(const json_t *a, const json_t *b)
{
	if (a == b)
		return true;
	if (json_is_number(a) && json_is_number(b))
		return number_equal(a, b);
	if (json_typeof(a) != json_typeof(b))
		return false;
	if (json_is_object(a))
		return object_equal(a, b);
	if (json_is_string(a))
		return json_string_length(a) == json_string_length(b) &&
				memcmp(json_string_value(a), json_string_value(b),
						json_string_length(a)) == 0;
	if (!json_is_array(a))
		return true; /* true, false, null: the type says it */
	if (json_array_size(a) != json_array_size(b))
		return false;
	for (size_t i = 0; i < json_array_size(a); i++) {
		if (!sn__json_equal(json_array_get(a, i), json_array_get(b, i)))
			return false;
	}
	return true;
}

/* ---- writing ---- */

static int quote_char(unsigned char c, struct sn_buf *out)
{
	static const char names[] = "btn\0fr";

	if (c == '"' || c == '\\')
		return sn__buf_printf(out, "\\%c", c);
	if (c >= '\b' && c <= '\r' && names[c - '\b'] != '\0')
		return sn__buf_printf(out, "\\%c", names[c - '\b']);
	return sn__buf_printf(out, "\\u%04x", c);
}

/* What most texts are: nothing to escape. */
static bool is_plain(struct sn_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
			return false;
	}
	return true;
}

static int quote_plain(struct sn_str s, struct sn_buf *out)
{
	char *room;
	int r = sn__buf_reserve(out, s.len + 2, &room);

	if (r < 0)
		return r;
	room[0] = '"';
	if (s.len > 0)
		memcpy(room + 1, s.ptr, s.len);
	room[s.len + 1] = '"';
	sn__buf_commit(out, s.len + 2);
	return 0;
}

int sn__json_quote(struct sn_str s, struct sn_buf *out)
{
	size_t before = out->len;
	size_t start = 0;
	int r;

	if (is_plain(s))
		return quote_plain(s, out);
	r = sn__buf_append(out, "\"", 1);
	for (size_t i = 0; r == 0 && i < s.len;) {
		unsigned char c = (unsigned char)s.ptr[i];
		size_t n;

		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
			i++;
			continue;
		}
		n = sn__utf8_length((struct sn_str){s.ptr + i, s.len - i});
		if (n > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
			i += n;
			continue;
		}
		r = sn__buf_append(out, s.ptr + start, i - start);
		if (r == 0)
			r = n > 0 ? quote_char(c, out) : sn__buf_puts(out, "\xef\xbf\xbd");
		start = ++i;
	}
	if (r == 0 && start < s.len)
		r = sn__buf_append(out, s.ptr + start, s.len - start);
	if (r == 0)
		r = sn__buf_append(out, "\"", 1);
	if (r < 0)
		sn__buf_truncate(out, before);
	return r;
}

/* jansson always prints 17 digits (0.10000000000000001). */
int sn__json_real(double v, bool single, struct sn_buf *out)
{
	char text[40];
	size_t n = 0;

	for (int digits = single ? 6 : 15; digits <= (single ? 9 : 17); digits++) {
		(void)snprintf(text, sizeof text, "%.*g", digits, v);
		if (single ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v)
			break;
	}
	/* The host's locale may have another decimal point, of several bytes even. */
	for (const char *c = text; *c != '\0'; c++) {
		bool usual = (*c >= '0' && *c <= '9') || *c == '-' || *c == '+' || *c == 'e';

		if (usual)
			text[n++] = *c;
		else if (n > 0 && text[n - 1] != '.')
			text[n++] = '.';
	}
	text[n] = '\0';
	if (memchr(text, '.', n) == NULL && memchr(text, 'e', n) == NULL)
		return sn__buf_printf(out, "%s.0", text);
	return sn__buf_append(out, text, n);
}

static int dump_value(const json_t *json, unsigned depth, struct sn_buf *out);

static int dump_object(const json_t *json, unsigned depth, struct sn_buf *out)
{
	const char *key;
	json_t *value;
	bool first = true;
	int r = 0;

	json_object_foreach((json_t *)json, key, value)
	{
		if (!first)
			r = sn__buf_append(out, ",", 1);
		first = false;
		if (r == 0)
			r = sn__json_quote(sn_str_from(key), out);
		if (r == 0)
			r = sn__buf_puts(out, ":");
		if (r == 0)
			r = dump_value(value, depth + 1, out);
		if (r < 0)
			return r;
	}
	return 0;
}

static int dump_array(const json_t *json, unsigned depth, struct sn_buf *out)
{
	size_t n = json_array_size(json);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (i > 0)
			r = sn__buf_append(out, ",", 1);
		if (r == 0)
			r = dump_value(json_array_get(json, i), depth + 1, out);
	}
	return r;
}

static int dump_container(const json_t *json, unsigned depth, struct sn_buf *out)
{
	bool object = json_is_object(json);
	int r;

	if (depth > 4 * SN_JSON_DEPTH_MAX) /* made by us around what was read, never from the wire */
		return SN_E_LIMIT;
	r = sn__buf_append(out, object ? "{" : "[", 1);
	if (r == 0)
		r = object ? dump_object(json, depth, out) : dump_array(json, depth, out);
	return r < 0 ? r : sn__buf_append(out, object ? "}" : "]", 1);
}

static int dump_value(const json_t *json, unsigned depth, struct sn_buf *out)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
	case JSON_ARRAY:
		return dump_container(json, depth, out);
	case JSON_STRING:
		return sn__json_quote(
				(struct sn_str){json_string_value(json), json_string_length(json)},
				out);
	case JSON_INTEGER:
		return sn__buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
	case JSON_REAL:
		return sn__json_real(json_real_value(json), false, out);
	case JSON_TRUE:
		return sn__buf_append(out, "true", 4);
	case JSON_FALSE:
		return sn__buf_append(out, "false", 5);
	default:
		return sn__buf_append(out, "null", 4);
	}
}

int sn__json_dump(const json_t *json, struct sn_buf *out)
{
	size_t before = out->len;
	int r = dump_value(json, 0, out);

	if (r < 0)
		sn__buf_truncate(out, before);
	return r;
}

char *sn__json_text(const json_t *json)
{
	struct sn_buf b;
	char *text = NULL;

	sn__buf_init(&b, SIZE_MAX / 4);
	if (sn__json_dump(json, &b) == 0)
		text = sn__strndup(sn__buf_data(&b), b.len);
	sn__buf_finish(&b);
	return text;
}

/* ---- helpers ---- */

json_t *sn__json_copy(const json_t *object)
{
	json_t *copy = json_object();

	if (copy != NULL && json_object_update(copy, (json_t *)object) < 0) {
		json_decref(copy);
		return NULL;
	}
	return copy;
}

json_t *sn__json_get(const json_t *json, const char *name)
{
	return json != NULL ? json_object_get(json, name) : NULL;
}

const char *sn__json_str(const json_t *json)
{
	return json != NULL ? json_string_value(json) : NULL;
}

const char *sn__json_kind(const json_t *json)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	default:
		return "null";
	}
}

static bool contains_nocase(struct sn_str s, struct sn_str word)
{
	for (size_t i = 0; i + word.len <= s.len; i++) {
		if (sn__str_ieq((struct sn_str){s.ptr + i, word.len}, word))
			return true;
	}
	return false;
}

bool sn__is_secret_name(struct sn_str name)
{
	return contains_nocase(name, SN_STR("secret")) || contains_nocase(name, SN_STR("key")) ||
			contains_nocase(name, SN_STR("token")) ||
			contains_nocase(name, SN_STR("password")) ||
			sn__str_ieq(name, SN_STR("credentials"));
}

static json_t *redacted(const json_t *json);

static json_t *redacted_object(const json_t *json)
{
	json_t *copy = json_object();
	const char *key;
	json_t *value;

	if (copy == NULL)
		return NULL;
	json_object_foreach((json_t *)json, key, value)
	{
		bool hide = !json_is_null(value) && sn__is_secret_name(sn_str_from(key));

		/* set_new takes the value, and fails on NULL too */
		if (json_object_set_new_nocheck(
				    copy, key, hide ? json_string("***") : redacted(value)) < 0) {
			json_decref(copy);
			return NULL;
		}
	}
	return copy;
}

static json_t *redacted(const json_t *json)
{
	json_t *copy;

	if (json_is_object(json))
		return redacted_object(json);
	if (!json_is_array(json))
		return json_incref((json_t *)json);
	copy = json_array();
	for (size_t i = 0; copy != NULL && i < json_array_size(json); i++) {
		if (json_array_append_new(copy, redacted(json_array_get(json, i))) < 0) {
			json_decref(copy);
			return NULL;
		}
	}
	return copy;
}

int sn__json_redact(const json_t *json, json_t **ret_copy)
{
	json_t *copy = redacted(json);

	if (copy == NULL)
		return SN_E_NOMEM;
	*ret_copy = copy;
	return 0;
}
