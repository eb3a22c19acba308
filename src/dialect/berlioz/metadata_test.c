/* SPDX-License-Identifier: Apache-2.0 */
/* The state file, readers in other threads, allocation failures, messages that are refused. What
 * messages mean is tested by vectors, seeds and the fuzzer. */
#include "dialect/berlioz/metadata.h"
#include "mesh/catalog_write.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/test.h"
#include "dialect/berlioz/state.h"
#include "io/sim.h"

struct world {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_own_place place;
	struct sn_catalog *cat;
	struct sn_metadata *md;
	char dir[64];
	unsigned problems, applied;
	char problem[200];
};

static const char *own_place(const char *name, void *arg)
{
	return strcmp(name, "BERLIOZ_CLUSTER") == 0           ? "shop"
			: strcmp(name, "BERLIOZ_SECTOR") == 0 ? "core"
							      : NULL;
}

static void on_problem(struct sn_metadata *md, const struct sn_error *err, void *arg)
{
	struct world *w = arg;

	w->problems++;
	(void)snprintf(w->problem, sizeof(w->problem), "%s", err->text);
}

static void on_applied(struct sn_metadata *md, uint32_t changes, void *arg)
{
	((struct world *)arg)->applied++;
}

static void open_metadata(struct world *w, const char *tag)
{
	struct sn_metadata_options opts = {.loop = w->loop,
			.state_dir = w->dir,
			.state_tag = tag,
			.problem = on_problem,
			.applied = on_applied,
			.arg = w};

	assert_int_equal(sn__catalog_create(w->loop, sn__berlioz_paths, &w->place, &w->cat), 0);
	opts.catalog = w->cat;
	assert_int_equal(sn__metadata_create(&opts, &w->md), 0);
	w->problems = w->applied = 0;
}

static void close_metadata(struct world *w)
{
	sn__metadata_destroy(w->md);
	sn__catalog_destroy(w->cat);
	w->md = NULL;
	w->cat = NULL;
}

static int setup(void **state)
{
	static const struct sn_sim_options opts = {.seed = 5};
	struct world *w = test_calloc(1, sizeof(*w));

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/sinew-state-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(sn__sim_create(&opts, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->loop), 0);
	assert_int_equal(sn__place_init(&w->place, own_place, NULL), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char path[100];

	close_metadata(w);
	sn__loop_close(w->loop, NULL, NULL);
	sn__sim_destroy(w->sim);
	sn__place_finish(&w->place);
	(void)snprintf(path, sizeof(path), "%s/%s", w->dir, SN_STATE_FILE);
	(void)unlink(path);
	(void)rmdir(w->dir);
	test_free(w);
	return sn__mem_live() == 0 ? 0 : -1;
}

static void say(struct world *w, const char *text)
{
	assert_int_equal(sn__metadata_message(w->md, sn_str_from(text)), 0);
	(void)sn__sim_run(w->sim, SN_NEVER_NS);
}

static void registry_is(struct world *w, const char *want)
{
	char *dump = NULL;

	assert_int_equal(sn__metadata_dump(w->md, &dump), 0);
	assert_string_equal(dump, want);
	sn__free(dump);
}

static unsigned peers_of(struct world *w, const char *name)
{
	struct sn_target *t = NULL;

	assert_int_equal(sn__metadata_target(w->md, "service", name, "rest", false, &t), 0);
	return t != NULL && sn__target_peers(t) != NULL ? sn__target_peers(t)->n : 0;
}

/* ---- messages that are refused ---- */

static void problems(void **state)
{
	static const struct {
		const char *text, *problem;
		bool applied;
	} cases[] = {
			{"{\"peers\": {", "message ignored: malformed JSON at byte 11", false},
			{"[1,2]", "message ignored: not a JSON object", false},
			{"", "message ignored: malformed JSON at byte 0", false},
			{"{\"peers\":[]}", "section peers ignored: not an object", true},
			{"{\"consumes\":{}}", "section consumes ignored: not an array", true},
			{"{\"policies\":3}", "section policies ignored: not an object", true},
			{"{\"endpoints\":\"x\"}", "section endpoints ignored: not an object", true},
			{"{\"peers\":{\"service://shop-core-b-rest\":7}}",
					"peers of service://shop-core-b-rest ignored: not an object",
					true},
	};
	struct world *w = *state;
	unsigned applied = 1;

	open_metadata(w, "");
	say(w, "{\"peers\":{\"service\":{\"a\":{\"rest\":{\"1\":{}}}}}}");
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		say(w, cases[i].text);
		assert_int_equal(w->problems, i + 1);
		assert_string_equal(w->problem, cases[i].problem);
		applied += cases[i].applied;
		assert_int_equal(w->applied, applied);
		registry_is(w, "{\"peers\":{\"[\\\"service\\\",\\\"a\\\",\\\"rest\\\"]\":{\"1\":{}}}}");
	}
	assert_int_equal(sn__metadata_messages(w->md), applied);
}

