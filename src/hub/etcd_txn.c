/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/etcd_txn.h"

#include "base/map.h"
#include "proto/generated/etcd.pb-c.h"

/* One change: if (the key's revision is so) then put or remove, else look at what there is. */
struct slot {
	Etcd__Compare compare, *compares[1];
	Etcd__PutRequest put;
	Etcd__DeleteRangeRequest remove;
	Etcd__RangeRequest look;
	Etcd__RequestOp then, otherwise, *success[1], *failure[1];
	Etcd__TxnRequest txn;
	Etcd__RequestOp inner;
	uint64_t hash;
	struct sn_str key; /* of the operation */
};

struct sn_etcd_batch {
	unsigned n;
	size_t bytes;
	struct sn_buf keys[SN_ETCD_BATCH];
	struct slot slots[SN_ETCD_BATCH];
	Etcd__RequestOp *all[SN_ETCD_BATCH];
	Etcd__TxnRequest txn;
};

struct sn_etcd_batch *sn__etcd_batch_create(void)
{
	struct sn_etcd_batch *b = sn__calloc(1, sizeof(*b));

	for (unsigned i = 0; b != NULL && i < SN_ETCD_BATCH; i++)
		sn__buf_init(&b->keys[i], SN_ETCD_PREFIX_MAX + SN_HUB_KEY_MAX);
	return b;
}

void sn__etcd_batch_destroy(struct sn_etcd_batch *b)
{
	if (b != NULL)
		sn__etcd_batch_clear(b);
	sn__free(b);
}

void sn__etcd_batch_clear(struct sn_etcd_batch *b)
{
	while (b->n > 0)
		sn__buf_finish(&b->keys[--b->n]);
	b->bytes = 0;
}

static size_t size_of(const struct sn_hub_op *op)
{
	return op->key.len * 3 + op->value.len + SN_ETCD_PREFIX_MAX * 3 + 100;
}

bool sn__etcd_batch_takes(const struct sn_etcd_batch *b, const struct sn_hub_op *op)
{
	uint64_t hash = sn__hash(op->key);

	if (b->n == SN_ETCD_BATCH || (b->n > 0 && b->bytes + size_of(op) > SN_ETCD_BATCH_BYTES))
		return false;
	for (unsigned i = 0; i < b->n; i++)
		if (b->slots[i].hash == hash && sn_str_eq(b->slots[i].key, op->key))
			return false;
	return true;
}

static ProtobufCBinaryData data_of(struct sn_str s)
{
	return (ProtobufCBinaryData){s.len, (uint8_t *)(uintptr_t)s.ptr};
}

static void fill_change(struct slot *s, const struct sn_hub_op *op, ProtobufCBinaryData key)
{
	s->then = (Etcd__RequestOp)ETCD__REQUEST_OP__INIT;
	if (op->kind == SN_HUB_PUT) {
		s->put = (Etcd__PutRequest)ETCD__PUT_REQUEST__INIT;
		s->put.key = key;
		s->put.value = data_of(op->value);
		s->put.lease = (int64_t)op->lease;
		s->then.request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_PUT;
		s->then.request_put = &s->put;
	} else {
		s->remove = (Etcd__DeleteRangeRequest)ETCD__DELETE_RANGE_REQUEST__INIT;
		s->remove.key = key;
		s->then.request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
		s->then.request_delete_range = &s->remove;
	}
	s->success[0] = &s->then;
	s->txn.n_success = 1;
	s->txn.success = s->success;
}

static void fill_condition(struct slot *s, const struct sn_hub_op *op, ProtobufCBinaryData key)
{
	s->compare = (Etcd__Compare)ETCD__COMPARE__INIT;
	s->compare.result = ETCD__COMPARE__RESULT__EQUAL;
	s->compare.target = ETCD__COMPARE__TARGET__MOD; /* 0: there is no such key */
	s->compare.key = key;
	s->compare.target_union_case = ETCD__COMPARE__TARGET_UNION_MOD_REVISION;
	s->compare.mod_revision = (int64_t)op->if_revision;
	s->compares[0] = &s->compare;
	s->txn.n_compare = 1;
	s->txn.compare = s->compares;
	s->look = (Etcd__RangeRequest)ETCD__RANGE_REQUEST__INIT;
	s->look.key = key;
	s->look.keys_only = true;
	s->otherwise = (Etcd__RequestOp)ETCD__REQUEST_OP__INIT;
	s->otherwise.request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_RANGE;
	s->otherwise.request_range = &s->look;
	s->failure[0] = &s->otherwise;
	s->txn.n_failure = 1;
	s->txn.failure = s->failure;
}

