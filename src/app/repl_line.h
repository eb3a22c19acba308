/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_REPL_LINE_H
#define SN_SRC_APP_REPL_LINE_H

/* Internal. A line of `sinew repl`: words, and a last argument that may be the rest of the line. Lines are
 * cut in place. */

#include "base/error.h"

#define SN_REPL_ARGS_MAX 3u

/** The next word of @rest, which moves behind it and the white space that follows. NULL: there is none. */
char *sn__repl_word(char **rest);
/** The arguments in @rest. The last of @max (if there is more than one) is the rest of the line without the
 * white space behind it: JSON. Their number; SN_E_LIMIT: there are more than @max (0 ...
 * SN_REPL_ARGS_MAX). */
SN_MUST_USE int sn__repl_args(char *rest, unsigned max, const char **ret_args);

#endif
