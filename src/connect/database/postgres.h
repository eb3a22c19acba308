/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_DATABASE_POSTGRES_H
#define SN_SRC_CONNECT_DATABASE_POSTGRES_H

/*
 * Internal to the driver postgres, a module: nothing of libsinew but its headers' inline functions.
 * postgres.c has the instance: options, queue, which connection gets a unit. postgres_conn.c has the
 * connections: opening, what is sent and what is awaited. postgres_unit.c has units: statements,
 * values, rows, errors. Loop thread.
 */

#include <libpq-fe.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include <sinew/sql.h>
#include "base/list.h"
#include "base/mem.h"

struct pg_options {
	const char *host, *database, *user, *password, *application;
	int64_t port, connections, queue, pipeline, statements;
	uint64_t connect_timeout_ms, reconnect_max_ms;
	int isolation, target;
	struct {
		int mode;
		const char *ca, *cert, *key;
	} tls;
};

enum pg_tls { PG_TLS_AUTO, PG_TLS_DISABLE, PG_TLS_REQUIRE, PG_TLS_VERIFY_CA, PG_TLS_VERIFY_FULL };

/* What waits for a result on a connection, in order. */
enum pg_await {
	PG_AWAIT_PREPARE,   /* entry */
	PG_AWAIT_STATEMENT, /* op, number */
	PG_AWAIT_CONTROL,   /* op or none: BEGIN, COMMIT, DEALLOCATE, ... */
	PG_AWAIT_COMMIT,    /* op */
	PG_AWAIT_SYNC,      /* op or none; last: the op ends with it */
};

struct pg_item {
	enum pg_await what;
	bool seen, last;
	uint32_t number;
	struct pg_op *op; /* NULL: nobody's */
	struct pg_prepared *entry;
};

struct pg_prepared {
	struct sn_list link; /* conn->prepared, the latest used first */
	char *sql;
	char name[16];
	unsigned in_flight;
	enum { PG_PREPARING, PG_PREPARED, PG_FAILED } state;
	struct sn_sql_outcome failure;
};

enum pg_phase { PG_DOWN, PG_RESOLVING, PG_CONNECTING, PG_READY };

struct pg_conn {
	struct pg_instance *inst;
	PGconn *pg; /* CONNECTING, READY */
	struct sn_driver_poll *poll;
	struct sn_driver_lookup lookup;
	struct sn_driver_task timer; /* of connecting */
	enum pg_phase phase;
	bool is_control;
	bool broken; /* to be closed when what it is in has returned */
	bool in_callback;
	struct sn_list ops; /* under way, in order */
	struct pg_op *held; /* has it for itself */
	uint64_t head_since_ns;
	/* a ring of what is awaited */
	struct pg_item *items;
	uint32_t first_item, n_items, cap_items;
	struct sn_list prepared;
	uint32_t n_prepared;
	uint64_t n_names;
};

struct pg_op {
	struct sn_list link; /* inst->queue, conn->ops, inst->ending */
	struct sn_sql_unit *unit;
	struct pg_instance *inst;
	struct pg_conn *conn; /* NULL: it waits, or has ended */
	bool queued;
	bool holds; /* it needs a connection for itself */
	bool open;  /* its transaction is */
	bool commit_sent, retried, again;
	unsigned cancels; /* sent */
	int stop;
	struct sn_driver_task patience;
	struct sn_sql_outcome outcome;
	/* statements so far: results and what was made of them */
	PGresult **results;
	struct sn_sql_rows *rows;
	struct pg_prepared **used;
	uint32_t n_rows, cap_rows, base; /* base: number of the first statement of this step */
	uint64_t bytes;
};

#define PG_CONNECTIONS_MAX 200

struct pg_instance {
	struct sn_driver_host *host;
	struct pg_options options;
	locale_t c_locale;
	struct sn_list queue, ending;
	int64_t n_queued;
	unsigned n_ops;
	struct pg_conn *conns; /* connections of them, and one for cancelling */
	unsigned n_conns;
	struct sn_driver_task kick_task, ending_task, backoff_task, close_task;
	uint64_t backoff_ms; /* 0: no attempt has failed */
	bool waiting;        /* for the next attempt */
	bool closing, closed;
	void (*done)(void *arg);
	void *arg;
};

/* ---- postgres.c ---- */

void *pg_alloc(struct pg_instance *inst, size_t size); /* zeroed */
void pg_free(struct pg_instance *inst, void *p);
/** Look what can be sent, in the next turn. */
void pg_kick(struct pg_instance *inst);
/** It has left its connection: outcome and rows are told in the next turn. */
void pg_op_end(struct pg_op *op);
/** To the front of the queue: nothing of it has happened. */
void pg_op_again(struct pg_op *op);
/** No connection came to be. */
void pg_failed(struct pg_instance *inst, int code, const char *why, const char *state);
void pg_connected(struct pg_instance *inst);

/* ---- postgres_conn.c ---- */

void pg_conn_open(struct pg_conn *conn);
/** Everything under way ends as unavailable (or as stopped). */
void pg_conn_close(struct pg_conn *conn, const char *why);
/** Room for @n more items; false: out of memory. */
bool pg_items_reserve(struct pg_conn *conn, uint32_t n);
void pg_item_add(struct pg_conn *conn, enum pg_await what, struct pg_op *op, uint32_t number,
		struct pg_prepared *entry);
void pg_sync(struct pg_conn *conn, struct pg_op *op, bool last);
void pg_flush(struct pg_conn *conn);
/** A statement of ours, with nothing to prepare. */
void pg_control(struct pg_conn *conn, enum pg_await what, struct pg_op *op, const char *sql);
struct pg_item *pg_item_head(struct pg_conn *conn);
void pg_conn_free(struct pg_conn *conn);
/** What its backend does now is to be cancelled. False: not yet, there is no connection to say it on. */
bool pg_cancel_backend(struct pg_conn *conn);

/* ---- postgres_unit.c ---- */

/** Send it; it is in conn->ops. */
void pg_unit_send(struct pg_conn *conn, struct pg_op *op);
void pg_unit_result(struct pg_op *op, const struct pg_item *item, PGresult *result /* taken */);
/** A SYNC of its: what comes next. */
void pg_unit_synced(struct pg_conn *conn, struct pg_op *op, bool last);
void pg_unit_reset(struct pg_op *op);
bool pg_unit_holds(const struct sn_sql_unit *unit);
void pg_outcome(const PGresult *result, uint32_t at, struct sn_sql_outcome *o);
void pg_say(struct sn_sql_outcome *o, enum sn_sql_kind kind, int code, const char *text);
void pg_stopped(struct pg_op *op);
const char *pg_words(int code);
void pg_prepared_drop(struct pg_conn *conn, struct pg_prepared *p);

#endif
