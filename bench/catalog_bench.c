/* SPDX-License-Identifier: Apache-2.0 */
/* Applying what an agent says: against jansson's time for parsing alone, in the same run. */
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "dialect/berlioz/metadata.h"
#include "mesh/catalog_write.h"

#define PEERS 100000u
#define REPEAT 5

struct world {
	struct sn_loop *loop;
	struct sn_own_place place;
	struct sn_catalog *cat;
	struct sn_metadata *md;
	struct sn_hook hook;
	uint64_t longest_ns;
	long preempted;
	bool done;
	uint32_t changes; /* of the message applied last */
};

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "catalog_bench: %s\n", what);
	abort();
}

static void report(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\":\"catalog: %s\",\"value\":%.4f,\"unit\":\"%s\",\"want\":\"%s\"}\n", name,
			value, unit, want);
	(void)fflush(stdout);
}

static void keep_lower(double *best, double value)
{
	*best = SN_MIN(*best, value);
}

/* A message of @targets targets with @each peers; peer @changed of every target has another port. */
static char *message(unsigned targets, unsigned each, unsigned changed, size_t *ret_len)
{
	struct sn_buf b;
	char *text;

	sn__buf_init(&b, (size_t)256 << 20);
	must(sn__buf_puts(&b, "{\"peers\":{") == 0, "memory");
	for (unsigned t = 0; t < targets; t++) {
		must(sn__buf_printf(&b, "%s\"service://shop-core-s%u-rest\":{", t > 0 ? "," : "",
				     t) == 0,
				"memory");
		for (unsigned i = 0; i < each; i++)
			must(sn__buf_printf(&b,
					     "%s\"%u\":{\"protocol\":\"http\",\"networkProtocol\":\"tcp\","
					     "\"port\":%u,\"address\":\"10.%u.%u.%u\"}",
					     i > 0 ? "," : "", i + 1, 7000 + (i == changed),
					     i >> 16, i >> 8 & 255, i & 255) == 0,
					"memory");
		must(sn__buf_puts(&b, "}") == 0, "memory");
	}
	must(sn__buf_puts(&b, "}}") == 0, "memory");
	text = sn__strndup(sn__buf_data(&b), b.len);
	must(text != NULL, "memory");
	*ret_len = b.len;
	sn__buf_finish(&b);
	return text;
}

/* A turn during which the kernel gave the processor to somebody else says nothing about us. */
static void turn_ended(struct sn_hook *hook)
{
	struct world *w = SN_CONTAINER_OF(hook, struct world, hook);
	uint64_t ns = sn__loop_clock_ns(w->loop) - sn__loop_now_ns(w->loop);
	struct rusage usage;

	must(getrusage(RUSAGE_THREAD, &usage) == 0, "getrusage");
	if (usage.ru_nivcsw == w->preempted)
		w->longest_ns = SN_MAX(w->longest_ns, ns);
	w->preempted = usage.ru_nivcsw;
}

static void applied(struct sn_metadata *md, uint32_t changes, void *arg)
{
	struct world *w = arg;

	w->done = true;
	w->changes = changes;
}

static const char *own_place(const char *name, void *arg)
{
	return strcmp(name, "BERLIOZ_CLUSTER") == 0           ? "shop"
			: strcmp(name, "BERLIOZ_SECTOR") == 0 ? "core"
							      : NULL;
}

static void open_world(struct world *w)
{
	struct sn_metadata_options opts = {.applied = applied, .arg = w};

	*w = (struct world){NULL};
	must(sn__loop_uv_open(NULL, &w->loop, NULL) == 0, "loop");
	must(sn__place_init(&w->place, own_place, NULL) == 0, "place");
	must(sn__catalog_create(w->loop, sn__berlioz_paths, &w->place, &w->cat) == 0, "catalog");
	opts.loop = w->loop;
	opts.catalog = w->cat;
	must(sn__metadata_create(&opts, &w->md) == 0, "metadata");
	sn__loop_hook_add(w->loop, &w->hook, turn_ended);
}

static void close_world(struct world *w)
{
	sn__loop_hook_remove(w->loop, &w->hook);
	sn__metadata_destroy(w->md);
	sn__catalog_destroy(w->cat);
	sn__loop_close(w->loop, NULL, NULL);
	sn__place_finish(&w->place);
}

/* From the message in hand to the last change published. */
static double apply_ms(struct world *w, const char *text, size_t len, unsigned changes)
{
	char *copy = sn__strndup(text, len);
	struct rusage usage;
	uint64_t begin;

	must(copy != NULL && getrusage(RUSAGE_THREAD, &usage) == 0, "memory");
	w->preempted = usage.ru_nivcsw;
	w->done = false;
	begin = sn__clock_mono_ns();
	must(sn__metadata_message_take(w->md, copy, len) == 0, "message");
	while (!w->done)
		(void)sn__loop_run(w->loop, SN_RUN_ONCE);
	must(w->changes == changes, "changes");
	return (double)(sn__clock_mono_ns() - begin) / 1e6;
}

