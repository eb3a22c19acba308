/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What every driver of SQL must do, through src/connect/sql.h: sqlite on a file and in memory, and
 * postgres when TEST_POSTGRES has its options as JSON (tests/connect/postgres_test.c starts one).
 */

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/test.h"
#include "connect/sql.h"
#include "io/loop.h"

struct world {
	struct sn_loop *loop;
	struct sn_sql *sql;
	int64_t live;
};
static struct world w;
static const char *type, *config;
static char folder[64];

/* ---- the world ---- */

static void run_until(const unsigned *count, unsigned n)
{
	uint64_t end = sn__loop_clock_ns(w.loop) + 30 * SN_NS_PER_S;

	while (*count < n) {
		(void)sn__loop_run(w.loop, SN_RUN_ONCE);
		if (sn__loop_clock_ns(w.loop) > end)
			fail_msg("%s: it does not end", type);
	}
}

static int try_open(const char *options, struct sn_error *err)
{
	const struct sn_sql_open how = {.loop = w.loop, .type = type, .config = options};

	return sn__sql_open(&how, &w.sql, err);
}

static void on_closed(void *arg)
{
	++*(unsigned *)arg;
}

static void sql_close(void)
{
	unsigned closed = 0;

	sn__sql_close(w.sql, on_closed, &closed);
	assert_int_equal(closed, 0);
	run_until(&closed, 1);
}

static void loop_open(void)
{
	struct sn_error err;

	w.live = sn__mem_live();
	assert_int_equal(sn__loop_uv_open(NULL, &w.loop, &err), 0);
}

static void loop_close(void)
{
	sn__loop_close(w.loop, NULL, NULL);
	assert_int_equal(sn__mem_live(), w.live);
}

static void world_open(void)
{
	struct sn_error err;

	loop_open();
	if (try_open(config, &err) < 0)
		fail_msg("%s", err.text);
}

static void world_close(void)
{
	sql_close();
	loop_close();
}

/* ---- units ---- */

struct op {
	struct sn_sql_unit unit;
	struct sn_sql_statement s[8];
	struct sn_sql_value v[8][8];
	unsigned done;
	bool submitting;
	void (*look)(struct op *op); /* at the rows */
	int64_t found;
};

static void on_done(struct sn_sql_unit *unit)
{
	struct op *op = SN_CONTAINER_OF(unit, struct op, unit);

	assert_false(op->submitting);
	assert_int_equal(op->done, 0);
	if (unit->outcome.kind == SN_SQL_OK && op->look != NULL)
		op->look(op);
	op->done++;
}

static struct sn_sql_statement *add(struct op *op, const char *sql, uint32_t n, ...)
{
	uint32_t i = op->unit.n_statements++;
	va_list args;

	va_start(args, n);
	for (uint32_t k = 0; k < n; k++)
		op->v[i][k] = va_arg(args, struct sn_sql_value);
	va_end(args);
	op->s[i] = (struct sn_sql_statement){.sql = sql, .params = op->v[i], .n_params = n};
	op->unit.statements = op->s;
	op->unit.done = on_done;
	return &op->s[i];
}

static int submit(struct op *op, uint32_t timeout_ms)
{
	int r;

	op->submitting = true;
	op->unit.done = on_done;
	r = sn__sql_submit(w.sql, &op->unit, timeout_ms);
	op->submitting = false;
	assert_int_equal(op->done, 0);
	return r;
}

static enum sn_sql_kind run(struct op *op)
{
	assert_int_equal(submit(op, 20000), 0);
	run_until(&op->done, 1);
	return op->unit.outcome.kind;
}

static void ok(struct op *op)
{
	if (run(op) != SN_SQL_OK)
		fail_msg("%s: %s: kind %d, %s %s", type,
				op->unit.script != NULL ? op->unit.script : op->s[0].sql,
				op->unit.outcome.kind, op->unit.outcome.state,
				op->unit.outcome.message);
	assert_int_equal(op->unit.outcome.code, 0);
}