static void deep(void **state)
{
	struct world *w = *state;
	char text[400];
	int n;

	open_metadata(w, "");
	n = snprintf(text, sizeof(text), "{\"policies\":{\"a\":");
	memset(text + n, '[', 200);
	text[n + 200] = '\0';
	say(w, text);
	assert_string_equal(w->problem, "message ignored: nested deeper than 64 levels");
}

static void look_ups(void **state)
{
	struct world *w = *state;
	struct sn_target *t = NULL;
	char *json = NULL;

	open_metadata(w, "");
	assert_int_equal(sn__metadata_target(w->md, "gateway", "x", NULL, true, &t), SN_E_INVALID);
	assert_int_equal(sn__metadata_target(w->md, "service", "", NULL, true, &t), SN_E_INVALID);
	assert_int_equal(sn__metadata_endpoint(w->md, NULL, &json), 0);
	assert_string_equal(json, "{}");
	sn__free(json);
	say(w,
			"{\"peers\":{\"queue\":{\"q\":{\"0\":\"odd\"},\"e\":{}},\"service\":null,\"cluster\":"
			"{\"c\":{\"default\":{\"1\":{}}}}}}");
	assert_int_equal(sn__metadata_target(w->md, "cluster", "c", NULL, false, &t), 0);
	assert_int_equal(sn__target_peers(t)->n, 1);
}

static void prunes(void **state)
{
	struct world *w = *state;
	struct sn_metadata_options opts = {.loop = w->loop, .prune_absent = true};

	assert_int_equal(sn__catalog_create(w->loop, sn__berlioz_paths, &w->place, &w->cat), 0);
	opts.catalog = w->cat;
	assert_int_equal(sn__metadata_create(&opts, &w->md), 0);
	say(w, "{\"peers\":{\"service\":{\"a\":{\"rest\":{\"1\":{}}},\"b\":{\"rest\":{\"1\":{}}}}}}");
	say(w, "{\"peers\":{\"service\":{\"b\":{\"rest\":{\"1\":{}}}}}}");
	assert_int_equal(peers_of(w, "a"), 0);
	assert_int_equal(peers_of(w, "b"), 1);
}

static int keep_work(struct sn_update *u, struct sn_batch *batch)
{
	struct sn_path path = {.n = 3, .part = {SN_STR("service"), SN_STR("kept"), SN_STR("rest")}};

	return sn__batch_keep_peers(batch, &path, SN_STR("{\"1\":{}}"));
}

static void keep_done(struct sn_update *u, int code, uint32_t changes)
{
	assert_int_equal(code, 0);
	assert_int_equal(changes, 1);
}

/* Peers of which no agent knows. */
static void prunes_not_what_is_kept(void **state)
{
	struct world *w = *state;
	struct sn_metadata_options opts = {.loop = w->loop, .prune_absent = true};
	struct sn_update update = {.work = keep_work, .done = keep_done};

	assert_int_equal(sn__catalog_create(w->loop, sn__berlioz_paths, &w->place, &w->cat), 0);
	opts.catalog = w->cat;
	assert_int_equal(sn__metadata_create(&opts, &w->md), 0);
	sn__catalog_submit(w->cat, &update);
	say(w, "{\"peers\":{\"service\":{\"a\":{\"rest\":{\"1\":{}}}}}}");
	say(w, "{\"peers\":{}}");
	assert_int_equal(peers_of(w, "a"), 0);
	assert_int_equal(peers_of(w, "kept"), 1);
}

/* ---- state file ---- */

