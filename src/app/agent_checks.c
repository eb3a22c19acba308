/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent_checks.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "hub/check.h"

struct sn_checks {
	struct sn_checks_env env;
	struct sn_hub_health *health;
	struct sn_http_pool *pool;
	struct sn_map kinds;     /* struct kind, by key */
	struct sn_map instances; /* struct instance, by key */
	struct sn_timer tell;
};

/* A way to check. */
struct kind {
	struct sn_hub_check_spec spec;
	unsigned refs;
	uint16_t port; /* instead of the instance's; 0: that one */
	char key[];    /* the spec's text */
};

struct instance {
	struct sn_hub_checked checked;
	struct sn_checks *checks;
	struct kind *kind;
	unsigned refs;
	unsigned version;
	uint64_t since_ns;   /* it is unwell */
	char *why;           /* NULL: it is not, or out of memory */
	const char *address; /* in key */
	char key[];          /* "KIND ADDRESS" */
};

struct sn_check_group {
	struct sn_checks *checks;
	struct kind *kind;
	size_t n;              /* instances, also those that are not checked */
	struct sn_map by_name; /* member, by identity */
};

struct member {
	struct instance *instance;
	char name[];
};

/* ---- what becomes of an instance ---- */

static void on_tell(struct sn_timer *t)
{
	struct sn_checks *c = SN_CONTAINER_OF(t, struct sn_checks, tell);

	c->env.changed(c->env.arg);
}

static void about(struct sn_hub_checked *checked, struct sn_hub_probe *probe)
{
	probe->address = SN_CONTAINER_OF(checked, struct instance, checked)->address;
}

static void changed(struct sn_hub_checked *checked, const struct sn_error *err)
{
	struct instance *i = SN_CONTAINER_OF(checked, struct instance, checked);
	struct sn_checks *c = i->checks;

	i->version++;
	i->since_ns = sn__loop_now_ns(c->env.loop);
	sn__free(i->why);
	i->why = err != NULL ? sn__strdup(err->text) : NULL;
	if (err != NULL)
		sn_agent_say(&c->env.log, "warning", "%s is unwell: %s", i->address, err->text);
	else
		sn_agent_say(&c->env.log, "info", "%s is well again", i->address);
	/* When a thousand die within seconds, all connectors are told a few times, not a thousand. */
	if (!sn_timer_armed(&c->tell))
		sn__timer_start(c->env.loop, &c->tell, sn_ms_to_ns(SN_CHECKS_TELL_MS), on_tell);
}

/* ---- ways to check ---- */

static const char *text_of(const json_t *spec, const char *name)
{
	return sn__json_str(sn__json_get(spec, name));
}

static unsigned number_of(const json_t *spec, const char *name)
{
	return (unsigned)json_integer_value(json_object_get(spec, name));
}

static int make_tls(struct sn_checks *c, const json_t *spec, bool grpc, struct sn_tls **ret_tls,
		struct sn_error *err)
{
	const struct sn_tls_options opts = {.ca = text_of(spec, "ca"),
			.alpn = grpc ? "h2" : "http/1.1",
			.no_verify = json_is_true(json_object_get(spec, "insecure"))};
	int r;

	if (!json_is_true(json_object_get(spec, "tls")))
		return 0;
	r = sn__tls_create(c->env.loop, &opts, false, ret_tls);
	if (r == 0)
		r = sn__tls_load(*ret_tls, err);
	return r;
}

static int make_checker(struct sn_checks *c, const json_t *spec,
		struct sn_hub_checker **ret_checker, struct sn_error *err)
{
	const char *grpc = text_of(spec, "grpc"), *http = text_of(spec, "http");
	struct sn_check_grpc_options grpc_opts = {.service = grpc, .host = text_of(spec, "host")};
	struct sn_check_http_options http_opts = {.path = http,
			.host = text_of(spec, "host"),
			.status_min = number_of(spec, "status_min"),
			.status_max = number_of(spec, "status_max")};
	struct sn_tls *tls = NULL;
	int r;

	if (grpc == NULL && http == NULL)
		return sn__check_tcp_create(c->env.loop, ret_checker);
	r = make_tls(c, spec, grpc != NULL, &tls, err);
	http_opts.tls = grpc_opts.tls = tls;
	if (r == 0 && grpc != NULL)
		r = sn__check_grpc_create(c->env.loop, c->pool, &grpc_opts, ret_checker);
	else if (r == 0)
		r = sn__check_http_create(c->env.loop, c->pool, &http_opts, ret_checker);
	sn__tls_unref(tls);
	return r;
}

static void kind_unref(struct sn_checks *c, struct kind *kind)
{
	if (--kind->refs > 0)
		return;
	(void)sn__map_remove(&c->kinds, sn_str_from(kind->key));
	sn__hub_checker_unref(kind->spec.checker);
	sn__free(kind);
}

