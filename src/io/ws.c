/* SPDX-License-Identifier: Apache-2.0 */
/* An open WebSocket connection. See ws_impl.h. */
#include "io/ws_impl.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/mem.h"

#define READ_A_PUMP (256u << 10)
#define VEC_MAX 32
#define KEEP_BLOCK (64u << 10) /* a message's buffer with a greater block gives it back */
#define MESSAGE_DEFAULT (16u << 20)

/* ---- frames ---- */

struct sn_ws_frame {
	_Atomic unsigned refs;
	size_t size;
	uint8_t bytes[];
};

static struct sn_ws_frame *frame_raw(const void *data, size_t n, size_t room)
{
	struct sn_ws_frame *frame;

	if (n > SIZE_MAX / 2)
		return NULL;
	frame = sn__malloc(sizeof(*frame) + n + room);
	if (frame == NULL)
		return NULL;
	atomic_init(&frame->refs, 1);
	frame->size = n;
	if (n > 0)
		memcpy(frame->bytes + room, data, n);
	return frame;
}

/* RFC 6455, 5.2: one frame, one message. @mask: NULL for servers. */
static struct sn_ws_frame *frame_encode(uint8_t opcode, struct sn_str data, const uint8_t *mask)
{
	uint8_t head[14] = {0x80 | opcode};
	struct sn_ws_frame *frame;
	size_t n = 2;

	if (data.len < 126) {
		head[1] = (uint8_t)data.len;
	} else if (data.len < 65536) {
		head[1] = 126;
		head[n++] = (uint8_t)(data.len >> 8);
		head[n++] = (uint8_t)data.len;
	} else {
		head[1] = 127;
		for (int shift = 56; shift >= 0; shift -= 8)
			head[n++] = (uint8_t)((uint64_t)data.len >> shift);
	}
	if (mask != NULL) {
		head[1] |= 0x80;
		memcpy(head + n, mask, 4);
		n += 4;
	}
	frame = frame_raw(data.ptr, data.len, n);
	if (frame == NULL)
		return NULL;
	memcpy(frame->bytes, head, n);
	frame->size += n;
	for (size_t i = 0; mask != NULL && i < data.len; i++)
		frame->bytes[n + i] ^= mask[i & 3];
	return frame;
}

static uint8_t message_opcode(bool text)
{
	return text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME;
}

int sn__ws_frame_create(bool text, struct sn_str data, struct sn_ws_frame **ret_frame)
{
	struct sn_ws_frame *frame = frame_encode(message_opcode(text), data, NULL);

	if (frame == NULL)
		return SN_E_NOMEM;
	*ret_frame = frame;
	return 0;
}

void sn__ws_frame_unref(struct sn_ws_frame *frame)
{
	if (frame != NULL && atomic_fetch_sub(&frame->refs, 1) == 1)
		sn__free(frame);
}

/* ---- the queue ---- */

/* @frame is taken on success. */
static int enqueue(struct sn_ws *ws, struct sn_ws_frame *frame)
{
	if (ws->q_n == ws->q_cap) {
		unsigned cap = ws->q_cap > 0 ? 2 * ws->q_cap : 8;
		struct sn_ws_frame **queue = sn__malloc(cap * sizeof(*queue));

		if (queue == NULL)
			return SN_E_NOMEM;
		for (unsigned i = 0; i < ws->q_n; i++)
			queue[i] = ws->queue[(ws->q_first + i) & (ws->q_cap - 1)];
		sn__free(ws->queue);
		ws->queue = queue;
		ws->q_first = 0;
		ws->q_cap = cap;
	}
	ws->queue[(ws->q_first + ws->q_n++) & (ws->q_cap - 1)] = frame;
	ws->q_bytes += frame->size;
	if (ws->q_bytes >= ws->opts.low_water)
		ws->full = true;
	return 0;
}

static void dequeue(struct sn_ws *ws)
{
	struct sn_ws_frame *frame = ws->queue[ws->q_first];

	ws->q_first = (ws->q_first + 1) & (ws->q_cap - 1);
	ws->q_n--;
	ws->q_bytes -= frame->size;
	ws->q_sent = 0;
	sn__ws_frame_unref(frame);
}

static void sent(struct sn_ws *ws, size_t n)
{
	size_t head = SN_MIN(n, ws->out.len);

	sn__buf_consume(&ws->out, head);
	if (ws->out.len == 0)
		sn__buf_release_if_empty(&ws->out);
	n -= head;
	while (n > 0) {
		size_t left = ws->queue[ws->q_first]->size - ws->q_sent;

		if (n < left) {
			ws->q_sent += n;
			return;
		}
		n -= left;
		dequeue(ws);
	}
}

