/* SPDX-License-Identifier: Apache-2.0 */
/* The functions on an exchange: what a handler reads and answers, whatever the version. What they
 * put on the wire is in exchange_http1.c and exchange_h2.c. See http_server_impl.h. */
#include <stdio.h>

#include "base/mem.h"
#include "io/h2.h"
#include "io/http_server_impl.h"

const char *sn_exchange_method(const struct sn_exchange *x)
{
	return x->parser.head.method.ptr;
}

const char *sn_exchange_path(const struct sn_exchange *x)
{
	return x->path;
}

const char *sn_exchange_query(const struct sn_exchange *x)
{
	return x->query;
}

const char *sn_exchange_header(const struct sn_exchange *x, const char *name)
{
	const struct sn_str *value = sn__http_find(&x->parser.head, name);

	return value != NULL ? value->ptr : NULL;
}

const struct sn_http_head *sn__exchange_head(const struct sn_exchange *x)
{
	return &x->parser.head;
}

/* What follows an extended CONNECT is none. */
static bool is_extended(const struct sn_exchange *x)
{
	return x->parser.head.major == 2 && x->parser.head.upgrade;
}

bool sn__exchange_has_body(const struct sn_exchange *x)
{
	if (is_extended(x))
		return false;
	return !x->body_done || x->held > 0; /* HTTP/2: all of it may have come already */
}

void sn__exchange_endless(struct sn_exchange *x)
{
	x->endless = true;
}

struct sn_loop *sn__exchange_loop(const struct sn_exchange *x)
{
	return x->conn->server->loop;
}

/* ---- heads ---- */

static void move_slice(struct sn_str *s, const char *from, char *to)
{
	size_t at;

	if (s->ptr == NULL)
		return;
	at = (size_t)(s->ptr - from);
	s->ptr = to + at;
	to[at + s->len] = '\0'; /* there stands a colon, a space or a line end */
}

struct sn_str sn__exchange_authority(struct sn_str target)
{
	struct sn_str authority = {NULL, 0};
	size_t begin = 0;

	if (target.len > 7 && memcmp(target.ptr + 4, "://", 3) == 0)
		begin = 7;
	else if (target.len > 8 && memcmp(target.ptr + 5, "://", 3) == 0)
		begin = 8;
	if (begin == 0 || target.ptr[0] == '/')
		return authority;
	authority.ptr = target.ptr + begin;
	while (begin + authority.len < target.len && authority.ptr[authority.len] != '/' &&
			authority.ptr[authority.len] != '?')
		authority.len++;
	return authority;
}

/* Path and query out of the target, as strings behind the copy of the head. */
static void split_target(struct sn_exchange *x, char *space)
{
	struct sn_str path = x->parser.head.target;
	struct sn_str authority = sn__exchange_authority(path);
	const char *query = memchr(path.ptr, '?', path.len);

	x->query = query != NULL ? query + 1 : "";
	if (query != NULL)
		path.len = (size_t)(query - path.ptr);
	if (authority.len > 0) {
		path.len -= (size_t)(authority.ptr + authority.len - path.ptr);
		path.ptr = authority.ptr + authority.len;
	}
	if (path.len == 0)
		path = SN_STR("/");
	memcpy(space, path.ptr, path.len);
	space[path.len] = '\0';
	x->path = space;
}

int sn__exchange_keep_head(struct sn_exchange *x, const char *from, size_t n)
{
	struct sn_http_head *head = &x->parser.head;
	char *to;
	int r = sn__buf_reserve(&x->head, n + head->target.len + 2, &to);

	if (r < 0)
		return r;
	memcpy(to, from, n);
	move_slice(&head->method, from, to);
	move_slice(&head->target, from, to);
	for (unsigned i = 0; i < head->n_headers; i++) {
		move_slice(&head->headers[i].name, from, to);
		move_slice(&head->headers[i].value, from, to);
	}
	split_target(x, to + n);
	return 0;
}

static void copy_slice(struct sn_str *to, struct sn_str from, char **space)
{
	to->ptr = *space;
	to->len = from.len;
	if (from.len > 0)
		memcpy(*space, from.ptr, from.len);
	(*space)[from.len] = '\0';
	*space += from.len + 1;
}

