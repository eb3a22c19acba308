/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the HTTP server that speak HTTP/2; exchange_h2.c is what their answers are.
 *
 * What the session tells while it reads changes only the exchange and marks it dirty; on_pump, behind
 * the reading, lets every dirty one go on (look), so that a request which is reset in the same
 * breath costs no handler any work. Only pieces of a body go to their reader at once, for they lie
 * in the session's input. Behind the writing on_pumped looks again (who waits for drain, whose last
 * byte is out) and sets the timers, so that a request that is answered at once never has one.
 *
 * An exchange ends, and returns to the pool, only in these two and in on_gone. What a user's function
 * does to this or another exchange marks it dirty again.
 */
#include "base/mem.h"
#include "io/h2.h"
#include "io/http_server_impl.h"

#define STEPS 64 /* of an exchange in one look */

void sn__h2_server_touch(struct sn_exchange *x)
{
	struct h2_conn *s = x->conn->h2;

	sn_list_remove(&x->dirty);
	sn_list_push_back(&s->dirty, &x->dirty);
	sn__h2_kick(s->h2);
}

/* ---- exchanges ---- */

static bool is_broken(const struct sn_exchange *x)
{
	return x->failed != 0 || x->conn->failed != 0;
}

/* What no handler may see. */
static unsigned unfit(const struct sn_http_server *server, const struct sn_http_head *head,
		unsigned flags)
{
	size_t size = head->method.len + head->target.len;

	for (unsigned i = 0; i < head->n_headers; i++)
		size += head->headers[i].name.len + head->headers[i].value.len + 32;
	if ((flags & SN_H2_TOO_LARGE) || size > server->config.max_head)
		return 431;
	if (head->target.len > SN_HTTP_TARGET_MAX)
		return 414;
	if (flags & SN_H2_TWO_HOSTS || !sn__http_method_valid(head->method) ||
			(!sn_str_eq(head->method, SN_STR("CONNECT")) &&
					!sn__http_target_valid(head->target)))
		return 400;
	if (head->upgrade && !sn__http_header_valid(*sn__http_find(head, "upgrade"), SN_STR("")))
		return 400;
	return 0;
}

static int keep_head(struct sn_exchange *x, const struct sn_http_head *head)
{
	struct sn_http_head *to = &x->parser.head;

	if (x->refused == 0)
		return sn__exchange_copy_head(x, head);
	to->method = SN_STR("");
	if (sn_str_eq(head->method, SN_STR("HEAD")))
		to->method = SN_STR("HEAD");
	to->target = to->method;
	to->n_headers = 0;
	to->has_length = to->expect_continue = to->upgrade = false;
	return 0;
}

static int exchange_open(
		struct h2_conn *s, int32_t id, const struct sn_http_head *head, unsigned flags)
{
	struct sn_http_server *server = s->c->server;
	struct sn_exchange *x;
	int r = sn__exchange_get(server, &x);

	if (r < 0)
		return r;
	x->conn = s->c;
	x->ops = &sn__exchange_h2;
	x->failed = 0;
	x->id = id;
	x->wait = HTTP_WAIT_NONE;
	x->progress = x->timed_out = x->deferred = x->sent = x->draining = false;
	x->held = x->tail = 0;
	x->refused = (uint16_t)unfit(server, head, flags);
	r = keep_head(x, head);
	if (r < 0) {
		sn__exchange_put(server, x);
		return r;
	}
	x->continue_due = x->parser.head.expect_continue && !(flags & SN_H2_END);
	sn_list_push_back(&s->exchanges, &x->link);
	s->n++;
	s->served = true;
	sn__h2_bind(s->h2, id, x);
	sn__h2_server_touch(x);
	return 0;
}

static void retire(struct sn_exchange *x)
{
	struct http_conn *c = x->conn;

	if (x->id != 0)
		sn__h2_bind(c->h2->h2, x->id, NULL);
	sn__timer_stop(c->server->loop, &x->timer);
	sn_list_remove(&x->dirty);
	sn_list_remove(&x->link);
	sn__exchange_put(c->server, x);
}

/* ---- the rest of a request that was answered early ---- */

/* It is dropped for a while, because clients that are reset in the middle of their sending may lose
 * the answer as well; then RST_STREAM says that there is no need to go on. */
static void drain_end(struct sn_exchange *x)
{
	sn__h2_reset(x->conn->h2->h2, x->id, NGHTTP2_NO_ERROR);
	retire(x);
}

