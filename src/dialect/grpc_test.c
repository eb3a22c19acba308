/* SPDX-License-Identifier: Apache-2.0 */

/* gRPC between two runtimes on real sockets: waiting threads, many threads, TLS, closing, fork. */

#pragma GCC diagnostic ignored "-Wunused-function"
#include "io/tls_cert.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sinew/grpc.h>

#define THREADS 4
#define CALLS 200

static struct sn_runtime *server_rt;
static struct sn_grpc_server *server;
static atomic_uint n_held;

static void echo(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *b = request;

	if (b->size == 4 && memcmp(b->data, "fail", 4) == 0) {
		sn_grpc_exchange_finish(x, SN_GRPC_ABORTED, "as told", NULL, 0);
		return;
	}
	assert_int_equal(sn_grpc_exchange_send(x, NULL, b->data, b->size), 0);
	sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
}

static void released(struct sn_grpc_exchange *x, int status, void *arg)
{
	atomic_fetch_sub(&n_held, 1);
}

static void hold(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	atomic_fetch_add(&n_held, 1);
	sn_grpc_exchange_on_close(x, released, NULL);
}

static const struct sn_grpc_method methods[] = {
		{.name = "Echo", .start = echo},
		{.name = "Hold", .start = hold},
};
static const struct sn_grpc_service service = {
		.size = sizeof(service), .name = "t.Real", .methods = methods, .n_methods = 2};
static const struct sn_grpc_service *const services[] = {&service, NULL};

static int serve(void **state)
{
	struct sn_grpc_server_options o = {
			.size = sizeof(o), .listen = "127.0.0.1:0", .services = services};
	struct sn_options opts = SN_OPTIONS_INIT;

	opts.agent = "";
	if (cert_make_all(state) < 0 || sn_open(&opts, &server_rt, NULL) < 0)
		return -1;
	return sn_grpc_server_open(server_rt, &o, &server, NULL);
}

static int unserve(void **state)
{
	sn_grpc_server_close(server, 0);
	return sn_close(server_rt, NULL, NULL) < 0 ? -1 : cert_remove_all(state);
}

static struct sn_runtime *client_open(const char *protocol, uint16_t port, const char *more)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_runtime *rt;
	char config[1500];

	(void)snprintf(config, sizeof(config),
			"%s\npeers: {service: {a: {default: {'1': {protocol: %s, address: "
			"127.0.0.1, port: %u}}}}}\n",
			more, protocol, (unsigned)port);
	opts.agent = "";
	opts.config_text = config;
	if (sn_open(&opts, &rt, &err) < 0)
		fail_msg("%s", sn_error_text(err));
	return rt;
}

static struct sn_runtime *client(void)
{
	return client_open("grpc", sn_grpc_server_port(server), "");
}

static int wait_for(struct sn_runtime *rt, const char *method, const char *text,
		struct sn_grpc_answer **ret_a, struct sn_error **ret_err)
{
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;

	o.bytes = text;
	o.bytes_size = strlen(text);
	o.deadline_ms = strcmp(text, "quick") == 0 ? 50 : 10000;
	return sn_grpc_call_wait(rt, "service", "a", NULL, method, NULL, &o, ret_a, ret_err);
}

/* ---- waiting ---- */

static void test_wait(void **state)
{
	struct sn_grpc_answer *a = NULL, *second = NULL, *none = NULL;
	struct sn_runtime *rt = client();
	struct sn_error *err = NULL;
	size_t size;

	assert_int_equal(wait_for(rt, "/t.Real/Echo", "hello", &a, &err), 0);
	assert_null(err);
	assert_int_equal(wait_for(rt, "/t.Real/Echo", "fail", &second, &err), SN_E_STATUS);
	assert_int_equal(sn_grpc_error_code(err), SN_GRPC_ABORTED);
	assert_int_equal(sn_grpc_answer_code(second), SN_GRPC_ABORTED);
	assert_string_equal(sn_grpc_answer_text(second), "as told");
	assert_string_equal(sn_grpc_answer_call_id(second), sn_error_call_id(err));
	sn_error_destroy(err);
	assert_int_equal(wait_for(rt, "/t.Real/Hold", "quick", &none, &err) < 0, true);
	assert_int_equal(sn_grpc_error_code(err), SN_GRPC_DEADLINE_EXCEEDED);
	sn_error_destroy(err);
	sn_grpc_answer_destroy(none); /* the server's word may have been quicker than our clock */
	err = NULL;
	assert_int_equal(wait_for(rt, "nonsense", "x", &none, &err), SN_E_INVALID);
	assert_non_null(strstr(sn_error_text(err), "nonsense"));
	sn_error_destroy(err);
	/* Results are the caller's, also when the runtime is gone. */
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_memory_equal(sn_grpc_answer_bytes(a, &size), "hello", 5);
	assert_int_equal(size, 5);
	assert_int_equal(sn_grpc_answer_attempts(a), 1);
	assert_string_equal(sn_grpc_answer_identity(a), "1");
	sn_grpc_answer_destroy(a);
	sn_grpc_answer_destroy(second);
}

