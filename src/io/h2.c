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
#include "io/h2_head.h"

#define FRAME_HEAD 9u

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

static struct sn_h2_block *block_get(struct sn_h2 *h2)
{
	if (h2->block == NULL) {
		h2->block = SN_TAKE(h2->scratch->spare);
		if (h2->block == NULL)
			h2->block = sn__h2_block_create();
	}
	return h2->block;
}

static void block_put(struct sn_h2 *h2, struct sn_h2_block *block /* may be NULL */)
{
	if (block == NULL)
		return;
	sn__h2_block_reset(block);
	if (h2->scratch->spare == NULL)
		h2->scratch->spare = block;
	else
		sn__h2_block_destroy(block);
}

/* ---- how it ends ---- */

static bool listens(const struct sn_h2 *h2)
{
	return !h2->closed && !h2->told;
}

static void set_failed(struct sn_h2 *h2, int code, int foreign, const char *detail)
{
	if (h2->failed != 0)
		return;
	h2->failed = code;
	h2->foreign = foreign;
	(void)snprintf(h2->detail, sizeof h2->detail, "%s", detail);
}

void sn__h2_fail(struct sn_h2 *h2, int code, const char *detail)
{
	set_failed(h2, code, 0, detail);
	sn__h2_kick(h2);
}

static void fail_stream(struct sn_h2 *h2, int code)
{
	const struct sn_error *e = sn__stream_error(h2->stream);

	set_failed(h2, code, e != NULL ? e->foreign : 0,
			e != NULL && e->text[0] != '\0' ? e->text : sn_strerror(code));
}

static int fail_lib(struct sn_h2 *h2, int lib)
{
	int code = lib == NGHTTP2_ERR_NOMEM ? SN_E_NOMEM : SN_E_PROTOCOL;

	set_failed(h2, code, 0, code == SN_E_NOMEM ? sn_strerror(code) : nghttp2_strerror(lib));
	return code;
}

/* For what cannot fail but for want of memory. */
static void check(struct sn_h2 *h2, int lib)
{
	if (lib == NGHTTP2_ERR_NOMEM)
		(void)fail_lib(h2, lib);
	sn__h2_kick(h2);
}

void sn__h2_terminate(struct sn_h2 *h2, uint32_t error, int code, const char *detail)
{
	if (h2->dying || h2->failed != 0)
		return;
	h2->dying = true;
	h2->dying_code = code;
	(void)snprintf(h2->detail, sizeof h2->detail, "%s", detail);
	check(h2, nghttp2_session_terminate_session(h2->session, error));
}

static bool flooded(struct sn_h2 *h2, int cost)
{
	uint64_t now_ns;

	h2->credit -= cost;
	if (h2->credit >= 0)
		return false;
	now_ns = sn__loop_now_ns(h2->stream->loop);
	h2->credit += (int64_t)SN_MIN((now_ns - h2->credit_ns) / (SN_NS_PER_S / SN_H2_FLOOD_PER_S),
			(uint64_t)SN_H2_FLOOD_BURST);
	h2->credit_ns = now_ns;
	if (h2->credit >= 0)
		return false;
	h2->credit = 0;
	return true;
}

