/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_BUF_H
#define SN_SRC_BASE_BUF_H

/*
 * Internal. A byte queue in one block with a limit: bytes are added at the end and taken from the
 * front. An object of its own thread.
 */

#include <stddef.h>

#include <sinew/base.h>
#include "base/str.h"

struct sn_buf {
	char *block;
	size_t head; /* offset of the first unread byte */
	size_t len;  /* unread bytes */
	size_t cap;
	size_t max; /* len never exceeds it */
};

/** No memory is taken before the first append. @max: limit of unread bytes, above 0. */
void sn__buf_init(struct sn_buf *b, size_t max);
void sn__buf_finish(struct sn_buf *b); /* frees; usable again */

static inline const char *sn__buf_data(const struct sn_buf *b)
{
	return b->block != NULL ? b->block + b->head : NULL;
}

static inline struct sn_str sn__buf_str(const struct sn_buf *b)
{
	return (struct sn_str){sn__buf_data(b), b->len};
}

/** Room for @n more bytes at *ret_space; valid until the next call. SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__buf_reserve(struct sn_buf *b, size_t n, char **ret_space);
/** Count @n bytes written into the reserved room. */
void sn__buf_commit(struct sn_buf *b, size_t n);
SN_MUST_USE int sn__buf_append(struct sn_buf *b, const void *data, size_t n);
SN_MUST_USE int sn__buf_append_str(struct sn_buf *b, struct sn_str s);
SN_MUST_USE int sn__buf_puts(struct sn_buf *b, const char *s);
SN_MUST_USE int sn__buf_printf(struct sn_buf *b, const char *fmt, ...) SN_PRINTF(2, 3);
/** Drop @n bytes (at most len) at the front. */
void sn__buf_consume(struct sn_buf *b, size_t n);
/** Drop bytes at the end until @len are left. */
void sn__buf_truncate(struct sn_buf *b, size_t len);
/** Drop everything; the block stays. */
void sn__buf_clear(struct sn_buf *b);
/** Give the block back when nothing is unread (idle connections hold no memory). */
void sn__buf_release_if_empty(struct sn_buf *b);

#endif
