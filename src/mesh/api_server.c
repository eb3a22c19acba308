/* SPDX-License-Identifier: Apache-2.0 */

/* Public HTTP servers on a runtime's loop; sinew/http.h. The exchanges are io/http_server.c's own. */

#include "base/mem.h"
#include "io/http_server.h"
#include "mesh/api.h"

/* What a runtime knows about a server of the host's; stands in the server's slot. */
struct hosted {
	struct sn_runtime *rt;
	struct sn_http_server *server;
	struct sn_list link; /* in rt->servers until it is being closed */
	struct sn_task close_task;
	uint32_t grace_ms;
	bool closing;
};

/* ---- opening ---- */

/* On the opening thread's stack. */
struct opening {
	struct sn_wait wait;
	struct sn_runtime *rt;
	const struct sn_http_server_options *opts;
	struct sn_http_server_config config;
	sn_http_handler_fn *handler;
	void *arg;
	struct sn_http_server *server;
	struct sn_error *err;
	int code;
};

/* TLS contexts belong to the loop's thread, as the server does. */
static int tls_open(struct opening *o)
{
	const struct sn_http_server_options *opts = o->opts;
	struct sn_tls_options tls = {
			.ca = opts->tls_ca,
			.cert = opts->tls_cert,
			.key = opts->tls_key,
			.alpn = "http/1.1",
			.require_client_cert = opts->tls_ca != NULL,
	};
	struct sn_tls *made;
	int r;

	if (opts->tls_cert == NULL && opts->tls_key == NULL)
		return 0;
	if (opts->tls_cert == NULL || opts->tls_key == NULL)
		return sn__error_set(o->err, SN_E_INVALID, "tls_cert and tls_key go together");
	r = sn__tls_create(o->rt->loop, &tls, true, &made);
	if (r < 0)
		return sn__error_set(o->err, r, "%s", sn_strerror(r));
	r = sn__tls_load(made, o->err);
	if (r < 0) {
		sn__tls_unref(made);
		return r;
	}
	o->config.tls = made;
	return 0;
}

static int server_open(struct opening *o)
{
	struct hosted *h = sn__calloc(1, sizeof(*h));
	int r;

	if (h == NULL)
		return sn__error_set(o->err, SN_E_NOMEM, "out of memory");
	r = tls_open(o);
	if (r == 0)
		r = sn__http_server_open(
				o->rt->loop, &o->config, o->handler, o->arg, &h->server, o->err);
	sn__tls_unref(o->config.tls); /* the server has its own reference */
	if (r < 0) {
		sn__free(h);
		return r;
	}
	h->rt = o->rt;
	*sn__http_server_slot(h->server) = h;
	sn_list_push_back(&o->rt->servers, &h->link);
	o->server = h->server;
	return 0;
}

static void open_run(struct sn_task *task)
{
	struct sn_wait *wait = SN_CONTAINER_OF(task, struct sn_wait, task);
	struct opening *o = SN_CONTAINER_OF(wait, struct opening, wait);

	if (atomic_load(&o->rt->state) == SN_RUNTIME_CLOSING)
		o->code = sn__error_set(o->err, SN_E_CLOSED, "the runtime is closing");
	else
		o->code = server_open(o);
	sn__wait_wake(&o->wait);
}

static int open_anywhere(struct opening *o)
{
	int r;

	if (sn__loop_is_here(o->rt->loop))
		return server_open(o);
	r = sn__wait_init(&o->wait, o->rt);
	if (r < 0)
		return sn__error_set(o->err, r, "a server is opened on the loop's thread");
	sn__loop_post(o->rt->loop, &o->wait.task, open_run);
	sn__wait_for(&o->wait, UINT64_MAX);
	sn__wait_finish(&o->wait);
	return o->code;
}

static int options_check(const struct sn_http_server_options *opts, struct sn_error *err)
{
	if (opts->size != sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID, "options.size is %zu, not %zu", opts->size,
				sizeof(*opts));
	if (opts->listen == NULL)
		return sn__error_set(err, SN_E_INVALID, "options.listen is missing");
	return 0;
}

static int open_checked(struct opening *o)
{
	int r = options_check(o->opts, o->err);

	if (r == 0)
		r = sn__addr_parse_listen(sn_str_from(o->opts->listen), &o->config.addr, o->err);
	if (r < 0)
		return r;
	o->config.max_body = o->opts->max_body;
	return open_anywhere(o);
}

int sn_http_server_open(struct sn_runtime *rt, const struct sn_http_server_options *opts,
		sn_http_handler_fn *handler, void *arg, struct sn_http_server **ret_server,
		struct sn_error **ret_error)
{
	struct sn_error err;
	struct opening o = {.rt = rt, .opts = opts, .handler = handler, .arg = arg, .err = &err};
	int r = sn__enter(rt);

	if (r < 0) {
		sn__error_set(&err, r, "%s", sn_strerror(r));
	} else {
		r = open_checked(&o);
		sn__leave(rt);
	}
	if (r == 0)
		*ret_server = o.server;
	else if (ret_error != NULL && sn_error_copy(&err, ret_error) < 0)
		*ret_error = NULL;
	return r;
}

uint16_t sn_http_server_port(const struct sn_http_server *server)
{
	return sn__addr_port(sn__http_server_addr(server));
}

/* ---- closing ---- */

static void server_closed(void *arg)
{
	struct hosted *h = arg;
	struct sn_runtime *rt = h->rt;

	sn_list_remove(&h->link);
	sn__free(h);
	if (atomic_load(&rt->state) == SN_RUNTIME_CLOSING)
		sn__runtime_part_closed(rt);
}

static void close_now(struct hosted *h, uint32_t grace_ms)
{
	h->closing = true;
	sn__http_server_close(h->server, grace_ms, server_closed, h);
}

static void close_run(struct sn_task *task)
{
	struct hosted *h = SN_CONTAINER_OF(task, struct hosted, close_task);

	if (!h->closing)
		close_now(h, h->grace_ms);
}

void sn_http_server_close(struct sn_http_server *server, uint32_t grace_ms)
{
	struct hosted *h = *sn__http_server_slot(server);
	struct sn_runtime *rt = h->rt;

	if (sn__enter(rt) < 0)
		return;
	h->grace_ms = grace_ms;
	sn__loop_post(rt->loop, &h->close_task, close_run);
	sn__leave(rt);
}

/* Servers that are already closing are waited for like the others. */
void sn__api_servers_close(struct sn_runtime *rt)
{
	SN_LIST_FOREACH_SAFE (pos, &rt->servers) {
		struct hosted *h = SN_CONTAINER_OF(pos, struct hosted, link);

		sn__runtime_part_opened(rt);
		if (!h->closing)
			close_now(h, 0);
	}
}
