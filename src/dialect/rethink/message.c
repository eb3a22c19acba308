/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From a message to one request. What the manual, the message specification of both phases and the
 * runtimes in use send differs; every form ends in one of a dozen paths.
 */

#include "dialect/rethink/message.h"

#include "base/json.h"
#include "base/mem.h"

/* ---- texts ---- */

static bool begins(struct sn_str s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.len >= n && memcmp(s.ptr, prefix, n) == 0;
}

static bool is(struct sn_str s, const char *text)
{
	return sn_str_eq(s, sn_str_from(text));
}

static bool is_in(struct sn_str s, const char *const *list)
{
	for (; *list != NULL; list++)
		if (is(s, *list))
			return true;
	return false;
}

static struct sn_str from(struct sn_str s, size_t at)
{
	return s.len > 0 ? (struct sn_str){s.ptr + at, s.len - at} : SN_STR("");
}

/* Up to the first @c (all of it without one); *ret_rest: behind it. */
static struct sn_str cut(struct sn_str s, char c, struct sn_str *ret_rest)
{
	const char *at = s.len > 0 ? memchr(s.ptr, c, s.len) : NULL;
	size_t n = at != NULL ? (size_t)(at - s.ptr) : s.len;

	*ret_rest = at != NULL ? from(s, n + 1) : (struct sn_str){"", 0};
	return (struct sn_str){s.ptr, n};
}

/* Where "://" stands, or s.len. */
static size_t authority(struct sn_str s)
{
	for (size_t i = 0; i + 3 <= s.len; i++)
		if (s.ptr[i] == ':' && s.ptr[i + 1] == '/' && s.ptr[i + 2] == '/')
			return i;
	return s.len;
}

static bool has_authority(struct sn_str s)
{
	return authority(s) < s.len;
}

/* ---- percent coding ---- */

static bool stays(unsigned char c)
{
	/* A bit for each of "-_.!~*()", digits and letters. */
	static const uint32_t set[8] = {0, 0x03ff6702, 0x87fffffe, 0x47fffffe, 0, 0, 0, 0};

	return set[c / 32] >> c % 32 & 1;
}

static int encode(struct sn_str s, struct sn_buf *out)
{
	static const char digits[] = "0123456789ABCDEF";
	char *space;
	size_t n = 0;
	int r;

	if (s.len > SN_RETHINK_PATH_MAX)
		return SN_E_LIMIT;
	r = sn__buf_reserve(out, 3 * s.len + 1, &space);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (stays(c)) {
			space[n++] = (char)c;
		} else {
			space[n++] = '%';
			space[n++] = digits[c >> 4];
			space[n++] = digits[c & 15];
		}
	}
	sn__buf_commit(out, n);
	return 0;
}

static int hex(char c)
{
	return c >= '0' && c <= '9'            ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;
}

static bool encoded_authority(struct sn_str s)
{
	for (size_t i = 0; i + 9 <= s.len; i++)
		if (sn__str_ieq((struct sn_str){s.ptr + i, 9}, SN_STR("%3A%2F%2F")))
			return true;
	return false;
}

/* An identifier that came percent-encoded inside a path is decoded once; a % that means nothing
 * stays. */
static int decode(struct sn_str s, struct sn_arena *arena, struct sn_str *ret_s)
{
	char *out;
	size_t n = 0;

	*ret_s = s;
	if (has_authority(s) || !encoded_authority(s))
		return 0;
	out = sn__arena_alloc(arena, s.len);
	if (out == NULL)
		return SN_E_NOMEM;
	for (size_t i = 0; i < s.len; i++) {
		int high = i + 2 < s.len ? hex(s.ptr[i + 1]) : -1;
		int low = high >= 0 ? hex(s.ptr[i + 2]) : -1;

		if (s.ptr[i] == '%' && low >= 0) {
			out[n++] = (char)(high << 4 | low);
			i += 2;
		} else {
			out[n++] = s.ptr[i];
		}
	}
	*ret_s = (struct sn_str){out, n};
	return 0;
}

/* ---- JSON ---- */

struct member {
	struct sn_str raw; /* empty: absent */
	enum sn_json_type type;
};

static struct member get(const struct sn_json_members *m, const char *name)
{
	const struct sn_json_member *found = sn__json_members_get(m, sn_str_from(name));

	return found != NULL ? (struct member){found->raw, found->type}
			     : (struct member){{NULL, 0}, SN_JSON_ERROR};
}

/* A string's text; empty for everything else. */
static int text(struct member m, struct sn_arena *arena, struct sn_str *ret_text)
{
	struct sn_json_string s;
	struct sn_json_pull r;
	int rc;

	*ret_text = (struct sn_str){"", 0};
	if (m.type != SN_JSON_STRING)
		return 0;
	sn_rethink_read(&r, m.raw);
	rc = sn__json_string(&r, &s);
	return rc < 0 ? rc : sn__json_plain(s, arena, ret_text);
}

