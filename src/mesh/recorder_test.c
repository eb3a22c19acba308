/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/recorder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/test.h"
#include "io/sim.h"
#include "mesh/recorder_file.h"

struct fixture {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_recorder *rec;
	char dir[64];
};

static void setup(struct fixture *f, bool with_dir)
{
	struct sn_sim_options so = {.seed = 42};
	struct sn_recorder_options ro = {.name = "test/../program"};
	struct sn_error err;

	memset(f, 0, sizeof *f);
	assert_int_equal(sn__sim_create(&so, &f->sim), 0);
	assert_int_equal(sn__sim_loop(f->sim, &f->loop), 0);
	ro.loop = f->loop;
	if (with_dir) {
		(void)snprintf(f->dir, sizeof f->dir, "/tmp/sinew-why-XXXXXX");
		assert_non_null(mkdtemp(f->dir));
		ro.dir = f->dir;
	}
	assert_int_equal(sn__recorder_create(&ro, &f->rec, &err), 0);
	assert_int_equal(err.code, 0);
}

static void remove_files(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;

	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] != '.')
			assert_int_equal(unlinkat(dirfd(dir), d->d_name, 0), 0);
	}
	(void)closedir(dir);
	assert_int_equal(rmdir(path), 0);
}

static void teardown(struct fixture *f)
{
	sn__recorder_destroy(f->rec);
	sn__loop_close(f->loop, NULL, NULL);
	sn__sim_destroy(f->sim);
	if (f->dir[0] != '\0')
		remove_files(f->dir);
}

static void turn(struct fixture *f)
{
	(void)sn__sim_run(f->sim, sn__sim_now_ns(f->sim) + SN_NS_PER_MS);
}

static void fill(struct sn_record *r, uint64_t id, bool story)
{
	memset(r, 0, sizeof *r);
	r->id = id;
	r->story = story;
	r->wall_ns = UINT64_C(1800000000000000000) + id;
	r->duration_ns = 1500000;
	r->code = story ? SN_E_STATUS : 0;
	r->attempts = story ? 2 : 1;
	(void)snprintf(r->target, sizeof r->target, "service basket/rest");
	(void)snprintf(r->what, sizeof r->what, "GET /items");
	(void)snprintf(r->peer, sizeof r->peer, "1 10.0.0.1:80");
	if (!story)
		return;
	(void)snprintf(r->text, sizeof r->text,
			"service basket/rest: 2 attempts; last: status 503");
	r->n_attempts = 2;
	for (int i = 0; i < 2; i++) {
		struct sn_attempt *a = &r->attempts_kept[i];

		a->code = SN_E_STATUS;
		a->foreign = 503;
		a->phase = SN_PHASE_READ;
		a->start_ns = (uint64_t)i * 1000000;
		a->duration_ns = 300000;
		(void)snprintf(a->peer, sizeof a->peer, "1 10.0.0.1:80");
		(void)snprintf(a->detail, sizeof a->detail, "status 503");
		(void)snprintf(a->decision, sizeof a->decision,
				i == 0 ? "retry in 1 ms" : "give up: attempts used up");
	}
}

static uint64_t add(struct fixture *f, bool story)
{
	static struct sn_record r;
	uint64_t id = sn__recorder_next_id(f->rec);

	fill(&r, id, story);
	sn__recorder_add(f->rec, &r);
	return id;
}

static void finds_what_was_written(void **state)
{
	static struct sn_record got, want;
	struct fixture f;
	struct sn_error err;
	uint64_t a, b;

	setup(&f, false);
	a = add(&f, false);
	b = add(&f, true);
	assert_int_equal(sn__recorder_find(f.rec, a, &got, NULL), 0);
	assert_string_equal(got.what, "GET /items");
	assert_false(got.story);
	fill(&want, b, true);
	memset(&got, 0, sizeof got);
	assert_int_equal(sn__recorder_find(f.rec, b, &got, &err), 0);
	assert_memory_equal(&got, &want, offsetof(struct sn_record, attempts_kept));
	for (int i = 0; i < 2; i++) {
		assert_string_equal(got.attempts_kept[i].detail, want.attempts_kept[i].detail);
		assert_string_equal(got.attempts_kept[i].decision, want.attempts_kept[i].decision);
		assert_int_equal(got.attempts_kept[i].foreign, 503);
		assert_int_equal(got.attempts_kept[i].start_ns, want.attempts_kept[i].start_ns);
	}
	assert_int_equal(sn__recorder_find(f.rec, b + 1, &got, &err), SN_E_NOT_FOUND);
	assert_string_equal(err.text, "no call has had this id");
	teardown(&f);
}

