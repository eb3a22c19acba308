/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/json_pull.h"

static int fail(struct sn_json_pull *r, int code)
{
	if (r->error == 0)
		r->error = code;
	return r->error;
}

static inline void space(struct sn_json_pull *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
		r->p++;
}

void sn__json_begin(struct sn_json_pull *r, struct sn_str text)
{
	*r = (struct sn_json_pull){.p = text.ptr,
			.begin = text.ptr,
			.end = text.ptr + text.len,
			.trusted = false};
}

void sn__json_begin_checked(struct sn_json_pull *r, struct sn_str text)
{
	sn__json_begin(r, text);
	r->trusted = true;
}

enum sn_json_type sn__json_peek(struct sn_json_pull *r)
{
	space(r);
	if (r->error != 0 || r->p == r->end)
		return SN_JSON_ERROR;
	switch (*r->p) {
	case '{':
		return SN_JSON_OBJECT;
	case '[':
		return SN_JSON_ARRAY;
	case '"':
		return SN_JSON_STRING;
	case 'n':
		return SN_JSON_NULL;
	case 't':
		return SN_JSON_TRUE;
	case 'f':
		return SN_JSON_FALSE;
	default:
		return *r->p == '-' || (*r->p >= '0' && *r->p <= '9') ? SN_JSON_NUMBER
								      : SN_JSON_ERROR;
	}
}

/* ---- scanners of single values: from *p, which they move ---- */

static int hex4(const char *p, const char *end, unsigned *ret)
{
	unsigned v = 0;

	if (end - p < 4)
		return SN_E_PARSE;
	for (int i = 0; i < 4; i++) {
		unsigned c = (unsigned char)p[i];
		unsigned d = c - '0';

		if (d > 9) {
			d = (c | 32) - 'a' + 10;
			if (d < 10 || d > 15)
				return SN_E_PARSE;
		}
		v = v * 16 + d;
	}
	*ret = v;
	return 0;
}

/* At the backslash. Length of the escape, or 0. */
static size_t escape_len(const char *p, const char *end, bool wide)
{
	unsigned u, low;

	if (end - p < 2)
		return 0;
	if (p[1] != 'u')
		return p[1] != '\0' && strchr("\"\\/bfnrt", p[1]) != NULL ? 2 : 0;
	if (hex4(p + 2, end, &u) < 0 || (u == 0 && !wide) || (u >= 0xdc00 && u <= 0xdfff))
		return 0;
	if (u < 0xd800 || u > 0xdbff)
		return 6;
	if (end - p < 8 || p[6] != '\\' || p[7] != 'u' || hex4(p + 8, end, &low) < 0)
		return 0;
	return low >= 0xdc00 && low <= 0xdfff ? 12 : 0;
}