static void earn(struct sn_h2 *h2)
{
	h2->credit = SN_MIN(h2->credit + SN_H2_FLOOD_EARNED, SN_H2_FLOOD_BURST);
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
		set_failed(h2, SN_E_TIMEOUT, 0, detail);
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

/* A stream more. */
static void count(struct sn_h2 *h2)
{
	struct sn_loop *loop = h2->stream->loop;

	if (h2->n_streams++ > 0 || h2->ping_ns == 0 || sn_timer_armed(&h2->timer))
		return;
	/* Silence counts from now on. */
	h2->last_read_ns = sn__loop_now_ns(loop);
	h2->pinged_ns = 0;
	sn__timer_start(loop, &h2->timer, h2->ping_ns, on_timer);
}

/* ---- what nghttp2 tells while reading ---- */

static bool is_idle_frame(const nghttp2_frame_hd *hd)
{
	switch (hd->type) {
	case NGHTTP2_DATA:
		return hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM);
	case NGHTTP2_HEADERS:
		return hd->length == 0;
	default:
		return true;
	}
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
	struct sn_h2 *h2 = arg;

	bool reset = hd->type == NGHTTP2_RST_STREAM;

	if (!is_idle_frame(hd) || !flooded(h2, reset ? SN_H2_FLOOD_RESET : 1))
		return 0;
	sn__h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, SN_E_LIMIT,
			reset ? "the peer resets one stream after the other"
			      : "the peer floods us with frames that carry nothing");
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct sn_h2 *h2 = arg;

	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		count(h2);
	h2->head_id = frame->hd.stream_id;
	if (h2->block != NULL)
		sn__h2_block_reset(h2->block); /* the former was refused in its middle */
	if (block_get(h2) != NULL)
		return 0;
	set_failed(h2, SN_E_NOMEM, 0, sn_strerror(SN_E_NOMEM));
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
	struct sn_h2 *h2 = arg;
	int r = sn__h2_block_add(h2->block, (struct sn_str){(const char *)name, name_len},
			(struct sn_str){(const char *)value, value_len});

	if (r < 0) {
		set_failed(h2, r, 0, sn_strerror(r));
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	if (h2->block->seen > SN_H2_HEAD_FLOOD) {
		sn__h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, SN_E_LIMIT,
				"the peer sent an enormous header block");
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	return 0;
}

/* Without this nghttp2 drops a field that is none (a name or value with controls) and takes the rest. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
		const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len,
		uint8_t flags, void *arg)
{
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* RST_STREAM PROTOCOL_ERROR */
}

static int head_came(struct sn_h2 *h2, const nghttp2_frame *frame)
{
	void *stream = nghttp2_session_get_stream_user_data(h2->session, frame->hd.stream_id);
	struct sn_h2_block *block = SN_TAKE(h2->block);
	unsigned flags = frame->hd.flags & NGHTTP2_FLAG_END_STREAM ? SN_H2_END : 0;
	int r;

	assert(block != NULL);
	h2->head_id = 0;
	r = sn__h2_block_finish(block);
	if (r < 0)
		set_failed(h2, r, 0, sn_strerror(r));
	if (frame->headers.cat == NGHTTP2_HCAT_HEADERS && block->head.status == 0)
		flags |= SN_H2_TRAILERS;
	if (block->too_large)
		flags |= SN_H2_TOO_LARGE;
	if (block->two_hosts)
		flags |= SN_H2_TWO_HOSTS;
	if (r == 0 && (stream != NULL || frame->headers.cat == NGHTTP2_HCAT_REQUEST))
		h2->ops->on_head(h2, frame->hd.stream_id, stream, &block->head, flags);
	block_put(h2, block);
	return r < 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* A frame of a message is through: perhaps its last. */
static void part_came(struct sn_h2 *h2, const nghttp2_frame *frame)
{
	int32_t id = frame->hd.stream_id;
	void *stream;

	if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || !listens(h2))
		return;
	stream = nghttp2_session_get_stream_user_data(h2->session, id);
	if (stream != NULL)
		h2->ops->on_end(h2, id, stream);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct sn_h2 *h2 = arg;
	int r;

	if (!listens(h2))
		return 0;
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		r = head_came(h2, frame);
		if (r < 0)
			return r;
		part_came(h2, frame);
		return 0;
	case NGHTTP2_DATA:
		part_came(h2, frame);
		return 0;
	case NGHTTP2_SETTINGS:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && h2->ops->on_settings != NULL)
			h2->ops->on_settings(h2);
		return 0;
	case NGHTTP2_RST_STREAM:
		h2->reset_id = frame->hd.stream_id;
		return 0;
	case NGHTTP2_GOAWAY:
		h2->goaway = true;
		h2->goaway_last = frame->goaway.last_stream_id;
		h2->goaway_error = frame->goaway.error_code;
		if (h2->ops->on_goaway != NULL)
			h2->ops->on_goaway(h2);
		return 0;
	default:
		return 0;
	}
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
		size_t len, void *arg)
{
	struct sn_h2 *h2 = arg;
	void *stream = nghttp2_session_get_stream_user_data(session, id);
	int lib = nghttp2_session_consume_connection(session, len);

	if (lib < 0) {
		(void)fail_lib(h2, lib);
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	if (stream != NULL && listens(h2))
		h2->ops->on_data(h2, id, stream, (struct sn_str){(const char *)data, len});
	return 0;
}

/* ---- and while writing ---- */

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
	struct sn_h2 *h2 = arg;
	void *stream = nghttp2_session_get_stream_user_data(session, id);

	if (h2->n_streams > 0)
		h2->n_streams--;
	if (h2->head_id == id)
		h2->head_id = 0;
	if (stream != NULL && listens(h2))
		h2->ops->on_close(h2, id, stream, error);
	return 0;
}

