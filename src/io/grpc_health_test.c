/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1: what a check says, and what watchers are told. */
#include "io/grpc_world_test.h"

#define CHECK "/grpc.health.v1.Health/Check"
#define WATCH "/grpc.health.v1.Health/Watch"

static struct sn_grpc_services *services;
static struct sn_grpc_health *health;

static void nothing(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	sn_grpc_exchange_finish(x, SN_GRPC_UNIMPLEMENTED, NULL, NULL, 0);
}

static const struct sn_grpc_method nothing_methods[] = {{.name = "Nothing", .start = nothing}};
static const struct sn_grpc_service shop = {.size = sizeof(shop),
		.name = "test.Shop",
		.methods = nothing_methods,
		.n_methods = 1};
static const struct sn_grpc_service late = {.size = sizeof(late),
		.name = "test.Late",
		.methods = nothing_methods,
		.n_methods = 1};

static void open_all(struct world *w)
{
	assert_int_equal(sn__grpc_services_create(w->a, NULL, &services), 0);
	assert_int_equal(sn__grpc_services_add(services, &shop, NULL), 0);
	assert_int_equal(sn__grpc_health_create(services, &health, NULL), 0);
	gw_open(w, sn__grpc_handle, services);
}

static void close_all(void)
{
	gw_close();
	sn__grpc_health_destroy(health);
	sn__grpc_services_destroy(services);
}

/* Run until @cond. In the simulation a while passes, as what waits for the far end of a silent
 * connection would let all the time there is pass. */
#define WAIT(cond) \
	do { \
		if (gw.w->sim != NULL) \
			(void)sn__sim_run(gw.w->sim, sn__sim_now_ns(gw.w->sim) + 2 * SN_NS_PER_S); \
		else \
			UNTIL(cond); \
		assert_true(cond); \
	} while (0)

static struct sn_str request_for(const char *service, char *out)
{
	size_t n = strlen(service);

	out[0] = 1 << 3 | 2;
	out[1] = (char)n;
	memcpy(out + 2, service, n);
	return (struct sn_str){out, n > 0 ? n + 2 : 0};
}

static void check(const char *service, const char *expected)
{
	char request[100];
	struct call c;

	call_unary(&c, CHECK, request_for(service, request));
	call_expect(&c, expected);
}

static void watch(struct call *c, const char *service)
{
	char request[100];

	call_unary(c, WATCH, request_for(service, request));
}

#define IS_SERVING "head [<8><1>] OK OK"
#define IS_NOT_SERVING "head [<8><2>] OK OK"

static void test_check(void **state)
{
	open_all(*state);
	check("", IS_SERVING);
	check("test.Shop", IS_SERVING);
	check("grpc.health.v1.Health", IS_SERVING);
	check("test.Late", "STATUS NOT_FOUND \"no such service is served here\" only");
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", false), 0);
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", false), 0);
	check("test.Shop", IS_NOT_SERVING);
	check("", IS_SERVING); /* each for itself */
	assert_int_equal(sn__grpc_health_set(health, NULL, false), 0);
	check("", IS_NOT_SERVING);
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", true), 0);
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", true), 0);
	check("test.Shop", IS_SERVING);
	assert_int_equal(sn__grpc_health_set(health, "", true), 0);
	check("", IS_SERVING);
	assert_int_equal(sn__grpc_health_set(health, "test.Late", false), SN_E_NOT_FOUND);
	assert_int_equal(sn__grpc_services_add(services, &late, NULL), 0);
	check("test.Late", IS_SERVING);
	assert_int_equal(sn__grpc_health_set(health, "test.Late", false), 0);
	check("test.Late", IS_NOT_SERVING);
	close_all();
}

static void test_malformed(void **state)
{
	char name[1025];
	struct sn_buf b;
	struct call c;

	open_all(*state);
	call_unary(&c, CHECK, SN_STR("\x0a\x7f"));
	call_expect(&c, "STATUS INTERNAL \"the request is no HealthCheckRequest\" only");
	call_unary(&c, WATCH, SN_STR("\x0a\x7f"));
	call_expect(&c, "STATUS INTERNAL \"the request is no HealthCheckRequest\" only");
	/* Fields of later versions are passed over. */
	call_unary(&c, CHECK, SN_STR("\x10\x01\x1a\x01x"));
	call_expect(&c, IS_SERVING);
	memset(name, 'x', sizeof(name));
	sn__buf_init(&b, 2000);
	assert_int_equal(sn__buf_append(&b, "\x0a\x81\x08", 3), 0);
	assert_int_equal(sn__buf_append(&b, name, sizeof(name)), 0);
	call_unary(&c, WATCH, sn__buf_str(&b));
	call_expect(&c,
			"STATUS INVALID_ARGUMENT \"no name of a service is longer than 1024 bytes\""
			" only");
	sn__buf_finish(&b);
	close_all();
}