/* 0: all was sent, or the rest has to wait. */
static int send_queued(struct sn_ws *ws)
{
	while (ws->out.len > 0 || ws->q_n > 0) {
		struct sn_str vec[VEC_MAX];
		unsigned n = 0;
		ssize_t r;

		if (ws->out.len > 0)
			vec[n++] = sn__buf_str(&ws->out);
		for (unsigned i = 0; i < ws->q_n && n < VEC_MAX; i++) {
			struct sn_ws_frame *f = ws->queue[(ws->q_first + i) & (ws->q_cap - 1)];
			size_t skip = i == 0 ? ws->q_sent : 0;

			vec[n++] = (struct sn_str){(char *)f->bytes + skip, f->size - skip};
		}
		r = sn__stream_write(ws->stream, vec, n);
		if (r < 0)
			return r == SN_E_AGAIN ? 0 : (int)r;
		sent(ws, (size_t)r);
	}
	return 0;
}

/* ---- wslay's side ---- */

static ssize_t on_wslay_recv(
		wslay_event_context_ptr ctx, uint8_t *data, size_t len, int flags, void *arg)
{
	struct sn_ws *ws = arg;
	ssize_t n;

	if (ws->in.len > 0 && !ws->aborted) {
		n = (ssize_t)SN_MIN(len, ws->in.len);
		memcpy(data, sn__buf_data(&ws->in), (size_t)n);
		sn__buf_consume(&ws->in, (size_t)n);
		sn__buf_release_if_empty(&ws->in);
		return n;
	}
	ws->rest |= ws->read_bytes >= READ_A_PUMP;
	n = ws->aborted || ws->rest ? SN_E_AGAIN : sn__stream_read(ws->stream, data, len);
	if (n > 0) {
		ws->heard = true;
		ws->read_bytes += (size_t)n;
		return n;
	}
	if (n == SN_E_AGAIN) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (n == 0)
		sn__ws_fail(ws, SN_E_EOF, 1006,
				"the peer closed the connection without a close frame");
	else
		sn__ws_fail(ws, (int)n, 0, "the connection broke");
	wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

/* Answers to ping and close: they go into our queue at once. */
static ssize_t on_wslay_send(
		wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *arg)
{
	struct sn_ws *ws = arg;
	struct sn_ws_frame *frame = frame_raw(data, len, 0);

	if (frame != NULL && enqueue(ws, frame) == 0)
		return (ssize_t)len;
	sn__ws_frame_unref(frame);
	sn__ws_fail(ws, SN_E_NOMEM, 0, "out of memory");
	wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

/* From the kernel, in blocks: a syscall a message would be dear. */
static int random_mask(struct sn_ws *ws, uint8_t *out, size_t n)
{
	if (ws->random_left < n) {
		if (sn__random_bytes(ws->random, sizeof(ws->random)) < 0)
			return SN_E_IO;
		ws->random_left = sizeof(ws->random);
	}
	ws->random_left -= (unsigned)n;
	memcpy(out, ws->random + ws->random_left, n);
	return 0;
}

static int on_wslay_mask(wslay_event_context_ptr ctx, uint8_t *out, size_t len, void *arg)
{
	if (random_mask(arg, out, len) == 0)
		return 0;
	sn__ws_fail(arg, SN_E_IO, 0, "no random bytes");
	wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static void refuse_message(struct sn_ws *ws, uint16_t code, int error, const char *text)
{
	if (ws->failed != 0 || !wslay_event_get_read_enabled(ws->ctx))
		return;
	wslay_event_shutdown_read(ws->ctx);
	(void)wslay_event_queue_close(ws->ctx, code, (const uint8_t *)text, strlen(text));
	sn__ws_fail(ws, error, code, "%s", text);
}

static void on_frame_start(wslay_event_context_ptr ctx,
		const struct wslay_event_on_frame_recv_start_arg *frame, void *arg)
{
	struct sn_ws *ws = arg;

	ws->collecting = !wslay_is_ctrl_frame(frame->opcode);
	if (frame->opcode == WSLAY_TEXT_FRAME || frame->opcode == WSLAY_BINARY_FRAME)
		sn__buf_clear(&ws->msg);
	if (ws->collecting && frame->payload_length > ws->opts.max_message - ws->msg.len) {
		refuse_message(ws, WSLAY_CODE_MESSAGE_TOO_BIG, SN_E_LIMIT, "message too large");
	} else if (ws->is_client && ws->collecting && frame->payload_length > KEEP_BLOCK) {
		/* Growing by copies would stop the loop for milliseconds. Only for whom we connected
		 * to, and memory nobody has written to costs nothing. */
		char *space;

		if (sn__buf_reserve(&ws->msg, (size_t)frame->payload_length, &space) < 0)
			return; /* it grows, or fails, as it comes */
	}
}

static void on_frame_chunk(wslay_event_context_ptr ctx,
		const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *arg)
{
	struct sn_ws *ws = arg;
	int r;

	if (!ws->collecting || ws->aborted || ws->failed != 0)
		return;
	r = sn__buf_append(&ws->msg, chunk->data, chunk->data_length);
	if (r == SN_E_LIMIT)
		refuse_message(ws, WSLAY_CODE_MESSAGE_TOO_BIG, SN_E_LIMIT, "message too large");
	else if (r < 0)
		refuse_message(ws, WSLAY_CODE_INTERNAL_SERVER_ERROR, SN_E_NOMEM, "out of memory");
}

static void on_message(
		wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m, void *arg)
{
	struct sn_ws *ws = arg;
	struct sn_str data;

	if (wslay_is_ctrl_frame(m->opcode) || ws->aborted || ws->failed != 0)
		return;
	data = sn__buf_str(&ws->msg);
	ws->msg.max++;
	if (sn__buf_append(&ws->msg, "", 1) < 0) {
		ws->msg.max--;
		refuse_message(ws, WSLAY_CODE_INTERNAL_SERVER_ERROR, SN_E_NOMEM, "out of memory");
		return;
	}
	ws->msg.max--;
	data.ptr = sn__buf_data(&ws->msg);
	if (!ws->closing)
		ws->ops->on_message(ws, m->opcode == WSLAY_TEXT_FRAME, data, ws->arg);
	sn__buf_clear(&ws->msg);
	if (ws->msg.cap > KEEP_BLOCK)
		sn__buf_finish(&ws->msg);
}

char *sn__ws_take_message(struct sn_ws *ws)
{
	char *block = ws->msg.block;

	assert(block != NULL && ws->msg.head == 0);
	sn__buf_init(&ws->msg, ws->msg.max);
	return block;
}

static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_wslay_recv,
		.send_callback = on_wslay_send,
		.genmask_callback = on_wslay_mask,
		.on_frame_recv_start_callback = on_frame_start,
		.on_frame_recv_chunk_callback = on_frame_chunk,
		.on_msg_recv_callback = on_message,
};

/* ---- life ---- */

static void on_timer(struct sn_timer *t);
static void on_stream(struct sn_stream *s, unsigned events, void *arg);

int sn__ws_new(struct sn_loop *loop, bool is_client, const struct sn_ws_options *opts,
		const struct sn_ws_ops *ops, void *arg, struct sn_ws **ret_ws)
{
	struct sn_ws *ws = sn__calloc(1, sizeof(*ws));
	int r;

	if (ws == NULL)
		return SN_E_NOMEM;
	ws->loop = loop;
	ws->is_client = is_client;
	ws->ops = ops;
	ws->arg = arg;
	if (opts != NULL)
		ws->opts = *opts;
	if (ws->opts.max_message == 0)
		ws->opts.max_message = MESSAGE_DEFAULT;
	ws->opts.max_message = SN_MIN(ws->opts.max_message, (size_t)SN_WS_MESSAGE_MAX);
	if (ws->opts.max_queue == 0)
		ws->opts.max_queue = SN_WS_MESSAGE_MAX;
	if (ws->opts.low_water == 0)
		ws->opts.low_water = ws->opts.max_queue / 2;
	if (ws->opts.open_timeout_ms == 0)
		ws->opts.open_timeout_ms = 5000;
	if (ws->opts.close_timeout_ms == 0)
		ws->opts.close_timeout_ms = 1000;
	sn__buf_init(&ws->in, SN_HTTP_HEAD_SIZE_MAX + (128u << 10));
	sn__buf_init(&ws->out, SN_HTTP_HEAD_SIZE_MAX);
	sn__buf_init(&ws->msg, ws->opts.max_message);
	r = is_client ? wslay_event_context_client_init(&ws->ctx, &callbacks, ws)
		      : wslay_event_context_server_init(&ws->ctx, &callbacks, ws);
	if (r != 0) {
		sn__free(ws);
		return SN_E_NOMEM;
	}
	/* By default it would allocate what a frame's head announces. */
	wslay_event_config_set_no_buffering(ws->ctx, 1);
	wslay_event_config_set_max_recv_msg_length(ws->ctx, ws->opts.max_message);
	*ret_ws = ws;
	return 0;
}

void sn__ws_free(struct sn_ws *ws)
{
	sn__ws_opening_free(ws);
	sn__timer_stop(ws->loop, &ws->timer);
	sn__loop_undefer(ws->loop, &ws->task);
	sn__stream_close(ws->stream, ws->aborted);
	wslay_event_context_free(ws->ctx);
	while (ws->q_n > 0)
		dequeue(ws);
	sn__free(ws->queue);
	sn__buf_finish(&ws->in);
	sn__buf_finish(&ws->out);
	sn__buf_finish(&ws->msg);
	sn__free(ws->err);
	sn__free(ws);
}

void sn__ws_fail(struct sn_ws *ws, int code, int foreign, const char *fmt, ...)
{
	char text[SN_ERROR_TEXT_MAX];
	va_list ap;

	if (ws->failed != 0)
		return;
	ws->failed = code;
	ws->err = sn__calloc(1, sizeof(*ws->err));
	if (ws->err == NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)sn__error_set(ws->err, code, "%s", text);
	ws->err->foreign = foreign;
}

void sn__ws_opened(struct sn_ws *ws)
{
	ws->state = WS_OPEN;
	ws->heard = true;
	sn_stream_set_owner(ws->stream, on_stream, ws);
	sn__timer_stop(ws->loop, &ws->timer);
	if (ws->opts.ping_ms > 0)
		sn__timer_start(ws->loop, &ws->timer, sn_ms_to_ns(ws->opts.ping_ms), on_timer);
}

/* ---- the pump ---- */

/* Let wslay speak: what it has queued goes into our queue. */
static void collect_answers(struct sn_ws *ws)
{
	if (wslay_event_want_write(ws->ctx) && wslay_event_send(ws->ctx) != 0)
		sn__ws_fail(ws, SN_E_NOMEM, 0, "out of memory");
}

/* How it ended, in wslay's words; 0: it goes on. */
static void look_for_end(struct sn_ws *ws)
{
	uint16_t code;

	if (ws->failed != 0 || wslay_event_get_read_enabled(ws->ctx))
		return;
	if (wslay_event_get_close_received(ws->ctx)) {
		code = wslay_event_get_status_code_received(ws->ctx);
		sn__ws_fail(ws, SN_E_CLOSED, code, "closed by the %s with code %u",
				ws->closing ? "user" : "peer", code);
		return;
	}
	code = wslay_event_get_status_code_sent(ws->ctx);
	if (code == WSLAY_CODE_MESSAGE_TOO_BIG)
		sn__ws_fail(ws, SN_E_LIMIT, code, "message too large");
	else if (code == WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA)
		sn__ws_fail(ws, SN_E_PROTOCOL, code, "text that is not UTF-8");
	else
		sn__ws_fail(ws, SN_E_PROTOCOL, code, "the peer broke the WebSocket protocol");
}

static bool nothing_queued(const struct sn_ws *ws)
{
	return ws->out.len == 0 && ws->q_n == 0;
}

/* After the end: what is queued, the close frame last, still goes out. */
static void step_ended(struct sn_ws *ws)
{
	int why = ws->failed;

	if (why == SN_E_RESET || why == SN_E_EOF || why == SN_E_TLS || why == SN_E_IO ||
			why == SN_E_TIMEOUT) {
		ws->state = WS_GONE;
		return;
	}
	if (send_queued(ws) < 0) {
		ws->state = WS_GONE;
		return;
	}
	if (!nothing_queued(ws)) {
		if (!sn_timer_armed(&ws->timer) || ws->state == WS_OPEN)
			sn__timer_start(ws->loop, &ws->timer,
					sn_ms_to_ns(ws->opts.close_timeout_ms), on_timer);
		ws->state = WS_LINGER;
		return;
	}
	if (why == SN_E_CLOSED) {
		ws->state = WS_GONE;
		return;
	}
	/* The peer did wrong and may be in the middle of it: closing now would reset the connection
	 * and take our close frame from it. */
	if (!ws->shut) {
		sn__timer_start(ws->loop, &ws->timer, sn_ms_to_ns(ws->opts.close_timeout_ms),
				on_timer);
		ws->state = WS_LINGER;
		ws->shut = true;
		if (sn__stream_shutdown(ws->stream) < 0)
			ws->state = WS_GONE;
	}
}

static void step_linger(struct sn_ws *ws)
{
	char block[4096];
	ssize_t n;

	if (!nothing_queued(ws)) {
		step_ended(ws);
		return;
	}
	for (int i = 0; i < 16; i++) {
		n = sn__stream_read(ws->stream, block, sizeof(block));
		if (n == SN_E_AGAIN)
			return;
		if (n <= 0) {
			ws->state = WS_GONE;
			return;
		}
	}
	ws->rest = true;
}

/* A frame that is malformed in itself: wslay gives up and would send a close frame without code. */
static void malformed_frame(struct sn_ws *ws)
{
	static const char code[2] = {
			WSLAY_CODE_PROTOCOL_ERROR >> 8, (char)(WSLAY_CODE_PROTOCOL_ERROR & 255)};
	struct sn_ws_frame *frame = NULL;
	uint8_t mask[4];

	wslay_event_shutdown_write(ws->ctx);
	if (!ws->is_client || random_mask(ws, mask, sizeof(mask)) == 0)
		frame = frame_encode(WSLAY_CONNECTION_CLOSE, (struct sn_str){code, sizeof(code)},
				ws->is_client ? mask : NULL);
	if (frame != NULL && enqueue(ws, frame) < 0)
		sn__ws_frame_unref(frame);
	sn__ws_fail(ws, SN_E_PROTOCOL, WSLAY_CODE_PROTOCOL_ERROR,
			"the peer broke the WebSocket protocol");
}

static void receive(struct sn_ws *ws)
{
	int r;

	ws->read_bytes = 0;
	if (!wslay_event_want_read(ws->ctx) || ws->q_bytes >= ws->opts.max_queue)
		return;
	r = wslay_event_recv(ws->ctx);
	if (r == WSLAY_ERR_NOMEM)
		sn__ws_fail(ws, SN_E_NOMEM, 0, "out of memory");
	else if (r != 0 && ws->failed == 0)
		malformed_frame(ws);
}

static void step_open(struct sn_ws *ws)
{
	int r;

	receive(ws);
	if (ws->aborted)
		return;
	ws->again = false; /* what on_message has sent goes out below */
	collect_answers(ws);
	look_for_end(ws);
	if (ws->failed != 0) {
		collect_answers(ws);
		step_ended(ws);
		return;
	}
	r = send_queued(ws);
	if (r < 0) {
		sn__ws_fail(ws, r, 0, "the connection broke");
		step_ended(ws);
	}
	if (ws->full && ws->q_bytes < ws->opts.low_water) {
		ws->full = false;
		if (ws->ops->on_drain != NULL && ws->state == WS_OPEN && !ws->closing)
			ws->ops->on_drain(ws, ws->arg);
	}
}

static void finish(struct sn_ws *ws)
{
	static const struct sn_error no_memory = {.code = SN_E_NOMEM, .text = "out of memory"};

	if (!ws->aborted)
		ws->ops->on_close(ws, ws->err != NULL ? ws->err : &no_memory, ws->arg);
	sn__ws_free(ws);
}

static void arm(struct sn_ws *ws)
{
	unsigned events = 0;

	if (ws->stream == NULL || ws->state == WS_OPENING)
		return;
	if (ws->state == WS_LINGER || ws->q_bytes < ws->opts.max_queue)
		events |= SN_READABLE;
	if (!nothing_queued(ws))
		events |= SN_WRITABLE;
	sn__stream_want(ws->stream, events);
}

void sn__ws_pump(struct sn_ws *ws)
{
	ws->pumping = true;
	ws->rest = ws->again = false;
	if (ws->state == WS_OPENING && !ws->aborted)
		sn__ws_opening_step(ws);
	if (ws->failed != 0 && ws->state == WS_OPENING)
		ws->state = WS_GONE;
	if (ws->state == WS_OPEN && !ws->aborted && ws->failed == 0)
		step_open(ws);
	else if (ws->state == WS_OPEN && !ws->aborted)
		step_ended(ws);
	else if (ws->state == WS_LINGER && !ws->aborted)
		step_linger(ws);
	ws->pumping = false;
	if (ws->state == WS_GONE || ws->aborted) {
		ws->pumping = true; /* on_close may still call us */
		finish(ws);
		return;
	}
	if (ws->rest || ws->again)
		sn__ws_kick(ws);
	arm(ws);
}

static void on_task(struct sn_task *task)
{
	sn__ws_pump(SN_CONTAINER_OF(task, struct sn_ws, task));
}

static void on_stream(struct sn_stream *s, unsigned events, void *arg)
{
	sn__ws_pump(arg);
}

void sn__ws_kick(struct sn_ws *ws)
{
	if (!ws->pumping)
		sn__loop_defer(ws->loop, &ws->task, on_task);
	else
		ws->again = true;
}

static void ping(struct sn_ws *ws)
{
	static const struct wslay_event_msg msg = {.opcode = WSLAY_PING};

	ws->missed = ws->heard ? 0 : ws->missed + 1;
	ws->heard = false;
	if (ws->missed >= 2) {
		sn__ws_fail(ws, SN_E_TIMEOUT, 1006, "the peer did not answer two pings");
		return;
	}
	if (wslay_event_queue_msg(ws->ctx, &msg) == WSLAY_ERR_NOMEM)
		sn__ws_fail(ws, SN_E_NOMEM, 0, "out of memory");
	sn__timer_start(ws->loop, &ws->timer, sn_ms_to_ns(ws->opts.ping_ms), on_timer);
}

static void on_timer(struct sn_timer *t)
{
	struct sn_ws *ws = SN_CONTAINER_OF(t, struct sn_ws, timer);

	if (ws->state == WS_OPEN && !ws->closing && ws->failed == 0) {
		ping(ws);
	} else {
		sn__ws_fail(ws, SN_E_TIMEOUT, 1006, "the peer did not answer the close frame");
		ws->state = WS_GONE;
	}
	sn__ws_pump(ws);
}

/* ---- what users call ---- */

static int may_send(const struct sn_ws *ws, size_t size)
{
	if (ws->failed != 0 || ws->closing || ws->aborted)
		return SN_E_CLOSED;
	if (ws->state != WS_OPEN)
		return SN_E_STATE;
	if (size > ws->opts.max_queue || ws->q_bytes > ws->opts.max_queue - size)
		return SN_E_LIMIT;
	return 0;
}

int sn__ws_send_frame(struct sn_ws *ws, struct sn_ws_frame *frame)
{
	int r = may_send(ws, frame->size);

	assert(!ws->is_client);
	if (r == 0)
		r = enqueue(ws, frame);
	if (r < 0)
		return r;
	atomic_fetch_add(&frame->refs, 1);
	sn__ws_kick(ws);
	return 0;
}

int sn__ws_send(struct sn_ws *ws, bool text, struct sn_str data)
{
	int r = may_send(ws, data.len);
	struct sn_ws_frame *frame;
	uint8_t mask[4];

	if (r < 0)
		return r;
	if (ws->is_client && random_mask(ws, mask, sizeof(mask)) < 0)
		return SN_E_IO;
	frame = frame_encode(message_opcode(text), data, ws->is_client ? mask : NULL);
	if (frame == NULL)
		return SN_E_NOMEM;
	r = enqueue(ws, frame);
	if (r < 0) {
		sn__ws_frame_unref(frame);
		return r;
	}
	sn__ws_kick(ws);
	return 0;
}

size_t sn__ws_queued(const struct sn_ws *ws)
{
	return ws->q_bytes - ws->q_sent;
}

void sn__ws_close(struct sn_ws *ws, unsigned code, const char *reason)
{
	struct sn_str why = sn_str_from(reason);

	if (ws->closing || ws->failed != 0 || ws->aborted)
		return;
	ws->closing = true;
	if (ws->state == WS_OPENING) {
		sn__ws_fail(ws, SN_E_CLOSED, 0, "closed before it was open");
	} else if (wslay_event_queue_close(ws->ctx, (uint16_t)code, (const uint8_t *)why.ptr,
				   SN_MIN(why.len, (size_t)122)) == WSLAY_ERR_NOMEM) {
		sn__ws_fail(ws, SN_E_NOMEM, 0, "out of memory");
	} else {
		sn__timer_start(ws->loop, &ws->timer, sn_ms_to_ns(ws->opts.close_timeout_ms),
				on_timer);
	}
	sn__ws_kick(ws);
}

void sn__ws_abort(struct sn_ws *ws)
{
	if (ws == NULL)
		return;
	ws->aborted = true;
	if (!ws->pumping)
		sn__ws_free(ws);
}
