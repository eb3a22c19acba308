/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop: what a timer, a task and a turn cost, and the rate of 64 connections that send 64 bytes
 * and wait for their echo: on bare epoll, on bare uv_poll, on sn_stream. The echo server is a process
 * of its own on bare epoll. The three take turns of a second; the ratio is the median of all rounds.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/mem.h"
#include "base/time.h"
#include "io/loop.h"
#include "io/stream.h"

#define N_CONNS 64
#define SIZE 64
#define ROUNDS 7
#define ROUND_NS (SN_NS_PER_S / 2)

static void print(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\":\"loop.%s\",\"value\":%.3f,\"unit\":\"%s\",\"want\":\"%s\"}\n", name,
			value, unit, want);
	(void)fflush(stdout);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof set, &set);
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- the server ---- */

static void serve(int listener)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener}, got[N_CONNS];
	int ep = epoll_create1(EPOLL_CLOEXEC);
	char buf[SIZE];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(1);
	(void)epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
	for (;;) {
		int n = epoll_wait(ep, got, N_CONNS, -1);

		for (int i = 0; i < n; i++) {
			int fd = got[i].data.fd;
			ssize_t len;

			if (fd == listener) {
				ev.data.fd = accept4(
						listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				(void)epoll_ctl(ep, EPOLL_CTL_ADD, ev.data.fd, &ev);
				continue;
			}
			len = recv(fd, buf, sizeof buf, 0);
			if (len <= 0 || send(fd, buf, (size_t)len, MSG_NOSIGNAL) != len)
				(void)close(fd);
		}
	}
}

static pid_t start_server(struct sn_addr *ret_addr)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	pid_t pid;

	(void)!sn__addr_parse_listen(SN_STR("127.0.0.1:0"), ret_addr, NULL);
	if (bind(fd, &ret_addr->u.sa, ret_addr->len) < 0 || listen(fd, 512) < 0 ||
			getsockname(fd, &ret_addr->u.sa, &ret_addr->len) < 0)
		die("listen");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		serve(fd);
	(void)close(fd);
	return pid;
}

static int dial(const struct sn_addr *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, &addr->u.sa, addr->len) < 0)
		die("connect");
	return fd;
}

/* What a round cost. On a busy machine the processor time says more than the rate. */
struct cost {
	double rate, cpu_us;
};

static double cpu_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static struct cost cost(uint64_t count, uint64_t ns, double since_us)
{
	return (struct cost){
			(double)count * 1e9 / (double)ns, (cpu_us() - since_us) / (double)count};
}

static const char message[SIZE] = "0123456789";

/* ---- bare epoll ---- */

static struct cost run_epoll(const struct sn_addr *addr)
{
	struct epoll_event ev = {.events = EPOLLIN}, got[N_CONNS];
	int ep = epoll_create1(EPOLL_CLOEXEC), fds[N_CONNS];
	uint64_t start = sn__clock_mono_ns(), count = 0, now;
	double cpu = cpu_us();
	char buf[2 * SIZE];

	for (int i = 0; i < N_CONNS; i++) {
		ev.data.fd = fds[i] = dial(addr);
		(void)epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev);
		(void)!send(fds[i], message, SIZE, MSG_NOSIGNAL);
	}
	do {
		int n = epoll_wait(ep, got, N_CONNS, -1);

		for (int i = 0; i < n; i++) {
			if (recv(got[i].data.fd, buf, sizeof buf, 0) != SIZE)
				die("recv");
			count++;
			(void)!send(got[i].data.fd, message, SIZE, MSG_NOSIGNAL);
		}
		now = sn__clock_mono_ns();
	} while (now - start < ROUND_NS);
	for (int i = 0; i < N_CONNS; i++)
		(void)close(fds[i]);
	(void)close(ep);
	return cost(count, now - start, cpu);
}

/* ---- bare uv_poll ---- */

static uint64_t count_all, stop_at;

static void on_uv(uv_poll_t *h, int status, int events)
{
	char buf[2 * SIZE];

	if (recv(h->io_watcher.fd, buf, sizeof buf, 0) != SIZE)
		die("recv");
	count_all++;
	(void)!send(h->io_watcher.fd, message, SIZE, MSG_NOSIGNAL);
}

static struct cost run_uv(const struct sn_addr *addr)
{
	uint64_t start = sn__clock_mono_ns(), now;
	uv_poll_t polls[N_CONNS];
	int fds[N_CONNS];
	double cpu = cpu_us();
	uv_loop_t loop;

	count_all = 0;
	(void)uv_loop_init(&loop);
	for (int i = 0; i < N_CONNS; i++) {
		fds[i] = dial(addr);
		(void)uv_poll_init(&loop, &polls[i], fds[i]);
		(void)uv_poll_start(&polls[i], UV_READABLE, on_uv);
		(void)!send(fds[i], message, SIZE, MSG_NOSIGNAL);
	}
	do {
		(void)uv_run(&loop, UV_RUN_ONCE);
		now = sn__clock_mono_ns();
	} while (now - start < ROUND_NS);
	for (int i = 0; i < N_CONNS; i++)
		uv_close((uv_handle_t *)&polls[i], NULL);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&loop);
	for (int i = 0; i < N_CONNS; i++)
		(void)close(fds[i]);
	return cost(count_all, now - start, cpu);
}

/* ---- sn_stream, with a deadline for each answer ---- */

