/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The core nodes of the µHome mesh as a part of the runtime: opened from the bottom up (store,
 * registry, bus, broker, interfaces), closed from the top down, each step when the one before is done.
 */

#include <stdio.h>

#include "base/mem.h"
#include "dialect/microhome/hub_impl.h"
#include "hub/bus_broker.h"
#include "io/http.h"
#include "io/http_server.h"

static struct sn_mh_hub *hub_of(struct sn_dialect_part *part)
{
	return SN_CONTAINER_OF(part, struct sn_mh_hub, part);
}

/* ---- closing ---- */

static void on_pool_closed(void *arg)
{
	struct sn_mh_hub *hub = arg;

	hub->pool = NULL;
	sn__runtime_part_closed(hub->part.rt);
}

static void on_store_closed(void *arg)
{
	struct sn_mh_hub *hub = arg;

	hub->store = NULL;
	if (hub->pool != NULL)
		sn__http_pool_close(hub->pool, on_pool_closed, hub);
	else
		on_pool_closed(hub);
}

static void on_rest_closed(void *arg)
{
	struct sn_mh_hub *hub = arg;

	if (hub->kept != NULL) { /* the bus never had it */
		struct sn_bus_log *kept = SN_TAKE(hub->kept);

		kept->close(kept, on_rest_closed, hub);
	} else if (hub->link != NULL) {
		struct sn_bus_link *link = SN_TAKE(hub->link);

		link->close(link, on_rest_closed, hub);
	} else if (hub->store != NULL) {
		hub->store->ops->close(hub->store, on_store_closed, hub);
	} else {
		on_store_closed(hub);
	}
}

static void on_bus_closed(void *arg)
{
	struct sn_mh_hub *hub = arg;

	hub->bus = NULL;
	on_rest_closed(hub);
}

static void on_registry_closed(void *arg)
{
	struct sn_mh_hub *hub = arg;

	hub->registry = NULL;
	if (hub->bus != NULL)
		sn__bus_close(hub->bus, on_bus_closed, hub);
	else
		on_bus_closed(hub);
}

static void on_peers_closed(void *arg)
{
	struct sn_mh_hub *hub = arg;

	if (hub->registry != NULL)
		sn__mh_registry_close(hub->registry, on_registry_closed, hub);
	else
		on_registry_closed(hub);
}

static void on_broker_closed(void *arg)
{
	struct sn_mh_hub *hub = arg;

	hub->broker = NULL;
	if (hub->registry != NULL)
		sn__hub_peers_close(&hub->peers, on_peers_closed, hub);
	else
		on_peers_closed(hub);
}

static void on_mqtt_closed(void *arg)
{
	struct sn_mh_hub *hub = arg;

	if (hub->broker != NULL)
		sn__mh_broker_close(hub->broker, on_broker_closed, hub);
	else
		on_broker_closed(hub);
}

static void begin_close(struct sn_task *task)
{
	struct sn_mh_hub *hub = SN_CONTAINER_OF(task, struct sn_mh_hub, close_task);

	sn__hub_mqtt_close(hub, on_mqtt_closed, hub);
}

static void part_close(struct sn_dialect_part *part)
{
	struct sn_mh_hub *hub = hub_of(part);

	hub->closing = true;
	sn__hub_http_close(hub);
	sn__hub_mqtt_stop(hub);
	sn__mh_client_destroy(hub->client);
	hub->client = NULL;
	sn__loop_defer(part->rt->loop, &hub->close_task, begin_close);
}

static void part_destroy(struct sn_dialect_part *part)
{
	struct sn_mh_hub *hub = hub_of(part);

	sn__hub_admin_close(hub);
	sn__mh_client_destroy(hub->client);
	if (hub->token != NULL)
		explicit_bzero(hub->token, strlen(hub->token));
	sn__free(hub->token);
	sn__free(hub);
}

/* The store goes away or comes back: once each time. */
static void on_store_state(void *arg, const struct sn_error *err)
{
	struct sn_mh_hub *hub = arg;

	if (hub->closing || hub->store_away == (err != NULL))
		return;
	hub->store_away = err != NULL;
	(void)snprintf(hub->store_why, sizeof(hub->store_why), "%s",
			err != NULL ? sn_error_text(err) : "");
	if (err != NULL)
		sn__log(hub->log, SN_LOG_WARNING, "hub",
				"the store (%s) is away: %s; the nodes known stay, none can be added",
				hub->store->ops->name, hub->store_why);
	else
		sn__log(hub->log, SN_LOG_WARNING, "hub", "the store (%s) is back",
				hub->store->ops->name);
}

static bool part_missing(struct sn_dialect_part *part, char out[SN_PART_MISSING_MAX])
{
	const struct sn_mh_hub *hub = hub_of(part);
	struct sn_mh_registry_stats s = {.pushes = 0};

	if (hub->registry != NULL && !hub->closing)
		sn__mh_registry_stats(hub->registry, &s);
	if (s.nodes.refused)
		(void)snprintf(out, SN_PART_MISSING_MAX,
				"hub: another hub on this store has the same id: give this one an "
				"id of its own (hub.id)");
	else if (hub->store_away)
		(void)snprintf(out, SN_PART_MISSING_MAX, "hub: the store (%s) is away: %s",
				hub->store->ops->name, hub->store_why);
	return s.nodes.refused || hub->store_away;
}

