/* SPDX-License-Identifier: Apache-2.0 */
/* Which HTTP it is that a TLS peer speaks, and what requests make of it. */
#include "io/h2_script.h"
#include "io/http_script.h"
#include "io/tls_cert.h"

#define OK5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define N 10

static struct {
	int64_t mem;
	struct sn_loop *loop;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct sn_tls *tls, *server_tls;
	struct h2s two;
	struct script one;
	struct probe p[N];
	int pending;
} w;

static const struct step h1_step = {OK5, THEN_KEEP};
static const struct h2s_step h2_step = {.body = 50000};

static int open_world(void **state)
{
	memset(&w, 0, sizeof w);
	w.mem = sn__mem_live();
	assert_int_equal(sn__loop_uv_open(NULL, &w.loop, NULL), 0);
	assert_int_equal(sn__http_pool_create(w.loop, NULL, &w.pool), 0);
	h2s_open(&w.two, w.loop, &h2_step, 1);
	script_open(&w.one, w.loop, &h1_step, 1);
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
	while (!gone)
		(void)sn__loop_run(w.loop, SN_RUN_ONCE);
	h2s_finish(&w.two);
	script_finish(&w.one);
	sn__tls_unref(w.tls);
	sn__tls_unref(w.server_tls);
	sn__loop_close(w.loop, NULL, NULL);
	return sn__mem_live() == w.mem ? 0 : -1;
}

/* The server of version @major offers @alpn. */
static void serve(unsigned major, const char *alpn, const char *cert)
{
	char key[32], pem[32];
	struct sn_tls_options opts = {.alpn = alpn};

	(void)snprintf(pem, sizeof pem, "%s.pem", cert);
	(void)snprintf(key, sizeof key, "%s.key", cert);
	opts.cert = strdup(cert_path(pem));
	opts.key = strdup(cert_path(key));
	assert_int_equal(sn__tls_create(w.loop, &opts, true, &w.server_tls), 0);
	free((char *)opts.cert);
	free((char *)opts.key);
	w.two.tls = major == 2 ? w.server_tls : NULL;
	w.one.tls = major == 1 ? w.server_tls : NULL;
}

static void dest(unsigned major, enum sn_http_version version, const char *alpn)
{
	struct sn_tls_options opts = {.ca = cert_path("ca.pem"), .alpn = alpn};
	struct sn_http_dest_options d = {.host = "127.0.0.1", .version = version};

	assert_int_equal(sn__tls_create(w.loop, &opts, false, &w.tls), 0);
	d.tls = w.tls;
	d.port = sn__addr_port(major == 2 ? &w.two.addr : &w.one.addr);
	assert_int_equal(sn__http_dest_create(w.pool, &d, &w.dest), 0);
}

static void start(int i)
{
	probe_init(&w.p[i], "GET", "/");
	w.p[i].pending = &w.pending;
	w.pending++;
	assert_int_equal(sn__http_start(w.dest, &w.p[i].req, NULL), 0);
}

static void run(void)
{
	for (int i = 0; w.pending > 0; i++) {
		assert_true(i < 200000);
		(void)sn__loop_run(w.loop, SN_RUN_ONCE);
	}
}

static void both_offer_h2(void **state)
{
	static const enum sn_http_version versions[] = {SN_HTTP_ANY, SN_HTTP_2};

	serve(2, "h2,http/1.1", "good");
	for (int k = 0; k < 2; k++) {
		w.two.n_accepted = 0;
		dest(2, versions[k], k == 0 ? "h2,http/1.1" : "h2");
		for (int i = 0; i < N; i++)
			start(i);
		run();
		for (int i = 0; i < N; i++) {
			assert_int_equal(w.p[i].req.result.code, 0);
			assert_int_equal(w.p[i].body.len, 50000);
			probe_finish(&w.p[i]);
		}
		assert_non_null(strstr(w.two.last.headers, ":scheme=https;"));
		assert_int_equal(w.two.n_accepted, 1);
		sn__http_dest_unref(SN_TAKE(w.dest));
		sn__tls_unref(SN_TAKE(w.tls));
	}
	h2s_close_all(&w.two, false);
}

/* One dial tells, then each goes its own way. */
static void the_peer_knows_only_1(void **state)
{
	static const char *const alpn[] = {"http/1.1", NULL};

	for (int k = 0; k < 2; k++) {
		serve(1, alpn[k], "good");
		dest(1, SN_HTTP_ANY, "h2,http/1.1");
		w.one.n_accepted = 0;
		for (int i = 0; i < N; i++)
			start(i);
		assert_int_equal(sn__http_dest_connections(w.dest), 1);
		run();
		for (int i = 0; i < N; i++) {
			assert_int_equal(w.p[i].req.result.code, 0);
			assert_int_equal(w.p[i].body.len, 5);
			probe_finish(&w.p[i]);
		}
		assert_true(w.one.n_accepted > 1);
		sn__http_dest_unref(SN_TAKE(w.dest));
		sn__tls_unref(SN_TAKE(w.tls));
		sn__tls_unref(SN_TAKE(w.server_tls));
	}
}

