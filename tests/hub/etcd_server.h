/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_TESTS_HUB_ETCD_SERVER_H
#define SN_TESTS_HUB_ETCD_SERVER_H

/* Tests only: a real etcd-server on loopback, in a directory of its own, that can be killed, stopped
 * and started again; and a plain blocking client of its JSON gateway, to look from outside. */

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/test.h"

#include "../ports.h"

extern char **environ;

struct etcd_server {
	pid_t pid;
	unsigned port, peer_port;
	char dir[64], url[64];
	const char *more[16]; /* further arguments, NULL-ended */
	bool tls;             /* clients come by TLS: @more says with what */
};

static inline int etcd_connect(unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
			.sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	close(fd);
	return -1;
}

/** POST @body to @path of the gateway; the answer's body at @out. */
static inline void etcd_post(const struct etcd_server *s, const char *path, const char *body,
		char *out, size_t size)
{
	char head[300];
	size_t n = 0;
	ssize_t r;
	int fd = etcd_connect(s->port);

	assert_true(fd >= 0);
	(void)snprintf(head, sizeof head,
			"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			"Content-Length: %zu\r\n\r\n",
			path, strlen(body));
	assert_true(write(fd, head, strlen(head)) == (ssize_t)strlen(head));
	assert_true(write(fd, body, strlen(body)) == (ssize_t)strlen(body));
	while (n < size - 1 && (r = read(fd, out + n, size - 1 - n)) > 0)
		n += (size_t)r;
	out[n] = '\0';
	close(fd);
}

/** The store's revision, as etcd says. */
static inline unsigned long long etcd_revision(const struct etcd_server *s)
{
	char out[2000], *at;

	etcd_post(s, "/v3/kv/range", "{\"key\":\"AA==\"}", out, sizeof out);
	at = strstr(out, "\"revision\":\"");
	assert_non_null(at);
	return strtoull(at + 12, NULL, 10);
}

static inline void etcd_compact(const struct etcd_server *s)
{
	char body[80], out[2000];

	(void)snprintf(body, sizeof body, "{\"revision\":\"%llu\",\"physical\":true}",
			etcd_revision(s));
	etcd_post(s, "/v3/kv/compaction", body, out, sizeof out);
	assert_non_null(strstr(out, "200 OK"));
}

static inline bool etcd_serves(const struct etcd_server *s)
{
	char out[2000];
	int fd = etcd_connect(s->port);

	if (fd < 0)
		return false;
	close(fd);
	if (s->tls)
		return true; /* the rest is the client's to find out */
	etcd_post(s, "/v3/kv/range", "{\"key\":\"AA==\"}", out, sizeof out);
	return strstr(out, "200 OK") != NULL || strstr(out, "user name is empty") != NULL;
}

/** Start it (again), and wait until it answers. */
static inline void etcd_start(struct etcd_server *s)
{
	char client[64], peer[64], cluster[80];
	const char *argv[48] = {"setpriv", "--pdeathsig", "KILL", "etcd", "--name", "t",
			"--data-dir", s->dir, "--listen-client-urls", client,
			"--advertise-client-urls", client, "--listen-peer-urls", peer,
			"--initial-advertise-peer-urls", peer, "--initial-cluster", cluster,
			"--heartbeat-interval", "10", "--election-timeout", "100", "--log-level",
			"panic", "--logger", "zap"};
	size_t n = 0;

	while (argv[n] != NULL)
		n++;
	for (size_t i = 0; s->more[i] != NULL; i++)
		argv[n++] = s->more[i];
	(void)snprintf(client, sizeof client, "http%s://127.0.0.1:%u", s->tls ? "s" : "", s->port);
	(void)snprintf(peer, sizeof peer, "http://127.0.0.1:%u", s->peer_port);
	(void)snprintf(cluster, sizeof cluster, "t=%s", peer);
	(void)snprintf(s->url, sizeof s->url, "%s", client);
	assert_int_equal(posix_spawnp(&s->pid, argv[0], NULL, NULL, (char *const *)(void *)argv,
					 environ),
			0);
	for (unsigned i = 0; !etcd_serves(s); i++) {
		int status;

		if (waitpid(s->pid, &status, WNOHANG) != 0 || i > 3000)
			fail_msg("etcd does not start");
		(void)poll(NULL, 0, 10);
	}
}

static inline void etcd_open(struct etcd_server *s)
{
	(void)snprintf(s->dir, sizeof s->dir, "/tmp/sinew-etcd-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	s->port = test_port();
	s->peer_port = test_port();
	etcd_start(s);
}

static inline void etcd_kill(struct etcd_server *s)
{
	int status;

	assert_int_equal(kill(s->pid, SIGKILL), 0);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
}

static inline void etcd_close(struct etcd_server *s)
{
	char command[100];

	etcd_kill(s);
	(void)snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
	assert_int_equal(system(command), 0);
}

/** Whether there is one on this machine. */
static inline bool etcd_there(void)
{
	return system("command -v etcd >/dev/null && command -v setpriv >/dev/null") == 0;
}

#endif