static int kind_get(struct sn_checks *c, const json_t *spec, struct kind **ret_kind,
		struct sn_error *err)
{
	SN_AUTO_FREE char *text = sn__json_text(spec);
	struct kind *kind;
	int r;

	if (text == NULL)
		return SN_E_NOMEM;
	kind = sn__map_get(&c->kinds, sn_str_from(text));
	if (kind != NULL) {
		kind->refs++;
		*ret_kind = kind;
		return 0;
	}
	kind = sn__calloc(1, sizeof *kind + strlen(text) + 1);
	if (kind == NULL)
		return SN_E_NOMEM;
	memcpy(kind->key, text, strlen(text) + 1);
	kind->refs = 1;
	kind->port = (uint16_t)number_of(spec, "port");
	kind->spec = (struct sn_hub_check_spec){.every_ms = number_of(spec, "every"),
			.timeout_ms = number_of(spec, "timeout"),
			.healthy_after = number_of(spec, "healthy_after"),
			.unhealthy_after = number_of(spec, "unhealthy_after")};
	r = make_checker(c, spec, &kind->spec.checker, err);
	if (r == 0)
		r = sn__map_add(&c->kinds, sn_str_from(kind->key), kind);
	if (r < 0) {
		sn__hub_checker_unref(kind->spec.checker);
		sn__free(kind);
		return r;
	}
	*ret_kind = kind;
	return 0;
}

/* ---- instances ---- */

static void instance_unref(struct instance *i)
{
	struct sn_checks *c = i->checks;

	if (--i->refs > 0)
		return;
	(void)sn__map_remove(&c->instances, sn_str_from(i->key));
	sn__hub_health_remove(&i->checked);
	kind_unref(c, i->kind);
	sn__free(i->why);
	sn__free(i);
}

static int instance_get(struct sn_checks *c, struct kind *kind, const char *address,
		struct instance **ret_instance)
{
	SN_AUTO_FREE char *key = sn__asprintf("%s %s", kind->key, address);
	struct instance *i;

	if (key == NULL)
		return SN_E_NOMEM;
	i = sn__map_get(&c->instances, sn_str_from(key));
	if (i == NULL) {
		i = sn__calloc(1, sizeof *i + strlen(key) + 1);
		if (i == NULL)
			return SN_E_NOMEM;
		memcpy(i->key, key, strlen(key) + 1);
		if (sn__map_add(&c->instances, sn_str_from(i->key), i) < 0) {
			sn__free(i);
			return SN_E_NOMEM;
		}
		i->address = i->key + strlen(kind->key) + 1;
		i->checks = c;
		i->kind = kind;
		kind->refs++;
		sn__hub_health_add(c->health, &i->checked, &kind->spec);
	}
	i->refs++;
	*ret_instance = i;
	return 0;
}

/* "" when it has none. */
static void address_of(const struct kind *kind, const json_t *peer, char *out, size_t size)
{
	const char *address = text_of(peer, "address");
	json_int_t port = json_integer_value(json_object_get(peer, "port"));

	if (kind->port != 0)
		port = kind->port;
	out[0] = '\0';
	if (address == NULL || address[0] == '\0' || port <= 0 || port > 65535)
		return;
	(void)sn__host_port_text(address, (unsigned)port, out, size);
}

/* ---- groups ---- */

static void members_drop(struct sn_map *members)
{
	const struct sn_map_entry *e;

	for (size_t k = 0; (e = sn__map_next(members, &k)) != NULL;) {
		struct member *m = e->value;

		instance_unref(m->instance);
		sn__free(m);
	}
	sn__map_finish(members);
}

static int member_add(struct sn_check_group *g, struct sn_map *members, const char *name,
		const json_t *peer)
{
	char address[SN_CHECK_ADDRESS_MAX + 16];
	struct member *m;
	int r;

	address_of(g->kind, peer, address, sizeof address);
	if (address[0] == '\0')
		return 0;
	m = sn__malloc(sizeof *m + strlen(name) + 1);
	if (m == NULL)
		return SN_E_NOMEM;
	memcpy(m->name, name, strlen(name) + 1);
	r = instance_get(g->checks, g->kind, address, &m->instance);
	if (r == 0) {
		r = sn__map_add(members, sn_str_from(m->name), m);
		if (r < 0)
			instance_unref(m->instance);
	}
	if (r < 0)
		sn__free(m);
	return r;
}

int sn__check_group_set(struct sn_check_group *g, const json_t *instances)
{
	struct sn_map members;
	const char *name;
	json_t *peer;

	sn__map_init(&members);
	json_object_foreach((json_t *)(uintptr_t)instances, name, peer)
	{
		if (member_add(g, &members, name, peer) == 0)
			continue;
		members_drop(&members);
		return SN_E_NOMEM;
	}
	/* Those in both lists have been referenced anew, and are not asked anew. */
	members_drop(&g->by_name);
	g->by_name = members;
	g->n = json_object_size(instances);
	return 0;
}