/* ---- a message being read ---- */

struct reader {
	struct sn_arena *arena;
	struct sn_buf *url, *body;
	struct sn_rethink_plan *plan;
	size_t base;   /* bytes of url that are the base URL */
	bool shouting; /* the type is written in upper case */
	struct sn_str sender;
	struct sn_json_members in; /* body */
};

/* A bad message: positive, so that it ends the reading like an error. */
static int answer(struct reader *rd, unsigned code)
{
	rd->plan->kind = SN_RETHINK_ANSWER;
	rd->plan->code = code;
	return 1;
}

static int path(struct reader *rd, const char *literal, struct sn_str id)
{
	int r = sn__buf_puts(rd->url, literal);

	if (r == 0)
		r = encode(id, rd->url);
	if (r == SN_E_LIMIT || (r == 0 && rd->url->len - rd->base > SN_RETHINK_PATH_MAX))
		return answer(rd, 414);
	return r;
}

/* ---- filters ---- */

/* Strings of an array, or one string. */
static int words(struct reader *rd, struct member m, struct sn_rethink_words *ret_words)
{
	struct sn_rethink_words w = {NULL, 0};
	struct sn_json_string s;
	struct sn_json_pull r;
	uint32_t cap = 4;
	int rc;

	*ret_words = w;
	if (m.type != SN_JSON_STRING && m.type != SN_JSON_ARRAY)
		return 0;
	w.v = sn__arena_alloc(rd->arena, cap * sizeof(*w.v));
	if (w.v == NULL)
		return SN_E_NOMEM;
	sn_rethink_read(&r, m.raw);
	if (m.type == SN_JSON_STRING) {
		rc = text(m, rd->arena, &w.v[w.n++]);
		*ret_words = w;
		return rc;
	}
	rc = sn__json_enter_array(&r);
	while (rc == 0 && (rc = sn__json_item(&r)) > 0) {
		if (sn__json_peek(&r) != SN_JSON_STRING) {
			rc = sn__json_skip(&r, NULL);
			continue;
		}
		if (w.n == cap) {
			struct sn_str *more = sn__arena_alloc(rd->arena, 2 * cap * sizeof(*w.v));

			if (more == NULL)
				return SN_E_NOMEM;
			memcpy(more, w.v, w.n * sizeof(*w.v));
			w.v = more;
			cap *= 2;
		}
		rc = sn__json_string(&r, &s);
		if (rc == 0)
			rc = sn__json_plain(s, rd->arena, &w.v[w.n++]);
	}
	if (rc == 0)
		*ret_words = w;
	return rc;
}

/* "?resources=a,b" with the right mark in front. */
static int query_part(
		struct sn_buf *out, char mark, const char *name, const struct sn_rethink_words *w)
{
	int r;

	if (w->n == 0)
		return 0;
	r = sn__buf_printf(out, "%c%s=", mark, name);
	for (uint32_t i = 0; r == 0 && i < w->n; i++) {
		if (i > 0)
			r = sn__buf_append(out, ",", 1);
		if (r == 0)
			r = encode(w->v[i], out);
	}
	return r;
}

struct filters {
	struct sn_rethink_words resources, schemes;
	struct sn_str reporter;
	bool has_reporter;
};

static bool filtered(const struct filters *f)
{
	return f->resources.n > 0 || f->schemes.n > 0;
}

/* Only an object with something to go by counts. */
static int filters(struct reader *rd, struct filters *f)
{
	struct member criteria = get(&rd->in, "criteria"), reporter;
	struct sn_json_members m;
	int r;

	*f = (struct filters){.has_reporter = false};
	if (criteria.type != SN_JSON_OBJECT)
		return 0;
	r = sn_rethink_members(criteria.raw, rd->arena, &m);
	if (r == 0)
		r = words(rd, get(&m, "resources"), &f->resources);
	if (r == 0)
		r = words(rd, get(&m, "dataSchemes"), &f->schemes);
	reporter = r == 0 ? get(&m, "reporter") : (struct member){{NULL, 0}, SN_JSON_ERROR};
	f->has_reporter = reporter.type == SN_JSON_STRING;
	return r == 0 ? text(reporter, rd->arena, &f->reporter) : r;
}

static int query(struct reader *rd, const char *segment, const struct filters *f)
{
	int r;

	if (!filtered(f))
		return 0;
	r = sn__buf_puts(rd->url, segment);
	if (r == 0)
		r = query_part(rd->url, '?', "resources", &f->resources);
	if (r == 0)
		r = query_part(rd->url, f->resources.n > 0 ? '&' : '?', "dataSchemes", &f->schemes);
	if (r == SN_E_LIMIT || (r == 0 && rd->url->len - rd->base > SN_RETHINK_PATH_MAX))
		return answer(rd, 414);
	return r;
}

