/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory store of the domain registry, made for millions of entries.
 *
 * What many entries have in common is kept once: the user, the guid, the runtime, the status, and the
 * other members together as one packed text (instances of one hyperty differ in little else). An entry
 * is one block with its id at its end. Entries are never removed, users and guids neither.
 *
 * Expiry: a wheel of one-second slots. An entry that is not disconnected is in the slot of `due` or of
 * an earlier second; a keep-alive only renews `modified`, and an entry that is met before its time
 * moves on. A disconnected one is in no slot, so its link serves the list of what /registry/updated
 * gives.
 */
#include "base/list.h"
#include "base/mem.h"
#include "dialect/rethink/registry_store.h"
#include "dialect/rethink/registry_table.h"

#define WHEEL_SLOTS 4096u
#define EXPIRE_MAX 5000 /* entries looked at in one step of the heartbeat */

struct text {
	struct sn_reg_node node;
	uint32_t refs;
	char key[];
};

struct email {
	struct sn_reg_node node;
	struct user *first;
	char key[];
};

struct user {
	struct sn_reg_node node;
	struct hyperty *first;
	struct user *next;    /* of the same e-mail */
	struct user *changed; /* the next that CHANGED will give; itself: it is the last */
	uint32_t n_guids;     /* bound to it */
	char key[];
};

struct guid {
	struct sn_reg_node node;
	struct user *user;
	char key[];
};

/* Data objects of one name, or of one reporter; as long as there are any. */
struct group {
	struct sn_reg_node node;
	struct sn_list objects;
	char key[];
};

#define FLAG_OBJECT 1u
#define FLAG_PENDING 2u

struct entry { /* node.flags: FLAG_ */
	struct sn_reg_node node;
	struct sn_list link; /* of a slot, or of `pending` */
	struct text *rest;   /* the members in `packed` */
	struct text *runtime, *status;
	uint32_t started, modified, due; /* seconds since 1970 */
	int32_t expires;
};

struct hyperty {
	struct entry e;
	struct user *user;
	struct hyperty *next;
	struct guid *guid; /* NULL: none given */
	char key[];
};

struct object {
	struct entry e;
	struct group *group[2]; /* by name, by reporter */
	struct sn_list of[2];
	char key[];
};

struct memory {
	struct sn_reg_store store;
	struct sn_loop *loop;
	uint64_t max_entries;
	struct sn_reg_table texts, emails, users, guids, hyperties, objects, groups[2];
	struct text *live, *disconnected;
	struct sn_list pending;
	struct user *changed; /* NULL: none */
	uint32_t cursor;      /* the wheel stands at this second */
	struct sn_list work;  /* what was in its slot, or due at once, and has not been looked at */
	struct sn_list slots[WHEEL_SLOTS];
	struct sn_task close_task;
	void (*closed)(void *arg);
	void *closed_arg;
};

static struct memory *memory_of(struct sn_reg_store *store)
{
	return SN_CONTAINER_OF(store, struct memory, store);
}

static struct hyperty *hyperty_of(struct entry *e)
{
	return SN_CONTAINER_OF(e, struct hyperty, e);
}

static struct object *object_of(struct entry *e)
{
	return SN_CONTAINER_OF(e, struct object, e);
}

/* ---- shared texts ---- */

static void *node_make(size_t size, struct sn_str key)
{
	struct sn_reg_node *node = sn__malloc(size + key.len);

	if (node == NULL)
		return NULL;
	memset(node, 0, size);
	if (key.len > 0)
		memcpy((char *)node + size, key.ptr, key.len);
	node->len = (uint32_t)key.len & 0xffffffu;
	return node;
}

static struct text *text_get(struct memory *m, struct sn_str s)
{
	struct text *t = (struct text *)(void *)sn__reg_table_find(&m->texts, s);

	if (t == NULL) {
		if (sn__reg_table_reserve(&m->texts) < 0)
			return NULL;
		t = node_make(offsetof(struct text, key), s);
		if (t == NULL)
			return NULL;
		sn__reg_table_add(&m->texts, &t->node);
	}
	t->refs++;
	return t;
}

