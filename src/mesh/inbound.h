/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_INBOUND_H
#define SN_SRC_MESH_INBOUND_H

/*
 * Internal. Requests that others send us: deadline, trace, metrics. inbound.c has what one request is
 * and how it is written down, api_inbound.c the public functions, relay.c the proxy in front of a
 * service (`listen.inbound`).
 *
 * Ids: with `trace` every request has a span of its own below the caller's. With `enable-zipkin` alone
 * it is the original's way: a request with B3 headers joins the caller's span.
 */

#include <stdatomic.h>

#include <sinew/inbound.h>
#include "io/http_server.h"
#include "mesh/b3.h"
#include "mesh/metrics.h"
#include "mesh/runtime.h"
#include "mesh/tracer.h"

/* ---- what a request says ---- */

/** Trace (traceparent, else B3; none: 0) and deadline (at least 1) of a request. Any thread. Whether
 * its time is up. */
bool sn__context_read(
		const struct sn_http_header *headers, unsigned n, struct sn_context *ret_context);

/* ---- of a runtime ---- */

struct sn_inbounds;
SN_MUST_USE int sn__inbounds_create(struct sn_runtime *rt, struct sn_inbounds **ret_in);
/** Once the file has been read, before the loop's thread starts. */
void sn__inbounds_start(struct sn_inbounds *in);
/** Before the policies and the metrics. */
void sn__inbounds_destroy(struct sn_inbounds *in /* may be NULL */);

/* What is counted of one listener. Loop thread, but `inflight`. */
struct sn_inbound_counts {
	struct sn_list link;
	struct sn_inbounds *in;
	char name[SN_ADDR_TEXT_MAX]; /* label of its series */
	atomic_uint inflight;
	struct sn_series *requests[6], *seconds, *expired; /* NULL: not yet needed */
};

/** The counts of requests of the host's own servers. */
struct sn_inbound_counts *sn__inbound_host(struct sn_runtime *rt);

/* ---- one request ---- */

#define SN_SERVING_URL_MAX 2048 /* bytes of it in a span; the rest is cut off */

struct sn_serving {
	struct sn_context context; /* its span; deadline_ms as it came, 0: none */
	bool b3, w3c;              /* who hears of it: see tracer.h */
	bool shared;               /* the span is the caller's */
	bool expired;              /* its time was up on arrival */
	uint64_t start_ns, wall_ns, end_ns;
	uint64_t deadline_ns; /* SN_NEVER_NS: none */
};
/** Any thread, between enter and leave. */
void sn__serving_begin(struct sn_runtime *rt, struct sn_inbound_counts *counts,
		const struct sn_http_header *headers, unsigned n, struct sn_serving *ret_s);
/** The context as it is now, see sn_exchange_context(). Any thread. */
void sn__serving_context(
		struct sn_runtime *rt, const struct sn_serving *s, struct sn_context *ret_context);

#define SN_SERVING_HEADERS (SN_B3_HEADERS + 3)
struct sn_serving_headers {
	unsigned n;
	struct sn_http_header headers[SN_SERVING_HEADERS];
	struct sn_b3_headers b3;
	char traceparent[56];
};
/** What somebody who serves it for us is told: the same span. None when nobody hears of it. */
void sn__serving_headers(const struct sn_serving *s, struct sn_serving_headers *ret_headers);

/* How it went. */
struct sn_served {
	struct sn_str method, url, ipv4;
	unsigned status; /* 0: no answer */
	int grpc;        /* grpc-status; -1: none */
};
/** Any thread: the clock is read. sn__serving_end() follows. */
void sn__serving_stop(struct sn_runtime *rt, struct sn_serving *s);
/** Written down and counted. Loop thread. */
void sn__serving_end(struct sn_inbound_counts *counts, const struct sn_serving *s,
		const struct sn_served *served);

/** A span of the application's own, below @parent (NULL: a root): only context, clock and who hears of
 * it. Any thread. */
void sn__serving_begin_call(struct sn_runtime *rt,
		const struct sn_context *parent /* may be NULL */, struct sn_serving *ret_s);
/** Its client span. Loop thread. */
void sn__serving_report_call(struct sn_runtime *rt, const struct sn_serving *s,
		struct sn_str remote, struct sn_str method, struct sn_str url, unsigned status,
		const char *error /* may be NULL */);

/* ---- a server's requests ---- */

/** As sn_inbound_attach(), on the loop thread. */
SN_MUST_USE int sn__inbound_watch(struct sn_runtime *rt, struct sn_http_server *server);
/** What the watch made of @x; NULL: it is not watched. */
const struct sn_serving *sn__exchange_serving(const struct sn_exchange *x);

#endif
