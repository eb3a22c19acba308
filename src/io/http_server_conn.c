/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of the HTTP server: the pump. See http_server_impl.h. */
#include "io/http_server_impl.h"

#include "base/mem.h"

#define AHEAD_MAX (16u << 10)              /* of requests behind the present one */
#define IN_ROOM (HTTP_SCRATCH + AHEAD_MAX) /* beside the longest head */
#define POOL_MAX 64
#define KEEP_BLOCK (16u << 10) /* a buffer of the pool with a greater block gives it back */
#define READS_A_PUMP 8
#define STEPS_A_PUMP 256

static void on_stream(struct sn_stream *s, unsigned events, void *arg);
static void on_task(struct sn_task *task);
static void on_timer(struct sn_timer *t);

/* ---- the pool of exchanges ---- */

void sn__exchange_free(struct sn_exchange *x)
{
	sn__buf_finish(&x->in);
	sn__buf_finish(&x->head);
	sn__buf_finish(&x->out);
	sn__buf_finish(&x->body);
	sn__free(x);
}

static void tidy(struct sn_buf *b, size_t max)
{
	sn__buf_clear(b);
	if (b->cap > KEEP_BLOCK)
		sn__buf_finish(b);
	b->max = max;
}

/* Ready for the next request; what was read ahead stays. */
static void exchange_reset(struct sn_http_server *server, struct sn_exchange *x)
{
	tidy(&x->head, 2 * server->config.max_head + SN_HTTP_TARGET_MAX);
	tidy(&x->out, HTTP_OUT_MAX);
	tidy(&x->body, SIZE_MAX / 2);
	x->path = x->query = "";
	x->reader = NULL;
	x->received = 0;
	x->asked = x->collect = x->paused = x->body_done = x->continue_due = false;
	x->answer = HTTP_UNANSWERED;
	x->handed = x->no_body = x->chunked = x->close_after = x->upgraded = x->drain_due = false;
	x->sized = x->too_large = x->endless = false;
	x->left = 0;
	x->held = x->tail = 0; /* of HTTP/2; the next one may be of HTTP/1.1 */
	x->on_drain = NULL;
	x->on_close = NULL;
	x->watched = NULL;
	x->traced = NULL;
	x->status = 0;
	x->grpc_status = -1;
}

int sn__exchange_get(struct sn_http_server *server, struct sn_exchange **ret_x)
{
	struct sn_list *node = sn_list_pop_front(&server->pool);
	struct sn_exchange *x;

	if (node != NULL) {
		x = SN_CONTAINER_OF(node, struct sn_exchange, link);
		server->n_pool--;
	} else {
		x = sn__calloc(1, sizeof(*x));
		if (x == NULL)
			return SN_E_NOMEM;
		sn_list_init(&x->link);
		sn_list_init(&x->dirty);
		sn__buf_init(&x->in, server->config.max_head + IN_ROOM);
		sn__buf_init(&x->head, 1);
		sn__buf_init(&x->out, 1);
		sn__buf_init(&x->body, 1);
		exchange_reset(server, x);
	}
	*ret_x = x;
	return 0;
}

void sn__exchange_put(struct sn_http_server *server, struct sn_exchange *x)
{
	exchange_reset(server, x);
	tidy(&x->in, server->config.max_head + IN_ROOM);
	if (server->n_pool >= POOL_MAX || server->closing) {
		sn__exchange_free(x);
		return;
	}
	sn_list_push_front(&server->pool, &x->link);
	server->n_pool++;
}

static int exchange_get(struct http_conn *c)
{
	struct sn_http1_limits limits = {.head_size = c->server->config.max_head};
	int r = sn__exchange_get(c->server, &c->x);

	if (r < 0)
		return r;
	c->x->conn = c;
	c->x->ops = &sn__exchange_http1;
	c->x->failed = 0;
	sn__http1_init(&c->x->parser, false, &limits);
	return 0;
}

static void exchange_put(struct http_conn *c)
{
	if (c->x != NULL)
		sn__exchange_put(c->server, SN_TAKE(c->x));
}

/* ---- connections ---- */