#define A_AND_B \
	"{\"endpoints\":{\"[]\":{\"rest\":{\"port\":1}},\"[\\\"rest\\\"]\":{\"port\":1}}," \
	"\"policies\":{\"[]\":{\"values\":{}}}," \
	"\"peers\":{\"[\\\"service\\\",\\\"a\\\",\\\"rest\\\"]\":{\"1\":{\"x\":\"\\\"\\u00e9\"}}," \
	"\"[\\\"service://shop-core-b-rest\\\"]\":{\"1\":{\"y\":2},\"2\":{}}}}"

static void state_survives(void **state)
{
	struct world *w = *state;
	struct stat st;
	char path[100];

	open_metadata(w, "ws://agent/task");
	say(w,
			"{\"peers\":{\"service\":{\"a\":{\"rest\":{\"1\":{\"x\":\"\\\"\\u00e9\"}}}},"
			"\"service://shop-core-b-rest\":{\"1\":{\"y\":1},\"2\":{}}},"
			"\"endpoints\":{\"rest\":{\"port\":1}},\"policies\":{\"values\":{}}}");
	(void)snprintf(path, sizeof(path), "%s/%s", w->dir, SN_STATE_FILE);
	assert_int_equal(stat(path, &st), 0); /* the loop ran dry, timers too */
	assert_int_equal(st.st_mode & 0777, 0600);
	/* A change that no timer has written yet is written at the end. */
	assert_int_equal(
			sn__metadata_message(w->md,
					SN_STR("{\"peers\":{\"service://shop-core-b-rest\":{\"1\":{\"y\":2},\"2\":{}}}}")),
			0);
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + 100 * SN_NS_PER_MS);
	close_metadata(w);
	open_metadata(w, "ws://agent/task");
	(void)sn__sim_run(w->sim, SN_NEVER_NS);
	registry_is(w, A_AND_B);
	assert_int_equal(w->problems, 0);
	assert_int_equal(sn__metadata_messages(w->md), 0);
	/* The agent's first word about peers: what it does not know any more is gone. */
	say(w, "{}");
	assert_int_equal(peers_of(w, "a"), 1);
	say(w, "{\"peers\":{\"service://shop-core-b-rest\":{\"1\":{\"y\":2}}}}");
	assert_int_equal(peers_of(w, "a"), 0);
	assert_int_equal(peers_of(w, "b"), 1);
	say(w, "{\"peers\":{\"service\":{\"a\":{\"rest\":{\"1\":{}}}}}}");
	assert_int_equal(peers_of(w, "b"), 1); /* from here on they merge */
}

static void state_of_another_agent(void **state)
{
	struct world *w = *state;

	open_metadata(w, "one");
	say(w, "{\"peers\":{\"service\":{\"a\":{\"rest\":{\"1\":{}}}}}}");
	close_metadata(w);
	open_metadata(w, "other");
	(void)sn__sim_run(w->sim, SN_NEVER_NS);
	registry_is(w, "{}");
	assert_int_equal(w->problems, 1);
	assert_string_equal(w->problem, "state file ignored: of another agent");
}

static void broken_state(void **state)
{
	static const char *const texts[] = {"{\"of\":\"t\",\"registry\":{\"peers\":", "[]", "{}",
			"null", "{\"of\":1,\"registry\":{}}", "{\"of\":\"t\",\"registry\":[]}",
			"{\"of\":\"t\",\"registry\":{\"peers\":{\"x\":{}}}}",
			"{\"of\":\"t\",\"registry\":{\"peers\":{\"[]\":{\"1\":{}},\"[\\\"a\\\"]\":5}}}",
			"\xff\xfe"};
	struct world *w = *state;

	for (size_t i = 0; i < SN_COUNT(texts); i++) {
		assert_int_equal(sn__state_write(w->dir, sn_str_from(texts[i]), NULL), 0);
		open_metadata(w, "t");
		(void)sn__sim_run(w->sim, SN_NEVER_NS);
		assert_int_equal(w->problems, 1);
		assert_int_equal(strncmp(w->problem, "state file ignored: ", 20), 0);
		registry_is(w, "{}");
		say(w, "{\"peers\":{}}"); /* alive, and nothing to write */
		close_metadata(w);
	}
}

#define SHARED_SIZE (64u << 10)

struct writer {
	const char *dir;
	char letter;
	int code; /* of the first failure */
};

