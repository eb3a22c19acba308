/* SPDX-License-Identifier: Apache-2.0 */
/* The file's section `hub`. */

#include "dialect/microhome/hub_impl.h"

#include "hub/bus_broker.h"

#define PLACE(field) offsetof(struct sn_hub_place, field)
static const struct sn_option role_options[] = {
		{.name = "listen",
				.kind = SN_OPTION_STRING,
				.offset = PLACE(listen),
				.help = "IPV4:PORT, :PORT (loopback), or `off`: it does not run here."},
		{.name = "address",
				.kind = SN_OPTION_STRING,
				.offset = PLACE(address),
				.help = "Where it is when it does not run here, IPV4:PORT."},
		{0}};
static const struct sn_option http_options[] = {
		{.name = "listen",
				.kind = SN_OPTION_STRING,
				.offset = PLACE(listen),
				.flags = SN_OPTION_REQUIRED,
				.help = "HOST:PORT, :PORT (loopback) or unix:PATH."},
		{.name = "hosts",
				.kind = SN_OPTION_LIST,
				.offset = PLACE(hosts),
				.help = "Names, with or without a port, that may stand in a request's Host besides localhost and loopback addresses."},
		{0}};

#define STORE(field) offsetof(struct sn_hub_section_store, field)
static const char *const store_types[] = {"memory", "sqlite", "etcd", NULL};
static const struct sn_option store_options[] = {
		{.name = "type",
				.kind = SN_OPTION_ENUM,
				.offset = STORE(type),
				.choices = store_types,
				.def = "memory",
				.help = "`memory` forgets with the process; `sqlite` is one file; `etcd` is shared by several hubs."},
		{.name = "path",
				.kind = SN_OPTION_STRING,
				.offset = STORE(path),
				.help = "sqlite: the file, made when missing."},
		{.name = "endpoints",
				.kind = SN_OPTION_LIST,
				.offset = STORE(endpoints),
				.help = "etcd: http://HOST:PORT, one or several."},
		{.name = "prefix",
				.kind = SN_OPTION_STRING,
				.offset = STORE(prefix),
				.def = SN_HUB_ETCD_PREFIX,
				.help = "etcd: before every key."},
		{.name = "user",
				.kind = SN_OPTION_STRING,
				.offset = STORE(user),
				.help = "etcd: who we are."},
		{.name = "password",
				.kind = SN_OPTION_STRING,
				.offset = STORE(password),
				.flags = SN_OPTION_SECRET,
				.help = "etcd: the password of `user`."},
		{.name = "ca",
				.kind = SN_OPTION_STRING,
				.offset = STORE(ca),
				.help = "etcd: file with the authorities that sign its certificate."},
		{.name = "cert",
				.kind = SN_OPTION_STRING,
				.offset = STORE(cert),
				.help = "etcd: file with our certificate."},
		{.name = "key",
				.kind = SN_OPTION_STRING,
				.offset = STORE(key),
				.help = "etcd: file with its key."},
		{.name = "timeout",
				.kind = SN_OPTION_DURATION,
				.offset = STORE(timeout_ms),
				.unit = "ms",
				.min = 1,
				.max = 3600000,
				.def = "5s",
				.help = "etcd: of an operation."},
		{0}};

#define CHECK(field) offsetof(struct sn_hub_section_check, field)
static const struct sn_option check_options[] = {
		{.name = "every",
				.kind = SN_OPTION_DURATION,
				.offset = CHECK(every_ms),
				.unit = "ms",
				.max = 86400000,
				.def = "0",
				.help = "Health check of every node this often; 0: only when it registers."},
		{.name = "timeout",
				.kind = SN_OPTION_DURATION,
				.offset = CHECK(timeout_ms),
				.unit = "ms",
				.min = 1,
				.max = 3600000,
				.def = "2s",
				.help = "Of one check."},
		{.name = "failures",
				.kind = SN_OPTION_INT,
				.offset = CHECK(failures),
				.min = 1,
				.max = 1000,
				.def = "3",
				.help = "In a row, and the node is removed."},
		{.name = "restarts",
				.kind = SN_OPTION_BOOL,
				.offset = CHECK(restarts),
				.def = "false",
				.help = "A known id may register again: from its address, or from another when the one that is known fails its check."},
		{0}};

