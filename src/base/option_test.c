/* SPDX-License-Identifier: Apache-2.0 */
#include "base/option.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/subst.h"
#include "base/test.h"

enum color { RED, GREEN };
struct inner {
	int64_t port;
	const char *host;
};
struct outer {
	const char *name;
	bool on;
	double ratio;
	uint64_t wait_ms, room;
	int color;
	struct sn_option_list tags;
	struct sn_option_map labels;
	struct inner listen;
	const struct sn_yaml_node *rest;
	const char *secret;
};

static const char *const colors[] = {"red", "green", NULL};
static const struct sn_option inner_options[] = {
		{.name = "port",
				.kind = SN_OPTION_INT,
				.offset = offsetof(struct inner, port),
				.min = 1,
				.max = 65535,
				.def = "80",
				.help = "Where to listen."},
		{.name = "host",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct inner, host),
				.flags = SN_OPTION_REQUIRED,
				.help = "The address."},
		{0}};
static const struct sn_option options[] = {{.name = "name",
							   .kind = SN_OPTION_STRING,
							   .offset = offsetof(struct outer, name),
							   .def = "sinew",
							   .help = "Who we are."},
		{.name = "on",
				.kind = SN_OPTION_BOOL,
				.offset = offsetof(struct outer, on),
				.def = "true",
				.help = "Whether."},
		{.name = "ratio",
				.kind = SN_OPTION_NUMBER,
				.offset = offsetof(struct outer, ratio),
				.min = 0,
				.max = 1,
				.def = "0.5",
				.help = "How much."},
		{.name = "wait",
				.kind = SN_OPTION_DURATION,
				.offset = offsetof(struct outer, wait_ms),
				.unit = "ms",
				.min = 1,
				.max = 60000,
				.def = "5s",
				.help = "How long."},
		{.name = "room",
				.kind = SN_OPTION_SIZE,
				.offset = offsetof(struct outer, room),
				.unit = "bytes",
				.def = "64KiB",
				.help = "How big."},
		{.name = "color",
				.kind = SN_OPTION_ENUM,
				.offset = offsetof(struct outer, color),
				.choices = colors,
				.def = "green",
				.help = "Which."},
		{.name = "tags",
				.kind = SN_OPTION_LIST,
				.offset = offsetof(struct outer, tags),
				.help = "Words."},
		{.name = "labels",
				.kind = SN_OPTION_MAP,
				.offset = offsetof(struct outer, labels),
				.help = "Pairs."},
		{.name = "listen",
				.kind = SN_OPTION_SECTION,
				.offset = offsetof(struct outer, listen),
				.options = inner_options,
				.help = "Where."},
		{.name = "rest",
				.kind = SN_OPTION_ANY,
				.offset = offsetof(struct outer, rest),
				.help = "Anything."},
		{.name = "secret",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct outer, secret),
				.flags = SN_OPTION_SECRET,
				.help = "Not shown."},
		{0}};

struct fixture {
	struct sn_yaml yaml;
	struct sn_arena arena;
	struct sn_problems problems;
	struct outer out;
	int result;
};

static void read_text(struct fixture *f, const char *text)
{
	struct sn_error err;

	if (sn__yaml_parse(&f->yaml, "f", sn_str_from(text), &err) < 0)
		fail_msg("%s", err.text);
	sn__arena_init(&f->arena, 512, 1 << 20);
	sn__problems_init(&f->problems, "f");
	memset(&f->out, 0xa5, sizeof f->out);
	f->result = sn__options_read(options, f->yaml.root, &f->out, &f->arena, &f->problems);
}

static void finish(struct fixture *f)
{
	sn__problems_finish(&f->problems);
	sn__arena_finish(&f->arena);
	sn__yaml_finish(&f->yaml);
}

static void defaults(void **state)
{
	struct fixture f;
	struct sn_error err;

	if (sn__options_check(options, &err) < 0)
		fail_msg("%s", err.text);
	read_text(&f, "name:\n");
	assert_int_equal(f.result, 0);
	assert_string_equal(f.out.name, "sinew");
	assert_true(f.out.on);
	assert_true(f.out.ratio == 0.5);
	assert_int_equal(f.out.wait_ms, 5000);
	assert_int_equal(f.out.room, 65536);
	assert_int_equal(f.out.color, GREEN);
	assert_int_equal(f.out.tags.n, 0);
	assert_int_equal(f.out.labels.n, 0);
	assert_int_equal(f.out.listen.port, 80);
	assert_null(f.out.listen.host);
	assert_null(f.out.rest);
	assert_null(f.out.secret);
	finish(&f);
}

