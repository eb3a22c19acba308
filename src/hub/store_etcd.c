/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hub's store in etcd, version 3 (3.3 and later), by its gRPC API.
 *
 * Operations are carried out in the order of submission, so there is one call at a time: etcd works on
 * the streams of a connection in any order. For that to be quick, changes that wait together go as one
 * transaction. Only leases are kept alive beside that, for they must not wait for a long range.
 *
 * What surely was not done is tried again, at the next member, until its time is up. What may have been
 * done is repeated only where that does no harm (a range; a grant, whose first lease then expires).
 */
#include "connect/driver.h"
#include "hub/etcd_txn.h"
#include "proto/generated/etcd.pb-c.h"

#define PAGE_MAX 8192u /* entries asked for at once */
#define PAGE_FIRST 512u
#define PAGE_BYTES (1u << 20) /* aimed at */

static struct sn_etcd *etcd_of(struct sn_hub_store *store)
{
	return SN_CONTAINER_OF(store, struct sn_etcd, store);
}

static struct sn_hub_op *op_at(const struct sn_list *node)
{
	return SN_CONTAINER_OF(node, struct sn_hub_op, link);
}

/* ---- keys ---- */

void sn__etcd_key(const struct sn_etcd *etcd, struct sn_str key, struct sn_etcd_key *ret_key)
{
	assert(key.len <= SN_HUB_KEY_MAX);
	memcpy(ret_key->bytes, etcd->prefix, etcd->prefix_len);
	if (key.len > 0)
		memcpy(ret_key->bytes + etcd->prefix_len, key.ptr, key.len);
	ret_key->len = etcd->prefix_len + key.len;
	if (ret_key->len == 0)
		ret_key->bytes[ret_key->len++] = '\0'; /* the first of all */
}

void sn__etcd_key_after(const struct sn_etcd_key *key, struct sn_etcd_key *ret_end)
{
	*ret_end = *key;
	if (key->len == 1 && key->bytes[0] == '\0')
		return; /* "\0" to "\0" is everything */
	while (ret_end->len > 0 && ret_end->bytes[ret_end->len - 1] == 0xff)
		ret_end->len--;
	if (ret_end->len > 0)
		ret_end->bytes[ret_end->len - 1]++;
	else
		ret_end->bytes[ret_end->len++] = '\0';
}

bool sn__etcd_entry(const struct sn_etcd *etcd, const Etcd__KeyValue *kv,
		struct sn_hub_entry *ret_entry)
{
	if (kv->key.len < etcd->prefix_len ||
			memcmp(kv->key.data, etcd->prefix, etcd->prefix_len) != 0)
		return false;
	*ret_entry = (struct sn_hub_entry){
			.key = {(const char *)kv->key.data + etcd->prefix_len,
					kv->key.len - etcd->prefix_len},
			.value = {(const char *)kv->value.data, kv->value.len},
			.created = (uint64_t)kv->create_revision,
			.revision = (uint64_t)kv->mod_revision,
			.lease = (uint64_t)kv->lease,
	};
	return true;
}

/* ---- operations end ---- */

void sn__etcd_op_done(struct sn_hub_op *op, int code, const struct sn_error *err)
{
	if (code < 0 && err != NULL) {
		op->err = *err;
		op->err.code = code;
	} else if (code < 0) {
		sn__error_set(&op->err, code, "etcd: %s",
				code == SN_E_TIMEOUT ? "no answer in time" : sn_strerror(code));
	}
	op->done(op, code);
}

static void complete(
		struct sn_etcd *etcd, struct sn_hub_op *op, int code, const struct sn_error *err)
{
	sn_list_remove(&op->link);
	if (etcd->range.op == op)
		etcd->range.op = NULL;
	if (op->kind == SN_HUB_REVOKE)
		etcd->n_revokes--;
	sn__etcd_op_done(op, code, err);
}

static void complete_all(
		struct sn_etcd *etcd, struct sn_list *list, int code, const struct sn_error *err)
{
	struct sn_list now;

	sn_list_init(&now);
	sn_list_splice_back(&now, list);
	while (!sn_list_empty(&now))
		complete(etcd, op_at(now.next), code, err);
}

