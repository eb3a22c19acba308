/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/berlioz/zipkin.h"

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "mesh/policy.h"
#include "mesh/tracer.h"
#include "proto/url.h"

#define IDS 3 /* [id], [id, "client"], [id, "default"] */

/* One of the places the collector may stand. */
struct watch {
	struct sn_zipkin *z;
	struct sn_first_monitor first;
	char url[SN_ADDR_TEXT_MAX + SN_URL_HOST_MAX]; /* of the first peer; "": none */
};

struct sn_zipkin {
	struct sn_runtime *rt;
	const struct sn_own_place *place;
	struct sn_policy_monitor *id_monitor, *endpoint_monitor;
	char *id, *endpoint; /* NULL: none */
	struct watch watches[IDS];
	char *now; /* the collector in use; NULL: none */
};

/* ---- names (spec 9.3) ---- */

static int remote_name(void *arg, const struct sn_target *target, struct sn_buf *out)
{
	struct sn_str kind = sn__target_kind(target), name = sn__target_name(target),
		      endpoint = sn__target_endpoint(target);
	struct sn_paths paths;

	if (sn__berlioz_paths(arg, kind, name, endpoint, &paths) == 0 && paths.n > 0 &&
			paths.path[0].n == 1)
		return sn__berlioz_remote_name(paths.path[0].part[0], out);
	return sn__buf_printf(out, "%.*s-%.*s%s%.*s", (int)kind.len, kind.ptr, (int)name.len,
			name.ptr, endpoint.len > 0 ? "-" : "", (int)endpoint.len, endpoint.ptr);
}

static int names_set(struct sn_zipkin *z, const char *name)
{
	const struct sn_own_place *p = z->place;
	SN_AUTO_FREE char *own = NULL;

	if (p->service == NULL)
		own = sn__strdup(name);
	else
		own = sn__asprintf("service-%s-%s-%s", p->cluster != NULL ? p->cluster : "",
				p->sector != NULL ? p->sector : "", p->service);
	if (own == NULL)
		return SN_E_NOMEM;
	return sn__tracer_set_names(
			z->rt->tracer, sn_str_from(own), remote_name, (void *)(uintptr_t)z->place);
}

/* ---- the collector ---- */

static void warn(const struct sn_zipkin *z, const char *what, const char *why)
{
	sn__log(&z->rt->log, SN_LOG_WARNING, "trace", "no spans are sent to %s: %s", what, why);
}

/* The best that is known now. */
static void choose(struct sn_zipkin *z)
{
	const char *url = z->id == NULL ? z->endpoint : NULL;
	struct sn_error err;
	int r;

	for (unsigned i = 0; url == NULL && i < IDS; i++)
		if (z->watches[i].url[0] != '\0')
			url = z->watches[i].url;
	if (z->now != NULL && url != NULL && strcmp(z->now, url) == 0)
		return;
	sn__free(SN_TAKE(z->now));
	if (url != NULL)
		z->now = sn__strdup(url);
	if (url != NULL && z->now == NULL)
		r = sn__error_set(&err, SN_E_NOMEM, "out of memory");
	else
		r = sn__tracer_set_collector(z->rt->tracer, url, &err);
	if (r < 0)
		warn(z, url != NULL ? url : "the collector", err.text);
}

static void on_first(struct sn_first_monitor *m, const struct sn_peers *peers,
		const struct sn_peer *peer)
{
	struct watch *w = SN_CONTAINER_OF(m, struct watch, first);
	bool v6 = peer != NULL && memchr(peer->address.ptr, ':', peer->address.len) != NULL;

	w->url[0] = '\0';
	if (peer != NULL && peer->address.len > 0 && peer->port != 0)
		(void)snprintf(w->url, sizeof(w->url), v6 ? "%s://[%s]:%u" : "%s://%s:%u",
				peer->protocol.len > 0 ? peer->protocol.ptr : "http",
				peer->address.ptr, peer->port);
	choose(w->z);
}

static void watches_stop(struct sn_zipkin *z)
{
	for (unsigned i = 0; i < IDS; i++) {
		sn__first_monitor_stop(&z->watches[i].first);
		z->watches[i].url[0] = '\0';
	}
}

static int watches_start(struct sn_zipkin *z)
{
	const char *const endpoints[IDS] = {NULL, "client", "default"};

	for (unsigned i = 0; i < IDS; i++) {
		struct sn_path path = {
				.n = endpoints[i] != NULL ? 2 : 1,
				.part = {sn_str_from(z->id), sn_str_from(endpoints[i])},
		};
		struct sn_target *target;
		int r = sn__catalog_path_target(z->rt->catalog, SN_SECTION_PEERS, &path, &target);

		if (r < 0)
			return r;
		z->watches[i].z = z;
		sn__first_monitor_start(target, &z->watches[i].first, on_first);
	}
	return 0;
}

/* A policy's text, NULL when it has none. */
static char *text_of(const json_t *value)
{
	const char *text = sn__json_str(value);

	return text != NULL && text[0] != '\0' ? sn__strdup(text) : NULL;
}

static void on_id(const json_t *value, void *arg)
{
	struct sn_zipkin *z = arg;
	int r = 0;

	watches_stop(z);
	sn__free(z->id);
	z->id = text_of(value);
	if (z->id != NULL)
		r = watches_start(z);
	if (r < 0)
		warn(z, z->id, sn_strerror(r));
	choose(z);
}

static void on_endpoint(const json_t *value, void *arg)
{
	struct sn_zipkin *z = arg;

	sn__free(z->endpoint);
	z->endpoint = text_of(value);
	choose(z);
}

/* ---- the whole ---- */

int sn__zipkin_create(struct sn_runtime *rt, const struct sn_own_place *place, const char *name,
		struct sn_zipkin **ret_zipkin)
{
	struct sn_zipkin *z = sn__calloc(1, sizeof(*z));
	int r;

	if (z == NULL)
		return SN_E_NOMEM;
	z->rt = rt;
	z->place = place;
	r = names_set(z, name);
	if (r == 0)
		r = sn__policy_monitor_start(rt->policies, "zipkin-service-id", NULL,
				SN_DIALECT_BERLIOZ, on_id, z, &z->id_monitor);
	if (r == 0)
		r = sn__policy_monitor_start(rt->policies, "zipkin-endpoint", NULL,
				SN_DIALECT_BERLIOZ, on_endpoint, z, &z->endpoint_monitor);
	if (r < 0) {
		sn__zipkin_destroy(z);
		return r;
	}
	*ret_zipkin = z;
	return 0;
}

void sn__zipkin_stop(struct sn_zipkin *z)
{
	sn__policy_monitor_stop(SN_TAKE(z->id_monitor));
	sn__policy_monitor_stop(SN_TAKE(z->endpoint_monitor));
	watches_stop(z);
}

void sn__zipkin_destroy(struct sn_zipkin *z)
{
	if (z == NULL)
		return;
	sn__zipkin_stop(z);
	sn__free(z->id);
	sn__free(z->endpoint);
	sn__free(z->now);
	sn__free(z);
}