struct from_loop {
	atomic_int wait, open, done;
};

static void on_loop(struct sn_runtime *rt, void *arg)
{
	struct from_loop *f = arg;
	struct sn_grpc_answer *a;
	struct sn_error *err = NULL;

	f->wait = wait_for(rt, "/t.Real/Echo", "x", &a, &err);
	sn_error_destroy(err);
	f->done = 1;
}

static void never_message(struct sn_grpc_stream *s, const void *data, size_t size, void *arg)
{
	abort();
}

static void never_end(struct sn_grpc_stream *s, const struct sn_error *err, void *arg)
{
	abort();
}

static void test_wrong_thread(void **state)
{
	static const struct sn_grpc_stream_fns fns = {
			.on_message = never_message, .on_end = never_end};
	struct sn_runtime *rt = client();
	struct sn_grpc_stream *s;
	struct from_loop f = {.done = 0};
	struct sn_error *err = NULL;

	assert_int_equal(sn_post(rt, on_loop, &f), 0);
	while (f.done == 0)
		(void)sched_yield();
	assert_int_equal(f.wait, SN_E_DEADLK);
	assert_int_equal(sn_grpc_stream_open(rt, "service", "a", NULL, "/t.Real/Echo", NULL, &fns,
					 NULL, &s, &err),
			SN_E_STATE);
	assert_non_null(strstr(sn_error_text(err), "sn_post"));
	sn_error_destroy(err);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* ---- many ---- */

struct worker {
	struct sn_runtime *rt;
	atomic_uint ended, ok;
	bool waits;
};

static void worker_end(const struct sn_grpc_answer *a, const struct sn_error *err, void *arg)
{
	struct worker *w = arg;

	if (err == NULL)
		atomic_fetch_add(&w->ok, 1);
	atomic_fetch_add(&w->ended, 1);
}

static void *worker_calls(void *arg)
{
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;
	struct worker *w = arg;

	o.bytes = "hello";
	o.bytes_size = 5;
	for (unsigned i = 1; i <= CALLS; i++) {
		struct sn_call_id id;

		if (sn_grpc_call(w->rt, "service", "a", NULL, "/t.Real/Echo", NULL, &o, worker_end,
				    w, &id, NULL) != 0)
			return NULL;
		if (i % 3 == 0)
			sn_grpc_cancel(w->rt, id);
		while (atomic_load(&w->ended) + 8 < i)
			(void)sched_yield();
		if (i % 7 == 0)
			sn_grpc_cancel(w->rt, id); /* it may have ended, and be another's */
	}
	return w;
}

static void *worker_waits(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < CALLS; i++) {
		struct sn_grpc_answer *a = NULL;
		struct sn_error *err = NULL;
		int r = wait_for(w->rt, "/t.Real/Echo", i % 4 == 0 ? "fail" : "hello", &a, &err);

		atomic_fetch_add(&w->ended, 1);
		if (r == (i % 4 == 0 ? SN_E_STATUS : 0) && a != NULL)
			atomic_fetch_add(&w->ok, 1);
		sn_grpc_answer_destroy(a);
		sn_error_destroy(err);
	}
	return w;
}

static void test_many_threads(void **state)
{
	struct sn_runtime *rt = client();
	struct worker w[THREADS];
	pthread_t threads[THREADS];
	void *well;

	for (int i = 0; i < THREADS; i++) {
		w[i].rt = rt;
		w[i].waits = i % 2 == 1;
		atomic_init(&w[i].ended, 0);
		atomic_init(&w[i].ok, 0);
		assert_int_equal(pthread_create(&threads[i], NULL,
						 w[i].waits ? worker_waits : worker_calls, &w[i]),
				0);
	}
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &well), 0);
		assert_non_null(well);
	}
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(atomic_load(&w[i].ended), CALLS);
		if (w[i].waits)
			assert_int_equal(atomic_load(&w[i].ok), CALLS);
		else
			assert_true(atomic_load(&w[i].ok) > CALLS / 3);
	}
}

/* ---- closing ---- */

static void *hold_wait(void *arg)
{
	struct sn_grpc_answer *a = NULL;
	int r = wait_for(arg, "/t.Real/Hold", "x", &a, NULL);

	sn_grpc_answer_destroy(a);
	return (void *)(intptr_t)r;
}

struct stream_end {
	atomic_int open, ended;
};

static void stream_ended(struct sn_grpc_stream *s, const struct sn_error *err, void *arg)
{
	((struct stream_end *)arg)->ended = err != NULL ? sn_error_code(err) : 1;
}

static void stream_begin(struct sn_runtime *rt, void *arg)
{
	static const struct sn_grpc_stream_fns fns = {
			.on_message = never_message, .on_end = stream_ended};
	struct stream_end *e = arg;
	struct sn_grpc_stream *s;

	e->open = sn_grpc_stream_open(
			rt, "service", "a", NULL, "/t.Real/Hold", NULL, &fns, e, &s, NULL);
	if (e->open == 0) {
		e->open = sn_grpc_stream_send(s, NULL, "x", 1);
		sn_grpc_stream_end(s);
	}
}

