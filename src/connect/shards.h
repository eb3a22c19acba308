/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_SHARDS_H
#define SN_SRC_CONNECT_SHARDS_H

/*
 * Internal. Who reads a stream: which shards there are, which of them may be read, from where, when,
 * and what is asked next. No I/O, no clock: the owner asks what is to be done, does it, and tells
 * how it went, so that the same code runs under seeds. One thread's.
 *
 *	while (sn__shards_next(s, now, &todo) != SN_SHARDS_IDLE)
 *		LIST, ITERATOR, READ	send todo.operation with todo.params; then, in a later
 *					turn, sn__shards_answer(s, todo.shard, ...)
 *		BATCH			give todo.batch out; then sn__shards_batch_done()
 *		CHECKPOINT, TROUBLE	tell
 *		END			tell, and ask no more
 *
 * A shard: new -> (its parents are read to their ends) -> iterator -> read -> batch -> read -> ...
 * -> ended. It has one request or one batch out at a time. A batch that was answered in part stays
 * here and is given out again.
 */

#include "base/buf.h"
#include "base/error.h"
#include "base/map.h"
#include "base/random.h"
#include "connect/batch.h"

#define SN_SHARDS_REQUESTS_MAX 32              /* under way at one time */
#define SN_SHARDS_READ_NS (200 * SN_NS_PER_MS) /* five reads a second and shard */

struct sn_shards_options {
	enum sn_queue_from from;
	uint64_t timestamp_ms;
	struct sn_str checkpoints;                           /* JSON; empty: none */
	const char *(*lookup)(const char *shard, void *arg); /* may be NULL */
	void *arg;
	const char *only; /* NULL: all */
	uint32_t max_records, poll_ms, list_ms;
	struct sn_rng *rng;             /* for pauses */
	uint64_t (*wall_ms)(void *arg); /* since 1970 */
	void *wall_arg;
};

struct sn_shard;
struct sn_shards;

enum sn_shards_kind {
	SN_SHARDS_IDLE, /* until todo.wake_ns, or something is told */
	SN_SHARDS_LIST,
	SN_SHARDS_ITERATOR,
	SN_SHARDS_READ,
	SN_SHARDS_BATCH,
	SN_SHARDS_CHECKPOINT,
	SN_SHARDS_TROUBLE,
	SN_SHARDS_END,
};
/* Everything lives until the next call of sn__shards_next(). */
struct sn_shards_todo {
	struct sn_shard *shard; /* NULL: LIST */
	const char *id;         /* of the shard; "" */
	struct sn_str operation;
	const char *params;
	struct sn_queue_batch *batch; /* the user's until it is done */
	const char *sequence;         /* CHECKPOINT */
	const struct sn_error *error; /* TROUBLE; END, where it may be NULL */
	uint64_t wake_ns;
};

/* How a request ended. */
struct sn_shards_answer {
	int code; /* 0: json */
	struct sn_str json;
	const char *type; /* of the service's error; "" */
	const char *text;
};

/** SN_E_INVALID (checkpoints that are no JSON object of texts), SN_E_NOMEM. */
SN_MUST_USE int sn__shards_create(const struct sn_shards_options *opts, struct sn_shards **ret_s,
		struct sn_error *err);
/** Batches that were given out stay the user's. */
void sn__shards_destroy(struct sn_shards *s /* may be NULL */);

enum sn_shards_kind sn__shards_next(
		struct sn_shards *s, uint64_t now_ns, struct sn_shards_todo *ret_todo);
/** @shard: the todo's; NULL: of LIST. */
void sn__shards_answer(struct sn_shards *s, struct sn_shard *shard,
		const struct sn_shards_answer *answer, uint64_t now_ns);
/** @n_done: of what was given out. The batch is ours again. */
void sn__shards_batch_done(
		struct sn_shards *s, struct sn_shard *shard, size_t n_done, uint64_t now_ns);
/** Nothing is begun any more; END comes when every batch that is out is done. */
void sn__shards_stop(struct sn_shards *s);
/** Requests whose answers have not been told. */
unsigned sn__shards_requests(const struct sn_shards *s);

#endif
