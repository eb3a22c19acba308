/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in etcd against an etcd in memory, over a network that is bad at random, with a member that
 * has no leader, loses tokens, answers late or never, ends streams, forgets its past and sends what it
 * tells in fragments. Every operation ends once; what was said to be done was done once, in the order
 * of submission, and nothing else was done twice; a range is what there was at its revision; a watch
 * tells every change once and in order, but for what it says to be lost.
 */
#include "base/mem.h"
#include "base/test.h"
#include "connect/driver.h"
#include "hub/store.h"
#include "io/grpc_server.h"
#include "io/http.h"
#include "io/http_server.h"
#include "io/seeds_test.h"
#include "io/sim.h"
#include "proto/generated/etcd.pb-c.h"

#define OPS 80
#define KEYS 6
#define HISTORY 400
#define STREAMS 64
#define WATCHES 3
#define TIMEOUT_MS 400

static const char *const keys[KEYS] = {"a0", "a1", "a2", "b0", "b1", "b2"};

struct change {
	uint64_t revision;
	unsigned key, by; /* operation + 1 */
	bool removed;
};

struct fake_stream {
	struct sn_grpc_exchange *x;
	struct fake_watch {
		bool used;
		char prefix[8];
		size_t at; /* in the history */
		uint64_t from, created_at;
	} watches[WATCHES + 4];
	int64_t n;
	struct sn_timer created; /* when the last one's answer is sent: changes may overtake it */
};

struct late { /* a transaction that is carried out later */
	struct sn_timer timer;
	struct sn_grpc_exchange *x;
	Etcd__TxnRequest *request;
};

struct operation {
	struct sn_hub_op op;
	struct sn_timer start;
	char value[8];
	unsigned n_done, key, entries;
	int code;
	struct {
		uint64_t revision;
		unsigned key;
	} seen[KEYS + 1];
};

struct watch {
	struct sn_hub_watch w;
	unsigned n, after; /* operations submitted before it */
	bool begun;
	struct {
		struct change c;
		uint64_t lost; /* what was lost before it */
	} told[HISTORY];
	uint64_t lost;
};

static struct {
	struct sn_sim *sim;
	struct sn_loop *client, *loop;
	struct sn_connect_host host;
	struct sn_hub_store *store;
	struct sn_http_server *server;
	struct sn_grpc_services *services;
	struct sn_addr addr;
	struct sn_timer trouble, watch_later;
	bool clean, calm, gone;
	bool short_of_memory; /* now and then, at both ends */
	unsigned token, pending, submitted;
	/* the etcd */
	struct change history[HISTORY];
	size_t n_history;
	uint64_t revision, compacted;
	struct fake_stream streams[STREAMS];
	struct late late[OPS];
	struct operation ops[OPS], last;
	struct watch watches[WATCHES];
	unsigned n_away, n_back;
} w;

static size_t below(size_t n)
{
	return (size_t)sn__rng_below(sn__sim_rng(w.sim), n);
}

static bool chance(size_t n)
{
	return !w.calm && !w.clean && below(n) == 0;
}

/* ---- the etcd: what it holds ---- */

/* The last change of @key up to @revision; NULL: there is no such key. */
static const struct change *at_revision(unsigned key, uint64_t revision)
{
	for (size_t i = w.n_history; i-- > 0;)
		if (w.history[i].key == key && w.history[i].revision <= revision)
			return w.history[i].removed ? NULL : &w.history[i];
	return NULL;
}

static unsigned key_of(ProtobufCBinaryData name)
{
	for (unsigned i = 0; i < KEYS; i++)
		if (name.len == 5 && memcmp(name.data, "/p/", 3) == 0 &&
				memcmp(name.data + 3, keys[i], 2) == 0)
			return i;
	fail_msg("an unknown key");
	return 0;
}

static void note(unsigned key, unsigned by, bool removed)
{
	assert_true(w.n_history < HISTORY);
	w.history[w.n_history++] = (struct change){w.revision + 1, key, by, removed};
}

static Etcd__ResponseHeader header(void)
{
	Etcd__ResponseHeader h = ETCD__RESPONSE_HEADER__INIT;

	h.cluster_id = 7;
	h.member_id = 9;
	h.revision = (int64_t)w.revision;
	return h;
}

/* ---- transactions ---- */

struct result {
	Etcd__PutResponse put;
	Etcd__DeleteRangeResponse removed;
	Etcd__RangeResponse range;
	Etcd__KeyValue kv, *kvs[1];
	Etcd__ResponseOp op, *ops[1], outer;
	Etcd__TxnResponse txn;
};

