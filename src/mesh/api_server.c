/* SPDX-License-Identifier: Apache-2.0 */

/* Public HTTP servers on a runtime's loop; sinew/http.h. The exchanges are io/http_server.c's own. */

#include "mesh/api.h"

#include "base/mem.h"
#include "mesh/inbound.h"

/* ---- opening ---- */

/* On the opening thread's stack. */
struct opening {
	struct sn_wait wait;
	struct sn_hosting *how;
	struct sn_hosted *hosted;
	struct sn_error *err;
	int code;
};

/* TLS contexts belong to the loop's thread, as the server does. */
static int tls_open(struct sn_hosting *how, struct sn_error *err)
{
	struct sn_tls_options tls = {
			.ca = how->tls_ca,
			.cert = how->tls_cert,
			.key = how->tls_key,
			.alpn = "h2,http/1.1",
			.require_client_cert = how->tls_ca != NULL && !how->ask_client_cert,
			.ask_client_cert = how->tls_ca != NULL && how->ask_client_cert,
	};
	struct sn_tls *made;
	int r;

	if (how->tls_cert == NULL && how->tls_key == NULL)
		return 0;
	if (how->tls_cert == NULL || how->tls_key == NULL)
		return sn__error_set(err, SN_E_INVALID, "tls_cert and tls_key go together");
	r = sn__tls_create(how->rt->loop, &tls, true, &made);
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	r = sn__tls_load(made, err);
	if (r < 0) {
		sn__tls_unref(made);
		return r;
	}
	how->config.tls = made;
	return 0;
}

static void plain_free(struct sn_hosted *h)
{
	sn__free(h);
}

