/* SPDX-License-Identifier: Apache-2.0 */

/* The connector's calls, on real sockets against a small server of ours: which thread, once and never
 * before the call returned, a host's table in every mood, closing at any time, no memory. */

#include "base/test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <sinew/http.h>
#include <sinew/mesh.h>
#include <sinew/rethink.h>
#include <sinew/runtime.h>
#include "base/mem.h"

#define USER "user://d/bob"
#define READ_USER \
	"{\"id\":\"7\",\"type\":\"read\",\"from\":\"hyperty://d/me\",\"to\":\"domain://registry.d\"," \
	"\"body\":{\"resource\":\"" USER "\"}}"

static struct sn_runtime *server_rt;
static struct sn_http_server *server;
static char settings[256];
static atomic_uint n_asked;

/* GET: the path, as JSON; a write: 200 with a change. */
static void serve(struct sn_exchange *x, void *arg)
{
	char body[512];
	int n;

	atomic_fetch_add(&n_asked, 1);
	if (strcmp(sn_exchange_method(x), "GET") == 0 &&
			strcmp(sn_exchange_path(x), "/base/registry/updated") == 0)
		n = snprintf(body, sizeof(body),
				"{\"hyperty://d/x\":{\"status\":\"disconnected\"}}");
	else if (strcmp(sn_exchange_method(x), "GET") == 0)
		n = snprintf(body, sizeof(body), "{\"path\":\"%s\"}", sn_exchange_path(x));
	else
		n = snprintf(body, sizeof(body), "{\"statusChanged\":\"true\"}");
	(void)!sn_exchange_respond(x, 200, NULL, 0, body, (size_t)n);
}

static int open_all(void **state)
{
	struct sn_http_server_options o = {.size = sizeof(o), .listen = "127.0.0.1:0"};
	struct sn_options opts = SN_OPTIONS_INIT;

	opts.agent = "";
	if (sn_open(&opts, &server_rt, NULL) < 0 ||
			sn_http_server_open(server_rt, &o, serve, NULL, &server, NULL) < 0)
		return -1;
	(void)snprintf(settings, sizeof(settings),
			"{url: 'http://127.0.0.1:%u/base/', retries: 2, poll_interval_ms: 0}",
			(unsigned)sn_http_server_port(server));
	return 0;
}

static int close_all(void **state)
{
	sn_http_server_close(server, 0);
	return sn_close(server_rt, NULL, NULL);
}

static struct sn_rethink *connect_with(struct sn_rethink_options *o)
{
	struct sn_error *err = NULL;
	struct sn_rethink *c;

	if (o->config == NULL)
		o->config = settings;
	if (sn_rethink_open(o, &c, &err) < 0)
		fail_msg("%s", sn_error_text(err));
	return c;
}

static struct sn_runtime *runtime(void)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_runtime *rt;

	opts.agent = "";
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	return rt;
}

/* ---- waiting ---- */

static void expect(char *text, const char *want)
{
	assert_non_null(text);
	if (strstr(text, want) == NULL)
		fail_msg("%s is not in %s", want, text);
	sn_free(text);
}

static void all_calls(struct sn_rethink *c)
{
	char *text = NULL;

	assert_int_equal(sn_rethink_get_user_wait(c, USER, &text), 0);
	expect(text,
			"{\"body\":{\"code\":200,\"value\":{\"path\":\"/base/hyperty/user/"
			"user%3A%2F%2Fd%2Fbob\"}}}");
	assert_int_equal(sn_rethink_add_hyperty_wait(
					 c, USER, "hyperty://d/1", "{\"expires\":1}", &text),
			0);
	expect(text, "{\"body\":{\"code\":200}}");
	assert_int_equal(sn_rethink_delete_hyperty_wait(c, USER, "hyperty://d/1", &text), 0);
	expect(text, "{\"body\":{\"code\":200}}");
	assert_int_equal(sn_rethink_process_message_wait(c, READ_USER, &text), 0);
	expect(text,
			"{\"id\":\"7\",\"type\":\"response\",\"from\":\"domain://registry.d\",\"to\":"
			"\"hyperty://d/me\",\"body\":{\"code\":200,");
	assert_int_equal(sn_rethink_process_message_wait(c, "{\"type\":\"response\"}", &text), 0);
	assert_null(text);
	assert_int_equal(sn_rethink_get_user_wait(c, "", &text), SN_E_INVALID);
	assert_int_equal(sn_rethink_get_user_wait(c, "\xff", &text), SN_E_INVALID);
	assert_int_equal(sn_rethink_add_hyperty_wait(c, USER, "h", "[]", &text), SN_E_INVALID);
	assert_int_equal(sn_rethink_add_hyperty_wait(c, USER, "", "{}", &text), SN_E_INVALID);
	assert_int_equal(sn_rethink_delete_hyperty_wait(c, "", "h", &text), SN_E_INVALID);
}

