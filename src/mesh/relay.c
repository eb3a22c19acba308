/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Time: a request that came with a deadline is held to it whatever it does. One without is given
 * `timeout` from the moment its body has come to the head of the answer, and between any two pieces of
 * that. One timer stands for both.
 *
 * A kept connection that the service closed just when it was used is tried anew once, when the request
 * may be sent twice (RFC 9110, 9.2.2) and has no body that is gone.
 */

#include "mesh/relay.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "io/grpc.h"
#include "io/http.h"
#include "mesh/api.h"
#include "mesh/inbound.h"
#include "mesh/proxy.h"
#include "proto/url.h"

#define POOL_IDLE_MS 4000 /* Node closes at 5 s */
#define POOL_MAX 1024
#define H2_STREAMS 100
#define PING_MS 30000         /* silent HTTP/2 connections with open streams, both sides */
#define GRPC_IDLE_MS 86400000 /* PINGs tell whether the service is there */

struct relay {
	struct sn_hosted hosted;
	struct sn_proxy_pool pool;
	struct sn_runtime *rt;
	struct sn_relay_place to;
	char *host;                   /* of `to`; NULL: an address of a Unix socket */
	struct sn_http_dest *dest[2]; /* HTTP/1.1, HTTP/2; NULL: not yet needed */
	bool http2, trust, secure;
	unsigned max_inflight;
	uint32_t timeout_ms;
};

#define HOP_HEADERS (SN_SERVING_HEADERS + 6)

/* One request on its way through. */
struct hop {
	struct sn_proxy proxy; /* first */
	struct sn_http_req req;
	struct sn_timer timer;
	struct sn_serving_headers trace;
	struct sn_http_header more[HOP_HEADERS];
	unsigned n_more;
	uint64_t deadline_ns; /* SN_NEVER_NS: none */
	char left[24];        /* sinew-timeout-ms, or grpc-timeout */
	char client[SN_ADDR_TEXT_MAX];
	char *forwarded_for, *forwarded; /* where the client's own are added to */
	bool b3, w3c;                    /* its headers of tracing are written anew */
	bool given, upgraded, retried;
	int code; /* why we ended it; 0: we did not */
};

static struct relay *relay_of(const struct hop *h)
{
	return SN_CONTAINER_OF(h->proxy.pool, struct relay, pool);
}

static struct hop *hop_of(struct sn_proxy *p)
{
	return SN_CONTAINER_OF(p, struct hop, proxy);
}

static struct hop *hop_of_req(struct sn_http_req *req)
{
	return SN_CONTAINER_OF(req, struct hop, req);
}

/* ---- where to ---- */

int sn__relay_parse(struct sn_str text, struct sn_relay_place *ret_place, struct sn_error *err)
{
	struct sn_relay_place place = {.port = 0};
	struct sn_url url;
	char full[SN_URL_HOST_MAX + 32];
	bool bare = memchr(text.ptr, '/', text.len) == NULL;
	int r;

	if (text.len > 5 && memcmp(text.ptr, "unix:", 5) == 0) {
		r = sn__addr_unix(text, &place.addr);
		if (r < 0)
			return sn__error_set(err, SN_E_PARSE, "expected unix:PATH");
		*ret_place = place;
		return 0;
	}
	if (bare && sn__addr_parse_listen(text, &place.addr, err) == 0) {
		*ret_place = place;
		return 0;
	}
	if (bare) /* a name */
		(void)snprintf(full, sizeof(full), "http://%.*s",
				(int)SN_MIN(text.len, (size_t)SN_URL_HOST_MAX + 8), text.ptr);
	r = sn__url_parse(bare ? sn_str_from(full) : text, &url, err);
	if (r < 0)
		return r;
	if (url.secure || url.websocket || url.target.len > 1)
		return sn__error_set(err, SN_E_PARSE,
				"expected http://HOST:PORT, HOST:PORT or unix:PATH");
	place.host = bare ? (struct sn_str){text.ptr, url.host.len} : url.host;
	place.port = url.port;
	*ret_place = place;
	return 0;
}

static int dest_of(struct relay *relay, bool http2, struct sn_http_dest **ret_dest)
{
	struct sn_http_dest_options opts = {
			.host = relay->host,
			.port = relay->to.port,
			.addr = relay->host == NULL ? &relay->to.addr : NULL,
			.max_connections = POOL_MAX,
			.idle_ms = POOL_IDLE_MS,
			.version = http2 ? SN_HTTP_2 : SN_HTTP_1,
			.max_streams = H2_STREAMS,
			.ping_ms = PING_MS,
	};
	int r = 0;

	if (relay->dest[http2] == NULL)
		r = sn__http_dest_create(relay->rt->pool, &opts, &relay->dest[http2]);
	*ret_dest = relay->dest[http2];
	return r;
}

