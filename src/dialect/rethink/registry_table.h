/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_RETHINK_REGISTRY_TABLE_H
#define SN_SRC_DIALECT_RETHINK_REGISTRY_TABLE_H

/*
 * Internal, for the memory store. A hash table of nodes that are the heads of their own objects, for
 * millions of them: 8 bytes a node besides its head, and no pause when it grows. Linear hashing: each
 * insertion beyond one node a bucket divides one bucket, the oldest undivided one.
 */

#include <stdint.h>

#include "base/str.h"

struct sn_reg_node {
	struct sn_reg_node *next; /* of the bucket */
	uint32_t hash;
	uint32_t len : 24, flags : 8; /* of its key; flags: the owner's */
};

#define SN_REG_SEGMENT 1024u /* buckets */
#define SN_REG_SEGMENTS_MAX (1u << 20)

struct sn_reg_table {
	struct sn_reg_node ***segments;
	uint32_t n_segments, segments_cap;
	uint32_t n_buckets, base; /* base: a power of two; base <= n_buckets < 2 * base */
	uint32_t n;
	size_t key; /* where the key of a node is, from its head */
};

/** No memory is taken before the first node. */
void sn__reg_table_init(struct sn_reg_table *t, size_t key);
void sn__reg_table_finish(struct sn_reg_table *t);
/** Every node, until @fn returns false. It may free its node when nothing else follows but finish(). */
void sn__reg_table_each(const struct sn_reg_table *t,
		bool (*fn)(struct sn_reg_node *node, void *arg), void *arg);
struct sn_reg_node *sn__reg_table_find(const struct sn_reg_table *t, struct sn_str key);
/** Room for one more, so that the next add() cannot fail. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__reg_table_reserve(struct sn_reg_table *t);
/** Its key and len are filled; there is no other with this key. After reserve(). */
void sn__reg_table_add(struct sn_reg_table *t, struct sn_reg_node *node);
void sn__reg_table_remove(struct sn_reg_table *t, struct sn_reg_node *node);
static inline struct sn_str sn_reg_node_key(
		const struct sn_reg_table *t, const struct sn_reg_node *node)
{
	return (struct sn_str){(const char *)node + t->key, node->len};
}

#endif
