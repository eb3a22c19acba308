/* SPDX-License-Identifier: Apache-2.0 */
/* Two hubs on a real etcd, which is out of reach of one of them, or of both, for longer than a hub's
 * lease lasts: no node that lives is lost, none is looked after twice. */
#include "etcd_line.h"
#include "etcd_site.h"
#include "hub/registry.h"

#define NODES 40u /* of each hub */
#define TTL_MS 2000u

/* Every node is well. */
struct well {
	struct sn_hub_checker checker; /* first */
	struct sn_loop *loop;
	struct sn_task task;
	struct sn_hub_probe *asked[4 * NODES];
	unsigned n_asked;
};
static struct well well;

static void well_answer(struct sn_task *task)
{
	struct sn_hub_probe *asked[SN_COUNT(well.asked)];
	unsigned n = well.n_asked;

	memcpy(asked, well.asked, n * sizeof(asked[0]));
	well.n_asked = 0;
	for (unsigned i = 0; i < n; i++)
		asked[i]->done(asked[i], NULL);
}

static void well_start(struct sn_hub_checker *c, struct sn_hub_probe *probe)
{
	assert_true(well.n_asked < SN_COUNT(well.asked));
	well.asked[well.n_asked++] = probe;
	sn__loop_defer(well.loop, &well.task, well_answer);
}

static void well_cancel(struct sn_hub_checker *c, struct sn_hub_probe *probe)
{
}

struct end {
	struct sn_hub_registry *registry;
	struct sn_hub_store *store;
	const char *name;
};
static struct end here, there; /* there: over the line */
static struct line line;

struct change {
	struct sn_hub_change c; /* first */
	bool done;
	enum sn_hub_refusal refusal;
};

static void change_done(struct sn_hub_change *c, enum sn_hub_refusal refusal,
		const struct sn_hub_node *node, const struct sn_error *err)
{
	struct change *change = (struct change *)c;

	change->refusal = refusal;
	change->done = true;
}

static enum sn_hub_refusal enter(struct store_world *w, struct end *end, const char *id)
{
	struct change change = {.c.done = change_done};

	assert_int_equal(sn__hub_register(end->registry, id, "a:1", NULL, &change.c), 0);
	store_until(w, &change.done);
	return change.refusal;
}

static void end_open(struct store_world *w, struct end *end, const char *name)
{
	const struct sn_hub_registry_options opts = {.store = end->store,
			.checker = &well.checker,
			.hub = name,
			.hub_ttl_ms = TTL_MS};

	end->name = name;
	assert_int_equal(sn__hub_registry_open(w->loop, &opts, &end->registry, NULL), 0);
}

static int begin(void **state)
{
	struct store_world *w;

	if (site_begin(state) != 0)
		return -1;
	w = *state;
	well = (struct well){.checker = {well_start, well_cancel}, .loop = w->loop};
	here.store = w->store;
	line_open(&line, server.port);
	site_endpoints[0] = line.url;
	assert_int_equal(site_open(w, &w->second), 0);
	there.store = w->second;
	end_open(w, &here, "here");
	end_open(w, &there, "there");
	for (unsigned i = 0; i < 2 * NODES; i++) {
		char id[16];

		(void)snprintf(id, sizeof id, "n%02u", i);
		assert_int_equal(enter(w, i < NODES ? &here : &there, id), SN_HUB_OK);
	}
	return 0;
}

static void end_close(struct store_world *w, struct end *end)
{
	bool closed = false;

	sn__hub_registry_close(end->registry, store_set, &closed);
	store_until(w, &closed);
}

static int finish(void **state)
{
	struct store_world *w = *state;

	end_close(w, &there);
	end_close(w, &here);
	line_close(&line);
	return site_end(state);
}

static unsigned owned_by(const struct end *end, const char *owner)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 2 * NODES; i++) {
		const struct sn_hub_node *node;
		char id[16];

		(void)snprintf(id, sizeof id, "n%02u", i);
		node = sn__hub_find(end->registry, sn_str_from(id));
		n += node != NULL && strcmp(node->owner, owner) == 0;
	}
	return n;
}

/* Both say the same: all are there, each is somebody's who is there. */
static bool settled(size_t from, size_t to)
{
	size_t n = sn__hub_count(here.registry);
	struct sn_hub_counts a, b;

	sn__hub_registry_counts(here.registry, &a);
	sn__hub_registry_counts(there.registry, &b);
	return n >= from && n <= to && a.nodes == n && b.nodes == n && a.hubs == 2 && b.hubs == 2 &&
			a.own + b.own == n && owned_by(&here, "here") == owned_by(&there, "here") &&
			owned_by(&here, "there") == owned_by(&there, "there") &&
			owned_by(&here, "here") + owned_by(&here, "there") == 2 * NODES;
}