/* ---- headers ---- */

static bool begins(struct sn_str s, struct sn_str with)
{
	return s.len >= with.len && sn__str_ieq((struct sn_str){s.ptr, with.len}, with);
}

/* Written anew, or not to be believed. */
static bool is_ours(struct sn_proxy *p, struct sn_str name)
{
	const struct hop *h = hop_of(p);

	if (h->b3 && (begins(name, SN_STR("x-b3-")) || sn__str_ieq(name, SN_STR("b3"))))
		return true;
	if (h->w3c && sn__str_ieq(name, SN_STR("traceparent")))
		return true;
	if (h->deadline_ns != SN_NEVER_NS &&
			(sn__str_ieq(name, SN_STR("sinew-timeout-ms")) ||
					sn__str_ieq(name, SN_STR("grpc-timeout"))))
		return true;
	if (sn__str_ieq(name, SN_STR("forwarded")))
		return true;
	if (!begins(name, SN_STR("x-forwarded-")))
		return false;
	return !relay_of(h)->trust || sn__str_ieq(name, SN_STR("x-forwarded-for"));
}

static void add(struct hop *h, struct sn_str name, const char *value)
{
	h->more[h->n_more++] = (struct sn_http_header){name, sn_str_from(value)};
}

/* "203.0.113.9", "2001:db8::9"; nothing for a Unix socket. */
static void read_client(struct hop *h)
{
	const struct sn_addr *addr = sn__exchange_peer(h->proxy.x);
	char text[SN_ADDR_TEXT_MAX];

	if (addr != NULL)
		(void)snprintf(h->client, sizeof(h->client), "%s", sn__addr_host(addr, text));
}

/* Who asks, for a service that only sees us. X-Forwarded-For has bare addresses, Forwarded (RFC 7239)
 * quotes those with colons; it is passed on when somebody before us began it. */
static int forward_client(struct hop *h)
{
	const struct sn_http_head *head = sn__exchange_head(h->proxy.x);
	const struct relay *relay = relay_of(h);
	const struct sn_str *before = relay->trust ? sn__http_find(head, "x-forwarded-for") : NULL;
	const struct sn_str *chain = relay->trust ? sn__http_find(head, "forwarded") : NULL;
	const char *proto = relay->secure ? "https" : "http", *client = h->client;
	bool v6;

	read_client(h);
	v6 = strchr(client, ':') != NULL;
	if (before != NULL) {
		h->forwarded_for = sn__asprintf("%.*s%s%s", (int)before->len, before->ptr,
				client[0] != '\0' ? ", " : "", client);
		client = h->forwarded_for;
	}
	if (chain != NULL)
		h->forwarded = sn__asprintf("%.*s, for=%s%s%s;proto=%s", (int)chain->len,
				chain->ptr, v6 ? "\"[" : "",
				h->client[0] != '\0' ? h->client : "unknown", v6 ? "]\"" : "",
				proto);
	if (client == NULL || (chain != NULL && h->forwarded == NULL))
		return SN_E_NOMEM;
	if (client[0] != '\0')
		add(h, SN_STR("X-Forwarded-For"), client);
	if (!relay->trust || sn__http_find(head, "x-forwarded-proto") == NULL)
		add(h, SN_STR("X-Forwarded-Proto"), proto);
	if (h->forwarded != NULL)
		add(h, SN_STR("Forwarded"), h->forwarded);
	return 0;
}

static void tell_time(struct hop *h, uint64_t now_ns)
{
	uint64_t left_ns = sn_time_until(now_ns, h->deadline_ns);

	if (h->deadline_ns == SN_NEVER_NS)
		return;
	if (h->proxy.grpc) {
		sn__grpc_timeout_write(left_ns, h->left);
		add(h, SN_STR("grpc-timeout"), h->left);
	} else {
		(void)snprintf(h->left, sizeof(h->left), "%" PRIu64, sn_ns_to_ms(left_ns));
		add(h, SN_STR("sinew-timeout-ms"), h->left);
	}
}

/* ---- time ---- */

static void end_with(struct hop *h, int code)
{
	h->code = code;
	sn__http_cancel(&h->req, code);
}

