/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The event broker: who is active, who wants what, and one exchange for each event and subscriber.
 *
 * The list of active nodes has two sources: what registries push (SN_MH_NODES) and, when the registry
 * is in this process, the hub's own list, followed change by change. A node is active while either
 * names it; the hub's address counts first.
 *
 * Every node is a subscriber of the bus with a queue of its own. Events go to it one after the other,
 * each on its own connection, as the original would; a node of our kind keeps its connection, and then
 * up to SN_MH_WINDOW_MAX are under way at once. A package is written once for all of them. There is
 * always one delivery in a node's own memory, so that it goes on without any.
 *
 * A subscriber at least once outlives its registration: when it is off the list it is *parked*, its
 * events wait, and it is dropped when it unsubscribes or after retain_ms. Its subscriptions are kept
 * in the store, below "subscriptions/".
 */

#include "dialect/microhome/broker_impl.h"

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "proto/json_pull.h"

#define RETAIN_MS (24u * 3600 * 1000)
#define SWEEP_MS 60000u
#define AT_LEAST_ONCE "at-least-once"
#define AT_MOST_ONCE "at-most-once"

#define SUBSCRIBE_FAILED "Failed to subscribe for microservice to event"
#define UNSUBSCRIBE_FAILED "Failed to unsubscribe for microservice from event"
#define PUBLISH_FAILED "Failed to publish event"
#define UPDATE_FAILED "Failed to update active nodes"

const char *sn__mh_refusal_text(enum sn_mh_refusal refusal)
{
	static const char *const texts[] = {[SN_MH_OK] = "",
			[SN_MH_NO_SOURCE] = "Request did not contain a NodeId (source)",
			[SN_MH_NO_EVENT] = "Request did not contain a event to publish",
			[SN_MH_RESERVED_EVENT] = "Event type is reserved",
			[SN_MH_NOT_REGISTERED] = "Node is not registered",
			[SN_MH_TOO_LONG] = "Event type is too long",
			[SN_MH_TOO_LARGE] = "Event is too large"};

	return texts[refusal];
}

/* ---- the list of active nodes ---- */

/* In on_nodes(): everything that was pushed before and is not in the new list goes. */
static void drop_unmarked(struct sn_mh_broker *b)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&b->nodes, &i)) != NULL;) {
		struct sn_mh_node *n = e->value;
		bool named = n->marked;

		n->marked = false;
		if ((n->sources & SN_MH_PUSHED) != 0 && !named)
			sn__mh_node_drop(n, SN_MH_PUSHED); /* it may be gone now */
	}
}

/* One item of "nodes". What is no node is passed over: the original keeps it and never reaches it. */
static int take_item(struct sn_mh_broker *b, struct sn_str item)
{
	struct sn_str id, address;
	struct sn_mh_node *n;
	struct sn_addr addr;
	int r;

	address = sn__mh_text(sn__mh_member(item, "address"), &b->text);
	if (address.ptr == NULL || sn__mh_address(address, &addr, NULL) < 0)
		return 0;
	id = sn__mh_text(sn__mh_member(item, "nodeId"), &b->text);
	if (id.len == 0 || id.len > SN_HUB_NODE_ID_MAX)
		return 0;
	r = sn__mh_node_add(b, id, &addr, SN_MH_PUSHED, &n);
	if (r == 0)
		n->marked = true;
	return r;
}

static void on_nodes(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct sn_mh_broker *b = arg;
	struct sn_str list = sn__mh_member(event->data, "nodes"), item;
	struct sn_json_pull pull;
	int r;

	if (list.ptr == NULL || list.len == 0 || list.ptr[0] != '[') {
		(void)sn__mh_reply_refuse(reply, SN_MICROHOME_INVALID, UPDATE_FAILED,
				"Request did not contain nodes");
		return;
	}
	sn__json_begin_checked(&pull, list);
	r = sn__json_enter_array(&pull);
	while (r >= 0 && (r = sn__json_item(&pull)) > 0) {
		r = sn__json_skip(&pull, &item);
		if (r == 0)
			r = take_item(b, item);
	}
	if (r < 0) { /* what was named stays, what was not is not dropped */
		const struct sn_map_entry *e;

		for (size_t i = 0; (e = sn__map_next(&b->nodes, &i)) != NULL;)
			((struct sn_mh_node *)e->value)->marked = false;
		(void)sn__mh_reply_refuse(
				reply, SN_MICROHOME_FAILED, UPDATE_FAILED, sn_strerror(r));
		return;
	}
	drop_unmarked(b);
	(void)sn__mh_reply_message(reply, "Succesfully updated active nodes", (struct sn_str){0});
}