/* ---- READ ---- */

/* A hyperties' list: by user, e-mail, or GUID. */
static int read_users(
		struct reader *rd, const char *literal, struct sn_str id, const struct filters *f)
{
	int r;

	if (id.len == 0)
		return answer(rd, 400);
	rd->plan->kind = SN_RETHINK_LIST;
	rd->plan->hyperty = true;
	r = path(rd, literal, id);
	return r == 0 ? query(rd, "/hyperty", f) : r;
}

/* The registry has no filtered search by GUID: the answer is filtered here. */
static int read_guid(struct reader *rd, struct sn_str id, const struct filters *f)
{
	static const struct filters none;
	char *full;

	if (id.len == 0)
		return answer(rd, 400);
	if (!has_authority(id)) {
		full = sn__arena_alloc(rd->arena, id.len + 12);
		if (full == NULL)
			return SN_E_NOMEM;
		memcpy(full, "user-guid://", 12);
		memcpy(full + 12, id.ptr, id.len);
		id = (struct sn_str){full, id.len + 12};
	}
	rd->plan->resources = f->resources;
	rd->plan->schemes = f->schemes;
	return read_users(rd, "/hyperty/guid/", id, &none);
}

/* @scheme://DOMAIN/@id unless @id is a URL. */
static int full_url(struct reader *rd, struct sn_str scheme, struct sn_str id, struct sn_str *ret)
{
	struct sn_str domain = rd->plan->domain;
	size_t n = scheme.len + 3 + domain.len + 1 + id.len;
	char *at;

	*ret = id;
	if (has_authority(id))
		return 0;
	if (domain.len == 0)
		return answer(rd, 400);
	at = sn__arena_alloc(rd->arena, n);
	if (at == NULL)
		return SN_E_NOMEM;
	*ret = (struct sn_str){at, n};
	memcpy(at, scheme.ptr, scheme.len);
	at += scheme.len;
	memcpy(at, "://", 3);
	at += 3;
	memcpy(at, domain.ptr, domain.len);
	at += domain.len;
	*at++ = '/';
	memcpy(at, id.ptr, id.len);
	return 0;
}

static int read_hyperty(struct reader *rd, struct sn_str scheme, struct sn_str id)
{
	struct sn_str url;
	int r;

	if (id.len == 0)
		return answer(rd, 400);
	r = full_url(rd, scheme, id, &url);
	if (r != 0)
		return r;
	rd->plan->kind = SN_RETHINK_ONE;
	rd->plan->hyperty = true;
	return path(rd, "/hyperty/url/", url);
}

static int read_objects(struct reader *rd, const char *literal, struct sn_str id,
		enum sn_rethink_kind kind, const struct filters *f)
{
	int r;

	if (id.len == 0)
		return answer(rd, 400);
	rd->plan->kind = filtered(f) ? SN_RETHINK_LIST : kind;
	r = path(rd, literal, id);
	return r == 0 ? query(rd, "/do", f) : r;
}

/* The registry has no search by owner: its hyperties first, then what each of them reports. */
static int read_owner(struct reader *rd, struct sn_str scheme, struct sn_str owner,
		const struct filters *f)
{
	struct sn_rethink_plan *plan = rd->plan;
	struct sn_str query_text;
	int r;

	if (owner.len == 0 || scheme.len == 0)
		return answer(rd, 400);
	/* Written where it is easiest, kept, and taken back. */
	r = query(rd, "/do", f);
	if (r != 0)
		return r;
	query_text = from(sn__buf_str(rd->url), rd->base);
	plan->query.len = query_text.len;
	plan->query.ptr = sn__arena_strdup(rd->arena, query_text);
	if (plan->query.ptr == NULL)
		return SN_E_NOMEM;
	sn__buf_truncate(rd->url, rd->base);
	plan->scheme = is(scheme, "dataObject") ? (struct sn_str){NULL, 0} : scheme;
	if (begins(owner, "hyperty://")) {
		plan->single = owner;
		r = path(rd, "/hyperty/dataobject/reporter/", owner);
		if (r == 0 && sn__buf_append_str(rd->url, plan->query) < 0)
			r = answer(rd, 414);
	} else {
		r = path(rd, begins(owner, "user-guid://") ? "/hyperty/guid/" : "/hyperty/user/",
				owner);
	}
	if (r == 0)
		plan->kind = SN_RETHINK_OWNER;
	return r;
}

static const char *const hyperty_words[] = {"hyperty", "hyperty-instance", NULL};
static const char *const url_words[] = {"hyperty", "hyperty-instance", "hyperty-runtime", NULL};

