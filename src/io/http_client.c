/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request on one connection: the head built, everything written at once when the socket takes
 * it, the answer parsed where it was read, and every way this can end.
 *
 * The hot path is one send and one recv a request and nothing else: no allocation, no timer, no
 * change of readiness, no copy. So
 * - the head is built in a buffer of the pool and written together with the body; only what the
 *   socket did not take is kept with the connection (conn->out);
 * - all connections read into one buffer of the pool, parse in place, and keep only what is left
 *   over (conn->in). Nobody else may read into it before the event is through, which holds because
 *   callbacks start, write and close, but never read;
 * - a connection always waits for readability, busy or idle;
 * - time-outs run only while connecting and after the head of an unfinished answer.
 *
 * Failures complete by a task in the next turn, so they may be found anywhere, also inside
 * sn__http_start(). Success completes inside the read event. After every callback the request may be
 * gone, cancelled, and the connection closed: conn->req says so (conn itself lives while
 * conn->entered).
 *
 * result.sent: NO until write() took a byte, then MAYBE, YES with the final head.
 */
#include <stdio.h>

#include "base/mem.h"
#include "io/http_conn.h"

#define BODY_PIECE (16u << 10)
#define SOURCE_PIECE ((64u << 10) - 1024) /* with a head in front still 64 KiB */

/* ---- the head ---- */

bool sn__http_name_is_ours(struct sn_str name)
{
	switch (name.len) {
	case 4:
		return sn__str_ieq(name, SN_STR("host"));
	case 10:
		return sn__str_ieq(name, SN_STR("connection"));
	case 14:
		return sn__str_ieq(name, SN_STR("content-length"));
	case 17:
		return sn__str_ieq(name, SN_STR("transfer-encoding"));
	default:
		return false;
	}
}

static int put_headers(
		struct sn_buf *b, const struct sn_http_header *h, unsigned n, struct sn_error *err)
{
	for (unsigned i = 0; i < n; i++) {
		int r = sn__http_name_is_ours(h[i].name)
				? SN_E_INVALID
				: sn__http1_put_header(b, h[i].name, h[i].value);

		if (r == SN_E_INVALID)
			return sn__error_set(err, r,
					sn__http_name_is_ours(h[i].name)
							? "header \"%.*s\" is set by the client itself"
							: "header \"%.*s\" is not valid",
					(int)SN_MIN(h[i].name.len, 100), h[i].name.ptr);
		if (r < 0)
			return sn__error_set(err, r, "the request's head: %s", sn_strerror(r));
	}
	return 0;
}

bool sn__http_method_has_body(struct sn_str method)
{
	return sn_str_eq(method, SN_STR("POST")) || sn_str_eq(method, SN_STR("PUT")) ||
			sn_str_eq(method, SN_STR("PATCH"));
}

