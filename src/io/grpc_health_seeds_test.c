/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watchers of health over a network that is bad at random, while states change, services are added,
 * watchers pause, give up and come again. Whoever is still watching when all is quiet was told the
 * present state last, never the same state twice in a row; with the shutdown every watch ends once.
 */
#include "io/http_server.h"
#include "io/grpc_client.h"
#include "io/grpc_server.h"
#include "io/seeds_test.h"
#include "io/sim.h"

#define N 10
#define NAMES 3
#define STEPS 40

static const char *const names[NAMES] = {"", "test.Early", "test.Late"};

struct watch {
	struct sn_grpc_req req;
	struct sn_buf framed;
	unsigned name;
	int last; /* state told last; -1: none */
	bool open, paused;
};

static struct {
	struct sn_sim *sim;
	struct sn_loop *client, *server_loop;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct sn_http_server *server;
	struct sn_grpc_services *services;
	struct sn_grpc_health *health;
	struct watch watches[N];
	int states[NAMES]; /* 1 SERVING, 2 NOT_SERVING, 3 SERVICE_UNKNOWN */
	unsigned gone;
	struct sn_timer timer;
	struct sn_rng rng;
	unsigned steps;
} w;

static void nothing(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	sn_grpc_exchange_finish(x, SN_GRPC_UNIMPLEMENTED, NULL, NULL, 0);
}

static const struct sn_grpc_method methods[] = {{.name = "Nothing", .start = nothing}};
static const struct sn_grpc_service early = {
		.size = sizeof(early), .name = "test.Early", .methods = methods, .n_methods = 1};
static const struct sn_grpc_service late = {
		.size = sizeof(late), .name = "test.Late", .methods = methods, .n_methods = 1};

/* ---- watchers ---- */

static void on_message(struct sn_grpc_req *req, struct sn_str message)
{
	struct watch *a = SN_CONTAINER_OF(req, struct watch, req);

	assert_true(a->open && !a->paused);
	assert_int_equal(message.len, 2);
	assert_int_equal(message.ptr[0], 8);
	assert_int_not_equal(message.ptr[1], a->last);
	a->last = message.ptr[1];
	assert_in_range(a->last, 1, 3);
}

static void on_done(struct sn_grpc_req *req)
{
	struct watch *a = SN_CONTAINER_OF(req, struct watch, req);

	assert_true(a->open);
	a->open = false;
	sn__grpc_status_finish(&req->status);
	sn__buf_finish(&a->framed);
}

static const struct sn_grpc_req_ops ops = {.on_message = on_message, .on_done = on_done};

static void watch(struct watch *a, unsigned name)
{
	char request[20] = {1 << 3 | 2, (char)strlen(names[name])};

	memcpy(request + 2, names[name], strlen(names[name]));
	memset(a, 0, sizeof *a);
	sn__buf_init(&a->framed, 1000);
	assert_int_equal(sn__grpc_frame(&a->framed,
					 (struct sn_str){request, strlen(names[name]) + 2}, false),
			0);
	a->req = (struct sn_grpc_req){.ops = &ops,
			.path = SN_STR("/grpc.health.v1.Health/Watch"),
			.framed = sn__buf_str(&a->framed),
			.connect_timeout_ms = 20000};
	a->name = name;
	a->last = -1;
	a->open = true;
	assert_int_equal(sn__grpc_start(w.dest, &a->req, NULL), 0);
}

/* ---- what happens ---- */

static void set(unsigned name, bool serving)
{
	int r = sn__grpc_health_set(w.health, names[name], serving);

	if (w.states[name] == 3) {
		assert_int_equal(r, SN_E_NOT_FOUND);
		return;
	}
	assert_int_equal(r, 0);
	w.states[name] = serving ? 1 : 2;
}

static void touch(struct watch *a)
{
	if (!a->open) {
		watch(a, (unsigned)sn__rng_below(&w.rng, NAMES));
	} else if (sn__rng_below(&w.rng, 4) == 0) {
		sn__grpc_cancel(&a->req, SN_E_CANCELLED);
	} else {
		a->paused = !a->paused;
		sn__grpc_pause(&a->req, a->paused);
	}
}

