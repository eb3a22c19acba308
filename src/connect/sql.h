/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_SQL_H
#define SN_SRC_CONNECT_SQL_H

/*
 * Internal. SQL databases for our own stores: an instance of a driver of the topic database, opened by
 * its type and a JSON object of its options. sinew/sql.h says what a unit is and what all drivers
 * guarantee. Loop thread.
 *
 *	static const char put[] = "INSERT INTO t (k, v) VALUES ($1, $2) "
 *				  "ON CONFLICT (k) DO UPDATE SET v = excluded.v";
 *	op->params[0] = sn_sql_text(key);
 *	op->params[1] = sn_sql_int(7);
 *	op->statement = (struct sn_sql_statement){.sql = put, .params = op->params, .n_params = 2};
 *	op->unit = (struct sn_sql_unit){
 *			.statements = &op->statement, .n_statements = 1, .done = put_done};
 *	r = sn__sql_submit(sql, &op->unit, 5000);
 */

#include <sinew/sql.h>
#include "base/error.h"
#include "base/str.h"

struct sn_log;
struct sn_loop;
struct sn_runtime;
struct sn_sql;

struct sn_sql_open {
	struct sn_loop *loop;
	struct sn_runtime *rt; /* may be NULL */
	struct sn_log *log;    /* may be NULL */
	const char *type; /* "sqlite", "postgres"; what else is a driver of the topic with its ops */
	/** JSON: {"path": "/var/lib/x.db"}; {"host": "db", "database": "x", "user": "u"}; every option of
	 * `sinew drivers TYPE`. An unknown one is an error. */
	const char *config;
};

/** Nothing is connected yet. SN_E_NOT_FOUND (type), SN_E_INVALID (config), SN_E_NOTSUP (a driver
 * without units), SN_E_NOMEM: err has a sentence. */
SN_MUST_USE int sn__sql_open(
		const struct sn_sql_open *how, struct sn_sql **ret_sql, struct sn_error *err);
/** Units under way end as SN_SQL_STOPPED, SN_E_CLOSED (or as they ended before); then @done, in a later
 * turn, after which it is gone. */
void sn__sql_close(struct sn_sql *sql, void (*done)(void *arg), void *arg);

/** @timeout_ms: from now to done(), 0: none; then it is cancelled with SN_E_TIMEOUT. SN_E_NOMEM,
 * SN_E_CLOSED, SN_E_OVERLOAD, SN_E_INVALID (no statements, or too many parameters): done() is not
 * called. May be called from inside any done(). */
SN_MUST_USE int sn__sql_submit(struct sn_sql *sql, struct sn_sql_unit *unit, uint32_t timeout_ms);
/** done() follows with SN_E_CANCELLED unless the end was quicker. */
void sn__sql_cancel(struct sn_sql *sql, struct sn_sql_unit *unit);

/* ---- values ---- */

static inline struct sn_sql_value sn_sql_null(void)
{
	return (struct sn_sql_value){.type = SN_SQL_NULL};
}
static inline struct sn_sql_value sn_sql_int(int64_t i)
{
	return (struct sn_sql_value){.type = SN_SQL_INT, .u.i = i};
}
static inline struct sn_sql_value sn_sql_double(double d)
{
	return (struct sn_sql_value){.type = SN_SQL_DOUBLE, .u.d = d};
}
static inline struct sn_sql_value sn_sql_text(struct sn_str s) /* not copied */
{
	return (struct sn_sql_value){.type = SN_SQL_TEXT, .u.s = {s.ptr, s.len}};
}
static inline struct sn_sql_value sn_sql_blob(struct sn_str s) /* not copied */
{
	return (struct sn_sql_value){.type = SN_SQL_BLOB, .u.s = {s.ptr, s.len}};
}
/** TEXT or BLOB; "" for others. */
static inline struct sn_str sn_sql_str(const struct sn_sql_value *v)
{
	return v->type == SN_SQL_TEXT || v->type == SN_SQL_BLOB
			? (struct sn_str){v->u.s.ptr, v->u.s.len}
			: (struct sn_str){"", 0};
}
/** INT; 0 for others. */
static inline int64_t sn_sql_i64(const struct sn_sql_value *v)
{
	return v->type == SN_SQL_INT ? v->u.i : 0;
}

#endif
