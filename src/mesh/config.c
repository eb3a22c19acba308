/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/config.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "io/addr.h"
#include "proto/url.h"

/* ---- the tables ---- */

/* What top_options fills; struct sn_config is made from it. */
struct raw {
	const char *name, *state;
	const struct sn_yaml_node *agent, *peers, *endpoints, *consumes, *policies;
	struct raw_listen {
		const struct sn_yaml_node *admin, *sidecar, *inbound;
	} listen;
	struct sn_config_trace trace;
	struct sn_config_log log;
	struct sn_config_limits limits;
	struct sn_config_tls tls;
	const struct sn_yaml_node *sections[SN_CONFIG_SECTIONS_MAX];
};

#define TLS(field) offsetof(struct sn_config_tls, field)
static const struct sn_option tls_options[] = {
		{.name = "ca",
				.kind = SN_OPTION_STRING,
				.offset = TLS(ca),
				.help = "File with the certificate authorities to trust; else the system's."},
		{.name = "cert",
				.kind = SN_OPTION_STRING,
				.offset = TLS(cert),
				.help = "File with our own certificate chain, leaf first."},
		{.name = "key",
				.kind = SN_OPTION_STRING,
				.offset = TLS(key),
				.help = "File with our own private key."},
		{.name = "server-name",
				.kind = SN_OPTION_STRING,
				.offset = TLS(server_name),
				.help = "Name the peer's certificate must have; else the address dialled."},
		{.name = "verify",
				.kind = SN_OPTION_BOOL,
				.offset = TLS(verify),
				.def = "true",
				.help = "Verify the peer's certificate."},
		{0}};

#define AGENT(field) offsetof(struct sn_config_agent, field)
const struct sn_option sn__config_agent_options[] = {
		{.name = "url",
				.kind = SN_OPTION_STRING,
				.offset = AGENT(url),
				.flags = SN_OPTION_REQUIRED,
				.help = "Where the agent listens, ws://HOST:PORT/TASK."},
		{.name = "ping",
				.kind = SN_OPTION_DURATION,
				.offset = AGENT(ping_ms),
				.unit = "ms",
				.max = 86400000,
				.def = "0",
				.help = "Ping a silent agent this often and reconnect after two without answer; 0: off."},
		{.name = "prune-absent",
				.kind = SN_OPTION_BOOL,
				.offset = AGENT(prune_absent),
				.def = "false",
				.help = "Forget targets that a peers message does not name."},
		{.name = "token",
				.kind = SN_OPTION_STRING,
				.offset = AGENT(token),
				.flags = SN_OPTION_SECRET,
				.help = "Sent to the agent as `Authorization: Bearer TOKEN`; else `$SINEW_AGENT_TOKEN`."},
		{.name = "tls",
				.kind = SN_OPTION_SECTION,
				.offset = AGENT(tls),
				.options = tls_options,
				.help = "TLS to the agent; what is not set here comes from the file's tls."},
		{0}};

#define TRACE(field) offsetof(struct sn_config_trace, field)
static const struct sn_option trace_options[] = {
		{.name = "zipkin",
				.kind = SN_OPTION_STRING,
				.offset = TRACE(zipkin),
				.help = "URL of a Zipkin collector."},
		{.name = "otlp",
				.kind = SN_OPTION_STRING,
				.offset = TRACE(otlp),
				.help = "URL of an OTLP collector over HTTP."},
		{.name = "sample",
				.kind = SN_OPTION_NUMBER,
				.offset = TRACE(sample),
				.max = 1,
				.def = "1",
				.help = "Share of new traces that is recorded."},
		{0}};