static void look(struct result *r, unsigned key)
{
	const struct change *c = at_revision(key, w.revision);

	r->range = (Etcd__RangeResponse)ETCD__RANGE_RESPONSE__INIT;
	r->kv = (Etcd__KeyValue)ETCD__KEY_VALUE__INIT;
	r->kvs[0] = &r->kv;
	r->range.kvs = r->kvs;
	r->range.n_kvs = c != NULL;
	r->kv.mod_revision = c != NULL ? (int64_t)c->revision : 0;
	r->op.response_case = ETCD__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
	r->op.response_range = &r->range;
}

static void change(struct result *r, const Etcd__RequestOp *op)
{
	if (op->request_case == ETCD__REQUEST_OP__REQUEST_REQUEST_PUT) {
		const Etcd__PutRequest *put = op->request_put;
		uint64_t by;

		assert_int_equal(sn__parse_u64((struct sn_str){(char *)put->value.data,
							       put->value.len},
						 OPS, &by),
				0);
		note(key_of(put->key), (unsigned)by, false);
		r->put = (Etcd__PutResponse)ETCD__PUT_RESPONSE__INIT;
		r->op.response_case = ETCD__RESPONSE_OP__RESPONSE_RESPONSE_PUT;
		r->op.response_put = &r->put;
		return;
	}
	assert_int_equal(op->request_case, ETCD__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE);
	r->removed = (Etcd__DeleteRangeResponse)ETCD__DELETE_RANGE_RESPONSE__INIT;
	r->op.response_case = ETCD__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE;
	r->op.response_delete_range = &r->removed;
	if (at_revision(key_of(op->request_delete_range->key), w.revision) == NULL)
		return;
	r->removed.deleted = 1;
	note(key_of(op->request_delete_range->key), 0, true);
}

/* One change. Conditions are compared with what there was before the whole. */
static void run_one(struct result *r, const Etcd__TxnRequest *t)
{
	const struct change *c = NULL;

	r->txn = (Etcd__TxnResponse)ETCD__TXN_RESPONSE__INIT;
	r->op = (Etcd__ResponseOp)ETCD__RESPONSE_OP__INIT;
	r->ops[0] = &r->op;
	r->txn.n_responses = 1;
	r->txn.responses = r->ops;
	r->txn.succeeded = true;
	if (t->n_compare == 1) {
		c = at_revision(key_of(t->compare[0]->key), w.revision);
		assert_int_equal(t->compare[0]->target, ETCD__COMPARE__TARGET__MOD);
		r->txn.succeeded = (c != NULL ? (int64_t)c->revision : 0) ==
				t->compare[0]->mod_revision;
	}
	if (r->txn.succeeded)
		change(r, t->success[0]);
	else
		look(r, key_of(t->failure[0]->request_range->key));
}

static void tell_all(void);

/* @x may be NULL: nobody hears the answer. */
static void run_txn(struct sn_grpc_exchange *x, const Etcd__TxnRequest *t)
{
	static struct result results[100];
	static Etcd__ResponseOp *all[100];
	Etcd__TxnResponse answer = ETCD__TXN_RESPONSE__INIT;
	Etcd__ResponseHeader h;
	size_t before = w.n_history;
	bool many = t->n_success > 0 &&
			t->success[0]->request_case == ETCD__REQUEST_OP__REQUEST_REQUEST_TXN;

	if (!many) {
		run_one(&results[0], t);
		answer = results[0].txn;
	} else {
		assert_true(t->n_success > 1 && t->n_success <= 100);
		for (size_t i = 0; i < t->n_success; i++) {
			run_one(&results[i], t->success[i]->request_txn);
			results[i].outer = (Etcd__ResponseOp)ETCD__RESPONSE_OP__INIT;
			results[i].outer.response_case = ETCD__RESPONSE_OP__RESPONSE_RESPONSE_TXN;
			results[i].outer.response_txn = &results[i].txn;
			all[i] = &results[i].outer;
		}
		answer.n_responses = t->n_success;
		answer.responses = all;
		answer.succeeded = true;
	}
	if (w.n_history > before)
		w.revision++;
	h = header();
	answer.header = &h;
	if (w.short_of_memory)
		sn__mem_fail_nth(0); /* it has been done, and is not to be called refused */
	if (x != NULL)
		sn_grpc_exchange_reply(x, &answer.base);
	if (w.short_of_memory && !w.calm)
		sn__mem_fail_nth(below(2) == 0 ? 0 : 1 + below(40));
	tell_all();
}

/* ---- what goes wrong ---- */

