/* SPDX-License-Identifier: Apache-2.0 */
/* sinew/inbound.h: requests of our own servers, of others, and spans of the application's. */
#include "base/mem.h"
#include "mesh/api.h"
#include "mesh/inbound.h"

/* ---- our own servers ---- */

struct attaching {
	struct sn_wait wait;
	struct sn_http_server *server;
	int code;
};

static void attach_run(struct sn_task *task)
{
	struct sn_wait *wait = SN_CONTAINER_OF(task, struct sn_wait, task);
	struct attaching *a = SN_CONTAINER_OF(wait, struct attaching, wait);

	a->code = sn__inbound_watch(wait->rt, a->server);
	sn__wait_wake(wait);
}

static int attach(struct sn_runtime *rt, struct sn_http_server *server)
{
	struct attaching a = {.server = server};
	int r;

	if (sn__loop_is_here(rt->loop))
		return sn__inbound_watch(rt, server);
	r = sn__wait_init(&a.wait, rt);
	if (r < 0)
		return r;
	sn__loop_post(rt->loop, &a.wait.task, attach_run);
	sn__wait_for(&a.wait, UINT64_MAX);
	sn__wait_finish(&a.wait);
	return a.code;
}

int sn_inbound_attach(struct sn_http_server *server)
{
	const struct sn_hosted *hosted = *sn__http_server_slot(server);
	struct sn_runtime *rt = hosted->rt;
	int r = sn__enter(rt);

	if (r < 0)
		return r;
	r = attach(rt, server);
	sn__leave(rt);
	return r;
}

int sn_inbound_attach_grpc(struct sn_grpc_server *server)
{
	return sn_inbound_attach(sn__grpc_server_http(server));
}

void sn_exchange_context(const struct sn_exchange *x, struct sn_context *ret_context)
{
	const struct sn_serving *s = sn__exchange_serving(x);
	const struct sn_http_head *head = sn__exchange_head(x);
	const struct sn_hosted *hosted = *sn__http_server_slot(sn__exchange_server(x));

	if (s != NULL)
		sn__serving_context(hosted->rt, s, ret_context);
	else
		(void)sn__context_read(head->headers, head->n_headers, ret_context);
}

/* ---- requests of any other server ---- */

struct sn_inbound {
	struct sn_task task;
	struct sn_runtime *rt;
	struct sn_serving serving;
	struct sn_served served; /* its texts stand behind this struct */
};

static struct sn_str keep(struct sn_str s, char **at)
{
	char *to = *at;

	if (s.len > 0)
		memcpy(to, s.ptr, s.len);
	*at += s.len;
	return (struct sn_str){to, s.len};
}

/* The headers that say something to us. */
static unsigned look_up(const struct sn_inbound_request *req, struct sn_http_header headers[])
{
	static const char *const names[] = {"traceparent", "X-B3-TraceId", "X-B3-SpanId",
			"X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags", "sinew-timeout-ms",
			"grpc-timeout", "x-envoy-expected-rq-timeout-ms"};
	unsigned n = 0;

	for (size_t i = 0; req->header != NULL && i < SN_COUNT(names); i++) {
		const char *value = req->header(names[i], req->arg);

		if (value != NULL)
			headers[n++] = (struct sn_http_header){
					sn_str_from(names[i]), sn_str_from(value)};
	}
	return n;
}

static void end_run(struct sn_task *task)
{
	struct sn_inbound *inbound = SN_CONTAINER_OF(task, struct sn_inbound, task);

	sn__serving_end(sn__inbound_host(inbound->rt), &inbound->serving, &inbound->served);
	sn__free(inbound);
}

/* On the loop's thread, now or later; what is there belongs to it. */
static void end(struct sn_inbound *inbound)
{
	sn__serving_stop(inbound->rt, &inbound->serving);
	if (sn__loop_is_here(inbound->rt->loop))
		end_run(&inbound->task);
	else
		sn__loop_post(inbound->rt->loop, &inbound->task, end_run);
}

static int begin(struct sn_runtime *rt, const struct sn_inbound_request *req,
		struct sn_inbound **ret_inbound)
{
	struct sn_str method = sn_str_from(req->method), url = sn_str_from(req->url),
		      ipv4 = sn_str_from(req->ipv4);
	struct sn_http_header headers[9];
	struct sn_inbound *inbound;
	char *at;

