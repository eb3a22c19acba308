/* SPDX-License-Identifier: Apache-2.0 */
/* A follower of a store in memory, over a way that is slow, refuses, loses answers and is cut. */
#include "hub/follow.h"

#include "hub/registry_world_test.h"

#define KEYS 20u

struct item {
	char *value; /* NULL: none */
	uint64_t revision;
	uint32_t generation;
};

struct site {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_hub_store *store;
	struct sn_rng rng;
	struct way way;
	struct sn_hub_follow follow;
	struct item items[KEYS];
	unsigned n_seen, n_read, n_failed, n_often, n_stopped;
	uint64_t failed_ns[12];
	int64_t live;
	bool open;
};

static struct item *item_of(struct site *s, struct sn_str key)
{
	uint64_t n = 0;

	assert_int_equal(sn__parse_u64((struct sn_str){key.ptr + 1, key.len - 1}, KEYS - 1, &n), 0);
	return &s->items[n];
}

/* As follow.h says an owner does. */
static void hear(struct site *s, struct item *item, const struct sn_hub_entry *entry,
		enum sn_hub_seen how)
{
	char *value = NULL;

	if (how == SN_HUB_BY_RANGE)
		item->generation = s->follow.generation;
	if (entry->revision <= item->revision)
		return;
	if (how != SN_HUB_REMOVED)
		value = sn__strndup(entry->value.ptr, entry->value.len);
	if (how != SN_HUB_REMOVED && value == NULL) {
		sn__hub_follow_again(&s->follow);
		return;
	}
	sn__free(item->value);
	item->value = value;
	item->revision = entry->revision;
}

static void on_seen(struct sn_hub_follow *f, struct sn_str key, const struct sn_hub_entry *entry,
		enum sn_hub_seen how)
{
	struct site *s = f->arg;

	s->n_seen++;
	hear(s, item_of(s, key), entry, how);
}

static void on_read(struct sn_hub_follow *f, uint64_t revision)
{
	struct site *s = f->arg;

	s->n_read++;
	assert_false(f->reading);
	assert_true(f->told >= revision);
	for (unsigned i = 0; i < KEYS; i++) {
		struct item *item = &s->items[i];

		if (item->generation == f->generation || item->revision > revision)
			continue;
		sn__free(item->value);
		item->value = NULL;
		item->revision = revision;
	}
}

static void on_failed(struct sn_hub_follow *f, int code, const struct sn_error *err, bool often)
{
	struct site *s = f->arg;

	assert_true(code < 0);
	assert_int_not_equal(err->text[0], '\0');
	if (s->n_failed < SN_COUNT(s->failed_ns))
		s->failed_ns[s->n_failed] = sn__sim_now_ns(s->sim);
	s->n_failed++;
	s->n_often += often;
}

static void on_stopped(struct sn_hub_follow *f)
{
	((struct site *)f->arg)->n_stopped++;
}

static void pass(struct site *s, uint64_t ms)
{
	(void)sn__sim_run(s->sim, sn__sim_now_ns(s->sim) + sn_ms_to_ns(ms));
}

static void until(struct site *s, const bool *flag)
{
	while (!*flag)
		if (!sn__loop_run(s->loop, SN_RUN_ONCE) && !*flag)
			fail_msg("nothing can happen any more");
}

static void follow_open(struct site *s)
{
	way_init(&s->way, s->store, &s->rng);
	s->follow = (struct sn_hub_follow){.store = &s->way.store,
			.prefix = SN_STR("p/"),
			.seen = on_seen,
			.read = on_read,
			.failed = on_failed,
			.stopped = on_stopped,
			.arg = s};
	s->open = true;
}

static void follow_close(struct site *s)
{
	unsigned expect = s->n_stopped;

	if (!s->open)
		return;
	expect += s->follow.reading;
	sn__hub_follow_stop(&s->follow);
	pass(s, 1000);
	assert_int_equal(s->n_stopped, expect);
	assert_true(sn_list_empty(&s->way.ops) && sn_list_empty(&s->way.watches));
	for (unsigned i = 0; i < KEYS; i++)
		sn__free(s->items[i].value);
	memset(s->items, 0, sizeof s->items);
	s->open = false;
}

static int setup(void **state)
{
	static const struct sn_sim_options perfect;
	struct site *s = test_malloc(sizeof *s);

	*s = (struct site){.live = sn__mem_live()};
	assert_int_equal(sn__sim_create(&perfect, &s->sim), 0);
	assert_int_equal(sn__sim_loop(s->sim, &s->loop), 0);
	assert_int_equal(sn__hub_memory_open(s->loop, &s->store), 0);
	sn__rng_seed(&s->rng, 3);
	follow_open(s);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct site *s = *state;
	bool closed = false;

	follow_close(s);
	s->store->ops->close(s->store, world_set, &closed);
	pass(s, 10);
	assert_true(closed);
	sn__loop_close(s->loop, NULL, NULL);
	sn__sim_destroy(s->sim);
	assert_int_equal(sn__mem_live(), s->live);
	test_free(s);
	return 0;
}

