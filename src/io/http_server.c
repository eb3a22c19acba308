/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server: listening, who may ask, closing. See http_server_impl.h. */
#include "io/http_server_impl.h"

#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "io/h2.h"

/* ---- who may ask ---- */

/* host[:port] without the port. */
static struct sn_str without_port(struct sn_str host)
{
	size_t n = host.len;

	while (n > 0 && host.ptr[n - 1] >= '0' && host.ptr[n - 1] <= '9')
		n--;
	if (n > 0 && host.ptr[n - 1] == ':' &&
			(n < 2 || host.ptr[0] == '[' || memchr(host.ptr, ':', n - 1) == NULL))
		host.len = n - 1;
	return host;
}

/* Not [::ffff:127.0.0.1]: browsers do not take it for this machine and leave Sec-Fetch-Site out. */
static bool is_own_literal(struct sn_str name)
{
	struct sn_addr addr;

	return sn__addr_from_literal(name, 1, &addr) == 0 && sn__addr_is_loopback(&addr) &&
			!(addr.u.sa.sa_family == AF_INET6 &&
					IN6_IS_ADDR_V4MAPPED(&addr.u.in6.sin6_addr));
}

static bool host_allowed(const struct sn_http_server *server, struct sn_str host)
{
	struct sn_str name = without_port(host);

	if (sn__str_ieq(name, SN_STR("localhost")) || is_own_literal(name))
		return true;
	for (const char *const *h = server->config.hosts; h != NULL && *h != NULL; h++) {
		if (sn__str_ieq(name, sn_str_from(*h)) || sn__str_ieq(host, sn_str_from(*h)))
			return true;
	}
	return false;
}

unsigned sn__http_server_check(const struct sn_http_server *server, const struct sn_http_head *head)
{
	const struct sn_str *origin = sn__http_find(head, "origin");
	const struct sn_str *site = sn__http_find(head, "sec-fetch-site");
	const struct sn_str *host = sn__http_find(head, "host");
	struct sn_str authority = sn__exchange_authority(head->target);
	struct sn_str from = {NULL, 0};

	if (site != NULL && !sn__str_ieq(*site, SN_STR("none")) &&
			!sn__str_ieq(*site, SN_STR("same-origin")))
		return 403;
	if (origin != NULL) {
		if (origin->len > 7 && memcmp(origin->ptr, "http://", 7) == 0)
			from = (struct sn_str){origin->ptr + 7, origin->len - 7};
		else if (origin->len > 8 && memcmp(origin->ptr, "https://", 8) == 0)
			from = (struct sn_str){origin->ptr + 8, origin->len - 8};
		if (from.len == 0 || host == NULL || !sn__str_ieq(from, *host))
			return 403;
	}
	if (server->config.any_host || server->addr.u.sa.sa_family == AF_UNIX)
		return 0;
	if (host != NULL && !host_allowed(server, *host))
		return 421;
	if (authority.len > 0 && !host_allowed(server, authority))
		return 421;
	return 0;
}

/* ---- the server ---- */

struct sn_str sn__http_server_date(struct sn_http_server *server)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	uint64_t now_s = sn__loop_wall_ns(server->loop) / SN_NS_PER_S;
	time_t t = (time_t)now_s;
	struct tm tm;

	/* strftime would write the names of the host's locale. */
	if (now_s != server->date_s && gmtime_r(&t, &tm) != NULL) {
		server->date_s = now_s;
		(void)snprintf(server->date, sizeof(server->date),
				"%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday,
				tm.tm_mday % 100, months + 3 * tm.tm_mon,
				(tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100,
				tm.tm_sec % 100);
	}
	return (struct sn_str){server->date, strlen(server->date)};
}

static void hosts_free(const char *const *hosts)
{
	for (const char *const *h = hosts; h != NULL && *h != NULL; h++)
		sn__free((void *)(uintptr_t)*h);
	sn__free((void *)(uintptr_t)hosts);
}

static int hosts_copy(const char *const *hosts, const char *const **ret_hosts)
{
	size_t n = 0;
	char **copy;

	while (hosts != NULL && hosts[n] != NULL)
		n++;
	copy = sn__calloc(n + 1, sizeof(*copy));
	if (copy == NULL)
		return SN_E_NOMEM;
	for (size_t i = 0; i < n; i++) {
		copy[i] = sn__strdup(hosts[i]);
		if (copy[i] == NULL) {
			hosts_free((const char *const *)copy);
			return SN_E_NOMEM;
		}
	}
	*ret_hosts = (const char *const *)copy;
	return 0;
}

static void server_free(struct sn_http_server *server)
{
	struct sn_list *node;

	while ((node = sn_list_pop_front(&server->pool)) != NULL)
		sn__exchange_free(SN_CONTAINER_OF(node, struct sn_exchange, link));
	if (server->config.tls != NULL)
		sn__tls_unref(server->config.tls);
	hosts_free(server->config.hosts);
	sn__free(server->scratch);
	sn__h2_scratch_destroy(server->h2_scratch);
	if (server->watch != NULL && server->watch->gone != NULL)
		server->watch->gone(server->watch);
	sn__free(server);
}

