/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All watches on one stream. They are created one after the other, so that the answer needs no number
 * of ours (etcd before 3.4 knows none).
 *
 * Where a watch has come to is a revision and how many of its changes have been told: a large revision
 * comes in fragments, and the stream may end between two. After a new stream etcd begins with that
 * revision again, and as many of its changes are passed over. Their order is the same each time.
 *
 * Changes before the compaction are lost, and so is everything when etcd is not the one it was (another
 * cluster, or a member that has forgotten): the owner is told.
 */
#include "hub/etcd.h"

#include "proto/generated/etcd.pb-c.h"

#define MESSAGE_MAX (16u << 20) /* etcd's own limit is 2 MiB, unless it was told otherwise */

enum watch_state {
	WATCH_WANTED, /* not on the stream */
	WATCH_ASKED,  /* the one that is being created */
	WATCH_THERE,
};

/* What sn_hub_watch.engine holds. */
struct state {
	int64_t id;        /* etcd's, of this stream */
	uint64_t revision; /* where it goes on; 0: now */
	uint64_t seq;      /* operations submitted before it */
	uint32_t told;     /* changes of `revision` */
	uint32_t skip;     /* of which so many are still to be passed over */
	enum watch_state at;
};
_Static_assert(sizeof(struct state) <= sizeof(((struct sn_hub_watch *)0)->engine),
		"sn_hub_watch.engine is too small");

static struct state *state_of(const struct sn_hub_watch *w)
{
	return (struct state *)(void *)(uintptr_t)w->engine;
}

static struct sn_hub_watch *watch_at(struct sn_list *node)
{
	return SN_CONTAINER_OF(node, struct sn_hub_watch, link);
}

static uint64_t revision_of(const Etcd__WatchResponse *answer)
{
	return answer->header != NULL && answer->header->revision > 0
			? (uint64_t)answer->header->revision
			: 0;
}

/* ---- asking ---- */

static int create(struct sn_etcd_watcher *wr, struct sn_hub_watch *w)
{
	Etcd__WatchCreateRequest ask = ETCD__WATCH_CREATE_REQUEST__INIT;
	Etcd__WatchRequest request = ETCD__WATCH_REQUEST__INIT;
	struct sn_etcd_key key, end;
	struct state *s = state_of(w);
	int r;

	sn__etcd_key(wr->etcd, w->prefix, &key);
	sn__etcd_key_after(&key, &end);
	ask.key = (ProtobufCBinaryData){key.len, key.bytes};
	ask.range_end = (ProtobufCBinaryData){end.len, end.bytes};
	ask.start_revision = (int64_t)s->revision;
	ask.progress_notify = true;
	ask.fragment = true;
	request.request_union_case = ETCD__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
	request.create_request = &ask;
	r = sn__grpc_send_message(&wr->call.req, &request.base);
	if (r < 0 && r != SN_E_AGAIN)
		return r;
	s->skip = s->told;
	s->at = WATCH_ASKED;
	wr->creating = w;
	wr->asked_at = wr->newest;
	return 0;
}

static void forget(struct sn_etcd_watcher *wr, int64_t id)
{
	Etcd__WatchCancelRequest cancel = ETCD__WATCH_CANCEL_REQUEST__INIT;
	Etcd__WatchRequest request = ETCD__WATCH_REQUEST__INIT;

	cancel.watch_id = id;
	request.request_union_case = ETCD__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST;
	request.cancel_request = &cancel;
	if (sn__grpc_send_message(&wr->call.req, &request.base) < 0)
		return; /* what comes for it is nobody's */
}

static struct sn_hub_watch *next_wanted(struct sn_etcd_watcher *wr)
{
	SN_LIST_FOREACH (node, &wr->watches) {
		const struct state *s = state_of(watch_at(node));

		if (s->at == WATCH_WANTED &&
				(s->revision != 0 || sn__etcd_older_done(wr->etcd, s->seq)))
			return watch_at(node);
	}
	return NULL;
}

void sn__etcd_watcher_ready(struct sn_etcd_watcher *wr)
{
	struct sn_hub_watch *w = next_wanted(wr);

	if (w == NULL || wr->creating != NULL || wr->orphan || wr->call.why != 0 ||
			!sn__etcd_link_ready(&wr->etcd->link))
		return;
	if (!wr->call.running && sn__etcd_call(&wr->etcd->link, &wr->call, NULL, NULL) < 0)
		return;
	if (create(wr, w) < 0)
		sn__etcd_cancel(&wr->call, SN_E_NOMEM);
}

