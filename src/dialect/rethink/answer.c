/* SPDX-License-Identifier: Apache-2.0 */

/* From the registry's reply to the answer of the message. Values pass through as they were written,
 * on one line. */

#include <stdlib.h>

#include "dialect/rethink/message.h"
#include "proto/http.h"
#include "base/json.h"
#include "base/mem.h"

#define NO_CONTACT "Error contacting the domain registry."

/* ---- what the answer says ---- */

struct said {
	unsigned code;
	struct sn_str description;         /* JSON string; empty: none */
	struct sn_str value;               /* JSON; empty: none */
	const struct sn_json_member *list; /* instead: the members of a map or array */
	uint32_t n;
	bool has_list, as_array;
};

static bool is_json(struct sn_str body)
{
	return body.len > 0 && sn__json_check_wide(body, NULL) == 0;
}

static int reason(unsigned status, struct sn_arena *arena, struct sn_str *ret)
{
	const char *text = sn__http_reason(status);
	size_t n;
	char *out;

	if (text[0] == '\0')
		text = "Unknown Status";
	n = strlen(text);
	out = sn__arena_alloc(arena, n + 2);
	if (out == NULL)
		return SN_E_NOMEM;
	out[0] = out[n + 1] = '"';
	memcpy(out + 1, text, n);
	*ret = (struct sn_str){out, n + 2};
	return 0;
}

static int say(struct said *said, unsigned code, struct sn_arena *arena)
{
	*said = (struct said){.code = code};
	return reason(code, arena, &said->description);
}

/* ---- lists ---- */

static struct sn_str raw_of(const struct sn_json_members *m, const char *name)
{
	const struct sn_json_member *found = sn__json_members_get(m, sn_str_from(name));

	return found != NULL ? found->raw : (struct sn_str){NULL, 0};
}

/* Whether the array @raw of strings has @word. */
static bool array_has(struct sn_str raw, struct sn_str word)
{
	struct sn_json_pull r;
	struct sn_json_string s;
	int rc;

	sn_rethink_read(&r, raw);
	if (raw.len == 0 || sn__json_peek(&r) != SN_JSON_ARRAY)
		return false;
	rc = sn__json_enter_array(&r);
	while (rc == 0 && (rc = sn__json_item(&r)) > 0) {
		if (sn__json_peek(&r) != SN_JSON_STRING) {
			rc = sn__json_skip(&r, NULL);
			continue;
		}
		rc = sn__json_string(&r, &s);
		if (rc == 0 && sn__json_string_is(s, word))
			return true;
	}
	return false;
}

static bool has_all(struct sn_str raw, const struct sn_rethink_words *words)
{
	for (uint32_t i = 0; i < words->n; i++)
		if (!array_has(raw, words->v[i]))
			return false;
	return true;
}

static bool raw_is(struct sn_str raw, struct sn_str text)
{
	struct sn_json_pull r;
	struct sn_json_string s;

	sn_rethink_read(&r, raw);
	return raw.len > 0 && sn__json_peek(&r) == SN_JSON_STRING && sn__json_string(&r, &s) == 0 &&
			sn__json_string_is(s, text);
}

/* Whether the URL's scheme is @scheme; context and ctxt are the same. */
static bool of_scheme(struct sn_str url, struct sn_str scheme)
{
	static const struct sn_str context = {"context", 7}, ctxt = {"ctxt", 4};
	struct sn_str own = {url.ptr, 0};

	while (own.len + 3 <= url.len && memcmp(url.ptr + own.len, "://", 3) != 0)
		own.len++;
	if (own.len + 3 > url.len)
		return false;
	if (sn__str_ieq(own, context))
		own = ctxt;
	return sn__str_ieq(own, sn__str_ieq(scheme, context) ? ctxt : scheme);
}

/* Whether the plan wants this member; *ret_dead: it is disconnected. */
static int wanted(const struct sn_rethink_plan *plan, const struct sn_json_member *member,
		struct sn_arena *arena, bool *ret_wanted, bool *ret_dead)
{
	struct sn_json_members m = {NULL, 0};
	int r = 0;

	*ret_wanted = plan->scheme.len == 0 || of_scheme(member->key, plan->scheme);
	*ret_dead = false;
	if (!*ret_wanted || (plan->resources.n == 0 && plan->schemes.n == 0))
		return 0;
	if (member->type == SN_JSON_OBJECT)
		r = sn_rethink_members(member->raw, arena, &m);
	if (r < 0)
		return r;
	*ret_wanted = has_all(raw_of(&m, "resources"), &plan->resources) &&
			has_all(raw_of(&m, "dataSchemes"), &plan->schemes);
	*ret_dead = raw_is(raw_of(&m, "status"), SN_STR("disconnected"));
	return 0;
}