static void complete_failed(struct sn_etcd *etcd)
{
	struct sn_list now;

	sn_list_init(&now);
	sn_list_splice_back(&now, &etcd->failed);
	while (!sn_list_empty(&now))
		complete(etcd, op_at(now.next), sn_etcd_op(op_at(now.next))->code, NULL);
}

/* ---- time ---- */

static void set_timer(struct sn_etcd *etcd);

static void on_timer(struct sn_timer *timer)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(timer, struct sn_etcd, timer);
	uint64_t now_ns = sn__loop_now_ns(etcd->link.loop);
	int code;
	const struct sn_error *why = sn_etcd_link_why(&etcd->link, &code);
	struct sn_list overdue;

	if (!sn_list_empty(&etcd->flight) && sn_etcd_op(op_at(etcd->flight.next))->due_ns <= now_ns)
		sn__etcd_cancel(&etcd->call, SN_E_TIMEOUT); /* done() has the rest */
	sn_list_init(&overdue);
	while (!sn_list_empty(&etcd->queue) &&
			sn_etcd_op(op_at(etcd->queue.next))->due_ns <= now_ns) {
		struct sn_list *node = sn_list_pop_front(&etcd->queue);

		sn_list_push_back(&overdue, node);
	}
	complete_all(etcd, &overdue, code, why);
	set_timer(etcd);
	sn__etcd_pump(etcd);
}

static void set_timer(struct sn_etcd *etcd)
{
	struct sn_loop *loop = etcd->link.loop;
	uint64_t due_ns = SN_NEVER_NS;

	if (!sn_list_empty(&etcd->flight) && etcd->call.why == 0)
		due_ns = sn_etcd_op(op_at(etcd->flight.next))->due_ns;
	if (!sn_list_empty(&etcd->queue))
		due_ns = SN_MIN(due_ns, sn_etcd_op(op_at(etcd->queue.next))->due_ns);
	if (due_ns != SN_NEVER_NS)
		sn__timer_start(loop, &etcd->timer, sn_time_until(sn__loop_now_ns(loop), due_ns),
				on_timer);
	else if (sn_timer_armed(&etcd->timer))
		sn__timer_stop(loop, &etcd->timer);
}

/* ---- answers ---- */

static int on_txn(struct sn_etcd_call *call, const ProtobufCMessage *message)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(call, struct sn_etcd, call);

	return sn__etcd_txn_results((const Etcd__TxnResponse *)message, &etcd->flight);
}

static int on_page(struct sn_etcd_call *call, const ProtobufCMessage *message)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(call, struct sn_etcd, call);
	const Etcd__RangeResponse *answer = (const Etcd__RangeResponse *)message;
	struct sn_etcd_range *range = &etcd->range;
	struct sn_hub_op *op = range->op;
	size_t bytes = 0;

	if (answer->header == NULL || (answer->more && answer->n_kvs == 0))
		return SN_E_PROTOCOL;
	if (range->revision == 0)
		range->revision = (uint64_t)answer->header->revision;
	for (size_t i = 0; i < answer->n_kvs; i++) {
		struct sn_hub_entry entry;

		if (!sn__etcd_entry(etcd, answer->kvs[i], &entry) || entry.key.len > SN_HUB_KEY_MAX)
			continue; /* not of ours */
		bytes += entry.key.len + entry.value.len + 64;
		op->entry(op, &entry);
	}
	sn_etcd_op(op)->code = answer->more ? SN_E_AGAIN : 0;
	op->revision = range->revision;
	if (!answer->more)
		return 0;
	if (answer->kvs[answer->n_kvs - 1]->key.len >= sizeof(range->next.bytes))
		return SN_E_PROTOCOL;
	range->next.len = answer->kvs[answer->n_kvs - 1]->key.len;
	memcpy(range->next.bytes, answer->kvs[answer->n_kvs - 1]->key.data, range->next.len);
	range->next.bytes[range->next.len++] = '\0';
	bytes = bytes / answer->n_kvs + 1;
	range->limit = (unsigned)SN_MAX(1u, SN_MIN(PAGE_BYTES / bytes, PAGE_MAX));
	return 0;
}