#define LOG(field) offsetof(struct sn_config_log, field)
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const struct sn_option log_options[] = {
		{.name = "level",
				.kind = SN_OPTION_ENUM,
				.offset = LOG(level),
				.choices = log_levels,
				.def = "info",
				.help = "Least important lines that are told. When it is not given, a program's own options say, and `sinew run` tells warnings (`-v`: more)."},
		{.name = "format",
				.kind = SN_OPTION_ENUM,
				.offset = LOG(format),
				.choices = log_formats,
				.def = "text",
				.help = "How `sinew run` writes a line, unless `--log` says."},
		{.name = "access",
				.kind = SN_OPTION_ANY,
				.offset = LOG(access_node),
				.help = "Requests through the sidecar, a JSON line each: `off`, `on`, or the share of them (`0.01`) that is written besides those that fail. Default `off`."},
		{0}};

#define LIMITS(field) offsetof(struct sn_config_limits, field)
static const struct sn_option limits_options[] = {
		{.name = "connections",
				.kind = SN_OPTION_INT,
				.offset = LIMITS(connections),
				.min = 1,
				.max = 1000000,
				.def = "10000",
				.help = "Connections of each listener; beyond, accepting pauses."},
		{.name = "header",
				.kind = SN_OPTION_SIZE,
				.offset = LIMITS(header_bytes),
				.unit = "bytes",
				.min = 1024,
				.max = 1048576,
				.def = "64KiB",
				.help = "Head of a request."},
		{.name = "body",
				.kind = SN_OPTION_SIZE,
				.offset = LIMITS(body_bytes),
				.unit = "bytes",
				.max = 1099511627776.0,
				.def = "0",
				.help = "Body of a request to the sidecar or through `listen.inbound`; 0: no limit, for bodies are streamed."},
		{.name = "message",
				.kind = SN_OPTION_SIZE,
				.offset = LIMITS(message_bytes),
				.unit = "bytes",
				.min = 1024,
				.max = 1073741824.0,
				.def = "64MiB",
				.help = "A message of the agent."},
		{.name = "idle",
				.kind = SN_OPTION_DURATION,
				.offset = LIMITS(idle_ms),
				.unit = "ms",
				.min = 1000,
				.max = 86400000,
				.def = "60s",
				.help = "Silence before a connection is closed."},
		{.name = "drain-timeout",
				.kind = SN_OPTION_DURATION,
				.offset = LIMITS(drain_ms),
				.unit = "ms",
				.max = 86400000,
				.def = "30s",
				.help = "How long calls and streams may take to end after SIGTERM or `POST /drain`."},
		{.name = "core",
				.kind = SN_OPTION_BOOL,
				.offset = LIMITS(core),
				.def = "false",
				.help = "Allow core dumps, which may hold secrets."},
		{0}};

const struct sn_option sn__config_listener_options[] = {
		{.name = "address",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_config_listener, address),
				.flags = SN_OPTION_REQUIRED,
				.help = "HOST:PORT, :PORT (loopback) or unix:PATH."},
		{.name = "token",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_config_listener, token),
				.flags = SN_OPTION_SECRET,
				.help = "Asked for as `Authorization: Bearer TOKEN`: by the sidecar, by what changes something, by all off loopback."},
		{.name = "hosts",
				.kind = SN_OPTION_LIST,
				.offset = offsetof(struct sn_config_listener, hosts),
				.help = "Names, with or without a port, that may stand in a request's Host besides localhost and loopback addresses."},
		{0}};

static const struct sn_option listen_options[] = {
		{.name = "admin",
				.kind = SN_OPTION_ANY,
				.offset = offsetof(struct raw_listen, admin),
				.help = "The admin API: an address, or a map with address and token."},
		{.name = "sidecar",
				.kind = SN_OPTION_ANY,
				.offset = offsetof(struct raw_listen, sidecar),
				.help = "The sidecar, for programs in any language: the same."},
		{.name = "inbound",
				.kind = SN_OPTION_ANY,
				.offset = offsetof(struct raw_listen, inbound),
				.help = "The public face of a service beside us: a map, see below."},
		{0}};

