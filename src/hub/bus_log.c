/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/bus.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "connect/driver.h"
#include "connect/sql.h"

/*
 * The log in an SQLite file of this process alone: a row for each event, and one for each subscriber
 * that has not acknowledged it. One transaction is under way at a time; whatever is asked meanwhile
 * goes into the next one together, so that many publishers share a commit. Acknowledgements wait a
 * moment for company, since to lose one only means to deliver again.
 *
 * What the bus counts with begins at SEQ_BASE, because the file is read only after the log was opened;
 * the numbers in the file are that less `shift`.
 */

#define SEQ_BASE (UINT64_C(1) << 40)
#define KEEPS_MAX 200u           /* events of a transaction */
#define FORGETS_MAX (256u << 10) /* bytes of text: beyond, they are written at once */
#define FORGETS_LIMIT (4u << 20) /* beyond, they are lost: delivered again after a restart */
#define FORGET_PAUSE_NS (100 * SN_NS_PER_MS)
#define READ_BYTES_MAX ((uint64_t)256 << 20)
#define RETRY_NS SN_NS_PER_S
#define KEEP_PARAMS 8
#define STATEMENTS_MAX (2 * KEEPS_MAX + 6)
#define KEPT_MAX 100000u
#define TRIM_PARTS 16u /* looked at every 1/16 of the limit: so much may be above it */

static const char schema[] =
		"CREATE TABLE IF NOT EXISTS event (seq INTEGER PRIMARY KEY, id BLOB NOT NULL,"
		" all_nodes BIGINT NOT NULL, type BLOB NOT NULL, source BLOB NOT NULL,"
		" data BLOB NOT NULL);"
		"CREATE TABLE IF NOT EXISTS wanted (subscriber TEXT NOT NULL, seq BIGINT NOT NULL,"
		" PRIMARY KEY (subscriber, seq)) WITHOUT ROWID;"
		"CREATE INDEX IF NOT EXISTS wanted_seq ON wanted (seq)";
static const char last_seq[] = "SELECT COALESCE(MAX(seq), 0) FROM event";
static const char keep_event[] = "INSERT INTO event (seq, id, all_nodes, type, source, data)"
				 " VALUES ($1, $2, $3, $4, $5, $6)";
static const char keep_wanted[] = "INSERT INTO wanted (subscriber, seq)"
				  " SELECT value, $2 FROM json_each($1) WHERE true"
				  " ON CONFLICT DO NOTHING";
/* $1: [["subscriber", seq], ...] */
static const char forget_wanted[] =
		"DELETE FROM wanted WHERE (subscriber, seq) IN (SELECT json_extract(value, '$[0]'),"
		" json_extract(value, '$[1]') - $2 FROM json_each($1))";
static const char forget_events[] =
		"DELETE FROM event WHERE seq IN (SELECT json_extract(value, '$[1]') - $2"
		" FROM json_each($1)) AND NOT EXISTS"
		" (SELECT 1 FROM wanted WHERE wanted.seq = event.seq)";
/* The same: up to that seq, so that what is kept for it later stays. */
static const char drop_wanted[] =
		"DELETE FROM wanted WHERE (subscriber, seq) IN (SELECT w.subscriber, w.seq"
		" FROM json_each($1) d JOIN wanted w ON w.subscriber = json_extract(d.value, '$[0]')"
		" AND w.seq <= json_extract(d.value, '$[1]') - $2)";
static const char drop_events[] = "DELETE FROM event WHERE NOT EXISTS"
				  " (SELECT 1 FROM wanted WHERE wanted.seq = event.seq)";
/* Of every subscriber the latest $1 stay. */
static const char trim_wanted[] =
		"DELETE FROM wanted WHERE (subscriber, seq) IN (SELECT subscriber, seq FROM"
		" (SELECT subscriber, seq, row_number() OVER"
		" (PARTITION BY subscriber ORDER BY seq DESC) AS place FROM wanted)"
		" WHERE place > $1)";
static const char read_wanted[] =
		"SELECT e.seq, e.id, e.all_nodes, e.type, e.source, e.data FROM wanted w"
		" JOIN event e ON e.seq = w.seq WHERE w.subscriber = $1 AND w.seq > $2"
		" ORDER BY w.seq LIMIT $3";

