/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients, the proxy of inbound requests, and a service over a network that is bad at random: over
 * HTTP/1.1 and HTTP/2 on both sides, with and without deadlines, a service that streams, breaks off, is
 * silent, closes its kept connections, clients that go away. Whatever the seed:
 *
 *	- every request ends exactly once, at the client and at the service
 *	- what ends well is whole and right, both ways
 *	- the service sees it once; twice at most when it may be sent twice
 *	- what came too late is not seen at all; what has a deadline ends with it
 *	- over a good network, a service that answers is heard
 *	- in the end nothing is in flight, and nothing is left
 */
#include "io/http.h"
#include "io/seeds_test.h"
#include "mesh/api.h"
#include "mesh/inbound.h"
#include "mesh/mesh_world_test.h"
#include "mesh/relay.h"

#define N 24
#define BODY_MAX 60000
#define SLACK_NS (200 * SN_NS_PER_MS) /* of a deadline: the network's own, and the wheel's */

enum how {
	RESPONDS,
	STREAMS,
	STREAMS_SIZED,
	LAST_GOOD = STREAMS_SIZED,
	BREAKS,
	ABORTS,
	SILENT,
	HOWS
};

struct call {
	struct sn_http_req req;
	struct sn_timer start, stop;
	struct sn_body_source src;
	struct sn_http_header headers[2];
	char target[16], timeout[24];
	size_t request_size, answer_size, pulled, got;
	int64_t deadline_ms; /* -1: none */
	uint64_t start_ns, end_ns;
	unsigned n_done, status;
	bool given_up, twice;
	/* at the service */
	unsigned seen, closed;
	enum how how;
	struct sn_exchange *x;
	size_t heard, said;
};

static struct {
	struct mesh_world w;
	struct sn_runtime rt;
	struct sn_loop *client_loop, *service_loop;
	struct sn_http_server *service;
	struct sn_http_pool *clients;
	struct sn_http_dest *by1, *by2;
	bool pool_closed, clients_closed, service_closed;
	struct call calls[N];
	int pending;
	bool clean;
} w;

static char pattern[BODY_MAX + 256]; /* a body begins at the call's number */

static size_t below(size_t n)
{
	return (size_t)sn__rng_below(sn__sim_rng(w.w.sim), n);
}

static unsigned id_of(const struct call *c)
{
	return (unsigned)(c - w.calls);
}

/* ---- the service ---- */

static void x_stream(struct sn_exchange *x, void *arg)
{
	struct call *c = arg;
	int r = 0;

	while (c->x == x && c->said < c->answer_size && r == 0) {
		size_t n = below(9000) + 1;

		n = SN_MIN(n, c->answer_size - c->said);
		if (c->how == BREAKS && c->said > c->answer_size / 2) {
			sn_exchange_abort(x);
			return;
		}
		r = sn_exchange_write(x, pattern + id_of(c) + c->said, n);
		if (r == 0 || r == SN_E_AGAIN)
			c->said += n;
	}
	if (c->x == x && r == 0)
		r = sn_exchange_end(x, NULL, 0);
	assert_true(r == 0 || r == SN_E_AGAIN || r == SN_E_RESET);
}

static void x_answer(struct call *c)
{
	static const struct sn_header close[] = {{"Connection", "close"}};
	size_t n = below(4) == 0;
	int r;

	if (c->how == RESPONDS) {
		r = sn_exchange_respond(c->x, 200, close, n, pattern + id_of(c), c->answer_size);
	} else {
		r = sn_exchange_start(c->x, 200, close, n,
				c->how == STREAMS_SIZED ? (int64_t)c->answer_size : -1);
		if (r == 0) {
			sn_exchange_on_drain(c->x, x_stream, c);
			x_stream(c->x, c);
		}
	}
	assert_true(r == 0 || r == SN_E_RESET);
}

static void x_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct call *c = arg;

	if (status != 0 || c->x != x)
		return;
	assert_true(c->heard + size <= c->request_size);
	assert_memory_equal(body, pattern + id_of(c) + c->heard, size);
	c->heard += size;
	if (size > 0)
		return;
	assert_int_equal(c->heard, c->request_size);
	if (c->how != SILENT)
		x_answer(c);
}

static void x_close(struct sn_exchange *x, int status, void *arg)
{
	struct call *c = arg;

	c->closed++;
	if (c->x == x)
		c->x = NULL;
}

static void on_exchange(struct sn_exchange *x, void *arg)
{
	struct call *c;
	uint64_t id;

	assert_int_equal(sn__parse_u64(sn_str_from(sn_exchange_path(x) + 1), N - 1, &id), 0);
	assert_string_equal(sn_exchange_header(x, "host"), "127.0.0.1:7000");
	c = &w.calls[id];
	assert_int_not_equal(c->deadline_ms, 0);
	c->seen++;
	c->heard = c->said = 0;
	if (c->x != NULL)
		sn_exchange_abort(c->x);
	c->x = x;
	c->how = (enum how)below(w.clean ? LAST_GOOD + 1 : HOWS);
	sn_exchange_on_close(x, x_close, c);
	if (c->how == ABORTS)
		sn_exchange_abort(x);
	else
		assert_int_equal(sn_exchange_read(x, x_body, c), 0);
}

