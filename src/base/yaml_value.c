/* SPDX-License-Identifier: Apache-2.0 */
/* What the nodes of a tree mean: the core schema, and the tree as JSON. */
#include "base/yaml.h"

#include <locale.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"

/* Type of a scalar by the core schema; quoted and !!str ones are strings. */
enum type {
	TYPE_STRING,
	TYPE_NULL,
	TYPE_BOOL,
	TYPE_INT,
	TYPE_FLOAT,
};

struct sn_yaml_node *sn__yaml_get(const struct sn_yaml_node *map, const char *key)
{
	struct sn_str k = sn_str_from(key);

	if (map->kind != SN_YAML_MAP)
		return NULL;
	SN_YAML_FOREACH(item, map)
	{
		if (sn_str_eq(item->key, k))
			return item->value;
	}
	return NULL;
}

static bool one_of(struct sn_str s, const char *const *words)
{
	for (; *words != NULL; words++) {
		if (sn_str_eq(s, sn_str_from(*words)))
			return true;
	}
	return false;
}

static bool is_true(struct sn_str s)
{
	static const char *const words[] = {"true", "True", "TRUE", NULL};

	return one_of(s, words);
}

static bool is_false(struct sn_str s)
{
	static const char *const words[] = {"false", "False", "FALSE", NULL};

	return one_of(s, words);
}

static bool is_null(struct sn_str s)
{
	static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};

	return one_of(s, words);
}