#define QUEUE(field) offsetof(struct sn_hub_section_queue, field)
static const char *const full_words[] = {"drop-oldest", "block", "disconnect", NULL};
static const struct sn_option queue_options[] = {
		{.name = "max",
				.kind = SN_OPTION_INT,
				.offset = QUEUE(max),
				.min = 1,
				.max = 10000000,
				.def = "1000",
				.help = "Events that wait for one subscriber."},
		{.name = "bytes",
				.kind = SN_OPTION_SIZE,
				.offset = QUEUE(bytes),
				.unit = "bytes",
				.min = 65536,
				.max = 1099511627776.0,
				.def = "8MiB",
				.help = "The same in bytes."},
		{.name = "full",
				.kind = SN_OPTION_ENUM,
				.offset = QUEUE(full),
				.choices = full_words,
				.def = "drop-oldest",
				.help = "What happens then: the oldest is lost and counted; the publisher waits; the subscriber's subscriptions end."},
		{.name = "retain",
				.kind = SN_OPTION_DURATION,
				.offset = QUEUE(retain_ms),
				.unit = "ms",
				.min = 1000,
				.max = 31536000000.0,
				.def = "24h",
				.help = "How long events are kept for a subscriber at least once that is not registered any more."},
		{.name = "kept",
				.kind = SN_OPTION_INT,
				.offset = QUEUE(kept),
				.min = 16,
				.max = 1000000000,
				.def = "100000",
				.help = "Events that hub.log keeps for one such subscriber, about: beyond, its oldest are lost and counted."},
		{0}};

#define TLS(field) offsetof(struct sn_hub_section_tls, field)
static const struct sn_option tls_options[] = {
		{.name = "cert",
				.kind = SN_OPTION_STRING,
				.offset = TLS(cert),
				.help = "File with the certificate chain of the hub, leaf first."},
		{.name = "key",
				.kind = SN_OPTION_STRING,
				.offset = TLS(key),
				.help = "File with its private key."},
		{.name = "ca",
				.kind = SN_OPTION_STRING,
				.offset = TLS(ca),
				.help = "File with the authorities that sign nodes' certificates, which are then asked for."},
		{.name = "server-name",
				.kind = SN_OPTION_STRING,
				.offset = TLS(server_name),
				.help = "Name that nodes' certificates must have; else the address dialled."},
		{0}};

#define HUB(field) offsetof(struct sn_hub_section, field)
static const char *const compat_words[] = {"latest", "0.0.1", NULL};
static const struct sn_option hub_options[] = {
		{.name = "registry",
				.kind = SN_OPTION_ANY,
				.offset = HUB(registry_node),
				.options = role_options,
				.help = "The service registry: an address, `off`, or a map. Default `127.0.0.1:5101`."},
		{.name = "broker",
				.kind = SN_OPTION_ANY,
				.offset = HUB(broker_node),
				.options = role_options,
				.help = "The event broker: the same. Default `127.0.0.1:5100`."},
		{.name = "http",
				.kind = SN_OPTION_ANY,
				.offset = HUB(http_node),
				.options = http_options,
				.help = "Events from outside by HTTP: an address, or a map."},
		{.name = "id",
				.kind = SN_OPTION_STRING,
				.offset = HUB(id),
				.help = "Name of this hub among those that share a store; else a random one."},
		{.name = "store",
				.kind = SN_OPTION_SECTION,
				.offset = HUB(store),
				.options = store_options,
				.help = "Where nodes are kept."},
		{.name = "bus",
				.kind = SN_OPTION_ANY,
				.offset = HUB(bus_node),
				.help = "What connects several hubs: `local` (nothing), or a map: `type: nats` or another broker, its options, `subject`, and `durable`, which needs `id`."},
		{.name = "mqtt",
				.kind = SN_OPTION_ANY,
				.offset = HUB(mqtt_node),
				.help = "Events from outside by MQTT: a map with `url` and other options of broker/mqtt, `in` (`uhome/in`), `out` (`uhome/out`), and `deliver`, the types that go out."},
		{.name = "log",
				.kind = SN_OPTION_STRING,
				.offset = HUB(log),
				.help = "SQLite file that keeps events until subscribers who ask for at-least-once have them."},
		{.name = "check",
				.kind = SN_OPTION_SECTION,
				.offset = HUB(check),
				.options = check_options,
				.help = "Health checks."},
		{.name = "queue",
				.kind = SN_OPTION_SECTION,
				.offset = HUB(queue),
				.options = queue_options,
				.help = "What waits for each subscriber."},
		{.name = "tls",
				.kind = SN_OPTION_SECTION,
				.offset = HUB(tls),
				.options = tls_options,
				.help = "TLS between nodes and hub."},
		{.name = "token",
				.kind = SN_OPTION_STRING,
				.offset = HUB(token),
				.flags = SN_OPTION_SECRET,
				.help = "Shared by all nodes; asked for in every request."},
		{.name = "insecure",
				.kind = SN_OPTION_BOOL,
				.offset = HUB(insecure),
				.def = "false",
				.help = "Listen off loopback without TLS and token, as the original does."},
		{.name = "compat",
				.kind = SN_OPTION_ENUM,
				.offset = HUB(compat),
				.choices = compat_words,
				.def = "latest",
				.help = "`0.0.1`: a connection for every package, and nothing in one that 0.0.1 does not have."},
		{.name = "old-names",
				.kind = SN_OPTION_BOOL,
				.offset = HUB(old_names),
				.def = "false",
				.help = "Understand the names of events before 0.0.1 (`\xc2\xb5Home.register`)."},
		{.name = "strict",
				.kind = SN_OPTION_BOOL,
				.offset = HUB(strict),
				.def = "false",
				.help = "Refuse packages of unknown versions or with missing members."},
		{.name = "version",
				.kind = SN_OPTION_INT,
				.offset = HUB(version),
				.min = 1,
				.max = 2,
				.def = "2",
				.help = "Of the packages that registry and broker answer and deliver with."},
		{.name = "max-connections",
				.kind = SN_OPTION_INT,
				.offset = HUB(max_connections),
				.min = 1,
				.max = 1000000,
				.def = "4096",
				.help = "Of each listener; further ones are closed at once."},
		{.name = "max-nodes",
				.kind = SN_OPTION_INT,
				.offset = HUB(max_nodes),
				.min = 1,
				.max = 10000000,
				.def = "1000000",
				.help = "Nodes that may be registered."},
		{0}};

