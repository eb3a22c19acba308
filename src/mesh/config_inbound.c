/* SPDX-License-Identifier: Apache-2.0 */
/* The file's `listen.inbound`. */
#include "io/addr.h"
#include "mesh/config.h"
#include "mesh/relay.h"

const struct sn_option sn__config_inbound_tls_options[] = {
		{.name = "cert",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_config_inbound_tls, cert),
				.flags = SN_OPTION_REQUIRED,
				.help = "File with the certificate chain, leaf first."},
		{.name = "key",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_config_inbound_tls, key),
				.flags = SN_OPTION_REQUIRED,
				.help = "File with the private key."},
		{.name = "ca",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_config_inbound_tls, ca),
				.help = "Ask clients for certificates that these authorities signed."},
		{0}};

#define INBOUND(field) offsetof(struct sn_config_inbound, field)
const struct sn_option sn__config_inbound_options[] = {
		{.name = "addr",
				.kind = SN_OPTION_STRING,
				.offset = INBOUND(addr),
				.flags = SN_OPTION_REQUIRED,
				.help = "Where clients come: HOST:PORT, :PORT (loopback) or unix:PATH."},
		{.name = "to",
				.kind = SN_OPTION_STRING,
				.offset = INBOUND(to),
				.flags = SN_OPTION_REQUIRED,
				.help = "The service: http://HOST:PORT, HOST:PORT, :PORT (loopback) or unix:PATH."},
		{.name = "http2",
				.kind = SN_OPTION_BOOL,
				.offset = INBOUND(http2),
				.def = "false",
				.help = "Speak HTTP/2 to the service (in the clear); gRPC and nothing else is when off."},
		{.name = "timeout",
				.kind = SN_OPTION_DURATION,
				.offset = INBOUND(timeout_ms),
				.unit = "ms",
				.min = 1,
				.max = 86400000,
				.def = "60s",
				.help = "From the whole request to the head of the answer (then 504), and between pieces of that."},
		{.name = "max-inflight",
				.kind = SN_OPTION_INT,
				.offset = INBOUND(max_inflight),
				.max = 1000000,
				.def = "0",
				.help = "Requests at the service at once; beyond 503; 0: no limit."},
		{.name = "max-body",
				.kind = SN_OPTION_SIZE,
				.offset = INBOUND(max_body),
				.unit = "bytes",
				.max = 1099511627776.0,
				.def = "0",
				.help = "Body of a request; beyond 413; 0: no limit."},
		{.name = "trust-forwarded",
				.kind = SN_OPTION_BOOL,
				.offset = INBOUND(trust_forwarded),
				.def = "false",
				.help = "Clients are proxies: add to their X-Forwarded-* instead of writing it anew."},
		{.name = "tls",
				.kind = SN_OPTION_ANY,
				.offset = INBOUND(tls_node),
				.help = "Speak TLS to clients: a map with cert, key and, to ask for theirs, ca."},
		{0}};

/* Keep going after a problem, stop without memory. */
static int worse(int a, int b)
{
	if (a == SN_E_NOMEM || b == SN_E_NOMEM)
		return SN_E_NOMEM;
	return a < 0 ? a : b;
}

static int check_places(const struct sn_yaml_node *node, struct sn_problems *problems)
{
	const struct sn_yaml_node *addr = sn__yaml_get(node, "addr"),
				  *to = sn__yaml_get(node, "to");
	struct sn_relay_place place;
	struct sn_addr parsed;
	struct sn_error err;
	int r = 0;

	if (addr != NULL && addr->kind == SN_YAML_SCALAR && !sn__yaml_is_null(addr) &&
			sn__addr_parse_listen(addr->text, &parsed, &err) < 0)
		r = sn__problem(problems, addr->place, "listen.inbound.addr: %s", err.text);
	if (to != NULL && to->kind == SN_YAML_SCALAR && !sn__yaml_is_null(to) &&
			sn__relay_parse(to->text, &place, &err) < 0)
		r = worse(r, sn__problem(problems, to->place, "listen.inbound.to: %s", err.text));
	return r;
}

int sn__config_inbound(const struct sn_yaml_node *node, struct sn_config_inbound *ret_inbound,
		struct sn_arena *arena, struct sn_problems *problems)
{
	int r;

	if (node->kind != SN_YAML_MAP)
		return sn__problem(problems, node->place,
				"listen.inbound must be a map with addr and to, not %s",
				sn__yaml_kind_name(node));
	r = sn__options_read(sn__config_inbound_options, node, ret_inbound, arena, problems);
	if (r == SN_E_NOMEM)
		return r;
	if (ret_inbound->tls_node != NULL && !sn__yaml_is_null(ret_inbound->tls_node))
		r = worse(r,
				sn__options_read(sn__config_inbound_tls_options,
						ret_inbound->tls_node, &ret_inbound->tls, arena,
						problems));
	return worse(r, check_places(node, problems));
}
