/* SPDX-License-Identifier: Apache-2.0 */

/* Public calls of sinew/mesh.h that are about more than peers: own endpoints, consumes, policies, the
 * registry, the first peer. */

#include "base/json.h"
#include "base/mem.h"
#include "dialect/berlioz/berlioz.h"
#include "mesh/api.h"
#include "mesh/policy.h"

/* ---- look-ups ---- */

/* Enter a runtime that has the dialect; leave with sn__leave(). */
static int enter(struct sn_runtime *rt, struct sn_metadata **ret_md)
{
	struct sn_berlioz *b;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	b = sn__berlioz_of(rt);
	if (b == NULL) {
		sn__leave(rt);
		return SN_E_NOTSUP;
	}
	*ret_md = b->md;
	return 0;
}

int sn_get_endpoint(struct sn_runtime *rt, const char *name, char **ret_json)
{
	struct sn_metadata *md;
	int r = enter(rt, &md);

	if (r < 0)
		return r;
	r = sn__metadata_endpoint(md, name, ret_json);
	sn__leave(rt);
	return r;
}

int sn_get_consumes(struct sn_runtime *rt, char **ret_json)
{
	struct sn_metadata *md;
	int r = enter(rt, &md);

	if (r < 0)
		return r;
	r = sn__metadata_consumes(md, ret_json);
	sn__leave(rt);
	return r;
}

int sn_get_registry(struct sn_runtime *rt, char **ret_json)
{
	struct sn_metadata *md;
	int r = enter(rt, &md);

	if (r < 0)
		return r;
	r = sn__metadata_dump(md, ret_json);
	sn__leave(rt);
	return r;
}

/* *ret_paths NULL: the root. */
static int policy_paths(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, struct sn_paths *paths, struct sn_paths **ret_paths)
{
	struct sn_api_target t;
	int r;

	*ret_paths = NULL;
	if (kind == NULL)
		return 0;
	r = sn__api_target(kind, name, endpoint, &t, NULL);
	if (r < 0)
		return r;
	sn__policies_paths(rt->policies, t.kind, t.name, t.endpoint, paths);
	*ret_paths = paths;
	return 0;
}

static int policy_text(struct sn_runtime *rt, const char *policy, const struct sn_paths *paths,
		char **ret_json)
{
	SN_AUTO_JSON json_t *value = NULL;
	char *text;
	int r = sn__policies_get(rt->policies, policy, paths, SN_DIALECT_BERLIOZ, &value, NULL);

	if (r < 0)
		return r;
	text = sn__json_text(value);
	if (text == NULL)
		return SN_E_NOMEM;
	*ret_json = text;
	return 0;
}

int sn_get_policy(struct sn_runtime *rt, const char *policy, const char *kind, const char *name,
		const char *endpoint, char **ret_json)
{
	struct sn_paths space, *paths;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	r = policy_paths(rt, kind, name, endpoint, &space, &paths);
	if (r == 0)
		r = policy_text(rt, policy, paths, ret_json);
	sn__leave(rt);
	return r;
}

/* ---- monitors of own endpoints and consumes ---- */

static int keep(char space[SN_TARGET_NAME_MAX + 1], const char *text /* may be NULL */)
{
	size_t n;

	if (text == NULL)
		return 0;
	n = strlen(text);

	if (n > SN_TARGET_NAME_MAX)
		return SN_E_INVALID;
	memcpy(space, text, n + 1);
	return 0;
}

struct value_monitor {
	struct sn_monitor head;
	struct sn_metadata *md;
	enum sn_section section;
	struct sn_json_monitor monitor;
	sn_value_fn *fn;
	void *arg;
	bool whole; /* the section itself, not a name in it */
	char name[SN_TARGET_NAME_MAX + 1];
};

static struct sn_path value_path(const struct value_monitor *m)
{
	return (struct sn_path){.n = !m->whole, .part = {sn_str_from(m->name)}};
}

static void value_told(struct sn_json_monitor *monitor, const char *json)
{
	struct value_monitor *m = SN_CONTAINER_OF(monitor, struct value_monitor, monitor);

	if (!sn_monitor_silent(&m->head))
		m->fn(json, m->arg);
}

static void value_start(struct sn_monitor *head)
{
	struct value_monitor *m = SN_CONTAINER_OF(head, struct value_monitor, head);
	struct sn_path path = value_path(m);

	if (sn__json_monitor_start(m->md, m->section, &path, &m->monitor, value_told) < 0)
		sn__log(&head->rt->log, SN_LOG_ERROR, "monitor",
				"a monitor could not start: out of memory");
}

static void value_stop(struct sn_monitor *head)
{
	struct value_monitor *m = SN_CONTAINER_OF(head, struct value_monitor, head);

	sn__target_monitor_stop(&m->monitor.base);
}

static const struct sn_monitor_ops value_ops = {
		.start = value_start,
		.stop = value_stop,
};

static int value_monitor_open(struct sn_runtime *rt, enum sn_section section, const char *name,
		sn_value_fn *fn, void *arg, struct sn_monitor **ret_monitor)
{
	struct value_monitor m = {.section = section, .whole = name == NULL, .fn = fn, .arg = arg};
	struct sn_target *target;
	struct sn_path path;
	int r = keep(m.name, name);

	if (r == 0)
		r = enter(rt, &m.md);
	if (r < 0)
		return r;
	path = value_path(&m);
	/* Made now, so that the start on the loop's thread finds it. */
	r = sn__metadata_path_target(m.md, section, &path, &target);
	if (r == 0)
		r = sn__monitor_open(rt, &value_ops, &m.head, sizeof(m), ret_monitor);
	sn__leave(rt);
	return r;
}

