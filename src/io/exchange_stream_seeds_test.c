/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams opened by extended CONNECT (RFC 8441) over a network that is bad at random: what one end
 * says, the other says again. Whatever the seed: bytes come in order and once, each stream and each
 * exchange ends exactly once, over a good network whole; nothing is left.
 */
#include "base/mem.h"
#include "io/h2.h"
#include "io/http_server.h"
#include "io/seeds_test.h"
#include "io/sim.h"

#define N 8
#define SAY_MAX 120000

struct side { /* at the server */
	struct sn_stream *s;
	struct sn_buf out;
	struct talk *talk;
	bool eof;
};

struct talk {
	struct side server;
	int32_t id;
	size_t size, said, heard; /* at the client */
	size_t got;               /* at the server */
	unsigned status, taken, told, closed;
	bool asked, ended, cut; /* cut: by either of us */
};

static struct {
	struct sn_sim *sim;
	struct sn_loop *client, *server_loop;
	struct sn_http_server *server;
	struct sn_h2_scratch *scratch;
	struct sn_stream *stream; /* until it is the session's */
	struct sn_h2 *h2;
	struct talk talks[N];
	bool clean, gone, failed, server_gone;
} w;

static char pattern[SAY_MAX + 256];

static size_t below(size_t n)
{
	return (size_t)sn__rng_below(sn__sim_rng(w.sim), n);
}

static unsigned id_of(const struct talk *t)
{
	return (unsigned)(t - w.talks);
}

/* ---- the server's end ---- */

static void side_close(struct side *s, bool reset)
{
	sn__stream_close(SN_TAKE(s->s), reset);
	sn__buf_finish(&s->out);
}

static bool side_write(struct side *s)
{
	while (s->out.len > 0) {
		struct sn_str v = sn__buf_str(&s->out);
		size_t some = below(20000) + 1;
		ssize_t n;

		v.len = SN_MIN(v.len, some);
		n = sn__stream_write(s->s, &v, 1);
		if (n == SN_E_AGAIN)
			break;
		if (n < 0)
			return false;
		sn__buf_consume(&s->out, (size_t)n);
	}
	return true;
}

static void side_event(struct sn_stream *stream, unsigned events, void *arg)
{
	struct side *s = arg;
	struct talk *t = s->talk;
	char piece[7000];
	ssize_t n = SN_E_AGAIN;

	/* Who is not heard is not listened to. */
	while (!s->eof && s->out.len < 30000 &&
			(n = sn__stream_read(stream, piece, below(sizeof(piece)) + 1)) > 0) {
		assert_true(t->got + (size_t)n <= t->size);
		assert_memory_equal(piece, pattern + id_of(t) + t->got, n);
		t->got += (size_t)n;
		assert_int_equal(sn__buf_append(&s->out, piece, (size_t)n), 0);
	}
	s->eof |= n == 0;
	if ((n < 0 && n != SN_E_AGAIN) || !side_write(s) || (!w.clean && below(150) == 0)) {
		t->cut = true;
		side_close(s, true);
		return;
	}
	if (s->eof && s->out.len == 0) {
		side_close(s, false);
		return;
	}
	sn__stream_want(stream,
			(!s->eof && s->out.len < 30000 ? SN_READABLE : 0u) |
					(s->out.len > 0 ? SN_WRITABLE : 0u));
}

static void x_close(struct sn_exchange *x, int status, void *arg)
{
	((struct talk *)arg)->told++;
}

static void on_exchange(struct sn_exchange *x, void *arg)
{
	struct sn_buf rest, unsent;
	struct talk *t;
	uint64_t id;

	assert_int_equal(sn__parse_u64(sn_str_from(sn_exchange_path(x) + 1), N - 1, &id), 0);
	assert_string_equal(sn_exchange_method(x), "GET");
	assert_string_equal(sn_exchange_header(x, "upgrade"), "echo");
	t = &w.talks[id];
	t->taken++;
	sn_exchange_on_close(x, x_close, t);
	if (below(10) == 0) {
		t->cut = true;
		assert_int_equal(sn_exchange_respond(x, 403, NULL, 0, "no", 2), 0);
		return;
	}
	sn__buf_init(&rest, 1);
	sn__buf_init(&unsent, 1);
	assert_int_equal(sn_exchange_start(x, 101, NULL, 0, -1), 0);
	t->server.talk = t;
	t->server.s = sn__exchange_take_stream(x, &rest, &unsent);
	assert_non_null(t->server.s);
	sn__buf_init(&t->server.out, 1 << 20);
	sn_stream_set_owner(t->server.s, side_event, &t->server);
	sn__stream_want(t->server.s, SN_READABLE);
}

/* ---- the client's end ---- */

static void on_head(struct sn_h2 *h2, int32_t id, void *stream, const struct sn_http_head *head,
		unsigned flags)
{
	((struct talk *)stream)->status = head->status;
}

static void on_data(struct sn_h2 *h2, int32_t id, void *stream, struct sn_str data)
{
	struct talk *t = stream;

	sn__h2_consume(h2, id, data.len);
	if (t->status != 200)
		return;
	assert_true(t->heard + data.len <= t->said);
	assert_memory_equal(data.ptr, pattern + id_of(t) + t->heard, data.len);
	t->heard += data.len;
	if (!w.clean && below(100) == 0) {
		t->cut = true;
		sn__h2_reset(h2, id, NGHTTP2_CANCEL);
	}
}

static void on_end(struct sn_h2 *h2, int32_t id, void *stream)
{
	((struct talk *)stream)->ended = true;
}

