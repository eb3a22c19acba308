/* SPDX-License-Identifier: Apache-2.0 */

/* The bridge as a part of the runtime: first the connector, then the places; closed so that what is in
 * flight is answered (code 504) while there is still somebody to hear it. */

#include "dialect/rethink/bridge.h"

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"

static struct sn_bridge *bridge_of(struct sn_dialect_part *part)
{
	return SN_CONTAINER_OF(part, struct sn_bridge, part);
}

/* ---- messages ---- */

static void on_response(const char *response, void *arg)
{
	struct sn_bridge_message *m = arg;
	struct sn_runtime *rt = m->bridge->part.rt;

	m->answered(m, response);
	sn__drain_release(rt);
}

int sn__bridge_ask(struct sn_bridge *b, struct sn_bridge_message *m, struct sn_str message)
{
	int r;

	if (b->closing)
		return SN_E_CLOSED;
	m->bridge = b;
	r = sn_rethink_process(b->connector, message.ptr, message.len, on_response, m);
	if (r == 0)
		sn__drain_hold(b->part.rt);
	return r;
}

static void on_notification(const char *message, void *arg)
{
	sn__bridge_ws_notify(arg, message);
	sn__bridge_vertx_notify(arg, message);
}

/* ---- closing ---- */

static void on_ws_closed(struct sn_bridge *b)
{
	sn__runtime_part_closed(b->part.rt);
}

static void on_nats_closed(struct sn_bridge *b)
{
	sn__bridge_ws_close(b, on_ws_closed);
}

static void on_connector_closed(void *arg)
{
	struct sn_bridge *b = arg;

	b->connector = NULL;
	sn__bridge_vertx_close(b);
	sn__bridge_nats_close(b, on_nats_closed);
}

static void begin_close(struct sn_task *task)
{
	struct sn_bridge *b = SN_CONTAINER_OF(task, struct sn_bridge, close_task);

	if (b->connector != NULL)
		sn__rethink_close(b->connector, on_connector_closed, b);
	else
		on_connector_closed(b);
}

static void part_close(struct sn_dialect_part *part)
{
	struct sn_bridge *b = bridge_of(part);

	b->closing = true;
	sn__loop_post(part->rt->loop, &b->close_task, begin_close);
}

static void part_destroy(struct sn_dialect_part *part)
{
	struct sn_bridge *b = bridge_of(part);

	sn__free(b->address);
	sn__free(b->vertx_host);
	sn__bridge_node_free(b);
	sn__free(b);
}

static const struct sn_part_ops part_ops = {
		.name = "rethink.bridge",
		.close = part_close,
		.destroy = part_destroy,
		.turns = true,
};

/* ---- opening ---- */

static int open_connector(struct sn_bridge *b, const struct sn_config *config, struct sn_error *err)
{
	const json_t *section = sn__json_get(config->whole, "bridge");
	SN_AUTO_FREE char *settings = json_is_object(section) ? sn__json_text(section)
							      : sn__strdup("{}");
	struct sn_rethink_options opts = SN_RETHINK_OPTIONS_INIT;
	struct sn_error *why = NULL;
	int r;

	if (settings == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	opts.rt = b->part.rt;
	opts.config = settings;
	opts.environment = true;
	opts.notify = on_notification;
	opts.notify_arg = b;
	r = sn_rethink_open(&opts, &b->connector, &why);
	if (r < 0)
		(void)sn__error_set(err, r, "bridge: %s",
				why != NULL ? sn_error_text(why) : sn_strerror(r));
	sn_error_destroy(why);
	return r;
}

int sn__bridge_open(struct sn_runtime *rt, const struct sn_config *config, const void *section,
		struct sn_error *err)
{
	struct sn_bridge *b;
	int r;

	if (rt->mode == SN_MODE_UV)
		return sn__error_set(err, SN_E_NOTSUP,
				"a bridge does not run on a host's libuv loop: use SN_MODE_THREAD");
	b = sn__calloc(1, sizeof(*b));
	if (b == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	memcpy(&b->config, section, sizeof(b->config));
	sn_list_init(&b->clients);
	sn__runtime_attach(rt, &b->part, &part_ops, false);
	b->address = sn__strdup(b->config.address);
	if (b->config.vertx.host != NULL)
		b->vertx_host = sn__strdup(b->config.vertx.host);
	if (b->address == NULL || (b->config.vertx.host != NULL && b->vertx_host == NULL))
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	r = open_connector(b, config, err);
	if (r == 0 && b->config.websocket.listen != NULL)
		r = sn__bridge_ws_open(b, err);
	if (r == 0 && b->vertx_host != NULL)
		r = sn__bridge_vertx_open(b, err);
	if (r == 0 && b->config.nats_node != NULL)
		r = sn__bridge_nats_open(b, b->config.nats_node, err);
	if (r == 0 && b->config.microhome.broker != NULL)
		r = sn__bridge_node_open(b, err);
	return r;
}

void sn__bridge_tell(struct sn_runtime *rt, void (*line)(void *arg, const char *text), void *arg)
{
	struct sn_dialect_part *part = sn__runtime_dialect(rt, part_ops.name);
	char addr[SN_ADDR_TEXT_MAX], text[SN_ADDR_TEXT_MAX + 64];
	const struct sn_bridge *b;

	if (part == NULL)
		return;
	b = bridge_of(part);
	if (b->nats != NULL) {
		(void)snprintf(text, sizeof(text), "registry connector on NATS");
		line(arg, text);
	}
	if (b->node != NULL) {
		(void)snprintf(text, sizeof(text), "registry connector on \xc2\xb5Home");
		line(arg, text);
	}
	if (b->vertx_host != NULL) {
		(void)snprintf(text, sizeof(text), "registry connector on Vert.x at %.100s:%u",
				b->vertx_host, (unsigned)b->config.vertx.port);
		line(arg, text);
	}
	if (b->server == NULL)
		return;
	(void)snprintf(text, sizeof(text), "registry connector on ws%s://%s",
			b->config.websocket.cert != NULL ? "s" : "",
			sn__addr_text(sn__http_server_addr(b->server), addr));
	line(arg, text);
}
