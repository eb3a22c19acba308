/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our WebSocket client and server over a random network: messages come whole, in order and once,
 * also shared frames; on_close comes exactly once on both sides whatever happens; nothing leaks.
 */
#include "base/buf.h"
#include "io/seeds_test.h"
#include "io/sim.h"
#include "io/ws.h"

#define CLIENTS 4
#define MESSAGE_MAX 70000

struct side {
	struct sn_ws *ws;
	struct sn_timer timer;
	unsigned id, sent, heard, left; /* messages; left: still to send */
	bool is_server, opened, closed;
	struct side *other;
};

static struct {
	struct sn_sim *sim;
	struct sn_loop *a, *b;
	struct sn_http_server *server;
	struct side clients[CLIENTS], servers[CLIENTS];
	struct sn_ws_options opts;
	bool hostile, server_gone;
} w;

static unsigned below(unsigned n)
{
	return (unsigned)sn__rng_below(sn__sim_rng(w.sim), n);
}

/* Every message follows from who sends it and its number. */
static struct sn_str message(unsigned id, unsigned number)
{
	static char text[MESSAGE_MAX];
	unsigned n = (id * 31 + number * 7919) % (number % 5 == 0 ? MESSAGE_MAX : 300);

	memset(text, 'a' + (int)((id + number) % 26), n);
	return (struct sn_str){text, n};
}

static void send_one(struct side *s)
{
	struct sn_str m = message(s->id, s->sent);
	struct sn_ws_frame *frame;
	int r;

	if (s->is_server && below(2) == 0) {
		assert_int_equal(sn__ws_frame_create(s->sent % 2, m, &frame), 0);
		r = sn__ws_send_frame(s->ws, frame);
		sn__ws_frame_unref(frame);
	} else {
		r = sn__ws_send(s->ws, s->sent % 2, m);
	}
	if (r == 0) {
		s->sent++;
		s->left--;
		return;
	}
	/* Full: on_drain or the next timer goes on. Closed: on_close follows. */
	assert_true(r == SN_E_LIMIT || r == SN_E_CLOSED);
}

static struct sn_loop *loop_of(const struct side *s)
{
	return s->is_server ? w.a : w.b;
}

static void on_timer(struct sn_timer *t)
{
	struct side *s = SN_CONTAINER_OF(t, struct side, timer);

	if (w.hostile && below(20) == 0) {
		sn__ws_abort(s->ws);
		s->closed = true;
		return;
	}
	for (unsigned n = below(5); n > 0 && s->left > 0; n--)
		send_one(s);
	if (s->left == 0 && !s->is_server && s->other != NULL && s->other->left == 0 &&
			s->heard == s->other->sent) {
		sn__ws_close(s->ws, 1000, "done");
		return;
	}
	sn__timer_start(loop_of(s), &s->timer, below(100) * SN_NS_PER_MS, on_timer);
}

static void begin(struct side *s)
{
	s->opened = true;
	s->left = below(30);
	sn__timer_start(loop_of(s), &s->timer, below(100) * SN_NS_PER_MS, on_timer);
}

static void on_open(struct sn_ws *ws, void *arg)
{
	begin(arg);
}

static void on_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	struct side *s = arg;
	struct sn_str want = message(s->is_server ? s->id - 100 : s->id + 100, s->heard);

	assert_false(s->closed);
	assert_int_equal(text, s->heard % 2);
	assert_int_equal(data.len, want.len);
	assert_true(sn_str_eq(data, want));
	s->heard++;
}

static void on_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	struct side *s = arg;

	assert_false(s->closed);
	assert_true(w.hostile || err->code == SN_E_CLOSED);
	s->closed = true;
	sn__timer_stop(loop_of(s), &s->timer);
}

static void on_drain(struct sn_ws *ws, void *arg)
{
	struct side *s = arg;

	if (s->left > 0)
		send_one(s);
}