static void text_put(struct memory *m, struct text *t)
{
	if (t == NULL || --t->refs > 0)
		return;
	sn__reg_table_remove(&m->texts, &t->node);
	sn__free(t);
}

static struct sn_str text_str(const struct text *t)
{
	return (struct sn_str){t->key, t->node.len};
}

/* ---- members ---- */

static const uint8_t packed[] = {SN_REG_RESOURCES, SN_REG_SCHEMES, SN_REG_DESCRIPTOR,
		SN_REG_REQUESTER, SN_REG_HANDLER};
#define ABSENT UINT32_MAX

static struct text *pack(struct memory *m, const struct sn_reg_values *v)
{
	size_t size = 0;
	struct text *t;
	char *scratch, *p;

	for (size_t i = 0; i < SN_COUNT(packed); i++)
		size += sizeof(uint32_t) + v->text[packed[i]].len;
	p = scratch = sn__malloc(size);
	if (scratch == NULL)
		return NULL;
	for (size_t i = 0; i < SN_COUNT(packed); i++) {
		const struct sn_str s = v->text[packed[i]];
		uint32_t len = s.ptr != NULL ? (uint32_t)s.len : ABSENT;

		memcpy(p, &len, sizeof(len));
		p += sizeof(len);
		if (s.len > 0)
			memcpy(p, s.ptr, s.len);
		p += s.len;
	}
	t = text_get(m, (struct sn_str){scratch, size});
	sn__free(scratch);
	return t;
}

static void unpack(const struct text *t, struct sn_reg_values *v)
{
	const char *p = t->key;

	for (size_t i = 0; i < SN_COUNT(packed); i++) {
		uint32_t len;

		memcpy(&len, p, sizeof(len));
		p += sizeof(len);
		if (len == ABSENT)
			continue;
		v->text[packed[i]] = (struct sn_str){p, len};
		p += len;
	}
}

static void view(struct entry *e, struct sn_reg_entry *ret_view)
{
	struct sn_reg_values *v = &ret_view->v;

	*ret_view = (struct sn_reg_entry){.started = e->started, .modified = e->modified};
	unpack(e->rest, v);
	v->text[SN_REG_RUNTIME] = text_str(e->runtime);
	v->text[SN_REG_STATUS] = text_str(e->status);
	v->expires = e->expires;
	v->has_expires = true;
	if ((e->node.flags & FLAG_OBJECT) != 0) {
		struct object *o = object_of(e);

		ret_view->kind = SN_REG_OBJECT;
		ret_view->id = (struct sn_str){o->key, e->node.len};
		v->text[SN_REG_NAME] = (struct sn_str){o->group[0]->key, o->group[0]->node.len};
		v->text[SN_REG_REPORTER] = (struct sn_str){o->group[1]->key, o->group[1]->node.len};
	} else {
		struct hyperty *h = hyperty_of(e);

		ret_view->kind = SN_REG_HYPERTY;
		ret_view->id = (struct sn_str){h->key, e->node.len};
		ret_view->user = (struct sn_str){h->user->key, h->user->node.len};
		if (h->guid != NULL)
			v->text[SN_REG_GUID] = (struct sn_str){h->guid->key, h->guid->node.len};
	}
}

/* Its user will be told of. */
static void tell(struct memory *m, struct entry *e)
{
	struct user *u;

	if (!m->store.track || (e->node.flags & FLAG_OBJECT) != 0)
		return;
	u = hyperty_of(e)->user;
	if (u->changed != NULL)
		return;
	u->changed = m->changed != NULL ? m->changed : u;
	m->changed = u;
}

/* ---- the wheel and the list of what is pending ---- */

static uint32_t seconds(int64_t s)
{
	return s < 0 ? 0 : s > UINT32_MAX ? UINT32_MAX : (uint32_t)s;
}

/* Where an entry belongs now: in a slot, or, when it is disconnected, in none. It stays in the slot of
 * an earlier second. */
