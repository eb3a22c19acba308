/* SPDX-License-Identifier: Apache-2.0 */

/* gRPC servers of a runtime: opening, health, closing. */

#pragma GCC diagnostic ignored "-Wunused-function"
#include "mesh/grpc_world_test.h"

static int open_with(struct site *s, const struct sn_grpc_server_options *o, const char *why)
{
	struct sn_grpc_server *server;
	struct sn_error *err = NULL;
	int r = sn_grpc_server_open(&s->rt, o, &server, &err);

	if (r == 0) {
		sn_grpc_server_close(server, 0);
		site_run(s, 50);
		assert_null(err);
		return 0;
	}
	assert_non_null(err);
	assert_int_equal(sn_error_code(err), r);
	if (strstr(sn_error_text(err), why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", sn_error_text(err), why);
	sn_error_destroy(err);
	return r;
}

static void test_options(void **state)
{
	static const struct sn_grpc_service twin = {.size = sizeof(twin), .name = "t.S"};
	static const struct sn_grpc_service *const twins[] = {&twin, &twin, NULL};
	static const struct sn_grpc_service *const none[] = {NULL};
	struct sn_grpc_server_options o = {.size = sizeof(o), .listen = "127.0.0.1:0"};
	struct site s;

	site_begin(&s);
	assert_int_equal(open_with(&s, &o, ""), 0); /* nothing but health and reflection */
	o.services = none;
	o.no_health = o.no_reflection = true;
	assert_int_equal(open_with(&s, &o, ""), 0);
	o.services = twins;
	assert_int_equal(open_with(&s, &o, "t.S"), SN_E_INVALID);
	o.services = none;
	o.listen = NULL;
	assert_int_equal(open_with(&s, &o, "listen"), SN_E_INVALID);
	o.listen = "nowhere";
	assert_int_equal(open_with(&s, &o, "nowhere"), SN_E_PARSE);
	o.listen = "127.0.0.1:0";
	o.tls_key = "key.pem";
	assert_int_equal(open_with(&s, &o, "go together"), SN_E_INVALID);
	o.tls_cert = "/does/not/exist.pem";
	assert_true(open_with(&s, &o, "exist") < 0);
	o.size = 4;
	assert_int_equal(open_with(&s, &o, "options.size"), SN_E_INVALID);
	site_close(&s);
}

/* ---- health ---- */

static void health_done(const struct sn_grpc_answer *a, const struct sn_error *err, void *arg)
{
	const unsigned char *p;
	size_t size;
	int *ret = arg;

	*ret = -sn_grpc_error_code(err);
	if (err != NULL)
		return;
	p = sn_grpc_answer_bytes(a, &size);
	assert_true(size == 2 && p[0] == 0x08); /* status = ... */
	*ret = p[1];
}

/* 1: SERVING, 2: NOT_SERVING, else minus the status. */
static int health_of(struct site *s, const char *service)
{
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;
	char request[64];
	int got = 99;

	o.bytes = request;
	o.bytes_size = (size_t)snprintf(
			request, sizeof(request), "\x0a%c%s", (char)strlen(service), service);
	if (service[0] == '\0')
		o.bytes_size = 0;
	assert_int_equal(sn_grpc_call(&s->rt, "service", "s", NULL, "/grpc.health.v1.Health/Check",
					 NULL, &o, health_done, &got, NULL, NULL),
			0);
	site_run(s, 100);
	assert_int_not_equal(got, 99);
	return got;
}

static void test_health(void **state)
{
	struct sn_grpc_server_options o = {
			.size = sizeof(o), .listen = "127.0.0.1:0", .no_health = true};
	struct sn_grpc_server *server, *mute;
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	server = s.hosts[0].server;
	assert_int_equal(health_of(&s, ""), 1);
	assert_int_equal(health_of(&s, "t.S"), 1);
	assert_int_equal(health_of(&s, "t.Else"), -SN_GRPC_NOT_FOUND);
	assert_int_equal(sn_grpc_server_set_serving(server, "t.S", false), 0);
	assert_int_equal(health_of(&s, "t.S"), 2);
	assert_int_equal(health_of(&s, ""), 1);
	assert_int_equal(sn_grpc_server_set_serving(server, NULL, false), 0);
	assert_int_equal(health_of(&s, ""), 2);
	assert_int_equal(sn_grpc_server_set_serving(server, "t.S", true), 0);
	assert_int_equal(health_of(&s, "t.S"), 1);
	assert_int_equal(sn_grpc_server_set_serving(server, "t.Else", true), SN_E_NOT_FOUND);
	assert_int_equal(sn_grpc_server_open(&s.rt, &o, &mute, NULL), 0);
	assert_int_equal(sn_grpc_server_set_serving(mute, NULL, true), SN_E_NOT_FOUND);
	sn_grpc_server_close(mute, 0);
	site_close(&s);
}

/* ---- closing ---- */

struct watch {
	unsigned n, ended;
	unsigned char last;
	int grpc;
};

static void watch_message(struct sn_grpc_stream *s, const void *data, size_t size, void *arg)
{
	struct watch *w = arg;

	assert_int_equal(size, 2);
	w->n++;
	w->last = ((const unsigned char *)data)[1];
}

static void watch_end(struct sn_grpc_stream *s, const struct sn_error *err, void *arg)
{
	struct watch *w = arg;

	w->ended++;
	w->grpc = sn_grpc_error_code(err);
}

static const struct sn_grpc_stream_fns watch_fns = {
		.on_message = watch_message, .on_end = watch_end};

/* While it closes health says so to who watches, and a call that is open may end. */
static void test_close_with_grace(void **state)
{
	static const struct do_step hold[] = {{.hold = true}};
	struct caller c = {.done = 0};
	struct watch w = {.n = 0};
	struct sn_grpc_stream *watch;
	struct site s;

	site_open(&s, hold, 1, NULL, 0);
	assert_int_equal(sn_grpc_stream_open(&s.rt, "service", "s", NULL,
					 "/grpc.health.v1.Health/Watch", NULL, &watch_fns, &w,
					 &watch, NULL),
			0);
	assert_int_equal(sn_grpc_stream_send(watch, NULL, "", 0), 0);
	sn_grpc_stream_end(watch);
	caller_start(&c, &s);
	site_run(&s, 100);
	assert_int_equal(w.n, 1);
	assert_int_equal(w.last, 1);
	sn_grpc_server_close(s.hosts[0].server, 5000);
	s.hosts[0].server = NULL;
	site_run(&s, 1000);
	assert_int_equal(w.n, 2);
	assert_int_equal(w.last, 2);
	assert_int_equal(w.ended, 1);
	assert_int_equal(c.done, 0);
	bytes_reply(s.hosts[0].held, &(struct sn_grpc_bytes){"late", 4});
	site_run(&s, 100);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.code, 0);
	assert_string_equal(c.body, "late");
	assert_true(sn_list_empty(&s.rt.servers)); /* it did not wait for the rest of the grace */
	site_close(&s);
}

static void test_close_without(void **state)
{
	static const struct do_step hold[] = {{.hold = true}};
	struct caller c = {.o = {.retry = SN_RETRY_NONE}};
	struct site s;

	site_open(&s, hold, 1, NULL, 0);
	caller_start(&c, &s);
	site_run(&s, 100);
	sn_grpc_server_close(s.hosts[0].server, 0);
	s.hosts[0].server = NULL;
	site_run(&s, 100);
	assert_int_equal(c.done, 1);
	assert_int_equal(c.grpc, SN_GRPC_UNAVAILABLE);
	assert_int_equal(s.hosts[0].log.n_closed, 1);
	assert_int_equal(s.hosts[0].log.closed, SN_E_CLOSED);
	site_close(&s);
}

/* ---- HTTP beside gRPC ---- */

static void http_answer(struct sn_exchange *x, void *arg)
{
	assert_int_equal(sn_exchange_respond(x, 200, NULL, 0, arg, strlen(arg)), 0);
}

static void http_done(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	*(unsigned *)arg = res != NULL ? sn_response_status(res) : 1;
}

static void test_http_beside(void **state)
{
	char page[] = "a page";

	for (int with = 0; with < 2; with++) {
		struct sn_grpc_server_options o = {.size = sizeof(o),
				.listen = "127.0.0.1:0",
				.http = with ? http_answer : NULL,
				.http_arg = page};
		struct sn_grpc_server *server;
		unsigned status = 0;
		struct site s;
		char json[128];

		site_begin(&s);
		assert_int_equal(sn_grpc_server_open(&s.rt, &o, &server, NULL), 0);
		snprintf(json, sizeof(json),
				"{\"1\": {\"protocol\": \"http\", \"port\": %u, \"address\": "
				"\"127.0.0.1\"}}",
				sn_grpc_server_port(server));
		mw_peers_of(&s.w, "service", "s", json);
		assert_int_equal(sn_request(&s.rt, "service", "s", NULL, NULL, http_done, &status,
						 NULL, NULL),
				0);
		site_run(&s, 100);
		assert_int_equal(status, with ? 200 : 415);
		sn_grpc_server_close(server, 0);
		site_close(&s);
	}
}

static void test_out_of_memory(void **state)
{
	bool more = true;

	for (uint64_t n = 1; more; n++) {
		struct sn_grpc_service service = {.size = sizeof(service),
				.name = "t.S",
				.methods = host_methods,
				.n_methods = SN_COUNT(host_methods)};
		const struct sn_grpc_service *const services[] = {&service, NULL};
		struct sn_grpc_server_options o = {
				.size = sizeof(o), .listen = "127.0.0.1:0", .services = services};
		struct sn_grpc_server *server;
		struct site s;
		int r;

		site_begin(&s);
		sn__mem_fail_nth(n);
		r = sn_grpc_server_open(&s.rt, &o, &server, NULL);
		more = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r == 0)
			sn_grpc_server_close(server, 0);
		else
			assert_true(more);
		site_close(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_options),
			cmocka_unit_test(test_health),
			cmocka_unit_test(test_close_with_grace),
			cmocka_unit_test(test_close_without),
			cmocka_unit_test(test_http_beside),
			cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
