/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_TESTS_CONNECT_FAKE_SERVICE_H
#define SN_TESTS_CONNECT_FAKE_SERVICE_H

/* An HTTP service on threads of its own that behaves as told: one request a connection. Plain sockets,
 * nothing of Sinew. */

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum fake_mood {
	FAKE_GOOD,
	FAKE_SILENT,   /* reads and says nothing */
	FAKE_CUT,      /* reads and hangs up */
	FAKE_HALF,     /* half of an answer */
	FAKE_SLOW,     /* a byte now and then */
	FAKE_HUGE,     /* 8 MiB of JSON */
	FAKE_EMPTY,    /* no body */
	FAKE_NONSENSE, /* no HTTP */
	FAKE_NO_JSON,
	FAKE_BROKEN, /* 500 */
};

#define FAKE_HUGE_BYTES ((size_t)8 << 20)

struct fake_service {
	int listener;
	unsigned port;
	atomic_int mood, open, seen;
	atomic_bool over;
	pthread_t thread;
};

struct fake_connection {
	struct fake_service *s;
	int fd;
};

static inline void fake_say(int fd, const char *data, size_t n)
{
	while (n > 0) {
		ssize_t got = send(fd, data, n, MSG_NOSIGNAL);

		if (got <= 0)
			return;
		data += got;
		n -= (size_t)got;
	}
}

/* Read a head and the body it announces. False: the client hung up. */
static inline bool fake_read(int fd)
{
	size_t have = 0, want = 0;
	char head[16384];

	while (want == 0) {
		ssize_t n = recv(fd, head + have, sizeof head - 1 - have, 0);
		const char *end, *length;

		if (n <= 0)
			return false;
		have += (size_t)n;
		head[have] = '\0';
		end = strstr(head, "\r\n\r\n");
		if (end == NULL)
			continue;
		length = strcasestr(head, "content-length:");
		want = (size_t)(end - head) + 4;
		if (length != NULL && length < end)
			want += strtoul(length + 15, NULL, 10);
	}
	while (have < want) {
		char piece[65536];
		ssize_t n = recv(fd, piece, sizeof piece, 0);

		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	return true;
}

static inline void fake_pause(void)
{
	const struct timespec t = {.tv_nsec = 10000000};

	(void)nanosleep(&t, NULL);
}

static inline void fake_head(int fd, int status, size_t n)
{
	char head[256];
	int len = snprintf(head, sizeof head,
			"HTTP/1.1 %d X\r\nContent-Type: application/x-amz-json-1.0\r\n"
			"x-amzn-RequestId: r-1\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
			status, n);

	fake_say(fd, head, (size_t)len);
}

static inline void fake_huge(int fd)
{
	char *text = malloc(FAKE_HUGE_BYTES);

	memset(text, 'x', FAKE_HUGE_BYTES);
	memcpy(text, "{\"x\":\"", 6);
	memcpy(text + FAKE_HUGE_BYTES - 2, "\"}", 2);
	fake_head(fd, 200, FAKE_HUGE_BYTES);
	fake_say(fd, text, FAKE_HUGE_BYTES);
	free(text);
}

static inline void fake_answer(struct fake_service *s, int fd, enum fake_mood mood)
{
	char byte;

	switch (mood) {
	case FAKE_SILENT:
		while (!atomic_load(&s->over) && recv(fd, &byte, 1, 0) > 0)
			;
		return;
	case FAKE_CUT:
		return;
	case FAKE_HALF:
		fake_head(fd, 200, 100);
		fake_say(fd, "{\"a\":1", 6);
		return;
	case FAKE_SLOW:
		fake_head(fd, 200, 10);
		for (int i = 0; i < 10; i++) {
			fake_pause();
			fake_say(fd, &"{\"a\":1234}"[i], 1);
		}
		return;
	case FAKE_HUGE:
		fake_huge(fd);
		return;
	case FAKE_EMPTY:
		fake_head(fd, 200, 0);
		return;
	case FAKE_NONSENSE:
		fake_say(fd, "what?\r\n\r\n", 9);
		return;
	case FAKE_NO_JSON:
		fake_head(fd, 200, 6);
		fake_say(fd, "<html>", 6);
		return;
	case FAKE_BROKEN:
		fake_head(fd, 500, 2);
		fake_say(fd, "{}", 2);
		return;
	case FAKE_GOOD:
		fake_head(fd, 200, 7);
		fake_say(fd, "{\"a\":1}", 7);
		return;
	}
}

static inline void *fake_serve(void *arg)
{
	struct fake_connection *c = arg;

	if (fake_read(c->fd)) {
		atomic_fetch_add(&c->s->seen, 1);
		fake_answer(c->s, c->fd, (enum fake_mood)atomic_load(&c->s->mood));
	}
	(void)close(c->fd);
	atomic_fetch_sub(&c->s->open, 1);
	free(c);
	return NULL;
}

static inline void *fake_main(void *arg)
{
	struct fake_service *s = arg;
	int fd;

	while ((fd = accept(s->listener, NULL, NULL)) >= 0) {
		struct fake_connection *c = malloc(sizeof *c);
		pthread_t thread;

		*c = (struct fake_connection){s, fd};
		atomic_fetch_add(&s->open, 1);
		if (pthread_create(&thread, NULL, fake_serve, c) != 0)
			abort();
		(void)pthread_detach(thread);
	}
	return NULL;
}

/* @port 0: any. */
static inline void fake_start(struct fake_service *s, unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
			.sin_port = htons((uint16_t)port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int on = 1;

	memset(s, 0, sizeof *s);
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(s->listener, (struct sockaddr *)&a, sizeof a) < 0 ||
			listen(s->listener, 128) < 0 ||
			getsockname(s->listener, (struct sockaddr *)&a, &n) < 0)
		abort();
	s->port = ntohs(a.sin_port);
	if (pthread_create(&s->thread, NULL, fake_main, s) != 0)
		abort();
}

/* The clients of a silent one must have hung up. */
static inline void fake_stop(struct fake_service *s)
{
	atomic_store(&s->over, true);
	(void)shutdown(s->listener, SHUT_RDWR);
	(void)pthread_join(s->thread, NULL);
	(void)close(s->listener);
	while (atomic_load(&s->open) > 0)
		fake_pause();
}

#endif
