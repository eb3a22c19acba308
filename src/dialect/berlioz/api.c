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

struct value_monitor {
	struct sn_monitor head;
	struct sn_metadata *md;
	enum sn_section section;
	struct sn_path path;
	struct sn_json_monitor monitor;
	sn_value_fn *fn;
	void *arg;
	char name[];
};

static void value_told(struct sn_json_monitor *monitor, const char *json)
{
	struct value_monitor *m = SN_CONTAINER_OF(monitor, struct value_monitor, monitor);

	if (!sn_monitor_silent(&m->head))
		m->fn(json, m->arg);
}

static void value_start(struct sn_monitor *head)
{
	struct value_monitor *m = SN_CONTAINER_OF(head, struct value_monitor, head);

	if (sn__json_monitor_start(m->md, m->section, &m->path, &m->monitor, value_told) < 0)
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

static int value_monitor_create(struct sn_metadata *md, enum sn_section section, const char *name,
		struct value_monitor **ret_m)
{
	size_t n = name != NULL ? strlen(name) : 0;
	struct value_monitor *m;
	struct sn_target *target;
	int r;

	if (n > SN_TARGET_NAME_MAX)
		return SN_E_INVALID;
	m = sn__calloc(1, sizeof(*m) + n + 1);
	if (m == NULL)
		return SN_E_NOMEM;
	m->md = md;
	m->section = section;
	if (name != NULL) {
		memcpy(m->name, name, n);
		m->path = (struct sn_path){.n = 1, .part = {{m->name, n}}};
	}
	/* Made now, so that the start on the loop's thread finds it. */
	r = sn__metadata_path_target(md, section, &m->path, &target);
	if (r < 0) {
		sn__free(m);
		return r;
	}
	*ret_m = m;
	return 0;
}

static int value_monitor_open(struct sn_runtime *rt, enum sn_section section, const char *name,
		sn_value_fn *fn, void *arg, struct sn_monitor **ret_monitor)
{
	struct value_monitor *m;
	struct sn_metadata *md;
	int r = enter(rt, &md);

	if (r < 0)
		return r;
	r = value_monitor_create(md, section, name, &m);
	if (r == 0) {
		m->fn = fn;
		m->arg = arg;
		*ret_monitor = &m->head;
		sn__monitor_open(&m->head, rt, &value_ops);
	}
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
	struct sn_paths paths;
	bool root;
	sn_value_fn *fn;
	void *arg;
	char kind[16], name[SN_TARGET_NAME_MAX + 1], endpoint[SN_TARGET_NAME_MAX + 1];
	char policy[];
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

	if (sn__policy_monitor_start(head->rt->policies, m->policy, m->root ? NULL : &m->paths,
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

static struct sn_str keep(char *space, struct sn_str s)
{
	memcpy(space, s.ptr, s.len);
	return (struct sn_str){space, s.len};
}

static int policy_monitor_create(struct sn_runtime *rt, const char *policy, const char *kind,
		const char *name, const char *endpoint, struct policy_monitor **ret_m)
{
	size_t n = strlen(policy);
	struct sn_api_target t = {.kind = {NULL, 0}};
	struct policy_monitor *m;
	int r = kind != NULL ? sn__api_target(kind, name, endpoint, &t, NULL) : 0;

	if (r < 0)
		return r;
	if (n > SN_TARGET_NAME_MAX)
		return SN_E_INVALID;
	m = sn__calloc(1, sizeof(*m) + n + 1);
	if (m == NULL)
		return SN_E_NOMEM;
	memcpy(m->policy, policy, n);
	m->root = kind == NULL;
	if (kind != NULL) /* the paths may point into what they were made from */
		sn__policies_paths(rt->policies, keep(m->kind, t.kind), keep(m->name, t.name),
				keep(m->endpoint, t.endpoint), &m->paths);
	*ret_m = m;
	return 0;
}

int sn_monitor_policy(struct sn_runtime *rt, const char *policy, const char *kind, const char *name,
		const char *endpoint, sn_value_fn *fn, void *arg, struct sn_monitor **ret_monitor)
{
	struct policy_monitor *m;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	r = policy_monitor_create(rt, policy, kind, name, endpoint, &m);
	if (r == 0) {
		m->fn = fn;
		m->arg = arg;
		*ret_monitor = &m->head;
		sn__monitor_open(&m->head, rt, &policy_ops);
	}
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

static int first_monitor_create(
		struct sn_runtime *rt, const struct sn_api_target *t, struct first_monitor **ret_m)
{
	struct first_monitor *m = sn__calloc(1, sizeof(*m));
	int r;

	if (m == NULL)
		return SN_E_NOMEM;
	r = sn__catalog_target(rt->catalog, t->kind, t->name, t->endpoint, &m->target);
	if (r < 0) {
		sn__free(m);
		return r;
	}
	*ret_m = m;
	return 0;
}

int sn_monitor_first_peer(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, sn_first_peer_fn *fn, void *arg,
		struct sn_monitor **ret_monitor)
{
	struct first_monitor *m;
	struct sn_api_target t;
	int r = sn__api_target(kind, name, endpoint, &t, NULL);

	if (r < 0)
		return r;
	r = sn__enter(rt);
	if (r < 0)
		return r;
	r = first_monitor_create(rt, &t, &m);
	if (r == 0) {
		m->fn = fn;
		m->arg = arg;
		*ret_monitor = &m->head;
		sn__monitor_open(&m->head, rt, &first_ops);
	}
	sn__leave(rt);
	return r;
}
