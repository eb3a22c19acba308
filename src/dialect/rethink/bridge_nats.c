/* SPDX-License-Identifier: Apache-2.0 */

/* Messages from NATS by request-reply: the subject is the connector's address, and of all bridges in the
 * queue group one gets each. */

#include "base/mem.h"
#include "base/yaml.h"
#include "connect/broker.h"
#include "dialect/rethink/bridge.h"

#define WINDOW 256u /* requests at once; more wait in the client, within its bounds */
#define QUEUE_DEFAULT "registry-connector"

static const char *const own_keys[] = {"queue", NULL};
static const struct sn_broker_reading reading = {.type = "nats", .others = own_keys};

struct sn_bridge_nats {
	struct sn_bridge *bridge;
	struct sn_broker *broker; /* NULL: not opened */
	struct sn_driver_subscription sub;
	struct sn_driver_watch watch;
	char *queue;
	bool subscribed, closing;
	void (*closed)(struct sn_bridge *b);
};

struct asked {
	struct sn_bridge_message message;
	struct sn_bridge_nats *n;
	struct sn_driver_delivery *delivery;
	char *response;
	struct sn_driver_message answer;
	struct sn_driver_publish publish;
	struct sn_driver_outcome outcome;
};

static struct sn_log *log_of(const struct sn_bridge_nats *n)
{
	return &n->bridge->part.rt->log;
}

/* ---- the section ---- */

static struct sn_str queue_of(const struct sn_yaml_node *node)
{
	const struct sn_yaml_node *queue = sn__yaml_get(node, "queue");

	return queue != NULL && queue->kind == SN_YAML_SCALAR ? queue->text : SN_STR(QUEUE_DEFAULT);
}

static bool is_name(struct sn_str text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] <= ' ' || text.ptr[i] == '*' || text.ptr[i] == '>' ||
				text.ptr[i] == 0x7f)
			return false;
	}
	return text.len > 0 && text.len <= 200;
}

int sn__bridge_nats_check(
		const struct sn_yaml_node *node, const char *address, struct sn_problems *problems)
{
	int r = sn__broker_check_as(node, &reading, problems);

	if (r < 0)
		return r;
	if (!is_name(queue_of(node)))
		return sn__problem(problems, node->place,
				"bridge.nats.queue: the name of a queue group, without blanks, * and >");
	if (!is_name(sn_str_from(address)))
		return sn__problem(problems, node->place,
				"bridge.address: \"%s\" is no subject of NATS: blanks, * or >",
				address);
	return 0;
}

/* ---- messages ---- */

static void end(struct asked *a)
{
	struct sn_bridge_nats *n = a->n;

	sn_broker_answer(n->broker, a->delivery, SN_DRIVER_ACK, 0);
	if (!n->closing)
		sn_broker_credit(n->broker, &n->sub, 1);
	sn__drain_release(n->bridge->part.rt);
	sn__free(a->response);
	sn__free(a);
}

static void on_published(struct sn_driver_publish *p)
{
	struct asked *a = SN_CONTAINER_OF(p, struct asked, publish);

	if (a->outcome.verdict != SN_DRIVER_OK && !a->n->closing)
		sn__log(log_of(a->n), SN_LOG_WARNING, "bridge.nats", "an answer is lost: %s",
				a->outcome.detail);
	end(a);
}

static void on_answered(struct sn_bridge_message *m, const char *response)
{
	struct asked *a = SN_CONTAINER_OF(m, struct asked, message);
	int r = SN_E_NOMEM;

	if (response == NULL || a->delivery->message.reply == NULL) {
		end(a);
		return;
	}
	a->response = sn__strdup(response);
	if (a->response != NULL) {
		a->answer = (struct sn_driver_message){.subject = a->delivery->message.reply,
				.payload = a->response,
				.size = strlen(a->response)};
		a->publish.messages = &a->answer;
		a->publish.n = 1;
		a->publish.outcomes = &a->outcome;
		a->publish.done = on_published;
		r = sn_broker_publish(a->n->broker, &a->publish);
	}
	if (r == 0)
		return;
	sn__log(log_of(a->n), SN_LOG_WARNING, "bridge.nats", "an answer is lost: %s",
			sn_strerror(r));
	end(a);
}

