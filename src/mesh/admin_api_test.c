/* SPDX-License-Identifier: Apache-2.0 */
/* The admin API of a runtime, over real sockets: answers, and every allocation of it failing once. */
#include "mesh/admin_api.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/test.h"
#include "base/time.h"
#include "mesh/catalog_write.h"
#include "mesh/config.h"
#include "mesh/mesh.h"
#include "mesh/metrics.h"
#include "mesh/recorder.h"

#define CALL_ID "0000000000000abc"

static char path[64]; /* of the socket */

static int make_folder(void **state)
{
	(void)snprintf(path, sizeof(path), "/tmp/sinew-admin-XXXXXX");
	if (mkdtemp(path) == NULL)
		return -1;
	memcpy(path + strlen(path), "/s", 3);
	return 0;
}

static int remove_folder(void **state)
{
	path[strlen(path) - 2] = '\0';
	return rmdir(path);
}

/* ---- a runtime that has something to tell ---- */

struct world {
	struct sn_runtime *rt;
	unsigned drained;
};

static void on_drain(struct sn_runtime *rt, bool over, void *arg)
{
	((struct world *)arg)->drained++;
}

struct update {
	struct sn_update u;
	bool done;
};

static const struct sn_path peers_path = {
		.n = 3, .part = {{"service", 7}, {"basket", 6}, {"rest", 4}}};

static int work(struct sn_update *u, struct sn_batch *batch)
{
	return sn__batch_set_peers(batch, &peers_path,
			SN_STR("{\"1\":{\"protocol\":\"http\",\"address\":\"10.0.0.1\",\"port\":80,"
			       "\"config\":{\"secretKey\":\"geheim\"}}}"));
}

static void updated(struct sn_update *u, int code, uint32_t changes)
{
	assert_int_equal(code, 0);
	SN_CONTAINER_OF(u, struct update, u)->done = true;
}

static void step(struct sn_runtime *rt)
{
	struct pollfd p = {.fd = sn_runtime_fd(rt), .events = POLLIN};
	int ms = sn_runtime_timeout(rt);

	(void)poll(&p, 1, ms < 0 || ms > 20 ? 20 : ms);
	assert_int_equal(sn_runtime_step(rt), 0);
}

static void fill(struct world *w)
{
	static struct sn_record rec;
	struct update up = {.u = {.work = work, .done = updated}};
	struct sn_target *t;

	sn__catalog_submit(w->rt->catalog, &up.u);
	while (!up.done)
		step(w->rt);
	assert_int_equal(sn__catalog_target(w->rt->catalog, SN_STR("service"), SN_STR("basket"),
					 SN_STR("rest"), &t),
			0);
	(void)sn__mesh_policy(w->rt->mesh, t, SN_DIALECT_BERLIOZ);
	rec = (struct sn_record){.id = 0xabc,
			.wall_ns = 1800000000123000000,
			.story = true,
			.code = SN_E_TIMEOUT,
			.attempts = 1,
			.n_attempts = 1};
	(void)snprintf(rec.target, sizeof(rec.target), "service basket/rest");
	(void)snprintf(rec.text, sizeof(rec.text), "cut in \xc3"); /* inside a character */
	rec.attempts_kept[0].code = SN_E_TIMEOUT;
	sn__recorder_add(w->rt->recorder, &rec);
}

static int open_runtime(struct world *w)
{
	const struct sn_options opts = {.size = sizeof(opts), .mode = SN_MODE_FOREIGN, .seed = 1};

	memset(w, 0, sizeof(*w));
	return sn__runtime_create(&opts, NULL, NULL, &w->rt, NULL);
}

static void open_world(struct world *w, const char *token)
{
	char listen[80];
	struct sn_admin_options opts = {.listen = listen, .token = token, .name = "t"};

	assert_int_equal(open_runtime(w), 0);
	(void)snprintf(listen, sizeof(listen), "unix:%s", path);
	opts.config = json_pack("{s:s, s:{s:s}}", "name", "t", "x", "apiKey", "geheim");
	opts.origins = json_pack("{s:{s:s, s:s}}", "name", "value", "t", "from", "f:1:1");
	assert_int_equal(sn__admin_listen(w->rt, &opts, NULL), 0);
	json_decref(opts.config);
	json_decref(opts.origins);
	assert_int_equal(sn__runtime_start(w->rt, NULL), 0);
	fill(w);
}

static void close_world(struct world *w)
{
	assert_int_equal(sn_close(w->rt, NULL, NULL), 0);
	assert_int_equal(access(path, F_OK), -1); /* the socket goes with it */
}

/* ---- a client that takes no memory of the library ---- */

static char answer[65536];

