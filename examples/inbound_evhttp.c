/* SPDX-License-Identifier: Apache-2.0 */
#include "inbound_evhttp.h"

#include <arpa/inet.h>
#include <event2/bufferevent.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* One request that is being served. */
struct request {
	struct request *next;
	struct sn_inbound_evhttp *ev;
	struct evhttp_request *req;
	struct evhttp_connection *connection;
	struct sn_inbound *inbound;
};

struct sn_inbound_evhttp {
	struct sn_runtime *rt;
	sn_inbound_evhttp_fn *fn;
	void *arg;
	struct request *requests;
};

static const char *method_of(struct evhttp_request *req)
{
	switch (evhttp_request_get_command(req)) {
	case EVHTTP_REQ_GET:
		return "GET";
	case EVHTTP_REQ_POST:
		return "POST";
	case EVHTTP_REQ_HEAD:
		return "HEAD";
	case EVHTTP_REQ_PUT:
		return "PUT";
	case EVHTTP_REQ_DELETE:
		return "DELETE";
	case EVHTTP_REQ_OPTIONS:
		return "OPTIONS";
	case EVHTTP_REQ_TRACE:
		return "TRACE";
	case EVHTTP_REQ_CONNECT:
		return "CONNECT";
	case EVHTTP_REQ_PATCH:
		return "PATCH";
	default:
		return "OTHER";
	}
}

static const char *header_of(const char *name, void *req)
{
	return evhttp_find_header(evhttp_request_get_input_headers(req), name);
}

/* Our end of the connection, for the span. */
static const char *own_address(struct evhttp_request *req, char out[INET_ADDRSTRLEN])
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(
			evhttp_request_get_connection(req));
	struct sockaddr_in in;
	socklen_t size = sizeof(in);

	if (getsockname(bufferevent_getfd(bev), (struct sockaddr *)&in, &size) < 0 ||
			in.sin_family != AF_INET)
		return NULL;
	return inet_ntop(AF_INET, &in.sin_addr, out, INET_ADDRSTRLEN);
}

/* The link to it is taken out. */
static void end(struct request **at, unsigned status)
{
	struct request *r = *at;

	*at = r->next;
	sn_inbound_end(r->inbound, status);
	free(r);
}

static void completed(struct evhttp_request *req, void *arg)
{
	struct sn_inbound_evhttp *ev = arg;
	struct request **at = &ev->requests;

	while (*at != NULL && (*at)->req != req)
		at = &(*at)->next;
	if (*at != NULL)
		end(at, (unsigned)evhttp_request_get_response_code(req));
}

/* With requests that will not be answered any more. */
static void closed(struct evhttp_connection *connection, void *arg)
{
	struct sn_inbound_evhttp *ev = arg;
	struct request **at = &ev->requests;

	while (*at != NULL) {
		if ((*at)->connection == connection)
			end(at, 0);
		else
			at = &(*at)->next;
	}
}

static void handle(struct evhttp_request *req, void *arg)
{
	struct sn_inbound_evhttp *ev = arg;
	struct sn_inbound_request in = SN_INBOUND_REQUEST_INIT;
	const char *host = header_of("Host", req);
	struct request *r = calloc(1, sizeof(*r));
	char full[2048], ipv4[INET_ADDRSTRLEN];
	int result = SN_E_NOMEM;

	(void)snprintf(full, sizeof(full), "http://%s%s", host != NULL ? host : "",
			evhttp_request_get_uri(req));
	in.method = method_of(req);
	in.url = full;
	in.ipv4 = own_address(req, ipv4);
	in.header = header_of;
	in.arg = req;
	if (r != NULL)
		result = sn_inbound_begin(ev->rt, &in, &r->inbound);
	if (result < 0) {
		free(r);
		if (result == SN_E_DEADLINE)
			evhttp_send_reply(req, 504, "Gateway Timeout", NULL);
		else
			ev->fn(req, ev->arg); /* without */
		return;
	}
	r->ev = ev;
	r->req = req;
	r->connection = evhttp_request_get_connection(req);
	r->next = ev->requests;
	ev->requests = r;
	evhttp_request_set_on_complete_cb(req, completed, ev);
	evhttp_connection_set_closecb(r->connection, closed, ev);
	ev->fn(req, ev->arg);
}

struct sn_inbound_evhttp *sn_inbound_attach_evhttp(
		struct sn_runtime *rt, struct evhttp *http, sn_inbound_evhttp_fn *fn, void *arg)
{
	struct sn_inbound_evhttp *ev = calloc(1, sizeof(*ev));

	if (ev == NULL)
		return NULL;
	*ev = (struct sn_inbound_evhttp){.rt = rt, .fn = fn, .arg = arg};
	evhttp_set_gencb(http, handle, ev);
	return ev;
}

void sn_inbound_detach_evhttp(struct sn_inbound_evhttp *ev)
{
	if (ev == NULL)
		return;
	while (ev->requests != NULL)
		end(&ev->requests, 0);
	free(ev);
}

void sn_inbound_evhttp_context(const struct sn_inbound_evhttp *ev, const struct evhttp_request *req,
		struct sn_context *ret_context)
{
	const struct request *r = ev->requests;

	*ret_context = (struct sn_context)SN_CONTEXT_INIT;
	while (r != NULL && r->req != req)
		r = r->next;
	if (r != NULL)
		sn_inbound_context(r->inbound, ret_context);
}
