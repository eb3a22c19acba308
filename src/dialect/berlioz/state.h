/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_BERLIOZ_STATE_H
#define SN_SRC_DIALECT_BERLIOZ_STATE_H

/* Internal. The file with the last good metadata: DIR/metadata.json, mode 0600, replaced by rename.
 * Any thread; blocks on the disk. */

#include "base/error.h"
#include "base/str.h"

#define SN_STATE_FILE "metadata.json"
#define SN_STATE_MAX ((size_t)256 << 20)

/** The directory is made when missing (mode 0700). @err says which file and why. */
SN_MUST_USE int sn__state_write(const char *dir, struct sn_str text, struct sn_error *err);
/** The whole file with a NUL behind, from sn__malloc(). SN_E_NOT_FOUND, SN_E_LIMIT, SN_E_IO,
 * SN_E_NOMEM. */
SN_MUST_USE int sn__state_read(
		const char *dir, char **ret_text, size_t *ret_len, struct sn_error *err);
/** Its size; 0 when there is none. */
size_t sn__state_size(const char *dir);

#endif
