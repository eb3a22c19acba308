/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_CATALOG_WRITE_H
#define SN_SRC_MESH_CATALOG_WRITE_H

/*
 * Internal. Writing to the catalog, for dialects. An *update* is one message. Its work() reads it
 * and puts new values into a batch: off the loop when it is large, one update at a time, nothing
 * visible yet. When work() succeeded the loop publishes the changes in the order in which they were
 * put, at most about 1 ms a turn, each followed by its monitors. When it failed nothing changes.
 */

#include "base/arena.h"
#include "mesh/catalog.h"

#define SN_UPDATE_INLINE_MAX (64u << 10) /* bytes; more is worked on off the loop */
#define SN_UPDATE_MAX (256u << 20)

struct sn_batch;
struct sn_update;
struct sn_update {
	struct sn_list link;
	size_t size; /* bytes to read; decides where work() runs */
	/* Loop or helper thread; must not touch what belongs to the loop. */
	int (*work)(struct sn_update *u, struct sn_batch *batch);
	/* Loop thread, exactly once, after the last monitor of the update: 0, what work() returned,
	 * or SN_E_CLOSED. @changes: values that changed. @u is the owner's again. */
	void (*done)(struct sn_update *u, int code, uint32_t changes);
};
/** Loop thread. Updates take effect in order; never before this returned. */
void sn__catalog_submit(struct sn_catalog *cat, struct sn_update *u);
/** Whether nothing is under way. */
bool sn__catalog_idle(const struct sn_catalog *cat);

/** Memory that is freed when work() has returned. */
struct sn_arena *sn__batch_arena(struct sn_batch *b);
/** A map identity -> peer. @json: checked JSON text of an object. A place is set at most once a
 * batch. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__batch_set_peers(
		struct sn_batch *b, const struct sn_path *path, struct sn_str json);
/** The same, for who has peers that no agent knows: pruning leaves it alone. */
SN_MUST_USE int sn__batch_keep_peers(
		struct sn_batch *b, const struct sn_path *path, struct sn_str json);
/** Any other value. @json: checked JSON text. @empty: monitors are not told when it goes away. */
SN_MUST_USE int sn__batch_set(struct sn_batch *b, enum sn_section section,
		const struct sn_path *path, struct sn_str json, bool empty);
SN_MUST_USE int sn__batch_set_absent(
		struct sn_batch *b, enum sn_section section, const struct sn_path *path);
/** Make every place of the section absent that this batch has not set. @group: all of them before
 * the first monitor is called, and monitors in order of registration. */
SN_MUST_USE int sn__batch_prune(struct sn_batch *b, enum sn_section section, bool group);
/** The same by JSON text of the path (state file). */
SN_MUST_USE int sn__batch_set_text(struct sn_batch *b, enum sn_section section, struct sn_str path,
		struct sn_str json, bool empty);

#endif
