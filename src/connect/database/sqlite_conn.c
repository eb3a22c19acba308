/* SPDX-License-Identifier: Apache-2.0 */

/* The driver sqlite: a connection, its statements and values. Helper thread. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "connect/database/sqlite.h"

#define PROGRESS_STEPS 2000 /* of the virtual machine between looks at `stop` */
#define CELLS_FIRST 32

/* ---- what codes mean ---- */

static void say(struct sn_sql_outcome *o, enum sn_sql_kind kind, int code, const char *text)
{
	o->kind = kind;
	o->code = code;
	(void)snprintf(o->message, sizeof(o->message), "%s", text);
}

void sn__sqlite_stopped(struct sn_sql_outcome *o, int code)
{
	*o = (struct sn_sql_outcome){0};
	say(o, SN_SQL_STOPPED, code, sn_strerror(code));
}

void sn__sqlite_outcome(struct sn_sqlite_conn *conn, int rc, uint32_t at, struct sn_sql_outcome *o)
{
	const char *text = conn->db != NULL ? sqlite3_errmsg(conn->db) : sqlite3_errstr(rc);
	int stop = conn->current != NULL ? atomic_load(&conn->current->stop) : 0;

	*o = (struct sn_sql_outcome){.at = at};
	(void)snprintf(o->state, sizeof(o->state), "%d", rc);
	switch (rc & 0xff) {
	case SQLITE_CONSTRAINT:
		say(o, SN_SQL_CONSTRAINT, SN_E_REJECTED, text);
		break;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_INTERRUPT:
		if (stop != 0)
			sn__sqlite_stopped(o, stop);
		else
			say(o, SN_SQL_CONFLICT, SN_E_REJECTED, text);
		break;
	case SQLITE_NOMEM:
		say(o, SN_SQL_UNAVAILABLE, SN_E_NOMEM, "out of memory");
		break;
	case SQLITE_FULL:
		say(o, SN_SQL_UNAVAILABLE, SN_E_LIMIT, text);
		break;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_PROTOCOL:
		say(o, SN_SQL_UNAVAILABLE, SN_E_IO, text);
		break;
	case SQLITE_TOOBIG:
		say(o, SN_SQL_REJECTED, SN_E_LIMIT, text);
		break;
	default:
		say(o, SN_SQL_REJECTED, SN_E_REJECTED, text);
	}
}

/* ---- opening ---- */

/* Not through the umask, which is the host's: the files beside it get the mode of this one. */
static int file_create(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	/* Closing it lets go of every lock this process has on it: it has none yet. */
	if (fd >= 0)
		(void)close(fd);
	return fd >= 0 || errno == EEXIST ? 0 : errno;
}

static int on_busy(void *arg, int count)
{
	struct sn_sqlite_conn *conn = arg;
	const struct timespec pause = {.tv_nsec = count < 5 ? 1000000 : 5000000};
	uint64_t now = sn__clock_mono_ns();

	if (count == 0)
		conn->busy_since_ns = now;
	if (conn->current != NULL && atomic_load(&conn->current->stop) != 0)
		return 0;
	if (now - conn->busy_since_ns >= sn_ms_to_ns(conn->options->busy_timeout_ms))
		return 0;
	(void)nanosleep(&pause, NULL);
	return 1;
}

static int on_progress(void *arg)
{
	const struct sn_sqlite_conn *conn = arg;

	return conn->current != NULL && atomic_load(&conn->current->stop) != 0;
}

/* Transactions are ours, other files are nobody's, and settings are options. */
static int on_authorize(
		void *arg, int action, const char *a, const char *b, const char *c, const char *d)
{
	static const char *const harmless[] = {"table_info", "table_xinfo", "table_list",
			"index_list", "index_info", "foreign_key_list", "foreign_key_check",
			"quick_check", "integrity_check", "optimize"};
	const struct sn_sqlite_conn *conn = arg;

	if (!conn->guarded)
		return SQLITE_OK;
	switch (action) {
	case SQLITE_TRANSACTION:
	case SQLITE_SAVEPOINT:
	case SQLITE_ATTACH:
	case SQLITE_DETACH:
		return SQLITE_DENY;
	case SQLITE_PRAGMA:
		for (size_t i = 0; a != NULL && i < SN_COUNT(harmless); i++) {
			if (sqlite3_stricmp(a, harmless[i]) == 0)
				return SQLITE_OK;
		}
		/* Its number of version may be read, and written. */
		return a != NULL && sqlite3_stricmp(a, "user_version") == 0 ? SQLITE_OK
									    : SQLITE_DENY;
	default:
		return SQLITE_OK;
	}
}

