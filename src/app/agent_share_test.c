/* SPDX-License-Identifier: Apache-2.0 */
/* Several agents on one store in memory, each with its own way to it that can be cut. */
#include "app/agent_share.h"

#include "base/json.h"
#include "hub/registry_world_test.h"

#define AGENTS 3u

struct one {
	struct way way;
	struct sn_agent_share *share;
	json_t *sections; /* "task|section" -> value */
	json_t *nodes;
	unsigned n_told, n_nodes, n_lines;
	bool ready;
};

struct site {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_hub_store *store;
	struct sn_rng rng;
	struct one agents[AGENTS];
	int64_t live;
};

static int on_section(const char *task, const char *section, json_t *value, void *arg)
{
	struct one *a = arg;
	char key[100];

	const char *text = json_string_value(value);

	if (text != NULL && strspn(text, (const char[]){text[0], '\0'}) != strlen(text))
		fail_msg("a mixture of two");
	a->n_told++;
	(void)snprintf(key, sizeof key, "%s|%s", task, section);
	if (value == NULL) {
		(void)json_object_del(a->sections, key);
		return 0;
	}
	return json_object_set(a->sections, key, value) < 0 ? SN_E_NOMEM : 0;
}

static void on_nodes(json_t *nodes, void *arg)
{
	struct one *a = arg;

	a->n_nodes++;
	json_decref(a->nodes);
	a->nodes = json_incref(nodes);
}

static void on_ready(void *arg)
{
	((struct one *)arg)->ready = true;
}

static void on_state(const char *why, void *arg)
{
}

static void on_log(const char *level, const char *line, void *arg)
{
	((struct one *)arg)->n_lines++;
}

static const struct sn_agent_share_ops ops = {
		.section = on_section, .nodes = on_nodes, .ready = on_ready, .state = on_state};

static void settle(struct site *s)
{
	(void)sn__sim_run(s->sim, sn__sim_now_ns(s->sim) + 20 * SN_NS_PER_S);
}

static void until(struct site *s, const bool *flag)
{
	while (!*flag)
		if (!sn__loop_run(s->loop, SN_RUN_ONCE) && !*flag)
			fail_msg("nothing can happen any more");
}

static void agent_open(struct site *s, unsigned i, bool cut)
{
	struct one *a = &s->agents[i];

	*a = (struct one){.sections = json_object()};
	way_init(&a->way, s->store, &s->rng);
	a->way.cut = cut;
	assert_int_equal(sn__agent_share_open(&a->way.store, &ops, a,
					 &(struct sn_agent_log){on_log, a}, &a->share),
			0);
}

static void set(void *arg)
{
	*(bool *)arg = true;
}

static void agent_close(struct site *s, unsigned i)
{
	struct one *a = &s->agents[i];
	bool closed = false;

	sn__agent_share_close(a->share, set, &closed);
	until(s, &closed);
	json_decref(a->sections);
	json_decref(a->nodes);
	*a = (struct one){0};
}

static int setup(void **state)
{
	static const struct sn_sim_options perfect;
	struct site *s = test_malloc(sizeof *s);

	*s = (struct site){.live = sn__mem_live()};
	assert_int_equal(sn__sim_create(&perfect, &s->sim), 0);
	assert_int_equal(sn__sim_loop(s->sim, &s->loop), 0);
	assert_int_equal(sn__hub_memory_open(s->loop, &s->store), 0);
	sn__rng_seed(&s->rng, 7);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct site *s = *state;
	bool closed = false;

	for (unsigned i = 0; i < AGENTS; i++)
		if (s->agents[i].share != NULL)
			agent_close(s, i);
	s->store->ops->close(s->store, set, &closed);
	until(s, &closed);
	sn__loop_close(s->loop, NULL, NULL);
	sn__sim_destroy(s->sim);
	assert_int_equal(sn__mem_live(), s->live);
	test_free(s);
	return 0;
}

/* ---- storing ---- */

struct stored {
	int code;
	bool done;
	char text[200];
};

