/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests as streams of one HTTP/2 connection.
 *
 * A request that is bound hangs in conn->reqs and is the user data of its stream; when it leaves,
 * whatever the reason, the stream is unbound first, so that nothing of what still comes for it is
 * told to anybody. Everything is kept in the request itself: no allocation of ours, unless it is
 * paused while bytes are under way.
 *
 * Ends of a request:
 * - END_STREAM from the peer: whole. A body of ours that is still under way is broken off.
 * - the stream was reset: failed, or placed anew when the peer did surely not look at it
 *   (REFUSED_STREAM, above the last id of GOAWAY, or not a byte of its HEADERS was written);
 * - the connection is gone: likewise;
 * - cancelled, timed out, its source failed: RST_STREAM (CANCEL), nothing else is disturbed.
 * A request that is whole while its caller pauses waits in dest->held, without a stream.
 *
 * Failures complete in the next turn, success inside the read event. After every callback the request
 * may be gone from its stream; req->conn says so, its memory stays until on_done.
 */
#include <stdio.h>

#include "base/mem.h"
#include "io/http_conn.h"

#define NVA_MAX (SN_HTTP_HEADERS_MAX + 5u)
#define NEVER_SENT UINT64_MAX

static struct sn_loop *loop_of(const struct sn_http_req *req)
{
	return req->dest->pool->loop;
}

/* ---- the head ---- */

/* What speaks of the connection does not exist in HTTP/2 (RFC 9113, 8.2.2). */
static bool is_of_connection(const struct sn_http_header *h)
{
	switch (h->name.len) {
	case 2:
		return sn__str_ieq(h->name, SN_STR("te")) &&
				!sn__str_ieq(h->value, SN_STR("trailers"));
	case 7:
		return sn__str_ieq(h->name, SN_STR("upgrade"));
	case 10:
		return sn__str_ieq(h->name, SN_STR("keep-alive"));
	case 14:
		return sn__str_ieq(h->name, SN_STR("http2-settings"));
	case 16:
		return sn__str_ieq(h->name, SN_STR("proxy-connection"));
	default:
		return false;
	}
}

static int check_headers(
		const struct sn_http_header *h, unsigned n, size_t *size, struct sn_error *err)
{
	for (unsigned i = 0; i < n; i++) {
		bool ours = sn__http_name_is_ours(h[i].name);

		if (ours || !sn__http_header_valid(h[i].name, h[i].value))
			return sn__error_set(err, SN_E_INVALID,
					ours ? "header \"%.*s\" is set by the client itself"
					     : "header \"%.*s\" is not valid",
					(int)SN_MIN(h[i].name.len, 100), h[i].name.ptr);
		*size += h[i].name.len + h[i].value.len + 32;
	}
	return 0;
}

int sn__http2_check(const struct sn_http_req *req, struct sn_error *err)
{
	size_t size = 0;
	int r;

	if (!sn__http_method_valid(req->method))
		return sn__error_set(err, SN_E_INVALID, "the request's method is not valid");
	if (!sn__http_target_valid(req->target))
		return sn__error_set(err, SN_E_INVALID, "the request's target is not valid");
	if (req->host.len > 0 && !sn__http_header_valid(SN_STR("host"), req->host))
		return sn__error_set(err, SN_E_INVALID, "the request's host is not valid");
	r = check_headers(req->headers, req->n_headers, &size, err);
	if (r == 0)
		r = check_headers(req->headers2, req->n_headers2, &size, err);
	if (r < 0)
		return r;
	if (size > SN_HTTP_HEAD_SIZE_MAX || req->n_headers > SN_HTTP_HEADERS_MAX ||
			req->n_headers2 > SN_HTTP_HEADERS_MAX - req->n_headers)
		return sn__error_set(err, SN_E_LIMIT, "the request's head is too large");
	return 0;
}

static size_t put_headers(nghttp2_nv *nva, size_t n_nva, const struct sn_http_header *h, unsigned n,
		uint8_t flags)
{
	for (unsigned i = 0; i < n; i++) {
		if (is_of_connection(&h[i]))
			continue;
		nva[n_nva] = sn_h2_nv(h[i].name, h[i].value);
		nva[n_nva++].flags = flags;
	}
	return n_nva;
}

