/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/sidecar.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "mesh/api.h"
#include "io/grpc.h"
#include "io/tunnel.h"
#include "mesh/request.h"
#include "proto/url.h"

#define TEXTS_MAX (4u * SN_HTTP_HEAD_SIZE_MAX)
#define POOL_MAX 64
#define BODY_MAX (1u << 20) /* one piece may be a whole window of HTTP/2 */

struct sidecar {
	struct sn_hosted hosted;
	struct sn_runtime *rt;
	char *token;
	struct sn_list pool; /* call.link */
	unsigned n_pool;
	unsigned n_calls; /* calls outlive their exchanges, and the server */
	bool closed;
};

/* One request of a client and the call made for it. It ends when both have. */
struct call {
	struct sn_list link;
	struct sidecar *side;
	struct sn_exchange *x; /* NULL: over */
	struct sn_fetch fetch;
	bool fetching;
	struct sn_context context;
	/* What the fetch needs of the request: the exchange may end first. */
	struct sn_buf texts, out_texts;
	struct sn_http_header headers[SN_HTTP_HEADERS_MAX];
	unsigned n_headers;
	/* the request's body */
	struct sn_body_source source;
	struct sn_buf body;
	bool body_over, body_paused, body_waits;
	int body_code;
	/* the answer */
	bool answered, held_back, ended;
	size_t n_trailers;
	struct sn_header out[SN_HTTP_HEADERS_MAX + 2];
	struct sn_tunnel *tunnel; /* of an upgraded connection */
};

struct tunnel {
	struct sn_tunnel tunnel;
	struct call *call;
};

/* ---- calls ---- */

static struct call *call_get(struct sidecar *side)
{
	struct sn_list *node = sn_list_pop_front(&side->pool);
	struct call *c;

	if (node != NULL) {
		side->n_pool--;
		c = SN_CONTAINER_OF(node, struct call, link);
	} else {
		c = sn__malloc(sizeof(*c));
		if (c == NULL)
			return NULL;
		sn__buf_init(&c->texts, TEXTS_MAX);
		sn__buf_init(&c->out_texts, TEXTS_MAX);
		sn__buf_init(&c->body, BODY_MAX);
	}
	memset(&c->fetch, 0, sizeof(c->fetch));
	side->n_calls++;
	c->side = side;
	c->fetching = c->body_over = c->body_paused = c->body_waits = false;
	c->answered = c->held_back = c->ended = false;
	c->n_trailers = 0;
	c->tunnel = NULL;
	c->body_code = 0;
	c->n_headers = 0;
	sn_list_init(&c->link);
	return c;
}

static void call_free(struct call *c)
{
	sn__buf_finish(&c->texts);
	sn__buf_finish(&c->out_texts);
	sn__buf_finish(&c->body);
	sn__free(c);
}

static void side_settle(struct sidecar *side)
{
	if (!side->closed || side->n_calls > 0)
		return;
	while (!sn_list_empty(&side->pool))
		call_free(SN_CONTAINER_OF(sn_list_pop_front(&side->pool), struct call, link));
	if (side->token != NULL)
		explicit_bzero(side->token, strlen(side->token));
	sn__free(side->token);
	sn__free(side);
}

static void call_put(struct call *c)
{
	struct sidecar *side = c->side;

	sn__buf_clear(&c->texts);
	sn__buf_clear(&c->out_texts);
	sn__buf_clear(&c->body);
	side->n_calls--;
	if (side->closed || side->n_pool >= POOL_MAX) {
		call_free(c);
		side_settle(side);
		return;
	}
	if (c->body.cap > SN_SIDECAR_AHEAD / 4)
		sn__buf_finish(&c->body);
	if (c->texts.cap > SN_SIDECAR_AHEAD / 4)
		sn__buf_finish(&c->texts);
	if (c->out_texts.cap > SN_SIDECAR_AHEAD / 4)
		sn__buf_finish(&c->out_texts);
	side->n_pool++;
	sn_list_push_front(&side->pool, &c->link);
}

/* One side of it is over. The exchange stays until it is closed: it tells the reader of the body that
 * nobody waits for. */
static void call_settle(struct call *c)
{
	if (c->x == NULL && !c->fetching)
		call_put(c);
}

