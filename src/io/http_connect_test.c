/* SPDX-License-Identifier: Apache-2.0 */
/* How the HTTP client gets its connections: several addresses, time-outs, TLS. Simulated. */
#include "io/http_script.h"
#include "io/tls_cert.h"

#define OK5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define V6 "2001:db8::1"
#define V4 "10.0.0.1"
#define PORT 8080

static const struct step answer = {OK5, THEN_KEEP};

static struct {
	int64_t mem;
	struct sn_sim *sim;
	struct sn_loop *client, *server;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct script script;
	struct sn_addr v6, v4;
	struct sn_tls *tls, *server_tls;
	struct probe p;
	int pending;
} w;

static uint64_t elapsed_ms(void)
{
	return (w.p.req.result.done_ns - w.p.req.result.start_ns) / SN_NS_PER_MS;
}

static int open_world(void **state)
{
	memset(&w, 0, sizeof w);
	w.mem = sn__mem_live();
	assert_int_equal(sn__sim_create(&(struct sn_sim_options){.seed = 3}, &w.sim), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.client), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.server), 0);
	assert_int_equal(sn__http_pool_create(w.client, NULL, &w.pool), 0);
	assert_int_equal(sn__addr_from_literal(SN_STR(V6), PORT, &w.v6), 0);
	assert_int_equal(sn__addr_from_literal(SN_STR(V4), PORT, &w.v4), 0);
	assert_int_equal(sn__sim_host(w.sim, "svc", &w.v6), 0);
	assert_int_equal(sn__sim_host(w.sim, "svc", &w.v4), 0);
	script_open_at(&w.script, w.server, V4, PORT, &answer, 1);
	return 0;
}

static void on_gone(void *arg)
{
	*(bool *)arg = true;
}

static int close_world(void **state)
{
	bool gone = false;

	sn__http_dest_unref(w.dest);
	sn__http_pool_close(w.pool, on_gone, &gone);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 100 * SN_NS_PER_MS);
	assert_true(gone);
	script_finish(&w.script);
	sn__tls_unref(w.tls);
	sn__tls_unref(w.server_tls);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 10 * SN_NS_PER_S);
	sn__loop_close(w.client, NULL, NULL);
	sn__loop_close(w.server, NULL, NULL);
	sn__sim_destroy(w.sim);
	return sn__mem_live() == w.mem ? 0 : -1;
}

static void get(const char *host)
{
	struct sn_http_dest_options d = {.host = host, .port = PORT, .tls = w.tls};

	if (w.dest == NULL)
		assert_int_equal(sn__http_dest_create(w.pool, &d, &w.dest), 0);
	probe_init(&w.p, "GET", "/");
	w.pending = 1;
	w.p.pending = &w.pending;
	assert_int_equal(sn__http_start(w.dest, &w.p.req, NULL), 0);
	for (int i = 0; w.pending > 0; i++) {
		assert_true(i < 100000);
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
	}
	probe_finish(&w.p);
}

static void expect(int code, enum sn_phase phase, const char *detail)
{
	const struct sn_http_result *res = &w.p.req.result;

	if (res->code != code || res->phase != phase || strstr(res->detail, detail) == NULL)
		fail_msg("%s at %s: %s", sn_code_name(res->code), sn__phase_name(res->phase),
				res->detail);
	assert_int_equal(res->sent, code == 0 ? SN_SENT_YES : SN_SENT_NO);
}

/* ---- addresses ---- */

static void refused_first(void **state)
{
	get("svc"); /* nobody listens on v6: no need to wait */
	expect(0, SN_PHASE_NONE, "");
	assert_true(elapsed_ms() < 50);
	assert_int_equal(w.script.n_accepted, 1);
}

static void silent_first(void **state)
{
	sn__sim_stall(w.sim, &w.v6, true);
	get("svc");
	expect(0, SN_PHASE_NONE, "");
	assert_true(elapsed_ms() >= 250 && elapsed_ms() < 280);
}

static void all_silent(void **state)
{
	sn__sim_stall(w.sim, &w.v6, true);
	sn__sim_stall(w.sim, &w.v4, true);
	get("svc");
	expect(SN_E_TIMEOUT, SN_PHASE_CONNECT, "within 1000 ms");
	assert_true(elapsed_ms() >= 1000 && elapsed_ms() < 1030);
}

static void all_refused(void **state)
{
	sn__sim_refuse(w.sim, &w.v4, true);
	get("svc");
	expect(SN_E_CONNECT, SN_PHASE_CONNECT, V4);
	assert_int_equal(w.p.req.result.foreign, ECONNREFUSED);
	assert_true(elapsed_ms() < 50);
}

static void unknown_name(void **state)
{
	get("nowhere");
	assert_int_equal(w.p.req.result.code, SN_E_RESOLVE);
	assert_int_equal(w.p.req.result.phase, SN_PHASE_RESOLVE);
	assert_int_not_equal(w.p.req.result.detail[0], '\0');
}

static void refused_then_silent(void **state)
{
	sn__sim_stall(w.sim, &w.v4, true);
	get("svc");
	expect(SN_E_TIMEOUT, SN_PHASE_CONNECT, "within 1000 ms");
}