static bool has_body(const struct sn_http_req *req)
{
	return req->source != NULL ? req->source->length != 0 : req->body.len > 0;
}

/* Into @nva, NVA_MAX of them; numbers into @text, 24 bytes. How many. */
static size_t build_head(const struct sn_http_dest *dest, const struct sn_http_req *req,
		nghttp2_nv *nva, char *text)
{
	uint64_t length = req->source != NULL ? (uint64_t)req->source->length : req->body.len;
	char *p = text + 24;
	size_t n = 0;

	nva[n++] = sn_h2_nv(SN_STR(":method"), req->method);
	nva[n++] = sn_h2_nv(
			SN_STR(":scheme"), dest->tls != NULL ? SN_STR("https") : SN_STR("http"));
	nva[n++] = sn_h2_nv(SN_STR(":authority"), req->host.len > 0 ? req->host : dest->authority);
	nva[n++] = sn_h2_nv(SN_STR(":path"), req->target);
	if (!(req->source != NULL && req->source->length < 0) &&
			(length > 0 || req->source != NULL ||
					sn__http_method_has_body(req->method))) {
		do {
			*--p = (char)('0' + length % 10);
			length /= 10;
		} while (length > 0);
		nva[n++] = sn_h2_nv(SN_STR("content-length"),
				(struct sn_str){p, (size_t)(text + 24 - p)});
	}
	n = put_headers(nva, n, req->headers, req->n_headers, NGHTTP2_NV_FLAG_NONE);
	/* Another one in each request: they would only drive the others out of the table. */
	return put_headers(nva, n, req->headers2, req->n_headers2, NGHTTP2_NV_FLAG_NO_INDEX);
}

bool sn__http2_has_room(const struct sn_http_conn *conn)
{
	return !conn->full && conn->n_reqs < conn->dest->max_streams &&
			conn->n_reqs <
			(conn->settled ? sn__h2_peer_streams(conn->h2) : conn->dest->peer_streams);
}

static void leave_idle(struct sn_http_conn *conn)
{
	if (conn->idle)
		conn->dest->pool->n_idle--;
	conn->idle = false;
}

int sn__http2_begin(struct sn_http_conn *conn, struct sn_http_req *req)
{
	nghttp2_nv nva[NVA_MAX];
	char text[24];
	int32_t id;

	if (req->n_headers > SN_HTTP_HEADERS_MAX ||
			req->n_headers2 > SN_HTTP_HEADERS_MAX - req->n_headers)
		return SN_E_LIMIT;
	id = sn__h2_request(
			conn->h2, nva, build_head(conn->dest, req, nva, text), has_body(req), req);
	if (id == SN_E_CLOSED || id == SN_E_LIMIT || id == SN_E_STATE) {
		conn->full = true;
		return SN_E_CLOSED;
	}
	if (id < 0)
		return id;
	leave_idle(conn);
	sn_list_push_back(&conn->reqs, &req->link);
	conn->n_reqs++;
	req->conn = conn;
	req->h2.id = id;
	req->h2.head_at = NEVER_SENT;
	req->h2.body_off = 0;
	req->result.connected_ns = sn__loop_now_ns(loop_of(req));
	req->result.reused = conn->reused;
	conn->reused = true;
	return 0;
}

/* ---- how it ends ---- */

static enum sn_sent sent_of(const struct sn_http_req *req)
{
	const struct sn_h2 *h2;

	if (req->flags & HTTP_REQ_HEAD)
		return SN_SENT_YES;
	if (req->h2.head_at == NEVER_SENT)
		return SN_SENT_NO;
	/* What is packed goes out, unless the connection has broken. */
	h2 = req->conn->h2;
	return (h2->failed == 0 && h2->write_error == 0) || h2->written > req->h2.head_at
			? SN_SENT_MAYBE
			: SN_SENT_NO;
}

static enum sn_phase phase_of(const struct sn_http_req *req)
{
	if (req->flags & HTTP_REQ_HEAD)
		return SN_PHASE_READ;
	return req->flags & HTTP_REQ_SENT ? SN_PHASE_WAIT : SN_PHASE_WRITE;
}