static int dial(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(un.sun_path, path, strlen(path) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

static uint64_t fail_nth; /* allocation of the next request; 0: none */

/* The status; 0: the connection was closed without a word. */
static unsigned ask(struct world *w, const char *method, const char *target, const char *more,
		const char *body)
{
	char request[2048];
	size_t got = 0;
	ssize_t n;
	int fd = dial(), len;

	/* Accepted first: without memory for that, accepting rests for 100 ms. */
	for (int i = 0; i < 3; i++)
		assert_int_equal(sn_runtime_step(w->rt), 0);
	sn__mem_fail_nth(fail_nth);

	len = snprintf(request, sizeof(request),
			"%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s"
			"Content-Length: %zu\r\n\r\n%s",
			method, target, more, strlen(body), body);
	assert_int_equal(write(fd, request, (size_t)len), len);
	for (;;) {
		n = read(fd, answer + got, sizeof(answer) - 1 - got);
		if (n > 0)
			got += (size_t)n;
		else if (n < 0 && errno == EAGAIN)
			step(w->rt);
		else
			break;
	}
	(void)close(fd);
	answer[got] = '\0';
	if (got == 0)
		return 0;
	assert_memory_equal(answer, "HTTP/1.1 ", 9);
	return (unsigned)strtoul(answer + 9, NULL, 10);
}

static const char *body_of(void)
{
	const char *body = strstr(answer, "\r\n\r\n");

	return body != NULL ? body + 4 : "";
}

static const struct {
	const char *method, *target, *body;
	unsigned status;
	const char *word; /* in the answer */
} requests[] = {
		{"GET", "/", "", 200, "<title>sinew"},
		{"GET", "/healthz", "", 200, "{\"status\":\"ok\",\"name\":\"t\"}"},
		{"GET", "/readyz", "", 200, "{\"ready\":true,\"missing\":[]}"},
		{"GET", "/metrics", "", 200, "sinew_inflight{target=\"service basket/rest\"} 0\n"},
		{"GET", "/peers", "", 200, "\"10.0.0.1\""},
		{"GET", "/peers/service/basket/rest", "", 200, "\"secretKey\":\"***\""},
		{"GET", "/peers/service/nobody", "", 404, "there is no service nobody"},
		{"GET", "/policies", "", 200, "\"timeout\":{"},
		{"GET", "/policies/service/basket/rest", "", 200, "\"timeout\":{"},
		{"GET", "/policies/wizard/x", "", 400, "unknown kind"},
		{"GET", "/breakers", "", 200, "[]"},
		{"GET", "/breakers/service/basket/rest", "", 200, "[]"},
		{"PUT", "/breakers/service/basket/rest", "{\"state\": \"open\"}", 200,
				"{\"done\":true}"},
		{"PUT", "/breakers/service/basket/rest", "{\"state\": \"auto\", \"peer\": \"1\"}",
				200, "{\"done\":true}"},
		{"PUT", "/breakers/service/basket/rest", "{\"state\": \"opne\"}", 400,
				"open, close"},
		{"PUT", "/breakers/service/basket/rest", "{", 400, "problem"},
		{"GET", "/targets", "", 200, "\"target\":\"service basket/rest\",\"peers\":1"},
		{"GET", "/why", "", 200, "[{\"id\":\"" CALL_ID "\""},
		{"GET", "/why?text&failed&limit=3", "", 200, "call " CALL_ID},
		{"GET", "/why/" CALL_ID, "", 200, "\"text\":\"cut in \xef\xbf\xbd\""},
		{"GET", "/why/last?text", "", 200, "failed after"},
		{"GET", "/why/0000000000000def", "", 404, "no call has had this id"},
		{"GET", "/config", "", 200, "{\"name\":\"t\",\"x\":{\"apiKey\":\"***\"}}"},
		{"GET", "/config?origin", "", 200, "\"from\":\"f:1:1\""},
		{"GET", "/nowhere", "", 404, "there is no /nowhere"},
		{"DELETE", "/peers", "", 405, "/peers is for GET"},
		{"DELETE", "/breakers", "", 405, "Allow: GET, HEAD, PUT\r\n"},
		{"GET", "/drain", "", 405, "Allow: POST\r\n"},
		{"POST", "/drain", "", 501, "by other means"},
};

static void answers(void **state)
{
	struct world w;

	open_world(&w, NULL);
	for (size_t i = 0; i < SN_COUNT(requests); i++) {
		unsigned status = ask(
				&w, requests[i].method, requests[i].target, "", requests[i].body);

		if (status != requests[i].status || strstr(answer, requests[i].word) == NULL)
			fail_msg("%s %s: %s", requests[i].method, requests[i].target, answer);
		assert_null(strstr(answer, "geheim"));
	}
	w.rt->on_drain = on_drain;
	w.rt->on_drain_arg = &w;
	assert_int_equal(ask(&w, "POST", "/drain", "", ""), 202);
	while (w.drained == 0)
		step(w.rt);
	close_world(&w);
}

static void tokens(void **state)
{
	const char *put = "/breakers/service/basket/rest", *body = "{\"state\": \"open\"}";
	struct world w;

	open_world(&w, "geheim");
	assert_int_equal(ask(&w, "GET", "/config", "", ""), 200); /* only our user gets this far */
	assert_int_equal(ask(&w, "PUT", put, "", body), 401);
	assert_non_null(strstr(answer, "WWW-Authenticate: Bearer\r\n"));
	assert_int_equal(ask(&w, "PUT", put, "Authorization: Bearer geheiM\r\n", body), 401);
	assert_int_equal(ask(&w, "PUT", put, "Authorization: Bearer geheimm\r\n", body), 401);
	assert_int_equal(ask(&w, "PUT", put, "Authorization: Bearer geheim\r\n", body), 200);
	assert_int_equal(ask(&w, "POST", "/nowhere", "", ""), 401);
	assert_int_equal(ask(&w, "GET", "/config", "Origin: http://evil.example\r\n", ""), 403);
	close_world(&w);
}

static void where_it_listens(void **state)
{
	struct sn_admin_options opts = {.name = "t"};
	static const char *const bad[] = {"0.0.0.0:0", "[::]:0", "nowhere", ""};
	struct world w;
	struct sn_error err;
	struct stat st;

	assert_int_equal(open_runtime(&w), 0);
	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		opts.listen = bad[i];
		assert_int_not_equal(sn__admin_listen(w.rt, &opts, &err), 0);
		assert_true(strlen(err.text) > 0);
	}
	sn__runtime_destroy(w.rt);
	open_world(&w, NULL);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	close_world(&w);
}

/* ---- want of memory ---- */

/* The request in one life; whether the @nth allocation inside it failed. */
static bool poor_request(struct world *w, size_t i, uint64_t nth)
{
	unsigned status;
	bool failed;

	fail_nth = nth;
	status = ask(w, requests[i].method, requests[i].target, "", requests[i].body);
	failed = sn__mem_failed();
	fail_nth = 0;
	sn__mem_fail_nth(0);
	if (status == requests[i].status)
		return failed; /* it could do without */
	if (!failed)
		fail_msg("%s: %s", requests[i].target, answer);
	/* 400: jansson does not always say that it was memory. */
	if (status != 0 && status != 500 && status != 503 &&
			(status != 400 || requests[i].method[0] != 'P'))
		fail_msg("%s, allocation %d: %s", requests[i].target, (int)nth, answer);
	if (status == 500)
		assert_non_null(strstr(body_of(), "memory"));
	return true;
}

static void requests_without_memory(void **state)
{
	int64_t live = sn__mem_live();
	struct world w;
	uint64_t n, all = 0;

	json_set_alloc_funcs(sn__malloc, sn__free);
	open_world(&w, NULL);
	for (size_t i = 0; i < SN_COUNT(requests); i++) {
		for (n = 1; poor_request(&w, i, n); n++)
			assert_true(n < 2000);
		all += n;
	}
	assert_true(all > 300);
	close_world(&w);
	json_set_alloc_funcs(malloc, free);
	assert_int_equal(sn__mem_live(), live);
}

static void opening_without_memory(void **state)
{
	char listen[80];
	struct sn_admin_options opts = {.listen = listen, .token = "geheim", .name = "t"};
	int64_t live;
	uint64_t n;

	(void)snprintf(listen, sizeof(listen), "unix:%s", path);
	json_set_alloc_funcs(sn__malloc, sn__free);
	opts.config = json_pack("{s:s}", "aKey", "b");
	opts.origins = json_pack("{s:s}", "a", "b");
	live = sn__mem_live();
	for (n = 1; n < 200; n++) {
		struct world w;
		struct sn_error err;
		bool failed;
		int r;

		assert_int_equal(open_runtime(&w), 0);
		sn__mem_fail_nth(n);
		r = sn__admin_listen(w.rt, &opts, &err);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		sn__runtime_destroy(w.rt);
		assert_int_equal(sn__mem_live(), live);
		if (!failed)
			break;
	}
	assert_in_range(n, 5, 199);
	json_decref(opts.config);
	json_decref(opts.origins);
	json_set_alloc_funcs(malloc, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(answers),
			cmocka_unit_test(tokens),
			cmocka_unit_test(where_it_listens),
			cmocka_unit_test(requests_without_memory),
			cmocka_unit_test(opening_without_memory),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