static void on_stored(int code, const struct sn_error *err, void *arg)
{
	struct stored *st = arg;

	assert_false(st->done);
	st->done = true;
	st->code = code;
	(void)snprintf(st->text, sizeof st->text, "%s", code < 0 ? err->text : "");
}

/* Submit; the result follows while the world turns. */
static int put(struct site *s, unsigned i, const char *task, const char *section, const char *value,
		struct stored *st)
{
	struct sn_agent_puts *puts;
	struct sn_error err;
	json_t *json = NULL;
	int r;

	*st = (struct stored){0};
	if (sn__json_parse(sn_str_from(value), SIZE_MAX, &json, NULL) < 0)
		return SN_E_NOMEM;
	r = sn__agent_puts_create(s->agents[i].share, on_stored, st, &puts);
	if (r == 0) {
		r = sn__agent_puts_add(puts, task, section, json, &err);
		if (r == 0)
			sn__agent_puts_start(puts);
		else
			sn__agent_puts_destroy(puts);
	}
	json_decref(json);
	return r;
}

static void put_now(struct site *s, unsigned i, const char *task, const char *section,
		const char *value, int code)
{
	struct stored st;

	assert_int_equal(put(s, i, task, section, value, &st), 0);
	assert_false(st.done);
	until(s, &st.done);
	assert_int_equal(st.code, code);
}

static void expect(const struct one *a, const char *key, const char *value)
{
	const json_t *json = json_object_get(a->sections, key);
	char *text = json != NULL ? sn__json_text(json) : NULL;

	assert_string_equal(text != NULL ? text : "", value);
	sn__free(text);
}

static void hub_done(struct sn_hub_op *op, int code)
{
	assert_int_equal(code, 0);
	op->engine[3] = op;
}

/* As a hub, or an operator with etcdctl, would. */
static void hub_op(struct site *s, enum sn_hub_op_kind kind, const char *key, const char *value)
{
	struct sn_hub_op op = {.kind = kind,
			.key = sn_str_from(key),
			.value = sn_str_from(value),
			.if_revision = SN_HUB_ANY,
			.done = hub_done};

	sn_hub_submit(s->store, &op);
	settle(s);
	assert_ptr_equal(op.engine[3], &op);
}

/* ---- tests ---- */

static void reaches_all(void **state)
{
	struct site *s = *state;

	agent_open(s, 0, false);
	agent_open(s, 1, false);
	assert_false(sn__agent_share_ready(s->agents[0].share));
	settle(s);
	assert_true(s->agents[0].ready && s->agents[1].ready);
	put_now(s, 0, "t1", "peers", "{\"a\":1}", 0);
	expect(&s->agents[0], "t1|peers", "{\"a\":1}"); /* before the answer, not after */
	put_now(s, 1, "t1", "policies", "null", 0);
	put_now(s, 1, "t2", "a/b", "[1,2]", 0);
	put_now(s, 1, "t1", "peers", "{\"a\":2}", 0);
	settle(s);
	agent_open(s, 2, false);
	settle(s);
	for (unsigned i = 0; i < AGENTS; i++) {
		const struct one *a = &s->agents[i];

		expect(a, "t1|peers", "{\"a\":2}");
		expect(a, "t1|policies", "null");
		expect(a, "t2|a/b", "[1,2]");
		assert_true(sn__agent_share_has(a->share, "t1", "peers"));
		assert_false(sn__agent_share_has(a->share, "t1", "peer"));
		assert_int_equal(a->n_told, i == 2 ? 3 : 4); /* each change once */
	}
	hub_op(s, SN_HUB_REMOVE, "agent/t1/peers", NULL);
	expect(&s->agents[1], "t1|peers", "");
	assert_false(sn__agent_share_has(s->agents[1].share, "t1", "peers"));
	hub_op(s, SN_HUB_PUT, "agent/t1/peers", "{nonsense");
	hub_op(s, SN_HUB_PUT, "agent/odd", "{}");
	assert_int_equal(s->agents[1].n_lines, 1);
	expect(&s->agents[1], "t1|policies", "null");
}

