/* SPDX-License-Identifier: Apache-2.0 */
/* Fan-out of the agent to thousands of connectors, in a process of its own, against a bare loop of
 * epoll and writev in its place: the same sockets, the same bytes, the same readers. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/agent.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/time.h"

#define CONNECTORS 5000u
#define LARGE_CONNECTORS 50u
#define ROUNDS 7u
#define SMALL (10u << 10)
#define LARGE (10u << 20)

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "agent_fan_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), by_size);
	return values[n / 2];
}

static void result(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"%s\",\"want\":\"%s\"}\n", name, value,
			unit, want);
	(void)fflush(stdout);
}

/* ---- the senders, in processes of their own ---- */

struct sender {
	pid_t pid;
	uint16_t port;
	int order; /* bare: how many bytes to all */
};

static void agent_process(int tell)
{
	struct sn_agent_options opts = {0};
	struct sn_agent *agent;
	struct sn_loop *loop;
	uint16_t port;

	must(sn__addr_parse_listen(SN_STR("127.0.0.1:0"), &opts.addr, NULL) == 0, "address");
	must(sn__loop_uv_open(NULL, &loop, NULL) == 0, "loop");
	must(sn__agent_open(loop, &opts, &agent, NULL) == 0, "agent");
	port = sn__addr_port(sn__agent_addr(agent));
	must(write(tell, &port, sizeof port) == sizeof port, "pipe");
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
}

struct bare {
	int epoll, listener, *fds;
	size_t *left;
	unsigned n;
	char *bytes;
	size_t size;
};

static void bare_write(struct bare *b, unsigned i)
{
	struct iovec v = {b->bytes + (b->size - b->left[i]), b->left[i]};
	struct epoll_event e = {.events = EPOLLOUT, .data.u32 = i};
	ssize_t n = 0;

	while (b->left[i] > 0 && (n = writev(b->fds[i], &v, 1)) > 0) {
		b->left[i] -= (size_t)n;
		v = (struct iovec){b->bytes + (b->size - b->left[i]), b->left[i]};
	}
	if (b->left[i] == 0)
		e.events = 0;
	must(n >= 0 || errno == EAGAIN, "writev");
	must(epoll_ctl(b->epoll, EPOLL_CTL_MOD, b->fds[i], &e) == 0, "epoll");
}

static void bare_accept(struct bare *b)
{
	int fd;

	while ((fd = accept4(b->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct epoll_event in = {.data.u32 = b->n};

		b->fds[b->n++] = fd;
		must(epoll_ctl(b->epoll, EPOLL_CTL_ADD, fd, &in) == 0, "epoll");
	}
}

static void bare_event(struct bare *b, const struct epoll_event *e, int order)
{
	uint32_t size;

	if (e->data.u32 == UINT32_MAX) {
		bare_accept(b);
	} else if (e->data.u32 == UINT32_MAX - 1) {
		if (read(order, &size, sizeof size) != sizeof size)
			exit(0);
		bare_accept(b); /* whoever has connected before the order */
		b->size = size;
		for (unsigned i = 0; i < b->n; i++)
			b->left[i] = size;
		for (unsigned i = 0; i < b->n; i++)
			bare_write(b, i);
	} else {
		bare_write(b, e->data.u32);
	}
}

static void bare_process(int tell, int order)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct bare b = {.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
			.epoll = epoll_create1(EPOLL_CLOEXEC)};
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = UINT32_MAX}, got[256];
	socklen_t len = sizeof a;
	uint16_t port;

	b.fds = sn__calloc(CONNECTORS, sizeof(*b.fds));
	b.left = sn__calloc(CONNECTORS, sizeof(*b.left));
	b.bytes = sn__calloc(1, 2 * LARGE);
	must(bind(b.listener, (struct sockaddr *)&a, len) == 0 && listen(b.listener, 4096) == 0 &&
					getsockname(b.listener, (struct sockaddr *)&a, &len) == 0,
			"listen");
	must(epoll_ctl(b.epoll, EPOLL_CTL_ADD, b.listener, &e) == 0, "epoll");
	e.data.u32 = UINT32_MAX - 1;
	must(epoll_ctl(b.epoll, EPOLL_CTL_ADD, order, &e) == 0, "epoll");
	port = ntohs(a.sin_port);
	must(write(tell, &port, sizeof port) == sizeof port, "pipe");
	for (;;) {
		int n = epoll_wait(b.epoll, got, SN_COUNT(got), -1);

		for (int i = 0; i < n; i++)
			bare_event(&b, &got[i], order);
	}
}

