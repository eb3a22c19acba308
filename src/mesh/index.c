/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/index.h"

#include "base/mem.h"

#define MIN_SLOTS 8u
#define MAX_SLOTS (1u << 26)

static void free_table(struct sn_rcu_head *head)
{
	sn__free(SN_CONTAINER_OF(head, struct sn_index_table, rcu));
}

static void put(struct sn_index_table *t, uint64_t hash, void *item)
{
	uint32_t i = (uint32_t)hash & t->mask;

	while (atomic_load_explicit(&t->slots[i].item, memory_order_relaxed) != NULL)
		i = (i + 1) & t->mask;
	atomic_store_explicit(&t->slots[i].hash, hash, memory_order_relaxed);
	atomic_store_explicit(&t->slots[i].item, item, memory_order_release);
	t->used++;
}

static struct sn_index_table *grown(const struct sn_index_table *old /* may be NULL */)
{
	uint32_t n = old != NULL ? (old->mask + 1) * 2 : MIN_SLOTS;
	struct sn_index_table *t = sn__calloc(1, sizeof(*t) + n * sizeof(t->slots[0]));

	if (t == NULL)
		return NULL;
	t->mask = n - 1;
	for (uint32_t i = 0; old != NULL && i <= old->mask; i++) {
		void *item = atomic_load_explicit(&old->slots[i].item, memory_order_relaxed);

		if (item != NULL)
			put(t, atomic_load_explicit(&old->slots[i].hash, memory_order_relaxed),
					item);
	}
	return t;
}

int sn__index_insert(struct sn_index *ix, uint64_t hash, void *item, struct sn_rcu_batch *retired)
{
	_Atomic(struct sn_index_table *) *shard = &ix->shard[hash >> 56];
	struct sn_index_table *t = atomic_load_explicit(shard, memory_order_relaxed);
	struct sn_index_table *bigger;

	if (t == NULL || (t->used + 1) * UINT64_C(4) > (t->mask + 1) * UINT64_C(3)) {
		if (t != NULL && t->mask + 1 >= MAX_SLOTS)
			return SN_E_LIMIT;
		bigger = grown(t);
		if (bigger == NULL)
			return SN_E_NOMEM;
		put(bigger, hash, item);
		sn_rcu_publish(shard, bigger);
		if (t != NULL)
			sn_rcu_retire(retired, &t->rcu, free_table);
		return 0;
	}
	put(t, hash, item);
	return 0;
}

void sn__index_finish(struct sn_index *ix)
{
	for (unsigned i = 0; i < SN_INDEX_SHARDS; i++)
		sn__free(atomic_load_explicit(&ix->shard[i], memory_order_relaxed));
}
