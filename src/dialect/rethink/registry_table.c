/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/rethink/registry_table.h"

#include "base/map.h"
#include "base/mem.h"

static struct sn_reg_node **bucket(const struct sn_reg_table *t, uint32_t i)
{
	return &t->segments[i / SN_REG_SEGMENT][i % SN_REG_SEGMENT];
}

static struct sn_reg_node **bucket_of(const struct sn_reg_table *t, uint32_t hash)
{
	uint32_t i = hash & (2 * t->base - 1);

	return bucket(t, i < t->n_buckets ? i : i - t->base);
}

void sn__reg_table_init(struct sn_reg_table *t, size_t key)
{
	*t = (struct sn_reg_table){.key = key};
}

void sn__reg_table_each(const struct sn_reg_table *t,
		bool (*fn)(struct sn_reg_node *node, void *arg), void *arg)
{
	for (uint32_t i = 0; i < t->n_buckets; i++) {
		for (struct sn_reg_node *node = *bucket(t, i), *next; node != NULL; node = next) {
			next = node->next;
			if (!fn(node, arg))
				return;
		}
	}
}

void sn__reg_table_finish(struct sn_reg_table *t)
{
	for (uint32_t i = 0; i < t->n_segments; i++)
		sn__free(t->segments[i]);
	sn__free(t->segments);
	sn__reg_table_init(t, t->key);
}

struct sn_reg_node *sn__reg_table_find(const struct sn_reg_table *t, struct sn_str key)
{
	struct sn_reg_node *node;
	uint32_t hash;

	if (t->n == 0)
		return NULL;
	hash = (uint32_t)sn__hash(key);
	for (node = *bucket_of(t, hash); node != NULL; node = node->next) {
		if (node->hash == hash && sn_str_eq(sn_reg_node_key(t, node), key))
			break;
	}
	return node;
}

static int add_segment(struct sn_reg_table *t)
{
	if (t->n_segments == t->segments_cap) {
		uint32_t cap = t->segments_cap != 0 ? 2 * t->segments_cap : 4;
		struct sn_reg_node ***v;

		if (cap > SN_REG_SEGMENTS_MAX)
			return SN_E_LIMIT;
		v = sn__realloc(t->segments, cap * sizeof(*v));
		if (v == NULL)
			return SN_E_NOMEM;
		t->segments = v;
		t->segments_cap = cap;
	}
	t->segments[t->n_segments] = sn__calloc(
			SN_REG_SEGMENT, sizeof(*t->segments[t->n_segments]));
	if (t->segments[t->n_segments] == NULL)
		return SN_E_NOMEM;
	t->n_segments++;
	return 0;
}

int sn__reg_table_reserve(struct sn_reg_table *t)
{
	if (t->n_segments > 0 &&
			(t->n < t->n_buckets || t->n_buckets / SN_REG_SEGMENT < t->n_segments))
		return 0;
	return add_segment(t);
}

/* Divide bucket number n_buckets - base. */
static void divide(struct sn_reg_table *t)
{
	uint32_t from = t->n_buckets - t->base;
	struct sn_reg_node **low = bucket(t, from), **high = bucket(t, t->n_buckets);
	struct sn_reg_node *node = *low;

	while (node != NULL) {
		struct sn_reg_node *next = node->next;
		struct sn_reg_node ***to = (node->hash & t->base) != 0 ? &high : &low;

		**to = node;
		*to = &node->next;
		node = next;
	}
	*low = *high = NULL;
	if (++t->n_buckets == 2 * t->base)
		t->base = t->n_buckets;
}

void sn__reg_table_add(struct sn_reg_table *t, struct sn_reg_node *node)
{
	struct sn_reg_node **at;

	if (t->n_buckets == 0)
		t->n_buckets = t->base = 1;
	else if (t->n >= t->n_buckets)
		divide(t);
	node->hash = (uint32_t)sn__hash(sn_reg_node_key(t, node));
	at = bucket_of(t, node->hash);
	node->next = *at;
	*at = node;
	t->n++;
}

void sn__reg_table_remove(struct sn_reg_table *t, struct sn_reg_node *node)
{
	struct sn_reg_node **at = bucket_of(t, node->hash);

	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	t->n--;
}
