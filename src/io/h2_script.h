/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_H2_SCRIPT_H
#define SN_SRC_IO_H2_SCRIPT_H

/*
 * Internal, tests only: an HTTP/2 server of nghttp2's own (nothing of io/h2.c) that does what it is
 * told, however wrong. For the n-th request of all connections it plays the n-th step; the last one
 * repeats. Bodies are h2s_letter(0), h2s_letter(1), ...
 */

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "io/stream.h"
#include "io/tls.h"

enum h2s_act {
	H2S_ANSWER,
	H2S_EARLY,      /* answer at the head, then RST_STREAM NO_ERROR */
	H2S_RESET,      /* RST_STREAM `error` instead of an answer */
	H2S_RESET_BODY, /* inside the body */
	H2S_STALL,      /* no answer */
	H2S_STALL_BODY,
	H2S_GOAWAY,      /* GOAWAY `error` that includes this request, then the answer */
	H2S_GOAWAY_AWAY, /* GOAWAY that excludes it */
	H2S_CLOSE,       /* of the connection */
	H2S_CLOSE_BODY,
	H2S_PINGS,     /* very many, instead of an answer */
	H2S_MALFORMED, /* a header that may not be */
	H2S_LENGTH,    /* content-length that is not true */
	H2S_GARBAGE,   /* bytes that are no frame */
	H2S_BIG_HEAD,
};
struct h2s_step {
	enum h2s_act act;
	unsigned status; /* 0: 200 */
	size_t body;
	uint32_t error;
	bool trailers;
	bool info; /* 103 before the answer */
};

struct h2s;
struct h2s_stream {
	struct sn_list link;
	struct h2s_conn *conn;
	int32_t id;
	struct h2s_step step;
	bool played, no_body;
	size_t received, sent;
	char path[64], method[16], authority[64], headers[512]; /* "name=value;" */
};
struct h2s_conn {
	struct sn_list link;
	struct h2s *srv;
	struct sn_stream *s;
	nghttp2_session *session;
	struct sn_list streams; /* h2s_stream.link */
	struct sn_str out;      /* nghttp2's, not yet written */
	bool raw, raw_said, close_after;
	struct sn_task task;
};
struct h2s {
	struct sn_loop *loop;
	struct sn_tls *tls; /* NULL: plain */
	struct sn_listener *listener;
	struct sn_addr addr;
	const struct h2s_step *steps;
	unsigned n_steps;
	/* Instead of the steps' order. */
	struct h2s_step (*choose)(struct h2s *srv, const struct h2s_stream *st);
	void (*answered)(
			struct h2s *srv, const struct h2s_stream *st); /* to the end; may be NULL */
	uint32_t max_streams, window; /* SETTINGS; 0: nothing said */
	bool keep_shut;               /* windows are not opened again */
	bool silent;                  /* PINGs get no answer */
	unsigned n_accepted, n_requests, n_open, most_open, n_answered;
	unsigned n_resets, n_goaways, n_gone, n_pings;
	uint32_t last_reset, last_goaway;
	size_t last_received;   /* body bytes of the request played last */
	struct h2s_stream last; /* a copy */
	struct sn_list conns;   /* h2s_conn.link */
};

static inline char h2s_letter(size_t i)
{
	return (char)('a' + i % 26);
}

static void h2s_conn_close(struct h2s_conn *c, bool reset)
{
	while (!sn_list_empty(&c->streams)) {
		struct h2s_stream *st = SN_CONTAINER_OF(
				sn_list_pop_front(&c->streams), struct h2s_stream, link);

		c->srv->n_open--;
		test_free(st);
	}
	sn__loop_undefer(c->srv->loop, &c->task);
	sn__stream_close(c->s, reset);
	sn_list_remove(&c->link);
	c->srv->n_gone++;
	nghttp2_session_del(c->session);
	test_free(c);
}

/* ---- answers ---- */