static bool refused(struct sn_grpc_exchange *x)
{
	char expected[16];
	size_t size;
	const char *token = sn_grpc_exchange_header(x, "token", &size);

	(void)snprintf(expected, sizeof expected, "t%u", w.token);
	if (token == NULL || !sn_str_eq((struct sn_str){token, size}, sn_str_from(expected)))
		sn_grpc_exchange_finish(x, SN_GRPC_UNAUTHENTICATED,
				"etcdserver: invalid auth token", NULL, 0);
	else if (chance(20))
		sn_grpc_exchange_finish(x, SN_GRPC_UNAVAILABLE, "etcdserver: no leader", NULL, 0);
	else
		return false;
	return true;
}

static void late_free(struct late *l)
{
	etcd__txn_request__free_unpacked(l->request, NULL);
	l->request = NULL;
}

static void on_late(struct sn_timer *t)
{
	struct late *l = SN_CONTAINER_OF(t, struct late, timer);
	struct sn_grpc_exchange *x = l->x;

	l->x = NULL;
	if (x != NULL || below(2) == 0)
		run_txn(x, l->request);
	late_free(l);
}

static void on_late_closed(struct sn_grpc_exchange *x, int status, void *arg)
{
	((struct late *)arg)->x = NULL;
}

static void start_txn(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Etcd__TxnRequest *t = request;

	if (refused(x))
		return;
	if (chance(25)) {
		if (below(2) == 0)
			run_txn(NULL, t);
		sn_grpc_exchange_finish(
				x, SN_GRPC_UNAVAILABLE, "etcdserver: request timed out", NULL, 0);
		return;
	}
	for (unsigned i = 0; chance(6) && i < OPS; i++) {
		struct late *l = &w.late[i];
		uint8_t bytes[8192];
		size_t size;

		if (l->request != NULL || etcd__txn_request__get_packed_size(t) > sizeof bytes)
			continue;
		size = etcd__txn_request__pack(t, bytes);
		l->request = etcd__txn_request__unpack(NULL, size, bytes);
		l->x = x;
		sn_grpc_exchange_on_close(x, on_late_closed, l);
		sn__timer_start(w.loop, &l->timer, below(600) * SN_NS_PER_MS, on_late);
		return;
	}
	run_txn(x, t);
}

/* ---- ranges: two keys a page ---- */

static void start_range(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Etcd__RangeRequest *q = request;
	Etcd__RangeResponse answer = ETCD__RANGE_RESPONSE__INIT;
	Etcd__ResponseHeader h = header();
	Etcd__KeyValue kvs[KEYS], *list[KEYS];
	uint64_t revision = q->revision != 0 ? (uint64_t)q->revision : w.revision;
	char names[KEYS][8];

	if (refused(x))
		return;
	if (revision < w.compacted) {
		sn_grpc_exchange_finish(x, SN_GRPC_OUT_OF_RANGE,
				"etcdserver: mvcc: required revision has been compacted", NULL, 0);
		return;
	}
	answer.header = &h;
	answer.kvs = list;
	for (unsigned i = 0; i < KEYS; i++) {
		const struct change *c = at_revision(i, revision);
		Etcd__KeyValue *kv = &kvs[answer.n_kvs];

		(void)snprintf(names[i], sizeof names[i], "/p/%s", keys[i]);
		if (c == NULL || memcmp(names[i], q->key.data, SN_MIN(q->key.len, 5u)) < 0 ||
				(q->key.len == 6 && memcmp(names[i], q->key.data, 5) == 0) ||
				memcmp(names[i], q->range_end.data, q->range_end.len) >= 0)
			continue;
		if (answer.n_kvs == 2) {
			answer.more = true;
			break;
		}
		*kv = (Etcd__KeyValue)ETCD__KEY_VALUE__INIT;
		kv->key = (ProtobufCBinaryData){5, (uint8_t *)names[i]};
		kv->mod_revision = (int64_t)c->revision;
		list[answer.n_kvs++] = kv;
	}
	sn_grpc_exchange_reply(x, &answer.base);
}

/* ---- watches ---- */

static struct fake_stream *stream_of(struct sn_grpc_exchange *x)
{
	return *sn_grpc_exchange_slot(x);
}

static void on_stream_closed(struct sn_grpc_exchange *x, int status, void *arg)
{
	struct fake_stream *s = arg;

	if (s->x == x)
		s->x = NULL;
}

