/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_H2_PEER_H
#define SN_SRC_IO_H2_PEER_H

/* Internal, tests only: an HTTP/2 client that does what it is told (nghttp2's own session, or raw
 * bytes), and a service to talk to. */

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "base/buf.h"
#include "io/http_server.h"
#include "io/world_test.h"

/* ---- a client ---- */

struct h2_stream {
	int32_t id;
	unsigned status, n_heads, n_infos;
	char headers[600];  /* "name: value\n" ... of the response */
	char trailers[200]; /* the same */
	struct sn_buf body;
	bool head_ended; /* END_STREAM on the head */
	bool ended;      /* END_STREAM */
	bool closed;
	uint32_t error;     /* of RST_STREAM, when it was closed by one */
	bool reset;         /* RST_STREAM came */
	struct sn_str send; /* what is to be sent yet */
	bool hold;          /* and not now */
	bool stay_open;     /* no END_STREAM behind it */
	bool with_trailers;
};

struct h2_peer {
	struct world *w;
	struct sn_stream *s;
	nghttp2_session *session;
	struct sn_buf out;
	bool connected, eof, broken, hold; /* hold: do not read */
	struct sn_tls *tls;                /* to be wrapped with; NULL: plain, or it is done */
	bool raw;                          /* the session is not fed and says nothing */
	struct sn_buf in;                  /* raw: what came */
	struct h2_stream streams[130];
	unsigned n_streams;
	bool goaway;
	uint32_t goaway_error;
	int32_t goaway_last;
	unsigned n_pings, n_reads;
	uint64_t heard_ns;
};

static struct h2_stream *h2_stream_of(struct h2_peer *p, int32_t id)
{
	for (unsigned i = 0; i < p->n_streams; i++) {
		if (p->streams[i].id == id)
			return &p->streams[i];
	}
	return NULL;
}

static int h2_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
	struct h2_stream *st = h2_stream_of(arg, frame->hd.stream_id);
	char *to = st->n_heads > 0 ? st->trailers : st->headers;
	size_t room = st->n_heads > 0 ? sizeof st->trailers : sizeof st->headers;

	if (sn_str_eq((struct sn_str){(const char *)name, name_len}, SN_STR(":status")))
		st->status = (unsigned)(value[0] - '0') * 100 + (unsigned)(value[1] - '0') * 10 +
				(unsigned)(value[2] - '0');
	else if (!sn_str_eq((struct sn_str){(const char *)name, name_len}, SN_STR("date")))
		(void)snprintf(to + strlen(to), room - strlen(to), "%.*s: %.*s\n", (int)name_len,
				(const char *)name, (int)value_len, (const char *)value);
	return 0;
}

static int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2_peer *p = arg;
	struct h2_stream *st = h2_stream_of(p, frame->hd.stream_id);

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		if (st->status < 200)
			st->n_infos++;
		else
			st->n_heads++;
		st->head_ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && st->n_heads == 1;
		st->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
		break;
	case NGHTTP2_DATA:
		st->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
		break;
	case NGHTTP2_RST_STREAM:
		if (st != NULL) {
			st->reset = true;
			st->error = frame->rst_stream.error_code;
		}
		break;
	case NGHTTP2_GOAWAY:
		p->goaway = true;
		p->goaway_error = frame->goaway.error_code;
		p->goaway_last = frame->goaway.last_stream_id;
		break;
	case NGHTTP2_PING:
		p->n_pings++;
		break;
	default:
		break;
	}
	return 0;
}

static int h2_on_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
		size_t len, void *arg)
{
	assert_int_equal(sn__buf_append(&h2_stream_of(arg, id)->body, data, len), 0);
	return 0;
}

static int h2_on_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
	h2_stream_of(arg, id)->closed = true;
	return 0;
}

static ssize_t h2_on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t n,
		uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct h2_stream *st = h2_stream_of(arg, id);

	if (st->hold || (st->send.len == 0 && st->stay_open))
		return NGHTTP2_ERR_DEFERRED;
	n = SN_MIN(n, st->send.len);
	if (n > 0)
		memcpy(buf, st->send.ptr, n);
	st->send.ptr += n;
	st->send.len -= n;
	if (st->send.len > 0 || st->stay_open)
		return (ssize_t)n;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (st->with_trailers) {
		nghttp2_nv nv = {(uint8_t *)(uintptr_t) "x-sum", (uint8_t *)(uintptr_t) "7", 5, 1,
				0};

		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		assert_int_equal(nghttp2_submit_trailer(session, id, &nv, 1), 0);
	}
	return (ssize_t)n;
}

