/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The driver postgres: units on a connection. One that writes and asks for nothing in between is sent
 * whole behind those before it: its statements and one Sync, which make an implicit transaction. One
 * statement that reads has another before it in the same, which forbids to write. Several that read
 * have BEGIN READ ONLY before them, and COMMIT in a Sync of its own: after an error that COMMIT is a
 * ROLLBACK, so the next one in the pipeline finds the connection clean. One that decides in
 * between (more(), or what it expects) has the connection for itself until it ends.
 */

#include "connect/database/postgres.h"

#include <stdlib.h>

/* ---- errors ---- */

void pg_say(struct sn_sql_outcome *o, enum sn_sql_kind kind, int code, const char *text)
{
	size_t n = strcspn(text, "\n");

	o->kind = kind;
	o->code = code;
	(void)snprintf(o->message, sizeof(o->message), "%.*s",
			(int)SN_MIN(n, sizeof(o->message) - 1), text);
}

static bool is_class(const char *state, const char *class)
{
	return strncmp(state, class, 2) == 0;
}

static enum sn_sql_kind kind_of(const char *state)
{
	if (is_class(state, "23"))
		return SN_SQL_CONSTRAINT;
	if (strcmp(state, "08P01") == 0) /* a wrong number of parameters, for one */
		return SN_SQL_REJECTED;
	if (is_class(state, "40") || strcmp(state, "55P03") == 0 || strcmp(state, "57014") == 0)
		return SN_SQL_CONFLICT;
	if (is_class(state, "53") || is_class(state, "57") || is_class(state, "08") ||
			is_class(state, "58") || strcmp(state, "25006") == 0 || state[0] == '\0')
		return SN_SQL_UNAVAILABLE;
	return SN_SQL_REJECTED;
}

void pg_outcome(const PGresult *result, uint32_t at, struct sn_sql_outcome *o)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	enum sn_sql_kind kind = kind_of(state != NULL ? state : "");

	*o = (struct sn_sql_outcome){.at = at};
	(void)snprintf(o->state, sizeof(o->state), "%s", state != NULL ? state : "");
	pg_say(o, kind, kind == SN_SQL_UNAVAILABLE ? SN_E_STATUS : SN_E_REJECTED,
			text != NULL ? text : PQresultErrorMessage(result));
}

static void fail(struct pg_op *op, uint32_t at, enum sn_sql_kind kind, int code, const char *text)
{
	if (op->outcome.kind != SN_SQL_OK)
		return; /* the first one counts */
	op->outcome = (struct sn_sql_outcome){.at = at};
	pg_say(&op->outcome, kind, code, text);
}

void pg_stopped(struct pg_op *op)
{
	bool maybe = op->outcome.maybe;

	op->outcome = (struct sn_sql_outcome){.maybe = maybe};
	pg_say(&op->outcome, SN_SQL_STOPPED, op->stop, pg_words(op->stop));
}

/* The core's own are not a module's. */
const char *pg_words(int code)
{
	switch (code) {
	case SN_E_TIMEOUT:
		return "timed out";
	case SN_E_CLOSED:
		return "closed";
	case SN_E_CANCELLED:
		return "cancelled";
	case SN_E_NOMEM:
		return "out of memory";
	case SN_E_RESOLVE:
		return "its name cannot be resolved";
	default:
		return "stopped";
	}
}

/* ---- what may be sent ---- */

static const char *skip_blank(const char *s)
{
	for (;;) {
		s += strspn(s, " \t\r\n\f(");
		if (s[0] == '-' && s[1] == '-') {
			s += strcspn(s, "\n");
		} else if (s[0] == '/' && s[1] == '*') {
			const char *end = strstr(s + 2, "*/");

			s = end != NULL ? end + 2 : s + strlen(s);
		} else {
			return s;
		}
	}
}