/* Off its stream. The connection stays as it is. */
static void unbind(struct sn_http_req *req)
{
	struct sn_http_conn *conn = req->conn;

	sn__h2_bind(conn->h2, req->h2.id, NULL);
	if (sn_timer_armed(&req->timer))
		sn__timer_stop(loop_of(req), &req->timer);
	sn_list_remove(&req->link);
	conn->n_reqs--;
	req->conn = NULL;
	req->h2.id = 0;
}

static void fail(struct sn_http_req *req, int code, int foreign, const char *detail)
{
	struct sn_http_conn *conn = req->conn;
	enum sn_phase phase = phase_of(req);

	req->result.sent = sent_of(req);
	unbind(req);
	sn__buf_finish(&req->h2.held);
	sn__http_req_fail(req, code, phase, foreign, detail);
	conn->entered++;
	if (conn->state == HTTP_CONN_SHARED)
		sn__http_conn_rest(conn);
	sn__http_conn_leave(conn);
}

/* Ours to break off. */
static void abort_req(struct sn_http_req *req, int code, const char *detail)
{
	sn__h2_reset(req->conn->h2, req->h2.id, NGHTTP2_CANCEL);
	fail(req, code, 0, detail);
}

void sn__http2_cancel(struct sn_http_req *req, int code, const char *detail)
{
	if (req->conn != NULL) {
		abort_req(req, code, detail);
		return;
	}
	assert(req->flags & HTTP_REQ_HELD);
	sn_list_remove(&req->link);
	req->flags &= ~HTTP_REQ_HELD;
	sn__http_req_fail(req, code, SN_PHASE_READ, 0, detail);
}

static bool can_start_over(struct sn_http_req *req)
{
	struct sn_body_source *source = req->source;

	if (req->flags & (HTTP_REQ_AGAIN | HTTP_REQ_HEAD))
		return false;
	if (source == NULL || (req->h2.body_off == 0 && !(req->flags & HTTP_REQ_SOURCE_END)))
		return true;
	return source->rewind != NULL && source->rewind(source) == 0;
}

/* As if it had never been here. It is not bound. */
static void start_over(struct sn_http_req *req)
{
	int r;

	sn__loop_undefer(loop_of(req), &req->task);
	req->flags = (req->flags & HTTP_REQ_PAUSED) | HTTP_REQ_AGAIN;
	req->result.sent = SN_SENT_NO;
	req->result.sent_ns = 0;
	r = sn__http_place(req);
	if (r < 0)
		sn__http_req_fail(req, r, SN_PHASE_CONNECT, 0, sn_strerror(r));
}

static void on_close(struct sn_h2 *h2, int32_t id, void *stream, uint32_t error)
{
	struct sn_http_req *req = stream;
	struct sn_http_conn *conn = req->conn;
	bool by_peer = h2->reset_id == id, untouched;
	char detail[96];

	/* What was not sent may be sent elsewhere; likewise what the peer says it did not touch. */
	untouched = error == NGHTTP2_REFUSED_STREAM || sent_of(req) == SN_SENT_NO;
	conn->entered++;
	if (untouched && can_start_over(req)) {
		unbind(req);
		start_over(req);
		if (conn->state == HTTP_CONN_SHARED)
			sn__http_conn_rest(conn);
		sn__http_conn_leave(conn);
		return;
	}
	req->result.h2_error = (int)SN_MIN(error, (uint32_t)INT32_MAX);
	(void)snprintf(detail, sizeof detail,
			by_peer                     ? "the peer reset the stream: %s"
					: untouched ? "the peer did not take the request: %s"
						    : "the stream was broken off: %s",
			sn__h2_error_name(error));
	if (untouched)
		req->h2.head_at = NEVER_SENT;
	fail(req, by_peer || untouched ? SN_E_RESET : SN_E_PROTOCOL, 0, detail);
	sn__http_conn_leave(conn);
}

