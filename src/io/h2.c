/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/2 session that both ends share.
 *
 * One pump a turn: read what is there (at most SN_H2_READS blocks) and give it to nghttp2, then
 * collect what it has to send into one block and write that. What the stream does not take is kept
 * in h2->out, and nothing more is packed until it is gone, so that the peer's slowness is felt by
 * whoever produces. The bodies are pulled by nghttp2 at that time, straight into the block (NO_COPY:
 * on_read() puts them behind the room for their frame's head, on_send_data() writes it).
 *
 * nghttp2 must not be freed, fed or emptied inside its own callbacks. So the pump counts itself in
 * h2->entered, everything that happens meanwhile only submits, and closing is done when it returns.
 * After sn__h2_close() or on_gone() ops are not called any more.
 *
 * Offsets h2->produced and h2->written say exactly whether a byte of some HEADERS was given to the
 * socket (result.sent).
 */
#include "io/h2.h"

#include <stdio.h>

#include "base/mem.h"
#include "io/h2_impl.h"

/* ---- memory ---- */

static void *mem_malloc(size_t size, void *arg)
{
	return sn__malloc(size);
}

static void mem_free(void *p, void *arg)
{
	sn__free(p);
}

static void *mem_calloc(size_t n, size_t size, void *arg)
{
	return sn__calloc(n, size);
}

static void *mem_realloc(void *p, size_t size, void *arg)
{
	return sn__realloc(p, size);
}

int sn__h2_scratch_create(struct sn_h2_scratch **ret_scratch)
{
	struct sn_h2_scratch *scratch = sn__malloc(sizeof *scratch);

	if (scratch == NULL)
		return SN_E_NOMEM;
	scratch->spare = NULL;
	scratch->collecting = false;
	*ret_scratch = scratch;
	return 0;
}

void sn__h2_scratch_destroy(struct sn_h2_scratch *scratch)
{
	if (scratch == NULL)
		return;
	sn__h2_block_destroy(scratch->spare);
	sn__free(scratch);
}

/* ---- how it ends ---- */

void sn__h2_set_failed(struct sn_h2 *h2, int code, int foreign, const char *detail)
{
	if (h2->failed != 0)
		return;
	h2->failed = code;
	h2->foreign = foreign;
	(void)snprintf(h2->detail, sizeof h2->detail, "%s", detail);
}

void sn__h2_fail(struct sn_h2 *h2, int code, const char *detail)
{
	sn__h2_set_failed(h2, code, 0, detail);
	sn__h2_kick(h2);
}

static void fail_stream(struct sn_h2 *h2, int code)
{
	const struct sn_error *e = sn__stream_error(h2->stream);

	sn__h2_set_failed(h2, code, e != NULL ? e->foreign : 0,
			e != NULL && e->text[0] != '\0' ? e->text : sn_strerror(code));
}

int sn__h2_fail_lib(struct sn_h2 *h2, int lib)
{
	int code = lib == NGHTTP2_ERR_NOMEM ? SN_E_NOMEM : SN_E_PROTOCOL;

	sn__h2_set_failed(h2, code, 0,
			code == SN_E_NOMEM ? sn_strerror(code) : nghttp2_strerror(lib));
	return code;
}

void sn__h2_check(struct sn_h2 *h2, int lib)
{
	if (lib == NGHTTP2_ERR_NOMEM)
		(void)sn__h2_fail_lib(h2, lib);
	sn__h2_kick(h2);
}

void sn__h2_terminate(struct sn_h2 *h2, uint32_t error, int code, const char *detail)
{
	if (h2->dying || h2->failed != 0)
		return;
	h2->dying = true;
	h2->dying_code = code;
	(void)snprintf(h2->detail, sizeof h2->detail, "%s", detail);
	sn__h2_check(h2, nghttp2_session_terminate_session(h2->session, error));
}

/* ---- keep-alive ---- */

static void leave(struct sn_h2 *h2);
static void pull(struct sn_h2 *h2, unsigned blocks);

static void on_timer(struct sn_timer *t);

/* Time is up for an answer. A process that was stopped finds it among what it has not read. */
static void on_silence(struct sn_h2 *h2)
{
	char detail[64];

	h2->entered++;
	pull(h2, SN_H2_READS);
	if (h2->last_read_ns < h2->pinged_ns) {
		(void)snprintf(detail, sizeof detail, "no answer to PING within %u ms",
				(unsigned)(h2->ping_timeout_ns / SN_NS_PER_MS));
		sn__h2_set_failed(h2, SN_E_TIMEOUT, 0, detail);
	} else {
		sn__timer_start(h2->stream->loop, &h2->timer, h2->ping_ns, on_timer);
	}
	leave(h2);
}

static void on_timer(struct sn_timer *t)
{
	struct sn_h2 *h2 = SN_CONTAINER_OF(t, struct sn_h2, timer);
	struct sn_loop *loop = h2->stream->loop;
	uint64_t now_ns = sn__loop_now_ns(loop), due_ns, lost_ns;
	bool waits = h2->pinged_ns != 0 && h2->last_read_ns < h2->pinged_ns;

	if (h2->told || (h2->n_streams == 0 && !h2->ping_idle))
		return; /* armed again by the next stream */
	lost_ns = sn_time_add(h2->pinged_ns, h2->ping_timeout_ns);
	if (waits && lost_ns <= now_ns) {
		on_silence(h2);
		return;
	}
	due_ns = sn_time_add(h2->last_read_ns, h2->ping_ns);
	if (!waits && due_ns <= now_ns) {
		h2->pinged_ns = now_ns;
		lost_ns = sn_time_add(now_ns, h2->ping_timeout_ns);
		waits = true;
		sn__h2_ping(h2);
	}
	if (waits) /* an answer may come soon, and silence begin again */
		due_ns = SN_MIN(lost_ns, sn_time_add(now_ns, h2->ping_ns));
	sn__timer_start(loop, t, due_ns - now_ns, on_timer);
}

void sn__h2_count(struct sn_h2 *h2)
{
	struct sn_loop *loop = h2->stream->loop;

	if (h2->n_streams++ > 0 || h2->ping_ns == 0 || sn_timer_armed(&h2->timer))
		return;
	/* Silence counts from now on. */
	h2->last_read_ns = sn__loop_now_ns(loop);
	h2->pinged_ns = 0;
	sn__timer_start(loop, &h2->timer, h2->ping_ns, on_timer);
}

/* ---- the pump ---- */

static void feed(struct sn_h2 *h2, struct sn_str in)
{
	ssize_t n;

	h2->last_read_ns = sn__loop_now_ns(h2->stream->loop);
	n = nghttp2_session_mem_recv(h2->session, (const uint8_t *)in.ptr, in.len);
	if (n >= 0 || h2->failed != 0 || h2->dying)
		return;
	if (n == NGHTTP2_ERR_FLOODED)
		sn__h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, SN_E_LIMIT,
				"the peer makes us answer more than it reads");
	else if (n == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
		sn__h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, SN_E_LIMIT,
				"the peer sent a header block in too many pieces");
	else if (n == NGHTTP2_ERR_NOMEM)
		(void)sn__h2_fail_lib(h2, (int)n);
	else
		sn__h2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, SN_E_PROTOCOL,
				nghttp2_strerror((int)n));
}