/* ---- the clients ---- */

static void on_head(struct sn_http_req *req, const struct sn_http_head *head)
{
	SN_CONTAINER_OF(req, struct call, req)->status = head->status;
}

static void on_data(struct sn_http_req *req, struct sn_str data)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);

	if (c->status != 200)
		return; /* a problem document */
	assert_true(c->got + data.len <= c->answer_size);
	assert_memory_equal(data.ptr, pattern + id_of(c) + c->got, data.len);
	c->got += data.len;
}

static void on_done(struct sn_http_req *req)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);

	assert_int_equal(++c->n_done, 1);
	sn__timer_stop(w.client_loop, &c->stop);
	c->end_ns = sn__loop_now_ns(w.client_loop);
	w.pending--;
}

static const struct sn_http_req_ops ops = {
		.on_head = on_head, .on_data = on_data, .on_done = on_done};

static void on_stop(struct sn_timer *t)
{
	sn__http_cancel(&SN_CONTAINER_OF(t, struct call, stop)->req, SN_E_TIMEOUT);
}

static ssize_t pull(struct sn_body_source *src, void *out, size_t n)
{
	struct call *c = SN_CONTAINER_OF(src, struct call, src);

	n = SN_MIN(n, c->request_size - c->pulled);
	memcpy(out, pattern + id_of(c) + c->pulled, n);
	c->pulled += n;
	return (ssize_t)n;
}

static void on_start(struct sn_timer *t)
{
	static const char *const methods[] = {"GET", "POST", "PUT", "DELETE"};
	struct call *c = SN_CONTAINER_OF(t, struct call, start);
	size_t method = below(4);

	c->answer_size = below(4) == 0 ? below(BODY_MAX) : below(300);
	(void)snprintf(c->target, sizeof(c->target), "/%u", id_of(c));
	c->req = (struct sn_http_req){.ops = &ops,
			.method = sn_str_from(methods[method]),
			.target = sn_str_from(c->target),
			.headers = c->headers,
			.idle_timeout_ms = 30000};
	c->twice = method != 1;
	if (method == 1 || method == 2) {
		c->request_size = below(4) == 0 ? below(BODY_MAX) : below(300);
		c->twice = method == 2 && c->request_size == 0;
		c->src = (struct sn_body_source){
				.read = pull, .length = below(2) ? -1 : (int64_t)c->request_size};
		c->req.source = &c->src;
	}
	c->deadline_ms = below(3) > 0 ? -1 : below(4) == 0 ? 0 : (int64_t)below(3000) + 1;
	if (c->deadline_ms >= 0) {
		(void)snprintf(c->timeout, sizeof(c->timeout), "%d", (int)c->deadline_ms);
		c->headers[c->req.n_headers++] = (struct sn_http_header){
				SN_STR("sinew-timeout-ms"), sn_str_from(c->timeout)};
	}
	c->start_ns = sn__loop_now_ns(w.client_loop);
	assert_int_equal(sn__http_start(below(2) ? w.by2 : w.by1, &c->req, NULL), 0);
	c->given_up = below(12) == 0;
	sn__timer_start(w.client_loop, &c->stop, (c->given_up ? below(400) : 90000) * SN_NS_PER_MS,
			on_stop);
}

/* ---- the world ---- */

static void set_network(void)
{
	struct sn_sim_options net = {.latency_min_ns = 1000};

	w.clean = below(3) == 0;
	net.latency_max_ns = below(5000000) + 1000;
	net.partial_write = (unsigned)below(300);
	net.partial_read = (unsigned)below(300);
	net.window = below(3) == 0 ? 3000 : 0;
	if (!w.clean) {
		net.loss = (unsigned)below(20);
		net.reset = (unsigned)below(10);
		net.refuse = (unsigned)below(50);
	}
	sn__sim_set(w.w.sim, &net);
}

static void runtime_open(void)
{
	struct sn_relay_options o = {.listen = "127.0.0.1:7000",
			.to = "http://10.0.0.1:80",
			.http2 = below(2) != 0,
			.timeout_ms = 5000};
	struct sn_error err;

	w.rt = (struct sn_runtime){.loop = w.w.loop,
			.catalog = w.w.cat,
			.policies = w.w.policies,
			.recorder = w.w.recorder,
			.metrics = w.w.metrics,
			.tracer = w.w.tracer,
			.mesh = w.w.mesh};
	sn_list_init(&w.rt.servers);
	sn_list_init(&w.rt.lingering);
	sn_list_init(&w.rt.dialects);
	atomic_store(&w.rt.state, SN_RUNTIME_OPEN);
	if (w.rt.tracer == NULL)
		assert_int_equal(sn__tracer_create(w.w.loop, &w.rt.tracer), 0);
	assert_int_equal(sn__inbounds_create(&w.rt, &w.rt.inbounds), 0);
	assert_int_equal(sn__http_pool_create(w.w.loop, NULL, &w.rt.pool), 0);
	assert_int_equal(sn__relay_listen(&w.rt, &o, &err), 0);
}

