/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/rethink/registry.h"

#include "base/json.h"
#include "base/mem.h"
#include "proto/json_pull.h"
#include "proto/url.h"

bool sn__reg_is_gone(const struct sn_reg_entry *e)
{
	return sn_str_eq(e->v.text[SN_REG_STATUS], SN_STR("disconnected"));
}

struct sn_str sn__reg_email(struct sn_str user)
{
	size_t end = user.len, begin;

	while (end > 0 && user.ptr[end - 1] == '/')
		end--;
	for (begin = end; begin > 0 && user.ptr[begin - 1] != '/';)
		begin--;
	return end > 0 ? (struct sn_str){user.ptr + begin, end - begin} : user;
}

/* ---- the members of the two kinds ---- */

struct member {
	const char *name;
	int8_t is; /* enum sn_reg_member; -1: expires */
	bool required, list, key;
};

static const struct member hyperty_members[] = {
		{"resources", SN_REG_RESOURCES, true, true, false},
		{"dataSchemes", SN_REG_SCHEMES, true, true, false},
		{"descriptor", SN_REG_DESCRIPTOR, true, false, false},
		{"status", SN_REG_STATUS, true, false, false},
		{"expires", -1, true, false, false},
		{"runtime", SN_REG_RUNTIME, true, false, false},
		{"p2pRequester", SN_REG_REQUESTER, false, false, false},
		{"p2pHandler", SN_REG_HANDLER, false, false, false},
		{"guid", SN_REG_GUID, false, false, true},
		{NULL, 0, false, false, false},
};
static const struct member object_members[] = {
		{"schema", SN_REG_DESCRIPTOR, true, false, false},
		{"name", SN_REG_NAME, true, false, true},
		{"reporter", SN_REG_REPORTER, true, false, true},
		{"resources", SN_REG_RESOURCES, true, true, false},
		{"dataSchemes", SN_REG_SCHEMES, true, true, false},
		{"status", SN_REG_STATUS, true, false, false},
		{"expires", -1, true, false, false},
		{"runtime", SN_REG_RUNTIME, true, false, false},
		{"p2pRequester", SN_REG_REQUESTER, false, false, false},
		{NULL, 0, false, false, false},
};

static const struct member *members_of(enum sn_reg_kind kind)
{
	return kind == SN_REG_HYPERTY ? hyperty_members : object_members;
}

/* ---- values ---- */

struct body {
	struct sn_json_pull pull;
	struct sn_arena *arena;
	struct sn_buf list; /* scratch */
};

static int bad(int r)
{
	return r == SN_E_NOMEM ? r : SN_E_INVALID;
}

/* A string, or what the original takes for one. */
static int read_text(struct body *b, struct sn_str *ret_text)
{
	struct sn_json_string s = {.escaped = false};
	bool value;
	char *copy;
	int r;

	switch (sn__json_peek(&b->pull)) {
	case SN_JSON_STRING:
		r = sn__json_string(&b->pull, &s);
		break;
	case SN_JSON_NUMBER:
		r = sn__json_number(&b->pull, &s.raw);
		break;
	case SN_JSON_TRUE:
	case SN_JSON_FALSE:
		r = sn__json_bool(&b->pull, &value);
		s.raw = r == 0 && value ? SN_STR("true") : SN_STR("false");
		break;
	default:
		return SN_E_INVALID;
	}
	if (r < 0)
		return SN_E_INVALID;
	copy = sn__arena_alloc(b->arena, s.raw.len + 1);
	if (copy == NULL)
		return SN_E_NOMEM;
	if (s.escaped)
		s.raw.len = sn__json_unescape(s, copy);
	else if (s.raw.len > 0)
		memcpy(copy, s.raw.ptr, s.raw.len);
	*ret_text = (struct sn_str){copy, s.raw.len};
	return 0;
}

