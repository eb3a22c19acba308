/* SPDX-License-Identifier: Apache-2.0 */
/* `policies` of a file: into the form of the wire, every value checked by the table of policies. */
#include "mesh/config.h"

#include "base/json.h"
#include "base/mem.h"
#include "mesh/policy.h"

#define SHOWN_MAX 64

struct tree {
	struct sn_problems *problems;
	int result; /* SN_E_INVALID once there was a problem */
};

static bool is_word(struct sn_str key, const char *word)
{
	return sn_str_eq(key, sn_str_from(word));
}

static void unknown_policy(struct tree *t, const struct sn_yaml_item *item)
{
	const char *near = item->key.len <= SHOWN_MAX ? sn__policy_nearest(item->key.ptr) : NULL;

	if (near != NULL)
		t->result = sn__problem(t->problems, item->place,
				"unknown policy \"%s\", did you mean \"%s\"?", item->key.ptr, near);
	else
		t->result = sn__problem(t->problems, item->place, "unknown policy \"%.*s\"",
				SHOWN_MAX, item->key.ptr);
}

/* One policy into @values. 0 also when it was refused; SN_E_NOMEM. */
static int add_value(struct tree *t, const struct sn_yaml_item *item, json_t *values)
{
	const struct sn_policy_def *def = sn__policy_def(item->key.ptr);
	SN_AUTO_JSON json_t *json = NULL;
	json_t *plain = NULL;
	struct sn_error err;
	int r;

	if (def == NULL) {
		unknown_policy(t, item);
		return 0;
	}
	if (sn__yaml_is_null(item->value))
		return 0;
	r = sn__yaml_to_json(item->value, &json, t->problems);
	if (r == 0)
		r = sn__policy_check(def, json, &plain, &err);
	if (r == SN_E_NOMEM)
		return r;
	if (r < 0) {
		t->result = r;
		if (json != NULL)
			t->result = sn__problem(t->problems, item->value->place, "%s", err.text);
		return 0;
	}
	return json_object_set_new(values, def->name, plain) < 0 ? SN_E_NOMEM : 0;
}

static int add_values(struct tree *t, const struct sn_yaml_node *map, json_t *values)
{
	int r = 0;

	if (sn__yaml_is_null(map))
		return 0;
	if (map->kind != SN_YAML_MAP) {
		t->result = sn__problem(t->problems, map->place, "values must be a map, not %s",
				sn__yaml_kind_name(map));
		return 0;
	}
	SN_YAML_FOREACH(item, map)
	{
		r = add_value(t, item, values);
		if (r < 0)
			break;
	}
	return r;
}

/* Below the root stands an id or a kind, which may be misspelt like everything else. */
static void check_first_step(struct tree *t, const struct sn_yaml_item *item)
{
	static const char *const kinds[] = {"service", "cluster", "database", "queue",
			"secret_public_key", "secret_private_key", NULL};
	const char *near;

	if (strstr(item->key.ptr, "://") != NULL)
		return;
	for (const char *const *k = kinds; *k != NULL; k++) {
		if (is_word(item->key, *k))
			return;
	}
	near = item->key.len <= SHOWN_MAX ? sn__nearest(item->key.ptr, kinds) : NULL;
	t->result = sn__problem(t->problems, item->place,
			"\"%.*s\" is neither a kind (service, "
			"cluster, database, queue) nor an id (KIND://...)%s%s%s",
			SHOWN_MAX, item->key.ptr, near != NULL ? ", did you mean \"" : "",
			near != NULL ? near : "", near != NULL ? "\"?" : "");
}

static int node_json(
		struct tree *t, const struct sn_yaml_node *node, unsigned depth, json_t **ret_json);

static int add_child(
		struct tree *t, const struct sn_yaml_item *item, unsigned depth, json_t *children)
{
	json_t *child = NULL;
	int r;

	if (depth == 0)
		check_first_step(t, item);
	r = node_json(t, item->value, depth + 1, &child);
	if (r < 0 || child == NULL)
		return r;
	return json_object_set_new(children, item->key.ptr, child) < 0 ? SN_E_NOMEM : 0;
}

static int add_children(
		struct tree *t, const struct sn_yaml_node *map, unsigned depth, json_t *children)
{
	int r = 0;

	if (sn__yaml_is_null(map))
		return 0;
	if (map->kind != SN_YAML_MAP) {
		t->result = sn__problem(t->problems, map->place, "children must be a map, not %s",
				sn__yaml_kind_name(map));
		return 0;
	}
	SN_YAML_FOREACH(item, map)
	{
		r = add_child(t, item, depth, children);
		if (r < 0)
			break;
	}
	return r;
}

static int add_item(struct tree *t, const struct sn_yaml_item *item, unsigned depth, json_t *values,
		json_t *children)
{
	if (memchr(item->key.ptr, '\0', item->key.len) != NULL) {
		t->result = sn__problem(t->problems, item->place, "a NUL in a key");
		return 0;
	}
	if (is_word(item->key, "values"))
		return add_values(t, item->value, values);
	if (is_word(item->key, "children"))
		return add_children(t, item->value, depth, children);
	if (item->value->kind == SN_YAML_MAP)
		return add_child(t, item, depth, children);
	return add_value(t, item, values);
}

/* *ret_json stays NULL for a node that says nothing or was refused. */
static int node_json(
		struct tree *t, const struct sn_yaml_node *node, unsigned depth, json_t **ret_json)
{
	SN_AUTO_JSON json_t *values = json_object();
	SN_AUTO_JSON json_t *children = json_object();
	SN_AUTO_JSON json_t *json = json_object();
	int r = values == NULL || children == NULL || json == NULL ? SN_E_NOMEM : 0;

	if (sn__yaml_is_null(node))
		return 0;
	if (node->kind != SN_YAML_MAP || depth > SN_POLICY_DEPTH_MAX) {
		t->result = sn__problem(t->problems, node->place,
				node->kind != SN_YAML_MAP ? "policies must be a map"
							  : "policies are nested too deep");
		return 0;
	}
	for (const struct sn_yaml_item *item = node->items; r == 0 && item != NULL;
			item = item->next)
		r = add_item(t, item, depth, values, children);
	if (r == 0 && json_object_size(values) > 0 && json_object_set(json, "values", values) < 0)
		r = SN_E_NOMEM;
	if (r == 0 && json_object_size(children) > 0 &&
			json_object_set(json, "children", children) < 0)
		r = SN_E_NOMEM;
	if (r == 0)
		*ret_json = SN_TAKE(json);
	return r;
}

int sn__config_policies(
		const struct sn_yaml_node *node, json_t **ret_tree, struct sn_problems *problems)
{
	struct tree t = {.problems = problems};
	SN_AUTO_JSON json_t *json = NULL;
	int r = node_json(&t, node, 0, &json);

	if (r == 0 && json == NULL && t.result == 0) {
		json = json_object();
		r = json == NULL ? SN_E_NOMEM : 0;
	}
	if (r < 0 || t.result < 0)
		return r < 0 ? r : SN_E_INVALID;
	*ret_tree = SN_TAKE(json);
	return 0;
}
