/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/json_value.h"

#include <stdlib.h>

#include "base/map.h"
#include "base/mem.h"

#define FEW_MEMBERS 16 /* compared with each other; more go through a table */

/* ---- members ---- */

int sn__json_plain(struct sn_json_string s, struct sn_arena *arena, struct sn_str *ret_text)
{
	char *copy;

	if (!s.escaped) {
		*ret_text = s.raw;
		return 0;
	}
	copy = sn__arena_alloc(arena, s.raw.len);
	if (copy == NULL)
		return SN_E_NOMEM;
	*ret_text = (struct sn_str){copy, sn__json_unescape(s, copy)};
	return 0;
}

static int push(struct sn_json_members *m, uint32_t *cap, const struct sn_json_member *member,
		struct sn_arena *arena)
{
	if (m->n == *cap) {
		uint32_t more = *cap != 0 ? *cap * 2 : 8;
		struct sn_json_member *v;

		if (more > UINT32_MAX / 4)
			return SN_E_LIMIT;
		v = sn__arena_alloc(arena, more * sizeof(*v));
		if (v == NULL)
			return SN_E_NOMEM;
		if (m->n > 0)
			memcpy(v, m->v, m->n * sizeof(*v));
		m->v = v;
		*cap = more;
	}
	m->v[m->n++] = *member;
	return 0;
}

static const struct sn_str *key_at(const struct sn_str *keys, size_t stride, uint32_t i)
{
	return (const struct sn_str *)(const void *)((const char *)keys + i * stride);
}

static bool few_differ(const struct sn_str *keys, size_t stride, uint32_t n)
{
	for (uint32_t j = 1; j < n; j++) {
		for (uint32_t i = 0; i < j; i++) {
			if (sn_str_eq(*key_at(keys, stride, i), *key_at(keys, stride, j)))
				return false;
		}
	}
	return true;
}

int sn__json_twins(const struct sn_str *keys, size_t stride, uint32_t n, struct sn_arena *arena,
		uint32_t **ret_twin)
{
	uint32_t *table, *twin = NULL, cap = 32;

	*ret_twin = NULL;
	if (n <= FEW_MEMBERS && few_differ(keys, stride, n))
		return 0;
	while (cap < n * 2)
		cap *= 2;
	table = sn__arena_zalloc(arena, cap * sizeof(*table));
	if (table == NULL)
		return SN_E_NOMEM;
	for (uint32_t j = 0; j < n; j++) {
		const struct sn_str *key = key_at(keys, stride, j);
		uint32_t slot = (uint32_t)sn__hash(*key) & (cap - 1);

		while (table[slot] != 0 && !sn_str_eq(*key_at(keys, stride, table[slot] - 1), *key))
			slot = (slot + 1) & (cap - 1);
		if (table[slot] == 0) {
			table[slot] = j + 1;
			if (twin != NULL)
				twin[j] = j;
			continue;
		}
		if (twin == NULL) { /* the first pair */
			twin = sn__arena_alloc(arena, n * sizeof(*twin));
			if (twin == NULL)
				return SN_E_NOMEM;
			for (uint32_t i = 0; i < j; i++)
				twin[i] = i;
		}
		twin[j] = table[slot] - 1;
	}
	*ret_twin = twin;
	return 0;
}

/* Of members with one name the last one's value takes the first one's place. */
static int drop_doubles(struct sn_json_members *m, struct sn_arena *arena)
{
	uint32_t *twin, n = 0;
	int rc;

	if (m->n == 0)
		return 0;
	rc = sn__json_twins(&m->v[0].key, sizeof(m->v[0]), m->n, arena, &twin);
	if (rc < 0 || twin == NULL)
		return rc;
	for (uint32_t i = 0; i < m->n; i++) {
		m->v[twin[i]].raw = m->v[i].raw;
		m->v[twin[i]].type = m->v[i].type;
	}
	for (uint32_t i = 0; i < m->n; i++) {
		if (twin[i] == i)
			m->v[n++] = m->v[i];
	}
	m->n = n;
	return 0;
}

int sn__json_read_members(
		struct sn_json_pull *r, struct sn_arena *arena, struct sn_json_members *ret_members)
{
	struct sn_json_members m = {NULL, 0};
	struct sn_json_string key;
	uint32_t cap = 0;
	int rc = sn__json_enter_object(r);

	while (rc == 0 && (rc = sn__json_member(r, &key)) > 0) {
		struct sn_json_member member = {.type = sn__json_peek(r)};

		rc = sn__json_skip(r, &member.raw);
		if (rc == 0)
			rc = sn__json_plain(key, arena, &member.key);
		if (rc == 0)
			rc = push(&m, &cap, &member, arena);
		if (rc < 0)
			return rc;
	}
	if (rc == 0)
		rc = drop_doubles(&m, arena);
	if (rc == 0)
		*ret_members = m;
	return rc;
}

int sn__json_members(
		struct sn_str json, struct sn_arena *arena, struct sn_json_members *ret_members)
{
	struct sn_json_pull r;

	sn__json_begin_checked(&r, json);
	return sn__json_read_members(&r, arena, ret_members);
}

int sn__json_plain_in(struct sn_json_string s, size_t room, struct sn_buf *scratch,
		struct sn_str *ret_text)
{
	char *to;
	size_t n;
	int r = 0;

	if (!s.escaped) {
		*ret_text = s.raw;
		return 0;
	}
	if (scratch->len == 0)
		r = sn__buf_reserve(scratch, room, &to);
	if (r == 0)
		r = sn__buf_reserve(scratch, s.raw.len, &to);
	if (r < 0)
		return r;
	n = sn__json_unescape(s, to);
	sn__buf_commit(scratch, n);
	*ret_text = (struct sn_str){to, n};
	return 0;
}