/* A change by somebody else, or (@own) by the follower's owner over its way. */
struct change {
	struct sn_hub_op op; /* first */
	struct site *site;
	char key[8], value[12];
	bool own, done;
};

static void changed(struct sn_hub_op *op, int code)
{
	struct change *c = (struct change *)op;
	struct sn_hub_entry entry = {.value = op->value, .revision = op->revision};

	c->done = true;
	if (code == 0 && c->own && op->revision > c->site->follow.told)
		hear(c->site, item_of(c->site, sn_str_from(c->key + 2)), &entry,
				op->kind == SN_HUB_PUT ? SN_HUB_BY_WATCH : SN_HUB_REMOVED);
}

/* @value 0: remove it. */
static void change(struct site *s, struct change *c, bool own, unsigned key, unsigned value)
{
	*c = (struct change){.site = s, .own = own};
	(void)snprintf(c->key, sizeof c->key, "p/k%u", key);
	(void)snprintf(c->value, sizeof c->value, "%u", value);
	c->op = (struct sn_hub_op){.kind = value != 0 ? SN_HUB_PUT : SN_HUB_REMOVE,
			.key = sn_str_from(c->key),
			.value = sn_str_from(c->value),
			.if_revision = SN_HUB_ANY,
			.done = changed};
	sn_hub_submit(own ? &s->way.store : s->store, &c->op);
}

static void change_now(struct site *s, unsigned key, unsigned value)
{
	struct change c;

	change(s, &c, false, key, value);
	until(s, &c.done);
}

static const char *value(const struct site *s, unsigned key)
{
	return s->items[key].value != NULL ? s->items[key].value : "";
}

/* ---- what the store has, by a reading of its own ---- */

struct truth {
	struct sn_hub_op op; /* first */
	char values[KEYS][12];
	bool done;
};

static void truth_entry(struct sn_hub_op *op, const struct sn_hub_entry *e)
{
	struct truth *t = (struct truth *)op;
	uint64_t n = 0;

	assert_int_equal(sn__parse_u64((struct sn_str){e->key.ptr + 3, e->key.len - 3}, KEYS - 1,
					 &n),
			0);
	(void)snprintf(t->values[n], sizeof t->values[n], "%.*s", (int)e->value.len, e->value.ptr);
}

static void truth_done(struct sn_hub_op *op, int code)
{
	assert_int_equal(code, 0);
	((struct truth *)op)->done = true;
}

static void expect_truth(struct site *s)
{
	struct truth t = {.op = {.kind = SN_HUB_RANGE,
					  .key = SN_STR("p/"),
					  .entry = truth_entry,
					  .done = truth_done}};

	sn_hub_submit(s->store, &t.op);
	until(s, &t.done);
	for (unsigned i = 0; i < KEYS; i++)
		assert_string_equal(value(s, i), t.values[i]);
}

/* ---- tests ---- */

static void reads_and_watches(void **state)
{
	struct site *s = *state;

	change_now(s, 1, 11);
	change_now(s, 2, 22);
	sn__hub_follow_start(&s->follow);
	assert_true(s->follow.reading);
	assert_int_equal(s->n_seen, 0);
	pass(s, 10);
	assert_int_equal(s->n_read, 1);
	assert_true(s->follow.watching);
	assert_string_equal(value(s, 1), "11");
	change_now(s, 1, 0);
	change_now(s, 3, 33);
	change_now(s, 3, 34);
	pass(s, 10);
	assert_int_equal(s->n_seen, 5); /* each once */
	assert_int_equal(s->n_read, 1);
	assert_int_equal(s->follow.told, s->items[3].revision);
	expect_truth(s);
}

static void comes_back_later_and_later(void **state)
{
	static const uint64_t pauses[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};
	struct site *s = *state;

	s->way.cut = true;
	sn__hub_follow_start(&s->follow);
	pass(s, 26000);
	assert_int_equal(s->n_failed, 10);
	assert_int_equal(s->n_often, 3);
	for (unsigned i = 0; i < SN_COUNT(pauses); i++)
		assert_in_range(sn_ns_to_ms(s->failed_ns[i + 1] - s->failed_ns[i]), pauses[i],
				pauses[i] + 20); /* a turn takes time */
	assert_int_equal(s->n_read, 0);
	change_now(s, 4, 44);
	way_heal(&s->way);
	pass(s, 5000);
	assert_int_equal(s->n_read, 1);
	expect_truth(s);
	sn__hub_follow_again(&s->follow); /* it has forgotten its patience */
	sn__hub_follow_again(&s->follow);
	pass(s, 90);
	assert_int_equal(s->n_read, 1);
	pass(s, 50);
	assert_int_equal(s->n_read, 2);
}

