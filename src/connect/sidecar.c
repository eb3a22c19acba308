/* SPDX-License-Identifier: Apache-2.0 */

/* The sidecar's way to databases and queues: POST /database/NAME/OPERATION with the parameters as its
 * body. An object of its own lives until both the call and the exchange have ended. */

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "connect/connect.h"
#include "connect/resource.h"
#include "mesh/sidecar_impl.h"
#include "proto/http.h"

#define BODY_MAX ((size_t)16 << 20) /* as the services' own limit */

struct side_call {
	struct sn_resource_call rc; /* first */
	struct sn_sidecar *side;
	struct sn_exchange *x; /* NULL: it has ended */
	struct sn_connect *connect;
	bool running;
	uint64_t start_ns, n_in;
	struct sn_result result;
	struct sn_context context;
	struct sn_buf texts; /* method, path, operation, params; each with a NUL behind it */
	struct sn_str method, path;
};

static void release(struct side_call *c)
{
	if (c->running || c->x != NULL)
		return;
	sn__result_finish(&c->result);
	sn__buf_finish(&c->texts);
	sn__free(c->rc.keep.state);
	sn__free(c);
}

/* ---- the answer ---- */

static void tell(struct side_call *c, unsigned status, int code, size_t n_out)
{
	const struct sn_sidecar_entry e = {
			.method = c->method,
			.path = c->path,
			.target = c->rc.target != NULL ? sn__target_text(c->rc.target) : "",
			.peer = sn_result_identity(&c->result),
			.call = c->result.call_id,
			.status = status,
			.attempts = c->result.attempts,
			.duration_ns = sn__loop_now_ns(c->side->rt->loop) - c->start_ns,
			.n_in = c->n_in,
			.n_out = n_out,
			.code = code,
	};

	sn__sidecar_tell(c->side, &e);
}

static void answer(struct side_call *c)
{
	const struct sn_result *res = &c->result;
	const struct sn_header headers[] = {
			{"Content-Type", "application/json"},
			{"sinew-call-id", res->call_id},
			{"sinew-peer", sn_result_identity(res)},
			{"sinew-request-id", res->request_id},
	};
	size_t size;
	const char *json = sn_result_json(res, &size);

	tell(c, 200, 0, size);
	if (sn_exchange_respond(c->x, 200, headers,
			    SN_COUNT(headers) - (res->request_id[0] == '\0'), json, size) < 0)
		sn_exchange_abort(c->x);
}

/* The service said no: its own words in the problem document. */
static void answer_refusal(struct side_call *c, const struct sn_error *err)
{
	int foreign = sn_error_foreign(err);
	unsigned status = foreign >= 400 && foreign < 500 ? (unsigned)foreign : 502;
	const struct sn_result *res = &c->result;
	const struct sn_header headers[] = {{"Content-Type", "application/problem+json"},
			{"sinew-call-id", res->call_id}, {"sinew-peer", sn_result_identity(res)}};
	SN_AUTO_JSON json_t *doc = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s}", "title",
			sn__http_reason(status), "status", (int)status, "detail",
			sn_error_text(err), "code", sn_code_name(sn_error_code(err)), "error",
			res->type, "message", res->message, "request", res->request_id);
	SN_AUTO_FREE char *text = doc != NULL ? sn__json_text(doc) : NULL;
	size_t size = text != NULL ? strlen(text) : 0;

	tell(c, status, 0, size);
	if (sn_exchange_respond(c->x, status, headers, SN_COUNT(headers), text, size) < 0)
		sn_exchange_abort(c->x);
}

static void refuse(struct side_call *c, const struct sn_error *err)
{
	unsigned status = sn__proxy_status_of(sn_error_code(err));

	tell(c, status, sn_error_code(err), 0);
	sn__proxy_refuse(c->x, status, sn_error_text(err), err);
}

static void on_done(struct sn_resource_call *rc, const struct sn_error *err)
{
	struct side_call *c = SN_CONTAINER_OF(rc, struct side_call, rc);

	c->running = false;
	if (c->x != NULL && err == NULL)
		answer(c);
	else if (c->x != NULL && c->result.type[0] != '\0' &&
			(sn_error_code(err) == SN_E_REJECTED || sn_error_code(err) == SN_E_STATUS))
		answer_refusal(c, err);
	else if (c->x != NULL)
		refuse(c, err);
	release(c); /* or when the exchange has ended */
}

/* ---- the request ---- */

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	struct side_call *c = arg;

	c->x = NULL;
	if (c->running)
		sn__resource_stop(&c->rc);
	else
		release(c);
}