static void nodes(void **state)
{
	struct site *s = *state;
	struct one *a = &s->agents[0];

	hub_op(s, SN_HUB_PUT, "nodes/lamp", "{\"address\":\"10.0.0.7:5102\",\"owner\":\"h\"}");
	agent_open(s, 0, false);
	settle(s);
	assert_int_equal(a->n_nodes, 1);
	char *text = sn__json_text(a->nodes);

	assert_string_equal(text,
			"{\"lamp\":{\"1\":{\"protocol\":\"microhome\",\"address\":\"10.0.0.7\","
			"\"port\":5102}}}");
	sn__free(text);
	hub_op(s, SN_HUB_PUT, "nodes/odd", "[]");
	hub_op(s, SN_HUB_PUT, "nodes/name", "{\"address\":\"host:1\"}");
	hub_op(s, SN_HUB_PUT, "nodes/door", "{\"address\":\"10.0.0.8:1\"}");
	assert_int_equal(json_object_size(a->nodes), 2);
	hub_op(s, SN_HUB_REMOVE, "nodes/lamp", NULL);
	assert_int_equal(json_object_size(a->nodes), 1);
	assert_non_null(json_object_get(a->nodes, "door"));
}

static void cut_off_and_back(void **state)
{
	struct site *s = *state;
	struct one *a = &s->agents[1];

	agent_open(s, 0, false);
	agent_open(s, 1, false);
	settle(s);
	put_now(s, 0, "t", "old", "1", 0);
	put_now(s, 0, "t", "gone", "1", 0);
	hub_op(s, SN_HUB_PUT, "nodes/n", "{\"address\":\"10.0.0.7:1\"}");
	a->way.cut = true;
	put_now(s, 1, "t", "x", "1", SN_E_CONNECT);
	put_now(s, 0, "t", "new", "2", 0);
	put_now(s, 0, "t", "old", "2", 0);
	hub_op(s, SN_HUB_REMOVE, "agent/t/gone", NULL);
	hub_op(s, SN_HUB_REMOVE, "nodes/n", NULL);
	/* The last known state stays. */
	expect(a, "t|old", "1");
	expect(a, "t|gone", "1");
	assert_int_equal(json_object_size(a->nodes), 1);
	way_heal(&a->way);
	settle(s);
	expect(a, "t|old", "2");
	expect(a, "t|new", "2");
	expect(a, "t|gone", "");
	assert_int_equal(json_object_size(a->nodes), 0);
	/* One that starts without the store waits for it. */
	agent_open(s, 2, true);
	settle(s);
	assert_false(s->agents[2].ready);
	way_heal(&s->agents[2].way);
	settle(s);
	assert_true(s->agents[2].ready);
	assert_true(json_equal(s->agents[2].sections, a->sections));
}

/* The answer to a report comes when others have heard of it and removed it again: it stays removed. */
static void answered_late(void **state)
{
	struct site *s = *state;
	struct one *a = &s->agents[0];
	struct stored st;

	agent_open(s, 0, false);
	settle(s);
	a->way.delay_ms = 10000000;
	assert_int_equal(put(s, 0, "t", "s", "1", &st), 0);
	hub_op(s, SN_HUB_REMOVE, "agent/t/s", NULL);
	assert_false(st.done);
	expect(a, "t|s", "");
	until(s, &st.done);
	assert_int_equal(st.code, 0);
	expect(a, "t|s", "");
	assert_false(sn__agent_share_has(a->share, "t", "s"));
}

static void limits(void **state)
{
	struct site *s = *state;
	char *value = test_malloc(SN_HUB_VALUE_MAX + 2), task[SN_HUB_KEY_MAX + 1];
	struct stored st;

	agent_open(s, 0, false);
	settle(s);
	memset(value, '1', SN_HUB_VALUE_MAX + 1);
	value[0] = value[SN_HUB_VALUE_MAX] = '"';
	value[SN_HUB_VALUE_MAX + 1] = '\0';
	memset(task, 'x', sizeof task);
	task[sizeof task - 1] = '\0';
	assert_int_equal(put(s, 0, task, "s", "1", &st), SN_E_LIMIT);
	task[sizeof task - 30] = '\0';
	assert_int_equal(put(s, 0, task, "s", value, &st), SN_E_LIMIT); /* it would be in pieces */
	task[sizeof task - 61] = '\0';
	put_now(s, 0, task, "s", value, 0);
	value[SN_HUB_VALUE_MAX - 1] = '"';
	value[SN_HUB_VALUE_MAX] = '\0';
	put_now(s, 0, "t", "s", value, 0);
	test_free(value);
}

