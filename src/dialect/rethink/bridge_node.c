/* SPDX-License-Identifier: Apache-2.0 */

/* Messages from a µHome mesh: the bridge is a node of it that has subscribed to the connector's address
 * as an event type. An event's data is the message, the answer's data the response. */

#include <sinew/node.h>

#include "base/mem.h"
#include "dialect/rethink/bridge.h"

#define ID_DEFAULT "registry-connector"
#define LISTEN_DEFAULT ":0"

struct sn_bridge_node {
	struct sn_bridge *bridge;
	struct sn_node *node; /* NULL: not opened; it ends with the runtime */
	struct sn_task open_task;
	struct sn_node_options options;
	char *texts[6]; /* of the options */
};

struct asked {
	struct sn_bridge_message message;
	struct sn_node_reply *reply;
};

static struct sn_log *log_of(const struct sn_bridge_node *n)
{
	return &n->bridge->part.rt->log;
}

/* ---- messages ---- */

static void on_answered(struct sn_bridge_message *m, const char *response)
{
	struct asked *a = SN_CONTAINER_OF(m, struct asked, message);

	/* Who is gone, or has waited too long, was told so by his own time-out. */
	if (response != NULL)
		(void)sn_node_reply_send(a->reply, response);
	sn_node_reply_release(a->reply);
	sn__free(a);
}

static void on_event(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	struct sn_bridge_node *n = arg;
	struct sn_str text = {event->data != NULL ? event->data : "", event->data_size};
	struct asked *a = sn__calloc(1, sizeof(*a));
	int r = SN_E_NOMEM;

	if (a != NULL) {
		a->message.answered = on_answered;
		a->reply = sn_node_reply_keep(reply);
		r = sn__bridge_ask(n->bridge, &a->message, text);
	}
	if (r == 0)
		return;
	(void)sn_node_reply_error(reply, 0, "\"the registry connector takes no messages now\"");
	if (a != NULL)
		sn_node_reply_release(a->reply);
	sn__free(a);
}

static void on_subscribed(const struct sn_error *err, void *arg)
{
	struct sn_bridge_node *n = arg;

	if (err == NULL)
		sn__log(log_of(n), SN_LOG_INFO, "bridge.microhome", "subscribed to %s",
				n->bridge->address);
	else if (sn_error_code(err) != SN_E_CLOSED)
		sn__log(log_of(n), SN_LOG_ERROR, "bridge.microhome", "not subscribed: %s",
				sn_error_text(err));
}

static void on_state(struct sn_node *node, enum sn_node_state state, const struct sn_error *err,
		void *arg)
{
	struct sn_bridge_node *n = arg;

	if (state == SN_NODE_RUNNING)
		sn__log(log_of(n), SN_LOG_INFO, "bridge.microhome", "%s is registered at %s",
				sn_node_id(node), sn_node_address(node));
	else if (state == SN_NODE_FAILED)
		sn__log(log_of(n), SN_LOG_ERROR, "bridge.microhome", "not registered: %s",
				err != NULL ? sn_error_text(err) : "refused");
}

/* ---- opening and closing ---- */

/* In the loop's first turn: a node opens on a loop that runs. */
static void open_run(struct sn_task *task)
{
	struct sn_bridge_node *n = SN_CONTAINER_OF(task, struct sn_bridge_node, open_task);
	struct sn_error *err = NULL;
	int r;

	if (n->bridge->closing)
		return;
	r = sn_node_open(n->bridge->part.rt, &n->options, &n->node, &err);
	if (r == 0)
		r = sn_node_subscribe(n->node, n->bridge->address, on_event, n, on_subscribed, n);
	if (r < 0)
		sn__log(log_of(n), SN_LOG_ERROR, "bridge.microhome", "no messages come in: %s",
				err != NULL ? sn_error_text(err) : sn_strerror(r));
	sn_error_destroy(err);
}

static int copy_texts(struct sn_bridge_node *n, const struct sn_rethink_microhome *from)
{
	const char *const texts[] = {from->id != NULL ? from->id : ID_DEFAULT,
			from->listen != NULL ? from->listen : LISTEN_DEFAULT, from->advertise,
			from->broker, from->registry, from->token};

	for (size_t i = 0; i < SN_COUNT(n->texts); i++) {
		n->texts[i] = texts[i] != NULL ? sn__strdup(texts[i]) : NULL;
		if (texts[i] != NULL && n->texts[i] == NULL)
			return SN_E_NOMEM;
	}
	return 0;
}

int sn__bridge_node_open(struct sn_bridge *b, struct sn_error *err)
{
	struct sn_bridge_node *n = sn__calloc(1, sizeof(*n));
	struct sn_node_options o = SN_NODE_OPTIONS_INIT;

	if (n == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	n->bridge = b;
	b->node = n; /* freed with the bridge, half open too */
	if (copy_texts(n, &b->config.microhome) < 0)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	o.id = n->texts[0];
	o.listen = n->texts[1];
	o.advertise = n->texts[2];
	o.broker = n->texts[3];
	o.registry = n->texts[4];
	o.token = n->texts[5];
	o.insecure = b->config.microhome.insecure;
	o.state = on_state;
	o.arg = n;
	n->options = o;
	sn__loop_post(b->part.rt->loop, &n->open_task, open_run);
	return 0;
}

void sn__bridge_node_free(struct sn_bridge *b)
{
	if (b->node == NULL)
		return;
	for (size_t i = 0; i < SN_COUNT(b->node->texts); i++)
		sn__free(b->node->texts[i]);
	sn__free(b->node);
	b->node = NULL;
}
