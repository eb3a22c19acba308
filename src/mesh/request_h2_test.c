/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to peers that speak HTTP/2: the way to them, and what is sent again. Simulated. */
#include "io/h2_script.h"
#include "mesh/dest.h"
#include "mesh/mesh_world_test.h"
#include "mesh/request.h"

struct site {
	struct mesh_world w;
	struct sn_runtime rt;
	struct h2s srv;
	bool pool_closed;
};

struct owner {
	struct sn_fetch f;
	unsigned n_done, attempts;
	int code;
	size_t received;
	char text[SN_ERROR_TEXT_MAX];
};

static void peers(struct site *s, const char *protocol)
{
	char json[200];

	(void)snprintf(json, sizeof(json),
			"{\"1\": {\"protocol\": \"%s\", \"port\": %u, \"address\": \"127.0.0.1\"}}",
			protocol, sn__addr_port(&s->srv.addr));
	mw_peers_of(&s->w, "service", "a", json);
}

static void site_open(
		struct site *s, const char *protocol, const struct h2s_step *steps, unsigned n)
{
	memset(s, 0, sizeof(*s));
	mw_open(&s->w, 1);
	s->rt = (struct sn_runtime){.loop = s->w.loop,
			.catalog = s->w.cat,
			.policies = s->w.policies,
			.mesh = s->w.mesh};
	assert_int_equal(sn__http_pool_create(s->w.loop, NULL, &s->rt.pool), 0);
	mw_policies(&s->w, "{\"values\": {\"retry-unsafe\": false, \"deadline\": 5000}}");
	h2s_open(&s->srv, s->w.loop, steps, n);
	peers(s, protocol);
}

static void pool_closed(void *arg)
{
	((struct site *)arg)->pool_closed = true;
}

static void site_close(struct site *s)
{
	sn__mesh_close(s->w.mesh, mw_on_closed, &s->w);
	mw_run(&s->w, 100);
	assert_true(s->w.closed);
	sn__http_pool_close(s->rt.pool, pool_closed, s);
	mw_run(&s->w, 100);
	assert_true(s->pool_closed);
	h2s_finish(&s->srv);
	sn__tls_cache_destroy(s->rt.tls_cache);
	mw_close(&s->w);
}

static void owner_head(struct sn_fetch *f, const struct sn_http_head *head)
{
	assert_int_equal(head->major, 2);
}

static int owner_data(struct sn_fetch *f, struct sn_str data)
{
	SN_CONTAINER_OF(f, struct owner, f)->received += data.len;
	return 0;
}

static void owner_done(struct sn_fetch *f, const struct sn_error *err)
{
	struct owner *o = SN_CONTAINER_OF(f, struct owner, f);

	o->n_done++;
	o->code = err != NULL ? sn_error_code(err) : 0;
	o->attempts = f->call.attempt;
	(void)snprintf(o->text, sizeof(o->text), "%s", err != NULL ? sn_error_text(err) : "");
}

static const struct sn_fetch_ops owner_ops = {
		.on_head = owner_head, .on_data = owner_data, .on_done = owner_done};

static void owner_start(struct owner *o, struct site *s, const char *method)
{
	memset(o, 0, sizeof(*o));
	o->f.ops = &owner_ops;
	o->f.method = sn_str_from(method);
	o->f.url = SN_STR("/x");
	assert_int_equal(sn__catalog_target(s->w.cat, SN_STR("service"), SN_STR("a"),
					 SN_STR("default"), &o->f.target),
			0);
	assert_int_equal(sn__fetch_start(&s->rt, &o->f, NULL), 0);
}

static void owner_run(struct owner *o, struct site *s, const char *method)
{
	owner_start(o, s, method);
	for (int i = 0; i < 60000 && o->n_done == 0; i += 10)
		mw_run(&s->w, 10);
	assert_int_equal(o->n_done, 1);
}