static void place(struct memory *m, struct entry *e)
{
	uint32_t due = seconds((int64_t)e->modified + e->expires + 1);
	bool in_slot = !sn_list_empty(&e->link) && (e->node.flags & FLAG_PENDING) == 0;

	if (e->status == m->disconnected) {
		sn_list_remove(&e->link);
	} else if (!in_slot || due < e->due) {
		sn_list_remove(&e->link);
		e->due = due;
		sn_list_push_back(due > m->cursor ? &m->slots[due % WHEEL_SLOTS] : &m->work,
				&e->link);
	}
	e->node.flags &= (uint8_t)~FLAG_PENDING;
}

static void set_status(struct memory *m, struct entry *e, struct text *status)
{
	status->refs++;
	text_put(m, e->status);
	e->status = status;
}

/* By expiry or delete. */
static void disconnect(struct memory *m, struct entry *e)
{
	if (e->status == m->disconnected)
		return;
	set_status(m, e, m->disconnected);
	sn_list_remove(&e->link);
	sn_list_push_back(&m->pending, &e->link);
	e->node.flags |= FLAG_PENDING;
	tell(m, e);
}

static bool expire(struct memory *m, struct entry *e, int64_t now)
{
	if (e->status == m->disconnected || !sn_reg_is_due(e->modified, e->expires, now))
		return false;
	disconnect(m, e);
	return true;
}

/* ---- making and changing ---- */

/* The shared parts of an entry, counted. */
struct parts {
	struct text *rest, *runtime, *status;
	int32_t expires;
};

static void parts_put(struct memory *m, struct parts *p)
{
	text_put(m, p->rest);
	text_put(m, p->runtime);
	text_put(m, p->status);
}

static int parts_get(struct memory *m, const struct sn_reg_values *v, struct parts *ret_parts)
{
	struct parts p = {.expires = v->expires};

	p.rest = pack(m, v);
	p.runtime = text_get(m, v->text[SN_REG_RUNTIME]);
	p.status = text_get(m, v->text[SN_REG_STATUS]);
	if (p.rest == NULL || p.runtime == NULL || p.status == NULL) {
		parts_put(m, &p);
		return SN_E_NOMEM;
	}
	*ret_parts = p;
	return 0;
}

static void parts_take(struct memory *m, struct entry *e, const struct parts *p, int64_t now)
{
	struct parts old = {e->rest, e->runtime, e->status, 0};

	e->rest = p->rest;
	e->runtime = p->runtime;
	e->status = p->status;
	e->expires = p->expires;
	e->modified = seconds(now);
	parts_put(m, &old);
	place(m, e);
	tell(m, e);
}

static void *find(struct sn_reg_table *t, struct sn_str key)
{
	return sn__reg_table_find(t, key);
}

/* The node with this key, made when missing; the caller adds it then (after its last failure). */
static int find_or_make(struct sn_reg_table *t, struct sn_str key, void *ret_node, bool *ret_new)
{
	void *node = find(t, key);

	*ret_new = node == NULL;
	if (node == NULL && sn__reg_table_reserve(t) == 0)
		node = node_make(t->key, key);
	*(void **)ret_node = node;
	return node != NULL ? 0 : SN_E_NOMEM;
}

/* What a create of a hyperty may have to make. */
struct making {
	struct user *user;
	struct email *email;
	struct guid *guid;
	bool new_user, new_email, new_guid;
};

static void unmake(struct making *k)
{
	if (k->new_user)
		sn__free(k->user);
	if (k->new_email)
		sn__free(k->email);
	if (k->new_guid)
		sn__free(k->guid);
}

static int make(struct memory *m, const struct sn_reg_op *op, struct making *k)
{
	struct sn_str guid = op->values->text[SN_REG_GUID];
	int r = find_or_make(&m->users, op->user, &k->user, &k->new_user);

	if (r == 0 && k->new_user)
		r = find_or_make(&m->emails, sn__reg_email(op->user), &k->email, &k->new_email);
	if (r == 0 && guid.ptr != NULL)
		r = find_or_make(&m->guids, guid, &k->guid, &k->new_guid);
	if (r < 0)
		unmake(k);
	return r;
}

