/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_DATE_H
#define SN_SRC_PROTO_DATE_H

/* Internal. Dates as protocols write them, in seconds since 1970. Years from 1970 to 9999. Any
 * thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/** "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7; not its obsolete forms). */
bool sn__date_http(struct sn_str text, int64_t *ret_s);
/** "2015-08-30T12:36:00Z", also with a fraction of a second, which is dropped, and with "+00:00". */
bool sn__date_iso(struct sn_str text, int64_t *ret_s);

#endif