/* "/hyperty/..": rows 4 to 7. @rest: behind the second slash. 0 with *ret_done false: none of them. */
static int read_hyperty_path(struct reader *rd, struct sn_str first, struct sn_str rest,
		const struct filters *f, bool *ret_done)
{
	struct sn_str scheme = is(first, "hyperty-instance") ? SN_STR("hyperty") : first;
	struct sn_str second, id, tail;
	int r;

	*ret_done = true;
	second = cut(rest, '/', &id);
	if (is_in(first, hyperty_words) && is(second, "idp-identifier"))
		return read_users(rd, "/hyperty/email/", cut(id, '/', &tail), f);
	if (is(first, "user") || is(first, "user-guid")) {
		r = decode(rest, rd->arena, &id);
		if (r != 0)
			return r;
		return is(first, "user") ? read_users(rd, "/hyperty/user/", id, f)
					 : read_guid(rd, id, f);
	}
	if (is_in(first, hyperty_words)) {
		r = decode(id, rd->arena, &id);
		if (r != 0)
			return r;
		if (is(second, "user"))
			return read_users(rd, "/hyperty/user/", id, f);
		if (is(second, "guid") || is(second, "user-guid"))
			return read_guid(rd, id, f);
		if (is(second, "url"))
			return read_hyperty(rd, scheme, id);
	}
	*ret_done = is_in(first, url_words);
	if (!*ret_done)
		return 0;
	r = decode(rest, rd->arena, &id);
	return r == 0 ? read_hyperty(rd, scheme, id) : r;
}

/* "/hyperty-data-object-instance/..", "/SCHEME/user/..", "/dataObject/..": rows 8 to 11. */
static int read_object_path(struct reader *rd, struct sn_str first, struct sn_str rest,
		const struct filters *f, bool *ret_done)
{
	struct sn_str second, third, id;
	int r;

	*ret_done = true;
	second = cut(rest, '/', &id);
	if (is(first, "hyperty-data-object-instance")) {
		third = cut(id, '/', &id);
		r = decode(id, rd->arena, &id);
		if (r != 0)
			return r;
		if (is(third, "owner"))
			return read_owner(rd, second, id, f);
		if (is(third, "reporter") && second.len > 0) {
			rd->plan->scheme = second;
			return read_objects(rd, "/hyperty/dataobject/reporter/", id,
					SN_RETHINK_LIST, f);
		}
	}
	r = decode(id, rd->arena, &id);
	if (r != 0)
		return r;
	if (is(second, "user") && !is_in(first, url_words))
		return read_owner(rd, first, id, f);
	if (is(first, "dataObject") && is(second, "url"))
		return read_objects(rd, "/hyperty/dataobject/url/", id, SN_RETHINK_ONE, f);
	if (is(first, "dataObject") && is(second, "name"))
		return read_objects(rd, "/hyperty/dataobject/name/", id, SN_RETHINK_LIST, f);
	if (is(first, "dataObject") && is(second, "reporter"))
		return read_objects(rd, "/hyperty/dataobject/reporter/", id, SN_RETHINK_LIST, f);
	*ret_done = false;
	return 0;
}

static int read_path(
		struct reader *rd, struct sn_str resource, const struct filters *f, bool *ret_done)
{
	struct sn_str rest, first = cut(from(resource, 1), '/', &rest);
	int r = 0;

	rd->plan->manual = is(first, "hyperty-instance") ||
			is(first, "hyperty-data-object-instance");
	*ret_done = false;
	if (first.len + 1 < resource.len)
		r = read_hyperty_path(rd, first, rest, f, ret_done);
	if (r == 0 && !*ret_done && first.len + 1 < resource.len)
		r = read_object_path(rd, first, rest, f, ret_done);
	return r;
}

static int read_message(struct reader *rd, struct sn_str resource)
{
	struct filters f;
	bool done = false;
	int r;

	if (resource.len == 0)
		return answer(rd, 400);
	rd->plan->method = SN_RETHINK_GET;
	r = filters(rd, &f);
	if (r != 0)
		return r;
	if (begins(resource, "user://"))
		return read_users(rd, "/hyperty/user/", resource, &f);
	if (begins(resource, "user-guid://"))
		return read_guid(rd, resource, &f);
	if (begins(resource, "hyperty://") || begins(resource, "hyperty-runtime://"))
		return read_hyperty(rd, SN_STR("hyperty"), resource);
	if (resource.ptr[0] == '/')
		r = read_path(rd, resource, &f, &done);
	if (r != 0 || done)
		return r;
	if (f.has_reporter)
		return read_objects(rd, "/hyperty/dataobject/reporter/", f.reporter,
				SN_RETHINK_LIST, &f);
	if (has_authority(resource))
		return read_objects(rd, "/hyperty/dataobject/url/", resource, SN_RETHINK_ONE, &f);
	return read_objects(rd, "/hyperty/dataobject/name/", resource, SN_RETHINK_LIST, &f);
}

/* ---- CREATE, DELETE ---- */

static const char *const hyperty_members[] = {"descriptor", "expires", "resources", "dataSchemes",
		"status", "runtime", "p2pRequester", "p2pHandler", "guid", NULL};
