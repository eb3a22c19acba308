/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_ADMIN_CLIENT_H
#define SN_SRC_APP_ADMIN_CLIENT_H

/* Internal. The admin API of a running sinew, from the command line: `sinew top`, `breaker`, `why`; and
 * what an agent tells over HTTP. Blocking; main thread. */

#include <jansson.h>

#include "app/cli.h"
#include "base/buf.h"
#include "io/addr.h"

struct sn_admin_client;

/** Where a sinew called @name listens unless its file says otherwise: unix:$XDG_RUNTIME_DIR/sinew/
 * NAME.sock, else /run/sinew, else the state directory (folders are made). The caller frees the
 * text. SN_E_NOT_FOUND (no such place), SN_E_IO, SN_E_NOMEM. */
SN_MUST_USE int sn__admin_default(const struct sn_cli *cli, const char *name, char **ret_listen);

/** The one that --admin, the file or the default names. 0, or an exit status after what is wrong was
 * said. */
SN_MUST_USE int sn__admin_client_open(
		const struct sn_cli *cli, struct sn_admin_client **ret_client);
/** The agent that sn__session_agent() names, over HTTP; nothing is said. 0, or an SN_E code. */
SN_MUST_USE int sn__admin_client_agent(
		const struct sn_cli *cli, struct sn_admin_client **ret_client);
void sn__admin_client_close(struct sn_admin_client *client /* may be NULL */);
/** One request, answered within --timeout with JSON. *ret_doc: a new reference. 0, or an exit status
 * after what is wrong was said (also what a status of 400 and above says). */
SN_MUST_USE int sn__admin_client_call(struct sn_admin_client *client, const char *method,
		const char *target, const char *body /* may be NULL */,
		json_t **ret_doc /* may be NULL */);
/** The same quietly, whatever the answer's status is; its bytes are appended to @text. 0, or why there
 * is no answer. */
SN_MUST_USE int sn__admin_client_get(struct sn_admin_client *client, const char *target,
		unsigned *ret_status, struct sn_buf *text, struct sn_error *err);

/** "/KIND/NAME[/ENDPOINT]", encoded, of the arguments from @first on: KIND/NAME[/ENDPOINT] in one, or
 * each in its own; one more is the *ret_peer (NULL: none). SN_E_INVALID, SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__admin_target(const struct sn_cli *cli, unsigned first, struct sn_buf *out,
		const char **ret_peer);

#endif
