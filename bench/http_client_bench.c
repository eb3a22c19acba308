/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests a second with 64 in flight over keep-alive connections to one nginx worker, in one run:
 * a bare loop of uv_poll and the codec, our client, and libcurl's multi interface on libuv. Then the
 * latency of all but libcurl at half of that load. With the name of one of them only that one runs.
 */
#include <curl/curl.h>
#include <uv.h>

#include <sinew/mesh.h>

#include "base/mem.h"
#include "base/time.h"
#include "io/http.h"
#include "nginx.h"

#define IN_FLIGHT 64
#define ROUNDS 7
#define ROUND_NS (500 * SN_NS_PER_MS)
#define SAMPLES 200000

static struct nginx server;
static uint64_t end_ns, n_done;
static bool over;

/* Latency mode: a request every pace_ns on the next free slot; 0: as fast as answers come. */
static uint64_t pace_ns, next_ns;
static uint64_t *samples;
static size_t n_samples;

static void die(const char *what)
{
	(void)fprintf(stderr, "%s failed\n", what);
	nginx_stop(&server);
	_Exit(1);
}

static void sample(uint64_t start_ns, uint64_t now_ns)
{
	if (n_samples < SAMPLES)
		samples[n_samples++] = now_ns - start_ns;
}

/* ---- the bare loop ---- */

struct bare {
	uv_poll_t poll;
	int fd;
	bool busy;
	uint64_t start_ns;
	struct sn_http1_parser parser;
};
static struct bare bare[IN_FLIGHT];
static uv_loop_t bare_loop;
static char bare_buf[65536], bare_request[128];
static size_t bare_len;

static void bare_send(struct bare *b)
{
	b->busy = true;
	if (send(b->fd, bare_request, bare_len, MSG_NOSIGNAL) != (ssize_t)bare_len)
		die("send");
}

static void bare_parse(struct bare *b, size_t n)
{
	size_t pos = 0, used;

	for (;;) {
		enum sn_http1_event ev = sn__http1_next(
				&b->parser, (struct sn_str){bare_buf + pos, n - pos}, &used);

		pos += used;
		if (ev == SN_HTTP1_END)
			break;
		if (ev == SN_HTTP1_MORE || ev == SN_HTTP1_ERROR)
			die("bare: whole answers are expected, parser");
	}
	b->busy = false;
	n_done++;
}