static int keep(struct sn_buf *b, struct sn_str s)
{
	int r = sn__buf_append_str(b, s);

	return r < 0 ? r : sn__buf_append(b, "", 1);
}

/* All texts in one buffer, then slices of it: it moves while it grows. */
static int keep_texts(struct side_call *c, struct sn_str operation, struct sn_str params)
{
	const struct sn_str parts[] = {sn_str_from(sn_exchange_method(c->x)),
			sn_str_from(sn_exchange_path(c->x)), operation, params};
	struct sn_str *const to[] = {&c->method, &c->path, &c->rc.operation, &c->rc.params};
	const char *at;

	for (size_t i = 0; i < SN_COUNT(parts); i++) {
		int r = keep(&c->texts, parts[i]);

		if (r < 0)
			return r;
	}
	at = sn__buf_data(&c->texts);
	for (size_t i = 0; i < SN_COUNT(parts); i++) {
		*to[i] = (struct sn_str){at, parts[i].len};
		at += parts[i].len + 1;
	}
	return 0;
}

static int find_target(struct side_call *c, const char *name, struct sn_error *err)
{
	struct sn_api_target t;
	int r = sn__api_target(c->rc.kind->name, name, NULL, &t, err);

	if (r < 0)
		return r;
	r = sn__catalog_target(c->side->rt->catalog, t.kind, t.name, t.endpoint, &c->rc.target);
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}

static int start(struct side_call *c, struct sn_str body, struct sn_error *err)
{
	struct sn_runtime *rt = c->side->rt;
	struct sn_side_place p;
	int r;

	/* Behind /KIND; it was there when the handler looked. */
	if (!sn__place_read(strchr(sn_exchange_path(c->x) + 1, '/'), &p) || p.n != 2)
		return sn__error_set(err, SN_E_INVALID, "a call is POST /%s/NAME/OPERATION",
				c->rc.kind->name);
	if (body.len == 0)
		body = SN_STR("{}");
	if (memchr(body.ptr, '\0', body.len) != NULL)
		return sn__error_set(err, SN_E_INVALID, "params are no JSON: they hold a NUL");
	r = sn__operation_check(p.part[1], err);
	if (r == 0)
		r = sn__params_check(body, err);
	if (r == 0)
		r = find_target(c, p.part[0], err);
	if (r < 0)
		return r;
	r = keep_texts(c, sn_str_from(p.part[1]), body);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	sn__sidecar_context(c->x, &c->context, &c->rc.retry);
	c->rc.context = &c->context;
	return sn__resource_start(&c->connect->pool, rt->mesh, &c->rc, err);
}

static void on_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct side_call *c = arg;
	struct sn_error err;

	if (status < 0) /* the server has answered, and the exchange ends */
		return;
	c->n_in = size;
	if (start(c, (struct sn_str){body, size}, &err) == 0)
		c->running = true;
	else
		sn__sidecar_refuse(c->side, x, sn__proxy_status_of(err.code), err.text);
}

static void handle(struct sn_sidecar_route *head, struct sn_sidecar *side, struct sn_exchange *x)
{
	struct sn_connect_route *route = SN_CONTAINER_OF(head, struct sn_connect_route, head);
	struct side_call *c;

	if (strcmp(sn_exchange_method(x), "POST") != 0) {
		sn__sidecar_refuse(side, x, 405, "an operation is called with POST");
		return;
	}
	c = sn__calloc(1, sizeof(*c));
	if (c == NULL) {
		sn__sidecar_refuse(side, x, 500, "out of memory");
		return;
	}
	sn__result_init(&c->result);
	sn__buf_init(&c->texts, SIZE_MAX);
	c->side = side;
	c->x = x;
	c->connect = route->connect;
	c->start_ns = sn__loop_now_ns(side->rt->loop);
	c->rc.kind = route->kind;
	c->rc.result = &c->result;
	c->rc.done = on_done;
	sn_exchange_on_close(x, on_close, c);
	if (sn_exchange_read_all(x, BODY_MAX, on_body, c) < 0)
		sn_exchange_abort(x); /* on_close follows */
}

void sn__connect_routes(struct sn_connect *c)
{
	static const char *const prefixes[] = {"/database/", "/queue/"};
	const struct sn_resource_kind *const kinds[] = {&sn__database_kind, &sn__queue_kind};

	for (size_t i = 0; i < SN_COUNT(prefixes); i++) {
		c->routes[i].head.prefix = prefixes[i];
		c->routes[i].head.handle = handle;
		c->routes[i].kind = kinds[i];
		c->routes[i].connect = c;
		sn__sidecar_route_add(c->part.rt, &c->routes[i].head);
	}
}
