/* SPDX-License-Identifier: Apache-2.0 */
/* Picking a peer among a million targets: by name, from held targets, hot and cold. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mesh/catalog_write.h"
#include "mesh/target.h"

#define TARGETS 1000000u
#define HOT 1000u
#define PEERS \
	"{\"1\":{\"address\":\"10.0.0.1\",\"port\":80},\"2\":{\"address\":\"10.0.0.2\",\"port\":80}}"
#define PICKS 2000000u
#define NAME_SIZE 12

struct bench {
	struct sn_loop *loop;
	struct sn_catalog *cat;
	struct sn_policies *policies;
	struct sn_mesh *mesh;
	struct sn_task task;
	struct sn_update update;
	struct sn_target **targets;
	char (*names)[NAME_SIZE];
	uint32_t *order;
};

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "pick_bench: %s\n", what);
	abort();
}

static void report(const char *name, double value, const char *want)
{
	printf("{\"name\":\"pick: %s\",\"value\":%.1f,\"unit\":\"ns\",\"want\":\"%s\"}\n", name,
			value, want);
	(void)fflush(stdout);
}

static int put_peers(struct sn_update *u, struct sn_batch *batch)
{
	struct bench *b = SN_CONTAINER_OF(u, struct bench, update);

	for (uint32_t i = 0; i < TARGETS; i++) {
		const struct sn_path path = {.n = 3,
				.part = {SN_STR("service"), sn_str_from(b->names[i]),
						SN_STR("default")}};

		if (sn__batch_set_peers(batch, &path, SN_STR(PEERS)) != 0)
			return SN_E_NOMEM;
	}
	return 0;
}

static void peers_are_there(struct sn_update *u, int code, uint32_t changes)
{
	struct bench *b = SN_CONTAINER_OF(u, struct bench, update);

	must(code == 0 && changes == TARGETS, "catalog");
	sn__loop_stop(b->loop);
}

static uint32_t pick_held(struct bench *b, struct sn_target *t)
{
	struct sn_mesh_target *mt = sn__mesh_target(b->mesh, t);
	struct sn_pick pick = {.mt = mt,
			.peers = sn__target_peers(t),
			.policy = sn_mesh_target_policy(mt, SN_DIALECT_BERLIOZ),
			.balance = SN_BALANCE_RANDOM,
			.rng = sn__loop_rng(b->loop),
			.now_ns = 1};

	must(sn__balance_pick(&pick) == 0, "pick");
	return pick.index;
}

/* Targets 0..n-1 in random order. */
static double held(struct bench *b, uint32_t n)
{
	uint32_t sum = 0;
	uint64_t start;

	for (uint32_t i = 0; i < PICKS; i++)
		b->order[i] = (uint32_t)sn__rng_below(sn__loop_rng(b->loop), n);
	start = sn__clock_mono_ns();
	for (uint32_t i = 0; i < PICKS; i++)
		sum += pick_held(b, b->targets[b->order[i]]);
	must(sum > 0, "index");
	return (double)(sn__clock_mono_ns() - start) / PICKS;
}

static double by_name(struct bench *b, uint32_t n)
{
	uint32_t sum = 0;
	uint64_t start;

	for (uint32_t i = 0; i < PICKS; i++)
		b->order[i] = (uint32_t)sn__rng_below(sn__loop_rng(b->loop), n);
	start = sn__clock_mono_ns();
	for (uint32_t i = 0; i < PICKS; i++) {
		struct sn_target *t = sn__catalog_find(b->cat, SN_STR("service"),
				(struct sn_str){b->names[b->order[i]], 8}, SN_STR("default"));

		must(t != NULL, "unknown");
		sum += pick_held(b, t);
	}
	must(sum > 0, "index");
	return (double)(sn__clock_mono_ns() - start) / PICKS;
}

static void all(struct sn_task *task)
{
	struct bench *b = SN_CONTAINER_OF(task, struct bench, task);

	for (uint32_t i = 0; i < TARGETS; i++) {
		must(sn__catalog_target(b->cat, SN_STR("service"), sn_str_from(b->names[i]),
				     SN_STR("default"), &b->targets[i]) == 0,
				"target");
		(void)pick_held(b, b->targets[i]);
	}
	(void)held(b, HOT);
	report("held, 1,000 hot targets of a million", held(b, HOT), "<= 50");
	report("held, uniform over a million", held(b, TARGETS), "<= 250");
	(void)by_name(b, 10);
	report("by name, 10 hot targets of a million", by_name(b, 10), "<= 100");
	report("by name, 1,000 hot targets of a million", by_name(b, HOT), "<= 100");
	report("by name, uniform over a million", by_name(b, TARGETS), "memory");
	sn__loop_stop(b->loop);
}

int main(void)
{
	struct bench *b = sn__calloc(1, sizeof *b);
	struct sn_error err;

	must(b != NULL && sn__loop_uv_open(NULL, &b->loop, &err) == 0, "loop");
	b->targets = sn__calloc(TARGETS, sizeof *b->targets);
	b->names = sn__calloc(TARGETS, NAME_SIZE);
	b->order = sn__calloc(PICKS, sizeof *b->order);
	must(b->targets != NULL && b->names != NULL && b->order != NULL, "memory");
	for (uint32_t i = 0; i < TARGETS; i++)
		(void)snprintf(b->names[i], NAME_SIZE, "s%07u", i);
	must(sn__catalog_create(b->loop, NULL, NULL, &b->cat) == 0, "catalog");
	must(sn__policies_create(&(struct sn_policies_options){.loop = b->loop}, &b->policies) == 0,
			"policies");
	must(sn__mesh_create(&(struct sn_mesh_options){.loop = b->loop,
					     .catalog = b->cat,
					     .policies = b->policies},
			     &b->mesh) == 0,
			"mesh");
	b->update.work = put_peers;
	b->update.done = peers_are_there;
	sn__catalog_submit(b->cat, &b->update);
	(void)sn__loop_run(b->loop, SN_RUN_DEFAULT);
	sn__loop_defer(b->loop, &b->task, all);
	(void)sn__loop_run(b->loop, SN_RUN_DEFAULT);
	sn__mesh_close(b->mesh, NULL, NULL);
	(void)sn__loop_run(b->loop, SN_RUN_NOWAIT);
	sn__mesh_destroy(b->mesh);
	sn__catalog_destroy(b->cat);
	sn__policies_destroy(b->policies);
	sn__loop_close(b->loop, NULL, NULL);
	sn__free(b->targets);
	sn__free(b->names);
	sn__free(b->order);
	sn__free(b);
	return 0;
}
