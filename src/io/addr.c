/* SPDX-License-Identifier: Apache-2.0 */
#include "io/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static int parse_v6(char *host, uint16_t port, struct sn_addr *ret_addr)
{
	struct sn_addr a = {.len = sizeof a.u.in6};
	char *zone = strchr(host, '%');

	a.u.in6.sin6_family = AF_INET6;
	a.u.in6.sin6_port = htons(port);
	if (zone != NULL) {
		*zone++ = '\0';
		a.u.in6.sin6_scope_id = if_nametoindex(zone);
		if (a.u.in6.sin6_scope_id == 0)
			return SN_E_PARSE;
	}
	if (inet_pton(AF_INET6, host, &a.u.in6.sin6_addr) != 1)
		return SN_E_PARSE;
	*ret_addr = a;
	return 0;
}

int sn__addr_from_literal(struct sn_str host, uint16_t port, struct sn_addr *ret_addr)
{
	struct sn_addr a = {.len = sizeof a.u.in};
	char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 2];
	bool bracketed = host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';

	if (bracketed)
		host = (struct sn_str){host.ptr + 1, host.len - 2};
	if (host.len == 0 || host.len >= sizeof text || memchr(host.ptr, '\0', host.len) != NULL)
		return SN_E_PARSE;
	memcpy(text, host.ptr, host.len);
	text[host.len] = '\0';
	if (bracketed || strchr(text, ':') != NULL)
		return parse_v6(text, port, ret_addr);
	a.u.in.sin_family = AF_INET;
	a.u.in.sin_port = htons(port);
	if (inet_pton(AF_INET, text, &a.u.in.sin_addr) != 1)
		return SN_E_PARSE;
	*ret_addr = a;
	return 0;
}

int sn__addr_unix(struct sn_str path, struct sn_addr *ret_addr)
{
	struct sn_addr a = {.len = 0};
	struct sn_str prefix = SN_STR("unix:");

	if (path.len >= prefix.len && memcmp(path.ptr, prefix.ptr, prefix.len) == 0)
		path = (struct sn_str){path.ptr + prefix.len, path.len - prefix.len};
	if (path.len == 0 || (path.ptr[0] != '/' && path.ptr[0] != '@') ||
			memchr(path.ptr, '\0', path.len) != NULL)
		return SN_E_PARSE;
	if (path.len >= sizeof a.u.un.sun_path)
		return SN_E_LIMIT;
	a.u.un.sun_family = AF_UNIX;
	memcpy(a.u.un.sun_path, path.ptr, path.len);
	a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len);
	if (path.ptr[0] == '@')
		a.u.un.sun_path[0] = '\0'; /* abstract: every byte counts, no NUL at the end */
	else
		a.len++;
	*ret_addr = a;
	return 0;
}

static int bad_listen(struct sn_error *err, struct sn_str text, const char *why)
{
	return sn__error_set(err, SN_E_PARSE, "'%.*s' is no address to listen on: %s",
			(int)text.len, text.ptr, why);
}

int sn__addr_parse_listen(struct sn_str text, struct sn_addr *ret_addr, struct sn_error *err)
{
	struct sn_str host = {0}, port = text;
	uint64_t number;
	int r;

	if (text.len >= 5 && memcmp(text.ptr, "unix:", 5) == 0) {
		r = sn__addr_unix(text, ret_addr);
		if (r == SN_E_LIMIT)
			return sn__error_set(err, r,
					"'%.*s' is too long for a Unix socket (107 bytes)",
					(int)text.len, text.ptr);
		return r < 0 ? bad_listen(err, text, "write unix:/path or unix:@name") : 0;
	}
	r = sn__host_port_split(text, &host, &port); /* or it is but a port */
	if (r == SN_E_INVALID)
		return bad_listen(err, text, "put an IPv6 address into brackets, [::1]:80");
	if (sn__parse_u64(port, 65535, &number) < 0)
		return bad_listen(err, text, "write HOST:PORT, with a port of 0 to 65535");
	if (host.len == 0 || sn__str_ieq(host, SN_STR("localhost")))
		host = SN_STR("127.0.0.1");
	if (sn__addr_from_literal(host, (uint16_t)number, ret_addr) < 0)
		return bad_listen(err, text, "the host must be an IP address or localhost");
	return 0;
}

