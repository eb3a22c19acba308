/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests a second over HTTP/2, 64 streams on one connection to one nghttpd, by turns in one run:
 * h2load, our client alone, and sn_request with everything the mesh adds. The server and the client
 * have a core each. With the name of one of ours only that one runs.
 */
#include <spawn.h>
#include <uv.h>

#include <sinew/mesh.h>

#include "base/mem.h"
#include "base/time.h"
#include "io/http.h"
#include "nginx.h"

#define STREAMS 64
#define ROUNDS 7
#define ROUND_NS SN_NS_PER_S

static struct {
	pid_t pid;
	uint16_t port;
	char dir[64], file[80];
} server;
static uint64_t n_done;
static bool over;

static void server_stop(void)
{
	if (server.pid > 0) {
		(void)kill(server.pid, SIGTERM);
		(void)waitpid(server.pid, NULL, 0);
	}
	(void)unlink(server.file);
	(void)rmdir(server.dir);
}

static void die(const char *what)
{
	(void)fprintf(stderr, "h2_client_bench: %s\n", what);
	server_stop();
	_Exit(1);
}

static bool server_start(void)
{
	extern char **environ;
	char prog[] = "nghttpd", plain[] = "--no-tls", dir[] = "-d", at[] = "-a",
	     host[] = "127.0.0.1", port[8];
	char *argv[] = {prog, plain, at, host, dir, server.dir, port, NULL};
	struct timespec ms = {0, 10000000};
	FILE *f;

	(void)snprintf(server.dir, sizeof server.dir, "/tmp/sinew-nghttpd-XXXXXX");
	if (mkdtemp(server.dir) == NULL)
		return false;
	(void)snprintf(server.file, sizeof server.file, "%s/f", server.dir);
	f = fopen(server.file, "we");
	if (f == NULL ||
			fputs("012345678901234567890123456789012345678901234567890123456789", f) <
					0 ||
			fclose(f) != 0)
		return false;
	server.port = nginx_free_port();
	(void)snprintf(port, sizeof port, "%u", (unsigned)server.port);
	nginx_pin(0, 0); /* inherited */
	if (posix_spawnp(&server.pid, "nghttpd", NULL, NULL, argv, environ) != 0)
		return false;
	nginx_pin(0, 1);
	for (int i = 0; i < 500; i++) {
		if (nginx_can_connect(server.port))
			return true;
		(void)nanosleep(&ms, NULL); /* a bench, not a test */
	}
	return false;
}

/* ---- h2load ---- */

static double h2load(void)
{
	char command[160], line[256];
	const char *at;
	double rate = 0;
	FILE *f;

	(void)snprintf(command, sizeof command,
			"h2load -c1 -m%d -D1 http://127.0.0.1:%u/f 2>/dev/null", STREAMS,
			(unsigned)server.port);
	f = popen(command, "re");
	if (f == NULL)
		die("popen");
	while (fgets(line, sizeof line, f) != NULL) {
		at = strstr(line, "finished in ");
		if (at != NULL && (at = strstr(at, "s, ")) != NULL)
			rate = strtod(at + 3, NULL);
	}
	if (pclose(f) != 0 || rate <= 0)
		die("h2load");
	return rate;
}

/* ---- our client ---- */

static struct sn_http_req reqs[STREAMS];
static struct sn_loop *our_loop;
static struct sn_http_pool *our_pool;
static struct sn_http_dest *our_dest;
static unsigned n_busy;

static void our_send(struct sn_http_req *req)
{
	n_busy++;
	if (sn__http_start(our_dest, req, NULL) < 0)
		die("sn__http_start");
}

static void our_done(struct sn_http_req *req)
{
	if (req->result.code != 0 || req->result.status != 200)
		die(req->result.detail);
	n_busy--;
	n_done++;
	if (!over)
		our_send(req);
}

static void our_open(void)
{
	static const struct sn_http_req_ops ops = {.on_done = our_done};
	struct sn_http_dest_options d = {
			.host = "127.0.0.1", .port = server.port, .version = SN_HTTP_2};

	if (sn__loop_uv_open(NULL, &our_loop, NULL) < 0 ||
			sn__http_pool_create(our_loop, NULL, &our_pool) < 0 ||
			sn__http_dest_create(our_pool, &d, &our_dest) < 0)
		die("sn__http_pool_create");
	for (int i = 0; i < STREAMS; i++) {
		reqs[i].ops = &ops;
		reqs[i].method = SN_STR("GET");
		reqs[i].target = SN_STR("/f");
	}
}