static void on_message(struct sn_driver_subscription *sub, struct sn_driver_delivery *d)
{
	struct sn_bridge_nats *n = SN_CONTAINER_OF(sub, struct sn_bridge_nats, sub);
	struct sn_str text = {d->message.size > 0 ? d->message.payload : "", d->message.size};
	struct asked *a = sn__calloc(1, sizeof(*a));
	int r = SN_E_NOMEM;

	if (a != NULL) {
		a->n = n;
		a->delivery = d;
		a->message.answered = on_answered;
		r = sn__bridge_ask(n->bridge, &a->message, text);
	}
	if (r == 0) {
		sn__drain_hold(n->bridge->part.rt); /* until its answer is published */
		return;
	}
	sn__free(a);
	sn__log(log_of(n), SN_LOG_WARNING, "bridge.nats", "a message is lost: %s", sn_strerror(r));
	sn_broker_answer(n->broker, d, SN_DRIVER_ACK, 0);
	if (!n->closing)
		sn_broker_credit(n->broker, &n->sub, 1);
}

static void on_ended(struct sn_driver_subscription *sub)
{
	struct sn_bridge_nats *n = SN_CONTAINER_OF(sub, struct sn_bridge_nats, sub);

	n->subscribed = false;
	if (!n->closing)
		sn__log(log_of(n), SN_LOG_ERROR, "bridge.nats", "nothing comes in: %s",
				sub->outcome.detail);
}

static void on_change(struct sn_driver_watch *watch, bool up, const char *why)
{
	struct sn_bridge_nats *n = SN_CONTAINER_OF(watch, struct sn_bridge_nats, watch);

	if (up)
		sn__log(log_of(n), SN_LOG_INFO, "bridge.nats", "connected to %s", why);
	else if (why[0] != '\0' && !n->closing)
		sn__log(log_of(n), SN_LOG_WARNING, "bridge.nats", "the server is away: %s", why);
}

/* ---- opening and closing ---- */

static int open_parts(struct sn_bridge_nats *n, const struct sn_yaml_node *node,
		struct sn_problems *problems)
{
	struct sn_runtime *rt = n->bridge->part.rt;
	struct sn_connect_host host = {.loop = rt->loop, .rt = rt, .log = &rt->log};
	struct sn_str queue = queue_of(node);
	int r;

	sn__connect_host_init(&host);
	n->queue = sn__strndup(queue.ptr, queue.len);
	if (n->queue == NULL)
		return SN_E_NOMEM;
	r = sn__broker_open_as(&host, node, &reading, problems, &n->broker);
	if (r < 0)
		return r;
	n->sub.filter = n->bridge->address;
	n->sub.group = n->queue;
	n->sub.message = on_message;
	n->sub.ended = on_ended;
	r = sn_broker_subscribe(n->broker, &n->sub);
	if (r < 0)
		return r;
	n->subscribed = true;
	sn_broker_credit(n->broker, &n->sub, WINDOW);
	n->watch.changed = on_change;
	sn_broker_watch(n->broker, &n->watch);
	return 0;
}

int sn__bridge_nats_open(struct sn_bridge *b, const struct sn_yaml_node *node, struct sn_error *err)
{
	struct sn_bridge_nats *n = sn__calloc(1, sizeof(*n));
	struct sn_problems problems;
	int r;

	if (n == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	n->bridge = b;
	b->nats = n; /* closed with the bridge, half open too */
	sn__problems_init(&problems, NULL);
	r = open_parts(n, node, &problems);
	if (r < 0 && sn__problems_to_error(&problems, r, err) == 0)
		(void)sn__error_set(err, r, "bridge.nats: %s", sn_strerror(r));
	sn__problems_finish(&problems);
	return r;
}

static void on_closed(void *arg)
{
	struct sn_bridge_nats *n = arg;
	void (*closed)(struct sn_bridge * b) = n->closed;
	struct sn_bridge *b = n->bridge;

	b->nats = NULL;
	sn__free(n->queue);
	sn__free(n);
	closed(b);
}

void sn__bridge_nats_close(struct sn_bridge *b, void (*closed)(struct sn_bridge *b))
{
	struct sn_bridge_nats *n = b->nats;

	if (n == NULL) {
		closed(b);
		return;
	}
	n->closing = true;
	n->closed = closed;
	if (n->subscribed)
		sn_broker_unsubscribe(n->broker, &n->sub, false);
	if (n->broker != NULL)
		sn__broker_close(n->broker, on_closed, n);
	else
		on_closed(n);
}