static void missed_while_reading(void **state)
{
	struct site *s = *state;

	sn__hub_follow_start(&s->follow);
	sn__hub_follow_again(&s->follow);
	pass(s, 50);
	assert_int_equal(s->n_read, 0); /* of half a list nothing is concluded */
	assert_false(s->follow.watching);
	pass(s, 100);
	assert_int_equal(s->n_read, 1);
	assert_int_equal(s->n_failed, 0);
}

static void loses_its_place(void **state)
{
	struct site *s = *state;

	for (unsigned i = 0; i < 5; i++)
		change_now(s, i, i + 1);
	sn__hub_follow_start(&s->follow);
	pass(s, 10);
	s->way.cut = true;
	change_now(s, 0, 0);
	change_now(s, 1, 100);
	change_now(s, 9, 9);
	pass(s, 10);
	assert_string_equal(value(s, 0), "1");
	way_heal(&s->way);
	pass(s, 10); /* at once */
	assert_int_equal(s->follow.lost, 1);
	assert_int_equal(s->n_read, 2);
	expect_truth(s);
}

/* The watch has told of a removal before the put's own end comes: it stays removed. */
static void own_change_late(void **state)
{
	struct site *s = *state;
	struct change c;

	sn__hub_follow_start(&s->follow);
	pass(s, 10);
	s->way.delay_ms = 1000;
	change(s, &c, true, 5, 5);
	pass(s, 0);
	change_now(s, 5, 0);
	assert_false(c.done);
	pass(s, 1000);
	assert_true(c.done);
	expect_truth(s);
}

static void stops(void **state)
{
	struct site *s = *state;

	change_now(s, 1, 1);
	s->way.delay_ms = 100;
	sn__hub_follow_start(&s->follow);
	sn__hub_follow_stop(&s->follow);
	assert_int_equal(s->n_stopped, 0);
	pass(s, 200);
	assert_int_equal(s->n_stopped, 1);
	assert_int_equal(s->n_seen + s->n_read, 0);
	follow_open(s); /* while it waits to read again */
	s->way.cut = true;
	sn__hub_follow_start(&s->follow);
	pass(s, 10);
	assert_false(s->follow.reading);
	follow_close(s);
	follow_open(s); /* while it watches */
	sn__hub_follow_start(&s->follow);
	pass(s, 10);
	sn__hub_follow_stop(&s->follow);
	change_now(s, 1, 2);
	assert_string_equal(value(s, 1), "1");
	assert_int_equal(s->n_stopped, 1);
}

/* Changes by others and its own, whatever the way does: in the end it has what the store has. */
static void same_in_the_end(void **state)
{
	static struct change changes[150];
	struct site *s = *state;

	for (unsigned round = 0; round < 40; round++) {
		sn__hub_follow_start(&s->follow);
		s->way.refuse = s->way.lose = 50;
		s->way.delay_ms = 30;
		for (unsigned i = 0; i < SN_COUNT(changes); i++) {
			uint64_t dice = sn__rng_below(&s->rng, 100);

			change(s, &changes[i], dice < 40, (unsigned)sn__rng_below(&s->rng, KEYS),
					dice % 3 == 0 ? 0 : i + 1);
			if (dice == 50)
				s->way.cut = true;
			else if (dice < 55)
				way_heal(&s->way);
			pass(s, sn__rng_below(&s->rng, 20));
		}
		s->way.refuse = s->way.lose = 0;
		way_heal(&s->way);
		pass(s, 11000);
		expect_truth(s);
		follow_close(s);
		follow_open(s);
	}
}

static void no_memory(void **state)
{
	struct site *s = *state;
	struct change c;
	unsigned n = 0;
	bool failed = true;

	for (unsigned i = 0; i < KEYS / 2; i++)
		change_now(s, i, i + 1);
	while (failed) {
		sn__mem_fail_nth(++n);
		sn__hub_follow_start(&s->follow);
		pass(s, 10);
		change(s, &c, true, 15, 15);
		pass(s, 10);
		change(s, &c, false, 3, 0);
		pass(s, 10);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		pass(s, 11000);
		expect_truth(s);
		follow_close(s);
		follow_open(s);
		change_now(s, 3, 4);
		change_now(s, 15, 0);
	}
	assert_true(n > KEYS / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(reads_and_watches, setup, teardown),
			cmocka_unit_test_setup_teardown(
					comes_back_later_and_later, setup, teardown),
			cmocka_unit_test_setup_teardown(missed_while_reading, setup, teardown),
			cmocka_unit_test_setup_teardown(loses_its_place, setup, teardown),
			cmocka_unit_test_setup_teardown(own_change_late, setup, teardown),
			cmocka_unit_test_setup_teardown(stops, setup, teardown),
			cmocka_unit_test_setup_teardown(same_in_the_end, setup, teardown),
			cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