static void describe(const struct end *end, char text[160])
{
	struct sn_hub_counts c;

	sn__hub_registry_counts(end->registry, &c);
	(void)snprintf(text, 160, "%s: %u nodes, %u its own, %u hubs, %u here's, %u there's",
			end->name, (unsigned)c.nodes, (unsigned)c.own, (unsigned)c.hubs,
			owned_by(end, "here"), owned_by(end, "there"));
}

/* For 300 ms on end: on a slow machine a lease may run out once more. */
static void until_settled_at(struct store_world *w, size_t from, size_t to)
{
	const struct site *site = w->arg;
	char a[160], b[160];
	unsigned calm = 0;

	for (unsigned i = 0; i < 6000 && calm < 30; i++) {
		store_pass(w, 10);
		calm = settled(from, to) ? calm + 1 : 0;
	}
	describe(&here, a);
	describe(&there, b);
	if (calm < 30)
		fail_msg("not settled: %s; %s; %u times away, %u times back, last: %s", a, b,
				site->n_away, site->n_back, site->why);
}

static void until_settled(struct store_world *w, size_t n)
{
	until_settled_at(w, n, n);
}

static uint64_t adopted(const struct end *end)
{
	struct sn_hub_counts counts;

	sn__hub_registry_counts(end->registry, &counts);
	return counts.adopted;
}

/* From now on it is found out soon that nobody answers. */
static void hurry(struct store_world *w)
{
	site_wait(w->store, 500);
	site_wait(w->second, 500);
}

static void test_line_cut(void **state)
{
	struct store_world *w = *state;
	enum sn_hub_refusal late;
	unsigned to_adopt;
	uint64_t before;

	until_settled(w, 2 * NODES);
	to_adopt = owned_by(
			&here, "there"); /* NODES, if the machine is not too slow for the lease */
	before = adopted(&here);
	hurry(w);
	line_cut(&line);
	/* The watch may tell it before the operation's answer, which is what counts. */
	for (unsigned i = 0; i < 1000 &&
			(owned_by(&here, "here") < 2 * NODES || adopted(&here) - before < to_adopt);
			i++)
		store_pass(w, 10);
	assert_int_equal(owned_by(&here, "here"), 2 * NODES);
	assert_int_equal(adopted(&here) - before, to_adopt); /* each once */
	assert_int_equal(sn__hub_count(there.registry),
			2 * NODES); /* it goes on with what it knows */
	assert_int_equal(enter(w, &there, "late"), SN_HUB_INSERT_FAILED);
	assert_int_equal(enter(w, &here, "new"), SN_HUB_OK);
	/* What was on the line when it was cut may be carried out now, though nobody hears of it. */
	line_heal(&line);
	until_settled_at(w, 2 * NODES + 1, 2 * NODES + 2);
	late = enter(w, &there, "late");
	assert_true(late == SN_HUB_OK || late == SN_HUB_EXISTS);
	until_settled(w, 2 * NODES + 2);
}

/* Both leases run out at once, and nobody is there to see it. */
static void test_etcd_stopped(void **state)
{
	struct store_world *w = *state;
	struct site *site = w->arg;

	until_settled(w, 2 * NODES);
	hurry(w);
	assert_int_equal(kill(server.pid, SIGSTOP), 0);
	store_pass(w, 2 * TTL_MS);
	assert_true(site->n_away >= 1);
	assert_int_equal(sn__hub_count(here.registry), 2 * NODES);
	assert_int_equal(sn__hub_count(there.registry), 2 * NODES);
	assert_int_equal(kill(server.pid, SIGCONT), 0);
	until_settled(w, 2 * NODES);
	assert_true(site->n_back >= 1);
	assert_int_equal(enter(w, &there, "new"), SN_HUB_OK);
	until_settled(w, 2 * NODES + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(test_line_cut, begin, finish),
			cmocka_unit_test_setup_teardown(test_etcd_stopped, begin, finish),
	};

	if (!etcd_there()) {
		puts("SKIPPED: etcd-server is missing");
		return 77;
	}
	return cmocka_run_group_tests(tests, site_start_server, site_stop_server);
}
