/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_RETHINK_REGISTRY_H
#define SN_SRC_DIALECT_RETHINK_REGISTRY_H

/*
 * Internal. The domain registry of reTHINK, what has no I/O: entries (hyperties and data objects), the
 * bodies that make and change them, filters, and JSON. registry_store.h keeps entries,
 * registry_http.c serves them. Any thread; an object is one thread's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

#define SN_REG_ID_MAX 2048         /* bytes of an identifier, decoded -> 400 */
#define SN_REG_TARGET_MAX 8192     /* bytes of a path with its query -> 414 */
#define SN_REG_BODY_MAX (1u << 20) /* bytes -> 413 */
#define SN_REG_ITEMS_MAX 256       /* elements of a list, members of a body -> 400 */
#define SN_REG_UPDATED_MAX 10000   /* entries of one /registry/updated; the rest comes next time */
#define SN_REG_ANSWER_MAX (64u << 20) /* bytes -> 500 */
#define SN_REG_EXPIRES_MAX 3600       /* seconds, unless told otherwise */

/* The members that a body gives, by what they are to an entry of either kind. Lists are JSON arrays of
 * strings, compact, escaped as sn__json_quote() does; all else is plain text. */
enum sn_reg_member {
	SN_REG_RESOURCES,
	SN_REG_SCHEMES,
	SN_REG_DESCRIPTOR, /* of data objects: schema */
	SN_REG_STATUS,
	SN_REG_RUNTIME,
	SN_REG_REQUESTER, /* p2pRequester */
	SN_REG_HANDLER,   /* p2pHandler; hyperties */
	SN_REG_GUID,      /* hyperties */
	SN_REG_NAME,      /* data objects */
	SN_REG_REPORTER,  /* data objects */
	SN_REG_MEMBERS,
};

struct sn_reg_values {
	struct sn_str text[SN_REG_MEMBERS]; /* ptr NULL: not there */
	int32_t expires;
	bool has_expires;
};

enum sn_reg_kind { SN_REG_HYPERTY, SN_REG_OBJECT };

/* An entry as a store gives it. Slices live until the function they are given to returns. */
struct sn_reg_entry {
	enum sn_reg_kind kind;
	struct sn_str id;          /* URL of the hyperty or data object */
	struct sn_str user;        /* hyperties */
	int64_t started, modified; /* seconds since 1970 */
	struct sn_reg_values v;    /* expires and the required ones are there */
};

/** Whether it is `disconnected`. */
bool sn__reg_is_gone(const struct sn_reg_entry *e);
/** Whether more seconds have passed than it said. */
static inline bool sn_reg_is_due(int64_t modified, int32_t expires, int64_t now)
{
	return now - modified > expires;
}
/** The e-mail of a user: what stands behind the last '/' (trailing ones do not count). */
struct sn_str sn__reg_email(struct sn_str user);

/* ---- bodies ---- */

enum sn_reg_body_form {
	SN_REG_EMPTY, /* {}: a keep-alive */
	SN_REG_SOME,
	SN_REG_WHOLE, /* all members are there that a create needs */
	SN_REG_ONLY_DESCRIPTOR,
};
/**
 * Read a body. *ret_values has what it says (nulls as if absent), copied into @arena. @create: a null
 * in a member that is required is an error, too. SN_E_INVALID (answer 400), SN_E_NOMEM (also the
 * arena's limit).
 */
SN_MUST_USE int sn__reg_body(enum sn_reg_kind kind, struct sn_str text, bool create,
		struct sn_arena *arena, struct sn_reg_values *ret_values,
		enum sn_reg_body_form *ret_form);
/** What a seed-era create with a descriptor only stands for (option `legacy-put`). */
void sn__reg_fill_legacy(struct sn_reg_values *values, int32_t expires);

/* ---- filters ---- */

struct sn_reg_filter {
	uint32_t n[2];           /* of resources, of data schemes */
	struct sn_str *items[2]; /* as they stand in a list's JSON, with quotes */
};
/** Read a query: `resources` and `dataSchemes`, nothing else, at least one. SN_E_NOT_FOUND (answer
 * 404), SN_E_INVALID (bad escape), SN_E_NOMEM. */
SN_MUST_USE int sn__reg_filter(
		struct sn_str query, struct sn_arena *arena, struct sn_reg_filter *ret_filter);
bool sn__reg_matches(const struct sn_reg_filter *f, const struct sn_reg_entry *e);

/* ---- JSON ---- */

/** Append the entry. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__reg_put_entry(struct sn_buf *out, const struct sn_reg_entry *e);
#define SN_REG_TIME_MAX 32
/** YYYY-MM-DDTHH:MM:SSZ with a NUL; returns its length. */
size_t sn__reg_time(int64_t s, char out[SN_REG_TIME_MAX]);

/** Decode one segment of a path into @arena: UTF-8 without NUL, at most SN_REG_ID_MAX bytes.
 * SN_E_INVALID (answer 400), SN_E_NOMEM. */
SN_MUST_USE int sn__reg_segment(struct sn_str raw, struct sn_arena *arena, struct sn_str *ret_text);

#endif