static void h2_pack(struct h2_peer *p)
{
	const uint8_t *data;
	ssize_t n;

	if (p->raw)
		return;
	while ((n = nghttp2_session_mem_send(p->session, &data)) > 0)
		assert_int_equal(sn__buf_append(&p->out, data, (size_t)n), 0);
	assert_int_equal(n, 0);
}

static void h2_want(struct h2_peer *p)
{
	sn__stream_want(p->s,
			(p->out.len > 0 ? SN_WRITABLE : 0u) |
					(p->hold || p->eof ? 0u : SN_READABLE));
}

static void h2_peer_write(struct h2_peer *p)
{
	while (p->out.len > 0) {
		struct sn_str v = sn__buf_str(&p->out);
		ssize_t n = sn__stream_write(p->s, &v, 1);

		if (n == SN_E_AGAIN)
			return;
		if (n < 0) {
			p->broken = true;
			sn__buf_clear(&p->out);
			return;
		}
		sn__buf_consume(&p->out, (size_t)n);
	}
}

static void h2_peer_read(struct h2_peer *p)
{
	static uint8_t block[65536];
	ssize_t n;

	while ((n = sn__stream_read(p->s, block, sizeof block)) > 0) {
		p->n_reads++;
		p->heard_ns = sn__loop_now_ns(p->w->b);
		if (p->raw)
			assert_int_equal(sn__buf_append(&p->in, block, (size_t)n), 0);
		else
			assert_int_equal(nghttp2_session_mem_recv(p->session, block, (size_t)n), n);
	}
	if (n == SN_E_AGAIN)
		return;
	p->heard_ns = sn__loop_now_ns(p->w->b);
	p->eof = true;
	p->broken |= n < 0;
}

static void h2_on_stream(struct sn_stream *s, unsigned events, void *arg)
{
	struct h2_peer *p = arg;

	assert_int_equal(events & SN_STREAM_FAILED, 0);
	if (p->tls != NULL) {
		assert_int_equal(sn__tls_client(p->tls, s, NULL, h2_on_stream, p, &p->s, NULL), 0);
		p->tls = NULL;
		return;
	}
	p->connected |= (events & SN_STREAM_CONNECTED) != 0;
	if (!p->hold && (events & SN_READABLE))
		h2_peer_read(p);
	h2_pack(p);
	if (p->connected)
		h2_peer_write(p);
	h2_want(p);
}

/* Send what was submitted. */
static void h2_go(struct h2_peer *p)
{
	h2_pack(p);
	h2_want(p);
}

static void h2_session_new(struct h2_peer *p)
{
	nghttp2_session_callbacks *cbs;
	nghttp2_option *o;

	assert_int_equal(nghttp2_option_new(&o), 0);
	nghttp2_option_set_no_auto_window_update(o, 1);
	assert_int_equal(nghttp2_session_callbacks_new(&cbs), 0);
	nghttp2_session_callbacks_set_on_header_callback(cbs, h2_on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, h2_on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, h2_on_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(cbs, h2_on_close);
	assert_int_equal(nghttp2_session_client_new2(&p->session, cbs, p, o), 0);
	nghttp2_session_callbacks_del(cbs);
	nghttp2_option_del(o);
}

static inline void h2_open_tls(struct world *w, struct h2_peer *p, const struct sn_addr *addr,
		uint32_t window, struct sn_tls *tls)
{
	nghttp2_settings_entry iv = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window};

	*p = (struct h2_peer){.w = w, .tls = tls};
	sn__buf_init(&p->out, 1 << 26);
	sn__buf_init(&p->in, 1 << 26);
	h2_session_new(p);
	assert_int_equal(nghttp2_submit_settings(p->session, 0, &iv, 1), 0);
	assert_int_equal(nghttp2_session_set_local_window_size(p->session, 0, 0, 1 << 30), 0);
	assert_int_equal(sn__stream_connect(w->b, addr, h2_on_stream, p, &p->s, NULL), 0);
	h2_go(p);
}

/* @window: of the streams; of the connection it is wide open. */
static inline void h2_open(
		struct world *w, struct h2_peer *p, const struct sn_addr *addr, uint32_t window)
{
	h2_open_tls(w, p, addr, window, NULL);
}

/* Nothing is said but what h2_raw() says. */
static inline void h2_open_raw(
		struct world *w, struct h2_peer *p, const struct sn_addr *addr, bool preface)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

	*p = (struct h2_peer){.w = w, .raw = true};
	sn__buf_init(&p->out, 1 << 26);
	sn__buf_init(&p->in, 1 << 26);
	h2_session_new(p);
	assert_int_equal(sn__stream_connect(w->b, addr, h2_on_stream, p, &p->s, NULL), 0);
	if (preface)
		assert_int_equal(sn__buf_append(&p->out, hello, sizeof hello - 1), 0);
	h2_go(p);
}