static const char doc[] =
		"`hub:` with nothing is a registry and a broker on the ports of the original, on loopback\n"
		"(docs/nodes.md). Off loopback a listener needs `tls` and either `token` or `tls.ca`, or\n"
		"`insecure: true`.";

/* ---- reading ---- */

/* Keep going after a problem, stop without memory. */
static int worse(int a, int b)
{
	if (a == SN_E_NOMEM || b == SN_E_NOMEM)
		return SN_E_NOMEM;
	return a < 0 ? a : b;
}

struct reader {
	struct sn_config *config;
	struct sn_hub_section *hub;
	struct sn_problems *problems;
};

static bool is_off(const char *text)
{
	return text != NULL && (strcmp(text, "off") == 0 || strcmp(text, "false") == 0);
}

/* An address, or a map of @table. */
static int read_place(struct reader *rd, const char *name, const struct sn_option *table,
		const struct sn_yaml_node *node, struct sn_hub_place *ret_place)
{
	if (node == NULL || sn__yaml_is_null(node))
		return 0;
	if (node->kind == SN_YAML_MAP)
		return sn__options_read(table, node, ret_place, &rd->config->arena, rd->problems);
	if (node->kind == SN_YAML_LIST)
		return sn__problem(rd->problems, node->place,
				"hub.%s must be an address or a map, not a list", name);
	ret_place->listen = node->text.ptr;
	return 0;
}

/* Where a problem with a member is told: at the member, or at what stands for it. */
static struct sn_place place_of(const struct sn_yaml_node *node, const char *member)
{
	const struct sn_yaml_node *at = node != NULL ? sn__yaml_get(node, member) : NULL;

	return at != NULL ? at->place : node != NULL ? node->place : (struct sn_place){0};
}

static int check_role(struct reader *rd, const char *name, const struct sn_yaml_node *node,
		const struct sn_hub_place *place)
{
	struct sn_mh_security sec = sn__hub_security(rd->hub);
	struct sn_error err;
	struct sn_addr addr;
	char where[32];
	int r = 0;

	if (place->address != NULL && sn__mh_address(sn_str_from(place->address), &addr, &err) < 0)
		r = sn__problem(rd->problems, place_of(node, "address"), "hub.%s.address: %s", name,
				err.text);
	if (place->listen == NULL)
		return r;
	if (sn__addr_parse_listen(sn_str_from(place->listen), &addr, &err) < 0)
		return worse(r,
				sn__problem(rd->problems, place_of(node, "listen"), "hub.%s: %s",
						name, err.text));
	if (addr.u.sa.sa_family != AF_INET)
		return sn__problem(rd->problems, place_of(node, "listen"),
				"hub.%s: nodes know IPv4 only", name);
	(void)snprintf(where, sizeof(where), "hub.%s", name);
	if (sn__mh_security_check(&sec, &addr, where, &err) < 0)
		return sn__problem(rd->problems, place_of(node, "listen"), "%s", err.text);
	return r;
}

