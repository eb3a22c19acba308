/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/jsonrpc.h"

#include "proto/json_pull.h"
#include "proto/json_value.h"

const char *sn__jsonrpc_code_text(int code)
{
	switch (code) {
	case SN_JSONRPC_PARSE_ERROR:
		return "Parse error";
	case SN_JSONRPC_INVALID_REQUEST:
		return "Invalid Request";
	case SN_JSONRPC_METHOD_NOT_FOUND:
		return "Method not found";
	case SN_JSONRPC_INVALID_PARAMS:
		return "Invalid params";
	case SN_JSONRPC_INTERNAL_ERROR:
		return "Internal error";
	default:
		return "Server error";
	}
}

/* ---- splitting ---- */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Whether the value ends at @c. */
static bool scan(struct sn_jsonrpc_split *s, char c)
{
	if (s->in_string) {
		if (s->escaped)
			s->escaped = false;
		else if (c == '\\')
			s->escaped = true;
		else if (c == '"')
			s->in_string = false;
		return false;
	}
	switch (c) {
	case '"':
		s->in_string = true;
		return false;
	case '{':
	case '[':
		s->depth++;
		return false;
	case '}':
	case ']':
		return --s->depth == 0;
	default:
		return false;
	}
}

int sn__jsonrpc_next(struct sn_jsonrpc_split *split, struct sn_str bytes, size_t max,
		struct sn_str *ret_value, size_t *ret_used)
{
	while (split->scanned < bytes.len) {
		char c = bytes.ptr[split->scanned++];

		if (split->depth == 0) {
			if (is_space(c))
				continue;
			if (c != '{' && c != '[')
				return SN_E_PARSE;
			split->begin = split->scanned - 1;
		}
		if (split->scanned - split->begin > max)
			return SN_E_LIMIT;
		if (scan(split, c)) {
			*ret_value = (struct sn_str){
					bytes.ptr + split->begin, split->scanned - split->begin};
			*ret_used = split->scanned;
			*split = (struct sn_jsonrpc_split){0};
			return 1;
		}
	}
	return 0;
}

/* ---- reading ---- */

struct parts {
	struct sn_json_string version, method, message, token;
	struct sn_str error;
	enum sn_json_type id_type, params_type;
	bool has_id, has_method, has_result, has_error;
};

static int read_text(struct sn_json_pull *r, struct sn_json_string *ret_text)
{
	*ret_text = (struct sn_json_string){{NULL, 0}, false};
	if (sn__json_peek(r) != SN_JSON_STRING)
		return sn__json_skip(r, NULL);
	return sn__json_string(r, ret_text);
}

static int read_member(struct sn_json_pull *r, struct sn_json_string key, struct parts *p,
		struct sn_jsonrpc_message *m)
{
	if (sn__json_string_is(key, SN_STR("jsonrpc")))
		return read_text(r, &p->version);
	if (sn__json_string_is(key, SN_STR("method"))) {
		p->has_method = true;
		return read_text(r, &p->method);
	}
	if (sn__json_string_is(key, SN_STR("id"))) {
		p->has_id = true;
		p->id_type = sn__json_peek(r);
		return sn__json_skip(r, &m->id);
	}
	if (sn__json_string_is(key, SN_STR("params"))) {
		p->params_type = sn__json_peek(r);
		return sn__json_skip(r, &m->params);
	}
	if (sn__json_string_is(key, SN_STR("result"))) {
		p->has_result = true;
		return sn__json_skip(r, &m->result);
	}
	if (sn__json_string_is(key, SN_STR("error"))) {
		p->has_error = sn__json_peek(r) == SN_JSON_OBJECT;
		return sn__json_skip(r, &p->error);
	}
	if (sn__json_string_is(key, SN_STR("token")))
		return read_text(r, &p->token);
	return sn__json_skip(r, NULL);
}

static int read_code(struct sn_json_pull *r, int *ret_code)
{
	struct sn_str raw;
	bool minus;
	uint64_t value;
	int rc = sn__json_skip(r, &raw);

	if (rc < 0)
		return rc;
	minus = raw.len > 0 && raw.ptr[0] == '-';
	raw.ptr += minus;
	raw.len -= minus;
	if (raw.len > 0 && sn__parse_u64(raw, INT32_MAX, &value) == 0)
		*ret_code = minus ? -(int)value : (int)value;
	return 0;
}

static int read_error(struct sn_str text, struct parts *p, struct sn_jsonrpc_message *m)
{
	struct sn_json_string key;
	struct sn_json_pull r;
	int more;

	sn__json_begin_checked(&r, text);
	r.wide = true;
	more = sn__json_enter_object(&r);
	while (more >= 0 && (more = sn__json_member(&r, &key)) > 0) {
		if (sn__json_string_is(key, SN_STR("code")))
			more = read_code(&r, &m->code);
		else if (sn__json_string_is(key, SN_STR("message")))
			more = read_text(&r, &p->message);
		else if (sn__json_string_is(key, SN_STR("data")))
			more = sn__json_skip(&r, &m->data);
		else
			more = sn__json_skip(&r, NULL);
	}
	return more;
}

