/* SPDX-License-Identifier: Apache-2.0 */

/* Messages from the event bus of Vert.x, by its TCP bridge: frames of four bytes (length, the greatest
 * first) and a JSON object. We register the connector's address and answer to each message's
 * replyAddress, in the form it came in: an object, or text that holds one. */

#include <arpa/inet.h>
#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "dialect/rethink/bridge.h"
#include "io/resolve.h"
#include "io/stream.h"

#define FRAME_MAX \
	(4 * SN_RETHINK_MESSAGE_MAX) /* a message as text, escaped, and what is around it */
#define OUT_MAX ((size_t)64 << 20)
#define READ_SIZE ((size_t)64 << 10)
#define CONNECT_NS (5 * SN_NS_PER_S)
#define PING_NS (5 * SN_NS_PER_S)
#define SILENT_PINGS 3u
#define BACKOFF_FIRST_NS (100 * SN_NS_PER_MS)
#define BACKOFF_MAX_NS (10 * SN_NS_PER_S)

struct sn_bridge_vertx {
	struct sn_bridge *bridge;
	struct sn_resolve resolve;
	struct sn_stream *stream; /* NULL: none */
	struct sn_timer timer;    /* to the next attempt, or of this one */
	struct sn_timer ping;
	struct sn_buf in, out;
	struct sn_list messages; /* asked.link */
	unsigned failures;       /* in a row */
	unsigned unanswered;     /* pings */
	bool up, told;
};

struct asked {
	struct sn_bridge_message message;
	struct sn_list link;
	struct sn_bridge_vertx *v; /* NULL: that connection is gone */
	char *reply;               /* address; NULL: nobody waits */
	bool as_text;
};

static struct sn_loop *loop_of(const struct sn_bridge_vertx *v)
{
	return v->bridge->part.rt->loop;
}

static struct sn_log *log_of(const struct sn_bridge_vertx *v)
{
	return &v->bridge->part.rt->log;
}

/* ---- the connection ---- */

static void begin(struct sn_timer *timer);

static void let_go(struct sn_bridge_vertx *v)
{
	SN_LIST_FOREACH_SAFE (pos, &v->messages) {
		struct asked *a = SN_CONTAINER_OF(pos, struct asked, link);

		sn_list_remove(&a->link);
		a->v = NULL;
	}
	sn__timer_stop(loop_of(v), &v->timer);
	sn__timer_stop(loop_of(v), &v->ping);
	sn__stream_close(v->stream, false);
	v->stream = NULL;
	v->up = false;
	sn__buf_clear(&v->in);
	sn__buf_clear(&v->out);
}

static void drop(struct sn_bridge_vertx *v, const char *why)
{
	uint64_t pause_ns = BACKOFF_FIRST_NS << SN_MIN(v->failures, 10u);

	let_go(v);
	sn__log(log_of(v), v->told ? SN_LOG_DEBUG : SN_LOG_WARNING, "bridge.vertx",
			"%s:%u: %s; trying again", v->bridge->vertx_host,
			(unsigned)v->bridge->config.vertx.port, why);
	v->told = true;
	v->failures++;
	sn__timer_start(loop_of(v), &v->timer, SN_MIN(pause_ns, BACKOFF_MAX_NS), begin);
}

/* For what the stream says, which goes with it, or for @otherwise. */
static void drop_broken(struct sn_bridge_vertx *v, const char *otherwise)
{
	const struct sn_error *err = v->stream != NULL ? sn__stream_error(v->stream) : NULL;
	char why[SN_ERROR_TEXT_MAX];

	(void)snprintf(why, sizeof(why), "%s", err != NULL ? err->text : otherwise);
	drop(v, why);
}

static void on_broken(struct sn_timer *timer)
{
	drop_broken(SN_CONTAINER_OF(timer, struct sn_bridge_vertx, timer), "the connection broke");
}

static void flush(struct sn_bridge_vertx *v)
{
	while (v->out.len > 0) {
		struct sn_str vec = sn__buf_str(&v->out);
		ssize_t n = sn__stream_write(v->stream, &vec, 1);

		if (n == SN_E_AGAIN)
			break;
		if (n < 0) {
			sn__timer_start(loop_of(v), &v->timer, 0, on_broken);
			return;
		}
		sn__buf_consume(&v->out, (size_t)n);
	}
	sn__stream_want(v->stream, SN_READABLE | (v->out.len > 0 ? SN_WRITABLE : 0u));
}

static void send_frame(struct sn_bridge_vertx *v, struct sn_str json)
{
	uint32_t length = htonl((uint32_t)json.len);
	int r = sn__buf_append(&v->out, &length, sizeof(length));

	if (r == 0)
		r = sn__buf_append_str(&v->out, json);
	if (r == 0)
		flush(v);
	else
		sn__timer_start(loop_of(v), &v->timer, 0, on_broken);
}