/* ---- problems (RFC 9457) ---- */

static bool is_grpc(const struct sn_exchange *x)
{
	const struct sn_str *type = sn__http_find(sn__exchange_head(x), "content-type");
	const struct sn_str grpc = SN_STR("application/grpc");

	return type != NULL && type->len >= grpc.len &&
			sn__str_ieq((struct sn_str){type->ptr, grpc.len}, grpc) &&
			sn__exchange_head(x)->major == 2;
}

static unsigned status_of(int code)
{
	switch (code) {
	case SN_E_INVALID:
	case SN_E_PARSE:
		return 400;
	case SN_E_NO_PEER:
	case SN_E_BREAKER:
	case SN_E_OVERLOAD:
	case SN_E_CLOSED:
		return 503;
	case SN_E_TIMEOUT:
	case SN_E_DEADLINE:
		return 504;
	case SN_E_NOMEM:
		return 500;
	default:
		return 502;
	}
}

static json_t *attempts_of(const struct sn_error *err)
{
	json_t *list = json_array();

	for (size_t i = 0; list != NULL && i < sn_error_attempts(err); i++) {
		struct sn_attempt_info at;
		json_t *one = NULL;

		if (sn_error_attempt(err, i, &at) == 0)
			one = json_pack("{s:s, s:s, s:s, s:f, s:s}", "peer", at.peer, "phase",
					at.phase, "detail", at.detail, "ms",
					(double)at.duration_ns / 1e6, "decision", at.decision);
		if (one == NULL || json_array_append_new(list, one) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* gRPC has words of its own for that: a status and nothing else. */
static void refuse_grpc(struct sn_exchange *x, unsigned status, const char *detail,
		const struct sn_error *err)
{
	const char *id = err != NULL ? sn_error_call_id(err) : "";
	int grpc = err != NULL          ? sn__grpc_code_of_result(sn_error_code(err))
			: status == 400 ? SN_GRPC_INVALID_ARGUMENT
			: status == 401 ? SN_GRPC_UNAUTHENTICATED
			: status == 404 ? SN_GRPC_UNIMPLEMENTED
					: SN_GRPC_INTERNAL;
	char code[12];
	struct sn_header headers[] = {{"Content-Type", "application/grpc"}, {"grpc-status", code},
			{"grpc-message", ""}, {"sinew-call-id", id}};
	struct sn_buf text;

	(void)snprintf(code, sizeof(code), "%d", grpc);
	sn__buf_init(&text, 8192);
	if (sn__grpc_percent_encode(sn_str_from(detail), &text) == 0 &&
			sn__buf_append(&text, "", 1) == 0)
		headers[2].value = sn__buf_data(&text);
	if (sn_exchange_respond(x, 200, headers, id[0] != '\0' ? 4 : 3, NULL, 0) < 0)
		sn_exchange_abort(x);
	sn__buf_finish(&text);
}

static void refuse(struct sn_exchange *x, unsigned status, const char *detail,
		const struct sn_error *err)
{
	const char *id = err != NULL ? sn_error_call_id(err) : "";
	const struct sn_header headers[] = {
			{"Content-Type", "application/problem+json"}, {"sinew-call-id", id}};
	SN_AUTO_JSON json_t *doc = json_pack("{s:s, s:i, s:s}", "title", sn__http_reason(status),
			"status", (int)status, "detail", detail);
	SN_AUTO_FREE char *text = NULL;

	if (is_grpc(x)) {
		refuse_grpc(x, status, detail, err);
		return;
	}
	if (doc != NULL && err != NULL) {
		(void)json_object_set_new(
				doc, "code", json_string(sn_code_name(sn_error_code(err))));
		(void)json_object_set_new(doc, "attempts", attempts_of(err));
	}
	text = doc != NULL ? sn__json_text(doc) : NULL;
	if (sn_exchange_respond(x, status, headers, id[0] != '\0' ? 2 : 1, text,
			    text != NULL ? strlen(text) : 0) < 0)
		sn_exchange_abort(x);
}

/* ---- headers ---- */

/* Of one connection only (RFC 9110, 7.6.1), or written by us. */
static bool is_hop_by_hop(struct sn_str name, const struct sn_http_head *head)
{
	static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
			"proxy-authenticate", "proxy-authorization", "te", "trailer",
			"transfer-encoding", "upgrade", "host", "content-length", "expect", NULL};
	const struct sn_str *connection = sn__http_find(head, "connection");

	for (const char *const *n = names; *n != NULL; n++)
		if (sn__str_ieq(name, sn_str_from(*n)))
			return true;
	for (size_t at = 0; connection != NULL && at < connection->len;) {
		struct sn_str word = {connection->ptr + at, 0};

		while (at + word.len < connection->len && word.ptr[word.len] != ',')
			word.len++;
		at += word.len + 1;
		while (word.len > 0 && (*word.ptr == ' ' || *word.ptr == '\t')) {
			word.ptr++;
			word.len--;
		}
		while (word.len > 0 &&
				(word.ptr[word.len - 1] == ' ' || word.ptr[word.len - 1] == '\t'))
			word.len--;
		if (sn__str_ieq(name, word))
			return true;
	}
	return false;
}

/* Ours: read here, written anew for the peer. */
static bool is_ours(struct sn_str name, bool traced)
{
	if (sn__str_ieq(name, SN_STR("sinew-timeout-ms")) ||
			sn__str_ieq(name, SN_STR("grpc-timeout")) ||
			sn__str_ieq(name, SN_STR("sinew-retry")) ||
			sn__str_ieq(name, SN_STR("sinew-target")))
		return true;
	return traced && name.len > 5 && sn__str_ieq((struct sn_str){name.ptr, 5}, SN_STR("x-b3-"));
}

/* A copy with a NUL behind it. The buffer must not grow afterwards: it has been reserved whole. */
static struct sn_str keep(struct sn_buf *texts, struct sn_str s)
{
	const char *at = texts->block + texts->head + texts->len;

	if (sn__buf_append_str(texts, s) < 0 || sn__buf_append(texts, "", 1) < 0)
		return (struct sn_str){"", 0};
	return (struct sn_str){at, s.len};
}

static int copy_request(struct call *c, struct sn_str url)
{
	const struct sn_http_head *head = sn__exchange_head(c->x);
	bool traced = sn__mesh_policy(c->side->rt->mesh, c->fetch.target, SN_DIALECT_BERLIOZ)
				      ->enable_zipkin;
	size_t need = head->method.len + url.len + 2;
	char *space;
	int r;

	for (unsigned i = 0; i < head->n_headers; i++)
		need += head->headers[i].name.len + head->headers[i].value.len + 2;
	r = sn__buf_reserve(&c->texts, need, &space);
	if (r < 0)
		return r;
	c->fetch.method = keep(&c->texts, head->method);
	c->fetch.url = keep(&c->texts, url);
	for (unsigned i = 0; i < head->n_headers; i++) {
		const struct sn_http_header *h = &head->headers[i];

		if (c->fetch.upgrade && sn__str_ieq(h->name, SN_STR("upgrade")))
			; /* what it asks for */
		else if (is_hop_by_hop(h->name, head) || is_ours(h->name, traced))
			continue;
		if (sn__str_ieq(h->name, SN_STR("idempotency-key")))
			c->fetch.keyed = true;
		c->headers[c->n_headers].name = keep(&c->texts, h->name);
		c->headers[c->n_headers++].value = keep(&c->texts, h->value);
	}
	c->fetch.headers = c->headers;
	c->fetch.n_headers = c->n_headers;
	return 0;
}

/* Deadline and trace that the request came with. */
static void read_context(struct call *c)
{
	const struct sn_http_head *head = sn__exchange_head(c->x);
	const struct sn_str *timeout = sn__http_find(head, "sinew-timeout-ms");
	const struct sn_str *retry = sn__http_find(head, "sinew-retry");
	bool shared;
	uint64_t ms, ns;

	c->context = (struct sn_context)SN_CONTEXT_INIT;
	if (timeout == NULL)
		timeout = sn__http_find(head, "x-envoy-expected-rq-timeout-ms");
	if (sn__http_find(head, "x-b3-traceid") != NULL)
		sn__b3_read(head->headers, head->n_headers, sn__loop_rng(c->side->rt->loop),
				&c->context, &shared);
	if (timeout != NULL && sn__parse_u64(*timeout, UINT32_MAX, &ms) == 0)
		c->context.deadline_ms = SN_MAX(ms, (uint64_t)1);
	timeout = sn__http_find(head, "grpc-timeout");
	if (timeout != NULL && sn__grpc_timeout_read(*timeout, &ns) == 0)
		c->context.deadline_ms = SN_MAX(sn_ns_to_ms(ns), (uint64_t)1);
	c->fetch.context = &c->context;
	if (retry == NULL)
		return;
	if (sn__str_ieq(*retry, SN_STR("safe")))
		c->fetch.retry = SN_RETRY_SAFE;
	else if (sn__str_ieq(*retry, SN_STR("all")))
		c->fetch.retry = SN_RETRY_ALL;
	else if (sn__str_ieq(*retry, SN_STR("none")))
		c->fetch.retry = SN_RETRY_NONE;
}

/* ---- the request's body ---- */

static ssize_t source_read(struct sn_body_source *source, void *out, size_t n)
{
	struct call *c = SN_CONTAINER_OF(source, struct call, source);

	if (c->body_code != 0)
		return c->body_code;
	if (c->body.len == 0) {
		c->body_waits = !c->body_over;
		return c->body_over ? 0 : SN_E_AGAIN;
	}
	n = SN_MIN(n, c->body.len);
	memcpy(out, sn__buf_data(&c->body), n);
	sn__buf_consume(&c->body, n);
	if (c->body_paused && c->body.len < SN_SIDECAR_AHEAD / 2 && c->x != NULL) {
		c->body_paused = false;
		sn_exchange_pause(c->x, false);
	}
	return (ssize_t)n;
}

static void on_body(struct sn_exchange *x, int status, const void *data, size_t size, void *arg)
{
	struct call *c = arg;
	int r = status;

	if (!c->fetching)
		return;
	if (r == 0 && size > 0)
		r = sn__buf_append(&c->body, data, size);
	if (r == 0 && size == 0)
		c->body_over = true;
	if (r < 0)
		c->body_code = r;
	if (r == 0 && c->body.len >= SN_SIDECAR_AHEAD) {
		c->body_paused = true;
		sn_exchange_pause(x, true);
	}
	if (c->body_waits) {
		c->body_waits = false;
		sn__fetch_body_ready(&c->fetch);
	}
}

static void take_body(struct call *c)
{
	const struct sn_http_head *head = sn__exchange_head(c->x);

	if (!sn__exchange_has_body(c->x))
		return;
	c->source = (struct sn_body_source){
			.read = source_read,
			.length = head->has_length ? (int64_t)head->length : -1,
	};
	c->fetch.source = &c->source;
}

/* ---- the answer ---- */

static void on_drain(struct sn_exchange *x, void *arg)
{
	struct call *c = arg;

	if (!c->held_back || !c->fetching)
		return;
	c->held_back = false;
	sn__fetch_pause(&c->fetch, false);
}

static int copy_answer(struct call *c, const struct sn_http_head *head, size_t *ret_n)
{
	char id[SN_CALL_ID_SIZE];
	const char *peer = c->fetch.call.permit.state != NULL ? c->fetch.call.permit.state->identity
							      : "";
	size_t need = sizeof(id) + strlen(peer) + 1, n = 0;
	char *space;
	int r;

	for (unsigned i = 0; i < head->n_headers; i++)
		need += head->headers[i].name.len + head->headers[i].value.len + 2;
	r = sn__buf_reserve(&c->out_texts, need, &space);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < head->n_headers; i++) {
		const struct sn_http_header *h = &head->headers[i];

		bool switches = head->status == 101 &&
				(sn__str_ieq(h->name, SN_STR("upgrade")) ||
						sn__str_ieq(h->name, SN_STR("connection")));

		if (is_hop_by_hop(h->name, head) && !switches)
			continue;
		c->out[n].name = keep(&c->out_texts, h->name).ptr;
		c->out[n++].value = keep(&c->out_texts, h->value).ptr;
	}
	sn__call_id_text(c->fetch.call.id, id);
	c->out[n].name = "sinew-call-id";
	c->out[n++].value = keep(&c->out_texts, sn_str_from(id)).ptr;
	c->out[n].name = "sinew-peer";
	c->out[n++].value = keep(&c->out_texts, sn_str_from(peer)).ptr;
	*ret_n = n;
	return 0;
}

static void on_head(struct sn_fetch *f, const struct sn_http_head *head)
{
	struct call *c = SN_CONTAINER_OF(f, struct call, fetch);
	size_t n;
	int r;

	if (c->x == NULL)
		return;
	r = copy_answer(c, head, &n);
	/* A status without anything else must stay one HEADERS frame. */
	if (r == 0 && f->grpc && sn__http_find(head, "grpc-status") != NULL) {
		r = sn_exchange_respond(c->x, head->status, c->out, n, NULL, 0);
		c->ended = r == 0;
	} else if (r == 0) {
		r = sn_exchange_start(c->x, head->status, c->out, n,
				head->has_length ? (int64_t)head->length : -1);
	}
	if (r < 0)
		sn__fetch_fail(f, r);
	else
		c->answered = true;
}

static int on_data(struct sn_fetch *f, struct sn_str data)
{
	struct call *c = SN_CONTAINER_OF(f, struct call, fetch);
	int r;

	if (c->x == NULL)
		return SN_E_CANCELLED;
	if (c->ended)
		return 0;
	r = sn_exchange_write(c->x, data.ptr, data.len);
	if (r == SN_E_AGAIN) {
		c->held_back = true;
		sn__fetch_pause(f, true);
		return 0;
	}
	return r;
}

static void on_trailers(struct sn_fetch *f, const struct sn_http_header *trailers, unsigned n)
{
	struct call *c = SN_CONTAINER_OF(f, struct call, fetch);
	size_t need = 0;
	char *space;

	for (unsigned i = 0; i < n; i++)
		need += trailers[i].name.len + trailers[i].value.len + 2;
	if (c->x == NULL)
		return;
	sn__buf_clear(&c->out_texts); /* the head has been sent */
	if (sn__buf_reserve(&c->out_texts, need, &space) < 0) {
		sn_exchange_abort(c->x); /* what they say must not be lost without a trace */
		return;
	}
	for (unsigned i = 0; i < SN_MIN(n, SN_COUNT(c->out)); i++) {
		c->out[i].name = keep(&c->out_texts, trailers[i].name).ptr;
		c->out[i].value = keep(&c->out_texts, trailers[i].value).ptr;
		c->n_trailers = i + 1;
	}
}

/* ---- upgraded connections ---- */

static void on_tunnel_over(struct sn_tunnel *tunnel, int code)
{
	struct tunnel *t = SN_CONTAINER_OF(tunnel, struct tunnel, tunnel);
	struct call *c = t->call;

	sn__free(t);
	c->tunnel = NULL;
	sn__fetch_end(&c->fetch);
}

/* Both sides have agreed: their streams are joined. */
static void on_upgraded(struct sn_fetch *f)
{
	struct call *c = SN_CONTAINER_OF(f, struct call, fetch);
	struct tunnel *t = sn__malloc(sizeof(*t));
	struct sn_tunnel_side *client, *peer;

	if (t == NULL) {
		sn__fetch_end(f);
		return;
	}
	sn__tunnel_init(&t->tunnel);
	t->call = c;
	client = &t->tunnel.sides[0];
	peer = &t->tunnel.sides[1];
	if (c->x != NULL)
		client->stream = sn__exchange_take_stream(c->x, &peer->out, &client->out);
	if (client->stream != NULL)
		peer->stream = sn__http_take_stream(&f->req, &client->out);
	if (peer->stream == NULL) {
		t->tunnel.code = SN_E_RESET;
		sn__tunnel_finish(&t->tunnel);
		sn__free(t);
		sn__fetch_end(f);
		return;
	}
	c->ended = true; /* the exchange is over, and says so */
	c->tunnel = &t->tunnel;
	sn__tunnel_start(&t->tunnel, c->side->rt->loop, 0, on_tunnel_over);
}

static void on_abort(struct sn_fetch *f)
{
	struct call *c = SN_CONTAINER_OF(f, struct call, fetch);

	if (c->tunnel != NULL)
		sn__tunnel_break(c->tunnel, SN_E_CLOSED);
}

static void on_done(struct sn_fetch *f, const struct sn_error *err)
{
	struct call *c = SN_CONTAINER_OF(f, struct call, fetch);
	struct sn_exchange *x = c->x;

	c->fetching = false;
	if (x == NULL) {
		call_settle(c);
	} else if (c->ended) {
		return; /* it only waits for its close */
	} else if (c->answered && err == NULL) {
		if (sn_exchange_end(x, c->out, c->n_trailers) < 0)
			sn_exchange_abort(x);
	} else if (c->answered) {
		sn_exchange_abort(x); /* the client must not take it for whole */
	} else {
		refuse(x, err != NULL ? status_of(sn_error_code(err)) : 502,
				err != NULL ? sn_error_text(err) : "no answer", err);
	}
}

static const struct sn_fetch_ops fetch_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_trailers = on_trailers,
		.on_upgraded = on_upgraded,
		.on_abort = on_abort,
		.on_done = on_done,
};

