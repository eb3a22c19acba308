/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/random.h"
#include "base/test.h"

/* Under the key of zeroes the values are those of CPython 3.11's hash() with PYTHONHASHSEED=0; the
 * last one, of the empty text under 00..0f, is published with the reference. */
static void siphash_vectors(void **state)
{
	static const struct {
		uint64_t key[2];
		const char *text;
		uint64_t hash;
	} v[] = {
			{{0, 0}, "a", UINT64_C(0x407448d2b89b1813)},
			{{0, 0}, "1234567", UINT64_C(0xa33d651594fdae81)},
			{{0, 0}, "12345678", UINT64_C(0x3489982430560a87)},
			{{0, 0}, "service://shop-core-basket-rest", UINT64_C(0x45dc511a6194103a)},
			{{UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}, "",
					UINT64_C(0xabac0158050fc4dc)},
	};

	for (size_t i = 0; i < SN_COUNT(v); i++)
		assert_true(sn__siphash13(v[i].key, sn_str_from(v[i].text)) == v[i].hash);
}

static void add_get_remove(void **state)
{
	struct sn_map m;
	int a = 1, b = 2;
	void *old = &m;

	sn__map_init(&m);
	assert_null(sn__map_get(&m, SN_STR("x")));
	assert_null(sn__map_remove(&m, SN_STR("x")));
	assert_int_equal(sn__map_add(&m, SN_STR("x"), &a), 0);
	assert_int_equal(sn__map_add(&m, SN_STR("x"), &b), SN_E_EXISTS);
	assert_int_equal(sn__map_add(&m, SN_STR(""), &b), 0);
	assert_ptr_equal(sn__map_get(&m, SN_STR("x")), &a);
	assert_ptr_equal(sn__map_get(&m, SN_STR("")), &b);
	assert_int_equal(sn__map_put(&m, SN_STR("x"), &b, &old), 0);
	assert_ptr_equal(old, &a);
	assert_int_equal(sn__map_put(&m, SN_STR("y"), &b, &old), 0);
	assert_null(old);
	assert_int_equal(sn_map_count(&m), 3);
	assert_ptr_equal(sn__map_remove(&m, SN_STR("x")), &b);
	assert_null(sn__map_get(&m, SN_STR("x")));
	assert_int_equal(sn_map_count(&m), 2);
	sn__map_finish(&m);
}

struct item {
	char name[16];
	bool in;
	uint64_t when;
};

/* Against a plain array: random additions and removals; walking gives order of insertion. */
static void model(void **state)
{
	enum { N = 300 };
	static struct item items[N];
	struct sn_map m;
	struct sn_rng rng;
	const struct sn_map_entry *e;
	uint64_t clock = 0, last;
	size_t n = 0, seen;

	sn__rng_seed(&rng, 11);
	sn__map_init(&m);
	for (int i = 0; i < N; i++)
		(void)snprintf(items[i].name, sizeof items[i].name, "key-%d", i);
	for (int step = 0; step < 200000; step++) {
		struct item *it = &items[sn__rng_below(&rng, step < 100000 ? N : 20)];
		struct sn_str key = sn_str_from(it->name);

		assert_ptr_equal(sn__map_get(&m, key), it->in ? it : NULL);
		if (it->in) {
			assert_ptr_equal(sn__map_remove(&m, key), it);
			n--;
		} else {
			assert_int_equal(sn__map_add(&m, key, it), 0);
			it->when = ++clock;
			n++;
		}
		it->in = !it->in;
		assert_int_equal(sn_map_count(&m), n);
		assert_true(m.cap <= 1024); /* holes do not make it grow */
	}
	seen = 0;
	last = 0;
	for (size_t i = 0; (e = sn__map_next(&m, &i)) != NULL; seen++) {
		struct item *it = e->value;

		assert_true(it->in && it->when > last);
		last = it->when;
	}
	assert_int_equal(seen, n);
	for (size_t i = 0; (e = sn__map_next(&m, &i)) != NULL;)
		assert_non_null(sn__map_remove(&m, e->key));
	assert_int_equal(sn_map_count(&m), 0);
	sn__map_finish(&m);
}

static void faults(void **state)
{
	static char names[64][4];
	int64_t live = sn__mem_live();
	bool failed = true;

	for (int i = 0; i < 64; i++)
		(void)snprintf(names[i], sizeof names[i], "%d", i);
	for (uint64_t nth = 1; failed; nth++) {
		struct sn_map m;
		int n = 0, r = 0;

		sn__map_init(&m);
		sn__mem_fail_nth(nth);
		while (n < 64 && (r = sn__map_add(&m, sn_str_from(names[n]), names[n])) == 0)
			n++;
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		assert_int_equal(sn_map_count(&m), n);
		for (int i = 0; i < 64; i++)
			assert_ptr_equal(sn__map_get(&m, sn_str_from(names[i])),
					i < n ? names[i] : NULL);
		/* After the failure it goes on as before. */
		for (; n < 64; n++)
			assert_int_equal(sn__map_add(&m, sn_str_from(names[n]), names[n]), 0);
		sn__map_finish(&m);
	}
	assert_int_equal(sn__mem_live(), live);
}

static void reserve(void **state)
{
	static char names[1000][5];
	struct sn_map m;

	sn__map_init(&m);
	assert_int_equal(sn__map_reserve(&m, 1000), 0);
	sn__mem_fail_nth(1);
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(names[i], sizeof names[i], "%d", i);
		assert_int_equal(sn__map_add(&m, sn_str_from(names[i]), names[i]), 0);
	}
	assert_false(sn__mem_failed());
	sn__mem_fail_nth(0);
	sn__map_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(siphash_vectors),
			cmocka_unit_test(add_get_remove),
			cmocka_unit_test(model),
			cmocka_unit_test(faults),
			cmocka_unit_test(reserve),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