uint64_t sn__check_group_version(const struct sn_check_group *g)
{
	const struct sn_map_entry *e;
	uint64_t version = 0;

	for (size_t k = 0; (e = sn__map_next(&g->by_name, &k)) != NULL;)
		version += ((const struct member *)e->value)->instance->version;
	return version;
}

json_t *sn__check_group_served(const struct sn_check_group *g, json_t *instances)
{
	json_t *served = json_object(), *peer;
	const char *name;

	json_object_foreach(instances, name, peer)
	{
		const struct member *m = sn__map_get(&g->by_name, sn_str_from(name));

		if (m != NULL && m->instance->checked.state == SN_HUB_STATE_UNWELL)
			continue;
		if (served == NULL || json_object_set(served, name, peer) < 0) {
			json_decref(served);
			return NULL;
		}
	}
	if (json_object_size(served) > 0)
		return served;
	json_decref(served);
	return json_incref(instances);
}

void sn__check_group_counts(
		const struct sn_check_group *g, size_t *ret_instances, size_t *ret_unwell)
{
	const struct sn_map_entry *e;

	*ret_instances = g->n;
	*ret_unwell = 0;
	for (size_t k = 0; (e = sn__map_next(&g->by_name, &k)) != NULL;)
		*ret_unwell += ((const struct member *)e->value)->instance->checked.state ==
				SN_HUB_STATE_UNWELL;
}

int sn__check_group_unwell(const struct sn_check_group *g,
		int (*fn)(const struct sn_check_unwell *unwell, void *arg), void *arg)
{
	const struct sn_map_entry *e;
	size_t n, unwell;
	int r = 0;

	sn__check_group_counts(g, &n, &unwell);
	for (size_t k = 0; r >= 0 && (e = sn__map_next(&g->by_name, &k)) != NULL;) {
		const struct member *m = e->value;
		const struct instance *i = m->instance;
		const struct sn_check_unwell one = {.identity = m->name,
				.address = i->address,
				.why = i->why != NULL ? i->why : "out of memory",
				.since_ns = i->since_ns,
				.served = unwell == n};

		if (i->checked.state == SN_HUB_STATE_UNWELL)
			r = fn(&one, arg);
	}
	return SN_MIN(r, 0);
}

int sn__check_group_create(struct sn_checks *c, json_t *spec, struct sn_check_group **ret_group,
		struct sn_error *err)
{
	struct sn_check_group *g = sn__calloc(1, sizeof *g);
	int r = SN_E_NOMEM;

	(void)sn__error_set(err, r, "%s", sn_strerror(r));
	if (g != NULL)
		r = kind_get(c, spec, &g->kind, err);
	if (r < 0) {
		sn__free(g);
		return r;
	}
	g->checks = c;
	sn__map_init(&g->by_name);
	*ret_group = g;
	return 0;
}

void sn__check_group_destroy(struct sn_check_group *g)
{
	if (g == NULL)
		return;
	members_drop(&g->by_name);
	kind_unref(g->checks, g->kind);
	sn__free(g);
}

/* ---- all of them ---- */

/* A quarter of the descriptors for connections that rest between two checks, at most. */
static unsigned kept_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > 4 * 1000000)
		return 1000000;
	return (unsigned)limit.rlim_cur / 4;
}

int sn__checks_open(const struct sn_checks_env *env, struct sn_checks **ret_checks)
{
	static const struct sn_hub_health_ops ops = {.about = about, .changed = changed};
	const struct sn_http_pool_options pool = {.max_idle = kept_max()};
	struct sn_checks *c = sn__calloc(1, sizeof *c);

	if (c == NULL)
		return SN_E_NOMEM;
	c->env = *env;
	sn__map_init(&c->kinds);
	sn__map_init(&c->instances);
	if (sn__hub_health_open(env->loop, &ops, 0, &c->health) < 0 ||
			sn__http_pool_create(env->loop, &pool, &c->pool) < 0) {
		sn__checks_close(c);
		return SN_E_NOMEM;
	}
	*ret_checks = c;
	return 0;
}

void sn__checks_counts(const struct sn_checks *c, struct sn_hub_health_counts *ret_counts)
{
	sn__hub_health_counts(c->health, ret_counts);
}

static void on_pool_closed(void *arg)
{
	sn__free(arg);
}

static void on_health_closed(void *arg)
{
	struct sn_checks *c = arg;

	sn__map_finish(&c->kinds);
	sn__map_finish(&c->instances);
	if (c->pool != NULL)
		sn__http_pool_close(c->pool, on_pool_closed, c);
	else
		sn__free(c);
}

void sn__checks_close(struct sn_checks *c)
{
	if (c == NULL)
		return;
	sn__timer_stop(c->env.loop, &c->tell);
	if (c->health != NULL)
		sn__hub_health_close(c->health, on_health_closed, c);
	else
		on_health_closed(c);
}
