/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/test.h"

static char last[8192];
static unsigned n_lines;

static void keep(enum sn_log_level level, const char *line, void *arg)
{
	assert_true(strlen(line) < sizeof last);
	memcpy(last, line, strlen(line) + 1);
	*(enum sn_log_level *)arg = level;
	n_lines++;
}

static void levels_and_text(void **state)
{
	enum sn_log_level level = SN_LOG_DEBUG;
	struct sn_log log;

	sn__log(NULL, SN_LOG_ERROR, "x", "nobody listens");
	sn__log_init(&log, keep, &level, SN_LOG_INFO, SN_LOG_PLAIN);
	n_lines = 0;
	sn__log(&log, SN_LOG_DEBUG, "agent", "not wanted");
	assert_int_equal(n_lines, 0);
	sn__log(&log, SN_LOG_WARNING, "agent", "lost %s\nfaked: line \x1b[1m\xff", "it");
	assert_int_equal(n_lines, 1);
	assert_int_equal(level, SN_LOG_WARNING);
	assert_string_equal(last, "agent: lost it\\x0afaked: line \\x1b[1m\\xff");
	log.format = SN_LOG_TEXT;
	sn__log(&log, SN_LOG_INFO, "agent", "up");
	assert_int_equal(last[10], 'T');
	assert_string_equal(last + 23, "Z info agent: up");
	sn__log_finish(&log);
}

static void json_line(void **state)
{
	enum sn_log_level level;
	struct sn_log log;
	json_t *json = NULL;
	char big[3000];

	sn__log_init(&log, keep, &level, SN_LOG_DEBUG, SN_LOG_JSON);
	sn__log(&log, SN_LOG_ERROR, "mesh", "a \"b\" \\ \n \xff \xc3\xa9");
	assert_int_equal(sn__json_parse(sn_str_from(last), 8192, &json, NULL), 0);
	assert_string_equal(sn__json_str(sn__json_get(json, "level")), "error");
	assert_string_equal(sn__json_str(sn__json_get(json, "area")), "mesh");
	assert_string_equal(sn__json_str(sn__json_get(json, "message")),
			"a \"b\" \\ \n \xef\xbf\xbd \xc3\xa9");
	json_decref(json);
	/* The longest message of the worst bytes still makes a whole line. */
	memset(big, 1, sizeof big - 1);
	big[sizeof big - 1] = '\0';
	sn__log(&log, SN_LOG_ERROR, "mesh", "%s", big);
	assert_int_equal(sn__json_parse(sn_str_from(last), 8192, &json, NULL), 0);
	json_decref(json);
	sn__log_finish(&log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(levels_and_text),
			cmocka_unit_test(json_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