static int by_url(const void *pa, const void *pb)
{
	const struct sn_json_member *a = pa, *b = pb;
	int c = memcmp(a->key.ptr, b->key.ptr, SN_MIN(a->key.len, b->key.len));

	return c != 0 ? c : (a->key.len > b->key.len) - (a->key.len < b->key.len);
}

/* A map of instances: what the plan keeps of it, in the form that is wanted. */
static int say_list(const struct sn_rethink_plan *plan, bool as_array, struct sn_str map,
		struct sn_arena *arena, struct said *said)
{
	bool picky = plan->resources.n > 0 || plan->schemes.n > 0;
	struct sn_json_members m;
	uint32_t n = 0, n_dead = 0;
	int r = sn_rethink_members(map, arena, &m);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < m.n; i++) {
		bool yes, dead;

		r = wanted(plan, &m.v[i], arena, &yes, &dead);
		if (r < 0)
			return r;
		if (yes)
			m.v[n++] = m.v[i];
		n_dead += yes && dead;
	}
	if (n == 0 && (picky || plan->scheme.len > 0))
		return say(said, 404, arena);
	if (as_array && n > 1)
		qsort(m.v, n, sizeof(*m.v), by_url);
	if (picky)
		said->code = n_dead == n ? 408 : 200;
	said->list = m.v;
	said->n = n;
	said->has_list = true;
	said->as_array = as_array;
	return 0;
}

/* ---- replies ---- */

static bool is_list(const struct sn_rethink_plan *plan)
{
	return plan->kind != SN_RETHINK_ONE;
}

static bool as_array(const struct sn_rethink_plan *plan, const struct sn_rethink_style *style)
{
	return style->value == SN_RETHINK_VALUE_ARRAY ||
			(style->value == SN_RETHINK_VALUE_AUTO && plan->manual && is_list(plan));
}

static enum sn_json_type kind_of(struct sn_str json)
{
	struct sn_json_pull r;

	sn_rethink_read(&r, json);
	return sn__json_peek(&r);
}

/* 200, or 408 where it means that all are disconnected. */
static int say_found(const struct sn_rethink_plan *plan, const struct sn_rethink_style *style,
		const struct sn_rethink_reply *reply, struct sn_arena *arena, struct said *said)
{
	bool array = as_array(plan, style);
	struct sn_json_member *one;
	int r = 0;

	if (!is_json(reply->body))
		return say(said, 502, arena);
	*said = (struct said){.code = reply->status, .value = reply->body};
	if (plan->kind == SN_RETHINK_OWNER && kind_of(reply->body) != SN_JSON_OBJECT)
		return say(said, 502, arena);
	if (is_list(plan) && kind_of(reply->body) == SN_JSON_OBJECT &&
			(array || plan->scheme.len > 0 || plan->resources.n > 0 ||
					plan->schemes.n > 0)) {
		r = say_list(plan, array, reply->body, arena, said);
	} else if (!is_list(plan) && array) {
		one = sn__arena_zalloc(arena, sizeof(*one));
		if (one == NULL)
			return SN_E_NOMEM;
		one->raw = reply->body;
		*said = (struct said){.code = reply->status,
				.list = one,
				.n = 1,
				.has_list = true,
				.as_array = true};
	}
	if (said->code == 408)
		said->description = SN_STR("\"Temporarily Unavailable\"");
	return r;
}

/* Any other status: the registry's own words, else what the status is called. */
static int say_other(
		const struct sn_rethink_reply *reply, struct sn_arena *arena, struct said *said)
{
	struct sn_json_members m;
	struct sn_str message;
	int r;

	*said = (struct said){.code = reply->status};
	if (is_json(reply->body) && kind_of(reply->body) == SN_JSON_OBJECT) {
		r = sn_rethink_members(reply->body, arena, &m);
		if (r < 0)
			return r;
		message = raw_of(&m, "message");
		if (message.len > 0 && message.ptr[0] == '"') {
			said->description = message;
			return 0;
		}
	}
	return reason(reply->status, arena, &said->description);
}

static int say_all(const struct sn_rethink_plan *plan, const struct sn_rethink_style *style,
		const struct sn_rethink_reply *reply, struct sn_arena *arena, struct said *said)
{
	*said = (struct said){.code = 504, .description = SN_STR("\"" NO_CONTACT "\"")};
	if (reply == NULL)
		return say(said, plan->code, arena);
	if (reply->error != NULL)
		return 0;
	if (plan->kind == SN_RETHINK_WRITE || plan->kind == SN_RETHINK_UPDATE) {
		*said = (struct said){.code = reply->status};
		return 0;
	}
	if (reply->status == 200 || (reply->status == 408 && plan->hyperty))
		return say_found(plan, style, reply, arena, said);
	return say_other(reply, arena, said);
}

/* ---- writing ---- */