const struct sn_json_member *sn__json_members_get(
		const struct sn_json_members *m, struct sn_str key)
{
	for (uint32_t i = 0; i < m->n; i++) {
		if (sn_str_eq(m->v[i].key, key))
			return &m->v[i];
	}
	return NULL;
}

/* ---- equality ---- */

static int equal(struct sn_str a, struct sn_str b, struct sn_arena *arena, bool *ret_equal);

static int by_key(const void *pa, const void *pb)
{
	const struct sn_json_member *a = pa, *b = pb;
	size_t n = SN_MIN(a->key.len, b->key.len);
	int c = n > 0 ? memcmp(a->key.ptr, b->key.ptr, n) : 0;

	return c != 0 ? c : (a->key.len > b->key.len) - (a->key.len < b->key.len);
}

static bool same_order(const struct sn_json_members *a, const struct sn_json_members *b)
{
	for (uint32_t i = 0; i < a->n; i++) {
		if (!sn_str_eq(a->v[i].key, b->v[i].key))
			return false;
	}
	return true;
}

static int equal_objects(struct sn_str a, struct sn_str b, struct sn_arena *arena, bool *ret_equal)
{
	struct sn_json_members ma, mb;
	int rc = sn__json_members(a, arena, &ma);

	if (rc == 0)
		rc = sn__json_members(b, arena, &mb);
	if (rc < 0)
		return rc;
	*ret_equal = ma.n == mb.n;
	if (*ret_equal && !same_order(&ma, &mb)) {
		qsort(ma.v, ma.n, sizeof(*ma.v), by_key);
		qsort(mb.v, mb.n, sizeof(*mb.v), by_key);
		*ret_equal = same_order(&ma, &mb);
	}
	for (uint32_t i = 0; *ret_equal && i < ma.n; i++) {
		rc = equal(ma.v[i].raw, mb.v[i].raw, arena, ret_equal);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int equal_arrays(struct sn_str a, struct sn_str b, struct sn_arena *arena, bool *ret_equal)
{
	struct sn_json_pull ra, rb;
	struct sn_str va, vb;
	int na, nb, rc;

	sn__json_begin_checked(&ra, a);
	sn__json_begin_checked(&rb, b);
	if (sn__json_enter_array(&ra) < 0 || sn__json_enter_array(&rb) < 0)
		return SN_E_PARSE;
	for (;;) {
		na = sn__json_item(&ra);
		nb = sn__json_item(&rb);
		*ret_equal = na == nb;
		if (na < 0 || nb < 0)
			return SN_E_PARSE;
		if (na != nb || na == 0)
			return 0;
		if (sn__json_skip(&ra, &va) < 0 || sn__json_skip(&rb, &vb) < 0)
			return SN_E_PARSE;
		rc = equal(va, vb, arena, ret_equal);
		if (rc < 0 || !*ret_equal)
			return rc;
	}
}

static int equal(struct sn_str a, struct sn_str b, struct sn_arena *arena, bool *ret_equal)
{
	struct sn_json_pull ra, rb;
	struct sn_json_string sa, sb;
	struct sn_str na, nb;
	enum sn_json_type type;

	*ret_equal = sn_str_eq(a, b);
	if (*ret_equal)
		return 0;
	sn__json_begin_checked(&ra, a);
	sn__json_begin_checked(&rb, b);
	type = sn__json_peek(&ra);
	if (type != sn__json_peek(&rb))
		return 0;
	switch (type) {
	case SN_JSON_NULL:
	case SN_JSON_FALSE:
	case SN_JSON_TRUE:
		*ret_equal = true;
		return 0;
	case SN_JSON_NUMBER:
		if (sn__json_number(&ra, &na) < 0 || sn__json_number(&rb, &nb) < 0)
			return SN_E_PARSE;
		*ret_equal = sn__json_number_eq(na, nb);
		return 0;
	case SN_JSON_STRING:
		if (sn__json_string(&ra, &sa) < 0 || sn__json_string(&rb, &sb) < 0)
			return SN_E_PARSE;
		*ret_equal = sn__json_string_eq(sa, sb);
		return 0;
	case SN_JSON_ARRAY:
		return equal_arrays(a, b, arena, ret_equal);
	case SN_JSON_OBJECT:
		return equal_objects(a, b, arena, ret_equal);
	default:
		return SN_E_PARSE;
	}
}

int sn__json_text_equal(struct sn_str a, struct sn_str b, struct sn_arena *arena, bool *ret_equal)
{
	bool same = false;
	int rc = equal(a, b, arena, &same);

	if (rc == 0)
		*ret_equal = same;
	return rc;
}

/* ---- quoting ---- */

size_t sn__json_quote_to(struct sn_str text, char *out)
{
	static const char hex[] = "0123456789abcdef";
	static const char to[] = "btn-fr"; /* 8 to 13; 11 has no short form */
	size_t n = 0;

	out[n++] = '"';
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c;

		while (text.len - i > 8) {
			size_t run = sn_json_run(text.ptr + i);

			memcpy(out + n, text.ptr + i, 8);
			n += run;
			i += run;
			if (run < 8)
				break;
		}
		c = (unsigned char)text.ptr[i];
		if (c >= 0x20 && c != '"' && c != '\\') {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '\\';
		if (c >= 0x20) {
			out[n++] = (char)c;
		} else if (c >= 8 && c <= 13 && c != 11) {
			out[n++] = to[c - 8];
		} else {
			memcpy(out + n, "u00", 3);
			out[n + 3] = hex[c >> 4];
			out[n + 4] = hex[c & 15];
			n += 5;
		}
	}
	out[n++] = '"';
	return n;
}
