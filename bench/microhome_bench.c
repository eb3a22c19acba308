/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packages of the µHome mesh: read and written per second; exchanges with a connection each against a
 * bare connect-send-receive-close loop, and on kept connections, one and many under way. Asker and
 * answerer are two threads.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/time.h"
#include "dialect/microhome/node.h"
#include "proto/json_pull.h"

#define RUN_NS (SN_NS_PER_S)
#define FLIGHT 64

static void print(const char *name, double value, const char *unit, const char *want)
{
	(void)printf("{\"name\": \"microhome/%s\", \"value\": %.3g, \"unit\": \"%s\"%s%s%s}\n",
			name, value, unit, want != NULL ? ", \"want\": \"" : "",
			want != NULL ? want : "", want != NULL ? "\"" : "");
	(void)fflush(stdout);
}

/* Of this process, both threads: what others do on the machine is not counted. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * SN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void print_cpu(const char *name, uint64_t cpu_begin, uint64_t done)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%s_cpu", name);
	print(text, (double)(cpu_ns() - cpu_begin) / 1e3 / (double)SN_MAX(done, 1u), "us/exchange",
			NULL);
}

static const char payload[] =
		"{\"id\":\"c0a7e1d2-5b1f-4e0a-9b5c-6f2d8e3a7b00\",\"timestamp\":"
		"\"2031-03-09T04:05:06.789Z\",\"source\":\"lamp/hall\",\"type\":\"power.sample\","
		"\"data\":{\"watt\":412.5,\"room\":\"attic\",\"since\":1.5,\"by\":null}}";

/* ---- the codec ---- */

static void bench_read(void)
{
	static char stream[64 * 1024], copy[sizeof(stream)];
	size_t n = sizeof(payload) - 1, used = 0, packets = 0;
	struct sn_microhome_packet p;
	struct sn_microhome_event e;
	struct sn_buf scratch;
	uint64_t begin, took, rounds = 0, bad = 0;

	while (used + 5 + n <= sizeof(stream)) {
		memcpy(stream + used, (char[5]){(char)(n >> 8), (char)n, 0, 2, 1}, 5);
		memcpy(stream + used + 5, payload, n);
		used += 5 + n;
		packets++;
	}
	sn__buf_init(&scratch, SN_MICROHOME_PACKET_MAX);
	begin = cpu_ns();
	while ((took = cpu_ns() - begin) < RUN_NS) {
		struct sn_str rest = {stream, used};
		size_t one;

		while ((one = sn__microhome_next(rest, &p)) > 0) {
			bad += sn__microhome_read(&p, false, &scratch, &e) != SN_MICROHOME_FINE;
			rest.ptr += one;
			rest.len -= one;
		}
		rounds++;
	}
	print("read", (double)(rounds * packets) / ((double)took / 1e9), "packages/s", NULL);
	print("read_bytes", (double)(rounds * used) / ((double)took / 1e9) / 1e6, "MB/s", NULL);
	if (bad > 0)
		print("bad", (double)bad, "packages", "0");
	rounds = 0;
	begin = cpu_ns();
	while ((took = cpu_ns() - begin) < RUN_NS / 4) {
		memcpy(copy, stream, used);
		__asm__ volatile("" ::"r"(copy) : "memory");
		rounds++;
	}
	print("memcpy_bytes", (double)(rounds * used) / ((double)took / 1e9) / 1e6, "MB/s", NULL);
	sn__buf_finish(&scratch);
}

/* ---- a server in a thread of its own ---- */

struct answerer {
	struct sn_loop *loop;
	struct sn_mh_server *server;
	struct sn_task stop;
	pthread_t thread;
};

static void on_event(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	(void)sn__mh_reply_send(reply, SN_STR("{\"message\":\"seen\"}"));
}

static void on_closed(void *arg)
{
	sn__loop_stop(arg);
}

static void on_stop(struct sn_task *task)
{
	struct answerer *a = SN_CONTAINER_OF(task, struct answerer, stop);

	sn__mh_server_close(a->server, 0, on_closed, a->loop);
}

static void *answer(void *arg)
{
	struct answerer *a = arg;

	sn__loop_adopt(a->loop);
	(void)sn__loop_run(a->loop, SN_RUN_DEFAULT);
	return NULL;
}

static bool answerer_start(struct answerer *a)
{
	struct sn_mh_server_options o = {.id = "lamp"};

	if (sn__addr_parse_listen(SN_STR("127.0.0.1:0"), &o.listen, NULL) < 0 ||
			sn__loop_uv_open(NULL, &a->loop, NULL) < 0 ||
			sn__mh_server_open(a->loop, &o, &a->server, NULL) < 0 ||
			sn__mh_server_on(a->server, SN_STR("power.sample"), on_event, NULL) < 0)
		return false;
	return pthread_create(&a->thread, NULL, answer, a) == 0;
}

