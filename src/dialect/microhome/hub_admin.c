/* SPDX-License-Identifier: Apache-2.0 */

/* What the admin API tells of the hub: GET /hub, /hub/nodes, /hub/subscriptions; and its metrics. */

#include "base/json.h"
#include "base/mem.h"
#include "dialect/microhome/hub_impl.h"
#include "mesh/admin_impl.h"

#define LIST_MAX (256u << 20) /* bytes */

/* ---- nodes and subscriptions ---- */

struct listing {
	struct sn_buf *out;
	unsigned n;
	int r;
};

static int put_item(void *arg, struct sn_str item)
{
	struct listing *l = arg;
	int r = l->n++ > 0 ? sn__buf_puts(l->out, ",") : 0;

	return r < 0 ? r : sn__buf_append_str(l->out, item);
}

static void put_node(const struct sn_hub_node *node, void *arg)
{
	struct listing *l = arg;
	SN_AUTO_JSON json_t *doc = json_pack("{s:s, s:s, s:s}", "nodeId", node->id, "address",
			node->address, "hub", node->owner);

	if (l->r < 0)
		return;
	l->r = l->n++ > 0 ? sn__buf_puts(l->out, ",") : 0;
	if (l->r == 0)
		l->r = doc != NULL ? sn__json_dump(doc, l->out) : SN_E_NOMEM;
}

int sn__hub_put_nodes(const struct sn_mh_hub *hub, struct sn_buf *out)
{
	struct listing l = {.out = out};

	l.r = sn__buf_puts(out, "{\"nodes\":[");
	if (l.r == 0 && hub->registry != NULL)
		sn__hub_each(sn__mh_registry_nodes(hub->registry), put_node, &l);
	else if (l.r == 0 && hub->broker != NULL)
		l.r = sn__mh_broker_each(hub->broker, put_item, &l);
	return l.r < 0 ? l.r : sn__buf_puts(out, "]}");
}

static int put_subscriptions(const struct sn_mh_hub *hub, struct sn_buf *out)
{
	struct listing l = {.out = out};
	int r = sn__buf_puts(out, "{\"subscriptions\":[");

	if (r == 0 && hub->broker != NULL)
		r = sn__mh_broker_each(hub->broker, put_item, &l);
	return r < 0 ? r : sn__buf_puts(out, "]}");
}

static void answer(struct sn_exchange *x, const struct sn_mh_hub *hub,
		int (*put)(const struct sn_mh_hub *hub, struct sn_buf *out))
{
	struct sn_buf out;
	int r;

	sn__buf_init(&out, LIST_MAX);
	r = put(hub, &out);
	if (r < 0)
		sn__admin_error(x, r, NULL);
	else
		sn__admin_text(x, 200, "application/json", sn__buf_str(&out));
	sn__buf_finish(&out);
}

/* ---- counts ---- */

static json_t *server_json(const struct sn_mh_server_stats *s)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:i, s:i}", "requests", (json_int_t)s->requests,
			"accepted", (json_int_t)s->accepted, "refused", (json_int_t)s->refused,
			"protocol-errors", (json_int_t)s->protocol_errors, "connections",
			(int)s->connections, "pending", (int)s->pending);
}

static json_t *registry_json(const struct sn_mh_hub *hub)
{
	char addr[SN_ADDR_TEXT_MAX];
	struct sn_mh_registry_stats s;

	if (hub->registry == NULL)
		return json_pack("{s:s, s:b}", "address", sn__addr_text(&hub->registry_at, addr),
				"here", 0);
	sn__mh_registry_stats(hub->registry, &s);
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "address",
			sn__addr_text(&hub->registry_at, addr), "here", 1, "nodes",
			(json_int_t)s.nodes.nodes, "registered",
			(json_int_t)s.nodes.changes[SN_HUB_OK], "unhealthy",
			(json_int_t)s.nodes.changes[SN_HUB_UNHEALTHY], "exists",
			(json_int_t)s.nodes.changes[SN_HUB_EXISTS], "checks",
			(json_int_t)s.nodes.checks, "checks-failed",
			(json_int_t)s.nodes.checks_failed, "removed", (json_int_t)s.nodes.removed,
			"pushes", (json_int_t)s.pushes, "pushes-failed",
			(json_int_t)s.pushes_failed, "server", server_json(&s.server));
}

static json_t *broker_json(const struct sn_mh_hub *hub)
{
	char addr[SN_ADDR_TEXT_MAX];
	struct sn_mh_broker_stats s;

	if (hub->broker == NULL)
		return json_pack("{s:s, s:b}", "address", sn__addr_text(&hub->broker_at, addr),
				"here", 0);
	sn__mh_broker_stats(hub->broker, &s);
	return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}",
			"address", sn__addr_text(&hub->broker_at, addr), "here", 1, "nodes",
			(json_int_t)s.nodes, "parked", (json_int_t)s.parked, "types",
			(json_int_t)s.bus.types, "published", (json_int_t)s.bus.published,
			"delivered", (json_int_t)s.bus.delivered, "failed",
			(json_int_t)s.bus.failed, "dropped", (json_int_t)s.bus.dropped,
			"redelivered", (json_int_t)s.bus.redelivered, "queued",
			(json_int_t)s.bus.queued, "kept-connections", (json_int_t)s.client.kept,
			"server", server_json(&s.server));
}