static bool is_tail(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/* Length of the UTF-8 sequence at p (not ASCII), or 0: no overlong forms, no surrogates, nothing
 * over U+10FFFF. */
static size_t utf8_len(const char *s, const char *end)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t left = (size_t)(end - s);

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		return left >= 2 && is_tail(p[1]) ? 2 : 0;
	if ((p[0] & 0xf0) == 0xe0) {
		if (left < 3 || !is_tail(p[1]) || !is_tail(p[2]) || (p[0] == 0xe0 && p[1] < 0xa0) ||
				(p[0] == 0xed && p[1] > 0x9f))
			return 0;
		return 3;
	}
	if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		if (left < 4 || !is_tail(p[1]) || !is_tail(p[2]) || !is_tail(p[3]) ||
				(p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
			return 0;
		return 4;
	}
	return 0;
}

/* At the opening quote. */
static int scan_string(struct sn_json_pull *r, struct sn_json_string *ret)
{
	const char *p = r->p + 1, *begin = p;
	bool escaped = false;

	for (;;) {
		size_t n = 8;

		for (; n == 8 && r->end - p >= 8; p += n)
			n = sn_json_run(p);
		r->p = p;
		n = 1;
		if (p == r->end)
			return fail(r, SN_E_PARSE);
		if (*p == '"')
			break;
		if (*p == '\\') {
			n = escape_len(p, r->end, r->wide);
			escaped = true;
		} else if ((unsigned char)*p >= 0x80) {
			n = utf8_len(p, r->end);
		} else if ((unsigned char)*p < 0x20) {
			n = 0;
		}
		if (n == 0)
			return fail(r, SN_E_PARSE);
		p += n;
	}
	ret->raw = (struct sn_str){begin, (size_t)(p - begin)};
	ret->escaped = escaped;
	r->p = p + 1;
	r->comma = true;
	return 0;
}

static const char *digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

static int scan_number(struct sn_json_pull *r, struct sn_str *ret)
{
	const char *p = r->p, *q;

	if (p < r->end && *p == '-')
		p++;
	q = digits(p, r->end);
	if (q == p || (*p == '0' && q - p > 1))
		return fail(r, SN_E_PARSE);
	if (q < r->end && *q == '.') {
		p = q + 1;
		q = digits(p, r->end);
		if (q == p)
			return fail(r, SN_E_PARSE);
	}
	if (q < r->end && (*q == 'e' || *q == 'E')) {
		p = q + 1;
		if (p < r->end && (*p == '+' || *p == '-'))
			p++;
		q = digits(p, r->end);
		if (q == p)
			return fail(r, SN_E_PARSE);
	}
	*ret = (struct sn_str){r->p, (size_t)(q - r->p)};
	r->p = q;
	r->comma = true;
	return 0;
}

static int scan_word(struct sn_json_pull *r, struct sn_str word)
{
	if ((size_t)(r->end - r->p) < word.len || memcmp(r->p, word.ptr, word.len) != 0)
		return fail(r, SN_E_PARSE);
	r->p += word.len;
	r->comma = true;
	return 0;
}

/* ---- pulling ---- */

static int enter(struct sn_json_pull *r, enum sn_json_type type)
{
	if (r->error != 0)
		return r->error;
	if (sn__json_peek(r) != type)
		return fail(r, SN_E_PARSE);
	if (r->depth == (r->wide ? SN_JSON_PULL_WIDE : SN_JSON_PULL_DEPTH))
		return fail(r, SN_E_LIMIT);
	r->depth++;
	r->p++;
	r->comma = false;
	return 0;
}

int sn__json_enter_object(struct sn_json_pull *r)
{
	return enter(r, SN_JSON_OBJECT);
}

int sn__json_enter_array(struct sn_json_pull *r)
{
	return enter(r, SN_JSON_ARRAY);
}

/* 0: the container has ended; 1: something must follow. */
static int next(struct sn_json_pull *r, char close)
{
	if (r->error != 0)
		return r->error;
	space(r);
	if (r->p == r->end || r->depth == 0)
		return fail(r, SN_E_PARSE);
	if (*r->p == close) {
		r->p++;
		r->depth--;
		r->comma = true;
		return 0;
	}
	if (r->comma) {
		if (*r->p != ',')
			return fail(r, SN_E_PARSE);
		r->p++;
		space(r);
	}
	return 1;
}

int sn__json_member(struct sn_json_pull *r, struct sn_json_string *ret_key)
{
	int n = next(r, '}');

	if (n <= 0)
		return n;
	if (r->p == r->end || *r->p != '"')
		return fail(r, SN_E_PARSE);
	if (scan_string(r, ret_key) < 0)
		return r->error;
	space(r);
	if (r->p == r->end || *r->p != ':')
		return fail(r, SN_E_PARSE);
	r->p++;
	r->comma = false;
	return 1;
}

int sn__json_item(struct sn_json_pull *r)
{
	int n = next(r, ']');

	if (n > 0)
		r->comma = false;
	return n;
}

int sn__json_string(struct sn_json_pull *r, struct sn_json_string *ret_string)
{
	if (sn__json_peek(r) != SN_JSON_STRING)
		return fail(r, SN_E_PARSE);
	return scan_string(r, ret_string);
}

int sn__json_number(struct sn_json_pull *r, struct sn_str *ret_text)
{
	if (sn__json_peek(r) != SN_JSON_NUMBER)
		return fail(r, SN_E_PARSE);
	return scan_number(r, ret_text);
}

int sn__json_bool(struct sn_json_pull *r, bool *ret_value)
{
	enum sn_json_type type = sn__json_peek(r);
	int rc;

	if (type != SN_JSON_TRUE && type != SN_JSON_FALSE)
		return fail(r, SN_E_PARSE);
	rc = scan_word(r, type == SN_JSON_TRUE ? SN_STR("true") : SN_STR("false"));
	if (rc == 0)
		*ret_value = type == SN_JSON_TRUE;
	return rc;
}

int sn__json_null(struct sn_json_pull *r)
{
	if (sn__json_peek(r) != SN_JSON_NULL)
		return fail(r, SN_E_PARSE);
	return scan_word(r, SN_STR("null"));
}

static int scan_scalar(struct sn_json_pull *r)
{
	struct sn_json_string s;
	struct sn_str text;

	switch (sn__json_peek(r)) {
	case SN_JSON_STRING:
		return scan_string(r, &s);
	case SN_JSON_NUMBER:
		return scan_number(r, &text);
	case SN_JSON_TRUE:
		return scan_word(r, SN_STR("true"));
	case SN_JSON_FALSE:
		return scan_word(r, SN_STR("false"));
	case SN_JSON_NULL:
		return scan_word(r, SN_STR("null"));
	default:
		return fail(r, SN_E_PARSE);
	}
}

static void level_set(uint64_t *bits, unsigned level, bool on)
{
	uint64_t bit = UINT64_C(1) << (level % 64);

	bits[level / 64] = on ? bits[level / 64] | bit : bits[level / 64] & ~bit;
}

static bool level_is(const uint64_t *bits, unsigned level)
{
	return (bits[level / 64] >> (level % 64) & 1) != 0;
}

/* One value, checked. Containers are entered and left without recursion; which kind each level is
 * stands in the bits of @objects, a level a bit. */
static int skip_checking(struct sn_json_pull *r)
{
	const unsigned outer = r->depth;
	uint64_t objects[SN_JSON_PULL_WIDE / 64] = {0};

	for (;;) {
		enum sn_json_type type = sn__json_peek(r);
		int n;

		if (type == SN_JSON_OBJECT || type == SN_JSON_ARRAY) {
			if (enter(r, type) < 0)
				return r->error;
			level_set(objects, r->depth - 1, type == SN_JSON_OBJECT);
		} else if (scan_scalar(r) < 0) {
			return r->error;
		}
		do {
			struct sn_json_string key;

			if (r->depth == outer)
				return 0;
			n = level_is(objects, r->depth - 1) ? sn__json_member(r, &key)
							    : sn__json_item(r);
			if (n < 0)
				return n;
		} while (n == 0);
	}
}

/* At the opening quote of a checked string: behind the closing one. */
static const char *string_end(const char *p, const char *end)
{
	for (p++; p < end; p++) {
		for (size_t n = 8; n == 8 && end - p >= 8; p += n)
			n = sn_json_run(p);
		if (p < end && *p == '"')
			return p + 1;
		if (p < end && *p == '\\')
			p++;
	}
	return end;
}

/* One value of checked text: only strings and brackets matter. */
static void skip_trusting(struct sn_json_pull *r)
{
	const char *p = r->p;
	unsigned depth = 0;

	do {
		while (p < r->end && depth > 0 && *p != '"' && *p != '{' && *p != '[' &&
				*p != '}' && *p != ']')
			p++;
		if (p >= r->end)
			break;
		if (*p == '"') {
			p = string_end(p, r->end);
		} else if (*p == '{' || *p == '[') {
			depth++;
			p++;
		} else if (*p == '}' || *p == ']') {
			depth--;
			p++;
		} else {
			while (p < r->end && strchr(",]} \n\r\t", *p) == NULL)
				p++;
		}
	} while (depth > 0);
	r->p = p;
	r->comma = true;
}

int sn__json_skip(struct sn_json_pull *r, struct sn_str *ret_raw)
{
	const char *begin;

	if (r->error != 0)
		return r->error;
	space(r);
	begin = r->p;
	if (!r->trusted) {
		if (skip_checking(r) < 0)
			return r->error;
	} else {
		if (sn__json_peek(r) == SN_JSON_ERROR)
			return fail(r, SN_E_PARSE);
		skip_trusting(r);
	}
	if (ret_raw != NULL)
		*ret_raw = (struct sn_str){begin, (size_t)(r->p - begin)};
	return 0;
}

int sn__json_finish(struct sn_json_pull *r)
{
	if (r->error != 0)
		return r->error;
	space(r);
	return r->p == r->end && r->depth == 0 ? 0 : fail(r, SN_E_PARSE);
}

static int check(struct sn_str text, bool wide, size_t *ret_offset)
{
	struct sn_json_pull r;
	int rc;

	sn__json_begin(&r, text);
	r.wide = wide;
	rc = sn__json_skip(&r, NULL);
	if (rc == 0)
		rc = sn__json_finish(&r);
	if (rc < 0 && ret_offset != NULL)
		*ret_offset = sn_json_offset(&r);
	return rc;
}

int sn__json_check(struct sn_str text, size_t *ret_offset)
{
	return check(text, false, ret_offset);
}

int sn__json_check_wide(struct sn_str text, size_t *ret_offset)
{
	return check(text, true, ret_offset);
}

/* ---- texts ---- */

static size_t put_utf8(unsigned u, char *out)
{
	if (u < 0x80) {
		out[0] = (char)u;
		return 1;
	}
	if (u < 0x800) {
		out[0] = (char)(0xc0 | u >> 6);
		out[1] = (char)(0x80 | (u & 0x3f));
		return 2;
	}
	if (u < 0x10000) {
		out[0] = (char)(0xe0 | u >> 12);
		out[1] = (char)(0x80 | (u >> 6 & 0x3f));
		out[2] = (char)(0x80 | (u & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | u >> 18);
	out[1] = (char)(0x80 | (u >> 12 & 0x3f));
	out[2] = (char)(0x80 | (u >> 6 & 0x3f));
	out[3] = (char)(0x80 | (u & 0x3f));
	return 4;
}

/* Next piece of a string's text: a plain byte or one escape. Moves *p; returns bytes in out[4]. */
static size_t piece(const char **p, const char *end, char *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	unsigned u = 0, low = 0;
	size_t n;

	if (**p != '\\') {
		out[0] = *(*p)++;
		return 1;
	}
	n = escape_len(*p, end, true);
	if (n == 2) {
		out[0] = to[strchr(from, (*p)[1]) - from];
		*p += 2;
		return 1;
	}
	if (n == 0) { /* not text that was read without error */
		*p = end;
		return 0;
	}
	(void)hex4(*p + 2, end, &u);
	if (n == 12) {
		(void)hex4(*p + 8, end, &low);
		u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
	}
	*p += n;
	return put_utf8(u, out);
}

size_t sn__json_unescape(struct sn_json_string s, char *out)
{
	const char *p = s.raw.ptr, *end = p + s.raw.len;
	size_t n = 0;

	if (!s.escaped) {
		if (s.raw.len > 0)
			memcpy(out, s.raw.ptr, s.raw.len);
		return s.raw.len;
	}
	while (p < end) {
		char bytes[4];
		size_t k = piece(&p, end, bytes);

		memcpy(out + n, bytes, k);
		n += k;
	}
	return n;
}

bool sn__json_string_eq(struct sn_json_string a, struct sn_json_string b)
{
	const char *pa = a.raw.ptr, *ea;
	const char *pb = b.raw.ptr, *eb;
	char bytes_a[4], bytes_b[4];
	size_t na = 0, nb = 0, ia = 0, ib = 0;

	if ((!a.escaped && !b.escaped) || a.raw.len == 0 || b.raw.len == 0)
		return sn_str_eq(a.raw, b.raw);
	ea = pa + a.raw.len;
	eb = pb + b.raw.len;
	for (;;) {
		if (ia == na) {
			ia = 0;
			na = pa < ea ? piece(&pa, ea, bytes_a) : 0;
		}
		if (ib == nb) {
			ib = 0;
			nb = pb < eb ? piece(&pb, eb, bytes_b) : 0;
		}
		if (na == 0 || nb == 0)
			return na == nb;
		if (bytes_a[ia++] != bytes_b[ib++])
			return false;
	}
}

bool sn__json_string_is(struct sn_json_string s, struct sn_str text)
{
	/* A backslash in @text would be read as an escape: compare unescaped against plain. */
	const char *p = s.raw.ptr, *end;
	size_t i = 0;

	if (!s.escaped) /* it may be null */
		return sn_str_eq(s.raw, text);
	end = p + s.raw.len;
	while (p < end) {
		char bytes[4];
		size_t n = piece(&p, end, bytes);

		if (text.len - i < n || memcmp(text.ptr + i, bytes, n) != 0)
			return false;
		i += n;
	}
	return i == text.len;
}

/* ---- numbers ---- */

/* A number as 0.DIGITS x 10^scale, leading and trailing zeros of DIGITS cut. The digits stand in the
 * number's own text, perhaps with a point among them. */
struct decimal {
	const char *p, *end;
	int64_t scale; /* of an exponent beyond the range: its limit */
	bool negative;
};

static int64_t exponent(const char *p, const char *end)
{
	const int64_t limit = INT64_C(1) << 60;
	bool negative = p < end && *p == '-';
	int64_t e = 0;

	if (p < end && (*p == '-' || *p == '+'))
		p++;
	for (; p < end && e < limit / 16; p++)
		e = e * 10 + (*p - '0');
	return negative ? -e : e;
}

static struct decimal decimal(struct sn_str s)
{
	struct decimal d = {.p = s.ptr, .end = s.ptr + s.len, .negative = *s.ptr == '-'};
	const char *e = d.end, *point = NULL;

	for (const char *q = s.ptr; q < s.ptr + s.len; q++) {
		if (*q == '.')
			point = q;
		if (*q == 'e' || *q == 'E') {
			e = q;
			break;
		}
	}
	if (e < d.end)
		d.scale = exponent(e + 1, d.end);
	d.end = e;
	d.p += d.negative;
	d.scale += (point != NULL ? point : d.end) - d.p;
	while (d.p < d.end && (*d.p == '0' || *d.p == '.')) {
		d.scale -= *d.p == '0';
		d.p++;
	}
	while (d.end > d.p && (d.end[-1] == '0' || d.end[-1] == '.'))
		d.end--;
	if (d.p == d.end) { /* zero has one form, and no sign */
		d.scale = 0;
		d.negative = false;
	}
	return d;
}

bool sn__json_number_eq(struct sn_str a, struct sn_str b)
{
	struct decimal da, db;

	if (sn_str_eq(a, b))
		return true;
	da = decimal(a);
	db = decimal(b);
	if (da.scale != db.scale || da.negative != db.negative)
		return false;
	for (;;) {
		if (da.p < da.end && *da.p == '.')
			da.p++;
		if (db.p < db.end && *db.p == '.')
			db.p++;
		if (da.p == da.end || db.p == db.end)
			return da.p == da.end && db.p == db.end;
		if (*da.p++ != *db.p++)
			return false;
	}
}

int sn__json_uint(struct sn_str number, uint64_t max, uint64_t *ret_value)
{
	struct decimal d;
	uint64_t v = 0;
	int64_t left;

	if (number.len > 0 && number.len < 20 &&
			digits(number.ptr, number.ptr + number.len) == number.ptr + number.len)
		return sn__parse_u64(number, max, ret_value);
	d = decimal(number);
	if (d.negative)
		return SN_E_PARSE;
	left = d.scale;
	if (left > 20)
		return SN_E_LIMIT;
	for (; d.p < d.end; d.p++) {
		if (*d.p == '.')
			continue;
		if (left-- <= 0)
			return SN_E_PARSE; /* digits behind the point */
		if (v > (UINT64_MAX - (uint64_t)(*d.p - '0')) / 10)
			return SN_E_LIMIT;
		v = v * 10 + (uint64_t)(*d.p - '0');
	}
	for (; left > 0 && v > 0; left--) {
		if (v > UINT64_MAX / 10)
			return SN_E_LIMIT;
		v *= 10;
	}
	if (v > max)
		return SN_E_LIMIT;
	*ret_value = v;
	return 0;
}
