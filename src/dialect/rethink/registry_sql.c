/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The domain registry on an SQL database: SQLite for one registry, PostgreSQL for several at once.
 *
 * Nothing is remembered here. What must hold while others write is said in the statements: an id is
 * only replaced by its user's create (ON CONFLICT .. WHERE), an entry only expires when it is still due
 * (UPDATE .. WHERE due), and `pending` is taken by one UPDATE .. RETURNING. `was` keeps the status before
 * the last touch or update, for RETURNING shows new values only. `due` is modified + expires.
 *
 * A read is one SELECT. Only when it finds entries that are due do they become `disconnected` by a second
 * step; the answer shows them so either way.
 */
#include "base/log.h"
#include "base/mem.h"
#include "connect/sql.h"
#include "dialect/rethink/registry_store.h"

#define TIMEOUT_MS 10000
#define CONFLICTS_MAX 8   /* how often a step is tried again when others were in its way */
#define EXPIRE_LIMIT 2000 /* entries of each kind in one step of the heartbeat */
#define DUE_MAX 512       /* entries that a read turns itself; the heartbeat finds the rest */
#define ROWS_MAX ((uint64_t)64 << 20)
#define STATEMENTS 3
#define PARAMS 20

static const char schema[] =
		"CREATE TABLE IF NOT EXISTS domain_hyperties (id TEXT PRIMARY KEY, "
		"usr TEXT NOT NULL, email TEXT NOT NULL, resources TEXT NOT NULL, "
		"schemes TEXT NOT NULL, descriptor TEXT NOT NULL, status TEXT NOT NULL, "
		"was TEXT NOT NULL, runtime TEXT NOT NULL, requester TEXT, handler TEXT, "
		"guid TEXT, expires BIGINT NOT NULL, started BIGINT NOT NULL, "
		"modified BIGINT NOT NULL, due BIGINT NOT NULL, pending BIGINT NOT NULL, "
		"changed BIGINT NOT NULL);"
		"CREATE INDEX IF NOT EXISTS domain_hyperties_changed ON domain_hyperties (changed);"
		"CREATE INDEX IF NOT EXISTS domain_hyperties_usr ON domain_hyperties (usr);"
		"CREATE INDEX IF NOT EXISTS domain_hyperties_email ON domain_hyperties (email);"
		"CREATE INDEX IF NOT EXISTS domain_hyperties_due ON domain_hyperties (due) "
		"WHERE status <> 'disconnected';"
		"CREATE INDEX IF NOT EXISTS domain_hyperties_pending ON domain_hyperties (pending) "
		"WHERE pending = 1;"
		"CREATE TABLE IF NOT EXISTS domain_guids (guid TEXT PRIMARY KEY, usr TEXT NOT NULL);"
		"CREATE INDEX IF NOT EXISTS domain_guids_usr ON domain_guids (usr);"
		"CREATE TABLE IF NOT EXISTS domain_objects (id TEXT PRIMARY KEY, "
		"name TEXT NOT NULL, reporter TEXT NOT NULL, resources TEXT NOT NULL, "
		"schemes TEXT NOT NULL, descriptor TEXT NOT NULL, status TEXT NOT NULL, "
		"was TEXT NOT NULL, runtime TEXT NOT NULL, requester TEXT, "
		"expires BIGINT NOT NULL, started BIGINT NOT NULL, modified BIGINT NOT NULL, "
		"due BIGINT NOT NULL, pending BIGINT NOT NULL);"
		"CREATE INDEX IF NOT EXISTS domain_objects_name ON domain_objects (name);"
		"CREATE INDEX IF NOT EXISTS domain_objects_reporter ON domain_objects (reporter);"
		"CREATE INDEX IF NOT EXISTS domain_objects_due ON domain_objects (due) "
		"WHERE status <> 'disconnected';"
		"CREATE INDEX IF NOT EXISTS domain_objects_pending ON domain_objects (pending) "
		"WHERE pending = 1";

