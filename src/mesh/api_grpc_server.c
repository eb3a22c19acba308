/* SPDX-License-Identifier: Apache-2.0 */

/* Public gRPC servers on a runtime's loop. The calls themselves are io/grpc_server.h's. */

#include "base/mem.h"
#include "io/grpc_server.h"
#include "mesh/api.h"

#define PING_TIMEOUT_MIN_MS 1000
#define PING_TIMEOUT_MAX_MS 20000

struct sn_grpc_server {
	struct sn_hosted hosted;
	struct sn_grpc_services *services;
	struct sn_grpc_health *health;         /* NULL: not served */
	struct sn_grpc_reflection *reflection; /* NULL: not served */
};

/* On the opening thread's stack. */
struct grpc_hosting {
	struct sn_hosting how;
	const struct sn_grpc_server_options *opts;
};

static struct sn_grpc_server *server_of(struct sn_hosted *h)
{
	return SN_CONTAINER_OF(h, struct sn_grpc_server, hosted);
}

struct sn_http_server *sn__grpc_server_http(struct sn_grpc_server *server)
{
	return server->hosted.server;
}

static void server_closing(struct sn_hosted *h)
{
	struct sn_grpc_server *server = server_of(h);

	if (server->health != NULL)
		sn__grpc_health_shutdown(server->health);
}

static void server_free(struct sn_hosted *h)
{
	struct sn_grpc_server *server = server_of(h);

	sn__grpc_reflection_destroy(server->reflection);
	sn__grpc_health_destroy(server->health);
	sn__grpc_services_destroy(server->services);
	sn__free(server);
}

static int services_fill(struct sn_runtime *rt, struct sn_grpc_server *server,
		const struct sn_grpc_server_options *opts, struct sn_error *err)
{
	struct sn_grpc_services_options services = {.max_message = opts->max_message,
			.http = opts->http,
			.http_arg = opts->http_arg};
	int r = sn__grpc_services_create(rt->loop, &services, &server->services);

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	for (size_t i = 0; opts->services != NULL && opts->services[i] != NULL && r == 0; i++)
		r = sn__grpc_services_add(server->services, opts->services[i], err);
	if (r == SN_E_EXISTS)
		r = err->code = SN_E_INVALID; /* the sentence stays */
	if (r == 0 && !opts->no_health)
		r = sn__grpc_health_create(server->services, &server->health, err);
	if (r == 0 && !opts->no_reflection)
		r = sn__grpc_reflection_create(server->services, &server->reflection, err);
	return r;
}

static int server_make(struct sn_hosting *how, struct sn_hosted **ret_hosted, struct sn_error *err)
{
	struct grpc_hosting *gh = SN_CONTAINER_OF(how, struct grpc_hosting, how);
	struct sn_grpc_server *server = sn__calloc(1, sizeof(*server));
	int r;

	if (server == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	server->hosted.closing = server_closing;
	server->hosted.free = server_free;
	r = services_fill(how->rt, server, gh->opts, err);
	if (r < 0) {
		server_free(&server->hosted);
		return r;
	}
	how->arg = server->services;
	*ret_hosted = &server->hosted;
	return 0;
}

static int server_open(struct sn_runtime *rt, const struct sn_grpc_server_options *opts,
		struct sn_hosted **ret_hosted, struct sn_error *err)
{
	struct grpc_hosting gh = {
			.how = {.handler = sn__grpc_handle, .make = server_make},
			.opts = opts,
	};

	if (opts->size != sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID, "options.size is %zu, not %zu", opts->size,
				sizeof(*opts));
	gh.how.listen = opts->listen;
	gh.how.tls_cert = opts->tls_cert;
	gh.how.tls_key = opts->tls_key;
	gh.how.tls_ca = opts->tls_ca;
	gh.how.config.max_streams = opts->max_streams;
	gh.how.config.late_limit = true; /* calls are answered RESOURCE_EXHAUSTED instead */
	gh.how.config.ping_ms = opts->keep_alive_ms != 0 ? opts->keep_alive_ms : 7200000;
	gh.how.config.ping_timeout_ms = SN_MIN(
			SN_MAX(gh.how.config.ping_ms, PING_TIMEOUT_MIN_MS), PING_TIMEOUT_MAX_MS);
	return sn__hosted_open(rt, &gh.how, ret_hosted, err);
}

int sn_grpc_server_open(struct sn_runtime *rt, const struct sn_grpc_server_options *opts,
		struct sn_grpc_server **ret_server, struct sn_error **ret_error)
{
	struct sn_error err;
	struct sn_hosted *h;
	int r = sn__enter(rt);

	if (r < 0) {
		sn__error_set(&err, r, "%s", sn_strerror(r));
	} else {
		r = server_open(rt, opts, &h, &err);
		sn__leave(rt);
	}
	if (r == 0)
		*ret_server = server_of(h);
	else
		sn__error_give(&err, ret_error);
	return r;
}

uint16_t sn_grpc_server_port(const struct sn_grpc_server *server)
{
	return sn_http_server_port(server->hosted.server);
}

int sn_grpc_server_set_serving(struct sn_grpc_server *server, const char *service, bool serving)
{
	if (server->health == NULL)
		return SN_E_NOT_FOUND;
	return sn__grpc_health_set(server->health, service != NULL ? service : "", serving);
}

void sn_grpc_server_close(struct sn_grpc_server *server, uint32_t grace_ms)
{
	sn__hosted_close(&server->hosted, grace_ms);
}