static void on_gone(struct sn_h2 *h2)
{
	struct sn_http_conn *conn = h2->arg;
	int code = h2->failed == SN_E_LIMIT ? SN_E_PROTOCOL : h2->failed; /* it flooded us */
	struct sn_list again;
	const char *detail = h2->detail;
	bool told = false;

	sn_list_init(&again);
	conn->entered++;
	conn->full = true;
	if (h2->failed == SN_E_EOF && conn->n_reqs > 0 && !h2->goaway)
		detail = "connection closed without an answer";
	while (!sn_list_empty(&conn->reqs)) {
		struct sn_http_req *req = SN_CONTAINER_OF(
				conn->reqs.next, struct sn_http_req, link);
		enum sn_phase phase = phase_of(req);

		if (sent_of(req) == SN_SENT_NO && can_start_over(req)) {
			unbind(req);
			sn_list_push_back(&again, &req->link);
			continue;
		}
		if (h2->goaway && h2->goaway_error != NGHTTP2_NO_ERROR)
			req->result.h2_error = (int)SN_MIN(h2->goaway_error, (uint32_t)INT32_MAX);
		req->result.sent = sent_of(req);
		req->result.along = told;
		told = true;
		unbind(req);
		sn__buf_finish(&req->h2.held);
		sn__http_req_fail(req, code, phase, h2->foreign, detail);
	}
	leave_idle(conn);
	sn__http_conn_close(conn);
	while (!sn_list_empty(&again))
		start_over(SN_CONTAINER_OF(sn_list_pop_front(&again), struct sn_http_req, link));
	sn__http_conn_leave(conn);
}

static void on_goaway(struct sn_h2 *h2)
{
	struct sn_http_conn *conn = h2->arg;

	conn->full = true;
	if (conn->n_reqs == 0)
		sn__http_conn_close(conn);
}

static void on_settings(struct sn_h2 *h2)
{
	struct sn_http_conn *conn = h2->arg;
	uint32_t n = sn__h2_peer_streams(h2);

	conn->settled = true;
	conn->dest->peer_streams = n > 0 ? n : 1;
	if (!sn_list_empty(&conn->dest->queue))
		sn__http_dest_run(conn->dest);
}

/* ---- sending ---- */

static void on_send_head(struct sn_h2 *h2, int32_t id, void *stream)
{
	struct sn_http_req *req = stream;

	if (req->h2.head_at == NEVER_SENT)
		req->h2.head_at = h2->produced;
}

static void on_sent(struct sn_h2 *h2, int32_t id, void *stream)
{
	struct sn_http_req *req = stream;

	req->flags |= HTTP_REQ_SENT;
	req->result.sent_ns = sn__loop_now_ns(h2->stream->loop);
}

static ssize_t read_bytes(struct sn_http_req *req, void *out, size_t n, unsigned *ret_flags)
{
	n = SN_MIN(n, req->body.len - req->h2.body_off);
	memcpy(out, req->body.ptr + req->h2.body_off, n);
	req->h2.body_off += n;
	if (req->h2.body_off == req->body.len)
		*ret_flags = SN_H2_READ_END;
	return (ssize_t)n;
}

static ssize_t on_read(struct sn_h2 *h2, int32_t id, void *stream, void *out, size_t n,
		unsigned *ret_flags)
{
	struct sn_http_req *req = stream;
	struct sn_body_source *source = req->source;
	ssize_t got;

	if (source == NULL)
		return read_bytes(req, out, n, ret_flags);
	if (source->length >= 0)
		n = (size_t)SN_MIN((uint64_t)n, (uint64_t)source->length - req->h2.body_off);
	got = source->read(source, out, n);
	if (req->conn == NULL) /* cancelled by it */
		return SN_E_AGAIN;
	if (got == SN_E_AGAIN) {
		req->flags |= HTTP_REQ_WAITS;
		return got;
	}
	if (got < 0 || (got == 0 && source->length >= 0)) {
		abort_req(req, got < 0 ? (int)got : SN_E_EOF,
				got == SN_E_NOMEM ? sn_strerror((int)got)
						: got == 0
						? "the body's source ended before its length"
						: "the body's source failed");
		return SN_E_AGAIN;
	}
	assert((size_t)got <= n);
	req->h2.body_off += (size_t)got;
	if (got == 0 || (source->length >= 0 && req->h2.body_off == (uint64_t)source->length)) {
		req->flags |= HTTP_REQ_SOURCE_END;
		*ret_flags = SN_H2_READ_END;
	}
	return got;
}

void sn__http2_body_ready(struct sn_http_req *req)
{
	if (!(req->flags & HTTP_REQ_WAITS))
		return;
	req->flags &= ~HTTP_REQ_WAITS;
	sn__h2_resume(req->conn->h2, req->h2.id);
}

