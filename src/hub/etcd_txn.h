/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_ETCD_TXN_H
#define SN_SRC_HUB_ETCD_TXN_H

/*
 * Internal to the etcd engine: changes as one transaction of etcd. Several are carried in one, each as
 * a transaction of its own inside (with its own condition), in their order; they share a revision.
 */

#include "hub/etcd.h"

struct Etcd__TxnResponse; /* proto/generated/etcd.pb-c.h */
struct sn_etcd_batch;
/** NULL: no memory. */
SN_MUST_USE struct sn_etcd_batch *sn__etcd_batch_create(void);
void sn__etcd_batch_destroy(struct sn_etcd_batch *b /* may be NULL */);

/** Whether @op can go along with what is in @batch: the limits, and no key twice, which etcd refuses. */
bool sn__etcd_batch_takes(const struct sn_etcd_batch *b, const struct sn_hub_op *op);
/** SN_E_NOMEM. */
SN_MUST_USE int sn__etcd_batch_add(
		struct sn_etcd_batch *b, const struct sn_etcd *etcd, struct sn_hub_op *op);
/** What was added as a request; valid until sn__etcd_batch_clear(). */
const struct ProtobufCMessage *sn__etcd_batch_request(struct sn_etcd_batch *b);
void sn__etcd_batch_clear(struct sn_etcd_batch *b);

/** What became of @ops (sn_hub_op.link), as many as were sent, in that order: op->revision and
 * sn_etcd_op.code. SN_E_PROTOCOL: not the answer to that. */
SN_MUST_USE int sn__etcd_txn_results(const struct Etcd__TxnResponse *answer, struct sn_list *ops);

#endif