static void script(const char *text)
{
	struct op op = {.unit.script = text};

	ok(&op);
}

static void look_int(struct op *op)
{
	const struct sn_sql_rows *rows = &op->unit.rows[op->unit.n_rows - 1];

	assert_int_equal(rows->n_rows, 1);
	op->found = sn_sql_i64(sn_sql_cell(rows, 0, 0));
}

static int64_t get(const char *sql)
{
	struct op op = {.look = look_int, .unit.read_only = true};

	add(&op, sql, 0);
	ok(&op);
	return op.found;
}

#define TEXT(s) sn_sql_text(SN_STR(s))

static void fresh(void)
{
	script("DROP TABLE IF EXISTS t; CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT)");
}

/* ---- values ---- */

static void look_values(struct op *op)
{
	const struct sn_sql_rows *rows = op->unit.rows;
	const struct sn_sql_value *c = rows->cells;

	assert_int_equal(op->unit.n_rows, 1);
	assert_int_equal(rows->n_rows, 3);
	assert_int_equal(rows->n_columns, 5);
	assert_string_equal(rows->names[0], "id");
	assert_string_equal(rows->names[4], "b");
	assert_int_equal(c[1].type, SN_SQL_INT);
	assert_true(c[1].u.i == INT64_MIN);
	assert_int_equal(c[2].type, SN_SQL_DOUBLE);
	assert_true(c[2].u.d == 0.1);
	assert_true(sn_str_eq(sn_sql_str(&c[3]), SN_STR("h\xc3\xa9 'quoted' \"x\" $1 ?")));
	assert_int_equal(c[3].u.s.ptr[c[3].u.s.len], 0);
	assert_int_equal(c[4].type, SN_SQL_BLOB);
	assert_int_equal(c[4].u.s.len, 4);
	assert_memory_equal(c[4].u.s.ptr, "\0\xff\\'", 4);
	c += 5;
	assert_true(c[1].u.i == INT64_MAX);
	assert_true(c[2].u.d == -1.7976931348623157e308);
	assert_int_equal(c[3].type, SN_SQL_TEXT);
	assert_int_equal(c[3].u.s.len, 0);
	assert_int_equal(c[4].type, SN_SQL_BLOB);
	assert_int_equal(c[4].u.s.len, 0);
	c += 5;
	for (int i = 1; i < 5; i++)
		assert_int_equal(c[i].type, SN_SQL_NULL);
}

static void test_values(void **state)
{
	static const char put[] = "INSERT INTO vals (b, id, i, d, s) VALUES ($5, $1, $2, $3, $4)";
	struct op op = {0}, read = {.look = look_values, .unit.read_only = true};

	world_open();
	script("DROP TABLE IF EXISTS vals; CREATE TABLE vals (id BIGINT, i BIGINT, d DOUBLE PRECISION, "
	       "s TEXT, b BYTEA)");
	add(&op, put, 5, sn_sql_int(1), sn_sql_int(INT64_MIN), sn_sql_double(0.1),
			TEXT("h\xc3\xa9 'quoted' \"x\" $1 ?"),
			sn_sql_blob((struct sn_str){"\0\xff\\'", 4}));
	add(&op, put, 5, sn_sql_int(2), sn_sql_int(INT64_MAX),
			sn_sql_double(-1.7976931348623157e308),
			sn_sql_text((struct sn_str){NULL, 0}),
			sn_sql_blob((struct sn_str){NULL, 0}));
	add(&op, put, 5, sn_sql_int(3), sn_sql_null(), sn_sql_null(), sn_sql_null(), sn_sql_null());
	ok(&op);
	add(&read, "SELECT id, i, d, s, b FROM vals ORDER BY id", 0);
	ok(&read);
	world_close();
}

