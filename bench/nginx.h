/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_BENCH_NGINX_H
#define SN_BENCH_NGINX_H

/* Benches only: one nginx worker with a static answer, in a directory of its own: 60 bytes, unless
 * NGINX_BODY (in the quotes of nginx's configuration) says otherwise. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef NGINX_BODY
#define NGINX_BODY "\"012345678901234567890123456789012345678901234567890123456789\""
#endif

struct nginx {
	pid_t pid;
	uint16_t port;
	char dir[64];
};

#ifndef NGINX_CONNECTIONS
#define NGINX_CONNECTIONS "1024"
#endif

#ifndef NGINX_MORE
#define NGINX_MORE "" /* further locations */
#endif

static const char nginx_conf[] =
		"daemon off;\nworker_processes 1;\npid %s/pid;\nerror_log %s/error.log crit;\n"
		"events { worker_connections " NGINX_CONNECTIONS "; }\n"
		"http {\n access_log off;\n keepalive_requests 1000000000;\n keepalive_timeout 60;\n"
		" client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f;\n"
		" uwsgi_temp_path %s/u; scgi_temp_path %s/s;\n"
		" server {\n  listen 127.0.0.1:%u;\n  location / { default_type text/plain;\n"
		"   return 200 " NGINX_BODY "; }\n" NGINX_MORE " }\n}\n";

static int nginx_can_connect(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = connect(fd, (struct sockaddr *)&in, sizeof in);

	(void)close(fd);
	return r == 0;
}

static uint16_t nginx_free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof in;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&in, len) < 0 ||
			getsockname(fd, (struct sockaddr *)&in, &len) < 0)
		in.sin_port = 0;
	(void)close(fd);
	return ntohs(in.sin_port);
}

/* The server and the program under test on a core each: otherwise the scheduler decides what is
 * measured. */
static void nginx_pin(pid_t pid, int cpu)
{
	cpu_set_t set;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	(void)sched_setaffinity(pid, sizeof set, &set);
}

/* 0, or -1 when there is no nginx. */
static inline int nginx_start(struct nginx *n)
{
	extern char **environ;
	char conf[128];
	char prog[] = "nginx", opt_p[] = "-p", opt_c[] = "-c";
	char *argv[] = {prog, opt_p, n->dir, opt_c, conf, NULL};
	struct timespec ms = {0, 10000000};
	const char *d = n->dir;
	FILE *f;

	(void)snprintf(n->dir, sizeof n->dir, "/tmp/sinew-nginx-XXXXXX");
	if (mkdtemp(n->dir) == NULL)
		return -1;
	n->port = nginx_free_port();
	(void)snprintf(conf, sizeof conf, "%s/conf", d);
	f = fopen(conf, "we");
	if (f == NULL || fprintf(f, nginx_conf, d, d, d, d, d, d, d, (unsigned)n->port) < 0 ||
			fclose(f) != 0)
		return -1;
	nginx_pin(0, 0); /* inherited */
	if (posix_spawnp(&n->pid, "nginx", NULL, NULL, argv, environ) != 0 &&
			posix_spawn(&n->pid, "/usr/sbin/nginx", NULL, NULL, argv, environ) != 0)
		return -1;
	nginx_pin(0, 1);
	for (int i = 0; i < 500; i++) {
		if (nginx_can_connect(n->port))
			return 0;
		(void)nanosleep(&ms, NULL); /* a bench, not a test */
	}
	return -1;
}

static inline void nginx_stop(struct nginx *n)
{
	static const char *const names[] = {"conf", "pid", "error.log", "b", "p", "f", "u", "s"};
	char path[128];

	if (n->pid > 0) {
		(void)kill(n->pid, SIGTERM);
		(void)waitpid(n->pid, NULL, 0);
	}
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", n->dir, names[i]);
		(void)remove(path);
	}
	(void)rmdir(n->dir);
}

#endif
