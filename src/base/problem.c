/* SPDX-License-Identifier: Apache-2.0 */
#include "base/problem.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

void sn__problems_init(struct sn_problems *p, const char *file)
{
	*p = (struct sn_problems){.file = file};
}

void sn__problems_finish(struct sn_problems *p)
{
	sn__free(p->list);
	sn__problems_init(p, p->file);
}

static void add(struct sn_problems *p, struct sn_place place, bool warning, const char *fmt,
		va_list ap) SN_PRINTF(4, 0);
static void add(struct sn_problems *p, struct sn_place place, bool warning, const char *fmt,
		va_list ap)
{
	struct sn_problem *one;

	if (p == NULL)
		return;
	if (warning)
		p->n_warnings++;
	else
		p->n_errors++;
	if (p->list == NULL)
		p->list = sn__calloc(SN_PROBLEMS_MAX, sizeof *p->list);
	if (p->list == NULL || p->n == SN_PROBLEMS_MAX)
		return;
	one = &p->list[p->n++];
	one->place = place;
	one->warning = warning;
	(void)vsnprintf(one->text, sizeof one->text, fmt, ap);
	/* What came from the file may hold anything; one problem is one line. */
	for (char *c = one->text; *c != '\0'; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
}

int sn__problem(struct sn_problems *p, struct sn_place place, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(p, place, false, fmt, ap);
	va_end(ap);
	return SN_E_INVALID;
}

void sn__problem_warning(struct sn_problems *p, struct sn_place place, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(p, place, true, fmt, ap);
	va_end(ap);
}

/* Digits and a ':' at the beginning of @s. */
static bool take_number(struct sn_str *s, uint32_t *ret_value)
{
	const char *colon = memchr(s->ptr, ':', s->len);
	size_t n = colon != NULL ? (size_t)(colon - s->ptr) : 0;
	uint64_t v;

	if (colon == NULL || sn__parse_u64((struct sn_str){s->ptr, n}, UINT32_MAX, &v) < 0)
		return false;
	*ret_value = (uint32_t)v;
	*s = (struct sn_str){colon + 1, s->len - n - 1};
	return true;
}

int sn__problem_from(struct sn_problems *p, const struct sn_error *err)
{
	struct sn_str text = sn_str_from(err->text), rest;
	struct sn_str file = sn_str_from(p != NULL ? p->file : NULL);
	struct sn_place place = {0}, found;

	if (file.len > 0 && text.len > file.len && memcmp(text.ptr, file.ptr, file.len) == 0 &&
			text.ptr[file.len] == ':')
		text = (struct sn_str){text.ptr + file.len + 1, text.len - file.len - 1};
	rest = text;
	if (take_number(&rest, &found.line) && take_number(&rest, &found.column)) {
		place = found;
		text = rest;
	}
	while (text.len > 0 && *text.ptr == ' ')
		text = (struct sn_str){text.ptr + 1, text.len - 1};
	(void)sn__problem(p, place, "%.*s", (int)text.len, text.ptr);
	return err->code;
}

static bool before(struct sn_place a, struct sn_place b)
{
	return a.line < b.line || (a.line == b.line && a.column < b.column);
}

void sn__problems_sort(struct sn_problems *p)
{
	for (uint32_t i = 1; i < p->n; i++) {
		struct sn_problem one = p->list[i];
		uint32_t j = i;

		for (; j > 0 && before(one.place, p->list[j - 1].place); j--)
			p->list[j] = p->list[j - 1];
		p->list[j] = one;
	}
}

const char *sn__problem_text(
		const struct sn_problems *p, const struct sn_problem *one, char *out, size_t size)
{
	const char *mark = one->warning ? "warning: " : "";
	const char *file = p->file != NULL ? p->file : "";
	const char *colon = p->file != NULL ? ":" : "";

	if (one->place.line == 0)
		(void)snprintf(out, size, "%s%s%s%s%s", file, colon, *colon != '\0' ? " " : "",
				mark, one->text);
	else
		(void)snprintf(out, size, "%s%s%u:%u: %s%s", file, colon, one->place.line,
				one->place.column, mark, one->text);
	return out;
}

int sn__problems_to_error(const struct sn_problems *p, int code, struct sn_error *err)
{
	char text[SN_ERROR_TEXT_MAX - 32];
	uint32_t i = 0;

	if (p->n_errors == 0)
		return 0;
	while (i < p->n && p->list[i].warning)
		i++;
	if (i == p->n) /* no memory for the list, or it is full of warnings */
		return sn__error_set(err, code, "%s: %u problems",
				p->file != NULL ? p->file : "text", p->n_errors);
	(void)sn__problem_text(p, &p->list[i], text, sizeof text);
	if (p->n_errors == 1)
		return sn__error_set(err, code, "%s", text);
	return sn__error_set(err, code, "%s (and %u more)", text, p->n_errors - 1);
}
