/* SPDX-License-Identifier: Apache-2.0 */
#include "base/subst.h"

#include <stdlib.h>

#include "base/mem.h"

#define NAME_MAX_BYTES 255
#define FILE_MAX_BYTES 65536
#define VALUE_MAX_BYTES (1u << 20)
#define SOURCE_MAX_BYTES 1024

struct subst {
	struct sn_yaml *yaml;
	sn_env_fn *env;
	void *arg;
	struct sn_problems *problems;
	struct sn_buf out;
	struct sn_buf source; /* of the present scalar */
};

static const char *process_env(const char *name, void *arg)
{
	return getenv(name);
}

static bool is_name_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			c == '_';
}

static const char *lookup(sn_env_fn *env, void *arg, struct sn_str name)
{
	char copy[NAME_MAX_BYTES + 1];

	if (name.len > NAME_MAX_BYTES)
		return NULL;
	if (name.len > 0)
		memcpy(copy, name.ptr, name.len);
	copy[name.len] = '\0';
	return env(copy, arg);
}

/* ---- files of ours ---- */

/* Kept for people; what does not fit is left out. Only out of memory fails. */
static int note_source(struct subst *s, const char *kind, struct sn_str name)
{
	int r = sn__buf_printf(&s->source, "%s%s %.*s", s->source.len > 0 ? ", " : "", kind,
			(int)SN_MIN(name.len, (size_t)NAME_MAX_BYTES), name.ptr);

	return r == SN_E_NOMEM ? r : 0;
}

static int append_file(struct subst *s, struct sn_str path, struct sn_place place)
{
	SN_AUTO_FREE char *name = sn__strndup(path.ptr, path.len);
	SN_AUTO_FREE char *text = NULL;
	struct sn_error err;
	struct sn_str value;
	int r;

	if (name == NULL || note_source(s, "file", path) < 0)
		return SN_E_NOMEM;
	r = sn__file_read(name, FILE_MAX_BYTES, &text, &value.len, &err);
	if (r == SN_E_NOMEM)
		return r;
	if (r < 0)
		return sn__problem(s->problems, place, "${file:...}: %s", err.text);
	value.ptr = text;
	if (value.len > 0 && text[value.len - 1] == '\n')
		value.len--;
	if (value.len > 0 && text[value.len - 1] == '\r')
		value.len--;
	if (!sn__utf8_valid(value) || memchr(value.ptr, '\0', value.len) != NULL)
		return sn__problem(s->problems, place, "${file:%s}: not a text in UTF-8", name);
	return sn__buf_append_str(&s->out, value);
}

/* What stands between the braces. */
static int append_reference(struct subst *s, struct sn_str ref, struct sn_place place)
{
	struct sn_str prefix = SN_STR("file:");
	struct sn_str name = {ref.ptr, 0};
	const char *value;

	if (ref.len > prefix.len && memcmp(ref.ptr, prefix.ptr, prefix.len) == 0)
		return append_file(s, (struct sn_str){ref.ptr + prefix.len, ref.len - prefix.len},
				place);
	while (name.len < ref.len && is_name_char(ref.ptr[name.len]))
		name.len++;
	if (name.len == 0 || (name.len < ref.len && ref.ptr[name.len] != ':'))
		return sn__problem(s->problems, place,
				"${%.*s}: expected ${NAME}, ${NAME:default} or "
				"${file:PATH}; write $${ for a literal ${",
				(int)SN_MIN(ref.len, (size_t)40), ref.ptr);
	value = lookup(s->env, s->arg, name);
	if (value == NULL && name.len == ref.len)
		return sn__problem(s->problems, place,
				"${%.*s} is not set in the environment and has "
				"no default (${%.*s:default})",
				(int)SN_MIN(name.len, (size_t)64), name.ptr,
				(int)SN_MIN(name.len, (size_t)64), name.ptr);
	if (note_source(s, value != NULL ? "env" : "default of", name) < 0)
		return SN_E_NOMEM;
	if (value == NULL)
		return sn__buf_append(&s->out, ref.ptr + name.len + 1, ref.len - name.len - 1);
	if (!sn__utf8_valid(sn_str_from(value)))
		return sn__problem(s->problems, place, "${%.*s}: its value is not UTF-8",
				(int)name.len, name.ptr);
	return sn__buf_puts(&s->out, value);
}

