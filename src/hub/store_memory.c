/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/store.h"

#include "base/mem.h"

/*
 * The store in memory. A key's record is immutable and one block with its key and value; the present
 * ones form a treap, ordered by key, and a change puts another record in the place of the old one.
 *
 * Every change raises the revision by one, so that the changes of late are a ring indexed by revision:
 * what it holds is what a watch may begin from. A watch is no queue, only the next revision it has to
 * be told. Before the ring forgets a change, all watches are told of it, so that those that are there
 * lose nothing.
 *
 * Operations and watches are served in a task of the store, never inside a call, in slices, so that a
 * thousand hubs' worth of them do not hold the loop up.
 */

#define HISTORY_MAX 4096u /* changes; a power of two */
#define HISTORY_BYTES_MAX (4u << 20)
#define SLICE_MAX 1024u /* operations a turn */

struct lease {
	struct sn_list link;  /* memory_store.leases */
	struct sn_list holds; /* hold.link */
	struct sn_timer timer;
	struct memory_store *store;
	uint64_t id, ttl_ns;
};

/* A key that hangs on a lease. */
struct hold {
	struct sn_list link;
	struct lease *lease;
	struct record *record;
};

struct record {
	struct record *left, *right;
	struct hold *hold; /* NULL: no lease, or not present */
	uint64_t created, revision;
	uint32_t priority, refs;
	uint32_t key_len, value_len;
	char text[];
};

struct change {
	struct record *record; /* as put, or as it was last */
	bool removed;
};

struct memory_store {
	struct sn_hub_store store; /* first */
	struct record *root;
	struct sn_list ops, watches, leases;
	struct sn_hub_watch *telling;
	struct sn_task task;
	struct sn_rng rng;
	uint64_t revision, last_lease;
	uint64_t oldest; /* revision of the first change in the history */
	size_t history_bytes;
	bool closing;
	void (*done)(void *arg);
	void *done_arg;
	struct change history[HISTORY_MAX];
};

/* What sn_hub_watch.engine holds. */
struct watch_state {
	uint64_t next;
};
_Static_assert(sizeof(struct watch_state) <= sizeof(((struct sn_hub_watch *)0)->engine),
		"sn_hub_watch.engine is too small");

static struct watch_state *state_of(struct sn_hub_watch *w)
{
	return (struct watch_state *)(void *)w->engine;
}

/* ---- records ---- */

static struct sn_str key_of(const struct record *r)
{
	return (struct sn_str){r->text, r->key_len};
}

static size_t bytes_of(const struct record *r)
{
	return sizeof(*r) + r->key_len + r->value_len;
}

static void record_unref(struct record *r)
{
	if (--r->refs == 0)
		sn__free(r);
}

static struct record *record_new(struct memory_store *m, const struct sn_hub_op *op)
{
	struct record *r = sn__malloc(sizeof(*r) + op->key.len + op->value.len);

	if (r == NULL)
		return NULL;
	*r = (struct record){.refs = 1,
			.priority = (uint32_t)sn__rng_u64(&m->rng),
			.key_len = (uint32_t)op->key.len,
			.value_len = (uint32_t)op->value.len};
	memcpy(r->text, op->key.ptr, op->key.len);
	if (op->value.len > 0)
		memcpy(r->text + op->key.len, op->value.ptr, op->value.len);
	return r;
}

static struct sn_hub_entry entry_of(const struct record *r)
{
	return (struct sn_hub_entry){
			.key = key_of(r),
			.value = {r->text + r->key_len, r->value_len},
			.created = r->created,
			.revision = r->revision,
			.lease = r->hold != NULL ? r->hold->lease->id : 0,
	};
}

/* ---- the treap ---- */

static int compare(struct sn_str a, struct sn_str b)
{
	size_t n = SN_MIN(a.len, b.len);
	int c = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;

	return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}

