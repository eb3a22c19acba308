/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `peers` of a file, in the form of the wire. What an agent sends is taken as it comes; what a
 * person wrote is checked, for nobody else will tell them.
 */
#include "mesh/config.h"

#include "base/json.h"
#include "base/mem.h"

#define SHOWN_MAX 64

static bool has_prefix(struct sn_str s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.len >= n && memcmp(s.ptr, prefix, n) == 0;
}

static int want_map(const struct sn_yaml_node *node, const char *what, struct sn_problems *problems)
{
	if (node->kind == SN_YAML_MAP)
		return 0;
	return sn__problem(problems, node->place, "%s must be a map, not %s", what,
			sn__yaml_kind_name(node));
}

static int check_address(const struct sn_yaml_node *peer, struct sn_problems *problems)
{
	const struct sn_yaml_node *address = sn__yaml_get(peer, "address");
	const struct sn_yaml_node *port = sn__yaml_get(peer, "port");
	int r = 0;
	int64_t n;

	if (address == NULL)
		r = sn__problem(problems, peer->place, "address is missing");
	else if (address->kind != SN_YAML_SCALAR || address->text.len == 0)
		r = sn__problem(problems, address->place, "address must be a text");
	if (port == NULL)
		r = sn__problem(problems, peer->place, "port is missing");
	else if (sn__yaml_int(port, &n) < 0 || n < 1 || n > 65535)
		r = sn__problem(problems, port->place,
				"port must be a whole number from 1 to 65535");
	return r;
}

/* identity -> peer */
static int check_peer_map(
		const struct sn_yaml_node *map, bool with_address, struct sn_problems *problems)
{
	int one, r;

	if (sn__yaml_is_null(map))
		return 0;
	r = want_map(map, "peers of a target (identity: peer)", problems);
	if (r < 0)
		return r;
	SN_YAML_FOREACH(item, map)
	{
		one = want_map(item->value, "a peer", problems);
		if (one == 0 && with_address)
			one = check_address(item->value, problems);
		r = r < 0 ? r : one;
	}
	return r;
}

/* name or endpoint -> what @depth levels further down is a peer map */
static int check_level(const struct sn_yaml_node *map, const char *what, unsigned depth,
		bool with_address, struct sn_problems *problems)
{
	int one, r;

	if (depth == 0)
		return check_peer_map(map, with_address, problems);
	if (sn__yaml_is_null(map))
		return 0;
	r = want_map(map, what, problems);
	if (r < 0)
		return r;
	SN_YAML_FOREACH(item, map)
	{
		one = check_level(item->value, "endpoints of a name", depth - 1, with_address,
				problems);
		r = r < 0 ? r : one;
	}
	return r;
}

/* Whether the value of an id is endpoint -> identity -> peer (and not identity -> peer). */
static bool is_endpoint_form(const struct sn_yaml_node *value)
{
	if (value->kind != SN_YAML_MAP || value->count == 0)
		return false;
	SN_YAML_FOREACH(item, value)
	{
		if (item->value->kind != SN_YAML_MAP)
			return false;
		SN_YAML_FOREACH(inner, item->value)
		{
			if (inner->value->kind != SN_YAML_MAP)
				return false;
		}
	}
	return true;
}

static int check_target(const struct sn_yaml_item *item, struct sn_problems *problems)
{
	static const char *const kinds[] = {"service", "cluster", "database", "queue",
			"secret_public_key", "secret_private_key", NULL};
	bool is_id = strstr(item->key.ptr, "://") != NULL;
	const char *near;

	if (is_id) {
		bool addressed = has_prefix(item->key, "service://") ||
				has_prefix(item->key, "cluster://");

		return check_level(item->value, "endpoints of an id",
				addressed && is_endpoint_form(item->value) ? 1 : 0, addressed,
				problems);
	}
	for (size_t i = 0; kinds[i] != NULL; i++) {
		if (sn_str_eq(item->key, sn_str_from(kinds[i])))
			return check_level(item->value, "names of a kind", i < 2 ? 2 : 1, i < 2,
					problems);
	}
	near = item->key.len <= SHOWN_MAX ? sn__nearest(item->key.ptr, kinds) : NULL;
	if (near != NULL)
		return sn__problem(problems, item->place,
				"unknown kind \"%s\", did you mean \"%s\"?", item->key.ptr, near);
	return sn__problem(problems, item->place,
			"unknown kind \"%.*s\": expected service, cluster, "
			"database, queue or an id (KIND://...)",
			SHOWN_MAX, item->key.ptr);
}

int sn__config_peers(
		const struct sn_yaml_node *node, json_t **ret_peers, struct sn_problems *problems)
{
	int one, r = want_map(node, "peers", problems);

	if (r < 0)
		return r;
	SN_YAML_FOREACH(item, node)
	{
		one = check_target(item, problems);
		r = r < 0 ? r : one;
	}
	return r < 0 ? r : sn__yaml_to_json(node, ret_peers, problems);
}
