/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC client against gRPC server over HTTP/2, over a network that is bad at random: unary calls and
 * streams of each kind, compressed or not, with pauses, cancels, deadlines, late answers and
 * statuses. Every call ends once at both ends; messages arrive whole and in order, and all of them
 * where it ended well.
 */
#include "base/mem.h"
#include "base/test.h"
#include "io/grpc_client.h"
#include "io/grpc_server.h"
#include "io/http_server.h"
#include "io/seeds_test.h"
#include "io/sim.h"

#define N 12
#define SIZE_MAX_OF_ONE 40000
#define MESSAGES_MAX 12

enum method { UNARY, UP, DOWN, CHAT };
static const char *const paths[] = {"/s.S/Unary", "/s.S/Up", "/s.S/Down", "/s.S/Chat"};

/* One direction of a call: message @i has sizes[i] bytes, of which the first two are the call's and
 * the message's number. */
struct way {
	unsigned n, sent, got;
	size_t sizes[MESSAGES_MAX];
};

struct call {
	struct sn_grpc_req req;
	struct sn_http_header metadata[1];
	char id_text[4];
	enum method method;
	struct way up, down;
	struct sn_timer start, go_on, stop, resume;
	struct sn_buf framed;
	unsigned n_done;
	bool given_up, done;
	uint64_t timeout_ns;
	/* at the server */
	struct sn_grpc_exchange *x;
	struct sn_timer later, x_resume;
	unsigned seen, closed;
	bool listens; /* on_close is set */
	bool x_ended, x_waits, up_ended;
	int status; /* to end with */
	int close_status;
};

static struct {
	struct sn_sim *sim;
	struct sn_loop *client, *server_loop;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct sn_http_server *server;
	struct sn_grpc_services *services;
	struct call calls[N];
	int pending;
	bool pool_gone, server_gone;
} w;

static char pattern[SIZE_MAX_OF_ONE + 300];

static size_t below(size_t n)
{
	return (size_t)sn__rng_below(sn__sim_rng(w.sim), n);
}

static uint64_t soon(void)
{
	return below(30) * SN_NS_PER_MS;
}

static unsigned id_of(const struct call *c)
{
	return (unsigned)(c - w.calls);
}

static void way_init(struct way *way, bool streams)
{
	way->n = streams ? (unsigned)below(MESSAGES_MAX + 1) : 1;
	for (unsigned i = 0; i < way->n; i++)
		way->sizes[i] = 2 + (below(6) == 0 ? below(SIZE_MAX_OF_ONE) : below(200));
}

/* The next message, in memory that lives until the next call of this. */
static struct sn_str way_next(struct call *c, struct way *way)
{
	static char message[SIZE_MAX_OF_ONE + 2];
	unsigned i = way->sent++;

	message[0] = (char)id_of(c);
	message[1] = (char)i;
	memcpy(message + 2, pattern + i, way->sizes[i] - 2);
	return (struct sn_str){message, way->sizes[i]};
}

static void way_check(struct call *c, struct way *way, struct sn_str message)
{
	unsigned i = way->got++;

	assert_true(i < way->n);
	assert_int_equal(message.len, way->sizes[i]);
	assert_int_equal(message.ptr[0], id_of(c));
	assert_int_equal(message.ptr[1], i);
	assert_memory_equal(message.ptr + 2, pattern + i, message.len - 2);
}

/* ---- the server ---- */

static void x_finish(struct call *c)
{
	struct sn_grpc_exchange *x = c->x;

	if (x == NULL || c->x_ended)
		return;
	c->x_ended = true;
	if (!c->listens)
		c->x = NULL;
	sn_grpc_exchange_finish(x, c->status, c->status != 0 ? "as told" : NULL, NULL, 0);
}

static void x_send(struct call *c)
{
	int r = 0;

	while (c->x != NULL && !c->x_ended && c->down.sent < c->down.n && r == 0) {
		struct sn_str message = way_next(c, &c->down);

		r = sn_grpc_exchange_send(c->x, NULL, message.ptr, message.len);
		assert_true(r == 0 || r == SN_E_AGAIN || r == SN_E_RESET);
		c->x_waits = r == SN_E_AGAIN;
		if (c->method == CHAT)
			break; /* one for one */
		if (below(4) == 0 && !c->x_waits) {
			sn__timer_start(w.server_loop, &c->later, soon(), c->later.fn);
			return;
		}
	}
	if (c->x_waits || (c->method == CHAT && !c->up_ended))
		return;
	x_finish(c);
}