int sn__exchange_copy_head(struct sn_exchange *x, const struct sn_http_head *head)
{
	struct sn_http_head *to = &x->parser.head;
	size_t n = head->method.len + 2 * head->target.len + 4;
	char *space;
	int r;

	for (unsigned i = 0; i < head->n_headers; i++)
		n += head->headers[i].name.len + head->headers[i].value.len + 2;
	r = sn__buf_reserve(&x->head, n, &space);
	if (r < 0)
		return r;
	copy_slice(&to->method, head->method, &space);
	copy_slice(&to->target, head->target, &space);
	for (unsigned i = 0; i < head->n_headers; i++) {
		copy_slice(&to->headers[i].name, head->headers[i].name, &space);
		copy_slice(&to->headers[i].value, head->headers[i].value, &space);
	}
	to->n_headers = head->n_headers;
	to->major = head->major;
	to->minor = head->minor;
	to->keep_alive = head->keep_alive;
	to->upgrade = head->upgrade;
	to->expect_continue = head->expect_continue;
	to->chunked = head->chunked;
	to->has_length = head->has_length;
	to->length = head->length;
	split_target(x, space);
	return 0;
}

/* A status to refuse the request with, and *ret_reason; 0: the handler may have it. */
static unsigned check(const struct sn_exchange *x, const char **ret_reason)
{
	const struct sn_http_server *server = x->conn->server;
	const struct sn_http_head *head = &x->parser.head;
	bool connect = sn_str_eq(head->method, SN_STR("CONNECT"));
	unsigned refused = 0;

	if (server->config.check_origin && !connect)
		refused = sn__http_server_check(server, head);
	if (refused != 0) {
		*ret_reason = refused == 421 ? "unknown Host" : "foreign Origin";
	} else if (connect) {
		refused = 501;
		*ret_reason = "CONNECT is not supported";
	} else if (head->has_length && head->length > server->config.max_body &&
			!server->config.late_limit) {
		refused = 413;
		*ret_reason = "the body is too large";
	}
	return refused;
}

void sn__exchange_handle(struct sn_exchange *x)
{
	struct sn_http_server *server = x->conn->server;

	const char *reason;
	unsigned refused;

	x->handed = true;
	if (server->watch != NULL && !server->watch->begin(server->watch, x))
		return;
	refused = check(x, &reason);
	if (refused != 0)
		sn__exchange_refuse(x, refused, reason);
	else
		server->handler(x, server->arg);
}

/* ---- the watch ---- */

struct sn_http_server *sn__exchange_server(const struct sn_exchange *x)
{
	return x->conn->server;
}

void **sn__exchange_watched(struct sn_exchange *x)
{
	return &x->watched;
}

const struct sn_context *sn__exchange_traced(const struct sn_exchange *x)
{
	return x->traced;
}

void sn__exchange_set_traced(struct sn_exchange *x, const struct sn_context *ctx)
{
	x->traced = ctx;
}

unsigned sn__exchange_answer(const struct sn_exchange *x, int *ret_grpc)
{
	*ret_grpc = x->grpc_status;
	return x->status;
}

const struct sn_addr *sn__exchange_peer(const struct sn_exchange *x)
{
	const struct http_conn *c = x->conn;

	if (c->h2 != NULL)
		return sn__h2_peer(c->h2->h2);
	return c->stream != NULL ? &c->stream->peer : NULL;
}

bool sn__exchange_has_client_cert(const struct sn_exchange *x)
{
	const struct http_conn *c = x->conn;
	const struct sn_stream *s = c->h2 != NULL ? sn__h2_stream(c->h2->h2) : c->stream;

	return s != NULL && sn__tls_has_client_cert(s);
}

/* gRPC says how it went in a header or trailer. */
static void look_for_grpc(struct sn_exchange *x, const struct sn_header *headers, size_t n)
{
	uint64_t code;

	for (size_t i = 0; x->watched != NULL && i < n; i++)
		if (sn__str_ieq(sn_str_from(headers[i].name), SN_STR("grpc-status")) &&
				sn__parse_u64(sn_str_from(headers[i].value), 99, &code) == 0)
			x->grpc_status = (int16_t)code;
}

/* ---- the request's body ---- */

void sn__exchange_tell(struct sn_exchange *x, int status)
{
	sn_exchange_body_fn *fn = x->reader;
	struct sn_str body = {"", 0};

	x->reader = NULL;
	if (fn == NULL)
		return;
	if (status == 0 && x->collect && x->body.len > 0) {
		body = sn__buf_str(&x->body);
		body.len--; /* the NUL */
	}
	fn(x, status, body.ptr, body.len, x->reader_arg);
}

