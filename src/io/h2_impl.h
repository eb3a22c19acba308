/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_H2_IMPL_H
#define SN_SRC_IO_H2_IMPL_H

/* Internal to h2.c (the session: pump, keep-alive, opening and closing) and h2_frames.c (frames and
 * streams). Loop thread. */

#include "io/h2.h"
#include "io/h2_head.h"

/* Whether its ops may be called. */
static inline bool sn_h2_listens(const struct sn_h2 *h2)
{
	return !h2->closed && !h2->told;
}

/* ---- h2.c ---- */

/** The first reason stays. */
void sn__h2_set_failed(struct sn_h2 *h2, int code, int foreign, const char *detail);
/** For what nghttp2 returned; the code. */
int sn__h2_fail_lib(struct sn_h2 *h2, int lib);
/** For what cannot fail but for want of memory. Kicks. */
void sn__h2_check(struct sn_h2 *h2, int lib);
/** A stream more. */
void sn__h2_count(struct sn_h2 *h2);

/* ---- h2_frames.c ---- */

/** To be deleted by the caller. SN_E_NOMEM. */
SN_MUST_USE int sn__h2_callbacks(nghttp2_session_callbacks **ret_cbs);
void sn__h2_block_put(struct sn_h2 *h2, struct sn_h2_block *block /* may be NULL */);

#endif
