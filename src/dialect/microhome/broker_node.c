/* SPDX-License-Identifier: Apache-2.0 */

/* One node at the broker: its place in the list, its subscriptions, its deliveries. broker.c has the
 * whole. */

#include "base/json.h"
#include "base/mem.h"
#include "dialect/microhome/broker_impl.h"

#define RETRY_MAX_MS 5000u /* at least once: a node that returns need not wait longer */

struct delivery {
	struct sn_mh_exchange x;
	struct sn_task task; /* ends it when nothing was sent */
	struct sn_list link; /* node->idle, node->running, broker->spare */
	struct sn_mh_node *node;
	struct sn_bus_event *event;
	int code;
	bool extra; /* another was under way that held it up */
};

/* An entry of node->types. */
struct type {
	size_t len;
	char text[];
};

static const struct sn_addr *addr_of(const struct sn_mh_node *n)
{
	return (n->sources & SN_MH_LOCAL) != 0 ? &n->local : &n->pushed;
}

/* ---- deliveries ---- */

static int delivery_add(struct sn_mh_node *n)
{
	struct sn_mh_broker *b = n->broker;
	struct sn_list *spare = sn_list_pop_front(&b->spare);
	struct delivery *d = spare != NULL ? SN_CONTAINER_OF(spare, struct delivery, link)
					   : sn__calloc(1, sizeof(*d));

	if (d == NULL)
		return SN_E_NOMEM;
	b->n_spare -= spare != NULL;
	d->node = n;
	sn_list_push_back(&n->idle, &d->link);
	return 0;
}

/* What has become of an event: 0: the node has it. One that asked for at least once takes it by any
 * answer of a handler but a server error; "No Handler" is none (it may be starting). */
static int outcome(const struct sn_mh_node *n, const struct sn_mh_exchange *x)
{
	if (!n->sub.at_least_once)
		return x->status;
	if (x->status == SN_E_STATUS && x->reply.status == SN_MICROHOME_INVALID)
		return 0;
	if (x->status == 0 && sn__mh_is_unhandled(&x->reply))
		return SN_E_NOT_FOUND;
	return x->status;
}

static void delivery_rest(struct delivery *d)
{
	struct sn_mh_node *n = d->node;
	struct sn_mh_broker *b = n->broker;

	n->bytes -= d->event->data.len;
	b->n_extra -= d->extra;
	d->extra = false;
	sn__bus_event_unref(d->event);
	d->event = NULL;
	sn_list_remove(&d->link);
	if (sn_list_empty(&n->idle)) {
		sn_list_push_back(&n->idle, &d->link);
	} else if (b->n_spare < SN_MH_SPARE_MAX) {
		sn_list_push_front(&b->spare, &d->link); /* the warm one first */
		b->n_spare++;
	} else {
		sn__free(d);
	}
}

void sn__mh_deliveries_free(struct sn_mh_broker *b)
{
	struct sn_list *at;

	while ((at = sn_list_pop_front(&b->spare)) != NULL)
		sn__free(SN_CONTAINER_OF(at, struct delivery, link));
	b->n_spare = 0;
}

static void delivery_start(struct sn_mh_node *n, struct sn_bus_event *event);

/* The latest is with the node, which does not answer. */
static bool is_slow(const struct sn_mh_node *n)
{
	const struct sn_mh_broker *b = n->broker;
	const struct delivery *d = SN_CONTAINER_OF(n->running.prev, struct delivery, link);
	unsigned n_running = 0;

	if (n->sub.at_least_once || b->n_extra >= SN_MH_EXTRA_MAX ||
			sn__loop_now_ns(b->loop) < n->started_ns + sn_ms_to_ns(SN_MH_SLOW_MS) ||
			!sn__mh_exchange_has_left(&d->x))
		return false;
	SN_LIST_FOREACH (at, &n->running)
		n_running++;
	return n_running < SN_MH_SLOW_MAX;
}

/* While nothing is under way, or on a connection that is kept: on connections of their own events might
 * overtake each other, if the former had not left long ago. */
static bool may_start(struct sn_mh_node *n, const struct sn_bus_event *event)
{
	if (sn_list_empty(&n->running))
		return true;
	return (n->kept || is_slow(n)) && n->bytes + event->data.len <= SN_MH_WINDOW_BYTES &&
			(!sn_list_empty(&n->idle) || delivery_add(n) == 0);
}