#define RAW(field) offsetof(struct raw, field)
static const struct sn_option top_options[] = {{.name = "name",
							       .kind = SN_OPTION_STRING,
							       .offset = RAW(name),
							       .def = "sinew",
							       .help = "Name of this instance."},
		{.name = "agent",
				.kind = SN_OPTION_ANY,
				.offset = RAW(agent),
				.help = "The agent's URL, or a map with url, ping, prune-absent, token, tls."},
		{.name = "peers",
				.kind = SN_OPTION_ANY,
				.offset = RAW(peers),
				.help = "Static peers, in any form of the wire, or a whole message."},
		{.name = "endpoints",
				.kind = SN_OPTION_ANY,
				.offset = RAW(endpoints),
				.help = "Own endpoints, as an agent would send them."},
		{.name = "consumes",
				.kind = SN_OPTION_ANY,
				.offset = RAW(consumes),
				.help = "What is consumed, as an agent would send it."},
		{.name = "policies",
				.kind = SN_OPTION_ANY,
				.offset = RAW(policies),
				.help = "Policies of the root, of kinds, of targets."},
		{.name = "listen",
				.kind = SN_OPTION_SECTION,
				.offset = RAW(listen),
				.options = listen_options,
				.help = "Where we listen."},
		{.name = "trace",
				.kind = SN_OPTION_SECTION,
				.offset = RAW(trace),
				.options = trace_options,
				.help = "Where spans go."},
		{.name = "log",
				.kind = SN_OPTION_SECTION,
				.offset = RAW(log),
				.options = log_options,
				.help = "What is logged, and how."},
		{.name = "state",
				.kind = SN_OPTION_STRING,
				.offset = RAW(state),
				.help = "Directory that keeps the last good metadata across restarts."},
		{.name = "limits",
				.kind = SN_OPTION_SECTION,
				.offset = RAW(limits),
				.options = limits_options,
				.help = "Bounds of what others can make us hold."},
		{.name = "tls",
				.kind = SN_OPTION_SECTION,
				.offset = RAW(tls),
				.options = tls_options,
				.help = "TLS of connections to peers; policies tls-* of a target win."},
		{0}};

/* Names that the file's description reserves, and the first keys of a sqAPI file. */
static const char *const later[] = {"connectors", "streams", "hub", "node", "registry", "bridge",
		"control", "metrics", "memory", "msg_broker", "data_store", "meta_store",
		"database", "active_plugins", NULL};

void sn__config_options(struct sn_option ret_table[SN_CONFIG_OPTIONS_MAX])
{
	size_t n = SN_COUNT(top_options) - 1, i;

	memcpy(ret_table, top_options, n * sizeof(*ret_table));
	for (i = 0; sn__config_sections[i] != NULL; i++, n++) {
		assert(i < SN_CONFIG_SECTIONS_MAX && n < SN_CONFIG_OPTIONS_MAX - 1);
		ret_table[n] = (struct sn_option){.name = sn__config_sections[i]->name,
				.kind = SN_OPTION_ANY,
				.offset = RAW(sections) + i * sizeof(const struct sn_yaml_node *),
				.options = sn__config_sections[i]->options,
				.help = sn__config_sections[i]->help};
	}
	ret_table[n] = (struct sn_option){0};
}

static bool is_section(const char *name)
{
	for (size_t i = 0; sn__config_sections[i] != NULL; i++) {
		if (strcmp(sn__config_sections[i]->name, name) == 0)
			return true;
	}
	return false;
}

/* The tables of the sections, for the page. */
static int sections_doc(struct sn_buf *out)
{
	int r = 0;

	for (size_t i = 0; r == 0 && sn__config_sections[i] != NULL; i++) {
		const struct sn_config_section *s = sn__config_sections[i];
		char prefix[64];

		(void)snprintf(prefix, sizeof(prefix), "%s.", s->name);
		r = sn__buf_printf(out,
				"\n**`%s`**\n\n| key | kind | default | meaning |\n"
				"| --- | --- | --- | --- |\n",
				s->name);
		if (r == 0)
			r = sn__options_doc(s->options, prefix, out);
		if (r == 0 && s->doc != NULL)
			r = sn__buf_printf(out, "\n%s\n", s->doc);
	}
	return r;
}