static int set_up(struct sn_sqlite_conn *conn)
{
	const struct sn_sqlite_options *o = conn->options;
	char text[512];
	int rc;

	(void)sqlite3_extended_result_codes(conn->db, 1);
	(void)sqlite3_db_config(conn->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	(void)sqlite3_db_config(conn->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	(void)sqlite3_db_config(conn->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
	(void)sqlite3_db_config(conn->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
	(void)sqlite3_limit(conn->db, SQLITE_LIMIT_ATTACHED, 0);
	(void)sqlite3_busy_handler(conn->db, on_busy, conn);
	sqlite3_progress_handler(conn->db, PROGRESS_STEPS, on_progress, conn);
	(void)sqlite3_set_authorizer(conn->db, on_authorize, conn);
	(void)snprintf(text, sizeof(text),
			"PRAGMA journal_mode=WAL; PRAGMA synchronous=%s; PRAGMA foreign_keys=ON;"
			"PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=67108864;"
			"PRAGMA cache_size=-%llu; PRAGMA query_only=%s;",
			o->synchronous == SN_SQLITE_NORMAL ? "NORMAL" : "FULL",
			(unsigned long long)SN_MAX(o->cache / 1024, 64u),
			conn->read_only ? "ON" : "OFF");
	rc = sqlite3_exec(conn->db, text, NULL, NULL, NULL);
	if (rc != SQLITE_OK || o->max_size == 0)
		return rc;
	/* Pages of 4096 bytes unless the file is older and has others: near enough. */
	(void)snprintf(text, sizeof(text), "PRAGMA max_page_count=%llu",
			(unsigned long long)SN_MAX(o->max_size / 4096, 16u));
	return sqlite3_exec(conn->db, text, NULL, NULL, NULL);
}

int sn__sqlite_conn_open(struct sn_sqlite_conn *conn, struct sn_sql_outcome *ret)
{
	bool memory = strcmp(conn->options->path, ":memory:") == 0;
	int rc, e;

	if (conn->db != NULL)
		return 0;
	e = memory ? 0 : file_create(conn->options->path);
	if (e != 0) {
		*ret = (struct sn_sql_outcome){0};
		say(ret, SN_SQL_UNAVAILABLE, SN_E_IO, "");
		(void)snprintf(ret->message, sizeof(ret->message), "cannot make %.180s: %s",
				conn->options->path, strerrordesc_np(e));
		return SN_E_IO;
	}
	conn->prepared = sn__calloc((size_t)conn->options->statements, sizeof(*conn->prepared));
	rc = conn->prepared != NULL ? sqlite3_open_v2(conn->options->path, &conn->db,
						      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
								      SQLITE_OPEN_PRIVATECACHE,
						      NULL)
				    : SQLITE_NOMEM;
	if (rc == SQLITE_OK)
		rc = set_up(conn);
	if (rc == SQLITE_OK)
		return 0;
	sn__sqlite_outcome(conn, rc, 0, ret);
	sn__sqlite_conn_close(conn);
	return ret->code;
}

static void forget(struct sn_sqlite_prepared *p)
{
	(void)sqlite3_finalize(p->stmt);
	sn__free(p->sql);
	sn__free(p->map);
	memset(p, 0, sizeof(*p));
}

void sn__sqlite_conn_close(struct sn_sqlite_conn *conn)
{
	for (uint32_t i = 0; i < conn->n_prepared; i++)
		forget(&conn->prepared[i]);
	conn->n_prepared = 0;
	sn__free(SN_TAKE(conn->prepared));
	for (size_t i = 0; i < SN_SQLITE_OWN_N; i++)
		(void)sqlite3_finalize(SN_TAKE(conn->own[i]));
	(void)sqlite3_close(SN_TAKE(conn->db));
}

int sn__sqlite_own(struct sn_sqlite_conn *conn, enum sn_sqlite_own which)
{
	static const char *const texts[] = {
			[SN_SQLITE_OWN_BEGIN] = "BEGIN IMMEDIATE",
			[SN_SQLITE_OWN_BEGIN_READ] = "BEGIN",
			[SN_SQLITE_OWN_COMMIT] = "COMMIT",
			[SN_SQLITE_OWN_ROLLBACK] = "ROLLBACK",
			[SN_SQLITE_OWN_SAVE] = "SAVEPOINT u",
			[SN_SQLITE_OWN_RELEASE] = "RELEASE u",
			[SN_SQLITE_OWN_BACK] = "ROLLBACK TO u",
	};
	sqlite3_stmt **stmt = &conn->own[which];
	int rc = SQLITE_OK;

	if (*stmt == NULL)
		rc = sqlite3_prepare_v3(
				conn->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL);
	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(*stmt);
	(void)sqlite3_reset(*stmt);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ---- preparing ---- */

static bool refuse(struct sn_sqlite_op *op, uint32_t at, const char *text)
{
	op->outcome = (struct sn_sql_outcome){.at = at};
	say(&op->outcome, SN_SQL_REJECTED, SN_E_REJECTED, text);
	return false;
}

static bool fail(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op, int rc, uint32_t at)
{
	sn__sqlite_outcome(conn, rc, at, &op->outcome);
	return false;
}

static bool is_rest_empty(const char *tail)
{
	while (*tail == ' ' || *tail == '\t' || *tail == '\n' || *tail == '\r' || *tail == ';')
		tail++;
	return *tail == '\0';
}

/* SQLite numbers "$2" by the order in which it meets them: who is who. */
static bool map_params(struct sn_sqlite_prepared *p)
{
	int n = sqlite3_bind_parameter_count(p->stmt);

	p->n_params = 0;
	p->map = sn__calloc((size_t)n + 1, sizeof(*p->map));
	for (int i = 1; p->map != NULL && i <= n; i++) {
		const char *name = sqlite3_bind_parameter_name(p->stmt, i);
		uint64_t number;

		if (name == NULL || (name[0] != '$' && name[0] != '?') ||
				sn__parse_u64(sn_str_from(name + 1), SN_SQL_PARAMS_MAX, &number) <
						0 ||
				number == 0)
			return false;
		p->map[i] = (uint16_t)number;
		p->n_params = (uint32_t)SN_MAX(p->n_params, number);
	}
	return p->map != NULL;
}

static bool prepare(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op, uint32_t at,
		const char *sql, struct sn_sqlite_prepared *p)
{
	const char *tail = "";
	int rc;

	conn->guarded = true;
	rc = sqlite3_prepare_v3(conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &p->stmt, &tail);
	conn->guarded = false;
	if (rc != SQLITE_OK)
		return fail(conn, op, rc, at);
	if (p->stmt == NULL)
		return refuse(op, at, "the statement is empty");
	if (!is_rest_empty(tail))
		return refuse(op, at, "one statement at a time: there is more behind ';'");
	p->sql = sn__strdup(sql);
	if (p->sql == NULL)
		return fail(conn, op, SQLITE_NOMEM, at);
	if (!map_params(p))
		return p->map == NULL
				? fail(conn, op, SQLITE_NOMEM, at)
				: refuse(op, at, "parameters are written $1, $2, ... (at most 512)");
	return true;
}

static struct sn_sqlite_prepared *slot_of(struct sn_sqlite_conn *conn)
{
	struct sn_sqlite_prepared *oldest = conn->prepared;

	if (conn->n_prepared < (uint64_t)conn->options->statements)
		return &conn->prepared[conn->n_prepared++];
	for (uint32_t i = 1; i < conn->n_prepared; i++) {
		if (conn->prepared[i].used < oldest->used)
			oldest = &conn->prepared[i];
	}
	forget(oldest);
	return oldest;
}

/* Found or prepared; NULL: op->outcome is set. */
static struct sn_sqlite_prepared *prepared_of(
		struct sn_sqlite_conn *conn, struct sn_sqlite_op *op, uint32_t at)
{
	const char *sql = op->unit->statements[at].sql;
	uint64_t hash = sn__hash(sn_str_from(sql));
	struct sn_sqlite_prepared made = {0}, *p;

	for (uint32_t i = 0; i < conn->n_prepared; i++) {
		p = &conn->prepared[i];
		if (p->hash == hash && strcmp(p->sql, sql) == 0) {
			p->used = ++conn->uses;
			return p;
		}
	}
	if (!prepare(conn, op, at, sql, &made)) {
		forget(&made);
		return NULL;
	}
	p = slot_of(conn);
	*p = made;
	p->hash = hash;
	p->used = ++conn->uses;
	return p;
}

/* ---- values ---- */

static int bind_one(sqlite3_stmt *stmt, int i, const struct sn_sql_value *v)
{
	const char *ptr = v->u.s.len > 0 ? v->u.s.ptr : ""; /* NULL would be SQL's NULL */

	switch (v->type) {
	case SN_SQL_INT:
		return sqlite3_bind_int64(stmt, i, v->u.i);
	case SN_SQL_DOUBLE:
		return sqlite3_bind_double(stmt, i, v->u.d);
	case SN_SQL_TEXT:
		return sqlite3_bind_text64(stmt, i, ptr, v->u.s.len, SQLITE_STATIC, SQLITE_UTF8);
	case SN_SQL_BLOB:
		return sqlite3_bind_blob64(stmt, i, ptr, v->u.s.len, SQLITE_STATIC);
	case SN_SQL_NULL:
		break;
	}
	return sqlite3_bind_null(stmt, i);
}

static bool is_fit(const struct sn_sql_value *v)
{
	return v->type != SN_SQL_TEXT || v->u.s.len == 0 ||
			(memchr(v->u.s.ptr, '\0', v->u.s.len) == NULL &&
					sn__utf8_valid((struct sn_str){v->u.s.ptr, v->u.s.len}));
}

static bool bind(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op, uint32_t at,
		const struct sn_sqlite_prepared *p)
{
	const struct sn_sql_statement *s = &op->unit->statements[at];
	int n = sqlite3_bind_parameter_count(p->stmt), rc = SQLITE_OK;

	if (p->n_params != s->n_params) {
		(void)refuse(op, at, "");
		(void)snprintf(op->outcome.message, sizeof(op->outcome.message),
				"the statement has %u parameters, %u are given",
				(unsigned)p->n_params, (unsigned)s->n_params);
		return false;
	}
	for (uint32_t i = 0; i < s->n_params; i++) {
		if (!is_fit(&s->params[i]))
			return refuse(op, at, "a text must be UTF-8 without NUL");
	}
	for (int i = 1; i <= n && rc == SQLITE_OK; i++)
		rc = bind_one(p->stmt, i, &s->params[p->map[i] - 1]);
	return rc == SQLITE_OK || fail(conn, op, rc, at);
}

static uint64_t rows_max(const struct sn_sqlite_op *op)
{
	return op->unit->max_rows > 0 ? op->unit->max_rows : SN_SQL_ROWS_MAX;
}

static bool has_room(struct sn_sqlite_op *op, uint64_t more)
{
	uint64_t have = op->arena.used + op->n_cells * sizeof(struct sn_sql_value);

	op->over = op->over || have + more > rows_max(op);
	return !op->over;
}

static const char *keep(struct sn_sqlite_op *op, const void *bytes, size_t n)
{
	if (!has_room(op, n))
		return NULL;
	return sn__arena_strdup(&op->arena, (struct sn_str){n > 0 ? bytes : "", n});
}

static bool read_cell(struct sn_sqlite_op *op, sqlite3_stmt *stmt, int i, struct sn_sql_value *v)
{
	const void *bytes = NULL;

	*v = (struct sn_sql_value){.type = SN_SQL_NULL};
	switch (sqlite3_column_type(stmt, i)) {
	case SQLITE_INTEGER:
		v->type = SN_SQL_INT;
		v->u.i = sqlite3_column_int64(stmt, i);
		return true;
	case SQLITE_FLOAT:
		v->type = SN_SQL_DOUBLE;
		v->u.d = sqlite3_column_double(stmt, i);
		return true;
	case SQLITE_TEXT:
		v->type = SN_SQL_TEXT;
		bytes = sqlite3_column_text(stmt, i);
		break;
	case SQLITE_BLOB:
		v->type = SN_SQL_BLOB;
		bytes = sqlite3_column_blob(stmt, i);
		break;
	default:
		return true;
	}
	v->u.s.len = (size_t)sqlite3_column_bytes(stmt, i);
	if (bytes == NULL && v->u.s.len > 0)
		return false; /* it could not be made */
	v->u.s.ptr = keep(op, bytes, v->u.s.len);
	return v->u.s.ptr != NULL;
}

/* ---- rows ---- */

static bool no_room(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op, uint32_t at)
{
	if (!op->over)
		return fail(conn, op, SQLITE_NOMEM, at);
	(void)refuse(op, at, "");
	op->outcome.code = SN_E_LIMIT;
	(void)snprintf(op->outcome.message, sizeof(op->outcome.message),
			"the rows have more than %llu bytes", (unsigned long long)rows_max(op));
	return false;
}

/* The place for a statement's rows, and its columns' names. */
static struct sn_sql_rows *rows_add(struct sn_sqlite_op *op, sqlite3_stmt *stmt)
{
	int n = sqlite3_column_count(stmt);
	struct sn_sql_rows *rows;
	const char **names;

	if (op->n_rows == op->cap_rows) {
		uint32_t cap = SN_MAX(op->cap_rows * 2, 4u);

		rows = sn__realloc(op->rows, cap * sizeof(*rows));
		if (rows == NULL)
			return NULL;
		op->rows = rows;
		op->cap_rows = cap;
	}
	if (op->arena.max == 0)
		sn__arena_init(&op->arena, 512, SIZE_MAX / 2);
	names = n > 0 ? sn__arena_alloc(&op->arena, (size_t)n * sizeof(*names)) : NULL;
	if (n > 0 && names == NULL)
		return NULL;
	for (int i = 0; i < n; i++) {
		const char *name = sqlite3_column_name(stmt, i);

		names[i] = name != NULL ? keep(op, name, strlen(name)) : NULL;
		if (names[i] == NULL)
			return NULL;
	}
	rows = &op->rows[op->n_rows];
	*rows = (struct sn_sql_rows){.n_columns = (uint32_t)n, .names = names};
	op->n_rows++;
	return rows;
}

/* One row; *cap counts cells. */
static bool row_add(struct sn_sqlite_op *op, sqlite3_stmt *stmt, struct sn_sql_rows *rows,
		uint64_t *cap)
{
	uint64_t n = (uint64_t)rows->n_rows * rows->n_columns;
	struct sn_sql_value *cells = (struct sn_sql_value *)(void *)rows->cells;

	if (!has_room(op, rows->n_columns * sizeof(*cells)))
		return false;
	if (n + rows->n_columns > *cap) {
		uint64_t more = SN_MAX(*cap * 2, SN_MAX(CELLS_FIRST, rows->n_columns));

		cells = sn__realloc(cells, more * sizeof(*cells));
		if (cells == NULL)
			return false;
		rows->cells = cells;
		*cap = more;
	}
	for (uint32_t i = 0; i < rows->n_columns; i++) {
		if (!read_cell(op, stmt, (int)i, &cells[n + i]))
			return false;
	}
	rows->n_rows++;
	op->n_cells += rows->n_columns;
	return true;
}

static bool step_all(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op, uint32_t at,
		sqlite3_stmt *stmt)
{
	sqlite3_int64 before = sqlite3_total_changes64(conn->db);
	struct sn_sql_rows *rows = rows_add(op, stmt);
	uint64_t cap = 0;
	int rc;

	if (rows == NULL)
		return no_room(conn, op, at);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		if (!row_add(op, stmt, rows, &cap))
			return no_room(conn, op, at);
	}
	if (rc != SQLITE_DONE)
		return fail(conn, op, rc, at);
	if (sqlite3_total_changes64(conn->db) != before)
		rows->affected = sqlite3_changes64(conn->db);
	return true;
}

static bool is_expected(struct sn_sqlite_op *op, uint32_t at)
{
	const struct sn_sql_rows *rows = &op->rows[op->n_rows - 1];
	enum sn_sql_expect expect = op->unit->statements[at].expect;
	bool some = rows->n_rows > 0 || rows->affected > 0;

	if (expect == SN_SQL_ANY || some == (expect == SN_SQL_SOME))
		return true;
	op->outcome = (struct sn_sql_outcome){.at = at};
	say(&op->outcome, SN_SQL_UNEXPECTED, SN_E_REJECTED,
			some ? "there are rows" : "there are no rows");
	return false;
}

bool sn__sqlite_statement(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op, uint32_t at)
{
	struct sn_sqlite_prepared *p = prepared_of(conn, op, at);
	bool ok;

	if (p == NULL)
		return false;
	if (op->unit->read_only && !sqlite3_stmt_readonly(p->stmt))
		return refuse(op, at, "the unit only reads, and this statement writes");
	ok = bind(conn, op, at, p) && step_all(conn, op, at, p->stmt);
	(void)sqlite3_reset(p->stmt);
	(void)sqlite3_clear_bindings(p->stmt);
	return ok && is_expected(op, at);
}

bool sn__sqlite_script(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op)
{
	int rc;

	conn->guarded = true;
	rc = sqlite3_exec(conn->db, op->unit->script, NULL, NULL, NULL);
	conn->guarded = false;
	return rc == SQLITE_OK || fail(conn, op, rc, 0);
}