static void on_later(struct sn_timer *t)
{
	x_send(SN_CONTAINER_OF(t, struct call, later));
}

static void on_drain(struct sn_grpc_exchange *x, void *arg)
{
	struct call *c = arg;

	c->x_waits = false;
	if (c->method == CHAT) {
		sn_grpc_exchange_pause(x, false);
		if (c->up_ended)
			x_finish(c);
	} else if (!c->x_ended) {
		x_send(c);
	}
}

static void on_close(struct sn_grpc_exchange *x, int status, void *arg)
{
	struct call *c = arg;

	assert_int_equal(++c->closed, 1);
	c->close_status = status;
	c->x = NULL;
	sn__timer_stop(w.server_loop, &c->later);
	sn__timer_stop(w.server_loop, &c->x_resume);
	assert_true(status == 0 || status == SN_E_CANCELLED || status == SN_E_DEADLINE ||
			status == SN_E_CLOSED);
	if (status == 0)
		assert_true(c->x_ended);
}

static struct call *x_begin(struct sn_grpc_exchange *x)
{
	uint64_t id;
	struct call *c;
	size_t size;
	const char *text = sn_grpc_exchange_header(x, "x-id", &size);

	assert_non_null(text);
	assert_int_equal(sn__parse_u64((struct sn_str){text, size}, N - 1, &id), 0);
	c = &w.calls[id];
	assert_int_equal(++c->seen, 1);
	assert_string_equal(sn_grpc_exchange_method(x), paths[c->method]);
	*sn_grpc_exchange_slot(x) = c;
	c->x = x;
	c->listens = below(4) != 0;
	if (c->listens)
		sn_grpc_exchange_on_close(x, on_close, c);
	sn_grpc_exchange_on_drain(x, on_drain, c);
	sn_grpc_exchange_gzip(x, below(3) == 0);
	if (below(5) == 0)
		(void)!sn_grpc_exchange_send_header(x);
	c->later.fn = on_later;
	return c;
}

/* One request, one or more answers. */
static void start_down(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *bytes = request;
	struct call *c = x_begin(x);

	way_check(c, &c->up, (struct sn_str){bytes->data, bytes->size});
	c->up_ended = true;
	if (below(2) == 0)
		x_send(c);
	else
		sn__timer_start(w.server_loop, &c->later, soon(), on_later);
}

static void start_up(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct call *c = x_begin(x);

	if (c->status != 0 && below(2) == 0)
		x_finish(c); /* without hearing it */
}

static void on_x_resume(struct sn_timer *t)
{
	struct call *c = SN_CONTAINER_OF(t, struct call, x_resume);

	if (c->x != NULL && !c->x_waits)
		sn_grpc_exchange_pause(c->x, false);
}

static void message_up(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *bytes = request;
	struct call *c = *sn_grpc_exchange_slot(x);

	assert_false(c->up_ended);
	assert_int_equal(c->closed, 0);
	if (bytes == NULL) {
		c->up_ended = true;
		assert_int_equal(c->up.got, c->up.n);
		if (c->method == CHAT ? !c->x_waits : c->x != NULL)
			x_send(c);
		return;
	}
	way_check(c, &c->up, (struct sn_str){bytes->data, bytes->size});
	if (c->method == CHAT)
		x_send(c);
	if (c->x == NULL || c->x_ended)
		return;
	if (c->x_waits) {
		sn_grpc_exchange_pause(x, true);
	} else if (below(8) == 0 && c->listens) {
		sn_grpc_exchange_pause(x, true);
		sn__timer_start(w.server_loop, &c->x_resume, soon(), on_x_resume);
	}
}

static const struct sn_grpc_method methods[] = {
		{.name = "Unary", .start = start_down},
		{.name = "Up", .start = start_up, .message = message_up, .client_streams = true},
		{.name = "Down", .start = start_down, .server_streams = true},
		{.name = "Chat",
				.start = start_up,
				.message = message_up,
				.client_streams = true,
				.server_streams = true},
};
static const struct sn_grpc_service service = {.size = sizeof(service),
		.name = "s.S",
		.methods = methods,
		.n_methods = SN_COUNT(methods)};

/* ---- the client ---- */