static void old_ones_leave_the_ring(void **state)
{
	static struct sn_record got;
	struct fixture f;
	struct sn_error err;
	uint64_t first, last = 0;

	setup(&f, false);
	first = add(&f, true);
	for (int i = 0; i < 5000; i++)
		last = add(&f, true);
	assert_int_equal(sn__recorder_find(f.rec, last, &got, NULL), 0);
	assert_int_equal(sn__recorder_find(f.rec, last - 500, &got, NULL), 0);
	assert_int_equal(sn__recorder_find(f.rec, first, &got, &err), SN_E_NOT_FOUND);
	assert_string_equal(err.text, "the call has left the ring");
	teardown(&f);
}

static bool count_one(const struct sn_record *r, void *arg)
{
	uint64_t *last = arg;

	assert_true(r->id < last[0] || !r->story != !last[2]);
	last[0] = r->id;
	last[1]++;
	last[2] = r->story;
	return true;
}

static void newest_first(void **state)
{
	uint64_t seen[3] = {UINT64_MAX, 0, 1};
	struct fixture f;

	setup(&f, false);
	for (int i = 0; i < 50; i++)
		(void)add(&f, i % 3 == 0);
	sn__recorder_each(f.rec, count_one, seen);
	assert_int_equal(seen[1], 50);
	teardown(&f);
}

static void file_of_a_living_program(void **state)
{
	static struct sn_record got;
	struct fixture f;
	struct sn_error err;
	uint64_t id, later;

	setup(&f, true);
	id = add(&f, true);
	assert_int_equal(sn__recorder_find_in(f.dir, id, &got, &err), SN_E_NOT_FOUND);
	turn(&f); /* written once a turn */
	assert_int_equal(sn__recorder_find_in(f.dir, id, &got, &err), 0);
	assert_int_equal(got.id, id);
	for (int i = 0; i < 4000; i++) {
		later = add(&f, i % 2 == 0);
		if (i % 7 == 0)
			turn(&f);
	}
	turn(&f);
	assert_int_equal(sn__recorder_find_in(f.dir, later, &got, &err), 0);
	assert_int_equal(sn__recorder_find_in(f.dir, id, &got, &err), SN_E_NOT_FOUND);
	assert_string_equal(err.text, "the call has left the ring");
	assert_int_equal(sn__recorder_find_in(f.dir, 77, &got, &err), SN_E_NOT_FOUND);
	assert_string_equal(err.text, "no recorded program has given this id");
	assert_int_equal(sn__recorder_newest_in(f.dir, &got, &err), 0);
	assert_int_equal(got.id, later - 1);
	teardown(&f);
}