static int read_list(struct body *b, struct sn_str *ret_text)
{
	unsigned n = 0;
	char *copy;
	int r;

	if (sn__json_peek(&b->pull) != SN_JSON_ARRAY || sn__json_enter_array(&b->pull) < 0)
		return SN_E_INVALID;
	sn__buf_clear(&b->list);
	r = sn__buf_puts(&b->list, "[");
	while (r == 0) {
		struct sn_str item;
		int more = sn__json_item(&b->pull);

		if (more <= 0) {
			r = more;
			break;
		}
		r = n == SN_REG_ITEMS_MAX ? SN_E_INVALID : read_text(b, &item);
		if (r == 0 && n++ > 0)
			r = sn__buf_puts(&b->list, ",");
		if (r == 0)
			r = sn__json_quote(item, &b->list);
	}
	if (r == 0)
		r = sn__buf_puts(&b->list, "]");
	if (r < 0)
		return bad(r);
	copy = sn__arena_strdup(b->arena, sn__buf_str(&b->list));
	if (copy == NULL)
		return SN_E_NOMEM;
	*ret_text = (struct sn_str){copy, b->list.len};
	return 0;
}

/* A whole number of 32 bits: JSON, or digits in a string. */
static int read_expires(struct body *b, int32_t *ret_expires)
{
	struct sn_str text;
	uint64_t n;
	bool minus;

	if (sn__json_peek(&b->pull) == SN_JSON_STRING) {
		int r = read_text(b, &text);

		if (r < 0)
			return r;
		minus = text.len > 0 && text.ptr[0] == '-';
		text = (struct sn_str){text.ptr + minus, text.len - minus};
		if (sn__parse_u64(text, (uint64_t)INT32_MAX + minus, &n) < 0)
			return SN_E_INVALID;
	} else {
		if (sn__json_peek(&b->pull) != SN_JSON_NUMBER ||
				sn__json_number(&b->pull, &text) < 0)
			return SN_E_INVALID;
		minus = text.ptr[0] == '-';
		text = (struct sn_str){text.ptr + minus, text.len - minus};
		if (sn__json_uint(text, (uint64_t)INT32_MAX + minus, &n) < 0)
			return SN_E_INVALID;
	}
	*ret_expires = minus ? (int32_t) - (int64_t)n : (int32_t)n;
	return 0;
}

/* ---- the whole body ---- */

static int read_member(struct body *b, const struct member *m, struct sn_reg_values *v)
{
	int r;

	if (m->is < 0) {
		r = read_expires(b, &v->expires);
		v->has_expires = r == 0;
		return r;
	}
	r = m->list ? read_list(b, &v->text[m->is]) : read_text(b, &v->text[m->is]);
	if (r == 0 && m->key && v->text[m->is].len > SN_REG_ID_MAX)
		r = SN_E_INVALID;
	return r;
}

static bool has(const struct sn_reg_values *v, const struct member *m)
{
	return m->is < 0 ? v->has_expires : v->text[m->is].ptr != NULL;
}

static enum sn_reg_body_form form_of(
		enum sn_reg_kind kind, unsigned n, const struct sn_reg_values *v)
{
	if (n == 0)
		return SN_REG_EMPTY;
	if (n == 1 && kind == SN_REG_HYPERTY && v->text[SN_REG_DESCRIPTOR].ptr != NULL)
		return SN_REG_ONLY_DESCRIPTOR;
	for (const struct member *m = members_of(kind); m->name != NULL; m++) {
		if (m->required && !has(v, m))
			return SN_REG_SOME;
	}
	return SN_REG_WHOLE;
}

static int read_body(struct body *b, enum sn_reg_kind kind, bool create,
		struct sn_reg_values *values, unsigned *ret_n)
{
	struct sn_json_string keys[SN_REG_ITEMS_MAX], key;
	int r;

