/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random clients, handlers and networks. Every exchange ends exactly once; what a client reads is
 * whole answers in the order of its requests, the right ones; nothing leaks; the server closes in
 * time whatever is open.
 */
#include "base/buf.h"
#include "io/http_server.h"
#include "io/seeds_test.h"
#include "io/sim.h"

#define CLIENTS 6
#define EXCHANGES_MAX 400
#define BODY_MAX 60000

/* What the handler does with a request; the client puts it into the path. */
enum how { HOW_AT_ONCE, HOW_LATER, HOW_STREAM, HOW_ALL, HOW_PIECES, HOW_EARLY, HOW_ABORT, HOW_N };

struct job { /* the handler's side of one exchange */
	struct sn_exchange *x;
	struct sn_timer timer;
	unsigned id, how;
	size_t left, got;
	bool open;
};

struct client {
	struct sn_stream *s;
	struct sn_http1_parser parser;
	struct sn_buf out, in;
	struct sn_timer timer;
	unsigned ids[64], hows[64];
	size_t sizes[64];
	unsigned n, next; /* requests; the one whose answer is being read */
	size_t got;
	bool chunked_request, broken, over;
};

static struct {
	struct sn_sim *sim;
	struct sn_loop *a, *b;
	struct sn_http_server *server;
	struct sn_addr addr;
	struct client clients[CLIENTS];
	struct job jobs[EXCHANGES_MAX];
	unsigned n_jobs, n_open, answers, last_id;
	bool server_gone, hostile;
} w;

static unsigned below(unsigned n)
{
	return (unsigned)sn__rng_below(sn__sim_rng(w.sim), n);
}

/* 1 to @max, and not above @left (which is not 0). */
static size_t at_most(size_t left, unsigned max)
{
	size_t n = 1 + (size_t)below(max);

	return SN_MIN(left, n);
}

static char letter(unsigned id, size_t i)
{
	return (char)('a' + (id * 7 + i) % 26);
}

static size_t answer_size(unsigned id)
{
	return id % 9 == 0 ? 20000 + id * 100 : id * 31 % 700;
}

/* ---- the handler ---- */

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	struct job *j = arg;

	assert_true(j->open);
	assert_true(status == 0 || j->how == HOW_ABORT || w.hostile);
	j->open = false;
	w.n_open--;
	sn__timer_stop(w.a, &j->timer);
}

static void fill(char *out, unsigned id, size_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = letter(id, from + i);
}

static void answer(struct job *j)
{
	static char body[BODY_MAX + 1];
	size_t n = answer_size(j->id);
	int r;

	fill(body, j->id, 0, n);
	r = sn_exchange_respond(j->x, 200, NULL, 0, body, n);
	assert_true(r == 0 || r == SN_E_RESET);
}

static void pour(struct sn_exchange *x, void *arg)
{
	struct job *j = arg;
	char piece[3000];

	while (j->left > 0) {
		size_t n = at_most(j->left, sizeof(piece));
		int r;

		fill(piece, j->id, answer_size(j->id) - j->left, n);
		r = sn_exchange_write(x, piece, n);
		if (r < 0 && r != SN_E_AGAIN) {
			assert_int_equal(r, SN_E_RESET);
			return;
		}
		j->left -= n;
		if (r == SN_E_AGAIN)
			return;
	}
	(void)!sn_exchange_end(x, NULL, 0);
}

static void on_later(struct sn_timer *t)
{
	struct job *j = SN_CONTAINER_OF(t, struct job, timer);

	answer(j);
}

static void on_resume(struct sn_timer *t)
{
	sn_exchange_pause(SN_CONTAINER_OF(t, struct job, timer)->x, false);
}

static void on_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct job *j = arg;

	assert_true(j->open);
	if (status != 0) {
		assert_true(w.hostile);
		return;
	}
	for (size_t i = 0; i < size; i++)
		assert_int_equal(((const char *)body)[i], letter(j->id, j->got + i));
	j->got += size;
	if (j->how == HOW_ALL || size == 0) {
		answer(j);
	} else if (below(4) == 0) {
		sn_exchange_pause(x, true);
		sn__timer_start(w.a, &j->timer, (1 + below(50)) * SN_NS_PER_MS, on_resume);
	}
}

