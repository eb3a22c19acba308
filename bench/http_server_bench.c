/* SPDX-License-Identifier: Apache-2.0 */
/* Our HTTP server beside one nginx worker under the same bare client (64 kept connections, 60-byte
 * answers), and what an idle connection holds. */
#include "nginx.h"

#include <sys/epoll.h>

#include "base/mem.h"
#include "base/time.h"
#include "io/http_server.h"

#define IN_FLIGHT 64
#define ROUND_NS (1500 * SN_NS_PER_MS)
#define ROUNDS 3
#define IDLE 2000

static const char answer[] = "012345678901234567890123456789012345678901234567890123456789";

static void die(const char *what)
{
	(void)fprintf(stderr, "%s failed: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the server, in a process of its own ---- */

static void handler(struct sn_exchange *x, void *arg)
{
	static const struct sn_header type = {"Content-Type", "text/plain"};

	if (sn_exchange_respond(x, 200, &type, 1, answer, sizeof answer - 1) < 0)
		sn_exchange_abort(x);
}

static void serve(int ready)
{
	struct sn_http_server_config config = {.max_connections = 20000};
	struct sn_http_server *server;
	struct sn_loop *loop;
	uint16_t port;

	if (sn__loop_uv_open(NULL, &loop, NULL) < 0 ||
			sn__addr_parse_listen(SN_STR("127.0.0.1:0"), &config.addr, NULL) < 0 ||
			sn__http_server_open(loop, &config, handler, NULL, &server, NULL) < 0)
		_exit(1);
	port = sn__addr_port(sn__http_server_addr(server));
	if (write(ready, &port, sizeof port) != sizeof port)
		_exit(1);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	_exit(0);
}

static pid_t serve_start(uint16_t *ret_port)
{
	int fds[2];
	pid_t pid;

	if (pipe(fds) < 0)
		die("pipe");
	pid = fork();
	if (pid == 0)
		serve(fds[1]);
	nginx_pin(pid, 0);
	if (read(fds[0], ret_port, sizeof *ret_port) != sizeof *ret_port)
		die("server");
	return pid;
}

/* ---- the client ---- */

static char request[100];
static size_t request_len;

static int dial(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&in, sizeof in) < 0)
		die("connect");
	request_len = (size_t)snprintf(request, sizeof request,
			"GET / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", (unsigned)port);
	return fd;
}

static void ask(int fd)
{
	if (send(fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len)
		die("send");
}

/* Every answer is small and comes whole. */
static void hear(int fd)
{
	char block[1000];
	ssize_t n = recv(fd, block, sizeof block, 0);

	if (n < 60 || memcmp(block, "HTTP/1.1 200 ", 13) != 0 ||
			memcmp(block + n - 60, answer, 60) != 0)
		die("answer");
}

static double round_of(uint16_t port)
{
	uint64_t start = sn__clock_mono_ns(), now, done = 0;
	int ep = epoll_create1(EPOLL_CLOEXEC), fds[IN_FLIGHT];

	for (int i = 0; i < IN_FLIGHT; i++) {
		struct epoll_event ev = {.events = EPOLLIN};

		ev.data.fd = fds[i] = dial(port);
		(void)epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev);
		ask(fds[i]);
	}
	do {
		struct epoll_event evs[IN_FLIGHT];
		int n = epoll_wait(ep, evs, IN_FLIGHT, 1000);

		for (int i = 0; i < n; i++) {
			hear(evs[i].data.fd);
			done++;
			ask(evs[i].data.fd);
		}
		now = sn__clock_mono_ns();
	} while (now - start < ROUND_NS);
	for (int i = 0; i < IN_FLIGHT; i++)
		(void)close(fds[i]);
	(void)close(ep);
	return (double)done * 1e9 / (double)(now - start);
}

static long private_dirty_kb(pid_t pid)
{
	char path[64], line[256];
	long kb = 0;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		if (strncmp(line, "Private_Dirty:", 14) == 0)
			kb = strtol(line + 14, NULL, 10);
	}
	if (f != NULL)
		(void)fclose(f);
	return kb;
}

/* Bytes a connection that has had one answer. */
static double idle_bytes(pid_t pid, uint16_t port)
{
	static int fds[IDLE];
	long before = private_dirty_kb(pid), after;

	for (int i = 0; i < IDLE; i++) {
		fds[i] = dial(port);
		ask(fds[i]);
		hear(fds[i]);
	}
	after = private_dirty_kb(pid);
	for (int i = 0; i < IDLE; i++)
		(void)close(fds[i]);
	return (double)(after - before) * 1024 / IDLE;
}

static void print(const char *name, double value, const char *unit, const char *want)
{
	(void)printf("{\"name\": \"http_server/%s\", \"value\": %.4g, \"unit\": \"%s\", "
		     "\"want\": \"%s\"}\n",
			name, value, unit, want);
}

int main(void)
{
	double ours = 0, theirs = 0;
	struct nginx nginx;
	bool have_nginx;
	uint16_t port;
	pid_t pid = serve_start(&port);

	have_nginx = nginx_start(&nginx) == 0;
	nginx_pin(0, 1);
	print("idle_connection", idle_bytes(pid, port), "B", "<= 2048");
	for (int i = 0; i < ROUNDS; i++) {
		double v = round_of(port);

		ours = SN_MAX(ours, v);
		v = have_nginx ? round_of(nginx.port) : 0;
		theirs = SN_MAX(theirs, v);
	}
	print("requests", ours, "1/s", "");
	if (have_nginx) {
		print("nginx", theirs, "1/s", "");
		print("of_nginx", ours / theirs, "", ">= 0.9");
		nginx_stop(&nginx);
	}
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	return 0;
}
