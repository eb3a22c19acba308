/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_DATABASE_ITEMS_H
#define SN_SRC_CONNECT_DATABASE_ITEMS_H

/* Internal. What the calls of sinew/database.h are made of: DynamoDB's parameters from options and
 * plain JSON, plain JSON from its answers. Any thread. */

#include <sinew/database.h>
#include "base/buf.h"
#include "base/error.h"

enum sn_item_verb {
	SN_ITEM_GET,
	SN_ITEM_PUT,
	SN_ITEM_UPDATE,
	SN_ITEM_DELETE,
	SN_ITEM_QUERY,
	SN_ITEM_SCAN
};
#define SN_ITEM_PARAMS_MAX ((size_t)32 << 20)

/** "GetItem", ... */
const char *sn__item_operation(enum sn_item_verb verb);
/** @opts as this version knows them; NULL: none. SN_E_INVALID. */
SN_MUST_USE int sn__item_options(const struct sn_item_options *opts /* may be NULL */,
		struct sn_item_options *ret_opts, struct sn_error *err);
/**
 * Append the members of the parameters, "{..." without the '}' at the end: what @opts say for @verb,
 * and the item or key @json (NULL: none). SN_E_INVALID: err says what; SN_E_LIMIT, SN_E_NOMEM.
 */
SN_MUST_USE int sn__item_params(enum sn_item_verb verb, const char *json /* may be NULL */,
		const struct sn_item_options *opts, struct sn_buf *out, struct sn_error *err);
/** Append the plain JSON of the item or attributes that the answer @json to @verb holds, "null" for
 * none. SN_E_PROTOCOL, SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__item_answer(enum sn_item_verb verb, struct sn_str json, struct sn_buf *out);

/* A page of a query or scan. */
struct sn_item_page {
	struct sn_buf json;  /* [ITEM, ...], plain */
	uint64_t n;          /* items in it */
	struct sn_str start; /* ExclusiveStartKey of the next page as it came; a part of the answer;
	                      * empty: there is none */
	bool cut;            /* items were left out */
};
/** @page->json is initialised and empty. @max: items; further ones are left out. SN_E_PROTOCOL,
 * SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__item_page(struct sn_str answer, uint64_t max, struct sn_item_page *page);

#endif