/* The registry in this process. */
static void on_changed(struct sn_hub_watcher *w, const struct sn_hub_node *node, bool removed)
{
	struct sn_mh_broker *b = SN_CONTAINER_OF(w, struct sn_mh_broker, watcher);
	struct sn_mh_node *n = sn__map_get(&b->nodes, sn_str_from(node->id));
	struct sn_addr addr;
	int r;

	if (removed) {
		if (n != NULL)
			sn__mh_node_drop(n, SN_MH_LOCAL);
		return;
	}
	if (sn__mh_address(sn_str_from(node->address), &addr, NULL) < 0)
		return; /* of another dialect */
	r = sn__mh_node_add(b, sn_str_from(node->id), &addr, SN_MH_LOCAL, &n);
	if (r < 0)
		sn__log(b->log, SN_LOG_ERROR, "broker", "no room for node %s: %s", node->id,
				sn_strerror(r));
}

/* ---- subscribe, unsubscribe ---- */

static bool is_interface(struct sn_str source)
{
	struct sn_str prefix = SN_STR(SN_MH_INTERFACES);

	return source.len >= prefix.len && memcmp(source.ptr, prefix.ptr, prefix.len) == 0;
}

/* The node that asks, when it is on the list. Parked ones are not. */
static struct sn_mh_node *active(const struct sn_mh_broker *b, struct sn_str id)
{
	struct sn_mh_node *n = sn__map_get(&b->nodes, id);

	return n != NULL && n->sources != 0 ? n : NULL;
}

/* The checks of section 5.4 in its order. NULL: it was refused. */
static struct sn_mh_node *check_asker(struct sn_mh_broker *b, const struct sn_mh_event *event,
		struct sn_mh_reply *reply, const char *member, const char *message,
		struct sn_str *ret_type)
{
	const char *reason = NULL;
	struct sn_mh_node *n = NULL;

	*ret_type = sn__mh_text(sn__mh_member(event->data, member), &b->text);
	if (event->source.len == 0)
		reason = "Request did not contain a NodeId (source)";
	else if (ret_type->len == 0)
		reason = "Request did not contain a event to subscribe to";
	else if ((n = active(b, event->source)) == NULL)
		reason = "Node is not registered";
	else if (ret_type->len > SN_BUS_TYPE_MAX)
		reason = "Event type is too long";
	if (reason == NULL)
		return n;
	(void)sn__mh_reply_refuse(reply, SN_MICROHOME_INVALID, message, reason);
	return NULL;
}

/* What the member of ours asks for: NULL, or the reason for which it cannot be had. */
static const char *read_delivery(
		struct sn_mh_broker *b, struct sn_str data, bool *ret_at_least_once)
{
	struct sn_str raw = sn__mh_member(data, "delivery");
	struct sn_str word;
	struct sn_buf scratch;
	const char *reason = NULL;

	*ret_at_least_once = false;
	if (raw.ptr == NULL)
		return NULL;
	sn__buf_init(&scratch, 64);
	word = sn__mh_text(raw, &scratch);
	*ret_at_least_once = sn_str_eq(word, SN_STR(AT_LEAST_ONCE));
	if (*ret_at_least_once && !b->opts.durable)
		reason = "This broker keeps no events: delivery can only be " AT_MOST_ONCE;
	else if (!*ret_at_least_once && !sn_str_eq(word, SN_STR(AT_MOST_ONCE)))
		reason = "Delivery can be " AT_MOST_ONCE " or " AT_LEAST_ONCE;
	sn__buf_finish(&scratch);
	return reason;
}

static void on_subscribe(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct sn_mh_broker *b = arg;
	bool at_least_once;
	const char *reason;
	struct sn_str type;
	struct sn_mh_node *n = check_asker(b, event, reply, "subscribe", SUBSCRIBE_FAILED, &type);
	int r;

	if (n == NULL)
		return;
	reason = read_delivery(b, event->data, &at_least_once);
	if (reason != NULL) {
		(void)sn__mh_reply_refuse(reply, SN_MICROHOME_INVALID, SUBSCRIBE_FAILED, reason);
		return;
	}
	r = sn__mh_node_subscribe(n, type, at_least_once);
	if (r == 0 && n->sub.at_least_once && b->opts.store != NULL)
		r = sn__mh_broker_save(
				n, reply, "Successful subscribed to event", SUBSCRIBE_FAILED);
	else if (r == 0)
		(void)sn__mh_reply_message(
				reply, "Successful subscribed to event", (struct sn_str){0});
	if (r < 0)
		(void)sn__mh_reply_refuse(reply,
				r == SN_E_LIMIT ? SN_MICROHOME_INVALID : SN_MICROHOME_FAILED,
				SUBSCRIBE_FAILED,
				r == SN_E_LIMIT ? "Too many subscriptions" : sn_strerror(r));
}

