/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_OPEN_H
#define SN_SRC_DIALECT_OPEN_H

/* Internal. What sn_open() does for a file, for the command that does more than it. */

#include "mesh/config.h"
#include "mesh/runtime.h"

/** Serve the admin API of @config. @listen: NULL: where the file says. @agent: the agent that the
 * options or the command line name; NULL: none. Threads and results as sn__admin_listen(). */
SN_MUST_USE int sn__open_admin(struct sn_runtime *rt, const struct sn_config *config,
		const char *listen /* may be NULL */, const char *agent /* may be NULL */,
		struct sn_error *err);

#endif
