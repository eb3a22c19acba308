/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PutItem and GetItem a second with 64 in flight over keep-alive connections to one canned server, a
 * process of its own, in one run: libcurl's multi interface on libuv with requests signed by the same
 * code, requests of sn__aws, and sn_database_call with all that the mesh adds. Rounds of the three
 * alternate; medians. With the name of one of them only that one runs.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <sinew/resource.h>

#include "base/mem.h"
#include "base/time.h"
#include "connect/aws.h"
#include "proto/aws_answer.h"
#include "proto/sigv4.h"

#define IN_FLIGHT 64
#define ROUNDS 15
#define ROUND_NS (200 * SN_NS_PER_MS)
#define ID "AKIDEXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

static pid_t server;
static uint16_t port;
static uint64_t n_done;
static bool over;

static const struct what {
	const char *name, *params, *body, *answer;
} whats[] = {
		{"PutItem",
				"{\"Item\":{\"id\":{\"S\":\"4711\"},\"name\":{\"S\":\"somebody\"},"
				"\"age\":{\"N\":\"42\"}}}",
				"{\"TableName\":\"contacts\",\"Item\":{\"id\":{\"S\":\"4711\"},\"name\":"
				"{\"S\":\"somebody\"},\"age\":{\"N\":\"42\"}}}",
				"{}"},
		{"GetItem", "{\"Key\":{\"id\":{\"S\":\"4711\"}}}",
				"{\"TableName\":\"contacts\",\"Key\":{\"id\":{\"S\":\"4711\"}}}",
				"{\"Item\":{\"id\":{\"S\":\"4711\"},\"name\":{\"S\":\"somebody\"},\"age\":"
				"{\"N\":\"42\"},\"address\":{\"M\":{\"street\":{\"S\":\"Long Street 1\"},"
				"\"town\":{\"S\":\"Springfield\"}}}}}"},
};
static const struct what *what = &whats[0];

static void die(const char *why)
{
	(void)fprintf(stderr, "%s failed\n", why);
	if (server > 0)
		(void)kill(server, SIGKILL);
	_Exit(1);
}

/* ---- the canned server ---- */

static char canned[2][1024];
static size_t canned_len[2];

static void can_answers(void)
{
	for (int i = 0; i < 2; i++) {
		struct sn_str body = sn_str_from(whats[i].answer);

		canned_len[i] = (size_t)snprintf(canned[i], sizeof canned[i],
				"HTTP/1.1 200 OK\r\nServer: Server\r\nDate: Sun, 30 Aug 2015 12:36:00 GMT\r\n"
				"Content-Type: application/x-amz-json-1.0\r\nContent-Length: %zu\r\n"
				"Connection: keep-alive\r\nx-amzn-RequestId: "
				"RKPC1DU9BFGN0S5SNFAKVTHP8JVV4KQNSO5AEMVJF66Q9ASUAAJG\r\n"
				"x-amz-crc32: %u\r\n\r\n%s",
				body.len, (unsigned)sn__aws_crc32(body), whats[i].answer);
	}
}

static void watch(int epoll, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	(void)epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* A request comes in one piece, as all of these clients send it. */
static void serve(int fd)
{
	static char in[65536];
	ssize_t got = recv(fd, in, sizeof in, 0);
	int which;

	if (got <= 0) {
		(void)close(fd);
		return;
	}
	if (got < 200 || in[got - 1] != '}')
		die("whole requests are expected, the canned server");
	which = memmem(in, (size_t)got, ".GetItem\r\n", 10) != NULL;
	(void)!send(fd, canned[which], canned_len[which], MSG_NOSIGNAL);
}

static void run_server(int listener)
{
	int epoll = epoll_create1(0), one = 1;
	struct epoll_event ev[IN_FLIGHT];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	can_answers();
	watch(epoll, listener);
	for (;;) {
		int n = epoll_wait(epoll, ev, IN_FLIGHT, -1);

		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;

			if (fd != listener) {
				serve(fd);
				continue;
			}
			fd = accept(listener, NULL, NULL);
			(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
			watch(epoll, fd);
		}
	}
}

static void start_server(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof in;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&in, len) < 0 || listen(fd, 1024) < 0 ||
			getsockname(fd, (struct sockaddr *)&in, &len) < 0)
		die("listen");
	port = ntohs(in.sin_port);
	server = fork();
	if (server < 0)
		die("fork");
	if (server == 0)
		run_server(fd);
	(void)close(fd);
}

