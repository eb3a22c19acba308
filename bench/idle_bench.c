/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to do nothing: `sinew run` with a sidecar from exec to READY=1, its memory then, and
 * with 10,000 idle connections (each has had one answer); the same of our HTTP server with TLS, in a
 * process of its own. Private memory is what smaps_rollup calls Private_Clean and Private_Dirty. The
 * kernel's socket buffers are not counted.
 */
#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "base/mem.h"
#include "base/time.h"
#include "io/http_server.h"
#include "io/tls.h"
#include "nginx.h"

#define STARTS 9
#define CONNECTIONS 10000

static char dir[] = "/tmp/sinew-idle-XXXXXX";
static pid_t running;

static void clean(void)
{
	char command[80];

	if (running > 0) {
		(void)kill(running, SIGKILL);
		(void)waitpid(running, NULL, 0);
	}
	(void)snprintf(command, sizeof command, "rm -rf %s", dir);
	if (system(command) != 0)
		(void)fprintf(stderr, "%s stays\n", dir);
}

static void die(const char *what)
{
	(void)fprintf(stderr, "idle_bench: %s: %s\n", what, strerror(errno));
	clean();
	_Exit(1);
}

static void print(const char *name, double value, const char *unit, const char *want)
{
	(void)printf("{\"name\": \"idle/%s\", \"value\": %.4g, \"unit\": \"%s\", \"want\": \"%s\"}\n",
			name, value, unit, want);
	(void)fflush(stdout);
}

struct memory {
	long rss_kb, private_kb;
};

static struct memory memory_of(pid_t pid)
{
	struct memory m = {0};
	char path[64], line[256];
	FILE *f;

	(void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		die(path); /* `sinew run` shows its memory to root only */
	while (fgets(line, sizeof line, f) != NULL) {
		if (strncmp(line, "Rss:", 4) == 0)
			m.rss_kb = strtol(line + 4, NULL, 10);
		if (strncmp(line, "Private_Clean:", 14) == 0 ||
				strncmp(line, "Private_Dirty:", 14) == 0)
			m.private_kb += strtol(line + 14, NULL, 10);
	}
	(void)fclose(f);
	return m;
}

/* ---- sinew run ---- */

static int notify_socket(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)snprintf(un.sun_path, sizeof un.sun_path, "%s/notify", dir);
	if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof un) < 0 ||
			setenv("NOTIFY_SOCKET", un.sun_path, 1) < 0)
		die("notify");
	return fd;
}

static void write_config(uint16_t port)
{
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/sinew.yaml", dir);
	f = fopen(path, "we");
	if (f == NULL ||
			fprintf(f,
					"listen: {sidecar: '127.0.0.1:%u', admin: 'unix:%s/admin'}\n"
					"limits: {connections: 20000, idle: 1h, core: true}\n"
					"peers: {service: {app: {web: {'1': {protocol: http, address: 127.0.0.1, "
					"port: 9}}}}}\n",
					(unsigned)port, dir) < 0 ||
			fclose(f) != 0)
		die(path);
}

/* From exec to READY=1. */
static double sinew_start(int notify)
{
	extern char **environ;
	const char *given = getenv("SINEW_BINARY");
	char binary[512], run[] = "run", conf[128], text[64];
	char *argv[] = {binary, run, conf, NULL};
	posix_spawn_file_actions_t quiet;
	uint64_t start = sn__clock_mono_ns();
	ssize_t n;

	(void)snprintf(binary, sizeof binary, "%s", given != NULL ? given : "build-bench/sinew");
	(void)snprintf(conf, sizeof conf, "%s/sinew.yaml", dir);
	(void)posix_spawn_file_actions_init(&quiet);
	(void)posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
	if (posix_spawn(&running, binary, &quiet, NULL, argv, environ) != 0)
		die(binary);
	(void)posix_spawn_file_actions_destroy(&quiet);
	n = recv(notify, text, sizeof text - 1, 0);
	if (n < 7 || memcmp(text, "READY=1", 7) != 0)
		die("READY=1");
	return (double)(sn__clock_mono_ns() - start) / SN_NS_PER_MS;
}

static void stop(void)
{
	(void)kill(running, SIGKILL);
	(void)waitpid(running, NULL, 0);
	running = 0;
}

/* ---- connections ---- */

static int dial(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&in, sizeof in) < 0)
		die("connect");
	return fd;
}

static const char request[] = "GET /peers/service/app/web HTTP/1.1\r\nHost: localhost\r\n\r\n";

