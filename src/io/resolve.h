/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_RESOLVE_H
#define SN_SRC_IO_RESOLVE_H

/* Internal. Names to addresses, through the loop's resolver (c-ares; `system`: getaddrinfo in a
 * job; the simulation's own table). Loop thread. */

#include "io/addr.h"
#include "io/loop.h"

#define SN_RESOLVE_ADDRS_MAX 16
#define SN_RESOLVE_TIMEOUT_MS 5000

struct sn_resolve;
/** @status: 0, SN_E_RESOLVE (the text says why), SN_E_TIMEOUT, SN_E_CLOSED. Never before
 * sn__resolve() returned. */
typedef void sn_resolve_fn(struct sn_resolve *op, int status);
struct sn_resolve {
	/* result, valid in the callback */
	struct sn_addr addrs[SN_RESOLVE_ADDRS_MAX]; /* v6 and v4 alternating */
	unsigned n_addrs;
	uint32_t ttl_s;
	const char *detail; /* constant text of the failure */
	/* private */
	struct sn_loop *loop;
	sn_resolve_fn *fn;
	struct sn_task task;
	struct sn_timer timer;
	void *query; /* of the back end; NULL: none */
	int status;
	uint16_t port;
	bool pending, by_system;
};
/** Literals and "localhost" answer without a query (in the next turn). @host is copied. SN_E_NOMEM,
 * SN_E_INVALID (empty, over 253 bytes). */
SN_MUST_USE int sn__resolve(struct sn_loop *loop, struct sn_resolve *op, const char *host,
		uint16_t port, sn_resolve_fn *fn);
/** No callback afterwards. Harmless when done. */
void sn__resolve_cancel(struct sn_resolve *op);
/** "ares" (default: c-ares as /etc/resolv.conf says, which is read again when it changes),
 * "ares:/path/of/another/resolv.conf", "ares:SERVER:PORT[,SERVER..]", or "system" (getaddrinfo in a
 * job). For queries from now on; the simulation has its own table. SN_E_INVALID. */
SN_MUST_USE int sn__resolver_select(struct sn_loop *loop, const char *name);

#endif
