/* SPDX-License-Identifier: Apache-2.0 */
/* The log in SQLite, under a bus in the simulated world (where its file work runs inline). */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "hub/bus_world_test.h"

static const struct sn_bus_options plain;
static char folder[64], path[128];

static int setup(void **state)
{
	struct bw *w = bw_new(1);

	(void)snprintf(folder, sizeof folder, "%s/sinew-log-XXXXXX",
			access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (mkdtemp(folder) == NULL)
		return -1;
	(void)snprintf(path, sizeof path, "%s/events.db", folder);
	w->path = path;
	assert_int_equal(bw_bus_open(w, &plain), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	static const char *const ends[] = {"", "-wal", "-shm"};

	bw_free(*state);
	for (unsigned i = 0; i < SN_COUNT(ends); i++) {
		char name[160];

		(void)snprintf(name, sizeof name, "%s%s", path, ends[i]);
		(void)unlink(name);
	}
	return rmdir(folder);
}

static void reopen(struct bw *w)
{
	bw_bus_close(w, &w->bus);
	for (unsigned i = 0; i < BW_SUBS; i++)
		if (w->subs[i].w != NULL)
			bw_give_up(&w->subs[i]);
	assert_int_equal(bw_bus_open(w, &plain), 0);
}

static void got(const struct bw_sub *sub, unsigned first, unsigned n)
{
	assert_int_equal(sub->n_got, n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(sub->got[i], first + i);
}

static struct bw_sub *keeper(struct bw *w, unsigned i)
{
	struct bw_sub *sub = bw_sub(w, i);

	sub->s.at_least_once = true;
	return sub;
}

static void keeps(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = keeper(w, 0), *b = keeper(w, 1);
	struct bw_pub *p;

	a->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	for (unsigned i = 0; i < 450; i++) /* more than one transaction takes */
		p = bw_publish(w, "x");
	bw_pass(w, 20000);
	assert_int_equal(p->done, 1);
	assert_int_equal(p->code, 0);
	got(b, 1, 450);
	reopen(w);
	a->mood = BW_TAKES;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	p = bw_publish_at(w, w->bus, "\xc2\xb5.all", true, true);
	bw_pass(w, 20000);
	assert_int_equal(p->done, 1);
	got(a, 1, 451);
	got(b, 1, 451); /* and nothing again */
	reopen(w);
	(void)bw_attach(w, 0, "x");
	bw_pass(w, 1000);
	got(a, 1, 451);
	bw_check(a);
	bw_check(b);
}

static void spills(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = keeper(w, 0);

	a->s.queue_max = 3;
	a->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	bw_pass(w, 100);
	for (unsigned i = 0; i < 300; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 100);
	assert_int_equal(a->s.queued, 300);
	a->mood = BW_TAKES;
	bw_answer(&a->flight[0]);
	bw_pass(w, 10000);
	got(a, 1, 300);
	bw_check(a);
}

/* Too far behind: the oldest are lost and counted, over a restart too; who keeps up loses nothing. */
static void trims(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = keeper(w, 0), *b = keeper(w, 1);
	struct sn_bus_counts counts;

	bw_bus_close(w, &w->bus);
	w->kept_max = 32;
	assert_int_equal(bw_bus_open(w, &plain), 0);
	a->s.queue_max = 2;
	a->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	bw_pass(w, 200);
	for (unsigned i = 0; i < 100; i++) {
		(void)bw_publish(w, "x");
		bw_pass(w, 20);
	}
	sn__bus_counts(w->bus, &counts);
	assert_in_range(counts.log_dropped, 100 - 34, 100 - 32);
	assert_int_equal(a->s.queued, 100);
	got(b, 1, 100);
	a->mood = BW_TAKES;
	bw_answer(&a->flight[0]); /* two are here, the rest is read from the log */
	bw_pass(w, 5000);
	assert_in_range(a->n_got, 34, 36);
	assert_int_equal(a->got[a->n_got - 1], 100);
	assert_int_equal(a->s.offered, 100);
	assert_int_equal(a->s.delivered, a->n_got);
	assert_int_equal(a->s.dropped, 100 - a->n_got);
	assert_int_equal(a->s.queued, 0);
	bw_check(a);
	bw_check(b);
}

static void forgets(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = keeper(w, 0), *b = keeper(w, 1);

	a->mood = b->mood = BW_SILENT;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	for (unsigned i = 0; i < 5; i++)
		(void)bw_publish(w, "x");
	bw_pass(w, 100);
	/* It goes for ever, comes back at once, and what is published then is for it. */
	bw_detach(a, true);
	a->mood = BW_TAKES;
	(void)bw_attach(w, 0, "x");
	(void)bw_publish(w, "x");
	bw_pass(w, 1000);
	got(a, 6, 1);
	reopen(w);
	b->mood = BW_TAKES;
	(void)bw_attach(w, 0, "x");
	(void)bw_attach(w, 1, "x");
	bw_pass(w, 1000);
	got(a, 6, 1);
	got(b, 1, 6);
}

static void no_file(void **state)
{
	struct bw *w = *state;
	struct bw_sub *a = keeper(w, 0);
	struct bw_pub *p;

	bw_bus_close(w, &w->bus);
	w->path = "/nowhere/at/all.db";
	assert_int_equal(bw_bus_open(w, &plain), 0);
	(void)bw_attach(w, 0, "x");
	p = bw_publish(w, "x");
	bw_pass(w, 500);
	assert_int_equal(p->done, 1);
	assert_true(p->code < 0); /* the publisher knows */
	bw_pass(w, 3000);
	bw_check(a);
}

static void count_line(enum sn_log_level level, const char *line, void *arg)
{
	unsigned *n = arg;

	assert_non_null(strstr(line, level == SN_LOG_ERROR ? "cannot be" : "again"));
	n[level == SN_LOG_ERROR]++;
}

static void count_code(void *arg, int code)
{
	((unsigned *)arg)[code < 0]++;
}

/* However often it is tried, it is told once that the file cannot be used, and once that it can. */
static void told_once(void **state)
{
	struct bw *w = *state;
	unsigned lines[2] = {0}, codes[2] = {0};
	static const char *const one[] = {"s", NULL};
	struct sn_log sink;
	struct sn_connect_host host = {.loop = w->loop, .log = &sink};
	struct sn_bus_log *log;
	bool closed = false;

	bw_bus_close(w, &w->bus);
	assert_int_equal(rmdir(folder), 0);
	sn__log_init(&sink, count_line, lines, SN_LOG_INFO, SN_LOG_TEXT);
	assert_int_equal(sn__bus_log_open(&host, path, &log, NULL), 0);
	for (unsigned i = 1; i <= 6; i++) {
		struct sn_bus_event *e = bw_event(&w->rng, "x", i, false);

		assert_int_equal(log->keep(log, log->last + i, e, one, count_code, codes), 0);
		sn__bus_event_unref(e);
		bw_pass(w, 1500);
		if (i == 5)
			assert_int_equal(mkdir(folder, 0700), 0);
	}
	assert_int_equal(codes[1], 5);
	assert_int_equal(codes[0], 1);
	assert_int_equal(lines[1], 1);
	assert_int_equal(lines[0], 1);
	log->close(log, bw_set, &closed);
	bw_pass(w, 1500);
	assert_true(closed);
	sn__log_finish(&sink);
}

static void refused(void **state)
{
	struct bw *w = *state;
	struct sn_connect_host host = {.loop = w->loop};
	struct sn_bus_log *log = NULL;
	struct sn_error err;

	assert_true(sn__bus_log_open(&host, "", &log, &err) < 0);
	assert_null(log);
}

/* With the file's work on a helper thread. */
struct real {
	struct sn_loop *loop;
	bool closed, read;
	unsigned n_kept, n_read;
	uint64_t last;
};

static void real_kept(void *arg, int code)
{
	assert_int_equal(code, 0);
	((struct real *)arg)->n_kept++;
}

static void real_event(void *arg, uint64_t seq, struct sn_bus_event *event)
{
	struct real *r = arg;

	assert_true(seq > r->last);
	r->last = seq;
	r->n_read++;
	assert_memory_equal(event->type.ptr, "x", 1);
	sn__bus_event_unref(event);
}

static void real_done(void *arg, int code)
{
	assert_int_equal(code, 0);
	((struct real *)arg)->read = true;
}

static void on_libuv(void **state)
{
	struct bw *w = *state;
	struct real r = {.n_kept = 0};
	struct sn_connect_host host = {.log = NULL};
	static const char *const both[] = {"sa", "s\"b", NULL};
	struct sn_bus_log *log;

	bw_bus_close(w, &w->bus);
	assert_int_equal(sn__loop_uv_open(NULL, &r.loop, NULL), 0);
	host.loop = r.loop;
	assert_int_equal(sn__bus_log_open(&host, path, &log, NULL), 0);
	for (unsigned i = 1; i <= 300; i++) {
		struct sn_bus_event *e = bw_event(&w->rng, "x", i, false);

		assert_int_equal(log->keep(log, log->last + i, e, both, real_kept, &r), 0);
		sn__bus_event_unref(e);
		if (i % 3 == 0)
			log->forget(log, log->last + i, "s\"b");
	}
	while (r.n_kept < 300)
		(void)sn__loop_run(r.loop, SN_RUN_ONCE);
	assert_int_equal(
			log->read(log, "s\"b", log->last + 30, 1000, real_event, real_done, &r), 0);
	while (!r.read)
		(void)sn__loop_run(r.loop, SN_RUN_ONCE);
	assert_int_equal(r.n_read, 180);
	log->drop(log, "sa");
	log->drop(log, "s\"b");
	log->close(log, bw_set, &r.closed);
	while (!r.closed)
		(void)sn__loop_run(r.loop, SN_RUN_ONCE);
	sn__loop_close(r.loop, NULL, NULL);
}

static void sweep(void **state)
{
	struct bw *w = *state;
	bool failed = true;

	bw_bus_close(w, &w->bus);
	for (uint64_t nth = 1; failed; nth++) {
		struct bw_sub *a = &w->subs[0];
		unsigned n = 0, in_error = 0, first = w->n_pubs;
		int code;

		memset(a, 0, sizeof *a);
		(void)keeper(w, 0);
		sn__mem_fail_nth(nth);
		code = bw_bus_open(w, &plain);
		if (code == 0)
			code = sn__bus_attach(w->bus, &a->s);
		if (code == 0)
			code = sn__bus_subscribe(&a->s, SN_STR("x"));
		assert_true(code == 0 || code == SN_E_NOMEM);
		for (unsigned i = 0; code == 0 && i < 5; i++)
			n += bw_publish_at(w, w->bus, "x", false, true) != NULL;
		if (code == 0)
			bw_pass(w, 3000);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (code == 0) {
			bw_pass(w, 5000);
			for (unsigned i = first; i < w->n_pubs; i++)
				in_error += w->pubs[i].code < 0;
			assert_true(a->n_got + in_error >= n);
			bw_check(a);
			bw_detach(a, true);
		}
		if (w->bus != NULL)
			bw_bus_close(w, &w->bus);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
			TEST(keeps),
			TEST(spills),
			TEST(trims),
			TEST(forgets),
			TEST(no_file),
			TEST(told_once),
			TEST(refused),
			TEST(on_libuv),
			TEST(sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
