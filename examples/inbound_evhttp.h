/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INBOUND_EVHTTP_H
#define INBOUND_EVHTTP_H

/*
 * Requests of a libevent HTTP server (evhttp), traced, counted and held to their deadlines by sinew,
 * with no change in its callbacks. Copy inbound_evhttp.c and this into your program. Everything on the
 * thread that runs the event base.
 *
 *	ev = sn_inbound_attach_evhttp(rt, http, callback, arg);
 *	...
 *	evhttp_free(http);
 *	sn_inbound_detach_evhttp(ev);
 *	sn_close(rt, NULL, NULL);
 *
 * It uses evhttp_request_set_on_complete_cb() of each request and evhttp_connection_set_closecb() of
 * its connection: leave these two alone.
 */

#include <event2/http.h>

#ifndef SN_UNSTABLE
#define SN_UNSTABLE
#endif
#include <sinew/inbound.h>

struct sn_inbound_evhttp;

typedef void sn_inbound_evhttp_fn(struct evhttp_request *req, void *arg);

/** Instead of evhttp_set_gencb(http, fn, arg). NULL: out of memory. */
struct sn_inbound_evhttp *sn_inbound_attach_evhttp(
		struct sn_runtime *rt, struct evhttp *http, sn_inbound_evhttp_fn *fn, void *arg);
/** After evhttp_free(), before sn_close(). */
void sn_inbound_detach_evhttp(struct sn_inbound_evhttp *ev /* may be NULL */);

/** What calls made for @req should be given as options.context, until it is answered. */
void sn_inbound_evhttp_context(const struct sn_inbound_evhttp *ev, const struct evhttp_request *req,
		struct sn_context *ret_context);

#endif