/* "Content-Length: n" and the like. A method that usually has a body says so when it has none. */
static int put_body_header(struct sn_buf *b, const struct sn_http_req *req)
{
	uint64_t n = req->source != NULL ? (uint64_t)req->source->length : req->body.len;
	char line[48], *p = line + sizeof line;

	if (req->source != NULL && req->source->length < 0)
		return sn__buf_append_str(b, SN_STR("Transfer-Encoding: chunked\r\n"));
	if (n == 0 && req->source == NULL && !sn__http_method_has_body(req->method))
		return 0;
	*--p = '\n';
	*--p = '\r';
	do {
		*--p = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	p -= sizeof "Content-Length: " - 1;
	memcpy(p, "Content-Length: ", sizeof "Content-Length: " - 1);
	return sn__buf_append(b, p, (size_t)(line + sizeof line - p));
}

static int put_host(
		struct sn_buf *b, const struct sn_http_dest *dest, const struct sn_http_req *req)
{
	if (req->host.len == 0)
		return sn__buf_append_str(b, dest->host_line);
	return sn__http1_put_header(b, SN_STR("Host"), req->host);
}

/* The whole head into pool->head, from scratch. */
static int build_head(const struct sn_http_dest *dest, const struct sn_http_req *req,
		struct sn_error *err)
{
	struct sn_buf *b = &dest->pool->head;
	int r;

	dest->pool->head_of = NULL;
	sn__buf_clear(b);
	r = sn__http1_put_request(b, req->method, req->target);
	if (r == SN_E_INVALID)
		return sn__error_set(err, r,
				sn__http_method_valid(req->method)
						? "the request's target is not valid"
						: "the request's method is not valid");
	if (r == 0)
		r = put_host(b, dest, req);
	if (r == 0 && req->upgrade)
		r = sn__buf_append_str(b, SN_STR("Connection: Upgrade\r\n"));
	if (r == 0)
		r = put_body_header(b, req);
	if (r < 0)
		return sn__error_set(err, r, "the request's head: %s", sn_strerror(r));
	r = put_headers(b, req->headers, req->n_headers, err);
	if (r == 0)
		r = put_headers(b, req->headers2, req->n_headers2, err);
	if (r < 0)
		return r;
	r = sn__http1_put_end(b);
	if (r < 0)
		return sn__error_set(err, r, "the request's head: %s", sn_strerror(r));
	dest->pool->head_of = req;
	return 0;
}

/* ---- how it ends ---- */

void sn__http_req_done(struct sn_http_req *req)
{
	struct sn_http_dest *dest = req->dest;
	struct sn_http_pool *pool = dest->pool;
	void *trailers = SN_TAKE(req->h2.trailers);

	req->result.done_ns = sn__loop_now_ns(pool->loop);
	req->flags |= HTTP_REQ_ENDING;
	sn__buf_finish(&req->h2.held);
	req->ops->on_done(req); /* the request may be gone with it */
	sn__free(trailers);
	dest->n_reqs--;
	pool->n_reqs--;
	if (dest->refs == 0 || pool->closing)
		sn__http_dest_settle(dest);
}

static void on_fail_task(struct sn_task *task)
{
	sn__http_req_done(SN_CONTAINER_OF(task, struct sn_http_req, task));
}

void sn__http_req_fail(struct sn_http_req *req, int code, enum sn_phase phase, int foreign,
		const char *detail)
{
	struct sn_http_result *res = &req->result;

	assert(req->conn == NULL && !(req->flags & (HTTP_REQ_ENDING | HTTP_REQ_QUEUED)));
	req->flags |= HTTP_REQ_ENDING;
	sn__timer_stop(req->dest->pool->loop, &req->timer);
	res->code = code;
	res->starved = res->starved || (req->flags & HTTP_REQ_WAITS) != 0;
	res->phase = phase;
	res->foreign = foreign;
	(void)snprintf(res->detail, sizeof res->detail, "%s", detail);
	sn__loop_defer(req->dest->pool->loop, &req->task, on_fail_task);
}

static enum sn_phase conn_phase(const struct sn_http_conn *conn)
{
	if (conn->head_seen)
		return SN_PHASE_READ;
	return conn->sent_all ? SN_PHASE_WAIT : SN_PHASE_WRITE;
}

/* Request and connection part; the connection closes. */
static void conn_fail(struct sn_http_conn *conn, int code, enum sn_phase phase, int foreign,
		const char *detail)
{
	struct sn_http_req *req = conn->req;

	req->result.starved = conn->source_waits;
	conn->req = NULL;
	req->conn = NULL;
	sn__http_req_fail(req, code, phase, foreign, detail);
	sn__http_conn_close(conn);
}

static void conn_fail_stream(struct sn_http_conn *conn, int code, const char *what)
{
	const struct sn_error *e = sn__stream_error(conn->stream);

	conn_fail(conn, code, conn_phase(conn), e != NULL ? e->foreign : 0,
			e != NULL && e->text[0] != '\0' ? e->text : what);
}

/* A kept connection turned out dead before it took a byte: as if it had never been picked. */
static void conn_replace(struct sn_http_conn *conn)
{
	struct sn_http_req *req = conn->req;
	int r;

	conn->req = NULL;
	req->conn = NULL;
	sn__http_conn_close(conn);
	r = sn__http_place(req);
	if (r < 0)
		sn__http_req_fail(req, r, SN_PHASE_CONNECT, 0, sn_strerror(r));
}

static bool conn_replaceable(const struct sn_http_conn *conn)
{
	return conn->reused && conn->req->result.sent == SN_SENT_NO && !conn->source_done &&
			conn->body_off == 0;
}

/* ---- writing ---- */

static void conn_want(struct sn_http_conn *conn)
{
	unsigned events = conn->req->flags & HTTP_REQ_PAUSED ? 0 : SN_READABLE;

	if (!conn->sent_all && !conn->source_waits && conn->write_error == 0 &&
			!sn_task_queued(&conn->send_task))
		events |= SN_WRITABLE;
	sn__stream_want(conn->stream, events);
}

static void conn_write(struct sn_http_conn *conn);

static void on_send_task(struct sn_task *task)
{
	struct sn_http_conn *conn = SN_CONTAINER_OF(task, struct sn_http_conn, send_task);

	if (conn->req == NULL || conn->sent_all || conn->write_error != 0)
		return;
	conn->entered++;
	conn_write(conn);
	sn__http_conn_leave(conn);
}

/* What a source has is fetched in a turn of its own: whoever starts a request, or says that there is
 * more, may have all of it ready by then, and the socket has room almost always. */
static void conn_send_soon(struct sn_http_conn *conn)
{
	sn__loop_defer(conn->dest->pool->loop, &conn->send_task, on_send_task);
}

static void conn_sent_all(struct sn_http_conn *conn)
{
	conn->sent_all = true;
	conn->req->result.sent_ns = sn__loop_now_ns(conn->dest->pool->loop);
}

int sn__http_conn_begin(struct sn_http_conn *conn, struct sn_http_req *req)
{
	struct sn_http_pool *pool = conn->dest->pool;
	struct sn_str vec[2];
	ssize_t n = 0;
	int r;

	if (pool->head_of != req && (r = build_head(conn->dest, req, NULL)) < 0)
		return r;
	vec[0] = sn__buf_str(&pool->head);
	vec[1] = req->body;
	conn->keep = conn->sent_all = conn->source_waits = conn->source_done = false;
	conn->head_seen = false;
	conn->write_error = 0;
	conn->body_off = 0;
	if (req->source == NULL) {
		n = sn__stream_write(conn->stream, vec, vec[1].len > 0 ? 2 : 1);
		if (n < 0 && n != SN_E_AGAIN)
			return (int)n;
		n = SN_MAX(n, 0);
	}
	if ((size_t)n < vec[0].len) {
		/* No memory: a part of a head may be out, but that does nothing at the peer. */
		r = sn__buf_append(&conn->out, vec[0].ptr + n, vec[0].len - (size_t)n);
		if (r < 0)
			return r;
	} else {
		conn->body_off = (size_t)n - vec[0].len;
	}
	sn__http1_expect(&conn->parser, req->method);
	conn->req = req;
	req->conn = conn;
	req->result.connected_ns = sn__loop_now_ns(pool->loop);
	req->result.reused = conn->reused;
	if (n > 0)
		req->result.sent = SN_SENT_MAYBE;
	if (req->source == NULL && (size_t)n == vec[0].len + req->body.len)
		conn_sent_all(conn);
	if (req->source != NULL)
		conn_send_soon(conn);
	conn_want(conn);
	return 0;
}

/* One piece of the source into conn->out: 1 when there is something (or the end) to send, 0 when
 * it has nothing now, or the code it failed with. */
static int source_fill(struct sn_http_conn *conn)
{
	struct sn_body_source *src = conn->req->source;
	bool chunked = src->length < 0;
	size_t most = SOURCE_PIECE;
	char *space;
	ssize_t n;
	int r;

	if (!chunked)
		most = (size_t)SN_MIN((uint64_t)most, (uint64_t)src->length - conn->body_off);
	/* A chunk's head has a fixed width (leading zeros are allowed), so that the data need not
	 * move when their number is known. */
	r = sn__buf_reserve(&conn->out, most + 8, &space);
	if (r < 0)
		return r;
	n = most > 0 ? src->read(src, chunked ? space + 6 : space, most) : 0;
	if (n == SN_E_AGAIN)
		return 0;
	if (n < 0)
		return (int)n;
	assert((size_t)n <= most);
	conn->body_off += (size_t)n;
	if (n == 0) {
		if (!chunked && conn->body_off < (uint64_t)src->length)
			return SN_E_EOF;
		conn->source_done = true;
		return chunked ? sn__buf_append(&conn->out, "0\r\n\r\n", 5) < 0 ? SN_E_NOMEM : 1
			       : 1;
	}
	if (chunked) {
		for (int i = 0; i < 4; i++)
			space[i] = "0123456789abcdef"[((size_t)n >> (12 - 4 * i)) & 15];
		memcpy(space + 4, "\r\n", 2);
		memcpy(space + 6 + n, "\r\n", 2);
		n += 8;
	} else if (conn->body_off == (uint64_t)src->length) {
		conn->source_done = true;
	}
	sn__buf_commit(&conn->out, (size_t)n);
	return 1;
}

/* As source_fill(), but what there is stays with the source. */
static int source_view(struct sn_http_conn *conn, struct sn_str *ret_view)
{
	struct sn_body_source *src = conn->req->source;
	const char *view;
	ssize_t n;

	if (conn->body_off == (uint64_t)src->length) {
		conn->source_done = true;
		return 1;
	}
	n = src->view(src, &view);
	if (n == SN_E_AGAIN)
		return 0;
	if (n <= 0)
		return n == 0 ? SN_E_EOF : (int)n;
	*ret_view = (struct sn_str){
			view, (size_t)SN_MIN((uint64_t)n, (uint64_t)src->length - conn->body_off)};
	return 1;
}

static bool has_view(const struct sn_http_req *req)
{
	return req->source != NULL && req->source->view != NULL && req->source->length >= 0;
}

/* What is to be sent next into @vec; 0 pieces: nothing now. Negative: the source failed. */
static int next_output(struct sn_http_conn *conn, struct sn_str vec[2])
{
	struct sn_http_req *req = conn->req;
	int r = 0;

	vec[1] = (struct sn_str){NULL, 0};
	/* The head waits for the first piece, so that both leave together. */
	if (has_view(req) && !conn->source_done)
		r = source_view(conn, &vec[1]);
	else if (req->source != NULL && !conn->source_done && conn->out.len < BODY_PIECE)
		r = source_fill(conn);
	if (r < 0)
		return r;
	conn->source_waits = req->source != NULL && !conn->source_done && r == 0 &&
			conn->out.len == 0;
	vec[0] = sn__buf_str(&conn->out);
	if (req->source == NULL && req->body.ptr != NULL)
		vec[1] = (struct sn_str){
				req->body.ptr + conn->body_off, req->body.len - conn->body_off};
	if (vec[0].len == 0) {
		vec[0] = vec[1];
		return vec[0].len > 0;
	}
	return vec[1].len > 0 ? 2 : 1;
}

/* Whether everything is out now. */
static bool account(struct sn_http_conn *conn, size_t n)
{
	struct sn_http_req *req = conn->req;
	size_t from_out = SN_MIN(n, conn->out.len);

	if (n > 0 && req->result.sent == SN_SENT_NO)
		req->result.sent = SN_SENT_MAYBE;
	sn__buf_consume(&conn->out, from_out);
	if (has_view(req) && n > from_out) {
		conn->body_off += n - from_out;
		conn->source_done = conn->body_off == (uint64_t)req->source->length;
		req->source->used(req->source, n - from_out);
	}
	if (req->source != NULL)
		return conn->out.len == 0 && conn->source_done;
	conn->body_off += n - from_out;
	return conn->out.len == 0 && conn->body_off == req->body.len;
}

static void conn_read(struct sn_http_conn *conn);

/* The peer takes no more. It may have answered before it stopped reading, so read first. */
static void write_broke(struct sn_http_conn *conn, int code)
{
	if (conn_replaceable(conn)) {
		conn_replace(conn);
		return;
	}
	conn->write_error = code;
	if (!(conn->req->flags & HTTP_REQ_PAUSED))
		conn_read(conn);
	else
		conn_want(conn);
}

static void conn_write(struct sn_http_conn *conn)
{
	struct sn_str vec[2];

	for (int i = 0; i < 8; i++) {
		int n_vec = next_output(conn, vec);
		size_t total;
		ssize_t n;

		if (conn->req == NULL)
			return; /* the source cancelled */
		if (n_vec < 0) {
			conn_fail(conn, n_vec, SN_PHASE_WRITE, 0,
					n_vec == SN_E_NOMEM ? sn_strerror(n_vec)
							: n_vec == SN_E_EOF
							? "the body's source ended before its length"
							: "the body's source failed");
			return;
		}
		if (n_vec == 0 && conn->source_waits)
			break;
		total = n_vec == 0 ? 0 : vec[0].len + (n_vec == 2 ? vec[1].len : 0);
		n = total == 0 ? 0 : sn__stream_write(conn->stream, vec, (unsigned)n_vec);
		if (n < 0 && n != SN_E_AGAIN) {
			write_broke(conn, (int)n);
			return;
		}
		if (account(conn, (size_t)SN_MAX(n, 0))) {
			conn_sent_all(conn);
			break;
		}
		if (n < (ssize_t)total)
			break;
	}
	conn_want(conn);
}

/* ---- reading ---- */

static void on_idle_timeout(struct sn_timer *t)
{
	struct sn_http_req *req = SN_CONTAINER_OF(t, struct sn_http_req, timer);
	struct sn_http_conn *conn = req->conn;
	struct sn_loop *loop = req->dest->pool->loop;
	uint64_t now_ns = sn__loop_now_ns(loop), idle_ns, due_ns;
	uint32_t idle_ms = req->idle_timeout_ms != 0 ? req->idle_timeout_ms : 30000;
	char detail[64];

	idle_ns = sn_ms_to_ns(idle_ms);
	/* Whoever pauses is to blame for the silence himself. */
	if (req->flags & HTTP_REQ_PAUSED)
		conn->last_ns = now_ns;
	due_ns = sn_time_add(conn->last_ns, idle_ns);
	if (due_ns > now_ns) {
		sn__timer_start(loop, t, due_ns - now_ns, on_idle_timeout);
		return;
	}
	(void)snprintf(detail, sizeof detail, "no byte of the body for %u ms", idle_ms);
	conn_fail(conn, SN_E_TIMEOUT, SN_PHASE_READ, 0, detail);
}

/* The answer is whole; @rest is what stands behind it. */
static void conn_complete(struct sn_http_conn *conn, struct sn_str rest)
{
	struct sn_http_req *req = conn->req;
	struct sn_http_dest *dest = conn->dest;
	bool upgraded = req->result.status == 101;

	if (sn_timer_armed(&req->timer))
		sn__timer_stop(dest->pool->loop, &req->timer);
	req->result.trailers = conn->parser.trailers;
	req->result.n_trailers = conn->parser.n_trailers;
	conn->req = NULL;
	if (upgraded) {
		conn->rest = rest;
		dest->n_reqs++; /* stays for the release */
		dest->pool->n_reqs++;
		sn__http_req_done(req); /* sn__http_take_stream() */
		sn__http_conn_release(conn, false);
		dest->n_reqs--;
		dest->pool->n_reqs--;
		sn__http_dest_settle(dest);
		return;
	}
	req->conn = NULL;
	/* More than was announced, or an answer before we had asked: not to be trusted again. The
	 * memory that trailers point to stays until this event is through. */
	sn__http_conn_release(conn, conn->keep && conn->sent_all && rest.len == 0);
	sn__http_req_done(req);
}

static void on_head(struct sn_http_conn *conn)
{
	struct sn_http_req *req = conn->req;
	const struct sn_http_head *head = &conn->parser.head;

	conn->head_seen = true;
	conn->keep = head->keep_alive;
	req->result.status = head->status;
	req->result.sent = SN_SENT_YES;
	req->result.head_ns = sn__loop_now_ns(conn->dest->pool->loop);
	if (req->ops->on_head != NULL)
		req->ops->on_head(req, head);
}

/* One event of the parser. Whether to go on with the same request. */
static bool on_event(struct sn_http_conn *conn, enum sn_http1_event ev, struct sn_str rest)
{
	struct sn_http_req *req = conn->req;

	switch (ev) {
	case SN_HTTP1_HEAD:
		if (conn->parser.head.status == 101 && !req->upgrade) {
			conn_fail(conn, SN_E_PROTOCOL, SN_PHASE_READ, 0,
					"101 Switching Protocols without being asked");
			return false;
		}
		on_head(conn);
		break;
	case SN_HTTP1_INFO:
		break;
	case SN_HTTP1_DATA:
		if (req->ops->on_data != NULL)
			req->ops->on_data(req, conn->parser.data);
		break;
	case SN_HTTP1_END:
		conn_complete(conn, rest);
		return false;
	case SN_HTTP1_MORE:
		return false;
	case SN_HTTP1_UPGRADED:
	case SN_HTTP1_ERROR:
		conn_fail(conn, SN_E_PROTOCOL, SN_PHASE_READ, 0,
				conn->parser.reason != NULL ? conn->parser.reason
							    : "malformed answer");
		return false;
	}
	return conn->req == req && !(req->flags & HTTP_REQ_PAUSED);
}

/* Parse until more is needed, it is over, or the caller pauses. Bytes used. */
static size_t conn_parse(struct sn_http_conn *conn, struct sn_str in)
{
	size_t pos = 0, used;
	bool go_on;

	do {
		enum sn_http1_event ev;
		struct sn_str left = {in.ptr + pos, in.len - pos};

		used = 0;
		ev = sn__http1_next(&conn->parser, left, &used);
		pos += used;
		go_on = on_event(conn, ev, (struct sn_str){in.ptr + pos, in.len - pos});
	} while (go_on);
	return pos;
}

/* After parsing: time-out and readiness of a request that is still there. */
static void conn_go_on(struct sn_http_conn *conn)
{
	struct sn_loop *loop = conn->dest->pool->loop;
	struct sn_http_req *req = conn->req;

	conn->last_ns = sn__loop_now_ns(loop);
	if (conn->head_seen && !sn_timer_armed(&req->timer))
		sn__timer_start(loop, &req->timer,
				sn_ms_to_ns(req->idle_timeout_ms != 0 ? req->idle_timeout_ms
								      : 30000),
				on_idle_timeout);
	conn_want(conn);
}

static void conn_eof(struct sn_http_conn *conn)
{
	const char *what = "connection closed inside the answer's head";

	if (conn_replaceable(conn)) {
		conn_replace(conn);
		return;
	}
	if (conn->head_seen && sn__http1_eof(&conn->parser) == SN_HTTP1_END) {
		conn->keep = false;
		conn_complete(conn, (struct sn_str){NULL, 0});
		return;
	}
	if (conn->head_seen)
		what = "connection closed inside the body";
	else if (conn->in.len == 0)
		what = "connection closed without an answer";
	conn_fail(conn, conn->write_error != 0 ? conn->write_error : SN_E_EOF,
			conn->in.len > 0 ? SN_PHASE_READ : conn_phase(conn), 0, what);
}

/* Parse what is in conn->in, and drop what was used. */
static void conn_parse_own(struct sn_http_conn *conn)
{
	struct sn_str in = conn->in.len > 0 ? sn__buf_str(&conn->in) : SN_STR("");
	size_t used = conn_parse(conn, in);

	if (conn->state == HTTP_CONN_GONE)
		return; /* freed on leaving, with the buffer */
	sn__buf_consume(&conn->in, used);
	if (conn->in.len == 0 && conn->in.cap > 4096 && (conn->req == NULL || !conn->head_seen))
		sn__buf_finish(&conn->in);
	if (conn->req != NULL)
		conn_go_on(conn);
}

/* Returns false when there was nothing to read. */
static bool conn_read_once(struct sn_http_conn *conn)
{
	struct sn_http_pool *pool = conn->dest->pool;
	struct sn_http_req *req = conn->req;
	bool own = conn->in.len > 0;
	char *space = pool->scratch;
	size_t used;
	ssize_t n;

	if (own && sn__buf_reserve(&conn->in, BODY_PIECE, &space) < 0) {
		conn_fail(conn, SN_E_NOMEM, SN_PHASE_READ, 0, sn_strerror(SN_E_NOMEM));
		return true;
	}
	n = sn__stream_read(conn->stream, space, own ? BODY_PIECE : HTTP_SCRATCH_SIZE);
	if (n == SN_E_AGAIN)
		return false;
	if (n == 0) {
		conn_eof(conn);
	} else if (n < 0) {
		if (conn_replaceable(conn))
			conn_replace(conn);
		else
			conn_fail_stream(conn, (int)n, sn_strerror((int)n));
	} else if (conn_replaceable(conn)) {
		conn_replace(conn); /* it speaks unasked: a 408, most likely */
	} else if (own) {
		sn__buf_commit(&conn->in, (size_t)n);
		conn_parse_own(conn);
	} else {
		used = conn_parse(conn, (struct sn_str){space, (size_t)n});
		if (conn->req != req)
			return true;
		if (used < (size_t)n &&
				sn__buf_append(&conn->in, space + used, (size_t)n - used) < 0)
			conn_fail(conn, SN_E_NOMEM, SN_PHASE_READ, 0, sn_strerror(SN_E_NOMEM));
		else
			conn_go_on(conn);
	}
	return true;
}

static void conn_read(struct sn_http_conn *conn)
{
	struct sn_http_req *req = conn->req;
	bool more;

	do
		more = conn_read_once(conn);
	while (more && conn->write_error != 0 && conn->req == req &&
			!(req->flags & HTTP_REQ_PAUSED));
	if (!more && conn->write_error != 0)
		conn_fail_stream(conn, conn->write_error, sn_strerror(conn->write_error));
}

static void on_resume(struct sn_task *task)
{
	struct sn_http_conn *conn = SN_CONTAINER_OF(task, struct sn_http_conn, task);

	if (conn->req == NULL || conn->req->flags & HTTP_REQ_PAUSED)
		return;
	conn->entered++;
	conn_parse_own(conn);
	sn__http_conn_leave(conn);
}

void sn__http_conn_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct sn_http_conn *conn = arg;
	char byte;

	conn->entered++;
	if (conn->state == HTTP_CONN_IDLE) {
		/* Only what TLS keeps to itself may come here. */
		if (sn__stream_read(s, &byte, 1) != SN_E_AGAIN)
			sn__http_conn_close(conn);
	} else {
		if (events & SN_WRITABLE && conn->req != NULL && !conn->sent_all &&
				conn->write_error == 0)
			conn_write(conn);
		/* What was left over at a pause comes before anything new, above all its end. */
		if (events & SN_READABLE && conn->req != NULL &&
				!(conn->req->flags & HTTP_REQ_PAUSED) &&
				!sn_task_queued(&conn->task))
			conn_read(conn);
	}
	sn__http_conn_leave(conn);
}

