/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST interface of the domain registry. A request is one operation of the store; it outlives its
 * exchange when the client leaves first. Requests come from a pool, so that reading memory's entries
 * takes no allocation.
 */
#include "dialect/rethink/registry_http.h"

#include <stdio.h>
#include <string.h>

#include <sinew/inbound.h>
#include "base/json.h"
#include "base/mem.h"

#define SEGMENTS_MAX 6
#define POOL_MAX 256
#define KEEP_MAX (64u << 10) /* of an answer's buffer, between two requests */
#define ARENA_BLOCK 2048
#define ARENA_MAX (16u << 20)

struct request {
	struct sn_reg_op op;
	struct sn_list link; /* sn_reg_http.free */
	struct sn_reg_http *http;
	struct sn_exchange *x; /* NULL: the client is gone */
	struct sn_arena arena;
	struct sn_str path[SEGMENTS_MAX];
	unsigned n_path;
	struct sn_reg_values values;
	struct sn_reg_filter filter;
	bool filtered, bare, alive, page_due;
	int failed; /* while the answer was written */
	uint64_t n; /* entries of the answer */
	struct sn_buf out;
	struct sn_reg_page page;
	struct sn_error err;
};

/* ---- answers ---- */

static const struct sn_header as_json = {"Content-Type", "application/json"};
static const struct sn_header as_html = {"Content-Type", "text/html;charset=utf-8"};

static void respond(struct sn_exchange *x, unsigned status, const struct sn_header *type,
		struct sn_str body)
{
	/* Without memory there is nothing to say, and the client must not wait. */
	if (sn_exchange_respond(x, status, type, 1, body.ptr, body.len) == SN_E_NOMEM)
		sn_exchange_abort(x);
}

static void respond_json(struct sn_exchange *x, unsigned status, struct sn_str body)
{
	respond(x, status, &as_json, body);
}

/* Nothing runs in the page, whatever is in it. */
static void respond_page(struct sn_exchange *x, struct sn_str body)
{
	const struct sn_header headers[] = {as_html,
			{"Content-Security-Policy",
					"default-src 'none'; style-src 'unsafe-inline'"},
			{"X-Content-Type-Options", "nosniff"}};

	if (sn_exchange_respond(x, 200, headers, SN_COUNT(headers), body.ptr, body.len) ==
			SN_E_NOMEM)
		sn_exchange_abort(x);
}

static void not_found(struct sn_exchange *x)
{
	respond_json(x, 404, SN_STR("{\"message\":\"Not Found\"}"));
}

static void no_route(struct sn_exchange *x)
{
	respond(x, 404, &as_html, SN_STR("<html><body><h2>404 Not found</h2></body></html>"));
}

static void bad_request(struct sn_exchange *x)
{
	respond_json(x, 400, SN_STR(""));
}

/* What a store could not do. */
static void respond_code(struct sn_exchange *x, int code)
{
	if (code == SN_E_NOT_FOUND)
		not_found(x);
	else if (code == SN_E_INVALID)
		bad_request(x);
	else if (code == SN_E_NOMEM || code == SN_E_LIMIT || code == SN_E_PROTOCOL)
		respond_json(x, 500,
				SN_STR("<html><body><h2>500 Internal Error</h2></body></html>"));
	else
		respond_json(x, 503, SN_STR("{\"message\":\"Service Unavailable\"}"));
}

/* ---- requests ---- */

static struct request *request_get(struct sn_reg_http *http, struct sn_exchange *x)
{
	struct sn_list *node = sn_list_pop_front(&http->free);
	struct request *q;

	if (node != NULL) {
		http->n_free--;
		q = SN_CONTAINER_OF(node, struct request, link);
	} else {
		q = sn__calloc(1, sizeof(*q));
		if (q == NULL)
			return NULL;
		sn__arena_init(&q->arena, ARENA_BLOCK, ARENA_MAX);
		sn__buf_init(&q->out, SN_REG_ANSWER_MAX);
		q->http = http;
	}
	q->x = x;
	q->op = (struct sn_reg_op){.err = &q->err};
	q->filtered = q->bare = q->alive = q->page_due = false;
	q->failed = 0;
	q->n = 0;
	http->n_open++;
	return q;
}