static void push(struct sn_h2 *h2);

static bool goes_on(const struct sn_h2 *h2)
{
	return sn_h2_listens(h2) && h2->failed == 0 && !h2->dying;
}

/* A block in slices: what they have caused goes out between them, so that the peer has something to
 * do while we do the rest. */
static void feed_slices(struct sn_h2 *h2, struct sn_str in)
{
	while (in.len > 0 && goes_on(h2)) {
		size_t n = SN_MIN(in.len, SN_H2_SLICE);

		feed(h2, (struct sn_str){in.ptr, n});
		in.ptr += n;
		in.len -= n;
		if (in.len == 0 || h2->write_error != 0 || !goes_on(h2) ||
				nghttp2_session_get_outbound_queue_size(h2->session) <
						SN_H2_SLICE_FRAMES)
			continue;
		h2->feeding = true;
		push(h2);
		h2->feeding = false;
	}
}

/* At most @blocks, for the others want their turn. */
static void pull(struct sn_h2 *h2, unsigned blocks)
{
	for (unsigned i = 0; i < blocks && goes_on(h2); i++) {
		ssize_t n = sn__stream_read(h2->stream, h2->scratch->in, SN_H2_IN_SIZE);

		if (n == SN_E_AGAIN)
			return;
		if (n == 0)
			sn__h2_set_failed(h2, SN_E_EOF, 0, "the peer closed the connection");
		else if (n < 0)
			fail_stream(h2, (int)n);
		else
			feed_slices(h2, (struct sn_str){h2->scratch->in, (size_t)n});
		if (n < SN_H2_IN_SIZE)
			return;
	}
}

