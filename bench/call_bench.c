/* SPDX-License-Identifier: Apache-2.0 */
/* What the mesh costs: picks from a held target, and a call over a transport that does nothing. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mesh/call.h"
#include "mesh/catalog_write.h"
#include "mesh/target.h"

#define PEERS 10
#define PICKS 5000000u
#define CALLS 500000u
#define IN_FLIGHT 64
#define REPEAT 5

struct bench {
	struct sn_loop *loop;
	struct sn_catalog *cat;
	struct sn_policies *policies;
	struct sn_metrics *metrics;
	struct sn_recorder *recorder;
	struct sn_mesh *mesh;
	struct sn_task task;
	struct sn_update update;
	struct sn_call calls[IN_FLIGHT];
	unsigned done;
};

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "call_bench: %s\n", what);
	abort();
}

static void report(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\":\"call: %s\",\"value\":%.1f,\"unit\":\"%s\",\"want\":\"%s\"}\n", name,
			value, unit, want);
	(void)fflush(stdout);
}

/* ---- the catalog ---- */

static int put_peers(struct sn_update *u, struct sn_batch *batch)
{
	const struct sn_path path = {
			.n = 3, .part = {SN_STR("service"), SN_STR("s"), SN_STR("default")}};
	char json[2048];
	size_t at = 1;

	json[0] = '{';
	for (unsigned i = 1; i <= PEERS; i++)
		at += (size_t)snprintf(json + at, sizeof json - at,
				"%s\"%u\":{\"protocol\":\"http\",\"address\":\"10.0.0.%u\",\"port\":80}",
				i > 1 ? "," : "", i, i);
	json[at++] = '}';
	return sn__batch_set_peers(batch, &path, (struct sn_str){json, at});
}

static void peers_are_there(struct sn_update *u, int code, uint32_t changes)
{
	struct bench *b = SN_CONTAINER_OF(u, struct bench, update);

	must(code == 0 && changes == 1, "catalog");
	sn__loop_stop(b->loop);
}

static struct sn_target *target(struct bench *b)
{
	struct sn_target *t;

	must(sn__catalog_target(b->cat, SN_STR("service"), SN_STR("s"), SN_STR("default"), &t) == 0,
			"target");
	return t;
}

/* ---- picks ---- */

static double picks(struct bench *b, enum sn_balance balance)
{
	struct sn_mesh_target *mt = sn__mesh_target(b->mesh, target(b));
	const struct sn_peers *peers = sn__target_peers(target(b));
	struct sn_policy policy = *sn__mesh_policy(b->mesh, target(b), SN_DIALECT_CORE);
	uint64_t start = sn__clock_mono_ns();
	uint32_t sum = 0;

	for (unsigned i = 0; i < PICKS; i++) {
		struct sn_pick pick = {.mt = mt,
				.peers = peers,
				.policy = &policy,
				.balance = balance,
				.rng = sn__loop_rng(b->loop),
				/* Costs are seen to decay. */
				.now_ns = start + (uint64_t)i * 1000};

		must(sn__balance_pick(&pick) == 0, "pick");
		sum += pick.index;
	}
	must(sum > 0 || balance == SN_BALANCE_FIRST, "index");
	return (double)(sn__clock_mono_ns() - start) / PICKS;
}

static void bench_picks(struct bench *b)
{
	static const struct {
		enum sn_balance balance;
		const char *name, *want;
	} kinds[] = {
			{SN_BALANCE_RANDOM, "pick of 10, random", "<= 50 (5-8 feasible)"},
			{SN_BALANCE_ROUND_ROBIN, "pick of 10, round-robin", "<= 50"},
			{SN_BALANCE_LEAST_REQUEST, "pick of 10, least-request", "<= 50"},
			{SN_BALANCE_PEAK_EWMA, "pick of 10, peak-ewma", "<= 50 (35-47 feasible)"},
			{SN_BALANCE_FIRST, "pick of 10, first", "<= 50"},
	};
	const struct sn_peers *peers = sn__target_peers(target(b));

	for (uint32_t i = 0; i < peers->n; i++) {
		struct sn_peer_state *ps = sn__mesh_peer(
				sn__mesh_target(b->mesh, target(b)), &peers->peers[i]);

		must(ps != NULL, "memory");
		sn__peer_state_set_cost(ps, 1e6 + i * 1e4, sn__clock_mono_ns());
	}
	for (size_t k = 0; k < SN_COUNT(kinds); k++) {
		double best = 1e9;

		for (int i = 0; i < REPEAT; i++)
			best = SN_MIN(best, picks(b, kinds[k].balance));
		report(kinds[k].name, best, "ns", kinds[k].want);
	}
}