static int expand(struct subst *s, struct sn_str text, struct sn_place place)
{
	size_t i = 0;
	int r = 0;

	while (r == 0 && i < text.len) {
		const char *at = text.ptr + i;
		size_t left = text.len - i;
		const char *end;

		if (left >= 3 && memcmp(at, "$${", 3) == 0) {
			r = sn__buf_append(&s->out, "${", 2);
			i += 3;
		} else if (left >= 2 && memcmp(at, "${", 2) == 0) {
			end = memchr(at, '}', left);
			if (end == NULL)
				return sn__problem(s->problems, place,
						"${ without }; write $${ for "
						"a literal ${");
			r = append_reference(
					s, (struct sn_str){at + 2, (size_t)(end - at) - 2}, place);
			i += (size_t)(end - at) + 1;
		} else {
			r = sn__buf_append(&s->out, at, 1);
			i++;
		}
	}
	if (r == SN_E_LIMIT)
		return sn__problem(s->problems, place, "the value becomes longer than %u bytes",
				VALUE_MAX_BYTES);
	return r;
}

static int keep_source(struct subst *s, const struct sn_yaml_node *node)
{
	struct sn_yaml_source *source;

	if (s->source.len == 0)
		return 0; /* only a literal ${ */
	source = sn__arena_alloc(&s->yaml->arena, sizeof(*source));
	if (source == NULL)
		return SN_E_NOMEM;
	source->node = node;
	source->text = sn__arena_strdup(&s->yaml->arena, sn__buf_str(&s->source));
	if (source->text == NULL)
		return SN_E_NOMEM;
	source->next = s->yaml->sources;
	s->yaml->sources = source;
	return 0;
}

static int subst_scalar(struct subst *s, struct sn_yaml_node *node)
{
	char *text;
	int r;

	if (node->substituted || memmem(node->text.ptr, node->text.len, "${", 2) == NULL)
		return 0;
	node->substituted = true;
	sn__buf_clear(&s->out);
	sn__buf_clear(&s->source);
	r = expand(s, node->text, node->place);
	if (r == 0)
		r = keep_source(s, node);
	if (r < 0)
		return r;
	text = sn__arena_strdup(&s->yaml->arena, sn__buf_str(&s->out));
	if (text == NULL)
		return SN_E_NOMEM;
	node->text = (struct sn_str){text, s->out.len};
	return 0;
}

/* Shared nodes are marked, so that aliases cost nothing more. */
static int subst_node(struct subst *s, struct sn_yaml_node *node)
{
	int r, result = 0;

	if (node->kind == SN_YAML_SCALAR)
		return subst_scalar(s, node);
	if (node->substituted)
		return 0;
	node->substituted = true;
	SN_YAML_FOREACH(item, node)
	{
		r = subst_node(s, item->value);
		if (r == SN_E_NOMEM)
			return r;
		result = result < 0 ? result : r;
	}
	return result;
}

int sn__subst_yaml(struct sn_yaml *yaml, sn_env_fn *env, void *arg, struct sn_problems *problems)
{
	struct subst s = {yaml, env != NULL ? env : process_env, arg, problems, {0}, {0}};
	int r;

	sn__buf_init(&s.out, VALUE_MAX_BYTES);
	sn__buf_init(&s.source, SOURCE_MAX_BYTES);
	r = subst_node(&s, yaml->root);
	sn__buf_finish(&s.out);
	sn__buf_finish(&s.source);
	return r;
}

/* ---- Berlioz ---- */

int sn__subst_berlioz(struct sn_str text, sn_env_fn *env, void *arg, struct sn_buf *out)
{
	size_t before = out->len, i = 0;
	int r = 0;

	env = env != NULL ? env : process_env;
	while (r == 0 && i < text.len) {
		struct sn_str name = {text.ptr + i + 2, 0};
		const char *value = NULL;

		if (text.ptr[i] == '$' && i + 1 < text.len && text.ptr[i + 1] == '{') {
			while (i + 2 + name.len < text.len && is_name_char(name.ptr[name.len]))
				name.len++;
			if (i + 2 + name.len < text.len && name.ptr[name.len] == '}')
				value = lookup(env, arg, name);
		}
		if (value != NULL) {
			r = sn__buf_puts(out, value);
			i += name.len + 3;
		} else {
			r = sn__buf_append(out, text.ptr + i, 1);
			i++;
		}
	}
	if (r < 0)
		sn__buf_truncate(out, before);
	return r;
}