static void start_waiting(struct sn_mh_node *n)
{
	while (n->waiting_n > 0 && may_start(n, n->waiting[n->waiting_first])) {
		struct sn_bus_event *next = n->waiting[n->waiting_first];

		n->waiting_first = (n->waiting_first + 1) % SN_MH_WINDOW_MAX;
		n->waiting_n--;
		delivery_start(n, next);
		sn__bus_event_unref(next);
	}
}

static void delivery_end(struct delivery *d, int code)
{
	struct sn_bus_event *event = sn__bus_event_ref(d->event);
	struct sn_mh_node *n = d->node;

	delivery_rest(d);
	start_waiting(n);
	sn__bus_delivered(&n->sub, event, code);
	sn__bus_event_unref(event);
}

static void delivery_failed(struct sn_task *task)
{
	struct delivery *d = SN_CONTAINER_OF(task, struct delivery, task);

	delivery_end(d, d->code);
}

/* From now on several at once. Without memory the next reply tries again. */
static void widen(struct sn_mh_node *n)
{
	if (n->sub.at_least_once)
		return; /* what is tried again keeps its place */
	n->waiting = sn__calloc(SN_MH_WINDOW_MAX, sizeof(*n->waiting));
	if (n->waiting != NULL)
		sn__bus_set_window(&n->sub, SN_MH_WINDOW_MAX);
}

static void on_slow(struct sn_timer *t)
{
	struct sn_mh_node *n = SN_CONTAINER_OF(t, struct sn_mh_node, slow);
	uint64_t now = sn__loop_now_ns(n->broker->loop),
		 due = n->started_ns + sn_ms_to_ns(SN_MH_SLOW_MS);

	if (sn_list_empty(&n->running) || n->kept || n->sub.member == NULL)
		return;
	if (due <= now) {
		if (n->waiting == NULL)
			widen(n); /* deliver() follows, if there is more */
		else
			start_waiting(n);
		due = now + sn_ms_to_ns(SN_MH_SLOW_MS);
	}
	sn__timer_start(n->broker->loop, t, due - now, on_slow);
}

static void delivery_replied(struct sn_mh_exchange *x)
{
	struct delivery *d = SN_CONTAINER_OF(x, struct delivery, x);

	d->node->kept = x->kept;
	if (x->kept && d->node->waiting == NULL)
		widen(d->node);
	delivery_end(d, outcome(d->node, x));
}

static void package_free(void *encoded)
{
	sn__buf_finish(encoded);
	sn__free(encoded);
}

/* One for all subscribers. Without memory each makes its own. */
static struct sn_str package_of(
		struct sn_mh_broker *b, const struct sn_mh_send *send, struct sn_bus_event *event)
{
	struct sn_buf *out = event->encoded;

	if (out == NULL && (out = sn__malloc(sizeof(*out))) != NULL) {
		sn__buf_init(out, SN_MICROHOME_PACKET_MAX * 8);
		if (sn__mh_package_make(b->client, send, out) < 0)
			sn__buf_finish(out); /* each is told why */
		event->encoded = out;
		event->free_encoded = package_free;
	}
	return out != NULL ? sn__buf_str(out) : (struct sn_str){NULL, 0};
}

/* There is an idle one. */
static void delivery_start(struct sn_mh_node *n, struct sn_bus_event *event)
{
	struct sn_mh_broker *b = n->broker;
	struct sn_mh_send send = {.to = *addr_of(n),
			.type = event->type,
			.brief = !n->sub.at_least_once,
			.in_order = true};
	struct delivery *d = SN_CONTAINER_OF(n->idle.next, struct delivery, link);

	if (event->data.len > 0)
		send.data = event->data;
	send.made = package_of(b, &send, event);
	sn_list_remove(&d->link);
	sn_list_push_back(&n->running, &d->link);
	d->event = sn__bus_event_ref(event);
	d->extra = !n->kept && n->running.next != &d->link;
	b->n_extra += d->extra;
	n->bytes += event->data.len;
	n->started_ns = sn__loop_now_ns(b->loop);
	if (!n->kept && !n->sub.at_least_once && !sn_timer_armed(&n->slow))
		sn__timer_start(b->loop, &n->slow, sn_ms_to_ns(SN_MH_SLOW_MS), on_slow);
	d->code = n->sources == 0
			? SN_E_CONNECT
			: sn__mh_exchange_start(b->client, &d->x, &send, delivery_replied);
	if (d->code < 0)
		sn__loop_defer(b->loop, &d->task, delivery_failed);
}