static int plain_make(struct sn_hosting *how, struct sn_hosted **ret_hosted, struct sn_error *err)
{
	struct sn_hosted *h = sn__calloc(1, sizeof(*h));

	if (h == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	h->free = plain_free;
	*ret_hosted = h;
	return 0;
}

static int server_open(struct opening *o)
{
	struct sn_hosting *how = o->how;
	struct sn_hosted *h;
	int r = (how->make != NULL ? how->make : plain_make)(how, &h, o->err);

	if (r < 0)
		return r;
	r = tls_open(how, o->err);
	if (r == 0)
		r = sn__http_server_open(how->rt->loop, &how->config, how->handler, how->arg,
				&h->server, o->err);
	sn__tls_unref(how->config.tls); /* the server has its own reference */
	if (r == 0 && how->inbound && sn__inbound_watch(how->rt, h->server) < 0) {
		sn__http_server_discard(h->server);
		r = sn__error_set(o->err, SN_E_NOMEM, "out of memory");
	}
	if (r < 0) {
		h->free(h);
		return r;
	}
	h->rt = how->rt;
	*sn__http_server_slot(h->server) = h;
	sn_list_push_back(&how->rt->servers, &h->link);
	if (!h->stays)
		sn__drain_hold(how->rt);
	o->hosted = h;
	return 0;
}

static void open_run(struct sn_task *task)
{
	struct sn_wait *wait = SN_CONTAINER_OF(task, struct sn_wait, task);
	struct opening *o = SN_CONTAINER_OF(wait, struct opening, wait);

	if (atomic_load(&o->how->rt->state) == SN_RUNTIME_CLOSING)
		o->code = sn__error_set(o->err, SN_E_CLOSED, "the runtime is closing");
	else
		o->code = server_open(o);
	sn__wait_wake(&o->wait);
}

static int open_anywhere(struct opening *o)
{
	struct sn_runtime *rt = o->how->rt;
	int r;

	if (sn__loop_is_here(rt->loop))
		return server_open(o);
	r = sn__wait_init(&o->wait, rt);
	if (r < 0)
		return sn__error_set(o->err, r, "a server is opened on the loop's thread");
	sn__loop_post(rt->loop, &o->wait.task, open_run);
	sn__wait_for(&o->wait, UINT64_MAX);
	sn__wait_finish(&o->wait);
	return o->code;
}

int sn__hosted_open(struct sn_runtime *rt, struct sn_hosting *how, struct sn_hosted **ret_hosted,
		struct sn_error *err)
{
	struct opening o = {.how = how, .err = err};
	int r;

	if (how->listen == NULL)
		return sn__error_set(err, SN_E_INVALID, "options.listen is missing");
	r = sn__addr_parse_listen(sn_str_from(how->listen), &how->config.addr, err);
	if (r < 0)
		return r;
	how->rt = rt;
	r = open_anywhere(&o);
	if (r == 0)
		*ret_hosted = o.hosted;
	return r;
}

static int http_open(struct sn_runtime *rt, const struct sn_http_server_options *opts,
		sn_http_handler_fn *handler, void *arg, struct sn_hosted **ret_hosted,
		struct sn_error *err)
{
	struct sn_hosting how = {.handler = handler, .arg = arg};

	if (opts->size != sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID, "options.size is %zu, not %zu", opts->size,
				sizeof(*opts));
	how.listen = opts->listen;
	how.tls_cert = opts->tls_cert;
	how.tls_key = opts->tls_key;
	how.tls_ca = opts->tls_ca;
	how.config.max_body = opts->max_body;
	return sn__hosted_open(rt, &how, ret_hosted, err);
}

int sn_http_server_open(struct sn_runtime *rt, const struct sn_http_server_options *opts,
		sn_http_handler_fn *handler, void *arg, struct sn_http_server **ret_server,
		struct sn_error **ret_error)
{
	struct sn_error err;
	struct sn_hosted *h;
	int r = sn__enter(rt);

	if (r < 0) {
		sn__error_set(&err, r, "%s", sn_strerror(r));
	} else {
		r = http_open(rt, opts, handler, arg, &h, &err);
		sn__leave(rt);
	}
	if (r == 0)
		*ret_server = h->server;
	else
		sn__error_give(&err, ret_error);
	return r;
}

uint16_t sn_http_server_port(const struct sn_http_server *server)
{
	return sn__addr_port(sn__http_server_addr(server));
}

/* ---- closing ---- */

static void server_closed(void *arg)
{
	struct sn_hosted *h = arg;
	struct sn_runtime *rt = h->rt;
	bool awaited = h->awaited, stays = h->stays;

	sn_list_remove(&h->link);
	h->free(h);
	if (!stays)
		sn__drain_release(rt);
	if (awaited)
		sn__runtime_part_closed(rt);
}

static void close_now(struct sn_hosted *h, uint32_t grace_ms)
{
	h->is_closing = true;
	if (h->closing != NULL)
		h->closing(h);
	sn__http_server_close(h->server, grace_ms, server_closed, h);
}

static void close_run(struct sn_task *task)
{
	struct sn_hosted *h = SN_CONTAINER_OF(task, struct sn_hosted, close_task);

	if (!h->is_closing)
		close_now(h, h->grace_ms);
}

void sn__hosted_close(struct sn_hosted *h, uint32_t grace_ms)
{
	struct sn_runtime *rt = h->rt;

	if (sn__enter(rt) < 0)
		return;
	h->grace_ms = grace_ms;
	sn__loop_post(rt->loop, &h->close_task, close_run);
	sn__leave(rt);
}

void sn_http_server_close(struct sn_http_server *server, uint32_t grace_ms)
{
	sn__hosted_close(*sn__http_server_slot(server), grace_ms);
}

void sn__api_servers_drain(struct sn_runtime *rt)
{
	SN_LIST_FOREACH_SAFE (pos, &rt->servers) {
		struct sn_hosted *h = SN_CONTAINER_OF(pos, struct sn_hosted, link);

		if (h->stays || h->is_closing)
			continue;
		h->draining = true;
		close_now(h, SN_MAX(rt->drain_ms, 1u));
	}
}

/* Servers that are already closing are waited for like the others. */
void sn__api_servers_close(struct sn_runtime *rt)
{
	SN_LIST_FOREACH_SAFE (pos, &rt->servers) {
		struct sn_hosted *h = SN_CONTAINER_OF(pos, struct sn_hosted, link);

		h->awaited = true;
		sn__runtime_part_opened(rt);
		if (!h->is_closing)
			close_now(h, 0);
		else if (h->draining)
			sn__http_server_hurry(h->server);
	}
	SN_LIST_FOREACH_SAFE (pos, &rt->lingering) {
		struct sn_hosted *h = SN_CONTAINER_OF(pos, struct sn_hosted, link);

		h->awaited = true;
		sn__runtime_part_opened(rt);
		h->closing(h);
	}
}

/* The same work whatever is given. */
bool sn__bearer_fits(const struct sn_exchange *x, const char *token)
{
	const char *given = sn_exchange_header(x, "authorization");
	size_t n = strlen(token), m;
	unsigned char differs = 0;

	if (given == NULL ||
			!sn__str_ieq((struct sn_str){given, SN_MIN(strlen(given), (size_t)7)},
					SN_STR("Bearer ")))
		return false;
	given += 7;
	m = strlen(given);
	for (size_t i = 0; i < n; i++)
		differs |= (unsigned char)(token[i] ^ (m > 0 ? given[i % m] : 0));
	return differs == 0 && n == m;
}