static int on_grant(struct sn_etcd_call *call, const ProtobufCMessage *message)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(call, struct sn_etcd, call);
	const Etcd__LeaseGrantResponse *answer = (const Etcd__LeaseGrantResponse *)message;
	struct sn_hub_op *op = op_at(etcd->flight.next);

	if (answer->id == 0 || answer->error[0] != '\0')
		return SN_E_PROTOCOL;
	op->granted = (uint64_t)answer->id;
	op->revision = answer->header != NULL ? (uint64_t)answer->header->revision : 0;
	sn_etcd_op(op)->code = 0;
	return 0;
}

static int on_revoke(struct sn_etcd_call *call, const ProtobufCMessage *message)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(call, struct sn_etcd, call);
	const Etcd__LeaseRevokeResponse *answer = (const Etcd__LeaseRevokeResponse *)message;
	struct sn_hub_op *op = op_at(etcd->flight.next);

	op->revision = answer->header != NULL ? (uint64_t)answer->header->revision : 0;
	sn_etcd_op(op)->code = 0;
	return 0;
}

/* Back to the head of the queue, in their order. */
static void put_back(struct sn_etcd *etcd)
{
	struct sn_list all;

	sn_list_init(&all);
	sn_list_splice_back(&all, &etcd->flight);
	sn_list_splice_back(&all, &etcd->queue);
	sn_list_splice_back(&etcd->queue, &all);
}

static void on_ok(struct sn_etcd *etcd)
{
	struct sn_list now;

	if (etcd->range.op != NULL && sn_etcd_op(etcd->range.op)->code == SN_E_AGAIN) {
		/* Each page has its time. */
		sn_etcd_op(etcd->range.op)->due_ns = sn_time_add(sn__loop_now_ns(etcd->link.loop),
				sn_ms_to_ns(etcd->link.timeout_ms));
		put_back(etcd);
		return;
	}
	sn_list_init(&now);
	sn_list_splice_back(&now, &etcd->flight);
	while (!sn_list_empty(&now)) {
		struct sn_hub_op *op = op_at(now.next);
		int code = sn_etcd_op(op)->code;

		complete(etcd, op, code, NULL);
	}
}

static void on_refused(struct sn_etcd *etcd, const struct sn_error *err)
{
	unsigned n = 0;

	SN_LIST_FOREACH (node, &etcd->flight)
		n++;
	if (n > 1) { /* one of them is to blame: it shows which */
		etcd->alone = n;
		put_back(etcd);
		return;
	}
	if (etcd->range.op != NULL && etcd->call.too_large && etcd->range.limit > 1) {
		etcd->range.limit /= 2;
		put_back(etcd);
		return;
	}
	complete_all(etcd, &etcd->flight, err->code, err);
}

/* Lost on the way, or not sent at all. */
static void on_failed(struct sn_etcd *etcd, bool unsent, const struct sn_error *err)
{
	uint64_t now_ns = sn__loop_now_ns(etcd->link.loop);
	struct sn_list over;

	sn_list_init(&over);
	SN_LIST_FOREACH_SAFE (node, &etcd->flight) {
		enum sn_hub_op_kind kind = op_at(node)->kind;
		bool again = unsent || kind == SN_HUB_RANGE || kind == SN_HUB_GRANT;

		if (again && !etcd->closed && err->code != SN_E_NOMEM &&
				sn_etcd_op(op_at(node))->due_ns > now_ns)
			continue;
		sn_list_remove(node);
		sn_list_push_back(&over, node);
	}
	put_back(etcd);
	complete_all(etcd, &over, etcd->closed ? SN_E_CLOSED : err->code, err);
}

static void on_done(struct sn_etcd_call *call, enum sn_etcd_end end, const struct sn_error *err)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(call, struct sn_etcd, call);

	if (end == SN_ETCD_OK)
		on_ok(etcd);
	else if (end == SN_ETCD_REFUSED)
		on_refused(etcd, err);
	else
		on_failed(etcd, end == SN_ETCD_UNSENT, err);
	set_timer(etcd);
	sn__etcd_pump(etcd);
}

