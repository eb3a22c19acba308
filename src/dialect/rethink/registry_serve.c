/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/rethink/registry_serve.h"

#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "dialect/rethink/registry_catalog.h"
#include "dialect/rethink/registry_http.h"
#include "mesh/api.h"
#include "proto/url.h"

#define LISTEN_DEFAULT "127.0.0.1:4567"
#define HEARTBEAT_S 5
#define FILE_NAME "domain-registry.db"
#define CLOSE_MS 5000

/* ---- the section ---- */

#define OPT(field) offsetof(struct sn_registry_section, field)
static const struct sn_option tls_options[] = {
		{.name = "cert",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_registry_tls, cert),
				.help = "File with the certificate chain, leaf first; with it HTTPS is served."},
		{.name = "key",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_registry_tls, key),
				.help = "File with the private key."},
		{.name = "ca",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_registry_tls, ca),
				.help = "Authorities of clients' certificates, for `client-certificates`."},
		{0}};

static const char *const certs_choices[] = {"none", "writes", "all", NULL};

static const struct sn_option options[] = {
		{.name = "listen",
				.kind = SN_OPTION_STRING,
				.offset = OPT(listen),
				.def = LISTEN_DEFAULT,
				.help = "HOST:PORT, :PORT (loopback) or unix:PATH."},
		{.name = "storage-type",
				.kind = SN_OPTION_STRING,
				.offset = OPT(storage),
				.help = "`memory` (also `RAM`), `sqlite` or `postgres`. Default `$STORAGE_TYPE`, then what `path` or `url` stand for, then `sqlite`."},
		{.name = "path",
				.kind = SN_OPTION_STRING,
				.offset = OPT(path),
				.help = "File of the SQLite store; default `domain-registry.db` in the state directory."},
		{.name = "url",
				.kind = SN_OPTION_STRING,
				.offset = OPT(url),
				.flags = SN_OPTION_SECRET,
				.help = "PostgreSQL store: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, also for several registries at once."},
		{.name = "options",
				.kind = SN_OPTION_MAP,
				.offset = OPT(options),
				.help = "Further options of the store's driver (`sinew drivers database postgres`)."},
		{.name = "expires",
				.kind = SN_OPTION_INT,
				.offset = OPT(expires),
				.unit = "seconds",
				.max = 86400,
				.help = "Period of the heartbeat, which finds what has expired. Default `$EXPIRES`, then 5."},
		{.name = "expires-max",
				.kind = SN_OPTION_INT,
				.offset = OPT(expires_max),
				.unit = "seconds",
				.max = INT32_MAX,
				.help = "Upper limit of an entry's `expires`. Default `$EXPIRES_MAX`, then 3600."},
		{.name = "domain-env",
				.kind = SN_OPTION_STRING,
				.offset = OPT(domain_env),
				.help = "`DEVELOPMENT` shows browsers a status page on /live. Default `$DOMAIN_ENV`."},
		{.name = "load-balancer-ip",
				.kind = SN_OPTION_STRING,
				.offset = OPT(load_balancer),
				.help = "Serve only this address, 401 to all others. Default `$LOAD_BALANCER_IP`."},
		{.name = "keystore",
				.kind = SN_OPTION_STRING,
				.offset = OPT(keystore),
				.help = "Refused (Java key stores cannot be read): see `tls`."},
		{.name = "keystore-password",
				.kind = SN_OPTION_STRING,
				.offset = OPT(keystore_password),
				.flags = SN_OPTION_SECRET,
				.help = "The same."},
		{.name = "legacy-put",
				.kind = SN_OPTION_ANY,
				.offset = OPT(legacy_node),
				.help = "Accept creates with a descriptor only, of the manual's time. Default `$LEGACY_PUT`, then false."},
		{.name = "tls",
				.kind = SN_OPTION_SECTION,
				.offset = OPT(tls),
				.options = tls_options,
				.help = "HTTPS."},
		{.name = "client-certificates",
				.kind = SN_OPTION_ENUM,
				.offset = OPT(client_certs),
				.choices = certs_choices,
				.def = "none",
				.help = "Who must show a certificate of `tls.ca`: nobody, who writes (reads stay open), everybody."},
		{.name = "catalog",
				.kind = SN_OPTION_BOOL,
				.offset = OPT(catalog),
				.def = "false",
				.help = "Show the registered hyperties as peers of kind `hyperty`."},
		{.name = "hosts",
				.kind = SN_OPTION_LIST,
				.offset = OPT(hosts),
				.help = "Names that may stand in a request's Host on a loopback address besides localhost."},
		{.name = "max-entries",
				.kind = SN_OPTION_INT,
				.offset = OPT(max_entries),
				.max = 1e9,
				.def = "10000000",
				.help = "Entries of the memory store; beyond, a create is answered 500; 0: no limit."},
		{0}};