/* The client is gone. */
static void on_close(struct sn_exchange *x, int status, void *arg)
{
	struct call *c = arg;

	c->x = NULL;
	if (c->fetching && c->tunnel == NULL)
		sn__fetch_cancel(&c->fetch);
	call_settle(c);
}

/* ---- routes ---- */

struct place {
	char text[SN_NAME_MAX + 1];
	const char *part[3];
	unsigned n;
	const char *rest; /* of the path, as it came */
};

/* The first three parts behind @path, decoded; what follows is left as it is. False: too long, badly
 * encoded, or an encoded slash, which would be another place for others. */
static bool read_place(const char *path, struct place *p)
{
	size_t at = 0, n;

	p->n = 0;
	while (p->n < 3 && *path == '/' && path[1] != '\0') {
		size_t len = strcspn(path + 1, "/");

		if (at + len + 1 > sizeof(p->text))
			return false;
		if (sn__percent_decode((struct sn_str){path + 1, len}, p->text + at, len, &n) < 0 ||
				memchr(p->text + at, '/', n) != NULL)
			return false;
		p->part[p->n++] = p->text + at;
		p->text[at + n] = '\0';
		at += n + 1;
		path += 1 + len;
	}
	p->rest = *path != '\0' ? path : "/";
	return true;
}

