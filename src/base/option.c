/* SPDX-License-Identifier: Apache-2.0 */
#include "base/option.h"

#include <stdio.h>

#include "base/mem.h"

#define SHOWN_MAX 64 /* bytes of a wrong value that a message repeats */
#define NAMES_MAX 128

struct target {
	const struct sn_option *opt;
	char *out; /* the whole struct */
	struct sn_arena *arena;
	struct sn_problems *problems;
};

static void *member(const struct target *t)
{
	return t->out + t->opt->offset;
}

static const char *kind_text(const struct sn_option *opt)
{
	static const char *const texts[] = {
			[SN_OPTION_STRING] = "a text",
			[SN_OPTION_BOOL] = "true or false",
			[SN_OPTION_INT] = "a whole number",
			[SN_OPTION_NUMBER] = "a number",
			[SN_OPTION_DURATION] = "a duration such as 250ms, 5s or 2m",
			[SN_OPTION_SIZE] = "a size such as 512, 64KiB or 10MB",
			[SN_OPTION_ENUM] = "one of its words",
			[SN_OPTION_LIST] = "a list of texts",
			[SN_OPTION_MAP] = "a map of texts",
			[SN_OPTION_SECTION] = "a map",
			[SN_OPTION_ANY] = "a value",
	};

	return texts[opt->kind];
}

/* ---- messages ---- */

/* "not a list" or "not "5 apples"", the value hidden when it is secret. */
static int wrong_kind(const struct target *t, const struct sn_yaml_node *node)
{
	bool show = node->kind == SN_YAML_SCALAR && !(t->opt->flags & SN_OPTION_SECRET) &&
			!sn__yaml_is_null(node);

	if (!show)
		return sn__problem(t->problems, node->place, "%s must be %s, not %s", t->opt->name,
				kind_text(t->opt), sn__yaml_kind_name(node));
	return sn__problem(t->problems, node->place, "%s must be %s, not %s%.*s%s", t->opt->name,
			kind_text(t->opt), node->plain ? "" : "\"",
			(int)SN_MIN(node->text.len, (size_t)SHOWN_MAX), node->text.ptr,
			node->plain ? "" : "\"");
}

static int in_limits(const struct target *t, const struct sn_yaml_node *node, double v)
{
	const char *unit = t->opt->unit != NULL ? t->opt->unit : "";
	const char *space = t->opt->unit != NULL ? " " : "";

	if (t->opt->min == 0 && t->opt->max == 0)
		return 0;
	if (v >= t->opt->min && v <= t->opt->max)
		return 0;
	return sn__problem(t->problems, node->place, "%s must be between %.15g and %.15g%s%s",
			t->opt->name, t->opt->min, t->opt->max, space, unit);
}

static void unknown_word(const char *what, struct sn_str word, struct sn_place place,
		const char *const *names, struct sn_problems *problems)
{
	char copy[SHOWN_MAX + 1];
	size_t n = SN_MIN(word.len, (size_t)SHOWN_MAX);
	const char *near;

	memcpy(copy, word.ptr, n);
	copy[n] = '\0';
	near = word.len <= SHOWN_MAX ? sn__nearest(copy, names) : NULL;
	if (near != NULL)
		(void)sn__problem(problems, place, "unknown %s \"%s\", did you mean \"%s\"?", what,
				copy, near);
	else
		(void)sn__problem(problems, place, "unknown %s \"%s\"", what, copy);
}

void sn__option_unknown(const struct sn_option *table, const struct sn_yaml_item *item,
		const char *what, struct sn_problems *problems)
{
	const char *names[NAMES_MAX + 1];
	size_t n = 0;

	for (; table->name != NULL && n < NAMES_MAX; table++)
		names[n++] = table->name;
	names[n] = NULL;
	unknown_word(what, item->key, item->place, names, problems);
}

/* ---- values, one function a kind ---- */

static int text_of(struct target *t, const struct sn_yaml_node *node, const char **ret_text)
{
	if (node->kind != SN_YAML_SCALAR)
		return wrong_kind(t, node);
	if (memchr(node->text.ptr, '\0', node->text.len) != NULL)
		return sn__problem(
				t->problems, node->place, "%s must not hold a NUL", t->opt->name);
	*ret_text = node->text.ptr; /* NUL-terminated, in the tree */
	return 0;
}

static int read_string(struct target *t, const struct sn_yaml_node *node)
{
	return text_of(t, node, member(t));
}

static int read_bool(struct target *t, const struct sn_yaml_node *node)
{
	return sn__yaml_bool(node, member(t)) < 0 ? wrong_kind(t, node) : 0;
}