static bool send_answer(struct fake_stream *s, Etcd__WatchResponse *answer)
{
	Etcd__ResponseHeader h = header();
	struct sn_grpc_exchange *x;
	int r;

	if (answer->created)
		h.revision = (int64_t)s->watches[answer->watch_id].created_at;
	answer->header = &h;
	r = sn_grpc_exchange_send(s->x, &answer->base, NULL, 0);
	assert_true(r == 0 || r == SN_E_AGAIN || r == SN_E_RESET ||
			(r == SN_E_NOMEM && w.short_of_memory));
	if (r == SN_E_RESET)
		return false;
	if (r != SN_E_NOMEM && !chance(12))
		return true;
	x = s->x;
	s->x = NULL;
	sn_grpc_exchange_finish(x, SN_GRPC_UNAVAILABLE, "etcdserver: leader changed", NULL, 0);
	return false;
}

static bool fits(const struct fake_watch *fw, size_t i)
{
	return memcmp(keys[w.history[i].key], fw->prefix, strlen(fw->prefix)) == 0;
}

/* Changes from @from to before @to, in pieces. */
static bool send_changes(struct fake_stream *s, int64_t id, size_t from, size_t to)
{
	struct fake_watch *fw = &s->watches[id];
	Etcd__KeyValue kvs[4];
	Etcd__Event events[4], *list[4];
	char names[4][8];

	while (from < to) {
		Etcd__WatchResponse answer = ETCD__WATCH_RESPONSE__INIT;
		size_t most = below(4) + 1;

		answer.watch_id = id;
		answer.events = list;
		for (; from < to && answer.n_events < most; from++) {
			const struct change *c = &w.history[from];
			size_t i = answer.n_events;

			if (!fits(fw, from))
				continue;
			events[i] = (Etcd__Event)ETCD__EVENT__INIT;
			kvs[i] = (Etcd__KeyValue)ETCD__KEY_VALUE__INIT;
			(void)snprintf(names[i], sizeof names[i], "/p/%s", keys[c->key]);
			kvs[i].key = (ProtobufCBinaryData){5, (uint8_t *)names[i]};
			kvs[i].mod_revision = (int64_t)c->revision;
			events[i].type = c->removed ? ETCD__EVENT__TYPE__DELETE
						    : ETCD__EVENT__TYPE__PUT;
			events[i].kv = &kvs[i];
			list[answer.n_events++] = &events[i];
		}
		while (from < to && !fits(fw, from))
			from++;
		answer.fragment = from < to;
		if (answer.n_events > 0 && !send_answer(s, &answer))
			return false;
	}
	return true;
}

static bool tell(struct fake_stream *s, int64_t id)
{
	Etcd__WatchResponse progress = ETCD__WATCH_RESPONSE__INIT;
	struct fake_watch *fw = &s->watches[id];
	size_t from = fw->at;

	fw->at = w.n_history;
	/* An answer ends with a revision; there may be several in it. */
	while (from < w.n_history) {
		size_t to = from + 1 + below(w.n_history - from);

		while (to < w.n_history && w.history[to].revision == w.history[to - 1].revision)
			to++;
		if (!send_changes(s, id, from, to))
			return false;
		from = to;
	}
	progress.watch_id = id;
	return below(4) != 0 || send_answer(s, &progress);
}

static void tell_all(void)
{
	for (size_t i = 0; i < STREAMS; i++) {
		struct fake_stream *s = &w.streams[i];

		for (int64_t id = 0; s->x != NULL && id < s->n; id++)
			if (s->watches[id].used && !tell(s, id))
				break;
	}
}

static void announce(struct fake_stream *s, int64_t id)
{
	Etcd__WatchResponse answer = ETCD__WATCH_RESPONSE__INIT;
	struct fake_watch *fw = &s->watches[id];

	answer.watch_id = id;
	answer.created = true;
	fw->used = true;
	if (!send_answer(s, &answer))
		return;
	if (fw->from == 0 || fw->from >= w.compacted) {
		(void)tell(s, id);
		return;
	}
	answer = (Etcd__WatchResponse)ETCD__WATCH_RESPONSE__INIT;
	answer.watch_id = id;
	answer.canceled = true;
	answer.compact_revision = (int64_t)w.compacted;
	fw->used = false;
	(void)send_answer(s, &answer);
}

static void on_created(struct sn_timer *t)
{
	struct fake_stream *s = SN_CONTAINER_OF(t, struct fake_stream, created);

	if (s->x != NULL)
		announce(s, s->n - 1);
}

static void create(struct fake_stream *s, const Etcd__WatchCreateRequest *ask)
{
	int64_t id = s->n++;
	struct fake_watch *fw;

	assert_true(id < (int64_t)SN_COUNT(s->watches));
	assert_true(ask->fragment);
	assert_false(sn_timer_armed(&s->created));
	fw = &s->watches[id];
	*fw = (struct fake_watch){.from = (uint64_t)ask->start_revision, .created_at = w.revision};
	assert_true(ask->key.len >= 3 && ask->key.len < 8);
	memcpy(fw->prefix, ask->key.data + 3, ask->key.len - 3);
	if (fw->from == 0)
		fw->at = w.n_history;
	while (fw->at < w.n_history && w.history[fw->at].revision < fw->from)
		fw->at++;
	if (below(3) == 0)
		sn__timer_start(w.loop, &s->created, below(20) * SN_NS_PER_MS, on_created);
	else
		announce(s, id);
}