static void on_timer(struct sn_timer *t)
{
	struct hop *h = SN_CONTAINER_OF(t, struct hop, timer);
	struct relay *relay = relay_of(h);
	uint64_t now_ns = sn__loop_now_ns(relay->rt->loop);
	uint64_t next_ns = sn_time_until(now_ns, h->deadline_ns);

	if (next_ns == 0) {
		end_with(h, SN_E_DEADLINE);
		return;
	}
	if (!h->given && !h->proxy.grpc && sn__proxy_has_body(&h->proxy)) {
		end_with(h, SN_E_TIMEOUT);
		return;
	}
	if (!h->given && !h->proxy.grpc)
		next_ns = SN_MIN(next_ns, sn_ms_to_ns(relay->timeout_ms));
	if (next_ns != SN_NEVER_NS)
		sn__timer_start(relay->rt->loop, t, next_ns, on_timer);
}

static void arm(struct hop *h)
{
	struct sn_loop *loop = relay_of(h)->rt->loop;
	uint64_t ns = sn_time_until(sn__loop_now_ns(loop), h->deadline_ns);

	if (h->deadline_ns == SN_NEVER_NS)
		ns = SN_NEVER_NS;
	if (!h->given && !h->proxy.grpc)
		ns = SN_MIN(ns, sn_ms_to_ns(relay_of(h)->timeout_ms));
	if (ns == SN_NEVER_NS)
		sn__timer_stop(loop, &h->timer);
	else
		sn__timer_start(loop, &h->timer, ns, on_timer);
}

/* ---- what the service says ---- */

static void on_head(struct sn_http_req *req, const struct sn_http_head *head)
{
	struct hop *h = hop_of_req(req);
	int r;

	if (h->code != 0)
		return;
	h->given = true;
	arm(h);
	r = sn__proxy_head(&h->proxy, head, NULL, 0);
	if (r < 0)
		end_with(h, r);
}

static void on_data(struct sn_http_req *req, struct sn_str data)
{
	struct hop *h = hop_of_req(req);
	int r;

	if (h->code != 0)
		return;
	r = sn__proxy_data(&h->proxy, data);
	if (r < 0)
		end_with(h, r);
}

static int send_on(struct hop *h, struct sn_error *err);

/* Whether it may be sent once more, and was. */
static bool tried_again(struct hop *h)
{
	static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"};
	const struct sn_http_result *res = &h->req.result;
	struct sn_error err;
	bool fits = false;

	for (size_t i = 0; i < SN_COUNT(methods); i++)
		fits = fits || sn_str_eq(h->proxy.method, sn_str_from(methods[i]));
	if (!fits || h->retried || h->code != 0 || h->given || !res->reused ||
			h->proxy.source != NULL || h->proxy.x == NULL ||
			(res->code != SN_E_RESET && res->code != SN_E_EOF))
		return false;
	h->retried = true;
	return send_on(h, &err) == 0;
}

static int why(struct hop *h, struct sn_error *err)
{
	const struct sn_http_result *res = &h->req.result;
	int code = h->code != 0 ? h->code : res->code;

	switch (code) {
	case 0:
		return 0;
	case SN_E_DEADLINE:
		return sn__error_set(err, code, "the request's time is up");
	case SN_E_TIMEOUT:
		if (h->code != 0)
			return sn__error_set(err, code, "the service did not answer within %u ms",
					(unsigned)relay_of(h)->timeout_ms);
		break;
	default:
		break;
	}
	return sn__error_set(err, code, "the service: %s",
			res->detail[0] != '\0' ? res->detail : sn_strerror(code));
}

static void on_done(struct sn_http_req *req)
{
	struct hop *h = hop_of_req(req);
	struct sn_error err;
	int r;

	if (tried_again(h))
		return;
	sn__timer_stop(relay_of(h)->rt->loop, &h->timer);
	r = why(h, &err);
	if (r == 0 && req->upgrade && req->result.status == 101) {
		h->upgraded = true;
		sn__proxy_upgraded(&h->proxy);
		return;
	}
	if (r == 0 && req->result.n_trailers > 0)
		sn__proxy_trailers(&h->proxy, req->result.trailers, req->result.n_trailers);
	sn__proxy_done(&h->proxy, r < 0 ? &err : NULL);
}

static const struct sn_http_req_ops req_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_done,
};

/* ---- what the client does ---- */

