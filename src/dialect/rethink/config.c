/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/rethink/config.h"

#include <stdlib.h>

#include "base/mem.h"
#include "dialect/rethink/bridge.h"
#include "proto/url.h"

#define RETRIES_DEFAULT 5
#define RETRIES_MAX 1000

static const char *const value_words[] = {"auto", "map", "array", NULL};
static const char *const type_words[] = {"lower", "upper", "mirror", NULL};
static const char *const compat_words[] = {"none", "vertx", NULL};

#define SSL(field) offsetof(struct sn_rethink_ssl, field)
#define JAVA_HELP "Of the vert.x form, a key store of Java: refused; use cert, key and ca."
static const struct sn_option ssl_options[] = {
		{.name = "enabled",
				.kind = SN_OPTION_BOOL,
				.offset = SSL(enabled),
				.def = "false",
				.help = "Show a client certificate, and trust `ca` only."},
		{.name = "cert",
				.kind = SN_OPTION_STRING,
				.offset = SSL(cert),
				.help = "PEM file: the client's certificate chain, leaf first."},
		{.name = "key",
				.kind = SN_OPTION_STRING,
				.offset = SSL(key),
				.help = "PEM file: its private key."},
		{.name = "ca",
				.kind = SN_OPTION_STRING,
				.offset = SSL(ca),
				.help = "PEM file: the authorities to trust instead of the system's."},
		{.name = "keyPassphrase",
				.kind = SN_OPTION_STRING,
				.offset = SSL(passphrase),
				.flags = SN_OPTION_SECRET,
				.help = "What the private key is encrypted with."},
		{.name = "trustStore",
				.kind = SN_OPTION_STRING,
				.offset = SSL(java[0]),
				.help = JAVA_HELP},
		{.name = "trustStorePass",
				.kind = SN_OPTION_STRING,
				.offset = SSL(java[1]),
				.flags = SN_OPTION_SECRET,
				.help = JAVA_HELP},
		{.name = "keyStore",
				.kind = SN_OPTION_STRING,
				.offset = SSL(java[2]),
				.help = JAVA_HELP},
		{.name = "keyStorePass",
				.kind = SN_OPTION_STRING,
				.offset = SSL(java[3]),
				.flags = SN_OPTION_SECRET,
				.help = JAVA_HELP},
		{0}};

#define WS(field) offsetof(struct sn_rethink_websocket, field)
static const struct sn_option websocket_options[] = {
		{.name = "listen",
				.kind = SN_OPTION_STRING,
				.offset = WS(listen),
				.help = "HOST:PORT, :PORT (loopback) or unix:PATH; " SN_BRIDGE_LISTEN_DEFAULT
					" when unset, and when no transport is named."},
		{.name = "cert",
				.kind = SN_OPTION_STRING,
				.offset = WS(cert),
				.help = "PEM file with the certificate chain, leaf first; with it wss:// is served."},
		{.name = "key",
				.kind = SN_OPTION_STRING,
				.offset = WS(key),
				.help = "PEM file with its private key."},
		{.name = "hosts",
				.kind = SN_OPTION_LIST,
				.offset = WS(hosts),
				.help = "Names that may stand in a request's Host besides localhost and addresses."},
		{.name = "max_connections",
				.kind = SN_OPTION_INT,
				.offset = WS(max_connections),
				.min = 1,
				.max = 1000000,
				.def = "1000",
				.help = "At once; more are answered 503."},
		{0}};

#define VERTX(field) offsetof(struct sn_rethink_vertx, field)
static const struct sn_option vertx_options[] = {
		{.name = "host",
				.kind = SN_OPTION_STRING,
				.offset = VERTX(host),
				.help = "Where its TCP event bus bridge listens: a name or an address."},
		{.name = "port",
				.kind = SN_OPTION_INT,
				.offset = VERTX(port),
				.min = 1,
				.max = 65535,
				.def = "7000",
				.help = "Its port."},
		{0}};

