/* SPDX-License-Identifier: Apache-2.0 */
/* The checkers against servers that are well, unwell, dead and rude, on sockets and in simulated time. */
#include "hub/check.h"
#include "io/grpc_world_test.h"
#include "io/http_script.h"

static struct world *w;
static struct sn_hub_checker *checker;
static struct sn_http_pool *pool;

/* ---- one check ---- */

struct shot {
	struct sn_hub_probe probe;
	unsigned done;
	int code;
	bool last; /* the checker goes with it */
	char text[SN_ERROR_TEXT_MAX];
};

static void forget(struct shot *s)
{
	if (s->probe.kept != NULL)
		checker->forget(checker, s->probe.kept);
	s->probe.kept = NULL;
}

static void shot_done(struct sn_hub_probe *probe, const struct sn_error *err)
{
	struct shot *s = SN_CONTAINER_OF(probe, struct shot, probe);

	s->done++;
	s->code = err != NULL ? err->code : 0;
	(void)snprintf(s->text, sizeof s->text, "%s", err != NULL ? err->text : "");
	if (s->last) {
		forget(s);
		sn__hub_checker_unref(SN_TAKE(checker));
	}
}

static void shoot(struct shot *s, const char *address, uint32_t timeout_ms)
{
	void *kept = s->probe.kept;

	*s = (struct shot){.probe = {.address = address,
					   .timeout_ms = timeout_ms,
					   .done = shot_done,
					   .kept = kept}};
	memset(s->probe.checker, 0x5a, sizeof s->probe.checker);
	checker->start(checker, &s->probe);
	assert_int_equal(s->done, 0);
}

static void pass(uint64_t ms)
{
	if (w->sim != NULL)
		(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + sn_ms_to_ns(ms));
	else
		(void)world_poll(w);
}

static void wait(struct shot *s)
{
	for (unsigned i = 0; s->done == 0 && i < 20000; i++)
		w->sim != NULL ? pass(1) : (void)world_once(w);
	assert_int_equal(s->done, 1);
	pass(1);
	assert_int_equal(s->done, 1);
}

/* What became of a check; what it keeps is kept in @s. */
static const char *check(struct shot *s, const char *address)
{
	shoot(s, address, 2000);
	wait(s);
	assert_true((s->code == 0) == (s->text[0] == '\0'));
	return s->text;
}

static void closed(void *arg)
{
	*(bool *)arg = true;
}

static void finish(void)
{
	bool gone = false;

	sn__hub_checker_unref(checker);
	checker = NULL;
	if (pool == NULL)
		return;
	sn__http_pool_close(pool, closed, &gone);
	pool = NULL;
	world_run(w, &gone);
}

static int setup_uv(void **state)
{
	int r = world_uv(state);

	w = *state;
	return r;
}

static int setup_sim(void **state)
{
	int r = world_rough(state);

	w = *state;
	return r;
}

/* What still lingers at the servers ends first. */
static int teardown(void **state)
{
	if (w->sim == NULL)
		(void)world_drain(w);
	else
		pass(5000);
	return world_close(state);
}

static const char *address_of(const struct sn_addr *addr)
{
	static char text[4][SN_ADDR_TEXT_MAX];
	static unsigned at;

	return sn__addr_text(addr, text[at++ % 4]);
}

/* Where nobody listens, nor anybody else: the socket stays. */
static const char *nowhere(void)
{
	struct sn_addr addr = world_addr("127.0.0.1:0");
	static int fd = -1;

	if (w->sim != NULL)
		return "127.0.0.1:9";
	if (fd < 0) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(fd, &addr.u.sa, addr.len), 0);
	}
	assert_int_equal(getsockname(fd, &addr.u.sa, &addr.len), 0);
	return address_of(&addr);
}

/* ---- tcp ---- */

static struct sn_stream *taken[64];
static unsigned n_taken;

static void dropped(struct sn_stream *s, unsigned events, void *arg)
{
	char byte;

	if (sn__stream_read(s, &byte, 1) != SN_E_AGAIN)
		sn__stream_want(s, 0);
}

