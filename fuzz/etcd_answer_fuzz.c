/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What etcd answers. The first byte says what: a stream of watch answers, each behind two bytes of length;
 * one page of a range; the answer to a transaction of one or several changes. Whatever it is: changes of a
 * watch are told in the order of revisions, and only keys below the prefix.
 */
#include <stdlib.h>

#include "hub/etcd_txn.h"
#include "io/sim.h"
#include "proto/generated/etcd.pb-c.h"
#include "proto/protobuf.h"

#define WATCHES 2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct watch {
	struct sn_hub_watch pub; /* first */
	uint64_t last;
};

static void must(bool right)
{
	if (!right)
		abort();
}

static void on_change(struct sn_hub_watch *hw, const struct sn_hub_entry *entry, bool removed)
{
	struct watch *w = (struct watch *)hw;

	must(entry->revision >= w->last);
	w->last = entry->revision;
}

static void on_lost(struct sn_hub_watch *hw, uint64_t revision)
{
	((struct watch *)hw)->last = 0; /* it may be another etcd */
}

static struct sn_str next(struct sn_str *rest)
{
	struct sn_str one = {NULL, 0};
	size_t n;

	if (rest->len < 2)
		return one;
	n = (size_t)(unsigned char)rest->ptr[0] << 8 | (unsigned char)rest->ptr[1];
	one = (struct sn_str){rest->ptr + 2, SN_MIN(n, rest->len - 2)};
	rest->ptr += 2 + one.len;
	rest->len -= 2 + one.len;
	return one;
}

static void watches(struct sn_etcd *etcd, struct sn_str rest)
{
	struct sn_etcd_watcher *wr = &etcd->watcher;
	struct watch all[WATCHES] = {0};
	unsigned turn = 0;
	struct sn_str one;

	sn__etcd_watcher_init(wr, etcd);
	for (unsigned i = 0; i < WATCHES; i++) {
		all[i].pub = (struct sn_hub_watch){.from = i, .change = on_change, .lost = on_lost};
		sn__etcd_watch(wr, &all[i].pub, i);
	}
	while ((one = next(&rest)).ptr != NULL) {
		ProtobufCMessage *message;

		if (wr->creating == NULL)
			wr->creating = &all[turn++ % WATCHES].pub;
		if (sn__protobuf_unpack(wr->call.answer, one, &message, NULL) < 0)
			continue;
		(void)!wr->call.message(&wr->call, message);
		sn__protobuf_free(message);
	}
}

static void page(const struct sn_etcd *etcd, struct sn_str bytes)
{
	const Etcd__RangeResponse *answer;
	ProtobufCMessage *message;
	struct sn_hub_entry entry;

	if (sn__protobuf_unpack(&etcd__range_response__descriptor, bytes, &message, NULL) < 0)
		return;
	answer = (const Etcd__RangeResponse *)message;
	for (size_t i = 0; i < answer->n_kvs; i++)
		if (sn__etcd_entry(etcd, answer->kvs[i], &entry))
			must(entry.key.len + etcd->prefix_len == answer->kvs[i]->key.len);
	sn__protobuf_free(message);
}

static void transaction(struct sn_str bytes, unsigned n)
{
	struct sn_hub_op ops[3] = {
			{.kind = SN_HUB_PUT}, {.kind = SN_HUB_REMOVE}, {.kind = SN_HUB_PUT}};
	ProtobufCMessage *message;
	struct sn_list list;

	sn_list_init(&list);
	for (unsigned i = 0; i < n; i++)
		sn_list_push_back(&list, &ops[i].link);
	if (sn__protobuf_unpack(&etcd__txn_response__descriptor, bytes, &message, NULL) < 0)
		return;
	(void)!sn__etcd_txn_results((const Etcd__TxnResponse *)message, &list);
	sn__protobuf_free(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sn_sim_options perfect;
	struct sn_etcd *etcd;
	struct sn_sim *sim = NULL;
	struct sn_str rest;

	if (size < 2)
		return 0;
	rest = (struct sn_str){(const char *)data + 1, size - 1};
	etcd = sn__calloc(1, sizeof(*etcd));
	must(etcd != NULL && sn__sim_create(&perfect, &sim) == 0);
	must(sn__sim_loop(sim, &etcd->link.loop) == 0);
	etcd->prefix = (char[]){"/p/"};
	etcd->prefix_len = 3;
	if (data[0] == 'w')
		watches(etcd, rest);
	else if (data[0] == 'r')
		page(etcd, rest);
	else
		transaction(rest, 1 + data[0] % 3);
	sn__loop_undefer(etcd->link.loop, &etcd->task);
	sn__loop_close(etcd->link.loop, NULL, NULL);
	sn__sim_destroy(sim);
	sn__free(etcd);
	return 0;
}
