/* SPDX-License-Identifier: Apache-2.0 */
/* Two connections joined, on every back end: a client, a tunnel, a peer. */
#include "io/tunnel.h"
#include "io/world_test.h"

struct end { /* of the test */
	struct sn_stream *s;
	struct sn_buf in;
	bool connected, eof, reset, deaf;
};

static struct {
	struct world *w;
	struct sn_listener *front, *back;
	struct end client, peer;
	struct sn_stream *in, *out; /* what is joined */
	struct sn_tunnel tunnel;
	unsigned n_over;
	int code;
	bool ready, over;
	uint32_t idle_ms;
	const char *first; /* in the buffer for the peer, before it starts */
} t;

static void end_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct end *e = arg;
	char piece[5000];
	ssize_t n = SN_E_AGAIN;

	e->connected |= (events & SN_STREAM_CONNECTED) != 0;
	while (!e->deaf && (n = sn__stream_read(s, piece, sizeof(piece))) > 0)
		assert_int_equal(sn__buf_append(&e->in, piece, (size_t)n), 0);
	e->eof |= n == 0;
	e->reset |= n < 0 && n != SN_E_AGAIN;
	sn__stream_want(s, e->eof || e->reset || e->deaf ? 0 : SN_READABLE);
}

static void end_set(struct end *e, struct sn_stream *s)
{
	e->s = s;
	sn__buf_init(&e->in, 64 << 20);
	sn_stream_set_owner(s, end_event, e);
	sn__stream_want(s, e->deaf ? 0 : SN_READABLE);
}

#define until(cond) \
	do { \
		while (!(cond) && world_once(t.w)) \
			; \
		assert_true(cond); \
	} while (0)

static void on_over(struct sn_tunnel *tunnel, int code)
{
	t.n_over++;
	t.code = code;
	t.over = true;
}

static void out_event(struct sn_stream *s, unsigned events, void *arg)
{
	if (!(events & SN_STREAM_CONNECTED) || t.ready)
		return;
	t.ready = true;
	sn__tunnel_init(&t.tunnel);
	t.tunnel.sides[0].stream = t.in;
	t.tunnel.sides[1].stream = t.out;
	if (t.first != NULL)
		assert_int_equal(sn__buf_puts(&t.tunnel.sides[1].out, t.first), 0);
	sn__tunnel_start(&t.tunnel, t.w->a, t.idle_ms, on_over);
}

static void nothing(struct sn_stream *s, unsigned events, void *arg)
{
}

static void on_front(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	t.in = s;
	sn_stream_set_owner(s, nothing, NULL);
	assert_int_equal(sn__stream_connect(t.w->a, sn__listener_addr(t.back), out_event, NULL,
					 &t.out, NULL),
			0);
}

static void on_back(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	end_set(&t.peer, s);
}

/* Until the two ends of the test have each other. */
static void begin(struct world *w, uint32_t idle_ms, const char *first, bool deaf)
{
	struct sn_addr any = world_addr("127.0.0.1:0");
	struct sn_stream *s;

	memset(&t, 0, sizeof(t));
	t.w = w;
	t.idle_ms = idle_ms;
	t.first = first;
	t.peer.deaf = deaf;
	assert_int_equal(sn__listen(w->a, &any, NULL, on_front, NULL, &t.front, NULL), 0);
	assert_int_equal(sn__listen(w->b, &any, NULL, on_back, NULL, &t.back, NULL), 0);
	assert_int_equal(sn__stream_connect(w->b, sn__listener_addr(t.front), end_event, &t.client,
					 &s, NULL),
			0);
	end_set(&t.client, s);
	until(t.ready && t.peer.s != NULL && t.client.connected);
}

static void end(void)
{
	sn__stream_close(t.client.s, false);
	sn__stream_close(t.peer.s, false);
	until(t.over);
	assert_int_equal(t.n_over, 1);
	sn__buf_finish(&t.client.in);
	sn__buf_finish(&t.peer.in);
	sn__listener_close(t.front);
	sn__listener_close(t.back);
	(void)world_drain(t.w);
}

static size_t say(struct end *e, const char *data, size_t size)
{
	struct sn_str v = {data, size};
	ssize_t n = sn__stream_write(e->s, &v, 1);

	assert_true(n > 0 || n == SN_E_AGAIN);
	return n > 0 ? (size_t)n : 0;
}

static void hears(struct end *e, const char *text)
{
	size_t n = strlen(text);

	until(e->in.len >= n);
	assert_int_equal(e->in.len, n);
	assert_memory_equal(sn__buf_data(&e->in), text, n);
}