static void request_free(struct request *q)
{
	sn__arena_finish(&q->arena);
	sn__buf_finish(&q->out);
	sn__free(q);
}

static void http_free(struct sn_reg_http *http)
{
	struct sn_list *node;

	if (!http->closed || http->n_open > 0)
		return;
	while ((node = sn_list_pop_front(&http->free)) != NULL)
		request_free(SN_CONTAINER_OF(node, struct request, link));
	http->gone(http);
}

static void request_put(struct request *q)
{
	struct sn_reg_http *http = q->http;

	if (q->x != NULL)
		sn_exchange_on_close(q->x, NULL, NULL);
	q->x = NULL;
	if (q->out.cap > KEEP_MAX)
		sn__buf_finish(&q->out);
	else
		sn__buf_clear(&q->out);
	if (q->arena.used > KEEP_MAX)
		sn__arena_finish(&q->arena);
	else
		sn__arena_reset(&q->arena);
	if (http->n_free < POOL_MAX) {
		http->n_free++;
		sn_list_push_front(&http->free, &q->link);
	} else {
		request_free(q);
	}
	http->n_open--;
	http_free(http);
}

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	struct request *q = arg;

	q->x = NULL;
}

static void count(struct request *q, enum sn_reg_counted what)
{
	if (q->http->counts[what] != NULL)
		sn_counter_add(q->http->counts[what], 1);
}

/* ---- what the store gives ---- */

static int put_entry(struct request *q, const struct sn_reg_entry *e)
{
	int r = 0;

	if (!q->bare) {
		r = sn__buf_append(&q->out, q->n == 0 ? "{" : ",", 1);
		if (r == 0)
			r = sn__json_quote(e->id, &q->out);
		if (r == 0)
			r = sn__buf_append(&q->out, ":", 1);
	}
	return r < 0 ? r : sn__reg_put_entry(&q->out, e);
}

static void on_entry(struct sn_reg_op *op, const struct sn_reg_entry *e, struct sn_str guid)
{
	struct request *q = SN_CONTAINER_OF(op, struct request, op);

	if (q->x == NULL || q->failed < 0 || (q->filtered && !sn__reg_matches(&q->filter, e)))
		return;
	q->failed = put_entry(q, e);
	q->alive = q->alive || e->kind == SN_REG_OBJECT || !sn__reg_is_gone(e);
	q->n++;
}

static void answer_entries(struct request *q)
{
	int r = q->failed;

	if (q->n == 0 && q->op.act == SN_REG_UPDATED) {
		respond_json(q->x, 200, SN_STR("{}"));
		return;
	}
	if (q->n == 0 && r == 0)
		r = SN_E_NOT_FOUND;
	if (r == 0 && !q->bare)
		r = sn__buf_append(&q->out, "}", 1);
	if (r < 0)
		respond_code(q->x, r);
	else
		respond_json(q->x, q->alive || q->op.act == SN_REG_UPDATED ? 200 : 408,
				sn__buf_str(&q->out));
}

static void answer_live(struct request *q)
{
	int r = sn__buf_printf(&q->out,
			"{\"status\":\"up\",\"Storage_type\":\"%s\",\"Hyperties_stored\":\"%llu\"}",
			q->http->store->ops->name, (unsigned long long)q->op.n);

	if (r < 0)
		respond_code(q->x, r);
	else
		respond_json(q->x, 200, sn__buf_str(&q->out));
}

static void answer_changed(struct request *q)
{
	static const struct sn_str hyperty[2][2] = {
			{SN_STR("{\"statusChanged\":\"false\",\"message\":\"Hyperty updated\"}"),
					SN_STR("{\"statusChanged\":\"true\",\"message\":\"Hyperty updated\"}")},
			{SN_STR("{\"statusChanged\":\"false\",\"message\":\"Keep alive\"}"),
					SN_STR("{\"statusChanged\":\"true\",\"message\":\"Keep alive\"}")},
	};
	bool touched = q->op.act == SN_REG_TOUCH;

	if (q->op.kind == SN_REG_HYPERTY)
		respond_json(q->x, 200, hyperty[touched][q->op.changed]);
	else if (touched)
		respond_json(q->x, 200, SN_STR("{\"message\":\"Keep alive\"}"));
	else
		respond_json(q->x, 200, SN_STR("{\"message\":\"data object updated\"}"));
}

