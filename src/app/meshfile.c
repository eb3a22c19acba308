/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mesh file says who is where in a person's words; this file turns it into the sections that go
 * over the wire. All problems are collected; a value that was refused leaves a gap, and with any
 * problem nothing is returned, so that nothing is half-applied.
 */
#include "app/meshfile.h"

#include <stdio.h>

#include "app/mesh_check.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "hub/source.h"
#include "io/addr.h"
#include "mesh/config.h"

enum form { FORM_KIND_TREE, FORM_ID_ENDPOINT, FORM_FLAT_ID };

struct ctx {
	struct sn_problems *problems;
	json_t *peers;   /* of the common sections */
	json_t *targets; /* of the result */
	const struct sn_yaml_node *root;
	struct sn_str cluster, sector;
	enum form form;
	bool nomem;
};

/* ---- small helpers: each says what is wrong and goes on ---- */

static json_t *set(struct ctx *c, json_t *object, const char *key, json_t *taken)
{
	if (taken == NULL || json_object_set_new(object, key, taken) < 0) {
		c->nomem = true;
		return NULL;
	}
	return taken;
}

static json_t *set_text(struct ctx *c, json_t *object, const char *key, struct sn_str text)
{
	return set(c, object, key, json_stringn(text.ptr, text.len));
}

/* The object at @key of @object, made when missing. */
static json_t *at(struct ctx *c, json_t *object, const char *key)
{
	json_t *member = object != NULL ? json_object_get(object, key) : NULL;

	return member != NULL || object == NULL ? member : set(c, object, key, json_object());
}

static bool is_map(struct ctx *c, const struct sn_yaml_node *node, const char *what)
{
	if (node->kind == SN_YAML_MAP)
		return true;
	sn__problem(c->problems, node->place, "%s: expected a map, found %s", what,
			sn__yaml_kind_name(node));
	return false;
}

static bool is_text(struct ctx *c, const struct sn_yaml_node *node, const char *what)
{
	if (node->kind == SN_YAML_SCALAR && node->text.len > 0)
		return true;
	sn__problem(c->problems, node->place, "%s: expected a text, found %s", what,
			node->kind == SN_YAML_SCALAR ? "nothing" : sn__yaml_kind_name(node));
	return false;
}

/* Keys must be among @names (NULL-ended); one that is not may also have been meant for @others. */
static void check_keys_or(struct ctx *c, const struct sn_yaml_node *map, const char *const *names,
		const char *const *others /* may be NULL */, const char *where)
{
	SN_YAML_FOREACH(item, map)
	{
		const char *near;
		bool known = false;

		for (const char *const *n = names; *n != NULL; n++)
			known = known || sn_str_eq(item->key, sn_str_from(*n));
		if (known)
			continue;
		near = sn__nearest(item->key.ptr, names);
		if (near == NULL && others != NULL)
			near = sn__nearest(item->key.ptr, others);
		if (near != NULL)
			sn__problem(c->problems, item->place,
					"%s: unknown key `%s`; did you mean `%s`?", where,
					item->key.ptr, near);
		else
			sn__problem(c->problems, item->place, "%s: unknown key `%s`", where,
					item->key.ptr);
	}
}

static void check_keys(struct ctx *c, const struct sn_yaml_node *map, const char *const *names,
		const char *where)
{
	check_keys_or(c, map, names, NULL, where);
}

static bool name_is_valid(struct sn_str name, bool underscore)
{
	for (size_t i = 0; i < name.len; i++) {
		unsigned char l = sn_ascii_lower((unsigned char)name.ptr[i]);
		bool letter = l >= 'a' && l <= 'z';

		if (!letter && !(i > 0 && l >= '0' && l <= '9') && !(underscore && l == '_'))
			return false;
	}
	return name.len > 0;
}

/* In ids the parts are joined by '-', so there a name may have none of its own. */
static void check_name(
		struct ctx *c, const struct sn_yaml_item *item, const char *what, bool underscore)
{
	if (c->form != FORM_KIND_TREE && !name_is_valid(item->key, underscore))
		sn__problem(c->problems, item->place,
				"%s `%s`: with ids a name is letters and digits and begins with a letter",
				what, item->key.ptr);
}

