/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/microhome/core.h"

#include "proto/json_pull.h"

struct sn_str sn__mh_member(struct sn_str json, const char *name)
{
	struct sn_str found = {0}, raw;
	struct sn_json_string key;
	struct sn_json_pull pull;

	if (json.ptr == NULL)
		return found;
	sn__json_begin_checked(&pull, json);
	if (sn__json_peek(&pull) != SN_JSON_OBJECT || sn__json_enter_object(&pull) < 0)
		return found;
	while (sn__json_member(&pull, &key) > 0 && sn__json_skip(&pull, &raw) == 0) {
		if (sn__json_string_is(key, sn_str_from(name)))
			found = raw; /* the last counts */
	}
	return found;
}

struct sn_str sn__mh_text(struct sn_str json, struct sn_buf *scratch)
{
	static const struct sn_str none;
	struct sn_json_string text;
	struct sn_json_pull pull;
	char *room;

	if (json.ptr == NULL)
		return none;
	sn__json_begin_checked(&pull, json);
	if (sn__json_peek(&pull) != SN_JSON_STRING || sn__json_string(&pull, &text) < 0)
		return none;
	if (!text.escaped)
		return text.raw;
	sn__buf_clear(scratch);
	if (sn__buf_reserve(scratch, text.raw.len, &room) < 0)
		return none;
	sn__buf_commit(scratch, sn__json_unescape(text, room));
	return sn__buf_str(scratch);
}
