/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The driver sqlite: transactions. Helper thread.
 *
 * Units that wait to write are put into one transaction, for the price of a COMMIT is that of the disk,
 * whatever it carries. Each has a savepoint of its own, so that one that fails takes nothing with it.
 * Nobody is told before the COMMIT. Where the whole is lost on the way (a full disk, an interruption,
 * a constraint that only the COMMIT checks) each runs again in a transaction of its own: nothing of it
 * has happened, and each gets its own verdict.
 */

#include "base/mem.h"
#include "connect/database/sqlite.h"

void sn__sqlite_op_reset(struct sn_sqlite_op *op)
{
	for (uint32_t i = 0; i < op->n_rows; i++)
		sn__free((void *)(uintptr_t)op->rows[i].cells);
	sn__free(SN_TAKE(op->rows));
	op->n_rows = op->cap_rows = 0;
	op->n_cells = 0;
	op->over = false;
	if (op->arena.max != 0)
		sn__arena_finish(&op->arena);
	op->arena.max = 0;
	op->outcome = (struct sn_sql_outcome){0};
}

static bool is_stopped(struct sn_sqlite_op *op)
{
	int code = atomic_load(&op->stop);

	if (code != 0)
		sn__sqlite_stopped(&op->outcome, code);
	return code != 0;
}

static bool execute(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op)
{
	bool ok = true;

	if (op->unit->script != NULL)
		return sn__sqlite_script(conn, op);
	for (uint32_t i = 0; i < op->unit->n_statements && ok; i++)
		ok = !is_stopped(op) && sn__sqlite_statement(conn, op, i);
	return ok;
}

static void roll_back(struct sn_sqlite_conn *conn)
{
	/* Some errors have done it already. */
	if (!sqlite3_get_autocommit(conn->db))
		(void)sn__sqlite_own(conn, SN_SQLITE_OWN_ROLLBACK);
}

/* An error of the disk in the midst of it: the log may have it all the same. */
static int commit(struct sn_sqlite_conn *conn, struct sn_sql_outcome *o)
{
	int rc = sn__sqlite_own(conn, SN_SQLITE_OWN_COMMIT);

	if (rc == SQLITE_OK)
		return 0;
	sn__sqlite_outcome(conn, rc, 0, o);
	o->maybe = (rc & 0xff) == SQLITE_IOERR;
	roll_back(conn);
	return rc;
}

static void commit_one(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op)
{
	if (commit(conn, &op->outcome) != 0)
		op->outcome.at = op->n_rows;
}

static void begin_one(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op)
{
	const struct sn_sql_unit *unit = op->unit;
	/* A statement is a snapshot by itself. */
	bool bare = unit->read_only && unit->n_statements == 1 && unit->more == NULL;
	int rc = SQLITE_OK;

	if (is_stopped(op))
		return;
	if (!bare)
		rc = sn__sqlite_own(conn,
				unit->read_only ? SN_SQLITE_OWN_BEGIN_READ : SN_SQLITE_OWN_BEGIN);
	if (rc != SQLITE_OK)
		sn__sqlite_outcome(conn, rc, 0, &op->outcome);
	else if (!execute(conn, op))
		roll_back(conn);
	else if (unit->more != NULL)
		op->waits = true;
	else if (!bare)
		commit_one(conn, op);
}

static void run_one(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op)
{
	conn->current = op;
	switch (op->phase) {
	case SN_SQLITE_BEGIN:
		begin_one(conn, op);
		break;
	case SN_SQLITE_CONTINUE:
		op->waits = execute(conn, op);
		if (!op->waits)
			roll_back(conn);
		break;
	case SN_SQLITE_COMMIT:
		if (is_stopped(op))
			roll_back(conn);
		else
			commit_one(conn, op);
		break;
	case SN_SQLITE_ROLLBACK:
		roll_back(conn);
		sn__sqlite_stopped(&op->outcome,
				atomic_load(&op->stop) != 0 ? atomic_load(&op->stop)
							    : SN_E_CANCELLED);
		break;
	}
	conn->current = NULL;
}

/* ---- several ---- */

static struct sn_sqlite_op *op_at(struct sn_list *pos)
{
	return SN_CONTAINER_OF(pos, struct sn_sqlite_op, link);
}

/* False: the transaction is gone. */
static bool execute_saved(struct sn_sqlite_conn *conn, struct sn_sqlite_op *op)
{
	if (is_stopped(op))
		return true;
	if (sn__sqlite_own(conn, SN_SQLITE_OWN_SAVE) != SQLITE_OK)
		return false;
	if (!execute(conn, op) &&
			(sqlite3_get_autocommit(conn->db) ||
					sn__sqlite_own(conn, SN_SQLITE_OWN_BACK) != SQLITE_OK))
		return false;
	return sn__sqlite_own(conn, SN_SQLITE_OWN_RELEASE) == SQLITE_OK;
}

/* False: nothing of it has happened. */
static bool run_together(struct sn_sqlite_conn *conn, struct sn_list *ops)
{
	struct sn_sql_outcome outcome = {0};
	bool ok;

	conn->current = op_at(ops->next);
	ok = sn__sqlite_own(conn, SN_SQLITE_OWN_BEGIN) == SQLITE_OK;
	for (struct sn_list *pos = ops->next; ok && pos != ops; pos = pos->next) {
		conn->current = op_at(pos);
		ok = execute_saved(conn, conn->current);
	}
	conn->current = NULL;
	if (!ok) {
		roll_back(conn);
		return false;
	}
	if (commit(conn, &outcome) == 0)
		return true;
	if (!outcome.maybe)
		return false;
	SN_LIST_FOREACH (pos, ops) {
		struct sn_sqlite_op *op = op_at(pos);

		outcome.at = op->n_rows;
		if (op->outcome.kind == SN_SQL_OK)
			op->outcome = outcome;
	}
	return true;
}

void sn__sqlite_run(struct sn_sqlite_conn *conn, struct sn_list *ops)
{
	bool several = ops->next->next != ops, writes = !op_at(ops->next)->unit->read_only;
	struct sn_sql_outcome outcome;

	if (sn__sqlite_conn_open(conn, &outcome) < 0) {
		SN_LIST_FOREACH (pos, ops)
			op_at(pos)->outcome = outcome;
		return;
	}
	if (several && writes && run_together(conn, ops))
		return;
	SN_LIST_FOREACH (pos, ops) {
		if (several)
			sn__sqlite_op_reset(op_at(pos));
		run_one(conn, op_at(pos));
	}
}
