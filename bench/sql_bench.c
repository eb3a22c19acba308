/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Inserts of one row each through src/connect/sql.h: SQLite with and without shared commits, and
 * PostgreSQL against libpq's pipeline alone, when TEST_POSTGRES has the driver's options and
 * TEST_POSTGRES_DSN the same as libpq wants them (tests/services/postgres.py -- bench_sql).
 */

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "connect/sql.h"
#include "io/loop.h"

#define AT_ONCE 128
#define PAYLOAD 100
#define SECONDS 2

static const char schema[] = "DROP TABLE IF EXISTS bench;"
			     "CREATE TABLE bench (n BIGINT PRIMARY KEY, v TEXT)";
static const char insert[] = "INSERT INTO bench (n, v) VALUES ($1, $2)";
static const char select_one[] = "SELECT v FROM bench WHERE n = $1";
static char payload[PAYLOAD + 1];

static struct sn_loop *loop;
static struct sn_sql *sql;
static uint64_t end_ns, numbers, done;
static unsigned running;
static bool reading; /* what inserts have left, else inserting */

struct slot {
	struct sn_sql_unit unit;
	struct sn_sql_statement statement;
	struct sn_sql_value values[2];
};

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "sql_bench: %s\n", what);
	abort();
}

static void report(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\":\"sql: %s\",\"value\":%.2f,\"unit\":\"%s\",\"want\":\"%s\"}\n", name,
			value, unit, want);
	(void)fflush(stdout);
}

static void begin(struct slot *s);

static void on_done(struct sn_sql_unit *unit)
{
	must(unit->outcome.kind == SN_SQL_OK, unit->outcome.message);
	running--;
	done++;
	if (sn__loop_clock_ns(loop) < end_ns)
		begin(SN_CONTAINER_OF(unit, struct slot, unit));
}

static void begin(struct slot *s)
{
	s->values[0] = sn_sql_int((int64_t)++numbers);
	s->values[1] = sn_sql_text((struct sn_str){payload, PAYLOAD});
	s->statement = (struct sn_sql_statement){.sql = reading ? select_one : insert,
			.params = s->values,
			.n_params = reading ? 1 : 2};
	s->unit = (struct sn_sql_unit){.statements = &s->statement,
			.n_statements = 1,
			.read_only = reading,
			.done = on_done};
	must(sn__sql_submit(sql, &s->unit, 0) == 0, "submit");
	running++;
}

static void on_closed(void *arg)
{
	*(bool *)arg = true;
}

static double measure(const char *type, const char *config, unsigned at_once)
{
	struct sn_sql_open how = {.type = type, .config = config};
	struct slot *slots = calloc(AT_ONCE, sizeof *slots);
	bool closed = false;
	struct sn_error err;
	uint64_t start;

	must(sn__loop_uv_open(NULL, &loop, &err) == 0, "loop");
	how.loop = loop;
	must(sn__sql_open(&how, &sql, &err) == 0, err.text);
	slots[0].unit = (struct sn_sql_unit){
			.script = reading ? "ANALYZE" : schema, .done = on_done};
	end_ns = 0;
	must(sn__sql_submit(sql, &slots[0].unit, 0) == 0, "script");
	for (running = 1; running > 0;)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	start = sn__loop_clock_ns(loop);
	end_ns = start + SECONDS * SN_NS_PER_S;
	done = numbers = 0;
	for (unsigned i = 0; i < at_once; i++)
		begin(&slots[i]);
	while (running > 0)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	start = sn__loop_clock_ns(loop) - start;
	sn__sql_close(sql, on_closed, &closed);
	while (!closed)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	sn__loop_close(loop, NULL, NULL);
	free(slots);
	return (double)done * 1e9 / (double)start;
}

/* ---- libpq alone: one connection, blocking where it must, so many in the pipeline ---- */

static void send_one(PGconn *pg, uint64_t n)
{
	char number[24];
	const char *values[2] = {number, payload};
	int n_values = reading ? 1 : 2;

	(void)snprintf(number, sizeof number, "%llu", (unsigned long long)n);
	must(PQsendQueryPrepared(pg, "s", n_values, values, NULL, NULL, 0) == 1 &&
					PQpipelineSync(pg) == 1,
			PQerrorMessage(pg));
}

static void receive_one(PGconn *pg)
{
	PGresult *res;

	do {
		res = PQgetResult(pg);
		must(res == NULL || PQresultStatus(res) != PGRES_FATAL_ERROR, PQerrorMessage(pg));
		PQclear(res);
	} while (res == NULL || PQresultStatus(res) != PGRES_PIPELINE_SYNC);
}