/* Frames into scratch->out until it is full or there are none. */
static void collect(struct sn_h2 *h2)
{
	const uint8_t *data;
	ssize_t n;

	h2->collected = 0;
	while (h2->collected < SN_H2_OUT_SIZE && !h2->closed) {
		n = nghttp2_session_mem_send(h2->session, &data);
		if (n < 0) {
			(void)sn__h2_fail_lib(h2, (int)n);
			return;
		}
		if (n == 0)
			return;
		assert((size_t)n <= sizeof h2->scratch->out - h2->collected);
		memcpy(h2->scratch->out + h2->collected, data, (size_t)n);
		h2->collected += (size_t)n;
		h2->produced += (uint64_t)n;
	}
}

/* The peer takes no more. It may have said why before it stopped reading. */
static void write_broke(struct sn_h2 *h2, int code)
{
	h2->write_error = code;
	if (h2->feeding)
		return; /* once the block is through, for it may stand there */
	pull(h2, 64);
	fail_stream(h2, code);
}

/* What is left of the last block. Whether it is all out. */
static bool flush_rest(struct sn_h2 *h2)
{
	struct sn_str vec;
	ssize_t n;

	if (h2->out.len == 0)
		return true;
	vec = sn__buf_str(&h2->out);
	n = sn__stream_write(h2->stream, &vec, 1);
	if (n == SN_E_AGAIN)
		return false;
	if (n < 0) {
		write_broke(h2, (int)n);
		return false;
	}
	h2->written += (uint64_t)n;
	sn__buf_consume(&h2->out, (size_t)n);
	sn__buf_release_if_empty(&h2->out);
	return h2->out.len == 0;
}

/* Whether everything collected is out, and there was something. */
static bool flush_block(struct sn_h2 *h2)
{
	struct sn_str vec = {h2->scratch->out, h2->collected};
	ssize_t n;

	if (vec.len == 0)
		return false;
	n = sn__stream_write(h2->stream, &vec, 1);
	if (n < 0 && n != SN_E_AGAIN) {
		write_broke(h2, (int)n);
		return false;
	}
	n = SN_MAX(n, 0);
	h2->written += (uint64_t)n;
	if ((size_t)n < vec.len && sn__buf_append(&h2->out, vec.ptr + n, vec.len - (size_t)n) < 0)
		sn__h2_set_failed(h2, SN_E_NOMEM, 0, sn_strerror(SN_E_NOMEM));
	return (size_t)n == vec.len;
}

static void on_task(struct sn_task *task);

static void push(struct sn_h2 *h2)
{
	bool more = h2->write_error == 0 && flush_rest(h2);

	if (h2->write_error != 0 && h2->failed == 0) {
		write_broke(h2, h2->write_error);
		return;
	}

	for (unsigned i = 0; more && h2->failed == 0 && !h2->closed; i++) {
		if (i == SN_H2_WRITES) {
			sn__loop_defer(h2->stream->loop, &h2->task, on_task);
			return;
		}
		assert(!h2->scratch->collecting);
		h2->scratch->collecting = true;
		collect(h2);
		h2->scratch->collecting = false;
		more = flush_block(h2);
	}
}

static void look_for_end(struct sn_h2 *h2)
{
	if (h2->closed || h2->failed != 0)
		return;
	if (h2->dying) {
		/* A server's last word is worth waiting for; its owner has a timer. */
		if (!h2->server || (h2->out.len == 0 && !nghttp2_session_want_write(h2->session)))
			h2->failed = h2->dying_code;
	} else if (h2->out.len == 0 && !nghttp2_session_want_read(h2->session) &&
			!nghttp2_session_want_write(h2->session))
		sn__h2_set_failed(h2, SN_E_EOF, 0, "the connection was given up (GOAWAY)");
}

static void destroy(struct sn_h2 *h2);

