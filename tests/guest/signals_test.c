/* SPDX-License-Identifier: Apache-2.0 */

/* Signals and children belong to the host. */

#include "guest.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int pipes, children;

static void on_pipe(int sig)
{
	atomic_fetch_add(&pipes, 1);
}

static void on_child(int sig)
{
	atomic_fetch_add(&children, 1);
}

/* Every disposition and the calling thread's mask. */
struct dispositions {
	struct sigaction actions[65];
	sigset_t mask;
};

static void dispositions_read(struct dispositions *d)
{
	memset(d, 0, sizeof(*d));
	for (int sig = 1; sig <= 64; sig++)
		(void)sigaction(sig, NULL, &d->actions[sig]);
	pthread_sigmask(SIG_SETMASK, NULL, &d->mask);
}

static void dispositions_same(const struct dispositions *a, const struct dispositions *b)
{
	for (int sig = 1; sig <= 64; sig++) {
		assert_ptr_equal(a->actions[sig].sa_handler, b->actions[sig].sa_handler);
		assert_int_equal(a->actions[sig].sa_flags, b->actions[sig].sa_flags);
		assert_int_equal(sigismember(&a->mask, sig), sigismember(&b->mask, sig));
	}
}

static void test_dispositions_untouched(void **state)
{
	struct dispositions before, during, after;
	struct sn_runtime *rt;
	struct site site;

	dispositions_read(&before);
	site_open(&site);
	rt = client_open(SN_MODE_THREAD, NULL, site.port);
	assert_int_equal(client_call(rt), 200);
	dispositions_read(&during);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	site_close(&site);
	dispositions_read(&after);
	dispositions_same(&before, &during);
	dispositions_same(&before, &after);
}

/* A server that reads a little of each request and breaks the connection. */
static int rude_listen(uint16_t *ret_port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	*ret_port = ntohs(addr.sin_port);
	return fd;
}

static void *rude_serve(void *arg)
{
	struct linger rst = {.l_onoff = 1};
	int listener = *(int *)arg, n = 0;
	char some[512];

	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			return NULL;
		(void)!read(fd, some, sizeof(some));
		if (n++ % 2 == 0)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
		close(fd);
	}
}

static void test_broken_pipes_raise_nothing(void **state)
{
	struct sn_request_options opts = SN_REQUEST_INIT;
	struct sigaction action = {.sa_handler = on_pipe};
	struct sn_runtime *rt;
	pthread_t thread;
	uint16_t port;
	int listener = rude_listen(&port);

	assert_int_equal(sigaction(SIGPIPE, &action, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, rude_serve, &listener), 0);
	opts.method = "POST";
	opts.body_size = 4 << 20;
	opts.body = calloc(1, opts.body_size);
	opts.retry = SN_RETRY_NONE;
	rt = client_open(SN_MODE_THREAD, NULL, port);
	for (int i = 0; i < 6; i++) {
		struct sn_response *res = NULL;
		struct sn_error *err = NULL;
		int r = sn_request_wait(rt, "service", "site", "web", &opts, &res, &err);

		assert_true(r == SN_E_RESET || r == SN_E_EOF || r == SN_E_BREAKER);
		assert_null(res);
		sn_error_destroy(err);
	}
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_int_equal(atomic_load(&pipes), 0);
	shutdown(listener, SHUT_RDWR);
	pthread_join(thread, NULL);
	close(listener);
	free((void *)(uintptr_t)opts.body);
}

static void test_children_are_the_hosts(void **state)
{
	struct sigaction action = {.sa_handler = on_child, .sa_flags = SA_RESTART}, now;
	struct sn_runtime *rt;
	struct site site;
	int status;
	pid_t pid;

	assert_int_equal(sigaction(SIGCHLD, &action, NULL), 0);
	site_open(&site);
	rt = client_open(SN_MODE_THREAD, NULL, site.port);
	pid = fork();
	if (pid == 0)
		_exit(42);
	assert_int_equal(client_call(rt), 200);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 42);
	assert_int_equal(wait(&status), -1); /* the library made no child of its own */
	assert_int_equal(errno, ECHILD);
	assert_int_equal(atomic_load(&children), 1);
	assert_int_equal(sigaction(SIGCHLD, NULL, &now), 0);
	assert_ptr_equal(now.sa_handler, on_child);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	site_close(&site);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_dispositions_untouched),
			cmocka_unit_test(test_broken_pipes_raise_nothing),
			cmocka_unit_test(test_children_are_the_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