static void on_drain_timer(struct sn_timer *t)
{
	drain_end(SN_CONTAINER_OF(t, struct sn_exchange, timer));
}

static void drain_data(struct sn_exchange *x, size_t n)
{
	x->received += n;
	if (x->received > HTTP_DROP_MAX)
		drain_end(x);
	else
		sn__h2_consume(x->conn->h2->h2, x->id, n);
}

static void drain_begin(struct sn_exchange *x)
{
	struct h2_conn *s = x->conn->h2;

	x->draining = true;
	x->received = 0;
	sn_list_remove(&x->dirty);
	sn_list_remove(&x->link);
	sn_list_push_back(&s->draining, &x->link);
	sn__timer_start(s->c->server->loop, &x->timer, sn_ms_to_ns(HTTP_LINGER_MS), on_drain_timer);
	drain_data(x, x->held);
}

/* The exchange is over; it was in no user's function. */
static void finish(struct sn_exchange *x, int status)
{
	struct h2_conn *s = x->conn->h2;

	sn__exchange_over(x, status);
	s->n--;
	if (status == 0 && !x->body_done && x->id != 0)
		drain_begin(x);
	else
		retire(x);
}

/* ---- exchanges, as they go on ---- */

/* The request cannot be read further: the reader is told @code, the client @status if it can be. */
static void body_failed(struct sn_exchange *x, int code, unsigned status, const char *reason)
{
	sn__exchange_tell(x, code);
	if (is_broken(x))
		return;
	if (x->answer == HTTP_UNANSWERED)
		sn__exchange_refuse(x, status, reason);
	else if (x->answer == HTTP_STREAMING)
		x->ops->fail(x, code);
}

static void begin(struct sn_exchange *x)
{
	if (x->refused == 0)
		sn__exchange_handle(x);
	else
		sn__exchange_refuse(x, x->refused,
				x->refused == 431
						? "the head is too large"
						: "the request contradicts itself or has no path");
}

/* The window is opened again for what was held. */
static void consume(struct sn_exchange *x)
{
	size_t n = x->held;

	x->held = 0;
	if (n > 0 && x->id != 0)
		sn__h2_consume(x->conn->h2->h2, x->id, n);
}

static bool over_limit(struct sn_exchange *x)
{
	uint64_t max = x->collect ? x->collect_max : x->conn->server->config.max_body;

	if (x->received <= max || (x->endless && !x->collect))
		return false;
	body_failed(x, SN_E_LIMIT, 413, "the body is too large");
	return true;
}

/* For the reader, who wants to hear. Whether there was something. */
static bool read_step(struct sn_exchange *x)
{
	struct sn_str piece = sn__buf_str(&x->body);

	if (x->too_large) {
		body_failed(x, SN_E_LIMIT, 413, "the body is too large");
		return true;
	}
	if (x->held > 0) {
		if (over_limit(x))
			return true;
		if (!x->collect) {
			x->reader(x, 0, piece.ptr, piece.len - 1, x->reader_arg);
			sn__buf_clear(&x->body);
		}
		consume(x);
		return true;
	}
	if (!x->body_done)
		return false;
	sn__exchange_tell(x, 0);
	return true;
}

static void timed_out(struct sn_exchange *x)
{
	enum http_wait wait = (enum http_wait)x->wait;

	x->timed_out = false;
	x->wait = HTTP_WAIT_NONE;
	if (wait == HTTP_WAIT_SEND)
		x->ops->fail(x, SN_E_TIMEOUT);
	else if (wait == HTTP_WAIT_BODY && !x->body_done && x->reader != NULL && !x->paused)
		body_failed(x, SN_E_TIMEOUT, 408, "the body did not come in time");
}

/* Whether something was done. */
static bool step(struct sn_exchange *x)
{
	if (x->timed_out) {
		timed_out(x);
		return true;
	}
	if (!x->handed && x->answer == HTTP_UNANSWERED) {
		begin(x);
		return true;
	}
	if (x->drain_due && x->out.len < HTTP_OUT_LOW) {
		x->drain_due = false;
		if (x->on_drain != NULL && x->answer == HTTP_STREAMING) {
			x->on_drain(x, x->on_drain_arg);
			return true;
		}
	}
	if (x->reader != NULL && !x->paused && x->answer != HTTP_ANSWERED)
		return read_step(x);
	return false;
}