/* Transactions are ours, and the session is everybody's. */
static const char *why_not(const char *sql)
{
	static const char *const ours[] = {"begin", "start", "commit", "end", "rollback", "abort",
			"savepoint", "release", "prepare", "deallocate", "discard", "set", "reset",
			"copy"};
	const char *word = skip_blank(sql);
	size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

	if (word[0] == '\0')
		return "the statement is empty";
	for (size_t i = 0; i < SN_COUNT(ours); i++) {
		if (strlen(ours[i]) == n && strncasecmp(word, ours[i], n) == 0)
			return "transactions and the session are not a statement's: leave it out";
	}
	return NULL;
}

static const char *why_not_param(const struct sn_sql_value *v)
{
	if (v->type == SN_SQL_TEXT && v->u.s.len > 0 &&
			memchr(v->u.s.ptr, '\0', v->u.s.len) != NULL)
		return "a text must be UTF-8 without NUL";
	if ((v->type == SN_SQL_TEXT || v->type == SN_SQL_BLOB) && v->u.s.len > 0x3fffffff)
		return "a value has at most 1 GiB";
	return NULL;
}

static bool is_fit(struct pg_op *op)
{
	const struct sn_sql_unit *unit = op->unit;

	for (uint32_t i = 0; i < unit->n_statements; i++) {
		const struct sn_sql_statement *s = &unit->statements[i];
		const char *why = why_not(s->sql);

		for (uint32_t k = 0; k < s->n_params && why == NULL; k++)
			why = why_not_param(&s->params[k]);
		if (why != NULL) {
			fail(op, i, SN_SQL_REJECTED, SN_E_REJECTED, why);
			return false;
		}
	}
	return true;
}

bool pg_unit_holds(const struct sn_sql_unit *unit)
{
	if (unit->script != NULL || unit->more != NULL)
		return true;
	/* A limit that somebody has set holds before the COMMIT. */
	if (!unit->read_only && unit->max_rows != 0)
		return true;
	/* An UPDATE that must meet a row and meets none has changed nothing. */
	if (unit->read_only ||
			(unit->n_statements == 1 && unit->statements[0].expect != SN_SQL_NONE))
		return false;
	for (uint32_t i = 0; i < unit->n_statements; i++) {
		if (unit->statements[i].expect != SN_SQL_ANY)
			return true;
	}
	return false;
}

/* ---- prepared statements ---- */

void pg_prepared_drop(struct pg_conn *conn, struct pg_prepared *p)
{
	sn_list_remove(&p->link);
	conn->n_prepared--;
	pg_free(conn->inst, p->sql);
	pg_free(conn->inst, p);
}

static void make_room(struct pg_conn *conn)
{
	char text[40];

	if (!pg_items_reserve(conn, 2))
		return; /* one more than there may be */
	if (conn->n_prepared < (uint64_t)conn->inst->options.statements)
		return;
	for (struct sn_list *pos = conn->prepared.prev; pos != &conn->prepared; pos = pos->prev) {
		struct pg_prepared *p = SN_CONTAINER_OF(pos, struct pg_prepared, link);

		if (p->in_flight > 0)
			continue;
		if (p->state == PG_PREPARED) {
			(void)snprintf(text, sizeof(text), "DEALLOCATE %s", p->name);
			pg_control(conn, PG_AWAIT_CONTROL, NULL, text);
			pg_sync(conn, NULL, false);
		}
		pg_prepared_drop(conn, p);
		return;
	}
}

static struct pg_prepared *prepared_new(struct pg_conn *conn, const char *sql)
{
	struct pg_prepared *p = pg_alloc(conn->inst, sizeof(*p));
	size_t n = strlen(sql) + 1;

	if (p == NULL)
		return NULL;
	p->sql = pg_alloc(conn->inst, n);
	if (p->sql == NULL) {
		pg_free(conn->inst, p);
		return NULL;
	}
	memcpy(p->sql, sql, n);
	p->state = PG_FAILED; /* not sent */
	sn_list_push_front(&conn->prepared, &p->link);
	conn->n_prepared++;
	return p;
}