static void leave(struct sn_h2 *h2)
{
	if (h2->entered == 1 && sn_h2_listens(h2)) {
		if (h2->failed == 0 && h2->ops->on_pump != NULL)
			h2->ops->on_pump(h2);
		if (sn_h2_listens(h2))
			push(h2);
		h2->pushed = true;
		look_for_end(h2);
		if (h2->failed != 0 && sn_h2_listens(h2)) {
			h2->told = true;
			sn__stream_want(h2->stream, 0);
			h2->ops->on_gone(h2);
		}
		if (!h2->closed && h2->ops->on_pumped != NULL)
			h2->ops->on_pumped(h2);
	}
	if (--h2->entered > 0)
		return;
	h2->pushed = false;
	if (h2->closed) {
		destroy(h2);
		return;
	}
	if (h2->told)
		return;
	h2->queued = h2->out.len > 0 &&
			nghttp2_session_get_outbound_queue_size(h2->session) > SN_H2_QUEUE_MAX;
	sn__stream_want(h2->stream,
			(h2->queued || h2->dying ? 0 : SN_READABLE) |
					(h2->out.len > 0 ? SN_WRITABLE : 0));
}

static void on_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct sn_h2 *h2 = arg;

	h2->entered++;
	if (events & SN_READABLE && !h2->queued)
		pull(h2, SN_H2_READS);
	leave(h2);
}

static void on_task(struct sn_task *task)
{
	struct sn_h2 *h2 = SN_CONTAINER_OF(task, struct sn_h2, task);

	h2->entered++;
	leave(h2);
}

void sn__h2_kick(struct sn_h2 *h2)
{
	if (!h2->told && !h2->closed && (h2->entered == 0 || h2->pushed))
		sn__loop_defer(h2->stream->loop, &h2->task, on_task);
}

void sn__h2_feed(struct sn_h2 *h2, struct sn_str first)
{
	h2->entered++;
	if (first.len > 0)
		feed(h2, first);
	leave(h2);
}

/* ---- opening and closing ---- */

static int option_create(nghttp2_option **ret_option)
{
	nghttp2_option *o;

	if (nghttp2_option_new(&o) != 0)
		return SN_E_NOMEM;
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	nghttp2_option_set_peer_max_concurrent_streams(o, SN_H2_STREAMS_MAX);
	nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(
			o, 1); /* trimmed instead */
	nghttp2_option_set_max_settings(o, SN_H2_SETTINGS_MAX);
	nghttp2_option_set_max_outbound_ack(o, SN_H2_ACKS_MAX);
	nghttp2_option_set_max_continuations(o, SN_H2_CONTINUATIONS_MAX);
	/* RST_STREAMs are ours to count, answers of ours being credit; nghttp2 would say
	 * INTERNAL_ERROR, and to whoever cancels more than 33 a second. */
	nghttp2_option_set_stream_reset_rate_limit(o, UINT32_MAX, UINT32_MAX);
	nghttp2_option_set_max_send_header_block_length(
			o, 2 * (SN_HTTP_HEAD_SIZE_MAX + SN_HTTP_TARGET_MAX));
	*ret_option = o;
	return 0;
}

static int session_create(struct sn_h2 *h2)
{
	nghttp2_mem mem = {NULL, mem_malloc, mem_free, mem_calloc, mem_realloc};
	nghttp2_session_callbacks *cbs;
	nghttp2_option *o;
	int r = sn__h2_callbacks(&cbs);

	if (r < 0)
		return r;
	r = option_create(&o);
	if (r == 0) {
		r = h2->server ? nghttp2_session_server_new3(&h2->session, cbs, h2, o, &mem)
			       : nghttp2_session_client_new3(&h2->session, cbs, h2, o, &mem);
		nghttp2_option_del(o);
	}
	nghttp2_session_callbacks_del(cbs);
	return r != 0 ? SN_E_NOMEM : 0;
}