static void answer(struct request *q)
{
	bool hyperty = q->op.kind == SN_REG_HYPERTY;

	switch (q->op.act) {
	case SN_REG_CREATE:
		respond_json(q->x, 200,
				hyperty ? SN_STR("{\"message\":\"Hyperty created\"}")
					: SN_STR("{\"message\":\"Data object created\"}"));
		break;
	case SN_REG_DELETE:
		respond_json(q->x, 200,
				hyperty ? SN_STR("{\"message\":\"Hyperty deleted\"}")
					: SN_STR("{\"message\":\"Data object deleted\"}"));
		break;
	case SN_REG_TOUCH:
	case SN_REG_UPDATE:
		answer_changed(q);
		break;
	case SN_REG_READ:
	case SN_REG_UPDATED:
		answer_entries(q);
		break;
	case SN_REG_COUNT:
		answer_live(q);
		break;
	case SN_REG_PAGE:
		sn__reg_page_end(&q->page);
		if (q->page.r < 0)
			respond_code(q->x, q->page.r);
		else
			respond_page(q->x, sn__buf_str(&q->out));
		break;
	case SN_REG_EXPIRE:
	case SN_REG_CHANGED:
		break;
	}
}

static void on_page_entry(struct sn_reg_op *op, const struct sn_reg_entry *e, struct sn_str guid)
{
	struct request *q = SN_CONTAINER_OF(op, struct request, op);

	sn__reg_page_entry(&q->page, e, guid);
}

static void submit(struct request *q);

/* The page's head has been counted; now its entries. */
static void page_entries(struct request *q)
{
	const char *host = sn_exchange_header(q->x, "Host");

	q->page = (struct sn_reg_page){.out = &q->out,
			.host = host != NULL ? host : "",
			.secure = q->http->secure};
	sn__reg_page_begin(&q->page, q->http->store->ops->name, q->op.n_guids, q->op.n);
	q->page_due = false;
	q->op = (struct sn_reg_op){.act = SN_REG_PAGE,
			.now = q->op.now,
			.page = SN_REG_PAGE_MAX,
			.entry = on_page_entry,
			.err = &q->err};
	submit(q);
}

/* Its time is up: for the client, too, which must not take our clock's being first for an answer, or it
 * would not go on to another registry. */
static bool is_late(const struct request *q)
{
	return q->op.until_ns != 0 && sn__loop_now_ns(q->http->loop) >= q->op.until_ns;
}

static void finished(struct request *q)
{
	if (q->x == NULL) {
		if (q->op.act == SN_REG_PAGE)
			sn__reg_page_end(&q->page);
	} else if (q->op.result < 0) {
		if (q->op.act == SN_REG_PAGE)
			sn__reg_page_end(&q->page);
		if (q->op.result == SN_E_CONNECT && is_late(q))
			sn_exchange_abort(q->x);
		else
			respond_code(q->x, q->op.result);
	} else if (q->page_due) {
		page_entries(q);
		return;
	} else {
		answer(q);
	}
	request_put(q);
}

static void on_done(struct sn_reg_op *op)
{
	finished(SN_CONTAINER_OF(op, struct request, op));
}

/* A write that its client has given up, and sent to another registry, must not be done after that one's
 * next (a create after the delete): the time that a request says is left holds in the store too. */
static uint64_t until_of(const struct request *q)
{
	struct sn_context context;

	sn_exchange_context(q->x, &context);
	return context.deadline_ms == 0
			? 0
			: sn__loop_now_ns(q->http->loop) + sn_ms_to_ns(context.deadline_ms);
}