enum storage { STORAGE_UNKNOWN, STORAGE_MEMORY, STORAGE_SQLITE, STORAGE_POSTGRES };

static enum storage storage_of(const char *name)
{
	static const struct {
		const char *name;
		enum storage is;
	} names[] = {{"memory", STORAGE_MEMORY}, {"ram", STORAGE_MEMORY},
			{"sqlite", STORAGE_SQLITE}, {"postgres", STORAGE_POSTGRES},
			{"postgresql", STORAGE_POSTGRES}};

	for (size_t i = 0; i < SN_COUNT(names); i++) {
		if (sn__str_ieq(sn_str_from(name), sn_str_from(names[i].name)))
			return names[i].is;
	}
	return STORAGE_UNKNOWN;
}

/* ---- what the environment says where the file is silent ---- */

static int env_int(const char *name, uint64_t max, int64_t *value, struct sn_error *err)
{
	const char *text = getenv(name);
	uint64_t n;

	if (*value != 0 || text == NULL)
		return 0;
	if (sn__parse_u64(sn_str_from(text), max, &n) < 0 || n == 0)
		return sn__error_set(err, SN_E_INVALID,
				"%s=%s: expected a whole number of seconds from 1 to %llu", name,
				text, (unsigned long long)max);
	*value = (int64_t)n;
	return 0;
}

static void env_text(const char *name, const char **value)
{
	const char *text = getenv(name);

	if (*value == NULL && text != NULL && text[0] != '\0')
		*value = text;
}

static int settle(struct sn_registry_section *s, struct sn_error *err)
{
	const char *legacy = getenv("LEGACY_PUT");
	int r = env_int("EXPIRES", 86400, &s->expires, err);

	if (r == 0)
		r = env_int("EXPIRES_MAX", INT32_MAX, &s->expires_max, err);
	if (r < 0)
		return r;
	s->expires = s->expires != 0 ? s->expires : HEARTBEAT_S;
	s->expires_max = s->expires_max != 0 ? s->expires_max : SN_REG_EXPIRES_MAX;
	env_text("DOMAIN_ENV", &s->domain_env);
	env_text("LOAD_BALANCER_IP", &s->load_balancer);
	if (s->tls.cert == NULL) {
		env_text("KEYSTORE", &s->keystore);
		env_text("KEYSTORE_PASSWORD", &s->keystore_password);
	}
	if (s->legacy_node == NULL)
		s->legacy_put = legacy != NULL && legacy[0] == '1' && legacy[1] == '\0';
	if (s->keystore != NULL)
		return sn__error_set(err, SN_E_INVALID,
				"registry: the key store %s is Java's and cannot be read: give PEM "
				"files in tls.cert and tls.key",
				s->keystore);
	if (s->path == NULL && s->url == NULL)
		env_text("STORAGE_TYPE", &s->storage);
	if (s->storage == NULL)
		s->storage = s->url != NULL ? "postgres" : "sqlite";
	if (storage_of(s->storage) == STORAGE_UNKNOWN)
		return sn__error_set(err, SN_E_INVALID,
				"registry: no storage type `%s`: it is memory (RAM), sqlite or "
				"postgres",
				s->storage);
	return 0;
}

/* ---- what the table cannot say ---- */

static int check(struct sn_config *config, const struct sn_yaml_node *node, void *section,
		struct sn_problems *problems)
{
	struct sn_registry_section *s = section;
	const struct sn_yaml_node *at = sn__yaml_get(node, "listen");
	struct sn_error err;
	struct sn_addr addr;
	int r = 0;