#define AT(field) offsetof(struct sn_rethink_config, field)
#define MH(field) offsetof(struct sn_rethink_microhome, field)
static const struct sn_option microhome_options[] = {
		{.name = "broker",
				.kind = SN_OPTION_STRING,
				.offset = MH(broker),
				.help = "The event broker, IPV4:PORT."},
		{.name = "registry",
				.kind = SN_OPTION_STRING,
				.offset = MH(registry),
				.help = "The service registry, IPV4:PORT."},
		{.name = "id",
				.kind = SN_OPTION_STRING,
				.offset = MH(id),
				.def = "registry-connector",
				.help = "The node's id."},
		{.name = "listen",
				.kind = SN_OPTION_STRING,
				.offset = MH(listen),
				.def = ":0",
				.help = "Where the node listens: HOST:PORT, or :PORT (loopback)."},
		{.name = "advertise",
				.kind = SN_OPTION_STRING,
				.offset = MH(advertise),
				.help = "The address it registers, if another."},
		{.name = "token",
				.kind = SN_OPTION_STRING,
				.offset = MH(token),
				.flags = SN_OPTION_SECRET,
				.help = "What all nodes of the mesh share."},
		{.name = "insecure",
				.kind = SN_OPTION_BOOL,
				.offset = MH(insecure),
				.def = "false",
				.help = "Listen off loopback without TLS, as nodes of the original do."},
		{0}};

const struct sn_option sn__rethink_options[] = {
		{.name = "url",
				.kind = SN_OPTION_LIST,
				.offset = AT(url),
				.help = "Base URL of the registry, or of several replicas: a list, or a text with commas."},
		{.name = "retries",
				.kind = SN_OPTION_ANY,
				.offset = AT(retries_node),
				.help = "Attempts in all. 5 when it is 0 or no number; below 0: 1."},
		{.name = "ssl",
				.kind = SN_OPTION_SECTION,
				.offset = AT(ssl),
				.options = ssl_options,
				.help = "Mutual TLS."},
		{.name = "domain",
				.kind = SN_OPTION_STRING,
				.offset = AT(domain),
				.help = "The provider's domain: messages to other registries are answered 404. Unset: what each message says."},
		{.name = "notifications",
				.kind = SN_OPTION_BOOL,
				.offset = AT(notifications),
				.def = "true",
				.help = "Tell changes of status, if somebody listens."},
		{.name = "poll_interval_ms",
				.kind = SN_OPTION_DURATION,
				.offset = AT(poll_interval_ms),
				.unit = "ms",
				.max = 86400000,
				.def = "5000",
				.help = "How often the registry is asked for changes; 0: when told to."},
		{.name = "timeout_ms",
				.kind = SN_OPTION_DURATION,
				.offset = AT(timeout_ms),
				.unit = "ms",
				.min = 1,
				.max = 604800000,
				.def = "30000",
				.help = "One attempt, to the end of the answer."},
		{.name = "connect_timeout_ms",
				.kind = SN_OPTION_DURATION,
				.offset = AT(connect_timeout_ms),
				.unit = "ms",
				.min = 1,
				.max = 604800000,
				.def = "5000",
				.help = "TCP and TLS, a part of timeout_ms."},
		{.name = "value_format",
				.kind = SN_OPTION_ENUM,
				.offset = AT(value_format),
				.def = "auto",
				.choices = value_words,
				.help = "`value` of reads of many: map, array, or (auto) an array where the manual's resource forms ask."},
		{.name = "response_type",
				.kind = SN_OPTION_ENUM,
				.offset = AT(response_type),
				.def = "lower",
				.choices = type_words,
				.help = "`type` of answers: response, RESPONSE, or (mirror) as the message writes its own."},
		{.name = "node_compat",
				.kind = SN_OPTION_ENUM,
				.offset = AT(node_compat),
				.def = "none",
				.choices = compat_words,
				.help = "vertx: every code but 200 and 404 becomes 500, as the vert.x node does it."},
		{.name = "max_inflight",
				.kind = SN_OPTION_INT,
				.offset = AT(max_inflight),
				.min = 1,
				.max = 1000000,
				.def = "16384",
				.unit = "messages",
				.help = "Messages at once; more are answered with code 503."},
		{.name = "websocket",
				.kind = SN_OPTION_SECTION,
				.offset = AT(websocket),
				.options = websocket_options,
				.help = "Of `sinew bridge`: where message nodes connect."},
		{.name = "address",
				.kind = SN_OPTION_STRING,
				.offset = AT(address),
				.def = "mn:/registry-connector",
				.help = "Of `sinew bridge`: the connector's address on event buses."},
		{.name = "vertx",
				.kind = SN_OPTION_SECTION,
				.offset = AT(vertx),
				.options = vertx_options,
				.help = "Of `sinew bridge`: the event bus of Vert.x, by its TCP bridge (without TLS)."},
		{.name = "nats",
				.kind = SN_OPTION_ANY,
				.offset = AT(nats_node),
				.help = "Of `sinew bridge`: requests by NATS, the subject is `address`: a map with `url` and other options of broker/nats, and `queue` (`registry-connector`), the queue group."},
		{.name = "microhome",
				.kind = SN_OPTION_SECTION,
				.offset = AT(microhome),
				.options = microhome_options,
				.help = "Of `sinew bridge`: events of a \xc2\xb5Home mesh, the type is `address`."},
		{0}};