static void start_watch(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	if (refused(x))
		return;
	for (size_t i = 0; i < STREAMS; i++) {
		struct fake_stream *s = &w.streams[i];

		if (s->x != NULL)
			continue;
		sn__timer_stop(w.loop, &s->created);
		*s = (struct fake_stream){.x = x};
		*sn_grpc_exchange_slot(x) = s;
		sn_grpc_exchange_on_close(x, on_stream_closed, s);
		return;
	}
	fail_msg("too many streams");
}

static void message_watch(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Etcd__WatchRequest *q = request;
	struct fake_stream *s = stream_of(x);

	if (s == NULL || s->x != x)
		return;
	if (q == NULL)
		sn_grpc_exchange_finish(x, 0, NULL, NULL, 0);
	else if (q->request_union_case == ETCD__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST)
		create(s, q->create_request);
	else
		s->watches[q->cancel_request->watch_id].used = false;
}

/* ---- leases (number 1 is alive), tokens ---- */

static void start_keep(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	*sn_grpc_exchange_slot(x) = refused(x) ? NULL : x;
}

static void message_keep(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Etcd__LeaseKeepAliveRequest *q = request;
	Etcd__LeaseKeepAliveResponse answer = ETCD__LEASE_KEEP_ALIVE_RESPONSE__INIT;

	if (*sn_grpc_exchange_slot(x) == NULL)
		return;
	if (q == NULL || chance(6)) {
		*sn_grpc_exchange_slot(x) = NULL;
		sn_grpc_exchange_finish(x, q == NULL ? 0 : SN_GRPC_UNAVAILABLE, NULL, NULL, 0);
		return;
	}
	if (chance(10))
		return; /* never */
	answer.id = q->id;
	answer.ttl = q->id == 1 ? 5 : 0;
	if (sn_grpc_exchange_send(x, &answer.base, NULL, 0) == SN_E_NOMEM) {
		*sn_grpc_exchange_slot(x) = NULL;
		sn_grpc_exchange_finish(x, SN_GRPC_UNAVAILABLE, NULL, NULL, 0);
	}
}

static void start_auth(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Etcd__AuthenticateRequest *q = request;
	Etcd__AuthenticateResponse answer = ETCD__AUTHENTICATE_RESPONSE__INIT;
	char token[16];

	assert_string_equal(q->name, "u");
	assert_string_equal(q->password, "p");
	(void)snprintf(token, sizeof token, "t%u", w.token);
	answer.token = token;
	sn_grpc_exchange_reply(x, &answer.base);
}

static const struct sn_grpc_method kv_methods[] = {
		{.name = "Txn", .request = &etcd__txn_request__descriptor, .start = start_txn},
		{.name = "Range",
				.request = &etcd__range_request__descriptor,
				.start = start_range},
};
static const struct sn_grpc_method watch_methods[] = {{.name = "Watch",
		.request = &etcd__watch_request__descriptor,
		.start = start_watch,
		.message = message_watch,
		.client_streams = true,
		.server_streams = true}};
static const struct sn_grpc_method lease_methods[] = {{.name = "LeaseKeepAlive",
		.request = &etcd__lease_keep_alive_request__descriptor,
		.start = start_keep,
		.message = message_keep,
		.client_streams = true,
		.server_streams = true}};
static const struct sn_grpc_method auth_methods[] = {{.name = "Authenticate",
		.request = &etcd__authenticate_request__descriptor,
		.start = start_auth}};
#define SERVICE(n, m) \
	{ \
		.size = sizeof(struct sn_grpc_service), .name = n, .methods = m, \
		.n_methods = SN_COUNT(m) \
	}
static const struct sn_grpc_service fake_services[] = {SERVICE("etcdserverpb.KV", kv_methods),
		SERVICE("etcdserverpb.Watch", watch_methods),
		SERVICE("etcdserverpb.Lease", lease_methods),
		SERVICE("etcdserverpb.Auth", auth_methods)};

/* ---- the client ---- */

static unsigned known_key(struct sn_str name)
{
	for (unsigned i = 0; i < KEYS; i++)
		if (sn_str_eq(name, sn_str_from(keys[i])))
			return i;
	fail_msg("a key that was never put");
	return 0;
}