static bool begins_with(struct sn_str s, struct sn_str prefix)
{
	return s.len >= prefix.len &&
			(prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

/* The link to the record of @key, or NULL. */
static struct record **find(struct memory_store *m, struct sn_str key)
{
	struct record **at = &m->root;

	while (*at != NULL) {
		int c = compare(key, key_of(*at));

		if (c == 0)
			return at;
		at = c < 0 ? &(*at)->left : &(*at)->right;
	}
	return NULL;
}

static void insert(struct memory_store *m, struct record *r)
{
	struct record **at = &m->root, **left = &r->left, **right = &r->right, *t;

	while (*at != NULL && (*at)->priority >= r->priority)
		at = compare(key_of(r), key_of(*at)) < 0 ? &(*at)->left : &(*at)->right;
	t = *at;
	*at = r;
	while (t != NULL) { /* what was there is divided into the smaller and the greater keys */
		if (compare(key_of(t), key_of(r)) < 0) {
			*left = t;
			left = &t->right;
			t = t->right;
		} else {
			*right = t;
			right = &t->left;
			t = t->left;
		}
	}
	*left = *right = NULL;
}

static void replace(struct record **at, struct record *r)
{
	r->left = (*at)->left;
	r->right = (*at)->right;
	r->priority = (*at)->priority;
	*at = r;
}

static void take_out(struct record **at)
{
	struct record *a = (*at)->left, *b = (*at)->right;

	while (a != NULL && b != NULL) {
		if (a->priority >= b->priority) {
			*at = a;
			at = &a->right;
			a = a->right;
		} else {
			*at = b;
			at = &b->left;
			b = b->left;
		}
	}
	*at = a != NULL ? a : b;
}

/* ---- history and watches ---- */

static void forget_oldest(struct memory_store *m)
{
	struct change *c = &m->history[m->oldest++ % HISTORY_MAX];

	m->history_bytes -= bytes_of(c->record);
	record_unref(c->record);
	c->record = NULL;
}

static void tell(struct memory_store *m, struct sn_hub_watch *w)
{
	struct watch_state *s = state_of(w);

	m->telling = w;
	if (s->next < m->oldest) {
		s->next = m->revision + 1;
		w->lost(w, m->revision);
	}
	while (m->telling == w && !m->closing && s->next <= m->revision) {
		const struct change *c = &m->history[s->next % HISTORY_MAX];
		struct sn_hub_entry e = entry_of(c->record);

		e.revision = s->next++;
		if (begins_with(e.key, w->prefix))
			w->change(w, &e, c->removed);
	}
	m->telling = NULL;
}

static void tell_all(struct memory_store *m)
{
	struct sn_list todo, *node;

	sn_list_init(&todo);
	sn_list_splice_back(&todo, &m->watches);
	while ((node = sn_list_pop_front(&todo)) != NULL) {
		if (m->closing)
			continue;
		sn_list_push_back(&m->watches, node);
		tell(m, SN_CONTAINER_OF(node, struct sn_hub_watch, link));
	}
}

/* Before a change of @bytes: that it has a place in the history. */
static void make_room(struct memory_store *m, size_t bytes)
{
	if (m->revision + 1 - m->oldest < HISTORY_MAX &&
			m->history_bytes + bytes <= HISTORY_BYTES_MAX)
		return;
	tell_all(m);
	while (m->oldest <= m->revision &&
			(m->revision + 1 - m->oldest >= HISTORY_MAX ||
					m->history_bytes + bytes > HISTORY_BYTES_MAX))
		forget_oldest(m);
}

static void changed(struct memory_store *m, struct record *r, bool removed)
{
	m->history[++m->revision % HISTORY_MAX] = (struct change){r, removed};
	m->history_bytes += bytes_of(r);
	r->refs++;
}

/* ---- leases ---- */

static struct lease *lease_find(struct memory_store *m, uint64_t id)
{
	SN_LIST_FOREACH (node, &m->leases) {
		struct lease *l = SN_CONTAINER_OF(node, struct lease, link);

		if (l->id == id)
			return l;
	}
	return NULL;
}

static void let_go(struct record *r)
{
	if (r->hold == NULL)
		return;
	sn_list_remove(&r->hold->link);
	sn__free(r->hold);
	r->hold = NULL;
}

static void record_remove(struct memory_store *m, struct record **at)
{
	struct record *r = *at;

	take_out(at);
	let_go(r);
	changed(m, r, true);
	record_unref(r);
}

static void lease_end(struct lease *l)
{
	struct memory_store *m = l->store;
	struct sn_list *node;

	while ((node = l->holds.next) != &l->holds) {
		struct record *r = SN_CONTAINER_OF(node, struct hold, link)->record;

		make_room(m, bytes_of(r));
		record_remove(m, find(m, key_of(r)));
	}
	sn__timer_stop(m->store.loop, &l->timer);
	sn_list_remove(&l->link);
	sn__free(l);
}

static void serve(struct sn_task *task);

static void lease_expired(struct sn_timer *timer)
{
	struct lease *l = SN_CONTAINER_OF(timer, struct lease, timer);
	struct memory_store *m = l->store;

	lease_end(l);
	sn__loop_defer(m->store.loop, &m->task, serve);
}

static int grant(struct memory_store *m, struct sn_hub_op *op)
{
	struct lease *l = sn__calloc(1, sizeof(*l));

	if (l == NULL)
		return SN_E_NOMEM;
	l->store = m;
	l->id = ++m->last_lease;
	l->ttl_ns = sn_ms_to_ns(SN_MAX(op->ttl_ms, 1));
	sn_list_init(&l->holds);
	sn_list_push_back(&m->leases, &l->link);
	sn__timer_start(m->store.loop, &l->timer, l->ttl_ns, lease_expired);
	op->granted = l->id;
	return 0;
}

static int keep(struct memory_store *m, struct sn_hub_op *op)
{
	struct lease *l = lease_find(m, op->lease);

	if (l == NULL)
		return sn__error_set(&op->err, SN_E_NOT_FOUND, "the lease has expired");
	if (op->kind == SN_HUB_REVOKE)
		lease_end(l);
	else
		sn__timer_start(m->store.loop, &l->timer, l->ttl_ns, lease_expired);
	return 0;
}

/* ---- operations ---- */

static int check_condition(struct sn_hub_op *op, struct record **at)
{
	uint64_t have = at != NULL ? (*at)->revision : 0;

	if (op->if_revision == SN_HUB_ANY || op->if_revision == have)
		return 0;
	op->revision = have;
	return sn__error_set(&op->err, SN_E_EXISTS, "the key has revision %llu, not %llu",
			(unsigned long long)have, (unsigned long long)op->if_revision);
}

static int check_limits(struct sn_hub_op *op)
{
	if (op->key.len == 0)
		return sn__error_set(&op->err, SN_E_INVALID, "an empty key");
	if (op->key.len > SN_HUB_KEY_MAX)
		return sn__error_set(&op->err, SN_E_LIMIT, "a key of %zu bytes, at most %u",
				op->key.len, SN_HUB_KEY_MAX);
	if (op->value.len > SN_HUB_VALUE_MAX)
		return sn__error_set(&op->err, SN_E_LIMIT, "a value of %zu bytes, at most %u",
				op->value.len, SN_HUB_VALUE_MAX);
	return 0;
}

static int put(struct memory_store *m, struct sn_hub_op *op)
{
	struct record **at = find(m, op->key), *r;
	struct lease *l = op->lease != 0 ? lease_find(m, op->lease) : NULL;
	struct hold *h = NULL;
	int code = check_limits(op);

	if (code == 0)
		code = check_condition(op, at);
	if (code < 0)
		return code;
	if (op->lease != 0 && l == NULL)
		return sn__error_set(&op->err, SN_E_NOT_FOUND, "the lease has expired");
	if (l != NULL && (h = sn__malloc(sizeof(*h))) == NULL)
		return SN_E_NOMEM;
	r = record_new(m, op);
	if (r == NULL) {
		sn__free(h);
		return SN_E_NOMEM;
	}
	make_room(m, bytes_of(r));
	r->revision = m->revision + 1;
	r->created = at != NULL ? (*at)->created : r->revision;
	if (at != NULL) {
		struct record *old = *at;

		replace(at, r);
		let_go(old);
		record_unref(old);
	} else {
		insert(m, r);
	}
	if (h != NULL) {
		*h = (struct hold){.lease = l, .record = r};
		sn_list_push_back(&l->holds, &h->link);
		r->hold = h;
	}
	changed(m, r, false);
	return 0;
}

static int take(struct memory_store *m, struct sn_hub_op *op)
{
	struct record **at = find(m, op->key);
	int code = check_limits(op);

	if (code == 0)
		code = check_condition(op, at);
	if (code < 0)
		return code;
	if (at == NULL)
		return sn__error_set(&op->err, SN_E_NOT_FOUND, "no such key");
	make_room(m, bytes_of(*at));
	record_remove(m, at);
	return 0;
}

/* Recursion is as deep as the treap: some 50 levels for a million keys. */
static void range(const struct record *r, struct sn_hub_op *op)
{
	bool in, before;

	if (r == NULL)
		return;
	in = begins_with(key_of(r), op->key);
	before = !in && compare(key_of(r), op->key) < 0;
	if (!before)
		range(r->left, op);
	if (in && op->entry != NULL) {
		struct sn_hub_entry e = entry_of(r);

		op->entry(op, &e);
	}
	if (in || before)
		range(r->right, op);
}

static int carry_out(struct memory_store *m, struct sn_hub_op *op)
{
	switch (op->kind) {
	case SN_HUB_PUT:
		return put(m, op);
	case SN_HUB_REMOVE:
		return take(m, op);
	case SN_HUB_RANGE:
		range(m->root, op);
		return 0;
	case SN_HUB_GRANT:
		return grant(m, op);
	case SN_HUB_KEEP:
	case SN_HUB_REVOKE:
		return keep(m, op);
	}
	return sn__error_set(&op->err, SN_E_INVALID, "no such operation");
}

static void finish(struct sn_hub_op *op, int code)
{
	op->err.code = code;
	if (code < 0 && op->err.text[0] == '\0')
		(void)sn__error_set(&op->err, code, "%s", sn_strerror(code));
	op->done(op, code);
}

static void destroy(struct memory_store *m)
{
	void (*done)(void *arg) = m->done;
	void *arg = m->done_arg;
	struct sn_list *node;

	while ((node = sn_list_pop_front(&m->ops)) != NULL)
		finish(SN_CONTAINER_OF(node, struct sn_hub_op, link), SN_E_CLOSED);
	while (!sn_list_empty(&m->leases)) {
		struct lease *l = SN_CONTAINER_OF(m->leases.next, struct lease, link);

		while (!sn_list_empty(&l->holds))
			let_go(SN_CONTAINER_OF(l->holds.next, struct hold, link)->record);
		lease_end(l);
	}
	while (m->oldest <= m->revision)
		forget_oldest(m);
	while (m->root != NULL) {
		struct record *r = m->root;

		take_out(&m->root);
		record_unref(r);
	}
	sn__loop_undefer(m->store.loop, &m->task); /* what submitted while it was told of the end */
	sn__free(m);
	if (done != NULL)
		done(arg);
}

static void serve(struct sn_task *task)
{
	struct memory_store *m = SN_CONTAINER_OF(task, struct memory_store, task);
	struct sn_list *node;

	if (m->closing) {
		destroy(m);
		return;
	}
	for (unsigned n = 0; n < SLICE_MAX && !m->closing; n++) {
		struct sn_hub_op *op;
		int code;

		node = sn_list_pop_front(&m->ops);
		if (node == NULL)
			break;
		op = SN_CONTAINER_OF(node, struct sn_hub_op, link);
		code = carry_out(m, op);
		if (code == 0)
			op->revision = m->revision;
		finish(op, code);
	}
	tell_all(m);
	if (!sn_list_empty(&m->ops))
		sn__loop_defer(m->store.loop, &m->task, serve);
}

/* ---- the engine ---- */

static struct memory_store *memory_of(struct sn_hub_store *store)
{
	return SN_CONTAINER_OF(store, struct memory_store, store);
}

static void memory_submit(struct sn_hub_store *store, struct sn_hub_op *op)
{
	struct memory_store *m = memory_of(store);

	op->err.text[0] = '\0';
	sn_list_push_back(&m->ops, &op->link);
	sn__loop_defer(store->loop, &m->task, serve);
}

static void memory_watch(struct sn_hub_store *store, struct sn_hub_watch *w)
{
	struct memory_store *m = memory_of(store);

	state_of(w)->next = w->from != 0 ? w->from : m->revision + 1;
	if (m->closing) {
		sn_list_init(&w->link);
		return;
	}
	sn_list_push_back(&m->watches, &w->link);
	sn__loop_defer(store->loop, &m->task, serve);
}

static void memory_unwatch(struct sn_hub_store *store, struct sn_hub_watch *w)
{
	struct memory_store *m = memory_of(store);

	sn_list_remove(&w->link);
	if (m->telling == w)
		m->telling = NULL;
}

static void memory_close(struct sn_hub_store *store, void (*done)(void *arg), void *arg)
{
	struct memory_store *m = memory_of(store);

	m->closing = true;
	m->done = done;
	m->done_arg = arg;
	while (sn_list_pop_front(&m->watches) != NULL)
		;
	sn__loop_defer(store->loop, &m->task, serve);
}

static const struct sn_hub_store_ops memory_ops = {
		.name = "memory",
		.submit = memory_submit,
		.watch = memory_watch,
		.unwatch = memory_unwatch,
		.close = memory_close,
};

int sn__hub_memory_open(struct sn_loop *loop, struct sn_hub_store **ret_store)
{
	struct memory_store *m = sn__calloc(1, sizeof(*m));

	if (m == NULL)
		return SN_E_NOMEM;
	m->store.ops = &memory_ops;
	m->store.loop = loop;
	m->revision = 1; /* as in etcd, so that 0 is no revision */
	m->oldest = 2;
	sn__rng_seed(&m->rng, sn__rng_u64(sn__loop_rng(loop)));
	sn_list_init(&m->ops);
	sn_list_init(&m->watches);
	sn_list_init(&m->leases);
	*ret_store = &m->store;
	return 0;
}
