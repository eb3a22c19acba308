/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_RUN_H
#define SN_SRC_APP_RUN_H

/* Internal. What the commands that run until a signal share: draining, the service manager, memory.
 * Main thread. */

#include "app/session.h"
#include "mesh/config.h"

/** Open a runtime, with @opts (who logs and drains), and what it serves. *ret_rt may be set although it fails: it is closed then. 0, or an
 * exit status after what is wrong was said. */
typedef int sn_run_start_fn(struct sn_cli *cli, const struct sn_config *config,
		const struct sn_options *opts, struct sn_runtime **ret_rt);
/** Start, then wait for SIGTERM or SIGINT and drain. The exit status. */
SN_MUST_USE int sn__run(
		struct sn_cli *cli, const struct sn_config *config, sn_run_start_fn *start_fn);

#endif