static int start_call(struct call *c, const struct place *p, struct sn_error *err)
{
	const char *query = sn_exchange_query(c->x);
	SN_AUTO_FREE char *url = query[0] != '\0' ? sn__asprintf("%s?%s", p->rest, query)
						  : sn__strdup(p->rest);
	struct sn_api_target t;
	int r = url != NULL ? sn__api_target(p->part[0], p->part[1], p->part[2], &t, err)
			    : sn__error_set(err, SN_E_NOMEM, "out of memory");

	if (r == 0 && t.endpoint.len == 0)
		r = sn__error_set(err, SN_E_INVALID, "%ss are not called over HTTP", p->part[0]);
	if (r < 0)
		return r;
	c->fetch.ops = &fetch_ops;
	c->fetch.grpc = is_grpc(c->x);
	c->fetch.upgrade = sn__exchange_head(c->x)->upgrade && !sn__exchange_has_body(c->x);
	r = sn__catalog_target(c->side->rt->catalog, t.kind, t.name, t.endpoint, &c->fetch.target);
	if (r == 0)
		r = copy_request(c, sn_str_from(url));
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	read_context(c);
	take_body(c);
	r = sn__fetch_start(c->side->rt, &c->fetch, err);
	if (r < 0)
		return r;
	c->fetching = true;
	if (c->fetch.source != NULL)
		c->body_code = sn_exchange_read(c->x, on_body, c);
	return 0;
}

