/* SPDX-License-Identifier: Apache-2.0 */
/* The agent as connectors see it, on the simulated network; only the mesh file is a real one. */
#include "app/agent.h"

#include <sys/resource.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "io/http.h"
#include "io/world_test.h"
#include "io/ws.h"

#define ADDRESS "127.0.0.1:55555"
#define MESSAGES_MAX 16

struct lines {
	unsigned n;
	char last[700];
};

struct fixture {
	struct world *w;
	struct sn_agent *agent;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct lines lines;
	char path[64]; /* of the mesh file */
};

static void keep_line(const char *level, const char *line, void *arg)
{
	struct lines *l = arg;

	l->n++;
	(void)snprintf(l->last, sizeof l->last, "%s: %s", level, line);
}

static void write_mesh(struct fixture *f, const char *text)
{
	char fresh[80];
	FILE *file;

	/* By rename, as editors do. */
	(void)snprintf(fresh, sizeof fresh, "%s.new", f->path);
	file = fopen(fresh, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
	assert_int_equal(fclose(file), 0);
	assert_int_equal(rename(fresh, f->path), 0);
}

static int setup(void **state)
{
	struct fixture *f = test_malloc(sizeof *f);
	struct sn_http_dest_options dest = {.host = "127.0.0.1", .port = 55555};
	struct sn_agent_options opts = {.log = {keep_line, &f->lines}};
	struct sn_error err;
	void *w;
	int fd;

	*f = (struct fixture){.path = "/tmp/sinew-agent-XXXXXX"};
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	write_mesh(f,
			"services: {app: {endpoints: {client: ['10.0.0.1:4000']}}}\n"
			"tasks: {own: {policies: {timeout: 1}}}\n");
	assert_int_equal(world_sim(&w), 0);
	f->w = w;
	opts.addr = world_addr(ADDRESS);
	opts.mesh = f->path;
	if (sn__agent_open(f->w->a, &opts, &f->agent, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(sn__http_pool_create(f->w->b, NULL, &f->pool), 0);
	assert_int_equal(sn__http_dest_create(f->pool, &dest, &f->dest), 0);
	*state = f;
	return 0;
}

static void set_done(void *arg)
{
	*(bool *)arg = true;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	bool agent_closed = false, pool_closed = false;
	void *w = f->w;
	int r;

	sn__http_dest_unref(f->dest);
	sn__http_pool_close(f->pool, set_done, &pool_closed);
	sn__agent_close(f->agent, set_done, &agent_closed);
	world_run(f->w, &agent_closed);
	world_run(f->w, &pool_closed);
	r = world_close(&w);
	(void)unlink(f->path);
	test_free(f);
	return r;
}

/* Let virtual time pass: everything that is on its way arrives. */
static void settle(struct fixture *f)
{
	(void)sn__sim_run(f->w->sim, sn__sim_now_ns(f->w->sim) + SN_NS_PER_S);
}

/* ---- HTTP ---- */

struct request {
	struct sn_http_req req;
	char body[4096];
	size_t n;
	bool done;
};

static void on_data(struct sn_http_req *req, struct sn_str data)
{
	struct request *r = SN_CONTAINER_OF(req, struct request, req);

	assert_true(r->n + data.len < sizeof r->body);
	memcpy(r->body + r->n, data.ptr, data.len);
	r->n += data.len;
}

static void on_done(struct sn_http_req *req)
{
	SN_CONTAINER_OF(req, struct request, req)->done = true;
}

/* The status; the answer's body stays in @r. */
static unsigned http(struct fixture *f, struct request *r, const char *method, const char *target,
		const char *body, const struct sn_http_header *header)
{
	static const struct sn_http_req_ops ops = {.on_data = on_data, .on_done = on_done};

	*r = (struct request){.req = {.ops = &ops,
					      .method = sn_str_from(method),
					      .target = sn_str_from(target),
					      .body = sn_str_from(body),
					      .headers = header,
					      .n_headers = header != NULL ? 1 : 0}};
	assert_int_equal(sn__http_start(f->dest, &r->req, NULL), 0);
	world_run(f->w, &r->done);
	assert_int_equal(r->req.result.code, 0);
	r->body[r->n] = '\0';
	return r->req.result.status;
}

/* ---- sockets ---- */

struct socket {
	struct sn_ws *ws;
	char *messages[MESSAGES_MAX];
	unsigned n;
	bool open, closed;
	int close_code;
};

static void on_open(struct sn_ws *ws, void *arg)
{
	((struct socket *)arg)->open = true;
}

static void on_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	struct socket *s = arg;

	assert_true(text && s->n < MESSAGES_MAX);
	s->messages[s->n++] = sn__strndup(data.ptr, data.len);
}

static void on_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	struct socket *s = arg;

	s->closed = true;
	s->close_code = err->foreign;
}

static void connect_to(struct fixture *f, struct socket *s, const char *path)
{
	static const struct sn_ws_ops ops = {
			.on_open = on_open, .on_message = on_message, .on_close = on_close};
	char url[100];

	*s = (struct socket){0};
	(void)snprintf(url, sizeof url, "ws://" ADDRESS "%s", path);
	assert_int_equal(sn__ws_connect(f->w->b, url, NULL, NULL, &ops, s, &s->ws, NULL), 0);
	settle(f);
}

static void expect(struct socket *s, unsigned index, const char *text)
{
	assert_true(s->n > index);
	assert_string_equal(s->messages[index], text);
}

static void finish(struct socket *s)
{
	if (!s->closed)
		sn__ws_abort(s->ws);
	for (unsigned i = 0; i < s->n; i++)
		sn__free(s->messages[i]);
	s->n = 0;
}

/* ---- instances that are checked ---- */

static void nothing_said(struct sn_stream *s, unsigned events, void *arg)
{
	char byte;

	if (sn__stream_read(s, &byte, 1) != SN_E_AGAIN)
		sn__stream_close(s, true);
}

static void takes(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	sn_stream_set_owner(s, nothing_said, NULL);
	sn__stream_want(s, SN_READABLE);
}

/* ---- tests ---- */

#define CLIENT_PEERS \
	"{\"service\":{\"app\":{\"client\":{\"1\":{\"protocol\":\"http\",\"networkProtocol\":\"tcp\"," \
	"\"port\":4000,\"address\":\"10.0.0.1\"}}}}}"

static void plain(void **state)
{
	struct fixture *f = *state;
	struct request r;

	assert_int_equal(http(f, &r, "GET", "/any", NULL, NULL), 200);
	assert_string_equal(r.body, "{\"peers\":" CLIENT_PEERS "}");
	assert_int_equal(http(f, &r, "GET", "/own", NULL, NULL), 200);
	assert_string_equal(r.body,
			"{\"peers\":" CLIENT_PEERS ",\"policies\":{\"values\":{\"timeout\":1}}}");
	assert_int_equal(http(f, &r, "GET", "/", NULL, NULL), 404);
	assert_non_null(strstr(r.body, "must end in the task id"));
	assert_int_equal(http(f, &r, "GET", "/a/b", NULL, NULL), 404);
	assert_int_equal(http(f, &r, "DELETE", "/a", NULL, NULL), 405);
	assert_int_equal(http(f, &r, "GET", "/-/checks", NULL, NULL), 200);
	assert_string_equal(r.body, "[]");
	assert_int_equal(http(f, &r, "GET", "/-/metrics", NULL, NULL), 200);
	assert_non_null(strstr(r.body, "\nsinew_agent_connectors{} 0\n"));
	assert_int_equal(http(f, &r, "GET", "/-/checks/", NULL, NULL), 404);
}

static void sockets_and_reports(void **state)
{
	struct fixture *f = *state;
	struct socket one, two, other;
	struct request r;

	connect_to(f, &one, "/t1");
	connect_to(f, &two, "/t1");
	connect_to(f, &other, "/t2");
	expect(&one, 0, "{\"peers\":" CLIENT_PEERS "}");
	expect(&two, 0, one.messages[0]);
	assert_int_equal(
			http(f, &r, "POST", "/report",
					"[{\"id\":\"t1\",\"metadata\":{\"peers\":{\"queue\":{\"q\":{\"0\":{}}}},\"consumes\":[]}}]",
					NULL),
			200);
	assert_string_equal(r.body, "");
	settle(f);
	/* A section a message, to the sockets of that task only. */
	for (struct socket *s = &one; s != NULL; s = s == &one ? &two : NULL) {
		assert_int_equal(s->n, 3);
		expect(s, 1, "{\"peers\":{\"queue\":{\"q\":{\"0\":{}}}}}");
		expect(s, 2, "{\"consumes\":[]}");
	}
	assert_int_equal(other.n, 1);
	/* Deep-equal is no change; null is sent as {} to open sockets, as null in the full message. */
	assert_int_equal(
			http(f, &r, "POST", "/report",
					"[{\"id\":\"t1\",\"metadata\":{\"consumes\":[],\"policies\":null,\"peers\":null}}]",
					NULL),
			200);
	settle(f);
	assert_int_equal(one.n, 4);
	expect(&one, 3, "{\"peers\":{}}");
	finish(&two);
	connect_to(f, &two, "/t1");
	expect(&two, 0, "{\"peers\":null,\"consumes\":[],\"policies\":null}");
	finish(&one);
	finish(&two);
	finish(&other);
	settle(f);
	/* What was reported outlives the sockets. */
	assert_int_equal(http(f, &r, "GET", "/t1", NULL, NULL), 200);
	assert_string_equal(r.body, "{\"peers\":null,\"consumes\":[],\"policies\":null}");
}

static void refused(void **state)
{
	static const char *const bad[] = {"", "nonsense", "{}", "[1]",
			"[{\"id\":1,\"metadata\":{}}]", "[{\"id\":\"a/b\",\"metadata\":{}}]",
			"[{\"id\":\"x\",\"metadata\":[]}]",
			"[{\"id\":\"x\",\"metadata\":{\"peers\":{\"queue\":{}}}},{\"id\":\"y\"}]"};
	const struct sn_http_header origin = {SN_STR("Origin"), SN_STR("http://evil.example")};
	struct fixture *f = *state;
	struct request r;
	struct socket s;

	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		assert_int_equal(http(f, &r, "POST", "/report", bad[i], NULL), 400);
		assert_true(r.n > 10);
	}
	/* A report is applied whole or not at all. */
	assert_int_equal(http(f, &r, "GET", "/x", NULL, NULL), 200);
	assert_null(strstr(r.body, "queue"));
	assert_int_equal(http(f, &r, "GET", "/x", NULL, &origin), 403);
	assert_int_equal(http(f, &r, "POST", "/report", "[]", &origin), 403);
	connect_to(f, &s, "/a/b");
	assert_true(s.closed && !s.open);
	assert_int_equal(s.n, 0);
	finish(&s);
	connect_to(f, &s, "/");
	assert_true(s.closed);
	finish(&s);
}

