/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients, the sidecar, and peers over a network that is bad at random: calls whole and streamed over
 * HTTP/1.1 and HTTP/2, watches, upgraded connections, clients that go away, peers that change and that
 * break off, the sidecar draining under them. Whatever the seed:
 *
 *	- every exchange ends exactly once, at the client and at the peer
 *	- what ends well is whole and right, both ways; a call without retries is seen once at most
 *	- over a good network what nobody breaks off ends well
 *	- in the end nothing is under way, and nothing is left
 */
#include "io/seeds_test.h"
#include "io/tunnel.h"
#include "mesh/sidecar_world_test.h"

#define N 24
#define BODY_MAX 60000

enum kind { KIND_CALL, KIND_WATCH, KIND_UPGRADE };

struct tunnel_end { /* of an upgraded connection */
	struct sn_stream *stream;
	struct sn_loop *loop;
	struct sn_buf out;
	struct call *call;
	size_t said, heard;
	bool is_peer, shut, over;
};

struct call {
	struct sn_http_req req;
	struct sn_timer start, stop;
	struct sn_body_source src;
	struct sn_http_header headers[2];
	enum kind kind;
	char target[64];
	size_t request_size, answer_size, pulled, got;
	unsigned n_done, status;
	bool started, given_up, no_retry, by2;
	/* at the peer */
	unsigned seen, closed, how;
	struct sn_exchange *x;
	size_t heard, said;
	struct tunnel_end client, peer;
};

static struct {
	struct side_world s;
	struct call calls[N];
	struct sn_timer change;
	int pending;
	bool clean, draining;
} w;

static char pattern[BODY_MAX + 256]; /* a body begins at the call's number */

static size_t below(size_t n)
{
	return (size_t)sn__rng_below(sn__sim_rng(w.s.w.sim), n);
}

static unsigned id_of(const struct call *c)
{
	return (unsigned)(c - w.calls);
}

/* ---- the ends of an upgraded connection: the client says, the peer says it again ---- */

static void end_over(struct tunnel_end *e, bool reset)
{
	if (e->over)
		return;
	e->over = true;
	sn__stream_close(SN_TAKE(e->stream), reset);
	sn__buf_finish(&e->out);
	if (!e->is_peer)
		w.pending--;
}

static void end_write(struct tunnel_end *e)
{
	while (e->out.len > 0) {
		struct sn_str v = sn__buf_str(&e->out);
		ssize_t n = sn__stream_write(e->stream, &v, 1);

		if (n == SN_E_AGAIN)
			break;
		if (n < 0) {
			end_over(e, true);
			return;
		}
		sn__buf_consume(&e->out, (size_t)n);
	}
	sn__stream_want(e->stream, SN_READABLE | (e->out.len > 0 ? SN_WRITABLE : 0u));
}

static void end_heard(struct tunnel_end *e, const char *data, size_t n)
{
	struct call *c = e->call;

	assert_true(e->heard + n <= c->request_size);
	assert_memory_equal(data, pattern + id_of(c) + e->heard, n);
	e->heard += n;
	if (e->is_peer)
		assert_int_equal(sn__buf_append(&e->out, data, n), 0);
}

static void end_event(struct sn_stream *stream, unsigned events, void *arg)
{
	struct tunnel_end *e = arg;
	char piece[3000];
	ssize_t n = 0;

	while (!e->over && (n = sn__stream_read(stream, piece, sizeof(piece))) > 0)
		end_heard(e, piece, (size_t)n);
	if (e->over)
		return;
	if (n < 0 && n != SN_E_AGAIN) {
		end_over(e, true);
		return;
	}
	end_write(e);
	if (e->over)
		return;
	if (e->is_peer ? n == 0 && e->out.len == 0 : e->heard == e->call->request_size || n == 0)
		end_over(e, false);
}

static void end_take(struct tunnel_end *e, struct call *c, struct sn_stream *stream,
		struct sn_loop *loop, bool is_peer)
{
	*e = (struct tunnel_end){.stream = stream, .loop = loop, .call = c, .is_peer = is_peer};
	sn__buf_init(&e->out, 4 * BODY_MAX);
	if (!is_peer)
		assert_int_equal(sn__buf_append(&e->out, pattern + id_of(c), c->request_size), 0);
	sn_stream_set_owner(stream, end_event, e);
	sn__stream_want(stream, SN_READABLE | SN_WRITABLE);
}