bool sn__etcd_watcher_holds(const struct sn_etcd_watcher *wr, uint64_t seq)
{
	if (wr->etcd->link.failures > 0)
		return false; /* it may take long: operations are not to wait for that */
	for (struct sn_list *node = wr->watches.next; node != &wr->watches; node = node->next) {
		const struct state *s = state_of(watch_at(node));

		if (s->revision == 0 && s->seq < seq)
			return true;
	}
	return false;
}

/* ---- what is told ---- */

/* Whether @w is still watched. */
static bool tell(struct sn_etcd_watcher *wr, struct sn_hub_watch *w, const Etcd__Event *event)
{
	struct state *s = state_of(w);
	struct sn_hub_entry entry;

	if (event->kv == NULL || !sn__etcd_entry(wr->etcd, event->kv, &entry) ||
			entry.revision < s->revision)
		return true;
	if (entry.revision > s->revision) {
		s->revision = entry.revision;
		s->told = s->skip = 0;
	}
	if (s->skip > 0) {
		s->skip--;
		return true;
	}
	s->told++;
	wr->told = w;
	w->change(w, &entry, event->type == ETCD__EVENT__TYPE__DELETE);
	return wr->told == w && !wr->etcd->closed;
}

static void go_on_after(struct sn_hub_watch *w, uint64_t revision)
{
	struct state *s = state_of(w);

	s->revision = revision + 1;
	s->told = s->skip = 0;
}

static void tell_lost(struct sn_etcd_watcher *wr, struct sn_hub_watch *w, uint64_t revision)
{
	go_on_after(w, revision);
	wr->told = w;
	w->lost(w, revision);
	wr->told = NULL;
}

static uint64_t last_of(const Etcd__WatchResponse *answer)
{
	const Etcd__KeyValue *kv = answer->events[answer->n_events - 1]->kv;

	return kv != NULL && kv->mod_revision > 0 ? (uint64_t)kv->mod_revision : 0;
}

static void on_events(struct sn_etcd_watcher *wr, struct sn_hub_watch *w,
		const Etcd__WatchResponse *answer)
{
	bool there = true;
	uint64_t last;

	for (size_t i = 0; i < answer->n_events && there; i++)
		there = tell(wr, w, answer->events[i]);
	wr->told = NULL;
	if (!there || answer->fragment)
		return;
	last = answer->n_events > 0 ? last_of(answer) : revision_of(answer) /* progress */;
	if (last >= state_of(w)->revision)
		go_on_after(w, last);
}

/*
 * Is it the etcd that we know? What it was at when it was asked it cannot have forgotten. (Changes told
 * since then say nothing: etcd sends them from another queue, and they may overtake the answer.)
 */
static bool has_forgotten(struct sn_etcd_watcher *wr, const Etcd__WatchResponse *answer)
{
	const Etcd__ResponseHeader *h = answer->header;
	bool other, behind;

	if (h == NULL || h->cluster_id == 0)
		return false;
	other = wr->cluster != 0 && wr->cluster != h->cluster_id;
	behind = wr->member == h->member_id && revision_of(answer) < wr->asked_at;
	return other || behind;
}

static void note_member(struct sn_etcd_watcher *wr, const Etcd__WatchResponse *answer)
{
	const Etcd__ResponseHeader *h = answer->header;

	if (h == NULL || h->cluster_id == 0)
		return;
	wr->newest = wr->member == h->member_id ? SN_MAX(wr->newest, revision_of(answer))
						: revision_of(answer);
	wr->cluster = h->cluster_id;
	wr->member = h->member_id;
}

/* Every watch of before has begun with a revision that means nothing any more. */
static void all_lost(struct sn_etcd_watcher *wr, uint64_t revision)
{
	struct sn_list known;

	sn_list_init(&known);
	SN_LIST_FOREACH_SAFE (node, &wr->watches) {
		struct state *s = state_of(watch_at(node));

		if (s->revision == 0)
			continue;
		sn_list_remove(node);
		sn_list_push_back(&known, node);
	}
	for (struct sn_list *node; (node = sn_list_pop_front(&known)) != NULL;) {
		if (wr->etcd->closed)
			continue;
		sn_list_push_back(&wr->watches, node);
		tell_lost(wr, watch_at(node), revision);
	}
}