	*ret_n = 0;
	if (sn__json_peek(&b->pull) != SN_JSON_OBJECT || sn__json_enter_object(&b->pull) < 0)
		return SN_E_INVALID;
	while ((r = sn__json_member(&b->pull, &key)) > 0) {
		const struct member *m = members_of(kind);

		for (unsigned i = 0; i < *ret_n; i++) {
			if (sn__json_string_eq(keys[i], key))
				return SN_E_INVALID;
		}
		if (*ret_n == SN_REG_ITEMS_MAX)
			return SN_E_INVALID;
		keys[(*ret_n)++] = key;
		while (m->name != NULL && !sn__json_string_is(key, sn_str_from(m->name)))
			m++;
		if (m->name == NULL)
			r = sn__json_skip(&b->pull, NULL);
		else if (sn__json_peek(&b->pull) == SN_JSON_NULL)
			r = create && m->required ? SN_E_INVALID : sn__json_null(&b->pull);
		else
			r = read_member(b, m, values);
		if (r < 0)
			return bad(r);
	}
	return r < 0 || sn__json_finish(&b->pull) < 0 ? SN_E_INVALID : 0;
}

int sn__reg_body(enum sn_reg_kind kind, struct sn_str text, bool create, struct sn_arena *arena,
		struct sn_reg_values *ret_values, enum sn_reg_body_form *ret_form)
{
	struct body b = {.arena = arena};
	struct sn_reg_values values = {.has_expires = false};
	unsigned n;
	int r;

	sn__json_begin(&b.pull, text);
	sn__buf_init(&b.list, SN_REG_BODY_MAX * 8u);
	r = read_body(&b, kind, create, &values, &n);
	sn__buf_finish(&b.list);
	if (r < 0)
		return r;
	*ret_values = values;
	*ret_form = form_of(kind, n, &values);
	return 0;
}

void sn__reg_fill_legacy(struct sn_reg_values *values, int32_t expires)
{
	values->text[SN_REG_RESOURCES] = values->text[SN_REG_SCHEMES] = SN_STR("[]");
	values->text[SN_REG_STATUS] = SN_STR("live");
	values->text[SN_REG_RUNTIME] = SN_STR("");
	values->expires = expires;
	values->has_expires = true;
}

/* ---- filters ---- */

/* One element of a filter's value, quoted like those of a list. */
static int add_item(
		struct sn_reg_filter *f, unsigned which, struct sn_str item, struct sn_arena *arena)
{
	struct sn_buf b;
	char *copy;
	int r;

	sn__buf_init(&b, SN_REG_TARGET_MAX * 8);
	r = sn__json_quote(item, &b);
	copy = r == 0 ? sn__arena_strdup(arena, sn__buf_str(&b)) : NULL;
	if (copy != NULL)
		f->items[which][f->n[which]++] = (struct sn_str){copy, b.len};
	sn__buf_finish(&b);
	return copy != NULL ? 0 : SN_E_NOMEM;
}

static int read_items(struct sn_reg_filter *f, unsigned which, struct sn_str value,
		struct sn_arena *arena)
{
	size_t n = 1, begin = 0;
	int r = 0;

	/* Empty elements at the end do not count; a value without any is one empty element. */
	if (value.len > 0) {
		while (value.len > 0 && value.ptr[value.len - 1] == ',')
			value.len--;
		if (value.len == 0)
			return 0;
	}
	for (size_t i = 0; i < value.len; i++)
		n += value.ptr[i] == ',';
	f->items[which] = sn__arena_alloc(arena, n * sizeof(*f->items[which]));
	if (f->items[which] == NULL)
		return SN_E_NOMEM;
	for (size_t i = 0; r == 0 && i <= value.len; i++) {
		if (i < value.len && value.ptr[i] != ',')
			continue;
		r = add_item(f, which, (struct sn_str){value.ptr + begin, i - begin}, arena);
		begin = i + 1;
	}
	return r;
}

/* Form decoding. */
static int decode(struct sn_str raw, struct sn_arena *arena, struct sn_str *ret_text)
{
	char *form = sn__arena_alloc(arena, raw.len + 1);
	char *out = sn__arena_alloc(arena, raw.len + 1);
	size_t n;

	if (form == NULL || out == NULL)
		return SN_E_NOMEM;
	for (size_t i = 0; i < raw.len; i++)
		form[i] = raw.ptr[i];
	for (size_t i = 0; i < raw.len; i++) {
		if (form[i] == '+')
			form[i] = ' ';
	}
	if (sn__percent_decode((struct sn_str){form, raw.len}, out, raw.len + 1, &n) < 0 ||
			!sn__utf8_valid((struct sn_str){out, n}))
		return SN_E_INVALID;
	*ret_text = (struct sn_str){out, n};
	return 0;
}