/* ---- the answer ---- */

static void on_idle_timeout(struct sn_timer *t)
{
	struct sn_http_req *req = SN_CONTAINER_OF(t, struct sn_http_req, timer);
	struct sn_loop *loop = loop_of(req);
	uint64_t now_ns = sn__loop_now_ns(loop), due_ns;
	uint32_t idle_ms = req->idle_timeout_ms != 0 ? req->idle_timeout_ms : 30000;
	char detail[64];

	/* Whoever pauses is to blame for the silence himself. */
	if (req->flags & HTTP_REQ_PAUSED)
		req->h2.last_ns = now_ns;
	due_ns = sn_time_add(req->h2.last_ns, sn_ms_to_ns(idle_ms));
	if (due_ns > now_ns) {
		sn__timer_start(loop, t, due_ns - now_ns, on_idle_timeout);
		return;
	}
	(void)snprintf(detail, sizeof detail, "no byte of the body for %u ms", idle_ms);
	abort_req(req, SN_E_TIMEOUT, detail);
}

/* Everything is there and told. */
static void complete(struct sn_http_req *req)
{
	struct sn_http_conn *conn = req->conn;

	if (!(req->flags & HTTP_REQ_SENT)) /* it does not want the rest */
		sn__h2_reset(conn->h2, req->h2.id, NGHTTP2_CANCEL);
	unbind(req);
	sn__http_conn_rest(conn);
	sn__http_req_done(req);
}

static bool holds(const struct sn_http_req *req)
{
	return req->flags & HTTP_REQ_PAUSED || req->h2.held.len > 0;
}

/* Whole, but the caller has not taken all of it. */
static void hold(struct sn_http_req *req)
{
	struct sn_http_conn *conn = req->conn;

	if (!(req->flags & HTTP_REQ_SENT))
		sn__h2_reset(conn->h2, req->h2.id, NGHTTP2_CANCEL);
	unbind(req);
	req->flags |= HTTP_REQ_HELD;
	sn_list_push_back(&req->dest->held, &req->link);
	sn__http_conn_rest(conn);
}

/* Trailers that will be told later. */
static int keep_trailers(struct sn_http_req *req, const struct sn_http_head *head)
{
	size_t table = head->n_headers * sizeof(struct sn_http_header), size = table;
	struct sn_http_header *to;
	char *at;

	for (unsigned i = 0; i < head->n_headers; i++)
		size += head->headers[i].name.len + head->headers[i].value.len;
	if (head->n_headers == 0)
		return 0;
	to = sn__malloc(size);
	if (to == NULL)
		return SN_E_NOMEM;
	at = (char *)to + table;
	for (unsigned i = 0; i < head->n_headers; i++) {
		const struct sn_http_header *from = &head->headers[i];

		memcpy(at, from->name.ptr, from->name.len);
		to[i].name = (struct sn_str){at, from->name.len};
		at += from->name.len;
		memcpy(at, from->value.ptr, from->value.len);
		to[i].value = (struct sn_str){at, from->value.len};
		at += from->value.len;
	}
	req->h2.trailers = to;
	req->result.trailers = to;
	req->result.n_trailers = head->n_headers;
	return 0;
}

static void trailers_came(struct sn_http_req *req, const struct sn_http_head *head)
{
	if (holds(req)) {
		if (keep_trailers(req, head) < 0)
			abort_req(req, SN_E_NOMEM, sn_strerror(SN_E_NOMEM));
		return; /* on_end() follows */
	}
	req->result.trailers = head->headers;
	req->result.n_trailers = head->n_headers;
	complete(req); /* while they are there */
}