static const char *const object_members[] = {"name", "schema", "url", "reporter", "expires",
		"dataSchemes", "resources", "status", "runtime", "p2pRequester", NULL};

/* Whether a URL or path stands for the hyperty side. */
static bool of_hyperty(struct sn_str s)
{
	static const char *const sides[] = {
			"user", "user-guid", "hyperty", "hyperty-runtime", NULL};
	struct sn_str rest;

	if (s.len > 0 && s.ptr[0] == '/')
		return is_in(cut(from(s, 1), '/', &rest), sides);
	return is_in((struct sn_str){s.ptr, authority(s)}, sides);
}

static int put_member(struct sn_buf *body, const char *name, struct sn_str raw)
{
	int r = sn__buf_puts(body, body->len == 0 ? "{\"" : ",\"");

	if (r == 0)
		r = sn__buf_puts(body, name);
	if (r == 0)
		r = sn__buf_append(body, "\":", 2);
	return r < 0 ? r : sn__buf_append_str(body, raw);
}

static int put_end(struct sn_buf *body)
{
	int r = body->len == 0 ? sn__buf_append(body, "{", 1) : 0;

	return r < 0 ? r : sn__buf_append(body, "}", 2); /* with its NUL */
}

/* What the seed's time called a member now called @name; NULL: the same. */
static const char *old_name(const char *name)
{
	return strcmp(name, "url") == 0                   ? "hypertyURL"
			: strcmp(name, "descriptor") == 0 ? "hypertyDescriptorURL"
			: strcmp(name, "runtime") == 0    ? "hypertyRuntimeURL"
							  : NULL;
}

static struct member get_renamed(const struct sn_json_members *value, const char *name)
{
	struct member m = get(value, name);

	if (m.raw.len == 0 && old_name(name) != NULL)
		m = get(value, old_name(name));
	return m;
}

/* The sender without what names its registry function; "" when it is no runtime. As JSON. */
static int sender_runtime(struct reader *rd, struct sn_buf *out)
{
	struct sn_str s = rd->sender;

	if (!begins(s, "hyperty-runtime://") && !begins(s, "runtime://"))
		s = SN_STR("");
	if (s.len > 0 && s.ptr[s.len - 1] == '/')
		s.len--;
	if (s.len >= 9 && memcmp(s.ptr + s.len - 9, "/registry", 9) == 0)
		s.len -= 9;
	return sn__json_quote(s, out);
}

static const char *filling(const char *name)
{
	return strcmp(name, "expires") == 0                ? "3600"
			: strcmp(name, "resources") == 0   ? "[]"
			: strcmp(name, "dataSchemes") == 0 ? "[]"
			: strcmp(name, "status") == 0      ? "\"live\""
							   : NULL;
}

/* The body of a create. @fill: members the registry demands and the seed's time did not know. */
static int put_create(struct reader *rd, const struct sn_json_members *value,
		const char *const *names, bool fill)
{
	int r = 0;

	for (; r == 0 && *names != NULL; names++) {
		struct member m = get_renamed(value, *names);

		if (m.raw.len > 0) {
			r = put_member(rd->body, *names, m.raw);
		} else if (fill && filling(*names) != NULL) {
			r = put_member(rd->body, *names, sn_str_from(filling(*names)));
		} else if (fill && strcmp(*names, "runtime") == 0) {
			r = put_member(rd->body, *names, SN_STR(""));
			if (r == 0)
				r = sender_runtime(rd, rd->body);
		}
	}
	return r < 0 ? r : put_end(rd->body);
}

static bool seed_era(const struct sn_json_members *value)
{
	return get(value, "hypertyURL").raw.len > 0 ||
			get(value, "hypertyDescriptorURL").raw.len > 0 ||
			get(value, "hypertyRuntimeURL").raw.len > 0;
}

/* The object of a create or delete. */
struct object {
	struct sn_json_members value;
	struct sn_str url, name, user;
	bool hyperty;
};

static int object_read(struct reader *rd, struct object *o)
{
	struct member value = get(&rd->in, "value"), url;
	int r;

	if (value.type != SN_JSON_OBJECT)
		return answer(rd, 400);
	r = sn_rethink_members(value.raw, rd->arena, &o->value);
	if (r < 0)
		return r;
	url = get_renamed(&o->value, "url");
	r = text(url, rd->arena, &o->url);
	if (r == 0)
		r = text(get(&o->value, "name"), rd->arena, &o->name);
	if (r == 0)
		r = text(get(&o->value, "user"), rd->arena, &o->user);
	o->hyperty = of_hyperty(o->url.len > 0 ? o->url : o->name) ||
			(o->url.len > 0 && get(&o->value, "url").raw.len == 0);
	return r;
}