#define CHECKED(more) \
	"services: {app: {endpoints: {client: {instances: ['10.0.0.1:80', '10.0.0.2:80'" more \
	"], check: {tcp: true, every: 1s, timeout: 100ms}}}}}\n"

static void wait_s(struct fixture *f, unsigned s)
{
	(void)sn__sim_run(f->w->sim, sn__sim_now_ns(f->w->sim) + s * SN_NS_PER_S);
}

/* Which of the instances that end in these digits are served. */
static void serves(struct fixture *f, const char *which)
{
	struct request r;
	char text[16];

	assert_int_equal(http(f, &r, "GET", "/t", NULL, NULL), 200);
	for (char c = '1'; c <= '3'; c++) {
		(void)snprintf(text, sizeof text, "10.0.0.%c", c);
		if ((strstr(r.body, text) != NULL) != (strchr(which, c) != NULL))
			fail_msg("%s, not in %s", r.body, which);
	}
}

static void unwell_ones_are_left_out(void **state)
{
	struct fixture *f = *state;
	struct sn_addr one = world_addr("10.0.0.1:80"), two = world_addr("10.0.0.2:80"),
		       three = world_addr("10.0.0.3:80");
	struct sn_listener *l1, *l2, *l3;
	struct socket s;

	assert_int_equal(sn__listen(f->w->b, &one, NULL, takes, NULL, &l1, NULL), 0);
	assert_int_equal(sn__listen(f->w->b, &two, NULL, takes, NULL, &l2, NULL), 0);
	assert_int_equal(sn__listen(f->w->b, &three, NULL, takes, NULL, &l3, NULL), 0);
	connect_to(f, &s, "/t");
	write_mesh(f, CHECKED(""));
	settle(f);
	serves(f, "12"); /* before they are known */
	wait_s(f, 10);
	serves(f, "12");
	assert_int_equal(s.n, 2);
	f->lines.n = 0;
	sn__sim_refuse(f->w->sim, &two, true);
	wait_s(f, 5);
	serves(f, "1");
	assert_int_equal(s.n, 3);
	assert_int_equal(f->lines.n, 1);
	assert_string_equal(f->lines.last,
			"warning: 10.0.0.2:80 is unwell: connect to 10.0.0.2:80: Connection refused");
	write_mesh(f, CHECKED(", '10.0.0.3:80'")); /* what is known of the others stays known */
	settle(f);
	serves(f, "13");
	sn__sim_refuse(f->w->sim, &one, true);
	wait_s(f, 5);
	serves(f, "3");
	sn__sim_stall(f->w->sim, &three, true);
	wait_s(f, 5);
	serves(f, "123"); /* rather all than none */
	sn__sim_refuse(f->w->sim, &one, false);
	wait_s(f, 3);
	serves(f, "1");
	sn__sim_refuse(f->w->sim, &two, false);
	sn__sim_stall(f->w->sim, &three, false);
	wait_s(f, 5);
	serves(f, "123");
	assert_non_null(strstr(f->lines.last, ":80 is well again"));
	sn__sim_refuse(f->w->sim, &two, true);
	write_mesh(f, "services: {app: {endpoints: {client: ['10.0.0.1:80', '10.0.0.2:80']}}}\n");
	wait_s(f, 10);
	serves(f, "12"); /* is checked no more */
	write_mesh(f, CHECKED(""));
	wait_s(f, 1);
	serves(f, "12"); /* and begins unknown */
	wait_s(f, 5);
	serves(f, "1");
	write_mesh(f,
			"services: {app: {endpoints: {client: {instances: ['10.0.0.1:80'], check: {http: "
			"/, tls: true, ca: /no/such/file}}}}}\n");
	settle(f);
	serves(f, "1");
	assert_string_equal(
			strrchr(f->lines.last, ':'), ": not used, the former one stays in force");
	finish(&s);
	sn__listener_close(l1);
	sn__listener_close(l2);
	sn__listener_close(l3);
}

