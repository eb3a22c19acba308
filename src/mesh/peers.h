/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_PEERS_H
#define SN_SRC_MESH_PEERS_H

/*
 * Internal. Making and comparing versions (struct sn_peers of catalog.h). Off the loop or on it;
 * nothing here touches what is published, but for reading immutable versions.
 */

#include "base/arena.h"
#include "mesh/catalog.h"

/* sn_peers.flags */
#define SN_PEERS_STATIC 1u /* never freed */
#define SN_PEERS_TEXT 2u   /* a value of another section: json lies behind the struct */
#define SN_PEERS_EMPTY 4u  /* monitors are not told when it goes away */

/** One allocation. @json: checked text of an object; @hash: of it. SN_E_NOMEM, SN_E_LIMIT.
 *
 * @old (may be NULL): the version it would replace. When the two are equal *ret_new is NULL.
 * @ret_carry: for each new entry the index of the old one of the same identity (UINT32_MAX: none),
 * in @keep; NULL when they stand at the same indices. */
SN_MUST_USE int sn__peers_build(struct sn_str json, uint64_t hash, const struct sn_peers *old,
		struct sn_arena *scratch, struct sn_arena *keep, struct sn_peers **ret_new,
		const uint32_t **ret_carry);
/** A value that is no map of peers. *ret_new NULL: equal to @old. */
SN_MUST_USE int sn__peers_build_text(struct sn_str json, uint64_t hash, bool empty,
		const struct sn_peers *old, struct sn_arena *scratch, struct sn_peers **ret_new);
/** Deep equality of two maps. SN_E_NOMEM. */
SN_MUST_USE int sn__peers_equal(const struct sn_peers *a, const struct sn_peers *b,
		struct sn_arena *scratch, bool *ret_equal);
/** Hand the mutable states on to the entries that are still the same peer. Loop thread. */
void sn__peers_carry(struct sn_peers *to, const struct sn_peers *from,
		const uint32_t *carry /* may be NULL */);
/** Bytes of its allocation, about. */
size_t sn__peers_size(const struct sn_peers *p);
void sn__peers_free_rcu(struct sn_rcu_head *head); /* drops one reference */

#endif