struct keep {
	struct sn_list link; /* sql_log.keeps, or .flying */
	uint64_t seq;
	struct sn_bus_event *event;
	void (*done)(void *arg, int code);
	void *arg;
	size_t len;
	char ids[]; /* ["a","b"] */
};

struct reading {
	struct sn_list link;    /* sql_log.readings */
	uint64_t after, ticket; /* ticket: of the last write before it */
	unsigned limit;
	void (*event)(void *arg, uint64_t seq, struct sn_bus_event *event);
	void (*done)(void *arg, int code);
	void *arg;
	char id[];
};

struct sql_log {
	struct sn_bus_log log; /* first */
	struct sn_loop *loop;
	struct sn_log *lines;
	struct sn_sql *sql;
	enum { NEW, TABLES, READY } phase;
	bool busy, closing, hurry; /* hurry: acknowledgements are written now */
	bool failing;              /* the last time, which was told */
	uint64_t shift, last_kept;
	uint64_t asked, written; /* tickets */
	uint64_t flying_ticket;
	uint64_t since_trim; /* events kept */
	unsigned trim_at;    /* its statement of those under way; 0: none, it is never the first */
	struct sn_list keeps, flying, readings;
	struct sn_buf forgets, flying_forgets; /* ["a",7],["b",8] */
	struct sn_buf drops, flying_drops;     /* the same */
	struct sn_task task;
	struct sn_timer timer; /* for acknowledgements, or to try again */
	struct sn_sql_unit unit;
	struct sn_sql_statement statements[STATEMENTS_MAX];
	struct sn_sql_value params[KEEP_PARAMS * KEEPS_MAX + 8];
	unsigned char ids[KEEPS_MAX][16];
	void (*done)(void *arg);
	void *done_arg;
};

static void run(struct sn_task *task);

static struct sql_log *log_of(struct sn_bus_log *log)
{
	return SN_CONTAINER_OF(log, struct sql_log, log);
}

static void kick(struct sql_log *l)
{
	if (!l->busy)
		sn__loop_defer(l->loop, &l->task, run);
}

static void woken(struct sn_timer *t)
{
	struct sql_log *l = SN_CONTAINER_OF(t, struct sql_log, timer);

	l->hurry = true;
	kick(l);
}

static int code_of(const struct sn_sql_unit *unit)
{
	if (unit->outcome.kind == SN_SQL_OK)
		return 0;
	return unit->outcome.code < 0 && unit->outcome.code != SN_E_REJECTED ? unit->outcome.code
									     : SN_E_IO;
}

static int submit(struct sql_log *l, void (*done)(struct sn_sql_unit *unit))
{
	int r;

	l->unit.done = done;
	l->busy = true;
	r = sn__sql_submit(l->sql, &l->unit, 0);
	if (r < 0)
		l->busy = false;
	return r;
}

/* ---- writing ---- */

static void keeps_end(struct sn_list *keeps, int code)
{
	struct sn_list *at;

	while ((at = sn_list_pop_front(keeps)) != NULL) {
		struct keep *k = SN_CONTAINER_OF(at, struct keep, link);

		k->done(k->arg, code);
		sn__bus_event_unref(k->event);
		sn__free(k);
	}
}

/* What was not written is there for the next time. */
static void give_back(struct sn_buf *to, struct sn_buf *from)
{
	size_t before = to->len;

	if (from->len < 2 || (before > 0 && sn__buf_puts(to, ",") < 0))
		return;
	/* without the brackets */
	if (sn__buf_append(to, sn__buf_data(from) + 1, from->len - 2) < 0)
		sn__buf_truncate(to, before);
}

/* Told when it begins and when it is over: a hub that is busy tries hundreds of times meanwhile. */
static void tell(struct sql_log *l, const char *done, int code)
{
	bool before = l->failing;

	l->failing = code < 0;
	if (code < 0 && !before)
		sn__log(l->lines, SN_LOG_ERROR, "hub", "the events' log cannot be %s: %s", done,
				l->unit.outcome.message[0] != '\0' ? l->unit.outcome.message
								   : sn_strerror(code));
	else if (code == 0 && before)
		sn__log(l->lines, SN_LOG_INFO, "hub", "the events' log is %s again", done);
}