static void defaults(struct sn_http_server_config *config)
{
	if (config->max_head == 0)
		config->max_head = SN_HTTP_HEAD_SIZE_MAX;
	if (config->max_body == 0)
		config->max_body = 16u << 20;
	if (config->max_connections == 0)
		config->max_connections = 10000;
	if (config->head_timeout_ms == 0)
		config->head_timeout_ms = 10000;
	if (config->idle_timeout_ms == 0)
		config->idle_timeout_ms = 60000;
}

static void on_accept(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	struct sn_http_server *server = arg;

	if (sn__http_conn_open(server, stream) < 0) {
		sn__stream_close(stream, true);
		return;
	}
	if (server->n_conns >= server->config.max_connections && !server->listener_paused) {
		server->listener_paused = true;
		sn__listener_pause(server->listener, true);
	}
}

int sn__http_server_open(struct sn_loop *loop, const struct sn_http_server_config *config,
		sn_http_handler_fn *handler, void *arg, struct sn_http_server **ret_server,
		struct sn_error *err)
{
	struct sn_http_server *server = sn__calloc(1, sizeof(*server));
	int r;

	if (server == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	server->loop = loop;
	server->handler = handler;
	server->arg = arg;
	server->config = *config;
	server->config.tls = NULL;
	server->config.hosts = NULL;
	defaults(&server->config);
	sn_list_init(&server->conns);
	sn_list_init(&server->pool);
	server->scratch = sn__malloc(HTTP_SCRATCH);
	r = server->scratch != NULL ? hosts_copy(config->hosts, &server->config.hosts) : SN_E_NOMEM;
	if (r < 0)
		(void)sn__error_set(err, r, "out of memory");
	if (r == 0 && config->tls != NULL)
		r = sn__tls_load(config->tls, err);
	if (r == 0)
		r = sn__listen(loop, &config->addr, &config->listen, on_accept, server,
				&server->listener, err);
	if (r < 0) {
		server_free(server);
		return r;
	}
	if (config->tls != NULL)
		server->config.tls = sn__tls_ref(config->tls);
	server->addr = *sn__listener_addr(server->listener);
	*ret_server = server;
	return 0;
}

void **sn__http_server_slot(struct sn_http_server *server)
{
	return &server->slot;
}

bool sn__http_server_is_secure(const struct sn_http_server *server)
{
	return server->config.tls != NULL;
}

int sn__http_server_watch(struct sn_http_server *server, struct sn_http_watch *watch)
{
	if (server->watch != NULL)
		return SN_E_EXISTS;
	server->watch = watch;
	return 0;
}

const struct sn_addr *sn__http_server_addr(const struct sn_http_server *server)
{
	return &server->addr;
}

static void on_done(struct sn_task *task)
{
	struct sn_http_server *server = SN_CONTAINER_OF(task, struct sn_http_server, task);
	void (*done)(void *arg) = server->done;
	void *arg = server->done_arg;

	server_free(server);
	if (done != NULL)
		done(arg);
}

static void maybe_done(struct sn_http_server *server)
{
	if (!server->closing || server->n_conns > 0)
		return;
	sn__timer_stop(server->loop, &server->grace);
	sn__loop_defer(server->loop, &server->task, on_done);
}

void sn__http_server_left(struct sn_http_server *server)
{
	server->n_conns--;
	if (server->listener_paused && !server->closing) {
		server->listener_paused = false;
		sn__listener_pause(server->listener, false);
	}
	maybe_done(server);
}

static void on_grace(struct sn_timer *t)
{
	struct sn_http_server *server = SN_CONTAINER_OF(t, struct sn_http_server, grace);

	/* Not freed before the next turn, so that the list stays. */
	SN_LIST_FOREACH (node, &server->conns) {
		struct http_conn *c = SN_CONTAINER_OF(node, struct http_conn, link);

		sn__http_conn_fail(c, SN_E_CLOSED);
		sn__http_conn_kick(c);
	}
}

void sn__http_server_close(struct sn_http_server *server, uint32_t grace_ms,
		void (*done)(void *arg), void *arg)
{
	assert(!server->closing);
	server->closing = true;
	server->patient = grace_ms > 0;
	server->done = done;
	server->done_arg = arg;
	sn__listener_close(server->listener);
	server->listener = NULL;
	SN_LIST_FOREACH (node, &server->conns)
		sn__http_conn_kick(SN_CONTAINER_OF(node, struct http_conn, link));
	if (server->n_conns > 0)
		sn__timer_start(server->loop, &server->grace, sn_ms_to_ns(grace_ms), on_grace);
	maybe_done(server);
}

void sn__http_server_hurry(struct sn_http_server *server)
{
	assert(server->closing);
	if (server->n_conns > 0)
		sn__timer_start(server->loop, &server->grace, 0, on_grace);
}

void sn__http_server_discard(struct sn_http_server *server)
{
	assert(server->n_conns == 0);
	sn__listener_close(server->listener);
	server_free(server);
}