static void handler(struct sn_exchange *x, void *arg)
{
	struct job *j = &w.jobs[w.n_jobs++];
	uint64_t id, how;
	const char *path = sn_exchange_path(x) + 1;

	assert_true(w.n_jobs < EXCHANGES_MAX);
	assert_int_equal(sn__parse_u64(sn_str_from(path), 100000, &id), 0);
	assert_int_equal(sn__parse_u64(sn_str_from(sn_exchange_query(x)), HOW_N, &how), 0);
	*j = (struct job){.x = x, .id = (unsigned)id, .how = (unsigned)how, .open = true};
	w.n_open++;
	sn_exchange_on_close(x, on_close, j);
	switch (j->how) {
	case HOW_LATER:
		sn__timer_start(w.a, &j->timer, below(80) * SN_NS_PER_MS, on_later);
		break;
	case HOW_STREAM:
		j->left = answer_size(j->id);
		sn_exchange_on_drain(x, pour, j);
		if (sn_exchange_start(x, 200, NULL, 0, id % 2 ? -1 : (int64_t)j->left) == 0)
			pour(x, j);
		break;
	case HOW_ALL:
		assert_int_equal(sn_exchange_read_all(x, 0, on_body, j), 0);
		break;
	case HOW_PIECES:
		assert_int_equal(sn_exchange_read(x, on_body, j), 0);
		break;
	case HOW_ABORT:
		sn_exchange_abort(x);
		break;
	default: /* the body, when there is one, is not read */
		answer(j);
		break;
	}
}

/* ---- clients ---- */

static void put(struct client *c, const char *data, size_t n)
{
	assert_int_equal(sn__buf_append(&c->out, data, n), 0);
}

static void put_request(struct client *c)
{
	unsigned id = ++w.last_id, how = below(w.hostile ? HOW_N : HOW_ABORT);
	size_t size = below(3) > 0 ? 0 : below(below(5) == 0 ? BODY_MAX : 500);
	char head[200], body[BODY_MAX];
	int n;

	c->ids[c->n] = id;
	c->hows[c->n++] = how;
	fill(body, id, 0, size);
	n = snprintf(head, sizeof head, "POST /%u?%u HTTP/1.1\r\nHost: a\r\n", id, how);
	put(c, head, (size_t)n);
	if (below(2) == 0) {
		n = snprintf(head, sizeof head, "Content-Length: %zu\r\n\r\n", size);
		put(c, head, (size_t)n);
		put(c, body, size);
		return;
	}
	put(c, "Transfer-Encoding: chunked\r\n\r\n", 30);
	for (size_t at = 0; at < size;) {
		size_t piece = at_most(size - at, 5000);

		n = snprintf(head, sizeof head, "%zx\r\n", piece);
		put(c, head, (size_t)n);
		put(c, body + at, piece);
		put(c, "\r\n", 2);
		at += piece;
	}
	put(c, "0\r\n\r\n", 5);
}

static void client_end(struct client *c, bool reset)
{
	sn__timer_stop(w.b, &c->timer);
	sn__stream_close(c->s, reset);
	c->s = NULL;
	c->over = true;
}

static void check_piece(struct client *c, struct sn_str data)
{
	for (size_t i = 0; i < data.len; i++)
		assert_int_equal(data.ptr[i], letter(c->ids[c->next], c->got + i));
	c->got += data.len;
}

static void client_parse(struct client *c)
{
	for (;;) {
		size_t used;
		enum sn_http1_event e = sn__http1_next(&c->parser, sn__buf_str(&c->in), &used);

		if (e == SN_HTTP1_MORE) {
			sn__buf_consume(&c->in, used);
			return;
		}
		assert_int_not_equal(e, SN_HTTP1_ERROR);
		assert_true(c->next < c->n);
		if (e == SN_HTTP1_HEAD)
			assert_int_equal(c->parser.head.status, 200);
		if (e == SN_HTTP1_DATA)
			check_piece(c, c->parser.data);
		if (e == SN_HTTP1_END) {
			assert_int_equal(c->got, answer_size(c->ids[c->next]));
			c->got = 0;
			c->next++;
			w.answers++;
		}
		sn__buf_consume(&c->in, used);
	}
}

static void client_write(struct client *c)
{
	while (c->out.len > 0) {
		struct sn_str v = sn__buf_str(&c->out);
		ssize_t n;

		v.len = at_most(v.len, 20000);
		n = sn__stream_write(c->s, &v, 1);
		if (n == SN_E_AGAIN)
			return;
		if (n < 0) {
			c->broken = true;
			sn__buf_clear(&c->out);
			return;
		}
		sn__buf_consume(&c->out, (size_t)n);
	}
}

