/* SPDX-License-Identifier: Apache-2.0 */

/* The public API from opening to closing: options, files, and every allocation of it failing once. */

#include "base/test.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sinew/mesh.h>
#include "base/mem.h"
#include "base/time.h"

/* ---- a service that takes no memory of the library ---- */

static int listener;
static uint16_t port;
static pthread_t server_thread;

static void *serve(void *arg)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n"
				     "Connection: close\r\n\r\nhello";
	char block[4096];

	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			return NULL;
		if (read(fd, block, sizeof(block)) > 0)
			(void)!write(fd, answer, sizeof(answer) - 1);
		(void)shutdown(fd, SHUT_WR);
		while (read(fd, block, sizeof(block)) > 0)
			;
		(void)close(fd);
	}
}

static int service_open(void **state)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(addr);

	unsetenv("BERLIOZ_AGENT_PATH");
	unsetenv("BERLIOZ_METADATA_SOURCE");
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&addr, len) < 0 || listen(listener, 64) < 0 ||
			getsockname(listener, (struct sockaddr *)&addr, &len) < 0)
		return -1;
	port = ntohs(addr.sin_port);
	return pthread_create(&server_thread, NULL, serve, NULL);
}

static int service_close(void **state)
{
	(void)shutdown(listener, SHUT_RDWR);
	(void)pthread_join(server_thread, NULL);
	return close(listener);
}

/* ---- a host that uses all of it ---- */

struct host {
	struct sn_runtime *rt;
	struct sn_monitor *monitors[5];
	unsigned n_monitors;
	struct sn_http_server *server;
	unsigned expected, answered, first, values, peers, ran;
	unsigned good;
};

static void answered(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	struct host *h = arg;

	h->answered++;
	if (err != NULL) {
		assert_true(sn_error_code(err) < 0);
		assert_true(strlen(sn_error_text(err)) > 0);
		return;
	}
	assert_int_equal(sn_response_status(res), 200);
	assert_string_equal(sn_response_body(res, NULL), "hello");
	assert_string_equal(sn_response_header(res, "x-a"), "b");
	assert_string_equal(sn_response_identity(res), "1");
	h->good++;
}

static void peers_told(struct sn_peers *peers, void *arg)
{
	((struct host *)arg)->peers++;
}

static void first_told(const struct sn_peer_info *peer, void *arg)
{
	((struct host *)arg)->first++;
}

static void value_told(const char *json, void *arg)
{
	((struct host *)arg)->values++;
}

static void ran(struct sn_runtime *rt, void *arg)
{
	((struct host *)arg)->ran++;
}

static void handle(struct sn_exchange *x, void *arg)
{
	sn_exchange_abort(x);
}

/* 0 or an error that has its sentence; never both *@obj and an error. */
static bool fine(int r, const void *obj, struct sn_error *err)
{
	if (r == 0) {
		assert_null(err);
		return true;
	}
	assert_int_equal(r, SN_E_NOMEM);
	assert_null(obj);
	if (err != NULL)
		assert_int_equal(sn_error_code(err), r);
	sn_error_destroy(err);
	return false;
}

static bool host_open(struct host *h)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;
	char config[400];
	int r;

	snprintf(config, sizeof(config),
			"peers: {service: {a: {web: {'1': {protocol: http, address: "
			"127.0.0.1, port: %u}}}}}\npolicies: {retry-count: 1, timeout: 2000}\n",
			port);
	opts.mode = SN_MODE_FOREIGN;
	opts.agent = "";
	opts.config_text = config;
	opts.seed = 1;
	r = sn_open(&opts, &h->rt, &err);
	return fine(r, h->rt, err);
}

static void host_monitors(struct host *h)
{
	struct sn_monitor **m = h->monitors;
	int r[5];

	r[0] = sn_monitor_peers(h->rt, "service", "a", "web", peers_told, h, &m[0]);
	r[1] = sn_monitor_first_peer(h->rt, "service", "a", "web", first_told, h, &m[1]);
	r[2] = sn_monitor_endpoint(h->rt, NULL, value_told, h, &m[2]);
	r[3] = sn_monitor_consumes(h->rt, value_told, h, &m[3]);
	r[4] = sn_monitor_policy(h->rt, "timeout", "service", "a", "web", value_told, h, &m[4]);
	for (int i = 0; i < 5; i++) {
		(void)fine(r[i], m[i], NULL);
		if (i % 2 == 0)
			sn_monitor_stop(m[i]);
	}
}