int sn__exchange_collect(struct sn_exchange *x, struct sn_str piece)
{
	size_t before = x->body.len;
	char *space;
	int r;

	/* Over the NUL of the last time. */
	r = sn__buf_reserve(&x->body, piece.len + 1, &space);
	if (r < 0)
		return r;
	space -= before > 0;
	memcpy(space, piece.ptr, piece.len);
	space[piece.len] = '\0';
	sn__buf_commit(&x->body, piece.len + (before == 0));
	return 0;
}

void sn__exchange_over(struct sn_exchange *x, int status)
{
	struct sn_http_watch *watch = x->conn->server->watch;

	sn__exchange_tell(x, status != 0 ? status : SN_E_CLOSED);
	if (x->watched != NULL)
		watch->end(watch, x, status);
	if (x->on_close != NULL)
		x->on_close(x, status, x->on_close_arg);
	x->on_close = NULL;
	x->handed = false;
}

static bool is_broken(const struct sn_exchange *x)
{
	return x->failed != 0 || x->conn->failed != 0;
}

/* @limit: a greater announced length is refused. */
static int start_reading(struct sn_exchange *x, uint64_t limit, sn_exchange_body_fn *fn, void *arg)
{
	bool too_large = x->parser.head.has_length && x->parser.head.length > limit;

	if (is_broken(x))
		return SN_E_RESET;
	if (x->asked || x->upgraded)
		return SN_E_STATE;
	if (x->continue_due && x->answer == HTTP_UNANSWERED && !too_large) {
		int r = x->ops->put_continue(x);

		if (r < 0)
			return r;
		x->continue_due = false;
	}
	x->asked = true;
	x->too_large = too_large;
	x->reader = fn;
	x->reader_arg = arg;
	x->ops->kick(x);
	return 0;
}

int sn_exchange_read_all(struct sn_exchange *x, size_t max, sn_exchange_body_fn *fn, void *arg)
{
	uint64_t limit = x->conn->server->config.max_body;
	int r;

	if (max > 0 && max < limit)
		limit = max;
	r = start_reading(x, limit, fn, arg);
	if (r < 0)
		return r;
	x->collect = true;
	x->collect_max = limit < SIZE_MAX / 2 ? (size_t)limit : SIZE_MAX / 2;
	return 0;
}

int sn_exchange_read(struct sn_exchange *x, sn_exchange_body_fn *fn, void *arg)
{
	return start_reading(x, UINT64_MAX, fn, arg);
}

void sn_exchange_pause(struct sn_exchange *x, bool pause)
{
	if (x->paused == pause)
		return;
	x->paused = pause;
	x->ops->kick(x);
}

/* ---- answers ---- */

/* Whether @h is one that only the server writes; @a->close when it asks to close. */
static int check_header(const struct sn_header *h, struct exchange_answer *a)
{
	struct sn_str name = sn_str_from(h->name);
	struct sn_str value = sn_str_from(h->value);

	if (!sn__http_header_valid(name, value))
		return SN_E_INVALID;
	if (sn__str_ieq(name, SN_STR("content-length")) ||
			sn__str_ieq(name, SN_STR("transfer-encoding")))
		return SN_E_INVALID;
	if (sn__str_ieq(name, SN_STR("connection")) && a->status != 101) {
		if (!sn__str_ieq(value, SN_STR("close")))
			return SN_E_INVALID;
		a->close = true;
	}
	a->has_date |= sn__str_ieq(name, SN_STR("date"));
	return 0;
}

/* Fills in the rest of @a. */
static int check_answer(struct sn_exchange *x, struct exchange_answer *a)
{
	if (is_broken(x))
		return SN_E_RESET;
	if (x->answer != HTTP_UNANSWERED)
		return SN_E_STATE;
	if ((a->status < 200 && a->status != 101) || a->status > 999)
		return SN_E_INVALID;
	for (size_t i = 0; i < a->n_headers; i++) {
		int r = check_header(&a->headers[i], a);

		if (r < 0)
			return r;
	}
	x->no_body = a->status == 204 || a->status == 304 ||
			sn_str_eq(x->parser.head.method, SN_STR("HEAD"));
	return 0;
}

int sn_exchange_respond(struct sn_exchange *x, unsigned status, const struct sn_header *headers,
		size_t n_headers, const void *body, size_t size)
{
	struct exchange_answer a = {.status = status,
			.headers = headers,
			.n_headers = n_headers,
			.length = (int64_t)size};
	int r;

	if (status == 101 || size > INT64_MAX)
		return SN_E_INVALID;
	r = check_answer(x, &a);
	if (r < 0)
		return r;
	r = x->ops->respond(x, &a, body, x->no_body ? 0 : size);
	if (r == 0) {
		x->answer = HTTP_ANSWERED;
		x->status = (uint16_t)status;
		look_for_grpc(x, headers, n_headers);
	}
	x->ops->kick(x);
	return r;
}