int sn__http_conn_open(struct sn_http_server *server, struct sn_stream *stream)
{
	struct http_conn *c = sn__calloc(1, sizeof(*c));
	uint32_t ms = server->config.idle_timeout_ms;
	int r;

	if (c == NULL)
		return SN_E_NOMEM;
	if (server->config.tls != NULL) {
		r = sn__tls_server(server->config.tls, stream, on_stream, c, &stream, NULL);
		if (r < 0) {
			sn__free(c);
			return r;
		}
		ms = server->config.head_timeout_ms; /* for the handshake, too */
	}
	c->server = server;
	c->stream = stream;
	c->phase = HTTP_IDLE;
	sn_list_push_back(&server->conns, &c->link);
	server->n_conns++;
	sn_stream_set_owner(stream, on_stream, c);
	sn__stream_want(stream, SN_READABLE);
	c->wait = HTTP_WAIT_IDLE;
	sn__timer_start(server->loop, &c->timer, sn_ms_to_ns(ms), on_timer);
	return 0;
}

void sn__http_conn_free(struct http_conn *c)
{
	struct sn_http_server *server = c->server;

	exchange_put(c);
	sn__timer_stop(server->loop, &c->timer);
	sn__loop_undefer(server->loop, &c->task);
	sn__stream_close(c->stream, c->failed != 0);
	sn_list_remove(&c->link);
	sn__free(c);
	sn__http_server_left(server);
}

void sn__http_conn_fail(struct http_conn *c, int code)
{
	if (c->failed == 0)
		c->failed = code;
}

void sn__http_conn_kick(struct http_conn *c)
{
	if (c->h2 != NULL)
		sn__h2_server_look(c);
	else if (!c->pumping)
		sn__loop_defer(c->server->loop, &c->task, on_task);
}

static void flush(struct http_conn *c)
{
	struct sn_buf *out = &c->x->out;

	while (out->len > 0 && c->failed == 0) {
		struct sn_str vec = sn__buf_str(out);
		ssize_t n = sn__stream_write(c->stream, &vec, 1);

		if (n == SN_E_AGAIN)
			return;
		if (n < 0) {
			c->failed = SN_E_RESET;
			return;
		}
		sn__buf_consume(out, (size_t)n);
		c->progress = true;
	}
}

/* ---- input ---- */

/* What was read and not yet used: in the scratch block, or kept in the exchange; never in both. */
static struct sn_str input(const struct http_conn *c)
{
	if (c->pumping && c->server->left.len > 0)
		return c->server->left;
	return c->x != NULL ? sn__buf_str(&c->x->in) : (struct sn_str){NULL, 0};
}

static void input_use(struct http_conn *c, size_t n)
{
	struct sn_str *left = &c->server->left;

	if (c->pumping && left->len > 0) {
		left->ptr += n;
		left->len -= n;
	} else if (n > 0) {
		sn__buf_consume(&c->x->in, n);
	}
}

/* Keep what is in the scratch block. */
static int input_keep(struct http_conn *c)
{
	struct sn_str *left = &c->server->left;
	int r = 0;

	if (left->len > 0 && c->x != NULL)
		r = sn__buf_append_str(&c->x->in, *left);
	left->len = 0;
	return r;
}

/* Whether more input came (or its end, or an error: c->eof, c->failed). */
static bool input_more(struct http_conn *c)
{
	struct sn_http_server *server = c->server;
	char *space = server->scratch;
	size_t room = HTTP_SCRATCH;
	ssize_t n;

	/* Readability is always waited for when it is of interest: no need to ask without being told. */
	if (c->eof || c->failed != 0 || !c->readable)
		return false;
	if (++c->reads > READS_A_PUMP) {
		c->rest = true;
		return false;
	}
	if (input_keep(c) < 0) {
		c->failed = SN_E_NOMEM;
		return true;
	}
	if (c->x != NULL && c->x->in.len > 0) {
		room = SN_MIN(c->x->in.max - c->x->in.len, (size_t)AHEAD_MAX);
		if (room == 0)
			return false;
		if (sn__buf_reserve(&c->x->in, room, &space) < 0) {
			c->failed = SN_E_NOMEM;
			return true;
		}
	}
	n = sn__stream_read(c->stream, space, room);
	if (n == SN_E_AGAIN) {
		c->readable = false;
		return false;
	}
	if (n < 0) {
		c->failed = SN_E_RESET;
	} else if (n == 0) {
		c->eof = true;
	} else {
		c->progress = true;
		if (space == server->scratch)
			server->left = (struct sn_str){space, (size_t)n};
		else
			sn__buf_commit(&c->x->in, (size_t)n);
	}
	return true;
}

