/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_H2_HEAD_H
#define SN_SRC_IO_H2_HEAD_H

/* Internal to h2.c: a header block while it comes in. Loop thread. */

#include "base/buf.h"
#include "proto/http.h"

struct sn_h2_block {
	struct sn_http_head head; /* slices: valid after finish() */
	uint32_t name_at[SN_HTTP_HEADERS_MAX], value_at[SN_HTTP_HEADERS_MAX];
	uint32_t method_at, path_at, authority_at, protocol_at;
	struct sn_str authority, protocol;
	bool has_host, has_cookies;
	bool too_large;  /* what came later is lost */
	bool two_hosts;  /* and they contradict each other */
	bool bad_status; /* there is one, but none of HTTP's */
	size_t seen;     /* bytes, also of what is lost */
	struct sn_buf bytes;
};

SN_MUST_USE struct sn_h2_block *sn__h2_block_create(void);
void sn__h2_block_destroy(struct sn_h2_block *block /* may be NULL */);
/** For the next one; memory stays unless it is much. */
void sn__h2_block_reset(struct sn_h2_block *block);
/** A field, checked by nghttp2 already. SN_E_NOMEM; too much is not an error but said in
 * too_large. */
SN_MUST_USE int sn__h2_block_add(
		struct sn_h2_block *block, struct sn_str name, struct sn_str value);
/** Make block->head ready. SN_E_NOMEM. */
SN_MUST_USE int sn__h2_block_finish(struct sn_h2_block *block);

#endif