	url.len = SN_MIN(url.len, (size_t)SN_SERVING_URL_MAX);
	method.len = SN_MIN(method.len, (size_t)SN_SERVING_URL_MAX);
	ipv4.len = SN_MIN(ipv4.len, (size_t)INET_ADDRSTRLEN);
	inbound = sn__malloc(sizeof(*inbound) + method.len + url.len + ipv4.len);
	if (inbound == NULL)
		return SN_E_NOMEM;
	at = (char *)(inbound + 1);
	*inbound = (struct sn_inbound){.rt = rt, .served = {.grpc = -1}};
	inbound->served.method = keep(method, &at);
	inbound->served.url = keep(url, &at);
	inbound->served.ipv4 = keep(ipv4, &at);
	sn__serving_begin(rt, sn__inbound_host(rt), headers, look_up(req, headers),
			&inbound->serving);
	if (inbound->serving.expired) {
		inbound->served.status = 504;
		end(inbound);
		return SN_E_DEADLINE;
	}
	*ret_inbound = inbound;
	return 0;
}

int sn_inbound_begin(struct sn_runtime *rt, const struct sn_inbound_request *req,
		struct sn_inbound **ret_inbound)
{
	int r;

	if (req->size != sizeof(*req) || req->method == NULL || req->url == NULL)
		return SN_E_INVALID;
	r = sn__enter(rt);
	if (r < 0)
		return r;
	r = begin(rt, req, ret_inbound);
	sn__leave(rt);
	return r;
}

void sn_inbound_context(const struct sn_inbound *inbound, struct sn_context *ret_context)
{
	sn__serving_context(inbound->rt, &inbound->serving, ret_context);
}

void sn_inbound_end(struct sn_inbound *inbound, unsigned status)
{
	struct sn_runtime *rt = inbound != NULL ? inbound->rt : NULL;

	if (inbound == NULL)
		return;
	if (sn__enter(rt) < 0) { /* nobody is left to hear of it */
		sn__free(inbound);
		return;
	}
	inbound->served.status = status;
	end(inbound);
	sn__leave(rt);
}

/* ---- spans of the application's own ---- */

struct sn_instrument {
	struct sn_task task;
	struct sn_runtime *rt;
	struct sn_serving serving;
	struct sn_str remote, method, url;
	unsigned status;
	char *error; /* may be NULL */
};

static void instrument_free(struct sn_instrument *i)
{
	sn__free(i->error);
	sn__free(i);
}

static void instrument_run(struct sn_task *task)
{
	struct sn_instrument *i = SN_CONTAINER_OF(task, struct sn_instrument, task);

	sn__serving_report_call(
			i->rt, &i->serving, i->remote, i->method, i->url, i->status, i->error);
	instrument_free(i);
}

static int instrument(struct sn_runtime *rt, const struct sn_context *parent, const char *remote,
		const char *method, const char *url, struct sn_instrument **ret_instrument)
{
	size_t n[] = {strlen(remote), strlen(method), strlen(url)};
	struct sn_instrument *i;
	char *at;

	for (size_t k = 0; k < SN_COUNT(n); k++)
		n[k] = SN_MIN(n[k], (size_t)SN_SERVING_URL_MAX);
	i = sn__malloc(sizeof(*i) + n[0] + n[1] + n[2]);
	if (i == NULL)
		return SN_E_NOMEM;
	*i = (struct sn_instrument){.rt = rt};
	at = (char *)(i + 1);
	i->remote = keep((struct sn_str){remote, n[0]}, &at);
	i->method = keep((struct sn_str){method, n[1]}, &at);
	i->url = keep((struct sn_str){url, n[2]}, &at);
	sn__serving_begin_call(rt, parent, &i->serving);
	*ret_instrument = i;
	return 0;
}

int sn_instrument_begin(struct sn_runtime *rt, const struct sn_context *parent, const char *remote,
		const char *method, const char *url, struct sn_instrument **ret_instrument)
{
	int r;

	if (remote == NULL || method == NULL || url == NULL)
		return SN_E_INVALID;
	r = sn__enter(rt);
	if (r < 0)
		return r;
	r = instrument(rt, parent, remote, method, url, ret_instrument);
	sn__leave(rt);
	return r;
}

void sn_instrument_context(const struct sn_instrument *i, struct sn_context *ret_context)
{
	sn__serving_context(i->rt, &i->serving, ret_context);
}

void sn_instrument_end(struct sn_instrument *i, unsigned status, const char *error)
{
	struct sn_runtime *rt = i != NULL ? i->rt : NULL;

	if (i == NULL)
		return;
	if (sn__enter(rt) < 0) {
		instrument_free(i);
		return;
	}
	i->status = status;
	if (error != NULL)
		i->error = sn__strndup(error, SN_MIN(strlen(error), (size_t)SN_SERVING_URL_MAX));
	sn__serving_stop(rt, &i->serving);
	if (sn__loop_is_here(rt->loop))
		instrument_run(&i->task);
	else
		sn__loop_post(rt->loop, &i->task, instrument_run);
	sn__leave(rt);
}