static int user_path(struct reader *rd, struct sn_str user, struct sn_str hyperty)
{
	int r;

	if (user.len == 0 || hyperty.len == 0)
		return answer(rd, 400);
	r = path(rd, "/hyperty/user/", user);
	return r == 0 ? path(rd, "/", hyperty) : r;
}

static int create_message(struct reader *rd)
{
	struct object o;
	bool fill;
	int r = object_read(rd, &o);

	if (r != 0)
		return r;
	if (o.url.len == 0)
		return answer(rd, 400);
	fill = rd->shouting || seed_era(&o.value);
	rd->plan->kind = SN_RETHINK_WRITE;
	rd->plan->method = SN_RETHINK_PUT;
	r = o.hyperty ? user_path(rd, o.user, o.url) : path(rd, "/hyperty/dataobject/", o.url);
	return r == 0 ? put_create(rd, &o.value, o.hyperty ? hyperty_members : object_members, fill)
		      : r;
}

static int delete_message(struct reader *rd)
{
	struct object o;
	int r = object_read(rd, &o);

	if (r != 0)
		return r;
	if (o.url.len == 0 && o.name.len == 0)
		return answer(rd, 400);
	rd->plan->kind = SN_RETHINK_WRITE;
	rd->plan->method = SN_RETHINK_DELETE;
	if (o.hyperty)
		return user_path(rd, o.user, o.url.len > 0 ? o.url : o.name);
	/* Clients put the URL of a data object into its name. */
	return path(rd, "/hyperty/dataobject/url/", o.name.len > 0 ? o.name : o.url);
}

/* ---- UPDATE ---- */

static const char *const hyperty_changes[] = {"descriptor", "expires", "resources", "dataSchemes",
		"status", "runtime", "p2pRequester", "p2pHandler", NULL};
static const char *const object_changes[] = {"name", "schema", "reporter", "expires", "dataSchemes",
		"resources", "status", "runtime", "p2pRequester", NULL};

/* What is updated: a URL, or a path that names one. */
static int update_target(struct reader *rd, struct sn_str resource, bool *ret_hyperty)
{
	struct sn_str first, id;
	int r;

	if (resource.ptr[0] != '/') {
		*ret_hyperty = of_hyperty(resource);
		rd->plan->target = resource;
		return 0;
	}
	first = cut(from(resource, 1), '/', &id);
	if (is(first, "hyperty-instance"))
		first = SN_STR("hyperty");
	*ret_hyperty = is(first, "hyperty") || is(first, "hyperty-runtime");
	r = decode(id, rd->arena, &id);
	if (r != 0)
		return r;
	if (first.len == 0 || id.len == 0)
		return answer(rd, 400);
	rd->plan->target = id;
	return is(first, "dataObject") ? 0 : full_url(rd, first, id, &rd->plan->target);
}

static int put_attribute(struct reader *rd, struct member value, const char *const *names)
{
	struct sn_str name;
	int r = text(get(&rd->in, "attribute"), rd->arena, &name);

	if (r < 0)
		return r;
	for (; *names != NULL && !is(name, *names); names++)
		;
	if (*names == NULL)
		return answer(rd, 400);
	if (strcmp(*names, "status") == 0 && value.type == SN_JSON_STRING)
		rd->plan->status = value.raw;
	r = put_member(rd->body, *names, value.raw);
	return r < 0 ? r : put_end(rd->body);
}

static int put_changes(struct reader *rd, struct member value, const char *const *names)
{
	struct sn_json_members m = {NULL, 0};
	int r = 0;

	if (value.type == SN_JSON_OBJECT)
		r = sn_rethink_members(value.raw, rd->arena, &m);
	for (; r == 0 && *names != NULL; names++) {
		struct member one = get(&m, *names);

		if (one.raw.len == 0)
			continue;
		if (strcmp(*names, "status") == 0 && one.type == SN_JSON_STRING)
			rd->plan->status = one.raw;
		r = put_member(rd->body, *names, one.raw);
	}
	if (r == 0 && rd->body->len == 0) { /* a keep-alive */
		rd->plan->keep_alive = true;
		rd->plan->status = SN_STR("\"live\"");
	}
	return r < 0 ? r : put_end(rd->body);
}

static int update_message(struct reader *rd, struct sn_str resource)
{
	struct member value = get(&rd->in, "value");
	const char *const *names;
	struct sn_str method;
	bool hyperty;
	int r;

	if (resource.len == 0)
		return answer(rd, 400);
	r = update_target(rd, resource, &hyperty);
	if (r == 0)
		r = path(rd, hyperty ? "/hyperty/url/" : "/dataobject/url/", rd->plan->target);
	if (r == 0)
		r = text(get(&rd->in, "method"), rd->arena, &method);
	if (r != 0)
		return r;
	rd->plan->kind = SN_RETHINK_UPDATE;
	rd->plan->method = SN_RETHINK_PUT;
	rd->plan->keep_alive = is(method, "refresh");
	names = hyperty ? hyperty_changes : object_changes;
	if (value.raw.len > 0 && value.type != SN_JSON_OBJECT && value.type != SN_JSON_NULL)
		return put_attribute(rd, value, names);
	return put_changes(rd, value, names);
}