static void test_close_wakes_who_waits(void **state)
{
	struct sn_runtime *rt = client();
	struct stream_end e = {.open = -1};
	pthread_t threads[2];
	void *code;

	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hold_wait, rt), 0);
	assert_int_equal(sn_post(rt, stream_begin, &e), 0);
	while (atomic_load(&n_held) < 3)
		(void)sched_yield();
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &code), 0);
		assert_int_equal((int)(intptr_t)code, SN_E_CLOSED);
	}
	assert_int_equal(e.open, 0);
	assert_int_equal(e.ended, SN_E_CLOSED);
	while (atomic_load(&n_held) > 0) /* the server sees them go */
		(void)sched_yield();
}

static void test_close_with_open_server(void **state)
{
	struct sn_grpc_server_options o = {
			.size = sizeof(o), .listen = "127.0.0.1:0", .services = services};
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_grpc_answer *a = NULL;
	struct sn_grpc_server *other;
	struct sn_runtime *there, *here;

	opts.agent = "";
	assert_int_equal(sn_open(&opts, &there, NULL), 0);
	assert_int_equal(sn_grpc_server_open(there, &o, &other, NULL), 0);
	here = client_open("grpc", sn_grpc_server_port(other), "policies: {retry-count: 1}");
	assert_int_equal(wait_for(here, "/t.Real/Echo", "x", &a, NULL), 0);
	sn_grpc_answer_destroy(a);
	assert_int_equal(sn_close(there, NULL, NULL), 0);
	a = NULL;
	assert_int_not_equal(wait_for(here, "/t.Real/Echo", "x", &a, NULL), 0);
	sn_grpc_answer_destroy(a);
	assert_int_equal(sn_close(here, NULL, NULL), 0);
}

/* ---- TLS ---- */

static void test_tls(void **state)
{
	static const char *const protocols[] = {"grpcs", "https"};
	char pem[80], key[80], tls[200];
	struct sn_grpc_server_options o = {.size = sizeof(o),
			.listen = "127.0.0.1:0",
			.services = services,
			.tls_cert = pem,
			.tls_key = key};
	struct sn_grpc_server *secure;

	(void)snprintf(pem, sizeof(pem), "%s/good.pem", cert_dir);
	(void)snprintf(key, sizeof(key), "%s/good.key", cert_dir);
	(void)snprintf(tls, sizeof(tls), "tls: {ca: %s/ca.pem}", cert_dir);
	assert_int_equal(sn_grpc_server_open(server_rt, &o, &secure, NULL), 0);
	for (int i = 0; i < 4; i++) {
		struct sn_runtime *rt = client_open(protocols[i / 2], sn_grpc_server_port(secure),
				i % 2 == 0 ? tls : "");
		struct sn_grpc_answer *a = NULL;
		struct sn_error *err = NULL;
		int r = wait_for(rt, "/t.Real/Echo", "hello", &a, &err);

		assert_int_equal(r, i % 2 == 0 ? 0 : SN_E_TLS);
		assert_int_equal(sn_grpc_error_code(err), i % 2 == 0 ? 0 : SN_GRPC_UNAVAILABLE);
		sn_grpc_answer_destroy(a);
		sn_error_destroy(err);
		assert_int_equal(sn_close(rt, NULL, NULL), 0);
	}
	sn_grpc_server_close(secure, 0);
}

/* ---- after fork ---- */

static void unheard(const struct sn_grpc_answer *a, const struct sn_error *err, void *arg)
{
}

static int in_child(struct sn_runtime *rt)
{
	static const struct sn_grpc_stream_fns fns = {
			.on_message = never_message, .on_end = never_end};
	struct sn_grpc_server_options o = {.size = sizeof(o), .listen = "127.0.0.1:0"};
	struct sn_grpc_server *new_server;
	struct sn_grpc_stream *s;
	struct sn_grpc_answer *a;

	sn_grpc_cancel(rt, (struct sn_call_id){1});
	if (sn_grpc_call(rt, "service", "a", NULL, "/t.Real/Echo", NULL, NULL, unheard, NULL, NULL,
			    NULL) != SN_E_FORKED)
		return 1;
	if (wait_for(rt, "/t.Real/Echo", "x", &a, NULL) != SN_E_FORKED)
		return 2;
	if (sn_grpc_stream_open(rt, "service", "a", NULL, "/t.Real/Echo", NULL, &fns, NULL, &s,
			    NULL) != SN_E_FORKED)
		return 3;
	return sn_grpc_server_open(rt, &o, &new_server, NULL) != SN_E_FORKED ? 4 : 0;
}

static void test_fork(void **state)
{
	struct sn_runtime *rt = client();
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(in_child(rt));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_wait),
			cmocka_unit_test(test_wrong_thread),
			cmocka_unit_test(test_many_threads),
			cmocka_unit_test(test_close_wakes_who_waits),
			cmocka_unit_test(test_close_with_open_server),
			cmocka_unit_test(test_tls),
			cmocka_unit_test(test_fork),
	};

	return cmocka_run_group_tests(tests, serve, unserve);
}
