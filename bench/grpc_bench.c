/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unary gRPC calls of 32 bytes, our client against our server, as programs use them (sinew/grpc.h,
 * sn_open()): 1 and 8 connections x 64 calls at once. Beside it h2load against nghttpd in the same run:
 * a POST of the same bytes, an answer of the same bytes with trailers. Server and client are processes
 * of their own on a core each. On a busy machine the rates say little; processor time a call (client
 * and server) is told beside them.
 */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "nginx.h" /* pinning, a free port */

#include <stdatomic.h>
#include <sys/resource.h>

#include <sinew/grpc.h>

#define STREAMS 64
#define CALLS_MAX (8 * STREAMS)
#define ROUND_S 1
#define ROUNDS 3

static const char message[] = "01234567890123456789012345678901"; /* 32 */

static void die(const char *what)
{
	(void)fprintf(stderr, "grpc_bench: %s failed\n", what);
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void rest(double seconds)
{
	struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};

	(void)nanosleep(&t, NULL);
}

/* Processor time of a process, of its children that ended with @pid -1. */
static double cpu_s(pid_t pid)
{
	struct timespec t = {0, 0};
	struct rusage u;
	clockid_t id;

	if (pid != -1) {
		if (clock_getcpuclockid(pid, &id) == 0)
			(void)clock_gettime(id, &t);
		return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	}
	(void)getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
			(double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* One round: calls a second, processor time a call. */
struct result {
	double rate, client_us, server_us;
};

/* The better of both, each figure for itself. */
static void result_keep(struct result *best, const struct result *r)
{
	if (r->rate == 0)
		return;
	if (best->rate == 0)
		*best = *r;
	best->rate = r->rate > best->rate ? r->rate : best->rate;
	best->client_us = r->client_us < best->client_us ? r->client_us : best->client_us;
	best->server_us = r->server_us < best->server_us ? r->server_us : best->server_us;
}

/* ---- the server, in a process of its own ---- */

static void echo(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *b = request;

	if (sn_grpc_exchange_send(x, NULL, b->data, b->size) == 0)
		sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
	else
		sn_grpc_exchange_finish(x, SN_GRPC_INTERNAL, NULL, NULL, 0);
}

static void serve(int ready)
{
	static const struct sn_grpc_method methods[] = {{.name = "Echo", .start = echo}};
	static const struct sn_grpc_service service = {.size = sizeof(service),
			.name = "bench.Bench",
			.methods = methods,
			.n_methods = 1};
	static const struct sn_grpc_service *const services[] = {&service, NULL};
	struct sn_grpc_server_options o = {
			.size = sizeof(o), .listen = "127.0.0.1:0", .services = services};
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_grpc_server *server;
	struct sn_runtime *rt;
	uint16_t port;

	opts.agent = "";
	if (sn_open(&opts, &rt, NULL) < 0 || sn_grpc_server_open(rt, &o, &server, NULL) < 0)
		_exit(1);
	port = sn_grpc_server_port(server);
	if (write(ready, &port, sizeof(port)) != sizeof(port))
		_exit(1);
	for (;;)
		(void)pause();
}

static pid_t serve_start(uint16_t *ret_port)
{
	int fds[2];
	pid_t pid;

	if (pipe(fds) < 0)
		die("pipe");
	pid = fork();
	if (pid == 0) {
		nginx_pin(0, 0);
		serve(fds[1]);
	}
	if (read(fds[0], ret_port, sizeof(*ret_port)) != sizeof(*ret_port))
		die("the server");
	return pid;
}

/* ---- the client ---- */

struct load {
	struct sn_runtime *rt;
	unsigned in_flight;
	unsigned open; /* calls under way */
	atomic_ulong done;
	atomic_bool stop, idle;
};

static void call(struct load *l);

static void answered(const struct sn_grpc_answer *a, const struct sn_error *err, void *arg)
{
	struct load *l = arg;
	size_t size = 0;

	if (err != NULL) {
		(void)fprintf(stderr, "%s\n", sn_error_text(err));
		die("a call");
	}
	if (sn_grpc_answer_bytes(a, &size) == NULL || size != sizeof(message) - 1)
		die("an answer");
	atomic_fetch_add_explicit(&l->done, 1, memory_order_relaxed);
	l->open--;
	if (!atomic_load_explicit(&l->stop, memory_order_relaxed))
		call(l);
	else if (l->open == 0)
		atomic_store(&l->idle, true);
}

static void call(struct load *l)
{
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;

	o.bytes = message;
	o.bytes_size = sizeof(message) - 1;
	if (sn_grpc_call(l->rt, "service", "bench", NULL, "/bench.Bench/Echo", NULL, &o, answered,
			    l, NULL, NULL) < 0)
		die("sn_grpc_call");
	l->open++;
}

static void begin(struct sn_runtime *rt, void *arg)
{
	struct load *l = arg;

	for (unsigned i = 0; i < l->in_flight; i++)
		call(l);
}

static struct result our_round(uint16_t port, pid_t pid, unsigned connections)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	static struct load l;
	unsigned long before, n;
	double start, client, service;
	char config[400];

	(void)snprintf(config, sizeof(config),
			"peers: {service: {bench: {default: {one: {protocol: grpc, "
			"address: 127.0.0.1, port: %u}}}}}\n"
			"policies: {pool-max: %u, pool-streams: %d}\n",
			(unsigned)port, connections, STREAMS);
	opts.config_text = config;
	opts.agent = "";
	memset(&l, 0, sizeof(l));
	l.in_flight = connections * STREAMS;
	if (sn_open(&opts, &l.rt, NULL) < 0 || sn_wait_ready(l.rt, 1000) < 0 ||
			sn_post(l.rt, begin, &l) < 0)
		die("sn_open");
	rest(0.2);
	before = atomic_load(&l.done);
	start = now_s();
	client = cpu_s(0);
	service = cpu_s(pid);
	rest(ROUND_S);
	n = atomic_load(&l.done) - before;
	start = now_s() - start;
	client = cpu_s(0) - client;
	service = cpu_s(pid) - service;
	atomic_store(&l.stop, true);
	while (!atomic_load(&l.idle))
		rest(0.005);
	(void)sn_close(l.rt, NULL, NULL);
	return (struct result){
			(double)n / start, client / (double)n * 1e6, service / (double)n * 1e6};
}

/* ---- h2load against nghttpd ---- */

struct theirs {
	char dir[64];
	pid_t pid;
	uint16_t port;
};

static void file_put(const char *dir, const char *name, const void *data, size_t size)
{
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0)
		die("a file");
}

