/* SPDX-License-Identifier: Apache-2.0 */

/* After fork() every handle is dead in the child, and the parent does not notice. */

#include "guest.h"

#include <sys/wait.h>
#include <unistd.h>

/* The service runs in a process of its own, so that the descriptors here are the client's only. It
 * ends when the pipe to it does. */
struct away {
	uint16_t port;
	int pipe;
	pid_t pid;
};

static void away_open(struct away *away)
{
	int down[2], up[2];

	assert_int_equal(pipe(down), 0);
	assert_int_equal(pipe(up), 0);
	away->pid = fork();
	assert_true(away->pid >= 0);
	if (away->pid == 0) {
		struct site site;

		close(down[1]);
		site_open(&site);
		(void)!write(up[1], &site.port, sizeof(site.port));
		(void)!read(down[0], &site, 1);
		site_close(&site);
		_exit(0);
	}
	close(down[0]);
	close(up[1]);
	assert_int_equal(read(up[0], &away->port, sizeof(away->port)), sizeof(away->port));
	close(up[0]);
	away->pipe = down[1];
}

static void away_close(struct away *away)
{
	int status;

	close(away->pipe);
	assert_int_equal(waitpid(away->pid, &status, 0), away->pid);
	assert_int_equal(status, 0);
}

static void nothing(const struct sn_response *res, const struct sn_error *err, void *arg)
{
}

static void no_value(const char *json, void *arg)
{
}

static void no_peers(struct sn_peers *peers, void *arg)
{
}

static void no_run(struct sn_runtime *rt, void *arg)
{
}

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			return __LINE__; \
	} while (0)

/* Runs in the child: 0, or the line that is wrong. */
static int child(struct sn_runtime *rt, unsigned descriptors)
{
	struct sn_peers *peers = NULL;
	struct sn_response *res = NULL;
	struct sn_peer_info peer;
	struct sn_monitor *m;
	char *json = NULL;

	CHECK(sn_get_peers(rt, "service", "site", "web", &peers) == SN_E_FORKED);
	CHECK(sn_get_random_peer(rt, "service", "site", "web", &peers, &peer) == SN_E_FORKED);
	CHECK(sn_get_peers_wait(rt, "service", "site", "web", 10, &peers) == SN_E_FORKED);
	CHECK(sn_request(rt, "service", "site", "web", NULL, nothing, NULL, NULL, NULL) ==
			SN_E_FORKED);
	CHECK(sn_request_wait(rt, "service", "site", "web", NULL, &res, NULL) == SN_E_FORKED);
	CHECK(sn_monitor_peers(rt, "service", "site", "web", no_peers, NULL, &m) == SN_E_FORKED);
	CHECK(sn_monitor_endpoint(rt, NULL, no_value, NULL, &m) == SN_E_FORKED);
	CHECK(sn_get_endpoint(rt, NULL, &json) == SN_E_FORKED);
	CHECK(sn_get_policy(rt, "timeout", NULL, NULL, NULL, &json) == SN_E_FORKED);
	CHECK(sn_post(rt, no_run, NULL) == SN_E_FORKED);
	CHECK(sn_after(rt, 1, no_run, NULL) == SN_E_FORKED);
	CHECK(sn_wait_ready(rt, 10) == SN_E_FORKED);
	CHECK(sn_close(rt, NULL, NULL) == 0);
	if (count_descriptors() > descriptors) {
		fprintf(stderr, "%u descriptors, %u before\n", count_descriptors(), descriptors);
		list_descriptors();
		return __LINE__;
	}
	return 0;
}

static void run_child(struct sn_runtime *rt, unsigned descriptors)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child(rt, descriptors) & 0xff);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_thread_mode(void **state)
{
	unsigned descriptors;
	struct sn_runtime *rt;
	struct away site;

	away_open(&site);
	descriptors = count_descriptors();
	rt = client_open(SN_MODE_THREAD, NULL, site.port);
	assert_int_equal(client_call(rt), 200);
	for (int i = 0; i < 20; i++) {
		run_child(rt, descriptors);
		assert_int_equal(client_call(rt), 200); /* on the same kept connection */
	}
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	away_close(&site);
}

/* Fork while calls are flying, from a thread that knows nothing of the loop's. */
static void test_in_the_middle_of_work(void **state)
{
	unsigned descriptors;
	struct sn_runtime *rt;
	struct away site;

	away_open(&site);
	/* One that the loop's thread was making at that instant nobody knows yet. */
	descriptors = count_descriptors() + 1;
	rt = client_open(SN_MODE_THREAD, NULL, site.port);
	assert_int_equal(client_call(rt), 200);
	for (int i = 0; i < 20; i++) {
		for (int k = 0; k < 50; k++)
			assert_int_equal(sn_request(rt, "service", "site", "web", NULL, nothing,
							 NULL, NULL, NULL),
					0);
		run_child(rt, descriptors);
	}
	assert_int_equal(client_call(rt), 200);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	away_close(&site);
}

static void test_foreign_mode(void **state)
{
	unsigned descriptors;
	struct sn_runtime *rt;
	struct away site;
	int status;
	pid_t pid;

	away_open(&site);
	descriptors = count_descriptors();
	rt = client_open(SN_MODE_FOREIGN, NULL, site.port);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sn_runtime_step(rt), 0);
	pid = fork();
	if (pid == 0)
		_exit(sn_runtime_step(rt) != SN_E_FORKED || sn_runtime_fd(rt) != SN_E_FORKED ||
				sn_close(rt, NULL, NULL) != 0 || count_descriptors() > descriptors);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	away_close(&site);
}

/* The child may open a runtime of its own. */
static void test_a_new_one_in_the_child(void **state)
{
	struct sn_runtime *rt;
	struct away site;
	int status;
	pid_t pid;

#ifdef __SANITIZE_THREAD__
	skip(); /* TSan knows no new threads behind fork() */
#endif
	away_open(&site);
	rt = client_open(SN_MODE_THREAD, NULL, site.port);
	pid = fork();
	if (pid == 0) {
		(void)sn_close(rt, NULL, NULL);
		rt = client_open(SN_MODE_THREAD, NULL, site.port);
		status = client_call(rt) != 200;
		_exit(sn_close(rt, NULL, NULL) != 0 || status);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	away_close(&site);
}

/* libuv opens a pipe for the whole process with the first loop, which stays. */
static int warm_up(void **state)
{
	return sn_close(client_open(SN_MODE_THREAD, NULL, 1), NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_thread_mode),
			cmocka_unit_test(test_in_the_middle_of_work),
			cmocka_unit_test(test_foreign_mode),
			cmocka_unit_test(test_a_new_one_in_the_child),
	};

	return cmocka_run_group_tests(tests, warm_up, NULL);
}
