/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events delivered per second from one publisher to 1, 10, 100 and 1000 subscribers: `sinew hub`,
 * mosquitto (QoS 0) and nats-server, started here on free loopback ports. One client of raw sockets
 * stands for publisher and subscribers of all three; it writes and reads as few bytes of each protocol
 * as will do, and keeps the same number of events under way. Only ours answers every event: that is the
 * protocol. Rounds of the three alternate; medians.
 *
 * The server's processor time is its process's own, so that other work on the machine counts less.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>

#include "base/mem.h"
#include "base/time.h"
#include "proto/json_pull.h"
#include "proto/microhome.h"

#define SUBSCRIBERS_MAX 1000u
#define UNDER_WAY 256u /* events */
#define ROUNDS 3
#define ROUND_NS (SN_NS_PER_S)
#define WARM_NS (SN_NS_PER_S / 5)
#define CHUNK (64u * 1024)
#define TYPE "bench.event"
#define EVENT_MIN 200u /* bytes: a package that is larger is an event */

/* 100 bytes of JSON. */
static const char payload[] =
		"\"1111111111222222222233333333334444444444555555555566666666667777777777888888"
		"8888999999999900000000\"";

struct peer;
enum kind { LISTENER, SUBSCRIBER, PUBLISHER, ASKER };
struct conn {
	struct peer *peer;
	enum kind kind;
	int fd;
	unsigned index; /* of the subscriber */
	char *in;       /* what is not complete yet */
	size_t n_in;
	char *out; /* what could not be written yet */
	size_t n_out, cap_out;
	size_t bytes; /* of what is counted by bytes */
	uint64_t replies;
};

struct peer {
	const char *name;
	pid_t pid;
	uint16_t port, registry_port;
	struct conn *publisher;
	unsigned n; /* subscribers */
	uint64_t published, delivered;
	char event[512]; /* what publishes one */
	size_t n_event;
	size_t delivery; /* bytes of one; 0: packages are taken apart */
	bool (*start)(struct peer *p);
	void (*subscribe)(struct peer *p, unsigned index);
	void (*take)(struct conn *c, const char *bytes, size_t n);
	double rate[ROUNDS], cpu_us[ROUNDS];
};

static int ep;
static struct sn_rng rng;
static char folder[] = "/tmp/sinew-fanout-XXXXXX";
static struct peer peers[3];

static void stop_all(void)
{
	for (unsigned i = 0; i < SN_COUNT(peers); i++) {
		if (peers[i].pid > 0) {
			(void)kill(peers[i].pid, SIGTERM);
			(void)waitpid(peers[i].pid, NULL, 0);
		}
	}
}

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "microhome_fanout_bench: %s (%s)\n", what, strerror(errno));
	stop_all();
	_exit(1);
}

SN_PRINTF(4, 5)
static void print(const char *unit, double value, const char *want, const char *fmt, ...)
{
	char name[96];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	(void)printf("{\"name\":\"microhome_fanout/%s\",\"value\":%.3f,\"unit\":\"%s\","
		     "\"want\":\"%s\"}\n",
			name, value, unit, want);
	(void)fflush(stdout);
}

/* ---- sockets ---- */