static void test_watch(void **state)
{
	struct call server, known, unknown;

	open_all(*state);
	watch(&server, "");
	watch(&known, "test.Shop");
	watch(&unknown, "test.Late");
	WAIT(server.n == 1 && known.n == 1 && unknown.n == 1);
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", false), 0);
	WAIT(known.n == 2);
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", false), 0); /* nothing new */
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", true), 0);
	WAIT(known.n == 3);
	assert_int_equal(sn__grpc_services_add(services, &late, NULL), 0);
	assert_int_equal(sn__grpc_health_set(health, "test.Late", false), 0);
	WAIT(unknown.n == 2);
	sn__grpc_cancel(&known.req, SN_E_CANCELLED);
	call_expect(&known,
			"head [<8><1>] [<8><2>] [<8><1>] CANCELLED CANCELLED"
			" \"cancelled\"");
	sn__grpc_health_shutdown(health);
	call_expect(&server,
			"head [<8><1>] [<8><2>] STATUS UNAVAILABLE"
			" \"the server shuts down\"");
	call_expect(&unknown,
			"head [<8><3>] [<8><2>] STATUS UNAVAILABLE"
			" \"the server shuts down\"");
	check("test.Shop", IS_NOT_SERVING);
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", true), 0); /* too late */
	check("test.Shop", IS_NOT_SERVING);
	watch(&known, "test.Shop");
	call_expect(&known, "head [<8><2>] STATUS UNAVAILABLE \"the server shuts down\"");
	close_all();
}

/* Someone who does not read is told the latest when he does, not all there was. */
static void test_slow_watcher(void **state)
{
	unsigned changes = 0;
	struct call c;

	open_all(*state);
	watch(&c, "test.Shop");
	WAIT(c.n == 1);
	sn__grpc_pause(&c.req, true);
	for (; changes < 400000; changes++)
		assert_int_equal(sn__grpc_health_set(health, "test.Shop", changes % 2 == 1), 0);
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", false), 0);
	sn__grpc_pause(&c.req, false);
	WAIT(c.last.len == 2 && sn__buf_data(&c.last)[1] == 2 && c.n > 1);
	assert_true(c.n < changes);
	sn__grpc_cancel(&c.req, SN_E_CANCELLED);
	WAIT(c.done);
	call_finish(&c);
	close_all();
}

static void test_no_memory(void **state)
{
	struct sn_grpc_health *one = NULL;

	open_all(*state);
	for (uint64_t n = 1;; n++) {
		int r;

		sn__mem_fail_nth(n);
		r = sn__grpc_health_set(health, "test.Shop", false);
		if (!sn__mem_failed())
			break;
		assert_int_equal(r, SN_E_NOMEM);
		check("test.Shop", IS_SERVING);
	}
	sn__mem_fail_nth(0);
	check("test.Shop", IS_NOT_SERVING);
	/* One is there already. */
	assert_int_equal(sn__grpc_health_create(services, &one, NULL), SN_E_EXISTS);
	assert_null(one);
	close_all();
	for (uint64_t n = 1;; n++) {
		int r;

		assert_int_equal(sn__grpc_services_create(gw.w->a, NULL, &services), 0);
		sn__mem_fail_nth(n);
		r = sn__grpc_health_create(services, &one, NULL);
		if (!sn__mem_failed())
			break;
		assert_int_equal(r, SN_E_NOMEM);
		assert_null(one);
		sn__grpc_services_destroy(services);
	}
	sn__mem_fail_nth(0);
	sn__grpc_health_destroy(one);
	sn__grpc_services_destroy(services);
}

/* A call that meets the failure ends, with a status or broken; the next one is answered. */
static void test_no_memory_in_calls(void **state)
{
	bool failed = true;

	open_all(*state);
	for (uint64_t n = 1; failed; n++) {
		char request[100];
		struct call c;

		call_init(&c, WATCH);
		assert_int_equal(
				sn__grpc_frame(&c.framed, request_for("test.Shop", request), false),
				0);
		c.req.framed = sn__buf_str(&c.framed);
		assert_int_equal(sn__buf_reserve(&c.text, 1000, &(char *){NULL}), 0);
		assert_int_equal(sn__buf_reserve(&c.last, 1000, &(char *){NULL}), 0);
		sn__mem_fail_nth(n);
		if (sn__grpc_start(gw.dest, &c.req, NULL) == 0) {
			WAIT(c.done || c.n == 1);
			failed = sn__mem_failed();
			sn__mem_fail_nth(0);
			if (!c.done)
				sn__grpc_cancel(&c.req, SN_E_CANCELLED);
			WAIT(c.done);
		}
		sn__mem_fail_nth(0);
		call_finish(&c);
		check("test.Shop", IS_SERVING);
	}
	close_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(test_check, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_check, world_uv, world_close),
			cmocka_unit_test_setup_teardown(test_malformed, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_watch, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_watch, world_rough, world_close),
			cmocka_unit_test_setup_teardown(test_watch, world_uv, world_close),
			cmocka_unit_test_setup_teardown(test_slow_watcher, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_no_memory, world_sim, world_close),
			cmocka_unit_test_setup_teardown(
					test_no_memory_in_calls, world_sim, world_close),
	};

	gw.version = SN_HTTP_2;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