struct sql_store {
	struct sn_reg_store store;
	struct sn_loop *loop;
	struct sn_log *log;
	bool told; /* that it fails; once, until something works again */
	struct sn_sql *sql;
	enum { SCHEMA_UNKNOWN, SCHEMA_COMING, SCHEMA_THERE } schema;
	struct sn_sql_unit schema_unit;
	struct sn_list waiting; /* step.link: for the tables */
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* An operation of ours: one unit, or two. */
struct step {
	struct sn_list link;
	struct sql_store *s;
	struct sn_reg_op *op;
	struct sn_sql_unit unit;
	struct sn_sql_statement statements[STATEMENTS];
	struct sn_sql_value params[STATEMENTS][PARAMS];
	unsigned n, conflicts;
	int64_t limit;
	/* what a read has found due */
	struct sn_arena ids;
	struct sn_sql_statement *due;
	uint32_t n_due;
	bool turning;
};

static struct sql_store *store_of(struct sn_reg_store *store)
{
	return SN_CONTAINER_OF(store, struct sql_store, store);
}

/* ---- statements ---- */

static struct sn_sql_value *add(
		struct step *st, const char *sql, unsigned n_params, enum sn_sql_expect expect)
{
	struct sn_sql_value *params = st->params[st->n];

	st->statements[st->n++] = (struct sn_sql_statement){
			.sql = sql, .params = params, .n_params = n_params, .expect = expect};
	return params;
}

static struct sn_sql_value text_or_null(struct sn_str s)
{
	return s.ptr != NULL ? sn_sql_text(s) : sn_sql_null();
}

static bool is_hyperty(const struct step *st)
{
	return st->op->kind == SN_REG_HYPERTY;
}

static void create_hyperty(struct step *st)
{
	static const char sql[] =
			"INSERT INTO domain_hyperties AS h (id, usr, email, resources, schemes, "
			"descriptor, status, was, runtime, requester, handler, guid, expires, "
			"started, modified, due, pending, changed) VALUES ($1, $2, $3, $4, $5, $6, "
			"$7, '', $8, $9, $10, $11, $12, $13, $13, $14, 0, $13) ON CONFLICT (id) DO UPDATE SET "
			"resources = excluded.resources, schemes = excluded.schemes, "
			"descriptor = excluded.descriptor, status = excluded.status, "
			"runtime = excluded.runtime, requester = excluded.requester, "
			"handler = excluded.handler, guid = excluded.guid, "
			"expires = excluded.expires, modified = excluded.modified, "
			"due = excluded.due, pending = 0, changed = excluded.changed WHERE h.usr = excluded.usr RETURNING id";
	static const char bind[] =
			"INSERT INTO domain_guids AS g (guid, usr) VALUES ($1, $2) ON CONFLICT "
			"(guid) DO UPDATE SET usr = excluded.usr WHERE g.usr <> excluded.usr";
	const struct sn_reg_op *op = st->op;
	const struct sn_reg_values *v = op->values;
	struct sn_sql_value *p = add(st, sql, 14, SN_SQL_SOME);

	p[0] = sn_sql_text(op->id);
	p[1] = sn_sql_text(op->user);
	p[2] = sn_sql_text(sn__reg_email(op->user));
	p[3] = sn_sql_text(v->text[SN_REG_RESOURCES]);
	p[4] = sn_sql_text(v->text[SN_REG_SCHEMES]);
	p[5] = sn_sql_text(v->text[SN_REG_DESCRIPTOR]);
	p[6] = sn_sql_text(v->text[SN_REG_STATUS]);
	p[7] = sn_sql_text(v->text[SN_REG_RUNTIME]);
	p[8] = text_or_null(v->text[SN_REG_REQUESTER]);
	p[9] = text_or_null(v->text[SN_REG_HANDLER]);
	p[10] = text_or_null(v->text[SN_REG_GUID]);
	p[11] = sn_sql_int(v->expires);
	p[12] = sn_sql_int(op->now);
	p[13] = sn_sql_int(op->now + v->expires);
	if (v->text[SN_REG_GUID].ptr == NULL)
		return;
	p = add(st, bind, 2, SN_SQL_ANY);
	p[0] = sn_sql_text(v->text[SN_REG_GUID]);
	p[1] = sn_sql_text(op->user);
}

static void create_object(struct step *st)
{
	static const char sql[] =
			"INSERT INTO domain_objects (id, name, reporter, resources, schemes, "
			"descriptor, status, was, runtime, requester, expires, started, modified, "
			"due, pending) VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8, $9, $10, $11, "
			"$11, $12, 0) ON CONFLICT (id) DO UPDATE SET name = excluded.name, "
			"reporter = excluded.reporter, resources = excluded.resources, "
			"schemes = excluded.schemes, descriptor = excluded.descriptor, "
			"status = excluded.status, runtime = excluded.runtime, "
			"requester = excluded.requester, expires = excluded.expires, "
			"modified = excluded.modified, due = excluded.due, pending = 0";
	const struct sn_reg_op *op = st->op;
	const struct sn_reg_values *v = op->values;
	struct sn_sql_value *p = add(st, sql, 12, SN_SQL_ANY);

	p[0] = sn_sql_text(op->id);
	p[1] = sn_sql_text(v->text[SN_REG_NAME]);
	p[2] = sn_sql_text(v->text[SN_REG_REPORTER]);
	p[3] = sn_sql_text(v->text[SN_REG_RESOURCES]);
	p[4] = sn_sql_text(v->text[SN_REG_SCHEMES]);
	p[5] = sn_sql_text(v->text[SN_REG_DESCRIPTOR]);
	p[6] = sn_sql_text(v->text[SN_REG_STATUS]);
	p[7] = sn_sql_text(v->text[SN_REG_RUNTIME]);
	p[8] = text_or_null(v->text[SN_REG_REQUESTER]);
	p[9] = sn_sql_int(v->expires);
	p[10] = sn_sql_int(op->now);
	p[11] = sn_sql_int(op->now + v->expires);
}

#define TOUCH(table, changed) \
	"UPDATE " table \
	" SET was = status, status = 'live', modified = $2, due = $2 + expires, " changed \
	"pending = 0 WHERE id = $1 RETURNING was"
#define TOUCH_CHANGED "changed = CASE WHEN status = 'live' THEN changed ELSE $2 END, "

static void touch(struct step *st)
{
	struct sn_sql_value *p = add(st,
			is_hyperty(st) ? TOUCH("domain_hyperties", TOUCH_CHANGED)
				       : TOUCH("domain_objects", ""),
			2, SN_SQL_SOME);

	p[0] = sn_sql_text(st->op->id);
	p[1] = sn_sql_int(st->op->now);
}

#define UPDATE(table, changed, a, b) \
	"UPDATE " table " SET " changed \
	"was = status, modified = $2, expires = COALESCE($3, expires), " \
	"due = $2 + COALESCE($3, expires), pending = 0, resources = COALESCE($4, resources), " \
	"schemes = COALESCE($5, schemes), descriptor = COALESCE($6, descriptor), " \
	"status = COALESCE($7, status), runtime = COALESCE($8, runtime), " \
	"requester = COALESCE($9, requester), " a " = COALESCE($10, " a "), " b \
	" = COALESCE($11, " b ") WHERE id = $1 RETURNING was"

static void update(struct step *st)
{
	static const char bind[] =
			"INSERT INTO domain_guids AS g (guid, usr) SELECT CAST($1 AS TEXT), usr FROM "
			"domain_hyperties WHERE id = $2 ON CONFLICT (guid) DO UPDATE SET usr = "
			"excluded.usr WHERE g.usr <> excluded.usr";
	const struct sn_reg_op *op = st->op;
	const struct sn_reg_values *v = op->values;
	struct sn_sql_value *p = add(st,
			is_hyperty(st) ? UPDATE("domain_hyperties", "changed = $2, ", "handler",
							 "guid")
				       : UPDATE("domain_objects", "", "name", "reporter"),
			11, SN_SQL_SOME);

	p[0] = sn_sql_text(op->id);
	p[1] = sn_sql_int(op->now);
	p[2] = v->has_expires ? sn_sql_int(v->expires) : sn_sql_null();
	p[3] = text_or_null(v->text[SN_REG_RESOURCES]);
	p[4] = text_or_null(v->text[SN_REG_SCHEMES]);
	p[5] = text_or_null(v->text[SN_REG_DESCRIPTOR]);
	p[6] = text_or_null(v->text[SN_REG_STATUS]);
	p[7] = text_or_null(v->text[SN_REG_RUNTIME]);
	p[8] = text_or_null(v->text[SN_REG_REQUESTER]);
	p[9] = text_or_null(v->text[is_hyperty(st) ? SN_REG_HANDLER : SN_REG_NAME]);
	p[10] = text_or_null(v->text[is_hyperty(st) ? SN_REG_GUID : SN_REG_REPORTER]);
	if (!is_hyperty(st) || v->text[SN_REG_GUID].ptr == NULL)
		return;
	p = add(st, bind, 2, SN_SQL_ANY);
	p[0] = sn_sql_text(v->text[SN_REG_GUID]);
	p[1] = sn_sql_text(op->id);
}

#define DISCONNECT(table, changed) \
	"UPDATE " table " SET " changed \
	"pending = CASE WHEN status = 'disconnected' THEN pending ELSE 1 END, " \
	"status = 'disconnected' WHERE id = $1"

static void delete_entry(struct step *st)
{
	struct sn_sql_value *p = add(st,
			is_hyperty(st) ? DISCONNECT("domain_hyperties",
							 "changed = $3, ") " AND usr = $2"
				       : DISCONNECT("domain_objects", ""),
			is_hyperty(st) ? 3 : 1, SN_SQL_SOME);

	p[0] = sn_sql_text(st->op->id);
	p[1] = sn_sql_text(st->op->user);
	p[2] = sn_sql_int(st->op->now);
}

/* In the order that take_hyperty() and take_object() read. */
#define HYPERTY_COLUMNS \
	"id, usr, resources, schemes, descriptor, status, runtime, requester, handler, guid, " \
	"expires, started, modified"
#define OBJECT_COLUMNS \
	"id, name, resources, schemes, descriptor, status, runtime, requester, reporter, NULL, " \
	"expires, started, modified"
#define HYPERTIES "SELECT " HYPERTY_COLUMNS " FROM domain_hyperties WHERE "
#define OBJECTS "SELECT " OBJECT_COLUMNS " FROM domain_objects WHERE "

static void read_entries(struct step *st)
{
	static const char *const sql[] = {
			[SN_REG_BY_URL] = HYPERTIES "id = $1",
			[SN_REG_BY_USER] = HYPERTIES "usr = $1",
			[SN_REG_BY_GUID] = HYPERTIES
			"usr = (SELECT usr FROM domain_guids WHERE guid = $1)",
			[SN_REG_BY_EMAIL] = HYPERTIES "email = $1",
			[SN_REG_BY_NAME] = OBJECTS "name = $1",
			[SN_REG_BY_REPORTER] = OBJECTS "reporter = $1",
	};
	bool object_url = !is_hyperty(st) && st->op->by == SN_REG_BY_URL;

	add(st, object_url ? OBJECTS "id = $1" : sql[st->op->by], 1, SN_SQL_ANY)[0] = sn_sql_text(
			st->op->id);
	st->unit.read_only = true;
}

#define UPDATED(table, columns) \
	"UPDATE " table " SET pending = 0 WHERE pending = 1 AND id IN (SELECT id FROM " table \
	" WHERE pending = 1 LIMIT $1) RETURNING " columns

static void updated(struct step *st)
{
	add(st, UPDATED("domain_hyperties", HYPERTY_COLUMNS), 1, SN_SQL_ANY)[0] = sn_sql_int(
			st->limit);
	add(st, UPDATED("domain_objects", OBJECT_COLUMNS), 1, SN_SQL_ANY)[0] = sn_sql_int(
			st->limit);
}

static void count(struct step *st)
{
	(void)add(st,
			"SELECT (SELECT count(*) FROM domain_hyperties), "
			"(SELECT count(*) FROM domain_guids)",
			0, SN_SQL_ANY);
	st->unit.read_only = true;
}

static void page(struct step *st)
{
	static const char bound[] =
			"SELECT h.id, h.usr, h.resources, h.schemes, h.descriptor, h.status, h.runtime, "
			"h.requester, h.handler, h.guid, h.expires, h.started, h.modified, g.guid "
			"FROM domain_guids g JOIN domain_hyperties h ON h.usr = g.usr "
			"ORDER BY g.guid, h.usr LIMIT $1";
	static const char others[] = HYPERTIES
			"NOT EXISTS (SELECT 1 FROM domain_guids g WHERE g.usr = domain_hyperties.usr) "
			"ORDER BY usr LIMIT $1";

	add(st, bound, 1, SN_SQL_ANY)[0] = sn_sql_int(st->op->page);
	add(st, others, 1, SN_SQL_ANY)[0] = sn_sql_int(st->op->page);
	st->unit.read_only = true;
}

/* Whether there is anything due: a look, so that nobody who writes has to wait for nothing. MIN, for
 * PostgreSQL would read the whole table to find that nothing is less than a time. */
static void look_for_due(struct step *st)
{
	(void)add(st,
			"SELECT (SELECT MIN(due) FROM domain_hyperties WHERE status <> 'disconnected'), "
			"(SELECT MIN(due) FROM domain_objects WHERE status <> 'disconnected')",
			0, SN_SQL_ANY);
	st->unit.read_only = true;
}

static bool is_due(const struct sn_sql_value *due, int64_t now)
{
	return due->type == SN_SQL_INT && due->u.i < now;
}

#define EXPIRE(table, changed) \
	"UPDATE " table " SET " changed \
	"status = 'disconnected', pending = 1 WHERE status <> 'disconnected' " \
	"AND due < $1 AND id IN (SELECT id FROM " table " WHERE status <> 'disconnected' AND " \
	"due < $1 ORDER BY due LIMIT $2)"

static void expire(struct step *st)
{
	static const char *const sql[] = {
			EXPIRE("domain_hyperties", "changed = $1, "), EXPIRE("domain_objects", "")};

	st->n = 0;
	for (size_t i = 0; i < SN_COUNT(sql); i++) {
		struct sn_sql_value *p = add(st, sql[i], 2, SN_SQL_ANY);

		p[0] = sn_sql_int(st->op->now);
		p[1] = sn_sql_int(EXPIRE_LIMIT);
	}
	st->turning = true;
}

static void changed_users(struct step *st)
{
	static const char sql[] =
			"SELECT usr, MAX(changed) AS latest FROM domain_hyperties WHERE changed >= $1 "
			"GROUP BY usr HAVING MAX(changed) > $1 OR usr > $2 "
			"ORDER BY latest, usr LIMIT $3";
	struct sn_sql_value *p = add(st, sql, 3, SN_SQL_ANY);

	p[0] = sn_sql_int(st->op->since);
	p[1] = sn_sql_text(st->op->id);
	p[2] = sn_sql_int(SN_REG_CHANGED_MAX);
	st->unit.read_only = true;
}

/* ---- rows ---- */

static struct sn_str cell_text(const struct sn_sql_rows *rows, uint32_t row, uint32_t column)
{
	const struct sn_sql_value *v = sn_sql_cell(rows, row, column);