/* ---- instances ---- */

static bool parse_port(
		struct ctx *c, const struct sn_yaml_node *node, struct sn_str text, json_t *peer)
{
	uint64_t port;

	if (sn__parse_u64(text, 65535, &port) < 0 || port == 0) {
		sn__problem(c->problems, node->place,
				"port: expected a number from 1 to 65535, found `%.*s`",
				(int)SN_MIN(text.len, (size_t)40),
				text.ptr != NULL ? text.ptr : "");
		return false;
	}
	return set(c, peer, "port", json_integer((json_int_t)port)) != NULL;
}

/* "address:port", "[v6]:port" */
static void short_instance(struct ctx *c, const struct sn_yaml_node *node, json_t *peer)
{
	struct sn_str text = node->text, host, port;

	if (sn__host_port_split(text, &host, &port) < 0 || host.len == 0) {
		sn__problem(c->problems, node->place,
				"instance: expected ADDRESS:PORT, e.g. 127.0.0.1:4000, found `%.*s`",
				(int)SN_MIN(text.len, (size_t)60),
				text.ptr != NULL ? text.ptr : "");
		return;
	}
	(void)parse_port(c, node, port, peer);
	(void)set_text(c, peer, "address", host);
}

static void long_instance(struct ctx *c, const struct sn_yaml_node *node, json_t *peer)
{
	const struct sn_yaml_node *port = sn__yaml_get(node, "port");
	const struct sn_yaml_node *address = sn__yaml_get(node, "address");

	if (port == NULL)
		sn__problem(c->problems, node->place, "instance: `port` is missing");
	else
		(void)parse_port(c, port, port->text, peer);
	if (address == NULL)
		sn__problem(c->problems, node->place, "instance: `address` is missing");
	else if (is_text(c, address, "address"))
		(void)set_text(c, peer, "address", address->text);
	/* Everything else goes to the connectors as it is. */
	SN_YAML_FOREACH(item, node)
	{
		json_t *value = NULL;

		if (json_object_get(peer, item->key.ptr) != NULL &&
				!sn_str_eq(item->key, SN_STR("protocol")) &&
				!sn_str_eq(item->key, SN_STR("networkProtocol")))
			continue;
		if (sn_str_eq(item->key, SN_STR("identity")) ||
				sn_str_eq(item->key, SN_STR("port")) ||
				sn_str_eq(item->key, SN_STR("address")))
			continue;
		if (sn__yaml_to_json(item->value, &value, c->problems) == 0)
			(void)set(c, peer, item->key.ptr, value);
	}
}

static void add_instance(struct ctx *c, const struct sn_yaml_node *node, const char *identity,
		struct sn_str protocol, struct sn_str network, json_t *map)
{
	json_t *peer = json_object();

	if (json_object_get(map, identity) != NULL) {
		sn__problem(c->problems, node->place, "identity `%s` is given twice", identity);
		json_decref(peer);
		return;
	}
	if (set(c, map, identity, peer) == NULL)
		return;
	(void)set_text(c, peer, "protocol", protocol);
	(void)set_text(c, peer, "networkProtocol", network);
	if (node->kind == SN_YAML_SCALAR)
		short_instance(c, node, peer);
	else if (is_map(c, node, "instance"))
		long_instance(c, node, peer);
}

static void read_instances(struct ctx *c, const struct sn_yaml_node *list, struct sn_str protocol,
		struct sn_str network, json_t *map)
{
	char number[24];
	unsigned n = 0;

	if (list->kind == SN_YAML_SCALAR) {
		if (!sn__yaml_is_null(list))
			sn__problem(c->problems, list->place,
					"instances: expected a list or a map of identities, found %s",
					sn__yaml_kind_name(list));
		return;
	}
	SN_YAML_FOREACH(item, list)
	{
		const char *identity = number;
		const struct sn_yaml_node *given = NULL;

		(void)snprintf(number, sizeof number, "%u", ++n);
		if (list->kind == SN_YAML_MAP)
			identity = item->key.ptr;
		else if (item->value->kind == SN_YAML_MAP)
			given = sn__yaml_get(item->value, "identity");
		if (given != NULL && is_text(c, given, "identity"))
			identity = given->text.ptr;
		add_instance(c, item->value, identity, protocol, network, map);
	}
}

