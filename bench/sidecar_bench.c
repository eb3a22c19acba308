/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sidecar's hop beside HAProxy and nginx doing the same: client -> proxy -> nginx with canned
 * answers. The proxy has core 0 for itself (one thread each), client and backend share the other.
 * Rounds by turns; the ratio of each round is taken and their median counts, for this machine may be
 * busy with other things: the load average is printed. CPU a request is of the proxy's process, and is
 * what noise spoils least. SINEW_BENCH_ROUNDS (3), SINEW_BENCH_SECONDS (2) of each measurement.
 * "serve" only starts everything, prints the addresses and waits to be killed, for a profiler.
 */
#include <ctype.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "nginx.h"

#define ROUNDS_MAX 20
#define CONNECTIONS 64

enum { SINEW, HAPROXY, NGINX, PROXIES };

static struct proxy {
	const char *name;
	pid_t pid, worker; /* worker: whose time is counted */
	uint16_t port, port_h2;
	bool there;
} proxies[PROXIES] = {{.name = "sinew"}, {.name = "haproxy"}, {.name = "nginx"}};

static char dir[] = "/tmp/sinew-sidecar-XXXXXX";
static pid_t backend;
static uint16_t backend_port;

struct figures {
	double rate, p99_us, cpu_us;
};

/* ---- files and processes ---- */

static void kill_all(void)
{
	char command[80];
	pid_t pids[PROXIES + 1] = {proxies[0].pid, proxies[1].pid, proxies[2].pid, backend};

	for (int i = 0; i < PROXIES + 1; i++) {
		if (pids[i] > 0) {
			(void)kill(pids[i], SIGTERM);
			(void)waitpid(pids[i], NULL, 0);
		}
	}
	(void)snprintf(command, sizeof command, "rm -rf %s", dir);
	if (system(command) != 0)
		(void)fprintf(stderr, "%s stays\n", dir);
}

static void die(const char *what)
{
	(void)fprintf(stderr, "sidecar_bench: %s: %s\n", what, strerror(errno));
	kill_all();
	_Exit(1);
}

static FILE *create(const char *name)
{
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "we");
	if (f == NULL)
		die(path);
	return f;
}

static void fill(const char *name, size_t size)
{
	FILE *f = create(name);

	for (size_t i = 0; i < size; i++)
		(void)fputc("0123456789abcdef"[i & 15], f);
	(void)fclose(f);
}

static pid_t spawn(char *const argv[], int cpu, uint16_t port)
{
	extern char **environ;
	struct timespec ms = {0, 2000000};
	posix_spawn_file_actions_t quiet;
	char path[128];
	pid_t pid;

	(void)snprintf(path, sizeof path, "%s/log", dir);
	(void)posix_spawn_file_actions_init(&quiet);
	(void)posix_spawn_file_actions_addopen(
			&quiet, 2, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	nginx_pin(0, cpu); /* inherited */
	if (posix_spawnp(&pid, argv[0], &quiet, NULL, argv, environ) != 0)
		pid = -1;
	nginx_pin(0, 1);
	(void)posix_spawn_file_actions_destroy(&quiet);
	for (int i = 0; pid > 0 && i < 2500; i++) {
		if (nginx_can_connect(port))
			return pid;
		(void)nanosleep(&ms, NULL); /* a bench, not a test */
	}
	return pid;
}

static bool has(const char *program)
{
	char command[80];

	(void)snprintf(command, sizeof command,
			"PATH=$PATH:/usr/sbin command -v %s >/dev/null 2>&1", program);
	return system(command) == 0;
}

/* The only child of @pid, or itself. */
static pid_t worker_of(pid_t pid)
{
	char path[64], text[64] = "";
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "re");
	if (f != NULL) {
		if (fgets(text, sizeof text, f) == NULL)
			text[0] = '\0';
		(void)fclose(f);
	}
	return text[0] != '\0' ? (pid_t)strtol(text, NULL, 10) : pid;
}

/* ---- nginx twice, HAProxy, sinew ---- */

static void nginx_head(FILE *f, const char *name)
{
	(void)fprintf(f,
			"daemon off;\nworker_processes 1;\npid %s/%s.pid;\nerror_log %s/%s.log crit;\n"
			"events { worker_connections 4096; }\n"
			"http {\n access_log off;\n keepalive_requests 1000000000;\n"
			" keepalive_timeout 60;\n client_max_body_size 0;\n"
			" client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f;\n"
			" uwsgi_temp_path %s/u; scgi_temp_path %s/s;\n",
			dir, name, dir, name, dir, dir, dir, dir, dir);
}