static char *filled(size_t n)
{
	char *s = malloc(n);

	for (size_t i = 0; i < n; i++)
		s[i] = (char)(i * 7 + i / 251);
	return s;
}

static char *huge;
#define HUGE_N ((size_t)6 << 20)

static void look_huge(struct op *op)
{
	const struct sn_sql_value *v = sn_sql_cell(op->unit.rows, 0, 0);

	assert_int_equal(v->u.s.len, HUGE_N);
	assert_memory_equal(v->u.s.ptr, huge, HUGE_N);
}

static void test_huge(void **state)
{
	static const char get_b[] = "SELECT b FROM vals WHERE id = $1";
	struct op op = {0}, read = {.look = look_huge}, refused = {0}, keys = {0};

	world_open();
	huge = filled(HUGE_N);
	script("DROP TABLE IF EXISTS vals; CREATE TABLE vals (id BIGINT PRIMARY KEY, b BYTEA)");
	add(&op, "INSERT INTO vals (id, b) VALUES ($1, $2)", 2, sn_sql_int(1),
			sn_sql_blob((struct sn_str){huge, HUGE_N}));
	ok(&op);
	add(&read, get_b, 1, sn_sql_int(1));
	ok(&read);
	add(&refused, get_b, 1, sn_sql_int(1));
	refused.unit.max_rows = 1 << 20;
	assert_int_equal(run(&refused), SN_SQL_REJECTED);
	assert_int_equal(refused.unit.outcome.code, SN_E_LIMIT);
	/* Too much of what is given back takes what was written with it. */
	add(&keys, "UPDATE vals SET b = $1 RETURNING id, $2", 2, sn_sql_blob(SN_STR("x")),
			sn_sql_text((struct sn_str){"yyyyyyyyyyyyyyyyyyyy", 20}));
	keys.unit.max_rows = 16;
	assert_int_equal(run(&keys), SN_SQL_REJECTED);
	assert_int_equal(get("SELECT length(b) FROM vals"), HUGE_N);
	free(huge);
	world_close();
}

/* ---- statements ---- */

static void look_upsert(struct op *op)
{
	const struct sn_sql_rows *rows = op->unit.rows;

	assert_int_equal(op->unit.n_rows, 4);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(rows[i].affected, 1);
		assert_int_equal(rows[i].n_rows, 1);
		assert_int_equal(sn_sql_i64(sn_sql_cell(&rows[i], 0, 0)), i == 0 ? 5 : 7);
	}
	assert_int_equal(rows[2].n_columns, 0);
	assert_int_equal(rows[2].affected, 0);
	assert_int_equal(rows[3].n_rows, 1);
	assert_int_equal(rows[3].affected, 0);
}

static void test_upsert(void **state)
{
	static const char put[] =
			"INSERT INTO t (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET "
			"v = excluded.v RETURNING v";
	struct op op = {.look = look_upsert};

	world_open();
	fresh();
	add(&op, put, 2, sn_sql_int(1), sn_sql_int(5));
	add(&op, put, 2, sn_sql_int(1), sn_sql_int(7));
	add(&op, "UPDATE t SET v = 1 WHERE k = $1", 1, sn_sql_int(99));
	add(&op, "SELECT v FROM t WHERE (k, v) > ($1, $2) AND v = $2 + $1 - 0", 2, sn_sql_int(0),
			sn_sql_int(7));
	op.s[3].sql = "SELECT v FROM t WHERE (k, v) > ($1, $2) AND v > $1";
	ok(&op);
	assert_int_equal(get("SELECT count(*) FROM t"), 1);
	world_close();
}