/* ---- urls ---- */

struct reader {
	struct sn_rethink_config *config;
	const struct sn_yaml_node *map; /* may be NULL */
	struct sn_arena *arena;
	struct sn_problems *problems;
	sn_env_fn *env; /* may be NULL */
	void *env_arg;
};

static struct sn_place place_of(const struct reader *rd, const char *key)
{
	const struct sn_yaml_node *node = rd->map != NULL ? sn__yaml_get(rd->map, key) : NULL;

	return node != NULL ? node->place : (struct sn_place){0, 0};
}

static const char *env_of(const struct reader *rd, const char *name)
{
	const char *value = rd->env != NULL ? rd->env(name, rd->env_arg) : NULL;

	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* A text with commas as a list, appended. */
static int split(struct reader *rd, const char *text, const char **items, size_t *n)
{
	while (*text != '\0') {
		size_t len = strcspn(text, ","), end = len;
		const char *begin = text;
		char *one;

		text += text[len] == ',' ? len + 1 : len;
		while (end > 0 && *begin == ' ') {
			begin++;
			end--;
		}
		while (end > 0 && (begin[end - 1] == ' ' || begin[end - 1] == '/'))
			end--;
		if (end == 0)
			continue;
		if (*n == SN_RETHINK_URLS_MAX)
			return sn__problem(rd->problems, place_of(rd, "url"),
					"url: at most %u of them", SN_RETHINK_URLS_MAX);
		one = sn__arena_strdup(rd->arena, (struct sn_str){begin, end});
		if (one == NULL)
			return SN_E_NOMEM;
		items[(*n)++] = one;
	}
	return 0;
}

/* "/path" of a base URL that was checked. */
static struct sn_str base_path(const char *url)
{
	struct sn_url parts;

	(void)!sn__url_parse(sn_str_from(url), &parts, NULL);
	return parts.target;
}

static int check_url(struct reader *rd, const char *url, const char *first)
{
	struct sn_place place = place_of(rd, "url");
	struct sn_error err;
	struct sn_url parts;

	if (sn__url_parse(sn_str_from(url), &parts, &err) < 0)
		return sn__problem(rd->problems, place, "url: %s", err.text);
	if (parts.websocket)
		return sn__problem(rd->problems, place,
				"url: expected http:// or https://, not \"%s\"", url);
	if (parts.target.len > 0 &&
			(memchr(parts.target.ptr, '?', parts.target.len) != NULL ||
					parts.target.len > 1024))
		return sn__problem(rd->problems, place,
				"url: \"%s\" is no base URL: a query, or too long a path", url);
	if (!sn_str_eq(parts.target, base_path(first)))
		return sn__problem(rd->problems, place,
				"url: replicas differ in their paths: \"%s\" and \"%s\"", first,
				url);
	return 0;
}

static int urls(struct reader *rd, const char *override)
{
	struct sn_option_list *list = &rd->config->url;
	const char **items = sn__arena_alloc(rd->arena, SN_RETHINK_URLS_MAX * sizeof(*items));
	const char *env = env_of(rd, "NODE_REGISTRY_URL");
	size_t n = 0;
	int r = 0;

	if (items == NULL)
		return SN_E_NOMEM;
	if (override != NULL)
		r = split(rd, override, items, &n);
	for (size_t i = 0; r == 0 && override == NULL && i < list->n; i++)
		r = split(rd, list->items[i], items, &n);
	if (r == 0 && n == 0 && rd->env != NULL)
		r = split(rd, env != NULL ? env : SN_RETHINK_URL_DEFAULT, items, &n);
	if (r < 0)
		return r;
	*list = (struct sn_option_list){n, items};
	if (n == 0)
		return sn__problem(rd->problems, place_of(rd, "url"),
				"url is missing: the registry's base URL");
	for (size_t i = 0; r == 0 && i < n; i++)
		r = check_url(rd, items[i], items[0]);
	return r;
}

/* ---- the rest ---- */

static int retries(struct reader *rd)
{
	const struct sn_yaml_node *node = rd->config->retries_node;
	const char *env = env_of(rd, "NODE_REGISTRY_RETRIES");
	struct sn_yaml_node from_env = {.kind = SN_YAML_SCALAR, .plain = true, .weight = 1};
	int64_t n = 0;

	if (node != NULL && sn__yaml_is_null(node))
		node = NULL;
	if (node == NULL && env != NULL) {
		from_env.text = sn_str_from(env);
		node = &from_env;
	}
	if (node != NULL && (node->kind != SN_YAML_SCALAR || sn__yaml_int(node, &n) < 0)) {
		sn__problem_warning(rd->problems, node->place, "retries: no number, so it is %d",
				RETRIES_DEFAULT);
		n = 0;
	}
	rd->config->retries = (uint32_t)(n == 0 ? RETRIES_DEFAULT
					: n < 0 ? 1
						: SN_MIN(n, RETRIES_MAX));
	return 0;
}

static int ssl(struct reader *rd)
{
	struct sn_rethink_ssl *s = &rd->config->ssl;
	struct sn_place place = place_of(rd, "ssl");
	static const char *const stores[] = {"NODE_REGISTRY_TRUST_STORE",
			"NODE_REGISTRY_TRUST_STORE_PASS", "NODE_REGISTRY_KEY_STORE",
			"NODE_REGISTRY_KEY_STORE_PASS"};
	const char *env = env_of(rd, "NODE_REGISTRY_SSL");

	if (place.line == 0 && env != NULL)
		s->enabled = sn__str_ieq(sn_str_from(env), SN_STR("true"));
	for (size_t i = 0; i < SN_COUNT(stores); i++)
		if (place.line == 0 && s->java[i] == NULL)
			s->java[i] = env_of(rd, stores[i]);
	if (s->passphrase == NULL)
		s->passphrase = env_of(rd, "NODE_REGISTRY_KEY_PASS_PHRASE");
	if (!s->enabled)
		return 0;
	for (size_t i = 0; i < SN_COUNT(stores); i++)
		if (s->java[i] != NULL)
			return sn__problem(rd->problems, place,
					"ssl: key stores of Java are not read: give the PEM files "
					"cert, key and ca (openssl pkcs12 -in STORE makes them)");
	if (s->cert == NULL || s->key == NULL || s->ca == NULL)
		return sn__problem(rd->problems, place, "ssl: %s is missing: a PEM file",
				s->cert == NULL                  ? "cert"
						: s->key == NULL ? "key"
								 : "ca");
	return 0;
}

static int domain(struct reader *rd)
{
	struct sn_rethink_config *c = rd->config;

	if (c->domain == NULL)
		c->domain = env_of(rd, "NODE_DOMAIN");
	if (c->domain != NULL && c->domain[0] == '\0')
		c->domain = NULL;
	if (c->domain != NULL && !sn__rethink_domain_valid(sn_str_from(c->domain)))
		return sn__problem(rd->problems, place_of(rd, "domain"),
				"domain: \"%s\" cannot stand in an address", c->domain);
	return 0;
}

int sn__rethink_config_check(struct sn_rethink_config *config, const struct sn_yaml_node *map,
		const char *url, sn_env_fn *env, void *env_arg, struct sn_arena *arena,
		struct sn_problems *problems)
{
	struct reader rd = {config, map, arena, problems, env, env_arg};
	int r = urls(&rd, url);

	if (r == 0)
		r = retries(&rd);
	if (r == 0)
		r = ssl(&rd);
	return r < 0 ? r : domain(&rd);
}

struct sn_rethink_style sn__rethink_style(const struct sn_rethink_config *config)
{
	return (struct sn_rethink_style){
			.value = (enum sn_rethink_value)config->value_format,
			.type = (enum sn_rethink_type)config->response_type,
			.vertx = config->node_compat == 1,
			.domain = sn_str_from(config->domain),
	};
}

/* ---- the file's section ---- */

static const char *environment(const char *name, void *arg)
{
	return getenv(name);
}

static int mesh(const struct sn_rethink_microhome *m, struct sn_place place,
		struct sn_problems *problems)
{
	const char *const names[] = {"broker", "registry", "listen"};
	const char *const texts[] = {m->broker, m->registry, m->listen};
	struct sn_error err;
	struct sn_addr addr;

	for (size_t i = 0; i < SN_COUNT(names); i++) {
		if (texts[i] == NULL)
			return sn__problem(problems, place, "bridge.microhome.%s is missing",
					names[i]);
		if (sn__addr_parse_listen(sn_str_from(texts[i]), &addr, &err) < 0)
			return sn__problem(problems, place,
					"bridge.microhome.%s: expected an address like "
					"127.0.0.1:5100, not \"%s\"",
					names[i], texts[i]);
	}
	return 0;
}

/* Where messages come from; WebSockets when nothing is named. */
static int places(struct sn_rethink_config *c, const struct sn_yaml_node *map,
		struct sn_problems *problems)
{
	const struct sn_yaml_node *node = sn__yaml_get(map, "websocket");
	struct sn_place place = node != NULL ? node->place : map->place;
	struct sn_rethink_websocket *w = &c->websocket;
	struct sn_error err;
	struct sn_addr addr;

	if (sn__yaml_get(map, "vertx") != NULL && c->vertx.host == NULL)
		return sn__problem(problems, sn__yaml_get(map, "vertx")->place,
				"bridge.vertx.host is missing");
	if (c->address[0] == '\0')
		return sn__problem(problems, sn__yaml_get(map, "address")->place,
				"bridge.address is empty");
	if (c->nats_node != NULL && sn__yaml_is_null(c->nats_node))
		c->nats_node = NULL;
	if (c->nats_node != NULL) {
		int r = sn__bridge_nats_check(c->nats_node, c->address, problems);

		if (r < 0)
			return r;
	}
	if (sn__yaml_get(map, "microhome") != NULL) {
		int r = mesh(&c->microhome, sn__yaml_get(map, "microhome")->place, problems);

		if (r < 0)
			return r;
	}
	if (node == NULL &&
			(c->vertx.host != NULL || c->nats_node != NULL ||
					c->microhome.broker != NULL))
		return 0;
	if (w->listen == NULL)
		w->listen = SN_BRIDGE_LISTEN_DEFAULT;
	if (sn__addr_parse_listen(sn_str_from(w->listen), &addr, &err) < 0)
		return sn__problem(problems, place, "bridge.websocket.listen: %s", err.text);
	if ((w->cert != NULL) != (w->key != NULL))
		return sn__problem(problems, place, "bridge.websocket: cert and key go together");
	return 0;
}

static int section_check(struct sn_config *config, const struct sn_yaml_node *node, void *section,
		struct sn_problems *problems)
{
	int r = sn__rethink_config_check(
			section, node, NULL, environment, NULL, &config->arena, problems);

	return r < 0 ? r : places(section, node, problems);
}

const struct sn_config_section sn__rethink_bridge = {
		.name = "bridge",
		.help = "The registry connector of reTHINK, where messages come from.",
		.options = sn__rethink_options,
		.size = sizeof(struct sn_rethink_config),
		.doc = "Where the section is silent, the environment variables of the vert.x node are read:\n"
		       "`NODE_REGISTRY_URL`, `NODE_DOMAIN`, `NODE_REGISTRY_RETRIES`, `NODE_REGISTRY_SSL`,\n"
		       "`NODE_REGISTRY_KEY_PASS_PHRASE` (docs/bridge.md).",
		.check = section_check,
		.open = sn__bridge_open,
		.tell = sn__bridge_tell,
};