static void go_on(struct call *c)
{
	int r = 0;

	while (c->up.sent < c->up.n && r == 0) {
		r = sn__grpc_send(&c->req, way_next(c, &c->up));
		/* STATE: the answer is whole, and only our pause keeps it from being told. */
		assert_true(r == 0 || r == SN_E_AGAIN || r == SN_E_STATE);
		if (r == 0 && below(3) == 0) {
			sn__timer_start(w.client, &c->go_on, soon(), c->go_on.fn);
			return;
		}
	}
	if (r == 0)
		sn__grpc_end(&c->req);
}

static void on_go_on(struct sn_timer *t)
{
	go_on(SN_CONTAINER_OF(t, struct call, go_on));
}

static void on_client_drain(struct sn_grpc_req *req)
{
	go_on(SN_CONTAINER_OF(req, struct call, req));
}

static void on_resume(struct sn_timer *t)
{
	sn__grpc_pause(&SN_CONTAINER_OF(t, struct call, resume)->req, false);
}

static void on_message(struct sn_grpc_req *req, struct sn_str message)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);

	assert_false(c->done);
	assert_false(sn_timer_armed(&c->resume));
	way_check(c, &c->down, message);
	if (below(8) != 0)
		return;
	sn__grpc_pause(req, true);
	sn__timer_start(w.client, &c->resume, soon(), on_resume);
}

static void on_done(struct sn_grpc_req *req)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);

	assert_int_equal(++c->n_done, 1);
	c->done = true;
	sn__timer_stop(w.client, &c->stop);
	sn__timer_stop(w.client, &c->resume);
	sn__timer_stop(w.client, &c->go_on);
	w.pending--;
}

static const struct sn_grpc_req_ops ops = {
		.on_message = on_message, .on_drain = on_client_drain, .on_done = on_done};

static void on_stop(struct sn_timer *t)
{
	struct call *c = SN_CONTAINER_OF(t, struct call, stop);

	sn__grpc_cancel(&c->req, c->timeout_ns != 0 ? SN_E_DEADLINE : SN_E_CANCELLED);
}

static void on_start(struct sn_timer *t)
{
	struct call *c = SN_CONTAINER_OF(t, struct call, start);
	bool streams = c->method == UP || c->method == CHAT;

	(void)snprintf(c->id_text, sizeof(c->id_text), "%u", id_of(c));
	c->metadata[0] = (struct sn_http_header){SN_STR("x-id"), sn_str_from(c->id_text)};
	c->req = (struct sn_grpc_req){.ops = &ops,
			.path = sn_str_from(paths[c->method]),
			.metadata = c->metadata,
			.n_metadata = 1,
			.streams = streams,
			.one_answer = c->method == UNARY || c->method == UP,
			.gzip = below(3) == 0,
			.timeout_ns = c->timeout_ns};
	sn__buf_init(&c->framed, 1 << 20);
	if (!streams) {
		assert_int_equal(sn__grpc_frame(&c->framed, way_next(c, &c->up), c->req.gzip), 0);
		c->req.framed = sn__buf_str(&c->framed);
	}
	c->go_on.fn = on_go_on;
	assert_int_equal(sn__grpc_start(w.dest, &c->req, NULL), 0);
	if (streams)
		go_on(c);
	sn__timer_start(w.client, &c->stop,
			c->timeout_ns != 0            ? c->timeout_ns
					: c->given_up ? below(60) * SN_NS_PER_MS
						      : 60 * SN_NS_PER_S,
			on_stop);
}

/* ---- the world ---- */

static void call_plan(struct call *c)
{
	c->method = (enum method)below(4);
	way_init(&c->up, c->method == UP || c->method == CHAT);
	way_init(&c->down, c->method == DOWN);
	if (c->method == CHAT)
		c->down = c->up;
	c->given_up = below(8) == 0;
	if (below(6) == 0)
		c->timeout_ns = (below(80) + 1) * SN_NS_PER_MS;
	c->status = below(8) == 0 ? (int)below(16) + 1 : 0;
	w.pending++;
	sn__timer_start(w.client, &c->start, below(200) * SN_NS_PER_MS, on_start);
}