/* All or nothing, and the reason. */
static void test_atomic(void **state)
{
	static const char put[] = "INSERT INTO t (k, v) VALUES ($1, $2)";
	struct op op = {0}, null = {0}, again = {0};

	world_open();
	fresh();
	add(&op, put, 2, sn_sql_int(1), sn_sql_int(1));
	add(&op, put, 2, sn_sql_int(1), sn_sql_int(2));
	add(&op, put, 2, sn_sql_int(2), sn_sql_int(2));
	assert_int_equal(run(&op), SN_SQL_CONSTRAINT);
	assert_int_equal(op.unit.outcome.at, 1);
	assert_int_equal(op.unit.outcome.code, SN_E_REJECTED);
	assert_false(op.unit.outcome.maybe);
	assert_string_not_equal(op.unit.outcome.state, "");
	assert_string_not_equal(op.unit.outcome.message, "");
	assert_null(op.unit.rows);
	assert_int_equal(get("SELECT count(*) FROM t"), 0);
	add(&null, put, 2, sn_sql_int(1), sn_sql_null());
	assert_int_equal(run(&null), SN_SQL_CONSTRAINT);
	add(&again, put, 2, sn_sql_int(1), sn_sql_int(1));
	ok(&again);
	world_close();
}

static void test_expect(void **state)
{
	struct op op = {0}, none = {0};

	world_open();
	fresh();
	add(&op, "INSERT INTO t (k, v) VALUES (1, 1)", 0)->expect = SN_SQL_SOME;
	ok(&op);
	memset(&op, 0, sizeof op);
	add(&op, "UPDATE t SET v = 9 WHERE k = $1", 1, sn_sql_int(1))->expect = SN_SQL_SOME;
	add(&op, "UPDATE t SET v = 2 WHERE k = $1 AND v = $2", 2, sn_sql_int(1), sn_sql_int(5))
			->expect = SN_SQL_SOME;
	add(&op, "DELETE FROM t", 0);
	assert_int_equal(run(&op), SN_SQL_UNEXPECTED);
	assert_int_equal(op.unit.outcome.at, 1);
	assert_int_equal(get("SELECT v FROM t"), 1);
	add(&none, "DELETE FROM t", 0);
	add(&none, "SELECT k FROM t", 0)->expect = SN_SQL_NONE;
	ok(&none);
	memset(&none, 0, sizeof none);
	add(&none, "INSERT INTO t (k, v) VALUES (3, 3)", 0);
	add(&none, "SELECT k FROM t", 0)->expect = SN_SQL_NONE;
	assert_int_equal(run(&none), SN_SQL_UNEXPECTED);
	assert_int_equal(get("SELECT count(*) FROM t"), 0);
	world_close();
}

static void test_rejected(void **state)
{
	static const struct {
		const char *sql;
		unsigned n;
		bool read_only;
	} cases[] = {
			{"SELEKT 1", 0, false},
			{"SELECT * FROM nowhere", 0, false},
			{"SELECT k FROM t WHERE k = $1", 0, false},
			{"SELECT k FROM t WHERE k = $1", 2, false},
			{"SELECT 1; DELETE FROM t", 0, false},
			{"COMMIT", 0, false},
			{" /* x */ ROLLBACK", 0, false},
			{"-- x\nBEGIN", 0, false},
			{"SAVEPOINT a", 0, false},
			{"", 0, false},
			{"DELETE FROM t", 0, true},
			{"INSERT INTO t (k, v) VALUES (9, 9) RETURNING k", 0, true},
	};

	world_open();
	fresh();
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct op op = {.unit.read_only = cases[i].read_only};

		if (!cases[i].read_only)
			add(&op, "INSERT INTO t (k, v) VALUES (1, 1)", 0);
		add(&op, cases[i].sql, 0)->n_params = cases[i].n;
		if (run(&op) != SN_SQL_REJECTED)
			fail_msg("%s: \"%s\" gives kind %d: %s", type, cases[i].sql,
					op.unit.outcome.kind, op.unit.outcome.message);
		assert_int_equal(op.unit.outcome.at, cases[i].read_only ? 0 : 1);
		assert_string_not_equal(op.unit.outcome.message, "");
		assert_int_equal(get("SELECT count(*) FROM t"), 0);
	}
	world_close();
}

