/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket handshakes: dialling as a client, accepting as a server. See ws_impl.h. */
#include "base/mem.h"
#include "io/resolve.h"
#include "io/ws_impl.h"
#include "proto/url.h"
#include "proto/ws_handshake.h"

#define READ_SIZE 4096

enum opening_step {
	OPENING_RESOLVE,
	OPENING_RESOLVED,
	OPENING_CONNECT,
	OPENING_TLS,
	OPENING_ANSWER
};

struct ws_opening {
	struct sn_ws *ws;
	struct sn_resolve resolve;
	struct sn_http1_parser parser;
	struct sn_tls *tls; /* NULL: plain */
	char *host;         /* without brackets */
	char *authority;    /* of the Host header */
	char *target;
	uint16_t port;
	uint8_t step;
	int resolve_status;
	unsigned events; /* of the stream, not yet looked at */
	unsigned next_addr;
	char key[SN_WS_KEY_LEN + 1];
};

/* ---- clients ---- */

static void on_opening_stream(struct sn_stream *s, unsigned events, void *arg)
{
	struct sn_ws *ws = arg;

	ws->opening->events |= events;
	sn__ws_pump(ws);
}

static void on_resolved(struct sn_resolve *op, int status)
{
	struct ws_opening *o = SN_CONTAINER_OF(op, struct ws_opening, resolve);

	o->step = OPENING_RESOLVED;
	o->resolve_status = status;
	sn__ws_pump(o->ws);
}

static void on_open_timeout(struct sn_timer *t)
{
	struct sn_ws *ws = SN_CONTAINER_OF(t, struct sn_ws, timer);
	static const char *const doing[] = {"resolving the name", "connecting", "connecting",
			"the TLS handshake", "the WebSocket handshake"};

	sn__ws_fail(ws, SN_E_TIMEOUT, 0, "%s:%u: %s took longer than %u ms", ws->opening->host,
			ws->opening->port, doing[ws->opening->step], ws->opts.open_timeout_ms);
	sn__ws_pump(ws);
}

/* The next address, or the end: @err says what the last one met. */
static void connect_next(struct sn_ws *ws, const struct sn_error *last)
{
	struct ws_opening *o = ws->opening;
	struct sn_error err;

	while (o->next_addr < o->resolve.n_addrs) {
		const struct sn_addr *addr = &o->resolve.addrs[o->next_addr++];

		if (sn__stream_connect(ws->loop, addr, on_opening_stream, ws, &ws->stream, &err) ==
				0) {
			o->step = OPENING_CONNECT;
			return;
		}
		last = &err;
	}
	if (last != NULL)
		sn__ws_fail(ws, last->code, last->foreign, "%s", last->text);
	else
		sn__ws_fail(ws, SN_E_RESOLVE, 0, "%s has no address", o->host);
}

static void send_request(struct sn_ws *ws)
{
	struct ws_opening *o = ws->opening;
	uint8_t nonce[16];
	int r = sn__random_bytes(nonce, sizeof(nonce));

	if (r == 0) {
		sn__ws_key(nonce, o->key);
		r = sn__ws_put_request(&ws->out, sn_str_from(o->target), sn_str_from(o->authority),
				o->key, ws->opts.token);
	}
	if (r < 0) {
		sn__ws_fail(ws, r, 0, "cannot write the handshake: %s", sn_strerror(r));
		return;
	}
	sn__http1_init(&o->parser, true, NULL);
	o->step = OPENING_ANSWER;
	o->events = SN_WRITABLE;
}

static void connected(struct sn_ws *ws)
{
	struct ws_opening *o = ws->opening;
	struct sn_stream *tls;
	struct sn_error err;

	if (o->step == OPENING_TLS || o->tls == NULL) {
		send_request(ws);
		return;
	}
	if (sn__tls_client(o->tls, ws->stream, o->host, on_opening_stream, ws, &tls, &err) < 0) {
		sn__ws_fail(ws, err.code, err.foreign, "%s", err.text);
		return;
	}
	ws->stream = tls;
	o->step = OPENING_TLS;
}

