/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_PUTS_H
#define SN_SRC_CONNECT_PUTS_H

/*
 * Internal. The records of one sn_queue_put(): cut into requests, written as PutRecords takes them,
 * and what the answers say of each. No I/O. One thread's.
 *
 *	while (!sn_puts_over(p))
 *		sn__puts_body(p, &body)		what of the present request is not stored
 *		sn__puts_answer(p, json, &left)	left > 0: send again, or
 *		sn__puts_next(p)		to the next request
 */

#include <sinew/queue.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#define SN_PUTS_RECORDS_MAX 500             /* of a request */
#define SN_PUTS_BYTES_MAX ((size_t)5 << 20) /* of data and keys in a request */
#define SN_PUTS_RECORD_MAX ((size_t)10 << 20)
#define SN_PUTS_ALL_MAX ((size_t)256 << 20) /* data and keys of one call */

struct sn_put {
	struct sn_str data;
	const char *partition_key, *hash_key; /* hash_key: may be NULL */
	/* what became of it */
	const char *shard, *sequence;
	const char *error_type, *error_text; /* type NULL: none */
	bool stored;
};
struct sn_queue_puts {
	struct sn_put *v;
	size_t n, n_stored;
	size_t n_requests;
	size_t first, end; /* of the present request */
	struct sn_arena arena;
	bool lone; /* of a _wait call: the caller frees it */
};

/** Copies everything. SN_E_INVALID, SN_E_LIMIT: err says which record; SN_E_NOMEM. */
SN_MUST_USE int sn__puts_create(const struct sn_queue_record *records, size_t n,
		struct sn_queue_puts **ret_puts, struct sn_error *err);
void sn__puts_destroy(struct sn_queue_puts *p /* may be NULL */);

static inline bool sn_puts_over(const struct sn_queue_puts *p)
{
	return p->first == p->n;
}
/** Parameters of PutRecords with a NUL that counts; @out is overwritten. SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__puts_body(struct sn_queue_puts *p, struct sn_buf *out);
/** @ret_left: records of the request that were refused. SN_E_PROTOCOL (no such answer), SN_E_NOMEM:
 * nothing is known of them. */
SN_MUST_USE int sn__puts_answer(struct sn_queue_puts *p, struct sn_str json, size_t *ret_left);
void sn__puts_next(struct sn_queue_puts *p);
/** The request failed as a whole; what is not stored gets this reason, and what was not sent "not
 * sent". */
void sn__puts_fail(struct sn_queue_puts *p, const char *type, const char *text);

#endif