/* At once, or when another has ended, in order. */
static void deliver(struct sn_bus_subscriber *s, struct sn_bus_event *event)
{
	struct sn_mh_node *n = SN_CONTAINER_OF(s, struct sn_mh_node, sub);

	if (n->waiting == NULL || (n->waiting_n == 0 && may_start(n, event))) {
		delivery_start(n, event);
		return;
	}
	n->waiting[(n->waiting_first + n->waiting_n++) % SN_MH_WINDOW_MAX] = sn__bus_event_ref(
			event);
}

/* None of those under way is told to the bus any more. */
static void forget_running(struct sn_mh_node *n)
{
	SN_LIST_FOREACH_SAFE (at, &n->running) {
		struct delivery *d = SN_CONTAINER_OF(at, struct delivery, link);

		sn__mh_exchange_cancel(&d->x);
		if (sn_task_queued(&d->task))
			sn__loop_undefer(n->broker->loop, &d->task);
		delivery_rest(d);
	}
	for (; n->waiting_n > 0; n->waiting_n--) {
		sn__bus_event_unref(n->waiting[n->waiting_first]);
		n->waiting_first = (n->waiting_first + 1) % SN_MH_WINDOW_MAX;
	}
}

/* ---- the bus ---- */

static void types_clear(struct sn_mh_node *n)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&n->types, &i)) != NULL;)
		sn__free(e->value);
	sn__map_finish(&n->types);
}

/* Its queue overflowed, and the policy is that it must ask again. */
static void gone(struct sn_bus_subscriber *s)
{
	struct sn_mh_node *n = SN_CONTAINER_OF(s, struct sn_mh_node, sub);

	sn__log(n->broker->log, SN_LOG_WARNING, "broker",
			"%s takes its events too slowly: its subscriptions are ended", n->id);
	forget_running(n);
	types_clear(n);
}

static const struct sn_bus_subscriber_ops subscriber_ops = {.deliver = deliver, .gone = gone};

/* With all its types; all or nothing. */
static int attach(struct sn_mh_node *n, bool at_least_once)
{
	const struct sn_map_entry *e;
	int r;

	n->sub.at_least_once = at_least_once;
	n->sub.window = at_least_once || n->waiting == NULL ? 1 : SN_MH_WINDOW_MAX;
	r = sn__bus_attach(n->broker->opts.bus, &n->sub);
	for (size_t i = 0; r == 0 && (e = sn__map_next(&n->types, &i)) != NULL;)
		r = sn__bus_subscribe(&n->sub, e->key);
	if (r < 0)
		sn__bus_detach(&n->sub, false);
	return r;
}

static void detach(struct sn_mh_node *n, bool forget)
{
	sn__bus_detach(&n->sub, forget);
	forget_running(n);
}

int sn__mh_node_subscribe(struct sn_mh_node *n, struct sn_str type, bool at_least_once)
{
	bool more = at_least_once && !n->sub.at_least_once;
	struct type *t;
	int r = 0;

	if (more || n->sub.member == NULL) {
		detach(n, false);
		r = attach(n, at_least_once || n->sub.at_least_once);
	}
	if (r < 0 || sn__map_get(&n->types, type) != NULL)
		return r;
	if (sn_map_count(&n->types) >= SN_BUS_TYPES_MAX)
		return SN_E_LIMIT;
	t = sn__calloc(1, sizeof(*t) + type.len + 1);
	if (t == NULL)
		return SN_E_NOMEM;
	t->len = type.len;
	memcpy(t->text, type.ptr, type.len);
	r = sn__map_add(&n->types, (struct sn_str){t->text, t->len}, t);
	if (r < 0) {
		sn__free(t);
		return r;
	}
	r = sn__bus_subscribe(&n->sub, type);
	if (r < 0) {
		(void)sn__map_remove(&n->types, type);
		sn__free(t);
	}
	return r;
}

void sn__mh_node_unsubscribe(struct sn_mh_node *n, struct sn_str type)
{
	struct type *t = sn__map_remove(&n->types, type);

	if (t == NULL)
		return;
	if (n->sub.member != NULL)
		(void)sn__bus_unsubscribe(&n->sub, type);
	sn__free(t);
	if (sn_map_count(&n->types) > 0 || !n->sub.at_least_once)
		return;
	/* Nothing is left that would have to be kept for it. */
	detach(n, true);
	(void)attach(n, false);
}

/* ---- coming and going ---- */

static void node_free(struct sn_mh_node *n)
{
	sn__timer_stop(n->broker->loop, &n->slow);
	SN_LIST_FOREACH_SAFE (at, &n->idle)
		sn__free(SN_CONTAINER_OF(at, struct delivery, link));
	types_clear(n);
	sn__free(n->waiting);
	sn__free(n);
}

