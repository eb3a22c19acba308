/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_STATUS_H
#define SN_SRC_APP_AGENT_STATUS_H

/*
 * Internal. What the agent tells of itself, to whoever may ask for a task's metadata:
 *
 *   GET /-/checks    [{"target", "identity", "address", "since", "seconds", "why", "served"}]: the
 *                    instances that are unwell
 *   GET /-/metrics   Prometheus text
 *
 * Loop thread.
 */

#include "app/agent_targets.h"
#include "io/http_server.h"

#define SN_AGENT_STATUS "/-/" /* no task's path: ids have no '/' */

struct sn_agent_status {
	struct sn_loop *loop;
	const struct sn_targets *targets;  /* NULL: no mesh file */
	const struct sn_target_plan *plan; /* NULL: it asks for nothing */
	unsigned connectors;
};
/** Answer @x, a GET or HEAD of a path that begins with SN_AGENT_STATUS. */
void sn__agent_status(struct sn_exchange *x, const struct sn_agent_status *status);

#endif