static void test_texts(void **state)
{
	static const struct sn_str bad[] = {{"a\0b", 3}, {"\xff", 1}, {"\xc3", 1}};

	world_open();
	fresh();
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		struct op op = {0};

		add(&op, "INSERT INTO t (k, v, s) VALUES (1, 1, $1)", 1, sn_sql_text(bad[i]));
		assert_int_equal(run(&op), SN_SQL_REJECTED);
	}
	world_close();
}

static void test_invalid(void **state)
{
	struct op op = {0}, both = {.unit.script = "SELECT 1"};

	world_open();
	assert_int_equal(submit(&op, 0), SN_E_INVALID);
	add(&both, "SELECT 1", 0);
	assert_int_equal(submit(&both, 0), SN_E_INVALID);
	add(&op, "SELECT 1", 0)->n_params = SN_SQL_PARAMS_MAX + 1;
	assert_int_equal(submit(&op, 0), SN_E_INVALID);
	world_close();
}

/* ---- transactions that look ---- */

static enum sn_sql_next move_more(struct sn_sql_unit *unit)
{
	struct op *op = SN_CONTAINER_OF(unit, struct op, unit);

	assert_int_equal(op->done, 0);
	if (unit->n_rows == 1) {
		op->found = sn_sql_i64(sn_sql_cell(&unit->rows[0], 0, 0));
		unit->n_statements = 0;
		add(op, "UPDATE t SET v = $1 WHERE k = 1", 1, sn_sql_int(op->found * 2));
		add(op, "SELECT v FROM t WHERE k = 1", 0);
		return SN_SQL_CONTINUE;
	}
	assert_int_equal(unit->n_rows, 3);
	return op->found < 100 ? SN_SQL_COMMIT : SN_SQL_ROLLBACK;
}

static void test_more(void **state)
{
	static const char get_v[] = "SELECT v FROM t WHERE k = 1";
	struct op op = {.unit.more = move_more, .look = look_int}, wrong = {0};

	world_open();
	fresh();
	add(&wrong, "INSERT INTO t (k, v) VALUES (1, 21)", 0);
	ok(&wrong);
	add(&op, get_v, 0);
	ok(&op);
	assert_int_equal(op.found, 42);
	assert_int_equal(get(get_v), 42);
	script("UPDATE t SET v = 100");
	op = (struct op){.unit.more = move_more};
	add(&op, get_v, 0);
	assert_int_equal(run(&op), SN_SQL_STOPPED);
	assert_int_equal(op.unit.outcome.code, SN_E_CANCELLED);
	assert_int_equal(get(get_v), 100);
	world_close();
}

/* A unit of many statements, each another, so that more are prepared than are kept. */
static void test_many_statements(void **state)
{
	enum { N = 400 };
	struct sn_sql_statement *s = calloc(N, sizeof *s);
	char(*texts)[64] = calloc(N, sizeof *texts);
	struct op op = {0}, twice = {0};

	world_open();
	fresh();
	for (int i = 0; i < N; i++) {
		(void)snprintf(texts[i], sizeof texts[i], "INSERT INTO t (k, v) VALUES (%d, 1)", i);
		s[i].sql = texts[i];
	}
	op.unit.statements = s;
	op.unit.n_statements = N;
	ok(&op);
	assert_int_equal(get("SELECT count(*) FROM t"), N);
	twice.unit.statements = s;
	twice.unit.n_statements = N;
	assert_int_equal(run(&twice), SN_SQL_CONSTRAINT);
	assert_int_equal(twice.unit.outcome.at, 0);
	free(s);
	free(texts);
	world_close();
}

/* Two that lock what the other wants: one of them is told to try again, and nothing is half. */
static enum sn_sql_next cross_more(struct sn_sql_unit *unit)
{
	struct op *op = SN_CONTAINER_OF(unit, struct op, unit);

