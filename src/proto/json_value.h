/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_JSON_VALUE_H
#define SN_SRC_PROTO_JSON_VALUE_H

/*
 * Internal. Objects as lists of members, and equality of values, on JSON text that has been checked
 * (json_pull.h). Scratch memory comes from the caller's arena. Any thread.
 */

#include "base/arena.h"
#include "base/buf.h"
#include "proto/json_pull.h"

struct sn_json_member {
	struct sn_str key; /* unescaped; in the text or in the arena */
	struct sn_str raw; /* the value as written */
	enum sn_json_type type;
};
struct sn_json_members {
	struct sn_json_member *v;
	uint32_t n;
};

/** The members of the object @json in order of first appearance; of several with one name the last
 * value counts. SN_E_NOMEM (or the arena's limit), SN_E_PARSE (no object). */
SN_MUST_USE int sn__json_members(
		struct sn_str json, struct sn_arena *arena, struct sn_json_members *ret_members);
/** As above, the object at which @r stands; it is checked on the way unless the reader trusts it. */
SN_MUST_USE int sn__json_read_members(struct sn_json_pull *r, struct sn_arena *arena,
		struct sn_json_members *ret_members);
/** Find members of one name among @n keys of @stride bytes apart: *ret_twin[i] (in the arena) is the
 * first member with the same key, i itself for a first one; NULL when all differ. SN_E_NOMEM. */
SN_MUST_USE int sn__json_twins(const struct sn_str *keys, size_t stride, uint32_t n,
		struct sn_arena *arena, uint32_t **ret_twin);
/** A key or text without escapes, in place or in the arena. SN_E_NOMEM. */
SN_MUST_USE int sn__json_plain(
		struct sn_json_string s, struct sn_arena *arena, struct sn_str *ret_text);
/** The same in place or at the end of @scratch. Of one document (@room: its length) several texts may
 * be taken; @scratch is empty before the first, and none moves. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__json_plain_in(struct sn_json_string s, size_t room, struct sn_buf *scratch,
		struct sn_str *ret_text);
/** Member called @key, or NULL; linear. */
const struct sn_json_member *sn__json_members_get(
		const struct sn_json_members *m, struct sn_str key);

/** Deep equality: order of members irrelevant, order of items relevant, 1 equals 1.0, null differs
 * from absent. SN_E_NOMEM. */
SN_MUST_USE int sn__json_text_equal(
		struct sn_str a, struct sn_str b, struct sn_arena *arena, bool *ret_equal);

/** @text as a JSON string with its quotes into @out, which has room for 6 * text.len + 2 bytes. Returns
 * the length. */
size_t sn__json_quote_to(struct sn_str text, char *out);

#endif
