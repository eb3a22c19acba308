/* SPDX-License-Identifier: Apache-2.0 */

/* Peers that are not ours (a scripted HTTP/2 server of nghttp2's): what is refused, reset or no gRPC at
 * all, and what the mesh makes of it. And a call that a server makes to answer its own. */

#pragma GCC diagnostic ignored "-Wunused-function"
#include "io/h2_script.h"
#include "mesh/grpc_world_test.h"

struct strange {
	struct site site;
	struct h2s srv;
};

/* Peer "1" plays @step; with @echo there is a well one, too. */
static void strange_open(struct strange *t, const struct h2s_step *step, bool echo)
{
	char json[300];
	size_t at;

	site_begin(&t->site);
	memset(&t->srv, 0, sizeof(t->srv));
	h2s_open(&t->srv, t->site.w.loop, step, 1);
	at = (size_t)snprintf(json, sizeof(json),
			"{\"1\": {\"protocol\": \"grpc\", \"address\": \"127.0.0.1\", \"port\": %u}",
			sn__addr_port(&t->srv.addr));
	if (echo) {
		site_host(&t->site, echo_steps, 1);
		at += (size_t)snprintf(json + at, sizeof(json) - at,
				", \"2\": {\"protocol\": \"grpc\", \"address\": \"127.0.0.1\", "
				"\"port\": %u}",
				sn_grpc_server_port(t->site.hosts[0].server));
	}
	(void)snprintf(json + at, sizeof(json) - at, "}");
	mw_peers_of(&t->site.w, "service", "s", json);
}

static void strange_close(struct strange *t)
{
	sn__mesh_close(t->site.w.mesh, mw_on_closed, &t->site.w);
	site_run(&t->site, 100);
	sn__http_pool_close(t->site.rt.pool, site_pool_closed, &t->site);
	site_run(&t->site, 100);
	h2s_finish(&t->srv);
	assert_int_equal(sn__http_pool_create(t->site.w.loop, NULL, &t->site.rt.pool), 0);
	site_close(&t->site);
}

static const struct {
	const char *name;
	struct h2s_step step;
	int code, grpc;  /* without another peer */
	bool refused;    /* never processed: any call goes to the other peer */
	bool retried;    /* what may be repeated does */
	bool failure;    /* counts against the peer */
	const char *why; /* in the error */
} table[] = {
		{"refused", {H2S_RESET, .error = NGHTTP2_REFUSED_STREAM}, SN_E_RESET,
				SN_GRPC_UNAVAILABLE, true, true, true, "REFUSED_STREAM"},
		{"GOAWAY before it", {H2S_GOAWAY_AWAY}, SN_E_RESET, SN_GRPC_UNAVAILABLE, true, true,
				true, ""},
		{"reset", {H2S_RESET, .error = NGHTTP2_INTERNAL_ERROR}, SN_E_STATUS,
				SN_GRPC_INTERNAL, false, true, true, "status 13 INTERNAL"},
		{"cancelled by the peer", {H2S_RESET, .error = NGHTTP2_CANCEL}, SN_E_STATUS,
				SN_GRPC_CANCELLED, false, false, false, "status 1 CANCELLED"},
		{"asked to be calm", {H2S_RESET, .error = NGHTTP2_ENHANCE_YOUR_CALM}, SN_E_STATUS,
				SN_GRPC_RESOURCE_EXHAUSTED, false, true, false,
				"status 8 RESOURCE_EXHAUSTED"},
		{"closed", {H2S_CLOSE}, SN_E_RESET, SN_GRPC_UNAVAILABLE, false, true, true, ""},
		{"a proxy without a server", {.status = 503, .body = 5}, SN_E_STATUS,
				SN_GRPC_UNAVAILABLE, false, true, true, "status 14 UNAVAILABLE"},
		{"no such path", {.status = 404}, SN_E_STATUS, SN_GRPC_UNIMPLEMENTED, false, false,
				false, "status 12 UNIMPLEMENTED"},
		{"a page", {.status = 200, .body = 5}, SN_E_STATUS, SN_GRPC_UNKNOWN, false, true,
				true, "content-type"},
};

static void test_alone(void **state)
{
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		struct caller c = {.done = 0};
		struct strange t;

		strange_open(&t, &table[i].step, false);
		caller_run(&c, &t.site);
		if (c.code != table[i].code || c.grpc != table[i].grpc ||
				strstr(c.error, table[i].why) == NULL)
			fail_msg("%s: %d, %d, \"%s\"", table[i].name, c.code, c.grpc, c.error);
		assert_int_equal(mw_state(&t.site.w, "1")->n_failures > 0, table[i].failure);
		strange_close(&t);
	}
}

static void test_beside_a_good_one(void **state)
{
	for (size_t i = 0; i < 2 * SN_COUNT(table); i++) {
		bool idempotent = i % 2 == 1;
		unsigned good = 0;
		struct strange t;

		strange_open(&t, &table[i / 2].step, true);
		for (int k = 0; k < 12; k++) {
			struct caller c = {.o = {.idempotent = idempotent}};

			caller_run(&c, &t.site);
			good += c.code == 0;
			if (c.code == 0)
				assert_string_equal(c.identity, "2");
		}
		assert_true(t.srv.n_requests > 0);
		if (table[i / 2].refused || (idempotent && table[i / 2].retried))
			assert_int_equal(good, 12);
		else
			assert_true(good < 12);
		assert_true(t.site.hosts[0].log.n_calls == good);
		strange_close(&t);
	}
}