static int read_int(struct target *t, const struct sn_yaml_node *node)
{
	int64_t v;
	int r;

	if (sn__yaml_int(node, &v) < 0)
		return wrong_kind(t, node);
	r = in_limits(t, node, (double)v);
	if (r == 0)
		*(int64_t *)member(t) = v;
	return r;
}

static int read_number(struct target *t, const struct sn_yaml_node *node)
{
	double v;
	int r;

	if (sn__yaml_float(node, &v) < 0)
		return wrong_kind(t, node);
	r = in_limits(t, node, v);
	if (r == 0)
		*(double *)member(t) = v;
	return r;
}

static int read_amount(struct target *t, const struct sn_yaml_node *node)
{
	uint64_t v;
	int r;

	if (node->kind != SN_YAML_SCALAR)
		return wrong_kind(t, node);
	r = t->opt->kind == SN_OPTION_SIZE ? sn__parse_size(node->text, &v)
					   : sn__parse_duration_ms(node->text, &v);
	if (r < 0)
		return wrong_kind(t, node);
	r = in_limits(t, node, (double)v);
	if (r == 0)
		*(uint64_t *)member(t) = v;
	return r;
}

static int read_enum(struct target *t, const struct sn_yaml_node *node)
{
	char what[SHOWN_MAX + 16];

	if (node->kind != SN_YAML_SCALAR)
		return wrong_kind(t, node);
	for (int i = 0; t->opt->choices[i] != NULL; i++) {
		if (sn_str_eq(node->text, sn_str_from(t->opt->choices[i]))) {
			*(int *)member(t) = i;
			return 0;
		}
	}
	(void)snprintf(what, sizeof what, "%.*s", SHOWN_MAX, t->opt->name);
	unknown_word(what, node->text, node->place, t->opt->choices, t->problems);
	return SN_E_INVALID;
}

static int read_list(struct target *t, const struct sn_yaml_node *node)
{
	size_t n = node->kind == SN_YAML_SCALAR ? 1 : node->count;
	const char **items;
	size_t i = 0;
	int r = 0;

	if (node->kind == SN_YAML_MAP)
		return wrong_kind(t, node);
	items = sn__arena_zalloc(t->arena, (n + 1) * sizeof *items);
	if (items == NULL)
		return SN_E_NOMEM;
	if (node->kind == SN_YAML_SCALAR) {
		r = text_of(t, node, &items[0]);
	} else {
		SN_YAML_FOREACH(item, node)
		{
			int one = text_of(t, item->value, &items[i++]);

			r = r < 0 ? r : one;
		}
	}
	if (r == 0)
		*(struct sn_option_list *)member(t) = (struct sn_option_list){n, items};
	return r;
}

static int read_map(struct target *t, const struct sn_yaml_node *node)
{
	struct sn_option_pair *pairs;
	size_t i = 0;
	int r = 0;

	if (node->kind != SN_YAML_MAP)
		return wrong_kind(t, node);
	pairs = sn__arena_zalloc(t->arena, ((size_t)node->count + 1) * sizeof *pairs);
	if (pairs == NULL)
		return SN_E_NOMEM;
	SN_YAML_FOREACH(item, node)
	{
		int one = text_of(t, item->value, &pairs[i].value);

		pairs[i++].name = item->key.ptr;
		r = r < 0 ? r : one;
	}
	if (r == 0)
		*(struct sn_option_map *)member(t) = (struct sn_option_map){node->count, pairs};
	return r;
}

static int read_section(struct target *t, const struct sn_yaml_node *node)
{
	if (node->kind != SN_YAML_MAP)
		return wrong_kind(t, node);
	return sn__options_read(t->opt->options, node, member(t), t->arena, t->problems);
}

static int read_any(struct target *t, const struct sn_yaml_node *node)
{
	*(const struct sn_yaml_node **)member(t) = node;
	return 0;
}

static int read_value(const struct sn_option *opt, const struct sn_yaml_node *value, void *out,
		struct sn_arena *arena, struct sn_problems *problems)
{
	static int (*const readers[])(struct target *, const struct sn_yaml_node *) = {
			[SN_OPTION_STRING] = read_string,
			[SN_OPTION_BOOL] = read_bool,
			[SN_OPTION_INT] = read_int,
			[SN_OPTION_NUMBER] = read_number,
			[SN_OPTION_DURATION] = read_amount,
			[SN_OPTION_SIZE] = read_amount,
			[SN_OPTION_ENUM] = read_enum,
			[SN_OPTION_LIST] = read_list,
			[SN_OPTION_MAP] = read_map,
			[SN_OPTION_SECTION] = read_section,
			[SN_OPTION_ANY] = read_any,
	};
	struct target t = {opt, out, arena, problems};

