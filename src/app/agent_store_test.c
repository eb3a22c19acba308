/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "app/agent.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/test.h"

/* What was told, as "task|section=value;". */
static struct sn_buf told;

static void on_changed(
		struct sn_store_task *task, const char *section, const json_t *value, void *arg)
{
	assert_int_equal(
			sn__buf_printf(&told, "%s|%s=", task != NULL ? task->id : "*", section), 0);
	assert_int_equal(sn__json_dump(value, &told), 0);
	assert_int_equal(sn__buf_append(&told, ";", 1), 0);
}

static json_t *json(const char *text)
{
	json_t *j = NULL;

	assert_int_equal(sn__json_parse(sn_str_from(text), 1 << 20, &j, NULL), 0);
	return j;
}

static void expect(const char *text)
{
	assert_int_equal(sn__buf_append(&told, "", 1), 0);
	assert_string_equal(sn__buf_data(&told), text);
	sn__buf_clear(&told);
}

static int report(struct sn_store *s, const char *text)
{
	json_t *j = json(text);
	struct sn_error err;
	int r = sn__store_report(s, j, on_changed, NULL, &err);

	json_decref(j);
	return r;
}

static void load(struct sn_store *s, const char *common, const char *tasks)
{
	json_t *c = json(common), *t = json(tasks);

	assert_int_equal(sn__store_load(s, c, t, on_changed, NULL), 0);
	json_decref(c);
	json_decref(t);
}

static void view_is(struct sn_store *s, const char *id, const char *text)
{
	char *got = sn__json_text(sn__store_view(s, sn__store_find(s, sn_str_from(id))));

	assert_string_equal(got, text);
	sn__free(got);
}

static void reports(void **state)
{
	struct sn_store s;

	assert_int_equal(sn__store_init(&s), 0);
	assert_int_equal(
			report(&s, "[{\"id\":\"t\",\"metadata\":{\"peers\":{\"a\":1},\"policies\":{}}}]"),
			0);
	expect("t|peers={\"a\":1};");
	assert_int_equal(
			report(&s, "[{\"id\":\"t\",\"metadata\":{\"peers\":{\"a\":1.0},\"policies\":null}}]"),
			0);
	expect("");
	assert_int_equal(report(&s, "[{\"id\":\"t\",\"metadata\":{\"peers\":null}}]"), 0);
	expect("t|peers={};");
	view_is(&s, "t", "{\"peers\":null,\"policies\":null}");
	view_is(&s, "nobody", "{}");
	/* Refused as a whole: the good first item is not applied either. */
	assert_int_equal(
			report(&s, "[{\"id\":\"t\",\"metadata\":{\"peers\":{\"b\":1}}},{\"id\":\"u\"}]"),
			SN_E_INVALID);
	assert_int_equal(report(&s, "{}"), SN_E_INVALID);
	assert_int_equal(report(&s, "[{\"id\":\"a/b\",\"metadata\":{}}]"), SN_E_INVALID);
	expect("");
	view_is(&s, "t", "{\"peers\":null,\"policies\":null}");
	sn__store_finish(&s);
}

/* As many tasks as there may be: those that are known are still told of. */
static void full(void **state)
{
	struct sn_store s;
	char text[80], id[16];

	assert_int_equal(sn__store_init(&s), 0);
	for (unsigned i = 0; i < SN_AGENT_TASKS_MAX; i++) {
		struct sn_store_task *task;

		(void)snprintf(id, sizeof id, "t%u", i);
		assert_int_equal(sn__store_task(&s, sn_str_from(id), &task), 0);
	}
	(void)snprintf(text, sizeof text, "[{\"id\": \"%s\", \"metadata\": {\"a\": 1}}]", id);
	assert_int_equal(report(&s, text), 0);
	(void)snprintf(text, sizeof text, "%s|a=1;", id);
	expect(text);
	assert_int_equal(report(&s, "[{\"id\": \"one more\", \"metadata\": {\"a\": 1}}]"),
			SN_E_LIMIT);
	sn__store_finish(&s);
}

