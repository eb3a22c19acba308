/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_DATABASE_SQLITE_H
#define SN_SRC_CONNECT_DATABASE_SQLITE_H

/*
 * Internal to the driver sqlite. sqlite.c queues units on the loop's thread and hands them to lanes;
 * sqlite_run.c carries them out on a helper thread. What belongs to a lane is touched by one of the two
 * at a time: by the helper while a job is under way, by the loop otherwise. Only `stop` crosses.
 */

#include <sqlite3.h>
#include <stdatomic.h>

#include <sinew/sql.h>
#include "base/arena.h"
#include "base/list.h"

struct sn_sqlite_options {
	const char *path;
	int synchronous; /* enum sn_sqlite_synchronous */
	uint64_t busy_timeout_ms;
	int64_t readers, queue, group, statements;
	uint64_t cache, max_size;
};

enum sn_sqlite_synchronous { SN_SQLITE_FULL, SN_SQLITE_NORMAL };

/* What becomes of a unit's transaction in the next job. */
enum sn_sqlite_phase {
	SN_SQLITE_BEGIN,    /* all of it */
	SN_SQLITE_CONTINUE, /* it is open: more statements */
	SN_SQLITE_COMMIT,
	SN_SQLITE_ROLLBACK,
};

/* A unit. */
struct sn_sqlite_op {
	struct sn_list link; /* queue, lane->ops, or stopped */
	struct sn_sql_unit *unit;
	bool queued; /* nobody has looked at it yet */
	enum sn_sqlite_phase phase;
	atomic_int stop; /* SN_E_ code of cancel() */
	bool waits;      /* the transaction is open, and more() is to be asked */
	struct sn_sql_outcome outcome;
	/* rows of all statements so far */
	struct sn_sql_rows *rows;
	uint32_t n_rows, cap_rows;
	struct sn_arena arena; /* names, texts, cells */
	uint64_t n_cells;
	bool over; /* the rows have more bytes than they may */
};

struct sn_sqlite_prepared {
	char *sql;
	uint64_t hash, used;
	sqlite3_stmt *stmt;
	uint32_t n_params; /* the greatest number */
	uint16_t *map;     /* index of SQLite's -> number of ours */
};

enum sn_sqlite_own {
	SN_SQLITE_OWN_BEGIN, /* to write */
	SN_SQLITE_OWN_BEGIN_READ,
	SN_SQLITE_OWN_COMMIT,
	SN_SQLITE_OWN_ROLLBACK,
	SN_SQLITE_OWN_SAVE,
	SN_SQLITE_OWN_RELEASE,
	SN_SQLITE_OWN_BACK,
	SN_SQLITE_OWN_N,
};

/* A connection and its prepared statements. */
struct sn_sqlite_conn {
	sqlite3 *db; /* NULL: not open */
	const struct sn_sqlite_options *options;
	bool read_only;
	bool guarded;                 /* a user's text is being prepared */
	struct sn_sqlite_op *current; /* whose stop counts */
	uint64_t busy_since_ns;
	sqlite3_stmt *own[SN_SQLITE_OWN_N];
	struct sn_sqlite_prepared *prepared;
	uint32_t n_prepared;
	uint64_t uses;
};

/* ---- sqlite_conn.c, helper thread ---- */

/** Harmless when it is open. On failure @op (any of those that wait) has the reason in @ret. */
int sn__sqlite_conn_open(struct sn_sqlite_conn *conn, struct sn_sql_outcome *ret);
void sn__sqlite_conn_close(struct sn_sqlite_conn *conn);
/** BEGIN and the like. An SQLite code, SQLITE_OK. */
int sn__sqlite_own(struct sn_sqlite_conn *conn, enum sn_sqlite_own which);
/** One statement of the unit's; its rows are added to op->rows. False: op->outcome is set. */
bool sn__sqlite_statement(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op, uint32_t number);
bool sn__sqlite_script(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op);
/** What an SQLite code means, into @o. */
void sn__sqlite_outcome(struct sn_sqlite_conn *conn, int rc, uint32_t at, struct sn_sql_outcome *o);

/* ---- sqlite_run.c ---- */

/** Carry out @ops in order; those that write and are several in one transaction. Helper thread. */
void sn__sqlite_run(struct sn_sqlite_conn *conn, struct sn_list *ops);
/** Forget rows and outcome. Any thread. */
void sn__sqlite_op_reset(struct sn_sqlite_op *op);
void sn__sqlite_stopped(struct sn_sql_outcome *o, int code);

#endif