	return readers[opt->kind](&t, value);
}

/* ---- the whole ---- */

static size_t size_of(enum sn_option_kind kind)
{
	static const size_t sizes[] = {
			[SN_OPTION_STRING] = sizeof(const char *),
			[SN_OPTION_BOOL] = sizeof(bool),
			[SN_OPTION_INT] = sizeof(int64_t),
			[SN_OPTION_NUMBER] = sizeof(double),
			[SN_OPTION_DURATION] = sizeof(uint64_t),
			[SN_OPTION_SIZE] = sizeof(uint64_t),
			[SN_OPTION_ENUM] = sizeof(int),
			[SN_OPTION_LIST] = sizeof(struct sn_option_list),
			[SN_OPTION_MAP] = sizeof(struct sn_option_map),
			[SN_OPTION_SECTION] = 0,
			[SN_OPTION_ANY] = sizeof(const struct sn_yaml_node *),
	};

	return sizes[kind];
}

/* Into the arena: the default of a text or a list lives as long as one from the file. */
static int read_default(const struct sn_option *opt, void *out, struct sn_arena *arena,
		struct sn_problems *problems)
{
	struct sn_yaml_node node = {.kind = SN_YAML_SCALAR,
			.plain = true,
			.weight = 1,
			.text = sn_str_from(opt->def)};

	memset((char *)out + opt->offset, 0, size_of(opt->kind));
	if (opt->kind == SN_OPTION_SECTION)
		return sn__options_read(
				opt->options, NULL, (char *)out + opt->offset, arena, problems);
	if (opt->def == NULL)
		return 0;
	return read_value(opt, &node, out, arena, problems);
}

static const struct sn_option *find(const struct sn_option *table, struct sn_str name)
{
	for (; table->name != NULL; table++) {
		if (sn_str_eq(name, sn_str_from(table->name)))
			return table;
	}
	return NULL;
}

static int read_items(const struct sn_option *table, const struct sn_yaml_node *map, void *out,
		struct sn_arena *arena, struct sn_problems *problems)
{
	int r, result = 0;

	SN_YAML_FOREACH(item, map)
	{
		const struct sn_option *opt = find(table, item->key);

		if (opt == NULL) {
			sn__option_unknown(table, item, "key", problems);
			result = SN_E_INVALID;
			continue;
		}
		if (sn__yaml_is_null(item->value))
			continue; /* as if it were not there */
		r = read_value(opt, item->value, out, arena, problems);
		if (r == SN_E_NOMEM)
			return r;
		result = result < 0 ? result : r;
	}
	return result;
}

int sn__options_read(const struct sn_option *table, const struct sn_yaml_node *map, void *out,
		struct sn_arena *arena, struct sn_problems *problems)
{
	struct sn_place place = map != NULL ? map->place : (struct sn_place){0};
	int r = 0;

	if (map != NULL && sn__yaml_is_null(map))
		map = NULL;
	for (const struct sn_option *opt = table; opt->name != NULL; opt++) {
		r = read_default(opt, out, arena, problems);
		if (r == SN_E_NOMEM)
			return r;
		assert(r == 0 || opt->kind == SN_OPTION_SECTION); /* sn__options_check() */
	}
	if (map != NULL && map->kind != SN_YAML_MAP)
		return sn__problem(
				problems, place, "expected a map, not %s", sn__yaml_kind_name(map));
	r = map != NULL ? read_items(table, map, out, arena, problems) : 0;
	for (const struct sn_option *opt = table; opt->name != NULL && r != SN_E_NOMEM; opt++) {
		const struct sn_yaml_node *value = map != NULL ? sn__yaml_get(map, opt->name)
							       : NULL;

		if ((opt->flags & SN_OPTION_REQUIRED) && map != NULL &&
				(value == NULL || sn__yaml_is_null(value)))
			r = sn__problem(problems, place, "%s is missing: %s", opt->name, opt->help);
	}
	return r;
}

/* ---- reference pages ---- */

static int doc_kind(const struct sn_option *opt, struct sn_buf *out)
{
	static const char *const words[] = {[SN_OPTION_STRING] = "text",
			[SN_OPTION_BOOL] = "bool",
			[SN_OPTION_INT] = "whole number",
			[SN_OPTION_NUMBER] = "number",
			[SN_OPTION_DURATION] = "duration",
			[SN_OPTION_SIZE] = "size",
			[SN_OPTION_ENUM] = "",
			[SN_OPTION_LIST] = "list",
			[SN_OPTION_MAP] = "map",
			[SN_OPTION_SECTION] = "map",
			[SN_OPTION_ANY] = "see below"};
	int r = sn__buf_puts(out, words[opt->kind]);

	for (int i = 0; r == 0 && opt->choices != NULL && opt->choices[i] != NULL; i++)
		r = sn__buf_printf(out, "%s`%s`", i > 0 ? ", " : "", opt->choices[i]);
	if (r == 0 && (opt->min != 0 || opt->max != 0))
		r = sn__buf_printf(out, ", %.15g to %.15g%s%s", opt->min, opt->max,
				opt->unit != NULL ? " " : "", opt->unit != NULL ? opt->unit : "");
	return r;
}

