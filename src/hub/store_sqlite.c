/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/store.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "connect/driver.h"
#include "connect/sql.h"

/*
 * The store in an SQLite file of this process alone. An operation is one transaction, whose statements
 * see for themselves whether its condition holds: none has to look first and write later. All of them,
 * reads too, go through the lane that writes, one after another in the order of submission; the driver
 * makes one commit of those that wait together, so that a thousand registrations cost the disk what one
 * does.
 *
 * Changes of late are a ring in memory, as in the store in memory: a restart forgets them, and watches
 * from before are told that they have lost something. Leases are in the file, their clocks are not:
 * after a restart each has its whole time again.
 */

#define HISTORY_MAX 4096u /* changes; a power of two */
#define HISTORY_BYTES_MAX (4u << 20)
#define RANGE_MAX ((uint64_t)4 << 30) /* bytes of a range */
#define RETRY_NS SN_NS_PER_S          /* until an expiry that failed is tried again */
#define STATEMENTS_MAX 3
#define PARAMS_MAX 5

static const char schema[] =
		"CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB NOT NULL,"
		" created BIGINT NOT NULL, revision BIGINT NOT NULL, lease BIGINT NOT NULL)"
		" WITHOUT ROWID;"
		"CREATE INDEX IF NOT EXISTS kv_lease ON kv (lease) WHERE lease <> 0;"
		"CREATE TABLE IF NOT EXISTS lease (id BIGINT PRIMARY KEY, ttl_ms BIGINT NOT NULL);"
		"CREATE TABLE IF NOT EXISTS meta (id BIGINT PRIMARY KEY, revision BIGINT NOT NULL,"
		" last_lease BIGINT NOT NULL);"
		"INSERT INTO meta (id, revision, last_lease) VALUES (1, 1, 0) ON CONFLICT DO NOTHING";

/* $1 key, $2 condition (-1: any), $3 lease, $4 value. The condition of a put holds in both of its
 * statements or in none: nothing of it has changed between them. */
#define HOLDS \
	"($2 = -1 OR COALESCE((SELECT revision FROM kv WHERE key = $1), 0) = $2)" \
	" AND ($3 = 0 OR EXISTS (SELECT 1 FROM lease WHERE id = $3))"
static const char look_key[] = "SELECT revision, created, lease FROM kv WHERE key = $1";
static const char put_next[] = "UPDATE meta SET revision = revision + 1 WHERE id = 1 AND " HOLDS
			       " RETURNING revision";
static const char put_key[] =
		"INSERT INTO kv (key, value, created, revision, lease)"
		" SELECT $1, $4, revision, revision, $3 FROM meta WHERE id = 1 AND " HOLDS
		" ON CONFLICT (key) DO UPDATE SET value = excluded.value,"
		" revision = excluded.revision, lease = excluded.lease";
static const char remove_next[] =
		"UPDATE meta SET revision = revision + 1 WHERE id = 1 AND EXISTS"
		" (SELECT 1 FROM kv WHERE key = $1 AND ($2 = -1 OR revision = $2))"
		" RETURNING revision";
static const char remove_key[] = "DELETE FROM kv WHERE key = $1 AND ($2 = -1 OR revision = $2)";
static const char range_all[] =
		"SELECT key, value, created, revision, lease FROM kv WHERE key >= $1 ORDER BY key";
static const char range_to[] = "SELECT key, value, created, revision, lease FROM kv"
			       " WHERE key >= $1 AND key < $2 ORDER BY key";
static const char revision_of[] = "SELECT revision FROM meta WHERE id = 1";
static const char grant_next[] = "UPDATE meta SET last_lease = last_lease + 1 WHERE id = 1"
				 " RETURNING last_lease, revision";
static const char grant_lease[] = "INSERT INTO lease (id, ttl_ms)"
				  " SELECT last_lease, $1 FROM meta WHERE id = 1";
