/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases kept alive over one stream. etcd answers in the order of what it was asked, so what was sent
 * is a queue; when the stream ends the queue is asked again on the next one, which does no harm.
 */
#include "hub/etcd.h"

#include "proto/generated/etcd.pb-c.h"

static void set_timer(struct sn_etcd_keeper *k);

static void fail_overdue(struct sn_etcd_keeper *k, struct sn_list *list, int code,
		const struct sn_error *err)
{
	uint64_t now_ns = sn__loop_now_ns(k->etcd->link.loop);
	struct sn_list overdue;

	sn_list_init(&overdue);
	SN_LIST_FOREACH_SAFE (node, list) {
		struct sn_hub_op *op = SN_CONTAINER_OF(node, struct sn_hub_op, link);

		if (!k->etcd->closed && sn_etcd_op(op)->due_ns > now_ns)
			continue;
		sn_list_remove(node);
		sn_list_push_back(&overdue, node);
	}
	for (struct sn_list *node; (node = sn_list_pop_front(&overdue)) != NULL;)
		sn__etcd_op_done(SN_CONTAINER_OF(node, struct sn_hub_op, link), code, err);
}

static void on_timer(struct sn_timer *timer)
{
	struct sn_etcd_keeper *k = SN_CONTAINER_OF(timer, struct sn_etcd_keeper, timer);
	uint64_t now_ns = sn__loop_now_ns(k->etcd->link.loop);
	int code;
	const struct sn_error *why = sn_etcd_link_why(&k->etcd->link, &code);

	if (!sn_list_empty(&k->sent)) {
		struct sn_hub_op *first = SN_CONTAINER_OF(k->sent.next, struct sn_hub_op, link);

		if (sn_etcd_op(first)->due_ns <= now_ns)
			sn__etcd_cancel(&k->call, SN_E_TIMEOUT); /* done() has the rest */
	}
	fail_overdue(k, &k->waiting, code, why);
	set_timer(k);
}

static void set_timer(struct sn_etcd_keeper *k)
{
	struct sn_loop *loop = k->etcd->link.loop;
	const struct sn_list *lists[] = {&k->sent, &k->waiting};
	uint64_t due_ns = SN_NEVER_NS;

	for (size_t i = 0; i < SN_COUNT(lists); i++) {
		if (sn_list_empty(lists[i]) || (i == 0 && k->call.why != 0))
			continue;
		due_ns = SN_MIN(due_ns,
				sn_etcd_op(SN_CONTAINER_OF(lists[i]->next, struct sn_hub_op, link))
						->due_ns);
	}
	if (due_ns == SN_NEVER_NS && sn_timer_armed(&k->timer))
		sn__timer_stop(loop, &k->timer);
	else if (due_ns != SN_NEVER_NS)
		sn__timer_start(loop, &k->timer, sn_time_until(sn__loop_now_ns(loop), due_ns),
				on_timer);
}

static int on_answer(struct sn_etcd_call *call, const ProtobufCMessage *message)
{
	struct sn_etcd_keeper *k = SN_CONTAINER_OF(call, struct sn_etcd_keeper, call);
	const Etcd__LeaseKeepAliveResponse *answer = (const Etcd__LeaseKeepAliveResponse *)message;
	struct sn_list *node = k->sent.next;
	struct sn_hub_op *op = SN_CONTAINER_OF(node, struct sn_hub_op, link);

	if (sn_list_empty(&k->sent) || op->lease != (uint64_t)answer->id)
		return SN_E_PROTOCOL;
	sn_list_remove(node);
	if (answer->header != NULL)
		op->revision = (uint64_t)answer->header->revision;
	sn__etcd_op_done(op, answer->ttl > 0 ? 0 : SN_E_NOT_FOUND, NULL);
	set_timer(k);
	return 0;
}

static void on_done(struct sn_etcd_call *call, enum sn_etcd_end end, const struct sn_error *err)
{
	struct sn_etcd_keeper *k = SN_CONTAINER_OF(call, struct sn_etcd_keeper, call);
	struct sn_list again;

	sn_list_init(&again);
	sn_list_splice_back(&again, &k->sent);
	sn_list_splice_back(&again, &k->waiting);
	sn_list_splice_back(&k->waiting, &again);
	if (end == SN_ETCD_REFUSED && !k->etcd->closed) {
		/* no permission: nothing would change that */
		sn_list_splice_back(&again, &k->waiting);
		for (struct sn_list *node; (node = sn_list_pop_front(&again)) != NULL;)
			sn__etcd_op_done(SN_CONTAINER_OF(node, struct sn_hub_op, link), err->code,
					err);
	}
	fail_overdue(k, &k->waiting, k->etcd->closed ? SN_E_CLOSED : err->code, err);
	set_timer(k);
	sn__etcd_keeper_ready(k);
	sn__etcd_pump(k->etcd);
}

static int send_one(struct sn_etcd_keeper *k, struct sn_hub_op *op)
{
	Etcd__LeaseKeepAliveRequest request = ETCD__LEASE_KEEP_ALIVE_REQUEST__INIT;
	int r;

	request.id = (int64_t)op->lease;
	r = sn__grpc_send_message(&k->call.req, &request.base);
	return r == SN_E_AGAIN ? 0 : r; /* taken */
}

void sn__etcd_keeper_ready(struct sn_etcd_keeper *k)
{
	if (sn_list_empty(&k->waiting) || k->call.why != 0 || !sn__etcd_link_ready(&k->etcd->link))
		return;
	if (!k->call.running && sn__etcd_call(&k->etcd->link, &k->call, NULL, NULL) < 0)
		return; /* with the next operation, or not in time */
	while (!sn_list_empty(&k->waiting)) {
		struct sn_list *node = k->waiting.next;

		if (send_one(k, SN_CONTAINER_OF(node, struct sn_hub_op, link)) < 0)
			break;
		sn_list_remove(node);
		sn_list_push_back(&k->sent, node);
	}
}

void sn__etcd_keep(struct sn_etcd_keeper *k, struct sn_hub_op *op)
{
	sn_list_push_back(&k->waiting, &op->link);
	sn__etcd_keeper_ready(k);
	set_timer(k);
}

void sn__etcd_keeper_init(struct sn_etcd_keeper *k, struct sn_etcd *etcd)
{
	k->etcd = etcd;
	k->call.path = "/etcdserverpb.Lease/LeaseKeepAlive";
	k->call.streams = true;
	k->call.answer = &etcd__lease_keep_alive_response__descriptor;
	k->call.message = on_answer;
	k->call.done = on_done;
	sn_list_init(&k->waiting);
	sn_list_init(&k->sent);
}

void sn__etcd_keeper_close(struct sn_etcd_keeper *k)
{
	sn__etcd_cancel(&k->call, SN_E_CLOSED);
	if (!k->call.running)
		fail_overdue(k, &k->waiting, SN_E_CLOSED, NULL);
	set_timer(k);
}
