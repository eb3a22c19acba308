/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_MESH_WORDS_H
#define SN_SRC_APP_MESH_WORDS_H

/* Internal. What the commands of the µHome mesh share. Main thread. */

#include "app/cli.h"
#include "base/buf.h"
#include "dialect/microhome/node.h"

#define SN_MESH_BROKER "127.0.0.1:5100"
#define SN_MESH_REGISTRY "127.0.0.1:5101"

/** An event type as it goes over the wire: a leading "uHome." or Greek mu (U+03BC) becomes U+00B5, which
 * is said. Appended to @out with a NUL. SN_E_NOMEM, SN_E_INVALID (empty, not UTF-8; was said). */
SN_MUST_USE int sn__mesh_type(const struct sn_cli *cli, const char *type, struct sn_buf *out);
/** The text of the file at @path (of an option) without white space behind it, with a NUL, into @token. 0,
 * or the exit status after what is wrong was said. */
SN_MUST_USE int sn__read_token(const struct sn_cli *cli, const char *path, struct sn_buf *token);
/** --cert, --key, --ca, --token, --insecure. @token holds the text of the file. 0, or the exit status
 * after what is wrong was said. */
SN_MUST_USE int sn__mesh_security(const struct sn_cli *cli, struct sn_buf *token,
		struct sn_mh_security *ret_security);

#endif