static void made(struct memory *m, struct making *k)
{
	if (k->new_email)
		sn__reg_table_add(&m->emails, &k->email->node);
	if (k->new_user) {
		sn__reg_table_add(&m->users, &k->user->node);
		k->user->next = k->email->first;
		k->email->first = k->user;
	}
	if (k->new_guid)
		sn__reg_table_add(&m->guids, &k->guid->node);
	if (k->guid == NULL || k->guid->user == k->user)
		return;
	if (k->guid->user != NULL)
		k->guid->user->n_guids--;
	k->guid->user = k->user;
	k->user->n_guids++;
}

/* Room for one more entry in @t, and the entry; its node is not in the table yet. */
static int new_entry(struct memory *m, struct sn_reg_table *t, const struct sn_reg_op *op,
		struct entry **ret_entry)
{
	struct entry *e;
	int r;

	if (m->max_entries > 0 && (uint64_t)m->hyperties.n + m->objects.n >= m->max_entries)
		return SN_E_LIMIT;
	r = sn__reg_table_reserve(t);
	if (r < 0)
		return r;
	e = node_make(t->key, op->id);
	if (e == NULL)
		return SN_E_NOMEM;
	e->started = seconds(op->now);
	sn_list_init(&e->link);
	*ret_entry = e;
	return 0;
}

static int create_hyperty(struct memory *m, struct sn_reg_op *op)
{
	struct hyperty *h = find(&m->hyperties, op->id);
	struct entry *e = h != NULL ? &h->e : NULL;
	struct making k = {.user = NULL};
	struct parts parts;
	int r;

	if (h != NULL && !sn_str_eq((struct sn_str){h->user->key, h->user->node.len}, op->user))
		return SN_E_NOT_FOUND;
	r = parts_get(m, op->values, &parts);
	if (r < 0)
		return r;
	r = make(m, op, &k);
	if (r == 0 && h == NULL) {
		r = new_entry(m, &m->hyperties, op, &e);
		if (r < 0)
			unmake(&k);
	}
	if (r < 0) {
		parts_put(m, &parts);
		return r;
	}
	made(m, &k);
	if (h == NULL) {
		h = hyperty_of(e);
		h->user = k.user;
		h->next = k.user->first;
		k.user->first = h;
		sn__reg_table_add(&m->hyperties, &e->node);
	}
	h->guid = k.guid;
	parts_take(m, e, &parts, op->now);
	return 0;
}

static void object_leave(struct memory *m, struct object *o, unsigned which)
{
	struct group *g = o->group[which];

	sn_list_remove(&o->of[which]);
	if (!sn_list_empty(&g->objects))
		return;
	sn__reg_table_remove(&m->groups[which], &g->node);
	sn__free(g);
}

static void object_join(struct memory *m, struct object *o, struct group *g[2], const bool *is_new)
{
	for (unsigned i = 0; i < 2; i++) {
		if (is_new[i]) {
			sn_list_init(&g[i]->objects);
			sn__reg_table_add(&m->groups[i], &g[i]->node);
		}
		if (o->group[i] == g[i])
			continue;
		if (o->group[i] != NULL)
			object_leave(m, o, i);
		o->group[i] = g[i];
		sn_list_push_back(&g[i]->objects, &o->of[i]);
	}
}

/* @o NULL: a new one. */
static int put_object(struct memory *m, struct sn_reg_op *op, const struct sn_reg_values *v,
		struct object *o)
{
	struct entry *e = o != NULL ? &o->e : NULL;
	struct group *g[2] = {NULL, NULL};
	bool is_new[2] = {false, false};
	struct parts parts;
	int r = parts_get(m, v, &parts);

	if (r < 0)
		return r;
	r = find_or_make(&m->groups[0], v->text[SN_REG_NAME], &g[0], &is_new[0]);
	if (r == 0)
		r = find_or_make(&m->groups[1], v->text[SN_REG_REPORTER], &g[1], &is_new[1]);
	if (r == 0 && o == NULL)
		r = new_entry(m, &m->objects, op, &e);
	if (r < 0) {
		for (unsigned i = 0; i < 2; i++) {
			if (is_new[i])
				sn__free(g[i]);
		}
		parts_put(m, &parts);
		return r;
	}
	if (o == NULL) {
		o = object_of(e);
		sn_list_init(&o->of[0]);
		sn_list_init(&o->of[1]);
		e->node.flags |= FLAG_OBJECT;
		sn__reg_table_add(&m->objects, &e->node);
	}
	object_join(m, o, g, is_new);
	parts_take(m, e, &parts, op->now);
	return 0;
}