/* ---- the pump ---- */

/* What every step says. */
enum step { STEP_AGAIN, STEP_WAIT };

/* The request cannot be read further: the reader is told @code, the client @status if it can be. */
static void body_failed(struct http_conn *c, int code, unsigned status, const char *reason)
{
	struct sn_exchange *x = c->x;

	if (c->phase == HTTP_DRAIN) {
		sn__http_conn_fail(c, code);
		return;
	}
	sn__exchange_tell(x, code);
	if (c->failed != 0)
		return;
	if (x->answer == HTTP_UNANSWERED)
		sn__exchange_refuse(x, status, reason);
	else if (x->answer == HTTP_STREAMING)
		sn__http_conn_fail(c, code);
	x->close_after = true;
}

/* The head cannot be read: nothing of it may be used. */
static void refuse_head(struct http_conn *c, unsigned status, const char *reason)
{
	struct sn_http_head *head = &c->x->parser.head;

	head->method = (struct sn_str){"", 0};
	head->keep_alive = false;
	head->minor = 1;
	c->phase = HTTP_EXCHANGE;
	sn__exchange_refuse(c->x, status, reason);
}

static enum step begin_request(struct http_conn *c)
{
	struct sn_exchange *x = c->x;
	const struct sn_http_head *head = &x->parser.head;
	size_t used;

	c->phase = HTTP_EXCHANGE;
	if (!head->chunked && (!head->has_length || head->length == 0)) {
		enum sn_http1_event e = sn__http1_next(&x->parser, (struct sn_str){"", 0}, &used);

		assert(e == SN_HTTP1_END);
		(void)e;
		x->body_done = true;
	}
	x->continue_due = head->expect_continue && !x->body_done;
	sn__exchange_handle(x);
	return STEP_AGAIN;
}

/* Whether it is too early to say, or (c->phase) HTTP/2. */
static bool is_preface(struct http_conn *c)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	struct sn_str in = input(c);

	if (c->server->config.tls != NULL ||
			memcmp(in.ptr, preface, SN_MIN(in.len, sizeof(preface) - 1)) != 0)
		return false;
	if (in.len >= sizeof(preface) - 1)
		c->phase = HTTP_H2;
	return true;
}

static enum step step_head(struct http_conn *c)
{
	bool closing = c->server->closing;
	enum sn_http1_event e;
	struct sn_str in;
	size_t used;

	if ((closing && !c->server->patient) || (c->eof && input(c).len == 0)) {
		c->phase = HTTP_GONE;
		return STEP_WAIT;
	}
	if (input(c).len == 0) {
		if (input_more(c))
			return STEP_AGAIN;
		if (closing)
			c->phase = HTTP_GONE; /* nothing has come before we closed */
		return STEP_WAIT;
	}
	if (c->x == NULL && exchange_get(c) < 0) {
		sn__http_conn_fail(c, SN_E_NOMEM);
		return STEP_AGAIN;
	}
	if (c->phase == HTTP_IDLE)
		c->wait = HTTP_WAIT_NONE; /* the time for this head starts anew */
	c->phase = HTTP_HEAD;
	if (!c->seen && !c->eof && is_preface(c)) {
		if (c->phase == HTTP_H2)
			return STEP_WAIT;
		return input_more(c) ? STEP_AGAIN : STEP_WAIT;
	}
	c->seen = true;
	in = input(c);
	e = sn__http1_next(&c->x->parser, in, &used);
	if (e == SN_HTTP1_HEAD) {
		if (sn__exchange_keep_head(c->x, in.ptr, used) < 0) {
			sn__http_conn_fail(c, SN_E_NOMEM);
			return STEP_AGAIN;
		}
		input_use(c, used);
		return begin_request(c);
	}
	if (e == SN_HTTP1_ERROR) {
		refuse_head(c, c->x->parser.status_hint, c->x->parser.reason);
		return STEP_AGAIN;
	}
	if (c->eof) {
		sn__http_conn_fail(c, SN_E_RESET);
		return STEP_AGAIN;
	}
	return input_more(c) ? STEP_AGAIN : STEP_WAIT;
}