static void host_look_ups(struct host *h)
{
	char *texts[4] = {NULL, NULL, NULL, NULL};
	struct sn_peers *peers = NULL, *random = NULL;
	struct sn_peer_info info;
	int r = sn_get_peers(h->rt, "service", "a", "web", &peers);

	if (fine(r, peers, NULL) && peers != NULL)
		assert_true(sn_peers_json(peers) != NULL || sn__mem_failed());
	r = sn_get_random_peer(h->rt, "service", "a", "web", &random, &info);
	assert_true(r == 0 || r == SN_E_NO_PEER || r == SN_E_NOMEM);
	sn_peers_unref(peers);
	sn_peers_unref(random);
	(void)fine(sn_get_endpoint(h->rt, "x", &texts[0]), texts[0], NULL);
	(void)fine(sn_get_consumes(h->rt, &texts[1]), texts[1], NULL);
	(void)fine(sn_get_registry(h->rt, &texts[2]), texts[2], NULL);
	(void)fine(sn_get_policy(h->rt, "timeout", "service", "a", "web", &texts[3]), texts[3],
			NULL);
	for (int i = 0; i < 4; i++)
		sn_free(texts[i]);
}

static void host_request(struct host *h)
{
	static const struct sn_header headers[] = {{"X-One", "1"}, {"X-Two", "2"}};
	struct sn_request_options opts = SN_REQUEST_INIT;
	struct sn_error *err = NULL;
	struct sn_call_id id;
	int r;

	opts.method = "POST";
	opts.url = "/contact";
	opts.headers = headers;
	opts.n_headers = 2;
	opts.json = "{\"name\": \"Chuck Norris\"}";
	r = sn_request(h->rt, "service", "a", "web", &opts, answered, h, &id, &err);
	h->expected += r == 0;
	(void)fine(r, NULL, err);
	err = NULL;
	r = sn_request(h->rt, "service", "a", "web", NULL, answered, h, &id, &err);
	h->expected += r == 0;
	if (fine(r, NULL, err))
		sn_request_cancel(h->rt, id);
}

static void host_server(struct host *h)
{
	struct sn_http_server_options http = {.size = sizeof(http), .listen = "127.0.0.1:0"};
	struct sn_error *err = NULL;
	int r = sn_http_server_open(h->rt, &http, handle, h, &h->server, &err);

	if (fine(r, h->server, err))
		assert_int_not_equal(sn_http_server_port(h->server), 0);
}

static void host_step(struct host *h, const unsigned *what, unsigned wanted)
{
	uint64_t end_ns = sn__clock_mono_ns() + 3 * SN_NS_PER_S;

	while (*what < wanted && sn__clock_mono_ns() < end_ns) {
		struct pollfd p = {.fd = sn_runtime_fd(h->rt), .events = POLLIN};
		int timeout_ms = sn_runtime_timeout(h->rt);

		(void)poll(&p, 1, timeout_ms < 0 || timeout_ms > 100 ? 100 : timeout_ms);
		assert_int_equal(sn_runtime_step(h->rt), 0);
	}
}

static void host_close(struct host *h)
{
	if (h->server != NULL)
		sn_http_server_close(h->server, 10);
	assert_int_equal(sn_close(h->rt, NULL, NULL), 0);
	assert_int_equal(h->answered, h->expected); /* exactly once, whatever happened */
}