static void test_shared_connection(void **state)
{
	static const struct h2s_step step = {.body = 5};
	struct owner o[20];
	struct site s;

	site_open(&s, "h2", &step, 1);
	for (int i = 0; i < 20; i++)
		owner_start(&o[i], &s, "GET");
	mw_run(&s.w, 1000);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(o[i].n_done, 1);
		assert_int_equal(o[i].code, 0);
		assert_int_equal(o[i].received, 5);
	}
	assert_int_equal(s.srv.n_accepted, 1);
	assert_non_null(strstr(s.srv.last.headers, "sinew-timeout-ms="));
	site_close(&s);
}

/* Whatever the peer did not look at may be sent again, of every class. */
static void test_refused_is_sent_again(void **state)
{
	static const struct h2s_step steps[] = {{H2S_RESET, .error = NGHTTP2_REFUSED_STREAM},
			{H2S_RESET, .error = NGHTTP2_REFUSED_STREAM}, {H2S_ANSWER, .body = 5}};
	struct owner o;
	struct site s;

	site_open(&s, "h2", steps, 3);
	owner_run(&o, &s, "POST");
	assert_int_equal(o.code, 0);
	assert_int_equal(o.received, 5);
	assert_int_equal(s.srv.n_requests, 3);
	site_close(&s);
}

/* A peer that drains is no broken one. */
static void test_refusals_trip_no_breaker(void **state)
{
	static const struct h2s_step refuse = {H2S_RESET, .error = NGHTTP2_REFUSED_STREAM};
	struct owner o;
	struct site s;

	site_open(&s, "h2", &refuse, 1);
	for (int i = 0; i < 20; i++) {
		owner_run(&o, &s, "GET");
		assert_int_equal(o.code, SN_E_RESET);
	}
	site_close(&s);
}

/* What it may have looked at, only if that does no harm. */
static void test_reset_is_sent_again_if_safe(void **state)
{
	static const struct h2s_step steps[] = {
			{H2S_RESET, .error = NGHTTP2_INTERNAL_ERROR}, {H2S_ANSWER, .body = 5}};
	static const char *const methods[] = {"GET", "POST"};
	struct owner o;
	struct site s;

	for (int i = 0; i < 2; i++) {
		site_open(&s, "h2", steps, 2);
		owner_run(&o, &s, methods[i]);
		if (i == 0) {
			assert_int_equal(o.code, 0);
			assert_int_equal(o.attempts, 2);
		} else {
			assert_int_equal(o.code, SN_E_RESET);
			assert_non_null(strstr(o.text, "INTERNAL_ERROR"));
			assert_int_equal(s.srv.n_requests, 1);
		}
		site_close(&s);
	}
}

static void test_goaway_is_not_noticed(void **state)
{
	static const struct h2s_step steps[] = {
			{H2S_ANSWER, .body = 5}, {H2S_GOAWAY_AWAY}, {H2S_ANSWER, .body = 5}};
	struct owner o;
	struct site s;

	site_open(&s, "h2", steps, 3);
	for (int i = 0; i < 2; i++) {
		owner_run(&o, &s, "POST");
		assert_int_equal(o.code, 0);
		assert_int_equal(o.attempts, 1);
	}
	assert_int_equal(s.srv.n_accepted, 2);
	site_close(&s);
}

static struct sn_peer_state *state_of(struct site *s)
{
	struct sn_target *t = mw_target_of(&s->w, "service", "a");
	struct sn_peer_state *ps = sn__mesh_peer(
			sn__mesh_target(s->w.mesh, t), &sn__target_peers(t)->peers[0]);

	assert_non_null(ps);
	return ps;
}

static const struct sn_policy *policy_of(struct site *s)
{
	return sn__mesh_policy(s->w.mesh, mw_target_of(&s->w, "service", "a"), SN_DIALECT_CORE);
}