static void test_thread(void **state)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct sn_rethink *c = connect_with(&o);

	all_calls(c);
	assert_int_equal(sn_rethink_poll(c), SN_E_STATE); /* nobody listens */
	assert_int_equal(sn_rethink_close(c, NULL, NULL), 0);
	assert_int_equal(sn_rethink_close(NULL, NULL, NULL), 0);
}

static void count_up(void *arg)
{
	atomic_fetch_add((atomic_uint *)arg, 1);
}

static void test_loop(void **state)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct sn_rethink *c, *second;
	struct sn_peers *peers;
	atomic_uint closed = 0;
	char *policy = NULL;

	o.rt = runtime();
	c = connect_with(&o);
	second = connect_with(&o);
	all_calls(c);
	all_calls(second);
	assert_int_equal(sn_rethink_close(second, count_up, &closed), 0);
	assert_int_equal(closed, 1);
	all_calls(c);
	assert_int_equal(sn_rethink_close(c, count_up, &closed), 0);
	assert_int_equal(closed, 2);
	/* Nothing of them is left in the mesh. */
	assert_int_equal(sn_get_peers(o.rt, "service", "rethink-registry-2", NULL, &peers), 0);
	assert_null(peers);
	assert_int_equal(sn_get_policy(o.rt, "retry-max-delay", "service", "rethink-registry-2",
					 NULL, &policy),
			0);
	assert_string_equal(policy, "5000");
	sn_free(policy);
	assert_int_equal(sn_close(o.rt, NULL, NULL), 0);
}

/* ---- callbacks ---- */

struct told {
	struct sn_rethink *c;
	pthread_t thread;
	atomic_uint n, deadlk, returned, early;
};

static void on_answer(const char *message, void *arg)
{
	struct told *t = arg;
	char *text = NULL;

	if (atomic_load(&t->returned) == 0 && pthread_equal(pthread_self(), t->thread))
		atomic_fetch_add(&t->early, 1);
	if (sn_rethink_process_message_wait(t->c, READ_USER, &text) == SN_E_DEADLK &&
			sn_rethink_close(t->c, NULL, NULL) == SN_E_DEADLK)
		atomic_fetch_add(&t->deadlk, 1);
	atomic_fetch_add(&t->n, 1);
}

static void wait_for(const atomic_uint *n, unsigned want)
{
	while (atomic_load(n) < want)
		(void)sched_yield();
}

static void test_callbacks(void **state)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct told t = {.n = 0, .thread = pthread_self()};

	t.c = connect_with(&o);
	assert_int_equal(sn_rethink_process(t.c, READ_USER, strlen(READ_USER), on_answer, &t), 0);
	assert_int_equal(sn_rethink_process_message(t.c, "bad", on_answer, &t), 0);
	assert_int_equal(sn_rethink_get_user(t.c, USER, on_answer, &t), 0);
	assert_int_equal(sn_rethink_add_hyperty(t.c, USER, "h", "{}", on_answer, &t), 0);
	assert_int_equal(sn_rethink_delete_hyperty(t.c, USER, "h", on_answer, &t), 0);
	wait_for(&t.n, 5);
	assert_int_equal(t.deadlk, 5);
	assert_int_equal(sn_rethink_close(t.c, NULL, NULL), 0);
	assert_int_equal(t.n, 5);
}

static void ignore(const char *message, void *arg)
{
	atomic_fetch_add((atomic_uint *)arg, 1);
}

static void ok_only(const char *message, void *arg)
{
	assert_non_null(strstr(message, "\"code\":200"));
	atomic_fetch_add((atomic_uint *)arg, 1);
}

struct on_loop {
	struct sn_rethink *c;
	atomic_uint n, closed;
	int seen; /* of n, right behind each call */
};