const char *sn__addr_host(const struct sn_addr *addr, char *out)
{
	size_t n;

	out[0] = '\0';
	if (addr->u.sa.sa_family == AF_INET)
		(void)inet_ntop(AF_INET, &addr->u.in.sin_addr, out, SN_ADDR_TEXT_MAX);
	if (addr->u.sa.sa_family != AF_INET6)
		return out;
	(void)inet_ntop(AF_INET6, &addr->u.in6.sin6_addr, out, SN_ADDR_TEXT_MAX);
	n = strlen(out);
	if (addr->u.in6.sin6_scope_id != 0)
		(void)snprintf(out + n, SN_ADDR_TEXT_MAX - n, "%%%u", addr->u.in6.sin6_scope_id);
	return out;
}

const char *sn__host_port_text(const char *host, unsigned port, char *out, size_t size)
{
	bool bare6 = strchr(host, ':') != NULL && host[0] != '[';

	(void)snprintf(out, size, bare6 ? "[%s]:%u" : "%s:%u", host, port);
	return out;
}

int sn__host_port_split(struct sn_str text, struct sn_str *ret_host, struct sn_str *ret_port)
{
	const char *colon = text.len > 0 ? memrchr(text.ptr, ':', text.len) : NULL;
	struct sn_str host;
	bool bracketed, v6;

	if (colon == NULL)
		return SN_E_PARSE;
	host = (struct sn_str){text.ptr, (size_t)(colon - text.ptr)};
	bracketed = host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
	if (bracketed)
		host = (struct sn_str){host.ptr + 1, host.len - 2};
	v6 = host.len > 0 && memchr(host.ptr, ':', host.len) != NULL;
	if (v6 != bracketed)
		return SN_E_INVALID;
	*ret_host = host;
	*ret_port = (struct sn_str){colon + 1, (size_t)(text.ptr + text.len - colon - 1)};
	return 0;
}

const char *sn__addr_text(const struct sn_addr *addr, char *out)
{
	char host[SN_ADDR_TEXT_MAX];
	size_t n;

	switch (addr->u.sa.sa_family) {
	case AF_INET:
	case AF_INET6:
		(void)sn__host_port_text(sn__addr_host(addr, host), sn__addr_port(addr), out,
				SN_ADDR_TEXT_MAX);
		break;
	case AF_UNIX:
		n = addr->len - offsetof(struct sockaddr_un, sun_path);
		if (addr->len <= offsetof(struct sockaddr_un, sun_path))
			(void)snprintf(out, SN_ADDR_TEXT_MAX, "unix:");
		else if (addr->u.un.sun_path[0] == '\0')
			(void)snprintf(out, SN_ADDR_TEXT_MAX, "unix:@%.*s", (int)n - 1,
					addr->u.un.sun_path + 1);
		else
			(void)snprintf(out, SN_ADDR_TEXT_MAX, "unix:%.*s", (int)n,
					addr->u.un.sun_path);
		break;
	default:
		(void)snprintf(out, SN_ADDR_TEXT_MAX, "(no address)");
	}
	return out;
}

bool sn__addr_is_loopback(const struct sn_addr *addr)
{
	switch (addr->u.sa.sa_family) {
	case AF_INET:
		return (ntohl(addr->u.in.sin_addr.s_addr) >> 24) == 127;
	case AF_INET6:
		if (IN6_IS_ADDR_V4MAPPED(&addr->u.in6.sin6_addr))
			return addr->u.in6.sin6_addr.s6_addr[12] == 127;
		return IN6_IS_ADDR_LOOPBACK(&addr->u.in6.sin6_addr);
	default:
		return addr->u.sa.sa_family == AF_UNIX;
	}
}

uint16_t sn__addr_port(const struct sn_addr *addr)
{
	switch (addr->u.sa.sa_family) {
	case AF_INET:
		return ntohs(addr->u.in.sin_port);
	case AF_INET6:
		return ntohs(addr->u.in6.sin6_port);
	default:
		return 0;
	}
}
