/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mesh_check.h"

#include <string.h>

#include "base/arena.h"
#include "base/mem.h"
#include "base/option.h"
#include "proto/http.h"

struct check {
	bool tcp, tls, insecure;
	const char *http, *grpc, *status, *host, *ca;
	int64_t port, healthy_after, unhealthy_after;
	uint64_t every_ms, timeout_ms;
};

#define AT(member) .offset = offsetof(struct check, member)

const struct sn_option sn__mesh_check_options[] = {
		{.name = "tcp",
				.kind = SN_OPTION_BOOL,
				AT(tcp),
				.def = "false",
				.help = "Well: it takes a connection."},
		{.name = "http",
				.kind = SN_OPTION_STRING,
				AT(http),
				.help = "Path: well is what answers GET with such a status."},
		{.name = "grpc",
				.kind = SN_OPTION_STRING,
				AT(grpc),
				.help = "Service: well is what grpc.health.v1 says is SERVING; empty: the server."},
		{.name = "status",
				.kind = SN_OPTION_STRING,
				AT(status),
				.def = "200-299",
				.help = "http: the status, or the range of them."},
		{.name = "host",
				.kind = SN_OPTION_STRING,
				AT(host),
				.help = "http, grpc: Host, and the name in the certificate, instead of the address."},
		{.name = "port",
				.kind = SN_OPTION_INT,
				AT(port),
				.min = 1,
				.max = 65535,
				.help = "Port to be asked instead of the instance's."},
		{.name = "tls",
				.kind = SN_OPTION_BOOL,
				AT(tls),
				.def = "false",
				.help = "http, grpc: by TLS; so it is where the protocol is https or grpcs."},
		{.name = "ca",
				.kind = SN_OPTION_STRING,
				AT(ca),
				.help = "File of trusted certificates instead of the system's."},
		{.name = "insecure",
				.kind = SN_OPTION_BOOL,
				AT(insecure),
				.def = "false",
				.help = "Take any certificate."},
		{.name = "every",
				.kind = SN_OPTION_DURATION,
				AT(every_ms),
				.def = "5s",
				.min = 100,
				.max = 86400000,
				.help = "From one check of an instance to the next, a tenth more or less."},
		{.name = "timeout",
				.kind = SN_OPTION_DURATION,
				AT(timeout_ms),
				.def = "1s",
				.min = 10,
				.max = 600000,
				.help = "A check that takes longer has failed."},
		{.name = "healthy_after",
				.kind = SN_OPTION_INT,
				AT(healthy_after),
				.def = "2",
				.min = 1,
				.max = 1000,
				.help = "Checks in a row that go well until an unwell instance is served again."},
		{.name = "unhealthy_after",
				.kind = SN_OPTION_INT,
				AT(unhealthy_after),
				.def = "3",
				.min = 1,
				.max = 1000,
				.help = "Checks in a row that fail until an instance is served no more."},
		{0}};

static int bad(struct sn_problems *problems, const struct sn_yaml_node *node, const char *text)
{
	sn__problem(problems, node->place, "check: %s", text);
	return SN_E_INVALID;
}

/* "200-299" or "204". */
static int read_status(const char *text, uint64_t *ret_min, uint64_t *ret_max)
{
	struct sn_str s = sn_str_from(text), low = s, high = s;
	const char *dash = strchr(text, '-');

	if (dash != NULL) {
		low.len = (size_t)(dash - text);
		high = sn_str_from(dash + 1);
	}
	if (sn__parse_u64(low, 599, ret_min) < 0 || sn__parse_u64(high, 599, ret_max) < 0 ||
			*ret_min < 200 || *ret_min > *ret_max)
		return SN_E_INVALID;
	return 0;
}

static bool is_host(const char *host)
{
	for (const char *p = host; *p != '\0'; p++) {
		if (*p <= ' ' || *p == 127 || strchr("/?#@", *p) != NULL)
			return false;
	}
	return host[0] != '\0';
}

static bool is_one_of(struct sn_str key, const char *const *names)
{
	while (*names != NULL && !sn_str_eq(key, sn_str_from(*names)))
		names++;
	return *names != NULL;
}

/* Keys that say nothing to this kind of check. */
static int verify_keys(const struct check *c, const struct sn_yaml_node *node,
		struct sn_problems *problems)
{
	static const char *const of_http[] = {"status", NULL};
	static const char *const of_both[] = {"host", "tls", "ca", "insecure", NULL};
	static const char *const of_tls[] = {"ca", "insecure", NULL};
	int r = 0;

