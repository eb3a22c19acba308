/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Events from outside by MQTT (`hub.mqtt`): what is published below uhome/in becomes an event, its type
 * the levels that follow joined with '.', its data the payload. It speaks to the broker as any node
 * would, wherever that is. The other way, types of `deliver` go out below uhome/out.
 */

#include "base/json.h"
#include "base/mem.h"
#include "base/option.h"
#include "connect/broker.h"
#include "dialect/microhome/hub_impl.h"
#include "proto/json_pull.h"

#define WINDOW 64u /* events under way, each way */
#define DATA_MAX ((size_t)2 * SN_MICROHOME_PAYLOAD_MAX)

/* ---- the section ---- */

struct section {
	const char *in, *out;
	struct sn_option_list deliver;
};
static const struct sn_option options[] = {
		{.name = "in",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct section, in),
				.def = "uhome/in",
				.help = "Topic below which what is published becomes an event."},
		{.name = "out",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct section, out),
				.def = "uhome/out",
				.help = "Topic below which events are published."},
		{.name = "deliver",
				.kind = SN_OPTION_LIST,
				.offset = offsetof(struct section, deliver),
				.help = "Types of events to be published."},
		{0},
};
static const char *const own_keys[] = {"in", "out", "deliver", NULL};
static const struct sn_broker_reading reading = {.type = "mqtt", .others = own_keys};

static bool topic_valid(const char *topic)
{
	return topic != NULL && topic[0] != '\0' && strpbrk(topic, "+#") == NULL &&
			strlen(topic) < 256;
}

int sn__hub_mqtt_check(
		const struct sn_yaml_node *node, bool broker_here, struct sn_problems *problems)
{
	struct section own;
	struct sn_arena arena;
	int r = sn__broker_check_as(node, &reading, problems), q;

	if (node->kind != SN_YAML_MAP)
		return r;
	sn__arena_init(&arena, 256, 1 << 16);
	q = sn__broker_read_others(node, &reading, options, &arena, &own, problems);
	if (q == 0 && (!topic_valid(own.in) || !topic_valid(own.out)))
		q = sn__problem(problems, node->place,
				"hub.mqtt: in and out are topics without wildcards");
	if (q == 0 && own.deliver.n > 0 && !broker_here)
		q = sn__problem(problems, node->place,
				"hub.mqtt.deliver: only where the broker runs");
	sn__arena_finish(&arena);
	return r < 0 ? r : q;
}

/* ---- state ---- */

struct sn_hub_mqtt {
	struct sn_mh_hub *hub;
	struct sn_broker *broker;
	struct sn_mh_client *client;
	struct sn_driver_subscription sub;
	struct sn_driver_watch watch;
	struct sn_bus_subscriber out; /* of `deliver` */
	struct section own;
	struct sn_arena arena;
	char *filter;
	struct sn_list incoming, spare; /* incoming.link, outgoing.link */
	struct outgoing *outgoing;      /* WINDOW of them; NULL: nothing goes out */
	bool attached, subscribed, closing, told;
	void (*done)(void *arg);
	void *arg;
};

/* A message that is to become an event. */
struct incoming {
	struct sn_mh_exchange mh;
	struct sn_list link;
	struct sn_hub_mqtt *m;
	struct sn_driver_delivery *delivery;
};

/* An event that is to become a message. */
struct outgoing {
	struct sn_list link;
	struct sn_hub_mqtt *m;
	struct sn_bus_event *event;
	struct sn_driver_publish publish;
	struct sn_driver_message message;
	struct sn_driver_outcome outcome;
	struct sn_task task;
	int code;
	struct sn_buf topic;
};

/* ---- in ---- */

/* uhome/in/kitchen/light -> kitchen.light; false: no type. */
static bool read_type(const struct sn_hub_mqtt *m, const char *topic, char *out, size_t size)
{
	size_t prefix = strlen(m->own.in), n = strlen(topic);

	if (n <= prefix + 1 || n - prefix - 1 >= size || strncmp(topic, m->own.in, prefix) != 0 ||
			topic[prefix] != '/')
		return false;
	for (size_t i = 0; i <= n - prefix - 1; i++)
		out[i] = topic[prefix + 1 + i] == '/' ? '.' : topic[prefix + 1 + i];
	return true;
}