static struct entry *find_entry(struct memory *m, const struct sn_reg_op *op)
{
	struct sn_reg_node *node = sn__reg_table_find(
			op->kind == SN_REG_HYPERTY ? &m->hyperties : &m->objects, op->id);

	return node != NULL ? SN_CONTAINER_OF(node, struct entry, node) : NULL;
}

static int touch(struct memory *m, struct sn_reg_op *op)
{
	struct entry *e = find_entry(m, op);

	if (e == NULL)
		return SN_E_NOT_FOUND;
	op->changed = e->status != m->live;
	if (op->changed) {
		set_status(m, e, m->live);
		tell(m, e);
	}
	e->modified = seconds(op->now);
	place(m, e);
	return 0;
}

static int update_hyperty(struct memory *m, struct sn_reg_op *op, const struct sn_reg_values *v,
		struct hyperty *h)
{
	struct sn_str guid = op->values->text[SN_REG_GUID];
	struct making k = {.user = h->user};
	struct parts parts;
	int r = parts_get(m, v, &parts);

	if (r < 0)
		return r;
	if (guid.ptr != NULL)
		r = find_or_make(&m->guids, guid, &k.guid, &k.new_guid);
	if (r < 0) {
		parts_put(m, &parts);
		return r;
	}
	made(m, &k);
	if (k.guid != NULL)
		h->guid = k.guid;
	parts_take(m, &h->e, &parts, op->now);
	return 0;
}

static int update(struct memory *m, struct sn_reg_op *op)
{
	const struct sn_reg_values *v = op->values;
	struct entry *e = find_entry(m, op);
	struct sn_reg_entry old;
	struct text *status;
	int r;

	if (e == NULL)
		return SN_E_NOT_FOUND;
	view(e, &old);
	for (unsigned i = 0; i < SN_REG_MEMBERS; i++) {
		if (v->text[i].ptr != NULL)
			old.v.text[i] = v->text[i];
	}
	if (v->has_expires)
		old.v.expires = v->expires;
	status = e->status;
	status->refs++; /* to be compared with */
	if (op->kind == SN_REG_OBJECT)
		r = put_object(m, op, &old.v, object_of(e));
	else
		r = update_hyperty(m, op, &old.v, hyperty_of(e));
	if (r == 0)
		op->changed = status != e->status;
	text_put(m, status);
	return r;
}

static int delete_entry(struct memory *m, struct sn_reg_op *op)
{
	struct entry *e = find_entry(m, op);

	if (e == NULL)
		return SN_E_NOT_FOUND;
	if (op->kind == SN_REG_HYPERTY) {
		const struct user *u = hyperty_of(e)->user;

		if (!sn_str_eq((struct sn_str){u->key, u->node.len}, op->user))
			return SN_E_NOT_FOUND;
	}
	disconnect(m, e);
	return 0;
}

/* ---- reading ---- */

static void give(struct memory *m, struct sn_reg_op *op, struct entry *e, struct sn_str guid)
{
	struct sn_reg_entry seen;

	(void)expire(m, e, op->now);
	view(e, &seen);
	op->entry(op, &seen, guid);
	op->n++;
}

static const struct sn_str no_guid = {"", 0};

static void give_user(struct memory *m, struct sn_reg_op *op, struct user *u)
{
	for (struct hyperty *h = u != NULL ? u->first : NULL; h != NULL; h = h->next)
		give(m, op, &h->e, no_guid);
}

static void give_group(struct memory *m, struct sn_reg_op *op, unsigned which)
{
	struct group *g = find(&m->groups[which], op->id);

	if (g == NULL)
		return;
	SN_LIST_FOREACH (pos, &g->objects)
		give(m, op, &SN_CONTAINER_OF(pos - which, struct object, of[0])->e, no_guid);
}