static void on_unsubscribe(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct sn_mh_broker *b = arg;
	struct sn_str type;
	struct sn_mh_node *n = check_asker(
			b, event, reply, "unsubscribe", UNSUBSCRIBE_FAILED, &type);
	bool kept;

	if (n == NULL)
		return;
	kept = n->sub.at_least_once && b->opts.store != NULL;
	sn__mh_node_unsubscribe(n, type);
	if (kept &&
			sn__mh_broker_save(n, reply, "Successful unsubscribed from event",
					UNSUBSCRIBE_FAILED) == 0)
		return;
	(void)sn__mh_reply_message(reply, "Successful unsubscribed from event", (struct sn_str){0});
}

/* ---- publish, broadcast ---- */

/* Whether it fits one of our packages: the type may need escapes. */
static bool fits_package(const struct sn_mh_broker *b, struct sn_str type, struct sn_str data)
{
	static const char blank[] = "000000000000000000000000000000000000";
	const struct sn_microhome_send send = {.id = {blank, SN_MICROHOME_UUID},
			.timestamp = {blank, SN_MICROHOME_TIMESTAMP},
			.source = SN_STR(SN_MH_BROKER_ID),
			.type = type,
			.data = data,
			.version = SN_MICROHOME_VERSION,
			.status = SN_MICROHOME_OK};
	struct sn_buf out;
	bool fits;

	/* Every byte of the type may take six, and the names and blanks fewer than 512. */
	if (data.len + 6 * type.len + 512 + b->token_room < SN_MICROHOME_PAYLOAD_MAX)
		return true;
	sn__buf_init(&out, 8 * SN_MICROHOME_PACKET_MAX); /* room as if all had to be escaped */
	fits = sn__microhome_write(&send, &out) == SN_MICROHOME_FINE &&
			out.len + b->token_room <= SN_MICROHOME_PACKET_MAX;
	sn__buf_finish(&out);
	return fits;
}

/* In the order of section 9.1. */
static enum sn_mh_refusal check_event(const struct sn_mh_broker *b, struct sn_str source,
		struct sn_str type, struct sn_str data)
{
	struct sn_str prefix = SN_STR(SN_MH_RESERVED);

	if (source.len == 0)
		return SN_MH_NO_SOURCE;
	if (type.len == 0)
		return SN_MH_NO_EVENT;
	if (type.len >= prefix.len && memcmp(type.ptr, prefix.ptr, prefix.len) == 0)
		return SN_MH_RESERVED_EVENT;
	if (!is_interface(source) && active(b, source) == NULL)
		return SN_MH_NOT_REGISTERED;
	if (type.len > SN_BUS_TYPE_MAX)
		return SN_MH_TOO_LONG;
	return fits_package(b, type, data) ? SN_MH_OK : SN_MH_TOO_LARGE;
}

int sn__mh_broker_broadcast(struct sn_mh_broker *b, struct sn_str source, struct sn_str type,
		struct sn_str data, bool all, struct sn_bus_publish *publish)
{
	struct sn_bus_event *event;
	int r;

	if (type.len == 0)
		return SN_E_INVALID;
	if (!fits_package(b, type, data))
		return SN_E_LIMIT;
	r = sn__bus_event_create(type, source, data, all, sn__loop_rng(b->loop), &event);
	if (r < 0)
		return r;
	r = sn__bus_publish(b->opts.bus, event, publish);
	sn__bus_event_unref(event);
	return r;
}

struct publish {
	struct sn_bus_publish head;
	struct sn_mh_reply *reply;
};

static void on_published(struct sn_bus_publish *head, int code, unsigned subscribers)
{
	struct publish *p = SN_CONTAINER_OF(head, struct publish, head);
	char extra[32];
	int n;

	if (code == 0) {
		n = snprintf(extra, sizeof(extra), "\"subscribers\":%u", subscribers);
		(void)sn__mh_reply_message(p->reply, "Successfully published event",
				(struct sn_str){extra, (size_t)n});
	} else {
		(void)sn__mh_reply_refuse(
				p->reply, SN_MICROHOME_FAILED, PUBLISH_FAILED, sn_strerror(code));
	}
	sn__mh_reply_unref(p->reply);
	sn__free(p);
}

