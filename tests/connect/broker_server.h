/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_TESTS_CONNECT_BROKER_SERVER_H
#define SN_TESTS_CONNECT_BROKER_SERVER_H

/* nats-server and mosquitto as children of a test: on loopback, a port of their own, their data in a
 * directory that goes with them. */

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/test.h"

#include "../ports.h"

enum server_kind { SERVER_NATS, SERVER_MOSQUITTO };

struct server {
	enum server_kind kind;
	unsigned port;
	pid_t pid;
	char dir[64];
	const char *extra; /* lines of its configuration; NULL: none */
};

static const char *const server_programs[] = {
		[SERVER_NATS] = "/usr/sbin/nats-server",
		[SERVER_MOSQUITTO] = "/usr/sbin/mosquitto",
};

static inline int server_connect(unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
			.sin_port = htons((uint16_t)port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = connect(fd, (struct sockaddr *)&a, sizeof a);

	(void)close(fd);
	return r;
}

static inline void server_write_config(struct server *s)
{
	char path[96];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/conf", s->dir);
	f = fopen(path, "w");
	assert_non_null(f);
	if (s->kind == SERVER_NATS)
		(void)fprintf(f,
				"host: 127.0.0.1\nport: %u\njetstream { store_dir: \"%s/js\" }\n%s\n",
				s->port, s->dir, s->extra != NULL ? s->extra : "");
	else
		(void)fprintf(f,
				"listener %u 127.0.0.1\npersistence true\n"
				"persistence_location %s/\nautosave_interval 1\nuser root\n%s\n",
				s->port, s->dir,
				s->extra != NULL ? s->extra : "allow_anonymous true");
	(void)fclose(f);
}

/* Start it, again on the same port. Ready when it takes connections. */
static inline void server_start(struct server *s)
{
	char conf[96], log[96];

	(void)snprintf(conf, sizeof conf, "%s/conf", s->dir);
	(void)snprintf(log, sizeof log, "%s/log", s->dir);
	server_write_config(s);
	s->pid = fork();
	if (s->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (freopen(log, "a", stdout) == NULL || freopen(log, "a", stderr) == NULL)
			_exit(126);
		(void)execl(server_programs[s->kind], server_programs[s->kind], "-c", conf,
				(char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 2000; i++) {
		if (server_connect(s->port) == 0)
			return;
		assert_int_equal(waitpid(s->pid, NULL, WNOHANG), 0);
		(void)poll(NULL, 0, 5);
	}
	fail_msg("%s does not start", server_programs[s->kind]);
}

static inline bool server_exists(enum server_kind kind)
{
	return access(server_programs[kind], X_OK) == 0;
}

/* Not started yet. */
static inline void server_init(struct server *s, enum server_kind kind, const char *extra)
{
	*s = (struct server){.kind = kind, .extra = extra, .port = test_port()};
	(void)snprintf(s->dir, sizeof s->dir, "/tmp/sinew-broker-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
}

static inline void server_kill(struct server *s)
{
	if (s->pid <= 0)
		return;
	(void)kill(s->pid, SIGKILL);
	(void)waitpid(s->pid, NULL, 0);
	s->pid = 0;
}

/* SIGSTOP, and it has stopped: every thread of it. */
static inline void server_halt(struct server *s)
{
	char path[64], line[256] = "";

	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)s->pid);
	(void)kill(s->pid, SIGSTOP);
	for (int i = 0; i < 2000; i++) {
		FILE *f = fopen(path, "r");
		const char *end;

		assert_non_null(f);
		assert_non_null(fgets(line, sizeof line, f));
		(void)fclose(f);
		end = strrchr(line, ')');
		if (end != NULL && end[2] == 'T')
			return;
		(void)poll(NULL, 0, 1);
	}
	fail_msg("it does not stop");
}

static inline void server_finish(struct server *s)
{
	char command[128];

	server_kill(s);
	(void)snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
	assert_int_equal(system(command), 0);
}

#endif