static ssize_t h2s_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t n,
		uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct h2s_stream *st = source->ptr;
	size_t end = st->step.body, left;
	nghttp2_nv trailer = {(uint8_t *)(uintptr_t) "x-sum", (uint8_t *)(uintptr_t) "7", 5, 1, 0};

	if (st->step.act == H2S_STALL_BODY || st->step.act == H2S_RESET_BODY ||
			st->step.act == H2S_CLOSE_BODY)
		end /= 2;
	left = end - st->sent;
	if (left == 0 && st->step.act == H2S_STALL_BODY)
		return NGHTTP2_ERR_DEFERRED;
	if (left == 0 && st->step.act == H2S_CLOSE_BODY) {
		st->conn->close_after = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (left == 0 && st->step.act == H2S_RESET_BODY) {
		assert_int_equal(nghttp2_submit_rst_stream(session, 0, id, st->step.error), 0);
		return NGHTTP2_ERR_DEFERRED;
	}
	n = SN_MIN(n, left);
	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)h2s_letter(st->sent + i);
	st->sent += n;
	if (st->sent == st->step.body && end == st->step.body) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (st->step.trailers) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			assert_int_equal(nghttp2_submit_trailer(session, id, &trailer, 1), 0);
		}
	}
	return (ssize_t)n;
}

static nghttp2_nv h2s_nv(const char *name, const char *value)
{
	return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
			strlen(value), 0};
}

static void h2s_answer(struct h2s_conn *c, struct h2s_stream *st)
{
	static char large[70000];
	const struct h2s_step *step = &st->step;
	nghttp2_data_provider body = {{.ptr = st}, h2s_read};
	nghttp2_nv nva[4], info = h2s_nv(":status", "103");
	char status[8], length[24];
	size_t n = 0;

	(void)snprintf(status, sizeof status, "%u", step->status != 0 ? step->status : 200);
	nva[n++] = h2s_nv(":status", status);
	nva[n++] = h2s_nv("server", "h2s");
	if (step->act == H2S_MALFORMED)
		nva[n++] = h2s_nv("connection", "keep-alive");
	if (step->act == H2S_BIG_HEAD) {
		memset(large, 'x', sizeof large - 1);
		nva[n++] = h2s_nv("x-large", large);
	}
	if (step->act == H2S_LENGTH) {
		(void)snprintf(length, sizeof length, "%zu", step->body + 1);
		nva[n++] = h2s_nv("content-length", length);
	}
	if (step->info)
		assert_int_equal(
				nghttp2_submit_headers(c->session, 0, st->id, NULL, &info, 1, NULL),
				0);
	c->srv->n_answered++;
	assert_int_equal(nghttp2_submit_response(c->session, st->id, nva, n,
					 (step->body > 0 || step->trailers) && !st->no_body ? &body
											    : NULL),
			0);
}

static void h2s_play(struct h2s_conn *c, struct h2s_stream *st)
{
	const struct h2s_step *step = &st->step;

	st->played = true;
	c->srv->last = *st;
	switch (step->act) {
	case H2S_RESET:
		assert_int_equal(nghttp2_submit_rst_stream(c->session, 0, st->id, step->error), 0);
		break;
	case H2S_STALL:
		break;
	case H2S_CLOSE:
		c->close_after = true;
		break;
	case H2S_GARBAGE:
		c->raw = true;
		break;
	case H2S_PINGS:
		for (int i = 0; i < 20000; i++)
			assert_int_equal(nghttp2_submit_ping(c->session, 0, NULL), 0);
		break;
	case H2S_GOAWAY_AWAY:
		/* Later ones may be answered already. */
		if (nghttp2_session_get_last_proc_stream_id(c->session) > st->id)
			assert_int_equal(nghttp2_submit_rst_stream(c->session, 0, st->id,
							 NGHTTP2_REFUSED_STREAM),
					0);
		else
			assert_int_equal(nghttp2_submit_goaway(c->session, 0, SN_MAX(st->id - 2, 0),
							 step->error, NULL, 0),
					0);
		break;
	case H2S_GOAWAY:
		assert_int_equal(nghttp2_submit_goaway(c->session, 0, st->id, step->error, NULL, 0),
				0);
		h2s_answer(c, st);
		break;
	default:
		h2s_answer(c, st);
		break;
	}
}

/* ---- nghttp2's callbacks ---- */

static int h2s_begin(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2s_conn *c = arg;
	struct h2s *srv = c->srv;
	struct h2s_stream *st;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	st = test_calloc(1, sizeof *st);
	assert_non_null(st);
	st->id = frame->hd.stream_id;
	st->conn = c;
	sn_list_push_back(&c->streams, &st->link);
	srv->n_open++;
	srv->most_open = SN_MAX(srv->most_open, srv->n_open);
	return nghttp2_session_set_stream_user_data(session, st->id, st);
}