/* Whether one of the eight bytes is below ' '. */
static bool has_break(const char *p)
{
	uint64_t x;

	memcpy(&x, p, sizeof(x));
	return ((x - UINT64_C(0x2020202020202020)) & ~x & UINT64_C(0x8080808080808080)) != 0;
}

/* JSON on one line: what breaks lines can only stand between its parts. */
static int put_raw(struct sn_buf *out, struct sn_str raw)
{
	char *space;
	size_t i = 0;
	int r = sn__buf_reserve(out, raw.len, &space);

	if (r < 0 || raw.len == 0)
		return r;
	memcpy(space, raw.ptr, raw.len);
	while (i < raw.len) {
		if (raw.len - i >= 8 && !has_break(space + i)) {
			i += 8;
			continue;
		}
		for (size_t end = SN_MIN(i + 8, raw.len); i < end; i++)
			if ((unsigned char)space[i] < ' ')
				space[i] = ' ';
	}
	sn__buf_commit(out, raw.len);
	return 0;
}

static int put_member(struct sn_buf *out, const char *before, struct sn_str raw)
{
	int r;

	if (raw.len == 0)
		return 0;
	r = sn__buf_puts(out, before);
	return r < 0 ? r : put_raw(out, raw);
}

static int put_list(struct sn_buf *out, const struct said *said)
{
	int r = sn__buf_append(out, said->as_array ? "[" : "{", 1);

	for (uint32_t i = 0; r == 0 && i < said->n; i++) {
		if (i > 0)
			r = sn__buf_append(out, ",", 1);
		if (r == 0 && !said->as_array)
			r = sn__json_quote(said->list[i].key, out);
		if (r == 0 && !said->as_array)
			r = sn__buf_append(out, ":", 1);
		if (r == 0)
			r = put_raw(out, said->list[i].raw);
	}
	return r < 0 ? r : sn__buf_append(out, said->as_array ? "]" : "}", 1);
}

static int put_body(struct sn_buf *out, const struct said *said)
{
	char code[12];
	size_t n = sizeof(code);
	int r;

	for (unsigned left = said->code; n == sizeof(code) || left > 0; left /= 10)
		code[--n] = (char)('0' + left % 10);
	r = put_member(out, "\"body\":{\"code\":", (struct sn_str){code + n, sizeof(code) - n});
	if (r == 0)
		r = put_member(out, ",\"description\":", said->description);
	if (r == 0 && said->has_list)
		r = sn__buf_puts(out, ",\"value\":");
	if (r == 0 && said->has_list)
		r = put_list(out, said);
	else if (r == 0)
		r = put_member(out, ",\"value\":", said->value);
	return r < 0 ? r : sn__buf_append(out, "}}", 3); /* with a NUL */
}

static int put_head(struct sn_buf *out, const struct sn_rethink_plan *plan,
		const struct sn_rethink_style *style)
{
	bool upper = style->type == SN_RETHINK_TYPE_UPPER ||
			(style->type == SN_RETHINK_TYPE_MIRROR && plan->upper);
	int r = sn__buf_append(out, "{", 1);

	if (r < 0 || plan->bare)
		return r;
	r = put_member(out, "\"id\":", plan->id);
	if (r == 0 && plan->id.len > 0)
		r = sn__buf_append(out, ",", 1);
	if (r == 0)
		r = sn__buf_puts(out, upper ? "\"type\":\"RESPONSE\"" : "\"type\":\"response\"");
	if (r == 0)
		r = put_member(out, ",\"from\":", plan->to);
	if (r == 0)
		r = put_member(out, ",\"to\":", plan->from);
	return r < 0 ? r : sn__buf_append(out, ",", 1);
}

int sn__rethink_answer(const struct sn_rethink_plan *plan, const struct sn_rethink_style *style,
		const struct sn_rethink_reply *reply, struct sn_arena *arena, struct sn_buf *out)
{
	size_t before = out->len;
	struct said said;
	int r = say_all(plan, style, reply, arena, &said);

	if (r < 0)
		return r;
	if (style->vertx && said.code != 200 && said.code != 404)
		said.code = 500;
	r = put_head(out, plan, style);
	if (r == 0)
		r = put_body(out, &said);
	sn__buf_truncate(out, r < 0 ? before : out->len - 1);
	return r;
}

/* ---- owners ---- */

static int by_bytes(const void *pa, const void *pb)
{
	const struct sn_str *a = pa, *b = pb;
	int c = memcmp(a->ptr, b->ptr, SN_MIN(a->len, b->len));

	return c != 0 ? c : (a->len > b->len) - (a->len < b->len);
}

int sn__rethink_owner_hyperties(struct sn_rethink_plan *plan, const struct sn_rethink_reply *reply,
		struct sn_arena *arena, struct sn_rethink_words *ret_hyperties)
{
	struct sn_json_members m;
	struct sn_str *v;
	int r;