static void values(void **state)
{
	struct fixture f;

	read_text(&f,
			"name: 12\non: false\nratio: 1\nwait: 250ms\nroom: 10MB\ncolor: red\n"
			"tags: [a, 2]\nlabels: {x: y, z: 1}\nlisten: {port: 0x50, host: h}\n"
			"rest: [1]\nsecret: s\n");
	assert_int_equal(f.result, 0);
	assert_string_equal(f.out.name, "12");
	assert_false(f.out.on);
	assert_true(f.out.ratio == 1);
	assert_int_equal(f.out.wait_ms, 250);
	assert_int_equal(f.out.room, 10000000);
	assert_int_equal(f.out.color, RED);
	assert_int_equal(f.out.tags.n, 2);
	assert_string_equal(f.out.tags.items[1], "2");
	assert_int_equal(f.out.labels.n, 2);
	assert_string_equal(f.out.labels.pairs[1].name, "z");
	assert_string_equal(f.out.labels.pairs[1].value, "1");
	assert_int_equal(f.out.listen.port, 80);
	assert_int_equal(f.out.rest->kind, SN_YAML_LIST);
	assert_string_equal(f.out.secret, "s");
	finish(&f);
	read_text(&f, "tags: one\n");
	assert_int_equal(f.out.tags.n, 1);
	finish(&f);
}

static void all_problems(void **state)
{
	static const char *const want[] = {
			"f:1:1: unknown key \"nmae\", did you mean \"name\"?",
			"f:2:5: on must be true or false, not yes",
			"f:3:8: ratio must be between 0 and 1",
			"f:4:7: wait must be a duration such as 250ms, 5s or 2m, not 5 s",
			"f:5:7: room must be a size such as 512, 64KiB or 10MB, not a list",
			"f:6:8: unknown color \"gren\", did you mean \"green\"?",
			"f:7:11: tags must be a list of texts, not a map",
			"f:8:13: labels must be a map of texts, not a list",
			"f:9:9: host is missing: The address.",
			"f:9:16: port must be between 1 and 65535",
			"f:9:19: unknown key \"zzz\"",
			"f:10:9: secret must be a text, not a map",
	};
	struct fixture f;

	read_text(&f,
			"nmae: x\non: yes\nratio: 1.5\nwait: 5 s\nroom: []\ncolor: gren\n"
			"tags: [1, {}]\nlabels: {a: []}\nlisten: {port: 0, zzz: 1}\nsecret: {a: b}\n");
	assert_int_equal(f.result, SN_E_INVALID);
	sn__problems_sort(&f.problems);
	for (size_t i = 0; i < SN_COUNT(want); i++) {
		char text[300];

		assert_true(i < f.problems.n);
		assert_string_equal(sn__problem_text(&f.problems, &f.problems.list[i], text,
						    sizeof text),
				want[i]);
	}
	assert_int_equal(f.problems.n, SN_COUNT(want));
	finish(&f);
	read_text(&f, "[1]");
	assert_int_equal(f.result, SN_E_INVALID);
	finish(&f);
}

static void unsound_tables(void **state)
{
	static const struct sn_option bad[][2] = {
			{{.name = "two words", .kind = SN_OPTION_BOOL, .help = "x"}, {0}},
			{{.name = "a", .kind = SN_OPTION_BOOL}, {0}},
			{{.name = "a", .kind = SN_OPTION_INT, .def = "x", .help = "x"}, {0}},
			{{.name = "a", .kind = SN_OPTION_INT, .def = "5", .max = 4, .help = "x"},
					{0}},
			{{.name = "a", .kind = SN_OPTION_ENUM, .help = "x"}, {0}},
			{{.name = "a",
					 .kind = SN_OPTION_BOOL,
					 .def = "true",
					 .flags = SN_OPTION_REQUIRED,
					 .help = "x"},
					{0}},
	};

	for (size_t i = 0; i < SN_COUNT(bad); i++)
		assert_int_equal(sn__options_check(bad[i], NULL), SN_E_INVALID);
}

static void faults(void **state)
{
	static const char text[] =
			"tags: [a, b]\nlabels: {x: y}\nlisten: {port: 1, host: a}\nzz: 1\n";
	int64_t live = sn__mem_live();
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct sn_yaml y;
		struct sn_arena arena;
		struct sn_problems problems;
		struct outer out;
		int r;

		assert_int_equal(sn__yaml_parse(&y, "f", sn_str_from(text), NULL), 0);
		sn__arena_init(&arena, 16, 1 << 20);
		sn__problems_init(&problems, "f");
		sn__mem_fail_nth(nth);
		r = sn__options_read(options, y.root, &out, &arena, &problems);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		/* Without memory for the list of problems they are still counted. */
		assert_true(r == SN_E_INVALID || (failed && r == SN_E_NOMEM));
		sn__problems_finish(&problems);
		sn__arena_finish(&arena);
		sn__yaml_finish(&y);
		assert_int_equal(sn__mem_live(), live);
	}
}