static void take(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	sn_stream_set_owner(s, dropped, NULL);
	taken[n_taken++] = s;
}

static void drop_taken(void)
{
	while (n_taken > 0)
		sn__stream_close(taken[--n_taken], false);
}

static void tcp(void **state)
{
	struct sn_addr addr = world_addr(w->sim != NULL ? "127.0.0.1:80" : "127.0.0.1:0");
	static const char *const bad[] = {"", "x", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999",
			":80", "127.0.0.1:x"};
	struct sn_listener *l;
	struct shot s = {0};
	char text[96], named[32];
	const char *where;
	uint64_t before;

	assert_int_equal(sn__check_tcp_create(w->b, &checker), 0);
	assert_int_equal(sn__listen(w->a, &addr, NULL, take, NULL, &l, NULL), 0);
	where = address_of(sn__listener_addr(l));
	assert_string_equal(check(&s, where), "");
	before = sn__mem_count();
	for (int i = 0; i < 10; i++)
		assert_string_equal(check(&s, where), "");
	if (w->sim == NULL) /* the streams of the other end */
		assert_true(sn__mem_count() - before <= 10);
	assert_null(s.probe.kept);
	(void)snprintf(named, sizeof named, "localhost:%u", sn__addr_port(sn__listener_addr(l)));
	assert_string_equal(check(&s, named), ""); /* by its second address */
	where = nowhere();
	(void)snprintf(text, sizeof text, "connect to %s: Connection refused", where);
	assert_string_equal(check(&s, where), text);
	assert_int_equal(s.code, SN_E_CONNECT);
	for (unsigned i = 0; i < SN_COUNT(bad); i++) {
		assert_string_equal(check(&s, bad[i]), "the address is not HOST:PORT");
		assert_int_equal(s.code, SN_E_PARSE);
		shoot(&s, bad[i], 100);
		checker->cancel(checker, &s.probe);
		wait(&s);
	}
	assert_true(check(&s, "no-such-host.invalid:80")[0] != '\0');
	/* Taken back: at once, and a moment later. */
	shoot(&s, address_of(sn__listener_addr(l)), 1000);
	checker->cancel(checker, &s.probe);
	assert_int_equal(s.done, 0);
	wait(&s);
	assert_int_equal(s.code, SN_E_CANCELLED);
	shoot(&s, named, 1000);
	checker->cancel(checker, &s.probe);
	wait(&s);
	assert_int_equal(s.code, SN_E_CANCELLED);
	drop_taken();
	sn__listener_close(l);
	finish();
}

static void tcp_silent(void **state)
{
	struct sn_addr addr = world_addr("127.0.0.1:80");
	struct sn_listener *l;
	struct shot s = {0};

	assert_int_equal(sn__check_tcp_create(w->b, &checker), 0);
	assert_int_equal(sn__listen(w->a, &addr, NULL, take, NULL, &l, NULL), 0);
	sn__sim_stall(w->sim, &addr, true);
	shoot(&s, "127.0.0.1:80", 150);
	pass(149);
	assert_int_equal(s.done, 0);
	wait(&s);
	assert_string_equal(s.text, "no connection within 150 ms");
	assert_int_equal(s.code, SN_E_TIMEOUT);
	sn__sim_stall(w->sim, &addr, false);
	assert_string_equal(check(&s, "127.0.0.1:80"), "");
	/* The second address of a name. */
	addr = world_addr("127.0.0.1:81");
	assert_int_equal(sn__sim_host(w->sim, "two.test", &addr), 0);
	addr = world_addr("127.0.0.2:80");
	assert_int_equal(sn__sim_host(w->sim, "two.test", &addr), 0);
	assert_string_equal(check(&s, "two.test:80"), "");
	pass(1000);
	drop_taken();
	sn__listener_close(l);
	finish();
}