/* ---- calls ---- */

static int call_txn(struct sn_etcd *etcd, struct sn_error *err)
{
	struct sn_etcd_batch *b = etcd->batch;
	int r = 0;

	while (r == 0 && !sn_list_empty(&etcd->queue)) {
		struct sn_hub_op *op = op_at(etcd->queue.next);

		if ((op->kind != SN_HUB_PUT && op->kind != SN_HUB_REMOVE) ||
				!sn__etcd_batch_takes(b, op) ||
				(!sn_list_empty(&etcd->flight) &&
						sn__etcd_watcher_holds(&etcd->watcher,
								sn_etcd_op(op)->seq)))
			break;
		r = sn__etcd_batch_add(b, etcd, op);
		if (r < 0)
			break;
		sn_list_remove(&op->link);
		sn_list_push_back(&etcd->flight, &op->link);
		if (etcd->alone > 0) {
			etcd->alone--;
			break;
		}
	}
	etcd->call.path = "/etcdserverpb.KV/Txn";
	etcd->call.answer = &etcd__txn_response__descriptor;
	etcd->call.message = on_txn;
	if (r == 0)
		r = sn__etcd_call(&etcd->link, &etcd->call, sn__etcd_batch_request(b), err);
	sn__etcd_batch_clear(b);
	return r;
}

static int call_range(struct sn_etcd *etcd, struct sn_hub_op *op, struct sn_error *err)
{
	Etcd__RangeRequest request = ETCD__RANGE_REQUEST__INIT;
	struct sn_etcd_range *range = &etcd->range;
	struct sn_etcd_key first, end;

	sn__etcd_key(etcd, op->key, &first);
	sn__etcd_key_after(&first, &end);
	if (range->op != op) {
		range->op = op;
		range->next = first;
		range->revision = 0;
		range->limit = PAGE_FIRST;
	}
	request.key = (ProtobufCBinaryData){range->next.len, range->next.bytes};
	request.range_end = (ProtobufCBinaryData){end.len, end.bytes};
	request.limit = range->limit;
	request.revision = (int64_t)range->revision;
	etcd->call.path = "/etcdserverpb.KV/Range";
	etcd->call.answer = &etcd__range_response__descriptor;
	etcd->call.message = on_page;
	return sn__etcd_call(&etcd->link, &etcd->call, &request.base, err);
}

static int call_grant(struct sn_etcd *etcd, const struct sn_hub_op *op, struct sn_error *err)
{
	Etcd__LeaseGrantRequest request = ETCD__LEASE_GRANT_REQUEST__INIT;

	request.ttl = (int64_t)SN_MAX(UINT64_C(1), op->ttl_ms / 1000 + (op->ttl_ms % 1000 != 0));
	etcd->call.path = "/etcdserverpb.Lease/LeaseGrant";
	etcd->call.answer = &etcd__lease_grant_response__descriptor;
	etcd->call.message = on_grant;
	return sn__etcd_call(&etcd->link, &etcd->call, &request.base, err);
}

static int call_revoke(struct sn_etcd *etcd, const struct sn_hub_op *op, struct sn_error *err)
{
	Etcd__LeaseRevokeRequest request = ETCD__LEASE_REVOKE_REQUEST__INIT;

	request.id = (int64_t)op->lease;
	etcd->call.path = "/etcdserverpb.Lease/LeaseRevoke";
	etcd->call.answer = &etcd__lease_revoke_response__descriptor;
	etcd->call.message = on_revoke;
	return sn__etcd_call(&etcd->link, &etcd->call, &request.base, err);
}

static int call_next(struct sn_etcd *etcd, struct sn_hub_op *op, struct sn_error *err)
{
	if (op->kind == SN_HUB_PUT || op->kind == SN_HUB_REMOVE)
		return call_txn(etcd, err);
	sn_list_remove(&op->link);
	sn_list_push_back(&etcd->flight, &op->link);
	switch (op->kind) {
	case SN_HUB_RANGE:
		return call_range(etcd, op, err);
	case SN_HUB_GRANT:
		return call_grant(etcd, op, err);
	default:
		return call_revoke(etcd, op, err);
	}
}