static int before_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct sn_h2 *h2 = arg;
	void *stream;

	if (frame->hd.type != NGHTTP2_HEADERS || h2->ops->on_send_head == NULL || !listens(h2))
		return 0;
	stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (stream != NULL)
		h2->ops->on_send_head(h2, frame->hd.stream_id, stream);
	return 0;
}

static void went_away(struct sn_h2 *h2, const nghttp2_frame *frame)
{
	if (h2->dying || frame->goaway.error_code == NGHTTP2_NO_ERROR)
		return;
	h2->dying = true;
	h2->dying_code = frame->goaway.error_code == NGHTTP2_ENHANCE_YOUR_CALM ? SN_E_LIMIT
									       : SN_E_PROTOCOL;
	if (frame->goaway.opaque_data_len > 0)
		(void)snprintf(h2->detail, sizeof h2->detail, "HTTP/2 %s: %.*s",
				sn__h2_error_name(frame->goaway.error_code),
				(int)SN_MIN(frame->goaway.opaque_data_len, 60),
				(const char *)frame->goaway.opaque_data);
	else
		(void)snprintf(h2->detail, sizeof h2->detail, "the peer broke HTTP/2: %s",
				sn__h2_error_name(frame->goaway.error_code));
}

/* A peer that makes us reset streams again and again spends no RST_STREAM of its own. */
static void reset_sent(struct sn_h2 *h2, uint32_t error)
{
	int cost = SN_H2_FLOOD_RESET;

	switch (error) {
	case NGHTTP2_REFUSED_STREAM:
		cost = 1; /* it may not have heard of the limit yet */
		break;
	case NGHTTP2_PROTOCOL_ERROR:
	case NGHTTP2_FLOW_CONTROL_ERROR:
	case NGHTTP2_STREAM_CLOSED:
	case NGHTTP2_FRAME_SIZE_ERROR:
		break;
	default:
		return;
	}
	if (flooded(h2, cost))
		sn__h2_terminate(h2, NGHTTP2_ENHANCE_YOUR_CALM, SN_E_LIMIT,
				"the peer breaks one stream after the other");
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct sn_h2 *h2 = arg;
	void *stream;

	switch (frame->hd.type) {
	case NGHTTP2_GOAWAY:
		went_away(h2, frame);
		return 0;
	case NGHTTP2_RST_STREAM:
		reset_sent(h2, frame->rst_stream.error_code);
		return 0;
	case NGHTTP2_HEADERS:
	case NGHTTP2_DATA:
		earn(h2);
		if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || h2->ops->on_sent == NULL ||
				!listens(h2))
			return 0;
		stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
		if (stream != NULL)
			h2->ops->on_sent(h2, frame->hd.stream_id, stream);
		return 0;
	default:
		return 0;
	}
}

