/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_STR_H
#define SN_SRC_BASE_STR_H

/* Internal. Text by pointer and length, and numbers read from it with every check. Any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <sinew/base.h>

struct sn_str {
	const char *ptr; /* not NUL-terminated; may be NULL when len is 0 */
	size_t len;
};

#define SN_STR(literal) ((struct sn_str){("" literal), sizeof(literal) - 1})

static inline struct sn_str sn_str_from(const char *s /* may be NULL */)
{
	return (struct sn_str){s, s != NULL ? strlen(s) : 0};
}

static inline bool sn_str_eq(struct sn_str a, struct sn_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline unsigned char sn_ascii_lower(unsigned char c)
{
	return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

/** ASCII case-insensitive equality. */
bool sn__str_ieq(struct sn_str a, struct sn_str b);

/** Bytes of the UTF-8 character at the beginning of @s (1 to 4); 0: none, or not well-formed. */
size_t sn__utf8_length(struct sn_str s);
bool sn__utf8_valid(struct sn_str s);

/** Decimal digits only, whole of @s, no sign or space; SN_E_PARSE or SN_E_LIMIT (above @max). */
SN_MUST_USE int sn__parse_u64(struct sn_str s, uint64_t max, uint64_t *ret_value);
/** As above, hexadecimal, either case. */
SN_MUST_USE int sn__parse_hex_u64(struct sn_str s, uint64_t max, uint64_t *ret_value);
/** "250ms", "5s", "2m", "1h"; a bare number is milliseconds. SN_E_PARSE, SN_E_LIMIT (over 2^53). */
SN_MUST_USE int sn__parse_duration_ms(struct sn_str s, uint64_t *ret_ms);
/** "64KiB", "10MB", "512", "1GiB". SN_E_PARSE, SN_E_LIMIT (over 2^53). */
SN_MUST_USE int sn__parse_size(struct sn_str s, uint64_t *ret_bytes);

/** The entry of NULL-terminated @names nearest to @word by edit distance (at most 3 and at most
 * half its length away), or NULL. Words over 64 bytes have no near name. */
const char *sn__nearest(const char *word, const char *const *names);

#endif