/* ---- addresses ---- */

bool sn__rethink_domain_valid(struct sn_str domain)
{
	for (size_t i = 0; i < domain.len; i++)
		if ((unsigned char)domain.ptr[i] <= ' ' ||
				strchr("/\"\\\x7f", domain.ptr[i]) != NULL)
			return false;
	return domain.len > 0 && sn__utf8_valid(domain);
}

/* Whether @to is "domain://registry.DOMAIN", with or without a slash. */
static bool addresses_us(
		struct sn_str to, const struct sn_rethink_style *style, struct sn_str *ret_domain)
{
	static const char prefix[] = "domain://registry.";
	size_t n = sizeof(prefix) - 1;
	struct sn_str domain;

	if (to.len <= n || !sn__str_ieq((struct sn_str){to.ptr, n}, (struct sn_str){prefix, n}))
		return false;
	domain = from(to, n);
	if (domain.ptr[domain.len - 1] == '/')
		domain.len--;
	if (!sn__rethink_domain_valid(domain))
		return false;
	if (style->domain.len > 0 && !sn__str_ieq(domain, style->domain))
		return false;
	*ret_domain = domain;
	return true;
}

/* One of several recipients: the one that is us answers. */
static int choose_recipient(
		struct reader *rd, struct member to, const struct sn_rethink_style *style)
{
	struct sn_json_pull r;
	struct sn_str raw, one;
	int rc;

	sn_rethink_read(&r, to.raw);
	rc = sn__json_enter_array(&r);
	while (rc == 0 && (rc = sn__json_item(&r)) > 0) {
		struct member m = {.type = sn__json_peek(&r)};

		rc = sn__json_skip(&r, &raw);
		m.raw = raw;
		if (rc == 0)
			rc = text(m, rd->arena, &one);
		if (rc == 0 && addresses_us(one, style, &rd->plan->domain)) {
			rd->plan->to = raw;
			return 0;
		}
	}
	return rc < 0 ? rc : answer(rd, 400);
}

static int recipient(struct reader *rd, struct member to, const struct sn_rethink_style *style)
{
	struct sn_str one;
	int r;

	if (to.type == SN_JSON_ARRAY)
		return choose_recipient(rd, to, style);
	if (to.type != SN_JSON_STRING)
		return answer(rd, 400);
	r = text(to, rd->arena, &one);
	if (r < 0)
		return r;
	return addresses_us(one, style, &rd->plan->domain) ? 0 : answer(rd, 404);
}

/* ---- the whole ---- */

enum type { CREATE, READ, UPDATE, DELETE, RESPONSE, UNKNOWN };

static enum type type_of(struct sn_str type)
{
	static const char *const names[] = {"create", "read", "update", "delete", "response"};

	for (unsigned i = 0; i < SN_COUNT(names); i++)
		if (sn__str_ieq(type, sn_str_from(names[i])))
			return (enum type)i;
	return UNKNOWN;
}

static bool upper(struct sn_str type)
{
	for (size_t i = 0; i < type.len; i++)
		if (type.ptr[i] < 'A' || type.ptr[i] > 'Z')
			return false;
	return type.len > 0;
}

static int by_type(struct reader *rd, enum type type)
{
	struct sn_str resource;
	int r = text(get(&rd->in, "resource"), rd->arena, &resource);

	if (r < 0)
		return r;
	switch (type) {
	case CREATE:
		return create_message(rd);
	case READ:
		return read_message(rd, resource);
	case UPDATE:
		return update_message(rd, resource);
	default:
		return delete_message(rd);
	}
}

static int read_all(struct reader *rd, const struct sn_json_members *m,
		const struct sn_rethink_style *style)
{
	struct member body = get(m, "body"), to = get(m, "to");
	struct sn_rethink_plan *plan = rd->plan;
	struct sn_str type;
	enum type kind;
	int r = text(get(m, "type"), rd->arena, &type);

	if (r == 0)
		r = text(get(m, "from"), rd->arena, &rd->sender);
	if (r < 0)
		return r;
	plan->id = get(m, "id").raw;
	plan->from = get(m, "from").raw;
	plan->to = to.raw;
	plan->upper = rd->shouting = upper(type);
	kind = type_of(type);
	if (kind == RESPONSE) {
		plan->kind = SN_RETHINK_SILENT;
		return 1;
	}
	r = recipient(rd, to, style);
	if (r != 0)
		return r;
	if (kind == UNKNOWN)
		return answer(rd, 405);
	if (body.type != SN_JSON_OBJECT)
		return answer(rd, 400);
	r = sn_rethink_members(body.raw, rd->arena, &rd->in);
	return r < 0 ? r : by_type(rd, kind);
}

