/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests a second over HTTP/2: h2load asks our server and one nghttpd for the same 60 bytes by
 * turns, 64 streams on one and on eight connections. The server and h2load have a core each. With
 * "serve" ours only runs until it is killed, for a profiler.
 */
#include <spawn.h>

#include "base/mem.h"
#include "base/time.h"
#include "io/http_server.h"
#include "nginx.h"

#define STREAMS 64
#define ROUNDS 5

static const char answer[] = "012345678901234567890123456789012345678901234567890123456789";

static struct {
	pid_t pid;
	uint16_t port;
	char dir[64], file[80];
} theirs;
static struct {
	pid_t pid;
	uint16_t port;
} ours;

static void stop(void)
{
	pid_t pids[] = {theirs.pid, ours.pid};

	for (int i = 0; i < 2; i++) {
		if (pids[i] > 0) {
			(void)kill(pids[i], SIGKILL);
			(void)waitpid(pids[i], NULL, 0);
		}
	}
	(void)unlink(theirs.file);
	(void)rmdir(theirs.dir);
}

static void die(const char *what)
{
	(void)fprintf(stderr, "h2_server_bench: %s\n", what);
	stop();
	_Exit(1);
}

/* ---- the servers ---- */

static void handler(struct sn_exchange *x, void *arg)
{
	static const struct sn_header type = {"Content-Type", "text/plain"};

	if (sn_exchange_respond(x, 200, &type, 1, answer, sizeof answer - 1) < 0)
		sn_exchange_abort(x);
}

static void serve(int ready)
{
	struct sn_http_server_config config = {0};
	struct sn_http_server *server;
	struct sn_loop *loop;
	uint16_t port;

	if (sn__loop_uv_open(NULL, &loop, NULL) < 0 ||
			sn__addr_parse_listen(SN_STR("127.0.0.1:0"), &config.addr, NULL) < 0 ||
			sn__http_server_open(loop, &config, handler, NULL, &server, NULL) < 0)
		_exit(1);
	port = sn__addr_port(sn__http_server_addr(server));
	if (ready < 0)
		(void)printf("http://127.0.0.1:%u/f\n", (unsigned)port);
	else if (write(ready, &port, sizeof port) != sizeof port)
		_exit(1);
	(void)fflush(stdout);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	_exit(0);
}

static void ours_start(void)
{
	int fds[2];

	if (pipe(fds) < 0)
		die("pipe");
	ours.pid = fork();
	if (ours.pid == 0)
		serve(fds[1]);
	if (read(fds[0], &ours.port, sizeof ours.port) != sizeof ours.port)
		die("server");
}

static bool theirs_start(void)
{
	extern char **environ;
	char prog[] = "nghttpd", plain[] = "--no-tls", dir[] = "-d", at[] = "-a",
	     host[] = "127.0.0.1", port[8];
	char *argv[] = {prog, plain, at, host, dir, theirs.dir, port, NULL};
	struct timespec ms = {0, 10000000};
	FILE *f;

	(void)snprintf(theirs.dir, sizeof theirs.dir, "/tmp/sinew-nghttpd-XXXXXX");
	if (mkdtemp(theirs.dir) == NULL)
		return false;
	(void)snprintf(theirs.file, sizeof theirs.file, "%s/f", theirs.dir);
	f = fopen(theirs.file, "we");
	if (f == NULL || fputs(answer, f) < 0 || fclose(f) != 0)
		return false;
	theirs.port = nginx_free_port();
	(void)snprintf(port, sizeof port, "%u", (unsigned)theirs.port);
	if (posix_spawnp(&theirs.pid, "nghttpd", NULL, NULL, argv, environ) != 0)
		return false;
	for (int i = 0; i < 500; i++) {
		if (nginx_can_connect(theirs.port))
			return true;
		(void)nanosleep(&ms, NULL); /* a bench, not a test */
	}
	return false;
}

/* ---- h2load ---- */

static double h2load(uint16_t port, unsigned conns)
{
	char command[160], line[256];
	const char *at;
	double rate = 0;
	FILE *f;

	(void)snprintf(command, sizeof command,
			"h2load -c%u -m%d -D1 http://127.0.0.1:%u/f 2>/dev/null", conns, STREAMS,
			(unsigned)port);
	f = popen(command, "re");
	if (f == NULL)
		die("popen");
	while (fgets(line, sizeof line, f) != NULL) {
		at = strstr(line, "finished in ");
		if (at != NULL && (at = strstr(at, "s, ")) != NULL)
			rate = strtod(at + 3, NULL);
		at = strstr(line, "2xx, ");
		if (at != NULL && strcmp(at, "2xx, 0 3xx, 0 4xx, 0 5xx\n") != 0)
			die("h2load got errors");
	}
	if (pclose(f) != 0 || rate <= 0)
		die("h2load");
	return rate;
}

static void print(
		const char *name, unsigned conns, double value, const char *unit, const char *want)
{
	(void)printf("{\"name\": \"h2_server/%s_%u\", \"value\": %.4g, \"unit\": \"%s\", "
		     "\"want\": \"%s\"}\n",
			name, conns, value, unit, want);
}

int main(int argc, char **argv)
{
	static const unsigned conns[] = {1, 8};

	if (argc > 1 && strcmp(argv[1], "serve") == 0)
		serve(-1);
	if (system("h2load --version >/dev/null 2>&1") != 0) {
		(void)printf("{\"name\": \"h2_server\", \"value\": 0, \"unit\": \"no h2load\"}\n");
		return 0;
	}
	nginx_pin(0, 0); /* inherited */
	if (!theirs_start())
		die("nghttpd");
	ours_start();
	nginx_pin(0, 1);
	for (size_t i = 0; i < SN_COUNT(conns); i++) {
		double us = 0, them = 0, v;

		for (int round = 0; round < ROUNDS; round++) {
			v = h2load(ours.port, conns[i]);
			us = SN_MAX(us, v);
			v = h2load(theirs.port, conns[i]);
			them = SN_MAX(them, v);
		}
		print("requests", conns[i], us, "1/s", "");
		print("nghttpd", conns[i], them, "1/s", "");
		print("of_nghttpd", conns[i], us / them, "", ">= 0.8");
	}
	stop();
	return 0;
}