static void our_start(int i)
{
	our_send(&reqs[i]);
}

static void our_turn(void)
{
	(void)sn__loop_run(our_loop, SN_RUN_ONCE);
}

/* ---- sn_request ---- */

static uv_loop_t call_loop;
static struct sn_runtime *rt;

static void call_done(const struct sn_response *res, const struct sn_error *err, void *arg);

static void call_start(int i)
{
	static struct sn_request_options opts = SN_REQUEST_INIT;

	opts.url = "/f";
	n_busy++;
	if (sn_request(rt, "service", "app", "web", &opts, call_done, NULL, NULL, NULL) < 0)
		die("sn_request");
}

static void call_done(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	if (err != NULL)
		die(sn_error_text(err));
	n_busy--;
	n_done++;
	if (!over)
		call_start(0);
}

static void call_open(void)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;
	char config[160];

	(void)snprintf(config, sizeof config,
			"peers: {service: {app: {web: {'1': {protocol: h2, address: 127.0.0.1, "
			"port: %u}}}}}\n",
			(unsigned)server.port);
	(void)uv_loop_init(&call_loop);
	opts.mode = SN_MODE_UV;
	opts.uv_loop = &call_loop;
	opts.config_text = config;
	opts.agent = "";
	if (sn_open(&opts, &rt, &err) < 0)
		die(err != NULL ? sn_error_text(err) : "sn_open");
}

static void call_turn(void)
{
	(void)uv_run(&call_loop, UV_RUN_ONCE);
}

/* ---- rounds ---- */

struct way {
	const char *name;
	void (*open)(void);
	void (*start)(int i);
	void (*turn)(void);
	double ratio[ROUNDS];
};

static double run(const struct way *way)
{
	uint64_t start_ns = sn__clock_mono_ns(), end_ns = start_ns + ROUND_NS, now_ns;

	n_done = 0;
	over = false;
	for (int i = 0; i < STREAMS; i++)
		way->start(i);
	do {
		way->turn();
		now_ns = sn__clock_mono_ns();
	} while (now_ns < end_ns);
	over = true;
	while (n_busy > 0)
		way->turn();
	return (double)n_done * 1e9 / (double)(sn__clock_mono_ns() - start_ns);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof *v, by_value);
	return v[ROUNDS / 2];
}

static void report(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\":\"h2_client: %s\",\"value\":%.2f,\"unit\":\"%s\",\"want\":\"%s\"}\n",
			name, value, unit, want);
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	struct way ways[] = {{"client", our_open, our_start, our_turn, {0}},
			{"sn_request", call_open, call_start, call_turn, {0}}};
	double base[ROUNDS], rate[SN_COUNT(ways)][ROUNDS];
	char name[64];

	if (!server_start())
		die("no nghttpd");
	for (size_t i = 0; i < SN_COUNT(ways); i++)
		ways[i].open();
	for (int k = 0; k < ROUNDS; k++) {
		if (argc < 2)
			base[k] = h2load();
		for (size_t i = 0; i < SN_COUNT(ways); i++) {
			if (argc > 1 && strcmp(argv[1], ways[i].name) != 0)
				continue;
			rate[i][k] = run(&ways[i]);
			ways[i].ratio[k] = argc > 1 ? 0 : rate[i][k] / base[k];
			if (argc > 1)
				printf("%s: %.0f\n", ways[i].name, rate[i][k]);
		}
	}
	server_stop();
	if (argc > 1)
		return 0;
	report("h2load", median(base), "requests/s", "");
	for (size_t i = 0; i < SN_COUNT(ways); i++) {
		(void)snprintf(name, sizeof name, "%s", ways[i].name);
		report(name, median(rate[i]), "requests/s", "");
		(void)snprintf(name, sizeof name, "%s to h2load", ways[i].name);
		report(name, median(ways[i].ratio), "ratio", ">= 0.8");
	}
	return 0;
}