	if (sn__addr_parse_listen(sn_str_from(s->listen), &addr, &err) < 0)
		r = sn__problem(problems, at != NULL ? at->place : node->place,
				"registry.listen: %s", err.text);
	if (r == 0 && s->storage != NULL && storage_of(s->storage) == STORAGE_UNKNOWN)
		r = sn__problem(problems, sn__yaml_get(node, "storage-type")->place,
				"registry.storage-type: expected memory, RAM, sqlite or postgres");
	if (r == 0 && s->legacy_node != NULL && sn__yaml_bool(s->legacy_node, &s->legacy_put) < 0)
		r = sn__problem(problems, s->legacy_node->place,
				"registry.legacy-put must be true or false");
	if (r == 0 && s->load_balancer != NULL &&
			sn__addr_from_literal(sn_str_from(s->load_balancer), 0, &addr) < 0)
		r = sn__problem(problems, sn__yaml_get(node, "load-balancer-ip")->place,
				"registry.load-balancer-ip must be an address");
	if (r == 0 && (s->tls.cert != NULL) != (s->tls.key != NULL))
		r = sn__problem(problems, sn__yaml_get(node, "tls")->place,
				"registry.tls: cert and key go together");
	if (r == 0 && s->client_certs != SN_REG_CERTS_NONE &&
			(s->tls.ca == NULL || s->tls.cert == NULL))
		r = sn__problem(problems, sn__yaml_get(node, "client-certificates")->place,
				"registry.client-certificates needs tls with cert, key and ca");
	return r;
}

void sn__registry_defaults(struct sn_registry_section *ret_section)
{
	*ret_section = (struct sn_registry_section){
			.listen = LISTEN_DEFAULT, .max_entries = 10000000};
}

/* ---- the service ---- */

struct service {
	struct sn_hosted hosted;
	struct sn_runtime *rt;
	struct sn_reg_http http;
	struct sn_reg_store *store; /* NULL: not opened, or gone */
	struct sn_addr only;
	uint64_t period_ns;
	struct sn_timer timer;
	struct sn_reg_op beat;
	struct sn_error beat_err;
	bool away; /* the store, at the last beat */
	bool beating, turned, stopping;
	struct sn_series *expired;
	bool catalog; /* the hyperties are peers */
	struct sn_reg_catalog peers;
};

static void service_gone(void *arg)
{
	struct service *s = arg;
	struct sn_runtime *rt = s->rt;
	bool awaited = s->hosted.awaited;

	sn_list_remove(&s->hosted.link);
	sn__free(s);
	sn__drain_release(rt);
	if (awaited)
		sn__runtime_part_closed(rt);
}

static void store_close(struct service *s)
{
	if (s->beating || s->catalog || s->store == NULL)
		return;
	s->store->ops->close(s->store, service_gone, s);
	s->store = NULL;
}

/* ---- the heartbeat ---- */

static void beat(struct sn_timer *t);

static void beat_over(struct service *s)
{
	int r = s->beat.result;

	s->beating = false;
	s->away = r < 0 && r != SN_E_AGAIN;
	if (s->expired != NULL && r >= 0)
		sn_counter_add(s->expired, s->beat.n);
	if (s->stopping) {
		store_close(s);
		return;
	}
	/* More of it: others have their turn first. */
	sn__timer_start(s->rt->loop, &s->timer, r == SN_E_AGAIN ? 0 : s->period_ns, beat);
}

static void beat_done(struct sn_reg_op *op)
{
	beat_over(SN_CONTAINER_OF(op, struct service, beat));
}

static void beat(struct sn_timer *t)
{
	struct service *s = SN_CONTAINER_OF(t, struct service, timer);
	int r;

	s->beat_err = (struct sn_error){0};
	s->beat = (struct sn_reg_op){.act = SN_REG_EXPIRE,
			.err = &s->beat_err,
			.now = (int64_t)(sn__loop_wall_ns(s->rt->loop) / SN_NS_PER_S),
			.done = beat_done};
	s->beating = true;
	r = s->store->ops->submit(s->store, &s->beat);
	if (r < 0)
		s->beat.result = r;
	if (r != 0)
		beat_over(s);
}

/* ---- opening and closing ---- */

static bool store_missing(struct sn_hosted *hosted, char *out)
{
	const struct service *s = SN_CONTAINER_OF(hosted, struct service, hosted);

	if (s->away)
		(void)snprintf(out, SN_PART_MISSING_MAX, "registry: the store is away: %.200s",
				s->beat_err.text[0] != '\0' ? s->beat_err.text
							    : sn_strerror(s->beat.result));
	return s->away;
}