/* ---- in pieces ---- */

/* @n bytes of JSON: one character over and over, so that a mixture shows. */
static char *big_value(size_t n, char c)
{
	char *text = test_malloc(n + 1);

	memset(text, c, n);
	text[0] = text[n - 1] = '"';
	text[n] = '\0';
	return text;
}

static void put_big(struct site *s, unsigned i, const char *section, size_t n, char c, int code)
{
	char *value = big_value(n, c);

	put_now(s, i, "t", section, value, code);
	test_free(value);
}

/* What @a was told of it is @n bytes of @c. */
static void expect_big(const struct one *a, const char *key, size_t n, char c)
{
	char *value = big_value(n, c);

	expect(a, key, value);
	test_free(value);
}

struct count {
	struct sn_hub_op op; /* first */
	unsigned n;
	bool done;
};

static void count_entry(struct sn_hub_op *op, const struct sn_hub_entry *e)
{
	((struct count *)op)->n++;
}

static void count_done(struct sn_hub_op *op, int code)
{
	assert_int_equal(code, 0);
	((struct count *)op)->done = true;
}

static unsigned n_pieces(struct site *s)
{
	struct count c = {.op = {.kind = SN_HUB_RANGE,
					  .key = SN_STR("agent//"),
					  .entry = count_entry,
					  .done = count_done}};

	sn_hub_submit(s->store, &c.op);
	until(s, &c.done);
	return c.n;
}

#define BIG (SN_HUB_VALUE_MAX + 100u) /* two pieces */

static void in_pieces(void **state)
{
	struct site *s = *state;

	agent_open(s, 0, false);
	agent_open(s, 1, false);
	settle(s);
	put_big(s, 0, "s", BIG, 'a', 0);
	expect_big(&s->agents[0], "t|s", BIG, 'a');
	assert_int_equal(n_pieces(s), 2);
	agent_open(s, 2, false);
	settle(s);
	for (unsigned i = 1; i < AGENTS; i++)
		expect_big(&s->agents[i], "t|s", BIG, 'a');
	put_big(s, 1, "s", BIG + 1, 'b', 0);
	put_big(s, 1, "-/x", BIG - 5, 'c', 0);
	assert_int_equal(n_pieces(s), 2 + 2 + 2); /* what is replaced is read by some for a while */
	settle(s);
	assert_int_equal(n_pieces(s), 2 + 2);
	for (unsigned i = 0; i < AGENTS; i++) {
		expect_big(&s->agents[i], "t|s", BIG + 1, 'b');
		expect_big(&s->agents[i], "t|-/x", BIG - 5, 'c');
		assert_true(sn__agent_share_has(s->agents[i].share, "t", "s"));
	}
	put_now(s, 2, "t", "s", "1", 0);
	hub_op(s, SN_HUB_REMOVE, "agent/t/-/x", NULL);
	settle(s);
	assert_int_equal(n_pieces(s), 0);
	for (unsigned i = 0; i < AGENTS; i++) {
		expect(&s->agents[i], "t|s", "1");
		expect(&s->agents[i], "t|-/x", "");
		assert_int_equal(s->agents[i].n_lines, 0);
	}
}

