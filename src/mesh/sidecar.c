/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/sidecar.h"

#include "base/mem.h"
#include "mesh/inbound.h"
#include "mesh/request.h"
#include "mesh/sidecar_impl.h"

#define PEER_SHOWN 64   /* bytes of an identity */
#define CLIENT_GONE 499 /* as others call it in their logs */

/* One request of a client and the call made for it. */
struct call {
	struct sn_proxy proxy; /* first */
	struct sn_fetch fetch;
	struct sn_context context;
	/* for the access log */
	uint64_t start_ns;
	unsigned status; /* that the client was given; 0: none yet */
	char peer[PEER_SHOWN];
};

static struct sn_sidecar *side_of(const struct call *c)
{
	return SN_CONTAINER_OF(c->proxy.pool, struct sn_sidecar, pool);
}

static struct call *call_of(struct sn_proxy *p)
{
	return SN_CONTAINER_OF(p, struct call, proxy);
}

static struct call *call_of_fetch(struct sn_fetch *f)
{
	return SN_CONTAINER_OF(f, struct call, fetch);
}

/* ---- the request ---- */

/* Ours: read here, written anew for the peer. */
static bool is_ours(struct sn_proxy *p, struct sn_str name)
{
	const struct call *c = call_of(p);
	const struct sn_runtime *rt = side_of(c)->rt;
	double sample;

	if (sn__str_ieq(name, SN_STR("traceparent")))
		return sn__tracer_samples(rt->tracer, &sample);
	if (sn__str_ieq(name, SN_STR("sinew-timeout-ms")) ||
			sn__str_ieq(name, SN_STR("grpc-timeout")) ||
			sn__str_ieq(name, SN_STR("sinew-retry")) ||
			sn__str_ieq(name, SN_STR("sinew-target")))
		return true;
	return name.len > 5 && sn__str_ieq((struct sn_str){name.ptr, 5}, SN_STR("x-b3-")) &&
			sn__mesh_policy(rt->mesh, c->fetch.target, SN_DIALECT_BERLIOZ)
					->enable_zipkin;
}

void sn__sidecar_context(
		struct sn_exchange *x, struct sn_context *ret_context, enum sn_retry *ret_retry)
{
	const struct sn_http_head *head = sn__exchange_head(x);
	const struct sn_str *retry = sn__http_find(head, "sinew-retry");

	(void)sn__context_read(head->headers, head->n_headers, ret_context);
	*ret_retry = SN_RETRY_POLICY;
	if (retry == NULL)
		return;
	if (sn__str_ieq(*retry, SN_STR("safe")))
		*ret_retry = SN_RETRY_SAFE;
	else if (sn__str_ieq(*retry, SN_STR("all")))
		*ret_retry = SN_RETRY_ALL;
	else if (sn__str_ieq(*retry, SN_STR("none")))
		*ret_retry = SN_RETRY_NONE;
}

/* ---- what the mesh says ---- */

static void on_head(struct sn_fetch *f, const struct sn_http_head *head)
{
	struct call *c = call_of_fetch(f);
	const struct sn_peer_state *peer = f->call.permit.state;
	char id[SN_CALL_ID_SIZE];
	const struct sn_header more[] = {
			{"sinew-call-id", id}, {"sinew-peer", peer != NULL ? peer->identity : ""}};
	int r;

	sn__call_id_text(f->call.id, id);
	c->status = head->status;
	if (peer != NULL) {
		size_t n = SN_MIN(strlen(peer->identity), sizeof(c->peer) - 1);

		memcpy(c->peer, peer->identity, n);
		c->peer[n] = '\0';
	}
	r = sn__proxy_head(&c->proxy, head, more, SN_COUNT(more));
	if (r < 0)
		sn__fetch_fail(f, r);
}

static int on_data(struct sn_fetch *f, struct sn_str data)
{
	return sn__proxy_data(&call_of_fetch(f)->proxy, data);
}

static void on_trailers(struct sn_fetch *f, const struct sn_http_header *trailers, unsigned n)
{
	sn__proxy_trailers(&call_of_fetch(f)->proxy, trailers, n);
}

static void on_upgraded(struct sn_fetch *f)
{
	sn__proxy_upgraded(&call_of_fetch(f)->proxy);
}

static void on_abort(struct sn_fetch *f)
{
	sn__proxy_break(&call_of_fetch(f)->proxy);
}

static void tell(struct call *c, const struct sn_error *err)
{
	struct sn_sidecar *side = side_of(c);
	char id[SN_CALL_ID_SIZE];
	struct sn_sidecar_entry e = {
			.method = c->proxy.method,
			.path = c->proxy.url,
			.target = sn__target_text(c->fetch.target),
			.peer = c->peer,
			.call = id,
			.status = c->status,
			.attempts = c->fetch.call.attempt,
			.n_in = c->proxy.n_in,
			.n_out = c->proxy.n_out,
			.code = err != NULL ? sn_error_code(err) : 0,
	};

	if (side->rt->access == NULL)
		return;
	sn__call_id_text(c->fetch.call.id, id);
	e.duration_ns = sn__loop_now_ns(side->rt->loop) - c->start_ns;
	if (e.status == 0)
		e.status = c->proxy.x == NULL ? CLIENT_GONE : sn__proxy_status_of(e.code);
	sn__sidecar_tell(side, &e);
}

