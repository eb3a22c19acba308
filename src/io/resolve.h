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

/* ---- one question, one answer as it came ---- */

struct sn_dns_query;
/** @status: 0: there is an answer, "no" being one; SN_E_RESOLVE (SERVFAIL, refused, ...; the text says
 * why), SN_E_TIMEOUT, SN_E_CLOSED, SN_E_NOMEM. Never before sn__dns_query() returned. */
typedef void sn_dns_query_fn(struct sn_dns_query *q, int status);
struct sn_dns_query {
	/* result, valid in the callback */
	struct sn_str answer; /* the message, for sn__dns_begin(); empty: the name, or what is asked of
	                       * it, does not exist, and nobody said for how long */
	const char *detail; /* constant text of the failure */
	/* private */
	struct sn_loop *loop;
	sn_dns_query_fn *fn;
	struct sn_task task;
	struct sn_timer timer;
	void *query; /* of the back end; NULL: none */
	char *copy;
	int status;
	bool pending;
};
/** @type: enum sn_dns_type (proto/dns.h). Asks for the name as it is: no search list, no hosts file; by
 * c-ares whatever is selected. @name is copied. SN_E_NOMEM, SN_E_INVALID (empty, over 253 bytes). */
SN_MUST_USE int sn__dns_query(struct sn_loop *loop, struct sn_dns_query *q, const char *name,
		unsigned type, sn_dns_query_fn *fn);
/** No callback afterwards. Harmless when done. */
void sn__dns_query_cancel(struct sn_dns_query *q);

/* ---- which resolver ---- */

#define SN_RESOLVER_SERVERS_MAX 119u /* bytes of a path or of servers */
/** "ares" (default: c-ares as /etc/resolv.conf says, which is read again when it changes),
 * "ares:/path/of/another/resolv.conf", "ares:SERVER:PORT[,SERVER..]", or "system" (getaddrinfo in a
 * job). For queries from now on; the simulation has its own table. SN_E_INVALID (none of these, or too long). */
SN_MUST_USE int sn__resolver_select(struct sn_loop *loop, const char *name);

#endif
