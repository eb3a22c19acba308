/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/dest.h"

#include "base/mem.h"

#define TLS_CACHE_MAX 64 /* contexts; beyond, a peer has its own */

struct tls_entry {
	struct sn_list link;
	struct sn_tls *tls;
	const char *alpn; /* one of the two below */
	bool verify;
	char *ca, *cert, *key, *key_password, *server_name;
};

static const char alpn_any[] = "h2,http/1.1", alpn_h2[] = "h2";

struct sn_tls_cache {
	struct sn_list entries; /* tls_entry.link */
	unsigned n;
};

struct way {
	struct sn_http_dest *dest;
	uint64_t version; /* of the policies when last compared */
	unsigned max_connections, idle_ms, streams, ping_ms, ping_timeout_ms;
	struct sn_tls *tls; /* NULL: plain */
	char *host_header;
	char *url; /* up to the path */
};

enum way_kind { WAY_HTTP, WAY_GRPC, N_WAYS };

/* What hangs in a peer state's slot. */
struct ways {
	struct way *of[N_WAYS]; /* may be NULL */
};

/* What a protocol of the catalog means. */
struct protocol {
	struct sn_str name;
	bool tls;
	bool speaks[N_WAYS];
	enum sn_http_version http; /* of WAY_HTTP; gRPC is always HTTP/2 */
};

static const struct protocol protocols[] = {
		{{"http", 4}, false, {true, true}, SN_HTTP_1},
		{{"https", 5}, true, {true, true}, SN_HTTP_ANY},
		{{"h2", 2}, false, {true, true}, SN_HTTP_2},
		{{"grpc", 4}, false, {false, true}, SN_HTTP_2},
		{{"grpcs", 5}, true, {false, true}, SN_HTTP_2},
};

static const struct protocol *protocol_of(const struct sn_peer_state *ps, enum way_kind kind)
{
	struct sn_str name = sn_str_from(ps->protocol);

	if (name.len == 0)
		return &protocols[0];
	for (size_t i = 0; i < SN_COUNT(protocols); i++) {
		if (sn__str_ieq(name, protocols[i].name))
			return protocols[i].speaks[kind] ? &protocols[i] : NULL;
	}
	return NULL;
}

/* ---- TLS contexts ---- */