int sn__etcd_batch_add(struct sn_etcd_batch *b, const struct sn_etcd *etcd, struct sn_hub_op *op)
{
	struct slot *s = &b->slots[b->n];
	struct sn_buf *keys = &b->keys[b->n];
	ProtobufCBinaryData key;

	if (sn__buf_append(keys, etcd->prefix, etcd->prefix_len) < 0 ||
			sn__buf_append_str(keys, op->key) < 0) {
		sn__buf_finish(keys);
		return SN_E_NOMEM;
	}
	key = data_of(sn__buf_str(keys));
	s->hash = sn__hash(op->key);
	s->key = op->key;
	s->txn = (Etcd__TxnRequest)ETCD__TXN_REQUEST__INIT;
	fill_change(s, op, key);
	if (op->if_revision != SN_HUB_ANY)
		fill_condition(s, op, key);
	s->inner = (Etcd__RequestOp)ETCD__REQUEST_OP__INIT;
	s->inner.request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_TXN;
	s->inner.request_txn = &s->txn;
	b->all[b->n++] = &s->inner;
	b->bytes += size_of(op);
	return 0;
}

const ProtobufCMessage *sn__etcd_batch_request(struct sn_etcd_batch *b)
{
	if (b->n == 1)
		return &b->slots[0].txn.base;
	b->txn = (Etcd__TxnRequest)ETCD__TXN_REQUEST__INIT;
	b->txn.n_success = b->n;
	b->txn.success = b->all;
	return &b->txn.base;
}

/* ---- answers ---- */

static int result(const Etcd__TxnResponse *answer, uint64_t revision, struct sn_hub_op *op)
{
	struct sn_etcd_op *e = sn_etcd_op(op);
	const Etcd__ResponseOp *r;

	if (answer == NULL || answer->n_responses != 1)
		return SN_E_PROTOCOL;
	r = answer->responses[0];
	op->revision = revision;
	e->code = 0;
	if (!answer->succeeded) {
		if (r->response_case != ETCD__RESPONSE_OP__RESPONSE_RESPONSE_RANGE)
			return SN_E_PROTOCOL;
		e->code = SN_E_EXISTS;
		op->revision = r->response_range->n_kvs > 0
				? (uint64_t)r->response_range->kvs[0]->mod_revision
				: 0;
		return 0;
	}
	if (op->kind == SN_HUB_PUT)
		return r->response_case == ETCD__RESPONSE_OP__RESPONSE_RESPONSE_PUT ? 0
										    : SN_E_PROTOCOL;
	if (r->response_case != ETCD__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE)
		return SN_E_PROTOCOL;
	if (r->response_delete_range->deleted == 0)
		e->code = SN_E_NOT_FOUND;
	return 0;
}

int sn__etcd_txn_results(const Etcd__TxnResponse *answer, struct sn_list *ops)
{
	uint64_t revision = answer->header != NULL ? (uint64_t)answer->header->revision : 0;
	bool one = ops->next->next == ops;
	size_t i = 0;

	if (one)
		return result(answer, revision, SN_CONTAINER_OF(ops->next, struct sn_hub_op, link));
	SN_LIST_FOREACH (node, ops) {
		const Etcd__ResponseOp *r = i < answer->n_responses ? answer->responses[i++] : NULL;
		int code = SN_E_PROTOCOL;

		if (r != NULL && r->response_case == ETCD__RESPONSE_OP__RESPONSE_RESPONSE_TXN)
			code = result(r->response_txn, revision,
					SN_CONTAINER_OF(node, struct sn_hub_op, link));
		if (code < 0)
			return code;
	}
	return i == answer->n_responses ? 0 : SN_E_PROTOCOL;
}
