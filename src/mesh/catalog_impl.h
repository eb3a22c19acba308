/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_CATALOG_IMPL_H
#define SN_SRC_MESH_CATALOG_IMPL_H

/* Internal to catalog.c (finding and reading), catalog_write.c (batches), catalog_publish.c (the
 * loop's part: order of updates, publishing, monitors, freeing). */

#include <pthread.h>

#include "mesh/catalog_write.h"
#include "mesh/index.h"

#define SN_CATALOG_ITEMS_MAX (16u << 20) /* targets, and sources */

/* One place of the registry. */
struct sn_source {
	_Atomic(const struct sn_peers *) value; /* written on the loop, with the lock */
	_Atomic(struct sn_source *) next;       /* of its section, in order of appearance */
	struct sn_target *targets;              /* lock; linked by their bound[] */
	bool kept;                              /* not pruned; written and read by work() */
	uint32_t batch;                         /* number of the batch that set it last */
	uint16_t len;
	char key[]; /* section as a digit, JSON text of the path */
};

struct sn_target {
	struct sn_catalog *cat;
	struct sn_target *next; /* of the catalog */
	const char *text;
	struct sn_list monitors;
	struct {
		struct sn_source *source;
		struct sn_target *next; /* of the source */
	} bound[SN_TARGET_RANKS];
	uint32_t group; /* number of the batch with a group that touched it last */
	uint8_t n_sources;
	/* What a look-up reads lies close together. */
	uint16_t key_len, kind_len, name_len;
	_Atomic(void *) slot;
	_Atomic(const struct sn_peers *) value; /* of the best source that is present; lock */
	char key[]; /* kind, name, endpoint, a NUL behind each; then the text */
};

/* What a batch wants to publish. */
struct sn_change {
	struct sn_source *source;
	struct sn_peers *value; /* NULL: absent */
	const uint32_t *carry;
	bool group; /* published together with the next one */
};

struct sn_batch {
	struct sn_catalog *cat;
	struct sn_arena keep;    /* until all is published */
	struct sn_arena temp;    /* the dialect's, while work() runs */
	struct sn_arena scratch; /* while one value is compared */
	struct sn_change *changes;
	uint32_t n, cap, pos;
	uint32_t number;
};

struct sn_catalog {
	struct sn_loop *loop;
	sn_paths_fn *paths;
	void *paths_arg;

	/* Held to intern, to bind and to change a value; readers do not take it. */
	pthread_mutex_t lock;
	struct sn_index sources, targets;
	uint32_t n_sources, n_targets;
	struct {
		_Atomic(struct sn_source *) first;
		struct sn_source *last;
	} section[SN_SECTIONS];
	_Atomic(struct sn_target *) all_targets;
	struct sn_rcu_batch retired;
	size_t retired_size;

	/* Loop thread. */
	struct sn_list updates;   /* sn_update.link, waiting */
	struct sn_update *update; /* being worked on or published */
	int update_code;
	struct sn_batch batch;
	struct sn_list due;    /* sn_target_monitor.queue: to be told of a change */
	struct sn_list firsts; /* the same: to be told of the value present at registration */
	uint64_t version, monitors;
	uint32_t slice_changes; /* at most a turn */
	struct sn_task pump;
	bool pumping, closed;
	bool in_group;   /* the changes published last and next belong together */
	bool ends_group; /* the change published last was the last of its group */
	bool unsorted;   /* due is */
	bool working;    /* the batch is with the helper thread */
	bool freeing;    /* retired versions are */
	struct sn_job work_job, free_job;
	struct sn_rcu_batch freed;
	struct sn_arena garbage; /* freed off the loop, too */
};

/** The source, or NULL. Any thread; inside a read section or with the lock. */
struct sn_source *sn__source_find(struct sn_catalog *cat, struct sn_str key);
/** The source, made when missing. Takes the lock. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__source_intern(
		struct sn_catalog *cat, struct sn_str key, struct sn_source **ret_source);
/** The key of a place: its length, or SN_E_LIMIT. @out NULL: only an upper bound of the length. */
int sn__source_key(enum sn_section section, const struct sn_path *path, char *out, size_t size);
/** Lock held: what the target's value should be. */
const struct sn_peers *sn__target_effective(const struct sn_target *t);

void sn__batch_init(struct sn_batch *b, struct sn_catalog *cat, uint32_t number);
/** Values that were not published are dropped. */
void sn__batch_finish(struct sn_batch *b);
/** The loop's part of destroying. */
void sn__catalog_stop(struct sn_catalog *cat);
void sn__catalog_free(struct sn_catalog *cat);

/** Tests: publish at most @changes changes a turn. */
void sn__catalog_limit_slice(struct sn_catalog *cat, uint32_t changes);

#endif