int sn__config_doc(struct sn_buf *out)
{
	static const char begin[] =
			"# sinew's own file\n\n"
			"Written by the table of options in `src/mesh/config.c`; a test compares.\n\n"
			"YAML 1.2 (JSON is YAML). Read by `sinew` (`--config FILE`, else `$SINEW_CONFIG`, else\n"
			"`sinew.yaml`) and by `sn_open()`. Every section may be left out. `sinew check FILE` tells every\n"
			"problem as `FILE:LINE:COLUMN: what`; an unknown key is one.\n\n"
			"| key | kind | default | meaning |\n| --- | --- | --- | --- |\n";
	static const char end[] =
			"\nDurations: `250ms`, `5s`, `2m`, `1h`; a bare number is milliseconds. Sizes: `512`, `64KiB`, `10MB`.\n\n"
			"**Values from elsewhere**, in any value (not in keys), after the file was parsed: `${VAR}`,\n"
			"`${VAR:default}`, `${file:PATH}` (a trailing newline is dropped); `$${` is a literal `${`.\n\n"
			"**`agent`** is a URL, `agent: ws://127.0.0.1:55555/TASK`, or a map:\n\n"
			"| key | kind | default | meaning |\n| --- | --- | --- | --- |\n";
	static const char tail[] =
			"\n**`listen.admin`** (docs/admin.md) and **`listen.sidecar`** (docs/sidecar.md) are each an address, or a\n"
			"map:\n\n"
			"| key | kind | default | meaning |\n| --- | --- | --- | --- |\n";
	static const char inbound[] =
			"\n**`listen.inbound`** (docs/inbound.md):\n\n"
			"| key | kind | default | meaning |\n| --- | --- | --- | --- |\n";
	static const char peers[] =
			"\n**`peers`** takes what an agent would send, in any of its three forms (docs/berlioz.md), or a\n"
			"whole message with `peers`, `policies`, `endpoints`, `consumes` inside. So the JSON of the connector\n"
			"guidelines, saved to a file, is such a file. A peer of a service or cluster needs `address` and `port`.\n\n"
			"**`policies`** takes the tree as it goes over the wire (`values`, `children`), or shorter: a key\n"
			"whose value is a map is a child, any other a policy (docs/policies.md):\n\n"
			"```yaml\npolicies:\n  timeout: 2s\n  service:\n    basket:\n      rest: {timeout: 800ms, retry-count: 2}\n```\n\n"
			"**Of later versions**, and refused with a sentence that says so: ";
	struct sn_option table[SN_CONFIG_OPTIONS_MAX];
	const char *comma = "";
	int r = sn__buf_puts(out, begin);

	sn__config_options(table);
	for (size_t i = 0; table[i].name != NULL; i++) {
		if (table[i].kind == SN_OPTION_ANY)
			table[i].options = NULL; /* a table of its own, below */
	}
	if (r == 0)
		r = sn__options_doc(table, "", out);
	if (r == 0)
		r = sn__buf_puts(out, end);
	if (r == 0)
		r = sn__options_doc(sn__config_agent_options, "agent.", out);
	if (r == 0)
		r = sn__buf_puts(out, tail);
	if (r == 0)
		r = sn__options_doc(sn__config_listener_options, "listen.X.", out);
	if (r == 0)
		r = sn__buf_puts(out, inbound);
	if (r == 0)
		r = sn__options_doc(sn__config_inbound_options, "listen.inbound.", out);
	if (r == 0)
		r = sn__options_doc(sn__config_inbound_tls_options, "listen.inbound.tls.", out);
	if (r == 0)
		r = sections_doc(out);
	if (r == 0)
		r = sn__buf_puts(out, peers);
	for (size_t i = 0; r == 0 && later[i] != NULL; i++) {
		if (is_section(later[i]))
			continue;
		r = sn__buf_printf(out, "%s`%s`", comma, later[i]);
		comma = ", ";
	}
	return r < 0 ? r : sn__buf_puts(out, ".\n");
}