static int node_create(struct sn_mh_broker *b, struct sn_str id, struct sn_mh_node **ret_node)
{
	struct sn_mh_node *n = sn__calloc(1, sizeof(*n) + id.len + 1);
	int r;

	if (n == NULL)
		return SN_E_NOMEM;
	n->broker = b;
	memcpy(n->id, id.ptr, id.len);
	n->sub = (struct sn_bus_subscriber){.ops = &subscriber_ops,
			.id = n->id,
			.window = 1,
			.queue_max = b->opts.queue_max,
			.queue_bytes_max = b->opts.queue_bytes_max,
			.full = b->opts.full,
			.retry_max_ms = RETRY_MAX_MS};
	sn_list_init(&n->idle);
	sn_list_init(&n->running);
	sn__map_init(&n->types);
	r = delivery_add(n);
	if (r == 0)
		r = sn__map_add(&b->nodes, sn_str_from(n->id), n);
	if (r < 0) {
		node_free(n);
		return r;
	}
	r = attach(n, false);
	if (r < 0) {
		(void)sn__map_remove(&b->nodes, sn_str_from(n->id));
		node_free(n);
		return r;
	}
	*ret_node = n;
	return 0;
}

int sn__mh_node_add(struct sn_mh_broker *b, struct sn_str id, const struct sn_addr *addr,
		unsigned source, struct sn_mh_node **ret_node)
{
	struct sn_mh_node *n = sn__map_get(&b->nodes, id);
	int r = n == NULL ? node_create(b, id, &n) : 0;

	if (r < 0)
		return r;
	*(source == SN_MH_LOCAL ? &n->local : &n->pushed) = *addr;
	n->sources |= source;
	*ret_node = n;
	return 0;
}

int sn__mh_node_park(struct sn_mh_broker *b, struct sn_str id, struct sn_mh_node **ret_node)
{
	struct sn_mh_node *n = sn__map_get(&b->nodes, id);
	int r = n == NULL ? node_create(b, id, &n) : 0;

	if (r < 0)
		return r;
	if (n->sources == 0)
		n->parked_ns = sn__loop_now_ns(b->loop);
	*ret_node = n;
	return 0;
}

void sn__mh_node_destroy(struct sn_mh_node *n, bool forget)
{
	struct sn_mh_broker *b = n->broker;

	if (forget && n->sub.at_least_once && b->opts.store != NULL) {
		types_clear(n);
		if (sn__mh_broker_save(n, NULL, NULL, NULL) < 0)
			sn__log(b->log, SN_LOG_WARNING, "broker",
					"%s stays in the store: out of memory", n->id);
	}
	detach(n, forget);
	(void)sn__map_remove(&b->nodes, sn_str_from(n->id));
	node_free(n);
}

void sn__mh_node_drop(struct sn_mh_node *n, unsigned source)
{
	n->sources &= ~source;
	if (n->sources != 0)
		return;
	if (n->sub.member != NULL && n->sub.at_least_once)
		n->parked_ns = sn__loop_now_ns(n->broker->loop);
	else
		sn__mh_node_destroy(n, true);
}

/* ---- telling ---- */

int sn__mh_node_put(const struct sn_mh_node *n, struct sn_buf *out)
{
	char addr[SN_ADDR_TEXT_MAX];
	const struct sn_map_entry *e;
	const char *comma = "";
	int r = sn__buf_puts(out, "{\"nodeId\":");

	if (r == 0)
		r = sn__json_quote(sn_str_from(n->id), out);
	if (r == 0 && n->sources != 0)
		r = sn__buf_printf(out, ",\"address\":\"%s\"", sn__addr_text(addr_of(n), addr));
	if (r == 0)
		r = sn__buf_puts(out, ",\"types\":[");
	for (size_t i = 0; r == 0 && (e = sn__map_next(&n->types, &i)) != NULL; comma = ",") {
		r = sn__buf_puts(out, comma);
		if (r == 0)
			r = sn__json_quote(e->key, out);
	}
	return r < 0 ? r
		     : sn__buf_printf(out,
				       "],\"delivery\":\"%s\",\"queued\":%zu,\"delivered\":%llu,"
				       "\"failed\":%llu,\"dropped\":%llu}",
				       n->sub.at_least_once ? "at-least-once" : "at-most-once",
				       n->sub.queued, (unsigned long long)n->sub.delivered,
				       (unsigned long long)n->sub.failed,
				       (unsigned long long)n->sub.dropped);
}