static void handle(struct sn_admin_route *route, struct sn_exchange *x)
{
	struct sn_mh_hub *hub = SN_CONTAINER_OF(route, struct sn_mh_hub, admin_route);
	const char *path = sn_exchange_path(x) + strlen(route->path);
	struct sn_error err;

	if (hub->closing) {
		sn__admin_error(x, SN_E_CLOSED, NULL);
	} else if (*path == '\0') {
		sn__admin_json(x, 200,
				json_pack("{s:o, s:o}", "registry", registry_json(hub), "broker",
						broker_json(hub)));
	} else if (strcmp(path, "/nodes") == 0) {
		answer(x, hub, sn__hub_put_nodes);
	} else if (strcmp(path, "/subscriptions") == 0) {
		answer(x, hub, put_subscriptions);
	} else {
		(void)sn__error_set(&err, SN_E_NOT_FOUND,
				"there is /hub, /hub/nodes and /hub/subscriptions");
		sn__admin_error(x, SN_E_NOT_FOUND, &err);
	}
}

/* ---- metrics ---- */

struct metric {
	const char *name, *help;
	enum sn_metric_kind kind;
	double value;
};

static void emit(struct sn_metrics *m, const struct metric *list, size_t n)
{
	static const char *const none[] = {NULL};

	for (size_t i = 0; i < n; i++) {
		struct sn_family *family;

		if (sn__metrics_family(m, list[i].name, list[i].help, list[i].kind, none,
				    &family) == 0)
			sn__metrics_emit(family, none, list[i].value);
	}
}

static void collect(struct sn_collector *c, struct sn_metrics *m)
{
	struct sn_mh_hub *hub = SN_CONTAINER_OF(c, struct sn_mh_hub, collector);

	if (hub->registry != NULL && !hub->closing) {
		struct sn_mh_registry_stats s;

		sn__mh_registry_stats(hub->registry, &s);
		const struct metric list[] = {{"sinew_hub_nodes", "Nodes that are registered.",
							      SN_GAUGE, (double)s.nodes.nodes},
				{"sinew_hub_registrations_total", "Registrations that succeeded.",
						SN_COUNTER, (double)s.nodes.changes[SN_HUB_OK]},
				{"sinew_hub_checks_failed_total", "Health checks that failed.",
						SN_COUNTER, (double)s.nodes.checks_failed},
				{"sinew_hub_removed_total", "Nodes removed after failed checks.",
						SN_COUNTER, (double)s.nodes.removed},
				{"sinew_hub_pushes_failed_total",
						"Lists of nodes the broker did not take.",
						SN_COUNTER, (double)s.pushes_failed}};

		emit(m, list, SN_COUNT(list));
	}
	if (hub->broker != NULL && !hub->closing) {
		struct sn_mh_broker_stats s;

		sn__mh_broker_stats(hub->broker, &s);
		const struct metric list[] = {{"sinew_hub_events_total", "Events published.",
							      SN_COUNTER, (double)s.bus.published},
				{"sinew_hub_delivered_total", "Deliveries that were taken.",
						SN_COUNTER, (double)s.bus.delivered},
				{"sinew_hub_failed_total", "Deliveries that failed for good.",
						SN_COUNTER, (double)s.bus.failed},
				{"sinew_hub_dropped_total", "Events lost to full queues.",
						SN_COUNTER, (double)s.bus.dropped},
				{"sinew_hub_log_dropped_total",
						"Events lost by subscribers too far behind the log.",
						SN_COUNTER, (double)s.bus.log_dropped},
				{"sinew_hub_queued", "Events that wait for subscribers.", SN_GAUGE,
						(double)s.bus.queued}};

		emit(m, list, SN_COUNT(list));
	}
}

/* ---- opening and closing ---- */

int sn__hub_admin_open(struct sn_mh_hub *hub, struct sn_error *err)
{
	hub->admin_route = (struct sn_admin_route){.path = "/hub", .handle = handle};
	sn__admin_route_add(hub->part.rt, &hub->admin_route);
	hub->collector.fn = collect;
	sn__metrics_collector_add(hub->part.rt->metrics, &hub->collector);
	return 0;
}

void sn__hub_admin_close(struct sn_mh_hub *hub)
{
	if (hub->collector.fn != NULL)
		sn__metrics_collector_remove(hub->part.rt->metrics, &hub->collector);
}
