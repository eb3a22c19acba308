/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances that flap, are slow, die, come and go, up to thousands of them, against a model of six lines;
 * and the checkers against a simulated network that refuses, stalls, breaks and loses: once it is quiet
 * for long enough, what is said of an instance is how it is.
 */
#include "hub/check.h"
#include "hub/health_world_test.h"
#include "io/http_server.h"
#include "io/seeds_test.h"

static struct sn_rng rng;

static uint64_t below(uint64_t n)
{
	return sn__rng_below(&rng, n);
}

/* ---- the machinery against the model ---- */

struct model {
	struct inst inst;
	bool in, unwell;
	unsigned run, went_unwell, went_well;
};

static struct model *models;
static unsigned n_models;
static bool again; /* the owner could not act upon what it was told */

static void model_judge(struct inst *i, int code)
{
	struct model *m = SN_CONTAINER_OF(i, struct model, inst);
	bool failed = code != 0;

	if (code == SN_E_NOMEM)
		return;
	m->run = failed != m->unwell ? m->run + 1 : 0;
	if (m->run < (m->unwell ? w.spec.healthy_after : w.spec.unhealthy_after))
		return;
	m->unwell = failed;
	m->run = 0;
	m->went_unwell += failed;
	m->went_well += !failed;
	if (failed && again) {
		m->unwell = false;
		m->run = w.spec.unhealthy_after - 1;
	}
}

static void told(struct inst *i)
{
	if (again)
		sn__hub_health_tell_again(&i->c);
}

static void model_check(const struct model *m)
{
	assert_int_equal(m->inst.went_unwell, m->went_unwell);
	assert_int_equal(m->inst.went_well, m->went_well);
	if (m->in)
		assert_int_equal(m->inst.c.state == SN_HUB_STATE_UNWELL, m->unwell);
}

static void model_step(struct model *m)
{
	static const int codes[] = {0, 0, SN_E_CONNECT, SN_E_TIMEOUT, SN_E_NOMEM};

	switch (below(4)) {
	case 0:
		if (m->in)
			sn__hub_health_remove(&m->inst.c);
		else
			sn__hub_health_add(w.health, &m->inst.c, &w.spec);
		m->in = !m->in;
		m->inst.asked = 0; /* gaps are counted anew */
		m->unwell = false;
		m->run = 0;
		break;
	case 1:
		m->inst.slow_ms = (uint32_t)below(below(2) == 0 ? 5 : 1500);
		break;
	default:
		m->inst.code = codes[below(SN_COUNT(codes))];
		break;
	}
}

static void against_the_model(uint64_t seed)
{
	unsigned steps = 20 + (unsigned)below(100);

	n_models = below(400) == 0 ? 3000 : 1 + (unsigned)below(40);
	models = test_calloc(n_models, sizeof *models);
	world_open(seed, 1 + (unsigned)below(below(2) == 0 ? 3 : 300));
	w.judged = model_judge;
	w.spec.every_ms = 1 + (uint32_t)below(5000);
	w.spec.timeout_ms = 1 + (uint32_t)below(1000);
	w.spec.healthy_after = 1 + (unsigned)below(4);
	w.spec.unhealthy_after = 1 + (unsigned)below(4);
	again = below(4) == 0;
	for (unsigned i = 0; i < n_models; i++) {
		models[i].inst.then = told;
		while (!models[i].in)
			model_step(&models[i]);
	}
	for (unsigned s = 0; s < steps; s++) {
		model_step(&models[below(n_models)]);
		world_pass(below(w.spec.every_ms));
		for (unsigned i = 0; i < SN_MIN(n_models, 50); i++)
			model_check(&models[i]);
	}
	for (unsigned i = 0; i < n_models; i++) {
		struct model *m = &models[i];

		model_check(m);
		if (m->inst.asked > 1) /* ticks of 10 ms, to which all is rounded */
			assert_true(m->inst.gap_min_ns + 10 * SN_NS_PER_MS >=
					sn_ms_to_ns(w.spec.every_ms) * 9 / 10);
		sn__hub_health_remove(&m->inst.c);
	}
	world_close();
	test_free(models);
}

/* ---- the checkers against the network ---- */

#define HOSTS 12

enum trouble { FINE, REFUSED, STALLED, ANGRY, TROUBLES };

struct host {
	struct sn_hub_checked c;
	struct sn_hub_check_spec spec;
	struct sn_addr addr;
	char address[32];
	struct sn_http_server *server;
	enum trouble trouble;
	bool is_http, gone;
	unsigned went_unwell, went_well;
};
static struct host hosts[HOSTS];
static struct sn_loop *servers;

static void serve(struct sn_exchange *x, void *arg)
{
	const struct host *h = arg;

	if (sn_exchange_respond(x, h->trouble == ANGRY ? 500 : 204, NULL, 0, NULL, 0) < 0)
		sn_exchange_abort(x);
}

static void host_about(struct sn_hub_checked *c, struct sn_hub_probe *probe)
{
	probe->address = SN_CONTAINER_OF(c, struct host, c)->address;
}