static bool theirs_start(struct theirs *t)
{
	extern char **environ;
	char frame[5 + sizeof(message) - 1] = {0, 0, 0, 0, 32};
	char prog[] = "nghttpd", plain[] = "--no-tls", dir[] = "-d", trailer[] = "--trailer",
	     status[] = "grpc-status: 0", port[8];
	char *argv[] = {prog, plain, dir, t->dir, trailer, status, port, NULL};

	(void)snprintf(t->dir, sizeof(t->dir), "/tmp/sinew-nghttpd-XXXXXX");
	if (mkdtemp(t->dir) == NULL)
		die("mkdtemp");
	memcpy(frame + 5, message, sizeof(message) - 1);
	file_put(t->dir, "Echo", frame, sizeof(frame));
	t->port = nginx_free_port();
	(void)snprintf(port, sizeof(port), "%u", (unsigned)t->port);
	nginx_pin(0, 0); /* inherited */
	if (posix_spawnp(&t->pid, "nghttpd", NULL, NULL, argv, environ) != 0)
		t->pid = 0;
	nginx_pin(0, 1);
	for (int i = 0; t->pid > 0 && i < 500; i++) {
		if (nginx_can_connect(t->port))
			return true;
		rest(0.01);
	}
	return false;
}

static void theirs_stop(struct theirs *t)
{
	char path[128];

	if (t->pid > 0) {
		(void)kill(t->pid, SIGKILL);
		(void)waitpid(t->pid, NULL, 0);
	}
	(void)snprintf(path, sizeof(path), "%s/Echo", t->dir);
	(void)remove(path);
	(void)rmdir(t->dir);
}

