/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/protobuf_known.h"

#include <stdlib.h>

#include "base/mem.h"

#define NANOS 1000000000
#define DAY 86400
#define TIMESTAMP_MIN INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define TIMESTAMP_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define DURATION_MAX INT64_C(315576000000)  /* 10,000 years */

/* ---- parts of seconds ---- */

/* Nothing, or ".123" with 3, 6 or 9 digits. */
static int put_fraction(int32_t nanos, struct sn_buf *out)
{
	if (nanos == 0)
		return 0;
	if (nanos % 1000000 == 0)
		return sn__buf_printf(out, ".%03d", nanos / 1000000);
	if (nanos % 1000 == 0)
		return sn__buf_printf(out, ".%06d", nanos / 1000);
	return sn__buf_printf(out, ".%09d", nanos);
}

static int read_digits(struct sn_str *in, size_t min, size_t max, int64_t *ret_value)
{
	int64_t v = 0;
	size_t n = 0;

	while (n < max && n < in->len && in->ptr[n] >= '0' && in->ptr[n] <= '9')
		v = v * 10 + (in->ptr[n++] - '0');
	if (n < min)
		return SN_E_PARSE;
	in->ptr += n;
	in->len -= n;
	*ret_value = v;
	return 0;
}

static bool take(struct sn_str *in, char c)
{
	if (in->len == 0 || in->ptr[0] != c)
		return false;
	in->ptr++;
	in->len--;
	return true;
}

static int read_fraction(struct sn_str *in, int32_t *ret_nanos)
{
	size_t before;
	int64_t v;
	int r;

	*ret_nanos = 0;
	if (!take(in, '.'))
		return 0;
	before = in->len;
	r = read_digits(in, 1, 9, &v);
	if (r < 0)
		return r;
	for (size_t n = before - in->len; n < 9; n++)
		v *= 10;
	*ret_nanos = (int32_t)v;
	return 0;
}

/* ---- timestamps ---- */

/* Days since 1970 of the first of March of @year's year, which begins in March so that the leap day
 * is its last. */
static int64_t days_before(int64_t year, int64_t month)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t m = month <= 2 ? month + 9 : month - 3; /* from March */

	return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 - 719468;
}

static int64_t days_in(int64_t year, int64_t month)
{
	return month == 12 ? 31 : days_before(year, month + 1) - days_before(year, month);
}

int sn__protobuf_timestamp_text(int64_t seconds, int32_t nanos, struct sn_buf *out)
{
	int64_t days, year, month = 1, rest;
	int r;

	if (seconds < TIMESTAMP_MIN || seconds > TIMESTAMP_MAX || nanos < 0 || nanos >= NANOS)
		return SN_E_PARSE;
	days = (seconds - TIMESTAMP_MIN) / DAY + days_before(1, 1); /* since 1970 */
	rest = (seconds - TIMESTAMP_MIN) % DAY;
	year = 1 + (days - days_before(1, 1)) / 366; /* at most the right one */
	while (days_before(year + 1, 1) <= days)
		year++;
	while (month < 12 && days_before(year, month + 1) <= days)
		month++;
	r = sn__buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d", (int)year, (int)month,
			(int)(days - days_before(year, month) + 1), (int)(rest / 3600),
			(int)(rest / 60 % 60), (int)(rest % 60));
	if (r == 0)
		r = put_fraction(nanos, out);
	return r < 0 ? r : sn__buf_puts(out, "Z");
}

/* "Z" or "+01:30", in seconds. */
static int read_zone(struct sn_str *in, int64_t *ret_offset)
{
	int64_t hours, minutes;
	int sign;

	*ret_offset = 0;
	if (take(in, 'Z'))
		return 0;
	sign = take(in, '-') ? -1 : 1;
	if (sign > 0 && !take(in, '+'))
		return SN_E_PARSE;
	if (read_digits(in, 2, 2, &hours) < 0 || !take(in, ':') ||
			read_digits(in, 2, 2, &minutes) < 0 || hours > 23 || minutes > 59)
		return SN_E_PARSE;
	*ret_offset = sign * (hours * 3600 + minutes * 60);
	return 0;
}

int sn__protobuf_timestamp_parse(struct sn_str text, int64_t *ret_seconds, int32_t *ret_nanos)
{
	int64_t year, month, day, hour, minute, second, zone;
	int32_t nanos;

	if (read_digits(&text, 4, 4, &year) < 0 || !take(&text, '-') ||
			read_digits(&text, 2, 2, &month) < 0 || !take(&text, '-') ||
			read_digits(&text, 2, 2, &day) < 0 || !take(&text, 'T'))
		return SN_E_PARSE;
	if (read_digits(&text, 2, 2, &hour) < 0 || !take(&text, ':') ||
			read_digits(&text, 2, 2, &minute) < 0 || !take(&text, ':') ||
			read_digits(&text, 2, 2, &second) < 0)
		return SN_E_PARSE;
	if (read_fraction(&text, &nanos) < 0 || read_zone(&text, &zone) < 0 || text.len > 0)
		return SN_E_PARSE;
	if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in(year, month) ||
			hour > 23 || minute > 59 || second > 59)
		return SN_E_PARSE;
	second += (days_before(year, month) + day - 1) * DAY + hour * 3600 + minute * 60 - zone;
	if (second < TIMESTAMP_MIN || second > TIMESTAMP_MAX)
		return SN_E_PARSE;
	*ret_seconds = second;
	*ret_nanos = nanos;
	return 0;
}

