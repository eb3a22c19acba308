/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_CHECK_H
#define SN_SRC_HUB_CHECK_H

/*
 * Internal. The checkers of src/hub/health.h that need no mesh: whether an instance takes a connection,
 * answers a GET, or is SERVING as grpc.health.v1 has it. A probe's address is "HOST:PORT" (a name is
 * looked up each time), "[::1]:PORT" or "unix:/path"; id and attributes are not read.
 *
 * The time-out runs from the start to the end of a check, all of it included.
 *
 * A checker begins with one reference: sn__hub_checker_unref() ends it with the last check. The pool
 * outlives it. Loop thread.
 */

#include "hub/health.h"
#include "io/http.h"

#define SN_CHECK_ADDRESS_MAX 255u /* bytes of its host */
#define SN_CHECK_KEEP_MS 60000u   /* a connection rests that long between two checks, at most */

/** Well: it takes a connection, which is reset at once (io/knock.h). Allocates nothing for an address
 * that is a literal. SN_E_NOMEM. */
SN_MUST_USE int sn__check_tcp_create(struct sn_loop *loop, struct sn_hub_checker **ret_checker);

struct sn_check_http_options {
	const char *path;                /* "/healthz"; copied */
	unsigned status_min, status_max; /* 0: 200, 299 */
	const char *host;   /* the Host header, and the name in the certificate; NULL: the
	                                  * address; copied */
	struct sn_tls *tls; /* referenced; NULL: plain */
};
/** Well: it answers GET with such a status. HTTP/1.1, over a connection that is kept where the server
 * keeps it and the pool has room. SN_E_INVALID (path, host or range), SN_E_NOMEM. */
SN_MUST_USE int sn__check_http_create(struct sn_loop *loop, struct sn_http_pool *pool,
		const struct sn_check_http_options *opts, struct sn_hub_checker **ret_checker);

struct sn_check_grpc_options {
	const char *service; /* NULL or "": the server as a whole; copied */
	const char *host;    /* as above */
	struct sn_tls *tls;
};
/** Well: grpc.health.v1.Health/Check says SERVING. SN_E_INVALID (host), SN_E_LIMIT (service, over 1024
 * bytes), SN_E_NOMEM. */
SN_MUST_USE int sn__check_grpc_create(struct sn_loop *loop, struct sn_http_pool *pool,
		const struct sn_check_grpc_options *opts, struct sn_hub_checker **ret_checker);

/* ---- for checkers ---- */

/** The two parts of an address that is no Unix socket. SN_E_PARSE. */
SN_MUST_USE int sn__check_address(
		const char *address, char ret_host[SN_CHECK_ADDRESS_MAX + 1], uint16_t *ret_port);
/** End a check that could not be started in a later turn; @text lives. Nothing but the probe's own room
 * is needed, of which the first pointer stays NULL. */
void sn__check_refuse(struct sn_loop *loop, struct sn_hub_probe *probe, int code, const char *text);

/* What http and grpc share: a place for each instance, requests that are used again. */
struct sn_check_op {
	struct sn_list link; /* sn_check_net.free */
	struct sn_check_net *net;
	struct sn_hub_probe *probe;
	struct sn_timer timer;
	bool again; /* it has been begun twice */
};
struct sn_check_net {
	struct sn_hub_checker base;
	struct sn_loop *loop;
	struct sn_http_pool *pool;
	struct sn_tls *tls; /* may be NULL */
	char *host;         /* may be NULL */
	enum sn_http_version version;
	size_t op_size; /* begins with struct sn_check_op */
	struct sn_list free;
	/** Ends with sn__check_ended(). Negative: nothing follows. */
	int (*begin)(struct sn_check_op *op, struct sn_http_dest *dest);
	void (*cancel)(struct sn_check_op *op, int code);
};
/** The members above from loop on are filled, version, op_size and the functions too; tls and host are
 * taken over as they are in the options. SN_E_INVALID (host), SN_E_NOMEM. */
SN_MUST_USE int sn__check_net_init(
		struct sn_check_net *net, const char *host /* may be NULL */, struct sn_tls *tls);
void sn__check_net_finish(struct sn_check_net *net);
/** In the end of a request with @res: whether it has been begun once more, because it went over a
 * connection that had rested, which the server has closed just then. */
bool sn__check_again(struct sn_check_op *op, const struct sn_http_result *res);
/** In the end of the request, which may be used again at once. @err NULL: well. */
void sn__check_ended(struct sn_check_op *op, const struct sn_error *err /* may be NULL */);

#endif