static void forgotten(void **state)
{
	struct sn_store s;

	assert_int_equal(sn__store_init(&s), 0);
	load(&s, "{\"policies\":{\"v\":1},\"peers\":{\"a\":{}}}",
			"{\"own\":{\"policies\":{\"v\":2}}}");
	sn__buf_clear(&told);
	assert_int_equal(
			report(&s, "[{\"id\":\"t\",\"metadata\":{\"policies\":{\"v\":7},\"more\":1}}]"),
			0);
	assert_int_equal(report(&s, "[{\"id\":\"own\",\"metadata\":{\"policies\":{\"v\":7}}}]"), 0);
	sn__buf_clear(&told);
	assert_int_equal(sn__store_forget(&s, SN_STR("t"), "policies", on_changed, NULL), 0);
	expect("t|policies={\"v\":1};");
	assert_int_equal(sn__store_forget(&s, SN_STR("t"), "more", on_changed, NULL), 0);
	expect("t|more={};");
	assert_int_equal(sn__store_forget(&s, SN_STR("own"), "policies", on_changed, NULL), 0);
	expect("own|policies={\"v\":2};");
	assert_int_equal(sn__store_forget(&s, SN_STR("nobody"), "policies", on_changed, NULL), 0);
	expect("");
	view_is(&s, "t", "{\"policies\":{\"v\":1},\"peers\":{\"a\":{}}}");
	assert_true(sn__store_has(&s, SN_STR("t"), "more", NULL));
	assert_false(sn__store_has(&s, SN_STR("t"), "policies", NULL));
	sn__store_finish(&s);
}

static const json_t *first_value;
static unsigned n_same;

static void same_object(
		struct sn_store_task *task, const char *section, const json_t *value, void *arg)
{
	if (first_value == NULL)
		first_value = value;
	n_same += value == first_value;
}

/* What many tasks have in common is one object, and is told as one. */
static void shared(void **state)
{
	json_t *j = json(
			"[{\"id\":\"a\",\"metadata\":{\"peers\":{\"x\":[1]},\"policies\":{\"v\":1}}},"
			"{\"id\":\"b\",\"metadata\":{\"peers\":{\"x\":[1]},\"policies\":{\"v\":1}}},"
			"{\"id\":\"c\",\"metadata\":{\"peers\":{\"x\":[1]}}}]");
	json_t *common = json("{\"peers\":{\"service\":{\"s\":{\"e\":{\"1\":{}}}}}}");
	json_t *after = json("{\"peers\":{\"service\":{}}}");
	json_t *tasks = json_object();
	struct sn_store s;

	assert_int_equal(sn__store_init(&s), 0);
	assert_int_equal(sn__store_report(&s, j, same_object, NULL, NULL), 0);
	assert_int_equal(n_same, 3);
	assert_ptr_equal(json_object_get(sn__store_view(&s, sn__store_find(&s, SN_STR("a"))),
					 "policies"),
			json_object_get(sn__store_view(&s, sn__store_find(&s, SN_STR("b"))),
					"policies"));
	sn__store_finish(&s);
	json_decref(j);

	assert_int_equal(sn__store_init(&s), 0);
	assert_non_null(tasks);
	for (unsigned i = 0; i < 3; i++) {
		char id[2] = {(char)('a' + i), '\0'};
		json_t *own = json_copy(common);

		assert_int_equal(json_object_set_new(own, "policies", json_integer(i)), 0);
		assert_int_equal(json_object_set_new(tasks, id, own), 0);
	}
	assert_int_equal(sn__store_load(&s, common, tasks, same_object, NULL), 0);
	json_decref(tasks);
	tasks = json_object();
	for (unsigned i = 0; i < 3; i++) {
		char id[2] = {(char)('a' + i), '\0'};
		json_t *own = json_copy(after);

		assert_int_equal(json_object_set_new(own, "policies", json_integer(i)), 0);
		assert_int_equal(json_object_set_new(tasks, id, own), 0);
	}
	first_value = NULL;
	n_same = 0;
	assert_int_equal(sn__store_load(&s, after, tasks, same_object, NULL), 0);
	assert_int_equal(n_same, 4); /* three tasks, and all others */
	json_decref(common);
	json_decref(after);
	json_decref(tasks);
	sn__store_finish(&s);
}