/* Found, or on its way: a Sync of its own keeps its failure from what is behind it. */
static struct pg_prepared *prepared_of(struct pg_conn *conn, const char *sql)
{
	struct pg_prepared *p = NULL;

	SN_LIST_FOREACH (pos, &conn->prepared) {
		p = SN_CONTAINER_OF(pos, struct pg_prepared, link);
		if (strcmp(p->sql, sql) == 0)
			break;
		p = NULL;
	}
	if (p == NULL) {
		make_room(conn);
		p = prepared_new(conn, sql);
	}
	if (p == NULL || !pg_items_reserve(conn, 2))
		return NULL;
	sn_list_remove(&p->link);
	sn_list_push_front(&conn->prepared, &p->link);
	if (p->state != PG_FAILED)
		return p;
	p->state = PG_PREPARING;
	(void)snprintf(p->name, sizeof(p->name), "s%llu", (unsigned long long)++conn->n_names);
	if (PQsendPrepare(conn->pg, p->name, p->sql, 0, NULL) == 0) {
		conn->broken = true;
		return p;
	}
	p->in_flight++;
	pg_item_add(conn, PG_AWAIT_PREPARE, NULL, 0, p);
	pg_sync(conn, NULL, false);
	return p;
}

/* ---- parameters ---- */

struct params {
	const char *values[SN_SQL_PARAMS_MAX];
	int lengths[SN_SQL_PARAMS_MAX], formats[SN_SQL_PARAMS_MAX];
	char *texts;
};

#define NUMBER_MAX 32 /* bytes of a number's text */

static char *put_number(struct pg_instance *inst, const struct sn_sql_value *v, char *at)
{
	locale_t before;
	int n;

	if (v->type == SN_SQL_INT)
		return at + snprintf(at, NUMBER_MAX, "%lld", (long long)v->u.i) + 1;
	before = uselocale(inst->c_locale); /* the host's may have a comma */
	n = snprintf(at, NUMBER_MAX, "%.17g", v->u.d);
	(void)uselocale(before);
	return at + n + 1;
}

static bool params_make(
		struct pg_instance *inst, const struct sn_sql_statement *s, struct params *p)
{
	size_t size = 1;
	char *at;

	for (uint32_t i = 0; i < s->n_params; i++)
		size += s->params[i].type == SN_SQL_TEXT ? s->params[i].u.s.len + 1 : NUMBER_MAX;
	at = p->texts = pg_alloc(inst, size);
	if (at == NULL)
		return false;
	for (uint32_t i = 0; i < s->n_params; i++) {
		const struct sn_sql_value *v = &s->params[i];

		p->lengths[i] = 0;
		p->formats[i] = v->type == SN_SQL_BLOB;
		p->values[i] = at;
		if (v->type == SN_SQL_NULL) {
			p->values[i] = NULL;
		} else if (v->type == SN_SQL_BLOB) {
			p->values[i] = v->u.s.len > 0 ? v->u.s.ptr : "";
			p->lengths[i] = (int)v->u.s.len;
		} else if (v->type == SN_SQL_TEXT) {
			if (v->u.s.len > 0)
				memcpy(at, v->u.s.ptr, v->u.s.len);
			at += v->u.s.len + 1;
		} else {
			at = put_number(inst, v, at);
		}
	}
	return true;
}

/* ---- sending ---- */

static void *grown(struct pg_instance *inst, void *p, size_t n)
{
	return inst->host->memory(inst->host, p, n);
}

/* Room for the statements of this step. */
static bool reserve(struct pg_op *op)
{
	uint32_t n = op->n_rows + op->unit->n_statements;
	struct pg_instance *inst = op->inst;
	void *p;

	if (n <= op->cap_rows)
		return true;
	p = grown(inst, op->results, n * sizeof(*op->results));
	if (p == NULL)
		return false;
	op->results = p;
	p = grown(inst, op->rows, n * sizeof(*op->rows));
	if (p == NULL)
		return false;
	op->rows = p;
	p = grown(inst, op->used, n * sizeof(*op->used));
	if (p == NULL)
		return false;
	op->used = p;
	op->cap_rows = n;
	return true;
}

