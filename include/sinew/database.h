/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_DATABASE_H
#define SN_DATABASE_H

#ifndef SN_UNSTABLE
#error "sinew/database.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/resource.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Items of a database as plain JSON: the common operations of DynamoDB over sn_database_call(), with
 * its retries, breaker, limits and deadline. @name as there.
 *
 * Items, keys and values are JSON objects: text, number, true, null, array and object are DynamoDB's
 * S, N, BOOL, NULL, L and M. Numbers keep their digits on both ways. What JSON has no value for is
 * an object of one member:
 *
 *	{"$B": "AAEC"}           binary data, base64
 *	{"$SS": ["a", "b"]}      a set of texts
 *	{"$NS": [1, 2.50]}       a set of numbers
 *	{"$BS": ["AAEC"]}        a set of binary data
 *	{"$N": "1"}              a number given as text
 *
 * inside an item, not in its place. A map whose only member really has such a name is written with
 * one '$' more ({"$$B": ...}), so that every item comes back as it was stored. Nested deeper than
 * about 60 levels: SN_E_LIMIT.
 *
 * Threads: any. Callbacks run on the loop thread, exactly once, never before the call returned.
 */

struct sn_item_options {
	size_t size;                            /* sizeof(struct sn_item_options) */
	const struct sn_resource_options *call; /* of each request; may be NULL */
	bool consistent;                        /* get, query, scan: a strongly consistent read */
	bool descending;                        /* query: from the greatest sort key down */
	const char *projection;                 /* get, query, scan: ProjectionExpression */
	const char *condition;                  /* put, update, delete: ConditionExpression */
	const char *update;                     /* update: UpdateExpression */
	const char *return_values;              /* put, update, delete: "ALL_OLD", "ALL_NEW", ... */
	const char *index;                      /* query, scan: name of a secondary index */
	const char *key_condition;              /* query: KeyConditionExpression */
	const char *filter;                     /* query, scan: FilterExpression */
	const char *names;                      /* of "#x" in expressions: {"#x": "name"} */
	const char *values;                     /* of ":x" in expressions, plain JSON: {":x": 1} */
	const char *start;                      /* query, scan: what sn_items_position() gave */
	uint64_t limit;                         /* query, scan: of items in all; 0: none */
	uint32_t page_size; /* query, scan: items looked at for a page; 0: the service's 1 MB */
};
#define SN_ITEM_OPTIONS_INIT \
	{ \
		.size = sizeof(struct sn_item_options) \
	}

/**
 * The end of a call. @json: of get the item, of the others the attributes that return_values asked
 * for, plain JSON; "null" when there is none (such an item does not exist, or nothing was asked for);
 * NULL with @err. @res: as for sn_database_call(), the service's own form. Borrowed for the call.
 */
typedef void sn_item_fn(const char *json, const struct sn_result *res /* may be NULL */,
		const struct sn_error *err /* may be NULL */, void *arg);

/**
 * The item with this @key; write @item, over one with its key; change the item with this @key as
 * opts->update says; delete it. @opts may be NULL, but for update. @ret_id: for
 * sn_resource_cancel(). SN_E_INVALID (*ret_error says what: no JSON object, a value that is none),
 * SN_E_LIMIT, SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED: @fn is not called. It ends with SN_E_REJECTED
 * when the condition does not hold (the result's type is ConditionalCheckFailedException), with
 * SN_E_PROTOCOL when the answer holds no item.
 */
SN_API SN_MUST_USE int sn_database_get(struct sn_runtime *rt, const char *name, const char *key,
		const struct sn_item_options *opts, sn_item_fn *fn, void *arg,
		struct sn_call_id *ret_id /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);
SN_API SN_MUST_USE int sn_database_put(struct sn_runtime *rt, const char *name, const char *item,
		const struct sn_item_options *opts, sn_item_fn *fn, void *arg,
		struct sn_call_id *ret_id /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);
SN_API SN_MUST_USE int sn_database_update(struct sn_runtime *rt, const char *name, const char *key,
		const struct sn_item_options *opts, sn_item_fn *fn, void *arg,
		struct sn_call_id *ret_id /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);
