/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/inject.h"

#include "base/json.h"
#include "proto/json_pull.h"

static int member_begin(struct sn_str name, struct sn_buf *out)
{
	int r = sn__json_quote(name, out);

	return r < 0 ? r : sn__buf_append(out, ":", 1);
}

/* The member of @key and the value at which the reader stands, unless it is the one that is set. */
static int member_copy(struct sn_json_pull *in, const struct sn_json_string *key,
		struct sn_str name, struct sn_buf *out)
{
	struct sn_str raw;
	int r = sn__json_skip(in, &raw);

	if (r < 0 || sn__json_string_is(*key, name))
		return r;
	r = sn__buf_append(out, ",\"", 2);
	if (r == 0)
		r = sn__buf_append_str(out, key->raw);
	if (r == 0)
		r = sn__buf_append(out, "\":", 2);
	return r < 0 ? r : sn__buf_append_str(out, raw);
}

/* Behind the value of the set member. */
static int others_copy(struct sn_json_pull *in, struct sn_str name, struct sn_buf *out)
{
	struct sn_json_string key;
	int r;

	if (sn__json_peek(in) != SN_JSON_OBJECT)
		return in->error != 0 ? in->error : SN_E_INVALID;
	r = sn__json_enter_object(in);
	while (r == 0) {
		r = sn__json_member(in, &key);
		if (r == 0)
			break;
		if (r > 0)
			r = member_copy(in, &key, name, out);
	}
	if (r == 0)
		r = sn__json_finish(in);
	return r < 0 ? r : sn__buf_append(out, "}", 1);
}

static int inject(struct sn_str json, struct sn_str name, struct sn_str value, bool is_text,
		struct sn_buf *out, size_t *ret_offset)
{
	size_t before = out->len;
	struct sn_json_pull in;
	int r = sn__buf_append(out, "{", 1);

	sn__json_begin(&in, json.len > 0 ? json : SN_STR(" "));
	in.wide = true;
	if (r == 0)
		r = member_begin(name, out);
	if (r == 0)
		r = is_text ? sn__json_quote(value, out) : sn__buf_append_str(out, value);
	if (r == 0)
		r = others_copy(&in, name, out);
	if (r < 0) {
		sn__buf_truncate(out, before);
		if (ret_offset != NULL)
			*ret_offset = sn_json_offset(&in);
	}
	return r;
}

int sn__inject(struct sn_str json, struct sn_str name, struct sn_str value, struct sn_buf *out,
		size_t *ret_offset)
{
	return inject(json, name, value, false, out, ret_offset);
}

int sn__inject_text(struct sn_str json, struct sn_str name, struct sn_str text, struct sn_buf *out,
		size_t *ret_offset)
{
	return inject(json, name, text, true, out, ret_offset);
}