static void bare_event(uv_poll_t *poll, int status, int events)
{
	struct bare *b = poll->data;
	ssize_t n = recv(b->fd, bare_buf, sizeof bare_buf, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("recv");
	bare_parse(b, (size_t)n);
	if (pace_ns != 0)
		sample(b->start_ns, sn__clock_mono_ns());
	else if (!over)
		bare_send(b);
}

static void bare_open(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
			.sin_port = htons(server.port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	(void)uv_loop_init(&bare_loop);
	bare_len = (size_t)snprintf(bare_request, sizeof bare_request,
			"GET / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", (unsigned)server.port);
	for (int i = 0; i < IN_FLIGHT; i++) {
		struct bare *b = &bare[i];

		b->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(b->fd, (struct sockaddr *)&in, sizeof in) < 0)
			die("connect");
		(void)fcntl(b->fd, F_SETFL, O_NONBLOCK);
		(void)uv_poll_init_socket(&bare_loop, &b->poll, b->fd);
		b->poll.data = b;
		sn__http1_init(&b->parser, true, NULL);
		(void)uv_poll_start(&b->poll, UV_READABLE, bare_event);
	}
}

static void bare_start(uint64_t now_ns)
{
	for (int i = 0; i < IN_FLIGHT; i++) {
		if (!bare[i].busy) {
			bare[i].start_ns = now_ns;
			bare_send(&bare[i]);
			return;
		}
	}
}

static void bare_turn(bool wait)
{
	(void)uv_run(&bare_loop, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

static unsigned bare_busy(void)
{
	unsigned n = 0;

	for (int i = 0; i < IN_FLIGHT; i++)
		n += bare[i].busy;
	return n;
}

/* ---- our client ---- */

struct ours {
	struct sn_http_req req;
	bool busy;
	uint64_t start_ns;
};
static struct ours ours[IN_FLIGHT];
static struct sn_loop *our_loop;
static struct sn_http_pool *our_pool;
static struct sn_http_dest *our_dest;
static unsigned our_busy_n;

static void our_send(struct ours *o)
{
	o->busy = true;
	our_busy_n++;
	if (sn__http_start(our_dest, &o->req, NULL) < 0)
		die("sn__http_start");
}

static void our_done(struct sn_http_req *req)
{
	struct ours *o = SN_CONTAINER_OF(req, struct ours, req);

	if (req->result.code != 0 || req->result.status != 200)
		die(req->result.detail);
	o->busy = false;
	our_busy_n--;
	n_done++;
	if (pace_ns != 0)
		sample(o->start_ns, sn__clock_mono_ns());
	else if (!over)
		our_send(o);
}

static void our_open(void)
{
	static const struct sn_http_req_ops ops = {.on_done = our_done};
	struct sn_http_dest_options d = {.host = "127.0.0.1", .port = server.port};

	if (sn__loop_uv_open(NULL, &our_loop, NULL) < 0 ||
			sn__http_pool_create(our_loop, NULL, &our_pool) < 0 ||
			sn__http_dest_create(our_pool, &d, &our_dest) < 0)
		die("sn__http_pool_create");
	for (int i = 0; i < IN_FLIGHT; i++) {
		ours[i].req.ops = &ops;
		ours[i].req.method = SN_STR("GET");
		ours[i].req.target = SN_STR("/");
	}
}

static void our_start(uint64_t now_ns)
{
	for (int i = 0; i < IN_FLIGHT; i++) {
		if (!ours[i].busy) {
			ours[i].start_ns = now_ns;
			our_send(&ours[i]);
			return;
		}
	}
}

static void our_turn(bool wait)
{
	(void)sn__loop_run(our_loop, wait ? SN_RUN_ONCE : SN_RUN_NOWAIT);
}

static unsigned our_busy(void)
{
	return our_busy_n;
}

/* ---- sn_request: the public API, with everything the mesh adds ---- */

struct call {
	bool busy;
	uint64_t start_ns;
};
static struct call calls[IN_FLIGHT];
static uv_loop_t call_loop;
static struct sn_runtime *rt;
static unsigned call_busy_n;

static void call_done(const struct sn_response *res, const struct sn_error *err, void *arg);

static void call_send(struct call *c)
{
	static const struct sn_request_options opts = SN_REQUEST_INIT;

	c->busy = true;
	call_busy_n++;
	if (sn_request(rt, "service", "app", "web", &opts, call_done, c, NULL, NULL) < 0)
		die("sn_request");
}

static void call_done(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	struct call *c = arg;

	if (err != NULL)
		die(sn_error_text(err));
	c->busy = false;
	call_busy_n--;
	n_done++;
	if (pace_ns != 0)
		sample(c->start_ns, sn__clock_mono_ns());
	else if (!over)
		call_send(c);
}

static void call_open(void)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;
	char config[160];

	(void)snprintf(config, sizeof config,
			"peers: {service: {app: {web: {'1': {protocol: http, address: 127.0.0.1, "
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

static void call_start(uint64_t now_ns)
{
	for (int i = 0; i < IN_FLIGHT; i++) {
		if (!calls[i].busy) {
			calls[i].start_ns = now_ns;
			call_send(&calls[i]);
			return;
		}
	}
}

static void call_turn(bool wait)
{
	(void)uv_run(&call_loop, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

static unsigned call_busy(void)
{
	return call_busy_n;
}

/* ---- libcurl ---- */

static CURLM *multi;
static CURL *easy[IN_FLIGHT];
static uv_loop_t curl_loop;
static uv_timer_t curl_timer;
static unsigned curl_busy_n;

struct curl_socket {
	uv_poll_t poll;
	curl_socket_t fd;
};

static size_t curl_body(char *data, size_t size, size_t n, void *arg)
{
	return size * n;
}

static void curl_harvest(void)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(multi, &left)) != NULL) {
		CURL *e = msg->easy_handle;

		if (msg->msg != CURLMSG_DONE)
			continue;
		if (msg->data.result != CURLE_OK)
			die(curl_easy_strerror(msg->data.result));
		(void)curl_multi_remove_handle(multi, e);
		n_done++;
		curl_busy_n--;
		if (!over) {
			(void)curl_multi_add_handle(multi, e);
			curl_busy_n++;
		}
	}
}

static void curl_on_event(uv_poll_t *poll, int status, int events)
{
	struct curl_socket *s = poll->data;
	int running,
			flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
			(events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);

	(void)curl_multi_socket_action(multi, s->fd, flags, &running);
	curl_harvest();
}

static void curl_on_timer(uv_timer_t *t)
{
	int running;

	(void)curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	curl_harvest();
}

static int curl_set_timer(CURLM *m, long ms, void *arg)
{
	if (ms < 0)
		(void)uv_timer_stop(&curl_timer);
	else
		(void)uv_timer_start(&curl_timer, curl_on_timer, (uint64_t)ms, 0);
	return 0;
}

static void curl_socket_gone(uv_handle_t *h)
{
	sn__free(h->data);
}

static int curl_set_socket(CURL *e, curl_socket_t fd, int what, void *arg, void *socketp)
{
	struct curl_socket *s = socketp;

	if (what == CURL_POLL_REMOVE) {
		if (s != NULL)
			uv_close((uv_handle_t *)&s->poll, curl_socket_gone);
		(void)curl_multi_assign(multi, fd, NULL);
		return 0;
	}
	if (s == NULL) {
		s = sn__calloc(1, sizeof *s);
		if (s == NULL)
			die("memory");
		s->fd = fd;
		s->poll.data = s;
		(void)uv_poll_init_socket(&curl_loop, &s->poll, fd);
		(void)curl_multi_assign(multi, fd, s);
	}
	(void)uv_poll_start(&s->poll,
			(what & CURL_POLL_IN ? UV_READABLE : 0) |
					(what & CURL_POLL_OUT ? UV_WRITABLE : 0),
			curl_on_event);
	return 0;
}

static void curl_open(void)
{
	char url[64];

	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
	(void)uv_loop_init(&curl_loop);
	(void)uv_timer_init(&curl_loop, &curl_timer);
	multi = curl_multi_init();
	(void)curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, curl_set_socket);
	(void)curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, curl_set_timer);
	(void)curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)IN_FLIGHT * 2);
	(void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", (unsigned)server.port);
	for (int i = 0; i < IN_FLIGHT; i++) {
		easy[i] = curl_easy_init();
		(void)curl_easy_setopt(easy[i], CURLOPT_URL, url);
		(void)curl_easy_setopt(easy[i], CURLOPT_WRITEFUNCTION, curl_body);
		(void)curl_easy_setopt(easy[i], CURLOPT_NOSIGNAL, 1L);
	}
}