static struct sockaddr_in local(uint16_t port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int listen_any(uint16_t *ret_port)
{
	struct sockaddr_in a = local(0);
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	must(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 && listen(fd, 16) == 0 &&
					getsockname(fd, (struct sockaddr *)&a, &len) == 0,
			"listen");
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static uint16_t free_port(void)
{
	uint16_t port;

	(void)close(listen_any(&port));
	return port;
}

static struct conn *conn_new(struct peer *p, enum kind kind, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct epoll_event e = {.events = EPOLLIN};
	int one = 1;

	must(c != NULL, "memory");
	*c = (struct conn){.peer = p, .kind = kind, .fd = fd};
	e.data.ptr = c;
	if (kind != LISTENER)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	must(fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0,
			"epoll");
	return c;
}

static void conn_close(struct conn *c)
{
	(void)close(c->fd);
	free(c->in);
	free(c->out);
	free(c);
}

static int dial(uint16_t port)
{
	struct sockaddr_in a = local(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(fd >= 0, "socket");
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

static void await_server(uint16_t port)
{
	int fd;

	for (unsigned i = 0; (fd = dial(port)) < 0; i++) {
		must(i < 500, "a server does not listen");
		(void)nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
	}
	(void)close(fd);
}

/* Whole, or what is left waits for the next turn. */
static void conn_write(struct conn *c, const char *bytes, size_t n)
{
	ssize_t sent = c->n_out == 0 ? send(c->fd, bytes, n, MSG_NOSIGNAL) : 0;
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};

	if (sent < 0) {
		must(errno == EAGAIN, "send");
		sent = 0;
	}
	if ((size_t)sent == n)
		return;
	if (c->n_out + n > c->cap_out) {
		c->cap_out = 2 * (c->n_out + n);
		c->out = realloc(c->out, c->cap_out);
		must(c->out != NULL, "memory");
	}
	memcpy(c->out + c->n_out, bytes + sent, n - (size_t)sent);
	c->n_out += n - (size_t)sent;
	must(epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e) == 0, "epoll");
}

static void conn_flush(struct conn *c)
{
	ssize_t sent = send(c->fd, c->out, c->n_out, MSG_NOSIGNAL);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};

	must(sent >= 0 || errno == EAGAIN, "send");
	if (sent <= 0)
		return;
	c->n_out -= (size_t)sent;
	memmove(c->out, c->out + sent, c->n_out);
	if (c->n_out == 0)
		must(epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e) == 0, "epoll");
}

/* ---- the loop ---- */

static void publish_more(struct peer *p)
{
	static char many[UNDER_WAY * sizeof(p->event)];
	size_t n = 0;

	while ((p->published + 1) * p->n <= p->delivered + (uint64_t)UNDER_WAY * p->n) {
		memcpy(many + n, p->event, p->n_event);
		n += p->n_event;
		p->published++;
	}
	if (n > 0)
		conn_write(p->publisher, many, n);
}

static void conn_read(struct conn *c)
{
	static char chunk[CHUNK];
	ssize_t n = recv(c->fd, chunk, sizeof(chunk), 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		must(c->kind == SUBSCRIBER && c->peer->delivery == 0, "a connection has ended");
		conn_close(c); /* a health check's */
		return;
	}
	c->peer->take(c, chunk, (size_t)n);
}