static double measure_libpq(const char *dsn, unsigned at_once)
{
	PGconn *pg = PQconnectdb(dsn);
	uint64_t start, sent = 0, received = 0;

	must(PQstatus(pg) == CONNECTION_OK, PQerrorMessage(pg));
	if (!reading)
		PQclear(PQexec(pg, schema));
	PQclear(PQprepare(pg, "s", reading ? select_one : insert, 0, NULL));
	must(PQenterPipelineMode(pg) == 1, "pipeline");
	start = sn__clock_mono_ns();
	while (sn__clock_mono_ns() - start < SECONDS * SN_NS_PER_S || received < sent) {
		bool more = sn__clock_mono_ns() - start < SECONDS * SN_NS_PER_S;

		while (more && sent - received < at_once)
			send_one(pg, ++sent);
		receive_one(pg);
		received++;
	}
	start = sn__clock_mono_ns() - start;
	PQfinish(pg);
	return (double)received * 1e9 / (double)start;
}

static void sqlite(const char *folder)
{
	static const struct {
		const char *name, *options;
		unsigned at_once;
	} cases[] = {
			{"SQLite, full, 1 at once", "\"group\": 1", 1},
			{"SQLite, full, 128 at once, a commit each", "\"group\": 1", AT_ONCE},
			{"SQLite, full, 128 at once, shared commits", "\"group\": 128", AT_ONCE},
			{"SQLite, normal, 128 at once, a commit each",
					"\"group\": 1, \"synchronous\": \"normal\"", AT_ONCE},
			{"SQLite, normal, 128 at once, shared commits",
					"\"group\": 128, \"synchronous\": \"normal\"", AT_ONCE},
	};
	double rates[SN_COUNT(cases)];
	char config[256];

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		(void)snprintf(config, sizeof config, "{\"path\": \"%s/bench.db\", %s}", folder,
				cases[i].options);
		rates[i] = measure("sqlite", config, cases[i].at_once);
		report(cases[i].name, rates[i], "inserts/s", "");
	}
	report("shared commits against a commit each, full", rates[2] / rates[1], "times", ">5");
}

static void postgres(const char *config, const char *dsn)
{
	char one[512];
	double own, alone;

	(void)snprintf(one, sizeof one, "%.*s, \"connections\": 1, \"pipeline\": 128}",
			(int)strlen(config) - 1, config);
	alone = measure_libpq(dsn, AT_ONCE);
	report("PostgreSQL, libpq alone, 1 connection, 128 at once", alone, "inserts/s", "");
	own = measure("postgres", one, AT_ONCE);
	report("PostgreSQL, 1 connection, 128 at once", own, "inserts/s", "");
	report("PostgreSQL against libpq alone", own / alone, "times", ">0.8");
	report("PostgreSQL, 4 connections, 128 at once", measure("postgres", config, AT_ONCE),
			"inserts/s", "");
	reading = true;
	alone = measure_libpq(dsn, AT_ONCE);
	report("PostgreSQL, libpq alone, 1 connection, 128 at once", alone, "reads/s", "");
	own = measure("postgres", one, AT_ONCE);
	report("PostgreSQL, read-only transactions, 1 connection", own, "reads/s", "");
	report("PostgreSQL against libpq alone, reads", own / alone, "times", "");
	report("PostgreSQL, read-only transactions, 4 connections",
			measure("postgres", config, AT_ONCE), "reads/s", "");
}

/* The module of this build. */
static void find_module(void)
{
	char path[512], *slash;
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);

	must(n > 0, "readlink");
	path[n] = '\0';
	slash = strrchr(path, '/');
	(void)snprintf(slash, 64, "/../src/connect/database");
	(void)setenv("SINEW_MODULE_PATH", path, 0);
}

int main(void)
{
	char folder[] = "./sql-bench-XXXXXX", command[64]; /* here, for /tmp may be no disk */
	const char *config = getenv("TEST_POSTGRES"), *dsn = getenv("TEST_POSTGRES_DSN");

	memset(payload, 'x', PAYLOAD);
	must(mkdtemp(folder) != NULL, "no folder");
	sqlite(folder);
	(void)snprintf(command, sizeof command, "rm -r %s", folder);
	must(system(command) == 0, "rm");
	find_module();
	if (config != NULL && dsn != NULL)
		postgres(config, dsn);
	return 0;
}