int sn__options_doc(const struct sn_option *table, const char *prefix, struct sn_buf *out)
{
	int r = 0;

	for (const struct sn_option *opt = table; r == 0 && opt->name != NULL; opt++) {
		SN_AUTO_FREE char *name = sn__asprintf("%s%s", prefix, opt->name);
		SN_AUTO_FREE char *deeper = sn__asprintf("%s%s.", prefix, opt->name);

		if (name == NULL || deeper == NULL)
			return SN_E_NOMEM;
		if (opt->kind == SN_OPTION_SECTION) {
			r = sn__options_doc(opt->options, deeper, out);
			continue;
		}
		r = sn__buf_printf(out, "| `%s` | ", name);
		if (r == 0)
			r = doc_kind(opt, out);
		if (r == 0)
			r = sn__buf_printf(out, " | %s%s%s | %s%s |\n", opt->def != NULL ? "`" : "",
					opt->def != NULL ? opt->def : "",
					opt->def != NULL ? "`" : "", opt->help,
					opt->flags & SN_OPTION_REQUIRED ? " Required." : "");
		if (r == 0 && opt->options != NULL)
			r = sn__options_doc(opt->options, deeper, out);
	}
	return r;
}

/* ---- the soundness of tables ---- */

static int check_name(const char *name, struct sn_error *err)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < n; i++) {
		char c = name[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				(c >= '0' && c <= '9') || c == '-' || c == '_';

		if (!ok)
			return sn__error_set(
					err, SN_E_INVALID, "%s: a name is [A-Za-z0-9_-]+", name);
	}
	return n > 0 && n <= SHOWN_MAX ? 0 : sn__error_set(err, SN_E_INVALID, "%s: length", name);
}

static int check_default(const struct sn_option *opt, struct sn_error *err)
{
	union {
		char room[64];
		int64_t align;
		double align2;
		void *align3;
	} out;
	struct sn_option at_zero = *opt;
	struct sn_problems problems;
	struct sn_arena arena;
	int r;

	if (opt->def == NULL || opt->kind == SN_OPTION_SECTION)
		return opt->kind == SN_OPTION_SECTION ? sn__options_check(opt->options, err) : 0;
	if (opt->kind == SN_OPTION_ANY || opt->kind == SN_OPTION_MAP ||
			(opt->flags & SN_OPTION_REQUIRED))
		return sn__error_set(err, SN_E_INVALID, "%s: cannot have a default", opt->name);
	at_zero.offset = 0;
	sn__problems_init(&problems, NULL);
	sn__arena_init(&arena, 256, 4096);
	r = read_default(&at_zero, out.room, &arena, &problems);
	if (r < 0)
		(void)sn__error_set(err, r, "%s: default: %s", opt->name,
				problems.n > 0 ? problems.list[0].text : "out of memory");
	sn__arena_finish(&arena);
	sn__problems_finish(&problems);
	return r;
}

int sn__options_check(const struct sn_option *table, struct sn_error *err)
{
	for (const struct sn_option *opt = table; opt->name != NULL; opt++) {
		int r = check_name(opt->name, err);

		if (r < 0)
			return r;
		if (opt->kind < SN_OPTION_STRING || opt->kind > SN_OPTION_ANY)
			return sn__error_set(err, SN_E_INVALID, "%s: kind", opt->name);
		if (opt->help == NULL || opt->help[0] == '\0')
			return sn__error_set(err, SN_E_INVALID, "%s: no help", opt->name);
		if ((opt->kind == SN_OPTION_ENUM) != (opt->choices != NULL) ||
				(opt->kind != SN_OPTION_ANY && /* may say what it reads */
						(opt->kind == SN_OPTION_SECTION) !=
								(opt->options != NULL)))
			return sn__error_set(
					err, SN_E_INVALID, "%s: choices or options", opt->name);
		if (opt->min > opt->max)
			return sn__error_set(err, SN_E_INVALID, "%s: min above max", opt->name);
		if (find(table, sn_str_from(opt->name)) != opt)
			return sn__error_set(err, SN_E_INVALID, "%s: twice", opt->name);
		r = check_default(opt, err);
		if (r < 0)
			return r;
	}
	return 0;
}
