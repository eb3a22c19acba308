/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to check 10,000 instances every 5 seconds, in one run, as the share of one core that
 * this thread uses (user and system time):
 *
 *	bare epoll    socket, connect, wait, getsockopt, reset: the same number a second, nothing else
 *	tcp           checks of src/hub/check_tcp.c
 *	http          GET on kept connections, where all are kept
 *	http, anew    GET on a connection of its own each time
 *
 * The servers are one process apart: a listener that accepts and closes, and one nginx worker. A
 * connect on loopback runs the peer's half of the handshake on our own time, so that part of what is
 * measured is the network's. Optional argument: instances (10000).
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/time.h"
#include "hub/check.h"
#define NGINX_CONNECTIONS "65536"
#include "nginx.h"

#define EVERY_MS 5000u
#define MEASURE_S 10u

static unsigned n_instances = 10000;
static struct nginx server;
static pid_t accepter;
static uint16_t accepter_port;

static _Noreturn void die(const char *what)
{
	(void)fprintf(stderr, "%s failed: %s\n", what, strerror(errno));
	nginx_stop(&server);
	if (accepter > 0)
		(void)kill(accepter, SIGKILL);
	_Exit(1);
}

static double cpu_s(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) < 0)
		die("clock_gettime");
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- a listener that accepts and closes ---- */

static void accept_all(int fd)
{
	for (;;) {
		int got = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (got >= 0)
			(void)close(got);
	}
}

static void start_accepter(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4096) < 0 ||
			getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		die("listener");
	accepter_port = ntohs(a.sin_port);
	accepter = fork();
	if (accepter < 0)
		die("fork");
	if (accepter == 0)
		accept_all(fd);
	(void)close(fd);
}

/* ---- the bare loop ---- */

static unsigned bare_connect(int epoll)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
			.sin_port = htons(accepter_port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct epoll_event e = {.events = EPOLLOUT, .data.fd = fd};

	if (fd < 0)
		die("socket");
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0 && errno != EINPROGRESS)
		die("connect");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
	return 1;
}

static unsigned bare_close(int fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	socklen_t len = sizeof(int);
	int code = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0 || code != 0)
		die("bare connect");
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	(void)close(fd);
	return 1;
}

/* A tick of 10 ms starts as many as have become due; what they cost is returned as a share. */
static double bare(unsigned *ret_done)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), tick = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec every = {{0, 10000000}, {0, 10000000}};
	struct epoll_event e = {.events = EPOLLIN, .data.fd = tick}, got[256];
	uint64_t start = sn__clock_mono_ns(), n_ticks;
	unsigned started = 0, done = 0;
	double cpu = cpu_s();

	if (timerfd_settime(tick, 0, &every, NULL) < 0 ||
			epoll_ctl(epoll, EPOLL_CTL_ADD, tick, &e) < 0)
		die("timerfd");
	for (uint64_t now = start; now < start + MEASURE_S * SN_NS_PER_S;
			now = sn__clock_mono_ns()) {
		int n = epoll_wait(epoll, got, 256, -1);
		uint64_t due = (now - start) * n_instances / (EVERY_MS * SN_NS_PER_MS);

		for (int i = 0; i < n; i++) {
			if (got[i].data.fd != tick)
				done += bare_close(got[i].data.fd);
			else if (read(tick, &n_ticks, sizeof n_ticks) < 0)
				die("timer");
		}
		while (started < due)
			started += bare_connect(epoll);
	}
	cpu = cpu_s() - cpu;
	*ret_done = done;
	(void)close(tick);
	(void)close(epoll);
	return cpu / MEASURE_S;
}

/* ---- checks ---- */

struct instance {
	struct sn_hub_checked c;
	char address[24];
};

static unsigned n_changed;

static void about(struct sn_hub_checked *c, struct sn_hub_probe *probe)
{
	probe->address = SN_CONTAINER_OF(c, struct instance, c)->address;
}

static void changed(struct sn_hub_checked *c, const struct sn_error *err)
{
	if (n_changed++ == 0)
		(void)fprintf(stderr, "unwell: %s\n", err != NULL ? err->text : "no more");
}

static void stop(struct sn_timer *t)
{
	*(bool *)(t + 1) = true;
}

static void run(struct sn_loop *loop, unsigned ms)
{
	struct {
		struct sn_timer timer;
		bool over;
	} end = {0};

	sn__timer_start(loop, &end.timer, sn_ms_to_ns(ms), stop);
	while (!end.over)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
}

