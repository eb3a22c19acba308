/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_INBOUND_H
#define SN_INBOUND_H

#ifndef SN_UNSTABLE
#error "sinew/inbound.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/base.h>
#include <sinew/context.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Requests that others send us: each is given the deadline and the trace it came with, leaves a
 * server span (`trace` of the file; `enable-zipkin` at the root of the policies, read anew for each
 * request), and is counted (sinew_inbound_requests_total by status class, sinew_inbound_seconds,
 * sinew_inbound_inflight, sinew_inbound_expired_total). A request whose time is up on arrival is
 * answered 504 before its handler runs.
 *
 * Read are traceparent, else X-B3-*; sinew-timeout-ms, grpc-timeout,
 * x-envoy-expected-rq-timeout-ms. docs/inbound.md has more.
 */
struct sn_runtime;
struct sn_http_server;
struct sn_grpc_server;
struct sn_exchange;

/**
 * All of that for a server of sinew/http.h, without a change in its handlers, from the next request
 * on. Any thread in own-thread mode, else the loop thread (SN_E_DEADLK); before the server is closed.
 * SN_E_EXISTS (it has been done), SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED.
 */
SN_API SN_MUST_USE int sn_inbound_attach(struct sn_http_server *server);
/** The same for a server of sinew/grpc.h; its spans and counts are by the HTTP status of the call, the
 * span has its grpc-status too. sn_grpc_exchange_context() gives the context. */
SN_API SN_MUST_USE int sn_inbound_attach_grpc(struct sn_grpc_server *server);
/** What calls made for @x should be given as options.context: its deadline (what is left of it now; 1
 * ms when it is over) and its span. Of a server without sn_inbound_attach(): what the request says.
 * Loop thread. */
SN_API void sn_exchange_context(const struct sn_exchange *x, struct sn_context *ret_context);

/* ---- requests of any other server ---- */

/** A request that is being served. */
struct sn_inbound;

/** The value of the request's header @name (any case), or NULL; read at once. */
typedef const char *sn_inbound_header_fn(const char *name, void *arg);
struct sn_inbound_request {
	size_t size;        /* sizeof(struct sn_inbound_request) */
	const char *method; /* "GET"; of other protocols the operation */
	const char *url;    /* "http://front.example:7001/basket/3?x=1", or only its path */
	const char *ipv4;   /* our own address, for the span; NULL: not known */
	sn_inbound_header_fn *header; /* only called inside sn_inbound_begin(); NULL: no headers */
	void *arg;
};
#define SN_INBOUND_REQUEST_INIT \
	{ \
		.size = sizeof(struct sn_inbound_request) \
	}

/**
 * Before a request is served. Everything is copied. On success sn_inbound_end() must follow, once,
 * before sn_close(). Any thread; that of the end may be another one. SN_E_DEADLINE: the request's time
 * is up; answer 504, it has been counted and there is nothing to end. SN_E_INVALID (size, method or
 * url missing), SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED: serve it all the same, without.
 */
SN_API SN_MUST_USE int sn_inbound_begin(struct sn_runtime *rt, const struct sn_inbound_request *req,
		struct sn_inbound **ret_inbound);
/** As sn_exchange_context(). Any thread. */
SN_API void sn_inbound_context(const struct sn_inbound *inbound, struct sn_context *ret_context);
/** It was answered with @status (0: not at all, the client is gone). @inbound is freed; NULL: nothing
 * happens. Any thread. */
SN_API void sn_inbound_end(struct sn_inbound *inbound /* may be NULL */, unsigned status);

/* ---- spans of the application's own ---- */

/** Something done for a request, or for itself, that calls of ours do not show: a job, a call through
 * another library. A client span, reported like those of requests. */
struct sn_instrument;
/**
 * @parent: what it is done for; NULL: a trace of its own. @remote: who is called ("Rating"), @method and
 * @url: what is asked ("recount", "job://nightly"). Everything is copied. Any thread; ends as
 * sn_inbound_begin(). SN_E_INVALID, SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED.
 */
SN_API SN_MUST_USE int sn_instrument_begin(struct sn_runtime *rt,
		const struct sn_context *parent /* may be NULL */, const char *remote,
		const char *method, const char *url, struct sn_instrument **ret_instrument);
/** For what is called inside, or told to the other side as headers. */
SN_API void sn_instrument_context(
		const struct sn_instrument *instrument, struct sn_context *ret_context);
/** Done: @status (0: none) or, when @error is not NULL, failed with that text. Freed; NULL: nothing
 * happens. */
SN_API void sn_instrument_end(struct sn_instrument *instrument /* may be NULL */, unsigned status,
		const char *error /* may be NULL */);

#ifdef __cplusplus
}
#endif
#endif /* SN_INBOUND_H */