/* On the loop thread: calls, also those that ask nothing, then the end in the middle of it. */
static void call_on_loop(struct sn_runtime *rt, void *arg)
{
	struct on_loop *l = arg;

	(void)!sn_rethink_process_message(l->c, "bad", ignore, &l->n);
	(void)!sn_rethink_process_message(l->c, READ_USER, ignore, &l->n);
	(void)!sn_rethink_get_user(l->c, USER, ignore, &l->n);
	l->seen = (int)atomic_load(&l->n);
	(void)sn_rethink_close(l->c, count_up, &l->closed);
}

static void test_close_on_loop(void **state)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct on_loop l = {.n = 0};

	o.rt = runtime();
	l.c = connect_with(&o);
	assert_int_equal(sn_post(o.rt, call_on_loop, &l), 0);
	wait_for(&l.closed, 1);
	assert_int_equal(l.seen, 0);
	assert_int_equal(l.n, 3);
	assert_int_equal(sn_close(o.rt, NULL, NULL), 0);
}

/* Opened and used in one turn. */
static void open_on_loop(struct sn_runtime *rt, void *arg)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct on_loop *l = arg;

	o.rt = rt;
	l->c = connect_with(&o);
	(void)!sn_rethink_process_message(l->c, READ_USER, ok_only, &l->n);
}

static void test_open_on_loop(void **state)
{
	struct on_loop l = {.n = 0};
	struct sn_runtime *rt = runtime();

	assert_int_equal(sn_post(rt, open_on_loop, &l), 0);
	wait_for(&l.n, 1);
	assert_int_equal(sn_rethink_close(l.c, count_up, &l.closed), 0);
	assert_int_equal(l.closed, 1);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void test_notify(void **state)
{
	static const char update[] =
			"{\"id\":1,\"type\":\"update\",\"to\":\"domain://registry.d\",\"body\":"
			"{\"resource\":\"hyperty://d/1\",\"value\":{\"status\":\"live\"}}}";
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct sn_rethink *c;
	atomic_uint n = 0;
	char *text = NULL;

	o.notify = ignore;
	o.notify_arg = &n;
	c = connect_with(&o);
	assert_int_equal(sn_rethink_poll(c), 0); /* no domain yet: nobody is asked */
	assert_int_equal(sn_rethink_process_message_wait(c, update, &text), 0);
	sn_free(text);
	assert_int_equal(n, 1);
	assert_int_equal(sn_rethink_poll(c), 0);
	wait_for(&n, 2);
	assert_int_equal(sn_rethink_close(c, NULL, NULL), 0);
}

/* ---- a host's table ---- */

struct host {
	atomic_int mood; /* 0: at once, 1: refuse, 2: an error, 3: never (until told) */
	atomic_uint n;
	sn_rethink_answer_fn *fn[8];
	void *arg[8];
	atomic_uint n_kept;
};

static int host_any(void *host, const char *url, sn_rethink_answer_fn *fn, void *arg)
{
	struct host *h = host;
	unsigned i;

	atomic_fetch_add(&h->n, 1);
	switch (atomic_load(&h->mood)) {
	case 0:
		fn(NULL, "{}", 2, 200, arg);
		return 0;
	case 1:
		return SN_E_IO;
	case 2:
		fn("refused", NULL, 0, 0, arg);
		return 0;
	default:
		i = atomic_load(&h->n_kept);
		h->fn[i] = fn;
		h->arg[i] = arg;
		atomic_fetch_add(&h->n_kept, 1);
		return 0;
	}
}

static int host_put(
		void *host, const char *url, const char *json, sn_rethink_answer_fn *fn, void *arg)
{
	return host_any(host, url, fn, arg);
}

static const struct sn_rethink_shim host_table = {
		.size = sizeof(host_table), .get = host_any, .put = host_put, .del = host_any};

static void *close_it(void *arg)
{
	(void)sn_rethink_close(arg, NULL, NULL);
	return NULL;
}

static void test_host(void **state)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct host h = {.mood = 0};
	struct sn_rethink *c;
	atomic_uint n = 0;
	pthread_t closer;
	char *text = NULL;

	o.shim = &host_table;
	o.shim_host = &h;
	o.config = "{url: ['http://a:1', 'http://b:2'], retries: 3, timeout_ms: 100}";
	c = connect_with(&o);
	assert_int_equal(sn_rethink_add_hyperty_wait(c, USER, "h", "{}", &text), 0);
	expect(text, "200");
	assert_int_equal(h.n, 1);
	h.mood = 1;
	assert_int_equal(sn_rethink_get_user_wait(c, USER, &text), 0);
	expect(text, "504");
	assert_int_equal(h.n, 4);
	h.mood = 2;
	assert_int_equal(sn_rethink_delete_hyperty_wait(c, USER, "h", &text), 0);
	expect(text, "504");
	assert_int_equal(h.n, 7);
	h.mood = 3; /* the connector's own time-out */
	assert_int_equal(sn_rethink_get_user_wait(c, USER, &text), 0);
	expect(text, "504");
	assert_int_equal(h.n_kept, 3);
	assert_int_equal(sn_rethink_get_user(c, USER, ignore, &n), 0);
	wait_for(&h.n_kept, 4);
	/* Closing answers at once, and waits until the host has called back for all. */
	assert_int_equal(pthread_create(&closer, NULL, close_it, c), 0);
	wait_for(&n, 1);
	while (atomic_load(&h.n_kept) > 0) {
		unsigned i = atomic_fetch_sub(&h.n_kept, 1) - 1;

		h.fn[i](NULL, "{}", 2, 200, h.arg[i]);
	}
	assert_int_equal(pthread_join(closer, NULL), 0);
	assert_int_equal(n, 1);
}

