/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_RETHINK_MESSAGE_H
#define SN_SRC_RETHINK_MESSAGE_H

/*
 * Internal. Messages of the registry connector without any I/O: what one asks of the registry, and
 * what the registry's answer says. Any thread; a plan is one thread's. docs/rethink.md.
 */

#include <sinew/rethink.h>
#include "base/arena.h"
#include "base/buf.h"
#include "proto/json_value.h"

#define SN_RETHINK_PATH_MAX 16000u /* bytes of a request target; more is answered with code 414 */
#define SN_RETHINK_OWNED_MAX 4096u /* hyperties of one owner that are asked one by one */
#define SN_RETHINK_ARENA_MAX ((size_t)128 << 20)

enum sn_rethink_method { SN_RETHINK_GET, SN_RETHINK_PUT, SN_RETHINK_DELETE };

enum sn_rethink_kind {
	SN_RETHINK_ANSWER, /* nothing is asked: `code` is the answer */
	SN_RETHINK_SILENT, /* and nothing is answered: a response */
	SN_RETHINK_WRITE,  /* create, delete: the status is the answer */
	SN_RETHINK_UPDATE, /* the same, and changes of status are told */
	SN_RETHINK_ONE,    /* read of one instance */
	SN_RETHINK_LIST,   /* read of a map of instances */
	SN_RETHINK_OWNER,  /* data objects of an owner: first its hyperties, a map, are asked for */
};

enum sn_rethink_value { SN_RETHINK_VALUE_AUTO, SN_RETHINK_VALUE_MAP, SN_RETHINK_VALUE_ARRAY };
enum sn_rethink_type { SN_RETHINK_TYPE_LOWER, SN_RETHINK_TYPE_UPPER, SN_RETHINK_TYPE_MIRROR };

/** Whether @domain can stand in an address. */
bool sn__rethink_domain_valid(struct sn_str domain);

/* How a connector was told to answer. */
struct sn_rethink_style {
	enum sn_rethink_value value;
	enum sn_rethink_type type;
	bool vertx;           /* node_compat: every code but 200 and 404 is 500 */
	struct sn_str domain; /* the provider's; empty: each message says it */
};

struct sn_rethink_words {
	struct sn_str *v;
	uint32_t n;
};

/* Slices lie in the message, in the arena, or in the two buffers. */
struct sn_rethink_plan {
	struct sn_str id, from, to; /* JSON, as they came; empty: none */
	bool upper;                 /* the type, if mirrored */
	bool bare;                  /* no message: the answer has a body only */
	enum sn_rethink_kind kind;
	unsigned code;
	enum sn_rethink_method method;
	bool hyperty;         /* status 408 means something */
	bool manual;          /* asked in a form of the manual: value_format auto gives an array */
	struct sn_str domain; /* of `to`; empty: unknown */
	struct sn_str scheme; /* keep data objects of this scheme only; empty: all */
	struct sn_rethink_words resources, schemes; /* keep instances that have all of these */
	struct sn_str query;          /* OWNER: what follows the reporter, "/do?..." or empty */
	struct sn_str single;         /* OWNER: the owner is a hyperty itself: no first step */
	struct sn_str target, status; /* UPDATE: of what, and what is told; empty: nothing */
	bool keep_alive;              /* UPDATE: told only when the registry says it changed */
};

/**
 * What @message asks. @url: the base URL stands in it, the path is appended (as it was when nothing
 * is asked); @body: emptied, then the JSON to put. Both get a NUL behind them that does not count.
 * A bad message is a plan with kind ANSWER. SN_E_NOMEM.
 */
SN_MUST_USE int sn__rethink_plan(struct sn_str message, const struct sn_rethink_style *style,
		struct sn_arena *arena, struct sn_buf *url, struct sn_buf *body,
		struct sn_rethink_plan *ret_plan);

/* The manual's functions, of which no message came. SN_E_INVALID (a text is empty, not UTF-8, too
 * long; @value is no object), SN_E_NOMEM. */
SN_MUST_USE int sn__rethink_plan_get(
		struct sn_str user, struct sn_buf *url, struct sn_rethink_plan *ret_plan);
SN_MUST_USE int sn__rethink_plan_add(struct sn_str user, struct sn_str hyperty, struct sn_str value,
		struct sn_arena *arena, struct sn_buf *url, struct sn_buf *body,
		struct sn_rethink_plan *ret_plan);
SN_MUST_USE int sn__rethink_plan_delete(struct sn_str user, struct sn_str hyperty,
		struct sn_buf *url, struct sn_rethink_plan *ret_plan);

/** Append GET /hyperty/dataobject/reporter/@hyperty and @query. SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__rethink_reporter(
		struct sn_str hyperty, struct sn_str query, struct sn_buf *url);

/* ---- JSON that sn__json_check_wide() has passed ---- */

static inline void sn_rethink_read(struct sn_json_pull *r, struct sn_str json)
{
	sn__json_begin_checked(r, json.len > 0 ? json : SN_STR(""));
	r->wide = true;
}

/** As sn__json_members(). */
SN_MUST_USE static inline int sn_rethink_members(
		struct sn_str json, struct sn_arena *arena, struct sn_json_members *ret_members)
{
	struct sn_json_pull r;

	sn_rethink_read(&r, json);
	return sn__json_read_members(&r, arena, ret_members);
}

/* ---- answers (answer.c) ---- */

/* What came of the HTTP request. */
struct sn_rethink_reply {
	const char *error; /* no complete answer: why; else NULL */
	unsigned status;
	struct sn_str body;
};

/** The response message for a request that ended (@reply NULL: none was made, plan->code counts),
 * appended to @out with a NUL that does not count. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__rethink_answer(const struct sn_rethink_plan *plan,
		const struct sn_rethink_style *style, const struct sn_rethink_reply *reply,
		struct sn_arena *arena, struct sn_buf *out);

/** The hyperties of the first step. 0; SN_E_STATE: the reply is the answer to the message already
 * (sn__rethink_answer() writes it); SN_E_NOMEM. */
SN_MUST_USE int sn__rethink_owner_hyperties(struct sn_rethink_plan *plan,
		const struct sn_rethink_reply *reply, struct sn_arena *arena,
		struct sn_rethink_words *ret_hyperties);
/** Members of the map @reply whose URL has the plan's scheme, appended to @found, an object
 * that lacks its last bracket. As above. */
SN_MUST_USE int sn__rethink_owner_objects(const struct sn_rethink_plan *plan,
		const struct sn_rethink_reply *reply, struct sn_arena *arena, struct sn_buf *found);

/** Every change of status in the answer to a poll. @fn: @url is text, @status a JSON string. 0; what
 * @fn returned; SN_E_STATE: the reply is no map; SN_E_NOMEM. */
typedef int sn_rethink_change_fn(struct sn_str url, struct sn_str status, void *arg);
SN_MUST_USE int sn__rethink_changes(const struct sn_rethink_reply *reply, struct sn_arena *arena,
		sn_rethink_change_fn *fn, void *arg);
/** Whether an update that was answered so is told. */
bool sn__rethink_update_told(const struct sn_rethink_plan *plan,
		const struct sn_rethink_reply *reply, struct sn_arena *arena);
/** The notification's message. @url: text; @status: a JSON string. As sn__rethink_answer(). */
SN_MUST_USE int sn__rethink_notification(uint64_t id, struct sn_str domain, struct sn_str url,
		struct sn_str status, struct sn_buf *out);

#endif