static void catalog_gone(struct sn_reg_catalog *c)
{
	struct service *s = SN_CONTAINER_OF(c, struct service, peers);

	s->catalog = false;
	store_close(s);
}

/* The last request has ended. */
static void http_gone(struct sn_reg_http *http)
{
	struct service *s = SN_CONTAINER_OF(http, struct service, http);

	s->stopping = true;
	sn__timer_stop(s->rt->loop, &s->timer);
	if (s->catalog)
		sn__reg_catalog_close(&s->peers);
	else
		store_close(s);
}

/* The server is gone; requests that wait for the store are not. */
static void service_free(struct sn_hosted *hosted)
{
	struct service *s = SN_CONTAINER_OF(hosted, struct service, hosted);
	struct sn_runtime *rt = s->rt;

	sn__timer_stop(rt->loop, &s->timer);
	if (s->catalog)
		sn__timer_stop(rt->loop, &s->peers.timer);
	if (hosted->server == NULL || sn__loop_turn(rt->loop) == 0) { /* it never began */
		if (s->store != NULL)
			s->store->ops->discard(s->store);
		sn__free(s);
		sn__drain_release(rt);
		return;
	}
	hosted->server = NULL;
	sn_list_push_back(&rt->lingering, &hosted->link);
	if (hosted->awaited)
		sn__runtime_part_opened(rt);
	sn__reg_http_close(&s->http);
}

static int counters(struct service *s)
{
	static const char *const labels[] = {"operation", NULL}, *const none[] = {NULL};
	static const char *const names[SN_REG_COUNTED] = {
			"get", "create", "keep-alive", "update", "delete"};
	struct sn_family *family;
	int r = sn__metrics_family(s->rt->metrics, "sinew_domain_registry_requests_total",
			"Requests to the domain registry.", SN_COUNTER, labels, &family);

	for (unsigned i = 0; r == 0 && i < SN_REG_COUNTED; i++)
		s->http.counts[i] = sn__metrics_series(family, &names[i]);
	if (r == 0)
		r = sn__metrics_family(s->rt->metrics, "sinew_domain_registry_expired_total",
				"Entries the heartbeat has found expired.", SN_COUNTER, none,
				&family);
	if (r == 0)
		s->expired = sn__metrics_series(family, none);
	return r;
}

struct listening {
	struct sn_hosting how;
	const struct sn_registry_section *section;
	const char *state; /* may be NULL */
};

/* "tls.ca" is a member of a member. Takes @value. */
static int set_json(json_t *config, const char *name, json_t *value)
{
	const char *dot = strchr(name, '.');
	SN_AUTO_FREE char *outer = dot != NULL ? sn__strndup(name, (size_t)(dot - name)) : NULL;
	json_t *inner;

	if (dot == NULL)
		return json_object_set_new(config, name, value) < 0 ? SN_E_NOMEM : 0;
	inner = outer != NULL ? json_object_get(config, outer) : NULL;
	if (inner == NULL && outer != NULL) {
		inner = json_object();
		if (json_object_set_new(config, outer, inner) < 0)
			inner = NULL;
	}
	if (!json_is_object(inner) || json_object_set_new(inner, dot + 1, value) < 0) {
		if (!json_is_object(inner))
			json_decref(value);
		return SN_E_NOMEM;
	}
	return 0;
}

static int set_text(json_t *config, const char *name, struct sn_str encoded)
{
	char text[1024];
	size_t n;

	if (encoded.len == 0)
		return 0;
	if (sn__percent_decode(encoded, text, sizeof(text), &n) < 0)
		return SN_E_PARSE;
	return set_json(config, name, json_stringn(text, n));
}

/* What stands before the first @at, which is dropped; the rest stays. Without @at: nothing, when
 * @optional, else all. */
static struct sn_str cut(struct sn_str *rest, char at, bool optional)
{
	const char *p = rest->len > 0 ? memchr(rest->ptr, at, rest->len) : NULL;
	struct sn_str first = {rest->ptr, p != NULL ? (size_t)(p - rest->ptr) : rest->len};

	if (p == NULL && optional)
		return (struct sn_str){rest->ptr, 0};
	*rest = p != NULL ? (struct sn_str){p + 1, rest->len - first.len - 1}
			  : (struct sn_str){rest->ptr + rest->len, 0};
	return first;
}

/* postgresql://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE&.., every part optional, as the driver's
 * options. SN_E_PARSE, SN_E_NOMEM. */
