/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_TESTS_HUB_ETCD_LINE_H
#define SN_TESTS_HUB_ETCD_LINE_H

/* Tests only: a line between a store and etcd, a process that passes bytes on. Stopped it is a line that
 * is cut (nothing comes, nothing is refused), killed it is a connection that breaks. */

#include <errno.h>
#include <poll.h>
#include <sys/prctl.h>

#include "etcd_server.h"

#define LINE_MAX 64

struct line {
	pid_t pid;
	unsigned port, to;
	char url[64];
};

/* What can be read at @from is written to @at; false: it is over. */
static inline bool line_pass(int from, int at)
{
	char bytes[65536];
	ssize_t n = read(from, bytes, sizeof bytes), k = 0;

	for (ssize_t put; n > 0 && k < n; k += put)
		if ((put = write(at, bytes + k, (size_t)(n - k))) <= 0)
			return false;
	return n > 0;
}

static inline void line_run(int listener, unsigned to)
{
	struct pollfd fds[2 * LINE_MAX + 1] = {{.fd = listener, .events = POLLIN}};
	unsigned n = 1;

	(void)signal(SIGPIPE, SIG_IGN);
	for (;;) {
		(void)poll(fds, n, -1);
		for (unsigned i = 1; i < n; i += 2) {
			bool over = false;

			for (unsigned k = 0; k < 2; k++)
				if (fds[i + k].revents != 0)
					over |= !line_pass(fds[i + k].fd, fds[i + 1 - k].fd);
			if (!over)
				continue;
			close(fds[i].fd);
			close(fds[i + 1].fd);
			fds[i] = fds[n - 2];
			fds[i + 1] = fds[n - 1];
			n -= 2;
			fds[i].revents = fds[i + 1].revents = 0;
		}
		if (fds[0].revents != 0 && n < 2 * LINE_MAX) {
			int a = accept(listener, NULL, NULL), b = etcd_connect(to);

			fds[n++] = (struct pollfd){.fd = a, .events = POLLIN};
			fds[n++] = (struct pollfd){.fd = b, .events = POLLIN};
			if (a >= 0 && b >= 0)
				continue;
			n -= 2;
			close(a);
			close(b);
		}
	}
}

static inline void line_start(struct line *l)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
			.sin_port = htons((uint16_t)l->port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 16), 0);
	l->pid = fork();
	assert_true(l->pid >= 0);
	if (l->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		line_run(fd, l->to);
	}
	close(fd);
}

static inline void line_open(struct line *l, unsigned to)
{
	l->to = to;
	l->port = test_port();
	(void)snprintf(l->url, sizeof l->url, "http://127.0.0.1:%u", l->port);
	line_start(l);
}

static inline void line_cut(struct line *l)
{
	assert_int_equal(kill(l->pid, SIGSTOP), 0);
}

static inline void line_heal(struct line *l)
{
	assert_int_equal(kill(l->pid, SIGCONT), 0);
}

static inline void line_close(struct line *l)
{
	int status;

	assert_int_equal(kill(l->pid, SIGKILL), 0);
	assert_int_equal(waitpid(l->pid, &status, 0), l->pid);
}

#endif