/* ---- durations ---- */

int sn__protobuf_duration_text(int64_t seconds, int32_t nanos, struct sn_buf *out)
{
	bool negative = seconds < 0 || nanos < 0;
	int r;

	if (seconds < -DURATION_MAX || seconds > DURATION_MAX || nanos <= -NANOS ||
			nanos >= NANOS || (negative && (seconds > 0 || nanos > 0)))
		return SN_E_PARSE;
	r = sn__buf_printf(out, "%s%lld", negative ? "-" : "",
			(long long)(negative ? -seconds : seconds));
	if (r == 0)
		r = put_fraction(negative ? -nanos : nanos, out);
	return r < 0 ? r : sn__buf_puts(out, "s");
}

int sn__protobuf_duration_parse(struct sn_str text, int64_t *ret_seconds, int32_t *ret_nanos)
{
	bool negative = take(&text, '-');
	int64_t seconds;
	int32_t nanos;

	if (read_digits(&text, 1, 18, &seconds) < 0 || read_fraction(&text, &nanos) < 0 ||
			!take(&text, 's') || text.len > 0)
		return SN_E_PARSE;
	if (seconds > DURATION_MAX)
		return SN_E_PARSE;
	*ret_seconds = negative ? -seconds : seconds;
	*ret_nanos = negative ? -nanos : nanos;
	return 0;
}

/* ---- paths of field masks ---- */

int sn__protobuf_path_text(struct sn_str path, struct sn_buf *out)
{
	bool upper = false;
	int r = 0;

	for (size_t i = 0; i < path.len && r == 0; i++) {
		char c = path.ptr[i];
		bool small = c >= 'a' && c <= 'z';

		if ((c >= 'A' && c <= 'Z') || (upper && !small))
			return SN_E_PARSE;
		if (c == '_')
			upper = true;
		else
			r = sn__buf_append(out, &(char){upper ? (char)(c - 32) : c}, 1);
		upper = c == '_';
	}
	return upper ? SN_E_PARSE : r;
}

int sn__protobuf_path_parse(struct sn_str text, struct sn_buf *out)
{
	int r = 0;

	for (size_t i = 0; i < text.len && r == 0; i++) {
		char c = text.ptr[i];

		if (c == '_')
			return SN_E_PARSE;
		if (c >= 'A' && c <= 'Z')
			r = sn__buf_append(out, (char[]){'_', (char)(c + 32)}, 2);
		else
			r = sn__buf_append(out, &c, 1);
	}
	return r;
}

/* ---- base64 ---- */

int sn__protobuf_base64_text(struct sn_str bytes, struct sn_buf *out)
{
	static const char digits[] =
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = (bytes.len / 3 + (bytes.len % 3 != 0 ? 1 : 0)) * 4;
	char *p;
	int r = sn__buf_reserve(out, n, &p);

	if (r < 0)
		return r;
	for (size_t i = 0; i < bytes.len; i += 3) {
		size_t left = SN_MIN(bytes.len - i, (size_t)3);
		uint32_t v = 0;

		for (size_t k = 0; k < left; k++)
			v |= (uint32_t)(unsigned char)bytes.ptr[i + k] << (16 - 8 * k);
		for (size_t k = 0; k < 4; k++)
			*p++ = k <= left ? digits[v >> (18 - 6 * k) & 63] : '=';
	}
	sn__buf_commit(out, n);
	return 0;
}

static int digit_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : -1;
}

int sn__protobuf_base64_parse(struct sn_str text, struct sn_buf *out)
{
	uint32_t v = 0;
	size_t n = 0;
	char *p;
	int r;

	if (text.len % 4 == 0 && text.len > 0 && text.ptr[text.len - 1] == '=')
		text.len -= text.ptr[text.len - 2] == '=' ? 2 : 1;
	if (text.len % 4 == 1)
		return SN_E_PARSE;
	r = sn__buf_reserve(out, text.len / 4 * 3 + 2, &p);
	if (r < 0)
		return r;
	for (size_t i = 0; i < text.len; i++) {
		int d = digit_of(text.ptr[i]);

		if (d < 0)
			return SN_E_PARSE;
		v = v << 6 | (uint32_t)d;
		if (i % 4 != 0)
			p[n++] = (char)(v >> (6 - 2 * (i % 4)));
	}
	sn__buf_commit(out, n);
	return 0;
}
