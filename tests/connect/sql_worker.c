/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sql_worker TYPE OPTIONS FIRST AT-ONCE: writes rows with numbers from FIRST on into the table `acks`, so
 * many at once, until it is killed or its stdin ends, and says how each ended, a line each, at once:
 * "ok N", "maybe N", "no N KIND MESSAGE". Each unit moves a counter too, so that half a unit shows.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "connect/sql.h"
#include "io/loop.h"

#define AT_ONCE_MAX 256
#define PAUSE_NS (20 * SN_NS_PER_MS) /* after a failure */

struct slot {
	struct sn_sql_unit unit;
	struct sn_sql_statement statements[2];
	struct sn_sql_value value;
	struct sn_timer timer;
	uint64_t number;
};

static struct sn_loop *loop;
static struct sn_sql *sql;
static struct slot slots[AT_ONCE_MAX];
static uint64_t next_number;
static bool over;
static unsigned running;

static void begin(struct slot *s);

static void on_pause(struct sn_timer *t)
{
	begin(SN_CONTAINER_OF(t, struct slot, timer));
}

static void say(const char *text)
{
	/* One write, so that what was said was said before a kill. */
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		over = true;
}

static void on_done(struct sn_sql_unit *unit)
{
	struct slot *s = SN_CONTAINER_OF(unit, struct slot, unit);
	const struct sn_sql_outcome *o = &unit->outcome;
	char line[400];

	if (o->kind == SN_SQL_OK)
		(void)snprintf(line, sizeof line, "ok %llu\n", (unsigned long long)s->number);
	else
		(void)snprintf(line, sizeof line, "%s %llu %d %s\n", o->maybe ? "maybe" : "no",
				(unsigned long long)s->number, o->kind, o->message);
	say(line);
	running--;
	if (o->kind == SN_SQL_OK)
		begin(s);
	else
		sn__timer_start(loop, &s->timer, PAUSE_NS, on_pause);
}

static void begin(struct slot *s)
{
	if (over)
		return;
	s->number = next_number++;
	s->value = sn_sql_int((int64_t)s->number);
	s->statements[0] = (struct sn_sql_statement){.sql = "INSERT INTO acks (n) VALUES ($1)",
			.params = &s->value,
			.n_params = 1};
	s->statements[1] = (struct sn_sql_statement){.sql = "UPDATE acks_count SET n = n + 1"};
	s->unit = (struct sn_sql_unit){
			.statements = s->statements, .n_statements = 2, .done = on_done};
	if (sn__sql_submit(sql, &s->unit, 3000) < 0)
		abort();
	running++;
}

static void on_script(struct sn_sql_unit *unit)
{
	struct slot *s = SN_CONTAINER_OF(unit, struct slot, unit);

	if (unit->outcome.kind != SN_SQL_OK)
		(void)fprintf(stderr, "%s\n", unit->outcome.message);
	running = unit->outcome.kind == SN_SQL_OK ? 0 : 1000;
	(void)s;
	sn__loop_stop(loop);
}

static void on_input(struct sn_poll *poll, unsigned events, void *arg)
{
	char byte;

	if (read(STDIN_FILENO, &byte, 1) <= 0) {
		over = true;
		sn__poll_want(poll, 0);
		sn__loop_stop(loop);
	}
}

static void on_closed(void *arg)
{
	*(bool *)arg = true;
	sn__loop_stop(loop);
}

int main(int argc, char **argv)
{
	struct sn_sql_open how = {
			.type = argc > 2 ? argv[1] : "", .config = argc > 2 ? argv[2] : ""};
	unsigned at_once = argc > 4 ? (unsigned)atoi(argv[4]) : 1;
	struct sn_poll *poll = NULL;
	struct sn_error err;
	bool closed = false;

	if (argc != 5 || at_once > AT_ONCE_MAX || sn__loop_uv_open(NULL, &loop, &err) < 0)
		return 2;
	how.loop = loop;
	if (sn__sql_open(&how, &sql, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		return 2;
	}
	next_number = strtoull(argv[3], NULL, 10);
	slots[0].unit = (struct sn_sql_unit){
			.script = "CREATE TABLE IF NOT EXISTS acks (n BIGINT PRIMARY KEY);"
				  "CREATE TABLE IF NOT EXISTS acks_count (n BIGINT);"
				  "INSERT INTO acks_count SELECT 0 WHERE NOT EXISTS "
				  "(SELECT 1 FROM acks_count)",
			.done = on_script};
	if (sn__sql_submit(sql, &slots[0].unit, 0) < 0)
		return 2;
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	if (running > 0)
		return 1;
	for (unsigned i = 0; i < at_once; i++)
		begin(&slots[i]);
	if (sn__poll_open(loop, STDIN_FILENO, on_input, NULL, &poll) < 0)
		return 2;
	sn__poll_want(poll, SN_READABLE);
	while (!over)
		(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	sn__poll_close(poll);
	for (unsigned i = 0; i < at_once; i++)
		sn__timer_stop(loop, &slots[i].timer);
	sn__sql_close(sql, on_closed, &closed);
	while (!closed)
		(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	sn__loop_close(loop, NULL, NULL);
	return sn__mem_live() == 0 ? 0 : 3;
}
