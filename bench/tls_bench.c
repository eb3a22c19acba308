/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Echoes of 1 KB a second, both ends on one loop and one core: plain TCP, and TLS 1.3 over it. And
 * handshakes a second, whole and resumed.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/time.h"
#include "io/tls.h"
#include "io/tls_cert.h"

#define SIZE 1024
#define ECHOES 40000
#define SHAKES 1000

static struct sn_loop *loop;
static struct sn_tls *client_tls, *server_tls;
static struct sn_listener *listener;
static bool with_tls, fresh;
static unsigned n_left, n_shakes;
static char data[SIZE];
static struct sn_stream *server;

static void die(const char *what)
{
	(void)fprintf(stderr, "%s failed\n", what);
	_Exit(1);
}

static void on_server(struct sn_stream *s, unsigned events, void *arg)
{
	char buf[SIZE];
	ssize_t n;

	if (events & SN_READABLE) {
		n = sn__stream_read(s, buf, sizeof buf);
		if (n == SN_E_AGAIN)
			return;
		if (n <= 0) {
			sn__stream_close(s, false);
			return;
		}
		if (sn__stream_write(s, &(struct sn_str){buf, (size_t)n}, 1) != n)
			die("write");
	}
	sn__stream_want(s, SN_READABLE);
}

static void on_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	if (with_tls) {
		if (sn__tls_server(server_tls, s, on_server, NULL, &server, NULL) < 0)
			die("sn__tls_server");
		return;
	}
	sn_stream_set_owner(s, on_server, NULL);
	sn__stream_want(s, SN_READABLE);
}

static void send_one(struct sn_stream *s)
{
	if (sn__stream_write(s, &(struct sn_str){data, SIZE}, 1) != SIZE)
		die("write");
}

static void connect_again(void);

static void on_client(struct sn_stream *s, unsigned events, void *arg)
{
	static size_t got;
	char buf[SIZE];
	ssize_t n;

	if (events & SN_STREAM_FAILED)
		die(sn__stream_error(s)->text);
	if (events & SN_STREAM_CONNECTED) {
		got = 0;
		send_one(s);
		sn__stream_want(s, SN_READABLE);
		return;
	}
	n = sn__stream_read(s, buf, sizeof buf);
	if (n == SN_E_AGAIN)
		return;
	if (n <= 0)
		die("read");
	got += (size_t)n;
	if (got < SIZE)
		return;
	got = 0;
	if (--n_left > 0) {
		send_one(s);
		return;
	}
	sn__stream_close(s, false);
	if (n_shakes > 0 && --n_shakes > 0)
		connect_again();
	else
		sn__loop_stop(loop);
}

static void on_tcp(struct sn_stream *s, unsigned events, void *arg)
{
	struct sn_stream *tls;

	if (!with_tls) {
		sn_stream_set_owner(s, on_client, NULL);
		on_client(s, events, NULL);
		return;
	}
	if (sn__tls_client(client_tls, s, "a.test", on_client, NULL, &tls, NULL) < 0)
		die("sn__tls_client");
}

static void client_context(void)
{
	struct sn_tls_options c = {.ca = cert_path("ca.pem")};

	sn__tls_unref(client_tls);
	if (sn__tls_create(loop, &c, false, &client_tls) < 0 || sn__tls_load(client_tls, NULL) < 0)
		die("sn__tls_create");
}

static void connect_again(void)
{
	struct sn_stream *s;

	if (fresh)
		client_context(); /* no session */
	n_left = n_shakes > 0 ? 1 : ECHOES;
	if (sn__stream_connect(loop, sn__listener_addr(listener), on_tcp, NULL, &s, NULL) < 0)
		die("sn__stream_connect");
}

static void measure(const char *name, unsigned shakes)
{
	double best = 0;

	for (int round = 0; round < 3; round++) {
		uint64_t start_ns = sn__clock_mono_ns();
		double rate;

		n_shakes = shakes;
		connect_again();
		(void)sn__loop_run(loop, SN_RUN_DEFAULT);
		rate = (shakes > 0 ? shakes : ECHOES) * 1e9 /
				(double)(sn__clock_mono_ns() - start_ns);
		best = SN_MAX(best, rate);
	}
	(void)printf("{\"name\": \"tls.%s\", \"value\": %.4g, \"unit\": \"1/s\"}\n", name, best);
}

int main(void)
{
	struct sn_tls_options s;
	struct sn_addr any;

	if (cert_make_all(NULL) < 0 || sn__loop_uv_open(NULL, &loop, NULL) < 0)
		die("setup");
	s = (struct sn_tls_options){.cert = cert_path("good.pem"), .key = cert_path("good.key")};
	if (sn__tls_create(loop, &s, true, &server_tls) < 0 ||
			sn__addr_from_literal(SN_STR("127.0.0.1"), 0, &any) < 0 ||
			sn__listen(loop, &any, NULL, on_accept, NULL, &listener, NULL) < 0)
		die("setup");
	client_context();
	measure("echo.plain", 0);
	with_tls = true;
	measure("echo.tls", 0);
	measure("handshake.resumed", SHAKES);
	fresh = true;
	measure("handshake.whole", SHAKES);
	(void)cert_remove_all(NULL);
	return 0;
}