/* ---- services and clusters ---- */

/* Where the peers of an endpoint stand in `peers`. */
struct path {
	char id[512];
	char target[512]; /* for people: "service shop/web" */
	const char *keys[3];
	unsigned n;
};

static void path_of(struct ctx *c, const char *kind, struct sn_str name, struct sn_str endpoint,
		struct path *ret_path)
{
	bool service = strcmp(kind, "service") == 0, flat = c->form == FORM_FLAT_ID;

	ret_path->n = 0;
	(void)snprintf(ret_path->target, sizeof ret_path->target, "%s %s/%s", kind, name.ptr,
			endpoint.ptr);
	if (c->form == FORM_KIND_TREE) {
		ret_path->keys[ret_path->n++] = kind;
		ret_path->keys[ret_path->n++] = name.ptr;
	} else {
		(void)snprintf(ret_path->id, sizeof ret_path->id, "%s://%s%s%s%s%s%s%s", kind,
				service ? c->cluster.ptr : "", service ? "-" : "",
				service ? c->sector.ptr : "", service ? "-" : "", name.ptr,
				flat ? "-" : "", flat ? endpoint.ptr : "");
		ret_path->keys[ret_path->n++] = ret_path->id;
	}
	if (!flat)
		ret_path->keys[ret_path->n++] = endpoint.ptr;
}

static json_t *peer_map(struct ctx *c, const struct path *path)
{
	json_t *map = c->peers;

	for (unsigned i = 0; i < path->n; i++)
		map = at(c, map, path->keys[i]);
	return map;
}

/* ---- instances from elsewhere ---- */

static void add_source(struct ctx *c, const struct sn_yaml_node *node, json_t *list)
{
	struct sn_hub_source_url url;
	struct sn_error err;
	json_t *text;

	if (!is_text(c, node, "from"))
		return;
	if (sn__hub_source_parse(node->text, &url, &err) < 0) {
		sn__problem(c->problems, node->place, "from: %s", sn_error_text(&err));
		return;
	}
	text = json_stringn(node->text.ptr, node->text.len);
	if (text == NULL || json_array_append_new(list, text) < 0)
		c->nomem = true;
}

/* An endpoint that is not served as it is written. */
static void add_target(struct ctx *c, const struct path *path,
		const struct sn_yaml_node *from /* may be NULL */,
		json_t *check /* may be NULL; taken */, struct sn_str protocol,
		struct sn_str network)
{
	json_t *target = json_object(), *list, *peer;

	if (target == NULL || json_array_append_new(c->targets, target) < 0) {
		c->nomem = true;
		json_decref(check);
		return;
	}
	if (check != NULL)
		(void)set(c, target, "check", check);
	(void)set_text(c, target, "target", sn_str_from(path->target));
	list = set(c, target, "path", json_array());
	for (unsigned i = 0; i < path->n && list != NULL; i++)
		if (json_array_append_new(list, json_string(path->keys[i])) < 0)
			c->nomem = true;
	peer = set(c, target, "peer", json_object());
	if (peer != NULL) {
		(void)set_text(c, peer, "protocol", protocol);
		(void)set_text(c, peer, "networkProtocol", network);
	}
	list = set(c, target, "from", json_array());
	if (list == NULL || from == NULL)
		return;
	if (from->kind == SN_YAML_LIST) {
		SN_YAML_FOREACH(item, from)
		add_source(c, item->value, list);
	} else {
		add_source(c, from, list);
	}
}