static void on_head(struct sn_h2 *h2, int32_t id, void *stream, const struct sn_http_head *head,
		unsigned flags)
{
	struct sn_http_req *req = stream;
	struct sn_http_conn *conn = req->conn;

	conn->entered++;
	if (flags & SN_H2_TOO_LARGE) {
		abort_req(req, SN_E_PROTOCOL, "the answer's head is too large");
	} else if (flags & SN_H2_BAD_STATUS) {
		abort_req(req, SN_E_PROTOCOL, "the answer has a status below 100");
	} else if (flags & SN_H2_TRAILERS) {
		trailers_came(req, head);
	} else if (head->status >= 200) {
		req->flags |= HTTP_REQ_HEAD;
		req->result.status = head->status;
		req->result.sent = SN_SENT_YES;
		req->h2.last_ns = req->result.head_ns = sn__loop_now_ns(h2->stream->loop);
		if (!(flags & SN_H2_END))
			sn__timer_start(h2->stream->loop, &req->timer,
					sn_ms_to_ns(req->idle_timeout_ms != 0 ? req->idle_timeout_ms
									      : 30000),
					on_idle_timeout);
		if (req->ops->on_head != NULL)
			req->ops->on_head(req, head);
	}
	sn__http_conn_leave(conn);
}

static void on_data(struct sn_h2 *h2, int32_t id, void *stream, struct sn_str data)
{
	struct sn_http_req *req = stream;
	struct sn_http_conn *conn = req->conn;

	conn->entered++;
	req->h2.last_ns = sn__loop_now_ns(h2->stream->loop);
	if (holds(req)) {
		if (sn__buf_append_str(&req->h2.held, data) < 0)
			abort_req(req, SN_E_NOMEM, sn_strerror(SN_E_NOMEM));
	} else {
		if (req->ops->on_data != NULL)
			req->ops->on_data(req, data);
		if (req->conn != NULL)
			sn__h2_consume(h2, id, data.len);
	}
	sn__http_conn_leave(conn);
}

static void on_end(struct sn_h2 *h2, int32_t id, void *stream)
{
	struct sn_http_req *req = stream;
	struct sn_http_conn *conn = req->conn;

	conn->entered++;
	if (holds(req))
		hold(req);
	else
		complete(req);
	sn__http_conn_leave(conn);
}

/* The caller goes on: what was kept, and the end if it was there. */
static void on_resume(struct sn_task *task)
{
	struct sn_http_req *req = SN_CONTAINER_OF(task, struct sn_http_req, task);
	struct sn_buf held = req->h2.held;
	size_t n = held.len;

	if (req->flags & HTTP_REQ_PAUSED)
		return;
	sn__buf_init(&req->h2.held, SN_H2_STREAM_WINDOW);
	if (n > 0 && req->ops->on_data != NULL)
		req->ops->on_data(req, sn__buf_str(&held));
	sn__buf_finish(&held);
	if (req->conn != NULL && req->h2.id != 0 && n > 0)
		sn__h2_consume(req->conn->h2, req->h2.id, n);
	if ((req->flags & (HTTP_REQ_HELD | HTTP_REQ_PAUSED | HTTP_REQ_ENDING)) != HTTP_REQ_HELD)
		return;
	sn_list_remove(&req->link);
	req->flags &= ~HTTP_REQ_HELD;
	sn__http_req_done(req);
}

void sn__http2_pause_changed(struct sn_http_req *req)
{
	if (req->flags & HTTP_REQ_PAUSED)
		return;
	req->h2.last_ns = sn__loop_now_ns(loop_of(req));
	if (req->flags & HTTP_REQ_HELD || req->h2.held.len > 0)
		sn__loop_defer(loop_of(req), &req->task, on_resume);
}

int sn__http2_open(struct sn_http_conn *conn)
{
	static const struct sn_h2_ops ops = {
			.on_head = on_head,
			.on_data = on_data,
			.on_end = on_end,
			.on_close = on_close,
			.read = on_read,
			.on_send_head = on_send_head,
			.on_sent = on_sent,
			.on_goaway = on_goaway,
			.on_settings = on_settings,
			.on_gone = on_gone,
	};
	struct sn_http_dest *dest = conn->dest;
	struct sn_h2_config config = {
			.ops = &ops,
			.arg = conn,
			.ping_ms = dest->ping_ms,
			.ping_timeout_ms = dest->ping_timeout_ms,
	};
	int r;

	if (dest->pool->h2 == NULL) {
		r = sn__h2_scratch_create(&dest->pool->h2);
		if (r < 0)
			return r;
	}
	config.scratch = dest->pool->h2;
	r = sn__h2_open(&config, conn->stream, &conn->h2);
	if (r == 0)
		conn->stream = NULL;
	return r;
}