	plan->hyperty = true; /* for the answer, if this is it */
	if (reply->error != NULL || (reply->status != 200 && reply->status != 408) ||
			!is_json(reply->body) || kind_of(reply->body) != SN_JSON_OBJECT)
		return SN_E_STATE;
	r = sn_rethink_members(reply->body, arena, &m);
	if (r < 0)
		return r;
	if (m.n > SN_RETHINK_OWNED_MAX)
		return SN_E_LIMIT;
	v = sn__arena_alloc(arena, (m.n + 1) * sizeof(*v));
	if (v == NULL)
		return SN_E_NOMEM;
	for (uint32_t i = 0; i < m.n; i++) { /* the reply's memory goes away */
		v[i].len = m.v[i].key.len;
		v[i].ptr = sn__arena_strdup(arena, m.v[i].key);
		if (v[i].ptr == NULL)
			return SN_E_NOMEM;
	}
	if (m.n > 1)
		qsort(v, m.n, sizeof(*v), by_bytes);
	*ret_hyperties = (struct sn_rethink_words){v, m.n};
	return 0;
}

int sn__rethink_owner_objects(const struct sn_rethink_plan *plan,
		const struct sn_rethink_reply *reply, struct sn_arena *arena, struct sn_buf *found)
{
	struct sn_json_members m;
	int r;

	if (reply->error == NULL && reply->status == 404)
		return 0;
	if (reply->error != NULL || reply->status != 200 || !is_json(reply->body) ||
			kind_of(reply->body) != SN_JSON_OBJECT)
		return SN_E_STATE;
	r = sn_rethink_members(reply->body, arena, &m);
	for (uint32_t i = 0; r == 0 && i < m.n; i++) {
		if (plan->scheme.len > 0 && !of_scheme(m.v[i].key, plan->scheme))
			continue;
		r = sn__buf_append(found, found->len > 0 ? "," : "{", 1);
		if (r == 0)
			r = sn__json_quote(m.v[i].key, found);
		if (r == 0)
			r = sn__buf_append(found, ":", 1);
		if (r == 0)
			r = put_raw(found, m.v[i].raw);
	}
	return r;
}

/* ---- changes of status ---- */

int sn__rethink_changes(const struct sn_rethink_reply *reply, struct sn_arena *arena,
		sn_rethink_change_fn *fn, void *arg)
{
	struct sn_json_members all, one;
	int r;

	if (reply->error != NULL || reply->status != 200 || !is_json(reply->body) ||
			kind_of(reply->body) != SN_JSON_OBJECT)
		return SN_E_STATE;
	r = sn_rethink_members(reply->body, arena, &all);
	for (uint32_t i = 0; r == 0 && i < all.n; i++) {
		struct sn_str status;

		if (all.v[i].type != SN_JSON_OBJECT)
			continue;
		r = sn_rethink_members(all.v[i].raw, arena, &one);
		status = r == 0 ? raw_of(&one, "status") : (struct sn_str){NULL, 0};
		if (status.len > 0 && status.ptr[0] == '"')
			r = fn(all.v[i].key, status, arg);
	}
	return r;
}

bool sn__rethink_update_told(const struct sn_rethink_plan *plan,
		const struct sn_rethink_reply *reply, struct sn_arena *arena)
{
	struct sn_json_members m;
	struct sn_str changed;

	if (reply->error != NULL || reply->status != 200 || plan->status.len == 0)
		return false;
	if (!plan->keep_alive)
		return true;
	if (!is_json(reply->body) || kind_of(reply->body) != SN_JSON_OBJECT ||
			sn_rethink_members(reply->body, arena, &m) < 0)
		return false;
	changed = raw_of(&m, "statusChanged");
	return raw_is(changed, SN_STR("true")) || sn_str_eq(changed, SN_STR("true"));
}

int sn__rethink_notification(uint64_t id, struct sn_str domain, struct sn_str url,
		struct sn_str status, struct sn_buf *out)
{
	int r = sn__buf_printf(out,
			"{\"id\":%llu,\"type\":\"update\",\"from\":\"domain://registry.",
			(unsigned long long)id);

	if (r == 0)
		r = sn__buf_append_str(out, domain);
	if (r == 0)
		r = sn__buf_puts(out, "\",\"to\":");
	if (r == 0)
		r = sn__json_quote(url, out);
	if (r == 0) {
		sn__buf_truncate(out, out->len - 1); /* its closing quote */
		r = sn__buf_puts(out, "/registration\",\"body\":{\"value\":");
	}
	if (r == 0)
		r = put_raw(out, status);
	if (r == 0)
		r = sn__buf_append(out, ",\"attribute\":\"status\"}}", 23 + 1);
	if (r == 0)
		sn__buf_truncate(out, out->len - 1);
	return r;
}