static void read_endpoint(struct ctx *c, const char *kind, struct sn_str name,
		const struct sn_yaml_item *item)
{
	static const char *const keys[] = {
			"protocol", "networkProtocol", "instances", "from", "check", NULL};
	struct sn_str protocol = SN_STR("http"), network = SN_STR("tcp");
	const struct sn_yaml_node *node = item->value, *v, *from, *check;
	json_t *map, *checks = NULL;
	struct path path;

	path_of(c, kind, name, item->key, &path);
	map = peer_map(c, &path);
	if (map == NULL)
		return;
	if (node->kind == SN_YAML_LIST) { /* the short form: only instances */
		read_instances(c, node, protocol, network, map);
		return;
	}
	if (!is_map(c, node, "endpoint"))
		return;
	check_keys(c, node, keys, "endpoint");
	v = sn__yaml_get(node, "protocol");
	if (v != NULL && is_text(c, v, "protocol"))
		protocol = v->text;
	v = sn__yaml_get(node, "networkProtocol");
	if (v != NULL && is_text(c, v, "networkProtocol"))
		network = v->text;
	v = sn__yaml_get(node, "instances");
	from = sn__yaml_get(node, "from");
	check = sn__yaml_get(node, "check");
	if (check != NULL &&
			sn__mesh_check_read(check, protocol, &checks, c->problems) == SN_E_NOMEM)
		c->nomem = true;
	if (v != NULL)
		read_instances(c, v, protocol, network, map);
	if (from != NULL || checks != NULL)
		add_target(c, &path, from, checks, protocol, network);
	if (v == NULL && from == NULL)
		sn__problem(c->problems, item->place,
				"endpoint `%s`: `instances` or `from` is missing", item->key.ptr);
}

static void read_group(struct ctx *c, const char *kind, const struct sn_yaml_node *group)
{
	static const char *const keys[] = {"endpoints", NULL};

	if (group == NULL || sn__yaml_is_null(group) || !is_map(c, group, kind))
		return;
	SN_YAML_FOREACH(item, group)
	{
		const struct sn_yaml_node *endpoints;

		check_name(c, item, kind, false);
		if (!is_map(c, item->value, kind))
			continue;
		check_keys(c, item->value, keys, kind);
		endpoints = sn__yaml_get(item->value, "endpoints");
		if (endpoints == NULL) {
			sn__problem(c->problems, item->place, "%s `%s`: `endpoints` is missing",
					kind, item->key.ptr);
			continue;
		}
		if (!is_map(c, endpoints, "endpoints"))
			continue;
		SN_YAML_FOREACH(e, endpoints)
		{
			check_name(c, e, "endpoint", false);
			read_endpoint(c, kind, item->key, e);
		}
	}
}

/* ---- databases and queues: entries go over as they are ---- */

static void add_entry(struct ctx *c, const char *kind, const char *identity,
		const struct sn_yaml_node *node, json_t *map)
{
	json_t *value = NULL;

	if (!is_map(c, node, kind))
		return;
	if (sn__yaml_to_json(node, &value, c->problems) == 0)
		(void)set(c, map, identity, value);
}

static void read_resources(struct ctx *c, const char *kind, const struct sn_yaml_node *group)
{
	char number[24], id[512];

	if (group == NULL || sn__yaml_is_null(group) || !is_map(c, group, kind))
		return;
	SN_YAML_FOREACH(item, group)
	{
		json_t *map;
		unsigned n = 0;

		check_name(c, item, kind, true);
		(void)snprintf(id, sizeof id, "%s://%s-%s-%s", kind, c->cluster.ptr, c->sector.ptr,
				item->key.ptr);
		map = c->form == FORM_KIND_TREE ? at(c, at(c, c->peers, kind), item->key.ptr)
						: at(c, c->peers, id);
		if (map == NULL)
			continue;
		if (item->value->kind == SN_YAML_SCALAR) {
			sn__problem(c->problems, item->value->place,
					"%s `%s`: expected a list of entries or a map of identities, found %s",
					kind, item->key.ptr, sn__yaml_kind_name(item->value));
			continue;
		}
		SN_YAML_FOREACH(e, item->value)
		{
			(void)snprintf(number, sizeof number, "%u", ++n);
			add_entry(c, kind, item->value->kind == SN_YAML_MAP ? e->key.ptr : number,
					e->value, map);
		}
	}
}

/* ---- policies ---- */

