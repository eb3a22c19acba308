/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_QUEUE_H
#define SN_QUEUE_H

#ifndef SN_UNSTABLE
#error "sinew/queue.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/base.h>
#include <sinew/context.h>
#include <sinew/error.h>
#include <sinew/mesh.h>
#include <sinew/resource.h>
#include <sinew/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Queues (Kinesis streams) with records as bytes: putting them, and following a stream. On top of
 * sn_queue_call() of sinew/resource.h; @name as there. Threads: any. Callbacks run on the loop
 * thread.
 */

/* ---- putting ---- */

/** A record to put. */
struct sn_queue_record {
	const void *data;          /* bytes, not base64; NULL when there are none */
	size_t data_size;          /* with the key at most 1 MiB */
	const char *partition_key; /* 1 to 256 characters: which shard */
	const char *hash_key; /* decimal, 0 to 2^128-1: the shard, instead of the key's hash; NULL */
};

/** What became of the records of one sn_queue_put(); immutable. */
struct sn_queue_puts;
struct sn_queue_put_info {
	const char *shard, *sequence; /* where it is stored; "" when it is not */
	const char *error_type; /* why it is not: the service's name ("InternalFailure"); NULL: it is
	                           * stored. "": its request failed, or was never made */
	const char *error_text; /* "" when it is stored */
};
SN_API size_t sn_queue_puts_count(const struct sn_queue_puts *puts);
SN_API size_t sn_queue_puts_failed(const struct sn_queue_puts *puts);
/** Requests made for them. */
SN_API size_t sn_queue_puts_requests(const struct sn_queue_puts *puts);
/** Record @index, in the order given. SN_E_INVALID. */
SN_API SN_MUST_USE int sn_queue_puts_at(
		const struct sn_queue_puts *puts, size_t index, struct sn_queue_put_info *ret_info);
SN_API void sn_queue_puts_destroy(struct sn_queue_puts *puts /* may be NULL */); /* of _wait only */

/** @err NULL: all are stored. Else @puts (NULL when memory is out) says which are not. Borrowed for
 * the call. */
typedef void sn_queue_puts_fn(
		const struct sn_queue_puts *puts, const struct sn_error *err, void *arg);

#define SN_QUEUE_PUT_MAX 100000 /* records of one sn_queue_put() */

/**
 * Put @n records (1 to SN_QUEUE_PUT_MAX; copied), in requests of at most 500 records and 5 MiB, one
 * after the other. Records that the service refuses one by one (throttled shards, its own failures)
 * are sent again, they alone, after a pause, as the queue's policies say (retry-count,
 * retry-initial-delay, ...; nothing with SN_RETRY_NONE), before the next request. A request that
 * fails as a whole is retried like any call, and once it has failed for good, nothing more is sent.
 *
 * Every record that is stored is stored at least once: after an answer that was lost it may be there
 * twice. Order: of records with one key within a request is kept until one of them has to be sent
 * again: it comes after those that were taken. Who needs strict order puts one record at a time.
 *
 * @opts: deadline_ms, and that of the context, are for all of it. The end is SN_E_STATUS when records
 * were refused for good, else the error of the request that failed. SN_E_INVALID (*ret_error says which record), SN_E_LIMIT,
 * SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED. @fn runs exactly once, never before this returned.
 */
SN_API SN_MUST_USE int sn_queue_put(struct sn_runtime *rt, const char *name,
		const struct sn_queue_record *records, size_t n,
		const struct sn_resource_options *opts /* may be NULL */, sn_queue_puts_fn *fn,
		void *arg, struct sn_error **ret_error /* may be NULL */);
/** The same, blocking. *ret_puts (may be NULL) is set also when some are not stored, and owned by
 * the caller. SN_E_DEADLK as sn_request_wait(). */
SN_API SN_MUST_USE int sn_queue_put_wait(struct sn_runtime *rt, const char *name,
		const struct sn_queue_record *records, size_t n,
		const struct sn_resource_options *opts /* may be NULL */,
		struct sn_queue_puts **ret_puts /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);

/* ---- following a stream ---- */

/** Records of one shard, in its order, answered together. */
struct sn_queue_batch;
struct sn_queue_message {
	const void *data; /* bytes; a NUL stands behind them */
	size_t data_size;
	const char *partition_key, *sequence;
	uint64_t arrival_ms; /* at the service, since 1970; 0: it did not say */
};
SN_API size_t sn_queue_batch_count(const struct sn_queue_batch *batch);
/** Record @index; texts live until the batch is answered. SN_E_INVALID. */
SN_API SN_MUST_USE int sn_queue_batch_at(const struct sn_queue_batch *batch, size_t index,
		struct sn_queue_message *ret_message);