static const struct sn_part_ops part_ops = {
		.name = "microhome.hub",
		.close = part_close,
		.missing = part_missing,
		.destroy = part_destroy,
		.turns = true,
};

static struct sn_mh_hub *find_hub(const struct sn_runtime *rt)
{
	struct sn_dialect_part *part = sn__runtime_dialect(rt, part_ops.name);

	return part != NULL ? hub_of(part) : NULL;
}

void sn__hub_tell(struct sn_runtime *rt, void (*line)(void *arg, const char *text), void *arg)
{
	const struct sn_mh_hub *hub = find_hub(rt);
	char addr[SN_ADDR_TEXT_MAX], text[SN_ADDR_TEXT_MAX + 32];

	if (hub == NULL)
		return;
	(void)snprintf(text, sizeof(text), "registry %s %s", hub->registry != NULL ? "on" : "is at",
			sn__addr_text(&hub->registry_at, addr));
	line(arg, text);
	(void)snprintf(text, sizeof(text), "broker %s %s", hub->broker != NULL ? "on" : "is at",
			sn__addr_text(&hub->broker_at, addr));
	line(arg, text);
	if (hub->http == NULL)
		return;
	(void)snprintf(text, sizeof(text), "events by HTTP on %s",
			sn__addr_text(sn__http_server_addr(hub->http), addr));
	line(arg, text);
}

/* ---- opening ---- */

static int open_store(struct sn_mh_hub *hub, const struct sn_hub_section *section,
		struct sn_connect_host *host, struct sn_error *err)
{
	const struct sn_hub_section_store *s = &section->store;
	const struct sn_hub_etcd_options etcd = {.endpoints = s->endpoints.items,
			.prefix = s->prefix,
			.user = s->user,
			.password = s->password,
			.ca = s->ca,
			.cert = s->cert,
			.key = s->key,
			.timeout_ms = (uint32_t)s->timeout_ms};
	int r;

	switch ((enum sn_hub_store_type)s->type) {
	case SN_HUB_STORE_MEMORY:
		r = sn__hub_memory_open(host->loop, &hub->store);
		return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
	case SN_HUB_STORE_SQLITE:
		return sn__hub_sqlite_open(host, s->path, &hub->store, err);
	case SN_HUB_STORE_ETCD:
		/* The runtime's own is made when that starts. */
		r = sn__http_pool_create(host->loop, NULL, &hub->pool);
		if (r < 0)
			return sn__error_set(err, r, "%s", sn_strerror(r));
		host->pool = hub->pool;
		return sn__hub_etcd_open(host, &etcd, &hub->store, err);
	}
	return SN_E_INVALID;
}

/* Its section has been checked; what is wrong now is told in one sentence. */
static int open_link(struct sn_mh_hub *hub, const struct sn_hub_section *section,
		struct sn_connect_host *host, struct sn_error *err)
{
	struct sn_problems problems;
	int r;

	sn__problems_init(&problems, NULL);
	r = sn__bus_broker_open(host, section->bus_node, section->id, &problems, &hub->link);
	if (r < 0 && sn__problems_to_error(&problems, r, err) == 0)
		(void)sn__error_set(err, r, "hub.bus: %s", sn_strerror(r));
	sn__problems_finish(&problems);
	return r;
}

static int open_bus(struct sn_mh_hub *hub, const struct sn_hub_section *section,
		struct sn_connect_host *host, struct sn_error *err)
{
	struct sn_bus_options opts = {0};
	int r = 0;

	if (section->log != NULL)
		r = sn__bus_log_open(host, section->log, &hub->kept, err);
	if (hub->kept != NULL)
		hub->kept->kept_max = (uint64_t)section->queue.kept;
	if (r == 0 && section->bus_node != NULL)
		r = open_link(hub, section, host, err);
	if (r < 0)
		return r;
	opts.log = hub->kept;
	opts.link = hub->link;
	r = sn__bus_create(host->loop, &opts, &hub->bus);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	hub->kept = NULL; /* the bus's */
	hub->link = NULL;
	return 0;
}

static int core_options(struct sn_mh_hub *hub, const struct sn_hub_section *section,
		const struct sn_hub_place *place, struct sn_mh_core_options *ret_core,
		struct sn_error *err)
{
	*ret_core = (struct sn_mh_core_options){.version = (unsigned)section->version,
			.strict = section->strict,
			.old_names = section->old_names || section->compat != 0,
			.no_keep = section->compat != 0,
			.max_connections = (unsigned)section->max_connections,
			.security = sn__hub_security(section),
			.log = hub->log};
	return sn__addr_parse_listen(sn_str_from(place->listen), &ret_core->listen, err);
}