static void h2_is_a_must(void **state)
{
	serve(1, "http/1.1", "good");
	dest(1, SN_HTTP_2, "h2");
	for (int i = 0; i < N; i++)
		start(i);
	run();
	for (int i = 0; i < N; i++) {
		assert_int_equal(w.p[i].req.result.code, SN_E_TLS);
		assert_int_equal(w.p[i].req.result.phase, SN_PHASE_TLS);
		assert_int_equal(w.p[i].req.result.sent, SN_SENT_NO);
		assert_int_not_equal(w.p[i].req.result.detail[0], '\0');
		probe_finish(&w.p[i]);
	}
	assert_int_equal(sn__http_dest_connections(w.dest), 0);
}

static void handshake_fails_for_all(void **state)
{
	serve(2, "h2", "unknown");
	dest(2, SN_HTTP_ANY, "h2,http/1.1");
	for (int i = 0; i < N; i++)
		start(i);
	sn__http_cancel(&w.p[0].req, SN_E_CANCELLED);
	run();
	for (int i = 0; i < N; i++) {
		assert_int_equal(w.p[i].req.result.code, i == 0 ? SN_E_CANCELLED : SN_E_TLS);
		assert_int_equal(w.p[i].req.result.sent, SN_SENT_NO);
		probe_finish(&w.p[i]);
	}
	assert_int_equal(w.two.n_requests, 0);
}

static void take_stream(struct probe *p)
{
	struct sn_buf rest;

	sn__buf_init(&rest, 100);
	p->stream = sn__http_take_stream(&p->req, &rest);
	sn__buf_finish(&rest);
}

static void start_upgrade(int i)
{
	probe_init(&w.p[i], "GET", "/");
	w.p[i].pending = &w.pending;
	w.p[i].then = take_stream;
	w.p[i].req.upgrade = true;
	w.pending++;
	assert_int_equal(sn__http_start(w.dest, &w.p[i].req, NULL), 0);
}

/* An upgrade exists only in HTTP/1.1: it dials for itself and offers nothing else, and nobody takes
 * that for what the peer speaks. */
static void upgrade_goes_by_1(void **state)
{
	static const struct step step = {
			"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
			"Upgrade: x\r\n\r\n",
			THEN_STALL};

	w.one.steps = &step;
	serve(1, "h2,http/1.1", "good");
	dest(1, SN_HTTP_ANY, "h2,http/1.1");
	start_upgrade(0);
	run();
	assert_int_equal(w.p[0].req.result.code, 0);
	assert_int_equal(w.p[0].req.result.status, 101);
	assert_non_null(w.p[0].stream);
	assert_string_equal(sn__tls_alpn(w.p[0].stream), "http/1.1");
	sn__stream_close(w.p[0].stream, true);
	probe_finish(&w.p[0]);
}

static void upgrade_meets_h2(void **state)
{
	serve(2, "h2", "good");
	dest(2, SN_HTTP_ANY, "h2,http/1.1");
	start_upgrade(0);
	start(1);
	start(2);
	run();
	start_upgrade(3);
	run();
	for (int i = 0; i < 4; i++) {
		if (i % 3 == 0)
			assert_true(w.p[i].req.result.code < 0);
		else
			assert_int_equal(w.p[i].req.result.code, 0);
		probe_finish(&w.p[i]);
	}
	assert_int_equal(w.two.n_requests, 2);
	h2s_close_all(&w.two, false);
}

/* The connection goes while it is dialled for others. */
static void not_tls_at_all(void **state)
{
	serve(0, "h2", "good");
	dest(1, SN_HTTP_ANY, "h2,http/1.1");
	start(0);
	start(1);
	run();
	for (int i = 0; i < 2; i++) {
		assert_true(w.p[i].req.result.code < 0);
		assert_int_equal(w.p[i].req.result.sent, SN_SENT_NO);
		probe_finish(&w.p[i]);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, open_world, close_world)

int main(void)
{
	const struct CMUnitTest tests[] = {
			TEST(both_offer_h2),
			TEST(the_peer_knows_only_1),
			TEST(h2_is_a_must),
			TEST(handshake_fails_for_all),
			TEST(upgrade_goes_by_1),
			TEST(upgrade_meets_h2),
			TEST(not_tls_at_all),
	};

	return cmocka_run_group_tests(tests, cert_make_all, cert_remove_all);
}