SN_API SN_MUST_USE int sn_database_delete(struct sn_runtime *rt, const char *name, const char *key,
		const struct sn_item_options *opts, sn_item_fn *fn, void *arg,
		struct sn_call_id *ret_id /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);
/** The same, blocking. *ret_json (may be NULL: not wanted) is the caller's, freed with sn_free();
 * *ret_error, too. SN_E_DEADLK as sn_request_wait(). */
SN_API SN_MUST_USE int sn_database_get_wait(struct sn_runtime *rt, const char *name,
		const char *key, const struct sn_item_options *opts, char **ret_json,
		struct sn_error **ret_error /* may be NULL */);
SN_API SN_MUST_USE int sn_database_put_wait(struct sn_runtime *rt, const char *name,
		const char *item, const struct sn_item_options *opts, char **ret_json,
		struct sn_error **ret_error /* may be NULL */);
SN_API SN_MUST_USE int sn_database_update_wait(struct sn_runtime *rt, const char *name,
		const char *key, const struct sn_item_options *opts, char **ret_json,
		struct sn_error **ret_error /* may be NULL */);
SN_API SN_MUST_USE int sn_database_delete_wait(struct sn_runtime *rt, const char *name,
		const char *key, const struct sn_item_options *opts, char **ret_json,
		struct sn_error **ret_error /* may be NULL */);

/* ---- query and scan: page by page ---- */

/** Where a query or scan stands. One page is under way at most; between pages nothing is. */
struct sn_items;

/** Begin a query (opts->key_condition is needed) or a scan (@opts may be NULL): nothing is asked
 * yet. @opts and what it points to are copied. Ended with sn_items_destroy(). SN_E_INVALID,
 * SN_E_LIMIT, SN_E_NOMEM. */
SN_API SN_MUST_USE int sn_database_query(struct sn_runtime *rt, const char *name,
		const struct sn_item_options *opts, struct sn_items **ret_items,
		struct sn_error **ret_error /* may be NULL */);
SN_API SN_MUST_USE int sn_database_scan(struct sn_runtime *rt, const char *name,
		const struct sn_item_options *opts, struct sn_items **ret_items,
		struct sn_error **ret_error /* may be NULL */);

/** A page: @json: an array of @n items, maybe none though others follow (a filter dropped them all);
 * NULL with @err. Borrowed for the call. Inside, the next page may be asked for, or the end made. */
typedef void sn_items_fn(struct sn_items *items, const char *json, size_t n,
		const struct sn_error *err /* may be NULL */, void *arg);
/**
 * Ask for the next page. 1: @fn follows; 0: there are no more, and it does not. After an error the
 * next one is the same page again. SN_E_STATE (one is under way), SN_E_NOMEM, SN_E_CLOSED,
 * SN_E_FORKED: no @fn.
 */
SN_API SN_MUST_USE int sn_items_next(struct sn_items *items, sn_items_fn *fn, void *arg,
		struct sn_error **ret_error /* may be NULL */);
/** The same, blocking. With 1, *ret_json is the caller's, freed with sn_free(); *ret_n may be NULL.
 * SN_E_DEADLK as sn_request_wait(). */
SN_API SN_MUST_USE int sn_items_next_wait(struct sn_items *items, char **ret_json,
		size_t *ret_n /* may be NULL */, struct sn_error **ret_error /* may be NULL */);
/**
 * Where the next page begins, for opts->start of another query or scan, in this process or another:
 * a key as plain JSON, freed with sn_free(); "null" at the begin and at the end. SN_E_STATE (a page
 * is under way; a page was cut by opts->limit: its rest has no beginning), SN_E_NOMEM.
 */
SN_API SN_MUST_USE int sn_items_position(struct sn_items *items, char **ret_json);
/** The page under way ends with SN_E_CANCELLED unless it was quicker; it may be asked for again. */
SN_API void sn_items_cancel(struct sn_items *items);
/** A page under way is cancelled: its @fn still runs once, and must not use @items. After sn_close()
 * too. */
SN_API void sn_items_destroy(struct sn_items *items /* may be NULL */);

#ifdef __cplusplus
}
#endif
#endif /* SN_DATABASE_H */