	return v->type == SN_SQL_NULL ? (struct sn_str){NULL, 0} : sn_sql_str(v);
}

static void take_row(enum sn_reg_kind kind, const struct sn_sql_rows *rows, uint32_t row,
		struct sn_reg_entry *e)
{
	static const uint8_t columns[] = {SN_REG_RESOURCES, SN_REG_SCHEMES, SN_REG_DESCRIPTOR,
			SN_REG_STATUS, SN_REG_RUNTIME, SN_REG_REQUESTER};
	struct sn_str *t = e->v.text;

	*e = (struct sn_reg_entry){.kind = kind, .id = cell_text(rows, row, 0)};
	for (uint32_t i = 0; i < SN_COUNT(columns); i++)
		t[columns[i]] = cell_text(rows, row, 2 + i);
	if (kind == SN_REG_HYPERTY) {
		e->user = cell_text(rows, row, 1);
		t[SN_REG_HANDLER] = cell_text(rows, row, 8);
		t[SN_REG_GUID] = cell_text(rows, row, 9);
	} else {
		t[SN_REG_NAME] = cell_text(rows, row, 1);
		t[SN_REG_REPORTER] = cell_text(rows, row, 8);
	}
	e->v.expires = (int32_t)sn_sql_i64(sn_sql_cell(rows, row, 10));
	e->v.has_expires = true;
	e->started = sn_sql_i64(sn_sql_cell(rows, row, 11));
	e->modified = sn_sql_i64(sn_sql_cell(rows, row, 12));
}

#define TURN(table, changed) \
	"UPDATE " table " SET " changed "status = 'disconnected', pending = 1 WHERE id = $1 AND " \
	"status <> 'disconnected' AND due < $2"

/* @e becomes `disconnected` by the second step. */
static void note_due(struct step *st, const struct sn_reg_entry *e)
{
	struct sn_sql_value *p;
	char *id;

	if (st->due == NULL)
		st->due = sn__arena_alloc(&st->ids, DUE_MAX * sizeof(*st->due));
	p = sn__arena_alloc(&st->ids, 2 * sizeof(*p));
	id = sn__arena_strdup(&st->ids, e->id);
	if (st->n_due == DUE_MAX || st->due == NULL || p == NULL || id == NULL)
		return;
	p[0] = sn_sql_text((struct sn_str){id, e->id.len});
	p[1] = sn_sql_int(st->op->now);
	st->due[st->n_due++] = (struct sn_sql_statement){.sql = e->kind == SN_REG_HYPERTY
					? TURN("domain_hyperties", "changed = $2, ")
					: TURN("domain_objects", ""),
			.params = p,
			.n_params = 2};
}

static void give_rows(struct step *st, enum sn_reg_kind kind, const struct sn_sql_rows *rows)
{
	struct sn_reg_op *op = st->op;

	for (uint32_t i = 0; i < rows->n_rows; i++) {
		struct sn_reg_entry e;
		struct sn_str guid = {"", 0};

		take_row(kind, rows, i, &e);
		if (!sn__reg_is_gone(&e) && sn_reg_is_due(e.modified, e.v.expires, op->now)) {
			e.v.text[SN_REG_STATUS] = SN_STR("disconnected");
			note_due(st, &e);
		}
		if (rows->n_columns == 14)
			guid = cell_text(rows, i, 13);
		op->entry(op, &e, guid);
		op->n++;
	}
}

/* ---- running ---- */

static void step_done(struct sn_sql_unit *unit);

static void step_end(struct step *st, int result)
{
	struct sn_reg_op *op = st->op;

	op->result = result;
	sn__arena_finish(&st->ids);
	sn__free(st);
	op->done(op);
}

/* Of what the asker has, at most TIMEOUT_MS; 1 when it is over. */
static uint32_t time_left(const struct step *st)
{
	uint64_t until = st->op->until_ns;
	uint64_t left_ms = until == 0
			? TIMEOUT_MS
			: sn_ns_to_ms(sn_time_until(sn__loop_now_ns(st->s->loop), until));

	return (uint32_t)SN_MIN(SN_MAX(left_ms, 1), TIMEOUT_MS);
}

static int step_submit(struct step *st)
{
	bool read_only = st->unit.read_only;

	st->unit = (struct sn_sql_unit){.statements = st->statements,
			.n_statements = st->n,
			.read_only = read_only,
			.max_rows = ROWS_MAX,
			.done = step_done};
	return sn__sql_submit(st->s->sql, &st->unit, time_left(st));
}

static void step_again(struct step *st)
{
	int r = step_submit(st);

	if (r < 0)
		step_end(st, r);
}

static int outcome_code(struct sql_store *s, struct sn_reg_op *op, const struct sn_sql_outcome *o)
{
	if (o->kind == SN_SQL_UNEXPECTED)
		return SN_E_NOT_FOUND;
	if (op->err != NULL)
		(void)sn__error_set(op->err, o->code, "%s", o->message);
	if (!s->told && !s->closing)
		sn__log(s->log, SN_LOG_WARNING, "registry", "the store: %s", o->message);
	s->told = true;
	return o->kind == SN_SQL_REJECTED ? SN_E_PROTOCOL : SN_E_CONNECT;
}

/* The second step of a read: what was due turns `disconnected`. */
static void turn_due(struct step *st)
{
	int r;

	st->turning = true;
	st->unit = (struct sn_sql_unit){
			.statements = st->due, .n_statements = st->n_due, .done = step_done};
	r = sn__sql_submit(st->s->sql, &st->unit, TIMEOUT_MS);
	if (r < 0)
		step_end(st, r);
}

static void finish_read(struct step *st)
{
	struct sn_reg_op *op = st->op;

	give_rows(st, op->kind, &st->unit.rows[0]);
	if (st->n_due > 0)
		turn_due(st);
	else
		step_end(st, op->n > 0 ? 0 : SN_E_NOT_FOUND);
}

static void finish_page(struct step *st)
{
	give_rows(st, SN_REG_HYPERTY, &st->unit.rows[0]);
	if (st->op->n < st->op->page)
		give_rows(st, SN_REG_HYPERTY, &st->unit.rows[1]);
	if (st->n_due > 0)
		turn_due(st);
	else
		step_end(st, 0);
}

static void finish_expire(struct step *st)
{
	const struct sn_sql_rows *rows = st->unit.rows;

	if (st->turning) {
		st->op->n = (uint64_t)rows[0].affected + (uint64_t)rows[1].affected;
		step_end(st,
				rows[0].affected == EXPIRE_LIMIT || rows[1].affected == EXPIRE_LIMIT
						? SN_E_AGAIN
						: 0);
	} else if (!is_due(sn_sql_cell(rows, 0, 0), st->op->now) &&
			!is_due(sn_sql_cell(rows, 0, 1), st->op->now)) {
		step_end(st, 0);
	} else {
		st->unit.read_only = false;
		expire(st);
		step_again(st);
	}
}

static void finish_changed(struct step *st)
{
	const struct sn_sql_rows *rows = &st->unit.rows[0];

	for (uint32_t i = 0; i < rows->n_rows; i++) {
		const struct sn_reg_entry e = {.user = cell_text(rows, i, 0),
				.modified = sn_sql_i64(sn_sql_cell(rows, i, 1))};

		st->op->entry(st->op, &e, (struct sn_str){"", 0});
	}
	step_end(st, rows->n_rows == SN_REG_CHANGED_MAX ? SN_E_AGAIN : 0);
}

static void finish(struct step *st)
{
	struct sn_reg_op *op = st->op;
	const struct sn_sql_rows *rows = st->unit.rows;

	switch (op->act) {
	case SN_REG_TOUCH:
		op->changed = !sn_str_eq(cell_text(&rows[0], 0, 0), SN_STR("live"));
		step_end(st, 0);
		break;
	case SN_REG_UPDATE:
		op->changed = op->values->text[SN_REG_STATUS].ptr != NULL &&
				!sn_str_eq(cell_text(&rows[0], 0, 0),
						op->values->text[SN_REG_STATUS]);
		step_end(st, 0);
		break;
	case SN_REG_READ:
		if (st->turning)
			step_end(st, op->n > 0 ? 0 : SN_E_NOT_FOUND);
		else
			finish_read(st);
		break;
	case SN_REG_UPDATED:
		give_rows(st, SN_REG_HYPERTY, &rows[0]);
		give_rows(st, SN_REG_OBJECT, &rows[1]);
		step_end(st, 0);
		break;
	case SN_REG_COUNT:
		op->n = (uint64_t)sn_sql_i64(sn_sql_cell(&rows[0], 0, 0));
		op->n_guids = (uint64_t)sn_sql_i64(sn_sql_cell(&rows[0], 0, 1));
		step_end(st, 0);
		break;
	case SN_REG_PAGE:
		if (st->turning)
			step_end(st, 0);
		else
			finish_page(st);
		break;
	case SN_REG_EXPIRE:
		finish_expire(st);
		break;
	case SN_REG_CHANGED:
		finish_changed(st);
		break;
	default:
		step_end(st, 0);
	}
}

static void step_done(struct sn_sql_unit *unit)
{
	struct step *st = SN_CONTAINER_OF(unit, struct step, unit);
	const struct sn_sql_outcome *o = &unit->outcome;

	if (o->kind == SN_SQL_OK) {
		st->s->told = false;
		finish(st);
	} else if (o->kind == SN_SQL_CONFLICT && st->conflicts++ < CONFLICTS_MAX &&
			!st->s->closing) {
		if (st->n_due > 0 && st->turning)
			turn_due(st);
		else
			step_again(st);
	} else if (o->kind == SN_SQL_REJECTED && o->code == SN_E_LIMIT && st->limit > 1) {
		/* Few large entries: as many as go into one answer. */
		st->limit /= 8;
		st->params[0][0] = st->params[1][0] = sn_sql_int(SN_MAX(st->limit, 1));
		step_again(st);
	} else {
		step_end(st, outcome_code(st->s, st->op, o));
	}
}

/* ---- tables ---- */

static void schema_done(struct sn_sql_unit *unit)
{
	struct sql_store *s = SN_CONTAINER_OF(unit, struct sql_store, schema_unit);
	const struct sn_sql_outcome *o = &unit->outcome;
	struct sn_list *node, now;

	s->schema = o->kind == SN_SQL_OK ? SCHEMA_THERE : SCHEMA_UNKNOWN;
	sn_list_init(&now);
	sn_list_splice_back(&now, &s->waiting);
	while ((node = sn_list_pop_front(&now)) != NULL) {
		struct step *st = SN_CONTAINER_OF(node, struct step, link);

		if (o->kind == SN_SQL_OK)
			step_again(st);
		else
			step_end(st, outcome_code(st->s, st->op, o));
	}
}

static int schema_submit(struct sql_store *s)
{
	int r;

	s->schema_unit = (struct sn_sql_unit){.script = schema, .done = schema_done};
	r = sn__sql_submit(s->sql, &s->schema_unit, TIMEOUT_MS);
	if (r == 0)
		s->schema = SCHEMA_COMING;
	return r;
}

/* ---- the store ---- */

static void prepare(struct step *st)
{
	switch (st->op->act) {
	case SN_REG_CREATE:
		if (is_hyperty(st))
			create_hyperty(st);
		else
			create_object(st);
		break;
	case SN_REG_READ:
		read_entries(st);
		break;
	case SN_REG_TOUCH:
		touch(st);
		break;
	case SN_REG_UPDATE:
		update(st);
		break;
	case SN_REG_DELETE:
		delete_entry(st);
		break;
	case SN_REG_UPDATED:
		st->limit = SN_REG_UPDATED_MAX / 2;
		updated(st);
		break;
	case SN_REG_COUNT:
		count(st);
		break;
	case SN_REG_PAGE:
		page(st);
		break;
	case SN_REG_EXPIRE:
		look_for_due(st);
		break;
	case SN_REG_CHANGED:
		changed_users(st);
		break;
	}
}

static int submit(struct sn_reg_store *store, struct sn_reg_op *op)
{
	struct sql_store *s = store_of(store);
	struct step *st = sn__calloc(1, sizeof(*st));
	int r = 0;

	op->n = op->n_guids = 0;
	op->changed = false;
	if (st == NULL)
		return SN_E_NOMEM;
	st->s = s;
	st->op = op;
	sn_list_init(&st->link);
	sn__arena_init(&st->ids, 1024, 8u << 20);
	prepare(st);
	if (s->schema == SCHEMA_UNKNOWN)
		r = schema_submit(s);
	if (r == 0 && s->schema != SCHEMA_THERE)
		sn_list_push_back(&s->waiting, &st->link);
	else if (r == 0)
		r = step_submit(st);
	if (r < 0)
		sn__free(st);
	return r;
}

static void sql_closed(void *arg)
{
	struct sql_store *s = arg;

	if (s->closed != NULL)
		s->closed(s->closed_arg);
	sn__free(s);
}

static void close_store(struct sn_reg_store *store, void (*done)(void *arg), void *arg)
{
	struct sql_store *s = store_of(store);

	s->closing = true;
	s->closed = done;
	s->closed_arg = arg;
	sn__sql_close(s->sql, sql_closed, s);
}

static void discard(struct sn_reg_store *store)
{
	close_store(store, NULL, NULL);
}

static const struct sn_reg_store_ops sqlite_ops = {
		.name = "SQLite",
		.submit = submit,
		.close = close_store,
		.discard = discard,
};

static const struct sn_reg_store_ops postgres_ops = {
		.name = "PostgreSQL",
		.submit = submit,
		.close = close_store,
		.discard = discard,
};

int sn__reg_sql_open(const struct sn_reg_sql_options *opts, struct sn_reg_store **ret_store,
		struct sn_error *err)
{
	const struct sn_sql_open how = {.loop = opts->loop,
			.rt = opts->rt,
			.log = opts->log,
			.type = opts->type,
			.config = opts->config};
	struct sql_store *s = sn__calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	r = sn__sql_open(&how, &s->sql, err);
	if (r < 0) {
		sn__free(s);
		return r;
	}
	s->store.ops = strcmp(opts->type, "sqlite") == 0 ? &sqlite_ops : &postgres_ops;
	s->loop = opts->loop;
	s->log = opts->log;
	sn_list_init(&s->waiting);
	*ret_store = &s->store;
	return 0;
}