/* Whether it goes on. */
static bool look(struct sn_exchange *x)
{
	for (unsigned i = 0; i < STEPS; i++) {
		if (x->sent)
			return true;
		if (is_broken(x)) {
			finish(x, x->failed != 0 ? x->failed : x->conn->failed);
			return false;
		}
		if (!step(x))
			return true;
	}
	sn__h2_server_touch(x);
	return true;
}

static void on_exchange_timer(struct sn_timer *t)
{
	struct sn_exchange *x = SN_CONTAINER_OF(t, struct sn_exchange, timer);

	x->timed_out = true;
	sn__h2_server_touch(x);
}

static void arm(struct sn_exchange *x)
{
	const struct sn_http_server *server = x->conn->server;
	enum http_wait wait = HTTP_WAIT_NONE;

	if (x->sent || x->endless)
		return;
	if (x->out.len > 0)
		wait = HTTP_WAIT_SEND;
	else if (x->reader != NULL && !x->paused && !x->body_done && x->answer != HTTP_ANSWERED)
		wait = HTTP_WAIT_BODY;
	if (wait == HTTP_WAIT_NONE && x->wait != HTTP_WAIT_NONE)
		sn__timer_stop(server->loop, &x->timer);
	else if (wait != x->wait || (wait != HTTP_WAIT_NONE && x->progress))
		sn__timer_start(server->loop, &x->timer,
				sn_ms_to_ns(server->config.idle_timeout_ms), on_exchange_timer);
	x->wait = (uint8_t)wait;
	x->progress = false;
}

/* GOAWAY, and its word is kept: what comes before it is on its way is not handled either, for the
 * client will send it elsewhere. */
static void go(struct h2_conn *s)
{
	s->going = true;
	s->last_id = nghttp2_session_get_last_proc_stream_id(s->h2->session);
	sn__h2_shutdown(s->h2);
}

/* ---- what the session tells ---- */

static void on_head(struct sn_h2 *h2, int32_t id, void *stream, const struct sn_http_head *head,
		unsigned flags)
{
	struct h2_conn *s = h2->arg;

	if (stream != NULL || (flags & SN_H2_TRAILERS))
		return;
	if (s->going && id > s->last_id)
		sn__h2_reset(h2, id, NGHTTP2_REFUSED_STREAM);
	else if (exchange_open(s, id, head, flags) < 0)
		sn__h2_reset(h2, id, NGHTTP2_INTERNAL_ERROR);
}

static void on_data(struct sn_h2 *h2, int32_t id, void *stream, struct sn_str data)
{
	struct sn_exchange *x = stream;
	bool wants = x->reader != NULL && !x->paused;

	if (x->draining) {
		drain_data(x, data.len);
		return;
	}
	if (is_broken(x) || data.len == 0)
		return;
	if (x->answer == HTTP_ANSWERED) {
		x->held += data.len; /* the window stays shut */
		return;
	}
	x->received += data.len;
	x->progress = true;
	x->continue_due = false;
	sn__h2_server_touch(x);
	if (wants && (x->too_large || over_limit(x)))
		return;
	x->held += data.len;
	if (wants && !x->collect && x->held == data.len) {
		x->reader(x, 0, data.ptr, data.len, x->reader_arg);
		consume(x);
		return;
	}
	if (sn__exchange_collect(x, data) < 0)
		body_failed(x, SN_E_NOMEM, 500, "out of memory");
	else if (wants && x->collect)
		consume(x);
}

static void on_end(struct sn_h2 *h2, int32_t id, void *stream)
{
	struct sn_exchange *x = stream;

	x->body_done = true;
	if (!x->draining) {
		sn__h2_server_touch(x);
		return;
	}
	/* curl 7.88, Debian's, does not see that a stream is over when its own last frame ended it: it
	 * waits for something to read. */
	sn__h2_ping(h2);
	retire(x);
}

static void on_close(struct sn_h2 *h2, int32_t id, void *stream, uint32_t error)
{
	struct sn_exchange *x = stream;

	x->id = 0;
	if (x->draining) {
		retire(x);
		return;
	}
	if (x->failed == 0 && !x->sent)
		x->failed = SN_E_RESET;
	sn__h2_server_touch(x);
}