static const char keep_lease[] = "SELECT id FROM lease WHERE id = $1";
static const char all_leases[] = "SELECT id, ttl_ms FROM lease";
static const char end_next[] =
		"UPDATE meta SET revision = revision + 1 WHERE id = 1 AND EXISTS"
		" (SELECT 1 FROM kv WHERE lease = $1 AND lease <> 0) RETURNING revision";
static const char end_keys[] =
		"DELETE FROM kv WHERE lease = $1 AND lease <> 0 RETURNING key, created";
static const char end_lease[] = "DELETE FROM lease WHERE id = $1 RETURNING id";

struct sqlite_store {
	struct sn_hub_store store; /* first */
	struct sn_sql *sql;
	enum { NEW, LOADING, READY } phase;
	struct sn_list waiting; /* sn_hub_op.link: until it is ready */
	struct sn_list watches, leases;
	struct sn_hub_watch *telling;
	struct sn_task task;
	struct sn_sql_unit load;
	struct sn_sql_statement load_statements[2];
	uint64_t revision;
	/* the ring: changes number `first` up to `next`, without it */
	uint64_t first, next,
			known_from; /* known_from: every change from this revision on is in it */
	size_t history_bytes;
	bool away, closing;
	void (*done)(void *arg);
	void *done_arg;
	struct change *history[HISTORY_MAX];
};

struct lease {
	struct sn_list link;
	struct sn_timer timer;
	struct sqlite_store *s;
	uint64_t id, ttl_ns;
	bool ending; /* its expiry is under way */
};

struct change {
	uint64_t revision, created, lease;
	bool removed;
	uint32_t key_len, value_len;
	char text[];
};

/* What sn_hub_watch.engine holds. */
struct watch_state {
	uint64_t next; /* number of the change to be told */
	bool placed;
};
_Static_assert(sizeof(struct watch_state) <= sizeof(((struct sn_hub_watch *)0)->engine),
		"sn_hub_watch.engine is too small");

/* An operation, or an expiry of ours, on its way. */
struct work {
	struct sn_sql_unit unit;
	struct sqlite_store *s;
	struct sn_hub_op *op; /* NULL: an expiry */
	struct lease *lease;  /* GRANT: to be; expiry: that */
	uint64_t lease_id;
	struct change *change; /* PUT, REMOVE: to be */
	char *upper;           /* RANGE: the first key behind it */
	struct sn_sql_statement statements[STATEMENTS_MAX];
	struct sn_sql_value params[STATEMENTS_MAX][PARAMS_MAX];
};

static struct watch_state *state_of(struct sn_hub_watch *w)
{
	return (struct watch_state *)(void *)w->engine;
}

/* ---- history and watches ---- */

static size_t bytes_of(const struct change *c)
{
	return sizeof(*c) + c->key_len + c->value_len;
}

static struct change *change_new(struct sn_str key, struct sn_str value, bool removed)
{
	struct change *c = sn__malloc(sizeof(*c) + key.len + value.len);

	if (c == NULL)
		return NULL;
	*c = (struct change){.removed = removed,
			.key_len = (uint32_t)key.len,
			.value_len = (uint32_t)value.len};
	if (key.len > 0)
		memcpy(c->text, key.ptr, key.len);
	if (value.len > 0)
		memcpy(c->text + key.len, value.ptr, value.len);
	return c;
}

static void forget_oldest(struct sqlite_store *s)
{
	struct change **c = &s->history[s->first++ % HISTORY_MAX];

	s->known_from = (*c)->revision + 1;
	s->history_bytes -= bytes_of(*c);
	sn__free(SN_TAKE(*c));
}

/* Where a watch begins: those that ask for what is forgotten are told so. */
static void place(struct sqlite_store *s, struct sn_hub_watch *w)
{
	struct watch_state *ws = state_of(w);

	ws->placed = true;
	ws->next = s->next;
	if (w->from == 0)
		return;
	if (w->from < s->known_from) {
		w->lost(w, s->revision);
		return;
	}
	while (ws->next > s->first && s->history[(ws->next - 1) % HISTORY_MAX]->revision >= w->from)
		ws->next--;
}