static void on_client(struct sn_stream *s, unsigned events, void *arg)
{
	struct client *c = arg;

	if (events & SN_STREAM_FAILED) {
		client_end(c, true);
		return;
	}
	client_write(c);
	for (;;) {
		char *space;
		ssize_t n;

		assert_int_equal(sn__buf_reserve(&c->in, 3000, &space), 0);
		n = sn__stream_read(c->s, space, 3000);
		if (n == SN_E_AGAIN)
			break;
		if (n <= 0) {
			assert_true(w.hostile || c->next == c->n);
			client_end(c, n < 0);
			return;
		}
		sn__buf_commit(&c->in, (size_t)n);
		client_parse(c);
	}
	if (c->next == c->n && c->out.len == 0 && below(2) == 0) {
		client_end(c, false);
		return;
	}
	sn__stream_want(c->s, SN_READABLE | (c->out.len > 0 ? SN_WRITABLE : 0u));
}

/* Now and then a client breaks off, or has more to ask. */
static void on_client_timer(struct sn_timer *t)
{
	struct client *c = SN_CONTAINER_OF(t, struct client, timer);

	if (w.hostile && below(3) == 0) {
		client_end(c, below(2) == 0);
		return;
	}
	for (unsigned n = below(5); n > 0 && c->n < 60 && w.last_id < EXCHANGES_MAX - 10; n--)
		put_request(c);
	sn__stream_want(c->s, SN_READABLE | (c->out.len > 0 ? SN_WRITABLE : 0u));
	if (c->n < 50)
		sn__timer_start(w.b, &c->timer, below(300) * SN_NS_PER_MS, on_client_timer);
}

static void client_start(struct client *c)
{
	sn__buf_init(&c->out, (size_t)1 << 26);
	sn__buf_init(&c->in, 1 << 20);
	sn__http1_init(&c->parser, true, NULL);
	assert_int_equal(sn__stream_connect(w.b, &w.addr, on_client, c, &c->s, NULL), 0);
	for (unsigned n = 1 + below(6); n > 0; n--)
		put_request(c);
	sn__stream_want(c->s, SN_READABLE | SN_WRITABLE);
	sn__timer_start(w.b, &c->timer, below(300) * SN_NS_PER_MS, on_client_timer);
}

/* ---- a run ---- */

static void on_server_gone(void *arg)
{
	w.server_gone = true;
}

static void one(uint64_t seed, bool single)
{
	struct sn_sim_options net = {.seed = seed};
	struct sn_http_server_config config = {.idle_timeout_ms = 3000};
	uint64_t now;

	memset(&w, 0, sizeof w);
	assert_int_equal(sn__sim_create(&net, &w.sim), 0);
	w.hostile = seed % 2;
	net.latency_max_ns = below(20) * SN_NS_PER_MS;
	net.partial_read = below(400);
	net.partial_write = below(400);
	net.loss = below(20);
	net.window = below(2) ? 0 : 500 + below(20000);
	net.reset = w.hostile && below(2) ? below(5) : 0;
	sn__sim_set(w.sim, &net);
	assert_int_equal(sn__sim_loop(w.sim, &w.a), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.b), 0);
	assert_int_equal(sn__addr_parse_listen(SN_STR("127.0.0.1:80"), &config.addr, NULL), 0);
	w.addr = config.addr;
	assert_int_equal(sn__http_server_open(w.a, &config, handler, NULL, &w.server, NULL), 0);
	for (unsigned i = 0; i < CLIENTS; i++)
		client_start(&w.clients[i]);
	now = sn__sim_now_ns(w.sim);
	(void)sn__sim_run(w.sim, now + (w.hostile ? below(4000) : 600000) * SN_NS_PER_MS);
	if (single)
		print_message("%u exchanges, %u answers read, %u open\n", w.n_jobs, w.answers,
				w.n_open);
	if (!w.hostile) {
		assert_int_equal(w.answers, w.last_id);
		assert_int_equal(w.n_open, 0);
	}
	w.hostile = true; /* whatever is open may break now */
	sn__http_server_close(w.server, below(500), on_server_gone, NULL);
	now = sn__sim_now_ns(w.sim);
	(void)sn__sim_run(w.sim, now + 3 * SN_NS_PER_S);
	assert_true(w.server_gone);
	assert_int_equal(w.n_open, 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (!w.clients[i].over)
			client_end(&w.clients[i], true);
		sn__buf_finish(&w.clients[i].in);
		sn__buf_finish(&w.clients[i].out);
	}
	sn__loop_close(w.a, NULL, NULL);
	sn__loop_close(w.b, NULL, NULL);
	sn__sim_destroy(w.sim);
}

int main(void)
{
	return seeds_main("io/http_server", one);
}