static ssize_t on_read(struct sn_h2 *h2, int32_t id, void *stream, void *out, size_t n,
		unsigned *ret_flags)
{
	struct sn_exchange *x = stream;

	if (is_broken(x))
		return SN_E_AGAIN;
	sn__h2_server_touch(x);
	return sn__exchange_h2_read(x, out, n, ret_flags);
}

static void on_sent(struct sn_h2 *h2, int32_t id, void *stream)
{
	struct h2_conn *s = h2->arg;
	struct sn_exchange *x = stream;

	x->sent = true;
	x->sent_at = UINT64_MAX; /* on_pumped knows */
	sn__timer_stop(s->c->server->loop, &x->timer);
	sn_list_remove(&x->link);
	sn_list_push_back(&s->sending, &x->link);
}

/* Exchanges whose last byte the socket has taken. */
static void finish_sent(struct h2_conn *s)
{
	struct sn_list *node;

	for (node = s->sending.prev; node != &s->sending; node = node->prev) {
		struct sn_exchange *x = SN_CONTAINER_OF(node, struct sn_exchange, link);

		if (x->sent_at != UINT64_MAX)
			break;
		x->sent_at = s->h2->produced;
	}
	while ((node = s->sending.next) != &s->sending) {
		struct sn_exchange *x = SN_CONTAINER_OF(node, struct sn_exchange, link);

		if (x->sent_at > s->h2->written)
			break;
		finish(x, 0);
	}
}

static void on_pump(struct sn_h2 *h2)
{
	struct h2_conn *s = h2->arg;
	struct sn_list *node;

	while ((node = sn_list_pop_front(&s->dirty)) != NULL) {
		struct sn_exchange *x = SN_CONTAINER_OF(node, struct sn_exchange, dirty);

		if (look(x) && sn_list_empty(&x->dirty))
			sn_list_push_back(&s->touched, &x->dirty);
	}
}

static void on_conn_timer(struct sn_timer *t)
{
	struct http_conn *c = SN_CONTAINER_OF(t, struct http_conn, timer);
	struct sn_loop *loop = c->server->loop;
	uint64_t idle_ns = sn_ms_to_ns(c->server->config.idle_timeout_ms);
	uint64_t since_ns = sn__loop_now_ns(loop) - c->h2->idle_since_ns;

	if (c->wait == HTTP_WAIT_IDLE && since_ns < idle_ns) {
		sn__timer_start(loop, t, idle_ns - since_ns, on_conn_timer);
		return;
	}
	if (c->wait == HTTP_WAIT_SEND || c->wait == HTTP_WAIT_LINGER) {
		sn__http_conn_fail(c, SN_E_TIMEOUT);
		sn__h2_fail(c->h2->h2, SN_E_TIMEOUT, "the client does not read");
	} else {
		go(c->h2);
	}
	c->wait = HTTP_WAIT_NONE;
}

static void on_head_timer(struct sn_timer *t)
{
	struct h2_conn *s = SN_CONTAINER_OF(t, struct h2_conn, head_timer);

	sn__h2_terminate(s->h2, NGHTTP2_ENHANCE_YOUR_CALM, SN_E_TIMEOUT,
			"a header block did not come in time");
}

static void arm_conn(struct h2_conn *s)
{
	struct http_conn *c = s->c;
	struct sn_loop *loop = c->server->loop;
	enum http_wait wait = HTTP_WAIT_NONE;

	/* A request that came and went in one pump leaves no other trace. */
	if (s->served || s->n > 0 || c->wait != HTTP_WAIT_IDLE)
		s->idle_since_ns = sn__loop_now_ns(loop);
	s->served = false;
	if (s->h2->dying)
		wait = HTTP_WAIT_LINGER;
	else if (s->h2->out.len > 0)
		wait = HTTP_WAIT_SEND;
	else if (s->n == 0 && !s->going)
		wait = HTTP_WAIT_IDLE;
	if (wait == HTTP_WAIT_NONE && c->wait != HTTP_WAIT_NONE)
		sn__timer_stop(loop, &c->timer);
	else if (wait != c->wait || (wait == HTTP_WAIT_SEND && s->h2->written != s->written))
		sn__timer_start(loop, &c->timer,
				sn_ms_to_ns(wait == HTTP_WAIT_LINGER
								? HTTP_LINGER_MS
								: c->server->config
										  .idle_timeout_ms),
				on_conn_timer);
	c->wait = (uint8_t)wait;
	s->written = s->h2->written;
	if (s->h2->head_id == s->head_id)
		return;
	s->head_id = s->h2->head_id;
	sn__timer_stop(loop, &s->head_timer);
	if (s->head_id != 0)
		sn__timer_start(loop, &s->head_timer,
				sn_ms_to_ns(c->server->config.head_timeout_ms), on_head_timer);
}