/* ---- sn__aws ---- */

struct ours {
	struct sn_aws_req req;
};
static struct ours ours[IN_FLIGHT];
static struct sn_loop *our_loop;
static struct sn_http_pool *our_pool;
static struct sn_aws *aws;
static unsigned our_busy_n;

static void our_done(struct sn_aws_req *req);

static void our_send(struct ours *o)
{
	o->req = (struct sn_aws_req){.operation = sn_str_from(what->name),
			.body = sn_str_from(what->body),
			.done = our_done};
	our_busy_n++;
	if (sn__aws_start(aws, &o->req, NULL) < 0)
		die("sn__aws_start");
}

static void our_done(struct sn_aws_req *req)
{
	if (req->outcome.code != 0 || req->answer.len != strlen(what->answer))
		die(req->outcome.detail);
	sn__buf_finish(&req->answer);
	our_busy_n--;
	n_done++;
	if (!over)
		our_send(SN_CONTAINER_OF(req, struct ours, req));
}

static void our_open(void)
{
	struct sn_aws_options opts = {.service = "dynamodb",
			.endpoint_variable = "AWS_ENDPOINT_URL_DYNAMODB",
			.target = "DynamoDB_20120810",
			.json = "1.0"};
	char config[300];

	(void)snprintf(config, sizeof config,
			"{\"region\":\"eu-north-1\",\"endpoint\":\"http://127.0.0.1:%u\","
			"\"accessKeyId\":\"" ID "\",\"secretAccessKey\":\"" SECRET "\"}",
			(unsigned)port);
	if (sn__loop_uv_open(NULL, &our_loop, NULL) < 0 ||
			sn__http_pool_create(our_loop, NULL, &our_pool) < 0)
		die("sn__http_pool_create");
	opts.loop = our_loop;
	opts.pool = our_pool;
	opts.config = sn_str_from(config);
	if (sn__aws_open(&opts, &aws, NULL) < 0)
		die("sn__aws_open");
}

static void our_start(int i)
{
	our_send(&ours[i]);
}

static void our_turn(void)
{
	(void)sn__loop_run(our_loop, SN_RUN_ONCE);
}

static unsigned our_busy(void)
{
	return our_busy_n;
}

/* ---- sn_database_call ---- */

static uv_loop_t call_loop;
static struct sn_runtime *rt;
static unsigned call_busy_n;

static void call_done(const struct sn_result *res, const struct sn_error *err, void *arg);

static void call_start(int i)
{
	call_busy_n++;
	if (sn_database_call(rt, "contacts", what->name, what->params, NULL, call_done, NULL, NULL,
			    NULL) < 0)
		die("sn_database_call");
}

static void call_done(const struct sn_result *res, const struct sn_error *err, void *arg)
{
	size_t size;

	if (err != NULL)
		die(sn_error_text(err));
	(void)sn_result_json(res, &size);
	if (size != strlen(what->answer))
		die("sn_result_json");
	call_busy_n--;
	n_done++;
	if (!over)
		call_start(0);
}

static void call_open(void)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;
	char config[500];

	(void)snprintf(config, sizeof config,
			"peers: {database: {contacts: {'0': {tableName: contacts, config: {region: "
			"eu-north-1, endpoint: 'http://127.0.0.1:%u', credentials: {accessKeyId: " ID
			", secretAccessKey: '" SECRET "'}}}}}}\n",
			(unsigned)port);
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

static unsigned call_busy(void)
{
	return call_busy_n;
}

/* ---- libcurl ---- */

struct easy {
	CURL *e;
	struct curl_slist *headers;
	struct sn_buf body;
};
static struct easy easy[IN_FLIGHT];
static CURLM *multi;
static uv_loop_t curl_loop;
static uv_timer_t curl_timer;
static unsigned curl_busy_n;
static struct sn_sigv4 signer;
static struct sn_sigv4_key key;

struct curl_socket {
	uv_poll_t poll;
	curl_socket_t fd;
};