static void turn(int timeout_ms)
{
	struct epoll_event ready[256];
	int n = epoll_wait(ep, ready, SN_COUNT(ready), timeout_ms);

	for (int i = 0; i < n; i++) {
		struct conn *c = ready[i].data.ptr;
		int fd;

		if (c->kind == LISTENER) {
			while ((fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
				conn_new(c->peer, SUBSCRIBER, fd)->index = c->index;
			continue;
		}
		if ((ready[i].events & EPOLLOUT) != 0)
			conn_flush(c);
		if ((ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
			conn_read(c);
	}
}

static void await_replies(struct conn *c, uint64_t n)
{
	uint64_t end = sn__clock_mono_ns() + 10 * SN_NS_PER_S;

	while (c->replies < n) {
		must(sn__clock_mono_ns() < end, "no answer");
		turn(100);
	}
}

/* Deliveries of a constant size, and nothing else. */
static void count_bytes(struct conn *c, const char *bytes, size_t n)
{
	if (c->kind == SUBSCRIBER && c->replies > 0) {
		c->bytes += n;
		c->peer->delivered += c->bytes / c->peer->delivery;
		c->bytes %= c->peer->delivery;
	} else {
		c->replies++; /* CONNACK, SUBACK, PONG: asked for one by one */
	}
}

static void spawn(struct peer *p, const char *const argv[])
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	p->pid = fork();
	must(p->pid >= 0 && null >= 0, "fork");
	if (p->pid == 0) {
		(void)dup2(null, 0);
		if (getenv("SINEW_BENCH_VERBOSE") == NULL) {
			(void)dup2(null, 1);
			(void)dup2(null, 2);
		}
		(void)execv(argv[0], (char **)(uintptr_t)argv);
		_exit(127);
	}
	(void)close(null);
}

static FILE *create(const char *name, char path[64])
{
	FILE *f;

	(void)snprintf(path, 64, "%s/%s", folder, name);
	f = fopen(path, "we");
	must(f != NULL, path);
	return f;
}

/* ---- ours ---- */

static size_t package(char *out, size_t room, const char *id, const char *source, const char *type,
		const char *data)
{
	int n = snprintf(out + 5, room - 5,
			"{\"id\":\"%.36s\",\"timestamp\":\"2031-03-09T04:05:06.789Z\","
			"\"source\":\"%s\",\"type\":\"%s\",\"data\":%s}",
			id, source, type, data);

	must(n > 0 && (size_t)n < room - 5, "package");
	memcpy(out, (char[5]){(char)(n >> 8), (char)(n & 255), 0, 2, 1}, 5);
	return (size_t)n + 5;
}

static char reply_text[256];
static size_t reply_len;
static uint64_t reply_mark; /* the hash's state after salt and the id's first 12 bytes */

static uint64_t fnv(uint64_t h, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
	return h;
}

static void unhex(const char *text, uint8_t out[16])
{
	static const uint8_t at[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

	for (unsigned i = 0; i < 16; i++) {
		unsigned high = (unsigned char)text[at[i]], low = (unsigned char)text[at[i] + 1];

		out[i] = (uint8_t)(((high & 15) + 9 * (high >> 6)) << 4 |
				((low & 15) + 9 * (low >> 6)));
	}
}

/* Marked for that request (docs/microhome.md, "Kept connections"); only the last digits differ. */
static void answer(const char *request_id, char *out)
{
	uint8_t request[16];
	uint64_t h;

	memcpy(out, reply_text, reply_len);
	unhex(request_id, request);
	h = fnv(reply_mark, request, sizeof(request));
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	for (unsigned i = 0; i < 8; i++)
		out[12 + 28 + i] = "0123456789abcdef"[h >> (60 - 4 * i) & 15];
}

/* Answers what a node is asked; the publisher only counts. */
static void take_packages(struct conn *c, const char *bytes, size_t n)
{
	static char out[2 * CHUNK];
	struct sn_microhome_packet packet;
	size_t used = 0, one, n_out = 0;
	char *joined = NULL;

	if (c->n_in > 0) {
		joined = realloc(c->in, c->n_in + n);
		must(joined != NULL, "memory");
		memcpy(joined + c->n_in, bytes, n);
		c->in = NULL;
		n += c->n_in;
		c->n_in = 0;
		bytes = joined;
	}
	while ((one = sn__microhome_next((struct sn_str){bytes + used, n - used}, &packet)) > 0) {
		used += one;
		c->replies++;
		if (c->kind != SUBSCRIBER)
			continue;
		if (one >= EVENT_MIN)
			c->peer->delivered++;
		if (n_out + reply_len > sizeof(out)) {
			conn_write(c, out, n_out);
			n_out = 0;
		}
		answer(packet.payload.ptr + 7, out + n_out);
		n_out += reply_len;
	}
	if (n_out > 0)
		conn_write(c, out, n_out);
	if (used < n) {
		c->n_in = n - used;
		c->in = malloc(c->n_in);
		must(c->in != NULL, "memory");
		memcpy(c->in, bytes + used, c->n_in);
	}
	free(joined);
}

static void ask(struct peer *p, uint16_t port, const char *source, const char *type,
		const char *data)
{
	struct conn *c = conn_new(p, ASKER, dial(port));
	char out[512], id[SN_MICROHOME_UUID];

	sn__microhome_uuid(&rng, id);
	conn_write(c, out, package(out, sizeof(out), id, source, type, data));
	await_replies(c, 1);
	conn_close(c);
}

static void node_start(struct peer *p, const char *id)
{
	char data[128];
	uint16_t port;
	struct conn *c = conn_new(p, LISTENER, listen_any(&port));

	(void)c;
	(void)snprintf(data, sizeof(data), "{\"nodeId\":\"%s\",\"address\":\"127.0.0.1:%u\"}", id,
			port);
	ask(p, p->registry_port, id, "\xc2\xb5Home.core.register", data);
}

static void sinew_subscribe(struct peer *p, unsigned index)
{
	char id[32];

	(void)snprintf(id, sizeof(id), "bench/%u", index);
	node_start(p, id);
	ask(p, p->port, id, "\xc2\xb5Home.core.subscribe", "{\"subscribe\":\"" TYPE "\"}");
}

static bool sinew_start(struct peer *p)
{
	const char *own = getenv("SINEW_BINARY");
	char path[64], program[512], data[256], id[SN_MICROHOME_UUID];
	uint8_t first[16];
	FILE *f;

	(void)snprintf(program, sizeof(program), "%s", own != NULL ? own : "build/sinew");
	if (access(program, X_OK) != 0)
		return false;
	p->port = free_port();
	p->registry_port = free_port();
	f = create("hub.yaml", path);
	(void)fprintf(f,
			"listen: {admin: \"unix:%s/admin.sock\"}\nhub:\n  id: bench\n"
			"  broker: 127.0.0.1:%u\n  registry: 127.0.0.1:%u\n",
			folder, p->port, p->registry_port);
	(void)fclose(f);
	spawn(p, (const char *[]){program, "run", path, NULL});
	await_server(p->port);
	await_server(p->registry_port);
	sn__microhome_uuid(&rng, id);
	reply_len = package(
			reply_text, sizeof(reply_text), id, "bench", "\xc2\xb5Home.response", "{}");
	unhex(id, first);
	reply_mark = fnv(fnv(UINT64_C(0xcbf29ce484222325), (const uint8_t *)"sinew keeps", 11),
			first, 12);
	node_start(p, "bench/publisher");
	(void)snprintf(data, sizeof(data), "{\"event\":\"" TYPE "\",\"data\":%s}", payload);
	sn__microhome_uuid_marked(&rng, (struct sn_str){NULL, 0}, id);
	p->n_event = package(p->event, sizeof(p->event), id, "bench/publisher",
			"\xc2\xb5Home.core.publish", data);
	p->publisher = conn_new(p, PUBLISHER, dial(p->port));
	return true;
}

/* ---- MQTT 3.1.1, QoS 0 ---- */

static size_t mqtt_connect(char *out, const char *id)
{
	size_t n = strlen(id);

	memcpy(out,
			(char[14]){0x10, (char)(12 + n), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0,
					(char)n},
			14);
	memcpy(out + 14, id, n);
	return 14 + n;
}

static struct conn *mqtt_open(struct peer *p, enum kind kind, const char *id)
{
	struct conn *c = conn_new(p, kind, dial(p->port));
	char out[64];

	conn_write(c, out, mqtt_connect(out, id));
	c->kind = ASKER;
	await_replies(c, 1);
	c->kind = kind;
	return c;
}

static void mqtt_subscribe(struct peer *p, unsigned index)
{
	const size_t n = sizeof(TYPE) - 1;
	char id[32], out[64];
	struct conn *c;

	(void)snprintf(id, sizeof(id), "s%u", index);
	c = mqtt_open(p, SUBSCRIBER, id);
	memcpy(out, (char[6]){(char)0x82, (char)(5 + n), 0, 1, 0, (char)n}, 6);
	memcpy(out + 6, TYPE, n);
	out[6 + n] = 0;
	c->kind = ASKER;
	conn_write(c, out, 7 + n);
	await_replies(c, 2);
	c->kind = SUBSCRIBER;
}

static bool mqtt_start(struct peer *p)
{
	const size_t topic = sizeof(TYPE) - 1, data = sizeof(payload) - 1;
	char path[64];
	FILE *f;

	if (access("/usr/sbin/mosquitto", X_OK) != 0)
		return false;
	p->port = free_port();
	f = create("mosquitto.conf", path);
	(void)fprintf(f,
			"listener %u 127.0.0.1\nallow_anonymous true\npersistence false\n"
			"set_tcp_nodelay true\nmax_queued_messages 0\n",
			p->port);
	(void)fclose(f);
	spawn(p, (const char *[]){"/usr/sbin/mosquitto", "-c", path, NULL});
	await_server(p->port);
	_Static_assert(2 + sizeof(TYPE) - 1 + sizeof(payload) - 1 < 128, "one byte of length");
	memcpy(p->event, (char[4]){0x30, (char)(2 + topic + data), 0, (char)topic}, 4);
	memcpy(p->event + 4, TYPE, topic);
	memcpy(p->event + 4 + topic, payload, data);
	p->delivery = p->n_event = 4 + topic + data;
	p->publisher = mqtt_open(p, PUBLISHER, "publisher");
	return true;
}

/* ---- NATS ---- */

static struct conn *nats_open(struct peer *p, enum kind kind, const char *words)
{
	struct conn *c = conn_new(p, kind, dial(p->port));
	char out[128];
	int n = snprintf(out, sizeof(out), "CONNECT {\"verbose\":false}\r\n%sPING\r\n", words);

	c->kind = ASKER;
	await_replies(c, 1); /* INFO */
	conn_write(c, out, (size_t)n);
	await_replies(c, 2);
	c->kind = kind;
	return c;
}

static void nats_subscribe(struct peer *p, unsigned index)
{
	(void)nats_open(p, SUBSCRIBER, "SUB " TYPE " 1\r\n");
}

static bool nats_start(struct peer *p)
{
	char port[8];

	if (access("/usr/sbin/nats-server", X_OK) != 0)
		return false;
	p->port = free_port();
	(void)snprintf(port, sizeof(port), "%u", p->port);
	spawn(p, (const char *[]){"/usr/sbin/nats-server", "-a", "127.0.0.1", "-p", port, NULL});
	await_server(p->port);
	p->n_event = (size_t)snprintf(p->event, sizeof(p->event), "PUB %s %zu\r\n%s\r\n", TYPE,
			sizeof(payload) - 1, payload);
	p->delivery = p->n_event + 2; /* "MSG type 1 size" */
	p->publisher = nats_open(p, PUBLISHER, "");
	return true;
}

/* ---- rounds ---- */

static uint64_t cpu_ns(pid_t pid)
{
	struct timespec ts = {0};
	clockid_t clock;

	must(clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &ts) == 0, "clock");
	return (uint64_t)ts.tv_sec * SN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void go_on(struct peer *p, uint64_t ns)
{
	uint64_t end = sn__clock_mono_ns() + ns;

	while (sn__clock_mono_ns() < end) {
		publish_more(p);
		turn(100);
	}
}

static void measure(struct peer *p, unsigned round)
{
	uint64_t begin, cpu, before, took, end;

	p->published = p->delivered = 0;
	go_on(p, WARM_NS);
	begin = sn__clock_mono_ns();
	cpu = cpu_ns(p->pid);
	before = p->delivered;
	go_on(p, ROUND_NS);
	took = sn__clock_mono_ns() - begin;
	p->rate[round] = (double)(p->delivered - before) * 1e9 / (double)took;
	p->cpu_us[round] = (double)(cpu_ns(p->pid) - cpu) / 1e3 /
			(double)SN_MAX(p->delivered - before, 1u);
	end = sn__clock_mono_ns() + 10 * SN_NS_PER_S;
	while (p->delivered < p->published * p->n) {
		if (sn__clock_mono_ns() >= end) { /* its rules allow it; but it is told */
			print("events", (double)(p->published * p->n - p->delivered) / p->n, "",
					"%u/%s_lost", p->n, p->name);
			break;
		}
		turn(100);
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double values[ROUNDS])
{
	double v[ROUNDS];

	memcpy(v, values, sizeof(v));
	qsort(v, ROUNDS, sizeof(v[0]), by_value);
	return v[ROUNDS / 2];
}

static double ratio(const struct peer *a, const struct peer *b)
{
	double r[ROUNDS];

	for (unsigned i = 0; i < ROUNDS; i++)
		r[i] = a->rate[i] / b->rate[i];
	return median(r);
}

static void fan_out(unsigned n, const bool *runs)
{
	for (unsigned i = 0; i < SN_COUNT(peers); i++)
		for (; runs[i] && peers[i].n < n; peers[i].n++)
			peers[i].subscribe(&peers[i], peers[i].n);
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned i = 0; i < SN_COUNT(peers); i++)
			if (runs[i])
				measure(&peers[i], round);
	for (unsigned i = 0; i < SN_COUNT(peers); i++) {
		if (!runs[i])
			continue;
		print("deliveries/s", median(peers[i].rate), "", "%u/%s", n, peers[i].name);
		print("us/delivery", median(peers[i].cpu_us), "", "%u/%s_cpu", n, peers[i].name);
	}
	if (runs[1])
		print("ratio", ratio(&peers[0], &peers[1]), ">= 1", "%u/of_mosquitto", n);
	if (runs[2])
		print("ratio", ratio(&peers[0], &peers[2]), ">= 0.5", "%u/of_nats", n);
}

static void remove_folder(void)
{
	static const char *const names[] = {"hub.yaml", "mosquitto.conf"};
	char path[64];

	for (unsigned i = 0; i < SN_COUNT(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		(void)unlink(path);
	}
	(void)rmdir(folder);
}

int main(void)
{
	const char *only = getenv("SINEW_BENCH_FANOUT"); /* ours alone, so many: to be profiled */
	uint64_t from = 1, to = SUBSCRIBERS_MAX;
	struct rlimit files;
	bool runs[SN_COUNT(peers)];

	peers[0] = (struct peer){.name = "sinew",
			.start = sinew_start,
			.subscribe = sinew_subscribe,
			.take = take_packages};
	peers[1] = (struct peer){.name = "mosquitto",
			.start = mqtt_start,
			.subscribe = mqtt_subscribe,
			.take = count_bytes};
	peers[2] = (struct peer){.name = "nats",
			.start = nats_start,
			.subscribe = nats_subscribe,
			.take = count_bytes};
	if (only != NULL && sn__json_uint(sn_str_from(only), SUBSCRIBERS_MAX, &from) == 0)
		to = from;
	must(from > 0 && getrlimit(RLIMIT_NOFILE, &files) == 0, "getrlimit");
	files.rlim_cur = files.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit");
	sn__rng_seed(&rng, 1);
	ep = epoll_create1(EPOLL_CLOEXEC);
	must(ep >= 0 && mkdtemp(folder) != NULL, "epoll, folder");
	for (unsigned i = 0; i < SN_COUNT(peers); i++)
		runs[i] = (i == 0 || only == NULL) && peers[i].start(&peers[i]);
	must(runs[0], "no sinew: SINEW_BINARY names it");
	for (unsigned n = (unsigned)from; n <= to; n *= 10)
		fan_out(n, runs);
	stop_all();
	remove_folder();
	return 0;
}
