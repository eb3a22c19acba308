/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_HUB_H
#define SN_SRC_APP_AGENT_HUB_H

/* Internal. The nodes of a µHome mesh, for the agent: its registry is asked what is new, a few times a
 * second. Loop thread. */

#include <jansson.h>

#include "base/error.h"
#include "io/addr.h"
#include "dialect/microhome/node.h"
#include "io/loop.h"

struct sn_agent_hub;

/** A node at @address ("192.168.1.20:5102") as {"1": {"protocol", "address", "port"}}, for the caller. NULL
 * with 0: it cannot be one. SN_E_NOMEM. */
SN_MUST_USE int sn__agent_node_peers(const char *address /* may be NULL */, json_t **ret_peers);

/** @nodes: id -> peers ({"1": {"protocol", "address", "port"}}), borrowed. */
typedef void sn_agent_nodes_fn(json_t *nodes, void *arg);
/** @state: the registry has answered (NULL), or why it has not; told when that changes. */
typedef void sn_agent_state_fn(const char *state /* may be NULL */, void *arg);

SN_MUST_USE int sn__agent_hub_open(struct sn_loop *loop, const struct sn_addr *registry,
		const struct sn_mh_security *security, sn_agent_nodes_fn *nodes,
		sn_agent_state_fn *state, void *arg, struct sn_agent_hub **ret_hub,
		struct sn_error *err);
void sn__agent_hub_close(struct sn_agent_hub *hub /* may be NULL */);

#endif
