/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_RELAY_H
#define SN_SRC_MESH_RELAY_H

/*
 * Internal. `listen.inbound`: the public face of a service that speaks HTTP on an address of its own
 * (a reverse proxy). Requests are traced, counted and held to their deadlines (mesh/inbound.h); bodies
 * are streamed both ways; upgrades and gRPC pass through. docs/inbound.md has the rules. Loop thread.
 */

#include "io/addr.h"
#include "mesh/runtime.h"

#define SN_RELAY_TIMEOUT_MS 60000

struct sn_relay_options {
	const char *listen; /* as sn__addr_parse_listen() reads it; any address */
	const char *to;     /* as sn__relay_parse() reads it */
	bool http2;         /* HTTP/2 to the service with prior knowledge; gRPC always */
	bool trust_forwarded; /* X-Forwarded-* and Forwarded of the client are added to, not replaced */
	uint64_t max_body;     /* bytes; 0: no limit */
	size_t max_head;       /* bytes; 0: 64 KiB */
	unsigned max_inflight; /* requests at once, beyond: 503; 0: no limit */
	unsigned max_connections;
	uint32_t idle_ms; /* of clients' connections */
	uint32_t timeout_ms; /* from the whole request to the head of the answer; 0: SN_RELAY_TIMEOUT_MS */
	const char *tls_cert, *tls_key, *tls_ca; /* as struct sn_http_server_options */
};

/* Where the service listens. */
struct sn_relay_place {
	struct sn_addr addr; /* len 0: host and port instead */
	struct sn_str host;
	uint16_t port;
};
/** "http://HOST[:PORT]", "HOST:PORT", ":PORT" and "PORT" (loopback), "unix:PATH". SN_E_PARSE: *err says
 * what is wrong. Any thread. */
SN_MUST_USE int sn__relay_parse(
		struct sn_str text, struct sn_relay_place *ret_place, struct sn_error *err);

/** Listen on @rt until it closes. Threads and results as sn__admin_listen(). */
SN_MUST_USE int sn__relay_listen(
		struct sn_runtime *rt, const struct sn_relay_options *opts, struct sn_error *err);

#endif