static void publish(struct sn_mh_broker *b, const struct sn_mh_event *event,
		struct sn_mh_reply *reply, bool all)
{
	struct sn_str type = sn__mh_text(sn__mh_member(event->data, "event"), &b->text);
	struct sn_str data = sn__mh_member(event->data, "data");
	enum sn_mh_refusal refusal = check_event(b, event->source, type, data);
	struct publish *p;
	int r = SN_E_NOMEM;

	if (refusal != SN_MH_OK) {
		(void)sn__mh_reply_refuse(reply, SN_MICROHOME_INVALID, PUBLISH_FAILED,
				sn__mh_refusal_text(refusal));
		return;
	}
	if (b->loading) {
		(void)sn__mh_reply_refuse(
				reply, SN_MICROHOME_FAILED, PUBLISH_FAILED, "Broker is starting");
		return;
	}
	p = sn__calloc(1, sizeof(*p));
	if (p != NULL) {
		p->head.done = on_published;
		p->reply = sn__mh_reply_ref(reply);
		r = sn__mh_broker_broadcast(b, event->source, type, data, all, &p->head);
	}
	if (r == 0)
		return;
	(void)sn__mh_reply_refuse(reply, SN_MICROHOME_FAILED, PUBLISH_FAILED, sn_strerror(r));
	if (p != NULL)
		sn__mh_reply_unref(p->reply);
	sn__free(p);
}

static void on_publish(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	publish(arg, event, reply, false);
}

static void on_broadcast(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	publish(arg, event, reply, true);
}

/* ---- telling ---- */

int sn__mh_broker_each(
		const struct sn_mh_broker *b, int (*fn)(void *arg, struct sn_str item), void *arg)
{
	const struct sn_map_entry *e;
	struct sn_buf out;
	int r = 0;

	sn__buf_init(&out, 8u << 20);
	for (size_t i = 0; r == 0 && (e = sn__map_next(&b->nodes, &i)) != NULL;) {
		sn__buf_clear(&out);
		r = sn__mh_node_put(e->value, &out);
		if (r == 0)
			r = fn(arg, sn__buf_str(&out));
	}
	sn__buf_finish(&out);
	return r;
}

struct page {
	struct sn_buf out;
	size_t skip, n;
	bool more;
};

static int put_item(void *arg, struct sn_str item)
{
	struct page *p = arg;
	int r = 0;

	if (p->n++ < p->skip)
		return 0;
	if (p->more || p->out.len + item.len > SN_MH_PAGE_BYTES) {
		p->n -= !p->more; /* the first of the next page */
		p->more = true;
		return 0;
	}
	if (p->n > p->skip + 1)
		r = sn__buf_puts(&p->out, ",");
	return r < 0 ? r : sn__buf_append_str(&p->out, item);
}

/* {"skip": n}: what came in the pages before. */
static void on_subscriptions(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct sn_mh_broker *b = arg;
	struct sn_str skip = sn__mh_member(event->data, "skip");
	struct page p = {0};
	uint64_t n = 0;
	int r;

	if (skip.ptr != NULL && sn__json_uint(skip, UINT32_MAX, &n) < 0)
		n = 0;
	p.skip = (size_t)n;
	sn__buf_init(&p.out, 2 * SN_MH_PAGE_BYTES);
	r = sn__buf_puts(&p.out, "{\"subscriptions\":[");
	if (r == 0)
		r = sn__mh_broker_each(b, put_item, &p);
	if (r == 0)
		r = sn__buf_puts(&p.out, p.more ? "],\"more\":true}" : "]}");
	if (r == 0)
		(void)sn__mh_reply_send(reply, sn__buf_str(&p.out));
	else
		(void)sn__mh_reply_refuse(reply, SN_MICROHOME_FAILED,
				"Failed to list subscriptions", sn_strerror(r));
	sn__buf_finish(&p.out);
}

void sn__mh_broker_stats(const struct sn_mh_broker *b, struct sn_mh_broker_stats *ret_stats)
{
	const struct sn_map_entry *e;

	*ret_stats = (struct sn_mh_broker_stats){0};
	for (size_t i = 0; (e = sn__map_next(&b->nodes, &i)) != NULL;) {
		const struct sn_mh_node *n = e->value;

		if (n->sources != 0)
			ret_stats->nodes++;
		else
			ret_stats->parked++;
	}
	sn__bus_counts(b->opts.bus, &ret_stats->bus);
	sn__mh_server_stats(b->server, &ret_stats->server);
	sn__mh_client_stats(b->client, &ret_stats->client);
}

/* ---- opening and closing ---- */

