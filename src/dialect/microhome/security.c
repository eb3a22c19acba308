/* SPDX-License-Identifier: Apache-2.0 */
/* Where a node may listen, and what it says about where it is. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include "base/mem.h"
#include "dialect/microhome/node.h"

int sn__mh_address(struct sn_str text, struct sn_addr *ret_addr, struct sn_error *err)
{
	struct sn_addr addr;
	struct sn_str host, port;
	uint64_t number;

	if (sn__host_port_split(text, &host, &port) < 0)
		goto refuse;
	if (sn_str_eq(host, SN_STR("localhost")))
		host = SN_STR("127.0.0.1");
	if (sn__parse_u64(port, UINT16_MAX, &number) < 0 || number == 0 ||
			sn__addr_from_literal(host, (uint16_t)number, &addr) < 0 ||
			addr.u.sa.sa_family != AF_INET)
		goto refuse;
	*ret_addr = addr;
	return 0;
refuse:
	return sn__error_set(err, SN_E_INVALID,
			"Only IPv4 is supported by sendPackage: \"%.*s\" is not ADDRESS:PORT, as in "
			"192.168.70.5:5102",
			(int)SN_MIN(text.len, (size_t)60), text.len > 0 ? text.ptr : "");
}

/* 0: nothing; 1: any but loopback; 2: 192.168.* */
static int rank(const struct ifaddrs *i)
{
	uint32_t ip;

	if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET ||
			(i->ifa_flags & IFF_LOOPBACK) != 0)
		return 0;
	ip = ntohl(((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr.s_addr);
	return ip >> 16 == (192u << 8 | 168u) ? 2 : 1;
}

const char *sn__mh_advertised(const struct sn_addr *listen, char *out)
{
	struct sn_addr addr = *listen;
	struct ifaddrs *all;
	int best = 0;

	if (listen->u.sa.sa_family != AF_INET || listen->u.in.sin_addr.s_addr != htonl(INADDR_ANY))
		return sn__addr_text(listen, out);
	addr.u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (getifaddrs(&all) < 0)
		return sn__addr_text(&addr, out);
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		if (rank(i) <= best)
			continue;
		best = rank(i);
		addr.u.in.sin_addr = ((const struct sockaddr_in *)(const void *)i->ifa_addr)
						     ->sin_addr;
	}
	freeifaddrs(all);
	return sn__addr_text(&addr, out);
}

int sn__mh_security_check(const struct sn_mh_security *sec, const struct sn_addr *listen,
		const char *where, struct sn_error *err)
{
	char text[SN_ADDR_TEXT_MAX];
	bool tls = sec->tls_cert != NULL, known = sec->token != NULL || sec->tls_ca != NULL;

	if ((sec->tls_cert == NULL) != (sec->tls_key == NULL))
		return sn__error_set(err, SN_E_INVALID, "%s%stls: cert and key go together", where,
				where[0] != '\0' ? ": " : "");
	if (sn__addr_is_loopback(listen) || sec->insecure || (tls && known))
		return 0;
	sn__addr_text(listen, text);
	if (where[0] == '\0')
		return sn__error_set(err, SN_E_REJECTED,
				"%s is not loopback and %s: add --cert FILE --key FILE and --token "
				"FILE or --ca FILE; or, for nodes of the original, which "
				"know no TLS, --insecure",
				text, tls ? "anybody could connect" : "packages are not encrypted");
	return sn__error_set(err, SN_E_REJECTED,
			"%s: %s is not loopback and %s: add `tls: {cert: FILE, key: FILE}` and "
			"`token: TEXT` or `tls.ca` there; or, for nodes of the original, which know no "
			"TLS, the line `insecure: true`",
			where, text, tls ? "anybody could connect" : "packages are not encrypted");
}