static pid_t nginx_spawn(const char *name, int cpu, uint16_t port)
{
	char prog[] = "nginx", opt_p[] = "-p", opt_c[] = "-c", conf[128];
	char *argv[] = {prog, opt_p, dir, opt_c, conf, NULL};

	(void)snprintf(conf, sizeof conf, "%s/%s.conf", dir, name);
	return spawn(argv, cpu, port);
}

static void start_backend(void)
{
	FILE *f = create("backend.conf");

	backend_port = nginx_free_port();
	nginx_head(f, "backend");
	(void)fprintf(f,
			" sendfile on;\n tcp_nopush on;\n open_file_cache max=10 inactive=1h;\n"
			" open_file_cache_valid 1h;\n types {} default_type text/plain;\n"
			" server {\n  listen 127.0.0.1:%u backlog=4096;\n  root %s;\n"
			"  location /post { client_body_buffer_size 128k; return 200 \"thanks\"; }\n"
			"  location / {} }\n}\n",
			(unsigned)backend_port, dir);
	(void)fclose(f);
	fill("small", 60);
	fill("1k", 1024);
	fill("64k", 65536);
	backend = nginx_spawn("backend", 1, backend_port);
	if (backend < 0)
		die("nginx");
}

static void start_nginx(struct proxy *p)
{
	FILE *f = create("proxy.conf");

	p->port_h2 = nginx_free_port();
	nginx_head(f, "proxy");
	(void)fprintf(f,
			" upstream u { server 127.0.0.1:%u; keepalive 64; keepalive_requests "
			"1000000000; }\n"
			" server {\n  listen 127.0.0.1:%u;\n  listen 127.0.0.1:%u http2;\n"
			"  location / { proxy_pass http://u; proxy_http_version 1.1;\n"
			"   proxy_request_buffering off; proxy_set_header Connection \"\"; }\n }\n}\n",
			(unsigned)backend_port, (unsigned)p->port, (unsigned)p->port_h2);
	(void)fclose(f);
	p->pid = nginx_spawn("proxy", 0, p->port);
}

static void start_haproxy(struct proxy *p)
{
	char prog[] = "haproxy", opt[] = "-f", db[] = "-db", conf[128];
	char *argv[] = {prog, db, opt, conf, NULL};
	FILE *f = create("haproxy.conf");

	p->port_h2 = nginx_free_port();
	(void)fprintf(f,
			"global\n nbthread 1\n maxconn 4096\ndefaults\n mode http\n timeout client 60s\n"
			" timeout server 60s\n timeout connect 5s\n http-reuse always\n"
			"frontend a\n bind 127.0.0.1:%u\n default_backend b\n"
			"frontend h2\n bind 127.0.0.1:%u proto h2\n default_backend b\n"
			"backend b\n server s 127.0.0.1:%u\n",
			(unsigned)p->port, (unsigned)p->port_h2, (unsigned)backend_port);
	(void)fclose(f);
	(void)snprintf(conf, sizeof conf, "%s/haproxy.conf", dir);
	p->pid = spawn(argv, 0, p->port);
}

static void start_sinew(struct proxy *p)
{
	char binary[512], run[] = "run", conf[128];
	char *argv[] = {binary, run, conf, NULL};
	const char *given = getenv("SINEW_BINARY");
	FILE *f = create("sinew.yaml");

	p->port_h2 = p->port;
	(void)fprintf(f,
			"listen:\n  sidecar: 127.0.0.1:%u\n  admin: unix:%s/admin\n"
			"peers: {service: {app: {web: {'1': {protocol: http, address: 127.0.0.1, port: "
			"%u}}}}}\n",
			(unsigned)p->port, dir, (unsigned)backend_port);
	(void)fclose(f);
	(void)snprintf(conf, sizeof conf, "%s/sinew.yaml", dir);
	(void)snprintf(binary, sizeof binary, "%s", given != NULL ? given : "build-bench/sinew");
	p->pid = spawn(argv, 0, p->port);
}

static void start_all(void)
{
	static void (*const start[PROXIES])(struct proxy *) = {
			start_sinew, start_haproxy, start_nginx};
	struct timespec ms = {0, 2000000};

	if (mkdtemp(dir) == NULL || chmod(dir, 0755) < 0 || setenv("XDG_STATE_HOME", dir, 1) < 0)
		die("mkdtemp");
	nginx_pin(0, 1);
	start_backend();
	for (int i = 0; i < PROXIES; i++) {
		struct proxy *p = &proxies[i];

		if (i == HAPROXY && !has("haproxy"))
			continue;
		p->port = nginx_free_port();
		start[i](p);
		if (p->pid < 0 || !nginx_can_connect(p->port))
			die(p->name);
		for (int t = 0; t < 100 && (p->worker = worker_of(p->pid)) == p->pid && i == NGINX;
				t++)
			(void)nanosleep(&ms, NULL);
		p->there = true;
	}
}