static int on_created(struct sn_etcd_watcher *wr, const Etcd__WatchResponse *answer)
{
	struct sn_hub_watch *w = wr->creating;
	uint64_t now = revision_of(answer);

	if (wr->orphan) {
		wr->orphan = false;
		if (!answer->canceled)
			forget(wr, answer->watch_id);
		return 0;
	}
	if (w == NULL)
		return SN_E_PROTOCOL;
	wr->creating = NULL;
	state_of(w)->at = WATCH_WANTED;
	if (answer->canceled && answer->compact_revision == 0)
		return SN_E_REJECTED; /* no permission, or the token */
	if (has_forgotten(wr, answer)) {
		wr->newest = wr->cluster = 0;
		note_member(wr, answer);
		all_lost(wr, now);
		return SN_E_CANCELLED; /* and begin anew */
	}
	note_member(wr, answer);
	if (answer->canceled) {
		tell_lost(wr, w, SN_MAX((uint64_t)answer->compact_revision, now));
		return 0;
	}
	state_of(w)->at = WATCH_THERE;
	state_of(w)->id = answer->watch_id;
	if (state_of(w)->revision == 0)
		go_on_after(w, now);
	return 0;
}

static struct sn_hub_watch *find(struct sn_etcd_watcher *wr, int64_t id)
{
	SN_LIST_FOREACH (node, &wr->watches) {
		const struct state *s = state_of(watch_at(node));

		if (s->at == WATCH_THERE && s->id == id)
			return watch_at(node);
	}
	return NULL;
}

static int on_answer(struct sn_etcd_call *call, const ProtobufCMessage *message)
{
	struct sn_etcd_watcher *wr = SN_CONTAINER_OF(call, struct sn_etcd_watcher, call);
	const Etcd__WatchResponse *answer = (const Etcd__WatchResponse *)message;
	struct sn_hub_watch *w = find(wr, answer->watch_id);
	uint64_t compacted = answer->compact_revision > 0 ? (uint64_t)answer->compact_revision : 0;
	int r = 0;

	if (wr->etcd->closed)
		return 0;
	if (answer->created)
		r = on_created(wr, answer);
	else if (w != NULL && answer->canceled && compacted == 0)
		r = SN_E_REJECTED;
	else if (w != NULL && answer->canceled) {
		state_of(w)->at = WATCH_WANTED;
		tell_lost(wr, w, SN_MAX(compacted, revision_of(answer)));
	} else if (w != NULL) {
		note_member(wr, answer);
		on_events(wr, w, answer);
	}
	sn__etcd_pump(wr->etcd);
	return r;
}

static void on_done(struct sn_etcd_call *call, enum sn_etcd_end end, const struct sn_error *err)
{
	struct sn_etcd_watcher *wr = SN_CONTAINER_OF(call, struct sn_etcd_watcher, call);

	wr->creating = NULL;
	wr->orphan = false;
	SN_LIST_FOREACH (node, &wr->watches)
		state_of(watch_at(node))->at = WATCH_WANTED;
	sn__etcd_pump(wr->etcd);
}

/* ---- the store's ---- */

void sn__etcd_watch(struct sn_etcd_watcher *wr, struct sn_hub_watch *w, uint64_t seq)
{
	struct state *s = state_of(w);

	*s = (struct state){.revision = w->from, .seq = seq, .at = WATCH_WANTED};
	sn_list_push_back(&wr->watches, &w->link);
	sn__etcd_pump(wr->etcd);
}

void sn__etcd_unwatch(struct sn_etcd_watcher *wr, struct sn_hub_watch *w)
{
	sn_list_remove(&w->link);
	if (wr->told == w)
		wr->told = NULL;
	if (wr->creating == w) {
		wr->creating = NULL;
		wr->orphan = true;
	} else if (state_of(w)->at == WATCH_THERE && wr->call.running) {
		forget(wr, state_of(w)->id);
	}
	sn__etcd_pump(wr->etcd);
}

void sn__etcd_watcher_init(struct sn_etcd_watcher *wr, struct sn_etcd *etcd)
{
	wr->etcd = etcd;
	wr->call.path = "/etcdserverpb.Watch/Watch";
	wr->call.streams = true;
	wr->call.answer = &etcd__watch_response__descriptor;
	wr->call.max_message = MESSAGE_MAX;
	wr->call.message = on_answer;
	wr->call.done = on_done;
	sn_list_init(&wr->watches);
}

void sn__etcd_watcher_close(struct sn_etcd_watcher *wr)
{
	SN_LIST_FOREACH_SAFE (node, &wr->watches)
		sn_list_remove(node);
	wr->told = wr->creating = NULL;
	sn__etcd_cancel(&wr->call, SN_E_CLOSED);
}