static void file_is_private_and_stays(void **state)
{
	static struct sn_record got;
	struct fixture f;
	struct dirent *d;
	struct stat st;
	unsigned n = 0;
	uint64_t id;
	DIR *dir;

	setup(&f, true);
	id = add(&f, true);
	sn__recorder_destroy(f.rec);
	f.rec = NULL;
	assert_int_equal(sn__recorder_find_in(f.dir, id, &got, NULL), 0);
	dir = opendir(f.dir);
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		assert_true(sn__recorder_is_file(d->d_name));
		assert_int_equal(fstatat(dirfd(dir), d->d_name, &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		n++;
	}
	(void)closedir(dir);
	assert_int_equal(n, 1);
	teardown(&f);
}

static unsigned count_files(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	unsigned n = 0;

	while ((d = readdir(dir)) != NULL)
		n += sn__recorder_is_file(d->d_name);
	(void)closedir(dir);
	return n;
}

static void files_of_the_dead_are_bounded(void **state)
{
	struct sn_recorder_options ro = {0};
	struct sn_recorder *rec;
	struct fixture f;
	pid_t dead = fork();

	if (dead == 0)
		_exit(0);
	assert_int_equal(waitpid(dead, NULL, 0), dead);
	setup(&f, true);
	for (int i = 0; i < 50; i++) {
		char path[160];
		FILE *file;

		(void)snprintf(path, sizeof path, "%s/why-old-%ld-%08x.ring", f.dir, (long)dead, i);
		file = fopen(path, "w");
		assert_non_null(file);
		assert_int_equal(fclose(file), 0);
	}
	ro.loop = f.loop;
	ro.dir = f.dir;
	assert_int_equal(sn__recorder_create(&ro, &rec, NULL), 0);
	assert_true(count_files(f.dir) <= SN_RECORDER_FILES_MAX);
	sn__recorder_destroy(rec);
	teardown(&f);
}

static void works_without_a_directory(void **state)
{
	struct sn_recorder_options ro = {.dir = "/nonexistent/sinew"};
	static struct sn_record got;
	struct sn_recorder *rec;
	struct sn_error err;
	struct fixture f;

	setup(&f, false);
	ro.loop = f.loop;
	assert_int_equal(sn__recorder_create(&ro, &rec, &err), 0);
	assert_int_equal(err.code, SN_E_IO);
	assert_non_null(strstr(err.text, "/nonexistent/sinew"));
	sn__recorder_destroy(rec);
	assert_int_equal(sn__recorder_find_in("/nonexistent/sinew", 1, &got, &err), SN_E_IO);
	teardown(&f);
}

/* Any single byte may be wrong: never more than whole, true records come out. */
static bool must_be_ours(const struct sn_record *r, void *arg)
{
	assert_string_equal(r->target, "service basket/rest");
	return true;
}

static void damage_is_survived(void **state)
{
	uint8_t *image = test_malloc(SN_RECORDER_FILE_BYTES);
	struct fixture f;
	struct sn_rng rng;
	struct dirent *d;
	char path[400];
	FILE *file;
	DIR *dir;

	setup(&f, true);
	for (int i = 0; i < 1500; i++)
		(void)add(&f, i % 2 == 0);
	turn(&f);
	dir = opendir(f.dir);
	while ((d = readdir(dir)) != NULL && d->d_name[0] == '.')
		;
	(void)snprintf(path, sizeof path, "%s/%s", f.dir, d->d_name);
	(void)closedir(dir);
	file = fopen(path, "rb");
	memset(image, 0, SN_RECORDER_FILE_BYTES);
	assert_true(fread(image, 1, SN_RECORDER_FILE_BYTES, file) > 200000);
	(void)fclose(file);
	sn__rng_seed(&rng, 9);
	for (int i = 0; i < 300; i++) {
		size_t at = i < SN_RECORDER_HEADER_BYTES
				? (size_t)i
				: (size_t)sn__rng_below(&rng, SN_RECORDER_FILE_BYTES);
		uint8_t was = image[at];

		image[at] ^= (uint8_t)(1 + sn__rng_below(&rng, 255));
		(void)!sn__recorder_parse(image, SN_RECORDER_FILE_BYTES, must_be_ours, NULL);
		image[at] = was;
	}
	assert_int_equal(sn__recorder_parse(image, 100, must_be_ours, NULL), SN_E_PARSE);
	test_free(image);
	teardown(&f);
}

static void prints_for_people(void **state)
{
	static struct sn_record r;
	struct sn_buf out;
	uint64_t id;

	fill(&r, 0xabc, true);
	r.wall_ns = UINT64_C(1800000000123000000);
	sn__buf_init(&out, 4096);
	assert_int_equal(sn__record_print(&r, &out), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_string_equal(sn__buf_data(&out),
			"call 0000000000000abc  2027-01-15T08:00:00.123Z  service basket/rest  GET /items\n"
			"failed after 1.5 ms [STATUS]: service basket/rest: 2 attempts; last: status 503\n"
			"  1 |######                        |       0.0       0.3 ms  1 10.0.0.1:80  "
			"read: status 503 [STATUS 503] -> retry in 1 ms\n"
			"    |      ..............          |       0.3       0.7 ms  waited\n"
			"  2 |                    ######    |       1.0       0.3 ms  1 10.0.0.1:80  "
			"read: status 503 [STATUS 503] -> give up: attempts used up\n"
			"    |                          ....|       1.3       0.2 ms  waited\n");
	sn__buf_clear(&out);
	r.what[0] = '\033'; /* a terminal would obey it */
	r.code = 0;
	r.n_attempts = 0;
	assert_int_equal(sn__record_print(&r, &out), 0);
	assert_null(memchr(sn__buf_data(&out), '\033', out.len));
	sn__buf_finish(&out);
	assert_int_equal(sn__call_id_parse(SN_STR("0000000000000abc"), &id), 0);
	assert_int_equal(id, 0xabc);
	assert_int_equal(sn__call_id_parse(SN_STR("abc"), &id), SN_E_PARSE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(finds_what_was_written),
			cmocka_unit_test(old_ones_leave_the_ring),
			cmocka_unit_test(newest_first),
			cmocka_unit_test(file_of_a_living_program),
			cmocka_unit_test(file_is_private_and_stays),
			cmocka_unit_test(files_of_the_dead_are_bounded),
			cmocka_unit_test(works_without_a_directory),
			cmocka_unit_test(damage_is_survived),
			cmocka_unit_test(prints_for_people),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