static void *write_often(void *arg)
{
	struct writer *wr = arg;
	char *text = malloc(SHARED_SIZE);

	memset(text, wr->letter, SHARED_SIZE);
	for (int i = 0; i < 60 && wr->code == 0; i++)
		wr->code = sn__state_write(wr->dir, (struct sn_str){text, SHARED_SIZE}, NULL);
	free(text);
	return NULL;
}

/* Several programs with one state directory: what is read is always one writer's whole text. */
static void shared_state(void **state)
{
	struct world *w = *state;
	struct writer writers[3] = {{w->dir, 'a', 0}, {w->dir, 'b', 0}, {w->dir, 'c', 0}};
	pthread_t threads[3];

	assert_int_equal(sn__state_write(w->dir, SN_STR(""), NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_often, &writers[i]), 0);
	for (int i = 0; i < 1000; i++) {
		char *text;
		size_t n;

		assert_int_equal(sn__state_read(w->dir, &text, &n, NULL), 0);
		assert_true(n == 0 || (n == SHARED_SIZE && text[0] == text[n - 1]));
		sn__free(text);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(writers[i].code, 0);
	}
}

static void unwritable_state(void **state)
{
	struct world *w = *state;
	char dir[sizeof(w->dir)];

	memcpy(dir, w->dir, sizeof(dir));
	(void)snprintf(w->dir, sizeof(w->dir), "/proc/no-such-directory");
	open_metadata(w, "t");
	say(w, "{\"peers\":{\"service\":{\"a\":{\"rest\":{\"1\":{}}}}}}");
	say(w, "{\"peers\":{\"service\":{\"a\":{\"rest\":{\"2\":{}}}}}}");
	assert_int_equal(w->problems, 1); /* said once */
	assert_non_null(strstr(w->problem, "/proc/no-such-directory"));
	close_metadata(w);
	memcpy(w->dir, dir, sizeof(dir));
}

/* ---- out of memory ---- */

static void out_of_memory(void **state)
{
	struct world *w = *state;
	bool done = false;

	open_metadata(w, "t");
	say(w, "{\"peers\":{\"service\":{\"a\":{\"rest\":{\"1\":{}}}}}}");
	for (uint64_t n = 1; !done; n++) {
		unsigned applied = w->applied;
		int rc;

		sn__mem_fail_nth(n);
		rc = sn__metadata_message(w->md,
				SN_STR("{\"endpoints\":{\"rest\":{}},\"peers\":{"
				       "\"service\":{\"a\":{\"rest\":{\"2\":{},\"3\":{}}}},\"service://shop-core-b\":{"
				       "\"r\\u0065st\":{\"1\":{\"port\":5}}}},\"policies\":{}}"));
		if (rc == 0)
			(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_MS);
		sn__mem_fail_nth(0);
		assert_true(rc == 0 || rc == SN_E_NOMEM);
		done = w->applied > applied;
		if (!done)
			registry_is(w, "{\"peers\":{\"[\\\"service\\\",\\\"a\\\",\\\"rest\\\"]\":{\"1\":{}}}}");
	}
	assert_int_equal(peers_of(w, "a"), 2);
	assert_int_equal(peers_of(w, "b"), 1);
}

static void creation_without_memory(void **state)
{
	struct world *w = *state;
	int rc = SN_E_NOMEM;

	assert_int_equal(sn__state_write(w->dir, SN_STR("{}"), NULL), 0);
	for (uint64_t n = 1; rc < 0; n++) {
		struct sn_metadata_options opts = {.loop = w->loop, .state_dir = w->dir};
		int64_t live = sn__mem_live();

		sn__mem_fail_nth(n);
		rc = sn__catalog_create(w->loop, sn__berlioz_paths, &w->place, &w->cat);
		opts.catalog = w->cat;
		if (rc == 0) {
			rc = sn__metadata_create(&opts, &w->md);
			if (rc < 0) {
				sn__catalog_destroy(w->cat);
				w->cat = NULL;
			}
		}
		sn__mem_fail_nth(0);
		if (rc < 0) {
			assert_int_equal(rc, SN_E_NOMEM);
			assert_true(sn__mem_live() == live);
		}
	}
	(void)sn__sim_run(w->sim, SN_NEVER_NS);
}

/* ---- readers in other threads ---- */