/* ---- the clients ---- */

static double cpu_ticks(pid_t pid)
{
	char path[64], text[512];
	unsigned long user = 0, system = 0;
	const char *at;
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	at = fgets(text, sizeof text, f) != NULL ? strrchr(text, ')') : NULL;
	if (at != NULL)
		(void)sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
				&system);
	(void)fclose(f);
	return (double)(user + system) * 1e6 / (double)sysconf(_SC_CLK_TCK);
}

static int seconds = 2;

static double microseconds(const char *text)
{
	char *unit;
	double v = strtod(text, &unit);

	return strncmp(unit, "us", 2) == 0 ? v : strncmp(unit, "ms", 2) == 0 ? v * 1e3 : v * 1e6;
}

static double wrk(const char *url, const char *script, double *ret_p99_us)
{
	char command[400], line[256];
	double rate = 0;
	FILE *f;

	(void)snprintf(command, sizeof command, "wrk -t1 -c%d -d%ds --latency %s %s%s '%s'",
			CONNECTIONS, seconds, script != NULL ? "-s" : "", dir,
			script != NULL ? script : "", url);
	if (script == NULL)
		(void)snprintf(command, sizeof command, "wrk -t1 -c%d -d%ds --latency '%s'",
				CONNECTIONS, seconds, url);
	f = popen(command, "re");
	if (f == NULL)
		die("popen");
	while (fgets(line, sizeof line, f) != NULL) {
		const char *at = line + strspn(line, " ");

		if (strncmp(at, "99%", 3) == 0)
			*ret_p99_us = microseconds(at + 3);
		if (strncmp(at, "Requests/sec:", 13) == 0)
			rate = strtod(at + 13, NULL);
		if (strncmp(at, "Non-2xx", 7) == 0 || strncmp(at, "Socket errors", 13) == 0) {
			(void)fprintf(stderr, "%s: %s", url, line);
			die("wrk got errors");
		}
	}
	if (pclose(f) != 0 || rate <= 0)
		die("wrk");
	return rate;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* h2load writes the time of each request into a file. */
static double p99_of_file(const char *path)
{
	static double values[1000000];
	char line[128];
	size_t n = 0;
	FILE *f = fopen(path, "re");

	while (f != NULL && n < sizeof values / sizeof values[0] &&
			fgets(line, sizeof line, f) != NULL) {
		char *tab = strrchr(line, '\t');

		if (tab != NULL)
			values[n++] = strtod(tab + 1, NULL);
	}
	if (f != NULL)
		(void)fclose(f);
	(void)remove(path);
	qsort(values, n, sizeof values[0], by_value);
	return n > 0 ? values[n * 99 / 100] : 0;
}

static double h2load(const char *url, double *ret_p99_us)
{
	char command[400], line[256], log[128];
	double rate = 0;
	FILE *f;

	(void)snprintf(log, sizeof log, "%s/h2load.log", dir);
	(void)snprintf(command, sizeof command,
			"h2load -c8 -m%d -D%d --log-file=%s '%s' 2>/dev/null", CONNECTIONS / 8,
			seconds, log, url);
	f = popen(command, "re");
	if (f == NULL)
		die("popen");
	while (fgets(line, sizeof line, f) != NULL) {
		const char *at = strstr(line, "finished in ");

		if (at != NULL && (at = strstr(at, "s, ")) != NULL)
			rate = strtod(at + 3, NULL);
		at = strstr(line, "2xx, ");
		if (at != NULL && strcmp(at, "2xx, 0 3xx, 0 4xx, 0 5xx\n") != 0)
			die("h2load got errors");
	}
	if (pclose(f) != 0 || rate <= 0)
		die("h2load");
	*ret_p99_us = p99_of_file(log);
	return rate;
}

static const struct scene {
	const char *name, *path;
	const char *script; /* of wrk; NULL: plain GET */
	size_t body;
	bool h2;
} scenes[] = {
		{.name = "small", .path = "/small"},
		{.name = "1k", .path = "/1k"},
		{.name = "64k", .path = "/64k"},
		{.name = "post_1k", .path = "/post", .script = "/post_1k.lua", .body = 1024},
		{.name = "post_64k", .path = "/post", .script = "/post_64k.lua", .body = 65536},
		{.name = "h2", .path = "/small", .h2 = true},
		{.name = "h2_64k", .path = "/64k", .h2 = true},
};

static struct figures measure(const struct proxy *p, const struct scene *s)
{
	struct figures v = {0};
	double before;
	char url[128];

	(void)snprintf(url, sizeof url, "http://127.0.0.1:%u%s%s",
			(unsigned)(s->h2 ? p->port_h2 : p->port),
			p == &proxies[SINEW] ? "/call/service/app/web" : "", s->path);
	before = cpu_ticks(p->worker);
	v.rate = s->h2 ? h2load(url, &v.p99_us) : wrk(url, s->script, &v.p99_us);
	v.cpu_us = (cpu_ticks(p->worker) - before) / (v.rate * seconds);
	return v;
}

static void write_script(const struct scene *s)
{
	FILE *f = create(s->script + 1);

	(void)fprintf(f, "wrk.method = 'POST'\nwrk.body = string.rep('x', %zu)\n", s->body);
	(void)fclose(f);
}

/* ---- the whole ---- */

static void print(const char *scene, const char *what, double value, const char *unit,
		const char *want)
{
	(void)printf("{\"name\": \"sidecar/%s.%s\", \"value\": %.4g, \"unit\": \"%s\", \"want\": "
		     "\"%s\"}\n",
			scene, what, value, unit, want);
	(void)fflush(stdout);
}

static double median(double *values, int n)
{
	qsort(values, (size_t)n, sizeof *values, by_value);
	return n % 2 != 0 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

#define MEDIAN(expression) \
	(__extension__({ \
		double values_[ROUNDS_MAX]; \
		for (int i = 0; i < rounds; i++) \
			values_[i] = (expression); \
		median(values_, rounds); \
	}))

static void scene_run(const struct scene *s, int rounds)
{
	static struct figures of[PROXIES][ROUNDS_MAX];
	const struct figures *us = of[SINEW], *ha = of[HAPROXY], *ng = of[NGINX];
	char what[40];

	if (s->script != NULL)
		write_script(s);
	for (int i = 0; i < rounds; i++)
		for (int k = 0; k < PROXIES; k++)
			if (proxies[k].there)
				of[k][i] = measure(&proxies[k], s);
	for (int k = 0; k < PROXIES; k++) {
		if (!proxies[k].there)
			continue;
		(void)snprintf(what, sizeof what, "%s", proxies[k].name);
		print(s->name, what, MEDIAN(of[k][i].rate), "1/s", "");
		(void)snprintf(what, sizeof what, "%s_p99", proxies[k].name);
		print(s->name, what, MEDIAN(of[k][i].p99_us), "us", "");
		(void)snprintf(what, sizeof what, "%s_cpu", proxies[k].name);
		print(s->name, what, MEDIAN(of[k][i].cpu_us), "us", "");
	}
	if (proxies[HAPROXY].there) {
		print(s->name, "of_haproxy", MEDIAN(us[i].rate / ha[i].rate), "", ">= 1");
		print(s->name, "cpu_of_haproxy", MEDIAN(us[i].cpu_us / ha[i].cpu_us), "", "");
	}
	print(s->name, "of_nginx", MEDIAN(us[i].rate / ng[i].rate), "", ">= 0.85");
	print(s->name, "p99_of_nginx", MEDIAN(us[i].p99_us / ng[i].p99_us), "", "<= 1");
	print(s->name, "cpu_of_nginx", MEDIAN(us[i].cpu_us / ng[i].cpu_us), "", "");
}

static int number(const char *name, int otherwise)
{
	const char *text = getenv(name);
	long n = text != NULL ? strtol(text, NULL, 10) : otherwise;

	return n < 1 ? 1 : n > ROUNDS_MAX ? ROUNDS_MAX : (int)n;
}

int main(int argc, char **argv)
{
	int rounds = number("SINEW_BENCH_ROUNDS", 3);
	double load[1] = {0};

	if (!has("wrk") || !has("nginx") || !has("h2load")) {
		(void)printf("{\"name\": \"sidecar\", \"value\": 0, \"unit\": \"no wrk, nginx or "
			     "h2load\"}\n");
		return 0;
	}
	seconds = number("SINEW_BENCH_SECONDS", 2);
	start_all();
	if (argc > 1 && strcmp(argv[1], "serve") == 0) {
		for (int k = 0; k < PROXIES; k++)
			(void)printf("%s %d http://127.0.0.1:%u\n", proxies[k].name,
					(int)proxies[k].worker, (unsigned)proxies[k].port);
		(void)fflush(stdout);
		(void)pause();
	}
	if (getloadavg(load, 1) == 1)
		print("machine", "load", load[0], "", "");
	for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
		if (argc < 2 || strcmp(argv[1], scenes[i].name) == 0)
			scene_run(&scenes[i], rounds);
	}
	if (getloadavg(load, 1) == 1)
		print("machine", "load_after", load[0], "", "");
	kill_all();
	return 0;
}
