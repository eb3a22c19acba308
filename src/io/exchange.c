/* SPDX-License-Identifier: Apache-2.0 */
/* The functions on an exchange: what a handler reads and answers. See http_server_impl.h. */
#include <stdio.h>

#include "base/mem.h"
#include "io/http_server_impl.h"

#define WRITE_THROUGH \
	(32u << 10) /* bodies from here on are not copied when the socket takes them */

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

/* ---- the request's body ---- */

/* @limit: a greater announced length is refused. */
static int start_reading(struct sn_exchange *x, uint64_t limit, sn_exchange_body_fn *fn, void *arg)
{
	struct http_conn *c = x->conn;
	bool too_large = x->parser.head.has_length && x->parser.head.length > limit;

	if (c->failed != 0)
		return SN_E_RESET;
	if (x->asked || x->upgraded)
		return SN_E_STATE;
	if (x->continue_due && x->answer == HTTP_UNANSWERED && !too_large) {
		int r = sn__buf_puts(&x->out, "HTTP/1.1 100 Continue\r\n\r\n");

		if (r < 0)
			return r;
		x->continue_due = false;
	}
	x->asked = true;
	x->too_large = too_large;
	x->reader = fn;
	x->reader_arg = arg;
	sn__http_conn_kick(c);
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
	sn__http_conn_kick(x->conn);
}

/* ---- heads ---- */

/* Whether @h is one that only the server writes; @ret_close when it asks to close. */
static int check_header(const struct sn_header *h, unsigned status, bool *ret_close)
{
	struct sn_str name = sn_str_from(h->name);
	struct sn_str value = sn_str_from(h->value);

	if (!sn__http_header_valid(name, value))
		return SN_E_INVALID;
	if (sn__str_ieq(name, SN_STR("content-length")) ||
			sn__str_ieq(name, SN_STR("transfer-encoding")))
		return SN_E_INVALID;
	if (sn__str_ieq(name, SN_STR("connection")) && status != 101) {
		if (!sn__str_ieq(value, SN_STR("close")))
			return SN_E_INVALID;
		*ret_close = true;
	}
	return 0;
}

/* Whether the connection can serve another request when this one is answered now. */
static bool must_close(const struct sn_exchange *x)
{
	const struct sn_http_head *head = &x->parser.head;

	if (!head->keep_alive || x->conn->eof || x->conn->server->closing)
		return true;
	/* Whether the client will send the body it waits to send, nobody knows. */
	return !x->body_done && x->continue_due;
}