static void submit(struct request *q)
{
	struct sn_reg_store *store = q->http->store;
	int r;

	q->op.done = on_done;
	q->op.until_ns = until_of(q);
	q->op.now = (int64_t)(sn__loop_wall_ns(q->http->loop) / SN_NS_PER_S);
	r = store->ops->submit(store, &q->op);
	if (r < 0)
		q->op.result = r;
	if (r != 0)
		finished(q);
	else
		sn_exchange_on_close(q->x, on_close, q);
}

/* ---- reading ---- */

static void read_by(struct request *q, enum sn_reg_kind kind, enum sn_reg_key by, struct sn_str key,
		bool filtered)
{
	int r = 0;

	q->op.act = SN_REG_READ;
	q->op.kind = kind;
	q->op.by = by;
	q->op.id = key;
	q->op.entry = on_entry;
	q->bare = by == SN_REG_BY_URL && !filtered;
	q->filtered = filtered;
	if (filtered)
		r = sn__reg_filter(sn_str_from(sn_exchange_query(q->x)), &q->arena, &q->filter);
	if (r < 0) {
		respond_code(q->x, r);
		request_put(q);
		return;
	}
	submit(q);
}

/* The answers that need no store. */
static void simply(struct request *q, void (*fn)(struct sn_exchange *x))
{
	fn(q->x);
	request_put(q);
}

static void to_live(struct request *q)
{
	const char *host = sn_exchange_header(q->x, "Host");
	int r = sn__buf_printf(&q->out, "%s%s%s/live",
			host == NULL                      ? ""
					: q->http->secure ? "https://"
							  : "http://",
			host != NULL ? host : "", "");

	if (r == 0)
		r = sn__buf_append(&q->out, "", 1);
	if (r < 0) {
		respond_code(q->x, r);
	} else {
		const struct sn_header headers[] = {{"Location", sn__buf_data(&q->out)}};

		if (sn_exchange_respond(q->x, 302, headers, 1, NULL, 0) == SN_E_NOMEM)
			sn_exchange_abort(q->x);
	}
	request_put(q);
}

static void unauthorized(struct sn_exchange *x)
{
	respond_json(x, 401, SN_STR("{\"message\":\"Unauthorized.\"}"));
}

static bool is(const struct request *q, unsigned i, const char *text)
{
	return i < q->n_path && sn_str_eq(q->path[i], sn_str_from(text));
}

static void live(struct request *q)
{
	const char *accept = sn_exchange_header(q->x, "Accept");

	q->op.act = SN_REG_COUNT;
	q->page_due = q->http->page && accept != NULL && strstr(accept, "text/html") != NULL;
	submit(q);
}

static void get_objects(struct request *q)
{
	static const struct {
		const char *word;
		enum sn_reg_key by;
	} keys[] = {{"url", SN_REG_BY_URL}, {"name", SN_REG_BY_NAME},
			{"reporter", SN_REG_BY_REPORTER}};

	for (size_t i = 0; i < SN_COUNT(keys); i++) {
		if (!is(q, 2, keys[i].word))
			continue;
		if (q->n_path == 4 || (q->n_path == 5 && is(q, 4, "do"))) {
			read_by(q, SN_REG_OBJECT, keys[i].by, q->path[3], q->n_path == 5);
			return;
		}
	}
	simply(q, not_found);
}

static void get_hyperties(struct request *q)
{
	bool filtered = q->n_path == 4 && is(q, 3, "hyperty");

	if (is(q, 1, "dataobject"))
		get_objects(q);
	else if (is(q, 1, "user") && (q->n_path == 3 || filtered))
		read_by(q, SN_REG_HYPERTY, SN_REG_BY_USER, q->path[2], filtered);
	else if (is(q, 1, "email") && (q->n_path == 3 || filtered))
		read_by(q, SN_REG_HYPERTY, SN_REG_BY_EMAIL, q->path[2], filtered);
	else if (is(q, 1, "url") && q->n_path == 3)
		read_by(q, SN_REG_HYPERTY, SN_REG_BY_URL, q->path[2], false);
	else if (is(q, 1, "guid") && q->n_path == 3)
		read_by(q, SN_REG_HYPERTY, SN_REG_BY_GUID, q->path[2], false);
	else
		simply(q, not_found);
}

