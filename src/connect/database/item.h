/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_DATABASE_ITEM_H
#define SN_SRC_CONNECT_DATABASE_ITEM_H

/*
 * Internal. Items as plain JSON and as DynamoDB writes them: string, number, true, null, array and
 * object are S, N, BOOL, NULL, L and M. Numbers keep their digits. What plain JSON has no value for is
 * an object of one member: {"$B": BASE64}, {"$SS": [TEXT, ...]}, {"$NS": [NUMBER, ...]}, {"$BS":
 * [BASE64, ...]}, and {"$N": TEXT} for a number that is none of JSON's. A map whose only member has
 * such a name has one '$' more in plain JSON, so that every item comes back as it was. Any thread;
 * nothing is allocated but in @out; levels as in proto/json_pull.h.
 */

#include "base/buf.h"
#include "base/error.h"
#include "proto/json_pull.h"

/**
 * Append to @out the item that the plain JSON object @json is: {"name": {"S": "x"}, ...}.
 * SN_E_INVALID (no object, or a "$" member with a wrong value), SN_E_PARSE, SN_E_LIMIT (levels,
 * @out), SN_E_NOMEM; then @out is as it was. *ret_offset (may be NULL): where in @json.
 */
SN_MUST_USE int sn__item_marshal(struct sn_str json, struct sn_buf *out, size_t *ret_offset);
/** The way back, of the item that @in stands at. SN_E_PROTOCOL: it is none. */
SN_MUST_USE int sn__item_unmarshal(struct sn_json_pull *in, struct sn_buf *out);

#endif
