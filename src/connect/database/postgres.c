/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The driver postgres, a module: an instance is a database, reached by a pool of connections. Units wait
 * in one queue; a connection gets the next one behind those it has (pipeline mode), as long as its
 * first one is not slow, or for itself when the unit asks for that.
 *
 * Connections are opened when units wait and none is free. While the server is away one attempt at a
 * time is made, with growing pauses; the units that wait for it end when it fails, later ones wait for
 * the next.
 */

#include "connect/database/postgres.h"

#define BACKOFF_FIRST_MS 50
#define SLOW_NS UINT64_C(50000000) /* behind a unit that takes longer nothing is queued */
#define CANCEL_AGAIN_MS 200        /* one that comes between two statements is lost */
#define CANCELS_MAX 10             /* then the connection is closed */

/* ---- memory ---- */

void *pg_alloc(struct pg_instance *inst, size_t size)
{
	void *p = inst->host->memory(inst->host, NULL, SN_MAX(size, 1u));

	if (p != NULL)
		memset(p, 0, size);
	return p;
}

void pg_free(struct pg_instance *inst, void *p)
{
	if (p != NULL)
		(void)inst->host->memory(inst->host, p, 0);
}

/* ---- the end of a unit, and of all ---- */

static struct pg_op *op_at(struct sn_list *pos)
{
	return SN_CONTAINER_OF(pos, struct pg_op, link);
}

static void close_check(struct pg_instance *inst);

static void on_ending(struct sn_driver_task *task)
{
	struct pg_instance *inst = SN_CONTAINER_OF(task, struct pg_instance, ending_task);
	struct sn_list ops;

	sn_list_init(&ops);
	sn_list_splice_back(&ops, &inst->ending);
	while (!sn_list_empty(&ops)) {
		struct pg_op *op = op_at(sn_list_pop_front(&ops));
		struct sn_sql_unit *unit = op->unit;
		bool is_ok = op->outcome.kind == SN_SQL_OK;

		unit->outcome = op->outcome;
		unit->driver[0] = NULL;
		unit->rows = is_ok ? op->rows : NULL;
		unit->n_rows = is_ok ? op->n_rows : 0;
		unit->done(unit);
		pg_unit_reset(op);
		pg_free(inst, op);
		inst->n_ops--;
	}
	close_check(inst);
}

static void leave(struct pg_op *op)
{
	struct pg_instance *inst = op->inst;

	inst->host->undo(inst->host, &op->patience);
	sn_list_remove(&op->link);
	if (op->conn != NULL && op->conn->held == op)
		op->conn->held = NULL;
	if (op->conn != NULL)
		op->conn->head_since_ns = inst->host->now_ns(inst->host);
	op->conn = NULL;
}

void pg_op_end(struct pg_op *op)
{
	struct pg_instance *inst = op->inst;

	leave(op);
	/* It was cancelled, and that is what the server says in its own words. */
	if (op->stop != 0 && strcmp(op->outcome.state, "57014") == 0)
		pg_stopped(op);
	sn_list_push_back(&inst->ending, &op->link);
	inst->ending_task.fn = on_ending;
	inst->host->defer(inst->host, &inst->ending_task);
}

void pg_op_again(struct pg_op *op)
{
	struct pg_instance *inst = op->inst;

	leave(op);
	pg_unit_reset(op);
	op->outcome = (struct sn_sql_outcome){0};
	op->retried = true;
	op->again = op->open = op->commit_sent = false;
	op->cancels = 0;
	sn_list_push_front(&inst->queue, &op->link);
	op->queued = true;
	inst->n_queued++;
	pg_kick(inst);
}

static void unqueue(struct pg_op *op)
{
	op->inst->n_queued--;
	op->queued = false;
	pg_op_end(op);
}

static void on_closed(struct sn_driver_task *task)
{
	struct pg_instance *inst = SN_CONTAINER_OF(task, struct pg_instance, close_task);

	inst->done(inst->arg);
}

static void close_check(struct pg_instance *inst)
{
	if (!inst->closing || inst->closed || inst->n_ops > 0)
		return;
	inst->closed = true;
	for (unsigned i = 0; i <= inst->n_conns; i++)
		pg_conn_free(&inst->conns[i]);
	inst->host->undo(inst->host, &inst->kick_task);
	inst->host->undo(inst->host, &inst->backoff_task);
	inst->close_task.fn = on_closed;
	inst->host->defer(inst->host, &inst->close_task);
}

/* ---- connections that come and go ---- */