static void check_policies(struct ctx *c, const struct sn_yaml_node *node, const char *where)
{
	static const char *const keys[] = {"values", "children", NULL};
	const struct sn_yaml_node *v;

	if (sn__yaml_is_null(node) || !is_map(c, node, where))
		return;
	check_keys(c, node, keys, where);
	v = sn__yaml_get(node, "values");
	if (v != NULL && !sn__yaml_is_null(v))
		(void)is_map(c, v, "values");
	v = sn__yaml_get(node, "children");
	if (v == NULL || sn__yaml_is_null(v) || !is_map(c, v, "children"))
		return;
	SN_YAML_FOREACH(item, v)
	check_policies(c, item->value, "policies");
}

/* Written by a person: names and values are checked by the table of policies, durations become
 * milliseconds. (The wire message itself is served as it is.) */
static void read_policies(struct ctx *c, const struct sn_yaml_node *node, json_t *sections)
{
	json_t *tree = NULL;
	int r = sn__config_policies(node, &tree, c->problems);

	if (r == 0)
		(void)set(c, sections, "policies", tree);
	else if (r == SN_E_NOMEM)
		c->nomem = true;
}

/* ---- tasks ---- */

/* The own endpoints of a task that is an instance of @service with @identity. */
static void own_endpoints(
		struct ctx *c, struct sn_str service, struct sn_str identity, json_t *sections)
{
	const struct sn_yaml_node *eps = NULL, *services = sn__yaml_get(c->root, "services");
	json_t *own = set(c, sections, "endpoints", json_object());

	if (services != NULL)
		eps = sn__yaml_get(services, service.ptr);
	if (eps != NULL)
		eps = sn__yaml_get(eps, "endpoints");
	if (eps == NULL || own == NULL || eps->kind != SN_YAML_MAP)
		return;
	SN_YAML_FOREACH(item, eps)
	{
		struct path path;
		json_t *peer, *copy;

		path_of(c, "service", service, item->key, &path);
		peer = json_object_get(peer_map(c, &path), identity.ptr);
		copy = peer != NULL ? sn__json_copy(peer) : NULL;

		if (peer != NULL && set(c, own, item->key.ptr, copy) != NULL)
			(void)set_text(c, copy, "name", item->key);
	}
}

static void read_task(struct ctx *c, const struct sn_yaml_item *item, json_t *common, json_t *tasks)
{
	static const char *const keys[] = {"service", "identity", "consumes", "policies", NULL};
	const struct sn_yaml_node *service, *identity, *v;
	json_t *sections, *value = NULL;

	if (!is_map(c, item->value, "task"))
		return;
	check_keys(c, item->value, keys, "task");
	sections = set(c, tasks, item->key.ptr, sn__json_copy(common));
	if (sections == NULL)
		return;
	service = sn__yaml_get(item->value, "service");
	identity = sn__yaml_get(item->value, "identity");
	if (service != NULL && is_text(c, service, "service")) {
		const struct sn_yaml_node *services = sn__yaml_get(c->root, "services");

		if (services == NULL || sn__yaml_get(services, service->text.ptr) == NULL)
			sn__problem(c->problems, service->place,
					"task: no service `%s` in this file", service->text.ptr);
		else if (identity != NULL && is_text(c, identity, "identity"))
			own_endpoints(c, service->text, identity->text, sections);
	}
	v = sn__yaml_get(item->value, "consumes");
	if (v != NULL && v->kind != SN_YAML_LIST)
		sn__problem(c->problems, v->place, "consumes: expected a list, found %s",
				sn__yaml_kind_name(v));
	else if (v != NULL && sn__yaml_to_json(v, &value, c->problems) == 0)
		(void)set(c, sections, "consumes", value);
	v = sn__yaml_get(item->value, "policies");
	if (v != NULL)
		read_policies(c, v, sections);
}

/* ---- the two kinds of document ---- */

static const char *const mesh_keys[] = {"cluster", "sector", "form", "services", "clusters",
		"databases", "queues", "policies", "tasks", "resolver", "kubernetes", NULL};
static const char *const wire_keys[] = {
		"peers", "policies", "endpoints", "consumes", "tasks", NULL};