/* ---- settings ---- */

static void test_settings(void **state)
{
	static const struct {
		const char *config, *why;
	} cases[] = {
			{"{}", "url is missing"},
			{"{url: 'ftp://x'}", "url:"},
			{"{url: 'ws://x'}", "expected http://"},
			{"{url: 'http://x/?a'}", "no base URL"},
			{"{url: 'http://x/a,http://y/b'}", "differ"},
			{"{url: 'http://x', retrys: 1}", "retries"},
			{"{url: 'http://x', ssl: {enabled: true}}", "cert is missing"},
			{"{url: 'http://x', ssl: {enabled: true, keyStore: x}}", "Java"},
			{"{url: 'http://x', ssl: {enabled: true, cert: /no/c, key: /no/k, ca: /no/a}}",
					"/no/a"},
			{"{url: 'http://x', domain: 'a b'}", "domain"},
			{"{url: 'http://x', value_format: list}", "value_format"},
			{"{url: 'http://x', timeout_ms: 0}", "timeout_ms"},
			{"[", "config"},
	};
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct sn_rethink_shim half = {.size = sizeof(half)};
	struct sn_rethink *c;

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_error *err = NULL;

		o.config = cases[i].config;
		assert_true(sn_rethink_open(&o, &c, &err) < 0);
		if (strstr(sn_error_text(err), cases[i].why) == NULL)
			fail_msg("%s: %s", cases[i].config, sn_error_text(err));
		sn_error_destroy(err);
	}
	o.config = settings;
	o.shim = &half;
	assert_int_equal(sn_rethink_open(&o, &c, NULL), SN_E_INVALID);
	o.shim = NULL;
	o.size = 1;
	assert_int_equal(sn_rethink_open(&o, &c, NULL), SN_E_INVALID);
}

/* ---- many threads ---- */

#define THREADS 4
#define MESSAGES 200

static void *send_many(void *arg)
{
	struct told *t = arg;
	unsigned done = 0;

	for (unsigned i = 0; i < MESSAGES; i++) {
		char *text = NULL;

		if (i % 4 == 0) {
			done += sn_rethink_process_message_wait(t->c, READ_USER, &text) == 0;
			sn_free(text);
		} else {
			done += sn_rethink_process_message(t->c, READ_USER, ignore, &t->n) == 0;
		}
	}
	return (void *)(uintptr_t)done;
}

static void test_threads(void **state)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct told t = {.n = 0};
	pthread_t threads[THREADS];
	void *done;

	t.c = connect_with(&o);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, send_many, &t), 0);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &done), 0);
		assert_int_equal((uintptr_t)done, MESSAGES);
	}
	assert_int_equal(sn_rethink_close(t.c, NULL, NULL), 0); /* answers what is in flight */
	assert_int_equal(t.n, THREADS * MESSAGES * 3 / 4);
}

