/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_SESSION_H
#define SN_SRC_APP_SESSION_H

/* Internal. What the commands that talk to peers share: a runtime that has heard of its agent, and
 * JSON on stdout. Main thread. */

#include <jansson.h>
#include <stdatomic.h>

#include <sinew/mesh.h>
#include <sinew/runtime.h>
#include "app/cli.h"
#include "base/buf.h"

/** Open a runtime with the agent and file of the command line and wait for its first message, at
 * most --timeout. 0, or the exit status after what is wrong was said. The caller closes it. */
SN_MUST_USE int sn__session_open(struct sn_cli *cli, struct sn_runtime **ret_rt);
/** As above for `sinew run`: also what the file's `listen` asks for is opened, and nothing is waited
 * for. @opts: what the command line does not say; NULL: nothing. */
SN_MUST_USE int sn__session_start(
		struct sn_cli *cli, const struct sn_options *opts, struct sn_runtime **ret_rt);
/** For a command that serves one thing: what the file's `listen` and its sections ask for is not opened, and
 * no agent is needed. */
SN_MUST_USE int sn__session_start_bare(
		struct sn_cli *cli, const struct sn_options *opts, struct sn_runtime **ret_rt);
/** --config, $SINEW_CONFIG, or sinew.yaml when there is one; NULL: none. */
const char *sn__session_config(const struct sn_cli *cli);
#define SN_SESSION_AGENT_MAX 2048 /* bytes of an agent's URL */
struct sn_config;
/** The agent's URL as the command line, the file and the environment name it, in this order; "": they do
 * not. Returns the file, to be destroyed; NULL: none, or it cannot be read. */
struct sn_config *sn__session_agent(const struct sn_cli *cli, char *out, size_t size);
/** The file of the command line (an empty one when there is none) with the members of the map @over in
 * its section @name, and @name as its name unless it has one, as a text for sn__run_text(). 0, or the
 * exit status after what is wrong was said. */
SN_MUST_USE int sn__session_with(
		struct sn_cli *cli, const char *name, json_t *over, char **ret_text);
/** `sinew run` of a file that is given as a text (cmd_run.c). */
int sn__run_text(struct sn_cli *cli, const char *text);
/** On stderr, for who asked for a target that nobody serves: the nearest one that is known, or how many are. */
void sn__session_hint(const struct sn_cli *cli, struct sn_runtime *rt);
void sn__session_close(struct sn_runtime *rt /* may be NULL */);

/** Where the flight recorder of commands keeps its files, made when missing: --state,
 * $XDG_STATE_HOME/sinew or ~/.local/state/sinew. The caller frees it. SN_E_NOT_FOUND, SN_E_IO,
 * SN_E_NOMEM, and in @err a sentence. */
SN_MUST_USE int sn__session_record_dir(
		const struct sn_cli *cli, char **ret_dir, struct sn_error *err /* may be NULL */);

/** A body or document of the command line: "-" is stdin, "@FILE" a file, anything else itself; appended
 * to @out. 0, or the exit status after what is wrong was said. */
SN_MUST_USE int sn__session_input(const struct sn_cli *cli, const char *spec, struct sn_buf *out);
/** --retry. False after what is wrong was said. */
SN_MUST_USE bool sn__session_retry(const struct sn_cli *cli, enum sn_retry *ret_retry);
/** SIGINT, SIGTERM and SIGHUP are waited for instead of ending the process. */
void sn__session_block_signals(void);
/** Until one of them comes, or another thread sets *gone. */
void sn__session_await_signal(const atomic_bool *gone);

/** @json on one line on stdout, flushed. Values of members that look secret are masked unless
 * @show_secrets. 0, or an exit status (stdout is gone). */
SN_MUST_USE int sn__put_json(const char *json, bool show_secrets);

#endif