/* nghttp2 wants a DATA frame: its bytes go behind the place of its head. */
static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
		uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct sn_h2 *h2 = arg;
	void *stream = nghttp2_session_get_stream_user_data(session, id);
	size_t room = SN_H2_OUT_SIZE > h2->collected ? SN_H2_OUT_SIZE - h2->collected : 0;
	unsigned end = 0;
	ssize_t n;

	if (stream == NULL || !listens(h2))
		return NGHTTP2_ERR_DEFERRED;
	if (room < FRAME_HEAD + SN_MIN(length, 4096))
		return NGHTTP2_ERR_PAUSE;
	n = h2->ops->read(h2, id, stream, h2->scratch->out + h2->collected + FRAME_HEAD,
			SN_MIN(length, room - FRAME_HEAD), &end);
	if (n == SN_E_AGAIN)
		return NGHTTP2_ERR_DEFERRED;
	if (n < 0)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (end & SN_H2_READ_END)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (end & SN_H2_READ_TRAILERS)
		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	h2->read_size = (size_t)n;
	return n;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
		size_t length, nghttp2_data_source *source, void *arg)
{
	struct sn_h2 *h2 = arg;

	assert(length == h2->read_size && frame->data.padlen == 0);
	memcpy(h2->scratch->out + h2->collected, head, FRAME_HEAD);
	h2->collected += FRAME_HEAD + length;
	h2->produced += FRAME_HEAD + length;
	return 0;
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
		(void)fail_lib(h2, (int)n);
	else
		sn__h2_terminate(h2, NGHTTP2_PROTOCOL_ERROR, SN_E_PROTOCOL,
				nghttp2_strerror((int)n));
}

/* At most @blocks, for the others want their turn. */
static void pull(struct sn_h2 *h2, unsigned blocks)
{
	for (unsigned i = 0; i < blocks && listens(h2) && h2->failed == 0 && !h2->dying; i++) {
		ssize_t n = sn__stream_read(h2->stream, h2->scratch->in, SN_H2_IN_SIZE);

		if (n == SN_E_AGAIN)
			return;
		if (n == 0)
			set_failed(h2, SN_E_EOF, 0, "the peer closed the connection");
		else if (n < 0)
			fail_stream(h2, (int)n);
		else
			feed(h2, (struct sn_str){h2->scratch->in, (size_t)n});
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
			(void)fail_lib(h2, (int)n);
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
		set_failed(h2, SN_E_NOMEM, 0, sn_strerror(SN_E_NOMEM));
	return (size_t)n == vec.len;
}

static void on_task(struct sn_task *task);

static void push(struct sn_h2 *h2)
{
	bool more = flush_rest(h2);

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
	if (h2->dying)
		h2->failed = h2->dying_code;
	else if (h2->out.len == 0 && !nghttp2_session_want_read(h2->session) &&
			!nghttp2_session_want_write(h2->session))
		set_failed(h2, SN_E_EOF, 0, "the connection was given up (GOAWAY)");
}

static void destroy(struct sn_h2 *h2);

static void leave(struct sn_h2 *h2)
{
	if (h2->entered == 1 && listens(h2)) {
		if (h2->failed == 0 && h2->ops->on_pump != NULL)
			h2->ops->on_pump(h2);
		if (listens(h2))
			push(h2);
		h2->pushed = true;
		look_for_end(h2);
		if (h2->failed != 0 && listens(h2)) {
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
			(h2->queued ? 0 : SN_READABLE) | (h2->out.len > 0 ? SN_WRITABLE : 0));
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

static int callbacks_create(nghttp2_session_callbacks **ret_cbs)
{
	nghttp2_session_callbacks *cbs;

	if (nghttp2_session_callbacks_new(&cbs) != 0)
		return SN_E_NOMEM;
	nghttp2_session_callbacks_set_on_begin_frame_callback(cbs, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cbs, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cbs, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(cbs, on_invalid_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cbs, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cbs, on_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(cbs, on_stream_close);
	nghttp2_session_callbacks_set_before_frame_send_callback(cbs, before_send);
	nghttp2_session_callbacks_set_on_frame_send_callback(cbs, on_frame_sent);
	nghttp2_session_callbacks_set_send_data_callback(cbs, on_send_data);
	*ret_cbs = cbs;
	return 0;
}

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
	int r = callbacks_create(&cbs);

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
	nghttp2_settings_entry iv[4];
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
	if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, iv, n) != 0 ||
			nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
					(int32_t)SN_MIN(conn_window, INT32_MAX)) != 0)
		return SN_E_NOMEM;
	return 0;
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
	block_put(h2, h2->block);
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
	check(h2,
			nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
					nghttp2_session_get_last_proc_stream_id(h2->session),
					NGHTTP2_NO_ERROR, NULL, 0));
}