static struct sn_str cut(struct sn_str *rest, char at)
{
	const char *end = rest->len > 0 ? memchr(rest->ptr, at, rest->len) : NULL;
	struct sn_str first = {rest->ptr, end != NULL ? (size_t)(end - rest->ptr) : rest->len};
	size_t used = first.len + (end != NULL);

	*rest = rest->len > 0 ? (struct sn_str){rest->ptr + used, rest->len - used} : *rest;
	return first;
}

int sn__reg_filter(struct sn_str query, struct sn_arena *arena, struct sn_reg_filter *ret_filter)
{
	struct sn_reg_filter f = {.n = {0, 0}};
	bool seen[2] = {false, false};

	while (query.len > 0) {
		struct sn_str value = cut(&query, '&'), name, text;
		int which, r;

		if (value.len == 0)
			continue;
		name = cut(&value, '=');
		r = decode(name, arena, &name);
		if (r == 0)
			r = decode(value, arena, &text);
		if (r < 0)
			return r;
		which = sn_str_eq(name, SN_STR("resources"))             ? 0
				: sn_str_eq(name, SN_STR("dataSchemes")) ? 1
									 : -1;
		if (which < 0)
			return SN_E_NOT_FOUND;
		if (seen[which])
			continue;
		seen[which] = true;
		r = read_items(&f, (unsigned)which, text, arena);
		if (r < 0)
			return r;
	}
	if (!seen[0] && !seen[1])
		return SN_E_NOT_FOUND;
	*ret_filter = f;
	return 0;
}

/* Whether the JSON array @list has the quoted @item. */
static bool list_has(struct sn_str list, struct sn_str item)
{
	for (size_t i = 1, end; i + 1 < list.len; i = end + 1) {
		for (end = i + 1; list.ptr[end] != '"'; end++)
			end += list.ptr[end] == '\\';
		end++; /* behind the closing quote */
		if (sn_str_eq((struct sn_str){list.ptr + i, end - i}, item))
			return true;
	}
	return false;
}

bool sn__reg_matches(const struct sn_reg_filter *f, const struct sn_reg_entry *e)
{
	for (unsigned which = 0; which < 2; which++) {
		struct sn_str list = e->v.text[which == 0 ? SN_REG_RESOURCES : SN_REG_SCHEMES];

		for (uint32_t i = 0; i < f->n[which]; i++) {
			if (!list_has(list, f->items[which][i]))
				return false;
		}
	}
	return true;
}

/* ---- JSON ---- */

static void two_digits(char *out, unsigned n)
{
	out[0] = (char)('0' + n / 10 % 10);
	out[1] = (char)('0' + n % 10);
}

size_t sn__reg_time(int64_t s, char out[SN_REG_TIME_MAX])
{
	/* Days to a date: years begin in March, eras have 400 years (146097 days). */
	int64_t max = INT64_C(253402300799), days, era; /* 9999-12-31T23:59:59Z */
	unsigned second, day_of_era, year_of_era, day_of_year, month, day, year;

	s = s < 0 ? 0 : s > max ? max : s;
	days = s / 86400;
	second = (unsigned)(s % 86400);
	era = (days + 719468) / 146097;
	day_of_era = (unsigned)(days + 719468 - era * 146097);
	year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) /
			365;
	day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	month = (5 * day_of_year + 2) / 153;
	day = day_of_year - (153 * month + 2) / 5 + 1;
	month = month < 10 ? month + 3 : month - 9;
	year = (unsigned)(year_of_era + era * 400) + (month <= 2);
	memcpy(out, "0000-00-00T00:00:00Z", 21);
	two_digits(out, year / 100);
	two_digits(out + 2, year % 100);
	two_digits(out + 5, month);
	two_digits(out + 8, day);
	two_digits(out + 11, second / 3600);
	two_digits(out + 14, second / 60 % 60);
	two_digits(out + 17, second % 60);
	return 20;
}