static void stream_failed(struct sn_ws *ws)
{
	struct ws_opening *o = ws->opening;
	const struct sn_error *err = sn__stream_error(ws->stream);
	struct sn_error last = {.code = SN_E_CONNECT, .text = "connection failed"};

	if (err != NULL) { /* a stream's error has no attempts */
		last.code = err->code;
		last.foreign = err->foreign;
		memcpy(last.text, err->text, sizeof(last.text));
	}
	sn__stream_close(ws->stream, false);
	ws->stream = NULL;
	if (o->step == OPENING_CONNECT)
		connect_next(ws, &last);
	else
		sn__ws_fail(ws, last.code, last.foreign, "%s", last.text);
}

static void write_request(struct sn_ws *ws)
{
	while (ws->out.len > 0 && ws->failed == 0) {
		struct sn_str v = sn__buf_str(&ws->out);
		ssize_t n = sn__stream_write(ws->stream, &v, 1);

		if (n == SN_E_AGAIN)
			return;
		if (n < 0)
			sn__ws_fail(ws, (int)n, 0, "the connection broke during the handshake");
		else
			sn__buf_consume(&ws->out, (size_t)n);
	}
	sn__buf_release_if_empty(&ws->out);
}

/* Whether the answer was good: then what came behind it is in ws->in. */
static bool parse_answer(struct sn_ws *ws)
{
	struct ws_opening *o = ws->opening;
	enum sn_http1_event e;
	struct sn_error err;
	size_t used;

	do {
		e = sn__http1_next(&o->parser, sn__buf_str(&ws->in), &used);
		if (e == SN_HTTP1_HEAD &&
				sn__ws_check_response(&o->parser.head, o->key, &err) < 0) {
			sn__ws_fail(ws, err.code, err.foreign, "%s", err.text);
			return false;
		}
		sn__buf_consume(&ws->in, used);
	} while (e == SN_HTTP1_INFO);
	if (e == SN_HTTP1_ERROR)
		sn__ws_fail(ws, SN_E_PROTOCOL, 0, "the answer to the handshake is not HTTP: %s",
				o->parser.reason);
	return e == SN_HTTP1_HEAD;
}

static bool read_answer(struct sn_ws *ws)
{
	for (;;) {
		char *space;
		ssize_t n;
		int r = sn__buf_reserve(&ws->in, READ_SIZE, &space);

		if (r < 0) {
			sn__ws_fail(ws, r, 0, "%s", sn_strerror(r));
			return false;
		}
		n = sn__stream_read(ws->stream, space, READ_SIZE);
		if (n == SN_E_AGAIN)
			return false;
		if (n == 0)
			sn__ws_fail(ws, SN_E_EOF, 0,
					"the peer closed the connection during the handshake");
		else if (n < 0)
			sn__ws_fail(ws, (int)n, 0, "the connection broke during the handshake");
		if (n <= 0)
			return false;
		sn__buf_commit(&ws->in, (size_t)n);
		if (parse_answer(ws))
			return true;
		if (ws->failed != 0)
			return false;
	}
}

void sn__ws_opening_step(struct sn_ws *ws)
{
	struct ws_opening *o = ws->opening;
	unsigned events = o->events;

	o->events = 0;
	if (ws->failed != 0 || o->step == OPENING_RESOLVE)
		return;
	if (o->step == OPENING_RESOLVED) {
		if (o->resolve_status < 0)
			sn__ws_fail(ws, o->resolve_status, 0, "cannot resolve %s: %s", o->host,
					o->resolve.detail != NULL ? o->resolve.detail
								  : sn_strerror(o->resolve_status));
		else
			connect_next(ws, NULL);
		return;
	}
	if (events & SN_STREAM_FAILED) {
		stream_failed(ws);
		return;
	}
	if (events & SN_STREAM_CONNECTED)
		connected(ws);
	if (o->step != OPENING_ANSWER || ws->failed != 0)
		return;
	write_request(ws);
	if (ws->failed == 0 && read_answer(ws)) {
		sn__ws_opening_free(ws);
		sn__ws_opened(ws);
		ws->ops->on_open(ws, ws->arg);
		return;
	}
	if (ws->failed == 0)
		sn__stream_want(ws->stream, SN_READABLE | (ws->out.len > 0 ? SN_WRITABLE : 0));
}

void sn__ws_opening_free(struct sn_ws *ws)
{
	struct ws_opening *o = ws->opening;

	ws->opening = NULL;
	if (o == NULL)
		return;
	sn__resolve_cancel(&o->resolve);
	sn__tls_unref(o->tls);
	sn__free(o->host);
	sn__free(o->authority);
	sn__free(o->target);
	sn__free(o);
}

