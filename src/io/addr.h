/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_ADDR_H
#define SN_SRC_IO_ADDR_H

/* Internal. A socket address as a value, and its text. Any thread. */

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <sinew/base.h>
#include "base/error.h"
#include "base/str.h"

struct sn_addr {
	socklen_t len;
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} u;
};

#define SN_ADDR_TEXT_MAX 120

/** An address literal (v4, v6 with or without brackets) and a port; SN_E_PARSE when @host is a
 * name that must be resolved. */
SN_MUST_USE int sn__addr_from_literal(struct sn_str host, uint16_t port, struct sn_addr *ret_addr);
/** "unix:/path", "unix:@abstract". SN_E_PARSE, SN_E_LIMIT (path too long). */
SN_MUST_USE int sn__addr_unix(struct sn_str path, struct sn_addr *ret_addr);
/** What a user writes for a listener: "127.0.0.1:80", "[::1]:80", ":80" and "80" (loopback),
 * "localhost:80", "unix:/path". No name but localhost. */
SN_MUST_USE int sn__addr_parse_listen(
		struct sn_str text, struct sn_addr *ret_addr, struct sn_error *err);
/** "127.0.0.1:80", "[::1]:80", "unix:/path"; written into @out (SN_ADDR_TEXT_MAX bytes). */
const char *sn__addr_text(const struct sn_addr *addr, char *out);
/** "192.0.2.1", "2001:db8::9": without the port, and without brackets; "" for a Unix socket; likewise. */
const char *sn__addr_host(const struct sn_addr *addr, char *out);
/** "HOST:PORT", with brackets around an IPv6 address that has none; as much as fits. Returns @out. */
const char *sn__host_port_text(const char *host, unsigned port, char *out, size_t size);
/** The other way: *ret_host without brackets, may be empty; *ret_port what is behind the last colon.
 * SN_E_PARSE: there is none; SN_E_INVALID: an IPv6 address without brackets, or brackets around something
 * else. */
SN_MUST_USE int sn__host_port_split(
		struct sn_str text, struct sn_str *ret_host, struct sn_str *ret_port);
bool sn__addr_is_loopback(const struct sn_addr *addr); /* Unix sockets too */
uint16_t sn__addr_port(const struct sn_addr *addr);    /* 0 for Unix sockets */

#endif
