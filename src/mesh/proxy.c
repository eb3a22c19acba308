/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/proxy.h"

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "io/grpc.h"
#include "io/tunnel.h"

#define TEXTS_MAX (4u * SN_HTTP_HEAD_SIZE_MAX)
#define POOL_MAX 64
#define BODY_MAX (1u << 20) /* one piece may be a whole window of HTTP/2 */

/* Made for upgraded connections only: its buffers are large. */
struct tunnel {
	struct sn_tunnel tunnel;
	struct sn_proxy *proxy;
};

/* ---- the pool ---- */

void sn__proxy_pool_init(struct sn_proxy_pool *pool)
{
	sn_list_init(&pool->free);
	sn_list_init(&pool->open);
	pool->n_free = pool->n_open = 0;
	pool->closed = false;
}

static void proxy_free(struct sn_proxy *p)
{
	sn__buf_finish(&p->texts);
	sn__buf_finish(&p->out_texts);
	sn__buf_finish(&p->body);
	sn__free(p);
}

static void pool_settle(struct sn_proxy_pool *pool)
{
	if (!pool->closed || pool->n_open > 0)
		return;
	while (!sn_list_empty(&pool->free))
		proxy_free(SN_CONTAINER_OF(sn_list_pop_front(&pool->free), struct sn_proxy, link));
	pool->gone(pool);
}

void sn__proxy_pool_close(struct sn_proxy_pool *pool)
{
	pool->closed = true;
	pool_settle(pool);
}

/* What a request made large is given back. */
static void buf_rest(struct sn_buf *buf)
{
	sn__buf_clear(buf);
	if (buf->cap > SN_PROXY_AHEAD / 4)
		sn__buf_finish(buf);
}

static void put_back(struct sn_proxy *p)
{
	struct sn_proxy_pool *pool = p->pool;

	if (pool->ops->gone != NULL)
		pool->ops->gone(p);
	pool->n_open--;
	sn_list_remove(&p->link);
	if (pool->closed || pool->n_free >= POOL_MAX) {
		proxy_free(p);
		pool_settle(pool);
		return;
	}
	buf_rest(&p->body);
	buf_rest(&p->texts);
	buf_rest(&p->out_texts);
	pool->n_free++;
	sn_list_push_front(&pool->free, &p->link);
}

/* One side of it is over. The exchange stays until it is closed: it tells the reader of the body that
 * nobody waits for. */
static void settle(struct sn_proxy *p)
{
	if (p->x == NULL && !p->running)
		put_back(p);
}

/* The client is gone. */
static void on_close(struct sn_exchange *x, int status, void *arg)
{
	struct sn_proxy *p = arg;

	p->x = NULL;
	if (p->running && p->tunnel == NULL)
		p->pool->ops->cancel(p);
	settle(p);
}

static void on_drain(struct sn_exchange *x, void *arg)
{
	struct sn_proxy *p = arg;

	if (!p->held_back || !p->running)
		return;
	p->held_back = false;
	p->pool->ops->pause(p, false);
}

struct sn_proxy *sn__proxy_get(struct sn_proxy_pool *pool, struct sn_exchange *x)
{
	struct sn_list *node = sn_list_pop_front(&pool->free);
	struct sn_proxy *p;