/* ---- the sections ---- */

struct reader {
	struct sn_config *config;
	struct sn_problems *problems;
};

/* Keep going after a problem, stop without memory. */
static int worse(int a, int b)
{
	if (a == SN_E_NOMEM || b == SN_E_NOMEM)
		return SN_E_NOMEM;
	return a < 0 ? a : b;
}

static int check_url(struct reader *rd, const struct sn_yaml_node *node)
{
	struct sn_error err;
	struct sn_url url;

	if (node->kind != SN_YAML_SCALAR || sn__yaml_is_null(node))
		return 0; /* told already */
	if (sn__url_parse(node->text, &url, &err) < 0)
		return sn__problem(rd->problems, node->place, "agent: %s", err.text);
	if (!url.websocket)
		return sn__problem(rd->problems, node->place,
				"agent: expected a URL that begins with ws:// or wss://");
	return 0;
}

/* The URLs of collectors. */
static int check_trace(struct reader *rd, const struct sn_yaml_node *trace)
{
	static const char *const names[] = {"zipkin", "otlp"};
	int r = 0;

	for (size_t i = 0; i < SN_COUNT(names); i++) {
		const struct sn_yaml_node *node = trace != NULL ? sn__yaml_get(trace, names[i])
								: NULL;
		struct sn_error err;
		struct sn_url url;

		if (node == NULL || node->kind != SN_YAML_SCALAR || sn__yaml_is_null(node))
			continue; /* told already */
		if (sn__url_parse(node->text, &url, &err) < 0)
			r = sn__problem(rd->problems, node->place, "trace.%s: %s", names[i],
					err.text);
		else if (url.websocket)
			r = sn__problem(rd->problems, node->place,
					"trace.%s: expected a URL that begins with http:// or "
					"https://",
					names[i]);
	}
	return r;
}

static void inherit_tls(struct sn_config_tls *tls, const struct sn_config_tls *from)
{
	tls->ca = tls->ca != NULL ? tls->ca : from->ca;
	tls->cert = tls->cert != NULL ? tls->cert : from->cert;
	tls->key = tls->key != NULL ? tls->key : from->key;
	tls->verify = tls->verify && from->verify;
}

static int read_agent(struct reader *rd, const struct sn_yaml_node *node)
{
	struct sn_config *c = rd->config;
	const struct sn_yaml_node *url = NULL;
	bool is_map = node != NULL && node->kind == SN_YAML_MAP;
	int r = sn__options_read(sn__config_agent_options, is_map ? node : NULL, &c->agent,
			&c->arena, rd->problems);

	if (node != NULL && node->kind == SN_YAML_LIST)
		r = sn__problem(rd->problems, node->place,
				"agent must be a URL or a map, not a list");
	else if (is_map)
		url = sn__yaml_get(node, "url");
	else if (node != NULL)
		url = node;
	if (url != NULL && url->kind == SN_YAML_SCALAR)
		c->agent.url = url->text.ptr;
	if (url != NULL)
		r = worse(r, check_url(rd, url));
	inherit_tls(&c->agent.tls, &c->tls);
	return r;
}

static int read_listener(struct reader *rd, const char *name, const struct sn_yaml_node *node,
		struct sn_config_listener *ret_listener)
{
	const struct sn_yaml_node *at = node;
	struct sn_error err;
	struct sn_addr addr;
	int r = 0;