/* A head whose pieces somebody has removed keeps nobody from the rest. */
static void pieces_missing(void **state)
{
	struct site *s = *state;

	hub_op(s, SN_HUB_PUT, "agent/t/broken", "@1-0 1 1");
	hub_op(s, SN_HUB_PUT, "agent/t/odd", "@1-0 1");
	hub_op(s, SN_HUB_PUT, "agent/t/odder", "@1-0 1 x");
	hub_op(s, SN_HUB_PUT, "agent/t/nothing", "@");
	hub_op(s, SN_HUB_PUT, "agent/t/fine", "1");
	hub_op(s, SN_HUB_PUT, "agent//", "x");
	hub_op(s, SN_HUB_PUT, "agent//a", "x");
	agent_open(s, 0, false);
	settle(s);
	assert_true(s->agents[0].ready);
	assert_int_equal(s->agents[0].n_lines, 3);
	assert_int_equal(json_object_size(s->agents[0].sections), 1);
	assert_false(sn__agent_share_has(s->agents[0].share, "t", "nothing"));
	put_big(s, 0, "broken", BIG, 'a', 0);
	put_big(s, 0, "nothing", BIG, 'b', 0);
	expect_big(&s->agents[0], "t|broken", BIG, 'a');
	expect_big(&s->agents[0], "t|nothing", BIG, 'b');
}

/* A writer ends without a word after any of its steps: the others have the old or the new section,
 * whole, and the next writer leaves nothing behind. */
static void writer_dies(void **state)
{
	struct site *s = *state;
	bool was_new = false;

	agent_open(s, 1, false);
	for (unsigned steps = 0; !was_new; steps++) {
		char *value = big_value(BIG, 'n');
		struct stored st;
		const char *text;

		for (unsigned first = 0; first < 2; first++) {
			const char *section = first ? "first" : "s";

			put_big(s, 1, "s", BIG, 'o', 0);
			agent_open(s, 0, false);
			settle(s);
			s->agents[0].way.delay_ms = 10;
			assert_int_equal(put(s, 0, "t", section, value, &st), 0);
			(void)sn__sim_run(
					s->sim, sn__sim_now_ns(s->sim) + steps * 5 * SN_NS_PER_MS);
			was_new = st.done;
			s->agents[0].way.cut = true;
			agent_close(s, 0);
			agent_open(s, 2, false);
			settle(s);
			for (unsigned i = 1; i < AGENTS; i++) {
				const json_t *json = json_object_get(
						s->agents[i].sections, first ? "t|first" : "t|s");

				text = json_string_value(json);
				if (text == NULL) {
					assert_true(first && !was_new);
					continue;
				}
				assert_int_equal(strlen(text), BIG - 2);
				assert_true(*text == 'n' || (*text == 'o' && !first && !was_new));
			}
			agent_close(s, 2);
			put_big(s, 1, section, BIG, 'm', 0);
			settle(s);
			assert_int_equal(n_pieces(s), first ? 4 : 2);
		}
		hub_op(s, SN_HUB_REMOVE, "agent/t/first", NULL);
		settle(s);
		assert_int_equal(n_pieces(s), 2);
		test_free(value);
	}
}

/* Closed in the middle: every report is answered. */
static void closing(void **state)
{
	struct site *s = *state;
	struct stored st;

	agent_open(s, 0, false);
	settle(s);
	s->agents[0].way.delay_ms = 50;
	assert_int_equal(put(s, 0, "t", "s", "1", &st), 0);
	agent_close(s, 0);
	assert_true(st.done);
	agent_open(s, 0, false); /* closed while it reads */
	agent_close(s, 0);
}

/* Reports at all agents at once, ways that refuse, lose answers and are cut: in the end all say the
 * same, which is what the store has. */