static void hop_pause(struct sn_proxy *p, bool pause)
{
	sn__http_pause(&hop_of(p)->req, pause);
}

static void hop_body_ready(struct sn_proxy *p)
{
	sn__http_body_ready(&hop_of(p)->req);
}

static void hop_cancel(struct sn_proxy *p)
{
	if (hop_of(p)->code == 0)
		end_with(hop_of(p), SN_E_CANCELLED);
}

static struct sn_stream *hop_take_stream(struct sn_proxy *p, struct sn_buf *rest)
{
	return sn__http_take_stream(&hop_of(p)->req, rest);
}

static void hop_tunnel_over(struct sn_proxy *p)
{
	sn__proxy_done(p, NULL);
}

static void hop_gone(struct sn_proxy *p)
{
	struct hop *h = hop_of(p);

	sn__free(h->forwarded_for);
	sn__free(h->forwarded);
}

static const struct sn_proxy_ops proxy_ops = {
		.pause = hop_pause,
		.body_ready = hop_body_ready,
		.cancel = hop_cancel,
		.take_stream = hop_take_stream,
		.tunnel_over = hop_tunnel_over,
		.gone = hop_gone,
};

/* ---- requests ---- */

static int send_on(struct hop *h, struct sn_error *err)
{
	struct relay *relay = relay_of(h);
	struct sn_proxy *p = &h->proxy;
	bool http2 = !p->upgrade && (relay->http2 || p->grpc);
	struct sn_http_dest *dest;
	int r = dest_of(relay, http2, &dest);

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	h->req = (struct sn_http_req){
			.ops = &req_ops,
			.method = p->method,
			.target = p->url,
			.host = p->host,
			.headers = p->headers,
			.n_headers = p->n_headers,
			.headers2 = h->more,
			.n_headers2 = h->n_more,
			.source = p->source,
			.upgrade = p->upgrade,
			.idle_timeout_ms = p->grpc ? GRPC_IDLE_MS : relay->timeout_ms,
	};
	return sn__http_start(dest, &h->req, err);
}

/* Byte by byte as it came. In absolute form the authority counts, not the Host header (RFC 9112,
 * 3.2.2): both are the service's to judge, and must not differ. */
static int copy_request(struct hop *h, struct sn_error *err)
{
	struct sn_str target = sn__exchange_head(h->proxy.x)->target;
	struct sn_url url;
	int r;

	if (target.len > 0 && target.ptr[0] != '/' && target.ptr[0] != '*') {
		r = sn__url_parse(target, &url, err);
		if (r < 0)
			return sn__error_set(err, SN_E_INVALID, "the target is not valid");
		target = url.target.len > 0 ? url.target : SN_STR("/");
		r = sn__proxy_request(&h->proxy, target, is_ours);
		if (r == 0 && !sn__str_ieq(h->proxy.host, url.authority))
			return sn__error_set(err, SN_E_INVALID, "Host and target differ");
	} else {
		r = sn__proxy_request(&h->proxy, target, is_ours);
	}
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}

static int start(struct hop *h, struct sn_error *err)
{
	const struct sn_serving *s = sn__exchange_serving(h->proxy.x);
	int r;

	h->deadline_ns = s->deadline_ns;
	h->b3 = s->b3;
	h->w3c = s->w3c;
	r = copy_request(h, err);
	if (r < 0)
		return r;
	r = forward_client(h);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	sn__serving_headers(s, &h->trace);
	for (unsigned i = 0; i < h->trace.n; i++)
		h->more[h->n_more++] = h->trace.headers[i];
	if (h->proxy.grpc)
		add(h, SN_STR("te"), "trailers");
	tell_time(h, sn__loop_clock_ns(relay_of(h)->rt->loop));
	r = send_on(h, err);
	if (r < 0)
		return r;
	if (h->proxy.grpc) /* a stream of messages may be silent */
		sn__exchange_endless(h->proxy.x);
	sn__proxy_started(&h->proxy);
	arm(h);
	return 0;
}

static void handle(struct sn_exchange *x, void *arg)
{
	struct relay *relay = arg;
	struct sn_proxy *proxy;
	struct sn_error err;

	if (relay->max_inflight != 0 && relay->pool.n_open >= relay->max_inflight) {
		sn__proxy_refuse(x, 503, "the service has as many requests as it may", NULL);
		return;
	}
	proxy = sn__proxy_get(&relay->pool, x);
	if (proxy == NULL)
		sn__proxy_refuse(x, 500, "out of memory", NULL);
	else if (start(hop_of(proxy), &err) < 0)
		sn__proxy_refuse(x, err.code == SN_E_LIMIT ? 431 : sn__proxy_status_of(err.code),
				err.text, NULL);
}

