/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random messages, and monitors that come and go (also inside callbacks), against the model of
 * model_test.h. Odd seeds run the loop dry after every step and want exactly the model's calls in
 * the model's order. Even ones let steps overlap; then every monitor must have heard a gapless part
 * of what a monitor heard that was there from the beginning: nothing twice, nothing backwards.
 */
#include "dialect/berlioz/metadata.h"

#include "dialect/berlioz/model_test.h"
#include "io/seeds_test.h"
#include "io/sim.h"
#include "mesh/catalog_impl.h"

enum { MONITORS = 10, TARGETS = 7, STEPS = 40 };
enum action { NOTHING, STOP, START };

struct watched {
	const char *kind, *name, *endpoint; /* NULL kind: the raw path */
	struct sn_path path;
	struct sn_target *target;
	json_t *heard; /* by the tap: values in order, null for absent */
	struct sn_target_monitor tap;
};

struct probe {
	struct run *run;
	unsigned index, at; /* which target */
	bool on, first;     /* watches only the first peer */
	struct sn_target_monitor all;
	struct sn_first_monitor one;
	enum action action; /* in the call number @when */
	unsigned other, when, calls;
	json_t *heard;
	size_t from; /* how much the tap had heard at registration */
	/* The model's view. */
	uint64_t number;
	bool told_once;
	unsigned model_calls;
	bool model_on, model_due, model_first_due;
	json_t *model_last; /* of a first-peer monitor */
};

struct run {
	struct sn_rng rng;
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_own_place place;
	struct sn_catalog *cat;
	struct sn_metadata *md;
	struct model model;
	json_t *published; /* peers, change by change */
	struct watched watched[TARGETS];
	struct probe probes[MONITORS];
	json_t *calls, *want; /* [[probe, value], ...] of this step */
	uint64_t numbers;
	bool exact;
};

static uint64_t upto(struct run *run, uint64_t n)
{
	return sn__rng_below(&run->rng, n);
}

static const char *own_place(const char *name, void *arg)
{
	return strcmp(name, "BERLIOZ_CLUSTER") == 0           ? "shop"
			: strcmp(name, "BERLIOZ_SECTOR") == 0 ? "core"
							      : NULL;
}

/* ---- random messages ---- */

static json_t *random_peer(struct run *run)
{
	json_t *p = json_object();
	bool real = upto(run, 4) == 0;
	uint64_t port = 7000 + upto(run, 2);

	for (unsigned i = 0, turn = (unsigned)upto(run, 2); i < 2; i++) {
		if ((i ^ turn) == 0)
			json_object_set_new(p, "port",
					real ? json_real((double)port)
					     : json_integer((json_int_t)port));
		else
			json_object_set_new(
					p, "address", json_string(upto(run, 9) == 0 ? "b" : "a"));
	}
	return p;
}

static json_t *random_map(struct run *run)
{
	static const char *const names[] = {"1", "2", "10", "blue"};
	unsigned start = (unsigned)upto(run, SN_COUNT(names));
	json_t *map;

	if (upto(run, 6) == 0)
		return json_null();
	map = json_object();
	for (unsigned i = 0; i < SN_COUNT(names); i++) {
		if (upto(run, 2) == 0)
			json_object_set_new(map, names[(start + i) % SN_COUNT(names)],
					random_peer(run));
	}
	return map;
}

static void random_peers(struct run *run, json_t *peers)
{
	for (uint64_t n = upto(run, 5); n > 0; n--) {
		json_t *map = random_map(run);

		switch (upto(run, 6)) {
		case 0:
			json_object_set_new(peers, "service://shop-core-a-rest", map);
			break;
		case 1:
			json_object_set_new(peers, "service://shop-core-a",
					json_pack("{s:o}", "rest", map));
			break;
		case 2:
			json_object_set_new(peers, "service",
					json_pack("{s:{s:o}, s:{s:O}}", "a", "rest", map, "b",
							"rest", map));
			break;
		case 3:
			json_object_set_new(peers, "cluster://far-web", map);
			break;
		case 4:
			json_object_set_new(peers, "database", json_pack("{s:o}", "x", map));
			break;
		default:
			json_object_set_new(peers, "nonsense", map);
		}
	}
}

static json_t *random_message(struct run *run)
{
	json_t *m = json_object(), *peers = json_object();

	if (upto(run, 12) == 0) {
		json_decref(peers);
		peers = json_null();
	} else {
		random_peers(run, peers);
	}
	json_object_set_new(m, "peers", peers);
	if (upto(run, 5) == 0)
		json_object_set_new(m, "pad", json_sprintf("%70000d", 7)); /* off the loop */
	return m;
}

/* ---- the catalog's side ---- */

static json_t *parse(const char *text)
{
	json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(v);
	return v;
}