	if (unit->n_rows > 1)
		return SN_SQL_COMMIT;
	unit->n_statements = 0;
	add(op, "UPDATE t SET v = v + 1 WHERE k = $1", 1, sn_sql_int(3 - op->found));
	return SN_SQL_CONTINUE;
}

static void test_deadlock(void **state)
{
	unsigned n_ok = 0, n_conflict = 0;
	struct op ops[2];

	world_open();
	fresh();
	script("INSERT INTO t (k, v) VALUES (1, 0), (2, 0)");
	memset(ops, 0, sizeof ops);
	for (int i = 0; i < 2; i++) {
		ops[i].unit.more = cross_more;
		ops[i].found = i + 1;
		add(&ops[i], "UPDATE t SET v = v + 1 WHERE k = $1", 1, sn_sql_int(i + 1));
		assert_int_equal(submit(&ops[i], 10000), 0);
	}
	for (int i = 0; i < 2; i++) {
		run_until(&ops[i].done, 1);
		n_ok += ops[i].unit.outcome.kind == SN_SQL_OK;
		n_conflict += ops[i].unit.outcome.kind == SN_SQL_CONFLICT;
	}
	assert_int_equal(n_ok + n_conflict, 2);
	assert_true(n_ok >= 1); /* SQLite lets one after the other */
	assert_int_equal(get("SELECT v FROM t WHERE k = 1"), n_ok);
	assert_int_equal(get("SELECT v FROM t WHERE k = 2"), n_ok);
	world_close();
}

/* ---- many ---- */

static void test_many(void **state)
{
	enum { N = 500 };
	struct op *ops = calloc(N, sizeof *ops);
	unsigned constraint = 0;

	world_open();
	fresh();
	script("INSERT INTO t (k, v) VALUES (0, 0)");
	for (int i = 0; i < N; i++) {
		add(&ops[i], "INSERT INTO t (k, v) VALUES ($1, $2)", 2,
				sn_sql_int(i % 7 == 3 ? 0 : i + 1), sn_sql_int(i));
		add(&ops[i], "UPDATE t SET v = v + 1 WHERE k = 0", 0);
		assert_int_equal(submit(&ops[i], 0), 0);
	}
	for (int i = 0; i < N; i++) {
		run_until(&ops[i].done, 1);
		if (ops[i].unit.outcome.kind == SN_SQL_CONSTRAINT)
			constraint++;
		else
			assert_int_equal(ops[i].unit.outcome.kind, SN_SQL_OK);
		assert_true((ops[i].unit.outcome.kind == SN_SQL_OK) == (i % 7 != 3));
	}
	assert_int_equal(get("SELECT v FROM t WHERE k = 0"), N - constraint);
	assert_int_equal(get("SELECT count(*) FROM t"), N - constraint + 1);
	free(ops);
	world_close();
}

/* What done() told, whoever asks next sees. */
struct chain {
	struct op put, get;
	int64_t n;
	unsigned over;
};

static void chain_put(struct chain *c);

static void chain_got(struct op *op)
{
	struct chain *c = SN_CONTAINER_OF(op, struct chain, get);

	look_int(op);
	assert_int_equal(op->found, c->n);
	if (c->n++ == 200)
		c->over = 1;
	else
		chain_put(c);
}

static void chain_done(struct op *op)
{
	struct chain *c = SN_CONTAINER_OF(op, struct chain, put);

	c->get = (struct op){.look = chain_got, .unit.read_only = true};
	add(&c->get, "SELECT v FROM t WHERE k = 0", 0);
	assert_int_equal(submit(&c->get, 0), 0);
}

static void chain_put(struct chain *c)
{
	c->put = (struct op){.look = chain_done};
	add(&c->put, "UPDATE t SET v = $1 WHERE k = 0", 1, sn_sql_int(c->n));
	assert_int_equal(submit(&c->put, 0), 0);
}