static void mesh_file_changes(void **state)
{
	struct fixture *f = *state;
	struct socket s, own;
	struct request r;

	connect_to(f, &s, "/t");
	connect_to(f, &own, "/own");
	write_mesh(f,
			"services: {app: {endpoints: {client: ['10.0.0.1:4000']}}}\nqueues: {q: [{}]}\n"
			"tasks: {own: {policies: {timeout: 1}}}\n");
	settle(f);
	assert_int_equal(s.n, 2);
	assert_non_null(strstr(s.messages[1], "\"queue\":{\"q\":{\"1\":{}}}"));
	assert_int_equal(own.n, 2); /* its policies did not change */
	expect(&own, 1, s.messages[1]);
	/* A target that vanishes is emptied once; a policy that vanishes too. */
	write_mesh(f, "services: {app: {endpoints: {client: ['10.0.0.1:4000']}}}\n");
	settle(f);
	assert_int_equal(s.n, 3);
	assert_non_null(strstr(s.messages[2], "\"queue\":{\"q\":{}}"));
	assert_int_equal(own.n, 4);
	assert_int_equal(http(f, &r, "GET", "/own", NULL, NULL), 200);
	assert_string_equal(r.body, "{\"peers\":" CLIENT_PEERS "}");
	/* A broken file is told once and the former one stays. */
	f->lines.n = 0;
	write_mesh(f, "sevices: {}\n");
	settle(f);
	settle(f);
	assert_int_equal(f->lines.n, 2);
	assert_non_null(strstr(f->lines.last, "stays in force"));
	assert_int_equal(s.n, 3);
	/* And a file that comes back as it was is no change for connectors. */
	write_mesh(f, "services: {app: {endpoints: {client: ['10.0.0.1:4000']}}}\n");
	settle(f);
	assert_non_null(strstr(f->lines.last, "read again"));
	assert_int_equal(s.n, 3);
	finish(&s);
	finish(&own);
}