static void tcp_unix(void **state)
{
	char path[64], text[128];
	struct sn_listener *l;
	struct sn_addr addr;
	struct shot s = {0};

	(void)snprintf(path, sizeof path, "unix:@sinew-check-%d", (int)getpid());
	assert_int_equal(sn__addr_unix(sn_str_from(path), &addr), 0);
	assert_int_equal(sn__check_tcp_create(w->b, &checker), 0);
	assert_int_equal(sn__listen(w->a, &addr, NULL, take, NULL, &l, NULL), 0);
	assert_string_equal(check(&s, path), "");
	(void)snprintf(text, sizeof text, "connect to %s: Connection refused", path);
	while (n_taken == 0)
		(void)world_once(w);
	drop_taken();
	sn__listener_close(l);
	assert_string_equal(check(&s, path), text);
	finish();
}

/* ---- http ---- */

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
#define STATUS(s) "HTTP/1.1 " s " x\r\nContent-Length: 0\r\n\r\n"

static void open_http(const struct sn_check_http_options *opts)
{
	assert_int_equal(sn__http_pool_create(w->b, NULL, &pool), 0);
	assert_int_equal(sn__check_http_create(w->b, pool, opts, &checker), 0);
}

static void http(void **state)
{
	static const struct step steps[] = {{.answer = OK}, {.answer = OK},
			{.answer = STATUS("204")}, {.answer = STATUS("299")},
			{.answer = STATUS("503")}, {.answer = STATUS("302")},
			{.answer = OK, .then = THEN_CLOSE}, {.answer = OK, .piece = 3},
			{.answer = "HTTP/1.1 2", .then = THEN_CLOSE},
			{.answer = "HTTP/1.1 2", .then = THEN_CLOSE},
			{.answer = "nonsense\r\n\r\n"}, {.then = THEN_STALL}, {.answer = OK}};
	struct sn_check_http_options opts = {.path = "/healthz?deep=1"};
	struct shot s = {0};
	struct script sc;
	const char *where;
	uint64_t before = 0;

	script_open(&sc, w->a, steps, SN_COUNT(steps));
	where = address_of(&sc.addr);
	open_http(&opts);
	for (int i = 0; i < 4; i++)
		assert_string_equal(check(&s, where), "");
	assert_string_equal(check(&s, where), "GET /healthz?deep=1: status 503");
	assert_int_equal(s.code, SN_E_STATUS);
	assert_string_equal(check(&s, where), "GET /healthz?deep=1: status 302");
	assert_string_equal(check(&s, where), "");
	assert_int_equal(sc.n_accepted, 1); /* one connection for all of them */
	assert_string_equal(check(&s, where), "");
	assert_int_equal(sc.n_accepted, 2); /* it was closed */
	assert_non_null(strstr(sn__buf_data(&sc.seen), "GET /healthz?deep=1 HTTP/1.1\r\n"));
	assert_non_null(strstr(sn__buf_data(&sc.seen), "User-Agent: sinew-check\r\n"));
	assert_non_null(strstr(check(&s, where), "GET /healthz?deep=1: connection closed"));
	assert_non_null(strstr(check(&s, where), "GET /healthz?deep=1: "));
	assert_int_equal(s.code, SN_E_PROTOCOL);
	shoot(&s, where, 300);
	wait(&s);
	assert_string_equal(s.text, "GET /healthz?deep=1: no answer within 300 ms");
	assert_int_equal(s.code, SN_E_TIMEOUT);
	for (int i = 0; i < 20; i++) {
		if (i == 10)
			before = sn__mem_count();
		assert_string_equal(check(&s, where), "");
	}
	assert_true(sn__mem_count() - before <= (w->sim != NULL ? 100 : 10)); /* the server's */
	shoot(&s, where, 300);
	checker->cancel(checker, &s.probe);
	checker->cancel(checker, &s.probe);
	wait(&s);
	assert_int_equal(s.code, SN_E_CANCELLED);
	forget(&s);
	assert_non_null(strstr(check(&s, nowhere()), "Connection refused"));
	forget(&s);
	assert_string_equal(check(&s, "nonsense"), "the address is not HOST:PORT");
	finish();
	pass(1000);
	script_finish(&sc);
}

/* Memory runs short with the second request's arrival. */
static const struct step *choose_short(struct script *sc, struct sn_str request)
{
	if (sc->at == 1)
		sn__mem_fail_nth(1);
	return &sc->steps[SN_MIN(sc->at, 1u)];
}