static int settings_submit(struct sn_h2 *h2, const struct sn_h2_config *config)
{
	nghttp2_settings_entry iv[5];
	size_t n = 0;
	uint32_t stream_window = config->stream_window, conn_window = config->conn_window;

	if (stream_window == 0)
		stream_window = SN_H2_STREAM_WINDOW;
	if (conn_window == 0)
		conn_window = SN_H2_CONN_WINDOW;
	if (h2->server)
		iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
				config->max_streams != 0 ? config->max_streams : SN_H2_STREAMS_MAX};
	else
		iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
	iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window};
	iv[n++] = (nghttp2_settings_entry){
			NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, SN_HTTP_HEAD_SIZE_MAX};
	if (config->extended_connect)
		iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
	if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, iv, n) != 0 ||
			nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
					(int32_t)SN_MIN(conn_window, INT32_MAX)) != 0)
		return SN_E_NOMEM;
	return 0;
}

const struct sn_addr *sn__h2_peer(const struct sn_h2 *h2)
{
	return &h2->stream->peer;
}

const struct sn_stream *sn__h2_stream(const struct sn_h2 *h2)
{
	return h2->stream;
}

int sn__h2_open(const struct sn_h2_config *config, struct sn_stream *stream, struct sn_h2 **ret_h2)
{
	struct sn_h2 *h2 = sn__calloc(1, sizeof *h2);
	struct sn_loop *loop = stream->loop;
	int r;

	if (h2 == NULL)
		return SN_E_NOMEM;
	h2->server = config->server;
	h2->ops = config->ops;
	h2->arg = config->arg;
	h2->scratch = config->scratch;
	h2->stream = stream;
	h2->credit = SN_H2_FLOOD_BURST;
	h2->credit_ns = h2->last_read_ns = sn__loop_now_ns(loop);
	h2->ping_ns = sn_ms_to_ns(config->ping_ms);
	h2->ping_timeout_ns = sn_ms_to_ns(
			config->ping_timeout_ms != 0 ? config->ping_timeout_ms : 20000);
	h2->ping_idle = config->ping_idle;
	sn__buf_init(&h2->out, sizeof h2->scratch->out);
	r = session_create(h2);
	if (r == 0)
		r = settings_submit(h2, config);
	if (r < 0) {
		nghttp2_session_del(h2->session);
		sn__free(h2);
		return r;
	}
	sn_stream_set_owner(stream, on_event, h2);
	sn__stream_want(stream, SN_READABLE);
	if (h2->ping_idle && h2->ping_ns != 0)
		sn__timer_start(loop, &h2->timer, h2->ping_ns, on_timer);
	sn__h2_kick(h2);
	*ret_h2 = h2;
	return 0;
}

/* A few frames at the end, one by one: scratch may be in use by another session's pump. */
static void last_words(struct sn_h2 *h2)
{
	const uint8_t *data;
	struct sn_str vec;
	ssize_t n;

	if (!flush_rest(h2))
		return;
	for (int i = 0; i < 64; i++) {
		n = nghttp2_session_mem_send(h2->session, &data);
		if (n <= 0)
			return;
		vec = (struct sn_str){(const char *)data, (size_t)n};
		if (sn__stream_write(h2->stream, &vec, 1) != n)
			return;
	}
}

static void destroy(struct sn_h2 *h2)
{
	struct sn_loop *loop = h2->stream->loop;

	sn__timer_stop(loop, &h2->timer);
	sn__loop_undefer(loop, &h2->task);
	if (h2->polite && h2->failed == 0)
		last_words(h2);
	if (!h2->released)
		sn__stream_close(h2->stream, false);
	nghttp2_session_del(h2->session);
	sn__h2_block_put(h2, h2->block);
	sn__buf_finish(&h2->out);
	sn__free(h2);
}

void sn__h2_close(struct sn_h2 *h2, int error)
{
	if (h2->closed)
		return;
	h2->closed = true;
	if (error >= 0 && h2->failed == 0)
		h2->polite = nghttp2_session_terminate_session(h2->session, (uint32_t)error) == 0;
	if (h2->entered == 0)
		destroy(h2);
}

struct sn_stream *sn__h2_release(struct sn_h2 *h2)
{
	struct sn_stream *stream = h2->stream;

	assert(h2->told && !h2->closed);
	h2->released = true;
	sn__h2_close(h2, -1);
	return stream;
}

void sn__h2_shutdown(struct sn_h2 *h2)
{
	sn__h2_check(h2,
			nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
					nghttp2_session_get_last_proc_stream_id(h2->session),
					NGHTTP2_NO_ERROR, NULL, 0));
}