/* The file changes while no descriptor is left: read once there is one again. */
static void mesh_file_unreadable_for_a_while(void **state)
{
	struct fixture *f = *state;
	struct rlimit was, none;
	struct socket s;

	connect_to(f, &s, "/t");
	f->lines.n = 0;
	write_mesh(f, "services: {app: {endpoints: {client: ['10.0.0.9:4000']}}}\n");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = was;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	settle(f);
	settle(f);
	settle(f);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_int_equal(f->lines.n, 2); /* said once */
	assert_non_null(strstr(f->lines.last, "stays in force"));
	assert_int_equal(s.n, 1);
	settle(f);
	assert_non_null(strstr(f->lines.last, "read again"));
	assert_int_equal(s.n, 2);
	finish(&s);
}

static void seed_message_as_mesh_file(void **state)
{
	struct fixture *f = *state;
	struct request r;
	struct socket s;

	write_mesh(f, "{\"peers\":" CLIENT_PEERS "}");
	settle(f);
	assert_int_equal(http(f, &r, "GET", "/", NULL, NULL), 200);
	assert_string_equal(r.body, "{\"peers\":" CLIENT_PEERS "}");
	connect_to(f, &s, "/");
	expect(&s, 0, r.body);
	finish(&s);
}

static void close_tells_sockets(void **state)
{
	struct fixture *f = *state;
	struct socket s;
	bool closed = false;
	struct sn_agent_options opts = {.log = {keep_line, &f->lines}};

	connect_to(f, &s, "/t");
	sn__agent_close(f->agent, set_done, &closed);
	world_run(f->w, &closed);
	settle(f);
	assert_true(s.closed);
	assert_int_equal(s.close_code, 1001);
	finish(&s);
	/* Another takes its place, for the teardown. */
	opts.addr = world_addr(ADDRESS);
	assert_int_equal(sn__agent_open(f->w->a, &opts, &f->agent, NULL), 0);
}