static void write_ended(struct sql_log *l, int code)
{
	tell(l, "written", code);
	if (code < 0 && !l->closing) {
		give_back(&l->forgets, &l->flying_forgets);
		give_back(&l->drops, &l->flying_drops);
		sn__timer_start(l->loop, &l->timer, RETRY_NS, woken);
	}
	sn__buf_clear(&l->flying_forgets);
	sn__buf_clear(&l->flying_drops);
	l->written = l->flying_ticket;
	keeps_end(&l->flying, code);
}

static void trimmed(struct sql_log *l, int64_t n)
{
	if (n <= 0)
		return;
	l->log.dropped += (uint64_t)n;
	sn__log(l->lines, SN_LOG_WARNING, "hub",
			"the events' log: %lld events of subscribers that are too far behind are "
			"lost (the oldest: hub.queue.kept is %llu)",
			(long long)n, (unsigned long long)l->log.kept_max);
}

static void written(struct sn_sql_unit *unit)
{
	struct sql_log *l = SN_CONTAINER_OF(unit, struct sql_log, unit);

	l->busy = false;
	if (code_of(unit) == 0 && l->trim_at > 0 && l->trim_at < unit->n_rows)
		trimmed(l, unit->rows[l->trim_at].affected);
	write_ended(l, code_of(unit));
	kick(l);
}

static struct sn_sql_value *statement(struct sql_log *l, const char *sql, uint32_t n_params)
{
	struct sn_sql_unit *u = &l->unit;
	const struct sn_sql_statement *last = u->n_statements > 0
			? &l->statements[u->n_statements - 1]
			: NULL;
	size_t at = last != NULL ? (size_t)(last->params - l->params) + last->n_params : 0;

	l->statements[u->n_statements++] = (struct sn_sql_statement){
			.sql = sql, .params = &l->params[at], .n_params = n_params};
	return &l->params[at];
}

static void put_keep(struct sql_log *l, const struct keep *k, unsigned n)
{
	const struct sn_bus_event *e = k->event;
	struct sn_sql_value *p = statement(l, keep_event, 6);

	memcpy(l->ids[n], e->id, 16);
	p[0] = sn_sql_int((int64_t)(k->seq - l->shift));
	p[1] = sn_sql_blob((struct sn_str){(const char *)l->ids[n], 16});
	p[2] = sn_sql_int(e->all);
	p[3] = sn_sql_blob(e->type);
	p[4] = sn_sql_blob(e->source);
	p[5] = sn_sql_blob(e->data);
	p = statement(l, keep_wanted, 2);
	p[0] = sn_sql_text((struct sn_str){k->ids, k->len});
	p[1] = sn_sql_int((int64_t)(k->seq - l->shift));
}

/* "[" + text + "]" moves from @from to @to; false: nothing to write, or no memory for it now. */
static bool take_list(struct sn_buf *to, struct sn_buf *from)
{
	sn__buf_clear(to);
	if (from->len == 0 || sn__buf_puts(to, "[") < 0 ||
			sn__buf_append_str(to, sn__buf_str(from)) < 0 ||
			sn__buf_puts(to, "]") < 0) {
		sn__buf_clear(to);
		return false;
	}
	sn__buf_clear(from);
	return true;
}

static void put_list(struct sql_log *l, const char *sql, const struct sn_buf *list)
{
	struct sn_sql_value *p = statement(l, sql, 2);

	p[0] = sn_sql_text(sn__buf_str(list));
	p[1] = sn_sql_int((int64_t)l->shift);
}

/* Behind what was kept just now: whether. Whoever reads misses what has gone, and counts it (bus_queue.c). */
static bool put_trim(struct sql_log *l, unsigned n_kept)
{
	uint64_t max = l->log.kept_max;

	l->trim_at = 0;
	l->since_trim += n_kept;
	if (n_kept == 0 || l->since_trim < SN_MAX(max / TRIM_PARTS, 1))
		return false;
	l->since_trim = 0;
	l->trim_at = l->unit.n_statements;
	statement(l, trim_wanted, 1)[0] = sn_sql_int((int64_t)max);
	return true;
}