static void get(struct request *q)
{
	count(q, SN_REG_COUNT_GET);
	if (q->n_path == 0) {
		to_live(q);
	} else if (q->n_path == 1 && is(q, 0, "live")) {
		live(q);
	} else if (q->n_path == 1 && is(q, 0, "error")) {
		simply(q, unauthorized);
	} else if (q->n_path == 2 && is(q, 1, "updated") &&
			(is(q, 0, "registry") || is(q, 0, "hyperty"))) {
		q->op.act = SN_REG_UPDATED;
		q->op.entry = on_entry;
		submit(q);
	} else if (is(q, 0, "hyperty")) {
		get_hyperties(q);
	} else {
		simply(q, no_route);
	}
}

/* ---- writing ---- */

/* The form of the body must fit what is asked for; 0, or what to answer with. */
static int fit_body(struct request *q, struct sn_str body)
{
	struct sn_reg_values *v = &q->values;
	bool create = q->op.act == SN_REG_CREATE;
	enum sn_reg_body_form form;
	int r = sn__reg_body(q->op.kind, body, create, &q->arena, v, &form);

	if (r < 0)
		return r;
	if (create && form == SN_REG_ONLY_DESCRIPTOR && q->http->legacy_put)
		sn__reg_fill_legacy(v, q->http->expires_max);
	else if (create && form != SN_REG_WHOLE)
		return SN_E_INVALID;
	if (!create)
		q->op.act = form == SN_REG_EMPTY ? SN_REG_TOUCH : SN_REG_UPDATE;
	v->expires = SN_MIN(v->expires, q->http->expires_max);
	q->op.values = v;
	return 0;
}

static void on_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct request *q = arg;
	int r;

	if (status != 0) { /* has been answered, or nobody waits for it */
		request_put(q);
		return;
	}
	if (q->x == NULL) {
		request_put(q);
		return;
	}
	r = fit_body(q, (struct sn_str){body, size});
	if (r < 0) {
		respond_code(x, r);
		request_put(q);
		return;
	}
	count(q,
			q->op.act == SN_REG_CREATE                  ? SN_REG_COUNT_CREATE
					: q->op.act == SN_REG_TOUCH ? SN_REG_COUNT_TOUCH
								    : SN_REG_COUNT_UPDATE);
	submit(q);
}

static void put(struct request *q)
{
	int r;

	if (q->n_path == 4 && is(q, 0, "hyperty") && is(q, 1, "user")) {
		q->op.act = SN_REG_CREATE;
		q->op.user = q->path[2];
		q->op.id = q->path[3];
	} else if (q->n_path == 3 && is(q, 0, "hyperty") && is(q, 1, "dataobject")) {
		q->op.act = SN_REG_CREATE;
		q->op.kind = SN_REG_OBJECT;
		q->op.id = q->path[2];
	} else if (q->n_path == 3 && (is(q, 0, "hyperty") || is(q, 0, "dataobject")) &&
			is(q, 1, "url")) {
		q->op.act = SN_REG_UPDATE;
		q->op.kind = is(q, 0, "hyperty") ? SN_REG_HYPERTY : SN_REG_OBJECT;
		q->op.id = q->path[2];
	} else {
		simply(q, no_route);
		return;
	}
	r = sn_exchange_read_all(q->x, SN_REG_BODY_MAX, on_body, q);
	if (r < 0) {
		respond_code(q->x, r);
		request_put(q);
	}
}

static void delete_entry(struct request *q)
{
	count(q, SN_REG_COUNT_DELETE);
	q->op.act = SN_REG_DELETE;
	if (q->n_path == 4 && is(q, 0, "hyperty") && is(q, 1, "user")) {
		q->op.user = q->path[2];
		q->op.id = q->path[3];
		submit(q);
	} else if (q->n_path == 4 && is(q, 0, "hyperty") && is(q, 1, "dataobject") &&
			is(q, 2, "url")) {
		q->op.kind = SN_REG_OBJECT;
		q->op.id = q->path[3];
		submit(q);
	} else {
		simply(q, no_route);
	}
}