/* What waits is sent if it may. */
static void go(struct sn_etcd *etcd)
{
	struct sn_error err;

	complete_failed(etcd);
	while (!etcd->closed && !etcd->call.running && !sn_list_empty(&etcd->queue)) {
		struct sn_hub_op *op = op_at(etcd->queue.next);
		int r;

		if (op->kind == SN_HUB_KEEP) { /* it waited for a revocation */
			sn_list_remove(&op->link);
			sn__etcd_keep(&etcd->keeper, op);
			continue;
		}
		if (!sn__etcd_link_ready(&etcd->link) ||
				sn__etcd_watcher_holds(&etcd->watcher, sn_etcd_op(op)->seq))
			break;
		r = call_next(etcd, op, &err);
		if (r < 0 && sn_list_empty(&etcd->flight))
			complete(etcd, op, r, NULL);
		else if (r < 0)
			complete_all(etcd, &etcd->flight, r, NULL);
	}
	if (etcd->closed)
		return;
	sn__etcd_watcher_ready(&etcd->watcher);
	set_timer(etcd);
}

/* ---- the end ---- */

static void destroy(struct sn_etcd *etcd)
{
	sn__etcd_link_finish(&etcd->link);
	sn__etcd_batch_destroy(etcd->batch);
	sn__free(etcd->prefix);
	sn__free(etcd);
}

static void finish_when_idle(struct sn_etcd *etcd)
{
	void (*gone)(void *arg) = etcd->gone;
	void *arg = etcd->gone_arg;

	complete_failed(etcd);
	complete_all(etcd, &etcd->queue, SN_E_CLOSED, NULL);
	if (etcd->call.running || etcd->keeper.call.running || etcd->watcher.call.running ||
			etcd->link.auth.running)
		return;
	sn__etcd_keeper_close(&etcd->keeper);
	if (sn_task_queued(&etcd->task))
		return; /* somebody submitted meanwhile */
	destroy(etcd);
	gone(arg);
}

static void on_task(struct sn_task *task)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(task, struct sn_etcd, task);

	if (etcd->closed)
		finish_when_idle(etcd);
	else
		go(etcd);
}

void sn__etcd_pump(struct sn_etcd *etcd)
{
	sn__loop_defer(etcd->link.loop, &etcd->task, on_task);
}

bool sn__etcd_older_done(const struct sn_etcd *etcd, uint64_t seq)
{
	const struct sn_list *lists[] = {&etcd->flight, &etcd->queue};

	for (size_t i = 0; i < SN_COUNT(lists); i++)
		if (!sn_list_empty(lists[i]) && sn_etcd_op(op_at(lists[i]->next))->seq < seq)
			return false;
	return true;
}

/* ---- the store's functions ---- */

static int check(const struct sn_etcd *etcd, const struct sn_hub_op *op)
{
	if (etcd->closed)
		return SN_E_CLOSED;
	if ((op->kind == SN_HUB_PUT || op->kind == SN_HUB_REMOVE) && op->key.len == 0)
		return SN_E_INVALID;
	if (op->key.len > SN_HUB_KEY_MAX || op->value.len > SN_HUB_VALUE_MAX)
		return SN_E_LIMIT;
	return 0;
}

static void etcd_submit(struct sn_hub_store *store, struct sn_hub_op *op)
{
	struct sn_etcd *etcd = etcd_of(store);
	struct sn_etcd_op *e = sn_etcd_op(op);

	*e = (struct sn_etcd_op){
			.due_ns = sn_time_add(sn__loop_now_ns(etcd->link.loop),
					sn_ms_to_ns(etcd->link.timeout_ms)),
			.seq = ++etcd->seq,
			.code = check(etcd, op),
	};
	if (op->kind == SN_HUB_REVOKE)
		etcd->n_revokes++;
	if (e->code < 0) {
		sn_list_push_back(&etcd->failed, &op->link);
	} else if (op->kind == SN_HUB_KEEP && etcd->n_revokes == 0) {
		sn__etcd_keep(&etcd->keeper, op);
		return;
	} else {
		sn_list_push_back(&etcd->queue, &op->link);
	}
	sn__etcd_pump(etcd);
}

