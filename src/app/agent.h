/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_H
#define SN_SRC_APP_AGENT_H

/*
 * Internal. The other end of a connector's socket: serves each task its metadata.
 *
 *   GET /TASK          with upgrade: WebSocket, first the complete metadata, then one section a
 *                      message when it changes; plain: the same object over HTTP
 *   GET /-/...         src/app/agent_status.h
 *   POST /report       [{"id": TASK, "metadata": {SECTION: VALUE}}]: store, push what differs
 *
 * Loop thread.
 */

#include "app/agent_log.h"
#include "base/error.h"
#include "dialect/microhome/node.h"
#include "hub/store.h"
#include "io/addr.h"
#include "io/loop.h"

struct sn_agent;

#define SN_AGENT_TASKS_MAX 100000
#define SN_AGENT_REPORT_MAX (64u << 20)
#define SN_AGENT_RELOAD_MS 250

struct sn_agent_options {
	struct sn_addr addr;
	/* What several agents have in common (src/app/agent_share.h); NULL: nothing. The agent's on
	 * success. */
	struct sn_hub_store *shared;
	const char *mesh; /* path of the mesh file, re-read when it changes; NULL: none; copied */
	const struct sn_addr
			*registry; /* of a µHome mesh, whose nodes are served, too; NULL: none */
	struct sn_mh_security registry_security;
	const char *tls_cert, *tls_key; /* files: then it speaks TLS; both or none */
	const char *tls_ca; /* file: connectors must show a certificate of it; NULL: need not */
	const char *token;  /* asked for in every request; NULL: none; copied */
	bool insecure;      /* listening off loopback without any of it is meant so */
	struct sn_agent_log log;
};

/** Whether it may listen there: on loopback always; elsewhere with TLS and either a token or client
 * certificates, or insecure. SN_E_REJECTED: the sentence says what to add. SN_E_INVALID: halves of a
 * pair. */
SN_MUST_USE int sn__agent_check(const struct sn_agent_options *opts, struct sn_error *err);
/** Listen and serve. SN_E_INVALID (the mesh file; @err has its first problem, the log had all of
 * them), SN_E_REJECTED and what else sn__agent_check() says, SN_E_TLS
 * (a file cannot be used), SN_E_EXISTS (address in use), SN_E_IO, SN_E_NOMEM. */
SN_MUST_USE int sn__agent_open(struct sn_loop *loop, const struct sn_agent_options *opts,
		struct sn_agent **ret_agent, struct sn_error *err);
const struct sn_addr *sn__agent_addr(const struct sn_agent *agent);
/** Close frames to every connector, open requests get a second; then @done (may be NULL). */
void sn__agent_close(struct sn_agent *agent, void (*done)(void *arg), void *arg);

#endif