static void handle_call(struct sidecar *side, struct sn_exchange *x, const struct place *p)
{
	struct sn_error err;
	struct call *c;

	c = call_get(side);
	if (c == NULL) {
		refuse(x, 500, "out of memory", NULL);
		return;
	}
	c->x = x;
	sn_exchange_on_close(x, on_close, c);
	sn_exchange_on_drain(x, on_drain, c);
	if (start_call(c, p, &err) < 0)
		refuse(x, status_of(err.code), err.text, NULL);
}

static void handle_peers(struct sidecar *side, struct sn_exchange *x, const char *path)
{
	static const struct sn_header headers[] = {{"Content-Type", "application/json"}};
	const struct sn_peers *peers = NULL;
	struct sn_target *target = NULL;
	const char *json = "null";
	struct sn_api_target t;
	struct sn_error err;
	struct place p;
	int r;

	if (!read_place(path, &p) || p.n < 2) {
		refuse(x, 400, "peers are at /peers/KIND/NAME[/ENDPOINT]", NULL);
		return;
	}
	r = sn__api_target(p.part[0], p.part[1], p.n > 2 ? p.part[2] : NULL, &t, &err);
	if (r == 0)
		r = sn__catalog_look_up(side->rt->catalog, t.kind, t.name, t.endpoint, &target);
	if (r == 0 && target != NULL)
		peers = sn__target_peers(target);
	if (peers != NULL)
		json = sn__peers_json(peers);
	if (r < 0 || json == NULL)
		refuse(x, r < 0 ? status_of(r) : 500, r < 0 ? err.text : "out of memory", NULL);
	else if (sn_exchange_respond(x, 200, headers, SN_COUNT(headers), json, strlen(json)) < 0)
		sn_exchange_abort(x);
}