static void test_order(void **state)
{
	struct chain c = {.n = 1};

	world_open();
	fresh();
	script("INSERT INTO t (k, v) VALUES (0, 0)");
	chain_put(&c);
	run_until(&c.over, 1);
	world_close();
}

/* ---- ends before the end ---- */

#define SLOW \
	"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2000000000) " \
	"SELECT count(*) FROM c"

static void test_timeout(void **state)
{
	struct op slow[2] = {0}, after = {0};
	uint64_t begin;

	world_open();
	fresh();
	begin = sn__loop_clock_ns(w.loop);
	for (int i = 0; i < 2; i++) {
		slow[i].unit.read_only = i == 1;
		if (i == 0)
			add(&slow[i], "INSERT INTO t (k, v) VALUES (1, 1)", 0);
		add(&slow[i], SLOW, 0);
		assert_int_equal(submit(&slow[i], 100), 0);
	}
	add(&after, "INSERT INTO t (k, v) VALUES (2, 2)", 0);
	ok(&after);
	for (int i = 0; i < 2; i++) {
		run_until(&slow[i].done, 1);
		assert_int_equal(slow[i].unit.outcome.kind, SN_SQL_STOPPED);
		assert_int_equal(slow[i].unit.outcome.code, SN_E_TIMEOUT);
		assert_false(slow[i].unit.outcome.maybe);
	}
	assert_true(sn__loop_clock_ns(w.loop) - begin < 10 * SN_NS_PER_S);
	assert_int_equal(get("SELECT CAST(sum(k) AS BIGINT) FROM t"), 2);
	world_close();
}

static void test_cancel(void **state)
{
	struct op ops[20];

	world_open();
	fresh();
	memset(ops, 0, sizeof ops);
	for (int i = 0; i < 20; i++) {
		add(&ops[i], "INSERT INTO t (k, v) VALUES ($1, 0)", 1, sn_sql_int(i));
		assert_int_equal(submit(&ops[i], 0), 0);
	}
	for (int i = 0; i < 20; i++) {
		sn__sql_cancel(w.sql, &ops[i].unit);
		sn__sql_cancel(w.sql, &ops[i].unit);
		assert_int_equal(ops[i].done, 0);
	}
	for (int i = 0; i < 20; i++) {
		run_until(&ops[i].done, 1);
		if (ops[i].unit.outcome.kind != SN_SQL_OK)
			assert_int_equal(ops[i].unit.outcome.code, SN_E_CANCELLED);
	}
	world_close();
}

static void test_close_busy(void **state)
{
	struct op ops[30], slow = {0}, late = {0};
	unsigned closed = 0, n_ok = 0;

	world_open();
	fresh();
	memset(ops, 0, sizeof ops);
	add(&slow, "INSERT INTO t (k, v) VALUES (1000, 1)", 0);
	add(&slow, SLOW, 0);
	assert_int_equal(submit(&slow, 0), 0);
	for (int i = 0; i < 30; i++) {
		add(&ops[i], "INSERT INTO t (k, v) VALUES ($1, 0)", 1, sn_sql_int(i));
		assert_int_equal(submit(&ops[i], 0), 0);
		if (i == 15)
			(void)sn__loop_run(w.loop, SN_RUN_NOWAIT);
	}
	sn__sql_close(w.sql, on_closed, &closed);
	assert_int_equal(sn__sql_submit(w.sql, &late.unit, 0), SN_E_CLOSED);
	assert_int_equal(ops[0].done, 0);
	run_until(&closed, 1);
	assert_int_equal(slow.done, 1);
	assert_int_equal(slow.unit.outcome.kind, SN_SQL_STOPPED);
	assert_int_equal(slow.unit.outcome.code, SN_E_CLOSED);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(ops[i].done, 1);
		n_ok += ops[i].unit.outcome.kind == SN_SQL_OK;
		if (ops[i].unit.outcome.kind != SN_SQL_OK)
			assert_int_equal(ops[i].unit.outcome.code, SN_E_CLOSED);
	}
	loop_close();
	(void)n_ok;
}