static void test_overload(void **state)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct host h = {.mood = 3};
	struct sn_rethink *c;
	atomic_uint n = 0;
	char *text = NULL;

	o.shim = &host_table;
	o.shim_host = &h;
	o.config = "{url: 'http://a:1', max_inflight: 1}";
	c = connect_with(&o);
	assert_int_equal(sn_rethink_get_user(c, USER, ignore, &n), 0);
	assert_int_equal(sn_rethink_process_message_wait(c, READ_USER, &text), 0);
	expect(text, "\"code\":503,\"description\":\"Service Unavailable\"");
	wait_for(&h.n_kept, 1);
	h.fn[0](NULL, "{}", 2, 200, h.arg[0]);
	assert_int_equal(sn_rethink_close(c, NULL, NULL), 0);
	assert_int_equal(n, 1);
}

/* A host without a body that gives a size all the same: an empty one. */
static void test_no_body(void **state)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct host h = {.mood = 3};
	struct sn_rethink *c;
	atomic_uint n = 0;

	o.shim = &host_table;
	o.shim_host = &h;
	o.config = "{url: 'http://a:1'}";
	c = connect_with(&o);
	assert_int_equal(sn_rethink_get_user(c, USER, ignore, &n), 0);
	wait_for(&h.n_kept, 1);
	h.fn[0](NULL, NULL, 100000, 200, h.arg[0]);
	wait_for(&n, 1);
	assert_int_equal(sn_rethink_close(c, NULL, NULL), 0);
}

/* ---- no memory ---- */

/* Opening fails cleanly at every allocation of this thread's and of the loop's. */
static void test_sweep_open(void **state)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct sn_runtime *rt = runtime();
	struct sn_rethink *c = NULL;
	int r = SN_E_NOMEM;

	o.rt = rt;
	o.config = settings;
	for (uint64_t n = 1; r < 0; n++) {
		assert_true(n < 300);
		sn__mem_fail_nth(n);
		r = sn_rethink_open(&o, &c, NULL);
		if (r == 0) {
			(void)sn_rethink_close(c, NULL, NULL); /* its loop may have been hit */
			r = sn__mem_failed() ? SN_E_NOMEM : 0;
		} else {
			assert_int_equal(r, SN_E_NOMEM);
		}
		sn__mem_fail_nth(0);
	}
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* A message is answered whatever fails: by the registry, 504, 500; or refused with SN_E_NOMEM. */
static void sweep_message(const char *config, const char *message)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	atomic_uint told = 0;
	bool failed = true;

	o.config = config;
	o.notify = ignore;
	o.notify_arg = &told;
	for (uint64_t n = 1; failed; n++) {
		struct sn_rethink *c = connect_with(&o);
		char *text = NULL;
		int r;

		assert_true(n < 500);
		sn__mem_fail_nth(n);
		r = sn_rethink_process_message_wait(c, message, &text);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r == 0)
			expect(text, "\"body\":{\"code\":");
		else
			assert_int_equal(r, SN_E_NOMEM);
		assert_int_equal(sn_rethink_close(c, NULL, NULL), 0);
	}
}

static void test_sweep_message(void **state)
{
	static const char owner[] = "{\"type\":\"read\",\"to\":\"domain://registry.d\",\"body\":"
				    "{\"resource\":\"/comm/user/bob\"}}";
	static const char update[] = "{\"type\":\"update\",\"to\":\"domain://registry.d\",\"body\":"
				     "{\"resource\":\"hyperty://d/1\"}}";
	char quick[256];

	/* It may be the server that is hit, and does not answer. */
	(void)snprintf(quick, sizeof(quick),
			"{url: 'http://127.0.0.1:%u/base', timeout_ms: 50, retries: 1, "
			"poll_interval_ms: 0}",
			(unsigned)sn_http_server_port(server));
	sweep_message(quick, READ_USER);
	sweep_message(quick, owner);
	sweep_message(quick, update);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_loop),
			cmocka_unit_test(test_thread),
			cmocka_unit_test(test_callbacks),
			cmocka_unit_test(test_close_on_loop),
			cmocka_unit_test(test_open_on_loop),
			cmocka_unit_test(test_notify),
			cmocka_unit_test(test_host),
			cmocka_unit_test(test_settings),
			cmocka_unit_test(test_threads),
			cmocka_unit_test(test_overload),
			cmocka_unit_test(test_no_body),
			cmocka_unit_test(test_sweep_open),
			cmocka_unit_test(test_sweep_message),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}
