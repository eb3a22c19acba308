/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The driver sqlite: an instance is a file. Built in, for it is the embedded default of our own stores:
 * a hub or a registry must start where nothing else is installed.
 *
 * SQLite blocks, on disks and on locks, so it runs in jobs off the loop: one lane that writes, and some
 * that read beside it (WAL lets them). A lane has one job at a time and takes what has gathered
 * meanwhile, which makes large transactions of small units exactly when there are many of them.
 */

#include "connect/database/sqlite.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"
#include "connect/driver.h"
#include "io/loop.h"

#define READERS_MAX 8
#define READ_TOGETHER 16 /* units a job of a lane that reads */

struct sn_sqlite_lane {
	struct sn_job job;
	struct sn_sqlite_conn conn;
	struct sn_list ops; /* of the job under way */
	struct instance *inst;
	struct sn_task task; /* the job could not be begun */
	bool busy;           /* a job is under way, or more() is being asked */
};

struct instance {
	struct sn_sqlite_options options;
	struct sn_loop *loop;
	struct sn_list queue, reads; /* ops */
	struct sn_list stopped;      /* ops that end in the next turn */
	int64_t n_queued;
	unsigned n_lanes; /* the first one writes */
	struct sn_sqlite_lane lanes[1 + READERS_MAX];
	struct sn_task kick_task, stopped_task;
	struct sn_job close_job;
	unsigned n_ops;
	bool opened; /* the file is there, in WAL mode: lanes that read may open it */
	bool closing;
	bool closed;
	void (*done)(void *arg);
	void *arg;
};

static struct sn_sqlite_op *op_at(struct sn_list *pos)
{
	return SN_CONTAINER_OF(pos, struct sn_sqlite_op, link);
}

static bool is_alone(const struct sn_sql_unit *unit)
{
	return unit->more != NULL || unit->script != NULL;
}

/* ---- the end of a unit, and of all ---- */

static void close_check(struct instance *inst);

static void op_free(struct sn_sqlite_op *op)
{
	sn__sqlite_op_reset(op);
	sn__free(op);
}

static void finish_op(struct instance *inst, struct sn_sqlite_op *op)
{
	struct sn_sql_unit *unit = op->unit;

	unit->outcome = op->outcome;
	unit->driver[0] = NULL;
	unit->rows = op->outcome.kind == SN_SQL_OK ? op->rows : NULL;
	unit->n_rows = op->outcome.kind == SN_SQL_OK ? op->n_rows : 0;
	inst->n_ops--;
	unit->done(unit);
	op_free(op);
	close_check(inst);
}

static void on_stopped(struct sn_task *task)
{
	struct instance *inst = SN_CONTAINER_OF(task, struct instance, stopped_task);
	struct sn_list ops;

	sn_list_init(&ops);
	sn_list_splice_back(&ops, &inst->stopped);
	/* finish_op() may end the instance with the last. */
	while (!sn_list_empty(&ops))
		finish_op(inst, op_at(sn_list_pop_front(&ops)));
}

static void stop_queued(struct instance *inst, struct sn_sqlite_op *op, int code)
{
	sn_list_remove(&op->link);
	op->queued = false;
	inst->n_queued--;
	sn__sqlite_stopped(&op->outcome, code);
	sn_list_push_back(&inst->stopped, &op->link);
	if (!sn_task_queued(&inst->stopped_task))
		sn__loop_defer(inst->loop, &inst->stopped_task, on_stopped);
}

static void on_close_work(struct sn_job *job)
{
	struct instance *inst = SN_CONTAINER_OF(job, struct instance, close_job);

	/* The writer last: it takes the log into the file, alone. */
	for (unsigned i = inst->n_lanes; i > 0; i--)
		sn__sqlite_conn_close(&inst->lanes[i - 1].conn);
}

static void on_close_done(struct sn_job *job)
{
	struct instance *inst = SN_CONTAINER_OF(job, struct instance, close_job);

	inst->done(inst->arg);
}

static void on_close_late(struct sn_task *task)
{
	struct instance *inst = SN_CONTAINER_OF(task, struct instance, stopped_task);

	on_close_work(&inst->close_job);
	on_close_done(&inst->close_job);
}

static void close_check(struct instance *inst)
{
	if (!inst->closing || inst->closed || inst->n_ops > 0)
		return;
	inst->closed = true;
	sn__loop_undefer(inst->loop, &inst->kick_task);
	if (sn__loop_work(inst->loop, &inst->close_job, on_close_work, on_close_done) < 0)
		sn__loop_defer(inst->loop, &inst->stopped_task, on_close_late);
}

/* ---- lanes ---- */

static void kick(struct instance *inst);

static void lane_work(struct sn_job *job)
{
	struct sn_sqlite_lane *lane = SN_CONTAINER_OF(job, struct sn_sqlite_lane, job);

	sn__sqlite_run(&lane->conn, &lane->ops);
}