struct conn {
	struct sn_timer timer;
	struct sn_stream *s;
};

static void on_deadline(struct sn_timer *t)
{
	die("deadline");
}

static void on_stream(struct sn_stream *s, unsigned events, void *arg)
{
	struct conn *c = arg;
	char buf[2 * SIZE];

	if (events & SN_STREAM_FAILED)
		die("connect");
	if (events & SN_READABLE) {
		if (sn__stream_read(s, buf, sizeof buf) != SIZE)
			die("read");
		sn__timer_stop(s->loop, &c->timer);
		count_all++;
	}
	sn__stream_want(s, SN_READABLE);
	(void)sn__stream_write(s, &(struct sn_str){message, SIZE}, 1);
	sn__timer_start(s->loop, &c->timer, SN_NS_PER_S, on_deadline);
	if (sn__loop_now_ns(s->loop) > stop_at)
		sn__loop_stop(s->loop);
}

static struct cost run_streams(const struct sn_addr *addr)
{
	uint64_t start = sn__clock_mono_ns();
	struct conn conns[N_CONNS] = {{.s = NULL}};
	double cpu = cpu_us();
	struct sn_loop *loop;

	count_all = 0;
	stop_at = start + ROUND_NS;
	if (sn__loop_uv_open(NULL, &loop, NULL) < 0)
		die("loop");
	for (int i = 0; i < N_CONNS; i++) {
		if (sn__stream_connect(loop, addr, on_stream, &conns[i], &conns[i].s, NULL) < 0)
			die("connect");
	}
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	start = sn__clock_mono_ns() - start;
	for (int i = 0; i < N_CONNS; i++) {
		sn__timer_stop(loop, &conns[i].timer);
		sn__stream_close(conns[i].s, false);
	}
	sn__loop_close(loop, NULL, NULL);
	return cost(count_all, start, cpu);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof *values, by_value);
	return values[ROUNDS / 2];
}

static double rates(const struct cost *costs)
{
	double values[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		values[i] = costs[i].rate;
	return median(values);
}

static double cpus(const struct cost *costs)
{
	double values[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		values[i] = costs[i].cpu_us;
	return median(values);
}

static void streams(void)
{
	struct cost epoll[ROUNDS], uv[ROUNDS], sn[ROUNDS];
	double to_uv[ROUNDS], cpu_to_uv[ROUNDS];
	struct sn_addr addr;
	pid_t pid = start_server(&addr);

	pin(0);
	for (int i = 0; i < ROUNDS; i++) {
		epoll[i] = run_epoll(&addr);
		uv[i] = run_uv(&addr);
		sn[i] = run_streams(&addr);
		to_uv[i] = sn[i].rate / uv[i].rate;
		cpu_to_uv[i] = sn[i].cpu_us / uv[i].cpu_us;
	}
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	print("echo.epoll", rates(epoll), "1/s", "");
	print("echo.epoll.cpu", cpus(epoll), "us", "");
	print("echo.uv_poll", rates(uv), "1/s", "");
	print("echo.uv_poll.cpu", cpus(uv), "us", "");
	print("echo.stream", rates(sn), "1/s", "");
	print("echo.stream.cpu", cpus(sn), "us", "");
	print("echo.stream/uv_poll", median(to_uv), "ratio", ">= 0.95");
	print("echo.stream/uv_poll.cpu", median(cpu_to_uv), "ratio", "<= 1.05");
}

/* ---- small costs ---- */

#define N_SMALL 2000000

static void on_nothing(struct sn_timer *t)
{
}

static uint64_t tasks_left;
static struct sn_loop *small_loop;

static void on_task(struct sn_task *task)
{
	if (tasks_left-- > 0)
		sn__loop_defer(small_loop, task, on_task);
}

static void timers_in_a_turn(struct sn_task *task)
{
	struct sn_timer timers[64] = {{.due_ns = 0}};
	uint64_t start = sn__clock_mono_ns();

	for (unsigned i = 0; i < N_SMALL; i++) {
		sn__timer_start(small_loop, &timers[i % 64], (1 + i % 5000) * SN_NS_PER_MS,
				on_nothing);
		if (i % 64 == 63) {
			for (unsigned k = 0; k < 64; k++)
				sn__timer_stop(small_loop, &timers[k]);
		}
	}
	for (unsigned k = 0; k < 64; k++)
		sn__timer_stop(small_loop, &timers[k]);
	print("timer.start_stop", (double)(sn__clock_mono_ns() - start) / N_SMALL, "ns", "<= 20");
}

static void small_costs(void)
{
	struct sn_task task = {.fn = NULL};
	uint64_t start;

	if (sn__loop_uv_open(NULL, &small_loop, NULL) < 0)
		die("loop");
	sn__loop_defer(small_loop, &task, timers_in_a_turn);
	(void)sn__loop_run(small_loop, SN_RUN_DEFAULT);
	tasks_left = N_SMALL / 10;
	start = sn__clock_mono_ns();
	sn__loop_defer(small_loop, &task, on_task);
	(void)sn__loop_run(small_loop, SN_RUN_DEFAULT);
	print("turn", (double)(sn__clock_mono_ns() - start) / (N_SMALL / 10.0), "ns", "");
	sn__loop_close(small_loop, NULL, NULL);
}

int main(void)
{
	small_costs();
	streams();
	return 0;
}
