/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_MAP_H
#define SN_SRC_BASE_MAP_H

/*
 * Internal. Hash table from text (pointer and length) to a pointer, safe for keys from the wire: the
 * hash is SipHash-1-3 under a key drawn once a process. Entries are kept in order of insertion, so
 * that walking a map does not depend on that key. An object of its own thread.
 *
 * Keys are borrowed: the text must stay valid while its entry is in the map (it usually lies in the
 * value). Values may not be NULL.
 */

#include <stddef.h>
#include <stdint.h>

#include <sinew/base.h>
#include "base/str.h"

struct sn_map_entry {
	struct sn_str key;
	void *value; /* NULL: removed */
	uint64_t hash;
};

struct sn_map {
	struct sn_map_entry *entries; /* in order of insertion, with holes */
	uint32_t *index;              /* open addressing: entry number + 1; 0 is free */
	uint32_t n_entries;           /* holes too */
	uint32_t n_live;
	uint32_t cap; /* slots of index, a power of two; entries has 3/4 of it */
};

/** No memory is taken before the first entry. */
void sn__map_init(struct sn_map *m);
void sn__map_finish(struct sn_map *m); /* values stay the caller's; usable again */

static inline size_t sn_map_count(const struct sn_map *m)
{
	return m->n_live;
}

/** The value, or NULL. Any number of threads may look up while none changes the map. */
void *sn__map_get(const struct sn_map *m, struct sn_str key);
/** SN_E_EXISTS, SN_E_NOMEM, SN_E_LIMIT (2^30 entries); then nothing has changed. */
SN_MUST_USE int sn__map_add(struct sn_map *m, struct sn_str key, void *value);
/** Add, or replace key and value. @ret_old: the value replaced, or NULL. Replacing cannot fail. */
SN_MUST_USE int sn__map_put(
		struct sn_map *m, struct sn_str key, void *value, void **ret_old /* may be NULL */);
/** The value taken out, or NULL. */
void *sn__map_remove(struct sn_map *m, struct sn_str key);
/** Room for @n entries in all, so that adding up to that many cannot fail. */
SN_MUST_USE int sn__map_reserve(struct sn_map *m, size_t n);

/**
 * Walk in order of insertion: `for (size_t i = 0; (e = sn__map_next(m, &i)) != NULL;)`. The entry at
 * hand may be removed; nothing may be added meanwhile.
 */
const struct sn_map_entry *sn__map_next(const struct sn_map *m, size_t *pos);

/** The hash under this process's key. Any thread. */
uint64_t sn__hash(struct sn_str s);
/** SipHash-1-3 under @key. */
uint64_t sn__siphash13(const uint64_t key[2], struct sn_str s);

#endif