/* Returns whether the first request was answered well. */
static bool whole_life(void)
{
	struct host h = {.rt = NULL};

	if (!host_open(&h))
		return false;
	for (int i = 0; i < 4; i++)
		assert_int_equal(sn_runtime_step(h.rt), 0);
	host_server(&h);
	host_monitors(&h);
	host_look_ups(&h);
	(void)fine(sn_post(h.rt, ran, &h), NULL, NULL);
	(void)fine(sn_after(h.rt, 60000, ran, &h), NULL, NULL);
	host_request(&h);
	host_step(&h, &h.answered, h.expected);
	host_close(&h);
	return h.good > 0;
}

static void test_memory_sweep(void **state)
{
	int64_t live;
	uint64_t n;

	assert_true(whole_life()); /* what stays for the process stays now */
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

/* ---- steady state ---- */

struct steady {
	struct sn_runtime *rt;
	struct sn_runtime *server_rt;
	unsigned answered, wanted;
};

static void steady_answer(struct sn_exchange *x, void *arg)
{
	assert_int_equal(sn_exchange_respond(x, 200, NULL, 0, "hello", 5), 0);
}

static void steady_send(struct steady *s);

static void steady_answered(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	struct steady *s = arg;

	assert_null(err);
	if (++s->answered < s->wanted)
		steady_send(s);
}

static void steady_send(struct steady *s)
{
	static const struct sn_header headers[] = {{"X-One", "1"}};
	struct sn_request_options opts = SN_REQUEST_INIT;

	opts.url = "/some/path?q=1";
	opts.headers = headers;
	opts.n_headers = 1;
	assert_int_equal(sn_request(s->rt, "service", "a", "web", &opts, steady_answered, s, NULL,
					 NULL),
			0);
}

static void steady_run(struct steady *s, unsigned calls)
{
	s->answered = 0;
	s->wanted = calls;
	for (int i = 0; i < 8; i++)
		steady_send(s);
	while (s->answered < calls + 7) {
		assert_int_equal(sn_runtime_step(s->rt), 0);
		assert_int_equal(sn_runtime_step(s->server_rt), 0);
	}
}

static void test_steady_state_takes_no_memory(void **state)
{
	struct sn_http_server_options http = {.size = sizeof(http), .listen = "127.0.0.1:0"};
	struct sn_options opts = SN_OPTIONS_INIT;
	struct steady s = {.answered = 0};
	struct sn_http_server *server;
	char config[256];
	uint64_t before;

	opts.mode = SN_MODE_FOREIGN;
	opts.agent = "";
	assert_int_equal(sn_open(&opts, &s.server_rt, NULL), 0);
	assert_int_equal(
			sn_http_server_open(s.server_rt, &http, steady_answer, NULL, &server, NULL),
			0);
	snprintf(config, sizeof(config),
			"peers: {service: {a: {web: {'1': {protocol: http, address: 127.0.0.1, "
			"port: %u}}}}}\n",
			sn_http_server_port(server));
	opts.config_text = config;
	assert_int_equal(sn_open(&opts, &s.rt, NULL), 0);
	steady_run(&s, 2000);
	before = sn__mem_count();
	steady_run(&s, 2000);
	assert_int_equal(sn__mem_count() - before, 0);
	assert_int_equal(sn_close(s.rt, NULL, NULL), 0);
	assert_int_equal(sn_close(s.server_rt, NULL, NULL), 0);
}

/* ---- options ---- */

static void refused(const struct sn_options *opts, const char *sentence)
{
	struct sn_runtime *rt = NULL;
	struct sn_error *err = NULL;
	int r = sn_open(opts, &rt, &err);

	assert_true(r < 0);
	assert_null(rt);
	assert_non_null(err);
	if (strstr(sn_error_text(err), sentence) == NULL)
		fail_msg("got \"%s\", want \"%s\"", sn_error_text(err), sentence);
	sn_error_destroy(err);
}

static void test_options(void **state)
{
	struct sn_options opts = SN_OPTIONS_INIT;

	refused(NULL, "environment variable BERLIOZ_AGENT_PATH not set");
	opts.size = 3;
	refused(&opts, "options.size is 3");
	opts = (struct sn_options)SN_OPTIONS_INIT;
	opts.mode = SN_MODE_UV;
	refused(&opts, "options.uv_loop and SN_MODE_UV go together");
	opts.mode = (enum sn_mode)7;
	refused(&opts, "options.mode has no value 7");
	opts.mode = SN_MODE_THREAD;
	opts.agent = "http://127.0.0.1:1/x";
	refused(&opts, "ws://HOST:PORT/TASK");
	opts.agent = "";
	opts.config = "/nonexistent/sinew.yaml";
	refused(&opts, "/nonexistent/sinew.yaml");
	opts.config_text = "{}";
	refused(&opts, "one of them");
	opts.config = NULL;
	opts.config_text = "policies: {retry-cuont: 3}\n";
	refused(&opts, "config_text:1:");
	opts.config_text = "peers: {wizard: {}}\n";
	refused(&opts, "config_text:1:");
}

static void test_override_needs_its_text(void **state)
{
	setenv("BERLIOZ_METADATA_SOURCE", "override", 1);
	unsetenv("BERLIOZ_METADATA_OVERRIDE");
	refused(NULL, "BERLIOZ_METADATA_OVERRIDE not set");
	unsetenv("BERLIOZ_METADATA_SOURCE");
}

static void policy_is(struct sn_runtime *rt, const char *policy, const char *want)
{
	char *json = NULL;

	assert_int_equal(sn_get_policy(rt, policy, "service", "a", "web", &json), 0);
	assert_string_equal(json, want);
	sn_free(json);
}

static void test_file(void **state)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_runtime *rt;

	opts.agent = "";
	opts.config_text =
			"tls: {verify: false, server-name: x.example}\n"
			"policies: {timeout: 5s, service: {a: {retry-count: 9, web: {timeout: 10}}}}\n"
			"peers: {service: {a: {web: {'1': {protocol: http, address: 127.0.0.1, "
			"port: 80}}}}}\n";
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	assert_int_equal(sn_wait_ready(rt, 5000), 0);
	policy_is(rt, "timeout", "10");
	policy_is(rt, "retry-count", "9");
	policy_is(rt, "tls-verify", "false");
	policy_is(rt, "tls-server-name", "\"x.example\"");
	policy_is(rt, "no-such-policy", "null");
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* ---- several threads ---- */

#define THREADS 4
#define CALLS 50

static void *call_many(void *arg)
{
	struct sn_runtime *rt = arg;

	for (int i = 0; i < CALLS; i++) {
		struct sn_response *res = NULL;
		struct sn_peers *peers = NULL;
		struct sn_error *err = NULL;

		if (sn_request_wait(rt, "service", "a", "web", NULL, &res, &err) != 0 ||
				sn_response_status(res) != 200)
			return NULL;
		sn_response_destroy(res);
		if (sn_get_peers_wait(rt, "service", "a", "web", 1000, &peers) != 0)
			return NULL;
		sn_peers_unref(peers);
	}
	return arg;
}

static void test_threads(void **state)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	pthread_t threads[THREADS];
	struct sn_runtime *rt;
	char config[200];
	void *well;

	snprintf(config, sizeof(config),
			"peers: {service: {a: {web: {'1': {protocol: http, address: "
			"127.0.0.1, port: %u}}}}}\n",
			port);
	opts.agent = "";
	opts.config_text = config;
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, call_many, rt), 0);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &well), 0);
		assert_non_null(well);
	}
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* Threads that wait when the runtime is closed are woken and told so. */
static void *wait_for_nobody(void *arg)
{
	struct sn_peers *peers = NULL;
	int *r = ((void **)arg)[1];

	*r = sn_get_peers_wait(((void **)arg)[0], "service", "nobody", "x", 60000, &peers);
	return NULL;
}