/* Where a call goes: the header sinew-target, for clients whose paths are their own (gRPC), or the
 * path. */
static bool call_place(struct sn_exchange *x, struct place *p)
{
	const char *path = sn_exchange_path(x), *target = sn_exchange_header(x, "sinew-target");
	char slash[SN_NAME_MAX + 2];

	if (target == NULL)
		return read_place(path + strlen("/call"), p) && p->n == 3;
	if (snprintf(slash, sizeof(slash), "/%s", target) >= (int)sizeof(slash) ||
			!read_place(slash, p) || p->n < 3 || strcmp(p->rest, "/") != 0)
		return false;
	p->rest = path;
	return true;
}

static void handle(struct sn_exchange *x, void *arg)
{
	struct sidecar *side = arg;
	const char *path = sn_exchange_path(x);
	bool is_call = strncmp(path, "/call/", 6) == 0 ||
			sn_exchange_header(x, "sinew-target") != NULL;
	struct place p;

	if (side->token != NULL && !sn__bearer_fits(x, side->token))
		refuse(x, 401, "this needs \"Authorization: Bearer TOKEN\"", NULL);
	else if (is_call && call_place(x, &p))
		handle_call(side, x, &p);
	else if (is_call)
		refuse(x, 400,
				"a call is /call/KIND/NAME/ENDPOINT/path, its first three parts without "
				"encoded slashes, or any path with sinew-target: KIND/NAME/ENDPOINT",
				NULL);
	else if (strncmp(path, "/peers/", 7) == 0)
		handle_peers(side, x, path + 6);
	else
		refuse(x, 404,
				"the sidecar serves /call/KIND/NAME/ENDPOINT/... and "
				"/peers/KIND/NAME/ENDPOINT",
				NULL);
}

/* ---- the whole ---- */

static void sidecar_free(struct sn_hosted *hosted)
{
	struct sidecar *side = SN_CONTAINER_OF(hosted, struct sidecar, hosted);

	side->closed = true;
	side_settle(side);
}

struct listening {
	struct sn_hosting how;
	const struct sn_sidecar_options *opts;
};

static int sidecar_make(struct sn_hosting *how, struct sn_hosted **ret_hosted, struct sn_error *err)
{
	struct listening *l = SN_CONTAINER_OF(how, struct listening, how);
	struct sidecar *side = sn__calloc(1, sizeof(*side));

	if (side != NULL && l->opts->token != NULL)
		side->token = sn__strdup(l->opts->token);
	if (side == NULL || (l->opts->token != NULL && side->token == NULL)) {
		sn__free(side);
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	sn_list_init(&side->pool);
	side->rt = how->rt;
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
	l.how.config.max_body = opts->max_body != 0 ? opts->max_body : UINT64_MAX;
	l.how.config.max_connections = opts->max_connections;
	l.how.config.idle_timeout_ms = opts->idle_ms;
	return sn__hosted_open(rt, &l.how, &hosted, err);
}