/* ---- the whole ---- */

static void relay_gone(struct sn_proxy_pool *pool)
{
	struct relay *relay = SN_CONTAINER_OF(pool, struct relay, pool);
	struct sn_runtime *rt = relay->rt;
	bool awaited = relay->hosted.awaited;

	sn_list_remove(&relay->hosted.link);
	sn__http_dest_unref(relay->dest[0]);
	sn__http_dest_unref(relay->dest[1]);
	sn__free(relay->host);
	sn__free(relay);
	sn__drain_release(rt);
	if (awaited)
		sn__runtime_part_closed(rt);
}

/* Upgraded connections are not the server's any more, and have their time to end while the runtime
 * drains. */
static void relay_closing(struct sn_hosted *hosted)
{
	struct relay *relay = SN_CONTAINER_OF(hosted, struct relay, hosted);

	if (hosted->server != NULL)
		return;
	SN_LIST_FOREACH_SAFE (pos, &relay->pool.open)
		sn__proxy_break(SN_CONTAINER_OF(pos, struct sn_proxy, link));
}

/* The server is gone. */
static void relay_free(struct sn_hosted *hosted)
{
	struct relay *relay = SN_CONTAINER_OF(hosted, struct relay, hosted);
	struct sn_runtime *rt = relay->rt;

	hosted->server = NULL;
	sn_list_push_back(&rt->lingering, &hosted->link);
	if (hosted->awaited) /* for its connections, too */
		sn__runtime_part_opened(rt);
	if (atomic_load(&rt->state) == SN_RUNTIME_CLOSING)
		relay_closing(hosted);
	sn__proxy_pool_close(&relay->pool);
}

struct listening {
	struct sn_hosting how;
	const struct sn_relay_options *opts;
	struct sn_relay_place to;
};

static int relay_make(struct sn_hosting *how, struct sn_hosted **ret_hosted, struct sn_error *err)
{
	struct listening *l = SN_CONTAINER_OF(how, struct listening, how);
	const struct sn_relay_options *o = l->opts;
	struct relay *relay = sn__calloc(1, sizeof(*relay));

	if (relay != NULL && l->to.host.len > 0)
		relay->host = sn__strndup(l->to.host.ptr, l->to.host.len);
	if (relay == NULL || (l->to.host.len > 0 && relay->host == NULL)) {
		sn__free(relay);
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	relay->rt = how->rt;
	relay->to = l->to;
	relay->to.host = (struct sn_str){NULL, 0};
	relay->http2 = o->http2;
	relay->trust = o->trust_forwarded;
	relay->secure = o->tls_cert != NULL;
	relay->max_inflight = o->max_inflight;
	relay->timeout_ms = o->timeout_ms != 0 ? o->timeout_ms : SN_RELAY_TIMEOUT_MS;
	relay->pool = (struct sn_proxy_pool){
			.ops = &proxy_ops,
			.loop = how->rt->loop,
			.size = sizeof(struct hop),
			.gone = relay_gone,
	};
	sn__proxy_pool_init(&relay->pool);
	relay->hosted.free = relay_free;
	relay->hosted.closing = relay_closing;
	sn__drain_hold(how->rt);
	how->arg = relay;
	*ret_hosted = &relay->hosted;
	return 0;
}

int sn__relay_listen(
		struct sn_runtime *rt, const struct sn_relay_options *opts, struct sn_error *err)
{
	struct listening l = {
			.how = {.listen = opts->listen,
					.tls_cert = opts->tls_cert,
					.tls_key = opts->tls_key,
					.tls_ca = opts->tls_ca,
					.handler = handle,
					.make = relay_make,
					.inbound = true},
			.opts = opts,
	};
	struct sn_hosted *hosted;
	int r = sn__relay_parse(sn_str_from(opts->to), &l.to, err);

	if (r < 0)
		return r;
	l.how.config.max_body = opts->max_body != 0 ? opts->max_body : UINT64_MAX;
	l.how.config.max_head = opts->max_head;
	l.how.config.max_connections = opts->max_connections;
	l.how.config.idle_timeout_ms = opts->idle_ms;
	l.how.config.ping_ms = PING_MS;
	l.how.config.extended_connect = true;
	return sn__hosted_open(rt, &l.how, &hosted, err);
}