/* @body: JSON; NULL: none. */
static void send_to(struct sn_bridge_vertx *v, const char *type, const char *address,
		const char *body, bool as_text)
{
	struct sn_buf out;
	int r;

	sn__buf_init(&out, OUT_MAX);
	r = sn__buf_printf(&out, "{\"type\":\"%s\",\"address\":", type);
	if (r == 0)
		r = sn__json_quote(sn_str_from(address), &out);
	if (r == 0 && body != NULL)
		r = sn__buf_puts(&out, ",\"body\":");
	if (r == 0 && body != NULL)
		r = as_text ? sn__json_quote(sn_str_from(body), &out) : sn__buf_puts(&out, body);
	if (r == 0)
		r = sn__buf_puts(&out, "}");
	if (r == 0)
		send_frame(v, sn__buf_str(&out));
	else
		sn__timer_start(loop_of(v), &v->timer, 0, on_broken);
	sn__buf_finish(&out);
}

static void on_ping(struct sn_timer *timer)
{
	struct sn_bridge_vertx *v = SN_CONTAINER_OF(timer, struct sn_bridge_vertx, ping);

	if (v->unanswered++ == SILENT_PINGS) {
		drop(v, "it does not answer");
		return;
	}
	sn__timer_start(loop_of(v), &v->ping, PING_NS, on_ping);
	send_frame(v, SN_STR("{\"type\":\"ping\"}"));
}

/* ---- messages ---- */

static void on_answered(struct sn_bridge_message *m, const char *response)
{
	struct asked *a = SN_CONTAINER_OF(m, struct asked, message);

	if (a->v != NULL) {
		sn_list_remove(&a->link);
		if (response != NULL && a->reply != NULL)
			send_to(a->v, "send", a->reply, response, a->as_text);
	}
	sn__free(a->reply);
	sn__free(a);
}

static int take_message(struct sn_bridge_vertx *v, const json_t *frame)
{
	const json_t *body = sn__json_get(frame, "body");
	const char *reply = sn__json_str(sn__json_get(frame, "replyAddress"));
	SN_AUTO_FREE char *text = NULL;
	struct asked *a;
	int r;

	text = json_is_string(body)            ? sn__strdup(json_string_value(body))
			: json_is_object(body) ? sn__json_text(body)
					       : sn__strdup("null");
	a = sn__calloc(1, sizeof(*a));
	if (a != NULL && reply != NULL)
		a->reply = sn__strdup(reply);
	if (text == NULL || a == NULL || (reply != NULL && a->reply == NULL)) {
		if (a != NULL)
			sn__free(a->reply);
		sn__free(a);
		return SN_E_NOMEM;
	}
	a->as_text = json_is_string(body);
	a->v = v;
	a->message.answered = on_answered;
	r = sn__bridge_ask(v->bridge, &a->message, sn_str_from(text));
	if (r == 0) {
		sn_list_push_back(&v->messages, &a->link);
		return 0;
	}
	sn__free(a->reply);
	sn__free(a);
	return r == SN_E_CLOSED ? 0 : r;
}

static int take_frame(struct sn_bridge_vertx *v, struct sn_str text)
{
	SN_AUTO_JSON json_t *frame = NULL;
	struct sn_error err;
	const char *type, *why;
	int r = sn__json_parse(text, FRAME_MAX, &frame, &err);

	v->unanswered = 0;
	v->failures = 0;
	if (r == SN_E_NOMEM)
		return r;
	if (r < 0) {
		sn__log(log_of(v), SN_LOG_WARNING, "bridge.vertx", "a frame is no JSON: %s",
				err.text);
		return 0;
	}
	type = sn__json_str(sn__json_get(frame, "type"));
	if (type != NULL && strcmp(type, "message") == 0)
		return take_message(v, frame);
	if (type == NULL || strcmp(type, "err") != 0)
		return 0; /* pong */
	why = sn__json_str(sn__json_get(frame, "message"));
	sn__log(log_of(v), SN_LOG_WARNING, "bridge.vertx", "the event bus says: %.200s",
			why != NULL ? why : "err");
	return 0;
}

/* SN_E_LIMIT: a frame that is too long; SN_E_NOMEM. */
static int take_frames(struct sn_bridge_vertx *v)
{
	int r = 0;

	while (r == 0 && v->in.len >= 4) {
		struct sn_str all = sn__buf_str(&v->in);
		uint32_t n;

		memcpy(&n, all.ptr, sizeof(n));
		n = ntohl(n);
		if (n > FRAME_MAX)
			return SN_E_LIMIT;
		if (all.len - 4 < n)
			break;
		r = take_frame(v, (struct sn_str){all.ptr + 4, n});
		sn__buf_consume(&v->in, 4 + (size_t)n);
	}
	return r;
}