/* {"event": TYPE, "data": payload when it is JSON, else as a text} */
static int put_event(struct sn_buf *out, const char *type, struct sn_str payload)
{
	int r = sn__buf_puts(out, "{\"event\":");

	if (r == 0)
		r = sn__json_quote(sn_str_from(type), out);
	if (r == 0 && payload.len > 0)
		r = sn__buf_puts(out, ",\"data\":");
	if (r == 0 && payload.len > 0)
		r = sn__json_check(payload, NULL) == 0 ? sn__buf_append_str(out, payload)
						       : sn__json_quote(payload, out);
	return r < 0 ? r : sn__buf_puts(out, "}");
}

static void complain(struct sn_hub_mqtt *m, const char *topic, const char *why)
{
	sn__log(m->hub->log, m->told ? SN_LOG_DEBUG : SN_LOG_WARNING, "hub.mqtt", "%.200s: %s",
			topic, why);
	m->told = true;
}

static void answer(struct sn_hub_mqtt *m, struct sn_driver_delivery *d)
{
	sn_broker_answer(m->broker, d, SN_DRIVER_ACK, 0);
	if (!m->closing)
		sn_broker_credit(m->broker, &m->sub, 1);
}

static void incoming_end(struct incoming *in)
{
	sn_list_remove(&in->link);
	answer(in->m, in->delivery);
	sn__free(in);
}

static void on_reply(struct sn_mh_exchange *mh)
{
	struct incoming *in = SN_CONTAINER_OF(mh, struct incoming, mh);

	if (mh->status != 0)
		complain(in->m, in->delivery->message.subject,
				mh->status == SN_E_STATUS ? "the broker refused it" : mh->text);
	else if (sn__mh_is_unhandled(&mh->reply))
		complain(in->m, in->delivery->message.subject,
				"the broker does not know \xc2\xb5Home.core.publish");
	incoming_end(in);
}

static int publish(struct incoming *in, const char *type)
{
	const struct sn_driver_message *message = &in->delivery->message;
	struct sn_mh_send send = {.to = in->m->hub->broker_at, .type = sn_str_from(SN_MH_PUBLISH)};
	struct sn_buf out;
	int r;

	sn__buf_init(&out, DATA_MAX);
	r = put_event(&out, type, (struct sn_str){message->payload, message->size});
	send.data = sn__buf_str(&out);
	if (r == 0)
		r = sn__mh_exchange_start(in->m->client, &in->mh, &send, on_reply);
	sn__buf_finish(&out);
	return r;
}

static void on_message(struct sn_driver_subscription *sub, struct sn_driver_delivery *d)
{
	struct sn_hub_mqtt *m = SN_CONTAINER_OF(sub, struct sn_hub_mqtt, sub);
	const char *topic = d->message.subject;
	char type[SN_BUS_TYPE_MAX + 1];
	struct incoming *in = NULL;
	int r = 0;

	if (!read_type(m, topic, type, sizeof(type))) {
		complain(m, topic, "names no event type");
		answer(m, d);
		return;
	}
	if (strncmp(type, SN_MH_RESERVED, strlen(SN_MH_RESERVED)) == 0) {
		complain(m, topic, sn__mh_refusal_text(SN_MH_RESERVED_EVENT));
		answer(m, d);
		return;
	}
	in = sn__calloc(1, sizeof(*in));
	if (in == NULL) {
		complain(m, topic, sn_strerror(SN_E_NOMEM));
		answer(m, d);
		return;
	}
	in->m = m;
	in->delivery = d;
	sn_list_push_back(&m->incoming, &in->link);
	r = publish(in, type);
	if (r < 0) {
		complain(m, topic, sn_strerror(r));
		incoming_end(in);
	}
}

/* ---- out ---- */

static void outgoing_end(struct outgoing *o, int code)
{
	struct sn_hub_mqtt *m = o->m;

	struct sn_bus_event *event = SN_TAKE(o->event);

	sn__buf_finish(&o->topic);
	sn_list_push_front(&m->spare, &o->link);
	if (m->attached)
		sn__bus_delivered(&m->out, event, code);
	sn__bus_event_unref(event);
}