enum { TARGETS = 20, ROUNDS = 300 };

struct readers {
	struct sn_metadata *md;
	struct sn_catalog *cat;
	atomic_bool stop;
	atomic_uint seen;
};

static void check_version(const struct sn_peers *p, uint64_t *last)
{
	assert_true(p->version >= *last); /* never backwards */
	*last = p->version;
	for (uint32_t i = 1; i < p->n; i++) /* all of one message */
		assert_int_equal(p->peers[i].port, p->peers[0].port);
	assert_int_equal(sn__peers_json(p)[0], '{');
}

static int count_paths(struct sn_str path, const struct sn_peers *value, void *arg)
{
	*(unsigned *)arg += value->n;
	return 0;
}

static void *reader(void *arg)
{
	struct readers *r = arg;
	uint64_t last[TARGETS] = {0};
	struct sn_rng rng;

	sn__rng_seed(&rng, (uint64_t)(uintptr_t)&rng);
	while (!atomic_load(&r->stop)) {
		unsigned t = (unsigned)sn__rng_below(&rng, TARGETS), paths = 0;
		struct sn_target *target = NULL;
		const struct sn_peers *p;
		char name[16];

		(void)snprintf(name, sizeof(name), "s%u", t);
		assert_int_equal(sn__metadata_target(r->md, "service", name, "rest",
						 sn__rng_below(&rng, 50) == 0, &target),
				0);
		p = target != NULL ? sn__target_peers_get(target) : NULL;
		if (p != NULL) {
			check_version(p, &last[t]);
			atomic_fetch_add(&r->seen, 1);
		}
		if (sn__rng_below(&rng, 20) == 0)
			assert_int_equal(sn__catalog_each_path(r->cat, SN_SECTION_PEERS,
							 count_paths, &paths),
					0);
		sn__peers_unref(p);
	}
	return NULL;
}

static void write_round(struct world *w, unsigned round)
{
	bool large = round % 10 == 0;
	struct sn_buf b;

	sn__buf_init(&b, 1 << 20);
	assert_int_equal(sn__buf_puts(&b, "{\"peers\":{"), 0);
	for (unsigned t = 0; t < TARGETS; t++) {
		if (!large && t % 7 != round % 7)
			continue;
		assert_int_equal(sn__buf_printf(&b, "%s\"service://shop-core-s%u-rest\":{",
						 b.len > 11 ? "," : "", t),
				0);
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(sn__buf_printf(&b,
							 "%s\"%u\":{\"port\":%u,\"address\":\"a\"}",
							 i > 0 ? "," : "", i, round + 1),
					0);
		assert_int_equal(sn__buf_puts(&b, "}"), 0);
	}
	assert_int_equal(sn__buf_printf(&b, "},\"pad\":\"%0*d\"}", large ? 70000 : 1, 0), 0);
	assert_int_equal(sn__metadata_message(w->md, sn__buf_str(&b)), 0);
	sn__buf_finish(&b);
	while (w->applied <= round)
		(void)sn__loop_run(w->loop, SN_RUN_ONCE);
}

static void threads(void **state)
{
	struct world *w = *state;
	struct sn_loop *sim_loop = w->loop;
	struct readers r = {NULL};
	pthread_t thread[2];

	assert_int_equal(sn__loop_uv_open(NULL, &w->loop, NULL), 0);
	open_metadata(w, "t");
	r.md = w->md;
	r.cat = w->cat;
	for (size_t i = 0; i < SN_COUNT(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, reader, &r), 0);
	for (unsigned round = 0; round < ROUNDS; round++)
		write_round(w, round);
	while (atomic_load(&r.seen) < 1000)
		(void)sn__loop_run(w->loop, SN_RUN_NOWAIT);
	atomic_store(&r.stop, true);
	for (size_t i = 0; i < SN_COUNT(thread); i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	close_metadata(w);
	sn__loop_close(w->loop, NULL, NULL);
	w->loop = sim_loop;
	assert_int_equal(w->problems, 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
			T(problems),
			T(deep),
			T(look_ups),
			T(prunes),
			T(prunes_not_what_is_kept),
			T(state_survives),
			T(state_of_another_agent),
			T(broken_state),
			T(shared_state),
			T(unwritable_state),
			T(out_of_memory),
			T(creation_without_memory),
			T(threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