/* A rate of 0: there is no h2load. */
static struct result their_round(const struct theirs *t, unsigned connections)
{
	double rate = 0, all = 0, ok = -1, client = cpu_s(-1), service = cpu_s(t->pid);
	char command[400], line[200];
	const char *at;
	FILE *p;

	(void)snprintf(command, sizeof(command),
			"h2load -D %d --warm-up-time=200ms -c %u -m %d -d %s/Echo "
			"-H 'te: trailers' -H 'content-type: application/grpc' "
			"-H 'grpc-timeout: 5S' http://127.0.0.1:%u/Echo 2>&1",
			ROUND_S, connections, STREAMS, t->dir, (unsigned)t->port);
	p = popen(command, "re");
	while (p != NULL && fgets(line, sizeof(line), p) != NULL) {
		at = strchr(line, ',');
		if (strncmp(line, "finished in", 11) == 0 && at != NULL)
			rate = strtod(at + 1, NULL);
		if (strncmp(line, "requests:", 9) == 0)
			all = strtod(line + 9, NULL);
		if (strncmp(line, "status codes:", 13) == 0)
			ok = strtod(line + 13, NULL);
	}
	if (p != NULL)
		(void)pclose(p);
	if (all == 0 || ok < all * 0.99)
		return (struct result){0, 0, 0};
	/* The processor time is also of the 0.2 s before, whose requests are not told. */
	all *= (ROUND_S + 0.2) / ROUND_S;
	return (struct result){rate, (cpu_s(-1) - client) / all * 1e6,
			(cpu_s(t->pid) - service) / all * 1e6};
}

static void print(const char *name, double value, const char *unit, const char *want)
{
	(void)printf("{\"name\": \"grpc/%s\", \"value\": %.4g, \"unit\": \"%s\", "
		     "\"want\": \"%s\"}\n",
			name, value, unit, want);
	(void)fflush(stdout);
}

static void print_result(const char *who, unsigned connections, const struct result *r)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "%s_%ux%d", who, connections, STREAMS);
	print(name, r->rate, "1/s", "");
	(void)snprintf(name, sizeof(name), "%s_client_cpu_%ux%d", who, connections, STREAMS);
	print(name, r->client_us, "us", "");
	(void)snprintf(name, sizeof(name), "%s_server_cpu_%ux%d", who, connections, STREAMS);
	print(name, r->server_us, "us", "");
}

static void compare(uint16_t port, pid_t pid, const struct theirs *t /* may be NULL */,
		unsigned connections)
{
	struct result ours = {0, 0, 0}, theirs = {0, 0, 0}, r;
	char name[64];

	for (int i = 0; i < ROUNDS; i++) {
		r = our_round(port, pid, connections);
		result_keep(&ours, &r);
		if (t == NULL)
			continue;
		r = their_round(t, connections);
		result_keep(&theirs, &r);
	}
	print_result("unary", connections, &ours);
	if (theirs.rate == 0)
		return;
	print_result("h2load", connections, &theirs);
	(void)snprintf(name, sizeof(name), "of_h2load_%ux%d", connections, STREAMS);
	print(name, ours.rate / theirs.rate, "", ">= 0.7");
}

int main(void)
{
	struct theirs theirs = {.pid = 0};
	bool have;
	uint16_t port;
	pid_t pid = serve_start(&port);

	have = theirs_start(&theirs);
	nginx_pin(0, 1);
	compare(port, pid, have ? &theirs : NULL, 1);
	compare(port, pid, have ? &theirs : NULL, 8);
	theirs_stop(&theirs);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	return 0;
}