static void take_piece(struct http_conn *c, struct sn_str piece)
{
	struct sn_exchange *x = c->x;
	int r;

	x->received += piece.len;
	if (x->collect) {
		if (x->received > x->collect_max) {
			body_failed(c, SN_E_LIMIT, 413, "the body is too large");
			return;
		}
		r = sn__exchange_collect(x, piece);
		if (r < 0)
			body_failed(c, SN_E_NOMEM, 500, "out of memory");
		return;
	}
	if (x->received > c->server->config.max_body && !x->endless)
		body_failed(c, SN_E_LIMIT, 413, "the body is too large");
	else
		x->reader(x, 0, piece.ptr, piece.len, x->reader_arg);
}

/* Read on in the body: for the reader, or to drop it (no reader). */
static enum step step_body(struct http_conn *c)
{
	struct sn_exchange *x = c->x;
	struct sn_str in = input(c);
	enum sn_http1_event e;
	size_t used;

	e = sn__http1_next(&x->parser, in, &used);
	if (e == SN_HTTP1_MORE) {
		input_use(c, used);
		if (!input_more(c))
			return STEP_WAIT;
		if (c->eof)
			body_failed(c, SN_E_RESET, 400, "the body ended early");
		return STEP_AGAIN;
	}
	if (e == SN_HTTP1_DATA) {
		struct sn_str piece = x->parser.data;

		x->continue_due = false;
		if (x->reader != NULL)
			take_piece(c, piece);
		else
			c->dropped += piece.len;
		input_use(c, used);
		return STEP_AGAIN;
	}
	input_use(c, used);
	if (e == SN_HTTP1_END) {
		x->body_done = true;
		return STEP_AGAIN;
	}
	body_failed(c, SN_E_PROTOCOL, x->parser.status_hint, x->parser.reason);
	return STEP_AGAIN;
}

/* The response is sent. */
static enum step after_response(struct http_conn *c)
{
	struct sn_exchange *x = c->x;
	bool close = x->close_after;
	bool drain = !x->body_done;

	sn__exchange_over(x, 0);
	c->dropped = 0;
	if (close) {
		c->phase = HTTP_LINGER;
		if (c->eof || sn__stream_shutdown(c->stream) < 0)
			c->phase = HTTP_GONE;
		return STEP_AGAIN;
	}
	exchange_reset(c->server, x);
	c->phase = drain ? HTTP_DRAIN : HTTP_IDLE;
	return STEP_AGAIN;
}

static enum step step_exchange(struct http_conn *c)
{
	struct sn_exchange *x = c->x;

	if (x->upgraded) {
		if (c->stream != NULL)
			return STEP_WAIT; /* somebody will take it, or abort */
		sn__exchange_over(x, 0);
		c->phase = HTTP_GONE;
		return STEP_WAIT;
	}
	if (x->drain_due && x->out.len < HTTP_OUT_LOW) {
		x->drain_due = false;
		if (x->on_drain != NULL && x->answer == HTTP_STREAMING) {
			x->on_drain(x, x->on_drain_arg);
			return STEP_AGAIN;
		}
	}
	if (x->answer == HTTP_ANSWERED && x->out.len == 0)
		return after_response(c);
	if (x->reader != NULL && !x->paused && x->answer != HTTP_ANSWERED) {
		if (x->too_large)
			body_failed(c, SN_E_LIMIT, 413, "the body is too large");
		else if (!x->body_done)
			return step_body(c);
		else
			sn__exchange_tell(x, 0);
		return STEP_AGAIN;
	}
	/* Look for the end of the connection, and a little ahead. */
	if (x->body_done && input(c).len < AHEAD_MAX && input_more(c))
		return STEP_AGAIN;
	return STEP_WAIT;
}

