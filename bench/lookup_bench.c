/* SPDX-License-Identifier: Apache-2.0 */
/* Looking a target up and taking any of its peers (the whole pick: pick_bench.c): ten targets, a thousand hot ones of a million,
 * uniformly over a million; and the same while another thread publishes. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "dialect/berlioz/metadata.h"

#define MILLION 1000000u
#define PICKS 2000000u
#define REPEAT 7

struct world {
	struct sn_loop *loop;
	struct sn_own_place place;
	struct sn_catalog *cat;
	struct sn_metadata *md;
	bool done;
};

static uint64_t sink; /* so that nothing is optimised away */

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "lookup_bench: %s\n", what);
	abort();
}

static void report(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\":\"look-up: %s\",\"value\":%.2f,\"unit\":\"%s\",\"want\":\"%s\"}\n", name,
			value, unit, want);
	(void)fflush(stdout);
}

static void applied(struct sn_metadata *md, uint32_t changes, void *arg)
{
	((struct world *)arg)->done = true;
}

static const char *own_place(const char *name, void *arg)
{
	return strcmp(name, "BERLIOZ_CLUSTER") == 0           ? "shop"
			: strcmp(name, "BERLIOZ_SECTOR") == 0 ? "core"
							      : NULL;
}

static void say(struct world *w, struct sn_buf *b)
{
	w->done = false;
	must(sn__metadata_message(w->md, sn__buf_str(b)) == 0, "message");
	while (!w->done)
		(void)sn__loop_run(w->loop, SN_RUN_ONCE);
	sn__buf_clear(b);
}

/* Targets s0 ... with @each peers. */
static void open_world(struct world *w, unsigned targets, unsigned each)
{
	struct sn_metadata_options opts = {.applied = applied, .arg = w};
	struct sn_buf b;

	*w = (struct world){NULL};
	must(sn__loop_uv_open(NULL, &w->loop, NULL) == 0, "loop");
	must(sn__place_init(&w->place, own_place, NULL) == 0, "place");
	must(sn__catalog_create(w->loop, sn__berlioz_paths, &w->place, &w->cat) == 0, "catalog");
	opts.loop = w->loop;
	opts.catalog = w->cat;
	must(sn__metadata_create(&opts, &w->md) == 0, "metadata");
	sn__buf_init(&b, (size_t)64 << 20);
	for (unsigned t = 0; t < targets; t++) {
		must(sn__buf_printf(&b, "%s\"service://shop-core-s%u-rest\":{",
				     b.len == 0 ? "{\"peers\":{" : ",", t) == 0,
				"memory");
		for (unsigned i = 0; i < each; i++)
			must(sn__buf_printf(&b,
					     "%s\"%u\":{\"protocol\":\"http\",\"networkProtocol\":\"tcp\","
					     "\"port\":7000,\"address\":\"10.0.0.%u\"}",
					     i > 0 ? "," : "", i + 1, i) == 0,
					"memory");
		must(sn__buf_puts(&b, "}") == 0, "memory");
		if (t % 50000 == 49999 || t + 1 == targets) {
			must(sn__buf_puts(&b, "}}") == 0, "memory");
			say(w, &b);
		}
	}
	sn__buf_finish(&b);
}

static void close_world(struct world *w)
{
	sn__metadata_destroy(w->md);
	sn__catalog_destroy(w->cat);
	sn__loop_close(w->loop, NULL, NULL);
	sn__place_finish(&w->place);
}

static struct sn_target *find(struct world *w, unsigned t)
{
	char name[16];
	int n = snprintf(name, sizeof(name), "s%u", t);
	struct sn_target *target = sn__catalog_find(w->cat, SN_STR("service"),
			(struct sn_str){name, (size_t)n}, SN_STR("rest"));

	must(target != NULL, "target");
	return target;
}

static inline void take_one(struct sn_target *t, struct sn_rng *rng)
{
	const struct sn_peers *p = sn__target_peers(t);

	sink += p->peers[p->n > 1 ? sn__rng_below(rng, p->n) : 0].port;
}

/* @order: which targets, one after the other; its own memory is read in order. */
static double held_ns(struct sn_target *const *order, unsigned n)
{
	double best = 1e9;
	struct sn_rng rng;

	sn__rng_seed(&rng, 1);
	for (int r = 0; r < REPEAT; r++) {
		uint64_t begin;

		sn_rcu_read_lock();
		begin = sn__clock_mono_ns();
		for (unsigned i = 0, k = 0; i < PICKS; i++, k = k + 1 == n ? 0 : k + 1)
			take_one(order[k], &rng);
		best = SN_MIN(best, (double)(sn__clock_mono_ns() - begin) / PICKS);
		sn_rcu_read_unlock();
	}
	return best;
}

static double named_ns(struct world *w, const struct sn_str *names, unsigned n)
{
	double best = 1e9;
	struct sn_rng rng;

	sn__rng_seed(&rng, 1);
	for (int r = 0; r < REPEAT; r++) {
		uint64_t begin;

		sn_rcu_read_lock();
		begin = sn__clock_mono_ns();
		for (unsigned i = 0, k = 0; i < PICKS; i++, k = k + 1 == n ? 0 : k + 1)
			take_one(sn__catalog_find(w->cat, SN_STR("service"), names[k],
						 SN_STR("rest")),
					&rng);
		best = SN_MIN(best, (double)(sn__clock_mono_ns() - begin) / PICKS);
		sn_rcu_read_unlock();
	}
	return best;
}

