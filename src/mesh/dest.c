/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/dest.h"

#include "base/mem.h"

#define TLS_CACHE_MAX 64 /* contexts; beyond, a peer has its own */

struct tls_entry {
	struct sn_list link;
	struct sn_tls *tls;
	bool verify;
	char *ca, *cert, *key, *server_name;
};

struct sn_tls_cache {
	struct sn_list entries; /* tls_entry.link */
	unsigned n;
};

/* What hangs in a peer state's slot. */
struct way {
	struct sn_http_dest *dest;
	uint64_t version; /* of the policies when last compared */
	unsigned max_connections, idle_ms;
	struct sn_tls *tls; /* NULL: plain */
	char *host_header;
	char *url; /* up to the path */
};

/* ---- TLS contexts ---- */

static void entry_free(struct tls_entry *e)
{
	sn__tls_unref(e->tls);
	sn__free(e->ca);
	sn__free(e->cert);
	sn__free(e->key);
	sn__free(e->server_name);
	sn__free(e);
}

void sn__tls_cache_destroy(struct sn_tls_cache *cache)
{
	if (cache == NULL)
		return;
	while (!sn_list_empty(&cache->entries))
		entry_free(SN_CONTAINER_OF(
				sn_list_pop_front(&cache->entries), struct tls_entry, link));
	sn__free(cache);
}

static bool entry_fits(const struct tls_entry *e, const struct sn_policy *p)
{
	return e->verify == p->tls_verify && strcmp(e->ca, p->tls_ca) == 0 &&
			strcmp(e->cert, p->tls_cert) == 0 && strcmp(e->key, p->tls_key) == 0 &&
			strcmp(e->server_name, p->tls_server_name) == 0;
}