/* ---- streams ---- */

struct flow {
	unsigned ended, n;
	int grpc;
	char last[16];
};

static void flow_message(struct sn_grpc_stream *s, const void *data, size_t size, void *arg)
{
	struct flow *f = arg;

	f->n++;
	snprintf(f->last, sizeof(f->last), "%.*s", (int)SN_MIN(size, 15u), (const char *)data);
}

static void flow_end(struct sn_grpc_stream *s, const struct sn_error *err, void *arg)
{
	struct flow *f = arg;

	f->ended++;
	f->grpc = sn_grpc_error_code(err);
}

static const struct sn_grpc_stream_fns flow_fns = {.on_message = flow_message, .on_end = flow_end};

static void test_refused_streams_go_elsewhere(void **state)
{
	for (size_t i = 0; i < SN_COUNT(table); i++) {
		unsigned good = 0;
		struct strange t;

		strange_open(&t, &table[i].step, true);
		for (int k = 0; k < 12; k++) {
			struct sn_grpc_stream *s;
			struct flow f = {.n = 0};

			assert_int_equal(sn_grpc_stream_open(&t.site.rt, "service", "s", NULL,
							 "/t.S/Collect", NULL, &flow_fns, &f, &s,
							 NULL),
					0);
			t.site.hosts[0].log.received = 0;
			assert_int_equal(sn_grpc_stream_send(s, NULL, "abc", 3), 0);
			assert_int_equal(sn_grpc_stream_send(s, NULL, "de", 2), 0);
			sn_grpc_stream_end(s);
			site_run(&t.site, 20000);
			assert_int_equal(f.ended, 1);
			good += f.grpc == 0;
			if (f.grpc == 0)
				assert_string_equal(f.last, "5");
		}
		assert_true(t.srv.n_requests > 0);
		assert_int_equal(good == 12, table[i].refused);
		strange_close(&t);
	}
}

/* ---- a call made to answer a call ---- */

struct relay {
	struct site s;
	struct sn_grpc_exchange *x;
	struct sn_context here; /* at the relay */
	struct sn_grpc_service service;
	const struct sn_grpc_service *services[2];
	struct sn_grpc_server *server;
};

static void relay_answered(const struct sn_grpc_answer *a, const struct sn_error *err, void *arg)
{
	struct relay *r = arg;
	size_t size;
	const void *p;

	assert_null(err);
	p = sn_grpc_answer_bytes(a, &size);
	bytes_reply(r->x, &(struct sn_grpc_bytes){p, size});
}

static void relay_later(struct sn_runtime *rt, void *arg)
{
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;
	struct relay *r = arg;
	struct sn_context context;

	sn_grpc_exchange_context(r->x, &context);
	o.context = &context;
	o.bytes = "onward";
	o.bytes_size = 6;
	assert_int_equal(sn_grpc_call(rt, "service", "s", NULL, "/t.S/Do", NULL, &o, relay_answered,
					 r, NULL, NULL),
			0);
}

static void relay_start(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct relay *r = arg;

	r->x = x;
	sn_grpc_exchange_context(x, &r->here);
	assert_int_equal(sn_after(&r->s.rt, 300, relay_later, r), 0);
}

/* The deadline shrinks on the way, the trace goes on. */
static void test_context_goes_on(void **state)
{
	static const struct sn_grpc_method methods[] = {{.name = "Go", .start = relay_start}};
	struct relay r = {.x = NULL};
	struct sn_grpc_server_options o = {
			.size = sizeof(o), .listen = "127.0.0.1:0", .services = r.services};
	struct sn_grpc_options opts = {.size = sizeof(opts), .deadline_ms = 1000};
	const struct sn_context *there;
	struct caller c = {.site = &r.s};
	char json[128];

	site_open(&r.s, echo_steps, 1, NULL, 0);
	mw_policies(&r.s.w, "{\"values\": {\"enable-zipkin\": true}}");
	r.service = (struct sn_grpc_service){.size = sizeof(r.service),
			.name = "t.Relay",
			.methods = methods,
			.n_methods = 1,
			.arg = &r};
	r.services[0] = &r.service;
	assert_int_equal(sn_grpc_server_open(&r.s.rt, &o, &r.server, NULL), 0);
	snprintf(json, sizeof(json),
			"{\"1\": {\"protocol\": \"grpc\", \"port\": %u, \"address\": \"127.0.0.1\"}}",
			sn_grpc_server_port(r.server));
	mw_peers_of(&r.s.w, "service", "relay", json);
	assert_int_equal(sn_grpc_call(&r.s.rt, "service", "relay", NULL, "/t.Relay/Go", NULL, &opts,
					 caller_done, &c, NULL, NULL),
			0);
	site_run(&r.s, 900);
	assert_int_equal(c.done, 1);
	assert_string_equal(c.body, "onward");
	there = &r.s.hosts[0].log.context;
	assert_true(r.here.deadline_ms > 900 && r.here.deadline_ms <= 1000);
	assert_true(there->deadline_ms > 600 && there->deadline_ms <= 700);
	assert_true(r.here.trace_id[1] != 0);
	assert_int_equal(there->trace_id[1], r.here.trace_id[1]);
	assert_int_equal(there->parent_span_id, r.here.span_id);
	sn_grpc_server_close(r.server, 0);
	site_close(&r.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_alone),
			cmocka_unit_test(test_beside_a_good_one),
			cmocka_unit_test(test_refused_streams_go_elsewhere),
			cmocka_unit_test(test_context_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
