/* SPDX-License-Identifier: Apache-2.0 */
/* JSON documents of the command line: where they end, and how they come. */
#include "app/grpc_input.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/test.h"

/* The documents of @text, "|" between them, when it comes @piece bytes at a time. */
static void split_in(const char *text, size_t piece, char *out)
{
	struct sn_splitter s = {0};
	size_t from = 0, have = 0, n = strlen(text), used;
	struct sn_str doc;

	out[0] = '\0';
	for (;;) {
		struct sn_str in = {text + from, have - from};

		if (sn__split(&s, in, have == n, &doc, &used)) {
			(void)snprintf(out + strlen(out), 200 - strlen(out), "%.*s|", (int)doc.len,
					doc.ptr);
			assert_in_range(used, 1, in.len);
			from += used;
		} else if (have == n) {
			return;
		} else {
			have = SN_MIN(have + piece, n);
		}
	}
}

static void test_split(void **state)
{
	static const struct {
		const char *text, *docs;
	} cases[] = {
			{"", ""},
			{" \n\t\r\n", ""},
			{"{}", "{}|"},
			{"{}{}[]", "{}|{}|[]|"},
			{"{\"a\":{\"b\":[1,{}]}}\n{}\n", "{\"a\":{\"b\":[1,{}]}}|\n{}|"},
			{"{\"a\":\"}\\\"}\\\\\"}{}", "{\"a\":\"}\\\"}\\\\\"}|{}|"},
			{"\"x\"\"y\"", "\"x\"|\"y\"|"},
			{"\"a\\\\\"1", "\"a\\\\\"|1|"},
			{"1 2\n-3e5", "1| 2|\n-3e5|"},
			{"true{}null\"a\"", "true|{}|null|\"a\"|"},
			{"1,2", "1|,2|"}, /* the comma is found to be wrong by who reads it */
			{"}{}", "}|{}|"},
			{"{\"a\":1", "{\"a\":1|"}, /* cut off: told as it is */
			{"\"abc", "\"abc|"},
	};
	char out[200];

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		for (size_t piece = 1; piece < 12; piece++) {
			split_in(cases[i].text, piece, out);
			assert_string_equal(out, cases[i].docs);
		}
	}
}

/* ---- where they come from ---- */

struct fixture {
	struct sn_loop *loop;
	struct sn_grpc_input in;
	unsigned ready;
};

static void on_ready(struct sn_grpc_input *in)
{
	SN_CONTAINER_OF(in, struct fixture, in)->ready++;
}

static void open_input(struct fixture *f, const char *spec, size_t max)
{
	*f = (struct fixture){.in.on_ready = on_ready};
	assert_int_equal(sn__loop_uv_open(NULL, &f->loop, NULL), 0);
	assert_int_equal(sn__grpc_input_open(&f->in, f->loop, spec, max), 0);
}

static void close_input(struct fixture *f)
{
	sn__grpc_input_close(&f->in);
	sn__loop_close(f->loop, NULL, NULL);
}

static void expect_doc(struct fixture *f, const char *text)
{
	struct sn_str doc;

	assert_int_equal(sn__grpc_input_next(&f->in, &doc), 1);
	assert_int_equal(doc.len, strlen(text));
	assert_memory_equal(doc.ptr, text, doc.len);
}

static void test_argument(void **state)
{
	struct sn_str doc;
	struct fixture f;

	open_input(&f, "{} {\"a\":1}", 100);
	expect_doc(&f, "{}");
	expect_doc(&f, " {\"a\":1}");
	assert_int_equal(sn__grpc_input_next(&f.in, &doc), 0);
	assert_int_equal(sn__grpc_input_next(&f.in, &doc), 0);
	close_input(&f);
	open_input(&f, NULL, 100);
	assert_int_equal(sn__grpc_input_next(&f.in, &doc), 0);
	close_input(&f);
}

static void test_file(void **state)
{
	char path[] = "/tmp/sinew-input-XXXXXX", spec[40];
	int fd = mkstemp(path);
	struct sn_str doc;
	struct fixture f;

	assert_true(fd >= 0);
	for (int i = 0; i < 30000; i++)
		assert_int_equal(write(fd, "{\"a\":1}\n", 8), 8);
	(void)snprintf(spec, sizeof spec, "@%s", path);
	open_input(&f, spec, 1 << 20);
	for (int i = 0; i < 30000; i++)
		assert_int_equal(sn__grpc_input_next(&f.in, &doc), 1);
	assert_int_equal(sn__grpc_input_next(&f.in, &doc), 0);
	close_input(&f);
	/* A document beyond the limit. */
	assert_int_equal(ftruncate(fd, 0), 0);
	for (int i = 0; i < 200; i++)
		assert_int_equal(pwrite(fd, "[[[[[[[[", 8, 8 * i), 8);
	(void)close(fd);
	open_input(&f, spec, 100);
	assert_int_equal(sn__grpc_input_next(&f.in, &doc), SN_E_LIMIT);
	close_input(&f);
	(void)unlink(path);
	f = (struct fixture){0};
	assert_int_equal(sn__loop_uv_open(NULL, &f.loop, NULL), 0);
	assert_int_equal(sn__grpc_input_open(&f.in, f.loop, spec, 100), SN_E_IO);
	close_input(&f);
}

/* Standard input that is a pipe is waited for, and left as it was. */
static void test_pipe(void **state)
{
	int fds[2], kept = dup(STDIN_FILENO);
	struct sn_str doc;
	struct fixture f;

	assert_int_equal(pipe(fds), 0);
	assert_true(dup2(fds[0], STDIN_FILENO) >= 0);
	open_input(&f, "-", 1000);
	assert_int_equal(sn__grpc_input_next(&f.in, &doc), SN_E_AGAIN);
	assert_int_equal(write(fds[1], "{}{\"a\"", 6), 6);
	while (f.ready == 0)
		(void)sn__loop_run(f.loop, SN_RUN_ONCE);
	expect_doc(&f, "{}");
	assert_int_equal(sn__grpc_input_next(&f.in, &doc), SN_E_AGAIN);
	assert_int_equal(write(fds[1], ":1}7", 4), 4);
	(void)close(fds[1]);
	while (f.ready == 1)
		(void)sn__loop_run(f.loop, SN_RUN_ONCE);
	expect_doc(&f, "{\"a\":1}");
	while (sn__grpc_input_next(&f.in, &doc) == SN_E_AGAIN)
		(void)sn__loop_run(f.loop, SN_RUN_ONCE);
	assert_memory_equal(doc.ptr, "7", 1);
	assert_int_equal(sn__grpc_input_next(&f.in, &doc), 0);
	close_input(&f);
	assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	(void)close(fds[0]);
	assert_true(dup2(kept, STDIN_FILENO) >= 0);
	(void)close(kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_split),
			cmocka_unit_test(test_argument),
			cmocka_unit_test(test_file),
			cmocka_unit_test(test_pipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