/* ---- the peers ---- */

static void x_stream(struct sn_exchange *x, void *arg)
{
	struct call *c = arg;
	int r = 0;

	if (c->x != x)
		return; /* another attempt has taken over */
	while (c->said < c->answer_size && r == 0) {
		size_t n = below(9000) + 1;

		n = SN_MIN(n, c->answer_size - c->said);
		if (c->how == 3 && c->said > c->answer_size / 2) {
			sn_exchange_abort(x);
			return;
		}
		r = sn_exchange_write(x, pattern + id_of(c) + c->said, n);
		if (r == 0 || r == SN_E_AGAIN)
			c->said += n;
	}
	if (r == 0)
		r = sn_exchange_end(x, NULL, 0);
	assert_true(r == 0 || r == SN_E_AGAIN || r == SN_E_RESET);
}

static void x_answer(struct call *c)
{
	int r;

	if (c->how == 0) {
		r = sn_exchange_respond(c->x, 200, NULL, 0, pattern + id_of(c), c->answer_size);
		assert_true(r == 0 || r == SN_E_RESET);
		return;
	}
	c->said = 0;
	r = sn_exchange_start(c->x, 200, NULL, 0, c->how == 1 ? -1 : (int64_t)c->answer_size);
	assert_true(r == 0 || r == SN_E_RESET);
	if (r == 0) {
		sn_exchange_on_drain(c->x, x_stream, c);
		x_stream(c->x, c);
	}
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
	x_answer(c);
}

static void x_close(struct sn_exchange *x, int status, void *arg)
{
	struct call *c = arg;

	c->closed++;
	if (c->x == x)
		c->x = NULL;
}

static void x_upgrade(struct call *c, struct sn_exchange *x)
{
	static const struct sn_header headers[] = {{"Connection", "Upgrade"}, {"Upgrade", "echo"}};
	struct sn_buf rest, unsent;
	struct sn_stream *stream;

	assert_string_equal(sn_exchange_header(x, "upgrade"), "echo");
	if (c->peer.stream != NULL || sn_exchange_start(x, 101, headers, 2, -1) < 0) {
		sn_exchange_abort(x); /* of an attempt before */
		return;
	}
	sn__buf_init(&rest, BODY_MAX);
	sn__buf_init(&unsent, BODY_MAX);
	stream = sn__exchange_take_stream(x, &rest, &unsent);
	if (stream != NULL) {
		end_take(&c->peer, c, stream, w.s.peer_loop, true);
		assert_int_equal(sn__buf_append_str(&c->peer.out, sn__buf_str(&unsent)), 0);
		end_heard(&c->peer, sn__buf_data(&rest), rest.len);
	}
	sn__buf_finish(&rest);
	sn__buf_finish(&unsent);
}

static void on_exchange(struct sn_exchange *x, void *arg)
{
	struct call *c;
	uint64_t id;

	assert_int_equal(sn__parse_u64(sn_str_from(sn_exchange_path(x) + 1), N - 1, &id), 0);
	c = &w.calls[id];
	c->seen++;
	c->heard = 0;
	if (c->x != NULL) /* of an attempt that nobody waits for any more */
		sn_exchange_abort(c->x);
	c->x = x;
	c->how = (unsigned)below(w.clean ? 3 : 6);
	sn_exchange_on_close(x, x_close, c);
	if (c->kind == KIND_UPGRADE)
		x_upgrade(c, x);
	else if (c->how < 4)
		assert_int_equal(sn_exchange_read(x, x_body, c), 0);
	else if (c->how == 4)
		sn_exchange_abort(x);
	else
		assert_int_equal(sn_exchange_respond(x, 503, NULL, 0, NULL, 0), 0);
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
	if (c->kind == KIND_CALL) {
		assert_true(c->got + data.len <= c->answer_size);
		assert_memory_equal(data.ptr, pattern + id_of(c) + c->got, data.len);
	}
	c->got += data.len;
}

