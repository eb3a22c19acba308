/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of HTTP/2 that an extended CONNECT (RFC 8441) has opened, as a struct sn_stream: who takes
 * an upgraded connection need not know of what version it is.
 *
 * It lies over the exchange: what is read comes from the request's body, what is written goes into
 * the answer's. The former owner of the exchange hears its end in a later turn, as over HTTP/1.1.
 * Between its two ends an exchange over HTTP/2 is over when the answer is: once our side was shut
 * down and sent, what still comes is dropped, and reading says that it is the end.
 */
#include "base/mem.h"
#include "io/h2.h"
#include "io/http_server_impl.h"

#define AHEAD (64u << 10) /* bytes read from the exchange that nobody has taken */

struct exchange_stream {
	struct sn_stream stream; /* first */
	struct sn_exchange *x;   /* NULL: over */
	struct sn_task task;     /* somebody is to be told */
	struct sn_buf in;
	unsigned want;
	int failed;
	bool eof, shut, full, paused;
	bool told; /* the former owner knows */
	sn_exchange_close_fn *on_close;
	void *on_close_arg;
};

static struct exchange_stream *of(struct sn_stream *s)
{
	return SN_CONTAINER_OF(s, struct exchange_stream, stream);
}

static unsigned ready(const struct exchange_stream *es)
{
	unsigned events = 0;

	if (es->in.len > 0 || es->eof || es->failed != 0)
		events |= SN_READABLE;
	if (!es->full || es->failed != 0)
		events |= SN_WRITABLE;
	return events & es->want;
}

static void on_task(struct sn_task *task);

static void settle(struct exchange_stream *es)
{
	if (!es->told || ready(es) != 0)
		sn__loop_defer(es->stream.loop, &es->task, on_task);
}

/* Level-triggered: it comes again as long as there is something. */
static void on_task(struct sn_task *task)
{
	struct exchange_stream *es = SN_CONTAINER_OF(task, struct exchange_stream, task);
	unsigned events = ready(es);

	if (!es->told) {
		es->told = true;
		settle(es);
		if (es->on_close != NULL)
			es->on_close(es->x, 0, es->on_close_arg);
		return;
	}
	if (events == 0)
		return;
	settle(es);
	es->stream.fn(&es->stream, events, es->stream.arg); /* may close it */
}

/* ---- what the exchange tells ---- */

static void on_body(struct sn_exchange *x, int status, const void *data, size_t size, void *arg)
{
	struct exchange_stream *es = arg;

	if (status == 0 && size > 0)
		status = sn__buf_append(&es->in, data, size);
	else if (status == 0 || (status == SN_E_CLOSED && es->shut))
		es->eof = true;
	if (status < 0 && !es->eof)
		es->failed = status == SN_E_NOMEM ? status : SN_E_RESET;
	if (es->in.len >= AHEAD && !es->paused && status == 0) {
		es->paused = true;
		sn_exchange_pause(x, true);
	}
	settle(es);
}

static void on_drain(struct sn_exchange *x, void *arg)
{
	struct exchange_stream *es = arg;

	es->full = false;
	settle(es);
}

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	struct exchange_stream *es = arg;

	if (!es->told) {
		es->told = true;
		if (es->on_close != NULL)
			es->on_close(x, status, es->on_close_arg);
	}
	es->x = NULL;
	if (status == 0 || es->shut)
		es->eof = true;
	else if (es->failed == 0)
		es->failed = SN_E_RESET;
	settle(es);
}

/* ---- what the stream is asked ---- */

static ssize_t stream_read(struct sn_stream *s, void *out, size_t n)
{
	struct exchange_stream *es = of(s);

	if (es->in.len == 0 && es->failed != 0)
		return es->failed;
	if (es->in.len == 0)
		return es->eof ? 0 : SN_E_AGAIN;
	n = SN_MIN(n, es->in.len);
	memcpy(out, sn__buf_data(&es->in), n);
	sn__buf_consume(&es->in, n);
	if (es->paused && es->in.len < AHEAD / 2 && es->x != NULL) {
		es->paused = false;
		sn_exchange_pause(es->x, false);
	}
	return (ssize_t)n;
}

static ssize_t stream_write(struct sn_stream *s, const struct sn_str *vec, unsigned n_vec)
{
	struct exchange_stream *es = of(s);
	ssize_t taken = 0;

	if (es->x == NULL || es->shut || es->failed != 0)
		return es->failed != 0 ? es->failed : SN_E_RESET;
	for (unsigned i = 0; i < n_vec && !es->full; i++) {
		int r = sn_exchange_write(es->x, vec[i].ptr, vec[i].len);

		es->full = r == SN_E_AGAIN;
		if (r < 0 && r != SN_E_AGAIN)
			return taken > 0 ? taken : r == SN_E_NOMEM ? r : SN_E_RESET;
		taken += (ssize_t)vec[i].len;
	}
	return taken > 0 ? taken : SN_E_AGAIN;
}

static void stream_want(struct sn_stream *s, unsigned events)
{
	struct exchange_stream *es = of(s);

	es->want = events;
	settle(es);
}

static int stream_shutdown(struct sn_stream *s)
{
	struct exchange_stream *es = of(s);

	if (es->x == NULL)
		return SN_E_RESET;
	if (es->shut)
		return 0;
	es->shut = true;
	return sn_exchange_end(es->x, NULL, 0);
}

static void stream_close(struct sn_stream *s, bool reset)
{
	struct exchange_stream *es = of(s);
	struct sn_exchange *x = es->x;

	if (x != NULL) {
		/* Nobody hears of it any more but the former owner, who may not have yet. */
		x->reader = NULL;
		x->on_drain = NULL;
		x->on_close = es->told ? NULL : es->on_close;
		x->on_close_arg = es->on_close_arg;
		if (reset || stream_shutdown(s) < 0)
			sn_exchange_abort(x);
	}
	sn__loop_undefer(s->loop, &es->task);
	sn__stream_error_finish(s);
	sn__buf_finish(&es->in);
	sn__free(es);
}

static const struct sn_stream_ops stream_ops = {
		.read = stream_read,
		.write = stream_write,
		.want = stream_want,
		.shutdown = stream_shutdown,
		.close = stream_close,
};

struct sn_stream *sn__exchange_h2_stream(struct sn_exchange *x)
{
	struct exchange_stream *es;

	if (!x->upgraded || x->failed != 0 || x->conn->failed != 0)
		return NULL;
	es = sn__calloc(1, sizeof(*es));
	if (es == NULL) {
		x->ops->fail(x, SN_E_NOMEM);
		return NULL;
	}
	es->stream.ops = &stream_ops;
	es->stream.loop = x->conn->server->loop;
	es->stream.peer = x->conn->h2->h2->stream->peer;
	es->x = x;
	es->on_close = x->on_close;
	es->on_close_arg = x->on_close_arg;
	sn__buf_init(&es->in, AHEAD + (1u << 20)); /* a piece may be a whole window */
	x->upgraded = false; /* from here on it is an exchange with two bodies */
	sn__exchange_endless(x);
	if (sn_exchange_read(x, on_body, es) < 0) {
		sn__free(es);
		sn_exchange_abort(x);
		return NULL;
	}
	x->on_close = on_close;
	x->on_close_arg = es;
	x->on_drain = on_drain;
	x->on_drain_arg = es;
	settle(es);
	return &es->stream;
}