static void write_now(struct sql_log *l)
{
	struct sn_list *at;
	bool unwanted = false; /* events that nobody wants any more */
	unsigned n = 0;
	int r;

	sn__timer_stop(l->loop, &l->timer);
	l->hurry = false;
	l->unit = (struct sn_sql_unit){.statements = l->statements};
	while (n < KEEPS_MAX && (at = sn_list_pop_front(&l->keeps)) != NULL) {
		sn_list_push_back(&l->flying, at);
		put_keep(l, SN_CONTAINER_OF(at, struct keep, link), n++);
	}
	l->flying_ticket = l->asked;
	if (!sn_list_empty(&l->keeps)) { /* the rest, and what came after it, is for the next one */
		l->flying_ticket = l->written;
	} else {
		if (take_list(&l->flying_forgets, &l->forgets)) {
			put_list(l, forget_wanted, &l->flying_forgets);
			put_list(l, forget_events, &l->flying_forgets);
		}
		if (take_list(&l->flying_drops, &l->drops)) {
			put_list(l, drop_wanted, &l->flying_drops);
			unwanted = true;
		}
	}
	if (put_trim(l, n) || unwanted)
		(void)statement(l, drop_events, 0);
	if (l->unit.n_statements == 0) {
		l->written = l->flying_ticket;
		kick(l);
		return;
	}
	r = submit(l, written);
	if (r < 0)
		write_ended(l, r);
}

/* ---- reading ---- */

static int give_row(
		struct sql_log *l, struct reading *rd, const struct sn_sql_rows *rows, uint32_t i)
{
	const struct sn_sql_value *cell = sn_sql_cell(rows, i, 0);
	struct sn_str id = sn_sql_str(&cell[1]);
	struct sn_bus_event *e;
	int r = sn__bus_event_create(sn_sql_str(&cell[3]), sn_sql_str(&cell[4]),
			sn_sql_str(&cell[5]), sn_sql_i64(&cell[2]) != 0, sn__loop_rng(l->loop), &e);

	if (r == SN_E_INVALID || (r == 0 && id.len != sizeof(e->id))) {
		if (r == 0)
			sn__bus_event_unref(e);
		return 0; /* not written by us */
	}
	if (r < 0)
		return r;
	memcpy(e->id, id.ptr, sizeof(e->id));
	rd->event(rd->arg, (uint64_t)sn_sql_i64(&cell[0]) + l->shift, e);
	return 0;
}

static void reading_end(struct reading *rd, int code)
{
	sn_list_remove(&rd->link);
	rd->done(rd->arg, code);
	sn__free(rd);
}

static void was_read(struct sn_sql_unit *unit)
{
	struct sql_log *l = SN_CONTAINER_OF(unit, struct sql_log, unit);
	struct reading *rd = SN_CONTAINER_OF(l->readings.next, struct reading, link);
	int code = code_of(unit);

	l->busy = false;
	if (code == 0 && unit->n_rows == 1)
		for (uint32_t i = 0; code == 0 && i < unit->rows[0].n_rows; i++)
			code = give_row(l, rd, &unit->rows[0], i);
	reading_end(rd, code);
	kick(l);
}

static void read_now(struct sql_log *l, struct reading *rd)
{
	struct sn_sql_value *p;
	int r;

	l->unit = (struct sn_sql_unit){
			.statements = l->statements, .read_only = true, .max_rows = READ_BYTES_MAX};
	p = statement(l, read_wanted, 3);
	p[0] = sn_sql_text(sn_str_from(rd->id));
	p[1] = sn_sql_int(rd->after == 0 ? 0 : (int64_t)(rd->after - l->shift));
	p[2] = sn_sql_int(rd->limit);
	r = submit(l, was_read);
	if (r < 0) {
		reading_end(rd, r);
		kick(l);
	}
}

/* ---- the course of things ---- */

/* The file cannot be used: who waits is told, and it is tried again. */
static void not_ready(struct sql_log *l, int code)
{
	tell(l, "opened", code);
	l->phase = NEW;
	keeps_end(&l->keeps, code);
	while (!sn_list_empty(&l->readings))
		reading_end(SN_CONTAINER_OF(l->readings.next, struct reading, link), code);
	if (l->closing) {
		sn__buf_clear(&l->forgets);
		sn__buf_clear(&l->drops);
		kick(l);
	} else {
		sn__timer_start(l->loop, &l->timer, RETRY_NS, woken);
	}
}

