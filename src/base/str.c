/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include "base/mem.h"

bool sn__str_ieq(struct sn_str a, struct sn_str b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++) {
		if (sn_ascii_lower((unsigned char)a.ptr[i]) !=
				sn_ascii_lower((unsigned char)b.ptr[i]))
			return false;
	}
	return true;
}

size_t sn__utf8_length(struct sn_str s)
{
	/* Limits of the second byte keep out surrogates, overlong forms and what lies above U+10FFFF. */
	unsigned char c, low = 0x80, high = 0xbf;
	size_t n;

	if (s.len == 0)
		return 0;
	c = (unsigned char)s.ptr[0];
	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	if (s.len < n || (unsigned char)s.ptr[1] < low || (unsigned char)s.ptr[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if (((unsigned char)s.ptr[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

bool sn__utf8_valid(struct sn_str s)
{
	while (s.len > 0) {
		size_t n = 8;
		uint64_t eight = UINT64_MAX;

		if (s.len >= n)
			memcpy(&eight, s.ptr, n);
		if ((eight & UINT64_C(0x8080808080808080)) != 0) /* else all of them are ASCII */
			n = (unsigned char)s.ptr[0] < 0x80 ? 1 : sn__utf8_length(s);
		if (n == 0)
			return false;
		s.ptr += n;
		s.len -= n;
	}
	return true;
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

static int parse_base(struct sn_str s, unsigned base, uint64_t max, uint64_t *ret_value)
{
	uint64_t v = 0;

	if (s.len == 0)
		return SN_E_PARSE;
	for (size_t i = 0; i < s.len; i++) {
		unsigned d = (unsigned)digit_of(s.ptr[i]);

		if (d >= base)
			return SN_E_PARSE;
		if (v > (UINT64_MAX - d) / base)
			return SN_E_LIMIT;
		v = v * base + d;
	}
	if (v > max)
		return SN_E_LIMIT;
	*ret_value = v;
	return 0;
}

int sn__parse_u64(struct sn_str s, uint64_t max, uint64_t *ret_value)
{
	return parse_base(s, 10, max, ret_value);
}

int sn__parse_hex_u64(struct sn_str s, uint64_t max, uint64_t *ret_value)
{
	return parse_base(s, 16, max, ret_value);
}

struct unit {
	const char *name;
	uint64_t factor;
};

static int parse_with_unit(struct sn_str s, const struct unit *units, uint64_t *ret_value)
{
	const uint64_t limit = UINT64_C(1) << 53;
	size_t digits = 0;
	uint64_t v;
	int r;

	while (digits < s.len && s.ptr[digits] >= '0' && s.ptr[digits] <= '9')
		digits++;
	r = sn__parse_u64((struct sn_str){s.ptr, digits}, limit, &v);
	if (r < 0)
		return r;
	for (const struct unit *u = units; u->name != NULL; u++) {
		struct sn_str rest = {s.ptr + digits, s.len - digits};

		if (!sn_str_eq(rest, sn_str_from(u->name)))
			continue;
		if (v > limit / u->factor)
			return SN_E_LIMIT;
		*ret_value = v * u->factor;
		return 0;
	}
	return SN_E_PARSE;
}

int sn__parse_duration_ms(struct sn_str s, uint64_t *ret_ms)
{
	static const struct unit units[] = {
			{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};

	return parse_with_unit(s, units, ret_ms);
}

int sn__parse_size(struct sn_str s, uint64_t *ret_bytes)
{
	static const struct unit units[] = {{"", 1}, {"B", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024},
			{"GiB", UINT64_C(1) << 30}, {"kB", 1000}, {"KB", 1000}, {"MB", 1000000},
			{"GB", 1000000000}, {NULL, 0}};

	return parse_with_unit(s, units, ret_bytes);
}

#define NEAREST_MAX 64

static size_t edit_distance(struct sn_str a, struct sn_str b)
{
	size_t row[NEAREST_MAX + 1];

	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t up = row[j];
			size_t cost = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);

			row[j] = SN_MIN(SN_MIN(up, row[j - 1]) + 1, cost);
			diagonal = up;
		}
	}
	return row[b.len];
}

const char *sn__nearest(const char *word, const char *const *names)
{
	struct sn_str w = sn_str_from(word);
	const char *best = NULL;
	size_t best_distance = SN_MIN((size_t)3, w.len / 2) + 1;

	if (w.len > NEAREST_MAX)
		return NULL;
	for (; *names != NULL; names++) {
		struct sn_str n = sn_str_from(*names);
		size_t d;

		if (n.len > NEAREST_MAX)
			continue;
		d = edit_distance(w, n);
		if (d < best_distance) {
			best_distance = d;
			best = *names;
		}
	}
	return best;
}