static void start(struct run *run, struct probe *p);
static void stop(struct probe *p);

static void called(struct probe *p, json_t *value)
{
	struct run *run = p->run;
	struct probe *other = &run->probes[p->other];

	assert_true(p->on);
	json_array_append(p->heard, value);
	json_array_append_new(run->calls, json_pack("[i, o]", (int)p->index, value));
	if (++p->calls != p->when)
		return;
	if (p->action == STOP)
		stop(other);
	else if (p->action == START && !other->on)
		start(run, other);
}

static void on_all(struct sn_target_monitor *m, const struct sn_peers *peers)
{
	struct probe *p = SN_CONTAINER_OF(m, struct probe, all);
	const struct sn_peers *now = sn__target_peers(p->run->watched[p->at].target);

	assert_true(now == peers); /* look-ups inside the call see what it tells */
	called(p, parse(peers != NULL ? sn__peers_json(peers) : "{}"));
}

static void on_first(struct sn_first_monitor *m, const struct sn_peers *peers,
		const struct sn_peer *peer)
{
	called(SN_CONTAINER_OF(m, struct probe, one),
			parse(peer != NULL ? peer->json.ptr : "null"));
}

static void on_tap(struct sn_target_monitor *m, const struct sn_peers *peers)
{
	struct watched *w = SN_CONTAINER_OF(m, struct watched, tap);

	json_array_append_new(w->heard, parse(peers != NULL ? sn__peers_json(peers) : "null"));
}

static void start(struct run *run, struct probe *p)
{
	struct watched *w = &run->watched[p->at];

	p->on = true;
	p->calls = 0;
	p->from = json_array_size(w->heard);
	json_array_clear(p->heard);
	if (p->first)
		sn__first_monitor_start(w->target, &p->one, on_first);
	else
		sn__target_monitor_start(w->target, &p->all, on_all);
}

/* What an overlapping run must have told it: the tap's values from registration to now. */
static void check_heard(struct probe *p)
{
	json_t *tap = p->run->watched[p->at].heard;
	size_t n = json_array_size(p->heard), end = json_array_size(tap);

	for (size_t k = p->from > 0 ? p->from - 1 : 0; k <= p->from + 1; k++) {
		bool same = k + n <= end && k + n + 1 >= end;

		for (size_t i = 0; i < n && same; i++) {
			json_t *value = json_array_get(tap, k + i);
			json_t *got = json_array_get(p->heard, i);

			same = json_is_null(value)
					? json_object_size(got) == 0 && json_is_object(got)
					: sn__json_equal(value, got);
		}
		if (same)
			return;
	}
	fail_msg("probe %u heard %s of %s from %zu", p->index, json_dumps(p->heard, 0),
			json_dumps(tap, 0), p->from);
}

static void stop(struct probe *p)
{
	if (!p->on)
		return;
	p->on = false;
	if (p->first)
		sn__first_monitor_stop(&p->one);
	else
		sn__target_monitor_stop(&p->all);
	if (!p->run->exact && !p->first)
		check_heard(p);
}

/* ---- the model's side ---- */

static json_t *effective(struct run *run, const struct watched *w, char *ret_path, size_t size)
{
	struct sn_paths paths = {.n = 1, .path = {w->path}};

	if (w->kind != NULL)
		assert_int_equal(sn__berlioz_paths(&run->place, sn_str_from(w->kind),
						 sn_str_from(w->name), sn_str_from(w->endpoint),
						 &paths),
				0);
	for (unsigned i = 0; i < paths.n; i++) {
		char text[300];
		size_t n = 0;
		json_t *v;

		text[n++] = '[';
		for (unsigned k = 0; k < paths.path[i].n; k++) {
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\"%.*s\"",
					k > 0 ? "," : "", (int)paths.path[i].part[k].len,
					paths.path[i].part[k].ptr);
		}
		(void)snprintf(text + n, sizeof(text) - n, "]");
		v = json_object_get(run->published, text);
		if (v == NULL)
			continue;
		(void)snprintf(ret_path, size, "%s", text);
		return v;
	}
	ret_path[0] = '\0';
	return NULL;
}

static bool decimal(const char *key, uint64_t *ret)
{
	return (key[0] != '0' || key[1] == '\0') &&
			sn__parse_u64(sn_str_from(key), UINT32_MAX - 1, ret) == 0;
}

static json_t *first_peer(json_t *map)
{
	uint64_t best = UINT64_MAX, v;
	json_t *first = NULL, *value;
	const char *key;

	json_object_foreach(map, key, value)
	{
		if (decimal(key, &v) && v < best) {
			best = v;
			first = value;
		} else if (first == NULL && best == UINT64_MAX) {
			first = value;
		}
	}
	return first;
}