static void on_done(struct sn_fetch *f, const struct sn_error *err)
{
	tell(call_of_fetch(f), err);
	sn__proxy_done(&call_of_fetch(f)->proxy, err);
}

static const struct sn_fetch_ops fetch_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_trailers = on_trailers,
		.on_upgraded = on_upgraded,
		.on_abort = on_abort,
		.on_done = on_done,
};

/* ---- what the client does ---- */

static void call_pause(struct sn_proxy *p, bool pause)
{
	sn__fetch_pause(&call_of(p)->fetch, pause);
}

static void call_body_ready(struct sn_proxy *p)
{
	sn__fetch_body_ready(&call_of(p)->fetch);
}

static void call_cancel(struct sn_proxy *p)
{
	sn__fetch_cancel(&call_of(p)->fetch);
}

static struct sn_stream *call_take_stream(struct sn_proxy *p, struct sn_buf *rest)
{
	return sn__http_take_stream(&call_of(p)->fetch.req, rest);
}

static void call_tunnel_over(struct sn_proxy *p)
{
	sn__fetch_end(&call_of(p)->fetch);
}

static const struct sn_proxy_ops proxy_ops = {
		.pause = call_pause,
		.body_ready = call_body_ready,
		.cancel = call_cancel,
		.take_stream = call_take_stream,
		.tunnel_over = call_tunnel_over,
};

/* ---- routes ---- */

int sn__sidecar_target(const struct sn_side_place *p, struct sn_api_target *ret_target,
		struct sn_error *err)
{
	return sn__api_target(
			p->part[0], p->part[1], p->n > 2 ? p->part[2] : NULL, ret_target, err);
}

static int start_call(struct call *c, const struct sn_side_place *p, struct sn_error *err)
{
	const char *query = sn_exchange_query(c->proxy.x);
	SN_AUTO_FREE char *url = query[0] != '\0' ? sn__asprintf("%s?%s", p->rest, query)
						  : sn__strdup(p->rest);
	struct sn_runtime *rt = side_of(c)->rt;
	struct sn_fetch *f = &c->fetch;
	struct sn_api_target t;
	int r = url != NULL ? sn__sidecar_target(p, &t, err)
			    : sn__error_set(err, SN_E_NOMEM, "out of memory");

	if (r == 0 && t.endpoint.len == 0)
		r = sn__error_set(err, SN_E_INVALID, "%ss are not called over HTTP", p->part[0]);
	if (r < 0)
		return r;
	r = sn__catalog_target(rt->catalog, t.kind, t.name, t.endpoint, &f->target);
	if (r == 0) {
		c->proxy.keep_max = sn__mesh_policy(rt->mesh, f->target, SN_DIALECT_BERLIOZ)
						    ->retry_buffer;
		r = sn__proxy_request(&c->proxy, sn_str_from(url), is_ours);
	}
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	sn__sidecar_context(c->proxy.x, &c->context, &f->retry);
	f->context = &c->context;
	f->ops = &fetch_ops;
	f->method = c->proxy.method;
	f->url = c->proxy.url;
	f->headers = c->proxy.headers;
	f->n_headers = c->proxy.n_headers;
	f->grpc = c->proxy.grpc;
	f->upgrade = c->proxy.upgrade;
	f->keyed = c->proxy.keyed;
	f->source = c->proxy.source;
	c->start_ns = sn__loop_now_ns(rt->loop);
	r = sn__fetch_start(rt, f, err);
	if (r == 0)
		sn__proxy_started(&c->proxy);
	return r;
}

static void handle_call(
		struct sn_sidecar *side, struct sn_exchange *x, const struct sn_side_place *p)
{
	struct sn_proxy *proxy = sn__proxy_get(&side->pool, x);
	struct sn_error err;

	if (proxy == NULL)
		sn__sidecar_refuse(side, x, 500, "out of memory");
	else if (start_call(call_of(proxy), p, &err) < 0)
		sn__sidecar_refuse(side, x, sn__proxy_status_of(err.code), err.text);
}

void sn__sidecar_route_add(struct sn_runtime *rt, struct sn_sidecar_route *route)
{
	sn_list_push_back(&rt->sidecar_routes, &route->link);
}

static struct sn_sidecar_route *find_route(const struct sn_runtime *rt, const char *path)
{
	SN_LIST_FOREACH (pos, &rt->sidecar_routes) {
		struct sn_sidecar_route *route = SN_CONTAINER_OF(
				pos, struct sn_sidecar_route, link);

		if (strncmp(path, route->prefix, strlen(route->prefix)) == 0)
			return route;
	}
	return NULL;
}

