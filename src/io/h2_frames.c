/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nghttp2 tells, and what it is told: frames, and streams.
 *
 * All of it happens inside nghttp2, which must not be freed, fed or emptied there: everything that
 * is done here only submits. Flow control: what came is handed back to the connection's window at
 * once, to the stream's when its user has taken it. The user's ops are not called any more once the
 * session is closed, or was told to be over.
 */
#include <stdio.h>

#include "base/mem.h"
#include "io/h2_impl.h"

#define FRAME_HEAD 9u

static struct sn_h2_block *block_get(struct sn_h2 *h2)
{
	if (h2->block == NULL) {
		h2->block = SN_TAKE(h2->scratch->spare);
		if (h2->block == NULL)
			h2->block = sn__h2_block_create();
	}
	return h2->block;
}

void sn__h2_block_put(struct sn_h2 *h2, struct sn_h2_block *block /* may be NULL */)
{
	if (block == NULL)
		return;
	sn__h2_block_reset(block);
	if (h2->scratch->spare == NULL)
		h2->scratch->spare = block;
	else
		sn__h2_block_destroy(block);
}

/* ---- against floods ---- */

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

static void earn(struct sn_h2 *h2, size_t length)
{
	int64_t earned = SN_H2_FLOOD_EARNED + (int64_t)(length / SN_H2_FLOOD_EARNED_BYTES);

	h2->credit = SN_MIN(h2->credit + earned, SN_H2_FLOOD_BURST);
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

	/* A client began what is reset: its own requests are the limit. */
	bool reset = h2->server && hd->type == NGHTTP2_RST_STREAM;

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
		sn__h2_count(h2);
	h2->head_id = frame->hd.stream_id;
	if (h2->block != NULL)
		sn__h2_block_reset(h2->block); /* the former was refused in its middle */
	if (block_get(h2) != NULL)
		return 0;
	sn__h2_set_failed(h2, SN_E_NOMEM, 0, sn_strerror(SN_E_NOMEM));
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
	struct sn_h2 *h2 = arg;
	int r = sn__h2_block_add(h2->block, (struct sn_str){(const char *)name, name_len},
			(struct sn_str){(const char *)value, value_len});

	if (r < 0) {
		sn__h2_set_failed(h2, r, 0, sn_strerror(r));
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
		sn__h2_set_failed(h2, r, 0, sn_strerror(r));
	if (block->bad_status)
		flags |= SN_H2_BAD_STATUS;
	else if (frame->headers.cat == NGHTTP2_HCAT_HEADERS && block->head.status == 0)
		flags |= SN_H2_TRAILERS;
	if (block->too_large)
		flags |= SN_H2_TOO_LARGE;
	if (block->two_hosts)
		flags |= SN_H2_TWO_HOSTS;
	if (r == 0 && (stream != NULL || frame->headers.cat == NGHTTP2_HCAT_REQUEST))
		h2->ops->on_head(h2, frame->hd.stream_id, stream, &block->head, flags);
	sn__h2_block_put(h2, block);
	return r < 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* A frame of a message is through: perhaps its last. */
static void part_came(struct sn_h2 *h2, const nghttp2_frame *frame)
{
	int32_t id = frame->hd.stream_id;
	void *stream;

	if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || !sn_h2_listens(h2))
		return;
	stream = nghttp2_session_get_stream_user_data(h2->session, id);
	if (stream != NULL)
		h2->ops->on_end(h2, id, stream);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct sn_h2 *h2 = arg;
	int r;

	if (!sn_h2_listens(h2))
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
		(void)sn__h2_fail_lib(h2, lib);
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	if (stream != NULL && sn_h2_listens(h2))
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
	if (stream != NULL && sn_h2_listens(h2))
		h2->ops->on_close(h2, id, stream, error);
	return 0;
}

static int before_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct sn_h2 *h2 = arg;
	void *stream;

	if (frame->hd.type != NGHTTP2_HEADERS || h2->ops->on_send_head == NULL ||
			!sn_h2_listens(h2))
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

	if (!h2->server)
		return;
	switch (error) {
	case NGHTTP2_REFUSED_STREAM:
		cost = SN_H2_FLOOD_RESET / 4; /* it may not have heard of the limit yet */
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
		earn(h2, frame->hd.length);
		if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || h2->ops->on_sent == NULL ||
				!sn_h2_listens(h2))
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

	if (stream == NULL || !sn_h2_listens(h2))
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

int sn__h2_callbacks(nghttp2_session_callbacks **ret_cbs)
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
	sn__h2_count(h2);
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
	sn__h2_check(h2, nghttp2_session_resume_data(h2->session, id));
}

void sn__h2_reset(struct sn_h2 *h2, int32_t id, uint32_t error)
{
	sn__h2_check(h2, nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, id, error));
}

void sn__h2_consume(struct sn_h2 *h2, int32_t id, size_t n)
{
	sn__h2_check(h2, nghttp2_session_consume_stream(h2->session, id, n));
}

void sn__h2_ping(struct sn_h2 *h2)
{
	sn__h2_check(h2, nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL));
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