static void host_changed(struct sn_hub_checked *c, const struct sn_error *err)
{
	struct host *h = SN_CONTAINER_OF(c, struct host, c);

	assert_true((err != NULL) == (c->state == SN_HUB_STATE_UNWELL));
	h->went_unwell += err != NULL;
	h->went_well += err == NULL;
	assert_in_range(h->went_unwell - h->went_well, 0, 1); /* by turns */
}

static void host_open(struct sn_hub_health *health, struct host *h, struct sn_hub_checker *checker)
{
	struct sn_http_server_config config = {0};
	unsigned i = (unsigned)(h - hosts);

	*h = (struct host){.is_http = i % 2 == 0};
	(void)snprintf(h->address, sizeof h->address, "127.0.0.%u:80", i + 1);
	assert_int_equal(sn__addr_parse_listen(sn_str_from(h->address), &h->addr, NULL), 0);
	config.addr = h->addr;
	config.idle_timeout_ms = 1 + (uint32_t)below(20000);
	assert_int_equal(sn__http_server_open(servers, &config, serve, h, &h->server, NULL), 0);
	h->spec = (struct sn_hub_check_spec){.checker = checker,
			.every_ms = 500 + (uint32_t)below(2000),
			.timeout_ms = 300 + (uint32_t)below(500),
			.healthy_after = 1 + (unsigned)below(3),
			.unhealthy_after = 1 + (unsigned)below(3)};
	sn__hub_health_add(health, &h->c, &h->spec);
}

static void host_set(struct host *h, enum trouble trouble)
{
	h->trouble = trouble;
	sn__sim_refuse(w.sim, &h->addr, trouble == REFUSED);
	sn__sim_stall(w.sim, &h->addr, trouble == STALLED);
	if (trouble == REFUSED) /* it has died */
		sn__sim_break(w.sim, &h->addr);
}

static void network(uint64_t seed)
{
	static const struct sn_hub_health_ops ops = {host_about, host_changed};
	const struct sn_check_http_options http_opts = {.path = "/healthz"};
	const struct sn_sim_options calm = {0},
				    rough = {.latency_max_ns = 50 * SN_NS_PER_MS,
						    .loss = 30,
						    .reset = 10,
						    .refuse = 30,
						    .partial_write = 300,
						    .partial_read = 300};
	struct sn_hub_checker *tcp, *http;
	struct sn_hub_health *health;
	struct sn_http_pool *pool;
	bool closed = false;

	assert_int_equal(sn__sim_loop(w.sim, &servers), 0);
	assert_int_equal(sn__http_pool_create(w.loop, NULL, &pool), 0);
	assert_int_equal(sn__check_tcp_create(w.loop, &tcp), 0);
	assert_int_equal(sn__check_http_create(w.loop, pool, &http_opts, &http), 0);
	assert_int_equal(sn__hub_health_open(w.loop, &ops, 1 + (unsigned)below(20), &health), 0);
	for (unsigned i = 0; i < HOSTS; i++)
		host_open(health, &hosts[i], i % 2 == 0 ? http : tcp);
	for (uint64_t rounds = 1 + below(2); rounds > 0; rounds--) {
		sn__sim_set(w.sim, &rough);
		for (unsigned s = 0; s < 30; s++) {
			host_set(&hosts[below(HOSTS)], (enum trouble)below(TROUBLES));
			world_pass(below(1000));
		}
		sn__sim_set(w.sim, &calm);
		world_pass(60000);
		for (unsigned i = 0; i < HOSTS; i++) {
			const struct host *h = &hosts[i];
			bool fine = h->trouble == FINE || (h->trouble == ANGRY && !h->is_http);

			assert_int_equal(
					h->c.state, fine ? SN_HUB_STATE_WELL : SN_HUB_STATE_UNWELL);
			assert_int_equal(h->went_unwell - h->went_well, !fine);
		}
	}
	for (unsigned i = 0; i < HOSTS; i++) {
		host_set(&hosts[i], FINE);
		sn__hub_health_remove(&hosts[i].c);
	}
	sn__hub_checker_unref(tcp);
	sn__hub_checker_unref(http);
	sn__hub_health_close(health, world_set, &closed);
	world_pass(1000);
	assert_true(closed);
	closed = false;
	sn__http_pool_close(pool, world_set, &closed);
	world_pass(1000);
	assert_true(closed);
	for (unsigned i = 0; i < HOSTS; i++)
		sn__http_server_close(hosts[i].server, 0, world_set, &hosts[i].gone);
	world_pass(10000);
	for (unsigned i = 0; i < HOSTS; i++)
		assert_true(hosts[i].gone);
	sn__loop_close(servers, NULL, NULL);
}

static void one(uint64_t seed, bool single)
{
	sn__rng_seed(&rng, seed);
	against_the_model(seed);
	world_open(seed, 0);
	network(seed);
	world_close();
}

int main(void)
{
	return seeds_main("health", one);
}