static void set(void *arg)
{
	*(bool *)arg = true;
}

struct cost {
	double share, bytes;
	unsigned done;
	uint64_t allocations;
};

static double in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return (double)(m.uordblks + m.hblkhd);
}

static struct cost measure(struct sn_loop *loop, struct sn_hub_checker *checker, uint16_t port)
{
	static const struct sn_hub_health_ops ops = {about, changed};
	const struct sn_hub_check_spec spec = {.checker = checker,
			.every_ms = EVERY_MS,
			.timeout_ms = 1000,
			.healthy_after = 2,
			.unhealthy_after = 3};
	double before_bytes = in_use();
	struct instance *all = sn__calloc(n_instances, sizeof *all);
	struct sn_hub_health_counts before, after;
	struct sn_hub_health *health;
	struct cost cost;
	bool closed = false;

	if (all == NULL || sn__hub_health_open(loop, &ops, 0, &health) < 0)
		die("memory");
	for (unsigned i = 0; i < n_instances; i++) {
		(void)snprintf(all[i].address, sizeof all[i].address, "127.0.0.1:%u", port);
		sn__hub_health_add(health, &all[i].c, &spec);
	}
	run(loop, EVERY_MS + EVERY_MS / 5); /* all once */
	sn__hub_health_counts(health, &before);
	cost.allocations = sn__mem_count();
	cost.share = cpu_s();
	run(loop, MEASURE_S * 1000);
	cost.share = (cpu_s() - cost.share) / MEASURE_S;
	cost.allocations = sn__mem_count() - cost.allocations;
	sn__hub_health_counts(health, &after);
	cost.bytes = (in_use() - before_bytes) / n_instances;
	cost.done = (unsigned)(after.checks - before.checks);
	if (after.failed > 0 || after.unjudged > 0)
		(void)fprintf(stderr, "%llu failed, %llu unjudged\n",
				(unsigned long long)after.failed,
				(unsigned long long)after.unjudged);
	for (unsigned i = 0; i < n_instances; i++)
		sn__hub_health_remove(&all[i].c);
	sn__hub_health_close(health, set, &closed);
	while (!closed)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	sn__free(all);
	return cost;
}

static void report(const char *name, struct cost cost, double bare_each)
{
	double each = cost.share * MEASURE_S / cost.done * 1e6;

	(void)printf("%-12s %7.0f checks/s  %5.2f %% of a core  %6.2f us each  %.2f x bare  "
		     "%.3f allocations each  %.0f bytes an instance\n",
			name, (double)cost.done / MEASURE_S, cost.share * 100, each,
			each / bare_each, (double)cost.allocations / cost.done, cost.bytes);
}

static void many_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
}

static struct cost measure_http(struct sn_loop *loop, unsigned max_idle)
{
	const struct sn_http_pool_options pool_opts = {.max_idle = max_idle};
	const struct sn_check_http_options opts = {.path = "/"};
	struct sn_hub_checker *checker;
	struct sn_http_pool *pool;
	struct cost cost;
	bool closed = false;

	if (sn__http_pool_create(loop, &pool_opts, &pool) < 0 ||
			sn__check_http_create(loop, pool, &opts, &checker) < 0)
		die("memory");
	cost = measure(loop, checker, server.port);
	sn__hub_checker_unref(checker);
	sn__http_pool_close(pool, set, &closed);
	while (!closed)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	return cost;
}

int main(int argc, char **argv)
{
	struct sn_hub_checker *checker;
	struct sn_loop *loop;
	struct cost base = {0};
	uint64_t n = n_instances;
	double each;

	if (argc > 1 && sn__parse_u64(sn_str_from(argv[1]), 1000000, &n) < 0)
		die("number");
	n_instances = (unsigned)n;
	many_descriptors();
	start_accepter();
	base.share = bare(&base.done);
	each = base.share * MEASURE_S / base.done * 1e6;
	report("bare epoll", base, each);
	if (sn__loop_uv_open(NULL, &loop, NULL) < 0 || sn__check_tcp_create(loop, &checker) < 0)
		die("loop");
	report("tcp", measure(loop, checker, accepter_port), each);
	sn__hub_checker_unref(checker);
	if (nginx_start(&server) == 0) {
		report("http", measure_http(loop, 2 * n_instances), each);
		report("http, anew", measure_http(loop, 1), each);
		nginx_stop(&server);
	}
	sn__loop_close(loop, NULL, NULL);
	(void)kill(accepter, SIGKILL);
	(void)waitpid(accepter, NULL, 0);
	return 0;
}