static void both_ways_and_end_by_end(void **state)
{
	begin(*state, 0, "first ", false);
	assert_int_equal(say(&t.client, "words", 5), 5);
	hears(&t.peer, "first words");
	assert_int_equal(say(&t.peer, "back", 4), 4);
	hears(&t.client, "back");
	assert_int_equal(sn__stream_shutdown(t.client.s), 0); /* half of it */
	until(t.peer.eof);
	assert_false(t.over);
	assert_int_equal(say(&t.peer, "!", 1), 1);
	hears(&t.client, "back!");
	assert_int_equal(sn__stream_shutdown(t.peer.s), 0);
	until(t.over);
	assert_int_equal(t.code, 0);
	until(t.client.eof);
	end();
}

/* 4 MB there and back, in whatever pieces. */
static void much(void **state)
{
	static char data[1 << 20];
	size_t said = 0, back = 0, total = 4 * sizeof(data), turns = 0;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 31 + i / 251);
	begin(*state, 0, NULL, false);
	while (t.client.in.len < total) {
		if (said < total)
			said += say(&t.client, data + said % sizeof(data),
					SN_MIN(sizeof(data) - said % sizeof(data), total - said));
		if (back < t.peer.in.len)
			back += say(&t.peer, sn__buf_data(&t.peer.in) + back, t.peer.in.len - back);
		(void)world_once(t.w);
		assert_true(++turns < 1000000);
	}
	for (size_t at = 0; at < total; at += sizeof(data))
		assert_memory_equal(sn__buf_data(&t.client.in) + at, data, sizeof(data));
	end();
}

/* Who is not read from is not read from either: what waits is bounded. */
static void pressure(void **state)
{
	static char data[64 << 10];
	size_t said = 0, n = 1;

	begin(*state, 0, NULL, true);
	for (int quiet = 0; quiet<200; quiet = n> 0 ? 0 : quiet + 1) {
		n = say(&t.client, data, sizeof(data));
		said += n;
		(void)world_poll(t.w);
		assert_true(said < (32u << 20));
	}
	assert_true(t.tunnel.sides[1].out.len <= SN_TUNNEL_BUFFER + (16u << 10));
	t.peer.deaf = false;
	sn__stream_want(t.peer.s, SN_READABLE);
	until(t.peer.in.len >= said);
	end();
}

static void a_reset_goes_through(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct end *gone = i == 0 ? &t.client : &t.peer,
			   *left = i == 0 ? &t.peer : &t.client;

		begin(*state, 0, NULL, false);
		sn__stream_close(SN_TAKE(gone->s), true);
		until(t.over && left->reset);
		assert_true(t.code < 0);
		end();
	}
}

static void it_can_be_broken(void **state)
{
	begin(*state, 0, NULL, false);
	sn__tunnel_break(&t.tunnel, SN_E_CLOSED);
	sn__tunnel_break(&t.tunnel, SN_E_TIMEOUT); /* the first reason stays */
	assert_false(t.over);
	until(t.over && t.client.reset && t.peer.reset);
	assert_int_equal(t.code, SN_E_CLOSED);
	end();
}

static void silence_ends_it(void **state)
{
	begin(*state, 200, NULL, false);
	for (int i = 0; i < 5; i++) { /* words put it off */
		assert_int_equal(say(&t.client, "x", 1), 1);
		(void)sn__sim_run(t.w->sim, sn__sim_now_ns(t.w->sim) + 150 * SN_NS_PER_MS);
		assert_int_equal(t.peer.in.len, i + 1);
		assert_false(t.over);
	}
	(void)sn__sim_run(t.w->sim, sn__sim_now_ns(t.w->sim) + 60 * SN_NS_PER_MS);
	assert_true(t.over);
	assert_int_equal(t.code, SN_E_TIMEOUT);
	end();
}

static void one_without_a_start(void **state)
{
	struct sn_tunnel tunnel;

	sn__tunnel_init(&tunnel);
	assert_int_equal(sn__buf_puts(&tunnel.sides[0].out, "x"), 0);
	sn__tunnel_finish(&tunnel);
}

static void no_memory_breaks_it(void **state)
{
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		assert_true(n < 50);
		begin(*state, 0, NULL, false);
		sn__mem_fail_nth(n);
		(void)say(&t.client, "words", 5);
		for (int i = 0; i < 20; i++)
			(void)world_poll(t.w);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (!failed)
			hears(&t.peer, "words");
		end();
	}
}

#define EVERY(test) \
	cmocka_unit_test_setup_teardown(test, world_uv, world_close), \
			cmocka_unit_test_setup_teardown(test, world_sim, world_close), \
			cmocka_unit_test_setup_teardown(test, world_rough, world_close)
#define SIM(test) cmocka_unit_test_setup_teardown(test, world_sim, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
			EVERY(both_ways_and_end_by_end),
			EVERY(much),
			EVERY(pressure),
			EVERY(a_reset_goes_through),
			EVERY(it_can_be_broken),
			SIM(silence_ends_it),
			SIM(one_without_a_start),
			SIM(no_memory_breaks_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