static void on_step(struct sn_timer *t)
{
	if (w.steps++ == STEPS)
		return;
	if (sn__rng_below(&w.rng, 3) == 0) {
		touch(&w.watches[sn__rng_below(&w.rng, N)]);
	} else if (w.states[2] == 3 && sn__rng_below(&w.rng, 20) == 0) {
		assert_int_equal(sn__grpc_services_add(w.services, &late, NULL), 0);
		w.states[2] = 1;
		set(2, true);
	} else {
		set((unsigned)sn__rng_below(&w.rng, NAMES), sn__rng_below(&w.rng, 2) == 0);
	}
	sn__timer_start(w.client, &w.timer, sn__rng_below(&w.rng, 100) * SN_NS_PER_MS, on_step);
}

/* ---- the world ---- */

static void run(uint64_t s)
{
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + s * SN_NS_PER_S);
}

static void open_world(uint64_t seed)
{
	struct sn_sim_options net = {.seed = seed};
	struct sn_http_server_config config = {.max_body = UINT64_MAX};
	struct sn_http_dest_options dest = {.host = "127.0.0.1", .port = 80, .version = SN_HTTP_2};

	memset(&w, 0, sizeof w);
	sn__rng_seed(&w.rng, seed);
	net.latency_max_ns = sn__rng_below(&w.rng, 30) * SN_NS_PER_MS;
	net.loss = (unsigned)sn__rng_below(&w.rng, 2) * 30;
	net.reset = (unsigned)sn__rng_below(&w.rng, 2) * 10;
	net.partial_write = (unsigned)sn__rng_below(&w.rng, 400);
	net.partial_read = (unsigned)sn__rng_below(&w.rng, 400);
	dest.max_streams = 1 + (unsigned)sn__rng_below(&w.rng, N);
	w.states[0] = w.states[1] = 1;
	w.states[2] = 3;
	assert_int_equal(sn__sim_create(&net, &w.sim), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.client), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.server_loop), 0);
	assert_int_equal(sn__grpc_services_create(w.server_loop, NULL, &w.services), 0);
	assert_int_equal(sn__grpc_services_add(w.services, &early, NULL), 0);
	assert_int_equal(sn__grpc_health_create(w.services, &w.health, NULL), 0);
	assert_int_equal(sn__addr_parse_listen(SN_STR("127.0.0.1:80"), &config.addr, NULL), 0);
	assert_int_equal(sn__http_server_open(w.server_loop, &config, sn__grpc_handle, w.services,
					 &w.server, NULL),
			0);
	assert_int_equal(sn__http_pool_create(w.client, NULL, &w.pool), 0);
	assert_int_equal(sn__http_dest_create(w.pool, &dest, &w.dest), 0);
}

static void on_gone(void *arg)
{
	w.gone++;
}

static void close_world(void)
{
	sn__http_dest_unref(w.dest);
	sn__http_pool_close(w.pool, on_gone, NULL);
	run(2);
	sn__http_server_close(w.server, 0, on_gone, NULL);
	run(5);
	assert_int_equal(w.gone, 2);
	sn__grpc_health_destroy(w.health);
	sn__grpc_services_destroy(w.services);
	sn__loop_close(w.client, NULL, NULL);
	sn__loop_close(w.server_loop, NULL, NULL);
	sn__sim_destroy(w.sim);
}

static void one(uint64_t seed, bool single)
{
	static const struct sn_sim_options perfect;

	open_world(seed);
	for (unsigned i = 0; i < N; i++)
		watch(&w.watches[i], i % NAMES);
	sn__timer_start(w.client, &w.timer, SN_NS_PER_MS, on_step);
	run(STEPS / 10 + 5);
	assert_int_equal(w.steps, STEPS + 1);
	sn__sim_set(w.sim, &perfect);
	for (unsigned i = 0; i < N; i++) {
		struct watch *a = &w.watches[i];

		if (a->open && a->paused)
			sn__grpc_pause(&a->req, a->paused = false);
	}
	run(60);
	for (unsigned i = 0; i < N; i++) {
		const struct watch *a = &w.watches[i];

		if (single)
			print_message("watch %u of \"%s\": %s, told %d\n", i, names[a->name],
					a->open ? "open" : "ended", a->last);
		if (a->open)
			assert_int_equal(a->last, w.states[a->name]);
	}
	sn__grpc_health_shutdown(w.health);
	run(10);
	for (unsigned i = 0; i < N; i++)
		assert_false(w.watches[i].open);
	close_world();
}

int main(void)
{
	return seeds_main("grpc_health", one);
}