/* ---- what the caller holds ---- */

int sn__http_start(struct sn_http_dest *dest, struct sn_http_req *req, struct sn_error *err)
{
	struct sn_http_pool *pool = dest->pool;
	int r;

	if (pool == NULL || pool->closing)
		return sn__error_set(err, SN_E_CLOSED, "the HTTP client was closed");
	if (req->upgrade && dest->version == SN_HTTP_2)
		return sn__error_set(
				err, SN_E_NOTSUP, "the peer speaks HTTP/2, which has no upgrade");
	r = dest->speaks == SN_HTTP_2 && !req->upgrade ? sn__http2_check(req, err)
						       : build_head(dest, req, err);
	if (r < 0)
		return r;
	memset(&req->result, 0, sizeof req->result);
	memset(&req->h2, 0, sizeof req->h2);
	sn__buf_init(&req->h2.held, SN_H2_STREAM_WINDOW);
	req->result.h2_error = -1;
	req->result.start_ns = sn__loop_now_ns(pool->loop);
	req->flags = 0;
	req->conn = NULL;
	req->dest = dest;
	memset(&req->timer, 0, sizeof req->timer);
	memset(&req->task, 0, sizeof req->task);
	sn_list_init(&req->link);
	dest->n_reqs++;
	pool->n_reqs++;
	r = sn__http_place(req);
	if (r < 0) {
		dest->n_reqs--;
		pool->n_reqs--;
		return sn__error_set(err, r, "%s", sn_strerror(r));
	}
	return 0;
}

