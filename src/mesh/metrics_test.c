/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/metrics.h"

#include <string.h>

#include "base/mem.h"
#include "base/test.h"

static const char *const by_target[] = {"target", NULL};
static const char *const by_two[] = {"target", "reason", NULL};

static void text_is(struct sn_metrics *m, const char *want)
{
	struct sn_buf out;

	sn__buf_init(&out, 1 << 20);
	assert_int_equal(sn__metrics_render(m, &out), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_string_equal(sn__buf_data(&out), want);
	sn__buf_finish(&out);
}

static void counts_and_escapes(void **state)
{
	int64_t live = sn__mem_live();
	struct sn_metrics *m;
	struct sn_family *f, *same;

	assert_int_equal(sn__metrics_create(0, &m), 0);
	text_is(m, "");
	assert_int_equal(sn__metrics_family(m, "x_total", "Things.", SN_COUNTER, by_two, &f), 0);
	assert_int_equal(sn__metrics_family(m, "x_total", "Things.", SN_COUNTER, by_two, &same), 0);
	assert_ptr_equal(f, same);
	assert_int_equal(sn__metrics_family(m, "x_total", "Things.", SN_GAUGE, by_two, &same),
			SN_E_EXISTS);
	assert_int_equal(sn__metrics_family(m, "x_total", "Things.", SN_COUNTER, by_target, &same),
			SN_E_EXISTS);
	sn_counter_add(sn__metrics_series(f, (const char *const[]){"a\"b\\c\nd", "r"}), 2);
	sn_counter_add(sn__metrics_series(f, (const char *const[]){"a\"b\\c\nd", "r"}), 1);
	text_is(m,
			"# HELP x_total Things.\n# TYPE x_total counter\n"
			"x_total{target=\"a\\\"b\\\\c\\nd\",reason=\"r\"} 3\n");
	sn__metrics_destroy(m);
	assert_int_equal(sn__mem_live(), live);
}

static void histogram(void **state)
{
	struct sn_metrics *m;
	struct sn_family *f;
	struct sn_series *s;
	struct sn_buf out;

	assert_int_equal(sn__metrics_create(0, &m), 0);
	assert_int_equal(sn__metrics_family(m, "h", "Time.", SN_HISTOGRAM, by_target, &f), 0);
	s = sn__metrics_series(f, (const char *const[]){"t"});
	sn__histogram_observe(s, 100000);         /* 0.1 ms: the first bound is inclusive */
	sn__histogram_observe(s, 3000000);        /* 3 ms */
	sn__histogram_observe(s, 60000000000ull); /* beyond the last bound */
	sn__buf_init(&out, 1 << 20);
	assert_int_equal(sn__metrics_render(m, &out), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_non_null(strstr(sn__buf_data(&out), "h_bucket{target=\"t\",le=\"0.0001\"} 1\n"));
	assert_non_null(strstr(sn__buf_data(&out), "h_bucket{target=\"t\",le=\"0.0025\"} 1\n"));
	assert_non_null(strstr(sn__buf_data(&out), "h_bucket{target=\"t\",le=\"0.005\"} 2\n"));
	assert_non_null(strstr(sn__buf_data(&out), "h_bucket{target=\"t\",le=\"10\"} 2\n"));
	assert_non_null(strstr(sn__buf_data(&out), "h_bucket{target=\"t\",le=\"+Inf\"} 3\n"));
	assert_non_null(strstr(sn__buf_data(&out), "h_sum{target=\"t\"} 60.0031\n"));
	assert_non_null(strstr(sn__buf_data(&out), "h_count{target=\"t\"} 3\n"));
	sn__buf_finish(&out);
	sn__metrics_destroy(m);
}

struct emitter {
	struct sn_collector c;
	struct sn_family *f;
	int n;
};

static void emit(struct sn_collector *c, struct sn_metrics *m)
{
	struct emitter *e = SN_CONTAINER_OF(c, struct emitter, c);

	for (int i = 0; i < e->n; i++) {
		char name[2] = {(char)('a' + i), '\0'};

		sn__metrics_emit(e->f, (const char *const[]){name}, i + 1);
	}
}

static void cap_and_overflow(void **state)
{
	struct emitter e = {.c.fn = emit, .n = 3};
	struct sn_metrics *m;
	struct sn_family *f;

	assert_int_equal(sn__metrics_create(2, &m), 0);
	assert_int_equal(sn__metrics_family(m, "c", "C.", SN_COUNTER, by_target, &f), 0);
	assert_int_equal(sn__metrics_family(m, "g", "G.", SN_GAUGE, by_target, &e.f), 0);
	sn_counter_add(sn__metrics_series(f, (const char *const[]){"a"}), 1);
	sn__metrics_collector_add(m, &e.c);
	text_is(m,
			"# HELP c C.\n# TYPE c counter\nc{target=\"a\"} 1\n"
			"# HELP g G.\n# TYPE g gauge\ng{target=\"a\"} 1\ng{overflow=\"true\"} 5\n");
	sn__metrics_collector_remove(m, &e.c);
	sn_counter_add(sn__metrics_series(f, (const char *const[]){"b"}), 1);
	sn_counter_add(sn__metrics_series(f, (const char *const[]){"c"}), 10);
	sn_counter_add(sn__metrics_series(f, (const char *const[]){"d"}), 10);
	sn_counter_add(sn__metrics_series(f, (const char *const[]){"a"}), 1);
	text_is(m,
			"# HELP c C.\n# TYPE c counter\nc{target=\"a\"} 2\nc{target=\"b\"} 1\n"
			"c{overflow=\"true\"} 20\n");
	sn__metrics_destroy(m);
}

static void out_of_memory(void **state)
{
	int64_t live = sn__mem_live();

	for (uint64_t n = 1;; n++) {
		struct sn_metrics *m = NULL;
		struct sn_family *f = NULL;
		struct sn_buf out;

		sn__buf_init(&out, 1 << 20);
		sn__mem_fail_nth(n);
		if (sn__metrics_create(0, &m) == 0 &&
				sn__metrics_family(m, "c", "C.", SN_COUNTER, by_target, &f) == 0) {
			sn_counter_add(sn__metrics_series(f, (const char *const[]){"a"}), 1);
			if (sn__metrics_render(m, &out) != 0)
				assert_int_equal(out.len, 0);
		}
		sn__metrics_destroy(m);
		sn__buf_finish(&out);
		assert_int_equal(sn__mem_live(), live);
		if (!sn__mem_failed())
			break;
	}
	sn__mem_fail_nth(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(counts_and_escapes),
			cmocka_unit_test(histogram),
			cmocka_unit_test(cap_and_overflow),
			cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
