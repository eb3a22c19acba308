/* SPDX-License-Identifier: Apache-2.0 */

/* Drivers in modules: one that works, and twins of it that are refused. */

#include <sinew/resource.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/test.h"
#include "connect/driver.h"

static void test_refused(void **state)
{
	static const struct {
		const char *type, *says;
	} cases[] = {
			{"oldabi", "refused: it was made for driver ABI 0, this is ABI 1"},
			{"newabi", "refused: it was made for driver ABI 2, this is ABI 1"},
			{"small", "refused: its driver table has 8 bytes"},
			{"nameless", "refused: it has no symbol sn_driver_database_nameless"},
			{"other", "refused: it is the driver database/memory"},
			{"unfinished", "refused: it lacks open, close or finish"},
			{"text", "module refused: "},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		const struct sn_driver *d = NULL;
		struct sn_error err;

		for (int again = 0; again < 2; again++) {
			assert_int_equal(sn__driver_find(SN_TOPIC_DATABASE,
							 sn_str_from(cases[i].type), &d, &err),
					SN_E_INVALID);
			if (strstr(err.text, cases[i].says) == NULL)
				fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].says);
		}
		assert_null(d);
	}
}

static void test_found(void **state)
{
	const struct sn_driver *a, *b;
	struct sn_error err;

	if (sn__driver_find(SN_TOPIC_DATABASE, SN_STR("memory"), &a, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(a->summary, "Texts in memory, for tests");
	assert_int_equal(sn__driver_find(SN_TOPIC_DATABASE, SN_STR("memory"), &b, &err), 0);
	assert_ptr_equal(a, b);
	assert_int_equal(sn__driver_find(SN_TOPIC_BROKER, SN_STR("memory"), &b, &err),
			SN_E_NOT_FOUND);
	assert_int_equal(sn__driver_find(SN_TOPIC_DATABASE, SN_STR("memry"), &b, &err),
			SN_E_NOT_FOUND);
}

static struct sn_runtime *open_runtime(const char *config)
{
	struct sn_options o = SN_OPTIONS_INIT;
	struct sn_error *err;
	struct sn_runtime *rt;
	char file[512];

	(void)snprintf(file, sizeof file,
			"peers: {database: {notes: {\"0\": {subClass: memory, config: %s}}}}\n",
			config);
	o.config_text = file;
	o.agent = "";
	if (sn_open(&o, &rt, &err) < 0)
		fail_msg("%s", sn_error_text(err));
	assert_int_equal(sn_wait_ready(rt, 5000), 0);
	return rt;
}

static void says(struct sn_runtime *rt, const char *operation, const char *params, const char *want)
{
	struct sn_result *res = NULL;
	struct sn_error *err = NULL;
	int r = sn_database_call_wait(rt, "notes", operation, params, NULL, &res, &err);
	const char *got = r == 0 ? sn_result_json(res, NULL) : sn_error_text(err);

	if (strcmp(got, want) != 0)
		fail_msg("%s %s gives %s, not %s", operation, params, got, want);
	sn_result_destroy(res);
	sn_error_destroy(err);
}

static void test_calls(void **state)
{
	struct sn_runtime *rt = open_runtime("{}");

	says(rt, "Put", "{\"key\":\"a\",\"n\":1}", "{}");
	says(rt, "Put", "{\"key\":\"b\",\"n\":2}", "{}");
	says(rt, "Put", "{\"key\":\"a\",\"n\":3}", "{}");
	says(rt, "Get", "{\"key\":\"a\"}", "{\"key\":\"a\",\"n\":3}");
	says(rt, "Count", "{}", "{\"count\":2}");
	says(rt, "Drop", "{\"key\":\"a\"}", "{}");
	says(rt, "Get", "{\"key\":\"a\"}", "database notes: Get: NotFound");
	says(rt, "Get", "{}", "database notes: Get: NoKey");
	says(rt, "Gett", "{}", "database notes: memory has no operation Gett: did you mean Get?");
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void test_bad_config(void **state)
{
	struct sn_runtime *rt = open_runtime("{full: true}");

	says(rt, "Count", "{}", "database notes: the memory is full");
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void on_closed_result(const struct sn_result *res, const struct sn_error *err, void *arg)
{
	++*(unsigned *)arg;
}

/* Closed in the middle of many calls: every one of them ends. */
static void test_close(void **state)
{
	struct sn_runtime *rt = open_runtime("{}");
	unsigned ended = 0;

	for (int i = 0; i < 500; i++)
		assert_int_equal(sn_database_call(rt, "notes", "Put", "{\"key\":\"a\"}", NULL,
						 on_closed_result, &ended, NULL, NULL),
				0);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_int_equal(ended, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_refused),
			cmocka_unit_test(test_found),
			cmocka_unit_test(test_calls),
			cmocka_unit_test(test_bad_config),
			cmocka_unit_test(test_close),
	};
	char path[512];

	/* A relative folder is not looked into; the second one is ours. */
	(void)snprintf(path, sizeof path, "tests/connect:%s/tests/connect",
			getenv("SINEW_BUILD_ROOT"));
	(void)setenv("SINEW_MODULE_PATH", path, 1);
	(void)unsetenv("BERLIOZ_AGENT_PATH");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