static enum step step_drain(struct http_conn *c)
{
	enum step step = step_body(c);

	if (c->x->body_done) {
		exchange_reset(c->server, c->x);
		c->phase = HTTP_IDLE;
	} else if (c->dropped > HTTP_DROP_MAX || c->eof) {
		sn__http_conn_fail(c, SN_E_CLOSED);
	}
	return step;
}

static enum step step_linger(struct http_conn *c)
{
	c->server->left.len = 0;
	exchange_put(c);
	if (input_more(c)) {
		c->dropped += c->server->left.len;
		c->server->left.len = 0;
		if (!c->eof && c->failed == 0 && c->dropped <= HTTP_DROP_MAX)
			return STEP_AGAIN;
		c->phase = HTTP_GONE;
	}
	return STEP_WAIT;
}

static enum step step(struct http_conn *c)
{
	if (c->x != NULL && c->x->out.len > 0 && !c->x->upgraded)
		flush(c);
	if (c->failed != 0) {
		if (c->x != NULL && c->x->handed)
			sn__exchange_over(c->x, c->failed);
		c->phase = HTTP_GONE;
		return STEP_WAIT;
	}
	switch ((enum http_phase)c->phase) {
	case HTTP_IDLE:
	case HTTP_HEAD:
		return step_head(c);
	case HTTP_EXCHANGE:
		return step_exchange(c);
	case HTTP_DRAIN:
		return step_drain(c);
	case HTTP_LINGER:
		return step_linger(c);
	case HTTP_H2:
	case HTTP_GONE:
		break;
	}
	return STEP_WAIT;
}

/* What is waited for, and how long. */
static enum http_wait wait_for(const struct http_conn *c, unsigned *ret_events)
{
	const struct sn_exchange *x = c->x;
	enum http_wait wait = HTTP_WAIT_NONE;

	*ret_events = c->eof ? 0 : SN_READABLE;
	switch ((enum http_phase)c->phase) {
	case HTTP_IDLE:
		return HTTP_WAIT_IDLE;
	case HTTP_HEAD:
		return HTTP_WAIT_HEAD;
	case HTTP_DRAIN:
		return HTTP_WAIT_BODY;
	case HTTP_LINGER:
		return HTTP_WAIT_LINGER;
	default:
		break;
	}
	if (x->upgraded) {
		*ret_events = 0;
		return HTTP_WAIT_NONE;
	}
	if (!x->body_done && x->reader != NULL && !x->paused)
		wait = HTTP_WAIT_BODY;
	else if (!x->body_done || x->in.len >= AHEAD_MAX)
		*ret_events = 0;
	if (x->out.len > 0) {
		*ret_events |= SN_WRITABLE;
		wait = HTTP_WAIT_SEND;
	}
	return x->endless && x->answer != HTTP_ANSWERED ? HTTP_WAIT_NONE : wait;
}

static void arm(struct http_conn *c)
{
	const struct sn_http_server_config *config = &c->server->config;
	unsigned events;
	enum http_wait wait = wait_for(c, &events);
	uint32_t ms = config->idle_timeout_ms;
	bool restart = wait != c->wait ||
			(c->progress && wait != HTTP_WAIT_HEAD && wait != HTTP_WAIT_LINGER);

	sn__stream_want(c->stream, events);
	c->wait = (uint8_t)wait;
	c->progress = false;
	if (wait == HTTP_WAIT_HEAD)
		ms = config->head_timeout_ms;
	if (wait == HTTP_WAIT_LINGER)
		ms = HTTP_LINGER_MS;
	if (wait == HTTP_WAIT_NONE)
		sn__timer_stop(c->server->loop, &c->timer);
	else if (restart)
		sn__timer_start(c->server->loop, &c->timer, sn_ms_to_ns(ms), on_timer);
}

/* What was read so far is given to HTTP/2, and the connection with it. */
static void start_h2(struct http_conn *c)
{
	struct sn_http_server *server = c->server;
	struct sn_str first = input(c);
	struct sn_exchange *x = SN_TAKE(c->x);

	server->left.len = 0;
	c->pumping = false;
	c->seen = true;
	if (sn__h2_server_start(c, first) < 0) {
		c->failed = SN_E_NOMEM;
		sn__http_conn_free(c);
	}
	if (x != NULL)
		sn__exchange_put(server, x);
}