static double jansson_ms(const char *text, size_t len)
{
	double best = 1e9;

	for (int i = 0; i < REPEAT; i++) {
		uint64_t begin = sn__clock_mono_ns();
		json_t *v = json_loadb(text, len, 0, NULL);

		best = SN_MIN(best, (double)(sn__clock_mono_ns() - begin) / 1e6);
		must(v != NULL, "jansson");
		json_decref(v);
	}
	return best;
}

static size_t in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static void shape(unsigned targets, unsigned each)
{
	size_t len, len2, before;
	char *first = message(targets, each, UINT32_MAX, &len);
	char *second = message(targets, each, each / 2, &len2);
	double parse = jansson_ms(first, len), fresh = 1e9, changed = 1e9, same = 1e9;
	uint64_t longest = 0;
	char name[96];
	struct world w;

	for (int i = 0; i < REPEAT; i++) {
		open_world(&w);
		keep_lower(&fresh, apply_ms(&w, first, len, targets));
		keep_lower(&changed, apply_ms(&w, second, len2, targets));
		keep_lower(&same, apply_ms(&w, second, len2, 0));
		longest = SN_MAX(longest, w.longest_ns);
		close_world(&w);
	}
	(void)snprintf(name, sizeof(name), "%u targets of %u: jansson parses", targets, each);
	report(name, parse, "ms", "");
	(void)snprintf(name, sizeof(name), "%u targets of %u: first message applied", targets,
			each);
	report(name, fresh, "ms", "");
	(void)snprintf(name, sizeof(name), "%u targets of %u: first, of jansson", targets, each);
	report(name, fresh / parse, "ratio", "<= 0.5");
	(void)snprintf(name, sizeof(name), "%u targets of %u: all targets changed, of jansson",
			targets, each);
	report(name, changed / parse, "ratio", "<= 0.5");
	(void)snprintf(name, sizeof(name), "%u targets of %u: same message again", targets, each);
	report(name, same, "ms", "");
	(void)snprintf(name, sizeof(name), "%u targets of %u: longest turn", targets, each);
	report(name, (double)longest / 1e6, "ms", "<= 1");
	open_world(&w);
	before = in_use();
	(void)apply_ms(&w, first, len, targets);
	while (sn__loop_run(w.loop, SN_RUN_NOWAIT))
		;
	(void)snprintf(name, sizeof(name), "%u targets of %u: memory a peer", targets, each);
	report(name, (double)(in_use() - before) / PEERS, "bytes", "<= 400");
	close_world(&w);
	sn__free(first);
	sn__free(second);
}

static double one_change_us(unsigned targets)
{
	size_t len;
	char *all = message(targets, 1, UINT32_MAX, &len);
	double best = 1e9;
	struct world w;

	open_world(&w);
	(void)apply_ms(&w, all, len, targets);
	for (int round = 0; round < 20; round++) {
		uint64_t begin;
		enum { N = 200 };

		begin = sn__clock_mono_ns();
		for (unsigned i = 0; i < N; i++) {
			char text[160];
			int n = snprintf(text, sizeof(text),
					"{\"peers\":{\"service://shop-core-s%u-rest\":{"
					"\"1\":{\"protocol\":\"http\",\"port\":%u,\"address\":\"10.0.0.1\"}}}}",
					i * 7 % targets, 8000 + (unsigned)round);

			w.done = false;
			must(sn__metadata_message(w.md, (struct sn_str){text, (size_t)n}) == 0,
					"message");
			while (!w.done)
				(void)sn__loop_run(w.loop, SN_RUN_ONCE);
		}
		best = SN_MIN(best, (double)(sn__clock_mono_ns() - begin) / 1e3 / N);
	}
	close_world(&w);
	sn__free(all);
	return best;
}

/* The largest message that is worked on without leaving the loop. */
static void inline_message(void)
{
	uint64_t longest = 0;
	size_t len;
	char *text = message(500, 1, UINT32_MAX, &len);

	must(len <= SN_UPDATE_INLINE_MAX && len > SN_UPDATE_INLINE_MAX / 4 * 3, "size");
	for (int i = 0; i < 4 * REPEAT; i++) {
		struct world w;

		open_world(&w);
		(void)apply_ms(&w, text, len, 500);
		longest = SN_MAX(longest, w.longest_ns);
		close_world(&w);
	}
	report("64 KiB inline: longest turn", (double)longest / 1e6, "ms", "<= 1");
	sn__free(text);
}

int main(void)
{
	double few, many;

	inline_message();
	shape(1000, PEERS / 1000);
	shape(PEERS, 1);
	shape(1, PEERS);
	few = one_change_us(10);
	many = one_change_us(PEERS / 10);
	report("one target of 10 changed", few, "us", "");
	report("one target of 10000 changed", many, "us", "");
	many = one_change_us(PEERS);
	report("one target of 100000 changed", many, "us", "");
	report("one change, 100000 targets against 10", many / few, "ratio", "<= 1.5");
	return 0;
}