static struct reader begin(struct sn_arena *arena, struct sn_buf *url, struct sn_buf *body,
		struct sn_rethink_plan *plan)
{
	*plan = (struct sn_rethink_plan){.kind = SN_RETHINK_ANSWER, .code = 400};
	return (struct reader){
			.arena = arena, .url = url, .body = body, .plan = plan, .base = url->len};
}

/* A request needs a NUL behind its URL; without one the URL is the base again. */
static int end(struct reader *rd, int r)
{
	char *space;

	if (r == 0)
		r = sn__buf_reserve(rd->url, 1, &space);
	if (r == 0)
		*space = '\0';
	else
		sn__buf_truncate(rd->url, rd->base);
	if (r == 0 && rd->body != NULL && rd->body->len > 0)
		sn__buf_truncate(rd->body, rd->body->len - 1); /* the NUL stays behind it */
	if (r == SN_E_LIMIT)                                   /* the buffers' */
		r = answer(rd, 413);
	return r < 0 ? r : 0;
}

int sn__rethink_plan(struct sn_str message, const struct sn_rethink_style *style,
		struct sn_arena *arena, struct sn_buf *url, struct sn_buf *body,
		struct sn_rethink_plan *ret_plan)
{
	struct reader rd = begin(arena, url, body, ret_plan);
	struct sn_json_members m;
	struct sn_json_pull json;
	int r;

	sn__buf_clear(body);
	ret_plan->domain = style->domain;
	sn__json_begin(&json, message.len > 0 ? message : SN_STR("")); /* checked on the way */
	json.wide = true;
	r = sn__json_read_members(&json, arena, &m);
	if (r == 0)
		r = sn__json_finish(&json);
	if (r == SN_E_PARSE || r == SN_E_LIMIT)
		return 0; /* nobody to name: the answer has no address */
	return end(&rd, r < 0 ? r : read_all(&rd, &m, style));
}

/* ---- the manual's functions ---- */

static int bare_end(struct reader *rd, int r)
{
	r = end(rd, r);
	rd->plan->bare = true;
	if (r == 0 && rd->plan->kind == SN_RETHINK_ANSWER)
		return SN_E_INVALID;
	return r;
}

int sn__rethink_plan_get(struct sn_str user, struct sn_buf *url, struct sn_rethink_plan *ret_plan)
{
	static const struct filters none;
	struct reader rd = begin(NULL, url, NULL, ret_plan);

	if (!sn__utf8_valid(user))
		return SN_E_INVALID;
	ret_plan->method = SN_RETHINK_GET;
	return bare_end(&rd, read_users(&rd, "/hyperty/user/", user, &none));
}

int sn__rethink_plan_add(struct sn_str user, struct sn_str hyperty, struct sn_str value,
		struct sn_arena *arena, struct sn_buf *url, struct sn_buf *body,
		struct sn_rethink_plan *ret_plan)
{
	struct reader rd = begin(arena, url, body, ret_plan);
	struct sn_json_members m;
	int r;

	sn__buf_clear(body);
	if (!sn__utf8_valid(user) || !sn__utf8_valid(hyperty) || value.len == 0 ||
			value.len > SN_RETHINK_MESSAGE_MAX || sn__json_check_wide(value, NULL) < 0)
		return SN_E_INVALID;
	r = sn_rethink_members(value, arena, &m);
	if (r < 0)
		return r == SN_E_PARSE ? SN_E_INVALID : r;
	ret_plan->kind = SN_RETHINK_WRITE;
	ret_plan->method = SN_RETHINK_PUT;
	r = user_path(&rd, user, hyperty);
	if (r == 0)
		r = put_create(&rd, &m, hyperty_members, seed_era(&m));
	return bare_end(&rd, r);
}

int sn__rethink_plan_delete(struct sn_str user, struct sn_str hyperty, struct sn_buf *url,
		struct sn_rethink_plan *ret_plan)
{
	struct reader rd = begin(NULL, url, NULL, ret_plan);

	if (!sn__utf8_valid(user) || !sn__utf8_valid(hyperty))
		return SN_E_INVALID;
	ret_plan->kind = SN_RETHINK_WRITE;
	ret_plan->method = SN_RETHINK_DELETE;
	return bare_end(&rd, user_path(&rd, user, hyperty));
}

int sn__rethink_reporter(struct sn_str hyperty, struct sn_str query, struct sn_buf *url)
{
	int r = sn__buf_puts(url, "/hyperty/dataobject/reporter/");

	if (r == 0)
		r = encode(hyperty, url);
	if (r == 0)
		r = sn__buf_append_str(url, query);
	if (r == 0)
		r = sn__buf_append(url, "", 1);
	if (r == 0)
		sn__buf_truncate(url, url->len - 1);
	return r;
}