static const char *set_or_null(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

static int entry_create(struct sn_loop *loop, const struct sn_policy *p, struct tls_entry **ret_e)
{
	struct sn_tls_options opts = {
			.ca = set_or_null(p->tls_ca),
			.cert = set_or_null(p->tls_cert),
			.key = set_or_null(p->tls_key),
			.server_name = set_or_null(p->tls_server_name),
			.no_verify = !p->tls_verify,
	};
	struct tls_entry *e = sn__calloc(1, sizeof(*e));
	int r;

	if (e == NULL)
		return SN_E_NOMEM;
	e->verify = p->tls_verify;
	e->ca = sn__strdup(p->tls_ca);
	e->cert = sn__strdup(p->tls_cert);
	e->key = sn__strdup(p->tls_key);
	e->server_name = sn__strdup(p->tls_server_name);
	if (e->ca == NULL || e->cert == NULL || e->key == NULL || e->server_name == NULL)
		r = SN_E_NOMEM;
	else
		r = sn__tls_create(loop, &opts, false, &e->tls);
	if (r < 0) {
		entry_free(e);
		return r;
	}
	*ret_e = e;
	return 0;
}

/* Returns a reference. */
static int tls_of(struct sn_runtime *rt, const struct sn_policy *p, struct sn_tls **ret_tls)
{
	struct sn_tls_cache *cache = rt->tls_cache;
	struct tls_entry *e;
	int r;

	if (cache == NULL) {
		cache = sn__calloc(1, sizeof(*cache));
		if (cache == NULL)
			return SN_E_NOMEM;
		sn_list_init(&cache->entries);
		rt->tls_cache = cache;
	}
	SN_LIST_FOREACH (pos, &cache->entries) {
		e = SN_CONTAINER_OF(pos, struct tls_entry, link);
		if (entry_fits(e, p)) {
			*ret_tls = sn__tls_ref(e->tls);
			return 0;
		}
	}
	r = entry_create(rt->loop, p, &e);
	if (r < 0)
		return r;
	*ret_tls = sn__tls_ref(e->tls);
	if (cache->n >= TLS_CACHE_MAX) /* the oldest goes; its peers keep their references */
		entry_free(SN_CONTAINER_OF(
				sn_list_pop_front(&cache->entries), struct tls_entry, link));
	else
		cache->n++;
	sn_list_push_back(&cache->entries, &e->link);
	return 0;
}

/* ---- ways ---- */

static void way_destroy(void *slot)
{
	struct way *way = slot;

	sn__http_dest_unref(way->dest);
	sn__tls_unref(way->tls);
	sn__free(way->host_header);
	sn__free(way->url);
	sn__free(way);
}

static bool is_tls(const struct sn_peer_state *ps)
{
	return sn__str_ieq(sn_str_from(ps->protocol), SN_STR("https"));
}

/* Whether the way is what the policies ask for now. *ret_tls: the reference for it. */
static int way_fits(struct sn_runtime *rt, const struct way *way, const struct sn_peer_state *ps,
		const struct sn_policy *p, bool *ret_fits)
{
	struct sn_tls *tls = NULL;
	int r = 0;

	if (is_tls(ps))
		r = tls_of(rt, p, &tls);
	if (r < 0)
		return r;
	*ret_fits = way->max_connections == p->pool_max && way->idle_ms == p->pool_idle &&
			strcmp(way->host_header, p->host_header) == 0 && way->tls == tls;
	sn__tls_unref(tls);
	return 0;
}

static int way_fill(struct sn_runtime *rt, struct way *way, const struct sn_peer_state *ps,
		const struct sn_policy *p)
{
	struct sn_http_dest_options opts = {
			.host = ps->address,
			.port = ps->port,
			.server_name = set_or_null(p->tls_server_name),
			.host_header = set_or_null(p->host_header),
			.max_connections = p->pool_max,
			.idle_ms = p->pool_idle,
	};
	int r = 0;

	way->max_connections = p->pool_max;
	way->idle_ms = p->pool_idle;
	way->host_header = sn__strdup(p->host_header);
	way->url = strchr(ps->address, ':') != NULL
			? sn__asprintf("%s://[%s]:%u", is_tls(ps) ? "https" : "http", ps->address,
					  ps->port)
			: sn__asprintf("%s://%s:%u", is_tls(ps) ? "https" : "http", ps->address,
					  ps->port);
	if (way->host_header == NULL || way->url == NULL)
		return SN_E_NOMEM;
	if (is_tls(ps))
		r = tls_of(rt, p, &way->tls);
	opts.tls = way->tls;
	return r < 0 ? r : sn__http_dest_create(rt->pool, &opts, &way->dest);
}

static int way_create(struct sn_runtime *rt, const struct sn_peer_state *ps,
		const struct sn_policy *p, struct way **ret_way)
{
	struct way *way = sn__calloc(1, sizeof(*way));
	int r;

	if (way == NULL)
		return SN_E_NOMEM;
	way->version = sn__policies_version(rt->policies);
	r = way_fill(rt, way, ps, p);
	if (r < 0) {
		way_destroy(way);
		return r;
	}
	*ret_way = way;
	return 0;
}

static int protocol_check(const struct sn_peer_state *ps, struct sn_error *err)
{
	struct sn_str protocol = sn_str_from(ps->protocol);

	if (!sn__str_ieq(protocol, SN_STR("http")) && !is_tls(ps) && protocol.len > 0)
		return sn__error_set(err, SN_E_NOTSUP, "peer %s speaks \"%s\", not http or https",
				ps->identity, ps->protocol);
	if (ps->address[0] == '\0' || ps->port == 0)
		return sn__error_set(err, SN_E_INVALID, "peer %s has no address or no port",
				ps->identity);
	return 0;
}

int sn__dest_of(struct sn_runtime *rt, struct sn_peer_state *ps, const struct sn_policy *policy,
		struct sn_http_dest **ret_dest, struct sn_error *err)
{
	struct way *way = ps->slot, *fresh;
	uint64_t version = sn__policies_version(rt->policies);
	bool fits = way != NULL && way->version == version;
	int r = 0;

	if (way != NULL && !fits) {
		r = way_fits(rt, way, ps, policy, &fits);
		if (r < 0)
			return sn__error_set(err, r, "%s", sn_strerror(r));
		way->version = version;
	}
	if (!fits) {
		r = protocol_check(ps, err);
		if (r < 0)
			return r;
		r = way_create(rt, ps, policy, &fresh);
		if (r < 0)
			return sn__error_set(err, r, "cannot reach peer %s: %s", ps->identity,
					sn_strerror(r));
		if (way != NULL)
			way_destroy(way);
		ps->slot = way = fresh;
		ps->slot_destroy = way_destroy;
	}
	*ret_dest = way->dest;
	return 0;
}

struct sn_str sn__dest_url(const struct sn_peer_state *ps)
{
	const struct way *way = ps->slot;

	return sn_str_from(way != NULL ? way->url : NULL);
}