/* The callers' own texts, read in order. */
static struct sn_str *names_of(struct sn_target *const *order, unsigned n)
{
	struct sn_str *names = sn__malloc(n * (sizeof(*names) + 16));
	char *at;

	must(names != NULL, "memory");
	at = (char *)(names + n);
	for (unsigned i = 0; i < n; i++, at += 16) {
		struct sn_str name = sn__target_name(order[i]);

		memcpy(at, name.ptr, name.len);
		names[i] = (struct sn_str){at, name.len};
	}
	return names;
}

/* ---- ten ---- */

static void ten(void)
{
	struct sn_target *order[10];
	struct sn_str *names;
	struct world w;

	open_world(&w, 10, 10);
	for (unsigned i = 0; i < 10; i++)
		order[i] = find(&w, i);
	names = names_of(order, 10);
	report("10 held targets", held_ns(order, 10), "ns", "<= 50");
	report("10 targets by name", named_ns(&w, names, 10), "ns", "<= 100");
	sn__free(names);
	close_world(&w);
}

/* ---- a million ---- */

static void shuffle(struct sn_target **v, unsigned n)
{
	struct sn_rng rng;

	sn__rng_seed(&rng, 2);
	for (unsigned i = n - 1; i > 0; i--) {
		unsigned k = (unsigned)sn__rng_below(&rng, i + 1);
		struct sn_target *t = v[i];

		v[i] = v[k];
		v[k] = t;
	}
}

struct reader {
	struct sn_target *const *order;
	unsigned n;
	atomic_bool stop;
	uint64_t picks;
};

static void *read_on(void *arg)
{
	struct reader *r = arg;
	struct sn_rng rng;
	unsigned k = 0;

	sn__rng_seed(&rng, 3);
	while (!atomic_load_explicit(&r->stop, memory_order_relaxed)) {
		for (int i = 0; i < 100; i++, k = k + 1 == r->n ? 0 : k + 1) {
			sn_rcu_read_lock();
			take_one(r->order[k], &rng);
			sn_rcu_read_unlock();
		}
		r->picks += 100;
	}
	return NULL;
}

/* Nanoseconds of a pick in another thread while this one makes @per_s updates a second. */
static double busy_ns(struct world *w, struct sn_target *const *order, unsigned n, unsigned per_s)
{
	struct reader r = {.order = order, .n = n};
	uint64_t begin = sn__clock_mono_ns(), took;
	pthread_t thread;
	struct sn_buf b;

	sn__buf_init(&b, 4096);
	must(pthread_create(&thread, NULL, read_on, &r) == 0, "thread");
	for (unsigned i = 0; i < 400; i++) {
		while (sn__clock_mono_ns() < begin + i * SN_NS_PER_MS) {
			const struct timespec nap = {0, 100000};

			(void)nanosleep(&nap, NULL);
		}
		for (unsigned k = 0; k < per_s / 1000; k++) {
			must(sn__buf_printf(&b,
					     "{\"peers\":{\"service://shop-core-s%u-rest\":{\"1\":{"
					     "\"protocol\":\"http\",\"port\":%u,\"address\":\"10.0.0.1\"}}}}",
					     i % 1000, 8000 + i) == 0,
					"memory");
			say(w, &b);
		}
	}
	took = sn__clock_mono_ns() - begin;
	atomic_store(&r.stop, true);
	must(pthread_join(thread, NULL) == 0, "thread");
	sn__buf_finish(&b);
	return (double)took / (double)r.picks;
}

static void with_updates(struct world *w, struct sn_target *const *order, unsigned n)
{
	double quiet = 1e9, busy = 1e9;

	for (int i = 0; i < 5; i++) {
		double q = busy_ns(w, order, n, 0), b = busy_ns(w, order, n, 1000);

		quiet = SN_MIN(quiet, q);
		busy = SN_MIN(busy, b);
	}
	report("1000 hot, other thread, no updates", quiet, "ns", "");
	report("1000 hot, other thread, 1000 updates/s", busy, "ns", "");
	report("1000 updates/s against none", busy / quiet, "ratio", "<= 1.1");
}

static void million(void)
{
	struct sn_target **all = sn__calloc(MILLION, sizeof(*all));
	struct sn_str *names;
	struct world w;

	must(all != NULL, "memory");
	open_world(&w, MILLION, 1);
	for (unsigned i = 0; i < MILLION; i++)
		all[i] = find(&w, i);
	shuffle(all, MILLION);
	names = names_of(all, MILLION);
	report("1000 hot of a million, held", held_ns(all, 1000), "ns", "<= 50");
	report("1000 hot of a million, by name", named_ns(&w, names, 1000), "ns", "");
	report("uniformly over a million, held", held_ns(all, MILLION), "ns", "<= 250");
	report("uniformly over a million, by name", named_ns(&w, names, MILLION), "ns", "");
	with_updates(&w, all, 1000);
	sn__free(names);
	sn__free(all);
	close_world(&w);
}

int main(void)
{
	ten();
	million();
	must(sink != 0, "nothing was picked");
	return 0;
}