static void has_last(struct sn_sql_unit *unit)
{
	struct sql_log *l = SN_CONTAINER_OF(unit, struct sql_log, unit);
	int code = code_of(unit);

	l->busy = false;
	if (code < 0 || unit->n_rows != 1 || unit->rows[0].n_rows != 1) {
		not_ready(l, code < 0 ? code : SN_E_IO);
		return;
	}
	l->shift = SEQ_BASE - (uint64_t)sn_sql_i64(sn_sql_cell(&unit->rows[0], 0, 0));
	l->phase = READY;
	kick(l);
}

static void has_tables(struct sn_sql_unit *unit)
{
	struct sql_log *l = SN_CONTAINER_OF(unit, struct sql_log, unit);
	int code = code_of(unit);

	l->busy = false;
	if (code == 0) {
		l->unit = (struct sn_sql_unit){.statements = l->statements, .read_only = true};
		(void)statement(l, last_seq, 0);
		code = submit(l, has_last);
	}
	if (code < 0)
		not_ready(l, code);
}

static void load(struct sql_log *l)
{
	int r;

	l->phase = TABLES;
	l->unit = (struct sn_sql_unit){.script = schema};
	r = submit(l, has_tables);
	if (r < 0)
		not_ready(l, r);
}

static void closed(void *arg)
{
	struct sql_log *l = arg;
	void (*done)(void *arg) = l->done;
	void *done_arg = l->done_arg;

	sn__buf_finish(&l->forgets);
	sn__buf_finish(&l->flying_forgets);
	sn__buf_finish(&l->drops);
	sn__buf_finish(&l->flying_drops);
	sn__free(l);
	if (done != NULL)
		done(done_arg);
}

static void run(struct sn_task *task)
{
	struct sql_log *l = SN_CONTAINER_OF(task, struct sql_log, task);
	struct reading *rd = sn_list_empty(&l->readings)
			? NULL
			: SN_CONTAINER_OF(l->readings.next, struct reading, link);
	bool texts = l->forgets.len + l->drops.len > 0;

	if (l->busy)
		return;
	if (l->phase != READY && (rd != NULL || texts || !sn_list_empty(&l->keeps))) {
		load(l);
		return;
	}
	if (rd != NULL && rd->ticket <= l->written) {
		read_now(l, rd);
	} else if (rd != NULL || !sn_list_empty(&l->keeps) || l->drops.len > 0 ||
			l->forgets.len > FORGETS_MAX || (texts && l->hurry)) {
		write_now(l);
	} else if (l->closing) {
		l->busy = true;
		sn__timer_stop(l->loop, &l->timer);
		sn__sql_close(l->sql, closed, l);
	} else if (texts && !sn_timer_armed(&l->timer)) {
		sn__timer_start(l->loop, &l->timer, FORGET_PAUSE_NS, woken);
	}
}

/* ---- what the bus asks ---- */

static int log_keep(struct sn_bus_log *log, uint64_t seq, struct sn_bus_event *event,
		const char *const *ids, void (*done)(void *arg, int code), void *arg)
{
	struct sql_log *l = log_of(log);
	struct sn_buf text;
	struct keep *k = NULL;
	int r;

	sn__buf_init(&text, 64u << 20);
	r = sn__buf_puts(&text, "[");
	for (unsigned i = 0; r == 0 && ids[i] != NULL; i++) {
		if (i > 0)
			r = sn__buf_puts(&text, ",");
		if (r == 0)
			r = sn__json_quote(sn_str_from(ids[i]), &text);
	}
	if (r == 0)
		r = sn__buf_puts(&text, "]");
	if (r == 0)
		k = sn__malloc(sizeof(*k) + text.len);
	if (k == NULL) {
		sn__buf_finish(&text);
		return SN_E_NOMEM;
	}
	*k = (struct keep){.seq = seq,
			.event = sn__bus_event_ref(event),
			.done = done,
			.arg = arg,
			.len = text.len};
	memcpy(k->ids, sn__buf_data(&text), text.len);
	sn__buf_finish(&text);
	sn_list_push_back(&l->keeps, &k->link);
	l->last_kept = seq;
	l->asked++;
	kick(l);
	return 0;
}