	if (node == NULL || sn__yaml_is_null(node))
		return 0;
	if (node->kind == SN_YAML_LIST)
		return sn__problem(rd->problems, node->place,
				"%s must be an address or a map, not a list", name);
	if (node->kind == SN_YAML_MAP) {
		r = sn__options_read(sn__config_listener_options, node, ret_listener,
				&rd->config->arena, rd->problems);
		at = sn__yaml_get(node, "address");
	} else {
		ret_listener->address = node->text.ptr;
	}
	if (r == 0 && at != NULL && sn__addr_parse_listen(at->text, &addr, &err) < 0)
		return sn__problem(rd->problems, at->place, "%s: %s", name, err.text);
	if (r == 0 && at != NULL && !sn__addr_is_loopback(&addr) && ret_listener->token == NULL)
		return sn__problem(rd->problems, at->place,
				"%s: an address that is not loopback needs a token", name);
	return r;
}

/* off, on, or a share. */
static int read_access(struct reader *rd, const struct sn_yaml_node *node)
{
	double *access = &rd->config->log.access;

	if (node == NULL || sn__yaml_is_null(node))
		return 0;
	if (node->kind == SN_YAML_SCALAR) {
		struct sn_str t = node->text;

		*access = sn_str_eq(t, SN_STR("on")) || sn_str_eq(t, SN_STR("true"));
		if (*access > 0 || sn_str_eq(t, SN_STR("off")) || sn_str_eq(t, SN_STR("false")))
			return 0;
		if (sn__yaml_float(node, access) == 0 && *access >= 0 && *access <= 1)
			return 0;
		*access = 0;
	}
	return sn__problem(rd->problems, node->place,
			"log.access must be off, on, or a share from 0 to 1");
}

static int message_set(struct reader *rd, const char *section, json_t *value)
{
	struct sn_config *c = rd->config;

	if (c->message == NULL)
		c->message = json_object();
	if (c->message == NULL) {
		json_decref(value);
		return SN_E_NOMEM;
	}
	return json_object_set_new(c->message, section, value) < 0 ? SN_E_NOMEM : 0;
}

static int read_peers(struct reader *rd, const struct sn_yaml_node *node)
{
	json_t *value = NULL;
	int r = sn__config_peers(node, &value, rd->problems);

	return r == 0 ? message_set(rd, "peers", value) : r;
}

static int read_plain(struct reader *rd, const char *section, enum sn_yaml_kind kind,
		const struct sn_yaml_node *node)
{
	json_t *value = NULL;
	int r;

	if (node->kind != kind)
		return sn__problem(rd->problems, node->place, "%s must be %s, not %s", section,
				kind == SN_YAML_MAP ? "a map" : "a list", sn__yaml_kind_name(node));
	r = sn__yaml_to_json(node, &value, rd->problems);
	return r == 0 ? message_set(rd, section, value) : r;
}

static int read_policies(struct reader *rd, const struct sn_yaml_node *node)
{
	json_t *tree = NULL;
	int r = sn__config_policies(node, &tree, rd->problems);

	if (r < 0)
		return r;
	if (rd->config->policies != NULL) {
		json_decref(tree);
		return sn__problem(rd->problems, node->place,
				"policies stand here and beside peers; only one place is possible");
	}
	rd->config->policies = tree;
	return 0;
}

/* `peers` may hold the whole message; its members are then read as if they stood at the top. */
static int read_message(struct reader *rd, const struct sn_yaml_node *node)
{
	static const struct sn_option sections[] = {{.name = "peers"}, {.name = "policies"},
			{.name = "endpoints"}, {.name = "consumes"}, {0}};
	int r = 0;

	SN_YAML_FOREACH(item, node)
	{
		if (sn__yaml_is_null(item->value))
			continue;
		if (sn_str_eq(item->key, SN_STR("peers")))
			r = worse(r, read_peers(rd, item->value));
		else if (sn_str_eq(item->key, SN_STR("policies")))
			r = worse(r, read_policies(rd, item->value));
		else if (sn_str_eq(item->key, SN_STR("endpoints")))
			r = worse(r, read_plain(rd, "endpoints", SN_YAML_MAP, item->value));
		else if (sn_str_eq(item->key, SN_STR("consumes")))
			r = worse(r, read_plain(rd, "consumes", SN_YAML_LIST, item->value));
		else
			sn__option_unknown(sections, item, "section of a message", rd->problems);
	}
	return r;
}