static inline void h2_raw(struct h2_peer *p, const void *data, size_t n)
{
	assert_int_equal(sn__buf_append(&p->out, data, n), 0);
	h2_want(p);
}

static inline void h2_frame(struct h2_peer *p, unsigned type, unsigned flags, uint32_t id,
		const void *payload, size_t n)
{
	unsigned char head[9] = {(unsigned char)(n >> 16), (unsigned char)(n >> 8),
			(unsigned char)n, (unsigned char)type, (unsigned char)flags,
			(unsigned char)(id >> 24), (unsigned char)(id >> 16),
			(unsigned char)(id >> 8), (unsigned char)id};

	h2_raw(p, head, sizeof head);
	if (n > 0)
		h2_raw(p, payload, n);
}

static void h2_close(struct h2_peer *p)
{
	sn__stream_close(p->s, false);
	nghttp2_session_del(p->session);
	for (unsigned i = 0; i < p->n_streams; i++)
		sn__buf_finish(&p->streams[i].body);
	sn__buf_finish(&p->out);
	sn__buf_finish(&p->in);
}

#define H2_HEADERS_MAX 210
/* @extra: "name", "value", ..., NULL. @body: NULL: none. */
static struct h2_stream *h2_ask_with(struct h2_peer *p, const char *method, const char *path,
		const char *authority, const char *const *extra, const char *body, size_t size)
{
	struct h2_stream *st = &p->streams[p->n_streams++];
	const char *text[] = {":method", method, ":scheme", "http", ":path", path, ":authority",
			authority};
	nghttp2_nv nva[H2_HEADERS_MAX];
	nghttp2_data_provider provider = {{0}, h2_on_read};
	size_t n = 0;

	assert_true(p->n_streams <= SN_COUNT(p->streams));
	for (size_t i = 0; i < SN_COUNT(text); i += 2) {
		if (text[i + 1] != NULL)
			nva[n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)text[i],
					(uint8_t *)(uintptr_t)text[i + 1], strlen(text[i]),
					strlen(text[i + 1]), 0};
	}
	for (; extra != NULL && *extra != NULL && n < H2_HEADERS_MAX; extra += 2)
		nva[n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)extra[0],
				(uint8_t *)(uintptr_t)extra[1], strlen(extra[0]), strlen(extra[1]),
				0};
	*st = (struct h2_stream){.send = {body, size}};
	sn__buf_init(&st->body, 1 << 26);
	st->id = nghttp2_submit_request(
			p->session, NULL, nva, n, body != NULL ? &provider : NULL, NULL);
	assert_true(st->id > 0);
	h2_want(p);
	return st;
}

static inline struct h2_stream *h2_get(struct h2_peer *p, const char *path)
{
	struct h2_stream *st = h2_ask_with(p, "GET", path, "localhost", NULL, NULL, 0);

	h2_go(p);
	return st;
}

static inline struct h2_stream *h2_post(
		struct h2_peer *p, const char *path, const char *body, size_t size)
{
	struct h2_stream *st = h2_ask_with(p, "POST", path, "localhost", NULL, body, size);

	h2_go(p);
	return st;
}

/* Do a little. Simulated time does not jump further than it must, to whatever host. */
static bool h2_once(struct world *w)
{
	uint64_t trace;

	if (w->sim == NULL)
		return world_once(w);
	trace = sn__sim_trace(w->sim);
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + 1);
	if (sn__sim_trace(w->sim) == trace)
		(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + 5 * SN_NS_PER_MS);
	return sn__sim_now_ns(w->sim) < 2000 * SN_NS_PER_S;
}

/* Run until the condition holds; whether it came to that. */
#define H2_UNTIL(peer, cond) \
	do { \
		while (!(cond) && h2_once((peer)->w)) \
			; \
		assert_true(cond); \
	} while (0)

static inline void h2_expect(struct h2_peer *p, struct h2_stream *st, unsigned status,
		const char *headers, const char *body)
{
	h2_go(p);
	H2_UNTIL(p, st->ended || st->closed || p->eof);
	assert_true(st->ended);
	assert_int_equal(st->status, status);
	if (headers != NULL)
		assert_string_equal(st->headers, headers);
	if (body != NULL) {
		assert_int_equal(st->body.len, strlen(body));
		if (body[0] != '\0')
			assert_memory_equal(sn__buf_data(&st->body), body, strlen(body));
	}
}

#endif