static void files(void **state)
{
	struct sn_store s;

	assert_int_equal(sn__store_init(&s), 0);
	load(&s, "{\"peers\":{\"service\":{\"a\":{\"x\":{\"1\":{}},\"y\":{\"1\":{}}}},\"database\":{\"d\":{\"0\":{}}}}}",
			"{\"t\":{\"policies\":{\"values\":{}}}}");
	assert_int_equal(report(&s, "[{\"id\":\"u\",\"metadata\":{\"consumes\":[1]}}]"), 0);
	sn__buf_clear(&told);
	/* What is gone is sent once as an empty map; the reported task keeps its report. */
	load(&s, "{\"peers\":{\"service\":{\"a\":{\"x\":{\"1\":{}}}},\"service://c-s-n-e\":{\"1\":{\"port\":1}}}}",
			"{\"t\":{\"policies\":{\"values\":{}}}}");
	expect("u|peers={\"service\":{\"a\":{\"x\":{\"1\":{}},\"y\":{}}},\"service://c-s-n-e\":{\"1\":{\"port\":1}},"
	       "\"database\":{\"d\":{}}};"
	       "*|peers={\"service\":{\"a\":{\"x\":{\"1\":{}},\"y\":{}}},\"service://c-s-n-e\":{\"1\":{\"port\":1}},"
	       "\"database\":{\"d\":{}}};");
	view_is(&s, "u",
			"{\"peers\":{\"service\":{\"a\":{\"x\":{\"1\":{}}}},\"service://c-s-n-e\":{\"1\":{\"port\":1}}},"
			"\"consumes\":[1]}");
	load(&s, "{\"peers\":{\"service\":null,\"service://c-s-n-e\":null}}",
			"{\"t\":{\"policies\":{\"values\":{}}}}");
	expect("u|peers={\"service\":null,\"service://c-s-n-e\":null};"
	       "*|peers={\"service\":null,\"service://c-s-n-e\":null};");
	load(&s, "{\"peers\":{\"service\":{\"a\":{\"x\":{\"1\":{}}}},\"service://c-s-n-e\":{\"1\":{\"port\":1}}}}",
			"{\"t\":{\"policies\":{\"values\":{}}}}");
	sn__buf_clear(&told);
	load(&s, "{}", "{}");
	expect("t|policies={};"
	       "u|peers={\"service\":{\"a\":{\"x\":{}}},\"service://c-s-n-e\":{}};"
	       "*|peers={\"service\":{\"a\":{\"x\":{}}},\"service://c-s-n-e\":{}};");
	sn__store_finish(&s);
}

static void count_changed(
		struct sn_store_task *task, const char *section, const json_t *value, void *arg)
{
	++*(unsigned *)arg;
}

static void faults(void **state)
{
	json_t *before = json("{\"peers\":{\"queue\":{\"q\":{\"0\":{}}}}}");
	json_t *after = json("{\"peers\":{\"queue\":{\"p\":{\"0\":{}}}},\"consumes\":[]}");
	json_t *tasks = json("{\"t\":{\"policies\":{\"values\":{}}}}"), *none = json_object();
	json_t *said = json("[{\"id\":\"u\",\"metadata\":{\"consumes\":[1]}}]");
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		int64_t live = sn__mem_live();
		unsigned n_told = 0;
		struct sn_store s;
		int r;

		assert_int_equal(sn__store_init(&s), 0);
		assert_int_equal(sn__store_load(&s, before, none, count_changed, &n_told), 0);
		json_set_alloc_funcs(sn__malloc, sn__free);
		sn__mem_fail_nth(nth);
		r = sn__store_report(&s, said, count_changed, &n_told, NULL);
		n_told = 0;
		if (r == 0)
			r = sn__store_load(&s, after, tasks, count_changed, &n_told);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r < 0) {
			/* Nothing of the file is in force, and nobody was told. */
			assert_int_equal(r, SN_E_NOMEM);
			assert_int_equal(n_told, 0);
			assert_ptr_equal(sn__store_view(&s, NULL), before);
			assert_null(sn__store_find(&s, SN_STR("t")));
		} else {
			assert_ptr_equal(sn__store_view(&s, NULL), after);
			view_is(&s, "t", "{\"policies\":{\"values\":{}}}");
		}
		sn__store_finish(&s);
		json_set_alloc_funcs(malloc, free);
		assert_int_equal(sn__mem_live(), live);
	}
	json_decref(before);
	json_decref(after);
	json_decref(tasks);
	json_decref(none);
	json_decref(said);
}

static int finish(void **state)
{
	sn__buf_finish(&told);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(reports),
			cmocka_unit_test(full),
			cmocka_unit_test(files),
			cmocka_unit_test(shared),
			cmocka_unit_test(forgotten),
			cmocka_unit_test(faults),
	};

	sn__buf_init(&told, 1 << 20);
	return cmocka_run_group_tests(tests, NULL, finish);
}