static void on_readable(struct sn_bridge_vertx *v)
{
	char *space;
	ssize_t n;
	int r = sn__buf_reserve(&v->in, READ_SIZE, &space);

	n = r == 0 ? sn__stream_read(v->stream, space, READ_SIZE) : r;
	if (n == SN_E_AGAIN)
		return;
	if (n <= 0) {
		drop(v, n == 0 ? "it has closed the connection" : sn_strerror((int)n));
		return;
	}
	sn__buf_commit(&v->in, (size_t)n);
	r = take_frames(v);
	if (r < 0)
		drop(v,
				r == SN_E_LIMIT ? "a frame is too long: not an event bus?"
						: sn_strerror(r));
}

/* ---- connecting ---- */

static void on_connected(struct sn_bridge_vertx *v)
{
	sn__timer_stop(loop_of(v), &v->timer);
	v->up = true;
	v->told = false;
	v->unanswered = 0;
	sn__log(log_of(v), SN_LOG_INFO, "bridge.vertx", "connected to %s:%u", v->bridge->vertx_host,
			(unsigned)v->bridge->config.vertx.port);
	sn__timer_start(loop_of(v), &v->ping, PING_NS, on_ping);
	send_to(v, "register", v->bridge->address, NULL, false);
}

static void on_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct sn_bridge_vertx *v = arg;

	if (events & SN_STREAM_FAILED) {
		drop_broken(v, "no connection");
		return;
	}
	if (events & SN_STREAM_CONNECTED)
		on_connected(v);
	if (v->stream == s && (events & SN_WRITABLE))
		flush(v);
	if (v->stream == s && (events & SN_READABLE))
		on_readable(v);
}

static void on_slow(struct sn_timer *timer)
{
	drop(SN_CONTAINER_OF(timer, struct sn_bridge_vertx, timer), "no connection within 5 s");
}

static void on_resolved(struct sn_resolve *op, int status)
{
	struct sn_bridge_vertx *v = SN_CONTAINER_OF(op, struct sn_bridge_vertx, resolve);
	struct sn_error err;
	int r;

	if (status < 0) {
		drop(v, op->detail != NULL ? op->detail : sn_strerror(status));
		return;
	}
	r = sn__stream_connect(loop_of(v), &op->addrs[v->failures % op->n_addrs], on_event, v,
			&v->stream, &err);
	if (r < 0)
		drop(v, err.text);
	else
		sn__timer_start(loop_of(v), &v->timer, CONNECT_NS, on_slow);
}

static void begin(struct sn_timer *timer)
{
	struct sn_bridge_vertx *v = SN_CONTAINER_OF(timer, struct sn_bridge_vertx, timer);
	const struct sn_rethink_vertx *c = &v->bridge->config.vertx;
	int r = sn__resolve(loop_of(v), &v->resolve, v->bridge->vertx_host, (uint16_t)c->port,
			on_resolved);

	if (r < 0)
		drop(v, sn_strerror(r));
}

/* ---- for the bridge ---- */

int sn__bridge_vertx_open(struct sn_bridge *b, struct sn_error *err)
{
	struct sn_bridge_vertx *v = sn__calloc(1, sizeof(*v));

	if (v == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	v->bridge = b;
	sn_list_init(&v->messages);
	sn__buf_init(&v->in, FRAME_MAX + 4 + READ_SIZE);
	sn__buf_init(&v->out, OUT_MAX);
	b->vertx = v;
	sn__timer_start(loop_of(v), &v->timer, 0, begin);
	return 0;
}

void sn__bridge_vertx_notify(struct sn_bridge *b, const char *message)
{
	SN_AUTO_JSON json_t *json = NULL;
	const char *to;

	if (b->vertx == NULL || !b->vertx->up ||
			sn__json_parse(sn_str_from(message), SIZE_MAX, &json, NULL) < 0)
		return;
	to = sn__json_str(sn__json_get(json, "to"));
	if (to != NULL)
		send_to(b->vertx, "publish", to, message, false);
}

void sn__bridge_vertx_close(struct sn_bridge *b)
{
	struct sn_bridge_vertx *v = b->vertx;

	if (v == NULL)
		return;
	b->vertx = NULL;
	if (v->up)
		send_to(v, "unregister", b->address, NULL, false);
	sn__resolve_cancel(&v->resolve);
	let_go(v);
	sn__buf_finish(&v->in);
	sn__buf_finish(&v->out);
	sn__free(v);
}