struct put {
	struct sn_buf *out;
	int r;
	bool comma;
};

static void put_name(struct put *p, const char *name)
{
	if (p->r == 0)
		p->r = sn__buf_puts(p->out, p->comma ? ",\"" : "{\"");
	if (p->r == 0)
		p->r = sn__buf_puts(p->out, name);
	if (p->r == 0)
		p->r = sn__buf_append(p->out, "\":", 2);
	p->comma = true;
}

static void put_text(struct put *p, const char *name, struct sn_str text)
{
	if (text.ptr == NULL)
		return;
	put_name(p, name);
	if (p->r == 0)
		p->r = sn__json_quote(text, p->out);
}

static void put_raw(struct put *p, const char *name, struct sn_str json)
{
	if (json.ptr == NULL)
		return;
	put_name(p, name);
	if (p->r == 0)
		p->r = sn__buf_append_str(p->out, json);
}

static void put_time(struct put *p, const char *name, int64_t s)
{
	char text[SN_REG_TIME_MAX];

	put_text(p, name, (struct sn_str){text, sn__reg_time(s, text)});
}

static void put_expires(struct put *p, int32_t expires)
{
	put_name(p, "expires");
	if (p->r == 0)
		p->r = sn__buf_printf(p->out, "%d", (int)expires);
}

static void put_hyperty(struct put *p, const struct sn_reg_entry *e)
{
	const struct sn_str *t = e->v.text;

	put_raw(p, "resources", t[SN_REG_RESOURCES]);
	put_raw(p, "dataSchemes", t[SN_REG_SCHEMES]);
	put_text(p, "descriptor", t[SN_REG_DESCRIPTOR]);
	put_time(p, "startingTime", e->started);
	put_text(p, "hypertyID", e->id);
	put_text(p, "userID", e->user);
	put_time(p, "lastModified", e->modified);
	put_text(p, "status", t[SN_REG_STATUS]);
	put_expires(p, e->v.expires);
	put_text(p, "guid", t[SN_REG_GUID]);
	put_text(p, "runtime", t[SN_REG_RUNTIME]);
	put_text(p, "p2pRequester", t[SN_REG_REQUESTER]);
	put_text(p, "p2pHandler", t[SN_REG_HANDLER]);
}

static void put_object(struct put *p, const struct sn_reg_entry *e)
{
	const struct sn_str *t = e->v.text;

	put_text(p, "schema", t[SN_REG_DESCRIPTOR]);
	put_text(p, "url", e->id);
	put_text(p, "reporter", t[SN_REG_REPORTER]);
	put_text(p, "name", t[SN_REG_NAME]);
	put_text(p, "status", t[SN_REG_STATUS]);
	put_time(p, "startingTime", e->started);
	put_raw(p, "resources", t[SN_REG_RESOURCES]);
	put_raw(p, "dataSchemes", t[SN_REG_SCHEMES]);
	put_time(p, "lastModified", e->modified);
	put_expires(p, e->v.expires);
	put_text(p, "runtime", t[SN_REG_RUNTIME]);
	put_text(p, "p2pRequester", t[SN_REG_REQUESTER]);
}

int sn__reg_put_entry(struct sn_buf *out, const struct sn_reg_entry *e)
{
	struct put p = {.out = out};

	if (e->kind == SN_REG_HYPERTY)
		put_hyperty(&p, e);
	else
		put_object(&p, e);
	return p.r < 0 ? p.r : sn__buf_append(out, "}", 1);
}

/* ---- paths ---- */

int sn__reg_segment(struct sn_str raw, struct sn_arena *arena, struct sn_str *ret_text)
{
	char *out = sn__arena_alloc(arena, raw.len + 1);
	size_t n;

	if (out == NULL)
		return SN_E_NOMEM;
	if (sn__percent_decode(raw, out, raw.len + 1, &n) < 0 || n > SN_REG_ID_MAX ||
			memchr(out, '\0', n) != NULL || !sn__utf8_valid((struct sn_str){out, n}))
		return SN_E_INVALID;
	*ret_text = (struct sn_str){out, n};
	return 0;
}
