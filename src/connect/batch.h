/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_BATCH_H
#define SN_SRC_CONNECT_BATCH_H

/* Internal. What Kinesis answers to a reader, taken apart: records, shards, an iterator. No I/O. Any
 * thread. */

#include <sinew/queue.h>
#include "base/arena.h"
#include "base/str.h"
#include "io/loop.h"

#define SN_BATCH_RECORDS_MAX 10000 /* more are not sent by the service */
#define SN_SHARDS_MAX 100000       /* of a stream */
#define SN_SEQUENCE_MAX 128        /* bytes of a sequence number */

struct sn_shard;

/* ---- GetRecords ---- */

struct sn_queue_batch {
	struct sn_queue_message *messages;
	size_t n;
	size_t done;       /* of them answered, at the front */
	const char *shard; /* in the arena */
	uint64_t behind_ms;
	struct sn_arena arena;
	/* of the consumer that gave it out */
	struct sn_queue_consumer *consumer;
	struct sn_shard *owner;
	struct sn_task task;
	size_t n_answered;
};
struct sn_batch_answer {
	struct sn_queue_batch *batch; /* NULL: no records. The caller's */
	char *next;                   /* iterator; sn__free(); NULL: the shard has ended */
	uint64_t behind_ms;
};
/** SN_E_PROTOCOL (not what the service answers), SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__batch_parse(
		struct sn_str json, const char *shard, struct sn_batch_answer *ret_answer);
void sn__batch_destroy(struct sn_queue_batch *batch /* may be NULL */);

/* ---- GetShardIterator ---- */

/** *ret_iterator: sn__free(). SN_E_PROTOCOL, SN_E_NOMEM. */
SN_MUST_USE int sn__iterator_parse(struct sn_str json, char **ret_iterator);

/* ---- ListShards, DescribeStream ---- */

struct sn_shard_info {
	const char *id;
	const char *parents[2]; /* NULL: none */
	bool closed;            /* it takes no records any more */
};
/* Pages are added one by one. */
struct sn_shard_list {
	struct sn_shard_info *shards;
	size_t n, cap;
	struct sn_arena arena;
};
void sn__shard_list_init(struct sn_shard_list *list);
void sn__shard_list_finish(struct sn_shard_list *list); /* usable again */
/**
 * Add the page @json of either operation. *ret_next: what the next page is asked with (NextToken;
 * of DescribeStream the id of the last shard), in the list's arena, NULL after the last.
 * SN_E_PROTOCOL, SN_E_LIMIT, SN_E_NOMEM: finish it.
 */
SN_MUST_USE int sn__shard_list_add(
		struct sn_shard_list *list, struct sn_str json, const char **ret_next);

#endif