static void answerer_stop(struct answerer *a)
{
	sn__loop_post(a->loop, &a->stop, on_stop);
	(void)pthread_join(a->thread, NULL);
	sn__loop_close(a->loop, NULL, NULL);
}

/* ---- exchanges ---- */

struct asker {
	struct sn_loop *loop;
	struct sn_mh_client *client;
	struct sn_mh_exchange x[FLIGHT];
	struct sn_mh_send send;
	uint64_t until_ns, done, failed;
	unsigned open;
};
static struct asker asker;

static void on_answer(struct sn_mh_exchange *x)
{
	asker.done += x->status == 0;
	asker.failed += x->status != 0;
	asker.open--;
	if (sn__loop_now_ns(asker.loop) < asker.until_ns &&
			sn__mh_exchange_start(asker.client, x, &asker.send, on_answer) == 0)
		asker.open++;
	if (asker.open == 0)
		sn__loop_stop(asker.loop);
}

static double bench_exchanges(
		const struct answerer *a, bool keep, unsigned flight, const char *name)
{
	struct sn_mh_client_options o = {.id = "caller", .keep = keep};
	uint64_t begin = sn__clock_mono_ns(), cpu = cpu_ns(), took;

	memset(&asker, 0, sizeof(asker));
	asker.send = (struct sn_mh_send){.to = *sn__mh_server_addr(a->server),
			.type = SN_STR("power.sample"),
			.data = SN_STR("{\"watt\":412.5,\"room\":\"attic\",\"since\":1.5,\"by\":null}")};
	asker.until_ns = begin + RUN_NS;
	if (sn__loop_uv_open(NULL, &asker.loop, NULL) < 0 ||
			sn__mh_client_create(asker.loop, &o, &asker.client, NULL) < 0)
		return 0;
	for (unsigned i = 0; i < flight; i++)
		asker.open += sn__mh_exchange_start(asker.client, &asker.x[i], &asker.send,
					      on_answer) == 0;
	(void)sn__loop_run(asker.loop, SN_RUN_DEFAULT);
	took = sn__clock_mono_ns() - begin;
	sn__mh_client_destroy(asker.client);
	sn__loop_close(asker.loop, NULL, NULL);
	print(name, (double)asker.done / ((double)took / 1e9), "exchanges/s", NULL);
	print_cpu(name, cpu, asker.done);
	if (asker.failed > 0)
		print("failed", (double)asker.failed, "exchanges", "0");
	return (double)asker.done / ((double)took / 1e9);
}

/* ---- the bare loop ---- */

static void *bare_answer(void *arg)
{
	char bytes[1024];
	int listener = *(int *)arg, c;

	while ((c = accept(listener, NULL, NULL)) >= 0) {
		ssize_t n = recv(c, bytes, sizeof(bytes), 0);

		if (n > 0)
			(void)send(c, bytes, (size_t)n, MSG_NOSIGNAL);
		(void)recv(c, bytes, sizeof(bytes), 0);
		(void)close(c);
	}
	return NULL;
}

static double bench_bare(void)
{
	struct sn_addr addr;
	socklen_t len = sizeof(addr.u);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t begin, cpu, took, done = 0;
	pthread_t thread;
	char bytes[1024];

	if (sn__addr_from_literal(SN_STR("127.0.0.1"), 0, &addr) < 0 || listener < 0 ||
			bind(listener, &addr.u.sa, addr.len) < 0 || listen(listener, 128) < 0 ||
			getsockname(listener, &addr.u.sa, &len) < 0 ||
			pthread_create(&thread, NULL, bare_answer, &listener) != 0)
		return 0;
	begin = sn__clock_mono_ns();
	cpu = cpu_ns();
	while ((took = sn__clock_mono_ns() - begin) < RUN_NS) {
		int c = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(c, &addr.u.sa, addr.len) == 0 &&
				send(c, payload, sizeof(payload), MSG_NOSIGNAL) > 0 &&
				recv(c, bytes, sizeof(bytes), 0) > 0)
			done++;
		(void)close(c);
	}
	(void)shutdown(listener, SHUT_RDWR);
	(void)pthread_join(thread, NULL);
	(void)close(listener);
	print("bare_loop", (double)done / ((double)took / 1e9), "exchanges/s", NULL);
	print_cpu("bare_loop", cpu, done);
	return (double)done / ((double)took / 1e9);
}

int main(void)
{
	struct answerer a = {.loop = NULL};
	double bare, own;

	bench_read();
	bare = bench_bare();
	if (!answerer_start(&a))
		return 1;
	own = bench_exchanges(&a, false, 1, "connection_each");
	print("against_bare_loop", own / bare, "ratio", ">= 0.8");
	(void)bench_exchanges(&a, false, FLIGHT, "connection_each_64");
	(void)bench_exchanges(&a, true, 1, "kept");
	(void)bench_exchanges(&a, true, FLIGHT, "kept_64");
	answerer_stop(&a);
	return 0;
}