int sn_monitor_endpoint(struct sn_runtime *rt, const char *name, sn_value_fn *fn, void *arg,
		struct sn_monitor **ret_monitor)
{
	return value_monitor_open(rt, SN_SECTION_ENDPOINTS, name, fn, arg, ret_monitor);
}

int sn_monitor_consumes(
		struct sn_runtime *rt, sn_value_fn *fn, void *arg, struct sn_monitor **ret_monitor)
{
	return value_monitor_open(rt, SN_SECTION_CONSUMES, NULL, fn, arg, ret_monitor);
}

/* ---- monitors of policies ---- */

struct policy_monitor {
	struct sn_monitor head;
	struct sn_policy_monitor *monitor;
	sn_value_fn *fn;
	void *arg;
	const char *kind; /* NULL: the root */
	char name[SN_TARGET_NAME_MAX + 1], endpoint[SN_TARGET_NAME_MAX + 1];
	char policy[SN_TARGET_NAME_MAX + 1];
};

static void policy_told(const json_t *value, void *arg)
{
	struct policy_monitor *m = arg;
	SN_AUTO_FREE char *text = NULL;

	if (sn_monitor_silent(&m->head))
		return;
	text = sn__json_text(value);
	if (text != NULL)
		m->fn(text, m->arg);
	else
		sn__log(&m->head.rt->log, SN_LOG_ERROR, "monitor",
				"a change of policy %s was not "
				"told: out of memory",
				m->policy);
}

static void policy_start(struct sn_monitor *head)
{
	struct policy_monitor *m = SN_CONTAINER_OF(head, struct policy_monitor, head);
	struct sn_paths paths;

	if (m->kind != NULL)
		sn__policies_paths(head->rt->policies, sn_str_from(m->kind), sn_str_from(m->name),
				sn_str_from(m->endpoint), &paths);
	if (sn__policy_monitor_start(head->rt->policies, m->policy, m->kind != NULL ? &paths : NULL,
			    SN_DIALECT_BERLIOZ, policy_told, m, &m->monitor) < 0)
		sn__log(&head->rt->log, SN_LOG_ERROR, "monitor",
				"a monitor could not start: out of memory");
}

static void policy_stop(struct sn_monitor *head)
{
	sn__policy_monitor_stop(SN_CONTAINER_OF(head, struct policy_monitor, head)->monitor);
}

static const struct sn_monitor_ops policy_ops = {
		.start = policy_start,
		.stop = policy_stop,
};

int sn_monitor_policy(struct sn_runtime *rt, const char *policy, const char *kind, const char *name,
		const char *endpoint, sn_value_fn *fn, void *arg, struct sn_monitor **ret_monitor)
{
	struct policy_monitor m = {.fn = fn, .arg = arg};
	struct sn_api_target t;
	int r = keep(m.policy, policy);

	if (r == 0 && kind != NULL) {
		r = sn__api_target(kind, name, endpoint, &t, NULL);
		if (r < 0)
			return r;
		m.kind = t.kind.ptr; /* a constant */
		r = keep(m.name, name);
		if (r == 0)
			r = keep(m.endpoint, t.endpoint.ptr);
	}
	if (r == 0)
		r = sn__enter(rt);
	if (r < 0)
		return r;
	r = sn__monitor_open(rt, &policy_ops, &m.head, sizeof(m), ret_monitor);
	sn__leave(rt);
	return r;
}

/* ---- the first peer ---- */

struct first_monitor {
	struct sn_monitor head;
	struct sn_target *target;
	struct sn_first_monitor monitor;
	sn_first_peer_fn *fn;
	void *arg;
};

static void first_told(struct sn_first_monitor *monitor, const struct sn_peers *peers,
		const struct sn_peer *peer)
{
	struct first_monitor *m = SN_CONTAINER_OF(monitor, struct first_monitor, monitor);
	struct sn_peer_info info;

	if (sn_monitor_silent(&m->head))
		return;
	if (peer != NULL)
		sn__peer_info(peer, &info);
	m->fn(peer != NULL ? &info : NULL, m->arg);
}

static void first_start(struct sn_monitor *head)
{
	struct first_monitor *m = SN_CONTAINER_OF(head, struct first_monitor, head);

	sn__first_monitor_start(m->target, &m->monitor, first_told);
}

static void first_stop(struct sn_monitor *head)
{
	sn__first_monitor_stop(&SN_CONTAINER_OF(head, struct first_monitor, head)->monitor);
}

static const struct sn_monitor_ops first_ops = {
		.start = first_start,
		.stop = first_stop,
};

int sn_monitor_first_peer(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, sn_first_peer_fn *fn, void *arg,
		struct sn_monitor **ret_monitor)
{
	struct first_monitor m = {.fn = fn, .arg = arg};
	int r = sn__enter_target(rt, kind, name, endpoint, &m.target);

	if (r < 0)
		return r;
	r = sn__monitor_open(rt, &first_ops, &m.head, sizeof(m), ret_monitor);
	sn__leave(rt);
	return r;
}