static int check_http(struct reader *rd)
{
	const struct sn_hub_section *hub = rd->hub;
	struct sn_error err;
	struct sn_addr addr;

	if (hub->http.listen == NULL)
		return 0;
	if (sn__addr_parse_listen(sn_str_from(hub->http.listen), &addr, &err) < 0)
		return sn__problem(rd->problems, place_of(hub->http_node, "listen"), "hub.http: %s",
				err.text);
	if (!sn__addr_is_loopback(&addr) && hub->token == NULL && !hub->insecure)
		return sn__problem(rd->problems, place_of(hub->http_node, "listen"),
				"hub.http: %s is not loopback: add `token: ...` below hub, or "
				"`insecure: true` to let everybody publish",
				hub->http.listen);
	return 0;
}

static int check_store(struct reader *rd, const struct sn_yaml_node *node)
{
	const struct sn_hub_section_store *s = &rd->hub->store;
	struct sn_place place = place_of(node, "store");

	if (s->type == SN_HUB_STORE_SQLITE && s->path == NULL)
		return sn__problem(rd->problems, place, "hub.store: sqlite needs a path");
	if (s->type == SN_HUB_STORE_ETCD && s->endpoints.n == 0)
		return sn__problem(rd->problems, place, "hub.store: etcd needs endpoints");
	if (s->type == SN_HUB_STORE_ETCD && rd->hub->log != NULL && rd->hub->id == NULL)
		return sn__problem(rd->problems, place_of(node, "log"),
				"hub.log: in a store that others share, this hub needs an id of its own: "
				"add `id: ...`");
	return 0;
}

/* `local`, or the section of a broker's driver. */
static int check_bus(struct reader *rd)
{
	const struct sn_yaml_node *bus = rd->hub->bus_node, *type = NULL;

	if (bus != NULL && bus->kind == SN_YAML_MAP)
		type = sn__yaml_get(bus, "type");
	else if (bus != NULL && bus->kind == SN_YAML_SCALAR)
		type = bus;
	if (bus == NULL || sn__yaml_is_null(bus) ||
			(type != NULL && sn_str_eq(type->text, SN_STR("local")))) {
		rd->hub->bus_node = NULL;
		return 0;
	}
	if (bus->kind != SN_YAML_MAP)
		return sn__problem(rd->problems, bus->place,
				"hub.bus must be local, or a map with a type");
	return sn__bus_broker_check(bus, rd->problems);
}

static int check_mqtt(struct reader *rd)
{
	const struct sn_yaml_node *node = rd->hub->mqtt_node;

	if (node == NULL || sn__yaml_is_null(node)) {
		rd->hub->mqtt_node = NULL;
		return 0;
	}
	return sn__hub_mqtt_check(node, rd->hub->broker.listen != NULL, rd->problems);
}

static void off(struct sn_hub_place *place)
{
	if (is_off(place->listen))
		place->listen = NULL;
}

static int check(struct sn_config *config, const struct sn_yaml_node *node, void *section,
		struct sn_problems *problems)
{
	struct sn_hub_section *hub = section;
	struct reader rd = {config, hub, problems};
	int r;

	hub->registry.listen = SN_HUB_REGISTRY_DEFAULT;
	hub->broker.listen = SN_HUB_BROKER_DEFAULT;
	r = read_place(&rd, "registry", role_options, hub->registry_node, &hub->registry);
	r = worse(r, read_place(&rd, "broker", role_options, hub->broker_node, &hub->broker));
	r = worse(r, read_place(&rd, "http", http_options, hub->http_node, &hub->http));
	/* A map that does not say where: here, unless it says where else. */
	if (hub->registry.listen == NULL && hub->registry.address == NULL)
		hub->registry.listen = SN_HUB_REGISTRY_DEFAULT;
	if (hub->broker.listen == NULL && hub->broker.address == NULL)
		hub->broker.listen = SN_HUB_BROKER_DEFAULT;
	off(&hub->registry);
	off(&hub->broker);
	off(&hub->http);
	r = worse(r, check_role(&rd, "registry", hub->registry_node, &hub->registry));
	r = worse(r, check_role(&rd, "broker", hub->broker_node, &hub->broker));
	r = worse(r, check_http(&rd));
	r = worse(r, check_store(&rd, node));
	r = worse(r, check_mqtt(&rd));
	return worse(r, check_bus(&rd));
}

struct sn_mh_security sn__hub_security(const struct sn_hub_section *hub)
{
	return (struct sn_mh_security){.tls_cert = hub->tls.cert,
			.tls_key = hub->tls.key,
			.tls_ca = hub->tls.ca,
			.server_name = hub->tls.server_name,
			.token = hub->token,
			.insecure = hub->insecure};
}

const struct sn_config_section sn__hub_section = {
		.name = "hub",
		.help = "The service registry and event broker of a \xc2\xb5Home mesh, see below.",
		.options = hub_options,
		.size = sizeof(struct sn_hub_section),
		.doc = doc,
		.check = check,
		.open = sn__hub_open,
		.tell = sn__hub_tell,
};