static void on_entry(struct sn_hub_op *op, const struct sn_hub_entry *e)
{
	struct operation *o = SN_CONTAINER_OF(op, struct operation, op);

	assert_true(o->entries < KEYS);
	o->seen[o->entries].key = known_key(e->key);
	o->seen[o->entries++].revision = e->revision;
}

/* The range is what there was. */
static void check_range(const struct operation *o)
{
	unsigned n = 0;

	for (unsigned i = 0; i < KEYS; i++) {
		const struct change *c = at_revision(i, o->op.revision);

		if (c == NULL || memcmp(keys[i], o->op.key.ptr, o->op.key.len) != 0)
			continue;
		assert_true(n < o->entries);
		assert_int_equal(o->seen[n].key, i);
		assert_true(o->seen[n++].revision == c->revision);
	}
	assert_int_equal(n, o->entries);
}

static void on_done(struct sn_hub_op *op, int code)
{
	struct operation *o = SN_CONTAINER_OF(op, struct operation, op);

	assert_int_equal(++o->n_done, 1);
	o->code = code;
	w.pending--;
	switch (code) {
	case 0:
		break;
	case SN_E_EXISTS:
		assert_true(op->if_revision != SN_HUB_ANY);
		break;
	case SN_E_NOT_FOUND:
		assert_true(op->kind == SN_HUB_REMOVE ||
				(op->kind == SN_HUB_KEEP && op->lease != 1));
		break;
	case SN_E_IO: /* compacted while it was read; an answer of before that was missing */
		if (op->kind != SN_HUB_RANGE && (op->kind != SN_HUB_KEEP || w.clean) &&
				!w.short_of_memory)
			fail_msg("kind %d: %s", op->kind, op->err.text);
		break;
	case SN_E_NOMEM:
	case SN_E_LIMIT: /* where etcd had none */
		if (!w.short_of_memory)
			fail_msg("%d: %s", code, op->err.text);
		break;
	default:
		if (code != SN_E_CONNECT && code != SN_E_TIMEOUT && code != SN_E_REJECTED)
			fail_msg("%d: %s", code, op->err.text);
		assert_false(w.clean);
	}
	if (code == 0 && op->kind == SN_HUB_RANGE)
		check_range(o);
}

static void on_start(struct sn_timer *t)
{
	struct operation *o = SN_CONTAINER_OF(t, struct operation, start);
	static const enum sn_hub_op_kind kinds[] = {SN_HUB_PUT, SN_HUB_PUT, SN_HUB_PUT, SN_HUB_PUT,
			SN_HUB_REMOVE, SN_HUB_RANGE, SN_HUB_KEEP};
	const struct change *c;

	o->key = (unsigned)below(KEYS);
	c = at_revision(o->key, w.revision);
	o->op = (struct sn_hub_op){.kind = kinds[below(SN_COUNT(kinds))],
			.key = {keys[o->key], 2},
			.value = sn_str_from(o->value),
			.if_revision = below(3) == 0                 ? 0
					: below(2) == 0 && c != NULL ? c->revision
								     : SN_HUB_ANY,
			.lease = 1 + below(2),
			.entry = on_entry,
			.done = on_done};
	if (o->op.kind == SN_HUB_RANGE)
		o->op.key.len = below(3);
	if (o->op.kind == SN_HUB_PUT)
		o->op.lease = 0;
	o->entries = 0;
	w.submitted++;
	sn_hub_submit(w.store, &o->op);
	assert_int_equal(o->n_done, 0);
}

static void on_change(struct sn_hub_watch *hw, const struct sn_hub_entry *e, bool removed)
{
	struct watch *v = SN_CONTAINER_OF(hw, struct watch, w);

	assert_true(v->n < HISTORY);
	v->told[v->n].c = (struct change){
			.revision = e->revision, .key = known_key(e->key), .removed = removed};
	v->told[v->n++].lost = v->lost;
}

static void on_lost(struct sn_hub_watch *hw, uint64_t revision)
{
	struct watch *v = SN_CONTAINER_OF(hw, struct watch, w);

	assert_false(w.clean);
	assert_true(revision > 0 && revision <= w.revision); /* of when it was sent */
	v->lost = SN_MAX(v->lost, revision);
}

static void watch_begin(struct watch *v, const char *prefix, uint64_t from)
{
	v->w = (struct sn_hub_watch){.prefix = sn_str_from(prefix),
			.from = from,
			.change = on_change,
			.lost = on_lost};
	v->after = w.submitted;
	v->begun = true;
	w.store->ops->watch(w.store, &v->w);
}

static void on_watch_later(struct sn_timer *t)
{
	watch_begin(&w.watches[2], "b", 0);
}