static double plain_bytes(uint16_t port)
{
	static int fds[CONNECTIONS];
	char answer[2000];
	struct memory before;
	long kb;

	for (int i = 0; i < CONNECTIONS; i++) {
		fds[i] = dial(port);
		if (send(fds[i], request, sizeof request - 1, MSG_NOSIGNAL) < 0 ||
				recv(fds[i], answer, sizeof answer, 0) < 12 ||
				memcmp(answer, "HTTP/1.1 200", 12) != 0)
			die("answer");
		if (i == 0) /* what the first one makes is not an idle connection's */
			before = memory_of(running);
	}
	kb = memory_of(running).private_kb - before.private_kb;
	for (int i = 0; i < CONNECTIONS; i++)
		(void)close(fds[i]);
	return (double)kb * 1024 / (CONNECTIONS - 1);
}

/* ---- TLS ---- */

static void handler(struct sn_exchange *x, void *arg)
{
	if (sn_exchange_respond(x, 200, NULL, 0, "hello", 5) < 0)
		sn_exchange_abort(x);
}

static void serve_tls(int ready)
{
	char cert[64], key[64];
	struct sn_tls_options tls = {.cert = cert, .key = key};
	struct sn_http_server_config config = {
			.max_connections = 20000, .idle_timeout_ms = 3600000};
	struct sn_http_server *server;
	struct sn_loop *loop;
	uint16_t port;

	(void)snprintf(cert, sizeof cert, "%s/cert", dir);
	(void)snprintf(key, sizeof key, "%s/key", dir);
	if (sn__loop_uv_open(NULL, &loop, NULL) < 0 ||
			sn__tls_create(loop, &tls, true, &config.tls) < 0 ||
			sn__addr_parse_listen(SN_STR("127.0.0.1:0"), &config.addr, NULL) < 0 ||
			sn__http_server_open(loop, &config, handler, NULL, &server, NULL) < 0)
		_exit(1);
	port = sn__addr_port(sn__http_server_addr(server));
	if (write(ready, &port, sizeof port) != sizeof port)
		_exit(1);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	_exit(0);
}

static uint16_t start_tls(void)
{
	char command[400];
	uint16_t port;
	int fds[2];

	(void)snprintf(command, sizeof command,
			"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
			"-subj /CN=bench -days 2 -keyout %s/key -out %s/cert 2>/dev/null",
			dir, dir);
	if (system(command) != 0 || pipe(fds) < 0)
		die("openssl");
	running = fork();
	if (running == 0)
		serve_tls(fds[1]);
	(void)close(fds[1]);
	if (read(fds[0], &port, sizeof port) != sizeof port)
		die("the TLS server");
	(void)close(fds[0]);
	return port;
}

static SSL *dial_tls(SSL_CTX *ctx, uint16_t port)
{
	SSL *ssl = SSL_new(ctx);
	char answer[2000];

	if (ssl == NULL || SSL_set_fd(ssl, dial(port)) != 1 || SSL_connect(ssl) != 1 ||
			SSL_write(ssl, request, sizeof request - 1) <= 0 ||
			SSL_read(ssl, answer, sizeof answer) < 12 ||
			memcmp(answer, "HTTP/1.1 200", 12) != 0)
		die("TLS");
	return ssl;
}

static double tls_bytes(uint16_t port)
{
	static SSL *ssls[CONNECTIONS];
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct memory before;
	long kb;

	for (int i = 0; i < CONNECTIONS; i++) {
		ssls[i] = dial_tls(ctx, port);
		if (i == 0)
			before = memory_of(running);
	}
	kb = memory_of(running).private_kb - before.private_kb;
	for (int i = 0; i < CONNECTIONS; i++)
		SSL_free(ssls[i]);
	SSL_CTX_free(ctx);
	return (double)kb * 1024 / (CONNECTIONS - 1);
}

/* ---- the whole ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(void)
{
	struct rlimit files;
	double ready_ms[STARTS];
	struct memory m;
	uint16_t port;
	int notify;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_max < CONNECTIONS + 100) {
		(void)fprintf(stderr, "idle_bench: too few descriptors\n");
		return 1;
	}
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files);
	if (mkdtemp(dir) == NULL || setenv("XDG_STATE_HOME", dir, 1) < 0)
		die("mkdtemp");
	notify = notify_socket();
	port = nginx_free_port();
	write_config(port);
	for (int i = 0; i < STARTS; i++) {
		if (i > 0)
			stop();
		ready_ms[i] = sinew_start(notify);
	}
	m = memory_of(running);
	qsort(ready_ms, STARTS, sizeof ready_ms[0], by_value);
	print("ready", ready_ms[STARTS / 2], "ms", "<= 25");
	print("rss", (double)m.rss_kb / 1024, "MB", "<= 12");
	print("private", (double)m.private_kb / 1024, "MB", "<= 4");
	print("connection", plain_bytes(port), "B", "<= 2048");
	m = memory_of(running);
	print("after_10000.private", (double)m.private_kb / 1024, "MB", "");
	stop();
	print("connection.tls", tls_bytes(start_tls()), "B", "<= 24576");
	clean();
	return 0;
}