static void entry_free(struct tls_entry *e)
{
	sn__tls_unref(e->tls);
	sn__free(e->ca);
	sn__free(e->cert);
	sn__free(e->key);
	sn__free(e->key_password);
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

static bool entry_fits(const struct tls_entry *e, const struct sn_policy *p, const char *alpn)
{
	return e->alpn == alpn && e->verify == p->tls_verify && strcmp(e->ca, p->tls_ca) == 0 &&
			strcmp(e->cert, p->tls_cert) == 0 && strcmp(e->key, p->tls_key) == 0 &&
			strcmp(e->key_password, p->tls_key_password) == 0 &&
			strcmp(e->server_name, p->tls_server_name) == 0;
}

static const char *set_or_null(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

static int entry_create(struct sn_loop *loop, const struct sn_policy *p, const char *alpn,
		struct tls_entry **ret_e)
{
	struct sn_tls_options opts = {
			.ca = set_or_null(p->tls_ca),
			.cert = set_or_null(p->tls_cert),
			.key = set_or_null(p->tls_key),
			.key_password = set_or_null(p->tls_key_password),
			.server_name = set_or_null(p->tls_server_name),
			.no_verify = !p->tls_verify,
			.alpn = alpn,
	};
	struct tls_entry *e = sn__calloc(1, sizeof(*e));
	int r;

	if (e == NULL)
		return SN_E_NOMEM;
	e->alpn = alpn;
	e->verify = p->tls_verify;
	e->ca = sn__strdup(p->tls_ca);
	e->cert = sn__strdup(p->tls_cert);
	e->key = sn__strdup(p->tls_key);
	e->key_password = sn__strdup(p->tls_key_password);
	e->server_name = sn__strdup(p->tls_server_name);
	if (e->ca == NULL || e->cert == NULL || e->key == NULL || e->key_password == NULL ||
			e->server_name == NULL)
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
static int tls_of(struct sn_runtime *rt, const struct sn_policy *p, const char *alpn,
		struct sn_tls **ret_tls)
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
		if (entry_fits(e, p, alpn)) {
			*ret_tls = sn__tls_ref(e->tls);
			return 0;
		}
	}
	r = entry_create(rt->loop, p, alpn, &e);
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

static void way_destroy(struct way *way)
{
	if (way == NULL)
		return;
	sn__http_dest_unref(way->dest);
	sn__tls_unref(way->tls);
	sn__free(way->host_header);
	sn__free(way->url);
	sn__free(way);
}

static void ways_destroy(void *slot)
{
	struct ways *ways = slot;

	for (int i = 0; i < N_WAYS; i++)
		way_destroy(ways->of[i]);
	sn__free(ways);
}

/* How to reach one peer for one kind of call. */
struct wish {
	struct sn_runtime *rt;
	const struct sn_peer_state *ps;
	const struct sn_policy *p;
	const struct protocol *protocol;
	enum sn_http_version version;
};

/* A reference, or NULL for plain. */
static int wish_tls(const struct wish *w, struct sn_tls **ret_tls)
{
	*ret_tls = NULL;
	if (!w->protocol->tls)
		return 0;
	return tls_of(w->rt, w->p, w->version == SN_HTTP_ANY ? alpn_any : alpn_h2, ret_tls);
}

/* Whether the way is what the policies ask for now. */
static int way_fits(const struct way *way, const struct wish *w, bool *ret_fits)
{
	const struct sn_policy *p = w->p;
	struct sn_tls *tls;
	int r = wish_tls(w, &tls);

	if (r < 0)
		return r;
	*ret_fits = way->max_connections == p->pool_max && way->idle_ms == p->pool_idle &&
			way->streams == p->pool_streams && way->ping_ms == p->keep_alive &&
			way->ping_timeout_ms == p->keep_alive_timeout &&
			strcmp(way->host_header, p->host_header) == 0 && way->tls == tls;
	sn__tls_unref(tls);
	return 0;
}

static int way_fill(struct way *way, const struct wish *w)
{
	const struct sn_peer_state *ps = w->ps;
	const struct sn_policy *p = w->p;
	struct sn_http_dest_options opts = {
			.host = ps->address,
			.port = ps->port,
			.server_name = set_or_null(p->tls_server_name),
			.host_header = set_or_null(p->host_header),
			.max_connections = p->pool_max,
			.idle_ms = p->pool_idle,
			.version = w->version,
			.max_streams = p->pool_streams,
			.ping_ms = p->keep_alive,
			.ping_timeout_ms = p->keep_alive_timeout,
	};
	int r;

	way->max_connections = p->pool_max;
	way->idle_ms = p->pool_idle;
	way->streams = p->pool_streams;
	way->ping_ms = p->keep_alive;
	way->ping_timeout_ms = p->keep_alive_timeout;
	way->host_header = sn__strdup(p->host_header);
	way->url = sn__asprintf(strchr(ps->address, ':') != NULL ? "%s://[%s]:%u" : "%s://%s:%u",
			w->protocol->tls ? "https" : "http", ps->address, ps->port);
	if (way->host_header == NULL || way->url == NULL)
		return SN_E_NOMEM;
	r = wish_tls(w, &way->tls);
	opts.tls = way->tls;
	return r < 0 ? r : sn__http_dest_create(w->rt->pool, &opts, &way->dest);
}

static int way_create(const struct wish *w, struct way **ret_way)
{
	struct way *way = sn__calloc(1, sizeof(*way));
	int r;

	if (way == NULL)
		return SN_E_NOMEM;
	way->version = sn__policies_version(w->rt->policies);
	r = way_fill(way, w);
	if (r < 0) {
		way_destroy(way);
		return r;
	}
	*ret_way = way;
	return 0;
}

static int wish_check(const struct wish *w, enum way_kind kind, struct sn_error *err)
{
	const struct sn_peer_state *ps = w->ps;

	if (w->protocol == NULL)
		return sn__error_set(err, SN_E_NOTSUP, "peer %s speaks \"%s\", not %s",
				ps->identity, ps->protocol,
				kind == WAY_GRPC ? "grpc, grpcs, h2, http or https"
						 : "http, https or h2");
	if (ps->address[0] == '\0' || ps->port == 0)
		return sn__error_set(err, SN_E_INVALID, "peer %s has no address or no port",
				ps->identity);
	return 0;
}

/* Made for the first time, or anew. */
static int way_renew(struct sn_peer_state *ps, enum way_kind kind, const struct wish *w,
		struct sn_error *err)
{
	struct ways *ways = ps->slot;
	struct way *fresh;
	int r = wish_check(w, kind, err);

	if (r < 0)
		return r;
	if (ways == NULL) {
		ways = sn__calloc(1, sizeof(*ways));
		if (ways == NULL)
			return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
		ps->slot = ways;
		ps->slot_destroy = ways_destroy;
	}
	r = way_create(w, &fresh);
	if (r < 0)
		return sn__error_set(
				err, r, "cannot reach peer %s: %s", ps->identity, sn_strerror(r));
	way_destroy(ways->of[kind]);
	ways->of[kind] = fresh;
	return 0;
}

static int way_of(struct sn_runtime *rt, struct sn_peer_state *ps, const struct sn_policy *policy,
		enum way_kind kind, struct sn_http_dest **ret_dest, struct sn_error *err)
{
	struct ways *ways = ps->slot;
	struct way *way = ways != NULL ? ways->of[kind] : NULL;
	uint64_t version = sn__policies_version(rt->policies);
	bool fits = way != NULL && way->version == version;
	struct wish wish = {rt, ps, policy, NULL, SN_HTTP_2};
	int r = 0;

	if (fits) {
		*ret_dest = way->dest;
		return 0;
	}
	wish.protocol = protocol_of(ps, kind);
	if (wish.protocol != NULL && kind == WAY_HTTP)
		wish.version = wish.protocol->http;
	if (way != NULL) {
		r = way_fits(way, &wish, &fits);
		if (r < 0)
			return sn__error_set(err, r, "%s", sn_strerror(r));
		way->version = version;
	}
	if (!fits) {
		r = way_renew(ps, kind, &wish, err);
		if (r < 0)
			return r;
		ways = ps->slot;
	}
	*ret_dest = ways->of[kind]->dest;
	return 0;
}

int sn__dest_of(struct sn_runtime *rt, struct sn_peer_state *ps, const struct sn_policy *policy,
		struct sn_http_dest **ret_dest, struct sn_error *err)
{
	return way_of(rt, ps, policy, WAY_HTTP, ret_dest, err);
}

int sn__dest_grpc_of(struct sn_runtime *rt, struct sn_peer_state *ps,
		const struct sn_policy *policy, struct sn_http_dest **ret_dest,
		struct sn_error *err)
{
	return way_of(rt, ps, policy, WAY_GRPC, ret_dest, err);
}

struct sn_str sn__dest_url(const struct sn_peer_state *ps)
{
	const struct ways *ways = ps->slot;

	return sn_str_from(ways != NULL && ways->of[WAY_HTTP] != NULL ? ways->of[WAY_HTTP]->url
								      : NULL);
}
