/* SPDX-License-Identifier: Apache-2.0 */

/* Messages from WebSockets: one a text frame, answered on the same connection, in the order in which
 * answers come. */

#include "base/mem.h"
#include "dialect/rethink/bridge.h"
#include "io/ws.h"

#define FRAME_MAX \
	(2 * SN_RETHINK_MESSAGE_MAX) /* a message that is too large is answered so (413) */
#define QUEUE_MAX ((size_t)16 << 20) /* bytes a slow client may leave waiting */
#define PING_MS 30000

struct client {
	struct sn_list link;
	struct sn_bridge *bridge;
	struct sn_ws *ws;        /* NULL: gone */
	struct sn_list messages; /* asked.link */
};

struct asked {
	struct sn_bridge_message message;
	struct sn_list link;
	struct client *client; /* NULL: nobody waits any more */
};

static void closing_go_on(struct sn_bridge *b)
{
	void (*closed)(struct sn_bridge * b) = b->ws_closed;

	if (closed == NULL || b->n_clients > 0)
		return;
	b->ws_closed = NULL;
	closed(b);
}

/* ---- connections ---- */

static void failed(struct client *c, int r)
{
	if (r == SN_E_LIMIT)
		sn__ws_close(c->ws, 1013, "too slow");
	else if (r == SN_E_NOMEM)
		sn__ws_close(c->ws, 1011, "out of memory");
}

static void on_answered(struct sn_bridge_message *m, const char *response)
{
	struct asked *a = SN_CONTAINER_OF(m, struct asked, message);
	struct client *c = a->client;

	if (c != NULL) {
		sn_list_remove(&a->link);
		if (response != NULL)
			failed(c, sn__ws_send(c->ws, true, sn_str_from(response)));
	}
	sn__free(a);
}

static void on_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	struct client *c = arg;
	struct asked *a;
	int r;

	if (!text) {
		sn__ws_close(ws, 1003, "a message is a text frame");
		return;
	}
	a = sn__calloc(1, sizeof(*a));
	if (a == NULL) {
		failed(c, SN_E_NOMEM);
		return;
	}
	a->message.answered = on_answered;
	a->client = c;
	r = sn__bridge_ask(c->bridge, &a->message, data);
	if (r == 0) {
		sn_list_push_back(&c->messages, &a->link);
		return;
	}
	sn__free(a);
	if (r == SN_E_CLOSED)
		sn__ws_close(ws, 1001, "the bridge is closing");
	else
		failed(c, SN_E_NOMEM);
}

static void on_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	struct client *c = arg;
	struct sn_bridge *b = c->bridge;

	SN_LIST_FOREACH_SAFE (pos, &c->messages) {
		struct asked *a = SN_CONTAINER_OF(pos, struct asked, link);

		sn_list_remove(&a->link);
		a->client = NULL;
	}
	sn_list_remove(&c->link);
	sn__free(c);
	b->n_clients--;
	closing_go_on(b);
}

static const struct sn_ws_ops ws_ops = {.on_message = on_message, .on_close = on_close};

static void refuse(struct sn_exchange *x, const char *why)
{
	const struct sn_header header = {"Content-Type", "text/plain; charset=utf-8"};

	if (sn_exchange_respond(x, 503, &header, 1, why, strlen(why)) < 0)
		sn_exchange_abort(x);
}

static void handle(struct sn_exchange *x, void *arg)
{
	const struct sn_ws_options opts = {
			.max_message = FRAME_MAX, .max_queue = QUEUE_MAX, .ping_ms = PING_MS};
	struct sn_bridge *b = arg;
	struct sn_error err;
	struct client *c;
	int r;

	if (b->closing || b->part.rt->draining) {
		refuse(x, "the bridge is closing\n");
		return;
	}
	if (b->n_clients >= b->config.websocket.max_connections) {
		refuse(x, "bridge.websocket.max_connections is reached\n");
		return;
	}
	c = sn__calloc(1, sizeof(*c));
	if (c == NULL) {
		refuse(x, "out of memory\n");
		return;
	}
	c->bridge = b;
	sn_list_init(&c->messages);
	r = sn__ws_accept(x, &opts, &ws_ops, c, &c->ws, &err);
	if (r < 0) {
		sn__free(c);
		if (r == SN_E_PROTOCOL)
			sn__ws_refuse(x);
		else if (r == SN_E_NOMEM)
			refuse(x, "out of memory\n");
		return;
	}
	sn_list_push_back(&b->clients, &c->link);
	b->n_clients++;
}

/* ---- opening and closing ---- */

int sn__bridge_ws_open(struct sn_bridge *b, struct sn_error *err)
{
	const struct sn_rethink_websocket *w = &b->config.websocket;
	struct sn_hosting how = {.listen = w->listen,
			.tls_cert = w->cert,
			.tls_key = w->key,
			.handler = handle,
			.arg = b};
	struct sn_hosted *hosted;
	int r;

	how.config.check_origin = true;
	how.config.hosts = w->hosts.items;
	r = sn__hosted_open(b->part.rt, &how, &hosted, err);
	if (r == 0)
		b->server = hosted->server;
	return r;
}

void sn__bridge_ws_notify(struct sn_bridge *b, const char *message)
{
	struct sn_ws_frame *frame;

	if (sn_list_empty(&b->clients))
		return;
	if (sn__ws_frame_create(true, sn_str_from(message), &frame) < 0) {
		sn__log(&b->part.rt->log, SN_LOG_WARNING, "bridge",
				"a change was not told: out of memory");
		return;
	}
	SN_LIST_FOREACH_SAFE (pos, &b->clients) {
		struct client *c = SN_CONTAINER_OF(pos, struct client, link);

		failed(c, sn__ws_send_frame(c->ws, frame));
	}
	sn__ws_frame_unref(frame);
}

void sn__bridge_ws_close(struct sn_bridge *b, void (*closed)(struct sn_bridge *b))
{
	b->ws_closed = closed;
	SN_LIST_FOREACH_SAFE (pos, &b->clients)
		sn__ws_close(SN_CONTAINER_OF(pos, struct client, link)->ws, 1001,
				"the bridge is closing");
	closing_go_on(b);
}