/* Everything in the history is told, but what was lost, and what was before a watch from now on. */
static void check_watch(const struct watch *v)
{
	unsigned n = 0;
	bool first = v->w.from == 0;

	for (size_t i = 0; i < w.n_history; i++) {
		const struct change *c = &w.history[i];
		uint64_t lost = n < v->n ? v->told[n].lost : v->lost;

		if (memcmp(keys[c->key], v->w.prefix.ptr, v->w.prefix.len) != 0)
			continue;
		if (n < v->n && v->told[n].c.revision == c->revision &&
				v->told[n].c.key == c->key) {
			assert_int_equal(v->told[n].c.removed, c->removed);
			first = false;
			n++;
			continue;
		}
		if (c->revision <= lost)
			continue;
		/* Before "now"; of a bad line nobody knows when that was. */
		if (first && (!w.clean || c->by == 0 || c->by <= v->after))
			continue;
		fail_msg("not told: %s of revision %llu (told %u of %u)", keys[c->key],
				(unsigned long long)c->revision, n, v->n);
	}
	assert_int_equal(n, v->n);
}

static void check_ops(void)
{
	size_t last = 0;

	for (unsigned k = 0; k < OPS; k++) {
		unsigned n = 0;

		assert_int_equal(w.ops[k].n_done, 1);
		if (w.ops[k].op.kind != SN_HUB_PUT)
			continue;
		for (size_t i = 0; i < w.n_history; i++)
			n += w.history[i].by == k + 1;
		assert_true(n <= 1);
		if (w.ops[k].code == 0)
			assert_int_equal(n, 1);
		if (w.ops[k].code == SN_E_EXISTS)
			assert_int_equal(n, 0);
	}
	/* In the order of submission, which is that of the numbers: clean lines only, for one that was
	 * given up may be done late. */
	for (size_t i = 0; w.clean && i < w.n_history; i++) {
		if (w.history[i].by == 0)
			continue;
		assert_true(w.history[i].by > last);
		last = w.history[i].by;
	}
}

/* ---- the world ---- */

static void on_state(void *arg, const struct sn_error *err)
{
	if (err != NULL)
		w.n_away++;
	else
		w.n_back++;
	assert_true(w.n_away == w.n_back || w.n_away == w.n_back + 1);
}

static void on_trouble(struct sn_timer *t)
{
	if (w.short_of_memory && !w.calm)
		sn__mem_fail_nth(below(3) == 0 ? 0 : 1 + below(200));
	switch (w.calm || w.clean ? 9 : below(9)) {
	case 0:
		sn__sim_break(w.sim, &w.addr);
		break;
	case 1:
		sn__sim_stall(w.sim, &w.addr, true);
		break;
	case 2:
		sn__sim_refuse(w.sim, &w.addr, true);
		break;
	case 3:
		w.token++;
		break;
	case 4:
		w.compacted = w.revision;
		break;
	default:
		sn__sim_stall(w.sim, &w.addr, false);
		sn__sim_refuse(w.sim, &w.addr, false);
	}
	if (!w.calm)
		sn__timer_start(w.loop, t, below(300) * SN_NS_PER_MS, on_trouble);
}

static void on_gone(void *arg)
{
	*(bool *)arg = true;
}

static void until(const bool *flag)
{
	for (unsigned i = 0; !*flag; i++) {
		assert_true(i < 100000);
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
	}
}

static void world_open(uint64_t seed)
{
	static const char *const endpoints[] = {"http://127.0.0.1:80", "http://127.0.0.1:80", NULL};
	struct sn_hub_etcd_options opts = {.endpoints = endpoints,
			.prefix = "/p/",
			.user = "u",
			.password = "p",
			.timeout_ms = TIMEOUT_MS};
	struct sn_sim_options net = {.seed = seed};
	struct sn_http_server_config config = {.max_body = UINT64_MAX};

	memset(&w, 0, sizeof w);
	assert_int_equal(sn__sim_create(&net, &w.sim), 0);
	w.clean = below(3) == 0;
	w.short_of_memory = !w.clean && below(3) == 0;
	net = (struct sn_sim_options){.latency_min_ns = 1000,
			.latency_max_ns = below(3000000) + 1000,
			.partial_write = (unsigned)below(300),
			.partial_read = (unsigned)below(300),
			.loss = w.clean ? 0 : (unsigned)below(10),
			.reset = w.clean ? 0 : (unsigned)below(4)};
	sn__sim_set(w.sim, &net);
	w.revision = 1;
	assert_int_equal(sn__sim_loop(w.sim, &w.client), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.loop), 0);
	assert_int_equal(sn__grpc_services_create(w.loop, NULL, &w.services), 0);
	for (size_t i = 0; i < SN_COUNT(fake_services); i++)
		assert_int_equal(sn__grpc_services_add(w.services, &fake_services[i], NULL), 0);
	assert_int_equal(sn__addr_from_literal(SN_STR("127.0.0.1"), 80, &config.addr), 0);
	w.addr = config.addr;
	assert_int_equal(sn__http_server_open(w.loop, &config, sn__grpc_handle, w.services,
					 &w.server, NULL),
			0);
	w.host.loop = w.client;
	assert_int_equal(sn__http_pool_create(w.client, NULL, &w.host.pool), 0);
	opts.endpoints = below(2) == 0 ? endpoints : endpoints + 1;
	assert_int_equal(sn__hub_etcd_open(&w.host, &opts, &w.store, NULL), 0);
	w.store->state = on_state;
}

