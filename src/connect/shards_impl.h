/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_SHARDS_IMPL_H
#define SN_SRC_CONNECT_SHARDS_IMPL_H

/* Internal, of shards.c and shards_list.c. */

#include "connect/shards.h"

enum sn_shard_state {
	SN_SHARD_NEW,      /* its parents have not ended */
	SN_SHARD_ITERATOR, /* has none */
	SN_SHARD_READ,     /* has one */
	SN_SHARD_BUSY,     /* a request is under way */
	SN_SHARD_BATCH,    /* has records to give out */
	SN_SHARD_OUT,      /* the user has them */
	SN_SHARD_LOST,     /* the service does not know it any more: the list decides */
	SN_SHARD_ENDED,
};
/* Where the first iterator begins. */
enum sn_shard_begin {
	SN_SHARD_AT_HORIZON,
	SN_SHARD_AT_LATEST,
	SN_SHARD_AT_TIME,
	SN_SHARD_AFTER, /* behind `position` */
};

struct sn_shard {
	struct sn_list link; /* s->shards */
	enum sn_shard_state state;
	enum sn_shard_begin begin;
	char *id, *parents[2];              /* parents: NULL when there are none */
	char position[SN_SEQUENCE_MAX + 1]; /* up to which all is answered; "": nothing yet */
	char *iterator; /* NULL in READ and behind: the shard ends after the batch */
	struct sn_queue_batch *batch;
	uint64_t due_ns;      /* nothing is done with it before */
	uint64_t read_ns;     /* of the last GetRecords; 0: never */
	uint64_t read_due_ns; /* of the next one, once the batch is done */
	uint64_t asked_ms;    /* wall clock when the last request was made */
	uint64_t latest_ms;   /* AT_LATEST, nothing read yet: what came before is not wanted */
	uint32_t limit;       /* records of a GetRecords */
	unsigned failures;    /* in a row */
	unsigned leftovers;   /* batches in a row of which nothing was done */
	unsigned generation;  /* of the list that has it */
	bool reading;         /* BUSY: GetRecords, else GetShardIterator */
	bool closed;          /* takes no records any more */
	bool checkpoint;      /* `position` (of an ended one: the end) is to be told */
	bool fresh;           /* where it begins is not decided */
	bool known;           /* it has a checkpoint, or one of its family says where it begins */
	bool ours;            /* it was read here to its end */
	bool has_child;       /* in the last list */
};

struct sn_shards {
	struct sn_shards_options o;
	struct sn_list shards; /* sn_shard.link; the one served last at the end */
	struct sn_map by_id;
	struct sn_map checkpoints; /* shard -> text, both in texts */
	struct sn_arena texts;
	struct sn_buf params;
	unsigned requests;
	bool stopped, ended;
	/* the list */
	struct sn_shard_list list; /* of the pages so far */
	const char *next;          /* of the next page; NULL: the first */
	unsigned pages;
	unsigned generation;
	bool listing;  /* under way */
	bool listed;   /* once, whole */
	bool describe; /* an old server: DescribeStream */
	uint64_t list_due_ns, list_ns;
	unsigned list_failures;
	/* to be told */
	struct sn_error trouble, error; /* code 0: none */
	struct sn_error error_told;
	char trouble_shard[160];
	struct sn_list *cursor; /* of the present pass over shards; NULL: none */
	bool found;             /* something to be done in this pass */
	uint64_t wake_ns;
};

void sn__shards_fail(
		struct sn_shards *s, const char *id, int code, const char *type, const char *text);
void sn__shards_trouble(
		struct sn_shards *s, const char *id, int code, const char *type, const char *text);
/** A pause after @failures in a row: a quarter of a second, doubled, up to 10 s, with jitter. */
uint64_t sn__shards_pause_ns(struct sn_shards *s, unsigned failures);
void sn__shard_free(struct sn_shard *sh);

/* ---- shards_list.c ---- */

SN_MUST_USE int sn__shards_list_params(struct sn_shards *s);
void sn__shards_list_answer(struct sn_shards *s, const struct sn_shards_answer *a, uint64_t now_ns);
/** New shards whose parents have ended may be read. */
void sn__shards_release(struct sn_shards *s);

/* What an answer that is none asks for. */
enum sn_shards_verdict {
	SN_SHARDS_AGAIN,
	SN_SHARDS_EXPIRED, /* iterator, token */
	SN_SHARDS_UNKNOWN, /* no such stream or shard */
	SN_SHARDS_OLD,     /* no such operation */
	SN_SHARDS_LARGE,   /* the answer was larger than allowed */
	SN_SHARDS_FINAL,
};
enum sn_shards_verdict sn__shards_verdict(const struct sn_shards_answer *a);

#endif