static bool send_statement(
		struct pg_conn *conn, struct pg_op *op, uint32_t i, struct pg_prepared *entry)
{
	const struct sn_sql_statement *s = &op->unit->statements[i];
	struct params p;
	int sent;

	if (!params_make(op->inst, s, &p))
		return false;
	sent = PQsendQueryPrepared(
			conn->pg, entry->name, (int)s->n_params, p.values, p.lengths, p.formats, 0);
	pg_free(op->inst, p.texts);
	if (sent == 0)
		return false;
	entry->in_flight++;
	pg_item_add(conn, PG_AWAIT_STATEMENT, op, i, entry);
	return true;
}

static bool is_single_read(const struct pg_op *op)
{
	return op->unit->read_only && !op->holds && op->unit->n_statements == 1;
}

static bool send_read_only(struct pg_conn *conn, struct pg_op *op)
{
	struct pg_prepared *p = prepared_of(
			conn, "SELECT set_config('transaction_read_only', 'on', true)");

	if (p == NULL || PQsendQueryPrepared(conn->pg, p->name, 0, NULL, NULL, NULL, 0) == 0)
		return false;
	p->in_flight++;
	pg_item_add(conn, PG_AWAIT_CONTROL, op, 0, p);
	return true;
}

/* The statements of a step. False: out of memory, and the connection is of no use. */
static bool send_statements(struct pg_conn *conn, struct pg_op *op)
{
	uint32_t n = op->unit->n_statements;

	op->base = op->n_rows;
	for (uint32_t i = 0; i < n; i++) {
		op->results[op->base + i] = NULL;
		op->used[op->base + i] = NULL;
		op->rows[op->base + i] = (struct sn_sql_rows){0};
	}
	op->n_rows += n;
	for (uint32_t i = 0; i < n; i++) {
		if (op->used[op->base + i] == NULL)
			op->used[op->base + i] = prepared_of(conn, op->unit->statements[i].sql);
		if (op->used[op->base + i] == NULL)
			return false;
		/* Not to be put out before it is used. */
		op->used[op->base + i]->in_flight++;
	}
	if (is_single_read(op)) {
		if (!send_read_only(conn, op))
			return false;
	} else if (!op->open && (op->holds || op->unit->read_only)) {
		pg_control(conn, PG_AWAIT_CONTROL, op,
				!op->unit->read_only
						? "BEGIN"
						: "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
		op->open = true;
	}
	for (uint32_t i = 0; i < n; i++) {
		op->used[op->base + i]->in_flight--;
		if (!send_statement(conn, op, i, op->used[op->base + i]))
			return false;
	}
	return true;
}

static void send_script(struct pg_conn *conn, struct pg_op *op)
{
	/* A number nobody else has: scripts of several processes run one after another. */
	static const char lock[] = "SELECT pg_advisory_xact_lock(7310842913458716001);\n";
	size_t n = strlen(op->unit->script) + 1;
	char *text = pg_alloc(op->inst, sizeof(lock) + n);

	if (text == NULL) {
		fail(op, 0, SN_SQL_UNAVAILABLE, SN_E_NOMEM, "out of memory");
		return;
	}
	memcpy(text, lock, sizeof(lock) - 1);
	memcpy(text + sizeof(lock) - 1, op->unit->script, n);
	op->commit_sent = true;
	if (PQexitPipelineMode(conn->pg) == 0 || PQsendQuery(conn->pg, text) == 0)
		conn->broken = true;
	pg_item_add(conn, PG_AWAIT_CONTROL, op, 0, NULL);
	pg_free(op->inst, text);
}

static void send_commit(struct pg_conn *conn, struct pg_op *op)
{
	op->commit_sent = true;
	pg_control(conn, PG_AWAIT_COMMIT, op, "COMMIT");
	pg_sync(conn, op, true);
}

static void send_rollback(struct pg_conn *conn, struct pg_op *op)
{
	pg_control(conn, PG_AWAIT_CONTROL, op, "ROLLBACK");
	pg_sync(conn, op, true);
}

void pg_unit_send(struct pg_conn *conn, struct pg_op *op)
{
	uint32_t n = op->unit->n_statements;

	if (!is_fit(op)) {
		if (op->open)
			send_rollback(conn, op);
		else
			pg_op_end(op);
		return;
	}
	if (!reserve(op) || !pg_items_reserve(conn, 5 * n + 16)) {
		fail(op, 0, SN_SQL_UNAVAILABLE, SN_E_NOMEM, "out of memory");
		if (op->open)
			send_rollback(conn, op);
		else
			pg_op_end(op);
		return;
	}
	if (op->unit->script != NULL) {
		send_script(conn, op);
		if (op->outcome.kind != SN_SQL_OK)
			pg_op_end(op);
	} else if (!send_statements(conn, op)) {
		fail(op, 0, SN_SQL_UNAVAILABLE, SN_E_NOMEM, "out of memory");
		conn->broken = true;
	} else {
		bool commits = !op->holds && op->unit->read_only && !is_single_read(op);

		op->commit_sent = !op->holds;
		pg_sync(conn, op, !op->holds && !commits);
		if (commits)
			send_commit(conn, op);
	}
}

/* ---- rows ---- */

static uint64_t rows_max(const struct pg_op *op)
{
	return op->unit->max_rows > 0 ? op->unit->max_rows : SN_SQL_ROWS_MAX;
}

static bool parse_int(const char *s, int64_t *ret)
{
	bool minus = s[0] == '-';
	uint64_t v = 0;

	for (s += minus; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	*ret = (int64_t)(minus ? 0 - v : v);
	return *s == '\0';
}

static unsigned hex(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

/* "\x0102" in place: the result is ours, and bytes are shorter than their text. */
static void read_bytes(const char *text, struct sn_sql_value *v)
{
	char *out = (char *)(uintptr_t)text;
	size_t n = strlen(text);

	v->type = SN_SQL_BLOB;
	v->u.s.ptr = out;
	v->u.s.len = n >= 2 ? (n - 2) / 2 : 0;
	for (size_t i = 0; i < v->u.s.len; i++)
		out[i] = (char)(hex(text[2 + 2 * i]) << 4 | hex(text[3 + 2 * i]));
	out[v->u.s.len] = '\0';
}

#define OID_BOOL 16
#define OID_BYTEA 17
#define OID_INT8 20
#define OID_INT2 21
#define OID_INT4 23
#define OID_OID 26
#define OID_FLOAT4 700
#define OID_FLOAT8 701

static void read_cell(const PGresult *res, int row, int column, struct sn_sql_value *v)
{
	const char *text = PQgetvalue(res, row, column);
	Oid type = PQftype(res, column);

	*v = (struct sn_sql_value){.type = SN_SQL_NULL};
	if (PQgetisnull(res, row, column))
		return;
	if (type == OID_BOOL) {
		v->type = SN_SQL_INT;
		v->u.i = text[0] == 't';
	} else if (type == OID_BYTEA) {
		read_bytes(text, v);
	} else if ((type == OID_INT8 || type == OID_INT2 || type == OID_INT4 || type == OID_OID) &&
			parse_int(text, &v->u.i)) {
		v->type = SN_SQL_INT;
	} else if (type == OID_FLOAT4 || type == OID_FLOAT8) {
		v->type = SN_SQL_DOUBLE;
		v->u.d = strtod(text, NULL); /* in the C locale */
	} else {
		v->type = SN_SQL_TEXT;
		v->u.s.ptr = text;
		v->u.s.len = (size_t)PQgetlength(res, row, column);
	}
}

static int64_t affected_of(PGresult *res)
{
	static const char *const words[] = {"INSERT ", "UPDATE ", "DELETE ", "MERGE "};
	const char *tag = PQcmdStatus(res);
	int64_t n = 0;

	for (size_t i = 0; i < SN_COUNT(words); i++) {
		if (strncmp(tag, words[i], strlen(words[i])) == 0 &&
				parse_int(PQcmdTuples(res), &n))
			return n;
	}
	return 0;
}

/* Names and cells in one block: names first. False: out of memory. */
static bool rows_make(struct pg_op *op, uint32_t at, PGresult *res)
{
	uint32_t n_columns = (uint32_t)PQnfields(res), n_rows = (uint32_t)PQntuples(res);
	size_t cells_size = (size_t)n_columns * n_rows * sizeof(struct sn_sql_value);
	struct sn_sql_rows *rows = &op->rows[at];
	struct sn_sql_value *cells;
	locale_t before;
	const char **names;

	rows->affected = affected_of(res);
	if (n_columns == 0)
		return true;
	cells = pg_alloc(op->inst, cells_size + n_columns * sizeof(*names));
	if (cells == NULL)
		return false;
	names = (const char **)(void *)((char *)cells + cells_size);
	before = uselocale(op->inst->c_locale);
	for (uint32_t i = 0; i < n_columns; i++)
		names[i] = PQfname(res, (int)i);
	for (uint32_t r = 0; r < n_rows; r++) {
		for (uint32_t i = 0; i < n_columns; i++) {
			struct sn_sql_value *v = &cells[(size_t)r * n_columns + i];

			read_cell(res, (int)r, (int)i, v);
			if (v->type == SN_SQL_TEXT || v->type == SN_SQL_BLOB)
				op->bytes += v->u.s.len;
		}
	}
	(void)uselocale(before);
	op->bytes += cells_size;
	rows->n_columns = n_columns;
	rows->n_rows = n_rows;
	rows->names = names;
	rows->cells = cells;
	return true;
}

void pg_unit_reset(struct pg_op *op)
{
	for (uint32_t i = 0; i < op->n_rows; i++) {
		pg_free(op->inst, (void *)(uintptr_t)op->rows[i].cells);
		PQclear(op->results[i]);
	}
	pg_free(op->inst, SN_TAKE(op->rows));
	pg_free(op->inst, SN_TAKE(op->results));
	pg_free(op->inst, SN_TAKE(op->used));
	op->n_rows = op->cap_rows = op->base = 0;
	op->bytes = 0;
}

/* ---- results ---- */

static bool is_expected(const struct sn_sql_statement *s, const struct sn_sql_rows *rows)
{
	bool some = rows->n_rows > 0 || rows->affected > 0;

	return s->expect == SN_SQL_ANY || some == (s->expect == SN_SQL_SOME);
}

static void take_rows(struct pg_op *op, uint32_t number, PGresult *res)
{
	const struct sn_sql_statement *s = &op->unit->statements[number];
	struct sn_sql_rows *rows = &op->rows[op->base + number];

	op->results[op->base + number] = res;
	if (!rows_make(op, op->base + number, res)) {
		fail(op, number, SN_SQL_UNAVAILABLE, SN_E_NOMEM, "out of memory");
		op->outcome.maybe = op->commit_sent && !op->unit->read_only;
	} else if (op->bytes > rows_max(op)) {
		fail(op, number, SN_SQL_REJECTED, SN_E_LIMIT,
				"the rows have more bytes than they may");
		op->outcome.maybe = op->commit_sent && !op->unit->read_only && rows->affected > 0;
	} else if (!is_expected(s, rows)) {
		fail(op, number, SN_SQL_UNEXPECTED, SN_E_REJECTED,
				s->expect == SN_SQL_SOME ? "there are no rows" : "there are rows");
	}
}

/* Something of the connection's that a repetition heals: a plan that no longer fits, a statement that
 * is not there, a cancellation that was meant for the one before. */
static bool is_accident(const struct pg_op *op, const char *state, const struct pg_prepared *entry)
{
	if (op->retried || op->holds)
		return false;
	if (strcmp(state, "57014") == 0)
		return op->stop == 0;
	return (strcmp(state, "26000") == 0 && (entry == NULL || entry->state != PG_FAILED)) ||
			strcmp(state, "0A000") == 0;
}

static void take_error(struct pg_op *op, const struct pg_item *item, const PGresult *res)
{
	struct pg_prepared *entry = item->entry;
	struct sn_sql_outcome o;

	if (op->outcome.kind != SN_SQL_OK)
		return;
	pg_outcome(res, item->what == PG_AWAIT_STATEMENT ? item->number : op->n_rows, &o);
	if (is_accident(op, o.state, entry)) {
		op->again = true;
		if (entry != NULL && entry->state == PG_PREPARED)
			entry->state = PG_FAILED; /* the next one prepares it anew */
	}
	/* It could not be prepared: that is the reason. */
	if ((strcmp(o.state, "26000") == 0 || strcmp(o.state, "25P02") == 0) && entry != NULL &&
			entry->state == PG_FAILED && entry->failure.kind != SN_SQL_OK) {
		o = entry->failure;
		o.at = item->number;
	}
	if (strcmp(o.state, "25006") == 0 && op->unit->read_only) {
		o.kind = SN_SQL_REJECTED;
		o.code = SN_E_REJECTED;
	}
	if (item->what == PG_AWAIT_CONTROL && op->unit->script != NULL)
		o.at = 0;
	op->outcome = o;
}

void pg_unit_result(struct pg_op *op, const struct pg_item *item, PGresult *res)
{
	switch (PQresultStatus(res)) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
		if (item->what != PG_AWAIT_STATEMENT || op->outcome.kind != SN_SQL_OK)
			break;
		take_rows(op, item->number, res);
		return;
	case PGRES_EMPTY_QUERY:
		if (op->unit->script == NULL)
			fail(op, item->number, SN_SQL_REJECTED, SN_E_REJECTED,
					"the statement is empty");
		break;
	case PGRES_PIPELINE_ABORTED:
		break; /* the reason came before */
	case PGRES_FATAL_ERROR:
		take_error(op, item, res);
		break;
	default:
		fail(op, item->number, SN_SQL_REJECTED, SN_E_REJECTED,
				"the statement is none that a unit can have");
		op->conn->broken = true; /* COPY: it waits for data */
	}
	PQclear(res);
}

static void ask_more(struct pg_conn *conn, struct pg_op *op)
{
	struct sn_sql_unit *unit = op->unit;
	enum sn_sql_next next = SN_SQL_COMMIT;

	if (unit->more != NULL) {
		unit->rows = op->rows;
		unit->n_rows = op->n_rows;
		next = unit->more(unit);
	}
	if (op->stop != 0 || next == SN_SQL_ROLLBACK) {
		op->stop = op->stop != 0 ? op->stop : SN_E_CANCELLED;
		pg_stopped(op);
		send_rollback(conn, op);
	} else if (next == SN_SQL_COMMIT) {
		send_commit(conn, op);
	} else {
		pg_unit_send(conn, op);
	}
}

void pg_unit_synced(struct pg_conn *conn, struct pg_op *op, bool last)
{
	if (last) {
		/* What it ended with is known, whatever was asked meanwhile. */
		if (op->again && op->stop == 0)
			pg_op_again(op);
		else
			pg_op_end(op);
		return;
	}
	if (!op->holds)
		return; /* COMMIT is on its way */
	if (!pg_items_reserve(conn, 4)) {
		conn->broken = true;
		return;
	}
	if (op->outcome.kind != SN_SQL_OK)
		send_rollback(conn, op);
	else
		ask_more(conn, op);
}