static int put_number(struct sn_buf *b, const char *name, uint64_t v)
{
	char text[24];
	size_t at = sizeof(text);

	do {
		text[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	return sn__http1_put_header(
			b, sn_str_from(name), (struct sn_str){text + at, sizeof(text) - at});
}

/* The lines that say how the body is framed and what becomes of the connection. */
static int put_framing(struct sn_exchange *x, unsigned status, int64_t length, bool close)
{
	struct sn_buf *b = &x->out;
	int r = 0;

	if (status == 101)
		return 0;
	if (length >= 0 && status != 204 && status != 304)
		r = put_number(b, "Content-Length", (uint64_t)length);
	else if (length < 0 && x->chunked)
		r = sn__buf_puts(b, "Transfer-Encoding: chunked\r\n");
	if (r == 0 && close)
		r = sn__buf_puts(b, "Connection: close\r\n");
	else if (r == 0 && x->parser.head.minor == 0)
		r = sn__buf_puts(b, "Connection: keep-alive\r\n");
	return r;
}

/* @length: -1 when not known. On failure nothing has changed. */
static int put_head(struct sn_exchange *x, unsigned status, const struct sn_header *headers,
		size_t n_headers, int64_t length)
{
	bool head_only = sn_str_eq(x->parser.head.method, SN_STR("HEAD"));
	size_t before = x->out.len;
	bool close = false, has_date = false;
	int r;

	if ((status < 200 && status != 101) || status > 999)
		return SN_E_INVALID;
	for (size_t i = 0; i < n_headers; i++) {
		r = check_header(&headers[i], status, &close);
		if (r < 0)
			return r;
		has_date |= sn__str_ieq(sn_str_from(headers[i].name), SN_STR("date"));
	}
	x->chunked = length < 0 && x->parser.head.minor == 1 && status != 204 && status != 304;
	x->no_body = head_only || status == 204 || status == 304;
	close |= must_close(x) || (length < 0 && !x->chunked && !x->no_body);
	r = sn__http1_put_status(&x->out, status);
	for (size_t i = 0; i < n_headers && r == 0; i++) {
		if (status == 101 ||
				!sn__str_ieq(sn_str_from(headers[i].name), SN_STR("connection")))
			r = sn__http1_put_header(&x->out, sn_str_from(headers[i].name),
					sn_str_from(headers[i].value));
	}
	if (r == 0 && !has_date)
		r = sn__http1_put_header(
				&x->out, SN_STR("Date"), sn__http_server_date(x->conn->server));
	if (r == 0)
		r = put_framing(x, status, length, close);
	if (r == 0)
		r = sn__http1_put_end(&x->out);
	if (r < 0) {
		sn__buf_truncate(&x->out, before);
		return r;
	}
	x->close_after = close;
	return 0;
}

/* ---- answers ---- */

static int may_answer(const struct sn_exchange *x)
{
	if (x->conn->failed != 0)
		return SN_E_RESET;
	return x->answer == HTTP_UNANSWERED ? 0 : SN_E_STATE;
}

/* Send what is waiting and @data behind it without copying what the socket takes at once. */
static int write_through(struct sn_exchange *x, const char *data, size_t size)
{
	struct http_conn *c = x->conn;
	struct sn_str vec[2] = {sn__buf_str(&x->out), {data, size}};
	ssize_t n = sn__stream_write(c->stream, vec, 2);
	size_t sent = n > 0 ? (size_t)n : 0;
	int r;

	if (n < 0 && n != SN_E_AGAIN) {
		c->failed = SN_E_RESET;
		return SN_E_RESET;
	}
	if (sent < vec[0].len) {
		sn__buf_consume(&x->out, sent);
		sent = 0;
	} else {
		sent -= vec[0].len;
		sn__buf_clear(&x->out);
	}
	c->progress = true;
	r = sn__buf_append(&x->out, data + sent, size - sent);
	if (r < 0)
		c->failed = SN_E_RESET; /* a part is on its way: nothing else can follow it */
	return r;
}

int sn_exchange_respond(struct sn_exchange *x, unsigned status, const struct sn_header *headers,
		size_t n_headers, const void *body, size_t size)
{
	size_t before = x->out.len;
	int r = may_answer(x);

	if (r < 0)
		return r;
	if (status == 101 || size > INT64_MAX)
		return SN_E_INVALID;
	r = put_head(x, status, headers, n_headers, (int64_t)size);
	if (r < 0)
		return r;
	if (x->no_body)
		size = 0;
	/* The limit of the buffer is for streams; a body that the caller holds is copied whole. */
	x->out.max = SIZE_MAX / 2;
	if (size >= WRITE_THROUGH) {
		r = write_through(x, body, size);
	} else {
		r = sn__buf_append(&x->out, body, size);
		if (r < 0)
			sn__buf_truncate(&x->out, before);
	}
	if (r == 0)
		x->answer = HTTP_ANSWERED;
	sn__http_conn_kick(x->conn);
	return r;
}

int sn_exchange_start(struct sn_exchange *x, unsigned status, const struct sn_header *headers,
		size_t n_headers, int64_t length)
{
	int r = may_answer(x);

	if (r < 0)
		return r;
	if (length < -1 || (status == 101 && !x->parser.head.upgrade))
		return SN_E_INVALID;
	if (status == 101 && (!x->body_done || x->out.len > 0))
		return SN_E_STATE; /* the rest of the body would be taken for the new protocol */
	r = put_head(x, status, headers, n_headers, length);
	if (r < 0)
		return r;
	x->sized = length >= 0;
	x->left = length > 0 ? (uint64_t)length : 0;
	x->answer = HTTP_STREAMING;
	if (status == 101)
		x->upgraded = true;
	else
		sn__http_conn_kick(x->conn);
	return 0;
}

static int put_piece(struct sn_exchange *x, const void *data, size_t size)
{
	size_t before = x->out.len;
	int r;

	if (!x->chunked)
		return sn__buf_append(&x->out, data, size);
	r = sn__http1_put_chunk_head(&x->out, size);
	if (r == 0)
		r = sn__buf_append(&x->out, data, size);
	if (r == 0)
		r = sn__buf_append(&x->out, "\r\n", 2);
	if (r < 0)
		sn__buf_truncate(&x->out, before);
	return r;
}

int sn_exchange_write(struct sn_exchange *x, const void *data, size_t size)
{
	int r;

	if (x->conn->failed != 0)
		return SN_E_RESET;
	if (x->answer != HTTP_STREAMING || x->upgraded)
		return SN_E_STATE;
	if (x->no_body || size == 0)
		return 0;
	if (x->sized && size > x->left)
		return SN_E_LIMIT;
	r = put_piece(x, data, size);
	if (r < 0)
		return r;
	x->left -= x->sized ? size : 0;
	if (x->out.len >= HTTP_OUT_LOW)
		sn__http_conn_flush(x->conn);
	if (x->out.len > 0 || x->conn->failed != 0)
		sn__http_conn_kick(x->conn);
	if (x->out.len < HTTP_OUT_HIGH)
		return 0;
	x->drain_due = true;
	return SN_E_AGAIN;
}

static int put_trailers(struct sn_exchange *x, const struct sn_header *trailers, size_t n)
{
	size_t before = x->out.len;
	int r = sn__buf_append(&x->out, "0\r\n", 3);

	for (size_t i = 0; i < n && r == 0; i++) {
		struct sn_str name = sn_str_from(trailers[i].name);

		if (sn__str_ieq(name, SN_STR("content-length")) ||
				sn__str_ieq(name, SN_STR("transfer-encoding")) ||
				sn__str_ieq(name, SN_STR("host")))
			r = SN_E_INVALID;
		else
			r = sn__http1_put_header(&x->out, name, sn_str_from(trailers[i].value));
	}
	if (r == 0)
		r = sn__http1_put_end(&x->out);
	if (r < 0)
		sn__buf_truncate(&x->out, before);
	return r;
}

int sn_exchange_end(struct sn_exchange *x, const struct sn_header *trailers, size_t n_trailers)
{
	int r = 0;

	if (x->conn->failed != 0)
		return SN_E_RESET;
	if (x->answer != HTTP_STREAMING || x->upgraded)
		return SN_E_STATE;
	if (x->sized && !x->no_body && x->left > 0) {
		sn_exchange_abort(x);
		return SN_E_STATE;
	}
	x->out.max = SIZE_MAX / 2; /* the end always finds room */
	if (x->chunked && !x->no_body)
		r = put_trailers(x, trailers, n_trailers);
	if (r < 0)
		return r;
	x->answer = HTTP_ANSWERED;
	sn__http_conn_kick(x->conn);
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
			    SN_MIN((size_t)n, sizeof(text) - 1)) < 0) {
		x->conn->failed = SN_E_NOMEM;
		sn__http_conn_kick(x->conn);
	}
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
	if (x->conn->failed == 0)
		x->conn->failed = SN_E_CLOSED;
	sn__http_conn_kick(x->conn);
}
