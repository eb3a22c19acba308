/* SPDX-License-Identifier: Apache-2.0 */

/* The three modes: whose thread runs what, and what threads there are. */

#include "guest.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>
#include <uv.h>

struct answer {
	int calls;
	unsigned status;
	int code;
	pthread_t thread;
};

static void answered(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	struct answer *a = arg;

	a->calls++;
	a->status = res != NULL ? sn_response_status(res) : 0;
	a->code = err != NULL ? sn_error_code(err) : 0;
	a->thread = pthread_self();
}

/* ---- threads ---- */

static void read_line(const char *path, const char *begin, char *out, size_t size)
{
	FILE *f = fopen(path, "re");
	char line[256];

	out[0] = '\0';
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, begin, strlen(begin)) == 0)
			snprintf(out, size, "%s", line + strlen(begin));
	fclose(f);
	out[strcspn(out, "\n")] = '\0';
}

/* The thread called @wanted: the signals it blocks. */
static bool find_thread(const char *wanted, unsigned long long *ret_blocked)
{
	DIR *dir = opendir("/proc/self/task");
	char path[300], name[64], text[64];
	bool found = false;

	assert_non_null(dir);
	for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
		if (e->d_name[0] == '.' || strtol(e->d_name, NULL, 10) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		read_line(path, "Name:\t", name, sizeof(name));
		read_line(path, "SigBlk:\t", text, sizeof(text));
		if (strcmp(name, wanted) != 0)
			continue;
		*ret_blocked = strtoull(text, NULL, 16);
		found = true;
	}
	closedir(dir);
	return found;
}

/* A joined thread may stand in /proc for a moment longer. */
static void assert_threads(unsigned wanted)
{
#ifdef __SANITIZE_THREAD__
	return; /* it has threads of its own, which come when they like */
#endif
	for (int i = 0; i < 100000 && count_threads() != wanted; i++)
		sched_yield();
	assert_int_equal(count_threads(), wanted);
}

static void test_own_thread(void **state)
{
	const unsigned long long kill_and_stop = 1ull << (9 - 1) | 1ull << (19 - 1);
	/* The C library keeps two for itself. */
	const unsigned long long internal = 1ull << (32 - 1) | 1ull << (33 - 1);
	unsigned before = count_threads(); /* a sanitizer has one of its own */
	unsigned long long blocked = 0;
	struct sn_runtime *rt;

	assert_false(find_thread("sinew-loop", &blocked));
	rt = client_open(SN_MODE_THREAD, NULL, 1);
	assert_int_equal(sn_wait_ready(rt, 5000), 0);
	assert_threads(before + 1);
	assert_true(find_thread("sinew-loop", &blocked));
	assert_int_equal(~blocked & ~kill_and_stop & ~internal, 0);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_threads(before);
}