static void on_pumped(struct sn_h2 *h2)
{
	struct h2_conn *s = h2->arg;
	struct sn_list *node;

	/* Not what is marked from here on: it is for the next pump. */
	sn_list_splice_back(&s->touched, &s->dirty);
	while ((node = sn_list_pop_front(&s->touched)) != NULL) {
		struct sn_exchange *x = SN_CONTAINER_OF(node, struct sn_exchange, dirty);

		if (look(x))
			arm(x);
	}
	finish_sent(s);
	arm_conn(s);
}

static int why(const struct sn_h2 *h2)
{
	return h2->failed == SN_E_TIMEOUT || h2->failed == SN_E_NOMEM ? h2->failed : SN_E_RESET;
}

static void on_gone(struct sn_h2 *h2)
{
	struct h2_conn *s = h2->arg;
	struct http_conn *c = s->c;
	bool linger = c->failed == 0 && (h2->dying || h2->failed == SN_E_EOF);

	finish_sent(s);
	sn__http_conn_fail(c, why(h2));
	while (!sn_list_empty(&s->draining))
		retire(SN_CONTAINER_OF(s->draining.next, struct sn_exchange, link));
	sn_list_splice_back(&s->exchanges, &s->sending);
	while (!sn_list_empty(&s->exchanges))
		finish(SN_CONTAINER_OF(s->exchanges.next, struct sn_exchange, link), c->failed);
	sn__timer_stop(c->server->loop, &c->timer);
	sn__timer_stop(c->server->loop, &s->head_timer);
	c->h2 = NULL;
	sn__free(s);
	if (linger) {
		sn__http_conn_linger(c, sn__h2_release(h2));
		return;
	}
	sn__h2_close(h2, -1);
	sn__http_conn_free(c);
}

static const struct sn_h2_ops ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_end = on_end,
		.on_close = on_close,
		.read = on_read,
		.on_sent = on_sent,
		.on_gone = on_gone,
		.on_pump = on_pump,
		.on_pumped = on_pumped,
};

/* ---- from outside ---- */

void sn__h2_server_look(struct http_conn *c)
{
	struct h2_conn *s = c->h2;

	if (s->h2->told)
		return;
	if (c->failed != 0) {
		sn__h2_fail(s->h2, c->failed, "the server broke it off");
	} else if (c->server->closing && !s->going) {
		go(s);
	}
}

static int session_open(struct h2_conn *s)
{
	struct sn_http_server *server = s->c->server;
	struct sn_h2_config config = {.server = true,
			.ops = &ops,
			.arg = s,
			.max_streams = server->config.max_streams,
			.stream_window = HTTP_H2_WINDOW,
			.ping_ms = server->config.ping_ms,
			.ping_timeout_ms = server->config.ping_timeout_ms,
			.ping_idle = true,
			.extended_connect = server->config.extended_connect};
	int r = 0;

	if (server->h2_scratch == NULL)
		r = sn__h2_scratch_create(&server->h2_scratch);
	if (r < 0)
		return r;
	config.scratch = server->h2_scratch;
	return sn__h2_open(&config, s->c->stream, &s->h2);
}

int sn__h2_server_start(struct http_conn *c, struct sn_str first)
{
	struct h2_conn *s = sn__calloc(1, sizeof(*s));
	int r = s != NULL ? 0 : SN_E_NOMEM;

	if (r < 0)
		return r;
	s->c = c;
	sn_list_init(&s->exchanges);
	sn_list_init(&s->sending);
	sn_list_init(&s->draining);
	sn_list_init(&s->dirty);
	sn_list_init(&s->touched);
	r = session_open(s);
	if (r < 0) {
		sn__free(s);
		return r;
	}
	c->h2 = s;
	c->stream = NULL; /* the session's */
	c->phase = HTTP_H2;
	c->wait = HTTP_WAIT_NONE;
	sn__timer_stop(c->server->loop, &c->timer);
	sn__loop_undefer(c->server->loop, &c->task);
	sn__h2_feed(s->h2, first);
	return 0;
}
