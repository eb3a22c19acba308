/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INBOUND_MHD_H
#define INBOUND_MHD_H

/*
 * Requests of a libmicrohttpd server, traced, counted and held to their deadlines by sinew, with no
 * change in the handler. Copy inbound_mhd.c and this into your program. Any of libmicrohttpd's
 * threading modes.
 *
 *	struct sn_inbound_mhd mhd;
 *
 *	sn_inbound_attach_mhd(&mhd, rt, handler, arg, NULL, NULL);
 *	daemon = MHD_start_daemon(flags, port, NULL, NULL, sn_inbound_mhd_handler, &mhd,
 *			MHD_OPTION_NOTIFY_COMPLETED, sn_inbound_mhd_completed, &mhd, MHD_OPTION_END);
 *	...
 *	MHD_stop_daemon(daemon);
 *	sn_close(rt, NULL, NULL);
 */

#include <microhttpd.h>

#ifndef SN_UNSTABLE
#define SN_UNSTABLE
#endif
#include <sinew/inbound.h>

struct sn_inbound_mhd {
	struct sn_runtime *rt;
	MHD_AccessHandlerCallback handler;
	void *handler_arg;
	MHD_RequestCompletedCallback completed; /* may be NULL */
	void *completed_arg;
};

/** Fill @mhd, which must live as long as the daemon. @handler is called as MHD_start_daemon() would
 * call it, with its own *req_cls; @completed too. */
void sn_inbound_attach_mhd(struct sn_inbound_mhd *mhd, struct sn_runtime *rt,
		MHD_AccessHandlerCallback handler, void *handler_arg,
		MHD_RequestCompletedCallback completed /* may be NULL */, void *completed_arg);

/** For MHD_start_daemon(), each with @mhd as its argument. */
enum MHD_Result sn_inbound_mhd_handler(void *mhd, struct MHD_Connection *connection,
		const char *url, const char *method, const char *version, const char *data,
		size_t *data_size, void **req_cls);
void sn_inbound_mhd_completed(void *mhd, struct MHD_Connection *connection, void **req_cls,
		enum MHD_RequestTerminationCode how);

/** In @handler: what calls made for the request should be given as options.context. @req_cls: as the
 * handler got it. */
void sn_inbound_mhd_context(void *const *req_cls, struct sn_context *ret_context);

#endif