static void sweep(struct sn_timer *timer)
{
	struct sn_mh_broker *b = SN_CONTAINER_OF(timer, struct sn_mh_broker, sweep);
	uint64_t now_ns = sn__loop_now_ns(b->loop);
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&b->nodes, &i)) != NULL;) {
		struct sn_mh_node *n = e->value;

		if (n->sources == 0 && now_ns - n->parked_ns > sn_ms_to_ns(b->opts.retain_ms)) {
			sn__log(b->log, SN_LOG_WARNING, "broker",
					"%s was away too long: its events are dropped", n->id);
			sn__mh_node_destroy(n, true);
		}
	}
	sn__timer_start(b->loop, &b->sweep, sn_ms_to_ns(SWEEP_MS), sweep);
}

static int open_net(struct sn_mh_broker *b, struct sn_error *err)
{
	static const struct sn_mh_core_handler handlers[] = {{SN_MH_NODES, on_nodes},
			{SN_MH_SUBSCRIBE, on_subscribe}, {SN_MH_UNSUBSCRIBE, on_unsubscribe},
			{SN_MH_PUBLISH, on_publish}, {SN_MH_BROADCAST, on_broadcast},
			{SN_MH_SUBSCRIPTIONS, on_subscriptions}, {0}};
	const struct sn_mh_core_options *core = &b->opts.core;
	const struct sn_mh_client_options client = {.id = SN_MH_BROKER_ID,
			.timeout_ms = b->opts.timeout_ms,
			.keep = !core->no_keep,
			.max_kept = 65536,
			.window = SN_MH_WINDOW_MAX,
			.version = core->version,
			.security = core->security};

	return sn__mh_core_open(b->loop, core, &client, handlers, b, &b->client, &b->server, err);
}

static void broker_free(struct sn_mh_broker *b)
{
	sn__mh_client_destroy(b->client);
	sn__map_finish(&b->nodes);
	sn__mh_deliveries_free(b);
	sn__buf_finish(&b->text);
	sn__buf_finish(&b->prefix);
	sn__free(b);
}

int sn__mh_broker_open(struct sn_loop *loop, const struct sn_mh_broker_options *opts,
		struct sn_mh_broker **ret_broker, struct sn_error *err)
{
	struct sn_mh_broker *b = sn__calloc(1, sizeof(*b));
	int r;

	if (b == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	b->loop = loop;
	b->opts = *opts;
	b->opts.retain_ms = opts->retain_ms != 0 ? opts->retain_ms : RETAIN_MS;
	b->log = opts->core.log;
	b->watcher.changed = on_changed;
	sn__map_init(&b->nodes);
	sn_list_init(&b->spare);
	sn__buf_init(&b->text, SN_MH_VALUE_MAX);
	if (opts->core.security.token != NULL)
		b->token_room = strlen(opts->core.security.token) + sizeof(",\"token\":\"\"");
	sn__buf_init(&b->prefix, 1024);
	(void)snprintf(b->hub, sizeof(b->hub), "%s", opts->hub != NULL ? opts->hub : "");
	r = open_net(b, err);
	b->opts.core.security = (struct sn_mh_security){0}; /* the caller's texts */
	if (r == 0 && opts->store != NULL && opts->durable) {
		r = sn__mh_broker_load(b);
		if (r < 0)
			(void)sn__error_set(err, r, "%s", sn_strerror(r));
	}
	if (r < 0) {
		sn__mh_server_discard(b->server);
		broker_free(b);
		return r;
	}
	if (opts->nodes != NULL)
		sn__hub_watch_add(opts->nodes, &b->watcher);
	sn__timer_start(loop, &b->sweep, sn_ms_to_ns(SWEEP_MS), sweep);
	*ret_broker = b;
	return 0;
}

static void on_closed(void *arg)
{
	struct sn_mh_broker *b = arg;
	void (*done)(void *arg) = b->done;
	void *done_arg = b->done_arg;

	broker_free(b);
	if (done != NULL)
		done(done_arg);
}

static void close_loaded(struct sn_mh_broker *b)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&b->nodes, &i)) != NULL;)
		sn__mh_node_destroy(e->value, false);
	sn__mh_server_close(b->server, 0, on_closed, b);
}

void sn__mh_broker_close(struct sn_mh_broker *b, void (*done)(void *arg), void *arg)
{
	b->done = done;
	b->done_arg = arg;
	if (b->opts.nodes != NULL)
		sn__hub_watch_remove(&b->watcher);
	sn__timer_stop(b->loop, &b->sweep);
	if (b->loading && !sn_timer_armed(&b->reload)) {
		b->loaded = close_loaded;
		return;
	}
	if (b->loading)
		sn__timer_stop(b->loop, &b->reload);
	close_loaded(b);
}

const struct sn_addr *sn__mh_broker_addr(const struct sn_mh_broker *b)
{
	return sn__mh_server_addr(b->server);
}