static size_t curl_body(char *data, size_t size, size_t n, void *arg)
{
	struct easy *e = arg;

	return sn__buf_append(&e->body, data, size * n) < 0 ? 0 : size * n;
}

static void add_header(struct easy *e, const char *name, const char *value)
{
	char line[1024];

	(void)snprintf(line, sizeof line, "%s: %s", name, value);
	e->headers = curl_slist_append(e->headers, line);
}

static void curl_sign(struct easy *e)
{
	char host[32], target[64], date[SN_SIGV4_DATE], authorization[512];
	struct sn_http_header h[4] = {
			{SN_STR("Content-Type"), SN_STR("application/x-amz-json-1.0")}};
	struct sn_sigv4_request req = {.method = SN_STR("POST"),
			.path = SN_STR("/"),
			.headers = h,
			.n_headers = 4};
	struct sn_buf out;

	(void)snprintf(host, sizeof host, "127.0.0.1:%u", (unsigned)port);
	(void)snprintf(target, sizeof target, "DynamoDB_20120810.%s", what->name);
	sn__sigv4_date(sn__clock_wall_ns(), date);
	h[1] = (struct sn_http_header){SN_STR("Host"), sn_str_from(host)};
	h[2] = (struct sn_http_header){SN_STR("X-Amz-Date"), sn_str_from(date)};
	h[3] = (struct sn_http_header){SN_STR("X-Amz-Target"), sn_str_from(target)};
	sn__buf_init(&out, sizeof authorization);
	if (sn__sigv4_hash(&signer, sn_str_from(what->body), req.payload) < 0 ||
			sn__sigv4_authorization(&signer, &key, SN_STR(ID), date, &req, &out) < 0)
		die("signature");
	(void)snprintf(authorization, sizeof authorization, "%.*s", (int)out.len,
			sn__buf_data(&out));
	sn__buf_finish(&out);
	curl_slist_free_all(e->headers);
	e->headers = NULL;
	add_header(e, "Content-Type", "application/x-amz-json-1.0");
	add_header(e, "X-Amz-Date", date);
	add_header(e, "X-Amz-Target", target);
	add_header(e, "Authorization", authorization);
}

static void curl_send(struct easy *e)
{
	curl_sign(e);
	sn__buf_clear(&e->body);
	(void)curl_easy_setopt(e->e, CURLOPT_HTTPHEADER, e->headers);
	(void)curl_easy_setopt(e->e, CURLOPT_POSTFIELDSIZE, (long)strlen(what->body));
	(void)curl_easy_setopt(e->e, CURLOPT_POSTFIELDS, what->body);
	(void)curl_multi_add_handle(multi, e->e);
	curl_busy_n++;
}

static void curl_harvest(void)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(multi, &left)) != NULL) {
		struct easy *e;

		if (msg->msg != CURLMSG_DONE)
			continue;
		if (msg->data.result != CURLE_OK)
			die(curl_easy_strerror(msg->data.result));
		(void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&e);
		if (e->body.len != strlen(what->answer))
			die("libcurl");
		(void)curl_multi_remove_handle(multi, e->e);
		n_done++;
		curl_busy_n--;
		if (!over)
			curl_send(e);
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

static int curl_set_socket(CURL *e, curl_socket_t fd, int action, void *arg, void *socketp)
{
	struct curl_socket *s = socketp;

	if (action == CURL_POLL_REMOVE) {
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
			(action & CURL_POLL_IN ? UV_READABLE : 0) |
					(action & CURL_POLL_OUT ? UV_WRITABLE : 0),
			curl_on_event);
	return 0;
}

static void curl_open(void)
{
	char url[64], date[SN_SIGV4_DATE];

	(void)curl_global_init(CURL_GLOBAL_DEFAULT);
	(void)uv_loop_init(&curl_loop);
	(void)uv_timer_init(&curl_loop, &curl_timer);
	sn__sigv4_date(sn__clock_wall_ns(), date);
	if (sn__sigv4_init(&signer) < 0 ||
			sn__sigv4_key(&signer, SN_STR(SECRET), sn_str_from(date),
					SN_STR("eu-north-1"), SN_STR("dynamodb"), &key) < 0)
		die("key");
	multi = curl_multi_init();
	(void)curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, curl_set_socket);
	(void)curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, curl_set_timer);
	(void)curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)IN_FLIGHT * 2);
	(void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", (unsigned)port);
	for (int i = 0; i < IN_FLIGHT; i++) {
		struct easy *e = &easy[i];

		e->e = curl_easy_init();
		sn__buf_init(&e->body, 65536);
		(void)curl_easy_setopt(e->e, CURLOPT_URL, url);
		(void)curl_easy_setopt(e->e, CURLOPT_WRITEFUNCTION, curl_body);
		(void)curl_easy_setopt(e->e, CURLOPT_WRITEDATA, e);
		(void)curl_easy_setopt(e->e, CURLOPT_PRIVATE, e);
		(void)curl_easy_setopt(e->e, CURLOPT_NOSIGNAL, 1L);
	}
}

