/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A stream of sinew/grpc.h: a session (struct sn_call.session), so that waiting for a peer, its
 * breaker, a second peer when the first cannot be connected, the recorder and closing are those of
 * every call.
 *
 * What is sent before the peer answers is kept, up to retry-buffer, because the peer may turn out not
 * to be reachable; while there is no attempt at all (no peer yet, between two) it is all there is.
 */

#include "base/mem.h"
#include "mesh/api.h"
#include "mesh/grpc_call.h"
#include "proto/protobuf.h"

#define WAITING_HIGH (64u << 10) /* from here sn_grpc_stream_send() says SN_E_AGAIN */
#define WAITING_MAX (1u << 20)   /* for one that does not wait; a lone message may be larger */

struct sn_grpc_stream {
	struct sn_grpc_call gc;
	struct sn_grpc_text text;
	struct sn_grpc_answer answer;
	const struct sn_grpc_stream_fns *fns;
	void *arg;
	struct sn_buf kept; /* each message behind its size, a size_t */
	struct sn_task drain_task;
	bool lost;      /* `kept` is not all that was sent */
	bool drain_due; /* SN_E_AGAIN was said */
	bool ended, paused, cancelled, over;
};

static struct sn_grpc_stream *stream_of(struct sn_grpc_call *gc)
{
	return SN_CONTAINER_OF(gc, struct sn_grpc_stream, gc);
}

static struct sn_loop *loop_of(const struct sn_grpc_stream *s)
{
	return s->gc.rt->loop;
}

static void stream_free(struct sn_grpc_stream *s)
{
	sn__grpc_text_finish(&s->text);
	sn__grpc_answer_finish(&s->answer);
	sn__buf_finish(&s->kept);
	sn__free(s);
}

/* ---- sending ---- */

static void lose(struct sn_grpc_stream *s)
{
	s->lost = s->gc.not_replayable = true;
	sn__buf_finish(&s->kept);
}

static int keep(struct sn_grpc_stream *s, const struct ProtobufCMessage *message,
		struct sn_str bytes, struct sn_str *ret_kept)
{
	size_t before = s->kept.len, size = 0;
	int r = sn__buf_append(&s->kept, &size, sizeof(size));

	if (r == 0 && message != NULL)
		r = sn__protobuf_pack(message, &s->kept);
	else if (r == 0)
		r = sn__buf_append_str(&s->kept, bytes);
	if (r < 0) {
		sn__buf_truncate(&s->kept, before);
		return r;
	}
	ret_kept->len = size = s->kept.len - before - sizeof(size);
	ret_kept->ptr = s->kept.block + s->kept.head + before + sizeof(size);
	memcpy(s->kept.block + s->kept.head + before, &size, sizeof(size));
	return 0;
}

/* No attempt is under way: the message waits. */
static int send_later(struct sn_grpc_stream *s, const struct ProtobufCMessage *message,
		struct sn_str bytes)
{
	size_t before = s->kept.len;
	struct sn_str kept;
	int r = keep(s, message, bytes, &kept);

	if (r < 0)
		return r;
	if (before > 0 && s->kept.len > WAITING_MAX) {
		sn__buf_truncate(&s->kept, before);
		return SN_E_LIMIT;
	}
	if (s->kept.len < WAITING_HIGH)
		return 0;
	s->drain_due = true;
	return SN_E_AGAIN;
}

static int send_now(struct sn_grpc_stream *s, const struct ProtobufCMessage *message,
		struct sn_str bytes)
{
	size_t before = s->kept.len;
	struct sn_str kept;
	int r = SN_E_LIMIT;

	if (s->gc.call.answered && !s->lost)
		lose(s);
	if (!s->lost)
		r = keep(s, message, bytes, &kept);
	if (r == 0) {
		r = sn__grpc_send(&s->gc.req, kept);
		if (r < 0 && r != SN_E_AGAIN)
			sn__buf_truncate(&s->kept, before);
		else if (s->kept.len > s->gc.call.policy->retry_buffer)
			lose(s);
		return r;
	}
	if (!s->lost && r != SN_E_LIMIT)
		return r;
	r = message != NULL ? sn__grpc_send_message(&s->gc.req, message)
			    : sn__grpc_send(&s->gc.req, bytes);
	if (r == 0 || r == SN_E_AGAIN)
		lose(s);
	return r;
}

int sn_grpc_stream_send(struct sn_grpc_stream *s, const struct ProtobufCMessage *message,
		const void *bytes, size_t size)
{
	struct sn_str data = {bytes, size};

	if (s->ended || s->over || s->cancelled)
		return SN_E_STATE;
	if (s->gc.in_flight)
		return send_now(s, message, data);
	return s->lost ? SN_E_STATE : send_later(s, message, data);
}

void sn_grpc_stream_end(struct sn_grpc_stream *s)
{
	if (s->ended || s->over)
		return;
	s->ended = true;
	if (s->gc.in_flight)
		sn__grpc_end(&s->gc.req);
}

/* ---- the attempt ---- */

static void drain_run(struct sn_task *task)
{
	struct sn_grpc_stream *s = SN_CONTAINER_OF(task, struct sn_grpc_stream, drain_task);

	s->drain_due = false;
	if (!s->cancelled && s->fns->on_drain != NULL)
		s->fns->on_drain(s, s->arg);
}