/* A header of ours that says nothing would be a call that is held to nothing: NULL, or what is wrong. */
static const char *wrong_header(const struct sn_exchange *x)
{
	const char *retry = sn_exchange_header(x, "sinew-retry");
	const char *timeout = sn_exchange_header(x, "sinew-timeout-ms");
	uint64_t ms;

	if (retry != NULL && !sn__str_ieq(sn_str_from(retry), SN_STR("safe")) &&
			!sn__str_ieq(sn_str_from(retry), SN_STR("all")) &&
			!sn__str_ieq(sn_str_from(retry), SN_STR("none")))
		return "sinew-retry is safe, all or none";
	if (timeout != NULL && sn__parse_u64(sn_str_from(timeout), UINT32_MAX, &ms) < 0)
		return "sinew-timeout-ms is a whole number of milliseconds";
	return NULL;
}

static void handle(struct sn_exchange *x, void *arg)
{
	struct sn_sidecar *side = arg;
	const char *wrong = wrong_header(x);
	const char *path = sn_exchange_path(x);
	bool is_call = strncmp(path, "/call/", 6) == 0 ||
			sn_exchange_header(x, "sinew-target") != NULL;
	struct sn_sidecar_route *route = find_route(side->rt, path);
	struct sn_side_place p;

	if (side->token != NULL && !sn__bearer_fits(x, side->token))
		sn__sidecar_refuse(side, x, 401, "this needs \"Authorization: Bearer TOKEN\"");
	else if (wrong != NULL)
		sn__sidecar_refuse(side, x, 400, wrong);
	else if (is_call && sn__place_of_call(path, sn__exchange_head(x), &p))
		handle_call(side, x, &p);
	else if (is_call)
		sn__sidecar_refuse(side, x, 400,
				"a call is /call/KIND/NAME/ENDPOINT/path, its first three parts without "
				"encoded slashes, or any path with sinew-target: KIND/NAME/ENDPOINT");
	else if (strncmp(path, "/peers/", 7) == 0)
		sn__sidecar_peers(side, x, path + 6);
	else if (route != NULL)
		route->handle(route, side, x);
	else
		sn__sidecar_refuse(side, x, 404,
				"the sidecar serves /call/KIND/NAME/ENDPOINT/..., "
				"/peers/KIND/NAME/ENDPOINT, /database/NAME/OPERATION and "
				"/queue/NAME/OPERATION");
}

/* ---- the whole ---- */

static void side_gone(struct sn_proxy_pool *pool)
{
	struct sn_sidecar *side = SN_CONTAINER_OF(pool, struct sn_sidecar, pool);

	sn__drain_release(side->rt);
	if (side->token != NULL)
		explicit_bzero(side->token, strlen(side->token));
	sn__free(side->token);
	sn__free(side);
}

static void sidecar_closing(struct sn_hosted *hosted)
{
	sn__sidecar_unwatch(SN_CONTAINER_OF(hosted, struct sn_sidecar, hosted));
}

static void sidecar_free(struct sn_hosted *hosted)
{
	struct sn_sidecar *side = SN_CONTAINER_OF(hosted, struct sn_sidecar, hosted);

	sn__proxy_pool_close(&side->pool);
}

struct listening {
	struct sn_hosting how;
	const struct sn_sidecar_options *opts;
};

static int sidecar_make(struct sn_hosting *how, struct sn_hosted **ret_hosted, struct sn_error *err)
{
	struct listening *l = SN_CONTAINER_OF(how, struct listening, how);
	struct sn_sidecar *side = sn__calloc(1, sizeof(*side));

	if (side != NULL && l->opts->token != NULL)
		side->token = sn__strdup(l->opts->token);
	if (side == NULL || (l->opts->token != NULL && side->token == NULL)) {
		sn__free(side);
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	side->rt = how->rt;
	side->pool = (struct sn_proxy_pool){
			.ops = &proxy_ops,
			.loop = how->rt->loop,
			.size = sizeof(struct call),
			.gone = side_gone,
	};
	sn__proxy_pool_init(&side->pool);
	sn__drain_hold(side->rt); /* calls and tunnels outlive the server */
	sn_list_init(&side->watches);
	side->hosted.closing = sidecar_closing;
	side->hosted.free = sidecar_free;
	how->arg = side;
	*ret_hosted = &side->hosted;
	return 0;
}

int sn__sidecar_listen(
		struct sn_runtime *rt, const struct sn_sidecar_options *opts, struct sn_error *err)
{
	struct listening l = {
			.how = {.listen = opts->listen, .handler = handle, .make = sidecar_make},
			.opts = opts,
	};
	struct sn_hosted *hosted;

	l.how.config.check_origin = true;
	l.how.config.hosts = opts->hosts;
	l.how.config.extended_connect = true;
	l.how.config.max_body = opts->max_body != 0 ? opts->max_body : UINT64_MAX;
	l.how.config.max_head = opts->max_head;
	l.how.config.max_connections = opts->max_connections;
	l.how.config.idle_timeout_ms = opts->idle_ms;
	return sn__hosted_open(rt, &l.how, &hosted, err);
}