void sn__http_cancel(struct sn_http_req *req, int code)
{
	struct sn_http_conn *conn = req->conn;

	if (req->flags & HTTP_REQ_ENDING)
		return;
	if (conn == NULL && req->flags & HTTP_REQ_QUEUED) {
		req->flags &= ~HTTP_REQ_QUEUED;
		sn_list_remove(&req->link);
		sn__http_req_fail(
				req, code, SN_PHASE_CONNECT, 0, "while all connections were busy");
	} else if (conn == NULL || conn->h2 != NULL) {
		sn__http2_cancel(req, code, sn_strerror(code));
	} else if (conn->state != HTTP_CONN_BUSY) {
		sn__http_dial_cancel(req, code, sn_strerror(code));
	} else {
		conn_fail(conn, code, conn_phase(conn), 0, sn_strerror(code));
	}
}

void sn__http_pause(struct sn_http_req *req, bool pause)
{
	struct sn_http_conn *conn = req->conn;

	if (req->flags & HTTP_REQ_ENDING || pause == ((req->flags & HTTP_REQ_PAUSED) != 0))
		return;
	req->flags ^= HTTP_REQ_PAUSED;
	if (req->h2.id != 0 || req->flags & HTTP_REQ_HELD)
		sn__http2_pause_changed(req);
	if (conn == NULL || conn->state != HTTP_CONN_BUSY)
		return;
	if (!pause)
		conn->last_ns = sn__loop_now_ns(conn->dest->pool->loop);
	/* Also with nothing left over: the parser may have the end still to tell. */
	if (!pause && conn->head_seen)
		sn__loop_defer(conn->dest->pool->loop, &conn->task, on_resume);
	conn_want(conn);
}

void sn__http_body_ready(struct sn_http_req *req)
{
	struct sn_http_conn *conn = req->conn;

	if (!(req->flags & HTTP_REQ_ENDING) && req->h2.id != 0)
		sn__http2_body_ready(req);
	if (req->flags & HTTP_REQ_ENDING || conn == NULL || conn->h2 != NULL || !conn->source_waits)
		return;
	conn->source_waits = false;
	conn_send_soon(conn);
}

struct sn_stream *sn__http_take_stream(struct sn_http_req *req, struct sn_buf *rest)
{
	struct sn_http_conn *conn = req->conn;

	if (!(req->flags & HTTP_REQ_ENDING) || conn == NULL || conn->stream == NULL ||
			sn__buf_append_str(rest, conn->rest) < 0)
		return NULL;
	return SN_TAKE(conn->stream);
}
