/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one changed EndpointSlice of a large service costs the agent's loop: 50 slices of 100 pods, of which
 * one pod of one slice is another one each time. Everything from the bytes of the watch to the sections
 * of the store, and the message for the connectors, on the simulated network (whose own part, and
 * the scripted API server's, is measured, too). Optional argument: slices (50).
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "app/agent_store.h"
#include "app/agent_targets.h"
#include "base/json.h"
#include "io/http_script.h"

#define PODS 100u
#define CHANGES 200u

static struct sn_sim *sim;
static struct sn_loop *client;
static struct sn_targets *targets;
static struct sn_target_plan *plan;
static struct sn_meshfile mesh;
static struct sn_store store;
static unsigned slices = 50, version = 1, n_told;
static size_t text_bytes;
static uint64_t merge_ns, load_ns, text_ns;
static struct sn_buf answer;
static struct step step;

static uint64_t now_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) < 0)
		abort();
	return (uint64_t)t.tv_sec * SN_NS_PER_S + (uint64_t)t.tv_nsec;
}

static void check(int r, const char *what)
{
	if (r >= 0)
		return;
	(void)fprintf(stderr, "%s: %s\n", what, sn_strerror(r));
	exit(1);
}

/* ---- the API server ---- */

static void put_slice(unsigned i)
{
	check(sn__buf_printf(&answer,
			      "{\"metadata\":{\"name\":\"web-%u\",\"resourceVersion\":\"%u\"},"
			      "\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"http\",\"port\":8080,"
			      "\"protocol\":\"TCP\"}],\"endpoints\":[",
			      i, version),
			"slice");
	for (unsigned p = 0; p < PODS; p++)
		check(sn__buf_printf(&answer,
				      "%s{\"addresses\":[\"10.%u.%u.%u\"],\"conditions\":{\"ready\":true,"
				      "\"serving\":true,\"terminating\":false},\"nodeName\":\"node-%u\","
				      "\"targetRef\":{\"kind\":\"Pod\",\"namespace\":\"shop\",\"name\":"
				      "\"web-7d4b9cf5c8-%04x%x\"},\"zone\":\"eu-1a\"}",
				      p > 0 ? "," : "", i / 250, i % 250, p, p, p * 977 % 65536,
				      p == 0 ? version * slices + i : i),
				"slice");
	check(sn__buf_puts(&answer, "]}"), "slice");
}

static const struct step *choose(struct script *script, struct sn_str request)
{
	bool watch = memmem(request.ptr, request.len, "watch=true", 10) != NULL;

	sn__buf_clear(&answer);
	check(sn__buf_puts(&answer, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"), "answer");
	if (watch) {
		version++;
		check(sn__buf_puts(&answer, "{\"type\":\"MODIFIED\",\"object\":"), "answer");
		put_slice(version * 7 % slices);
		check(sn__buf_puts(&answer, "}\n"), "answer");
	} else {
		check(sn__buf_puts(&answer, "{\"items\":["), "answer");
		for (unsigned i = 0; i < slices; i++) {
			check(sn__buf_puts(&answer, i > 0 ? "," : ""), "answer");
			put_slice(i);
		}
		check(sn__buf_puts(&answer, "],\"metadata\":{\"resourceVersion\":\"1\"}}"),
				"answer");
	}
	check(sn__buf_append(&answer, "", 1), "answer");
	step = (struct step){.answer = sn__buf_str(&answer).ptr, .then = THEN_CLOSE};
	return &step;
}

/* ---- the agent ---- */

static void on_section(
		struct sn_store_task *task, const char *section, const json_t *value, void *arg)
{
	uint64_t before = now_ns();
	char *text = sn__json_text(value);

	text_bytes = text != NULL ? strlen(text) : 0;
	sn__free(text);
	text_ns += now_ns() - before;
	n_told++;
}

static void on_changed(void *arg)
{
	json_t *common, *tasks;
	uint64_t before = now_ns(), text_before = text_ns;

	check(sn__targets_merge(plan, &mesh, &common, &tasks), "merge");
	merge_ns += now_ns() - before;
	before = now_ns();
	check(sn__store_load(&store, common, tasks, on_section, NULL), "load");
	json_decref(common);
	json_decref(tasks);
	load_ns += now_ns() - before - (text_ns - text_before);
}

static void open_agent(void)
{
	static const char text[] = "services: {a: {endpoints: {x: {from: k8s://shop/web}}}}\n"
				   "kubernetes: {server: 'http://127.0.0.1:6443'}\n";
	const struct sn_targets_env env = {.loop = client, .changed = on_changed};
	struct sn_problems problems;

	sn__problems_init(&problems, "mesh");
	check(sn__meshfile_parse("mesh", sn_str_from(text), &mesh, &problems), "mesh");
	sn__problems_finish(&problems);
	check(sn__store_init(&store), "store");
	check(sn__targets_open(&env, &targets), "targets");
	check(sn__targets_plan(targets, &mesh, NULL, &plan, NULL), "plan");
	sn__target_plan_use(plan);
}

static void result(const char *name, uint64_t ns, const char *want)
{
	(void)printf("{\"name\":\"sources: one of %u slices changes: %s\",\"value\":%.3g,"
		     "\"unit\":\"ms\",\"want\":\"%s\"}\n",
			slices, name, (double)ns / CHANGES / 1e6, want);
}

int main(int argc, char **argv)
{
	const struct sn_sim_options net = {.seed = 1};
	struct sn_loop *server;
	struct script script;
	uint64_t begun;

	if (argc > 1)
		slices = (unsigned)strtoul(argv[1], NULL, 10);
	sn__buf_init(&answer, 256u << 20);
	check(sn__sim_create(&net, &sim), "sim");
	check(sn__sim_loop(sim, &client), "loop");
	check(sn__sim_loop(sim, &server), "loop");
	script_open_at(&script, server, "127.0.0.1", 6443, &step, 1);
	script.choose = choose;
	open_agent();
	while (n_told < 10)
		(void)sn__sim_run(sim, sn__sim_now_ns(sim) + SN_NS_PER_S / 10);
	merge_ns = load_ns = text_ns = n_told = 0;
	begun = now_ns();
	while (n_told < CHANGES)
		(void)sn__sim_run(sim, sn__sim_now_ns(sim) + SN_NS_PER_S / 10);
	begun = now_ns() - begun;
	result("all of it", begun, "<= 10");
	result("of that the message for connectors", text_ns, "");
	result("of that merging it into the mesh file's", merge_ns, "");
	result("of that comparing it with what was served", load_ns, "");
	(void)printf("{\"name\":\"sources: the message\",\"value\":%zu,\"unit\":\"bytes\"}\n",
			text_bytes);
	sn__target_plan_destroy(plan);
	sn__targets_close(targets);
	sn__meshfile_finish(&mesh);
	sn__store_finish(&store);
	(void)sn__sim_run(sim, sn__sim_now_ns(sim) + SN_NS_PER_S);
	script_finish(&script);
	(void)sn__sim_run(sim, SN_NEVER_NS);
	sn__loop_close(client, NULL, NULL);
	sn__loop_close(server, NULL, NULL);
	sn__sim_destroy(sim);
	sn__buf_finish(&answer);
	return 0;
}