/* On failure the list is as before. */
static int add_item(struct sn_buf *list, const char *id, uint64_t seq)
{
	size_t before = list->len;
	int r = sn__buf_puts(list, before > 0 ? ",[" : "[");

	if (r == 0)
		r = sn__json_quote(sn_str_from(id), list);
	if (r == 0)
		r = sn__buf_printf(list, ",%llu]", (unsigned long long)seq);
	if (r < 0)
		sn__buf_truncate(list, before);
	return r;
}

static void log_forget(struct sn_bus_log *log, uint64_t seq, const char *id)
{
	struct sql_log *l = log_of(log);

	l->asked++;
	(void)add_item(&l->forgets, id, seq); /* else it is delivered again */
	kick(l);
}

static int log_read(struct sn_bus_log *log, const char *id, uint64_t after, unsigned limit,
		void (*event)(void *arg, uint64_t seq, struct sn_bus_event *event),
		void (*done)(void *arg, int code), void *arg)
{
	struct sql_log *l = log_of(log);
	size_t len = strlen(id);
	struct reading *rd = sn__malloc(sizeof(*rd) + len + 1);

	if (rd == NULL)
		return SN_E_NOMEM;
	*rd = (struct reading){.after = after,
			.ticket = l->asked,
			.limit = limit,
			.event = event,
			.done = done,
			.arg = arg};
	memcpy(rd->id, id, len + 1);
	sn_list_push_back(&l->readings, &rd->link);
	kick(l);
	return 0;
}

static void log_drop(struct sn_bus_log *log, const char *id)
{
	struct sql_log *l = log_of(log);

	l->asked++;
	if (add_item(&l->drops, id, l->last_kept) < 0)
		sn__log(l->lines, SN_LOG_ERROR, "hub",
				"events of '%.200s' stay in the log: out of memory", id);
	kick(l);
}

static void log_close(struct sn_bus_log *log, void (*done)(void *arg), void *arg)
{
	struct sql_log *l = log_of(log);

	l->closing = l->hurry = true;
	l->done = done;
	l->done_arg = arg;
	kick(l);
}

int sn__bus_log_open(struct sn_connect_host *host, const char *path, struct sn_bus_log **ret_log,
		struct sn_error *err)
{
	struct sql_log *l = sn__calloc(1, sizeof(*l));
	struct sn_sql_open how = {
			.loop = host->loop, .rt = host->rt, .log = host->log, .type = "sqlite"};
	struct sn_buf config;
	int r = l != NULL ? 0 : SN_E_NOMEM;

	sn__buf_init(&config, 1 << 16);
	if (r == 0)
		r = sn__buf_puts(&config, "{\"path\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(path), &config);
	if (r == 0)
		r = sn__buf_append(&config, "}", 2); /* and a NUL */
	if (r < 0) {
		(void)sn__error_set(err, r, "%s", sn_strerror(r));
	} else {
		how.config = sn__buf_data(&config);
		r = sn__sql_open(&how, &l->sql, err);
	}
	sn__buf_finish(&config);
	if (r < 0) {
		sn__free(l);
		return r;
	}
	l->log = (struct sn_bus_log){.last = SEQ_BASE,
			.keep = log_keep,
			.forget = log_forget,
			.read = log_read,
			.drop = log_drop,
			.close = log_close};
	l->log.kept_max = KEPT_MAX;
	l->last_kept = SEQ_BASE; /* a drop before it: all that was there */
	l->loop = host->loop;
	l->lines = host->log;
	sn_list_init(&l->keeps);
	sn_list_init(&l->flying);
	sn_list_init(&l->readings);
	sn__buf_init(&l->forgets, FORGETS_LIMIT);
	sn__buf_init(&l->flying_forgets, FORGETS_LIMIT + 2);
	sn__buf_init(&l->drops, FORGETS_LIMIT);
	sn__buf_init(&l->flying_drops, FORGETS_LIMIT + 2);
	*ret_log = &l->log;
	return 0;
}