static const struct sn_ws_ops ops = {on_open, on_message, on_close, on_drain};

static void handler(struct sn_exchange *x, void *arg)
{
	struct side *s = &w.servers[sn_exchange_path(x)[1] - '0'];
	int r;

	s->is_server = true;
	r = sn__ws_accept(x, &w.opts, &ops, s, &s->ws, NULL);
	if (r < 0) {
		assert_true(w.hostile);
		sn_exchange_abort(x);
		s->is_server = false;
		return;
	}
	begin(s);
}

static void on_server_gone(void *arg)
{
	w.server_gone = true;
}

static void start(const struct sn_http_server_config *config)
{
	assert_int_equal(sn__http_server_open(w.a, config, handler, NULL, &w.server, NULL), 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		char url[] = "ws://127.0.0.1:80/0";

		url[sizeof url - 2] = (char)('0' + i);
		w.clients[i].id = i;
		w.servers[i].id = i + 100;
		w.clients[i].other = &w.servers[i];
		w.servers[i].other = &w.clients[i];
		assert_int_equal(sn__ws_connect(w.b, url, NULL, &w.opts, &ops, &w.clients[i],
						 &w.clients[i].ws, NULL),
				0);
	}
}

static void check_sides(void)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct side *c = &w.clients[i], *s = &w.servers[i];

		assert_true(c->closed);
		assert_true(!s->opened || s->closed);
		assert_true(c->heard <= s->sent && s->heard <= c->sent);
		if (w.hostile)
			continue;
		assert_true(s->opened && c->opened);
		assert_int_equal(c->heard, s->sent);
		assert_int_equal(s->heard, c->sent);
	}
}

static void one(uint64_t seed, bool single)
{
	struct sn_sim_options net = {.seed = seed};
	struct sn_http_server_config config = {0};

	memset(&w, 0, sizeof w);
	assert_int_equal(sn__sim_create(&net, &w.sim), 0);
	w.hostile = seed % 2;
	net.latency_max_ns = below(30) * SN_NS_PER_MS;
	net.partial_read = below(500);
	net.partial_write = below(500);
	net.window = below(2) ? 0 : 500 + below(20000);
	net.reset = w.hostile && below(2) ? below(5) : 0;
	net.refuse = w.hostile ? below(200) : 0;
	sn__sim_set(w.sim, &net);
	w.opts.max_queue = below(2) ? 0 : MESSAGE_MAX + 100 + below(100000);
	w.opts.open_timeout_ms = w.hostile ? 0 : 60000;
	w.opts.close_timeout_ms = w.hostile ? 0 : 600000;
	w.opts.ping_ms = below(2) ? 0 : 60000;
	assert_int_equal(sn__sim_loop(w.sim, &w.a), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.b), 0);
	assert_int_equal(sn__addr_parse_listen(SN_STR("127.0.0.1:80"), &config.addr, NULL), 0);
	start(&config);
	(void)sn__sim_run(w.sim, 2000 * SN_NS_PER_S);
	if (single)
		print_message("client 0: sent %u, heard %u\n", w.clients[0].sent,
				w.clients[0].heard);
	if (w.hostile) { /* one side may sit and wait for what the other lost */
		for (unsigned i = 0; i < CLIENTS; i++) {
			if (!w.clients[i].closed)
				sn__ws_close(w.clients[i].ws, 1001, NULL);
			if (w.servers[i].opened && !w.servers[i].closed)
				sn__ws_close(w.servers[i].ws, 1001, NULL);
		}
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 100 * SN_NS_PER_S);
	}
	check_sides();
	sn__http_server_close(w.server, 0, on_server_gone, NULL);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_S);
	assert_true(w.server_gone);
	sn__loop_close(w.a, NULL, NULL);
	sn__loop_close(w.b, NULL, NULL);
	sn__sim_destroy(w.sim);
}

int main(void)
{
	return seeds_main("io/ws", one);
}