static unsigned count(const struct pg_instance *inst, enum pg_phase from, enum pg_phase to)
{
	unsigned n = 0;

	for (unsigned i = 0; i < inst->n_conns; i++)
		n += inst->conns[i].phase >= from && inst->conns[i].phase <= to;
	return n;
}

static void on_backoff(struct sn_driver_task *task)
{
	struct pg_instance *inst = SN_CONTAINER_OF(task, struct pg_instance, backoff_task);

	inst->waiting = false;
	pg_kick(inst);
}

void pg_failed(struct pg_instance *inst, int code, const char *why, const char *state)
{
	char line[320];

	if (inst->backoff_ms == 0) {
		(void)snprintf(line, sizeof(line), "postgres: %s", why);
		inst->host->log(inst->host, 1, line);
	}
	inst->backoff_ms = SN_MIN(SN_MAX(inst->backoff_ms * 2, BACKOFF_FIRST_MS),
			inst->options.reconnect_max_ms);
	if (!inst->waiting && !inst->closing) {
		inst->waiting = true;
		inst->backoff_task.fn = on_backoff;
		inst->host->after(inst->host, &inst->backoff_task, inst->backoff_ms);
	}
	if (count(inst, PG_RESOLVING, PG_READY) > 0)
		return; /* somebody else may serve them */
	while (!sn_list_empty(&inst->queue)) {
		struct pg_op *op = op_at(inst->queue.next);

		op->outcome = (struct sn_sql_outcome){0};
		(void)snprintf(op->outcome.state, sizeof(op->outcome.state), "%s", state);
		pg_say(&op->outcome, SN_SQL_UNAVAILABLE, code, why);
		unqueue(op);
	}
}

static void on_impatient(struct sn_driver_task *task);

/* Only what is first on its connection can be cancelled: the server knows no other. */
static void cancel_head(struct pg_conn *conn)
{
	struct pg_op *op = sn_list_empty(&conn->ops) ? NULL : op_at(conn->ops.next);
	struct sn_driver_host *host = conn->inst->host;

	if (conn->phase != PG_READY || op == NULL || op->stop == 0 || op->cancels > 0)
		return;
	(void)pg_cancel_backend(conn); /* if not, then the clock's next stroke */
	op->cancels++;
	op->patience.fn = on_impatient;
	host->after(host, &op->patience, CANCEL_AGAIN_MS);
}

static void on_impatient(struct sn_driver_task *task)
{
	struct pg_op *op = SN_CONTAINER_OF(task, struct pg_op, patience);
	struct sn_driver_host *host = op->inst->host;

	if (op->conn == NULL)
		return;
	if (op->cancels++ == CANCELS_MAX) {
		pg_conn_close(op->conn, "it does not answer");
		return;
	}
	(void)pg_cancel_backend(op->conn);
	host->after(host, &op->patience, CANCEL_AGAIN_MS);
}

void pg_connected(struct pg_instance *inst)
{
	inst->backoff_ms = 0;
	for (unsigned i = 0; i < inst->n_conns; i++)
		cancel_head(&inst->conns[i]);
	pg_kick(inst);
}

/* ---- who gets what ---- */

static bool is_free(struct pg_conn *conn, const struct pg_op *op, uint64_t now_ns)
{
	const struct pg_options *o = &conn->inst->options;
	int64_t n = 0;

	if (conn->phase != PG_READY || conn->held != NULL || conn->broken)
		return false;
	if (sn_list_empty(&conn->ops))
		return true;
	SN_LIST_FOREACH (pos, &conn->ops)
		n++;
	return !op->holds && n < o->pipeline && now_ns - conn->head_since_ns < SLOW_NS &&
			op_at(conn->ops.next)->stop == 0;
}

/* An idle one, else the one with the least to do. */
static struct pg_conn *choose(struct pg_instance *inst, const struct pg_op *op)
{
	uint64_t now_ns = inst->host->now_ns(inst->host);
	struct pg_conn *best = NULL;

	for (unsigned i = 0; i < inst->n_conns; i++) {
		struct pg_conn *conn = &inst->conns[i];

		if (!is_free(conn, op, now_ns))
			continue;
		if (sn_list_empty(&conn->ops))
			return conn;
		if (best == NULL || conn->n_items < best->n_items)
			best = conn;
	}
	return best;
}

/* Another connection, one at a time. */
static void open_more(struct pg_instance *inst)
{
	if (inst->waiting || count(inst, PG_RESOLVING, PG_CONNECTING) > 0)
		return;
	for (unsigned i = 0; i < inst->n_conns; i++) {
		if (inst->conns[i].phase == PG_DOWN) {
			pg_conn_open(&inst->conns[i]);
			return;
		}
	}
}