static void on_published(struct sn_driver_publish *p)
{
	struct outgoing *o = SN_CONTAINER_OF(p, struct outgoing, publish);

	outgoing_end(o,
			o->outcome.verdict == SN_DRIVER_OK    ? 0
					: o->outcome.code < 0 ? o->outcome.code
							      : SN_E_IO);
}

/* In a later turn. */
static void on_failed(struct sn_task *task)
{
	struct outgoing *o = SN_CONTAINER_OF(task, struct outgoing, task);

	outgoing_end(o, o->code);
}

static int put_topic(struct outgoing *o)
{
	struct sn_str type = o->event->type;
	int r = sn__buf_printf(&o->topic, "%s/", o->m->own.out);
	size_t prefix = sn__buf_str(&o->topic).len;

	if (r == 0)
		r = sn__buf_append_str(&o->topic, type);
	if (r == 0)
		r = sn__buf_append(&o->topic, "", 1);
	for (size_t i = 0; r == 0 && i < type.len; i++) {
		char *c = o->topic.block + o->topic.head + prefix + i;

		if (*c == '.')
			*c = '/';
		else if (*c == '\0')
			r = SN_E_INVALID;
	}
	return r;
}

static void deliver(struct sn_bus_subscriber *s, struct sn_bus_event *event)
{
	struct sn_hub_mqtt *m = SN_CONTAINER_OF(s, struct sn_hub_mqtt, out);
	/* There is one: no more than WINDOW are under way. */
	struct outgoing *o = SN_CONTAINER_OF(sn_list_pop_front(&m->spare), struct outgoing, link);
	int r;

	*o = (struct outgoing){.m = m, .event = sn__bus_event_ref(event)};
	sn__buf_init(&o->topic, 4096);
	r = put_topic(o);
	o->message = (struct sn_driver_message){.subject = sn__buf_data(&o->topic),
			.payload = event->data.ptr,
			.size = event->data.len};
	o->publish.messages = &o->message;
	o->publish.n = 1;
	o->publish.durable = true;
	o->publish.outcomes = &o->outcome;
	o->publish.done = on_published;
	if (r == 0)
		r = sn_broker_publish(m->broker, &o->publish);
	if (r == 0)
		return;
	o->code = r;
	sn__loop_defer(m->hub->part.rt->loop, &o->task, on_failed);
}

static const struct sn_bus_subscriber_ops out_ops = {.deliver = deliver};

static int attach(struct sn_hub_mqtt *m)
{
	int r;

	if (m->own.deliver.n == 0)
		return 0;
	m->outgoing = sn__calloc(WINDOW, sizeof(struct outgoing));
	if (m->outgoing == NULL)
		return SN_E_NOMEM;
	for (unsigned i = 0; i < WINDOW; i++)
		sn_list_push_back(&m->spare, &m->outgoing[i].link);
	m->out = (struct sn_bus_subscriber){
			.ops = &out_ops, .id = SN_HUB_MQTT_ID, .window = WINDOW};
	r = sn__bus_attach(m->hub->bus, &m->out);
	m->attached = r == 0;
	for (size_t i = 0; r == 0 && i < m->own.deliver.n; i++)
		r = sn__bus_subscribe(&m->out, sn_str_from(m->own.deliver.items[i]));
	return r;
}

/* ---- opening and closing ---- */

static void on_change(struct sn_driver_watch *watch, bool up, const char *why)
{
	struct sn_hub_mqtt *m = SN_CONTAINER_OF(watch, struct sn_hub_mqtt, watch);

	if (up)
		sn__log(m->hub->log, SN_LOG_INFO, "hub.mqtt", "connected to %s", why);
	else if (why[0] != '\0' && !m->closing)
		sn__log(m->hub->log, SN_LOG_WARNING, "hub.mqtt", "the server is away: %s", why);
}

static void on_ended(struct sn_driver_subscription *sub)
{
	struct sn_hub_mqtt *m = SN_CONTAINER_OF(sub, struct sn_hub_mqtt, sub);

	m->subscribed = false;
	if (!m->closing)
		sn__log(m->hub->log, SN_LOG_ERROR, "hub.mqtt", "nothing comes in: %s",
				sub->outcome.detail);
}

