/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_ARENA_H
#define SN_SRC_BASE_ARENA_H

/* Internal. Memory of one request or message: taken piece by piece, freed at once. */

#include <stddef.h>

#include <sinew/base.h>
#include "base/str.h"

struct sn_arena {
	struct sn_arena_block *blocks; /* newest first */
	size_t block_size;             /* of the first block */
	size_t used;                   /* bytes handed out in all */
	size_t max;                    /* limit of used */
};

/** No memory is taken before the first allocation. */
void sn__arena_init(struct sn_arena *a, size_t block_size, size_t max);
void sn__arena_finish(struct sn_arena *a);
/** Forget everything; one block is kept for the next use. */
void sn__arena_reset(struct sn_arena *a);
/** @n bytes aligned for any type, not zeroed; NULL when out of memory or over the limit. */
SN_MUST_USE void *sn__arena_alloc(struct sn_arena *a, size_t n);
SN_MUST_USE void *sn__arena_zalloc(struct sn_arena *a, size_t n);
/** A copy with a NUL behind it, or NULL. */
SN_MUST_USE char *sn__arena_strdup(struct sn_arena *a, struct sn_str s);

#endif