static int read_entries(struct memory *m, struct sn_reg_op *op)
{
	struct entry *e;

	switch (op->by) {
	case SN_REG_BY_URL:
		e = find_entry(m, op);
		if (e != NULL)
			give(m, op, e, no_guid);
		break;
	case SN_REG_BY_USER:
		give_user(m, op, find(&m->users, op->id));
		break;
	case SN_REG_BY_GUID: {
		struct guid *g = find(&m->guids, op->id);

		give_user(m, op, g != NULL ? g->user : NULL);
		break;
	}
	case SN_REG_BY_EMAIL: {
		struct email *email = find(&m->emails, op->id);

		for (struct user *u = email != NULL ? email->first : NULL; u != NULL; u = u->next)
			give_user(m, op, u);
		break;
	}
	case SN_REG_BY_NAME:
		give_group(m, op, 0);
		break;
	case SN_REG_BY_REPORTER:
		give_group(m, op, 1);
		break;
	}
	return op->n > 0 ? 0 : SN_E_NOT_FOUND;
}

static int updated(struct memory *m, struct sn_reg_op *op)
{
	struct sn_list *node;

	while (op->n < SN_REG_UPDATED_MAX && (node = sn_list_pop_front(&m->pending)) != NULL) {
		struct entry *e = SN_CONTAINER_OF(node, struct entry, link);

		e->node.flags &= (uint8_t)~FLAG_PENDING;
		give(m, op, e, no_guid);
	}
	return 0;
}

static int changed_users(struct memory *m, struct sn_reg_op *op)
{
	while (m->changed != NULL && op->n < SN_REG_CHANGED_MAX) {
		struct user *u = m->changed;
		const struct sn_reg_entry e = {.user = {u->key, u->node.len}};

		m->changed = u->changed != u ? u->changed : NULL;
		u->changed = NULL;
		op->entry(op, &e, no_guid);
		op->n++;
	}
	return m->changed != NULL ? SN_E_AGAIN : 0;
}

struct page {
	struct memory *m;
	struct sn_reg_op *op;
};

static bool page_guid(struct sn_reg_node *node, void *arg)
{
	struct guid *g = SN_CONTAINER_OF(node, struct guid, node);
	struct page *p = arg;

	for (struct hyperty *h = g->user->first; h != NULL && p->op->n < p->op->page; h = h->next)
		give(p->m, p->op, &h->e, (struct sn_str){g->key, g->node.len});
	return p->op->n < p->op->page;
}

static bool page_user(struct sn_reg_node *node, void *arg)
{
	struct user *u = SN_CONTAINER_OF(node, struct user, node);
	struct page *p = arg;

	for (struct hyperty *h = u->n_guids == 0 ? u->first : NULL;
			h != NULL && p->op->n < p->op->page; h = h->next)
		give(p->m, p->op, &h->e, no_guid);
	return p->op->n < p->op->page;
}

static int heartbeat(struct memory *m, struct sn_reg_op *op)
{
	uint32_t now = seconds(op->now), looked = 0;
	struct sn_list *node;

	if (now < m->cursor) /* the clock was set back: what is due has time */
		return 0;
	/* After a long sleep every slot once is enough. */
	if (now > m->cursor && now - m->cursor > WHEEL_SLOTS && sn_list_empty(&m->work))
		m->cursor = now - WHEEL_SLOTS;
	while ((node = sn_list_pop_front(&m->work)) != NULL || m->cursor < now) {
		struct entry *e;

		if (node == NULL) {
			m->cursor++;
			sn_list_splice_back(&m->work, &m->slots[m->cursor % WHEEL_SLOTS]);
			continue;
		}
		e = SN_CONTAINER_OF(node, struct entry, link);
		if (expire(m, e, op->now))
			op->n++;
		else
			place(m, e);
		if (++looked == EXPIRE_MAX)
			return SN_E_AGAIN;
	}
	return 0;
}

/* ---- the store ---- */