/* A connection that was kept is closed under the second check, which has no memory to begin again: what is
 * told is how the first attempt ended. */
static void http_again_without_memory(void **state)
{
	static const struct step steps[] = {{.answer = OK}, {.then = THEN_CLOSE}};
	struct sn_check_http_options opts = {.path = "/"};
	struct shot s = {0};
	struct script sc;

	script_open(&sc, w->a, steps, SN_COUNT(steps));
	sc.choose = choose_short;
	open_http(&opts);
	assert_string_equal(check(&s, address_of(&sc.addr)), "");
	shoot(&s, address_of(&sc.addr), 2000);
	wait(&s);
	assert_true(sn__mem_failed());
	sn__mem_fail_nth(0);
	assert_int_equal(sc.n_accepted, 1);
	assert_string_equal(s.text, "GET /: connection closed without an answer");
	assert_true(s.code == SN_E_EOF || s.code == SN_E_CLOSED);
	forget(&s);
	finish();
	pass(1000);
	script_finish(&sc);
}

static void http_host_and_range(void **state)
{
	static const struct step steps[] = {
			{.answer = STATUS("404")}, {.answer = STATUS("499")}, {.answer = OK}};
	struct sn_check_http_options opts = {
			.path = "/", .status_min = 400, .status_max = 498, .host = "shop.example"};
	struct sn_hub_checker *none = NULL;
	struct shot s = {0};
	struct script sc;
	const char *where;
	static const struct sn_check_http_options bad[] = {{.path = "healthz"}, {.path = ""},
			{.path = "/a b"}, {.path = "/", .status_min = 100},
			{.path = "/", .status_min = 300}, {.path = "/", .status_max = 600},
			{.path = "/", .host = ""}, {.path = "/", .host = "a b"},
			{.path = "/", .host = "a/b"}};

	script_open(&sc, w->a, steps, SN_COUNT(steps));
	where = address_of(&sc.addr);
	open_http(&opts);
	assert_string_equal(check(&s, where), "");
	assert_string_equal(check(&s, where), "GET /: status 499");
	assert_string_equal(check(&s, where), "GET /: status 200");
	assert_non_null(strstr(sn__buf_data(&sc.seen), "Host: shop.example\r\n"));
	for (unsigned i = 0; i < SN_COUNT(bad); i++)
		assert_int_equal(sn__check_http_create(w->b, pool, &bad[i], &none), SN_E_INVALID);
	assert_null(none);
	forget(&s);
	finish();
	pass(1000);
	script_finish(&sc);
}

/* A server that closes a connection that has rested while the next request is on its way. */
static void http_closed_meanwhile(void **state)
{
	static const struct step steps[] = {{.answer = OK}, {.then = THEN_CLOSE}, {.answer = OK},
			{.then = THEN_RESET}, {.answer = OK}, {.then = THEN_RESET},
			{.then = THEN_RESET}, {.answer = OK}};
	struct sn_check_http_options opts = {.path = "/"};
	struct shot s = {0};
	struct script sc;
	const char *where;

	script_open(&sc, w->a, steps, SN_COUNT(steps));
	where = address_of(&sc.addr);
	open_http(&opts);
	assert_string_equal(check(&s, where), "");
	assert_string_equal(check(&s, where), ""); /* closed, and anew */
	assert_string_equal(check(&s, where), "");
	assert_int_equal(sc.n_requests, 5);
	assert_int_equal(sc.n_accepted, 3);
	assert_string_not_equal(check(&s, where), ""); /* not for ever */
	assert_int_equal(sc.n_requests, 7);
	assert_string_equal(check(&s, where), "");
	forget(&s);
	finish();
	pass(1000);
	script_finish(&sc);
}

/* ---- grpc ---- */

static void nothing(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	sn_grpc_exchange_finish(x, SN_GRPC_UNIMPLEMENTED, NULL, NULL, 0);
}