static void pump(struct http_conn *c)
{
	unsigned steps = 0;

	c->pumping = true;
	c->reads = 0;
	c->rest = false;
	while (step(c) == STEP_AGAIN) {
		if (++steps > STEPS_A_PUMP) { /* others have their turn too */
			c->rest = true;
			break;
		}
	}
	if (c->phase == HTTP_H2) {
		start_h2(c);
		return;
	}
	if (c->phase != HTTP_GONE && input_keep(c) < 0)
		sn__http_conn_fail(c, SN_E_NOMEM);
	c->server->left.len = 0;
	c->pumping = false;
	if (c->phase == HTTP_GONE) {
		sn__http_conn_free(c);
		return;
	}
	if (c->phase == HTTP_IDLE && c->x != NULL && c->x->in.len == 0)
		exchange_put(c);
	if (c->rest || c->failed != 0)
		sn__http_conn_kick(c);
	arm(c);
}

static void on_stream(struct sn_stream *s, unsigned events, void *arg)
{
	struct http_conn *c = arg;

	c->readable = c->readable || (events & (SN_READABLE | SN_STREAM_CONNECTED)) != 0;
	if (events & SN_STREAM_FAILED) /* of a TLS handshake */
		sn__http_conn_fail(c, SN_E_RESET);
	if (events & SN_STREAM_CONNECTED && strcmp(sn__tls_alpn(s), "h2") == 0 &&
			!c->server->closing)
		start_h2(c);
	else
		pump(c);
}

static void on_task(struct sn_task *task)
{
	pump(SN_CONTAINER_OF(task, struct http_conn, task));
}

static void on_timer(struct sn_timer *t)
{
	struct http_conn *c = SN_CONTAINER_OF(t, struct http_conn, timer);

	c->pumping = true;
	switch ((enum http_wait)c->wait) {
	case HTTP_WAIT_HEAD:
		refuse_head(c, 408, "the request did not come in time");
		break;
	case HTTP_WAIT_BODY:
		if (c->phase == HTTP_DRAIN)
			sn__http_conn_fail(c, SN_E_TIMEOUT);
		else
			body_failed(c, SN_E_TIMEOUT, 408, "the body did not come in time");
		break;
	case HTTP_WAIT_SEND:
		sn__http_conn_fail(c, SN_E_TIMEOUT);
		break;
	default:
		c->phase = HTTP_GONE;
		break;
	}
	c->pumping = false;
	pump(c);
}

void sn__http_conn_linger(struct http_conn *c, struct sn_stream *stream)
{
	c->stream = stream;
	c->failed = 0;
	c->readable = true;
	c->phase = HTTP_LINGER;
	c->wait = HTTP_WAIT_NONE;
	sn_stream_set_owner(stream, on_stream, c);
	if (sn__stream_shutdown(stream) < 0)
		c->phase = HTTP_GONE;
	sn__http_conn_kick(c);
}

struct sn_stream *sn__exchange_take_stream(
		struct sn_exchange *x, struct sn_buf *rest, struct sn_buf *unsent)
{
	struct http_conn *c = x->conn;
	struct sn_stream *stream = c->stream;
	struct sn_str ahead;

	if (c->h2 != NULL)
		return sn__exchange_h2_stream(x);
	ahead = input(c);
	if (!x->upgraded || stream == NULL || c->failed != 0)
		return NULL;
	if (sn__buf_append_str(unsent, sn__buf_str(&x->out)) < 0 ||
			sn__buf_append_str(rest, ahead) < 0) {
		sn__http_conn_fail(c, SN_E_NOMEM);
		sn__http_conn_kick(c);
		return NULL;
	}
	input_use(c, ahead.len);
	c->stream = NULL;
	sn__timer_stop(c->server->loop, &c->timer);
	sn__stream_want(stream, 0);
	sn__http_conn_kick(c);
	return stream;
}