static int postgres_url(json_t *config, const char *url)
{
	static const char *const schemes[] = {"postgresql://", "postgres://"};
	struct sn_str rest = sn_str_from(url), place, user, host, query;
	uint64_t port = 0;
	int r = SN_E_PARSE;

	for (size_t i = 0; i < SN_COUNT(schemes) && r < 0; i++) {
		size_t n = strlen(schemes[i]);

		if (strncmp(url, schemes[i], n) != 0)
			continue;
		rest = (struct sn_str){url + n, rest.len - n};
		r = 0;
	}
	if (r < 0)
		return r;
	place = cut(&rest, '?', false);
	query = rest;
	rest = place;
	place = cut(&rest, '/', false); /* rest: the database */
	user = cut(&place, '@', true);
	host = place;
	if (host.len > 0 && host.ptr[0] == '[') {
		host.ptr++;
		host.len--;
		place = host;
		host = cut(&place, ']', false);
		(void)cut(&place, ':', true);
	} else {
		host = cut(&place, ':', false);
	}
	if (place.len > 0 && (sn__parse_u64(place, 65535, &port) < 0 || port == 0))
		return SN_E_PARSE;
	r = set_text(config, "database", rest);
	rest = user;
	if (r == 0)
		r = set_text(config, "user", cut(&rest, ':', false));
	if (r == 0)
		r = set_text(config, "password", rest);
	if (r == 0)
		r = set_text(config, "host", host);
	if (r == 0 && port != 0)
		r = set_json(config, "port", json_integer((json_int_t)port));
	while (r == 0 && query.len > 0) {
		struct sn_str one = cut(&query, '&', false), name = cut(&one, '=', false);
		SN_AUTO_FREE char *key = sn__strndup(name.ptr, name.len);

		r = key != NULL ? set_text(config, key, one) : SN_E_NOMEM;
	}
	return r;
}

/* The driver's options: what the section names, then its `options`. */
static int sql_config(const struct sn_registry_section *section, const char *path /* NULL: url */,
		char **ret_text)
{
	json_t *config = json_object();
	int r = config == NULL         ? SN_E_NOMEM
			: path != NULL ? set_json(config, "path", json_string(path))
				       : postgres_url(config, section->url);

	for (size_t i = 0; r == 0 && i < section->options.n; i++)
		r = set_json(config, section->options.pairs[i].name,
				json_string(section->options.pairs[i].value));
	*ret_text = r == 0 ? sn__json_text(config) : NULL;
	json_decref(config);
	return r < 0 ? r : *ret_text != NULL ? 0 : SN_E_NOMEM;
}

static int sql_open(struct service *s, const struct listening *l, enum storage storage,
		struct sn_error *err)
{
	const struct sn_registry_section *section = l->section;
	struct sn_reg_sql_options opts = {.loop = s->rt->loop,
			.rt = s->rt,
			.log = &s->rt->log,
			.type = storage == STORAGE_SQLITE ? "sqlite" : "postgres"};
	SN_AUTO_FREE char *path = NULL, *config = NULL;
	int r;