static void same_in_the_end(void **state)
{
	struct site *s = *state;
	static struct stored st[400];

	for (unsigned i = 0; i < AGENTS; i++) {
		agent_open(s, i, false);
		s->agents[i].way.delay_ms = 30;
		s->agents[i].way.refuse = s->agents[i].way.lose = 50;
	}
	settle(s);
	for (unsigned n = 0; n < SN_COUNT(st); n++) {
		unsigned i = (unsigned)sn__rng_below(&s->rng, AGENTS);
		char task[8], section[8], value[16];

		(void)snprintf(task, sizeof task, "t%u", (unsigned)sn__rng_below(&s->rng, 5));
		(void)snprintf(section, sizeof section, "s%u", (unsigned)sn__rng_below(&s->rng, 3));
		(void)snprintf(value, sizeof value, "%u", n);
		if (n % 8 == 0) {
			char *big = big_value(SN_HUB_VALUE_MAX + n, (char)('a' + n / 8 % 26));

			assert_int_equal(put(s, i, task, section, big, &st[n]), 0);
			test_free(big);
		} else {
			assert_int_equal(put(s, i, task, section, value, &st[n]), 0);
		}
		if (sn__rng_below(&s->rng, 40) == 0)
			s->agents[i].way.cut = true;
		if (sn__rng_below(&s->rng, 20) == 0)
			way_heal(&s->agents[i].way);
		(void)sn__sim_run(s->sim,
				sn__sim_now_ns(s->sim) + sn__rng_below(&s->rng, 20 * SN_NS_PER_MS));
	}
	for (unsigned i = 0; i < AGENTS; i++) {
		s->agents[i].way.refuse = s->agents[i].way.lose = 0;
		way_heal(&s->agents[i].way);
	}
	settle(s);
	for (unsigned n = 0; n < SN_COUNT(st); n++)
		assert_true(st[n].done);
	assert_int_equal(json_object_size(s->agents[0].sections), 15);
	for (unsigned i = 1; i < AGENTS; i++)
		assert_true(json_equal(s->agents[i].sections, s->agents[0].sections));
	/* No piece of all that was begun stays behind. */
	for (unsigned n = 0; n < 15; n++) {
		char task[8], section[8];

		(void)snprintf(task, sizeof task, "t%u", n / 3);
		(void)snprintf(section, sizeof section, "s%u", n % 3);
		put_now(s, 0, task, section, "0", 0);
	}
	settle(s);
	settle(s);
	assert_int_equal(n_pieces(s), 0);
}

/* Whatever is short of memory for a while: afterwards all is there. */
static void no_memory(void **state)
{
	struct site *s = *state;
	struct stored st;

	agent_open(s, 0, false);
	hub_op(s, SN_HUB_PUT, "nodes/n", "{\"address\":\"10.0.0.7:1\"}");
	put_now(s, 0, "t", "s", "{\"a\":[1]}", 0);
	char *big = big_value(BIG, 'x');

	for (unsigned n = 1; n < 120; n++) {
		struct one *a = &s->agents[1];
		char value[24];
		int r;

		*a = (struct one){.sections = json_object()};
		way_init(&a->way, s->store, &s->rng);
		sn__mem_fail_nth(n);
		r = sn__agent_share_open(&a->way.store, &ops, a, &(struct sn_agent_log){on_log, a},
				&a->share);
		if (r < 0) {
			sn__mem_fail_nth(0);
			assert_int_equal(r, SN_E_NOMEM);
			json_decref(a->sections);
			*a = (struct one){0};
			continue;
		}
		(void)snprintf(value, sizeof value, "%u", n);
		r = put(s, 1, "t", "n", n % 2 ? value : big, &st);
		settle(s);
		sn__mem_fail_nth(0);
		settle(s);
		if (r == 0 && st.code == 0)
			expect(&s->agents[0], "t|n", n % 2 ? value : big);
		expect(a, "t|s", "{\"a\":[1]}");
		assert_int_equal(json_object_size(a->nodes), 1);
		assert_true(json_equal(a->sections, s->agents[0].sections));
		agent_close(s, 1);
	}
	test_free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(reaches_all, setup, teardown),
			cmocka_unit_test_setup_teardown(nodes, setup, teardown),
			cmocka_unit_test_setup_teardown(cut_off_and_back, setup, teardown),
			cmocka_unit_test_setup_teardown(answered_late, setup, teardown),
			cmocka_unit_test_setup_teardown(limits, setup, teardown),
			cmocka_unit_test_setup_teardown(in_pieces, setup, teardown),
			cmocka_unit_test_setup_teardown(pieces_missing, setup, teardown),
			cmocka_unit_test_setup_teardown(writer_dies, setup, teardown),
			cmocka_unit_test_setup_teardown(closing, setup, teardown),
			cmocka_unit_test_setup_teardown(same_in_the_end, setup, teardown),
			cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