static int h2s_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		size_t n_name, const uint8_t *value, size_t n_value, uint8_t flags, void *arg)
{
	struct h2s_stream *st = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	size_t at;

	if (st == NULL)
		return 0;
	if (strcmp((const char *)name, ":path") == 0)
		(void)snprintf(st->path, sizeof st->path, "%s", (const char *)value);
	else if (strcmp((const char *)name, ":method") == 0)
		(void)snprintf(st->method, sizeof st->method, "%s", (const char *)value);
	else if (strcmp((const char *)name, ":authority") == 0)
		(void)snprintf(st->authority, sizeof st->authority, "%s", (const char *)value);
	at = strlen(st->headers);
	(void)snprintf(st->headers + at, sizeof st->headers - at, "%s=%s;", (const char *)name,
			(const char *)value);
	return 0;
}

static int h2s_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2s_conn *c = arg;
	struct h2s *srv = c->srv;
	struct h2s_stream *st;
	bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	if (frame->hd.type == NGHTTP2_RST_STREAM) {
		srv->n_resets++;
		srv->last_reset = frame->rst_stream.error_code;
	} else if (frame->hd.type == NGHTTP2_GOAWAY) {
		srv->n_goaways++;
		srv->last_goaway = frame->goaway.error_code;
	} else if (frame->hd.type == NGHTTP2_PING && !(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
		srv->n_pings++;
	}
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	st = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (st == NULL)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
		st->no_body = strcmp(st->method, "HEAD") == 0;
		st->step = srv->choose != NULL
				? srv->choose(srv, st)
				: srv->steps[SN_MIN(srv->n_requests, srv->n_steps - 1)];
		srv->n_requests++;
	}
	if (!st->played && (end || st->step.act == H2S_EARLY))
		h2s_play(c, st);
	return 0;
}

static int h2s_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
		size_t n, void *arg)
{
	struct h2s_conn *c = arg;
	struct h2s_stream *st = nghttp2_session_get_stream_user_data(session, id);

	if (st != NULL)
		st->received += n;
	if (!c->srv->keep_shut)
		return nghttp2_session_consume(session, id, n);
	return 0;
}

static int h2s_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2s_stream *st = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	if (st != NULL && st->step.act == H2S_EARLY && frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		return nghttp2_submit_rst_stream(session, 0, st->id, NGHTTP2_NO_ERROR);
	return 0;
}

static int h2s_closed(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
	struct h2s_conn *c = arg;
	struct h2s_stream *st = nghttp2_session_get_stream_user_data(session, id);

	if (st == NULL)
		return 0;
	c->srv->n_open--;
	sn_list_remove(&st->link);
	test_free(st);
	return 0;
}

/* ---- the connection ---- */

/* What is next to be written; false: nothing. */
static bool h2s_next(struct h2s_conn *c)
{
	const uint8_t *data;
	ssize_t n;

	if (c->out.len > 0)
		return true;
	if (c->raw) {
		c->out = c->raw_said ? SN_STR("") : SN_STR("HTTP/1.1 400 Bad Request\r\n\r\n");
		c->raw_said = true;
		return c->out.len > 0;
	}
	n = nghttp2_session_mem_send(c->session, &data);
	assert_true(n >= 0);
	c->out = (struct sn_str){(const char *)data, (size_t)n};
	return n > 0;
}

/* False: it is closed. */
static bool h2s_write(struct h2s_conn *c)
{
	while (h2s_next(c)) {
		ssize_t n = sn__stream_write(c->s, &c->out, 1);

		if (n == SN_E_AGAIN)
			break;
		if (n < 0) {
			h2s_conn_close(c, false);
			return false;
		}
		c->out.ptr += n;
		c->out.len -= (size_t)n;
	}
	if (c->out.len == 0 && c->close_after) {
		h2s_conn_close(c, false);
		return false;
	}
	sn__stream_want(c->s, SN_READABLE | (c->out.len > 0 ? SN_WRITABLE : 0));
	return true;
}