/* What was sent so far, to the peer of this attempt. */
static int on_start(struct sn_grpc_call *gc)
{
	struct sn_grpc_stream *s = stream_of(gc);
	struct sn_str left = sn__buf_str(&s->kept), message;
	int r = 0;

	while (left.len > 0 && (r == 0 || r == SN_E_AGAIN)) {
		memcpy(&message.len, left.ptr, sizeof(message.len));
		message.ptr = left.ptr + sizeof(message.len);
		r = sn__grpc_send(&gc->req, message);
		left.ptr = message.ptr + message.len;
		left.len -= sizeof(message.len) + message.len;
	}
	if (r < 0 && r != SN_E_AGAIN)
		return r;
	if (s->drain_due && r == 0)
		sn__loop_defer(loop_of(s), &s->drain_task, drain_run);
	if (s->kept.len > gc->call.policy->retry_buffer)
		lose(s);
	if (s->ended)
		sn__grpc_end(&gc->req);
	if (s->paused)
		sn__grpc_pause(&gc->req, true);
	return 0;
}

static void on_head(struct sn_grpc_call *gc)
{
	struct sn_grpc_stream *s = stream_of(gc);

	lose(s);
	if (s->fns->on_header != NULL)
		s->fns->on_header(s, s->arg);
}

static int on_message(struct sn_grpc_call *gc, struct sn_str message)
{
	struct sn_grpc_stream *s = stream_of(gc);

	s->fns->on_message(s, message.ptr != NULL ? message.ptr : "", message.len, s->arg);
	return 0;
}

static void on_drain(struct sn_grpc_call *gc)
{
	struct sn_grpc_stream *s = stream_of(gc);

	s->drain_due = false;
	if (s->fns->on_drain != NULL)
		s->fns->on_drain(s, s->arg);
}

static void on_done(struct sn_grpc_call *gc, const struct sn_error *err)
{
	struct sn_grpc_stream *s = stream_of(gc);

	s->over = true;
	sn__loop_undefer(loop_of(s), &s->drain_task);
	s->fns->on_end(s, err, s->arg);
	stream_free(s);
}

static const struct sn_grpc_call_ops call_ops = {
		.on_start = on_start,
		.on_head = on_head,
		.on_message = on_message,
		.on_drain = on_drain,
		.on_done = on_done,
};

/* ---- the whole ---- */

static int stream_start(struct sn_runtime *rt, struct sn_grpc_stream *s, struct sn_target *target,
		const char *method, const struct sn_grpc_options *opts, struct sn_error *err)
{
	int r;

	sn__grpc_text_init(&s->text);
	sn__grpc_answer_init(&s->answer);
	sn__buf_init(&s->kept, SIZE_MAX / 2);
	r = sn__grpc_text_fill(&s->text, method, false, NULL, opts, err);
	if (r < 0)
		return r;
	s->gc.ops = &call_ops;
	s->gc.target = target;
	s->gc.text = &s->text;
	s->gc.answer = &s->answer;
	s->gc.streams = true;
	return sn__grpc_call_start(rt, &s->gc, err);
}

/* Between enter and leave. */
static int stream_open(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, const char *method, const struct sn_grpc_options *opts,
		const struct sn_grpc_stream_fns *fns, void *arg, struct sn_grpc_stream **ret_stream,
		struct sn_error *err)
{
	struct sn_target *target;
	struct sn_grpc_stream *s;
	int r;

	if (!sn__loop_is_here(rt->loop))
		return sn__error_set(err, SN_E_STATE,
				"a stream is opened on the loop's thread: see sn_post()");
	r = sn__grpc_target(rt, kind, name, endpoint, &target, err);
	if (r < 0)
		return r;
	s = sn__calloc(1, sizeof(*s));
	if (s == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	s->fns = fns;
	s->arg = arg;
	r = stream_start(rt, s, target, method, opts, err);
	if (r < 0) {
		stream_free(s);
		return r;
	}
	*ret_stream = s;
	return 0;
}

int sn_grpc_stream_open(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, const char *method, const struct sn_grpc_options *opts,
		const struct sn_grpc_stream_fns *fns, void *arg, struct sn_grpc_stream **ret_stream,
		struct sn_error **ret_error)
{
	struct sn_error err;
	int r = sn__enter(rt);

	if (r < 0) {
		sn__error_set(&err, r, "%s", sn_strerror(r));
	} else {
		r = stream_open(rt, kind, name, endpoint, method, opts, fns, arg, ret_stream, &err);
		sn__leave(rt);
	}
	if (r < 0)
		sn__error_give(&err, ret_error);
	return r;
}

void sn_grpc_stream_pause(struct sn_grpc_stream *s, bool pause)
{
	s->paused = pause;
	if (s->gc.in_flight)
		sn__grpc_pause(&s->gc.req, pause);
}

void sn_grpc_stream_cancel(struct sn_grpc_stream *s)
{
	if (s->over)
		return;
	s->cancelled = true;
	sn__grpc_call_cancel(&s->gc);
}

const void *sn_grpc_stream_header(
		const struct sn_grpc_stream *s, const char *name, size_t *ret_size)
{
	return sn__grpc_fields_find(&s->answer.header, name, ret_size);
}

const void *sn_grpc_stream_trailer(
		const struct sn_grpc_stream *s, const char *name, size_t *ret_size)
{
	const char *text = s->answer.status.text;

	if (strcmp(name, "grpc-message") != 0)
		return sn__grpc_fields_find(&s->answer.trailer, name, ret_size);
	if (ret_size != NULL && text != NULL)
		*ret_size = strlen(text);
	return text; /* decoded, and also where there was none on the wire */
}