static void model_start(struct run *run, struct probe *p)
{
	char path[300];

	p->model_on = true;
	p->model_calls = 0;
	p->number = ++run->numbers;
	p->model_due = false;
	p->model_first_due = effective(run, &run->watched[p->at], path, sizeof(path)) != NULL;
	json_decref(p->model_last);
	p->model_last = NULL;
}

static void model_stop(struct probe *p)
{
	p->model_on = p->model_due = p->model_first_due = false;
	json_decref(p->model_last);
	p->model_last = NULL;
}

static void model_call(struct run *run, struct probe *p)
{
	char path[300];
	json_t *value = effective(run, &run->watched[p->at], path, sizeof(path));

	if (p->first) {
		json_t *now = first_peer(value);

		if (now == p->model_last ||
				(now != NULL && p->model_last != NULL &&
						sn__json_equal(now, p->model_last)))
			return;
		json_decref(p->model_last);
		p->model_last = json_incref(now);
		json_array_append_new(run->want, json_pack("[i, O?]", (int)p->index, now));
	} else {
		json_t *told = value != NULL ? json_incref(value) : json_object();

		json_array_append_new(run->want, json_pack("[i, o]", (int)p->index, told));
	}
	if (++p->model_calls != p->when)
		return;
	if (p->action == STOP)
		model_stop(&run->probes[p->other]);
	else if (p->action == START && !run->probes[p->other].model_on)
		model_start(run, &run->probes[p->other]);
}

static void model_deliver(struct run *run, bool firsts)
{
	for (;;) {
		struct probe *next = NULL;

		for (unsigned i = 0; i < MONITORS; i++) {
			struct probe *p = &run->probes[i];

			if ((firsts ? p->model_first_due : p->model_due) &&
					(next == NULL || p->number < next->number))
				next = p;
		}
		if (next == NULL)
			return;
		next->model_due = next->model_first_due = false;
		model_call(run, next);
	}
}

static bool worth_telling(json_t *before, json_t *after)
{
	if (after == NULL)
		return before != NULL && json_object_size(before) > 0;
	return before == NULL || !sn__json_equal(before, after);
}

/* Publish changes [from, to) at once. */
static void model_publish(struct run *run, size_t from, size_t to)
{
	json_t *before[TARGETS], *change, *value;
	char path[300];

	for (unsigned i = 0; i < TARGETS; i++)
		before[i] = json_incref(effective(run, &run->watched[i], path, sizeof(path)));
	for (size_t c = from; c < to; c++) {
		change = json_array_get(run->model.changes, c);
		value = json_object_get(change, "new");
		if (json_is_object(value))
			json_object_set(run->published,
					json_string_value(json_object_get(change, "path")), value);
		else
			json_object_del(run->published,
					json_string_value(json_object_get(change, "path")));
	}
	for (unsigned i = 0; i < TARGETS; i++) {
		json_t *after = effective(run, &run->watched[i], path, sizeof(path));

		for (unsigned k = 0; k < MONITORS && worth_telling(before[i], after); k++) {
			if (run->probes[k].model_on && run->probes[k].at == i)
				run->probes[k].model_due = true;
		}
		json_decref(before[i]);
	}
}

static void model_message(struct run *run, json_t *message)
{
	size_t n, to;

	model_apply(&run->model, message);
	n = json_array_size(run->model.changes);
	for (size_t i = 0; i < n; i = to) {
		to = i < run->model.group ? run->model.group : i + 1;
		model_publish(run, i, to);
		model_deliver(run, false);
		model_deliver(run, true);
	}
}

/* ---- a run ---- */

static void open_run(struct run *run, uint64_t seed)
{
	static const struct watched watched[TARGETS] = {
			{.kind = "service", .name = "a", .endpoint = "rest"},
			{.path = {.n = 1, .part = {{"service://shop-core-a-rest", 26}}}},
			{.path = {.n = 2, .part = {{"service://shop-core-a", 21}, {"rest", 4}}}},
			{.path = {.n = 3, .part = {{"service", 7}, {"a", 1}, {"rest", 4}}}},
			{.kind = "service", .name = "b", .endpoint = "rest"},
			{.kind = "cluster", .name = "far", .endpoint = "web"},
			{.kind = "database", .name = "x", .endpoint = ""},
	};
	const struct sn_sim_options sim = {.seed = seed};
	struct sn_metadata_options opts = {NULL};

	sn__rng_seed(&run->rng, seed);
	run->exact = seed % 2 == 1;
	assert_int_equal(sn__sim_create(&sim, &run->sim), 0);
	assert_int_equal(sn__sim_loop(run->sim, &run->loop), 0);
	assert_int_equal(sn__place_init(&run->place, own_place, NULL), 0);
	assert_int_equal(sn__catalog_create(run->loop, sn__berlioz_paths, &run->place, &run->cat),
			0);
	opts.loop = run->loop;
	opts.catalog = run->cat;
	assert_int_equal(sn__metadata_create(&opts, &run->md), 0);
	if (upto(run, 2) == 0)
		sn__catalog_limit_slice(run->cat, 1 + (uint32_t)upto(run, 3));
	model_init(&run->model);
	run->published = json_object();
	for (unsigned i = 0; i < TARGETS; i++) {
		struct watched *w = &run->watched[i];

		*w = watched[i];
		w->heard = json_array();
		if (w->kind != NULL)
			assert_int_equal(sn__metadata_target(run->md, w->kind, w->name, w->endpoint,
							 true, &w->target),
					0);
		else
			assert_int_equal(sn__metadata_path_target(run->md, SN_SECTION_PEERS,
							 &w->path, &w->target),
					0);
		sn__target_monitor_start(w->target, &w->tap, on_tap);
	}
	for (unsigned i = 0; i < MONITORS; i++)
		run->probes[i] = (struct probe){.run = run, .index = i, .heard = json_array()};
}