static void test_no_thread_of_its_own(void **state)
{
	struct sn_runtime *rt = client_open(SN_MODE_FOREIGN, NULL, 1);
	unsigned before = count_threads();
	struct sn_runtime *hosted;
	uv_loop_t loop;

	assert_int_equal(sn_runtime_step(rt), 0);
	assert_threads(before);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_int_equal(uv_loop_init(&loop), 0);
	hosted = client_open(SN_MODE_UV, &loop, 1);
	uv_run(&loop, UV_RUN_NOWAIT);
	assert_threads(before);
	assert_int_equal(sn_close(hosted, NULL, NULL), 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- inside the host's libuv loop ---- */

struct host {
	uv_loop_t loop;
	uv_timer_t timer;
	int ticks, closed;
	struct sn_runtime *rt;
	struct answer answer;
};

static void tick(uv_timer_t *timer)
{
	struct host *h = timer->data;

	h->ticks++;
	if (h->answer.calls == 0)
		return;
	uv_close((uv_handle_t *)timer, NULL);
}

static void closed(void *arg)
{
	((struct host *)arg)->closed++;
}

static void test_host_loop(void **state)
{
	struct sn_response *res;
	struct host h = {.ticks = 0};
	struct site site;

	site_open(&site);
	assert_int_equal(uv_loop_init(&h.loop), 0);
	assert_int_equal(uv_timer_init(&h.loop, &h.timer), 0);
	h.timer.data = &h;
	assert_int_equal(uv_timer_start(&h.timer, tick, 1, 1), 0);
	h.rt = client_open(SN_MODE_UV, &h.loop, site.port);
	assert_int_equal(sn_request_wait(h.rt, "service", "site", "web", NULL, &res, NULL),
			SN_E_DEADLK);
	assert_int_equal(sn_request(h.rt, "service", "site", "web", NULL, answered, &h.answer, NULL,
					 NULL),
			0);
	assert_int_equal(h.answer.calls, 0);
	while (!uv_is_closing((uv_handle_t *)&h.timer))
		uv_run(&h.loop, UV_RUN_ONCE);
	assert_int_equal(h.answer.calls, 1);
	assert_int_equal(h.answer.status, 200);
	assert_true(pthread_equal(h.answer.thread, pthread_self()));
	assert_true(h.ticks > 0);
	assert_int_equal(sn_close(h.rt, closed, &h), 0);
	assert_int_equal(h.closed, 0);
	assert_int_equal(uv_run(&h.loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(h.closed, 1);
	assert_int_equal(uv_loop_close(&h.loop), 0); /* nothing of ours is left on it */
	site_close(&site);
}

/* Calls that are open when the runtime closes end with SN_E_CLOSED, then `done` is told. */
static void test_host_loop_close_with_open_calls(void **state)
{
	struct host h = {.ticks = 0};

	assert_int_equal(uv_loop_init(&h.loop), 0);
	h.rt = client_open(SN_MODE_UV, &h.loop, 1);
	for (int i = 0; i < 10; i++)
		assert_int_equal(sn_request(h.rt, "service", "nobody", "web", NULL, answered,
						 &h.answer, NULL, NULL),
				0);
	assert_int_equal(sn_close(h.rt, closed, &h), 0);
	assert_int_equal(h.answer.calls, 0);
	assert_int_equal(uv_run(&h.loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(h.answer.calls, 10);
	assert_int_equal(h.answer.code, SN_E_CLOSED);
	assert_int_equal(h.closed, 1);
	assert_int_equal(uv_loop_close(&h.loop), 0);
}

/* ---- inside a poll() loop ---- */

static void test_foreign_loop(void **state)
{
	struct answer answer = {.calls = 0};
	struct sn_runtime *rt;
	struct site site;

	site_open(&site);
	rt = client_open(SN_MODE_FOREIGN, NULL, site.port);
	assert_int_equal(sn_request(rt, "service", "site", "web", NULL, answered, &answer, NULL,
					 NULL),
			0);
	for (int i = 0; i < 1000 && answer.calls == 0; i++) {
		struct pollfd p = {.fd = sn_runtime_fd(rt), .events = POLLIN};

		assert_true(poll(&p, 1, sn_runtime_timeout(rt)) >= 0);
		assert_int_equal(sn_runtime_step(rt), 0);
	}
	assert_int_equal(answer.calls, 1);
	assert_int_equal(answer.status, 200);
	assert_true(pthread_equal(answer.thread, pthread_self()));
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	site_close(&site);
}

/* Work that another thread posts makes the descriptor readable. */
static void posted(struct sn_runtime *rt, void *arg)
{
	*(int *)arg = 1;
}

static void *post_from_elsewhere(void *arg)
{
	struct sn_runtime *rt = ((void **)arg)[0];

	return sn_post(rt, posted, ((void **)arg)[1]) == 0 ? arg : NULL;
}

static void test_foreign_loop_wakes_up(void **state)
{
	struct sn_runtime *rt = client_open(SN_MODE_FOREIGN, NULL, 1);
	int ran = 0;
	void *arg[2] = {rt, &ran}, *posted_well;
	pthread_t thread;

	for (int i = 0; i < 5; i++)
		assert_int_equal(sn_runtime_step(rt), 0);
	assert_int_equal(pthread_create(&thread, NULL, post_from_elsewhere, arg), 0);
	while (!ran) {
		struct pollfd p = {.fd = sn_runtime_fd(rt), .events = POLLIN};

		assert_true(poll(&p, 1, 10000) > 0);
		assert_int_equal(sn_runtime_step(rt), 0);
	}
	pthread_join(thread, &posted_well);
	assert_non_null(posted_well);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* ---- misuse ---- */

static void close_inside(struct sn_runtime *rt, void *arg)
{
	struct sn_response *res;

	((int *)arg)[0] = sn_close(rt, NULL, NULL);
	((int *)arg)[1] = sn_request_wait(rt, "service", "site", "web", NULL, &res, NULL);
	__atomic_store_n(&((int *)arg)[2], 1, __ATOMIC_RELEASE);
}

static void test_deadlocks_are_refused(void **state)
{
	struct sn_runtime *rt = client_open(SN_MODE_THREAD, NULL, 1);
	int got[3] = {0, 0, 0};

	assert_int_equal(sn_post(rt, close_inside, got), 0);
	while (!__atomic_load_n(&got[2], __ATOMIC_ACQUIRE))
		sched_yield();
	assert_int_equal(got[0], SN_E_DEADLK);
	assert_int_equal(got[1], SN_E_DEADLK);
	assert_int_equal(sn_runtime_step(rt), SN_E_STATE);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_own_thread),
			cmocka_unit_test(test_no_thread_of_its_own),
			cmocka_unit_test(test_host_loop),
			cmocka_unit_test(test_host_loop_close_with_open_calls),
			cmocka_unit_test(test_foreign_loop),
			cmocka_unit_test(test_foreign_loop_wakes_up),
			cmocka_unit_test(test_deadlocks_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