static void read_sections(struct ctx *c, const struct sn_yaml_node *map, bool top, json_t *sections)
{
	SN_YAML_FOREACH(item, map)
	{
		bool list = sn_str_eq(item->key, SN_STR("consumes"));
		json_t *value = NULL;

		if (top && sn_str_eq(item->key, SN_STR("tasks")))
			continue;
		if (sn_str_eq(item->key, SN_STR("policies")))
			check_policies(c, item->value, "policies");
		else if (!sn__yaml_is_null(item->value) &&
				item->value->kind != (list ? SN_YAML_LIST : SN_YAML_MAP))
			sn__problem(c->problems, item->value->place, "%s: expected %s, found %s",
					item->key.ptr, list ? "a list" : "a map",
					sn__yaml_kind_name(item->value));
		if (sn__yaml_to_json(item->value, &value, c->problems) == 0)
			(void)set(c, sections, item->key.ptr, value);
	}
}

static void read_wire(struct ctx *c, json_t *common, json_t *tasks)
{
	const struct sn_yaml_node *list = sn__yaml_get(c->root, "tasks");

	check_keys(c, c->root, wire_keys, "mesh file");
	read_sections(c, c->root, true, common);
	if (list == NULL || sn__yaml_is_null(list) || !is_map(c, list, "tasks"))
		return;
	SN_YAML_FOREACH(item, list)
	{
		json_t *sections;

		if (!is_map(c, item->value, "task"))
			continue;
		check_keys(c, item->value,
				(const char *const[]){
						"peers", "policies", "endpoints", "consumes", NULL},
				"task");
		sections = set(c, tasks, item->key.ptr, sn__json_copy(common));
		if (sections != NULL)
			read_sections(c, item->value, false, sections);
	}
}

static void read_form(struct ctx *c)
{
	static const char *const forms[] = {"kind-tree", "id-endpoint", "flat-id", NULL};
	const struct sn_yaml_node *v = sn__yaml_get(c->root, "form");
	int found = -1;

	if (v != NULL && is_text(c, v, "form")) {
		for (int i = 0; forms[i] != NULL; i++)
			found = sn_str_eq(v->text, sn_str_from(forms[i])) ? i : found;
		if (found < 0)
			sn__problem(c->problems, v->place,
					"form: expected kind-tree, id-endpoint or flat-id, found `%s`",
					v->text.ptr);
		else
			c->form = (enum form)found;
	}
	c->cluster = c->sector = SN_STR("");
	v = sn__yaml_get(c->root, "cluster");
	if (v != NULL && is_text(c, v, "cluster"))
		c->cluster = v->text;
	v = sn__yaml_get(c->root, "sector");
	if (v != NULL && is_text(c, v, "sector"))
		c->sector = v->text;
	if (c->form != FORM_KIND_TREE &&
			(!name_is_valid(c->cluster, false) || !name_is_valid(c->sector, false)))
		sn__problem(c->problems, c->root->place,
				"form %s needs `cluster` and `sector`: letters and digits, a letter first",
				forms[c->form]);
}

/* How sources are asked. */
static void read_sources(struct ctx *c, json_t *sources)
{
	static const char *const keys[] = {"server", "ca", "token_file", "insecure", NULL};
	const struct sn_yaml_node *v = sn__yaml_get(c->root, "resolver");
	json_t *out, *value = NULL;

	if (v != NULL && is_text(c, v, "resolver"))
		(void)set_text(c, sources, "resolver", v->text);
	v = sn__yaml_get(c->root, "kubernetes");
	if (v == NULL || sn__yaml_is_null(v) || !is_map(c, v, "kubernetes"))
		return;
	check_keys(c, v, keys, "kubernetes");
	out = set(c, sources, "kubernetes", json_object());
	SN_YAML_FOREACH(item, v)
	{
		if (sn__yaml_to_json(item->value, &value, c->problems) < 0)
			continue;
		if (sn_str_eq(item->key, SN_STR("insecure")) ? !json_is_boolean(value)
							     : !json_is_string(value)) {
			sn__problem(c->problems, item->value->place, "kubernetes: %s: expected %s",
					item->key.ptr,
					sn_str_eq(item->key, SN_STR("insecure")) ? "true or false"
										 : "a text");
			json_decref(value);
			continue;
		}
		if (out != NULL)
			(void)set(c, out, item->key.ptr, value);
		else
			json_decref(value);
	}
}