static void lane_done(struct sn_job *job);

static void lane_unable(struct sn_task *task)
{
	struct sn_sqlite_lane *lane = SN_CONTAINER_OF(task, struct sn_sqlite_lane, task);

	/* What is open must be ended; it is short. */
	lane_work(&lane->job);
	lane_done(&lane->job);
}

static void lane_start(struct sn_sqlite_lane *lane)
{
	lane->busy = true;
	if (sn__loop_work(lane->inst->loop, &lane->job, lane_work, lane_done) < 0)
		sn__loop_defer(lane->inst->loop, &lane->task, lane_unable);
}

/* The transaction is open: what next? */
static void ask_more(struct sn_sqlite_lane *lane, struct sn_sqlite_op *op)
{
	static const enum sn_sqlite_phase phases[] = {
			[SN_SQL_COMMIT] = SN_SQLITE_COMMIT,
			[SN_SQL_CONTINUE] = SN_SQLITE_CONTINUE,
			[SN_SQL_ROLLBACK] = SN_SQLITE_ROLLBACK,
	};
	struct sn_sql_unit *unit = op->unit;

	op->waits = false;
	unit->rows = op->rows;
	unit->n_rows = op->n_rows;
	op->phase = atomic_load(&op->stop) != 0 ? SN_SQLITE_ROLLBACK : phases[unit->more(unit)];
	sn_list_push_back(&lane->ops, &op->link);
	lane_start(lane);
}

static void lane_done(struct sn_job *job)
{
	struct sn_sqlite_lane *lane = SN_CONTAINER_OF(job, struct sn_sqlite_lane, job);
	struct instance *inst = lane->inst;
	struct sn_list ops;

	sn_list_init(&ops);
	sn_list_splice_back(&ops, &lane->ops);
	inst->opened = inst->opened || (lane->conn.db != NULL && inst->n_lanes > 1);
	if (op_at(ops.next)->waits) {
		ask_more(lane, op_at(sn_list_pop_front(&ops)));
		return;
	}
	lane->busy = false;
	/* The next job runs while this one's callbacks do. */
	kick(inst);
	while (!sn_list_empty(&ops))
		finish_op(inst, op_at(sn_list_pop_front(&ops)));
}

/* As many as go together. */
static void take(struct sn_sqlite_lane *lane, struct sn_list *queue, int64_t max)
{
	bool read_only = op_at(queue->next)->unit->read_only;

	while (!sn_list_empty(queue) && max-- > 0) {
		struct sn_sqlite_op *op = op_at(queue->next);
		bool alone = is_alone(op->unit);

		if (!sn_list_empty(&lane->ops) && (alone || op->unit->read_only != read_only))
			return;
		sn_list_remove(&op->link);
		lane->inst->n_queued--;
		op->queued = false;
		sn_list_push_back(&lane->ops, &op->link);
		if (alone)
			return;
	}
}

static void kick_lane(struct sn_sqlite_lane *lane, struct sn_list *queue, int64_t max)
{
	if (lane->busy || sn_list_empty(queue))
		return;
	take(lane, queue, max);
	lane_start(lane);
}

static void kick(struct instance *inst)
{
	kick_lane(&inst->lanes[0], &inst->queue, inst->options.group);
	for (unsigned i = 1; i < inst->n_lanes && inst->opened; i++)
		kick_lane(&inst->lanes[i], &inst->reads, READ_TOGETHER);
	if (!inst->opened)
		kick_lane(&inst->lanes[0], &inst->reads, READ_TOGETHER);
}

static void on_kick(struct sn_task *task)
{
	kick(SN_CONTAINER_OF(task, struct instance, kick_task));
}

/* ---- units ---- */

static int sqlite_submit(void *state, struct sn_sql_unit *unit)
{
	struct instance *inst = state;
	struct sn_sqlite_op *op;

	if (inst->closing)
		return SN_E_CLOSED;
	if (inst->n_queued >= inst->options.queue)
		return SN_E_OVERLOAD;
	op = sn__calloc(1, sizeof(*op));
	if (op == NULL)
		return SN_E_NOMEM;
	op->unit = unit;
	op->queued = true;
	unit->driver[0] = op;
	inst->n_ops++;
	inst->n_queued++;
	sn_list_push_back(unit->read_only && inst->n_lanes > 1 ? &inst->reads : &inst->queue,
			&op->link);
	/* In the next turn, so that those of this turn go together. */
	if (!sn_task_queued(&inst->kick_task))
		sn__loop_defer(inst->loop, &inst->kick_task, on_kick);
	return 0;
}

static void sqlite_cancel(void *state, struct sn_sql_unit *unit, int code)
{
	struct sn_sqlite_op *op = unit->driver[0];

	if (op == NULL)
		return;
	if (op->queued)
		stop_queued(state, op, code);
	else
		atomic_store(&op->stop, code); /* too late for some: then it is as it is */
}