static bool begins_with(struct sn_str s, struct sn_str prefix)
{
	return s.len >= prefix.len &&
			(prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static void tell(struct sqlite_store *s, struct sn_hub_watch *w)
{
	struct watch_state *ws = state_of(w);

	s->telling = w;
	if (!ws->placed)
		place(s, w);
	while (s->telling == w && !s->closing && ws->next < s->next) {
		const struct change *c = s->history[ws->next++ % HISTORY_MAX];
		const struct sn_hub_entry e = {.key = {c->text, c->key_len},
				.value = {c->text + c->key_len, c->value_len},
				.created = c->created,
				.revision = c->revision,
				.lease = c->lease};

		if (begins_with(e.key, w->prefix) && c->revision >= w->from)
			w->change(w, &e, c->removed);
	}
	s->telling = NULL;
}

static void tell_all(struct sqlite_store *s)
{
	struct sn_list todo, *node;

	sn_list_init(&todo);
	sn_list_splice_back(&todo, &s->watches);
	while ((node = sn_list_pop_front(&todo)) != NULL) {
		if (s->closing)
			continue;
		sn_list_push_back(&s->watches, node);
		tell(s, SN_CONTAINER_OF(node, struct sn_hub_watch, link));
	}
}

static void on_task(struct sn_task *task)
{
	struct sqlite_store *s = SN_CONTAINER_OF(task, struct sqlite_store, task);

	if (s->phase == READY)
		tell_all(s);
}

static void tell_soon(struct sqlite_store *s)
{
	if (!sn_task_queued(&s->task) && !s->closing)
		sn__loop_defer(s->store.loop, &s->task, on_task);
}

/* It is the ring's. */
static void changed(struct sqlite_store *s, struct change *c)
{
	bool full = s->next - s->first >= HISTORY_MAX ||
			s->history_bytes + bytes_of(c) > HISTORY_BYTES_MAX;

	if (full)
		tell_all(s); /* before anything is forgotten */
	while (s->next > s->first &&
			(s->next - s->first >= HISTORY_MAX ||
					s->history_bytes + bytes_of(c) > HISTORY_BYTES_MAX))
		forget_oldest(s);
	s->history[s->next++ % HISTORY_MAX] = c;
	s->history_bytes += bytes_of(c);
	tell_soon(s);
}

/* Something has changed and there was no memory to say what. */
static void forget_all(struct sqlite_store *s)
{
	tell_all(s);
	while (s->next > s->first)
		forget_oldest(s);
	s->known_from = s->revision + 1;
	SN_LIST_FOREACH (node, &s->watches) {
		struct sn_hub_watch *w = SN_CONTAINER_OF(node, struct sn_hub_watch, link);

		w->from = 1; /* placed anew, it is lost */
		state_of(w)->placed = false;
	}
	tell_soon(s);
}

/* ---- the end of an operation ---- */

static int code_of(const struct sn_sql_outcome *o)
{
	switch (o->kind) {
	case SN_SQL_OK:
		return 0;
	case SN_SQL_CONFLICT:
		return SN_E_TIMEOUT;
	case SN_SQL_STOPPED:
		return o->code;
	case SN_SQL_UNAVAILABLE:
		return o->code == SN_E_NOMEM ? o->code : SN_E_IO;
	default:
		return SN_E_IO;
	}
}

static void finish(struct sn_hub_op *op, int code)
{
	op->err.code = code;
	if (code < 0 && op->err.text[0] == '\0')
		(void)sn__error_set(&op->err, code, "%s", sn_strerror(code));
	op->done(op, code);
}

static void on_failed(struct sn_task *task)
{
	struct sn_hub_op *op = SN_CONTAINER_OF(task, struct sn_hub_op, task);

	finish(op, (int)(intptr_t)op->engine[0]);
}

/* In a turn of its own. */
static void fail(struct sqlite_store *s, struct sn_hub_op *op, int code)
{
	op->engine[0] = (void *)(intptr_t)code;
	sn__loop_defer(s->store.loop, &op->task, on_failed);
}

/* Whether the file can be written is told when that changes. */
static void note(struct sqlite_store *s, const struct sn_sql_outcome *o)
{
	bool away = o->kind == SN_SQL_UNAVAILABLE && o->code != SN_E_NOMEM;
	struct sn_error err;

	if (o->kind == SN_SQL_STOPPED || away == s->away)
		return;
	s->away = away;
	(void)sn__error_set(&err, SN_E_IO, "the store's file: %s", o->message);
	if (s->store.state != NULL)
		s->store.state(s->store.state_arg, away ? &err : NULL);
}

static void work_free(struct work *w)
{
	sn__free(w->change);
	sn__free(w->upper);
	if (w->op != NULL)
		sn__free(w->lease); /* a grant that came to nothing */
	sn__free(w);
}

static int64_t int_at(const struct sn_sql_rows *rows, uint32_t row, uint32_t column)
{
	return sn_sql_i64(sn_sql_cell(rows, row, column));
}

/* ---- leases ---- */

static void end(struct lease *l);

static void on_expired(struct sn_timer *timer)
{
	end(SN_CONTAINER_OF(timer, struct lease, timer));
}

static void lease_start(struct sqlite_store *s, struct lease *l, uint64_t id, uint64_t ttl_ms)
{
	l->s = s;
	l->id = id;
	l->ttl_ns = sn_ms_to_ns(SN_MAX(ttl_ms, 1));
	sn_list_push_back(&s->leases, &l->link);
	sn__timer_start(s->store.loop, &l->timer, l->ttl_ns, on_expired);
}

static void lease_free(struct lease *l)
{
	sn__timer_stop(l->s->store.loop, &l->timer);
	sn_list_remove(&l->link);
	sn__free(l);
}

static struct lease *lease_find(struct sqlite_store *s, uint64_t id)
{
	SN_LIST_FOREACH (node, &s->leases) {
		struct lease *l = SN_CONTAINER_OF(node, struct lease, link);

		if (l->id == id)
			return l;
	}
	return NULL;
}

/* rows: end_next, end_keys, end_lease. SN_E_NOT_FOUND: it was no more. */
static int ended(struct sqlite_store *s, uint64_t id, const struct sn_sql_rows *rows)
{
	struct lease *l = lease_find(s, id);
	bool known = true;

	if (rows[0].n_rows > 0)
		s->revision = (uint64_t)int_at(&rows[0], 0, 0);
	for (uint32_t i = 0; i < rows[1].n_rows; i++) {
		struct change *c = change_new(
				sn_sql_str(sn_sql_cell(&rows[1], i, 0)), SN_STR(""), true);

		known = known && c != NULL;
		if (c == NULL)
			continue;
		c->revision = s->revision;
		c->created = (uint64_t)int_at(&rows[1], i, 1);
		changed(s, c);
	}
	if (!known)
		forget_all(s);
	if (l != NULL)
		lease_free(l);
	return rows[2].n_rows > 0 ? 0 : SN_E_NOT_FOUND;
}

/* ---- operations, when they are done ---- */

static int put_done(struct work *w, const struct sn_sql_rows *rows)
{
	struct sn_hub_op *op = w->op;
	struct sqlite_store *s = w->s;
	uint64_t have = rows[0].n_rows > 0 ? (uint64_t)int_at(&rows[0], 0, 0) : 0;

	if (rows[1].n_rows == 0) {
		if (op->if_revision == SN_HUB_ANY || op->if_revision == have)
			return sn__error_set(&op->err, SN_E_NOT_FOUND, "%s",
					op->kind == SN_HUB_PUT ? "the lease has expired"
							       : "no such key");
		op->revision = have;
		return sn__error_set(&op->err, SN_E_EXISTS, "the key has revision %llu, not %llu",
				(unsigned long long)have, (unsigned long long)op->if_revision);
	}
	s->revision = op->revision = (uint64_t)int_at(&rows[1], 0, 0);
	w->change->revision = s->revision;
	w->change->created = rows[0].n_rows > 0 ? (uint64_t)int_at(&rows[0], 0, 1) : s->revision;
	w->change->lease = op->kind == SN_HUB_PUT ? op->lease : 0;
	changed(s, SN_TAKE(w->change));
	return 0;
}

static int range_done(struct work *w, const struct sn_sql_rows *rows)
{
	struct sn_hub_op *op = w->op;

	op->revision = (uint64_t)int_at(&rows[1], 0, 0);
	for (uint32_t i = 0; i < rows[0].n_rows && op->entry != NULL; i++) {
		const struct sn_hub_entry e = {
				.key = sn_sql_str(sn_sql_cell(&rows[0], i, 0)),
				.value = sn_sql_str(sn_sql_cell(&rows[0], i, 1)),
				.created = (uint64_t)int_at(&rows[0], i, 2),
				.revision = (uint64_t)int_at(&rows[0], i, 3),
				.lease = (uint64_t)int_at(&rows[0], i, 4),
		};

		op->entry(op, &e);
	}
	return 0;
}

static int lease_done(struct work *w, const struct sn_sql_rows *rows)
{
	struct sn_hub_op *op = w->op;
	struct sqlite_store *s = w->s;
	int r = 0;

	if (op->kind == SN_HUB_GRANT) {
		op->granted = (uint64_t)int_at(&rows[0], 0, 0);
		lease_start(s, SN_TAKE(w->lease), op->granted, op->ttl_ms);
	} else if (op->kind == SN_HUB_REVOKE) {
		r = ended(s, op->lease, rows);
	} else {
		r = rows[0].n_rows > 0 ? 0 : SN_E_NOT_FOUND;
	}
	op->revision = s->revision;
	return r == 0 ? 0 : sn__error_set(&op->err, r, "the lease has expired");
}

static void on_done(struct sn_sql_unit *unit)
{
	struct work *w = SN_CONTAINER_OF(unit, struct work, unit);
	struct sn_hub_op *op = w->op;
	int code = code_of(&unit->outcome);

	note(w->s, &unit->outcome);
	if (code < 0)
		(void)sn__error_set(&op->err, code, "%s", unit->outcome.message);
	else if (op->kind == SN_HUB_PUT || op->kind == SN_HUB_REMOVE)
		code = put_done(w, unit->rows);
	else if (op->kind == SN_HUB_RANGE)
		code = range_done(w, unit->rows);
	else
		code = lease_done(w, unit->rows);
	work_free(w);
	finish(op, code);
}

/* ---- operations, when they begin ---- */

static struct sn_sql_value *add(struct work *w, const char *sql, uint32_t n_params)
{
	uint32_t i = w->unit.n_statements++;

	w->statements[i] = (struct sn_sql_statement){
			.sql = sql, .params = w->params[i], .n_params = n_params};
	w->unit.statements = w->statements;
	return w->params[i];
}

static void add_key(struct work *w, const char *sql, uint32_t n_params)
{
	const struct sn_hub_op *op = w->op;
	struct sn_sql_value *p = add(w, sql, n_params);

	p[0] = sn_sql_blob(op->key);
	p[1] = sn_sql_int(op->if_revision == SN_HUB_ANY ? -1 : (int64_t)op->if_revision);
	p[2] = sn_sql_int((int64_t)op->lease);
	p[3] = sn_sql_blob(op->value);
}

static void add_lease(struct work *w, const char *sql, uint64_t lease)
{
	add(w, sql, 1)[0] = sn_sql_int((int64_t)lease);
}

static int range_begin(struct work *w)
{
	struct sn_str key = w->op->key;
	struct sn_sql_value *p;
	size_t n = key.len;

	w->unit.max_rows = RANGE_MAX;
	while (n > 0 && (unsigned char)key.ptr[n - 1] == 0xff)
		n--;
	p = add(w, n > 0 ? range_to : range_all, n > 0 ? 2 : 1);
	p[0] = sn_sql_blob(key);
	(void)add(w, revision_of, 0);
	if (n == 0)
		return 0;
	w->upper = sn__strndup(key.ptr, n);
	if (w->upper == NULL)
		return SN_E_NOMEM;
	w->upper[n - 1]++;
	p[1] = sn_sql_blob((struct sn_str){w->upper, n});
	return 0;
}

static void end_begin(struct work *w, uint64_t id)
{
	add_lease(w, end_next, id);
	add_lease(w, end_keys, id);
	add_lease(w, end_lease, id);
}

static int begin(struct work *w)
{
	struct sn_hub_op *op = w->op;
	bool put = op->kind == SN_HUB_PUT;
	struct lease *l;

	switch (op->kind) {
	case SN_HUB_PUT:
	case SN_HUB_REMOVE:
		add_key(w, look_key, 1);
		add_key(w, put ? put_next : remove_next, put ? 3 : 2);
		add_key(w, put ? put_key : remove_key, put ? 4 : 2);
		w->change = change_new(op->key, put ? op->value : SN_STR(""), !put);
		return w->change != NULL ? 0 : SN_E_NOMEM;
	case SN_HUB_RANGE:
		return range_begin(w);
	case SN_HUB_GRANT:
		(void)add(w, grant_next, 0);
		add_lease(w, grant_lease, op->ttl_ms);
		w->lease = sn__calloc(1, sizeof(*w->lease));
		return w->lease != NULL ? 0 : SN_E_NOMEM;
	case SN_HUB_KEEP:
		l = lease_find(w->s, op->lease);
		/* From now: it must not run out while we look. */
		if (l != NULL && !l->ending)
			sn__timer_start(w->s->store.loop, &l->timer, l->ttl_ns, on_expired);
		add_lease(w, keep_lease, op->lease);
		return 0;
	case SN_HUB_REVOKE:
		end_begin(w, op->lease);
		return 0;
	}
	return SN_E_INVALID;
}

static int check(struct sn_hub_op *op)
{
	bool keyed = op->kind == SN_HUB_PUT || op->kind == SN_HUB_REMOVE;

	if (keyed && op->key.len == 0)
		return sn__error_set(&op->err, SN_E_INVALID, "an empty key");
	if (op->key.len > SN_HUB_KEY_MAX)
		return sn__error_set(&op->err, SN_E_LIMIT, "a key of %zu bytes, at most %u",
				op->key.len, SN_HUB_KEY_MAX);
	if (op->kind == SN_HUB_PUT && op->value.len > SN_HUB_VALUE_MAX)
		return sn__error_set(&op->err, SN_E_LIMIT, "a value of %zu bytes, at most %u",
				op->value.len, SN_HUB_VALUE_MAX);
	return 0;
}

static void start(struct sqlite_store *s, struct sn_hub_op *op)
{
	struct work *w = NULL;
	int r = check(op);

	if (r == 0) {
		w = sn__calloc(1, sizeof(*w));
		r = w != NULL ? 0 : SN_E_NOMEM;
	}
	if (r == 0) {
		w->s = s;
		w->op = op;
		w->unit.done = on_done;
		r = begin(w);
	}
	if (r == 0)
		r = sn__sql_submit(s->sql, &w->unit, 0);
	if (r == 0)
		return;
	if (w != NULL)
		work_free(w);
	fail(s, op, r);
}

/* ---- expiry ---- */

static void on_ended(struct sn_sql_unit *unit)
{
	struct work *w = SN_CONTAINER_OF(unit, struct work, unit);
	struct sqlite_store *s = w->s;
	struct lease *l = lease_find(s, w->lease_id);

	note(s, &unit->outcome);
	if (unit->outcome.kind == SN_SQL_OK) {
		(void)ended(s, w->lease_id, unit->rows);
	} else if (l != NULL && !s->closing) {
		l->ending = false;
		sn__timer_start(s->store.loop, &l->timer, RETRY_NS, on_expired);
	}
	work_free(w);
}

static void end(struct lease *l)
{
	struct sqlite_store *s = l->s;
	struct work *w = sn__calloc(1, sizeof(*w));

	if (w != NULL) {
		w->s = s;
		w->lease_id = l->id;
		w->unit.done = on_ended;
		end_begin(w, l->id);
	}
	l->ending = w != NULL && sn__sql_submit(s->sql, &w->unit, 0) == 0;
	if (l->ending)
		return;
	sn__free(w);
	sn__timer_start(s->store.loop, &l->timer, RETRY_NS, on_expired);
}

/* ---- loading ---- */

static void start_waiting(struct sqlite_store *s, int code, const char *why)
{
	struct sn_list ops, *node;

	sn_list_init(&ops);
	sn_list_splice_back(&ops, &s->waiting);
	while ((node = sn_list_pop_front(&ops)) != NULL) {
		struct sn_hub_op *op = SN_CONTAINER_OF(node, struct sn_hub_op, link);

		if (code == 0) {
			start(s, op);
			continue;
		}
		(void)sn__error_set(&op->err, code, "%s", why);
		fail(s, op, code);
	}
}

static int load_leases(struct sqlite_store *s, const struct sn_sql_rows *rows)
{
	for (uint32_t i = 0; i < rows->n_rows; i++) {
		struct lease *l = sn__calloc(1, sizeof(*l));

		if (l == NULL)
			return SN_E_NOMEM;
		lease_start(s, l, (uint64_t)int_at(rows, i, 0), (uint64_t)int_at(rows, i, 1));
	}
	return 0;
}

static void leases_free(struct sqlite_store *s)
{
	while (!sn_list_empty(&s->leases))
		lease_free(SN_CONTAINER_OF(s->leases.next, struct lease, link));
}

static void loaded(struct sqlite_store *s, int code, const char *why)
{
	s->phase = code == 0 ? READY : NEW;
	if (code < 0)
		leases_free(s);
	start_waiting(s, code, why);
	tell_soon(s);
}

static void on_loaded(struct sn_sql_unit *unit)
{
	struct sqlite_store *s = SN_CONTAINER_OF(unit, struct sqlite_store, load);
	int code = code_of(&unit->outcome);

	note(s, &unit->outcome);
	if (code == 0)
		code = load_leases(s, &unit->rows[1]);
	if (code == 0) {
		s->revision = (uint64_t)int_at(&unit->rows[0], 0, 0);
		s->known_from = s->revision + 1;
	}
	loaded(s, code, code == SN_E_NOMEM ? sn_strerror(code) : unit->outcome.message);
}

static void on_schema(struct sn_sql_unit *unit)
{
	struct sqlite_store *s = SN_CONTAINER_OF(unit, struct sqlite_store, load);
	int code = code_of(&unit->outcome);
	char why[sizeof(unit->outcome.message)];

	note(s, &unit->outcome);
	memcpy(why, unit->outcome.message, sizeof(why));
	if (code == 0) {
		s->load_statements[0] = (struct sn_sql_statement){.sql = revision_of};
		s->load_statements[1] = (struct sn_sql_statement){.sql = all_leases};
		s->load = (struct sn_sql_unit){.statements = s->load_statements,
				.n_statements = 2,
				.done = on_loaded};
		code = sn__sql_submit(s->sql, &s->load, 0);
	}
	if (code < 0)
		loaded(s, code, why[0] != '\0' ? why : sn_strerror(code));
}

static int load(struct sqlite_store *s)
{
	int r;

	s->load = (struct sn_sql_unit){.script = schema, .done = on_schema};
	r = sn__sql_submit(s->sql, &s->load, 0);
	if (r == 0)
		s->phase = LOADING;
	return r;
}

/* ---- the engine ---- */

static struct sqlite_store *store_of(struct sn_hub_store *store)
{
	return SN_CONTAINER_OF(store, struct sqlite_store, store);
}

static void sqlite_submit(struct sn_hub_store *store, struct sn_hub_op *op)
{
	struct sqlite_store *s = store_of(store);
	int r = 0;

	op->err.text[0] = '\0';
	if (s->closing) {
		fail(s, op, SN_E_CLOSED);
	} else if (s->phase == READY) {
		start(s, op);
	} else {
		if (s->phase == NEW)
			r = load(s);
		if (r < 0)
			fail(s, op, r);
		else
			sn_list_push_back(&s->waiting, &op->link);
	}
}

static void sqlite_watch(struct sn_hub_store *store, struct sn_hub_watch *w)
{
	struct sqlite_store *s = store_of(store);

	*state_of(w) = (struct watch_state){
			.placed = s->phase == READY && w->from == 0, .next = s->next};
	if (s->closing) {
		sn_list_init(&w->link);
		return;
	}
	sn_list_push_back(&s->watches, &w->link);
	if (s->phase == NEW)
		(void)load(s); /* or with the first operation */
	tell_soon(s);
}

static void sqlite_unwatch(struct sn_hub_store *store, struct sn_hub_watch *w)
{
	struct sqlite_store *s = store_of(store);

	sn_list_remove(&w->link);
	if (s->telling == w)
		s->telling = NULL;
}

static void on_closed(void *arg)
{
	struct sqlite_store *s = arg;
	void (*done)(void *done_arg) = s->done;
	void *done_arg = s->done_arg;

	leases_free(s);
	while (s->next > s->first)
		forget_oldest(s);
	sn__free(s);
	if (done != NULL)
		done(done_arg);
}

static void sqlite_close(struct sn_hub_store *store, void (*done)(void *arg), void *arg)
{
	struct sqlite_store *s = store_of(store);

	s->closing = true;
	s->done = done;
	s->done_arg = arg;
	sn__loop_undefer(store->loop, &s->task);
	while (sn_list_pop_front(&s->watches) != NULL)
		;
	SN_LIST_FOREACH (node, &s->leases)
		sn__timer_stop(store->loop, &SN_CONTAINER_OF(node, struct lease, link)->timer);
	start_waiting(s, SN_E_CLOSED, sn_strerror(SN_E_CLOSED));
	sn__sql_close(s->sql, on_closed, s);
}

static const struct sn_hub_store_ops sqlite_ops = {
		.name = "sqlite",
		.submit = sqlite_submit,
		.watch = sqlite_watch,
		.unwatch = sqlite_unwatch,
		.close = sqlite_close,
};

static int config_of(const char *path, struct sn_buf *out)
{
	int r = sn__buf_puts(out, "{\"queue\":1000000,\"readers\":1,\"path\":");

	if (r == 0)
		r = sn__json_quote(sn_str_from(path), out);
	return r == 0 ? sn__buf_append(out, "}", 2) : r;
}

int sn__hub_sqlite_open(struct sn_connect_host *host, const char *path,
		struct sn_hub_store **ret_store, struct sn_error *err)
{
	struct sqlite_store *s = sn__calloc(1, sizeof(*s));
	struct sn_sql_open how = {
			.loop = host->loop, .rt = host->rt, .log = host->log, .type = "sqlite"};
	struct sn_buf config;
	int r = SN_E_NOMEM;

	sn__buf_init(&config, 1 << 16);
	if (s != NULL)
		r = config_of(path, &config);
	if (r < 0) {
		(void)sn__error_set(err, r, "%s", sn_strerror(r));
	} else {
		how.config = sn__buf_data(&config);
		r = sn__sql_open(&how, &s->sql, err);
	}
	sn__buf_finish(&config);
	if (r < 0) {
		sn__free(s);
		return r;
	}
	s->store.ops = &sqlite_ops;
	s->store.loop = host->loop;
	sn_list_init(&s->waiting);
	sn_list_init(&s->watches);
	sn_list_init(&s->leases);
	*ret_store = &s->store;
	return 0;
}
