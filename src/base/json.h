/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_JSON_H
#define SN_SRC_BASE_JSON_H

/*
 * Internal. JSON documents on jansson: configuration, admin, small messages. Members keep their
 * order; of duplicate members the last wins. A json_t belongs to one thread at a time.
 */

#include <jansson.h>

#include <sinew/base.h>
#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

#define SN_JSON_DEPTH_MAX 64

/**
 * Any JSON value, nested at most SN_JSON_DEPTH_MAX deep. @max_size: of the text, bytes.
 * SN_E_PARSE (err: "line:column: what"), SN_E_LIMIT (size, depth), SN_E_NOMEM.
 */
SN_MUST_USE int sn__json_parse(struct sn_str text, size_t max_size, json_t **ret_json,
		struct sn_error *err /* may be NULL */);

/** Deep equality: order of members does not matter, order of items does, 1 equals 1.0, absent
 * differs from null. */
bool sn__json_equal(const json_t *a, const json_t *b);

/** Compact text, members in their order. SN_E_LIMIT, SN_E_NOMEM; then @out is as before. */
SN_MUST_USE int sn__json_dump(const json_t *json, struct sn_buf *out);
/** Compact text with a NUL; the caller frees it with sn__free(). NULL: out of memory. */
SN_MUST_USE char *sn__json_text(const json_t *json);
/** @s as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
SN_MUST_USE int sn__json_quote(struct sn_str s, struct sn_buf *out);

/** The shortest text that reads back as the finite @v, with a point or an exponent; @single: as a
 * float. */
SN_MUST_USE int sn__json_real(double v, bool single, struct sn_buf *out);

/** An object with the same members (shared), or NULL: out of memory. (jansson's json_copy() leaves
 * members out then.) */
json_t *sn__json_copy(const json_t *object);
/** Member of an object, or NULL (also when @json is no object or NULL). Borrowed. */
json_t *sn__json_get(const json_t *json /* may be NULL */, const char *name);
/** A string's text, or NULL for everything else. Borrowed. */
const char *sn__json_str(const json_t *json /* may be NULL */);
/** "an object", "a string", ..., for messages. */
const char *sn__json_kind(const json_t *json);

/** Names whose values are never shown: they contain SECRET, KEY, TOKEN or PASSWORD in any case, or
 * are "credentials". */
bool sn__is_secret_name(struct sn_str name);
/** A copy in which every member with a secret name that is not null is "***". SN_E_NOMEM. */
SN_MUST_USE int sn__json_redact(const json_t *json, json_t **ret_copy);

static inline void sn__json_cleanup_(json_t **json)
{
	json_decref(*json);
}
/* SN_AUTO_JSON json_t *j = NULL: one reference dropped at the end of the scope. */
#define SN_AUTO_JSON __attribute__((cleanup(sn__json_cleanup_)))

#endif