static void on_done(struct sn_http_req *req)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);
	struct sn_stream *stream = NULL;
	struct sn_buf rest;

	assert_int_equal(++c->n_done, 1);
	sn__timer_stop(w.s.client_loop, &c->stop);
	if (c->kind == KIND_UPGRADE && req->result.code == 0 && req->result.status == 101) {
		sn__buf_init(&rest, BODY_MAX);
		stream = sn__http_take_stream(req, &rest);
		assert_int_equal(rest.len, 0); /* the peer says nothing first */
		sn__buf_finish(&rest);
	}
	if (stream != NULL)
		end_take(&c->client, c, stream, w.s.client_loop, false);
	else
		w.pending--;
}

static const struct sn_http_req_ops ops = {
		.on_head = on_head, .on_data = on_data, .on_done = on_done};

static void on_stop(struct sn_timer *t)
{
	struct call *c = SN_CONTAINER_OF(t, struct call, stop);

	if (c->n_done == 0)
		sn__http_cancel(&c->req, SN_E_TIMEOUT);
	else if (c->client.stream != NULL)
		end_over(&c->client, true);
}

static ssize_t pull(struct sn_body_source *src, void *out, size_t n)
{
	struct call *c = SN_CONTAINER_OF(src, struct call, src);

	n = SN_MIN(n, c->request_size - c->pulled);
	memcpy(out, pattern + id_of(c) + c->pulled, n);
	c->pulled += n;
	return (ssize_t)n;
}

static void make_call(struct call *c)
{
	bool post = below(2) != 0;

	c->req.method = post ? SN_STR("PUT") : SN_STR("GET");
	c->request_size = post ? below(4) == 0 ? below(BODY_MAX) : below(300) : 0;
	if (post) {
		c->src = (struct sn_body_source){
				.read = pull, .length = below(2) ? -1 : (int64_t)c->request_size};
		c->req.source = &c->src;
	}
	if (below(3) == 0) {
		c->no_retry = true;
		c->headers[c->req.n_headers++] = (struct sn_http_header){
				SN_STR("sinew-retry"), SN_STR("none")};
	}
}

static void on_start(struct sn_timer *t)
{
	struct call *c = SN_CONTAINER_OF(t, struct call, start);

	c->kind = below(6) == 0 ? KIND_WATCH : below(5) == 0 ? KIND_UPGRADE : KIND_CALL;
	c->by2 = c->kind != KIND_UPGRADE && below(2) == 0;
	c->answer_size = below(4) == 0 ? below(BODY_MAX) : below(300);
	(void)snprintf(c->target, sizeof(c->target), "/call/service/s/default/%u", id_of(c));
	c->req = (struct sn_http_req){
			.ops = &ops, .method = SN_STR("GET"), .idle_timeout_ms = 30000};
	c->req.headers = c->headers;
	if (c->kind == KIND_CALL)
		make_call(c);
	if (c->kind == KIND_WATCH)
		(void)snprintf(c->target, sizeof(c->target), "/peers/service/s/default?watch");
	if (c->kind == KIND_UPGRADE) {
		c->request_size = below(20000) + 1;
		c->req.upgrade = true;
		c->headers[c->req.n_headers++] = (struct sn_http_header){
				SN_STR("Upgrade"), SN_STR("echo")};
	}
	c->req.target = sn_str_from(c->target);
	c->started = true;
	assert_int_equal(sn__http_start(c->by2 ? w.s.by2 : w.s.by1, &c->req, NULL), 0);
	c->given_up = below(12) == 0 || c->kind == KIND_WATCH;
	sn__timer_start(w.s.client_loop, &c->stop,
			(c->given_up ? below(400) : 60000) * SN_NS_PER_MS, on_stop);
}

/* ---- the world ---- */