static const struct sn_grpc_method nothing_methods[] = {{.name = "Nothing", .start = nothing}};
static const struct sn_grpc_service shop = {.size = sizeof(shop),
		.name = "test.Shop",
		.methods = nothing_methods,
		.n_methods = 1};

static void open_grpc(const char *service)
{
	const struct sn_check_grpc_options opts = {.service = service};

	assert_int_equal(sn__http_pool_create(w->b, NULL, &pool), 0);
	assert_int_equal(sn__check_grpc_create(w->b, pool, &opts, &checker), 0);
}

static void grpc(void **state)
{
	struct sn_grpc_services *services;
	struct sn_grpc_health *health;
	struct shot s = {0};
	const char *where;

	assert_int_equal(sn__grpc_services_create(w->a, NULL, &services), 0);
	assert_int_equal(sn__grpc_services_add(services, &shop, NULL), 0);
	assert_int_equal(sn__grpc_health_create(services, &health, NULL), 0);
	gw.version = SN_HTTP_2;
	gw_open(w, sn__grpc_handle, services);
	where = address_of(sn__http_server_addr(gw.server));
	open_grpc("test.Shop");
	for (int i = 0; i < 10; i++)
		assert_string_equal(check(&s, where), "");
	assert_int_equal(sn__http_dest_connections(s.probe.kept), 1);
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", false), 0);
	assert_string_equal(check(&s, where), "gRPC health of test.Shop: NOT_SERVING");
	assert_int_equal(s.code, SN_E_STATUS);
	assert_int_equal(sn__grpc_health_set(health, "test.Shop", true), 0);
	assert_string_equal(check(&s, where), "");
	shoot(&s, where, 1000);
	checker->cancel(checker, &s.probe);
	wait(&s);
	assert_int_equal(s.code, SN_E_CANCELLED);
	forget(&s);
	finish();
	open_grpc(NULL);
	assert_string_equal(check(&s, where), "");
	forget(&s);
	finish();
	open_grpc("test.None");
	assert_non_null(strstr(check(&s, where), "gRPC health of test.None: NOT_FOUND"));
	forget(&s);
	finish();
	gw_close();
	sn__grpc_health_destroy(health);
	sn__grpc_services_destroy(services);
	/* Without the health service. */
	assert_int_equal(sn__grpc_services_create(w->a, NULL, &services), 0);
	assert_int_equal(sn__grpc_services_add(services, &shop, NULL), 0);
	gw_open(w, sn__grpc_handle, services);
	where = address_of(sn__http_server_addr(gw.server));
	open_grpc("");
	assert_non_null(strstr(check(&s, where), "gRPC health of the server: UNIMPLEMENTED"));
	forget(&s);
	finish();
	gw_close();
	sn__grpc_services_destroy(services);
}

/* What is no gRPC server, or says nothing. */
static void grpc_rude(void **state)
{
	static const struct step steps[] = {{.answer = OK, .at_accept = true}};
	static const struct step silent[] = {{.then = THEN_STALL}};
	const struct sn_check_grpc_options bad = {.host = "a b"};
	char longest[1026];
	const struct sn_check_grpc_options too_long = {.service = longest};
	struct sn_hub_checker *none = NULL;
	struct shot s = {0};
	struct script sc;

	script_open(&sc, w->a, steps, 1);
	open_grpc("x");
	assert_non_null(strstr(check(&s, address_of(&sc.addr)), "gRPC health of x: "));
	forget(&s);
	pass(1000);
	script_finish(&sc);
	script_open(&sc, w->a, silent, 1);
	shoot(&s, address_of(&sc.addr), 200);
	wait(&s);
	assert_string_equal(s.text, "gRPC health of x: no answer within 200 ms");
	forget(&s);
	memset(longest, 'x', sizeof longest);
	longest[1025] = '\0';
	assert_int_equal(sn__check_grpc_create(w->b, pool, &too_long, &none), SN_E_LIMIT);
	assert_int_equal(sn__check_grpc_create(w->b, pool, &bad, &none), SN_E_INVALID);
	finish();
	longest[1024] = '\0';
	open_grpc(longest);
	finish();
	pass(1000);
	script_finish(&sc);
}