/* ---- streams ---- */

static int map(struct sn_h2 *h2, int lib)
{
	switch (lib) {
	case NGHTTP2_ERR_NOMEM:
		return SN_E_NOMEM;
	case NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE:
		return SN_E_LIMIT;
	default:
		return SN_E_STATE;
	}
}

int32_t sn__h2_request(struct sn_h2 *h2, const nghttp2_nv *nva, size_t n, bool body, void *stream)
{
	nghttp2_data_provider provider = {{0}, on_read};
	int32_t id;

	if (h2->told || h2->closed || h2->failed != 0 || h2->dying || h2->goaway ||
			!nghttp2_session_check_request_allowed(h2->session))
		return SN_E_CLOSED;
	id = nghttp2_submit_request(h2->session, NULL, nva, n, body ? &provider : NULL, stream);
	if (id < 0)
		return map(h2, id);
	count(h2);
	sn__h2_kick(h2);
	return id;
}

int sn__h2_response(struct sn_h2 *h2, int32_t id, const nghttp2_nv *nva, size_t n, bool body)
{
	nghttp2_data_provider provider = {{0}, on_read};
	int lib = nghttp2_submit_response(h2->session, id, nva, n, body ? &provider : NULL);

	if (lib < 0)
		return map(h2, lib);
	sn__h2_kick(h2);
	return 0;
}

int sn__h2_info(struct sn_h2 *h2, int32_t id, const nghttp2_nv *nva, size_t n)
{
	int lib = nghttp2_submit_headers(h2->session, NGHTTP2_FLAG_NONE, id, NULL, nva, n, NULL);

	if (lib < 0)
		return map(h2, lib);
	sn__h2_kick(h2);
	return 0;
}

int sn__h2_trailers(struct sn_h2 *h2, int32_t id, const nghttp2_nv *nva, size_t n)
{
	int lib = nghttp2_submit_trailer(h2->session, id, nva, n);

	return lib < 0 ? map(h2, lib) : 0;
}

void sn__h2_bind(struct sn_h2 *h2, int32_t id, void *stream)
{
	(void)nghttp2_session_set_stream_user_data(h2->session, id, stream);
}

void sn__h2_resume(struct sn_h2 *h2, int32_t id)
{
	check(h2, nghttp2_session_resume_data(h2->session, id));
}

void sn__h2_reset(struct sn_h2 *h2, int32_t id, uint32_t error)
{
	check(h2, nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, id, error));
}

void sn__h2_consume(struct sn_h2 *h2, int32_t id, size_t n)
{
	check(h2, nghttp2_session_consume_stream(h2->session, id, n));
}

void sn__h2_ping(struct sn_h2 *h2)
{
	check(h2, nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL));
}

uint32_t sn__h2_peer_streams(const struct sn_h2 *h2)
{
	return nghttp2_session_get_remote_settings(
			h2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

const char *sn__h2_error_name(uint32_t error)
{
	return nghttp2_http2_strerror(error);
}
