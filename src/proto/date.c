/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/date.h"

struct parts {
	unsigned year, month, day, hour, minute, second;
};

/* Days since 1970 of a date in the Gregorian calendar (H. Hinnant's formula for years from 0 on). */
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
	int64_t era;
	unsigned yoe, doy;

	y -= m <= 2;
	era = y / 400;
	yoe = (unsigned)(y - era * 400);
	doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

static bool digits(const char *p, unsigned n, unsigned *ret_value)
{
	uint64_t v;

	if (sn__parse_u64((struct sn_str){p, n}, UINT32_MAX, &v) < 0)
		return false;
	*ret_value = (unsigned)v;
	return true;
}

static bool seconds_of(const struct parts *p, int64_t *ret_s)
{
	if (p->year < 1970 || p->month < 1 || p->month > 12 || p->day < 1 || p->day > 31 ||
			p->hour > 23 || p->minute > 59 || p->second > 60)
		return false;
	*ret_s = days_from_civil(p->year, p->month, p->day) * 86400 + p->hour * 3600 +
			p->minute * 60 + p->second;
	return true;
}

bool sn__date_http(struct sn_str text, int64_t *ret_s)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct parts p = {.month = 1};

	if (text.len != 29 || memcmp(text.ptr + 25, " GMT", 4) != 0)
		return false;
	if (!digits(text.ptr + 5, 2, &p.day) || !digits(text.ptr + 12, 4, &p.year) ||
			!digits(text.ptr + 17, 2, &p.hour) ||
			!digits(text.ptr + 20, 2, &p.minute) ||
			!digits(text.ptr + 23, 2, &p.second))
		return false;
	while (p.month <= 12 && memcmp(months + 3 * (p.month - 1), text.ptr + 8, 3) != 0)
		p.month++;
	return seconds_of(&p, ret_s);
}

bool sn__date_iso(struct sn_str text, int64_t *ret_s)
{
	static const char form[] = "....-..-..T..:..:..";
	struct parts p;
	struct sn_str rest;

	if (text.len < sizeof(form) - 1)
		return false;
	for (size_t i = 0; i < sizeof(form) - 1; i++) {
		if (form[i] != '.' && form[i] != text.ptr[i])
			return false;
	}
	if (!digits(text.ptr, 4, &p.year) || !digits(text.ptr + 5, 2, &p.month) ||
			!digits(text.ptr + 8, 2, &p.day) || !digits(text.ptr + 11, 2, &p.hour) ||
			!digits(text.ptr + 14, 2, &p.minute) ||
			!digits(text.ptr + 17, 2, &p.second))
		return false;
	rest = (struct sn_str){text.ptr + sizeof(form) - 1, text.len - (sizeof(form) - 1)};
	if (rest.len > 1 && rest.ptr[0] == '.') {
		do {
			rest.ptr++;
			rest.len--;
		} while (rest.len > 0 && rest.ptr[0] >= '0' && rest.ptr[0] <= '9');
	}
	if (!sn_str_eq(rest, SN_STR("Z")) && !sn_str_eq(rest, SN_STR("+00:00")))
		return false;
	return seconds_of(&p, ret_s);
}
