/* SPDX-License-Identifier: Apache-2.0 */

/* Requests that come in: our own servers, others, and the proxy in front of a service. The client is
 * a plain socket; the runtime is stepped by hand, so that nothing else runs. */

#include "base/test.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <sinew/grpc.h>
#include <sinew/inbound.h>
#include <sinew/mesh.h>

#include "base/mem.h"
#include "base/time.h"
#include "mesh/metrics.h"
#include "mesh/runtime.h"

static char dir[64];

static int make_dir(void **state)
{
	(void)snprintf(dir, sizeof(dir), "/tmp/sinew-inbound-XXXXXX");
	return mkdtemp(dir) != NULL ? unsetenv("BERLIOZ_AGENT_PATH") : -1;
}

static int remove_dir(void **state)
{
	static const char *const names[] = {"in", "to"};
	char path[96];

	for (size_t i = 0; i < SN_COUNT(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		(void)unlink(path);
	}
	return rmdir(dir);
}

/* ---- the world ---- */

struct world {
	struct sn_runtime *rt;
	struct sn_http_server *server;
	unsigned handled;
	struct sn_context context; /* of the last request */
	char forwarded[64], host[64], parent[64], timeout[16];
	unsigned drain[2]; /* begun, over */
	bool silent;       /* no answer */
};

static void copy_header(struct sn_exchange *x, const char *name, char *out, size_t size)
{
	const char *value = sn_exchange_header(x, name);

	(void)snprintf(out, size, "%s", value != NULL ? value : "");
}

static void handle(struct sn_exchange *x, void *arg)
{
	struct world *w = arg;

	w->handled++;
	sn_exchange_context(x, &w->context);
	copy_header(x, "x-forwarded-for", w->forwarded, sizeof(w->forwarded));
	copy_header(x, "host", w->host, sizeof(w->host));
	copy_header(x, "traceparent", w->parent, sizeof(w->parent));
	copy_header(x, "sinew-timeout-ms", w->timeout, sizeof(w->timeout));
	if (!w->silent && sn_exchange_respond(x, 200, NULL, 0, "hello", 5) < 0)
		sn_exchange_abort(x);
}

static void on_drain(struct sn_runtime *rt, bool over, void *arg)
{
	struct world *w = arg;

	assert_true(rt == w->rt);
	w->drain[over]++;
}

/* @text: of the file. Whether it is open. */
static bool world_open(struct world *w, const char *text)
{
	struct sn_options opts = SN_OPTIONS_INIT;

	*w = (struct world){.rt = NULL};
	opts.mode = SN_MODE_FOREIGN;
	opts.agent = "";
	opts.config_text = text;
	opts.seed = 1;
	opts.drain = on_drain;
	opts.drain_arg = w;
	return sn_open(&opts, &w->rt, NULL) == 0;
}

static int serve(struct world *w, const char *name, bool attach)
{
	char listen[96];
	struct sn_http_server_options http = {.size = sizeof(http), .listen = listen};
	int r;

	(void)snprintf(listen, sizeof(listen), "unix:%s/%s", dir, name);
	r = sn_http_server_open(w->rt, &http, handle, w, &w->server, NULL);
	return r == 0 && attach ? sn_inbound_attach(w->server) : r;
}

static void world_close(struct world *w)
{
	assert_int_equal(sn_close(w->rt, NULL, NULL), 0);
}

static void step(struct world *w, int max_ms)
{
	struct pollfd p = {.fd = sn_runtime_fd(w->rt), .events = POLLIN};
	int ms = sn_runtime_timeout(w->rt);

	(void)poll(&p, 1, ms < 0 || ms > max_ms ? max_ms : ms);
	assert_int_equal(sn_runtime_step(w->rt), 0);
}

/* ---- a client ---- */

static int dial(const char *name)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/%s", dir, name);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

/* The whole answer (the connection is closed behind it), "" when there is none. */
static const char *ask(struct world *w, const char *name, const char *request)
{
	static char answer[4096];
	uint64_t end_ns = sn__clock_mono_ns() + 10 * SN_NS_PER_S;
	size_t n = 0;
	int fd = dial(name);

	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	while (sn__clock_mono_ns() < end_ns) {
		ssize_t got = recv(fd, answer + n, sizeof(answer) - 1 - n, MSG_DONTWAIT);

		if (got > 0)
			n += (size_t)got;
		else if (got == 0 || errno != EAGAIN)
			break;
		else
			step(w, 20);
	}
	(void)close(fd);
	answer[n] = '\0';
	return answer;
}

static void says(const char *answer, const char *status)
{
	if (strncmp(answer, status, strlen(status)) != 0)
		fail_msg("not %s: %s", status, answer);
}

static void metrics_say(struct world *w, const char *line, bool want)
{
	struct sn_buf out;

	sn__buf_init(&out, 1 << 20);
	assert_int_equal(sn__metrics_render(w->rt->metrics, &out), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	if ((strstr(sn__buf_data(&out), line) != NULL) != want)
		fail_msg("metrics %s %s: %s", want ? "lack" : "have", line, sn__buf_data(&out));
	sn__buf_finish(&out);
}

#define CLOSE "Connection: close\r\n\r\n"

/* ---- our own servers ---- */

static void test_attach(void **state)
{
	struct world w;
	char line[200];

	assert_true(world_open(&w, "trace: {otlp: 'http://127.0.0.1:1'}\n"));
	assert_int_equal(serve(&w, "in", true), 0);
	assert_int_equal(sn_inbound_attach(w.server), SN_E_EXISTS);
	says(ask(&w, "in",
			     "GET /a?b=1 HTTP/1.1\r\nHost: a\r\nsinew-timeout-ms: 5000\r\n"
			     "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n" CLOSE),
			"HTTP/1.1 200");
	assert_in_range(w.context.deadline_ms, 1, 5000);
	assert_int_equal(w.context.trace_id[0], 0x0af7651916cd43dd);
	assert_int_equal(w.context.trace_id[1], 0x8448eb211c80319c);
	assert_int_equal(w.context.parent_span_id, 0xb7ad6b7169203331);
	assert_int_not_equal(w.context.span_id, 0xb7ad6b7169203331);
	assert_true(w.context.sampled);
	/* With nothing: a trace of its own. */
	says(ask(&w, "in", "GET / HTTP/1.1\r\nHost: a\r\n" CLOSE), "HTTP/1.1 200");
	assert_int_equal(w.context.deadline_ms, 0);
	assert_int_not_equal(w.context.trace_id[0], 0);
	assert_int_equal(w.context.parent_span_id, 0);
	assert_int_equal(w.handled, 2);
	/* Too late. */
	says(ask(&w, "in", "GET / HTTP/1.1\r\nHost: a\r\nsinew-timeout-ms: 0\r\n" CLOSE),
			"HTTP/1.1 504");
	says(ask(&w, "in", "POST / HTTP/1.1\r\nHost: a\r\ngrpc-timeout: 0m\r\n" CLOSE),
			"HTTP/1.1 504");
	says(ask(&w, "in", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n" CLOSE),
			"HTTP/1.1 413");
	assert_int_equal(w.handled, 2);
	(void)snprintf(line, sizeof(line),
			"sinew_inbound_requests_total{listener=\"unix:%s/in\",status=\"2xx\"} 2\n",
			dir);
	metrics_say(&w, line, true);
	metrics_say(&w, "status=\"4xx\"} 1\n", true);
	metrics_say(&w, "status=\"5xx\"} 2\n", true);
	metrics_say(&w, "sinew_inbound_expired_total", true);
	metrics_say(&w, "sinew_inbound_seconds_count", true);
	(void)snprintf(line, sizeof(line), "sinew_inbound_inflight{listener=\"unix:%s/in\"} 0\n",
			dir);
	metrics_say(&w, line, true);
	sn_http_server_close(w.server, 0);
	for (int i = 0; i < 20; i++)
		step(&w, 1);
	metrics_say(&w, "sinew_inbound_inflight", false);
	world_close(&w);
}

/* The host is told, first that its server accepts no more, then that all has ended; closing is its. */
static void test_drain(void **state)
{
	char text[128];
	struct world w;

	(void)snprintf(text, sizeof(text), "listen: {admin: 'unix:%s/admin'}\n", dir);
	assert_true(world_open(&w, text));
	assert_int_equal(serve(&w, "in", false), 0);
	says(ask(&w, "in", "GET / HTTP/1.1\r\nHost: a\r\n" CLOSE), "HTTP/1.1 200");
	says(ask(&w, "admin", "POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n" CLOSE),
			"HTTP/1.1 202");
	while (w.drain[1] == 0)
		step(&w, 1000);
	assert_int_equal(w.drain[0], 1);
	assert_int_equal(w.drain[1], 1);
	world_close(&w);
}

/* Without it the context is what the request says. */
static void test_not_attached(void **state)
{
	struct world w;

	assert_true(world_open(&w, "name: a\n"));
	assert_int_equal(serve(&w, "in", false), 0);
	says(ask(&w, "in",
			     "GET / HTTP/1.1\r\nHost: a\r\nx-envoy-expected-rq-timeout-ms: 77\r\n"
			     "X-B3-TraceId: 1\r\nX-B3-SpanId: 2\r\nX-B3-Sampled: 0\r\n" CLOSE),
			"HTTP/1.1 200");
	assert_int_equal(w.context.deadline_ms, 77);
	assert_int_equal(w.context.trace_id[1], 1);
	assert_int_equal(w.context.span_id, 2);
	assert_false(w.context.sampled);
	metrics_say(&w, "sinew_inbound", false);
	world_close(&w);
}

/* A client that is gone: counted as such. */
static void test_client_gone(void **state)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	struct world w;
	int fd;

	assert_true(world_open(&w, "name: a\n"));
	assert_int_equal(serve(&w, "in", true), 0);
	w.silent = true;
	fd = dial("in");
	assert_int_equal(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL), sizeof(request) - 1);
	while (w.handled == 0)
		step(&w, 20);
	metrics_say(&w, "/in\"} 1\n", true); /* in flight */
	(void)close(fd);
	sn_http_server_close(w.server, 0);
	for (int i = 0; i < 20; i++)
		step(&w, 1);
	metrics_say(&w, "status=\"none\"} 1\n", true);
	world_close(&w);
}

/* ---- other servers ---- */

static const char *timeout_header(const char *name, void *arg)
{
	return strcmp(name, "sinew-timeout-ms") == 0 ? arg : NULL;
}

static void test_begin(void **state)
{
	struct sn_inbound_request req = SN_INBOUND_REQUEST_INIT;
	struct sn_inbound *inbound;
	struct sn_context ctx;
	struct world w;
	char text[8] = "1000";

	assert_true(world_open(&w, "name: a\n"));
	assert_int_equal(sn_inbound_begin(w.rt, &req, &inbound), SN_E_INVALID);
	req.method = "GET";
	req.url = "/a";
	assert_int_equal(sn_inbound_begin(w.rt, &req, &inbound), 0);
	sn_inbound_context(inbound, &ctx);
	assert_int_equal(ctx.size, sizeof(ctx));
	assert_int_equal(ctx.deadline_ms, 0);
	assert_int_equal(ctx.trace_id[1], 0); /* nobody traces */
	sn_inbound_end(inbound, 201);
	req.header = timeout_header;
	req.arg = text;
	assert_int_equal(sn_inbound_begin(w.rt, &req, &inbound), 0);
	sn_inbound_context(inbound, &ctx);
	assert_in_range(ctx.deadline_ms, 1, 1000);
	sn_inbound_end(inbound, 0);
	(void)snprintf(text, sizeof(text), "0");
	assert_int_equal(sn_inbound_begin(w.rt, &req, &inbound), SN_E_DEADLINE);
	(void)snprintf(text, sizeof(text), "-1"); /* nonsense is none */
	assert_int_equal(sn_inbound_begin(w.rt, &req, &inbound), 0);
	sn_inbound_end(inbound, 404);
	sn_inbound_end(NULL, 200);
	metrics_say(&w, "sinew_inbound_requests_total{listener=\"host\",status=\"2xx\"} 1\n", true);
	metrics_say(&w, "sinew_inbound_requests_total{listener=\"host\",status=\"none\"} 1\n",
			true);
	metrics_say(&w, "sinew_inbound_expired_total{listener=\"host\"} 1\n", true);
	req.size = 3;
	assert_int_equal(sn_inbound_begin(w.rt, &req, &inbound), SN_E_INVALID);
	world_close(&w);
}

#define THREADS 4
#define EACH 500

static void *begin_many(void *arg)
{
	struct sn_inbound_request req = SN_INBOUND_REQUEST_INIT;
	struct sn_instrument *job;
	struct sn_inbound *inbound;
	struct sn_context ctx;

	req.method = "GET";
	req.url = "/thread";
	for (int i = 0; i < EACH; i++) {
		if (sn_inbound_begin(arg, &req, &inbound) < 0)
			return arg;
		sn_inbound_context(inbound, &ctx);
		if (ctx.trace_id[1] == 0 || sn_instrument_begin(arg, &ctx, "a", "b", "c", &job) < 0)
			return arg;
		sn_instrument_end(job, 200, NULL);
		sn_inbound_end(inbound, 200);
	}
	return NULL;
}

/* Any thread, and the last spans are counted before the end. */
static void test_threads(void **state)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	pthread_t threads[THREADS];
	struct sn_runtime *rt;
	void *failed;

	opts.agent = "";
	opts.config_text = "trace: {zipkin: 'http://127.0.0.1:1'}\n";
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, begin_many, rt), 0);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* ---- gRPC ---- */