/* ---- all of it ---- */

/* Take the path apart. SN_E_NOT_FOUND, SN_E_INVALID, SN_E_NOMEM. */
static int split(struct request *q, struct sn_str path)
{
	if (path.len >= 2 && path.ptr[0] == '/' && path.ptr[1] == '/')
		path = (struct sn_str){path.ptr + 1, path.len - 1};
	if (path.len > 1 && path.ptr[path.len - 1] == '/')
		path.len--;
	q->n_path = 0;
	for (size_t at = 1; at < path.len;) {
		const char *slash = memchr(path.ptr + at, '/', path.len - at);
		size_t end = slash != NULL ? (size_t)(slash - path.ptr) : path.len;
		struct sn_str raw = {path.ptr + at, end - at};
		int r = SN_E_NOT_FOUND;

		if (raw.len > 0 && end + 1 != path.len && q->n_path < SEGMENTS_MAX)
			r = sn__reg_segment(raw, &q->arena, &q->path[q->n_path]);
		if (r < 0)
			return r;
		q->n_path++;
		at = end + 1;
	}
	return 0;
}

/* Addresses, not texts: ::ffff:127.0.0.1 is 127.0.0.1. */
static bool same_address(const struct sn_addr *a, const struct sn_addr *b)
{
	static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
	const unsigned char *bytes[2];
	size_t len[2];

	for (unsigned i = 0; i < 2; i++) {
		const struct sn_addr *of = i == 0 ? a : b;

		if (of->u.sa.sa_family == AF_INET) {
			bytes[i] = (const unsigned char *)&of->u.in.sin_addr;
			len[i] = 4;
		} else if (of->u.sa.sa_family == AF_INET6) {
			bytes[i] = of->u.in6.sin6_addr.s6_addr;
			len[i] = 16;
			if (memcmp(bytes[i], mapped, sizeof(mapped)) == 0) {
				bytes[i] += sizeof(mapped);
				len[i] = 4;
			}
		} else {
			return false;
		}
	}
	return len[0] == len[1] && memcmp(bytes[0], bytes[1], len[0]) == 0;
}

/* Whether somebody else than the load balancer asks. */
static bool is_stranger(const struct sn_reg_http *http, const struct sn_exchange *x)
{
	const struct sn_addr *peer = sn__exchange_peer(x);

	return http->only != NULL && (peer == NULL || !same_address(peer, http->only));
}

static void route(struct request *q, const char *method)
{
	bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

	if (!reads && q->http->certs && !sn__exchange_has_client_cert(q->x))
		simply(q, unauthorized);
	else if (reads)
		get(q);
	else if (strcmp(method, "PUT") == 0)
		put(q);
	else if (strcmp(method, "DELETE") == 0)
		delete_entry(q);
	else
		simply(q, no_route);
}

void sn__reg_http_handle(struct sn_exchange *x, void *arg)
{
	struct sn_str path = sn_str_from(sn_exchange_path(x));
	struct sn_reg_http *http = arg;
	struct request *q;
	int r;

	if (is_stranger(http, x)) {
		respond(x, 401, &as_html, SN_STR("Unauthorized request"));
		return;
	}
	if (path.len + strlen(sn_exchange_query(x)) > SN_REG_TARGET_MAX) {
		respond_json(x, 414, SN_STR(""));
		return;
	}
	q = request_get(http, x);
	if (q == NULL) {
		respond_code(x, SN_E_NOMEM);
		return;
	}
	r = split(q, path);
	if (r == SN_E_NOT_FOUND) {
		simply(q, no_route);
	} else if (r < 0) {
		respond_code(x, r);
		request_put(q);
	} else {
		route(q, sn_exchange_method(x));
	}
}

void sn__reg_http_init(struct sn_reg_http *http)
{
	sn_list_init(&http->free);
}

void sn__reg_http_close(struct sn_reg_http *http)
{
	http->closed = true;
	http_free(http);
}
