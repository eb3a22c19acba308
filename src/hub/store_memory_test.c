/* SPDX-License-Identifier: Apache-2.0 */
/* The store in memory: the conformance suite on both loops, and its treap against a plain model. */
#include "hub/store_test.h"

static int memory_open(struct store_world *w, struct sn_hub_store **ret_store)
{
	return sn__hub_memory_open(w->loop, ret_store);
}

static const struct store_engine memory = {
		.name = "memory",
		.open = memory_open,
		.history = 4100,
		.sweep = true,
		.ttl_ms = 120,
		.late_ms = 30,
};

static int setup_sim(void **state)
{
	static const struct sn_sim_options perfect;

	return store_world_open(&memory, &perfect, state);
}

static int setup_uv(void **state)
{
	return store_world_open(&memory, NULL, state);
}

static void no_memory(void **state)
{
	struct store_world *w = *state;
	struct sn_hub_store *store = NULL;

	sn__mem_fail_nth(1);
	assert_int_equal(sn__hub_memory_open(w->loop, &store), SN_E_NOMEM);
	sn__mem_fail_nth(0);
	assert_null(store);
}

/* Random puts and removals of 200 keys in any order against a table of them; a watch, told along,
 * has the same table. */
struct model {
	struct sn_hub_watch w; /* first */
	char values[200][8], told[200][8];
	char text[8192];
	size_t len;
};

static unsigned number_of(struct sn_str key)
{
	uint64_t n = 1000;

	assert_int_equal(sn__parse_u64((struct sn_str){key.ptr + 1, key.len - 1}, 199, &n), 0);
	return (unsigned)n;
}

static void model_change(struct sn_hub_watch *w, const struct sn_hub_entry *e, bool removed)
{
	struct model *m = (struct model *)w;

	(void)snprintf(m->told[number_of(e->key)], 8, "%.*s", removed ? 0 : (int)e->value.len,
			e->value.ptr);
}

static void against_a_model(void **state)
{
	struct store_world *w = *state;
	struct model *m = test_calloc(1, sizeof *m);
	struct store_op o;
	struct sn_rng rng;

	sn__rng_seed(&rng, 7);
	m->w = (struct sn_hub_watch){.prefix = SN_STR("k"), .change = model_change};
	w->store->ops->watch(w->store, &m->w);
	for (unsigned i = 0; i < 20000; i++) {
		unsigned n = (unsigned)sn__rng_below(&rng, 200);
		bool there = m->values[n][0] != '\0';
		char key[8];

		(void)snprintf(key, sizeof key, "k%03u", n);
		if (sn__rng_below(&rng, 3) == 0) {
			assert_int_equal(store_remove_if(w, key, SN_HUB_ANY, NULL),
					there ? 0 : SN_E_NOT_FOUND);
			m->values[n][0] = '\0';
			continue;
		}
		(void)snprintf(m->values[n], 8, "%u", i);
		assert_int_equal(store_put_if(w, key, m->values[n], SN_HUB_ANY, 0, NULL), 0);
	}
	for (unsigned n = 0; n < 200; n++)
		if (m->values[n][0] != '\0')
			m->len += (size_t)snprintf(m->text + m->len, sizeof m->text - m->len,
					"k%03u=%s ", n, m->values[n]);
	o = (struct store_op){.op = {.kind = SN_HUB_RANGE, .key = SN_STR("k")},
			.list = test_calloc(1, sizeof m->text),
			.size = sizeof m->text};
	assert_int_equal(store_run_op(w, w->store, &o), 0);
	assert_string_equal(o.list, m->text);
	store_pass(w, 20);
	assert_memory_equal(m->told, m->values, sizeof m->values);
	w->store->ops->unwatch(w->store, &m->w);
	test_free(o.list);
	test_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			STORE_CONFORMANCE(setup_sim, store_world_close),
			STORE_CONFORMANCE(setup_uv, store_world_close),
			cmocka_unit_test_setup_teardown(no_memory, setup_sim, store_world_close),
			cmocka_unit_test_setup_teardown(
					against_a_model, setup_sim, store_world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