static void read_mesh(struct ctx *c, json_t *common, json_t *tasks, json_t *sources)
{
	const struct sn_yaml_node *v;

	check_keys_or(c, c->root, mesh_keys, wire_keys, "mesh file");
	read_form(c);
	read_sources(c, sources);
	c->peers = set(c, common, "peers", json_object());
	if (c->peers == NULL)
		return;
	read_group(c, "service", sn__yaml_get(c->root, "services"));
	read_group(c, "cluster", sn__yaml_get(c->root, "clusters"));
	read_resources(c, "database", sn__yaml_get(c->root, "databases"));
	read_resources(c, "queue", sn__yaml_get(c->root, "queues"));
	v = sn__yaml_get(c->root, "policies");
	if (v != NULL)
		read_policies(c, v, common);
	v = sn__yaml_get(c->root, "tasks");
	if (v == NULL || sn__yaml_is_null(v) || !is_map(c, v, "tasks"))
		return;
	SN_YAML_FOREACH(item, v)
	read_task(c, item, common, tasks);
}

void sn__meshfile_finish(struct sn_meshfile *mesh)
{
	json_decref(mesh->common);
	json_decref(mesh->tasks);
	json_decref(mesh->targets);
	json_decref(mesh->sources);
	*mesh = (struct sn_meshfile){0};
}

static void read_root(struct ctx *c, struct sn_meshfile *mesh)
{
	const struct sn_yaml_node *root = c->root;
	bool described = false;

	if (sn__yaml_is_null(root) || !is_map(c, root, "mesh file")) {
		if (sn__yaml_is_null(root))
			sn__problem(c->problems, root->place,
					"mesh file: expected `services:` or `peers:`, found nothing");
		return;
	}
	for (const char *const *k = mesh_keys; *k != NULL; k++)
		described = described ||
				(strcmp(*k, "policies") != 0 && strcmp(*k, "tasks") != 0 &&
						sn__yaml_get(root, *k) != NULL);
	mesh->wire = sn__yaml_get(root, "peers") != NULL ||
			(!described &&
					(sn__yaml_get(root, "endpoints") != NULL ||
							sn__yaml_get(root, "consumes") != NULL));
	if (mesh->wire)
		read_wire(c, mesh->common, mesh->tasks);
	else
		read_mesh(c, mesh->common, mesh->tasks, mesh->sources);
}

int sn__meshfile_parse(const char *name, struct sn_str text, struct sn_meshfile *ret_mesh,
		struct sn_problems *problems)
{
	struct sn_meshfile mesh = {.common = json_object(),
			.tasks = json_object(),
			.targets = json_array(),
			.sources = json_object()};
	struct ctx c = {.problems = problems, .targets = mesh.targets};
	struct sn_yaml yaml;
	struct sn_error err;
	int r = sn__yaml_parse(&yaml, name, text, &err);

	if (r < 0) {
		(void)sn__problem_from(problems, &err);
		sn__meshfile_finish(&mesh);
		return r == SN_E_NOMEM ? r : SN_E_INVALID;
	}
	c.root = yaml.root;
	c.nomem = mesh.common == NULL || mesh.tasks == NULL || mesh.targets == NULL ||
			mesh.sources == NULL;
	if (!c.nomem)
		read_root(&c, &mesh);
	if (c.nomem)
		sn__problem(problems, (struct sn_place){0}, "%s", sn_strerror(SN_E_NOMEM));
	sn__problems_sort(problems);
	sn__yaml_finish(&yaml);
	if (problems->n_errors > 0) {
		sn__meshfile_finish(&mesh);
		return c.nomem ? SN_E_NOMEM : SN_E_INVALID;
	}
	*ret_mesh = mesh;
	return 0;
}

int sn__meshfile_load(const char *path, struct sn_meshfile *ret_mesh, struct sn_problems *problems)
{
	SN_AUTO_FREE char *text = NULL;
	struct sn_error err;
	size_t size;
	int r = sn__file_read(path, SN_MESHFILE_SIZE_MAX, &text, &size, &err);

	if (r < 0) {
		(void)sn__problem_from(problems, &err);
		return r;
	}
	return sn__meshfile_parse(path, (struct sn_str){text, size}, ret_mesh, problems);
}