/* ---- opening ---- */

static void test_cycles(void **state)
{
	struct sn_error err;

	for (int i = 0; i < 20; i++) {
		world_open();
		if (i % 2 == 0)
			assert_int_equal(get("SELECT 1"), 1);
		world_close();
	}
	loop_open();
	for (int i = 0; i < 20; i++) {
		assert_int_equal(try_open(config, &err), 0);
		sql_close();
	}
	loop_close();
}

static void test_bad_options(void **state)
{
	static const char *const bad[] = {"", "[]", "{\"nonsense\": 1}",
			"{\"statements\": \"many\"}", "{\"statements\": 0}", "7"};
	struct sn_error err;

	loop_open();
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		err.text[0] = '\0';
		if (try_open(bad[i], &err) != SN_E_INVALID)
			fail_msg("%s: %s is taken", type, bad[i]);
		assert_string_not_equal(err.text, "");
	}
	loop_close();
}

/* Every allocation fails once: an error, or what was asked; never a leak or half a unit. */
static void test_no_memory(void **state)
{
	struct sn_error err;
	bool failed = true;

	for (uint64_t n = 1; failed && n < 2000; n++) {
		struct op op = {.look = look_int};
		int r;

		loop_open();
		sn__mem_fail_nth(n);
		r = try_open(config, &err);
		if (r == 0) {
			add(&op, "DELETE FROM t WHERE v < 0", 0);
			add(&op, "SELECT count(*), 'text' FROM t WHERE k = $1", 1, sn_sql_int(1));
			r = submit(&op, 0);
			if (r == 0)
				run_until(&op.done, 1);
			sql_close();
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r < 0)
			assert_int_equal(r, SN_E_NOMEM);
		loop_close();
	}
	assert_false(failed);
}

static void test_no_memory_begin(void **state)
{
	world_open();
	fresh();
	world_close();
	if (strcmp(config, "{\"path\": \":memory:\"}") != 0)
		test_no_memory(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_values),
			cmocka_unit_test(test_huge),
			cmocka_unit_test(test_upsert),
			cmocka_unit_test(test_atomic),
			cmocka_unit_test(test_expect),
			cmocka_unit_test(test_rejected),
			cmocka_unit_test(test_texts),
			cmocka_unit_test(test_invalid),
			cmocka_unit_test(test_more),
			cmocka_unit_test(test_many_statements),
			cmocka_unit_test(test_deadlock),
			cmocka_unit_test(test_many),
			cmocka_unit_test(test_order),
			cmocka_unit_test(test_timeout),
			cmocka_unit_test(test_cancel),
			cmocka_unit_test(test_close_busy),
			cmocka_unit_test(test_cycles),
			cmocka_unit_test(test_bad_options),
			cmocka_unit_test(test_no_memory_begin),
	};
	char file[128];
	int r;

	if (getenv("TEST_POSTGRES") != NULL) {
		(void)snprintf(file, sizeof file, "%s/src/connect/database",
				getenv("SINEW_BUILD_ROOT") != NULL ? getenv("SINEW_BUILD_ROOT")
								   : "/nowhere");
		(void)setenv("SINEW_MODULE_PATH", file, 0);
		type = "postgres";
		config = getenv("TEST_POSTGRES");
		return cmocka_run_group_tests_name("postgres", tests, NULL, NULL);
	}
	type = "sqlite";
	(void)snprintf(folder, sizeof folder, "/tmp/sinew-sql-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	(void)snprintf(file, sizeof file, "{\"path\": \"%s/a.db\"}", folder);
	config = file;
	r = cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
	(void)snprintf(file, sizeof file, "rm -r %s", folder);
	(void)(system(file) + 0);
	config = "{\"path\": \":memory:\"}";
	return cmocka_run_group_tests_name("sqlite in memory", tests, NULL, NULL) + r;
}