static void seen(struct sn_runtime *rt, void *arg)
{
	__atomic_store_n((int *)arg, 1, __ATOMIC_RELEASE);
}

static void test_close_wakes_who_waits(void **state)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_runtime *rt;
	pthread_t thread;
	int r = 1, turned = 0;
	void *arg[2];

	opts.agent = "";
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	arg[0] = rt;
	arg[1] = &r;
	assert_int_equal(pthread_create(&thread, NULL, wait_for_nobody, arg), 0);
	/* It may or may not have begun to wait: closing must be right for both. */
	assert_int_equal(sn_after(rt, 20, seen, &turned), 0);
	while (!__atomic_load_n(&turned, __ATOMIC_ACQUIRE))
		(void)sched_yield();
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(r, SN_E_CLOSED);
}

static void test_wait_times_out(void **state)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_peers *peers = NULL;
	struct sn_runtime *rt;

	opts.agent = "ws://127.0.0.1:1/x"; /* nobody is there */
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	assert_int_equal(sn_wait_ready(rt, 20), SN_E_TIMEOUT);
	assert_int_equal(sn_get_peers_wait(rt, "service", "a", "web", 20, &peers), SN_E_TIMEOUT);
	assert_null(peers);
	assert_int_equal(sn_get_peers(rt, "service", "a", "web", &peers), 0);
	assert_null(peers);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* ---- cancelling ---- */