static void cancelled_midway(void **state)
{
	struct sn_http_dest_options d = {.host = "svc", .port = PORT};

	assert_int_equal(sn__http_dest_create(w.pool, &d, &w.dest), 0);
	sn__sim_stall(w.sim, &w.v6, true);
	sn__sim_stall(w.sim, &w.v4, true);
	for (unsigned ms = 0; ms < 400; ms += 20) {
		probe_init(&w.p, "GET", "/");
		assert_int_equal(sn__http_start(w.dest, &w.p.req, NULL), 0);
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + ms * SN_NS_PER_MS);
		sn__http_cancel(&w.p.req, SN_E_CANCELLED);
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
		assert_int_equal(w.p.n_done, 1);
		assert_int_equal(w.p.req.result.code, SN_E_CANCELLED);
		assert_int_equal(sn__http_dest_connections(w.dest), 0);
	}
}

/* ---- TLS ---- */

static void with_tls(const char *server_cert)
{
	struct sn_tls_options c = {.ca = cert_path("ca.pem")}, s = {0};
	char file[64];

	(void)snprintf(file, sizeof file, "%s.pem", server_cert);
	s.cert = cert_path(file);
	(void)snprintf(file, sizeof file, "%s.key", server_cert);
	s.key = cert_path(file);
	assert_int_equal(sn__tls_create(w.client, &c, false, &w.tls), 0);
	assert_int_equal(sn__tls_create(w.server, &s, true, &w.server_tls), 0);
	w.script.tls = w.server_tls;
	assert_int_equal(sn__sim_host(w.sim, "a.test", &w.v4), 0);
	assert_int_equal(sn__sim_host(w.sim, "b.test", &w.v4), 0);
}

static void over_tls(void **state)
{
	static const struct step steps[] = {{OK5, THEN_KEEP}, {OK5, THEN_CLOSE},
			{"HTTP/1.1 200 OK\r\n\r\nhello", THEN_CLOSE, .piece = 2},
			{"HTTP/1.1 200 OK\r\n\r\nhello", THEN_RESET, .piece = 2}};

	with_tls("good");
	w.script.steps = steps;
	w.script.n_steps = 4;
	for (unsigned i = 0; i < 3; i++) {
		get("a.test");
		expect(0, SN_PHASE_NONE, "");
		assert_int_equal(w.p.req.result.reused, i == 1);
	}
	assert_int_equal(w.script.n_accepted, 2);
	assert_int_equal(w.script.n_resumed, 1);
	/* Runs until close, but is not closed in order: nobody knows whether that was all. */
	get("a.test");
	assert_int_not_equal(w.p.req.result.code, 0);
	assert_int_equal(w.p.req.result.phase, SN_PHASE_READ);
	assert_int_equal(w.p.req.result.sent, SN_SENT_YES);
}

static void wrong_name(void **state)
{
	with_tls("good");
	get("b.test");
	expect(SN_E_TLS, SN_PHASE_TLS, "certificate refused: hostname mismatch");
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
	assert_int_equal(w.script.n_failed, 1);
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
}

static void expired(void **state)
{
	with_tls("expired");
	get("a.test");
	expect(SN_E_TLS, SN_PHASE_TLS, "certificate refused: certificate has expired");
}

static void not_tls(void **state)
{
	static const struct step hello = {
			"HTTP/1.1 400 Bad Request\r\n\r\n", THEN_CLOSE, .at_accept = true};

	with_tls("good");
	w.script.tls = NULL;
	w.script.steps = &hello;
	get("a.test");
	expect(SN_E_TLS, SN_PHASE_TLS, "wrong version number");
}

static void silent_in_handshake(void **state)
{
	static const struct step silent = {NULL, THEN_STALL, .at_accept = true};

	with_tls("good");
	w.script.tls = NULL;
	w.script.steps = &silent;
	get("a.test");
	expect(SN_E_TIMEOUT, SN_PHASE_TLS, "within 1000 ms");
}

static void closed_in_handshake(void **state)
{
	static const struct step closes = {NULL, THEN_CLOSE, .at_accept = true};

	with_tls("good");
	w.script.tls = NULL;
	w.script.steps = &closes;
	get("a.test");
	expect(SN_E_RESET, SN_PHASE_TLS, "reset"); /* our hello was not read */
}

static void no_roots(void **state)
{
	struct sn_tls_options c = {.ca = "/nonexistent.pem"};

	assert_int_equal(sn__tls_create(w.client, &c, false, &w.tls), 0);
	get("10.0.0.1");
	expect(SN_E_TLS, SN_PHASE_TLS, "/nonexistent.pem");
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
	static const struct CMUnitTest tests[] = {T(refused_first), T(silent_first), T(all_silent),
			T(all_refused), T(unknown_name), T(refused_then_silent),
			T(cancelled_midway), T(over_tls), T(wrong_name), T(expired), T(not_tls),
			T(silent_in_handshake), T(closed_in_handshake), T(no_roots)};

	return cmocka_run_group_tests(tests, cert_make_all, cert_remove_all);
}