static void test_ways(void **state)
{
	static const struct {
		const char *protocol, *url;
		bool http, grpc;
	} all[] = {
			{"", "http://127.0.0.1:", true, true},
			{"http", "http://127.0.0.1:", true, true},
			{"HTTPS", "https://127.0.0.1:", true, true},
			{"h2", "http://127.0.0.1:", true, true},
			{"grpc", NULL, false, true},
			{"grpcs", NULL, false, true},
			{"amqp", NULL, false, false},
	};
	static const struct h2s_step step = {.body = 5};
	struct sn_http_dest *http, *grpc;
	struct sn_peer_state *ps;
	struct sn_error err;
	struct site s;

	site_open(&s, "h2", &step, 1);
	for (size_t i = 0; i < SN_COUNT(all); i++) {
		peers(&s, all[i].protocol);
		ps = state_of(&s);
		http = grpc = NULL;
		assert_int_equal(sn__dest_of(&s.rt, ps, policy_of(&s), &http, &err),
				all[i].http ? 0 : SN_E_NOTSUP);
		assert_int_equal(sn__dest_grpc_of(&s.rt, ps, policy_of(&s), &grpc, &err),
				all[i].grpc ? 0 : SN_E_NOTSUP);
		if (!all[i].grpc)
			assert_non_null(strstr(err.text, "amqp"));
		if (all[i].http) {
			assert_ptr_not_equal(http, grpc);
			assert_memory_equal(sn__dest_url(ps).ptr, all[i].url, strlen(all[i].url));
		}
	}
	site_close(&s);
}

/* A way lives as long as the policies that it was made from. */
static void test_policies_change(void **state)
{
	static const struct h2s_step step = {.body = 5};
	struct sn_http_dest *first, *second;
	struct sn_peer_state *ps;
	struct owner o;
	struct site s;

	site_open(&s, "h2", &step, 1);
	ps = state_of(&s);
	assert_int_equal(sn__dest_of(&s.rt, ps, policy_of(&s), &first, NULL), 0);
	(void)sn__http_dest_ref(first); /* so that its place is not taken by the next */
	mw_policies(&s.w, "{\"values\": {\"timeout\": 4000}}");
	assert_int_equal(sn__dest_of(&s.rt, ps, policy_of(&s), &second, NULL), 0);
	assert_ptr_equal(first, second);
	mw_policies(&s.w, "{\"values\": {\"pool-streams\": 2, \"keep-alive\": 50}}");
	assert_int_equal(sn__dest_of(&s.rt, ps, policy_of(&s), &second, NULL), 0);
	assert_ptr_not_equal(first, second);
	sn__http_dest_unref(first);
	/* Two streams each. */
	{
		struct owner many[5];

		for (int i = 0; i < 5; i++)
			owner_start(&many[i], &s, "GET");
		mw_run(&s.w, 1000);
		for (int i = 0; i < 5; i++)
			assert_int_equal(many[i].code, 0);
	}
	assert_int_equal(s.srv.n_accepted, 3);
	owner_run(&o, &s, "GET");
	assert_int_equal(o.code, 0);
	site_close(&s);
}

/* An answer that does not come, from a peer that is not there any more. */
static void test_keep_alive(void **state)
{
	static const struct h2s_step step = {H2S_STALL};
	struct owner o;
	struct site s;

	site_open(&s, "h2", &step, 1);
	s.srv.silent = true;
	mw_policies(&s.w,
			"{\"values\": {\"keep-alive\": 50, \"keep-alive-timeout\": 100, "
			"\"retry-count\": 1}}");
	owner_run(&o, &s, "POST");
	assert_int_equal(o.code, SN_E_TIMEOUT);
	assert_non_null(strstr(o.text, "PING"));
	site_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_shared_connection),
			cmocka_unit_test(test_refused_is_sent_again),
			cmocka_unit_test(test_refusals_trip_no_breaker),
			cmocka_unit_test(test_reset_is_sent_again_if_safe),
			cmocka_unit_test(test_goaway_is_not_noticed),
			cmocka_unit_test(test_ways),
			cmocka_unit_test(test_policies_change),
			cmocka_unit_test(test_keep_alive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