/* Known keys of later versions become problems of their own; the rest of the map is read by the
 * table. They are taken out of the list (which belongs to our tree) so that the table does not meet
 * them. */
static void take_out_later(struct reader *rd, struct sn_yaml_node *root)
{
	struct sn_yaml_item **at = &root->items;

	if (root->kind != SN_YAML_MAP)
		return;
	while (*at != NULL) {
		struct sn_yaml_item *item = *at;
		const char *const *name = later;

		while (*name != NULL && !sn_str_eq(item->key, sn_str_from(*name)))
			name++;
		if (*name == NULL || is_section(*name)) {
			at = &item->next;
			continue;
		}
		(void)sn__problem(rd->problems, item->place,
				"section %s is not available in this version", *name);
		*at = item->next;
		root->count--;
	}
}

/* A section of a floor above. `hub:` with nothing asks for all defaults. */
static int read_upper(struct reader *rd, size_t i, const struct sn_yaml_node *node)
{
	const struct sn_config_section *s = sn__config_sections[i];
	struct sn_config *c = rd->config;
	void *section;
	int r;

	if (node == NULL)
		return 0;
	if (node->kind != SN_YAML_MAP && !sn__yaml_is_null(node))
		return sn__problem(rd->problems, node->place, "%s must be a map, not %s", s->name,
				sn__yaml_kind_name(node));
	section = sn__arena_alloc(&c->arena, s->size);
	if (section == NULL)
		return SN_E_NOMEM;
	memset(section, 0, s->size);
	r = sn__options_read(s->options, node, section, &c->arena, rd->problems);
	if (r != SN_E_NOMEM && s->check != NULL)
		r = worse(r, s->check(c, node, section, rd->problems));
	c->sections[i] = section;
	return r;
}

const void *sn__config_section(const struct sn_config *config, const char *name)
{
	for (size_t i = 0; sn__config_sections[i] != NULL; i++) {
		if (strcmp(sn__config_sections[i]->name, name) == 0)
			return config->sections[i];
	}
	return NULL;
}

static int read_sections(struct reader *rd, const struct raw *raw)
{
	struct sn_config *c = rd->config;
	int r;

	c->name = raw->name;
	c->state = raw->state;
	c->trace = raw->trace;
	c->log = raw->log;
	c->log.access = 0;
	c->limits = raw->limits;
	c->tls = raw->tls;
	r = worse(read_agent(rd, raw->agent),
			read_listener(rd, "listen.admin", raw->listen.admin, &c->admin));
	r = worse(r, read_listener(rd, "listen.sidecar", raw->listen.sidecar, &c->sidecar));
	if (raw->listen.inbound != NULL && !sn__yaml_is_null(raw->listen.inbound))
		r = worse(r,
				sn__config_inbound(raw->listen.inbound, &c->inbound, &c->arena,
						rd->problems));
	r = worse(r, check_trace(rd, sn__yaml_get(c->yaml.root, "trace")));
	r = worse(r, read_access(rd, c->log.access_node));
	if (raw->policies != NULL)
		r = worse(r, read_policies(rd, raw->policies));
	if (raw->peers != NULL)
		r = worse(r,
				sn__yaml_get(raw->peers, "peers") != NULL
						? read_message(rd, raw->peers)
						: read_peers(rd, raw->peers));
	if (raw->endpoints != NULL)
		r = worse(r, read_plain(rd, "endpoints", SN_YAML_MAP, raw->endpoints));
	if (raw->consumes != NULL)
		r = worse(r, read_plain(rd, "consumes", SN_YAML_LIST, raw->consumes));
	for (size_t i = 0; sn__config_sections[i] != NULL; i++)
		r = worse(r, read_upper(rd, i, raw->sections[i]));
	return r;
}

