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

int sn__mh_core_open(struct sn_loop *loop, const struct sn_mh_core_options *core,
		const struct sn_mh_client_options *client,
		const struct sn_mh_core_handler *handlers, void *arg,
		struct sn_mh_client **ret_client, struct sn_mh_server **ret_server,
		struct sn_error *err)
{
	const struct sn_mh_server_options server = {.id = client->id,
			.listen = core->listen,
			.version = core->version,
			.strict = core->strict,
			.no_keep = core->no_keep,
			.old_names = core->old_names,
			.security = core->security,
			.max_connections = core->max_connections};
	int r = sn__mh_client_create(loop, client, ret_client, err);

	if (r == 0)
		r = sn__mh_server_open(loop, &server, ret_server, err);
	if (r < 0)
		return r;
	for (; r == 0 && handlers->type != NULL; handlers++)
		r = sn__mh_server_on(*ret_server, sn_str_from(handlers->type), handlers->fn, arg);
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}