int sn_exchange_start(struct sn_exchange *x, unsigned status, const struct sn_header *headers,
		size_t n_headers, int64_t length)
{
	struct exchange_answer a = {.status = status,
			.headers = headers,
			.n_headers = n_headers,
			.length = length};
	int r = check_answer(x, &a);

	if (r < 0)
		return r;
	if (length < -1 || (status == 101 && !x->parser.head.upgrade))
		return SN_E_INVALID;
	if (status == 101 && !is_extended(x) && (!x->body_done || x->out.len > 0))
		return SN_E_STATE; /* the rest of the body would be taken for the new protocol */
	r = x->ops->start(x, &a);
	if (r < 0)
		return r;
	x->sized = length >= 0;
	x->left = length > 0 ? (uint64_t)length : 0;
	x->answer = HTTP_STREAMING;
	x->status = (uint16_t)status;
	if (status == 101)
		x->upgraded = true;
	else
		x->ops->kick(x);
	return 0;
}

int sn_exchange_write(struct sn_exchange *x, const void *data, size_t size)
{
	int r;

	if (is_broken(x))
		return SN_E_RESET;
	if (x->answer != HTTP_STREAMING || x->upgraded)
		return SN_E_STATE;
	if (x->no_body || size == 0)
		return 0;
	if (x->sized && size > x->left)
		return SN_E_LIMIT;
	/* Who has waited may write as much at once as he holds himself: one large message. */
	if (x->out.len < HTTP_OUT_LOW)
		x->out.max = SIZE_MAX / 2;
	r = x->ops->write(x, data, size);
	x->out.max = SN_MAX(x->out.len, (size_t)HTTP_OUT_MAX);
	if (r < 0)
		return r;
	x->left -= x->sized ? size : 0;
	if (x->out.len < HTTP_OUT_HIGH)
		return 0;
	x->drain_due = true;
	return SN_E_AGAIN;
}

static bool trailer_valid(const struct sn_header *h)
{
	static const char *const never[] = {"content-length", "transfer-encoding", "host",
			"connection", "keep-alive", "proxy-connection", "upgrade", "te"};
	struct sn_str name = sn_str_from(h->name);

	for (size_t i = 0; i < SN_COUNT(never); i++) {
		if (sn__str_ieq(name, sn_str_from(never[i])))
			return false;
	}
	return sn__http_header_valid(name, sn_str_from(h->value));
}

int sn_exchange_end(struct sn_exchange *x, const struct sn_header *trailers, size_t n_trailers)
{
	int r = 0;

	if (is_broken(x))
		return SN_E_RESET;
	if (x->answer != HTTP_STREAMING || x->upgraded)
		return SN_E_STATE;
	if (x->sized && !x->no_body && x->left > 0) {
		sn_exchange_abort(x);
		return SN_E_STATE;
	}
	for (size_t i = 0; i < n_trailers; i++) {
		if (!trailer_valid(&trailers[i]))
			return SN_E_INVALID;
	}
	x->out.max = SIZE_MAX / 2; /* the end always finds room */
	if (!x->no_body)
		r = x->ops->end(x, trailers, n_trailers);
	if (r < 0)
		return r;
	x->answer = HTTP_ANSWERED;
	look_for_grpc(x, trailers, n_trailers);
	x->ops->kick(x);
	return 0;
}

void sn__exchange_refuse(struct sn_exchange *x, unsigned status, const char *reason)
{
	static const struct sn_header headers[] = {
			{"Content-Type", "text/plain"},
			{"Connection", "close"},
	};
	char text[160];
	int n = snprintf(
			text, sizeof(text), "%u %s: %s\n", status, sn__http_reason(status), reason);

	if (sn_exchange_respond(x, status, headers, SN_COUNT(headers), text,
			    SN_MIN((size_t)n, sizeof(text) - 1)) < 0)
		x->ops->fail(x, SN_E_NOMEM);
}

void sn_exchange_on_drain(struct sn_exchange *x, sn_exchange_fn *fn, void *arg)
{
	x->on_drain = fn;
	x->on_drain_arg = arg;
}

void sn_exchange_on_close(struct sn_exchange *x, sn_exchange_close_fn *fn, void *arg)
{
	x->on_close = fn;
	x->on_close_arg = arg;
}

void sn_exchange_abort(struct sn_exchange *x)
{
	x->ops->fail(x, SN_E_CLOSED);
}