static bool log_level_given(const struct sn_yaml_node *root)
{
	const struct sn_yaml_node *log = sn__yaml_get(root, "log");

	return log != NULL && sn__yaml_get(log, "level") != NULL;
}

static int read_all(struct reader *rd, sn_env_fn *env, void *arg)
{
	struct sn_config *c = rd->config;
	struct sn_option table[SN_CONFIG_OPTIONS_MAX];
	struct raw raw;
	int r = sn__subst_yaml(&c->yaml, env, arg, rd->problems);

	if (r == SN_E_NOMEM)
		return r;
	take_out_later(rd, c->yaml.root);
	sn__config_options(table);
	r = sn__options_read(table, c->yaml.root, &raw, &c->arena, rd->problems);
	if (r == SN_E_NOMEM)
		return r;
	c->file = c->yaml.file;
	raw.log.level_given = log_level_given(c->yaml.root);
	r = worse(r, read_sections(rd, &raw));
	return r < 0 ? r : sn__yaml_to_json(c->yaml.root, &c->whole, rd->problems);
}

/* ---- in and out ---- */

static int parse(const char *file, struct sn_str text, sn_env_fn *env, void *arg,
		struct sn_problems *problems, struct sn_config **ret_config)
{
	struct sn_config *c = sn__calloc(1, sizeof *c);
	struct reader rd = {c, problems};
	uint32_t before = problems->n_errors;
	struct sn_error err = {0};
	int r;

	if (c == NULL)
		return SN_E_NOMEM;
	if (text.len > SN_CONFIG_SIZE_MAX)
		r = sn__error_set(&err, SN_E_LIMIT, "%s: over %zu bytes", file, SN_CONFIG_SIZE_MAX);
	else
		r = sn__yaml_parse(&c->yaml, file, text, &err);
	if (r < 0) {
		sn__free(c);
		return sn__problem_from(problems, &err);
	}
	sn__arena_init(&c->arena, 1024, SN_CONFIG_SIZE_MAX);
	r = read_all(&rd, env, arg);
	if (r == 0 && problems->n_errors != before)
		r = SN_E_INVALID;
	if (r < 0)
		sn__config_destroy(c);
	else
		*ret_config = c;
	return r;
}

static int finish(
		struct sn_problems *problems, struct sn_problems *own, int r, struct sn_error *err)
{
	if (r == SN_E_NOMEM)
		(void)sn__error_set(err, r, "out of memory");
	else if (r < 0)
		(void)sn__problems_to_error(problems, r, err);
	sn__problems_finish(own);
	return r;
}

int sn__config_parse(const char *file, struct sn_str text, sn_env_fn *env, void *arg,
		struct sn_config **ret_config, struct sn_problems *problems, struct sn_error *err)
{
	struct sn_problems own;

	sn__problems_init(&own, file);
	if (problems == NULL)
		problems = &own;
	return finish(problems, &own, parse(file, text, env, arg, problems, ret_config), err);
}

int sn__config_load(const char *path, struct sn_config **ret_config, struct sn_problems *problems,
		struct sn_error *err)
{
	SN_AUTO_FREE char *text = NULL;
	struct sn_error read_err = {0};
	struct sn_problems own;
	struct sn_str s;
	int r;

	sn__problems_init(&own, path);
	if (problems == NULL)
		problems = &own;
	r = sn__file_read(path, SN_CONFIG_SIZE_MAX, &text, &s.len, &read_err);
	s.ptr = text;
	if (r < 0)
		r = sn__problem_from(problems, &read_err);
	else
		r = parse(path, s, NULL, NULL, problems, ret_config);
	return finish(problems, &own, r, err);
}

void sn__config_destroy(struct sn_config *config)
{
	if (config == NULL)
		return;
	json_decref(config->message);
	json_decref(config->policies);
	json_decref(config->whole);
	sn__arena_finish(&config->arena);
	sn__yaml_finish(&config->yaml);
	sn__free(config);
}