static void open_world(uint64_t seed)
{
	struct sn_http_server_config config = {0};
	struct sn_http_dest_options to = {.host = "127.0.0.1", .port = 7000, .version = SN_HTTP_1};

	memset(&w, 0, sizeof(w));
	mw_open(&w.w, seed);
	set_network();
	runtime_open();
	assert_int_equal(sn__sim_loop(w.w.sim, &w.client_loop), 0);
	assert_int_equal(sn__sim_loop(w.w.sim, &w.service_loop), 0);
	assert_int_equal(sn__addr_parse_listen(SN_STR("10.0.0.1:80"), &config.addr, NULL), 0);
	assert_int_equal(sn__http_server_open(w.service_loop, &config, on_exchange, NULL,
					 &w.service, NULL),
			0);
	assert_int_equal(sn__http_pool_create(w.client_loop, NULL, &w.clients), 0);
	assert_int_equal(sn__http_dest_create(w.clients, &to, &w.by1), 0);
	to.version = SN_HTTP_2;
	assert_int_equal(sn__http_dest_create(w.clients, &to, &w.by2), 0);
}

static void set_true(void *arg)
{
	*(bool *)arg = true;
}

static void nothing_in_flight(void)
{
	struct sn_buf out;

	sn__buf_init(&out, 1 << 20);
	assert_int_equal(sn__metrics_render(w.w.metrics, &out), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_non_null(strstr(sn__buf_data(&out),
			"sinew_inbound_inflight{listener=\"127.0.0.1:7000\"} 0\n"));
	sn__buf_finish(&out);
}

static void close_world(void)
{
	nothing_in_flight();
	SN_LIST_FOREACH_SAFE (pos, &w.rt.servers)
		sn__hosted_close(SN_CONTAINER_OF(pos, struct sn_hosted, link), 0);
	mw_run(&w.w, 100);
	assert_true(sn_list_empty(&w.rt.servers) && sn_list_empty(&w.rt.lingering));
	assert_int_equal(w.rt.drain_holds, 0); /* every request has ended */
	sn__http_dest_unref(w.by1);
	sn__http_dest_unref(w.by2);
	sn__http_pool_close(w.clients, set_true, &w.clients_closed);
	sn__http_pool_close(w.rt.pool, set_true, &w.pool_closed);
	sn__http_server_close(w.service, 0, set_true, &w.service_closed);
	mw_run(&w.w, 60000);
	assert_true(w.clients_closed && w.pool_closed && w.service_closed);
	sn__inbounds_destroy(w.rt.inbounds);
	if (w.w.tracer == NULL)
		sn__tracer_destroy(w.rt.tracer);
	sn__loop_close(w.client_loop, NULL, NULL);
	sn__loop_close(w.service_loop, NULL, NULL);
	mw_close(&w.w);
}

static void check(const struct call *c, bool single)
{
	const struct sn_http_result *res = &c->req.result;
	uint64_t took_ns = c->end_ns - c->start_ns;

	if (single)
		print_message("%u: %.*s %s %u, seen %u, how %d, deadline %d ms, took %d ms, %s\n",
				id_of(c), (int)c->req.method.len, c->req.method.ptr,
				sn_code_name(res->code), res->status, c->seen, (int)c->how,
				(int)c->deadline_ms, (int)(took_ns / SN_NS_PER_MS), res->detail);
	assert_int_equal(c->n_done, 1);
	assert_int_equal(c->closed, c->seen);
	assert_true(c->seen <= (c->twice ? 2u : 1u));
	if (c->deadline_ms == 0)
		assert_int_equal(c->seen, 0);
	if (res->code == 0 && res->status == 200) {
		assert_int_equal(c->got, c->answer_size);
		assert_int_equal(c->heard, c->request_size);
	}
	if (w.clean && c->deadline_ms > 0)
		assert_true(took_ns <= sn_ms_to_ns((uint64_t)c->deadline_ms) + SLACK_NS ||
				res->status == 200);
	if (w.clean && c->deadline_ms == 0 && !c->given_up)
		assert_int_equal(res->status, 504);
	if (w.clean && c->deadline_ms < 0 && !c->given_up) {
		assert_int_equal(res->code, 0);
		assert_int_equal(res->status, 200);
	}
}

static void one(uint64_t seed, bool single)
{
	open_world(seed);
	w.pending = N;
	for (int i = 0; i < N; i++)
		sn__timer_start(w.client_loop, &w.calls[i].start, below(500) * SN_NS_PER_MS,
				on_start);
	for (int i = 0; w.pending > 0; i++) {
		assert_true(i < 200000);
		mw_run(&w.w, 1);
	}
	mw_run(&w.w, 60000); /* the service hears of it */
	for (int i = 0; i < N; i++)
		check(&w.calls[i], single);
	close_world();
}

int main(void)
{
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (char)('!' + (i * 31 + i / 97) % 90);
	return seeds_main("relay", one);
}
