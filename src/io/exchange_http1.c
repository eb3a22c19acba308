/* SPDX-License-Identifier: Apache-2.0 */
/* Answers over HTTP/1.1: what an exchange's functions put on the wire. See http_server_impl.h. */
#include "base/mem.h"
#include "io/http_server_impl.h"

#define WRITE_THROUGH \
	(32u << 10) /* whole bodies from here on are not copied when the socket takes them */

#define CHUNK_MAX 32u /* more than what frames a chunk */

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

/* On failure nothing has changed. */
static int put_head(struct sn_exchange *x, const struct exchange_answer *a)
{
	size_t before = x->out.len;
	bool close;
	int r = sn__http1_put_status(&x->out, a->status);

	x->chunked = a->length < 0 && x->parser.head.minor == 1 && a->status != 204 &&
			a->status != 304;
	close = a->close || must_close(x) || (a->length < 0 && !x->chunked && !x->no_body);
	for (size_t i = 0; i < a->n_headers && r == 0; i++) {
		struct sn_str name = sn_str_from(a->headers[i].name);

		if (a->status == 101 || !sn__str_ieq(name, SN_STR("connection")))
			r = sn__http1_put_header(&x->out, name, sn_str_from(a->headers[i].value));
	}
	if (r == 0 && !a->has_date)
		r = sn__http1_put_header(
				&x->out, SN_STR("Date"), sn__http_server_date(x->conn->server));
	if (r == 0)
		r = put_framing(x, a->status, a->length, close);
	if (r == 0)
		r = sn__http1_put_end(&x->out);
	if (r < 0) {
		sn__buf_truncate(&x->out, before);
		return r;
	}
	x->close_after = close;
	return 0;
}

static int put_continue(struct sn_exchange *x)
{
	return sn__buf_puts(&x->out, "HTTP/1.1 100 Continue\r\n\r\n");
}

/* Send what is waiting, @data and @end behind it without copying what the socket takes at once. */
static int write_through(struct sn_exchange *x, const char *data, size_t size, struct sn_str end)
{
	struct http_conn *c = x->conn;
	struct sn_str vec[3] = {sn__buf_str(&x->out), {data, size}, end};
	unsigned from = vec[0].len == 0;
	ssize_t n = sn__stream_write(c->stream, vec + from, (end.len > 0 ? 3 : 2) - from);
	size_t sent = n > 0 ? (size_t)n : 0, part = SN_MIN(sent, vec[0].len);
	int r = 0;

	if (n < 0 && n != SN_E_AGAIN) {
		c->failed = SN_E_RESET;
		return SN_E_RESET;
	}
	sn__buf_consume(&x->out, part);
	c->progress = true;
	for (int i = 1; i < 3 && r == 0; i++) {
		sent -= part;
		part = SN_MIN(sent, vec[i].len);
		r = sn__buf_append(&x->out, vec[i].ptr + part, vec[i].len - part);
	}
	if (r < 0)
		c->failed = SN_E_RESET; /* a part is on its way: nothing else can follow it */
	return r;
}

static int respond(struct sn_exchange *x, const struct exchange_answer *a, const void *body,
		size_t size)
{
	size_t before = x->out.len;
	int r = put_head(x, a);

	if (r < 0)
		return r;
	/* The limit of the buffer is for streams; a body that the caller holds is copied whole. */
	x->out.max = SIZE_MAX / 2;
	if (size >= WRITE_THROUGH)
		return write_through(x, body, size, SN_STR(""));
	r = sn__buf_append(&x->out, body, size);
	if (r < 0)
		sn__buf_truncate(&x->out, before);
	return r;
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

/* Small pieces are collected until the next turn, large ones go out at once. */
static int write_piece(struct sn_exchange *x, const void *data, size_t size)
{
	int r = 0;

	if (size + CHUNK_MAX > x->out.max - x->out.len)
		return SN_E_LIMIT;
	if (x->out.len + size < HTTP_OUT_LOW) {
		r = put_piece(x, data, size);
	} else {
		if (x->chunked)
			r = sn__http1_put_chunk_head(&x->out, size);
		if (r == 0)
			(void)write_through(
					x, data, size, x->chunked ? SN_STR("\r\n") : SN_STR(""));
	}
	if (r < 0)
		return r;
	if (x->out.len > 0 || x->conn->failed != 0)
		sn__http_conn_kick(x->conn);
	return 0;
}

static int put_trailers(struct sn_exchange *x, const struct sn_header *trailers, size_t n)
{
	size_t before = x->out.len;
	int r;

	if (!x->chunked)
		return 0;
	r = sn__buf_append(&x->out, "0\r\n", 3);
	for (size_t i = 0; i < n && r == 0; i++)
		r = sn__http1_put_header(&x->out, sn_str_from(trailers[i].name),
				sn_str_from(trailers[i].value));
	if (r == 0)
		r = sn__http1_put_end(&x->out);
	if (r < 0)
		sn__buf_truncate(&x->out, before);
	return r;
}

static void kick(struct sn_exchange *x)
{
	sn__http_conn_kick(x->conn);
}

static void fail(struct sn_exchange *x, int code)
{
	sn__http_conn_fail(x->conn, code);
	sn__http_conn_kick(x->conn);
}

const struct exchange_ops sn__exchange_http1 = {
		.put_continue = put_continue,
		.respond = respond,
		.start = put_head,
		.write = write_piece,
		.end = put_trailers,
		.kick = kick,
		.fail = fail,
};