static void on_change(struct sn_timer *t)
{
	static const char *const values[] = {
			"{\"1\":{\"protocol\":\"http\",\"address\":\"10.0.0.1\",\"port\":80}}",
			/* one text, and clang knows it */
			("{\"1\":{\"protocol\":\"http\",\"address\":\"10.0.0.1\",\"port\":80},"
			 "\"2\":{\"protocol\":\"http\",\"address\":\"10.0.0.2\",\"port\":80}}"),
			"{\"2\":{\"protocol\":\"http\",\"address\":\"10.0.0.2\",\"port\":80}}"};
	static struct mw_update up;

	if (up.u.work != NULL && !up.done) {
		sn__timer_start(w.s.w.loop, t, SN_NS_PER_MS, on_change);
		return;
	}
	up = (struct mw_update){.path = {.n = 3,
						.part = {SN_STR("service"), SN_STR("s"),
								SN_STR("default")}},
			.json = values[below(3)]};
	up.u.work = mw_work;
	up.u.done = mw_updated;
	sn__catalog_submit(w.s.w.cat, &up.u);
	if (w.pending > 0)
		sn__timer_start(w.s.w.loop, t, below(200) * SN_NS_PER_MS, on_change);
}

static void open_world(uint64_t seed)
{
	struct sn_sim_options net = {0};

	memset(&w, 0, sizeof(w));
	side_open(&w.s, seed, on_exchange, NULL);
	mw_policies(&w.s.w,
			"{\"values\":{\"retry-initial-delay\":20,\"retry-max-delay\":50,"
			"\"breaker\":false}}");
	w.clean = below(3) == 0;
	w.draining = below(4) == 0;
	net.latency_min_ns = 1000;
	net.latency_max_ns = below(5000000) + 1000;
	net.partial_write = (unsigned)below(300);
	net.partial_read = (unsigned)below(300);
	net.window = below(3) == 0 ? 3000 : 0;
	if (!w.clean) {
		net.loss = (unsigned)below(20);
		net.reset = (unsigned)below(10);
		net.refuse = (unsigned)below(50);
	}
	sn__sim_set(w.s.w.sim, &net);
}

static void check(const struct call *c, bool single)
{
	const struct sn_http_result *res = &c->req.result;
	bool good = w.clean && !c->given_up && !w.draining;

	if (single)
		print_message("%u: kind %d over %d, %s %u, seen %u, how %u, %s\n", id_of(c),
				c->kind, c->by2 ? 2 : 1, sn_code_name(res->code), res->status,
				c->seen, c->how, res->detail);
	assert_int_equal(c->n_done, 1);
	assert_int_equal(c->closed, c->seen);
	assert_true(c->client.over || c->client.call == NULL);
	assert_true(c->peer.over || c->peer.call == NULL);
	if (c->no_retry && c->kind == KIND_CALL)
		assert_true(c->seen <= 1);
	if (c->kind == KIND_CALL && res->code == 0 && res->status == 200) {
		assert_int_equal(c->got, c->answer_size);
		assert_int_equal(c->heard, c->request_size);
	}
	if (good && c->kind == KIND_CALL) {
		assert_int_equal(res->code, 0);
		assert_int_equal(res->status, 200);
	}
	if (good && c->kind == KIND_UPGRADE) {
		assert_int_equal(res->status, 101);
		assert_int_equal(c->client.heard, c->request_size);
	}
	if (w.clean && c->kind == KIND_WATCH && res->status == 200 && c->req.result.code == 0)
		assert_true(c->got > 0);
}

static void one(uint64_t seed, bool single)
{
	open_world(seed);
	w.pending = N;
	for (int i = 0; i < N; i++)
		sn__timer_start(w.s.client_loop, &w.calls[i].start, below(500) * SN_NS_PER_MS,
				on_start);
	if (below(2) == 0)
		sn__timer_start(w.s.w.loop, &w.change, below(200) * SN_NS_PER_MS, on_change);
	for (int i = 0; w.pending > 0; i++) {
		assert_true(i < 200000);
		if (w.draining && i == 250)
			side_stop(&w.s, (uint32_t)below(2000));
		mw_run(&w.s.w, 1);
	}
	mw_run(&w.s.w, 40000); /* the peers' ends hear of it */
	for (int i = 0; i < N; i++)
		check(&w.calls[i], single);
	assert_true(w.s.n_lines > 0 || w.draining);
	side_close(&w.s);
}

int main(void)
{
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (char)('!' + (i * 31 + i / 97) % 90);
	seeds_known[0] = 3422; /* an exchange of HTTP/1.1 in what one of HTTP/2 had left behind */
	return seeds_main("sidecar", one);
}