static void test_grpc(void **state)
{
	struct sn_grpc_server_options server_opts = {
			.size = sizeof(server_opts), .listen = "127.0.0.1:0"};
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_grpc_options call = SN_GRPC_OPTIONS_INIT;
	struct sn_grpc_server *server;
	struct sn_grpc_answer *answer = NULL;
	struct sn_runtime *rt, *client;
	char config[200];

	opts.agent = "";
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	assert_int_equal(sn_grpc_server_open(rt, &server_opts, &server, NULL), 0);
	assert_int_equal(sn_inbound_attach_grpc(server), 0);
	assert_int_equal(sn_inbound_attach_grpc(server), SN_E_EXISTS);
	(void)snprintf(config, sizeof(config),
			"peers: {service: {s: {default: {'1': {protocol: grpc, address: 127.0.0.1, "
			"port: %u}}}}}\n",
			sn_grpc_server_port(server));
	opts.config_text = config;
	assert_int_equal(sn_open(&opts, &client, NULL), 0);
	call.bytes = "";
	assert_int_equal(
			sn_grpc_call_wait(client, "service", "s", NULL,
					"/grpc.health.v1.Health/Check", NULL, &call, &answer, NULL),
			0);
	sn_grpc_answer_destroy(answer);
	assert_int_equal(sn_close(client, NULL, NULL), 0);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* ---- the proxy ---- */

static void relay_config(char out[400], const char *more)
{
	(void)snprintf(out, 400,
			"trace: {zipkin: 'http://127.0.0.1:1'}\n"
			"listen: {inbound: {addr: 'unix:%s/in', to: 'unix:%s/to'%s}}\n",
			dir, dir, more);
}

static void test_relay(void **state)
{
	struct world w;
	char config[400];

	relay_config(config, ", timeout: 300ms");
	assert_true(world_open(&w, config));
	assert_int_equal(serve(&w, "to", false), 0);
	says(ask(&w, "in",
			     "GET /a?b=1 HTTP/1.1\r\nHost: shop.example\r\nOrigin: http://evil\r\n"
			     "X-Forwarded-For: 6.6.6.6\r\nsinew-timeout-ms: 4000\r\n"
			     "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n" CLOSE),
			"HTTP/1.1 200");
	assert_string_equal(w.host, "shop.example");
	assert_string_equal(w.forwarded, "");
	assert_memory_equal(w.parent, "00-0af7651916cd43dd8448eb211c80319c-", 36);
	assert_memory_not_equal(w.parent + 36, "b7ad6b7169203331", 16);
	assert_in_range(w.context.deadline_ms, 1, 4000);
	says(ask(&w, "in", "GET / HTTP/1.1\r\nHost: a\r\nsinew-timeout-ms: 0\r\n" CLOSE),
			"HTTP/1.1 504");
	assert_int_equal(w.handled, 1);
	/* The service is silent: its time, then the request's own. */
	w.silent = true;
	says(ask(&w, "in", "GET / HTTP/1.1\r\nHost: a\r\n" CLOSE), "HTTP/1.1 504");
	says(ask(&w, "in", "GET / HTTP/1.1\r\nHost: a\r\nsinew-timeout-ms: 30\r\n" CLOSE),
			"HTTP/1.1 504");
	assert_int_equal(w.handled, 3);
	metrics_say(&w, "status=\"5xx\"} 3\n", true);
	world_close(&w);
}

static void test_relay_refuses(void **state)
{
	struct world w;
	char config[400];
	static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	int fd;

	relay_config(config, ", max-inflight: 1, max-body: 10");
	assert_true(world_open(&w, config));
	says(ask(&w, "in", "GET / HTTP/1.1\r\nHost: a\r\n" CLOSE), "HTTP/1.1 502"); /* not there */
	assert_int_equal(serve(&w, "to", false), 0);
	says(ask(&w, "in", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n" CLOSE),
			"HTTP/1.1 413");
	w.silent = true;
	fd = dial("in");
	assert_int_equal(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL), sizeof(request) - 1);
	while (w.handled == 0)
		step(&w, 20);
	says(ask(&w, "in", "GET / HTTP/1.1\r\nHost: a\r\n" CLOSE), "HTTP/1.1 503");
	(void)close(fd);
	world_close(&w); /* with a request on its way */
}

/* Returns whether the request was answered well. */
static bool whole_life(void)
{
	struct world w;
	char config[400];
	bool good = false;

	relay_config(config, ", timeout: 500ms, trust-forwarded: true");
	if (!world_open(&w, config))
		return false;
	if (serve(&w, "to", true) == 0)
		good = strncmp(ask(&w, "in",
					       "POST /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n"
					       "Forwarded: for=1.2.3.4\r\nContent-Length: 3\r\n"
					       "Connection: close\r\n\r\nabc"),
				       "HTTP/1.1 200", 12) == 0 &&
				strcmp(w.forwarded, "1.2.3.4") == 0;
	world_close(&w);
	return good;
}

static void test_memory_sweep(void **state)
{
	int64_t live;
	uint64_t n;

	assert_true(whole_life());
	live = sn__mem_live();
	for (n = 1; n < 5000; n++) {
		bool good, failed;

		sn__mem_fail_nth(n);
		good = whole_life();
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (sn__mem_live() != live)
			fail_msg("allocation %d failing: %d blocks leaked", (int)n,
					(int)(sn__mem_live() - live));
		if (!failed) {
			assert_true(good);
			break;
		}
	}
	assert_in_range(n, 50, 4999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_attach),
			cmocka_unit_test(test_drain),
			cmocka_unit_test(test_not_attached),
			cmocka_unit_test(test_client_gone),
			cmocka_unit_test(test_begin),
			cmocka_unit_test(test_threads),
			cmocka_unit_test(test_grpc),
			cmocka_unit_test(test_relay),
			cmocka_unit_test(test_relay_refuses),
			cmocka_unit_test(test_memory_sweep),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
