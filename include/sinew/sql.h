/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SQL_H
#define SN_SQL_H

#ifndef SN_UNSTABLE
#error "sinew/sql.h may still change; define SN_UNSTABLE to use it"
#endif

/**
 * Units of work on an SQL database: the functions of the topic `database`, for authors of drivers and
 * for whoever uses one. A unit is one transaction: one or more statements with numbered parameters,
 * all of them done or none. Values are typed cells and never become part of a statement's text.
 *
 * Statements. One SQL statement each, without ';'. Parameters are written $1, $2, ... in any order,
 * any number of times. What is common to SQLite (3.35) and PostgreSQL (12) and is all that a portable
 * store needs: INSERT .. ON CONFLICT (k) DO UPDATE SET v = excluded.v, RETURNING, WITH, CREATE TABLE /
 * INDEX IF NOT EXISTS, partial indexes, row values ((a, b) > ($1, $2)), LIMIT. Types: BIGINT for every
 * integer (milliseconds since 1970 for times), DOUBLE PRECISION, TEXT, BYTEA for bytes; BOOLEAN arrives
 * as INT 0 or 1. What is not common: sequences, LIMIT in UPDATE and DELETE, type names beyond these,
 * FOR UPDATE, collation of TEXT (compare with COLLATE "C" and BINARY in an index, or page by BIGINT or
 * BYTEA), NUL in TEXT (PostgreSQL refuses it: SN_SQL_REJECTED before it is sent).
 *
 * Guarantees of every driver:
 * - done() is called exactly once, never before submit returned.
 * - SN_SQL_OK of a unit that writes: COMMIT has succeeded; what its `synchronous` option promises holds.
 * - Any other kind with maybe == false: nothing of the unit has happened. maybe == true: the
 *   connection broke between the sending of COMMIT and its answer, and only a look at the data
 *   can tell.
 * - A unit submitted after another one's done() sees what that one wrote, on the same struct sn_sql.
 *   Units in flight together run in any order and see each other wholly or not at all. (SQLite runs
 *   those that write one after another in the order they were submitted.)
 * - Isolation: SQLite is serializable. PostgreSQL's is its `isolation` option; with `serializable` or
 *   `repeatable-read` units end as SN_SQL_CONFLICT when they must be run again. A single statement
 *   that reads and writes (INSERT .. ON CONFLICT, UPDATE .. WHERE version = $2) needs no more than the
 *   default of read-committed.
 * - Statements are prepared once a connection and kept (`statements` option: how many).
 * - A lost connection is opened again by itself, with growing pauses. Units that wait meanwhile end as
 *   SN_SQL_UNAVAILABLE when one attempt has failed; they are never sent twice.
 *
 * Threads: the loop's.
 */

#include <sinew/base.h>
#include <sinew/driver.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- values ---- */

enum sn_sql_type { SN_SQL_NULL, SN_SQL_INT, SN_SQL_DOUBLE, SN_SQL_TEXT, SN_SQL_BLOB };

/** A parameter or a cell of a row. */
struct sn_sql_value {
	enum sn_sql_type type;
	union {
		int64_t i;
		double d;
		struct {
			const char *ptr; /* cells: a NUL behind it that does not count; never NULL */
			size_t len;
		} s; /* TEXT (UTF-8), BLOB */
	} u;
};

/** What a statement gave. Cells of types that are none of the above (numeric, timestamp, uuid, json)
 * are TEXT in the database's own form. */
struct sn_sql_rows {
	uint32_t n_columns; /* 0: it gives no rows */
	uint32_t n_rows;
	const char *const *names;         /* n_columns */
	const struct sn_sql_value *cells; /* row by row */
	int64_t affected;                 /* rows inserted, updated, deleted; 0 for others */
};

static inline const struct sn_sql_value *sn_sql_cell(
		const struct sn_sql_rows *rows, uint32_t row, uint32_t column)
{
	return &rows->cells[(size_t)row * rows->n_columns + column];
}

/* ---- units ---- */

/** What must be so after a statement, or the unit is taken back as SN_SQL_UNEXPECTED. */
enum sn_sql_expect {
	SN_SQL_ANY,
	SN_SQL_SOME, /* at least one row given (RETURNING, SELECT) or affected */
	SN_SQL_NONE, /* not one */
};