static void close_run(struct run *run)
{
	for (unsigned i = 0; i < MONITORS; i++) {
		stop(&run->probes[i]);
		model_stop(&run->probes[i]);
		json_decref(run->probes[i].heard);
	}
	for (unsigned i = 0; i < TARGETS; i++) {
		sn__target_monitor_stop(&run->watched[i].tap);
		json_decref(run->watched[i].heard);
	}
	sn__metadata_destroy(run->md);
	sn__catalog_destroy(run->cat);
	sn__loop_close(run->loop, NULL, NULL);
	sn__sim_destroy(run->sim);
	sn__place_finish(&run->place);
	model_finish(&run->model);
	json_decref(run->published);
}

static void check_registry(struct run *run)
{
	char *text = NULL;
	json_t *dump;

	assert_int_equal(sn__metadata_dump(run->md, &text), 0);
	dump = parse(text);
	if (!model_equals(&run->model, dump))
		fail_msg("registry %s, want %s", text, json_dumps(run->model.registry, 0));
	json_decref(dump);
	sn__free(text);
}

static void say(struct run *run, bool single)
{
	json_t *message = upto(run, 15) == 0 ? NULL : random_message(run);
	char *text = message != NULL ? json_dumps(message, 0) : NULL;

	if (single && strlen(text != NULL ? text : "") < 1000)
		print_message("say %s\n", text != NULL ? text : "(broken)");
	assert_int_equal(sn__metadata_message(
					 run->md, sn_str_from(text != NULL ? text : "{\"peers\":")),
			0);
	model_message(run, message);
	free(text);
	json_decref(message);
}

static void step(struct run *run, bool single)
{
	struct probe *p = &run->probes[upto(run, MONITORS)];

	if (upto(run, 3) != 0) {
		say(run, single);
		return;
	}
	if (p->on) {
		if (single)
			print_message("stop %u\n", p->index);
		stop(p);
		model_stop(p);
		return;
	}
	p->at = (unsigned)upto(run, TARGETS);
	p->first = upto(run, 3) == 0;
	p->action = (enum action)upto(run, 3);
	p->other = (unsigned)upto(run, MONITORS);
	p->when = 1 + (unsigned)upto(run, 3);
	if (single)
		print_message("start %u on %u%s, in call %u %s %u\n", p->index, p->at,
				p->first ? " first" : "", p->when,
				p->action == STOP                    ? "stop"
						: p->action == START ? "start"
								     : "nothing",
				p->other);
	start(run, p);
	model_start(run, p);
	model_deliver(run, true);
}

static void one(uint64_t seed, bool single)
{
	struct run run = {.numbers = 0};

	open_run(&run, seed);
	for (unsigned i = 0; i < STEPS; i++) {
		run.calls = json_array();
		run.want = json_array();
		step(&run, single);
		if (run.exact || upto(&run, 8) == 0)
			(void)sn__sim_run(run.sim, SN_NEVER_NS);
		else
			(void)sn__sim_run(run.sim, sn__sim_now_ns(run.sim) + upto(&run, 30) * 1000);
		if (run.exact && !json_equal(run.calls, run.want))
			fail_msg("calls %s, want %s", json_dumps(run.calls, 0),
					json_dumps(run.want, 0));
		if (run.exact)
			check_registry(&run);
		json_decref(run.calls);
		json_decref(run.want);
		run.calls = run.want = NULL;
	}
	run.calls = json_array();
	(void)sn__sim_run(run.sim, SN_NEVER_NS);
	check_registry(&run);
	json_decref(run.calls);
	close_run(&run);
}

int main(void)
{
	/* A monitor registered in the middle of a reset heard what showed for a moment. */
	seeds_known[0] = 13106;
	return seeds_main("metadata", one);
}