	SN_YAML_FOREACH(item, node)
	{
		const char *is_for = NULL, *this_one = c->tcp ? "`tcp`" : "`grpc`";

		if (c->http == NULL && is_one_of(item->key, of_http)) {
			is_for = "`http`";
		} else if (c->tcp && is_one_of(item->key, of_both)) {
			is_for = "`http` and `grpc`";
		} else if (!c->tls && is_one_of(item->key, of_tls)) {
			is_for = "checks by TLS (`tls: true`)";
			this_one = "plain";
		}
		if (is_for == NULL)
			continue;
		sn__problem(problems, item->place, "check: `%s` is for %s, and this one is %s",
				item->key.ptr, is_for, this_one);
		r = SN_E_INVALID;
	}
	return r;
}

static int verify(const struct check *c, const struct sn_yaml_node *node,
		struct sn_problems *problems)
{
	uint64_t min, max;

	if ((int)c->tcp + (c->http != NULL) + (c->grpc != NULL) != 1)
		return bad(problems, node, "expected one of `tcp`, `http` and `grpc`");
	if (c->http != NULL && (c->http[0] != '/' || !sn__http_target_valid(sn_str_from(c->http))))
		return bad(problems, sn__yaml_get(node, "http"),
				"http: expected a path such as /healthz");
	if (c->grpc != NULL && strlen(c->grpc) > 1024)
		return bad(problems, sn__yaml_get(node, "grpc"),
				"grpc: a service has 1024 bytes at most");
	if (read_status(c->status, &min, &max) < 0)
		return bad(problems, sn__yaml_get(node, "status"),
				"status: expected 200 to 599, one or a range such as 200-299");
	if (c->host != NULL && !is_host(c->host))
		return bad(problems, sn__yaml_get(node, "host"), "host: expected a name");
	return 0;
}

static int set(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) == 0 ? 0 : SN_E_NOMEM;
}

static int put(json_t *out, const struct check *c)
{
	uint64_t min = 0, max = 0;
	int r;

	if (c->http != NULL)
		r = set(out, "http", json_string(c->http));
	else if (c->grpc != NULL)
		r = set(out, "grpc", json_string(c->grpc));
	else
		r = set(out, "tcp", json_true());
	if (r == 0 && c->http != NULL && read_status(c->status, &min, &max) == 0)
		r = set(out, "status_min", json_integer((json_int_t)min)) < 0 ||
						set(out, "status_max",
								json_integer((json_int_t)max)) < 0
				? SN_E_NOMEM
				: 0;
	if (r == 0 && c->host != NULL)
		r = set(out, "host", json_string(c->host));
	if (r == 0 && c->port != 0)
		r = set(out, "port", json_integer(c->port));
	if (r == 0 && c->tls && !c->tcp)
		r = set(out, "tls", json_true());
	if (r == 0 && c->ca != NULL)
		r = set(out, "ca", json_string(c->ca));
	if (r == 0 && c->insecure)
		r = set(out, "insecure", json_true());
	if (r == 0)
		r = set(out, "every", json_integer((json_int_t)c->every_ms));
	if (r == 0)
		r = set(out, "timeout", json_integer((json_int_t)c->timeout_ms));
	if (r == 0)
		r = set(out, "healthy_after", json_integer(c->healthy_after));
	if (r == 0)
		r = set(out, "unhealthy_after", json_integer(c->unhealthy_after));
	return r;
}

/* The map, or what one word stands for. */
static int read_check(const struct sn_yaml_node *node, struct check *out, struct sn_arena *arena,
		struct sn_problems *problems)
{
	int r = sn__options_read(sn__mesh_check_options, node->kind == SN_YAML_MAP ? node : NULL,
			out, arena, problems);

	if (r < 0 || node->kind == SN_YAML_MAP)
		return r < 0 ? r : verify(out, node, problems);
	if (node->kind == SN_YAML_SCALAR && sn_str_eq(node->text, SN_STR("tcp")))
		out->tcp = true;
	else if (node->kind == SN_YAML_SCALAR && sn_str_eq(node->text, SN_STR("grpc")))
		out->grpc = "";
	else
		return bad(problems, node, "expected tcp, grpc or a map such as {http: /healthz}");
	return 0;
}

int sn__mesh_check_read(const struct sn_yaml_node *node, struct sn_str protocol, json_t **ret_check,
		struct sn_problems *problems)
{
	struct sn_arena arena;
	struct check c;
	json_t *out = json_object();
	int r = SN_E_NOMEM;

	sn__arena_init(&arena, 1024, 1 << 20);
	if (out != NULL)
		r = read_check(node, &c, &arena, problems);
	if (r == 0 && (node->kind != SN_YAML_MAP || sn__yaml_get(node, "tls") == NULL))
		c.tls = sn_str_eq(protocol, SN_STR("https")) ||
				sn_str_eq(protocol, SN_STR("grpcs"));
	if (r == 0 && node->kind == SN_YAML_MAP)
		r = verify_keys(&c, node, problems);
	if (r == 0)
		r = put(out, &c);
	sn__arena_finish(&arena);
	if (r < 0) {
		json_decref(out);
		return r;
	}
	*ret_check = out;
	return 0;
}
