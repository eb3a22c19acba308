/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs a program to open the library: the time from exec to ready, memory after it and
 * after the first TLS connection. The program measured is this one with the argument "child"; it
 * is linked like any user's, with the shared library.
 */
#include <errno.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <sinew/mesh.h>

#define RUNS 9

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- the program that is measured ---- */

struct memory {
	unsigned rss_kb, dirty_kb;
};

static struct memory memory_now(void)
{
	struct memory m = {0, 0};
	char line[256];
	FILE *f = fopen("/proc/self/smaps_rollup", "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		(void)sscanf(line, "Rss: %u", &m.rss_kb);
		(void)sscanf(line, "Private_Dirty: %u", &m.dirty_kb);
	}
	if (f != NULL)
		fclose(f);
	return m;
}

/* Prints: microseconds of the clock at ready, memory then, memory after a TLS request. */
static int child(const char *port)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_response *res = NULL;
	struct memory before, after;
	struct sn_error *err = NULL;
	struct sn_runtime *rt;
	char config[256];
	uint64_t ready_us;

	snprintf(config, sizeof(config),
			"tls: {verify: false}\npeers: {service: {app: {web: {'1': "
			"{protocol: https, address: 127.0.0.1, port: %s}}}}}\n",
			port);
	opts.config_text = config;
	opts.agent = "";
	if (sn_open(&opts, &rt, &err) < 0 || sn_wait_ready(rt, 5000) < 0)
		return 1;
	ready_us = now_us();
	before = memory_now();
	if (sn_request_wait(rt, "service", "app", "web", NULL, &res, &err) < 0) {
		fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "?");
		return 1;
	}
	after = memory_now();
	printf("%" PRIu64 " %u %u %u %u\n", ready_us, before.rss_kb, before.dirty_kb, after.rss_kb,
			after.dirty_kb);
	return sn_close(rt, NULL, NULL) < 0;
}

/* ---- measuring ---- */

static void answer(struct sn_exchange *x, void *arg)
{
	if (sn_exchange_respond(x, 200, NULL, 0, "hello", 5) < 0)
		fprintf(stderr, "no answer\n");
}

static struct sn_runtime *serve(char *dir, uint16_t *ret_port)
{
	struct sn_http_server_options http = {.size = sizeof(http), .listen = "127.0.0.1:0"};
	struct sn_options opts = SN_OPTIONS_INIT;
	static char cert[128], key[128];
	struct sn_http_server *server;
	struct sn_error *err = NULL;
	struct sn_runtime *rt;
	char command[512];

	snprintf(cert, sizeof(cert), "%s/cert", dir);
	snprintf(key, sizeof(key), "%s/key", dir);
	snprintf(command, sizeof(command),
			"openssl req -x509 -newkey ec -pkeyopt "
			"ec_paramgen_curve:prime256v1 -nodes -subj /CN=bench -days 2 -keyout %s -out %s "
			"2>/dev/null",
			key, cert);
	http.tls_cert = cert;
	http.tls_key = key;
	opts.agent = "";
	if (system(command) != 0 || sn_open(&opts, &rt, &err) < 0 ||
			sn_http_server_open(rt, &http, answer, NULL, &server, &err) < 0) {
		fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "openssl failed");
		exit(1);
	}
	*ret_port = sn_http_server_port(server);
	return rt;
}

static int run(char *self, char *port, unsigned ret_values[5])
{
	char word[] = "child", *argv[] = {self, word, port, NULL}, line[128] = "";
	posix_spawn_file_actions_t actions;
	uint64_t start_us, ready_us;
	int out[2], status;
	extern char **environ;
	ssize_t n;
	pid_t pid;

	if (pipe(out) < 0)
		return -1;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	posix_spawn_file_actions_addclose(&actions, out[0]);
	start_us = now_us();
	if (posix_spawn(&pid, self, &actions, NULL, argv, environ) != 0)
		return -1;
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	n = read(out[0], line, sizeof(line) - 1);
	close(out[0]);
	if (waitpid(pid, &status, 0) != pid || status != 0 || n <= 0)
		return -1;
	if (sscanf(line, "%" SCNu64 " %u %u %u %u", &ready_us, &ret_values[1], &ret_values[2],
			    &ret_values[3], &ret_values[4]) != 5)
		return -1;
	ret_values[0] = (unsigned)(ready_us - start_us);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

static void print(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\": \"footprint.%s\", \"value\": %.4g, \"unit\": \"%s\", \"want\": \"%s\"}\n",
			name, value, unit, want);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name, *unit, *want;
		double scale;
	} rows[] = {
			{"ready", "ms", "<= 15", 1000},
			{"rss", "MB", "<= 5", 1024},
			{"private-dirty", "MB", "<= 1", 1024},
			{"tls.rss", "MB", "<= 10", 1024},
			{"tls.private-dirty", "MB", "<= 3", 1024},
	};
	unsigned values[5][RUNS], one[5];
	char dir[] = "/tmp/sinew-footprint-XXXXXX", port[16], path[64];
	struct sn_runtime *rt;
	uint16_t p;

	if (argc == 3 && strcmp(argv[1], "child") == 0)
		return child(argv[2]);
	if (mkdtemp(dir) == NULL)
		return 1;
	rt = serve(dir, &p);
	snprintf(port, sizeof(port), "%u", p);
	for (int i = 0; i < RUNS; i++) {
		if (run(argv[0], port, one) < 0)
			return 1;
		for (int k = 0; k < 5; k++)
			values[k][i] = one[k];
	}
	for (int k = 0; k < 5; k++) {
		qsort(values[k], RUNS, sizeof(unsigned), by_value);
		print(rows[k].name, values[k][RUNS / 2] / rows[k].scale, rows[k].unit,
				rows[k].want);
	}
	snprintf(path, sizeof(path), "%s/cert", dir);
	remove(path);
	snprintf(path, sizeof(path), "%s/key", dir);
	remove(path);
	rmdir(dir);
	return sn_close(rt, NULL, NULL) < 0;
}
