/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_DEST_H
#define SN_SRC_MESH_DEST_H

/* Internal. The way to a peer: its HTTP destination, kept in the slot of its state and made anew
 * when a policy it was made from changes. Loop thread. */

#include "io/http.h"
#include "mesh/peer_state.h"
#include "mesh/policy.h"
#include "mesh/runtime.h"

/* TLS contexts by options, shared by all peers of a runtime. */
struct sn_tls_cache;

/** Borrowed; take a reference to keep it beyond the turn. The peer's protocol decides: "http" (or
 * none) is HTTP/1.1, "h2" HTTP/2 with prior knowledge, "https" TLS with what ALPN agrees on.
 * SN_E_NOTSUP (protocol), SN_E_NOMEM, what the client says about the address. */
SN_MUST_USE int sn__dest_of(struct sn_runtime *rt, struct sn_peer_state *ps,
		const struct sn_policy *policy, struct sn_http_dest **ret_dest,
		struct sn_error *err);
/** As above for gRPC, which always is HTTP/2: "grpc", "h2", "http" (or none) with prior knowledge,
 * "grpcs" and "https" over TLS, where the peer must agree to "h2". A way of its own. */
SN_MUST_USE int sn__dest_grpc_of(struct sn_runtime *rt, struct sn_peer_state *ps,
		const struct sn_policy *policy, struct sn_http_dest **ret_dest,
		struct sn_error *err);
/** "http://10.0.0.23:4000", after sn__dest_of(); lives until the policies change. */
struct sn_str sn__dest_url(const struct sn_peer_state *ps);
void sn__tls_cache_destroy(struct sn_tls_cache *cache /* may be NULL */);

#endif