static void on_close(struct sn_h2 *h2, int32_t id, void *stream, uint32_t error)
{
	((struct talk *)stream)->closed++;
}

static ssize_t on_read(struct sn_h2 *h2, int32_t id, void *stream, void *out, size_t n,
		unsigned *ret_flags)
{
	struct talk *t = stream;

	n = SN_MIN(n, t->size - t->said);
	memcpy(out, pattern + id_of(t) + t->said, n);
	t->said += n;
	if (t->said == t->size)
		*ret_flags = SN_H2_READ_END;
	return (ssize_t)n;
}

static void on_settings(struct sn_h2 *h2)
{
	for (unsigned i = 0; i < N; i++) {
		struct talk *t = &w.talks[i];
		char path[16];
		const nghttp2_nv nva[] = {sn_h2_nv(SN_STR(":method"), SN_STR("CONNECT")),
				sn_h2_nv(SN_STR(":protocol"), SN_STR("echo")),
				sn_h2_nv(SN_STR(":scheme"), SN_STR("http")),
				sn_h2_nv(SN_STR(":authority"), SN_STR("x")),
				sn_h2_nv(SN_STR(":path"),
						(struct sn_str){path,
								(size_t)snprintf(path, sizeof(path),
										"/%u", i)})};

		if (t->asked)
			continue;
		t->asked = true;
		t->size = below(3) == 0 ? below(SAY_MAX) : below(500);
		t->id = sn__h2_request(h2, nva, SN_COUNT(nva), true, t);
		assert_true(t->id > 0);
	}
}

static void on_gone(struct sn_h2 *h2)
{
	w.gone = true;
}

static const struct sn_h2_ops ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_end = on_end,
		.on_close = on_close,
		.read = on_read,
		.on_settings = on_settings,
		.on_gone = on_gone,
};

static void on_connected(struct sn_stream *stream, unsigned events, void *arg)
{
	struct sn_h2_config config = {.ops = &ops, .scratch = w.scratch};

	w.failed = (events & SN_STREAM_FAILED) != 0;
	if (w.failed)
		return;
	assert_int_equal(sn__h2_open(&config, stream, &w.h2), 0);
	w.stream = NULL;
}

/* ---- the world ---- */

static void open_world(uint64_t seed)
{
	struct sn_sim_options net = {.seed = seed};
	struct sn_http_server_config config = {.extended_connect = true};

	memset(&w, 0, sizeof(w));
	assert_int_equal(sn__sim_create(&net, &w.sim), 0);
	w.clean = below(2) == 0;
	net = (struct sn_sim_options){.latency_min_ns = 1000,
			.latency_max_ns = below(5000000) + 1000,
			.partial_write = (unsigned)below(300),
			.partial_read = (unsigned)below(300),
			.window = below(3) == 0 ? 3000 : 0};
	if (!w.clean) {
		net.loss = (unsigned)below(20);
		net.reset = (unsigned)below(3);
	}
	sn__sim_set(w.sim, &net);
	assert_int_equal(sn__sim_loop(w.sim, &w.client), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.server_loop), 0);
	assert_int_equal(sn__addr_from_literal(SN_STR("127.0.0.1"), 80, &config.addr), 0);
	assert_int_equal(sn__http_server_open(w.server_loop, &config, on_exchange, NULL, &w.server,
					 NULL),
			0);
	assert_int_equal(sn__h2_scratch_create(&w.scratch), 0);
	assert_int_equal(sn__stream_connect(w.client, &config.addr, on_connected, NULL, &w.stream,
					 NULL),
			0);
}

static void turn(uint64_t ms)
{
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + sn_ms_to_ns(ms));
}

static void set_true(void *arg)
{
	*(bool *)arg = true;
}

static bool all_closed(void)
{
	for (unsigned i = 0; i < N; i++)
		if (w.talks[i].closed == 0)
			return false;
	return true;
}

static void check(const struct talk *t, bool single)
{
	if (single)
		print_message("%u: size %zu said %zu got %zu heard %zu status %u%s%s\n", id_of(t),
				t->size, t->said, t->got, t->heard, t->status,
				t->ended ? " ended" : "", t->cut ? " cut" : "");
	assert_true(t->closed <= 1 && t->taken <= 1);
	assert_int_equal(t->told, t->taken); /* the handler's exchange is over, once */
	assert_null(t->server.s);
	if (w.clean && !t->cut)
		assert_true(t->ended && t->heard == t->size && t->got == t->size);
	if (t->ended && !t->cut)
		assert_int_equal(t->heard, t->size);
}

static void one(uint64_t seed, bool single)
{
	open_world(seed);
	for (int i = 0; !w.gone && !w.failed && !all_closed(); i++) {
		assert_true(i < 100000);
		turn(1);
	}
	if (w.h2 != NULL)
		sn__h2_close(w.h2, NGHTTP2_NO_ERROR);
	sn__stream_close(w.stream, true);
	turn(1000);
	sn__http_server_close(w.server, 0, set_true, &w.server_gone);
	while (!w.server_gone)
		turn(1);
	turn(10);
	for (unsigned i = 0; i < N; i++)
		check(&w.talks[i], single);
	sn__h2_scratch_destroy(w.scratch);
	turn(5000);
	sn__loop_close(w.client, NULL, NULL);
	sn__loop_close(w.server_loop, NULL, NULL);
	sn__sim_destroy(w.sim);
}

int main(void)
{
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (char)('!' + (i * 31 + i / 97) % 90);
	return seeds_main("exchange_stream", one);
}