SN_API const char *sn_queue_batch_shard(const struct sn_queue_batch *batch);
/** How far behind the shard's end it was read. */
SN_API uint64_t sn_queue_batch_behind_ms(const struct sn_queue_batch *batch);
/**
 * Answer a batch, exactly once; it is gone then. The first @n_done records are dealt with; what is
 * left of them (none: sn_queue_batch_count()) comes again, in a new batch, after a pause that grows
 * from one second to thirty. The shard's next batch comes only then. Any thread, inside the callback
 * too, and also after the consumer has ended.
 */
SN_API void sn_queue_batch_answer(struct sn_queue_batch *batch, size_t n_done);

enum sn_queue_from {
	SN_QUEUE_TRIM_HORIZON = 0, /* the oldest record there is */
	SN_QUEUE_LATEST = 1,       /* what is put from now on */
	SN_QUEUE_AT_TIMESTAMP = 2,
};

/** The checkpoint of a shard that has been read to its end (it was split or merged). */
#define SN_QUEUE_SHARD_END "SHARD_END"

struct sn_queue_consumer_options {
	size_t size; /* sizeof(struct sn_queue_consumer_options) */
	/* where to begin in shards without a checkpoint */
	enum sn_queue_from from;
	uint64_t timestamp_ms;   /* AT_TIMESTAMP: since 1970; not in the future */
	const char *checkpoints; /* {"shard": "sequence number", ...}: go on behind them; NULL */
	/** Asked once a shard that @checkpoints does not name: its checkpoint, or NULL for none;
	 * read at once. May be NULL. */
	const char *(*lookup)(const char *shard, void *arg);
	const char *shard;    /* only this one, without waiting for its parents; NULL: all */
	uint32_t max_records; /* of a batch, 1 to 10,000; 0: 1,000 */
	uint32_t poll_ms; /* pause of a shard that had nothing, at least 200; 0: 1,000. A shard that
	                   * has more is read five times a second, the service's limit */
	uint32_t list_ms; /* how often shards are listed although none ended; 0: 60,000 */
	/** Records to deal with; sn_queue_batch_answer() is due. */
	void (*on_batch)(struct sn_queue_batch *batch, void *arg);
	/** Everything of @shard up to @sequence has been answered: to be kept and given back as
	 * `checkpoints` after a restart. May be NULL. */
	void (*on_checkpoint)(const char *shard, const char *sequence, void *arg);
	/** Something does not work and is tried again: throttled, connection lost. @shard "": the
	 * list of shards. May be NULL. */
	void (*on_trouble)(const char *shard, const struct sn_error *err, void *arg);
	/** The last callback, exactly once. @err NULL: sn_queue_consumer_stop(), or the one shard
	 * asked for has been read to its end. */
	void (*on_end)(const struct sn_error *err /* may be NULL */, void *arg);
	void *arg;
};
#define SN_QUEUE_CONSUMER_INIT \
	{ \
		.size = sizeof(struct sn_queue_consumer_options) \
	}

/**
 * Follow all shards of a stream, also through splits and merges: the children of a shard begin when
 * the last batch of it has been answered. Shards are read side by side, and each has one batch with
 * the user at most: who does not answer is not given more. Every record is delivered at least once,
 * those of a shard in their order; with checkpoints kept, also across restarts.
 *
 * Throttling, failures and lost connections are waited out for ever (told to on_trouble); what the
 * service refuses (no such stream, no permission, a checkpoint of another stream) ends the consumer.
 * A stream of several entries is read at the first one. Records that the Kinesis Producer Library
 * has aggregated are not taken apart. @opts is copied.
 *
 * SN_E_INVALID (*ret_error), SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED.
 */
struct sn_queue_consumer;
SN_API SN_MUST_USE int sn_queue_consume(struct sn_runtime *rt, const char *name,
		const struct sn_queue_consumer_options *opts,
		struct sn_queue_consumer **ret_consumer,
		struct sn_error **ret_error /* may be NULL */);
/**
 * Stop: nothing more is read; on_end comes (unless it has) when every batch that was given out is
 * answered, at most @drain_ms from now (0: for ever). Exactly once a consumer, also one that ended by itself:
 * @consumer is gone with this call. sn_close() ends what is left of them with SN_E_CLOSED and waits
 * for no answer; they must not be stopped after it was called.
 */
SN_API void sn_queue_consumer_stop(struct sn_queue_consumer *consumer, uint32_t drain_ms);

#ifdef __cplusplus
}
#endif
#endif /* SN_QUEUE_H */
