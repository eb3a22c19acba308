/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_JSON_PULL_H
#define SN_SRC_PROTO_JSON_PULL_H

/*
 * Internal. A strict JSON reader (RFC 8259) over one buffer: the caller asks for what it expects,
 * nothing is allocated, every value can be had as the bytes it was written in. Refused beyond the
 * grammar: text that is no UTF-8, \u0000 and lone surrogates (no text could hold them), more than
 * SN_JSON_PULL_DEPTH levels; a `wide` reader takes \u0000 and SN_JSON_PULL_WIDE levels. Of members with one name the last wins; the reader shows them all.
 *
 * Any thread; one reader is one thread's. After an error every call returns it again.
 *
 *	sn__json_begin(&r, text);
 *	if (sn__json_enter_object(&r) == 0)
 *		while ((rc = sn__json_member(&r, &key)) > 0)
 *			rc = sn__json_skip(&r, &raw);
 */

#include <stdint.h>
#include <string.h>

#include "base/str.h"

#define SN_JSON_PULL_DEPTH 64u
#define SN_JSON_PULL_WIDE 128u /* at most 128 */

enum sn_json_type {
	SN_JSON_ERROR, /* no value begins here */
	SN_JSON_NULL,
	SN_JSON_FALSE,
	SN_JSON_TRUE,
	SN_JSON_NUMBER,
	SN_JSON_STRING,
	SN_JSON_ARRAY,
	SN_JSON_OBJECT,
};

struct sn_json_pull {
	const char *p, *end, *begin;
	unsigned depth;
	bool comma;   /* a value stands before in this container */
	bool trusted; /* checked before: skipping only counts brackets */
	bool wide;    /* may be set once begun: for what is passed on and not kept as texts */
	int error;
};

/* What stands between the quotes. */
struct sn_json_string {
	struct sn_str raw;
	bool escaped; /* raw holds a backslash; else it is the text itself */
};

void sn__json_begin(struct sn_json_pull *r, struct sn_str text);
/** @text, or the value @text is a part of, has passed sn__json_check() or sn__json_skip(). */
void sn__json_begin_checked(struct sn_json_pull *r, struct sn_str text);
/** Type of the value that begins here; consumes white space only. */
enum sn_json_type sn__json_peek(struct sn_json_pull *r);
/** SN_E_PARSE (something else), SN_E_LIMIT (too deep). */
SN_MUST_USE int sn__json_enter_object(struct sn_json_pull *r);
SN_MUST_USE int sn__json_enter_array(struct sn_json_pull *r);
/** 1: a member, whose value must be read next; 0: the object has ended; negative: error. */
SN_MUST_USE int sn__json_member(struct sn_json_pull *r, struct sn_json_string *ret_key);
/** 1: an item, which must be read next; 0: the array has ended; negative: error. */
SN_MUST_USE int sn__json_item(struct sn_json_pull *r);
SN_MUST_USE int sn__json_string(struct sn_json_pull *r, struct sn_json_string *ret_string);
SN_MUST_USE int sn__json_number(struct sn_json_pull *r, struct sn_str *ret_text);
SN_MUST_USE int sn__json_bool(struct sn_json_pull *r, bool *ret_value);
SN_MUST_USE int sn__json_null(struct sn_json_pull *r);
/** Any value with all that is in it; *ret_raw (may be NULL) is how it was written. */
SN_MUST_USE int sn__json_skip(struct sn_json_pull *r, struct sn_str *ret_raw);
/** Nothing but white space is left. */
SN_MUST_USE int sn__json_finish(struct sn_json_pull *r);
/** Offset of the reader (of the error, after one). */
static inline size_t sn_json_offset(const struct sn_json_pull *r)
{
	return (size_t)(r->p - r->begin);
}

/** The whole of @text is one value. @ret_offset (may be NULL): of the error, on failure.
 * SN_E_PARSE, SN_E_LIMIT. */
SN_MUST_USE int sn__json_check(struct sn_str text, size_t *ret_offset);
/** As above, by a wide reader. */
SN_MUST_USE int sn__json_check_wide(struct sn_str text, size_t *ret_offset);

/* ---- what the parts mean (of text that was read without error) ---- */

/** Text of a string without its escapes; @out has room for s.raw.len bytes. Returns the length. No
 * NUL is added; one may be in it when the reader was wide. */
size_t sn__json_unescape(struct sn_json_string s, char *out);
bool sn__json_string_is(struct sn_json_string s, struct sn_str text);
/** Whether both are the same text, however escaped. */
bool sn__json_string_eq(struct sn_json_string a, struct sn_json_string b);
/** A number that is a whole one from 0 to @max, however written (1, 1.0, 10e-1). SN_E_PARSE,
 * SN_E_LIMIT. */
SN_MUST_USE int sn__json_uint(struct sn_str number, uint64_t max, uint64_t *ret_value);
/** Whether both are exactly the same number: 1, 1.0 and 10e-1 are. */
bool sn__json_number_eq(struct sn_str a, struct sn_str b);

/** How many of the eight bytes at @p, from the first, may stand in a string as they are and need no
 * look at what follows: printable ASCII but quote and backslash. Fewer than there are where the
 * machine's bytes are not in this order. */
static inline size_t sn_json_run(const char *p)
{
	const uint64_t each = UINT64_C(0x0101010101010101), top = each * 0x80;
	uint64_t w, not_plain;

	/* Each test sets the top bit of the bytes for which it holds (and perhaps of bytes above). */
	memcpy(&w, p, sizeof(w));
	not_plain = ((w - each * 0x20) | ((w ^ each * '"') - each) | ((w ^ each * '\\') - each) |
				    w) &
			top;
	if (not_plain == 0)
		return 8;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (size_t)__builtin_ctzll(not_plain) / 8;
#else
	return 0;
#endif
}

#endif