/* ---- calls ---- */

static int attempt(struct sn_call *call)
{
	return 0;
}

static void no_abort(struct sn_call *call, int code)
{
	must(false, "aborted");
}

static void on_done(struct sn_call *call, const struct sn_error *err)
{
	must(err == NULL, "failed");
}

static const struct sn_call_ops ops = {.attempt = attempt, .abort = no_abort, .done = on_done};

static void calls(struct bench *b, enum sn_dialect dialect)
{
	struct sn_outcome ok = SN_OUTCOME_INIT;
	struct sn_target *t = target(b);

	for (unsigned n = 0; n < CALLS; n += IN_FLIGHT) {
		for (unsigned i = 0; i < IN_FLIGHT; i++) {
			struct sn_call *call = &b->calls[i];

			memset(call, 0, sizeof *call);
			call->ops = &ops;
			call->target = t;
			call->what = SN_STR("GET /");
			call->dialect = dialect;
			must(sn__call_start(b->mesh, call) == 0, "start");
		}
		ok.first_byte_ns = sn__loop_now_ns(b->loop) + 1000000;
		for (unsigned i = 0; i < IN_FLIGHT; i++)
			sn__call_attempt_done(&b->calls[i], &ok);
	}
}

static void bench_calls(struct bench *b, enum sn_dialect dialect, const char *name)
{
	double best = 1e9;
	uint64_t allocs = 0;
	char text[64];

	for (int i = 0; i < REPEAT; i++) {
		uint64_t start, count = sn__mem_count();

		start = sn__clock_mono_ns();
		calls(b, dialect);
		best = SN_MIN(best, (double)(sn__clock_mono_ns() - start) / CALLS);
		allocs = sn__mem_count() - count;
	}
	(void)snprintf(text, sizeof text, "%s, start to end", name);
	report(text, best, "ns", "<= 1000");
	(void)snprintf(text, sizeof text, "%s, allocations", name);
	report(text, (double)allocs, "", "0");
}

static void all(struct sn_task *task)
{
	struct bench *b = SN_CONTAINER_OF(task, struct bench, task);

	bench_picks(b);
	bench_calls(b, SN_DIALECT_BERLIOZ, "berlioz call (random)");
	bench_calls(b, SN_DIALECT_CORE, "core call (peak-ewma)");
	sn__loop_stop(b->loop);
}

int main(void)
{
	struct bench *b = sn__calloc(1, sizeof *b);
	struct sn_error err;

	must(b != NULL && sn__loop_uv_open(NULL, &b->loop, &err) == 0, "loop");
	must(sn__catalog_create(b->loop, NULL, NULL, &b->cat) == 0, "catalog");
	must(sn__policies_create(&(struct sn_policies_options){.loop = b->loop}, &b->policies) == 0,
			"policies");
	must(sn__metrics_create(0, &b->metrics) == 0, "metrics");
	must(sn__recorder_create(&(struct sn_recorder_options){.loop = b->loop}, &b->recorder,
			     &err) == 0,
			"recorder");
	must(sn__mesh_create(&(struct sn_mesh_options){.loop = b->loop,
					     .catalog = b->cat,
					     .policies = b->policies,
					     .metrics = b->metrics,
					     .recorder = b->recorder},
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
	sn__recorder_destroy(b->recorder);
	sn__metrics_destroy(b->metrics);
	sn__catalog_destroy(b->cat);
	sn__policies_destroy(b->policies);
	sn__loop_close(b->loop, NULL, NULL);
	sn__free(b);
	return 0;
}