static void assign(struct pg_instance *inst, struct pg_conn *conn, struct pg_op *op)
{
	sn_list_remove(&op->link);
	op->queued = false;
	inst->n_queued--;
	if (sn_list_empty(&conn->ops))
		conn->head_since_ns = inst->host->now_ns(inst->host);
	op->conn = conn;
	if (op->holds)
		conn->held = op;
	sn_list_push_back(&conn->ops, &op->link);
	pg_unit_send(conn, op);
}

static void on_kick(struct sn_driver_task *task)
{
	struct pg_instance *inst = SN_CONTAINER_OF(task, struct pg_instance, kick_task);
	bool busy = false;

	while (!sn_list_empty(&inst->queue)) {
		struct pg_op *op = op_at(inst->queue.next);
		struct pg_conn *conn = choose(inst, op);

		busy = busy || conn == NULL || !sn_list_empty(&conn->ops);
		if (conn == NULL)
			break;
		assign(inst, conn, op);
	}
	if (busy)
		open_more(inst);
	for (unsigned i = 0; i < inst->n_conns; i++) {
		struct pg_conn *conn = &inst->conns[i];

		if (conn->phase == PG_READY && (conn->n_items > 0 || conn->broken))
			pg_flush(conn);
		cancel_head(conn);
	}
}

void pg_kick(struct pg_instance *inst)
{
	inst->kick_task.fn = on_kick;
	if (!inst->closed)
		inst->host->defer(inst->host, &inst->kick_task);
}

/* ---- units ---- */

static int postgres_submit(void *state, struct sn_sql_unit *unit)
{
	struct pg_instance *inst = state;
	struct pg_op *op;

	if (inst->closing)
		return SN_E_CLOSED;
	if (inst->n_queued >= inst->options.queue)
		return SN_E_OVERLOAD;
	op = pg_alloc(inst, sizeof(*op));
	if (op == NULL)
		return SN_E_NOMEM;
	op->unit = unit;
	op->inst = inst;
	op->queued = true;
	op->holds = pg_unit_holds(unit);
	unit->driver[0] = op;
	inst->n_ops++;
	inst->n_queued++;
	sn_list_push_back(&inst->queue, &op->link);
	pg_kick(inst);
	return 0;
}

static void stop(struct pg_op *op, int code)
{
	if (op->stop != 0 || (op->conn == NULL && !op->queued))
		return;
	op->stop = code;
	if (op->queued) {
		pg_stopped(op);
		unqueue(op);
		return;
	}
	cancel_head(op->conn);
}

static void postgres_cancel(void *state, struct sn_sql_unit *unit, int code)
{
	struct pg_op *op = unit->driver[0];

	if (op != NULL)
		stop(op, code);
}

/* ---- opening and closing ---- */

static int postgres_open(void *state, struct sn_driver_open *how)
{
	struct pg_instance *inst = state;

	inst->host = how->host;
	if (how->host->size < sizeof(*how->host)) {
		(void)snprintf(how->error, sizeof(how->error),
				"the program is older than the module");
		return SN_E_NOTSUP;
	}
	inst->options = *(const struct pg_options *)how->options;
	inst->n_conns = (unsigned)inst->options.connections;
	inst->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	inst->conns = inst->c_locale != (locale_t)0
			? pg_alloc(inst, (inst->n_conns + 1) * sizeof(*inst->conns))
			: NULL;
	if (inst->conns == NULL) {
		if (inst->c_locale != (locale_t)0)
			freelocale(inst->c_locale);
		(void)snprintf(how->error, sizeof(how->error), "out of memory");
		return SN_E_NOMEM;
	}
	for (unsigned i = 0; i <= inst->n_conns; i++) {
		inst->conns[i].inst = inst;
		inst->conns[i].is_control = i == inst->n_conns;
		sn_list_init(&inst->conns[i].ops);
		sn_list_init(&inst->conns[i].prepared);
	}
	sn_list_init(&inst->queue);
	sn_list_init(&inst->ending);
	return 0;
}

static void postgres_close(void *state, void (*done)(void *arg), void *arg)
{
	struct pg_instance *inst = state;

	inst->closing = true;
	inst->done = done;
	inst->arg = arg;
	while (!sn_list_empty(&inst->queue))
		stop(op_at(inst->queue.next), SN_E_CLOSED);
	for (unsigned i = 0; i < inst->n_conns; i++) {
		SN_LIST_FOREACH_SAFE (pos, &inst->conns[i].ops)
			stop(op_at(pos), SN_E_CLOSED);
	}
	close_check(inst);
}