static int act(struct memory *m, struct sn_reg_op *op)
{
	struct page page = {m, op};

	switch (op->act) {
	case SN_REG_CREATE:
		if (op->kind == SN_REG_HYPERTY)
			return create_hyperty(m, op);
		return put_object(m, op, op->values, find(&m->objects, op->id));
	case SN_REG_READ:
		return read_entries(m, op);
	case SN_REG_TOUCH:
		return touch(m, op);
	case SN_REG_UPDATE:
		return update(m, op);
	case SN_REG_DELETE:
		return delete_entry(m, op);
	case SN_REG_UPDATED:
		return updated(m, op);
	case SN_REG_COUNT:
		op->n = m->hyperties.n;
		op->n_guids = m->guids.n;
		return 0;
	case SN_REG_PAGE:
		sn__reg_table_each(&m->guids, page_guid, &page);
		sn__reg_table_each(&m->users, page_user, &page);
		return 0;
	case SN_REG_EXPIRE:
		return heartbeat(m, op);
	case SN_REG_CHANGED:
		return changed_users(m, op);
	}
	return SN_E_NOTSUP;
}

static int submit(struct sn_reg_store *store, struct sn_reg_op *op)
{
	op->n = 0;
	op->changed = false;
	op->result = act(memory_of(store), op);
	return 1;
}

static bool free_node(struct sn_reg_node *node, void *arg)
{
	sn__free(node);
	return true;
}

static void discard(struct sn_reg_store *store)
{
	struct memory *m = memory_of(store);
	struct sn_reg_table *tables[] = {&m->texts, &m->emails, &m->users, &m->guids, &m->hyperties,
			&m->objects, &m->groups[0], &m->groups[1]};

	for (size_t i = 0; i < SN_COUNT(tables); i++) {
		sn__reg_table_each(tables[i], free_node, NULL);
		sn__reg_table_finish(tables[i]);
	}
	sn__free(m);
}

static void close_now(struct sn_task *task)
{
	struct memory *m = SN_CONTAINER_OF(task, struct memory, close_task);
	void (*closed)(void *arg) = m->closed;
	void *arg = m->closed_arg;

	discard(&m->store);
	if (closed != NULL)
		closed(arg);
}

static void close_store(struct sn_reg_store *store, void (*done)(void *arg), void *arg)
{
	struct memory *m = memory_of(store);

	m->closed = done;
	m->closed_arg = arg;
	sn__loop_defer(m->loop, &m->close_task, close_now);
}

static const struct sn_reg_store_ops memory_ops = {
		.name = "Ram",
		.submit = submit,
		.close = close_store,
		.discard = discard,
};

int sn__reg_memory_open(const struct sn_reg_memory_options *opts, struct sn_reg_store **ret_store)
{
	struct memory *m = sn__calloc(1, sizeof(*m));

	if (m == NULL)
		return SN_E_NOMEM;
	m->store.ops = &memory_ops;
	m->loop = opts->loop;
	m->max_entries = opts->max_entries;
	m->cursor = seconds(opts->now);
	sn__reg_table_init(&m->texts, offsetof(struct text, key));
	sn__reg_table_init(&m->emails, offsetof(struct email, key));
	sn__reg_table_init(&m->users, offsetof(struct user, key));
	sn__reg_table_init(&m->guids, offsetof(struct guid, key));
	sn__reg_table_init(&m->hyperties, offsetof(struct hyperty, key));
	sn__reg_table_init(&m->objects, offsetof(struct object, key));
	sn__reg_table_init(&m->groups[0], offsetof(struct group, key));
	sn__reg_table_init(&m->groups[1], offsetof(struct group, key));
	sn_list_init(&m->pending);
	sn_list_init(&m->work);
	for (size_t i = 0; i < WHEEL_SLOTS; i++)
		sn_list_init(&m->slots[i]);
	m->live = text_get(m, SN_STR("live"));
	m->disconnected = text_get(m, SN_STR("disconnected"));
	if (m->live == NULL || m->disconnected == NULL) {
		discard(&m->store);
		return SN_E_NOMEM;
	}
	*ret_store = &m->store;
	return 0;
}