	if (storage == STORAGE_POSTGRES && section->url == NULL)
		return sn__error_set(
				err, SN_E_INVALID, "registry: the PostgreSQL store needs a url");
	if (storage == STORAGE_SQLITE && section->path == NULL && l->state == NULL)
		return sn__error_set(err, SN_E_INVALID,
				"registry: the SQLite store needs a path, or the file a `state`");
	if (storage == STORAGE_SQLITE && section->path == NULL) {
		path = sn__asprintf("%s/" FILE_NAME, l->state);
		if (path == NULL)
			return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	r = sql_config(section,
			storage == STORAGE_POSTGRES    ? NULL
					: path != NULL ? path
						       : section->path,
			&config);
	if (r == SN_E_PARSE)
		return sn__error_set(err, SN_E_INVALID,
				"registry.url: expected "
				"postgresql://USER:PASSWORD@HOST:PORT/DATABASE");
	if (r < 0)
		return sn__error_set(err, r, "out of memory");
	opts.config = config;
	return sn__reg_sql_open(&opts, &s->store, err);
}

static int store_open(struct service *s, const struct listening *l, struct sn_error *err)
{
	enum storage storage = storage_of(l->section->storage);
	struct sn_reg_memory_options memory = {.loop = s->rt->loop,
			.max_entries = (uint64_t)l->section->max_entries,
			.now = (int64_t)(sn__loop_wall_ns(s->rt->loop) / SN_NS_PER_S)};
	int r;

	if (storage != STORAGE_MEMORY)
		return sql_open(s, l, storage, err);
	r = sn__reg_memory_open(&memory, &s->store);
	return r < 0 ? sn__error_set(err, r, "out of memory") : 0;
}

static int service_fill(struct service *s, const struct listening *l, struct sn_error *err)
{
	const struct sn_registry_section *section = l->section;
	int r = store_open(s, l, err);

	if (r < 0)
		return r;
	s->period_ns = (uint64_t)section->expires * SN_NS_PER_S;
	s->http.loop = s->rt->loop;
	s->http.store = s->store;
	s->http.expires_max = (int32_t)section->expires_max;
	s->http.legacy_put = section->legacy_put;
	s->http.page = section->domain_env != NULL &&
			strcmp(section->domain_env, "DEVELOPMENT") == 0;
	s->http.secure = section->tls.cert != NULL;
	s->http.certs = section->client_certs == SN_REG_CERTS_WRITES;
	s->http.gone = http_gone;
	if (section->load_balancer != NULL) {
		if (sn__addr_from_literal(sn_str_from(section->load_balancer), 0, &s->only) < 0)
			return sn__error_set(err, SN_E_INVALID,
					"registry: the load balancer's address %s is none",
					section->load_balancer);
		s->http.only = &s->only;
	}
	sn__reg_http_init(&s->http);
	s->catalog = s->store->track = section->catalog;
	r = counters(s);
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}

static int service_make(struct sn_hosting *how, struct sn_hosted **ret_hosted, struct sn_error *err)
{
	struct listening *l = SN_CONTAINER_OF(how, struct listening, how);
	struct service *s = sn__calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	s->rt = how->rt;
	r = service_fill(s, l, err);
	if (r < 0) {
		if (s->store != NULL)
			s->store->ops->discard(s->store);
		sn__free(s);
		return r;
	}
	s->hosted.free = service_free;
	s->hosted.missing = store_missing;
	how->arg = &s->http;
	how->config.check_origin = sn__addr_is_loopback(&how->config.addr);
	sn__drain_hold(how->rt);
	sn__timer_start(how->rt->loop, &s->timer, s->period_ns, beat);
	if (s->catalog) {
		s->peers.loop = how->rt->loop;
		s->peers.store = s->store;
		s->peers.catalog = how->rt->catalog;
		s->peers.log = &how->rt->log;
		s->peers.gone = catalog_gone;
		sn__reg_catalog_start(&s->peers);
	}
	*ret_hosted = &s->hosted;
	return 0;
}

int sn__registry_listen(struct sn_runtime *rt, const struct sn_registry_section *section,
		const char *state, struct sn_error *err)
{
	struct sn_registry_section settled = *section;
	struct listening l = {.how = {.listen = section->listen,
					      .tls_cert = section->tls.cert,
					      .tls_key = section->tls.key,
					      .tls_ca = section->client_certs != SN_REG_CERTS_NONE
							      ? section->tls.ca
							      : NULL,
					      .ask_client_cert = section->client_certs ==
							      SN_REG_CERTS_WRITES,
					      .handler = sn__reg_http_handle,
					      .make = service_make,
					      .inbound = true},
			.section = &settled,
			.state = state};
	struct sn_hosted *hosted;
	int r = settle(&settled, err);

	if (r < 0)
		return r;
	l.how.config.hosts = section->hosts.items;
	l.how.config.max_body = SN_REG_BODY_MAX;
	return sn__hosted_open(rt, &l.how, &hosted, err);
}

static int section_open(struct sn_runtime *rt, const struct sn_config *config, const void *section,
		struct sn_error *err)
{
	return sn__registry_listen(rt, section, config->state, err);
}

const struct sn_config_section sn__registry_section = {
		.name = "registry",
		.help = "The reTHINK domain registry is served: a map, see below.",
		.options = options,
		.size = sizeof(struct sn_registry_section),
		.check = check,
		.open = section_open,
		.doc = "What the file does not say is read from the environment of the original server: "
		       "STORAGE_TYPE, EXPIRES, EXPIRES_MAX, DOMAIN_ENV, LOAD_BALANCER_IP, LEGACY_PUT "
		       "(docs/registry.md).",
};