static void postgres_finish(void *state)
{
	struct pg_instance *inst = state;

	inst->host->undo(inst->host, &inst->kick_task);
	pg_free(inst, inst->conns);
	freelocale(inst->c_locale);
}

/* ---- the table ---- */

static const char *const isolations[] = {"read-committed", "repeatable-read", "serializable", NULL};
static const char *const targets[] = {"any", "read-write", NULL};
static const char *const tls_modes[] = {
		"auto", "disable", "require", "verify-ca", "verify-full", NULL};

#define OPTION(n, k, m) .name = n, .kind = k, .offset = offsetof(struct pg_options, m)

static const struct sn_option tls_options[] = {
		{.name = "mode",
				.kind = SN_OPTION_ENUM,
				.offset = offsetof(struct pg_options, tls.mode) -
						offsetof(struct pg_options, tls),
				.def = "auto",
				.choices = tls_modes,
				.help = "auto: verify-full, but on loopback and Unix sockets disable"},
		{.name = "ca",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct pg_options, tls.ca) -
						offsetof(struct pg_options, tls),
				.help = "certificates of authorities (PEM); without: the system's"},
		{.name = "cert",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct pg_options, tls.cert) -
						offsetof(struct pg_options, tls),
				.help = "own certificate (PEM)"},
		{.name = "key",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct pg_options, tls.key) -
						offsetof(struct pg_options, tls),
				.help = "its key (PEM), readable by its owner alone"},
		{.name = NULL},
};

static const struct sn_option options[] = {
		{OPTION("host", SN_OPTION_STRING, host), .def = "127.0.0.1",
				.help = "name, address, or the folder of the Unix socket"},
		{OPTION("port", SN_OPTION_INT, port), .def = "5432", .min = 1, .max = 65535,
				.help = "its port"},
		{OPTION("database", SN_OPTION_STRING, database),
				.help = "its name; without: as the user"},
		{OPTION("user", SN_OPTION_STRING, user), .help = "without: the user of the system"},
		{OPTION("password", SN_OPTION_STRING, password), .flags = SN_OPTION_SECRET,
				.help = "without: what ~/.pgpass says"},
		{OPTION("tls", SN_OPTION_SECTION, tls), .options = tls_options,
				.help = "encryption of the connections"},
		{OPTION("connections", SN_OPTION_INT, connections), .def = "4", .min = 1,
				.max = PG_CONNECTIONS_MAX, .unit = "connections",
				.help = "at most; one more when something is cancelled"},
		{OPTION("queue", SN_OPTION_INT, queue), .def = "10000", .min = 1, .max = 1000000,
				.unit = "transactions",
				.help = "how many may wait; more are refused"},
		{OPTION("pipeline", SN_OPTION_INT, pipeline), .def = "16", .min = 1, .max = 1000,
				.unit = "transactions",
				.help = "how many may be under way on one connection"},
		{OPTION("statements", SN_OPTION_INT, statements), .def = "256", .min = 1,
				.max = 10000, .unit = "statements",
				.help = "prepared statements that each connection keeps"},
		{OPTION("isolation", SN_OPTION_ENUM, isolation), .def = "read-committed",
				.choices = isolations, .help = "of transactions that write"},
		{OPTION("target", SN_OPTION_ENUM, target), .def = "any", .choices = targets,
				.help = "read-write: of several addresses the one that may be written"},
		{OPTION("connect-timeout", SN_OPTION_DURATION, connect_timeout_ms), .def = "5s",
				.min = 10, .max = 600000, .unit = "ms",
				.help = "of one attempt, name and encryption included"},
		{OPTION("reconnect-max", SN_OPTION_DURATION, reconnect_max_ms), .def = "2s",
				.min = 50, .max = 600000, .unit = "ms",
				.help = "longest pause between attempts"},
		{OPTION("application", SN_OPTION_STRING, application), .def = "sinew",
				.help = "name that the server's lists show"},
		{.name = NULL},
};

static const struct sn_database_ops ops = {
		.size = sizeof(struct sn_database_ops),
		.submit = postgres_submit,
		.cancel = postgres_cancel,
};

SN_API extern const struct sn_driver sn_driver_database_postgres;
const struct sn_driver sn_driver_database_postgres = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "postgres",
		.topic = SN_TOPIC_DATABASE,
		.summary = "PostgreSQL, a database",
		.capabilities = SN_DRIVER_BY_OPTIONS,
		.options = options,
		.options_size = sizeof(struct pg_options),
		.state_size = sizeof(struct pg_instance),
		.open = postgres_open,
		.close = postgres_close,
		.finish = postgres_finish,
		.ops = &ops,
};