struct sn_sql_statement {
	const char *sql; /* by its text it is found among the prepared: keep texts few and constant */
	const struct sn_sql_value *params;
	uint32_t n_params; /* at most SN_SQL_PARAMS_MAX */
	enum sn_sql_expect expect;
};
#define SN_SQL_PARAMS_MAX 512      /* of a statement */
#define SN_SQL_STATEMENTS_MAX 1024 /* of a unit, those that more() adds included */

enum sn_sql_kind {
	SN_SQL_OK,
	SN_SQL_UNEXPECTED, /* `expect` of statement number `at` was not met */
	SN_SQL_CONSTRAINT, /* unique, foreign key, check, not null */
	SN_SQL_CONFLICT, /* serialization failure, deadlock, locked by another: may be run again */
	SN_SQL_UNAVAILABLE, /* server away, starting or stopping, disk full, too many connections, queue
	                     * full: may be run again, later */
	SN_SQL_REJECTED, /* malformed, no such table, permission, too large: never again like this */
	SN_SQL_STOPPED,  /* by cancel(): timeout, close; `code` says which */
};

struct sn_sql_outcome {
	enum sn_sql_kind kind;
	bool maybe;    /* it may have been committed nevertheless */
	int code;      /* SN_E_; 0 for OK, SN_E_REJECTED for errors of the database */
	uint32_t at;   /* the statement that failed; the number of them: COMMIT */
	char state[8]; /* SQLSTATE ("23505"), or SQLite's extended code as a number ("2067"); "" */
	char message[256]; /* one sentence, "" for OK; no parameters' values by our doing */
};

/** What more() answers. */
enum sn_sql_next { SN_SQL_COMMIT, SN_SQL_CONTINUE, SN_SQL_ROLLBACK };

/** One transaction; embedded in the caller's operation. All it points to lives until done(). */
struct sn_sql_unit {
	/* filled by the caller, everything else zero */
	const struct sn_sql_statement *statements;
	uint32_t n_statements;
	/** Instead of statements: any number of them divided by ';', without parameters or rows, in one
	 * transaction: tables and indexes. Scripts of several processes on one database run one
	 * after another. */
	const char *script; /* may be NULL */
	/** It only reads: it sees one snapshot, and does not wait for those that write. A statement
	 * that writes is refused. */
	bool read_only;
	uint64_t max_rows; /* bytes of all rows, 0: SN_SQL_ROWS_MAX; beyond: REJECTED, SN_E_LIMIT */
	/**
	 * All statements were executed and nothing is committed: look at rows[] and say what comes next.
	 * SN_SQL_COMMIT, SN_SQL_ROLLBACK (done: SN_SQL_STOPPED, SN_E_CANCELLED), or SN_SQL_CONTINUE
	 * with @statements and @n_statements set to the next ones, whose rows follow in rows[]. The
	 * connection waits, with it everybody's writes on SQLite: decide at once. NULL: commit.
	 */
	enum sn_sql_next (*more)(struct sn_sql_unit *unit); /* may be NULL */
	/** Exactly once; rows and the unit are the caller's to forget when it returns. */
	void (*done)(struct sn_sql_unit *unit);

	/* the result */
	struct sn_sql_outcome outcome;
	const struct sn_sql_rows
			*rows; /* of all statements so far; OK and in more(); until done returns */
	uint32_t n_rows;       /* statements in rows[] */

	void *driver[4]; /* the driver's */
	void *core[8];   /* the core's */
};
#define SN_SQL_ROWS_MAX ((uint64_t)16 << 20)

/** struct sn_driver.ops of the topic database. A driver with it needs no `calls`: the core makes the
 * native operations `query` and `execute` from it. */
struct sn_database_ops {
	size_t size; /* sizeof(struct sn_database_ops) */
	/** SN_E_NOMEM, SN_E_CLOSED, SN_E_OVERLOAD (the queue is full): nothing follows. */
	int (*submit)(void *instance, struct sn_sql_unit *unit);
	/** done() follows in a later turn, with SN_SQL_STOPPED and @code unless the end was quicker. What
	 * is under way is interrupted and rolled back. At most once a unit. */
	void (*cancel)(void *instance, struct sn_sql_unit *unit, int code);
};

#ifdef __cplusplus
}
#endif
#endif /* SN_SQL_H */