/* ---- opening and closing ---- */

static void lane_init(struct instance *inst, unsigned i)
{
	struct sn_sqlite_lane *lane = &inst->lanes[i];

	lane->inst = inst;
	lane->conn.options = &inst->options;
	lane->conn.read_only = i > 0;
	sn_list_init(&lane->ops);
}

static int sqlite_open(void *state, struct sn_driver_open *how)
{
	struct instance *inst = state;

	inst->options = *(const struct sn_sqlite_options *)how->options;
	if (inst->options.path == NULL || inst->options.path[0] == '\0') {
		(void)snprintf(how->error, sizeof(how->error), "path must name a file");
		return SN_E_INVALID;
	}
	inst->loop = sn_connect_host(how)->loop;
	/* A database in memory is that of one connection. */
	inst->n_lanes = strcmp(inst->options.path, ":memory:") == 0
			? 1
			: 1 + (unsigned)inst->options.readers;
	for (unsigned i = 0; i < inst->n_lanes; i++)
		lane_init(inst, i);
	sn_list_init(&inst->queue);
	sn_list_init(&inst->reads);
	sn_list_init(&inst->stopped);
	return 0;
}

static void stop_all(struct instance *inst, struct sn_list *queue)
{
	while (!sn_list_empty(queue))
		stop_queued(inst, op_at(queue->next), SN_E_CLOSED);
}

static void sqlite_close(void *state, void (*done)(void *arg), void *arg)
{
	struct instance *inst = state;

	inst->closing = true;
	inst->done = done;
	inst->arg = arg;
	stop_all(inst, &inst->queue);
	stop_all(inst, &inst->reads);
	for (unsigned i = 0; i < inst->n_lanes; i++) {
		SN_LIST_FOREACH (pos, &inst->lanes[i].ops)
			atomic_store(&op_at(pos)->stop, SN_E_CLOSED);
	}
	close_check(inst);
}

static void sqlite_finish(void *state)
{
	struct instance *inst = state;

	sn__loop_undefer(inst->loop, &inst->kick_task);
}

/* ---- the table ---- */

static const char *const synchronous[] = {"full", "normal", NULL};

#define OPTION(n, k, m) .name = n, .kind = k, .offset = offsetof(struct sn_sqlite_options, m)

static const struct sn_option options[] = {
		{OPTION("path", SN_OPTION_STRING, path), .flags = SN_OPTION_REQUIRED,
				.help = "the file, made (0600) when it is missing; :memory: keeps "
					"everything in memory"},
		{OPTION("synchronous", SN_OPTION_ENUM, synchronous), .def = "full",
				.choices = synchronous,
				.help = "full: what was acknowledged survives a loss of power; normal: "
					"the end of the process only, and commits do not wait for the "
					"disk"},
		{OPTION("busy-timeout", SN_OPTION_DURATION, busy_timeout_ms), .def = "5s",
				.max = 600000, .unit = "ms",
				.help = "how long to wait for another process's lock"},
		{OPTION("readers", SN_OPTION_INT, readers), .def = "1", .min = 1,
				.max = READERS_MAX, .unit = "connections",
				.help = "connections for units that only read"},
		{OPTION("queue", SN_OPTION_INT, queue), .def = "10000", .min = 1, .max = 1000000,
				.unit = "transactions",
				.help = "how many may wait; more are refused"},
		{OPTION("group", SN_OPTION_INT, group), .def = "128", .min = 1, .max = 1024,
				.unit = "transactions",
				.help = "how many that wait may share one commit; 1: each has its own"},
		{OPTION("statements", SN_OPTION_INT, statements), .def = "64", .min = 1,
				.max = 1024, .unit = "statements",
				.help = "prepared statements that each connection keeps"},
		{OPTION("cache", SN_OPTION_SIZE, cache), .def = "8MiB", .max = 1e12,
				.unit = "bytes",
				.help = "pages that each connection keeps in memory"},
		{OPTION("max-size", SN_OPTION_SIZE, max_size), .max = 1e15, .unit = "bytes",
				.help = "of the file; what does not fit ends as on a full disk"},
		{.name = NULL},
};

static const struct sn_database_ops ops = {
		.size = sizeof(struct sn_database_ops),
		.submit = sqlite_submit,
		.cancel = sqlite_cancel,
};

const struct sn_driver sn__driver_database_sqlite = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "sqlite",
		.topic = SN_TOPIC_DATABASE,
		.summary = "SQLite, a file",
		.capabilities = SN_DRIVER_BY_OPTIONS,
		.options = options,
		.options_size = sizeof(struct sn_sqlite_options),
		.state_size = sizeof(struct instance),
		.open = sqlite_open,
		.close = sqlite_close,
		.finish = sqlite_finish,
		.ops = &ops,
};