static void etcd_watch(struct sn_hub_store *store, struct sn_hub_watch *w)
{
	struct sn_etcd *etcd = etcd_of(store);

	sn__etcd_watch(&etcd->watcher, w, ++etcd->seq);
}

static void etcd_unwatch(struct sn_hub_store *store, struct sn_hub_watch *w)
{
	sn__etcd_unwatch(&etcd_of(store)->watcher, w);
}

static void etcd_close(struct sn_hub_store *store, void (*done)(void *arg), void *arg)
{
	struct sn_etcd *etcd = etcd_of(store);

	assert(!etcd->closed);
	etcd->closed = true;
	etcd->gone = done;
	etcd->gone_arg = arg;
	if (sn_timer_armed(&etcd->timer))
		sn__timer_stop(etcd->link.loop, &etcd->timer);
	sn__etcd_link_close(&etcd->link);
	sn__etcd_cancel(&etcd->call, SN_E_CLOSED);
	sn__etcd_cancel(&etcd->keeper.call, SN_E_CLOSED);
	sn__etcd_watcher_close(&etcd->watcher);
	sn__etcd_pump(etcd);
}

static const struct sn_hub_store_ops etcd_ops = {
		.name = "etcd",
		.submit = etcd_submit,
		.watch = etcd_watch,
		.unwatch = etcd_unwatch,
		.close = etcd_close,
};

static void link_ready(struct sn_etcd_link *link)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(link, struct sn_etcd, link);

	if (etcd->closed) { /* which waited for the link's own call */
		sn__etcd_pump(etcd);
		return;
	}
	sn__etcd_keeper_ready(&etcd->keeper);
	go(etcd);
}

static void link_dropped(struct sn_etcd_link *link)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(link, struct sn_etcd, link);

	sn__etcd_cancel(&etcd->keeper.call, SN_E_CONNECT);
	sn__etcd_cancel(&etcd->watcher.call, SN_E_CONNECT);
}

static void link_state(struct sn_etcd_link *link, const struct sn_error *err)
{
	struct sn_etcd *etcd = SN_CONTAINER_OF(link, struct sn_etcd, link);

	if (etcd->store.state != NULL)
		etcd->store.state(etcd->store.state_arg, err);
}

int sn__hub_etcd_open(struct sn_connect_host *host, const struct sn_hub_etcd_options *opts,
		struct sn_hub_store **ret_store, struct sn_error *err)
{
	const char *prefix = opts->prefix != NULL ? opts->prefix : "";
	struct sn_etcd *etcd;
	int r;

	if (strlen(prefix) > SN_ETCD_PREFIX_MAX)
		return sn__error_set(err, SN_E_INVALID, "etcd: the prefix is longer than %u bytes",
				SN_ETCD_PREFIX_MAX);
	etcd = sn__calloc(1, sizeof(*etcd));
	if (etcd == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	etcd->store.ops = &etcd_ops;
	etcd->store.loop = host->loop;
	etcd->prefix_len = strlen(prefix);
	sn_list_init(&etcd->queue);
	sn_list_init(&etcd->flight);
	sn_list_init(&etcd->failed);
	etcd->call.done = on_done;
	etcd->link.dropped = link_dropped;
	etcd->link.ready = link_ready;
	etcd->link.state = link_state;
	sn__etcd_keeper_init(&etcd->keeper, etcd);
	sn__etcd_watcher_init(&etcd->watcher, etcd);
	r = sn__etcd_link_init(&etcd->link, host->loop, host->pool, opts, err);
	etcd->prefix = sn__strdup(prefix);
	etcd->batch = sn__etcd_batch_create();
	if (r == 0 && (etcd->prefix == NULL || etcd->batch == NULL))
		r = sn__error_set(err, SN_E_NOMEM, "out of memory");
	if (r < 0) {
		destroy(etcd);
		return r;
	}
	*ret_store = &etcd->store;
	return 0;
}