static void token_is_asked_for(void **state)
{
	const struct sn_http_header right = {SN_STR("Authorization"), SN_STR("Bearer s3cret")};
	const struct sn_http_header wrong = {SN_STR("Authorization"), SN_STR("Bearer s3cre")};
	const struct sn_ws_options with = {.token = "s3cret"};
	static const struct sn_ws_ops ops = {
			.on_open = on_open, .on_message = on_message, .on_close = on_close};
	struct fixture *f = *state;
	struct sn_agent_options opts = {.log = {keep_line, &f->lines}, .token = "s3cret"};
	bool closed = false;
	struct request r;
	struct socket s;

	sn__agent_close(f->agent, set_done, &closed);
	world_run(f->w, &closed);
	opts.addr = world_addr(ADDRESS);
	assert_int_equal(sn__agent_open(f->w->a, &opts, &f->agent, NULL), 0);
	assert_int_equal(http(f, &r, "GET", "/t", NULL, NULL), 401);
	assert_int_equal(http(f, &r, "GET", "/t", NULL, &wrong), 401);
	assert_int_equal(http(f, &r, "GET", "/t", NULL, &right), 200);
	assert_int_equal(http(f, &r, "POST", "/report", "[]", &wrong), 401);
	assert_int_equal(http(f, &r, "POST", "/report", "[]", &right), 200);
	connect_to(f, &s, "/t");
	assert_true(s.closed && !s.open);
	assert_int_equal(s.close_code, 401);
	finish(&s);
	s = (struct socket){0};
	assert_int_equal(sn__ws_connect(f->w->b, "ws://" ADDRESS "/t", NULL, &with, &ops, &s, &s.ws,
					 NULL),
			0);
	settle(f);
	expect(&s, 0, "{}");
	finish(&s);
}

static void on_mute(struct sn_stream *s, unsigned events, void *arg)
{
	static const char request[] =
			"GET /slow HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: "
			"Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
			"Sec-WebSocket-Version: 13\r\n\r\n";
	const struct sn_str v = {request, sizeof request - 1};

	if (events & SN_STREAM_CONNECTED)
		assert_int_equal(sn__stream_write(s, &v, 1), v.len);
	sn__stream_want(s, 0);
}