static int fill_opening(struct sn_ws *ws, const struct sn_url *url, struct sn_tls *tls)
{
	static const struct sn_tls_options defaults;
	struct ws_opening *o = ws->opening;
	struct sn_str target = url->target;

	o->ws = ws;
	o->port = url->port;
	o->host = sn__strndup(url->host.ptr, url->host.len);
	o->authority = sn__strndup(url->authority.ptr, url->authority.len);
	/* "" and "?query" lack the path. */
	if (target.len == 0 || target.ptr[0] != '/')
		o->target = sn__asprintf(
				"/%.*s", (int)target.len, target.len > 0 ? target.ptr : "");
	else
		o->target = sn__strndup(target.ptr, target.len);
	if (o->host == NULL || o->authority == NULL || o->target == NULL)
		return SN_E_NOMEM;
	if (!url->secure)
		return 0;
	if (tls == NULL)
		return sn__tls_create(ws->loop, &defaults, false, &o->tls);
	o->tls = sn__tls_ref(tls);
	return 0;
}

int sn__ws_connect(struct sn_loop *loop, const char *text, struct sn_tls *tls,
		const struct sn_ws_options *opts, const struct sn_ws_ops *ops, void *arg,
		struct sn_ws **ret_ws, struct sn_error *err)
{
	struct sn_url url;
	struct sn_ws *ws;
	int r = sn__url_parse(sn_str_from(text), &url, err);

	if (r < 0)
		return SN_E_INVALID;
	if (!url.websocket)
		return sn__error_set(err, SN_E_INVALID,
				"URL \"%.120s\": must begin with ws:// or wss://", text);
	r = sn__ws_new(loop, true, opts, ops, arg, &ws);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	ws->opening = sn__calloc(1, sizeof(*ws->opening));
	r = ws->opening != NULL ? fill_opening(ws, &url, tls) : SN_E_NOMEM;
	if (r == 0)
		r = sn__resolve(loop, &ws->opening->resolve, ws->opening->host, url.port,
				on_resolved);
	if (r < 0) {
		sn__ws_free(ws);
		return sn__error_set(err, r, "%s", sn_strerror(r));
	}
	sn__timer_start(loop, &ws->timer, sn_ms_to_ns(ws->opts.open_timeout_ms), on_open_timeout);
	*ret_ws = ws;
	return 0;
}

/* ---- servers ---- */

int sn__ws_accept(struct sn_exchange *x, const struct sn_ws_options *opts,
		const struct sn_ws_ops *ops, void *arg, struct sn_ws **ret_ws, struct sn_error *err)
{
	char accept[SN_WS_ACCEPT_LEN + 1];
	const struct sn_header headers[] = {
			{"Upgrade", "websocket"},
			{"Connection", "Upgrade"},
			{"Sec-WebSocket-Accept", accept},
	};
	struct sn_str key;
	struct sn_ws *ws;
	unsigned status;
	int r = sn__ws_check_request(sn__exchange_head(x), &key, &status, err);

	if (r < 0)
		return r;
	r = sn__ws_accept_for(key, accept);
	if (r == 0)
		r = sn__ws_new(sn__exchange_loop(x), false, opts, ops, arg, &ws);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	r = sn_exchange_start(x, 101, headers, SN_COUNT(headers), -1);
	if (r == 0) {
		ws->stream = sn__exchange_take_stream(x, &ws->in, &ws->out);
		if (ws->stream == NULL)
			r = SN_E_RESET;
	}
	if (r < 0) {
		sn__ws_free(ws);
		return sn__error_set(
				err, r, "the handshake cannot be answered: %s", sn_strerror(r));
	}
	sn__ws_opened(ws);
	sn__ws_kick(ws);
	*ret_ws = ws;
	return 0;
}

void sn__ws_refuse(struct sn_exchange *x)
{
	static const struct sn_header headers[] = {
			{"Content-Type", "text/plain"},
			{"Connection", "close"},
			{"Upgrade", "websocket"},
			{"Sec-WebSocket-Version", "13"},
	};
	struct sn_error err = {.text = "not a WebSocket handshake"};
	struct sn_str key;
	unsigned status;

	(void)!sn__ws_check_request(sn__exchange_head(x), &key, &status, &err);
	(void)!sn_exchange_respond(
			x, status, headers, status == 426 ? 4 : 2, err.text, strlen(err.text));
}