static size_t digits(struct sn_str s, size_t from)
{
	size_t i = from;

	while (i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9')
		i++;
	return i - from;
}

static struct sn_str unsigned_part(struct sn_str s)
{
	if (s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+'))
		return (struct sn_str){s.ptr + 1, s.len - 1};
	return s;
}

static bool has_prefix(struct sn_str s, const char *prefix)
{
	return s.len > 2 && memcmp(s.ptr, prefix, 2) == 0;
}

static bool is_int(struct sn_str s)
{
	struct sn_str u = unsigned_part(s);

	if (has_prefix(s, "0x")) {
		for (size_t i = 2; i < s.len; i++) {
			unsigned char c = sn_ascii_lower((unsigned char)s.ptr[i]);

			if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
				return false;
		}
		return true;
	}
	if (has_prefix(s, "0o")) {
		for (size_t i = 2; i < s.len; i++) {
			if (s.ptr[i] < '0' || s.ptr[i] > '7')
				return false;
		}
		return true;
	}
	return u.len > 0 && digits(u, 0) == u.len;
}

static bool is_inf_or_nan(struct sn_str s)
{
	static const char *const infs[] = {".inf", ".Inf", ".INF", NULL};
	static const char *const nans[] = {".nan", ".NaN", ".NAN", NULL};

	return one_of(unsigned_part(s), infs) || one_of(s, nans);
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(struct sn_str s)
{
	struct sn_str u = unsigned_part(s);
	size_t whole = digits(u, 0), i = whole, fraction = 0, n;

	if (i < u.len && u.ptr[i] == '.') {
		fraction = digits(u, i + 1);
		i += 1 + fraction;
	}
	if (whole + fraction == 0)
		return false;
	if (i < u.len && (u.ptr[i] == 'e' || u.ptr[i] == 'E')) {
		i++;
		if (i < u.len && (u.ptr[i] == '-' || u.ptr[i] == '+'))
			i++;
		n = digits(u, i);
		if (n == 0)
			return false;
		i += n;
	}
	return i == u.len;
}

static enum type type_of(const struct sn_yaml_node *scalar)
{
	struct sn_str s = scalar->text;

	if (!scalar->plain)
		return TYPE_STRING;
	if (is_null(s))
		return TYPE_NULL;
	if (is_true(s) || is_false(s))
		return TYPE_BOOL;
	if (is_int(s))
		return TYPE_INT;
	return is_float(s) || is_inf_or_nan(s) ? TYPE_FLOAT : TYPE_STRING;
}

bool sn__yaml_is_null(const struct sn_yaml_node *node)
{
	return node->kind == SN_YAML_SCALAR && type_of(node) == TYPE_NULL;
}

const char *sn__yaml_kind_name(const struct sn_yaml_node *node)
{
	static const char *const scalars[] = {
			"a text", "nothing", "a boolean", "a whole number", "a number"};

	if (node->kind == SN_YAML_MAP)
		return "a map";
	return node->kind == SN_YAML_LIST ? "a list" : scalars[type_of(node)];
}

int sn__yaml_int(const struct sn_yaml_node *scalar, int64_t *ret_value)
{
	struct sn_str s = scalar->text, u = unsigned_part(s);
	bool minus = s.len > 0 && s.ptr[0] == '-';
	uint64_t v = 0, max = (uint64_t)INT64_MAX + (minus ? 1 : 0);
	int r;

	if (scalar->kind != SN_YAML_SCALAR || type_of(scalar) != TYPE_INT)
		return SN_E_PARSE;
	if (has_prefix(s, "0x")) {
		r = sn__parse_hex_u64((struct sn_str){s.ptr + 2, s.len - 2}, max, &v);
	} else if (has_prefix(s, "0o")) {
		r = 0;
		for (size_t i = 2; i < s.len && r == 0; i++) {
			r = v > max / 8 - 1 ? SN_E_LIMIT : 0;
			v = v * 8 + (uint64_t)(s.ptr[i] - '0');
		}
	} else {
		r = sn__parse_u64(u, max, &v);
	}
	if (r < 0)
		return r;
	*ret_value = minus ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

/* strtod without the host's locale, whose decimal point may be a comma. */
static double to_double(const char *text)
{
	static _Atomic(locale_t) c_locale; /* made once and kept */
	locale_t loc = c_locale, mine;

	if (loc == (locale_t)0) {
		mine = newlocale(LC_ALL_MASK, "C", (locale_t)0);
		if (mine == (locale_t)0)
			return strtod(text, NULL);
		if (atomic_compare_exchange_strong(&c_locale, &loc, mine))
			loc = mine;
		else
			freelocale(mine);
	}
	return strtod_l(text, NULL, loc);
}

int sn__yaml_float(const struct sn_yaml_node *scalar, double *ret_value)
{
	enum type type;
	int64_t whole;
	double v;

	if (scalar->kind != SN_YAML_SCALAR)
		return SN_E_PARSE;
	type = type_of(scalar);
	if (type == TYPE_INT && sn__yaml_int(scalar, &whole) == 0) {
		*ret_value = (double)whole;
		return 0;
	}
	if (type != TYPE_FLOAT && type != TYPE_INT)
		return SN_E_PARSE;
	if (is_inf_or_nan(scalar->text) || has_prefix(scalar->text, "0x") ||
			has_prefix(scalar->text, "0o"))
		return SN_E_LIMIT;
	v = to_double(scalar->text.ptr);
	if (!isfinite(v))
		return SN_E_LIMIT;
	*ret_value = v;
	return 0;
}

int sn__yaml_bool(const struct sn_yaml_node *scalar, bool *ret_value)
{
	if (scalar->kind != SN_YAML_SCALAR || type_of(scalar) != TYPE_BOOL)
		return SN_E_PARSE;
	*ret_value = is_true(scalar->text);
	return 0;
}

/* ---- JSON ---- */

static json_t *text_json(struct sn_str s)
{
	return json_stringn_nocheck(s.ptr, s.len);
}

static int scalar_json(
		const struct sn_yaml_node *node, json_t **ret_json, struct sn_problems *problems)
{
	enum type type = type_of(node);
	int64_t whole;
	double real;
	bool truth;
	int r;

	switch (type) {
	case TYPE_NULL:
		*ret_json = json_null();
		return 0;
	case TYPE_BOOL:
		r = sn__yaml_bool(node, &truth);
		*ret_json = json_boolean(truth);
		return r;
	case TYPE_INT:
		r = sn__yaml_int(node, &whole);
		if (r == 0)
			*ret_json = json_integer(whole);
		break;
	case TYPE_FLOAT:
		r = sn__yaml_float(node, &real);
		if (r == 0)
			*ret_json = json_real(real);
		break;
	default:
		r = 0;
		*ret_json = text_json(node->text);
		break;
	}
	if (r < 0)
		return sn__problem(problems, node->place, "%.*s is not a number JSON can hold",
				(int)SN_MIN(node->text.len, (size_t)64), node->text.ptr);
	return *ret_json != NULL ? 0 : SN_E_NOMEM;
}

/* Depth is bounded by SN_YAML_DEPTH_MAX, and the number of nodes by SN_YAML_NODES_MAX. */
static int container_json(
		const struct sn_yaml_node *node, json_t **ret_json, struct sn_problems *problems)
{
	bool is_map = node->kind == SN_YAML_MAP;
	SN_AUTO_JSON json_t *json = is_map ? json_object() : json_array();
	int r, result = 0;

	if (json == NULL)
		return SN_E_NOMEM;
	SN_YAML_FOREACH(item, node)
	{
		json_t *value = NULL;

		r = sn__yaml_to_json(item->value, &value, problems);
		if (r == SN_E_NOMEM)
			return r;
		if (r < 0) {
			result = r; /* go on: there may be more to tell */
			continue;
		}
		if (is_map && memchr(item->key.ptr, '\0', item->key.len) != NULL) {
			result = sn__problem(problems, item->place, "a NUL in a key");
			json_decref(value);
			continue;
		}
		r = is_map ? json_object_setn_new_nocheck(json, item->key.ptr, item->key.len, value)
			   : json_array_append_new(json, value);
		if (r < 0)
			return SN_E_NOMEM;
	}
	if (result == 0)
		*ret_json = SN_TAKE(json);
	return result;
}

int sn__yaml_to_json(
		const struct sn_yaml_node *node, json_t **ret_json, struct sn_problems *problems)
{
	json_t *json = NULL;
	int r = node->kind == SN_YAML_SCALAR ? scalar_json(node, &json, problems)
					     : container_json(node, &json, problems);

	if (r == 0)
		*ret_json = json;
	return r;
}