/* Who takes nothing while there is something for it is closed, and has held little meanwhile. */
static void one_that_never_reads(void **state)
{
	static char body[400000];
	const struct sn_addr addr = world_addr(ADDRESS);
	struct fixture *f = *state;
	struct sn_stream *s;
	struct request r;
	size_t total = 0;
	ssize_t n;

	assert_int_equal(sn__stream_connect(f->w->b, &addr, on_mute, NULL, &s, NULL), 0);
	settle(f);
	for (unsigned i = 0; i < 20; i++) {
		int at = snprintf(body, sizeof body, "[{\"id\":\"slow\",\"metadata\":{\"s%u\":\"",
				i % 3);

		memset(body + at, 'a' + (int)i, 390000);
		(void)snprintf(body + at + 390000, sizeof body - (size_t)at - 390000, "\"}}]");
		assert_int_equal(http(f, &r, "POST", "/report", body, NULL), 200);
	}
	for (unsigned i = 0; i < 60; i++)
		settle(f);
	while ((n = sn__stream_read(s, body, sizeof body)) > 0) {
		total += (size_t)n;
		settle(f);
	}
	assert_true(n == 0 || n == SN_E_RESET); /* no more comes */
	assert_true(total < 3 * sizeof body);
	sn__stream_close(s, true);
	settle(f);
}

/* Out of memory anywhere while a connector comes: it is refused or closed, and the next is served. */
static void no_memory(void **state)
{
	static const struct sn_ws_ops ops = {
			.on_open = on_open, .on_message = on_message, .on_close = on_close};
	struct fixture *f = *state;
	unsigned served = 0;
	struct request r;

	for (unsigned n = 1; n < 400 && served < 20; n++) {
		struct socket s = {0};
		int code;

		sn__mem_fail_nth(n);
		code = sn__ws_connect(
				f->w->b, "ws://" ADDRESS "/own", NULL, NULL, &ops, &s, &s.ws, NULL);
		if (code == 0)
			settle(f);
		sn__mem_fail_nth(0);
		if (code == 0) {
			settle(f);
			served = s.n == 1 && !s.closed ? served + 1 : 0;
			finish(&s);
			settle(f);
		}
	}
	assert_int_equal(served, 20);
	assert_int_equal(http(f, &r, "GET", "/own", NULL, NULL), 200);
	assert_non_null(strstr(r.body, "policies"));
}

static void off_loopback(void **state)
{
	struct sn_agent_options opts = {.addr = world_addr("0.0.0.0:1")};
	struct sn_error err;

	assert_int_equal(sn__agent_check(&opts, &err), SN_E_REJECTED);
	assert_non_null(strstr(err.text, "0.0.0.0:1 is not loopback and nothing is encrypted"));
	opts.token = "x";
	assert_int_equal(sn__agent_check(&opts, &err), SN_E_REJECTED);
	opts.tls_cert = "c";
	assert_int_equal(sn__agent_check(&opts, &err), SN_E_INVALID);
	opts.tls_key = "k";
	assert_int_equal(sn__agent_check(&opts, &err), 0);
	opts.token = NULL;
	assert_int_equal(sn__agent_check(&opts, &err), SN_E_REJECTED);
	assert_non_null(strstr(err.text, "anybody could connect"));
	opts.tls_ca = "a";
	assert_int_equal(sn__agent_check(&opts, &err), 0);
	opts.tls_cert = opts.tls_key = NULL;
	assert_int_equal(sn__agent_check(&opts, &err), SN_E_INVALID);
	opts.tls_ca = NULL;
	opts.insecure = true;
	assert_int_equal(sn__agent_check(&opts, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(plain, setup, teardown),
			cmocka_unit_test_setup_teardown(sockets_and_reports, setup, teardown),
			cmocka_unit_test_setup_teardown(refused, setup, teardown),
			cmocka_unit_test_setup_teardown(unwell_ones_are_left_out, setup, teardown),
			cmocka_unit_test_setup_teardown(mesh_file_changes, setup, teardown),
			cmocka_unit_test_setup_teardown(
					mesh_file_unreadable_for_a_while, setup, teardown),
			cmocka_unit_test_setup_teardown(seed_message_as_mesh_file, setup, teardown),
			cmocka_unit_test_setup_teardown(close_tells_sockets, setup, teardown),
			cmocka_unit_test_setup_teardown(token_is_asked_for, setup, teardown),
			cmocka_unit_test_setup_teardown(one_that_never_reads, setup, teardown),
			cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
			cmocka_unit_test(off_loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