static void h2s_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct h2s_conn *c = arg;
	char in[16384];
	ssize_t n;

	if (events & SN_STREAM_FAILED) {
		h2s_conn_close(c, false);
		return;
	}
	if (events & SN_READABLE) {
		n = sn__stream_read(s, in, sizeof in);
		if (n != SN_E_AGAIN && n <= 0) {
			h2s_conn_close(c, false);
			return;
		}
		if (n > 0 && !c->raw &&
				nghttp2_session_mem_recv(c->session, (uint8_t *)in, (size_t)n) !=
						n) {
			h2s_conn_close(c, false);
			return;
		}
	}
	(void)h2s_write(c);
}

static void h2s_on_task(struct sn_task *task)
{
	(void)h2s_write(SN_CONTAINER_OF(task, struct h2s_conn, task));
}

/** Open the windows that were kept shut. */
static inline void h2s_open_windows(struct h2s *srv)
{
	srv->keep_shut = false;
	SN_LIST_FOREACH (pos, &srv->conns) {
		struct h2s_conn *c = SN_CONTAINER_OF(pos, struct h2s_conn, link);

		SN_LIST_FOREACH (at, &c->streams) {
			struct h2s_stream *st = SN_CONTAINER_OF(at, struct h2s_stream, link);

			(void)nghttp2_session_consume(c->session, st->id, st->received);
		}
		sn__loop_defer(srv->loop, &c->task, h2s_on_task);
	}
}

static void h2s_session(struct h2s_conn *c)
{
	nghttp2_settings_entry iv[2];
	nghttp2_session_callbacks *cbs;
	nghttp2_option *option;
	size_t n = 0;

	assert_int_equal(nghttp2_session_callbacks_new(&cbs), 0);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cbs, h2s_begin);
	nghttp2_session_callbacks_set_on_header_callback(cbs, h2s_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, h2s_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, h2s_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cbs, h2s_closed);
	nghttp2_session_callbacks_set_on_frame_send_callback(cbs, h2s_sent);
	assert_int_equal(nghttp2_option_new(&option), 0);
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_auto_ping_ack(option, c->srv->silent);
	nghttp2_option_set_no_http_messaging(option, 1);
	nghttp2_option_set_max_send_header_block_length(option, 200000);
	assert_int_equal(nghttp2_session_server_new2(&c->session, cbs, c, option), 0);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(cbs);
	if (c->srv->max_streams != 0)
		iv[n++] = (nghttp2_settings_entry){
				NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->srv->max_streams};
	if (c->srv->window != 0)
		iv[n++] = (nghttp2_settings_entry){
				NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->srv->window};
	assert_int_equal(nghttp2_submit_settings(c->session, 0, iv, n), 0);
}

static void h2s_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	struct h2s *srv = arg;
	struct h2s_conn *c = test_calloc(1, sizeof *c);

	assert_non_null(c);
	c->srv = srv;
	c->s = s;
	sn_list_init(&c->streams);
	sn_list_push_back(&srv->conns, &c->link);
	srv->n_accepted++;
	h2s_session(c);
	if (srv->tls != NULL) {
		assert_int_equal(sn__tls_server(srv->tls, s, h2s_event, c, &c->s, NULL), 0);
		return;
	}
	sn_stream_set_owner(s, h2s_event, c);
	sn__stream_want(s, SN_READABLE);
	sn__loop_defer(srv->loop, &c->task, h2s_on_task);
}

static inline void h2s_open(struct h2s *srv, struct sn_loop *loop, const struct h2s_step *steps,
		unsigned n_steps)
{
	struct sn_addr addr;

	memset(srv, 0, sizeof *srv);
	srv->loop = loop;
	srv->steps = steps;
	srv->n_steps = n_steps;
	sn_list_init(&srv->conns);
	assert_int_equal(sn__addr_from_literal(SN_STR("127.0.0.1"), 0, &addr), 0);
	assert_int_equal(sn__listen(loop, &addr, NULL, h2s_accept, srv, &srv->listener, NULL), 0);
	srv->addr = *sn__listener_addr(srv->listener);
}

static inline void h2s_close_all(struct h2s *srv, bool reset)
{
	while (!sn_list_empty(&srv->conns))
		h2s_conn_close(SN_CONTAINER_OF(srv->conns.next, struct h2s_conn, link), reset);
}

static inline void h2s_finish(struct h2s *srv)
{
	h2s_close_all(srv, false);
	sn__listener_close(srv->listener);
}

#endif