static struct sender start(bool bare)
{
	int tell[2], order[2];
	struct sender s = {0};

	must(pipe(tell) == 0 && pipe(order) == 0, "pipe");
	s.pid = fork();
	must(s.pid >= 0, "fork");
	if (s.pid == 0) {
		if (bare)
			bare_process(tell[1], order[0]);
		else
			agent_process(tell[1]);
		exit(0);
	}
	must(read(tell[0], &s.port, sizeof s.port) == sizeof s.port, "the sender does not start");
	s.order = order[1];
	return s;
}

static void stop(const struct sender *s)
{
	(void)kill(s->pid, SIGKILL);
	(void)waitpid(s->pid, NULL, 0);
}

/* ---- the readers, here ---- */

struct readers {
	int epoll, fds[CONNECTORS];
	size_t got[CONNECTORS];
	unsigned n;
	bool paused;
};

static int dial(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
			.sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "connect");
	return fd;
}

static void send_all(int fd, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t r = write(fd, text, n);

		must(r > 0, "write");
		text += r;
		n -= (size_t)r;
	}
}

/* To the end of the answer's head and a frame of 2 bytes, "{}". */
static void upgrade(int fd, unsigned task)
{
	char text[1024];
	size_t n = 0;

	(void)snprintf(text, sizeof text,
			"GET /t%u HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: "
			"Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
			"Sec-WebSocket-Version: 13\r\n\r\n",
			task);
	send_all(fd, text, strlen(text));
	while (n < 4 || memcmp(text + n - 4, "\x81\x02{}", 4) != 0) {
		ssize_t r = read(fd, text + n, sizeof text - n);

		must(r > 0, "no handshake");
		n += (size_t)r;
	}
}

/* @n of them; of the agent: all of one task, or each of its own. */
static void open_all(struct readers *rs, const struct sender *s, unsigned n, bool bare, bool own)
{
	rs->epoll = epoll_create1(EPOLL_CLOEXEC);
	rs->n = n;
	for (unsigned i = 0; i < n; i++) {
		struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};

		rs->fds[i] = dial(s->port);
		if (!bare)
			upgrade(rs->fds[i], own ? i : 0);
		must(fcntl(rs->fds[i], F_SETFL, O_NONBLOCK) == 0 &&
						epoll_ctl(rs->epoll, EPOLL_CTL_ADD, rs->fds[i],
								&e) == 0,
				"epoll");
	}
}

static void close_all(struct readers *rs)
{
	for (unsigned i = 0; i < rs->n; i++)
		(void)close(rs->fds[i]);
	(void)close(rs->epoll);
}

/* Until each has @size more bytes. */
static void read_all(struct readers *rs, size_t size)
{
	static char block[1 << 20];
	struct epoll_event got[256];
	unsigned ready = 0;

	memset(rs->got, 0, sizeof rs->got);
	while (ready < rs->n) {
		int n = epoll_wait(rs->epoll, got, SN_COUNT(got), 60000);

		must(n > 0, "not all bytes came");
		for (int i = 0; i < n; i++) {
			unsigned at = got[i].data.u32;
			ssize_t r = read(rs->fds[at], block, sizeof block);

			must(r > 0, "read");
			rs->got[at] += (size_t)r;
			must(rs->got[at] <= size, "more than expected");
			ready += rs->got[at] == size;
		}
	}
}

/* ---- rounds ---- */

/* [{"id": "t0", "metadata": {"peers": ..}}, ..] for @tasks tasks, about @size bytes of a section;
 * *ret_frame is what each connector gets. */
static void make_report(
		struct sn_buf *b, unsigned tasks, size_t size, unsigned round, size_t *ret_frame)
{
	struct sn_buf section;