/* ---- without memory ---- */

static void sweep_one(int (*create)(void), const char *address)
{
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct shot s = {0};
		int r;

		assert_int_equal(sn__http_pool_create(w->b, NULL, &pool), 0);
		sn__mem_fail_nth(nth);
		r = create();
		for (int i = 0; r == 0 && i < 2; i++) {
			shoot(&s, address, 2000);
			wait(&s);
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		if (!failed)
			assert_string_equal(s.text, "");
		if (r == 0) {
			forget(&s); /* whatever has failed: it works anew */
			assert_string_equal(check(&s, address), "");
			forget(&s);
		}
		finish();
	}
}

static int create_tcp(void)
{
	return sn__check_tcp_create(w->b, &checker);
}

static int create_http(void)
{
	const struct sn_check_http_options opts = {.path = "/", .host = "a"};

	return sn__check_http_create(w->b, pool, &opts, &checker);
}

static int create_grpc(void)
{
	const struct sn_check_grpc_options opts = {.service = "test.Shop"};

	return sn__check_grpc_create(w->b, pool, &opts, &checker);
}

/* Whoever is told has no use for the checker any more. */
static void drop_one(int (*create)(void), const char *address)
{
	struct shot s = {0};

	assert_int_equal(sn__http_pool_create(w->b, NULL, &pool), 0);
	assert_int_equal(create(), 0);
	shoot(&s, address, 2000);
	s.last = true;
	wait(&s);
	assert_null(checker);
	finish();
}

static void handle(struct sn_exchange *x, void *arg)
{
	if (strcmp(sn_exchange_method(x), "POST") == 0)
		sn__grpc_handle(x, arg);
	else if (sn_exchange_respond(x, 200, NULL, 0, NULL, 0) < 0)
		sn_exchange_abort(x);
}

static void with_servers(void (*each)(const char *where, const char *named))
{
	struct sn_grpc_services *services;
	struct sn_grpc_health *health;
	char named[32];
	const char *where;

	assert_int_equal(sn__grpc_services_create(w->a, NULL, &services), 0);
	assert_int_equal(sn__grpc_services_add(services, &shop, NULL), 0);
	assert_int_equal(sn__grpc_health_create(services, &health, NULL), 0);
	gw.version = SN_HTTP_2;
	gw_open(w, handle, services);
	where = address_of(sn__http_server_addr(gw.server));
	(void)snprintf(named, sizeof named, "localhost:%u",
			sn__addr_port(sn__http_server_addr(gw.server)));
	each(where, named);
	gw_close();
	sn__grpc_health_destroy(health);
	sn__grpc_services_destroy(services);
}

static void sweep_all(const char *where, const char *named)
{
	sweep_one(create_tcp, where);
	sweep_one(create_tcp, named);
	sweep_one(create_http, where);
	sweep_one(create_grpc, where);
}

static void sweep(void **state)
{
	with_servers(sweep_all);
}

static void drop_all(const char *where, const char *named)
{
	drop_one(create_tcp, where);
	drop_one(create_tcp, named);
	drop_one(create_http, where);
	drop_one(create_grpc, where);
	where = nowhere();
	drop_one(create_tcp, where);
	drop_one(create_tcp, "x");
	drop_one(create_http, where);
	drop_one(create_grpc, where);
}

static void dropped_when_told(void **state)
{
	with_servers(drop_all);
}

#define UV(fn) \
	{ \
#fn, fn, setup_uv, teardown, NULL \
	}
#define SIM(fn) \
	{ \
#fn ", simulated", fn, setup_sim, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
			UV(tcp),
			SIM(tcp),
			SIM(tcp_silent),
			UV(tcp_unix),
			UV(http),
			SIM(http),
			UV(http_host_and_range),
			UV(http_closed_meanwhile),
			SIM(http_closed_meanwhile),
			UV(grpc),
			SIM(grpc),
			UV(grpc_rude),
			SIM(grpc_rude),
			SIM(http_again_without_memory),
			UV(sweep),
			SIM(sweep),
			UV(dropped_when_told),
			SIM(dropped_when_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