static void curl_start(uint64_t now_ns)
{
	(void)curl_multi_add_handle(multi, easy[curl_busy_n++]);
}

static void curl_turn(bool wait)
{
	(void)uv_run(&curl_loop, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

static unsigned curl_busy(void)
{
	return curl_busy_n;
}

/* ---- rounds ---- */

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * SN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static const struct client {
	const char *name;
	void (*open)(void);
	void (*start)(uint64_t now_ns);
	void (*turn)(bool wait);
	unsigned (*busy)(void);
} clients[] = {
		{"bare", bare_open, bare_start, bare_turn, bare_busy},
		{"ours", our_open, our_start, our_turn, our_busy},
		{"sn_request", call_open, call_start, call_turn, call_busy},
		{"curl", curl_open, curl_start, curl_turn, curl_busy},
};
enum { BARE, OURS, REQUEST, CURL_MULTI, N_CLIENTS };

/* Requests a second; *ret_cpu_us: of this process, for one request. */
static double full_speed(const struct client *c, double *ret_cpu_us)
{
	uint64_t start_ns = sn__clock_mono_ns(), cpu = cpu_ns();

	n_done = 0;
	over = false;
	end_ns = start_ns + ROUND_NS;
	for (int i = 0; i < IN_FLIGHT; i++)
		c->start(start_ns);
	while (sn__clock_mono_ns() < end_ns)
		c->turn(true);
	over = true;
	while (c->busy() > 0)
		c->turn(true);
	*ret_cpu_us = (double)(cpu_ns() - cpu) / 1e3 / (double)n_done;
	return (double)n_done * 1e9 / (double)(sn__clock_mono_ns() - start_ns);
}

/* The loop spins, so that no timer's grain is measured. */
static void half_speed(const struct client *c)
{
	uint64_t now_ns = sn__clock_mono_ns();

	end_ns = now_ns + ROUND_NS;
	next_ns = now_ns;
	while (now_ns < end_ns) {
		while (next_ns <= now_ns) {
			if (c->busy() < IN_FLIGHT)
				c->start(next_ns);
			next_ns += pace_ns;
		}
		c->turn(false);
		now_ns = sn__clock_mono_ns();
	}
	while (c->busy() > 0)
		c->turn(false);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int by_speed(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print(const char *name, double value, const char *unit, const char *want)
{
	(void)printf("{\"name\": \"http_client.%s\", \"value\": %.4g, \"unit\": \"%s\"", name,
			value, unit);
	if (want != NULL)
		(void)printf(", \"want\": \"%s\"", want);
	(void)printf("}\n");
	(void)fflush(stdout);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(double), by_speed);
	return values[ROUNDS / 2];
}

/* Of @a and @b in the same round, so that a noisy machine troubles both. */
static double ratio(double speed[N_CLIENTS][ROUNDS], int a, int b)
{
	double r[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		r[i] = speed[a][i] / speed[b][i];
	return median(r);
}

static void throughput(double *ret_bare)
{
	double speed[N_CLIENTS][ROUNDS], cpu[N_CLIENTS][ROUNDS];
	uint64_t allocs[N_CLIENTS] = {0};
	char name[64];

	for (int r = 0; r < ROUNDS; r++) {
		for (int c = 0; c < N_CLIENTS; c++) {
			uint64_t before = sn__mem_count();

			speed[c][r] = full_speed(&clients[c], &cpu[c][r]);
			allocs[c] += sn__mem_count() - before;
		}
	}
	print("ours/bare", ratio(speed, OURS, BARE), "ratio", ">= 0.9");
	print("sn_request/bare", ratio(speed, REQUEST, BARE), "ratio", ">= 0.9");
	print("ours/curl", ratio(speed, OURS, CURL_MULTI), "ratio", ">= 2.5");
	print("sn_request/curl", ratio(speed, REQUEST, CURL_MULTI), "ratio", ">= 2.5");
	print("ours.allocations", (double)allocs[OURS], "in all rounds", "0");
	print("sn_request.allocations", (double)allocs[REQUEST], "in all rounds", "0");
	*ret_bare = 0;
	for (int c = 0; c < N_CLIENTS; c++) {
		double m = median(speed[c]);

		*ret_bare = c == BARE ? m : *ret_bare;
		print(clients[c].name, m, "requests/s", NULL);
		(void)snprintf(name, sizeof name, "%s.cpu", clients[c].name);
		print(name, median(cpu[c]), "us/request", NULL);
	}
}

static void latency(void)
{
	double p50[CURL_MULTI][ROUNDS], p99[CURL_MULTI][ROUNDS];
	char name[64];

	for (int r = 0; r < ROUNDS; r++) {
		for (int c = 0; c < CURL_MULTI; c++) {
			n_samples = 0;
			half_speed(&clients[c]);
			qsort(samples, n_samples, sizeof *samples, by_size);
			p50[c][r] = (double)samples[n_samples / 2] / 1e3;
			p99[c][r] = (double)samples[n_samples * 99 / 100] / 1e3;
		}
	}
	print("half-load.bare.p50", median(p50[BARE]), "us", NULL);
	print("half-load.bare.p99", median(p99[BARE]), "us", NULL);
	for (int c = OURS; c < CURL_MULTI; c++) {
		(void)snprintf(name, sizeof name, "half-load.%s.added.p50", clients[c].name);
		print(name, median(p50[c]) - median(p50[BARE]), "us", "< 5");
		(void)snprintf(name, sizeof name, "half-load.%s.added.p99", clients[c].name);
		print(name, median(p99[c]) - median(p99[BARE]), "us", "< 50");
	}
}

/* Under a profiler. */
static void only(const char *name)
{
	double cpu;

	for (int c = 0; c < N_CLIENTS; c++) {
		if (strcmp(clients[c].name, name) != 0)
			continue;
		clients[c].open();
		for (int r = 0; r < ROUNDS; r++)
			print(name, full_speed(&clients[c], &cpu), "requests/s", NULL);
		print("cpu", cpu, "us/request", NULL);
	}
}

int main(int argc, char **argv)
{
	double bare_speed, unused;

	if (nginx_start(&server) < 0)
		die("nginx");
	samples = sn__calloc(SAMPLES, sizeof *samples);
	if (samples == NULL)
		die("memory");
	if (argc > 1) {
		only(argv[1]);
		nginx_stop(&server);
		return 0;
	}
	for (int c = 0; c < N_CLIENTS; c++) {
		clients[c].open();
		(void)full_speed(&clients[c], &unused); /* warm */
	}
	throughput(&bare_speed);
	pace_ns = (uint64_t)(1e9 / (bare_speed / 2));
	latency();
	nginx_stop(&server);
	return 0;
}