/* ---- substitution ---- */

static const char *fake_env(const char *name, void *arg)
{
	if (strcmp(name, "PORT") == 0)
		return "7101";
	if (strcmp(name, "EMPTY") == 0)
		return "";
	if (strcmp(name, "TRICK") == 0)
		return "a: [${PORT}";
	return NULL;
}

static void substitution(void **state)
{
	static const char yaml[] =
			"a: ${PORT}\nb: \"${PORT}\"\nc: x${EMPTY}y${NO:z}$${PORT}$1\n"
			"d: ${EMPTY:q}\ne: ${NO:}\nf: &f '${TRICK}'\ng: *f\nh: ${NO:a:b}\n";
	struct sn_problems problems;
	struct sn_yaml y;
	json_t *json;
	char *text;

	sn__problems_init(&problems, "f");
	assert_int_equal(sn__yaml_parse(&y, "f", sn_str_from(yaml), NULL), 0);
	assert_int_equal(sn__subst_yaml(&y, fake_env, NULL, &problems), 0);
	assert_int_equal(sn__yaml_to_json(y.root, &json, NULL), 0);
	text = sn__json_text(json);
	assert_string_equal(text,
			"{\"a\":7101,\"b\":\"7101\",\"c\":\"xyz${PORT}$1\",\"d\":null,"
			"\"e\":null,\"f\":\"a: [${PORT}\",\"g\":\"a: [${PORT}\",\"h\":\"a:b\"}");
	sn__free(text);
	json_decref(json);
	sn__yaml_finish(&y);
}

static void substitution_problems(void **state)
{
	static const char yaml[] =
			"a: ${NOT_SET}\nb: ['${}', '${x', '${a b}']\nc: ${file:/nonexistent}\n";
	struct sn_problems problems;
	struct sn_yaml y;

	sn__problems_init(&problems, "f");
	assert_int_equal(sn__yaml_parse(&y, "f", sn_str_from(yaml), NULL), 0);
	assert_int_equal(sn__subst_yaml(&y, fake_env, NULL, &problems), SN_E_INVALID);
	assert_int_equal(problems.n, 5);
	assert_string_equal(problems.list[0].text,
			"${NOT_SET} is not set in the environment and has "
			"no default (${NOT_SET:default})");
	assert_int_equal(problems.list[4].place.line, 3);
	assert_string_equal(problems.list[4].text,
			"${file:...}: /nonexistent: No such file or directory");
	sn__problems_finish(&problems);
	sn__yaml_finish(&y);
}

static void substitution_file(void **state)
{
	char path[] = "/tmp/sinew-test-XXXXXX";
	char yaml[64];
	int fd = mkstemp(path);
	struct sn_yaml y;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "s3cret\n", 7), 7);
	(void)snprintf(yaml, sizeof yaml, "a: ${file:%s}\n", path);
	assert_int_equal(sn__yaml_parse(&y, "f", sn_str_from(yaml), NULL), 0);
	assert_int_equal(sn__subst_yaml(&y, NULL, NULL, NULL), 0);
	assert_string_equal(sn__yaml_get(y.root, "a")->text.ptr, "s3cret");
	sn__yaml_finish(&y);
	(void)close(fd);
	(void)unlink(path);
}

static void berlioz_rule(void **state)
{
	static const struct {
		const char *text, *want;
	} v[] = {
			{"ws://h:${PORT}/t", "ws://h:7101/t"},
			{"${NO}${}${PORT:x}$PORT", "${NO}${}${PORT:x}$PORT"},
			{"${TRICK}", "a: [${PORT}"},
			{"${", "${"},
			{"${PORT", "${PORT"},
			{"$${PORT}", "$7101"},
			{"", ""},
	};

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		struct sn_buf b;

		sn__buf_init(&b, 100);
		assert_int_equal(sn__subst_berlioz(sn_str_from(v[i].text), fake_env, NULL, &b), 0);
		assert_true(sn_str_eq(sn__buf_str(&b), sn_str_from(v[i].want)));
		b.max = b.len + 1;
		if (v[i].text[0] != '\0')
			assert_int_equal(sn__subst_berlioz(SN_STR("xx${PORT}"), fake_env, NULL, &b),
					SN_E_LIMIT);
		assert_true(sn_str_eq(sn__buf_str(&b), sn_str_from(v[i].want)));
		sn__buf_finish(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(defaults),
			cmocka_unit_test(values),
			cmocka_unit_test(all_problems),
			cmocka_unit_test(unsound_tables),
			cmocka_unit_test(faults),
			cmocka_unit_test(substitution),
			cmocka_unit_test(substitution_problems),
			cmocka_unit_test(substitution_file),
			cmocka_unit_test(berlioz_rule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
