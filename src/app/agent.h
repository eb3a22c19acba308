/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_H
#define SN_SRC_APP_AGENT_H

/*
 * Internal. The other end of a connector's socket: serves each task its metadata.
 *
 *   GET /TASK          with upgrade: WebSocket, first the complete metadata, then one section a
 *                      message when it changes; plain: the same object over HTTP
 *   POST /report       [{"id": TASK, "metadata": {SECTION: VALUE}}]: store, push what differs
 *
 * Loop thread.
 */

#include "base/error.h"
#include "io/addr.h"
#include "io/loop.h"

struct sn_agent;

#define SN_AGENT_TASKS_MAX 100000
#define SN_AGENT_REPORT_MAX (64u << 20)
#define SN_AGENT_RELOAD_MS 250

struct sn_agent_options {
	struct sn_addr addr;
	const char *mesh; /* path of the mesh file, re-read when it changes; NULL: none; copied */
	const struct sn_addr
			*registry; /* of a µHome mesh, whose nodes are served, too; NULL: none */
	/** A line for the operator; may be NULL. */
	void (*say)(const char *level, const char *line, void *arg);
	void *say_arg;
};

/** Listen and serve. SN_E_INVALID (the mesh file; @err has its first problem, @say had all of
 * them), SN_E_EXISTS (address in use), SN_E_IO, SN_E_NOMEM. */
SN_MUST_USE int sn__agent_open(struct sn_loop *loop, const struct sn_agent_options *opts,
		struct sn_agent **ret_agent, struct sn_error *err);
const struct sn_addr *sn__agent_addr(const struct sn_agent *agent);
/** Close frames to every connector, open requests get a second; then @done (may be NULL). */
void sn__agent_close(struct sn_agent *agent, void (*done)(void *arg), void *arg);

#endif
