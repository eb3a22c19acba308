/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_INDEX_H
#define SN_SRC_MESH_INDEX_H

/*
 * Internal. The catalog's index: a set of items by 64-bit hash. Things are only ever inserted.
 * Reading needs no lock: a table is open-addressed, published through RCU and replaced when it
 * grows. There are 256 of them, by the top bits of the hash, so that one that grows among a million
 * items copies 4,000 and nobody notices.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <sinew/base.h>
#include "base/rcu.h"

#define SN_INDEX_SHARDS 256

struct sn_index_slot {
	_Atomic uint64_t hash;
	_Atomic(void *) item; /* written after the hash; NULL: free */
};

struct sn_index_table {
	struct sn_rcu_head rcu;
	uint32_t mask; /* slots - 1 */
	uint32_t used;
	struct sn_index_slot slots[];
};

struct sn_index {
	_Atomic(struct sn_index_table *) shard[SN_INDEX_SHARDS];
};

typedef bool sn_index_eq_fn(const void *item, const void *key);

/** Inside a read section (or with the writers' lock). Items stay valid as long as the index. */
static inline void *sn_index_find(
		const struct sn_index *ix, uint64_t hash, sn_index_eq_fn *eq, const void *key)
{
	const struct sn_index_table *t = sn_rcu_dereference(&ix->shard[hash >> 56]);

	if (t == NULL)
		return NULL;
	for (uint32_t i = (uint32_t)hash & t->mask;; i = (i + 1) & t->mask) {
		void *item = atomic_load_explicit(&t->slots[i].item, memory_order_acquire);

		if (item == NULL)
			return NULL;
		if (atomic_load_explicit(&t->slots[i].hash, memory_order_relaxed) == hash &&
				eq(item, key))
			return item;
	}
}

/** The item is not in it yet; one writer at a time. An outgrown table goes to @retired. SN_E_NOMEM,
 * SN_E_LIMIT. */
SN_MUST_USE int sn__index_insert(
		struct sn_index *ix, uint64_t hash, void *item, struct sn_rcu_batch *retired);
/** Nobody reads any more. Items stay the owner's. */
void sn__index_finish(struct sn_index *ix);

#endif