	sn__buf_init(&section, 2 * (size_t)LARGE);
	must(sn__buf_puts(&section, "{\"service\":{") == 0, "memory");
	for (unsigned i = 0; section.len < size - 80; i++)
		must(sn__buf_printf(&section,
				     "%s\"s%u\":{\"rest\":{\"1\":{\"protocol\":\"http\",\"port\":%u,"
				     "\"address\":\"10.0.%u.%u\"}}}",
				     i > 0 ? "," : "", i, 7000 + round, i >> 8 & 255, i & 255) == 0,
				"memory");
	must(sn__buf_puts(&section, "}}") == 0, "memory");
	for (unsigned t = 0; t < tasks; t++)
		must(sn__buf_printf(b, "%s{\"id\":\"t%u\",\"metadata\":{\"peers\":%.*s}}",
				     t > 0 ? "," : "[", t, (int)section.len,
				     sn__buf_data(&section)) == 0,
				"memory");
	must(sn__buf_puts(b, "]") == 0, "memory");
	*ret_frame = section.len + sizeof "{\"peers\":}" - 1;
	*ret_frame += *ret_frame < 126 ? 2 : *ret_frame < 65536 ? 4 : 10;
	sn__buf_finish(&section);
}

static void report(int fd, const struct sn_buf *b)
{
	char head[200];

	(void)snprintf(head, sizeof head,
			"POST /report HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
			b->len);
	send_all(fd, head, strlen(head));
	send_all(fd, sn__buf_data(b), b->len);
}

static void answered(int fd)
{
	char text[512];
	ssize_t n = read(fd, text, sizeof text - 1);

	must(n > 0, "no answer");
	text[n] = '\0';
	must(strstr(text, " 200 ") != NULL, text);
}

/* Milliseconds until the last of @n has it, the median of all rounds; the agent's from the report on. */
static double agent_rounds(unsigned n, size_t size, bool own, size_t *ret_frame)
{
	struct readers *rs = sn__calloc(1, sizeof(*rs));
	struct sender s = start(false);
	double ms[ROUNDS];
	int fd = dial(s.port);

	open_all(rs, &s, n, false, own);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct sn_buf b;
		uint64_t begin;

		sn__buf_init(&b, (size_t)1 << 30);
		make_report(&b, own ? n : 1, size, i, ret_frame);
		begin = sn__clock_mono_ns();
		report(fd, &b);
		read_all(rs, *ret_frame);
		ms[i] = (double)(sn__clock_mono_ns() - begin) / 1e6;
		answered(fd);
		sn__buf_finish(&b);
	}
	close_all(rs);
	(void)close(fd);
	stop(&s);
	sn__free(rs);
	return median(ms, ROUNDS);
}

static double bare_rounds(unsigned n, size_t frame)
{
	struct readers *rs = sn__calloc(1, sizeof(*rs));
	struct sender s = start(true);
	uint32_t size = (uint32_t)frame;
	double ms[ROUNDS];

	open_all(rs, &s, n, true, false);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t begin = sn__clock_mono_ns();

		must(write(s.order, &size, sizeof size) == sizeof size, "pipe");
		read_all(rs, frame);
		ms[i] = (double)(sn__clock_mono_ns() - begin) / 1e6;
	}
	close_all(rs);
	stop(&s);
	sn__free(rs);
	return median(ms, ROUNDS);
}

int main(void)
{
	struct rlimit files = {2 * CONNECTORS, 2 * CONNECTORS};
	size_t frame;
	double ms, bare;

	must(setrlimit(RLIMIT_NOFILE, &files) == 0, "descriptors");
	(void)signal(SIGPIPE, SIG_IGN);
	ms = agent_rounds(CONNECTORS, SMALL, false, &frame);
	bare = bare_rounds(CONNECTORS, frame);
	result("agent fan-out: 10 KB to 5,000 connectors of a task, all have it after", ms, "ms",
			"<= 250");
	result("agent fan-out: the same by a bare loop of writev", bare, "ms", "");
	result("agent fan-out: ratio", ms / bare, "x", "");
	ms = agent_rounds(CONNECTORS, SMALL / 10, true, &frame);
	result("agent fan-out: 1 KB to 5,000 tasks of one connector each, in a report of 5 MB", ms,
			"ms", "");
	ms = agent_rounds(LARGE_CONNECTORS, LARGE, false, &frame);
	bare = bare_rounds(LARGE_CONNECTORS, frame);
	result("agent fan-out: a section of 10 MB to 50 connectors, with parsing the report",
			(double)frame * LARGE_CONNECTORS / 1e3 / ms, "MB/s", ">= 100");
	result("agent fan-out: the same by a bare loop of writev",
			(double)frame * LARGE_CONNECTORS / 1e3 / bare, "MB/s", "");
	return 0;
}