static void world_close(void)
{
	bool gone = false;

	sn__timer_stop(w.client, &w.watch_later);
	for (size_t i = 0; i < OPS; i++)
		sn__timer_stop(w.client, &w.ops[i].start);
	w.store->ops->close(w.store, on_gone, &gone);
	assert_false(gone);
	until(&gone);
	gone = false;
	sn__http_pool_close(w.host.pool, on_gone, &gone);
	until(&gone);
	gone = false;
	sn__http_server_close(w.server, 0, on_gone, &gone);
	until(&gone);
	for (size_t i = 0; i < OPS; i++) {
		sn__timer_stop(w.loop, &w.late[i].timer);
		if (w.late[i].request != NULL)
			late_free(&w.late[i]);
	}
	for (size_t i = 0; i < STREAMS; i++)
		sn__timer_stop(w.loop, &w.streams[i].created);
	sn__timer_stop(w.loop, &w.trouble);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 5 * SN_NS_PER_S);
	sn__grpc_services_destroy(w.services);
	sn__loop_close(w.client, NULL, NULL);
	sn__loop_close(w.loop, NULL, NULL);
	sn__sim_destroy(w.sim);
}

/* Whoever was told that etcd is away is told that it is back, at the latest by the next answer. */
static void check_back(void)
{
	if (w.n_away != w.n_back) {
		w.last.op = (struct sn_hub_op){.kind = SN_HUB_RANGE,
				.key = SN_STR("zz"),
				.entry = on_entry,
				.done = on_done};
		w.pending++;
		sn_hub_submit(w.store, &w.last.op);
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_S);
		assert_int_equal(w.last.n_done, 1);
		assert_int_equal(w.last.code, 0);
	}
	assert_int_equal(w.n_away, w.n_back);
}

static void one(uint64_t seed, bool single)
{
	uint64_t at_ms = 0;
	bool closes;

	world_open(seed);
	closes = below(6) == 0; /* in the middle of it all */
	watch_begin(&w.watches[0], "", 0);
	watch_begin(&w.watches[1], "a", 1);
	sn__timer_start(w.client, &w.watch_later, below(2000) * SN_NS_PER_MS, on_watch_later);
	sn__timer_start(w.loop, &w.trouble, below(300) * SN_NS_PER_MS, on_trouble);
	for (unsigned i = 0; i < OPS; i++) {
		at_ms += below(3) == 0 ? below(120) : 0;
		(void)snprintf(w.ops[i].value, sizeof w.ops[i].value, "%u", i + 1);
		w.pending++;
		/* One after the other, several at a time. */
		sn__timer_start(w.client, &w.ops[i].start, at_ms * SN_NS_PER_MS, on_start);
	}
	for (unsigned i = 0; i < 4000 && w.pending > 0; i++)
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
	if (!closes) {
		for (unsigned i = 0; i < 20000 && w.pending > 0; i++)
			(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
		assert_int_equal(w.pending, 0);
		w.calm = true;
		sn__mem_fail_nth(0);
		sn__sim_set(w.sim, &(struct sn_sim_options){.latency_max_ns = 1000});
		on_trouble(&w.trouble);
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 30 * SN_NS_PER_S);
		check_ops();
		for (unsigned i = 0; i < WATCHES; i++)
			if (w.watches[i].begun)
				check_watch(&w.watches[i]);
		check_back();
	}
	if (single)
		print_message("clean %d, %zu changes, told %u %u %u, lost %llu, away %u\n", w.clean,
				w.n_history, w.watches[0].n, w.watches[1].n, w.watches[2].n,
				(unsigned long long)w.watches[0].lost, w.n_away);
	w.calm = true;
	sn__mem_fail_nth(0);
	world_close();
}

int main(void)
{
	return seeds_main("store_etcd", one);
}
