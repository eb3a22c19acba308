/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_ADMIN_CLIENT_H
#define SN_SRC_APP_ADMIN_CLIENT_H

/* Internal. The admin API of a running sinew, from the command line: `sinew top`, `breaker`, `why`.
 * Blocking; main thread. */

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
void sn__admin_client_close(struct sn_admin_client *client /* may be NULL */);
/** One request, answered within --timeout. *ret_doc: the answer (a new reference; NULL when it is no
 * JSON); @text (may be NULL): its bytes. 0, or an exit status after what is wrong was said (also what
 * a status of 400 and above says). */
SN_MUST_USE int sn__admin_client_call(struct sn_admin_client *client, const char *method,
		const char *target, const char *body /* may be NULL */,
		json_t **ret_doc /* may be NULL */, struct sn_buf *text /* may be NULL */);

#endif
