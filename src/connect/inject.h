/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_INJECT_H
#define SN_SRC_CONNECT_INJECT_H

/* Internal. One member of a call's parameters is ours to set: the name of the table, of the stream.
 * Any thread. */

#include "base/buf.h"

/**
 * Append to @out the object @json (text of the caller's) with its member @name set to the JSON
 * value @value, whatever members of that name it had; all others stay as they are written, in their
 * order, doubles too. The set member comes first. Levels as of a wide reader in proto/json_pull.h. SN_E_INVALID (no
 * object, or more than one value), SN_E_PARSE (*ret_offset, which may be NULL: where), SN_E_LIMIT,
 * SN_E_NOMEM; then @out is as it was.
 */
SN_MUST_USE int sn__inject(struct sn_str json, struct sn_str name, struct sn_str value,
		struct sn_buf *out, size_t *ret_offset);
/** As above; the value is the text @text. */
SN_MUST_USE int sn__inject_text(struct sn_str json, struct sn_str name, struct sn_str text,
		struct sn_buf *out, size_t *ret_offset);

#endif