static enum sn_jsonrpc_kind kind_of(const struct parts *p, const struct sn_jsonrpc_message *m)
{
	if (!sn__json_string_is(p->version, SN_STR("2.0")))
		return SN_JSONRPC_INVALID;
	if (p->has_id && m->id.ptr == NULL)
		return SN_JSONRPC_INVALID;
	if (p->has_method) {
		if (p->method.raw.ptr == NULL)
			return SN_JSONRPC_INVALID;
		return p->has_id ? SN_JSONRPC_REQUEST : SN_JSONRPC_NOTIFICATION;
	}
	if (p->has_error && p->has_id)
		return SN_JSONRPC_ERROR;
	return p->has_result && p->has_id ? SN_JSONRPC_RESULT : SN_JSONRPC_INVALID;
}

int sn__jsonrpc_read(
		struct sn_str value, struct sn_buf *scratch, struct sn_jsonrpc_message *ret_message)
{
	struct sn_jsonrpc_message m = {0};
	struct sn_json_string key;
	struct sn_json_pull r;
	struct parts p = {0};
	int more;

	sn__buf_clear(scratch);
	if (sn__json_check_wide(value, NULL) < 0)
		return SN_E_PARSE;
	sn__json_begin_checked(&r, value);
	r.wide = true;
	*ret_message = m;
	if (sn__json_peek(&r) != SN_JSON_OBJECT)
		return 0;
	more = sn__json_enter_object(&r);
	while (more >= 0 && (more = sn__json_member(&r, &key)) > 0)
		more = read_member(&r, key, &p, &m);
	if (more < 0)
		return SN_E_PARSE;
	if (p.id_type != SN_JSON_STRING && p.id_type != SN_JSON_NUMBER && p.id_type != SN_JSON_NULL)
		m.id = (struct sn_str){NULL, 0};
	m.kind = kind_of(&p, &m);
	if (m.kind == SN_JSONRPC_ERROR) {
		m.error = p.error;
		more = read_error(p.error, &p, &m);
	}
	if (more == 0)
		more = sn__json_plain_in(p.method, value.len, scratch, &m.method);
	if (more == 0)
		more = sn__json_plain_in(p.message, value.len, scratch, &m.message);
	if (more == 0)
		more = sn__json_plain_in(p.token, value.len, scratch, &m.token);
	if (more == 0)
		*ret_message = m;
	return more;
}

/* ---- writing ---- */

static char *put(char *to, struct sn_str s)
{
	if (s.len > 0)
		memcpy(to, s.ptr, s.len);
	return to + s.len;
}

static int begin(struct sn_str id, size_t room, struct sn_buf *out, char **ret_begin, char **ret_to)
{
	int r = sn__buf_reserve(out, 64 + id.len + room, ret_begin);

	if (r < 0)
		return r;
	*ret_to = put(*ret_begin, SN_STR("{\"jsonrpc\":\"2.0\",\"id\":"));
	*ret_to = put(*ret_to, id.ptr != NULL ? id : SN_STR("null"));
	return 0;
}

static void finish(char *from, char *to, struct sn_buf *out)
{
	*to++ = '}';
	sn__buf_commit(out, (size_t)(to - from));
}

int sn__jsonrpc_write_result(struct sn_str id, struct sn_str result, struct sn_buf *out)
{
	char *from, *to;
	int r = begin(id, result.len, out, &from, &to);

	if (r < 0)
		return r;
	to = put(put(to, SN_STR(",\"result\":")), result);
	finish(from, to, out);
	return 0;
}

static char *put_int(char *to, int value)
{
	char digits[12];
	unsigned n = 0;
	unsigned long left = value < 0 ? 0ul - (unsigned long)value : (unsigned long)value;

	do {
		digits[n++] = (char)('0' + left % 10);
		left /= 10;
	} while (left > 0);
	if (value < 0)
		*to++ = '-';
	while (n > 0)
		*to++ = digits[--n];
	return to;
}

int sn__jsonrpc_write_error(struct sn_str id, int code, struct sn_str message, struct sn_str data,
		struct sn_buf *out)
{
	char *from, *to;
	int r = begin(id, 64 + 6 * message.len + data.len, out, &from, &to);

	if (r < 0)
		return r;
	to = put_int(put(to, SN_STR(",\"error\":{\"code\":")), code);
	to = put(to, SN_STR(",\"message\":"));
	to += sn__json_quote_to(message, to);
	if (data.ptr != NULL)
		to = put(put(to, SN_STR(",\"data\":")), data);
	*to++ = '}';
	finish(from, to, out);
	return 0;
}

int sn__jsonrpc_write_request(struct sn_str id, struct sn_str method, struct sn_str params,
		struct sn_str token, struct sn_buf *out)
{
	char *from, *to;
	int r = sn__buf_reserve(
			out, 96 + id.len + params.len + 6 * (method.len + token.len), &from);

	if (r < 0)
		return r;
	to = put(from, SN_STR("{\"jsonrpc\":\"2.0\""));
	if (id.ptr != NULL)
		to = put(put(to, SN_STR(",\"id\":")), id);
	if (params.ptr != NULL)
		to = put(put(to, SN_STR(",\"params\":")), params);
	to = put(to, SN_STR(",\"method\":"));
	to += sn__json_quote_to(method, to);
	if (token.ptr != NULL) {
		to = put(to, SN_STR(",\"token\":"));
		to += sn__json_quote_to(token, to);
	}
	finish(from, to, out);
	return 0;
}