static int open_registry(
		struct sn_mh_hub *hub, const struct sn_hub_section *section, struct sn_error *err)
{
	struct sn_mh_registry_options o = {.store = hub->store,
			.hub = section->id,
			.check_every_ms = (uint32_t)section->check.every_ms,
			.check_timeout_ms = (uint32_t)section->check.timeout_ms,
			.unhealthy_after = (unsigned)section->check.failures,
			.restarts = section->check.restarts,
			.max_nodes = (size_t)section->max_nodes,
			.list_more = sn__hub_peers_list,
			.list_arg = hub};
	int r = core_options(hub, section, &section->registry, &o.core, err);

	/* One in this process follows the list itself. */
	if (section->broker.listen == NULL)
		o.broker = hub->broker_at;
	if (r == 0)
		r = sn__mh_registry_open(hub->part.rt->loop, &o, &hub->registry, err);
	if (r < 0)
		return r;
	hub->registry_at = *sn__mh_registry_addr(hub->registry);
	sn__hub_peers_open(&hub->peers, sn__mh_registry_nodes(hub->registry), hub->part.rt->catalog,
			hub->log);
	return 0;
}

static int open_broker(
		struct sn_mh_hub *hub, const struct sn_hub_section *section, struct sn_error *err)
{
	struct sn_mh_broker_options o = {.bus = hub->bus,
			.store = hub->store,
			.hub = section->id,
			.durable = section->log != NULL,
			.queue_max = (size_t)section->queue.max,
			.queue_bytes_max = (size_t)section->queue.bytes,
			.full = (enum sn_bus_full)section->queue.full,
			.retain_ms = section->queue.retain_ms};
	int r = core_options(hub, section, &section->broker, &o.core, err);

	if (hub->registry != NULL)
		o.nodes = sn__mh_registry_nodes(hub->registry);
	if (r == 0)
		r = sn__mh_broker_open(hub->part.rt->loop, &o, &hub->broker, err);
	if (r == 0)
		hub->broker_at = *sn__mh_broker_addr(hub->broker);
	return r;
}

/* Where the roles are that do not run here. */
static int elsewhere(const struct sn_hub_place *place, const char *standard,
		struct sn_addr *ret_addr, struct sn_error *err)
{
	return sn__mh_address(sn_str_from(place->address != NULL ? place->address : standard),
			ret_addr, err);
}

static int open_client(
		struct sn_mh_hub *hub, const struct sn_hub_section *section, struct sn_error *err)
{
	const struct sn_mh_client_options opts = {.id = SN_HUB_HTTP_ID,
			.version = (unsigned)section->version,
			.keep = section->compat == 0,
			.security = sn__hub_security(section)};

	return sn__mh_client_create(hub->part.rt->loop, &opts, &hub->client, err);
}

static int open_all(struct sn_mh_hub *hub, const struct sn_config *config,
		const struct sn_hub_section *section, struct sn_error *err)
{
	struct sn_runtime *rt = hub->part.rt;
	struct sn_connect_host host = {.loop = rt->loop, .rt = rt, .log = &rt->log};
	int r = elsewhere(&section->registry, SN_HUB_REGISTRY_DEFAULT, &hub->registry_at, err);

	sn__connect_host_init(&host);
	if (r == 0)
		r = elsewhere(&section->broker, SN_HUB_BROKER_DEFAULT, &hub->broker_at, err);
	if (r == 0)
		r = open_store(hub, section, &host, err);
	if (r == 0) {
		hub->store->state = on_store_state;
		hub->store->state_arg = hub;
	}
	if (r == 0 && section->registry.listen != NULL)
		r = open_registry(hub, section, err);
	if (r == 0 && section->broker.listen != NULL)
		r = open_bus(hub, section, &host, err);
	if (r == 0 && section->broker.listen != NULL)
		r = open_broker(hub, section, err);
	if (r == 0)
		r = open_client(hub, section, err);
	if (r == 0)
		r = sn__hub_http_open(hub, section, (size_t)config->limits.header_bytes, err);
	if (r == 0)
		r = sn__hub_mqtt_open(hub, section, &host, err);
	return r < 0 ? r : sn__hub_admin_open(hub, err);
}

int sn__hub_open(struct sn_runtime *rt, const struct sn_config *config, const void *section,
		struct sn_error *err)
{
	const struct sn_hub_section *s = section;
	struct sn_mh_hub *hub;

	if (rt->mode == SN_MODE_UV)
		return sn__error_set(err, SN_E_NOTSUP,
				"a hub does not run on a host's libuv loop: use SN_MODE_THREAD");
	if (s->registry.listen == NULL && s->broker.listen == NULL && s->http.listen == NULL)
		return sn__error_set(
				err, SN_E_INVALID, "hub: registry, broker and http are all off");
	hub = sn__calloc(1, sizeof(*hub));
	if (hub == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	hub->log = &rt->log;
	sn_list_init(&hub->posts);
	sn__runtime_attach(rt, &hub->part, &part_ops, false);
	return open_all(hub, config, s, err);
}