static int subscribe(struct sn_hub_mqtt *m)
{
	int r;

	m->filter = sn__asprintf("%s/#", m->own.in);
	if (m->filter == NULL)
		return SN_E_NOMEM;
	m->sub.filter = m->filter;
	m->sub.message = on_message;
	m->sub.ended = on_ended;
	r = sn_broker_subscribe(m->broker, &m->sub);
	m->subscribed = r == 0;
	if (r == 0)
		sn_broker_credit(m->broker, &m->sub, WINDOW);
	return r;
}

static int open_parts(struct sn_hub_mqtt *m, const struct sn_hub_section *section,
		const struct sn_connect_host *host, struct sn_problems *problems,
		struct sn_error *err)
{
	const struct sn_mh_client_options opts = {.id = SN_HUB_MQTT_ID,
			.version = (unsigned)section->version,
			.keep = section->compat == 0,
			.security = sn__hub_security(section)};
	int r = sn__broker_read_others(
			section->mqtt_node, &reading, options, &m->arena, &m->own, problems);

	if (r == 0)
		r = sn__broker_open_as(host, section->mqtt_node, &reading, problems, &m->broker);
	if (r == 0)
		r = sn__mh_client_create(host->loop, &opts, &m->client, err);
	if (r == 0)
		r = subscribe(m);
	if (r == 0)
		r = attach(m);
	if (r == 0) {
		m->watch.changed = on_change;
		sn_broker_watch(m->broker, &m->watch);
	}
	return r;
}

int sn__hub_mqtt_open(struct sn_mh_hub *hub, const struct sn_hub_section *section,
		const struct sn_connect_host *host, struct sn_error *err)
{
	struct sn_problems problems;
	struct sn_hub_mqtt *m;
	int r;

	if (section->mqtt_node == NULL)
		return 0;
	m = sn__calloc(1, sizeof(*m));
	if (m == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	m->hub = hub;
	sn_list_init(&m->incoming);
	sn_list_init(&m->spare);
	sn__arena_init(&m->arena, 256, 1 << 16);
	hub->mqtt = m; /* closed with the hub, half open too */
	sn__problems_init(&problems, NULL);
	r = open_parts(m, section, host, &problems, err);
	if (r < 0 && sn__problems_to_error(&problems, r, err) == 0)
		(void)sn__error_set(err, r, "hub.mqtt: %s", sn_strerror(r));
	sn__problems_finish(&problems);
	return r;
}

static void on_broker_closed(void *arg)
{
	struct sn_hub_mqtt *m = arg;
	void (*done)(void *arg) = m->done;
	void *done_arg = m->arg;

	m->hub->mqtt = NULL;
	sn__arena_finish(&m->arena);
	sn__free(m->outgoing);
	sn__free(m->filter);
	sn__free(m);
	done(done_arg);
}

void sn__hub_mqtt_stop(struct sn_mh_hub *hub)
{
	struct sn_hub_mqtt *m = hub->mqtt;

	if (m == NULL || m->closing)
		return;
	m->closing = true;
	if (m->attached)
		sn__bus_detach(&m->out, false);
	m->attached = false;
	while (!sn_list_empty(&m->incoming)) {
		struct incoming *in = SN_CONTAINER_OF(m->incoming.next, struct incoming, link);

		sn__mh_exchange_cancel(&in->mh);
		incoming_end(in);
	}
	if (m->subscribed)
		sn_broker_unsubscribe(m->broker, &m->sub, false);
	sn__mh_client_destroy(m->client);
	m->client = NULL;
}

void sn__hub_mqtt_close(struct sn_mh_hub *hub, void (*done)(void *arg), void *arg)
{
	struct sn_hub_mqtt *m = hub->mqtt;

	sn__hub_mqtt_stop(hub);
	if (m == NULL) {
		done(arg);
		return;
	}
	m->done = done;
	m->arg = arg;
	if (m->broker != NULL)
		sn__broker_close(m->broker, on_broker_closed, m);
	else
		on_broker_closed(m);
}