static void curl_start(int i)
{
	curl_send(&easy[i]);
}

static void curl_turn(void)
{
	(void)uv_run(&curl_loop, UV_RUN_ONCE);
}

static unsigned curl_busy(void)
{
	return curl_busy_n;
}

/* ---- rounds ---- */

static const struct client {
	const char *name;
	void (*open)(void);
	void (*start)(int i);
	void (*turn)(void);
	unsigned (*busy)(void);
} clients[] = {
		{"curl", curl_open, curl_start, curl_turn, curl_busy},
		{"sn__aws", our_open, our_start, our_turn, our_busy},
		{"sn_database_call", call_open, call_start, call_turn, call_busy},
};
enum { CURL_MULTI, OURS, CALL, N_CLIENTS };

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * SN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Requests a second; *ret_cpu_us: of this process, for one request. */
static double full_speed(const struct client *c, double *ret_cpu_us)
{
	uint64_t start_ns = sn__clock_mono_ns(), cpu = cpu_ns();

	n_done = 0;
	over = false;
	for (int i = 0; i < IN_FLIGHT; i++)
		c->start(i);
	while (sn__clock_mono_ns() < start_ns + ROUND_NS)
		c->turn();
	over = true;
	while (c->busy() > 0)
		c->turn();
	*ret_cpu_us = (double)(cpu_ns() - cpu) / 1e3 / (double)n_done;
	return (double)n_done * 1e9 / (double)(sn__clock_mono_ns() - start_ns);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof *values, by_size);
	return values[ROUNDS / 2];
}

static void print(const char *who, double value, const char *unit, const char *want)
{
	(void)printf("{\"name\": \"aws/%s/%s\", \"value\": %.4g, \"unit\": \"%s\"", what->name, who,
			value, unit);
	if (want != NULL)
		(void)printf(", \"want\": \"%s\"", want);
	(void)printf("}\n");
	(void)fflush(stdout);
}

static void compare(const char *only)
{
	static double speed[N_CLIENTS][ROUNDS], cpu[N_CLIENTS][ROUNDS];
	double fast[N_CLIENTS], work[N_CLIENTS];
	char name[64];

	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < N_CLIENTS; i++) {
			if (only == NULL || strcmp(only, clients[i].name) == 0)
				speed[i][round] = full_speed(&clients[i], &cpu[i][round]);
		}
	}
	for (int i = 0; i < N_CLIENTS; i++) {
		if (only != NULL && strcmp(only, clients[i].name) != 0)
			continue;
		fast[i] = median(speed[i]);
		work[i] = median(cpu[i]);
		print(clients[i].name, fast[i], "requests/s", NULL);
		(void)snprintf(name, sizeof name, "%s-cpu", clients[i].name);
		print(name, work[i], "us/request", NULL);
		if (i == CURL_MULTI || only != NULL)
			continue;
		(void)snprintf(name, sizeof name, "%s-to-curl", clients[i].name);
		print(name, fast[i] / fast[CURL_MULTI], "times", ">= 1.5");
		(void)snprintf(name, sizeof name, "%s-to-curl-per-cpu", clients[i].name);
		print(name, work[CURL_MULTI] / work[i], "times", NULL);
	}
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;

	start_server();
	for (int i = 0; i < N_CLIENTS; i++)
		clients[i].open();
	for (size_t i = 0; i < SN_COUNT(whats); i++) {
		what = &whats[i];
		compare(only);
	}
	(void)kill(server, SIGKILL);
	(void)waitpid(server, NULL, 0);
	return 0;
}