struct ended {
	unsigned n;
	int code;
};

static void end(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	struct ended *e = arg;

	e->code = err != NULL ? sn_error_code(err) : 0;
	__atomic_add_fetch(&e->n, 1, __ATOMIC_RELEASE);
}

static void test_cancel(void **state)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct ended ended = {.n = 0};
	struct sn_call_id id, old;
	struct sn_runtime *rt;

	opts.agent = "";
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	for (unsigned i = 1; i <= 100; i++) {
		assert_int_equal(sn_request(rt, "service", "nobody", "x", NULL, end, &ended, &id,
						 NULL),
				0);
		if (i > 1)
			assert_int_not_equal(id.value, old.value);
		sn_request_cancel(rt, id);
		sn_request_cancel(rt, id);
		if (i > 1)
			sn_request_cancel(rt, old); /* ended: nothing happens */
		while (__atomic_load_n(&ended.n, __ATOMIC_ACQUIRE) < i)
			(void)sched_yield();
		assert_int_equal(ended.code, SN_E_CANCELLED);
		old = id;
	}
	sn_request_cancel(rt, (struct sn_call_id){0});
	sn_request_cancel(rt, (struct sn_call_id){UINT64_MAX});
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_int_equal(ended.n, 100);
}

struct canceller {
	struct sn_runtime *rt;
	_Atomic unsigned ended;
};

static void count_end(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	atomic_fetch_add(&((struct canceller *)arg)->ended, 1);
}

static void *start_and_cancel(void *arg)
{
	struct canceller *c = arg;

	for (unsigned i = 1; i <= 500; i++) {
		struct sn_call_id id;

		if (sn_request(c->rt, "service", "nobody", "x", NULL, count_end, c, &id, NULL) != 0)
			return NULL;
		sn_request_cancel(c->rt, id);
		while (atomic_load(&c->ended) + 4 < i)
			sn_request_cancel(
					c->rt, id); /* the operation is another's by now, perhaps */
	}
	return c;
}

/* A cancel that comes late meets an operation that another thread is filling in. */
static void test_cancel_by_many(void **state)
{
	struct canceller c[THREADS];
	struct sn_options opts = SN_OPTIONS_INIT;
	pthread_t threads[THREADS];
	struct sn_runtime *rt;
	void *well;

	opts.agent = "";
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	for (int i = 0; i < THREADS; i++) {
		c[i].rt = rt;
		atomic_init(&c[i].ended, 0);
		assert_int_equal(pthread_create(&threads[i], NULL, start_and_cancel, &c[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &well), 0);
		assert_non_null(well);
	}
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(atomic_load(&c[i].ended), 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_memory_sweep),
			cmocka_unit_test(test_steady_state_takes_no_memory),
			cmocka_unit_test(test_options),
			cmocka_unit_test(test_override_needs_its_text),
			cmocka_unit_test(test_file),
			cmocka_unit_test(test_threads),
			cmocka_unit_test(test_close_wakes_who_waits),
			cmocka_unit_test(test_wait_times_out),
			cmocka_unit_test(test_cancel),
			cmocka_unit_test(test_cancel_by_many),
	};

	return cmocka_run_group_tests(tests, service_open, service_close);
}