static void world_open(uint64_t seed, bool *ret_clean)
{
	struct sn_sim_options net = {.seed = seed};
	struct sn_http_server_config config = {.max_body = UINT64_MAX};
	struct sn_http_pool_options opts = {0};
	struct sn_http_dest_options d = {.host = "127.0.0.1", .port = 80, .version = SN_HTTP_2};

	memset(&w, 0, sizeof w);
	assert_int_equal(sn__sim_create(&net, &w.sim), 0);
	*ret_clean = below(3) == 0;
	net = (struct sn_sim_options){.latency_min_ns = 1000,
			.latency_max_ns = below(5000000) + 1000,
			.partial_write = (unsigned)below(300),
			.partial_read = (unsigned)below(300),
			.window = below(3) == 0 ? 3000 : 0};
	if (!*ret_clean) {
		net.loss = (unsigned)below(20);
		net.reset = (unsigned)below(8);
		net.refuse = (unsigned)below(50);
	}
	sn__sim_set(w.sim, &net);
	assert_int_equal(sn__sim_loop(w.sim, &w.client), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.server_loop), 0);
	assert_int_equal(sn__grpc_services_create(w.server_loop, NULL, &w.services), 0);
	assert_int_equal(sn__grpc_services_add(w.services, &service, NULL), 0);
	assert_int_equal(sn__addr_from_literal(SN_STR("127.0.0.1"), 80, &config.addr), 0);
	config.max_streams = (unsigned)below(8) + 1;
	assert_int_equal(sn__http_server_open(w.server_loop, &config, sn__grpc_handle, w.services,
					 &w.server, NULL),
			0);
	opts.max_per_dest = (unsigned)below(3) + 1;
	opts.idle_ms = (unsigned)below(200) + 1;
	assert_int_equal(sn__http_pool_create(w.client, &opts, &w.pool), 0);
	assert_int_equal(sn__http_dest_create(w.pool, &d, &w.dest), 0);
}

static void on_gone(void *arg)
{
	*(bool *)arg = true;
}

static void check(const struct call *c, bool clean, bool single)
{
	const struct sn_grpc_req *req = &c->req;

	if (single)
		print_message("%u: %s: %s, %s \"%s\", up %u/%u/%u, down %u/%u/%u, seen %u, closed %u "
			      "%s%s%s\n",
				id_of(c), paths[c->method], sn_code_name(req->code),
				sn_grpc_code_name(req->status.code),
				req->status.text != NULL ? req->status.text : "", c->up.n,
				c->up.sent, c->up.got, c->down.n, c->down.sent, c->down.got,
				c->seen, c->closed, sn_code_name(c->close_status),
				c->given_up ? ", given up" : "",
				c->timeout_ns != 0 ? ", deadline" : "");
	assert_int_equal(c->n_done, 1);
	assert_true(c->seen <= 1);
	assert_int_equal(c->closed, c->seen == 1 && c->listens);
	if (req->http.result.sent == SN_SENT_NO)
		assert_int_equal(c->seen, 0);
	assert_int_equal(req->code == 0, req->status.code == SN_GRPC_OK);
	if (req->code == 0) {
		assert_int_equal(c->status, 0);
		assert_int_equal(c->down.got, c->down.n);
		assert_int_equal(c->up.got, c->up.n);
	} else if (clean && !c->given_up && c->timeout_ns == 0 &&
			req->http.result.sent != SN_SENT_NO) { /* refused twice: try again */
		assert_int_equal(req->code, SN_E_STATUS);
		assert_int_equal(req->status.code, c->status);
		assert_string_equal(req->status.text, "as told");
	}
}

static void run(const bool *over)
{
	for (int i = 0; over != NULL ? !*over : w.pending > 0; i++) {
		assert_true(i < 100000);
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_MS);
	}
}

/* What a handler that does not listen still holds, it ends some time. */
static void end_held(void)
{
	for (int i = 0; i < N; i++)
		x_finish(&w.calls[i]);
}

static void one(uint64_t seed, bool single)
{
	bool clean;

	world_open(seed, &clean);
	for (int i = 0; i < N; i++)
		call_plan(&w.calls[i]);
	run(NULL);
	sn__http_dest_unref(w.dest);
	sn__http_pool_close(w.pool, on_gone, &w.pool_gone);
	run(&w.pool_gone);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_S);
	end_held();
	sn__http_server_close(w.server, 1000, on_gone, &w.server_gone);
	run(&w.server_gone);
	for (int i = 0; i < N; i++) {
		check(&w.calls[i], clean, single);
		sn__grpc_status_finish(&w.calls[i].req.status);
		sn__buf_finish(&w.calls[i].framed);
	}
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 5 * SN_NS_PER_S); /* what lingers */
	sn__grpc_services_destroy(w.services);
	sn__loop_close(w.client, NULL, NULL);
	sn__loop_close(w.server_loop, NULL, NULL);
	sn__sim_destroy(w.sim);
}

int main(void)
{
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (char)('!' + (i * 31 + i / 97) % 90);
	return seeds_main("grpc", one);
}