	if (node != NULL) {
		pool->n_free--;
		p = SN_CONTAINER_OF(node, struct sn_proxy, link);
	} else {
		p = sn__malloc(pool->size);
		if (p == NULL)
			return NULL;
		sn__buf_init(&p->texts, TEXTS_MAX);
		sn__buf_init(&p->out_texts, TEXTS_MAX);
		sn__buf_init(&p->body, BODY_MAX);
	}
	memset(p + 1, 0, pool->size - sizeof(*p));
	pool->n_open++;
	sn_list_push_back(&pool->open, &p->link);
	p->pool = pool;
	p->x = x;
	p->running = p->grpc = p->upgrade = p->keyed = false;
	p->body_over = p->body_paused = p->body_waits = false;
	p->answered = p->held_back = p->ended = false;
	p->body_code = 0;
	p->body_given = 0;
	p->keep_max = 0;
	p->n_in = p->n_out = 0;
	p->n_headers = 0;
	p->n_trailers = 0;
	p->source = NULL;
	p->tunnel = NULL;
	p->ws_key[0] = '\0';
	sn_exchange_on_close(x, on_close, p);
	sn_exchange_on_drain(x, on_drain, p);
	return p;
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

unsigned sn__proxy_status_of(int code)
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
			: status == 503 ? SN_GRPC_UNAVAILABLE
			: status == 504 ? SN_GRPC_DEADLINE_EXCEEDED
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

void sn__proxy_refuse(struct sn_exchange *x, unsigned status, const char *detail,
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

/* ---- the request ---- */

/* Whether @list, a Connection header, names @name. */
static bool is_named(struct sn_str name, struct sn_str list)
{
	for (size_t at = 0; at < list.len;) {
		struct sn_str word = {list.ptr + at, 0};

		while (at + word.len < list.len && word.ptr[word.len] != ',')
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

/* Of one connection only (RFC 9110, 7.6.1), or written by us. Called for every header there is: lengths
 * are compared first. */
static bool is_hop_by_hop(struct sn_str name, const struct sn_http_head *head)
{
#define NAME(literal) \
	{ \
		literal, sizeof(literal) - 1 \
	}
	static const struct sn_str connection = NAME("connection");
	static const struct sn_str names[] = {NAME("connection"), NAME("keep-alive"),
			NAME("proxy-connection"), NAME("proxy-authenticate"),
			NAME("proxy-authorization"), NAME("te"), NAME("trailer"),
			NAME("transfer-encoding"), NAME("upgrade"), NAME("host"),
			NAME("content-length"), NAME("expect")};
#undef NAME

	for (size_t i = 0; i < SN_COUNT(names); i++)
		if (name.len == names[i].len && sn__str_ieq(name, names[i]))
			return true;
	for (unsigned i = 0; i < head->n_headers; i++) {
		const struct sn_http_header *h = &head->headers[i];

		if (h->name.len == connection.len && sn__str_ieq(h->name, connection) &&
				is_named(name, h->value))
			return true;
	}
	return false;
}

/* A copy with a NUL behind it. The buffer must not grow afterwards: it has been reserved whole. */
static struct sn_str keep(struct sn_buf *texts, struct sn_str s)
{
	const char *at = texts->block + texts->head + texts->len;

	if (sn__buf_append_str(texts, s) < 0 || sn__buf_append(texts, "", 1) < 0)
		return (struct sn_str){"", 0};
	return (struct sn_str){at, s.len};
}

static ssize_t source_view(struct sn_body_source *source, const char **ret_view)
{
	struct sn_proxy *p = SN_CONTAINER_OF(source, struct sn_proxy, in);

	if (p->body_code != 0)
		return p->body_code;
	if (p->body.len == p->body_given) {
		p->body_waits = !p->body_over;
		return p->body_over ? 0 : SN_E_AGAIN;
	}
	*ret_view = sn__buf_data(&p->body) + p->body_given;
	return (ssize_t)(p->body.len - p->body_given);
}

static void source_used(struct sn_body_source *source, size_t n)
{
	struct sn_proxy *p = SN_CONTAINER_OF(source, struct sn_proxy, in);

	if (source->rewind != NULL)
		p->body_given += n;
	else
		sn__buf_consume(&p->body, n);
	if (p->body_paused && p->body.len < SN_PROXY_AHEAD / 2 && p->x != NULL) {
		p->body_paused = false;
		sn_exchange_pause(p->x, false);
	}
}

static ssize_t source_read(struct sn_body_source *source, void *out, size_t n)
{
	const char *view = NULL;
	ssize_t there = source_view(source, &view);

	if (there <= 0)
		return there;
	n = SN_MIN(n, (size_t)there);
	memcpy(out, view, n);
	source_used(source, n);
	return (ssize_t)n;
}

static int source_rewind(struct sn_body_source *source)
{
	SN_CONTAINER_OF(source, struct sn_proxy, in)->body_given = 0;
	return 0;
}

static void take_body(struct sn_proxy *p)
{
	const struct sn_http_head *head = sn__exchange_head(p->x);

	if (!sn__exchange_has_body(p->x))
		return;
	p->in = (struct sn_body_source){
			.read = source_read,
			.view = source_view,
			.used = source_used,
			.length = head->has_length ? (int64_t)head->length : -1,
	};
	if (head->has_length && head->length <= p->keep_max && head->length < SN_PROXY_AHEAD)
		p->in.rewind = source_rewind;
	p->source = &p->in;
}

/* Whether it asks for a protocol that we join the two connections for. HTTP/2 is no such: it would lead
 * past all that we do with requests. */
static bool wants_upgrade(struct sn_proxy *p)
{
	const struct sn_http_head *head = sn__exchange_head(p->x);
	const struct sn_str *to = sn__http_find(head, "upgrade");

	if (!head->upgrade || sn__exchange_has_body(p->x) || to == NULL)
		return false;
	for (size_t at = 0; at + 3 <= to->len; at++) {
		if (sn__str_ieq((struct sn_str){to->ptr + at, 3}, SN_STR("h2c")))
			return false;
	}
	return true;
}

/* A WebSocket over HTTP/2 comes without a key, which HTTP/1.1 needs. */
static void make_key(struct sn_proxy *p)
{
	const struct sn_http_head *head = sn__exchange_head(p->x);
	uint64_t nonce[2];
	uint8_t bytes[sizeof(nonce)];

	if (!p->upgrade || head->major != 2 ||
			!sn__str_ieq(*sn__http_find(head, "upgrade"), SN_STR("websocket")))
		return;
	for (unsigned i = 0; i < 2; i++)
		nonce[i] = sn__rng_u64(sn__loop_rng(p->pool->loop));
	memcpy(bytes, nonce, sizeof(bytes));
	sn__ws_key(bytes, p->ws_key);
	p->headers[p->n_headers++] = (struct sn_http_header){
			SN_STR("Sec-WebSocket-Key"), {p->ws_key, SN_WS_KEY_LEN}};
}

int sn__proxy_request(struct sn_proxy *p, struct sn_str url, sn_proxy_skip_fn *skip)
{
	const struct sn_http_head *head = sn__exchange_head(p->x);
	const struct sn_str *host = sn__http_find(head, "host");
	size_t need = head->method.len + url.len + 3 + (host != NULL ? host->len : 0);
	char *space;
	int r;

	for (unsigned i = 0; i < head->n_headers; i++)
		need += head->headers[i].name.len + head->headers[i].value.len + 2;
	r = sn__buf_reserve(&p->texts, need, &space);
	if (r < 0)
		return r;
	p->grpc = is_grpc(p->x);
	p->upgrade = wants_upgrade(p);
	make_key(p);
	p->method = keep(&p->texts, head->method);
	p->url = keep(&p->texts, url);
	p->host = host != NULL ? keep(&p->texts, *host) : (struct sn_str){"", 0};
	for (unsigned i = 0; i < head->n_headers; i++) {
		const struct sn_http_header *h = &head->headers[i];

		if (p->upgrade && sn__str_ieq(h->name, SN_STR("upgrade")))
			; /* what it asks for */
		else if (is_hop_by_hop(h->name, head) || (skip != NULL && skip(p, h->name)))
			continue;
		else if (p->ws_key[0] != '\0' && sn__str_ieq(h->name, SN_STR("sec-websocket-key")))
			continue;
		if (sn__str_ieq(h->name, SN_STR("idempotency-key")))
			p->keyed = true;
		p->headers[p->n_headers].name = keep(&p->texts, h->name);
		p->headers[p->n_headers++].value = keep(&p->texts, h->value);
	}
	take_body(p);
	return 0;
}

static void on_body(struct sn_exchange *x, int status, const void *data, size_t size, void *arg)
{
	struct sn_proxy *p = arg;
	int r = status;

	if (!p->running)
		return;
	p->n_in += r == 0 ? size : 0;
	if (r == 0 && size > 0)
		r = sn__buf_append(&p->body, data, size);
	if (r == 0 && size == 0)
		p->body_over = true;
	if (r < 0)
		p->body_code = r;
	if (r == 0 && p->body.len >= SN_PROXY_AHEAD) {
		p->body_paused = true;
		sn_exchange_pause(x, true);
	}
	if (p->body_waits) {
		p->body_waits = false;
		p->pool->ops->body_ready(p);
	}
}

bool sn__proxy_has_body(const struct sn_proxy *p)
{
	return p->source == NULL || p->body_over;
}

void sn__proxy_started(struct sn_proxy *p)
{
	p->running = true;
	if (p->source != NULL)
		p->body_code = sn_exchange_read(p->x, on_body, p);
}

/* ---- the answer ---- */

/* Whether the peer's answer to our own key is right; that is not for the client. */
static int check_accept(const struct sn_proxy *p, const struct sn_http_head *head)
{
	const struct sn_str *accept = sn__http_find(head, "sec-websocket-accept");
	char wanted[SN_WS_ACCEPT_LEN + 1];
	int r;

	if (head->status != 101 || p->ws_key[0] == '\0')
		return 0;
	r = sn__ws_accept_for((struct sn_str){p->ws_key, SN_WS_KEY_LEN}, wanted);
	if (r < 0)
		return r;
	return accept != NULL && sn_str_eq(*accept, sn_str_from(wanted)) ? 0 : SN_E_PROTOCOL;
}

static int copy_answer(struct sn_proxy *p, const struct sn_http_head *head,
		const struct sn_header *more, size_t n_more, size_t *ret_n)
{
	size_t need = 0, n = 0;
	char *space;
	int r;

	for (unsigned i = 0; i < head->n_headers; i++)
		need += head->headers[i].name.len + head->headers[i].value.len + 2;
	r = sn__buf_reserve(&p->out_texts, need, &space);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < head->n_headers; i++) {
		const struct sn_http_header *h = &head->headers[i];
		bool switches = head->status == 101 &&
				(sn__str_ieq(h->name, SN_STR("upgrade")) ||
						sn__str_ieq(h->name, SN_STR("connection")));

		if (is_hop_by_hop(h->name, head) && !switches)
			continue;
		if (p->ws_key[0] != '\0' && sn__str_ieq(h->name, SN_STR("sec-websocket-accept")))
			continue;
		p->out[n].name = keep(&p->out_texts, h->name).ptr;
		p->out[n++].value = keep(&p->out_texts, h->value).ptr;
	}
	for (size_t i = 0; i < n_more; i++)
		p->out[n++] = more[i];
	*ret_n = n;
	return 0;
}

int sn__proxy_head(struct sn_proxy *p, const struct sn_http_head *head,
		const struct sn_header *more, size_t n_more)
{
	size_t n;
	int r;

	if (p->x == NULL)
		return 0; /* it is being cancelled */
	r = check_accept(p, head);
	if (r == 0)
		r = copy_answer(p, head, more, n_more, &n);
	if (r < 0)
		return r;
	/* A status without anything else must stay one HEADERS frame. */
	if (p->grpc && sn__http_find(head, "grpc-status") != NULL) {
		r = sn_exchange_respond(p->x, head->status, p->out, n, NULL, 0);
		p->ended = r == 0;
	} else {
		r = sn_exchange_start(p->x, head->status, p->out, n,
				head->has_length ? (int64_t)head->length : -1);
	}
	p->answered = p->answered || r == 0;
	return r;
}

int sn__proxy_data(struct sn_proxy *p, struct sn_str data)
{
	int r;

	if (p->x == NULL)
		return SN_E_CANCELLED;
	if (p->ended)
		return 0;
	p->n_out += data.len;
	r = sn_exchange_write(p->x, data.ptr, data.len);
	if (r == SN_E_AGAIN) {
		p->held_back = true;
		p->pool->ops->pause(p, true);
		return 0;
	}
	return r;
}

void sn__proxy_trailers(struct sn_proxy *p, const struct sn_http_header *trailers, unsigned n)
{
	size_t need = 0;
	char *space;

	for (unsigned i = 0; i < n; i++)
		need += trailers[i].name.len + trailers[i].value.len + 2;
	if (p->x == NULL)
		return;
	sn__buf_clear(&p->out_texts); /* the head has been sent */
	if (sn__buf_reserve(&p->out_texts, need, &space) < 0) {
		sn_exchange_abort(p->x); /* what they say must not be lost without a trace */
		return;
	}
	for (unsigned i = 0; i < SN_MIN(n, SN_COUNT(p->out)); i++) {
		p->out[i].name = keep(&p->out_texts, trailers[i].name).ptr;
		p->out[i].value = keep(&p->out_texts, trailers[i].value).ptr;
		p->n_trailers = i + 1;
	}
}

void sn__proxy_done(struct sn_proxy *p, const struct sn_error *err)
{
	struct sn_exchange *x = p->x;

	p->running = false;
	if (x == NULL) {
		settle(p);
	} else if (p->ended) {
		return; /* it only waits for its close */
	} else if (p->answered && err == NULL) {
		if (sn_exchange_end(x, p->out, p->n_trailers) < 0)
			sn_exchange_abort(x);
	} else if (p->answered) {
		sn_exchange_abort(x); /* the client must not take it for whole */
	} else {
		sn__proxy_refuse(x, err != NULL ? sn__proxy_status_of(sn_error_code(err)) : 502,
				err != NULL ? sn_error_text(err) : "no answer", err);
	}
}

/* ---- upgraded connections ---- */

static void on_tunnel_over(struct sn_tunnel *tunnel, int code)
{
	struct tunnel *t = SN_CONTAINER_OF(tunnel, struct tunnel, tunnel);
	struct sn_proxy *p = t->proxy;

	sn__free(t);
	p->tunnel = NULL;
	p->pool->ops->tunnel_over(p);
}

/* Both sides have agreed: their streams are joined. */
void sn__proxy_upgraded(struct sn_proxy *p)
{
	struct tunnel *t = sn__malloc(sizeof(*t));
	struct sn_tunnel_side *client, *peer;

	if (t == NULL) {
		p->pool->ops->tunnel_over(p);
		return;
	}
	sn__tunnel_init(&t->tunnel);
	t->proxy = p;
	client = &t->tunnel.sides[0];
	peer = &t->tunnel.sides[1];
	if (p->x != NULL)
		client->stream = sn__exchange_take_stream(p->x, &peer->out, &client->out);
	if (client->stream != NULL)
		peer->stream = p->pool->ops->take_stream(p, &client->out);
	if (peer->stream == NULL) {
		t->tunnel.code = SN_E_RESET;
		sn__tunnel_finish(&t->tunnel);
		sn__free(t);
		p->pool->ops->tunnel_over(p);
		return;
	}
	p->ended = true; /* the exchange is over, and says so */
	p->tunnel = &t->tunnel;
	sn__tunnel_start(&t->tunnel, p->pool->loop, 0, on_tunnel_over);
}

void sn__proxy_break(struct sn_proxy *p)
{
	if (p->tunnel != NULL)
		sn__tunnel_break(p->tunnel, SN_E_CLOSED);
}
